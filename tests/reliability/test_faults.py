"""Faults, with real processes and real files: what they hit is as before, or usable."""

import contextlib
import errno
import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.model_selection import GridSearchCV

import skae
from skae._compiled.cache import _Cache, digest_of_sources
from skae._compiled.compilation import c_functions
from skae.callbacks import Checkpoint
from skae.io import load, save

from ..support.cases import times
from ..support.processes import (
    allowed,
    blas_threads,
    in_fork,
    in_new_process,
    our_threads,
    score_and_tell,
)
from .support import NAMES, SEED, assert_usable, copy_of, make, rows, state_of

pytestmark = pytest.mark.reliability

FAULTS = "faults survived"


# -- Ctrl-C ----------------------------------------------------------------------------


class Interrupts:
    """Ctrl-C to this process, after a while; knows when Python was told."""

    def __init__(self):
        self.n_sent = self.n_received = 0
        # A process in the background may have inherited that it is ignored.
        signal.signal(signal.SIGINT, self._receive)

    def _receive(self, number, frame):
        self.n_received += 1
        raise KeyboardInterrupt

    def send_after(self, seconds):
        self.n_sent += 1

        def send():
            time.sleep(seconds)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=send, daemon=True).start()

    def wait(self):
        """Until the last that was sent has come, and done no harm."""
        try:
            while self.n_received < self.n_sent:
                time.sleep(0.001)
        except KeyboardInterrupt:
            pass


def interrupted_fit(model, X, interrupts, seconds):
    """Fit, with Ctrl-C after so many seconds; what came of it."""
    before, caught, outcome = state_of(model), [], None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            interrupts.send_after(seconds)
            model.fit(X)
            outcome = "fit had ended"
    except KeyboardInterrupt:
        # It may have come when fit had returned, before anybody could note so.
        outcome = "as before" if state_of(model) == before else "fit had ended"
    interrupts.wait()
    if any("interrupted" in str(warning.message) for warning in caught):
        outcome = "usable, with a warning"
    if outcome != "as before":
        assert_usable(model, X)
    return outcome


def job_interrupts(n_interrupts, seed):
    rng, outcomes, interrupts = random.Random(seed), Counter(), Interrupts()
    X, threads_before = rows(), blas_threads()
    for n in range(n_interrupts):
        with allowed(1 + n % 2):
            model = make(rng.choice(NAMES), max_iter=rng.choice([1, 30]))
            if rng.random() < 0.5:  # else there is nothing to be as before
                model.fit(X[:50])
            expected = copy_of(model)
            begin = time.perf_counter()
            expected.fit(X)
            duration = time.perf_counter() - begin
            seconds = duration * rng.random()
            outcomes[interrupted_fit(model, X, interrupts, seconds)] += 1
            assert blas_threads() == threads_before
            assert not our_threads()
            assert state_of(model.fit(X)) == state_of(expected)
    return outcomes


def test_interrupts(count):
    n_interrupts = times(10, 800)
    outcomes = in_new_process(job_interrupts, n_interrupts, SEED)
    assert sum(outcomes.values()) == n_interrupts
    for outcome, n in outcomes.items():
        count(FAULTS, f"Ctrl-C in a fit: {outcome}", n)


class InterruptAtCall:
    """Ctrl-C when skae calls for the nth time, or C code it has called returns.

    These are the moments at which Python looks for signals.
    """

    folder = str(Path(skae.__file__).parent)

    def __init__(self, at):
        self.at, self.n_calls = at, 0

    def __enter__(self):
        sys.setprofile(self._see)

    def __exit__(self, *exc_info):
        sys.setprofile(None)

    def _see(self, frame, event, function):
        if event not in ("call", "c_return"):
            return
        if not frame.f_code.co_filename.startswith(self.folder):
            return
        self.n_calls += 1
        if self.n_calls == self.at:
            sys.setprofile(None)
            raise KeyboardInterrupt


