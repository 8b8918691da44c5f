"""How far from the machine's limit is an epoch, for each workload?

    SKAE_DATA=... python benchmarks/limit.py

The limit is the sum of

* the products of the forward and the backward pass, at the rate at which NumPy's BLAS
  multiplies large matrices;
* reading the data once, at the bandwidth of a sum over an array as large;
* activations, loss and the solver's step, at the rates of skae's own passes: those of
  a block in the L2 cache, and of a step over as many parameters as the network has.

Rates and epochs are measured in turn, round by round. The rates are those of as many
threads at once as skae takes: cores that share a memory, or a virtual machine, are not
twice as fast as one. What twice the rate would make of it is in a column of its own.
"""

import argparse
import functools
import itertools
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import threadpoolctl
from _report import RESULTS, Spread, header, interleaved, table, thread_counts
from workloads import WORKLOADS

from skae import _passes
from skae._compilation import address_of, call

MATRIX_SIZE = 1024
# 128 KiB of float32, twice or three times of which a pass works on.
BLOCK_ENTRIES = 2**15
# Rows that an epoch is measured on: enough to leave the caches, where there are.
MAX_ROWS = 200_000
DTYPE = np.float32


@numba.njit(nogil=True)
def _repeat_map(address, a, b, n, repeats):
    for _ in range(repeats):
        call(address, (address_of(a, 0), address_of(b, 0), n))


@numba.njit(nogil=True)
def _repeat_loss(address, a, b, c, n, repeats):
    for _ in range(repeats):
        call(address, (address_of(a, 0), address_of(b, 0), address_of(c, 0), n))


@numba.njit(nogil=True)
def _repeat_step(address, memory, settings, n, repeats):
    for _ in range(repeats):
        arrays = (
            address_of(memory, 0),
            address_of(memory, n),
            address_of(memory, 2 * n),
            address_of(memory, 3 * n),
        )
        call(address, (*arrays, address_of(settings, 0), n))


def seconds_of(function, *args):
    begin = time.perf_counter()
    function(*args)
    return time.perf_counter() - begin


def together(n_threads, rate, *args):
    """Sum of the rates that threads reach at the same time."""
    with ThreadPoolExecutor(n_threads) as pool:
        futures = [pool.submit(rate, *args) for _ in range(n_threads)]
        return sum(future.result() for future in futures)


def product_rate():
    """Floating point operations a second."""
    a = np.ones((MATRIX_SIZE, MATRIX_SIZE), DTYPE)
    return 2 * MATRIX_SIZE**3 / seconds_of(np.matmul, a, a)


def bandwidth(rows):
    """Bytes a second of reading the rows; of data this large, not more than they."""
    return rows.nbytes / seconds_of(np.add.reduce, rows, None)


def activation_rate(name):
    """Entries a second, forward and backward."""
    z, slope = np.full((2, BLOCK_ENTRIES), 0.3, DTYPE)
    n, repeats = BLOCK_ENTRIES, 20
    forward = _passes.ACTIVATIONS[name].address(DTYPE)
    backward = _passes._multiply.address(DTYPE)
    seconds = seconds_of(_repeat_map, forward, z, slope, n, repeats)
    seconds += seconds_of(_repeat_map, backward, z, slope, n, repeats)
    return n * repeats / seconds


def loss_rate(name):
    """Entries a second."""
    z, x, delta = np.full((3, BLOCK_ENTRIES), 0.3, DTYPE)
    address = _passes.LOSSES[name].compute.address(DTYPE)
    n, repeats = BLOCK_ENTRIES, 20
    return n * repeats / seconds_of(_repeat_loss, address, z, x, delta, n, repeats)


def step_rate(name, n_params):
    """Parameters a second."""
    memory, settings = np.ones(4 * n_params, DTYPE), np.ones(_passes.N_SETTINGS)
    repeats = max(3, 2_000_000 // n_params)
    address = _passes.SOLVERS[name].address(DTYPE)
    seconds = seconds_of(_repeat_step, address, memory, settings, n_params, repeats)
    return n_params * repeats / seconds


class Epoch:
    """A workload's epoch: what it has to compute, and the time that skae takes.

    Parameters
    ----------
    workload : workloads.Workload
    """

    def __init__(self, workload):
        self.workload = workload
        self.rows = workload.data()[:MAX_ROWS]
        full_batch = workload.is_full_batch
        self.n_steps = 1 if full_batch else -(-len(self.rows) // workload.batch_size)
        autoencoder = workload.autoencoder(max_iter=1)
        if full_batch:
            autoencoder.set_params(batch_size=len(self.rows))
        self.training = autoencoder._plan(self.rows, None, None).training
        self.network = self.training.problem.network
        self.threads = self.training._team.n_threads
        # As many epochs as take some tenths of a second.
        self.n_epochs = 1
        self.train()  # compiles
        while seconds_of(self.train) < 0.2:
            self.n_epochs *= 2

    def train(self):
        with self.training:
            self.training.run_epochs(self.n_epochs)

    @property
    def flops(self):
        """Of the products: forward, gradient, and deltas but of the input."""
        sizes = [a * b for a, b in itertools.pairwise(self.network.widths)]
        return 2 * len(self.rows) * int(3 * sum(sizes) - sizes[0])

    def least_seconds(self):
        """Parts of the limit, with rates measured now."""
        work, n_rows = self.workload, len(self.rows)
        rate = functools.partial(together, self.threads)
        built_in = _passes.LOSSES[work.loss].has_activation
        activations = work.activations[: -1 if built_in else None]
        widths = self.network.widths[1:]
        units = sum(
            int(width) * n_rows / rate(activation_rate, name)
            for width, name in zip(widths, activations, strict=False)
            if name != "identity"
        )
        n_params = self.network.n_params
        return {
            "products": self.flops / rate(product_rate),
            "data": self.rows.nbytes / rate(bandwidth, self.rows),
            "activations": units,
            "loss": self.rows.size / rate(loss_rate, work.loss),
            "step": self.n_steps * n_params / rate(step_rate, work.solver, n_params),
        }


def measure(epoch, n_rounds):
    """Spread of our seconds, and medians of the limit's parts."""
    parts = []
    cases = {"ours": epoch.train, "limit": lambda: parts.append(epoch.least_seconds())}
    with threadpoolctl.threadpool_limits(1):
        epoch.least_seconds()  # compiles
        seconds = interleaved(cases, n_rounds)
    ours = Spread.of(seconds["ours"]).scaled(1 / epoch.n_epochs)
    return ours, {name: statistics.median(p[name] for p in parts) for name in parts[0]}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", default=RESULTS / "limit.md")
    options = parser.parse_args()
    rows, n_cores = [], thread_counts()[-1]
    for name in options.workloads:
        needs_data = name == "donut" or name.startswith("mnist")
        if needs_data and "SKAE_DATA" not in os.environ:
            print(f"{name}: SKAE_DATA is not set")
            continue
        epoch = Epoch(WORKLOADS[name])
        ours, parts = measure(epoch, options.rounds)
        limit = sum(parts.values())
        row = [name, epoch.threads, str(ours.scaled(1e3)), limit * 1e3]
        row += [ours.median / limit, ours.median / limit * n_cores / epoch.threads]
        row += [f"{100 * part / limit:.0f}" for part in parts.values()]
        rows.append(row)
        print(*row, flush=True)
    columns = ["workload", "threads", "ours, ms an epoch", "limit, ms", "ours / limit"]
    columns += [f"at {n_cores} times one thread", *(f"% {part}" for part in parts)]
    text = f"# The machine's limit\n\n{header()}\n\n{table(columns, rows)}\n"
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
