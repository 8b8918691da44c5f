"""Jobs in processes of their own, and the threads of whatever process this is."""

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path

import pytest
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_info

from skae._runtime import threads

from .cases import times

# Seconds after which a process counts as hung; a cold kernel cache costs most of it.
PATIENCE = times(240, 900)


@contextlib.contextmanager
def team_sizes():
    """Yields a list to which every team adds its number of threads."""
    sizes, init = [], threads.ThreadTeam.__init__

    def spy(team, n_threads):
        sizes.append(n_threads)
        init(team, n_threads)

    threads.ThreadTeam.__init__ = spy
    try:
        yield sizes
    finally:
        threads.ThreadTeam.__init__ = init


@contextlib.contextmanager
def allowed(n_threads, *, min_flops=1):
    """Use `n_threads` threads, for little work too; yields the sizes of the teams."""
    with pytest.MonkeyPatch.context() as patch, team_sizes() as sizes:
        patch.setattr(threads, "n_threads_allowed", lambda: n_threads)
        patch.setattr(threads, "_MIN_FLOPS_TO_START", min_flops)
        patch.setattr(threads, "_MIN_FLOPS_TO_MEET", min_flops)
        yield sizes


@contextlib.contextmanager
def interrupted_call(owner, name, number=1):
    """Raise KeyboardInterrupt at so many-th a call of a module's or class' function.

    The others do their work. Yields a list to which every call is added.
    """
    function, calls = getattr(owner, name), []

    def call(*args, **kwargs):
        calls.append(args)
        if len(calls) == number:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, call)
        yield calls


def blas_threads():
    """Number of threads of each BLAS, by its file."""
    return {
        library["filepath"]: library["num_threads"]
        for library in threadpool_info()
        if library["user_api"] == "blas"
    }


def our_threads():
    return [t.name for t in threading.enumerate() if t.name.startswith("skae")]


def in_fork(function, *args, timeout=30):
    """Whether a function returns something true in a forked process, in time."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if function(*args) else 1)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def score_and_tell(folder, estimator, X, y=None):
    """A score, of a worker that tells its number and takes some time."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(0.1)
    return estimator.score(X)


def in_new_process(job, *args, timeout=PATIENCE, without=(), **environment):
    """What a function of a test module returns in a new process; fails if it hangs.

    Of the environment, the variables in `without` are not handed on.
    """
    inherited = {k: v for k, v in os.environ.items() if k not in without}
    code = "from tests.support.processes import main; main()"
    names = job.__module__, job.__name__
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code, *names, str(timeout - 10)],
            input=json.dumps(args),
            cwd=Path(__file__).parents[2],
            env={**inherited, **environment},
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"{job.__name__} hangs: {(error.stderr or b'').decode()}")
    assert ended.returncode == 0, f"exit code {ended.returncode}: {ended.stderr}"
    return json.loads(ended.stdout.splitlines()[-1])


def main():
    """Run a job in its own process: see `in_new_process`."""
    module, job, seconds = sys.argv[1:]
    faulthandler.enable()
    faulthandler.dump_traceback_later(float(seconds))
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ConvergenceWarning)
    # Of any thread, such as BLAS', that the child will not have.
    warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
    result = getattr(importlib.import_module(module), job)(*json.load(sys.stdin))
    print(json.dumps(result))
