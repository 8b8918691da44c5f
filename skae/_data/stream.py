"""Rows that do not fit in memory: every pass over them reads them again, in order."""

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple, Self, TypeAlias

import numpy as np
from scipy import sparse

from skae._data.rows import AnyRows, Rows, dense, has_matrices, make_rows, row_chunks
from skae._data.validation import Checked
from skae._typing import Floats, Matrix, MatrixLike, Result, Scale

# Stored entries of a window (64 MiB of float32, and the columns of sparse rows), unless
# a mini-batch has more.
_WINDOW_ENTRIES = 2**24

# A slice of the rows, or their numbers, which increase.
_Numbers: TypeAlias = slice | np.ndarray


class RowStream:
    """A matrix whose rows can only be read in order, any number of times.

    Parameters
    ----------
    make_batches : callable
        Returns an iterable of blocks of rows, the same rows each time.

    check : callable
        ``check(block, dtype)`` returns a block that has rows as a C-ordered ndarray or
        a CSR matrix of a dtype, and whether entries are missing. For the first block
        dtype is None: it sets that of all.

    Attributes
    ----------
    shape : tuple of int

    dtype : dtype

    is_sparse : bool

    has_missing : bool
        Whether blocks of the first pass had missing entries.

    row_entries : float
        Mean number of stored entries of a row, at least 1.

    Raises
    ------
    TypeError
        If `make_batches` is not a function or does not return an iterable, or if a
        block is (X, y).

    ValueError
        If there are no rows; if some blocks are dense and some sparse; if a later pass
        begins with another row, or has another number of them.
    """

    dtype: np.dtype

    def __init__(
        self,
        make_batches: Callable[[], Iterable[MatrixLike]],
        check: Callable[[MatrixLike, np.dtype | None], Checked],
    ) -> None:
        if not callable(make_batches):
            raise TypeError(
                "make_batches has to be a function that returns a fresh iterable of "
                f"blocks of rows each time it is called, not {_kind(make_batches)}"
            )
        self._make_batches, self._check = make_batches, check
        self._blocks: Any = None  # an iterator over blocks that are not read yet
        self._block: Any = None  # the block that was read last
        self._n_received = 0  # rows in the blocks of this pass so far
        self._n_given = 0  # rows of these that were returned or skipped
        self._last: tuple[_Numbers, Matrix] | None = None  # the last request and answer
        self._first_row: np.ndarray | None = None  # of the first pass; (1, n_features)
        self._n_columns = 0  # of blocks, before tables become matrices
        self.is_sparse = self.has_missing = False
        n_rows = n_features = n_entries = 0
        with self._closed_on_error():
            self._begin()
            while (block := self._next_block()) is not None:
                n_rows, n_features = n_rows + block.shape[0], block.shape[1]
                n_entries += block.size  # those stored, if sparse
        self.close()
        if not n_rows:
            raise ValueError(
                "make_batches gave no rows: it has to return a fresh iterable of "
                "blocks of rows each time it is called"
            )
        self.shape = n_rows, n_features
        self.row_entries = max(1.0, n_entries / n_rows)

    def __getitem__(self, rows: _Numbers) -> Matrix:
        """Rows by a slice or by their numbers, which are valid until more are read.

        Going back begins a new pass, unless the request is the last one repeated.
        """
        last, self._last = self._last, None
        if last is not None and _are_same(last[0], rows):
            return last[1]
        last = None  # frees its memory
        with self._closed_on_error():
            found = self._read(rows)
        if self._blocks is not None:
            self._last = rows, found
        return found

    def spool(self, numbers: np.ndarray) -> Matrix:
        """Rows by their numbers, which increase, in memory-mapped temporary files."""
        return (self._spool_sparse if self.is_sparse else self._spool_dense)(numbers)

    def _spool_dense(self, numbers: np.ndarray) -> np.ndarray:
        with tempfile.TemporaryFile() as file:
            for batch in row_chunks(len(numbers), math.ceil(self.row_entries)):
                _write(file, self[numbers[batch]])
            return _mapped(file, self.dtype, (len(numbers), self.shape[1]))

    def _spool_sparse(self, numbers: np.ndarray) -> sparse.csr_matrix:
        counts = [np.zeros(1, dtype=np.int64)]  # stored entries of the rows
        with tempfile.TemporaryFile() as values, tempfile.TemporaryFile() as columns:
            for batch in row_chunks(len(numbers), math.ceil(self.row_entries)):
                rows: sparse.csr_matrix = self[numbers[batch]]
                counts.append(np.diff(rows.indptr))
                _write(values, rows.data)
                _write(columns, rows.indices.astype(np.int32, copy=False))
            starts = np.cumsum(np.concatenate(counts))
            parts = (
                _mapped(values, self.dtype, (starts[-1],)),
                # SciPy would copy columns of another type than it chooses, which is
                # int64 only for more than 2**31 entries.
                _mapped(columns, np.dtype(np.int32), (starts[-1],)),
                starts,
            )
            return sparse.csr_matrix(parts, shape=(len(numbers), self.shape[1]))

    def finish(self) -> None:
        """Read the blocks that are left, to see whether there are more than before."""
        if self._blocks is not None:
            with self._closed_on_error():
                self._expect_end()

    def close(self) -> None:
        """End the pass without reading the blocks that are left."""
        blocks, self._blocks = self._blocks, None
        self._block = self._last = None
        if hasattr(blocks, "close"):  # a generator, which may hold a file open
            blocks.close()

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        """End the pass on errors: an iterator that has raised one yields no more."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        """Begin a pass."""
        self.close()
        blocks = self._make_batches()
        if hasattr(blocks, "shape"):  # an array's rows would be taken for blocks
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

    def _next_block(self) -> Matrix | None:
        """The next block that has rows, checked; None after the last."""
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

    def _checked(self, block: MatrixLike) -> Matrix | None:
        """A block in the form of all; None if it has no rows."""
        _expect_no_target(block)
        if _has_no_rows(block):
            self._expect_features(np.shape(block)[1:])
            return None
        first_row = self._first_row
        dtype = None if first_row is None else self.dtype
        checked, has_missing = self._check(block, dtype)
        self.has_missing |= has_missing
        is_sparse = sparse.issparse(checked)
        if first_row is None:
            self.dtype, self.is_sparse = checked.dtype, is_sparse
            first_row = self._first_row = dense(checked[:1]).copy()
            self._n_columns = getattr(block, "shape", checked.shape)[1]
        if is_sparse != self.is_sparse:
            raise ValueError(
                "make_batches gave dense and sparse blocks: they have to be all "
                "dense, or all sparse"
            )
        if not self._n_received:
            _expect_equal(dense(checked[:1]), first_row)
        return checked

    def _expect_features(self, widths: tuple[int, ...]) -> None:
        """Raise ValueError if a block without rows is not as wide as the others.

        An empty list has no width, and before the first row any width fits.
        """
        if widths and self._first_row is not None:
            n_features = self._n_columns
            if widths != (n_features,):
                raise ValueError(
                    f"make_batches gave a block without rows, of {widths[0]} features, "
                    f"but the others have {n_features} features"
                )

    def _read(self, rows: _Numbers) -> Matrix:
        """Read rows in this pass or a new one."""
        start, stop, n_rows = _bounds(rows)
        if self._blocks is None or start < self._n_given:
            self._begin()
        pieces, is_end = self._pieces(rows, stop), stop == self.shape[0]
        if self.is_sparse:
            found = _stacked(pieces)
        else:
            # To see the pass end, another block is read.
            found = self._joined(pieces, n_rows, may_be_view=not is_end)
        if is_end:
            self._expect_end()
        return found

    def _pieces(self, rows: _Numbers, stop: int) -> Iterator[tuple[slice, Any]]:
        """Requested rows, block by block: a slice of the answer, and its rows.

        The rows are a view of the block if they can be.
        """
        while self._n_given < stop:
            if self._n_given == self._n_received:
                self._block = None  # frees its memory
                self._block = self._next_block()
                if self._block is None:
                    raise self._other_number(self._n_received)
            begin = self._n_received - self._block.shape[0]
            self._n_given = min(stop, self._n_received)
            part, of_block = _between(rows, begin, self._n_received)
            if part.start < part.stop:
                yield part, self._block[of_block]

    def _joined(
        self,
        pieces: Iterator[tuple[slice, np.ndarray]],
        n_rows: int,
        *,
        may_be_view: bool,
    ) -> np.ndarray:
        """Dense pieces as one array.

        Reading the next block may overwrite the last one, as `readinto` does: a view
        of it is safe only if it is the whole answer and the next block can wait.
        """
        for part, piece in pieces:
            if part.start == 0:
                if may_be_view and part.stop == n_rows:
                    return piece
                found = np.empty((n_rows, self.shape[1]), self.dtype)
            found[part] = piece
        return found

    def _expect_end(self) -> None:
        while self._next_block() is not None:
            pass
        self.close()
        if self._n_received != self.shape[0]:
            raise self._other_number(self._n_received)

    def _other_number(self, n_rows: int) -> ValueError:
        return ValueError(
            f"make_batches gave {n_rows} rows, and {self.shape[0]} the first time it "
            "was called: it has to return a fresh iterable over the same rows each time"
        )


def _kind(value: object) -> str:
    """An object's type, as error messages name it."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _are_same(rows: _Numbers, others: _Numbers) -> bool:
    """Whether two slices, or arrays of numbers, are the same."""
    if isinstance(rows, slice) or isinstance(others, slice):
        return isinstance(rows, slice) and isinstance(others, slice) and rows == others
    return np.array_equal(rows, others)


