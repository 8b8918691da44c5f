"""A matrix as the kernels see it, and its mean and scale."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches

from skae import _row_passes
from skae._memory import Rows

# Rows are visited in chunks of about so many entries (4 MiB of float64) wherever a
# pass over them needs copies.
_CHUNK_ENTRIES = 2**19
# Data whose spread is below this many roundings of its mean are constant: their
# centred values are nothing but rounding errors.
_CONSTANT_ROUNDINGS = 1000


def row_chunks(n_rows, n_features):
    """Slices over the rows, of bounded memory."""
    return gen_batches(n_rows, max(1, _CHUNK_ENTRIES // n_features))


def dense(chunk):
    """A chunk of rows as an ndarray."""
    return chunk.toarray() if sparse.issparse(chunk) else chunk


def measure(X, *, subset=None, weights=None):
    """Mean of every feature and root mean square of the centred entries.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_rows, n_features)

    subset : ndarray of int, default=None
        Rows in use; None for all.

    weights : ndarray of shape (n_rows,), default=None
        Sample weights of all rows.

    Returns
    -------
    mean : ndarray of shape (n_features,), dtype=float64

    scale : float
        0 for constant data.
    """
    n_features = X.shape[1]
    total, largest, squares = np.zeros((3, n_features))
    total_weight = 0.0
    origin = None
    for part in _parts(X, subset, weights):
        if origin is None:
            # Sums are relative to some row: the mean of a constant feature is exact.
            origin = part.values[part.first_row].astype(np.float64)
        part.run(_row_passes.add_deviations, origin, total, largest)
        total_weight += part.total_weight
    mean, size = origin + total / total_weight, largest.max()
    if size == 0:
        return mean, 0.0
    # Again, as the difference of two large sums would lose the digits. Divided by the
    # largest deviation, squares cannot overflow.
    for part in _parts(X, subset, weights):
        part.run(_row_passes.add_squared_deviations, mean, squares, np.array([size]))
    scale = size * float(np.sqrt((squares / total_weight).mean()))
    rounding = np.finfo(np.float64).eps * np.abs(mean).max()
    return mean, 0.0 if scale <= _CONSTANT_ROUNDINGS * rounding else scale


def extremes(X, *, subset=None, weights=None):
    """Lowest and highest entry of the rows in use that have a weight.

    The arguments are those of `measure`.
    """
    low, high = np.inf, -np.inf
    for part in _parts(X, subset, weights):
        used = part.subset if part.subset.size else slice(None)
        values = part.values[used]
        if part.weights.size:
            values = values[part.weights[used] > 0]
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


class _Part(NamedTuple):
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
    def total_weight(self):
        return _total_weight(self.weights, self.subset, self.n_rows)

    def run(self, compiled_pass, *arrays):
        sizes = self.n_rows, self.values.shape[1]
        compiled_pass(self.values, self.subset, self.weights, *arrays, *sizes)


def _parts(X, subset, weights):
    """Chunks of the rows with some weight in them; of a dense matrix, not copied."""
    none = np.empty(0, dtype=np.int32)
    subset = none if subset is None else subset.astype(np.int32, copy=False)
    weights = np.empty(0) if weights is None else weights
    if not sparse.issparse(X):
        X = np.require(X, requirements=["C", "A"])
    # In chunks even if dense, so that Ctrl-C is noticed between them.
    for batch in row_chunks(subset.size or X.shape[0], X.shape[1]):
        rows = subset[batch] if subset.size else batch
        of_rows = weights[rows] if weights.size else weights
        if sparse.issparse(X):
            part = _Part(X[rows].toarray(), none, of_rows)
        elif subset.size:
            part = _Part(X, rows, weights)
        else:
            part = _Part(X[rows], none, of_rows)
        if part.total_weight > 0:
            yield part


def make_rows(X, mean, scale, *, subset=None, weights=None):
    """Rows of a validated matrix for the kernels, without a copy of its values.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_rows, n_features)
        C-ordered, or CSR.

    mean : ndarray of shape (n_features,)

    scale : float

    subset : ndarray of int, default=None
        Rows in use; None for all.

    weights : ndarray of shape (n_rows,), default=None
        Sample weights of all rows.

    Returns
    -------
    rows : Rows
    """
    dtype = X.dtype
    columns, starts = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64)
    if sparse.issparse(X):
        values = np.ascontiguousarray(X.data)
        columns = np.ascontiguousarray(X.indices, dtype=np.int32)
        starts = np.ascontiguousarray(X.indptr, dtype=np.int64)
    else:
        values = np.require(X, requirements=["C", "A"]).reshape(-1)
    n_rows = X.shape[0] if subset is None else len(subset)
    subset = np.empty(0, dtype=np.int32) if subset is None else subset
    weights = np.empty(0) if weights is None else weights
    return Rows(
        values=values,
        columns=columns,
        starts=starts,
        subset=subset.astype(np.int32, copy=False),
        weights=weights,
        scaling=np.append(mean, 1 / scale).astype(dtype),
        n_features=X.shape[1],
        n_rows=n_rows,
        total_weight=_total_weight(weights, subset, n_rows),
    )


def _total_weight(weights, subset, n_rows):
    """Of the rows in use; empty arrays mean as in `Rows`."""
    if not weights.size:
        return float(n_rows)
    return float(weights[subset if subset.size else slice(None)].sum())


def weights_in_use(rows):
    """Weights of the rows in use, of shape (n_rows,); ones if there are none."""
    if not rows.weights.size or not rows.n_rows:
        return np.ones(rows.n_rows)
    return rows.weights[rows.subset if rows.subset.size else slice(None)]


# Rows that tell how many zeros there are in all.
_SAMPLED_ROWS = 1000


def density(rows):
    """About what share of the entries that a network sees are not zero."""
    if not rows.n_rows or rows.scaling[:-1].any():
        return 1.0
    if rows.starts.size:
        return rows.values.size / ((rows.starts.size - 1) * rows.n_features)
    step = -(-rows.n_rows // _SAMPLED_ROWS)
    used = rows.subset[::step] if rows.subset.size else slice(0, rows.n_rows, step)
    return float((rows.values.reshape(-1, rows.n_features)[used] != 0).mean())


def no_rows(rows):
    """Rows of the same type, none of them in use."""
    return rows._replace(n_rows=0, total_weight=0.0)


def slice_rows(rows, batch):
    """The rows in use of a slice."""
    subset = rows.subset[batch]
    if not rows.subset.size:
        subset = np.arange(batch.start, batch.stop, dtype=np.int32)
    return rows._replace(
        subset=subset,
        n_rows=subset.size,
        total_weight=_total_weight(rows.weights, subset, subset.size),
    )


def network_input(rows):
    """Rows as a network sees them, in chunks of bounded memory.

    Yields
    ------
    chunk : ndarray of shape (n_chunk, n_features), dtype=float64

    weights : ndarray of shape (n_chunk,), dtype=float64, or None
    """
    offset, factor = rows.scaling[:-1].astype(np.float64), float(rows.scaling[-1])
    read = _sparse_rows if rows.starts.size else _dense_rows
    for batch in row_chunks(rows.n_rows, rows.n_features):
        used = rows.subset[batch] if rows.subset.size else batch
        chunk = read(rows, used)
        chunk -= offset
        chunk *= factor
        yield chunk, rows.weights[used] if rows.weights.size else None


def _dense_rows(rows, used):
    """Rows of the matrix, by a slice or their numbers, in float64."""
    return rows.values.reshape(-1, rows.n_features)[used].astype(np.float64)


def _sparse_rows(rows, used):
    """The same of a sparse matrix, dense."""
    starts, stops = rows.starts[:-1][used], rows.starts[1:][used]
    counts = stops - starts
    if isinstance(used, slice):
        entries = slice(starts[0], stops[-1])
    else:
        before = np.cumsum(counts) - counts  # entries of the rows above
        entries = np.arange(counts.sum()) + np.repeat(starts - before, counts)
    chunk = np.zeros((len(counts), rows.n_features))
    row_numbers = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    chunk[row_numbers, rows.columns[entries]] = rows.values[entries]
    return chunk
