"""Tests of compare_with_pca against loops written out, and of what it draws."""

import re
from functools import partial
from xml.etree import ElementTree

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_iris, make_s_curve
from sklearn.decomposition import PCA, FactorAnalysis, TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneOut,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae import AutoencoderTransformer
from skae._training.reporting import warn_of_interrupt
from skae.inspection import PCAComparisonDisplay, _comparison, compare_with_pca

from .support.reference import naive_r2

IRIS = load_iris().data  # sorted by class
SHUFFLED_FOLDS = partial(KFold, shuffle=True, random_state=0)
# A few epochs, and by far not PCA: what is compared can be told apart.
QUICK = AutoencoderTransformer(
    hidden_layer_sizes=(5,),
    init="random",
    early_stopping=False,
    max_iter=5,
    learning_rate="cosine",
    random_state=0,
)
# Where only the frame is tested anything that has n_components will do.
LINEAR = TruncatedSVD(random_state=0)


SCORES = np.array(
    [[[0.1, 0.2], [0.3, 0.5], [0.6, 0.6]], [[0.2, 0.4], [0.5, 0.7], [0.6, 0.8]]]
)


def naive_scores(estimator, X, splits):
    """Return R² of held-out rows, split by split."""
    return [naive_r2(clone(estimator).fit(X[a]), X[b]) for a, b in splits]


def scores_of(display, name):
    """Return the scores of one of both, in the order of the table."""
    return display.results["test_score"][display.results["estimator"] == name]


def code_sizes_of(display):
    return np.unique(display.results["n_components"]).tolist()


def table(scores, code_sizes, fit_times=None):
    """Return results: `scores` of shape (2, n_code_sizes, n_splits), PCA's first."""
    scores = np.asarray(scores, dtype=float)
    name, code_size, split = np.indices(scores.shape)
    return {
        "estimator": np.array(["PCA", "autoencoder"])[name.ravel()],
        "n_components": np.array(code_sizes)[code_size.ravel()],
        "split": split.ravel(),
        "fit_time": np.ravel(np.zeros_like(scores) if fit_times is None else fit_times),
        "score_time": np.zeros(scores.size),
        "test_score": scores.ravel(),
    }


# What is compared


def test_a_row_for_each_estimator_code_size_and_split():
    results = compare_with_pca(IRIS, [2, 1], cv=3, estimator=QUICK).results
    assert results["estimator"].tolist() == ["PCA"] * 6 + ["autoencoder"] * 6
    assert results["n_components"].tolist() == [1, 1, 1, 2, 2, 2] * 2
    assert results["split"].tolist() == [0, 1, 2] * 4
    assert {"test_score", "fit_time", "score_time"} < set(results)
    assert all(column.shape == (12,) for column in results.values())
    assert np.all(results["fit_time"] > 0)
    frame = pytest.importorskip("pandas").DataFrame(results)
    assert frame.shape == (12, 6)


@pytest.mark.parametrize("scaler", [None, StandardScaler()], ids=["plain", "pipeline"])
def test_squares_are_those_of_separate_fits(scaler):
    def behind(reduction):
        return reduction if scaler is None else make_pipeline(scaler, reduction)

    display = compare_with_pca(IRIS, [1, 3], cv=3, estimator=behind(QUICK))
    splits = list(SHUFFLED_FOLDS(3).split(IRIS))
    for name, reduction in {"PCA": PCA(), "autoencoder": QUICK}.items():
        expected = [
            naive_scores(
                behind(clone(reduction).set_params(n_components=n)), IRIS, splits
            )
            for n in (1, 3)
        ]
        assert scores_of(display, name) == pytest.approx(np.ravel(expected), rel=1e-6)


def test_an_autoencoder_that_standardizes_meets_pca_that_does():
    X = IRIS * [1, 1e3, 1, 1] + [0, 0, 5e3, 0]
    autoencoder = clone(QUICK).set_params(scale="standard")
    splits = [*KFold(2, shuffle=True, random_state=0).split(X)]
    display = compare_with_pca(X, [1], cv=splits, estimator=autoencoder)
    for name, model in {
        "PCA": make_pipeline(StandardScaler(), PCA(1)),
        "autoencoder": autoencoder.set_params(n_components=1),
    }.items():
        expected = []
        for train, held_out in splits:
            model.fit(X[train])
            scaler = StandardScaler().fit(X[held_out])
            errors = X[held_out] - model.inverse_transform(model.transform(X[held_out]))
            errors /= scaler.scale_
            expected.append(1 - np.square(errors).sum(axis=1).mean() / X.shape[1])
        np.testing.assert_allclose(scores_of(display, name), expected)


def test_default_autoencoder_and_repeated_calls():
    X, _ = make_s_curve(300, random_state=0)
    compare = partial(compare_with_pca, X, [1], cv=2)
    scores = compare().results["test_score"]
    assert np.array_equal(compare().results["test_score"], scores)
    seeded = compare(estimator=AutoencoderTransformer(random_state=0))
    assert np.array_equal(seeded.results["test_score"], scores)
    # One number follows the curve, not its width.
    assert np.all(scores[2:] > scores[:2] + 0.05)


