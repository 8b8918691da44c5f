"""The imputer.

That of a table with categories has outputs like its inputs: one for each column, or one
for all. What stands for missing levels are probabilities, as in `skae._data.mixed`.
"""

import numbers
from collections.abc import Sequence
from itertools import compress
from typing import Any, cast

import numpy as np

from skae import AutoencoderImputer
from skae._data.gaussian import Gaussian
from skae._data.mixed import LEAST_REST, LEAST_SHARE
from skae._data.tables import Table
from skae._imputer import LARGEST_DEVIATION
from skae.onnx._graph import Graph, Value, clip, dtype_of, select_columns
from skae.onnx._network import code_of, decode_codes, fill_missing, scale_rows
from skae.onnx._tables import (
    MISSING,
    as_numbers,
    codes_of,
    groups_of,
    is_number,
    most_likely,
    numbers_of,
    positions_of_groups,
    sources_of,
    whole_dtype,
)


def impute(
    graph: Graph, imputer: AutoencoderImputer, given: Sequence[Value]
) -> list[str]:
    """Imputed samples and indicators, as `transform` gives them."""
    if imputer.sample_posterior:
        raise ValueError(
            "an imputer with sample_posterior=True cannot be converted, because the "
            "model would draw random numbers: convert "
            "imputer.set_params(sample_posterior=False), which predicts values"
        )
    if imputer._table is not None:
        return _imputed_columns(graph, imputer, given)
    (only,) = given
    rows, missing = only.name, imputer.missing_values
    if isinstance(missing, numbers.Real) and not np.isnan(float(missing)):
        is_missing = graph.node("Equal", rows, float(missing))
        rows = graph.node("Where", is_missing, np.nan, rows)
    kept = np.flatnonzero(imputer._is_kept)
    part = select_columns(graph, rows, kept, imputer.n_features_in_)
    value = rows if imputer.keep_empty_features else part
    if len(kept):
        predicted = _predicted(graph, imputer, part)
        if imputer.keep_empty_features and len(kept) < imputer.n_features_in_:
            # Zeros between them; products with 0 and 1 are exact.
            places = np.eye(imputer.n_features_in_)[kept]
            predicted = graph.node(
                "MatMul", predicted, graph.constant("places", places)
            )
        value = graph.node("Where", graph.node("IsNaN", value), predicted, value)
    elif imputer.keep_empty_features:
        value = graph.node("Where", graph.node("IsNaN", value), 0.0, value)
    if imputer.indicator_ is None:
        return [value]
    features = imputer.indicator_.features_
    lacking = select_columns(graph, rows, features, imputer.n_features_in_)
    lacking = graph.node("Cast", graph.node("IsNaN", lacking), to=graph.type)
    return [graph.node("Concat", value, lacking, axis=1)]


def _predicted(graph: Graph, imputer: AutoencoderImputer, rows: str) -> str:
    """Samples with the features that are kept, with predictions of missing entries."""
    wide = graph.in_dtype(np.float64)
    is_missing = graph.node("IsNaN", rows)
    value = _standardized(wide, imputer, wide.node("Cast", rows, to=wide.type))
    value = fill_missing(wide, value, is_missing, Gaussian(**imputer._gaussian))
    network = imputer.estimator_
    if network is not None and imputer.weight_.any():
        weight = wide.constant("imputer_weight", imputer.weight_)
        value = _corrected(wide, value, _restored(wide, network, value), weight)
    largest = float(np.finfo(graph.dtype).max)
    value = clip(wide, _in_units(wide, imputer, value), -largest, largest)
    return wide.node("Cast", value, to=graph.type)


def _standardized(wide: Graph, imputer: AutoencoderImputer, rows: str) -> str:
    """Numbers in units of their spreads; missing entries may have any value."""
    mean = wide.constant("imputer_mean", imputer.mean_[imputer._kept_numbers])
    spread = wide.constant("imputer_spread", imputer._spread)
    value = wide.node("Div", wide.node("Sub", rows, mean), spread)
    return clip(wide, value, -LARGEST_DEVIATION, LARGEST_DEVIATION)


