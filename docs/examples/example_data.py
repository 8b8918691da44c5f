"""The data of the examples that are large, or published by others.

They are read from the folder that ``SKAE_DATA`` names; without it scikit-learn's own
small digits, and made donuts and people, stand in, so that the examples run anywhere.
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


def load_census():
    """Adult, the table of people in a census, or made people: table, high incomes."""
    path = published("adult.csv.gz")
    if path is None:
        return make_people()
    import pandas as pd

    frame = pd.read_csv(path)
    return frame, (frame.pop("income") == ">50K").to_numpy()


def make_people(n_samples=1500, seed=0):
    """People with columns like those of a census, and who has a high income.

    What they are depends on their age, on how long they went to school, and on chance.
    """
    import pandas as pd

    rng = np.random.default_rng(seed)

    def level(value, limits, names):
        """Names of the intervals, in each of which others are now and then."""
        value = value + 0.15 * np.std(value) * rng.standard_normal(n_samples)
        return np.array(names.split(), dtype=object)[np.digitize(value, limits)]

    age = np.rint(17 + 60 * rng.beta(1.5, 2.2, n_samples))
    schooling = np.clip(rng.normal(11, 3, n_samples), 1, 18)
    is_married = rng.random(n_samples) < 0.75 / (1 + np.exp((27 - age) / 3))
    sex = np.where(rng.random(n_samples) < 0.5, "Female", "Male").astype(object)
    employed = schooling + 4 * (sex == "Male") * (schooling < 12)
    hours = 42 + 0.5 * (schooling - 11) - 0.02 * (age - 42) ** 2
    hours += rng.normal(0, 4, n_samples)
    frame = pd.DataFrame(
        {
            "age": age,
            "education": level(
                schooling,
                [7, 9, 11, 13, 15, 17],
                "Primary 9th 11th HS-grad College Bachelors Masters",
            ),
            "education_num": np.rint(schooling),
            "marital_status": np.where(
                is_married,
                "Married",
                level(age, [32, 62], "Never-married Divorced Widowed"),
            ),
            "relationship": np.where(
                is_married,
                np.where(sex == "Male", "Husband", "Wife"),
                level(age, [24], "Own-child Not-in-family"),
            ),
            "occupation": level(
                employed,
                [9, 11, 12.5, 14, 15.5],
                "Cleaning Service Sales Clerical Craft Professional",
            ),
            "workclass": level(
                age + 3 * schooling, [80, 90, 100], "Private Local-gov State-gov Self"
            ),
            "sex": sex,
            "hours_per_week": np.maximum(4, np.rint(hours)),
        }
    )
    chance = (schooling - 12) / 2 + 2 * is_married - ((age - 48) / 12) ** 2 - 0.5
    is_high = rng.random(n_samples) < 1 / (1 + np.exp(-chance))
    gaps = rng.random(frame.shape) < 0.05
    gaps[:, frame.columns.get_indexer(["age", "education_num", "sex"])] = False
    return frame.mask(gaps), is_high
