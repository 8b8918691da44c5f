"""The main job: PCA beside the autoencoder, on real data, in one grid search.

``run`` is the whole of it; the rest are its steps, in order: split the rows, search the
grid on the training rows, judge every candidate on the held-out rows, write the table,
draw the picture.
"""

import csv
import math
import os
import textwrap
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    ParameterGrid,
    train_test_split,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae._autoencoder import AutoencoderTransformer
from skae._cli.demo_data import DemoError, load
from skae._training.reporting import interrupt_ends_all
from skae.inspection._comparison_display import MAX_TICKS, PCAComparisonDisplay
from skae.inspection._prediction import linear_classifier
from skae.metrics import reconstruction_r2

SCALERS = {"minmax": MinMaxScaler, "standard": StandardScaler}
CODE_SIZES = (2, 5, 10, 20)
TEST_SIZE = 0.25
TABLE_FILE = "results.csv"
PICTURE_FILE = "reconstructions.png"

# Chosen by the folds of the digits' training rows; the held-out rows had no say.
AUTOENCODER = {
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

LINE_WIDTH = 79
N_IMAGES = 10
# Okabe and Ito's palette: distinct to colour-blind readers too.
COLORS = {"PCA": "#0072B2", "autoencoder": "#D55E00"}
MARKERS = {"PCA": "o", "autoencoder": "s"}
REFERENCE_COLOR = "#666666"
DOTS_PER_INCH = 150


class Split(NamedTuple):
    """Training rows, which every choice is made on, and held-out rows."""

    X_train: np.ndarray
    X_test: np.ndarray
    y_train: np.ndarray | None
    y_test: np.ndarray | None


@dataclass(frozen=True)
class Result:
    """One candidate, fitted on the training rows and judged on the held-out ones."""

    pipeline: Pipeline
    cv_r2: float  # mean over the folds of the grid search
    r2: float
    accuracy: float | None  # None without labels
    fit_seconds: float

    @property
    def reducer(self):
        """The fitted PCA or autoencoder."""
        return self.pipeline.named_steps["reduce"]

    @property
    def name(self):
        """Its name in the table and in the picture."""
        return name_of(self.reducer)

    @property
    def code_size(self):
        """The number of numbers a row is reduced to."""
        return self.reducer.n_components


def run(*, data, target, scaler, code_sizes, cv, max_iter, random_state, output, plot):
    """Run the main job, printing as it goes.

    Parameters
    ----------
    data : pathlib.Path or None
        File with the rows; None takes scikit-learn's digits.
    target : str or None
        Name or number of the label column of a .csv.
    scaler : {"minmax", "standard"}
        Scaling of the features before the reduction.
    code_sizes : list of int or None
        None takes those of `CODE_SIZES` that are smaller than a row.
    cv : int
        Folds of the grid search.
    max_iter : int
        Epochs of the autoencoder.
    random_state : int
        Seed of the split and of both reductions.
    output : pathlib.Path
        Folder of the files written; made if it does not exist.
    plot : bool
        Whether to draw the picture.

    Raises
    ------
    DemoError
        If the data cannot be used or the folder not be written to.
    """
    start = time.perf_counter()
    rows = load(data, target)
    split = split_rows(rows, random_state)
    code_sizes = usable_code_sizes(code_sizes, split.X_train, cv)
    prepare_folder(output)
    print(
        f"{rows.name}: {len(split.X_train)} rows to train on, {len(split.X_test)} held "
        f"out; {rows.X.shape[1]} features"
    )

    pipeline = Pipeline([("scale", SCALERS[scaler]()), ("reduce", PCA())])
    grid = parameter_grid(code_sizes, max_iter, random_state)
    with interrupt_ends_all():
        search = search_grid(pipeline, grid, split.X_train, cv)
        results = judge_candidates(pipeline, search, split)
        accuracy_without_code = code_accuracy("passthrough", split)

    print(f"\n{format_table(results)}\n")
    print_choice(search, results, accuracy_without_code)
    print(f"Wrote {write_table(results, output / TABLE_FILE)}")
    if plot:
        shown = choose_shown(results, split, rows.image_shape)
        save_picture(results, shown, accuracy_without_code, output / PICTURE_FILE)
    print(f"Done in {time.perf_counter() - start:.1f} s")


# Preparing


def split_rows(data, random_state):
    """Split into training and held-out rows, all classes in both if possible.

    Parameters
    ----------
    data : Data
    random_state : int

    Returns
    -------
    split : Split

    Raises
    ------
    DemoError
        If the training rows are all of one class.
    """
    options = {"test_size": TEST_SIZE, "random_state": random_state}
    if data.y is None:
        X_train, X_test = train_test_split(data.X, **options)
        return Split(X_train, X_test, None, None)
    classes, counts = np.unique(data.y, return_counts=True)
    fit_in_both = counts.min() > 1 and len(classes) <= TEST_SIZE * len(data.y)
    stratify = data.y if fit_in_both else None
    X_train, X_test, y_train, y_test = train_test_split(
        data.X, data.y, stratify=stratify, **options
    )
    if len(np.unique(y_train)) < 2:
        raise DemoError(f"{data.name}: the training rows are all of one class")
    return Split(X_train, X_test, y_train, y_test)


def usable_code_sizes(requested, X_train, cv):
    """Return the code sizes to try, in increasing order.

    Parameters
    ----------
    requested : list of int or None
        None takes those of `CODE_SIZES` that reduce the rows at all.
    X_train : ndarray of shape (n_train, n_features)
    cv : int

    Returns
    -------
    code_sizes : list of int

    Raises
    ------
    DemoError
        If there are too many folds or a size is larger than PCA allows.
    """
    n_train, n_features = X_train.shape
    if not 2 <= cv <= n_train // 2:  # R2 needs two rows to have a variance
        raise DemoError(f"--cv {cv}: 2 to {n_train // 2} folds are possible")
    smallest_fold = n_train - math.ceil(n_train / cv)
    largest = min(n_features, smallest_fold)
    if requested is None:
        return [n for n in CODE_SIZES if n < n_features and n <= largest] or [1]
    if max(requested) > largest:
        raise DemoError(
            f"--code-sizes {max(requested)}: with {n_features} features, and "
            f"{smallest_fold} rows to fit on in the folds, PCA has at most {largest} "
            "components"
        )
    return sorted(set(requested))


def prepare_folder(path):
    """Make the output folder, or raise DemoError if it cannot be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"--output {path}: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise DemoError(f"--output {path}: no permission to write there")


def parameter_grid(code_sizes, max_iter, random_state):
    """Return the grid: both reductions as candidates for one step of the pipeline."""
    autoencoder = AutoencoderTransformer(
        **AUTOENCODER, max_iter=max_iter, random_state=random_state
    )
    pca = PCA(random_state=random_state)
    return [
        {"reduce": [pca], "reduce__n_components": code_sizes},
        {"reduce": [autoencoder], "reduce__n_components": code_sizes},
    ]


# Fitting


class ProgressScorer:
    """`reconstruction_r2`, and a line on the terminal when a candidate is through.

    It counts its calls: the search must make them in this process, in order.

    Parameters
    ----------
    n_candidates : int
    n_folds : int
    """

    def __init__(self, n_candidates, n_folds):
        self.n_candidates = n_candidates
        self.n_folds = n_folds
        self.scores = []
        self.start = time.perf_counter()

    def __call__(self, estimator, X, y=None):
        """Return the score of one fold."""
        self.scores.append(reconstruction_r2(estimator, X))
        n_done, fold = divmod(len(self.scores), self.n_folds)
        if fold == 0:
            print(
                f"  {n_done}/{self.n_candidates}  "
                f"{describe(estimator.named_steps['reduce']):<26} "
                f"R2 {np.mean(self.scores[-self.n_folds :]):z.3f}  "
                f"{time.perf_counter() - self.start:6.1f} s",
                flush=True,
            )
        return self.scores[-1]


def name_of(reducer):
    """Return the name of a reduction in the table and in the picture."""
    return "PCA" if isinstance(reducer, PCA) else "autoencoder"


def describe(reducer):
    """Return the name of a reduction with its code size."""
    return f"{name_of(reducer)}, code size {reducer.n_components}"


def search_grid(pipeline, grid, X_train, cv):
    """Search the grid on the training rows.

    Parameters
    ----------
    pipeline : Pipeline
        With the step "reduce".
    grid : list of dict
    X_train : ndarray of shape (n_train, n_features)
    cv : int

    Returns
    -------
    search : GridSearchCV
        Not refitted: `judge_candidates` fits all candidates on all training rows.
    """
    n_candidates = len(ParameterGrid(grid))
    print(
        f"Grid search, {n_candidates} candidates, {cv} folds each (the very first run "
        "compiles the kernels, too: half a minute):",
        flush=True,
    )
    search = GridSearchCV(
        pipeline,
        grid,
        scoring=ProgressScorer(n_candidates, cv),
        cv=KFold(cv),  # the rows were shuffled when they were split
        refit=False,
        n_jobs=1,  # ProgressScorer's need; the autoencoder has threads of its own
        error_score="raise",
    )
    return search.fit(X_train)


def judge_candidates(pipeline, search, split):
    """Fit every candidate of a search on the training rows; judge it on the others.

    Parameters
    ----------
    pipeline : Pipeline
    search : GridSearchCV
        Fitted.
    split : Split

    Returns
    -------
    results : list of Result
    """
    print("Fits on all training rows, R2 on the held-out rows:", flush=True)
    results: list[Result] = []
    for params, cv_r2 in zip(
        search.cv_results_["params"],
        search.cv_results_["mean_test_score"],
        strict=True,
    ):
        candidate = clone(pipeline).set_params(**clone(params, safe=False))
        result = judge(candidate, split, float(cv_r2))
        print(
            f"  {len(results) + 1}/{len(search.cv_results_['params'])}  "
            f"{describe(result.reducer):<26} R2 {result.r2:z.3f}  "
            f"{result.fit_seconds:6.1f} s",
            flush=True,
        )
        results.append(result)
    return results


def judge(candidate, split, cv_r2):
    """Fit one candidate on the training rows; return its Result on the others."""
    start = time.perf_counter()
    candidate.fit(split.X_train)
    fit_seconds = time.perf_counter() - start
    return Result(
        pipeline=candidate,
        cv_r2=cv_r2,
        r2=reconstruction_r2(candidate, split.X_test),
        accuracy=code_accuracy(candidate, split),
        fit_seconds=fit_seconds,
    )


def code_accuracy(transformer, split):
    """Return a linear classifier's held-out accuracy if it sees the code only.

    Parameters
    ----------
    transformer : Pipeline or "passthrough"
        Fitted; "passthrough" shows all features to the classifier.
    split : Split

    Returns
    -------
    accuracy : float or None
        None without labels.
    """
    if split.y_train is None:
        return None
    X_train, X_test = split.X_train, split.X_test
    if transformer != "passthrough":
        X_train, X_test = transformer.transform(X_train), transformer.transform(X_test)
    classifier = linear_classifier().fit(X_train, split.y_train)
    return float(classifier.score(X_test, split.y_test))


# Table


def table_rows(results):
    """Return one dict a code size, its keys being the columns of the table."""
    measures = {
        "r2": lambda result: result.r2,
        "accuracy": lambda result: result.accuracy,
        "fit_seconds": lambda result: result.fit_seconds,
        "cv_r2": lambda result: result.cv_r2,
        "n_iter": lambda result: getattr(result.reducer, "n_iter_", None),
    }
    rows: dict[int, dict] = {}
    for measure, value_of in measures.items():
        for result in results:
            row = rows.setdefault(result.code_size, {"code_size": result.code_size})
            value = value_of(result)
            if value is not None:  # accuracy without labels, epochs of PCA
                row[f"{result.name.lower()}_{measure}"] = value
    return list(rows.values())


def format_table(results):
    """Return the table as text: a line a code size, pairs of columns to compare."""
    blocks = {
        "R2, held out": ("r2", 3),
        "accuracy from the code": ("accuracy", 3),
        "fit seconds": ("fit_seconds", 2),
    }
    if results[0].accuracy is None:
        del blocks["accuracy from the code"]
    width = max(map(len, COLORS)) + 1
    pair = "".join(f"{name:>{width}}" for name in COLORS)
    lines = [
        " ".join(["code", *(f"{title:>{len(pair)}}" for title in blocks)]),
        " ".join(["size", *(pair for _ in blocks)]),
    ]
    for row in table_rows(results):
        cells = [f"{row['code_size']:>4}"]
        for measure, decimals in blocks.values():
            values = [row[f"{name.lower()}_{measure}"] for name in COLORS]
            cells.append("".join(f"{v:z{width}.{decimals}f}" for v in values))
        lines.append(" ".join(cells))
    return "\n".join(lines)


def print_choice(search, results, accuracy_without_code):
    """Print the grid search's choice and, with labels, what accuracy to expect."""
    chosen = results[search.best_index_]
    print(
        f"The grid search picks: {describe(chosen.reducer)} (R2 {chosen.cv_r2:z.3f} in "
        f"the folds, {chosen.r2:z.3f} held out)."
    )
    verdict = verdict_of(search).replace("±", "+-")  # terminals may know ASCII only
    print(textwrap.fill(f"In the folds: {verdict}", LINE_WIDTH))
    if accuracy_without_code is not None:
        print(f"Accuracy from all features: {accuracy_without_code:.3f}.")


def verdict_of(search):
    """Return what the folds of a search say of both reductions, in words."""
    results = search.cv_results_
    reducers = results["param_reduce"]
    by_fold = [results[f"split{i}_test_score"] for i in range(search.n_splits_)]
    return PCAComparisonDisplay(
        results={
            "estimator": np.repeat([*map(name_of, reducers)], search.n_splits_),
            "n_components": np.repeat(
                np.array(results["param_reduce__n_components"], dtype=int),
                search.n_splits_,
            ),
            "test_score": np.column_stack(by_fold).ravel(),
        }
    ).verdict


def write_table(results, path):
    """Write the table as .csv, with the grid search's scores and the epochs run.

    Parameters
    ----------
    results : list of Result
    path : pathlib.Path

    Returns
    -------
    path : pathlib.Path

    Raises
    ------
    DemoError
        If the file cannot be written.
    """
    rows = table_rows(results)
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise DemoError(f"{path}: {error.strerror}") from None
    return path


# Picture


class Shown(NamedTuple):
    """Held-out rows, and what one code size leaves of them."""

    X: np.ndarray  # (n_shown, n_features)
    results: list  # one Result a reduction, all of the same code size
    image_shape: tuple | None  # None: the rows are no images


def choose_shown(results, split, image_shape):
    """Choose what to show: a medium code size, and no row for how well it went.

    Parameters
    ----------
    results : list of Result
    split : Split
    image_shape : tuple or None

    Returns
    -------
    shown : Shown
        Of images the first held-out one of each class, or the first ones without
        labels; of other data all held-out rows.
    """
    code_sizes = sorted({result.code_size for result in results})
    medium = code_sizes[(len(code_sizes) - 1) // 2]
    X = split.X_test
    if image_shape is not None:
        first_rows = np.arange(len(X))
        if split.y_test is not None:
            first_rows = np.unique(split.y_test, return_index=True)[1]
        X = X[first_rows[:N_IMAGES]]
    return Shown(X, [r for r in results if r.code_size == medium], image_shape)


def save_picture(results, shown, accuracy_without_code, path):
    """Draw the picture and write it; without matplotlib, say how to get it."""
    try:
        figure = draw(results, shown, accuracy_without_code)
    except ImportError:
        print('No picture without matplotlib: pip install "skae[plot]"')
        return
    try:
        figure.savefig(path, dpi=DOTS_PER_INCH)
    except OSError as error:
        raise DemoError(f"{path}: {error.strerror}") from None
    print(f"Wrote {path}")


def draw(results, shown, accuracy_without_code):
    """Draw the curves over the reconstructions.

    Parameters
    ----------
    results : list of Result
    shown : Shown
    accuracy_without_code : float or None
        A classifier's accuracy from all features; None without labels.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    # Not through pyplot: no window, no global state.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08)  # inches
    figure = Figure(figsize=(10, 8), layout=layout)
    grid = figure.add_gridspec(2, 1)
    top, bottom = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    has_labels = accuracy_without_code is not None
    axes = top.subplots(1, 1 + has_labels, squeeze=False)[0]
    draw_curves(axes[0], results, "r2", "Variance reconstructed (R², held out)")
    if has_labels:
        draw_curves(axes[1], results, "accuracy", "Accuracy from the code (held out)")
        axes[1].axhline(
            accuracy_without_code,
            color=REFERENCE_COLOR,
            linestyle="--",
            label="all features",
        )
    axes[-1].legend()
    if shown.image_shape is None:
        draw_errors(bottom, shown)
    else:
        draw_images(bottom, shown)
    return figure


def draw_curves(ax, results, measure, title):
    """Draw one measure against the code size, a curve a reduction."""
    values = [getattr(result, measure) for result in results]
    for name, color in COLORS.items():
        mine = [result for result in results if result.name == name]
        ax.plot(
            [result.code_size for result in mine],
            [getattr(result, measure) for result in mine],
            color=color,
            marker=MARKERS[name],
            label=name,
        )
    code_sizes = sorted({result.code_size for result in results})
    if len(code_sizes) <= MAX_TICKS:
        ax.set_xticks(code_sizes)
    # Both measures are at best 1; an R² can be negative.
    ax.set(title=title, xlabel="code size", ylim=(min(0, *values) - 0.02, 1.02))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)


def reconstruct(result, X):
    """Return what a fitted candidate leaves of the rows, in their units."""
    return result.pipeline.inverse_transform(result.pipeline.transform(X))


def draw_images(figure, shown):
    """Draw a row of images, and below it a row for each reduction."""
    rows = {"original": shown.X}
    for result in shown.results:
        rows[f"{result.name}\nR² {result.r2:z.2f}"] = reconstruct(result, shown.X)
    axes = figure.subplots(len(rows), len(shown.X), squeeze=False)
    for row, (label, images) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for ax, image in zip(row, images, strict=True):
            ax.imshow(
                np.reshape(image, shown.image_shape),
                cmap="gray_r",
                vmin=shown.X.min(),
                vmax=shown.X.max(),
            )
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color("#cccccc")
    figure.suptitle(
        "Held-out rows and their reconstructions from "
        f"{shown.results[0].code_size} numbers"
    )


def draw_errors(figure, shown):
    """Draw every row's distance to its reconstructions, one by the other."""
    x, y = (
        np.linalg.norm(shown.X - reconstruct(result, shown.X), axis=1)
        for result in shown.results
    )
    one, other = (result.name for result in shown.results)
    limit = 1.05 * max(x.max(), y.max())
    ax = figure.subplots()
    ax.scatter(x, y, s=16, alpha=0.6, color=COLORS[other], linewidth=0)
    ax.plot([0, limit], [0, limit], color=REFERENCE_COLOR, linestyle="--")
    ax.set(
        title="Distance of held-out rows to their reconstructions from "
        f"{shown.results[0].code_size} numbers\n"
        f"{other} nearer for {np.mean(y < x):.0%} of the rows (below the line)",
        xlabel=one,
        ylabel=other,
        xlim=(0, limit),
        ylim=(0, limit),
        aspect="equal",
    )
    ax.spines[["top", "right"]].set_visible(False)
