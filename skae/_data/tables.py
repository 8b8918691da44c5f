"""Tables with categories, as matrices that networks see.

A column of numbers is a column of the matrix. A column of categories is a group of
them, one for each level, of which a sample has a one for its own level; in a group that
is missing, all are NaN. Columns are in an order that does not depend on theirs in the
table, numbers first, so that results do not depend on it either.
"""

import contextlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, cast

import numpy as np
from scipy import sparse
from sklearn.utils import assert_all_finite

from skae._data.frames import CATEGORY, FRAMES, NUMBER, OTHER, Frame
from skae._typing import Floats, Matrix

# In place of a level's input: for missing values, and for levels that are not known.
_MISSING, _UNKNOWN = -1, -2


class Levels(NamedTuple):
    """Levels of a column of categories, and the inputs of a network that they are."""

    levels: list[Any]  # sorted
    inputs: np.ndarray  # (n_levels,) int64, number of each level's input in the group
    shown: np.ndarray  # (n_inputs,) int64, the level that an input is decoded to

    @classmethod
    def of(
        cls,
        counts: Mapping[Any, int],
        n_samples: int,
        max_categories: int | None,
        min_frequency: float | None,
    ) -> "Levels":
        """Levels with these counts; infrequent ones share an input, the last.

        The rule is that of :class:`~sklearn.preprocessing.OneHotEncoder`.
        """
        levels = _sorted(counts)
        n_of_levels = np.array([counts[level] for level in levels], dtype=np.int64)
        is_rare = np.zeros(len(levels), dtype=bool)
        if min_frequency is not None:
            share = 1 if min_frequency >= 1 else n_samples
            is_rare = n_of_levels < min_frequency * share
        n_inputs = len(levels) - is_rare.sum() + is_rare.any()
        if max_categories is not None and n_inputs > max_categories:
            order = np.argsort(-n_of_levels, kind="stable")
            is_rare[order[max_categories - 1 :]] = True
        inputs = np.cumsum(~is_rare) - 1
        inputs[is_rare] = np.count_nonzero(~is_rare)
        shown = np.flatnonzero(~is_rare)
        if is_rare.any():
            most_frequent = np.where(is_rare, n_of_levels, -1).argmax()
            shown = np.append(shown, most_frequent)
        return cls(levels, inputs, shown)

    @property
    def size(self) -> int:
        """Number of inputs."""
        return len(self.shown)


def _sorted(levels: Iterable[Any]) -> list[Any]:
    """Levels in an order that does not depend on the one they come in."""
    try:
        return sorted(levels)
    except TypeError:  # of several types
        return sorted(levels, key=lambda level: (type(level).__name__, str(level)))


