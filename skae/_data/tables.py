"""Tables with categories, as matrices that networks see.

A column of numbers is a column of the matrix. A column of categories is a group of
them, one for each level, of which a sample has a one for its own level; in a group that
is missing, all are NaN. Columns are in an order that does not depend on theirs in the
table, numbers first, so that results do not depend on it either.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, compress
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.utils import assert_all_finite

from skae._data.dtypes import Dtype, described, dtype_of
from skae._data.frames import (
    CATEGORY,
    FRAMES,
    NUMBER,
    OTHER,
    ArrayFrame,
    Frame,
    is_missing,
)
from skae._runtime.user_warnings import warn
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
    dtypes: list[Any]  # descriptions, or dtypes of the library for which there is none
    numbers: np.ndarray  # columns of numbers, in the order of the matrix
    categories: np.ndarray  # columns of categories, in the order of the matrix
    levels: list[Levels]  # of `categories`

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "Table":
        """Make the table that a dict describes."""
        dtypes = [Dtype(*d) if isinstance(d, list) else d for d in state["dtypes"]]
        levels = [Levels(**of_column) for of_column in state["levels"]]
        return cls(**{**state, "dtypes": dtypes, "levels": levels})

    def as_dict(self) -> dict[str, Any]:
        """The table as a dict of plain containers, as pickles have it."""
        dtypes = [list(d) if isinstance(d, Dtype) else d for d in self.dtypes]
        levels = [of_column._asdict() for of_column in self.levels]
        return {**self._asdict(), "dtypes": dtypes, "levels": levels}

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
        return _name(self.names, column)

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

    def encode(self, frame: Frame, **how: Any) -> tuple[Matrix, bool]:
        """The matrix of a table with the same columns.

        Parameters
        ----------
        frame : Frame

        **how
            Passed to `columns`. The inputs of unknown levels that are marked are zeros.

        Returns
        -------
        matrix : CSR matrix of shape (n_samples, n_inputs)
            In float32 if all columns of numbers are.

        has_missing : bool
        """
        values, codes = self.columns(frame, **how)
        has_missing = any(np.isnan(of_column).any() for of_column in values)
        has_missing |= any((of_column == _MISSING).any() for of_column in codes)
        return _matrix(frame.n_rows, values, codes, self.groups), has_missing

    def columns(
        self,
        frame: Frame,
        *,
        handle_unknown: str = "warn",
        marks_unknown: bool = False,
        name: str = "X",
    ) -> tuple[list[Floats], list[np.ndarray]]:
        """Columns of numbers, and of inputs in the groups of categories.

        Parameters
        ----------
        frame : Frame

        handle_unknown : {"warn", "error", "ignore"}, default="warn"
            Whether a level that is not known is an error; else it is a missing value,
            with a warning unless they are ignored.

        marks_unknown : bool, default=False
            Whether a level that is not known is marked as such instead.

        name : str, default="X"
            Name of the table in errors.

        Returns
        -------
        values : list of ndarray of shape (n_samples,)
            NaN where numbers are missing.

        codes : list of ndarray of shape (n_samples,), dtype=int64
            -1 where categories are missing, -2 where levels are marked as unknown.
        """
        values = [self._numbers(frame, int(j), name) for j in self.numbers]
        with _reported(handle_unknown, name, marks_unknown=marks_unknown) as note:
            codes = [
                self._codes(frame, int(column), levels, note)
                for column, levels in zip(self.categories, self.levels, strict=True)
            ]
        if not marks_unknown:
            codes = [np.maximum(of_column, _MISSING) for of_column in codes]
        return values, codes

    def chosen(self, is_chosen: np.ndarray) -> "Table":
        """The table that has only some of the columns."""
        number = np.cumsum(is_chosen) - 1
        there = is_chosen[self.categories]
        names = self.names and list(compress(self.names, is_chosen))
        return self._replace(
            names=names,
            dtypes=list(compress(self.dtypes, is_chosen)),
            numbers=number[self.numbers[is_chosen[self.numbers]]],
            categories=number[self.categories[there]],
            levels=list(compress(self.levels, there)),
        )

    def _numbers(self, frame: Frame, column: int, name: str) -> Floats:
        """A column of numbers, checked."""
        hint = (
            ". Columns of categories are found by their dtype in fit, or all have to "
            "be listed in categorical_features"
        )
        with _named(self.name(column), f"{name}, one of numbers", hint):
            values = frame.numbers(column)
        with _named(self.name(column), name):
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

        Raises ImportError if the table's library is not installed.
        """
        dtypes = [dtype_of(self.library, dtype) for dtype in self.dtypes]
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
        return make(columns, self.names, dtypes)


