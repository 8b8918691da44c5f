"""The job of the command line: compare PCA and an autoencoder on given data.

Candidates are compared by cross-validation on the training samples; then every
candidate is fitted on all of them and scored on the held-out samples. The results are
written as a table and a picture.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
import os
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from skae._cli.report import (
    LINE_WIDTH,
    advice,
    chosen_code_size,
    column_name,
    column_shares,
    report,
)
from skae._cli.result_files import write_columns, write_rows
from skae._outliers.detector import AutoencoderOutlierDetector
from skae._typing import Floats
from skae.inspection import ReconstructionDisplay
from skae.inspection._comparison import Table, compare
from skae.inspection._comparison_display import (
    ACCURACY,
    AUTOENCODER_NAME,
    FITTED,
    PCA_NAME,
    REFERENCE,
    SCORE,
    PCAComparisonDisplay,
)
from skae.metrics import reconstruction_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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

NAMES = (PCA_NAME, AUTOENCODER_NAME)
N_IMAGES = 10
N_BARS = 14
PREDICTIONS = {"accuracy": "Accuracy", "target_r2": "R2 of the target"}
# Okabe and Ito's palette, which color-blind readers can tell apart, too.
COLORS = ("#0072B2", "#D55E00")
REFERENCE_COLOR = "#666666"
GAP_COLOR = "#dddddd"
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
    choice = describe_choice(table, folds.verdict)
    if data.y is not None:
        measure, all_features = measure_of(held_out), held_out.results[REFERENCE][0]
        choice += f" {PREDICTIONS[measure]} from all features: {all_features:z.3f}"
        if measure == "accuracy":
            share = share_of_most_frequent(data.y[train], data.y[test])
            choice += f"; of the most frequent class alone: {share:.3f}"
        choice += "."
    size, shares = (len(code_sizes) - 1) // 2, None
    if data.has_report:
        size = chosen_code_size(table["autoencoder_r2"])
        fitted = held_out.results[FITTED][len(code_sizes) + size]
        with errors_of_fits(data.name):
            columns = [data.names.index(name) for name in data.categories]
            shares = column_shares(fitted, X[test], columns)
            show("Search for unusual rows\n")
            detector = AutoencoderOutlierDetector(
                **DETECTOR, random_state=random_state, **data.table_parameters
            ).fit(X[train])
            text = report(
                data,
                r2=dict(zip(code_sizes, table["autoencoder_r2"], strict=True)),
                code_size=code_sizes[size],
                choice=f"{choice} {advice(folds, code_sizes[size])}",
                shares=shares,
                detector=detector,
                X=X,
                model_code=code.format(code_sizes[size]),
            )
        show(f"{text}\n")
        with writing(output / REPORT_FILE) as file:
            file.write_text(f"{text}\n", encoding="utf-8")
        with writing(output / COLUMNS_FILE) as file:
            write_columns(file, data, shares)
        with writing(output / ROWS_FILE) as file:
            write_rows(file, data, X, fitted.transform(X), detector)
    else:
        show(textwrap.fill(choice, LINE_WIDTH))
    with writing(output / TABLE_FILE) as file:
        write_table(table, file)
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


def share_of_most_frequent(train: NDArray[Any], test: NDArray[Any]) -> float:
    """Return the accuracy of always predicting the most frequent class."""
    classes, counts = np.unique(train, return_counts=True)
    return float(np.mean(test == classes[counts.argmax()]))


def measure_of(held_out: PCAComparisonDisplay) -> str:
    """Return what the table calls the score of predictions of the target."""
    return "accuracy" if held_out.score_name == "accuracy" else "target_r2"


def make_table(
    folds: PCAComparisonDisplay, held_out: PCAComparisonDisplay, code_sizes: list[int]
) -> dict[str, list[Any]]:
    """Return the columns of the table by name, each with an entry per code size."""
    measures = {
        "r2": held_out.results["test_score"],
        "levels": held_out.results.get(ACCURACY),  # None without categories
        measure_of(held_out): held_out.results.get(SCORE),  # None without a target
        "fit_seconds": held_out.results["fit_time"],
        "cv_r2": folds.results["test_score"],
    }
    table: dict[str, list[Any]] = {"code_size": code_sizes}
    for measure, values in measures.items():
        if values is not None:
            means = values.reshape(len(NAMES), len(code_sizes), -1).mean(axis=2)
            for name, column in zip(NAMES, means.tolist(), strict=True):
                table[f"{name.lower()}_{measure}"] = column
    autoencoders = held_out.results[FITTED][len(code_sizes) :]
    table["autoencoder_n_iter"] = [pipeline[-1].n_iter_ for pipeline in autoencoders]
    return table


def columns(table: dict[str, list[Any]], measure: str) -> list[list[Any]]:
    """Return the columns of PCA and of the autoencoder."""
    return [table[f"{name.lower()}_{measure}"] for name in NAMES]


def format_table(table: dict[str, list[Any]]) -> str:
    """Return the table as text: a line per code size, pairs of columns to compare."""
    blocks = {
        "R2, held out": ("r2", 3),
        "accuracy of levels": ("levels", 3),
        "accuracy from the code": ("accuracy", 3),
        "R2 of target from code": ("target_r2", 3),
        "fit seconds": ("fit_seconds", 2),
    }
    blocks = {k: v for k, v in blocks.items() if f"pca_{v[0]}" in table}
    width = max(map(len, NAMES)) + 1
    names = "".join(f"{name:>{width}}" for name in NAMES)
    lines = [
        " ".join(["code", *(f"{title:>{len(names)}}" for title in blocks)]),
        " ".join(["size", *(names for _ in blocks)]),
    ]
    for i, code_size in enumerate(table["code_size"]):
        line = f"{code_size:>4}"
        for measure, decimals in blocks.values():
            values = [column[i] for column in columns(table, measure)]
            line += " " + "".join(f"{value:z{width}.{decimals}f}" for value in values)
        lines.append(line)
    return "\n".join(lines)


def describe_choice(table: dict[str, list[Any]], verdict: str) -> str:
    """Return the candidate with the best score in the folds, and their verdict."""
    in_folds, held_out = np.array([columns(table, "cv_r2"), columns(table, "r2")])
    best = np.unravel_index(np.argmax(in_folds), in_folds.shape)
    name = describe(NAMES[best[0]], table["code_size"][best[1]])
    verdict = verdict.replace("±", "+-")  # terminals may know ASCII only
    warning = ""
    if abs(in_folds[best] - held_out[best]) > MOST_DIFFERENT:
        warning = (
            "Warning: R2 differs much between parts of the data, which a few extreme "
            "rows can cause: check the most unusual ones. "
        )
    return (
        f"{warning}Best of all: {name} (R2 {in_folds[best]:z.3f} in the folds of the "
        f"cross-validation, {held_out[best]:z.3f} held out). In the folds: {verdict}"
    )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Print that a file was written, or raise DemoError if it could not be."""
    try:
        yield path
    except OSError as error:
        raise DemoError(f"{path}: {error.strerror}") from None
    print(f"Wrote {path}")