def test_a_linear_autoencoder_gains_nothing():
    linear = AutoencoderTransformer(hidden_layer_sizes=(), random_state=0)
    display = compare_with_pca(IRIS, [1, 2], cv=2, estimator=linear)
    pca, autoencoder = (scores_of(display, name) for name in ("PCA", "autoencoder"))
    assert autoencoder == pytest.approx(pca, abs=1e-6)


@pytest.mark.parametrize(("n_rows", "cv"), [(8, 8), (8, 5), (5, 3), (6, LeaveOneOut())])
def test_a_row_alone_has_no_r2(n_rows, cv):
    with pytest.raises(ValueError, match=f"holds out 1 of {n_rows} samples"):
        compare_with_pca(IRIS[:n_rows], [1], cv=cv, estimator=LINEAR)


def test_code_sizes_are_those_of_the_last_step():
    """They may be one number, or repeated."""
    compare = partial(compare_with_pca, IRIS, cv=2, estimator=LINEAR)
    assert code_sizes_of(compare(2)) == [2]
    display = compare(np.array([3, 1, 3], dtype=np.uint8))
    assert display.results["n_components"].tolist() == [1, 1, 3, 3] * 2
    X = np.hstack([IRIS[:, :3], np.zeros((150, 5))])
    narrowed = make_pipeline(VarianceThreshold(), LINEAR)
    assert code_sizes_of(compare_with_pca(X, cv=2, estimator=narrowed)) == [1, 2]
    with pytest.raises(ValueError, match=r"with 3 features.*1 to 3 components"):
        compare_with_pca(X, [4], cv=2, estimator=narrowed)


def test_the_estimator_is_not_changed():
    fitted = clone(QUICK).set_params(n_components=4).fit(IRIS)
    pipeline = Pipeline([("scale", MinMaxScaler()), ("code", fitted)])
    weights = [w.copy() for w in fitted.coefs_]
    compare_with_pca(IRIS, [1], cv=2, estimator=pipeline)
    assert pipeline.steps[-1][1] is fitted
    assert fitted.n_components == 4
    assert all(map(np.array_equal, fitted.coefs_, weights))
    assert not hasattr(pipeline["scale"], "n_features_in_")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        *(((60, 12), [1, 2, 3, 5, 10]), ((60, 10), [1, 2, 3, 5])),
        *(((60, 3), [1, 2]), ((60, 1), [1])),
        ((6, 12), [1, 2, 3]),  # 3 rows in a training split
    ],
)
def test_default_code_sizes(shape, expected):
    X = np.random.default_rng(0).normal(size=shape)
    display = compare_with_pca(X, cv=2, estimator=PCA())
    assert code_sizes_of(display) == expected


@pytest.mark.parametrize("n_jobs", [None, 1])
def test_n_jobs_is_passed_on(monkeypatch, n_jobs):
    passed = []

    def spy(*args, n_jobs, **kwargs):
        passed.append(n_jobs)
        return cross_validate(*args, n_jobs=n_jobs, **kwargs)

    cross_validate = _comparison.cross_validate
    monkeypatch.setattr(_comparison, "cross_validate", spy)
    compare_with_pca(IRIS, [1], cv=2, estimator=LINEAR, n_jobs=n_jobs)
    assert passed == [n_jobs, n_jobs]


# Splits


@pytest.mark.parametrize("cv", [None, 5, np.int64(5)])
def test_an_int_shuffles(cv):
    display = compare_with_pca(IRIS, [1], cv=cv, estimator=LINEAR)
    expected = naive_scores(PCA(1), IRIS, SHUFFLED_FOLDS(5).split(IRIS))
    assert scores_of(display, "PCA") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("cv", "splits"),
    [
        (KFold(3), KFold(3).split(IRIS)),
        (TimeSeriesSplit(3), TimeSeriesSplit(3).split(IRIS)),
        (
            GroupKFold(3).split(IRIS, groups=np.arange(150) % 3),
            GroupKFold(3).split(IRIS, groups=np.arange(150) % 3),
        ),
    ],
    ids=["splitter", "time series", "generator"],
)
def test_other_splits_are_taken_as_they_are(cv, splits):
    display = compare_with_pca(IRIS, [2], cv=cv, estimator=LINEAR)
    expected = naive_scores(PCA(2), IRIS, splits)
    assert scores_of(display, "PCA") == pytest.approx(expected)


