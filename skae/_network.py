"""Shape of a network: its flat parameters and their views, its start, its code."""

import itertools

import numpy as np
from scipy.linalg import eigh, svd

from skae._memory import LAYER, Network
from skae._passes import ACTIVATIONS, IDENTITY


def make_network(widths, activations, *, tied):
    """Offsets of a network's parameters in one flat vector.

    Parameters
    ----------
    widths : sequence of int, of length n_layers + 1
        Units of the input, of every hidden layer, and of the output.

    activations : sequence of str, of length n_layers
        Keys of ``ACTIVATIONS``.

    tied : bool
        Whether decoder layers use the encoder's weights, transposed.

    Returns
    -------
    network : Network
    """
    n_layers = len(activations)
    shapes = list(itertools.pairwise(widths))
    n_stored = n_layers // 2 if tied else n_layers
    sizes = [n_in * n_out for n_in, n_out in shapes[:n_stored]]
    weights_at = np.cumsum([0, *sizes])
    n_weights = int(weights_at[-1])
    if tied:
        weights_at = np.concatenate([weights_at[:-1], weights_at[-2::-1]])
    else:
        weights_at = weights_at[:-1]
    biases_at = n_weights + np.cumsum([0, *widths[1:-1]])
    positions = {name: position for position, name in enumerate(ACTIVATIONS)}
    layers = np.zeros(n_layers + 1, dtype=LAYER)
    layers["width"] = widths
    layers["units_at"][2:] = np.cumsum(widths[1:-1])
    layers["weights_at"][1:] = weights_at
    layers["biases_at"][1:] = biases_at
    layers["transposed"][1:] = np.arange(n_layers) >= n_layers // 2
    layers["activation"][1:] = [positions[name] for name in activations]
    n_params = n_weights + sum(widths[1:])
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
    return network._replace(layers=layers, n_layers=stop - first)


def coefs(network, params):
    """Views of the layers' weights, each of shape (n_in, n_out)."""
    views = []
    for n_in, layer in zip(network.widths, network.layers[1:], strict=False):
        n_out, first = layer["width"], layer["weights_at"]
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


def _uniform(rng, shape, limit):
    return rng.uniform(-limit, limit, shape)


# Name -> draw of a weight matrix of shape (n_in, n_out).
INITS = {
    # Glorot & Bengio, "Understanding the difficulty of training deep feedforward
    # neural networks", 2010, equation 16.
    "glorot": lambda rng, shape: _uniform(rng, shape, np.sqrt(6 / sum(shape))),
    # He et al., "Delving deep into rectifiers", 2015, equation 10.
    "he": lambda rng, shape: _uniform(rng, shape, np.sqrt(6 / shape[0])),
    # LeCun et al., "Efficient backprop", 1998, equation 16.
    "lecun": lambda rng, shape: _uniform(rng, shape, np.sqrt(3 / shape[0])),
    "normal": lambda rng, shape: rng.standard_normal(shape),
}
_HE_ACTIVATIONS = {"relu", "leaky_relu", "elu", "gelu", "silu"}


def _auto_init(activation):
    """The start that was derived for an activation."""
    if activation in _HE_ACTIVATIONS:
        return "he"
    return "lecun" if activation == "selu" else "glorot"


def initial_params(network, activations, init, seed, dtype):
    """Random weights and zero biases.

    The draws do not depend on the dtype, nor on anything of the data.
    """
    rng = np.random.RandomState(seed)
    params = np.zeros(network.n_params)
    layers = list(zip(coefs(network, params), activations, strict=True))
    for weights, activation in layers[: len(layers) // 2] if network.tied else layers:
        name = _auto_init(activation) if init == "auto" else init
        weights[...] = INITS[name](rng, weights.shape)
    return params.astype(dtype, copy=False)


def order_code(network, params, code_mean, code_covariance, *, free_scale):
    """Give a linear code PCA's order, in place, without changing reconstructions.

    A linear code can be mapped by an invertible matrix if the decoder's first weights
    are mapped back. The choice made here: the code has mean zero, its entries are
    uncorrelated and of decreasing variance; and, with `free_scale`, the decoder's
    first weight matrix has orthonormal rows, so that distances in the code are those
    that the decoder sees. The code of a linear network then is PCA's. Otherwise the
    code is rotated only.

    Parameters
    ----------
    network : Network

    params : ndarray of shape (n_params,)
        Changed in place.

    code_mean : ndarray of shape (n_components,), dtype=float64

    code_covariance : ndarray of shape (n_components, n_components), dtype=float64

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
    encoder_bias = biases[middle - 1].astype(np.float64) - code_mean
    decoder_bias = biases[middle].astype(np.float64) + code_mean @ decoder
    n_components = encoder.shape[1]

    mixing, new_decoder = np.eye(n_components), decoder
    if free_scale:
        # decoder = mixing @ new_decoder. Components that the decoder has no room
        # for, or ignores, become zero.
        left, singular, right = svd(decoder, full_matrices=False)
        rank = singular.size
        mixing = np.zeros((n_components, n_components))
        mixing[:, :rank] = left[:, :rank] * singular
        new_decoder = np.zeros_like(decoder)
        new_decoder[:rank] = right[:rank]
    variances, axes = eigh(mixing.T @ code_covariance @ mixing)
    variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]

    # The rule of scikit-learn's svd_flip for PCA, whose components are these rows.
    rows = axes.T @ new_decoder
    largest = np.abs(rows).argmax(axis=1)
    signs = np.where(rows[np.arange(n_components), largest] < 0, -1.0, 1.0)
    axes = axes * signs
    weights[middle - 1][...] = encoder @ mixing @ axes
    biases[middle - 1][...] = encoder_bias @ mixing @ axes
    if not network.tied:
        weights[middle][...] = signs[:, np.newaxis] * rows
    biases[middle][...] = decoder_bias
    return variances
