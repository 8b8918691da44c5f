"""Tests of the Displays by what they draw, against loops written out."""

import itertools
import sys
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, PCA, FactorAnalysis, TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae import AutoencoderTransformer
from skae.inspection import (
    ComponentsDisplay,
    LatentSpaceDisplay,
    LatentWalkDisplay,
    LossCurveDisplay,
    PCAComparisonDisplay,
    ReconstructionDisplay,
    ReconstructionErrorDisplay,
)

X = load_digits().data[:120]
Y = load_digits().target[:120]
SHAPE = (8, 8)
METRICS = {"squared_error": np.square, "absolute_error": np.abs}


def quick(**parameters):
    """Return an autoencoder that trains for some epochs, far from PCA."""
    defaults = {
        "n_components": 3,
        "hidden_layer_sizes": (30,),
        "init": "random",
        "max_iter": 4,
        "learning_rate": "cosine",  # ends as planned, without a warning
        "random_state": 0,
    }
    return AutoencoderTransformer(**{**defaults, **parameters})


@pytest.fixture(scope="module")
def autoencoder():
    return quick().fit(X)


@pytest.fixture(scope="module")
def pca():
    return PCA(5).fit(X)


def tiles(picture, n_columns, shape=SHAPE, gap=1):
    """Cut a mosaic into its images, row by row; what is between them is empty."""
    picture = np.ma.filled(picture, np.nan)
    height, width = shape
    n_rows = (picture.shape[0] + gap) // (height + gap)
    assert picture.shape == (
        n_rows * height + (n_rows - 1) * gap,
        n_columns * width + (n_columns - 1) * gap,
    )
    images, rest = [], picture.copy()
    for row in range(n_rows):
        for column in range(n_columns):
            part = np.s_[
                row * (height + gap) : row * (height + gap) + height,
                column * (width + gap) : column * (width + gap) + width,
            ]
            images.append(picture[part].ravel())
            rest[part] = np.nan
    assert np.isnan(rest).all()
    return np.array(images)


def texts(labels):
    return [label.get_text() for label in labels]


def labels(display):
    return display.ax_.get_xlabel(), display.ax_.get_ylabel()


def points(line):
    return line.get_xdata().tolist(), line.get_ydata().tolist()


def errors_of(model, given=X, metric="squared_error"):
    """Return errors of X, which may be given in another form."""
    restored = model.inverse_transform(model.transform(given))
    return METRICS[metric](X - restored).sum(axis=1)


# The curve of the loss


def test_loss_curves_and_their_names(pyplot):
    model = quick(early_stopping=True, max_iter=6).fit(X)
    display = LossCurveDisplay.from_estimator(model, name="small")
    ax, marker, epochs = display.ax_, display.best_marker_, [1, 2, 3, 4, 5, 6]
    assert points(display.line_) == (epochs, model.loss_curve_)
    assert points(display.validation_line_) == (epochs, model.validation_loss_curve_)
    best = 1 + int(np.argmin(model.validation_loss_curve_))
    assert points(marker) == ([best], [model.best_loss_])
    assert texts(ax.get_legend().get_texts()) == [
        "small, training",
        "small, validation",
        "small, initial weights",
        f"small, kept (epoch {best})",
    ]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Epoch", "Loss")
    drawn = [display.line_, display.validation_line_, display.initial_line_, marker]
    assert list(ax.lines) == drawn
    assert display.initial_line_.get_ydata()[0] == model.initial_loss_
    assert len({line.get_color() for line in ax.lines}) == 1
    assert [line.get_linestyle() for line in ax.lines[:2]] == ["-", "--"]


def test_without_validation_there_is_one_curve(pyplot, autoencoder):
    display = LossCurveDisplay.from_estimator(autoencoder)
    assert display.validation_line_ is None
    kinds = "training", "initial weights", f"kept (epoch {autoencoder.n_iter_})"
    assert texts(display.ax_.get_legend().get_texts()) == [
        f"AutoencoderTransformer, {kind}" for kind in kinds
    ]


def test_pca_is_marked_where_it_is_kept(pyplot):
    """Nothing is to be learnt of noise: the point is where training began."""
    noise = np.random.RandomState(0).standard_normal((100, 5))
    model = AutoencoderTransformer(2, random_state=0).fit(noise)
    display = LossCurveDisplay.from_estimator(model)
    assert model.best_iter_ == 0
    assert points(display.best_marker_) == ([0], [model.initial_loss_])
    legend = texts(display.ax_.get_legend().get_texts())
    assert legend[2:] == [
        f"AutoencoderTransformer, {of}" for of in ("PCA", "kept (PCA)")
    ]


STEP = "autoencodertransformer__"


@pytest.mark.parametrize(
    ("make", "trained"),
    [
        (
            lambda model: GridSearchCV(
                make_pipeline(StandardScaler(), model),
                {f"{STEP}n_components": [2, 3]},
                cv=2,
            ),
            lambda fit: fit.best_estimator_[-1],
        ),
        (
            lambda model: make_pipeline(
                MinMaxScaler(), GridSearchCV(model, {"n_components": [2]}, cv=2)
            ),
            lambda fit: fit[-1].best_estimator_,
        ),
    ],
    ids=["search of pipelines", "search in a pipeline"],
)
def test_pipelines_and_searches_are_unwrapped(pyplot, make, trained):
    outer = make(quick(max_iter=2)).fit(X)
    inner, curve = trained(outer), LossCurveDisplay.from_estimator(outer)
    assert curve.line_.get_ydata().tolist() == inner.loss_curve_
    assert curve.name == "AutoencoderTransformer"
    components = ComponentsDisplay.from_estimator(outer, order="first", n_components=2)
    assert np.array_equal(components.components, inner.coefs_[0].T[:2])


