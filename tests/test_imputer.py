"""AutoencoderImputer: imputed values, conventions of scikit-learn's imputers, draws."""

import os
import pickle
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from skae import AutoencoderImputer, AutoencoderTransformer
from skae._data.gaussian import Expectation, Gaussian
from skae._sklearn import HAS_CALLBACKS

from .support.cases import make_data
from .support.reference import expected


def lacking(X, share=0.2, seed=0):
    return np.where(np.random.default_rng(seed).random(X.shape) < share, np.nan, X)


def rmse(imputed, X, incomplete):
    missing = np.isnan(incomplete)
    spread = np.nanstd(incomplete, axis=0)
    return np.sqrt((((imputed - X) / spread)[missing] ** 2).mean())


def curve(n_rows, seed=0):
    """Points near a curve in six dimensions, of which a plane says little."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 2 * np.pi, n_rows)
    X = np.column_stack([f(k * t) for k in (1, 2, 3) for f in (np.sin, np.cos)])
    return X + 0.05 * rng.standard_normal(X.shape)


QUICK = AutoencoderTransformer(4, hidden_layer_sizes=(16,), max_iter=5)


@parametrize_with_checks(
    [
        AutoencoderImputer(random_state=0),
        AutoencoderImputer(QUICK, random_state=0, add_indicator=True),
        AutoencoderImputer(keep_empty_features=True, sample_posterior=True),
    ],
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_the_network_finds_what_is_not_linear():
    X, new = curve(1500), curve(500, seed=1)
    train, test = lacking(X), lacking(new, seed=1)
    imputer = AutoencoderImputer(random_state=0).fit(train)
    error = rmse(imputer.transform(test), new, test)
    assert (imputer.weight_ > 0.5).all()
    for other in (KNNImputer(), IterativeImputer(random_state=0)):
        assert error < rmse(other.fit(train).transform(test), new, test)
    assert type(imputer.estimator_) is AutoencoderTransformer
    imputer.weight_ = np.zeros(6)
    assert error < 0.8 * rmse(imputer.transform(test), new, test)


def test_the_network_does_no_harm_where_all_is_linear():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 3)) @ rng.standard_normal((3, 8))
    X += 0.5 * rng.standard_normal(X.shape)
    train, test = lacking(X[:300]), lacking(X[300:])
    imputer = AutoencoderImputer(random_state=0).fit(train)
    error = rmse(imputer.transform(test), X[300:], test)
    imputer.weight_ = np.zeros(8)
    assert error < rmse(imputer.transform(test), X[300:], test) + 0.005


def test_predictions_of_the_distribution():
    """Without a network, they are expectations given the rest of the sample."""
    X = lacking(make_data(30))
    imputer = AutoencoderImputer(random_state=0).fit(X)
    assert imputer.estimator_ is None  # too few samples
    mean, spread = np.nanmean(X, axis=0), np.nanstd(X, axis=0)
    found = expected((X - mean) / spread, *imputer._gaussian.values()) * spread + mean
    np.testing.assert_allclose(imputer.transform(X), found, rtol=1e-8)


def test_half_of_breast_cancer():
    """MIWAE has an error of 0.287 (Mattei & Frellsen, 2019)."""
    X = load_breast_cancer().data
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    incomplete = lacking(X, 0.5)
    imputed = AutoencoderImputer(random_state=0).fit_transform(incomplete)
    assert ((imputed - X)[np.isnan(incomplete)] ** 2).mean() < 0.25


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_observed_keeps_its_bits(dtype):
    X = lacking(make_data(200)).astype(dtype)
    imputed = AutoencoderImputer(QUICK, random_state=0).fit_transform(X)
    assert imputed.dtype == dtype
    np.testing.assert_array_equal(imputed[~np.isnan(X)], X[~np.isnan(X)])
    assert np.isfinite(imputed).all()


def test_samples_do_not_depend_on_others_nor_on_threads():
    X = lacking(make_data(300))
    imputer = AutoencoderImputer(QUICK, random_state=0).fit(X)
    imputed = imputer.transform(X)
    by_row = np.vstack([imputer.transform(row[np.newaxis]) for row in X[:40]])
    np.testing.assert_array_equal(by_row, imputed[:40])
    with threadpool_limits(1):
        alone = clone(imputer).fit(X)
    np.testing.assert_array_equal(alone.transform(X), imputed)
    copy = pickle.loads(pickle.dumps(imputer))
    np.testing.assert_array_equal(copy.transform(X), imputed)


@pytest.mark.parametrize("value", [-1, 0, np.float64(-9.1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_stand_for_missing_ones(value, dtype):
    X = lacking(np.abs(make_data(100)) + 1).astype(dtype)
    coded = np.where(np.isnan(X), dtype(value), X)
    how = {"estimator": QUICK, "random_state": 0, "add_indicator": True}
    imputer = AutoencoderImputer(missing_values=value, **how).fit(coded)
    by_nan = AutoencoderImputer(**how).fit(X)
    np.testing.assert_array_equal(imputer.transform(coded), by_nan.transform(X))
    back = imputer.inverse_transform(imputer.transform(coded))
    np.testing.assert_array_equal(back, coded)
    with pytest.raises(ValueError, match=r"contains NaN, but missing_values=.*: use"):
        imputer.transform(X)


def test_values_that_stand_for_nothing():
    with pytest.raises(ValueError, match=r"'missing_values' parameter .* must be"):
        AutoencoderImputer(missing_values=[-1]).fit(make_data(9))


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
def test_indicators_and_empty_features():
    """As SimpleImputer has them."""
    X = lacking(make_data(100))
    X[:, 2], X[:, 4] = np.nan, make_data(100)[:, 4]
    for keep in (False, True):
        how = {"add_indicator": True, "keep_empty_features": keep}
        imputer = AutoencoderImputer(QUICK, random_state=0, **how).fit(X)
        simple = SimpleImputer(**how).fit(X)
        names = imputer.get_feature_names_out()
        assert names.tolist() == simple.get_feature_names_out().tolist()
        imputed = imputer.transform(X)
        expected = simple.transform(X)
        assert imputed.shape == expected.shape
        kept = [0, 1, 3, 4, 5]
        n_first = 6 if keep else 5
        np.testing.assert_array_equal(imputed[:, n_first:], expected[:, n_first:])
        first = imputed[:, kept] if keep else imputed[:, :5]
        is_observed = ~np.isnan(X[:, kept])
        np.testing.assert_array_equal(first[is_observed], X[:, kept][is_observed])
        if keep:
            assert (imputed[:, 2] == 0).all()
            new = np.where(np.isnan(X), X, 3.0)
            new[:5, 2] = 3  # observed, and left so
            np.testing.assert_array_equal(
                imputer.transform(new)[:, 2], simple.transform(new)[:, 2]
            )
        np.testing.assert_array_equal(imputer.inverse_transform(imputed), X)
    with pytest.raises(AttributeError, match=r"no attribute .inverse_transform"):
        AutoencoderImputer(QUICK).fit(X).inverse_transform(X)
    with pytest.raises(ValueError, match=r"X has 6 features, but .* expects 11"):
        imputer.inverse_transform(make_data(3))


def test_frames():
    pd = pytest.importorskip("pandas")
    X = lacking(make_data(300))
    frame = pd.DataFrame(X, columns=list("abcdef"))
    imputer = AutoencoderImputer(QUICK, random_state=0).set_output(transform="pandas")
    imputed = imputer.fit_transform(frame)
    assert imputed.columns.tolist() == list("abcdef")
    assert not imputed.isna().any().any()
    objects = frame.astype(object).where(frame.notna(), pd.NA)
    nullable = frame.convert_dtypes()
    for other in (objects, nullable):
        np.testing.assert_array_equal(imputer.fit_transform(other), imputed)
    with config_context(transform_output="pandas"):  # of the network, too
        found = AutoencoderImputer(QUICK, random_state=0).fit_transform(frame)
    pd.testing.assert_frame_equal(found, imputed)
    objects["a"] = "?"
    imputer.set_params(categorical_features=None)
    with pytest.raises(ValueError, match=r"'\?'\. X has to be numbers; .* encode it"):
        imputer.fit(objects)


def test_in_a_search():
    X = lacking(make_data(200))
    y = np.nan_to_num(X)[:, 0] > 0
    pipeline = make_pipeline(
        AutoencoderImputer(QUICK, random_state=0),
        AutoencoderTransformer(2, max_iter=3, random_state=0),
    )
    grid = {"autoencoderimputer__estimator__hidden_layer_sizes": [(4,), (8,)]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    fitted = search.best_estimator_[0].estimator_
    best = search.best_params_.popitem()[1]
    assert fitted.hidden_layer_sizes_ == best


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"solver": "lbfgs"}, "solver='lbfgs', which needs .* use 'adam'"),
        ({"loss": "log_loss"}, r"in \[0, 1\], but .* use loss='squared_error'"),
        ({"output_activation": "relu"}, r"standardized .* use output_activation='iden"),
        ({"max_iter": 0}, "'max_iter' parameter of AutoencoderTransformer must be"),
    ],
)
def test_networks_that_cannot_be_trained(params, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderImputer(AutoencoderTransformer(**params)).fit(lacking(make_data(9)))


class Own(AutoencoderTransformer):
    """Somebody's."""

    def _value_range(self, previous):
        raise AssertionError("nothing is fitted by fit")


