"""The imputer."""

import numbers

import numpy as np

from skae import AutoencoderImputer
from skae._data.gaussian import Gaussian
from skae._imputer import LARGEST_DEVIATION
from skae.onnx._graph import Graph, clip, select_columns
from skae.onnx._network import code_of, decode_codes, fill_missing, scale_rows


def impute(graph: Graph, imputer: AutoencoderImputer, rows: str) -> list[str]:
    """Imputed samples and indicators, as `transform` gives them."""
    if imputer._table is not None:
        raise ValueError(
            "an imputer that was fitted to a table with categories cannot be "
            "converted: convert one of numbers, or what comes after it"
        )
    if imputer.sample_posterior:
        raise ValueError(
            "an imputer with sample_posterior=True cannot be converted, because the "
            "model would draw random numbers: convert "
            "imputer.set_params(sample_posterior=False), which predicts values"
        )
    missing = imputer.missing_values
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
    mean = wide.constant("imputer_mean", imputer.mean_[imputer._is_kept])
    spread = wide.constant("imputer_spread", imputer._spread)
    is_missing = graph.node("IsNaN", rows)
    value = wide.node("Sub", wide.node("Cast", rows, to=wide.type), mean)
    value = wide.node("Div", value, spread)
    value = clip(wide, value, -LARGEST_DEVIATION, LARGEST_DEVIATION)
    value = fill_missing(wide, value, is_missing, Gaussian(**imputer._gaussian))
    network = imputer.estimator_
    if network is not None and imputer.weight_.any():
        narrow = graph.in_dtype(network._params.dtype)
        seen = scale_rows(narrow, network, narrow.node("Cast", value, to=narrow.type))
        restored = decode_codes(narrow, network, code_of(narrow, network, seen))
        change = wide.node("Sub", wide.node("Cast", restored, to=wide.type), value)
        weight = wide.constant("imputer_weight", imputer.weight_)
        value = wide.node("Add", value, wide.node("Mul", weight, change))
    value = wide.node("Add", wide.node("Mul", value, spread), mean)
    largest = float(np.finfo(graph.dtype).max)
    lowest = wide.constant("imputer_lowest", np.maximum(imputer._lowest, -largest))
    highest = wide.constant("imputer_highest", np.minimum(imputer._highest, largest))
    value = clip(wide, value, lowest, highest)
    return wide.node("Cast", value, to=graph.type)
