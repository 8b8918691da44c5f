"""Tables of any library: which columns are categories, what is read, what comes back.

Fits are short: what they learn is tested elsewhere.
"""

import datetime
import decimal
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline

from skae import AutoencoderTransformer
from skae._data.frames import CATEGORY, NUMBER, frame_of

from .support.cases import make, make_data

N = 40
NUMBERS = make_data(N, 2)
NAMES = np.where(NUMBERS[:, 0] > 0, "a", "b").astype(object)
DAY = datetime.date(2024, 2, 29)
ONE = decimal.Decimal("1.5")


def repeated(*values):
    return [values[i % len(values)] for i in range(N)]


def objects(*values):
    column = np.empty(N, dtype=object)
    column[:] = repeated(*values)
    return column


def fitted(X, **params):
    return make("adam", n_components=1, max_iter=2, **params).fit(X)


def assert_comes_back(X):
    """Reconstructions are a table like X, which the model takes."""
    model = fitted(X)
    back = model.inverse_transform(model.transform(X))
    assert type(back) is type(X)
    assert model.transform(back).shape == (N, 1)
    return model, back


PANDAS = {
    "int64": (pd.Series(repeated(1, 2)), NUMBER),
    "uint8": (pd.Series(repeated(0, 255), dtype="uint8"), NUMBER),
    "float32": (pd.Series(repeated(1, np.nan), dtype="float32"), NUMBER),
    "Int64": (pd.Series(repeated(1, None), dtype="Int64"), NUMBER),
    "Float64": (pd.Series(repeated(1.5, None), dtype="Float64"), NUMBER),
    "numbers as objects": (pd.Series(objects(1, 2.5, None)), NUMBER),
    "decimals": (pd.Series(objects(ONE, decimal.Decimal("nan"))), NUMBER),
    "no value": (pd.Series(objects(None)), NUMBER),
    "Sparse integers": (pd.Series(repeated(0, 0, 1), dtype="Sparse[int64]"), NUMBER),
    "Sparse booleans": (pd.Series(repeated(False, True), dtype="Sparse[bool]"), NUMBER),
    "Sparse with NaN": (pd.Series(repeated(1, np.nan), dtype="Sparse[float]"), NUMBER),
    "bool": (pd.Series(repeated(True, False)), CATEGORY),
    "boolean": (pd.Series(repeated(True, None, False), dtype="boolean"), CATEGORY),
    "booleans as objects": (pd.Series(objects(True, None, False)), CATEGORY),
    "text": (pd.Series(objects("x", pd.NA, "y", np.nan, None)), CATEGORY),
    "bytes": (pd.Series(objects(b"x", b"y")), CATEGORY),
    "string": (pd.Series(repeated("x", None, "y"), dtype="string"), CATEGORY),
    "category": (pd.Series(pd.Categorical(repeated("x", None, "y"))), CATEGORY),
    "ordered": (
        pd.Series(pd.Categorical(repeated("lo", "hi"), ["lo", "mid", "hi"], True)),
        CATEGORY,
    ),
    "whole numbers as category": (pd.Series(pd.Categorical(repeated(3, 1))), CATEGORY),
    "intervals as category": (pd.Series(pd.cut(NUMBERS[:, 1], 3)), CATEGORY),
    "dates as category": (
        pd.Series(pd.Categorical(pd.to_datetime(repeated("2024-01-01", "2025-01-01")))),
        CATEGORY,
    ),
    "category without values": (pd.Series(pd.Categorical(repeated(None))), CATEGORY),
}


@pytest.mark.parametrize("name", PANDAS)
def test_pandas(name):
    column, kind = PANDAS[name]
    X = pd.DataFrame({"number": NUMBERS[:, 0], "name": NAMES, "column": column})
    assert frame_of(X).kind(2) == kind
    model, back = assert_comes_back(X)
    assert list(back.columns) == list(X.columns)
    assert list(back.dtypes) == list(X.dtypes)
    levels = model.categories_[2]
    assert (levels is None) == (kind == NUMBER)
    if kind == CATEGORY and column.notna().any():
        assert set(levels) == set(column.dropna())
        assert set(back["column"]) <= set(levels)


def test_pandas_columns_of_arrow():
    pa = pytest.importorskip("pyarrow")
    X = pd.DataFrame(
        {
            "number": pd.array(repeated(1, None), dtype=pd.ArrowDtype(pa.int32())),
            "decimal": pd.array(
                repeated(ONE, None), dtype=pd.ArrowDtype(pa.decimal128(6, 2))
            ),
            "text": pd.array(repeated("x", None), dtype=pd.ArrowDtype(pa.string())),
            "flag": pd.array(repeated(True, False), dtype=pd.ArrowDtype(pa.bool_())),
        }
    )
    model, back = assert_comes_back(X)
    assert list(back.dtypes) == list(X.dtypes)
    assert [levels is None for levels in model.categories_] == [True] * 2 + [False] * 2