class Table(NamedTuple):
    """How a table with categories becomes a matrix, and back."""

    library: str  # a key of FRAMES
    names: list[Any] | None
    dtypes: list[Any]
    numbers: np.ndarray  # columns of numbers, in the order of the matrix
    categories: np.ndarray  # columns of categories, in the order of the matrix
    levels: list[Levels]  # of `categories`

    @property
    def groups(self) -> list[int]:
        """Sizes of the groups of inputs."""
        return [levels.size for levels in self.levels]

    @property
    def n_inputs(self) -> int:
        """Number of columns of the matrix."""
        return len(self.numbers) + sum(self.groups)

    @property
    def places(self) -> np.ndarray:
        """Position of each of the table's columns among numbers and groups."""
        return np.argsort(np.concatenate([self.numbers, self.categories]))

    def of_inputs(self, of_columns: np.ndarray) -> np.ndarray:
        """Entries for columns, in the order of numbers and groups."""
        order = np.concatenate([self.numbers, self.categories])
        found: np.ndarray = of_columns[order]
        return found

    @property
    def categories_of_columns(self) -> list[Any]:
        """Levels of each column as an array; None for numbers."""
        found: list[Any] = [None] * len(self.dtypes)
        for column, levels in zip(self.categories, self.levels, strict=True):
            found[column] = _as_array(levels.levels)
        return found

    def name(self, column: int) -> str:
        """Name of a column."""
        return f"x{column}" if self.names is None else str(self.names[column])

    @property
    def input_names(self) -> list[str]:
        """Names of the columns of the matrix: "age", "city=Rome"."""
        names = [self.name(column) for column in self.numbers]
        for column, of_column in zip(self.categories, self.levels, strict=True):
            for number, shown in enumerate(of_column.shown):
                n_levels = np.count_nonzero(of_column.inputs == number)
                level = of_column.levels[shown] if n_levels == 1 else "infrequent"
                names.append(f"{self.name(column)}={level}")
        return names

    def encode(
        self,
        frame: Frame,
        *,
        raises: bool = False,
        marks_unknown: bool = False,
        name: str = "X",
    ) -> tuple[Matrix, bool]:
        """The matrix of a table with the same columns.

        Parameters
        ----------
        frame : Frame

        raises : bool, default=False
            Whether a level that is not known is an error; else it is a missing value,
            with a warning.

        marks_unknown : bool, default=False
            Whether the inputs of a level that is not known are zeros instead.

        name : str, default="X"
            Name of the table in errors.

        Returns
        -------
        matrix : CSR matrix of shape (n_samples, n_inputs)
            In float32 if all columns of numbers are.

        has_missing : bool
        """
        values = [self._numbers(frame, int(j), name) for j in self.numbers]
        with _warning_once(raises, marks_unknown, name) as note:
            codes = [
                self._codes(frame, int(column), levels, note)
                for column, levels in zip(self.categories, self.levels, strict=True)
            ]
        if not marks_unknown:
            codes = [np.maximum(of_column, _MISSING) for of_column in codes]
        has_missing = any(np.isnan(of_column).any() for of_column in values)
        has_missing |= any((of_column == _MISSING).any() for of_column in codes)
        return _matrix(frame.n_rows, values, codes, self.groups), has_missing

    def _numbers(self, frame: Frame, column: int, name: str) -> Floats:
        """A column of numbers, checked."""
        with _named(self.name(column), name):
            values = frame.numbers(column)
            assert_all_finite(values, allow_nan=True, input_name=name)
        return values

    def _codes(
        self,
        frame: Frame,
        column: int,
        levels: Levels,
        note: Callable[[str, list[Any]], None],
    ) -> np.ndarray:
        """Inputs of a column of categories, or `_MISSING` or `_UNKNOWN`."""
        with _named(self.name(column), name="X"):
            codes, found = frame.levels(column)
        known = {level: levels.inputs[i] for i, level in enumerate(levels.levels)}
        unknown = [level for level in found if level not in known]
        if unknown:
            note(self.name(column), _sorted(unknown))
        of_found = [known.get(level, _UNKNOWN) for level in found]
        inputs = np.array([*of_found, _MISSING], dtype=np.int64)  # the last is for -1
        coded: np.ndarray = inputs[codes]
        return coded

    def decode(self, outputs: Floats) -> Any:
        """A table of what a network gives for the columns of the matrix.

        The level of a group is that with the largest output.
        """
        columns: list[Any] = [None] * len(self.dtypes)
        for position, column in enumerate(self.numbers):
            columns[column] = outputs[:, position]
        stops = list(accumulate(self.groups, initial=len(self.numbers)))
        for column, levels, start, stop in zip(
            self.categories, self.levels, stops[:-1], stops[1:], strict=True
        ):
            chosen = levels.shown[outputs[:, start:stop].argmax(axis=1)]
            columns[column] = _as_array(levels.levels)[chosen]
        make = FRAMES[self.library].make
        return make(columns, self.names, self.dtypes)


class EncodedTable(NamedTuple):
    """A table as a matrix: what estimators of tables fit their networks to."""

    matrix: Matrix  # (n_samples, table.n_inputs)
    has_missing: bool
    table: Table


def _as_array(levels: list[Any]) -> np.ndarray:
    """Levels as an array of objects."""
    array = np.empty(len(levels), dtype=object)
    array[:] = levels
    return array


@contextlib.contextmanager
def _named(column: str, name: str) -> Iterator[None]:
    """Add the name of a column to an error of its values."""
    try:
        yield
    except (TypeError, ValueError) as error:
        message = f"column {column!r} of {name}: {error}"
        raise type(error)(message) from error


