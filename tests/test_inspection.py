"""Tests of compare_with_pca against loops written out, and of what it draws."""

import sys
import warnings
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_iris, make_s_curve
from sklearn.decomposition import PCA, FactorAnalysis, TruncatedSVD
from sklearn.feature_selection import VarianceThreshold
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneOut,
    ShuffleSplit,
    TimeSeriesSplit,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae import AutoencoderTransformer
from skae._base import TrainingInterruptedWarning
from skae.inspection import PCAComparisonDisplay, _comparison, compare_with_pca

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


def naive_scores(estimator, X, splits):
    """Return R² of held-out rows, split by split."""
    scores = []
    for train, test in splits:
        fitted = clone(estimator).fit(X[train])
        restored = fitted.inverse_transform(fitted.transform(X[test]))
        variation = ((X[test] - X[test].mean(axis=0)) ** 2).sum()
        scores.append(1 - ((X[test] - restored) ** 2).sum() / variation)
    return scores


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
def test_scores_are_those_of_separate_fits(scaler):
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


def test_default_autoencoder_and_repeated_calls():
    X, _ = make_s_curve(100, random_state=0)
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
    with pytest.raises(ValueError, match=f"holds out 1 of {n_rows} rows"):
        compare_with_pca(IRIS[:n_rows], [1], cv=cv, estimator=LINEAR)


def test_code_sizes_are_those_of_the_last_step():
    X = np.hstack([IRIS[:, :3], np.zeros((150, 5))])
    narrowed = make_pipeline(VarianceThreshold(), LINEAR)
    assert code_sizes_of(compare_with_pca(X, cv=2, estimator=narrowed)) == [1, 2]
    with pytest.raises(ValueError, match=r"with 3 features.*1 to 3 components"):
        compare_with_pca(X, [4], cv=2, estimator=narrowed)


def test_a_sparse_column_has_no_pca():
    X = sp.csr_array(IRIS[:, :1])
    for n_components in (None, [1]):
        with pytest.raises(ValueError, match=r"sparse.*toarray"):
            compare_with_pca(X, n_components, cv=2, estimator=LINEAR)


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
        ((60, 12), [1, 2, 3, 5, 10]),
        ((60, 10), [1, 2, 3, 5]),
        ((60, 3), [1, 2]),
        ((60, 1), [1]),
        ((6, 12), [1, 2, 3]),  # 3 rows in a training split
    ],
)
def test_default_code_sizes(shape, expected):
    X = np.random.default_rng(0).normal(size=shape)
    display = compare_with_pca(X, cv=2, estimator=PCA())
    assert code_sizes_of(display) == expected


def test_code_sizes_may_be_one_number_or_repeated():
    compare = partial(compare_with_pca, IRIS, cv=2, estimator=LINEAR)
    assert code_sizes_of(compare(2)) == [2]
    display = compare(np.array([3, 1, 3], dtype=np.uint8))
    assert display.results["n_components"].tolist() == [1, 1, 3, 3] * 2


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


def test_a_generator_that_was_used_up():
    used = KFold(3).split(IRIS)
    list(used)
    with pytest.raises(ValueError, match=r"gives no splits\. .* once: pass a splitter"):
        compare_with_pca(IRIS, [1], cv=used, estimator=LINEAR)


@pytest.mark.parametrize("cv", [1, 0, "five", 2.5])
def test_bad_cv(cv):
    with pytest.raises(ValueError, match=str(cv)):
        compare_with_pca(IRIS, [1], cv=cv, estimator=LINEAR)


# Forms of X


@pytest.mark.parametrize("container", [sp.csr_array, sp.csc_matrix, sp.coo_array])
def test_sparse_equals_dense(container):
    X = np.where(IRIS > 1.5, IRIS, 0.0)
    dense, sparse = (
        compare_with_pca(rows, [1, 3], cv=2, estimator=QUICK).results["test_score"]
        for rows in (X, container(X))
    )
    assert sparse == pytest.approx(dense, rel=1e-6)


