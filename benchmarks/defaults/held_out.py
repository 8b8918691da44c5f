"""Is the autoencoder ever worse than PCA? Every set, code size, scaling and split.

    python benchmarks/defaults/held_out.py               # about 20 minutes
    python benchmarks/defaults/held_out.py --sets iris wine --seeds 0 1 --no-write

R² of PCA and of ``AutoencoderTransformer(n_components)``, nothing else set, on the
training and on the held-out rows of random 70/30 splits, raw and standardised: of
scikit-learn's sets and, where ``SKAE_DATA`` names their folder, of larger ones. Writes
`held_out.csv` beside this file, and the page `docs/held_out.md`.
"""

import argparse
import csv
import os
import pathlib
import statistics
import sys
import time
import warnings

import joblib
import numpy as np
from sklearn import datasets
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from _report import header, table  # noqa: E402

CSV_FILE = HERE / "held_out.csv"
PAGE = HERE.parents[1] / "docs" / "held_out.md"
CODE_SIZES = (1, 2, 3, 5, 10)
SEEDS = range(5)
TEST_SIZE = 0.3
TOLERANCE = 0.005
# Smaller differences are rounding errors: PCA's weights were kept.
NO_GAIN = 1e-4
GAINS = "smallest gain", "median gain", "largest gain"
BUNDLED = ("iris", "wine", "breast_cancer", "diabetes", "digits")
TABULAR = (
    "satellite",
    "pendigits",
    "cardio",
    "pageblocks",
    "fault",
    "wine",
    "mammography",
    "shuttle",
)
# Fits of so many entries use both cores, are timed alone, and are of so many splits.
LARGE, N_LARGE_SEEDS = 10_000_000, 2


def load(name):
    """Rows of a set, as they come."""
    if name in BUNDLED:
        return getattr(datasets, f"load_{name}")().data
    folder = pathlib.Path(os.environ["SKAE_DATA"])
    if name == "donut":
        return np.load(folder / "donut_corr2.npy")[:, :4]
    if name == "mnist":
        file = np.load(folder / "mnist.npz")
        images = np.concatenate([file["X_train"], file["X_test"]])
        return images.reshape(len(images), -1).astype(np.float32) / 255
    return np.load(folder / f"{name.removeprefix('adbench_')}.npz")["X"].astype(float)


def default_sets():
    sets = list(BUNDLED)
    if "SKAE_DATA" in os.environ:
        sets += [f"adbench_{name}" for name in TABULAR] + ["donut", "mnist"]
    return sets


def losses(model, X, mean):
    """Squared errors of rows, as shares of the variance about a mean."""
    X = X.astype(np.float64)
    squares = (X - model.inverse_transform(model.transform(X))) ** 2
    return squares.sum(axis=1) / ((X - mean) ** 2).sum()


def cell(name, n_components, scaling, seed, estimator=None):
    """One fit of each, as a row of the table."""
    estimator = AutoencoderTransformer() if estimator is None else clone(estimator)
    estimator.set_params(n_components=n_components, random_state=seed)
    X_train, X_test = train_test_split(
        load(name), test_size=TEST_SIZE, random_state=seed
    )
    if scaling == "standardised":
        scaler = StandardScaler().fit(X_train)
        X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    pca = PCA(n_components, svd_solver="full" if len(X_train) < 5000 else "auto")
    pca.fit(X_train)
    begin = time.perf_counter()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ConvergenceWarning)
        autoencoder = estimator.fit(X_train)
    seconds = time.perf_counter() - begin
    train, test = (
        [losses(model, X, pca.mean_) for model in (pca, autoencoder)]
        for X in (X_train, X_test)
    )
    falls = np.sort(test[0] - test[1])
    return {
        "set": name,
        "n_components": n_components,
        "scaling": scaling,
        "seed": seed,
        "pca_train": 1 - train[0].sum(),
        "autoencoder_train": 1 - train[1].sum(),
        "pca_test": 1 - test[0].sum(),
        "autoencoder_test": 1 - test[1].sum(),
        "gain_without_two": falls[2:].sum(),
        "epochs": autoencoder.n_iter_,
        "seconds": seconds,
        "warned": len(warned),
    }


def run(sets, seeds, code_sizes):
    """All cells; those of large sets one at a time."""
    cells = []
    for name in sets:
        n_rows, n_features = load(name).shape
        is_large = n_rows * n_features > LARGE
        jobs = [
            joblib.delayed(cell)(name, n_components, scaling, seed)
            for n_components in code_sizes
            if n_components < n_features
            for scaling in ("raw", "standardised")
            for seed in (seeds[:N_LARGE_SEEDS] if is_large else seeds)
        ]
        cells += joblib.Parallel(1 if is_large else 2)(jobs)
        print(summary(cells[-len(jobs) :]).replace("\n", "; "), name, flush=True)
    return cells


