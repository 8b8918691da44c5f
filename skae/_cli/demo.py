"""The job of the command line: compare PCA and an autoencoder on given data.

Candidates are compared by cross-validation on the training samples; then every
candidate is fitted on all of them and scored on the held-out samples. The results are
written as a table and a picture.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae._autoencoder import AutoencoderTransformer
from skae._cli.csv_table import quoted, wrapped
from skae._cli.demo_data import Data, check_observed, load
from skae._cli.errors import DemoError
from skae._cli.picture import draw
from skae._cli.report import (
    LINE_WIDTH,
    advice,
    chosen_code_size,
    column_shares,
    report,
)
from skae._cli.result_files import write_columns, write_rows, write_scores
from skae._cli.scores import (
    NAMES,
    PREDICTIONS,
    columns,
    format_table,
    make_table,
    measure_of,
)
from skae._cli.unusual import Unusual
from skae._outliers.detector import AutoencoderOutlierDetector
from skae.inspection._comparison import Table, compare
from skae.inspection._comparison_display import (
    FITTED,
    REFERENCE,
    SCORE,
    PCAComparisonDisplay,
)

SCALERS = {"minmax": MinMaxScaler, "standard": StandardScaler}
CODE_SIZES = (2, 5, 10, 20)
# Of data with few features.
FEW_FEATURES, SMALL_CODE_SIZES = 10, (1, 2, 3, 5)
TEST_SIZE = 0.25
TABLE_FILE = "results.csv"
PICTURE_FILE = "reconstructions.png"
REPORT_FILE = "report.txt"
COLUMNS_FILE, ROWS_FILE = "columns.csv", "rows.csv"
# Training samples that are used of larger files, to be done in a minute or two.
MAX_ROWS = 5000
MAX_ITER = 100  # of the digits
# Of the digits, chosen by cross-validation on their training samples, without those
# held out. Other data get the autoencoder's defaults.
OF_DIGITS: dict[str, Any] = {
    "hidden_layer_sizes": (100,),
    "activation": "silu",
    "init": "random",
    "alpha": 0.01,
    "batch_size": 32,
    "early_stopping": False,
    "learning_rate": "cosine",
    "learning_rate_init": 0.01,
    "n_iter_no_change": np.inf,  # the schedule runs to its end
    "max_iter": MAX_ITER,
}
OF_FILES: dict[str, Any] = {}
DETECTOR: dict[str, Any] = {}

# Scores in the folds and on held-out samples that differ by more depend on few samples.
MOST_DIFFERENT = 0.3

DOTS_PER_INCH = 150


def run(
    path: Path | None,
    *,
    target: str | None,
    categories: Sequence[str],
    dropped: Sequence[str],
    scaler: str | None,
    code_sizes: Sequence[int] | None,
    cv: int,
    max_iter: int | None,
    max_rows: int,
    random_state: int,
    output: Path,
    plot: bool,
) -> None:
    """Run and print the job; the parameters are the command line's options.

    Raises DemoError if the data cannot be used or the files cannot be written.
    """
    start = time.perf_counter()
    if path is not None:
        show(f"Reading {path}")
    data = load(path, target, categories, dropped)
    train, test = split(data, random_state, max_rows)
    code_sizes = usable_code_sizes(code_sizes, (len(train), data.X.shape[1]), cv)
    is_missing = data.is_missing
    for fold, _ in KFold(cv).split(train):
        check_observed(
            is_missing[train[fold]], data.names, f" in a training fold of {data.name}"
        )
    prepare_folder(output)
    if data.is_table and scaler is not None:
        raise DemoError(
            f"--scaler {scaler}: only for arrays; columns of a .csv file are "
            "standardized, leave it out"
        )
    describe_data(data, len(train), len(test))

    X, pipeline, code = model_of(
        data, train, scaler, max_iter=max_iter, random_state=random_state
    )
    n_candidates = 2 * len(code_sizes)
    show(
        f"Cross-validation of {n_candidates} candidates in {cv} folds (the first run "
        "also compiles, for up to a minute):"
    )
    used = np.concatenate([train, test])
    with errors_of_fits(data.name):
        folds = compare(
            X[train],
            code_sizes,
            cv=KFold(cv),  # `split` has shuffled the samples
            estimator=pipeline,
            report=progress(n_candidates),
        )
        show("Fits on all training samples, R2 on the held-out samples:")
        held_out = compare(
            X[used],
            code_sizes,
            y=None if data.y is None else data.y[used],
            cv=[(np.arange(len(train)), np.arange(len(train), len(used)))],
            estimator=pipeline,
            return_estimator=True,
            report=progress(n_candidates, by_fit=True),
        )
    table = make_table(folds, held_out, code_sizes)
    print(f"\n{format_table(table)}\n")
    size, shares = (len(code_sizes) - 1) // 2, None
    if data.has_report:
        size = chosen_code_size(table["autoencoder_r2"])
        both = table["pca_r2"][size], table["autoencoder_r2"][size]
        fitted = held_out.results[FITTED][len(code_sizes) + size]
        with errors_of_fits(data.name):
            of_text = [data.names.index(name) for name in data.categories]
            shares = column_shares(fitted, X[test], of_text)
            show("Search for unusual rows\n")
            detector = AutoencoderOutlierDetector(
                **DETECTOR, random_state=random_state, **data.table_parameters
            ).fit(X[train])
            unusual, codes = Unusual.of(detector, X), fitted.transform(X)
            text = report(
                data,
                r2=dict(zip(code_sizes, table["autoencoder_r2"], strict=True)),
                code_size=code_sizes[size],
                warning=warning_of_extremes(table, size),
                choice=advice(folds, code_sizes[size], both),
                of_target=describe_target(data.y, train, test, held_out, size),
                shares=shares,
                unusual=unusual,
                model_code=code.format(code_sizes[size]),
            )
        show(f"{text}\n")
        with writing(output / REPORT_FILE) as file:
            file.write_text(f"{text}\n", encoding="utf-8")
        with writing(output / COLUMNS_FILE) as file:
            write_columns(file, data, shares)
        with writing(output / ROWS_FILE) as file:
            write_rows(file, data, codes, unusual)
    else:
        choice = describe_choice(table, folds.verdict)
        of_target = describe_target(data.y, train, test, held_out)
        show(textwrap.fill(f"{choice} {of_target}", LINE_WIDTH))
    with writing(output / TABLE_FILE) as file:
        write_scores(file, table)
    if plot:
        try:
            with writing(output / PICTURE_FILE) as file:
                figure = draw(table, held_out, data, X, test, size, shares)
                figure.savefig(file, dpi=DOTS_PER_INCH)
        except ImportError:
            print('No picture without matplotlib: pip install "skae[plot]"')
    print(f"Done in {time.perf_counter() - start:.1f} s")


def show(text: str) -> None:
    """Print text at once, with escapes for what the terminal has no characters for."""
    encoding = sys.stdout.encoding or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


@contextlib.contextmanager
def errors_of_fits(name: str) -> Iterator[None]:
    """Turn errors that data cause in fits into DemoError, and leave warnings out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            yield
        except ValueError as error:
            raise DemoError(f"{name}: {' '.join(str(error).split())}") from None


