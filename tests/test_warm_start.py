"""Fits with warm_start=True."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae._base import autoencoder, fits
from skae.metrics import reconstruction_r2

from .support.blocks import assert_same_training
from .support.cases import make, make_data
from .support.fits import assert_same_fit, objective_of
from .support.processes import allowed
from .support.tables import lacking, make_table


def test_other_rows_of_the_same_mean_and_spread():
    """Though they are judged by the same rows."""
    X, other, X_val = (
        StandardScaler().fit_transform(make_data(seed=seed)) for seed in range(3)
    )
    estimator = make("lbfgs", max_iter=30, warm_start=True, tol=1e-9)
    before = estimator.fit(X, X_val=X_val).score(other)
    estimator.fit(other, X_val=X_val)
    assert estimator.n_iter_ > 3
    assert before < 0.5 < reconstruction_r2(last_weights(estimator), other)


def last_weights(estimator):
    """The estimator with the weights that training ended with."""
    estimator = pickle.loads(pickle.dumps(estimator))
    estimator._params = estimator._training_state.arrays["params"]
    return estimator


@pytest.mark.parametrize("judge", ["the rows", "others"])
@pytest.mark.parametrize("change", ["rows", "alpha"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_warm_start_with_another_objective(solver, change, judge):
    """What was known of the objective before, as curvature, is forgotten."""
    X, X_val = make_data(), make_data(seed=1)
    fit_params = {} if judge == "the rows" else {"X_val": X_val}
    estimator = make("lbfgs", solver=solver, alpha=0.0, max_iter=40, tol=1e-9)
    estimator.fit(X, **fit_params).set_params(warm_start=True)
    before = estimator.loss_
    if change == "rows":
        X = 3 * make_data(seed=2)
    else:
        estimator.set_params(alpha=1.0)
    loss = 0.5 * estimator.reconstruction_error(X).mean() / estimator.scale_**2
    penalty = 0.5 * estimator.alpha * sum((w**2).sum() for w in estimator.coefs_)
    estimator.fit(X, **fit_params)
    found = estimator.loss_curve_[estimator.n_iter_ :]
    assert before < min(found) < found[0] <= loss + penalty


def test_cosine_starts_anew():
    X = make_data()
    estimator = make("adam", solver="sgd", momentum=0, alpha=0, learning_rate="cosine")
    estimator.set_params(max_iter=10, learning_rate_init=0.1, warm_start=True, tol=0)
    estimator.fit(X).fit(X)
    gains = -np.diff(estimator.loss_curve_)
    # The gain of an epoch is proportional to its rate: 9 gains to the first fit's end.
    assert gains[8] < 0.1 * gains[0]
    assert gains[10] > 5 * gains[8]
    # One fit lowers the rate over all of its epochs.
    once = clone(estimator).set_params(max_iter=20).fit(X)
    assert once.loss_curve_[5] != estimator.loss_curve_[5]


@pytest.mark.parametrize(
    "change",
    [
        *({"n_components": 3}, {"hidden_layer_sizes": (9,)}, {"tied_weights": True}),
        *({"activation": "tanh"}, {"code_activation": "tanh"}, {"loss": "poisson"}),
        {"output_activation": "tanh"},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_warm_start_of_another_network(change, method):
    X = make_data(loss="log_loss")
    estimator = make("adam", warm_start=True).fit(X)
    estimator.set_params(**change)
    with pytest.raises(ValueError, match="warm_start=False"):
        getattr(estimator, method)(X)
    estimator.set_params(warm_start=False).fit(X)


@pytest.mark.parametrize(
    ("before", "after", "method"),
    [
        *(("auto", 2.0, "fit"), (2.0, "auto", "partial_fit"), (2.0, None, "fit")),
        *((None, 2.0, "partial_fit"), (None, "auto", "fit"), (2, 3, "partial_fit")),
    ],
)
def test_warm_start_with_another_scale(before, after, method):
    X = make_data()
    estimator = make("adam", warm_start=True, scale=before, max_iter=2).fit(X)
    code = estimator.transform(X)
    estimator.set_params(scale=after)
    with pytest.raises(
        ValueError, match=f"scale={after!r}.*scale={before!r}.*Set scale"
    ):
        getattr(estimator, method)(X)
    np.testing.assert_array_equal(estimator.transform(X), code)
    estimator.set_params(scale=before).fit(X)
    if before == "auto":  # the number that it was
        estimator.set_params(scale=estimator.scale_).fit(X)
    estimator.set_params(scale=after, warm_start=False).fit(X)


def test_without_warm_start_everything_is_new():
    X, other = make_data(), make_data(seed=1, n_features=4)
    estimator = make("adam").fit(X)
    assert_same_fit(estimator.fit(other), make("adam").fit(other))
    assert_same_fit(estimator.fit(X), make("adam").fit(X))


@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "rmsprop"])
def test_warm_start_with_another_solver(solver):
    X = make_data()
    estimator = make("adam", warm_start=True, max_iter=30, alpha=0.0).fit(X)
    before = objective_of(estimator, X)
    estimator.set_params(solver=solver).fit(X)
    assert len(estimator.loss_curve_) == 30 + estimator.n_iter_
    first = estimator.loss_curve_[30]
    assert first == pytest.approx(before) if solver != "lbfgs" else first < before
    assert objective_of(estimator, X) < before


@pytest.mark.parametrize("change", [{"solver": "sgd"}, {"learning_rate_init": 0.3}])
def test_warm_start_does_not_lose_the_best_weights(change):
    """A second fit that only makes things worse keeps the first one's best."""
    X, X_val = make_data(40), make_data(40, seed=1)
    estimator = make("adam", max_iter=300, learning_rate_init=0.02, warm_start=True)
    estimator.set_params(alpha=0.0).fit(X, X_val=X_val)
    best = min(estimator.validation_loss_curve_)
    assert estimator.validation_loss_curve_[-1] > 1.001 * best  # it has overfitted
    assert objective_of(estimator, X_val) == pytest.approx(best)
    estimator.set_params(max_iter=1, **change).fit(X, X_val=X_val)
    assert estimator.validation_loss_curve_[-1] > best
    assert estimator.best_loss_ == best
    assert objective_of(estimator, X_val) == pytest.approx(best)