def _name(names: list[Any] | None, column: int) -> str:
    """Name of a column of a table with these names."""
    return f"x{column}" if names is None else str(names[column])


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
def _named(column: str, name: str, hint: str = "") -> Iterator[None]:
    """Add the name of a column, and a hint, to an error of its values."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"column {column!r} of {name}: {error}{hint}") from error


@contextlib.contextmanager
def _reported(
    handle_unknown: str, name: str, *, marks_unknown: bool = False
) -> Iterator[Callable[[str, list[Any]], None]]:
    """Collect levels that are not known, and raise or warn of all of them."""
    found: dict[str, list[Any]] = {}
    yield found.__setitem__
    if not found or handle_unknown == "ignore":
        return
    listed = "; ".join(
        f"column {column!r}: {_shortened(levels)}" for column, levels in found.items()
    )
    meaning = "very rare ones" if marks_unknown else "missing values"
    if handle_unknown == "error":
        raise ValueError(
            f"{name} has categories that were not seen in fit, or are not in the "
            f"parameter categories: {listed}. With handle_unknown='warn' they are "
            f"{meaning}"
        )
    warn(
        f"{name} has categories that were not seen in fit, or are not in the parameter "
        f"categories, and are taken for {meaning}: {listed}"
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

    counts_declared : bool, default=False
        Whether levels that a column's dtype names are known if they do not occur.
    """

    def __init__(
        self,
        categorical_features: Any,
        categories: Any,
        max_categories: int | None,
        min_frequency: float | None,
        *,
        counts_declared: bool = False,
    ) -> None:
        self._categorical_features, self._categories = categorical_features, categories
        self._limits = max_categories, min_frequency
        self._counts_declared = counts_declared
        self._read: list[TableCounts] = []

    @classmethod
    def of(cls, estimator: Any, *, counts_declared: bool = False) -> "TableReader":
        """The reader that an estimator's parameters describe."""
        return cls(
            estimator.categorical_features,
            estimator.categories,
            estimator.max_categories,
            estimator.min_frequency,
            counts_declared=counts_declared,
        )

    def read(self, frame: Frame) -> None:
        """Count the levels of a table's columns."""
        self.add(TableCounts.of(frame, self._categorical_features))

    def add(self, counts: "TableCounts") -> None:
        """Add what was counted in a table, or a part of one."""
        if self._read:
            counts = self._read.pop().joined_with(counts)
        self._read.append(counts)

    @property
    def has_read(self) -> bool:
        """Whether a table was read."""
        return bool(self._read)

    @property
    def has_categories(self) -> bool:
        """Whether a column that was read is one of categories."""
        return self.has_read and CATEGORY in self._read[0].kinds

    def table(self) -> Table:
        """What was found out."""
        found = self._read[0]
        _check_names(found.names)
        is_category = np.array([kind == CATEGORY for kind in found.kinds], dtype=bool)
        numbers, columns = np.flatnonzero(~is_category), np.flatnonzero(is_category)
        numbers = np.array(sorted(numbers.tolist(), key=self._key), dtype=np.int64)
        columns = np.array(sorted(columns.tolist(), key=self._key), dtype=np.int64)
        given = _GivenCategories(self._categories, found.names, is_category)
        levels = [self._levels(found, given.of(int(j)), int(j)) for j in columns]
        dtypes = [described(found.library, dtype) for dtype in found.dtypes]
        return Table(found.library, found.names, dtypes, numbers, columns, levels)

    def report_unknown(self, table: Table, handle_unknown: str) -> None:
        """Warn of levels that were read but are not in the table, or raise an error."""
        counts = self._read[0].counts
        with _reported(handle_unknown, "X") as note:
            for column, levels in zip(table.categories, table.levels, strict=True):
                unknown = set(counts[column]).difference(levels.levels)
                if unknown:
                    note(table.name(column), _sorted(unknown))

    def _key(self, column: int) -> tuple[Any, ...]:
        """What a column is sorted by: its name, or else what is in it."""
        found = self._read[0]
        names = _sortable_names(found.names)
        if names is not None:
            return (names[column],)
        if found.kinds[column] == NUMBER:
            return tuple(found.sums[column])
        return tuple(sorted((str(k), n) for k, n in found.counts[column].items()))

    def _levels(
        self, found: "TableCounts", given: list[Any] | None, column: int
    ) -> Levels:
        counts: Mapping[Any, int] = found.counts[column]
        if given is None and self._counts_declared:
            given = [*found.declared[column], *counts]
        if given is not None:
            counts = {level: counts.get(level, 0) for level in given}
        if not counts:  # all are missing
            counts = {None: 0}
        return Levels.of(counts, found.n_rows, *self._limits)


