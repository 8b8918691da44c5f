"""Training on a Dask cluster: two workers beside one, and a model of many.

Measures on this machine, writes ``results/dask_scaling.md``. The model's constants are
measured, too; what it says of networks and of more workers is arithmetic.
"""

import argparse
import itertools
import statistics
import time
from typing import NamedTuple

import _report
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

from skae import AutoencoderTransformer
from skae._partitions import Partitions
from skae.dask import DaskAutoencoderTransformer

N_FEATURES, N_ROWS, N_PARTITIONS = 784, 16_384, 2


class Workload(NamedTuple):
    """A network and how it is trained."""

    name: str
    hidden: tuple
    n_components: int
    solver: str
    batch_size: int
    n_local_steps: int = 1
    n_epochs: int = 4  # that are timed

    @property
    def parameters(self):
        return {
            "n_components": self.n_components,
            "hidden_layer_sizes": self.hidden,
            "solver": self.solver,
            "batch_size": self.batch_size,
            "init": "random",
            "loss": "log_loss",
            "early_stopping": False,
            "learning_rate": "constant",
            "tol": 0.0,
            "n_iter_no_change": np.inf,
            "random_state": 0,
        }

    @property
    def n_params(self):
        widths = [N_FEATURES, *self.hidden, self.n_components]
        n_weights = 2 * sum(a * b for a, b in itertools.pairwise(widths))
        return n_weights + sum(widths[1:]) + sum(widths[:-1])

    @property
    def step_rows(self):
        """Rows between two exchanges."""
        whole = self.solver == "lbfgs"
        return N_ROWS if whole else self.batch_size * self.n_local_steps


DEEP, MEDIUM = (1000, 500, 250), (256, 64)
WORKLOADS = (
    Workload("784-1000-500-250-30, Adam, batch 16384", DEEP, 30, "adam", 16_384, 1, 2),
    Workload("784-256-64-16, L-BFGS", MEDIUM, 16, "lbfgs", 0, 1, 5),
    Workload("784-256-64-16, Adam, batch 4096", MEDIUM, 16, "adam", 4096, 1, 4),
    Workload("784-256-64-16, Adam, batch 256", MEDIUM, 16, "adam", 256, 1, 1),
    Workload("the same, 16 local steps", MEDIUM, 16, "adam", 256, 16, 2),
)


