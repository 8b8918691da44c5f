"""How time and memory of a fit grow with rows, features, code, depth and threads.

    python benchmarks/growth.py                # results/growth.md and growth.png
    python benchmarks/growth.py --axes rows --threads 1 --max-mb 20 --limit-mb 0

Every point is a new process, with float32 data. A fit of k epochs takes a fixed time
(validation, the scale of the data, the loss at the start, the ordered code) and k
times that of an epoch, so an epoch's time is the difference between fits of 1 + k
epochs and of one, divided by k; both, on each number of threads, are timed in turn,
with compiled kernels.

Peak memory is the greatest resident set during a fit beyond that of the process, its
kernels loaded, before it had the data; so it includes the data. Data of more than
1 GiB are a memory map of a file: its pages count where they are resident, though the
operating system may take them back at any time. What a fit on fewer threads, which
comes first, has freed but not returned counts for the next as well.

Exponents are slopes of straight lines through the logarithms. Points where what does
not grow prevails are left out: times below twice the smallest, on an axis that spans a
decade or more, and memory below 50 MB.

Last, a fit on a file that is larger than the memory that the process may allocate.
The limit is RLIMIT_DATA: heap, anonymous mappings, stacks of threads. RLIMIT_AS would
count the mapping of the file itself, which takes no memory, and refuse it.

Linux only.
"""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from typing import NamedTuple

import numpy as np
from _report import (
    RESULTS,
    Spread,
    child,
    header,
    interleaved,
    number,
    on_threads,
    table,
    thread_counts,
)
from scipy.stats import linregress

MB = 1e6
FILE_BYTES = 2**30
# Longer runs of epochs would only cost time.
MAX_EPOCHS = 4096
# Below so many times the smallest time of an axis, fixed costs prevail.
TIMES_SMALLEST = 2
# What a fit may take whatever its input; and beyond it as a share of the input.
FIXED_BYTES, SHARE = 50 * MB, 0.05
# From so many rows on, the time of a row should be constant.
MANY_ROWS = 100_000


class Point(NamedTuple):
    """A network and the data that it is trained on."""

    n_rows: int = 10_000
    n_features: int = 64
    hidden: tuple = (100,)
    n_components: int = 2

    @property
    def n_bytes(self):
        return 4 * self.n_rows * self.n_features

    @property
    def memory_bound(self):
        return (1 + SHARE) * self.n_bytes + FIXED_BYTES


