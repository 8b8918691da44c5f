"""Tables of any library: their columns, and tables that are made of columns.

Each kind of table has a class here, with the same methods. Columns are read as numbers,
float arrays with NaN for missing entries, or as categories: the number of each entry's
level, -1 if it is missing, and the levels.
"""

import decimal
import numbers
import sys
from collections.abc import Iterable
from typing import Any, ClassVar, Protocol

import numpy as np

from skae._typing import Floats

# Kinds of columns. What is neither is refused: dates, lists, numbers beside text.
NUMBER, CATEGORY, OTHER = "number", "category", "other"
# Kinds of NumPy's dtypes of text.
_TEXT = "UST"


class Frame(Protocol):
    """A table."""

    library: ClassVar[str]
    n_rows: int
    names: list[Any] | None  # of the columns; None if they have none
    dtypes: list[Any]  # of the columns, as their library has them

    def __init__(self, X: Any) -> None: ...

    @staticmethod
    def is_one(X: Any) -> bool:
        """Whether X is a table of this kind."""

    @staticmethod
    def make(columns: list[np.ndarray], names: Any, dtypes: list[Any]) -> Any:
        """A table of columns: of floats for numbers, of objects for categories."""

    def kind(self, column: int) -> str:
        """Kind of a column by its dtype, or of objects by what they are."""

    def numbers(self, column: int) -> Floats:
        """Entries of a column as float64, or float32 if that is its dtype."""

    def levels(self, column: int) -> tuple[np.ndarray, list[Any]]:
        """Numbers of the entries' levels, int64, and the levels."""

    def holds_objects(self, column: int) -> bool:
        """Whether the kind of a column depends on its entries, not on its dtype."""

    def declared(self, column: int) -> list[Any]:
        """Levels that the dtype of a column of categories names; none if it does not.

        They need not occur.
        """

    @staticmethod
    def common_dtype(one: Any, other: Any) -> Any:
        """The dtype of a column of two tables, one after the other, if they differ.

        None if the library makes no table of both.
        """

    def column(
        self, column: int, rows: np.ndarray, values: np.ndarray | None = None
    ) -> Any:
        """A column as it is, or with other values in some rows; None: missing ones.

        Numbers are rounded if the column has an integer dtype.
        """

    def joined(self, columns: list[Any], names: Any) -> Any:
        """A table like this one of such columns, or of arrays."""


def frame_of(X: Any) -> Frame | None:
    """A table of some kind; None for other data, such as an array of numbers.

    Raises TypeError for a table that has no values yet.
    """
    X = gathered(X)
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(X, polars.LazyFrame):
        raise TypeError("X is a LazyFrame, which has no values: pass X.collect()")
    for kind in FRAMES.values():
        if kind.is_one(X):
            return kind(X)
    return None


def has_names(X: Any) -> bool:
    """Whether X is a table whose columns have names."""
    frame = frame_of(X)
    return frame is not None and frame.names is not None


def gathered(X: Any) -> Any:
    """X, in memory if it is a Dask dataframe."""
    return X.compute() if type(X).__module__.startswith("dask.dataframe") else X


class MarkedFrame:
    """A table in which a value stands for missing ones, besides NaN and None.

    Parameters
    ----------
    frame : Frame

    mark : str or number
        A number does not stand for missing strings or booleans.
    """

    def __init__(self, frame: Frame, mark: Any) -> None:
        self._frame, self._mark = frame, mark

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frame, name)

    def kind(self, column: int) -> str:
        """As of `Frame`: the mark does not make numbers categories."""
        kind, dtype = self._frame.kind(column), self._frame.dtypes[column]
        is_object = isinstance(dtype, np.dtype) and dtype.kind == "O"
        return _kind_of_objects(self, column) if is_object else kind

    def numbers(self, column: int) -> Floats:
        """As of `Frame`."""
        if self._frame.kind(column) == NUMBER:
            values = self._frame.numbers(column)
            if isinstance(self._mark, str):
                return values
            return np.where(values == values.dtype.type(self._mark), np.nan, values)
        codes, levels = self.levels(column)
        numbers: Floats = np.append(_numbers_of(levels), np.nan)[codes]
        return numbers

    def levels(self, column: int) -> tuple[np.ndarray, list[Any]]:
        """As of `Frame`."""
        codes, levels = self._frame.levels(column)
        is_text = isinstance(self._mark, str)
        is_mark = [
            (isinstance(v, str) if is_text else _is_number(v)) and v == self._mark
            for v in levels
        ]
        if True not in is_mark:
            return codes, levels
        number = is_mark.index(True)
        codes = np.where(codes == number, -1, codes - (codes > number))
        return codes, levels[:number] + levels[number + 1 :]


