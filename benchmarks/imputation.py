"""How good are imputed values, beside those of scikit-learn's imputers, and how fast?

    python benchmarks/imputation.py                       # about 8 minutes
    python benchmarks/imputation.py --sets wine glass --shares 0.2 --tables
    python benchmarks/imputation.py --sets --tables adult pendigits

Entries are removed at random from standardized data; imputers are fitted to up to 1,500
rows, and impute up to 640 new ones. Errors are root mean squares of the differences of
imputed from removed entries, in standard deviations of the training rows.
"distribution" is the AutoencoderImputer without its network, and "missForest" an
IterativeImputer with three rounds of 50 extremely randomized trees of depth 8. The
settings of AutoencoderImputer were chosen on the first sets of the table; the others
were not looked at before. ``SKAE_DATA`` names the folder of the sets that are not
scikit-learn's.

Tables with categories are Adult, without the column that is to be predicted, and sets
in which half of the columns are binned, by quantiles drawn at random, into 2 to 11
levels. A fifth of the entries is removed from 2,000 rows (or 5,000, or all), which are
fitted to and imputed. The trees see codes of the levels, in the order of their names,
and their predictions are rounded.
"""

import argparse
import os
import pathlib
import time
import warnings

import numpy as np
import pandas as pd
from _report import RESULTS, header, table
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.preprocessing import OrdinalEncoder

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
# Tables, and rows of them; settings were chosen on the first three.
TABLES = {
    "adult": 2000,
    "cardio": 2000,
    "pageblocks": 2000,
    "adult, 5,000 rows": 5000,
    "adult, all rows": None,
    "pendigits": 2000,
    "fault": 2000,
    "satellite": 2000,
    "mammography": 2000,
    "shuttle": 2000,
}


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


def load_table(name):
    """A table with columns of objects for categories, rows in random order."""
    folder, rng = pathlib.Path(os.environ["SKAE_DATA"]), np.random.RandomState(0)
    kind, n_rows = name.split(",")[0], TABLES[name]
    if kind == "adult":
        table = pd.read_csv(folder / "adult.csv.gz").drop(columns="income")
        names = table.select_dtypes(exclude="number").columns
        table[names] = table[names].astype(object).replace("?", None)
        return table.iloc[rng.permutation(len(table))[:n_rows]]
    X = np.load(folder / f"{kind}.npz")["X"].astype(np.float64)
    X = X[rng.permutation(len(X))[:n_rows]]
    table = pd.DataFrame(X[:, X.std(axis=0) > 0])
    table.columns = [f"x{j}" for j in table]
    for name in rng.permutation(table.columns)[: table.shape[1] // 2]:
        shares = np.sort(rng.uniform(0.03, 0.97, rng.randint(1, 11)))
        limits = np.unique(np.quantile(table[name], shares))
        levels = rng.permutation([f"level {i}" for i in range(len(limits) + 1)])
        levels = levels.astype(object)[np.searchsorted(limits, table[name])]
        table[name] = pd.Series(levels, dtype=object)
    return table.loc[:, table.nunique() > 1]


def by_trees(table):
    """A table that is imputed by "missForest", and the seconds of that."""
    names = table.select_dtypes(object).columns
    encoder, coded = OrdinalEncoder(encoded_missing_value=np.nan), table.copy()
    codes = encoder.fit_transform(table[names])
    for column, name in enumerate(names):
        coded[name] = codes[:, column]
    begin = time.perf_counter()
    found = imputers()["missForest"].fit_transform(coded.astype(float))
    seconds = time.perf_counter() - begin
    imputed = pd.DataFrame(found, columns=table.columns, index=table.index)
    for name, of_column in zip(names, encoder.categories_, strict=True):
        levels = np.array([v for v in of_column if v == v and v is not None], object)
        codes = np.clip(np.rint(imputed[name]), 0, len(levels) - 1).astype(int)
        imputed[name] = levels[codes]
    return imputed, seconds


def judged(imputed, table, incomplete):
    """Accuracy of imputed categories, and error of numbers in standard deviations."""
    hits, errors = [], []
    for name in table:
        gaps = (incomplete[name].isna() & table[name].notna()).to_numpy()
        found, truth = imputed[name].to_numpy()[gaps], table[name].to_numpy()[gaps]
        if table[name].dtype == object:
            hits.append(found == truth)
        else:
            spread = np.nanstd(incomplete[name].to_numpy(dtype=float))
            errors.append((found - truth).astype(float) / spread)
    of_numbers = np.concatenate(errors)
    return np.concatenate(hits).mean(), np.sqrt((of_numbers**2).mean())


def measure_table(table):
    """Accuracies, errors and seconds of each imputer of a table with categories."""
    gaps = np.random.RandomState(1).random_sample(table.shape) < 0.2
    gaps[: table.shape[1]][np.diag_indices(table.shape[1])] = False  # none is empty
    incomplete = table.mask(pd.DataFrame(gaps, table.index, table.columns))
    found, seconds = {}, {}
    begin = time.perf_counter()
    imputer = AutoencoderImputer(random_state=0)
    found["AutoencoderImputer"] = imputer.fit_transform(incomplete)
    seconds["AutoencoderImputer"] = time.perf_counter() - begin
    imputer.weight_ = np.zeros_like(imputer.weight_)
    found["distribution"] = imputer.transform(incomplete)
    found["missForest"], seconds["missForest"] = by_trees(incomplete)
    simple = {
        name: of.mode().iloc[0] if of.dtype == object else of.mean()
        for name, of in incomplete.items()
    }
    found["most frequent, mean"] = incomplete.fillna(simple)
    return {k: judged(v, table, incomplete) for k, v in found.items()}, seconds


def report_of_tables(names):
    """Lines of the report on tables with categories."""
    rows = []
    for name in names:
        whole = load_table(name)
        found, seconds = measure_table(whole)
        shape = f"{len(whole)} × {whole.shape[1]}"
        rows.append(
            (
                *(name, shape),
                *(round(accuracy, 3) for accuracy, _ in found.values()),
                *(round(rmse, 3) for _, rmse in found.values()),
                *(round(of, 1) for of in seconds.values()),
            )
        )
        print(*rows[-1], flush=True)
    columns = (
        *("table", "rows × columns"),
        *(f"accuracy, {n}" for n in found),
        *(f"error, {n}" for n in found),
        *(f"s, {n}" for n in seconds),
    )
    return [
        "",
        "## Tables with categories, 20% missing",
        "",
        "Accuracy of imputed categories, and root mean squared errors of numbers, in "
        "standard deviations. Settings were chosen on the first three tables.",
        "",
        table(columns, rows),
    ]


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
    parser.add_argument("--sets", nargs="*", default=[*CHOSEN_ON, *OTHERS])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.2, 0.5])
    parser.add_argument("--tables", nargs="*", default=[*TABLES])
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
    for share in options.shares if options.sets else ():
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
    if options.tables:
        report += report_of_tables(options.tables)
    text = "\n".join([*report, ""])
    (RESULTS / "imputation.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
