"""Training on a Dask cluster: two workers beside one, and a model of many.

Measures on this machine, writes ``results/dask_scaling.md``. The model's constants are
measured, too; what it says of networks and of more workers is arithmetic.
"""

import argparse
import functools
import itertools
import statistics
import time
import warnings
from typing import NamedTuple

import _report
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from sklearn.exceptions import ConvergenceWarning

from skae import AutoencoderTransformer
from skae._runtime.threads import single_threaded
from skae.dask import DaskAutoencoderTransformer
from skae.dask.partitions import Partitions

N_FEATURES, N_ROWS, N_PARTITIONS = 784, 32_768, 2


class Workload(NamedTuple):
    """A network and how it is trained."""

    name: str
    hidden: tuple
    n_components: int
    solver: str
    batch_size: int
    n_local_steps: int = 1
    n_epochs: int = 4  # of a fit that is timed

    @property
    def parameters(self):
        of_solver = {}
        if self.solver == "adam":
            of_solver = {
                "batch_size": self.batch_size,
                "learning_rate": "constant",
                "early_stopping": False,
            }
        return {
            "n_components": self.n_components,
            "hidden_layer_sizes": self.hidden,
            "solver": self.solver,
            "init": "random",
            "loss": "log_loss",
            "max_iter": self.n_epochs,
            "tol": 0.0,
            "n_iter_no_change": np.inf,
            "random_state": 0,
            **of_solver,
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
    Workload("784-1000-500-250-30, Adam, batch 32768", DEEP, 30, "adam", 32_768, 1, 4),
    Workload("784-256-64-16, L-BFGS", MEDIUM, 16, "lbfgs", 0, 1, 10),
    Workload("784-256-64-16, Adam, batch 4096", MEDIUM, 16, "adam", 4096, 1, 6),
    Workload("784-256-64-16, Adam, batch 256", MEDIUM, 16, "adam", 256, 1, 3),
    Workload("the same, 16 local steps", MEDIUM, 16, "adam", 256, 16, 4),
)


class Clock:
    """A callback of scikit-learn that notes when epochs end."""

    def __init__(self):
        self.ends = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.parent is not None:  # not that of the fit
            self.ends.append(time.perf_counter())
        return False


