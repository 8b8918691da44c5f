"""The outlier detector.

Values of samples have the shape (n_samples, 1), as those that skl2onnx makes. Each
model, and each distribution, has a graph of its own, whose constants are its own.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np

from skae import AutoencoderOutlierDetector
from skae._compiled.code_terms import HIGHEST_PLAIN, LOWEST_PLAIN, ROOM
from skae._compiled.losses import LOSSES
from skae._data.standardization import FARTHEST, Standardization
from skae._model.distance import Distance
from skae._outliers.score import N_DRAWS, Deviances, OutlierScore
from skae.onnx._activations import exponential, log1p
from skae.onnx._graph import Graph, Value, clip, select_columns
from skae.onnx._network import (
    code_of,
    decode_codes,
    encode_rows,
    fill_missing,
    output_of,
    scale_rows,
)
from skae.onnx._tables import (
    MISSING,
    UNKNOWN,
    codes_of,
    matrix,
    positions_of_groups,
)

# What skl2onnx calls outputs of outlier detectors.
LABEL, DECISION, SCORES = "label", "scores", "score_samples"


class _Marks(NamedTuple):
    """Which categories of samples, of shape (n_samples, n_groups), are no levels."""

    is_missing: str
    is_unknown: str


class _Rows(NamedTuple):
    """Samples as a matrix, in which the inputs of what is no level are NaN."""

    matrix: str
    marks: _Marks | None = None  # None if there are no categories


def detect(
    graph: Graph, detector: AutoencoderOutlierDetector, given: Sequence[Value]
) -> list[str]:
    """Label, decision function and score of samples."""
    from onnx import TensorProto

    wide = graph.in_dtype(np.float64)
    rows = _rows(wide, detector, given)
    of_models = [_outlier_score(wide, model, rows) for model in detector._models]
    score = wide.node("Neg", _mean(wide, of_models))
    decision = wide.node("Sub", score, detector.offset_)
    is_outlier = wide.node("Less", decision, 0.0)
    outlier, inlier = wide.integers(-1), wide.integers(1)
    label = wide.node("Where", is_outlier, outlier, inlier)
    label = wide.node("Cast", label, to=TensorProto.INT64)
    values = [wide.node("Cast", value, to=graph.type) for value in (decision, score)]
    return [label, *values]


def label_and_decision(
    graph: Graph, detector: AutoencoderOutlierDetector, given: Sequence[Value]
) -> list[str]:
    """What skl2onnx asks for."""
    return detect(graph, detector, given)[:2]


def _rows(
    wide: Graph, detector: AutoencoderOutlierDetector, given: Sequence[Value]
) -> _Rows:
    """Samples of which inputs have the features, or the columns of a table."""
    table = detector._table
    if table is None:
        (only,) = given
        return _Rows(wide.node("Cast", only.name, to=wide.type))
    codes = codes_of(wide, table, given)
    both = wide.node("Concat", *codes, axis=1)
    is_missing, is_unknown = (
        wide.node("Equal", both, wide.integers(code)) for code in (MISSING, UNKNOWN)
    )
    rows = matrix(wide, table, given, codes)
    return _Rows(rows, _Marks(is_missing, is_unknown))


def _mean(graph: Graph, values: list[str]) -> str:
    """Mean of values by several models, in float64."""
    total = values[0]
    for value in values[1:]:
        total = graph.node("Add", total, value)
    wide = graph.in_dtype(np.float64)
    return wide.node("Div", total, float(len(values)))


def _outlier_score(graph: Graph, model: OutlierScore, rows: _Rows) -> str:
    """Scores of samples by a model; all are float64."""
    standard, network = model.of_samples.standard, model.network
    wide, narrow = graph.in_dtype(np.float64), graph.in_dtype(np.float32)
    seen = _standardized(wide, standard, rows.matrix)
    if model._range is not None:
        unit = wide.constant("unit", standard.unit)
        seen = wide.node("Mul", wide.node("Cast", seen, to=wide.type), unit)
        seen = wide.node("Add", seen, wide.constant("mean", standard.mean))
        seen = wide.node("Cast", seen, to=narrow.type)
        is_missing = narrow.node("IsNaN", seen)
        seen = clip(narrow, seen, model._range.low, model._range.high)
        seen = narrow.node("Where", is_missing, np.nan, seen)
    if model.of_parts is None:
        return _evidence(narrow, model, rows._replace(matrix=seen))
    parts = code = encode_rows(narrow, network, seen)
    restored = decode_codes(narrow, network, code)
    if n_plain := model._n_plain:
        plain, of_plain = (
            select_columns(narrow, value, np.arange(n_plain), len(standard.mean))
            for value in (seen, restored)
        )
        residual = narrow.node("Sub", plain, of_plain)
        if model._range is not None:
            unit = narrow.constant("unit", standard.unit[:n_plain])
            residual = narrow.node("Div", residual, unit)
        is_missing = narrow.node("IsNaN", plain)
        is_lost = narrow.node("IsNaN", residual)
        is_lost = narrow.node("And", is_lost, narrow.node("Not", is_missing))
        residual = narrow.node("Where", is_lost, np.inf, residual)
        parts = narrow.node("Concat", code, residual, axis=1)
    of_parts = wide.in_dtype(np.float64)
    value = of_parts.node("Cast", parts, to=of_parts.type)
    value = _standardized(of_parts, model.of_parts.standard, value)
    squares = _squared(graph.in_dtype(np.float32), model.of_parts.distance, value)
    n_observed = _n_observed(wide, value)
    if rows.marks is not None:
        is_missing = rows.marks.is_missing
        deviances = _deviances_of_levels(wide, model, seen, restored)
        deviances = wide.node("Where", is_missing, 0.0, deviances)
        total = wide.node("ReduceSum", deviances, wide.integers(1))
        squares = wide.node("Add", squares, total)
        n_observed = wide.node("Add", n_observed, _n_false(wide, is_missing))
    return wide.node("Div", squares, n_observed)


def _deviances_of_levels(
    wide: Graph, model: OutlierScore, seen: str, restored: str
) -> str:
    """Deviances of levels in their units, of shape (n_samples, n_groups).

    Those of missing levels have any value, and those of unknown ones no chance.
    """
    deviances = cast(Deviances, model._deviances)
    n_inputs, chances = len(model.of_samples.standard.mean), []
    for places in positions_of_groups(model._n_plain, model.network._group_sizes):
        logits, level = (
            select_columns(wide, value, places, n_inputs) for value in (restored, seen)
        )
        logits = wide.node("Cast", logits, to=wide.type)
        chance = wide.node("Softmax", logits, axis=1)
        chance = wide.node("Where", _has_level(wide, level), chance, 0.0)
        chances.append(wide.node("ReduceSum", chance, wide.integers(1)))
    chance = wide.node("Concat", *chances, axis=1)
    chance = wide.node("Where", wide.node("IsNaN", chance), 0.0, chance)
    n = float(deviances.n_samples)
    chance = wide.node("Add", wide.node("Mul", chance, n), 1.0)
    found = wide.node("Log", wide.node("Div", n + 1, chance))
    return wide.node("Div", found, wide.constant("usual", deviances.unit))


def _has_level(graph: Graph, level: str) -> str:
    """Whether inputs of float32, of which some are NaN, are those of the level."""
    return graph.in_dtype(np.float32).node("Greater", level, 0.0)


def _n_false(graph: Graph, flags: str) -> str:
    """Numbers of flags that are not set, of shape (n_rows, 1)."""
    of_flags = graph.node("Where", flags, 0.0, 1.0)
    return graph.node("ReduceSum", of_flags, graph.integers(1))


def _standardized(graph: Graph, standard: Standardization, rows: str) -> str:
    """Deviations of float64 rows in units of a standardization, cut, in float32."""
    from onnx import TensorProto

    is_missing = graph.node("IsNaN", rows)
    value = graph.node("Sub", rows, graph.constant("mean", standard.mean))
    value = graph.node("Div", value, graph.constant("spread", standard.spread))
    limit = graph.constant("limit", standard.limit)
    value = clip(graph, value, graph.node("Neg", limit), limit)
    value = graph.node("Where", is_missing, np.nan, value)
    if not standard.limit.all():  # features without an observed entry
        is_known = graph.node("Greater", limit, 0.0)
        value = graph.node("Where", is_known, value, 0.0)
    return graph.node("Cast", value, to=TensorProto.FLOAT)


def _n_observed(graph: Graph, rows: str) -> str:
    """Numbers of entries that are not missing, of shape (n_rows, 1)."""
    return _n_false(graph, graph.node("IsNaN", rows))


def _squared(graph: Graph, distance: Distance, rows: str) -> str:
    """Squared distances of rows from the center, in float64; `Distance.squared`."""
    filled = fill_missing(graph, rows, graph.node("IsNaN", rows), distance.gaussian)
    (encoder, decoder), factor = distance.root
    deviations = graph.node(
        "Sub", filled, graph.constant("center", distance.gaussian.mean)
    )
    code = graph.node("MatMul", deviations, graph.constant("axes", encoder))
    along = graph.node("MatMul", code, graph.constant("shortened", decoder))
    whitened = graph.node("Mul", graph.node("Sub", deviations, along), factor)
    wide = graph.in_dtype(np.float64)
    whitened = wide.node("Cast", whitened, to=wide.type)
    squares = wide.node("Mul", whitened, whitened)
    return wide.node("ReduceSum", squares, wide.integers(1))


def _evidence(graph: Graph, model: OutlierScore, rows: _Rows) -> str:
    """`OutlierScore._of_evidence` of float32 rows, in float64."""
    wide, network = graph.in_dtype(np.float64), model.network
    target = scale_rows(graph, network, rows.matrix)
    is_missing = graph.node("IsNaN", target)
    filled = fill_missing(graph, target, is_missing, network._expected())
    units = code_of(graph, network, filled, has_variances=True)
    units = wide.node("Cast", units, to=wide.type)
    n, n_inputs = network.n_components_, len(model.of_samples.standard.mean)
    mean = select_columns(wide, units, np.arange(n), 2 * n)
    log_variance = select_columns(wide, units, np.arange(n, 2 * n), 2 * n)
    log_variance = _bounded(wide, log_variance)
    excess = wide.node("Sub", wide.node("Exp", log_variance), 1.0)
    excess = wide.node("Sub", excess, log_variance)
    divergence = wide.node("Add", wide.node("Mul", mean, mean), excess)
    divergence = wide.node("ReduceSum", divergence, wide.integers(1))

    draws = network._draws(N_DRAWS)
    deviation = wide.node("Exp", wide.node("Mul", log_variance, 0.5))
    mean, deviation = (
        wide.node("Reshape", value, wide.integers(-1, 1, n))
        for value in (mean, deviation)
    )
    drawn = wide.node("Mul", deviation, wide.constant("draws", draws))
    drawn = wide.node("Add", mean, drawn)
    drawn = wide.node("Reshape", drawn, wide.integers(-1, n))
    drawn = graph.node("Cast", drawn, to=graph.type)
    loss = network._training_state.loss
    last = "identity" if LOSSES[loss].has_activation else None
    prediction = output_of(graph, network, drawn, last)

    def of_draws(value: str, places: np.ndarray, n_draws: int) -> str:
        value = select_columns(graph, value, places, n_inputs)
        shape = graph.integers(-1, n_draws, len(places))
        return graph.node("Reshape", value, shape)

    def added(score: str, losses: str) -> str:
        losses = wide.node("ReduceSum", losses, wide.integers(1, 2), keepdims=0)
        losses = wide.node("Reshape", losses, wide.integers(-1, 1))
        return wide.node("Add", score, wide.node("Mul", losses, 2 / len(draws)))

    score, left_out = divergence, []
    if model._n_plain:
        plain = np.arange(model._n_plain)
        losses = _LOSSES[loss](
            graph, of_draws(prediction, plain, len(draws)), of_draws(target, plain, 1)
        )
        losses = graph.node("Where", of_draws(is_missing, plain, 1), 0.0, losses)
        score = added(score, wide.node("Cast", losses, to=wide.type))
        left_out.append(select_columns(graph, is_missing, plain, n_inputs))
    for places in positions_of_groups(model._n_plain, network._group_sizes):
        logits = wide.node(
            "Cast", of_draws(prediction, places, len(draws)), to=wide.type
        )
        losses = wide.node("Neg", wide.node("LogSoftmax", logits, axis=2))
        has_level = _has_level(wide, of_draws(target, places, 1))
        score = added(score, wide.node("Where", has_level, losses, 0.0))
    if rows.marks is not None:
        is_missing, is_unknown = rows.marks
        n_unknown = _n_false(wide, wide.node("Not", is_unknown))
        most = 2 * math.log(cast(Deviances, model._deviances).n_samples + 1)
        score = wide.node("Add", score, wide.node("Mul", n_unknown, most))
        left_out.append(wide.node("Or", is_missing, is_unknown))
    n_observed = _n_false(wide, wide.node("Concat", *left_out, axis=1))
    score = wide.node("Div", score, wide.node("Max", n_observed, 1.0))
    is_lost = wide.node("IsNaN", score)
    score = clip(wide, score, 0.0, FARTHEST**2)
    return wide.node("Where", is_lost, FARTHEST**2, score)


def _bounded(graph: Graph, units: str) -> str:
    """Logarithms of variances; `bounded_log_variance`."""
    clipped = clip(graph, units, LOWEST_PLAIN, HIGHEST_PLAIN)
    rest = graph.node("Sub", units, clipped)
    share = graph.node("Add", graph.node("Abs", rest), ROOM)
    share = graph.node("Div", ROOM, share)
    beyond = graph.node("Mul", graph.node("Sub", 1.0, share), ROOM)
    beyond = graph.node("Mul", graph.node("Sign", rest), beyond)
    return graph.node("Add", clipped, beyond)


def _squared_error(graph: Graph, prediction: str, target: str) -> str:
    rest = graph.node("Sub", prediction, target)
    return graph.node("Mul", graph.node("Mul", rest, rest), 0.5)


def _log_loss(graph: Graph, z: str, target: str) -> str:
    is_negative = graph.node("Less", z, 0.0)
    above = graph.node("Sub", 1.0, target)
    factor = graph.node("Where", is_negative, graph.node("Neg", target), above)
    linear = graph.node("Mul", factor, z)
    return graph.node("Add", linear, log1p(graph, exponential(graph, z)))


# Those that a variational autoencoder may have.
_LOSSES: dict[str, Callable[[Graph, str, str], str]] = {
    "squared_error": _squared_error,
    "log_loss": _log_loss,
}
