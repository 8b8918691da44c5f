"""Weights of the first layer, or what entries of the code do, by feature."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_scalar

from skae._model.any_transformer import name_of
from skae._names import check_name
from skae._typing import Floats
from skae.inspection._drawing import (
    check_axes,
    check_image_shape,
    check_matplotlib,
    code_name,
    mosaic,
    mosaic_size,
    remove_frame,
)
from skae.inspection._features import check_feature_names, order_of_inputs
from skae.inspection._models import check_fitted, last_step
from skae.inspection._profiles import (
    draw_blocks,
    name_columns,
    number_text,
    profile_size,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ORDERS = ("strongest", "first")
_SOURCES = ("weights", "decoder_jacobian")
# Inches of a cell of a heat map, and of the color bar.
_CELL_WIDTH, _BAR_WIDTH = 0.5, 1.4
# For two digits of shares.
_DIGITS = 0.1
# Norms whose relative difference is smaller are equal: all principal components have
# the norm 1, up to rounding errors.
_NORM_TOLERANCE = 1e-3
# Color between images, because white is a weight of zero.
_GAP_COLOR = "0.8"


class ComponentsDisplay:
    """Images of the first layer's weights, or of what entries of the code do.

    There is an image for each unit of the layer, or entry of the code. Where features
    are no pixels, a heat map has a row for each feature and a column for each unit.
    :meth:`from_estimator` creates the display from a fitted estimator.

    Parameters
    ----------
    components : array-like of shape (n_images, n_features)
        Weights of the units, one unit per row.

    image_shape : tuple of int, default=None
        Height and width of an image. None: images are square if the number of features
        is the square of a number from 5 on, and there are no `feature_names`; else a
        heat map is drawn.

    indices : ndarray of shape (n_images,), default=None
        Indices of the units in their layer.

    feature_names : array-like of str of shape (n_features,), default=None
        Names of the features in a heat map. None: x0, x1, and so on.

    source : {"weights", "decoder_jacobian"}, default="weights"
        What the units are: those of the first layer, or entries of the code.

    Attributes
    ----------
    image_ : matplotlib AxesImage or QuadMesh
        All images as one, row by row, with NaN between them, or the heat map. The
        weights of each unit are divided by the largest magnitude among them.
        :meth:`plot` sets this and the following attributes.

    colorbar_ : matplotlib Colorbar
        Color bar of the weights.

    ax_ : matplotlib Axes
        Axes with the images or the heat map.

    figure_ : matplotlib Figure
        Figure with the axes.

    See Also
    --------
    ComponentsDisplay.from_estimator : Creates the display from a fitted estimator.
    ReconstructionDisplay : Images and their reconstructions.

    Examples
    --------
    >>> import numpy as np
    >>> from skae.inspection import ComponentsDisplay
    >>> components = [[1, -2, 0, 0], [0, 4, 0, 2]]
    >>> display = ComponentsDisplay(components=components, image_shape=(2, 2)).plot()
    >>> display.image_.get_array().filled(np.nan)
    array([[ 0.5, -1. ,  nan,  0. ,  1. ],
           [ 0. ,  0. ,  nan,  0. ,  0.5]])
    """

    def __init__(
        self,
        *,
        components: ArrayLike,
        image_shape: tuple[int, int] | None = None,
        indices: NDArray[np.intp] | None = None,
        feature_names: Any = None,
        source: str = "weights",
    ) -> None:
        self.components = components
        self.image_shape = image_shape
        self.indices = indices
        self.feature_names = feature_names
        self.source = source

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        n_components: int = 25,
        order: str | None = None,
        source: str = "weights",
        image_shape: tuple[int, int] | None = None,
        feature_names: Any = None,
        ax: Axes | None = None,
        **imshow_kw: Any,
    ) -> Self:
        """Draw the weights of a fitted estimator's first layer, or what its code does.

        Parameters
        ----------
        estimator : object
            Fitted estimator with `coefs_`, of which the first are drawn, or with
            `components_`, such as PCA and NMF; or a Pipeline whose last step it is, or
            a fitted search for one.

        n_components : int, default=25
            Largest number of units to draw.

        order : {"strongest", "first"}, default=None
            Which units: those whose weights have the largest Euclidean norm, sorted by
            it; or the first. If all norms are equal, as for principal components,
            "strongest" draws the first, too. None: the strongest units, and the first
            entries of the code.

        source : {"weights", "decoder_jacobian"}, default="weights"
            What is drawn: the weights of the first layer; or, for an autoencoder, how
            its reconstruction changes with each entry of the code, at the code of the
            training data's mean
            (:meth:`~skae.AutoencoderTransformer.decoder_jacobian`), with each feature
            divided by `scale_`. Both are the same for principal components.

        image_shape : tuple of int, default=None
            Height and width of an image. None: images are square if the number of
            features is the square of a number from 5 on, the training data had no
            categories, and no `feature_names` are given; else a heat map is drawn.

        feature_names : array-like of str of shape (n_features,), default=None
            Names of the features in a heat map. None: those of the training data.

        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **imshow_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.imshow`, or for
            :meth:`matplotlib.axes.Axes.pcolormesh` in a heat map.

        Returns
        -------
        display : ComponentsDisplay
            The display. Its `indices` are those of the units.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no weights to draw.
        ValueError
            If a parameter has an invalid value.
        ImportError
            If matplotlib is not installed.

        See Also
        --------
        ComponentsDisplay : Displays given weights.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skae import AutoencoderTransformer
        >>> from skae.inspection import ComponentsDisplay
        >>> model = AutoencoderTransformer(hidden_layer_sizes=(30,), max_iter=5)
        >>> model = model.fit(load_digits().data)
        >>> display = ComponentsDisplay.from_estimator(model)
        >>> display.components.shape
        (25, 64)
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_scalar(n_components, "n_components", (int, np.integer), min_val=1)
        check_name(source, "source", _SOURCES)
        if order is None:
            order = "strongest" if source == "weights" else "first"
        check_name(order, "order", _ORDERS)
        check_fitted(estimator)
        model = last_step(estimator)
        weights = _weights(model) if source == "weights" else _derivatives(model)
        indices = np.arange(len(weights))
        if order == "strongest":
            norms = np.linalg.norm(weights, axis=1)
            if norms.min() < (1 - _NORM_TOLERANCE) * norms.max():
                indices = np.argsort(-norms, kind="stable")
        indices = indices[:n_components]
        names, table = feature_names, getattr(model, "_table", None)
        if names is None and table is not None:
            of_inputs = order_of_inputs(table)
            weights = weights[:, of_inputs]
            names = [model.input_names_[i] for i in of_inputs]
        shape = check_image_shape(image_shape, weights.shape[1], names)
        if shape is None and names is None:
            names = _names_in(estimator, weights.shape[1])
        return cls(
            components=weights[indices],
            image_shape=shape,
            indices=indices,
            feature_names=names,
            source=source,
        ).plot(ax, **imshow_kw)

    def plot(self, ax: Axes | None = None, **imshow_kw: Any) -> Self:
        """Draw an image or a column of each unit's weights, and a color bar.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **imshow_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.imshow`, or for
            :meth:`matplotlib.axes.Axes.pcolormesh` in a heat map.

        Returns
        -------
        display : ComponentsDisplay
            The same display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        components = check_array(
            self.components, dtype=np.float64, input_name="components"
        )
        shape = check_image_shape(
            self.image_shape, components.shape[1], self.feature_names
        )
        largest = np.abs(components).max(axis=1, keepdims=True)
        scaled = components / np.where(largest > 0, largest, 1.0)
        if shape is not None:
            self._draw_images(ax, scaled, shape, imshow_kw)
        else:
            self._draw_heat_map(ax, scaled, imshow_kw)
        self.figure_ = self.ax_.figure
        label = "Weight / unit's largest"
        if self.source != "weights":
            label = "Derivative / largest"
        self.colorbar_ = self.figure_.colorbar(
            self.image_, ax=self.ax_, ticks=[-1, 0, 1], label=label
        )
        return self

    def _draw_images(
        self,
        ax: Axes | None,
        scaled: Floats,
        shape: tuple[int, int],
        imshow_kw: dict[str, Any],
    ) -> None:
        n_images = len(scaled)
        n_columns = math.ceil(math.sqrt(n_images * shape[0] / shape[1]))
        n_columns = min(n_columns, n_images)
        picture, _ = mosaic(scaled.reshape(-1, *shape), n_columns)
        width, height = mosaic_size(picture, shape)
        figsize = max(width, 2) + 1, max(height, 2)  # with room for the color bar
        self.ax_ = check_axes(ax, f"{type(self).__name__}.plot", figsize)
        import matplotlib as mpl

        cmap = mpl.colormaps["RdBu_r"].with_extremes(bad=_GAP_COLOR)
        defaults = {"cmap": cmap, "vmin": -1, "vmax": 1}
        self.image_: Any = self.ax_.imshow(picture, **{**defaults, **imshow_kw})
        remove_frame(self.ax_)
        self.ax_.set_yticks([])

    def _draw_heat_map(
        self, ax: Axes | None, scaled: Floats, mesh_kw: dict[str, Any]
    ) -> None:
        n_units, n_features = scaled.shape
        names = check_feature_names(self.feature_names, n_features)
        figsize = profile_size(names, _CELL_WIDTH * n_units + _BAR_WIDTH)
        self.ax_ = check_axes(ax, f"{type(self).__name__}.plot", figsize)
        defaults = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
        texts = [[[number_text(w, _DIGITS) for w in unit] for unit in scaled.T]]
        self.image_, columns = draw_blocks(
            self.ax_,
            scaled.T[np.newaxis],
            names,
            texts,
            is_new=ax is None,
            **{**defaults, **mesh_kw},
        )
        units = range(n_units) if self.indices is None else self.indices
        if self.source == "weights":
            self.ax_.set_xlabel("Unit")
            labels = [str(unit) for unit in units]
        else:
            labels = [code_name(unit) for unit in units]
        name_columns(self.ax_, columns, [labels])


