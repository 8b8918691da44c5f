"""The partitions of a Dask collection, and functions of them on their workers.

Dask is imported when it is used. Nothing here knows of networks.
"""

import asyncio
import copy
import sys
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain
from typing import Any

# Of a wait, between two looks at whether the workers are still there.
_SECONDS_BETWEEN_LOOKS = 1.0
# Without any worker, or an answer of the scheduler, before that is an error. A nanny
# needs some seconds to start a worker anew.
_SECONDS_WITHOUT_WORKERS = 30.0
# For an answer of the scheduler, and for a worker that is busy with others' tasks to
# start a runner: its partitions are computed in tasks until the next look.
_SECONDS_TO_ANSWER = 5.0
# Schedulers may close a cluster in which no task has run for some minutes.
_SECONDS_BETWEEN_TASKS = 30.0
# For results, which may be lost while they are sent: then once more.
_SECONDS_TO_GATHER, _MAX_GATHERS = 60.0, 3


class LostError(RuntimeError):
    """What was to be computed of the partitions cannot be had."""


class NoWorkersError(LostError):
    """The cluster has no workers, or cannot be reached.

    Examples
    --------
    >>> from skae.dask import NoWorkersError
    >>> try:  # doctest: +SKIP
    ...     autoencoder.fit(X)
    ... except NoWorkersError:
    ...     client.cluster.scale(4)
    ...     autoencoder.set_params(warm_start=True).fit(X)  # goes on
    """

    __module__ = "skae.dask"  # where users find it, and pickles look for it


class DataLostError(LostError):
    """A partition, or what was to be computed of it, cannot be had any more.

    Examples
    --------
    >>> from skae.dask import DataLostError
    >>> try:  # doctest: +SKIP
    ...     autoencoder.fit(X)
    ... except DataLostError:
    ...     X = da.from_zarr("rows.zarr")  # anew
    ...     autoencoder.set_params(warm_start=True).fit(X)  # goes on
    """

    __module__ = "skae.dask"  # where users find it, and pickles look for it


