"""save and load: what is read is what was written."""

import os
import pickle
import sys
import warnings
from fractions import Fraction

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
)
from skae._files.descriptions import VERSION
from skae.io import TRUSTED_TYPES, load, save

from .support.cases import ALL_CASES, RESTARTS, data_for, make, make_data
from .support.files import (
    DTYPES,
    MEMBERS,
    Own,
    assert_same,
    assert_same_but_for_the_fits,
    assert_same_value,
    contents,
    parts_of,
    through_file,
)
from .support.libraries import NUMBERS, TABLES, WHOLE, assert_same_table, repeated
from .support.make_model_files import (
    FOLDER,
    INCOMPLETE,
    MORE,
    detector,
    imputer,
    models,
    of_a_table,
    table,
    table_detector,
    table_imputer,
)


@pytest.mark.parametrize("name", ALL_CASES)
def test_training_goes_on_from_a_file(name, path):
    """And k epochs, a file and k epochs are 2k epochs."""
    estimator = make(name, max_iter=6, tol=1e-12, warm_start=True)
    X = data_for(estimator).astype(DTYPES[list(ALL_CASES).index(name) % 2])
    once = clone(estimator).set_params(max_iter=12)
    estimator.fit(X)
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    code = estimator.transform(X)
    assert_same_value(code, loaded.transform(X), "code")
    assert_same_value(
        estimator.inverse_transform(code), loaded.inverse_transform(code), "X"
    )
    assert loaded.score(X) == estimator.score(X)
    # Not through the file again: the whole of two fits.
    assert_same(estimator.fit(X), loaded.fit(X))
    if estimator.learning_rate != RESTARTS and not getattr(estimator, "pretrain", None):
        assert_same_but_for_the_fits(once.fit(X), loaded)


@pytest.mark.parametrize("member", MEMBERS)
def test_unfitted(member, path):
    estimator = member(3, hidden_layer_sizes=(7,))
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        check_is_fitted(loaded)


PARAMETERS = {
    "n_components": [3, np.int64(3), np.uint8(3), True],
    "hidden_layer_sizes": [
        *("auto", np.str_("auto"), (), [], (8, 5), [8, 5], 7, np.int32(7)),
        *(np.array([8, 5]), np.array([8, 5], dtype=np.uint16), [(8,), [5]]),
        np.array(8),
    ],
    "activation": ["relu", ("elu", "gelu"), ["elu"], np.array(["elu", "gelu"])],
    "alpha": [0.0, -0.0, 1, 1 / 3, 1e-320, np.float32(0.1), np.float64(0.1)],
    "tol": [np.inf, -np.inf, np.nan, np.float32("inf"), np.float64("nan"), 2**70],
    "scale": [None, "auto", 2.5, np.float16(0.3)],
    "early_stopping": ["auto", True, np.bool_(True), np.bool_(False)],
    "random_state": [None, 0, np.int64(5), 2**32 - 1],
    "verbose": [False, 3],
    "loss": ["nonsense", "", "\0\ud800ü\u2028"],
    "categories": [
        {"city": ["Rome", b"\xff", 1, True, 2.5], 3: (None, np.inf), None: []},
        [None, ["a"]],
    ],
    "feature_weights": [np.array([1.0, np.inf, 0.5]), [0.1]],
    "categorical_features": [None, np.array([True, False]), ["a"], (0, 1)],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in PARAMETERS.items() for value in values],
    ids=repr,
)
def test_parameters(name, value, path):
    """Those that are not valid, too: it is fit that says so."""
    estimator = AutoencoderTransformer().set_params(**{name: value})
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    expected = AutoencoderTransformer().set_params(**{name: value})
    assert_same(expected, through_file(estimator, path))


def test_numbers_of_numpy_within_others(path):
    estimator = AutoencoderTransformer(hidden_layer_sizes=(np.int64(8), [np.uint8(5)]))
    loaded = through_file(estimator, path)
    assert_same_value(loaded.hidden_layer_sizes, (8, [5]), "hidden_layer_sizes")


@pytest.mark.parametrize("n_drawn", [0, 1, 2, 623, 624])
def test_random_state_goes_on(n_drawn, path):
    random_state = np.random.RandomState(5)
    random_state.standard_normal(n_drawn)  # an odd number leaves one behind
    estimator = make("minibatch", random_state=random_state)
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    X = make_data()
    assert_same(estimator.fit(X), loaded.fit(X))
    assert_same(estimator, loaded)
    assert random_state.random() == loaded.random_state.random()


