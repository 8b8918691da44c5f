"""Rows that do not fit in memory: read anew, in order, for every pass over them."""

import contextlib
import math
import tempfile
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from skae._data.rows import dense, has_matrices, make_rows, row_chunks

# Rows are held in memory, and shuffled, in windows of about so many stored entries (64
# MiB of float32, and sparse rows have their columns besides), or of one mini-batch, if
# that has more.
_WINDOW_ENTRIES = 2**24


class RowStream:
    """A matrix whose rows can be read in order only, as often as need be.

    Parameters
    ----------
    make_batches : callable
        Returns an iterable of blocks of rows, the same rows each time.

    check : callable
        ``check(block, dtype)`` returns a block that has rows as a C-ordered ndarray or
        a CSR matrix of a dtype; of the first block, None: of the dtype that all have.

    Attributes
    ----------
    shape : tuple of int

    dtype : dtype

    is_sparse : bool

    row_entries : float
        Stored entries of a row: the mean, but 1 at least.

    Raises
    ------
    TypeError
        If `make_batches` is no function or returns no iterable, or a block is (X, y).

    ValueError
        If there are no rows; if some blocks are dense and some sparse; if a later pass
        begins with another row, or has another number of them.
    """

    def __init__(self, make_batches, check):
        if not callable(make_batches):
            raise TypeError(
                "make_batches has to be a function that returns a fresh iterable of "
                f"blocks of rows each time it is called, not {_kind(make_batches)}"
            )
        self._make_batches, self._check = make_batches, check
        self._blocks: Any = None  # an iterator over blocks that are not read yet
        self._block: Any = None  # the block that was read last
        self._n_received = 0  # rows in the blocks of this pass so far
        self._n_given = 0  # of these, those that were given out or left out
        self._last: Any = None  # what was asked for last, and the answer
        # What the first block of all tells.
        self._first_row: Any = None  # of shape (1, n_features)
        self.dtype: Any = None
        self.is_sparse = False
        n_rows = n_features = n_entries = 0
        with self._closed_on_error():
            self._begin()
            while (block := self._next_block()) is not None:
                n_rows, n_features = n_rows + block.shape[0], block.shape[1]
                n_entries += block.size  # of a sparse block, those that are stored
        self.close()
        if not n_rows:
            raise ValueError(
                "make_batches gave no rows: it has to return a fresh iterable of "
                "blocks of rows each time it is called"
            )
        self.shape = n_rows, n_features
        self.row_entries = max(1.0, n_entries / n_rows)

    def __getitem__(self, rows):
        """Rows by a slice or by their numbers, which increase.

        Going back begins a pass anew, but for asking once more for what was read last.
        The rows are valid until more are read.
        """
        last, self._last = self._last, None
        if last is not None and _are_same(last[0], rows):
            return last[1]
        last = None  # it need not stay in memory
        with self._closed_on_error():
            found = self._read(rows)
        if self._blocks is not None:
            self._last = rows, found
        return found

    def spool(self, numbers):
        """Rows by their numbers, which increase, in temporary files that are mapped."""
        return (self._spool_sparse if self.is_sparse else self._spool_dense)(numbers)

    def _spool_dense(self, numbers):
        with tempfile.TemporaryFile() as file:
            for batch in row_chunks(len(numbers), math.ceil(self.row_entries)):
                _write(file, self[numbers[batch]])
            return _mapped(file, self.dtype, (len(numbers), self.shape[1]))

    def _spool_sparse(self, numbers):
        counts = [np.zeros(1, dtype=np.int64)]  # of stored entries, the rows'
        with tempfile.TemporaryFile() as values, tempfile.TemporaryFile() as columns:
            for batch in row_chunks(len(numbers), math.ceil(self.row_entries)):
                rows = self[numbers[batch]]
                counts.append(np.diff(rows.indptr))
                _write(values, rows.data)
                _write(columns, rows.indices.astype(np.int32, copy=False))
            starts = np.cumsum(np.concatenate(counts))
            parts = (
                _mapped(values, self.dtype, (starts[-1],)),
                # SciPy would copy columns of another type than it chooses. Only that
                # of more than 2**31 entries is int64.
                _mapped(columns, np.dtype(np.int32), (starts[-1],)),
                starts,
            )
            return sparse.csr_matrix(parts, shape=(len(numbers), self.shape[1]))

    def finish(self):
        """Read the blocks that are not read, as there may be more than there were."""
        if self._blocks is not None:
            with self._closed_on_error():
                self._expect_end()

    def close(self):
        """Leave the blocks that are not read."""
        blocks, self._blocks = self._blocks, None
        self._block = self._last = None
        if hasattr(blocks, "close"):  # a generator, which may hold a file open
            blocks.close()

    @contextlib.contextmanager
    def _closed_on_error(self):
        """Begin anew after an error: an iterator that has raised one gives no more."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _begin(self):
        """Begin a pass."""
        self.close()
        blocks = self._make_batches()
        if hasattr(blocks, "shape"):  # of an array the rows would be taken for blocks
            raise TypeError(
                f"make_batches returned {_kind(blocks)}, but has to return an iterable "
                "of blocks of rows: a list of it, or slices of it"
            )
        try:
            self._blocks = iter(blocks)
        except TypeError:
            raise TypeError(
                "make_batches has to return an iterable of blocks of rows, not "
                f"{_kind(blocks)}"
            ) from None
        self._n_received = self._n_given = 0

    def _next_block(self):
        """The next block that has rows, checked; None behind the last."""
        for block in self._blocks:
            try:
                checked = self._checked(block)
            except (TypeError, ValueError) as error:
                error.add_note(f"In the block that begins with row {self._n_received}")
                raise
            if checked is not None:
                self._n_received += checked.shape[0]
                return checked
        return None

    def _checked(self, block):
        """A block as all are; None if it has no rows."""
        _expect_no_target(block)
        if _has_no_rows(block):
            self._expect_features(np.shape(block)[1:])
            return None
        checked = self._check(block, self.dtype)
        is_sparse = sparse.issparse(checked)
        if self._first_row is None:
            self.dtype, self.is_sparse = checked.dtype, is_sparse
            self._first_row = dense(checked[:1]).copy()
        if is_sparse != self.is_sparse:
            raise ValueError(
                "make_batches gave dense and sparse blocks: they have to be all "
                "dense, or all sparse"
            )
        if not self._n_received:
            self._expect_first_row(checked)
        return checked

    def _expect_features(self, widths):
        """Raise ValueError if a block without rows is not as wide as the others.

        An empty list tells no width, nor has it to fit before there is a row.
        """
        if widths and self._first_row is not None:
            n_features = self._first_row.shape[1]
            if widths != (n_features,):
                raise ValueError(
                    f"make_batches gave a block without rows, of {widths[0]} features, "
                    f"but the others have {n_features} features"
                )

    def _expect_first_row(self, block):
        """Raise ValueError if a pass begins with another row than the first did.

        All rows would have to be kept to notice every change; loaders that mix the rows
        anew in each pass are noticed so.
        """
        # NaN may come of rows that are derived.
        if not np.array_equal(dense(block[:1]), self._first_row, equal_nan=True):
            raise ValueError(
                "make_batches gave other rows, or the same in another order, than the "
                "first time it was called: it has to return a fresh iterable over the "
                "same rows, in the same order, each time; fit_batches mixes them "
                "itself (shuffle=True)"
            )

    def _read(self, rows):
        """What is asked for, of this pass or a new one."""
        start, stop, n_rows = _bounds(rows)
        if self._blocks is None or start < self._n_given:
            self._begin()
        pieces, is_end = self._pieces(rows, stop), stop == self.shape[0]
        if self.is_sparse:
            found = _stacked(pieces)
        else:
            # Another block is asked for to see the pass end.
            found = self._joined(pieces, n_rows, may_be_view=not is_end)
        if is_end:
            self._expect_end()
        return found

    def _pieces(self, rows, stop):
        """What is asked for, block by block: which part of the answer, and its rows.

        Rows are a view of the block, where they can be.
        """
        while self._n_given < stop:
            if self._n_given == self._n_received:
                self._block = None  # it need not stay in memory
                self._block = self._next_block()
                if self._block is None:
                    raise self._other_number(self._n_received)
            begin = self._n_received - self._block.shape[0]
            self._n_given = min(stop, self._n_received)
            part, of_block = _between(rows, begin, self._n_received)
            if part.start < part.stop:
                yield part, self._block[of_block]

    def _joined(self, pieces, n_rows, *, may_be_view):
        """Dense pieces as one array.

        When the next block is asked for, the last one may be overwritten, as by
        `readinto`: a view of it is safe only where it is all, and the rest can wait.
        """
        found = None
        for part, piece in pieces:
            if found is None:
                if may_be_view and part.stop == n_rows:
                    return piece
                found = np.empty((n_rows, self.shape[1]), self.dtype)
            found[part] = piece
        return found

    def _expect_end(self):
        while self._next_block() is not None:
            pass
        self.close()
        if self._n_received != self.shape[0]:
            raise self._other_number(self._n_received)

    def _other_number(self, n_rows):
        return ValueError(
            f"make_batches gave {n_rows} rows, and {self.shape[0]} the first time it "
            "was called: it has to return a fresh iterable over the same rows each time"
        )


def _kind(value):
    """An object's type, in words of an error message."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _are_same(rows, others):
    """Whether two slices, or arrays of numbers, are the same."""
    if isinstance(rows, slice) or isinstance(others, slice):
        return isinstance(rows, slice) and isinstance(others, slice) and rows == others
    return np.array_equal(rows, others)