class Partitions:
    """The blocks of rows of a Dask collection, on the workers that hold them.

    A context manager: in the end Dask may forget the blocks.

    Functions of the blocks are called by a runner on each worker, a Dask actor, as one
    message to it takes a fifth of the time that a task does. What a runner cannot do,
    as its worker died or gave a block away, is done again in tasks, for which Dask
    computes lost blocks anew.

    Attributes
    ----------
    n_rows : list of int
        Of each partition, in order.

    n_features : int

    dtype : dtype
    """

    def __init__(self, client, blocks, name):
        self._client, self._blocks, self._on_close = client, blocks, ExitStack()
        self._name = name
        self._notes: list[Any] = [None] * len(blocks)  # what is derived of the blocks
        # Addresses of workers, and the runners there, with futures that keep them.
        self._places: list[str | None] = [None] * len(blocks)
        self._runners: dict[str, tuple] = {}
        self._is_stale = True  # whether the two are to be looked up
        self._next_tasks = time.monotonic() + _SECONDS_BETWEEN_TASKS
        self.n_rows: list[int] = []
        self.n_features, self.dtype = 0, None

    @classmethod
    def of(cls, X, client=None, *, validate, name="X"):
        """Partitions of a collection, computed where need be.

        Parameters
        ----------
        X : dask Array or DataFrame
            Its blocks are arrays, dataframes or CSR matrices, and may have unknown
            numbers of rows, or none. Blocks that are on the workers stay there.

        client : distributed.Client, default=None
            None for the one in use, in a task that of its worker. A task gives its
            thread up to others until the partitions are closed.

        validate : callable
            What makes of a block a C-ordered array or a CSR matrix, on its worker.
            It has to be picklable, and to accept blocks without rows.

        name : str, default="X"
            What messages call the collection.

        Raises
        ------
        DataLostError, NoWorkersError
            As :meth:`run`; and what `validate` raises.
        """
        check_collection(X, name)
        with ExitStack() as on_close:
            client = on_close.enter_context(_client_in_use(client))
            with _failures_explained(client):
                # As ever with Dask: there may be none before someone starts them.
                client.wait_for_workers(1)
                blocks = _validated(client, split(X), validate)
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

    def derive(self, function, *args, per_part=None):
        """Partitions of what a function makes of the blocks.

        The results have a method `without_matrix`, whose result is kept on the workers
        beside the block, and that a method `with_matrix`, which takes the block and
        returns the whole: the rows so are in memory, and in Dask's account of it, once.
        They are kept until these partitions are closed, or `forget` is called.
        The arguments, and what is raised, are those of :meth:`run`.
        """
        derived = copy.copy(self)
        derived._on_close = self._on_close.enter_context(ExitStack())
        with _failures_explained(self._client):
            if self._is_stale:
                self._find_blocks()
            derived._places = self._places
            # One task has what all need, which may be large: the scheduler keeps what
            # notes are made of as long as them.
            with large_graphs():
                shared = self._client.submit(_together, function, *args, pure=False)
            notes = self._submit(range(len(self)), _note_of, (shared,), per_part)
            derived._notes = list(notes.values())
            derived._on_close.callback(_release, [*derived._notes, shared])
            _wait_for(self._client, notes, self._name)
            shared.release()  # there is the recipe
        return derived

    def forget(self):
        """Let Dask forget what was derived, but not the blocks; of derived ones."""
        self._on_close.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def close(self):
        """Let Dask forget the blocks, and what was derived of them."""
        runners = [future for _, future in self._runners.values()]
        # What is not computed yet need not be; and what is left of an actor here refers
        # to itself, and would keep it.
        unfinished = [future for future in self._blocks if not future.done()]
        _cancel(self._client, [*unfinished, *runners])
        _release([*self._blocks, *runners])
        self._blocks = []
        self._runners.clear()
        self._on_close.close()

    def __len__(self):
        return len(self._blocks)

    def run(self, function, *args, per_part=None):
        """Results of ``function(block, *args, *per_part[i])``, in order.

        Parameters
        ----------
        function : callable
            Picklable, and without effects, as it may be called again when workers die.

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
            If a partition is lost and Dask has no recipe to compute it again, or if
            workers die of every attempt.

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

    def tell_workers(self, function, *args):
        """Call a function once on every worker, as far as they answer in time."""
        client = self._client
        with suppress(Exception):
            _ask(client, lambda: client.run(function, *args, on_error="ignore"), None)

    # -- by runners ------------------------------------------------------------------

    def _by_runners(self, function, args, per_part):
        """Results by the number of the partition, as far as runners could have them."""
        if self._is_stale:
            self._find_blocks()
        numbers: dict[str, list[int]] = {address: [] for address in self._runners}
        for i, address in enumerate(self._places):
            if address in numbers:
                numbers[address].append(i)
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
                # Before a next call, which would be cancelled in its place.
                with suppress(Exception):  # the worker is lost
                    runner, _ = self._runners[address]
                    runner.cancel().result(timeout=_SECONDS_BETWEEN_LOOKS)
            raise
        self._is_stale |= len(results) < len(self)
        return results

    def _keys_of(self, number):
        """Of a block, and of what is derived of it."""
        note = self._notes[number]
        return self._blocks[number].key, None if note is None else note.key

    def _answer(self, address, call):
        """A runner's results; none if its worker is lost."""
        _, future = self._runners[address]
        while True:
            try:
                return call.result(timeout=_SECONDS_BETWEEN_LOOKS)
            except TimeoutError:
                if future.status != "finished" or address not in _workers(self._client):
                    return {}
            except Exception:
                # A lost worker, or values that cannot be sent: a task will tell which.
                return {}

    def _find_blocks(self):
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
        with self._client.as_current():  # which the actor will use
            self._runners |= {
                address: (future.result(), future)
                for address, future in new.items()
                if future.status == "finished"
            }
        self._is_stale = False

    # -- in tasks ----------------------------------------------------------------------

    def _in_tasks(self, numbers, function, args, per_part):
        """Results of some partitions by their numbers."""
        self._next_tasks = time.monotonic() + _SECONDS_BETWEEN_TASKS
        futures = self._submit(numbers, function, args, per_part)
        try:
            return _gather(self._client, futures, self._name)
        except BaseException:
            _cancel(self._client, list(futures.values()))
            raise

    def _submit(self, numbers, function, args, per_part):
        """Tasks of some partitions by their numbers, where these are."""
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
    """A setting of Dask, changed while at least one thread wants that.

    Settings are the process': with a change of its own each, of two threads the second
    to end would restore what the first had changed.
    """

    def __init__(self, name, value):
        self._new, self._lock, self._n_users = {name: value}, threading.Lock(), 0
        self._change: Any = None

    @contextmanager
    def __call__(self):
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


