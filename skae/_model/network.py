"""Shape of a network, views of its flat vector of parameters, and its ordered code."""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.linalg import eigh, norm, svd

from skae._compiled.activations import ACTIVATIONS, IDENTITY
from skae._compiled.losses import Loss
from skae._compiled.records import LAYER, Network
from skae._typing import Floats


def make_network(
    widths: Sequence[int],
    activations: Sequence[str],
    *,
    tied: bool,
    variational: bool = False,
    groups: Sequence[int] = (),
) -> Network:
    """Lay out a network's parameters in one flat vector.

    Parameters
    ----------
    widths : sequence of int, of length n_layers + 1
        Units of the input, of each hidden layer, and of the output.

    activations : sequence of str, of length n_layers
        Keys of ``ACTIVATIONS``.

    tied : bool
        Whether decoder layers use the encoder's weights, transposed.

    variational : bool, default=False
        Whether the code's layer has two units for each entry of the code, its mean and
        its log-variance. The means come first, and the decoder reads only them.

    groups : sequence of int, default=()
        Sizes of the groups of levels that are the last outputs.

    Returns
    -------
    network : Network
    """
    shape = tuple(widths), tuple(activations), tied, variational
    return _make_network(*shape, tuple(groups))


# Inference makes a fitted network's layout in each call.
@functools.lru_cache(maxsize=64)
def _make_network(
    widths: tuple[int, ...],
    activations: tuple[str, ...],
    tied: bool,
    variational: bool,
    groups: tuple[int, ...],
) -> Network:
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
    layers.flags.writeable = False
    n_params = n_weights + sum(n_units)
    starts, n_plain = np.empty(0, dtype=np.int64), widths[-1]
    if groups:
        n_plain -= sum(groups)
        starts = n_plain + np.cumsum([0, *groups])
        starts.flags.writeable = False
    shape = n_layers, n_params, n_weights, int(tied)
    return Network(layers, *shape, starts, len(groups), n_plain)


def for_loss(network: Network, loss: Loss) -> Network:
    """The network whose output is the loss' argument: without its activation."""
    if not loss.has_activation:
        return network
    layers = network.layers.copy()
    layers["activation"][-1] = IDENTITY
    return network._replace(layers=layers)


def part(network: Network, first: int, stop: int) -> Network:
    """Layers first + 1 to stop, as a network with the same vector of parameters."""
    layers = network.layers[first : stop + 1].copy()
    layers["units_at"][1:] -= layers["units_at"][1]
    layers["activation"][0] = IDENTITY
    layers["width"][0] = layers["n_in"][1]
    shape = network._replace(layers=layers, n_layers=stop - first)
    if stop == network.n_layers:
        return shape
    return shape._replace(
        groups=network.groups[:0], n_groups=0, n_plain=int(layers["width"][-1])
    )


def coefs(network: Network, params: Floats) -> list[Floats]:
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


def intercepts(network: Network, params: Floats) -> list[Floats]:
    """Views of the layers' biases, each of shape (n_out,)."""
    return [
        params[layer["biases_at"] :][: layer["width"]] for layer in network.layers[1:]
    ]


# Entries of a component with a smaller relative difference count as equally large.
_SAME_SIZE = 1e-6


def signs_of(components: Floats) -> Floats:
    """1 or -1 for each component, by the rule of scikit-learn's svd_flip for PCA.

    It is the sign of the entry with the largest absolute value. Among nearly equal ones
    the first counts, because rounding decides which is the largest.
    """
    sizes = np.abs(components)
    least = (1 - _SAME_SIZE) * sizes.max(axis=1, keepdims=True)
    first = (sizes >= least).argmax(axis=1)
    return np.where(components[np.arange(len(components)), first] < 0, -1.0, 1.0)


class Moments(NamedTuple):
    """Weighted mean of a code, and its covariances, divided by the total weight."""

    mean: np.ndarray  # (n_components,) float64
    covariance: np.ndarray  # (n_components, n_components) float64, of the code
    cross: np.ndarray  # (n_components, n_features) float64, of code and rows


# Directions of the code with a smaller share of the largest variance are rounding
# errors.
_NO_VARIANCE = 1e-12
# An entry of the code that explains nothing linearly keeps this share of the largest
# standard deviation, so that the mapping stays invertible.
_LEAST_DEVIATION = 1e-6


