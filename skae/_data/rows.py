"""A matrix as the kernels see it."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol, Self, cast

import numpy as np
from numpy.typing import DTypeLike
from scipy import sparse

from skae._compiled import records
from skae._typing import Floats, Matrix, MatrixLike, Result, Scale

# Entries of a chunk (4 MiB of float64), where a pass over the rows needs copies.
_CHUNK_ENTRIES = 2**19
# Entries of a piece that an objective is summed over, in memory or not.
_PIECE_ENTRIES = 2**22


def aligned(array: np.ndarray) -> np.ndarray:
    """An array as kernels read it: C-ordered, with aligned entries."""
    return np.require(array, requirements=["C", "A"])


def _entries_of(matrix: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Entries of a matrix, of shape (n,), and their columns if it is sparse.

    They are copied only where `Rows` needs another layout.
    """
    if isinstance(matrix, np.ndarray):
        return aligned(matrix).reshape(-1), np.empty(0, dtype=np.int32)
    columns = aligned(matrix.indices.astype(np.int32, copy=False))
    return aligned(matrix.data), columns


class AnyRows(Protocol):
    """What every kind of rows has: `Rows`, `StreamedRows`, and Dask's.

    Results are computed part by part, where the rows are, and combined in the order of
    the parts: there are several if partitions are on other machines. Each part is
    `LocalRows`.
    """

    @property
    def is_in_memory(self) -> bool:
        """Whether kernels can read the matrix, which may be a mapped file."""

    @property
    def n_rows(self) -> int:
        """Number of rows in use."""

    @property
    def n_features(self) -> int:
        """Number of columns of the matrix."""

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the matrix: float32 or float64."""

    @property
    def weights(self) -> np.ndarray:
        """Sample weights of all rows, float64; empty: 1."""

    @property
    def total_weight(self) -> float:
        """Sum of the weights of the rows in use."""

    @property
    def has_missing(self) -> bool:
        """Whether entries of the matrix may be missing, which are NaN."""

    def choose(self, numbers: np.ndarray) -> Self:
        """Use some of all rows, given by their numbers, which increase."""

    def scaled(self, offset: np.ndarray, scale: Scale) -> Self:
        """Let networks see the rows as (x - offset) / scale."""

    def filled_by(self, fill: Callable[["Rows"], "Rows"]) -> Self:
        """The rows after a function has filled missing entries, part by part."""

    def materialized(self) -> "AnyRows":
        """The same rows in memory, in a mapped file, or on workers."""

    def map(self, function: Callable[..., Result], *args: Any) -> list[Result]:
        """Results of ``function(part, *args)``, in the order of the parts."""

    def transformed(
        self, on_close: ExitStack, function: Callable[..., "Rows"], *args: Any
    ) -> "AnyRows":
        """Rows that a function makes of these, part by part.

        `on_close` gets a callback that frees what they hold elsewhere.
        """

    def empty(self) -> "Rows":
        """Rows of a matrix of the same width and dtype, none of them in use."""


class LocalRows(AnyRows, Protocol):
    """Rows that this process can read: `Rows` or `StreamedRows`."""

    @property
    def row_entries(self) -> float:
        """Mean number of stored entries of a row of the matrix, at least 1."""

    def part(self, batch: slice) -> "Rows":
        """The rows in use of a slice, in memory."""


class Rows(records.Rows):
    """Rows of a matrix in memory; methods as in `LocalRows`."""

    __slots__ = ()
    is_in_memory = True

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    def choose(self, numbers: np.ndarray) -> Self:
        subset, n_rows = numbers.astype(np.int32, copy=False), len(numbers)
        weight = total_weight(self.weights, subset, n_rows)
        return self._replace(subset=subset, n_rows=n_rows, total_weight=weight)

    def scaled(self, offset: np.ndarray, scale: Scale) -> Self:
        return self._replace(scaling=_scaling(offset, scale, self.dtype))

    @property
    def offset(self) -> np.ndarray:
        """What networks see subtracted from each feature, of shape (n_features,)."""
        return self.scaling[: self.n_features]

    @property
    def factors(self) -> np.ndarray:
        """What networks see the rest multiplied by, of shape (n_features,)."""
        return self.scaling[self.n_features :]

    @property
    def has_missing(self) -> bool:
        return self.targets.size > 0

    @property
    def row_entries(self) -> float:
        if self.starts.size < 2:
            return float(self.n_features)
        n_stored = int(self.starts[-1] - self.starts[0])
        return max(1.0, n_stored / (self.starts.size - 1))

    def filled_by(self, fill: Callable[["Rows"], "Rows"]) -> Self:
        return cast(Self, fill(self))

    def as_targets(self) -> Self:
        """What networks should restore, with NaN for missing entries, as rows."""
        if not self.targets.size:
            return self
        return self._replace(values=self.targets, targets=self.targets[:0])

    def materialized(self) -> LocalRows:
        return self

    def map(self, function: Callable[..., Result], *args: Any) -> list[Result]:
        return [function(self, *args)]

    def transformed(
        self, on_close: ExitStack, function: Callable[..., "Rows"], *args: Any
    ) -> "Rows":
        return function(self, *args)

    def check(self, model: records.Model) -> None:
        """Raise ValueError where kernels would read beyond the arrays, or misread them.

        Kernels check nothing: Python does before each call.
        """
        n_rows, n_features = self.n_rows, self.n_features
        n_lines = self.starts.size - 1
        if not self.starts.size:
            n_lines = self.values.size // max(1, n_features)
        n_numbered = min(n_lines, self.weights.size or n_lines)
        problems = {
            "dtype": self.dtype != model.params.dtype,
            "columns": n_features != model.network.layers["width"][0],
            "scaling": self.scaling.size != 2 * n_features,
            "targets": self.targets.size not in (0, self.values.size),
            "types": self.scaling.dtype != self.dtype
            or self.targets.dtype != self.dtype
            or self.columns.dtype != np.int32
            or self.subset.dtype != np.int32
            or self.starts.dtype != np.int64
            or self.weights.dtype != np.float64,
            "parameters": model.params.size != model.network.n_params,
            "rows": n_rows > (self.subset.size or n_numbered),
        }
        wrong = [name for name, is_wrong in problems.items() if is_wrong]
        if wrong and n_rows:
            raise ValueError(f"rows do not fit the network: {', '.join(wrong)}")

    def without_matrix(self) -> Self:
        """What is kept beside a partition's block."""
        nothing = self.values[:0].copy()
        is_filled = self.values.ctypes.data != self.targets.ctypes.data
        return self._replace(
            values=self.values if self.has_missing and is_filled else nothing,
            targets=self.targets[:1].copy(),  # shows whether entries are missing
            columns=np.empty(0, np.int32),
        )

    def with_matrix(self, matrix: Matrix) -> Self:
        """Add again the matrix that the rows were made of."""
        entries, columns = _entries_of(matrix)
        rows = self._replace(
            values=self.values if self.values.size else entries,
            targets=entries if self.has_missing else entries[:0],
            columns=columns,
        )
        return rows.with_aligned_arrays()

    def with_aligned_arrays(self) -> Self:
        """Align arrays that came from another process."""
        fields = self._asdict()
        for name, value in fields.items():
            if isinstance(value, np.ndarray):
                fields[name] = aligned(value)
        return self._replace(**fields)

    def empty(self) -> Self:
        return self._replace(n_rows=0, total_weight=0.0)

    def part(self, batch: slice) -> Self:
        """The rows in use of a slice, without a copy of their values."""
        start, stop = batch.start, batch.stop
        if stop - start == self.n_rows:
            return self
        if self.subset.size:
            here = self._replace(subset=self.subset[start:stop])
        else:
            here = self._replace(
                weights=self.weights[start:stop],
                first_number=self.first_number + start,
                numbers=self.numbers[start:stop],
            )
            if self.starts.size:
                here = here._replace(starts=self.starts[start : stop + 1])
            else:
                of_rows = slice(start * self.n_features, stop * self.n_features)
                here = here._replace(
                    values=self.values[of_rows], targets=self.targets[of_rows]
                )
        n_rows = stop - start
        weight = total_weight(here.weights, here.subset, n_rows)
        return here._replace(n_rows=n_rows, total_weight=weight)