def marked(frame: Frame, mark: Any) -> Any:
    """A table in which a mark, if it is not None, stands for missing values."""
    return frame if mark is None else MarkedFrame(frame, mark)


def is_missing(value: Any) -> bool:
    """Whether a value is NaN, None, pandas.NA or pandas.NaT."""
    if value is None:
        return True
    pandas = sys.modules.get("pandas")
    if pandas is not None and (value is pandas.NA or value is pandas.NaT):
        return True
    is_real = isinstance(value, numbers.Real | decimal.Decimal)
    return is_real and bool(value != value)


def _encoded(values: Iterable[Any], n: int) -> tuple[np.ndarray, list[Any]]:
    """Numbers of the levels of some objects, and these levels.

    Raises TypeError if an object cannot be a level, because it has no hash.
    """
    known: dict[Any, int] = {}
    codes = np.fromiter((known.setdefault(v, len(known)) for v in values), np.int64, n)
    levels = list(known)
    lacks = np.array([is_missing(level) for level in levels], dtype=bool)
    if not lacks.any():
        return codes, levels
    numbered = np.where(lacks, -1, np.cumsum(~lacks) - 1)
    kept = [levels[i] for i in np.flatnonzero(~lacks)]
    return numbered[codes], kept


def _kind_of_objects(frame: Any, column: int) -> str:
    """Kind of a column of objects: numbers among names may be anything."""
    try:
        levels = frame.levels(column)[1]
    except TypeError:
        return OTHER
    if all(_is_number(level) for level in levels):
        return NUMBER
    return CATEGORY if all(_has_name(level) for level in levels) else OTHER


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, numbers.Real | decimal.Decimal)
    return is_real and not isinstance(value, bool | np.bool_)


def _has_name(value: Any) -> bool:
    return isinstance(value, str | bytes | bool | np.bool_)


def _numbers_of(values: Iterable[Any]) -> Floats:
    """Objects as float64."""
    there = [np.nan if is_missing(v) else float(v) for v in values]
    return np.array(there, dtype=np.float64)


def _whole(values: Floats, dtype: np.dtype) -> np.ndarray:
    """Numbers as the nearest that a dtype of integers, or booleans, can hold."""
    if dtype.kind == "b":
        return values >= 0.5
    with np.errstate(invalid="ignore"):
        rounded = np.rint(values.astype(np.float64))
    return np.clip(rounded, *range_of(dtype)).astype(dtype)


def range_of(dtype: np.dtype) -> tuple[float, float]:
    """The least and the largest float64 that a dtype of integers can hold."""
    info = np.iinfo(dtype)
    largest = float(info.max)
    if int(largest) > info.max:  # the largest integers are no float64
        largest = float(np.nextafter(largest, 0))
    return float(info.min), largest


def _replaced(array: np.ndarray, rows: np.ndarray, values: Any) -> np.ndarray:
    """A copy of an array, with other values in some rows, or missing ones."""
    if values is None:
        is_number = array.dtype.kind in "fiu"
        array = array.astype(np.result_type(array, np.float32) if is_number else object)
        array[rows] = np.nan if is_number else None
        return array
    if values.dtype.kind == "f" and array.dtype.kind == "f":
        largest = np.finfo(array.dtype).max
        values = np.clip(values, -largest, largest)
    elif values.dtype.kind == "f" and array.dtype.kind in "iu":
        values = _whole(values, array.dtype)
    elif array.dtype.kind in "US":  # with room for the longest level
        values = values.astype(array.dtype.kind)
        array = array.astype(np.result_type(array, values))
    array = array.copy()
    array[rows] = values
    return array


