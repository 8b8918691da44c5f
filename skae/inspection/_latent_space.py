"""Where rows lie in the space of codes."""

from functools import partial

import numpy as np
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.validation import check_consistent_length

from skae.inspection._drawing import check_axes, check_matplotlib, is_whole
from skae.inspection._models import check_fitted
from skae.metrics import _name

# With more classes colours cannot be told apart.
_MAX_CLASSES = 10
# Area of a point, in squares of a typographic point, for few and for many rows.
_MAX_AREA, _MIN_AREA = 25, 3


class LatentSpaceDisplay:
    """Scatter of two entries of the code, coloured by labels or by a number.

    :meth:`from_estimator` makes it of a fitted transformer.

    Parameters
    ----------
    code : array-like of shape (n_samples, n_components)
        Codes of the rows.

    y : array-like of shape (n_samples,), default=None
        What colours the rows: labels of at most ten classes get a legend, more of them
        and other numbers a colour bar.

    components : tuple of int, default=(0, 1)
        Numbers of the two entries, from 0: the horizontal and the vertical one.

    component_names : array-like of str of shape (n_components,), default=None
        Names of the code's entries. None numbers them.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        The points, in the order of the rows; as what follows, after :meth:`plot`.

    legend_ : matplotlib Legend or None
        Colours of the classes.

    colorbar_ : matplotlib Colorbar or None
        Colours of the numbers.

    ax_ : matplotlib Axes
        Axes with the points.

    figure_ : matplotlib Figure
        Their figure.

    See Also
    --------
    LatentSpaceDisplay.from_estimator : Makes it of a fitted transformer.

    Examples
    --------
    >>> from skae.inspection import LatentSpaceDisplay
    >>> display = LatentSpaceDisplay(code=[[0, 1], [2, 3]], y=["a", "b"]).plot()
    >>> [text.get_text() for text in display.legend_.get_texts()]
    ['a', 'b']
    """

    def __init__(self, *, code, y=None, components=(0, 1), component_names=None):
        self.code = code
        self.y = y
        self.components = components
        self.component_names = component_names

    @classmethod
    def from_estimator(
        cls, estimator, X, y=None, *, components=(0, 1), ax=None, **scatter_kw
    ):
        """Draw the codes that a fitted transformer gives rows.

        Parameters
        ----------
        estimator : object
            Fitted transformer: an :class:`~skae.AutoencoderTransformer`, PCA or the
            like, a Pipeline, or a fitted search.

        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Rows to encode.

        y : array-like of shape (n_samples,), default=None
            What colours the rows: labels of at most ten classes get a legend, more of
            them and other numbers a colour bar. The name of a Series is its title.

        components : tuple of int, default=(0, 1)
            Numbers of the two entries of the code, from 0: the horizontal and the
            vertical one.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.

        **scatter_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : LatentSpaceDisplay
            What was drawn.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the transformer is not fitted.
        TypeError
            If it is no estimator, or has no ``transform``.
        ValueError
            If the code is a single number, if it has no such entries, if X cannot be
            transformed, or if y does not go with it.
        ImportError
            If matplotlib is not installed.

        See Also
        --------
        LatentSpaceDisplay : Takes codes.
        sklearn.manifold.TSNE : Draws larger codes in a plane.

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
                f"{_name(estimator)} has no transform: pass a transformer, such as "
                "AutoencoderTransformer or PCA, or a Pipeline that ends in one"
            )
        display = cls(
            code=_dense_code(estimator.transform(X)),
            y=y,
            components=components,
            component_names=_names_out(estimator),
        )
        return display.plot(ax, **scatter_kw)

    def plot(self, ax=None, **scatter_kw):
        """Draw a point for each row.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.

        **scatter_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : LatentSpaceDisplay
            The display itself.

        Raises
        ------
        ValueError
            If the code is a single number, if it has no such entries, or if y does not
            go with it.
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
                    "y gives the points their colours: pass either y, or c or color"
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

    def _name_of(self, component):
        if self.component_names is None:
            return f"component {component}"
        return self.component_names[component]


def _dense_code(code):
    code = check_array(code, accept_sparse=True, input_name="code")
    code = code if isinstance(code, np.ndarray) else code.toarray()
    if code.shape[1] < 2:
        raise ValueError(
            "The code is a single number (n_components=1), but a scatter needs two: "
            "fit with n_components >= 2"
        )
    return code


def _names_out(estimator):
    """Return the names of the code's entries, or None without any."""
    if hasattr(estimator, "best_estimator_"):  # a search has none itself
        return _names_out(estimator.best_estimator_)
    try:
        return estimator.get_feature_names_out()
    except AttributeError:  # or a step of a Pipeline has none
        return None


def _check_components(components, n_components):
    """Return two numbers of entries of the code."""
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
    return pair


def _classes_or_values(y):
    """Return classes and each row's number among them; or None and numbers."""
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


def _colors(classes):
    """Return arguments of a scatter whose values are numbers, or those of classes."""
    if classes is None or len(classes) > _MAX_CLASSES:
        return {"cmap": "viridis"}
    import matplotlib as mpl
    from matplotlib.colors import TABLEAU_COLORS, ListedColormap

    cycle = mpl.rcParams["axes.prop_cycle"].by_key().get("color", [])
    if len(cycle) < len(classes):
        cycle = list(TABLEAU_COLORS)  # matplotlib's own
    limits = {"vmin": -0.5, "vmax": len(classes) - 0.5}
    return {"cmap": ListedColormap(cycle[: len(classes)]), **limits}


def _add_legend(ax, scatter, classes, title):
    """Name the classes beside the axes, where no point is."""
    from matplotlib.lines import Line2D

    points = partial(Line2D, [], [], linestyle="", marker="o")
    handles = [
        points(color=scatter.to_rgba(i), label=_text(name))
        for i, name in enumerate(classes)
    ]
    return ax.legend(
        handles=handles, title=title, loc="upper left", bbox_to_anchor=(1, 1)
    )


def _add_colorbar(ax, scatter, classes, title):
    colorbar = ax.figure.colorbar(scatter, ax=ax, label=title or "")
    # Colours of single points are hard to see through.
    colorbar.solids.set_alpha(1)
    if classes is not None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        def name_of(value, _):
            number = round(value)
            return _text(classes[number]) if 0 <= number < len(classes) else ""

        colorbar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        colorbar.ax.yaxis.set_major_formatter(FuncFormatter(name_of))
    return colorbar


def _text(label):
    """Return a label as it is read: 3.0 is the class 3."""
    return f"{label:g}" if isinstance(label, np.floating) else str(label)
