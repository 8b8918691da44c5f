"""The partitions of a Dask collection, and calls of functions on their workers.

Dask is imported when it is used. Nothing here depends on networks.
"""

import asyncio
import copy
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

from skae._typing import Matrix, Result

if TYPE_CHECKING:
    from distributed import Client, Future

# While waiting, the workers are checked this often.
_SECONDS_BETWEEN_LOOKS = 1.0
# Time without any worker, or an answer of the scheduler, before an error is raised. A
# nanny needs some seconds to restart a worker.
_SECONDS_WITHOUT_WORKERS = 30.0
# Time for the scheduler to answer, or for a worker to start a runner. Until the next
# look the partitions of a worker that is busy with others' tasks are computed in tasks.
_SECONDS_TO_ANSWER = 5.0
# Schedulers may close a cluster in which no task has run for some minutes.
_SECONDS_BETWEEN_TASKS = 30.0
# Time to gather results, and attempts, because results may be lost while they are sent.
_SECONDS_TO_GATHER, _MAX_GATHERS = 60.0, 3

# More arguments, for each partition its own.
_PerPart: TypeAlias = Sequence[tuple[Any, ...]] | None
# What is done with blocks before they can be validated, see `Partitions.of`.
_Survey: TypeAlias = tuple[
    Callable[[Any], Any], Callable[[list[Any]], Callable[[Any], Matrix]]
]


class LostError(RuntimeError):
    """A result of the partitions cannot be computed."""

    # Fitted attributes of a fit that can keep what it has trained.
    _attributes: dict[str, Any] | None = None


class NoWorkersError(LostError):
    """The cluster has no workers, or cannot be reached.

    Examples
    --------
    >>> from skae.dask import NoWorkersError
    >>> try:  # doctest: +SKIP
    ...     autoencoder.fit(X)
    ... except NoWorkersError:
    ...     client.cluster.scale(4)
    ...     autoencoder.set_params(warm_start=True).fit(X)  # finishes the fit
    """

    __module__ = "skae.dask"  # where users find it, and pickles look for it


class DataLostError(LostError):
    """A partition is lost, or a result of it cannot be computed.

    Examples
    --------
    >>> from skae.dask import DataLostError
    >>> try:  # doctest: +SKIP
    ...     autoencoder.fit(X)
    ... except DataLostError:
    ...     X = da.from_zarr("rows.zarr")  # again
    ...     autoencoder.set_params(warm_start=True).fit(X)  # finishes the fit
    """

    __module__ = "skae.dask"  # where users find it, and pickles look for it


