"""Greedy pretraining: layer by layer, from the input to the code."""

import contextlib

import numpy as np

from skae._compiled.losses import LOSSES
from skae._data.rows import make_rows, weights_in_use
from skae._model.inference import encoder, propagate
from skae._model.network import coefs, for_loss, intercepts, make_network
from skae._training.loop import Objective

# Of the layers above the first, whose inputs are codes.
_INNER_LOSS = "squared_error"


def pretrained_params(architecture, objective, params, train):
    """Weights and biases of a stack of shallow autoencoders.

    Bengio et al., "Greedy layer-wise training of deep networks", 2007: each pair of an
    encoder's and its mirrored decoder's layer is trained by itself, to reconstruct the
    codes of the pair below.

    Parameters
    ----------
    architecture : dict
        Arguments of `make_network`, of the whole network.

    objective : Objective
        Of the whole network. Its loss and its corruption are those of the first pair,
        whose inputs are the rows, and its code's term that of the last. The others
        have the squared error.

    params : ndarray of shape (n_params,)
        Where the pairs begin. Changed in place.

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


def _objective_of_pair(architecture, both, objective, rows):
    """What a pair of an encoder's and a decoder's layer is trained on, and for."""
    first, last = both
    widths, is_first, is_last = architecture["widths"], first == 0, last == first + 1
    pair = make_network(
        [widths[first], widths[first + 1], widths[first]],
        [architecture["activations"][i] for i in both],
        tied=architecture["tied"],
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
    )


def _encoded(rows, network, params):
    """Rows of the outputs of a network for rows in memory."""
    codes = propagate(network, params, rows)
    weights = weights_in_use(rows) if rows.weights.size else None
    return make_rows(codes, weights=weights)


def _views(network, params):
    return coefs(network, params), intercepts(network, params)


def _copy(layers, of_whole, of_pair, *, back):
    """Copy the weights and biases of two layers to those of a pair, or back."""
    for whole, pair in zip(of_whole, of_pair, strict=True):
        for layer, part in zip(layers, pair, strict=True):
            if back:
                whole[layer][...] = part
            else:
                part[...] = whole[layer]
