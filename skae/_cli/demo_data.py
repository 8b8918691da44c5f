"""The data of ``python -m skae``, read from a file and checked."""

import contextlib
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from skae._cli.csv_table import MAX_LEVELS, PANDAS_HINT, quoted, read_csv
from skae._cli.errors import DemoError
from skae._data.frames import CATEGORY, ArrayFrame
from skae._typing import Floats

# With fewer samples, held-out samples and folds say little.
MIN_ROWS = 20
# Images of fewer than 8 x 8 pixels show nothing.
MIN_IMAGE_SIDE = 8
# Of more the prediction would take long, and few samples each say little.
MAX_CLASSES = 100
MIN_OF_CLASS = 5  # samples of a class of text, on average


class Data(NamedTuple):
    """Samples to reduce."""

    name: str
    X: NDArray[Any]  # (n_samples, n_features), NaN or None where values are missing
    y: NDArray[Any] | None  # (n_samples,), the target: classes, or numbers
    image_shape: tuple[int, int] | None  # (height, width) if a sample is an image
    names: tuple[str, ...] = ()  # of the features; none of arrays
    categories: tuple[str, ...] = ()  # names of columns of text; then X has objects
    left_out: tuple[str, ...] = ()  # other columns of the file, and why
    n_without_target: int = 0  # rows of the file that are left out
    dates: tuple[str, ...] = ()  # names of columns of dates, in days since 1970
    lines: NDArray[np.intp] | None = None  # of the samples in a .csv file
    code: tuple[str, ...] = ()  # Python that reads X

    @property
    def is_table(self) -> bool:
        """Whether the samples come from a .csv file, whose columns count equally."""
        return self.lines is not None

    @property
    def has_report(self) -> bool:
        """Whether columns and rows are worth words: not those of images."""
        return bool(self.code) and self.image_shape is None

    @property
    def is_missing(self) -> NDArray[np.bool_]:
        """Which entries of X are missing."""
        if not self.categories:
            return np.asarray(np.isnan(self.X))
        rows = ([v is None or v != v for v in row] for row in self.X.tolist())
        return np.array(list(rows), dtype=bool)

    @property
    def table_parameters(self) -> dict[str, Any]:
        """Parameters of an autoencoder: the levels of all samples, and how many."""
        if not self.categories:
            return {}
        frame = ArrayFrame(self.X)
        levels = [
            frame.levels(j)[1] if frame.kind(j) == CATEGORY else None
            for j in range(self.X.shape[1])
        ]
        are_many = any(len(column) > MAX_LEVELS for column in levels if column)
        parameters: dict[str, Any] = {"categories": levels}
        return parameters | ({"max_categories": MAX_LEVELS} if are_many else {})


def load(
    path: Path | None,
    target: str | None = None,
    categories: Sequence[str] = (),
    dropped: Sequence[str] = (),
) -> Data:
    """Return the data of a file, or raise DemoError if they cannot be used.

    A path of None stands for scikit-learn's digits. `target` is the name or the number
    of the target's column in a .csv file, `categories` are those of columns of
    categories that look like numbers, and `dropped` those of columns to leave out.
    """
    name = "" if path is None else path.name.lower()
    is_csv = name.endswith((".csv", ".csv.gz"))
    if target is not None and not is_csv:
        raise DemoError(
            "--target names a column of a .csv file, --data FILE; a .npz has its "
            "labels in y"
        )
    if (categories or dropped) and not is_csv:
        option = "--categories" if categories else "--drop"
        raise DemoError(f"{option} names columns of a .csv file, --data FILE")
    if path is None:
        digits = load_digits()
        return Data("digits", digits.data, digits.target, (8, 8))
    if path.is_dir():
        raise DemoError(f"{path}: this is a folder; name a file")
    if not path.is_file():
        raise DemoError(f"{path}: there is no such file")
    if not is_csv and path.suffix.lower() not in (".npy", ".npz"):
        raise DemoError(
            f"{path}: not a .npy, .npz, .csv or .csv.gz file; {PANDAS_HINT}"
        )
    try:
        if is_csv:
            return _load_table(path, target, categories, dropped)
        X, y, code = _read_numpy(path)
        X, image_shape = _check_rows(X)
        return Data(
            path.name,
            X,
            _check_labels(y, len(X)),
            image_shape,
            names=tuple(map(str, range(X.shape[1]))),
            code=("import numpy as np", f"X = np.load({quoted(str(path))}){code}"),
        )
    except DemoError as error:
        raise DemoError(f"{path}: {error}") from None
    except OSError as error:
        raise DemoError(f"{path}: {error.strerror or error}") from None


