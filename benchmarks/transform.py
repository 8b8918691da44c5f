"""transform and inverse_transform beside PCA's (workload i).

    SKAE_DATA=... python benchmarks/transform.py
    python benchmarks/transform.py --share 0.01 --rounds 3    # a trial

Two autoencoders without hidden layers, float32, loss "log_loss" (so a logistic
output), against a PCA of as many components on the same arrays:

- 1,000,000 uniform random rows through 32-2-32, with a logistic code;
- MNIST's 60,000 training rows, / 255, through 784-32-784, with a relu code.

Each is timed on one thread and on two, all in turn; a method's figure is the median on
the number of threads that suits it better. Flops count two for each weight and row,
which makes both methods equal; what PCA has not, the autoencoder's transcendental
functions (an exponential for each entry of a logistic layer), is stated beside it. The
time does not depend on how well either is fitted: they see a few rows only.
"""

import argparse
import os
import pathlib
import warnings
from typing import NamedTuple

import numpy as np
from _report import Spread, header, interleaved, on_threads, table, thread_counts
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skae import AutoencoderTransformer

ROWS_FITTED = 2000


class Workload(NamedTuple):
    """Data, and the code that they are reduced to."""

    name: str
    X: np.ndarray
    n_components: int
    code_activation: str

    @property
    def flops(self):
        """Of either direction."""
        return 2 * self.X.size * self.n_components

    @property
    def exponentials(self):
        """Method -> evaluations."""
        n_codes = len(self.X) * self.n_components
        return {
            "transform": n_codes if self.code_activation == "logistic" else 0,
            "inverse_transform": self.X.size,
        }


def workloads(share):
    n_rows = int(1_000_000 * share)
    X = np.random.default_rng(0).random((n_rows, 32), dtype=np.float32)
    yield Workload("uniform, 32-2-32", X, 2, "logistic")
    if "SKAE_DATA" not in os.environ:
        print("SKAE_DATA is not set: no MNIST")
        return
    with np.load(pathlib.Path(os.environ["SKAE_DATA"], "mnist.npz")) as data:
        X = data["X_train"][: int(60_000 * share)].astype(np.float32) / 255
    yield Workload("MNIST, 784-32-784", X, 32, "relu")


def autoencoder(workload):
    """The workload's autoencoder, fitted."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    return AutoencoderTransformer(
        workload.n_components,
        hidden_layer_sizes=(),
        code_activation=workload.code_activation,
        loss="log_loss",
        max_iter=1,
        random_state=0,
    ).fit(workload.X[:ROWS_FITTED])


def methods(workload):
    """Pairs of a method's name, and the function of each estimator."""
    X, k = workload.X, workload.n_components
    estimators = {
        "skae": autoencoder(workload),
        "PCA": PCA(k, svd_solver="covariance_eigh").fit(X[:ROWS_FITTED]),
    }
    codes = {name: model.transform(X) for name, model in estimators.items()}
    assert {code.dtype for code in codes.values()} == {X.dtype}
    yield (
        "transform",
        {
            name: lambda model=model: model.transform(X)
            for name, model in estimators.items()
        },
    )
    yield (
        "inverse_transform",
        {
            name: lambda model=model, code=codes[name]: model.inverse_transform(code)
            for name, model in estimators.items()
        },
    )


def best(functions, n_rounds):
    """Estimator -> its best spread, and the threads that it had."""
    cases = {
        (name, n): on_threads(n, function)
        for name, function in functions.items()
        for n in thread_counts()
    }
    seconds = interleaved(cases, n_rounds)
    spreads = {case: Spread.of(times) for case, times in seconds.items()}
    return {
        name: min((spreads[name, n].scaled(1e3), n) for n in thread_counts())
        for name in functions
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--share", type=float, default=1, help="of the rows")
    options = parser.parse_args()
    rows = []
    for workload in workloads(options.share):
        for method, functions in methods(workload):
            times = best(functions, options.rounds)
            ours, its = times["skae"], times["PCA"]
            rows.append(
                (
                    workload.name,
                    method,
                    len(workload.X),
                    *ours,
                    *its,
                    ours[0].median / its[0].median,
                    1.0,
                    workload.flops / 1e6,
                    workload.exponentials[method] / 1e6,
                )
            )
    columns = ("data", "method", "rows", "skae, ms", "threads", "PCA, ms", "threads")
    columns += ("skae / PCA", "flops, skae / PCA", "Mflop each", "skae's exp, millions")
    print(header())
    print(
        "\nMedian (minimum–maximum) of the rounds, on the better number of threads:\n"
    )
    print(table(columns, rows))


if __name__ == "__main__":
    main()
