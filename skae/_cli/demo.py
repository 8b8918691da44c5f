"""The job of the command line: compare PCA and an autoencoder on given data.

The code size is chosen by cross-validation on the training samples; then every
candidate is fitted on all of them and scored on the held-out samples. The results are
written as a table and a picture.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
import os
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae._autoencoder import AutoencoderTransformer
from skae._cli.demo_data import Data, DemoError, check_observed, load
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
from skae.inspection._prediction import linear_classifier
from skae.metrics import reconstruction_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCALERS = {"minmax": MinMaxScaler, "standard": StandardScaler}
CODE_SIZES = (2, 5, 10, 20)
TEST_SIZE = 0.25
TABLE_FILE = "results.csv"
PICTURE_FILE = "reconstructions.png"

# Chosen by cross-validation on the digits' training samples, without those held out.
AUTOENCODER: dict[str, Any] = {
    "hidden_layer_sizes": (100,),
    "activation": "silu",
    "init": "random",
    "alpha": 0.01,
    "batch_size": 32,
    "early_stopping": False,
    "learning_rate": "cosine",
    "learning_rate_init": 0.01,
    "n_iter_no_change": np.inf,  # the schedule runs to its end
}
MAX_ITER = 100

NAMES = (PCA_NAME, AUTOENCODER_NAME)
LINE_WIDTH = 79
N_IMAGES = 10
# Okabe and Ito's palette, which color-blind readers can tell apart, too.
COLORS = ("#0072B2", "#D55E00")
REFERENCE_COLOR = "#666666"
GAP_COLOR = "#dddddd"
DOTS_PER_INCH = 150


def run(
    path: Path | None,
    *,
    target: str | None,
    scaler: str,
    code_sizes: Sequence[int] | None,
    cv: int,
    max_iter: int,
    random_state: int,
    output: Path,
    plot: bool,
) -> None:
    """Run and print the job; the parameters are the command line's options.

    Raises DemoError if the data cannot be used or the files cannot be written.
    """
    start = time.perf_counter()
    data = load(path, target)
    train, test = split(data, random_state)
    code_sizes = usable_code_sizes(code_sizes, (len(train), data.X.shape[1]), cv)
    is_missing = data.is_missing
    for fold, _ in KFold(cv).split(train):
        check_observed(is_missing[train[fold]], f" in a training fold of {data.name}")
    prepare_folder(output)
    missing = f"; {100 * is_missing.mean():.2g} % of the values are missing"
    print(
        f"{data.name}: {len(train)} training samples, {len(test)} held out; "
        f"{data.X.shape[1]} features{missing if is_missing.any() else ''}"
    )
    if data.categories:
        listed = textwrap.fill(f"Categories: {', '.join(data.categories)}.", LINE_WIDTH)
        print(f"{listed}\nEach column counts once, whatever its levels or units.")

    autoencoder = AutoencoderTransformer(
        **AUTOENCODER,
        max_iter=max_iter,
        random_state=random_state,
        categories=data.levels,
    )
    pipeline = Pipeline([("scale", SCALERS[scaler]()), ("reduce", autoencoder)])
    if data.categories:  # numbers are standardized beside them
        pipeline = Pipeline(pipeline.steps[1:])
    print(
        f"Grid search, {2 * len(code_sizes)} candidates, {cv} folds each (the first "
        "run also compiles the kernels, for half a minute):",
        flush=True,
    )
    folds = compare(
        data.X[train],
        code_sizes,
        cv=KFold(cv),  # `split` has shuffled the samples
        estimator=pipeline,
        report=progress(2 * len(code_sizes)),
    )
    imputes = bool(is_missing.any()) and not data.categories
    classifier = linear_classifier(imputes=imputes)
    print("Fits on all training samples, R2 on the held-out samples:", flush=True)
    held_out = compare(
        data.X,
        code_sizes,
        y=data.y,
        predictor=None if data.y is None else classifier,
        cv=[(train, test)],
        estimator=pipeline,
        return_estimator=True,
        report=progress(2 * len(code_sizes), by_fit=True),
    )

    table = make_table(folds, held_out, code_sizes)
    print(f"\n{format_table(table)}\n")
    print_choice(table, folds.verdict)
    if data.y is not None:
        print(f"Accuracy from all features: {held_out.results[REFERENCE][0]:.3f}.")
    with writing(output / TABLE_FILE) as file:
        write_table(table, file)
    if plot:
        try:
            with writing(output / PICTURE_FILE) as file:
                draw(table, held_out, data, test).savefig(file, dpi=DOTS_PER_INCH)
        except ImportError:
            print('No picture without matplotlib: pip install "skae[plot]"')
    print(f"Done in {time.perf_counter() - start:.1f} s")


def split(data: Data, random_state: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return indices of training and held-out samples, stratified if possible."""
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
    if data.y is not None and len(np.unique(data.y[train])) < 2:
        raise DemoError(f"{data.name}: the training samples are all of one class")
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
        return [n for n in CODE_SIZES if n < n_features and n <= largest] or [1]
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
        raise DemoError(f"--output {path}: {error.strerror}") from None
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


