"""Greedy pretraining: layer by layer, from the input to the code."""

import numpy as np

from skae._inference import encoder, propagate
from skae._network import coefs, for_loss, intercepts, make_network
from skae._passes import LOSSES
from skae._rows import make_rows, weights_in_use
from skae._training import Problem

# Of the layers above the first, whose inputs are codes.
_INNER_LOSS = "squared_error"


def pretrained_params(architecture, problem, params, train):
    """Weights and biases of a stack of shallow autoencoders.

    Bengio et al., "Greedy layer-wise training of deep networks", 2007: each pair of an
    encoder's and its mirrored decoder's layer is trained by itself, to reconstruct the
    codes of the pair below.

    Parameters
    ----------
    architecture : dict
        Arguments of `make_network`, of the whole network.

    problem : Problem
        Of the whole network. Its loss and its corruption are those of the first pair,
        whose inputs are the rows, and its code's term that of the last. The others
        have the squared error.

    params : ndarray of shape (n_params,)
        Where the pairs begin. Changed in place.

    train : callable
        Takes the problem, the initial parameters and the number, from 1, of a pair;
        returns the trained parameters.
    """
    network = make_network(**architecture)
    n_pairs = network.n_layers // 2
    weights, biases = coefs(network, params), intercepts(network, params)
    rows = problem.rows
    for number in range(1, n_pairs + 1):
        both = number - 1, network.n_layers - number
        n_in, n_out = weights[both[0]].shape
        pair = make_network(
            [n_in, n_out, n_in],
            [architecture["activations"][i] for i in both],
            tied=architecture["tied"],
        )
        loss = problem.loss if number == 1 else LOSSES[_INNER_LOSS]
        of_pair = Problem(
            for_loss(pair, loss),
            loss,
            problem.alpha,
            rows,
            rows.none(),
            problem.corruption if number == 1 else None,
            problem.term if number == n_pairs else None,
        )
        initial = np.empty(pair.n_params, params.dtype)
        _copy(both, (weights, biases), _views(pair, initial), back=False)
        trained = train(of_pair, initial, number)
        _copy(both, (weights, biases), _views(pair, trained), back=True)
        if number < n_pairs:
            codes = propagate(encoder(pair), trained, rows)
            row_weights = weights_in_use(rows) if rows.weights.size else None
            rows = make_rows(codes, np.zeros(n_out), 1.0, weights=row_weights)


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
