"""The data of ``python -m skae``, read from a file and checked."""

import contextlib
import csv
import math
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from skae._data.frames import CATEGORY, ArrayFrame, is_missing
from skae._typing import Floats

# With fewer samples, held-out samples and folds say little.
MIN_ROWS = 20
# Images of fewer than 8 x 8 pixels show nothing.
MIN_IMAGE_SIDE = 8
# With a larger share of numbers, other values of a column are mistakes.
_MOST_NUMBERS = 0.25
# Cells of a .csv file without a value, in lower case.
MISSING_CELLS = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"}


class DemoError(Exception):
    """An error that the user can fix; its message is one line."""


class Data(NamedTuple):
    """Samples to reduce."""

    name: str
    X: NDArray[Any]  # (n_samples, n_features), NaN or None where values are missing
    y: NDArray[Any] | None  # (n_samples,), class labels
    image_shape: tuple[int, int] | None  # (height, width) if a sample is an image
    categories: tuple[str, ...] = ()  # names of columns of text; then X has objects

    @property
    def is_missing(self) -> NDArray[np.bool_]:
        """Which entries of X are missing."""
        if not self.categories:
            return np.asarray(np.isnan(self.X))
        return np.array([[is_missing(v) for v in row] for row in self.X], dtype=bool)

    @property
    def levels(self) -> Any:
        """The parameter `categories` of an autoencoder: levels of all samples."""
        if not self.categories:
            return "auto"
        frame = ArrayFrame(self.X)
        return [
            frame.levels(j)[1] if frame.kind(j) == CATEGORY else None
            for j in range(self.X.shape[1])
        ]


def load(path: Path | None, target: str | None = None) -> Data:
    """Return the data of a file, or raise DemoError if they cannot be used.

    A path of None stands for scikit-learn's digits. `target` is the name or the number
    of the label column in a .csv file.
    """
    suffix = "" if path is None else path.suffix.lower()
    if target is not None and suffix != ".csv":
        raise DemoError(
            "--target names a column of a .csv file; a .npz has its labels in y"
        )
    if path is None:
        digits = load_digits()
        return Data("digits", digits.data, digits.target, (8, 8))
    if not path.is_file():
        raise DemoError(f"{path}: there is no such file")
    if suffix not in (".npy", ".npz", ".csv"):
        raise DemoError(f"{path}: not a .npy, .npz or .csv file")
    try:
        categories: tuple[str, ...] = ()
        y: Any
        if suffix == ".csv":
            X, y, categories = _read_csv(path, target)
        else:
            X, y = _read_numpy(path)
        if categories:
            _check_shape(X)
            data = Data(path.name, X, _check_labels(y, len(X)), None, categories)
            check_observed(data.is_missing)
            return data
        X, image_shape = _check_rows(X)
        return Data(path.name, X, _check_labels(y, len(X)), image_shape)
    except DemoError as error:
        raise DemoError(f"{path}: {error}") from None
    except OSError as error:
        raise DemoError(f"{path}: {error.strerror or error}") from None


@contextlib.contextmanager
def _reading(problem: str) -> Iterator[None]:
    """Turn the errors of a reader into DemoError."""
    try:
        yield
    except (ValueError, EOFError, zipfile.BadZipFile, csv.Error) as error:
        raise DemoError(f"{problem} ({error})") from None


