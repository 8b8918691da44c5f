"""Tables as matrices and back: levels, infrequent ones, order, gaps, errors."""

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import OneHotEncoder

from skae import AutoencoderTransformer
from skae._data.frames import PandasFrame
from skae._data.tables import TableReader

from .support.cases import make

COLUMN = ["a"] * 6 + ["b"] * 5 + ["c"] * 3 + ["d"] * 2 + ["e"]
TABLE = pd.DataFrame(
    {"n": np.arange(17.0), "k": COLUMN, "f": [True, False, None] * 5 + [True] * 2}
)
TABLE["f"] = TABLE["f"].astype(object)


def read(X, categories="auto", max_categories=None, min_frequency=None, chosen=None):
    reader = TableReader(
        "from_dtype" if chosen is None else chosen,
        categories,
        max_categories,
        min_frequency,
    )
    reader.read(PandasFrame(X))
    return reader.table()


def fitted(X, **params):
    return make("adam", n_components=1, max_iter=2, **params).fit(X)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"max_categories": 3},
        {"max_categories": 1},
        {"min_frequency": 3},
        {"min_frequency": 0.2},
        {"max_categories": 4, "min_frequency": 2},
    ],
)
def test_inputs_are_those_of_one_hot_encoder(how):
    table = read(TABLE[["k"]], **how)
    encoder = OneHotEncoder(sparse_output=False, **how)
    expected = encoder.fit_transform(TABLE[["k"]])
    matrix, has_missing = table.encode(PandasFrame(TABLE[["k"]]))
    np.testing.assert_array_equal(matrix.toarray(), expected)
    assert not has_missing
    assert len(table.input_names) == table.n_inputs
    # An input is decoded to its most frequent level.
    decoded = table.decode(matrix.toarray())["k"]
    for column in expected.T.astype(bool):
        most_frequent = pd.Series(COLUMN)[column].mode()[0]
        assert set(decoded[column]) == {most_frequent}


def test_gaps_and_unknown_levels():
    """They are NaN in all inputs of a group; there is one warning of all columns."""
    table = read(TABLE)
    X = TABLE.copy()
    X.loc[0, "n"], X.loc[1, "k"], X.loc[2, "k"] = np.nan, None, "new"
    X.loc[3, "f"] = "maybe"
    with pytest.warns(UserWarning, match="X_val has cat") as caught:
        matrix, has_missing = table.encode(PandasFrame(X), name="X_val")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    for text in ("'k': 'new'", "'f': 'maybe'"):
        assert text in str(caught[0].message)
    assert has_missing
    found = pd.DataFrame(matrix.toarray(), columns=table.input_names)
    is_missing = found.isna()
    assert list(np.flatnonzero(is_missing["n"])) == [0]
    assert list(np.flatnonzero(is_missing["k=a"])) == [1, 2]
    assert (is_missing["k=a"] == is_missing["k=e"]).all()
    assert list(np.flatnonzero(is_missing["f=True"])) == [2, 3, 5, 8, 11, 14]
    with pytest.raises(
        ValueError, match=r"'k': 'new'; .*'f': 'maybe'.*='warn'|'f'.*'k'"
    ):
        table.encode(PandasFrame(X), handle_unknown="error")
    many = X.assign(k=[f"level {i}" for i in range(17)])
    with pytest.warns(UserWarning, match="'level 12' and 12 more"):
        table.encode(PandasFrame(many))


def test_of_an_estimator():
    """A level that was not seen is a gap, or an error."""
    X = TABLE.assign(k=[None, "new", *COLUMN[2:]])
    gap = TABLE.assign(k=[None, None, *COLUMN[2:]])
    model = fitted(TABLE)
    with pytest.warns(UserWarning, match="not seen in fit.*'new'") as caught:
        codes = model.transform(X)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(codes, model.transform(gap))
    with pytest.raises(ValueError, match=r"not seen in fit.*'new'.*handle_unknown"):
        fitted(TABLE, handle_unknown="error").transform(X)
    # Levels that are declared are known; they need not occur.
    declared = fitted(TABLE, categories={"k": [*"abcde", "new"]})
    assert np.isfinite(declared.transform(X)).all()
    assert list(declared.categories_[1]) == [*"abcde", "new"]