def collection(client):
    """Random rows, made on the workers and kept there."""
    rows = da.random.default_rng(0).random(
        (N_ROWS, N_FEATURES), chunks=(N_ROWS // N_PARTITIONS, N_FEATURES), dtype="f4"
    )
    kept = client.persist(rows)
    client.gather(client.compute(kept.sum()))
    return kept


def fitted(workload, client, rows, n_epochs):
    parameters = {**workload.parameters, "max_iter": n_epochs}
    if workload.solver == "lbfgs":
        del parameters["batch_size"]
    return DaskAutoencoderTransformer(
        client=client, n_local_steps=workload.n_local_steps, **parameters
    ).fit(rows)


def epoch_seconds(workload, client, rows):
    """Seconds of an epoch: a difference of fits, without what each does once."""
    begin = time.perf_counter()
    fitted(workload, client, rows, 1)
    middle = time.perf_counter()
    fitted(workload, client, rows, 1 + workload.n_epochs)
    end = time.perf_counter()
    return ((end - middle) - (middle - begin)) / workload.n_epochs


def alone_seconds(workload, rows):
    """Seconds of an epoch of AutoencoderTransformer, in this process, on one thread."""
    parameters = {**workload.parameters, "max_iter": 1}
    if workload.solver == "lbfgs":
        del parameters["batch_size"]

    def fit(n_epochs):
        begin = time.perf_counter()
        estimator = AutoencoderTransformer(**{**parameters, "max_iter": n_epochs})
        _report.on_threads(1, estimator.fit)(rows)
        return time.perf_counter() - begin

    first = fit(1)
    return (fit(1 + workload.n_epochs) - first) / workload.n_epochs


def _as_it_is(block):
    return block


def _answer(block, vector):
    return vector


def exchange_seconds(client, rows, n_bytes, n_rounds=30):
    """Median seconds to send a vector to all partitions and get one from each."""
    vector = np.zeros(n_bytes // 4, dtype=np.float32)
    with Partitions.of(rows, client, validate=_as_it_is) as parts:
        parts.run(_answer, vector)
        seconds = []
        for _ in range(n_rounds):
            begin = time.perf_counter()
            parts.run(_answer, vector)
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


class Model(NamedTuple):
    """What an exchange costs, in seconds."""

    latency: float  # of an exchange of nothing with two workers
    seconds_a_byte: float  # to or from a worker, through the client's link

    def step(self, row_seconds, n_rows, n_bytes, n_workers):
        """Seconds of one step on workers with a partition each.

        They compute at once; what is sent to and from them passes the client one after
        the other. So does a latency, of which half is each worker's own.
        """
        compute = row_seconds * n_rows / n_workers
        latency = self.latency * (1 + n_workers / 2) / 2
        return compute + latency + 2 * n_workers * n_bytes * self.seconds_a_byte

    def best_workers(self, row_seconds, n_rows, n_bytes):
        """Number of workers beyond which a step takes longer."""
        a_worker = self.latency / 4 + 2 * n_bytes * self.seconds_a_byte
        return max(1, round((row_seconds * n_rows / a_worker) ** 0.5))


LINKS = {"1 Gbit/s": 8e-9, "10 Gbit/s": 8e-10, "100 Gbit/s": 8e-11}
WORKERS = (2, 4, 8, 16, 32, 64)
# With these many rows between exchanges the model is asked about.
LARGE_STEPS = (256, 4096, 65_536, 1_048_576)


def predictions(latency, row_seconds):
    """Rows of the table of speed against workers, for networks between them."""
    for workload in (WORKLOADS[0], WORKLOADS[2]):
        n_bytes = 4 * workload.n_params
        for n_rows in LARGE_STEPS:
            for link, seconds_a_byte in LINKS.items():
                model = Model(latency, seconds_a_byte)
                args = row_seconds[workload.name], n_rows, n_bytes
                alone = args[0] * n_rows
                yield (
                    workload.name.partition(",")[0],
                    n_rows,
                    link,
                    *(alone / model.step(*args, n) for n in WORKERS),
                    model.best_workers(*args),
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", default=str(_report.RESULTS / "dask_scaling.md"))
    options = parser.parse_args()
    kwargs = {"threads_per_worker": 1, "dashboard_address": ":0", "memory_limit": 0}
    with (
        LocalCluster(n_workers=1, **kwargs) as small,
        LocalCluster(n_workers=2, **kwargs) as large,
        Client(small, set_as_default=False) as one,
        Client(large, set_as_default=False) as two,
    ):
        data = {1: (one, collection(one)), 2: (two, collection(two))}
        here = one.gather(one.compute(data[1][1]))
        speed, row_seconds = [], {}
        for workload in WORKLOADS:
            results = {n: fitted(workload, *data[n], 2)._params for n in data}
            assert np.array_equal(results[1], results[2]), "the bits differ"
            seconds = {n: [] for n in data}
            alone = []
            for i in range(options.rounds):
                for n in list(data)[:: 1 if i % 2 == 0 else -1]:
                    seconds[n].append(epoch_seconds(workload, *data[n]))
                alone.append(alone_seconds(workload, here))
            spreads = {n: _report.Spread.of(seconds[n]) for n in data}
            ratio = spreads[1].median / spreads[2].median
            row_seconds[workload.name] = statistics.median(alone) / N_ROWS
            speed.append(
                (workload.name, statistics.median(alone), *spreads.values(), ratio)
            )
            print(*speed[-1], flush=True)
        sizes = (8, 100_000, 1_000_000, 5_000_000, 10_000_000)
        exchanges = [
            (n_bytes, *(1e3 * exchange_seconds(*data[n], n_bytes) for n in data))
            for n_bytes in sizes
        ]
    latency = exchanges[0][2] / 1e3
    # Of two workers, to each and from each.
    a_byte = (exchanges[-1][2] - exchanges[0][2]) / 1e3 / (4 * sizes[-1])
    model, checks = Model(latency, a_byte), []
    for workload, (_, _, _, two_spread, _) in zip(WORKLOADS, speed, strict=True):
        n_steps = N_ROWS / workload.step_rows
        n_bytes = 4 * workload.n_params * (3 if workload.n_local_steps > 1 else 1)
        args = row_seconds[workload.name], workload.step_rows, n_bytes, 2
        checks.append((workload.name, n_steps * model.step(*args), two_spread.median))
    text = REPORT.format(
        header=_report.header(),
        speed=_report.table(
            (
                "workload",
                "in one process, s",
                "1 worker, s an epoch",
                "2 workers, s an epoch",
                "1 / 2",
            ),
            speed,
        ),
        exchanges=_report.table(
            ("bytes each way", "1 worker, ms", "2 workers, ms"), exchanges
        ),
        latency=1e3 * latency,
        bandwidth=1e-6 / a_byte,
        checks=_report.table(("workload", "model, s", "measured, s"), checks),
        predictions=_report.table(
            (
                "network",
                "rows a step",
                "link",
                *(f"{n}" for n in WORKERS),
                "most useful",
            ),
            predictions(latency, row_seconds),
        ),
    )
    with open(options.output, "w", encoding="utf-8") as file:
        file.write(text)
    print(text)


REPORT = """\
# Training on a Dask cluster

Made by `dask_scaling.py`.

{header}

## Two workers beside one

16,384 × 784 random rows in two partitions, worker processes of one thread each; an
epoch (of L-BFGS an iteration, which evaluates the gradient once or more), median and
least to greatest. The weights have the same bits on one worker and on two.

{speed}

## An exchange

A vector to each worker, and one back from each of two partitions.

{exchanges}

## Model

A step on w workers with a partition each takes

    rows * seconds_a_row / w + latency * (1 + w / 2) / 2 + 2 * w * bytes / bandwidth

as workers compute at once, and all that is sent passes the client. Measured here:
a latency of {latency:.1f} ms for two workers, and {bandwidth:.0f} MB/s. Beside what was
measured on two workers:

{checks}

What it says for workers with a machine each, with the latency measured here: speed
over one machine without a cluster, by number of workers, and the number beyond which
more make a step slower.

{predictions}
"""


if __name__ == "__main__":
    main()
