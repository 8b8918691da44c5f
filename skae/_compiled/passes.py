"""Passes over blocks of numbers: all arithmetic but the matrix products.

The loops have no branches and call nothing that is not inlined, so that LLVM turns
them into vector instructions.

A block holds rows of data as they pass through a layer: (n_units, n_rows), in C order.
The rows come last, so that vectors are long and products large however narrow the
layer is.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import carray

from skae._compiled import products, random_passes, row_passes, sparse_products
from skae._compiled.compilation import (
    REDUCTION,
    CFunction,
    as_pass,
    formula,
    is_null,
    like,
    made_for,
    shifted,
)
from skae._compiled.vector_math import (
    exp,
    expm1,
    exponential_parts,
    half_erfcx,
    log,
    log1p,
)

# ---------------------------------------------------------------------------
# Activations: value and derivative, side by side
# ---------------------------------------------------------------------------


# Stands for the function that a loop is made for.
_function: Any = None


def _activate(z, slope, n):
    """Loop of an activation: z becomes the activation, `slope` its derivative."""
    z, slope = carray(z, n), carray(slope, n)
    for i in range(n):
        z[i], slope[i] = _function(z[i])


def _activation_pass(function):
    return CFunction(made_for(function, _activate), "vvn")


@formula
def _logistic(z):
    one = like(1.0, z)
    e = exp(-abs(z))
    r = one / (one + e)
    return r if z >= 0 else e * r, e * r * r


@formula
def _tanh(z):
    one, two = like(1.0, z), like(2.0, z)
    m = expm1(-two * abs(z))
    a = math.copysign(m / (m + two), z)
    return a, (one - a) * (one + a)


@formula
def _relu(z):
    # `z < 0` rather than `z > 0`: a NaN goes through and is seen in the loss.
    zero = like(0.0, z)
    return (zero, zero) if z < 0 else (z, like(1.0, z))


# Maas, Hannun & Ng, "Rectifier nonlinearities improve neural network acoustic
# models", 2013.
LEAK = 0.01


@formula
def _leaky_relu(z):
    leak = like(LEAK, z)
    return (leak * z, leak) if z < 0 else (z, like(1.0, z))


@formula
def _elu(z):
    one = like(1.0, z)
    s, q = exponential_parts(-abs(z))
    return (s * q + (s - one), s * q + s) if z < 0 else (z, one)


# Klambauer et al., "Self-normalizing neural networks", 2017, equation 2.
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


@formula
def _selu(z):
    scale = like(SELU_SCALE, z)
    limit = like(SELU_SCALE * SELU_ALPHA, z)
    one = like(1.0, z)
    s, q = exponential_parts(-abs(z))
    negative = limit * (s * q + (s - one)), limit * (s * q + s)
    return negative if z < 0 else (z * scale, scale)


_SQRT_HALF = math.sqrt(0.5)
_INVERSE_SQRT_2PI = 1 / math.sqrt(2 * math.pi)


@formula
def _gelu(z):
    # Hendrycks & Gimpel, "Gaussian error linear units", 2016: z times the standard
    # normal distribution function, not its tanh approximation.
    one = like(1.0, z)
    e = exp(like(-0.5, z) * z * z)
    tail = e * half_erfcx(abs(z) * like(_SQRT_HALF, z))
    cdf = tail if z < 0 else one - tail
    return z * cdf, cdf + z * (like(_INVERSE_SQRT_2PI, z) * e)


@formula
def _silu(z):
    a, slope = _logistic(z)
    return z * a, a + z * slope


@formula
def _softplus(z):
    zero, one = like(0.0, z), like(1.0, z)
    e = exp(-abs(z))
    r = one / (one + e)
    positive = zero if z < 0 else z
    return positive + log1p(e), r if z >= 0 else e * r


# Name -> pass. A network holds positions in this table.
ACTIVATIONS = {
    "identity": None,
    "logistic": (_logistic_pass := _activation_pass(_logistic)),
    "sigmoid": _logistic_pass,
    "tanh": _activation_pass(_tanh),
    "relu": _activation_pass(_relu),
    "leaky_relu": _activation_pass(_leaky_relu),
    "elu": _activation_pass(_elu),
    "selu": _activation_pass(_selu),
    "gelu": _activation_pass(_gelu),
    "silu": _activation_pass(_silu),
    "softplus": _activation_pass(_softplus),
}
IDENTITY = 0
# What values an activation can have, unless all: the lowest, and the highest.
ACTIVATION_RANGES = {
    "logistic": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "relu": (0.0, math.inf),
    "elu": (-1.0, math.inf),
    "selu": (-SELU_SCALE * SELU_ALPHA, math.inf),
    "gelu": (-0.16997120747990369, math.inf),
    "silu": (-0.27846454276107380, math.inf),
    "softplus": (0.0, math.inf),
}


# ---------------------------------------------------------------------------
# Losses of one entry: (prediction, target) -> value, derivative by the prediction
# ---------------------------------------------------------------------------


def _measure(prediction, target, weights, values, total, n_units, n_rows, n_at_once):
    """Loop of a loss over a block: its sum is added to total[0].

    The prediction becomes the derivative. `values` has room for the losses of
    `n_at_once` units, which stay in the L1 cache. Null weights stand for ones.
    """
    for first in range(0, n_units, n_at_once):
        n_measured = min(n_at_once, n_units - first)
        n = n_measured * n_rows
        z, x = shifted(prediction, first * n_rows), shifted(target, first * n_rows)
        # Over many units, as the last entries of a loop are not in vectors.
        for i in range(n):
            values[i], z[i] = _function(z[i], x[i])
        if not is_null(weights):
            for j in range(n_measured):
                for i in range(n_rows):
                    values[j * n_rows + i] *= weights[i]
                    z[j * n_rows + i] *= weights[i]
        part = like(0.0, values[0])
        for i in range(n):
            part += values[i]
        total[0] += np.float64(part)


def _loss_pass(function):
    return CFunction(made_for(function, _measure), "vvvvdnnn", fastmath=REDUCTION)


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
# root mean square 1: errors above one such unit count linearly.
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

    softplus(z) = max(z, 0) + log(1 + e^-|z|): the linear parts are joined first, as
    for a sure and right prediction they cancel.
    """
    one = like(1.0, z)
    e = exp(-abs(z))
    r = one / (one + e)
    probability = r if z >= 0 else e * r
    linear = (one - target) * z if z >= 0 else -target * z
    return linear + log1p(e), probability - target