def _has_no_rows(block: MatrixLike) -> bool:
    if isinstance(block, list | tuple):
        return not block  # `np.shape` would convert it
    return np.shape(block)[:1] == (0,)


def _expect_no_target(block: MatrixLike) -> None:
    """Raise TypeError if a block is (X, y)."""
    if has_matrices(block):
        raise TypeError(
            f"make_batches gave a {type(block).__name__} of matrices, such as (X, y), "
            "but a block is X alone, there is no y: for X, y in loader: yield X"
        )


def _expect_equal(row: np.ndarray, first_row: np.ndarray) -> None:
    """Raise ValueError if a pass begins with another row than the first pass did.

    To notice every change all rows would have to be kept; this notices loaders that
    shuffle the rows in each pass.
    """
    # Rows that are derived may have NaN.
    if not np.array_equal(row, first_row, equal_nan=True):
        raise ValueError(
            "make_batches gave other rows, or the same in another order, than the "
            "first time it was called: it has to return a fresh iterable over the "
            "same rows, in the same order, each time; fit_batches mixes them "
            "itself (shuffle=True)"
        )


def _bounds(rows: _Numbers) -> tuple[int, int, int]:
    """The first of the requested rows, the last plus one, and how many they are."""
    if isinstance(rows, slice):
        return rows.start, rows.stop, rows.stop - rows.start
    return rows[0], rows[-1] + 1, len(rows)