def make_table(
    folds: PCAComparisonDisplay, held_out: PCAComparisonDisplay, code_sizes: list[int]
) -> dict[str, list[Any]]:
    """Return the columns of the table by name, each with an entry per code size."""
    measures = {
        "r2": held_out.results["test_score"],
        "levels": held_out.results.get(ACCURACY),  # None without categories
        "accuracy": held_out.results.get(SCORE),  # None without labels
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


def print_choice(table: dict[str, list[Any]], verdict: str) -> None:
    """Print the candidate with the best score in the folds, and their verdict."""
    in_folds, held_out = np.array([columns(table, "cv_r2"), columns(table, "r2")])
    best = np.unravel_index(np.argmax(in_folds), in_folds.shape)
    name = describe(NAMES[best[0]], table["code_size"][best[1]])
    print(
        f"The grid search picks: {name} (R2 {in_folds[best]:z.3f} in the folds, "
        f"{held_out[best]:z.3f} held out)."
    )
    verdict = verdict.replace("±", "+-")  # terminals may know ASCII only
    print(textwrap.fill(f"In the folds: {verdict}", LINE_WIDTH))


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
    test: NDArray[np.intp],
) -> Figure:
    """Return a figure: curves of scores above reconstructions of held-out samples.

    The reconstructions are those of a medium code size.
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
        titles.append("Accuracy from the code (held out)")
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
    medium = (len(code_sizes) - 1) // 2
    fitted = held_out.results[FITTED][medium :: len(code_sizes)]
    where = f"from {code_sizes[medium]} numbers"
    if data.categories:
        draw_levels(bottom.subplots(), table)
    elif data.image_shape is None:
        draw_errors(bottom.subplots(), fitted, data.X[test], where)
    else:
        r2 = [column[medium] for column in columns(table, "r2")]
        names = [f"{n}\nR² {s:z.2f}" for n, s in zip(NAMES, r2, strict=True)]
        models = dict(zip(names, fitted, strict=True))
        draw_images(bottom.subplots(), models, data, test)
        bottom.suptitle(f"Held-out samples and their reconstructions {where}")
    return figure


def draw_levels(ax: Axes, table: dict[str, list[Any]]) -> None:
    """Draw how many of the decoded levels are right, by code size."""
    for name, color, column in zip(
        NAMES, COLORS, columns(table, "levels"), strict=True
    ):
        ax.plot(table["code_size"], column, marker="o", color=color, label=name)
    ax.set_xticks(table["code_size"])
    ax.set(title="Categories decoded rightly (held out)", xlabel="code size")
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
        title=f"Distance of held-out samples to their reconstructions {where}\n"
        f"{AUTOENCODER_NAME} nearer for {np.mean(y < x):.0%} of the samples (below the "
        "line)",
        xlabel=PCA_NAME,
        ylabel=AUTOENCODER_NAME,
        xlim=(0, limit),
        ylim=(0, limit),
        aspect="equal",
    )
    ax.spines[["top", "right"]].set_visible(False)
