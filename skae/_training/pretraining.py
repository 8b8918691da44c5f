"""Greedy pretraining: layer by layer, from the input to the code."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from skae._compiled.losses import LOSSES
from skae._compiled.records import Network
from skae._data.rows import AnyRows, Rows, make_rows, weights_in_use
from skae._model.inference import encoder, propagate
from skae._model.network import coefs, for_loss, intercepts, make_network
from skae._training.loop import Objective
from skae._typing import Floats

# Loss of the layers above the first, whose inputs are codes.
_INNER_LOSS = "squared_error"

_Views: TypeAlias = tuple[list[Floats], list[Floats]]  # weights and biases of layers


def pretrained_params(
    architecture: dict[str, Any],
    objective: Objective,
    params: Floats,
    train: Callable[[Objective, Floats, int], Floats],
) -> None:
    """Train the layers of a network as a stack of shallow autoencoders.

    Bengio et al., "Greedy layer-wise training of deep networks", 2007: each encoder
    layer is trained with its mirrored decoder layer to reconstruct the codes of the
    pair below.

    Parameters
    ----------
    architecture : dict
        Arguments of `make_network` for the whole network.

    objective : Objective
        Objective of the whole network. Its loss and corruption apply to the first pair,
        whose inputs are the rows, its code's term to the last. The other pairs have the
        squared error.

    params : ndarray of shape (n_params,)
        Initial weights and biases. Changed in place.

    train : callable
        Takes the objective, the initial parameters and the number, from 1, of a pair;
        returns the trained parameters.
    """
    network = make_network(**architecture)
    n_pairs = network.n_layers // 2
    of_whole, rows = _views(network, params), objective.rows
    with contextlib.ExitStack() as on_close:
        for number in range(1, n_pairs + 1):
            both = number - 1, network.n_layers - number
            of_pair = _objective_of_pair(architecture, both, objective, rows)
            pair = of_pair.network
            initial = np.empty(pair.n_params, params.dtype)
            _copy(both, of_whole, _views(pair, initial), back=False)
            trained = train(of_pair, initial, number)
            _copy(both, of_whole, _views(pair, trained), back=True)
            if number < n_pairs:
                rows = rows.transformed(on_close, _encoded, encoder(pair), trained)


def _objective_of_pair(
    architecture: dict[str, Any],
    both: tuple[int, int],
    objective: Objective,
    rows: AnyRows,
) -> Objective:
    """The objective of a pair of an encoder and a decoder layer."""
    first, last = both
    widths, is_first, is_last = architecture["widths"], first == 0, last == first + 1
    pair = make_network(
        [widths[first], widths[first + 1], widths[first]],
        [architecture["activations"][i] for i in both],
        tied=architecture["tied"],
        groups=architecture.get("groups", ()) if is_first else (),
    )
    loss = objective.loss if is_first else LOSSES[_INNER_LOSS]
    return Objective(
        for_loss(pair, loss),
        loss,
        objective.alpha,
        rows,
        rows.empty(),
        objective.corruption if is_first else None,
        objective.term if is_last else None,
        unit_weights=objective.unit_weights if is_first else None,
    )


def _encoded(rows: Rows, network: Network, params: Floats) -> Rows:
    """A network's outputs for rows in memory, as rows."""
    codes = propagate(network, params, rows)
    weights = weights_in_use(rows) if rows.weights.size else None
    return make_rows(codes, weights=weights)


def _views(network: Network, params: Floats) -> _Views:
    return coefs(network, params), intercepts(network, params)


def _copy(
    layers: tuple[int, int], of_whole: _Views, of_pair: _Views, *, back: bool
) -> None:
    """Copy the weights and biases of two layers to a pair, or back."""
    for whole, pair in zip(of_whole, of_pair, strict=True):
        for layer, part in zip(layers, pair, strict=True):
            if back:
                whole[layer][...] = part
            else:
                part[...] = whole[layer]
