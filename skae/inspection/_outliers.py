"""Scores of outliers, and the features that make the worst samples odd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _check_feature_names_in

from skae._data.frames import ArrayFrame, frame_of
from skae._model.any_transformer import name_of
from skae._outliers.detector import AutoencoderOutlierDetector
from skae._sklearn import _safe_indexing
from skae._typing import Floats, MatrixLike
from skae.inspection._drawing import (
    check_matplotlib,
    check_two_axes,
    is_whole,
    style,
)
from skae.inspection._models import check_fitted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches of the figure, of the histogram, of each bar, and of what is around the bars.
_WIDTH, _HISTOGRAM_HEIGHT, _BAR_HEIGHT, _AROUND = 6.4, 2.8, 0.22, 0.6
_N_BINS = 50
_NORMAL_COLOR, _OUTLIER_COLOR = "C0", "C3"
# Room below bars of a single sample, as a ratio of counts, and a share of the height of
# the histogram that is added for the legend.
_ROOM_BELOW = 1.4
_ROOM_FOR_LEGEND = 0.12
# Ratios of scores with few powers of ten, so that others need labels, too, but enough
# for two of them.
_NARROW, _FEW_DECADES = 5, 100
# Characters of a feature's name.
_LONGEST_NAME = 24


class OutlierDisplay:
    """Histogram of scores with the threshold, and why the worst samples are odd.

    :meth:`from_estimator` creates it from a fitted detector.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)
        Scores of all samples, higher for odd ones: ``-detector.score_samples(X)``.

    threshold : float
        Samples with higher scores are outliers: ``-detector.offset_``.

    worst : ndarray of shape (n_worst,)
        Numbers of the samples with the highest scores, in decreasing order.

    contributions : ndarray of shape (n_worst, n_features)
        Contributions of the features to their scores.

    feature_names : ndarray of str, of shape (n_features,)
        Names of the features.

    sample_names : array-like of shape (n_worst,), default=None
        Names of the worst samples. None: their numbers.

    feature_values : ndarray of shape (n_worst, n_features), default=None
        Values of the worst samples that are shown beside the names of the features;
        None for those that are not. From :meth:`from_estimator`, those of categories.

    Attributes
    ----------
    bins_ : ndarray of shape (n_bins + 1,)
        Edges of the bins, at equal ratios. :meth:`plot` sets this and the following
        attributes.

    patches_ : matplotlib artists
        Bars of the histogram.

    line_ : matplotlib Line2D
        The threshold.

    bars_ : list of matplotlib BarContainer
        Shares of features in the score, for each of the worst samples.

    ax_ : matplotlib Axes
        Axes with the histogram.

    feature_ax_ : matplotlib Axes or None
        Axes with the contributions.

    figure_ : matplotlib Figure
        Figure with the axes.

    See Also
    --------
    OutlierDisplay.from_estimator : Creates it from a fitted detector.
    ReconstructionErrorDisplay : Histogram of errors of any autoencoder.

    Examples
    --------
    >>> import numpy as np
    >>> from skae.inspection import OutlierDisplay
    >>> display = OutlierDisplay(
    ...     scores=np.array([1.0, 0.5, 9.0]),
    ...     threshold=3.0,
    ...     worst=np.array([2]),
    ...     contributions=np.array([[8.0, 1.0]]),
    ...     feature_names=np.array(["height", "weight"]),
    ... )
    >>> [round(float(bar.get_width()), 2) for bar in display.plot().bars_[0]]
    [0.89, 0.11]
    """

    def __init__(
        self,
        *,
        scores: Floats,
        threshold: float,
        worst: NDArray[np.integer],
        contributions: Floats,
        feature_names: NDArray[Any],
        sample_names: ArrayLike | None = None,
        feature_values: NDArray[Any] | None = None,
    ) -> None:
        self.scores = scores
        self.threshold = threshold
        self.worst = worst
        self.contributions = contributions
        self.feature_names = feature_names
        self.sample_names = sample_names
        self.feature_values = feature_values

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        *,
        n_samples: int = 3,
        n_features: int = 5,
        ax: Any = None,
        **hist_kw: Any,
    ) -> Self:
        """Draw the scores of samples, and what the worst of them are odd in.

        Parameters
        ----------
        estimator : AutoencoderOutlierDetector, Pipeline or search
            Fitted detector; or a Pipeline, or a search, that ends with one.

        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Samples.

        n_samples : int, default=3
            Number of the worst samples whose features are drawn.

        n_features : int, default=5
            Number of features that are drawn of each, those that contribute most.

        ax : matplotlib Axes, or a pair of them, default=None
            Axes for the histogram, and for the features. On a single one only the
            histogram is drawn. None creates a new figure.

        **hist_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.hist`.

        Returns
        -------
        display : OutlierDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If the estimator does not end with an AutoencoderOutlierDetector.
        ValueError
            If a parameter has an invalid value, or X is not valid.

        Examples
        --------
        >>> import numpy as np
        >>> from skae import AutoencoderOutlierDetector
        >>> from skae.inspection import OutlierDisplay
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> X[7, 1] = 9
        >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X)
        >>> display = OutlierDisplay.from_estimator(detector, X)
        >>> int(display.worst[0])
        7
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_fitted(estimator)
        for name, value in {"n_samples": n_samples, "n_features": n_features}.items():
            if not is_whole(value) or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number, at least 1")
        sample_names = getattr(X, "index", None)
        detector, X, names = _detector_and_input(estimator, X)
        scores = -detector.score_samples(X)
        worst = np.argsort(-scores, kind="stable")[:n_samples]
        X_worst = _safe_indexing(X, worst)
        return cls(
            scores=scores,
            threshold=-detector.offset_,
            worst=worst,
            contributions=detector.feature_scores(X_worst),
            feature_names=names,
            sample_names=None if sample_names is None else sample_names[worst],
            feature_values=_categories(detector, X_worst),
        ).plot(ax, n_features=n_features, **hist_kw)

    def plot(self, ax: Any = None, *, n_features: int = 5, **hist_kw: Any) -> Self:
        """Draw the histogram, and below it the features of the worst samples.

        Parameters
        ----------
        ax : matplotlib Axes, or a pair of them, default=None
            Axes for the histogram, and for the features. On a single one only the
            histogram is drawn. None creates a new figure.

        n_features : int, default=5
            Number of features that are drawn of each sample.

        **hist_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.hist`.

        Returns
        -------
        display : OutlierDisplay
            The same display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        n_drawn = min(n_features, self.contributions.shape[1])
        n_bars = len(self.worst) * (n_drawn + 1)
        heights = _HISTOGRAM_HEIGHT, _AROUND + _BAR_HEIGHT * n_bars
        caller, panels = f"{type(self).__name__}.plot", "the histogram and the features"
        self.ax_, self.feature_ax_ = check_two_axes(
            ax,
            caller,
            panels,
            shape=(2, 1),
            figsize=(_WIDTH, sum(heights)),
            height_ratios=heights,
        )
        self.figure_ = self.ax_.figure
        self._draw_scores(hist_kw)
        self.bars_: list[Any] = []
        if self.feature_ax_ is not None:
            self._draw_features(self.feature_ax_, n_drawn)
        return self

    def _draw_scores(self, hist_kw: dict[str, Any]) -> None:
        from matplotlib.patches import Patch

        ax, scores = self.ax_, np.asarray(self.scores, dtype=np.float64)
        least = scores[scores > 0].min(initial=self.threshold)
        scores = np.maximum(scores, least)
        # Some are many times the threshold.
        defaults: dict[str, Any] = {"bins": _log_bins(scores), "color": _NORMAL_COLOR}
        _, self.bins_, self.patches_ = ax.hist(
            scores, **style(defaults, hist_kw, Patch)
        )
        n_above = np.count_nonzero(self.scores > self.threshold)
        self.line_ = ax.axvline(
            self.threshold,
            color=_OUTLIER_COLOR,
            linestyle="--",
            label=f"threshold: {n_above} of {len(scores)} above",
        )
        ax.set(xscale="log", yscale="log", xlabel="Score", ylabel="Samples")
        _label_few_decades(ax)
        bottom, top = ax.get_ylim()
        ax.set_ylim(bottom / _ROOM_BELOW, top * (top / bottom) ** _ROOM_FOR_LEGEND)
        ax.legend(loc="upper right")

    def _draw_features(self, ax: Axes, n_drawn: int) -> None:
        ticks: list[float] = []
        labels: list[str] = []
        names = self.worst if self.sample_names is None else self.sample_names
        top = 0
        values = self.feature_values
        if values is None:
            values = np.full(self.contributions.shape, None)
        of_samples = zip(
            self.worst, np.asarray(names), self.contributions, values, strict=True
        )
        for number, name, row, of_features in of_samples:
            most = np.argsort(-row, kind="stable")[:n_drawn]
            places = top + 1 + np.arange(len(most))
            shares = row[most] / max(row.sum(), np.finfo(np.float64).tiny)
            self.bars_.append(ax.barh(places, shares, color=_OUTLIER_COLOR))
            title = f"sample {_short(name)}, score {_number(self.scores[number])}"
            ax.text(0, top, f" {title}", va="center", weight="bold", size="small")
            ticks.extend(places)
            labels.extend(
                _short(name if value is None else f"{name}={value}")
                for name, value in zip(
                    self.feature_names[most], of_features[most], strict=True
                )
            )
            top = places[-1] + 1
        ax.set_yticks(ticks, labels)
        ax.set_ylim(top - 0.4, -0.6)
        ax.set_xlim(0, 1)
        ax.set_xlabel("Share of the sample's score")


