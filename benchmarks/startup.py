"""What the first fit of a process costs, with an empty and with a filled cache.

    python benchmarks/startup.py               # 3 cold and 7 warm processes a dtype
    python benchmarks/startup.py --cold-only 1

Every column of figures is from new processes, which take the same steps: import skae,
fit (default estimator, two epochs, on scikit-learn's digits / 16), fit again,
transform, inverse_transform, score. Cold processes begin with an empty
NUMBA_CACHE_DIR, so that a step's time includes the compilation of what it is the first
to need; warm ones load what a cold one left there. The dtypes alternate.
"""

import argparse
import json
import pathlib
import tempfile
import time
import warnings

from _report import Spread, child, header, table

DTYPES = ("float32", "float64")
FIRST, SECOND = "first fit", "fit again"


def measure(dtype):
    """Seconds of every step in this process."""
    seconds = {}

    def timed(step, function, *args):
        begin = time.perf_counter()
        result = function(*args)
        seconds[step] = time.perf_counter() - begin
        return result

    skae = timed("import", __import__, "skae")
    from sklearn.datasets import load_digits

    X = (load_digits().data / 16).astype(dtype)
    warnings.simplefilter("ignore")  # two epochs do not converge
    autoencoder = skae.AutoencoderTransformer(max_iter=2, random_state=0)
    timed(FIRST, autoencoder.fit, X)
    timed(SECOND, autoencoder.fit, X)
    code = timed("transform", autoencoder.transform, X)
    timed("inverse_transform", autoencoder.inverse_transform, code)
    timed("score", autoencoder.score, X)
    return seconds


def measured_in(cache, dtype):
    """Steps of a process with this cache."""
    return child(__file__, "--measure", dtype, NUMBA_CACHE_DIR=str(cache))


def measure_all(n_cold, n_warm):
    """(dtype, cache) -> steps of its processes."""
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(n_cold):
            for dtype in DTYPES:
                cache = pathlib.Path(folder, f"{dtype}-{i}")
                steps = measured_in(cache, dtype)
                assert any(cache.rglob("*.nbi")), "nothing was compiled and cached"
                runs.setdefault((dtype, "empty"), []).append(steps)
        for _ in range(n_warm):
            for dtype in DTYPES:
                cache = pathlib.Path(folder, f"{dtype}-0")
                runs.setdefault((dtype, "filled"), []).append(measured_in(cache, dtype))
    return runs


def rows_of(columns):
    """Rows of the table, from lists of processes."""
    spreads = [
        {step: Spread.of([run[step] for run in runs]) for step in runs[0]}
        for runs in columns
    ]
    for step in spreads[0]:
        yield [step, *(column[step] for column in spreads)]
    ratios = (column[FIRST].median / column[SECOND].median for column in spreads)
    yield [f"{FIRST} / {SECOND}", *ratios]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cold", type=int, default=3, help="processes, at least 1")
    parser.add_argument("--warm", type=int, default=7, help="processes")
    parser.add_argument("--cold-only", type=int, metavar="N", help="N cold, no warm")
    parser.add_argument("--measure", choices=DTYPES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    n_cold, n_warm = options.cold, options.warm
    if options.cold_only:
        n_cold, n_warm = options.cold_only, 0
    runs = measure_all(max(1, n_cold), n_warm)
    columns = [f"{dtype}, {cache} ({len(run)})" for (dtype, cache), run in runs.items()]
    print(header())
    print("\nMedian (minimum–maximum) of the processes, by dtype and cache:\n")
    print(table(["seconds", *columns], rows_of(list(runs.values()))))


if __name__ == "__main__":
    main()
