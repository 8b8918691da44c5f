"""Threads that run one kernel together, or one function on items in turn; BLAS' limit.

In a `ThreadTeam` every thread calls the same compiled function with its own rank; the
ranks meet at barriers inside it (see ``_compiled``). No thread outlives the call that
started it: no fork and no second fit could meet a pool.
"""

import contextlib
import functools
import math
import os
import sys
import threading
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import joblib
import numba
import numpy as np
import threadpoolctl

from skae._compiled import batches, dispatch, losses, optimizers, records, sharding
from skae._compiled.code_terms import N_TERM_SETTINGS, CodeTerm
from skae._compiled.compilation import CFunction
from skae._compiled.corruption import Corruption
from skae._compiled.network import forward
from skae._compiled.products import DEPTH
from skae._compiled.records import (
    BLOCK,
    BROKEN,
    HELD,
    INTERRUPT,
    N_CONTROLS,
    N_SHARD_LOSSES,
    NOTHING,
    Team,
    empty_lines,
    in_lines,
)
from skae._data.rows import density, piece_rows


@functools.cache
def _blas():
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


def _n_blas_threads():
    """Of a BLAS that threadpoolctl does not know, such as Accelerate, no limit."""
    return max((library["num_threads"] for library in _blas().info()), default=math.inf)


@contextlib.contextmanager
def _control_of_openblas():
    """Let this thread set OpenBLAS' limit.

    From its version 3.8 on, threadpoolctl silently ignores all threads but the one
    that set a limit first, even when another fit's thread has to restore it.
    """
    clear = getattr(
        getattr(threadpoolctl, "OpenBLASController", None),
        "clear_controlling_thread",
        lambda force: None,
    )
    clear(force=True)
    try:
        yield
    finally:
        clear(force=True)


def _limit_blas():
    with _control_of_openblas():
        return _blas().limit(limits=1)