def _names_in(estimator: Any, n_features: int) -> Any:
    """Return the names of what the last step of a fitted estimator sees, or None."""
    names = None
    while hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        with contextlib.suppress(AttributeError):  # a step has no names
            names = estimator[:-1].get_feature_names_out()
    else:
        names = getattr(last_step(estimator), "feature_names_in_", None)
    return names if names is not None and len(names) == n_features else None


def _derivatives(model: Any) -> Floats:
    """Return an autoencoder's derivatives, of shape (n_components, n_features)."""
    if not hasattr(model, "decoder_jacobian"):
        raise TypeError(
            f'{name_of(model)} has no decoder_jacobian: pass source="weights", or an '
            "AutoencoderTransformer"
        )
    jacobian: Floats = model.decoder_jacobian()[0].T / model.scale_
    return jacobian


def _weights(model: Any) -> Floats:
    """Return the weights of the units that see the input, of shape (n_units, n_in)."""
    if hasattr(model, "coefs_"):
        return np.asarray(model.coefs_[0]).T
    if hasattr(model, "components_"):
        return np.asarray(model.components_)
    raise TypeError(
        f"{name_of(model)} has neither coefs_ nor components_. Pass an "
        "AutoencoderTransformer, PCA or similar, a Pipeline whose last step it is, or "
        "a search with refit=True"
    )
