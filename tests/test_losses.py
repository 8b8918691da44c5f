"""Losses against their definitions."""

import numpy as np
import pytest

from skae._compiled.losses import LOSSES

from .support import reference
from .support.cases import LOSS_NAMES


def test_the_table_is_complete():
    assert set(LOSSES) == set(LOSS_NAMES)


def losses(loss, prediction, target, dtype):
    prediction, target = prediction.astype(dtype), target.astype(dtype)
    values, no_weights = np.empty_like(prediction), np.empty(0, dtype=dtype)
    sizes = 0, 1, values.size, 1
    none = no_weights, no_weights
    LOSSES[loss].op(prediction, target, *none, values, np.zeros(1), *sizes)
    return values


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_losses_are_finite_and_right_for_extreme_outputs(loss, dtype):
    """Saturated probabilities, rates that underflow: the stable forms."""
    z = np.array([[-800.0], [-90], [-30], [-15], [-1], [0], [1], [30], [90], [800]])
    target = np.full_like(z, 0.25)
    assert np.isnan(losses(loss, target * np.nan, target, dtype)).all()
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


@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_log_loss_is_exact_where_it_saturates(target, dtype):
    z = np.array([[-80.0], [-40], [-10], [-1], [0], [1], [10], [40], [80]])
    out = losses("log_loss", z, np.full_like(z, target), dtype)
    expected = target * np.logaddexp(0, -z) + (1 - target) * np.logaddexp(0, z)
    np.testing.assert_allclose(out, expected, rtol=20 * np.finfo(dtype).eps)
