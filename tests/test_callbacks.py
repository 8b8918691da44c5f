"""Checkpoints, and fits that are finished after something cut them short."""

import contextlib
import errno
import hashlib
import io
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skae.callbacks
from skae._data import stream
from skae._training import loop
from skae._training.reporting import TrainingInterruptedWarning
from skae.callbacks import Checkpoint
from skae.io import load, save

from .cases import (
    ALL_CASES,
    SCHEDULES,
    STOCHASTIC,
    data_for,
    make,
    make_data,
    names_of,
    times,
)
from .processes import interrupted_call
from .test_io import (
    DTYPES,
    Own,
    assert_same,
    contents,
    failing,
    make_scheduled,
    posix,
    without_privileges,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
needs_callbacks = pytest.mark.skipif(
    not skae.callbacks.HAS_CALLBACKS, reason="needs the callbacks of scikit-learn 1.9"
)


# -- fits that are cut short -----------------------------------------------------------


class Crash(Exception):
    """Ends a fit, as nothing that a fit handles would."""


class CrashingCheckpoint(Checkpoint):
    """Crashes once it has saved so many times."""

    def __init__(self, path, *, n_saves=1, **how):
        super().__init__(path, **how)
        self.n_left = n_saves

    def _save(self, estimator):
        super()._save(estimator)
        self.n_left -= 1
        if not self.n_left:
            raise Crash


def checkpoint_after(n_epochs, estimator, X, path, **fit_params):
    """A checkpoint, loaded, of a fit that has crashed after so many epochs."""
    estimator = clone(estimator)
    estimator.set_callbacks(CrashingCheckpoint(path, every_n_epochs=n_epochs))
    with pytest.raises(Crash):
        estimator.fit(X, **fit_params)
    assert not hasattr(estimator, "n_iter_")
    return load(path)


def finished(loaded, X, **fit_params):
    """What a fit makes of a checkpoint, with the parameters that it had."""
    before = loaded.warm_start
    loaded.set_params(warm_start=True).fit(X, **fit_params)
    return loaded.set_params(warm_start=before)


def assert_finishes(estimator, X, path, n_epochs, **fit_params):
    """A fit that was cut short and finished has the bits of one that was not."""
    whole = clone(estimator).fit(X, **fit_params)
    loaded = checkpoint_after(n_epochs, estimator, X, path, **fit_params)
    assert len(loaded.loss_curve_) == loaded.n_iter_ == n_epochs < whole.n_iter_
    finish = finished(loaded, X, **fit_params)
    assert finish.n_iter_ == whole.n_iter_
    assert_same(whole, finish)
    np.testing.assert_array_equal(whole.transform(X), finish.transform(X), strict=True)
    return whole


@needs_callbacks
@pytest.mark.parametrize("name", ALL_CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_checkpoint_is_finished_to_the_same_bits(name, dtype, path):
    estimator = make(name, max_iter=12, tol=1e-12)
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
    "wide": {
        "n_components": 3,
        "hidden_layer_sizes": (20,),
        "n_iter_no_change": 1000,
    },
    "noise": {"noise": "gaussian", "n_components": 3},
    "sparsity": {"sparsity": "l1"},
    "early stopping": {"early_stopping": True, "init": "random"},
    "lbfgs": {"solver": "lbfgs"},
    "pretrained": {"pretrain": "layerwise"},
}


@needs_callbacks
@pytest.mark.parametrize("name", [*AUTO, "variational"])
@pytest.mark.parametrize("n_epochs", times([30], [3, 30]))
def test_automatic_fits(name, n_epochs, path):
    """Of planned length, with the cosine schedule and a cautious selection."""
    kind = "variational" if name == "variational" else "default"
    estimator = make(kind, random_state=3).set_params(max_iter="auto")
    if kind == "variational":
        estimator = type(estimator)(random_state=3, hidden_layer_sizes=(20,))
    else:
        estimator.set_params(**AUTO[name])
    # About two hundred epochs.
    estimator.set_params(batch_size=10 if name != "lbfgs" else "auto")
    whole = assert_finishes(estimator, make_data(500), path, n_epochs)
    if name == "default":
        assert not np.array_equal(
            whole._training_state.selected, whole._training_state.initial_params
        )


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
@pytest.mark.parametrize("name", ["default", "early_stopping", "lbfgs", "variational"])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_rows_that_come_in_blocks(name, is_sparse, path, monkeypatch):
    """Of several windows; and finished with other blocks."""
    monkeypatch.setattr(stream, "_WINDOW_ENTRIES", 6 * 22)
    estimator = make(name, max_iter=12, tol=1e-12)
    X = data_for(estimator)
    X = sparse.csr_matrix(X * (X > 0.1)) if is_sparse else X

    def blocks_of(n_rows):
        return lambda: (X[i : i + n_rows] for i in range(0, X.shape[0], n_rows))

    whole = clone(estimator).fit_batches(blocks_of(17))
    crashing = clone(estimator)
    crashing.set_callbacks(CrashingCheckpoint(path, every_n_epochs=5))
    with pytest.raises(Crash):
        crashing.fit_batches(blocks_of(17))
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


# -- what is in a checkpoint, and when -------------------------------------------------


@needs_callbacks
@pytest.mark.parametrize(
    "name",
    names_of(lambda p: p["learning_rate"] != "cosine" and not p.get("pretrain")),
)
def test_a_checkpoint_is_what_a_shorter_fit_leaves(name, path):
    estimator = make(name, max_iter=12, tol=1e-12)
    if estimator.learning_rate == "auto":
        estimator.set_params(learning_rate="constant")  # of the length of a fit else
    X = data_for(estimator)
    loaded = checkpoint_after(5, estimator, X, path)
    assert loaded._training_state.cut_short_of == 12
    loaded._training_state.cut_short_of = None
    loaded.max_iter_ = 5
    assert_same(
        clone(estimator).set_params(max_iter=5).fit(X), loaded.set_params(max_iter=5)
    )


class Recording(Checkpoint):
    """Keeps the numbers of epochs that were saved."""

    def __init__(self, path, **how):
        super().__init__(path, **how)
        self.saved = []

    def _save(self, estimator):
        self.saved.append((estimator.n_iter_, estimator._was_cut_short))
        super()._save(estimator)


@needs_callbacks
@pytest.mark.parametrize("name", ["default", "cautious", "lbfgs", "variational"])
def test_checkpoints_change_nothing(name, path):
    estimator = make(name, max_iter=12, tol=1e-12)
    X = data_for(estimator)
    checkpoint = Recording(path, every_n_epochs=1)
    watched = clone(estimator).set_callbacks(checkpoint).fit(X)
    assert_same(estimator.fit(X), watched)
    assert_same(watched, load(path))
    n = estimator.n_iter_
    # The last epoch, then the fit.
    assert checkpoint.saved == [*((i, True) for i in range(1, n)), *[(n, False)] * 2]


@needs_callbacks
def test_every_n_epochs(path):
    checkpoint = Recording(path, every_n_epochs=4)
    make("adam", max_iter=10, tol=0).set_callbacks(checkpoint).fit(make_data())
    assert checkpoint.saved == [(4, True), (8, True), (10, False)]


class Clock:
    """An epoch takes three minutes; setup and a save take none."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(skae.callbacks.time, "monotonic", lambda: self.now)

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context):
        self.now += 180


@needs_callbacks
@pytest.mark.parametrize(
    ("how", "saved"),
    [
        ({}, [4, 8]),  # ten minutes
        ({"every_n_minutes": 6}, [2, 4, 6, 8]),
        ({"every_n_minutes": 0}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"every_n_minutes": 1e9}, []),
        ({"every_n_minutes": 10, "every_n_epochs": 3}, [3, 6, 9]),
        ({"every_n_minutes": 10, "every_n_epochs": 5}, [4, 5, 9]),
        ({"every_n_minutes": None, "every_n_epochs": 5}, [5]),
    ],
)
def test_every_n_minutes(how, saved, path, monkeypatch):
    checkpoint = Recording(path, **how)
    estimator = make("adam", max_iter=9, tol=0)
    estimator.set_callbacks(Clock(monkeypatch), checkpoint).fit(make_data())
    *during, (last, is_unfinished) = checkpoint.saved
    assert [n for n, _ in during] == saved
    assert (last, is_unfinished) == (9, False)
    assert not checkpoint._saved_at


@needs_callbacks
def test_a_checkpoint_of_a_fit_that_ended_goes_on(path):
    """With as many epochs more, as without a file."""
    X = make_data()
    estimator = make("adam", max_iter=6, tol=1e-12, warm_start=True)
    estimator.set_callbacks(Checkpoint(path)).fit(X)
    loaded = load(path)
    assert_same(estimator.set_callbacks().fit(X), loaded.fit(X))
    assert len(loaded.loss_curve_) == 12


@needs_callbacks
def test_a_converged_fit_is_not_cut_short(path):
    X = make_data(200)
    estimator = make("early_stopping", max_iter=500, n_iter_no_change=3, tol=1e-3)
    checkpoint = Recording(path, every_n_epochs=1)
    estimator.set_callbacks(checkpoint).fit(X)
    assert estimator.n_iter_ < 500
    assert checkpoint.saved[-2:] == [(estimator.n_iter_, False)] * 2


@needs_callbacks
def test_a_fit_that_another_callback_ends_is_not_cut_short(path):
    class Stop(Clock):
        def __init__(self):
            pass

        def on_fit_task_end(self, estimator, context):
            return context.task_name == "epoch" and context.task_id == 3

    checkpoint = Recording(path)
    estimator = make("adam", max_iter=10, warm_start=True, tol=1e-12)
    estimator.set_callbacks(Stop(), checkpoint).fit(make_data())
    assert checkpoint.saved == [(4, False)]
    loaded = load(path).fit(make_data())
    assert (loaded.n_iter_, len(loaded.loss_curve_)) == (10, 14)


@needs_callbacks
def test_a_failed_fit_leaves_the_last_checkpoint(path):
    X = make_data()
    checkpoint = CrashingCheckpoint(path, n_saves=6, every_n_epochs=1)
    with pytest.raises(Crash):
        make("adam").set_callbacks(checkpoint).fit(X)
    assert load(path).n_iter_ == 6
    assert not checkpoint._saved_at


@needs_callbacks
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("rate", [1.0, 10.0, 100.0, 1e4, 1e10, 1e30, 1e300])
def test_what_diverges_is_not_saved(rate, early_stopping, dtype, path):
    """Neither in the epoch that ends it, nor in one before."""
    X = make_data().astype(dtype)
    estimator = make("sgd_nesterov", max_iter=50, n_iter_no_change=np.inf)
    estimator.set_params(early_stopping=early_stopping, learning_rate_init=rate)
    checkpoint = Checkpoint(path, every_n_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="Training diverged"):
            estimator.set_callbacks(checkpoint).fit(X)
    if path.exists():
        load(path)  # weights that are not finite are refused


# -- Ctrl-C ----------------------------------------------------------------------------


def interrupted(estimator, X, after, **fit_params):
    """Fit, with Ctrl-C while an epoch's line is printed."""

    class Terminal(io.StringIO):
        def write(self, text):
            if "/" in text and text.partition("/")[0].split()[-1] == str(after):
                raise KeyboardInterrupt
            return super().write(text)

    estimator.set_params(verbose=2)
    with (
        pytest.warns(TrainingInterruptedWarning),
        contextlib.redirect_stdout(Terminal()),
    ):
        estimator.fit(X, **fit_params)
    return estimator.set_params(verbose=False)


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
    "between",
    ["other rows", "another solver", "partial_fit", "no warm start"],
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


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
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
    with (
        interrupted_call(loop, "prepare"),
        pytest.warns(TrainingInterruptedWarning),
    ):
        estimator.fit(X)
    assert estimator.n_iter_ == 5
    assert_same(whole, estimator.fit(X))


def test_ctrl_c_at_the_end_is_no_cut():
    X = make_data()
    estimator = make("adam", max_iter=5, tol=1e-12, warm_start=True)
    interrupted(estimator, X, 5)
    assert not estimator._was_cut_short
    estimator.fit(X)
    assert len(estimator.loss_curve_) == 10


def test_ctrl_c_when_training_has_converged_is_no_cut():
    estimator = make("early_stopping", max_iter=500, n_iter_no_change=3, tol=1e-3)
    X = make_data(200)
    n_epochs = clone(estimator).fit(X).n_iter_
    interrupted(estimator, X, n_epochs)
    assert estimator.n_iter_ == n_epochs < 500
    assert not estimator._was_cut_short


def test_a_finished_fit_warns_as_the_whole_would():
    X = make_data()
    estimator = make("adam", max_iter=6, tol=0, warm_start=True)
    interrupted(estimator, X, 3)
    with pytest.warns(ConvergenceWarning, match=r"iterations \(6\) reached"):
        estimator.fit(X)


@needs_callbacks
def test_ctrl_c_keeps_the_checkpoint_of_an_epoch(path):
    X = make_data()
    estimator = make("adam", max_iter=12, tol=1e-12, warm_start=True)
    whole = clone(estimator).fit(X)
    checkpoint = Recording(path, every_n_epochs=2)
    interrupted(estimator.set_callbacks(checkpoint), X, 5)
    assert checkpoint.saved == [(2, True), (4, True)]
    assert_same(whole, load(path).set_params(verbose=False).fit(X))


# -- within others ---------------------------------------------------------------------


@needs_callbacks
def test_within_a_pipeline(path):
    X = make_data()
    for before, after in ([StandardScaler()], []), ([], [PCA()]):
        checkpoint = Recording(path, every_n_epochs=4)
        autoencoder = make("adam", max_iter=10, tol=0).set_callbacks(checkpoint)
        make_pipeline(*before, autoencoder, *after).fit(X)
        assert checkpoint.saved == [(4, True), (8, True), (10, False)]
        assert_same(autoencoder, load(path))


@needs_callbacks
@pytest.mark.parametrize(("n_jobs", "in_pipeline"), [(1, True), (2, False)])
def test_within_a_search_the_last_fit_is_saved(n_jobs, in_pipeline, tmp_path):
    X = make_data()
    log = tmp_path / "log"
    folder = tmp_path / "models"
    folder.mkdir()
    checkpoint = Logging(folder / "model", log, every_n_epochs=4)
    model = make("adam", max_iter=9, tol=0).set_callbacks(checkpoint)
    grid = {"n_components": [1, 2]}
    if in_pipeline:
        model = make_pipeline(StandardScaler(), model)
        grid = {"autoencodertransformer__n_components": [1, 2]}
    search = GridSearchCV(model, grid, cv=2, n_jobs=n_jobs).fit(X)
    best = search.best_estimator_[-1] if in_pipeline else search.best_estimator_
    assert log.read_text().split() == ["4", "8", "9"]
    assert os.listdir(folder) == ["model"]
    assert_same(best, load(folder / "model"))


class Logging(Checkpoint):
    """Notes what it saves, in whichever process."""

    def __init__(self, path, log, **how):
        super().__init__(path, **how)
        self.log = log

    def _save(self, estimator):
        with self.log.open("a") as file:
            file.write(f"{estimator.n_iter_}\n")
        super()._save(estimator)


@needs_callbacks
def test_a_search_without_a_last_fit_saves_nothing(path):
    model = make("adam").set_callbacks(Checkpoint(path, every_n_epochs=1))
    GridSearchCV(model, {"n_components": [1, 2]}, cv=2, refit=False).fit(make_data())
    assert not path.exists()


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_clones_in_turn_write_whole_files(n_jobs, path):
    from sklearn.model_selection import cross_val_score

    model = make("adam").set_callbacks(Checkpoint(path, every_n_epochs=1))
    cross_val_score(model, make_data(), cv=3, n_jobs=n_jobs)
    assert load(path).n_iter_ == 20
    assert os.listdir(path.parent) == [path.name]


@needs_callbacks
def test_others_are_told_where_to_set_it(path):
    X = make_data()
    model = make("adam")
    for other in (
        make_pipeline(StandardScaler(), model),
        GridSearchCV(model, {"n_components": [1]}, cv=2),
    ):
        other.set_callbacks(Checkpoint(path))
        with pytest.raises(TypeError, match=r"not a .*: set it on the autoencoder"):
            other.fit(X)
    with pytest.raises(TypeError, match=r"not a Own: no subclasses$"):
        Own().set_callbacks(Checkpoint(path)).fit(X)


@needs_callbacks
def test_clones_and_pickles_have_the_callback(path):
    X = make_data()
    estimator = make("adam").set_callbacks(Checkpoint(path, every_n_epochs=3))
    clone(estimator).fit(X)
    assert load(path).n_iter_ == 20
    os.unlink(path)
    copied = pickle.loads(pickle.dumps(estimator)).fit(X)
    assert_same(load(path), copied)
    assert not hasattr(load(path), "_skl_callbacks")
    assert "every_n_epochs=3" in repr(copied._skl_callbacks[0])
    # The path is that of the process that named it.
    assert os.path.isabs(Checkpoint("model").path)


@needs_callbacks
def test_two_checkpoints(tmp_path):
    many = Recording(tmp_path / "a", every_n_epochs=5)
    few = Recording(tmp_path / "b", every_n_epochs=7)
    estimator = make("adam", tol=0, max_iter=15).set_callbacks(many, few)
    estimator.fit(make_data())
    assert [n for n, _ in many.saved] == [5, 10, 15, 15]
    assert [n for n, _ in few.saved] == [7, 14, 15]
    assert_same(load(tmp_path / "a"), load(tmp_path / "b"))


# -- errors ----------------------------------------------------------------------------


@needs_callbacks
def test_a_full_disk_does_not_end_a_fit(path, monkeypatch):
    X, calls = make_data(), []
    fsync = os.fsync

    def fail_later(descriptor):
        calls.append(descriptor)
        if len(calls) > 2:  # a file, its folder
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    estimator = make("adam", max_iter=10, tol=0)
    estimator.set_callbacks(Checkpoint(path, every_n_epochs=4))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_later)
        with pytest.warns(UserWarning, match=r"could not write .*No space") as caught:
            estimator.fit(X)
    assert sum("could not write" in str(w.message) for w in caught) == 2
    assert load(path).n_iter_ == 4
    assert os.listdir(path.parent) == [path.name]
    assert_same(estimator, make("adam", max_iter=10, tol=0).fit(X))


