"""The data of the examples that are large, or published by others.

They are read from the folder that ``SKAE_DATA`` names; without it scikit-learn's own
small digits, and made donuts, stand in, so that the examples run anywhere.
"""

import os
import pathlib
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae.datasets import fetch_mnist, make_donuts


class Images(NamedTuple):
    """Rows of pixels in [0, 1], float32, and labels."""

    train: np.ndarray
    test: np.ndarray
    labels_train: np.ndarray
    labels_test: np.ndarray
    shape: tuple

    @property
    def are_large(self):
        """Whether they are MNIST's."""
        return self.shape == (28, 28)


def published(name):
    """Path of a file in the folder, or None."""
    folder = os.environ.get("SKAE_DATA")
    path = pathlib.Path(folder or ".", name)
    return path if folder and path.exists() else None


def load_images():
    """MNIST, or its stand-in."""
    if published("mnist.npz"):
        X, y = fetch_mnist(return_X_y=True)
        return Images(X[:60_000], X[60_000:], y[:60_000], y[60_000:], (28, 28))
    X, y = load_digits(return_X_y=True)
    parts = train_test_split(X.astype(np.float32) / 16, y, random_state=0)
    return Images(*parts, (8, 8))


def load_donuts():
    """The published donuts, or their stand-in: rows and classes."""
    path = published("donut_corr2.npy")
    if path is None:
        return make_donuts(random_state=0)
    data = np.load(path)
    return data[:, :4], data[:, 4].astype(int)
