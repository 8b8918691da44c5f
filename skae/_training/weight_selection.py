"""Choose the weights to keep of a training that is initialized at PCA."""

import functools
import math
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from skae._data.rows import weights_in_use
from skae._model.inference import row_losses
from skae._runtime.blas import single_threaded_blas
from skae._training.loop import Kept, Training
from skae._training.reporting import Curves
from skae._typing import Floats

_CONFIDENCE = 0.95
# Student's interval is not valid for heavy tails: where a few samples have most of the
# loss, a gain on them alone does not last. Weights must also be better without the
# largest gains, those of this share of the samples.
LEFT_OUT = 0.02
# Ratio of one epoch at which weights are judged to the one before.
_SPACING = 1.2


def next_epoch(n_epochs: int) -> int:
    """The first epoch after `n_epochs` at which weights are judged."""
    epoch = 1
    while epoch <= n_epochs:
        epoch = max(epoch + 1, math.ceil(_SPACING * epoch))
    return epoch


class CautiousSelection:
    """Keeps the weights that improve on the initial ones with most confidence.

    Weights are judged by how much their validation loss is below that of the initial
    weights: by the lower bound of a one-sided confidence interval of the mean
    difference (Student's, of paired differences). The initial weights are kept if no
    bound is above zero, or if the best weights raise the objective over the training
    rows.

    Parameters
    ----------
    training : Training
        Training whose weights are judged, on its validation rows.

    initial_params : ndarray of shape (n_params,)

    n_before : int
        Epochs of the earlier fits that this one continues.

    selected : Kept, default=None
        Weights that these fits kept.

    units : ndarray of shape (n_rows,), default=None
        Number of the unit that each validation row was held out with: rows of one unit
        are not independent evidence. None: each row is a unit.

    Attributes
    ----------
    kept : Kept
        The weights that have improved most.
    """

    def __init__(
        self,
        training: Training,
        initial_params: Floats,
        n_before: int,
        selected: Kept | None = None,
        *,
        units: np.ndarray | None = None,
    ):
        self.training, self.n_before = training, n_before
        self.initial_params = initial_params
        rows = training.objective.validation
        weights = np.concatenate(rows.map(weights_in_use))
        self._used = weights > 0
        self._shares = weights[self._used] / rows.total_weight
        units = np.arange(len(weights)) if units is None else units
        _, self._units = np.unique(units[self._used], return_inverse=True)
        self._shares_of_units = np.bincount(self._units, self._shares)
        self.kept, self.gain = Kept.initial(initial_params), 0.0
        self._selected = selected
        self._start_objective: list[float] = []  # once it is known

    def epochs_to_next(self, n_done: int) -> int:
        """Epochs until the next one at which weights are judged."""
        n_epochs = self.n_before + n_done
        return next_epoch(n_epochs) - n_epochs

    def begin(self, max_iter: int) -> None:
        """Begin an epoch. What may be interrupted is not done earlier."""
        self._consider_selected()

    def _consider_selected(self) -> None:
        if self._selected is not None:
            self._consider(self._selected)
            self._selected = None

    def end(self, curves: Curves, *, is_last: bool) -> Literal[False]:
        """Judge the weights if it is due; returns False, because training continues."""
        n_epochs = self.n_before + len(curves.loss)
        if next_epoch(n_epochs - 1) == n_epochs:
            last = Kept.last(self.training)
            self._consider(last._replace(name="selected"))
        return False

    def kept_weights(self) -> Kept:
        """The weights to keep if training ended now."""
        self._consider_selected()
        last = Kept.last(self.training)
        best = last if self._gain(last.params) > self.gain else self.kept
        if best.epoch and not self._is_lower(best.params):
            best = Kept.initial(self.initial_params)
        return best

    @functools.cached_property
    def _start_losses(self) -> Floats:
        return self._losses(self.initial_params)

    def _is_lower(self, params: Floats) -> bool:
        """Whether the objective over the training rows is not above the initial one."""
        training, candidates = self.training, [params]
        if not self._start_objective:  # in the same pass
            candidates.append(self.initial_params)
        now, *new = training.values(candidates, training.objective.rows)
        self._start_objective += new
        return now <= self._start_objective[0]  # NaN is not

    def _consider(self, kept: Kept) -> None:
        gain = self._gain(kept.params)
        if gain > self.gain:
            self.kept, self.gain = kept, gain

    def _gain(self, params: Floats) -> float:
        """Lower bound of the decrease of the loss; 0 if it is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            falls = self._start_losses - self._losses(params)
            of_units = np.bincount(self._units, self._shares * falls)
            gain = confident_gain(of_units, self._shares_of_units)
        return gain if np.isfinite(gain) else 0.0

    def _losses(self, params: Floats) -> Floats:
        objective = self.training.objective
        losses = row_losses(
            objective.loss,
            objective.network,
            params,
            objective.validation,
            objective.unit_weights,
        )
        return losses[self._used]


def confident_gain(parts: np.ndarray, shares: np.ndarray) -> float:
    """Lower bound of a mean gain, also without the units that gain most.

    Parameters
    ----------
    parts, shares : ndarray of shape (n_units,)
        As of `_lower_bound`. The first may be changed.
    """
    gain = _lower_bound(parts, shares)
    if gain > 0:
        # A few units with the largest gains must not decide.
        n_kept = len(parts) - math.ceil(LEFT_OUT * len(parts))
        parts[np.argpartition(parts, n_kept - 1)[n_kept:]] = 0
        gain = min(gain, _lower_bound(parts, shares))
    return gain


@single_threaded_blas()
def _lower_bound(parts: np.ndarray, shares: np.ndarray) -> float:
    """Lower bound of the confidence interval of a weighted mean.

    Parameters
    ----------
    parts : ndarray of shape (n_units,)
        Summands of the mean, one for each unit: independent, with expectations that are
        the units' shares of the mean.

    shares : ndarray of shape (n_units,)
    """
    freedom = len(parts) - 1
    if freedom < 1:
        return 0.0
    mean = parts.sum()
    deviations = parts - shares * mean
    variance = (len(parts) / freedom) * deviations @ deviations
    return float(mean - stdtrit(freedom, _CONFIDENCE) * np.sqrt(variance))
