"""RowStream: rows that are read in blocks, again for every pass."""

import contextlib
import itertools
import mmap
import tempfile

import numpy as np
import pytest
from scipy import sparse

from skae._data import rows as rows_module
from skae._data import stream as stream_module
from skae._data.stream import RowStream, StreamedRows
from skae._data.validation import Checked, check_rows

from .support.blocks import (
    N_ROWS,
    Blocks,
    Later,
    assert_same_training,
    has_no_temporary_files,
    temporary_files,
    typed,
)
from .support.cases import make, make_data
from .support.memory import peak_memory


def as_matrix(block, dtype):
    matrix = block if sparse.issparse(block) else np.asarray(block, dtype)
    return Checked(matrix, has_missing=False)


def stream_of(X, cuts=(1, 1, 57, 58, 140)):
    blocks = Blocks.of(X, cuts)

    return RowStream(blocks, as_matrix), blocks


def test_what_is_checked():
    """Blocks that have rows; after the first, with the type of that."""
    X, seen = make_data(N_ROWS).astype(np.float32), []

    def check(block, dtype):
        seen.append((len(block), dtype))
        return as_matrix(block, dtype)

    stream = RowStream(Blocks.of(X), check)
    assert [n_rows for n_rows, _ in seen] == [1, 56, 1, 82, 10]
    assert [dtype for _, dtype in seen] == [None] + 4 * [X.dtype]
    del seen[:]
    np.testing.assert_array_equal(stream[slice(0, 3)], X[:3])
    assert seen == [(1, X.dtype), (56, X.dtype)]


@pytest.mark.parametrize("make_matrix", [np.asarray, sparse.csr_matrix])
def test_rows_by_slices_and_by_numbers(make_matrix):
    X = make_matrix(make_data(N_ROWS))
    stream, blocks = stream_of(X)
    assert (stream.shape, stream.dtype) == (X.shape, X.dtype)
    rng, dense = np.random.default_rng(0), rows_module.dense
    for _ in range(50):
        start, stop = np.sort(rng.integers(0, N_ROWS + 1, 2))
        if start < stop:
            rows = slice(int(start), int(stop))
            np.testing.assert_array_equal(dense(stream[rows]), dense(X[rows]))
        rows = np.flatnonzero(rng.random(N_ROWS) < rng.random())
        if rows.size:
            np.testing.assert_array_equal(dense(stream[rows]), dense(X[rows]))
    stream.close()
    assert blocks.n_made == blocks.n_closed


def test_rows_in_order_are_read_once():
    X = make_data(N_ROWS)
    stream, blocks = stream_of(X)
    first = stream[slice(0, 20)]
    assert stream[slice(0, 20)] is first
    assert blocks.n_made == 2
    np.testing.assert_array_equal(stream[slice(20, 80)], X[20:80])
    np.testing.assert_array_equal(stream[np.array([99, 120])], X[[99, 120]])
    np.testing.assert_array_equal(stream[np.array([99, 120])], X[[99, 120]])
    assert (blocks.n_made, blocks.n_closed) == (2, 1)
    np.testing.assert_array_equal(stream[np.array([99, 149])], X[[99, 149]])
    assert (blocks.n_made, blocks.n_closed) == (3, 3)
    # A pass that has ended is not gone on with, not even for the same rows.
    np.testing.assert_array_equal(stream[np.array([99, 149])], X[[99, 149]])
    assert blocks.n_made == 4


def test_rows_that_are_derived():
    """In every pass to its end, though the last rows are not in use; then left."""
    X = make_data(N_ROWS)
    stream, blocks = stream_of(X)
    used = np.arange(0, N_ROWS - 20, 3)
    rows = StreamedRows(stream, used, np.zeros(X.shape[1]), 2.0)

    def doubled(rows, factor):
        values = factor * rows.values.reshape(rows.n_rows, -1)
        return rows_module.make_rows(values, np.zeros(X.shape[1]), 1.0)

    with contextlib.ExitStack() as on_close:
        derived = rows.transformed(on_close, doubled, 2.0)
        for _ in range(2):
            values = derived.part(slice(0, len(used))).values
            np.testing.assert_array_equal(values, 2.0 * X[used].ravel())
            assert blocks.n_made == blocks.n_closed
        derived.part(slice(0, 5))
        assert derived.stream._blocks is not None
    assert derived.stream._blocks is None