# Below, log(softplus(z)) = z - e^z / 2 to a rounding, where softplus has lost digits.
_SERIES_BELOW = -15.0


@formula
def _poisson_loss(z, target):
    """Negative log-likelihood, but for its constant, of the rate softplus(z).

    rate - target * log(rate).
    """
    half, one, zero = like(0.5, z), like(1.0, z), like(0.0, z)
    rate, slope = _softplus(z)
    is_small = z < like(_SERIES_BELOW, z)
    e = exp(z if is_small else zero)
    safe = one if is_small else rate
    log_rate = z - half * e if is_small else log(safe)
    ratio = one - half * e if is_small else slope / safe
    return rate - target * log_rate, slope - target * ratio


class Loss(NamedTuple):
    """What the rest of the package has to know of a loss.

    A loss with fixed outputs has its output activation built in, which keeps it
    finite and exact where that has saturated: its prediction is that's input.
    """

    compute: CFunction
    output_activation: str  # what "auto" means
    outputs: tuple[str, ...] | None  # the legal output activations; None: all
    low: float  # inputs are in [low, high]
    high: float

    @property
    def has_activation(self):
        """Whether the loss applies the output activation itself."""
        return self.outputs is not None

    @property
    def is_scaled(self):
        """Whether the network sees centred and scaled data: no range is given."""
        return math.isinf(self.low)


_ANY = (-math.inf, math.inf)
LOSSES = {
    "squared_error": Loss(_loss_pass(_squared_error), "identity", None, *_ANY),
    "absolute_error": Loss(_loss_pass(_absolute_error), "identity", None, *_ANY),
    "huber": Loss(_loss_pass(_huber), "identity", None, *_ANY),
    "log_loss": Loss(
        _loss_pass(_log_loss), "logistic", ("logistic", "sigmoid"), 0.0, 1.0
    ),
    "poisson": Loss(
        _loss_pass(_poisson_loss), "softplus", ("softplus",), 0.0, math.inf
    ),
}


# ---------------------------------------------------------------------------
# Solvers: a step from the gradient of a batch
# ---------------------------------------------------------------------------

# What a step needs besides arrays: entries of `settings`. The gradient that is given
# is a sum; the objective's is FACTOR times it, plus ALPHA times the parameters.
FACTOR, ALPHA, RATE, CORRECTION_1, CORRECTION_2 = range(5)
MOMENTUM, NESTEROV, BETA_1, BETA_2, EPSILON = range(5, 10)
N_SETTINGS = 16  # padded to whole cache lines, as each thread has its own
# Those that do not change between steps, and their names as parameters.
HYPERPARAMETERS = {
    MOMENTUM: "momentum",
    NESTEROV: "nesterovs_momentum",
    BETA_1: "beta_1",
    BETA_2: "beta_2",
    EPSILON: "epsilon",
}

