"""Threads: the same bits for any number of them, and in any chunks."""

import threading
import time
import warnings

import joblib
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from skae import AutoencoderTransformer
from skae._compiled import sharding
from skae._data.rows import make_rows
from skae._model import pca
from skae._model.pca import principal_components
from skae._runtime import blas, threads

from .support.processes import allowed, our_threads, team_sizes
from .support.threaded import (
    _DIGEST_CASES,
    _LARGE,
    BLAS_VARIABLES,
    CASES,
    DTYPES,
    ONE_THREAD_CASES,
    THREAD_COUNTS,
    assert_same_bits,
    data,
    digest,
    in_new_process,
    results,
)

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", CASES)
def test_same_bits_for_any_number_of_threads(name):
    dtype = DTYPES[list(CASES).index(name) % 2]
    found = {}
    for n_threads in THREAD_COUNTS:
        with allowed(n_threads) as sizes:
            found[n_threads] = results(name, dtype)
        fit_size, *inference_sizes = sizes
        assert fit_size == (1 if name in ONE_THREAD_CASES else n_threads)
        assert max(inference_sizes) == n_threads
    assert_same_bits(found[2], found[1])
    assert_same_bits(found[4], found[1])


@pytest.mark.parametrize("n_threads", [3, 7])
def test_same_bits_where_lanes_do_not_divide_by_threads(n_threads):
    with allowed(1):
        expected = results("one_batch")
    with allowed(n_threads) as sizes:
        found = results("one_batch")
    assert sizes[0] == n_threads
    assert_same_bits(found, expected)


def test_same_bits_going_on_with_another_number_of_threads():
    X = data()
    params = {**_LARGE, "warm_start": True}
    expected = AutoencoderTransformer(**{**params, "max_iter": 8}).fit(X)
    model = AutoencoderTransformer(**params)
    for n_threads in (4, 1):
        with allowed(n_threads):
            model.fit(X)
    assert model.loss_curve_ == expected.loss_curve_
    assert model.transform(X).tobytes() == expected.transform(X).tobytes()


class _NoBlas:
    """What threadpoolctl finds where BLAS is Accelerate."""

    def info(self):
        return []

    def limit(self, *, limits):
        return self

    def restore_original_limits(self):
        pass


@pytest.mark.parametrize(
    ("blas_says", "numba_says", "processors", "expected"),
    [
        *((8, 8, 8, 8), (2, 8, 8, 2), (8, 3, 8, 3), (8, 8, 4, 4), (8, 8, 1, 1)),
        *((None, 8, 6, 6), (None, 2, 6, 2), (None, 8, 1, 1)),
    ],
)
def test_how_many_threads_are_allowed(
    blas_says, numba_says, processors, expected, monkeypatch
):
    """No more than a container's quota; without a known BLAS as many as processors."""
    library = _NoBlas()
    if blas_says is not None:
        library.info = lambda: [{"num_threads": 1}, {"num_threads": blas_says}]
    monkeypatch.setattr(blas, "_blas", lambda: library)
    monkeypatch.setattr(threads.numba.config, "NUMBA_NUM_THREADS", numba_says)
    monkeypatch.setattr(joblib, "cpu_count", lambda: processors)
    assert threads.n_threads_allowed() == expected
    with blas.single_threaded_blas():
        assert threads.n_threads_allowed() == expected
    with threads.single_threaded():
        assert threads.n_threads_allowed() == 1


def test_a_fit_without_a_known_blas(monkeypatch):
    expected = results("minibatch")
    monkeypatch.setattr(blas, "_blas", _NoBlas)
    monkeypatch.setattr(threads.numba.config, "NUMBA_NUM_THREADS", 3)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 3)
    monkeypatch.setattr(threads, "_MIN_FLOPS_TO_START", 1)
    monkeypatch.setattr(threads, "_MIN_FLOPS_TO_MEET", 1)
    with team_sizes() as sizes:
        found = results("minibatch")
    assert max(sizes) == 3
    # What BLAS computes (PCA, the order of the code) it does by any number of threads.
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variable", ["LOKY_MAX_CPU_COUNT", "NUMBA_NUM_THREADS"])
def test_limits_of_workers_hold_at_any_time(variable):
    assert in_new_process(job_threads_allowed, **{variable: "1"}) == 1


def job_threads_allowed():
    """How many are allowed here."""
    return threads.n_threads_allowed()


