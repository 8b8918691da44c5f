"""How good do networks become on MNIST, and how soon?

    python benchmarks/mnist.py                 # both, about 20 minutes
    python benchmarks/mnist.py --networks shallow

Hinton & Salakhutdinov, "Reducing the dimensionality of data with neural networks"
(2006): from a code of 30 numbers test images are reconstructed with a squared error of
3.00, summed over the pixels, where PCA's is 13.87. The same network is trained end to
end here, from random weights. The shallow one, 784-32-784, is Keras' example.
``SKAE_DATA`` names the folder of `mnist.npz`.
"""

import argparse
import os
import pathlib
import time

import numpy as np
from _report import header, table
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer

RESULT = pathlib.Path(__file__).parent / "results" / "mnist.md"
NETWORKS = {
    "shallow": AutoencoderTransformer(
        32,
        hidden_layer_sizes=(),
        code_activation="relu",
        loss="log_loss",
        batch_size=256,
        max_iter=50,
        learning_rate="cosine",
        learning_rate_init=0.0015,
        n_iter_no_change=np.inf,
        random_state=0,
    ),
    "deep": AutoencoderTransformer(
        30,
        hidden_layer_sizes=(1000, 500, 250),
        activation="gelu",
        loss="log_loss",
        batch_size=256,
        alpha=0.01,
        max_iter=100,
        learning_rate="cosine",
        n_iter_no_change=np.inf,
        random_state=0,
    ),
}


def load(*, with_labels=False):
    """Training and test images, as rows of values in [0, 1]; or pairs with labels."""
    file = np.load(pathlib.Path(os.environ["SKAE_DATA"]) / "mnist.npz")
    for part in ("train", "test"):
        images = file[f"X_{part}"]
        X = images.reshape(len(images), -1).astype(np.float32) / 255
        yield (X, file[f"y_{part}"]) if with_labels else X


def squared_error(model, X):
    """Sum over the pixels, mean over the images."""
    return np.square(X - model.inverse_transform(model.transform(X))).sum(axis=1).mean()


def result(name, X_train, X_test):
    """A line of the table."""
    model = NETWORKS[name]
    begin = time.perf_counter()
    model.fit(X_train)
    seconds = time.perf_counter() - begin
    pca = PCA(model.n_components, random_state=0).fit(X_train)
    cross_entropy = model.reconstruction_error(X_test, metric="loss").mean()
    return [
        "-".join(str(len(weights)) for weights in model.coefs_) + "-784",
        str(model.max_iter),
        f"{seconds / 60:.1f}",
        f"{squared_error(model, X_train):.2f}",
        f"{squared_error(model, X_test):.2f}",
        f"{squared_error(pca, X_test):.2f}",
        f"{cross_entropy / X_test.shape[1]:.4f}",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=NETWORKS)
    args = parser.parse_args()
    X_train, X_test = load()
    columns = [
        "network",
        "epochs",
        "minutes",
        "squared error, training",
        "squared error, test",
        "PCA, test",
        "cross-entropy a pixel, test",
    ]
    rows = []
    for name in args.networks:
        rows.append(result(name, X_train, X_test))
        print(dict(zip(columns, rows[-1], strict=True)), flush=True)
    if len(rows) == len(NETWORKS):
        text = (
            f"# MNIST\n\nMade by `mnist.py`.\n\n{header()}\n\n{table(columns, rows)}\n"
        )
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
