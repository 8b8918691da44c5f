"""What is a code of a table with categories worth, beside PCA of one-hot columns?

    python benchmarks/tables.py                # about 10 minutes
    python benchmarks/tables.py --splits 1 --sets wine fault

Adult: 30 % of the rows are held out, in several splits. The logistic regression
predicts the income, from codes or from one-hot and standardized columns. Accuracy is
the mean over the categorical columns of the share of levels that come back from a code;
PCA's is that of the largest entry of a group.

The penalty of the weights is chosen on tables that are made of real numbers: half of a
set's columns are cut into 2 to 11 levels at random quantiles. ``SKAE_DATA`` names the
folder of all sets.
"""

import argparse
import os
import pathlib
import warnings

import numpy as np
import pandas as pd
from _report import RESULTS, header, table
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import AutoencoderTransformer

N_CODE, N_FEW = 16, 8
SETS = (
    *("breastw", "cardio", "donors", "fault", "http", "ionosphere"),
    *("pageblocks", "pendigits", "pima", "satellite", "satimage-2", "wine"),
)
# Numbers of rows, and strengths of the penalty times their root.
N_ROWS = 400, 1500, 4000
STRENGTHS = 0, 0.03, 0.1, 0.3


def adult():
    """The table, and whether incomes are high."""
    path = pathlib.Path(os.environ["SKAE_DATA"]) / "adult.csv.gz"
    frame = pd.read_csv(path)
    is_high = (frame.pop("income") == ">50K").to_numpy()
    return frame, is_high


