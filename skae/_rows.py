"""A matrix as the kernels see it, and its mean and scale."""

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches

from skae._kernels import Rows

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


def read_only(array):
    """A view of an array that nobody may write through.

    Kernels take what they only read as such views: data from a read-only memory map
    then need no compilation of their own, and a kernel cannot change them.
    """
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view


def measure(X, *, subset=None, weights=None):
    """Mean of every feature and root mean square of the centred entries.

    By einsum, not BLAS, whose roundings depend on its number of threads.

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
    n_rows = X.shape[0] if subset is None else len(subset)
    total, squares = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    total_weight = 0.0
    # Sums are relative to some row: the mean of a constant feature comes out exactly.
    first_chunk, _ = next(_weighted_chunks(X, subset, weights, n_rows))
    origin = first_chunk[0]
    size = 0.0
    for chunk, weight in _weighted_chunks(X, subset, weights, n_rows):
        size = max(size, np.abs(chunk - origin).max())
        total += np.einsum("i,ij->j", weight, chunk - origin)
        total_weight += weight.sum()
    mean = origin + total / total_weight
    if size == 0:
        return mean, 0.0
    # A second pass, as the difference of two large sums would lose the digits.
    for chunk, weight in _weighted_chunks(X, subset, weights, n_rows):
        centred = (chunk - mean) / size  # whose squares cannot overflow
        squares += np.einsum("i,ij->j", weight, centred * centred)
    scale = size * float(np.sqrt((squares / total_weight).mean()))
    rounding = np.finfo(np.float64).eps * np.abs(mean).max()
    return mean, 0.0 if scale <= _CONSTANT_ROUNDINGS * rounding else scale


def _weighted_chunks(X, subset, weights, n_rows):
    for batch in row_chunks(n_rows, X.shape[1]):
        picked = batch if subset is None else subset[batch]
        if weights is None:
            weight = np.ones(X[picked].shape[0])
        else:  # a row without weight counts for nothing, even if it would overflow
            picked = np.arange(n_rows)[batch] if subset is None else picked
            picked = picked[weights[picked] > 0]
            weight = weights[picked]
        if len(weight):
            yield dense(X[picked]).astype(np.float64, copy=False), weight


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
        values = X.data
        columns = X.indices.astype(np.int32, copy=False)
        starts = X.indptr.astype(np.int64, copy=False)
    else:
        values = np.require(X, requirements=["C", "A"]).reshape(-1)
    n_rows = X.shape[0] if subset is None else len(subset)
    subset = np.empty(0, dtype=np.int32) if subset is None else subset
    weights = np.empty(0) if weights is None else weights
    return Rows(
        values=read_only(values),
        columns=read_only(columns),
        starts=read_only(starts),
        subset=read_only(subset.astype(np.int32, copy=False)),
        weights=read_only(weights),
        scaling=read_only(np.append(mean, 1 / scale).astype(dtype)),
        n_features=X.shape[1],
        n_rows=n_rows,
        total_weight=_total_weight(weights, subset, n_rows),
    )


def _total_weight(weights, subset, n_rows):
    """Of the rows in use; empty arrays mean as in `Rows`."""
    if not weights.size:
        return float(n_rows)
    return float(weights[subset if subset.size else slice(None)].sum())


def no_rows(rows):
    """Rows of the same type, none of them in use."""
    return rows._replace(n_rows=0, total_weight=0.0)


def slice_rows(rows, batch):
    """The rows in use of a slice."""
    subset = rows.subset[batch]
    if not rows.subset.size:
        subset = np.arange(batch.start, batch.stop, dtype=np.int32)
    return rows._replace(
        subset=read_only(subset),
        n_rows=subset.size,
        total_weight=_total_weight(rows.weights, subset, subset.size),
    )
