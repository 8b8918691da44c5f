"""Statistics of the rows in use of a matrix: mean, scale, extremes.

They are those of the observed entries: missing ones, which are NaN, are left out.
Large ones are computed on several threads, chunk by chunk, and combined in the order of
the chunks: they have the same bits for any number of threads.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self, cast

import numpy as np

from skae._compiled import row_access
from skae._data.rows import (
    AnyRows,
    LocalRows,
    Rows,
    dense,
    make_rows,
    matrix_in_use,
    of_entries,
    row_chunks,
    slices,
    sparse_chunks,
    weights_in_use,
)
from skae._runtime.threads import map_in_order, n_threads_for
from skae._typing import Floats, Result

# Data whose spread is below this many roundings of their mean are constant: their
# centered values are rounding errors.
_CONSTANT_ROUNDINGS = 1000
# Scales come from the sums of squares about the first row, in the pass that computes
# means, where these sums are moderate numbers and lose at most one digit when the
# squared distance of the mean is subtracted; otherwise from a pass of their own.
_SMALLEST, _LARGEST, _LEAST_SHARE = 1e-100, 1e100, 0.1
# Floating point operations that take as long as reading an entry.
_FLOPS_PER_ENTRY = 20
# Entries of an array that are read at a time.
_ENTRIES_AT_ONCE = 2**20


def mean_and_scale(data: AnyRows) -> tuple[Floats, float]:
    """Mean of every feature and root mean square of the centered entries.

    Parameters
    ----------
    data : AnyRows

    Returns
    -------
    mean : ndarray of shape (n_features,), dtype=float64
        NaN for a feature without observed entries.

    scale : float
        0 for constant data. With missing entries, the root of the mean variance of the
        features that have observed entries.

    Raises
    ------
    ValueError
        If all entries are missing.
    """
    if data.has_missing:
        return _mean_and_scale_of_observed(data)
    # Sums are relative to a row, so that the mean of a constant feature is exact.
    origins = (row for row in data.map(_first_row) if row is not None)
    origin = next(origins)
    totals, sums, sizes, weights = zip(*data.map(_deviations, origin), strict=True)
    total_weight, size = sum(weights), max(sizes)
    difference = sum(totals) / total_weight
    mean = origin + difference
    if size == 0:
        return mean, 0.0
    variance = 0.0
    if _SMALLEST < size < _LARGEST:
        mean_square = float((sum(sums) / total_weight).mean())
        variance = mean_square - float((difference**2).mean())
        variance *= variance > _LEAST_SHARE * mean_square
    scale = math.sqrt(variance)
    if not scale:
        # Divided by the largest deviation, squares cannot overflow.
        squares = sum(data.map(_squared_deviations, mean, size))
        scale = size * float(np.sqrt((squares / total_weight).mean()))
    return mean, _unless_rounding(scale, mean)


def _unless_rounding(scale: float, mean: Floats) -> float:
    """A scale, or 0 if what is left of constant data are rounding errors."""
    rounding = np.finfo(np.float64).eps * np.abs(mean).max()
    return 0.0 if scale <= _CONSTANT_ROUNDINGS * rounding else scale


def mean_and_spread(data: AnyRows, *, is_table: bool = False) -> tuple[Floats, Floats]:
    """Mean and standard deviation of every feature, over its observed entries.

    Parameters
    ----------
    data : AnyRows

    is_table : bool, default=False
        Whether the rows are sparse ones of a table, which are not made dense.

    Returns
    -------
    mean : ndarray of shape (n_features,), dtype=float64
        NaN for a feature without observed entries.

    spread : ndarray of shape (n_features,), dtype=float64
        0 for a feature that is constant, or has no observed entries.

    Raises
    ------
    ValueError
        If all entries are missing.
    """
    mean, weight, largest = _mean_of_observed(data, is_table=is_table)
    unit = np.where(largest > 0, largest, 1.0)
    sums = _squares_of_table if is_table else _squares_of_observed
    squares = sum(data.map(sums, mean, unit))
    spread = unit * np.sqrt(squares / weight)
    rounding = _CONSTANT_ROUNDINGS * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(spread > rounding, spread, 0.0)


def _mean_and_scale_of_observed(data: AnyRows) -> tuple[Floats, float]:
    """`mean_and_scale` of data with missing entries."""
    mean, weight, deviations = _mean_of_observed(data)
    largest, is_observed, scale = float(deviations.max()), ~np.isnan(mean), 0.0
    if largest:
        squares = sum(data.map(_squares_of_observed, mean, largest))
        variances = (squares / weight)[is_observed]
        scale = largest * float(np.sqrt(variances.mean()))
        scale = _unless_rounding(scale, mean[is_observed])
    return mean, scale


def _mean_of_observed(
    data: AnyRows, *, is_table: bool = False
) -> tuple[Floats, Floats, Floats]:
    """Mean of every feature, its total weight, and its largest deviation from a row.

    A feature without observed entries has the mean NaN and the weight 1.
    """
    firsts = np.array([row for row in data.map(_first_observed) if row is not None])
    is_observed = ~np.isnan(firsts).all(axis=0)
    if not is_observed.any():
        raise ValueError("X has no observed entry: all are NaN")
    at = (~np.isnan(firsts)).argmax(axis=0)
    origin = np.where(is_observed, firsts[at, np.arange(data.n_features)], 0.0)
    sums = _observed_of_table if is_table else _observed
    weights, totals, sizes = zip(*data.map(sums, origin), strict=True)
    weight = np.where(is_observed, sum(weights), 1.0)
    mean = np.where(is_observed, origin + sum(totals) / weight, np.nan)
    return mean, weight, np.max(sizes, axis=0)


def with_constant(
    mean: Floats, spread: Any, value: Floats, weight: float, weight_of_value: float
) -> tuple[Floats, Any]:
    """Update what was computed for samples for more of them, which are all equal.

    Parameters
    ----------
    mean : ndarray of shape (n_features,)

    spread : float or ndarray of shape (n_features,)
        As of `mean_and_scale`, or as of `mean_and_spread`.

    value : ndarray of shape (n_features,)
        Each of the new samples.

    weight, weight_of_value : float
        Total weights of the old and of the new samples.

    Returns
    -------
    mean : ndarray of shape (n_features,)

    spread : float or ndarray of shape (n_features,)
    """
    share = weight_of_value / (weight + weight_of_value)
    difference = value - mean
    is_one = isinstance(spread, float)
    size = _root_mean_square(difference) if is_one else np.abs(difference)
    between = math.sqrt(share * (1 - share)) * size
    within = math.sqrt(1 - share) * spread
    found = np.hypot(within, between)
    return mean + share * difference, float(found) if is_one else found


def _root_mean_square(values: Floats) -> float:
    size = float(np.abs(values).max()) or 1.0
    return size * float(np.sqrt(np.mean((values / size) ** 2)))


def lowest_and_highest(values: np.ndarray) -> tuple[np.floating, np.floating]:
    """Lowest and highest of some values; NaN if one of them is NaN.

    Parameters
    ----------
    values : ndarray of shape (n,), n > 0

    Returns
    -------
    lowest, highest : scalar of the array's dtype
    """

    def of_chunk(batch: slice) -> tuple[np.floating, np.floating]:
        return values[batch].min(), values[batch].max()

    batches = list(slices(values.size, _ENTRIES_AT_ONCE))
    n_threads = n_threads_for(len(batches), _FLOPS_PER_ENTRY * values.size)
    lows, highs = zip(*map_in_order(of_chunk, batches, n_threads), strict=True)
    return np.min(lows), np.max(highs)


def lowest_and_highest_observed(
    values: np.ndarray,
) -> tuple[np.floating, np.floating]:
    """`lowest_and_highest` of the values that are not NaN; NaN if all are."""
    found = lowest_and_highest(values)
    if np.isnan(found[0]):  # what follows takes several times as long
        found = np.fmin.reduce(values), np.fmax.reduce(values)
    return found


def extremes(data: AnyRows) -> tuple[float, float]:
    """Lowest and highest entry of the rows in use that have a weight."""
    lows, highs = zip(*data.map(_extremes), strict=True)
    return min(lows), max(highs)


def largest_distance(data: AnyRows, mean: Floats, spread: float) -> float:
    """Largest distance from the mean of a row in use that has a weight.

    Parameters
    ----------
    data : AnyRows

    mean : ndarray of shape (n_features,)

    spread : float
        Scale as of `mean_and_scale`, not 0: divided by it, squares cannot overflow.

    Returns
    -------
    distance : float
    """
    return spread * float(np.sqrt(max(data.map(_largest_square, mean, spread))))


# ---------------------------------------------------------------------------
# One part
# ---------------------------------------------------------------------------


def _first_row(data: LocalRows) -> Floats | None:
    """The first row that has a weight, in float64; None if none has."""
    for chunk in _chunks(data):
        row: Floats = _counted(chunk)[0]
        return row.astype(np.float64)
    return None


def _deviations(data: LocalRows, origin: Floats) -> tuple[Floats, Floats, float, float]:
    """Sums of the deviations from a row and of their squares, largest one, weight."""

    def of_chunk(chunk: Rows) -> tuple[Floats, float]:
        sums = np.zeros((3, data.n_features))
        _run(row_access.add_deviations, chunk, origin, *sums)
        return sums, chunk.total_weight

    total, squares, largest = np.zeros((3, data.n_features))
    weight = 0.0
    for sums, of_these in _map_chunks(of_chunk, data):
        total += sums[0]
        squares += sums[1]
        np.maximum(largest, sums[2], out=largest)
        weight += of_these
    return total, squares, float(largest.max()), weight


def _first_observed(data: LocalRows) -> Floats | None:
    """The first observed entry of each feature, in a row that has a weight, or NaN.

    None if no row has a weight.
    """
    found: Floats | None = None
    for chunk in _chunks(data):
        values = _counted(chunk)
        first = values[(~np.isnan(values)).argmax(axis=0), np.arange(values.shape[1])]
        found = first if found is None else np.where(np.isnan(found), first, found)
        if not np.isnan(found).any():
            break
    return None if found is None else found.astype(np.float64)


def _observed(data: LocalRows, origin: Floats) -> tuple[Floats, Floats, Floats]:
    """Weights, sums of deviations from a row, and the largest, of observed entries."""
    weights, total, largest = np.zeros((3, data.n_features))
    for deviations, of_rows in _observed_deviations(data, origin):
        is_missing = np.isnan(deviations)
        deviations[is_missing] = 0
        weights += (of_rows * ~is_missing).sum(axis=0)
        total += (of_rows * deviations).sum(axis=0)
        np.maximum(largest, np.abs(deviations).max(axis=0), out=largest)
    return weights, total, largest


def _squares_of_observed(data: LocalRows, mean: Floats, size: Floats | float) -> Floats:
    """Sums of the squared deviations of observed entries, in units of `size`."""
    squares = np.zeros(data.n_features)
    for deviations, of_rows in _observed_deviations(data, mean):
        deviations[np.isnan(deviations)] = 0
        squares += (of_rows * (deviations / size) ** 2).sum(axis=0)
    return squares


def _observed_deviations(
    data: LocalRows, origin: Floats
) -> Iterator[tuple[Floats, Floats]]:
    """Deviations of the rows that have a weight, and their weights, by chunks."""
    for chunk in _chunks(data):
        weights = weights_in_use(chunk)
        deviations = _counted(chunk).astype(np.float64) - origin
        yield deviations, weights[weights > 0, np.newaxis]


class _SparseSums(NamedTuple):
    """Sparse rows that have a weight, for sums over their columns."""

    columns: np.ndarray  # of the stored entries
    values: Floats  # of these, 0 if missing
    weights: Floats  # of these, 0 if missing
    n_zeros: np.ndarray  # (n_features,) number of entries that are not stored
    zero_weights: Floats  # (n_features,) their weights

    @classmethod
    def of(cls, data: LocalRows) -> Iterator[Self]:
        """Those of all chunks."""
        n_features = data.n_features
        for chunk, weights in sparse_chunks(data):
            if weights is not None:
                chunk, weights = chunk[weights > 0], weights[weights > 0]
            columns, is_missing = chunk.indices, np.isnan(chunk.data)
            of_rows = np.ones(chunk.shape[0]) if weights is None else weights
            expanded = of_entries(of_rows, chunk)
            n_zeros = len(of_rows) - np.bincount(columns, minlength=n_features)
            stored = np.bincount(columns, expanded, n_features)
            # Exactly 0 for columns that are stored whole.
            zero_weights = np.where(n_zeros > 0, of_rows.sum() - stored, 0.0)
            values = np.where(is_missing, 0.0, chunk.data)
            expanded[is_missing] = 0
            yield cls(columns, values, expanded, n_zeros, zero_weights)

    def summed(self, numbers: Floats) -> Floats:
        """Weighted sums of numbers of the stored entries over each column."""
        weighted = self.weights * numbers
        return cast(Floats, np.bincount(self.columns, weighted, len(self.n_zeros)))

    def deviations(self, origin: Floats) -> Floats:
        """Deviations of the stored entries from a row; 0 if missing."""
        return np.where(self.weights > 0, self.values - origin[self.columns], 0.0)


def _observed_of_table(
    data: LocalRows, origin: Floats
) -> tuple[Floats, Floats, Floats]:
    """`_observed` of sparse rows; of others, too, as an imputer's networks see."""
    if data.row_entries == data.n_features:
        return _observed(data, origin)
    weights, total, largest = np.zeros((3, data.n_features))
    for sums in _SparseSums.of(data):
        deviations = sums.deviations(origin)
        weights += sums.summed(np.ones(len(deviations))) + sums.zero_weights
        total += sums.summed(deviations) - sums.zero_weights * origin
        np.maximum.at(largest, sums.columns, np.abs(deviations))
        np.maximum(largest, np.abs(origin), out=largest, where=sums.n_zeros > 0)
    return weights, total, largest


