"""Losses of an entry: (prediction, target) -> value, derivative by the prediction."""

import math
from typing import Any, NamedTuple

import numpy as np

from skae._compiled.activations import softplus
from skae._compiled.compilation import REDUCTION, Op, as_op, formula, made_for
from skae._compiled.intrinsics import is_null, like, shifted
from skae._compiled.vector_math import exp, log, log1p
from skae._compiled.vectors import use_whole_registers

# Placeholder for the formula, see `made_for`.
_function: Any = None


def _add_losses(
    prediction,
    target,
    weights,
    unit_weights,
    values,
    total,
    has_missing,
    n_units,
    n_rows,
    n_at_once,
):
    """Add a block's loss to total[0], and replace the prediction by the derivative.

    `values` has room for the losses of `n_at_once` units, which stay in the L1 cache.
    Null weights, of rows and of units, are ones. If `has_missing`, there is no loss
    where the target is NaN.
    """
    use_whole_registers()
    for first in range(0, n_units, n_at_once):
        n_here = min(n_at_once, n_units - first)
        n = n_here * n_rows
        z, x = shifted(prediction, first * n_rows), shifted(target, first * n_rows)
        # Over many units, because the last entries of a loop are not in vectors.
        for i in range(n):
            values[i], z[i] = _function(z[i], x[i])
        if has_missing:
            zero = like(0.0, values[0])
            for i in range(n):
                is_missing = x[i] != x[i]
                values[i] = zero if is_missing else values[i]
                z[i] = zero if is_missing else z[i]
        if not is_null(weights):
            for j in range(n_here):
                for i in range(n_rows):
                    values[j * n_rows + i] *= weights[i]
                    z[j * n_rows + i] *= weights[i]
        if not is_null(unit_weights):
            for j in range(n_here):
                weight = unit_weights[first + j]
                for i in range(n_rows):
                    values[j * n_rows + i] *= weight
                    z[j * n_rows + i] *= weight
        part = like(0.0, values[0])
        for i in range(n):
            part += values[i]
        total[0] += np.float64(part)


def _loss_op(function):
    return Op(made_for(function, _add_losses), "vvvvvdnnnn", fastmath=REDUCTION)


# Arrays of `add_group_losses` with an entry for each row of a block.
N_GROUP_VALUES = 4


@as_op("vvvvidvnnn", REDUCTION)
def add_group_losses(
    prediction,
    target,
    weights,
    unit_weights,
    groups,
    total,
    values,
    has_missing,
    n_groups,
    n_rows,
):
    """Add the cross-entropies of groups of units, as `_add_losses` does.

    The predictions of a group are the logits of its levels' probabilities. Targets are
    positive for the level that a row has, else 0; all are NaN if it is missing.

    log(sum(exp(z))) is the largest z plus log(1 + the other terms), which keeps the
    digits of a confident and correct prediction. `values` has room for
    `N_GROUP_VALUES` entries a row.
    """
    use_whole_registers()
    highest, others = values, shifted(values, n_rows)
    n_ties, chosen = shifted(values, 2 * n_rows), shifted(values, 3 * n_rows)
    zero, one = like(0.0, values[0]), like(1.0, values[0])
    for g in range(n_groups):
        first, n_levels = groups[g], groups[g + 1] - groups[g]
        z, x = shifted(prediction, first * n_rows), shifted(target, first * n_rows)
        for i in range(n_rows):
            highest[i], others[i] = z[i], zero
        for i in range(n_rows):
            n_ties[i], chosen[i] = -one, zero
        for j in range(1, n_levels):
            for i in range(n_rows):
                a = z[j * n_rows + i]
                highest[i] = a if a > highest[i] else highest[i]
        for j in range(n_levels):
            at = j * n_rows
            for i in range(n_rows):
                a = z[at + i] - highest[i]
                n_ties[i] += one if a == 0 else zero
                chosen[i] += a if x[at + i] > 0 else zero
            for i in range(n_rows):
                a = z[at + i] - highest[i]
                e = exp(a)
                z[at + i] = e
                others[i] += zero if a == 0 else e
        weight = one if is_null(unit_weights) else unit_weights[first]
        part = zero
        for i in range(n_rows):
            rest = others[i] + n_ties[i]
            w = weight if is_null(weights) else weight * weights[i]
            loss = log1p(rest) - chosen[i]
            if has_missing:
                w = zero if x[i] != x[i] else w
                loss = zero if x[i] != x[i] else loss
            part += w * loss
            others[i], chosen[i] = w / (one + rest), w
        for j in range(n_levels):
            at = j * n_rows
            for i in range(n_rows):
                of_level = chosen[i] if x[at + i] > 0 else zero
                z[at + i] = z[at + i] * others[i] - of_level
        total[0] += np.float64(part)