class Partitions:
    """The blocks of rows of a Dask collection, on the workers that hold them.

    A context manager: when it exits, Dask may forget the blocks.

    Functions of the blocks are called by a runner on each worker, a Dask actor, because
    a message to it takes a fifth of the time of a task. If a runner cannot compute a
    result, because its worker died or gave a block away, a task does, for which Dask
    computes lost blocks again.

    Attributes
    ----------
    n_rows : list of int
        Number of rows of each partition, in order.

    n_features : int

    dtype : dtype
    """

    n_rows: list[int]
    n_features: int
    dtype: np.dtype

    def __init__(self, client: "Client", blocks: "list[Future]", name: str) -> None:
        self._client, self._blocks, self._on_close = client, blocks, ExitStack()
        self._name = name
        # What is derived from the blocks, if anything.
        self._notes: list[Future | None] = [None] * len(blocks)
        # Addresses of workers, and the runners there, with futures that keep them.
        self._places: list[str | None] = [None] * len(blocks)
        self._runners: dict[str, tuple[Any, Future]] = {}
        self._is_stale = True  # whether the two have to be looked up
        self._next_tasks = time.monotonic() + _SECONDS_BETWEEN_TASKS

    @classmethod
    def of(
        cls,
        X: Any,
        client: "Client | None" = None,
        *,
        validate: Callable[[Any], Matrix],
        survey: _Survey | None = None,
        may_have_categories: bool = False,
        name: str = "X",
    ) -> Self:
        """Partitions of a collection, computed if need be.

        Parameters
        ----------
        X : dask Array or DataFrame
            Its blocks are arrays, dataframes or CSR matrices, and may have unknown
            numbers of rows, or none. Blocks that are on the workers stay there.

        client : distributed.Client, default=None
            None for the one in use; in a task, its worker's. A task leaves its thread
            to others until the partitions are closed.

        validate : callable
            Returns a C-ordered array or a CSR matrix for a block, on its worker.
            It has to be picklable, and to accept blocks without rows.

        survey : (callable, callable), default=None
            A picklable function, which is called on the workers with each block, and
            what is called with its results, in order, and returns what takes the
            place of `validate`.

        may_have_categories : bool, default=False
            Whether columns need not be numbers.

        name : str, default="X"
            Name of the collection in messages.

        Raises
        ------
        DataLostError, NoWorkersError
            As :meth:`run`. Errors of `validate` are raised, too.
        """
        check_collection(X, name, may_have_categories=may_have_categories)
        with ExitStack() as on_close:
            client = on_close.enter_context(_client_in_use(client))
            with _failures_explained(client):
                # As usual with Dask, workers may be started later.
                client.wait_for_workers(1)
                blocks = _validated(client, split(X), validate, survey, name)
            partitions = cls(client, blocks, name)
            partitions._on_close = on_close.pop_all()
        with ExitStack() as on_error, _failures_explained(client):
            on_error.callback(partitions.close)
            _wait_for(client, dict(enumerate(blocks)), name)
            kinds = partitions.run(_describe)
            partitions.n_rows = [n_rows for n_rows, _, _ in kinds]
            partitions.n_features, partitions.dtype = _common_kind(kinds, name)
            on_error.pop_all()
        return partitions

    def derive(
        self, function: Callable[..., Any], *args: Any, per_part: _PerPart = None
    ) -> Self:
        """Partitions of the results of a function of the blocks.

        What a result's `without_matrix` returns is kept on the workers beside the
        block, and its `with_matrix` takes the block and returns the result again: rows
        are in memory, and in Dask's account of it, only once. Results are kept until
        these partitions are closed, or `forget` is called.
        Arguments and errors are those of :meth:`run`.
        """
        derived = copy.copy(self)
        derived._on_close = self._on_close.enter_context(ExitStack())
        with _failures_explained(self._client):
            if self._is_stale:
                self._find_blocks()
            derived._places = self._places
            # One task holds the arguments of all, which may be large: the scheduler
            # keeps what notes are made from as long as the notes.
            with large_graphs():
                shared = self._client.submit(_together, function, *args, pure=False)
            notes = self._submit(range(len(self)), _note_of, (shared,), per_part)
            derived._notes = list(notes.values())
            derived._on_close.callback(_release, [*derived._notes, shared])
            _wait_for(self._client, notes, self._name)
            shared.release()  # the scheduler can compute it again
        return derived

    def forget(self) -> None:
        """Let Dask forget these derived results, but not the blocks."""
        self._on_close.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Let Dask forget the blocks, and what was derived from them."""
        runners = [future for _, future in self._runners.values()]
        # Blocks that are not computed yet need not be. An actor's proxy here refers to
        # itself, and would keep the actor.
        unfinished = [future for future in self._blocks if not future.done()]
        _cancel(self._client, [*unfinished, *runners])
        _release([*self._blocks, *runners])
        self._blocks = []
        self._runners.clear()
        self._on_close.close()

    def __len__(self) -> int:
        return len(self._blocks)

    def run(
        self, function: Callable[..., Result], *args: Any, per_part: _PerPart = None
    ) -> list[Result]:
        """Results of ``function(block, *args, *per_part[i])``, in order.

        Parameters
        ----------
        function : callable
            Picklable, without side effects: it may be called again when workers die.

        *args : objects
            Picklable; sent to each worker once.

        per_part : sequence of tuples, default=None
            More arguments, for each partition its own.

        Returns
        -------
        results : list

        Raises
        ------
        DataLostError
            If a partition is lost and Dask cannot compute it again, or if every
            attempt kills its worker.

        NoWorkersError
            If there are no workers, or no scheduler, for half a minute.
        """
        results = {}
        with _failures_explained(self._client):
            if time.monotonic() < self._next_tasks:
                results = self._by_runners(function, args, per_part)
            left = [i for i in range(len(self)) if i not in results]
            if left:
                results |= self._in_tasks(left, function, args, per_part)
        return [results[i] for i in range(len(self))]

    def tell_workers(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function once on each worker that answers in time."""
        client = self._client
        with suppress(Exception):
            _ask(client, lambda: client.run(function, *args, on_error="ignore"), None)

    # -- by runners ------------------------------------------------------------------

    def _by_runners(
        self, function: Callable[..., Any], args: tuple[Any, ...], per_part: _PerPart
    ) -> dict[int, Any]:
        """Results that runners could compute, by the number of the partition."""
        if self._is_stale:
            self._find_blocks()
        numbers: dict[str, list[int]] = {address: [] for address in self._runners}
        for i, place in enumerate(self._places):
            if place in numbers:
                numbers[place].append(i)
        calls: dict[str, Any] = {}
        results: dict[int, Any] = {}
        try:
            for address, of_worker in numbers.items():
                if not of_worker:
                    continue
                keys = [self._keys_of(i) for i in of_worker]
                more = None if per_part is None else [per_part[i] for i in of_worker]
                runner, _ = self._runners[address]
                try:
                    calls[address] = runner.call(function, keys, args, more)
                except (RuntimeError, ValueError):  # the worker is lost
                    self._is_stale = True
            for address, call in calls.items():
                values = self._answer(address, call)
                results |= {numbers[address][k]: v for k, v in values.items()}
        except BaseException:
            for address in calls:
                # Waits, because a cancellation that is late would hit the next call.
                with suppress(Exception):  # the worker is lost
                    runner, _ = self._runners[address]
                    runner.cancel().result(timeout=_SECONDS_BETWEEN_LOOKS)
            raise
        self._is_stale |= len(results) < len(self)
        return results

    def _keys_of(self, number: int) -> tuple[str, str | None]:
        """Keys of a block, and of what is derived from it."""
        note = self._notes[number]
        return self._blocks[number].key, None if note is None else note.key

    def _answer(self, address: str, call: Any) -> dict[int, Any]:
        """A runner's results by their positions; none if its worker is lost."""
        _, future = self._runners[address]
        while True:
            try:
                values: dict[int, Any] = call.result(timeout=_SECONDS_BETWEEN_LOOKS)
                return values
            except TimeoutError:
                if future.status != "finished" or address not in _workers(self._client):
                    return {}
            except Exception:
                # A lost worker, or values that cannot be sent: a task will tell which.
                return {}

    def _find_blocks(self) -> None:
        """Look up where blocks are, and start runners there."""
        alive = _workers(self._client)
        if not alive:
            return
        holders = self._client.who_has(self._blocks)
        found = [sorted(alive & set(holders.get(b.key, ()))) for b in self._blocks]
        self._places = [addresses[0] if addresses else None for addresses in found]
        for address, (_, future) in list(self._runners.items()):
            if address not in alive or future.status != "finished":
                del self._runners[address]
        new = {
            address: self._client.submit(
                _Runner, actor=True, workers=[address], pure=False
            )
            for address in sorted(set(filter(None, self._places)) - set(self._runners))
        }
        _wait_some_time(self._client, list(new.values()), _SECONDS_TO_ANSWER)
        with self._client.as_current():  # the actor will use it
            self._runners |= {
                address: (future.result(), future)
                for address, future in new.items()
                if future.status == "finished"
            }
        self._is_stale = False

    # -- in tasks ----------------------------------------------------------------------

    def _in_tasks(
        self,
        numbers: Iterable[int],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        per_part: _PerPart,
    ) -> dict[int, Any]:
        """Results of some partitions by their numbers."""
        self._next_tasks = time.monotonic() + _SECONDS_BETWEEN_TASKS
        futures = self._submit(numbers, function, args, per_part)
        try:
            return _gather(self._client, futures, self._name)
        except BaseException:
            _cancel(self._client, list(futures.values()))
            raise

    def _submit(
        self,
        numbers: Iterable[int],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        per_part: _PerPart,
    ) -> "dict[int, Future]":
        """Tasks on some partitions by their numbers, on the workers that hold them."""
        futures = {}
        # Scattered arguments would be lost with their worker.
        with large_graphs():
            for i in numbers:
                place, more = self._places[i], per_part[i] if per_part else ()
                where = {}
                if place is not None:
                    where = {"workers": [place], "allow_other_workers": True}
                item = self._blocks[i], self._notes[i]
                futures[i] = self._client.submit(
                    _apply, function, *item, *args, *more, pure=False, **where
                )
        return futures


