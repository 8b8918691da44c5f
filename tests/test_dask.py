"""DaskAutoencoderTransformer on processes, some of which are killed."""

import copy
import itertools
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skae import AutoencoderTransformer

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
pd = pytest.importorskip("pandas")

import skae.dask  # noqa: E402
from skae._compiled.records import FIRST_EPOCH, N_EPOCHS, TERM_SUM  # noqa: E402
from skae._runtime import threads as threads_module  # noqa: E402
from skae._training import fitting  # noqa: E402
from skae._training.weight_selection import CautiousSelection  # noqa: E402
from skae.dask import (  # noqa: E402
    DaskAutoencoderTransformer,
    DataLostError,
    NoWorkersError,
    partitions,
)
from skae.dask import training as training_module  # noqa: E402
from skae.dask.training import (  # noqa: E402
    DistributedLbfgsTraining,
    DistributedStochasticTraining,
    Steps,
    _share,
)

from .cases import CASES, SAMPLING_CASES, UNIT_RANGE_CASES  # noqa: E402
from .clusters import kill, later, make_client, make_cluster, threads  # noqa: E402
from .test_partitions import bytes_moved  # noqa: E402

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

_RNG = np.random.default_rng(0)
X = _RNG.random((300, 12)) @ _RNG.random((12, 12))
X /= X.max()
SIZES = (90, 110, 1, 0, 99)
ALL_CASES = {**CASES, **UNIT_RANGE_CASES, **SAMPLING_CASES}
# What is told anew in each call of a kernel.
SCRATCH = {"counters": [FIRST_EPOCH], "scalars": [TERM_SUM]}
FITTED = ("mean_", "scale_", "loss_curve_", "loss_", "best_loss_", "n_iter_", "_params")
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


@pytest.fixture(scope="module")
def client():
    with make_cluster() as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def alone():
    with make_cluster(1) as cluster, make_client(cluster) as client:
        yield client


def collection(X=X, sizes=SIZES):
    """A Dask array, cut into rows as said."""
    return da.from_array(X, chunks=(sizes, X.shape[1]))


def assert_same(found, expected):
    """The fitted attributes have the same bits."""
    for name in FITTED:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("validation_loss_curve_", "explained_variance_", "mean_activation_"):
        assert hasattr(found, name) == hasattr(expected, name)
        if hasattr(found, name):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    state, other = found._training_state, expected._training_state
    for name, array in state.arrays.items():
        expected_array = other.arrays[name].copy()
        for kind, positions in SCRATCH.items():
            if name == kind:
                expected_array[positions] = array[positions]
        np.testing.assert_array_equal(array, expected_array, err_msg=name)


# -- one partition is one array --------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ALL_CASES)
def test_one_partition_is_as_one_array(client, name, dtype):
    parameters = {"max_iter": 5, **ALL_CASES[name], "random_state": 0}
    parameters["max_iter"] = min(5, parameters["max_iter"])
    rows = X.astype(dtype)
    whole = AutoencoderTransformer(**parameters).fit(rows)
    found = DaskAutoencoderTransformer(**parameters).fit(collection(rows, (300,)))
    assert_same(found, whole)
    assert found.transform(rows).dtype == dtype


def test_checkpoints_are_finished_without_dask(client, tmp_path):
    """On one partition to the same bits."""
    pytest.importorskip("sklearn.callback")
    from skae.callbacks import Checkpoint
    from skae.io import load

    class Crashing(Checkpoint):
        def _save(self, estimator):
            super()._save(estimator)
            raise ZeroDivisionError

    path, parameters = tmp_path / "model", {**SMALL, "max_iter": 6}
    whole = AutoencoderTransformer(**parameters).fit(X)
    found = DaskAutoencoderTransformer(**parameters)
    found.set_callbacks(Crashing(path, every_n_epochs=2))
    with pytest.raises(ZeroDivisionError):
        found.fit(collection(X, (300,)))
    loaded = load(path)
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