def test_validation_that_came_later(pyplot):
    model = quick(warm_start=True, early_stopping=False).fit(X)
    model.fit(X, X_val=X[:20])
    display = LossCurveDisplay.from_estimator(model)
    curve = model.validation_loss_curve_
    assert points(display.line_) == ([*range(1, 9)], model.loss_curve_)
    assert points(display.validation_line_) == ([5, 6, 7, 8], curve)
    best = 5 + int(np.argmin(curve))
    assert points(display.best_marker_) == ([best], [model.best_loss_])


class Trained(BaseEstimator):
    """Stands in for an estimator with given curves."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def fit(self, X, y=None):
        return self


def test_the_lowest_is_that_of_the_objective(pyplot):
    """An epoch before had a lower loss, of another objective."""
    curve = [1.0, 5.0, 4.0, 4.5]
    warmed_up = Trained(
        loss_curve_=[3.0] * 4, validation_loss_curve_=curve, best_loss_=4.0
    )
    assert LossCurveDisplay.from_estimator(warmed_up).best_epoch == 3
    without = Trained(loss_curve_=[3.0] * 4, validation_loss_curve_=np.array(curve))
    assert LossCurveDisplay.from_estimator(without).best_epoch == 1


def test_several_on_the_same_axes(pyplot):
    ax = pyplot.figure().add_subplot()
    first = LossCurveDisplay(loss_curve=[3, 2], name="first").plot(ax)
    second = LossCurveDisplay(
        loss_curve=[4, 3], validation_loss_curve=[5, 4], name="second"
    ).plot(ax)
    assert texts(ax.get_legend().get_texts()) == [
        "first, training",
        "second, training",
        "second, validation",
    ]
    assert first.line_.get_color() != second.line_.get_color()
    ax.set_yscale("log")
    first.plot(ax)
    assert ax.get_yscale() == "log"
    assert second.line_.get_color() == second.validation_line_.get_color()


@pytest.mark.parametrize(
    ("curves", "scale"),
    [
        *(([[9.0, 1.0]], "linear"), ([[10.5, 1.0]], "log")),
        *(([[10.5, 0.0]], "linear"), ([[10.5, -1.0]], "linear")),
        ([[9.0, 2.0], [1.0, 0.8]], "log"),  # both together
        ([[10.5, 1.0], [2.0, 1.5]], "log"),
        ([[10.5, 1.0], [2.0, -1.0]], "linear"),
    ],
)
def test_scale_of_the_losses(pyplot, curves, scale):
    ax = pyplot.figure().add_subplot()
    for curve in curves:
        LossCurveDisplay(loss_curve=curve).plot(ax)
    assert ax.get_yscale() == scale
    for given in ("linear", "log"):
        display = LossCurveDisplay(loss_curve=[3.0, 2.0]).plot(ax, yscale=given)
        assert display.ax_.get_yscale() == given


def test_styles_of_curves(pyplot):
    display = LossCurveDisplay(loss_curve=[3, 2], validation_loss_curve=[4, 3])
    display.plot(lw=3, color="k", ls=":", name="mine")
    for line in (display.line_, display.validation_line_):
        assert line.get_linewidth() == 3
        assert line.get_linestyle() == ":"
        assert line.get_color() == "k"
    assert display.line_.get_label() == "mine, training"
    few = LossCurveDisplay(loss_curve=[3.0, 2.0, 1.0]).plot()
    assert all(tick == round(tick) for tick in few.ax_.get_xticks())
    assert (few.line_.get_marker(), few.line_.get_label()) == ("None", "training")
    # A single epoch can be seen.
    single = LossCurveDisplay(loss_curve=[3.0], validation_loss_curve=[2.0]).plot()
    assert single.line_.get_marker() == single.validation_line_.get_marker() == "o"


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (PCA(2).fit(X), "PCA has no loss_curve_"),
        (make_pipeline(MinMaxScaler(), "passthrough").fit(X), "no loss_curve_"),
        (
            GridSearchCV(PCA(), {"n_components": [1]}, cv=2, refit=False).fit(X),
            r"GridSearchCV has no loss_curve_.*refit=True",
        ),
        (PCA, "estimator is a class, not a fitted estimator"),
        ([1.0], "estimator is a list, not a fitted estimator"),
    ],
    ids=["no curve", "passthrough", "no refit", "class", "list"],
)
def test_estimators_without_a_curve(pyplot, estimator, message):
    with pytest.raises(TypeError, match=message):
        LossCurveDisplay.from_estimator(estimator)


# Images and their reconstructions


def test_originals_over_reconstructions(pyplot, autoencoder, pca):
    models = {"auto": autoencoder, "components": pca}
    display = ReconstructionDisplay.from_estimator(models, X, n_images=7)
    images = tiles(display.image_.get_array(), 7)
    assert np.array_equal(images[:7], X[:7])
    for i, model in enumerate(models.values(), start=1):
        expected = model.inverse_transform(model.transform(X[:7]))
        assert images[7 * i : 7 * (i + 1)] == pytest.approx(expected)
    assert display.indices.tolist() == [*range(7)]
    ax = display.ax_
    assert texts(ax.get_yticklabels()) == ["original", "auto", "components"]
    # In the middle of the rows of images, which are 9 pixels apart.
    assert ax.get_yticks().tolist() == [3.5, 12.5, 21.5]
    assert ax.get_ylim() == (25.5, -0.5)  # the first row is at the top
    assert len(ax.get_xticks()) == 0
    assert display.image_.cmap.name == "gray_r"
    assert display.image_.get_clim() == (X[:7].min(), X[:7].max())


@pytest.mark.parametrize("which", ["best", "worst"])
def test_best_and_worst_of_the_first(pyplot, autoencoder, pca, which):
    models = {"auto": autoencoder, "components": pca}
    display = ReconstructionDisplay.from_estimator(models, X, n_images=4, which=which)
    ranked = sorted(range(len(X)), key=errors_of(autoencoder).__getitem__)
    expected = ranked[:4] if which == "best" else ranked[::-1][:4]
    assert display.indices.tolist() == expected
    assert np.array_equal(tiles(display.image_.get_array(), 4)[:4], X[expected])
    # It is the first that decides.
    other = ReconstructionDisplay.from_estimator(pca, X, n_images=4, which=which)
    assert other.indices.tolist() != expected


def test_rows_by_number(pyplot, pca):
    display = ReconstructionDisplay.from_estimator(
        pca, X, n_images=1, which=[5, 119, 5, 0]
    )
    assert display.indices.tolist() == [5, 119, 5, 0]
    assert np.array_equal(tiles(display.image_.get_array(), 4)[:4], X[[5, 119, 5, 0]])
    assert texts(display.ax_.get_yticklabels()) == ["original", "PCA"]
    for which in ("first", "best"):  # of fewer rows than images
        display = ReconstructionDisplay.from_estimator(pca, X[:3], which=which)
        assert sorted(display.indices) == [0, 1, 2]
    for which in ("best", "worst"):  # equal errors are in the order of the rows
        equal = np.zeros((40, 4)), np.ones((40, 4))
        display = ReconstructionDisplay.from_predictions(
            *equal, which=which, image_shape=(2, 2)
        )
        assert display.indices.tolist() == [*range(10)]


@pytest.mark.parametrize(("shape", "gap"), [((4, 16), 1), ((28, 28), 2)])
def test_shapes_of_images_and_gaps_that_grow_with_them(pyplot, shape, gap):
    rows = np.random.default_rng(0).random((2, shape[0] * shape[1]))
    display = ReconstructionDisplay.from_predictions(rows, rows, image_shape=shape)
    picture = display.image_.get_array()
    assert np.array_equal(tiles(picture, 2, shape, gap), np.vstack([rows, rows]))
    assert np.array_equal(picture[: shape[0], : shape[1]], rows[0].reshape(shape))


def test_reconstructions_that_are_given(pyplot):
    rows, n = X[:6], 3
    named = {"half": rows / 2, 7: (rows - 1).tolist(), "sparse": sp.csr_array(rows)}
    display = ReconstructionDisplay.from_predictions(
        rows.tolist(), named, which="worst", n_images=n
    )
    ranked = sorted(range(6), key=lambda i: -sum(rows[i] ** 2))[:n]
    assert display.indices.tolist() == ranked
    assert tiles(display.image_.get_array(), n) == pytest.approx(
        np.vstack([rows[ranked], rows[ranked] / 2, rows[ranked] - 1, rows[ranked]])
    )
    assert texts(display.ax_.get_yticklabels()) == ["original", "half", "7", "sparse"]
    alone = ReconstructionDisplay.from_predictions(rows, rows / 2)
    assert texts(alone.ax_.get_yticklabels()) == ["original", "reconstruction"]


def test_styles_of_images(pyplot, pca):
    figure, ax = pyplot.subplots()
    style = {"ax": ax, "cmap": "viridis", "vmin": -2, "alpha": 0.5}
    for display in (
        ReconstructionDisplay.from_estimator(pca, X, **style, vmax=3),
        ComponentsDisplay.from_estimator(pca, **style),
    ):
        high = 3 if isinstance(display, ReconstructionDisplay) else 1
        assert display.ax_ is ax
        assert display.image_.cmap.name == "viridis"
        assert display.image_.get_clim() == (-2, high)
        assert display.image_.get_alpha() == 0.5
    assert pyplot.get_fignums() == [figure.number]


@pytest.mark.parametrize("name", ["PCA", "l" * 50, "M" * 25])
@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 4)])
def test_titles_fit(pyplot, name, shape):
    rows = X[:3]
    named = {f"{name}{i}": rows for i in range(10)}
    display = ReconstructionDisplay.from_predictions(rows, named, image_shape=shape)
    figure = display.figure_
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in display.ax_.get_yticklabels()]
    assert len(boxes) == 11
    images = display.image_.get_window_extent()
    for box in (*boxes, images):
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    assert all(box.x1 < images.x0 for box in boxes)
    assert all(a.y0 >= b.y1 for a, b in itertools.pairwise(boxes))


@pytest.mark.parametrize("form", ["float32", "frame", "csr", "coo", "list"])
def test_forms_of_rows(pyplot, form):
    rows, make = X, {"csr": sp.csr_array, "float32": np.float32}.get(form, np.asarray)
    if form == "frame":
        names = [f"pixel {i}" for i in range(64)]
        make = partial(pytest.importorskip("pandas").DataFrame, columns=names)
    given = {"list": np.ndarray.tolist, "coo": sp.coo_array}.get(form, make)(rows)
    # Warnings are errors: names of features must arrive.
    scaler = StandardScaler(with_mean=form not in ("csr", "coo"))
    model = make_pipeline(scaler, quick()).fit(given)
    display = ReconstructionDisplay.from_estimator(model, given, which=[7, 3])
    restored = model.inverse_transform(model.transform(make(rows[[7, 3]])))
    expected = np.vstack([rows[[7, 3]], restored])
    assert tiles(display.image_.get_array(), 2) == pytest.approx(expected, rel=1e-6)
    errors = ReconstructionErrorDisplay.from_estimator(model, given).errors
    naive = errors_of(model, make(rows))
    assert errors["AutoencoderTransformer"] == pytest.approx(naive, rel=1e-5)
    code = LatentSpaceDisplay.from_estimator(model, given).scatter_.get_offsets()
    assert np.asarray(code) == pytest.approx(model.transform(given)[:, :2])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"which": "last"},
            r"which='last' must be one of \('first', 'best', 'worst'\) or",
        ),
        ({"which": [0.5]}, r"which=\[0\.5\] must be"),
        ({"which": []}, r"which=\[\] must be"),
        ({"which": 3}, "which=3 must be"),
        ({"which": [[1]]}, r"which=\[\[1\]\] must be"),
        ({"which": [0, 120]}, "has the index 120, but .* indices 0 to 119"),
        ({"which": [-1]}, "has the index -1"),
        ({"which": X[:, 0] > 0}, r"pass np\.flatnonzero\(mask\)"),
        ({"n_images": 0}, "n_images == 0, must be >= 1"),
        ({"image_shape": (8, 9)}, r"\(8, 9\) is not possible: .*width = 64"),
        ({"image_shape": (64,)}, r"image_shape=\(64,\) is not possible"),
        ({"image_shape": 8}, "image_shape=8 is not possible"),
        ({"image_shape": (-8, -8)}, r"\(-8, -8\) is not possible"),
        ({"image_shape": (8.0, 8.0)}, r"\(8\.0, 8\.0\) is not possible"),
    ],
)
def test_bad_choices_of_images(pyplot, pca, parameters, message):
    for call in (
        lambda: ReconstructionDisplay.from_estimator(pca, X, **parameters),
        lambda: ReconstructionDisplay.from_predictions(X, X, **parameters),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="n_images"):
        ReconstructionDisplay.from_estimator(pca, X, n_images=2.5)
    assert pyplot.get_fignums() == []


# Errors of rows


@pytest.mark.parametrize("metric", METRICS)
def test_histograms_of_errors(pyplot, autoencoder, pca, metric):
    models = {"auto": autoencoder, "components": pca}
    display = ReconstructionErrorDisplay.from_estimator(
        models, X, metric=metric, bins=8, histtype="bar"
    )
    errors = {name: errors_of(m, metric=metric) for name, m in models.items()}
    edges = np.histogram_bin_edges([*errors.values()], 8)
    assert display.bins_ == pytest.approx(edges)
    for bars, (name, naive) in zip(display.patches_, errors.items(), strict=True):
        drawn = display.errors[name]
        assert drawn == pytest.approx(naive)
        expected, _ = np.histogram(drawn, display.bins_)
        assert [bar.get_height() for bar in bars] == expected.tolist()
        assert [bar.get_x() for bar in bars] == pytest.approx(edges[:-1])
        widths = [bar.get_width() for bar in bars]
        assert widths == pytest.approx(np.diff(edges))
    ax = display.ax_
    assert texts(ax.get_legend().get_texts()) == [
        f"{name}: {e.mean():.0f} ± {e.std():.0f}" for name, e in errors.items()
    ]
    assert ax.get_legend().get_title().get_text() == "mean ± standard deviation"
    assert metric.split("_")[0] in ax.get_xlabel().lower()
    assert ax.get_ylabel() == "Samples"
    colors = [bars[0].get_facecolor() for bars in display.patches_]
    assert colors[0] != colors[1]


def heights(polygon, n_bins):
    """Return the heights of a filled histogram's steps."""
    return polygon.get_xy()[1 : 2 * n_bins : 2, 1]


