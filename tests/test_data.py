"""Mean and spread of the rows in use of a matrix."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from skae._data import rows as rows_module
from skae._data.rows import make_rows
from skae._data.statistics import (
    extremes,
    largest_distance,
    mean_and_scale,
    mean_and_spread,
)
from skae._data.stream import RowStream, StreamedRows
from skae._data.validation import Checked

from .support.rows import gathered, make_data, numbers_of


class Parts:
    """Rows in several parts, as partitions on other machines are."""

    def __init__(self, X, subset, weights, cuts):
        self.whole, self.n_features = (X, subset, weights), X.shape[1]
        self.bounds = [0, *cuts, len(X)]
        self.has_missing = False

    def map(self, function, *args):
        X, subset, weights = self.whole
        for a, b in itertools.pairwise(self.bounds):
            part = make_rows(X[a:b], weights=None if weights is None else weights[a:b])
            if subset is not None:
                part = part.choose(subset[(a <= subset) & (subset < b)] - a)
            yield function(part._replace(first_number=a), *args)


def stream_of(X):
    blocks = [X[a : a + 3] for a in range(0, len(X), 3)]
    return RowStream(lambda: blocks, lambda block, dtype: Checked(block, False))


@pytest.mark.parametrize("cuts", [(1, 4, 15), (3, 5, 18)])
@pytest.mark.parametrize("subset", [None, np.array([0, 3, 4, 19]), np.array([3, 4])])
@pytest.mark.parametrize("weighted", [False, True])
def test_parts_are_combined(subset, weighted, cuts):
    """Some of which have no rows in use."""
    X, weights = make_data()
    X += 10  # so that zero is not between the extremes
    of_rows = weights if weighted else None
    data = make_rows(X, subset=subset, weights=of_rows)
    parts = Parts(X, subset, of_rows, cuts)
    mean, scale = mean_and_scale(data)
    mean_of_parts, scale_of_parts = mean_and_scale(parts)
    np.testing.assert_allclose(mean_of_parts, mean, rtol=1e-14, atol=1e-16)
    assert scale_of_parts == pytest.approx(scale, rel=1e-14)
    used = np.arange(20) if subset is None else subset
    used = used[weights[used] > 0] if weighted else used
    assert extremes(data) == (X[used].min(), X[used].max())
    assert extremes(parts) == extremes(data)
    farthest = np.linalg.norm(X[used] - mean, axis=1).max()
    assert largest_distance(data, mean, 2.0) == pytest.approx(farthest, rel=1e-14)
    assert largest_distance(parts, mean, 2.0) == largest_distance(data, mean, 2.0)


@pytest.mark.parametrize("chunk_entries", [2**19, 30, 1])
@pytest.mark.parametrize("subset", [None, np.array([0, 3, 4, 18])])
def test_streams_have_the_same_bits(subset, chunk_entries, monkeypatch):
    monkeypatch.setattr(rows_module, "_CHUNK_ENTRIES", chunk_entries)
    X, _ = make_data()
    data = make_rows(X, subset=subset)
    streamed = StreamedRows(stream_of(X), subset)
    assert (streamed.n_rows, streamed.n_features) == (data.n_rows, data.n_features)
    assert streamed.dtype == data.dtype
    mean, scale = mean_and_scale(data)
    streamed_mean, streamed_scale = mean_and_scale(streamed)
    np.testing.assert_array_equal(streamed_mean, mean)
    assert (streamed_scale, extremes(streamed)) == (scale, extremes(data))
    farthest = [largest_distance(rows, mean, scale) for rows in (data, streamed)]
    assert farthest[0] == farthest[1]
    rows, seen = data.scaled(mean, scale), streamed.scaled(mean, scale)
    assert (seen.n_rows, seen.total_weight) == (rows.n_rows, rows.total_weight)
    for batch in (slice(0, 2), slice(1, 4)):
        here, there = rows.part(batch), seen.part(batch)
        np.testing.assert_array_equal(gathered(there), gathered(here))
        np.testing.assert_array_equal(numbers_of(there), numbers_of(here))


def test_rows_of_a_stream_may_have_numbers_beyond_32_bits():
    X, _ = make_data()
    beyond = 2**40

    class Far:
        """Rows of a stream that is too long to be read here."""

        shape, dtype, has_missing = (beyond + 20, 7), X.dtype, False

        def __getitem__(self, rows):
            return X[rows - beyond]

    numbers = np.array([3, 4, 18])
    mean, scale = mean_and_scale(StreamedRows(Far(), beyond + numbers))
    expected_mean, expected_scale = mean_and_scale(make_rows(X, subset=numbers))
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-14)
    assert scale == pytest.approx(expected_scale, rel=1e-14)


def test_materialized_rows_keep_their_numbers():
    X, _ = make_data()
    held_out = np.array([0, 3, 4, 18])
    in_memory = make_rows(X).choose(held_out)
    assert in_memory.materialized() is in_memory
    kept = StreamedRows(stream_of(X)).choose(held_out).materialized()
    rows, seen = (data.scaled(np.ones(7), 2.0) for data in (in_memory, kept))
    np.testing.assert_array_equal(gathered(seen), gathered(rows))
    np.testing.assert_array_equal(numbers_of(seen), held_out)


def test_a_part_has_the_numbers_of_the_whole():
    X, _ = make_data()
    rows = make_rows(X[5:])._replace(first_number=5)
    np.testing.assert_array_equal(numbers_of(rows), np.arange(5, 20))
    np.testing.assert_array_equal(numbers_of(rows.choose(np.array([1, 3]))), [6, 8])


@pytest.mark.parametrize("subset", [None, np.array([0, 3, 4, 19])])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("chunk_entries", [2**19, 30, 1])
def test_mean_and_scale(monkeypatch, subset, weighted, chunk_entries):
    monkeypatch.setattr(rows_module, "_CHUNK_ENTRIES", chunk_entries)
    X, weights = make_data()
    weights_given = weights if weighted else None
    mean, scale = mean_and_scale(make_rows(X, subset=subset, weights=weights_given))
    sparse_mean, *of_sparse = mean_and_scale(
        make_rows(sparse.csr_matrix(X), subset=subset, weights=weights_given)
    )
    np.testing.assert_array_equal(sparse_mean, mean)
    assert of_sparse == [scale]
    used = slice(None) if subset is None else subset
    repeats = weights[used].astype(int) if weighted else 1
    repeated = np.repeat(X[used], repeats, axis=0)
    np.testing.assert_allclose(mean, repeated.mean(axis=0), rtol=1e-12, atol=1e-15)
    assert scale == pytest.approx((repeated - repeated.mean(axis=0)).std(), rel=1e-12)


@pytest.mark.parametrize("is_table", [False, True])
@pytest.mark.parametrize("share", [0, 0.3])
def test_mean_and_spread(share, is_table):
    X, weights = make_data()
    X[:, 1] = 5.0
    X[:, 0] *= np.arange(len(X)) % 3 == 0
    X[np.random.default_rng(0).random(X.shape) < share] = np.nan
    if share:
        X[:, 2] = np.nan
    kind = sparse.csr_matrix if is_table else np.array
    rows = make_rows(kind(X), weights=weights, has_missing=bool(share))
    repeated = np.repeat(X, weights.astype(int), axis=0)
    expected_mean = repeated[:1].ravel() * np.nan
    known = ~np.isnan(repeated).all(axis=0)
    expected_mean[known] = np.nanmean(repeated[:, known], axis=0)
    expected_spread = np.zeros(X.shape[1])
    expected_spread[known] = np.nanstd(repeated[:, known], axis=0)
    mean, spread = mean_and_spread(rows, is_table=is_table)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(spread, expected_spread, rtol=1e-12)
    assert spread[1] == 0
    sizes = np.geomspace(1e-300, 1e300, X.shape[1])
    rows = make_rows(kind(X * sizes), weights=weights, has_missing=bool(share))
    of_scaled = mean_and_spread(rows, is_table=is_table)[1]
    np.testing.assert_allclose(of_scaled, spread * sizes, rtol=1e-12)


def test_scale_of_constant_huge_and_tiny_data():
    X, _ = make_data()
    _, scale = mean_and_scale(make_rows(X))
    for value in (0.0, 0.1, 1e8, -1e-30):
        assert mean_and_scale(make_rows(np.full((1000, 3), value)))[1] == 0
    for size in (1e-200, 1e155, 1e300):
        found = mean_and_scale(make_rows(X * size))[1]
        assert found == pytest.approx(scale * size, rel=1e-12)
    # A small spread around a large mean is seen.
    assert mean_and_scale(make_rows(X + 1e4))[1] == pytest.approx(scale, rel=1e-11)


def unaligned(array):
    """A copy, as one may come from another process."""
    raw = np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:]
    return raw.view(array.dtype).reshape(array.shape)


def arrays_of(record):
    return {k: v for k, v in record._asdict().items() if isinstance(v, np.ndarray)}


def moved(item):
    """A named tuple or a matrix that came from another process."""
    if isinstance(item, np.ndarray):
        return unaligned(item)
    if sparse.issparse(item):
        parts = (unaligned(item.data), unaligned(item.indices), item.indptr)
        return sparse.csr_matrix(parts, shape=item.shape)
    return item._replace(**{k: unaligned(v) for k, v in arrays_of(item).items()})


@pytest.mark.parametrize("make_matrix", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("has_own_matrix", [False, True])
def test_what_comes_back_is_aligned(has_own_matrix, make_matrix):
    pytest.importorskip("dask")
    from skae.dask.training import _WithOwnMatrix

    X, weights = make_data()
    matrix = make_matrix(X)
    item = make_rows(matrix, subset=np.arange(3, 15), weights=weights)
    if has_own_matrix:
        back = _WithOwnMatrix(moved(item)).with_matrix(None)
    else:
        back = moved(item.without_matrix()).with_matrix(moved(matrix))
        again = item.without_matrix().with_matrix(matrix)
        assert all(
            np.shares_memory(array, getattr(item, name))
            for name, array in arrays_of(again).items()
            if array.size
        )
    assert all(array.flags.aligned for array in arrays_of(back).values())
    np.testing.assert_equal(arrays_of(back), arrays_of(item))
