"""What the benchmarks share: side-by-side timing, child processes, reports.

No figure here is an absolute claim: what is compared is timed in turn, round by
round, in one process or in processes that alternate.
"""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import joblib
import threadpoolctl

RESULTS = pathlib.Path(__file__).parent / "results"
PACKAGES = ("numpy", "scipy", "scikit-learn", "numba")


class Spread(NamedTuple):
    """Median, least and greatest of repeated measurements."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values):
        return cls(statistics.median(values), min(values), max(values))

    def scaled(self, factor):
        return Spread(*(factor * value for value in self))

    def __str__(self):
        median, least, greatest = map(number, self)
        return f"{median} ({least}–{greatest})"


def interleaved(cases, n_rounds, *, warm_up=True):
    """Seconds that functions take, called in turn.

    Parameters
    ----------
    cases : dict of callables

    n_rounds : int
        Every other round goes through the cases backwards.

    warm_up : bool, default=True
        Whether an untimed round goes first.

    Returns
    -------
    seconds : dict of lists
        Those of each case, in the order of the rounds.
    """
    if warm_up:
        for function in cases.values():
            function()
    seconds = {name: [] for name in cases}
    for i in range(n_rounds):
        for name in list(cases)[:: 1 if i % 2 == 0 else -1]:
            begin = time.perf_counter()
            cases[name]()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def on_threads(n_threads, function, *args):
    """`function` with its first arguments, on so many threads of BLAS, OpenMP and skae.

    For the libraries that are loaded by now.
    """
    controller = threadpoolctl.ThreadpoolController()

    def run(*more):
        with controller.limit(limits=n_threads):
            return function(*args, *more)

    return run


def child(script, *args, **env):
    """What a script prints as JSON in a new process, with more in its environment."""
    command = [sys.executable, str(script), *map(str, args)]
    ended = subprocess.run(
        command,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(ended.stdout)


def number(value):
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - int(f"{value:.2e}".partition("e")[2]))
    return f"{value:.{digits}f}"


def table(columns, rows):
    """A markdown table; numbers are printed with three digits, None as a dash."""

    def cell(value):
        if isinstance(value, float):
            return number(value)
        if isinstance(value, int):
            return f"{value:,}"
        return "–" if value is None else str(value)

    lines = [list(columns), *([cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines
    )


def header():
    """Machine and versions, as a paragraph of markdown."""
    import scipy.linalg  # noqa: F401  (loads the BLAS libraries that are named)

    versions = (f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    blas = {
        f"{library['internal_api']} {library['version']}"
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    }
    return (
        f"{_processor()}, usable cores: {n_cores()}, {platform.platform()}; Python "
        f"{platform.python_version()}, {', '.join([*versions, *sorted(blas)])}; "
        f"{datetime.date.today()}."
    )


def n_cores():
    """Cores that this process may use."""
    return joblib.cpu_count()


def thread_counts():
    """One and two threads, if there are two cores."""
    return list(range(1, min(2, n_cores()) + 1))


def _processor():
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