def _has_no_rows(block):
    if isinstance(block, list | tuple):
        return not block  # `np.shape` would convert it
    return np.shape(block)[:1] == (0,)


def _expect_no_target(block):
    """Raise TypeError if a block is (X, y)."""
    if has_matrices(block):
        raise TypeError(
            f"make_batches gave a {type(block).__name__} of matrices, such as (X, y), "
            "but a block is X alone, there is no y: for X, y in loader: yield X"
        )


def _bounds(rows):
    """Of what is asked for: the first row, the last plus one, and how many."""
    if isinstance(rows, slice):
        return rows.start, rows.stop, rows.stop - rows.start
    return rows[0], rows[-1] + 1, len(rows)


def _between(rows, begin, end):
    """What is asked for of the rows of a block, from `begin` to before `end`.

    As a slice of the answer, and as rows of the block: a slice, or their numbers.
    """
    if isinstance(rows, slice):
        first, last = np.clip([begin, end], rows.start, rows.stop).tolist()
        part = slice(first - rows.start, last - rows.start)
        return part, slice(first - begin, last - begin)
    part = slice(*np.searchsorted(rows, [begin, end]).tolist())
    return part, rows[part] - begin


def _stacked(pieces):
    """CSR pieces as one; SciPy's slices are copies."""
    matrices = [piece for _, piece in pieces]
    return matrices[0] if len(matrices) == 1 else sparse.vstack(matrices, format="csr")


