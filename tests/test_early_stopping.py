"""Validation samples, early stopping, and which weights are kept."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skae import AutoencoderTransformer

from .support.cases import (
    ALL_CASES,
    STOCHASTIC,
    data_for,
    is_scaled,
    is_stochastic,
    is_variational,
    make,
    make_data,
    names_of,
    starts_at_random,
    takes_weights,
    weighted_by,
)
from .support.fits import objective_of, split_of

# Order may change the penalty of untied weights: the objective here is without.
NO_PENALTY = {"alpha": 0.0, "early_stopping": False}


@pytest.mark.parametrize("name", ALL_CASES)
def test_best_weights_by_x_val(name):
    estimator = make(name, **NO_PENALTY)
    X, X_val = data_for(estimator, n_rows=40), data_for(estimator, seed=1)
    estimator.fit(X, X_val=X_val)
    curve = estimator.validation_loss_curve_
    assert len(curve) == len(estimator.loss_curve_) == estimator.n_iter_
    assert estimator.best_loss_ == min(curve)
    objective = objective_of(estimator, X_val, X_fit=X)
    assert objective == pytest.approx(min(curve), rel=1e-9)


OVERFITTING = {
    "hidden_layer_sizes": (60,),
    "activation": "tanh",
    "scale": 1.0,
    "init": "random",
    "learning_rate_init": 0.02,
    "max_iter": 400,
    "tol": 1e-9,
    "random_state": 0,
}


def noise(n_rows):
    """Nothing to learn from."""
    return np.random.default_rng(n_rows).standard_normal((n_rows, 6))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_overfitting(tied, solver):
    """The best validation epoch is not the last, and its weights are kept."""
    X, X_val = noise(15), noise(200)
    params = {**OVERFITTING, "tied_weights": tied, "solver": solver}
    estimator = AutoencoderTransformer(2, **params).fit(X, X_val=X_val)
    curve = estimator.validation_loss_curve_
    assert np.argmin(curve) < len(curve) - 20
    assert curve[-1] > 1.05 * min(curve)
    assert objective_of(estimator, X_val) == pytest.approx(min(curve), rel=1e-9)
    # Early stopping ends it in time.
    stopped = AutoencoderTransformer(2, **params, early_stopping=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        stopped.set_params(n_iter_no_change=5).fit(X, X_val=X_val)
    found = np.array(stopped.validation_loss_curve_)
    assert stopped.n_iter_ == len(found) == len(stopped.loss_curve_) < 400
    assert (found[-6:] > found[:-6].min() - 1e-9).all()
    assert objective_of(stopped, X_val) == pytest.approx(found.min(), rel=1e-9)
    if solver == "adam":  # L-BFGS converges in time
        endless = AutoencoderTransformer(2, **params, n_iter_no_change=np.inf)
        assert endless.fit(X, X_val=X_val).n_iter_ == 400
    # It goes on with the last weights, not with the best.
    estimator.set_params(warm_start=True, max_iter=1).fit(X, X_val=X_val)
    last, new = estimator.validation_loss_curve_[-2:]
    assert new == pytest.approx(last, rel=0.1)
    assert objective_of(estimator, X_val) == pytest.approx(min(curve), rel=1e-9)


@pytest.mark.parametrize("name", ALL_CASES)
def test_early_stopping_holds_rows_out(name):
    weighted = takes_weights(make(name))
    estimator = make(name, alpha=0.0, early_stopping=True, validation_fraction=0.1)
    estimator.set_params(learning_rate_init=0.01)
    X = data_for(estimator, n_rows=20)
    weights = np.random.default_rng(0).uniform(0.5, 3, 20) if weighted else None
    estimator.fit(X, **weighted_by(weights))
    held_out = split_of(X, estimator.mean_, 2, weights)
    train = np.setdiff1d(np.arange(20), held_out)
    of_fit = weighted_by(weights)
    weights = np.ones(20) if weights is None else weights
    curve = estimator.validation_loss_curve_
    assert estimator.best_loss_ == min(curve)
    # The start is a candidate, too.
    still = {"solver": "sgd", "learning_rate_init": 1e-300, "max_iter": 1}
    start = clone(estimator).set_params(**still).fit(X, **of_fit)
    best = min(*curve, objective_of(start, X, weights[held_out], rows=held_out))
    kept = objective_of(estimator, X, weights[held_out], rows=held_out)
    assert kept == pytest.approx(best, rel=1e-9)
    if is_scaled(estimator.get_params()):
        squares = weights[train] @ (X[train] - estimator.mean_) ** 2
        scale = np.sqrt((squares / weights[train].sum()).mean())
        assert estimator.scale_ == pytest.approx(scale, rel=1e-12)


def test_x_val_instead_of_held_out_rows():
    X, X_val = make_data(), make_data(seed=1)
    estimator = make("adam", early_stopping=np.True_, alpha=0.0).fit(X, X_val=X_val)
    np.testing.assert_allclose(estimator.mean_, X.mean(axis=0))  # all rows
    kept = objective_of(estimator, X_val)
    assert kept == pytest.approx(min(estimator.validation_loss_curve_))


def test_x_val_changes_neither_training_nor_its_end():
    X = make_data()
    params = {"max_iter": 400, "learning_rate_init": 0.01}
    plain = make("minibatch", **params, early_stopping=np.False_).fit(X)
    assert 20 < plain.n_iter_ < 400  # by the training loss
    watched = clone(plain).fit(X, X_val=make_data(seed=1))
    assert watched.loss_curve_ == plain.loss_curve_
    assert not hasattr(plain, "validation_loss_curve_")
    assert not hasattr(watched.fit(X), "validation_loss_curve_")


@pytest.mark.parametrize(
    "name", names_of(lambda p: is_stochastic(p) and starts_at_random(p))
)
def test_last_weights_are_kept_without_validation(name):
    """Also if an epoch before was better, as long as the start was not."""
    estimator = make(name, **NO_PENALTY, learning_rate="constant", batch_size=60, tol=0)
    estimator.set_params(max_iter=9)
    if is_variational(estimator.get_params()):
        estimator.set_params(kl_warmup=0)  # the objective is to stay the same
    X = data_for(estimator)
    longer = clone(estimator).set_params(max_iter=10).fit(X)
    estimator.fit(X)
    assert longer.loss_ < longer.loss_curve_[0]
    assert objective_of(estimator, X, epoch=9) == pytest.approx(longer.loss_, rel=1e-9)


def test_last_weights_are_kept_though_not_the_best():
    X = make_data()
    params = {"batch_size": 60, "max_iter": 9, "tol": 0, "learning_rate_init": 0.3}
    for n in range(5, 60):
        params["max_iter"] = n
        longer = make("adam", **{**params, "max_iter": n + 1}, alpha=0.0).fit(X)
        if min(longer.loss_curve_) < longer.loss_ < longer.loss_curve_[0]:
            break
    else:
        pytest.fail("training never went up")
    estimator = make("adam", **params, alpha=0.0).fit(X)
    assert objective_of(estimator, X) == pytest.approx(longer.loss_, rel=1e-10)


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("validated", [False, True])
def test_training_that_only_does_harm(solver, validated):
    """A huge learning rate and a bounded network: the loss grows, but is finite."""
    X = make_data()
    estimator = make(
        "adam",
        solver=solver,
        activation="tanh",
        code_activation="tanh",
        output_activation="tanh",
        scale=1.0,
        alpha=0.0,
        learning_rate_init=1e3,
        max_iter=30,
    ).fit(X, X_val=X if validated else None)
    start = estimator.loss_curve_[0]  # all rows, before the first update
    assert estimator.loss_ > start
    assert objective_of(estimator, X) <= start * (1 + 1e-12)
    if validated:
        best = min(start, *estimator.validation_loss_curve_)
        assert objective_of(estimator, X) == pytest.approx(best, rel=1e-9)