# Dask would warn of large arguments.
large_graphs = _Setting("distributed.admin.large-graph-warning-threshold", sys.maxsize)


def _apply(function, block, note, *args):
    """A function of a block, or of what is derived of it."""
    return function(block if note is None else note.with_matrix(block), *args)


def _together(*items):
    return items


def _note_of(item, shared, *args):
    """What a function makes of a block, or of what is derived of it, but the block.

    The function and its first arguments are shared by all.
    """
    function, *first = shared
    return function(item, *first, *args).without_matrix()


def _release(futures):
    """Let Dask forget, though others, as tracebacks, may know of the futures."""
    for future in futures:
        future.release()


class _Runner:
    """An actor, which calls functions of the blocks that are on its worker."""

    def __init__(self):
        self._calls = []

    async def call(self, function, keys, args, per_part):
        """Values by the positions of the keys, as far as they could be had."""
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
        # An error is a task's to raise, with its traceback.
        return {
            position: value
            for position, value in zip(positions, values, strict=True)
            if not isinstance(value, BaseException)
        }

    @staticmethod
    def _work(data, block, note, function, *args):
        # Here, not in the event loop, as they may have to be read from a disk.
        return _apply(function, data[block], data[note] if note else None, *args)

    async def cancel(self):
        """Do not begin what has not begun."""
        for call in self._calls:
            call.cancel()


# -- from a collection to blocks ---------------------------------------------------


@contextmanager
def _client_in_use(client):
    """The client, or the one in use, which may wait here."""
    import distributed

    if client is not None:
        check_client(client)
    with ExitStack() as on_close:
        if _is_in_task():
            # It leaves its thread to those that it waits for.
            of_worker = on_close.enter_context(distributed.worker_client())
            client = of_worker if client is None else client
        if client is None:
            client = _default_client()
        yield client


def _is_in_task():
    import distributed

    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


def _default_client():
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


def check_client(client):
    """Raise an error if it is not one of the kind that is supported."""
    import distributed

    if not isinstance(client, distributed.Client):
        raise TypeError(
            f"client={client!r} has to be a distributed.Client: for an address, "
            "distributed.Client(address)"
        )
    if client.asynchronous:
        raise ValueError("An asynchronous client is not supported: pass a synchronous")


def check_collection(X, name="X"):
    """Raise an error if it is no collection of rows of numbers, as far as is known.

    Nothing is computed.
    """
    kind = type(X).__module__  # of a Delayed every attribute is there
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
    if is_frame:
        _check_columns_are_numbers(X)


def _kind_of(X):
    """What a message calls it."""
    name, n = type(X).__name__, getattr(X, "ndim", None)
    return f"{name} of {n} dimensions" if isinstance(n, int) and n > 2 else name


