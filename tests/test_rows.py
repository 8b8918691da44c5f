"""A matrix as the kernels see it."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from skae._data import rows as rows_module
from skae._data.rows import density, make_rows, pieces, row_chunks
from skae._data.statistics import mean_and_scale

from .support.rows import gathered, make_data, numbers_of


@pytest.mark.parametrize("subset", [None, np.array([5, 2, 19])])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csr_array])
def test_kernels_see_centred_and_scaled_rows(make, subset):
    X, _ = make_data()
    mean, scale = mean_and_scale(make_rows(X))
    rows = make_rows(make(X), mean, scale, subset=subset)
    used = slice(None) if subset is None else subset
    np.testing.assert_allclose(gathered(rows), ((X - mean) / scale)[used], rtol=1e-14)


def test_rows_share_memory():
    X, weights = make_data()
    rows = make_rows(X, weights=weights)
    assert np.shares_memory(rows.values, X)
    assert np.shares_memory(rows.weights, weights)


def test_total_weight_and_slices():
    X, weights = make_data()
    rows = make_rows(X, weights=weights)
    assert rows.total_weight == weights.sum()
    piece = rows.part(slice(3, 8))
    assert (piece.n_rows, piece.total_weight) == (5, weights[3:8].sum())
    np.testing.assert_array_equal(gathered(piece), X[3:8])
    subset = np.array([1, 5, 9, 11])
    rows = make_rows(X, subset=subset)
    assert rows.total_weight == 4
    np.testing.assert_array_equal(gathered(rows.part(slice(1, 3))), X[[5, 9]])
    assert rows.empty().n_rows == 0


@pytest.mark.parametrize("numbered", ["by position", "from 100 on", "anyhow"])
@pytest.mark.parametrize("subset", [None, np.array([1, 2, 5, 7, 11, 12, 19])])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_parts_of_parts(make, subset, numbered):
    X, weights = make_data()
    whole = make_rows(make(X), np.ones(7), 2.0, subset=subset, weights=weights)
    if numbered == "from 100 on":
        whole = whole._replace(first_number=100)
    elif numbered == "anyhow":
        numbers = np.random.default_rng(0).integers(0, 10**12, 20)
        whole = whole._replace(numbers=numbers)
    part = whole.part(slice(1, 6)).part(slice(2, 5))
    np.testing.assert_array_equal(gathered(part), gathered(whole)[3:6])
    np.testing.assert_array_equal(numbers_of(part), numbers_of(whole)[3:6])
    used = np.arange(20) if subset is None else subset
    assert part.total_weight == weights[used[3:6]].sum()
    assert np.shares_memory(part.values, whole.values)


@pytest.mark.parametrize("n_rows", [1, 5, 6, 20])
def test_pieces(n_rows, monkeypatch):
    """Themselves where they are few, or bounded parts in order."""
    monkeypatch.setattr(rows_module, "_PIECE_ENTRIES", 7 * 5 + 6)
    X, weights = make_data(n_rows)
    rows = make_rows(X, weights=weights)
    found = [*pieces(rows)]
    assert (found[0] is rows) == (n_rows <= 5)
    assert [piece.n_rows for piece in found[:-1]] == [5] * (len(found) - 1)
    assert 0 < found[-1].n_rows <= 5
    np.testing.assert_array_equal(
        np.vstack([gathered(r) for r in found]), gathered(rows)
    )
    assert np.concatenate([numbers_of(r) for r in found]).tolist() == [*range(n_rows)]
    assert sum(piece.total_weight for piece in found) == rows.total_weight


def test_chunks_cover_all_rows_in_bounded_memory():
    chunks = list(row_chunks(10_000_000, 1000))
    assert chunks[0].start == 0
    assert chunks[-1].stop == 10_000_000
    assert all(a.stop == b.start for a, b in itertools.pairwise(chunks))
    assert max(c.stop - c.start for c in chunks) * 1000 <= 2**19
    assert list(row_chunks(3, 10**8)) == [slice(0, 1), slice(1, 2), slice(2, 3)]


def test_strided_csr_arrays_are_copied():
    columns, starts = np.arange(6) % 3, np.array([0, 2, 4, 6])
    X = sparse.csr_matrix(
        (np.broadcast_to(2.0, 6), np.repeat(columns, 2)[::2], starts), shape=(3, 3)
    )
    rows = make_rows(X, np.zeros(3), 1.0)
    np.testing.assert_array_equal(gathered(rows), X.toarray())


@pytest.mark.parametrize("subset", [None, np.arange(5000, 20_000)])
def test_density(subset):
    X = np.random.default_rng(0).random((20_000, 7))
    X = np.where(X < 0.3, X, 0)
    used = X if subset is None else X[subset]
    found = density(make_rows(X, subset=subset))
    assert found == pytest.approx((used != 0).mean(), abs=0.02)
    assert density(make_rows(X, np.eye(7)[3], 1.0, subset=subset)) == 1  # centred
    X = sparse.csr_matrix(X)
    assert density(make_rows(X, np.zeros(7), 1.0)) == X.nnz / (20_000 * 7)
    assert density(make_rows(np.eye(3), np.zeros(3), 1.0).empty()) == 1