def test_errors_of_given_reconstructions(pyplot):
    display = ReconstructionErrorDisplay.from_predictions(
        [[0, 0], [1, 1], [2, 2]],
        {"one off": [[1, 0], [1, 0], [2, 3]], "far off": [[3, 0], [1, 1], [2, 2]]},
        bins=[0, 1, 2, 10],
    )
    assert display.errors["one off"].tolist() == [1, 1, 1]
    assert display.errors["far off"].tolist() == [9, 0, 0]
    assert display.bins_.tolist() == [0, 1, 2, 10]
    drawn = [heights(patches[0], 3).tolist() for patches in display.patches_]
    assert drawn == [[0, 3, 0], [2, 0, 1]]
    alone = ReconstructionErrorDisplay.from_predictions([[1.0]], [[3.0]])
    assert alone.errors["reconstruction"].tolist() == [4]


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([1000.0, 2000.0], "1500 ± 500"),
        ([1.0, 2.0], "1.50 ± 0.50"),
        ([10.0, 40.0], "25 ± 15"),
        ([0.001, 0.002], "0.00150 ± 0.00050"),
        ([1e-9, 2e-9], "1.5e-09 ± 5e-10"),
        ([1e9, 2e9], "1.5e+09 ± 5e+08"),
        ([3.0, 3.0], "3.0 ± 0.0"),
    ],
)
def test_mean_and_deviation_in_the_legend(pyplot, errors, expected):
    display = ReconstructionErrorDisplay(errors={"m": np.array(errors)}).plot()
    assert texts(display.ax_.get_legend().get_texts()) == [f"m: {expected}"]


