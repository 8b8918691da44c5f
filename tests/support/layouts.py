"""A matrix in any layout and sparse format."""

import functools

import numpy as np
from scipy import sparse


def _misaligned(X):
    memory = np.empty(X.nbytes + 1, np.uint8)
    found = memory[1:].view(X.dtype).reshape(X.shape)
    found[...] = X
    return found


def _read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def _other_byte_order(X):
    return X.astype(X.dtype.newbyteorder())


def _broadcast(X):
    return np.broadcast_to(X[0].copy(), X.shape)


# Arrays of the same values, or of the first row's.
LAYOUTS = {
    "C": lambda X: X.copy(),
    "F": lambda X: np.asfortranarray(X.copy()),
    "read-only": _read_only,
    "backwards": lambda X: X[::-1].copy()[::-1],
    "columns backwards": lambda X: X[:, ::-1].copy()[:, ::-1],
    "both backwards": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "every third column": lambda X: np.repeat(X, 3, axis=1)[:, 1::3],
    "in the middle": lambda X: np.pad(X, 2, mode="edge")[2:-2, 2:-2],
    "misaligned": _misaligned,
    "other byte order": _other_byte_order,
    "broadcast": _broadcast,
}


def _with_duplicates(X):
    """Every entry is the sum of two halves, in no order."""
    half = (X / 2).astype(X.dtype)
    halves = half, X ^ half if X.dtype == bool else X - half
    rows, columns = np.indices(X.shape).reshape(2, -1)
    order = np.random.default_rng(0).permutation(2 * X.size)
    rows, columns = np.tile(rows, 2)[order], np.tile(columns, 2)[order]
    values = np.concatenate([half.ravel() for half in halves])[order]
    found = sparse.csr_matrix(X.shape, dtype=X.dtype)
    by_row = np.argsort(rows, kind="stable")
    starts = np.searchsorted(rows[by_row], np.arange(len(X) + 1))
    found.data, found.indices = values[by_row], columns[by_row].astype(np.int32)
    found.indptr = starts.astype(np.int32)
    return found


def _with_int64(X):
    found = sparse.csr_matrix(X)
    found.indices, found.indptr = found.indices.astype("i8"), found.indptr.astype("i8")
    return found


def _frozen_csr(X):
    found = sparse.csr_array(X)
    for name in ("data", "indices", "indptr"):
        setattr(found, name, _read_only(getattr(found, name)))
    return found


FORMATS = {
    **{
        f"{name}_{kind}": functools.partial(
            lambda of_name, X: of_name(X), getattr(sparse, f"{name}_{kind}")
        )
        for name in ("csr", "csc", "coo", "bsr", "dia", "dok", "lil")
        for kind in ("matrix", "array")
    },
    "with duplicates": _with_duplicates,
    "of int64": _with_int64,
    "read-only": _frozen_csr,
    "part of another": lambda X: sparse.csr_matrix(np.pad(X, 1))[1:-1, 1:-1],
}