def test_default_code_sizes_of_sparse_rows():
    X = sp.random(8, 30, density=0.5, format="csr", random_state=0)
    # ARPACK finds 3 components in a training split of 4 rows.
    assert code_sizes_of(compare_with_pca(X, cv=2, estimator=LINEAR)) == [1, 2, 3]
    with pytest.raises(
        ValueError, match=r"n_components=4 .* PCA has 1 to 3 components"
    ):
        compare_with_pca(X, [4], cv=2, estimator=LINEAR)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library):
    frames = pytest.importorskip(library)
    names = ["a", "b", "c", "d"]
    frame = frames.DataFrame(dict(zip(names, IRIS.T, strict=True)))
    # Warnings are errors: feature names must arrive everywhere.
    estimator = make_pipeline(StandardScaler(), QUICK)
    expected, framed = (
        compare_with_pca(X, [2], cv=2, estimator=estimator).results["test_score"]
        for X in (IRIS, frame)
    )
    assert framed == pytest.approx(expected)


def test_lists():
    expected, listed = (
        compare_with_pca(X, cv=2, estimator=LINEAR).results["test_score"]
        for X in (IRIS, IRIS.tolist())
    )
    assert np.array_equal(listed, expected)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.arange(9.0), "Expected 2D array"),
        (np.empty((9, 0)), "0 feature"),
        (np.where(np.eye(10), np.nan, 1.0), "NaN"),
        (IRIS[:3], "n_splits=5"),
    ],
)
def test_bad_rows(X, message):
    # A fit that fails is an error, not a score of NaN.
    with pytest.raises(ValueError, match=message):
        compare_with_pca(X, [1], estimator=LINEAR)


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
        ([2, 5], "n_components=5 is not possible: with 4 features, and 75 rows"),
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
    with pytest.raises(ValueError, match=r"n_components=4 .*12 features, and 3 rows"):
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
            warnings.warn("interrupted", TrainingInterruptedWarning, stacklevel=2)
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
    assert str(display).splitlines() == [
        "                  R², held out                           fit seconds",
        "code size     PCA  autoencoder             gain     PCA  autoencoder",
        "        2   0.200        0.550   +0.350 ± 0.050   1.000        8.500",
        "       10   0.000       -0.300   -0.300 ± 0.100   2.000      550.000",
    ]


def test_table_is_not_misled_by_the_first_fit():
    scores = np.zeros((2, 1, 3))
    times = scores + 0.1
    times[1, 0, 0] = 8.0  # it compiled
    display = PCAComparisonDisplay(results=table(scores, [1], times))
    assert repr(display).split()[-2:] == ["0.100", "0.100"]


# The picture


SCORES = np.array(
    [[[0.1, 0.2], [0.3, 0.5], [0.6, 0.6]], [[0.2, 0.4], [0.5, 0.7], [0.6, 0.8]]]
)


def color_of(artist):
    """Return red, green and blue of a line or a band."""
    from matplotlib.collections import Collection
    from matplotlib.colors import to_rgb

    if isinstance(artist, Collection):
        return tuple(artist.get_facecolor()[0, :3])
    return to_rgb(artist.get_color())


def test_plot_draws_means_and_deviations(pyplot):
    display = PCAComparisonDisplay(results=table(SCORES, [1, 2, 3]))
    assert display.plot() is display
    assert display.figure_ is display.ax_.figure
    assert display.figure_ is pyplot.gcf()
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


def test_plot_on_given_axes_and_with_given_styles(pyplot):
    figure, axes = pyplot.subplots(1, 2)
    axes[1].plot([1, 3], [0, 0])  # takes the first colour
    display = PCAComparisonDisplay(results=table(SCORES, [1, 2, 3]))
    display.plot(axes[1], line_kw={"linestyle": "--"}, fill_between_kw={"alpha": 0.5})
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    assert [line.get_linestyle() for line in display.lines_] == ["--", "--"]
    assert [band.get_alpha() for band in display.fill_between_] == [0.5, 0.5]
    for line, band in zip(display.lines_, display.fill_between_, strict=True):
        assert color_of(band) == color_of(line)
    assert not axes[0].lines
    assert pyplot.get_fignums() == [figure.number]


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


def test_plot_of_a_comparison(pyplot):
    display = compare_with_pca(IRIS, [1, 2], cv=2, estimator=QUICK).plot()
    means = scores_of(display, "autoencoder").reshape(2, 2).mean(axis=1)
    assert display.lines_[1].get_ydata() == pytest.approx(means)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    display = PCAComparisonDisplay(results=table(SCORES, [1, 2, 3]))
    with pytest.raises(ImportError, match=r"Display\.plot needs .*skae\[plot\]"):
        display.plot()
