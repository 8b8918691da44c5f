"""Weights of the units of the first layer, as images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_scalar

from skae._model.any_transformer import name_of
from skae._names import check_name
from skae._typing import Floats
from skae.inspection._drawing import (
    check_axes,
    check_image_shape,
    check_matplotlib,
    mosaic,
    mosaic_size,
    remove_frame,
)
from skae.inspection._models import check_fitted, last_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ORDERS = ("strongest", "first")
# Norms whose relative difference is smaller are equal: all principal components have
# the norm 1, up to rounding errors.
_NORM_TOLERANCE = 1e-3
# Color between images, because white is a weight of zero.
_GAP_COLOR = "0.8"


class ComponentsDisplay:
    """Weights of the first layer as images, one for each unit.

    :meth:`from_estimator` creates it from a fitted estimator.

    Parameters
    ----------
    components : array-like of shape (n_images, n_features)
        Weights of the units, one unit per row.

    image_shape : tuple of int, default=None
        Height and width of an image. None: images are square.

    indices : ndarray of shape (n_images,), default=None
        Indices of the units in their layer.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        All images as one, row by row, with NaN between them; the weights of each are
        divided by the largest magnitude in it. :meth:`plot` sets this and the following
        attributes.

    colorbar_ : matplotlib Colorbar
        Color bar of the weights.

    ax_ : matplotlib Axes
        Axes with the images.

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
    >>> display = ComponentsDisplay(components=[[1, -2, 0, 0], [0, 4, 0, 2]]).plot()
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
    ) -> None:
        self.components = components
        self.image_shape = image_shape
        self.indices = indices

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        n_components: int = 25,
        order: str = "strongest",
        image_shape: tuple[int, int] | None = None,
        ax: Axes | None = None,
        **imshow_kw: Any,
    ) -> Self:
        """Draw the weights of a fitted estimator's first layer.

        Parameters
        ----------
        estimator : object
            Fitted estimator with `coefs_`, of which the first are drawn, or with
            `components_`, such as PCA and NMF; or a Pipeline whose last step it is, or
            a fitted search for one.

        n_components : int, default=25
            Largest number of units to draw.

        order : {"strongest", "first"}, default="strongest"
            Which units: those whose weights have the largest Euclidean norm, sorted by
            it; or the first. If all norms are equal, as for principal components,
            "strongest" draws the first, too.

        image_shape : tuple of int, default=None
            Height and width of an image. None: images are square.

        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **imshow_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.imshow`.

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
        check_name(order, "order", _ORDERS)
        check_fitted(estimator)
        model = last_step(estimator)
        if getattr(model, "_table", None) is not None:
            raise ValueError(
                f"{name_of(model)} was fitted to a table with categories, whose "
                "columns are no pixels: coefs_[0] has a row for each of input_names_"
            )
        weights = _weights(model)
        indices = np.arange(len(weights))
        if order == "strongest":
            norms = np.linalg.norm(weights, axis=1)
            if norms.min() < (1 - _NORM_TOLERANCE) * norms.max():
                indices = np.argsort(-norms, kind="stable")
        indices = indices[:n_components]
        display = cls(
            components=weights[indices], image_shape=image_shape, indices=indices
        )
        return display.plot(ax, **imshow_kw)

    def plot(self, ax: Axes | None = None, **imshow_kw: Any) -> Self:
        """Draw an image of each unit's weights, and a color bar.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **imshow_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.imshow`.

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
        n_images, n_features = components.shape
        shape = check_image_shape(self.image_shape, n_features)
        n_columns = math.ceil(math.sqrt(n_images * shape[0] / shape[1]))
        n_columns = min(n_columns, n_images)
        largest = np.abs(components).max(axis=1, keepdims=True)
        scaled = components / np.where(largest > 0, largest, 1.0)
        picture, _ = mosaic(scaled.reshape(-1, *shape), n_columns)
        width, height = mosaic_size(picture, shape)
        figsize = max(width, 2) + 1, max(height, 2)  # with room for the color bar
        ax = check_axes(ax, f"{type(self).__name__}.plot", figsize)
        import matplotlib as mpl

        cmap = mpl.colormaps["RdBu_r"].with_extremes(bad=_GAP_COLOR)
        defaults = {"cmap": cmap, "vmin": -1, "vmax": 1}
        self.image_ = ax.imshow(picture, **{**defaults, **imshow_kw})
        remove_frame(ax)
        ax.set_yticks([])
        self.colorbar_ = ax.figure.colorbar(
            self.image_,
            ax=ax,
            ticks=[-1, 0, 1],
            label="Weight / unit's largest",
        )
        self.ax_, self.figure_ = ax, ax.figure
        return self


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
