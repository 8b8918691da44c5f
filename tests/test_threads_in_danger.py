"""Threads: no hang, and BLAS as before, whatever happens to a fit."""

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from skae import AutoencoderTransformer
from skae._compiled import batches, epochs, propagate
from skae._runtime import blas, threads

from .support.interrupts import ctrl_c_after, warns_of_interrupt
from .support.processes import allowed, blas_threads, in_fork, our_threads
from .support.threaded import _LARGE, data, digest, in_new_process

pytestmark = pytest.mark.once


def job_limits_by_another_thread():
    """The limit is the process'; what a fit needs holds in any thread.

    threadpoolctl 3.8 lets only the thread that was first to set a limit set another.
    """
    threadpool_limits(2)  # in this thread, until the process ends
    before, during = blas_threads(), []

    def hold():
        with blas.single_threaded_blas():
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


def test_blas_limit_is_held_once_and_restored():
    """By the last to end, whatever the order."""
    before = blas_threads()
    first, second = blas.single_threaded_blas(), blas.single_threaded_blas()
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
    fails.check = propagate.propagate.check
    monkeypatch.setattr(propagate, "propagate", fails)
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
    after, holders = blas_threads(), [*blas._LIMIT._holders]
    for holder in holders:  # leave nothing behind for other tests
        blas._LIMIT._release(holder)
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
    limit_set = blas.limit_blas
    if when == "set":
        monkeypatch.setattr(blas, "limit_blas", _interrupted(limit_set))
    else:
        limit = type(blas._blas().limit(limits=None))
        restore = _interrupted(limit.restore_original_limits)
        monkeypatch.setattr(limit, "restore_original_limits", restore)
    with pytest.raises(KeyboardInterrupt) as caught:
        AutoencoderTransformer(**_LARGE).fit(data())
    assert blas_threads() == before, caught
    assert not blas._LIMIT._holders
    assert threads.n_threads_allowed() >= 1


def is_in_order(before, expected):
    """Whether BLAS is as before, and a fit, which sets its limit, is as ever."""
    are_before = blas_threads() == before
    is_same = digest("lbfgs") == expected
    return are_before and is_same and blas_threads() == before


def job_fork_while_the_limit_is_set():
    """By a thread that the child does not have, but whose lock it has."""
    expected, before, in_child = digest("lbfgs"), blas_threads(), []
    with blas.single_threaded_blas(), blas._LIMIT._lock:
        other = threading.Thread(
            target=lambda: in_child.append(in_fork(is_in_order, before, expected))
        )
        other.start()
        other.join()
    assert in_child == [True]
    assert is_in_order(before, expected)


def job_fork_in_a_fit():
    """By its own thread: what a child does in it, BLAS does on one thread."""
    before = blas_threads()

    def is_limited():
        return set(blas_threads().values()) == {1}

    with blas.single_threaded_blas():
        assert in_fork(is_limited)
    assert blas_threads() == before


def job_dying_ranks():
    """A rank that raises ends the run with its error, wherever the others wait."""
    before, expected = blas_threads(), digest("minibatch")
    for module, kernel, solver in [
        (epochs, "train", "adam"),
        (batches, "summed_loss", "adam"),
        (batches, "summed_gradient", "lbfgs"),
        (epochs, "step", "lbfgs"),
        (epochs, "finish_epoch", "lbfgs"),
        (propagate, "propagate", "adam"),
    ]:
        for n_threads, dying in [(2, 0), (2, 1), (4, 0), (4, 3)]:
            whole = getattr(module, kernel)

            def dies(*args, whole=whole, dying=dying):
                if args[-1] == dying:
                    raise RuntimeError(f"rank {dying} died")
                return whole(*args)

            dies.check = whole.check
            setattr(module, kernel, dies)
            parameters = {**_LARGE, "solver": solver, "max_iter": 1000}
            try:
                with (
                    allowed(n_threads) as sizes,
                    pytest.raises(RuntimeError, match=f"rank {dying} died"),
                ):
                    AutoencoderTransformer(**parameters).fit(data())
            finally:
                setattr(module, kernel, whole)
            assert n_threads in sizes
            assert not our_threads()
            assert blas_threads() == before
    assert digest("minibatch") == expected


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


def job_in_danger():
    """One after the other; the last has a limit set until the process ends."""
    job_dying_ranks()
    job_threads_that_cannot_start()
    if hasattr(os, "fork"):
        job_fork_while_the_limit_is_set()
        job_fork_in_a_fit()
    job_limits_by_another_thread()
    return "ended"


def test_a_process_in_danger():
    assert in_new_process(job_in_danger) == "ended"


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
            with warns_of_interrupt(), ctrl_c_after(0.1 + 0.02 * rng.random()) as sent:
                model.fit(X)
            assert time.perf_counter() - sent[0] < 2
            assert not our_threads()
            assert np.isfinite([model.score(X), *model.transform(X[:9]).ravel()]).all()
            n_done += 1
    assert 4 in sizes
    return n_done


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="needs os.sched_setaffinity"
)
def test_interrupts_on_one_core():
    assert in_new_process(job_interrupts_on_one_core, 12) == 12


def job_interrupt_between_ranks():
    """Ctrl-C before a rank is started, and after it but before anybody knows.

    Even the pool may not: its own thread may be up, and interrupted before it notes so.
    """
    before, submit = blas_threads(), ThreadPoolExecutor.submit
    outcomes = {}
    for solver, n_call, started in itertools.product(
        ("adam", "lbfgs"), range(5, 10), ("no", "pool", "nobody")
    ):
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
        outcomes[f"{solver}, call {n_call}, started: {started}"] = outcome
        for stray in strays:
            stray.join()
        # It has not touched memory that the run has given back.
        assert results == [None] * (started != "no")
        assert not our_threads()
        assert blas_threads() == before
    return outcomes


def test_interrupt_between_ranks():
    outcomes = in_new_process(job_interrupt_between_ranks, timeout=120)
    assert outcomes == dict.fromkeys(outcomes, "interrupted")