# -- several partitions ----------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_whole_batches_are_those_of_one_array(client, solver):
    """Sums in another order: the same but for roundings."""
    parameters = {**SMALL, "solver": solver, "alpha": 0.01, "batch_size": 300}
    weights = np.random.default_rng(1).integers(0, 3, len(X)).astype(float)
    whole = AutoencoderTransformer(**parameters).fit(X, None, weights)
    found = DaskAutoencoderTransformer(**parameters).fit(collection(), None, weights)
    np.testing.assert_allclose(found.loss_curve_, whole.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(found.transform(X), whole.transform(X), rtol=1e-6)
    assert found.scale_ == pytest.approx(whole.scale_, rel=1e-12)


def test_every_partition_has_its_share_of_every_batch():
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = rng.integers(0, 50, rng.integers(1, 6))
        n_rows, batch_size = int(sizes.sum()), int(rng.integers(1, 60))
        if not n_rows:
            continue
        steps = Steps(0, 0, -(-n_rows // batch_size), n_rows)
        befores = np.cumsum([0, *sizes[:-1]])
        for size, before in zip(sizes.tolist(), befores.tolist(), strict=True):
            shares = [
                _share(size, before, step, steps, batch_size)
                for step in range(steps.stop)
            ]
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
        n_rows = sum(sizes)
        steps = Steps(0, 0, -(-n_rows // batch_size), n_rows)
        befores = np.cumsum([0, *sizes[:-1]]).tolist()
        for step in range(steps.stop):
            shares = [
                _share(size, before, step, steps, batch_size)
                for size, before in zip(sizes, befores, strict=True)
            ]
            assert sum(stop - start for start, stop in shares) == batch_size


@pytest.mark.parametrize(
    "case",
    [
        {"solver": "adam", "batch_size": 64},
        {"solver": "lbfgs"},
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


def test_pretraining_on_whole_batches(client):
    """Of weighted rows, some of them held out: as on one array, but for roundings."""
    parameters = {**PRETRAINED, "early_stopping": True, "batch_size": 300}
    weights = np.random.default_rng(1).integers(0, 3, len(X)).astype(float)
    whole = AutoencoderTransformer(**parameters).fit(X, None, weights)
    found = DaskAutoencoderTransformer(**parameters).fit(collection(), None, weights)
    np.testing.assert_allclose(found.loss_curve_, whole.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(found.transform(X), whole.transform(X), rtol=1e-6)


def test_layers_are_pretrained_in_local_steps(client, monkeypatch):
    layers, locally = [], DistributedStochasticTraining._step_locally

    def step_locally(training, *args):
        layers.append(training.problem.rows.n_features)
        locally(training, *args)

    monkeypatch.setattr(DistributedStochasticTraining, "_step_locally", step_locally)
    DaskAutoencoderTransformer(n_local_steps=2, **PRETRAINED).fit(collection())
    assert [width for width, _ in itertools.groupby(layers)] == [12, 8, 5, 12]


def test_noise_is_of_the_rows_number(client):
    """What is drawn for a row does not depend on the partition that it is in."""
    parameters = {**SMALL, "noise": "gaussian", "noise_level": 0.5, "batch_size": 300}
    whole = AutoencoderTransformer(**parameters).fit(X)
    found = DaskAutoencoderTransformer(**parameters).fit(collection())
    np.testing.assert_allclose(found.loss_curve_, whole.loss_curve_, rtol=1e-9)


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


# -- kinds of collections --------------------------------------------------------------


def test_sparse_partitions(client):
    rows = X * (X > 0.5)
    as_sparse = collection(rows).map_blocks(sparse.csr_matrix)
    found = DaskAutoencoderTransformer(**SMALL).fit(as_sparse)
    assert_same(found, DaskAutoencoderTransformer(**SMALL).fit(collection(rows)))
    np.testing.assert_array_equal(
        found.transform(as_sparse).compute(), found.transform(rows)
    )


def test_unknown_sizes_and_empty_partitions(client):
    lazy = collection()
    kept = lazy[(lazy[:, 0] > 0.3) & (da.arange(300, chunks=SIZES) >= 90)]
    rows = X[90:][X[90:, 0] > 0.3]
    sizes = [int((part > 0.3).sum()) for part in np.split(X[90:, 0], [110, 111])]
    parameters = {**SMALL, "noise": "masking", "early_stopping": True}
    parameters["shuffle"] = False  # orders go by the numbers of partitions
    found = DaskAutoencoderTransformer(**parameters).fit(kept)
    expected = DaskAutoencoderTransformer(**parameters)
    sizes = tuple(size for size in sizes if size)
    expected.fit(collection(rows, sizes))
    np.testing.assert_array_equal(found.mean_, expected.mean_)
    assert found.loss_curve_ == pytest.approx(expected.loss_curve_, rel=1e-9)
    codes = found.transform(kept)
    np.testing.assert_array_equal(codes.compute(), found.transform(rows))
    assert found.score(kept) == pytest.approx(found.score(rows), rel=1e-12)


def test_several_chunks_of_columns_and_whole_numbers(client):
    rows = np.round(10 * X)
    expected = DaskAutoencoderTransformer(**SMALL).fit(collection(rows))
    in_pieces = da.from_array(rows.astype(np.int32), chunks=(SIZES, 5))
    assert_same(DaskAutoencoderTransformer(**SMALL).fit(in_pieces), expected)


def test_frames(client):
    dd = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame(X.astype(np.float32), columns=[f"x {i}" for i in range(12)])
    lazy = dd.from_pandas(frame, npartitions=3)
    found = DaskAutoencoderTransformer(**SMALL).fit(lazy)
    assert found._params.dtype == np.float32
    np.testing.assert_array_equal(found.feature_names_in_, frame.columns)
    codes, scores = found.transform(lazy), found.score_samples(lazy)
    assert isinstance(codes, da.Array)
    np.testing.assert_array_equal(codes.compute(), found.transform(frame))
    np.testing.assert_array_equal(scores.compute(), found.score_samples(frame))
    assert found.score(lazy) == pytest.approx(found.score(frame), rel=1e-12)
    mixed = lazy.assign(city="Rome", when=pd.Timestamp(0))
    with pytest.raises(ValueError, match=r"'city' \(.*'when' \(datetime.*encode"):
        DaskAutoencoderTransformer(**SMALL).fit(mixed)
    with pytest.raises(ValueError, match="feature names should match"):
        found.set_params(warm_start=True).fit(lazy.rename(columns={"x 0": "y"}))
    np.testing.assert_array_equal(found.feature_names_in_, frame.columns)


# -- lazy results ----------------------------------------------------------------------


def test_results_are_lazy(client):
    found, lazy = DaskAutoencoderTransformer(**SMALL).fit(collection()), collection()
    local = found.to_local()
    assert type(local) is AutoencoderTransformer
    for result, expected in [
        (found.transform(lazy), local.transform(X)),
        (found.inverse_transform(found.transform(lazy)), None),
        (found.score_samples(lazy), local.score_samples(X)),
        (found.reconstruction_error(lazy), local.reconstruction_error(X)),
        (
            found.reconstruction_error(lazy, metric="loss", per_feature=True),
            local.reconstruction_error(X, metric="loss", per_feature=True),
        ),
    ]:
        assert isinstance(result, da.Array)
        if expected is None:
            expected = local.inverse_transform(local.transform(X))
        assert result.shape == expected.shape
        assert result.dtype == expected.dtype
        assert result.chunks[0] == lazy.chunks[0]
        np.testing.assert_array_equal(result.compute(), expected)
    weights = np.arange(300.0)
    assert found.score(lazy) == pytest.approx(local.score(X), rel=1e-12)
    expected = local.score(X, sample_weight=weights)
    for given in (weights, da.from_array(weights, chunks=100)):
        score = found.score(lazy, sample_weight=given)
        assert score == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match=r"0 sample\(s\) \(shape=\(0, 12\)\)"):
        found.score(lazy[:0])
    codes = found.fit_transform(lazy)
    assert isinstance(codes, da.Array)
    # In memory as ever.
    np.testing.assert_array_equal(found.transform(X), codes.compute())


@pytest.mark.parametrize(("is_known", "n_passes"), [(True, 1), (False, 2)])
def test_score_counts_rows_only_if_it_must(client, monkeypatch, is_known, n_passes):
    found, lazy = DaskAutoencoderTransformer(**SMALL).fit(collection()), collection()
    weights, rows = np.arange(300.0), X
    if not is_known:
        lazy, rows = lazy[lazy[:, 0] > 0.3], X[X[:, 0] > 0.3]
        weights = weights[: len(rows)]
    computed, calls = skae.dask.blocks.computed, []

    def compute(*args):
        calls.append(args)
        return computed(*args)

    monkeypatch.setattr(skae.dask.blocks, "computed", compute)
    score = found.score(lazy, sample_weight=weights)
    expected = found.score(rows, sample_weight=weights)
    assert score == pytest.approx(expected, rel=1e-12)
    assert len(calls) == n_passes


def test_large_networks_are_sent_without_a_warning(client):
    """Of Dask, which would have them scattered."""
    found, lazy = DaskAutoencoderTransformer(**SMALL).fit(collection()), collection()
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": 1}):
        assert found.score(lazy) == pytest.approx(found.score(X), rel=1e-12)


INFERENCE = ("transform", "inverse_transform", "reconstruction_error", "score")


@pytest.mark.parametrize("method", INFERENCE)
@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: da.zeros(4), ValueError, "Expected 2D array, got 1D"),
        (lambda: da.zeros((4, 4, 4)), TypeError, "Array of 3 dimensions"),
        (lambda: dask.delayed(X), TypeError, r"X is a Delayed.*, but has to be"),
        (lambda: categories(), ValueError, r"'color' \(category\) are not numeric"),
    ],
    ids=["1-D", "3-D", "Delayed", "categories"],
)
def test_what_is_no_collection_of_rows(client, method, make, error, match):
    """Before anything is computed, and after whether there is a model."""
    unfitted = DaskAutoencoderTransformer(**SMALL)
    with pytest.raises(NotFittedError):
        getattr(unfitted, method)(make())
    found = unfitted.fit(collection())
    with pytest.raises(error, match=match):
        getattr(found, method)(make())


def categories():
    dd = pytest.importorskip("dask.dataframe")
    colors = pd.Series(["red", "blue"], dtype="category")
    return dd.from_pandas(pd.DataFrame({"color": colors, "x": 0.0}), npartitions=1)


def notes(caught):
    return getattr(caught.value, "__notes__", [])


def test_errors_say_in_which_partition(client):
    rows = X.copy()
    rows[150, 3] = np.nan
    good, bad = collection(), collection(rows)
    estimator = DaskAutoencoderTransformer(**SMALL).fit(good)
    with pytest.raises(ValueError, match="Input X contains NaN") as caught:
        estimator.fit(bad)
    assert notes(caught) == ["In partition 1 of X"]
    with pytest.raises(ValueError, match="Input X_val contains NaN") as caught:
        estimator.fit(good, X_val=bad)
    assert notes(caught) == ["In partition 1 of X_val"]
    with pytest.raises(ValueError, match="and X_val has values from") as caught:
        clone(estimator).set_params(loss="log_loss").fit(good, X_val=2 * good)
    assert notes(caught) == ["In partition 0 of X_val"]
    dd = pytest.importorskip("dask.dataframe")
    for lazy in (bad, dd.from_dask_array(bad)):
        with pytest.raises(ValueError, match="contains NaN") as caught:
            estimator.transform(lazy).compute()
        assert notes(caught) == ["In partition 1 of X"]
        with pytest.raises(ValueError, match="contains NaN") as caught:
            estimator.score(lazy)
        assert notes(caught) == ["In partition 1 of X"]
    with pytest.raises(ValueError, match="0 sample"):
        estimator.fit(good, X_val=good[:0])


def test_errors_come_at_once(client):
    found, lazy = DaskAutoencoderTransformer(**SMALL).fit(collection()), collection()
    for method in (found.transform, found.score_samples, found.score):
        with pytest.raises(ValueError, match="X has 3 features, but Dask"):
            method(lazy[:, :3])
    with pytest.raises(ValueError, match="expects codes of n_components=2"):
        found.inverse_transform(lazy)
    with pytest.raises(ValueError, match="metric='no'"):
        found.reconstruction_error(lazy, metric="no")
    with pytest.raises(ValueError, match="does not go with a Dask collection"):
        clone(found).set_output(transform="pandas").fit_transform(lazy)
    for weights in (np.ones(7), np.ones(301), np.ones((300, 2))):
        with pytest.raises(ValueError, match=r"[Ss]ample.?weight"):
            found.score(lazy, sample_weight=weights)


def test_models_travel_without_the_state_of_training(client):
    found = DaskAutoencoderTransformer(**SMALL, solver="lbfgs").fit(collection())
    assert len(pickle.dumps(found._for_inference())) < len(pickle.dumps(found)) / 2
    error = found.reconstruction_error(collection(), metric="loss")
    expected = found.reconstruction_error(X, metric="loss")
    np.testing.assert_array_equal(error.compute(), expected)


@pytest.mark.parametrize("as_frame", [False, True])
@pytest.mark.parametrize("method", [*INFERENCE[:-1], "score_samples"])
def test_nothing_is_computed_before_it_is_asked_for(client, method, as_frame):
    found = DaskAutoencoderTransformer(**SMALL).fit(collection())

    def fails(block):
        raise AssertionError("computed")

    rows = X[:, :2] if method == "inverse_transform" else X
    lazy = da.map_blocks(fails, collection(rows), dtype=X.dtype, meta=rows[:0])
    if as_frame:
        dd = pytest.importorskip("dask.dataframe")
        lazy = dd.from_dask_array(lazy)
    result = getattr(found, method)(lazy)
    with pytest.raises(AssertionError, match="computed"):
        result.compute()


# -- where the data are ----------------------------------------------------------------


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


def test_codes_of_layers_are_left_when_all_are_pretrained(client, monkeypatch):
    def n_kept(**parameters):
        """Least number of keys on the workers while the whole network is trained."""
        numbers, run = [], DistributedStochasticTraining._run_epoch

        def run_epoch(training, state):
            if training.problem.network.n_layers == 6:
                numbers.append(sum(map(len, client.has_what().values())))
            return run(training, state)

        with monkeypatch.context() as patch:
            patch.setattr(DistributedStochasticTraining, "_run_epoch", run_epoch)
            DaskAutoencoderTransformer(**{**PRETRAINED, **parameters}).fit(collection())
        return min(numbers)

    assert n_kept() == n_kept(pretrain=None) > 0


# -- conventions -----------------------------------------------------------------------


def test_client_is_neither_copied_nor_pickled(client):
    estimator = DaskAutoencoderTransformer(3, client=client, n_local_steps=2)
    assert clone(estimator).client is client
    assert clone(estimator).get_params() == estimator.get_params()
    for other in (pickle.loads(pickle.dumps(estimator)), copy.copy(estimator)):
        assert other.client is None
        assert other.n_local_steps == 2
    assert estimator.client is client
    fitted = DaskAutoencoderTransformer(client=client, **SMALL).fit(collection())
    assert not hasattr(clone(fitted), "mean_")
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))


def test_parameters_are_those_of_the_transformer():
    estimator = DaskAutoencoderTransformer(5, tied_weights=True)
    expected = AutoencoderTransformer(5, tied_weights=True).get_params()
    assert estimator.get_params() == {**expected, "client": None, "n_local_steps": 1}
    assert repr(estimator) == (
        "DaskAutoencoderTransformer(n_components=5, tied_weights=True)"
    )
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        DaskAutoencoderTransformer(depth=3)


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


def managed_bytes(dask_worker):
    return dask_worker.state.nbytes


def test_to_local_has_everything(client):
    found = DaskAutoencoderTransformer(**SMALL).fit(collection())
    local = found.to_local()
    assert local.get_params() == AutoencoderTransformer(**SMALL).get_params()
    assert_same(local, found)
    local.set_output(transform="pandas")
    assert isinstance(found.transform(X), np.ndarray)
    local.set_params(warm_start=True).fit(X)  # and can go on
    assert len(local.loss_curve_) == 8
    assert len(found.loss_curve_) == 4


def test_what_it_does_not_do(client):
    estimator = DaskAutoencoderTransformer(**SMALL)
    for name in ("partial_fit", "fit_batches"):
        assert not hasattr(estimator, name)
    estimator = DaskAutoencoderTransformer(solver="lbfgs", n_local_steps=3)
    with pytest.raises(ValueError, match=r"n_local_steps=3 .*solver='lbfgs'.*use 1"):
        estimator.fit(collection())
    for other in (dask.delayed(X), da.zeros((4, 4, 4))):
        with pytest.raises(TypeError, match=r"has to be a Dask array or dataframe"):
            DaskAutoencoderTransformer().fit(other)
    with pytest.raises(TypeError, match=r"ndarray.*AutoencoderTransformer"):
        DaskAutoencoderTransformer().fit(X)
    with pytest.raises(TypeError, match=r"client='tcp://here'.*distributed\.Client"):
        DaskAutoencoderTransformer(client="tcp://here").fit(collection())


@pytest.mark.parametrize(
    ("rows", "parameters", "match"),
    [
        (np.where(X > 0.9, np.nan, X), {}, "contains NaN"),
        (2 * X, {"loss": "log_loss"}, "Values above 1.*MinMaxScaler"),
        (X - 0.5, {"output_activation": "relu"}, "Negative values.*MinMaxScaler"),
        (X[:0], {}, "0 sample"),
        (X, {"n_local_steps": 0}, "n_local_steps"),
    ],
)
def test_errors_change_nothing(client, rows, parameters, match):
    estimator = DaskAutoencoderTransformer(**SMALL).fit(collection())
    before = dict(vars(estimator))
    estimator.set_params(**parameters)
    sizes = SIZES if len(rows) else (0,)
    with pytest.raises(ValueError, match=match):
        estimator.fit(collection(rows, sizes))
    estimator.set_params(**{k: before[k] for k in parameters})
    assert vars(estimator).keys() == before.keys()
    assert all(vars(estimator)[k] is before[k] for k in before if k.endswith("_"))


def test_roundings_out_of_range(client):
    rounded = np.where(X.max() == X, 1 + 2e-16, X / X.max())
    assert rounded.max() > 1
    params = {**SMALL, "loss": "log_loss"}
    found, expected = (
        DaskAutoencoderTransformer(**params).fit(collection(rows))
        for rows in (rounded, np.minimum(rounded, 1))
    )
    np.testing.assert_array_equal(found.coefs_[0], expected.coefs_[0])


def test_weights_have_to_fit(client):
    with pytest.raises(ValueError, match=r"sample_weight\.shape"):
        DaskAutoencoderTransformer(**SMALL).fit(collection(), None, np.ones(7))
    with pytest.raises(ValueError, match="Negative values in sample_weight"):
        DaskAutoencoderTransformer(**SMALL).fit(collection(), None, -np.ones(300))


def test_divergence(client):
    estimator = DaskAutoencoderTransformer(
        **{**SMALL, "solver": "sgd", "learning_rate_init": 1e30, "batch_size": 60}
    )
    with pytest.raises(ValueError, match="Training diverged"):
        estimator.fit(collection())
    assert not hasattr(estimator, "mean_")


def test_verbose(client, capsys):
    DaskAutoencoderTransformer(**{**SMALL, "verbose": 2}).fit(collection())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "kept epoch 4" in lines[-1]
    assert all(line.startswith("[DaskAutoencoderTransformer]") for line in lines)


# -- interrupts, and workers that die --------------------------------------------------


class After:
    """Calls a function once when a training has run so many epochs."""

    def __init__(self, monkeypatch, n_epochs, function):
        run = DistributedStochasticTraining._run_steps
        self.called = False

        def run_steps(training, *args):
            epoch = training.state.counters[N_EPOCHS]
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


@pytest.mark.parametrize("parameters", [LONG, {**LONG, "n_local_steps": 2}])
def test_a_worker_dies_in_the_middle_of_an_epoch(
    mortal_client, monkeypatch, parameters
):
    """What it held is computed anew elsewhere, and nothing else is different."""
    expected = DaskAutoencoderTransformer(**parameters).fit(collection())
    died = After(monkeypatch, 3, lambda: kill(pids(mortal_client)[0]))
    found = DaskAutoencoderTransformer(**parameters).fit(collection())
    assert died.called
    assert_same(found, expected)


def test_a_worker_dies_while_a_layer_is_pretrained(mortal_client, monkeypatch):
    """The codes that it held are computed anew."""
    expected = DaskAutoencoderTransformer(**PRETRAINED).fit(collection())
    run, killed = DistributedStochasticTraining._run_steps, []

    def run_steps(training, *args):
        if training.problem.rows.n_features == 5 and args[-1].first and not killed:
            killed.append(pids(mortal_client)[0])
            kill(*killed)
        return run(training, *args)

    monkeypatch.setattr(DistributedStochasticTraining, "_run_steps", run_steps)
    found = DaskAutoencoderTransformer(**PRETRAINED).fit(collection())
    assert killed
    assert_same(found, expected)


def test_a_worker_dies_while_it_computes(mortal_client, monkeypatch):
    parameters = {**LONG, "max_iter": 60}
    expected = DaskAutoencoderTransformer(**parameters).fit(collection())
    victim, timers = pids(mortal_client)[0], []
    After(monkeypatch, 3, lambda: timers.append(later(0.01, kill, victim)))
    found = DaskAutoencoderTransformer(**parameters).fit(collection())
    (timer,) = timers
    assert timer.finished.is_set()  # before training was
    timer.join()
    assert victim not in pids(mortal_client)
    assert_same(found, expected)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_data_are_lost(mortal_client, monkeypatch, solver):
    """The weights of the last whole epoch are kept, and go on where there are data."""
    parameters = {**LONG, "solver": solver}
    place = min(mortal_client.nthreads())
    block = mortal_client.scatter(X, workers=[place], hash=False)
    data = da.from_delayed(block, X.shape, X.dtype)
    victim = mortal_client.run(os.getpid, workers=[place])[place]
    expected = DaskAutoencoderTransformer(**{**parameters, "max_iter": 3})
    expected.fit(collection(X, (300,)))
    if solver == "adam":
        After(monkeypatch, 3, lambda: kill(victim))
    else:
        iterate = DistributedLbfgsTraining._iterate

        def iterate_until(training, memory):
            if training.state.counters[N_EPOCHS] == 3:
                kill(victim)
            return iterate(training, memory)

        monkeypatch.setattr(DistributedLbfgsTraining, "_iterate", iterate_until)
    found = DaskAutoencoderTransformer(**parameters)
    with pytest.raises(DataLostError, match="weights after 3 whole epochs are kept"):
        found.fit(data)
    assert found.loss_curve_ == expected.loss_curve_
    assert found.n_features_in_ == 12
    np.testing.assert_allclose(found.score(X), expected.score(X), rtol=1e-6)
    monkeypatch.undo()
    whole = DaskAutoencoderTransformer(**parameters).fit(collection(X, (300,)))
    found.set_params(warm_start=True).fit(collection(X, (300,)))
    assert found.loss_curve_ == whole.loss_curve_


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
    whole = DaskAutoencoderTransformer(**parameters).fit(collection(CURVE, (300,)))
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
        found.fit(collection(CURVE, (300,)))
    monkeypatch.undo()
    found.set_params(warm_start=True).fit(collection(CURVE, (300,)))
    assert found.loss_curve_ == whole.loss_curve_
    assert found.validation_loss_curve_ == whole.validation_loss_curve_
    np.testing.assert_array_equal(found._params, whole._params)
    assert found.score(CURVE) == whole.score(CURVE)


def lost(*args, **kwargs):
    raise DataLostError("as if")


def test_data_are_lost_while_weights_are_judged(client, monkeypatch):
    """They are judged when there are data again."""
    parameters = {**CAUTIOUS, "n_iter_no_change": np.inf}
    whole = DaskAutoencoderTransformer(**parameters).fit(collection(CURVE, (300,)))
    consider = CautiousSelection._consider

    def consider_until(selection, params):
        if selection.training.state.counters[N_EPOCHS] == 18:
            lost()
        consider(selection, params)

    monkeypatch.setattr(CautiousSelection, "_consider", consider_until)
    found = DaskAutoencoderTransformer(**parameters)
    with pytest.raises(DataLostError, match="after 18 whole epochs are kept"):
        found.fit(collection(CURVE, (300,)))
    np.testing.assert_array_equal(found._params, found._training_state.selected)
    assert found.score(CURVE) < whole.score(CURVE)
    monkeypatch.undo()
    found.set_params(warm_start=True).fit(collection(CURVE, (300,)))
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


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [LONG, CAUTIOUS], ids=["all rows", "cautious"])
@pytest.mark.parametrize("size", [250, 100])
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


def test_lost_before_the_first_epoch_has_ended(mortal_client, monkeypatch):
    block = mortal_client.scatter(
        X, workers=[min(mortal_client.nthreads())], hash=False
    )
    data = da.from_delayed(block, X.shape, X.dtype)
    victim = mortal_client.run(os.getpid)[min(mortal_client.nthreads())]
    After(monkeypatch, 0, lambda: kill(victim))
    found = DaskAutoencoderTransformer(**LONG)
    with pytest.raises(DataLostError) as caught:
        found.fit(data)
    assert "kept" not in str(caught.value)
    assert not hasattr(found, "mean_")
    assert not hasattr(found, "n_features_in_")


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN, reason="SIGINT is ignored here"
)
def test_interrupt_keeps_the_weights(client, monkeypatch):
    After(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGINT))
    found = DaskAutoencoderTransformer(**LONG)
    with pytest.warns(UserWarning, match="interrupted by user"):
        found.fit(collection())
    assert len(found.loss_curve_) == 2
    assert np.isfinite(found.transform(X)).all()


