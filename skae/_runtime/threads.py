"""Threads that run one kernel together, or map a function; the limit on BLAS' threads.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, Self, TypeVar

import joblib
import numba
import numpy as np
import threadpoolctl
from numpy.typing import DTypeLike, NDArray

from skae._compiled import (
    batches,
    compilation,
    dispatch,
    losses,
    optimizers,
    records,
    sharding,
)
from skae._compiled.code_terms import N_TERM_SETTINGS, CodeTerm
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
from skae._data.rows import Rows, density, piece_rows

Item = TypeVar("Item")
Result = TypeVar("Result")


@functools.cache
def _blas() -> Any:
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


def _n_blas_threads() -> float:
    """Return BLAS' limit: none where threadpoolctl knows no BLAS, as on macOS."""
    return max((library["num_threads"] for library in _blas().info()), default=math.inf)


@contextlib.contextmanager
def _control_of_openblas() -> Iterator[None]:
    """Let this thread set OpenBLAS' limit.

    Since version 3.8, threadpoolctl silently ignores all threads except the one that
    set a limit first, even when the thread of another fit has to restore it.
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


def _limit_blas() -> None:
    with _control_of_openblas():
        _blas().limit(limits=1)


class _SharedLimit:
    """Holds BLAS at one thread while any fit of this process computes with it.

    What NumPy and SciPy compute in a fit (PCA, L-BFGS, the order of the code) then has
    the same bits for any number of threads.

    The limit belongs to the process: if each fit set its own, the first of two
    concurrent fits to end would lift the other's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: dict[object, int] = {}  # and the identifiers of their threads
        self._before: Any = None  # the limits before the first holder
        self._n_threads_before: float = 1

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        holder = object()
        try:
            with self._lock:
                is_first = not self._holders
                if is_first:
                    self._n_threads_before = _n_blas_threads()
                    self._before = _blas().limit(limits=None)
                # If the rest is interrupted, the release restores the old limits.
                self._holders[holder] = threading.get_ident()
                if is_first:
                    _limit_blas()
            yield
        finally:
            # An interrupt during the release is raised after it. Python may notice one
            # whenever it calls a function: there is no call before `try`.
            interrupts, is_released = [], False
            while not is_released:
                try:
                    self._release(holder)
                    is_released = True
                except KeyboardInterrupt as interrupt:
                    interrupts.append(interrupt)
            if interrupts:
                raise interrupts[0]

    def _release(self, holder: object) -> None:
        with self._lock:
            self._holders.pop(holder, None)
            self._restore_without_holders()

    def _restore_without_holders(self) -> None:
        if not self._holders and self._before is not None:
            with _control_of_openblas():
                self._before.restore_original_limits()
            self._before = None

    def forget_other_threads(self) -> None:
        """Drop the holders of other threads, which a forked process does not have."""
        self._lock, here = threading.Lock(), threading.get_ident()
        self._holders = {h: n for h, n in self._holders.items() if n == here}
        self._restore_without_holders()

    def n_threads_before(self) -> float:
        with self._lock:
            return self._n_threads_before if self._holders else _n_blas_threads()


_LIMIT = _SharedLimit()
single_threaded_blas = _LIMIT.hold
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_LIMIT.forget_other_threads)


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
    limits = _LIMIT.n_threads_before(), numba.config.NUMBA_NUM_THREADS
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

    For functions that release the GIL, as BLAS does. Call it in the context of
    `single_threaded_blas`: some BLAS need the limit set in every thread.
    """
    if n_threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(
        n_threads, thread_name_prefix="skae", initializer=_limit_blas
    ) as pool:
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


# If every step learns from all rows in their own order, they stay in input blocks of
# at most this many bytes: without that, full-batch epochs of the workload "ring" take
# 1.25 times as long on one thread; L-BFGS gains nothing that can be seen.
_MAX_INPUT_BYTES = 2**23


class Learning(NamedTuple):
    """What a team needs to know to train a network."""

    loss: losses.Loss
    solver: compilation.CFunction
    batch_size: int  # rows of an update
    shuffles: bool  # whether rows are drawn in random order
    seed: int
    corruption: Corruption | None = None
    term: CodeTerm | None = None


def make_workspace(
    network: records.Network,
    dtype: DTypeLike,
    *,
    team: ThreadTeam,
    rows: Sequence[Rows],
    learning: Learning | None = None,
) -> Team:
    """Return the working memory of a team for one network.

    Parameters
    ----------
    network : records.Network

    dtype : dtype

    team : ThreadTeam

    rows : sequence of Rows
        What the team will read; first the rows that it learns from.

    learning : Learning, default=None
        None for inference alone.

    Returns
    -------
    workspace : records.Team
    """
    n_threads, n_rows = team.n_threads, rows[0].n_rows
    itemsize, n_features = np.dtype(dtype).itemsize, int(network.widths[0])
    batch_size = learning.batch_size if learning else 0
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
    corruption = learning.corruption if learning else None
    has_zeros = _has_zeros(network, rows[0], corruption)
    n_packed = sharding.n_packed(network) * block_rows if learning else 0
    kinds = {part.starts.size > 0 for part in rows}
    term = learning.term if learning else None
    n_code = int(network.widths[network.n_layers // 2]) if term else 0
    n_seen = n_features + n_features % 2 if corruption else 0
    ops = _learning_ops(learning) if learning else {}
    activations = network.layers["activation"]
    held = empty_lines(slots[:1], HELD)
    held["values"] = NOTHING
    shard_codes = in_lines(sharding.MAX_SHARDS, n_code + 1, np.float64)
    term_settings = _term_settings(term, n_threads, n_code)
    gradients = in_lines(n_shards, network.n_params if learning else 0, dtype)
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
        shards=batches.shards.address() if learning else 0,
        code_means=batches.code_means.address() if "add_code" in ops else 0,
        seed=learning.seed if learning else 0,
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
        order=np.empty(n_rows if learning and learning.shuffles else 0, dtype=np.int32),
        # Rows of these begin a cache line, too, or the network is so wide that it does
        # not matter.
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


# Products skip zeros if at most this share of the entries is not zero and the first
# layer has at least so many units, see `benchmarks/own`.
_MAX_DENSITY, _MIN_WIDTH = 0.25, 32


def _has_zeros(
    network: records.Network, rows: Rows, corruption: Corruption | None
) -> bool:
    """Whether products of the first layer skip the zeros of the rows."""
    first = network.layers[1]
    if first["transposed"] or first["width"] < _MIN_WIDTH:
        return False
    if corruption is not None and not corruption.noise.keeps_zeros:
        return False
    return sharding.block_rows(network) <= DEPTH and density(rows) <= _MAX_DENSITY


def _learning_ops(learning: Learning) -> dict[str, compilation.CFunction]:
    """Return the ops of an objective and a solver, by the fields of ``Addresses``."""
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


def _term_settings(
    term: CodeTerm | None, n_threads: int, n_code: int
) -> NDArray[np.float64]:
    settings: NDArray[np.float64] = in_lines(
        n_threads, N_TERM_SETTINGS + n_code, np.float64
    )
    if term is not None:
        for position, value in term.settings.items():
            settings[:, position] = value
    return settings
