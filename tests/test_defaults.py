"""Fits with default parameters, beside PCA."""

import numpy as np
import pytest
from sklearn import datasets
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.metrics import reconstruction_r2_score

from .support.cases import make_data
from .support.fits import reconstruct


def split_and_r2(X, seed=0, **params):
    """Both parts of X; R² of PCA, and of an estimator that is fitted on the first."""
    X_train, X_test = train_test_split(X, test_size=0.3, random_state=seed)
    estimator = AutoencoderTransformer(random_state=seed, **params).fit(X_train)
    pca = PCA(estimator.n_components).fit(X_train)
    of_pca = [reconstruction_r2_score(pca, part) for part in (X_train, X_test)]
    ours = [reconstruction_r2_score(estimator, part) for part in (X_train, X_test)]
    return np.array(of_pca), np.array(ours), estimator


@pytest.mark.parametrize(
    ("n_components", "seed", "dtype"), [(1, 0, np.float32), (2, 1, np.float64)]
)
@pytest.mark.parametrize(
    "load",
    [datasets.load_iris, datasets.load_wine, datasets.load_diabetes],
    ids=lambda load: load.__name__,
)
@pytest.mark.parametrize("standardised", [False, True])
def test_defaults_are_not_worse_than_pca(load, n_components, seed, standardised, dtype):
    """benchmarks/defaults/held_out.py has the whole table."""
    X = load().data.astype(dtype)
    if standardised:
        X = StandardScaler().fit_transform(X)
    of_pca, ours, _ = split_and_r2(X, seed, n_components=n_components)
    on_training, on_held_out = ours - of_pca
    assert on_training >= -10 * np.finfo(dtype).eps
    assert on_held_out >= -0.005


def test_defaults_learn_what_is_curved():
    X = make_data(600)
    of_pca, ours, estimator = split_and_r2(X, n_components=1)
    assert (ours > of_pca + 0.05).all()
    assert len(estimator.validation_loss_curve_) == estimator.n_iter_


@pytest.mark.parametrize("seed", range(2))
def test_defaults_do_not_learn_noise(seed):
    X = np.random.default_rng(seed).standard_normal((100, 10))
    of_pca, ours, estimator = split_and_r2(X, seed, n_components=3)
    np.testing.assert_allclose(ours, of_pca, atol=1e-10)
    eager = clone(estimator).set_params(early_stopping=False)
    X_train, X_test = train_test_split(X, test_size=0.3, random_state=seed)
    assert eager.fit(X_train).score(X_train) > 2 * of_pca[0]
    assert eager.score(X_test) < of_pca[1]


@pytest.mark.parametrize("n_rows", [2, 3, 39])
def test_few_rows_are_not_left_to_chance(n_rows):
    """Too few could be held out: PCA it is, mean and order included."""
    X = make_data(n_rows)
    estimator = AutoencoderTransformer(2, random_state=0).fit(X)
    n_components = min(2, n_rows)
    pca = PCA(n_components).fit(X)
    np.testing.assert_allclose(
        reconstruct(estimator, X), pca.inverse_transform(pca.transform(X)), atol=1e-10
    )
    assert estimator.n_iter_ == 1
    assert not hasattr(estimator, "validation_loss_curve_")
    if n_rows > 2:
        code = estimator.transform(X) * estimator.scale_
        np.testing.assert_allclose(code, pca.transform(X), atol=1e-10)
        for name in ("explained_variance_", "explained_variance_ratio_"):
            ours, theirs = getattr(estimator, name), getattr(pca, name)
            np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    trained = clone(estimator).set_params(early_stopping=False).fit(X)
    assert trained.n_iter_ > 1


def test_cautious_fits_begin_at_the_pca_of_all_rows():
    X = make_data(100)
    estimator = AutoencoderTransformer(2, max_iter=1, random_state=0)
    estimator.set_params(learning_rate_init=1e-300)
    estimator.fit(X)
    np.testing.assert_allclose(estimator.mean_, X.mean(axis=0), rtol=1e-12)
    pca = PCA(2).fit(X)
    assert estimator.score(X) == pytest.approx(pca.explained_variance_ratio_.sum())
    ratio = estimator.explained_variance_ratio_
    np.testing.assert_allclose(ratio, pca.explained_variance_ratio_, rtol=1e-9)


@pytest.mark.parametrize(
    ("changes", "validates"),
    [
        *(({}, True), ({"init": "pca", "activation": "tanh"}, True)),
        *(({"activation": "tanh"}, False), ({"init": "he"}, False)),
        ({"early_stopping": False}, False),
        ({"early_stopping": True, "init": "he"}, True),
    ],
)
def test_auto_holds_rows_out_where_training_starts_at_pca(changes, validates):
    estimator = AutoencoderTransformer(max_iter=3, random_state=0, **changes)
    estimator.fit(make_data())
    assert hasattr(estimator, "validation_loss_curve_") == validates


def test_auto_length_and_schedule():
    X = make_data(250)
    endless = {"tol": 0, "n_iter_no_change": np.inf, "early_stopping": False}
    estimator = AutoencoderTransformer(random_state=0, **endless).fit(X)
    assert estimator.n_iter_ == 10_000 // 8
    # The last of many epochs of a cosine changes nothing any more.
    assert np.ptp(estimator.loss_curve_[-5:]) < 1e-5 * estimator.loss_


def test_lbfgs_ends_by_its_gradient_whatever_may_be_held_out():
    X = make_data(120, 4)
    params = {"solver": "lbfgs", "activation": "tanh", "tol": 1e-3, "random_state": 0}
    auto = AutoencoderTransformer(max_iter=60, **params)
    with pytest.warns(ConvergenceWarning):
        auto.fit(X)
    never = clone(auto).set_params(early_stopping=False)
    with pytest.warns(ConvergenceWarning):
        never.fit(X)
    assert auto.loss_curve_ == never.loss_curve_


def test_lbfgs_warns_at_the_end_of_auto_iterations():
    estimator = AutoencoderTransformer(
        solver="lbfgs", tol=0, early_stopping=False, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match="200"):
        estimator.fit(np.random.default_rng(0).standard_normal((300, 20)))
