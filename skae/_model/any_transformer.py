"""Reconstructions by any transformer, row by row, and scores of tables.

A transformer has a ``transform`` and an ``inverse_transform``, or is a Pipeline of such
steps and imputers. What one says of a table with categories, a `TabularModel` knows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse import issparse
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array

from skae._data.encoders import encoded_table, is_encoder
from skae._data.frames import CATEGORY, ArrayFrame, Frame, frame_of
from skae._data.rows import slices
from skae._data.squares import Squares
from skae._data.tables import Table
from skae._data.validation import check_weights, convertible
from skae._model.deviance import column_scales, deviance_residuals
from skae._model.groups import Groups, unit_weights
from skae._sklearn import _safe_indexing
from skae._typing import Floats

# Entries of a dense float64 chunk (32 MiB). Three or four arrays of this size are in
# memory at once, for any number of samples.
CHUNK_ENTRIES = 2**22
# The share of probabilities that is spread evenly over the levels: PCA may give none to
# a level, and a single sample with an infinite deviance would be all of the score.
_SPREAD = 1e-3
# Indices of rows, and their weights.
Chunk: TypeAlias = slice | NDArray[np.intp]
Chunks: TypeAlias = list[tuple[Chunk, Floats]]


# -- rows and their reconstructions ------------------------------------------------


def check_can_reconstruct(estimator: Any) -> None:
    """Raise TypeError, naming what is missing, if an estimator cannot reconstruct."""
    if isinstance(estimator, type):
        raise TypeError(
            f"{estimator.__name__} is a class, not a fitted estimator: pass what fit "
            "returns"
        )
    for method in ("transform", "inverse_transform"):
        if _has(estimator, method):
            continue
        lacking = [
            f"{name!r} ({name_of(step)})"
            for name, step in getattr(estimator, "steps", [])
            if step is not None and step != "passthrough" and not _has(step, method)
        ]
        because = f", because of its step {lacking[0]}" if lacking else ""
        raise TypeError(
            f"{name_of(estimator)} has no {method}{because}. A reconstruction needs "
            "transform and inverse_transform, as PCA, NMF, "
            "KernelPCA(fit_inverse_transform=True), AutoencoderTransformer or a "
            "Pipeline of such steps have."
        )


def is_imputer(step: object) -> bool:
    """Whether a step fills missing entries, without indicators beside them."""
    return getattr(step, "add_indicator", None) is False


def steps_of(estimator: Any) -> Iterator[Any]:
    """Yield the steps of a Pipeline, also of nested ones and in fitted searches."""
    while hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    if not isinstance(estimator, Pipeline):
        yield estimator
        return
    for _, step in estimator.steps:
        if step is not None and step != "passthrough":
            yield from steps_of(step)


def _has(estimator: Any, method: str) -> bool:
    """Whether an estimator has a method, except for the imputers of a Pipeline."""
    if hasattr(estimator, method):
        return True
    steps = list(steps_of(estimator))
    return any(map(is_imputer, steps)) and all(
        hasattr(step, method) or is_imputer(step) for step in steps
    )


def inverse_transform(estimator: Any, codes: Any) -> Any:
    """Return reconstructions of codes; what was imputed is not undone."""
    steps = list(steps_of(estimator))
    if not any(map(is_imputer, steps)):
        return estimator.inverse_transform(codes)
    for step in reversed(steps):
        if not is_imputer(step):
            codes = step.inverse_transform(codes)
    return codes


def name_of(estimator: object) -> str:
    return type(estimator).__name__


def sliceable(X: Any, name: str = "X") -> Any:
    """Return X in a type that can be cut into chunks; a dataframe stays one."""
    if issparse(X):
        X = X.tocsr()
    if isinstance(X, list | tuple) and frame_of(X) is not None:
        X = ArrayFrame(X).array
    if not hasattr(X, "shape"):
        return check_array(X, input_name=name, ensure_all_finite="allow-nan")
    if len(X.shape) != 2 or 0 in X.shape:
        check_array(X, accept_sparse=True, input_name=name)  # raises the usual message
    return X


def sparse_columns(X: Any) -> list[bool]:
    """Return which columns of a pandas DataFrame are sparse, else an empty list."""
    dtypes = getattr(X, "dtypes", ())
    return [type(dtype).__name__ == "SparseDtype" for dtype in dtypes]


def row_chunks(n_samples: int, n_features: int) -> Iterable[slice]:
    """Return slices of the rows, each small enough to be made dense."""
    return slices(n_samples, max(1, CHUNK_ENTRIES // max(1, n_features)))


def reconstruct(estimator: Any, rows: Any) -> tuple[Floats, Floats]:
    """Return rows and their reconstructions, both as dense float64 arrays.

    Missing entries of rows are NaN; their reconstructions may be, too.
    """
    values, what = dense_rows(rows, allow_nan=True), "the reconstruction"
    is_missing = np.isnan(values)
    reconstructed = inverse_transform(estimator, estimator.transform(rows))
    reconstructed = dense_rows(reconstructed, what, allow_nan=bool(is_missing.any()))
    if reconstructed.shape != values.shape:
        raise ValueError(
            f"{name_of(estimator)} reconstructs rows of shape {values.shape} as "
            f"{reconstructed.shape}; the shapes must be equal."
        )
    features = np.flatnonzero((np.isnan(reconstructed) & ~is_missing).any(axis=0))
    if len(features):
        raise ValueError(
            f"{name_of(estimator)} reconstructs feature {features[0]} of X as NaN "
            "where it is observed, as scalers do if it has no entry in the training "
            "data: leave features with few entries out"
        )
    return values, reconstructed


def dense_rows(
    rows: Any, name: str = "X", *, allow_nan: bool = False
) -> NDArray[np.float64]:
    """Return rows as a dense float64 array, checked to be numeric and finite.

    Missing entries are NaN if they are allowed.
    """
    if issparse(rows):
        rows = rows.toarray()
    elif any(sparse_columns(rows)):  # scikit-learn would make it sparse, or warn
        columns = [np.asarray(rows.iloc[:, i]) for i in range(rows.shape[1])]
        rows = np.column_stack(columns)
    checked: NDArray[np.float64] = check_array(
        convertible(rows),
        dtype=np.float64,
        ensure_min_samples=0,
        ensure_all_finite="allow-nan" if allow_nan else True,
        input_name=name,
    )
    return checked


def has_categories(X: Any) -> bool:
    """Whether X is a table with categories by its dtypes."""
    frame = frame_of(X)
    return frame is not None and any(
        frame.kind(column) == CATEGORY for column in range(len(frame.dtypes))
    )


def has_missing(X: Any) -> bool:
    """Whether entries of X, as `sliceable` returns it, are missing."""
    frame = frame_of(X)
    if frame is not None and has_categories(X):
        return any(_lacks_some(frame, column) for column in range(len(frame.dtypes)))
    chunks = (
        dense_rows(_safe_indexing(X, c), allow_nan=True) for c in row_chunks(*X.shape)
    )
    return any(np.isnan(chunk).any() for chunk in chunks)


def sparse_or_dense(X: Any, name: str) -> Any:
    """Return a CSR matrix or an array of numbers, checked to be finite."""
    if any(sparse_columns(X)):
        X = dense_rows(X, name)
    return check_array(X, accept_sparse="csr", input_name=name)


def weighted_chunks(X: Any, sample_weight: ArrayLike | None, n_features: int) -> Chunks:
    """Return indices of the rows with positive weights, and these, chunk by chunk."""
    n_samples = X.shape[0]
    if sample_weight is None:
        sample_weight = np.ones(n_samples)
    chunks: Chunks = []
    weights = check_weights(sample_weight, n_samples)
    for chunk in row_chunks(n_samples, n_features):
        weight = weights[chunk]
        used = np.flatnonzero(weight)
        if len(used) == len(weight):
            chunks.append((chunk, weight))
        elif len(used):
            chunks.append((chunk.start + used, weight[used]))
    return chunks


def weighted_mean(read: Callable[[Chunk], Floats], chunks: Chunks) -> Floats:
    """Return the weighted mean of rows, exactly the common row if all are equal.

    That of a feature is the mean of its observed entries; 0 if there are none.
    """
    # Relative to the first row with a weight, constant columns are exact zeros: no
    # rounding could be taken for variance.
    origin = _first_observed(map(read, (chunk for chunk, _ in chunks)))
    total_weight = sum(weight.sum() for _, weight in chunks)
    offset, observed = np.zeros_like(origin), np.zeros_like(origin)
    have_gaps = np.zeros(origin.shape, dtype=bool)
    for chunk, weight in chunks:
        with np.errstate(over="ignore"):
            deviations = read(chunk) - origin
        if np.isinf(deviations).any():
            raise ValueError(
                "X is too large for float64: differences of its rows are not finite. "
                "Divide X by a large number"
            )
        is_missing, share = np.isnan(deviations), weight / total_weight
        deviations[is_missing] = 0
        offset += share @ deviations
        observed += share @ ~is_missing
        have_gaps |= is_missing.any(axis=0)
    # Without gaps that is 1, except for rounding.
    return origin + offset / np.where(have_gaps & (observed > 0), observed, 1.0)


def _first_observed(chunks: Iterable[Floats]) -> Floats:
    """Return the first observed entry of each feature, 0 for those without one."""
    first: Floats | None = None
    for rows in chunks:
        found = rows[np.isnan(rows).argmin(axis=0), np.arange(rows.shape[1])]
        first = found if first is None else np.where(np.isnan(first), found, first)
        if not np.isnan(first).any():
            return first
    if first is None or np.isnan(first).all():
        raise ValueError("X has no observed entry: all are NaN, so there is no R²")
    return np.nan_to_num(first)


def share_of_variance(
    estimator: Any,
    X: Any,
    sample_weight: ArrayLike | None = None,
    *,
    standardized: bool = False,
) -> float:
    """Return R² of numbers, in their units or in those of their standard deviations.

    Means and standard deviations are those of X.
    """
    check_can_reconstruct(estimator)
    chunks = weighted_chunks(X, sample_weight, X.shape[1])

    def read(chunk: Chunk) -> Floats:
        return dense_rows(_safe_indexing(X, chunk), allow_nan=True)

    mean = weighted_mean(read, chunks)
    scale: Any = 1.0
    if standardized:
        spreads = _spreads(read, chunks, mean)
        scale = column_scales(spreads, Groups.of(len(spreads), ()))
    squares = Squares()
    for chunk, weight in chunks:
        values, reconstructed = reconstruct(estimator, _safe_indexing(X, chunk))
        with np.errstate(over="ignore"):
            errors, deviations = values - reconstructed, values - mean
        squares = squares.plus(_squares(errors / scale, deviations / scale, weight))
    return checked_share(squares.share, estimator)


def checked_share(share: float, estimator: Any) -> float:
    """Return a share; raise ValueError if it is not finite."""
    if not np.isfinite(share):
        raise ValueError(
            f"{name_of(estimator)} reconstructs X so badly that the squared error is "
            "not finite: there is no R²"
        )
    return share


# -- tables with categories --------------------------------------------------------


class TabularModel(NamedTuple):
    """A fitted transformer that reconstructs a table with categories."""

    estimator: Any
    autoencoder: Any  # its last step; None if that is no autoencoder of the table
    table: Table
    decoded: Callable[[Any], Floats]  # the table's matrix, of codes

    def inputs(self, rows: Any) -> Floats:
        """Reconstructions of the table's matrix."""
        return self.decoded(self.estimator.transform(rows))

    def matrix(self, X: Any) -> Floats:
        """The table's matrix; missing entries, and levels not known, are NaN."""
        matrix, _ = self.table.encode(_frame(X), handle_unknown="ignore")
        return np.asarray(sparse.csr_matrix(matrix).toarray(), dtype=np.float64)