def test_own_networks_and_their_callbacks():
    """They keep their class; clones are fitted, and say so to callbacks."""
    random_state = np.random.RandomState(0)
    own = Own(4, hidden_layer_sizes=(8,), max_iter=3, random_state=random_state)
    epochs = []
    if HAS_CALLBACKS:

        class Counter:
            def setup(self, estimator, context):
                pass

            on_fit_task_begin = setup

            def on_fit_task_end(self, estimator, context, **kwargs):
                epochs.append(context.task_id)

            def teardown(self, estimator, context):
                epochs.append("end")

        own.set_callbacks(Counter())
    imputer = AutoencoderImputer(own, random_state=0).fit(lacking(make_data(300)))
    assert type(imputer.estimator_) is Own
    assert not hasattr(own, "_params")
    assert random_state.randint(9) == np.random.RandomState(0).randint(9)
    assert epochs == ([0, 1, 2, 0, "end"] if HAS_CALLBACKS else [])


@pytest.mark.skipif(not HAS_CALLBACKS, reason="callbacks of scikit-learn 1.9")
def test_a_network_alone_has_no_checkpoints(path):
    pytest.importorskip("safetensors")
    from skae.callbacks import Checkpoint

    checked = clone(QUICK).set_callbacks(Checkpoint(path))
    with pytest.raises(TypeError, match=r"no network of an imputer, which skae\.io"):
        AutoencoderImputer(checked).fit(lacking(make_data(300)))