@contextlib.contextmanager
def _warning_once(
    raises: bool, marks_unknown: bool, name: str
) -> Iterator[Callable[[str, list[Any]], None]]:
    """Collect levels that are not known, and raise or warn of all of them."""
    found: dict[str, list[Any]] = {}
    yield found.__setitem__
    if not found:
        return
    listed = "; ".join(
        f"column {column!r}: {_shortened(levels)}" for column, levels in found.items()
    )
    meaning = "very rare ones" if marks_unknown else "missing values"
    if raises:
        raise ValueError(
            f"{name} has categories that were not seen in fit: {listed}. With "
            f"handle_unknown='warn' they are {meaning}"
        )
    warnings.warn(
        f"{name} has categories that were not seen in fit, and are taken for "
        f"{meaning}: {listed}",
        UserWarning,
        stacklevel=2,
    )


_MOST_SHOWN = 5


def _shortened(levels: Sequence[Any]) -> str:
    shown = ", ".join(map(repr, levels[:_MOST_SHOWN]))
    rest = len(levels) - _MOST_SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown


def _matrix(
    n_rows: int, values: list[Floats], codes: list[np.ndarray], groups: list[int]
) -> Matrix:
    """CSR matrix of columns of numbers, and of groups of which codes are known."""
    is_single = bool(values) and all(column.dtype == np.float32 for column in values)
    dtype = np.float32 if is_single else np.float64
    n_entries = np.full(n_rows, len(values) + len(codes), dtype=np.int64)
    for column, size in zip(codes, groups, strict=True):
        n_entries[column == _MISSING] += size - 1
        n_entries[column == _UNKNOWN] -= 1
    starts = np.append(0, np.cumsum(n_entries))
    data = np.ones(starts[-1], dtype=dtype)
    indices = np.empty(starts[-1], dtype=np.int32)
    at, first = starts[:-1].copy(), len(values)
    for number, column in enumerate(values):
        data[at], indices[at] = column, number
        at += 1
    for column, size in zip(codes, groups, strict=True):
        there, lacking = (column >= 0).nonzero()[0], (column == _MISSING).nonzero()[0]
        indices[at[there]] = first + column[there]
        entries = at[lacking, np.newaxis] + np.arange(size)
        data[entries], indices[entries] = np.nan, first + np.arange(size)
        at[there] += 1
        at[lacking] += size
        first += size
    return sparse.csr_matrix((data, indices, starts), shape=(n_rows, first))


# ---------------------------------------------------------------------------
# Which columns are categories, and their levels
# ---------------------------------------------------------------------------


class TableReader:
    """Finds out how tables become matrices, from one or several with equal columns.

    Parameters
    ----------
    categorical_features : "from_dtype", array-like or None
        Which columns are categories: names, numbers, or a mask.

    categories : "auto", mapping or sequence
        Levels of columns, by name or position; "auto": those that are found.

    max_categories : int or None

    min_frequency : int, float or None
    """

    def __init__(
        self,
        categorical_features: Any,
        categories: Any,
        max_categories: int | None,
        min_frequency: float | None,
    ) -> None:
        self._categorical_features, self._categories = categorical_features, categories
        self._limits = max_categories, min_frequency
        self._first: Frame | None = None
        self._n_rows = 0

    def read(self, frame: Frame) -> None:
        """Count the levels of a table's columns."""
        if self._first is None:
            self._first = frame
            self._is_category = categorical_columns(frame, self._categorical_features)
            self._counts: list[Counter[Any]] = [Counter() for _ in frame.dtypes]
            self._sums = np.zeros((len(frame.dtypes), 2))
        self._n_rows += frame.n_rows
        for j in np.flatnonzero(self._is_category):
            codes, levels = frame.levels(int(j))
            n_of_levels = np.bincount(codes[codes >= 0], minlength=len(levels))
            self._counts[j].update(dict(zip(levels, n_of_levels.tolist(), strict=True)))
        if _sortable_names(frame.names) is None:
            for j in np.flatnonzero(~self._is_category):
                if frame.kind(int(j)) == NUMBER:
                    values = frame.numbers(int(j)).astype(np.float64)
                    with np.errstate(over="ignore", invalid="ignore"):
                        self._sums[j] += np.nansum(values), np.nansum(values**2)

    @property
    def has_categories(self) -> bool:
        """Whether a column that was read is one of categories."""
        return self._first is not None and bool(self._is_category.any())

    def table(self) -> Table:
        """What was found out."""
        frame = cast(Frame, self._first)
        numbers = np.flatnonzero(~self._is_category)
        for j in numbers:
            if frame.kind(int(j)) == OTHER:
                name = j if frame.names is None else repr(frame.names[j])
                raise ValueError(
                    f"Column {name} of X has dtype {frame.dtypes[j]}, which is neither "
                    "numbers nor categories: convert it to numbers, or make it "
                    "categorical"
                )
        columns = np.flatnonzero(self._is_category)
        numbers = np.array(sorted(numbers.tolist(), key=self._key), dtype=np.int64)
        columns = np.array(sorted(columns.tolist(), key=self._key), dtype=np.int64)
        levels = [self._levels(frame, int(j)) for j in columns]
        names, dtypes = frame.names, frame.dtypes
        return Table(frame.library, names, dtypes, numbers, columns, levels)

    def _key(self, column: int) -> tuple[Any, ...]:
        """What a column is sorted by: its name, or else what is in it."""
        names = _sortable_names(cast(Frame, self._first).names)
        if names is not None:
            return (names[column],)
        counts = self._counts[column].items()
        return (*self._sums[column], sorted((str(k), n) for k, n in counts))

    def _levels(self, frame: Frame, column: int) -> Levels:
        counts: Mapping[Any, int] = self._counts[column]
        given = _given_categories(self._categories, frame, column)
        if given is not None:
            counts = {level: counts.get(level, 0) for level in given}
        if not counts:  # all are missing
            counts = {None: 0}
        return Levels.of(counts, self._n_rows, *self._limits)


