"""Functions of groups of outputs, against SciPy's."""

import numpy as np
import pytest
from scipy import special, stats

from skae._model import groups as module
from skae._model.network import make_network

# Two outputs in no group, then groups of three, one and two.
NETWORK = make_network([8, 3, 8], ["tanh", "identity"], tied=False, groups=[3, 1, 2])
SLICES = [slice(2, 5), slice(5, 6), slice(6, 8)]


def outputs(size=1.0):
    return size * np.random.default_rng(0).standard_normal((20, 8))


def levels():
    """Levels of rows in every group, the third missing in some rows."""
    rng, rows = np.random.default_rng(1), np.zeros((20, 8))
    for of_group in SLICES:
        rows[np.arange(20), rng.integers(of_group.start, of_group.stop, 20)] = 1
    rows[:4, SLICES[2]] = np.nan
    return rows


@pytest.mark.parametrize("size", [1.0, 1e3])
def test_probabilities_are_softmax(size):
    z = outputs(size)
    found = module.probabilities(z, NETWORK)
    np.testing.assert_array_equal(found[:, :2], z[:, :2])
    for of_group in SLICES:
        expected = special.softmax(z[:, of_group], axis=1)
        np.testing.assert_allclose(found[:, of_group], expected, rtol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e3])
def test_cross_entropies_are_stable(size):
    z, x = outputs(size), levels()
    z[0, SLICES[0]] = [50.0, 50.0, 1.0]  # two levels are the highest
    z[1, SLICES[0]], x[1, SLICES[0]] = [45.0, 0.0, 1.0], [1, 0, 0]
    found = module.cross_entropies(z, x, NETWORK)
    for number, of_group in enumerate(SLICES):
        expected = -(special.log_softmax(z[:, of_group], axis=1) * x[:, of_group])
        expected = expected.sum(axis=1)
        if not number:  # log_softmax has lost the digits of the confident prediction
            expected[1] = np.exp(-45.0) + np.exp(-44.0)
        np.testing.assert_allclose(found[:, number], expected, rtol=1e-9, atol=1e-30)


def test_a_column_without_prediction_has_half_a_loss():
    """The loss is what `NULL_LOSS` says if frequencies are all that is known."""
    x = levels()
    mean = np.nanmean(x, axis=0)
    weights = module.unit_weights(mean, NETWORK, np.array([1, 2, 3, 1, 0.5]))
    np.testing.assert_array_equal(weights[:2], [1, 2])
    logits = np.append([0, 0], module.log_frequencies(mean, NETWORK))
    losses = module.cross_entropies(np.tile(logits, (20, 1)), x, NETWORK)
    weighted = np.nanmean(losses, axis=0) * weights[[2, 5, 6]]
    np.testing.assert_allclose(weighted, [3 * 0.5, 0, 0.5 * 0.5], atol=1e-12)
    entropies = module.entropies(mean, NETWORK)
    expected = [stats.entropy(mean[of_group]) for of_group in SLICES]
    np.testing.assert_allclose(entropies, expected, atol=1e-12)


def test_without_groups_nothing_is_computed():
    plain = make_network([8, 3, 8], ["tanh", "identity"], tied=False)
    z = outputs()
    assert module.unit_weights(z[0], plain, None) is None
    assert module.probabilities(z, plain) is z
    assert module.summed_over_groups(z, plain) is z


def test_columns():
    x = np.nan_to_num(levels())
    summed = module.summed_over_groups(x, NETWORK)
    assert summed.shape == (20, 5)
    np.testing.assert_array_equal(summed[:, :2], x[:, :2])
    np.testing.assert_array_equal(summed[4:, 2:], 1)
    of_columns = np.arange(5.0)
    of_units = module.of_units(of_columns, NETWORK)
    np.testing.assert_array_equal(of_units, [0, 1, 2, 2, 2, 3, 4, 4])
    np.testing.assert_array_equal(of_units[module.columns_of(NETWORK)], of_columns)