class ArrayFrame(Frame):
    """A NumPy array; of objects or strings, or of numbers that stand for levels."""

    library = "numpy"

    def __init__(self, X: Any) -> None:
        self.names = None
        is_list = isinstance(X, list | tuple)
        self.array = np.array(X, dtype=object) if is_list else np.asarray(X)
        if is_list and self.array.ndim == 1 and isinstance(X[0], list | tuple):
            raise ValueError("Rows of X have different lengths: X has no columns")
        if self.array.ndim != 2:
            raise ValueError(
                f"Expected 2D array, got {self.array.ndim}D array instead: X has a "
                "row for each sample and a column for each feature"
            )
        self.n_rows, n_columns = self.array.shape
        self._encoded: dict[int, tuple[np.ndarray, list[Any]]] = {}
        self.dtypes = [self._dtype(j) for j in range(n_columns)]

    @staticmethod
    def is_one(X: Any) -> bool:
        """Whether X is an array, or nested lists, that may have categories."""
        if isinstance(X, list | tuple):
            are_rows = all(isinstance(row, list | tuple) for row in X)
            types = {type(value) for row in X for value in row} if are_rows else set()
            return not all(issubclass(kind, numbers.Real) for kind in types)
        return isinstance(X, np.ndarray) and X.dtype.kind in f"O{_TEXT}"

    def _dtype(self, column: int) -> Any:
        if self.array.dtype.kind != "O":
            return self.array.dtype
        if _kind_of_objects(self, column) != NUMBER:
            return self.array.dtype
        levels = self.levels(column)[1]
        is_whole = all(isinstance(level, numbers.Integral) for level in levels)
        return np.dtype(np.int64 if levels and is_whole else np.float64)

    def kind(self, column: int) -> str:
        if self.array.dtype.kind == "O":
            return _kind_of_objects(self, column)
        return CATEGORY if self.array.dtype.kind in _TEXT else NUMBER

    def numbers(self, column: int) -> Floats:
        values = self.array[:, column]
        if values.dtype.kind == "O":
            return _numbers_of(values)
        return values.astype(np.result_type(values.dtype, np.float32))

    def levels(self, column: int) -> tuple[np.ndarray, list[Any]]:
        if column not in self._encoded:
            values = self.array[:, column].tolist()
            self._encoded[column] = _encoded(values, self.n_rows)
        return self._encoded[column]

    def holds_objects(self, column: int) -> bool:
        return bool(self.array.dtype.kind == "O")

    def declared(self, column: int) -> list[Any]:
        return []

    @staticmethod
    def common_dtype(one: Any, other: Any) -> Any:
        return np.result_type(one, other)

    @staticmethod
    def make(columns: list[np.ndarray], names: Any, dtypes: list[Any]) -> np.ndarray:
        """An array of columns: of objects, unless all are of one dtype of numbers."""
        whole = np.empty((len(columns[0]), len(columns)), dtype=object)
        for j, (values, dtype) in enumerate(zip(columns, dtypes, strict=True)):
            is_whole = dtype.kind in "iub" and values.dtype.kind == "f"
            whole[:, j] = _whole(values, dtype) if is_whole else values
        kinds = set(dtypes)
        dtype = kinds.pop() if len(kinds) == 1 else np.dtype(object)
        return whole if dtype.kind == "O" else whole.astype(dtype)

    def column(
        self, column: int, rows: np.ndarray, values: np.ndarray | None = None
    ) -> np.ndarray:
        return _replaced(self.array[:, column], rows, values)

    def joined(self, columns: list[Any], names: list[str]) -> np.ndarray:
        kinds = {"text" if c.dtype.kind in "US" else c.dtype.kind for c in columns}
        if not kinds & {"text", "O"} or kinds == {"text"}:
            return np.column_stack(columns)
        whole = np.empty((self.n_rows, len(columns)), dtype=object)
        for j, values in enumerate(columns):
            whole[:, j] = values
        return whole