class _Setting:
    """A setting of Dask, changed while at least one thread needs it.

    Settings are global: if two threads each changed it for themselves, the second to
    end would restore the change of the first.
    """

    def __init__(self, name: str, value: Any) -> None:
        self._new, self._lock, self._n_users = {name: value}, threading.Lock(), 0
        self._change: Any = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        import dask

        with self._lock:
            if not self._n_users:
                self._change = dask.config.set(self._new)
            self._n_users += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_users -= 1
                if not self._n_users:
                    self._change.__exit__(None, None, None)


# Without it, Dask warns of large arguments.
large_graphs = _Setting("distributed.admin.large-graph-warning-threshold", sys.maxsize)


def _apply(
    function: Callable[..., Result], block: Any, note: Any, *args: Any
) -> Result:
    """Call a function of a block, or of what is derived from it."""
    return function(block if note is None else note.with_matrix(block), *args)


def _together(*items: Any) -> tuple[Any, ...]:
    return items


def _note_of(item: Any, shared: tuple[Any, ...], *args: Any) -> Any:
    """What `derive` keeps of a block, or of what is derived from it.

    All partitions share the function and its first arguments.
    """
    function, *first = shared
    return function(item, *first, *args).without_matrix()


def _release(futures: "Iterable[Future]") -> None:
    """Let Dask forget results, even if tracebacks still refer to the futures."""
    for future in futures:
        future.release()


