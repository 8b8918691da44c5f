"""Activations, of operators that ONNX Runtime has for float32 and float64."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.polynomial import chebyshev

from skae._compiled import vector_math
from skae._compiled.activations import LEAK, SELU_ALPHA, SELU_SCALE
from skae._compiled.vector_math import ERFCX_CENTRE
from skae.onnx._graph import Graph


def _identity(graph: Graph, z: str) -> str:
    return z


def exponential(graph: Graph, z: str) -> str:
    """e^-|z|."""
    return graph.node("Exp", graph.node("Neg", graph.node("Abs", z)))


def _expm1(graph: Graph, z: str) -> str:
    """e^z - 1 for z <= 0: 2 t / (1 - t) with t = tanh(z / 2), where nothing cancels."""
    t = graph.node("Tanh", graph.node("Mul", z, 0.5))
    return graph.node("Div", graph.node("Mul", t, 2.0), graph.node("Sub", 1.0, t))


def log1p(graph: Graph, e: str) -> str:
    """log(1 + e) for e in [0, 1]."""
    # Digits of e that 1 + e has lost are restored to first order, which is enough.
    u = graph.node("Add", e, 1.0)
    lost = graph.node("Sub", e, graph.node("Sub", u, 1.0))
    return graph.node("Add", graph.node("Log", u), graph.node("Div", lost, u))


def _logistic(graph: Graph, z: str) -> str:
    # ONNX Runtime's Sigmoid bounds the absolute error only, in float32 by about 1e-7.
    e = exponential(graph, z)
    above = graph.node("Where", graph.node("Less", z, 0.0), e, 1.0)
    return graph.node("Div", above, graph.node("Add", e, 1.0))


def _tanh(graph: Graph, z: str) -> str:
    return graph.node("Tanh", z)


def _relu(graph: Graph, z: str) -> str:
    return graph.node("Relu", z)


def _leaky_relu(graph: Graph, z: str) -> str:
    return graph.node("Max", z, graph.node("Mul", z, LEAK))


def _elu(graph: Graph, z: str, alpha: float = 1.0) -> str:
    negative = _expm1(graph, graph.node("Min", z, 0.0))
    if alpha != 1:
        negative = graph.node("Mul", negative, alpha)
    return graph.node("Add", graph.node("Relu", z), negative)


def _selu(graph: Graph, z: str) -> str:
    return graph.node("Mul", _elu(graph, z, SELU_ALPHA), SELU_SCALE)


# Degrees of the polynomial that is e^(x^2) erfc(x) (1 + 2 x), for a relative error of
# 10^-7 and 10^-14.
_ERFCX_DEGREES = {np.dtype(np.float32): 11, np.dtype(np.float64): 20}


@cache
def _erfcx_polynomial(degree: int) -> list[float]:
    """Coefficients in (x - k) / (x + k), ascending; see `vector_math`."""
    series = chebyshev.chebinterpolate(vector_math.scaled_erfcx, degree)
    coefficients: list[float] = chebyshev.cheb2poly(series).tolist()
    return coefficients


def _gelu(graph: Graph, z: str) -> str:
    # relu(z) - |z| times the standard normal distribution function at -|z|.
    size = graph.node("Abs", z)
    x = graph.node("Mul", size, 0.5**0.5)
    argument = graph.node(
        "Div",
        graph.node("Sub", x, ERFCX_CENTRE),
        graph.node("Add", x, ERFCX_CENTRE),
    )
    coefficients = _erfcx_polynomial(_ERFCX_DEGREES[graph.dtype])
    total: str | float = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = graph.node("Mul", total, argument)
        total = graph.node("Add", total, coefficient)
    e = graph.node("Exp", graph.node("Mul", graph.node("Mul", z, z), -0.5))
    tail = graph.node(
        "Div",
        graph.node("Mul", graph.node("Mul", e, total), 0.5),
        graph.node("Add", graph.node("Mul", x, 2.0), 1.0),
    )
    return graph.node("Sub", graph.node("Relu", z), graph.node("Mul", size, tail))


def _silu(graph: Graph, z: str) -> str:
    return graph.node("Mul", z, _logistic(graph, z))


def _softplus(graph: Graph, z: str) -> str:
    # relu(z) + log(1 + e).
    rest = log1p(graph, exponential(graph, z))
    return graph.node("Add", graph.node("Relu", z), rest)


# How each of `skae._compiled.activations.ACTIVATIONS` is composed of ONNX operators.
ACTIVATIONS: dict[str, Callable[[Graph, str], str]] = {
    "identity": _identity,
    "logistic": _logistic,
    "sigmoid": _logistic,
    "tanh": _tanh,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": _selu,
    "gelu": _gelu,
    "silu": _silu,
    "softplus": _softplus,
}
