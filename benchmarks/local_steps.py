"""What do steps that each partition makes by itself cost, in what is learnt?

    python benchmarks/local_steps.py           # results/local_steps.md; about 5 minutes

784-256-64-16 on MNIST, mini-batches of 256, on a Dask array of 2 and of 8 partitions.
With `n_local_steps` above 1 each partition makes so many steps on its own shares of the
batches, and weights are averaged: exchanged so much less often, but no longer the same
training. ``SKAE_DATA`` names the folder of `mnist.npz`.
"""

import argparse

import dask.array as da
import numpy as np
from _report import RESULTS, header, table
from distributed import Client
from mnist import load

from skae.dask import DaskAutoencoderTransformer

N_EPOCHS = 20
N_PARTITIONS = 2, 8
N_LOCAL_STEPS = 1, 4, 16, 64


def cross_entropies(X_train, X_test, n_partitions, n_local_steps):
    """Of training and test images after training, a pixel."""
    autoencoder = DaskAutoencoderTransformer(
        16,
        hidden_layer_sizes=(256, 64),
        loss="log_loss",
        batch_size=256,
        max_iter=N_EPOCHS,
        learning_rate="cosine",
        early_stopping=False,
        n_iter_no_change=np.inf,
        n_local_steps=n_local_steps,
        random_state=0,
    )
    rows = -(-len(X_train) // n_partitions)
    autoencoder.fit(da.from_array(X_train, chunks=(rows, -1)))
    local = autoencoder.to_local()
    return [
        local.reconstruction_error(X, metric="loss").mean() / X.shape[1]
        for X in (X_train, X_test)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.parse_args()
    X_train, X_test = load()
    lines = []
    # The bits depend on the partitions alone: workers may be threads.
    with Client(processes=False, n_workers=1, dashboard_address=":0"):
        for n_partitions in N_PARTITIONS:
            for n_local_steps in N_LOCAL_STEPS:
                found = cross_entropies(X_train, X_test, n_partitions, n_local_steps)
                lines.append(
                    [
                        str(n_partitions),
                        str(n_local_steps),
                        *(f"{x:.4f}" for x in found),
                    ]
                )
                print(*lines[-1], flush=True)
    columns = [
        "partitions",
        "local steps",
        "cross-entropy a pixel, training",
        "test",
    ]
    text = (
        "# Local steps\n\nMade by `local_steps.py`: 784-256-64-16 on MNIST, "
        f"{N_EPOCHS} epochs of mini-batches of 256.\n\n{header()}\n\n"
        f"{table(columns, lines)}\n"
    )
    (RESULTS / "local_steps.md").write_text(text)


if __name__ == "__main__":
    main()