def split(X):
    """A Delayed of each block of rows of a collection."""
    if type(X).__module__.startswith("dask.dataframe"):
        return X.to_delayed()
    if X.numblocks[1] > 1:
        X = X.rechunk({1: -1})
    return X.to_delayed().ravel().tolist()


def _check_columns_are_numbers(X):
    """Raise ValueError if a dataframe has other columns, before it is computed."""
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


def _validated(client, blocks, validate):
    """Futures of the blocks, as they are to be, where they have been before."""
    import dask
    import distributed

    check = dask.delayed(validate, pure=False)
    lazy = [check(block) for block in blocks]
    # Optimized, each knows of no other block's futures.
    sources = [distributed.futures_of(block) for block in dask.optimize(*blocks)]
    everything = list(chain.from_iterable(sources))
    if not everything:
        return client.compute(lazy)
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


def _describe(block):
    return (*block.shape, block.dtype)


def _common_kind(kinds, name):
    """Number of features and dtype of all the partitions."""
    (_, *first), *_ = kinds
    for number, (_, *kind) in enumerate(kinds):
        if kind != first:
            (n, dtype), (other_n, other_dtype) = first, kind
            raise ValueError(
                f"Partitions of {name} differ: number 0 has {n} features of {dtype}, "
                f"number {number} {other_n} features of {other_dtype}"
            )
    return first


# -- waiting for tasks ---------------------------------------------------------------


@contextmanager
def _failures_explained(client):
    """Errors of Dask's own as ours, and whatever a lost connection has led to."""
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
    "A partition was lost with its worker, and there is no recipe to compute it again, "
    "as for data that were scattered; or it was cancelled. Load the data anew, from "
    "files where workers may die"
)


def _ask(client, function, nothing):
    """What a coroutine function of the client returns, if the scheduler answers."""
    if client.status != "running":
        return nothing
    try:
        return client.sync(function, callback_timeout=_SECONDS_TO_ANSWER)
    except (OSError, TimeoutError):
        return nothing


def _workers(client):
    """Addresses of the workers; none if the scheduler does not answer."""
    return set(_ask(client, lambda: client.nthreads(), {}))


def _wait_some_time(client, futures, seconds):
    """Wait until all are done, or one is cancelled."""
    import distributed

    with (
        client.as_current(),
        suppress(TimeoutError, asyncio.CancelledError, CancelledError),
    ):
        distributed.wait(futures, timeout=seconds)


def _wait_for(client, futures, name):
    """Wait until all are finished, or raise why they never will be.

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
def in_partition(number, name="X"):
    """Let errors say in which partition they were raised."""
    try:
        yield
    except Exception as error:
        error.add_note(f"In partition {number} of {name}")
        raise


def _check(future):
    """Raise an error if a task has failed."""
    import distributed

    # What is lost will be pending or cancelled, when the scheduler knows.
    if future.status in ("pending", "finished", "lost"):
        return
    if future.status == "error":
        try:
            future.result()
        except distributed.KilledWorker as error:
            raise DataLostError(
                "Workers died of a task again and again, most likely for want of "
                "memory: use smaller partitions, or workers with more memory"
            ) from error
        except CancelledError:
            pass  # for want of what it depends on
    raise DataLostError(_LOST)


def _gather(client, futures, name):
    """Results of tasks by the numbers of the partitions."""

    async def gather():
        return await client.gather(futures, asynchronous=True)

    for _ in range(_MAX_GATHERS):
        _wait_for(client, futures, name)
        try:
            return client.sync(gather, callback_timeout=_SECONDS_TO_GATHER)
        except (OSError, TimeoutError, CancelledError):
            pass  # a result was lost meanwhile
    raise NoWorkersError(
        f"Workers did not deliver results in {_SECONDS_TO_GATHER:g} s: the network, or "
        "the scheduler, is in trouble. Call again when it is not"
    )


def _cancel(client, futures):
    if client.status == "running" and futures:
        _ask(client, lambda: client.cancel(futures, asynchronous=True), None)