class PandasFrame(Frame):
    """A pandas DataFrame."""

    library = "pandas"

    def __init__(self, X: Any) -> None:
        self._frame = X
        self.n_rows = len(X)
        self.names = list(X.columns)
        self.dtypes = list(X.dtypes)

    @staticmethod
    def is_one(X: Any) -> bool:
        """Whether X is a pandas DataFrame."""
        pandas = sys.modules.get("pandas")
        return pandas is not None and isinstance(X, pandas.DataFrame)

    @classmethod
    def of(cls, columns: dict[str, Any]) -> Frame:
        """A table with these columns, by name."""
        import pandas as pd

        return cls(pd.DataFrame(columns))

    def kind(self, column: int) -> str:
        import pandas as pd

        dtype = self.dtypes[column]
        if isinstance(dtype, pd.SparseDtype):  # also of booleans, as dummies are
            return NUMBER if dtype.subtype.kind in "biuf" else OTHER
        if isinstance(dtype, pd.CategoricalDtype | pd.StringDtype):
            return CATEGORY
        if pd.api.types.is_bool_dtype(dtype):
            return CATEGORY
        if pd.api.types.is_numeric_dtype(dtype):
            is_complex = pd.api.types.is_complex_dtype(dtype)
            return OTHER if is_complex else NUMBER
        if pd.api.types.is_object_dtype(dtype):
            return _kind_of_objects(self, column)
        if isinstance(dtype, pd.ArrowDtype):
            return _kind_of_arrow(dtype.pyarrow_dtype)
        return OTHER

    def numbers(self, column: int) -> Floats:
        series = self._frame.iloc[:, column]
        if series.dtype == object:
            return _numbers_of(series.tolist())
        dtype = np.float32 if series.dtype == np.float32 else np.float64
        return np.asarray(series.to_numpy(dtype=dtype, na_value=np.nan))

    def levels(self, column: int) -> tuple[np.ndarray, list[Any]]:
        import pandas as pd

        series = self._frame.iloc[:, column]
        if series.dtype == object:
            return _encoded(series.tolist(), self.n_rows)
        codes, levels = pd.factorize(series)
        return codes.astype(np.int64), levels.tolist()

    def holds_objects(self, column: int) -> bool:
        import pandas as pd

        return bool(pd.api.types.is_object_dtype(self.dtypes[column]))

    def declared(self, column: int) -> list[Any]:
        import pandas as pd

        dtype = self.dtypes[column]
        if isinstance(dtype, pd.CategoricalDtype) and dtype.categories is not None:
            levels: list[Any] = dtype.categories.tolist()
            return levels
        return [False, True] if pd.api.types.is_bool_dtype(dtype) else []

    @staticmethod
    def common_dtype(one: Any, other: Any) -> Any:
        import pandas as pd

        kinds = {isinstance(dtype, pd.CategoricalDtype) for dtype in (one, other)}
        if kinds == {True}:  # pandas makes objects of them
            return pd.CategoricalDtype(one.categories.union(other.categories))
        if kinds == {True, False}:
            return np.dtype(object)
        # Not of empty ones, which pandas ignores, with a warning.
        return pd.concat([pd.Series([0]).astype(t) for t in (one, other)]).dtype

    @staticmethod
    def make(columns: list[np.ndarray], names: Any, dtypes: list[Any]) -> Any:
        """A frame of columns."""
        import pandas as pd

        made = {}
        for j, (values, dtype) in enumerate(zip(columns, dtypes, strict=True)):
            if values.dtype.kind == "f":
                values = PandasFrame._rounded(values, dtype)
            made[j] = pd.Series(values).astype(dtype)
        frame = pd.DataFrame(made)
        frame.columns = names
        return frame

    @staticmethod
    def _rounded(values: Floats, dtype: Any) -> np.ndarray:
        """Numbers that a column of a dtype can hold."""
        import pandas as pd

        if isinstance(dtype, pd.SparseDtype):
            dtype = dtype.subtype
        if pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_integer_dtype(dtype):
            return _whole(values, np.dtype(getattr(dtype, "numpy_dtype", dtype)))
        return values

    def column(
        self, column: int, rows: np.ndarray, values: np.ndarray | None = None
    ) -> Any:
        import pandas as pd

        series = self._frame.iloc[:, column]
        if not rows.size:
            return series
        if isinstance(series.dtype, pd.SparseDtype):
            series = series.sparse.to_dense()
        if values is None:
            is_chosen = np.zeros(self.n_rows, dtype=bool)
            is_chosen[rows] = True
            return series.mask(is_chosen)
        dtype = series.dtype
        if isinstance(dtype, np.dtype):
            array = _replaced(series.to_numpy(), rows, values)
            return pd.Series(array, index=series.index, dtype=array.dtype)
        if isinstance(dtype, pd.CategoricalDtype):
            known = set(dtype.categories)
            new = [level for level in dict.fromkeys(values) if level not in known]
            series = series.cat.add_categories(new)
        elif pd.api.types.is_integer_dtype(dtype) and values.dtype.kind == "f":
            values = _whole(values, np.dtype(dtype.numpy_dtype))
        series = series.copy()
        series.iloc[rows] = pd.array(values.tolist(), dtype=series.dtype)
        return series

    def joined(self, columns: list[Any], names: list[str]) -> Any:
        import pandas as pd

        index = self._frame.index
        whole = pd.DataFrame(
            {
                j: values if isinstance(values, pd.Series) else pd.Series(values, index)
                for j, values in enumerate(columns)
            },
            index=index,
        )
        whole.columns = names
        return whole