class TableCounts(NamedTuple):
    """What the columns of a table are, and how often each level occurs."""

    library: str
    names: list[Any] | None
    dtypes: list[Any]
    kinds: list[str]
    declared: list[list[Any]]  # levels that dtypes name
    counts: list[Counter[Any]]  # of the levels of categories, and of objects
    sums: np.ndarray  # (n_columns, 2) of numbers and their squares, if need be
    has_numbers: list[bool]  # whether a column that is no category has an entry
    n_rows: int

    @classmethod
    def of(cls, frame: Frame, categorical_features: Any) -> "TableCounts":
        """Count the levels of a table's columns."""
        n_columns = len(frame.dtypes)
        own_kinds = [frame.kind(j) for j in range(n_columns)]  # objects are read
        is_category = categorical_columns(frame, own_kinds, categorical_features)
        _check_kinds(frame, own_kinds, is_category)
        others = [NUMBER if kind == CATEGORY else kind for kind in own_kinds]
        kinds = [CATEGORY if is_category[j] else others[j] for j in range(n_columns)]
        counts: list[Counter[Any]] = [Counter() for _ in kinds]
        sums = np.zeros((n_columns, 2))
        has_numbers = [False] * n_columns
        is_sorted_by_name = _sortable_names(frame.names) is not None
        for j, kind in enumerate(kinds):
            # Objects are categories if they are in a later block.
            if kind == CATEGORY or (kind == NUMBER and frame.holds_objects(j)):
                with _named(_name(frame.names, j), name="X"):
                    codes, levels = frame.levels(j)
                n_of_levels = np.bincount(codes[codes >= 0], minlength=len(levels))
                counts[j].update(dict(zip(levels, n_of_levels.tolist(), strict=True)))
            if own_kinds[j] != NUMBER or kind != NUMBER:
                continue
            with _named(_name(frame.names, j), name="X"):
                values = frame.numbers(j)
            has_numbers[j] = not np.isnan(values).all()
            if not is_sorted_by_name:
                values = values.astype(np.float64)
                with np.errstate(over="ignore", invalid="ignore"):
                    sums[j] = np.nansum(values), np.nansum(values**2)
        declared = [
            frame.declared(j) if kind == CATEGORY else []
            for j, kind in enumerate(kinds)
        ]
        library, names, dtypes = frame.library, frame.names, frame.dtypes
        found = declared, counts, sums, has_numbers
        return cls(library, names, dtypes, kinds, *found, frame.n_rows)

    def joined_with(self, other: "TableCounts") -> "TableCounts":
        """Counts of a table made of both, one after the other.

        Raises
        ------
        ValueError
            If they are tables of different libraries, or have different columns.
        """
        _expect_same("library", self.library, other.library)
        _expect_same("number of columns", len(self.dtypes), len(other.dtypes))
        _expect_same("columns", self.names, other.names)
        self._check_kinds_of(other)
        other._check_kinds_of(self)
        pairs = list(zip(self.kinds, other.kinds, strict=True))
        kinds = [max(pair, key=_CERTAINTY.index) for pair in pairs]
        dtypes = [
            self._common_dtype(*pair)
            for pair in zip(self.dtypes, other.dtypes, strict=True)
        ]
        declared = [
            list(dict.fromkeys([*one, *another]))
            for one, another in zip(self.declared, other.declared, strict=True)
        ]
        counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        return self._replace(
            dtypes=dtypes,
            kinds=kinds,
            declared=declared,
            counts=counts,
            sums=self.sums + other.sums,
            has_numbers=[
                a or b for a, b in zip(self.has_numbers, other.has_numbers, strict=True)
            ],
            n_rows=self.n_rows + other.n_rows,
        )

    def _check_kinds_of(self, other: "TableCounts") -> None:
        """Raise ValueError if a column has numbers here, and is of categories there."""
        for j, kind in enumerate(other.kinds):
            if self.has_numbers[j] and kind == CATEGORY:
                raise ValueError(
                    f"Column {_name(self.names, j)!r} has numbers in some of the "
                    f"tables that X consists of (dtype {self.dtypes[j]}), and text or "
                    f"booleans in others ({other.dtypes[j]}). Make it numbers in all, "
                    "with NaN for entries that are none; or name it in "
                    "categorical_features, and make it text in all"
                )

    def _common_dtype(self, one: Any, other: Any) -> Any:
        """The dtype of a column of two tables."""
        if one == other:
            return one
        dtype = FRAMES[self.library].common_dtype(one, other)
        if dtype is None:
            _expect_same("dtypes", one, other)
        return dtype