class _SharedLimit:
    """Holds BLAS at one thread while some fit of this process computes with it.

    What NumPy and SciPy compute in a fit (PCA, L-BFGS, the order of the code) then has
    the same bits for any number of threads.

    The limit is a property of the process: with one limit for each fit, the first of
    two concurrent fits to end would lift the other's.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._holders: dict[object, int] = {}  # with the numbers of their threads
        self._before: Any = None  # the limits before the first of them
        self._n_threads_before: float = 1

    @contextlib.contextmanager
    def hold(self):
        holder = object()
        try:
            with self._lock:
                is_first = not self._holders
                if is_first:
                    self._n_threads_before = _n_blas_threads()
                    self._before = _blas().limit(limits=None)
                # Whatever interrupts the rest, its release restores what was before.
                self._holders[holder] = threading.get_ident()
                if is_first:
                    _limit_blas()
            yield
        finally:
            # An interrupt that comes meanwhile is raised afterwards. Python may notice
            # one whenever it calls a function: there is none before `try`.
            interrupts, is_released = [], False
            while not is_released:
                try:
                    self._release(holder)
                    is_released = True
                except KeyboardInterrupt as interrupt:
                    interrupts.append(interrupt)
            if interrupts:
                raise interrupts[0]

    def _release(self, holder):
        with self._lock:
            self._holders.pop(holder, None)
            self._restore_without_holders()

    def _restore_without_holders(self):
        if not self._holders and self._before is not None:
            with _control_of_openblas():
                self._before.restore_original_limits()
            self._before = None

    def forget_other_threads(self):
        """Leave what they held: a forked process has none of them."""
        self._lock, here = threading.Lock(), threading.get_ident()
        self._holders = {h: n for h, n in self._holders.items() if n == here}
        self._restore_without_holders()

    def n_threads_before(self):
        with self._lock:
            return self._n_threads_before if self._holders else _n_blas_threads()


_LIMIT = _SharedLimit()
single_threaded_blas = _LIMIT.hold
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_LIMIT.forget_other_threads)


class _OfThread(threading.local):
    """What holds for a thread alone."""

    is_single = False


_OF_THREAD = _OfThread()


@contextlib.contextmanager
def single_threaded():
    """Let this thread start no others: those beside it have work of their own."""
    before, _OF_THREAD.is_single = _OF_THREAD.is_single, True
    try:
        yield
    finally:
        _OF_THREAD.is_single = before


def n_threads_allowed():
    """As many threads as SciPy's BLAS would use, at most ``NUMBA_NUM_THREADS``.

    So ``threadpoolctl.threadpool_limits``, ``OPENBLAS_NUM_THREADS`` and what joblib
    and Dask set for their workers hold for skae too. Nor are there more threads than
    joblib counts processors: a container's quota, which neither BLAS nor Numba knows,
    would have threads that wait for each other stopped in turn. Joblib reads files for
    that, in 50 microseconds, and is asked only where there is work of milliseconds.
    """
    if _OF_THREAD.is_single:
        return 1
    limits = _LIMIT.n_threads_before(), numba.config.NUMBA_NUM_THREADS
    return int(max(1, min(*limits, joblib.cpu_count())))


# Floating point operations of a thread that are worth a meeting at a barrier, of half a
# microsecond, and in all the start of the thread, which takes some hundred.
_MIN_FLOPS_TO_MEET, _MIN_FLOPS_TO_START = 300_000, 100_000_000
# Of a thread at the gate, should an interrupt keep it from being woken.
_SECONDS_BETWEEN_LOOKS = 0.1
# About 10 ms of work: over before anyone could want to interrupt it.
_MAX_FLOPS_INLINE = 200_000_000


def n_threads_for(n_pieces, flops, flops_to_meeting=math.inf):
    """Threads that are worth it for `flops` of work, cut into pieces.

    `flops_to_meeting` of them, in `n_pieces`, lie between two meetings.
    """
    useful = min(flops // _MIN_FLOPS_TO_START, flops_to_meeting // _MIN_FLOPS_TO_MEET)
    useful = int(min(n_pieces, useful))
    return min(useful, n_threads_allowed()) if useful > 1 else 1


def map_in_order(function, items, n_threads):
    """Results of a function of each item, in order; computed on threads, few ahead.

    For functions that leave the GIL to others, as BLAS does, and in the context of
    `single_threaded_blas`, of which some BLAS have to be told in every thread.
    """
    if n_threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(
        n_threads, thread_name_prefix="skae", initializer=_limit_blas
    ) as pool:
        pending: deque[Future] = deque()
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

    def __init__(self, n_threads):
        self.n_threads = n_threads
        self.control = in_lines(1, N_CONTROLS, np.int64)[0]
        self._pool = None
        # An interrupted submit may leave a thread behind that the pool does not know
        # of, nor waits for: no rank begins before all are there.
        self._gate = threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        """End the threads; an interrupt that comes meanwhile is raised afterwards."""
        interrupts = []
        while self._pool is not None:
            try:
                self.control[INTERRUPT] = 1
                self._gate.set()
                self._pool.shutdown()
                self._pool = None
            except KeyboardInterrupt as interrupt:
                interrupts.append(interrupt)
        # Where an error is on its way this one would hide it.
        if interrupts and not any(exc_info):
            raise interrupts[0]

    def run(self, kernel, *args, flops):
        """Call ``kernel(*args, rank)`` on every rank; return rank 0's result.

        Kernels are given the addresses of arrays, and of records in place of tuples.
        The calling thread waits meanwhile, so that Ctrl-C is noticed at once: the
        kernel is told to stop, and KeyboardInterrupt is raised when it has. Work of
        one thread is done in the calling thread if that is few `flops`, or if Ctrl-C
        is not this thread's to notice.
        """
        # The arrays live in this frame until the kernel has ended.
        arguments, _held = records.arguments_of(kernel, args)
        self.control[:] = 0  # whatever an earlier run ended with
        in_main_thread = threading.current_thread() is threading.main_thread()
        if self.n_threads == 1 and (flops <= _MAX_FLOPS_INLINE or not in_main_thread):
            return kernel(*arguments, 0)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.n_threads, thread_name_prefix="skae")
        # A gate of its own: a thread may come to it when this run is long over.
        gate = self._gate = threading.Event()
        all_started = False

        def run_rank(rank):
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

    def _wait(self, futures):
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


# Rows that are all learnt from at each step, in their own order, stay in input blocks
# if these take so many bytes at most: 5000 epochs of the workload "ring" take a sixth
# less time on one thread, a tenth less on two; L-BFGS gains nothing that can be seen.
_MAX_INPUT_BYTES = 2**23


class Learning(NamedTuple):
    """What a team needs to know to train a network."""

    loss: losses.Loss
    solver: CFunction
    batch_size: int  # rows that are learnt from at a time
    shuffles: bool  # whether they are drawn in random order
    seed: int
    corruption: Corruption | None = None
    term: CodeTerm | None = None


def make_workspace(network, dtype, *, team, rows, learning=None):
    """Working memory of a team for one network: a ``records.Team``.

    Parameters
    ----------
    network : records.Network

    dtype : dtype

    team : ThreadTeam

    rows : sequence of Rows
        What it will read, first the rows that it learns from.

    learning : Learning, default=None
        None for inference alone.

    Returns
    -------
    workspace : records.Team
    """
    n_threads, learns = team.n_threads, learning is not None
    itemsize, n_features = np.dtype(dtype).itemsize, int(network.widths[0])
    n_rows, batch_size = rows[0].n_rows, learning.batch_size if learns else 0
    block_rows = sharding.block_rows(network)
    n_shards = sharding.n_shards(batch_size, block_rows)
    n_slots = 1
    is_small = n_rows * n_features * itemsize <= _MAX_INPUT_BYTES
    if batch_size == n_rows and is_small:
        blocks_per_shard = -(-batch_size // max(1, n_shards) // block_rows)
        n_slots = max(1, -(-n_shards // n_threads) * blocks_per_shard)
    n_units = network.n_units - n_features
    blocks = (n_threads, n_units * block_rows)
    slots = (n_threads * n_slots, block_rows)
    corruption = learning.corruption if learns else None
    has_zeros = _has_zeros(network, rows[0], corruption)
    n_packed = sharding.n_packed(network) * block_rows if learns else 0
    kinds = {part.starts.size > 0 for part in rows}
    term = learning.term if learns else None
    n_code = int(network.widths[network.n_layers // 2]) if term else 0
    n_seen = n_features + n_features % 2 if corruption else 0
    ops = _learning_ops(learning) if learns else {}
    activations = network.layers["activation"]
    held = empty_lines(slots[:1], HELD)
    held["values"] = NOTHING
    shard_codes = in_lines(sharding.MAX_SHARDS, n_code + 1, np.float64)
    term_settings = _term_settings(term, n_threads, n_code)
    gradients = in_lines(n_shards, network.n_params if learns else 0, dtype)
    return Team(
        n_threads=n_threads,
        itemsize=itemsize,
        block_rows=block_rows,
        piece_rows=piece_rows(n_features),
        n_slots=n_slots,
        n_units=n_units,
        n_params=network.n_params,
        n_packed=n_packed,
        ops=dispatch.addresses(dtype, activations, kinds, has_zeros, **ops),
        forward=forward.address(),
        shards=batches.shards.address() if learns else 0,
        code_means=batches.code_means.address() if "add_code" in ops else 0,
        seed=learning.seed if learns else 0,
        control=team.control,
        shard_losses=in_lines(sharding.MAX_SHARDS, N_SHARD_LOSSES, np.float64),
        shard_codes=shard_codes,
        shard_code_entries=shard_codes.shape[1],
        penalty=in_lines(1, 2, np.float64)[0],
        held=held,
        blocks=empty_lines((n_threads,), BLOCK),
        settings=in_lines(n_threads, optimizers.N_SETTINGS, np.float64),
        corruption=corruption.settings if corruption else np.empty(0),
        term_settings=term_settings,
        n_term_settings=term_settings.shape[1],
        n_code=n_code,
        zero=np.zeros(1, dtype=dtype),
        order=np.empty(n_rows if learns and learning.shuffles else 0, dtype=np.int32),
        # Their rows are lines, too, but of networks so wide that it does not matter.
        picked=empty_lines(slots, np.int64),
        row_weights=empty_lines(slots, dtype),
        inputs=empty_lines((slots[0], block_rows * n_features), dtype),
        corrupted=empty_lines((n_threads, block_rows * n_seen), dtype),
        packed=empty_lines((n_threads, n_packed), dtype),
        units=empty_lines(blocks, dtype),
        slopes=empty_lines(blocks, dtype),
        kept=empty_lines((n_threads, block_rows * n_code), dtype),
        shard_gradients=gradients,
        shard_gradient_entries=gradients.shape[1],
    )


# Zeros are left out of products where at most so large a share of the entries is not
# zero, and the first layer has so many units, see `benchmarks/own`.
_MAX_DENSITY, _MIN_WIDTH = 0.25, 32


def _has_zeros(network, rows, corruption):
    """Whether products of the first layer leave the zeros of the rows out."""
    first = network.layers[1]
    if first["transposed"] or first["width"] < _MIN_WIDTH:
        return False
    if corruption is not None and not corruption.noise.keeps_zeros:
        return False
    return sharding.block_rows(network) <= DEPTH and density(rows) <= _MAX_DENSITY


def _learning_ops(learning):
    """The ops of an objective and a solver, by the fields of ``Addresses``."""
    ops = {"loss": learning.loss.op, "solver": learning.solver}
    if learning.corruption is not None:
        ops["corrupt"] = learning.corruption.noise.op
    if learning.term is not None:
        kind = learning.term.kind
        ops |= {"code_term": kind.forward, "code_term_backward": kind.backward}
        if kind.of_means is not None:
            sums, rest = kind.of_means
            ops |= {"add_code": sums, "divergence_of_means": rest}
    return ops


def _term_settings(term, n_threads, n_code):
    settings = in_lines(n_threads, N_TERM_SETTINGS + n_code, np.float64)
    if term is not None:
        for position, value in term.settings.items():
            settings[:, position] = value
    return settings
