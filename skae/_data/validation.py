"""Checks that data pass before anything is computed from them."""

import contextlib
import math
import numbers
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.validation import validate_data

from skae._data.frames import ArrayFrame, Frame, frame_of, marked
from skae._data.rows import aligned, check_size, has_matrices
from skae._data.statistics import lowest_and_highest, lowest_and_highest_observed
from skae._data.tables import EncodedTable, Table, TableReader
from skae._typing import Floats, Matrix, MatrixLike

# Only the ratios of weights count. Weights that are larger or smaller than 1 by more
# than this power of two are rescaled, because their sums and products would overflow.
_MODERATE_WEIGHT = 32
# Entries up to this many roundings outside a loss' range are moved to its bound.
# MinMaxScaler makes as many as a feature is larger than its spread: 64 for a year.
_RANGE_ROUNDINGS = 256
# How far training data may exceed a limited output: what rounding to float32 leaves.
_BEYOND = 1e-6

# What the data become, or the dtypes that they may keep.
_Dtypes: TypeAlias = DTypeLike | tuple[DTypeLike, ...]


# ---------------------------------------------------------------------------
# Matrices
# ---------------------------------------------------------------------------


class Checked(NamedTuple):
    """A valid matrix."""

    matrix: Matrix
    has_missing: bool  # whether entries are missing, which are NaN


def check_rows(
    estimator: BaseEstimator,
    X: MatrixLike,
    dtype: _Dtypes,
    limits: "ValueRange | None" = None,
    *,
    name: str = "X",
    reset: bool = False,
    **kwargs: Any,
) -> Checked:
    """Validate samples for an estimator, as scikit-learn does. NaN is a missing entry.

    Parameters
    ----------
    estimator : BaseEstimator

    X : {array-like, sparse matrix} of shape (n_samples, n_features)

    dtype : dtype, or tuple of dtypes
        Dtype of the result. Of several dtypes X keeps its own, or gets the first.

    limits : ValueRange, default=None
        Values that observed entries may have; None for any finite values.

    name : str, default="X"
        Name of X in errors.

    reset : bool, default=False
        Whether to set the number and the names of the features instead of comparing
        them.

    **kwargs
        Passed to :func:`sklearn.utils.validation.validate_data`.

    Returns
    -------
    checked : Checked
        Matrix that kernels can read, {ndarray, CSR matrix} of shape (n_samples,
        n_features): X itself if it is one.

    Raises
    ------
    TypeError, ValueError
        If X is not valid.
    """

    def convert(X: MatrixLike, **how: Any) -> Matrix:
        return validate_data(estimator, X, reset=reset, **how)

    of_estimator = type(estimator).__name__
    try:
        return _check_matrix(
            X, dtype, limits, convert, name=name, estimator_name=of_estimator, **kwargs
        )
    except (TypeError, ValueError) as error:
        if name == "X":
            raise
        message = re.sub(r"\bX\b", name, str(error))  # scikit-learn calls it X
        if name not in message:
            message = f"{name}: {message}"
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(message) from error


def check_table(
    estimator: BaseEstimator,
    X: MatrixLike,
    table: Table,
    *,
    name: str = "X",
    reset: bool = False,
    **how: Any,
) -> Checked:
    """Validate a table with categories for an estimator, and make it a matrix.

    Parameters
    ----------
    estimator : BaseEstimator

    X : array-like, dataframe or EncodedTable, of shape (n_samples, n_features)

    table : Table
        How it becomes a matrix.

    name : str, default="X"
        Name of X in errors.

    reset : bool, default=False
        Whether to set the number and the names of the features instead of comparing
        them.

    **how
        Passed to `Table.encode`: what to do with categories that are not known.

    Returns
    -------
    checked : Checked
        CSR matrix of shape (n_samples, table.n_inputs).

    Raises
    ------
    TypeError, ValueError
        If X is not valid.
    """
    if isinstance(X, EncodedTable):
        if reset:
            estimator.n_features_in_ = len(table.dtypes)
        return Checked(X.matrix, X.has_missing)
    frame = check_frame(estimator, X, name=name, reset=reset)
    return Checked(*table.encode(frame, name=name, **how))


