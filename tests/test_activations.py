"""Activations against their definitions."""

import numpy as np
import pytest

from skae._compiled.activations import ACTIVATIONS, IDENTITY

from .support import reference
from .support.cases import ACTIVATION_NAMES


def test_the_table_is_complete():
    assert set(ACTIVATIONS) == {*ACTIVATION_NAMES, "sigmoid"}
    assert list(ACTIVATIONS)[IDENTITY] == "identity"


def activate(activation, z, slope):
    if activation != "identity":
        ACTIVATIONS[activation].op(z, slope, z.size)


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_activations_and_their_slopes(activation, dtype):
    z = np.concatenate([np.linspace(-6, 6, 241), [-100, 100, -1e4, 1e4]])
    function, slope_of = reference.ACTIVATIONS[activation]
    nan, a, slope = np.array([np.nan], dtype), z.astype(dtype), np.ones(len(z), dtype)
    activate(activation, nan, slope)
    assert np.isnan(nan[0])
    activate(activation, a, slope)
    with np.errstate(over="ignore"):
        expected, expected_slope = function(z), slope_of(z)
    kinks = z == 0  # any subgradient will do
    tolerance = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(a, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(
        slope[~kinks], expected_slope[~kinks], rtol=tolerance, atol=tolerance
    )