def test_the_order_of_columns_rows_and_levels_does_not_matter():
    """With names, results are the same bits; without, except for rounding."""
    model = fitted(TABLE)
    order = ["f", "n", "k"]
    other = fitted(TABLE[order])
    np.testing.assert_array_equal(other.transform(TABLE[order]), model.transform(TABLE))
    errors = other.reconstruction_error(TABLE[order], per_feature=True)
    np.testing.assert_array_equal(
        errors[:, [1, 2, 0]], model.reconstruction_error(TABLE, per_feature=True)
    )
    assert list(other.inverse_transform(other.transform(TABLE[order])).columns) == order
    ordered = TABLE.assign(k=pd.Categorical(COLUMN, ["e", "a", "d", "c", "b"]))
    np.testing.assert_array_equal(
        fitted(ordered).transform(ordered), model.transform(TABLE)
    )
    nameless = TABLE.to_numpy(dtype=object)
    a = fitted(nameless).transform(nameless)
    b = fitted(nameless[:, [2, 0, 1]]).transform(nameless[:, [2, 0, 1]])
    np.testing.assert_array_equal(a, b)


def test_what_is_decoded():
    table = read(TABLE)
    names = table.input_names
    outputs = np.zeros((3, table.n_inputs))
    outputs[:, names.index("n")] = [1.5, -2, 0]
    outputs[[0, 1, 2], [names.index(f"k={level}") for level in "ebe"]] = 0.1
    outputs[:, names.index("f=False")] = [1, -1, 0.2]
    back = table.decode(outputs)
    assert back["n"].tolist() == [1.5, -2, 0]
    assert back["k"].tolist() == ["e", "b", "e"]
    assert back["f"].tolist() == [False, True, False]
    whole = read(TABLE.assign(n=range(17), b=[True] * 17), chosen=["k", "f"])
    outputs = np.zeros((2, whole.n_inputs))
    outputs[:, whole.input_names.index("n")] = [1.6, -1e300]
    outputs[:, whole.input_names.index("b")] = [0.4, 0.6]
    back = whole.decode(outputs)
    assert back["n"].tolist() == [2, np.iinfo(np.int64).min]
    assert back["b"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"categorical_features": ["z"]}, r"no column 'z'; the columns are \['n', "),
        ({"categorical_features": [3]}, "numbers of columns, from 0 to 2"),
        ({"categorical_features": [-1]}, "numbers of columns, from 0 to 2"),
        ({"categorical_features": [True]}, r"mask of shape \(1,\), but X has 3"),
        (
            {"categorical_features": ["f"]},
            "'k' of X, one of numbers: could not convert",
        ),
        ({"categories": [["a"]]}, "1 entries, but X has 3 columns"),
        ({"categories": {"z": ["a"]}}, "X has no column 'z'"),
        ({"categories": {"n": [1, 2]}}, r"'n', which is not one of.*\['k', 'f'\]"),
        ({"categories": {"k": "abc"}}, r"\['k'\]='abc' has to be levels"),
        ({"categories": {"k": [None, np.nan]}}, "has to be levels"),
        ({"categories": [None, 5, None]}, r"\[1\]=5 has to be levels"),
        ({"feature_weights": [1, 2]}, r"shape \(2,\), but X has 3"),
        ({"feature_weights": [1, -2, 1]}, "must not be negative"),
    ],
)
def test_errors(params, message):
    with pytest.raises(ValueError, match=message):
        fitted(TABLE, **params)


def test_categories_by_number_and_by_name():
    """A missing level is none, and a mask or numbers say the same as names."""
    expected = fitted(TABLE, categories={"k": [*"abcdez"]})
    for categories in ({1: [*"zabcde"]}, [None, [*"abcdez", None], None]):
        model = fitted(TABLE, categories=categories)
        np.testing.assert_array_equal(model.transform(TABLE), expected.transform(TABLE))
    whole = TABLE.assign(n=[1, 2] * 8 + [1])
    models = [
        AutoencoderTransformer(
            1, categorical_features=chosen, max_iter=2, random_state=0
        )
        for chosen in (["n", "k", "f"], [0, 1, 2], [True] * 3)
    ]
    codes = [model.fit(whole).transform(whole) for model in models]
    np.testing.assert_array_equal(codes[0], codes[1])
    np.testing.assert_array_equal(codes[0], codes[2])
    assert list(models[0].categories_[0]) == [1, 2]
