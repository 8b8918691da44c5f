"""Statistics of the rows in use of a matrix: mean, scale, extremes."""

import math

import numpy as np

from skae._compiled import row_access
from skae._data.rows import (
    dense,
    make_rows,
    matrix_in_use,
    row_chunks,
    weights_in_use,
)

# Data whose spread is below this many roundings of its mean are constant: their
# centred values are nothing but rounding errors.
_CONSTANT_ROUNDINGS = 1000


def mean_and_scale(data):
    """Mean of every feature and root mean square of the centred entries.

    Parameters
    ----------
    data : AnyRows

    Returns
    -------
    mean : ndarray of shape (n_features,), dtype=float64

    scale : float
        0 for constant data.
    """
    # Sums are relative to some row: the mean of a constant feature is exact.
    origins = (row for row in data.map(_first_row) if row is not None)
    origin = next(origins)
    totals, sizes, weights = zip(*data.map(_deviations, origin), strict=True)
    total_weight, size = sum(weights), max(sizes)
    mean = origin + sum(totals) / total_weight
    if size == 0:
        return mean, 0.0
    # Again, as the difference of two large sums would lose the digits. Divided by the
    # largest deviation, squares cannot overflow.
    squares = sum(data.map(_squared_deviations, mean, size))
    scale = size * float(np.sqrt((squares / total_weight).mean()))
    rounding = np.finfo(np.float64).eps * np.abs(mean).max()
    return mean, 0.0 if scale <= _CONSTANT_ROUNDINGS * rounding else scale


def with_constant(mean, spread, value, weight, weight_of_value):
    """Mean and scale as of `mean_and_scale`, with more samples, which are all equal.

    Parameters
    ----------
    mean : ndarray of shape (n_features,)

    spread : float

    value : ndarray of shape (n_features,)
        What the samples more are.

    weight, weight_of_value : float
        Total weights of the samples measured, and of those more.

    Returns
    -------
    mean : ndarray of shape (n_features,)

    spread : float
    """
    share = weight_of_value / (weight + weight_of_value)
    difference = value - mean
    between = math.sqrt(share * (1 - share)) * _root_mean_square(difference)
    within = math.sqrt(1 - share) * spread
    return mean + share * difference, math.hypot(within, between)


def _root_mean_square(values):
    size = float(np.abs(values).max()) or 1.0
    return size * float(np.sqrt(np.mean((values / size) ** 2)))


def extremes(data):
    """Lowest and highest entry of the rows in use that have a weight."""
    lows, highs = zip(*data.map(_extremes), strict=True)
    return min(lows), max(highs)


def largest_distance(data, mean, spread):
    """The largest distance of a row in use that has a weight from the mean.

    Parameters
    ----------
    data : AnyRows

    mean : ndarray of shape (n_features,)

    spread : float
        Not 0. What `mean_and_scale` has found: divided by it, squares cannot overflow.

    Returns
    -------
    distance : float
    """
    return spread * float(np.sqrt(max(data.map(_largest_square, mean, spread))))


# ---------------------------------------------------------------------------
# Of one part
# ---------------------------------------------------------------------------


def _first_row(data):
    """The first that counts, in float64; None if none does."""
    for chunk in _chunks(data):
        return _counted(chunk)[0].astype(np.float64)
    return None


def _deviations(data, origin):
    """Sum of the deviations from a row, the largest of all, and the total weight."""
    total, largest = np.zeros((2, data.n_features))
    weight = 0.0
    for chunk in _chunks(data):
        _run(row_access.add_deviations, chunk, origin, total, largest)
        weight += chunk.total_weight
    return total, largest.max(), weight


def _squared_deviations(data, mean, size):
    """Sum of the squared deviations from the mean, in units of `size`."""
    squares = np.zeros(data.n_features)
    for chunk in _chunks(data):
        _run(row_access.add_squared_deviations, chunk, mean, squares, np.array([size]))
    return squares


def _extremes(data):
    low, high = np.inf, -np.inf
    for chunk in _chunks(data):
        values = _counted(chunk)
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


def _largest_square(data, mean, spread):
    """The largest squared distance from the mean, in units of `spread`."""
    largest = 0.0
    for chunk in _chunks(data):
        deviations = (_counted(chunk).astype(np.float64) - mean) / spread
        squares = np.einsum("ij,ij->i", deviations, deviations)
        largest = max(largest, float(squares.max()))
    return largest


def _chunks(rows):
    """Chunks of the rows that have some weight, as dense `Rows`."""
    # In chunks even if dense, so that Ctrl-C is noticed between them.
    for batch in row_chunks(rows.n_rows, rows.n_features):
        chunk = rows.part(batch)
        if chunk.starts.size:
            weights = weights_in_use(chunk) if chunk.weights.size else None
            matrix = np.ascontiguousarray(dense(matrix_in_use(chunk)))
            chunk = make_rows(matrix, weights=weights)
        if chunk.total_weight > 0:
            yield chunk


def _run(op, chunk, *arrays):
    sizes = chunk.n_rows, chunk.n_features
    op(chunk.values, chunk.subset, chunk.weights, *arrays, *sizes)


def _counted(chunk):
    """Matrix of the rows of a chunk that have a weight."""
    matrix = matrix_in_use(chunk)
    return matrix[weights_in_use(chunk) > 0] if chunk.weights.size else matrix
