"""Threads: the same bits for any number of them, and no hang whatever happens.

What could hang runs in a process of its own, with a time limit.
"""

import contextlib
import functools
import hashlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer
from skae._compiled import blocks, kernels
from skae._data.rows import make_rows
from skae._model import pca
from skae._model.pca import principal_components
from skae._runtime import threads

from . import processes
from .cases import ACTIVATION_NAMES
from .processes import allowed, blas_threads, in_fork, our_threads, team_sizes

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

THREAD_COUNTS = (1, 2, 4)
BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
in_new_process = functools.partial(
    processes.in_new_process, timeout=120, without=BLAS_VARIABLES
)

# Large enough for four threads: in training, in evaluation and in inference.
N_ROWS, N_FEATURES = 1100, 60
_LARGE = {
    "n_components": 3,
    "hidden_layer_sizes": (50,),
    "batch_size": 512,
    "max_iter": 4,
    "tol": 0.0,
    "learning_rate_init": 0.005,
    "random_state": 0,
}
CASES = {
    "minibatch": _LARGE,
    "one_batch": {**_LARGE, "batch_size": N_ROWS, "solver": "sgd"},
    "batch_of_one_lane": {**_LARGE, "batch_size": 100, "activation": "gelu"},
    "tied": {**_LARGE, "tied_weights": True, "alpha": 1e-3},
    "tied_linear": {
        **_LARGE,
        "tied_weights": True,
        "hidden_layer_sizes": (),
        "batch_size": N_ROWS,  # so narrow a network has longer lanes
    },
    "deep": {
        **_LARGE,
        "hidden_layer_sizes": (50, 30, 20),
        "activation": ("elu", "tanh", "silu"),
        "solver": "rmsprop",
    },
    "wide": {**_LARGE, "hidden_layer_sizes": (301,), "alpha": 0.1},
    "log_loss": {**_LARGE, "loss": "log_loss", "learning_rate": "cosine"},
    "poisson": {**_LARGE, "loss": "poisson", "activation": "softplus"},
    "early_stopping": {**_LARGE, "early_stopping": True, "validation_fraction": 0.4},
    "lbfgs": {**_LARGE, "solver": "lbfgs", "activation": "tanh"},
    "lbfgs_tied": {**_LARGE, "solver": "lbfgs", "tied_weights": True, "alpha": 0.1},
    "sparse": _LARGE,
    "weighted": {**_LARGE, "alpha": 1e-3, "solver": "lbfgs"},
    "gaussian_noise": {**_LARGE, "noise": "gaussian"},
    "masking_noise": {**_LARGE, "noise": "masking", "batch_size": N_ROWS},
    "kl": {**_LARGE, "sparsity": "kl", "code_activation": "logistic"},
    "kl_of_all": {
        **_LARGE,
        "sparsity": "kl",
        "code_activation": "logistic",
        "solver": "lbfgs",
    },
    "l1": {**_LARGE, "sparsity": "l1", "tied_weights": True},
    "variational": {**_LARGE, "loss": "log_loss", "kl_warmup": 3},
    "variational_early_stopping": {
        **_LARGE,
        "beta": 0.1,
        "early_stopping": True,
        "validation_fraction": 0.4,
    },
}
# Batches of one lane are learnt from by one thread.
ONE_THREAD_CASES = {"batch_of_one_lane"}
DTYPES = (np.float32, np.float64)


@functools.cache
def data(name="", dtype=np.float64):
    """Rows in [0, 1] of low rank, with noise."""
    rng = np.random.default_rng(0)
    X = rng.random((N_ROWS, 4)) @ rng.random((4, N_FEATURES)) / 4
    X = ((0.8 * X + 0.2 * rng.random(X.shape)) * (rng.random(X.shape) > 0.2)).astype(
        dtype
    )
    return sparse.csr_matrix(X) if name == "sparse" else X