def one_hot(frame):
    """What makes standardized numbers, then one-hot levels, of a frame."""
    is_number = [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    numbers = frame.columns[is_number]
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    rest = frame.columns.difference(numbers, sort=False)
    return make_column_transformer((StandardScaler(), numbers), (encoder, rest))


def area(codes, labels):
    """Area under the ROC curve of a logistic regression on codes, held out."""
    (train, test), (of_train, of_test) = codes, labels
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(train, of_train)
    return roc_auc_score(of_test, model.decision_function(test))


def accuracy_of_pca(encoder, restored, frame):
    """Mean share of levels that are the largest entry of their group."""
    (_, _, numbers), (_, levels, rest) = encoder.transformers_[:2]
    start, shares = len(numbers), []
    for name, known in zip(rest, levels.categories_, strict=True):
        group = restored[:, start : start + len(known)]
        found, is_there = known[group.argmax(axis=1)], frame[name].notna()
        shares.append((found == frame[name])[is_there].mean())
        start += len(known)
    return np.mean(shares)


def accuracy(restored, frame):
    """Mean share of levels that come back."""
    names = [c for c in frame if not pd.api.types.is_numeric_dtype(frame[c])]
    restored = restored.set_index(frame.index)
    there = {name: frame[name].notna() for name in names}
    return np.mean([(restored[c] == frame[c])[there[c]].mean() for c in names])


def judge_adult(split):
    """Figures of one split, by what they are."""
    frame, is_high = adult()
    parts = train_test_split(frame, is_high, test_size=0.3, random_state=split)
    frames, labels = parts[:2], parts[2:]
    encoder = one_hot(frame).fit(frames[0])
    X, X_test = map(encoder.transform, frames)
    pca, few = PCA(N_CODE).fit(X), PCA(N_FEW).fit(X)
    model = AutoencoderTransformer(N_CODE, random_state=split).fit(frames[0])
    small = AutoencoderTransformer(N_FEW, random_state=split).fit(frames[0])
    restored = small.inverse_transform(small.transform(frames[1]))
    by_pca = few.inverse_transform(few.transform(X_test))
    return {
        "AUC, one-hot columns": area((X, X_test), labels),
        f"AUC, {N_CODE} principal components": area(
            [pca.transform(x) for x in (X, X_test)], labels
        ),
        f"AUC, code of {N_CODE}": area([model.transform(f) for f in frames], labels),
        f"accuracy, {N_FEW} principal components": accuracy_of_pca(
            encoder, by_pca, frames[1]
        ),
        f"accuracy, code of {N_FEW}": accuracy(restored, frames[1]),
    }


def binned(name, n_rows):
    """A table of which half of the columns are levels of a set's numbers."""
    folder = pathlib.Path(os.environ["SKAE_DATA"])
    path = folder / f"{name}.npz"
    if not path.exists():
        path = folder / "adbench" / f"{name}.npz"
    X, rng = np.load(path)["X"].astype(np.float64), np.random.RandomState(0)
    X = X[rng.permutation(len(X))[:n_rows]]
    X = X[:, X.min(axis=0) < X.max(axis=0)]
    frame = pd.DataFrame(X).add_prefix("x")
    for j in rng.permutation(X.shape[1])[: X.shape[1] // 2]:
        shares = np.sort(rng.random_sample(rng.randint(1, 11)))
        limits = np.unique(np.quantile(X[:, j], shares))
        levels = np.array([f"level {i}" for i in range(len(limits) + 1)], dtype=object)
        frame[f"x{j}"] = levels[np.searchsorted(limits, X[:, j])]
    return frame


def scores(name, n_rows):
    """Held-out score for each strength of the penalty: mean of two sizes of the code.

    None if the set has fewer rows.
    """
    frame = binned(name, n_rows)
    if len(frame) < 0.9 * n_rows:
        return None
    train, test = train_test_split(frame, test_size=0.3, random_state=0)
    found = []
    for strength in STRENGTHS:
        alpha = strength / np.sqrt(len(train))
        of_sizes = [
            AutoencoderTransformer(n, alpha=alpha, random_state=0)
            .fit(train)
            .score(test)
            for n in (2, max(3, frame.shape[1] // 2))
        ]
        found.append(np.mean(of_sizes))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--sets", nargs="*", default=SETS)
    args = parser.parse_args()
    # Rare levels of some splits are not among those fitted.
    warnings.filterwarnings("ignore", ".*categories that were not seen")
    splits = [judge_adult(split) for split in range(args.splits)]
    rows = []
    for key in splits[0]:
        values = np.array([of_split[key] for of_split in splits])
        rows.append(
            (key, f"{values.mean():.4f}", f"{values.min():.4f}", f"{values.max():.4f}")
        )
    report = [
        "# Tables with categories",
        "",
        "Made by `tables.py`.",
        "",
        header(),
        "",
        f"## Adult, {args.splits} splits",
        "",
        table(("", "mean", "minimum", "maximum"), rows),
        "",
        "## The penalty of the weights",
        "",
        "Held-out score, mean over sets and over codes of 2 and of half as many units "
        "as columns; `alpha` is the strength divided by the root of the number of "
        "training rows. In the lower half of the table the sets are divided: the "
        "strength that is best on every second set, and its score on the others, next "
        "to the best there.",
    ]
    rows, halves = [], []
    for n_rows in N_ROWS:
        found = [scores(name, n_rows) for name in args.sets]
        kept = np.array([of_set for of_set in found if of_set is not None])
        if not len(kept):
            continue
        means = [f"{mean:.4f}" for mean in kept.mean(axis=0)]
        rows.append((n_rows, len(kept), *means))
        for first in range(min(2, len(kept) - 1)):
            mine, others = (
                kept[first::2].mean(axis=0),
                kept[1 - first :: 2].mean(axis=0),
            )
            best = mine.argmax()
            cells = f"{others[best]:.4f}", f"{others.max():.4f}"
            halves.append((n_rows, STRENGTHS[best], *cells))
    titles = "rows", "sets", *(f"{strength}" for strength in STRENGTHS)
    report += ["", table(titles, rows), ""]
    report += [table(("rows", "chosen", "on the others", "best there"), halves)]
    text = "\n".join([*report, ""])
    (RESULTS / "tables.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