def _load_table(path: Path, *columns: Any) -> Data:
    table = read_csv(path, *columns)
    X = table.X
    _check_n_rows(len(X))
    if X.shape[1] < 2:
        raise DemoError(
            "at least 2 columns with different values, separated by commas, semicolons "
            f"or tabs, are needed; there are: {', '.join(table.names) or 'none'}; left "
            f"out: {', '.join(table.left_out) or 'none'}"
        )
    return Data(
        path.name,
        X,
        _check_labels(table.y, len(X)),
        None,
        names=table.names,
        categories=table.categories,
        left_out=table.left_out,
        n_without_target=table.n_without_target,
        dates=table.dates,
        lines=table.lines,
        code=table.code,
    )


@contextlib.contextmanager
def _reading(problem: str) -> Iterator[None]:
    """Turn the errors of a reader into DemoError."""
    try:
        yield
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DemoError(f"{problem} ({error})") from None


def _read_numpy(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None, str]:
    """Return X and y of a .npy or .npz file, and code that takes X out of it.

    y is None if there are no labels.
    """
    with path.open("rb") as file:
        with _reading("not readable as NumPy's format"):
            arrays = np.load(file, allow_pickle=False)
        if isinstance(arrays, NpzFile) != (path.suffix.lower() == ".npz"):
            raise DemoError("not in the format that its name says")
        if isinstance(arrays, np.ndarray):
            return arrays, None, ""
        names = {name.lower(): name for name in arrays.files}
        for x, y in (("x", "y"), ("x_train", "y_train")):
            if x in names:
                labels = _member(arrays, names[y]) if y in names else None
                return _member(arrays, names[x]), labels, f"[{quoted(names[x])}]"
        raise DemoError(
            f"no array named X or X_train (there are: {', '.join(arrays.files)})"
        )


def _member(arrays: Any, name: str) -> NDArray[Any]:
    """Return one array of a .npz file."""
    with _reading(f"its array {name} is not readable"):
        array: NDArray[Any] = arrays[name]
    return array


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
    _check_n_rows(len(X))
    if X.shape[1] < 2:
        raise DemoError(f"{X.shape[1]} features are too few; at least 2 are needed")
    if X.dtype != np.float32:
        X = X.astype(np.float64)
    bad = np.argwhere(np.isinf(X))
    if len(bad):
        row, column = bad[0]
        raise DemoError(
            f"{len(bad)} entries are infinite, the first in row {row}, column "
            f"{column} (counted from 0): {X[row, column]}"
        )
    check_observed(np.isnan(X), tuple(map(str, range(X.shape[1]))))
    if np.all(X[0] == X):
        raise DemoError("all its rows are the same")
    side = math.isqrt(X.shape[1])
    if image_shape is None and side >= MIN_IMAGE_SIDE and side * side == X.shape[1]:
        image_shape = side, side
    return X, image_shape


def _check_n_rows(n_rows: int) -> None:
    if n_rows < MIN_ROWS:
        raise DemoError(f"{n_rows} rows are too few; at least {MIN_ROWS} are needed")


def check_observed(
    is_missing: NDArray[np.bool_], names: Sequence[str], where: str = ""
) -> None:
    """Raise DemoError if all entries of a feature are missing."""
    empty = np.flatnonzero(is_missing.all(axis=0))
    if len(empty):
        raise DemoError(f"column {names[empty[0]]} has no value{where}: leave it out")


def _check_labels(y: Any, n_samples: int) -> NDArray[Any] | None:
    """Return a target as an array of shape (n_samples,), or None for None.

    Classes are whole numbers or text, and not too many; other numbers are predicted.
    """
    if y is None:
        return None
    labels = np.asarray(y)
    if labels.shape not in {(n_samples,), (n_samples, 1)}:
        raise DemoError(f"labels of shape {labels.shape} for {n_samples} rows")
    labels = labels.ravel()
    with contextlib.suppress(ValueError):  # text is fine
        labels = labels.astype(np.float64)
    is_number = labels.dtype == np.float64
    if is_number and not np.all(np.isfinite(labels)):
        raise DemoError("some labels are NaN or infinite: leave these samples out")
    n_classes = len(np.unique(labels))
    if n_classes < 2:
        raise DemoError("all labels are the same: there is nothing to predict")
    largest = min(MAX_CLASSES, n_samples // MIN_OF_CLASS)
    if not is_number and n_classes > largest:
        raise DemoError(
            f"the labels are text with {n_classes} different values, too many for "
            f"classes (at most {largest}): choose another target, or none"
        )
    return labels
