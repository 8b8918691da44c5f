"""Fits that were cut short, by an error, Ctrl-C or a kill, and are finished."""

import contextlib
import io
import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skae._data import stream
from skae._training import loop
from skae._training.reporting import TrainingInterruptedWarning
from skae.callbacks import Checkpoint
from skae.io import load

from .support.cases import (
    ALL_CASES,
    SCHEDULES,
    STOCHASTIC,
    data_for,
    make,
    make_data,
    times,
)
from .support.checkpoints import (
    Crash,
    CrashingCheckpoint,
    assert_finishes,
    checkpoint_after,
    finished,
    interrupted,
    needs_callbacks,
)
from .support.files import DTYPES, assert_same, make_scheduled
from .support.libraries import TABLES
from .support.processes import interrupted_call


@needs_callbacks
@pytest.mark.parametrize("name", ALL_CASES)
def test_a_checkpoint_is_finished_to_the_same_bits(name, path):
    estimator = make(name, max_iter=12, tol=1e-12)
    dtype = DTYPES[list(ALL_CASES).index(name) % 2]
    X = data_for(estimator).astype(dtype)
    assert_finishes(estimator, X, path, n_epochs=5)


@needs_callbacks
@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("learning_rate", SCHEDULES)
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("n_epochs", times([6], [1, 6, 13]))
def test_every_solver_and_schedule(
    solver, learning_rate, early_stopping, n_epochs, path
):
    estimator = make_scheduled(solver, learning_rate, early_stopping, max_iter=14)
    assert_finishes(estimator, make_data(), path, n_epochs)


AUTO = {
    "default": {},
    "noise": {"noise": "gaussian", "n_components": 3},
    "lbfgs": {"solver": "lbfgs"},
    "pretrained": {"pretrain": "layerwise"},
}


@needs_callbacks
@pytest.mark.parametrize("name", AUTO)
@pytest.mark.parametrize("n_epochs", times([30], [3, 30]))
def test_automatic_fits(name, n_epochs, path):
    """Of planned length, with the cosine schedule and a cautious selection."""
    changes = {"max_iter": "auto", "random_state": 3, **AUTO[name]}
    # About two hundred epochs.
    changes["batch_size"] = 10 if name != "lbfgs" else "auto"
    estimator = make("default").set_params(**changes)
    whole = assert_finishes(estimator, make_data(500), path, n_epochs)
    if name == "default":
        assert not np.array_equal(
            whole._training_state.selected, whole._training_state.initial_params
        )


@needs_callbacks
@pytest.mark.parametrize("name", ["default", "variational"])
def test_fits_to_tables_with_categories(name, path):
    estimator = make(name, max_iter=12, tol=1e-12, max_categories=3)
    assert_finishes(estimator, TABLES["pandas"](), path, n_epochs=5)


@needs_callbacks
def test_early_stopping_ends_a_finished_fit_where_it_would_have(path):
    estimator = make("early_stopping", max_iter=500, n_iter_no_change=3, tol=1e-3)
    whole = assert_finishes(estimator, make_data(200), path, n_epochs=7)
    assert 10 < whole.n_iter_ < 500


@needs_callbacks
def test_weights_validation_rows_and_sparse_rows(path):
    X, X_val = make_data(), make_data(seed=1)
    weights = np.random.default_rng(0).uniform(0, 2, len(X))
    estimator = make("minibatch", max_iter=9, early_stopping=True)
    for rows in (X, sparse.csr_matrix(X * (X > 0))):
        assert_finishes(
            estimator, rows, path, n_epochs=4, sample_weight=weights, X_val=X_val
        )


