"""Shape of a network: its flat parameters and their views; its ordered code."""

import itertools

import numpy as np
from scipy.linalg import block_diag, eigh, norm, svd

from skae._compiled.activations import ACTIVATIONS, IDENTITY
from skae._compiled.records import LAYER, Network


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


# Entries of a component whose sizes differ by less, relatively, are equally large.
_SAME_SIZE = 1e-6


def signs_of(components):
    """1 or -1 for every row: the rule of scikit-learn's svd_flip for PCA.

    That is the sign of the entry that is largest in absolute value; of several that are
    nearly so large, of the first, as rounding may make any of them the largest.
    """
    sizes = np.abs(components)
    least = (1 - _SAME_SIZE) * sizes.max(axis=1, keepdims=True)
    first = (sizes >= least).argmax(axis=1)
    return np.where(components[np.arange(len(components)), first] < 0, -1.0, 1.0)


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
    code of a linear network then is PCA's.

    Otherwise the code is rotated only, to its principal axes. Where their variances
    are equal, as all are of a network that starts at PCA, rounding would choose the
    axes: among these, the first explain most of the rows linearly. Variances are equal
    if they differ by less than the square root of the dtype's precision, relatively,
    and by so much the entries may be correlated.

    Parameters
    ----------
    network : Network

    params : ndarray of shape (n_params,)
        Changed in place.

    moments : Moments
        Of the code and the rows. Changed in place to those of the new code.

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
    precision = float(np.finfo(params.dtype).eps)
    nothing = precision ** (2 / 3)  # as a share of the largest value

    # The new code is the centred old one times `mixing`.
    variances, axes = eigh(moments.covariance)
    variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
    n_used = np.count_nonzero(variances > _NO_VARIANCE * variances[0])
    if free_scale and n_used:
        unused = axes[:, n_used:]
        no_gaps = np.zeros(unused.shape[1])
        unused = _settled(unused, no_gaps, no_gaps, [encoder.T], nothing)
        axes = np.hstack([axes[:, :n_used], unused])
        to_one = np.ones(len(variances))
        to_one[:n_used] /= np.sqrt(variances[:n_used])
        mixing, inverse = axes * to_one, axes.T / to_one[:, np.newaxis]
        regression = mixing[:, :n_used].T @ moments.cross
        # Its left side is to be square, its right one, of as many rows as there are
        # features, is not.
        left, explained = _left_side(regression)
        gaps = np.full(n_used, nothing * explained[0])
        of_inputs = mixing[:, :n_used].T @ encoder.T
        left = _settled(left, explained, gaps, [of_inputs], nothing)
        least = _LEAST_DEVIATION * (explained[0] or 1.0)
        deviations = np.ones(len(variances))
        deviations[:n_used] = np.maximum(explained, least)
        rotation = block_diag(left, np.eye(int(len(variances) - n_used)))
        mixing = mixing @ rotation * deviations
        inverse = rotation.T @ inverse / deviations[:, np.newaxis]
        variances[:n_used] = deviations[:n_used] ** 2
    else:
        gaps = np.sqrt(precision) * variances + nothing * variances[0]
        criteria = [moments.cross, encoder.T]
        mixing = _settled(axes, variances, gaps, criteria, nothing)
        inverse = mixing.T
        variances = np.maximum(np.diag(inverse @ moments.covariance @ mixing), 0)

    encoder, cross = encoder @ mixing, mixing.T @ moments.cross
    signs = signs_of(cross)  # of PCA these are the components
    moments.mean[...] = 0.0
    moments.covariance[...] = np.diag(variances)
    moments.cross[...] = cross
    # What explains nothing would have the sign of a rounding error.
    explained = norm(_regression(moments, np.sqrt(variances)), axis=1)
    explains = explained > nothing * explained.max()
    signs = np.where(explains, signs, signs_of(encoder.T))

    weights[middle - 1][...] = encoder * signs
    biases[middle - 1][...] = encoder_bias @ mixing * signs
    if not network.tied:
        weights[middle][...] = signs[:, np.newaxis] * (inverse @ decoder)
    biases[middle][...] = decoder_bias
    moments.cross[...] *= signs[:, np.newaxis]
    return np.minimum.accumulate(variances)  # but for roundings they are so


def _regression(moments, deviations):
    """Coefficients of the rows' regression on each entry of a code, of variance 1."""
    has_variance = deviations**2 > _NO_VARIANCE * deviations.max() ** 2
    return np.divide(
        moments.cross,
        deviations[:, np.newaxis],
        out=np.zeros_like(moments.cross),
        where=has_variance[:, np.newaxis],
    )


def explained_variance(network, params, moments, mean, *, is_linear):
    """What each entry of an uncorrelated code explains of the variance of the rows.

    That is the variance of the best linear function of the entry. A linear decoder may
    do less, as a penalty shrinks its weights: then what the entries explain is reduced,
    all by the same factor, to what it reconstructs with them together.

    Parameters
    ----------
    network : Network

    params : ndarray of shape (n_params,)

    moments : Moments
        Of the code, which has mean zero, and the rows.

    mean : ndarray of shape (n_features,)
        Of the rows.

    is_linear : bool
        Whether the decoder is.

    Returns
    -------
    explained : ndarray of shape (n_components,), dtype=float64
    """
    deviations = np.sqrt(np.diag(moments.covariance))
    regression = _regression(moments, deviations)
    explained = (regression**2).sum(axis=1)
    if is_linear:
        middle = network.n_layers // 2
        decoder, at_zero = np.diag(deviations), np.zeros(len(deviations))
        for weights, biases in zip(
            coefs(network, params)[middle:],
            intercepts(network, params)[middle:],
            strict=True,
        ):
            decoder, at_zero = decoder @ weights, at_zero @ weights + biases
        lost = ((decoder - regression) ** 2).sum() + ((at_zero - mean) ** 2).sum()
        total = explained.sum()
        explained *= max(0.0, 1 - lost / total) if total > 0 else 1.0
    return explained


def _settled(axes, values, gaps, criteria, nothing):
    """Axes among which nothing is left to rounding.

    Axes that have nearly equal values span a space in which rounding has chosen them.
    They are chosen by a criterion instead: the first is that along which it is largest.
    Where it is equal, too, the next criterion decides.

    Parameters
    ----------
    axes : ndarray of shape (n_components, n_axes)
        Orthonormal columns.

    values : ndarray of shape (n_axes,)
        What the axes have been chosen by, in decreasing order.

    gaps : ndarray of shape (n_axes,)
        By how much a value has to exceed the next one.

    criteria : list of ndarray of shape (n_components, n_columns)
        Along an axis a criterion is as large as the norm of their product.

    nothing : float
        Share of a criterion's norm that is a rounding error.

    Returns
    -------
    axes : ndarray of shape (n_components, n_axes)
    """
    ends = np.flatnonzero(values[:-1] - values[1:] > gaps[:-1]) + 1
    blocks = np.split(axes, ends, axis=1)
    criterion, *others = criteria
    for i, block in enumerate(blocks):
        if block.shape[1] > 1:
            left, sizes = _left_side(block.T @ criterion)
            blocks[i] = block @ left
            if others:
                gaps = np.full(len(sizes), nothing * norm(criterion))
                blocks[i] = _settled(blocks[i], sizes, gaps, others, nothing)
    return np.hstack(blocks)


def _left_side(matrix):
    """Left singular vectors, as a square matrix, and a singular value for each."""
    n_rows, n_columns = matrix.shape
    left, values, _ = svd(matrix, full_matrices=n_rows > n_columns)
    return left, np.append(values, np.zeros(n_rows - len(values)))
