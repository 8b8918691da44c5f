"""Memory and time of a fit on a file that is larger than what may be in memory.

    python benchmarks/out_of_core.py       # results/out_of_core.md; 3 GB of disk
    python benchmarks/out_of_core.py --rows 1000000

A file of uniform random float32 is written to a temporary folder. Each way to train on
it is a new process with default parameters but for `max_iter=1`, which has compiled or
loaded its kernels before:

- fit: `fit` on a `numpy.memmap` of the file;
- fit_batches: `fit_batches` with blocks of 100,000 rows, read from the file.

What a process holds is its anonymous memory (RssAnon), looked at every 5 ms, above that
before the fit. Pages of the file that are mapped (RssFile) are the operating system's,
which may take them back at any time; the greatest resident set (VmHWM) counts them.
Kinds of memory are from /proc: Linux only.
"""

import argparse
import json
import pathlib
import tempfile
import threading
import time
import warnings

import numpy as np
from _report import RESULTS, child, header, number, table
from growth import MB, memory, open_data, reset_peak, write_data

N_FEATURES = 32
BLOCK_ROWS = 100_000
# What a fit may hold beyond the mapping.
MAX_BYTES = 1e9
WAYS = ("fit", "fit_batches")


# -- in the child --------------------------------------------------------------------


class Watch:
    """The greatest RssAnon and RssFile while a block of code runs."""

    def __enter__(self):
        self.peaks = dict.fromkeys(("RssAnon", "RssFile"), 0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._done.set()
        self._thread.join()

    def _run(self):
        while True:
            for field, peak in self.peaks.items():
                self.peaks[field] = max(peak, memory(field))
            if self._done.wait(0.005):
                return


def measure(way, path, n_rows):
    """Seconds and bytes of a fit."""
    from sklearn.exceptions import ConvergenceWarning

    from skae import AutoencoderTransformer

    warnings.simplefilter("ignore", ConvergenceWarning)
    n_passes = 0

    def blocks():
        nonlocal n_passes
        n_passes += 1
        row_bytes = 4 * N_FEATURES
        with open(path, "rb") as file:
            while block := file.read(BLOCK_ROWS * row_bytes):
                yield np.frombuffer(block, np.float32).reshape(-1, N_FEATURES)

    estimator = AutoencoderTransformer(max_iter=1, random_state=0)
    estimator.fit(np.array(open_data(path, n_rows, N_FEATURES)[:1000]))
    reset_peak()
    before, begin = memory("RssAnon"), time.perf_counter()
    with Watch() as watch:
        if way == "fit":
            estimator.fit(open_data(path, n_rows, N_FEATURES))
        else:
            estimator.fit_batches(blocks)
    return {
        "seconds": time.perf_counter() - begin,
        "anonymous": watch.peaks["RssAnon"] - before,
        "mapped": watch.peaks["RssFile"],
        "resident": memory("VmHWM"),
        "passes": n_passes,
        "loss": estimator.loss_,
    }


# -- in the parent --------------------------------------------------------------------


def report(n_rows, results):
    """The table in markdown."""
    columns = ("", "seconds", "anonymous, MB", "mapped, MB", "VmHWM, MB", "passes")
    rows = [
        (
            f"`{way}`",
            found["seconds"],
            *(found[kind] / MB for kind in ("anonymous", "mapped", "resident")),
            found["passes"] or None,
        )
        for way, found in results.items()
    ]
    worst = max(found["anonymous"] for found in results.values())
    parts = [
        "# Out of core",
        header(),
        f"{n_rows:,} rows of {N_FEATURES} float32, {number(n_rows * 128 / MB)} MB; "
        "default parameters except `max_iter=1`: one epoch, and what a fit does before "
        "and after it. Anonymous: the peak of the memory that the process allocates, "
        "minus that before the fit. Mapped: the peak of pages of files, which the "
        "system can take back. Passes: calls of `make_batches`, including that of the "
        "epoch. Made by `out_of_core.py`.",
        table(columns, rows),
        f"Largest anonymous memory: {number(worst / MB)} MB (limit: "
        f"{number(MAX_BYTES / MB)}).",
    ]
    return "\n\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure))))
        return

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows"
        write_data(path, options.rows, N_FEATURES)
        results = {
            way: child(__file__, "--measure", json.dumps([way, path, options.rows]))
            for way in WAYS
        }
    text = report(options.rows, results)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "out_of_core.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