class TableScores(NamedTuple):
    """How well a table is reconstructed."""

    r2: float  # by squared errors
    deviance: float
    accuracy: float  # share of the levels that are the most probable one; NaN if none


def tabular_model(estimator: Any, X: Any) -> TabularModel | None:
    """How an estimator reconstructs a table; None if there are numbers only.

    Raises ValueError if X has names that it does not reconstruct.
    """
    steps = list(steps_of(estimator))
    n_before = sum(1 for _ in itertools.takewhile(is_imputer, steps))
    step, rest = [*steps, None][n_before], steps[n_before + 1 :]
    table: Table | None = getattr(step, "_table", None)
    if table is not None and not rest:

        def decoded(codes: Any) -> Floats:
            codes = np.asarray(codes)
            return np.asarray(step._decoded_inputs(codes), dtype=np.float64)

        return TabularModel(estimator, step, table, decoded)
    if issparse(X):
        return None
    if is_encoder(step):
        for other in rest:
            if not is_imputer(other):
                check_can_reconstruct(other)
        encoded = encoded_table(step, X, _frame(X))

        def inverted(outputs: Any) -> Floats:
            for other in reversed(rest):
                if not is_imputer(other):
                    outputs = other.inverse_transform(outputs)
            outputs = dense_rows(outputs, "the reconstruction")
            return encoded.inputs(outputs, inverse_transform)

        return TabularModel(estimator, None, encoded.table, inverted)
    if table_frame := frame_of(X):
        _check_numbers(table_frame, estimator)
    return None


