"""Learning rate schedules, and the bias correction of running means."""

import math
from typing import NamedTuple

from skae._compiled.compilation import inner


class Schedule(NamedTuple):
    """Properties of a schedule."""

    kind: int  # which of those in `learning_rate`; saved states contain it
    has_end: bool = False  # the rate is 0 after `max_iter` epochs
    follows_loss: bool = False  # the rate falls when the loss stops falling


CONSTANT, INVERSE_TIME, INVSCALING, ADAPTIVE, COSINE = range(5)
SCHEDULES = {
    "constant": Schedule(CONSTANT),
    "inverse_time": Schedule(INVERSE_TIME),
    "invscaling": Schedule(INVSCALING),
    "adaptive": Schedule(ADAPTIVE, follows_loss=True),
    "cosine": Schedule(COSINE, has_end=True),
}
SMALLEST_ADAPTIVE_RATE = 1e-6  # as in MLPRegressor
ADAPTIVE_DIVISOR = 5.0  # as in MLPRegressor


@inner
def learning_rate(solver, n_updates, epoch, rate_factor):
    """Learning rate after `n_updates` updates, `epoch` epochs into the cycle."""
    rate = solver.learning_rate
    if solver.schedule == INVERSE_TIME:
        return rate / (1.0 + solver.decay * n_updates)
    if solver.schedule == INVSCALING:
        return rate / (n_updates + 1.0) ** solver.power_t
    if solver.schedule == ADAPTIVE:
        return rate * rate_factor
    if solver.schedule == COSINE:
        # Loshchilov & Hutter, "SGDR", 2017, equation 5, with a minimum of 0.
        turn = (epoch % solver.max_iter) / solver.max_iter
        return rate * 0.5 * (1.0 + math.cos(math.pi * turn))
    return rate


@inner
def bias_correction(beta, n_updates):
    """1 - beta^n_updates; a power would be slow where it underflows."""
    return -math.expm1(n_updates * math.log(beta)) if beta > 0 else 1.0