def test_random_splits_are_the_same_for_both_and_for_all_code_sizes():
    cv = ShuffleSplit(4, test_size=0.3)  # other splits whenever it is asked
    display = compare_with_pca(IRIS, [1, 2, 3], cv=cv, estimator=PCA(random_state=0))
    pca, same = (
        scores_of(display, name).reshape(3, 4) for name in ("PCA", "autoencoder")
    )
    assert np.array_equal(pca, same)
    assert np.all(np.diff(pca, axis=0) > 0)


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (1, "n_splits=1"),
        (0, "n_splits=0"),
        ("five", r"cv='five' must be a number of folds, .*samples\.$"),
        ("5", r"cv='5' must be a number of folds.*Did you mean 5\?"),
        (2.5, r"cv=2\.5 must be"),
        (5.0, r"cv=5\.0 must be.*Did you mean 5\?"),
        (range(5), r"cv=range\(0, 5\) must be a number of folds.* Did you mean 5\?"),
        (range(0), r"cv=range\(0, 0\) must be a number of folds.*samples\.$"),
        (np.arange(5), r"cv=array\(\[0, 1, 2, 3, 4\]\) must be a number of folds"),
        (np.array(5.0), r"must be a number of folds"),
        ([range(100)], "each a pair of the indices"),
        ((range(100), range(100, 150)), "each a pair of the indices"),
        ([([0.5, 1.5], [2.5, 3.5])], "each a pair of the indices"),
        ({"train": [0], "test": [1]}, "each a pair of the indices"),
        (KFold, "a splitter such as KFold"),
        (
            [(range(100), [100, 150])],
            "split 0 has indices beyond the 150 samples of X",
        ),
        ([([], [0, 1])], "split 0 has no training samples"),
        (iter(range(3)), "each a pair of the indices"),
        (iter(()), r"gives no splits\. .* once: pass a splitter"),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],
)
def test_bad_cv(cv, message):
    with pytest.raises(ValueError, match=message):
        compare_with_pca(IRIS, [1], cv=cv, estimator=LINEAR)


def test_groups_are_part_of_the_splits():
    with pytest.raises(ValueError, match=r"GroupKFold.* needs groups: pass its splits"):
        compare_with_pca(IRIS, [1], cv=GroupKFold(3))
    with pytest.raises(ValueError, match=r"y='age' has to be the values .* pass X\["):
        compare_with_pca(IRIS, [1], y="age")


def test_forms_of_splits():
    train, held_out = np.arange(50, 150), np.arange(50)
    mask = np.arange(150) >= 50
    whole = [(np.arange(75), np.arange(75, 150)), (np.arange(75, 150), np.arange(75))]
    pd = pytest.importorskip("pandas")
    for cv, splits in [
        ([(range(50, 150), range(50))], [(train, held_out)]),
        ([(train.tolist(), held_out.tolist())], [(train, held_out)]),
        (((a, b) for a, b in [(mask, ~mask)]), [(train, held_out)]),
        ([(pd.Index(train), pd.Series(held_out))], [(train, held_out)]),
        (np.array(whole), whole),
        (np.array(whole, dtype=object), whole),
        (dict.fromkeys([(range(75), range(75, 150))]).keys(), whole[:1]),
    ]:
        display = compare_with_pca(IRIS, [1], cv=cv, estimator=LINEAR)
        expected = naive_scores(PCA(1), IRIS, splits)
        assert scores_of(display, "PCA") == pytest.approx(expected)


# Forms of X


@pytest.mark.parametrize("container", [sp.csr_array, sp.csc_matrix, sp.coo_array])
def test_sparse_equals_dense(container):
    X = np.where(IRIS > 1.5, IRIS, 0.0)
    dense, sparse = (
        compare_with_pca(rows, [1, 3], cv=2, estimator=QUICK).results["test_score"]
        for rows in (X, container(X))
    )
    assert sparse == pytest.approx(dense, rel=1e-6)


def test_code_sizes_of_sparse_rows():
    column = sp.csr_array(IRIS[:, :1])
    for n_components in (None, [1]):
        with pytest.raises(ValueError, match=r"sparse.*toarray"):
            compare_with_pca(column, n_components, cv=2, estimator=LINEAR)
    X = sp.random(8, 30, density=0.5, format="csr", random_state=0)
    # ARPACK finds 3 components in a training split of 4 rows.
    assert code_sizes_of(compare_with_pca(X, cv=2, estimator=LINEAR)) == [1, 2, 3]
    with pytest.raises(
        ValueError, match=r"n_components=4 .* PCA has 1 to 3 components"
    ):
        compare_with_pca(X, [4], cv=2, estimator=LINEAR)


@pytest.mark.parametrize("library", ["pandas", "polars", None])
def test_frames_and_lists(library):
    given = IRIS.tolist()
    if library:
        columns = dict(zip("abcd", IRIS.T, strict=True))
        given = pytest.importorskip(library).DataFrame(columns)
    # Warnings are errors: feature names must arrive everywhere.
    estimator = make_pipeline(StandardScaler(), QUICK)
    expected, found = (
        compare_with_pca(X, [2], cv=2, estimator=estimator).results["test_score"]
        for X in (IRIS, given)
    )
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.arange(9.0), "Expected 2D array"),
        (np.empty((9, 0)), "0 feature"),
        (
            np.where(np.eye(150, 4), np.nan, IRIS),
            "TruncatedSVD does not accept missing",
        ),
        (np.where(np.eye(150, 4), np.inf, IRIS), "X contains infinity"),
        (IRIS[:3], "n_splits=5"),
    ],
)
def test_bad_rows(X, message):
    # A fit that fails is an error, not a score of NaN.
    with pytest.raises(ValueError, match=message):
        compare_with_pca(X, [1], estimator=LINEAR)


