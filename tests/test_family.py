"""Denoising and sparse autoencoders: what noise and penalties do, and when."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer
from skae._compiled import code_terms
from skae.metrics import reconstruction_r2_score

from .support.cases import SMALL, STILL, make_data
from .support.fits import objective_of

NOISES = ("gaussian", "masking", "salt_and_pepper")


def make(**params):
    return AutoencoderTransformer(**{**SMALL, **params})


def logistic_code(**params):
    return make(code_activation="logistic", **params)


@pytest.mark.parametrize("noise", NOISES)
def test_noise_of_level_zero_is_none(noise):
    X = make_data()
    plain, quiet = make().fit(X), make(noise=noise, noise_level=0.0).fit(X)
    assert plain.loss_curve_ == quiet.loss_curve_
    np.testing.assert_array_equal(plain.transform(X), quiet.transform(X))


@pytest.mark.parametrize("batch_size", [7, 60])
@pytest.mark.parametrize("noise", NOISES)
def test_rows_are_corrupted_anew_in_every_epoch_whatever_the_batch(noise, batch_size):
    X = make_data()
    # An ordered code would change roundings.
    estimator = make(**STILL, noise=noise, batch_size=batch_size, sparsity="l1").fit(X)
    expected = [objective_of(estimator, X, epoch=epoch) for epoch in range(5)]
    np.testing.assert_allclose(estimator.loss_curve_, expected, rtol=1e-9)
    assert np.unique(estimator.loss_curve_).size == 5


def test_extremes_are_those_of_the_loss_or_of_the_data():
    """At level 1 every entry is an extreme: the network learns nothing of X."""
    X = np.random.default_rng(0).random((60, 6))
    all_of = {"noise": "salt_and_pepper", "noise_level": 1.0, **STILL, "sparsity": "l1"}
    for loss, scaled in (("squared_error", X), ("poisson", 9 * X)):
        estimator = make(**all_of, loss=loss, max_iter=1).fit(scaled)
        expected = objective_of(estimator, scaled, epoch=0)
        assert estimator.loss_ == pytest.approx(expected, rel=1e-9)
    # Of log_loss they are 0 and 1, though no entry is.
    estimator = make(**all_of, loss="log_loss", max_iter=1).fit(X)
    with_extremes = np.vstack([X, np.zeros(6), np.ones(6)])
    assert estimator.loss_ == pytest.approx(
        objective_of(estimator, X, X_fit=with_extremes, epoch=0), rel=1e-9
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"noise": "masking", "solver": "lbfgs"},
            r"noise='masking'.*'lbfgs'.*'adam' or 'sgd' or 'rmsprop'",
        ),
        (
            {"sparsity": "kl", "code_activation": "tanh"},
            r"sparsity='kl'.*\(0, 1\).*'tanh'.*'logistic' or 'sigmoid'.*'l1'",
        ),
        *(
            (
                {"noise": noise, "noise_level": 1.5},
                rf"noise_level=1\.5 is the share .*{noise}.*\[0, 1\]",
            )
            for noise in NOISES[1:]
        ),
    ],
)
def test_what_does_not_go_together(params, message):
    with pytest.raises(ValueError, match=message):
        make(**params).fit(make_data())
    make(noise="gaussian", noise_level=1.5).fit(make_data())


def test_partial_fits_see_other_noise():
    X = make_data()
    estimator = make(**STILL, noise="gaussian")
    for _ in range(3):
        estimator.partial_fit(X)
    assert np.unique(estimator.loss_curve_).size == 3


@pytest.mark.parametrize(("target", "weight"), [(0.05, 100.0), (0.3, 10.0)])
def test_units_have_the_mean_activation_that_is_aimed_at(target, weight):
    X = load_digits().data
    estimator = AutoencoderTransformer(
        20,
        hidden_layer_sizes=(),
        code_activation="logistic",
        sparsity="kl",
        sparsity_target=target,
        sparsity_weight=weight,
        random_state=0,
    ).fit(X)
    np.testing.assert_allclose(estimator.mean_activation_, target, atol=0.03)
    assert estimator.score(X) > 0.5


def test_mean_activation_is_that_of_the_code_of_clean_rows(dtype):
    X = make_data().astype(dtype)
    weights = np.arange(60.0)
    estimator = make(sparsity="l1", noise="gaussian").fit(X, sample_weight=weights)
    expected = np.average(estimator.transform(X), axis=0, weights=weights)
    np.testing.assert_allclose(estimator.mean_activation_, expected, rtol=1e-5)
    assert estimator.mean_activation_.dtype == dtype
    estimator.set_params(sparsity=None, noise=None).fit(X)
    assert not hasattr(estimator, "mean_activation_")


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_dead_units_are_survived(solver):
    """A divergence that would be infinite, and a gradient that is lost."""
    X = make_data().astype(np.float32)
    estimator = logistic_code(
        sparsity="kl",
        sparsity_target=1e-6,
        sparsity_weight=1e4,
        learning_rate_init=1.0,
        solver=solver,
        max_iter=50,
    ).fit(X)
    assert np.isfinite(estimator.loss_curve_).all()
    assert np.isfinite(estimator.transform(X)).all()


def test_divergence_of_units_that_are_always_off_or_on():
    """Without a slope, as their activation has none; the others as ever."""
    sums = np.array([0.0, 10.0, 4.0, 10.0])  # of the units, and of the weights
    settings = np.zeros(code_terms.N_TERM_SETTINGS + 3)
    settings[code_terms.WEIGHT] = settings[code_terms.BATCH_WEIGHT] = 1
    settings[code_terms.TARGET] = 0.3
    code_terms._divergence_of_means(sums, settings, 1, 3)
    slopes = settings[code_terms.N_TERM_SETTINGS :]
    assert np.isfinite(settings).all()
    assert settings[code_terms.BATCH_TERM] > 5
    np.testing.assert_array_equal(slopes[:2], [0.7 / 10, -0.3 / 10])
    np.testing.assert_allclose(slopes[2], (0.7 / 0.6 - 0.3 / 0.4) / 10, rtol=1e-12)


def test_mean_is_over_the_batch():
    """Batches of one row: the divergence of each row's own activations."""
    X = make_data()
    params = {"sparsity": "kl", "sparsity_weight": 2.0, "sparsity_target": 0.2}
    estimator = logistic_code(**params, **STILL, batch_size=1, max_iter=1).fit(X)
    of_rows = [
        objective_of(estimator, X, rows=[i], sample_weight=np.ones(1))
        for i in range(60)
    ]
    assert estimator.loss_ == pytest.approx(np.mean(of_rows), rel=1e-9)
    whole = logistic_code(**params, **STILL, batch_size=60, max_iter=1).fit(X)
    assert whole.loss_ < 0.99 * estimator.loss_


