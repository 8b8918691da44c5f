"""Ctrl-C, sent to this process."""

import contextlib
import os
import signal
import threading
import time

import pytest
from sklearn.exceptions import ConvergenceWarning


@contextlib.contextmanager
def ctrl_c_after(seconds):
    """SIGINT to this process, as a terminal sends it."""
    sent = []

    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(seconds, send)
    try:
        timer.start()
        yield sent
    except KeyboardInterrupt:
        pytest.fail("KeyboardInterrupt came out of fit")
    finally:
        timer.cancel()
        timer.join()


@contextlib.contextmanager
def warns_of_interrupt():
    with pytest.warns(UserWarning, match="interrupted") as caught:
        yield
    assert not any(w.category is ConvergenceWarning for w in caught)
