"""Dtypes of the columns of tables, described in plain text, without their library.

So a fitted estimator holds no object of a library of data frames: pickles and files of
it can be read where that is not installed.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from skae._runtime.extras import check_installed

_INTEGERS = r"u?int(?:8|16|32|64)"
_NUMPY = rf"bool|object|{_INTEGERS}|float(?:16|32|64)"
_OF_STRINGS = r"string:(?:python|pyarrow|pyarrow_numpy):(?:nan|NA)"
_MASKED = r"U?Int(?:8|16|32|64)|Float(?:32|64)|boolean"
_ARROW_SIMPLE = (
    rf"bool|null|{_INTEGERS}|halffloat|float|double|"
    r"string|large_string|string_view|decimal(?:32|64|128|256):\d{1,2}:-?\d{1,2}"
)
_ARROW = (
    rf"{_ARROW_SIMPLE}|dictionary:(?:ordered|unordered):{_INTEGERS}:(?:{_ARROW_SIMPLE})"
)
_ORDER = {True: "ordered", False: "unordered"}
# What the texts of each library's dtypes are like.
_PATTERNS = {
    "numpy": rf"{_NUMPY}|[US]\d{{1,9}}",
    "pandas": (
        rf"{_NUMPY}|{_OF_STRINGS}|{_MASKED}|Sparse:(?:{_NUMPY}):\S{{1,30}}|"
        rf"arrow:(?:{_ARROW})|"
        rf"category:(?:ordered|unordered):(?:{_NUMPY}|{_OF_STRINGS}|{_MASKED})"
    ),
    "polars": (
        r"U?Int(?:8|16|32|64|128)|Float(?:16|32|64)|String|Boolean|Null|Object|"
        r"Categorical|Enum|Decimal:\d{1,2}:\d{1,2}"
    ),
    "pyarrow": _ARROW,
}
# Types of the levels that dtypes have.
_LEVELS = str, bool, int, float


class Dtype(NamedTuple):
    """Description of a dtype."""

    text: str  # what `_PATTERNS` has for the library
    levels: list[Any] | None = None  # in their order, of a dtype that has some

    def is_of(self, library: str) -> bool:
        """Whether a library may have such a dtype."""
        has_levels = re.fullmatch(r"Enum|category:.*", self.text) is not None
        return (
            re.fullmatch(_PATTERNS[library], self.text) is not None
            and has_levels == (self.levels is not None)
            and all(type(level) in _LEVELS for level in self.levels or ())
        )


def described(library: str, dtype: Any) -> Any:
    """Description of a dtype of a library; the dtype itself if there is none for it."""
    describe, make = _LIBRARIES[library]
    try:
        description = describe(dtype)
        is_whole = description.is_of(library) and make(description) == dtype
    except (AttributeError, TypeError, ValueError):  # of another form
        return dtype
    return description if is_whole else dtype


def dtype_of(library: str, description: Any) -> Any:
    """The dtype that `described` has described.

    Raises ImportError if the library is not installed.
    """
    if not isinstance(description, Dtype):
        return description
    caller = f"inverse_transform to a table of {library}, as that of the fit,"
    check_installed(caller, library)
    return _LIBRARIES[library][1](description)


def _describe_numpy(dtype: np.dtype) -> Dtype:
    if dtype.kind in "US":
        return Dtype(dtype.str[1:])
    return Dtype(dtype.name)


def _make_numpy(description: Dtype) -> np.dtype:
    return np.dtype(description.text)


def _describe_pandas(dtype: Any) -> Dtype:
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        inner = _describe_pandas(dtype.categories.dtype)
        order = _ORDER[bool(dtype.ordered)]
        return Dtype(f"category:{order}:{inner.text}", dtype.categories.tolist())
    if isinstance(dtype, pd.StringDtype):
        missing = getattr(dtype, "na_value", pd.NA)
        return Dtype(f"string:{dtype.storage}:{'NA' if missing is pd.NA else 'nan'}")
    if isinstance(dtype, pd.SparseDtype):
        inner = _describe_numpy(dtype.subtype)
        return Dtype(f"Sparse:{inner.text}:{float(dtype.fill_value)!r}")
    if isinstance(dtype, pd.ArrowDtype):
        return Dtype(f"arrow:{_describe_arrow(dtype.pyarrow_dtype).text}")
    return Dtype(dtype.name)


def _make_pandas(description: Dtype) -> Any:
    import pandas as pd

    kind, _, rest = description.text.partition(":")
    if kind == "category":
        order, _, inner = rest.partition(":")
        levels = pd.Index(description.levels, dtype=_make_pandas(Dtype(inner)))
        return pd.CategoricalDtype(levels, ordered=order == _ORDER[True])
    if kind == "string":
        storage, _, missing = rest.partition(":")
        made = pd.StringDtype(storage)
        if missing == "nan" and made.na_value is pd.NA:
            made = pd.StringDtype(storage, na_value=np.nan)
        return made
    if kind == "Sparse":
        inner, _, fill_value = rest.partition(":")
        of_values = np.dtype(inner)
        return pd.SparseDtype(of_values, of_values.type(float(fill_value)).item())
    if kind == "arrow":
        return pd.ArrowDtype(_make_arrow(Dtype(rest)))
    return pd.api.types.pandas_dtype(description.text)


def _describe_polars(dtype: Any) -> Dtype:
    import polars as pl

    if dtype == pl.Enum:
        return Dtype("Enum", dtype.categories.to_list())
    if dtype == pl.Decimal:
        return Dtype(f"Decimal:{dtype.precision}:{dtype.scale}")
    return Dtype(str(dtype.base_type()))


def _make_polars(description: Dtype) -> Any:
    import polars as pl

    kind, *numbers = description.text.split(":")
    if kind == "Enum":
        return pl.Enum(description.levels or [])
    if kind == "Decimal":
        return pl.Decimal(*map(int, numbers))
    return getattr(pl, kind)


def _describe_arrow(dtype: Any) -> Dtype:
    from pyarrow import types

    if types.is_dictionary(dtype):
        inner = _describe_arrow(dtype.value_type).text
        return Dtype(f"dictionary:{_ORDER[dtype.ordered]}:{dtype.index_type}:{inner}")
    if types.is_decimal(dtype):
        return Dtype(f"decimal{dtype.bit_width}:{dtype.precision}:{dtype.scale}")
    return Dtype(str(dtype))


def _make_arrow(description: Dtype) -> Any:
    import pyarrow as pa

    kind, *rest = description.text.split(":")
    if kind == "dictionary":
        order, index, *inner = rest
        values = _make_arrow(Dtype(":".join(inner)))
        is_ordered = order == _ORDER[True]
        return pa.dictionary(pa.type_for_alias(index), values, ordered=is_ordered)
    if kind.startswith("decimal"):
        return getattr(pa, kind)(*map(int, rest))
    return pa.type_for_alias(kind)


# How dtypes of each library are described, and made of descriptions.
_LIBRARIES: dict[str, tuple[Callable[[Any], Dtype], Callable[[Dtype], Any]]] = {
    "numpy": (_describe_numpy, _make_numpy),
    "pandas": (_describe_pandas, _make_pandas),
    "polars": (_describe_polars, _make_polars),
    "pyarrow": (_describe_arrow, _make_arrow),
}
