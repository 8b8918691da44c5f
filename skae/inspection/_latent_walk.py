"""What is decoded along each entry of the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar

from skae._model.any_transformer import (
    dense_rows,
)
from skae._typing import Floats, MatrixLike
from skae.inspection._drawing import (
    check_axes,
    check_image_shape,
    check_matplotlib,
    code_name,
    is_whole,
    make_room_for_titles,
    mosaic,
    mosaic_size,
    remove_frame,
    remove_ticks,
)
from skae.inspection._features import (
    check_feature_names,
    decoded_features,
    mean_and_deviation,
    standardized,
)
from skae.inspection._models import check_fitted
from skae.inspection._profiles import (
    draw_blocks,
    name_columns,
    number_text,
    profile_size,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar

# Entries that are drawn by default.
_MOST_COMPONENTS = 5
# Inches of a cell of a profile, and of the color bar.
_CELL_WIDTH, _BAR_WIDTH = 0.45, 1.2
# Standard deviations from the mean of the strongest colors.
_STRONGEST = 2.0


class LatentWalkDisplay:
    """What is decoded along each entry of the code, as images or profiles of features.

    Each entry takes some quantiles of the codes of samples in turn, while the others
    stay at their means. :meth:`from_estimator` creates the display from a fitted
    transformer.

    Parameters
    ----------
    reconstructions : array-like of shape (n_walks, n_steps, n_features)
        What is decoded: a walk for each entry of the code.

    steps : array-like of shape (n_walks, n_steps)
        Values of the entry along its walk, in the code's units.

    components : array-like of int of shape (n_walks,)
        Indices of the entries in the code.

    quantiles : array-like of shape (n_steps,), default=None
        Shares of the samples, in [0, 1], whose entry is lower than the steps.

    image_shape : tuple of int, default=None
        Height and width of an image. None: images are square if the number of features
        is the square of a number from 5 on, and there are no `feature_names`; else
        profiles are drawn.

    feature_names : array-like of str of shape (n_features,), default=None
        Names of the features in a profile. None: x0, x1, and so on.

    feature_means, feature_deviations : array-like of shape (n_features,), default=None
        Means and standard deviations of the features, in which a profile measures
        changes. None: those over all steps.

    value_range : tuple of float, default=None
        Values of the lightest and the darkest pixels of images. None: the lowest and
        the highest of `reconstructions`.

    Attributes
    ----------
    image_ : matplotlib AxesImage or QuadMesh
        All images as one: a row for each entry of the code, and a column for each step.
        Or, in profiles, a heat map of all entries side by side: a row for each feature,
        and a column for each step. :meth:`plot` sets this and the following attributes.

    colorbar_ : matplotlib Colorbar or None
        Colors of a profile.

    ax_ : matplotlib Axes
        Axes with the images or profiles.

    figure_ : matplotlib Figure
        Figure with the axes.

    See Also
    --------
    LatentWalkDisplay.from_estimator : Creates the display from a fitted transformer.
    LatentSpaceDisplay : Scatter plot of the codes of samples.
    ComponentsDisplay : Weights of the first layer, or the decoder's derivatives.

    Examples
    --------
    >>> from skae.inspection import LatentWalkDisplay
    >>> display = LatentWalkDisplay(
    ...     reconstructions=[[[0, 5], [1, 3], [2, 1]]],
    ...     steps=[[-1, 0, 1]],
    ...     components=[0],
    ...     feature_names=["length", "width"],
    ... ).plot()
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['length', 'width']
    """

    def __init__(
        self,
        *,
        reconstructions: ArrayLike,
        steps: ArrayLike,
        components: ArrayLike,
        quantiles: ArrayLike | None = None,
        image_shape: tuple[int, int] | None = None,
        feature_names: Any = None,
        feature_means: ArrayLike | None = None,
        feature_deviations: ArrayLike | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        self.reconstructions = reconstructions
        self.steps = steps
        self.components = components
        self.quantiles = quantiles
        self.image_shape = image_shape
        self.feature_names = feature_names
        self.feature_means = feature_means
        self.feature_deviations = feature_deviations
        self.value_range = value_range

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        *,
        components: ArrayLike | None = None,
        n_steps: int = 7,
        span: tuple[float, float] = (0.05, 0.95),
        sample: int | None = None,
        image_shape: tuple[int, int] | None = None,
        feature_names: Any = None,
        ax: Axes | None = None,
        **image_kw: Any,
    ) -> Self:
        """Draw what a fitted transformer decodes along each entry of its code.

        Parameters
        ----------
        estimator : object
            Fitted transformer with an ``inverse_transform``: an
            :class:`~skae.AutoencoderTransformer`, PCA or similar, a Pipeline, or a
            fitted search.

        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Samples, whose codes set the range of the walks.

        components : array-like of int, default=None
            Indices of the entries of the code. None: the first five.

        n_steps : int, default=7
            Number of steps of a walk, at least 2.

        span : tuple of float, default=(0.05, 0.95)
            Lowest and highest quantile of an entry over the codes of X, in [0, 1]. The
            steps are quantiles, from one to the other at equal distances: with the
            default 5 %, 20 %, ..., 95 %, the fourth is the median.

        sample : int, default=None
            Index of a sample whose code sets the other entries. None: they are at their
            means over the codes of X.

        image_shape : tuple of int, default=None
            Height and width of an image. None: images are square if the number of
            features is the square of a number from 5 on, X has no categories, and no
            `feature_names` are given; else profiles are drawn.

        feature_names : array-like of str of shape (n_features,), default=None
            Names of the features in a profile. None: those of X. A table with
            categories has its own: a column of categories has a row for each level,
            such as "city=Rome", with the level's decoded probability.

        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **image_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.imshow`, or for
            :meth:`matplotlib.axes.Axes.pcolormesh` in profiles.

        Returns
        -------
        display : LatentWalkDisplay
            The display. Its `reconstructions` are in the units of X.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the transformer is not fitted.
        TypeError
            If it is no estimator, or cannot decode.
        ValueError
            If a parameter has an invalid value, or X cannot be transformed.
        ImportError
            If matplotlib is not installed.

        See Also
        --------
        skae.AutoencoderTransformer.decoder_jacobian : Changes near a code, as numbers.

        Examples
        --------
        >>> from sklearn.datasets import load_wine
        >>> from skae import AutoencoderTransformer
        >>> from skae.inspection import LatentWalkDisplay
        >>> X = load_wine(as_frame=True).data
        >>> model = AutoencoderTransformer(2, scale="standard", max_iter=20).fit(X)
        >>> display = LatentWalkDisplay.from_estimator(model, X)
        >>> display.reconstructions.shape
        (2, 7, 13)
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_fitted(estimator)
        check_scalar(n_steps, "n_steps", (int, np.integer), min_val=2)
        levels = np.linspace(*_check_span(span), n_steps)
        features = decoded_features(estimator, X)
        codes = dense_rows(estimator.transform(X), "the code")
        chosen = _check_entries(components, codes.shape[1])
        start = codes.mean(axis=0)
        if sample is not None:
            start = codes[_check_sample(sample, len(codes))]
        steps = np.quantile(codes[:, chosen], levels, axis=0).T
        walks = np.tile(start, (*steps.shape, 1))
        for walk, component, values in zip(walks, chosen, steps, strict=True):
            walk[:, component] = values
        decoded = features.decode(walks.reshape(-1, codes.shape[1]))
        names = feature_names
        if names is None and features.is_table:
            names = features.names
        shape = check_image_shape(image_shape, decoded.shape[1], names)
        if names is None and shape is None:
            names = features.names
        return cls(
            reconstructions=decoded.reshape(*steps.shape, -1),
            steps=steps,
            components=chosen,
            quantiles=levels,
            image_shape=shape,
            feature_names=names,
            feature_means=features.means,
            feature_deviations=features.deviations,
            value_range=features.value_range,
        ).plot(ax, **image_kw)

    def plot(self, ax: Axes | None = None, **image_kw: Any) -> Self:
        """Draw a walk for each entry of the code.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **image_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.imshow`, or for
            :meth:`matplotlib.axes.Axes.pcolormesh` in profiles. By default, `cmap` is
            "gray_r" for images, and "RdBu_r" for profiles, whose strongest colors are
            those of two standard deviations.

        Returns
        -------
        display : LatentWalkDisplay
            The same display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        walks = np.asarray(self.reconstructions, dtype=np.float64)
        n_features = walks.shape[2]
        shape = check_image_shape(self.image_shape, n_features, self.feature_names)
        if shape is not None:
            self._draw_images(ax, walks, shape, image_kw)
        else:
            self._draw_profiles(ax, walks, image_kw)
        self.figure_ = self.ax_.figure
        return self

    def _draw_images(
        self,
        ax: Axes | None,
        walks: Floats,
        shape: tuple[int, int],
        image_kw: dict[str, Any],
    ) -> None:
        n_steps = walks.shape[1]
        picture, rows = mosaic(walks.reshape(-1, *shape), n_columns=n_steps)
        is_new = ax is None
        figsize = mosaic_size(picture, shape)
        self.ax_ = check_axes(ax, f"{type(self).__name__}.plot", figsize)
        low, high = self.value_range or (walks.min(), walks.max())
        defaults = {"cmap": "gray_r", "vmin": low, "vmax": high}
        self.image_: Any = self.ax_.imshow(picture, **{**defaults, **image_kw})
        self.colorbar_: Colorbar | None = None
        remove_frame(self.ax_)
        self.ax_.set_yticks(rows, labels=self._titles())
        columns = (shape[1] - 1) / 2 + np.arange(n_steps) * (
            (picture.shape[1] - shape[1]) / max(1, n_steps - 1)
        )
        if self.quantiles is not None:
            self.ax_.set_xticks(columns, labels=_percentages(self.quantiles))
            self.ax_.set_xlabel("Quantile of the entry")
        if is_new:
            make_room_for_titles(self.ax_)

    def _draw_profiles(
        self, ax: Axes | None, walks: Floats, image_kw: dict[str, Any]
    ) -> None:
        n_walks, n_steps, n_features = walks.shape
        names = check_feature_names(self.feature_names, n_features)
        means, deviations = mean_and_deviation(walks.reshape(-1, n_features))
        if self.feature_means is not None:
            means = np.asarray(self.feature_means)
        if self.feature_deviations is not None:
            deviations = np.asarray(self.feature_deviations)
        blocks = standardized(walks, means, deviations).swapaxes(1, 2)
        figsize = profile_size(names, _CELL_WIDTH * n_walks * n_steps + _BAR_WIDTH)
        self.ax_ = check_axes(ax, f"{type(self).__name__}.plot", figsize)
        defaults = {"cmap": "RdBu_r", "vmin": -_STRONGEST, "vmax": _STRONGEST}
        texts = [
            [
                [number_text(step[row], deviations[row]) for step in walk]
                for row in range(n_features)
            ]
            for walk in walks
        ]
        self.image_, columns = draw_blocks(
            self.ax_,
            blocks,
            names,
            texts,
            is_new=ax is None,
            **{**defaults, **image_kw},
        )
        self.colorbar_ = self.ax_.figure.colorbar(
            self.image_,
            ax=self.ax_,
            extend="both",
            aspect=30,
            pad=0.02,
            label="Standard deviations from the mean",
        )
        name_columns(self.ax_, columns, self._step_labels())
        self.ax_.set_xlabel(
            "Value of the entry"
            if self.quantiles is None
            else "Quantile and value of the entry"
        )
        titles = self.ax_.secondary_xaxis("top")
        titles.set_xticks(columns.mean(axis=1), labels=self._titles())
        remove_ticks(titles)

    def _titles(self) -> list[str]:
        return [code_name(component) for component in np.asarray(self.components)]

    def _step_labels(self) -> list[list[str]]:
        """Texts of the steps of each walk: the quantile, and below it the value."""
        steps = np.asarray(self.steps, dtype=np.float64)
        labels = [[number_text(v, walk.std()) for v in walk] for walk in steps]
        if self.quantiles is None:
            return labels
        shares = _percentages(self.quantiles)
        return [
            [f"{share}\n{text}" for share, text in zip(shares, walk, strict=True)]
            for walk in labels
        ]