def fitted(name, dtype=np.float64):
    X = data(name, dtype)
    weights = np.arange(N_ROWS) % 4 if name == "weighted" else None
    if name.startswith("variational"):
        return VariationalAutoencoderTransformer(**CASES[name]).fit(X)
    return AutoencoderTransformer(**CASES[name]).fit(X, sample_weight=weights)


def results(name, dtype=np.float64):
    """All numbers that a fit and what follows it give, by name."""
    model, X = fitted(name, dtype), data(name, dtype)
    code = model.transform(X)
    found = {f"coefs_{i}": coef for i, coef in enumerate(model.coefs_)}
    found |= {f"intercepts_{i}": bias for i, bias in enumerate(model.intercepts_)}
    found |= {
        "loss_curve_": model.loss_curve_,
        "validation_loss_curve_": getattr(model, "validation_loss_curve_", []),
        "mean_": model.mean_,
        "scale_": model.scale_,
        "explained_variance_": getattr(model, "explained_variance_", []),
        "mean_activation_": getattr(model, "mean_activation_", []),
        "kl_curve_": getattr(model, "kl_curve_", []),
        "transform": code,
        "inverse_transform": model.inverse_transform(code),
        "score": model.score(X),
        "reconstruction_error": model.reconstruction_error(X, metric="loss"),
    }
    return {name: np.asarray(value) for name, value in found.items()}


def assert_same_bits(results, expected):
    assert results.keys() == expected.keys()
    for name, value in expected.items():
        assert results[name].dtype == value.dtype, name
        assert results[name].tobytes() == value.tobytes(), name


def digest(name, dtype="float64"):
    """Hash of `results`."""
    joined = hashlib.sha256()
    for value in results(name, np.dtype(dtype).type).values():
        joined.update(value.tobytes())
    return joined.hexdigest()


# -- the same bits --------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_same_bits_for_any_number_of_threads(name, dtype):
    found = {}
    for n_threads in THREAD_COUNTS:
        with allowed(n_threads) as sizes:
            found[n_threads] = results(name, dtype)
        fit_size, *inference_sizes = sizes
        assert fit_size == (1 if name in ONE_THREAD_CASES else n_threads)
        assert max(inference_sizes) == n_threads
    assert_same_bits(found[2], found[1])
    assert_same_bits(found[4], found[1])


@pytest.mark.parametrize("n_threads", [3, 5, 7])
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


def test_same_bits_under_a_blas_limit():
    """The process' own BLAS limit is one more number of threads."""
    expected = results("minibatch")
    with threadpool_limits(1, "blas"):
        assert threads.n_threads_allowed() == 1
        assert_same_bits(results("minibatch"), expected)


class _NoBlas:
    """What threadpoolctl finds where BLAS is Accelerate."""

    def info(self):
        return []

    def limit(self, *, limits):
        return self

    def restore_original_limits(self):
        pass


@pytest.mark.parametrize(
    ("blas", "numba_says", "processors", "expected"),
    [
        (8, 8, 8, 8),
        (2, 8, 8, 2),
        (8, 3, 8, 3),
        (8, 8, 4, 4),
        (8, 8, 1, 1),
        (None, 8, 6, 6),
        (None, 2, 6, 2),
        (None, 8, 1, 1),
    ],
)
def test_how_many_threads_are_allowed(
    blas, numba_says, processors, expected, monkeypatch
):
    """No more than a container's quota; without a known BLAS as many as processors."""
    library = _NoBlas()
    if blas is not None:
        library.info = lambda: [{"num_threads": 1}, {"num_threads": blas}]
    monkeypatch.setattr(threads, "_blas", lambda: library)
    monkeypatch.setattr(threads.numba.config, "NUMBA_NUM_THREADS", numba_says)
    monkeypatch.setattr(joblib, "cpu_count", lambda: processors)
    assert threads.n_threads_allowed() == expected
    with threads.single_threaded_blas():
        assert threads.n_threads_allowed() == expected
    with threads.single_threaded():
        assert threads.n_threads_allowed() == 1


def test_a_fit_without_a_known_blas(monkeypatch):
    expected = results("minibatch")
    monkeypatch.setattr(threads, "_blas", _NoBlas)
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


