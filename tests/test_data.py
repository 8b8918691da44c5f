"""Mean and spread of the rows in use of a matrix."""

import numpy as np
import pytest
from scipy import sparse

from skae import _rows
from skae._data import Selection, measure

from .test_rows import make_data


@pytest.mark.parametrize("subset", [None, np.array([0, 3, 4, 19])])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("chunk_entries", [2**19, 30, 1])
def test_measure(monkeypatch, subset, weighted, chunk_entries):
    monkeypatch.setattr(_rows, "_CHUNK_ENTRIES", chunk_entries)
    X, weights = make_data()
    mean, scale = measure(Selection(X, subset, weights if weighted else None))
    used = slice(None) if subset is None else subset
    repeats = weights[used].astype(int) if weighted else 1
    repeated = np.repeat(X[used], repeats, axis=0)
    np.testing.assert_allclose(mean, repeated.mean(axis=0), rtol=1e-12, atol=1e-15)
    assert scale == pytest.approx((repeated - repeated.mean(axis=0)).std(), rel=1e-12)


def test_measure_of_sparse_is_that_of_dense():
    X, weights = make_data()
    mean, scale = measure(Selection(X, weights=weights))
    of_sparse = Selection(sparse.csr_matrix(X), weights=weights)
    sparse_mean, sparse_scale = measure(of_sparse)
    np.testing.assert_array_equal(sparse_mean, mean)
    assert sparse_scale == scale


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8, -1e-30])
def test_constant_data_have_no_scale(value):
    assert measure(Selection(np.full((1000, 3), value)))[1] == 0


@pytest.mark.parametrize("size", [1e-200, 1e155, 1e300])
def test_scale_of_huge_and_tiny_data(size):
    X, _ = make_data()
    _, scale = measure(Selection(X))
    assert measure(Selection(X * size))[1] == pytest.approx(scale * size, rel=1e-12)


def test_small_spread_around_a_large_mean_is_seen():
    X, _ = make_data()
    _, scale = measure(Selection(X + 1e4))
    assert scale == pytest.approx(measure(Selection(X))[1], rel=1e-11)