class _Runner:
    """An actor, which calls functions of the blocks that are on its worker."""

    def __init__(self) -> None:
        self._calls: list[asyncio.Future[Any]] = []

    async def call(
        self,
        function: Callable[..., Any],
        keys: list[tuple[str, str | None]],
        args: tuple[Any, ...],
        per_part: _PerPart,
    ) -> dict[int, Any]:
        """Values that could be computed, by the positions of the keys."""
        import distributed

        worker, loop = distributed.get_worker(), asyncio.get_running_loop()
        self._calls, positions = [], []
        for position, (block, note) in enumerate(keys):
            if block in worker.data and (note is None or note in worker.data):
                more = per_part[position] if per_part else ()
                work = partial(
                    self._work, worker.data, block, note, function, *args, *more
                )
                # As many at a time as the worker has threads.
                thread = worker.executors["default"]
                self._calls.append(loop.run_in_executor(thread, work))
                positions.append(position)
        values = await asyncio.gather(*self._calls, return_exceptions=True)
        # Errors are left to a task, which raises them with a traceback.
        return {
            position: value
            for position, value in zip(positions, values, strict=True)
            if not isinstance(value, BaseException)
        }

    @staticmethod
    def _work(
        data: Mapping[str, Any],
        block: str,
        note: str | None,
        function: Callable[..., Any],
        *args: Any,
    ) -> Any:
        # Not in the event loop, because the data may have to be read from disk.
        return _apply(function, data[block], data[note] if note else None, *args)

    async def cancel(self) -> None:
        """Do not start the calls that have not started."""
        for call in self._calls:
            call.cancel()


# -- from a collection to blocks ---------------------------------------------------


@contextmanager
def _client_in_use(client: "Client | None") -> "Iterator[Client]":
    """The client, or the one in use, with which this thread may wait."""
    import distributed

    if client is not None:
        check_client(client)
    with ExitStack() as on_close:
        if _is_in_task():
            # Leaves the task's thread to the tasks that it waits for.
            of_worker = on_close.enter_context(distributed.worker_client())
            client = of_worker if client is None else client
        if client is None:
            client = _default_client()
        yield client


def _is_in_task() -> bool:
    import distributed

    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


def _default_client() -> "Client":
    import distributed

    try:
        client = distributed.default_client()
    except ValueError:
        raise ValueError(
            "There is no Dask client: create one, for example "
            "distributed.Client(), or pass it as client"
        ) from None
    check_client(client)
    return client


def check_client(client: Any) -> None:
    """Raise an error if a client is not a synchronous `distributed.Client`."""
    import distributed

    if not isinstance(client, distributed.Client):
        raise TypeError(
            f"client={client!r} has to be a distributed.Client: for an address, "
            "distributed.Client(address)"
        )
    if client.asynchronous:
        raise ValueError(
            "An asynchronous client is not supported: pass a synchronous one"
        )


