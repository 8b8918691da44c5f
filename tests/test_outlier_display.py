"""OutlierDisplay: what it draws of a detector, and of Pipelines that end with one."""

import itertools

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.inspection import OutlierDisplay

QUICK = AutoencoderTransformer(2, hidden_layer_sizes=(8,), max_iter=5)
X = np.random.default_rng(0).standard_normal((150, 4))
X[[3, 70], [2, 0]] = 9, 12


@pytest.fixture(scope="module")
def detector():
    return AutoencoderOutlierDetector(QUICK, random_state=0).fit(X)


def widths(bars):
    return [bar.get_width() for bar in bars]


def texts_of(ax):
    return [text.get_text() for text in ax.texts]


def test_what_is_drawn(pyplot, detector):
    display = OutlierDisplay.from_estimator(
        detector, X, n_samples=2, n_features=3, color="gray"
    )
    scores = -detector.score_samples(X)
    counts = [patch.get_height() for patch in display.patches_]
    np.testing.assert_array_equal(counts, np.histogram(scores, display.bins_)[0])
    assert sum(counts) == 150
    assert display.line_.get_xdata() == [-detector.offset_] * 2
    n_above = (detector.predict(X) == -1).sum()
    (legend,) = display.ax_.get_legend().get_texts()
    assert legend.get_text() == f"threshold: {n_above} of 150 above"
    np.testing.assert_array_equal(display.worst, np.argsort(-scores)[:2])
    assert set(display.worst) == {3, 70}
    contributions = detector.feature_scores(X[display.worst])
    for bars, row in zip(display.bars_, contributions, strict=True):
        assert widths(bars) == sorted(row / row.sum(), reverse=True)[:3]
    labels = [text.get_text() for text in display.feature_ax_.get_yticklabels()]
    assert labels[0] == {3: "x2", 70: "x0"}[display.worst[0]]
    assert texts_of(display.feature_ax_)[0].startswith(f" sample {display.worst[0]},")
    assert display.figure_ is display.ax_.figure is display.feature_ax_.figure


def test_names_of_frames_in_pipelines_and_searches(pyplot):
    pd = pytest.importorskip("pandas")
    columns = ["height", "weight", "a name that is far too long to be drawn", "ü"]
    frame = pd.DataFrame(X, columns=columns, index=[f"row {i}" for i in range(150)])
    pipeline = make_pipeline(
        StandardScaler(), AutoencoderOutlierDetector(QUICK, random_state=0)
    )
    grid = {"autoencoderoutlierdetector__contamination": [0.1]}
    search = GridSearchCV(pipeline, grid, scoring=lambda *_: 0.0, cv=2).fit(frame)
    drawn = [
        OutlierDisplay.from_estimator(estimator, frame)
        for estimator in (pipeline.fit(frame), search)
    ]
    for display in drawn:
        labels = [text.get_text() for text in display.feature_ax_.get_yticklabels()]
        assert "weight" in labels
        assert "a name that is far too …" in labels
        titles = texts_of(display.feature_ax_)
        assert {title.split(",")[0] for title in titles[:2]} == {
            " sample row 3",
            " sample row 70",
        }
    reduced = make_pipeline(PCA(2), AutoencoderOutlierDetector(QUICK)).fit(X)
    display = OutlierDisplay.from_estimator(reduced, X, n_samples=1)
    labels = [text.get_text() for text in display.feature_ax_.get_yticklabels()]
    assert sorted(labels) == ["pca0", "pca1"]


def test_levels_of_categories_are_named(pyplot):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["city"] = np.where(X[:, 0] > 0, "Rome", "Oslo")
    frame.loc[9, ["city", "b"]] = "Bern", -12
    frame.loc[3, "city"] = None
    detector = AutoencoderOutlierDetector(QUICK, random_state=0).fit(frame)
    display = OutlierDisplay.from_estimator(detector, frame, n_samples=150)
    labels = [text.get_text() for text in display.feature_ax_.get_yticklabels()]
    assert set(labels) == {*"abcd", "city", "city=Rome", "city=Oslo", "city=Bern"}
    place = 5 * list(display.worst).index(9)
    assert "city=Bern" in labels[place : place + 5]


def test_given_axes(pyplot, detector):
    _, axes = pyplot.subplots(2)
    display = OutlierDisplay.from_estimator(detector, X, ax=axes)
    assert (display.ax_, display.feature_ax_) == tuple(axes)
    alone = display.plot(pyplot.subplots()[1])
    assert alone.feature_ax_ is None
    assert alone.bars_ == []
    with pytest.raises(ValueError, match="ax has 3 axes"):
        display.plot(pyplot.subplots(3)[1])


def test_equal_scores_and_zeros(pyplot):
    given = {
        "worst": np.array([0]),
        "contributions": np.zeros((1, 2)),
        "feature_names": np.array(["a", "b"]),
    }
    for scores in ([2.0, 2.0], [0.0, 3.0], [0.0, 0.0]):
        display = OutlierDisplay(scores=np.array(scores), threshold=1.0, **given)
        assert sum(patch.get_height() for patch in display.plot().patches_) == 2


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, "n_samples=0 must be a whole number"),
        ({"n_features": 1.5}, ValueError, r"n_features=1\.5 must be a whole number"),
        ({"estimator": PCA(2).fit(X)}, TypeError, "estimator ends with a PCA"),
        ({"estimator": AutoencoderOutlierDetector()}, NotFittedError, "not fitted"),
        ({"estimator": 5}, TypeError, "not a fitted estimator"),
        ({"ax": 5}, TypeError, "ax=5 is no matplotlib Axes"),
    ],
)
def test_errors(pyplot, detector, parameters, error, message):
    with pytest.raises(error, match=message):
        OutlierDisplay.from_estimator(**{"estimator": detector, "X": X, **parameters})


@pytest.mark.parametrize("farthest", [0.5, 5.0, 1e6])
def test_labels_of_scores_do_not_overlap(pyplot, farthest):
    """Scores differ by a part of a power of ten, by two, or by many."""
    scores = np.append(np.linspace(0.16, 0.4, 99), farthest)
    display = OutlierDisplay(
        scores=scores,
        threshold=0.45,
        worst=np.array([99]),
        contributions=np.ones((1, 2)),
        feature_names=np.array(["a", "b"]),
    ).plot()
    display.figure_.draw_without_rendering()
    axis = display.ax_.xaxis
    labels = [*axis.get_majorticklabels(), *axis.get_minorticklabels()]
    low, high = display.ax_.get_xlim()
    shown = sorted(
        (
            label.get_window_extent()
            for label in labels
            if label.get_text() and low <= label.get_position()[0] <= high
        ),
        key=lambda box: box.x0,
    )
    assert len(shown) >= 2
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(shown))