def _write(file, array):
    # Written to a map, it would end the process where the disk is full.
    file.write(np.ascontiguousarray(array).data)


def _mapped(file, dtype, shape):
    """What was written to a temporary file: a memory map, which keeps it open."""
    file.flush()
    if 0 in shape:
        return np.empty(shape, dtype)  # there are no empty maps
    return np.memmap(file, dtype, mode="r", shape=shape)


class StreamedRows(NamedTuple):
    """Rows of a stream, without weights; methods as in `AnyRows`."""

    stream: RowStream
    # Numbers of the rows in use, int64, in increasing order; None: all.
    subset: np.ndarray | None = None
    offset: np.ndarray | None = None  # (n_features,); None: 0
    scale: float = 1.0

    @property
    def is_in_memory(self):
        return False

    @property
    def n_rows(self):
        return self.stream.shape[0] if self.subset is None else len(self.subset)

    @property
    def n_features(self):
        return self.stream.shape[1]

    @property
    def dtype(self):
        return self.stream.dtype

    @property
    def weights(self):
        return np.empty(0)

    @property
    def total_weight(self):
        return float(self.n_rows)

    def choose(self, numbers):
        return self._replace(subset=numbers)

    def scaled(self, offset, scale):
        return self._replace(offset=offset, scale=scale)

    def materialized(self):
        numbers = np.arange(self.n_rows) if self.subset is None else self.subset
        rows = make_rows(self.stream.spool(numbers), self.offset, self.scale)
        return rows._replace(numbers=numbers.astype(np.int64, copy=False))

    def map(self, function, *args):
        return [function(self, *args)]

    def transformed(self, on_close, function, *args):
        """Rows as in `AnyRows`, computed in each pass from the rows that are read."""

        def blocks():
            for batch in row_chunks(self.n_rows, self.n_features):
                rows = function(self.part(batch), *args)
                yield rows.values.reshape(rows.n_rows, rows.n_features)
            self.stream.finish()

        stream = RowStream(blocks, lambda block, dtype: block)
        on_close.callback(stream.close)
        return StreamedRows(stream)

    def empty(self):
        nothing = np.empty((0, self.n_features), self.dtype)
        return make_rows(nothing, self.offset, self.scale)

    def part(self, batch):
        """The rows in use of a slice, in memory: `Rows`."""
        used = batch if self.subset is None else self.subset[batch]
        rows = make_rows(self.stream[used], self.offset, self.scale)
        if self.subset is None:
            return rows._replace(first_number=batch.start)
        return rows._replace(numbers=used.astype(np.int64, copy=False))

    def windows(self, batch_size):
        """Parts of an epoch: number, position of the first row, rows.

        They have whole mini-batches, but for the last.
        """
        size = self._window_rows(batch_size)
        for number, start in enumerate(range(0, self.n_rows, size)):
            yield number, start, self._window(start, size)
        self.stream.finish()  # the next epoch is a pass of its own

    def first_window(self, batch_size):
        """Rows of the first of `windows`, which none has more of."""
        return self._window(0, self._window_rows(batch_size))

    def _window(self, start, size):
        return self.part(slice(start, min(start + size, self.n_rows)))

    def _window_rows(self, batch_size):
        """Rows that are held in memory together."""
        n_entries = self.stream.row_entries * batch_size
        return max(1, int(_WINDOW_ENTRIES // n_entries)) * batch_size