def check_collection(
    X: Any, name: str = "X", *, may_have_categories: bool = False
) -> None:
    """Raise an error if X is not a collection of rows of numbers, as far as is known.

    With `may_have_categories`, columns can be categories, too. Nothing is computed.
    """
    kind = type(X).__module__  # a Delayed has every attribute
    is_frame = kind.startswith("dask.dataframe")
    if not (is_frame or kind.startswith("dask.array")) or X.ndim not in (1, 2):
        raise TypeError(
            f"{name} is a {_kind_of(X)}, but has to be a Dask array or dataframe: for "
            "data in memory use AutoencoderTransformer"
        )
    if X.ndim == 1:
        raise ValueError(
            "Expected 2D array, got 1D array instead. Reshape your data using "
            f"{name}.reshape(-1, 1) if it has a single feature"
        )
    if is_frame and not may_have_categories:
        _check_columns_are_numbers(X)


def _kind_of(X: Any) -> str:
    """An object's type, as error messages name it."""
    name, n = type(X).__name__, getattr(X, "ndim", None)
    return f"{name} of {n} dimensions" if isinstance(n, int) and n > 2 else name


def split(X: Any) -> list[Any]:
    """A Delayed for each block of rows of a collection."""
    if type(X).__module__.startswith("dask.dataframe"):
        return list(X.to_delayed())
    if X.numblocks[1] > 1:
        X = X.rechunk({1: -1})
    return list(X.to_delayed().flat)


def _check_columns_are_numbers(X: Any) -> None:
    """Raise ValueError, without computing, if a dataframe has other columns."""
    others = [
        f"{name!r} ({dtype})"
        for name, dtype in X.dtypes.items()
        if getattr(dtype, "kind", "O") not in "biuf"
    ]
    if others:
        raise ValueError(
            f"The columns {', '.join(others)} are not numeric: drop them, or encode "
            "them as numbers"
        )


def _validated(
    client: "Client",
    blocks: list[Any],
    validate: Callable[[Any], Matrix],
    survey: _Survey | None,
    name: str,
) -> "list[Future]":
    """Futures of the validated blocks; see `Partitions.of` for the arguments."""
    import dask

    if survey is None:
        return _computed(client, blocks, validate)
    look, prepare = survey
    # Computed once, and kept until they are validated.
    given = [dask.delayed(f) for f in _computed(client, blocks, _unchanged)]
    found = _gather(client, dict(enumerate(_computed(client, given, look))), name)
    return _computed(client, given, prepare([found[i] for i in range(len(given))]))


def _unchanged(block: Any) -> Any:
    return block


def _computed(
    client: "Client", blocks: list[Any], function: Callable[[Any], Any]
) -> "list[Future]":
    """Futures of a function of blocks, on the workers that hold their data."""
    import dask
    import distributed

    check = dask.delayed(function, pure=False)
    lazy = [check(block) for block in blocks]
    # Optimized, a block does not refer to the futures of others.
    sources = [distributed.futures_of(block) for block in dask.optimize(*blocks)]
    everything = list(chain.from_iterable(sources))
    if not everything:
        return list(client.compute(lazy))
    holders = client.who_has(everything)
    futures = []
    for block, of_block in zip(lazy, sources, strict=True):
        where = {}
        addresses = chain.from_iterable(holders.get(f.key, ()) for f in of_block)
        counts = Counter(addresses).most_common(1)
        if counts:
            where = {"workers": [counts[0][0]], "allow_other_workers": True}
        futures.append(client.compute(block, **where))
    return futures


def _describe(block: Matrix) -> tuple[int, int, np.dtype]:
    n_rows, n_features = block.shape
    return n_rows, n_features, block.dtype


def _common_kind(
    kinds: list[tuple[int, int, np.dtype]], name: str
) -> tuple[int, np.dtype]:
    """Number of features and dtype of all the partitions."""
    _, n, dtype = kinds[0]
    for number, (_, other_n, other_dtype) in enumerate(kinds):
        if (other_n, other_dtype) != (n, dtype):
            raise ValueError(
                f"Partitions of {name} differ: number 0 has {n} features of {dtype}, "
                f"number {number} {other_n} features of {other_dtype}"
            )
    return n, dtype


