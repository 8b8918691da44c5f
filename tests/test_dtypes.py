"""Dtypes of tables as text: what is made of it is what was described."""

import sys

import numpy as np
import pandas as pd
import pytest

from skae._data.dtypes import Dtype, described, dtype_of


def of_numpy():
    return map(np.dtype, ("O", "U5", "S3", "f4", "i8", "?"))


def of_pandas():
    index = pd.Index(["b", "a"], dtype=object)
    yield from map(np.dtype, ("O", "?", "u1", "f2", "f8"))
    yield pd.StringDtype("python")
    yield from map(pd.api.types.pandas_dtype, ("Int8", "UInt64", "Float32", "boolean"))
    yield from (pd.SparseDtype(float), pd.SparseDtype(int, 3), pd.SparseDtype(bool))
    yield from (pd.CategoricalDtype(index, ordered=o) for o in (True, False))
    for levels in ([1, 2], [1.5, np.inf], [True, False], pd.Index(["a", 1])):
        yield pd.CategoricalDtype(levels)
    yield pd.CategoricalDtype(pd.array([1, 2], dtype="Int64"))
    yield pd.DataFrame({"text": ["a"]}).dtypes.iloc[0]  # object, or str


def of_pandas_with_pyarrow():
    pytest.importorskip("pyarrow")
    yield pd.StringDtype("pyarrow")
    for dtype in of_pyarrow():
        yield pd.ArrowDtype(dtype)


def of_polars():
    pl = pytest.importorskip("polars")
    yield from (pl.Int8(), pl.UInt64(), pl.Float32(), pl.String(), pl.Boolean())
    yield from (pl.Null(), pl.Object(), pl.Categorical(), pl.Enum(["b", "a"]))
    yield pl.Decimal(5, 2)


def of_pyarrow():
    pa = pytest.importorskip("pyarrow")
    yield from (pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64())
    yield from (pa.bool_(), pa.null(), pa.string(), pa.large_string())
    yield from (pa.decimal128(5, 2), pa.decimal256(40, -2))
    yield pa.dictionary(pa.int32(), pa.string(), ordered=True)
    yield pa.dictionary(pa.int8(), pa.decimal128(5, 2))


DTYPES = {
    "numpy": of_numpy,
    "pandas": of_pandas,
    "pandas with pyarrow": of_pandas_with_pyarrow,
    "polars": of_polars,
    "pyarrow": of_pyarrow,
}


@pytest.mark.parametrize("name", DTYPES)
def test_what_is_described_is_made_again(name):
    library, *_ = name.split()
    for dtype in DTYPES[name]():
        description = described(library, dtype)
        assert type(description) is Dtype, dtype
        assert description.is_of(library)
        made = dtype_of(library, description)
        assert made == dtype
        # Older versions of polars show an ordering that newer ones do not have.
        assert library == "polars" or str(made) == str(dtype)
        if description.levels is not None:
            levels = getattr(dtype, "categories", None)
            assert description.levels == list(levels) == list(made.categories)


def test_dtypes_without_a_description_stay_as_they_are():
    dates = pd.CategoricalDtype(pd.to_datetime(["2020-01-01"]))
    intervals = pd.CategoricalDtype(pd.interval_range(0, 2))
    for dtype in (dates, intervals, np.dtype("M8[s]"), np.dtype(">f8")):
        assert described("pandas", dtype) is dtype
        assert dtype_of("pandas", dtype) is dtype


WRONG = [
    ("numpy", "f8,f8", None),
    ("numpy", "U", None),
    ("numpy", "float64\n", None),
    ("pandas", "period[D]", None),
    ("pandas", "Sparse:Sparse:float64:0.0", None),
    ("pandas", "category:ordered:object", None),
    ("pandas", "category:ordered:category:ordered:object", ["a"]),
    ("pandas", "category:ordered:object", [["a"]]),
    ("polars", "Enum", None),
    ("polars", "Int8", ["a"]),
    ("polars", "Series", None),
    ("polars", "Decimal:999:2", None),
    ("pyarrow", "list", None),
    ("pyarrow", "dictionary:ordered:float:string", None),
]


@pytest.mark.parametrize(("library", "text", "levels"), WRONG)
def test_other_texts_are_of_no_library(library, text, levels):
    assert not Dtype(text, levels).is_of(library)


def test_a_library_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(
        ImportError, match=r"to a table of polars, .* needs polars: pip"
    ):
        dtype_of("polars", Dtype("Int8"))
