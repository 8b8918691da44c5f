"""Tables with categories, from a fit to what comes back."""

import itertools
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import special
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer

from .support import reference
from .support.tables import lacking, make_table

TABLE = make_table()
NUMBERS, CATEGORIES = ["height", "n"], ["city", "large", "size"]
KINDS = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "array": lambda frame: frame.astype(object).to_numpy(),
    "list": lambda frame: frame.astype(object).to_numpy().tolist(),
}


def fitted(X, n_components=3, kind=AutoencoderTransformer, **parameters):
    parameters = {"max_iter": 15, "random_state": 0, **parameters}
    return kind(n_components, **parameters).fit(X)


def columns_of(frame):
    """Columns of a table of any kind, as lists."""
    if isinstance(frame, np.ndarray):
        return frame.T.tolist()
    if isinstance(frame, pa.Table):
        return [column.to_pylist() for column in frame.columns]
    if isinstance(frame, pl.DataFrame):
        return [column.to_list() for column in frame.get_columns()]
    return [frame[name].tolist() for name in frame]


@pytest.fixture(scope="module")
def complete():
    return fitted(TABLE, max_iter=100)


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_comes_back(kind, complete):
    X = KINDS[kind](TABLE)
    estimator = fitted(X, max_iter=100)
    code = estimator.transform(X)
    if kind != "list":  # canonical order: the same inputs, but not of unnamed columns
        named = kind != "array"
        assert named == np.array_equal(code, complete.transform(TABLE))
    back = estimator.inverse_transform(code)
    expected = np.asarray(X, dtype=object) if kind == "list" else X
    assert type(back) is type(expected)
    if kind == "pandas":
        pd.testing.assert_series_equal(back.dtypes, TABLE.dtypes)
        assert back["size"].cat.categories.equals(TABLE["size"].cat.categories)
    elif kind == "polars":
        assert back.schema == X.schema
    elif kind == "pyarrow":
        assert back.schema.equals(X.schema, check_metadata=False)
    for found, column in zip(columns_of(back), columns_of(expected), strict=True):
        if isinstance(column[0], float):
            assert np.corrcoef(found, column)[0, 1] > 0.97
        else:
            near = [a == b or abs(a - b) < 3 for a, b in _comparable(found, column)]
            assert {*map(type, found)} == {*map(type, column)}
            assert np.mean(near) > 0.9


def _comparable(found, column):
    """Pairs of entries; those that are no numbers as whether they are equal."""
    for a, b in zip(found, column, strict=True):
        yield (a, b) if isinstance(b, int) and b is not True else (a == b, True)


def network_input(estimator, frame):
    """Rows as the network sees them, by names of the inputs, with NaN."""
    rows = np.empty((len(frame), len(estimator.input_names_)))
    for j, name in enumerate(estimator.input_names_):
        column, _, level = name.partition("=")
        if level:
            entries = np.where(frame[column].astype(str) == level, 1.0, 0.0)
            entries[frame[column].isna()] = np.nan
            rows[:, j] = entries / estimator.scale_[j]
        else:
            values = frame[column].astype(float)
            rows[:, j] = (values - estimator.mean_[j]) / estimator.scale_[j]
    return rows


def naive_outputs(estimator, frame):
    """Numbers, and probabilities of levels, as a frame with the inputs' names."""
    rows = network_input(estimator, frame)
    names = ["relu", "relu", "identity", "relu", "relu", "identity"]
    layers, _ = reference.forward(rows, estimator.coefs_, estimator.intercepts_, names)
    out = pd.DataFrame(layers[-1], columns=estimator.input_names_)
    for levels in levels_of(estimator).values():
        out[levels] = special.softmax(out[levels].to_numpy(), axis=1)
    return out


def levels_of(estimator):
    """Names of the inputs of each categorical column."""
    names = [name for name in estimator.input_names_ if "=" in name]
    by_column = itertools.groupby(names, lambda name: name.partition("=")[0])
    return {column: list(levels) for column, levels in by_column}