def check_frame(
    estimator: BaseEstimator, X: MatrixLike, *, name: str = "X", reset: bool = False
) -> Frame:
    """Validate a table for an estimator, except for its entries; see `check_table`."""
    if sparse.issparse(X):
        raise TypeError(
            f"{name} is a sparse matrix, but {type(estimator).__name__} was fitted "
            "with a table that has categories: pass a table with the same columns"
        )
    frame = frame_of(X) or ArrayFrame(X)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    _check_not_empty(frame)
    return frame


def _check_not_empty(frame: Frame) -> None:
    """Raise ValueError, in scikit-learn's words, for a table without any entry."""
    shape = frame.n_rows, len(frame.dtypes)
    if 0 in shape:
        kind = "feature(s)" if frame.n_rows else "sample(s)"
        raise ValueError(
            f"Found array with 0 {kind} (shape={shape}) while a minimum of 1 is "
            "required."
        )


def read_tables(
    estimator: Any,
    blocks: Iterable[MatrixLike],
    *,
    counts_declared: bool = False,
    mark: Any = None,
) -> Table | None:
    """How tables with categories become matrices; None if there are only numbers.

    Parameters
    ----------
    estimator : BaseEstimator
        With parameters of tables; see `TableReader.of`.

    blocks : iterable of {array-like, sparse matrix, dataframe}
        Parts of the training data.

    counts_declared : bool, default=False
        As of `TableReader`.

    mark : str or number, default=None
        Value that stands for a missing one, besides NaN and None.
    """
    chosen = estimator.categorical_features
    reader = TableReader.of(estimator, counts_declared=counts_declared)
    for block in blocks:
        if isinstance(block, EncodedTable):
            return block.table
        if chosen is None:
            return None
        read_table(block, reader, is_explicit=not isinstance(chosen, str), mark=mark)
    return reader.table() if reader.has_categories else None


def read_table(
    X: MatrixLike, reader: TableReader, *, is_explicit: bool, mark: Any = None
) -> None:
    """Let a reader read X, if it is a table.

    Parameters
    ----------
    X : {array-like, sparse matrix, dataframe}

    reader : TableReader

    is_explicit : bool
        Whether some columns are said to be categories, so that X has to be a table.

    mark : str or number, default=None
        Value that stands for a missing one, besides NaN and None.
    """
    frame = table_of(X, is_explicit=is_explicit or reader.has_read)
    if frame is not None and not frame.dtypes:
        _check_not_empty(frame)
    if frame is not None and frame.n_rows:
        reader.read(marked(frame, mark))


def table_of(X: MatrixLike, *, is_explicit: bool) -> Frame | None:
    """X as a table that may have categories, or None. See `read_table`."""
    frame = frame_of(X)
    if frame is not None or not is_explicit:
        return frame
    if sparse.issparse(X):
        raise TypeError(
            "categorical_features needs a table, but X is a sparse matrix: pass a "
            "dataframe or an array, or categorical_features=None"
        )
    return cast(Frame, ArrayFrame(X))


def check_feature_weights(feature_weights: ArrayLike, n_features: int) -> Floats:
    """Validate weights of features; returns an array of shape (n_features,)."""
    weights: Floats = check_array(
        feature_weights,
        ensure_2d=False,
        dtype=np.float64,
        input_name="feature_weights",
    )
    if weights.shape != (n_features,):
        raise ValueError(
            f"feature_weights has shape {weights.shape}, but X has {n_features} "
            "features: pass one weight for each"
        )
    if (weights < 0).any() or not weights.any():
        raise ValueError(
            f"feature_weights={feature_weights!r} must not be negative, and one has to "
            "be positive"
        )
    return weights


def check_validation_rows(
    estimator: BaseEstimator,
    X_val: MatrixLike | None,
    dtype: _Dtypes,
    limits: "ValueRange | None",
) -> Checked | None:
    """Validate the argument `X_val` of `fit`, as `check_rows` does; None stays None."""
    if X_val is None:
        return None
    if has_matrices(X_val):
        raise ValueError(
            f"X_val is a {type(X_val).__name__} of matrices, such as (X, y), but "
            "validation data are X alone, there is no y: pass X_val=X"
        )
    checked = check_rows(estimator, X_val, dtype, limits, name="X_val")
    check_observed(checked, name="X_val")
    return checked


def check_observed(X: Checked, name: str = "X") -> None:
    """Raise ValueError if all entries of valid samples are missing."""
    if not X.has_missing:
        return
    values = _values(X.matrix)
    if values.size == math.prod(X.matrix.shape) and np.isnan(values).all():
        raise ValueError(
            f"{name} has no observed entry: all are NaN. Pass samples with values"
        )