# Missing values


GAPS = np.random.default_rng(0).random(IRIS.shape) < 0.2
INCOMPLETE = np.where(GAPS, np.nan, IRIS)
KINDS = np.repeat(["a", "b", "c"], 50)


def naive_r2_of_observed(model, fill, X):
    restored = model.inverse_transform(model.transform(fill(X)))
    deviations = X - np.nanmean(X, axis=0)
    return 1 - np.nansum((X - restored) ** 2) / np.nansum(deviations**2)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array, "DataFrame"])
def test_pca_gets_means_in_place_of_missing_values(container):
    X = INCOMPLETE
    if container == "DataFrame":
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame(X, columns=list("abcd")).astype(object)
        given = frame.where(frame.notna(), pd.NA)
    else:
        given = container(X)
    splits = list(SHUFFLED_FOLDS(3).split(X))
    display = compare_with_pca(given, [1, 2], cv=splits, estimator=QUICK)
    for name in ("PCA", "autoencoder"):
        expected = []
        for n in (1, 2):
            for train, held_out in splits:
                mean = np.nanmean(X[train], axis=0)
                fill = partial(
                    lambda mean, rows: np.where(rows == rows, rows, mean), mean
                )
                model, how = PCA(n), fill
                if name == "autoencoder":
                    model, how = clone(QUICK).set_params(n_components=n), np.array
                model.fit(how(X[train]))
                expected.append(naive_r2_of_observed(model, how, X[held_out]))
        assert scores_of(display, name) == pytest.approx(expected, rel=1e-6)
    assert display.verdict.endswith("PCA saw means in place of missing values.")
    assert "means" not in compare_with_pca(IRIS, [1], cv=2, estimator=QUICK).verdict


def test_prediction_from_incomplete_data():
    how = {"y": KINDS, "cv": 3, "estimator": make_pipeline(StandardScaler(), QUICK)}
    display = compare_with_pca(INCOMPLETE, [2], **how)
    reference = display.results["prediction_score_all_features"]
    imputing = make_pipeline(
        StandardScaler(),
        SimpleImputer(),
        StandardScaler(),
        LogisticRegression(max_iter=1000),
    )
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    expected = cross_val_score(imputing, INCOMPLETE, KINDS, cv=folds)
    assert reference.tolist() == [*expected, *expected]
    # A given predictor has to take missing values.
    with pytest.raises(ValueError, match="LogisticRegression does not accept missing"):
        compare_with_pca(INCOMPLETE, [2], predictor=LogisticRegression(), **how)
    trees = HistGradientBoostingClassifier(max_iter=5, random_state=0)
    display = compare_with_pca(INCOMPLETE, [2], predictor=trees, **how)
    assert (display.results["prediction_score_all_features"] > 0.8).all()


def test_an_imputer_of_the_pipeline_imputes_for_both():
    imputing = make_pipeline(SimpleImputer(strategy="median"), QUICK)
    display = compare_with_pca(
        INCOMPLETE, [2], cv=2, estimator=imputing, return_estimator=True
    )
    assert "means" not in display.verdict
    assert type(display.results["fitted"][0][-1]) is PCA
    assert np.isfinite(display.results["test_score"]).all()


def test_a_feature_with_entries_in_one_fold_only():
    X = INCOMPLETE.copy()
    X[5:, 3] = np.nan
    splits = [(np.arange(75, 150), np.arange(75))]
    display = compare_with_pca(X, [1], cv=splits, estimator=QUICK)
    assert np.isfinite(display.results["test_score"]).all()


# Errors


@pytest.mark.parametrize(
    ("n_components", "message"),
    [
        ([], r"n_components=\[\] must be a whole number or several"),
        (np.array([], dtype=int), "must be a whole number or several"),
        ([1, 2.0], r"n_components=\[1, 2\.0\] must be a whole number"),
        (0.5, r"n_components=0\.5 must be a whole number"),
        (True, "n_components=True must be a whole number"),
        ("mle", "n_components='mle' must be a whole number"),
        ([None, 1], r"n_components=\[None, 1\] must be a whole number"),
        ([0, 2], "n_components=0 is not possible: .*PCA has 1 to 4 components"),
        ([2, 5], "n_components=5 is not possible: with 4 features, and 75 train"),
        (-1, "n_components=-1 is not possible"),
    ],
)
def test_bad_code_sizes(n_components, message):
    with pytest.raises(ValueError, match=message):
        compare_with_pca(IRIS, n_components, cv=2, estimator=LINEAR)