@needs_callbacks
@pytest.mark.parametrize(
    ("name", "is_sparse"),
    [("default", False), ("early_stopping", True), ("lbfgs", True), ("variational", 0)],
)
def test_rows_that_come_in_blocks(name, is_sparse, path, monkeypatch):
    """Of several windows; and finished with other blocks."""
    monkeypatch.setattr(stream, "_WINDOW_ENTRIES", 6 * 22)
    estimator = make(name, max_iter=12, tol=1e-12)
    X = data_for(estimator)
    X = sparse.csr_matrix(X * (X > 0.1)) if is_sparse else X

    def blocks_of(n_rows):
        return lambda: (X[i : i + n_rows] for i in range(0, X.shape[0], n_rows))

    whole = clone(estimator).fit_batches(blocks_of(17))
    crashing = CrashingCheckpoint(path, every_n_epochs=5)
    with pytest.raises(Crash):
        clone(estimator).set_callbacks(crashing).fit_batches(blocks_of(17))
    loaded = load(path)
    assert len(loaded.loss_curve_) == loaded.n_iter_ == 5 < whole.n_iter_
    loaded.set_params(warm_start=True).fit_batches(blocks_of(40))
    assert_same(whole, loaded.set_params(warm_start=False))
    # And, when it has ended, the last.
    whole = clone(estimator).set_callbacks(Checkpoint(path)).fit_batches(blocks_of(17))
    assert_same(whole, load(path))


@needs_callbacks
@pytest.mark.parametrize("name", ["default", "cautious", "lbfgs", "variational"])
def test_a_fit_may_be_cut_short_again_and_again(name, path):
    estimator = make(name, max_iter=20, tol=1e-12, n_iter_no_change=20)
    X = data_for(estimator)
    whole = clone(estimator).fit(X)
    loaded = checkpoint_after(3, estimator, X, path)
    for n_done in (6, 9, 12):
        assert loaded.n_iter_ == n_done - 3
        loaded.set_params(warm_start=True)
        loaded.set_callbacks(CrashingCheckpoint(path, every_n_epochs=3))
        with pytest.raises(Crash):
            loaded.fit(X)
        loaded = load(path)
    assert_same(whole, finished(loaded.set_params(warm_start=False), X))


@needs_callbacks
def test_the_second_fit_of_a_warm_start_is_finished(path):
    X = make_data()
    estimator = make("adam", max_iter=8, learning_rate="cosine", warm_start=True)
    whole = clone(estimator).fit(X).fit(X)
    estimator.fit(X)
    estimator.set_callbacks(CrashingCheckpoint(path, every_n_epochs=3))
    with pytest.raises(Crash):
        estimator.fit(X)
    loaded = load(path)
    assert (loaded.n_iter_, len(loaded.loss_curve_)) == (3, 11)
    assert_same(whole, loaded.fit(X))


@pytest.mark.parametrize("name", ["absolute_error", "cautious", "lbfgs", "variational"])
def test_ctrl_c_between_epochs_is_finished(name):
    estimator = make(name, max_iter=12, tol=1e-12, warm_start=True)
    X = data_for(estimator)
    whole = clone(estimator).fit(X)
    interrupted(estimator, X, 5)
    assert estimator.n_iter_ == 5
    estimator.set_params(verbose=2)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        estimator.fit(X)
    assert_same(whole, estimator.set_params(verbose=False))
    lines = said.getvalue().splitlines()[:-1]
    assert [line.split()[2] for line in lines] == [f"{n}/12" for n in range(6, 13)]
    # It has ended now: the next fit is another.
    estimator.fit(X)
    assert len(estimator.loss_curve_) == 24


def test_after_ctrl_c_another_number_of_epochs_is_meant_as_it_is():
    X = make_data()
    estimator = make("adam", max_iter=12, tol=1e-12, warm_start=True)
    interrupted(estimator, X, 5)
    estimator.set_params(max_iter=4).fit(X)
    assert (estimator.n_iter_, len(estimator.loss_curve_)) == (4, 9)


@pytest.mark.parametrize(
    "between", ["other rows", "another solver", "partial_fit", "no warm start"]
)
def test_after_ctrl_c_what_is_another_fit(between):
    X = make_data()
    estimator = make("adam", max_iter=12, tol=1e-12, warm_start=True)
    interrupted(estimator, X, 5)
    n_before = 5
    if between == "other rows":
        X = make_data(seed=1)
    elif between == "another solver":
        estimator.set_params(solver="sgd")
    elif between == "partial_fit":
        estimator.partial_fit(X)
        n_before = 6
    else:
        estimator.set_params(warm_start=False)
        n_before = 0
    estimator.fit(X)
    assert (estimator.n_iter_, len(estimator.loss_curve_)) == (12, n_before + 12)
    assert not estimator._was_cut_short
    if between == "no warm start":
        assert_same(make("adam", max_iter=12, tol=1e-12).fit(X), estimator)