@needs_callbacks
@pytest.mark.skipif(sys.platform == "win32", reason="folders in use are kept there")
def test_an_absolute_path_where_the_folder_in_use_is_gone(path, tmp_path, monkeypatch):
    folder = tmp_path / "in use"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert Checkpoint(path, every_n_epochs=1).path == str(path)


@needs_callbacks
def test_a_missing_folder_is_told_before_training(path):
    estimator = make("adam").set_callbacks(Checkpoint(path / "nowhere" / "model"))
    with pytest.raises(FileNotFoundError, match="make it first"):
        estimator.fit(make_data())
    assert not hasattr(estimator, "n_iter_")


@needs_callbacks
def test_what_is_no_file_is_told_before_training(tmp_path):
    for no_file in (tmp_path, f"{tmp_path}/new/"):
        estimator = make("adam").set_callbacks(Checkpoint(no_file))
        with pytest.raises(ValueError, match="no file that could be replaced"):
            estimator.fit(make_data())
        assert not hasattr(estimator, "n_iter_")


@posix
@needs_callbacks
def test_a_folder_that_may_not_be_written_to_is_told_before_training():
    checkpoint = Checkpoint("/model")
    with without_privileges(), pytest.raises(PermissionError, match="'/model'"):
        checkpoint.setup(make("adam"), None)