def test_styles_of_histograms(pyplot):
    display = ReconstructionErrorDisplay(errors={"m": np.arange(9.0)})
    display.plot(bins=3, alpha=0.25, fc="r", density=True)
    (polygon,) = display.patches_[0]
    assert polygon.get_facecolor() == (1, 0, 0, 0.25)
    assert heights(polygon, 3) == pytest.approx([0.125, 0.125, 0.125])
    assert display.ax_.get_ylabel() == "Density"
    for n, is_filled in ((3, True), (4, False)):  # many are outlines
        errors = {str(i): np.arange(5.0) + i for i in range(n)}
        display = ReconstructionErrorDisplay(errors=errors).plot()
        assert [p[0].get_fill() for p in display.patches_] == [is_filled] * n


def test_bad_metrics_and_bins(pyplot, pca):
    with pytest.raises(ValueError, match=r"metric='loss' must be one of \('squared"):
        ReconstructionErrorDisplay.from_estimator(pca, X, metric="loss")
    with pytest.raises(ValueError, match=r"metric=\['a'\] must be one of"):
        ReconstructionErrorDisplay.from_predictions(X, X, metric=["a"])
    with pytest.raises(ValueError, match="bins"):
        ReconstructionErrorDisplay.from_predictions(X, X, bins=0)