def test_warm_start_with_other_data():
    """The best weights of the old data are not those of the new."""
    easy, hard = 0.01 * make_data(), make_data(seed=1)
    estimator = make("adam", alpha=0.0, warm_start=True, max_iter=20)
    estimator.fit(easy, X_val=easy).fit(hard / 10, X_val=hard / 10)
    assert len(estimator.validation_loss_curve_) == 40
    new = estimator.validation_loss_curve_[20:]
    assert min(new) > max(estimator.validation_loss_curve_[:20])
    assert min(new) < new[0]
    assert objective_of(estimator, hard / 10) == pytest.approx(min(new))


def test_warm_start_with_other_data_goes_on_from_the_last_weights():
    """Not from those that were best for the old data, and if it gains nothing."""
    X, X_val = make_data(40), make_data(40, seed=1)
    estimator = make("adam", max_iter=300, learning_rate_init=0.02, warm_start=True)
    estimator.set_params(alpha=0.0).fit(X, X_val=X_val)
    curve = estimator.validation_loss_curve_
    assert curve[-1] > 1.001 * min(curve)  # the last weights are not the best
    estimator.set_params(max_iter=1, learning_rate_init=1e-300).fit(X, X_val=X)
    new = estimator.validation_loss_curve_[-1]
    assert objective_of(estimator, X) == pytest.approx(new, rel=1e-9)


def test_warm_start_keeps_units_and_features():
    X = make_data()
    estimator = make("adam", warm_start=True).fit(X)
    mean, scale = estimator.mean_.copy(), estimator.scale_
    estimator.fit(5 * X + 2)
    np.testing.assert_array_equal(estimator.mean_, mean)
    assert estimator.scale_ == scale


# -- tables with categories ------------------------------------------------------------

SHORT = {"max_iter": 3, "random_state": 0, "hidden_layer_sizes": (8,)}


def test_tables_continue_where_they_stopped():
    table = lacking(make_table())
    whole = AutoencoderTransformer(2, **{**SHORT, "max_iter": 6, "shuffle": False})
    whole.set_params(learning_rate="constant", tol=0).fit(table)
    halves = clone(whole).set_params(max_iter=3, warm_start=True).fit(table)
    halves = pickle.loads(pickle.dumps(halves)).fit(table)
    np.testing.assert_array_equal(halves.transform(table), whole.transform(table))
    assert halves.loss_curve_ == whole.loss_curve_
    with pytest.raises(ValueError, match="names should match"):
        halves.fit(table[["height", "n"]])
    assert halves.loss_curve_ == whole.loss_curve_


def test_tables_and_numbers_leave_nothing_behind():
    table, numbers = make_table(), make_table()[["height", "n"]].to_numpy(float)
    for first, second in ((table, numbers), (numbers, table)):
        estimator = AutoencoderTransformer(1, **SHORT)
        fresh = clone(estimator).fit(second)
        estimator.fit(first).fit(second)
        assert_same_training(estimator, fresh)
        names = [{*vars(fit)} for fit in (estimator, fresh)]
        assert names[0] == names[1]
        for fit in (estimator, fresh):
            assert hasattr(fit, "categories_") == (second is table)


def in_batches(estimator, X):
    estimator.fit_batches(lambda: [X])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_an_estimator_of_a_table_as_it_was(error, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    table, numbers = make_table(), make_table()[["height", "n"]]
    fit, partial_fit = AutoencoderTransformer.fit, AutoencoderTransformer.partial_fit
    for first, second, method in (
        *((table, numbers, method) for method in (fit, in_batches)),
        *((numbers, table, method) for method in (fit, in_batches)),
        (table, lacking(table), partial_fit),
    ):
        estimator = fit(AutoencoderTransformer(1, **SHORT), first)
        before = vars(estimator).copy()
        with monkeypatch.context() as patch:
            for module in (autoencoder, fits):
                patch.setattr(module, "make_plan", fail)
            with pytest.raises(error):
                method(estimator, second)
        assert vars(estimator).keys() == before.keys()
        assert all(vars(estimator)[name] is before[name] for name in before)


def test_tables_have_the_same_bits_on_any_number_of_threads():
    table = lacking(make_table(1500), share=0.02)
    fits = []
    for n_threads in (1, 2):
        with allowed(n_threads):
            fits.append(AutoencoderTransformer(2, **SHORT).fit(table))
            fits[-1].score_ = fits[-1].score(table)
    assert_same_training(*fits)
    assert fits[0].score_ == fits[1].score_
