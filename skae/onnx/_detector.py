"""The outlier detector.

Values of samples have the shape (n_samples, 1), as those that skl2onnx makes. Each
model, and each distribution, has a graph of its own, whose constants are its own.
"""

from collections.abc import Callable

import numpy as np

from skae import AutoencoderOutlierDetector, VariationalAutoencoderTransformer
from skae._compiled.code_terms import HIGHEST_PLAIN, LOWEST_PLAIN, ROOM
from skae._compiled.losses import LOSSES
from skae._data.standardization import FARTHEST, Standardization
from skae._model.distance import Distance
from skae._outliers.score import N_DRAWS, OutlierScore
from skae.onnx._activations import exponential, log1p
from skae.onnx._graph import Graph, clip, select_columns
from skae.onnx._network import (
    code_of,
    decode_codes,
    encode_rows,
    fill_missing,
    output_of,
    scale_rows,
)

# What skl2onnx calls outputs of outlier detectors.
LABEL, DECISION, SCORES = "label", "scores", "score_samples"


def detect(graph: Graph, detector: AutoencoderOutlierDetector, rows: str) -> list[str]:
    """Label, decision function and score of samples."""
    return _verdict(graph, detector, _of_models(graph, detector, rows))


def label_and_decision(
    graph: Graph, detector: AutoencoderOutlierDetector, rows: str
) -> list[str]:
    """What skl2onnx asks for."""
    return _verdict(graph, detector, _of_models(graph, detector, rows))[:2]


def _of_models(
    graph: Graph, detector: AutoencoderOutlierDetector, rows: str
) -> list[str]:
    """Scores of samples by each model, in float64."""
    wide = graph.in_dtype(np.float64)
    rows = wide.node("Cast", rows, to=wide.type)
    return [_outlier_score(wide, model, rows) for model in detector._models]


def _verdict(
    graph: Graph, detector: AutoencoderOutlierDetector, of_models: list[str]
) -> list[str]:
    """Label, decision function and score of samples."""
    from onnx import TensorProto

    wide = graph.in_dtype(np.float64)
    score = wide.node("Neg", _mean(wide, of_models))
    decision = wide.node("Sub", score, detector.offset_)
    is_outlier = wide.node("Less", decision, 0.0)
    outlier, inlier = wide.integers(-1), wide.integers(1)
    label = wide.node("Where", is_outlier, outlier, inlier)
    label = wide.node("Cast", label, to=TensorProto.INT64)
    values = [wide.node("Cast", value, to=graph.type) for value in (decision, score)]
    return [label, *values]


def _mean(graph: Graph, values: list[str]) -> str:
    """Mean of values by several models, in float64."""
    total = values[0]
    for value in values[1:]:
        total = graph.node("Add", total, value)
    wide = graph.in_dtype(np.float64)
    return wide.node("Div", total, float(len(values)))


def _outlier_score(graph: Graph, model: OutlierScore, rows: str) -> str:
    """Scores of samples by a model; all are float64."""
    standard, network = model.of_samples.standard, model.network
    wide, narrow = graph.in_dtype(np.float64), graph.in_dtype(np.float32)
    seen = _standardized(wide, standard, rows)
    if model._range is not None:
        unit = wide.constant("unit", standard.unit)
        seen = wide.node("Mul", wide.node("Cast", seen, to=wide.type), unit)
        seen = wide.node("Add", seen, wide.constant("mean", standard.mean))
        seen = wide.node("Cast", seen, to=narrow.type)
        is_missing = narrow.node("IsNaN", seen)
        seen = clip(narrow, seen, model._range.low, model._range.high)
        seen = narrow.node("Where", is_missing, np.nan, seen)
    if model.of_parts is None:
        return _evidence(narrow, network, seen)
    code = encode_rows(narrow, network, seen)
    residual = narrow.node("Sub", seen, decode_codes(narrow, network, code))
    if model._range is not None:
        residual = narrow.node("Div", residual, narrow.constant("unit", standard.unit))
    is_missing = narrow.node("IsNaN", seen)
    is_lost = narrow.node("IsNaN", residual)
    is_lost = narrow.node("And", is_lost, narrow.node("Not", is_missing))
    residual = narrow.node("Where", is_lost, np.inf, residual)
    parts = narrow.node("Concat", code, residual, axis=1)
    of_parts = wide.in_dtype(np.float64)
    value = of_parts.node("Cast", parts, to=of_parts.type)
    value = _standardized(of_parts, model.of_parts.standard, value)
    squares = _squared(graph.in_dtype(np.float32), model.of_parts.distance, value)
    return wide.node("Div", squares, _n_observed(wide, value))


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
    is_missing = graph.node("IsNaN", rows)
    is_observed = graph.node("Where", is_missing, 0.0, 1.0)
    return graph.node("ReduceSum", is_observed, graph.integers(1))


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


def _evidence(
    graph: Graph, network: VariationalAutoencoderTransformer, rows: str
) -> str:
    """`OutlierScore._of_evidence` of float32 rows, in float64."""
    wide = graph.in_dtype(np.float64)
    target = scale_rows(graph, network, rows)
    is_missing = graph.node("IsNaN", target)
    filled = fill_missing(graph, target, is_missing, network._expected())
    units = code_of(graph, network, filled, has_variances=True)
    units = wide.node("Cast", units, to=wide.type)
    n, n_features = network.n_components_, network.n_features_in_
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
    shape = graph.integers(-1, len(draws), n_features)
    prediction = graph.node("Reshape", prediction, shape)
    target, is_missing = (
        graph.node("Reshape", value, graph.integers(-1, 1, n_features))
        for value in (target, is_missing)
    )
    losses = _LOSSES[loss](graph, prediction, target)
    losses = graph.node("Where", is_missing, 0.0, losses)
    losses = wide.node("Cast", losses, to=wide.type)
    losses = wide.node("ReduceSum", losses, wide.integers(1, 2), keepdims=0)
    losses = wide.node("Reshape", losses, wide.integers(-1, 1))
    losses = wide.node("Mul", losses, 2 / len(draws))

    score = wide.node("Add", divergence, losses)
    n_observed = wide.node("Max", _n_observed(wide, rows), 1.0)
    score = wide.node("Div", score, n_observed)
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