def _expect_same(what: str, one: Any, other: Any) -> None:
    """Raise ValueError if tables of the same data differ."""
    if one != other:
        raise ValueError(
            f"The tables that X consists of differ in their {what}: {one} and then "
            f"{other}. All have to be of one library, and have the same columns"
        )


# A column of objects is of the last of the kinds that its parts are.
_CERTAINTY = NUMBER, CATEGORY, OTHER


def may_have_categories(frame: Frame | None) -> bool:
    """Whether a table, or more of the same columns, has categories by their dtypes."""
    if frame is None:
        return False
    # Without objects, the kind of a column is that of its dtype; blocks of streams may
    # have many columns of a few dtypes.
    columns = {dtype: j for j, dtype in enumerate(frame.dtypes)}.values()
    return any(frame.holds_objects(j) or frame.kind(j) == CATEGORY for j in columns)


def _check_kinds(frame: Frame, kinds: list[str], is_category: np.ndarray) -> None:
    """Raise ValueError if columns are neither of numbers nor of categories.

    `kinds` are those of the columns by their dtypes, or by what they are. An array
    without categories is left to scikit-learn, which has errors of its own.
    """
    if isinstance(frame, ArrayFrame) and not is_category.any():
        return
    for j in np.flatnonzero(~is_category):
        if kinds[j] == OTHER:
            raise ValueError(
                f"Column {_name(frame.names, int(j))!r} of X has dtype "
                f"{frame.dtypes[j]}, and its entries are neither all numbers nor all "
                "text or booleans. Convert it to numbers, such as dates to days since "
                "the first; take it for categories, see categorical_features; or mark "
                "entries that are missing by NaN, None or pandas.NA"
            )


def _check_names(names: list[Any] | None) -> None:
    """Raise ValueError if columns have the same name."""
    twice = [name for name, n in Counter(names or []).items() if n > 1]
    if twice:
        raise ValueError(
            f"X has several columns with the name {twice[0]!r}: give each a name of "
            "its own"
        )


def _sortable_names(names: list[Any] | None) -> list[str] | None:
    """Names of columns if they are strings, else None."""
    if names is None or not all(isinstance(name, str) for name in names):
        return None
    return names


def categorical_columns(
    frame: Frame, kinds: list[str], categorical_features: Any
) -> np.ndarray:
    """Whether columns are categories, of shape (n_columns,).

    Parameters
    ----------
    frame : Frame

    kinds : list of str
        Kinds of the columns by their dtypes, or by what they are.

    categorical_features : "from_dtype", array-like or None

    Raises
    ------
    ValueError
        If `categorical_features` names columns that are not there.
    """
    n_columns = len(frame.dtypes)
    if categorical_features is None:
        return np.zeros(n_columns, dtype=bool)
    if isinstance(categorical_features, str):  # "from_dtype"
        return np.array([kind == CATEGORY for kind in kinds], dtype=bool)
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


class _GivenCategories:
    """Levels that the user gives for some columns.

    Raises ValueError if there is no such column of categories.
    """

    def __init__(
        self, categories: Any, names: list[Any] | None, is_category: np.ndarray
    ) -> None:
        n_columns = len(is_category)
        names = list(range(n_columns)) if names is None else names
        self._of_columns: list[Any] = [None] * n_columns
        if isinstance(categories, str):  # "auto"
            return
        if not isinstance(categories, Mapping):
            if len(categories) != n_columns:
                raise ValueError(
                    f"categories has {len(categories)} entries, but X has {n_columns} "
                    "columns: pass the levels of each, None for numbers, or a dict "
                    "with the levels of some"
                )
            categories = dict(enumerate(categories))
        chosen = [names[j] for j in np.flatnonzero(is_category)]
        for key, levels in categories.items():
            if levels is None:
                continue
            j = names.index(key) if key in names else key
            if not isinstance(j, int | np.integer) or not 0 <= j < n_columns:
                raise ValueError(f"categories: X has no column {key!r}")
            if not is_category[j]:
                raise ValueError(
                    f"categories has levels of column {key!r}, which is not one of "
                    f"categories: these are {chosen}. See categorical_features"
                )
            self._of_columns[int(j)] = _checked_levels(levels, key)

    def of(self, column: int) -> list[Any] | None:
        """Levels of a column; None for those that are found."""
        found: list[Any] | None = self._of_columns[column]
        return found


def _checked_levels(levels: Any, key: Any) -> list[Any]:
    """Levels that are given for a column, as a list of different ones."""
    found: list[Any] = []
    if isinstance(levels, Iterable) and not isinstance(levels, str | bytes | Mapping):
        found = [v for v in dict.fromkeys(levels) if not is_missing(v)]
    if not found:
        raise ValueError(
            f"categories[{key!r}]={levels!r} has to be levels, such as ['a', 'b']"
        )
    return found
