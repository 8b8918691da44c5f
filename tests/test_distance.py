"""Mahalanobis distances, against the inverse of the covariance."""

import numpy as np
import pytest

from skae._data.gaussian import Gaussian
from skae._model.distance import Distance, shrunk


def gaussian(n_features, n_directions, seed=0):
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.standard_normal((n_features, n_directions)))
    loadings = axes * np.linspace(2, 0, n_directions)  # the last has no length
    return Gaussian(rng.standard_normal(n_features), loadings, 0.3)


def covariance_of(gaussian):
    return gaussian.loadings @ gaussian.loadings.T + gaussian.noise * np.eye(
        len(gaussian.mean)
    )


@pytest.mark.parametrize(("n_features", "n_directions"), [(1, 1), (6, 5), (30, 3)])
def test_distances(n_features, n_directions):
    g = gaussian(n_features, n_directions)
    precision = np.linalg.inv(covariance_of(g))
    rows = np.random.default_rng(1).standard_normal((20, n_features)).astype(np.float32)
    deviations = rows - g.mean
    distance = Distance(g)
    expected = np.einsum("ij,jk,ik->i", deviations, precision, deviations)
    np.testing.assert_allclose(distance.squared(rows), expected, rtol=1e-5)
    w, v = np.linalg.eigh(precision)
    root = v * np.sqrt(w) @ v.T
    np.testing.assert_allclose(
        distance.whitened(rows), deviations @ root, rtol=1e-4, atol=1e-5
    )
    expected = deviations @ precision / np.diag(precision)
    np.testing.assert_allclose(
        distance.unexpected(rows), expected, rtol=1e-4, atol=1e-5
    )


def test_missing_entries_do_not_count():
    g = gaussian(6, 5)
    rows = np.random.default_rng(1).standard_normal((8, 6)).astype(np.float32)
    expected = []
    for i, row in enumerate(rows[:7]):
        row[:i] = np.nan
        seen = np.isfinite(row)
        part = np.linalg.inv(covariance_of(g)[np.ix_(seen, seen)])
        deviations = (row - g.mean)[seen]
        expected.append(deviations @ part @ deviations)
    before = rows.copy()
    distance = Distance(g)
    np.testing.assert_allclose(
        distance.squared(rows)[:7], expected, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_array_equal(rows, before)
    np.testing.assert_array_equal(
        distance.squared(rows[7:]), distance.squared(rows)[7:]
    )


def test_shrunk():
    g = gaussian(5, 4)
    expected = 0.9 * covariance_of(g) + 0.1 * np.eye(5)
    np.testing.assert_allclose(covariance_of(shrunk(g, 0.1)), expected)
