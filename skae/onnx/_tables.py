"""Tables with categories: from their columns to the matrix that a network sees, back.

A model of a data frame has an input for each column, as skl2onnx has, and an output for
each. That of an array whose columns have one type has one of each.
"""

import decimal
import numbers
import re
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from skae._data.dtypes import Dtype
from skae._data.frames import range_of
from skae._data.tables import Levels, Table
from skae.onnx._graph import ML, Graph, Value, clip, dtype_of, select_columns

# Dtypes of columns whose entries NumPy has as such numbers; they may lack none, unless
# they are floats.
_OF_NUMPY = r"bool|u?int(8|16|32|64)|float(16|32|64)"
# Dtypes of whole numbers, in any library.
_WHOLE = r"(?:arrow:|Sparse:)?(u?int\d+)(?::.*)?"
# Text that is a missing value, unless it is a level: what ONNX Runtime makes of NaN,
# None and pandas.NA, and what stands for them where there is only text.
_MISSING_TEXTS = "", "nan", "None", "<NA>"
# In place of a level's input, as in tables.
MISSING, UNKNOWN = -1, -2


def table_values(graph: Graph, table: Table, name: str) -> list[Value]:
    """The inputs, named "X", or the outputs of a model, one for each column or for all.

    Inputs have the names of the columns, which outputs have after their own.
    """
    n_columns = len(table.dtypes)
    types = _types(graph, table)
    if _is_one(table, types):
        return [Value(graph.new_name(name), types[0], n_columns)]
    start = "" if name == "X" else f"{name}_"
    names = [f"{start}{table.name(column)}" for column in range(n_columns)]
    unique = [graph.new_name(name or f"x{i}") for i, name in enumerate(names)]
    return [Value(*pair, 1) for pair in zip(unique, types, strict=True)]


def _is_one(table: Table, types: list[int]) -> bool:
    """Whether all columns are one input: those of an array of one type."""
    return table.names is None and len(set(types)) == 1


def _types(graph: Graph, table: Table) -> list[int]:
    """Types of the columns, of `onnx.TensorProto`.

    Other numbers than NumPy's may be missing, which integers and booleans cannot be:
    they are floats, and so are categories that are such numbers. Of arrays of objects
    all are.
    """
    from onnx import TensorProto, helper

    types: list[int] = [graph.type] * len(table.dtypes)
    texts = [d.text if isinstance(d, Dtype) else "" for d in table.dtypes]
    is_array = table.library == "numpy" and len(set(texts)) == 1
    for column, text in enumerate(texts):
        is_own = is_array or table.library == "pandas"
        if is_own and re.fullmatch(_OF_NUMPY, text):
            types[column] = helper.np_dtype_to_tensor_dtype(np.dtype(text))
    for column, levels in zip(table.categories, table.levels, strict=True):
        if _are_text(table, column, levels):
            types[column] = TensorProto.STRING
        elif types[column] == graph.type:
            types[column] = TensorProto.DOUBLE
    return types


def _are_text(table: Table, column: int, levels: Levels) -> bool:
    """Whether categories are text, not numbers; ValueError if they are neither."""
    known = [level for level in levels.levels if level is not None]
    for kinds in (str | bytes, numbers.Real | decimal.Decimal | np.bool_):
        if all(isinstance(level, kinds) for level in known):
            return kinds == str | bytes
    found = ", ".join(sorted({type(level).__name__ for level in known}))
    raise ValueError(
        f"column {table.name(column)!r} has categories of the types {found}, and those "
        "of an ONNX model are all text or all numbers: convert them before fit"
    )


# ---------------------------------------------------------------------------
# From columns to the matrix
# ---------------------------------------------------------------------------


def matrix(
    graph: Graph, table: Table, given: Sequence[Value], codes: Sequence[str]
) -> str:
    """The matrix of columns, which are in inputs one after the other."""
    parts = [numbers_of(graph, table, given)] if len(table.numbers) else []
    parts.append(groups_of(graph, table.groups, codes))
    return graph.node("Concat", *parts, axis=1)