def kept_here():
    """Of each training that this worker keeps something of: how much."""
    return [
        (len(kept.trainings), len(kept.orders), rows_kept_of(kept))
        for kept in training_module._KEPT.values()
    ]


def rows_kept_of(kept):
    """How many numbers of rows, but for the example of a row that buffers need."""
    sizes = [t.problem.rows.values.size - 12 for t in kept.trainings.values()]
    return sum(max(0, size) for size in sizes)


def test_workers_keep_nothing(client, monkeypatch):
    during = []
    After(monkeypatch, 2, lambda: during.append(client.run(kept_here)))
    DaskAutoencoderTransformer(**LONG).fit(collection())
    (kept,) = during
    # Each a training, and the orders of its partitions; of empty ones there is none.
    assert [[of_fit[0] for of_fit in kept[place]] for place in kept] == [[1], [1]]
    assert sum(kept[place][0][1] for place in kept) >= 4
    assert all(kept[place][0][2] == 0 for place in kept)
    assert list(client.run(kept_here).values()) == [[], []]


def test_workers_keep_nothing_when_data_are_lost(mortal_client, monkeypatch):
    first, second = mortal_client.nthreads()
    block = mortal_client.scatter(X, workers=[first], hash=False)
    data = da.concatenate([da.from_delayed(block, X.shape, X.dtype), collection()])
    victim = mortal_client.run(os.getpid)[first]
    After(monkeypatch, 2, lambda: kill(victim))
    with pytest.raises(DataLostError, match="after 2 whole epochs are kept"):
        DaskAutoencoderTransformer(**LONG).fit(data)
    assert mortal_client.run(kept_here, workers=[second]) == {second: []}


