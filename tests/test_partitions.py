"""Partitions of Dask collections on processes, some of which are killed."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from scipy import sparse
from sklearn.utils import check_array

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")
pd = pytest.importorskip("pandas")

from skae.dask import partitions  # noqa: E402
from skae.dask.partitions import DataLostError, NoWorkersError, Partitions  # noqa: E402

from .support.clusters import kill, later, make_client, make_cluster  # noqa: E402

N_ROWS = (7, 5, 0, 4)
X = np.random.default_rng(0).normal(size=(sum(N_ROWS), 3))


@pytest.fixture(scope="module")
def client():
    with make_cluster() as cluster, make_client(cluster) as client:
        yield client


def collection(dtype=np.float64):
    return da.from_array(X.astype(dtype), chunks=(N_ROWS, 3))


def checked(block):
    dtype = [np.float64, np.float32]
    return check_array(
        block, accept_sparse="csr", dtype=dtype, order="C", ensure_min_samples=0
    )


def partitions_of(X, client=None, validate=checked):
    return Partitions.of(X, client, validate=validate)


def blocks_of(rows):
    return np.split(rows, np.cumsum(N_ROWS)[:-1])


def identity(block):
    return block


def product(block, factor, *more):
    return block * factor, more


def kind_of(block):
    if sparse.issparse(block):
        return block.format, block.dtype.name
    return type(block).__name__, block.dtype.name, block.flags.c_contiguous


def pid_and_sum(block, seconds=0.0):
    time.sleep(seconds)
    return os.getpid(), block.sum()


def frame():
    return dd.from_delayed(
        [
            dask.delayed(pd.DataFrame)(block, columns=list("abc"))
            for block in blocks_of(X)
        ],
        meta=pd.DataFrame(X[:0], columns=list("abc")),
    )


COLLECTIONS = {
    "float64": (collection, np.float64),
    "float32": (lambda: collection(np.float32), np.float32),
    "integers": (lambda: collection(np.int16), np.float64),
    "parts of columns": (lambda: collection().rechunk((N_ROWS, (2, 1))), np.float64),
    "Fortran": (lambda: collection().map_blocks(np.asfortranarray), np.float64),
    "frame": (frame, np.float64),
    "unknown rows": (lambda: frame().values, np.float64),
    "float32 frame": (lambda: frame().astype(np.float32), np.float32),
    "mixed frame": (lambda: frame().astype({"b": np.float32}), np.float64),
}


@pytest.mark.parametrize(("make", "dtype"), COLLECTIONS.values(), ids=COLLECTIONS)
@pytest.mark.parametrize("persisted", [False, True])
def test_blocks_become_arrays(client, make, dtype, persisted):
    data = make()
    if persisted:
        with client.as_current():
            data = data.persist()
    with partitions_of(data, client) as parts:
        assert parts.n_rows == list(N_ROWS)
        assert parts.n_features == 3
        assert parts.dtype == dtype
        name = np.dtype(dtype).name
        assert parts.run(kind_of) == 4 * [("ndarray", name, True)]
        expected = blocks_of(np.asarray(make().compute(scheduler="sync")))
        for block, as_given in zip(parts.run(identity), expected, strict=True):
            assert np.array_equal(block, as_given.astype(dtype))


def test_sparse_blocks_stay_sparse(client):
    data = collection().map_blocks(sparse.csr_matrix)
    with partitions_of(data, client) as parts:
        assert parts.run(kind_of) == 4 * [("csr", "float64")]
        assert parts.n_rows == list(N_ROWS)


def test_results_are_in_order_with_arguments_of_each(client):
    with partitions_of(collection(), client) as parts:
        assert len(parts) == 4
        results = parts.run(product, 3.0, per_part=[(i, "x") for i in range(4)])
    for i, ((values, more), block) in enumerate(
        zip(results, blocks_of(X), strict=True)
    ):
        assert np.array_equal(values, 3 * block)
        assert more == (i, "x")


def test_a_task_now_and_then_shows_that_the_cluster_is_in_use(client, monkeypatch):
    with partitions_of(collection(), client) as parts:
        expected = [value for _, value in parts.run(pid_and_sum)]
        monkeypatch.setattr(partitions, "_SECONDS_BETWEEN_TASKS", 0.0)
        parts._next_tasks = 0.0
        monkeypatch.setattr(parts, "_by_runners", None)  # is not called
        assert [value for _, value in parts.run(pid_and_sum)] == expected


def test_large_arguments(client):
    vector = np.arange(3_000_000.0)
    with partitions_of(collection(), client) as parts:
        for by_tasks in (False, True):
            if by_tasks:
                parts._next_tasks = 0.0
            for results in parts.run(larger, vector):
                assert results == vector.size


def larger(block, vector):
    return vector.size


def fail_on_five(block):
    if len(block) == 5:
        raise ZeroDivisionError("five rows")
    return len(block)


def refuse(block):
    raise ValueError("not to my taste")


def test_errors_of_functions_are_raised(client):
    with partitions_of(collection(), client) as parts:
        with pytest.raises(ZeroDivisionError, match="five rows") as caught:
            parts.run(fail_on_five)
        assert caught.value.__notes__ == ["In partition 1 of X"]
        assert parts.run(len) == list(N_ROWS)
    with pytest.raises(ValueError, match="not to my taste"):
        partitions_of(collection(), client, refuse)
    with pytest.raises(ValueError, match="contains NaN"):
        partitions_of(collection() * np.nan, client)


def widen_five(block):
    return np.c_[block, block] if len(block) == 5 else block


def test_what_is_no_matrix(client):
    with pytest.raises(ValueError, match="0 has 3 features of float64, number 1 6"):
        partitions_of(collection(), client, widen_five)
    with pytest.raises(TypeError, match="ndarray, but has to be a Dask array"):
        partitions_of(X, client)
    for vector in (collection()[:, 0], frame()["a"]):
        with pytest.raises(ValueError, match="Expected 2D array, got 1D"):
            partitions_of(vector, client)


def test_client_in_use(client):
    with pytest.raises(
        ValueError, match=r"create one, for example distributed\.Client"
    ):
        partitions_of(collection())
    with client.as_current(), partitions_of(collection()) as parts:
        assert parts.run(len) == list(N_ROWS)


def test_a_setting_that_two_threads_want():
    name, before = "of-a-test", dask.config.get("of-a-test", "none")
    setting = partitions._Setting(name, 1)
    first, second = setting(), setting()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert dask.config.get(name) == 1
    second.__exit__(None, None, None)
    assert dask.config.get(name, "none") == before


def leave_a_file(block, folder):
    time.sleep(1.0)
    (folder / str(len(block))).touch()


@pytest.mark.parametrize("by_tasks", [False, True])
def test_interrupt(client, tmp_path, by_tasks):
    with partitions_of(collection(), client) as parts:
        if by_tasks:
            parts._next_tasks = 0.0
        main_thread = threading.main_thread().ident
        timer = later(0.5, signal.pthread_kill, main_thread, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            parts.run(leave_a_file, tmp_path)
        timer.join()
        # After what had begun: one on each worker.
        assert parts.run(len) == list(N_ROWS)
        assert len(list(tmp_path.iterdir())) <= 2


def test_blocks_that_have_moved(client):
    with partitions_of(collection(), client) as parts:
        expected = parts.run(pid_and_sum)
        places = parts._places
        assert len(set(places)) == 2
        elsewhere = dict(
            zip(sorted(set(places)), sorted(set(places))[::-1], strict=True)
        )
        parts._places = [elsewhere[place] for place in places]
        results = parts.run(pid_and_sum)
        assert [value for _, value in results] == [value for _, value in expected]
        assert parts._is_stale
        assert parts.run(len) == list(N_ROWS)
        assert not parts._is_stale


@pytest.mark.soak
def test_workers_die_meanwhile(mortal_client):
    """While runners are asked, then while tasks are."""
    with partitions_of(collection(), mortal_client) as parts:
        before = parts.run(pid_and_sum)
        for victim in sorted({pid for pid, _ in before}):
            timer = later(0.5, kill, victim)
            after = parts.run(pid_and_sum, 0.4)
            timer.join()
            assert victim not in {pid for pid, _ in after}
            assert [value for _, value in after] == [value for _, value in before]
            # And from then on where the blocks are now.
            for _ in range(2):
                again = parts.run(pid_and_sum)
                assert victim not in {pid for pid, _ in again}
                assert [value for _, value in again] == [value for _, value in before]
            assert not parts._is_stale
            parts._next_tasks = 0.0


def die(block):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.soak
def test_until_nothing_is_left(monkeypatch):
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        make_cluster(1) as cluster,
        make_client(cluster) as client,
        partitions_of(collection(), client) as parts,
    ):
        parts._next_tasks = 0.0  # runners would have the worker killed once more
        with pytest.raises(DataLostError, match="died in a task again and again"):
            parts.run(die)
        # The nanny starts a worker anew.
        assert parts.run(len) == list(N_ROWS)

        monkeypatch.setattr(partitions, "_SECONDS_WITHOUT_WORKERS", 1.0)
        monkeypatch.setattr(partitions, "_SECONDS_BETWEEN_LOOKS", 0.2)
        cluster.scale(0)
        while client.nthreads():
            time.sleep(0.05)
        start = time.monotonic()
        with pytest.raises(NoWorkersError, match="No worker has taken a task for 1 s"):
            parts.run(len)
        assert time.monotonic() - start < 10

        cluster.close()
        with pytest.raises(NoWorkersError, match="connection to the scheduler is lost"):
            parts.run(len)