@pytest.mark.parametrize("shape", [(100_000, 3), (30_000, 20), (300, 3000)])
@pytest.mark.parametrize("weighted", [False, True])
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


_DIGEST_CASES = ("minibatch", "deep", "lbfgs", "early_stopping", "tied", "weighted")


def job_digests(with_workers):
    """Digests in this process, under a BLAS limit, and in loky workers."""
    names = [
        (name, ("float32", "float64")[i % 2]) for i, name in enumerate(_DIGEST_CASES)
    ]
    threads._MIN_FLOPS_TO_START = threads._MIN_FLOPS_TO_MEET = 1
    with team_sizes() as sizes:
        found = {"here": [digest(*name) for name in names]}
    n_allowed = threads.n_threads_allowed()
    assert sizes[0] == min(n_allowed, 4)  # of lanes in the first case's batch
    assert max(sizes) == min(n_allowed, blocks.MAX_LANES)
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
    for n_threads in THREAD_COUNTS:
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


# -- any chunking ---------------------------------------------------------------

CHUNKS = (1, 7, 64, 65)


def chunked(function, X, size):
    return np.concatenate(
        [function(X[i : i + size]) for i in range(0, X.shape[0], size)]
    )


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_features", [5, 257])
@pytest.mark.parametrize("n_components", [1, 3])
def test_any_chunking_gives_the_same_bits(n_features, n_components, dtype, tied):
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((131, n_features)) * 3 + 1).astype(dtype)
    X[rng.random(X.shape) < 0.3] = 0
    model = AutoencoderTransformer(
        n_components,
        hidden_layer_sizes=(13, 6),
        activation=("tanh", "gelu"),
        tied_weights=tied,
        max_iter=2,
        random_state=0,
    ).fit(X)
    code = model.transform(X)
    error = model.reconstruction_error(X)
    entries = model.reconstruction_error(X, metric="absolute_error", per_feature=True)
    losses = model.reconstruction_error(X, metric="loss")
    reconstruction = model.inverse_transform(code)
    for matrix in (X, sparse.csr_matrix(X)):
        for size in (*CHUNKS, len(X)):
            found = [
                chunked(model.transform, matrix, size),
                chunked(model.inverse_transform, code, size),
                chunked(model.reconstruction_error, matrix, size),
                chunked(
                    functools.partial(
                        model.reconstruction_error,
                        metric="absolute_error",
                        per_feature=True,
                    ),
                    matrix,
                    size,
                ),
                chunked(
                    functools.partial(model.reconstruction_error, metric="loss"),
                    matrix,
                    size,
                ),
            ]
            whole = [code, reconstruction, error, entries, losses]
            for array, expected in zip(found, whole, strict=True):
                assert array.dtype == expected.dtype == dtype
                np.testing.assert_array_equal(array, expected, strict=True)


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_chunking_gives_the_same_bits_for_every_activation(activation, dtype):
    X = data("", dtype)[:131, :19]
    model = AutoencoderTransformer(
        2,
        hidden_layer_sizes=(11,),
        activation=activation,
        code_activation=activation,
        output_activation=activation,
        scale=2.0,
        max_iter=1,
        random_state=0,
    ).fit(X)
    code = model.transform(X)
    reconstruction = model.inverse_transform(code)
    for size in CHUNKS:
        found = chunked(model.transform, X, size)
        np.testing.assert_array_equal(found, code, strict=True)
        found = chunked(model.inverse_transform, code, size)
        np.testing.assert_array_equal(found, reconstruction, strict=True)


def test_a_chunk_by_many_threads_is_the_same():
    """A block's rows do not depend on which thread it goes to."""
    X = data()
    model = fitted("minibatch")
    with allowed(1):
        expected = model.transform(X)
    with allowed(4) as sizes:
        for size in (65, 129, 1000):
            np.testing.assert_array_equal(
                chunked(model.transform, X, size), expected, strict=True
            )
    assert 4 in sizes