def _squares_of_table(data: LocalRows, mean: Floats, size: Floats) -> Floats:
    """`_squares_of_observed` of sparse rows; of others, too."""
    if data.row_entries == data.n_features:
        return _squares_of_observed(data, mean, size)
    squares = np.zeros(data.n_features)
    of_zeros = (np.where(np.isnan(mean), 0.0, mean) / size) ** 2
    for sums in _SparseSums.of(data):
        relative = sums.deviations(mean) / size[sums.columns]
        squares += sums.summed(relative**2) + sums.zero_weights * of_zeros
    return squares


def _squared_deviations(data: LocalRows, mean: Floats, size: float) -> Floats:
    """Sum of the squared deviations from the mean, in units of `size`."""

    def of_chunk(chunk: Rows) -> Floats:
        squares = np.zeros(data.n_features)
        _run(row_access.add_squared_deviations, chunk, mean, squares, np.array([size]))
        return squares

    return sum(_map_chunks(of_chunk, data), np.zeros(data.n_features))


def _extremes(data: LocalRows) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for chunk in _chunks(data):
        lowest, highest = lowest_and_highest_observed(_counted(chunk).ravel())
        # NaN, if there is none, is not lower and not higher.
        low, high = min(low, float(lowest)), max(high, float(highest))
    return low, high


