"""How far from the machine's limit is an epoch, for each workload, and transform?

    SKAE_DATA=... python benchmarks/limit.py

The limit is the sum of

* the products of the forward and the backward pass, at the rate at which NumPy's BLAS
  multiplies large matrices, without the zeros of the rows that skae skips;
* reading the data once, at the bandwidth of a sum over an array as large, unless they
  fit into the cache;
* activations, loss and the solver's step, at the rates of skae's own ops: those of
  a block in the L2 cache, and of a step over as many parameters as the network has;
* of transform and inverse_transform, filling a new array as large as their result.

Rates and epochs are measured in turn, round by round. The rates are those of as many
threads at once as skae takes: cores that share a memory, or a virtual machine, are not
twice as fast as one.
"""

import argparse
import functools
import itertools
import math
import os
import pathlib
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import threadpoolctl
import transform
from _report import (
    RESULTS,
    Spread,
    header,
    interleaved,
    on_threads,
    table,
    thread_counts,
)
from workloads import WORKLOADS

from skae._compiled import activations, elementwise, losses, optimizers
from skae._compiled.denormals import flush_denormals, restore_denormals
from skae._compiled.intrinsics import call_at
from skae._compiled.records import address
from skae._data.rows import density, make_rows
from skae._training.plan import make_plan

MATRIX_SIZE = 1024
# 128 KiB of float32, twice or three times of which a pass works on.
BLOCK_ENTRIES, BLOCK_ROWS = 2**15, 128
N_UNITS = BLOCK_ENTRIES // BLOCK_ROWS
CACHE_BYTES = 2**20
# Rows that an epoch is measured on: enough to leave the caches, where there are.
MAX_ROWS = 200_000
DTYPE = np.float32
NONE = np.empty(0, DTYPE)
# Runs of an op on a block, and parameters of a solver's steps, that are timed at once:
# to begin them takes a millisecond.
REPEATS, N_STEPPED = 1000, 50_000_000


@numba.njit(nogil=True)
def _call(address, field, arguments, repeats):
    field = numba.literally(field)
    before = flush_denormals()  # as kernels do
    for _ in range(repeats):
        call_at(address, field, arguments)
    restore_denormals(before)


def repeated(field, op, *arguments, repeats=REPEATS):
    """Seconds of so many runs of an op on arrays, empty ones as null, and sizes.

    `field` is that of the op in `dispatch.Addresses`, or "activation".
    """
    plain = tuple(
        np.uint64(address(value)) if isinstance(value, np.ndarray) else value
        for value in arguments
    )
    at = np.uint64(op.address(DTYPE))
    return seconds_of(_call, at, field, plain, repeats)


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
    """Bytes a second of reading the rows."""
    if rows.nbytes <= CACHE_BYTES:
        return np.inf
    return rows.nbytes / seconds_of(np.add.reduce, rows, None)


def filling_rate(shape):
    """Bytes a second of filling new memory."""
    n_bytes = math.prod(shape) * np.dtype(DTYPE).itemsize
    return n_bytes / seconds_of(np.full, shape, DTYPE(0.3), DTYPE)


def forward_rate(name):
    """Entries a second of an activation."""
    z, slope = np.full((2, BLOCK_ENTRIES), 0.3, DTYPE)
    return (
        REPEATS
        * z.size
        / repeated("activation", activations.ACTIVATIONS[name].op, z, slope, z.size)
    )


def backward_rate():
    """Entries a second of the product with the slope, and of its sums over rows."""
    delta, slope = np.full((2, BLOCK_ENTRIES), 0.3, DTYPE)
    gradient, shape = np.zeros(BLOCK_ENTRIES, DTYPE), (N_UNITS, BLOCK_ROWS)
    seconds = repeated(
        "backward_units", elementwise.backward_units, delta, slope, gradient, *shape, 1
    )
    return REPEATS * delta.size / seconds


def loss_rate(name):
    """Entries a second."""
    z, x, values = np.full((3, BLOCK_ENTRIES), 0.3, DTYPE)
    arrays, sizes = (z, x, NONE, values, np.zeros(1)), (N_UNITS, BLOCK_ROWS, 16)
    return REPEATS * z.size / repeated("loss", losses.LOSSES[name].op, *arrays, *sizes)


