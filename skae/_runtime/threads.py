"""Threads that run one kernel together, or map a function.

In a `ThreadTeam` every thread calls the same compiled function with its own rank; the
ranks meet at barriers inside it (see ``_compiled``). No thread outlives the call that
started it: no fork and no second fit could meet a pool.
"""

import contextlib
import functools
import math
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, Self, TypeVar

import joblib
import numba
import numpy as np
from numpy.typing import NDArray

from skae._compiled import compilation, records
from skae._compiled.records import BROKEN, INTERRUPT, N_CONTROLS, in_lines
from skae._runtime.blas import (
    limit_blas,
    n_blas_threads_before,
    single_threaded_blas,
)

Item = TypeVar("Item")
Result = TypeVar("Result")


class _OfThread(threading.local):
    """State of each thread."""

    is_single = False


_OF_THREAD = _OfThread()


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Keep this thread from starting others: the threads beside it use the cores."""
    before, _OF_THREAD.is_single = _OF_THREAD.is_single, True
    try:
        yield
    finally:
        _OF_THREAD.is_single = before


def n_threads_allowed() -> int:
    """Return how many threads SciPy's BLAS would use, at most ``NUMBA_NUM_THREADS``.

    So ``threadpoolctl.threadpool_limits``, ``OPENBLAS_NUM_THREADS`` and the limits that
    joblib and Dask set for their workers apply to skae too. The number of processors
    that joblib counts is a limit as well: under a container's quota, which neither BLAS
    nor Numba knows, threads that wait for each other would be stopped in turn. Joblib
    reads files, in 50 microseconds: this is for work that takes milliseconds.
    """
    if _OF_THREAD.is_single:
        return 1
    limits = n_blas_threads_before(), numba.config.NUMBA_NUM_THREADS
    return int(max(1, min(*limits, joblib.cpu_count())))


# Floating point operations that make it worth it for a thread to meet others at a
# barrier, which takes half a microsecond, and to be started, which takes some hundred.
_MIN_FLOPS_TO_MEET, _MIN_FLOPS_TO_START = 300_000, 100_000_000
# How often a thread at the gate looks, in case an interrupt keeps it from being woken.
_SECONDS_BETWEEN_LOOKS = 0.1
# About 10 ms of work: over before anyone could want to interrupt it.
_MAX_FLOPS_INLINE = 200_000_000


def n_threads_for(
    n_pieces: int, flops: float, flops_to_meeting: float = math.inf
) -> int:
    """Return the number of threads that is worth it for `flops` operations.

    Threads meet after every `flops_to_meeting` of them, which are cut into `n_pieces`.
    """
    useful = min(flops // _MIN_FLOPS_TO_START, flops_to_meeting // _MIN_FLOPS_TO_MEET)
    n_useful = int(min(n_pieces, useful))
    return min(n_useful, n_threads_allowed()) if n_useful > 1 else 1


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], n_threads: int
) -> Iterator[Result]:
    """Yield a function's results for items, in order; threads compute a few ahead.

    For functions that release the GIL, as BLAS does.
    """
    if n_threads == 1:
        yield from map(function, items)
        return
    # Some BLAS need the limit set in every thread.
    pool = ThreadPoolExecutor(
        n_threads, thread_name_prefix="skae", initializer=limit_blas
    )
    with single_threaded_blas(), pool:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > n_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


class ThreadTeam:
    """Runs kernels on `n_threads` threads at once, as a context manager.

    Parameters
    ----------
    n_threads : int
        Number of threads.

    Attributes
    ----------
    control : ndarray of shape (N_CONTROLS,), dtype=int64
        What the threads tell each other; see ``records``.
    """

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self.control: NDArray[np.int64] = in_lines(1, N_CONTROLS, np.int64)[0]
        self._pool: ThreadPoolExecutor | None = None
        # An interrupted submit may leave a thread behind that the pool neither knows
        # nor waits for: no rank begins before all threads are there.
        self._gate = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """End the threads; an interrupt during that is raised after it."""
        interrupts = []
        while self._pool is not None:
            try:
                self.control[INTERRUPT] = 1
                self._gate.set()
                self._pool.shutdown()
                self._pool = None
            except KeyboardInterrupt as interrupt:
                interrupts.append(interrupt)
        # It would hide an error that is being raised.
        if interrupts and not any(exc_info):
            raise interrupts[0]

    def run(self, kernel: compilation.Kernel, *args: Any, flops: float) -> Any:
        """Call ``kernel(*args, rank)`` on every rank; return rank 0's result.

        Kernels take the addresses of arrays, and of records in place of tuples. The
        calling thread waits meanwhile, so that it notices Ctrl-C at once: it makes the
        kernel stop, and then raises KeyboardInterrupt. The calling thread itself does
        work for one thread if that is few `flops`, or if it is not the main thread,
        which alone notices Ctrl-C.
        """
        # The arrays live in this frame until the kernel ends.
        arguments, _held = records.arguments_of(kernel, args)
        self.control[:] = 0  # an earlier run may have ended with others
        in_main_thread = threading.current_thread() is threading.main_thread()
        if self.n_threads == 1 and (flops <= _MAX_FLOPS_INLINE or not in_main_thread):
            return kernel(*arguments, 0)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.n_threads, thread_name_prefix="skae")
        # Each run has its own gate: a thread may reach it long after the run.
        gate = self._gate = threading.Event()
        all_started = False

        def run_rank(rank: int) -> Any:
            while not gate.wait(_SECONDS_BETWEEN_LOOKS):
                pass
            return kernel(*arguments, rank) if all_started else None

        try:
            ranks = [functools.partial(run_rank, r) for r in range(self.n_threads)]
            futures = [self._pool.submit(rank) for rank in ranks]
            all_started = True
            gate.set()
            self._wait(futures)
            return futures[0].result()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def _wait(self, futures: list[Future[Any]]) -> None:
        """Wait for all ranks; raise the exception of the first that has one.

        Python sees to Ctrl-C between two looks only, where a wait is not ended by
        signals: on Windows, and where a library's handler has SA_RESTART, as polars'.
        """
        pending = set(futures)
        while pending:
            done, pending = wait(pending, _SECONDS_BETWEEN_LOOKS, FIRST_EXCEPTION)
            for future in done:
                if future.exception() is not None:
                    self.control[BROKEN] = 1
                    future.result()  # raises