# What is to reconstruct


BOTH = [ReconstructionDisplay, ReconstructionErrorDisplay]


@pytest.mark.parametrize("display", BOTH)
@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (PCA(), NotFittedError, "not fitted"),
        (quick(), NotFittedError, "not fitted"),
        (make_pipeline(MinMaxScaler(), quick()), NotFittedError, "not fitted"),
        ({"a": PCA(1).fit(X), "b": PCA()}, NotFittedError, "not fitted"),
        ({}, ValueError, r"estimator=\{\} is empty: pass a fitted transformer, or a"),
        ({"a": PCA}, TypeError, r"estimator\['a'\] is a class, not a fitted"),
        ({"a": X}, TypeError, r"estimator\['a'\] is a ndarray, not a fitted"),
        ([PCA(1).fit(X)], TypeError, "estimator is a list, not a fitted estimator"),
        (FactorAnalysis(1).fit(X), TypeError, "FactorAnalysis has no inverse_transf"),
        (
            make_pipeline(MinMaxScaler(), FactorAnalysis(1)).fit(X),
            TypeError,
            r"no inverse_transform, because of its step 'factoranalysis'",
        ),
        (PCA(1).fit(X[:, :9]), ValueError, "X has 64 features, but PCA is expecting 9"),
    ],
)
def test_models_that_cannot_reconstruct(pyplot, display, estimator, error, message):
    with pytest.raises(error, match=message):
        display.from_estimator(estimator, X)


@pytest.mark.parametrize("display", BOTH)
@pytest.mark.parametrize(
    ("rows", "reconstructions", "message"),
    [
        (X, X[:-1], r"'reconstruction' has shape \(119, 64\), X \(120, 64\)"),
        (X, {"a": X, "b": X[:, :9]}, r"'b' has shape \(120, 9\)"),
        (X, {}, r"reconstructions=\{\} is empty"),
        (X, {"a": X * np.nan}, r"reconstructions\['a'\] contains NaN"),
        (X[0], X[0], "Expected 2D array"),
        (X[:0], X[:0], r"0 sample"),
        (X + np.inf, X, "X contains infinity"),
    ],
)
def test_bad_reconstructions(pyplot, pca, display, rows, reconstructions, message):
    with pytest.raises(ValueError, match=message):
        display.from_predictions(rows, reconstructions)
    if rows is not X:
        with pytest.raises(ValueError, match=message):
            display.from_estimator(pca, rows)


def test_images_with_gaps(pyplot, autoencoder):
    """Missing pixels have a color of their own, and do not count."""
    gaps = np.random.default_rng(0).random(X.shape) < 0.2
    rows = np.where(gaps, np.nan, X)
    rows[2] = np.nan
    draw = partial(ReconstructionDisplay.from_estimator, autoencoder, rows)
    for which, sign in (("best", 1), ("worst", -1)):
        display = draw(which=which)
        errors = sign * autoencoder.reconstruction_error(rows)
        assert (
            display.indices.tolist() == np.argsort(errors, kind="stable")[:10].tolist()
        )
        assert display.image_.get_clim() == (
            np.nanmin(rows[display.indices]),
            np.nanmax(rows[display.indices]),
        )
        images = tiles(display.image_.get_array(), 10)
        np.testing.assert_array_equal(images[:10], rows[display.indices])
        assert np.isfinite(images[10:]).all()
        shown = display.image_.get_cmap()
        assert shown.get_bad().tolist() not in shown(np.arange(256)).tolist()
    given = ReconstructionDisplay.from_predictions(rows, X, which=[2])
    np.testing.assert_array_equal(tiles(given.image_.get_array(), 1)[1], X[2])
    assert np.isfinite(given.image_.get_clim()).all()