def step_rate(name, n_params):
    """Parameters a second."""
    arrays, settings = np.ones((4, n_params), DTYPE), np.ones(optimizers.N_SETTINGS)
    n = max(3, N_STEPPED // n_params)
    step = optimizers.SOLVERS[name]
    return (
        n * n_params / repeated("solver", step, *arrays, settings, n_params, repeats=n)
    )


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
        autoencoder = workload.autoencoder(max_iter=workload.n_epochs)
        if full_batch:
            autoencoder.set_params(batch_size=len(self.rows))
        self.training = make_plan(autoencoder, make_rows(self.rows), None).training
        self.network = self.training.objective.network
        self.threads = self.training._team.n_threads
        # As many epochs as take some tenths of a second.
        self.n_repeats = 1
        self.run()  # compiles
        while seconds_of(self.run) < 0.2:
            self.n_repeats *= 2

    def run(self):
        with self.training:
            self.training.run_epochs(self.n_repeats)

    @property
    def flops(self):
        """Of the products: forward, gradient, and deltas but of the input.

        Zeros of the rows that skae skips are no work.
        """
        first, *others = (a * b for a, b in itertools.pairwise(self.network.widths))
        skips_zeros = self.training._workspace.ops.sparse_dense_product != 0
        share = density(make_rows(self.rows)) if skips_zeros else 1.0
        return 2 * len(self.rows) * int(2 * share * first + 3 * sum(others))

    def least_seconds(self):
        """Parts of the limit, with rates measured now."""
        work, n_rows = self.workload, len(self.rows)
        rate = functools.partial(together, self.threads)
        built_in = losses.LOSSES[work.loss].has_activation
        activations = work.activations[: -1 if built_in else None]
        widths = self.network.widths[1:]
        units = sum(
            int(width)
            * n_rows
            * (1 / rate(forward_rate, name) + 1 / rate(backward_rate))
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


class Inference:
    """The same for a method of the workloads of `transform.py`.

    Parameters
    ----------
    workload : transform.Workload

    function : callable
        The method of an autoencoder.

    rows : ndarray
        Its argument.

    activation : str
        Of its only layer.
    """

    n_repeats = 1

    def __init__(self, workload, function, rows, activation):
        self.workload, self.rows, self.activation = workload, rows, activation
        self.threads = thread_counts()[-1]
        self.run = on_threads(self.threads, function, rows)
        self.shape = function(rows).shape

    def least_seconds(self):
        rate = functools.partial(together, self.threads)
        n_entries = math.prod(self.shape)
        output = n_entries * self.rows.itemsize
        return {
            "products": self.workload.flops / rate(product_rate),
            "data": self.rows.nbytes / rate(bandwidth, self.rows),
            "activations": n_entries / rate(forward_rate, self.activation),
            "output": output / rate(filling_rate, self.shape),
        }


def inferences():
    """Pairs of a name and an `Inference`."""
    for workload in transform.workloads(1):
        model = transform.autoencoder(workload)
        code = model.transform(workload.X)
        for method, rows, activation in (
            ("transform", workload.X, workload.code_activation),
            ("inverse_transform", code, "logistic"),
        ):
            function = getattr(model, method)
            name = f"{workload.name}: {method}"
            yield name, Inference(workload, function, rows, activation)


def measure(subject, n_rounds):
    """Spread of our seconds, and medians of the limit's parts."""
    parts = []
    cases = {
        "ours": subject.run,
        "limit": lambda: parts.append(subject.least_seconds()),
    }
    with threadpoolctl.threadpool_limits(1):
        subject.least_seconds()  # compiles
        seconds = interleaved(cases, n_rounds)
    ours = Spread.of(seconds["ours"]).scaled(1 / subject.n_repeats)
    return ours, {name: statistics.median(p[name] for p in parts) for name in parts[0]}


def compare(subjects, n_rounds):
    """Table of pairs of a name and what is held against its limit."""
    rows = []
    for name, subject in subjects:
        ours, parts = measure(subject, n_rounds)
        limit = sum(parts.values())
        row = [name, subject.threads, str(ours.scaled(1e3)), limit * 1e3]
        shares = (f"{100 * part / limit:.0f}" for part in parts.values())
        row += [ours.median / limit, *shares]
        rows.append(row)
        print(*row, flush=True)
    columns = ["workload", "threads", "ours, ms", "limit, ms", "ours / limit"]
    columns += [f"% {part}" for part in parts]
    return table(columns, rows)


def epochs(names):
    """Pairs of a name and an `Epoch`."""
    for name in names:
        needs_data = name == "donut" or name.startswith("mnist")
        if needs_data and "SKAE_DATA" not in os.environ:
            print(f"{name}: SKAE_DATA is not set")
            continue
        yield name, Epoch(WORKLOADS[name])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="*", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "limit.md")
    options = parser.parse_args()
    parts = ["# The machine's limit", header()]
    if options.workloads:
        parts += ["## An epoch", compare(epochs(options.workloads), options.rounds)]
    parts += ["## A pass over the data", compare(inferences(), options.rounds)]
    text = "\n\n".join(parts) + "\n"
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
