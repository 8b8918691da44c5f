"""Plots of codes: points along one, two or three entries."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.validation import check_consistent_length

from skae._data.frames import frame_of
from skae._model.any_transformer import name_of
from skae._typing import Floats, MatrixLike
from skae.inspection._drawing import (
    check_axes,
    check_matplotlib,
    code_name,
    is_whole,
)
from skae.inspection._models import check_fitted
from skae.inspection._profiles import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.colorbar import Colorbar
    from matplotlib.legend import Legend

# Colors of more classes would be hard to tell apart.
_MAX_CLASSES = 10
# Area of a point, in square typographic points, with few and with many samples.
_MAX_AREA, _MIN_AREA = 25, 3
# Entries of a plot in space, and from where it is seen: axes do not hide one another.
_SPACE = 3
_VIEW = {"elev": 22, "azim": -55}
_ROOM_IN_SPACE, _BAR_PAD = 0.07, 0.05
# Strips: widths in units of their distance, and how their densities are counted.
_STRIP_WIDTH, _N_BINS = 0.85, 60
_KERNEL = np.array([1.0, 2.0, 3.0, 2.0, 1.0])
_GOLDEN_RATIO = (1 + 5**0.5) / 2


class LatentSpaceDisplay:
    """Plot of one, two or three entries of the code, colored by labels or by a number.

    Two entries are the axes of a scatter plot, and three those of one in space. A
    single entry is drawn against y: a strip of points for each class, as wide as its
    samples are dense, or the numbers.

    :meth:`from_estimator` creates it from a fitted transformer.

    Parameters
    ----------
    code : array-like of shape (n_samples, n_components)
        Codes of the samples.

    y : array-like of shape (n_samples,), default=None
        Labels or numbers that color the samples: up to ten classes get a legend, more
        classes and other numbers a color bar.

    components : tuple of int, default=None
        Indices of the entries that are drawn, one to three: the horizontal one, the
        vertical one, and the one in depth. None: the first two, or the only one.

    component_names : array-like of str of shape (n_components,), default=None
        Names of the code's entries. None: "code 0", "code 1", and so on.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        The points, in the order of the samples. :meth:`plot` sets this and the
        following attributes.

    legend_ : matplotlib Legend or None
        Colors of the classes. None for strips, which have names.

    colorbar_ : matplotlib Colorbar or None
        Colors of the numbers.

    ax_ : matplotlib Axes
        Axes with the points.

    figure_ : matplotlib Figure
        Figure with the axes.

    See Also
    --------
    LatentSpaceDisplay.from_estimator : Creates the display from a fitted transformer.

    Examples
    --------
    >>> from skae.inspection import LatentSpaceDisplay
    >>> display = LatentSpaceDisplay(code=[[0, 1], [2, 3]], y=["a", "b"]).plot()
    >>> [text.get_text() for text in display.legend_.get_texts()]
    ['a', 'b']
    """

    def __init__(
        self,
        *,
        code: MatrixLike,
        y: ArrayLike | None = None,
        components: tuple[int, ...] | int | None = None,
        component_names: Any = None,
    ) -> None:
        self.code = code
        self.y = y
        self.components = components
        self.component_names = component_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        components: tuple[int, ...] | int | None = None,
        ax: Axes | None = None,
        **scatter_kw: Any,
    ) -> Self:
        """Draw the codes of samples from a fitted transformer.

        Parameters
        ----------
        estimator : object
            Fitted transformer: an :class:`~skae.AutoencoderTransformer`, PCA or
            similar, a Pipeline, or a fitted search.

        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Samples to encode.

        y : array-like of shape (n_samples,) or str, default=None
            Labels or numbers that color the samples: up to ten classes get a legend,
            more classes and other numbers a color bar. Its title is the name of a
            Series. A string is the name of a column of X, if that is a dataframe.

        components : tuple of int, default=None
            Indices of the entries that are drawn, one to three: the horizontal one, the
            vertical one, and the one in depth. None: the first two, or the only one.

        ax : matplotlib Axes, default=None
            Axes to draw on, for three entries with ``projection="3d"``. None creates a
            new figure.

        **scatter_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : LatentSpaceDisplay
            The display.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the transformer is not fitted.
        TypeError
            If it is no estimator, or has no ``transform``.
        ValueError
            If the code lacks the entries, if X cannot be transformed, or if y does not
            match it.
        ImportError
            If matplotlib is not installed.

        See Also
        --------
        LatentSpaceDisplay : Displays given codes.
        sklearn.manifold.TSNE : Embeds larger codes in a plane.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer
        >>> from skae.inspection import LatentSpaceDisplay
        >>> iris = load_iris()
        >>> model = AutoencoderTransformer(max_iter=20, random_state=0).fit(iris.data)
        >>> display = LatentSpaceDisplay.from_estimator(
        ...     model, iris.data, iris.target_names[iris.target]
        ... )
        >>> display.ax_.get_xlabel()
        'code 0'
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_fitted(estimator)
        if not hasattr(estimator, "transform"):
            raise TypeError(
                f"{name_of(estimator)} has no transform: pass a transformer, such as "
                "AutoencoderTransformer or PCA, or a Pipeline that ends in one"
            )
        display = cls(
            code=_dense_code(estimator.transform(X)),
            y=_column(X, y) if isinstance(y, str) else y,
            components=components,
        )
        return display.plot(ax, **scatter_kw)

    def plot(self, ax: Axes | None = None, **scatter_kw: Any) -> Self:
        """Draw a point for each sample.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on, for three entries with ``projection="3d"``. None creates a
            new figure.

        **scatter_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : LatentSpaceDisplay
            The same display.

        Raises
        ------
        ValueError
            If the code lacks the entries, or if y does not match it.
        ImportError
            If matplotlib is not installed.
        """
        code = _dense_code(self.code)
        entries = _check_components(self.components, code.shape[1])
        classes, values = None, None
        if self.y is not None:
            classes, values = _classes_or_values(self.y)
            check_consistent_length(code, values)
            if not {"c", "color"}.isdisjoint(scatter_kw):
                raise ValueError(
                    "y sets the colors of the points: pass either y, or c or color"
                )
        names = [self._name_of(entry) for entry in entries]
        points, title = list(code[:, entries].T), getattr(self.y, "name", None)
        is_strips = len(entries) == 1 and (values is None or classes is not None)
        if is_strips:
            points.append(_strips(points[0], values))
        elif len(entries) == 1:
            points.append(values)
            names.append("y" if title is None else str(title))
        caller, n_axes = f"{type(self).__name__}.plot", len(points)
        ax = (_check_axes_in_space if n_axes == _SPACE else check_axes)(ax, caller)
        area = np.clip(15_000 / len(code), _MIN_AREA, _MAX_AREA)
        defaults = {"s": area, "alpha": 0.8}
        if values is not None:
            defaults["c"] = values
            defaults |= _colors(classes)
        self.scatter_ = ax.scatter(*points, **{**defaults, **scatter_kw})
        self.legend_ = self.colorbar_ = None
        if is_strips:
            _name_strips(ax, classes, title)
        elif classes is not None and len(classes) <= _MAX_CLASSES:
            self.legend_ = _add_legend(ax, self.scatter_, classes, title)
        elif values is not None and len(entries) > 1:
            self.colorbar_ = _add_colorbar(ax, self.scatter_, classes, title)
        for axis, name in zip("xyz", names, strict=False):
            ax.set(**{f"{axis}label": name})
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _name_of(self, component: int) -> str:
        if self.component_names is None:
            return code_name(component)
        return str(self.component_names[component])


