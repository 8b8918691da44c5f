"""Solvers: a step from the gradient of a mini-batch, and the table by name."""

import math

from numba import carray

from skae._compiled.compilation import as_op, formula
from skae._compiled.intrinsics import like
from skae._compiled.vectors import use_whole_registers

# What a step needs besides arrays: entries of `settings`. The objective's gradient is
# FACTOR times the given gradient, a sum, plus ALPHA times the parameters.
FACTOR, ALPHA, RATE, CORRECTION_1, CORRECTION_2 = range(5)
MOMENTUM, NESTEROV, BETA_1, BETA_2, EPSILON = range(5, 10)
N_SETTINGS = 16  # padded to whole cache lines, because each thread has its own
# Settings that do not change between steps, and their names as parameters.
HYPERPARAMETERS = {
    MOMENTUM: "momentum",
    NESTEROV: "nesterovs_momentum",
    BETA_1: "beta_1",
    BETA_2: "beta_2",
    EPSILON: "epsilon",
}

# The network sees data of order one. Smaller entries of the gradient are rounding
# errors, such as those of centred data whose mean is up to 10^4 times their spread.
# Adam and RMSprop, which divide by an entry's size, would turn them into steps that
# depend on the order of the rows.
_GRADIENT_ROUNDING = 1e-11


@formula
def _beyond_rounding(g):
    return like(0.0, g) if abs(g) < like(_GRADIENT_ROUNDING, g) else g


@as_op("vvvvdn")
def scale_gradient(params, gradient, moment_1, moment_2, settings, n):
    """Compute the objective's gradient in place, for a solver that runs in Python."""
    use_whole_registers()
    params, gradient = carray(params, n), carray(gradient, n)
    settings = carray(settings, N_SETTINGS)
    zero = params[0]
    factor, alpha = like(settings[FACTOR], zero), like(settings[ALPHA], zero)
    for i in range(n):
        gradient[i] = factor * gradient[i] + alpha * params[i]


@as_op("vvvvdn")
def _adam(params, gradient, moment_1, moment_2, settings, n):
    """Kingma & Ba, "Adam", 2015, in the order of operations at the end of section 2."""
    use_whole_registers()
    params, gradient = carray(params, n), carray(gradient, n)
    mean, square = carray(moment_1, n), carray(moment_2, n)
    settings = carray(settings, N_SETTINGS)
    zero = params[0]
    factor, alpha = like(settings[FACTOR], zero), like(settings[ALPHA], zero)
    beta_1, rest_1 = like(settings[BETA_1], zero), like(1 - settings[BETA_1], zero)
    beta_2, rest_2 = like(settings[BETA_2], zero), like(1 - settings[BETA_2], zero)
    epsilon = like(settings[EPSILON], zero)
    correction = math.sqrt(settings[CORRECTION_2]) / settings[CORRECTION_1]
    step = like(settings[RATE] * correction, zero)
    for i in range(n):
        g = _beyond_rounding(factor * gradient[i] + alpha * params[i])
        m = beta_1 * mean[i] + rest_1 * g
        s = beta_2 * square[i] + rest_2 * g * g
        mean[i], square[i] = m, s
        params[i] -= step * m / (math.sqrt(s) + epsilon)


@as_op("vvvvdn")
def _sgd(params, gradient, moment_1, moment_2, settings, n):
    """Gradient descent with classical or Nesterov momentum.

    Sutskever et al., "On the importance of initialization and momentum in deep
    learning", 2013; Nesterov's in the form of Bengio et al., 2013, equation 7.
    """
    use_whole_registers()
    params, gradient = carray(params, n), carray(gradient, n)
    velocity, settings = carray(moment_1, n), carray(settings, N_SETTINGS)
    zero = params[0]
    factor, alpha = like(settings[FACTOR], zero), like(settings[ALPHA], zero)
    momentum, rate = like(settings[MOMENTUM], zero), like(settings[RATE], zero)
    # Factors of the new velocity and of the gradient in the step.
    ahead, now = momentum, rate
    if settings[NESTEROV] == 0:
        ahead, now = like(1.0, zero), like(0.0, zero)
    for i in range(n):
        g = factor * gradient[i] + alpha * params[i]
        v = momentum * velocity[i] - rate * g
        velocity[i] = v
        params[i] += ahead * v - now * g


@as_op("vvvvdn")
def _rmsprop(params, gradient, moment_1, moment_2, settings, n):
    """Tieleman & Hinton, "RMSprop", 2012, with Adam's bias correction.

    Without it the first steps are larger by 1 / sqrt(1 - beta_2).
    """
    use_whole_registers()
    params, gradient = carray(params, n), carray(gradient, n)
    square, settings = carray(moment_2, n), carray(settings, N_SETTINGS)
    zero = params[0]
    factor, alpha = like(settings[FACTOR], zero), like(settings[ALPHA], zero)
    beta_2, rest_2 = like(settings[BETA_2], zero), like(1 - settings[BETA_2], zero)
    epsilon = like(settings[EPSILON], zero)
    step = like(settings[RATE] * math.sqrt(settings[CORRECTION_2]), zero)
    for i in range(n):
        g = _beyond_rounding(factor * gradient[i] + alpha * params[i])
        s = beta_2 * square[i] + rest_2 * g * g
        square[i] = s
        params[i] -= step * g / (math.sqrt(s) + epsilon)


SOLVERS = {"adam": _adam, "sgd": _sgd, "rmsprop": _rmsprop}
