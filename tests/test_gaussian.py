"""The normal distribution that fills missing entries: expectations, and the fit."""

import numpy as np
import pytest
from scipy import linalg, sparse
from threadpoolctl import threadpool_limits

from skae._data import gaussian as gaussian_module
from skae._data.gaussian import Expectation, Gaussian, filled, fit_gaussian
from skae._data.rows import make_rows
from skae._data.rows import row_chunks as row_chunks_of

from .support.reference import expected


def make_gaussian(n_features=7, n_directions=3, seed=0):
    rng = np.random.default_rng(seed)
    loadings = rng.standard_normal((n_features, n_directions))
    return Gaussian(rng.standard_normal(n_features), loadings, 0.3)


def draw(gaussian, n_rows, rng):
    scores = rng.standard_normal((n_rows, gaussian.loadings.shape[1]))
    noise = np.sqrt(gaussian.noise) * rng.standard_normal((n_rows, len(gaussian.mean)))
    return gaussian.mean + scores @ gaussian.loadings.T + noise


def without(X, share, rng):
    return np.where(rng.random(X.shape) < share, np.nan, X)


def covariance_of(gaussian):
    own = gaussian.noise * np.eye(len(gaussian.mean))
    return gaussian.loadings @ gaussian.loadings.T + own


@pytest.mark.parametrize("by_precision", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("n_directions", [0, 1, 3, 6])
def test_expectations(n_directions, share, by_precision):
    """And their covariances, by the formulas for a normal distribution."""
    gaussian, rng = make_gaussian(7, n_directions), np.random.default_rng(1)
    if by_precision and n_directions:  # directions have to be orthogonal
        axes, spreads, _ = np.linalg.svd(gaussian.loadings, full_matrices=False)
        gaussian = gaussian._replace(loadings=axes * spreads)
    rows = without(draw(gaussian, 30, rng), share, rng)
    weights, found = rng.random(30), rows.copy()
    covariance = np.zeros((7, 7))
    how = {"by_precision": by_precision}
    Expectation(gaussian, **how).fill(found, weights, covariance)
    np.testing.assert_allclose(found, expected(rows, *gaussian), rtol=1e-10)
    true_covariance, sigma = np.zeros((7, 7)), covariance_of(gaussian)
    for row, weight in zip(rows, weights, strict=True):
        lacks = np.isnan(row)
        shared = sigma[np.ix_(lacks, ~lacks)]
        there = sigma[np.ix_(~lacks, ~lacks)]
        rest = sigma[np.ix_(lacks, lacks)] - shared @ np.linalg.solve(there, shared.T)
        true_covariance[np.ix_(lacks, lacks)] += weight * rest
    np.testing.assert_allclose(covariance, np.triu(true_covariance), atol=1e-10)


def test_fits_by_the_inverse_of_covariances():
    gaussian, rng = make_gaussian(6, 5), np.random.default_rng(0)
    rows = make_rows(without(draw(gaussian, 200, rng), 0.3, rng), has_missing=True)
    for ours, other in zip(
        fit_gaussian(rows, 6, by_precision=True), fit_gaussian(rows, 6), strict=True
    ):
        np.testing.assert_allclose(ours, other, atol=1e-10)


def test_variances_that_lapack_cannot_order(monkeypatch):
    """As of many levels that do not depend on each other, in some versions of it."""
    gaussian, rng = make_gaussian(6, 5), np.random.default_rng(0)
    rows = make_rows(without(draw(gaussian, 200, rng), 0.3, rng), has_missing=True)
    usual = fit_gaussian(rows, 3)

    def eigh(matrix, **how):
        if "subset_by_index" in how:
            raise np.linalg.LinAlgError("Internal Error.")
        return linalg.eigh(matrix, **how)

    monkeypatch.setattr(gaussian_module, "eigh", eigh)
    for ours, other in zip(fit_gaussian(rows, 3), usual, strict=True):
        np.testing.assert_allclose(np.abs(ours), np.abs(other), atol=1e-8)


def test_a_row_does_not_depend_on_others():
    gaussian, rng = make_gaussian(30, 20), np.random.default_rng(0)
    rows = without(draw(gaussian, 50, rng), 0.3, rng)
    together, alone = rows.copy(), rows.copy()
    Expectation(gaussian).fill(together)
    for i in range(50):
        Expectation(gaussian).fill(alone[i : i + 1])
    np.testing.assert_array_equal(together, alone)


def naive_em(X, weights, n_steps):
    """Of a distribution with any covariance."""
    mean, sigma = np.zeros(X.shape[1]), np.eye(X.shape[1])
    for _ in range(n_steps):
        rows, more = X.copy(), np.zeros_like(sigma)
        for row, weight in zip(rows, weights, strict=True):
            lacks = np.isnan(row)
            shared = sigma[np.ix_(lacks, ~lacks)]
            there = np.linalg.inv(sigma[np.ix_(~lacks, ~lacks)])
            row[lacks] = mean[lacks] + shared @ there @ (row[~lacks] - mean[~lacks])
            rest = sigma[np.ix_(lacks, lacks)] - shared @ there @ shared.T
            more[np.ix_(lacks, lacks)] += weight * rest
        mean = np.average(rows, axis=0, weights=weights)
        deviations = rows - mean
        sigma = (weights * deviations.T) @ deviations + more
        sigma /= weights.sum()
    return mean, sigma


@pytest.mark.parametrize("kind", ["dense", "sparse", "chunks"])
def test_fit(kind, monkeypatch):
    """With a direction less than features, the distribution is any but for a floor."""
    monkeypatch.setattr(gaussian_module, "_TOLERANCE", 1e-10)
    monkeypatch.setattr(gaussian_module, "_MAX_STEPS", 400)
    rng = np.random.default_rng(0)
    X = without(draw(make_gaussian(5, 4, seed=3), 90, rng), 0.3, rng)
    weights = rng.integers(0, 4, 90).astype(float)
    matrix = sparse.csr_matrix(X) if kind == "sparse" else X
    if kind == "chunks":
        monkeypatch.setattr(gaussian_module, "row_chunks", row_chunks_of)
        monkeypatch.setattr("skae._data.rows._CHUNK_ENTRIES", 35)
    rows = make_rows(matrix, weights=weights, has_missing=True)
    found = fit_gaussian(rows, 4)
    mean, sigma = naive_em(X, weights, 400)
    np.testing.assert_allclose(found.mean, mean, atol=1e-6)
    np.testing.assert_allclose(covariance_of(found), sigma, atol=1e-5)
    products = found.loadings.T @ found.loadings
    np.testing.assert_allclose(products, np.diag(products.diagonal()), atol=1e-8)
    assert (np.diff(products.diagonal()) <= 0).all()


def test_fit_finds_what_the_rows_were_drawn_from(monkeypatch):
    """Also by iteration, as for many features, and from a part of many rows."""
    monkeypatch.setattr(gaussian_module, "_MAX_ROWS", 3000)
    rng, gaussian = np.random.default_rng(0), make_gaussian(40, 3)
    X = without(draw(gaussian, 6000, rng) - gaussian.mean, 0.3, rng)
    rows, sigma = make_rows(X, has_missing=True), covariance_of(gaussian)
    for limit in (1024, 10):
        monkeypatch.setattr(gaussian_module, "_MAX_COVARIANCE", limit)
        found = covariance_of(fit_gaussian(rows, 3))
        assert np.abs(found - sigma).max() < 0.1 * sigma.max()


def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    rng, gaussian = np.random.default_rng(0), make_gaussian(20, 5)
    X = without(draw(gaussian, 3000, rng), 0.3, rng)
    rows = make_rows(X, has_missing=True)
    monkeypatch.setattr("skae._data.rows._CHUNK_ENTRIES", 5000)
    found = []
    for n_threads in (1, 3):
        monkeypatch.setattr(gaussian_module, "n_threads_for", lambda *_, n=n_threads: n)
        with threadpool_limits(1, "blas"):
            fitted = fit_gaussian(rows, 5)
        found.append([*fitted, filled(rows, fitted).values])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["dense", "sparse", "map"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_filled(dtype, kind, tmp_path):
    """Observed entries keep their bits, whatever rows are in use."""
    rng, gaussian = np.random.default_rng(0), make_gaussian()
    X = without(draw(gaussian, 40, rng), 0.3, rng).astype(dtype)
    offset, scale = rng.random(7), 1.7
    matrix = sparse.csr_matrix(X) if kind == "sparse" else X
    if kind == "map":
        matrix = np.memmap(tmp_path / "X", dtype, "w+", shape=X.shape)
        matrix[:] = X
    rows = make_rows(matrix, offset, scale, has_missing=True, subset=np.array([3, 5]))
    found = filled(rows, gaussian)
    values = found.values
    if kind == "sparse":
        values = matrix._with_data(values).toarray()
    values = values.reshape(X.shape)
    np.testing.assert_array_equal(values[~np.isnan(X)], X[~np.isnan(X)])
    seen = expected((X.astype(float) - offset) / scale, *gaussian)
    rtol = 1e-6 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(values, seen * scale + offset, rtol=10 * rtol, atol=rtol)
    assert isinstance(found.values, np.memmap) == (kind == "map")
    np.testing.assert_array_equal(found.targets, rows.targets)