def _percentages(quantiles: ArrayLike) -> list[str]:
    return [f"{100 * quantile:.3g} %" for quantile in np.asarray(quantiles)]


def _check_entries(components: Any, n_components: int) -> NDArray[np.intp]:
    """Return the indices of entries of the code; the first five for None."""
    if components is None:
        return np.arange(min(_MOST_COMPONENTS, n_components))
    entries = np.asarray(components)
    if (
        entries.ndim != 1
        or entries.dtype.kind not in "iu"
        or not entries.size
        or not 0 <= entries.min() <= entries.max() < n_components
    ):
        raise ValueError(
            f"components={components!r} must be a list of whole numbers from 0 to "
            f"{n_components - 1}: the code has {n_components} entries"
        )
    return entries


def _check_span(span: Any) -> tuple[float, float]:
    """Return the lowest and the highest quantile."""
    try:
        low, high = (float(quantile) for quantile in span)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not 0 <= low < high <= 1:
        raise ValueError(
            f"span={span!r} must be two quantiles in increasing order, from 0 to 1, "
            "such as (0.05, 0.95)"
        )
    return low, high


def _check_sample(sample: Any, n_samples: int) -> int:
    """Return the index of a sample."""
    if not is_whole(sample) or not 0 <= sample < n_samples:
        raise ValueError(
            f"sample={sample!r} must be a whole number from 0 to {n_samples - 1}: X "
            f"has {n_samples} samples"
        )
    return int(sample)