def _largest_square(data: LocalRows, mean: Floats, spread: float) -> float:
    """Largest squared distance from the mean, in units of `spread`."""
    largest = 0.0
    for chunk in _chunks(data):
        deviations = (_counted(chunk).astype(np.float64) - mean) / spread
        if chunk.has_missing:
            deviations[np.isnan(deviations)] = 0
        squares = np.einsum("ij,ij->i", deviations, deviations)
        largest = max(largest, float(squares.max()))
    return largest


def _map_chunks(
    function: Callable[[Rows], Result], data: LocalRows
) -> Iterator[Result]:
    """Results of a function that releases the GIL for the `_chunks`, in order."""
    n_threads = 1
    # A stream's rows are valid until more are read; sparse rows are copied.
    if isinstance(data, Rows) and not data.starts.size:
        n_chunks = len(list(row_chunks(data.n_rows, data.n_features)))
        n_entries = data.n_rows * data.n_features
        n_threads = n_threads_for(n_chunks, _FLOPS_PER_ENTRY * n_entries)
    return map_in_order(function, _chunks(data), n_threads)


def _chunks(rows: LocalRows) -> Iterator[Rows]:
    """Chunks of the rows that have some weight, as dense `Rows`."""
    # Dense rows come in chunks, too, so that Ctrl-C is noticed between them.
    for batch in row_chunks(rows.n_rows, rows.n_features):
        chunk = rows.part(batch)
        if chunk.starts.size:
            weights = weights_in_use(chunk) if chunk.weights.size else None
            matrix = np.ascontiguousarray(dense(matrix_in_use(chunk)))
            has_missing = bool(chunk.has_missing)
            chunk = make_rows(matrix, weights=weights, has_missing=has_missing)
        if chunk.total_weight > 0:
            yield chunk


def _run(op: Callable[..., None], chunk: Rows, *arrays: np.ndarray) -> None:
    sizes = chunk.n_rows, chunk.n_features
    op(chunk.values, chunk.subset, chunk.weights, *arrays, *sizes)


def _counted(chunk: Rows) -> np.ndarray:
    """Matrix of the rows of a dense chunk that have a weight."""
    matrix = dense(matrix_in_use(chunk))
    return matrix[weights_in_use(chunk) > 0] if chunk.weights.size else matrix