def test_code_sizes_that_the_smallest_training_split_does_not_allow():
    X = np.random.default_rng(0).normal(size=(9, 12))
    cv = TimeSeriesSplit(2)  # 3 rows to fit on, then 6
    display = compare_with_pca(X, [3], cv=cv, estimator=PCA())
    assert code_sizes_of(display) == [3]
    with pytest.raises(
        ValueError, match=r"n_components=4 .*12 features, and 3 training"
    ):
        compare_with_pca(X, [3, 4], cv=cv, estimator=PCA())


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (MinMaxScaler(), r"estimator=MinMaxScaler\(\) has no n_components"),
        (make_pipeline(QUICK, MinMaxScaler()), "has no n_components .* last step"),
        (make_pipeline(MinMaxScaler(), "passthrough"), "has no n_components"),
        (
            FactorAnalysis(),
            "no inverse_transform, because of its step .*FactorAnalysis",
        ),
        (AutoencoderTransformer, "instance of scikit-learn estimator instead of a cl"),
    ],
    ids=["no code", "not last", "passthrough", "no way back", "class"],
)
def test_bad_estimators(estimator, message):
    with pytest.raises(TypeError, match=message):
        compare_with_pca(IRIS, [1], cv=2, estimator=estimator)


def test_ctrl_c_ends_it():
    fits = []

    class Interrupted(TruncatedSVD):
        def fit_transform(self, X, y=None):
            fits.append(X)
            warn_of_interrupt()
            return super().fit_transform(X)

    with pytest.raises(KeyboardInterrupt):
        compare_with_pca(IRIS, [1, 2], cv=3, estimator=Interrupted())
    assert len(fits) == 1


# The table


def test_table():
    display = PCAComparisonDisplay(
        results=table(
            scores=[[[0.1, 0.3], [-0.0001, 0.0]], [[0.4, 0.7], [-0.2, -0.4]]],
            code_sizes=[2, 10],
            fit_times=[[[0.5, 1.5], [2, 2]], [[8, 9], [100, 1000]]],
        )
    )
    lines = str(display).splitlines()
    assert lines[:5] == [
        "                  R², held out                           fit seconds",
        "code size     PCA  autoencoder             gain     PCA  autoencoder",
        "        2   0.200        0.550   +0.350 ± 0.050   1.000        8.500",
        "       10   0.000       -0.300   -0.300 ± 0.100   2.000      550.000",
        "",
    ]
    assert " ".join(lines[5:]) == display.verdict
    assert max(map(len, lines)) < 80
    # It is not misled by the first fit, which compiles.
    times = np.full((2, 1, 3), 0.1)
    times[1, 0, 0] = 8.0
    display = PCAComparisonDisplay(results=table(np.zeros((2, 1, 3)), [1], times))
    assert repr(display).splitlines()[2].split()[-2:] == ["0.100", "0.100"]


# Prediction from the code


SPECIES = load_iris().target
WIDTH = IRIS[:, 3] + np.arange(150) % 7 / 70  # a number


def naive_predictions(pipeline, predictor, X, y, splits):
    """Return scores of a predictor that sees codes of held-out rows."""
    scores = []
    for train, test in splits:
        fitted = clone(pipeline).fit(X[train], y[train])
        predictor = clone(predictor).fit(fitted.transform(X[train]), y[train])
        scores.append(predictor.score(fitted.transform(X[test]), y[test]))
    return scores


CLASSIFIER = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
REGRESSOR = make_pipeline(StandardScaler(), Ridge())


@pytest.mark.parametrize(
    ("y", "given", "predictor", "folds", "name"),
    [
        (SPECIES, None, CLASSIFIER, StratifiedKFold, "accuracy"),
        (SPECIES.astype(str), None, CLASSIFIER, StratifiedKFold, "accuracy"),
        (SPECIES > 0, None, CLASSIFIER, StratifiedKFold, "accuracy"),
        (SPECIES[:, np.newaxis] * 1.0, None, CLASSIFIER, StratifiedKFold, "accuracy"),
        (WIDTH, None, REGRESSOR, KFold, "R² of y"),
        # Whole numbers, of which some are rare.
        (np.round(WIDTH * 50), None, REGRESSOR, KFold, "R² of y"),
        (np.round(WIDTH * 50).astype(int), None, REGRESSOR, KFold, "R² of y"),
        (np.column_stack([WIDTH, -WIDTH]), None, REGRESSOR, KFold, "R² of y"),
        (SPECIES, Ridge(), Ridge(), KFold, "score"),
        (SPECIES, NearestCentroid(), NearestCentroid(), StratifiedKFold, "score"),
    ],
    ids=lambda value: "y" if isinstance(value, np.ndarray) else type(value).__name__,
)
def test_predictions_are_those_of_separate_fits(y, given, predictor, folds, name):
    # A step that sees y, of the training rows only.
    picked = SelectKBest(k=3) if folds is StratifiedKFold else StandardScaler()
    display = compare_with_pca(
        IRIS, [1, 2], y=y, predictor=given, cv=3, estimator=make_pipeline(picked, QUICK)
    )
    target = y.ravel() if y.shape[1:] == (1,) else y
    splits = list(folds(3, shuffle=True, random_state=0).split(IRIS, target))
    arguments = predictor, IRIS, target, splits
    for reducer_name, reducer in {"PCA": PCA(), "autoencoder": QUICK}.items():
        is_this = display.results["estimator"] == reducer_name
        for i, n in enumerate([1, 2]):
            reducer = clone(reducer).set_params(n_components=n)
            expected = naive_predictions(make_pipeline(picked, reducer), *arguments)
            found = display.results["prediction_score"][is_this][3 * i : 3 * i + 3]
            assert found == pytest.approx(expected, abs=1e-9)
    expected = naive_predictions(make_pipeline(picked), *arguments)
    reference = display.results["prediction_score_all_features"]
    assert reference == pytest.approx(np.tile(expected, 4), abs=1e-9)
    assert display.score_name == name
    assert f"{name}, held out" in repr(display)