def groups_of(graph: Graph, sizes: Sequence[int], codes: Sequence[str]) -> str:
    """The inputs of groups, side by side; NaN for missing and for unknown levels."""
    pairs = zip(codes, sizes, strict=True)
    return graph.node("Concat", *(_group(graph, *pair) for pair in pairs), axis=1)


def codes_of(
    graph: Graph, table: Table, given: Sequence[Value], mark: Any = None
) -> list[str]:
    """Number of each category's input in its group, of shape (n_samples, 1).

    -1 is a missing value, for which `mark` stands, too, and -2 an unknown level.
    """
    codes, sources = [], sources_of(table, given)
    for column, levels in zip(table.categories, table.levels, strict=True):
        value, position = sources[column]
        is_text = _are_text(table, column, levels)
        _check_input(table, column, value, is_text=is_text)
        entries = select_columns(graph, value.name, np.array([position]), value.width)
        number_of = _number_of_text if is_text else _number_of_level
        codes.append(number_of(graph, levels, entries, mark))
    return codes


def sources_of(table: Table, given: Sequence[Value]) -> list[tuple[Value, int]]:
    """The input that has each column of a table, and its position therein."""
    n_columns, n_given = len(table.dtypes), sum(value.width for value in given)
    if n_given != n_columns:
        raise ValueError(
            f"the inputs have {n_given} columns, but the table of the fit has "
            f"{n_columns}: give each its type in initial_types, in their order"
        )
    return [(value, i) for value in given for i in range(value.width)]


def _check_input(table: Table, column: int, value: Value, *, is_text: bool) -> None:
    """Raise ValueError if the input for a column has another type."""
    from onnx import TensorProto

    if is_text != (value.type == TensorProto.STRING):
        kinds = ("text", "numbers") if is_text else ("numbers", "text")
        raise ValueError(
            f"column {table.name(column)!r} has {kinds[0]}, but its input has "
            f"{kinds[1]}: change its type in initial_types (skl2onnx merges columns in "
            "a ColumnTransformer, where they need to have one type)"
        )


def numbers_of(graph: Graph, table: Table, given: Sequence[Value]) -> str:
    """Columns of numbers, in the order of the matrix."""
    from onnx import TensorProto

    parts: list[Value] = []
    places, first = np.zeros(len(table.dtypes), dtype=np.int64), 0
    for value in given:
        stop = first + value.width
        if value.type != TensorProto.STRING:
            start = sum(part.width for part in parts)
            places[first:stop] = start + np.arange(value.width)
            parts.append(value)
        for column in set(range(first, stop)) & set(table.numbers.tolist()):
            _check_input(table, column, value, is_text=False)
        first = stop
    cast = [graph.node("Cast", value.name, to=graph.type) for value in parts]
    n_columns = sum(part.width for part in parts)
    both = graph.node("Concat", *cast, axis=1)
    return select_columns(graph, both, places[table.numbers], n_columns)


def _number_of_text(graph: Graph, levels: Levels, column: str, mark: Any) -> str:
    """Number of the input of each entry in the group, see `codes_of`."""
    codes = dict.fromkeys(_MISSING_TEXTS, MISSING)
    if levels.levels != [None]:
        codes |= zip(_texts(levels.levels), levels.inputs.tolist(), strict=True)
    if isinstance(mark, str):
        codes[mark] = MISSING
    return graph.node(
        "LabelEncoder",
        column,
        domain=ML,
        keys_strings=list(codes),
        values_int64s=list(codes.values()),
        default_int64=UNKNOWN,
    )


def _number_of_level(graph: Graph, levels: Levels, column: str, mark: Any) -> str:
    """The same for levels that are numbers, or booleans, which no mark stands for."""
    from onnx import TensorProto

    wide = graph.in_dtype(np.float64)
    column = wide.node("Cast", column, to=wide.type)
    known = wide.constant("levels", np.array(levels.levels, dtype=np.float64))
    # At most one is equal, whose number is the sum.
    of_levels = wide.constant("inputs", levels.inputs - float(UNKNOWN))
    is_level = wide.node("Equal", column, known)
    found = wide.node("Where", is_level, of_levels, 0.0)
    total = wide.node("ReduceSum", found, wide.integers(1))
    is_missing = wide.node("IsNaN", column)
    if is_number(mark) and not any(isinstance(v, bool) for v in levels.levels):
        is_mark = wide.node("Equal", column, float(mark))
        is_missing = wide.node("Or", is_missing, is_mark)
    number = wide.node("Add", total, float(UNKNOWN))
    number = wide.node("Where", is_missing, float(MISSING), number)
    return wide.node("Cast", number, to=TensorProto.INT64)