def _log_bins(scores: Floats) -> Floats:
    """Edges of bins at equal ratios."""
    low, high = scores.min(), scores.max()
    if low == high:
        low, high = low / 2, high * 2
    bins: Floats = np.geomspace(low, high, _N_BINS + 1)
    return bins


def _label_few_decades(ax: Axes) -> None:
    """Label 1, 2 and 5 of few decades, where matplotlib's labels would overlap."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_xlim()
    if _NARROW * low < high < _FEW_DECADES * low:
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda score, _: f"{score:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())


def _number(score: float) -> str:
    return f"{score:,.0f}" if 1000 <= score < 1e6 else f"{score:.3g}"


def _short(name: object) -> str:
    text = str(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def _categories(detector: AutoencoderOutlierDetector, X: Any) -> NDArray[Any] | None:
    """Values of the columns of categories, None for others; None without categories."""
    table = detector._table
    if table is None:
        return None
    frame = frame_of(X) or ArrayFrame(X)
    values = np.full((frame.n_rows, len(table.dtypes)), None)
    for column in table.categories:
        codes, levels = frame.levels(int(column))
        values[:, column] = [levels[code] if code >= 0 else None for code in codes]
    return values


def _detector_and_input(
    estimator: Any, X: Any
) -> tuple[AutoencoderOutlierDetector, Any, NDArray[Any]]:
    """Return the detector at the end of an estimator, what it sees, and names of it."""
    names = None
    while not isinstance(estimator, AutoencoderOutlierDetector):
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline) and len(estimator) > 1:
            before, estimator = estimator[:-1], estimator[-1]
            X = before.transform(X)
            if hasattr(before, "get_feature_names_out"):
                names = before.get_feature_names_out()
        else:
            raise TypeError(
                f"estimator ends with a {name_of(estimator)}: pass a fitted "
                "AutoencoderOutlierDetector, or a Pipeline that ends with one"
            )
    if names is None or len(names) != estimator.n_features_in_:
        names = _check_feature_names_in(estimator)
    return estimator, X, names
