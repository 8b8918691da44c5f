"""Shape of a network: its flat parameters and their views; its ordered code."""

import itertools

import numpy as np
from scipy.linalg import block_diag, eigh, svd

from skae._memory import LAYER, Network
from skae._passes import ACTIVATIONS, IDENTITY


def make_network(widths, activations, *, tied, variational=False):
    """Offsets of a network's parameters in one flat vector.

    Parameters
    ----------
    widths : sequence of int, of length n_layers + 1
        Units of the input, of every hidden layer, and of the output.

    activations : sequence of str, of length n_layers
        Keys of ``ACTIVATIONS``.

    tied : bool
        Whether decoder layers use the encoder's weights, transposed.

    variational : bool, default=False
        Whether the code's layer has two units for each entry of the code, its mean and
        the logarithm of its variance; the decoder reads the first of its units.

    Returns
    -------
    network : Network
    """
    n_layers = len(activations)
    shapes = list(itertools.pairwise(widths))
    middle = n_layers // 2
    if variational:
        shapes[middle - 1] = widths[middle - 1], 2 * widths[middle]
    n_units = [n_out for _, n_out in shapes]
    n_stored = middle if tied else n_layers
    sizes = [n_in * n_out for n_in, n_out in shapes[:n_stored]]
    weights_at = np.cumsum([0, *sizes])
    n_weights = int(weights_at[-1])
    if tied:
        weights_at = np.concatenate([weights_at[:-1], weights_at[-2::-1]])
    else:
        weights_at = weights_at[:-1]
    biases_at = n_weights + np.cumsum([0, *n_units[:-1]])
    positions = {name: position for position, name in enumerate(ACTIVATIONS)}
    layers = np.zeros(n_layers + 1, dtype=LAYER)
    layers["width"] = widths[0], *n_units
    layers["n_in"][1:] = [n_in for n_in, _ in shapes]
    layers["units_at"][2:] = np.cumsum(n_units[:-1])
    layers["weights_at"][1:] = weights_at
    layers["biases_at"][1:] = biases_at
    layers["transposed"][1:] = np.arange(n_layers) >= middle
    layers["activation"][1:] = [positions[name] for name in activations]
    n_params = n_weights + sum(n_units)
    return Network(layers, n_layers, n_params, n_weights, int(tied))


def for_loss(network, loss):
    """The network whose output is what a loss (of ``LOSSES``) takes."""
    if not loss.has_activation:
        return network
    layers = network.layers.copy()
    layers["activation"][-1] = IDENTITY
    return network._replace(layers=layers)


def part(network, first, stop):
    """The layers first + 1 to stop, as a network over the same parameters."""
    layers = network.layers[first : stop + 1].copy()
    layers["units_at"][1:] -= layers["units_at"][1]
    layers["activation"][0] = IDENTITY
    layers["width"][0] = layers["n_in"][1]
    return network._replace(layers=layers, n_layers=stop - first)


def coefs(network, params):
    """Views of the layers' weights, each of shape (n_in, n_out)."""
    views = []
    for layer in network.layers[1:]:
        n_in, n_out, first = layer["n_in"], layer["width"], layer["weights_at"]
        stored = params[first : first + n_in * n_out]
        if layer["transposed"]:
            views.append(stored.reshape(n_out, n_in).T)
        else:
            views.append(stored.reshape(n_in, n_out))
    return views


def intercepts(network, params):
    """Views of the layers' biases, each of shape (n_out,)."""
    return [
        params[layer["biases_at"] :][: layer["width"]] for layer in network.layers[1:]
    ]


def signs_of(components):
    """1 or -1 for every row: the rule of scikit-learn's svd_flip for PCA."""
    largest = np.abs(components).argmax(axis=1)
    return np.where(components[np.arange(len(components)), largest] < 0, -1.0, 1.0)


# A code's directions whose variance is below this share of the largest are rounding
# errors.
_NO_VARIANCE = 1e-12
# An entry of the code that explains nothing linearly still has this share of the
# standard deviation of the one that explains most: no mapping is lost.
_LEAST_DEVIATION = 1e-6


def order_code(network, params, moments, *, free_scale):
    """Give a linear code PCA's order, in place, without changing reconstructions.

    A linear code can be mapped by an invertible matrix if the decoder's first weights
    are mapped back. The choice made here: the code has mean zero, its entries are
    uncorrelated and of decreasing variance; and, with `free_scale`, the first j
    entries are those j linear functions of the code that explain most of the rows
    linearly, and their variance is what they explain (reduced-rank regression:
    Izenman, "Reduced-rank regression for the multivariate linear model", 1975). The
    code of a linear network then is PCA's. Otherwise the code is rotated only.

    Parameters
    ----------
    network : Network

    params : ndarray of shape (n_params,)
        Changed in place.

    moments : Moments
        Of the code and the rows.

    free_scale : bool
        Whether the objective leaves the scale of the code open: it does unless
        weights are tied, or penalised.

    Returns
    -------
    variances : ndarray of shape (n_components,), dtype=float64
        Of the new code's entries.
    """
    middle = network.n_layers // 2
    weights, biases = coefs(network, params), intercepts(network, params)
    encoder = weights[middle - 1].astype(np.float64)
    decoder = weights[middle].astype(np.float64)
    encoder_bias = biases[middle - 1].astype(np.float64) - moments.mean
    decoder_bias = biases[middle].astype(np.float64) + moments.mean @ decoder

    # The new code is the centred old one times `mixing`.
    variances, axes = eigh(moments.covariance)
    variances, mixing = np.maximum(variances[::-1], 0), axes[:, ::-1]
    inverse = mixing.T
    n_used = np.count_nonzero(variances > _NO_VARIANCE * variances[0])
    if free_scale and n_used:
        to_one = np.ones(len(variances))
        to_one[:n_used] /= np.sqrt(variances[:n_used])
        mixing, inverse = mixing * to_one, inverse / to_one[:, np.newaxis]
        regression = mixing[:, :n_used].T @ moments.cross
        # Its left side is to be square, its right one, of as many rows as there are
        # features, is not.
        is_tall = n_used > regression.shape[1]
        left, explained, _ = svd(regression, full_matrices=is_tall)
        deviations = np.ones(len(variances))
        deviations[:n_used] = _LEAST_DEVIATION * (explained[0] or 1.0)
        deviations[: len(explained)] = np.maximum(
            explained, deviations[: len(explained)]
        )
        rotation = block_diag(left, np.eye(int(len(variances) - n_used)))
        mixing = mixing @ rotation * deviations
        inverse = rotation.T @ inverse / deviations[:, np.newaxis]
        variances[:n_used] = deviations[:n_used] ** 2

    signs = signs_of(mixing.T @ moments.cross)  # of PCA these are the components
    weights[middle - 1][...] = encoder @ mixing * signs
    biases[middle - 1][...] = encoder_bias @ mixing * signs
    if not network.tied:
        weights[middle][...] = signs[:, np.newaxis] * (inverse @ decoder)
    biases[middle][...] = decoder_bias
    return variances
