"""Checkpoint: what it saves, when, and what fails."""

import errno
import hashlib
import os
import pickle
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skae.callbacks
from skae._training import loop
from skae.callbacks import Checkpoint
from skae.io import load

from .support.cases import data_for, make, make_data
from .support.checkpoints import Recording, interrupted, needs_callbacks
from .support.files import Own, assert_same, failing, posix, without_privileges

pytestmark = needs_callbacks


@pytest.mark.parametrize("name", ["cautious", "lbfgs", "variational"])
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


def test_a_converged_fit_is_not_cut_short(path):
    X = make_data(200)
    estimator = make("early_stopping", max_iter=500, n_iter_no_change=3, tol=1e-3)
    checkpoint = Recording(path, every_n_epochs=1)
    estimator.set_callbacks(checkpoint).fit(X)
    assert estimator.n_iter_ < 500
    assert checkpoint.saved[-2:] == [(estimator.n_iter_, False)] * 2


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


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("rate", [1.0, 100.0, 1e10, 1e30, 1e300])
def test_what_diverges_is_not_saved(rate, early_stopping, path):
    """Neither in the epoch that ends it, nor in one before."""
    X = make_data().astype(np.float32 if early_stopping else np.float64)
    estimator = make("sgd_nesterov", max_iter=50, n_iter_no_change=np.inf)
    estimator.set_params(early_stopping=early_stopping, learning_rate_init=rate)
    checkpoint = Checkpoint(path, every_n_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="Training diverged"):
            estimator.set_callbacks(checkpoint).fit(X)
    if path.exists():
        load(path)  # weights that are not finite are refused


def test_ctrl_c_keeps_the_checkpoint_of_an_epoch(path):
    X = make_data()
    estimator = make("adam", max_iter=12, tol=1e-12, warm_start=True)
    whole = clone(estimator).fit(X)
    checkpoint = Recording(path, every_n_epochs=2)
    interrupted(estimator.set_callbacks(checkpoint), X, 5)
    assert checkpoint.saved == [(2, True), (4, True)]
    assert_same(whole, load(path).set_params(verbose=False).fit(X))


def test_within_a_pipeline(path):
    X = make_data()
    for before, after in ([StandardScaler()], []), ([], [PCA()]):
        checkpoint = Recording(path, every_n_epochs=4)
        autoencoder = make("adam", max_iter=10, tol=0).set_callbacks(checkpoint)
        make_pipeline(*before, autoencoder, *after).fit(X)
        assert checkpoint.saved == [(4, True), (8, True), (10, False)]
        assert_same(autoencoder, load(path))


@pytest.mark.parametrize("in_pipeline", [True, False])
def test_within_a_search_the_last_fit_is_saved(in_pipeline, tmp_path):
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
    search = GridSearchCV(model, grid, cv=2).fit(X)
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


def test_a_search_without_a_last_fit_saves_nothing(path):
    model = make("adam").set_callbacks(Checkpoint(path, every_n_epochs=1))
    GridSearchCV(model, {"n_components": [1, 2]}, cv=2, refit=False).fit(make_data())
    assert not path.exists()


def test_clones_in_turn_write_whole_files(path):
    model = make("adam").set_callbacks(Checkpoint(path, every_n_epochs=1))
    cross_val_score(model, make_data(), cv=3, n_jobs=2)
    assert load(path).n_iter_ == 20
    assert os.listdir(path.parent) == [path.name]


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
    with pytest.raises(TypeError, match=r"not a Own: no subclasses, and no "):
        Own().set_callbacks(Checkpoint(path)).fit(X)


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


@pytest.mark.skipif(sys.platform == "win32", reason="folders in use are kept there")
def test_an_absolute_path_where_the_folder_in_use_is_gone(path, tmp_path, monkeypatch):
    folder = tmp_path / "in use"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert Checkpoint(path, every_n_epochs=1).path == str(path)


def test_paths_that_cannot_be_written_are_refused_before_training(tmp_path):
    for path, error, message in (
        (tmp_path / "nowhere" / "model", FileNotFoundError, "make it first"),
        (tmp_path, ValueError, "not a file that can be replaced"),
        (f"{tmp_path}/new/", ValueError, "not a file that can be replaced"),
    ):
        estimator = make("adam").set_callbacks(Checkpoint(path))
        with pytest.raises(error, match=message):
            estimator.fit(make_data())
        assert not hasattr(estimator, "n_iter_")


@posix
def test_a_folder_that_may_not_be_written_to_is_told_before_training():
    checkpoint = Checkpoint("/model")
    with without_privileges(), pytest.raises(PermissionError, match="'/model'"):
        checkpoint.setup(make("adam"), None)


def test_parameters_that_files_do_not_hold_are_told_before_training(path):
    for name, value in (
        ("random_state", np.random.RandomState(np.random.PCG64(0))),
        ("hidden_layer_sizes", pd.Series([5])),
    ):
        estimator = make("adam").set_params(**{name: value})
        clone(estimator).fit(make_data())  # which they do not stop
        estimator.set_callbacks(Checkpoint(path))
        with pytest.raises(TypeError, match=f"cannot write {name}="):
            estimator.fit(make_data())
        assert not hasattr(estimator, "n_iter_")


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


def test_it_is_a_callback_that_is_not_propagated(path):
    from sklearn.callback import AutoPropagatedCallback, FitCallback

    assert isinstance(Checkpoint(path), FitCallback)
    assert not isinstance(Checkpoint(path), AutoPropagatedCallback)


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
