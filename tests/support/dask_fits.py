"""Fits on small Dask collections, compared, and cut short."""

import os

import numpy as np
import pytest

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
pd = pytest.importorskip("pandas")

from skae.dask import DaskAutoencoderTransformer, DataLostError  # noqa: E402
from skae.dask import training as training_module  # noqa: E402
from skae.dask.training import DistributedStochasticTraining  # noqa: E402

from .blocks import assert_same_training as assert_same  # noqa: E402, F401
from .cases import CASES, SAMPLING_CASES, UNIT_RANGE_CASES  # noqa: E402

_RNG = np.random.default_rng(0)
X = _RNG.random((300, 12)) @ _RNG.random((12, 12))
X /= X.max()
SIZES = (90, 110, 1, 0, 99)
ALL_CASES = {**CASES, **UNIT_RANGE_CASES, **SAMPLING_CASES}
SMALL = {
    "hidden_layer_sizes": (8,),
    "max_iter": 4,
    "init": "random",
    "early_stopping": False,
    "learning_rate": "constant",
    "random_state": 0,
}
PRETRAINED = {**SMALL, "hidden_layer_sizes": (8, 5), "pretrain": "layerwise"}
PRETRAINED |= {"max_iter": 10, "batch_size": 50}


def collection(X=X, sizes=SIZES):
    """A Dask array, cut into rows as said."""
    return da.from_array(X, chunks=(sizes, X.shape[1]))


def fitted(**parameters):
    """A short fit of the collection."""
    return DaskAutoencoderTransformer(**{**SMALL, **parameters}).fit(collection())


class After:
    """Calls a function once when a training has run so many epochs."""

    def __init__(self, monkeypatch, n_epochs, function):
        run = DistributedStochasticTraining._run_steps
        self.called = False

        def run_steps(training, *args):
            epoch = training.state.progress.n_epochs
            if epoch == n_epochs and not self.called and args[-1].first > 0:
                self.called = True
                function()
            return run(training, *args)

        monkeypatch.setattr(DistributedStochasticTraining, "_run_steps", run_steps)


LONG = {**SMALL, "batch_size": 50, "max_iter": 6}
# Of the weights that are judged, those of epoch 18 are the best, and kept.
CAUTIOUS = {**LONG, "n_components": 1, "early_stopping": "auto", "init": "pca"}
CAUTIOUS |= {"max_iter": 20, "learning_rate_init": 0.08}
CURVE = np.sin(np.random.default_rng(0).uniform(-1, 1, (300, 1)) * np.arange(1, 13))


def pids(client):
    return sorted(client.run(os.getpid).values())


def lost(*args, **kwargs):
    raise DataLostError("as if")


def kept_here():
    """Of each training that this worker keeps something of: how much."""
    return [
        (len(kept.trainings), len(kept.orders), rows_kept_of(kept))
        for kept in training_module._KEPT.values()
    ]


def rows_kept_of(kept):
    """How many numbers of rows, but for the example of a row that buffers need."""
    sizes = [t.objective.rows.values.size - 12 for t in kept.trainings.values()]
    return sum(max(0, size) for size in sizes)