def _lacks_some(frame: Frame, column: int) -> bool:
    """Whether entries of a column are missing."""
    if frame.kind(column) == CATEGORY:
        return bool((frame.levels(column)[0] < 0).any())
    return bool(np.isnan(frame.numbers(column)).any())


def _frame(X: Any) -> Frame:
    return frame_of(X) or ArrayFrame(X)


def _check_numbers(frame: Frame, estimator: Any) -> None:
    """Raise ValueError if a table has categories that are no numbers."""
    for column, dtype in enumerate(frame.dtypes):
        if frame.kind(column) != CATEGORY:
            continue
        try:
            frame.numbers(column)
        except (TypeError, ValueError):
            name = column if frame.names is None else repr(frame.names[column])
            raise ValueError(
                f"Column {name} of X, of dtype {dtype}, is categories, and what "
                f"{name_of(estimator)} reconstructs of them is not defined. Pass an "
                "AutoencoderTransformer that was fitted to the table, or a Pipeline "
                "that begins with a ColumnTransformer which has a OneHotEncoder for "
                "them, with imputers before it at most"
            ) from None


def table_scores(
    model: TabularModel,
    X: Any,
    sample_weight: ArrayLike | None = None,
    *,
    standardized: bool = False,
) -> TableScores:
    """Return scores of a model of tables, around the means and frequencies of X.

    Numbers are in their units, or in those of their standard deviations: always so
    beside categories.
    """
    table = model.table
    groups = Groups.of(len(table.numbers), table.groups)
    chunks = weighted_chunks(X, sample_weight, table.n_inputs)

    def read(chunk: Chunk) -> Floats:
        return model.matrix(_safe_indexing(X, chunk))

    mean = weighted_mean(read, chunks)
    scale: Any = 1.0
    if groups.n_groups or standardized:
        scale = column_scales(_spreads(read, chunks, mean), groups)
    weights = unit_weights(mean, groups, None)
    even = _SPREAD / np.repeat(table.groups, table.groups)
    squares, deviances = Squares(), Squares()
    n_right = n_levels = 0.0
    for chunk, weight in chunks:
        targets, predicted = read(chunk), model.inputs(_safe_indexing(X, chunk))
        logits = predicted.copy()
        likely = (1 - _SPREAD) * predicted[:, groups.n_plain :] + even
        logits[:, groups.n_plain :] = np.log(likely)
        lost, total = (targets - predicted) / scale, (targets - mean) / scale
        squares = squares.plus(_squares(lost, total, weight))
        lost, total = deviance_residuals(targets, logits, groups, mean, scale, weights)
        deviances = deviances.plus(_squares(lost, total, weight))
        for first, stop in itertools.pairwise(groups.groups.tolist()):
            levels = targets[:, first:stop]
            is_right = levels.argmax(axis=1) == predicted[:, first:stop].argmax(axis=1)
            counted = weight * ~np.isnan(levels[:, 0])
            n_levels += counted.sum()
            n_right += (counted * is_right).sum()
    return TableScores(
        checked_share(squares.share, model.estimator),
        checked_share(deviances.share, model.estimator),
        n_right / n_levels if n_levels else np.nan,
    )


def _squares(errors: Floats, deviations: Floats, weights: Floats) -> Squares:
    """Return sums of squares; those of missing entries are zeros."""
    is_missing = np.isnan(errors)
    errors[is_missing] = deviations[is_missing] = 0
    return Squares.of(errors, deviations, weights)


def _spreads(read: Callable[[Chunk], Floats], chunks: Chunks, mean: Floats) -> Floats:
    """Return the weighted standard deviations of the columns that are read."""
    total, observed = np.zeros_like(mean), np.zeros_like(mean)
    for chunk, weight in chunks:
        deviations = read(chunk) - mean
        there = ~np.isnan(deviations)
        total += np.einsum("i,ij->j", weight, np.nan_to_num(deviations) ** 2)
        observed += np.einsum("i,ij->j", weight, there.astype(np.float64))
    return np.sqrt(total / np.where(observed > 0, observed, 1.0))


def has_missing_of(model: TabularModel, X: Any) -> bool:
    """Whether entries of a table are missing."""
    return model.table.encode(_frame(X), handle_unknown="ignore")[1]
