"""The rows that ``python -m skae`` works on: read from a file and checked."""

import contextlib
import csv
import functools
import itertools
import math
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.lib.npyio import NpzFile
from sklearn.datasets import load_digits

# Fewer rows make neither a held-out set nor folds from which one could conclude much.
MIN_ROWS = 20
# Fewer features than 8 x 8 make no picture that one would recognise.
MIN_IMAGE_SIDE = 8


class DemoError(Exception):
    """Something the user can mend; its message is one line."""


class Data(NamedTuple):
    """Rows to reduce."""

    name: str
    X: np.ndarray  # (n_samples, n_features)
    y: np.ndarray | None  # (n_samples,), class labels
    image_shape: tuple | None  # (height, width) if a row is an image


def load(path, target=None):
    """Return the rows of a file, checked.

    Parameters
    ----------
    path : pathlib.Path or None
        A .npy, .npz or .csv; None takes scikit-learn's digits.
    target : str or None
        Label column of a .csv.

    Returns
    -------
    data : Data

    Raises
    ------
    DemoError
        If the file cannot be read or its rows cannot be used.
    """
    if target is not None and (path is None or path.suffix.lower() != ".csv"):
        raise DemoError(
            "--target names a column of a .csv file; a .npz has its labels in y"
        )
    if path is None:
        digits = load_digits()
        return Data("digits", digits.data, digits.target, (8, 8))
    if not path.is_file():
        raise DemoError(f"{path}: there is no such file")
    readers: dict[str, Callable] = {
        ".npy": read_npy,
        ".npz": read_npz,
        ".csv": functools.partial(read_csv, target=target),
    }
    if path.suffix.lower() not in readers:
        raise DemoError(f"{path}: not a .npy, .npz or .csv file")
    try:
        X, y = readers[path.suffix.lower()](path)
        X, image_shape = check_rows(X)
        y = check_labels(y, len(X))
    except DemoError as error:
        raise DemoError(f"{path}: {error}") from None
    except OSError as error:
        raise DemoError(f"{path}: {error.strerror or error}") from None
    return Data(path.name, X, y, image_shape)


def read_npy(path):
    """Return the array of a .npy file, and no labels."""
    with path.open("rb") as file:
        return _load_arrays(file, np.ndarray), None


def read_npz(path):
    """Return the rows of a .npz file and its labels, or None if it has none."""
    with path.open("rb") as file, _load_arrays(file, NpzFile) as arrays:
        names = {name.lower(): name for name in arrays.files}
        for x, y in (("x", "y"), ("x_train", "y_train")):
            if x in names:
                labels = _member(arrays, names[y]) if y in names else None
                return _member(arrays, names[x]), labels
        raise DemoError(
            f"no array named X or X_train (there are: {', '.join(arrays.files)})"
        )


def _load_arrays(file, expected_type):
    """Return what numpy reads from an open file; its type follows from the content."""
    try:
        arrays = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DemoError(f"not readable as NumPy's format ({error})") from None
    if not isinstance(arrays, expected_type):
        raise DemoError("not in the format that its name says")
    return arrays


def _member(arrays, name):
    """Return one array of a .npz file."""
    try:
        return arrays[name]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DemoError(f"its array {name} is not readable ({error})") from None


def read_csv(path, target=None):
    """Return the features of a .csv file and, with a target, its labels.

    The first line is a header if a feature in it is neither a number nor empty.

    Parameters
    ----------
    path : pathlib.Path
    target : str or None
        Label column: its number, or anything else for its name in the header.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : list of str or None
    """
    lines = _numbered_lines(path)
    first = next(lines, None)
    if first is None:
        raise DemoError("the file is empty")
    names = first[1]
    label = None if target is None else _column_number(names, target)
    features = [column for column in range(len(names)) if column != label]
    if all(not names[i] or _is_number(names[i]) for i in features):
        names = [str(column) for column in range(len(names))]
        lines = itertools.chain([first], lines)

    X, y = [], []
    for number, cells in lines:
        if len(cells) != len(names):
            raise DemoError(
                f"line {number} has {len(cells)} columns, the first has {len(names)}"
            )
        X.append(_numbers(cells, features, names, number))
        if label is not None:
            y.append(cells[label])
    shape = (len(X), len(features))
    return np.reshape(X, shape), None if label is None else y


