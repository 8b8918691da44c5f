"""A whole fit of 10 epochs beside PyTorch's and JAX's, as users see it.

    SKAE_DATA=... python benchmarks/whole_fits.py

`compare_peers.py` times the loop over mini-batches. Here is all of `fit`: checks, mean
and scale, the objective before and after training, the moments and the order of the
code. Of the peers it is standardising the rows, if the workload wants that, making
tensors of them, and the same ten epochs. Compilation is apart, for all.

One process for each solver, with all cores; the workloads are those of mini-batches.
"""

import argparse
import dataclasses
import functools
import itertools
import multiprocessing
import os
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from _report import RESULTS, Spread, header, interleaved, table
from workloads import WORKLOADS

HERE = Path(__file__).parent
SOLVERS = ["skae", "pytorch", "jax"]
N_EPOCHS = 10
# Weights times rows, of the widest networks.
MAX_PRODUCTS = 3 * 10**10
NAMES = [name for name, work in WORKLOADS.items() if not work.is_full_batch]


def workload(name, max_rows):
    """A workload of so many rows at most, or fewer for wide networks."""
    work = WORKLOADS[name]
    n_weights = sum(a * b for a, b in itertools.pairwise(work.widths))
    n_rows = min(max_rows, MAX_PRODUCTS // n_weights, len(work.data()))
    return dataclasses.replace(work, n_rows=n_rows)


@functools.cache
def fit_of(solver, name, max_rows):
    """The function that fits, in this process, with everything compiled."""
    work = workload(name, max_rows)
    if solver == "skae":
        autoencoder, X = work.autoencoder(max_iter=N_EPOCHS), work.data()

        def fit():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # max_iter is reached
                autoencoder.fit(X)

        return fit
    sys.path.insert(0, str(HERE / "peers"))
    module = __import__(f"solvers.{solver}", fromlist=["Solver"])
    peer, weights = module.Solver(), work.initial_weights()
    peer.set_objective(work, work.seen_data(), *weights)
    peer.warm_up()

    def fit_peer():
        peer.set_objective(work, work.seen_data(), *weights)
        peer.train(N_EPOCHS)

    return fit_peer


def timed(*args):
    """Seconds of a fit in this process."""
    fit = fit_of(*args)
    begin = time.perf_counter()
    fit()
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="*", choices=NAMES, default=NAMES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--max-rows", type=int, default=60_000, help="of each workload, the first ones"
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "whole_fits.md")
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    spawn = multiprocessing.get_context("spawn")
    processes = {s: ProcessPoolExecutor(1, mp_context=spawn) for s in SOLVERS}
    rows = []
    for name in options.workloads:
        args = name, options.max_rows
        seconds = {solver: [] for solver in SOLVERS}

        def run(solver, args=args, seconds=seconds):
            future = processes[solver].submit(timed, solver, *args)
            seconds[solver].append(future.result())

        cases = {solver: functools.partial(run, solver) for solver in SOLVERS}
        interleaved(cases, options.rounds)
        # Without the round that compiled.
        spreads = {solver: Spread.of(times[1:]) for solver, times in seconds.items()}
        ours = spreads["skae"].median
        ratios = [spreads[solver].median / ours for solver in SOLVERS[1:]]
        shape = "-".join(map(str, WORKLOADS[name].widths))
        n_rows = workload(*args).n_rows
        rows.append((name, shape, n_rows, *spreads.values(), *ratios))
        print(*rows[-1], flush=True)
    for process in processes.values():
        process.shutdown()
    columns = ["workload", "network", "rows", *(f"{s}, s" for s in SOLVERS)]
    columns += [f"{s} / skae" for s in SOLVERS[1:]]
    text = (
        f"# Whole fits of {N_EPOCHS} epochs\n\n{header()}\n\n"
        "Seconds: median (minimum–maximum).\n\n" + table(columns, rows) + "\n"
    )
    options.output.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
