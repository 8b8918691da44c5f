"""The learning rate of an update, and the bias of running means that begin at zero."""

import math

from skae._compiled.compilation import inner

CONSTANT, INVERSE_TIME, INVSCALING, ADAPTIVE, COSINE = range(5)
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


SCHEDULES = {
    "constant": CONSTANT,
    "inverse_time": INVERSE_TIME,
    "invscaling": INVSCALING,
    "adaptive": ADAPTIVE,
    "cosine": COSINE,
}


@inner
def bias_correction(beta, n_updates):
    """1 - beta^n; a power is slow where it underflows."""
    return -math.expm1(n_updates * math.log(beta)) if beta > 0 else 1.0