# -- several fits at once -------------------------------------------------------


def job_concurrent_fits(n_fits):
    """Fits in several Python threads; some of them fail."""
    names = [*_DIGEST_CASES, "diverges", "sparse"] * 2
    before = blas_threads()
    with allowed(2) as sizes:
        alone = [_digest_or_error(name) for name in names]
        with ThreadPoolExecutor(n_fits) as pool:
            together = list(pool.map(_digest_or_error, names))
        assert set(sizes) == {1, 2} or set(sizes) == {2}
    assert together == alone
    assert "diverged" in alone[names.index("diverges")]
    assert blas_threads() == before
    assert not our_threads()
    return len(together)


def _digest_or_error(name):
    if name != "diverges":
        return digest(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            AutoencoderTransformer(
                **{**_LARGE, "solver": "sgd", "learning_rate_init": 1e30}
            ).fit(data())
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("n_fits", [2, 4])
def test_concurrent_fits(n_fits):
    assert in_new_process(job_concurrent_fits, n_fits) == 2 * 8


def job_limits_by_another_thread():
    """The process' limit is whoever's; what a fit needs holds in any thread.

    threadpoolctl 3.8 lets only the thread that was first to set a limit set another.
    """
    threadpool_limits(2)  # in this thread, until the process ends
    before, during = blas_threads(), []

    def hold():
        with threads.single_threaded_blas():
            during.append(set(blas_threads().values()))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold).result()
    assert during == [{1}]
    assert blas_threads() == before
    # A limit of the caller's ends as it would have.
    before = blas_threads()
    with threadpool_limits(1, "blas"):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(hold).result()
        assert set(blas_threads().values()) == {1}
    assert blas_threads() == before
    # The first of two fits to begin is not the last to end.
    first, second = threads.single_threaded_blas(), threads.single_threaded_blas()
    with ThreadPoolExecutor(1) as pool:
        first.__enter__()
        pool.submit(second.__enter__).result()
        first.__exit__(None, None, None)
        assert set(blas_threads().values()) == {1}
        pool.submit(second.__exit__, None, None, None).result()
    assert blas_threads() == before
    return "ended"


def test_limits_by_another_thread():
    assert in_new_process(job_limits_by_another_thread) == "ended"


def test_blas_limit_is_held_once_and_restored():
    """By the last to end, whatever the order."""
    before = blas_threads()
    first, second = threads.single_threaded_blas(), threads.single_threaded_blas()
    first.__enter__()
    assert set(blas_threads().values()) == {1}
    allowed_before = threads.n_threads_allowed()
    second.__enter__()
    assert threads.n_threads_allowed() == allowed_before
    first.__exit__(None, None, None)
    assert set(blas_threads().values()) == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_blas_limit_is_restored_after_an_error(error, monkeypatch):
    before = blas_threads()

    def fails(*args):
        assert set(blas_threads().values()) == {1}
        raise error("in the kernel")

    # Which is asked for the moments of the code, and before for nothing else.
    monkeypatch.setattr(kernels, "propagate", fails)
    parameters = {**_LARGE, "early_stopping": False}
    with pytest.raises(error, match="in the kernel"):
        AutoencoderTransformer(**parameters).fit(data())
    assert blas_threads() == before
    assert not our_threads()