def test_a_call_that_outlives_its_training_leaves_nothing():
    job = training_module.Job("of a training", None, None, 0, 1, (False,))
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
    expected = DaskAutoencoderTransformer(**SMALL).fit(collection())
    monkeypatch.setattr(distributed.Client, "run", lost)
    assert_same(DaskAutoencoderTransformer(**SMALL).fit(collection()), expected)


@pytest.mark.parametrize("n_local_steps", [1, 2])
def test_small_partitions_first(alone, n_local_steps):
    """Buffers of a worker's thread are for all partitions, whichever is the first."""
    rows = np.random.default_rng(0).standard_normal((3000, 12))
    parameters = {**SMALL, "batch_size": 2500, "n_local_steps": n_local_steps}
    found = DaskAutoencoderTransformer(client=alone, **parameters)
    found.fit(collection(rows, (2, 2998)))
    if n_local_steps == 1:
        whole = AutoencoderTransformer(**{**parameters_of(parameters), "max_iter": 1})
        whole.fit(rows)
        assert found.loss_curve_[0] == pytest.approx(whole.loss_curve_[0], rel=0.01)
    again = DaskAutoencoderTransformer(client=alone, **parameters)
    again.fit(collection(rows, (2, 2998)))
    assert_same(again, found)


def parameters_of(parameters):
    return {k: v for k, v in parameters.items() if k != "n_local_steps"}


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