def _restored(wide: Graph, network: Any, rows: str) -> str:
    """What a network, which computes in float32, makes of standardized rows."""
    narrow = wide.in_dtype(network._params.dtype)
    seen = scale_rows(narrow, network, narrow.node("Cast", rows, to=narrow.type))
    restored = decode_codes(narrow, network, code_of(narrow, network, seen))
    return wide.node("Cast", restored, to=wide.type)


def _corrected(wide: Graph, rows: str, restored: str, weight: str) -> str:
    """Rows that are changed by a share of what the network changes."""
    change = wide.node("Sub", restored, rows)
    return wide.node("Add", rows, wide.node("Mul", weight, change))


def _in_units(wide: Graph, imputer: AutoencoderImputer, rows: str) -> str:
    """Standardized numbers in the units of the samples."""
    mean = wide.constant("imputer_mean", imputer.mean_[imputer._kept_numbers])
    spread = wide.constant("imputer_spread", imputer._spread)
    value = wide.node("Add", wide.node("Mul", rows, spread), mean)
    lowest = wide.constant("imputer_lowest", imputer._lowest)
    return clip(wide, value, lowest, wide.constant("imputer_highest", imputer._highest))


# ---------------------------------------------------------------------------
# Tables with categories
# ---------------------------------------------------------------------------


def imputed_values(imputer: AutoencoderImputer, given: Sequence[Value]) -> list[Value]:
    """Outputs for inputs that have the columns of a table: columns, then indicators.

    They have the names of the features, or none if one has all columns.
    """
    from onnx import TensorProto

    table, features = cast(Table, imputer._table), imputer._features_out()
    sources, names = sources_of(table, given), imputer.get_feature_names_out()
    columns = [Value(table.name(j), sources[j][0].type, 1) for j in features]
    marks = [Value(name, TensorProto.BOOL, 1) for name in names[len(features) :]]
    if not columns and not marks:
        raise ValueError(
            "an imputer of features that were all missing in fit gives no columns, "
            "which no ONNX model does: set keep_empty_features=True"
        )
    if columns and _is_one(table, given):
        columns = [Value("", given[0].type, len(columns))]
    return [*columns, *marks]


def _is_one(table: Table, given: Sequence[Value]) -> bool:
    """Whether one output has all columns: those of an array of one type."""
    return table.names is None and len(given) == 1


def _imputed_columns(
    graph: Graph, imputer: AutoencoderImputer, given: Sequence[Value]
) -> list[str]:
    """What `imputed_values` are."""
    table, columns = cast(Table, imputer._table), _Columns(graph, imputer, given)
    found = [columns.filled(j) for j in imputer._features_out().tolist()]
    if found and _is_one(table, given):
        found = [graph.node("Concat", *found, axis=1)]
    if imputer.indicator_ is not None:
        found += map(columns.is_missing, imputer.indicator_.features_.tolist())
    return found


