"""Activations: values, derivatives, and the table by name.

Formulas have no branches and call nothing that is not inlined, so that LLVM turns
loops into vector instructions.
"""

import math
from typing import Any, NamedTuple

from numba import carray

from skae._compiled.compilation import Op, formula, made_for
from skae._compiled.intrinsics import like
from skae._compiled.vector_math import exp, expm1, exponential_parts, half_erfcx, log1p
from skae._compiled.vectors import use_whole_registers

# Placeholder for the formula, see `made_for`.
_function: Any = None


def _activate(z, slope, n):
    """Replace z by the activation, and write its derivative to `slope`."""
    use_whole_registers()
    z, slope = carray(z, n), carray(slope, n)
    for i in range(n):
        z[i], slope[i] = _function(z[i])


def _activation_op(function):
    return Op(made_for(function, _activate), "vvn")


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
    # `z < 0` rather than `z > 0`, so that NaN reaches the loss.
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
def softplus(z):
    zero, one = like(0.0, z), like(1.0, z)
    e = exp(-abs(z))
    r = one / (one + e)
    positive = zero if z < 0 else z
    return positive + log1p(e), r if z >= 0 else e * r


class Carrier(NamedTuple):
    """How units with an activation f pass a PCA score z on to the next layer.

    With a `pair`, two units per score: f(z) - f(-z) = `pair` * z.
    With a `margin`, one unit per score: f(z + shift) = `slope` * (z + shift) where
    z + shift >= `margin`, which holds for all rows that the shift is computed from (to
    1e-8 for gelu, silu and softplus).
    Otherwise f is only nearly linear, around zero: f(gain * z) - f(0) is about
    `slope` * gain * z.
    """

    pair: float | None = None
    slope: float = 1.0
    margin: float | None = None
    gain: float = 1.0

    @property
    def is_exact(self):
        """Whether the score is passed on unchanged."""
        return self.gain == 1.0


# With a gain g the relative error of tanh is g² z² / 3; with a smaller one gradients
# would differ more between layers.
_GAIN = 0.1


class Activation(NamedTuple):
    """Properties of an activation."""

    op: Op | None  # None for the identity
    init: str  # the random initialization derived for it, a key of RANDOM_INITS
    carrier: Carrier  # for the initialization from PCA
    low: float = -math.inf  # values are in [low, high]
    high: float = math.inf

    @property
    def is_limited(self):
        """Whether the range of values is bounded."""
        return self.low > -math.inf


# Networks hold positions in this table: append new activations at the end. `skae.onnx`
# has a table with the same names.
ACTIVATIONS = {
    "identity": Activation(None, "glorot", Carrier()),
    "logistic": (
        _LOGISTIC := Activation(
            _activation_op(_logistic),
            "glorot",
            Carrier(slope=0.25, gain=2 * _GAIN),
            low=0.0,
            high=1.0,
        )
    ),
    "sigmoid": _LOGISTIC,
    "tanh": Activation(
        _activation_op(_tanh), "glorot", Carrier(gain=_GAIN), low=-1.0, high=1.0
    ),
    "relu": Activation(
        _activation_op(_relu), "he", Carrier(pair=1.0, margin=1.0), low=0.0
    ),
    "leaky_relu": Activation(
        _activation_op(_leaky_relu), "he", Carrier(pair=1.0 + LEAK, margin=1.0)
    ),
    "elu": Activation(_activation_op(_elu), "he", Carrier(margin=1.0), low=-1.0),
    "selu": Activation(
        _activation_op(_selu),
        "lecun",
        Carrier(slope=SELU_SCALE, margin=1.0),
        low=-SELU_SCALE * SELU_ALPHA,
    ),
    "gelu": Activation(
        _activation_op(_gelu),
        "he",
        Carrier(pair=1.0, margin=6.0),
        low=-0.16997120747990369,
    ),
    "silu": Activation(
        _activation_op(_silu),
        "he",
        Carrier(pair=1.0, margin=20.0),
        low=-0.27846454276107380,
    ),
    "softplus": Activation(
        _activation_op(softplus), "glorot", Carrier(pair=1.0, margin=20.0), low=0.0
    ),
}
IDENTITY = 0
