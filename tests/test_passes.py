"""Passes: activations and losses against their definitions, vectors."""

import numba
import numpy as np
import pytest

from skae._compiled import passes
from skae._compiled.compilation import c_functions
from skae._compiled.passes import LOSSES

from .support import reference
from .support.cases import ACTIVATION_NAMES, LOSS_NAMES

DTYPES = (np.float32, np.float64)
# These look for rows in memory, are written in vectors, or call others.
NOT_VECTORISED = {
    "train",
    "finish_epoch",
    "train_part",
    "step",
    "summed_loss",
    "summed_gradient",
    "propagate",
    "forward",
    "lanes",
    "code_means",
    "_divergence_of_means",
    "_draw_code",  # by Numba 0.60; the code has few entries
    "shuffle",
    "pick",
    "prefetch_rows",
    "gather",
    "gather_csr",
    "scatter",
    "product",
    "short_product",
    "dense_sparse_product",
    "sparse_dense_product",
    "pack",
}


def test_tables_are_complete():
    assert set(passes.ACTIVATIONS) == {*ACTIVATION_NAMES, "sigmoid"}
    assert set(LOSSES) == set(LOSS_NAMES)
    assert list(passes.ACTIVATIONS)[passes.IDENTITY] == "identity"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "of",
    [f for f in c_functions() if f.function.__name__ not in NOT_VECTORISED],
    ids=lambda of: of.function.__qualname__[:-13],
)
def test_loops_are_vectorised(of, dtype):
    """One call, or one branch too many, and a loop is ten times slower."""
    fresh = numba.cfunc(of.compiled(dtype)._sig, **of.options)
    assert "vector.body" in fresh(of.function).inspect_llvm()


def losses(loss, prediction, target, dtype):
    prediction, target = prediction.astype(dtype), target.astype(dtype)
    values, no_weights = np.empty_like(prediction), np.empty(0, dtype=dtype)
    sizes = 1, values.size, 1
    LOSSES[loss].compute(prediction, target, no_weights, values, np.zeros(1), *sizes)
    return values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_losses_are_finite_and_right_for_extreme_outputs(loss, dtype):
    """Saturated probabilities, rates that underflow: the stable forms."""
    z = np.array([[-800.0], [-90], [-30], [-15], [-1], [0], [1], [30], [90], [800]])
    target = np.full_like(z, 0.25)
    out = losses(loss, z, target, dtype)
    softplus = np.logaddexp(0, z)
    log_softplus = np.where(
        z < -15, z - np.exp(np.minimum(z, 0)) / 2, np.log(softplus.clip(1e-300))
    )
    expected = {
        "squared_error": (z - target) ** 2 / 2,
        "absolute_error": abs(z - target),
        "huber": reference.LOSSES["huber"][0](z, target),
        "log_loss": softplus - target * z,
        "poisson": softplus - target * log_softplus,
    }[loss]
    tolerance = 50 * np.finfo(dtype).eps
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


def activate(activation, z, slope):
    if activation != "identity":
        passes.ACTIVATIONS[activation](z, slope, z.size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_activations_and_their_slopes(activation, dtype):
    z = np.concatenate([np.linspace(-6, 6, 241), [-100, 100, -1e4, 1e4]])
    function, slope_of = reference.ACTIVATIONS[activation]
    a, slope = z.astype(dtype), np.ones(len(z), dtype=dtype)
    activate(activation, a, slope)
    with np.errstate(over="ignore"):
        expected, expected_slope = function(z), slope_of(z)
    kinks = z == 0  # any subgradient will do
    tolerance = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(a, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(
        slope[~kinks], expected_slope[~kinks], rtol=tolerance, atol=tolerance
    )


def test_activations_let_nan_through():
    for activation in ACTIVATION_NAMES:
        z, slope = np.array([np.nan]), np.ones(1)
        activate(activation, z, slope)
        assert np.isnan(z[0])


def test_losses_let_nan_through():
    for loss in LOSS_NAMES:
        assert np.isnan(losses(loss, np.array([np.nan]), np.array([0.5]), np.float64))


@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_loss_is_exact_where_it_saturates(target, dtype):
    z = np.array([[-80.0], [-40], [-10], [-1], [0], [1], [10], [40], [80]])
    out = losses("log_loss", z, np.full_like(z, target), dtype)
    expected = target * np.logaddexp(0, -z) + (1 - target) * np.logaddexp(0, z)
    np.testing.assert_allclose(out, expected, rtol=20 * np.finfo(dtype).eps)