def test_errors_of_samples_with_gaps(pyplot, autoencoder):
    """A sample without any entry has no error, and is not drawn."""
    rows = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    rows[2] = np.nan
    display = ReconstructionErrorDisplay.from_estimator(autoencoder, rows)
    (errors,) = display.errors.values()
    np.testing.assert_allclose(errors, autoencoder.reconstruction_error(rows))
    assert display.bins_[[0, -1]].tolist() == [np.nanmin(errors), np.nanmax(errors)]
    (label,) = (text.get_text() for text in display.ax_.get_legend().get_texts())
    assert "nan" not in label
    given = ReconstructionErrorDisplay.from_predictions(rows, {"zeros": 0 * X})
    expected = 64 * np.nanmean(np.delete(rows, 2, axis=0) ** 2, axis=1)
    np.testing.assert_allclose(np.delete(given.errors["zeros"], 2), expected)
    with pytest.raises(ValueError, match=r"errors\['a'\] are all NaN"):
        ReconstructionErrorDisplay(errors={"a": [np.nan]}).plot()
    code = LatentSpaceDisplay.from_estimator(autoencoder, rows).code
    assert np.isfinite(code).all()


# Codes


def test_points_are_entries_of_the_code(pyplot, autoencoder):
    code = autoencoder.transform(X)
    display = LatentSpaceDisplay.from_estimator(autoencoder, X)
    assert np.asarray(display.scatter_.get_offsets()) == pytest.approx(code[:, :2])
    assert labels(display) == ("code 0", "code 1")
    assert display.legend_ is display.colorbar_ is None
    other = LatentSpaceDisplay.from_estimator(autoencoder, X, components=(2, 0))
    assert np.asarray(other.scatter_.get_offsets()) == pytest.approx(code[:, [2, 0]])
    assert labels(other) == ("code 2", "code 0")


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (Y, [str(i) for i in range(10)]),
        (Y % 3 - 1, ["-1", "0", "1"]),
        (Y.astype(float), [str(i) for i in range(10)]),
        (Y > 4, ["False", "True"]),
        (np.array(["b", "a", "a long name"])[Y % 3], ["a", "a long name", "b"]),
        (np.array(["b", "a"], dtype=object)[Y % 2].tolist(), ["a", "b"]),
        (np.array([None, "a", 2], dtype=object)[Y % 3], ["2", "None", "a"]),
        (np.zeros(120, int), ["0"]),
    ],
    ids=["ten", "three", "floats", "bool", "strings", "list", "mixed", "one"],
)
def test_colours_of_classes(pyplot, pca, y, names):
    display = LatentSpaceDisplay.from_estimator(pca, X, y)
    assert display.colorbar_ is None
    assert texts(display.legend_.get_texts()) == names
    display.figure_.draw_without_rendering()
    colors = display.scatter_.get_facecolor()[:, :3]
    handles = dict(zip(names, display.legend_.legend_handles, strict=True))
    for label, color in zip(y, colors, strict=True):
        name = f"{label:g}" if isinstance(label, np.floating) else str(label)
        assert handles[name].get_color()[:3] == pytest.approx(color)
    assert len(np.unique(colors, axis=0)) == len(names)


def test_colours_where_the_cycle_is_short(pyplot, pca):
    with pyplot.rc_context({"axes.prop_cycle": "cycler('color', ['r', 'g', 'b'])"}):
        few = LatentSpaceDisplay.from_estimator(pca, X, Y % 3)
        many = LatentSpaceDisplay.from_estimator(pca, X, Y)
    assert few.scatter_.to_rgba([0, 1, 2])[:, :3].tolist() == [
        pytest.approx(color) for color in ([1, 0, 0], [0, 0.5, 0], [0, 0, 1])
    ]
    assert len(np.unique(many.scatter_.to_rgba(np.arange(10)), axis=0)) == 10


@pytest.mark.parametrize(
    "y",
    [X.mean(axis=1), np.arange(120) % 11 * 3, np.arange(120) % 11 * 3.0, Y / 20],
    ids=["continuous", "eleven", "eleven floats", "few fractions"],
)
def test_colours_of_numbers(pyplot, pca, y):
    display = LatentSpaceDisplay.from_estimator(pca, X, y)
    assert display.legend_ is None
    assert display.scatter_.get_array().tolist() == y.tolist()
    assert display.colorbar_.mappable is display.scatter_
    assert display.scatter_.get_clim() == (y.min(), y.max())
    assert display.scatter_.cmap.name == "viridis"


def test_colour_bar_of_many_names(pyplot, pca):
    names = np.array([f"class {i:02}" for i in range(24)])
    y = names[np.arange(120) % 24]
    display = LatentSpaceDisplay.from_estimator(pca, X, y)
    display.figure_.draw_without_rendering()
    assert display.legend_ is None
    assert names[display.scatter_.get_array().astype(int)].tolist() == y.tolist()
    axis = display.colorbar_.ax.yaxis
    ticks = zip(axis.get_majorticklocs(), texts(axis.get_ticklabels()), strict=True)
    shown = {tick: text for tick, text in ticks if 0 <= tick <= 23}
    assert [*shown.values()] == [names[round(tick)] for tick in shown]
    assert 2 < len(shown) < 15


def test_titles_and_names_of_frames(pyplot):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    model = quick().set_output(transform="pandas").fit(frame)
    for y in (pandas.Series(Y, name="digit"), pandas.Series(X[:, 2] / 3, name="ink")):
        display = LatentSpaceDisplay.from_estimator(model, frame, y)
        offsets = np.asarray(display.scatter_.get_offsets())
        assert offsets == pytest.approx(model.transform(frame).to_numpy()[:, :2])
        if y.name == "digit":
            assert display.legend_.get_title().get_text() == "digit"
        else:
            assert display.colorbar_.ax.get_ylabel() == "ink"


