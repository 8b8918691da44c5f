"""Loss curves of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from skae._model.any_transformer import name_of
from skae.inspection._drawing import check_axes, check_matplotlib, style
from skae.inspection._models import check_fitted, last_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Losses that span more than this factor are drawn on a logarithmic scale.
_MAX_LINEAR_SPAN = 10


class LossCurveDisplay:
    """Training and validation loss by epoch.

    :meth:`from_estimator` creates it from a fitted estimator. Several can be drawn on
    the same axes; the legend names them.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Training loss of each epoch.

    validation_loss_curve : array-like of shape (n_validated,), default=None
        Validation loss of each of the last `n_validated` epochs: of all, unless
        validation began with a warm start. None: no validation.

    best_epoch : int, default=None
        Number of the epoch, from 1, whose weights were kept, to be marked; 0 for the
        initial weights, which have `initial_loss`. None marks nothing.

    initial_loss : float, default=None
        Loss of the initial weights, drawn as a horizontal line. None draws none.

    initial_name : str, default="initial weights"
        Name of the initial weights in the legend, such as "PCA".

    name : str, default=None
        Name in the legend. None omits it.

    Attributes
    ----------
    line_ : matplotlib Line2D
        Training loss. :meth:`plot` sets this and the following attributes.

    validation_line_ : matplotlib Line2D or None
        Validation loss.

    best_marker_ : matplotlib Line2D or None
        Point at `best_epoch`.

    initial_line_ : matplotlib Line2D or None
        Line at `initial_loss`.

    ax_ : matplotlib Axes
        Axes with the curves.

    figure_ : matplotlib Figure
        Figure with the axes.

    See Also
    --------
    LossCurveDisplay.from_estimator : Creates the display from a fitted estimator.
    ReconstructionErrorDisplay : Histogram of the errors of the samples.

    Examples
    --------
    >>> from skae.inspection import LossCurveDisplay
    >>> display = LossCurveDisplay(loss_curve=[2.0, 0.5, 0.1], name="small").plot()
    >>> display.line_.get_xdata()
    array([1, 2, 3])
    >>> display.ax_.get_yscale()
    'log'
    """

    def __init__(
        self,
        *,
        loss_curve: ArrayLike,
        validation_loss_curve: ArrayLike | None = None,
        best_epoch: int | None = None,
        initial_loss: float | None = None,
        initial_name: str = "initial weights",
        name: str | None = None,
    ) -> None:
        self.loss_curve = loss_curve
        self.validation_loss_curve = validation_loss_curve
        self.best_epoch = best_epoch
        self.initial_loss = initial_loss
        self.initial_name = initial_name
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        name: str | None = None,
        ax: Axes | None = None,
        yscale: str | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the loss curves of a fitted estimator.

        The epoch whose weights were kept (`best_iter_`) is marked, and a line shows the
        loss of the initial weights (`initial_loss_`), which may be PCA's.

        Parameters
        ----------
        estimator : object
            Fitted estimator with a `loss_curve_` and perhaps a
            `validation_loss_curve_`; or a Pipeline whose last step it is, or a fitted
            search for one.

        name : str, default=None
            Name in the legend. None: the name of the estimator's class.

        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        yscale : {"linear", "log", ...}, default=None
            Scale of the losses. None is "log" if all curves on the axes are positive
            and span more than a factor of 10.

        **line_kw : dict
            Keyword arguments of the lines, for :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : LossCurveDisplay
            The display.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no loss curve.
        ImportError
            If matplotlib is not installed.

        See Also
        --------
        LossCurveDisplay : Displays given losses.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import AutoencoderTransformer
        >>> from skae.inspection import LossCurveDisplay
        >>> X = load_iris().data
        >>> ax = None
        >>> for activation in ("relu", "tanh"):
        ...     model = AutoencoderTransformer(
        ...         activation=activation, init="random", max_iter=30, random_state=0
        ...     )
        ...     display = LossCurveDisplay.from_estimator(
        ...         model.fit(X), name=activation, ax=ax
        ...     )
        ...     ax = display.ax_
        >>> [text.get_text() for text in ax.get_legend().get_texts()][::3]
        ['relu, training', 'tanh, training']
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_fitted(estimator)
        model = last_step(estimator)
        if not hasattr(model, "loss_curve_"):
            raise TypeError(
                f"{name_of(model)} has no loss_curve_. Pass an AutoencoderTransformer "
                "or another estimator that keeps its losses, a Pipeline whose last "
                "step it is, or a search with refit=True"
            )
        validation = getattr(model, "validation_loss_curve_", None)
        display = cls(
            loss_curve=model.loss_curve_,
            validation_loss_curve=validation,
            best_epoch=_best_epoch(model, validation),
            initial_loss=_initial_loss(model),
            initial_name=_initial_name(model),
            name=name_of(model) if name is None else name,
        )
        return display.plot(ax, yscale=yscale, **line_kw)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        yscale: str | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the losses by epoch.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None creates a new figure.

        name : str, default=None
            Name in the legend. None: that of the display.

        yscale : {"linear", "log", ...}, default=None
            Scale of the losses. None is "log" if all curves on the axes are positive
            and span more than a factor of 10.

        **line_kw : dict
            Keyword arguments of the lines, for :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : LossCurveDisplay
            The same display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = check_axes(ax, f"{type(self).__name__}.plot")
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        name = self.name if name is None else name
        prefix = "" if name is None else f"{name}, "
        losses = np.asarray(self.loss_curve)
        epochs = np.arange(1, len(losses) + 1)
        # The line of a single epoch has no length.
        defaults: dict[str, Any] = {"marker": "o"} if len(losses) == 1 else {}
        defaults["label"] = f"{prefix}training"
        (self.line_,) = ax.plot(epochs, losses, **style(defaults, line_kw, Line2D))
        self.validation_line_ = None
        if self.validation_loss_curve is not None:
            validation = np.asarray(self.validation_loss_curve)
            validated = epochs[len(losses) - len(validation) :]
            defaults["label"] = f"{prefix}validation"
            defaults |= {"linestyle": "--", "color": self.line_.get_color()}
            (self.validation_line_,) = ax.plot(
                validated, validation, **style(defaults, line_kw, Line2D)
            )
        self._mark(ax, prefix)
        ax.set_yscale(_suitable_scale(ax) if yscale is None else yscale)
        ax.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
        ax.set_xlabel("Epoch")
        ax.set_ylabel("Loss")
        ax.legend(fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _mark(self, ax: Axes, prefix: str) -> None:
        """Mark the epoch whose weights were kept, and the loss of the initial ones."""
        color, losses = self.line_.get_color(), self.validation_loss_curve
        losses = np.asarray(self.loss_curve if losses is None else losses)
        # Validation losses are those of the last epochs.
        before = np.size(self.loss_curve) - len(losses)
        self.initial_line_ = self.best_marker_ = None
        if self.initial_loss is not None:
            self.initial_line_ = ax.axhline(
                self.initial_loss,
                linestyle=":",
                color=color,
                label=f"{prefix}{self.initial_name}",
            )
        best, loss = self.best_epoch, self.initial_loss
        text = f"{prefix}kept ({self.initial_name})"
        if best:
            loss = losses[best - before - 1] if best > before else None
            text = f"{prefix}kept (epoch {best})"
        if best is None or loss is None:
            return
        (self.best_marker_,) = ax.plot(
            best, loss, linestyle="", marker="o", color=color, label=text
        )


def _best_epoch(model: Any, validation: Any) -> int | None:
    """Return the epoch whose weights were kept, from 1, 0 or None if it is unknown."""
    validation = [] if validation is None else list(validation)
    if hasattr(model, "best_iter_") or not validation:
        return getattr(model, "best_iter_", None)
    # Another estimator's objective may have changed: this need not be the lowest loss.
    best = getattr(model, "best_loss_", min(validation))
    n_before = len(model.loss_curve_) - len(validation)
    return n_before + 1 + validation.index(best) if best in validation else None


def _initial_loss(model: Any) -> float | None:
    """Return the loss of the initial weights, or None."""
    loss: float | None = getattr(model, "initial_loss_", None)
    return loss if loss is not None and np.isfinite(loss) else None


def _initial_name(model: Any) -> str:
    state = getattr(model, "_training_state", None)
    return "PCA" if getattr(state, "init", None) == "pca" else "initial weights"


def _suitable_scale(ax: Axes) -> str:
    """Return the scale for all lines on the axes."""
    losses = np.concatenate(
        [np.ravel(line.get_ydata()) for line in ax.lines], dtype=float
    )
    low, high = losses.min(initial=np.inf), losses.max(initial=-np.inf)
    if low <= 0:
        return "linear"
    return "log" if high > _MAX_LINEAR_SPAN * low else ax.get_yscale()