@pytest.mark.parametrize("is_sparse", [False, True])
def test_validation_rows_of_another_kind(client, is_sparse):
    """Threads whose first part is one to train on meet others later."""
    rows = X * (X > 0.5)
    expected = DaskAutoencoderTransformer(**{**SMALL, "max_iter": 30})
    expected.fit(collection(rows, 100), X_val=collection(rows[:90], 90))
    train, X_val = collection(rows, 100), collection(rows[:90], 90)
    if is_sparse:
        train = train.map_blocks(sparse.csr_matrix)
    else:
        X_val = X_val.map_blocks(sparse.csr_matrix)
    with threads(2) as of_threads:
        found = DaskAutoencoderTransformer(**expected.get_params())
        found.set_params(client=of_threads)
        alive = pids(of_threads)
        assert_same(found.fit(train, X_val=X_val), expected)
        assert pids(of_threads) == alive  # or the fit would go on elsewhere


def test_several_threads_a_worker(client):
    """Which part a thread sees first is a matter of luck, and changes nothing."""
    rows = np.random.default_rng(0).standard_normal((2010, 12))
    sizes = (500, 500, 500, 500, 10)
    parameters = {**SMALL, "batch_size": 400, "max_iter": 10}
    expected = DaskAutoencoderTransformer(**parameters).fit(collection(rows, sizes))
    with threads(3) as of_threads:
        for _ in range(3):
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
    monkeypatch.setattr(threads_module._LIMIT, "n_threads_before", lambda: 4)
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