def test_errors_and_score_are_what_they_are_defined_as(complete):
    estimator, frame = complete, make_table(50, seed=3)
    rows = pd.DataFrame(network_input(estimator, frame), columns=estimator.input_names_)
    out = naive_outputs(estimator, frame)
    mean = pd.Series(estimator.mean_, index=estimator.input_names_)
    scale = pd.Series(estimator.scale_, index=estimator.input_names_)
    squares, absolute, deviances, nothing = (pd.DataFrame() for _ in range(4))
    for name in NUMBERS:
        squares[name] = (rows[name] - out[name]) ** 2
        absolute[name] = (rows[name] - out[name]).abs()
        deviances[name], nothing[name] = squares[name], rows[name] ** 2
    for name, levels in levels_of(estimator).items():
        one_hot, unit = rows[levels] > 0, scale[levels[0]]
        p = mean[levels]
        assert unit == pytest.approx(np.sqrt(1 - (p**2).sum()))
        likelihood = (one_hot * out[levels]).sum(axis=1)
        squares[name] = ((one_hot - out[levels]) ** 2).sum(axis=1) / unit**2
        absolute[name] = 1 - likelihood
        entropy = -(p * np.log(p)).sum()
        deviances[name] = -np.log(likelihood) / entropy
        nothing[name] = -np.log((one_hot * p).sum(axis=1)) / entropy
    order, how = list(TABLE), {"per_feature": True}
    found = estimator.reconstruction_error(frame, **how)
    np.testing.assert_allclose(found, squares[order], rtol=1e-7, atol=1e-12)
    found = estimator.reconstruction_error(frame, metric="absolute_error", **how)
    np.testing.assert_allclose(found, absolute[order], rtol=1e-7, atol=1e-12)
    found = estimator.reconstruction_error(frame, metric="loss", **how)
    np.testing.assert_allclose(found, deviances[order] / 2, rtol=1e-7, atol=1e-12)
    score = 1 - deviances.to_numpy().sum() / nothing.to_numpy().sum()
    assert estimator.score(frame) == pytest.approx(score)
    np.testing.assert_allclose(
        estimator.score_samples(frame), -squares.sum(axis=1), rtol=1e-7
    )


@pytest.mark.parametrize("as_array", [False, True])
def test_results_do_not_depend_on_the_order_of_columns_and_levels(as_array, complete):
    order = [3, 0, 4, 2, 1]
    shuffled = TABLE.iloc[:, order]
    shuffled = shuffled.assign(
        size=TABLE["size"].cat.reorder_categories(["XL", "M", "S", "L"])
    )
    whole = TABLE.astype(object).to_numpy() if as_array else TABLE
    other = whole[:, order] if as_array else shuffled
    one, two = fitted(whole), fitted(other)
    np.testing.assert_array_equal(one.transform(whole), two.transform(other))


def test_a_frame_of_numbers_is_as_an_array():
    frame = TABLE[NUMBERS].assign(third=1.0 * TABLE["n"] ** 2)
    one, two = fitted(frame, 2), fitted(frame.to_numpy(dtype=float), 2)
    np.testing.assert_array_equal(one.transform(frame), two.transform(frame.to_numpy()))
    assert not hasattr(one, "categories_")
    # Objects that are all numbers are numbers.
    three = fitted(frame.astype(object), 2)
    np.testing.assert_array_equal(
        three.transform(frame), two.transform(frame.to_numpy())
    )


@pytest.mark.parametrize("hidden", [(), "auto"])
def test_training_begins_at_pca(hidden):
    """Of few rows PCA is kept: of numbers, and one-hot levels, each column once."""
    frame = TABLE[:39]
    estimator = fitted(frame, 2, hidden_layer_sizes=hidden, max_iter=1)
    assert estimator.best_iter_ == 0
    rows = network_input(estimator, frame)
    pca = PCA(2).fit(rows)
    scores = pca.transform(rows)
    code = estimator.transform(frame)
    for j in range(2):  # the code is only rotated
        residual = np.linalg.lstsq(code, scores[:, j], rcond=None)[1]
        assert residual < 1e-20 * (scores**2).sum()
    back, expected = estimator.inverse_transform(code), pca.inverse_transform(scores)
    heights = expected[:, 0] * estimator.scale_[0] + estimator.mean_[0]
    np.testing.assert_allclose(back["height"], heights)
    for name in CATEGORIES:
        judge = LogisticRegression(C=100).fit(scores, frame[name].astype(str))
        accuracy = judge.score(scores, frame[name].astype(str))
        assert (back[name] == frame[name]).mean() > accuracy - 0.06


def test_missing_entries_do_not_count():
    frame = lacking(TABLE)
    estimator = fitted(frame, max_iter=60)
    errors = estimator.reconstruction_error(frame, per_feature=True)
    np.testing.assert_array_equal(np.isnan(errors), frame.isna())
    assert estimator.score(frame) > 0.7
    one = estimator.transform(frame[5:6])
    np.testing.assert_array_equal(estimator.transform(frame)[5:6], one)
    back = estimator.inverse_transform(estimator.transform(frame))
    assert not back.isna().any().any()
    known = ~frame["city"].isna()
    assert (back["city"] == TABLE["city"])[known].mean() > 0.8
    assert (back["city"] == TABLE["city"])[~known].mean() > 0.6


