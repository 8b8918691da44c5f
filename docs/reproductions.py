"""What others have published, beside what the gallery's examples come to.

    python docs/reproductions.py

runs the examples on the data in the folder that ``SKAE_DATA`` names, and writes the
table of the documentation, reproductions.csv. The test suite runs them, too, and holds
them against the claims here: without ``SKAE_DATA`` on what stands in for its data.
"""

import csv
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

FOLDER = Path(__file__).parent
TABLE = FOLDER / "reproductions.csv"
COLUMNS = "system", "published", "ours", "setting", "seconds a fit"


class System(NamedTuple):
    """A published system; functions are of what its example leaves behind."""

    name: str
    published: str
    setting: str
    ours: Callable[[dict], str]
    holds: Callable[[dict], bool]  # on any data
    holds_on_published_data: Callable[[dict], bool] = lambda _: True
    seconds: Callable[[dict], float] = lambda found: found["seconds"]


def short(value):
    """A number, of two digits that count."""
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")


def spread(values):
    """Median, lowest and highest."""
    return f"{short(np.median(values))} ({short(min(values))} to {short(max(values))})"


def best_share(found):
    """Of the digit that is most often among the best, and that digit."""
    return f"{found['shares'].max():.0%} are {found['shares'].argmax()}"


# The example -> what it reproduces.
SYSTEMS = {
    "donuts_numpy": System(
        "[4-2-4 in NumPy](auto_examples/reproduce/plot_donuts_numpy.rst), "
        "tied, on donuts",
        "cost 0.000948; the rule from ten starts 0.0014 (0.0005 to 0.0041)",
        "its rule, 5000 full batches; then Adam with a cosine",
        lambda found: (
            f"{spread(found['costs'])}; Adam {spread(found['recommended_costs'])}"
        ),
        lambda found: np.median(found["costs"]) <= 0.0015,
        lambda found: max(found["recommended_costs"]) <= 0.0001,
    ),
    "donuts_keras": System(
        "[4-2-4 in Theano and Keras](auto_examples/reproduce/plot_donuts_keras.rst)",
        "Theano, 5000 epochs: cost 0.000127; weights identical",
        "the rule of Keras, 3000 full batches, 33 % held out",
        lambda found: f"held-out cost {found['mean_squared_error']:.6f}; identical",
        lambda found: found["is_tied"] and found["mean_squared_error"] < 0.0015,
        lambda found: found["mean_squared_error"] < 0.0002,
    ),
    "one_hot": System(
        "[8-3-8 in TensorFlow](auto_examples/reproduce/plot_one_hot.rst)",
        "error 0.0323 at epoch 900, accuracy 1.0; the rule from 20 starts 0.029 "
        "(0.017 to 0.044), accuracy 1.0 in 18",
        "its rule, 1000 epochs, from 200 starts; then a larger learning rate",
        lambda found: (
            f"{spread(found['errors'])}, accuracy 1.0 in {found['share']:.0%}; "
            f"then {spread(found['recommended_errors'])}, "
            f"{found['recommended_share']:.0%}"
        ),
        lambda found: (
            np.median(found["errors"]) <= 0.033
            and found["share"] >= 0.75
            and found["recommended_share"] == 1
        ),
    ),
    "one_hot_bias": System(
        "[8-3-8 from scratch](auto_examples/reproduce/plot_one_hot_bias.rst), "
        "the bias an input",
        "accuracy 1.0",
        "plain gradient descent, 10,000 epochs",
        lambda found: (
            f"accuracy {found['accuracy']:.1f}, {found['n_distinct']} codes of 3 bits"
        ),
        lambda found: found["accuracy"] == 1 and found["n_distinct"] == 8,
    ),
    "ring": System(
        "[Ring 2-4-1-4-2](auto_examples/reproduce/plot_ring.rst)",
        "loss stalls near 0.287",
        "its rule, from ten starts; then a linear output, tanh and Adam",
        lambda found: f"{spread(found['stalled'])}; then {found['error']:.3f}",
        lambda found: (
            0.25 < np.median(found["stalled"]) < 0.3 and found["error"] < 0.02
        ),
    ),
    "mnist": System(
        "[MNIST 784-32-784](auto_examples/reproduce/plot_mnist.rst)",
        "0.0917 a pixel",
        "cross-entropy, Adam, batches of 256, 50 epochs",
        lambda found: f"{found['cross_entropy']:.4f}",
        lambda found: found["r2"](found["model"]) > found["r2"](found["pca"]),
        lambda found: found["cross_entropy"] <= 0.0917,
    ),
    "uncorrelated": System(
        "[Uniform 32-2-32 and deeper](auto_examples/reproduce/plot_uncorrelated.rst)",
        "nothing is compressed: half of the range lost of all but two features",
        "1,000,000 rows, cross-entropy, Adam, batches of 100, 10 epochs",
        lambda found: "; ".join(
            f"{name}: {values.mean():.2f} ± {values.std():.2f}"
            for name, values in found["errors"].items()
        ),
        # Between two features known exactly, and none.
        lambda found: all(
            7.4 < values.mean() < 8.05 for values in found["errors"].values()
        ),
    ),
    "correlated": System(
        "[Sinusoids](auto_examples/reproduce/plot_correlated.rst), 32 features",
        "the error does not grow as that of uniform data does; depth helps",
        "codes of 1 and 2, up to three hidden layers, 30 epochs",
        lambda found: (
            f"32-2-32: {found['of_waves'][-1]:.2f}, of uniform data "
            f"{found['of_noise'][-1]:.2f}; a code of 1: "
            f"{found['by_depth'][1][0][0]:.2f} without hidden layers, "
            f"{found['by_depth'][1][-1][0]:.2f} with three"
        ),
        lambda found: (
            found["of_waves"][-1] < found["of_noise"][-1] / 4
            and found["by_depth"][1][-1][0] < found["by_depth"][1][0][0] / 4
        ),
    ),
    "mnist_errors": System(
        "[MNIST's best and worst](auto_examples/understand/plot_mnist_errors.rst)",
        "ones are reconstructed best",
        "784-32-784; the tenth of the test images with the lowest errors",
        best_share,
        lambda found: found["shares"].max() > 0.2,
        lambda found: found["shares"].argmax() == 1,
    ),
    "denoising": System(
        "[Denoised digits](auto_examples/use/plot_denoising.rst)",
        "images corrupted by masking are restored",
        "784-64-784, 3 pixels in 10 masked, 15 epochs",
        lambda found: (
            f"R² of the clean images {found['r2'](found['denoising']):.3f}, "
            f"without noise in training {found['r2'](found['plain']):.3f}"
        ),
        lambda found: (
            found["r2"](found["denoising"]) > found["r2"](found["plain"]) + 0.05
        ),
    ),
    "sparse": System(
        "[Features of a sparse code](auto_examples/understand/plot_sparse.rst)",
        "units of low mean activation see strokes",
        "784-196-784, target 0.1, weight 3",
        lambda found: (
            f"mean activation {found['sparse'].mean_activation_.mean():.2f}, "
            f"without penalty {found['dense_activation'].mean():.2f}"
        ),
        lambda found: (
            found["sparse"].mean_activation_.mean() < found["dense_activation"].mean()
        ),
    ),
    "variational": System(
        "[A variational code](auto_examples/understand/plot_variational.rst)",
        "digits by two numbers, and samples",
        "784-256-64-10, 12 epochs",
        lambda found: f"bound of the test images {found['bound'].mean():.1f} nats",
        lambda found: (
            np.isfinite(found["bound"]).all() and np.ptp(found["samples"]) <= 1
        ),
        lambda found: found["bound"].mean() > -115,
    ),
}


def example(name):
    """The script of an example."""
    (path,) = FOLDER.glob(f"examples/*/plot_{name}.py")
    return path


def run(name):
    """What an example leaves behind, and the seconds that it took."""
    begin = time.perf_counter()
    found = runpy.run_path(str(example(name)))
    return found, time.perf_counter() - begin


def main():
    """Write the table."""
    if "SKAE_DATA" not in os.environ:
        sys.exit("Set SKAE_DATA to the folder of the published data")
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for name, system in SYSTEMS.items():
            found, seconds = run(name)
            plt.close("all")
            row = [system.name, system.published, system.ours(found), system.setting]
            writer.writerow([*row, short(system.seconds(found))])
            holds = system.holds(found) and system.holds_on_published_data(found)
            print(f"{name}: {row[2]} ({seconds:.0f} s)", "" if holds else "FAILS")


if __name__ == "__main__":
    main()
