"""The features that Displays draw of samples which are no images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skae._data.frames import frame_of
from skae._data.tables import Table
from skae._model.any_transformer import (
    TabularModel,
    check_can_reconstruct,
    dense_rows,
    inverse_transform,
    name_of,
    sliceable,
    tabular_model,
)
from skae._typing import Floats


class DecodedFeatures(NamedTuple):
    """Features of samples, and what a fitted transformer decodes for them.

    A column of numbers is a feature, and so is each level of a column of categories.
    """

    names: list[str]  # "age", "city=Rome"
    means: Floats  # (n_features,) over the samples
    deviations: Floats
    decode: Callable[[Floats], Floats]  # of codes
    value_range: tuple[float, float]  # lowest and highest value of the samples
    is_table: bool  # with categories


def decoded_features(estimator: Any, X: Any) -> DecodedFeatures:
    """Return the features of samples, in the order of X' columns."""
    X = sliceable(X)
    model = tabular_model(estimator, X)
    if model is not None:
        order = order_of_inputs(model.table)
        names = [model.table.input_names[i] for i in order]
        values = model.matrix(X)[:, order]

        def decode_inputs(codes: Floats) -> Floats:
            return model.decoded(codes)[:, order]

        return DecodedFeatures(
            names,
            *mean_and_deviation(values),
            decode_inputs,
            _range(values),
            is_table=True,
        )
    check_can_reconstruct(estimator)
    names = names_of_columns(X)
    values = dense_rows(X, allow_nan=True)

    def decode(codes: Floats) -> Floats:
        decoded = dense_rows(inverse_transform(estimator, codes), "the reconstruction")
        if decoded.shape[1] != values.shape[1]:
            raise ValueError(
                f"{name_of(estimator)} decodes {decoded.shape[1]} features, but X has "
                f"{values.shape[1]}; their numbers must be equal"
            )
        return decoded

    return DecodedFeatures(
        names, *mean_and_deviation(values), decode, _range(values), is_table=False
    )


def _range(values: Floats) -> tuple[float, float]:
    """Return the lowest and the highest observed value; 0 and 1 without any."""
    observed = values[~np.isnan(values)]
    return (observed.min(), observed.max()) if observed.size else (0.0, 1.0)


def mean_and_deviation(values: Floats) -> tuple[Floats, Floats]:
    """Return means and standard deviations over observed entries; 0 without any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # without observed entries
        mean, deviation = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    return np.nan_to_num(mean), np.nan_to_num(deviation)


def means_of_numbers(columns: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return means and deviations of columns, 0 and 0 of those of levels."""
    numbers = np.array(columns, dtype=object)
    for number, column in enumerate(columns.T):
        if is_text(column):
            numbers[:, number] = np.nan
    return mean_and_deviation(numbers.astype(np.float64))


def standardized(values: Floats, means: Floats, deviations: Floats) -> Floats:
    """Return values in standard deviations from the mean; constant ones as 0."""
    units: Floats = (values - means) / np.where(deviations > 0, deviations, np.inf)
    return units


def errors_in_deviations(squared_errors: Floats, X: Floats) -> Floats:
    """Return mean errors of samples, of features in units of their spread."""
    _, deviations = mean_and_deviation(X)
    units = np.where(deviations > 0, deviations, np.inf) ** 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # without observed entries
        means: Floats = np.nanmean(squared_errors / units, axis=1)
    return np.nan_to_num(means)


def names_of_columns(X: Any) -> list[str]:
    """Return the names of a table's columns; x0, x1, … for other data."""
    frame = frame_of(X)
    if frame is None or frame.names is None:
        return [f"x{column}" for column in range(X.shape[1])]
    return [str(name) for name in frame.names]


def check_feature_names(feature_names: Any, n_features: int) -> list[str]:
    """Return given names of features as text, or x0, x1, … for None."""
    if feature_names is None:
        return [f"x{column}" for column in range(n_features)]
    names = [str(name) for name in feature_names]
    if len(names) != n_features:
        raise ValueError(
            f"feature_names has {len(names)} names, but there are {n_features} "
            "features: pass a name for each"
        )
    return names


def columns_of_table(model: TabularModel, matrix: Floats) -> NDArray[np.object_]:
    """Return a table's matrix as numbers and, of each category, the likeliest level.

    Levels are text, and None where they are missing.
    """
    table = model.table
    columns = np.empty((len(matrix), len(table.dtypes)), dtype=object)
    columns[:, table.numbers] = matrix[:, : len(table.numbers)]
    start = len(table.numbers)
    for column, levels in zip(table.categories, table.levels, strict=True):
        outputs = matrix[:, start : start + levels.size]
        texts = np.array([str(levels.levels[i]) for i in levels.shown], dtype=object)
        columns[:, column] = texts[np.nan_to_num(outputs).argmax(axis=1)]
        columns[np.isnan(outputs[:, 0]), column] = None
        start += levels.size
    return columns


def is_text(column: Sequence[Any] | NDArray[Any]) -> bool:
    """Whether a column has levels of categories, not numbers."""
    return any(isinstance(value, str) for value in column)


def order_of_inputs(table: Table) -> list[int]:
    """Return the inputs of a table in the order of its columns."""
    n_of_columns = [1] * len(table.numbers) + table.groups
    starts = np.cumsum([0, *n_of_columns])
    return [
        int(starts[place]) + i
        for place in table.places
        for i in range(n_of_columns[place])
    ]