def test_levels_that_are_not_known():
    estimator, frame = fitted(TABLE), TABLE[:4].copy()
    frame.loc[2, "city"] = "Lima"
    expected = frame.assign(city=frame["city"].where(frame["city"] != "Lima"))
    with pytest.warns(UserWarning, match="not seen in fit.* 'city': 'Lima'"):
        code = estimator.transform(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(code, estimator.transform(expected))
    with pytest.raises(ValueError, match=r"'city': 'Lima'\. With handle_unknown"):
        estimator.set_params(handle_unknown="error").transform(frame)


def test_feature_weights():
    """A column that does not count need not be reconstructed, and is not scored."""
    weights = [1, 1, 1, 0, 1]
    estimator = fitted(TABLE, feature_weights=weights, max_iter=60)
    errors = estimator.reconstruction_error(TABLE, metric="loss", per_feature=True)
    assert (errors[:, 3] == 0).all()
    assert (errors[:, [0, 1, 2, 4]] > 0).any(axis=0).all()
    heavy = fitted(TABLE, feature_weights=[100, 1, 1, 1, 1], n_components=1)
    light = fitted(TABLE, n_components=1)
    of_heights = [
        e.reconstruction_error(TABLE, per_feature=True)[:, 0].mean()
        for e in (heavy, light)
    ]
    assert of_heights[0] < 0.2 * of_heights[1]
    # Of a linear network it is PCA of weighted columns.
    X = TABLE[NUMBERS].to_numpy(dtype=float)
    X = np.column_stack([X, X.sum(axis=1) + TABLE["large"]])
    how = {"hidden_layer_sizes": (), "scale": "standard", "max_iter": 1}
    linear = fitted(X[:39], 1, feature_weights=[9, 4, 1], **how)
    Z = (X[:39] - X[:39].mean(axis=0)) / X[:39].std(axis=0) * [3, 2, 1]
    share = PCA(1).fit(Z).explained_variance_ratio_.sum()
    assert linear.score(X[:39]) == pytest.approx(share)
    for wrong in ([1, 1], [-1, 1, 1], [0, 0, 0]):
        with pytest.raises(ValueError, match="feature_weights"):
            fitted(X, 1, feature_weights=wrong)


def test_standard_scale_is_a_standard_scaler():
    rng = np.random.default_rng(0)
    X = (
        rng.standard_normal((120, 6))
        @ rng.standard_normal((6, 6))
        * 10.0 ** np.arange(6)
    )
    how = {"scale": "standard", "n_components": 2}
    standard = fitted(X, **how)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    plain = fitted(Z, 2)
    np.testing.assert_allclose(standard.transform(X), plain.transform(Z), atol=1e-6)
    assert standard.score(X) == pytest.approx(plain.score(Z), abs=1e-6)
    np.testing.assert_allclose(standard.scale_, X.std(axis=0))


def test_codes_of_layers(complete):
    layers = [complete.get_codes(TABLE, layer=number) for number in range(3)]
    assert [layer.shape[1] for layer in layers] == [100, 50, 3]
    np.testing.assert_array_equal(layers[-1], complete.transform(TABLE))
    np.testing.assert_array_equal(layers[0], complete.get_codes(TABLE, layer=-3))
    np.testing.assert_array_equal(np.hstack(layers), complete.get_codes(TABLE))
    rows, weights = network_input(complete, TABLE), complete.coefs_[0]
    expected = np.maximum(0, rows @ weights + complete.intercepts_[0])
    np.testing.assert_allclose(layers[0], expected, atol=1e-9)
    with pytest.raises(ValueError, match="layer=3 has to be 'all', or a number from"):
        complete.get_codes(TABLE, layer=3)
    variational = fitted(TABLE, kind=VariationalAutoencoderTransformer)
    code = variational.get_codes(TABLE, layer=-1)
    np.testing.assert_array_equal(code, variational.transform(TABLE))


@pytest.mark.parametrize("noise", ["gaussian", "masking", "swap"])
def test_denoising(noise):
    estimator = fitted(lacking(TABLE), noise=noise, noise_level=0.1, max_iter=60)
    assert estimator.score(TABLE) > 0.6


def test_noise_that_is_for_numbers():
    with pytest.raises(ValueError, match=r"salt_and_pepper.* use 'swap' or 'masking'"):
        fitted(TABLE, noise="salt_and_pepper")


@pytest.mark.parametrize(
    "parameters",
    [
        {"solver": "lbfgs"},
        {"tied_weights": True},
        {"loss": "huber"},
        {"init": "random"},
        {"pretrain": "layerwise"},
        {"sparsity": "l1", "code_activation": "relu", "sparsity_weight": 0.01},
        {"scale": None},
        {"scale": 10.0},
        {"early_stopping": True},
        {"batch_size": 7, "alpha": 0.1},
    ],
    ids=str,
)
def test_other_parameters(parameters):
    estimator = fitted(lacking(TABLE), **parameters)
    assert estimator.inverse_transform(estimator.transform(TABLE)).shape == TABLE.shape
    assert np.isfinite(estimator.score(TABLE))
    assert estimator.loss_curve_[-1] < estimator.loss_curve_[0] * 1.01


def test_what_does_not_go_with_categories():
    for parameters, message in {
        "output_activation": ({"output_activation": "tanh"}, "use 'auto'"),
        "init": ({"tied_weights": True, "init": "pca"}, "use init='auto'"),
    }.values():
        with pytest.raises(ValueError, match=message):
            fitted(TABLE, **parameters)