@needs_callbacks
@pytest.mark.parametrize(
    "changes",
    [
        {"random_state": np.random.RandomState(np.random.PCG64(0))},
        {"hidden_layer_sizes": pd.Series([5])},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_parameters_that_files_do_not_hold_are_told_before_training(changes, path):
    estimator = make("adam").set_params(**changes)
    clone(estimator).fit(make_data())  # which they do not stop
    estimator.set_callbacks(Checkpoint(path))
    with pytest.raises(TypeError, match=f"cannot write {next(iter(changes))}="):
        estimator.fit(make_data())
    assert not hasattr(estimator, "n_iter_")


@needs_callbacks
@pytest.mark.parametrize(
    ("error", "match"),
    [
        (MemoryError(), r"MemoryError\(\)"),
        (TypeError("no number"), "no number"),
        (ValueError("no model"), "no model"),
    ],
)
def test_what_fails_to_be_saved_does_not_end_a_fit(error, match, path, monkeypatch):
    X = make_data()
    estimator = make("adam", max_iter=10, tol=0)
    estimator.set_callbacks(Checkpoint(path, every_n_epochs=4))
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "sha256", failing(error))
        with pytest.warns(UserWarning, match=f"could not write .*: {match}. Train"):
            estimator.fit(X)
    assert not path.exists()
    assert_same(estimator, make("adam", max_iter=10, tol=0).fit(X))


@needs_callbacks
@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"every_n_epochs": 0}, "'every_n_epochs' parameter"),
        ({"every_n_epochs": 1.5}, "'every_n_epochs' parameter"),
        ({"every_n_minutes": -1}, "'every_n_minutes' parameter"),
        ({"every_n_minutes": "10"}, "'every_n_minutes' parameter"),
        ({"path": 3}, "'path' parameter"),
        ({"every_n_minutes": None}, "needs every_n_epochs or every_n_minutes"),
    ],
)
def test_wrong_parameters(how, match):
    with pytest.raises(ValueError, match=match):
        Checkpoint(**{"path": "model", **how})