# -- waiting for tasks ---------------------------------------------------------------


@contextmanager
def _failures_explained(client: "Client") -> Iterator[None]:
    """Raise our errors in place of Dask's, and of any that a lost connection causes."""
    try:
        yield
    except Exception as error:
        if client.status not in ("running", "connecting"):
            raise NoWorkersError(
                "The connection to the scheduler is lost: start a new cluster, and "
                "call again"
            ) from error
        if isinstance(error, CancelledError):
            raise DataLostError(_LOST) from error
        raise


_LOST = (
    "A partition was lost with its worker, and Dask cannot compute it again, because "
    "its data were scattered, for example; or it was cancelled. Load the data again, "
    "from files if workers may die"
)


def _ask(client: "Client", function: Callable[[], Any], nothing: Any) -> Any:
    """Result of the client's coroutine, or `nothing` if the scheduler is silent."""
    if client.status != "running":
        return nothing
    try:
        return client.sync(function, callback_timeout=_SECONDS_TO_ANSWER)
    except (OSError, TimeoutError):
        return nothing


def _workers(client: "Client") -> set[str]:
    """Addresses of the workers; none if the scheduler does not answer."""
    return set(_ask(client, lambda: client.nthreads(), {}))


def _wait_some_time(client: "Client", futures: "list[Future]", seconds: float) -> None:
    """Wait until all are done, one is cancelled, or the time is over."""
    import distributed

    with (
        client.as_current(),
        suppress(TimeoutError, asyncio.CancelledError, CancelledError),
    ):
        distributed.wait(futures, timeout=seconds)


def _wait_for(client: "Client", futures: "dict[int, Future]", name: str) -> None:
    """Wait until all are finished; raise an error if they never will be.

    The futures are given by the numbers of the partitions of the collection `name`.
    """
    idle_since = None
    while True:
        _wait_some_time(client, list(futures.values()), _SECONDS_BETWEEN_LOOKS)
        for number, future in futures.items():
            with in_partition(number, name):
                _check(future)
        if all(future.status == "finished" for future in futures.values()):
            return
        processing = _ask(client, lambda: client.processing(), {})
        if any(processing.values()):
            idle_since = None
        elif idle_since is None:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > _SECONDS_WITHOUT_WORKERS:
            raise NoWorkersError(
                f"No worker has taken a task for {_SECONDS_WITHOUT_WORKERS:g} s: the "
                "cluster has none left, all are out of memory, or the scheduler "
                "cannot be reached. Start workers, or a new cluster, and call again"
            )


@contextmanager
def in_partition(number: int, name: str = "X") -> Iterator[None]:
    """Note in errors which partition raised them."""
    try:
        yield
    except Exception as error:
        error.add_note(f"In partition {number} of {name}")
        raise


def _check(future: "Future") -> None:
    """Raise an error if a task has failed."""
    import distributed

    # A lost task becomes pending or cancelled when the scheduler notices.
    if future.status in ("pending", "finished", "lost"):
        return
    if future.status == "error":
        try:
            future.result()
        except distributed.KilledWorker as error:
            raise DataLostError(
                "Workers died in a task again and again, probably because their memory "
                "was full: use smaller partitions, or workers with more memory"
            ) from error
        except CancelledError:
            pass  # what it depends on is lost
    raise DataLostError(_LOST)


def _gather(
    client: "Client", futures: "dict[int, Future]", name: str
) -> dict[int, Any]:
    """Results of tasks by the numbers of the partitions."""

    async def gather() -> Any:
        return await client.gather(futures, asynchronous=True)

    for _ in range(_MAX_GATHERS):
        _wait_for(client, futures, name)
        try:
            return dict(client.sync(gather, callback_timeout=_SECONDS_TO_GATHER))
        except (OSError, TimeoutError, CancelledError):
            pass  # a result was lost meanwhile
    raise NoWorkersError(
        f"Workers did not deliver results in {_SECONDS_TO_GATHER:g} s: the network, or "
        "the scheduler, is in trouble. Call again when it is not"
    )


def _cancel(client: "Client", futures: "list[Future]") -> None:
    if client.status == "running" and futures:
        _ask(client, lambda: client.cancel(futures, asynchronous=True), None)