def check_block(
    block: MatrixLike,
    dtype: _Dtypes,
    limits: "ValueRange | None" = None,
    *,
    name: str = "X",
) -> Matrix:
    """Validate a part of the samples, which may be empty. See `check_rows`."""
    check = partial(check_array, ensure_min_samples=0, input_name=name)
    return _check_matrix(block, dtype, limits, check, name=name).matrix


def check_table_block(
    block: MatrixLike,
    table: Table,
    dtype: _Dtypes,
    limits: "ValueRange | None" = None,
    *,
    handle_unknown: str,
    name: str = "X",
) -> Matrix:
    """Validate a part of a table's samples, which may be empty. See `check_table`."""
    frame = frame_of(block) or ArrayFrame(block)
    matrix, _ = table.encode(frame, handle_unknown=handle_unknown, name=name)
    return check_range(_typed(matrix, dtype), limits, name)


def _typed(matrix: Matrix, dtype: _Dtypes) -> Matrix:
    """A table's matrix in a dtype, unless it may keep one of several."""
    return matrix if isinstance(dtype, tuple) else matrix.astype(dtype, copy=False)


def _check_matrix(
    X: MatrixLike,
    dtype: _Dtypes,
    limits: "ValueRange | None",
    convert: Callable[..., Matrix],
    *,
    name: str,
    estimator_name: str | None = None,
    ensure_all_finite: bool = True,
    **kwargs: Any,
) -> Checked:
    check_before_conversion(X, name)
    dtype = dtype if isinstance(dtype, tuple) else (dtype,)
    kwargs = {"accept_sparse": "csr", "dtype": dtype, "order": "C", **kwargs}
    # What becomes infinite in float32 is an error below.
    with np.errstate(over="ignore", invalid="ignore"), _missing_is_no_text():
        matrix = convert(convertible(X), ensure_all_finite=False, **kwargs)
    matrix = canonical(matrix, name)
    values = _values(matrix)
    if not ensure_all_finite or not values.size:
        return Checked(check_range(matrix, limits, name), has_missing=False)
    found, has_missing = lowest_and_highest(values), False
    if not np.isfinite(found).all():
        # For the error: it takes a thread longer.
        with np.errstate(invalid="ignore"):  # infinity less infinity
            assert_all_finite(
                values, allow_nan=True, estimator_name=estimator_name, input_name=name
            )
        found, has_missing = lowest_and_highest_observed(values), True
    matrix = check_range(matrix, limits, name, found=found)
    return Checked(matrix, has_missing)


def _values(X: Matrix) -> np.ndarray:
    """Entries of a canonical matrix, or those that a sparse one stores, in a row."""
    return np.asarray(X).reshape(-1) if isinstance(X, np.ndarray) else X.data


@contextlib.contextmanager
def _missing_is_no_text() -> Iterator[None]:
    """Say what a missing value is in the error for text in place of a number."""
    try:
        yield
    except ValueError as error:
        if "could not convert string to float" not in str(error):
            raise
        raise ValueError(
            f"{error}. X has to be numbers; a missing one is NaN, None or pandas.NA. "
            "Text is for categories: in a table, see categorical_features; or encode "
            "it, for example by OrdinalEncoder, which leaves NaN as it is"
        ) from error