def test_blas_limit_is_restored_if_the_end_is_interrupted(monkeypatch):
    """Ctrl-C while a fit waits for its threads to end."""
    before, leave = blas_threads(), threads.ThreadTeam.__exit__

    def interrupted(*args):
        leave(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(threads.ThreadTeam, "__exit__", interrupted)
    # `caught` keeps the frames alive, as an interactive session does.
    with pytest.raises(KeyboardInterrupt) as caught:
        AutoencoderTransformer(**_LARGE).fit(data())
    after, holders = blas_threads(), [*threads._LIMIT._holders]
    for holder in holders:  # leave nothing behind for other tests
        threads._LIMIT._release(holder)
    assert not holders, caught
    assert after == before


def _interrupted(function):
    """Like the function, but Ctrl-C comes when its first call ends."""
    calls = []

    def called(*args, **options):
        result = function(*args, **options)
        calls.append(result)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return result

    return called


@pytest.mark.parametrize("when", ["set", "lifted"])
def test_blas_limit_is_restored_if_setting_or_lifting_it_is_interrupted(
    when, monkeypatch
):
    before = blas_threads()
    limit_set = threads._limit_blas
    if when == "set":
        monkeypatch.setattr(threads, "_limit_blas", _interrupted(limit_set))
    else:
        limit = type(threads._blas().limit(limits=None))
        restore = _interrupted(limit.restore_original_limits)
        monkeypatch.setattr(limit, "restore_original_limits", restore)
    with pytest.raises(KeyboardInterrupt) as caught:
        AutoencoderTransformer(**_LARGE).fit(data())
    assert blas_threads() == before, caught
    assert not threads._LIMIT._holders
    assert threads.n_threads_allowed() >= 1


# -- fork -----------------------------------------------------------------------


def job_fork():
    names = ("minibatch", "lbfgs")
    with allowed(2) as sizes:
        expected = [digest(name) for name in names]
        assert 2 in sizes
        assert not our_threads()
        context = multiprocessing.get_context("fork")
        with context.Pool(1) as pool:
            in_child = pool.map(digest, names)
        assert in_child == expected
        # and the parent afterwards
        assert [digest(name) for name in names] == expected
    return "ended"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_fork_after_a_threaded_fit():
    assert in_new_process(job_fork) == "ended"


def is_in_order(before, expected):
    """Whether BLAS is as before, and a fit, which sets its limit, is as ever."""
    are_before = blas_threads() == before
    is_same = digest("lbfgs") == expected
    return are_before and is_same and blas_threads() == before


def job_fork_while_the_limit_is_set():
    """By a thread that the child does not have, but whose lock it has."""
    expected, before, in_child = digest("lbfgs"), blas_threads(), []
    with threads.single_threaded_blas(), threads._LIMIT._lock:
        other = threading.Thread(
            target=lambda: in_child.append(in_fork(is_in_order, before, expected))
        )
        other.start()
        other.join()
    return in_child, is_in_order(before, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_fork_while_another_thread_sets_the_limit():
    assert in_new_process(job_fork_while_the_limit_is_set) == [[True], True]


def job_fork_in_a_fit():
    """By its own thread: what a child does in it, BLAS does on one thread."""
    before = blas_threads()

    def is_limited():
        return set(blas_threads().values()) == {1}

    with threads.single_threaded_blas():
        in_child = in_fork(is_limited)
    return in_child, blas_threads() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_fork_in_a_fit():
    assert in_new_process(job_fork_in_a_fit) == [True, True]


# -- threads that die, or never live --------------------------------------------


def job_dying_ranks():
    """A rank that raises ends the run with its error, wherever the others wait."""
    before, expected = blas_threads(), digest("minibatch")
    for kernel, solver in [
        ("train", "adam"),
        ("summed_loss", "adam"),
        ("summed_gradient", "lbfgs"),
        ("step", "lbfgs"),
        ("finish_epoch", "lbfgs"),
        ("propagate", "adam"),
    ]:
        for n_threads, dying in [(2, 0), (2, 1), (4, 0), (4, 3)]:
            whole = getattr(kernels, kernel)

            def dies(*args, whole=whole, dying=dying):
                if args[-1] == dying:
                    raise RuntimeError(f"rank {dying} died")
                return whole(*args)

            setattr(kernels, kernel, dies)
            parameters = {**_LARGE, "solver": solver, "max_iter": 1000}
            try:
                with (
                    allowed(n_threads) as sizes,
                    pytest.raises(RuntimeError, match=f"rank {dying} died"),
                ):
                    AutoencoderTransformer(**parameters).fit(data())
            finally:
                setattr(kernels, kernel, whole)
            assert n_threads in sizes
            assert not our_threads()
            assert blas_threads() == before
    assert digest("minibatch") == expected
    return "ended"


def test_a_rank_that_dies_ends_the_run():
    assert in_new_process(job_dying_ranks) == "ended"


def job_threads_that_cannot_start():
    """As under a limit on processes; the next fit is as if nothing had been."""
    before, start = blas_threads(), threading.Thread.start
    expected = digest("minibatch")
    for n_threads in (2, 4):
        for n_startable in range(n_threads):
            started = []

            def limited(thread, started=started, limit=n_startable):
                if len(started) == limit:
                    raise RuntimeError("can't start new thread")
                started.append(thread)
                start(thread)

            threading.Thread.start = limited
            try:
                with (
                    allowed(n_threads),
                    pytest.raises(RuntimeError, match="can't start new thread"),
                ):
                    AutoencoderTransformer(**_LARGE).fit(data())
            finally:
                threading.Thread.start = start
            assert len(started) == n_startable
            assert not our_threads()
            assert blas_threads() == before
            assert digest("minibatch") == expected
    return "ended"


def test_a_thread_that_cannot_start():
    assert in_new_process(job_threads_that_cannot_start) == "ended"


# -- Ctrl-C ---------------------------------------------------------------------


def interrupt_after(seconds):
    """Send Ctrl-C to this process; returns a list that will hold the time of it."""
    sent = []

    def send():
        time.sleep(seconds)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()
    return sent


def interrupted_fit(model, X, seconds):
    """Fit and interrupt; returns the seconds from Ctrl-C to the end of `fit`."""
    sent = interrupt_after(seconds)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X)
    delay = time.perf_counter() - sent[0]
    assert any("interrupted" in str(w.message) for w in caught), "ended by itself"
    assert not our_threads()
    assert np.isfinite(model.transform(X)).all()
    assert np.isfinite(model.score(X))
    return delay


def job_interrupts(n_threads):
    """Ctrl-C at several moments of long fits."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before, delays = blas_threads(), []
    for solver in ("adam", "lbfgs"):
        AutoencoderTransformer(**{**_LARGE, "solver": solver}).fit(data())  # compiles
        with allowed(n_threads) as sizes:
            for seconds in np.linspace(0.1, 0.2, 6):
                model = AutoencoderTransformer(
                    **{**_LARGE, "solver": solver, "max_iter": 10**6, "tol": 0.0},
                    n_iter_no_change=np.inf,
                    early_stopping=False,  # before the first epoch it would be an error
                )
                delays.append(interrupted_fit(model, _noise(), seconds))
        assert sizes[0] == n_threads
        assert blas_threads() == before
    return delays


@functools.cache
def _noise():
    """What no L-BFGS finishes with within a second."""
    return np.random.default_rng(0).standard_normal((3000, N_FEATURES))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_interrupt(n_threads):
    delays = in_new_process(job_interrupts, n_threads)
    assert max(delays) < 2


def job_interrupts_on_one_core(n_interrupts):
    """Ranks that take turns, each at another place when Ctrl-C comes.

    Lanes of several blocks may be given up in their middle, by some of the ranks.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
    X = np.random.default_rng(0).standard_normal((120_000, 20))
    model = AutoencoderTransformer(
        2, hidden_layer_sizes=(), batch_size=8000, tol=0, random_state=0
    )
    # Epochs begin at once, and are all that there is to interrupt.
    model.set_params(n_iter_no_change=np.inf, init="random", early_stopping=False)
    rng, n_done = np.random.default_rng(0), 0
    with allowed(4) as sizes:
        model.set_params(max_iter=1, learning_rate="cosine").fit(X)  # compiles
        model.set_params(max_iter=10**6)
        for _ in range(n_interrupts):
            assert interrupted_fit(model, X, 0.1 + 0.02 * rng.random()) < 2
            n_done += 1
    assert 4 in sizes
    return n_done


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="needs os.sched_setaffinity"
)
def test_interrupts_on_one_core():
    assert in_new_process(job_interrupts_on_one_core, 30) == 30


