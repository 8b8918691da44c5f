"""Training on partitions: one is as one array, several by any workers."""

import itertools
import threading
import time

import numpy as np
import pytest
from scipy import sparse

from skae import AutoencoderTransformer

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
pd = pytest.importorskip("pandas")

from skae._runtime import threads as threads_module  # noqa: E402
from skae._training.settings import describe_solver  # noqa: E402
from skae.dask import DaskAutoencoderTransformer  # noqa: E402
from skae.dask.training import (  # noqa: E402
    DistributedStochasticTraining,
    Steps,
    _share,
    _solver_of_parts,
)

from .support.clusters import bytes_moved, threads  # noqa: E402
from .support.dask_fits import (  # noqa: E402
    ALL_CASES,
    LONG,
    PRETRAINED,
    SMALL,
    X,
    assert_same,
    collection,
    kept_here,
    pids,
)

pytestmark = pytest.mark.cluster


# What differs in Python: the kernels are those of other fits.
DIFFERENT = (
    *("default", "adam", "lbfgs", "tied", "pca", "absolute_error", "poisson", "sparse"),
    *("sparse_kl", "pretrained", "log_loss_lbfgs", "early_stopping", "minibatch"),
    *("cautious", "masking_noise", "salt_and_pepper_noise"),
)


@pytest.mark.parametrize("name", DIFFERENT)
def test_one_partition_is_as_one_array(client, name):
    parameters = {**ALL_CASES[name], "max_iter": 5, "random_state": 0}
    dtype = (np.float32, np.float64)[DIFFERENT.index(name) % 2]
    rows = X.astype(dtype)
    whole = AutoencoderTransformer(**parameters).fit(rows)
    found = DaskAutoencoderTransformer(**parameters).fit(collection(rows, (300,)))
    assert_same(found, whole)
    assert found.transform(rows).dtype == dtype


@pytest.mark.parametrize("name", ["default", "lbfgs", "minibatch", "pretrained"])
def test_missing_values(client, alone, name):
    """They are filled on the workers."""
    parameters = {**ALL_CASES[name], "max_iter": 5, "random_state": 0}
    rows = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    whole = AutoencoderTransformer(**parameters).fit(rows)
    found = DaskAutoencoderTransformer(**parameters).fit(collection(rows, (300,)))
    assert_same(found, whole)
    rows[:100] = X[:100]  # the first partition has no missing entry
    results = []
    for on_workers in (client, alone):
        estimator = DaskAutoencoderTransformer(**parameters, client=on_workers)
        results.append(estimator.fit(collection(rows, (100, 80, 120))))
    assert_same(*results)
    lazy = collection(rows, (100, 200))
    code = found.transform(lazy).compute()
    np.testing.assert_array_equal(code, found.transform(rows))
    assert found.score(lazy) == pytest.approx(whole.score(rows), rel=1e-12)
    by_other = DaskAutoencoderTransformer(**parameters).fit(collection(), X_val=lazy)
    assert np.isfinite(by_other.validation_loss_curve_).all()


def test_checkpoints_are_finished_without_dask(client, tmp_path):
    """On one partition to the same bits."""
    pytest.importorskip("sklearn.callback")
    from skae.callbacks import Checkpoint

    from .support.checkpoints import checkpoint_after, load

    path, parameters = tmp_path / "model", {**SMALL, "max_iter": 6}
    whole = AutoencoderTransformer(**parameters).fit(X)
    found = DaskAutoencoderTransformer(**parameters)
    loaded = checkpoint_after(2, found, collection(X, (300,)), path)
    assert type(loaded) is AutoencoderTransformer
    assert loaded.n_iter_ == 2
    assert_same(loaded.set_params(warm_start=True).fit(X), whole)
    found.set_callbacks(Checkpoint(path)).fit(collection(X, (300,)))
    assert_same(load(path), whole)


@pytest.mark.parametrize("schedule", ["inverse_time", "invscaling", "cosine"])
def test_schedules(client, schedule):
    parameters = {**SMALL, "learning_rate": schedule, "decay": 0.01, "batch_size": 90}
    whole = AutoencoderTransformer(**parameters).fit(X)
    found = DaskAutoencoderTransformer(**parameters).fit(collection(X, (300,)))
    assert_same(found, whole)


