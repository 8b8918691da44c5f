"""Fits on workers that die, data that are lost, and errors."""

import os
import signal
import time

import numpy as np
import pytest

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
pd = pytest.importorskip("pandas")

from skae._training import fitting  # noqa: E402
from skae._training.weight_selection import CautiousSelection  # noqa: E402
from skae.dask import (  # noqa: E402
    DaskAutoencoderTransformer,
    DataLostError,
    NoWorkersError,
    partitions,
)
from skae.dask import training as training_module  # noqa: E402
from skae.dask.training import DistributedLbfgsTraining, DistributedStochasticTraining  # noqa: E402

from .support.clusters import kill, make_client, make_cluster  # noqa: E402
from .support.dask_fits import (  # noqa: E402
    CAUTIOUS,
    CURVE,
    LONG,
    PRETRAINED,
    SIZES,
    SMALL,
    After,
    X,
    assert_same,
    collection,
    fitted,
    kept_here,
    lost,
    pids,
)

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize(
    ("rows", "parameters", "match"),
    [
        (np.where(X > 0.9, np.inf, X), {}, "contains infinity"),
        (2 * X, {"loss": "log_loss"}, "Values above 1.*MinMaxScaler"),
        (X - 0.5, {"output_activation": "relu"}, "Negative values.*MinMaxScaler"),
        (X[:0], {}, "0 sample"),
        (X, {"n_local_steps": 0}, "n_local_steps"),
        (X, {"solver": "sgd", "learning_rate_init": 1e30}, "Training diverged"),
    ],
)
def test_errors_change_nothing(client, rows, parameters, match):
    estimator = fitted()
    before = dict(vars(estimator))
    estimator.set_params(**parameters)
    sizes = SIZES if len(rows) else (0,)
    with pytest.raises(ValueError, match=match):
        estimator.fit(collection(rows, sizes))
    estimator.set_params(**{k: before[k] for k in parameters})
    assert vars(estimator).keys() == before.keys()
    assert all(vars(estimator)[k] is before[k] for k in before if k.endswith("_"))


def test_workers_die(mortal_client, monkeypatch):
    """What they held, codes of a layer too, is computed again elsewhere, alike."""
    # Dask gives a worker up that dies twice in 15 s: each of the two dies once.
    first, second = pids(mortal_client)
    expected = fitted(**LONG)
    with monkeypatch.context() as patch:
        died = After(patch, 3, lambda: kill(first))
        found = fitted(**LONG)
    assert died.called
    assert first not in pids(mortal_client)
    assert_same(found, expected)

    parameters, killed = {**PRETRAINED, "n_local_steps": 2}, []
    run, expected = DistributedStochasticTraining._run_steps, fitted(**parameters)

    def run_steps(training, *args):
        if training.objective.rows.n_features == 5 and args[-1].first and not killed:
            killed.append(kill(second))
        return run(training, *args)

    monkeypatch.setattr(DistributedStochasticTraining, "_run_steps", run_steps)
    found = fitted(**parameters)
    assert killed
    assert second not in pids(mortal_client)
    assert_same(found, expected)


def assert_goes_on(found, parameters):
    """After three epochs weights are kept, and go on where there are data."""
    shorter, whole = (
        DaskAutoencoderTransformer(**{**parameters, "max_iter": n}).fit(ALL_IN_ONE)
        for n in (3, parameters["max_iter"])
    )
    assert found.loss_curve_ == shorter.loss_curve_
    assert found.n_features_in_ == 12
    np.testing.assert_allclose(found.score(X), shorter.score(X), rtol=1e-6)
    found.set_params(warm_start=True).fit(ALL_IN_ONE)
    assert found.loss_curve_ == whole.loss_curve_


ALL_IN_ONE, OF_CURVE = collection(X, (300,)), collection(CURVE, (300,))


