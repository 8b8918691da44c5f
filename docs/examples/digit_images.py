"""What the examples share: images of digits, and how to show them.

MNIST is read from the folder that ``SKAE_DATA`` names; without it scikit-learn's own
small digits stand in, so that the examples run anywhere.
"""

import os
import pathlib
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


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


def load():
    """MNIST, or its stand-in."""
    folder = os.environ.get("SKAE_DATA")
    path = pathlib.Path(folder or ".", "mnist.npz")
    if folder and path.exists():
        file = np.load(path)
        rows = [
            file[name].reshape(-1, 784) / np.float32(255)
            for name in ("X_train", "X_test")
        ]
        return Images(*rows, file["y_train"], file["y_test"], (28, 28))
    X, y = load_digits(return_X_y=True)
    parts = train_test_split(X.astype(np.float32) / 16, y, random_state=0)
    return Images(*parts, (8, 8))


def show(rows_of_images, shape, titles, *, cmap="gray_r", limits=(0, 1)):
    """Rows of images, each with a title at its left."""
    n_rows, n_columns = len(rows_of_images), len(rows_of_images[0])
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(0.75 * n_columns + 1.2, 0.8 * n_rows),
        squeeze=False,
        layout="constrained",
    )
    low, high = limits
    for row_of_axes, images, title in zip(axes, rows_of_images, titles, strict=True):
        for ax, image in zip(row_of_axes, images, strict=True):
            ax.imshow(image.reshape(shape), cmap=cmap, vmin=low, vmax=high)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        row_of_axes[0].set_ylabel(title, rotation=0, ha="right", va="center")
    return figure
