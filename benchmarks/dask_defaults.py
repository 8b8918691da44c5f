"""What do the defaults of a fit on a cluster cost, in time and in what is learnt?

    python benchmarks/dask_defaults.py         # results/dask_defaults.md; 3 minutes

Each set in eight partitions on two worker processes, with other numbers of exchanges
of weights per epoch (`n_local_steps`), beside `AutoencoderTransformer` on the same
samples in one process. ``SKAE_DATA`` names the folder of `mnist.npz`.
"""

import argparse
import os
import time
from pathlib import Path

import dask.array as da
import numpy as np
from _report import RESULTS, header, table
from distributed import Client, LocalCluster
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.dask import DaskAutoencoderTransformer

N_PARTITIONS, N_WORKERS = 8, 2
N_ROWS, N_FEATURES, N_LATENT = 200_000, 32, 5
EXCHANGES = 3, 6, 12, 24
TEST_SIZE = 0.1


def _teacher(rng):
    """Outputs of a random network of `N_LATENT` inputs, with noise."""
    latent = rng.standard_normal((N_ROWS, N_LATENT))
    hidden = np.tanh(latent @ rng.standard_normal((N_LATENT, 50)))
    X = hidden @ rng.standard_normal((50, N_FEATURES)) / np.sqrt(50)
    return X + 0.1 * rng.standard_normal(X.shape)


def _clusters(rng):
    """Twenty flat clusters, each of its own directions."""
    labels = rng.integers(20, size=N_ROWS)
    centers = rng.standard_normal((20, N_FEATURES))
    axes = rng.standard_normal((20, 2, N_FEATURES))
    latent = rng.standard_normal((N_ROWS, 1, 2))
    X = centers[labels] + (latent @ axes[labels])[:, 0]
    return X + 0.1 * rng.standard_normal(X.shape)


def _mnist(rng):
    with np.load(Path(os.environ["SKAE_DATA"]) / "mnist.npz") as file:
        return rng.permutation(file["X_train"].astype(np.float32) / 255)


SETS = {
    "teacher": (_teacher, 3),
    "clusters": (_clusters, 5),
    "mnist": (_mnist, 16),
}


def timed(estimator, X, X_test):
    begin = time.perf_counter()
    estimator.fit(X)
    seconds = time.perf_counter() - begin
    if hasattr(estimator, "to_local"):
        estimator = estimator.to_local()
    return seconds, estimator.score(X_test), estimator.n_iter_


def lines_of(name, exchanges):
    make, n_components = SETS[name]
    X = make(np.random.default_rng(0))
    X = X if name == "mnist" else StandardScaler().fit_transform(X)
    X = X.astype(np.float32)
    n_test = int(TEST_SIZE * len(X))
    X_test, X = X[:n_test], X[n_test:]
    chunks = (-(-len(X) // N_PARTITIONS), -1)
    parts = da.from_array(X, chunks=chunks).persist()
    local = AutoencoderTransformer(n_components, random_state=0)
    AutoencoderTransformer(n_components, max_iter=1).fit(X)  # compiles
    DaskAutoencoderTransformer(n_components, max_iter=1).fit(parts)
    seconds, r2, n_iter = timed(local, X, X_test)
    yield [name, "one process", f"{seconds:.1f}", "", f"{r2:.4f}", "", str(n_iter)]
    n_steps = -(-int(0.8 * len(X)) // local.batch_size_)
    for number in exchanges:
        estimator = DaskAutoencoderTransformer(
            n_components, random_state=0, n_local_steps=max(1, n_steps // number)
        )
        found, of_found, n_iter = timed(estimator, parts, X_test)
        ratio, difference = f"{found / seconds:.1f}", f"{of_found - r2:+.4f}"
        yield [
            name,
            str(number),
            f"{found:.1f}",
            ratio,
            f"{of_found:.4f}",
            difference,
            str(n_iter),
        ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--exchanges", type=int, nargs="*", default=EXCHANGES)
    args = parser.parse_args()
    lines = []
    cluster = LocalCluster(
        n_workers=N_WORKERS, threads_per_worker=1, dashboard_address=":0"
    )
    with cluster, Client(cluster):
        for name in args.sets:
            for line in lines_of(name, args.exchanges):
                print(*line, flush=True)
                lines.append(line)
    columns = [
        "set",
        "exchanges per epoch",
        "seconds",
        "to one process",
        "held-out R²",
        "difference",
        "epochs",
    ]
    if args.sets == list(SETS):
        (RESULTS / "dask_defaults.md").write_text(
            "# Defaults on a cluster\n\nMade by `dask_defaults.py`: fits with default "
            f"parameters in {N_PARTITIONS} partitions on {N_WORKERS} worker "
            f"processes.\n\n{header()}\n\n{table(columns, lines)}\n"
        )


if __name__ == "__main__":
    main()