def _sortable_names(names: list[Any] | None) -> list[str] | None:
    """Names of columns if they are different strings, else None."""
    if names is None or len({*map(str, names)}) < len(names):
        return None
    return names if all(isinstance(name, str) for name in names) else None


def categorical_columns(frame: Frame, categorical_features: Any) -> np.ndarray:
    """Whether columns are categories, of shape (n_columns,).

    Raises
    ------
    ValueError
        If `categorical_features` names columns that are not there.
    """
    n_columns = len(frame.dtypes)
    if categorical_features is None:
        return np.zeros(n_columns, dtype=bool)
    if isinstance(categorical_features, str):  # "from_dtype"
        kinds = [frame.kind(j) for j in range(n_columns)]
        return np.array([kind == CATEGORY for kind in kinds])
    given = np.asarray(categorical_features)
    wrong = f"categorical_features={categorical_features!r}"
    if given.dtype.kind == "b":
        if given.shape != (n_columns,):
            raise ValueError(
                f"{wrong} is a mask of shape {given.shape}, but X has {n_columns} "
                "columns: pass one entry for each"
            )
        return given
    is_category = np.zeros(n_columns, dtype=bool)
    if given.dtype.kind in "iu":
        if given.ndim != 1 or (given.size and not _are_columns(given, n_columns)):
            raise ValueError(
                f"{wrong} has to be numbers of columns, from 0 to {n_columns - 1}"
            )
        is_category[given] = True
        return is_category
    if given.size == 0:
        return is_category
    names = [] if frame.names is None else list(frame.names)
    for name in given.tolist():
        if name not in names:
            there = "X has no names" if not names else f"the columns are {names}"
            raise ValueError(f"{wrong}: there is no column {name!r}; {there}")
        is_category[names.index(name)] = True
    return is_category


def _are_columns(numbers: np.ndarray, n_columns: int) -> bool:
    return bool(numbers.min() >= 0 and numbers.max() < n_columns)


def _given_categories(categories: Any, frame: Frame, column: int) -> list[Any] | None:
    """Levels that the user gives for a column; None for those that are found."""
    if isinstance(categories, str):  # "auto"
        return None
    given: Any = None
    if isinstance(categories, Mapping):
        name = column if frame.names is None else frame.names[column]
        given = categories.get(name)
    else:
        if len(categories) != len(frame.dtypes):
            raise ValueError(
                f"categories has {len(categories)} entries, but X has "
                f"{len(frame.dtypes)} columns: pass the levels of each, None for "
                "numbers, or a dict with the levels of some"
            )
        given = categories[column]
    return None if given is None else list(dict.fromkeys(given))
