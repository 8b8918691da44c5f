"""Rows, and what kernels read of them."""

import numpy as np

from skae._compiled import row_access


def gathered(rows, n=None):
    """What the kernels gather."""
    n_rows = rows.n_rows if n is None else n
    block = np.empty((rows.n_features, n_rows))
    picked, none = np.empty(n_rows, dtype=np.int64), np.empty(0, dtype=np.int32)
    weights = np.empty(n_rows)
    row_access.pick(none, rows.subset, rows.weights, 0, n_rows, n_rows, picked, weights)
    to = picked, rows.scaling, block, n_rows, rows.n_features
    if rows.starts.size:
        row_access.gather_csr(rows.values, rows.columns, rows.starts, *to)
    else:
        row_access.gather(rows.values, *to)
    return block.T


def make_data(n_rows=20, n_features=7):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_features)) * (rng.random((n_rows, 1)) < 0.7)
    return X, rng.integers(0, 4, n_rows).astype(float)


def numbers_of(rows):
    """Numbers of the rows in use, which what is drawn for them depends on."""
    positions = rows.subset if rows.subset.size else np.arange(rows.n_rows)
    return (
        rows.numbers[positions]
        if rows.numbers.size
        else (rows.first_number + positions)
    )