def test_neither_leaves_pca_with_caution():
    """PCA is what a plain autoencoder must not fall behind, not these."""
    X = load_digits().data[:300]
    for params in ({"noise": "masking"}, {"sparsity": "l1"}):
        estimator = AutoencoderTransformer(5, random_state=0, max_iter=3, **params)
        estimator.fit(X)
        assert not hasattr(estimator, "validation_loss_curve_")
        assert reconstruction_r2_score(estimator, X) > 0
        assert estimator.n_iter_ == 3


def test_auto_length_is_not_cut_short_by_a_loss_that_noise_is_drawn_for():
    X = make_data()
    estimator = make(noise="gaussian", max_iter="auto", tol=1e9, n_iter_no_change=2)
    assert estimator.fit(X).n_iter_ == 10_000  # updates, each of all rows
    assert estimator.set_params(max_iter=50).fit(X).n_iter_ == 4


def test_adaptive_rates_fall_with_noise_too():
    estimator = make(
        noise="gaussian",
        learning_rate="adaptive",
        max_iter="auto",
        tol=1e9,
        n_iter_no_change=3,
    ).fit(make_data())
    assert estimator.n_iter_ < 100


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix])
def test_extremes_are_those_of_rows_that_count(container):
    """Not of rows without weight."""
    X, weights = make_data(), np.arange(60) % 3.0
    params = {"noise": "salt_and_pepper", "noise_level": 0.5, "max_iter": 1}
    expected = make(**params).fit(container(X), sample_weight=weights)
    X[weights == 0] = 1e6
    found = make(**params).fit(container(X), sample_weight=weights)
    assert found.loss_ == pytest.approx(expected.loss_, rel=1e-9)


def test_going_on_without_validation_forgets_its_curve():
    X = make_data()
    estimator = AutoencoderTransformer(warm_start=True, max_iter=5, random_state=0)
    assert len(estimator.fit(X).validation_loss_curve_) == 5
    estimator.set_params(noise="masking", noise_level=0.9).fit(X)
    assert not hasattr(estimator, "validation_loss_curve_")
    assert estimator.best_loss_ == min(estimator.loss_curve_)