def gain(row):
    return row["autoencoder_test"] - row["pca_test"]


def summary(cells):
    """What the cells come to, a line a figure."""
    standardised = [gain(c) for c in cells if c["scaling"] == "standardised"]
    on_training = min(c["autoencoder_train"] - c["pca_train"] for c in cells)
    below = [c for c in cells if gain(c) < -TOLERANCE]
    for_two = sum(c["gain_without_two"] >= -TOLERANCE for c in below)
    blame = f", {for_two} of them because of at most two samples" if below else ""
    seconds = [c["seconds"] for c in cells]
    return "\n".join(
        [
            f"cases more than {TOLERANCE} below PCA: {len(below)} of {len(cells)}"
            f"{blame}",
            f"smallest gain: {min(map(gain, cells)):+.4f}",
            f"smallest gain over training samples: {on_training:+.1e}",
            f"median gain on standardized data: {statistics.median(standardised):.3f}",
            f"mean gain: {statistics.mean(map(gain, cells)):.4f}",
            f"seconds per fit: median {statistics.median(seconds):.2f}, "
            f"largest {max(seconds):.1f}",
            f"fits that warned: {sum(c['warned'] > 0 for c in cells)}",
        ]
    )


def by_set(cells):
    """Rows of the table with a line for each data set."""
    names = dict.fromkeys(c["set"] for c in cells)
    rows = []
    for name in names:
        gains = np.array([gain(c) for c in cells if c["set"] == name])
        values = gains.min(), np.median(gains), gains.max()
        kept = np.mean(np.abs(gains) < NO_GAIN)
        cells_of_row = [f"{value:+z.3f}" for value in values]
        rows.append([name, str(len(gains)), f"{kept:.0%}", *cells_of_row])
    return rows


def page(cells, seeds):
    """The page of the documentation: settings with the worst split first."""
    settings = {}
    for c in cells:
        key = c["set"], c["n_components"], c["scaling"]
        settings.setdefault(key, []).append(c)
    ordered = sorted(settings.items(), key=lambda item: min(map(gain, item[1])))
    rows = [
        [
            name,
            str(n_components),
            scaling.replace("ised", "ized"),
            f"{statistics.mean(c['pca_test'] for c in group):.3f}",
            *(f"{gain(c):+.4f}" for c in group),
            *[""] * (len(seeds) - len(group)),
        ]
        for (name, n_components, scaling), group in ordered
    ]
    columns = ["set", "k", "scaling", "PCA", *(f"seed {seed}" for seed in seeds)]
    # Seconds are of fits side by side, on whatever machine.
    lines = [line for line in summary(cells).splitlines() if "seconds" not in line]
    points = "\n".join(f"- {line}" for line in lines)
    return f"""# The autoencoder beside PCA, on held-out samples

The gain is the held-out R² of `AutoencoderTransformer(n_components=k)`, with all other
parameters at their defaults, minus that of PCA. Data are split at random, 70 % to train
and 30 % held out; the seed of the split is also the autoencoder's `random_state`. In
total:

{points}

By data set, over code sizes, scalings and splits:

{table(["data set", "cases", "PCA kept", *GAINS], by_set(cells))}

<!-- All cases, which the site folds -->

All cases follow, with those first where a split has the smallest gain; k is the code
size, and the column PCA has its mean R². Data sets called adbench are from
[ADBench](https://github.com/Minqi824/ADBench) (Han et al., 2022), the donut is a noisy
double ring with four features, MNIST is in float32 and has {N_LARGE_SEEDS} splits, the
others are scikit-learn's. Made by `benchmarks/defaults/held_out.py`.

{header()}

{table(columns, rows)}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", nargs="*", default=default_sets())
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--code-sizes", nargs="*", type=int, default=CODE_SIZES)
    parser.add_argument("--no-write", action="store_true")
    args = parser.parse_args()
    cells = run(args.sets, args.seeds, args.code_sizes)
    print(summary(cells))
    for c in sorted(cells, key=gain)[:8]:
        setting = c["set"], c["n_components"], c["scaling"], c["seed"]
        print(*setting, f"PCA {c['pca_test']:.3f} {gain(c):+.4f}")
    if args.no_write:
        return
    with CSV_FILE.open("w", newline="") as file:
        writer = csv.DictWriter(file, cells[0])
        writer.writeheader()
        writer.writerows(cells)
    PAGE.write_text(page(cells, args.seeds))


if __name__ == "__main__":
    main()
