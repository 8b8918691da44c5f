"""Histograms of the errors of reconstructions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from skae._typing import Floats, MatrixLike
from skae.inspection._drawing import check_axes, check_matplotlib, style
from skae.inspection._models import (
    named_reconstructions,
    reconstructing_models,
    sample_errors,
)
from skae.metrics import check_metric, reconstruction_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More histograms than this are drawn as outlines.
_MAX_FILLED = 3
_METRIC_LABELS = {
    "squared_error": "Squared error per sample, summed over features",
    "absolute_error": "Absolute error per sample, summed over features",
}


class ReconstructionErrorDisplay:
    """Histogram of the errors of reconstructed samples.

    :meth:`from_estimator` creates it from one or several fitted transformers,
    :meth:`from_predictions` from reconstructions.

    Parameters
    ----------
    errors : dict of str to ndarray of shape (n_samples,)
        Error of each sample, by the name of the transformer. NaN, the error of a
        sample without any entry, is not drawn.

    metric : {"squared_error", "absolute_error"}, default="squared_error"
        Metric of the errors.

    Attributes
    ----------
    bins_ : ndarray of shape (n_bins + 1,)
        Edges of the bins, the same for all histograms. :meth:`plot` sets this and the
        following attributes.

    patches_ : list of matplotlib artists
        The histograms, one for each name.

    ax_ : matplotlib Axes
        Axes with the histograms.

    figure_ : matplotlib Figure
        Figure with the axes.

    See Also
    --------
    ReconstructionErrorDisplay.from_estimator : Creates it from fitted transformers.
    ReconstructionErrorDisplay.from_predictions : Creates it from reconstructions.
    ReconstructionDisplay : Draws the best and the worst reconstructions.

    Examples
    --------
    >>> from skae.inspection import ReconstructionErrorDisplay
    >>> display = ReconstructionErrorDisplay(errors={"model": [1.0, 2.0, 4.0]})
    >>> display.plot(bins=3).bins_
    array([1., 2., 3., 4.])
    """

    def __init__(
        self, *, errors: Mapping[str, ArrayLike], metric: str = "squared_error"
    ) -> None:
        self.errors = errors
        self.metric = metric

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        *,
        metric: str = "squared_error",
        bins: int | str | ArrayLike = 50,
        ax: Axes | None = None,
        **hist_kw: Any,
    ) -> Self:
        """Draw the errors of fitted transformers.

        Parameters
        ----------
        estimator : object, or dict of str to object
            Fitted transformer with an ``inverse_transform``: an
            :class:`~skae.AutoencoderTransformer`, PCA or similar, or a Pipeline; or
            several by name.

        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Samples to reconstruct.

        metric : {"squared_error", "absolute_error"}, default="squared_error"
            Error of a sample: the sum over its features of squared or of absolute
            differences, in the units of X. Missing entries (NaN) are as large as the
            mean of the observed ones.

        bins : int, str or array-like, default=50
            Number of bins, or another argument of :func:`numpy.histogram_bin_edges`,
            for all errors together.

        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **hist_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.hist`.

        Returns
        -------
        display : ReconstructionErrorDisplay
            The display.

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
        ReconstructionErrorDisplay.from_predictions : Takes given reconstructions.
        skae.metrics.reconstruction_error : Computes these errors.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.decomposition import PCA
        >>> from skae.inspection import ReconstructionErrorDisplay
        >>> X = load_digits().data
        >>> models = {n: PCA(n).fit(X) for n in (5, 20)}
        >>> display = ReconstructionErrorDisplay.from_estimator(models, X)
        >>> [text.get_text() for text in display.ax_.get_legend().get_texts()]
        ['5: 547 ± 195', '20: 127 ± 58']
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_metric(metric)
        models = reconstructing_models(estimator)
        errors = {
            name: reconstruction_error(model, X, metric=metric)
            for name, model in models.items()
        }
        return cls(errors=errors, metric=metric).plot(ax, bins=bins, **hist_kw)

    @classmethod
    def from_predictions(
        cls,
        X: MatrixLike,
        reconstructions: MatrixLike | Mapping[str, MatrixLike],
        *,
        metric: str = "squared_error",
        bins: int | str | ArrayLike = 50,
        ax: Axes | None = None,
        **hist_kw: Any,
    ) -> Self:
        """Draw the errors of given reconstructions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        reconstructions : array-like of shape (n_samples, n_features), or dict of str \
                to array-like
            Reconstructions; or several by name.

        metric : {"squared_error", "absolute_error"}, default="squared_error"
            Error of a sample: the sum over its features of squared or of absolute
            differences, in the units of X. Missing entries (NaN) are as large as the
            mean of the observed ones.

        bins : int, str or array-like, default=50
            Number of bins, or another argument of :func:`numpy.histogram_bin_edges`,
            for all errors together.

        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        **hist_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.hist`.

        Returns
        -------
        display : ReconstructionErrorDisplay
            The display.

        Raises
        ------
        ValueError
            If a parameter has an invalid value, or an array not the shape of X.
        ImportError
            If matplotlib is not installed.

        See Also
        --------
        ReconstructionErrorDisplay.from_estimator : Computes the reconstructions.

        Examples
        --------
        >>> from skae.inspection import ReconstructionErrorDisplay
        >>> display = ReconstructionErrorDisplay.from_predictions(
        ...     [[0, 0], [1, 1]], [[0, 1], [1, 4]], metric="absolute_error"
        ... )
        >>> display.errors["reconstruction"]
        array([1., 3.])
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        check_metric(metric)
        X, reconstructions = named_reconstructions(X, reconstructions)
        errors = {
            name: sample_errors(X, rows, metric)
            for name, rows in reconstructions.items()
        }
        return cls(errors=errors, metric=metric).plot(ax, bins=bins, **hist_kw)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        bins: int | str | ArrayLike = 50,
        **hist_kw: Any,
    ) -> Self:
        """Draw a histogram of the errors.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        bins : int, str or array-like, default=50
            Number of bins, or another argument of :func:`numpy.histogram_bin_edges`,
            for all errors together.

        **hist_kw : dict
            Keyword arguments for :meth:`matplotlib.axes.Axes.hist`.

        Returns
        -------
        display : ReconstructionErrorDisplay
            The same display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_metric(self.metric)
        ax = check_axes(ax, f"{type(self).__name__}.plot")
        from matplotlib.patches import Patch

        drawn = {name: _defined(errors, name) for name, errors in self.errors.items()}
        together = np.concatenate(list(drawn.values()))
        self.bins_ = np.histogram_bin_edges(together, bins)
        self.patches_ = []
        defaults: dict[str, Any] = {"histtype": "step", "linewidth": 1.5}
        if len(self.errors) <= _MAX_FILLED:
            defaults = {"histtype": "stepfilled", "alpha": 0.5}
        defaults["bins"] = self.bins_
        for name, errors in drawn.items():
            defaults["label"] = f"{name}: {_mean_and_deviation(errors)}"
            _, _, patches = ax.hist(errors, **style(defaults, hist_kw, Patch))
            self.patches_.append(patches)
        ax.set_xlabel(_METRIC_LABELS[self.metric])
        ax.set_ylabel("Density" if hist_kw.get("density") else "Samples")
        ax.legend(title="mean ± standard deviation")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _defined(errors: ArrayLike, name: str) -> Floats:
    """Return the errors that are not NaN; raise ValueError if there are none."""
    defined: Floats = np.asarray(errors)[~np.isnan(errors)]
    if not len(defined):
        raise ValueError(
            f"errors[{name!r}] are all NaN, as those of samples without any entry: "
            "pass samples with observed entries"
        )
    return defined


def _mean_and_deviation(errors: Any) -> str:
    """Return mean and deviation as text, with two digits of the deviation."""
    mean, deviation = np.mean(errors), np.std(errors)
    exponent = math.floor(math.log10(deviation)) if deviation > 0 else 0
    if -4 <= exponent <= 5:
        decimals = max(0, 1 - exponent)
        return f"{mean:.{decimals}f} ± {deviation:.{decimals}f}"
    return f"{mean:.3g} ± {deviation:.2g}"