def test_polars():
    pl = pytest.importorskip("polars")
    X = pl.DataFrame(
        {
            "float": pl.Series(repeated(1.5, None), dtype=pl.Float32),
            "whole": pl.Series(repeated(1, None), dtype=pl.Int8),
            "nothing": pl.Series(repeated(None)),
            "text": pl.Series(repeated("x", None, "y")),
            "flag": pl.Series(repeated(True, None, False)),
            "category": pl.Series(repeated("x", "y"), dtype=pl.Categorical),
            "enum": pl.Series(repeated("z", "x"), dtype=pl.Enum(["x", "y", "z"])),
        }
    )
    model, back = assert_comes_back(X)
    assert back.schema == X.schema
    assert [c is None for c in model.categories_] == [True] * 3 + [False] * 4
    for wrong in (pl.List(pl.Int64), pl.Date, pl.Duration, pl.Binary):
        odd = X.with_columns(odd=pl.Series([None] * N, dtype=wrong))
        with pytest.raises(ValueError, match=r"'odd' of X has dtype .* neither all"):
            fitted(odd)
    with pytest.raises(TypeError, match=r"LazyFrame.*collect\(\)"):
        fitted(X.lazy())


def test_pyarrow():
    pa = pytest.importorskip("pyarrow")
    X = pa.table(
        {
            "float": pa.array(repeated(1.5, None), type=pa.float32()),
            "whole": pa.array(repeated(1, None), type=pa.uint8()),
            "decimal": pa.array(repeated(ONE, None)),
            "nothing": pa.nulls(N),
            "text": pa.array(repeated("x", None, "y"), type=pa.large_string()),
            "flag": pa.array(repeated(True, None, False)),
            "levels": pa.array(repeated("x", None, "y")).dictionary_encode(),
        }
    )
    model, back = assert_comes_back(X)
    assert back.schema == X.schema
    assert [c is None for c in model.categories_] == [True] * 4 + [False] * 3
    for values in (repeated([1]), repeated(DAY), repeated(b"x")):
        with pytest.raises(ValueError, match=r"'odd' of X has dtype .* neither all"):
            fitted(X.append_column("odd", pa.array(values)))


ARRAYS = {
    "objects": np.column_stack([NUMBERS.astype(object), NAMES]),
    "text": np.column_stack([NAMES, NAMES[::-1]]).astype(str),
    "bytes": np.column_stack([NAMES, NAMES[::-1]]).astype("S"),
    "gaps": np.column_stack([NAMES, objects(1, None, 3)]),
}
if hasattr(np.dtypes, "StringDType"):
    ARRAYS["strings"] = ARRAYS["text"].astype(np.dtypes.StringDType())


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name):
    X = ARRAYS[name]
    model, back = assert_comes_back(X)
    assert back.dtype == X.dtype
    as_list = fitted(X.astype(object).tolist())
    np.testing.assert_array_equal(as_list.transform(X), model.transform(X))


def test_numbers_alone_are_no_table():
    """Whatever holds them, they have the bits of an array."""
    expected = fitted(NUMBERS).transform(NUMBERS)
    for X in (
        NUMBERS.astype(object),
        NUMBERS.tolist(),
        [tuple(row) for row in NUMBERS],
        pd.DataFrame(NUMBERS),
        pd.DataFrame(NUMBERS).astype(object),
    ):
        model = fitted(X)
        assert model._table is None
        np.testing.assert_array_equal(model.transform(X), expected)
    flags = [[True, 1.0], [False, 0.0]] * 5  # NumPy makes numbers of these
    np.testing.assert_array_equal(
        fitted(flags).transform(flags), fitted(np.array(flags)).transform(flags)
    )


ODD_COLUMNS = {
    "dates": pd.Series(pd.to_datetime(repeated("2024-01-01"))),
    "durations": pd.Series(pd.to_timedelta(repeated(1), unit="s")),
    "periods": pd.Series(pd.PeriodIndex(repeated("2024-01"), freq="M")),
    "complex": pd.Series(repeated(1j, 2)),
    "dates as objects": pd.Series(objects(DAY)),
    "lists": pd.Series(objects([1], [2])),
    "numbers and text": pd.Series(objects(1, 2.5, "?")),
    "numbers and booleans": pd.Series(objects(2, 2.5, True)),
}