@formula
def _squared_error(prediction, target):
    r = prediction - target
    return like(0.5, r) * r * r, r


@formula
def _absolute_error(prediction, target):
    r = prediction - target
    one, zero = like(1.0, r), like(0.0, r)
    sign = one if r > 0 else zero
    return abs(r), -one if r < 0 else sign


# Huber, "Robust estimation of a location parameter", 1964. The network sees data of
# root mean square 1.
_HUBER_DELTA = 1.0


@formula
def _huber(prediction, target):
    r = prediction - target
    delta, half = like(_HUBER_DELTA, r), like(0.5, r)
    clipped = delta if r > delta else r
    clipped = -delta if r < -delta else clipped
    return clipped * (r - half * clipped), clipped


@formula
def _log_loss(z, target):
    """Cross-entropy of the probability logistic(z): softplus(z) - target * z.

    softplus(z) = max(z, 0) + log(1 + e^-|z|): the linear parts are added first, because
    they cancel for a confident and correct prediction.
    """
    one = like(1.0, z)
    e = exp(-abs(z))
    r = one / (one + e)
    probability = r if z >= 0 else e * r
    linear = (one - target) * z if z >= 0 else -target * z
    return linear + log1p(e), probability - target


# Below, softplus loses digits, and log(softplus(z)) = z - e^z / 2 up to rounding.
_SERIES_BELOW = -15.0


@formula
def _poisson_loss(z, target):
    """Negative log-likelihood without its constant: rate - target * log(rate).

    The rate is softplus(z).
    """
    half, one, zero = like(0.5, z), like(1.0, z), like(0.0, z)
    rate, slope = softplus(z)
    is_small = z < like(_SERIES_BELOW, z)
    e = exp(z if is_small else zero)
    safe = one if is_small else rate
    log_rate = z - half * e if is_small else log(safe)
    ratio = one - half * e if is_small else slope / safe
    return rate - target * log_rate, slope - target * ratio


class Loss(NamedTuple):
    """Properties of a loss.

    A loss with fixed `outputs` contains its output activation, which keeps it finite
    and exact where the activation saturates: the prediction is the activation's input.
    """

    op: Op
    output_activation: str  # for output_activation="auto"
    outputs: tuple[str, ...] | None  # the legal output activations; None: all
    low: float  # inputs are in [low, high]
    high: float
    # Constant that is missing from an entry's negative log-likelihood, in the network's
    # units; None if the loss is no likelihood.
    likelihood_constant: float | None = None

    @property
    def has_activation(self):
        """Whether the loss applies the output activation itself."""
        return self.outputs is not None

    @property
    def is_scaled(self):
        """Whether the network sees centred and scaled data: there is no range."""
        return math.isinf(self.low)


_ANY = (-math.inf, math.inf)
LOSSES = {
    "squared_error": Loss(
        _loss_op(_squared_error),
        "identity",
        None,
        *_ANY,
        likelihood_constant=math.log(2 * math.pi) / 2,
    ),
    "absolute_error": Loss(_loss_op(_absolute_error), "identity", None, *_ANY),
    "huber": Loss(_loss_op(_huber), "identity", None, *_ANY),
    "log_loss": Loss(
        _loss_op(_log_loss),
        "logistic",
        ("logistic", "sigmoid"),
        0.0,
        1.0,
        likelihood_constant=0.0,
    ),
    "poisson": Loss(_loss_op(_poisson_loss), "softplus", ("softplus",), 0.0, math.inf),
}
