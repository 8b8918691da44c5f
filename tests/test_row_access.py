"""Rows into blocks and out again."""

import itertools

import numpy as np
import pytest

from skae._compiled import row_access

# Fewer than a square, whole squares, and both with a rest.
SHAPES = list(itertools.product((1, 7, 8, 20), (1, 4, 8, 19)))


def scaling_for(n_features, dtype):
    means, factors = np.linspace(-1, 1, n_features), np.linspace(0.5, 2, n_features)
    return np.concatenate([means, factors]).astype(dtype)


@pytest.mark.parametrize(("n_rows", "n_features"), SHAPES)
def test_gather_transposes_and_scales_picked_rows(n_rows, n_features, dtype):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, n_features)).astype(dtype)
    scaling = scaling_for(n_features, dtype)
    picked = rng.integers(-1, 50, n_rows)
    block = np.full((n_features + 1, n_rows), 7, dtype=dtype)
    row_access.gather(values, picked, scaling, block, n_rows, n_features)
    expected = (values[picked] - scaling[:n_features]) * scaling[n_features:]
    expected[picked < 0] = 0
    assert np.array_equal(block[:-1], expected.T)
    assert (block[-1] == 7).all()


@pytest.mark.parametrize(("n_rows", "n_units"), SHAPES)
def test_scatter_is_the_way_back(n_rows, n_units, dtype):
    block = np.random.default_rng(0).normal(size=(n_units, 24)).astype(dtype)
    scaling = scaling_for(n_units, dtype)
    out = np.full((n_rows + 1, n_units), 7, dtype=dtype)
    row_access.scatter(block, scaling, out, n_rows, n_units, 24)
    expected = block[:, :n_rows].T * scaling[n_units:] + scaling[:n_units]
    # A product and a sum may be rounded once.
    np.testing.assert_allclose(out[:-1], expected, rtol=0, atol=4 * np.finfo(dtype).eps)
    assert (out[-1] == 7).all()
