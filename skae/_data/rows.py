"""A matrix as the kernels see it."""

import numpy as np
from scipy import sparse

from skae._compiled.records import Rows, aligned, entries_of, total_weight

# Rows are visited in chunks of about so many entries (4 MiB of float64) wherever a
# pass over them needs copies.
_CHUNK_ENTRIES = 2**19
# Objectives over all rows are summed in pieces of about so many entries, whether the
# rows are in memory or not.
_PIECE_ENTRIES = 2**22


# Kernels have numbers of rows and columns as int32.
_MAX_SIZE = 2**31 - 1


def check_size(X, name="X"):
    """Raise ValueError if a matrix has more rows or columns than kernels can number."""
    for size, what in zip(np.shape(X), ("rows", "columns"), strict=False):
        # Of a collection of Dask's it may not be known yet.
        if isinstance(size, int | np.integer) and size > _MAX_SIZE:
            raise ValueError(
                f"{name} has {size:,} {what}, and at most {_MAX_SIZE:,} can be used at "
                "once. More rows can be read in blocks, by fit_batches"
            )


def has_matrices(value):
    """Whether something is (X, y), or [X, y], as data loaders give."""
    is_sequence = isinstance(value, list | tuple)
    return is_sequence and len(value) > 0 and np.ndim(value[0]) > 1


def row_chunks(n_rows, n_features):
    """Slices over the rows, of bounded memory."""
    return _slices(n_rows, max(1, _CHUNK_ENTRIES // n_features))


def _slices(n_rows, size):
    """As scikit-learn's `gen_batches`, whose checks take longer than few rows."""
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def piece_rows(n_features):
    """Rows that an objective over all of them is summed over at a time."""
    return max(1, _PIECE_ENTRIES // n_features)


def pieces(rows):
    """Parts of rows for sums over all of them: themselves, if they are few."""
    size = piece_rows(rows.n_features)
    if rows.n_rows <= size and isinstance(rows, Rows):
        yield rows
        return
    for batch in _slices(rows.n_rows, size):
        yield rows.part(batch)


def dense(chunk):
    """A chunk of rows as an ndarray."""
    return chunk.toarray() if sparse.issparse(chunk) else chunk


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
    check_size(X)
    values, columns = entries_of(X)
    starts = np.empty(0, dtype=np.int64)
    if sparse.issparse(X):
        starts = aligned(X.indptr.astype(np.int64, copy=False))
    n_rows = X.shape[0] if subset is None else len(subset)
    subset = np.empty(0, dtype=np.int32) if subset is None else subset
    weights = np.empty(0) if weights is None else weights
    return Rows(
        values=values,
        columns=columns,
        starts=starts,
        subset=subset.astype(np.int32, copy=False),
        weights=weights,
        scaling=np.append(mean, 1 / scale).astype(X.dtype),
        n_features=X.shape[1],
        n_rows=n_rows,
        total_weight=total_weight(weights, subset, n_rows),
    )


def weights_in_use(rows):
    """Weights of the rows in use, of shape (n_rows,); ones if there are none."""
    if not rows.weights.size or not rows.n_rows:
        return np.ones(rows.n_rows)
    return rows.weights[rows.subset if rows.subset.size else slice(None)]


def n_counted(rows):
    """How many rows in use have a weight."""
    return int(sum(rows.map(_n_counted_of_part)))


def _n_counted_of_part(rows):
    # Rows of a stream have no weights.
    return (
        np.count_nonzero(weights_in_use(rows))
        if isinstance(rows, Rows)
        else rows.n_rows
    )


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


def network_input(rows):
    """Rows as a network sees them, in chunks of bounded memory.

    Yields
    ------
    chunk : ndarray of shape (n_chunk, n_features), dtype=float64

    weights : ndarray of shape (n_chunk,), dtype=float64, or None
    """
    for batch in row_chunks(rows.n_rows, rows.n_features):
        part = rows.part(batch)
        used = part.subset if part.subset.size else slice(0, part.n_rows)
        chunk = (_sparse_rows if part.starts.size else _dense_rows)(part, used)
        chunk -= part.scaling[:-1].astype(np.float64)
        chunk *= float(part.scaling[-1])
        yield chunk, part.weights[used] if part.weights.size else None


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