def _read_numpy(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return X and y of a .npy or .npz file; y is None if there are no labels."""
    with path.open("rb") as file:
        with _reading("not readable as NumPy's format"):
            arrays = np.load(file, allow_pickle=False)
        if isinstance(arrays, NpzFile) != (path.suffix.lower() == ".npz"):
            raise DemoError("not in the format that its name says")
        if isinstance(arrays, np.ndarray):
            return arrays, None
        names = {name.lower(): name for name in arrays.files}
        for x, y in (("x", "y"), ("x_train", "y_train")):
            if x in names:
                labels = _member(arrays, names[y]) if y in names else None
                return _member(arrays, names[x]), labels
        raise DemoError(
            f"no array named X or X_train (there are: {', '.join(arrays.files)})"
        )


def _member(arrays: Any, name: str) -> NDArray[Any]:
    """Return one array of a .npz file."""
    with _reading(f"its array {name} is not readable"):
        array: NDArray[Any] = arrays[name]
    return array


def _read_csv(
    path: Path, target: str | None
) -> tuple[NDArray[Any], list[str] | None, tuple[str, ...]]:
    """Return features and labels of a .csv file, and the names of columns of text.

    Labels are None without target. A column is text, of categories, if less than a
    quarter of its values are numbers; else values that are none are errors. The first
    line is a header if a feature in it is neither a number nor missing, unless all of
    these are in columns of text, and others in it are numbers.
    """
    lines = list(_numbered_lines(path))
    if not lines:
        raise DemoError("the file is empty")
    names = lines[0][1]
    for number, cells in lines:
        if len(cells) != len(names):
            raise DemoError(
                f"line {number} has {len(cells)} columns, the first has {len(names)}"
            )
    label = None if target is None else _column_number(names, target)
    features = [column for column in range(len(names)) if column != label]
    texts = {i for i in features if _is_text([cells[i] for _, cells in lines[1:]])}
    named = {i for i in features if not _is_number(names[i])}
    has_numbers = any(_is_number(names[i]) and names[i] for i in features)
    if not named or (named <= texts and has_numbers):
        names = [str(column) for column in range(len(names))]
    else:
        lines = lines[1:]
    columns: list[list[Any]] = []
    for i in features:
        read = _level if i in texts else partial(_checked_number, names[i])
        columns.append([read(number, cells[i]) for number, cells in lines])
        if lines and all(v is None or v != v for v in columns[-1]):
            raise DemoError(f"column {names[i]} has no value: leave it out")
    X = np.array(columns, dtype=object if texts else np.float64).T
    X = np.ascontiguousarray(X).reshape(len(lines), len(features))
    named_texts = tuple(names[i] for i in sorted(texts))
    return (
        X,
        None if label is None else _labels(lines, label, names[label]),
        named_texts,
    )


def _is_text(cells: list[str]) -> bool:
    """Whether the values of a column are text, and not numbers with mistakes."""
    values = [cell for cell in cells if cell.lower() not in MISSING_CELLS]
    return sum(map(_is_number, values)) < _MOST_NUMBERS * len(values)


def _level(_: int, cell: str) -> str | None:
    return None if cell.lower() in MISSING_CELLS else cell


def _checked_number(name: str, line: int, cell: str) -> float:
    try:
        return _number(cell)
    except ValueError:
        raise DemoError(
            f"line {line}, column {name} is not a number: {cell} (if it is missing, "
            "leave the cell empty, or write NA)"
        ) from None


def _labels(lines: list[tuple[int, list[str]]], label: int, name: str) -> list[str]:
    """Return the cells of the column of labels; DemoError if one is empty."""
    for number, cells in lines:
        if not cells[label]:
            raise DemoError(
                f"line {number}, column {name} is empty, but each sample needs a label"
            )
    return [cells[label] for _, cells in lines]


def _numbered_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of every line that is not blank."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        with _reading("not a readable .csv file"):
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, [cell.strip() for cell in cells]


def _column_number(names: list[str], target: str) -> int:
    """Return the position of the column that --target means."""
    try:
        return range(len(names))[int(target)]
    except ValueError:
        if target in names:
            return names.index(target)
        raise DemoError(f"no column {target!r} in: {', '.join(names)}") from None
    except IndexError:
        raise DemoError(f"no column {target}, there are {len(names)}") from None


def _number(cell: str) -> float:
    return math.nan if cell.lower() in MISSING_CELLS else float(cell)


def _is_number(cell: str) -> bool:
    """Whether a cell is a number, or missing."""
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _check_rows(X: NDArray[Any]) -> tuple[Floats, tuple[int, int] | None]:
    """Return X as a 2-D array of floats, and the shape of its images, or None.

    float32 is kept, all other types become float64. NaN is a missing entry.
    """
    if X.dtype.kind not in "biuf":
        raise DemoError(f"its entries are not real numbers (dtype {X.dtype})")
    image_shape = (X.shape[1], X.shape[2]) if X.ndim == 3 else None
    if X.ndim == 3:
        X = X.reshape(len(X), -1)
    if X.ndim != 2:
        raise DemoError(
            f"its shape is {X.shape}; (rows, features) or (rows, height, width) is "
            "needed"
        )
    _check_shape(X)
    if X.dtype != np.float32:
        X = X.astype(np.float64)
    bad = np.argwhere(np.isinf(X))
    if len(bad):
        row, column = bad[0]
        raise DemoError(
            f"{len(bad)} entries are infinite, the first in row {row}, column "
            f"{column} (counted from 0): {X[row, column]}"
        )
    check_observed(np.isnan(X))
    if np.all(X[0] == X):
        raise DemoError("all its rows are the same")
    side = math.isqrt(X.shape[1])
    if image_shape is None and side >= MIN_IMAGE_SIDE and side * side == X.shape[1]:
        image_shape = side, side
    return X, image_shape


def _check_shape(X: NDArray[Any]) -> None:
    if len(X) < MIN_ROWS or X.shape[1] < 2:
        raise DemoError(
            f"{X.shape[0]} rows of {X.shape[1]} features are too few; at least "
            f"{MIN_ROWS} rows of 2 features are needed"
        )


def check_observed(is_missing: NDArray[np.bool_], where: str = "") -> None:
    """Raise DemoError if all entries of a feature are missing."""
    empty = np.flatnonzero(is_missing.all(axis=0))
    if len(empty):
        raise DemoError(
            f"column {empty[0]} (counted from 0, without labels) has no value{where}: "
            "leave it out"
        )


def _check_labels(y: Any, n_samples: int) -> NDArray[Any] | None:
    """Return class labels as an array of shape (n_samples,), or None for None."""
    if y is None:
        return None
    labels = np.asarray(y)
    if labels.shape not in {(n_samples,), (n_samples, 1)}:
        raise DemoError(f"labels of shape {labels.shape} for {n_samples} rows")
    labels = labels.ravel()
    with contextlib.suppress(ValueError):  # text is fine
        labels = labels.astype(np.float64)
    if labels.dtype == np.float64 and not np.all(labels == np.rint(labels)):
        raise DemoError("the labels are not classes, but numbers with decimals or NaN")
    if len(np.unique(labels)) < 2:
        raise DemoError("all labels are the same")
    return labels