# The network sees data of order one. A smaller entry of the gradient is a rounding
# error: of centred data, if their mean is up to 10^4 times their spread. Adam and
# RMSprop divide by the entry's size and would make steps of it, different ones for
# the same rows in another order.
_GRADIENT_ROUNDING = 1e-11


@formula
def _beyond_rounding(g):
    return like(0.0, g) if abs(g) < like(_GRADIENT_ROUNDING, g) else g


@as_pass("vvvvdn")
def scale_gradient(params, gradient, moment_1, moment_2, settings, n):
    """No step: the objective's gradient, for a solver that runs in Python."""
    params, gradient, settings = (
        carray(params, n),
        carray(gradient, n),
        carray(settings, N_SETTINGS),
    )
    zero = params[0]
    factor, alpha = like(settings[FACTOR], zero), like(settings[ALPHA], zero)
    for i in range(n):
        gradient[i] = factor * gradient[i] + alpha * params[i]


@as_pass("vvvvdn")
def _adam(params, gradient, moment_1, moment_2, settings, n):
    """Kingma & Ba, "Adam", 2015, in the order of operations at the end of section 2."""
    params, gradient = carray(params, n), carray(gradient, n)
    mean, square = carray(moment_1, n), carray(moment_2, n)
    settings = carray(settings, N_SETTINGS)
    zero = params[0]
    factor, alpha = like(settings[FACTOR], zero), like(settings[ALPHA], zero)
    beta_1, rest_1 = (
        like(settings[BETA_1], zero),
        like(1 - settings[BETA_1], zero),
    )
    beta_2, rest_2 = (
        like(settings[BETA_2], zero),
        like(1 - settings[BETA_2], zero),
    )
    epsilon = like(settings[EPSILON], zero)
    correction = math.sqrt(settings[CORRECTION_2]) / settings[CORRECTION_1]
    step = like(settings[RATE] * correction, zero)
    for i in range(n):
        g = _beyond_rounding(factor * gradient[i] + alpha * params[i])
        m = beta_1 * mean[i] + rest_1 * g
        s = beta_2 * square[i] + rest_2 * g * g
        mean[i], square[i] = m, s
        params[i] -= step * m / (math.sqrt(s) + epsilon)


@as_pass("vvvvdn")
def _sgd(params, gradient, moment_1, moment_2, settings, n):
    """Gradient descent with classical or Nesterov momentum.

    Sutskever et al., "On the importance of initialization and momentum in deep
    learning", 2013; Nesterov's in the form of Bengio et al., 2013, equation 7.
    """
    params, gradient = carray(params, n), carray(gradient, n)
    velocity, settings = carray(moment_1, n), carray(settings, N_SETTINGS)
    zero = params[0]
    factor, alpha = like(settings[FACTOR], zero), like(settings[ALPHA], zero)
    momentum, rate = like(settings[MOMENTUM], zero), like(settings[RATE], zero)
    # What the new velocity and the gradient count for in the step.
    ahead, now = momentum, rate
    if settings[NESTEROV] == 0:
        ahead, now = like(1.0, zero), like(0.0, zero)
    for i in range(n):
        g = factor * gradient[i] + alpha * params[i]
        v = momentum * velocity[i] - rate * g
        velocity[i] = v
        params[i] += ahead * v - now * g


@as_pass("vvvvdn")
def _rmsprop(params, gradient, moment_1, moment_2, settings, n):
    """Tieleman & Hinton, "RMSprop", 2012, with Adam's bias correction.

    Without it the first steps are larger by 1 / sqrt(1 - beta_2).
    """
    params, gradient = carray(params, n), carray(gradient, n)
    square, settings = carray(moment_2, n), carray(settings, N_SETTINGS)
    zero = params[0]
    factor, alpha = like(settings[FACTOR], zero), like(settings[ALPHA], zero)
    beta_2, rest_2 = (
        like(settings[BETA_2], zero),
        like(1 - settings[BETA_2], zero),
    )
    epsilon = like(settings[EPSILON], zero)
    step = like(settings[RATE] * math.sqrt(settings[CORRECTION_2]), zero)
    for i in range(n):
        g = _beyond_rounding(factor * gradient[i] + alpha * params[i])
        s = beta_2 * square[i] + rest_2 * g * g
        square[i] = s
        params[i] -= step * g / (math.sqrt(s) + epsilon)


SOLVERS = {"adam": _adam, "sgd": _sgd, "rmsprop": _rmsprop}


# ---------------------------------------------------------------------------
# Blocks
# ---------------------------------------------------------------------------