def test_other_rows_begin_another_cycle():
    """Of the cosine schedule: as after a fit that ended by itself at that epoch."""
    X, other = make_data(), make_data(seed=1)
    estimator = make(
        "adam", max_iter=12, learning_rate="cosine", tol=1e-12, warm_start=True
    )
    interrupted(estimator, X, 5)
    expected = pickle.loads(pickle.dumps(estimator))
    expected._training_state.cut_short_of = None
    assert_same(expected.fit(other), estimator.fit(other))


def test_other_rows_to_train_on_begin_another_fit(capsys):
    """Though those that judge the weights are the same."""
    X, X_val = make_data(), make_data(seed=2)
    estimator = make("adam", max_iter=8, tol=1e-12, warm_start=True)
    interrupted(estimator, X, 5, X_val=X_val)
    for other, n_epochs in ((make_data(seed=1), 5 + 8), (make_data(seed=3), 5 + 16)):
        capsys.readouterr()
        estimator.set_params(verbose=2).fit(other, X_val=X_val)
        assert (estimator.n_iter_, len(estimator.loss_curve_)) == (8, n_epochs)
        lines = capsys.readouterr().out.splitlines()[:-1]
        assert [f"/{n_epochs} " in line for line in lines] == 8 * [True]


def test_patience_begins_anew_with_other_rows_to_train_on():
    hopeless = {"learning_rate_init": 1e-9, "tol": 1e-3, "n_iter_no_change": 2}
    X, X_val = make_data(), make_data(seed=1)
    for rows, n_epochs in ((X, 1), (2 * X, 4)):
        estimator = make("adam", max_iter=3, warm_start=True, **hopeless)
        estimator.fit(X, X_val=X_val).set_params(max_iter=10).fit(rows, X_val=X_val)
        assert estimator.n_iter_ == n_epochs


@pytest.mark.parametrize("n_fits", [0, 1])
def test_ctrl_c_before_the_first_epoch(n_fits):
    X = make_data()
    estimator = make("adam", max_iter=6, tol=1e-12, warm_start=True)
    whole = clone(estimator)
    for _ in range(n_fits + 1):
        whole.fit(X)
    for _ in range(n_fits):
        estimator.fit(X)
    with (
        interrupted_call(loop.Training, "value"),
        pytest.warns(TrainingInterruptedWarning),
    ):
        estimator.fit(X)
    assert estimator.n_iter_ == 0
    assert estimator._was_cut_short
    assert_same(whole, estimator.fit(X))


def test_ctrl_c_before_a_fit_is_finished_leaves_it_to_be_finished():
    X = make_data()
    estimator = make(
        "adam", max_iter=12, tol=1e-12, learning_rate="cosine", warm_start=True
    )
    whole = clone(estimator).fit(X)
    interrupted(estimator, X, 5)
    with interrupted_call(loop, "prepare"), pytest.warns(TrainingInterruptedWarning):
        estimator.fit(X)
    assert estimator.n_iter_ == 5
    assert_same(whole, estimator.fit(X))


def test_ctrl_c_at_the_end_is_no_cut():
    """Whether that is the last epoch of all, or training has converged."""
    limited = make("adam", max_iter=5, tol=1e-12, warm_start=True)
    converging = make("early_stopping", max_iter=500, n_iter_no_change=3, tol=1e-3)
    for estimator, X in ((limited, make_data()), (converging, make_data(200))):
        n_epochs = clone(estimator).fit(X).n_iter_
        interrupted(estimator, X, n_epochs)
        assert estimator.n_iter_ == n_epochs < 500
        assert not estimator._was_cut_short
    limited.fit(make_data())
    assert len(limited.loss_curve_) == 10


def test_a_finished_fit_warns_as_the_whole_would():
    X = make_data()
    estimator = make("adam", max_iter=6, tol=0, warm_start=True)
    interrupted(estimator, X, 3)
    with pytest.warns(ConvergenceWarning, match=r"iterations \(6\) reached"):
        estimator.fit(X)
