"""What do noise, sparsity and pretraining do on MNIST?

    python benchmarks/family.py                        # about 15 minutes
    python benchmarks/family.py --parts sparse

Denoising: 784-k-784, plain and denoising, the same in all else. Test images are
corrupted as in training; R² is of their reconstructions, against the clean images; the
accuracy is of a logistic regression, trained and tested on codes of clean images, and
of corrupted ones. Sparse: 784-100-784 by weight of the divergence. Pretraining:
784-500-250-30, with and without, and with as many epochs in all.
``SKAE_DATA`` names the folder of `mnist.npz`.
"""

import argparse
import time

import numpy as np
from _report import RESULTS, header, table
from mnist import NETWORKS, load, squared_error
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

LEVEL = 0.3
SHALLOW = NETWORKS["shallow"]
SPARSE = clone(SHALLOW).set_params(
    n_components=100,
    code_activation="logistic",
    learning_rate_init=0.003,
    max_iter=20,
)
DEEP = AutoencoderTransformer(
    30,
    hidden_layer_sizes=(500, 250),
    loss="log_loss",
    batch_size=256,
    learning_rate="cosine",
    n_iter_no_change=np.inf,
    random_state=0,
)
# A fifth as many for each of the three layers.
DEEP_EPOCHS = 10


def corrupted(X, noise, rng):
    if noise == "gaussian":
        noisy = X + LEVEL * rng.standard_normal(X.shape)
    else:
        noisy = np.where(rng.random(X.shape) < LEVEL, 0, X)
    return noisy.astype(X.dtype)


def r2(model, X, clean):
    reconstruction = model.inverse_transform(model.transform(X))
    lost = np.square(clean - reconstruction, dtype=np.float64).sum()
    return 1 - lost / np.square(clean - model.mean_, dtype=np.float64).sum()


def accuracy(model, train, test):
    """Of a linear classifier of codes; pairs of images and labels."""
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(solver="newton-cholesky")
    )
    classifier.fit(model.transform(train[0]), train[1])
    return classifier.score(model.transform(test[0]), test[1])


def denoising(train, test):
    rng = np.random.default_rng(0)
    for noise in ("masking", "gaussian"):
        noisy = [(corrupted(X, noise, rng), y) for X, y in (train, test)]
        for n_components in (32, 64, 128):
            for kind in (None, noise):
                model = clone(SHALLOW).set_params(n_components=n_components)
                model.set_params(noise=kind, noise_level=LEVEL).fit(train[0])
                yield [
                    f"784-{n_components}-784",
                    noise,
                    "denoising" if kind else "plain",
                    f"{r2(model, noisy[1][0], test[0]):.3f}",
                    f"{r2(model, test[0], test[0]):.3f}",
                    f"{accuracy(model, train, test):.4f}",
                    f"{accuracy(model, *noisy):.4f}",
                ]


def sparse(train, test):
    for weight in (0.0, 1.0, 3.0, 10.0, 30.0, 100.0):
        model = clone(SPARSE).set_params(sparsity="kl", sparsity_weight=weight)
        model.fit(train[0])
        activation = model.mean_activation_
        yield [
            weight,
            f"{activation.min():.3f}",
            f"{np.median(activation):.3f}",
            f"{activation.max():.3f}",
            f"{model.score(test[0]):.3f}",
            f"{accuracy(model, train, test):.4f}",
        ]


def pretraining(train, test):
    for activation in ("logistic", "relu"):
        for pretrain, n_epochs in (
            (None, DEEP_EPOCHS),
            ("layerwise", DEEP_EPOCHS),
            # As many epochs as all layers together had.
            (None, DEEP_EPOCHS + 6),
        ):
            model = clone(DEEP).set_params(
                activation=activation, pretrain=pretrain, max_iter=n_epochs
            )
            begin = time.perf_counter()
            model.fit(train[0])
            yield [
                activation,
                pretrain or "none",
                n_epochs,
                f"{(time.perf_counter() - begin) / 60:.1f}",
                f"{model.loss_curve_[0]:.1f}",
                f"{model.loss_:.1f}",
                f"{squared_error(model, test[0]):.2f}",
            ]


PARTS = {
    "denoising": (
        denoising,
        [
            "network",
            "noise",
            "training",
            "R², corrupted test images",
            "R², clean test images",
            "accuracy, clean",
            "accuracy, corrupted",
        ],
    ),
    "sparse": (
        sparse,
        ["weight", "minimum", "median", "maximum", "R², test images", "accuracy"],
    ),
    "pretraining": (
        pretraining,
        [
            "activation",
            "pretraining",
            "epochs",
            "minutes",
            "loss, first epoch",
            "last epoch",
            "squared error, test",
        ],
    ),
}
TITLES = {
    "denoising": "Denoising",
    "sparse": "Mean activations of a sparse code (target 0.05)",
    "pretraining": "Layerwise pretraining, 784-500-250-30",
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    train, test = load(with_labels=True)
    text = "# Noise, sparsity, pretraining on MNIST\n\nMade by `family.py`.\n\n"
    text += f"{header()}\n"
    for part in args.parts:
        make, columns = PARTS[part]
        rows = []
        for row in make(train, test):
            rows.append(row)
            print(dict(zip(columns, row, strict=True)), flush=True)
        text += f"\n## {TITLES[part]}\n\n{table(columns, rows)}\n"
    print(text)
    if set(args.parts) == set(PARTS):
        (RESULTS / "family.md").write_text(text)


if __name__ == "__main__":
    main()