@pytest.mark.soak
def test_data_are_lost(mortal_client, monkeypatch):
    """With the worker that alone had them; the other worker keeps nothing."""
    first, second = mortal_client.nthreads()
    block = mortal_client.scatter(X, workers=[first], hash=False)
    data = da.from_delayed(block, X.shape, X.dtype)
    victim = mortal_client.run(os.getpid, workers=[first])[first]
    found = DaskAutoencoderTransformer(**LONG)
    with monkeypatch.context() as patch:
        After(patch, 3, lambda: kill(victim))
        with pytest.raises(DataLostError, match="after 3 whole epochs are kept"):
            found.fit(data)
    assert mortal_client.run(kept_here, workers=[second]) == {second: []}
    assert_goes_on(found, LONG)


def test_data_of_lbfgs_are_lost(client, monkeypatch):
    iterate, parameters = DistributedLbfgsTraining._iterate, {**LONG, "solver": "lbfgs"}

    def iterate_until(training, memory):
        return (lost if training.state.progress.n_epochs == 3 else iterate)(
            training, memory
        )

    found = DaskAutoencoderTransformer(**parameters)
    with monkeypatch.context() as patch:
        patch.setattr(DistributedLbfgsTraining, "_iterate", iterate_until)
        with pytest.raises(DataLostError, match="after 3 whole epochs are kept"):
            found.fit(ALL_IN_ONE)
    assert_goes_on(found, parameters)


def test_data_are_lost_before_the_first_epoch_has_ended(client, monkeypatch):
    After(monkeypatch, 0, lost)
    found = DaskAutoencoderTransformer(**LONG)
    with pytest.raises(DataLostError) as caught:
        found.fit(collection())
    assert "kept" not in str(caught.value)
    assert not hasattr(found, "mean_")
    assert not hasattr(found, "n_features_in_")


@pytest.mark.parametrize(
    ("case", "n_epochs"),
    [
        ({"early_stopping": True}, 3),
        (CAUTIOUS, 19),
        ({"solver": "lbfgs", "early_stopping": True}, 3),
    ],
    ids=["adam", "cautious", "lbfgs"],
)
def test_data_are_lost_while_validation_rows_are_judged(
    client, monkeypatch, case, n_epochs
):
    """The epoch is not over before its losses are known."""
    parameters = {**LONG, **case, "n_iter_no_change": np.inf}
    whole = DaskAutoencoderTransformer(**parameters).fit(OF_CURVE)
    run = partitions.Partitions.run
    n_calls = 0

    def run_until(parts, function, *args, **kwargs):
        nonlocal n_calls
        if function.__name__ == "_losses_of_part":
            n_calls += 1
            if n_calls == n_epochs + 2:  # one is before the first
                raise DataLostError("as if")
        return run(parts, function, *args, **kwargs)

    monkeypatch.setattr(partitions.Partitions, "run", run_until)
    found = DaskAutoencoderTransformer(**parameters)
    with pytest.raises(DataLostError, match=f"after {n_epochs} whole epochs are kept"):
        found.fit(OF_CURVE)
    monkeypatch.undo()
    found.set_params(warm_start=True).fit(OF_CURVE)
    assert found.loss_curve_ == whole.loss_curve_
    assert found.validation_loss_curve_ == whole.validation_loss_curve_
    np.testing.assert_array_equal(found._params, whole._params)
    assert found.score(CURVE) == whole.score(CURVE)


def test_data_are_lost_while_weights_are_judged(client, monkeypatch):
    """They are judged when there are data again."""
    parameters = {**CAUTIOUS, "n_iter_no_change": np.inf}
    whole = DaskAutoencoderTransformer(**parameters).fit(OF_CURVE)
    consider = CautiousSelection._consider

    def consider_until(selection, params):
        if selection.training.state.progress.n_epochs == 18:
            lost()
        consider(selection, params)

    monkeypatch.setattr(CautiousSelection, "_consider", consider_until)
    found = DaskAutoencoderTransformer(**parameters)
    with pytest.raises(DataLostError, match="after 18 whole epochs are kept"):
        found.fit(OF_CURVE)
    np.testing.assert_array_equal(found._params, found._training_state.selected)
    assert found.score(CURVE) < whole.score(CURVE)
    monkeypatch.undo()
    found.set_params(warm_start=True).fit(OF_CURVE)
    assert found.loss_curve_ == whole.loss_curve_
    np.testing.assert_array_equal(
        found._training_state.selected, whole._training_state.selected
    )
    np.testing.assert_array_equal(found._params, whole._params)