def describe_data(data: Data, n_train: int, n_test: int) -> None:
    """Print which samples are used, and what is left out."""
    is_missing = data.is_missing
    share = 100 * is_missing.mean()
    missing = f"; {share:.2g} % of the values are missing" if share else ""
    show(
        f"{data.name}: {n_train} training samples, {n_test} held out; "
        f"{data.X.shape[1]} features{missing}"
    )
    n_unused = len(data.X) - n_train - n_test
    lines = []
    if n_unused:
        lines.append(
            f"To be quick, {n_unused} of the {len(data.X)} samples are not used to fit "
            "and compare (--max-rows takes more)."
        )
    if data.n_without_target:
        lines.append(f"{data.n_without_target} rows without a target are left out.")
    if data.left_out:
        lines.append(f"Left out: {', '.join(data.left_out)}.")
    if data.categories:
        lines.append(f"Categories: {', '.join(data.categories)}.")
    for line in lines:
        show(textwrap.fill(line, LINE_WIDTH, break_on_hyphens=False))
    if data.is_table:
        print("Each column counts once, whatever its levels or units.")


def model_of(
    data: Data,
    train: NDArray[np.intp],
    scaler: str | None,
    *,
    max_iter: int | None,
    random_state: int,
) -> tuple[Any, Pipeline, str]:
    """Return the samples as the models see them, the autoencoder, and Python for it.

    The Python has a place for the code size.
    """
    parameters: dict[str, Any] = dict(OF_FILES if data.code else OF_DIGITS)
    if max_iter is not None:
        parameters["max_iter"] = max_iter
    parameters["random_state"] = random_state
    levels = data.table_parameters
    steps = [("reduce", AutoencoderTransformer(**parameters, **levels))]
    X, imports = data.X, ["from skae import AutoencoderTransformer"]
    levels.pop("categories", None)  # which pandas and skae find by themselves
    before, after = "AutoencoderTransformer(", ")"
    if not data.is_table:
        scaling = SCALERS[scaler or "minmax"]
        steps.insert(0, ("scale", scaling()))
        imports[:0] = [
            "from sklearn.pipeline import make_pipeline",
            f"from sklearn.preprocessing import {scaling.__name__}",
        ]
        before, after = f"make_pipeline({scaling.__name__}(), {before}", "))"
    elif not data.categories:
        X = StandardScaler().fit(X[train]).transform(X)
        levels["scale"] = "standard"
    arguments = [f"{k}={quoted(v)}" for k, v in {**levels, **parameters}.items()]
    model = wrapped(f"model = {before}", ["{}", *arguments], after)
    code = [*imports, *model, "codes = model.fit_transform(X)"]
    return X, Pipeline(steps), "\n".join(code)


