"""Rows that do not fit in memory: read anew, in order, for every pass over them."""

import contextlib
import tempfile
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from skae._rows import dense, make_rows, row_chunks

# Rows are held in memory, and shuffled, in windows of about so many entries (64 MiB of
# float32), or of one mini-batch, if that has more.
_WINDOW_ENTRIES = 2**24


class RowStream:
    """A matrix whose rows can be read in order only, as often as need be.

    Parameters
    ----------
    make_batches : callable
        Returns an iterable of blocks of rows, the same rows each time.

    check : callable
        Returns a block as a C-ordered ndarray or a CSR matrix, all of one type.

    Attributes
    ----------
    shape : tuple of int

    dtype : dtype

    Raises
    ------
    ValueError
        If there are no rows, or another number of them in a later pass.
    """

    def __init__(self, make_batches, check):
        if not callable(make_batches):
            raise TypeError(
                "make_batches has to be a function that returns a fresh iterable of "
                f"blocks of rows each time it is called, not {_kind(make_batches)}"
            )
        self._make_batches, self._check = make_batches, check
        self._blocks: Any = None  # an iterator over blocks that are not read yet
        self._rest: Any = None  # what is left of the block that was read last
        self._position = 0  # of the rows, how many have been asked for
        self._n_read = 0  # and how many are in the blocks so far
        self._last: Any = None  # what was asked for last, and the answer
        n_rows, n_features = 0, 0
        with self._closed_on_error():
            self._begin()
            while (block := self._next_block()) is not None:
                n_rows, n_features = n_rows + block.shape[0], block.shape[1]
                self.dtype = block.dtype
        self.close()
        if not n_rows:
            raise ValueError(
                "make_batches gave no rows: it has to return a fresh iterable of "
                "blocks of rows each time it is called"
            )
        self.shape = n_rows, n_features

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
        """Rows by their numbers, which increase, in a temporary file: a memory map."""
        shape = len(numbers), self.shape[1]
        with tempfile.TemporaryFile() as file:  # the map keeps it open
            for batch in row_chunks(*shape):
                # Written to the map they would end the process where the disk is full.
                file.write(np.ascontiguousarray(dense(self[numbers[batch]])).data)
            file.flush()
            return np.memmap(file, self.dtype, mode="r", shape=shape)

    def close(self):
        """Leave the blocks that are not read."""
        blocks, self._blocks = self._blocks, None
        self._rest = self._last = None
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
        self._position = self._n_read = 0

    def _next_block(self):
        """The next block that has rows, checked; None behind the last."""
        for block in self._blocks:
            try:
                checked = self._check(block)
            except (TypeError, ValueError) as error:
                error.add_note(f"In the block that begins with row {self._n_read}")
                raise
            if checked is not None:
                self._n_read += checked.shape[0]
                return checked
        return None

    def _read(self, rows):
        """What is asked for, of this pass or a new one."""
        is_slice = isinstance(rows, slice)
        start, stop = (rows.start, rows.stop) if is_slice else (rows[0], rows[-1] + 1)
        if self._blocks is None or start < self._position:
            self._begin()
        parts: list[Any] = []
        n_found = 0
        while self._position < stop:
            first = self._position
            piece = self._next_piece((start if first < start else stop) - first)
            if first < start:
                continue
            if not is_slice:
                here = slice(*np.searchsorted(rows, [first, self._position]))
                piece = piece[rows[here] - first]
            n_found += piece.shape[0]
            if self._position == stop < self.shape[0] and not parts:
                parts.append(piece)  # a view, where it is of one block
            elif sparse.issparse(piece):
                parts.append(piece)  # a copy, as slices are
            elif not parts:
                # Whatever is asked for next may come to where this block was.
                n_rows = stop - start if is_slice else len(rows)
                parts.append(np.empty((n_rows, self.shape[1]), self.dtype))
                parts[0][:n_found] = piece
            else:
                parts[0][n_found - piece.shape[0] : n_found] = piece
        if stop == self.shape[0]:
            self._expect_end()
        return parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")

    def _next_piece(self, n_most):
        """The next rows, at most so many."""
        if self._rest is None or not self._rest.shape[0]:
            self._rest = self._next_block()
            if self._rest is None:
                raise self._other_number(self._position)
        piece, self._rest = self._rest[:n_most], self._rest[n_most:]
        self._position += piece.shape[0]
        return piece

    def _expect_end(self):
        n_more = self._rest.shape[0]
        while (block := self._next_block()) is not None:
            n_more += block.shape[0]
        self.close()
        if n_more:
            raise self._other_number(self.shape[0] + n_more)

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


class StreamedRows(NamedTuple):
    """Rows of a stream, or some of them, as a network sees them; see `Rows`."""

    stream: RowStream
    subset: np.ndarray | None  # their numbers, in increasing order; None: all
    offset: np.ndarray  # (n_features,)
    scale: float

    @property
    def n_rows(self):
        """Rows in use."""
        return self.stream.shape[0] if self.subset is None else len(self.subset)

    @property
    def n_features(self):
        """Columns of the matrix."""
        return self.stream.shape[1]

    @property
    def dtype(self):
        """Of the matrix."""
        return self.stream.dtype

    @property
    def total_weight(self):
        """Every row has the weight 1."""
        return float(self.n_rows)

    def map(self, function, *args):
        """A function's results for every part, of which there is one."""
        return [function(self, *args)]

    def none(self):
        """Rows of a matrix in memory that has none."""
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
        size = window_rows(self.n_features, batch_size)
        for number, start in enumerate(range(0, self.n_rows, size)):
            yield number, start, self.part(slice(start, min(start + size, self.n_rows)))
        self.stream.close()  # the next epoch is a pass of its own


def window_rows(n_features, batch_size):
    """Rows that are held in memory together."""
    return max(1, _WINDOW_ENTRIES // (n_features * batch_size)) * batch_size
