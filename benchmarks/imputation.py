"""How good are imputed values, beside those of scikit-learn's imputers, and how fast?

    python benchmarks/imputation.py                       # about 4 minutes
    python benchmarks/imputation.py --sets wine glass --shares 0.2

Entries are removed at random from standardized data; imputers are fitted to up to 1,500
rows, and impute up to 640 new ones. Errors are root mean squares of the differences of
imputed from removed entries, in standard deviations of the training rows.
"distribution" is the AutoencoderImputer without its network, and "missForest" an
IterativeImputer with three rounds of 50 extremely randomized trees of depth 8. The
settings of AutoencoderImputer were chosen on the first sets of the table; the others
were not looked at before. ``SKAE_DATA`` names the folder of the sets that are not
scikit-learn's.
"""

import argparse
import os
import pathlib
import time
import warnings

import numpy as np
from _report import RESULTS, header, table
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from skae import AutoencoderImputer

CHOSEN_ON = (
    *("breast_cancer", "pendigits", "pageblocks", "cardio", "satellite", "wine"),
    "fault",
)
OTHERS = (
    *("diabetes", "mammography", "shuttle", "breastw", "glass", "ionosphere"),
    *("landsat", "pima", "satimage-2", "stamps", "vertebral", "wbc", "wpbc"),
)
N_TRAIN, N_TEST = 1500, 640


def load(name):
    """All rows of a set, in random order, without constant features."""
    if name == "breast_cancer":
        X = load_breast_cancer().data
    elif name == "diabetes":
        X = load_diabetes().data
    else:
        folder = pathlib.Path(os.environ["SKAE_DATA"])
        path = folder / f"{name}.npz"
        if not path.exists():
            path = folder / "adbench" / f"{name}.npz"
        X = np.load(path)["X"].astype(np.float64)
    X = np.random.RandomState(0).permutation(X)[: N_TRAIN + N_TEST]
    n_train = min(N_TRAIN, int(0.7 * len(X)))
    mean, spread = X[:n_train].mean(axis=0), X[:n_train].std(axis=0)
    return ((X - mean) / np.where(spread > 0, spread, 1))[:, spread > 0], n_train


def imputers():
    trees = ExtraTreesRegressor(50, max_depth=8, random_state=0)
    return {
        "AutoencoderImputer": AutoencoderImputer(random_state=0),
        "KNNImputer": KNNImputer(),
        "IterativeImputer": IterativeImputer(random_state=0),
        "missForest": IterativeImputer(trees, max_iter=3, random_state=0),
    }


def error(imputed, X, is_missing):
    return float(np.sqrt(np.mean((imputed - X)[is_missing] ** 2)))


def measure(X, n_train, share):
    """Error and seconds of each imputer, and the error of the distribution alone."""
    is_missing = np.random.RandomState(1).random_sample(X.shape) < share
    is_missing[: X.shape[1]][np.diag_indices(X.shape[1])] = False  # none is empty
    incomplete = np.where(is_missing, np.nan, X)
    train, new = incomplete[:n_train], incomplete[n_train:]
    truth = X[n_train:], is_missing[n_train:]
    errors, seconds = {}, {}
    for name, imputer in imputers().items():
        begin = time.perf_counter()
        imputed = imputer.fit(train).transform(new)
        seconds[name] = time.perf_counter() - begin
        errors[name] = error(imputed, *truth)
        if name == "AutoencoderImputer":
            imputer.weight_ = np.zeros_like(imputer.weight_)
            errors["distribution"] = error(imputer.transform(new), *truth)
    return errors, seconds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=[*CHOSEN_ON, *OTHERS])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.2, 0.5])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    AutoencoderImputer().fit(load_diabetes().data)  # loads the kernels
    report = [
        "# Imputed values",
        "",
        "Made by `imputation.py`.",
        "",
        header(),
        "",
        "Root mean squared errors of imputed entries, in standard deviations; seconds "
        "of fit and transform. Settings were chosen on the first seven sets.",
    ]
    for share in options.shares:
        rows, means = [], {}
        for name in options.sets:
            X, n_train = load(name)
            errors, seconds = measure(X, n_train, share)
            group = "chosen on" if name in CHOSEN_ON else "others"
            means.setdefault(group, []).append((errors, seconds))
            names = [*errors]
            shape = f"{n_train} × {X.shape[1]}"
            cells = [round(errors[n], 3) for n in names]
            rows.append((name, shape, *cells, *(round(seconds[n], 1) for n in seconds)))
            print(share, *rows[-1], flush=True)
        for group, found in means.items():
            errors, seconds = zip(*found, strict=True)
            cells = [round(np.mean([e[n] for e in errors]), 3) for n in names]
            times = [round(np.mean([s[n] for s in seconds]), 1) for n in seconds[0]]
            rows.append((f"**mean, {group}**", "", *cells, *times))
        columns = ("set", "rows fitted", *names, *(f"s, {n}" for n in seconds[0]))
        report += ["", f"## {share:.0%} missing", "", table(columns, rows)]
    text = "\n".join([*report, ""])
    (RESULTS / "imputation.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