def order_code(
    network: Network, params: Floats, moments: Moments, *, free_scale: bool
) -> Floats:
    """Give a linear code PCA's order, in place, without changing reconstructions.

    An invertible matrix can map a linear code if the decoder's first weights map it
    back. Here the code gets mean zero and uncorrelated entries of decreasing variance.
    With `free_scale` the first j entries are the j linear functions of the code that
    explain the rows best linearly, and their variance is what they explain
    (reduced-rank regression: Izenman, "Reduced-rank regression for the multivariate
    linear model", 1975). The code of a linear network then is PCA's.

    Otherwise the code is only rotated, to its principal axes. Where their variances are
    equal, as in a network that is initialized at PCA, rounding would choose the axes:
    among these, the first explain the rows best linearly. Variances are equal if they
    differ, relatively, by less than the square root of the dtype's precision, and
    entries may be correlated by as much.

    Parameters
    ----------
    network : Network

    params : ndarray of shape (n_params,)
        Changed in place.

    moments : Moments
        Those of the code and the rows. Changed in place to those of the new code.

    free_scale : bool
        Whether the objective does not depend on the code's scale: weights are neither
        tied nor penalized.

    Returns
    -------
    variances : ndarray of shape (n_components,), dtype=float64
        Variances of the new code's entries.
    """
    middle = network.n_layers // 2
    weights, biases = coefs(network, params), intercepts(network, params)
    encoder = weights[middle - 1].astype(np.float64)
    decoder = weights[middle].astype(np.float64)
    encoder_bias = biases[middle - 1].astype(np.float64) - moments.mean
    decoder_bias = biases[middle].astype(np.float64) + moments.mean @ decoder
    precision = float(np.finfo(params.dtype).eps)
    nothing = precision ** (2 / 3)  # as a share of the largest value

    mixing: Floats  # the new code is the centered old one times this
    inverse: Floats
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
        # Only the left side has to be square: the right one has a row per feature.
        left, explained = _left_side(regression)
        gaps = np.full(n_used, nothing * explained[0])
        of_inputs = mixing[:, :n_used].T @ encoder.T
        left = _settled(left, explained, gaps, [of_inputs], nothing)
        least = _LEAST_DEVIATION * (explained[0] or 1.0)
        deviations = np.ones(len(variances))
        deviations[:n_used] = np.maximum(explained, least)
        rotation = np.eye(len(variances))
        rotation[:n_used, :n_used] = left
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
    signs = signs_of(cross)  # its rows are the components, if the network is PCA
    moments.mean[...] = 0.0
    moments.covariance[...] = np.diag(variances)
    moments.cross[...] = cross
    # The sign of an entry that explains nothing would be that of a rounding error.
    explained = norm(_regression(moments, np.sqrt(variances)), axis=1)
    explains = explained > nothing * explained.max()
    signs = np.where(explains, signs, signs_of(encoder.T))

    weights[middle - 1][...] = encoder * signs
    biases[middle - 1][...] = encoder_bias @ mixing * signs
    if not network.tied:
        weights[middle][...] = signs[:, np.newaxis] * (inverse @ decoder)
    biases[middle][...] = decoder_bias
    moments.cross[...] *= signs[:, np.newaxis]
    return np.minimum.accumulate(variances)  # decreasing, despite rounding


def _regression(moments: Moments, deviations: Floats) -> Floats:
    """Coefficients of the rows' regression on each code entry, scaled to variance 1."""
    has_variance = deviations**2 > _NO_VARIANCE * deviations.max() ** 2
    coefficients = np.zeros_like(moments.cross)
    np.divide(
        moments.cross,
        deviations[:, np.newaxis],
        out=coefficients,
        where=has_variance[:, np.newaxis],
    )
    return coefficients


def explained_variance(
    network: Network,
    params: Floats,
    moments: Moments,
    mean: Floats,
    *,
    is_linear: bool,
) -> Floats:
    """Variance of the rows that each entry of an uncorrelated code explains.

    It is the variance of the best linear function of the entry. A linear decoder may
    explain less, because a penalty shrinks its weights: then all values are reduced by
    the same factor, to the variance that it reconstructs from all entries.

    Parameters
    ----------
    network : Network

    params : ndarray of shape (n_params,)

    moments : Moments
        Those of the code, which has mean zero, and the rows.

    mean : ndarray of shape (n_features,)
        Mean of the rows.

    is_linear : bool
        Whether the decoder is linear.

    Returns
    -------
    explained : ndarray of shape (n_components,), dtype=float64
    """
    deviations = np.sqrt(np.diag(moments.covariance))
    regression = _regression(moments, deviations)
    explained: Floats = (regression**2).sum(axis=1)
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


def _settled(
    axes: Floats,
    values: Floats,
    gaps: Floats,
    criteria: list[Floats],
    nothing: float,
) -> Floats:
    """Choose axes that do not depend on rounding.

    Rounding has chosen axes that have nearly equal values within the space they span.
    A criterion chooses them instead: it is largest along the first axis. Where it is
    equal, too, the next criterion decides.

    Parameters
    ----------
    axes : ndarray of shape (n_components, n_axes)
        Orthonormal columns.

    values : ndarray of shape (n_axes,)
        Values that the axes were chosen by, in decreasing order.

    gaps : ndarray of shape (n_axes,)
        Differences by which a value has to exceed the next one.

    criteria : list of ndarray of shape (n_components, n_columns)
        A criterion's value along an axis is the norm of their product.

    nothing : float
        Share of a criterion's norm that counts as a rounding error.

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


def _left_side(matrix: Floats) -> tuple[Floats, Floats]:
    """Left singular vectors, as a square matrix, and a singular value for each."""
    n_rows, n_columns = matrix.shape
    left, values, _ = svd(matrix, full_matrices=n_rows > n_columns)
    return left, np.append(values, np.zeros(n_rows - len(values)))