def _between(rows: _Numbers, begin: int, end: int) -> tuple[slice, _Numbers]:
    """Requested rows of a block, which has those from `begin` to before `end`.

    They are a slice of the answer, and a slice or numbers of the block's rows.
    """
    if isinstance(rows, slice):
        first, last = np.clip([begin, end], rows.start, rows.stop).tolist()
        part = slice(first - rows.start, last - rows.start)
        return part, slice(first - begin, last - begin)
    part = slice(*np.searchsorted(rows, [begin, end]).tolist())
    return part, rows[part] - begin


def _stacked(pieces: Iterator[tuple[slice, Any]]) -> sparse.csr_matrix:
    """CSR pieces as one; SciPy's slices are copies."""
    matrices = [piece for _, piece in pieces]
    return matrices[0] if len(matrices) == 1 else sparse.vstack(matrices, format="csr")


def _write(file: IO[bytes], array: Matrix) -> None:
    # Not through a memory map, which ends the process if the disk is full.
    file.write(np.ascontiguousarray(array).data)


def _mapped(file: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Memory map of a temporary file, which it keeps open."""
    file.flush()
    if 0 in shape:
        return np.empty(shape, dtype)  # a map cannot be empty
    return np.memmap(file, dtype, mode="r", shape=shape)


class StreamedRows(NamedTuple):
    """Rows of a stream, without weights; methods as in `LocalRows`."""

    stream: RowStream
    # Numbers of the rows in use, int64, in increasing order; None: all.
    subset: np.ndarray | None = None
    offset: np.ndarray | None = None  # (n_features,); None: 0
    scale: Scale = 1.0
    fill: Callable[[Rows], Rows] | None = None  # fills missing entries

    @property
    def is_in_memory(self) -> bool:
        return False

    @property
    def n_rows(self) -> int:
        return self.stream.shape[0] if self.subset is None else len(self.subset)

    @property
    def n_features(self) -> int:
        return self.stream.shape[1]

    @property
    def dtype(self) -> np.dtype:
        return self.stream.dtype

    @property
    def weights(self) -> Floats:
        return np.empty(0)

    @property
    def total_weight(self) -> float:
        return float(self.n_rows)

    @property
    def has_missing(self) -> bool:
        return self.stream.has_missing

    @property
    def row_entries(self) -> float:
        return self.stream.row_entries

    def choose(self, numbers: np.ndarray) -> Self:
        return self._replace(subset=numbers)

    def scaled(self, offset: np.ndarray, scale: Scale) -> Self:
        return self._replace(offset=offset, scale=scale)

    def filled_by(self, fill: Callable[[Rows], Rows]) -> Self:
        return self._replace(fill=fill)

    def materialized(self) -> Rows:
        numbers = np.arange(self.n_rows) if self.subset is None else self.subset
        rows = self._rows_of(self.stream.spool(numbers))
        return rows._replace(numbers=numbers.astype(np.int64, copy=False))

    def map(self, function: Callable[..., Result], *args: Any) -> list[Result]:
        return [function(self, *args)]

    def transformed(
        self, on_close: contextlib.ExitStack, function: Callable[..., Rows], *args: Any
    ) -> AnyRows:
        """Rows as in `AnyRows`, which each pass computes from those that it reads."""

        def blocks() -> Iterator[np.ndarray]:
            for batch in row_chunks(self.n_rows, self.n_features):
                rows = function(self.part(batch), *args)
                yield rows.values.reshape(rows.n_rows, rows.n_features)
            self.stream.finish()

        stream = RowStream(blocks, lambda block, dtype: Checked(block, False))
        on_close.callback(stream.close)
        return StreamedRows(stream)

    def empty(self) -> Rows:
        return self._rows_of(np.empty((0, self.n_features), self.dtype))

    def part(self, batch: slice) -> Rows:
        """The rows in use of a slice, in memory."""
        used = batch if self.subset is None else self.subset[batch]
        rows = self._rows_of(self.stream[used])
        if isinstance(used, slice):
            return rows._replace(first_number=used.start)
        return rows._replace(numbers=used.astype(np.int64, copy=False))

    def _rows_of(self, matrix: Matrix) -> Rows:
        """Rows of a matrix, scaled and filled as these."""
        has_missing = self.has_missing
        rows = make_rows(matrix, self.offset, self.scale, has_missing=has_missing)
        return rows if self.fill is None else self.fill(rows)

    def windows(self, batch_size: int) -> Iterator[tuple[int, int, Rows]]:
        """Windows of an epoch: number, position of the first row, rows.

        Each has whole mini-batches, except the last.
        """
        size = self._window_rows(batch_size)
        for number, start in enumerate(range(0, self.n_rows, size)):
            yield number, start, self._window(start, size)
        self.stream.finish()  # the next epoch is a pass of its own

    def first_window(self, batch_size: int) -> Rows:
        """Rows of the first of `windows`, which is the largest."""
        return self._window(0, self._window_rows(batch_size))

    def _window(self, start: int, size: int) -> Rows:
        return self.part(slice(start, min(start + size, self.n_rows)))

    def _window_rows(self, batch_size: int) -> int:
        """Number of rows of a window."""
        n_entries = self.stream.row_entries * batch_size
        return max(1, int(_WINDOW_ENTRIES // n_entries)) * batch_size