def total_weight(weights: np.ndarray, subset: np.ndarray, n_rows: int) -> float:
    """Sum of the weights of the rows in use; the arrays are those of `Rows`."""
    if not weights.size or not n_rows:
        return float(n_rows)
    return float(weights[subset if subset.size else slice(None)].sum())


# Kernels number rows and columns in int32.
_MAX_SIZE = 2**31 - 1


def check_size(X: MatrixLike, name: str = "X") -> None:
    """Raise ValueError if a matrix has more rows or columns than kernels can number."""
    for size, what in zip(np.shape(X), ("rows", "columns"), strict=False):
        # That of a Dask collection may not be known yet.
        if isinstance(size, int | np.integer) and size > _MAX_SIZE:
            raise ValueError(
                f"{name} has {size:,} {what}, and at most {_MAX_SIZE:,} can be used at "
                "once. More rows can be read in blocks, by fit_batches"
            )


def has_matrices(value: object) -> bool:
    """Whether a value is (X, y), or [X, y], as data loaders give."""
    return isinstance(value, list | tuple) and len(value) > 0 and np.ndim(value[0]) > 1


def row_chunks(n_rows: int, n_features: int) -> Iterator[slice]:
    """Slices over the rows, whose chunks take bounded memory."""
    return slices(n_rows, max(1, _CHUNK_ENTRIES // max(1, n_features)))


def slices(n_rows: int, size: int) -> Iterator[slice]:
    """Slices as of scikit-learn's `gen_batches`, without its slow checks."""
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def piece_rows(n_features: int) -> int:
    """Number of rows that an objective over all rows is summed over at a time."""
    return max(1, _PIECE_ENTRIES // n_features)


def pieces(rows: LocalRows) -> Iterator[Rows]:
    """Rows in pieces for sums over all of them; few rows are one piece."""
    for batch in slices(rows.n_rows, piece_rows(rows.n_features)):
        yield rows.part(batch)


def dense(chunk: Matrix) -> np.ndarray:
    """A chunk of rows as an ndarray."""
    return chunk if isinstance(chunk, np.ndarray) else chunk.toarray()


def make_rows(
    X: Matrix,
    mean: np.ndarray | None = None,
    scale: Scale = 1.0,
    *,
    subset: np.ndarray | None = None,
    weights: Floats | None = None,
    has_missing: bool = False,
) -> Rows:
    """Rows of a validated matrix for the kernels, without a copy of its values.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_rows, n_features)
        C-ordered, or CSR.

    mean : ndarray of shape (n_features,), default=None
        Mean that networks see subtracted; None is 0.

    scale : float or ndarray of shape (n_features,), default=1.0
        Number, or numbers, that networks see the rest divided by.

    subset : ndarray of int, default=None
        Rows in use; None for all.

    weights : ndarray of shape (n_rows,), default=None
        Sample weights of all rows.

    has_missing : bool, default=False
        Whether X may have missing entries, NaN.

    Returns
    -------
    rows : Rows
    """
    check_size(X)
    values, columns = _entries_of(X)
    starts = np.empty(0, dtype=np.int64)
    if not isinstance(X, np.ndarray):
        starts = aligned(X.indptr.astype(np.int64, copy=False))
    n_rows = X.shape[0] if subset is None else len(subset)
    subset = np.empty(0, dtype=np.int32) if subset is None else subset
    weights = np.empty(0) if weights is None else weights
    mean = np.zeros(X.shape[1]) if mean is None else mean
    return Rows(
        values=values,
        targets=values if has_missing else values[:0],
        columns=columns,
        starts=starts,
        subset=subset.astype(np.int32, copy=False),
        weights=weights,
        scaling=_scaling(mean, scale, X.dtype),
        n_features=X.shape[1],
        n_rows=n_rows,
        total_weight=total_weight(weights, subset, n_rows),
    )


def _scaling(offset: np.ndarray, scale: Scale, dtype: DTypeLike) -> np.ndarray:
    """Scaling of rows, as of `records.Rows`."""
    factors = np.broadcast_to(1 / np.asarray(scale), offset.shape)
    return np.concatenate([offset, factors]).astype(dtype)


def weights_in_use(rows: Rows) -> Floats:
    """Weights of the rows in use, of shape (n_rows,); ones if there are none."""
    if not rows.weights.size or not rows.n_rows:
        return np.ones(rows.n_rows)
    return rows.weights[rows.subset if rows.subset.size else slice(None)]


def n_counted(rows: AnyRows) -> int:
    """Number of rows in use that have a weight."""
    return sum(rows.map(_n_counted_of_part))


def _n_counted_of_part(rows: LocalRows) -> int:
    if isinstance(rows, Rows) and rows.weights.size:
        return int(np.count_nonzero(weights_in_use(rows)))
    return rows.n_rows


# Rows by which the share of zeros in all is estimated.
_SAMPLED_ROWS = 1000


def density(rows: Rows) -> float:
    """Approximate share of the entries that a network sees that are not zero."""
    n_centred = np.count_nonzero(rows.offset)
    if rows.starts.size and rows.n_rows:
        n_stored = rows.values.size / (rows.starts.size - 1)
        return float(min(1.0, (n_stored + n_centred) / rows.n_features))
    if n_centred or not rows.n_rows:
        return 1.0
    step = -(-rows.n_rows // _SAMPLED_ROWS)
    used = rows.subset[::step] if rows.subset.size else slice(0, rows.n_rows, step)
    return float((rows.values.reshape(-1, rows.n_features)[used] != 0).mean())


def network_input(rows: LocalRows) -> Iterator[tuple[Floats, Floats | None]]:
    """Rows as a network sees them, in chunks of bounded memory.

    Missing entries are NaN unless they were filled.

    Yields
    ------
    chunk : ndarray of shape (n_chunk, n_features), dtype=float64

    weights : ndarray of shape (n_chunk,), dtype=float64, or None
    """
    for batch in row_chunks(rows.n_rows, rows.n_features):
        part = rows.part(batch)
        chunk = dense(matrix_in_use(part)).astype(np.float64)
        chunk -= part.offset.astype(np.float64)
        chunk *= part.factors.astype(np.float64)
        yield chunk, weights_in_use(part) if part.weights.size else None


# Products of sparse rows take as long as those of dense ones if this share of the
# entries is stored, or less time.
_MAX_SPARSE_SHARE = 0.1


def has_few_entries(rows: LocalRows) -> bool:
    """Whether products of rows of a table take less time if rows stay sparse."""
    return rows.row_entries <= _MAX_SPARSE_SHARE * rows.n_features


def sparse_chunks(rows: LocalRows) -> Iterator[tuple[sparse.csr_matrix, Floats | None]]:
    """Rows of a table with categories as a network sees them, never made dense.

    Their columns of numbers are stored whole, and no others are centered.

    Yields
    ------
    chunk : CSR matrix of shape (n_chunk, n_features), dtype=float64

    weights : ndarray of shape (n_chunk,), dtype=float64, or None
    """
    for batch in row_chunks(rows.n_rows, math.ceil(rows.row_entries)):
        part = rows.part(batch)
        matrix = cast(sparse.csr_matrix, matrix_in_use(part))
        columns = matrix.indices
        values = matrix.data.astype(np.float64)
        values -= part.offset.astype(np.float64)[columns]
        values *= part.factors.astype(np.float64)[columns]
        chunk = sparse.csr_matrix((values, columns, matrix.indptr), matrix.shape)
        yield chunk, weights_in_use(part) if part.weights.size else None


def of_entries(of_rows: Floats, chunk: sparse.csr_matrix) -> Floats:
    """Numbers of rows, such as weights, for each of their stored entries."""
    return np.repeat(of_rows, np.diff(chunk.indptr))


def matrix_in_use(rows: Rows) -> Matrix:
    """Matrix of the rows in use: CSR, or an ndarray, which is a view if it can be."""
    used = rows.subset if rows.subset.size else slice(0, rows.n_rows)
    if not rows.starts.size:
        return rows.values.reshape(-1, rows.n_features)[used]
    starts, stops = rows.starts[:-1][used], rows.starts[1:][used]
    new_starts = np.append(0, np.cumsum(stops - starts))
    if isinstance(used, slice):
        entries: Any = slice(rows.starts[0], rows.starts[rows.n_rows])
    else:
        shifts = np.repeat(starts - new_starts[:-1], stops - starts)
        entries = np.arange(new_starts[-1]) + shifts
    return sparse.csr_matrix(
        (rows.values[entries], rows.columns[entries], new_starts),
        shape=(rows.n_rows, rows.n_features),
    )
