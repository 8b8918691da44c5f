"""Dask clusters of processes on this machine, and their end."""

import contextlib
import os
import signal
import threading

import pytest

distributed = pytest.importorskip("distributed")


def make_cluster(n_workers=2):
    """A cluster of single-threaded processes."""
    return distributed.LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        memory_limit=0,
    )


def make_client(cluster):
    """A client that is used only where it is named."""
    return distributed.Client(cluster, set_as_default=False)


@contextlib.contextmanager
def threads(n_threads):
    """The client of a cluster of one process with so many threads."""
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=n_threads,
            dashboard_address=":0",
            memory_limit=0,
        ) as cluster,
        make_client(cluster) as client,
    ):
        yield client


def bytes_moved(dask_worker):
    """How much data a worker has received from others."""
    return sum(entry["total"] for entry in dask_worker.transfer_incoming_log)


def kill(pid):
    """End a process as the system does when memory runs out."""
    os.kill(pid, signal.SIGKILL)


def later(seconds, function, *args):
    """Call a function from another thread, which is returned."""
    timer = threading.Timer(seconds, function, args)
    timer.start()
    return timer
