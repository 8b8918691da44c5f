"""The order of the code: a linear network's is PCA's, others' is like it."""

import numpy as np
import pytest
from scipy import linalg
from sklearn import datasets
from sklearn.base import clone
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer

from .support.cases import (
    AT_PCA_CASES,
    data_for,
    has_ordered_code,
    make,
    make_data,
    names_of,
)
from .support.fits import linear

ORDERED = names_of(has_ordered_code)


@pytest.mark.parametrize("data", ["correlated", "far from zero", "wide", "digits"])
def test_linear_network_is_pca(tied, data):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 6)) @ rng.standard_normal((6, 6))
    if data == "far from zero":
        X += 100
    elif data == "wide":
        X = rng.standard_normal((7, 5)) @ rng.standard_normal((5, 20))
    elif data == "digits":
        X = datasets.load_digits().data[:300]
    pca = PCA(3).fit(X)
    estimator = linear(tied_weights=tied).fit(X)

    pca_error = ((X - pca.inverse_transform(pca.transform(X))) ** 2).sum()
    error = estimator.reconstruction_error(X).sum()
    assert error == pytest.approx(pca_error, rel=1e-6)
    # The encoder's is free where the data have no variance.
    angles = linalg.subspace_angles(estimator.coefs_[1].T, pca.components_.T)
    assert angles.max() < 1e-4
    scores = pca.transform(X)
    code = estimator.transform(X) * estimator.scale_
    signs = np.sign((code * scores).sum(axis=0))
    atol = 1e-4 * np.abs(scores).max()
    np.testing.assert_allclose(code * signs, scores, rtol=0, atol=atol)
    if tied or data in ("correlated", "far from zero"):
        np.testing.assert_array_equal(signs, 1)  # the encoder is determined
    for name in ("explained_variance_", "explained_variance_ratio_"):
        np.testing.assert_allclose(
            getattr(estimator, name), getattr(pca, name), rtol=1e-4
        )
    score = estimator.score(X)
    assert score == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-6)
    assert score == pytest.approx(estimator.explained_variance_ratio_.sum(), rel=1e-6)


# Of few samples, PCA is not left.
@pytest.mark.parametrize(("n_rows", "dtype"), [(30, np.float64), (60, np.float32)])
@pytest.mark.parametrize("name", AT_PCA_CASES)
def test_order_does_not_depend_on_rounding(name, n_rows, dtype):
    rng, eps = np.random.default_rng(0), np.finfo(dtype).eps
    X = make_data(n_rows).astype(dtype)
    nearly = X * (1 + eps * rng.standard_normal(X.shape))
    estimator = AutoencoderTransformer(3, random_state=0, **AT_PCA_CASES[name])
    code = estimator.fit_transform(X)
    other = clone(estimator).fit_transform(nearly.astype(dtype))
    np.testing.assert_allclose(other, code, atol=1e4 * eps)


@pytest.mark.parametrize(
    ("loss", "max_iter"), [("squared_error", "auto"), ("huber", 3)]
)
@pytest.mark.parametrize("hidden", [(), (16,)])
@pytest.mark.parametrize("changes", [{"alpha": 0.1}, {"tied_weights": True}])
def test_explained_variance_is_a_share(changes, hidden, loss, max_iter):
    """Also where the scale of the code is not free."""
    X = datasets.load_digits().data[:100]
    params = {"hidden_layer_sizes": hidden, "loss": loss, **changes}
    if max_iter != "auto":
        params |= {"max_iter": max_iter, "init": "random", "early_stopping": False}
    estimator = AutoencoderTransformer(5, random_state=0, **params).fit(X)
    ratio = estimator.explained_variance_ratio_
    assert (ratio >= 0).all()
    assert ratio.sum() <= 1
    if hidden == ():
        assert ratio.sum() <= max(0.0, estimator.score(X)) + 1e-12
    if loss == "squared_error" and max_iter == "auto":
        best = PCA(5).fit(X).explained_variance_ratio_
        assert ratio.sum() == pytest.approx(best.sum(), abs=0.05)
        if hidden == ():  # at PCA, or near
            np.testing.assert_allclose(ratio, best, atol=1e-3)


@pytest.mark.parametrize("name", ORDERED)
def test_code_is_ordered(name):
    estimator = make(name, n_components=3, early_stopping=False)
    X = data_for(estimator)
    code = estimator.fit_transform(X)
    variances = code.var(axis=0)
    size = variances.max()
    assert size > 0
    np.testing.assert_allclose(code.mean(axis=0), 0, atol=1e-12 * np.sqrt(size))
    covariance = np.cov(code.T, bias=True)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-12 * size)
    assert (np.diff(variances) <= 0).all()

    # Of the rows on the code; see there.
    cross = code.T @ (X - X.mean(axis=0)) / len(X)
    largest = np.abs(cross).argmax(axis=1)
    assert (cross[range(3), largest] > 0).all()
    regression = cross / variances[:, np.newaxis]
    if not estimator.tied_weights and estimator.alpha in (0, "auto"):
        gram = regression @ regression.T / estimator.scale_**2
        np.testing.assert_allclose(gram, np.eye(3), atol=1e-9)
    explained = (regression**2).sum(axis=1) * variances
    total = X.var(axis=0).sum()
    if estimator.tied_weights and estimator.hidden_layer_sizes == ():
        # The decoder is linear, but not yet the best.
        assert estimator.score(X) < explained.sum() / total
        explained *= estimator.score(X) * total / explained.sum()
    np.testing.assert_allclose(
        estimator.explained_variance_ratio_, explained / total, rtol=1e-9
    )
    np.testing.assert_allclose(
        estimator.explained_variance_, explained * len(X) / (len(X) - 1), rtol=1e-9
    )


def test_attributes_of_another_code_are_forgotten():
    X = make_data()
    estimator = make("adam").fit(X)
    assert hasattr(estimator, "explained_variance_ratio_")
    estimator.set_params(code_activation="tanh").fit(X)
    for name in ("explained_variance_", "explained_variance_ratio_"):
        assert not hasattr(estimator, name)