class PolarsFrame(Frame):
    """A polars DataFrame."""

    library = "polars"

    def __init__(self, X: Any) -> None:
        self._frame = X
        self.n_rows = X.height
        self.names = list(X.columns)
        self.dtypes = list(X.dtypes)

    @staticmethod
    def is_one(X: Any) -> bool:
        """Whether X is a polars DataFrame."""
        polars = sys.modules.get("polars")
        return polars is not None and isinstance(X, polars.DataFrame)

    @classmethod
    def of(cls, columns: dict[str, Any]) -> Frame:
        """A table with these columns, by name."""
        import polars as pl

        return cls(pl.DataFrame(columns))

    def kind(self, column: int) -> str:
        import polars as pl

        dtype = self.dtypes[column]
        if dtype.is_numeric():
            return NUMBER
        if dtype == pl.Object:
            return _kind_of_objects(self, column)
        is_named = dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum)
        if dtype == pl.Null:  # nothing is known of it
            return NUMBER
        return CATEGORY if is_named else OTHER

    def numbers(self, column: int) -> Floats:
        import polars as pl

        series = self._frame.to_series(column)
        if series.dtype == pl.Object:
            return _numbers_of(series.to_list())
        dtype = pl.Float32 if series.dtype == pl.Float32 else pl.Float64
        numbers: Floats = series.cast(dtype).fill_null(np.nan).to_numpy()
        return numbers

    def levels(self, column: int) -> tuple[np.ndarray, list[Any]]:
        return _encoded(self._frame.to_series(column).to_list(), self.n_rows)

    def holds_objects(self, column: int) -> bool:
        import polars as pl

        return self.dtypes[column] in (pl.Object, pl.Null)

    def declared(self, column: int) -> list[Any]:
        import polars as pl

        dtype = self.dtypes[column]
        if dtype == pl.Enum:
            levels: list[Any] = dtype.categories.to_list()
            return levels
        return [False, True] if dtype == pl.Boolean else []

    @staticmethod
    def common_dtype(one: Any, other: Any) -> Any:
        import polars as pl

        return {one: other, other: one}.get(pl.Null)

    @staticmethod
    def make(columns: list[np.ndarray], names: Any, dtypes: list[Any]) -> Any:
        """A frame of columns."""
        import polars as pl

        made = []
        for name, values, dtype in zip(names, columns, dtypes, strict=True):
            if dtype == pl.Null:
                made.append(pl.Series(name, [None] * len(values)))
            elif values.dtype.kind == "f":
                values = np.rint(values) if dtype.is_integer() else values
                values = values >= 0.5 if dtype == pl.Boolean else values
                made.append(pl.Series(name, values).cast(dtype, strict=False))
            else:
                made.append(pl.Series(name, values.tolist(), dtype=dtype))
        return pl.DataFrame(made)

    def column(
        self, column: int, rows: np.ndarray, values: np.ndarray | None = None
    ) -> Any:
        import polars as pl

        series = self._frame.to_series(column)
        if not rows.size:
            return series
        dtype = series.dtype
        if values is not None and values.dtype.kind == "f":
            if dtype.is_integer():
                values = _whole(values, pl.Series([], dtype=dtype).to_numpy().dtype)
            elif not dtype.is_float() and dtype != pl.Object:
                dtype = pl.Float64()
                series = series.cast(dtype)
        elif values is not None and isinstance(dtype, pl.Enum):
            is_known = {*values} <= {*dtype.categories}
            dtype = dtype if is_known else pl.String()
        return pl.Series(_with(series.to_list(), rows, values), dtype=dtype)

    def joined(self, columns: list[Any], names: list[str]) -> Any:
        import polars as pl

        return pl.DataFrame(
            [
                pl.Series(name, values)
                for name, values in zip(names, columns, strict=True)
            ]
        )


