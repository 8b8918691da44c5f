"""Principal components of the rows that a network sees."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae._data import rows as rows_module
from skae._data.rows import make_rows
from skae._model import pca as pca_module
from skae._model.pca import least_scores, principal_components

from .support.tables import make_table


def make_data(n_rows=200, n_features=12, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, n_features)) * np.geomspace(5, 0.1, n_features)
    return X @ np.linalg.qr(rng.standard_normal((n_features, n_features)))[0] + 3.0


def seen(X, **options):
    mean = np.asarray(X.mean(axis=0)).ravel()
    return make_rows(X, mean, 2.0, **options)


def assert_components(components, X, n_components, rtol=1e-9):
    """Those of PCA; X is centred by the caller."""
    pca = PCA(n_components, svd_solver="full").fit(X)
    deviations = np.sqrt(pca.explained_variance_ * (len(X) - 1) / len(X)) / 2
    np.testing.assert_allclose(components.deviations, deviations, rtol=rtol)
    cosines = np.abs((components.axes * pca.components_.T).sum(axis=0))
    np.testing.assert_allclose(cosines, 1, rtol=rtol)


@pytest.fixture(params=[1024, 0], ids=["whole", "iterated"])
def max_scatter(request, monkeypatch):
    """From how many features on the scatter matrix is not computed."""
    monkeypatch.setattr(pca_module, "_MAX_SCATTER", request.param)
    # Else twelve features are no more than the vectors that are iterated.
    monkeypatch.setattr(pca_module, "_N_OVERSAMPLES", 4)
    return request.param


def test_components_are_those_of_pca(max_scatter):
    X = make_data()
    assert_components(principal_components(seen(X), 3, 0), X, 3, rtol=1e-6)


def test_sparse_data(max_scatter):
    X = make_data() * (np.random.default_rng(1).random((200, 12)) < 0.4)
    found = principal_components(seen(sparse.csr_array(X)), 3, 0)
    expected = principal_components(seen(X), 3, 0)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize("as_given", [np.asarray, sparse.csr_array])
def test_rows_in_use_and_their_weights(as_given):
    X = make_data()
    rng = np.random.default_rng(1)
    subset, weights = rng.permutation(200)[:90], rng.integers(0, 4, 200)
    repeated = np.repeat(X[subset], weights[subset], axis=0)
    mean = repeated.mean(axis=0)
    rows = make_rows(
        as_given(X), mean, 2.0, subset=subset, weights=weights.astype(float)
    )
    components = principal_components(rows, 4, 0)
    assert_components(components, repeated, 4)
    scores = (repeated - mean) / 2 @ components.axes / components.deviations
    np.testing.assert_allclose(least_scores(rows, components), scores.min(axis=0))


def test_not_more_components_than_the_rank(max_scatter):
    X = make_data(n_rows=4)
    components = principal_components(seen(X), 6, 0)
    assert components.axes.shape == (12, 3)
    assert (components.deviations > 0).all()


def test_what_has_no_variance_has_no_component():
    weights = np.array([2.0, 5e-324])
    weighted = make_rows(np.array([[0.0], [1.0]]), np.zeros(1), weights=weights)
    for rows in (seen(np.ones((5, 4))), weighted):
        assert principal_components(rows, 1, 0).axes.shape == (rows.n_features, 0)


def test_many_features_of_few_rows():
    """A flat spectrum, too, on which iterations are slow."""
    X = np.random.default_rng(0).standard_normal((100, 300))
    assert_components(principal_components(seen(X), 2, 0), X, 2, rtol=1e-9)


def test_iteration_finds_what_stands_out_of_many_features(monkeypatch):
    monkeypatch.setattr(pca_module, "_MAX_SCATTER", 256)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3)) * [9, 7, 5] @ rng.standard_normal((3, 500))
    X += rng.standard_normal((400, 500))
    assert_components(principal_components(seen(X), 3, 0), X, 3, rtol=1e-9)


def test_tables_stay_sparse(max_scatter, monkeypatch):
    """With the results of products of dense rows, also of weighted ones."""
    table = make_table()
    table["city"] += pd.Series(np.arange(200) % 15).astype(str)
    kwargs = {"max_iter": 2, "random_state": 0, "early_stopping": False}
    weights = np.arange(200) % 3
    fits = []
    for most in (0.0, 1.0):
        monkeypatch.setattr(rows_module, "_MAX_SPARSE_SHARE", most)
        estimator = AutoencoderTransformer(3, feature_weights=[1, 2, 1, 1, 3], **kwargs)
        fits.append(estimator.fit(table, sample_weight=weights))
    # No rows are made dense for a scatter.
    monkeypatch.setattr(pca_module, "_scatter_of_part", None)
    share = clone(estimator).set_params(n_components=0.7).fit(table)
    assert 1 < share.n_components_ < 10
    dense, stays = fits
    assert not np.array_equal(dense.coefs_[0], stays.coefs_[0])
    np.testing.assert_allclose(stays.transform(table), dense.transform(table), 1e-6)
    explained = [fit.explained_variance_ratio_ for fit in fits]
    np.testing.assert_allclose(*explained, rtol=1e-9)