def job_interrupt_of_tiny_batches():
    """The smallest of networks, whose time is not that of its arithmetic."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    X = np.random.default_rng(0).standard_normal((2000, 1))
    model = AutoencoderTransformer(
        1, hidden_layer_sizes=(), batch_size=1, max_iter=10**6, tol=0, random_state=0
    )
    model.set_params(n_iter_no_change=np.inf)
    AutoencoderTransformer(1, hidden_layer_sizes=(), max_iter=1).fit(X)  # compiles
    return interrupted_fit(model, X, 0.3)


def test_interrupt_of_tiny_batches():
    assert in_new_process(job_interrupt_of_tiny_batches) < 2


def job_interrupt_between_ranks(solver):
    """Ctrl-C before a rank is started, and after it but before anybody knows.

    Even the pool may not: its own thread may be up, and interrupted before it notes so.
    """
    before, submit = blas_threads(), ThreadPoolExecutor.submit
    outcomes = {}
    for n_call, started in itertools.product(range(5, 10), ("no", "pool", "nobody")):
        n_calls, results, strays = 0, [], []
        case = n_call, started, results, strays

        def interrupted(pool, rank, case=case):
            nonlocal n_calls
            n_call, started, results, strays = case
            n_calls += 1
            if n_calls != n_call:
                return submit(pool, rank)

            def late():
                time.sleep(0.1)
                results.append(rank())

            if started == "pool":
                submit(pool, late)
            elif started == "nobody":
                strays.append(threading.Thread(target=late))
                strays[0].start()
            raise KeyboardInterrupt

        ThreadPoolExecutor.submit = interrupted
        parameters = {**_LARGE, "solver": solver, "verbose": 2, "max_iter": 50}
        model = AutoencoderTransformer(**parameters)
        outcome = "no warning"
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with allowed(2), contextlib.redirect_stdout(sys.stderr):
                    model.fit(data())
            if any("interrupted" in str(w.message) for w in caught):
                outcome = "interrupted"
                assert np.isfinite(model.score(data()))
        except (Exception, KeyboardInterrupt) as error:
            outcome = repr(error)
        finally:
            ThreadPoolExecutor.submit = submit
        outcomes[f"call {n_call}, started: {started}"] = outcome
        for stray in strays:
            stray.join()
        # It has not touched memory that the run has given back.
        assert results == [None] * (started != "no")
        assert not our_threads()
        assert blas_threads() == before
    return outcomes


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_interrupt_between_ranks(solver):
    outcomes = in_new_process(job_interrupt_between_ranks, solver, timeout=60)
    assert outcomes == dict.fromkeys(outcomes, "interrupted")


# -- many small fits ------------------------------------------------------------


def job_many_fits(n_fits):
    """More threads than processors, in several fits at once."""
    X = data()[:, :8]
    parameters = {**_LARGE, "hidden_layer_sizes": (24,), "batch_size": N_ROWS}
    expected = AutoencoderTransformer(**parameters).fit(X).transform(X).tobytes()
    before = blas_threads()

    def same(n_threads):
        with_lanes = AutoencoderTransformer(**parameters).fit(X)
        return with_lanes.transform(X).tobytes() == expected

    n_same = 0
    for n_threads in (2, 3, 4):
        with (
            allowed(n_threads) as sizes,
            ThreadPoolExecutor(3) as pool,
        ):
            n_same += sum(pool.map(same, [n_threads] * (n_fits // 3)))
        assert max(sizes) == n_threads
    assert blas_threads() == before
    assert not our_threads()
    return n_same


def test_many_fits_on_more_threads_than_processors():
    assert in_new_process(job_many_fits, 300) == 300


@pytest.mark.parametrize("n_threads", [1, 2, 5])
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
    assert not our_threads()


def test_map_in_order_hands_on_an_error():
    with pytest.raises(ZeroDivisionError):
        list(threads.map_in_order(lambda i: 1 / (i - 2), range(9), 2))
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