class ArrowFrame(Frame):
    """A pyarrow Table, or one batch of it."""

    library = "pyarrow"

    def __init__(self, X: Any) -> None:
        import pyarrow as pa

        is_batch = isinstance(X, pa.RecordBatch)
        self._table = pa.Table.from_batches([X]) if is_batch else X
        self.n_rows = X.num_rows
        self.names = list(X.column_names)
        self.dtypes = list(X.schema.types)

    @staticmethod
    def is_one(X: Any) -> bool:
        """Whether X is a pyarrow Table or RecordBatch."""
        pa = sys.modules.get("pyarrow")
        return pa is not None and isinstance(X, pa.Table | pa.RecordBatch)

    def kind(self, column: int) -> str:
        return _kind_of_arrow(self.dtypes[column])

    def numbers(self, column: int) -> Floats:
        import pyarrow as pa

        values = self._table.column(column)
        dtype = pa.float32() if values.type == pa.float32() else pa.float64()
        # A copy, because arrays of pyarrow cannot be written to.
        return np.array(values.cast(dtype, safe=False).to_numpy())

    def levels(self, column: int) -> tuple[np.ndarray, list[Any]]:
        return _encoded(self._table.column(column).to_pylist(), self.n_rows)

    def holds_objects(self, column: int) -> bool:
        import pyarrow as pa

        return bool(pa.types.is_null(self.dtypes[column]))

    def declared(self, column: int) -> list[Any]:
        import pyarrow as pa

        return [False, True] if pa.types.is_boolean(self.dtypes[column]) else []

    @staticmethod
    def common_dtype(one: Any, other: Any) -> Any:
        import pyarrow as pa

        return {one: other, other: one}.get(pa.null())

    @staticmethod
    def make(columns: list[np.ndarray], names: Any, dtypes: list[Any]) -> Any:
        """A table of columns."""
        import pyarrow as pa

        made = []
        for values, dtype in zip(columns, dtypes, strict=True):
            if pa.types.is_null(dtype):
                made.append(pa.nulls(len(values), dtype))
            elif values.dtype.kind == "f":
                values = np.rint(values) if pa.types.is_integer(dtype) else values
                values = values >= 0.5 if pa.types.is_boolean(dtype) else values
                made.append(pa.array(values).cast(dtype, safe=False))
            elif pa.types.is_dictionary(dtype):
                levels = pa.array(values.tolist(), type=dtype.value_type)
                made.append(levels.dictionary_encode().cast(dtype))
            else:
                made.append(pa.array(values.tolist(), type=dtype))
        return pa.table(made, names=names)

    def column(
        self, column: int, rows: np.ndarray, values: np.ndarray | None = None
    ) -> Any:
        import pyarrow as pa

        array = self._table.column(column)
        if not rows.size:
            return array
        dtype = array.type
        if values is not None and values.dtype.kind == "f":
            if pa.types.is_integer(dtype):
                values = _whole(values, np.dtype(dtype.to_pandas_dtype()))
            elif not pa.types.is_floating(dtype):
                dtype = pa.float64()
                array = array.cast(dtype)
        filled = _with(array.to_pylist(), rows, values)
        if pa.types.is_dictionary(dtype):
            whole = pa.array(filled, type=dtype.value_type)
            return whole.dictionary_encode().cast(dtype)
        return pa.array(filled, type=dtype)

    def joined(self, columns: list[Any], names: list[str]) -> Any:
        import pyarrow as pa

        return pa.table(
            [pa.array(v) if isinstance(v, np.ndarray) else v for v in columns],
            names=names,
        )


def _with(entries: list[Any], rows: np.ndarray, values: np.ndarray | None) -> list[Any]:
    """A list with other values in some places, or with None."""
    new = [None] * len(rows) if values is None else values.tolist()
    for row, value in zip(rows.tolist(), new, strict=True):
        entries[row] = value
    return entries


def _kind_of_arrow(dtype: Any) -> str:
    """Kind of a column of a type of pyarrow."""
    from pyarrow import types

    if types.is_integer(dtype) or types.is_floating(dtype) or types.is_decimal(dtype):
        return NUMBER
    if types.is_null(dtype):  # nothing is known of it
        return NUMBER
    is_text = types.is_string(dtype) or types.is_large_string(dtype)
    is_named = types.is_boolean(dtype) or types.is_dictionary(dtype)
    is_view = getattr(types, "is_string_view", lambda _: False)(dtype)
    return CATEGORY if is_text or is_named or is_view else OTHER


FRAMES: dict[str, type[Frame]] = {
    kind.library: kind for kind in (PandasFrame, PolarsFrame, ArrowFrame, ArrayFrame)
}


def in_library(frame: Frame, library: str, numbers: np.ndarray) -> Frame:
    """A table of another library: of floats in some columns, and objects in others."""
    if library == frame.library:
        return frame
    columns: dict[str, Any] = {}
    for j in range(len(frame.dtypes)):
        name = f"x{j}" if frame.names is None else str(frame.names[j])
        if j in numbers:
            columns[name] = frame.numbers(j)
        else:
            codes, levels = frame.levels(j)
            columns[name] = [*map([*levels, None].__getitem__, codes)]
    kind: Any = FRAMES[library]
    made: Frame = kind.of(columns)
    return made