FEATURE_NAMES = [
    list("abcdef"),
    ["", "ü", "日本語", "a\0b", "\ud800", "x" * 5000],
    ["1", "1.0", "None", '"', "\\", "\n"],
]


@pytest.mark.parametrize("names", FEATURE_NAMES, ids=["plain", "text", "quotes"])
def test_feature_names(names, path):
    X = pd.DataFrame(make_data(), columns=pd.Index(names, dtype=object))
    estimator = make("adam", warm_start=True).fit(X)
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    assert loaded.feature_names_in_.dtype == object
    assert_same(estimator.fit(X), loaded.fit(X))
    with pytest.raises(ValueError, match=r"feature names|surrogates"):
        loaded.transform(X[names[::-1]])


@pytest.mark.parametrize("transform", ["pandas", "polars", "default"])
def test_output(transform, path):
    X = make_data()
    estimator = make("adam").fit(X).set_output(transform=transform)
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    assert type(loaded.transform(X)) is type(estimator.transform(X))


def test_metadata_requests(path):
    estimator = make("adam")
    with sklearn.config_context(enable_metadata_routing=True):
        estimator.set_fit_request(sample_weight=True, X_val="validation")
        estimator.set_score_request(sample_weight=False)
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    routing = loaded.get_metadata_routing()
    requests = {"sample_weight": True, "X_val": "validation", "groups": None}
    assert routing.fit.requests == requests
    assert routing.score.requests == {"sample_weight": False}