def _numbered_lines(path):
    """Yield the number and the cells of every line that is not blank."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, [cell.strip() for cell in cells]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DemoError(f"not a readable .csv file ({error})") from None


def _column_number(names, target):
    """Return the position of the column that --target means."""
    try:
        return range(len(names))[int(target)]
    except ValueError:
        if target in names:
            return names.index(target)
        raise DemoError(f"no column {target!r} in: {', '.join(names)}") from None
    except IndexError:
        raise DemoError(f"no column {target}, there are {len(names)}") from None


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(cells, columns, names, line):
    """Return the cells in these columns as an array of floats."""
    try:
        return np.array([float(cells[column]) for column in columns])
    except ValueError:
        bad = next(i for i in columns if not _is_number(cells[i]))
        found = f"is not a number: {cells[bad]}" if cells[bad] else "is empty"
        raise DemoError(f"line {line}, column {names[bad]} {found}") from None


def check_rows(X):
    """Return rows as a float array, and the shape of the images they are, if any.

    Parameters
    ----------
    X : ndarray
        Rows of features, or images of shape (n_samples, height, width).

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        float32 stays, everything else becomes float64.
    image_shape : tuple of int or None

    Raises
    ------
    DemoError
        If these are not numbers, too few, not finite, or all the same.
    """
    if X.dtype.kind not in "biuf":
        raise DemoError(f"its entries are not real numbers (dtype {X.dtype})")
    image_shape = X.shape[1:] if X.ndim == 3 else None
    if X.ndim == 3:
        X = X.reshape(len(X), -1)
    if X.ndim != 2:
        raise DemoError(
            f"its shape is {X.shape}; (rows, features) or (rows, height, width) is "
            "needed"
        )
    if len(X) < MIN_ROWS or X.shape[1] < 2:
        raise DemoError(
            f"{X.shape[0]} rows of {X.shape[1]} features are too few; at least "
            f"{MIN_ROWS} rows of 2 features are needed"
        )
    if X.dtype != np.float32:
        X = X.astype(np.float64)
    bad = np.argwhere(~np.isfinite(X))
    if len(bad):
        row, column = bad[0]
        raise DemoError(
            f"{len(bad)} entries are not finite, the first in row {row}, column "
            f"{column} (counted from 0): {X[row, column]}"
        )
    if np.all(X[0] == X):
        raise DemoError("all its rows are the same")
    return X, image_shape or _square(X.shape[1])


def _square(n_features):
    """Return the (height, width) of a square image, or None if it would be none."""
    side = math.isqrt(n_features)
    is_image = side >= MIN_IMAGE_SIDE and side * side == n_features
    return (side, side) if is_image else None


def check_labels(y, n_samples):
    """Return class labels as an array of shape (n_samples,), or None for None.

    Raises
    ------
    DemoError
        If these are not one class label a row, of two classes or more.
    """
    if y is None:
        return None
    y = np.asarray(y)
    if y.shape not in {(n_samples,), (n_samples, 1)}:
        raise DemoError(f"labels of shape {y.shape} for {n_samples} rows")
    y = y.ravel()
    with contextlib.suppress(ValueError):  # text that is not numbers is fine
        y = y.astype(np.float64)
    if y.dtype == np.float64 and not np.all(y == np.rint(y)):
        raise DemoError("the labels are not classes, but numbers with decimals or NaN")
    if len(np.unique(y)) < 2:
        raise DemoError("all labels are the same")
    return y
