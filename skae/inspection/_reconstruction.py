"""Samples and their reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar

from skae._model.any_transformer import (
    TabularModel,
    dense_rows,
    reconstruct,
    sliceable,
    tabular_model,
)
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
from skae.inspection._features import (
    check_feature_names,
    columns_of_table,
    errors_in_deviations,
    mean_and_deviation,
    means_of_numbers,
    names_of_columns,
)
from skae.inspection._models import (
    named_reconstructions,
    reconstructing_models,
    sample_errors,
)
from skae.inspection._pairs import draw_pairs
from skae.inspection._profiles import profile_size
from skae.metrics import reconstruction_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

_ORIGINALS = "original"
_ORDERS = ("first", "best", "worst")
# Samples that are drawn by default.
_MOST_IMAGES, _MOST_PROFILES = 10, 5
# Inches of a new figure for each sample, and for the legend.
_BAND_WIDTH, _LEGEND_WIDTH = 1.5, 2.3
# No gray, which could be a value.
_MISSING_COLOR = "#ffd8b0"


class ReconstructionDisplay:
    """Images above their reconstructions, or features beside theirs.

    A sample that is no image is drawn as a profile, with a row for each feature:
    numbers are points, and categories are levels, in color where they are wrong.

    :meth:`from_estimator` creates it from one or several fitted transformers,
    :meth:`from_predictions` from reconstructions.

    Parameters
    ----------
    originals : ndarray of shape (n_images, n_features)
        Samples of pixels or other numbers; NaN is a missing one. In arrays of objects,
        columns with text are levels of categories, of which None is a missing one.

    reconstructions : dict of str to ndarray of shape (n_images, n_features)
        Reconstructions of these samples, by name.

    image_shape : tuple of int, default=None
        Height and width of an image. None: images are square if the number of features
        is the square of a number from 5 on, and there are no `feature_names`; else
        profiles are drawn.

    indices : ndarray of shape (n_images,), default=None
        Indices of the samples in the data that they were chosen from.

    feature_names : array-like of str of shape (n_features,), default=None
        Names of the features in a profile. None: x0, x1, and so on.

    feature_means, feature_deviations : array-like of shape (n_features,), default=None
        Means and standard deviations of the features, in which a profile measures
        numbers. None: those of `originals`.

    Attributes
    ----------
    image_ : matplotlib AxesImage or None
        All images as one: a row of originals, and one for each name below it, with NaN
        between images. None for profiles. :meth:`plot` sets this and the following
        attributes.

    lines_ : dict of str to matplotlib Line2D, or None
        Points of profiles: of the originals, as "original", and of the reconstructions
        by name, sample by sample. None for images.

    ax_ : matplotlib Axes
        Axes with the images or profiles.

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
        feature_names: Any = None,
        feature_means: ArrayLike | None = None,
        feature_deviations: ArrayLike | None = None,
    ) -> None:
        self.originals = originals
        self.reconstructions = reconstructions
        self.image_shape = image_shape
        self.indices = indices
        self.feature_names = feature_names
        self.feature_means = feature_means
        self.feature_deviations = feature_deviations

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        *,
        n_images: int | None = None,
        which: str | ArrayLike = "first",
        image_shape: tuple[int, int] | None = None,
        feature_names: Any = None,
        ax: Axes | None = None,
        **imshow_kw: Any,
    ) -> Self:
        """Draw samples and their reconstructions by fitted transformers.

        Parameters
        ----------
        estimator : object, or dict of str to object
            Fitted transformer with an ``inverse_transform``: an
            :class:`~skae.AutoencoderTransformer`, PCA or similar, or a Pipeline; or
            several by name, with a row of images for each.

        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Samples to choose from: pixels, or a table.

        n_images : int, default=None
            Largest number of images or profiles. None: 10 images, or 5 profiles.

        which : {"first", "best", "worst"} or array-like of int, default="first"
            Samples to draw: the first; those that the first transformer reconstructs
            with the lowest or with the highest squared errors, sorted by these
            (samples without any entry come last); or given indices, and then all of
            them.

        image_shape : tuple of int, default=None
            Height and width of an image. None: images are square if the number of
            features is the square of a number from 5 on, X has no categories, and no
            `feature_names` are given; else profiles are drawn.

        feature_names : array-like of str of shape (n_features,), default=None
            Names of the features in a profile. None: those of the columns of X.

        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **imshow_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.imshow`. By default,
            `cmap` is "gray_r", and `vmin` and `vmax` are those of the originals. If
            these have missing pixels (NaN), "gray_r" has another color for them, and
            for what is between images. Profiles take none.

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
        tables = {name: tabular_model(model, X) for name, model in models.items()}
        first_table = next(iter(tables.values()))
        names = feature_names
        if names is None and first_table is not None:
            names = names_of_columns(X)
        shape = check_image_shape(image_shape, X.shape[1], names)
        if shape is not None and first_table is not None:
            raise ValueError(
                f"image_shape={image_shape!r}, but X is a table with categories, which "
                "are no pixels: leave image_shape out"
            )

        def squared_errors() -> Floats:
            first = next(iter(models.values()))
            if shape is not None or first_table is not None:
                return reconstruction_error(first, X)
            errors = reconstruction_error(first, X, per_feature=True)
            return errors_in_deviations(errors, dense_rows(X, allow_nan=True))

        most = _largest_number(n_images, is_images=shape is not None)
        indices = _choose(which, most, X.shape[0], squared_errors)
        rows = _safe_indexing(X, indices)
        originals: NDArray[Any]
        reconstructions: dict[str, NDArray[Any]] = {}
        for name, model in models.items():
            table = tables[name]
            if table is None:
                originals, reconstructions[name] = reconstruct(model, rows)
            else:
                originals = columns_of_table(table, table.matrix(rows))
                reconstructions[name] = columns_of_table(table, table.inputs(rows))
        return cls(
            originals=originals,
            reconstructions=reconstructions,
            image_shape=shape,
            indices=indices,
            **_of_profiles(shape, X, names, first_table),
        ).plot(ax, **imshow_kw)

    @classmethod
    def from_predictions(
        cls,
        X: MatrixLike,
        reconstructions: MatrixLike | Mapping[str, MatrixLike],
        *,
        n_images: int | None = None,
        which: str | ArrayLike = "first",
        image_shape: tuple[int, int] | None = None,
        feature_names: Any = None,
        ax: Axes | None = None,
        **imshow_kw: Any,
    ) -> Self:
        """Draw samples and given reconstructions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to choose from.

        reconstructions : array-like of shape (n_samples, n_features), or dict of str \
                to array-like
            Reconstructions; or several by name, with a row of images for each.

        n_images : int, default=None
            Largest number of images or profiles. None: 10 images, or 5 profiles.

        which : {"first", "best", "worst"} or array-like of int, default="first"
            Samples to draw: the first; those with the lowest or with the highest
            squared errors of the first reconstructions, sorted by these; or given
            indices, and then all of them.

        image_shape : tuple of int, default=None
            Height and width of an image. None: images are square if the number of
            features is the square of a number from 5 on, X has no categories, and no
            `feature_names` are given; else profiles are drawn.

        feature_names : array-like of str of shape (n_features,), default=None
            Names of the features in a profile. None: those of the columns of X.

        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **imshow_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.imshow`. By default,
            `cmap` is "gray_r", and `vmin` and `vmax` are those of the originals. If
            these have missing pixels (NaN), "gray_r" has another color for them, and
            for what is between images. Profiles take none.

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
        columns = names_of_columns(sliceable(X)) if feature_names is None else None
        X, reconstructions = named_reconstructions(X, reconstructions)
        shape = check_image_shape(image_shape, X.shape[1], feature_names)

        def squared_errors() -> Floats:
            first = next(iter(reconstructions.values()))
            if shape is not None:
                return sample_errors(X, first, "squared_error")
            return errors_in_deviations((X - first) ** 2, X)

        most = _largest_number(n_images, is_images=shape is not None)
        indices = _choose(which, most, X.shape[0], squared_errors)
        display = cls(
            originals=X[indices],
            reconstructions={
                name: rows[indices] for name, rows in reconstructions.items()
            },
            image_shape=shape,
            indices=indices,
            **_of_profiles(shape, X, feature_names or columns),
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
            for what is between images. Profiles take none.

        Returns
        -------
        display : ReconstructionDisplay
            The same display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        n_features = np.shape(self.originals)[1]
        shape = check_image_shape(self.image_shape, n_features, self.feature_names)
        self.image_: AxesImage | None = None
        self.lines_: dict[str, Line2D] | None = None
        if shape is not None:
            self._draw_images(ax, shape, imshow_kw)
        elif imshow_kw:
            raise TypeError(
                f"{type(self).__name__} takes no {[*imshow_kw]} for profiles: pass "
                "image_shape to draw images"
            )
        else:
            self._draw_profiles(ax)
        self.figure_ = self.ax_.figure
        return self

    def _draw_images(
        self, ax: Axes | None, shape: tuple[int, int], imshow_kw: dict[str, Any]
    ) -> None:
        titles = [_ORIGINALS, *map(str, self.reconstructions)]
        rows = np.concatenate([self.originals, *self.reconstructions.values()])
        picture, middles = mosaic(
            rows.reshape(-1, *shape), n_columns=len(self.originals)
        )
        is_new = ax is None
        figsize = mosaic_size(picture, shape)
        self.ax_ = check_axes(ax, f"{type(self).__name__}.plot", figsize)
        defaults: dict[str, Any] = {"cmap": "gray_r"}
        observed = np.ravel(self.originals)
        if np.isnan(observed).any():
            import matplotlib as mpl

            observed = observed[~np.isnan(observed)]
            defaults["cmap"] = mpl.colormaps["gray_r"].with_extremes(bad=_MISSING_COLOR)
        if len(observed):
            defaults |= {"vmin": observed.min(), "vmax": observed.max()}
        self.image_ = self.ax_.imshow(picture, **{**defaults, **imshow_kw})
        remove_frame(self.ax_)
        self.ax_.set_yticks(middles, labels=titles)
        if is_new:
            make_room_for_titles(self.ax_)

    def _draw_profiles(self, ax: Axes | None) -> None:
        originals = np.asarray(self.originals)
        n_samples, n_features = originals.shape
        names = check_feature_names(self.feature_names, n_features)
        means, deviations = means_of_numbers(originals)
        if self.feature_means is not None:
            means = np.asarray(self.feature_means)
        if self.feature_deviations is not None:
            deviations = np.asarray(self.feature_deviations)
        numbers = range(n_samples) if self.indices is None else self.indices
        titles = [f"sample {number}" for number in numbers]
        figsize = profile_size(names, _BAND_WIDTH * n_samples + _LEGEND_WIDTH)
        self.ax_ = check_axes(ax, f"{type(self).__name__}.plot", figsize)
        reconstructions = {
            str(name): np.asarray(rows) for name, rows in self.reconstructions.items()
        }
        scaling = means, deviations
        self.lines_ = draw_pairs(
            self.ax_,
            originals,
            reconstructions,
            names,
            scaling,
            titles,
            is_new=ax is None,
        )


def _largest_number(n_images: int | None, *, is_images: bool) -> int:
    """Return how many samples are drawn at most."""
    if n_images is None:
        return _MOST_IMAGES if is_images else _MOST_PROFILES
    return int(check_scalar(n_images, "n_images", (int, np.integer), min_val=1))


def _of_profiles(
    shape: tuple[int, int] | None,
    X: Any,
    feature_names: Any,
    table: TabularModel | None = None,
) -> dict[str, Any]:
    """Return names, means and deviations of features; nothing for images."""
    if shape is not None:
        return {}
    names = names_of_columns(X) if feature_names is None else feature_names
    if table is None:
        means, deviations = mean_and_deviation(dense_rows(X, allow_nan=True))
    else:
        means, deviations = means_of_numbers(columns_of_table(table, table.matrix(X)))
    return {
        "feature_names": check_feature_names(names, X.shape[1]),
        "feature_means": means,
        "feature_deviations": deviations,
    }


def _choose(
    which: str | ArrayLike,
    n_images: int,
    n_rows: int,
    squared_errors: Callable[[], Floats],
) -> NDArray[np.intp]:
    """Return the indices of the samples to draw; among equal errors, the first.

    `squared_errors` is only called if the errors are needed.
    """
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
