"""Fits that diverge, fail, or are interrupted."""

import os
import signal
import time

import joblib
import numpy as np
import pytest
from sklearn.base import clone

from skae import AutoencoderTransformer
from skae._training import loop
from skae._training.reporting import TrainingInterruptedWarning
from skae._training.weight_selection import CautiousSelection

from .support.cases import STOCHASTIC, make, make_data
from .support.fits import assert_same_fit, objective_of
from .support.interrupts import ctrl_c_after, warns_of_interrupt
from .support.processes import interrupted_call


@pytest.mark.parametrize("n_calls", [1, 2])
def test_ctrl_c_while_other_rows_are_met(n_calls):
    """The next fit meets them again: nothing is of both."""
    X, other = make_data(), 3 * make_data(seed=1)
    estimator = make("adam", early_stopping=True, warm_start=True, max_iter=20)
    expected = clone(estimator).fit(X).fit(other)
    estimator.fit(X)
    with (
        interrupted_call(loop.Training, "value", n_calls),
        pytest.warns(TrainingInterruptedWarning),
    ):
        estimator.fit(other)
    assert_same_fit(estimator.fit(other), expected)


@pytest.mark.parametrize(
    ("solver", "method", "dtype"),
    [
        *((solver, "fit", np.float64) for solver in STOCHASTIC),
        *((solver, "partial_fit", np.float32) for solver in STOCHASTIC),
    ],
)
def test_diverging_training(solver, method, dtype):
    """An explosion over several updates raises; whatever came before is finite."""
    X = make_data().astype(dtype)
    rate = 1e3
    if solver != "sgd":  # its steps do not grow with the loss
        rate = 1e30 if dtype == np.float32 else 1e200
    estimator = make("minibatch", solver=solver, learning_rate_init=rate)
    with pytest.raises(ValueError, match="diverged") as caught:  # noqa: PT012
        for _ in range(1 if method == "fit" else 100):
            getattr(estimator, method)(X)
    message = str(caught.value)
    assert "Lower learning_rate_init" in message
    assert "StandardScaler" in message
    assert f"solver={solver!r}" in message
    for array in (*getattr(estimator, "coefs_", []),):
        assert np.isfinite(array).all()
    if method == "fit":
        assert not hasattr(estimator, "coefs_")


def failures():
    X = make_data()
    infinite = np.where(np.arange(6) == 2, np.inf, X)
    return {
        "infinity": ({}, (infinite,), {}),
        "features": ({"warm_start": True}, (X[:, :4],), {}),
        "weights": ({}, (X[:, :4],), {"sample_weight": -np.ones(60)}),
        "weights of X": ({}, (X[:, :4],), {"sample_weight": np.ones(3)}),
        "diverging": ({"solver": "sgd", "learning_rate_init": 1e6}, (X[:, :4],), {}),
        "activation": ({"activation": ("relu", "relu")}, (X[:, :4],), {}),
        "output": (
            {"loss": "poisson", "output_activation": "relu"},
            (np.abs(X[:, :4]),),
            {},
        ),
        "range": ({"loss": "log_loss"}, (X[:, :4],), {}),
        "architecture": ({"n_components": 3, "warm_start": True}, (X,), {}),
        "X_val": ({}, (X[:, :4],), {"X_val": X}),
        "parameter": ({"alpha": -1}, (X[:, :4],), {}),
        "split": ({"early_stopping": True}, (X[:1, :4],), {}),
    }


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("failure", failures())
@pytest.mark.parametrize("fitted", [False, True])
def test_failed_fit_changes_nothing(failure, fitted):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    changes, args, fit_params = failures()[failure]
    frame = pandas.DataFrame(make_data(), columns=list("abcdef"))
    estimator = make("adam")
    if fitted:
        estimator.fit(frame, X_val=frame)
    elif "warm_start" in changes:
        return  # nothing to go on from
    estimator.set_params(**changes)
    before = joblib.hash(vars(estimator))
    with pytest.raises(ValueError):  # noqa: PT011  (each has its own test)
        estimator.fit(*args, **fit_params)
    assert joblib.hash(vars(estimator)) == before
    assert hasattr(estimator, "feature_names_in_") == fitted


ENDLESS = {
    "max_iter": 10**8,
    "tol": 0,
    "n_iter_no_change": np.inf,
    "early_stopping": False,
    "random_state": 0,
}
NETWORKS = {
    "tiny": ((20, 3), ()),
    "small": ((200, 10), (30,)),
    "large": ((2_000, 100), (200, 50)),
}


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("network", "solver", "verbose"),
    [
        *(("tiny", "adam", False), ("small", "adam", True), ("large", "sgd", False)),
        *(("small", "lbfgs", True), ("large", "lbfgs", False)),
    ],
)
def test_ctrl_c(network, solver, verbose, capsys):
    (n_rows, n_features), hidden = NETWORKS[network]
    X = make_data(n_rows, n_features)
    estimator = AutoencoderTransformer(
        hidden_layer_sizes=hidden,
        activation="tanh",
        solver=solver,
        learning_rate_init=1e-4,
        verbose=verbose,
        **ENDLESS,
    )
    clone(estimator).set_params(max_iter=1, verbose=False).fit(X)  # compiles
    with warns_of_interrupt(), ctrl_c_after(0.5) as sent:
        estimator.fit(X)
    assert time.perf_counter() - sent[0] < 2
    for array in (*estimator.coefs_, *estimator.intercepts_, estimator.transform(X)):
        assert np.isfinite(array).all()
    assert objective_of(estimator, X) <= estimator.loss_curve_[0] * (1 + 1e-12)
    assert estimator.n_iter_ == len(estimator.loss_curve_) > 0
    assert estimator.loss_ == estimator.loss_curve_[-1]
    # And it can go on.
    n_before = estimator.n_iter_
    estimator.set_params(max_iter=2, warm_start=True, verbose=False).fit(X)
    assert len(estimator.loss_curve_) == n_before + 2


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("ends_waits", [True, False])
def test_ctrl_c_in_partial_fit(ends_waits):
    """A pass of several seconds, also where a signal ends no wait.

    Polars' handler has SA_RESTART; on Windows no signal ends a wait.
    """
    X = make_data(3_000, 200)
    estimator = AutoencoderTransformer(
        hidden_layer_sizes=(1_000, 500), batch_size=2, random_state=0
    )
    # Compiled and begun: what follows is training from its first moment on.
    estimator.partial_fit(X[:2])
    signal.siginterrupt(signal.SIGINT, ends_waits)
    try:
        with warns_of_interrupt(), ctrl_c_after(0.5) as sent:
            estimator.partial_fit(X)
    finally:
        signal.siginterrupt(signal.SIGINT, True)
    assert time.perf_counter() - sent[0] < 2
    assert np.isfinite(estimator.transform(X[:100])).all()


def test_an_interrupt_after_the_last_epoch_keeps_the_weights():
    X = make_data(150)
    estimator = AutoencoderTransformer(1, random_state=0)
    expected = clone(estimator).fit(X)
    with (
        interrupted_call(CautiousSelection, "kept_weights") as calls,
        pytest.warns(TrainingInterruptedWarning),
    ):
        estimator.fit(X)
    assert len(calls) == 2
    assert_same_fit(estimator, expected)