def test_nan_is_the_same_in_each_pass():
    """Codes of a layer may have some."""
    X = np.full((5, 2), np.nan)
    stream = RowStream(lambda: [X], as_matrix)
    for _ in range(2):
        np.testing.assert_array_equal(stream[slice(0, 5)], X)


def test_rows_of_one_block_are_not_copied():
    X = make_data(N_ROWS)
    stream, _ = stream_of(X)
    assert np.shares_memory(stream[slice(60, 130)], X)
    assert not np.shares_memory(stream[slice(130, 145)], X)


def test_few_rows_of_many_take_no_memory():
    block = np.random.default_rng(0).random((50_000, 20), dtype=np.float32)
    stream = RowStream(lambda: itertools.repeat(block, 10), as_matrix)

    def read():
        rows = stream[np.array([3, 200_000, 499_999])]
        np.testing.assert_array_equal(rows, block[[3, 0, 49_999]])
        kept = stream.spool(np.arange(3, 500_000, 5_000))
        np.testing.assert_array_equal(kept, np.tile(block[3::5_000], (10, 1)))

    assert peak_memory(read) < block.nbytes / 4


def is_mapped(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


NUMBERS = np.flatnonzero(np.random.default_rng(0).random(N_ROWS) < 0.3)


@pytest.mark.parametrize("columns_type", [None, np.int32, np.int64])
def test_spooled_rows(columns_type, tmp_path, monkeypatch, small_parts):
    """Of sparse ones their entries, not their zeros."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    X = make_data(N_ROWS)
    if columns_type is not None:
        X = sparse.csr_array(typed(X, "csr", np.float32))
        X.indices, X.indptr = (a.astype(columns_type) for a in (X.indices, X.indptr))
    kept, expected = stream_of(X)[0].spool(NUMBERS), X[NUMBERS]
    parts = [(kept, expected)]
    if columns_type is not None:
        parts = [(getattr(kept, n), getattr(expected, n)) for n in ("data", "indices")]
        assert (kept.dtype, kept.indices.dtype) == (np.float32, np.int32)
        np.testing.assert_array_equal(kept.indptr, expected.indptr)
    for array, of_rows in parts:
        assert is_mapped(array)
        np.testing.assert_array_equal(array, of_rows)
    assert temporary_files(tmp_path)
    del kept, array, parts
    assert has_no_temporary_files(tmp_path)


def test_spooled_rows_without_entries():
    X = sparse.csr_matrix((N_ROWS, 6))
    stream, _ = stream_of(X)
    kept = stream.spool(NUMBERS)
    assert kept.nnz == 0
    np.testing.assert_array_equal(kept.toarray(), np.zeros((len(NUMBERS), 6)))


@pytest.mark.parametrize("subset", [None, np.flatnonzero(np.arange(N_ROWS) % 3)])
@pytest.mark.parametrize("batch_size", [1, 7, 22, 1000])
def test_windows_are_whole_mini_batches(batch_size, subset, small_parts):
    X = make_data(N_ROWS)
    stream, _ = stream_of(X)
    rows = StreamedRows(stream, subset, np.zeros(6), 1.0)
    used = np.arange(N_ROWS) if subset is None else subset
    windows = [*rows.windows(batch_size)]
    first = rows.first_window(batch_size)
    assert first.n_rows == max(window.n_rows for *_, window in windows)
    np.testing.assert_array_equal(first.values, windows[0][-1].values)
    assert [number for number, *_ in windows] == [*range(len(windows))]
    n_before = 0
    for number, start, window in windows:
        assert start == n_before
        n_before += window.n_rows
        if number + 1 < len(windows):
            assert window.n_rows % batch_size == 0
            assert window.n_rows <= max(22, batch_size)
        here = used[start:n_before]
        np.testing.assert_array_equal(window.values.reshape(-1, 6), X[here])
        numbers = window.numbers
        if not numbers.size:
            numbers = window.first_number + np.arange(window.n_rows)
        np.testing.assert_array_equal(numbers, here)
    assert n_before == rows.n_rows == len(used)


def test_more_rows_behind_the_last_that_are_trained_on():
    """An epoch reads them, though it has no use for them."""
    X = make_data(20)
    stream = RowStream(Later(X, others=[X, X[:2]], from_pass=2), as_matrix)
    rows = StreamedRows(stream, np.arange(15), np.zeros(6), 1.0)
    with pytest.raises(ValueError, match="gave 22 rows, and 20 the first time"):
        [*rows.windows(5)]


def rows_with_entries(n_rows, n_entries, n_features=1000):
    """A CSR matrix that has so many entries in every row."""
    rng = np.random.default_rng(0)
    columns = [rng.choice(n_features, n_entries, replace=False) for _ in range(n_rows)]
    rows = np.repeat(np.arange(n_rows), n_entries)
    where = rows, np.concatenate(columns)
    values = rng.random(n_rows * n_entries)
    return sparse.csr_matrix((values, where), shape=(n_rows, n_features))


@pytest.mark.parametrize("n_entries", [0, 1, 3, 20])
def test_windows_of_sparse_rows_have_so_many_entries(n_entries, monkeypatch):
    """Zeros are not counted; a row of nothing else as one entry."""
    monkeypatch.setattr(stream_module, "_WINDOW_ENTRIES", 100)
    stream, _ = stream_of(rows_with_entries(N_ROWS, n_entries))
    windows = StreamedRows(stream, None, np.zeros(1000), 1.0).windows(5)
    sizes = [window.n_rows for *_, window in windows]
    size = {0: 100, 1: 100, 3: 30, 20: 5}[n_entries]
    assert sizes == [size] * (N_ROWS // size) + [N_ROWS % size] * (N_ROWS % size > 0)


def test_windows_of_sparse_rows_of_several_lengths(monkeypatch):
    """Their mean counts."""
    monkeypatch.setattr(stream_module, "_WINDOW_ENTRIES", 100)
    parts = rows_with_entries(100, 1), rows_with_entries(50, 4)
    stream, _ = stream_of(sparse.vstack(parts, format="csr"))
    assert stream.row_entries == 2
    rows = StreamedRows(stream, None, np.zeros(1000), 1.0)
    assert [window.n_rows for *_, window in rows.windows(5)] == [50, 50, 50]
    assert stream_of(parts[0][:, :3].toarray(), ())[0].row_entries == 3


def test_sparse_data_of_one_window_are_shuffled_as_in_fit(monkeypatch):
    X = rows_with_entries(N_ROWS, 3, n_features=100)
    monkeypatch.setattr(stream_module, "_WINDOW_ENTRIES", 3 * 154)  # 22 mini-batches
    streamed = make("minibatch", scale=None).fit_batches(Blocks.of(X))
    assert_same_training(streamed, make("minibatch", scale=None).fit(X))


@pytest.mark.parametrize("offset", [0, 3])
def test_a_memory_map_is_aligned_where_it_is_validated(offset, tmp_path):
    """So that nothing behind that copies it again, and nothing what is aligned."""
    X = np.memmap(tmp_path / "rows", np.float32, "w+", offset, shape=(60, 6))
    X[:] = make_data()
    validated, _ = check_rows(make("adam"), X, np.float32, reset=True)
    assert np.shares_memory(validated, X) == (offset == 0)
    rows = rows_module.make_rows(validated, np.zeros(6), 1.0)
    assert np.shares_memory(rows.values, validated)