def moments(n_calls):
    """Which calls to interrupt."""
    step = -(-n_calls // times(30, 500))
    return range(1 + SEED % step, n_calls + 1, step)


# Python loses an exception that comes while it closes a generator of whose items not
# all were asked for, as the last reference to it goes: it tells, and the call goes on.
loses_interrupts = pytest.mark.filterwarnings(
    r"ignore:Exception ignored in. <generator[\s\S]*KeyboardInterrupt"
    ":pytest.PytestUnraisableExceptionWarning"
)


@loses_interrupts
@pytest.mark.parametrize("name", ["default", "lbfgs", "variational"])
def test_interrupts_at_any_call(name, count):
    X, threads_before = rows(), blas_threads()
    # With attributes that the next fit does not leave.
    fitted = (
        make(name, early_stopping=True).fit(X[:50]).set_params(early_stopping=False)
    )
    expected, calls = copy_of(fitted), InterruptAtCall(None)
    with calls:
        expected.fit(X)
    states = {"as before": state_of(fitted), "fit had ended": state_of(expected)}
    for at in moments(calls.n_calls):
        model = copy_of(fitted)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with contextlib.suppress(KeyboardInterrupt), InterruptAtCall(at):
                model.fit(X)
        outcomes = [name for name, state in states.items() if state == state_of(model)]
        if any("interrupted" in str(warning.message) for warning in caught):
            outcomes = ["usable, with a warning"]
            assert_usable(model, X)
        assert blas_threads() == threads_before, at
        assert not our_threads(), at
        assert len(outcomes) == 1, at
        count(FAULTS, f"Ctrl-C at a call in a fit: {outcomes[0]}")
    assert state_of(model.fit(X)) == states["fit had ended"]


@loses_interrupts
def test_interrupts_of_save(count, tmp_path):
    path, models = tmp_path / "model.safetensors", [make("minibatch"), make("tied")]
    for model in models:
        model.fit(rows())
    states, calls = [state_of(model) for model in models], InterruptAtCall(None)
    with calls:
        save(models[0], path)
    for at in moments(calls.n_calls):
        save(models[0], path)
        with contextlib.suppress(KeyboardInterrupt), InterruptAtCall(at):
            save(models[1], path)
        assert state_of(load(path)) in states, at
        assert [*tmp_path.iterdir()] == [path], at
        count(FAULTS, "Ctrl-C at a call in save: the file is old or new")


# -- files -----------------------------------------------------------------------------


def large_model(random_state):
    """One whose file takes some milliseconds to write."""
    parameters = {"hidden_layer_sizes": (400,), "random_state": random_state}
    return make("minibatch", **parameters).fit(rows(n_features=40))


def job_kills_in_save(folder, n_kills, seed):
    rng, found = random.Random(seed), Counter()
    path = Path(folder) / "model.safetensors"
    models = [large_model(0), large_model(1)]
    states = [state_of(model) for model in models]
    begin = time.perf_counter()
    save(models[0], path)
    duration = time.perf_counter() - begin
    for _ in range(n_kills):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, b"!")
            while True:
                for model in reversed(models):
                    save(model, path)
        os.read(reader, 1)
        time.sleep(4 * duration * rng.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
        found[states.index(state_of(load(path)))] += 1
    save(models[1], path)
    assert state_of(load(path)) == states[1]
    return [found[0], found[1]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_kills_during_save(count, tmp_path):
    n_kills = times(15, 300)
    found = in_new_process(job_kills_in_save, str(tmp_path), n_kills, SEED)
    assert sum(found) == n_kills
    assert min(found) > 0  # some before the file was replaced, and some after
    count(FAULTS, "SIGKILL during save", n_kills)


def job_kills_of_fits(folder):
    names = ("minibatch", "lbfgs", "variational")
    return [kill_of_a_fit(Path(folder) / name, name) for name in names]


def kill_of_a_fit(path, name):
    """A fit with checkpoints is killed; another process finishes it."""
    X = rows()
    fit = {"max_iter": 300, "tol": 0, "n_iter_no_change": np.inf}
    model = make(name, **fit, early_stopping=False)
    whole = copy_of(model).fit(X)
    child = os.fork()
    if child == 0:
        model.set_callbacks(Checkpoint(path, every_n_epochs=7)).fit(X)
        time.sleep(1000)
    while not (path.exists() and load(path).n_iter_ >= 14):
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    loaded = load(path)
    n_saved = loaded.n_iter_
    loaded.set_params(warm_start=True).fit(X).set_params(warm_start=False)
    assert state_of(loaded) == state_of(whole)
    return n_saved


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_kills_of_fits_with_checkpoints(count, tmp_path):
    pytest.importorskip("sklearn.callback")
    for n_saved in in_new_process(job_kills_of_fits, str(tmp_path)):
        assert 14 <= n_saved <= 300
        count(FAULTS, "SIGKILL of a fit with checkpoints: the same bits when finished")


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """Function that mounts a file system of so many KiB; returns its folder."""
    mounted = []

    def mount(kibibytes):
        folder = tmp_path_factory.mktemp("small_disk")
        options = ["-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(folder)]
        try:
            subprocess.run(["mount", *options], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("may not mount a tmpfs")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_fit_batches_on_a_full_disk(count, small_disk, monkeypatch):
    """For rows that are held out: the estimator stays as it was, and no file."""
    folder, X = small_disk(64), rows(4000)
    model = make("early_stopping", validation_fraction=0.5).fit(rows())
    before = state_of(model)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    for _ in range(times(3, 30)):
        with pytest.raises(OSError) as caught:  # noqa: PT011
            model.fit_batches(lambda: np.split(X, 4))
        assert caught.value.errno == errno.ENOSPC
        assert state_of(model) == before
        assert not [*folder.iterdir()]
        count(FAULTS, "fit_batches on a full disk: the estimator is as before")
    monkeypatch.undo()
    model.fit_batches(lambda: np.split(X, 4))


def test_save_on_a_full_disk(count, small_disk):
    folder, model = small_disk(128), large_model(0)
    small = make("minibatch").fit(rows())
    path = folder / "model.safetensors"
    save(small, path)
    for n in range(times(5, 50)):
        with pytest.raises(OSError) as caught:  # noqa: PT011
            save(model, path)
        assert caught.value.errno == errno.ENOSPC
        assert state_of(load(path)) == state_of(small)
        assert [*folder.iterdir()] == [path]
        # What fits is written, once more.
        small.fit(rows(100 + n))
        save(small, path)
        assert state_of(load(path)) == state_of(small)
        count(FAULTS, "save on a full disk")


# -- Numba's cache ---------------------------------------------------------------------


def _fit_all(expected, functions=None):
    """Look for machine code, of some functions only, as a new process does, and fit."""
    for function in functions or c_functions():
        function._compiled.clear()
    for name, state in expected.items():
        assert state_of(make(name).fit(rows())) == state


def warm_cache(source):
    """Copy machine code to where this process looks for it; returns the folder."""
    (folder,) = {Path(_Cache(f.function).cache_path) for f in c_functions()}
    for file in Path(source).glob(
        f"*_{digest_of_sources()}*"
    ):  # not those of older sources
        shutil.copy2(file, folder)
    return folder


CACHED = ("minibatch", "no_hidden")


def cached_states():
    return {name: state_of(make(name).fit(rows())) for name in CACHED}


def _hits(functions=None):
    functions = functions or c_functions()
    return sum(c._cache_hits for f in functions for c in f._compiled.values())


def truncate(path, rng):
    os.truncate(path, rng.randrange(path.stat().st_size))


def flip(path, rng):
    contents = bytearray(path.read_bytes())
    for _ in range(len(contents) // 50):
        contents[rng.randrange(len(contents))] ^= 1 << rng.randrange(8)
    path.write_bytes(contents)


def overwrite(path, rng):
    """Other code, which would run."""
    contents = bytearray(path.read_bytes())
    begin = contents.find(b"\x7fELF") + 64
    contents[begin : begin + 64] = b"\xc3" * 64  # returns at once, on x86
    path.write_bytes(contents)


def fill_with_noise(path, rng):
    path.write_bytes(rng.randbytes(path.stat().st_size))


def remove(path, rng):
    path.unlink()


def job_damaged_cache(source, n_rounds, seed):
    """Machine code on disk that is damaged is compiled once more."""
    rng, damaged, n_compiled = random.Random(seed), Counter(), 0
    folder, expected = warm_cache(source), cached_states()
    n_functions = _hits()
    assert n_functions == sum(len(f._compiled) for f in c_functions())
    used = {f.function.__qualname__ for f in c_functions() if f._compiled}
    files = [f for f in folder.iterdir() if f.name.split("-")[0].split(".")[-1] in used]
    for _ in range(n_rounds):
        for damage in (truncate, flip, overwrite, fill_with_noise, remove):
            for kind in ("nbi", "nbc"):
                of_kind = [f for f in files if f.suffix == f".{kind}" and f.exists()]
                # The largest take seconds to compile.
                of_kind.sort(key=lambda file: file.stat().st_size)
                for file in rng.sample(of_kind[: len(of_kind) // 2], 2):
                    damage(file, rng)
                    damaged[f"{damage.__name__}, {kind}"] += 1
            _fit_all(expected)
            n_compiled += n_functions - _hits()
            _fit_all(expected)
            assert _hits() == n_functions, f"{damage.__name__} is not mended"
    # Some files are of the other dtype, or of an index that is no more.
    assert n_compiled > sum(damaged.values()) / 5
    return damaged


def warmed():
    """Folder of machine code with what the jobs use."""
    cached_states()
    return c_functions()[0].cache_path


@pytest.mark.soak
def test_a_damaged_cache(count, tmp_path):
    damaged = in_new_process(
        job_damaged_cache, warmed(), times(1, 4), SEED, NUMBA_CACHE_DIR=str(tmp_path)
    )
    for kind, n in damaged.items():
        count(FAULTS, f"machine code on disk damaged: {kind}", n)


def _forget_small(folder):
    """Remove the machine code of some functions that are compiled fast."""
    files = sorted(folder.glob("*.nbc"), key=lambda file: file.stat().st_size)
    for file in files[: len(files) // 3]:
        file.unlink()


def job_lost_cache(source, folder_that_fills):
    """The folder is removed, becomes a file, or its disk is full or read-only.

    All while the process runs.
    """
    folder, expected = warm_cache(source), cached_states()
    faults = ["removed", "that is a file"]
    if folder_that_fills:
        filler = Path(folder_that_fills) / "filler"

        def fill():
            with contextlib.suppress(OSError), filler.open("wb", 0) as file:
                while True:
                    file.write(b"x" * 1024)

        def remount(how):
            command = ["mount", "-o", f"remount,{how}", folder_that_fills]
            subprocess.run(command, check=True)

        for fault, begin, end in (
            ("on a full disk", fill, filler.unlink),
            ("on a read-only disk", lambda: remount("ro"), lambda: remount("rw")),
        ):
            _forget_small(folder)  # so that they would be written anew
            files = sorted(folder.glob("*"))
            begin()
            try:
                _fit_all(expected)
            finally:
                end()
            assert sorted(folder.glob("*")) == files
            if begin is fill:  # of a read-only disk Numba takes another
                assert _hits() < sum(len(f._compiled) for f in c_functions())
            faults.append(fault)
            _fit_all(expected)
            assert len([*folder.glob("*")]) > len(files)
    # Loops are compiled fast, kernels take seconds.
    loops = [f for f in c_functions() if f._compiled and "v" in f.arguments]
    shutil.rmtree(folder)
    folder.write_text("no folder")  # which stops even root
    _fit_all(expected, loops)
    folder.unlink()
    for are_there in (False, True):
        _fit_all(expected, loops)
        assert (_hits(loops) > 0) == are_there
    return faults


@pytest.mark.soak
def test_a_lost_cache(count, request, tmp_path):
    try:
        folder = request.getfixturevalue("small_disk")(8192)
        fills = str(folder)
    except pytest.skip.Exception:
        folder, fills = tmp_path, None
    environment = {"NUMBA_CACHE_DIR": str(folder)}
    for fault in in_new_process(job_lost_cache, warmed(), fills, **environment):
        count(FAULTS, f"folder of machine code {fault}")


# -- workers, forks, threads -----------------------------------------------------------


def job_killed_workers(folder, n_kills, seed):
    rng, errors, X = random.Random(seed), 0, rows(60)

    def search(n_jobs, scoring=None):
        grid = {"n_components": [1, 2], "random_state": [0, 1]}
        found = GridSearchCV(
            make("minibatch"), grid, cv=3, n_jobs=n_jobs, scoring=scoring
        )
        return found.fit(X).cv_results_["mean_test_score"].tolist()

    def kill_one():
        while not (pids := [int(path.name) for path in Path(folder).iterdir()]):
            time.sleep(0.001)
        time.sleep(0.2 * rng.random())
        os.kill(rng.choice(pids), signal.SIGKILL)

    expected, threads = search(None), blas_threads()
    for _ in range(n_kills):
        killer = threading.Thread(target=kill_one)
        killer.start()
        try:
            search(2, functools.partial(score_and_tell, folder))
        except TerminatedWorkerError as error:
            errors += "terminated" in str(error)
        killer.join()
        for path in Path(folder).iterdir():
            path.unlink()
        assert search(None) == expected
        assert blas_threads() == threads
    assert search(2) == expected
    return errors


@pytest.mark.soak
def test_killed_workers_of_a_search(count, tmp_path):
    n_kills = times(1, 5)
    n = in_new_process(job_killed_workers, str(tmp_path), n_kills, SEED)
    assert n == n_kills
    count(FAULTS, "SIGKILL of a search's worker: an error, and the next one works", n)


def _are_same(states, threads):
    """Whether fits come to these states, and leave BLAS as many threads."""
    with allowed(2):
        are_same = [state_of(make(n).fit(rows())) == s for n, s in states.items()]
    return all(are_same) and blas_threads() == threads and not our_threads()


def job_forks(n_forks, seed):
    """After fits on threads, and while another thread fits."""
    rng, threads = random.Random(seed), blas_threads()
    with allowed(2):
        states = {name: state_of(make(name).fit(rows())) for name in NAMES}
    ended, n_fits = threading.Event(), 0

    def fork_often():
        for _ in range(n_forks):
            time.sleep(0.01 * rng.random())
            names = rng.sample(NAMES, 2)
            some = {name: states[name] for name in names}
            assert in_fork(_are_same, some, threads), names

    def fit_until_the_end():
        nonlocal n_fits
        while not ended.is_set():
            make("minibatch", max_iter=20).fit(rows())
            n_fits += 1

    fork_often()
    with allowed(2):
        other = threading.Thread(target=fit_until_the_end)
        other.start()
        try:
            fork_often()
            assert other.is_alive()
        finally:
            ended.set()
            other.join()
    assert n_fits > n_forks
    assert blas_threads() == threads
    return 2 * n_forks


ON_DASK = {
    "adam": {"batch_size": 50},
    "lbfgs": {"solver": "lbfgs"},
    "held-out rows": {"batch_size": 50, "early_stopping": True},
    "pretrained": {"batch_size": 50, "pretrain": "layerwise"},
}


@pytest.mark.soak
@pytest.mark.cluster
@pytest.mark.parametrize("kind", times(["held-out rows"], [*ON_DASK]))
def test_killed_dask_workers(count, kind, mortal_client):
    """At some moment of a fit: another worker computes anew what it had, alike."""
    import dask.array as da

    from skae.dask import DaskAutoencoderTransformer

    from ..support.clusters import kill, later

    def fitted():
        X = da.random.default_rng(0).random((600, 12), chunks=(100, 12))
        return DaskAutoencoderTransformer(
            hidden_layer_sizes=(8,), max_iter=10, random_state=0, **ON_DASK[kind]
        ).fit(X)

    fitted()  # has compiled
    begin = time.perf_counter()
    expected = state_of(fitted().to_local())
    seconds = time.perf_counter() - begin
    rng = random.Random(f"{SEED} {kind}")
    pids = sorted(mortal_client.run(os.getpid).values())
    # A worker that is killed twice in 15 s is given up: of two, each once.
    for pid in rng.sample(pids, times(1, 2)):
        # Mostly in time; that of a fit varies.
        timer = later(0.8 * seconds * rng.random(), kill, pid)
        assert state_of(fitted().to_local()) == expected
        if timer.finished.is_set():
            count(FAULTS, "SIGKILL of a Dask worker in a fit: the same bits")
        timer.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_forks(count):
    n = in_new_process(job_forks, times(5, 50), SEED)
    count(FAULTS, "fork after, and during, a fit on threads: the child fits", n)


def job_fits_at_once(n_rounds, seed):
    rng, threads = random.Random(seed), blas_threads()
    alone = {name: state_of(make(name).fit(rows())) for name in NAMES}
    names = [name for _ in range(n_rounds) for name in rng.sample(NAMES, len(NAMES))]
    with allowed(2), ThreadPoolExecutor(2) as pool:
        for name, state in zip(
            names, pool.map(lambda n: state_of(make(n).fit(rows())), names), strict=True
        ):
            assert state == alone[name], name
    assert blas_threads() == threads
    assert not our_threads()
    return len(names)


def test_two_threads_fit_at_once(count):
    n = in_new_process(job_fits_at_once, times(2, 20), SEED)
    count(FAULTS, "fits beside a fit of another thread: the same bits", n)
