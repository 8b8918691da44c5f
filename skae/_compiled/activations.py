"""Activations: value and derivative, side by side, and the table of them.

The loop has no branches and calls nothing that is not inlined, so that LLVM turns it
into vector instructions.
"""

import math
from typing import Any

from numba import carray

from skae._compiled.compilation import CFunction, formula, made_for
from skae._compiled.intrinsics import like
from skae._compiled.vector_math import (
    exp,
    expm1,
    exponential_parts,
    half_erfcx,
    log1p,
)

# Stands for the function that a loop is made for.
_function: Any = None


def _activate(z, slope, n):
    """Loop of an activation: z becomes the activation, `slope` its derivative."""
    z, slope = carray(z, n), carray(slope, n)
    for i in range(n):
        z[i], slope[i] = _function(z[i])


def _activation_op(function):
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
def softplus(z):
    zero, one = like(0.0, z), like(1.0, z)
    e = exp(-abs(z))
    r = one / (one + e)
    positive = zero if z < 0 else z
    return positive + log1p(e), r if z >= 0 else e * r


# Name -> compiled loop. A network holds positions in this table.
ACTIVATIONS = {
    "identity": None,
    "logistic": (_logistic_op := _activation_op(_logistic)),
    "sigmoid": _logistic_op,
    "tanh": _activation_op(_tanh),
    "relu": _activation_op(_relu),
    "leaky_relu": _activation_op(_leaky_relu),
    "elu": _activation_op(_elu),
    "selu": _activation_op(_selu),
    "gelu": _activation_op(_gelu),
    "silu": _activation_op(_silu),
    "softplus": _activation_op(softplus),
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