def test_older_versions_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(skae.callbacks, "HAS_CALLBACKS", False)
    with pytest.raises(ImportError, match=r"scikit-learn>=1\.9"):
        Checkpoint("model")


@needs_callbacks
def test_without_safetensors(monkeypatch):
    """Told before training."""
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"Checkpoint needs safe.*'skae\[io\]'"):
        Checkpoint("model")


@needs_callbacks
def test_it_is_a_callback_that_is_not_propagated(path):
    from sklearn.callback import AutoPropagatedCallback, FitCallback

    assert isinstance(Checkpoint(path), FitCallback)
    assert not isinstance(Checkpoint(path), AutoPropagatedCallback)


@needs_callbacks
def test_nothing_is_computed_for_epochs_that_are_not_saved(path, monkeypatch):
    """Weights are measured, and codes ordered, only for what is written."""
    calls = []
    kept_params = loop.kept_weights

    def count(*args):
        calls.append(args)
        return kept_params(*args)

    monkeypatch.setattr(loop, "kept_weights", count)
    estimator = make("adam", max_iter=20, tol=0)
    estimator.set_callbacks(Checkpoint(path, every_n_epochs=8)).fit(make_data())
    assert len(calls) == 3


@needs_callbacks
def test_contexts_do_not_keep_what_was_trained(path):
    """They outlive the fit, as parts of the tree that all callbacks see."""

    class Keep(Clock):
        def __init__(self):
            self.contexts = []

        def on_fit_task_end(self, estimator, context):
            assert hasattr(context, "skae_snapshot") == (context.task_name == "epoch")
            self.contexts.append(context)

    keep = Keep()
    make("adam", max_iter=3, tol=0).set_callbacks(keep).fit(make_data())
    assert len(keep.contexts) == 4
    assert not any(hasattr(context, "skae_snapshot") for context in keep.contexts)