def of_table(member, X, **params):
    """An autoencoder that is fitted to a table with categories."""
    params = {"max_iter": 3, "random_state": 0, "warm_start": True, **params}
    return member(2, hidden_layer_sizes=(3,), **params).fit(X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", TABLES)
def test_tables_with_categories(name, path):
    """From files and pickles: the tables are the same, and training goes on."""
    X = TABLES[name]()
    member = MEMBERS[list(TABLES).index(name) % 2]
    estimator = of_table(member, X, max_categories=3)
    code = estimator.transform(X)
    table = estimator.inverse_transform(code)
    for loaded in (
        through_file(estimator, path),
        pickle.loads(pickle.dumps(estimator)),
    ):
        assert_same(estimator, loaded)
        assert loaded.input_names_ == estimator.input_names_
        assert_same_value(loaded.categories_, estimator.categories_, "categories_")
        assert_same_value(loaded.transform(X), code, "code")
        assert_same_table(loaded.inverse_transform(code), table)
        assert loaded.score(X) == estimator.score(X)
    estimator.fit(X)
    assert_same(estimator, loaded.fit(X))


@pytest.mark.parametrize("params", [{"scale": "standard"}, {"feature_weights": [1, 2]}])
def test_numbers_with_scales_of_their_own(params, path):
    X = make_data(50, 2).astype(np.float32)
    estimator = of_table(AutoencoderTransformer, X, **params)
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    assert_same(estimator.fit(X), loaded.fit(X))
    version = parts_of(path.read_bytes())[0]["version"]
    assert version == (4 if "scale" in params else 1)


def test_levels_and_names_of_every_type(path):
    """Of numbers that stand for levels, of flags, of entries that are all missing."""
    X = np.column_stack([NUMBERS, WHOLE, WHOLE > 1])
    given = {"categorical_features": [2, 3], "categories": {2: [2, 50, 0.5]}}
    with pytest.warns(UserWarning, match="not seen in fit"):
        numbers = of_table(AutoencoderTransformer, X, **given)
    frame = pd.DataFrame(dict(enumerate(X.T))).astype({3: bool})
    frame[b"name"] = pd.Series([None] * len(X), dtype="string")
    frame[2.5] = [b"\xff", "\ud800"] * (len(X) // 2)
    for estimator, rows in (
        (numbers, X[:5, :]),
        (of_table(AutoencoderTransformer, frame), frame),
    ):
        loaded = through_file(estimator, path)
        assert_same(estimator, loaded)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = estimator.transform(rows)
        assert_same_table(
            loaded.inverse_transform(code), estimator.inverse_transform(code)
        )


def test_tables_that_files_do_not_hold(path):
    """They can be pickled, nevertheless."""
    bins = pd.cut(NUMBERS[:, 0], 3)
    for column, match in (
        (pd.Series(bins), r"dtype CategoricalDtype.* of column 'c'.* before fit"),
        (pd.Series(pd.Categorical([Fraction(1, 2), "a"] * 30)), "categories=.1/2, "),
    ):
        X = pd.DataFrame({"c": column, "x": NUMBERS[:, 1]})
        estimator = of_table(AutoencoderTransformer, X)
        with pytest.raises(TypeError, match=match):
            save(estimator, path)
        code, loaded = estimator.transform(X), pickle.loads(pickle.dumps(estimator))
        assert_same_table(
            loaded.inverse_transform(code), estimator.inverse_transform(code)
        )


def test_without_the_library_of_the_table(path, monkeypatch):
    X = TABLES["polars"]()
    estimator = of_table(AutoencoderTransformer, X)
    save(estimator, path)
    pickled = pickle.dumps(estimator)
    code = estimator.transform(X)
    names = [name for name in sys.modules if name.partition(".")[0] == "polars"]
    for name in {"polars", *names}:
        monkeypatch.setitem(sys.modules, name, None)
    for loaded in (load(path), pickle.loads(pickled)):
        assert loaded.categories_[0].tolist() == ["", "a", "b", "ü"]
        with pytest.raises(ImportError, match="inverse_transform to a table of polars"):
            loaded.inverse_transform(code)


def test_pickles_of_before_have_the_defaults_of_new_parameters():
    estimator = make("adam", scale=3.0).fit(make_data())
    state = estimator.__getstate__()
    for name in ("categorical_features", "categories", "feature_weights"):
        del state[name]
    loaded = AutoencoderTransformer.__new__(AutoencoderTransformer)
    loaded.__setstate__(state)
    assert_same(estimator, loaded)


QUICK = AutoencoderTransformer(4, hidden_layer_sizes=(8,), max_iter=2, random_state=1)


IMPUTERS = {
    "default": {"estimator": None},
    "draws": {"sample_posterior": True, "missing_values": pd.NA},
    "indicators": {"add_indicator": True, "keep_empty_features": True},
    "numbers": {"missing_values": -1, "random_state": np.random.RandomState(0)},
    "not fitted": {"estimator": VariationalAutoencoderTransformer(7)},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_rows", [30, 250])  # without a network, and with one
@pytest.mark.parametrize("name", IMPUTERS)
def test_imputers(name, n_rows, dtype, path):
    params = {"estimator": QUICK, "random_state": 0, **IMPUTERS[name]}
    imputer = AutoencoderImputer(**params)
    missing = -1 if name == "numbers" else np.nan
    X = make_data(n_rows).astype(dtype)
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.2, missing, X)
    X[:, 2] = missing
    frame = pd.DataFrame(X, columns=["", *"äbcde"])
    if name != "not fitted":
        imputer.fit(frame).set_output(transform="pandas")
        assert (imputer.estimator_ is None) == (n_rows == 30)
    loaded = through_file(imputer, path)
    assert_same(imputer, loaded)
    if name != "not fitted":
        pd.testing.assert_frame_equal(loaded.transform(frame), imputer.transform(frame))
        assert_same(imputer.fit(X), loaded.fit(X))


@pytest.mark.parametrize("name", TABLES)
def test_imputers_of_tables(name, path):
    """Files and pickles: of numbers, levels and gaps, with a network and indicators."""
    X = repeated(TABLES[name](), 4)
    params = {"add_indicator": True, "keep_empty_features": len(name) % 2 == 0}
    imputer = AutoencoderImputer(QUICK, random_state=0, max_categories=3, **params)
    imputer.fit(X)
    assert imputer.estimator_ is not None
    imputed = imputer.transform(X)
    for loaded in (through_file(imputer, path), pickle.loads(pickle.dumps(imputer))):
        assert_same(imputer, loaded)
        assert_same_value(loaded.categories_, imputer.categories_, "categories_")
        assert_same_table(loaded.transform(X), imputed)
        assert_same_table(
            loaded.inverse_transform(imputed), imputer.inverse_transform(imputed)
        )
        for each in (imputer, loaded):
            each.set_params(sample_posterior=True)
        assert_same_table(loaded.transform(X), imputer.transform(X))
        imputer.set_params(sample_posterior=False)
    assert_same(imputer, loaded.set_params(sample_posterior=False).fit(X))


def test_imputers_of_columns_without_entries(path):
    """Of numbers or of levels; all of one; without a network."""
    X = pd.DataFrame({"n": [np.nan] * 5, "t": pd.array([None] * 5, dtype="string")})
    X["level"] = pd.Categorical([None, "a", "a", None, "a"], categories=["b", "a"])
    for names, keeps in ((["n", "t", "level"], True), (["n", "t"], False)):
        imputer = AutoencoderImputer(keep_empty_features=keeps).fit(X[names])
        loaded = through_file(imputer, path)
        assert_same(imputer, loaded)
        assert_same_table(loaded.transform(X[names]), imputer.transform(X[names]))
    declared = {"level": ["c", "b", "a"]}
    imputer = AutoencoderImputer(categories=declared).fit(X[["level"]])
    loaded = through_file(imputer, path)
    assert loaded.categories_[0].tolist() == ["a", "b", "c"]
    assert_same(imputer, loaded)


def test_imputers_of_nothing(path):
    imputer = AutoencoderImputer(keep_empty_features=True).fit(np.full((3, 2), np.nan))
    loaded = through_file(imputer, path)
    assert_same(imputer, loaded)
    assert loaded.transform([[1, np.nan]]).tolist() == [[1, 0]]


def test_fitted_parameters(path):
    """An estimator is saved whole, as in a pickle, wherever it is."""
    network = clone(QUICK).fit(make_data())
    loaded = through_file(AutoencoderImputer(network), path)
    assert_same(network, loaded.estimator)


def test_imputers_that_files_do_not_hold(path):
    for bad, message in (
        (clone(QUICK).set_params(loss={1}), r"cannot write estimator__loss=\{1\}"),
        (Own(), r"cannot write estimator=Own\(\), of type Own"),
    ):
        with pytest.raises(TypeError, match=message):
            save(AutoencoderImputer(bad), path)
    imputer = AutoencoderImputer(random_state=0).fit(make_data())
    imputer._calibration[2] = np.inf
    with pytest.raises(ValueError, match="cannot be saved: 'calibration' has entries"):
        save(imputer, path)
    assert os.listdir(path.parent) == []


QUICK_VARIATIONAL = VariationalAutoencoderTransformer(
    2, hidden_layer_sizes=(5,), max_iter=2
)
DETECTORS = {
    "default": (None, "plain"),
    "an estimator": (QUICK, "incomplete"),
    "variational": (QUICK_VARIATIONAL, "incomplete"),
    "a range": (clone(QUICK).set_params(loss="log_loss"), "probabilities"),
    "a range and zeros": (clone(QUICK).set_params(loss="poisson"), "zeros"),
    "names": (QUICK, "names"),
    "sparse": (QUICK, "sparse"),
    "never observed": (QUICK, "never observed"),
    "one model": (QUICK, "few"),
    "one variational model": (QUICK_VARIATIONAL, "few"),
}


def rows_for_detectors(kind, dtype):
    X = make_data(60, loss="log_loss" if kind == "probabilities" else "squared_error")
    X = X.astype(dtype)
    if kind == "zeros":
        X = np.abs(X)
        X[:, 3] = 0
    if kind in ("incomplete", "never observed"):
        X[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
    if kind == "never observed":
        X[:, 2] = np.nan
    if kind == "names":
        return pd.DataFrame(X, columns=["", *"äbcde"])
    if kind == "sparse":
        return sparse.csr_array(np.where(X < 0, 0, X))
    return X[:5] if kind == "few" else X


def results_of(detector, X):
    """All that a detector says of samples."""
    results = {
        name: getattr(detector, name)(X)
        for name in (
            *("score_samples", "decision_function", "predict"),
            *("p_values", "feature_scores"),
        )
    }
    return {**results, "alpha": detector.predict(X, alpha=0.2)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DETECTORS)
def test_detectors(name, dtype, path):
    """From files and pickles; a fit goes on to the same."""
    estimator, kind = DETECTORS[name]
    X = rows_for_detectors(kind, dtype)
    detector = AutoencoderOutlierDetector(estimator, random_state=0).fit(X)
    assert len(detector.estimators_) == (1 if kind == "few" else 3)
    expected = results_of(detector, X)
    for loaded in (through_file(detector, path), pickle.loads(pickle.dumps(detector))):
        assert_same(detector, loaded)
        assert_same_value(expected, results_of(loaded, X), "results")
    assert_same(detector, loaded.fit(X))


@pytest.mark.parametrize("name", ["pandas", "polars", "bytes"])
def test_detectors_of_tables(name, path):
    X = TABLES[name]()
    network = (QUICK, QUICK_VARIATIONAL)[len(name) % 2]
    detector = AutoencoderOutlierDetector(network, random_state=0, max_categories=3)
    expected = results_of(detector.fit(X), X)
    for loaded in (through_file(detector, path), pickle.loads(pickle.dumps(detector))):
        assert_same(detector, loaded)
        assert_same_value(expected, results_of(loaded, X), "results")
    assert_same(detector, loaded.fit(X))


def test_detectors_of_tables_and_new_levels(path):
    """Levels that are declared, or infrequent, or not known; samples with weights."""
    X = TABLES["pandas"]()[["t", "x", "b", "c"]]
    detector = AutoencoderOutlierDetector(
        QUICK, random_state=0, categories={"t": ["a", "b", "", "ü", "more"]}
    )
    detector.fit(X, sample_weight=np.linspace(0.1, 1, len(X)))
    loaded = through_file(detector, path)
    new = X.assign(t=["more", "?"] * 30)
    with pytest.warns(UserWarning, match="very rare ones: column 't'"):
        expected = detector.score_samples(new)
    with pytest.warns(UserWarning, match="very rare ones: column 't'"):
        found = loaded.score_samples(new)
    assert_same_value(found, expected, "scores")
    assert found[0] != detector.score_samples(X)[0]
    # Numbers again: nothing of the table is left.
    numbers = make_data(60)
    assert_same(detector.fit(numbers), through_file(loaded.fit(numbers), path))


def test_detectors_not_fitted(path):
    """With a fitted parameter, numbers of NumPy, a generator, requests."""
    network = clone(QUICK_VARIATIONAL).fit(make_data())
    random_state = np.random.RandomState(3)
    detector = AutoencoderOutlierDetector(
        network, contamination=np.float32(0.25), random_state=random_state
    )
    with sklearn.config_context(enable_metadata_routing=True):
        detector.set_fit_request(groups=True).set_predict_request(alpha="level")
    save(detector, path)
    loaded = load(path)
    assert_same_value(loaded.contamination, 0.25, "contamination")
    assert_same(network, loaded.estimator)
    assert_same(detector.set_params(contamination=0.25), loaded)
    routing = loaded.get_metadata_routing()
    assert routing.predict.requests == {"alpha": "level"}
    assert routing.fit.requests == {"sample_weight": None, "groups": True}
    for each in (detector, loaded):
        with pytest.raises(sklearn.exceptions.NotFittedError):
            check_is_fitted(each)
        assert not hasattr(each, "estimators_")
    X = make_data(60)
    assert_same(detector.fit(X), loaded.fit(X))


def test_detectors_of_wrong_parameters(path):
    """It is fit that says so, not what asks for tags before."""
    loaded = through_file(AutoencoderOutlierDetector([]), path)
    assert sklearn.utils.get_tags(loaded).input_tags.allow_nan
    with pytest.raises(ValueError, match="'estimator' parameter"):
        loaded.fit(make_data())


def test_detectors_that_files_do_not_hold(path):
    bad = AutoencoderOutlierDetector(clone(QUICK).set_params(loss={1}))
    with pytest.raises(TypeError, match=r"cannot write estimator__loss=\{1\}"):
        save(bad, path)
    detector = AutoencoderOutlierDetector(QUICK, random_state=0).fit(make_data(60))
    scores = detector._held_out[1].scores
    scores[:] = -np.arange(len(scores))
    with pytest.raises(ValueError, match="cannot be saved: the scores of its held-out"):
        save(detector, path)
    detector._models[2].network._params[0] = np.inf
    with pytest.raises(ValueError, match="cannot be saved: 'params' has entries"):
        save(detector, path)
    assert os.listdir(path.parent) == []


def test_detectors_where_transformers_give_frames(path):
    """Their networks' codes are arrays nevertheless, also when they are loaded."""
    X = pd.DataFrame(make_data(60), columns=list("abcdef"))
    detector = AutoencoderOutlierDetector(QUICK, random_state=0).fit(X)
    expected = results_of(detector, X)
    with sklearn.config_context(transform_output="pandas"):
        again = clone(detector).fit(X)
        joblib.dump(again, path.with_suffix(".joblib"))
        loaded = [through_file(again, path), joblib.load(path.with_suffix(".joblib"))]
        for each in (again, *loaded):
            assert_same_value(expected, results_of(each, X), "results")


def test_detectors_that_joblib_has_mapped_into_memory(tmp_path, path):
    X = make_data(60)
    detector = AutoencoderOutlierDetector(QUICK, random_state=0).fit(X)
    joblib.dump(detector, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert_same_value(results_of(detector, X), results_of(mapped, X), "results")
    assert_same(detector, through_file(mapped, path))


def test_pandas_missing_where_it_is_loaded(path, monkeypatch):
    save(AutoencoderImputer(missing_values=pd.NA), path)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="load needs pandas"):
        load(path)


def test_what_joblib_has_mapped_into_memory(tmp_path, path):
    estimator = make("adam").fit(make_data())
    joblib.dump(estimator, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert_same(estimator, through_file(mapped, path))


def test_only_estimators_of_skae_are_saved(path):
    for swapped in (path, str(path), os.fsencode(path)):
        with pytest.raises(TypeError, match=r"are save\(estimator, path\)$"):
            save(swapped, AutoencoderTransformer())
    pipeline = make_pipeline(StandardScaler(), AutoencoderTransformer())
    for other in (PCA(), Own(), AutoencoderTransformer, None, {}):
        with pytest.raises(TypeError, match=r"takes an estimator of skae, Auto.* or "):
            save(other, path)
    with pytest.raises(TypeError, match=r"got Pipeline.*trusted=skae.io.TRUSTED_TYPES"):
        save(pipeline, path)
    with pytest.raises(
        TypeError, match=r"got Own.*trusted=\[\*skae.io.TRUSTED_TYPES, "
    ):
        save(Own(), path)
    assert os.listdir(path.parent) == []


def test_of_dask_the_local_one_is_saved(path):
    pytest.importorskip("distributed")
    from skae.dask import DaskAutoencoderTransformer

    estimator = DaskAutoencoderTransformer(3, n_local_steps=2)
    with pytest.raises(TypeError, match=r"Save estimator\.to_local\(\)"):
        save(estimator, path)
    assert os.listdir(path.parent) == []
    assert_same(AutoencoderTransformer(3), through_file(estimator.to_local(), path))


NOT_HELD = [
    *(
        {"a": print},
        {1, 2},
        1j,
        bytearray(b"text"),
        np.float64,
        print,
        np.longdouble(1),
        (8, object()),
    ),
    *(pd.Series([8, 5]), np.array([8, None, print], dtype=object)),
    *(np.random.default_rng(0), np.random.RandomState(np.random.PCG64(0))),
]


@pytest.mark.parametrize("value", NOT_HELD, ids=lambda value: type(value).__name__)
def test_parameters_that_files_do_not_hold(value, path):
    estimator = AutoencoderTransformer(hidden_layer_sizes=value)
    with pytest.raises(TypeError, match="cannot write hidden_layer_sizes="):
        save(estimator, path)
    assert os.listdir(path.parent) == []


def test_broken_estimators_are_not_saved(path):
    estimator = make("adam").fit(make_data())
    save(estimator, path)
    before = path.read_bytes()
    estimator._params[3] = np.nan
    with pytest.raises(ValueError, match="cannot be saved: 'params' has entries"):
        save(estimator, path)
    with pytest.raises(ValueError, match="parameters take more than"):
        save(AutoencoderTransformer(hidden_layer_sizes=(1,) * 600_000), path)
    assert path.read_bytes() == before


def test_without_safetensors(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (lambda: save(AutoencoderTransformer(), path), lambda: load(path)):
        with pytest.raises(ImportError, match=r"needs safetensors: .*'skae\[io\]'"):
            call()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("member", MEMBERS)
def test_files_of_every_version_are_read(member, version, path):
    stored = FOLDER / f"{member.__name__}_{version}.safetensors"
    assert stored.stat().st_size < 20_000
    loaded = load(stored)
    assert type(loaded) is member
    with np.load(stored.with_suffix(".npz"), allow_pickle=False) as expected:
        X, code = expected["X"], expected["code"]
        of_incomplete = expected.get("code_of_incomplete")
    if member is AutoencoderTransformer:
        assert loaded.feature_names_in_.tolist() == ["a", "b", "ç", "d"]
        assert type(loaded.random_state) is np.random.RandomState
        assert loaded.n_iter_no_change == np.inf
        X = pd.DataFrame(X, columns=loaded.feature_names_in_)
    else:
        assert loaded.coefs_[0].dtype == np.float32
        assert len(loaded.kl_curve_) == 5
    np.testing.assert_array_equal(loaded.transform(X), code, strict=True)
    if version > 1:
        rows = np.where(np.isnan(INCOMPLETE), np.nan, X)
        if member is AutoencoderTransformer:
            rows = pd.DataFrame(rows, columns=X.columns)
        np.testing.assert_allclose(loaded.transform(rows), of_incomplete, rtol=1e-5)
    assert loaded.scale_ == 2
    assert loaded.n_iter_ == 5
    loaded.set_params(warm_start=True).fit(X)
    assert len(loaded.loss_curve_) == 10
    assert_same(loaded, through_file(loaded, path))


def test_the_file_of_an_imputer_is_read(path):
    stored = FOLDER / "AutoencoderImputer_3.safetensors"
    assert stored.stat().st_size < 20_000
    loaded = load(stored)
    names = ["a", "b", "ç", "d"]
    assert loaded.feature_names_in_.tolist() == names
    assert loaded.weight_.tolist() == [0, 0.5, 1]
    X = pd.DataFrame(MORE, columns=names)
    with np.load(stored.with_suffix(".npz"), allow_pickle=False) as expected:
        imputed = expected["imputed"]
    np.testing.assert_allclose(loaded.transform(X), imputed, rtol=1e-4)
    assert_same(loaded, through_file(loaded, path))


def test_the_file_of_a_table_is_read(path):
    stored = FOLDER / "AutoencoderTransformer_4.safetensors"
    assert stored.stat().st_size < 20_000
    loaded, X = load(stored), table()
    with np.load(stored.with_suffix(".npz"), allow_pickle=False) as expected:
        code = expected["code"]
    np.testing.assert_allclose(loaded.transform(X), code, rtol=1e-4)
    decoded = loaded.inverse_transform(code)
    assert decoded.dtypes.tolist() == X.dtypes.tolist()
    assert set(decoded["city"]) <= set(X["city"].dropna())
    assert_same(loaded, through_file(loaded, path))


def test_the_file_of_a_detector_is_read(path):
    stored = FOLDER / "AutoencoderOutlierDetector_3.safetensors"
    assert stored.stat().st_size < 20_000
    loaded = load(stored)
    names = ["a", "b", "ç", "d"]
    assert loaded.feature_names_in_.tolist() == names
    assert len(loaded.estimators_) == 3
    X = pd.DataFrame(INCOMPLETE, columns=names)
    with np.load(stored.with_suffix(".npz"), allow_pickle=False) as expected:
        scores, p_values = expected["scores"], expected["p_values"]
    np.testing.assert_allclose(loaded.score_samples(X), scores, rtol=1e-4)
    # Rounding may move a sample by a rank among those held out from each model.
    np.testing.assert_allclose(loaded.p_values(X), p_values, atol=0.1)
    assert_same(loaded, through_file(loaded, path))


def test_the_files_of_an_imputer_and_a_detector_of_tables_are_read(path):
    stored = FOLDER / "AutoencoderImputer_4.safetensors"
    loaded, (model, X) = load(stored), table_imputer()
    assert contents(loaded).keys() == contents(model).keys()
    assert loaded.weight_.tolist() == [0, 0.5, 1, 0.25, 0]
    imputed = loaded.transform(X)
    assert imputed.dtypes.tolist() == X.dtypes.tolist()[:-1]
    expected = pd.read_csv(stored.with_suffix(".csv")).astype(imputed.dtypes)
    pd.testing.assert_frame_equal(imputed, expected, rtol=1e-4)
    assert_same(loaded, through_file(loaded, path))
    stored = FOLDER / "AutoencoderOutlierDetector_4.safetensors"
    loaded = load(stored)
    assert contents(loaded).keys() == contents(table_detector()).keys()
    with np.load(stored.with_suffix(".npz"), allow_pickle=False) as arrays:
        scores = arrays["scores"]
    np.testing.assert_allclose(loaded.score_samples(table()), scores, rtol=1e-4)
    assert_same(loaded, through_file(loaded, path))


def test_stored_files_are_what_their_script_makes():
    """But for roundings of the fit."""
    for name, model in models():
        loaded = load(FOLDER / f"{name}.safetensors")
        assert contents(loaded).keys() == contents(model).keys()
        np.testing.assert_allclose(loaded.loss_curve_, model.loss_curve_, rtol=1e-3)
    loaded, model = load(FOLDER / "AutoencoderImputer_3.safetensors"), imputer()
    assert contents(loaded).keys() == contents(model).keys()
    np.testing.assert_allclose(loaded._spread, model._spread)
    loaded, model = (
        load(FOLDER / "AutoencoderOutlierDetector_3.safetensors"),
        detector(),
    )
    assert contents(loaded).keys() == contents(model).keys()
    np.testing.assert_allclose(loaded.offset_, model.offset_, rtol=1e-3)
    loaded = load(FOLDER / "AutoencoderTransformer_4.safetensors")
    assert contents(loaded).keys() == contents(of_a_table()).keys()
    np.testing.assert_allclose(loaded.scale_, of_a_table().scale_)
    newest = max(int(file.stem[-1]) for file in FOLDER.glob("*.safetensors"))
    assert newest == VERSION


@pytest.mark.parametrize("name", ["default", "lbfgs", "deep", "variational"])
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_skops(name, in_pipeline):
    skops = pytest.importorskip("skops.io")
    estimator = make(name, max_iter=6, warm_start=True, n_iter_no_change=np.inf)
    model = make_pipeline(StandardScaler(), estimator) if in_pipeline else estimator
    X = pd.DataFrame(data_for(estimator), columns=list("abcdef"))
    if name == "variational":
        estimator.set_params(random_state=np.random.RandomState(0))
    model.fit(X)
    dumped = skops.dumps(model)
    kind = type(estimator)
    needed = [f"{kind.__module__}.{kind.__name__}"]
    assert skops.get_untrusted_types(data=dumped) == needed
    assert set(needed) <= set(TRUSTED_TYPES)
    with pytest.raises(Exception, match="Untrusted types"):
        skops.loads(dumped)
    loaded = skops.loads(dumped, trusted=TRUSTED_TYPES)
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X), strict=True)
    # Training goes on.
    model.fit(X)
    loaded.fit(X)
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X), strict=True)
    assert (loaded[-1] if in_pipeline else loaded).loss_curve_ == estimator.loss_curve_


def test_skops_of_an_imputer():
    skops = pytest.importorskip("skops.io")
    X = np.where(
        np.random.default_rng(0).random((250, 6)) < 0.2, np.nan, make_data(250)
    )
    imputer = AutoencoderImputer(QUICK, add_indicator=True, random_state=0).fit(X)
    loaded = skops.loads(skops.dumps(imputer), trusted=TRUSTED_TYPES)
    np.testing.assert_array_equal(loaded.transform(X), imputer.transform(X))


def test_skops_of_tables():
    """Of pipelines that impute before they encode, or detect."""
    skops = pytest.importorskip("skops.io")
    X = TABLES["pandas"]()[["t", "x", "b", "f"]]
    imputer = AutoencoderImputer(QUICK, add_indicator=True, random_state=0)
    detector = AutoencoderOutlierDetector(QUICK, random_state=0)
    pipeline = make_pipeline(imputer, detector).fit(X)
    dumped = skops.dumps(pipeline)
    assert set(skops.get_untrusted_types(data=dumped)) <= set(TRUSTED_TYPES)
    loaded = skops.loads(dumped, trusted=TRUSTED_TYPES)
    assert_same_table(loaded[:-1].transform(X), pipeline[:-1].transform(X))
    np.testing.assert_array_equal(loaded.score_samples(X), pipeline.score_samples(X))


@pytest.mark.parametrize("estimator", [None, QUICK, QUICK_VARIATIONAL])
def test_skops_of_a_detector(estimator):
    skops = pytest.importorskip("skops.io")
    X = make_data(60)
    detector = AutoencoderOutlierDetector(estimator, random_state=0).fit(X)
    loaded = skops.loads(skops.dumps(detector), trusted=TRUSTED_TYPES)
    assert_same_value(results_of(detector, X), results_of(loaded, X), "results")
    pipeline = make_pipeline(StandardScaler(), detector).fit(X)
    loaded = skops.loads(skops.dumps(pipeline), trusted=TRUSTED_TYPES)
    np.testing.assert_array_equal(loaded.score_samples(X), pipeline.score_samples(X))


def test_skops_of_a_subclass():
    """As `save` says that it is done."""
    skops = pytest.importorskip("skops.io")
    members = *MEMBERS, AutoencoderImputer, AutoencoderOutlierDetector
    least = [f"{member.__module__}.{member.__name__}" for member in members]
    assert sorted(TRUSTED_TYPES) == sorted(least)
    trusted = [*TRUSTED_TYPES, f"{Own.__module__}.Own"]
    assert type(skops.loads(skops.dumps(Own(3)), trusted=trusted)) is Own
