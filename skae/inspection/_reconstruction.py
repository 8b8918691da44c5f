"""Images and their reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar

from skae._model.any_transformer import reconstruct, sliceable, tabular_model
from skae._names import Names, hint
from skae._sklearn import _safe_indexing
from skae._typing import Floats, MatrixLike
from skae.inspection._drawing import (
    check_axes,
    check_image_shape,
    check_matplotlib,
    make_room_for_titles,
    mosaic,
    mosaic_size,
    remove_frame,
)
from skae.inspection._models import (
    named_reconstructions,
    reconstructing_models,
    sample_errors,
)
from skae.metrics import reconstruction_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ORIGINALS = "original"
_ORDERS = ("first", "best", "worst")
# No gray, which could be a value.
_MISSING_COLOR = "#ffd8b0"


class ReconstructionDisplay:
    """Images above their reconstructions.

    :meth:`from_estimator` creates it from one or several fitted transformers,
    :meth:`from_predictions` from reconstructions.

    Parameters
    ----------
    originals : ndarray of shape (n_images, n_features)
        Images, as samples of pixels; NaN is a missing one.

    reconstructions : dict of str to ndarray of shape (n_images, n_features)
        Reconstructions of these samples, by name.

    image_shape : tuple of int, default=None
        Height and width of an image. None: images are square.

    indices : ndarray of shape (n_images,), default=None
        Indices of the samples in the data that they were chosen from.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        All images as one: a row of originals, and one for each name below it, with NaN
        between images. :meth:`plot` sets this and the following attributes.

    ax_ : matplotlib Axes
        Axes with the images.

    figure_ : matplotlib Figure
        Figure with the axes.

    See Also
    --------
    ReconstructionDisplay.from_estimator : Creates it from fitted transformers.
    ReconstructionDisplay.from_predictions : Creates it from reconstructions.
    ReconstructionErrorDisplay : Histogram of the errors of all samples.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae.inspection import ReconstructionDisplay
    >>> X = load_digits().data[:5]
    >>> display = ReconstructionDisplay(originals=X, reconstructions={"half": X / 2})
    >>> [label.get_text() for label in display.plot().ax_.get_yticklabels()]
    ['original', 'half']
    """

    def __init__(
        self,
        *,
        originals: NDArray[Any],
        reconstructions: Mapping[str, NDArray[Any]],
        image_shape: tuple[int, int] | None = None,
        indices: NDArray[np.intp] | None = None,
    ) -> None:
        self.originals = originals
        self.reconstructions = reconstructions
        self.image_shape = image_shape
        self.indices = indices

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        *,
        n_images: int = 10,
        which: str | ArrayLike = "first",
        image_shape: tuple[int, int] | None = None,
        ax: Axes | None = None,
        **imshow_kw: Any,
    ) -> Self:
        """Draw images and their reconstructions by fitted transformers.

        Parameters
        ----------
        estimator : object, or dict of str to object
            Fitted transformer with an ``inverse_transform``: an
            :class:`~skae.AutoencoderTransformer`, PCA or similar, or a Pipeline; or
            several by name, with a row of images for each.

        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Samples of pixels to choose from.

        n_images : int, default=10
            Largest number of images.

        which : {"first", "best", "worst"} or array-like of int, default="first"
            Samples to draw: the first; those that the first transformer reconstructs
            with the lowest or with the highest squared errors, sorted by these
            (samples without any entry come last); or given indices, and then all of
            them.

        image_shape : tuple of int, default=None
            Height and width of an image. None: images are square.

        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **imshow_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.imshow`. By default,
            `cmap` is "gray_r", and `vmin` and `vmax` are those of the originals. If
            these have missing pixels (NaN), "gray_r" has another color for them, and
            for what is between images.

        Returns
        -------
        display : ReconstructionDisplay
            The display. Its `indices` are those of the samples.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If a transformer is not fitted.
        TypeError
            If one is no estimator, or cannot reconstruct X.
        ValueError
            If a parameter has an invalid value, or X cannot be transformed.
        ImportError
            If matplotlib is not installed.

        See Also
        --------
        ReconstructionDisplay.from_predictions : Displays given reconstructions.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.decomposition import PCA
        >>> from skae import AutoencoderTransformer
        >>> from skae.inspection import ReconstructionDisplay
        >>> X = load_digits().data
        >>> models = {
        ...     "autoencoder": AutoencoderTransformer(5, max_iter=30).fit(X),
        ...     "PCA": PCA(5).fit(X),
        ... }
        >>> display = ReconstructionDisplay.from_estimator(models, X, which="worst")
        >>> display.indices.shape
        (10,)
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        models = reconstructing_models(estimator)
        X = sliceable(X)
        for model in models.values():
            if tabular_model(model, X) is not None:
                raise ValueError(
                    "X is a table with categories, which are no pixels: see the "
                    "reconstructions by inverse_transform, and draw their errors by "
                    "ReconstructionErrorDisplay"
                )
        image_shape = check_image_shape(image_shape, X.shape[1])

        def squared_errors() -> Floats:
            return reconstruction_error(next(iter(models.values())), X)

        indices = _choose(which, n_images, X.shape[0], squared_errors)
        rows = _safe_indexing(X, indices)
        reconstructions = {}
        for name, model in models.items():
            originals, reconstructions[name] = reconstruct(model, rows)
        display = cls(
            originals=originals,
            reconstructions=reconstructions,
            image_shape=image_shape,
            indices=indices,
        )
        return display.plot(ax, **imshow_kw)

    @classmethod
    def from_predictions(
        cls,
        X: MatrixLike,
        reconstructions: MatrixLike | Mapping[str, MatrixLike],
        *,
        n_images: int = 10,
        which: str | ArrayLike = "first",
        image_shape: tuple[int, int] | None = None,
        ax: Axes | None = None,
        **imshow_kw: Any,
    ) -> Self:
        """Draw images and given reconstructions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples of pixels to choose from.

        reconstructions : array-like of shape (n_samples, n_features), or dict of str \
                to array-like
            Reconstructions; or several by name, with a row of images for each.

        n_images : int, default=10
            Largest number of images.

        which : {"first", "best", "worst"} or array-like of int, default="first"
            Samples to draw: the first; those with the lowest or with the highest
            squared errors of the first reconstructions, sorted by these; or given
            indices, and then all of them.

        image_shape : tuple of int, default=None
            Height and width of an image. None: images are square.

        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **imshow_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.imshow`. By default,
            `cmap` is "gray_r", and `vmin` and `vmax` are those of the originals. If
            these have missing pixels (NaN), "gray_r" has another color for them, and
            for what is between images.

        Returns
        -------
        display : ReconstructionDisplay
            The display. Its `indices` are those of the samples.

        Raises
        ------
        ValueError
            If a parameter has an invalid value, or an array not the shape of X.
        ImportError
            If matplotlib is not installed.

        See Also
        --------
        ReconstructionDisplay.from_estimator : Computes the reconstructions.

        Examples
        --------
        The reconstructions can be any other images, such as corrupted ones:

        >>> import numpy as np
        >>> from sklearn.datasets import load_digits
        >>> from skae.inspection import ReconstructionDisplay
        >>> X = load_digits().data
        >>> noisy = X + np.random.default_rng(0).normal(size=X.shape)
        >>> display = ReconstructionDisplay.from_predictions(X, {"noisy": noisy})
        >>> display.indices
        array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        X, reconstructions = named_reconstructions(X, reconstructions)
        image_shape = check_image_shape(image_shape, X.shape[1])

        def squared_errors() -> Floats:
            first = next(iter(reconstructions.values()))
            return sample_errors(X, first, "squared_error")

        indices = _choose(which, n_images, X.shape[0], squared_errors)
        display = cls(
            originals=X[indices],
            reconstructions={
                name: rows[indices] for name, rows in reconstructions.items()
            },
            image_shape=image_shape,
            indices=indices,
        )
        return display.plot(ax, **imshow_kw)

    def plot(self, ax: Axes | None = None, **imshow_kw: Any) -> Self:
        """Draw a row of originals, and below it a row for each name.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **imshow_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.imshow`. By default,
            `cmap` is "gray_r", and `vmin` and `vmax` are those of the originals. If
            these have missing pixels (NaN), "gray_r" has another color for them, and
            for what is between images.

        Returns
        -------
        display : ReconstructionDisplay
            The same display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        n_images, n_features = np.shape(self.originals)
        shape = check_image_shape(self.image_shape, n_features)
        titles = [_ORIGINALS, *map(str, self.reconstructions)]
        rows = np.concatenate([self.originals, *self.reconstructions.values()])
        picture, middles = mosaic(rows.reshape(-1, *shape), n_columns=n_images)
        is_new = ax is None
        figsize = mosaic_size(picture, shape)
        ax = check_axes(ax, f"{type(self).__name__}.plot", figsize)
        defaults: dict[str, Any] = {"cmap": "gray_r"}
        observed = np.ravel(self.originals)
        if np.isnan(observed).any():
            import matplotlib as mpl

            observed = observed[~np.isnan(observed)]
            defaults["cmap"] = mpl.colormaps["gray_r"].with_extremes(bad=_MISSING_COLOR)
        if len(observed):
            defaults |= {"vmin": observed.min(), "vmax": observed.max()}
        self.image_ = ax.imshow(picture, **{**defaults, **imshow_kw})
        remove_frame(ax)
        ax.set_yticks(middles, labels=titles)
        if is_new:
            make_room_for_titles(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _choose(
    which: str | ArrayLike,
    n_images: int,
    n_rows: int,
    squared_errors: Callable[[], Floats],
) -> NDArray[np.intp]:
    """Return the indices of the samples to draw; among equal errors, the first.

    `squared_errors` is only called if the errors are needed.
    """
    check_scalar(n_images, "n_images", (int, np.integer), min_val=1)
    allowed = f"must be one of {_ORDERS} or an array of indices"
    if isinstance(which, str):
        if which == "first":
            return np.arange(min(n_images, n_rows))
        if which == "best":
            return np.argsort(squared_errors(), kind="stable")[:n_images]
        if which == "worst":
            return np.argsort(-squared_errors(), kind="stable")[:n_images]
        raise ValueError(f"which={which!r} {allowed}.{hint(which, [Names(_ORDERS)])}")
    indices = np.asarray(which)
    if indices.dtype.kind == "b":
        raise ValueError(f"which={which!r} {allowed}: pass np.flatnonzero(mask)")
    if indices.dtype.kind not in "iu" or indices.ndim != 1 or indices.size == 0:
        raise ValueError(f"which={which!r} {allowed}")
    for index in (indices.min(), indices.max()):
        if not 0 <= index < n_rows:
            raise ValueError(
                f"which={which!r} has the index {index}, but the samples have the "
                f"indices 0 to {n_rows - 1}"
            )
    return indices