class _Columns:
    """The columns of a table in a graph, and what is predicted of them.

    Parameters
    ----------
    graph : Graph

    imputer : AutoencoderImputer

    given : sequence of Value
        Inputs that have the columns, one after the other.
    """

    def __init__(
        self, graph: Graph, imputer: AutoencoderImputer, given: Sequence[Value]
    ) -> None:
        self._graph = graph = graph.in_dtype(np.float64)
        self._imputer, self._table = imputer, cast(Table, imputer._table)
        self._sources = sources_of(self._table, given)
        self._codes = codes_of(graph, self._table, given, imputer._mark)
        if len(self._table.numbers):
            self._numbers = numbers_of(graph, self._table, given)
            self._lacks_number = self._missing_numbers()
        mixed = imputer._mixed
        if n_inputs := len(mixed.unit):
            self._rows = _predicted_rows(graph, imputer, self._standardized_rows())
            plain = np.arange(mixed.n_plain)
            numbers = select_columns(graph, self._rows, plain, n_inputs)
            self._in_units = _in_units(graph, imputer, numbers)

    def filled(self, column: int) -> str:
        """A column without missing values."""
        graph, (value, at) = self._graph, self._sources[column]
        entries = select_columns(graph, value.name, np.array([at]), value.width)
        predicted = self._prediction(column, value.type)
        if predicted is None:
            return entries
        return _where(graph, self.is_missing(column), predicted, entries, value.type)

    def is_missing(self, column: int) -> str:
        """Whether entries of a column are missing."""
        numbers, categories = self._table.numbers, self._table.categories
        if column in numbers:
            at = np.flatnonzero(numbers == column)
            return select_columns(self._graph, self._lacks_number, at, len(numbers))
        code = self._codes[np.flatnonzero(categories == column)[0]]
        return self._graph.node("Equal", code, self._graph.integers(MISSING))

    def _missing_numbers(self) -> str:
        """Whether numbers are missing, for all columns of them."""
        graph, mark = self._graph, self._imputer._mark
        lacks = graph.node("IsNaN", self._numbers)
        if not is_number(mark):
            return lacks
        # As precise as the column.
        types = [dtype_of(self._sources[j][0].type) for j in self._table.numbers]
        marks = [
            np.result_type(of_column, np.float32).type(mark) for of_column in types
        ]
        row = graph.constant("marks", np.array(marks, dtype=np.float64))
        return graph.node("Or", lacks, graph.node("Equal", self._numbers, row))

    def _standardized_rows(self) -> str:
        """What is kept, as the distribution and the network see it, with NaN."""
        graph, imputer, parts = self._graph, self._imputer, []
        if imputer._mixed.n_plain:
            at = np.flatnonzero(imputer._has_values[self._table.numbers])
            numbers, lacks = (
                select_columns(graph, columns, at, len(self._table.numbers))
                for columns in (self._numbers, self._lacks_number)
            )
            numbers = _standardized(graph, imputer, numbers)
            parts.append(graph.node("Where", lacks, np.nan, numbers))
        if len(imputer._mixed.sizes):
            is_kept = imputer._has_values[self._table.categories]
            codes = [*compress(self._codes, is_kept)]
            parts.append(groups_of(graph, imputer._kept_table.groups, codes))
        return graph.node("Concat", *parts, axis=1)

    def _prediction(self, column: int, of_type: int) -> str | None:
        """Values of a column for missing entries; None if these stay as they are."""
        graph, imputer, dtype = self._graph, self._imputer, dtype_of(of_type)
        lacks_none = dtype.kind in "iu" and not is_number(imputer._mark)
        if dtype.kind == "b" or lacks_none:
            return None
        is_plain = column in self._table.numbers
        if not imputer._has_values[column]:
            if not is_plain:
                return None
            return graph.in_dtype(dtype).constant("zero", np.zeros(1))
        kept = imputer._kept_table
        position = np.count_nonzero(imputer._has_values[:column])
        if is_plain:
            at = np.flatnonzero(kept.numbers == position)
            value = select_columns(graph, self._in_units, at, len(kept.numbers))
            if dtype.kind == "f":
                largest = float(np.finfo(dtype).max)
                value = clip(graph, value, -largest, largest)
            return as_numbers(graph, value, of_type, self._whole(column, dtype))
        group = np.flatnonzero(kept.categories == position)[0]
        places = positions_of_groups(len(kept.numbers), kept.groups)[group]
        chances = select_columns(graph, self._rows, places, len(imputer._mixed.unit))
        return most_likely(graph, kept.levels[group], of_type, chances)

    def _whole(self, column: int, dtype: np.dtype) -> np.dtype | None:
        """Dtype of the integers that predictions are rounded to, if they are."""
        if dtype.kind in "iu":
            return dtype
        # Objects of an array have no dtype of their own.
        is_array = self._table.library == "numpy"
        return None if is_array else whole_dtype(self._table.dtypes[column])