def test_data_are_lost_after_the_last_epoch(client, monkeypatch):
    """There is nothing to finish."""
    monkeypatch.setattr(fitting, "code_moments", lost)
    found = DaskAutoencoderTransformer(**SMALL)
    with pytest.raises(DataLostError, match=r"after 4 whole epochs .* can be used$"):
        found.fit(collection())
    assert found.n_iter_ == 4
    assert np.isfinite(found.transform(X)).all()


@pytest.mark.parametrize(
    ("case", "dtype", "size", "is_weighted"),
    [
        (LONG, np.float32, 250, False),
        (LONG, np.float64, 100, True),
        (CAUTIOUS, np.float32, 100, True),
        (CAUTIOUS, np.float64, 250, False),
    ],
)
def test_lost_data_come_back_in_other_chunks(
    client, monkeypatch, is_weighted, dtype, case, size
):
    """They are the same: only what was left of the epochs is run."""
    rng = np.random.default_rng(0)
    rows = (rng.random((1000, 12)) @ rng.random((12, 12))).astype(dtype)
    weights = rng.random(1000) if is_weighted else None
    parameters = {**case, "batch_size": 200, "n_iter_no_change": np.inf}
    After(monkeypatch, 3, lost)
    found = DaskAutoencoderTransformer(**parameters)
    with pytest.raises(DataLostError, match="after 3 whole epochs are kept"):
        found.fit(collection(rows, 500), None, weights)
    monkeypatch.undo()
    found.set_params(warm_start=True)
    found.fit(collection(rows, size), None, weights)
    assert found.n_iter_ == len(found.loss_curve_) == parameters["max_iter"]


def test_no_worker_is_left(monkeypatch):
    monkeypatch.setattr(partitions, "_SECONDS_WITHOUT_WORKERS", 1.0)
    monkeypatch.setattr(partitions, "_SECONDS_BETWEEN_LOOKS", 0.2)
    with make_cluster(1) as cluster, make_client(cluster) as client:

        def stop():
            cluster.scale(0)
            while client.nthreads():
                time.sleep(0.05)

        After(monkeypatch, 2, stop)
        found = DaskAutoencoderTransformer(client=client, **LONG)
        with pytest.raises(NoWorkersError, match="after 2 whole epochs are kept"):
            found.fit(collection())
        assert len(found.loss_curve_) == 2
        assert np.isfinite(found.transform(X)).all()


def test_interrupt_keeps_the_weights(client, monkeypatch):
    After(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGINT))
    found = DaskAutoencoderTransformer(**LONG)
    with pytest.warns(UserWarning, match="interrupted by user"):
        found.fit(collection())
    assert len(found.loss_curve_) == 2
    assert np.isfinite(found.transform(X)).all()


def test_workers_keep_nothing(client, monkeypatch):
    during = []
    After(monkeypatch, 2, lambda: during.append(client.run(kept_here)))
    fitted(**LONG)
    (kept,) = during
    # Each a training, and the orders of its partitions; of empty ones there is none.
    assert [[of_fit[0] for of_fit in kept[place]] for place in kept] == [[1], [1]]
    assert sum(kept[place][0][1] for place in kept) >= 4
    assert all(kept[place][0][2] == 0 for place in kept)
    assert list(client.run(kept_here).values()) == [[], []]


def test_a_call_that_outlives_its_training_leaves_nothing():
    job = training_module.Job("of a training", None, None, 0, 1, (False,), False)
    try:
        training_module._kept_of(job).orders[0] = 0, np.arange(3)
        assert len(training_module._kept_of(job).orders) == 1
        training_module._forget(job.token)
        training_module._kept_of(job).orders[0] = 0, np.arange(3)
        assert job.token not in training_module._KEPT
    finally:
        training_module._forget(job.token)


def test_a_fit_is_not_lost_in_the_end(client, monkeypatch):
    """What is left of it to do is for the workers' sake."""
    expected = fitted()
    monkeypatch.setattr(distributed.Client, "run", lost)
    assert_same(fitted(), expected)
