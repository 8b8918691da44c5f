"""The formulas against arbitrary precision, in units in the last place."""

import mpmath
import numpy as np
import pytest

from skae._compiled import activations, vector_math

N_POINTS = 1000


def points(low, high, dtype):
    """Numbers all over a range, and close to its ends and to zero."""
    rng = np.random.default_rng(0)
    spread = rng.uniform(low, high, N_POINTS)
    small = np.exp(rng.uniform(-30, 0, N_POINTS)) * np.sign(spread)
    edges = np.array([low, high, 0.0, -0.0])
    x = np.concatenate([spread, small, edges]).astype(dtype)
    return x[(x >= low) & (x <= high)]


def largest_error(found, function, x):
    """Largest distance from the truth, in units in the last place of the truth."""
    with mpmath.workprec(200):
        truths = [function(mpmath.mpf(float(value))) for value in x]
        errors = [
            abs(mpmath.mpf(float(value)) - truth)
            / float(np.spacing(np.abs(found.dtype.type(float(truth)))))
            for value, truth in zip(found, truths, strict=True)
        ]
        return float(max(errors))


# The coefficients of erfcx are interpolated in float64, to 1e-14. In float32 the error
# is below 5 with fused multiplications, 5.7 without.
ERFCX_ERRORS = {np.float32: 6.0, np.float64: 100.0}
# name -> truth, range, largest error allowed. Values are normal numbers.
FORMULAS = {
    "exp": (mpmath.exp, (-87, 0), 1.0),
    "expm1": (mpmath.expm1, (-87, 0), 1.5),
    "log1p": (mpmath.log1p, (0, 1), 2.0),
    "log": (mpmath.log, (1e-30, 1e30), 2.0),
    "half_erfcx": (
        lambda x: mpmath.exp(x * x) * mpmath.erfc(x) / 2,
        (0, 20),
        ERFCX_ERRORS,
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name, dtype):
    truth, (low, high), allowed = FORMULAS[name]
    x = points(low, high, dtype)
    if name == "log":
        x = np.exp(np.linspace(-69, 69, N_POINTS)).astype(dtype)
        x = np.concatenate([x, (1 + points(-0.4, 0.9, np.float64)).astype(dtype)])
    formula = getattr(vector_math, name)
    found = np.array([formula(value) for value in x], dtype=dtype)
    if isinstance(allowed, dict):
        allowed = allowed[dtype]
    assert largest_error(found, truth, x) <= allowed


ACTIVATIONS = {
    "logistic": (lambda x: 1 / (1 + mpmath.exp(-x)), 3.0),
    "tanh": (mpmath.tanh, 3.0),
    "softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), 3.0),
    "elu": (lambda x: x if x > 0 else mpmath.expm1(x), 1.5),
    "silu": (lambda x: x / (1 + mpmath.exp(-x)), 3.5),
    "gelu": (
        lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
        # Of the tail, as many digits are lost as the exponent of e^(-z^2 / 2) has.
        {np.float32: 20.0, np.float64: 100.0},
    ),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_as_vectors(name, dtype):
    """The machine code of a vector is not that of a single number."""
    truth, allowed = ACTIVATIONS[name]
    x = points(-5, 30, dtype) if name == "gelu" else points(-80, 80, dtype)
    found, slope = x.copy(), np.empty_like(x)
    activations.ACTIVATIONS[name].op(found, slope, x.size)
    if isinstance(allowed, dict):
        allowed = allowed[dtype]
    assert largest_error(found, truth, x) <= allowed


def test_exponential_ends_at_the_smallest_normal_number(dtype):
    smallest = np.finfo(dtype).tiny
    for x in (-90.0, -1e4, -np.inf) if dtype == np.float32 else (-1e4, -np.inf):
        assert 0 < vector_math.exp(dtype(x)) < 2 * smallest
    assert np.isnan(vector_math.exp(dtype(np.nan)))