@pytest.mark.parametrize("name", ODD_COLUMNS)
def test_neither_numbers_nor_categories(name):
    """An error says so, of a table with and without categories."""
    X = pd.DataFrame({"number": NUMBERS[:, 0], "odd": ODD_COLUMNS[name], "name": NAMES})
    for part in (X, X[["number", "odd"]]):
        with pytest.raises(ValueError, match=r"Column 'odd' of X has dtype .* neither"):
            fitted(part)
    if name == "lists":
        with pytest.raises(TypeError, match="column 'odd' of X: unhashable"):
            fitted(X, categorical_features=["odd", "name"])
    else:
        model = fitted(X, categorical_features=["odd", "name"])
        assert len(model.categories_[1]) == X["odd"].nunique()
        back = model.inverse_transform(model.transform(X))
        assert set(back["odd"]) <= set(X["odd"])


def test_names():
    X = pd.DataFrame({"a": NUMBERS[:, 0], "b": NUMBERS[:, 1], "c": NAMES})
    expected = fitted(X).transform(X)
    for names in (range(3), pd.MultiIndex.from_product([["x"], [1, 2, 3]])):
        renamed = X.set_axis(names, axis=1)
        model, back = assert_comes_back(renamed)
        assert list(back.columns) == list(renamed.columns)
        np.testing.assert_allclose(model.transform(renamed), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="several columns with the name 'a'"):
        fitted(X.set_axis(["a", "a", "c"], axis=1))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (pd.DataFrame({"a": NAMES})[:0], r"0 sample\(s\) \(shape=\(0, 1\)\)"),
        (pd.DataFrame(index=range(3)), r"0 feature\(s\) \(shape=\(3, 0\)\)"),
        (pd.Series(NAMES), "Expected 2D array.*Series.*to_frame"),
        (NAMES, "Expected 2D array, got 1D array"),
        ([["a", 1.0], ["b"]], "different lengths"),
        (pd.DataFrame({"a": objects(1, 10**400), "b": NAMES}), "'a' of X.*too large"),
        (pd.DataFrame({"a": [1, np.inf], "b": ["x", "y"]}), "'a' of X.* infinity"),
    ],
)
def test_errors(X, message):
    with pytest.raises(ValueError, match=message):
        fitted(X)


def test_a_number_that_is_text_later():
    X = pd.DataFrame({"a": NUMBERS[:, 0], "b": NAMES})
    with pytest.raises(ValueError, match="'a' of X, one of numbers: could not convert"):
        fitted(X).transform(X.assign(a="?"))


def test_scikit_learn():
    """Tables go through searches, Pipelines and unions, and come out with names."""
    X = pd.DataFrame({"a": NUMBERS[:, 0], "b": NUMBERS[:, 1], "c": NAMES})
    X.loc[3, "c"] = None
    model = make("adam", max_iter=2)
    search = GridSearchCV(model, {"n_components": [1, 2]}, cv=2).fit(X)
    codes = search.transform(X)
    assert codes.shape == (N, search.best_params_["n_components"])
    assert np.isfinite(cross_val_score(make_pipeline(clone(model)), X, cv=2)).all()
    first = clone(model).set_output(transform="pandas").fit_transform(X)
    assert list(first.index) == list(X.index)
    union = FeatureUnion([("one", model), ("two", clone(model))])
    assert union.fit_transform(X).shape == (N, 4)
    assert model.__sklearn_tags__().input_tags.categorical
    model.set_params(categorical_features=None)
    assert not model.__sklearn_tags__().input_tags.categorical


def test_a_table_and_then_numbers():
    """Nothing of the first fit is left; an error leaves it as it was."""
    X = pd.DataFrame({"a": NUMBERS[:, 0], "b": NUMBERS[:, 1], "c": NAMES})
    model = fitted(X)
    codes = model.transform(X)
    with pytest.raises(ValueError, match="infinity"):
        model.fit(X.assign(a=np.inf))
    np.testing.assert_array_equal(model.transform(X), codes)
    model.fit(X[["a", "b"]])
    np.testing.assert_array_equal(
        model.transform(X[["a", "b"]]), fitted(X[["a", "b"]]).transform(X[["a", "b"]])
    )
    assert not hasattr(model, "categories_")


def test_data_of_another_kind():
    """A model takes any kind of table with the same columns."""
    X = np.column_stack([NUMBERS.astype(object), NAMES])
    model = AutoencoderTransformer(1, max_iter=2, random_state=0).fit(X)
    expected = model.transform(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of names
        for other in (X.tolist(), pd.DataFrame(X), pd.DataFrame(X).infer_objects()):
            np.testing.assert_array_equal(model.transform(other), expected)