@pytest.mark.parametrize("n_local_steps", [2, 3, 100])
def test_local_steps_on_one_partition(client, n_local_steps):
    """There is nobody to average with: the same steps."""
    parameters = {**SMALL, "batch_size": 40}
    whole = AutoencoderTransformer(**parameters).fit(X)
    found = DaskAutoencoderTransformer(n_local_steps=n_local_steps, **parameters)
    assert_same(found.fit(collection(X, (300,))), whole)


@pytest.mark.parametrize(
    ("batch_size", "n_local_steps"), [(9, 5), (15, 3), (25, 2), (28, 1)]
)
def test_local_steps_by_default(client, batch_size, n_local_steps):
    """Six exchanges per epoch, of 300 rows, if it has twice as many updates."""
    parameters = {**SMALL, "batch_size": batch_size, "max_iter": 2}
    expected = DaskAutoencoderTransformer(n_local_steps=n_local_steps, **parameters)
    found = DaskAutoencoderTransformer(**parameters).fit(collection())
    assert_same(found, expected.fit(collection()))


def test_learning_rate_of_local_steps():
    def factor(name, sizes):
        solver = describe_solver(
            AutoencoderTransformer(solver=name), 300, watches_validation=False
        )
        return _solver_of_parts(solver, sizes).learning_rate / solver.learning_rate

    for name in ("adam", "rmsprop"):
        assert factor(name, [300]) == factor(name, [300, 0]) == 1
        assert factor(name, [100] * 4) == 2
        assert factor(name, [100] * 50) == 4
        assert 1 < factor(name, [100, 1]) < 1.02
    assert factor("sgd", [100] * 4) == factor("lbfgs", [100] * 4) == 1


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_weights_and_validation_data_on_one_partition(client, solver):
    weights = np.random.default_rng(1).integers(0, 3, len(X)).astype(float)
    parameters = {**SMALL, "solver": solver, "batch_size": 90}
    whole = AutoencoderTransformer(**parameters).fit(X, None, weights, X_val=X[::3])
    for X_val in (X[::3], collection(X[::3], (100,))):
        for given in (weights, da.from_array(weights, chunks=70)):
            found = DaskAutoencoderTransformer(**parameters)
            found.fit(collection(X, (300,)), None, given, X_val=X_val)
            assert_same(found, whole)


def test_groups(client):
    groups = np.random.default_rng(1).permutation(np.repeat(np.arange(60), 5))
    parameters = {**SMALL, "early_stopping": True}
    whole = AutoencoderTransformer(**parameters).fit(X, groups=groups)
    for given in (groups, da.from_array(groups, chunks=70)):
        found = DaskAutoencoderTransformer(**parameters)
        assert_same(found.fit(collection(X, (300,)), groups=given), whole)
    alone = AutoencoderTransformer(**parameters).fit(X)
    assert alone.validation_loss_curve_ != whole.validation_loss_curve_
    with pytest.raises(ValueError, match="groups has 3 labels, but X has 300 samples"):
        found.fit(collection(), groups=[1, 2, 3])


