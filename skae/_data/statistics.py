"""The rows of a matrix that are in use: their mean, their spread, their extremes.

What is computed of rows is computed part by part, and the results are combined in the
order of the parts. Here there is one part. A collection of partitions on other machines
(see ``dask``) has the same methods and several.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from skae._compiled import row_access
from skae._data.rows import (
    dense,
    make_rows,
    row_chunks,
    total_weight,
    with_aligned_arrays,
)
from skae._data.stream import RowStream, StreamedRows

# Data whose spread is below this many roundings of its mean are constant: their
# centred values are nothing but rounding errors.
_CONSTANT_ROUNDINGS = 1000


class Selection(NamedTuple):
    """Rows in use of a matrix, with weights; None: all of them, ones."""

    matrix: Any  # ndarray, CSR matrix or RowStream, validated
    subset: np.ndarray | None = None  # their numbers, in increasing order
    weights: np.ndarray | None = None  # float64, of all rows
    first_number: int = 0  # of the matrix' first row, where it is a part
    numbers: np.ndarray | None = None  # of its rows, where these are not consecutive

    @property
    def n_rows(self):
        """Rows in use."""
        return self.matrix.shape[0] if self.subset is None else len(self.subset)

    @property
    def n_features(self):
        """Columns of the matrix."""
        return self.matrix.shape[1]

    @property
    def total_weight(self):
        """Of the rows in use."""
        if self.weights is None:
            return float(self.n_rows)
        weights = self.weights if self.subset is None else self.weights[self.subset]
        return float(weights.sum())

    @property
    def dtype(self):
        """Of the matrix: float32 or float64."""
        return self.matrix.dtype

    def choose(self, numbers):
        """Some of all rows, by their numbers, which increase; None for all."""
        return self._replace(subset=numbers)

    def without_matrix(self):
        """What is kept beside a partition's block."""
        return self._replace(matrix=None)

    def with_matrix(self, matrix):
        """The selection again."""
        return with_aligned_arrays(self._replace(matrix=matrix))

    def kept(self):
        """The same in memory, or in a file that is mapped there."""
        if not isinstance(self.matrix, RowStream):
            return self
        numbers: Any = self.subset
        kept = self.matrix.spool(numbers)
        return Selection(kept, numbers=numbers.astype(np.int64, copy=False))

    def map(self, function, *args):
        """A function's results for every part, in order; it is given a selection."""
        return [function(self, *args)]

    def see(self, offset, scale):
        """The rows as a network sees them: (x - offset) / scale."""
        if isinstance(self.matrix, RowStream):
            return StreamedRows(self.matrix, self.subset, offset, scale)
        rows = make_rows(
            self.matrix, offset, scale, subset=self.subset, weights=self.weights
        )
        rows = rows._replace(first_number=self.first_number)
        return rows if self.numbers is None else rows._replace(numbers=self.numbers)


def measure(data):
    """Mean of every feature and root mean square of the centred entries.

    Parameters
    ----------
    data : Selection

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
    """Mean and root mean square as of `measure`, with samples more that are all equal.

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
    data : Selection

    mean : ndarray of shape (n_features,)

    spread : float
        Not 0. What `measure` has found: divided by it, squares cannot overflow.

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
        return chunk.values[chunk.first_row].astype(np.float64)
    return None


def _deviations(data, origin):
    """Sum of the deviations from a row, the largest of all, and the total weight."""
    total, largest = np.zeros((2, data.n_features))
    weight = 0.0
    for chunk in _chunks(data):
        chunk.run(row_access.add_deviations, origin, total, largest)
        weight += chunk.total_weight
    return total, largest.max(), weight


def _squared_deviations(data, mean, size):
    """Sum of the squared deviations from the mean, in units of `size`."""
    squares = np.zeros(data.n_features)
    for chunk in _chunks(data):
        chunk.run(row_access.add_squared_deviations, mean, squares, np.array([size]))
    return squares


def _extremes(data):
    low, high = np.inf, -np.inf
    for chunk in _chunks(data):
        values = chunk.used_values
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


def _largest_square(data, mean, spread):
    """The largest squared distance from the mean, in units of `spread`."""
    largest = 0.0
    for chunk in _chunks(data):
        deviations = (chunk.used_values.astype(np.float64) - mean) / spread
        squares = np.einsum("ij,ij->i", deviations, deviations)
        largest = max(largest, float(squares.max()))
    return largest


class _Chunk(NamedTuple):
    """Dense rows, or some of them, with weights; empty arrays: all of them, ones."""

    values: np.ndarray
    subset: np.ndarray  # int32
    weights: np.ndarray  # float64, of all rows

    @property
    def n_rows(self):
        return self.subset.size or len(self.values)

    @property
    def first_row(self):
        """Of those that count."""
        first = 0
        if self.weights.size:
            used = self.weights[self.subset] if self.subset.size else self.weights
            first = int(np.argmax(used > 0))
        return self.subset[first] if self.subset.size else first

    @property
    def used_values(self):
        """Rows that count."""
        used = self.subset if self.subset.size else slice(None)
        values = self.values[used]
        return values[self.weights[used] > 0] if self.weights.size else values

    @property
    def total_weight(self):
        return total_weight(self.weights, self.subset, self.n_rows)

    def run(self, compiled_pass, *arrays):
        sizes = self.n_rows, self.values.shape[1]
        compiled_pass(self.values, self.subset, self.weights, *arrays, *sizes)


def _chunks(data):
    """Chunks of the rows with some weight in them; of a dense matrix, not copied."""
    X, subset, none = data.matrix, data.subset, np.empty(0, dtype=np.int32)
    weights = np.empty(0) if data.weights is None else data.weights
    is_dense = isinstance(X, np.ndarray)
    # In chunks even if dense, so that Ctrl-C is noticed between them.
    for batch in row_chunks(data.n_rows, data.n_features):
        rows = batch if subset is None else subset[batch]
        of_rows = weights[rows] if weights.size else weights
        if is_dense and subset is not None:  # rows of a stream may be beyond 2**31
            chunk = _Chunk(X, rows.astype(np.int32, copy=False), weights)
        else:
            values = dense(X[rows])
            if sparse.issparse(X):
                values = np.ascontiguousarray(values)
            chunk = _Chunk(values, none, of_rows)
        if chunk.total_weight > 0:
            yield chunk