def test_r2_does_not_depend_on_what_is_predicted():
    splits = list(KFold(3).split(IRIS))[::-1]
    compare = partial(compare_with_pca, IRIS, [1], cv=splits, estimator=QUICK)
    scores, given = compare().results, compare(y=WIDTH).results
    assert np.array_equal(scores["test_score"], given["test_score"])
    name = "prediction_score"
    assert set(given) - set(scores) == {name, f"{name}_all_features"}


@pytest.mark.parametrize("form", ["pandas", "polars", "list", "categorical", "sparse"])
def test_forms_of_targets(form):
    names = load_iris().target_names[SPECIES]
    X, y = IRIS if form != "sparse" else sp.csr_array(IRIS), names.tolist()
    if form == "categorical":
        y = pytest.importorskip("pandas").Series(y, dtype="category")
    elif form in ("pandas", "polars"):
        y = pytest.importorskip(form).Series(y)
    compare = partial(compare_with_pca, cv=2, estimator=PCA())
    expected = compare(IRIS, [2], y=SPECIES).results
    found = compare(X, [2], y=y).results
    if form == "sparse":  # without centring
        assert np.all(found["prediction_score_all_features"] > 0.8)
    else:
        for column in ("prediction_score", "prediction_score_all_features"):
            assert np.array_equal(found[column], expected[column])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"predictor": Ridge()}, ValueError, "predictor without y: pass y"),
        ({"y": SPECIES[:9]}, ValueError, "inconsistent numbers of samples"),
        ({"y": np.full(150, np.nan)}, ValueError, "y contains NaN"),
        ({"y": ["a", None] * 75}, ValueError, "y has missing values"),
        ({"y": np.array(["a", 1.5] * 75, object)}, ValueError, "several types"),
        ({"y": np.ones(150)}, ValueError, "the same value, .*, for all samples"),
        ({"y": SPECIES, "predictor": "ridge"}, TypeError, "'ridge' must be an estim"),
        ({"y": SPECIES, "predictor": Ridge}, TypeError, "must be an estimator with"),
        ({"y": SPECIES, "predictor": StandardScaler()}, TypeError, "fit and score"),
        (
            {"y": SPECIES, "cv": [(range(50), range(50, 150))]},
            ValueError,
            "training samples of split 0 are all of one class of y",
        ),
    ],
)
def test_targets_and_predictors_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        compare_with_pca(IRIS, [1], **{"cv": 2, "estimator": LINEAR, **arguments})


def test_sparse_columns():
    pd = pytest.importorskip("pandas")
    X = np.where(IRIS > 1.5, IRIS, 0.0)
    frame = pd.DataFrame(X, columns=list("abcd")).astype(pd.SparseDtype(float, 0.0))
    found, expected = (
        compare_with_pca(rows, cv=2, y=SPECIES, estimator=LINEAR).results
        for rows in (frame, sp.csr_array(X))
    )
    assert found["test_score"] == pytest.approx(expected["test_score"])
    with pytest.raises(ValueError, match="1 to 3 components"):
        compare_with_pca(frame, [4], cv=2, estimator=LINEAR)


def test_fitted_estimators_are_kept_on_request():
    display = compare_with_pca(
        IRIS, [1, 2], y=SPECIES, cv=2, estimator=QUICK, return_estimator=True
    )
    splits = list(StratifiedKFold(2, shuffle=True, random_state=0).split(IRIS, SPECIES))
    results = display.results
    columns = ("estimator", "n_components", "split", "test_score", "fitted")
    for name, n, split, score, fitted in zip(
        *(results[column] for column in columns), strict=True
    ):
        assert isinstance(fitted[-1], PCA) == (name == "PCA")
        assert fitted[-1].n_components == n
        assert naive_r2(fitted, IRIS[splits[split][1]]) == pytest.approx(score)
    assert "fitted" not in compare_with_pca(IRIS, [1], cv=2, estimator=LINEAR).results