def _check_axes_in_space(ax: Any, caller: str) -> Any:
    """Return axes of three dimensions, or those of a new figure."""
    check_matplotlib(caller)
    import matplotlib.pyplot as plt

    if ax is None:
        subplot_kw = {"projection": "3d", **_VIEW}
        return plt.subplots(layout="constrained", subplot_kw=subplot_kw)[1]
    if not hasattr(check_axes(ax, caller), "zaxis"):
        raise ValueError(
            "components has three entries, but ax is flat: pass axes made with "
            'projection="3d", or None for a new figure'
        )
    return ax


def _strips(code: Floats, numbers_of_classes: NDArray[Any] | None) -> Floats:
    """Return heights of points, around the numbers of their classes.

    A strip is as wide as its samples are dense there, relative to the densest strip.
    """
    if numbers_of_classes is None:
        numbers_of_classes = np.zeros(len(code), dtype=np.intp)
    edges = np.linspace(code.min(), code.max(), _N_BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    spread, densest = np.empty(len(code)), np.empty(numbers_of_classes.max() + 1)
    for number in range(len(densest)):
        chosen = numbers_of_classes == number
        counts, _ = np.histogram(code[chosen], edges)
        smooth = np.convolve(counts, _KERNEL, mode="same")
        density = np.interp(code[chosen], middles, smooth)
        densest[number] = density.max(initial=np.finfo(np.float64).tiny)
        # Evenly, whatever their number: multiples of the golden ratio.
        places = (np.arange(chosen.sum()) * _GOLDEN_RATIO) % 1 - 0.5
        spread[chosen] = density / densest[number] * places
    return numbers_of_classes + _STRIP_WIDTH * spread


def _name_strips(ax: Axes, classes: NDArray[Any] | None, title: str | None) -> None:
    """Name the strips at the left; a single one has no name."""
    if classes is None:
        ax.set_yticks([])
        ax.set_ylim(-0.5, 0.5)
        return
    ax.set_yticks(range(len(classes)), labels=[short(_text(name)) for name in classes])
    ax.set_ylim(len(classes) - 0.5, -0.5)
    ax.set_ylabel(title or "")


def _column(X: Any, name: str) -> Any:
    """Return a column of a dataframe."""
    frame = frame_of(X)
    if frame is None or frame.names is None or name not in frame.names:
        raise ValueError(
            f"y={name!r} is no column of X: pass the name of a dataframe's column, or "
            "a label or number for each sample"
        )
    return X[name]


def _dense_code(code: Any) -> NDArray[Any]:
    code = check_array(code, accept_sparse=True, input_name="code")
    dense: NDArray[Any] = code if isinstance(code, np.ndarray) else code.toarray()
    return dense


def _check_components(components: Any, n_components: int) -> list[int]:
    """Return the indices of one to three entries of the code."""
    if components is None:
        return [0, 1][:n_components]
    try:
        entries = [components] if is_whole(components) else list(components)
    except TypeError:
        entries = []
    if (
        not 1 <= len(entries) <= _SPACE
        or not all(is_whole(i) for i in entries)
        or not all(0 <= i < n_components for i in entries)
        or len(set(entries)) < len(entries)
    ):
        raise ValueError(
            f"components={components!r} must be one to three different numbers from 0 "
            f"to {n_components - 1}: the code has n_components={n_components} entries"
        )
    return entries


def _classes_or_values(y: Any) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """Return classes and each sample's index among them; or None and numbers."""
    y = column_or_1d(y)
    if y.dtype.kind not in "biufOUS":
        raise ValueError(f"y has dtype {y.dtype}: pass labels or numbers")
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")
        if np.any(y != np.round(y)):
            return None, y
    try:
        classes, numbers_of_classes = np.unique(y, return_inverse=True)
    except TypeError:  # labels without an order
        classes, numbers_of_classes = np.unique(y.astype(str), return_inverse=True)
    if classes.dtype.kind in "iuf" and len(classes) > _MAX_CLASSES:
        return None, y
    return classes, numbers_of_classes


def _colors(classes: NDArray[Any] | None) -> dict[str, Any]:
    """Return arguments for a scatter of numbers, or of classes."""
    if classes is None or len(classes) > _MAX_CLASSES:
        return {"cmap": "viridis"}
    import matplotlib as mpl
    from matplotlib.colors import TABLEAU_COLORS, ListedColormap

    cycle = mpl.rcParams["axes.prop_cycle"].by_key().get("color", [])
    if len(cycle) < len(classes):
        cycle = list(TABLEAU_COLORS)  # matplotlib's own
    limits = {"vmin": -0.5, "vmax": len(classes) - 0.5}
    return {"cmap": ListedColormap(cycle[: len(classes)]), **limits}


def _add_legend(
    ax: Axes, scatter: PathCollection, classes: NDArray[Any], title: str | None
) -> Legend:
    """Name the classes beside the axes, where there are no points."""
    from matplotlib.lines import Line2D

    points = partial(Line2D, [], [], linestyle="", marker="o")
    colors = scatter.to_rgba(np.arange(len(classes)))
    handles = [
        points(color=color, label=_text(name))
        for color, name in zip(colors, classes, strict=True)
    ]
    return ax.legend(
        handles=handles,
        title=title,
        loc="upper left",
        bbox_to_anchor=(1 + _room(ax), 1),
    )


def _add_colorbar(
    ax: Axes, scatter: PathCollection, classes: NDArray[Any] | None, title: str | None
) -> Colorbar:
    colorbar = ax.figure.colorbar(
        scatter, ax=ax, label=title or "", pad=0.05 + _room(ax)
    )
    # Transparent points do not need a transparent color bar, which is hard to read.
    solids: Any = colorbar.solids  # None only for contour lines
    solids.set_alpha(1)
    if classes is not None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        def name_of(value: float, _: object) -> str:
            number = round(value)
            return _text(classes[number]) if 0 <= number < len(classes) else ""

        colorbar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        colorbar.ax.yaxis.set_major_formatter(FuncFormatter(name_of))
    return colorbar


def _room(ax: Axes) -> float:
    """Return the share of the axes for labels at the right, as plots in space have."""
    return _ROOM_IN_SPACE if hasattr(ax, "zaxis") else 0.0


def _text(label: object) -> str:
    """Return a label as text: 3.0 is the class 3."""
    return f"{label:g}" if isinstance(label, np.floating) else str(label)
