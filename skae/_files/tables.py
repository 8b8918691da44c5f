"""How files hold the way in which tables with categories become matrices."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from skae._data.dtypes import Dtype
from skae._data.frames import FRAMES
from skae._data.tables import Levels, Table
from skae._files.container import Arrays, Description, Kind, require, shown
from skae._files.parts import (
    ANY,
    Expected,
    arrays_of_values,
    expected_values,
    is_count,
    values_of_arrays,
)

# Names of arrays: the columns of numbers, then those of categories; of columns, their
# names, the texts of their dtypes, the levels that dtypes have; of columns of
# categories, their levels, and what `Levels` has of each.
_COLUMNS, _NAMES = "table.columns", "table.names"
_DTYPES, _OF_DTYPES = "table.dtypes", "table.dtypes.levels"
_LEVELS = "table.levels"
_INPUTS, _SHOWN = f"{_LEVELS}.inputs", f"{_LEVELS}.shown"
_SIZES = "sizes"  # ends the name of an array: how many levels each column has


def described(state: Mapping[str, Any]) -> tuple[Description, Arrays]:
    """Description and arrays of a table, which is a dict as pickles have it."""
    table = Table.from_dict(dict(state))
    for column, dtype in enumerate(table.dtypes):
        if not isinstance(dtype, Dtype):
            raise TypeError(
                f"skae.io.save cannot write the dtype {dtype!r} of column "
                f"{table.name(column)!r}: files hold dtypes of numbers and of text, "
                "and categories that are text, numbers or booleans. Convert the column "
                "before fit"
            )
    levels = [of_column.levels for of_column in table.levels]
    arrays = {
        _COLUMNS: np.concatenate([table.numbers, table.categories]),
        **arrays_of_values([dtype.text for dtype in table.dtypes], _DTYPES),
        **_arrays_of_lists([dtype.levels or [] for dtype in table.dtypes], _OF_DTYPES),
        **_arrays_of_lists(levels, _LEVELS),
        _INPUTS: np.concatenate([of_column.inputs for of_column in table.levels]),
        _SHOWN: np.concatenate([of_column.shown for of_column in table.levels]),
    }
    if table.names is not None:
        arrays |= arrays_of_values(table.names, _NAMES)
    return {"library": table.library}, arrays


def are_groups(groups: Any) -> bool:
    """Whether a JSON value may be the sizes of groups of inputs."""
    return (
        type(groups) is list
        and len(groups) > 0
        and all(is_count(size, 1) for size in groups)
    )


def n_features_of(architecture: Mapping[str, Any]) -> int:
    """Number of features of a network: the inputs of a group are one."""
    groups, n_inputs = architecture.get("groups", []), architecture["widths"][0]
    return int(n_inputs - sum(groups) + len(groups))


def expected(
    fitted: Description, kinds: dict[str, Kind], n_columns: int, groups: list[int]
) -> dict[str, Expected]:
    """Types and shapes of the arrays of a table that has such groups of inputs."""
    library = fitted["library"]
    require(library in FRAMES, f"the library of its table is {shown(library)}")
    needed: dict[str, Expected] = {
        _COLUMNS: ("int64", (n_columns,)),
        **expected_values(n_columns, _DTYPES),
        **_expected_lists(kinds, n_columns, _OF_DTYPES),
        **_expected_lists(kinds, len(groups), _LEVELS),
        _SHOWN: ("int64", (sum(groups),)),
    }
    needed[_INPUTS] = "int64", needed[f"{_LEVELS}.lengths"][1]
    names = expected_values(n_columns, _NAMES)
    return needed | names if names.keys() & kinds.keys() else needed


def table_of(fitted: Description, arrays: Arrays, groups: list[int]) -> dict[str, Any]:
    """The table as a dict, as pickles have it; InvalidFile if it is inconsistent."""
    library, columns = fitted["library"], arrays[_COLUMNS]
    n_columns, n_groups = len(columns), len(groups)
    require(
        (np.sort(columns) == np.arange(n_columns)).all(),
        "the columns of its table are not those of a fit",
    )
    levels = _lists_of_arrays(arrays, _LEVELS)
    ends = np.cumsum([len(of_column) for of_column in levels])[:-1]
    inputs, stops = np.split(arrays[_INPUTS], ends), np.cumsum(groups)[:-1]
    parts = zip(levels, inputs, np.split(arrays[_SHOWN], stops), strict=True)
    names = values_of_arrays(arrays, _NAMES) if f"{_NAMES}.text" in arrays else None
    has_text = library == "pandas" or all(type(name) is str for name in names or ())
    require(
        has_text and (names is None) == (library == "numpy"),
        "the names of its columns are not those of a table",
    )
    return Table(
        library,
        names,
        _dtypes(library, arrays),
        columns[: n_columns - n_groups],
        columns[n_columns - n_groups :],
        [_checked(Levels(*part)) for part in parts],
    ).as_dict()


def _dtypes(library: str, arrays: Arrays) -> list[Dtype]:
    texts = values_of_arrays(arrays, _DTYPES)
    lists = _lists_of_arrays(arrays, _OF_DTYPES)
    found = []
    for text, levels in zip(texts, lists, strict=True):
        require(type(text) is str, "a dtype of its table is no text")
        dtype = Dtype(text)
        if not dtype.is_of(library):
            dtype = Dtype(text, levels)
        is_whole = dtype.is_of(library) and (dtype.levels is not None or not levels)
        require(is_whole, f"a dtype of its table is {shown(text)}")
        found.append(dtype)
    return found


def _checked(levels: Levels) -> Levels:
    """Levels of a column, of which every input stands for some."""
    n_levels, size = len(levels.levels), levels.size
    is_fine = len({level for level in levels.levels if level == level}) == n_levels
    for numbers, n in ((levels.inputs, size), (levels.shown, n_levels)):
        is_fine &= bool((numbers >= 0).all() and (numbers < n).all())
    require(
        is_fine and (levels.inputs[levels.shown] == np.arange(size)).all(),
        "the categories of its table are not those of a fit",
    )
    return levels


# ---------------------------------------------------------------------------
# Lists of values, one for each column
# ---------------------------------------------------------------------------


def _arrays_of_lists(lists: list[list[Any]], of: str) -> Arrays:
    sizes = np.array([len(values) for values in lists], dtype=np.int64)
    together = [value for values in lists for value in values]
    return {f"{of}.{_SIZES}": sizes, **arrays_of_values(together, of)}


def _expected_lists(kinds: dict[str, Kind], n: int, of: str) -> dict[str, Expected]:
    _, n_values = kinds.get(f"{of}.lengths", ("", (0,)))
    n_of_values = n_values[0] if n_values else ANY
    return {f"{of}.{_SIZES}": ("int64", (n,)), **expected_values(n_of_values, of)}


def _lists_of_arrays(arrays: Arrays, of: str) -> list[list[Any]]:
    sizes, values = arrays[f"{of}.{_SIZES}"], values_of_arrays(arrays, of)
    is_fine = (sizes >= 0).all() and (sizes <= len(values)).all()
    require(
        is_fine and sizes.sum() == len(values),
        "the categories of its table have wrong lengths",
    )
    ends = np.cumsum(sizes).tolist()
    return [values[end - n : end] for end, n in zip(ends, sizes.tolist(), strict=True)]