def test_verbose(capsys):
    compare = partial(compare_with_pca, IRIS, [1, 2], cv=2, estimator=LINEAR)
    compare(y=SPECIES)
    assert capsys.readouterr().out == ""
    compare(y=SPECIES, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    pattern = (
        r"\[compare_with_pca\] 5/5  autoencoder  code size 2 .*"
        r"R² 0\.\d{3}  accuracy 0\.\d{3}  \d+\.\d s"
    )
    assert re.fullmatch(pattern, lines[-1])
    compare(verbose=1)
    assert len(capsys.readouterr().out.splitlines()) == 4


# The verdict


def with_predictions(results, scores, reference):
    """Return results with prediction scores, of the shape of those of R²."""
    reference = np.broadcast_to(reference, np.shape(scores))
    return results | {
        "prediction_score": np.ravel(scores),
        "prediction_score_all_features": np.ravel(reference),
    }


def verdict_of(gains, code_sizes, predictions=None, reference=(0.9, 0.9)):
    """Return the verdict for gains, of shape (n_code_sizes, n_splits), over 0.5."""
    pca = np.full(np.shape(gains), 0.5)
    results = table([pca, pca + gains], code_sizes)
    if predictions is not None:
        results = with_predictions(results, [pca, pca + predictions], reference)
    return PCAComparisonDisplay(results=results, score_name="accuracy").verdict


TWO = "(±: standard deviation over the 2 splits.)"


MORE = "The autoencoder reconstructs more of the variance"
LESS = MORE.replace("more", "less")
NEITHER = "Neither reconstructs clearly more of the variance"


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        (
            [[0.1, 0.12], [0.2, 0.22]],
            f"{MORE} than PCA at every code size: up to 0.210 ± 0.010, with 2 "
            "components.",
        ),
        (
            [[0.1, 0.12], [-0.1, 0.2]],
            f"{MORE} than PCA with 1 component: 0.110 ± 0.010. {NEITHER} with 2 "
            "components: the autoencoder is ahead by 0.050 ± 0.150.",
        ),
        (
            [[-0.1, -0.12], [0.2, 0.2]],
            f"{MORE} than PCA with 2 components: 0.200 ± 0.000. {LESS} than PCA with 1 "
            "component: 0.110 ± 0.010.",
        ),
        (
            [[0.001, -0.001], [1e-9, 1e-9]],
            f"{MORE.replace('more', 'as much')} as PCA at every code size.",
        ),
        (
            [[0.1, -0.01], [-0.1, -0.31]],  # less than twice the deviation
            f"{NEITHER} at every code size: PCA is ahead by up to 0.205 ± 0.105, "
            "with 2 components.",
        ),
    ],
)
def test_verdict(gains, expected):
    assert verdict_of(gains, [1, 2]) == f"{expected} {TWO}"


def test_verdict_of_one_code_size_of_many_and_of_one_split():
    assert "with 7 components: 0.100 ± 0.000. (" in verdict_of([[0.1, 0.1]], [7])
    many = verdict_of([[0.1, 0.1]] * 6 + [[0, 0]], range(1, 8))
    assert "than PCA at 6 of 7 code sizes: up to 0.100 ± 0.000, with 1 comp" in many
    one = verdict_of([[0.1], [0.0]], [1, 2])
    assert one.endswith(
        "as much of the variance as PCA with 2 components. (There is one split only, "
        "which does not tell how much this varies.)"
    )


@pytest.mark.parametrize(
    ("gains", "expected", "best"),
    [
        (
            [[0.2, 0.22], [-0.1, -0.12]],
            "The autoencoder's code predicts y better than PCA's with 1 component: by "
            "0.210 ± 0.010 in accuracy. PCA's code predicts y better than the "
            "autoencoder's with 2 components: by 0.110 ± 0.010 in accuracy.",
            "the autoencoder's with 1 component, reaches 0.710 ± 0.010",
        ),
        (
            [[1e-9, 1e-9], [0, 0]],
            "PCA's code predicts y as well as the autoencoder's at every code size.",
            "PCA's with 1 component, reaches 0.500 ± 0.000",
        ),
        (
            [[0.0, 0.02], [0.1, -0.2]],
            "Neither code predicts y clearly better at every code size: in accuracy "
            "that of PCA is ahead by up to 0.050 ± 0.150, with 2 components.",
            "the autoencoder's with 1 component, reaches 0.510 ± 0.010",
        ),
    ],
)
def test_verdict_on_predictions(gains, expected, best):
    verdict = verdict_of([[0, 0], [0, 0]], [1, 2], np.array(gains))
    assert verdict.partition("at every code size. ")[2] == (
        f"{expected} Without reduction the accuracy is 0.900 ± 0.000; the best code, "
        f"{best}. {TWO}"
    )


def test_table_with_predictions():
    results = table([[[0.1, 0.3]], [[0.4, 0.7]]], [2])
    scores = [[[0.9, 0.8]], [[0.7, 0.8]]]
    display = PCAComparisonDisplay(
        results=with_predictions(results, scores, [0.95, 0.97]), score_name="accuracy"
    )
    lines = repr(display).splitlines()
    assert lines[3:8] == [
        "",
        "            accuracy, held out",
        "code size     PCA  autoencoder             gain",
        "        2   0.850        0.750   -0.100 ± 0.100",
        "all features: 0.960 ± 0.010",
    ]
    assert max(map(len, lines)) < 80


@pytest.mark.parametrize("has_predictions", [False, True])
def test_table_in_notebooks(has_predictions):
    results = table(SCORES, [1, 2, 3])
    if has_predictions:
        results = with_predictions(results, SCORES, 0.9)
    display = PCAComparisonDisplay(results=results, score_name="<b>&'")
    text = display._repr_html_()
    assert "<b>" not in text
    # The table is well-formed, and each of its lines is as wide.
    root = ElementTree.fromstring(f"<div>{text}</div>")
    widths = {
        sum(int(cell.get("colspan", 1)) for cell in row) for row in root.iter("tr")
    }
    assert widths == {9 if has_predictions else 6}
    assert root.find("p").text == display.verdict
    cells = [cell.text for cell in root.iter("td")]
    assert cells[:3] == ["0.150", "0.300", "+0.150 ± 0.050"]
    titles = [cell.text for cell in root.iter("th")]
    assert ("<b>&', held out" in titles) == has_predictions


