"""Scatter plots of codes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.validation import check_consistent_length

from skae._data.frames import frame_of
from skae._model.any_transformer import name_of
from skae._typing import MatrixLike
from skae.inspection._drawing import check_axes, check_matplotlib, is_whole
from skae.inspection._models import check_fitted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.colorbar import Colorbar
    from matplotlib.legend import Legend

# Colors of more classes would be hard to tell apart.
_MAX_CLASSES = 10
# Area of a point, in square typographic points, with few and with many samples.
_MAX_AREA, _MIN_AREA = 25, 3


class LatentSpaceDisplay:
    """Scatter plot of two entries of the code, colored by labels or by a number.

    :meth:`from_estimator` creates it from a fitted transformer.

    Parameters
    ----------
    code : array-like of shape (n_samples, n_components)
        Codes of the samples.

    y : array-like of shape (n_samples,), default=None
        Labels or numbers that color the samples: up to ten classes get a legend, more
        classes and other numbers a color bar.

    components : tuple of int, default=(0, 1)
        Indices of the two entries: the horizontal and the vertical one.

    component_names : array-like of str of shape (n_components,), default=None
        Names of the code's entries. None numbers them.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        The points, in the order of the samples. :meth:`plot` sets this and the
        following attributes.

    legend_ : matplotlib Legend or None
        Colors of the classes.

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
        components: tuple[int, int] = (0, 1),
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
        components: tuple[int, int] = (0, 1),
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

        components : tuple of int, default=(0, 1)
            Indices of the two entries of the code: the horizontal and the vertical one.

        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

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
            If the code is a single number or lacks the entries, if X cannot be
            transformed, or if y does not match it.
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
        'autoencodertransformer0'
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
            component_names=_names_out(estimator),
        )
        return display.plot(ax, **scatter_kw)

    def plot(self, ax: Axes | None = None, **scatter_kw: Any) -> Self:
        """Draw a point for each sample.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **scatter_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : LatentSpaceDisplay
            The same display.

        Raises
        ------
        ValueError
            If the code is a single number or lacks the entries, or if y does not match
            it.
        ImportError
            If matplotlib is not installed.
        """
        code = _dense_code(self.code)
        horizontal, vertical = _check_components(self.components, code.shape[1])
        classes, values = None, None
        if self.y is not None:
            classes, values = _classes_or_values(self.y)
            check_consistent_length(code, values)
            if not {"c", "color"}.isdisjoint(scatter_kw):
                raise ValueError(
                    "y sets the colors of the points: pass either y, or c or color"
                )
        ax = check_axes(ax, f"{type(self).__name__}.plot")
        area = np.clip(15_000 / len(code), _MIN_AREA, _MAX_AREA)
        defaults = {"s": area, "alpha": 0.8}
        if values is not None:
            defaults["c"] = values
            defaults |= _colors(classes)
        self.scatter_ = ax.scatter(
            code[:, horizontal], code[:, vertical], **{**defaults, **scatter_kw}
        )
        self.legend_ = self.colorbar_ = None
        title = getattr(self.y, "name", None)
        if classes is not None and len(classes) <= _MAX_CLASSES:
            self.legend_ = _add_legend(ax, self.scatter_, classes, title)
        elif values is not None:
            self.colorbar_ = _add_colorbar(ax, self.scatter_, classes, title)
        ax.set_xlabel(self._name_of(horizontal))
        ax.set_ylabel(self._name_of(vertical))
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _name_of(self, component: int) -> str:
        if self.component_names is None:
            return f"component {component}"
        return str(self.component_names[component])


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
    if dense.shape[1] < 2:
        raise ValueError(
            "The code is a single number (n_components=1), but a scatter needs two: "
            "fit with n_components >= 2"
        )
    return dense


def _names_out(estimator: Any) -> Any:
    """Return the names of the code's entries, or None if there are none."""
    if hasattr(estimator, "best_estimator_"):  # a search has none itself
        return _names_out(estimator.best_estimator_)
    try:
        return estimator.get_feature_names_out()
    except AttributeError:  # of the estimator, or of a step of a Pipeline
        return None


def _check_components(components: Any, n_components: int) -> tuple[int, int]:
    """Return the indices of two entries of the code."""
    try:
        pair = tuple(components)
    except TypeError:
        pair = ()
    if (
        len(pair) != 2
        or not all(is_whole(i) for i in pair)
        or not all(0 <= i < n_components for i in pair)
        or pair[0] == pair[1]
    ):
        raise ValueError(
            f"components={components!r} must be two different numbers from 0 to "
            f"{n_components - 1}: the code has n_components={n_components} entries"
        )
    return pair[0], pair[1]


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
        handles=handles, title=title, loc="upper left", bbox_to_anchor=(1, 1)
    )


def _add_colorbar(
    ax: Axes, scatter: PathCollection, classes: NDArray[Any] | None, title: str | None
) -> Colorbar:
    colorbar = ax.figure.colorbar(scatter, ax=ax, label=title or "")
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


def _text(label: object) -> str:
    """Return a label as text: 3.0 is the class 3."""
    return f"{label:g}" if isinstance(label, np.floating) else str(label)