class Nameless(TransformerMixin, BaseEstimator):
    """A transformer without names, whose codes are sparse."""

    def fit(self, X, y=None):
        self.is_fitted_ = True
        return self

    def transform(self, X):
        return sp.csr_array(X[:, :3] + 1)


def test_codes_without_names(pyplot):
    rows = X[:, 2:]
    for model in (Nameless(), make_pipeline(MinMaxScaler(), Nameless())):
        display = LatentSpaceDisplay.from_estimator(model.fit(rows), rows)
        assert labels(display) == ("code 0", "code 1")
    display = LatentSpaceDisplay.from_estimator(Nameless().fit(rows), rows)
    assert np.asarray(display.scatter_.get_offsets()) == pytest.approx(rows[:, :2] + 1)
    search = GridSearchCV(PCA(), {"n_components": [2]}, cv=2).fit(X)
    assert labels(LatentSpaceDisplay.from_estimator(search, X)) == ("code 0", "code 1")


def test_styles_of_scatters(pyplot, pca):
    ax = pyplot.figure().add_subplot()
    display = LatentSpaceDisplay.from_estimator(
        pca, X, Y / 20, ax=ax, s=9, cmap="plasma", marker="x", alpha=0.5
    )
    assert display.ax_ is ax
    assert display.scatter_.get_sizes().tolist() == [9]
    assert display.scatter_.cmap.name == "plasma"
    assert display.scatter_.get_alpha() == 0.5
    plain = LatentSpaceDisplay.from_estimator(pca, X, c=Y)
    assert plain.scatter_.get_array().tolist() == Y.tolist()


@pytest.mark.parametrize(
    "components",
    [(0, 0), (0, 5), (-1, 0), (), (0, 1, 2, 3), 5, 1.0, (0, 1.0), "ab", (0, True)],
)
def test_bad_components(pyplot, pca, components):
    with pytest.raises(
        ValueError, match="must be one to three different numbers from 0 to 4"
    ):
        LatentSpaceDisplay.from_estimator(pca, X, components=components)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y[:-1], "inconsistent numbers of samples"),
        (np.where(Y > 3, np.nan, 0.5), "y contains NaN"),
        (np.ones((120, 2)), "1d array"),
        (np.full(120, np.datetime64("2020-01-01")), "y has dtype datetime64"),
    ],
)
def test_bad_labels(pyplot, pca, y, message):
    with pytest.raises(ValueError, match=message):
        LatentSpaceDisplay.from_estimator(pca, X, y)


def test_bad_codes(pyplot, pca):
    with pytest.raises(ValueError, match="pass either y, or c or color"):
        LatentSpaceDisplay.from_estimator(pca, X, Y, c=Y)
    with pytest.raises(NotFittedError):
        LatentSpaceDisplay.from_estimator(quick(), X)
    with pytest.raises(TypeError, match="Trained has no transform"):
        LatentSpaceDisplay.from_estimator(Trained(loss_curve_=[1]), X)
    with pytest.raises(TypeError, match="estimator is a dict, not a fitted"):
        LatentSpaceDisplay.from_estimator({"a": pca}, X)
    assert pyplot.get_fignums() == []


# Weights


def test_strongest_and_first_units(pyplot, autoencoder):
    weights = autoencoder.coefs_[0].T
    display = ComponentsDisplay.from_estimator(autoencoder, n_components=9)
    strength = [sum(w**2 for w in unit) for unit in weights]
    expected = sorted(range(30), key=lambda i: -strength[i])[:9]
    assert expected != [*range(9)]
    assert display.indices.tolist() == expected
    images = tiles(display.image_.get_array(), 3)
    for image, unit in zip(images, weights[expected], strict=True):
        assert image == pytest.approx(unit / max(abs(unit)))
    assert display.image_.get_clim() == (-1, 1)
    # Blue below zero, red above.
    blue, red = (display.image_.to_rgba([w])[0] for w in (-1.0, 1.0))
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    bar = display.colorbar_
    assert bar.mappable is display.image_
    assert texts(bar.ax.get_yticklabels()) == ["−1", "0", "1"]
    assert bar.ax.get_ylabel() == "Weight / unit's largest"
    assert len(display.ax_.get_xticks()) == len(display.ax_.get_yticks()) == 0
    display = ComponentsDisplay.from_estimator(
        autoencoder, n_components=2, order="first", image_shape=(4, 16)
    )
    images = tiles(display.image_.get_array(), 1, shape=(4, 16))
    assert images == pytest.approx(weights[:2] / abs(weights[:2]).max(axis=1)[:, None])
    assert display.indices.tolist() == [0, 1]


@pytest.mark.parametrize("solver", ["full", "randomized"])
def test_principal_components_keep_their_order(pyplot, dtype, solver):
    rows = np.random.default_rng(0).normal(size=(300, 64)).astype(dtype)
    pca = PCA(12, svd_solver=solver, random_state=0).fit(rows)
    display = ComponentsDisplay.from_estimator(make_pipeline("passthrough", pca))
    assert display.indices.tolist() == [*range(12)]
    images = tiles(display.image_.get_array(), 4)
    largest = np.abs(pca.components_).max(axis=1, keepdims=True)
    assert images == pytest.approx(pca.components_ / largest)