def collection(client):
    """Random rows, made on the workers and kept there."""
    rows = da.random.default_rng(0).random(
        (N_ROWS, N_FEATURES), chunks=(N_ROWS // N_PARTITIONS, N_FEATURES), dtype="f4"
    )
    kept = client.persist(rows)
    client.gather(client.compute(kept.sum()))
    return kept


class Times:
    """Seconds of fits, and of their epochs but the first."""

    def __init__(self, make, rows):
        self._make, self._rows = make, rows
        self.fits, self.epochs = [], []

    def fit(self):
        """Fit once more; returns the estimator."""
        clock = Clock()
        estimator = self._make().set_callbacks(clock)
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # after so few epochs
            estimator.fit(self._rows)
        self.fits.append(time.perf_counter() - begin)
        self.epochs += np.diff(clock.ends).tolist()
        return estimator

    def of_epochs(self):
        return _report.Spread.of(self.epochs)

    def of_fits(self):
        return _report.Spread.of(self.fits)


# No cluster: AutoencoderTransformer in this process, on one thread.
ALONE, ONE, TWO, BY_SCHEDULER = "no cluster", "1 worker", "2 workers", "2, by scheduler"


def times(workload, collections, here):
    """Times, none yet, by the name of the case."""
    found = {ALONE: Times(lambda: AutoencoderTransformer(**workload.parameters), here)}
    for name, (client, rows) in collections.items():
        make = functools.partial(
            DaskAutoencoderTransformer,
            client=client,
            n_local_steps=workload.n_local_steps,
            **workload.parameters,
        )
        found[name] = Times(make, rows)
    return found


def measured(workload, collections, here, n_rounds):
    """Times by the name of the case, in turn; the bits are the same on all clusters."""
    first = times(workload, collections, here)
    params = {name: of_case.fit()._params for name, of_case in first.items()}
    for name in collections:
        assert np.array_equal(params[name], params[ONE]), "the bits differ"
    found = times(workload, collections, here)
    cases = {name: of_case.fit for name, of_case in found.items()}
    with single_threaded():
        _report.interleaved(cases, n_rounds, warm_up=False)
    return found


def _as_it_is(block):
    return block


def _answer(block, vector):
    return vector.copy()  # the same twice would be sent once


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
    seconds_per_byte: float  # to or from a worker, through the client's link

    def step(self, row_seconds, n_rows, n_bytes, n_workers):
        """Seconds of one step on workers with a partition each.

        They compute at once; what is sent to and from them passes the client one after
        the other. So does a latency, of which half is each worker's own.
        """
        compute = row_seconds * n_rows / n_workers
        latency = self.latency * (1 + n_workers / 2) / 2
        return compute + latency + 2 * n_workers * n_bytes * self.seconds_per_byte

    def best_workers(self, row_seconds, n_rows, n_bytes):
        """Number of workers beyond which a step takes longer."""
        a_worker = self.latency / 4 + 2 * n_bytes * self.seconds_per_byte
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
            for link, seconds_per_byte in LINKS.items():
                model = Model(latency, seconds_per_byte)
                args = row_seconds[workload.name], n_rows, n_bytes
                alone = args[0] * n_rows
                yield (
                    workload.name.partition(",")[0],
                    n_rows,
                    link,
                    *(alone / model.step(*args, n) for n in WORKERS),
                    model.best_workers(*args),
                )


SIZES = (8, 100_000, 1_000_000, 5_000_000, 10_000_000)


def exchanges(collections):
    """Rows of the table: a size, and seconds by case."""
    return [
        (n_bytes, *(exchange_seconds(*case, n_bytes) for case in collections.values()))
        for n_bytes in SIZES
    ]


def model_of(exchanged):
    """The model with what was measured of two workers."""
    (_, _, nothing, _), *_, (n_bytes, _, most, _) = exchanged
    return Model(nothing, (most - nothing) / (2 * 2 * n_bytes))  # to and from each


def row_seconds(of_cases):
    """Seconds a row, without a cluster."""
    return of_cases[ALONE].of_epochs().median / N_ROWS


def checks(model, found):
    """Rows of the table of the model beside what two workers took."""
    for workload, of_cases in found.items():
        n_steps = N_ROWS / workload.step_rows
        n_bytes = 4 * workload.n_params * (3 if workload.n_local_steps > 1 else 1)
        step = model.step(row_seconds(of_cases), workload.step_rows, n_bytes, 2)
        yield workload.name, n_steps * step, of_cases[TWO].of_epochs().median


def speed(found, of):
    """Rows of the table of epochs, or of fits, by case, and what two workers gain."""
    for workload, of_cases in found.items():
        spreads = {name: of(of_case) for name, of_case in of_cases.items()}
        ratio = spreads[ONE].median / spreads[TWO].median
        yield workload.name, *spreads.values(), ratio


def report(found, exchanged):
    """The text of the report."""
    model = model_of(exchanged)
    seconds = {w.name: row_seconds(of_cases) for w, of_cases in found.items()}
    columns = "workload, seconds", ALONE, ONE, TWO, BY_SCHEDULER, "1 / 2"
    return REPORT.format(
        header=_report.header(),
        epochs=_report.table(columns, list(speed(found, Times.of_epochs))),
        fits=_report.table(columns, list(speed(found, Times.of_fits))),
        exchanges=_report.table(
            ("bytes each way, ms", ONE, TWO, BY_SCHEDULER),
            [(n_bytes, *(1e3 * s for s in seconds)) for n_bytes, *seconds in exchanged],
        ),
        latency=1e3 * model.latency,
        bandwidth=1e-6 / model.seconds_per_byte,
        checks=_report.table(
            ("workload", "model, s", "measured, s"), list(checks(model, found))
        ),
        predictions=_report.table(
            (
                "network",
                "rows a step",
                "link",
                *map(str, WORKERS),
                "most useful",
            ),
            list(predictions(model.latency, seconds)),
        ),
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
        Client(small, set_as_default=False, direct_to_workers=True) as one,
        Client(large, set_as_default=False, direct_to_workers=True) as two,
        Client(large, set_as_default=False) as by_scheduler,
    ):
        clients = {ONE: one, TWO: two, BY_SCHEDULER: by_scheduler}
        collections = {name: (c, collection(c)) for name, c in clients.items()}
        here = one.gather(one.compute(collections[ONE][1]))
        found = {}
        for workload in WORKLOADS:
            found[workload] = measured(workload, collections, here, options.rounds)
            (row,) = speed({workload: found[workload]}, Times.of_epochs)
            print(*row, sep=" | ", flush=True)
        exchanged = exchanges(collections)
    text = report(found, exchanged)
    with open(options.output, "w", encoding="utf-8") as file:
        file.write(text)
    print(text)


REPORT = """\
# Training on a Dask cluster

Made by `dask_scaling.py`.

{header}

## Two workers compared with one

32,768 × 784 random rows in two partitions, worker processes of one thread each, a
client with `direct_to_workers=True` and, in the last columns, one without. Fits of 3 to
10 epochs in turn, in seconds: median, and minimum to maximum. The weights have the same
bits on one worker and on two. "No cluster" is `AutoencoderTransformer`, on one thread,
in the client's process.

An epoch after the first (for L-BFGS an iteration, which evaluates the gradient at least
once):

{epochs}

A whole fit, including what is computed before the first epoch and after the last:

{fits}

## Communication

Sending a vector to each worker and one back from each of two partitions, in
milliseconds.

{exchanges}

## Model

A step on w workers with one partition each takes

    rows * seconds_per_row / w + latency * (1 + w / 2) / 2 + 2 * w * bytes / bandwidth

because workers compute at the same time, and everything that is sent passes through
the client. Measured here:
a latency of {latency:.1f} ms for two workers, and {bandwidth:.0f} MB/s. Compared
with what was measured on two workers, per epoch (an iteration of L-BFGS counts as one
step):

{checks}

Predictions for workers that have a machine each, with the latency measured here: the
speedup over one machine without a cluster, by number of workers, and the number of
workers beyond which a step becomes slower.

{predictions}
"""


if __name__ == "__main__":
    main()