@pytest.mark.parametrize("n_rows", [1, 2, 3, 40, 60])
def test_few_samples(n_rows):
    X = lacking(make_data(n_rows), 0.3)
    imputer = AutoencoderImputer(random_state=0, keep_empty_features=True)
    assert np.isfinite(imputer.fit_transform(X)).all()


def test_hard_cases():
    X = lacking(make_data(100), 0.1)
    X[3] = np.nan  # nothing is known
    X[:, 0] = np.where(np.isnan(X[:, 0]), np.nan, 7.0)  # constant
    X[:, 1] = make_data(100)[:, 1]
    X[5, 1] = np.nan  # one gap
    X[:, 2] = np.nan
    X[8, 2] = 1.5  # one value
    imputer = AutoencoderImputer(QUICK, random_state=0).fit(X)
    imputed = imputer.transform(X)
    assert np.isfinite(imputed).all()
    assert (imputed[:, 0] == 7).all()
    assert (imputed[:, 2] == 1.5).all()
    assert (imputed[3] >= np.nanmin(X, axis=0)).all()
    assert (imputed[3] <= np.nanmax(X, axis=0)).all()
    complete = make_data(100)
    imputer = clone(imputer).fit(complete)  # nothing was missing
    assert np.isfinite(imputer.transform(lacking(complete))).all()
    for bad, message in (
        (sparse.csr_matrix(X), "[Ss]parse"),
        (np.where(X > 1, np.inf, X), "infinity"),
        (X[:, :4], "4 features"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            imputer.transform(bad)


def test_a_failed_fit_changes_nothing():
    X = lacking(make_data(300))
    imputer = AutoencoderImputer(QUICK, random_state=0).fit(X)
    before = imputer.transform(X)
    diverging = clone(QUICK).set_params(solver="sgd", learning_rate_init=1e6)
    for bad, how in ((X, diverging), (X[:, :3] * np.inf, QUICK)):
        with pytest.raises(ValueError, match=r"diverged|infinity"):
            imputer.set_params(estimator=how).fit(bad)
        np.testing.assert_array_equal(imputer.transform(X), before)


def test_units_do_not_matter():
    X = lacking(make_data(200))
    unit, shift = 10.0 ** np.array([-200, -3, 0, 3, 100, 200]), np.arange(6.0)
    shift *= unit
    how = {"random_state": 0}
    imputed = AutoencoderImputer(QUICK, **how).fit_transform(X)
    other = AutoencoderImputer(QUICK, **how).fit_transform(X * unit + shift)
    np.testing.assert_allclose((other - shift) / unit, imputed, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [(1.7e308, float), (1e-307, float), (3.4e38, np.float32), (1e-37, np.float32)],
)
@pytest.mark.parametrize("draws", [False, True])
def test_numbers_of_all_sizes(largest, dtype, draws):
    X = lacking(make_data(300))
    X = np.clip(largest * (X / np.nanmax(np.abs(X))), -largest, largest).astype(dtype)
    imputer = AutoencoderImputer(QUICK, random_state=0, sample_posterior=draws).fit(X)
    imputer.weight_[:] = 1
    imputed = imputer.transform(X)
    assert np.isfinite(imputed).all()
    assert 0.05 < np.std(imputed[np.isnan(X)] / largest) < 0.5
    outliers = np.where(np.isnan(X), np.nan, np.copysign(np.finfo(dtype).max, X))
    assert np.isfinite(imputer.transform(outliers)).all()


def test_draws_cover_the_truth():
    """Of intervals with 95 % of the draws; for each feature by itself, too."""
    rng = np.random.default_rng(0)
    loadings = rng.standard_normal((8, 2))
    X = rng.standard_normal((1200, 2)) @ loadings.T
    X += 0.5 * rng.standard_normal(X.shape)
    incomplete = lacking(X, 0.3)
    imputer = AutoencoderImputer(sample_posterior=True, random_state=0).fit(incomplete)
    draws = []
    for seed in range(100):
        draws.append(imputer.set_params(random_state=seed).transform(incomplete))
        np.testing.assert_array_equal(draws[-1], imputer.transform(incomplete))
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    missing = np.isnan(incomplete)
    is_covered = (low <= X) & (high >= X)
    assert 0.9 < is_covered[missing].mean() < 0.98
    for j in range(8):
        assert 0.85 < is_covered[missing[:, j], j].mean() < 0.99


def test_deviations_are_those_of_the_distribution():
    gaussian = Gaussian(np.zeros(3), np.array([[1.0], [2.0], [0.5]]), 0.3)
    imputer = AutoencoderImputer()
    imputer._gaussian = gaussian._asdict()
    missing = np.tile([True, True, False], (40_000, 1))
    found = imputer._deviations(missing, np.random.RandomState(0))
    covariance = np.zeros((3, 3))
    Expectation(gaussian).fill(np.array([[np.nan, np.nan, 0.0]]), None, covariance)
    assert (found[:, 2] == 0).all()
    estimate = np.triu(found.T @ found / len(found))
    np.testing.assert_allclose(estimate, covariance, atol=0.03)


# ---------------------------------------------------------------------------
# Tables with categories
# ---------------------------------------------------------------------------


def make_table(n_rows=300, seed=0):
    """A table of all kinds of columns, which tell each other; rows in no order."""
    pd = pytest.importorskip("pandas")
    x = np.random.default_rng(seed).standard_normal(n_rows)
    names = np.array(["u", "v", "w"], dtype=object)[np.digitize(x, [-0.5, 0.5])]
    columns = {
        "x": x,
        "single": x.astype(np.float32),
        "whole": pd.Series(np.rint(5 * x).astype(int)).astype("Int64"),
        "categorical": pd.Categorical(names),
        "objects": pd.Series(names, dtype=object),
        "strings": pd.Series(names, dtype="string"),
        "flags": pd.Series(x > 0).astype("boolean"),
    }
    table = pd.DataFrame(columns)
    table.index = 3 * np.arange(n_rows)[::-1]
    return table


def lacking_table(table, share=0.2, seed=0):
    pd = pytest.importorskip("pandas")
    is_missing = np.random.default_rng(seed).random(table.shape) < share
    mask = pd.DataFrame(is_missing, table.index, table.columns)
    return table.mask(mask), is_missing


def is_level(table, other, is_missing):
    """Whether entries in gaps are those of another table, in columns of categories."""
    hits = []
    for j, (name, dtype) in enumerate(table.dtypes.items()):
        if not hasattr(dtype, "numpy_dtype") and dtype in (float, np.float32):
            continue
        hits += list((table[name] == other[name])[is_missing[:, j]])
    return np.array(hits, dtype=bool)


def test_a_table_comes_back():
    """Observed entries as they were; names, dtypes, index; gaps put back."""
    pd = pytest.importorskip("pandas")
    whole = make_table()
    table, is_missing = lacking_table(whole)
    imputer = AutoencoderImputer(QUICK, random_state=0, add_indicator=True)
    imputed = imputer.fit_transform(table)
    first = imputed[list(table)]
    assert not imputed.isna().any().any()
    pd.testing.assert_frame_equal(first.where(table.notna()), table)
    assert first.dtypes.to_dict() == table.dtypes.to_dict()
    assert list(imputed) == imputer.get_feature_names_out().tolist()
    pd.testing.assert_frame_equal(imputer.inverse_transform(imputed), table)
    assert is_level(first, whole, is_missing).mean() > 0.8
    assert [None if c is None else len(c) for c in imputer.categories_] == [
        *([None] * 3),
        *([3] * 3),
        2,
    ]
    one = imputer.transform(table.iloc[[7]])  # does not depend on others
    pd.testing.assert_frame_equal(one, imputed.iloc[[7]])
    copy = pickle.loads(pickle.dumps(imputer))
    pd.testing.assert_frame_equal(copy.transform(table), imputed)
    with threadpool_limits(1):
        backwards = clone(imputer).fit(table[list(table)[::-1]])
    found = backwards.transform(table[list(table)[::-1]])
    pd.testing.assert_frame_equal(found[list(table)], first)


@pytest.mark.parametrize("library", ["polars", "pyarrow", "numpy"])
def test_tables_of_other_libraries(library):
    pytest.importorskip("pandas")
    columns = ["x", "objects", "whole", "flags"]
    table, is_missing = lacking_table(make_table()[columns])
    lists = {
        name: [None if lacks else v for v, lacks in zip(of, gaps, strict=True)]
        for (name, of), gaps in zip(table.items(), is_missing.T, strict=True)
    }
    how = {"estimator": QUICK, "random_state": 0, "add_indicator": True}
    imputer = AutoencoderImputer(**how)
    if library == "numpy":
        X = np.array([*lists.values()], dtype=object).T
        imputed = imputer.fit_transform(X)
        kept = np.where(is_missing, None, imputed[:, :4])
        assert (kept == X).all()
        back = imputer.inverse_transform(imputed)
        assert (back == X).all()
        found, names = imputed.T.tolist(), ["x0", "x1", "x2", "x3"]
    else:
        module = pytest.importorskip(library)
        make = module.DataFrame if library == "polars" else module.table
        X = make(lists)
        imputed = imputer.fit_transform(X)
        assert type(imputed) is type(X)
        back = imputer.inverse_transform(imputed)
        assert back.equals(X)
        lists_of = getattr(imputed, "to_pydict", None) or partial(
            imputed.to_dict, as_series=False
        )
        found, names = [*lists_of().values()], columns
        assert [*lists_of()][:4] == columns
    expected = AutoencoderImputer(**how).fit_transform(table)
    assert found[1] == expected["objects"].tolist()
    assert found[3] == expected["flags"].tolist()
    assert imputer.get_feature_names_out()[:4].tolist() == names
    as_pandas = imputer.set_output(transform="pandas").transform(X)
    assert as_pandas.columns.tolist() == imputer.get_feature_names_out().tolist()
    assert as_pandas[names[1]].tolist() == expected["objects"].tolist()


@pytest.mark.parametrize("mark", ["?", "", 0])
def test_marks_of_missing_values_in_tables(mark):
    pd = pytest.importorskip("pandas")
    table, _ = lacking_table(make_table()[["x", "objects"]])
    table["whole"] = 1 + np.arange(300)
    table["flags"] = np.arange(300) % 2 == 0  # False is no 0
    if mark == 0:
        table["objects"] = make_table()["objects"]
        table["x"] = table["x"].abs()
    of = "x" if mark == 0 else "objects"
    marked = table.assign(**{of: table[of].where(table[of].notna(), mark)})
    how = {"estimator": QUICK, "random_state": 0, "add_indicator": True}
    imputer = AutoencoderImputer(missing_values=mark, **how).fit(marked)
    imputed = imputer.transform(marked)
    pd.testing.assert_frame_equal(
        imputed, AutoencoderImputer(**how).fit_transform(table)
    )
    pd.testing.assert_frame_equal(imputer.inverse_transform(imputed), marked)
    if mark == 0:
        with pytest.raises(ValueError, match="contains NaN, but missing_values=0"):
            imputer.transform(table)
        return
    # A string makes no categories of numbers.
    X = marked.to_numpy(dtype=object)
    X[3, 0] = mark
    assert isinstance(imputer.fit(X).transform(X)[3, 0], float)
    X[:, 1] = mark
    assert imputer.fit(X).transform(X)[3, 0] != mark


def test_the_network_finds_levels_that_no_plane_tells():
    """A level that two others tell only together, beside numbers that are noise."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 800)).astype(bool)
    x = rng.standard_normal(800)
    whole = pd.DataFrame({"a": a, "b": b, "differ": a ^ b, "x": x}).astype(
        {"a": "boolean", "b": "boolean", "differ": "boolean"}
    )
    table, is_missing = lacking_table(whole, 0.15)
    imputer = AutoencoderImputer(random_state=0).fit(table)
    alone = is_missing[:, :3].sum(axis=1) == 1
    of_alone = is_missing & alone[:, np.newaxis]
    assert is_level(imputer.transform(table), whole, of_alone).mean() > 0.95
    assert imputer.estimator_._group_sizes == [2, 2, 2]
    assert (imputer.weight_[:3] > 0.5).all()
    imputer.weight_ = np.zeros(4)
    assert is_level(imputer.transform(table), whole, of_alone).mean() < 0.7


@pytest.mark.published
def test_adult():
    """A fifth of the entries is removed; see benchmarks/imputation.py."""
    pd = pytest.importorskip("pandas")
    path = Path(os.environ.get("SKAE_DATA", ""), "adult.csv.gz")
    if not path.is_file():
        pytest.skip("SKAE_DATA does not name a folder with adult.csv.gz")
    whole = pd.read_csv(path).drop(columns="income")
    whole = whole.replace("?", None).sample(1000, random_state=1)
    table, is_missing = lacking_table(whole)
    is_missing &= whole.notna().to_numpy()
    imputed = AutoencoderImputer(random_state=0).fit_transform(table)
    most = table.fillna(table.mode().iloc[0])
    names = [c for c in whole if not pd.api.types.is_numeric_dtype(whole[c])]
    gaps = is_missing[:, [whole.columns.get_loc(c) for c in names]]
    right, frequent = (
        (found[names] == whole[names]).to_numpy()[gaps].mean()
        for found in (imputed, most)
    )
    assert right > frequent + 0.1


def test_draws_of_levels():
    """As often as they are probable, given what is known."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    a = rng.random(1000) < 0.5
    b = np.where(rng.random(1000) < np.where(a, 0.9, 0.3), "yes", "no")
    table = pd.DataFrame({"a": pd.Series(a, dtype="boolean"), "b": b})
    table["b"] = table["b"].astype(object)
    table.loc[:299, "b"] = None
    imputer = AutoencoderImputer(QUICK, sample_posterior=True, random_state=0)
    drawn = pd.concat(
        imputer.fit(table).set_params(random_state=seed).transform(table)[:300]
        for seed in range(5)
    )
    share, known = (
        (of["b"] == "yes").groupby(of["a"]).mean() for of in (drawn, table[300:])
    )
    assert abs(share - known).max() < 0.04


@pytest.mark.parametrize("n_rows", [1, 2, 3, 60])
def test_few_rows_of_tables(n_rows):
    table, _ = lacking_table(make_table(n_rows), 0.3)
    for draws in (False, True):
        imputer = AutoencoderImputer(random_state=0, sample_posterior=draws)
        imputed = imputer.fit_transform(table)
        assert list(imputed) == [c for c in table if table[c].notna().any()]
        assert not imputed.isna().any().any()


def test_hard_cases_of_tables():
    pd = pytest.importorskip("pandas")
    table, _ = lacking_table(make_table())
    table["nothing"] = pd.Categorical([None] * 300, ["u", "v"])
    table["no object"] = None
    table["one"] = pd.Series(["only"] * 299 + [None], table.index, dtype=object)
    table["many"] = [f"level {i % 150}" for i in range(300)]
    table.iloc[5] = pd.NA
    for keep in (False, True):
        how = {"add_indicator": True, "keep_empty_features": keep}
        imputer = AutoencoderImputer(QUICK, random_state=0, **how).fit(table)
        imputed = imputer.transform(table)
        assert (imputed["one"] == "only").all()
        assert ("nothing" in imputed) is keep
        lacks = imputed.columns[imputed.isna().any()].tolist()
        assert lacks == (["nothing"] if keep else [])  # no level is known
        assert imputer.weight_.shape == (9,)
        back = imputer.inverse_transform(imputed)
        assert (back.isna() == table.isna()).all().all()
    new = table[7:10].copy()
    new["categorical"] = new["categorical"].cat.add_categories("new")
    new.iloc[0, new.columns.get_loc("categorical")] = "new"
    new.iloc[0, 0] = np.nan
    with pytest.warns(UserWarning, match="not seen in fit, .* 'categorical': 'new'"):
        imputed = imputer.transform(new)
    assert imputed["categorical"].iloc[0] == "new"
    imputer.set_params(handle_unknown="error")
    with pytest.raises(ValueError, match=r"not seen in fit, .* 'categorical': 'new'"):
        imputer.transform(new)
    # Only categories; levels that share an input are what they were.
    few = table[["objects", "many"]]
    imputer = AutoencoderImputer(QUICK, random_state=0, max_categories=4).fit(few)
    imputed = imputer.transform(few)
    assert (imputed["many"] == few["many"])[few["many"].notna()].all()
    with pytest.raises(AttributeError, match="no attribute 'categories_'"):
        AutoencoderImputer(QUICK).fit(make_data(50)).categories_  # noqa: B018


def test_tables_of_many_samples_stay_sparse():
    """A matrix of all levels of all samples would have 32 MB."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 400, 10_000)
    table = pd.DataFrame({"level": codes.astype(str), "x": codes + 0.0})
    table["level"] = table["level"].astype(object)
    table.loc[::10, "level"] = None
    imputer = AutoencoderImputer(
        clone(QUICK).set_params(max_iter=1),
        categories={"level": [str(code) for code in range(400)]},
        random_state=0,
    ).fit(table[:300])
    tracemalloc.start()
    imputed = imputer.transform(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not imputed.isna().any().any()
    assert peak < 32e6
