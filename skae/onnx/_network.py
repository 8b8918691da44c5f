"""The network of an autoencoder, from matrices to codes and back."""

import numpy as np

from skae._base.autoencoder import BaseAutoencoder
from skae._data.gaussian import Gaussian
from skae._typing import Scale
from skae.onnx._activations import ACTIVATIONS
from skae.onnx._graph import Graph, select_columns


def encode_rows(graph: Graph, estimator: BaseAutoencoder, rows: str) -> str:
    """Code of samples, as `transform` gives it."""
    value = scale_rows(graph, estimator, rows)
    is_missing = graph.node("IsNaN", value)
    value = fill_missing(graph, value, is_missing, estimator._expected())
    return code_of(graph, estimator, value)


def scale_rows(graph: Graph, estimator: BaseAutoencoder, rows: str) -> str:
    """Samples as the network sees them, with missing entries."""
    value = rows
    if estimator._offset.any():
        value = graph.node("Sub", value, graph.constant("offset", estimator._offset))
    if np.any(estimator.scale_ != 1):
        # A product with a rounded factor, as in kernels.
        value = graph.node(
            "Mul", value, _number(graph, "factors", 1 / estimator.scale_)
        )
    return value


def _number(graph: Graph, name: str, value: Scale) -> str | float:
    """A number, or the name of an array, for a node."""
    return value if isinstance(value, float) else graph.constant(name, value)


def code_of(
    graph: Graph,
    estimator: BaseAutoencoder,
    value: str,
    *,
    has_variances: bool = False,
) -> str:
    """Code of samples that the network sees."""
    middle = len(estimator.coefs_) // 2
    for i in range(middle):
        # The last layer of a variational encoder has means, then variances.
        is_cut = i == middle - 1 and not has_variances
        n_units = estimator.n_components_ if is_cut else None
        value = _layer(graph, estimator, value, i, n_units)
    return value


def fill_missing(graph: Graph, rows: str, is_missing: str, gaussian: Gaussian) -> str:
    """Rows with a distribution's expectations of missing entries."""
    if not gaussian.loadings.shape[1]:
        expected = graph.constant("missing_mean", gaussian.mean)
        return graph.node("Where", is_missing, expected, rows)
    # Systems of equations are solved for the rows that lack entries alone.
    n_lacking = graph.node("Cast", is_missing, to=graph.type)
    n_lacking = graph.node("ReduceSum", n_lacking, graph.integers(1), keepdims=0)
    lacking = graph.node("NonZero", graph.node("Greater", n_lacking, 0.0))
    lacking = graph.node("Transpose", lacking)
    some, are_missing = (
        graph.node("GatherND", values, lacking) for values in (rows, is_missing)
    )
    expected = _expected(graph, some, are_missing, gaussian)
    some = graph.node("Where", are_missing, expected, some)
    return graph.node("ScatterND", rows, lacking, some)


def _expected(graph: Graph, rows: str, is_missing: str, gaussian: Gaussian) -> str:
    """Expectations of all entries given the observed ones, computed in float64."""
    wide = graph.in_dtype(np.float64)
    mean, loadings, noise = gaussian
    n_features, n = loadings.shape
    deviations = wide.node(
        "Sub",
        wide.node("Cast", rows, to=wide.type),
        wide.constant("missing_mean_64", mean),
    )
    deviations = wide.node("Where", is_missing, 0.0, deviations)
    directions = wide.constant("missing_loadings", loadings)
    transposed = wide.constant("missing_loadings_t", loadings.T)
    known = wide.node("MatMul", deviations, directions)
    is_observed = wide.node("Where", is_missing, 0.0, 1.0)
    is_observed = wide.node("Reshape", is_observed, wide.integers(-1, 1, n_features))
    observed = wide.node("Mul", transposed, is_observed)
    precision = wide.node("MatMul", observed, directions)
    noise_matrix = wide.constant("missing_noise", noise * np.eye(n))
    precision = wide.node("Add", precision, noise_matrix)
    known = wide.node("Reshape", known, wide.integers(-1, n, 1))
    scores = wide.node(
        "Reshape", _solved(wide, precision, known, n), wide.integers(-1, n)
    )
    expected = wide.node("MatMul", scores, transposed)
    expected = wide.node("Add", expected, wide.constant("missing_mean_64", mean))
    return graph.node("Cast", expected, to=graph.type)


def _solved(graph: Graph, matrix: str, right: str, n: int) -> str:
    """Solve (rows, n, n) systems that are positive definite, by Gauss and Jordan."""
    both = graph.node("Concat", matrix, right, axis=2)

    def entry(value: str, i: int, axis: int) -> str:
        bounds = graph.integers(i), graph.integers(i + 1), graph.integers(axis)
        return graph.node("Slice", value, *bounds)

    for i in range(n):
        row = entry(both, i, 1)
        row = graph.node("Div", row, entry(row, i, 2))
        unit = graph.constant(f"unit_{i + 1}", np.eye(n)[:, i : i + 1])
        factors = graph.node("Sub", entry(both, i, 2), unit)
        both = graph.node("Sub", both, graph.node("Mul", factors, row))
    return entry(both, n, 2)


def decode_codes(graph: Graph, estimator: BaseAutoencoder, code: str) -> str:
    """Outputs of the network for codes: in the units of the data, or logits."""
    value = output_of(graph, estimator, code)
    offset, scale = estimator._output_scaling
    if np.any(scale != 1):
        value = graph.node("Mul", value, _number(graph, "scale", scale))
    if offset.any():
        value = graph.node("Add", value, graph.constant("offset", offset))
    return value


def output_of(
    graph: Graph, estimator: BaseAutoencoder, code: str, last: str | None = None
) -> str:
    """What the network makes of codes, by default with its own output activation."""
    n_layers, value = len(estimator.coefs_), code
    for i in range(n_layers // 2, n_layers):
        activation = last if i == n_layers - 1 else None
        value = _layer(graph, estimator, value, i, activation=activation)
    return value


def _layer(
    graph: Graph,
    estimator: BaseAutoencoder,
    value: str,
    i: int,
    n_units: int | None = None,
    activation: str | None = None,
) -> str:
    """The first units of layer i, by default all, from the output of the one before."""
    weights, biases = estimator.coefs_, estimator.intercepts_
    mirrored = len(weights) - 1 - i
    is_tied = estimator._architecture["tied"] and i > mirrored
    stored = mirrored if is_tied else i  # a tied layer's weights are kept once
    z = graph.node(
        "Gemm",
        value,
        graph.constant(f"weights_{stored + 1}", weights[stored][:, :n_units]),
        graph.constant(f"biases_{i + 1}", biases[i][:n_units]),
        transB=int(is_tied),
    )
    name = activation or estimator._architecture["activations"][i]
    n_logits = sum(estimator._group_sizes) if i == len(weights) - 1 else 0
    if not n_logits or name == "identity":
        return ACTIVATIONS[name](graph, z)
    n_outputs = len(biases[i])
    first, last = np.split(np.arange(n_outputs), [n_outputs - n_logits])
    numbers = ACTIVATIONS[name](graph, select_columns(graph, z, first, n_outputs))
    logits = select_columns(graph, z, last, n_outputs)
    return graph.node("Concat", numbers, logits, axis=1)