@as_pass("vvvnnn", REDUCTION)
def _backward_units(delta, slope, gradient, n_units, n_rows, is_first):
    """Multiply delta by the slope; add its sum of unit j to gradient[j], or put it.

    A null slope stands for ones.
    """
    gradient = carray(gradient, n_units)
    for j in range(n_units):
        total = like(0.0, gradient[j])
        if is_null(slope):
            for i in range(j * n_rows, (j + 1) * n_rows):
                total += delta[i]
        else:
            for i in range(j * n_rows, (j + 1) * n_rows):
                product = delta[i] * slope[i]
                delta[i] = product
                total += product
        gradient[j] = total if is_first else gradient[j] + total


@as_pass("vvn")
def _copy(a, b, n):
    """Copy b to a."""
    a, b = carray(a, n), carray(b, n)
    for i in range(n):
        a[i] = b[i]


@as_pass("vvn")
def _add(a, b, n):
    """Add b to a, entry by entry."""
    a, b = carray(a, n), carray(b, n)
    for i in range(n):
        a[i] += b[i]


@as_pass("vdnn", REDUCTION)
def _add_sum(block, total, n_units, n_rows):
    """Add the sum of a block to total[0]: of a unit in the dtype, then in float64."""
    block, total = carray(block, (n_units, n_rows)), carray(total, 1)
    whole = 0.0
    for j in range(n_units):
        part = like(0.0, block[0, 0])
        for i in range(n_rows):
            part += block[j, i]
        whole += np.float64(part)
    total[0] += whole


@as_pass("vdn", REDUCTION)
def add_squares(values, total, n):
    """Add the sum of n squares, in float64, to total[0]."""
    values, total = carray(values, n), carray(total, 1)
    squares = 0.0
    for i in range(n):
        squares += np.float64(values[i]) * np.float64(values[i])
    total[0] += squares


# ---------------------------------------------------------------------------
# Addresses
# ---------------------------------------------------------------------------


class Addresses(NamedTuple):
    """Where the machine code of the passes begins; 0 for none."""

    activations: np.ndarray  # (L + 1,) int64, of the layers; 0 for the identity
    product: int
    short_product: int
    dense_sparse_product: int
    sparse_dense_product: int
    pack: int
    prefetch: int
    pick: int
    gather: int
    gather_csr: int
    scatter: int
    loss: int
    solver: int
    copy: int
    add: int
    backward_units: int
    add_sum: int
    add_squares: int
    shuffle: int
    corrupt: int
    code_term: int
    code_term_backward: int
    add_code: int
    divergence_of_means: int


_INFERENCE = {
    "pick": row_passes.pick,
    "scatter": row_passes.scatter,
    "product": products.product,
    "add_sum": _add_sum,
}
# Of dense and of sparse rows.
_GATHER = {
    False: {"gather": row_passes.gather},
    True: {"gather_csr": row_passes.gather_csr},
}
# Of rows with many zeros.
_SPARSE = {
    "dense_sparse_product": sparse_products.dense_sparse_product,
    "sparse_dense_product": sparse_products.sparse_dense_product,
}
_LEARNING = {
    "short_product": products.short_product,
    "pack": products.pack,
    "prefetch": row_passes.prefetch_rows,
    "copy": _copy,
    "add": _add,
    "backward_units": _backward_units,
    "add_squares": add_squares,
    "shuffle": random_passes.shuffle,
}


def addresses(dtype, activations, kinds, has_zeros, loss=None, **others):
    """The passes that a network needs, compiled.

    Parameters
    ----------
    dtype : dtype

    activations : ndarray of int
        Positions in ``ACTIVATIONS``, the input's first.

    kinds : set of bool
        Whether the rows to be read are sparse.

    has_zeros : bool
        Whether the network sees many zeros.

    loss : CFunction, default=None
        None for inference alone.

    **others : CFunction or None
        The solver's and the objective's own, by the fields of ``Addresses``.

    Returns
    -------
    addresses : Addresses
    """
    passes = list(ACTIVATIONS.values())
    layers = [passes[position] for position in activations]
    named = dict.fromkeys(Addresses._fields[1:])
    named |= _INFERENCE
    for is_sparse in kinds:
        named |= _GATHER[is_sparse]
    if has_zeros:
        named |= _SPARSE
    if loss is not None:
        named |= _LEARNING | {"loss": loss} | others
    return Addresses(
        activations=np.array([_address(p, dtype) for p in layers], dtype=np.int64),
        **{name: _address(p, dtype) for name, p in named.items()},
    )


def _address(compiled_pass, dtype):
    return 0 if compiled_pass is None else compiled_pass.address(dtype)
