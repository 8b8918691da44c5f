"""Tables that scikit-learn's encoders make matrices of, and what these say of tables.

The matrix of a `Table` has a column for each number, then one for each level. A matrix
by a ColumnTransformer, with a OneHotEncoder for the categories, has much the same; here
reconstructions of the one become reconstructions of the other.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from skae._data.frames import CATEGORY, Frame, is_missing
from skae._data.tables import Levels, Table
from skae._sklearn import _get_column_indices
from skae._typing import Floats

# Inverts what a transformer makes of some columns.
Inverse = Callable[[Any, Floats], Any]


class _Group(NamedTuple):
    """The outputs of a OneHotEncoder for a column."""

    column: int  # of the table
    levels: Levels
    dropped: int | None  # the input that has no output
    is_known: np.ndarray  # (n_inputs,) False for the input of missing values
    start: int  # of its outputs among those of the encoder

    @property
    def n_outputs(self) -> int:
        """Number of the encoder's outputs."""
        return len(self.is_known) - (self.dropped is not None)

    def probabilities(self, outputs: Floats) -> Floats:
        """Probabilities of the levels, from reconstructed outputs of the encoder."""
        found = outputs[:, self.start : self.start + self.n_outputs]
        if self.dropped is not None:
            rest = 1 - found.sum(axis=1)
            found = np.insert(found, self.dropped, rest, axis=1)
        return shares_of_positive(found[:, self.is_known])


def shares_of_positive(found: Floats) -> Floats:
    """Probabilities of levels, from reconstructions of their ones and zeros.

    Negative ones are zeros, and the sum is 1; without any positive, all are equal.
    """
    positive = np.maximum(found, 0.0)
    sums = positive.sum(axis=1, keepdims=True)
    equal = np.full_like(positive, 1 / found.shape[1])
    shares: Floats = np.divide(positive, sums, out=equal, where=sums > 0)
    return shares


class EncodedTable(NamedTuple):
    """How a fitted encoder makes a matrix of a table."""

    table: Table
    numbers: list[tuple[Any, Any]]  # transformers, and their outputs
    groups: list[_Group]

    def inputs(self, outputs: Floats, inverse: Inverse) -> Floats:
        """The table's matrix, from a reconstruction of the encoder's outputs."""
        parts = [
            np.asarray(inverse(transformer, outputs[:, where]))
            for transformer, where in self.numbers
        ]
        return np.hstack([*parts, *(g.probabilities(outputs) for g in self.groups)])


def is_encoder(step: object) -> bool:
    """Whether a fitted step of a Pipeline makes matrices of tables, by columns."""
    is_one = isinstance(step, ColumnTransformer | OneHotEncoder)
    return is_one and (hasattr(step, "transformers_") or hasattr(step, "categories_"))


def encoded_table(encoder: Any, X: Any, frame: Frame) -> EncodedTable:
    """How a fitted encoder makes a matrix of a table like X, which is `frame`, too.

    Raises ValueError if the matrix does not tell all columns.
    """
    chosen: list[int] = []
    numbers: list[tuple[Any, Any]] = []
    groups: list[_Group] = []
    numeric: list[int] = []
    for transformer, columns, where in _parts(encoder, X, len(frame.dtypes)):
        last = transformer
        while isinstance(last, Pipeline):
            last = last.steps[-1][1]
        chosen += columns
        if isinstance(last, OneHotEncoder):
            groups += _groups(last, columns, where.start)
            continue
        for column in columns:
            if frame.kind(column) == CATEGORY:
                raise ValueError(
                    f"Column {_shown(frame, column)} of X is categories, of which "
                    f"{type(last).__name__} gives no probabilities: use OneHotEncoder"
                )
        numbers.append((transformer, where))
        numeric += columns
    lost = sorted(set(range(len(frame.dtypes))) - set(chosen))
    if lost or len(set(chosen)) < len(chosen):
        how = (
            f"drops column {_shown(frame, lost[0])} of X"
            if lost
            else "has columns twice"
        )
        raise ValueError(
            f"{type(encoder).__name__} {how}: a reconstruction needs each column once"
        )
    table = Table(
        frame.library,
        frame.names,
        frame.dtypes,
        np.array(numeric, dtype=np.int64),
        np.array([group.column for group in groups], dtype=np.int64),
        [group.levels for group in groups],
    )
    return EncodedTable(table, numbers, groups)


def _shown(frame: Frame, column: int) -> str:
    return str(column) if frame.names is None else repr(frame.names[column])


def _parts(
    encoder: Any, X: Any, n_columns: int
) -> Iterator[tuple[Any, list[int], slice]]:
    """Transformers, columns that they take, and their outputs."""
    if isinstance(encoder, OneHotEncoder):
        yield encoder, list(range(n_columns)), slice(0, None)
        return
    for name, transformer, columns in encoder.transformers_:
        if isinstance(transformer, str) and transformer == "drop":
            continue
        indices = list(_get_column_indices(X, columns))
        if indices:
            yield transformer, indices, encoder.output_indices_[name]


def _groups(encoder: OneHotEncoder, columns: list[int], start: int) -> Iterator[_Group]:
    """The outputs of a OneHotEncoder, column by column."""
    infrequent = getattr(encoder, "infrequent_categories_", None)
    for number, column in enumerate(columns):
        levels = encoder.categories_[number].tolist()
        is_rare = np.zeros(len(levels), dtype=bool)
        if infrequent is not None and infrequent[number] is not None:
            is_rare = np.isin(levels, infrequent[number].tolist())
        inputs = np.cumsum(~is_rare) - 1
        inputs[is_rare] = np.count_nonzero(~is_rare)
        dropped = None
        if encoder.drop_idx_ is not None and encoder.drop_idx_[number] is not None:
            dropped = int(inputs[encoder.drop_idx_[number]])
        lacks = np.array([is_missing(level) for level in levels])
        is_known = np.zeros(inputs.max() + 1, dtype=bool)
        is_known[inputs[~lacks]] = True
        renumbered = (np.cumsum(is_known) - 1)[inputs[~lacks]]
        kept = [level for level in levels if not is_missing(level)]
        shown = np.array([(renumbered == i).argmax() for i in range(is_known.sum())])
        group = _Group(
            column, Levels(kept, renumbered, shown), dropped, is_known, start
        )
        yield group
        start += group.n_outputs