def _where(graph: Graph, condition: str, one: str, other: str, of_type: int) -> str:
    """Entries of one value or another, of types that runtimes may not choose among."""
    from onnx import TensorProto

    dtype = dtype_of(of_type)
    if dtype.kind not in "iu" and dtype != np.float16:
        return graph.node("Where", condition, one, other)
    wide = TensorProto.DOUBLE if dtype.kind == "f" else TensorProto.INT64
    one, other = (graph.node("Cast", value, to=wide) for value in (one, other))
    chosen = graph.node("Where", condition, one, other)
    return graph.node("Cast", chosen, to=of_type)


def _predicted_rows(graph: Graph, imputer: AutoencoderImputer, rows: str) -> str:
    """Rows with predictions of missing entries; observed ones may change, too."""
    mixed, network = imputer._mixed, imputer.estimator_
    rows = graph.node(
        "Where", graph.node("IsNaN", rows), _expected(graph, imputer, rows), rows
    )
    if network is None or not imputer.weight_.any():
        return rows
    restored, n_inputs = _restored(graph, network, rows), len(mixed.unit)
    plain, groups = (
        np.arange(mixed.n_plain),
        positions_of_groups(mixed.n_plain, mixed.sizes),
    )
    parts = [select_columns(graph, restored, plain, n_inputs)] if len(plain) else []
    for places in groups:
        logits = select_columns(graph, restored, places, n_inputs)
        parts.append(graph.node("Softmax", logits, axis=1))
    of_columns = imputer._kept_table.of_inputs(imputer.weight_)
    weight = graph.constant("imputer_weight", mixed.spread(of_columns[np.newaxis]))
    return _corrected(graph, rows, graph.node("Concat", *parts, axis=1), weight)


def _expected(graph: Graph, imputer: AutoencoderImputer, rows: str) -> str:
    """What the distribution expects of rows: `MixedExpectation`."""
    mixed, gaussian = imputer._mixed, Gaussian(**imputer._gaussian)
    n_inputs, chosen = len(mixed.unit), mixed.described
    if not len(chosen):  # all columns have a single level
        return graph.constant("ones", np.ones((1, n_inputs)))
    frequencies = graph.constant("frequencies", mixed.frequencies[chosen])
    unit = graph.constant("unit", mixed.unit[chosen])
    seen = select_columns(graph, rows, chosen, n_inputs)
    seen = graph.node("Div", graph.node("Sub", seen, frequencies), unit)
    seen = fill_missing(graph, seen, graph.node("IsNaN", seen), gaussian)
    known = graph.node("Add", graph.node("Mul", seen, unit), frequencies)
    if not len(mixed.sizes):
        return known
    # Products with ones and zeros: to where inputs are, and sums over groups.
    group_of = np.repeat(np.arange(len(mixed.sizes)), mixed.sizes)
    in_group = np.zeros((n_inputs, len(mixed.sizes)))
    in_group[mixed.n_plain + np.arange(len(group_of)), group_of] = 1
    rest = np.where(np.isin(np.arange(n_inputs), chosen), 0, mixed.frequencies)
    of_groups = rest @ in_group
    shares = (rest[:, np.newaxis] * in_group / np.where(of_groups > 0, of_groups, 1)).T
    told = graph.node("MatMul", known, graph.constant("told", in_group[chosen]))
    left = graph.node("Max", graph.node("Sub", 1.0, told), LEAST_REST)
    left = graph.node("MatMul", left, graph.constant("shares", shares))
    places = graph.constant("places", np.eye(n_inputs)[chosen])
    found = graph.node("Add", graph.node("MatMul", known, places), left)
    least = np.where(in_group.any(axis=1), LEAST_SHARE * mixed.frequencies, -np.inf)
    found = graph.node("Max", found, graph.constant("least", least))
    sums = graph.node("MatMul", found, graph.constant("in_group", in_group))
    sums = graph.node("MatMul", sums, graph.constant("of_group", in_group.T))
    sums = graph.node("Add", sums, graph.constant("plain", 1 - in_group.sum(axis=1)))
    return graph.node("Div", found, sums)