# Name -> values and their points.
AXES = {
    "rows": {
        n: Point(n, 32)
        for n in (1000, 10_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
    },
    "features": {d: Point(n_features=d) for d in (4, 16, 64, 256, 1024, 2048, 4096)},
    # As many weights as 512 times the code; as 8192 times the depth.
    "code size": {k: Point(10_000, 256, (), k) for k in (1, 4, 16, 32, 64, 128, 256)},
    "hidden layers": {i: Point(hidden=(64,) * i) for i in range(1, 7)},
}


# -- in the child --------------------------------------------------------------------


def new_estimator(point):
    from sklearn.exceptions import ConvergenceWarning

    from skae import AutoencoderTransformer

    warnings.simplefilter("ignore", ConvergenceWarning)
    return AutoencoderTransformer(
        point.n_components,
        hidden_layer_sizes=point.hidden,
        init="random",
        batch_size=200,
        early_stopping=False,
        tol=0,
        n_iter_no_change=np.inf,
        random_state=0,
    )


def chunks(n_rows, n_features):
    """Uniform random rows, 64 MB at a time."""
    rng = np.random.default_rng(0)
    size = max(1, 2**24 // n_features)
    for begin in range(0, n_rows, size):
        shape = (min(size, n_rows - begin), n_features)
        yield slice(begin, begin + size), rng.random(shape, dtype=np.float32)


def write_data(path, n_rows, n_features):
    with open(path, "wb") as file:
        for _, chunk in chunks(n_rows, n_features):
            chunk.tofile(file)


def open_data(path, n_rows, n_features):
    return np.memmap(path, np.float32, mode="r", shape=(n_rows, n_features))


def make_data(point, folder):
    """The data of a point: an array, or a map of a file in the folder if large."""
    shape = point.n_rows, point.n_features
    if point.n_bytes > FILE_BYTES:
        path = pathlib.Path(folder) / "rows"
        write_data(path, *shape)
        return open_data(path, *shape)
    X = np.empty(shape, dtype=np.float32)
    for rows, chunk in chunks(*shape):
        X[rows] = chunk
    return X


def memory(field, pid="self"):
    """Bytes in a field of a process's status."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise KeyError(field)


def reset_peak():
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def measure(point, threads, n_rounds, seconds):
    """Times and peak memory of fits on a point's data, for each number of threads."""
    estimator = new_estimator(point)
    # Loads the kernels, or compiles them.
    rng = np.random.default_rng(0)
    small = rng.random((1000, point.n_features), dtype=np.float32)
    estimator.set_params(max_iter=1).fit(small)
    del small
    before = memory("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        X = make_data(point, folder)

        def fit(n_epochs):
            estimator.set_params(max_iter=n_epochs).fit(X)
            assert estimator.n_iter_ == n_epochs

        peaks = []
        for n in threads:
            reset_peak()
            on_threads(n, fit, 1)()
            peaks.append(memory("VmHWM") - before)
        n_more = enough_epochs(on_threads(max(threads), fit), seconds)
        cases = {
            (n, k): on_threads(n, fit, k) for n in threads for k in (1, 1 + n_more)
        }
        times = interleaved(cases, n_rounds, warm_up=False)
    measured = []
    for n, peak in zip(threads, peaks, strict=True):
        one, more = np.array(times[n, 1]), np.array(times[n, 1 + n_more])
        epoch = (more - one) / n_more
        fixed = one - epoch
        measured.append({"epoch": [*epoch], "fixed": [*fixed], "peak": peak})
    return measured


def enough_epochs(fit, seconds):
    """Epochs that take as long, or MAX_EPOCHS."""

    def time_of(n_epochs):
        begin = time.perf_counter()
        fit(n_epochs)
        return time.perf_counter() - begin

    n_epochs = 1
    while n_epochs < MAX_EPOCHS and time_of(1 + n_epochs) - time_of(1) < seconds:
        n_epochs *= 4
    return n_epochs


def fit_limited(path, n_rows, n_features, limit):
    """Fit on a file with a limit on what the process may allocate."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    X = open_data(path, n_rows, n_features)
    estimator = new_estimator(Point())
    begin = time.perf_counter()
    estimator.set_params(max_iter=1).fit(X)
    seconds = time.perf_counter() - begin
    try:
        np.array(X)
    except MemoryError:
        return {"seconds": seconds, "copy": "MemoryError"}
    return {"seconds": seconds, "copy": "possible"}


# -- in the parent --------------------------------------------------------------------


class Measured(NamedTuple):
    """What was measured at a point, in seconds and bytes."""

    axis: str
    value: int
    n_threads: int
    point: Point
    epoch: Spread
    fixed: Spread
    peak: int

    @property
    def row_time(self):
        return self.epoch.median / self.point.n_rows

    @property
    def excess(self):
        return (self.peak - self.point.n_bytes) / self.point.n_bytes

    @property
    def share_of_bound(self):
        return self.peak / self.point.memory_bound


def run_point(axis, value, threads, *how):
    """The point in a new process, for each number of threads."""
    task = json.dumps([axis, value, threads, *how])
    for n, raw in zip(threads, child(__file__, "--point", task), strict=True):
        times = (Spread.of(raw[name]) for name in ("epoch", "fixed"))
        yield Measured(axis, value, n, AXES[axis][value], *times, raw["peak"])


def run_limited(file_mb, limit_mb, n_threads):
    """Fit on a file that is larger than the limit; a sentence about it."""
    n_features = 64
    n_rows = int(file_mb * MB) // (4 * n_features)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows"
        write_data(path, n_rows, n_features)
        task = json.dumps([path, n_rows, n_features, int(limit_mb * MB)])
        process = subprocess.Popen(
            [sys.executable, __file__, "--limited", task],
            env={**os.environ, "OPENBLAS_NUM_THREADS": str(n_threads)},
            stdout=subprocess.PIPE,
            text=True,
        )
        peak = 0
        while process.poll() is None:
            with contextlib.suppress(KeyError, OSError):  # it may end meanwhile
                peak = max(peak, memory("RssAnon", process.pid))
            time.sleep(0.01)
        output = process.stdout.read()
    what = (
        f"A fit of one epoch on a file of {number(file_mb)} MB ({n_rows:,} rows of "
        f"{n_features} float32) in a process that may allocate {number(limit_mb)} MB "
        f"(RLIMIT_DATA), on {n_threads} threads"
    )
    if process.returncode != 0:
        return f"{what}: FAILED, exit code {process.returncode}."
    raw = json.loads(output)
    return (
        f"{what}: succeeded in {number(raw['seconds'])} s, start-up of the kernels "
        f"included; peak of anonymous memory (RssAnon) {number(peak / MB)} MB. "
        f"A copy of the data under the same limit: {raw['copy']}."
    )


def spans_decade(x):
    return max(x) >= 10 * min(x)


def exponent(x, y, floor):
    """Slope of log y over log x, its standard error and number of points, or None."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    above = (y >= floor) & (y > 0)
    if above.sum() < 3:
        return None
    line = linregress(np.log(x[above]), np.log(y[above]))
    return line.slope, line.stderr, above.sum()


def series(results):
    """Pairs of axis and threads, and their points."""
    found = {}
    for result in results:
        found.setdefault((result.axis, result.n_threads), []).append(result)
    return found


def exponents(results):
    """(axis, threads) -> exponents of time and memory."""
    found = {}
    for key, group in series(results).items():
        x, times = [r.value for r in group], [r.epoch.median for r in group]
        floor = TIMES_SMALLEST * min(times) if spans_decade(x) else 0
        found[key] = (
            exponent(x, times, floor),
            exponent(x, [r.peak for r in group], FIXED_BYTES),
        )
    return found


def points_table(results, axis):
    columns = (axis, "threads", "input, MB", "epoch, ms", "µs a row", "fixed, ms")
    columns += ("peak, MB", "(peak - input) / input")
    rows = [
        (
            r.value,
            r.n_threads,
            r.point.n_bytes / MB,
            r.epoch.scaled(1e3),
            1e6 * r.row_time,
            r.fixed.scaled(1e3),
            r.peak / MB,
            r.excess,
        )
        for r in results
        if r.axis == axis
    ]
    return table(columns, rows)


def threads_table(results):
    """Epochs on one thread over those on more, or None."""
    one = {(r.axis, r.value): r for r in results if r.n_threads == 1}
    rows = [
        (
            r.axis,
            r.value,
            r.n_threads,
            one[r.axis, r.value].epoch.median / r.epoch.median,
        )
        for r in results
        if r.n_threads > 1 and (r.axis, r.value) in one
    ]
    return table(("axis", "value", "threads", "times as fast"), rows) if rows else None


def exponents_table(results):
    def text(fitted):
        return fitted and f"{fitted[0]:.2f} ± {fitted[1]:.2f} ({fitted[2]} points)"

    rows = [(*key, *map(text, pair)) for key, pair in exponents(results).items()]
    return table(("axis", "threads", "time of an epoch", "peak memory"), rows)


def checks(results):
    """Sentences that hold what was measured against what was wanted."""
    for (axis, n_threads), group in series(results).items():
        many = [r for r in group if r.value >= MANY_ROWS]
        if axis == "rows" and len(many) > 1:
            times = [r.row_time for r in many]
            yield (
                f"- Time per row, maximum divided by minimum, from {many[0].value:,} "
                f"to {many[-1].value:,} rows, {n_threads} threads: "
                f"{max(times) / min(times):.2f} (limit: 1.20)."
            )
    worst = max(results, key=lambda r: r.share_of_bound)
    yield (
        f"- Peak memory divided by (data + 5 % + 50 MB), maximum of all points: "
        f"{worst.share_of_bound:.2f} ({worst.axis} {worst.value:,}, "
        f"{worst.n_threads} threads; limit: 1)."
    )


def plot(results, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    axes = list(dict.fromkeys(r.axis for r in results))
    fitted = exponents(results)
    figure, panels = plt.subplots(
        2, len(axes), figsize=(3.4 * len(axes), 6), layout="constrained", squeeze=False
    )
    for (axis, n_threads), group in series(results).items():
        time_panel, memory_panel = panels[:, axes.index(axis)]
        x = [r.value for r in group]
        labels = [
            f"{n_threads} thread{'s' * (n_threads > 1)}"
            + (f": exponent {slope[0]:.2f}" if slope else "")
            for slope in fitted[axis, n_threads]
        ]
        median, least, greatest = 1e3 * np.array([r.epoch for r in group]).T
        spread = np.maximum(0, [median - least, greatest - median])
        marks = {"fmt": "o-", "markersize": 4, "capsize": 2}
        time_panel.errorbar(x, median, spread, label=labels[0], **marks)
        peaks = [r.peak / MB for r in group]
        memory_panel.errorbar(x, peaks, label=labels[1], **marks)
    for axis, (time_panel, memory_panel) in zip(axes, panels.T, strict=True):
        points = {r.value: r.point for r in results if r.axis == axis}
        inputs = [point.n_bytes / MB for point in points.values()]
        bounds = [point.memory_bound / MB for point in points.values()]
        memory_panel.plot(list(points), inputs, "k:", label="input")
        memory_panel.plot(
            list(points), bounds, "k--", lw=1, label="input + 5 % + 50 MB"
        )
        for panel in (time_panel, memory_panel):
            if spans_decade(list(points)):
                panel.set(xscale="log", yscale="log")
            else:
                panel.set_xticks(list(points))
                panel.set_ylim(bottom=0)
            panel.set_xlabel(axis)
            panel.grid(alpha=0.3)
            panel.legend(fontsize="x-small")
    panels[0, 0].set_ylabel("time of an epoch, ms")
    panels[1, 0].set_ylabel("peak memory, MB")
    for panel in panels.flat:
        if panel.get_yscale() == "log":
            low, high = panel.get_ylim()  # at least a decade, so that it has labels
            panel.set_ylim(10 ** np.floor(np.log10(low)), high)
            panel.yaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_minor_formatter("")
    figure.savefig(path, dpi=120)


def report(results, limited):
    """The whole study in markdown."""
    axes = list(dict.fromkeys(r.axis for r in results))
    parts = [
        "# Growth of time and memory",
        header(),
        "float32, default parameters except where stated; times are medians "
        "(minimum–maximum) of several rounds. Made by `growth.py`.",
        "![Time of an epoch and peak memory](growth.png)",
        "## Exponents",
        exponents_table(results),
        "## Checks",
        "\n".join([*checks(results), *([f"- {limited}"] if limited else [])]),
    ]
    for axis in axes:
        point = next(r.point for r in results if r.axis == axis)
        fixed = ", ".join(f"{name} {value}" for name, value in point._asdict().items())
        parts += [
            f"## By {axis}",
            f"Starting from: {fixed}.",
            points_table(results, axis),
        ]
    threads = threads_table(results)
    parts += ["## By threads", threads] if threads else []
    return "\n\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--threads", type=int, nargs="+", default=thread_counts())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="of epochs in a round, at least"
    )
    parser.add_argument(
        "--max-mb", type=float, default=np.inf, help="leave out larger inputs"
    )
    parser.add_argument(
        "--file-mb", type=float, default=2000, help="file of the limited fit"
    )
    parser.add_argument(
        "--limit-mb", type=float, default=600, help="its memory; 0: no such fit"
    )
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    parser.add_argument("--limited", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        axis, value, *how = json.loads(options.point)
        print(json.dumps(measure(AXES[axis][value], *how)))
        return
    if options.limited:
        print(json.dumps(fit_limited(*json.loads(options.limited))))
        return

    results = []
    for axis in options.axes:
        for value, point in AXES[axis].items():
            if point.n_bytes > options.max_mb * MB:
                continue
            print(f"{axis}: {value:,}", file=sys.stderr)
            how = options.threads, options.rounds, options.seconds
            results += run_point(axis, value, *how)
    limited = None
    if options.limit_mb:
        limited = run_limited(options.file_mb, options.limit_mb, max(options.threads))
    text = report(results, limited)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "growth.md").write_text(text)
    plot(results, options.output / "growth.png")
    print(text)


if __name__ == "__main__":
    main()