def write_table(table: dict[str, list[Any]], path: Path) -> None:
    """Write the table as .csv."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))


def draw(
    table: dict[str, list[Any]],
    held_out: PCAComparisonDisplay,
    data: Data,
    X: Any,
    test: NDArray[np.intp],
    size: int,
    shares: Floats | None,
) -> Figure:
    """Return a figure: curves of scores above reconstructions of held-out samples.

    The reconstructions, and the shares of columns if they are known, are those of the
    code size with the number `size`.
    """
    # Without pyplot: no window, no global state.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    height = 4.0 if data.image_shape is None else 3.2  # inches, of the lower half
    figure = Figure(
        figsize=(10, 4 + height),
        layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08),  # inches
    )
    halves = figure.add_gridspec(2, height_ratios=[4, height])
    top, bottom = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    titles = ["Variance reconstructed (R², held out)"]
    if data.y is not None:
        name = PREDICTIONS[measure_of(held_out)].replace("R2", "R²")
        titles.append(f"{name} from the code (held out)")
    axes = top.subplots(1, len(titles))
    for ax in np.ravel(axes):
        ax.set_prop_cycle(color=COLORS, marker=("o", "s"))
    # Without their own marker, the lines take that of the cycle.
    held_out.plot(axes, line_kw={"marker": None})
    for ax, title in zip(np.ravel(axes), titles, strict=True):
        # Both scores are at most 1; an R² can be negative.
        lowest = min(0, *(min(line.get_ydata()) for line in ax.lines))
        ax.set(title=title, ylabel="", ylim=(lowest - 0.02, 1.02))
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.3)

    code_sizes = table["code_size"]
    fitted = held_out.results[FITTED][size :: len(code_sizes)]
    n_numbers = code_sizes[size]
    where = f"from {n_numbers} number{'s' * (n_numbers > 1)}"
    if shares is not None:
        left, right = bottom.subplots(1, 2)
        if data.categories:
            draw_levels(left, table)
        else:
            draw_errors(left, fitted, X[test], where)
        draw_shares(right, data.names, shares, where)
    else:
        r2 = [column[size] for column in columns(table, "r2")]
        names = [f"{n}\nR² {s:z.2f}" for n, s in zip(NAMES, r2, strict=True)]
        models = dict(zip(names, fitted, strict=True))
        draw_images(bottom.subplots(), models, data, test)
        bottom.suptitle(f"Held-out samples and their reconstructions {where}")
    return figure


def draw_shares(ax: Axes, names: Sequence[str], shares: Floats, where: str) -> None:
    """Draw the share of columns that the autoencoder reconstructs: best and worst."""
    order = np.argsort(-shares, kind="stable")
    order = order[~np.isnan(shares[order])]
    title = f"Share of each column, {where}"
    if len(order) > N_BARS:
        order = np.concatenate([order[: N_BARS // 2], order[-N_BARS // 2 :]])
        title = f"Best and worst columns, {where}"
    ax.barh(np.arange(len(order)), np.maximum(shares[order], 0), color=COLORS[1])
    ax.set_yticks(np.arange(len(order)), [column_name(names[i]) for i in order])
    ax.invert_yaxis()
    ax.set(
        title=title,
        xlim=(0, 1),
        xlabel=f"reconstructed by the {AUTOENCODER_NAME} (held out)",
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", alpha=0.3)


def draw_levels(ax: Axes, table: dict[str, list[Any]]) -> None:
    """Draw the share of categories that are reconstructed correctly, by code size."""
    for name, color, column in zip(
        NAMES, COLORS, columns(table, "levels"), strict=True
    ):
        ax.plot(table["code_size"], column, marker="o", color=color, label=name)
    ax.set_xticks(table["code_size"])
    ax.set(title="Categories reconstructed correctly (held out)", xlabel="code size")
    ax.legend()
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)


def draw_images(
    ax: Axes, models: dict[str, Any], data: Data, test: NDArray[np.intp]
) -> None:
    """Draw the first held-out sample of each class; without labels, the first few."""
    import matplotlib as mpl

    style: dict[str, Any] = {}
    if not np.isnan(data.X).any():  # else gaps have the color of missing pixels
        style["cmap"] = mpl.colormaps["gray_r"].with_extremes(bad=GAP_COLOR)
    first = np.arange(len(test))
    if data.y is not None:
        first = np.unique(data.y[test], return_index=True)[1]
    ReconstructionDisplay.from_estimator(
        models,
        data.X[test],
        which=first[:N_IMAGES],
        image_shape=data.image_shape,
        ax=ax,
        **style,
    )


def draw_errors(ax: Axes, fitted: NDArray[Any], X: Floats, where: str) -> None:
    """Draw each sample's distances to its reconstructions by both models."""
    X = X[~np.isnan(X).all(axis=1)]  # others have no distance
    x, y = (np.sqrt(reconstruction_error(pipeline, X)) for pipeline in fitted)
    limit = 1.05 * max(x.max(), y.max())
    ax.scatter(x, y, s=16, alpha=0.6, color=COLORS[1], linewidth=0)
    ax.plot([0, limit], [0, limit], color=REFERENCE_COLOR, linestyle="--")
    ax.set(
        title=f"Distance to reconstructions {where}\n"
        f"{AUTOENCODER_NAME} nearer for {np.mean(y < x):.0%} of the samples",
        xlabel=PCA_NAME,
        ylabel=AUTOENCODER_NAME,
        xlim=(0, limit),
        ylim=(0, limit),
        aspect="equal",
    )
    ax.spines[["top", "right"]].set_visible(False)
