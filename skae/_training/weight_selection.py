"""Which weights to keep of a training that starts at the principal components."""

import functools
import math

import numpy as np
from scipy.special import stdtrit

from skae._data.rows import weights_in_use
from skae._model.inference import row_losses
from skae._runtime.threads import single_threaded_blas
from skae._training.loop import Kept

_CONFIDENCE = 0.95
# Student's interval is not valid for heavy tails: where the squares of a few samples
# are most of the loss, a gain on them alone does not last. Weights have to be better,
# too, if the gains of this share of the samples, the largest, do not count.
_LEFT_OUT = 0.02
# Epochs at which weights are judged: each so many times as late as the one before.
_SPACING = 1.2


def next_epoch(n_epochs):
    """The first epoch after `n_epochs` at which weights are judged."""
    epoch = 1
    while epoch <= n_epochs:
        epoch = max(epoch + 1, math.ceil(_SPACING * epoch))
    return epoch


class CautiousSelection:
    """Keeps what surely improves on the start.

    Weights are judged by how much lower than at the start the loss of held-out rows
    is: by the lower end of a one-sided confidence interval of the mean difference
    (Student's, of paired differences). The start is kept where that is never above
    zero, or where the weights raise the objective over the training rows.

    Parameters
    ----------
    training : Training
        Its validation rows are the held-out ones.

    initial_params : ndarray of shape (n_params,)

    n_before : int
        Epochs of earlier fits that this one goes on from.

    selected : Kept, default=None
        What these kept.

    units : ndarray of shape (n_rows,), default=None
        Of every held-out row, the number of the unit that it was held out with: rows
        of a unit are no independent evidence. None: each row is a unit.

    Attributes
    ----------
    kept : Kept
        The weights that have improved most.
    """

    def __init__(
        self, training, initial_params, n_before, selected=None, *, units=None
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
        self._start_objective = None

    def epochs_to_next(self, n_done):
        """Epochs until the next one at which weights are judged."""
        n_epochs = self.n_before + n_done
        return next_epoch(n_epochs) - n_epochs

    def begin(self, max_iter):
        """An epoch is about to begin: no work, that may be interrupted, before."""
        self._consider_selected()

    def _consider_selected(self):
        if self._selected is not None:
            self._consider(self._selected)
            self._selected = None

    def end(self, curves, *, is_last):
        """Judge the weights if it is time; returns False: training goes on."""
        n_epochs = self.n_before + len(curves.loss)
        if next_epoch(n_epochs - 1) == n_epochs:
            last = Kept.last(self.training)
            self._consider(last._replace(name="selected"))
        return False

    def kept_weights(self):
        """The weights to keep if training ended now, as `Kept`."""
        self._consider_selected()
        last = Kept.last(self.training)
        best = last if self._gain(last.params) > self.gain else self.kept
        if best.epoch and not self._is_lower(best.params):
            best = Kept.initial(self.initial_params)
        return best

    @functools.cached_property
    def _start_losses(self):
        return self._losses(self.initial_params)

    def _is_lower(self, params):
        """Whether the objective over the training rows is not higher than at first."""
        training, candidates = self.training, [params]
        if self._start_objective is None:  # in the same pass
            candidates.append(self.initial_params)
        now, *new = training.values(candidates, training.objective.rows)
        if new:
            self._start_objective = new[0]
        return now <= self._start_objective  # NaN is not

    def _consider(self, kept):
        gain = self._gain(kept.params)
        if gain > self.gain:
            self.kept, self.gain = kept, gain

    def _gain(self, params):
        """How much the loss has surely fallen; 0 if it is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            falls = self._start_losses - self._losses(params)
            of_units = np.bincount(self._units, self._shares * falls)
            gain = _lower_bound(of_units, self._shares_of_units)
            if gain > 0:
                # The few units that gain most must not decide.
                n_kept = len(of_units) - math.ceil(_LEFT_OUT * len(of_units))
                of_units[np.argpartition(of_units, n_kept - 1)[n_kept:]] = 0
                gain = min(gain, _lower_bound(of_units, self._shares_of_units))
        return gain if np.isfinite(gain) else 0.0

    def _losses(self, params):
        objective = self.training.objective
        losses = row_losses(
            objective.loss, objective.network, params, objective.validation
        )
        return losses[self._used]


@single_threaded_blas()
def _lower_bound(parts, shares):
    """Lower end of the confidence interval of a weighted mean.

    Parameters
    ----------
    parts : ndarray of shape (n_units,)
        Of the mean, by unit: independent, each expected to be its share of the mean.

    shares : ndarray of shape (n_units,)
    """
    freedom = len(parts) - 1
    if freedom < 1:
        return 0.0
    mean = parts.sum()
    deviations = parts - shares * mean
    variance = (len(parts) / freedom) * deviations @ deviations
    return mean - stdtrit(freedom, _CONFIDENCE) * np.sqrt(variance)