def convertible(X: Any) -> Any:
    """X, changed where scikit-learn could not convert it, or to another type.

    It would make float32 in the other byte order float64, and raise an error for
    pandas.NA in an array, or in a column, of objects or strings, and for a sparse
    dataframe that leaves NaN out.
    """
    dtype = getattr(X, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind == "f" and not dtype.isnative:
        return X.astype(dtype.newbyteorder("="))
    if pandas := sys.modules.get("pandas"):
        if isinstance(X, pandas.DataFrame):
            dtypes = list(X.dtypes)
            if dtypes and all(isinstance(t, pandas.SparseDtype) for t in dtypes):
                if any(t.fill_value != 0 for t in dtypes):
                    return X.sparse.to_dense()
            elif any(isinstance(t, pandas.StringDtype) for t in dtypes):
                return X.astype(object).mask(X.isna(), np.nan)
            elif any(t.kind == "O" for t in dtypes):
                return X.mask(X.isna())
        if isinstance(X, np.ndarray) and X.dtype.kind == "O":
            return np.where(pandas.isna(X), np.nan, X)
    return X


def check_before_conversion(X: MatrixLike, name: str = "X") -> None:
    """Raise ValueError for matrices that are not safe to convert."""
    if hasattr(X, "shape"):
        if len(X.shape) == 1 and hasattr(X, "to_frame"):
            raise ValueError(
                f"Expected 2D array, got 1D array instead: {name} is a Series. A table "
                f"of this column alone is {name}.to_frame()"
            )
        check_size(X, name)
    if isinstance(X, sparse.csc_matrix | sparse.csc_array):
        _check_compressed(X, name)


def canonical(X: Matrix, name: str = "X") -> Matrix:
    """A matrix as kernels read it, without changing X; copied only if need be.

    A CSR matrix has sorted columns without duplicates. An array is C-ordered and
    aligned, because otherwise each pass over a memory map with an offset would copy.
    """
    if isinstance(X, np.ndarray):
        return aligned(X)
    _check_compressed(X, name)
    # A new matrix over the same arrays, because X would store whether it is canonical.
    X = type(X)((X.data, X.indices, X.indptr), shape=X.shape)
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def _check_compressed(X: sparse.csr_matrix | sparse.csc_matrix, name: str) -> None:
    """Raise ValueError if a CSR or CSC matrix points to entries that it does not have.

    Kernels trust these numbers, and so do SciPy's conversions; SciPy does not check
    them when a matrix is made.
    """
    (n_lines, n_across), kind, mend = X.shape, "column", "build it again"
    if X.format == "csc":
        n_lines, n_across, kind = n_across, n_lines, "row"
    starts, n_entries = np.asarray(X.indptr), min(len(X.data), len(X.indices))
    problem = ""
    if starts.shape != (n_lines + 1,):
        problem = f"has {starts.size} entries instead of {n_lines + 1}"
    elif starts[0] != 0:
        problem = f"begins with {starts[0]} instead of 0"
    elif (starts[1:] < starts[:-1]).any():
        problem = "decreases"
    elif starts[-1] > n_entries:
        problem = f"ends with {starts[-1]}, but there are {n_entries} stored entries"
    if problem:
        raise ValueError(f"{name} is a sparse matrix whose indptr {problem}: {mend}")
    used = X.indices[: starts[-1]]
    low, high = used.min(initial=0), used.max(initial=0)
    if low < 0 or high >= n_across:
        raise ValueError(
            f"{name} is a sparse matrix with {kind} indices from {low} to {high}, but "
            f"has {n_across} {kind}s: {mend} with indices in range"
        )


# ---------------------------------------------------------------------------
# Values
# ---------------------------------------------------------------------------


class ValueRange(NamedTuple):
    """Values that data may have, given a loss or the output's activation."""

    parameter: str  # "loss" or "output_activation"
    value: str  # of the parameter
    low: float
    high: float

    @property
    def is_strict(self) -> bool:
        """Whether the loss is not defined outside, because it takes logarithms.

        Outside the range of its output a network reconstructs the nearest value that
        it can, which only the score would show.
        """
        return self.parameter == "loss"


def check_range(
    X: Matrix,
    limits: ValueRange | None,
    name: str = "X",
    *,
    size: float = 0.0,
    found: tuple[np.floating, np.floating] | None = None,
) -> Matrix:
    """Check that all observed entries are within limits, except for rounding.

    Parameters
    ----------
    X : {ndarray, CSR matrix}

    limits : ValueRange or None
        None allows all values.

    name : str, default="X"
        Name of X in errors.

    size : float, default=0
        Largest entry of the data that X is a part of.

    found : tuple, default=None
        Lowest and highest observed value that X stores, if they are known.

    Returns
    -------
    X : {ndarray, CSR matrix}
        X itself; with strict limits and entries outside, a copy in which these are
        moved to the bound.

    Raises
    ------
    ValueError
        If entries are outside by more than rounding.
    """
    if limits is None:
        return X
    values = np.asarray(X) if isinstance(X, np.ndarray) else X.data
    # Of empty data, or the entries that a sparse X leaves out.
    lowest = highest = X.dtype.type(max(0.0, limits.low))
    if values.size:
        found = found or lowest_and_highest_observed(_values(X))
        # Neither is NaN, unless no entry is observed.
        lowest, highest = min(lowest, found[0]), max(highest, found[1])
    low, high = float(lowest), float(highest)
    if limits.low <= low and high <= limits.high:
        return X
    tolerance = _BEYOND
    if limits.is_strict:
        unit = limits.high if math.isfinite(limits.high) else max(high, size)
        tolerance = _RANGE_ROUNDINGS * float(np.finfo(X.dtype).eps) * unit
    is_below = low < limits.low - tolerance
    if is_below or high > limits.high + tolerance:
        raise ValueError(_out_of_range(limits, name, lowest, highest, is_below))
    if not limits.is_strict:
        return X
    values = np.clip(values, limits.low, limits.high)
    if isinstance(X, np.ndarray):
        return values
    return type(X)((values, X.indices, X.indptr), shape=X.shape)


def _out_of_range(
    limits: ValueRange,
    name: str,
    lowest: np.floating,
    highest: np.floating,
    is_below: bool,
) -> str:
    """What is wrong with values from `lowest` to `highest`, and what helps."""
    # scikit-learn's checks want an error on negative data to begin like this.
    problem = f"Values above {limits.high:g}"
    if is_below:
        problem = f"Values below {limits.low:g}" if limits.low else "Negative values"
    legal = f"in [{limits.low:g}, {limits.high:g}]"
    if math.isinf(limits.high):
        legal = f">= {limits.low:g}"
    demand, scaler, other = f"its values are {legal}", "MinMaxScaler()", "identity"
    # With all digits: 1.0000001 is not 1.
    first, last = str(lowest), str(highest)
    if limits.is_strict:
        first, last = first.removesuffix(".0"), last.removesuffix(".0")
        demand, scaler, other = (
            f"it needs values {legal}",
            "MinMaxScaler(clip=True)",
            "squared_error",
        )
    elif limits.low < 0 and math.isfinite(limits.high):
        scaler = f"MinMaxScaler(feature_range=({limits.low:g}, {limits.high:g}))"
    return (
        f"{problem} in data passed to {limits.parameter}={limits.value!r}: {demand}, "
        f"and {name} has values from {first} to {last}. Scale it with {scaler}, or "
        f"use {limits.parameter}={other!r}"
    )


# ---------------------------------------------------------------------------
# Weights and groups of samples
# ---------------------------------------------------------------------------


def check_weights(sample_weight: ArrayLike | numbers.Number, n_rows: int) -> Floats:
    """Validate sample weights.

    Parameters
    ----------
    sample_weight : array-like of shape (n_rows,) or number
        Only their ratios count.

    n_rows : int

    Returns
    -------
    sample_weight : ndarray of shape (n_rows,), dtype=float64
        The weights, which may all be divided by the same power of two.

    Raises
    ------
    ValueError
        If the shape is wrong, an entry is negative or not finite, or none is positive.
    """
    if isinstance(sample_weight, numbers.Number):
        sample_weight = np.full(n_rows, sample_weight)
    weights: Floats = check_array(
        sample_weight,
        ensure_2d=False,
        dtype=np.float64,
        order="C",
        input_name="sample_weight",
    )
    if weights.ndim != 1:
        raise ValueError(
            f"sample_weight must be 1-D, got shape {weights.shape}: pass one weight "
            f"for each of the {n_rows} rows of X"
        )
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(n_rows,)}: X and "
            "sample_weight have inconsistent numbers of samples"
        )
    if (weights < 0).any():
        raise ValueError(
            f"Negative values in sample_weight: the smallest is {weights.min()}; "
            "weights have to be >= 0"
        )
    if not weights.any():
        raise ValueError(
            "sample_weight has no positive entry. Sample weights must contain at least "
            "one non-zero number."
        )
    exponent = math.frexp(weights.max())[1]
    if abs(exponent) > _MODERATE_WEIGHT:
        weights = np.ldexp(weights, -exponent)
    return weights


def check_groups(groups: ArrayLike | None, n_samples: int) -> np.ndarray | None:
    """Validate group labels; returns numbers of shape (n_samples,), or None."""
    if groups is None:
        return None
    groups = check_array(
        groups, ensure_2d=False, dtype=None, ensure_min_samples=0, input_name="groups"
    )
    labels = column_or_1d(groups)
    if len(labels) != n_samples:
        raise ValueError(
            f"groups has {len(labels)} labels, but X has {n_samples} samples: pass one "
            "label for each sample"
        )
    try:
        return np.unique(labels, return_inverse=True)[1]
    except TypeError as error:  # objects without an order
        raise ValueError(
            f"groups has labels that cannot be told apart: {error}. Pass numbers, or "
            "strings"
        ) from error
