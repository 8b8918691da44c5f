"""Derivatives of a decoder's outputs with respect to codes, layer by layer."""

from __future__ import annotations

import numpy as np

from skae._compiled.activations import ACTIVATIONS
from skae._compiled.records import Network
from skae._model.groups import probabilities, probability_slopes
from skae._model.network import coefs, intercepts
from skae._typing import Floats, Scale


def decoder_jacobian(
    decoder: Network, params: Floats, codes: Floats, scale: Scale
) -> Floats:
    """Derivatives of a decoder's outputs, with probabilities in place of logits.

    Forward differentiation: each layer takes the values of its units and their
    derivatives by each entry of the code, side by side.

    Parameters
    ----------
    decoder : Network

    params : ndarray of shape (n_params,)

    codes : ndarray of shape (n_codes, n_components)

    scale : float or ndarray of shape (n_outputs,)
        What outputs are multiplied by, except for logits.

    Returns
    -------
    jacobian : ndarray of shape (n_codes, n_outputs, n_components)
    """
    dtype = params.dtype
    n_codes, n_components = codes.shape
    units = np.empty((n_codes, 1 + n_components, n_components), dtype=dtype)
    units[:, 0] = codes
    units[:, 1:] = np.eye(n_components)
    activations = list(ACTIVATIONS.values())
    layers = zip(
        decoder.layers[1:],
        coefs(decoder, params),
        intercepts(decoder, params),
        strict=True,
    )
    for number, (layer, weights, biases) in enumerate(layers, start=1):
        # A product for each code, whose bits then do not depend on the other codes.
        units = units @ weights
        units[:, 0] += biases
        op = activations[layer["activation"]].op
        if op is None:
            continue
        n_active = decoder.n_plain if number == decoder.n_layers else layer["width"]
        values = units[:, 0, :n_active].copy()
        slopes = np.empty_like(values)
        op(values, slopes, values.size)
        units[:, 0, :n_active] = values
        units[:, 1:, :n_active] *= slopes[:, np.newaxis]
    tangents = units[:, 1:] * np.asarray(scale, dtype=dtype)
    tangents = probability_slopes(
        probabilities(units[:, 0], decoder), tangents, decoder
    )
    return np.ascontiguousarray(tangents.swapaxes(1, 2))