@pytest.mark.parametrize(
    "case",
    [
        *({"solver": solver, "alpha": 0.01} for solver in ("adam", "sgd", "lbfgs")),
        # What is drawn for a sample does not depend on its partition.
        {"noise": "gaussian", "noise_level": 0.5},
        {**PRETRAINED, "early_stopping": True},
    ],
)
def test_whole_batches_are_those_of_one_array(client, case):
    """Sums in another order: the same except for roundings."""
    parameters = {**SMALL, **case, "batch_size": 300}
    weights = np.random.default_rng(1).integers(0, 3, len(X)).astype(float)
    whole = AutoencoderTransformer(**parameters).fit(X, None, weights)
    found = DaskAutoencoderTransformer(**parameters).fit(collection(), None, weights)
    np.testing.assert_allclose(found.loss_curve_, whole.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(found.transform(X), whole.transform(X), rtol=1e-6)
    assert found.scale_ == pytest.approx(whole.scale_, rel=1e-12)


def shares_of(sizes, batch_size):
    """Of each partition its shares of all batches."""
    n_rows, befores = sum(sizes), np.cumsum([0, *sizes[:-1]]).tolist()
    steps = Steps(0, 0, -(-n_rows // batch_size), n_rows)
    return [
        [_share(size, before, step, steps, batch_size) for step in range(steps.stop)]
        for size, before in zip(sizes, befores, strict=True)
    ]


def test_every_partition_has_its_share_of_every_batch():
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = rng.integers(0, 50, rng.integers(1, 6)).tolist()
        n_rows, batch_size = sum(sizes), int(rng.integers(1, 60))
        if not n_rows:
            continue
        for size, shares in zip(sizes, shares_of(sizes, batch_size), strict=True):
            assert shares[0][0] == 0
            assert shares[-1][1] == size
            assert all(a[1] == b[0] for a, b in itertools.pairwise(shares))
            lengths = [stop - start for start, stop in shares]
            fair = batch_size * size / n_rows
            assert max(lengths) - fair < 1
            assert fair - min(lengths[:-1], default=fair) < 1


def test_batches_are_as_large_as_asked_for():
    """Not only each share: partitions round at different places."""
    for sizes, batch_size in [([1] * 4, 2), ([10] * 4, 2), ([100] * 16, 100)]:
        for shares in zip(*shares_of(sizes, batch_size), strict=True):
            assert sum(stop - start for start, stop in shares) == batch_size


@pytest.mark.parametrize(
    "case",
    [
        {"solver": "adam", "batch_size": 64},
        {"solver": "sgd", "batch_size": 64, "n_local_steps": 3},
        {"early_stopping": "auto", "init": "pca", "batch_size": 100},
        {"noise": "masking", "sparsity": "l1", "batch_size": 100},
        {"pretrain": "layerwise", "early_stopping": True, "batch_size": 100},
        {"pretrain": "layerwise", "solver": "lbfgs"},
    ],
    ids=lambda case: "-".join(case),
)
def test_number_of_workers_does_not_matter(client, alone, case):
    parameters = {**SMALL, **case}
    of_two = DaskAutoencoderTransformer(**parameters).fit(collection())
    of_one = DaskAutoencoderTransformer(client=alone, **parameters)
    assert_same(of_one.fit(collection()), of_two)


def test_layers_are_pretrained_in_local_steps(client, monkeypatch):
    layers, locally = [], DistributedStochasticTraining._step_locally

    def step_locally(training, *args):
        layers.append(training.objective.rows.n_features)
        locally(training, *args)

    monkeypatch.setattr(DistributedStochasticTraining, "_step_locally", step_locally)
    DaskAutoencoderTransformer(n_local_steps=2, **PRETRAINED).fit(collection())
    assert [width for width, _ in itertools.groupby(layers)] == [12, 8, 5, 12]


def test_partitions_have_orders_of_their_own(client):
    """Two equal partitions, mixed alike, would train as one of them does."""
    twice, parameters = np.vstack([X, X]), {**SMALL, "batch_size": 60}
    apart = DaskAutoencoderTransformer(**parameters).fit(collection(twice, (300, 300)))
    as_one = DaskAutoencoderTransformer(**{**parameters, "batch_size": 30})
    as_one.fit(collection(X, (300,)))
    assert apart.loss_curve_[0] != pytest.approx(as_one.loss_curve_[0], rel=1e-9)
    parameters["shuffle"] = False
    apart = DaskAutoencoderTransformer(**parameters).fit(collection(twice, (300, 300)))
    as_one = DaskAutoencoderTransformer(**{**parameters, "batch_size": 30})
    as_one.fit(collection(X, (300,)))
    assert apart.loss_curve_ == pytest.approx(as_one.loss_curve_, rel=1e-9)


def test_local_steps_are_averaged(client):
    """By hand: what two halves come to alone, and their mean."""
    parameters = {**SMALL, "solver": "sgd", "momentum": 0.0, "shuffle": False}
    parameters |= {"max_iter": 1, "scale": None, "batch_size": 300}

    def after_two_steps(rows):
        estimator = AutoencoderTransformer(**{**parameters, "batch_size": 75})
        return estimator.fit(rows)._training_state.arrays["params"]

    halves = [after_two_steps(half) for half in np.split(X, 2)]
    found = DaskAutoencoderTransformer(
        n_local_steps=2, **{**parameters, "batch_size": 150}
    ).fit(collection(X, (150, 150)))
    np.testing.assert_allclose(
        found._training_state.arrays["params"], np.mean(halves, axis=0), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("solver", "n_local_steps"), [("adam", 1), ("adam", 2), ("lbfgs", 1)]
)
def test_going_on(client, solver, n_local_steps):
    parameters = {**SMALL, "solver": solver, "batch_size": 64, "warm_start": True}
    parameters["n_local_steps"] = n_local_steps
    whole = DaskAutoencoderTransformer(**{**parameters, "max_iter": 6})
    whole.fit(collection())
    found = DaskAutoencoderTransformer(**{**parameters, "max_iter": 3})
    found.fit(collection()).fit(collection())
    np.testing.assert_array_equal(found._params, whole._params)
    assert found.loss_curve_ == whole.loss_curve_


def test_data_stay_where_they_are(client):
    """Weights and gradients travel, rows do not."""
    random = da.random.default_rng(0)
    rows = random.standard_normal((40_000, 50), chunks=((20_000, 15_000, 5_000), 50))
    lazy = client.persist(rows)
    distributed.wait(lazy)
    places = {f.key: client.who_has(f)[f.key] for f in distributed.futures_of(lazy)}
    assert len(set(places.values())) == 2
    before = client.run(bytes_moved)
    DaskAutoencoderTransformer(**{**SMALL, "batch_size": 10_000}).fit(lazy)
    after = client.run(bytes_moved)
    assert sum(after.values()) - sum(before.values()) < rows.nbytes / 100
    for future in distributed.futures_of(lazy):
        assert client.who_has(future)[future.key] == places[future.key]


@pytest.mark.parametrize("pretrain", [None, "layerwise"])
def test_nothing_stays_on_the_workers(client, pretrain):
    DaskAutoencoderTransformer(**{**SMALL, "pretrain": pretrain}).fit(collection())
    deadline = time.monotonic() + 10
    while any(client.has_what().values()):
        assert time.monotonic() < deadline, client.has_what()
        time.sleep(0.05)


def managed_bytes(dask_worker):
    return dask_worker.state.nbytes


def test_rows_are_counted_once(client):
    """In Dask's account of memory: it would spill what fits."""
    random = da.random.default_rng(0)
    rows = client.persist(random.standard_normal((40_000, 50), chunks=(20_000, 50)))
    distributed.wait(rows)
    most = []

    class Watch(threading.Thread):
        def run(self):
            while not done.is_set():
                most.append(max(client.run(managed_bytes).values()))
                done.wait(0.05)

    done = threading.Event()
    watch = Watch()
    watch.start()
    parameters = {**SMALL, "batch_size": 10_000, "early_stopping": True}
    DaskAutoencoderTransformer(**parameters).fit(rows)
    done.set()
    watch.join()
    # Theirs, and ours, which is the same memory.
    assert max(most) < 2.3 * rows.nbytes / 2


@pytest.mark.parametrize("n_local_steps", [1, 2])
def test_small_partitions_first(alone, n_local_steps):
    """Buffers of a worker's thread are for all partitions, whichever is the first."""
    rows = np.random.default_rng(0).standard_normal((3000, 12))
    parameters = {**SMALL, "batch_size": 2500, "n_local_steps": n_local_steps}
    found = DaskAutoencoderTransformer(client=alone, **parameters)
    found.fit(collection(rows, (2, 2998)))
    if n_local_steps == 1:
        whole = AutoencoderTransformer(**{**SMALL, "batch_size": 2500, "max_iter": 1})
        whole.fit(rows)
        assert found.loss_curve_[0] == pytest.approx(whole.loss_curve_[0], rel=0.01)
    again = DaskAutoencoderTransformer(client=alone, **parameters)
    again.fit(collection(rows, (2, 2998)))
    assert_same(again, found)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("sparse_first", [False, True])
def test_dense_and_sparse_partitions(alone, solver, sparse_first):
    rows = X * (X > 0.5)
    halves = [da.from_array(half, chunks=(150, 12)) for half in np.split(rows, 2)]
    position = 0 if sparse_first else 1
    halves[position] = halves[position].map_blocks(sparse.csr_matrix)
    parameters = {**SMALL, "solver": solver}
    found = DaskAutoencoderTransformer(client=alone, **parameters)
    found.fit(da.concatenate(halves))
    expected = DaskAutoencoderTransformer(client=alone, **parameters)
    assert_same(found, expected.fit(collection(rows, (150, 150))))


@pytest.fixture(scope="module")
def of_threads():
    """The client of a cluster of one worker with three threads."""
    with threads(3) as client:
        yield client


def test_validation_rows_of_another_kind(client, of_threads):
    """Threads whose first part is one to train on meet others later."""
    rows = X * (X > 0.5)
    train, X_val = collection(rows, 100), collection(rows[:90], 90)
    expected = DaskAutoencoderTransformer(**{**SMALL, "max_iter": 10})
    expected.fit(train, X_val=X_val)
    alive = pids(of_threads)
    for given in (
        (train.map_blocks(sparse.csr_matrix), X_val),
        (train, X_val.map_blocks(sparse.csr_matrix)),
    ):
        found = DaskAutoencoderTransformer(**expected.get_params())
        found.set_params(client=of_threads).fit(given[0], X_val=given[1])
        assert_same(found, expected)
    assert pids(of_threads) == alive  # or the fit would go on elsewhere


def test_several_threads_per_worker(client, of_threads):
    """Which part a thread sees first is a matter of luck, and changes nothing."""
    rows = np.random.default_rng(0).standard_normal((2010, 12))
    sizes = (500, 500, 500, 500, 10)
    parameters = {**SMALL, "batch_size": 400, "max_iter": 10}
    expected = DaskAutoencoderTransformer(**parameters).fit(collection(rows, sizes))
    for _ in range(2):
        found = DaskAutoencoderTransformer(client=of_threads, **parameters)
        assert_same(found.fit(collection(rows, sizes)), expected)


def test_a_partition_is_worked_on_by_one_thread(monkeypatch):
    """Where nobody tells libraries how many there may be, as in this process."""
    of_threads = set()

    class Pool(threads_module.ThreadPoolExecutor):
        def __init__(self, *args, **kwargs):
            of_threads.add(threading.current_thread())
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(threads_module, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(threads_module, "_MIN_FLOPS_TO_START", 1)
    monkeypatch.setattr(threads_module, "_MIN_FLOPS_TO_MEET", 1)
    monkeypatch.setattr(threads_module, "n_blas_threads_before", lambda: 4)
    monkeypatch.setattr(threads_module.numba.config, "NUMBA_NUM_THREADS", 4)
    rows = np.random.default_rng(0).random((3000, 12))
    parameters = {**SMALL, "batch_size": 3000, "early_stopping": "auto", "init": "pca"}
    with distributed.Client(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as client:
        found = DaskAutoencoderTransformer(client=client, **parameters)
        found.fit(collection(rows, 1500))
    # The client's own work is as ever.
    assert of_threads <= {threading.current_thread()}


@pytest.mark.parametrize("n_local_steps", [1, 2])
def test_tiny_partitions(client, n_local_steps):
    """Their shares of some batches are empty, or without weight."""
    parameters = {**SMALL, "batch_size": 2, "n_local_steps": n_local_steps}
    weights = np.r_[1.0, 2.0, 0.0, 1.0, 0.0, 1.0]
    found = DaskAutoencoderTransformer(**parameters)
    found.fit(collection(X[:6], (1, 1, 1, 1, 1, 1)), None, weights)
    assert np.isfinite(found._params).all()
    assert len(found.loss_curve_) == 4


def test_two_fits_at_once(alone, monkeypatch):
    """What workers keep for them is their own."""
    parameters = [LONG, {**LONG, "hidden_layer_sizes": (5, 4), "random_state": 1}]
    parameters = [{**p, "client": alone} for p in parameters]
    expected = [DaskAutoencoderTransformer(**p).fit(collection()) for p in parameters]
    run, kept = DistributedStochasticTraining._run_steps, []
    both = threading.Barrier(
        2, action=lambda: kept.append(alone.run(kept_here)), timeout=60
    )

    def run_steps(training, *args):
        both.wait()  # in turn, from the first step to the last
        return run(training, *args)

    monkeypatch.setattr(DistributedStochasticTraining, "_run_steps", run_steps)
    found = [DaskAutoencoderTransformer(**p) for p in parameters]
    at_once = [
        threading.Thread(target=estimator.fit, args=(collection(),))
        for estimator in found
    ]
    for thread in at_once:
        thread.start()
    for thread in at_once:
        thread.join()
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
    (of_worker,) = kept[-1].values()
    assert len(of_worker) == 2


def fit_in_a_task():
    """With the worker's client, and a collection of weights, which is gathered."""
    client = distributed.get_client()
    weights = da.ones(300, chunks=100)
    found = DaskAutoencoderTransformer(client=client, **SMALL)
    found.fit(collection(), None, weights)
    return found._params, found.score(collection(), sample_weight=weights)


def test_fits_in_tasks(client):
    """On each worker's only thread, which the partitions need."""
    expected = DaskAutoencoderTransformer(**SMALL)
    expected.fit(collection(), None, np.ones(300))
    futures = [client.submit(fit_in_a_task, pure=False) for _ in range(2)]
    for future in futures:
        params, score = future.result(timeout=120)
        np.testing.assert_array_equal(params, expected._params)
        assert score == pytest.approx(expected.score(X), rel=1e-12)