# -- kill -9 ---------------------------------------------------------------------------

CHILD = """
import sys
import time
import warnings

from sklearn.base import clone

from skae.callbacks import Checkpoint
from skae.io import load
from tests.cases import data_for

warnings.simplefilter("ignore")
what, new, path, n_rows = sys.argv[1:]
X = None


class Slow:
    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context):
        time.sleep(0.01)


estimator = load(new if what == "begin" else path)
X = data_for(estimator, n_rows=int(n_rows))
if what == "begin":
    callbacks = Checkpoint(path, every_n_epochs=7), Slow()
    estimator.set_callbacks(*callbacks).fit(X)
else:
    estimator.set_params(warm_start=True).fit(X)
    estimator.set_params(warm_start=False)
    from skae.io import save

    save(estimator, path)
"""


def child(*args, wait):
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", CHILD, *map(str, args)]
    process = subprocess.Popen(
        command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    )
    if wait:
        assert process.wait(timeout=300) == 0
    return process


KILLED = {
    "early_stopping": {"max_iter": 300, "tol": 0, "n_iter_no_change": np.inf},
    "lbfgs": {"max_iter": 200, "tol": 0},
    "default": {"batch_size": 10},
    "variational": {"max_iter": 300, "tol": 0, "n_iter_no_change": np.inf},
}


@posix
@needs_callbacks
@pytest.mark.parametrize(("name", "changes"), [*KILLED.items()][: times(2, 4)])
def test_kill_minus_nine(name, changes, tmp_path):
    """A process that fits is killed, another finishes: the bits of one that lives."""
    new, saved = tmp_path / "new", tmp_path / "checkpoint"
    estimator = make(name, **changes)
    save(estimator, new)
    process = child("begin", new, saved, 300, wait=False)
    try:
        deadline = time.monotonic() + 120
        while not (saved.exists() and load(saved).n_iter_ >= 14):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    n_saved = load(saved).n_iter_
    whole = estimator.fit(data_for(estimator, n_rows=300))
    assert 14 <= n_saved < whole.n_iter_
    child("finish", new, saved, 300, wait=True)
    assert_same(whole, load(saved))
    assert contents(whole)["n_iter_"] > n_saved
