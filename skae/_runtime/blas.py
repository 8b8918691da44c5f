"""BLAS at one thread, while a fit computes with it."""

import contextlib
import functools
import math
import os
import threading
from collections.abc import Iterator
from typing import Any

import threadpoolctl


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


def limit_blas() -> None:
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
                    limit_blas()
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
n_blas_threads_before = _LIMIT.n_threads_before
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_LIMIT.forget_other_threads)
