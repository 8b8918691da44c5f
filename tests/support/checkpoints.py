"""Checkpoints of fits that are cut short, and their end."""

import contextlib
import io

import numpy as np
import pytest
from sklearn.base import clone

import skae.callbacks
from skae._training.reporting import TrainingInterruptedWarning
from skae.callbacks import Checkpoint
from skae.io import load

from .files import assert_same

needs_callbacks = pytest.mark.skipif(
    not skae.callbacks.HAS_CALLBACKS, reason="needs the callbacks of scikit-learn 1.9"
)


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


class Recording(Checkpoint):
    """Keeps the numbers of epochs that were saved."""

    def __init__(self, path, **how):
        super().__init__(path, **how)
        self.saved = []

    def _save(self, estimator):
        self.saved.append((estimator.n_iter_, estimator._was_cut_short))
        super()._save(estimator)


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
