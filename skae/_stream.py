"""Rows that do not fit in memory: read anew, in order, for every pass over them."""

import math
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
        self._make_batches, self._check = make_batches, check
        self._blocks: Any = None  # an iterator over blocks that are not read yet
        self._rest = None  # what is left of the block that was read last
        self._position = 0  # of the rows, how many have been read
        n_rows, n_features = 0, 0
        for block in map(check, self._fresh()):
            n_rows, n_features = n_rows + block.shape[0], block.shape[1]
            self.dtype = block.dtype
        if not n_rows:
            raise ValueError(
                "make_batches gave no rows: it has to return a fresh iterable of "
                "blocks of rows each time it is called"
            )
        self.shape = n_rows, n_features

    def __getitem__(self, rows):
        """Rows by a slice or by their numbers, which increase.

        Going back begins a pass anew.
        """
        if isinstance(rows, slice):
            return self._read(*rows.indices(self.shape[0])[:2])
        return self._read(rows[0], rows[-1] + 1)[rows - rows[0]]

    def spool(self, numbers):
        """Rows by their numbers, which increase, in a temporary file: a memory map."""
        shape = len(numbers), self.shape[1]
        with tempfile.TemporaryFile() as file:  # the map keeps it open
            file.truncate(max(1, math.prod(shape) * self.dtype.itemsize))
            kept = np.memmap(file, self.dtype, shape=shape)
        for batch in row_chunks(*shape):
            kept[batch] = dense(self[numbers[batch]])
        return kept

    def close(self):
        """Leave the blocks that are not read."""
        blocks, self._blocks, self._rest = self._blocks, None, None
        if hasattr(blocks, "close"):  # a generator, which may hold a file open
            blocks.close()

    def _fresh(self):
        """A fresh iterator over the blocks."""
        blocks = self._make_batches()
        try:
            return iter(blocks)
        except TypeError:
            raise TypeError(
                "make_batches has to return an iterable of blocks of rows, not "
                f"{type(blocks).__name__}"
            ) from None

    def _read(self, start, stop):
        """Rows `start` to `stop` - 1: a view where they are of one block."""
        if self._blocks is None or start < self._position:
            self.close()
            self._blocks, self._position = self._fresh(), 0
        while self._position < start:
            self._position += self._next(start - self._position).shape[0]
        pieces = []
        while self._position < stop:
            pieces.append(self._next(stop - self._position))
            self._position += pieces[-1].shape[0]
        if stop == self.shape[0]:
            self._expect_end()
        if len(pieces) == 1:
            return pieces[0]
        if sparse.issparse(pieces[0]):
            return sparse.vstack(pieces, format="csr")
        return np.concatenate(pieces)

    def _next(self, n_most):
        """The next rows, at most so many."""
        while self._rest is None or not self._rest.shape[0]:
            block = next(self._blocks, None)
            if block is None:
                raise ValueError(
                    f"make_batches gave {self._position} rows, and {self.shape[0]} the "
                    "first time: it has to give the same rows each time"
                )
            self._rest = self._check(block)
        piece, self._rest = self._rest[:n_most], self._rest[n_most:]
        return piece

    def _expect_end(self):
        n_more = 0 if self._rest is None else self._rest.shape[0]
        n_more += sum(block.shape[0] for block in map(self._check, self._blocks))
        self.close()
        if n_more:
            raise ValueError(
                f"make_batches gave {self.shape[0] + n_more} rows, and {self.shape[0]} "
                "the first time: it has to give the same rows each time"
            )


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
        """Rows of a matrix in memory, none of them in use."""
        return self.part(slice(0, 1)).none()

    def part(self, batch):
        """The rows in use of a slice, in memory: `Rows`."""
        local, first, stop = None, batch.start, batch.stop
        if self.subset is not None:
            used = self.subset[batch]
            first, stop = int(used[0]), int(used[-1]) + 1
            local = used - first
        rows = make_rows(self.stream[first:stop], self.offset, self.scale, subset=local)
        return rows._replace(first_number=first)

    def windows(self, batch_size):
        """Parts of an epoch, with the position where each begins.

        Whole mini-batches, but for the last.
        """
        size = window_rows(self.n_features, batch_size)
        for start in range(0, self.n_rows, size):
            yield start, self.part(slice(start, min(start + size, self.n_rows)))


def window_rows(n_features, batch_size):
    """Rows that are held in memory together."""
    return max(1, _WINDOW_ENTRIES // (n_features * batch_size)) * batch_size