def split(
    data: Data, random_state: int, max_rows: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return indices of training and held-out samples, stratified if possible.

    Neither are more than `max_rows`.
    """
    stratify = None
    if data.y is not None:
        counts = np.unique(data.y, return_counts=True)[1]
        fit_in_both = counts.min() > 1 and len(counts) <= TEST_SIZE * len(data.y)
        stratify = data.y if fit_in_both else None
    train, test = train_test_split(
        np.arange(len(data.X)),
        stratify=stratify,
        test_size=TEST_SIZE,
        random_state=random_state,
    )
    train, test = train[:max_rows], test[:max_rows]  # they are shuffled
    if data.y is not None and len(np.unique(data.y[train])) < 2:
        raise DemoError(
            f"{data.name}: the training samples are all of one class; choose another "
            "target, or none"
        )
    return train, test


def usable_code_sizes(
    requested: Sequence[int] | None, shape: tuple[int, int], cv: int
) -> list[int]:
    """Return the code sizes to try, in increasing order; None stands for the default.

    `shape` is that of the training samples.
    """
    n_train, n_features = shape
    if not 2 <= cv <= n_train // 2:  # R2 needs the variance of two samples
        raise DemoError(f"--cv {cv}: 2 to {n_train // 2} folds are possible")
    smallest_fold = n_train - math.ceil(n_train / cv)
    largest = min(n_features, smallest_fold)
    if requested is None:
        sizes = SMALL_CODE_SIZES if n_features <= FEW_FEATURES else CODE_SIZES
        return [n for n in sizes if n < n_features and n <= largest] or [1]
    if max(requested) > largest:
        raise DemoError(
            f"--code-sizes {max(requested)}: with {n_features} features, and "
            f"{smallest_fold} training samples in the folds, PCA has at most {largest} "
            "components"
        )
    return sorted(set(requested))


def prepare_folder(path: Path) -> None:
    """Create the output folder, or raise DemoError if it is not writable."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = error.strerror
        if path.is_file():
            problem = "there is a file of this name; name a folder"
        raise DemoError(f"--output {path}: {problem}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise DemoError(f"--output {path}: no permission to write there")


def describe(name: str, code_size: int) -> str:
    """Return the name of a candidate for the terminal."""
    return f"{name}, code size {code_size}"


def progress(n_candidates: int, *, by_fit: bool = False) -> Callable[[Table], None]:
    """Return a function that prints a line when a candidate is done.

    Its seconds are those since the start, or of the candidate's fit alone.
    """
    start, numbers = time.perf_counter(), itertools.count(1)

    def report(rows: Table) -> None:
        if "estimator" not in rows:  # scores without reduction
            return
        name = describe(rows["estimator"][0], rows["n_components"][0])
        seconds = rows["fit_time"][0] if by_fit else time.perf_counter() - start
        print(
            f"  {next(numbers)}/{n_candidates}  {name:<26} "
            f"R2 {rows['test_score'].mean():z.3f}  {seconds:6.1f} s",
            flush=True,
        )

    return report


def describe_target(
    y: NDArray[Any] | None,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    held_out: PCAComparisonDisplay,
    size: int | None = None,
) -> str:
    """Return how well a target is predicted, also from the code of a size; or ""."""
    if y is None:
        return ""
    measure = measure_of(held_out)
    text = f"{PREDICTIONS[measure]} from "
    if size is not None:
        pca, autoencoder = held_out.results[SCORE].reshape(2, -1)[:, size]
        text += f"the autoencoder's code: {autoencoder:z.3f}; from PCA's: {pca:z.3f}; "
        text += "from "
    text += f"all features: {held_out.results[REFERENCE][0]:z.3f}"
    if measure == "accuracy":
        classes, counts = np.unique(y[train], return_counts=True)
        share = np.mean(y[test] == classes[counts.argmax()])
        return f"{text}; of the most frequent class alone: {share:.3f}."
    return f"{text} (0: no better than the mean)."


def describe_choice(table: dict[str, list[Any]], verdict: str) -> str:
    """Return the best candidate in the folds, and their verdict."""
    in_folds, held_out = np.array([columns(table, "cv_r2"), columns(table, "r2")])
    best = np.unravel_index(np.argmax(in_folds), in_folds.shape)
    name = describe(NAMES[best[0]], table["code_size"][best[1]])
    verdict = verdict.replace("±", "+-")  # terminals may know ASCII only
    return (
        f"Best of all: {name} (R2 {in_folds[best]:z.3f} in the folds of the "
        f"cross-validation, {held_out[best]:z.3f} held out). In the folds: {verdict}"
    )


def warning_of_extremes(table: dict[str, list[Any]], size: int) -> str:
    """Return a warning if scores with a code size hang on few samples, or ""."""
    in_folds, held_out = table["autoencoder_cv_r2"][size], table["autoencoder_r2"][size]
    if abs(in_folds - held_out) <= MOST_DIFFERENT:
        return ""
    return (
        "Warning: what is kept differs much between parts of the table (R2 "
        f"{in_folds:z.3f} in the cross-validation, {held_out:z.3f} held out), which a "
        "few extreme rows can cause: check the most unusual ones."
    )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Print that a file was written, or raise DemoError if it could not be."""
    try:
        yield path
    except OSError as error:
        raise DemoError(f"{path}: {error.strerror}") from None
    print(f"Wrote {path}")