def test_other_components_are_ranked_and_places_without_a_unit_are_empty(pyplot):
    nmf = NMF(4, init="nndsvda", tol=0.01, max_iter=1000).fit(X)
    display = ComponentsDisplay.from_estimator(nmf)
    norms = np.linalg.norm(nmf.components_, axis=1)
    assert display.indices.tolist() == np.argsort(-norms).tolist()
    svd = TruncatedSVD(7, random_state=0).fit(X)
    images = tiles(ComponentsDisplay.from_estimator(svd).image_.get_array(), 3)
    assert np.isnan(images).all(axis=1).tolist() == [False] * 7 + [True] * 2


def test_a_dead_unit_is_blank(pyplot):
    for weights, n_dead in (([[0, 0, 0, 0], [1, 2, -4, 0]], 1), (np.zeros((1, 4)), 1)):
        display = ComponentsDisplay.from_estimator(
            Trained(components_=weights), image_shape=(2, 2)
        )
        dead = tiles(display.image_.get_array(), len(weights), (2, 2))[-n_dead:]
        assert dead.tolist() == [[0, 0, 0, 0]]
    assert display.components.dtype.kind == "f"


def test_components_that_cannot_be_drawn(pyplot, pca):
    with pytest.raises(ValueError, match=r"order='last' must be one of \('strongest'"):
        ComponentsDisplay.from_estimator(pca, order="last")
    with pytest.raises(ValueError, match="n_components == 0, must be >= 1"):
        ComponentsDisplay.from_estimator(pca, n_components=0)
    with pytest.raises(ValueError, match=r"image_shape=\(3, 3\) is not possible"):
        ComponentsDisplay.from_estimator(pca, image_shape=(3, 3))
    with pytest.raises(TypeError, match="MinMaxScaler has neither coefs_ nor compone"):
        ComponentsDisplay.from_estimator(MinMaxScaler().fit(X))
    for model in (quick(), PCA(), Pipeline([("a", MinMaxScaler()), ("b", quick())])):
        with pytest.raises(NotFittedError):
            ComponentsDisplay.from_estimator(model)
    assert pyplot.get_fignums() == []


# All of them


RESULTS = {"estimator": ["PCA", "autoencoder"], "n_components": [1, 1]}
RESULTS |= {name: [0.0, 0.1] for name in ("split", "fit_time", "test_score")}
RESULTS = {name: np.array(column) for name, column in RESULTS.items()}
STORED = {
    "loss": LossCurveDisplay(loss_curve=[2, 1]),
    "images": ReconstructionDisplay(originals=X[:2], reconstructions={"a": X[:2]}),
    "errors": ReconstructionErrorDisplay(errors={"a": X[0]}),
    "codes": LatentSpaceDisplay(code=X[:, 2:4]),
    "weights": ComponentsDisplay(components=X[:2]),
    "walk": LatentWalkDisplay(
        reconstructions=X[None, :3], steps=[[-1, 0, 1]], components=[0]
    ),
    "walk of features": LatentWalkDisplay(
        reconstructions=X[None, :3, 20:24], steps=[[-1, 0, 1]], components=[0]
    ),
    "features": ReconstructionDisplay(
        originals=X[:2, 20:24], reconstructions={"a": X[2:4, 20:24]}
    ),
    "weights of features": ComponentsDisplay(components=X[:2, 20:24]),
    "a code of one": LatentSpaceDisplay(code=X[:, 2:3]),
    "comparison": PCAComparisonDisplay(results=RESULTS),
}
MADE = {
    "loss": lambda: LossCurveDisplay.from_estimator(None),
    "images": lambda: ReconstructionDisplay.from_estimator(None, X),
    "given images": lambda: ReconstructionDisplay.from_predictions(None, X),
    "errors": lambda: ReconstructionErrorDisplay.from_estimator(None, X),
    "given errors": lambda: ReconstructionErrorDisplay.from_predictions(None, X),
    "codes": lambda: LatentSpaceDisplay.from_estimator(None, X),
    "weights": lambda: ComponentsDisplay.from_estimator(None),
    "walk": lambda: LatentWalkDisplay.from_estimator(None, X),
}


@pytest.mark.parametrize("name", STORED)
def test_plot_returns_the_display(pyplot, name):
    display = STORED[name]
    assert display.plot() is display
    assert display.figure_ is display.ax_.figure is pyplot.gcf()
    other, ax = pyplot.subplots(1, 2)[1]
    assert display.plot(ax).ax_ is ax
    assert ax.has_data()
    assert not other.has_data()
    assert pyplot.get_fignums() == [1, 2]
    for number in (1, 2):
        pyplot.figure(number).canvas.draw()  # without warnings


@pytest.mark.parametrize("name", STORED)
def test_what_is_no_axes(pyplot, name):
    for wrong in (pyplot.figure(), np.empty(2, object), "here"):
        with pytest.raises(TypeError, match="no matplotlib Axes: pass one, such as"):
            STORED[name].plot(ax=wrong)


def test_without_matplotlib(monkeypatch):
    for module in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, module, None)
    for display in STORED.values():
        with pytest.raises(ImportError, match=r"Display\.plot needs .*skae\[plot\]"):
            display.plot()
    for make in MADE.values():  # before anything is computed
        with pytest.raises(ImportError, match=r"\.from_.* needs .*skae\[plot\]"):
            make()