@pytest.mark.parametrize(
    ("shape", "weighted"),
    [((100_000, 3), False), ((30_000, 20), True), ((300, 3000), False)],
)
def test_same_bits_of_large_data_under_a_blas_limit(shape, weighted):
    """What is computed outside of kernels: moments of the data and of the code."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal(shape) + 1
    weights = rng.random(len(X)) if weighted else None
    model = AutoencoderTransformer(
        hidden_layer_sizes=(), max_iter=1, batch_size=10_000, random_state=0
    )
    names = ("mean_", "scale_", "explained_variance_", "_params", "loss_curve_")
    found = []
    for limit in (None, 1):
        with threadpool_limits(limit, "blas"):
            model.fit(X, sample_weight=weights)
            found.append({name: np.asarray(getattr(model, name)) for name in names})
            found[-1]["score"] = np.asarray(model.score(X, sample_weight=weights))
    assert_same_bits(found[1], found[0])


def job_digests(with_workers):
    """Digests in this process, under a BLAS limit, and in loky workers."""
    names = [
        (name, ("float32", "float64")[i % 2]) for i, name in enumerate(_DIGEST_CASES)
    ]
    threads._MIN_FLOPS_TO_START = threads._MIN_FLOPS_TO_MEET = 1
    with team_sizes() as sizes:
        found = {"here": [digest(*name) for name in names]}
    n_allowed = threads.n_threads_allowed()
    assert sizes[0] == min(n_allowed, 4)  # of shards in the first case's batch
    assert max(sizes) == min(n_allowed, sharding.MAX_SHARDS)
    with threadpool_limits(1):
        found["limited"] = [digest(*name) for name in names]
    if with_workers:
        n_allowed = joblib.Parallel(n_jobs=2)(
            joblib.delayed(threads.n_threads_allowed)() for _ in range(2)
        )
        assert max(n_allowed) <= max(1, joblib.cpu_count() // 2)  # loky's doing
        found["workers"] = joblib.Parallel(n_jobs=2)(
            joblib.delayed(_quiet_digest)(*name) for name in names
        )
    assert not our_threads()
    return {"digests": found, "n_allowed": threads.n_threads_allowed()}


def _quiet_digest(*args):
    warnings.simplefilter("ignore", ConvergenceWarning)
    return digest(*args)


def test_same_bits_under_real_limits_and_in_workers():
    result = in_new_process(job_digests, True)
    found = [*result["digests"].values()]
    assert len(found) == 3
    for n_threads in (1, 4):
        environment = dict.fromkeys(BLAS_VARIABLES, str(n_threads))
        result = in_new_process(job_digests, False, **environment)
        found += result["digests"].values()
        # OpenBLAS starts no more threads than there are processors.
        assert result["n_allowed"] == min(n_threads, joblib.cpu_count())
    assert all(digests == found[0] for digests in found)


def test_few_threads_for_little_work():
    one = 1000
    with allowed(4, min_flops=one):
        assert threads.n_threads_for(8, 0) == 1
        assert threads.n_threads_for(8, 2 * one - 1) == 1
        assert threads.n_threads_for(8, 2 * one) == 2
        assert threads.n_threads_for(1, 100 * one) == 1
        assert threads.n_threads_for(3, 100 * one) == 3
        assert threads.n_threads_for(0, 100 * one) == 1
        assert threads.n_threads_for(8, 100 * one) == 4
        assert threads.n_threads_for(8, 100 * one, 2 * one - 1) == 1
        assert threads.n_threads_for(8, 100 * one, 2 * one) == 2


@pytest.mark.parametrize("n_threads", [1, 5])
@pytest.mark.parametrize("n_items", [0, 1, 20])
def test_map_in_order(n_threads, n_items):
    n_read, n_late = [], 0

    def items():
        for i in range(n_items):
            n_read.append(i)
            yield i

    def function(i):
        time.sleep(0.002 * (i % 3 == 0))
        return i, threading.current_thread().name.startswith("skae")

    for n_taken, (i, in_thread) in enumerate(
        threads.map_in_order(function, items(), n_threads)
    ):
        assert i == n_taken
        assert in_thread == (n_threads > 1)
        n_late = max(n_late, len(n_read) - n_taken)
    assert n_late <= n_threads + 1
    with pytest.raises(ZeroDivisionError):
        list(threads.map_in_order(lambda i: 1 / (i - 2), range(9), n_threads))
    assert not our_threads()


def test_same_principal_components_for_any_number_of_threads():
    X = np.random.default_rng(0).standard_normal((40_000, 120)) + 1
    rows = make_rows(X, X.mean(axis=0), 2.0)
    with allowed(1):
        expected = principal_components(rows, 3, 0)
    seen = []

    def counted(function, items, n_threads):
        seen.append(n_threads)
        return threads.map_in_order(function, items, n_threads)

    with pytest.MonkeyPatch.context() as patch, allowed(3):
        patch.setattr(pca, "map_in_order", counted)
        found = principal_components(rows, 3, 0)
    assert seen == [3]
    for a, b in zip(found, expected, strict=True):
        assert a.tobytes() == b.tobytes()