def is_number(mark: Any) -> bool:
    """Whether what stands for missing values is a number, beside NaN."""
    return mark is not None and not isinstance(mark, str)


def _texts(levels: list[Any]) -> list[str]:
    """Categories that are text or bytes; "" for what an empty column has."""
    return [
        "" if level is None else str(level, "utf-8") if type(level) is bytes else level
        for level in levels
    ]


def _group(graph: Graph, number: str, size: int) -> str:
    """The inputs of a group; NaN if the level is missing."""
    is_level = graph.node("Equal", number, graph.integers(*range(size)))
    inputs = graph.node("Cast", is_level, to=graph.type)
    is_missing = graph.node("Less", number, graph.integers(0))
    return graph.node("Where", is_missing, np.nan, inputs)


# ---------------------------------------------------------------------------
# From outputs of the network to columns
# ---------------------------------------------------------------------------


def positions_of_groups(n_numbers: int, sizes: Iterable[int]) -> list[np.ndarray]:
    """Numbers of the columns of the matrix that are in each group."""
    stops = accumulate(sizes, initial=n_numbers)
    return [np.arange(*span) for span in pairwise(stops)]


def restored(graph: Graph, table: Table, outputs: str) -> list[str]:
    """Columns of the table, or all of them in one, of what a network gives."""
    types, n_numbers = _types(graph, table), len(table.numbers)
    is_one, positions = _is_one(table, types), np.arange(n_numbers)
    of_groups = positions_of_groups(n_numbers, table.groups)
    of_numbers = [positions] if is_one else list(positions[:, np.newaxis])

    def entries(chosen: np.ndarray) -> str:
        return select_columns(graph, outputs, chosen, table.n_inputs)

    columns = [
        as_numbers(
            graph, entries(chosen), types[column], whole_dtype(table.dtypes[column])
        )
        for column, chosen in zip(table.numbers, of_numbers, strict=False)
    ]
    columns += [
        most_likely(graph, levels, types[column], entries(chosen))
        for column, levels, chosen in zip(
            table.categories, table.levels, of_groups, strict=True
        )
    ]
    if not is_one:
        return [columns[place] for place in table.places]
    both = graph.node("Concat", *columns, axis=1)
    return [select_columns(graph, both, table.places, len(table.dtypes))]


def whole_dtype(dtype: Any) -> np.dtype | None:
    """NumPy's dtype of the same integers; None for a dtype of other numbers."""
    text = dtype.text if isinstance(dtype, Dtype) else ""
    found = re.fullmatch(_WHOLE, text, re.IGNORECASE)
    return None if found is None else np.dtype(found[1].lower())


def as_numbers(graph: Graph, value: str, of_type: int, whole: np.dtype | None) -> str:
    """Columns of numbers of a type, rounded to those of a dtype of integers."""
    if whole is None:
        return graph.node("Cast", value, to=of_type)
    wide = graph.in_dtype(np.float64)
    value = wide.node("Round", wide.node("Cast", value, to=wide.type))
    return wide.node("Cast", clip(wide, value, *range_of(whole)), to=of_type)


def most_likely(graph: Graph, levels: Levels, of_type: int, likelihoods: str) -> str:
    """A column of the levels with the largest logits, or probabilities."""
    from onnx import TensorProto

    chosen = graph.node("ArgMax", likelihoods, axis=1)
    shown = [levels.levels[number] for number in levels.shown]
    if of_type == TensorProto.STRING:
        return graph.node("Gather", graph.texts("levels", _texts(shown)), chosen)
    narrow = graph.in_dtype(dtype_of(of_type))
    return narrow.node("Gather", narrow.constant("levels", np.array(shown)), chosen)