# The picture


def color_of(artist):
    """Return red, green and blue of a line or a band."""
    from matplotlib.collections import Collection
    from matplotlib.colors import to_rgb

    if isinstance(artist, Collection):
        return tuple(artist.get_facecolor()[0, :3])
    return to_rgb(artist.get_color())


def test_plot_draws_means_and_deviations(pyplot):
    display = PCAComparisonDisplay(results=table(SCORES, [1, 2, 3])).plot()
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["PCA", "autoencoder"]
    assert "R²" in display.ax_.get_ylabel()
    assert "ode size" in display.ax_.get_xlabel()
    for line, band, scores in zip(
        display.lines_, display.fill_between_, SCORES, strict=True
    ):
        mean, deviation = scores.mean(axis=1), scores.std(axis=1)
        assert line.get_xdata().tolist() == [1, 2, 3]
        assert line.get_ydata() == pytest.approx(mean)
        outline = band.get_paths()[0].vertices
        for x, low, high in zip(
            [1, 2, 3], mean - deviation, mean + deviation, strict=True
        ):
            edge = outline[outline[:, 0] == x, 1]
            assert (edge.min(), edge.max()) == pytest.approx((low, high))
        assert color_of(band) == color_of(line)
    assert display.lines_[0].get_color() != display.lines_[1].get_color()


def test_predictions_have_a_panel(pyplot):
    results = with_predictions(table(SCORES, [1, 2, 3]), 1 - SCORES, [0.8, 1.0])
    display = PCAComparisonDisplay(results=results, score_name="accuracy")
    display.plot(line_kw={"linewidth": 3})
    assert display.figure_.axes == [display.ax_, display.prediction_ax_]
    assert "accuracy" in display.prediction_ax_.get_ylabel()
    texts = display.prediction_ax_.get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["PCA", "autoencoder", "all features"]
    *lines, reference = display.prediction_lines_
    for line, scores, other in zip(lines, 1 - SCORES, display.lines_, strict=True):
        assert line.get_ydata() == pytest.approx(scores.mean(axis=1))
        assert line.get_linewidth() == 3
        assert line.get_color() == other.get_color()
    assert set(reference.get_ydata()) == {0.9}
    assert len(display.prediction_fill_between_) == 3
    _, axes = pyplot.subplots(2, 1)
    display.plot(axes)
    assert [display.ax_, display.prediction_ax_] == list(axes)
    display.plot(axes[0])
    assert display.ax_ is axes[0]
    assert display.prediction_ax_ is None
    assert display.prediction_lines_ == []
    with pytest.raises(ValueError, match="ax has 3 axes, but there are two panels"):
        display.plot(pyplot.subplots(3)[1])


def test_labels_fit(pyplot):
    results = with_predictions(table(SCORES, [1, 2, 3]), SCORES, 0.9)
    figure, axes = pyplot.subplots(1, 2, figsize=(4, 3), layout="constrained")
    PCAComparisonDisplay(results=results, score_name="accuracy").plot(axes)
    figure.draw_without_rendering()
    for ax in axes:
        box = ax.yaxis.label.get_window_extent()
        assert box.x0 >= 0
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height


def test_plot_with_given_styles(pyplot):
    ax = pyplot.figure().add_subplot()
    ax.plot([1, 3], [0, 0])  # takes the first colour
    display = PCAComparisonDisplay(results=table(SCORES, [1, 2, 3]))
    display.plot(ax, line_kw={"linestyle": "--"}, fill_between_kw={"alpha": 0.5})
    assert [line.get_linestyle() for line in display.lines_] == ["--", "--"]
    assert [band.get_alpha() for band in display.fill_between_] == [0.5, 0.5]
    for line, band in zip(display.lines_, display.fill_between_, strict=True):
        assert color_of(band) == color_of(line)


@pytest.mark.parametrize(
    ("code_sizes", "scale"),
    [
        ([5], "linear"),
        ([1, 2, 3, 5, 10], "linear"),
        ([2, 4, 8, 16, 32, 64], "log"),
        ([*range(1, 31)], "linear"),
    ],
)
def test_ticks_are_at_the_code_sizes_unless_there_are_many(pyplot, code_sizes, scale):
    scores = np.random.default_rng(0).random((2, len(code_sizes), 3))
    ax = PCAComparisonDisplay(results=table(scores, code_sizes)).plot().ax_
    ax.figure.draw_without_rendering()
    assert ax.get_xscale() == scale
    labels = [tick.get_text() for tick in ax.get_xticklabels()]
    if len(code_sizes) <= 10:
        assert labels == list(map(str, code_sizes))
        assert len(ax.get_xticks(minor=True)) == 0
    else:
        assert len(labels) < 15
