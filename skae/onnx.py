"""Convert estimators to ONNX models, which run without Python and without skae.

A converter can be registered with skl2onnx, which converts whole pipelines.
"""

import numbers
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import DTypeLike
from sklearn.utils.validation import check_is_fitted

from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
    __version__,
)
from skae._base import BaseAutoencoder
from skae._compiled import vector_math
from skae._compiled.activations import LEAK, SELU_ALPHA, SELU_SCALE
from skae._compiled.code_terms import HIGHEST_PLAIN, LOWEST_PLAIN, ROOM
from skae._compiled.losses import LOSSES
from skae._compiled.vector_math import ERFCX_CENTRE
from skae._data.gaussian import Gaussian
from skae._data.standardization import FARTHEST, Standardization
from skae._imputer import LARGEST_DEVIATION
from skae._model.distance import Distance
from skae._names import check_name
from skae._outliers.score import N_DRAWS, OutlierScore
from skae._runtime.extras import check_installed
from skae._typing import Floats

if TYPE_CHECKING:
    import onnx

__all__ = ["register", "to_onnx"]


def __dir__() -> list[str]:
    return __all__


# From 2022: old enough for every runtime in use, and has all the operators needed.
_OPSET, _IR_VERSION = 18, 8

_Estimator: TypeAlias = (
    AutoencoderTransformer
    | VariationalAutoencoderTransformer
    | AutoencoderImputer
    | AutoencoderOutlierDetector
)


def to_onnx(
    estimator: AutoencoderTransformer
    | VariationalAutoencoderTransformer
    | AutoencoderImputer
    | AutoencoderOutlierDetector,
    part: str = "auto",
) -> "onnx.ModelProto":
    """Convert a fitted autoencoder, imputer or outlier detector to an ONNX model.

    Its input and outputs have the type that the estimator was fitted in, float32 or
    float64. The number of samples is free.

    Parameters
    ----------
    estimator : AutoencoderTransformer, VariationalAutoencoderTransformer, \
            AutoencoderImputer or AutoencoderOutlierDetector
        Fitted estimator. For a Pipeline, see :func:`register`.
    part : {"auto", "encoder", "decoder", "reconstruct", "impute", "detect"}, \
            default="auto"
        What the model computes. "auto" is "reconstruct" of an autoencoder, "impute" of
        an imputer, and "detect" of a detector.

        - "encoder": ``transform``, from the input "X" to the output "code". The code
          of a variational autoencoder is the posterior's mean.
        - "decoder": ``inverse_transform``, from "code" to "reconstruction".
        - "reconstruct": both, from "X" to "reconstruction".
        - "impute": an imputer's ``transform``, from "X" to "X_imputed".
        - "detect": from "X" to columns, named as by skl2onnx: "label" is ``predict``
          (int64), "scores" ``decision_function``, "score_samples" the method of this
          name.

    Returns
    -------
    model : onnx.ModelProto
        The model. Runtimes read ``model.SerializeToString()``.

    Raises
    ------
    ImportError
        If onnx is not installed.
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If the estimator is not one of these.
    ValueError
        If `part` is not one that the estimator has; for an imputer that draws values,
        with ``sample_posterior=True``.

    See Also
    --------
    register : Convert pipelines with skl2onnx.

    Notes
    -----
    The model centers, scales and fills missing entries, which are NaN, as the estimator
    does. (They are `missing_values` for an imputer.) It does not validate.

    Outputs equal the estimator's up to rounding errors. Activations are composed of
    operators that ONNX Runtime has for float64, too, which it lacks for the error
    function and softplus, for example. They are precise for large and small arguments.
    Networks of imputers and detectors compute in float32, whatever the type of the
    data. A sample whose score is that of a held-out one may be on its other side, which
    changes its p-value by 1 / (1 + n).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.onnx import to_onnx
    >>> X = load_digits().data[:300]
    >>> autoencoder = AutoencoderTransformer(n_components=5, random_state=0).fit(X)
    >>> model = to_onnx(autoencoder, part="encoder")
    >>> [value.name for value in model.graph.input]
    ['X']
    >>> [value.name for value in model.graph.output]
    ['code']
    """
    converter = _converter_of(estimator)
    check_name(part, "part", ["auto", *converter.parts])
    part = converter.default if part == "auto" else part
    check_is_fitted(estimator)
    check_installed("skae.onnx.to_onnx", "onnx", extra="onnx")
    from onnx import TensorProto, helper

    made = converter.parts[part]
    store = _ModelStore()
    graph = _Graph(store, converter.dtype(estimator))
    for name, value in zip(
        made.outputs, made.make(graph, estimator, made.input), strict=True
    ):
        graph.node("Identity", value, output=name)

    widths = converter.widths(estimator)

    def about(name: str) -> "onnx.ValueInfoProto":
        of_value = TensorProto.INT64 if name == _LABEL else graph.type
        shape: list[str | int | None] = ["n_samples", widths[name]]
        return helper.make_tensor_value_info(name, of_value, shape)

    kind = type(estimator).__name__
    model = helper.make_model(
        helper.make_graph(
            store.nodes,
            part,
            [about(made.input)],
            [about(name) for name in made.outputs],
            store.initializers,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="skae",
        producer_version=__version__,
        doc_string=f"{kind}, {part}: {converter.about(widths)}",
    )
    properties = {"skae_version": __version__, "estimator": kind, "part": part}
    helper.set_model_props(model, properties)
    return model


def register() -> None:
    """Let skl2onnx convert pipelines with an estimator of skae.

    Afterwards ``skl2onnx.to_onnx`` converts the ``transform`` of
    :class:`skae.AutoencoderTransformer`, :class:`skae.AutoencoderImputer` and
    :class:`skae.VariationalAutoencoderTransformer`, and of a pipeline that ends with
    :class:`skae.AutoencoderOutlierDetector` ``predict`` and ``decision_function``, as
    "label" and "scores". Calling this again does no harm.

    Raises
    ------
    ImportError
        If skl2onnx or onnx is not installed.

    See Also
    --------
    to_onnx : Convert the encoder, the decoder or both, without skl2onnx.

    Notes
    -----
    skl2onnx chooses the types of inputs. An autoencoder computes in the type that it
    was fitted in, as its ``transform`` does; its code is then cast to float64 if the
    input is float64, else to float32. To run in float32 throughout, fit in float32.
    What imputers and detectors give is in the type of the input from the beginning.

    Examples
    --------
    >>> import numpy as np
    >>> import skl2onnx
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skae import AutoencoderTransformer
    >>> import skae.onnx
    >>> X = load_digits().data[:300].astype(np.float32)
    >>> autoencoder = AutoencoderTransformer(n_components=5, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), autoencoder).fit(X)
    >>> skae.onnx.register()
    >>> model = skl2onnx.to_onnx(pipeline, X[:1])
    """
    check_installed("skae.onnx.register", "onnx", "skl2onnx", extra="onnx")
    from skl2onnx import update_registered_converter

    for member in _MEMBERS:
        update_registered_converter(
            member, f"Skae{member.__name__}", _calculate_shape, _convert
        )


# ---------------------------------------------------------------------------
# What skl2onnx calls
# ---------------------------------------------------------------------------


def _calculate_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType, guess_tensor_type
    from skl2onnx.common.utils import check_input_and_output_numbers

    estimator = operator.raw_operator
    check_is_fitted(estimator)
    converter = _converter_of(estimator)
    names = converter.in_pipelines.outputs
    check_input_and_output_numbers(
        operator, input_count_range=1, output_count_range=len(names)
    )
    (variable,), widths = operator.inputs, converter.widths(estimator)
    for name, result in zip(names, operator.outputs, strict=True):
        is_label = name == _LABEL
        result.type = (
            Int64TensorType() if is_label else guess_tensor_type(variable.type)
        )
        result.type.shape = [variable.get_first_dimension(), widths[name]]


def _convert(scope: Any, operator: Any, container: Any) -> None:
    from onnx import helper
    from skl2onnx.common.data_types import guess_proto_type, guess_tensor_type

    estimator, (variable,) = operator.raw_operator, operator.inputs
    wanted = guess_proto_type(guess_tensor_type(variable.type))
    converter = _converter_of(estimator)
    dtype = converter.dtype(estimator)
    if converter.takes_any_dtype:
        dtype = helper.tensor_dtype_to_np_dtype(wanted)
    graph = _Graph(_ContainerStore(scope, container), dtype)
    rows = graph.node("Cast", variable.full_name, to=graph.type)
    values = converter.in_pipelines.make(graph, estimator, rows)
    for value, result in zip(values, operator.outputs, strict=True):
        to = guess_proto_type(result.type)
        graph.node("Cast", value, output=result.full_name, to=to)


# ---------------------------------------------------------------------------
# Graphs
# ---------------------------------------------------------------------------


class _Graph:
    """Adds nodes, and constants of a type, to a store.

    Values are known by their names.
    """

    def __init__(self, store: "_ModelStore | _ContainerStore", dtype: DTypeLike):
        from onnx import helper

        self.dtype = np.dtype(dtype)
        self.type = helper.np_dtype_to_tensor_dtype(self.dtype)
        self._store = store
        self._constants: dict[str | float, str] = {}

    def in_dtype(self, dtype: DTypeLike) -> "_Graph":
        """The same graph, with constants of another type."""
        return _Graph(self._store, dtype)

    def integers(self, *values: int) -> str:
        """Add a list of integers; returns its name."""
        from onnx import TensorProto

        key = f"integers {values}"
        if key not in self._constants:
            self._constants[key] = name = self._store.new_name("integers")
            array = np.array(values, dtype=np.int64)
            self._store.add_constant(name, TensorProto.INT64, array)
        return self._constants[key]

    def node(
        self,
        operator: str,
        *inputs: str | float,
        output: str | None = None,
        **attributes: Any,
    ) -> str:
        """Add a node, whose inputs are names or numbers; returns its output's name."""
        names = [
            value if isinstance(value, str) else self._constant(value, "number", value)
            for value in inputs
        ]
        output = output or self._store.new_name(operator.lower())
        self._store.add_node(operator, names, output, attributes)
        return output

    def constant(self, name: str, values: Floats) -> str:
        """Add an array, once for each name; returns its name in the store."""
        return self._constant(name, name, values)

    def _constant(self, key: str | float, base: str, values: Floats | float) -> str:
        if key not in self._constants:
            self._constants[key] = name = self._store.new_name(base)
            array = np.asarray(values, dtype=self.dtype, order="C")
            self._store.add_constant(name, self.type, array)
        return self._constants[key]


class _ModelStore:
    """Keeps them for a model of its own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._uses: Counter[str] = Counter()
        self._names: set[str] = set()

    def new_name(self, base: str) -> str:
        name = base
        while name in self._names:  # a base may end in a number, too
            self._uses[base] += 1
            name = f"{base}_{self._uses[base] + 1}"
        self._names.add(name)
        return name

    def add_node(
        self, operator: str, inputs: list[str], output: str, attributes: dict[str, Any]
    ) -> None:
        from onnx import helper

        node = helper.make_node(operator, inputs, [output], name=output, **attributes)
        self.nodes.append(node)

    def add_constant(self, name: str, onnx_type: int, values: np.ndarray) -> None:
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(values, name))


class _ContainerStore:
    """Gives them to a model that skl2onnx makes."""

    def __init__(self, scope: Any, container: Any):
        self._scope, self._container = scope, container

    def new_name(self, base: str) -> str:
        name: str = self._scope.get_unique_variable_name(base)
        return name

    def add_node(
        self, operator: str, inputs: list[str], output: str, attributes: dict[str, Any]
    ) -> None:
        name = self._scope.get_unique_operator_name(operator)
        self._container.add_node(operator, inputs, output, name=name, **attributes)

    def add_constant(self, name: str, onnx_type: int, values: np.ndarray) -> None:
        self._container.add_initializer(name, onnx_type, values.shape, values.ravel())


# ---------------------------------------------------------------------------
# The network
# ---------------------------------------------------------------------------


def _encoded(graph: _Graph, estimator: BaseAutoencoder, rows: str) -> str:
    """Code of samples, as `transform` gives it."""
    value = _scaled(graph, estimator, rows)
    is_missing = graph.node("IsNaN", value)
    value = _filled(graph, value, is_missing, estimator._expected())
    return _code(graph, estimator, value)


def _scaled(graph: _Graph, estimator: BaseAutoencoder, rows: str) -> str:
    """Samples as the network sees them, with missing entries."""
    value = rows
    if estimator._offset.any():
        value = graph.node("Sub", value, graph.constant("offset", estimator._offset))
    if estimator.scale_ != 1:
        # A product with a rounded factor, as in kernels.
        value = graph.node("Mul", value, 1 / estimator.scale_)
    return value


def _code(
    graph: _Graph,
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


def _filled(graph: _Graph, rows: str, is_missing: str, gaussian: Gaussian) -> str:
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


def _expected(graph: _Graph, rows: str, is_missing: str, gaussian: Gaussian) -> str:
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


def _solved(graph: _Graph, matrix: str, right: str, n: int) -> str:
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


def _decoded(graph: _Graph, estimator: BaseAutoencoder, code: str) -> str:
    """Reconstruction of codes, as `inverse_transform` gives it."""
    value = _output(graph, estimator, code)
    if estimator.scale_ != 1:
        value = graph.node("Mul", value, estimator.scale_)
    if estimator._offset.any():
        value = graph.node("Add", value, graph.constant("offset", estimator._offset))
    return value


def _output(
    graph: _Graph, estimator: BaseAutoencoder, code: str, last: str | None = None
) -> str:
    """What the network makes of codes, by default with its own output activation."""
    n_layers, value = len(estimator.coefs_), code
    for i in range(n_layers // 2, n_layers):
        activation = last if i == n_layers - 1 else None
        value = _layer(graph, estimator, value, i, activation=activation)
    return value


def _reconstructed(graph: _Graph, estimator: BaseAutoencoder, rows: str) -> str:
    """Reconstruction of samples."""
    return _decoded(graph, estimator, _encoded(graph, estimator, rows))


def _layer(
    graph: _Graph,
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
    activation = activation or estimator._architecture["activations"][i]
    return _ACTIVATIONS[activation](graph, z)


# ---------------------------------------------------------------------------
# The imputer
# ---------------------------------------------------------------------------


def _imputed(graph: _Graph, imputer: AutoencoderImputer, rows: str) -> str:
    """Imputed samples and indicators, as `transform` gives them."""
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
    part = _columns(graph, rows, kept, imputer.n_features_in_)
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
        return value
    features = imputer.indicator_.features_
    lacking = _columns(graph, rows, features, imputer.n_features_in_)
    lacking = graph.node("Cast", graph.node("IsNaN", lacking), to=graph.type)
    return graph.node("Concat", value, lacking, axis=1)


def _columns(graph: _Graph, rows: str, features: np.ndarray, n_features: int) -> str:
    """Some of the features of samples."""
    if len(features) == n_features:
        return rows
    return graph.node("Gather", rows, graph.integers(*features.tolist()), axis=1)


def _predicted(graph: _Graph, imputer: AutoencoderImputer, rows: str) -> str:
    """Samples with the features that are kept, with predictions of missing entries."""
    wide = graph.in_dtype(np.float64)
    mean = wide.constant("imputer_mean", imputer.mean_[imputer._is_kept])
    spread = wide.constant("imputer_spread", imputer._spread)
    is_missing = graph.node("IsNaN", rows)
    value = wide.node("Sub", wide.node("Cast", rows, to=wide.type), mean)
    value = wide.node("Div", value, spread)
    value = _clipped(wide, value, -LARGEST_DEVIATION, LARGEST_DEVIATION)
    value = _filled(wide, value, is_missing, Gaussian(**imputer._gaussian))
    network = imputer.estimator_
    if network is not None and imputer.weight_.any():
        narrow = graph.in_dtype(network._params.dtype)
        seen = _scaled(narrow, network, narrow.node("Cast", value, to=narrow.type))
        restored = _decoded(narrow, network, _code(narrow, network, seen))
        change = wide.node("Sub", wide.node("Cast", restored, to=wide.type), value)
        weight = wide.constant("imputer_weight", imputer.weight_)
        value = wide.node("Add", value, wide.node("Mul", weight, change))
    value = wide.node("Add", wide.node("Mul", value, spread), mean)
    largest = float(np.finfo(graph.dtype).max)
    lowest = wide.constant("imputer_lowest", np.maximum(imputer._lowest, -largest))
    highest = wide.constant("imputer_highest", np.minimum(imputer._highest, largest))
    value = _clipped(wide, value, lowest, highest)
    return wide.node("Cast", value, to=graph.type)


def _clipped(
    graph: _Graph, value: str, lowest: str | float, highest: str | float
) -> str:
    """Values that are not below and not above bounds."""
    return graph.node("Min", graph.node("Max", value, lowest), highest)


# ---------------------------------------------------------------------------
# The outlier detector
#
# Values of samples have the shape (n_samples, 1), as those that skl2onnx makes. Each
# model, and each distribution, has a graph of its own, whose constants are its own.
# ---------------------------------------------------------------------------

# What skl2onnx calls outputs of outlier detectors.
_LABEL, _DECISION, _SCORES = "label", "scores", "score_samples"


def _detected(
    graph: _Graph, detector: AutoencoderOutlierDetector, rows: str
) -> list[str]:
    """Label, decision function and score of samples."""
    return _verdict(graph, detector, _of_models(graph, detector, rows))


def _label_and_decision(
    graph: _Graph, detector: AutoencoderOutlierDetector, rows: str
) -> list[str]:
    """What skl2onnx asks for."""
    return _verdict(graph, detector, _of_models(graph, detector, rows))[:2]


def _of_models(
    graph: _Graph, detector: AutoencoderOutlierDetector, rows: str
) -> list[str]:
    """Scores of samples by each model, in float64."""
    wide = graph.in_dtype(np.float64)
    rows = wide.node("Cast", rows, to=wide.type)
    return [_outlier_score(wide, model, rows) for model in detector._models]


def _verdict(
    graph: _Graph, detector: AutoencoderOutlierDetector, of_models: list[str]
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


def _mean(graph: _Graph, values: list[str]) -> str:
    """Mean of values by several models, in float64."""
    total = values[0]
    for value in values[1:]:
        total = graph.node("Add", total, value)
    wide = graph.in_dtype(np.float64)
    return wide.node("Div", total, float(len(values)))


def _outlier_score(graph: _Graph, model: OutlierScore, rows: str) -> str:
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
        seen = _clipped(narrow, seen, model._range.low, model._range.high)
        seen = narrow.node("Where", is_missing, np.nan, seen)
    if model.of_parts is None:
        return _evidence(narrow, network, seen)
    code = _encoded(narrow, network, seen)
    residual = narrow.node("Sub", seen, _decoded(narrow, network, code))
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


def _standardized(graph: _Graph, standard: Standardization, rows: str) -> str:
    """Deviations of float64 rows in units of a standardization, cut, in float32."""
    from onnx import TensorProto

    is_missing = graph.node("IsNaN", rows)
    value = graph.node("Sub", rows, graph.constant("mean", standard.mean))
    value = graph.node("Div", value, graph.constant("spread", standard.spread))
    limit = graph.constant("limit", standard.limit)
    value = _clipped(graph, value, graph.node("Neg", limit), limit)
    value = graph.node("Where", is_missing, np.nan, value)
    if not standard.limit.all():  # features without an observed entry
        is_known = graph.node("Greater", limit, 0.0)
        value = graph.node("Where", is_known, value, 0.0)
    return graph.node("Cast", value, to=TensorProto.FLOAT)


def _n_observed(graph: _Graph, rows: str) -> str:
    """Numbers of entries that are not missing, of shape (n_rows, 1)."""
    is_missing = graph.node("IsNaN", rows)
    is_observed = graph.node("Where", is_missing, 0.0, 1.0)
    return graph.node("ReduceSum", is_observed, graph.integers(1))


def _squared(graph: _Graph, distance: Distance, rows: str) -> str:
    """Squared distances of rows from the center, in float64; `Distance.squared`."""
    filled = _filled(graph, rows, graph.node("IsNaN", rows), distance.gaussian)
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
    graph: _Graph, network: VariationalAutoencoderTransformer, rows: str
) -> str:
    """`OutlierScore._of_evidence` of float32 rows, in float64."""
    wide = graph.in_dtype(np.float64)
    target = _scaled(graph, network, rows)
    is_missing = graph.node("IsNaN", target)
    filled = _filled(graph, target, is_missing, network._expected())
    units = _code(graph, network, filled, has_variances=True)
    units = wide.node("Cast", units, to=wide.type)
    n, n_features = network.n_components_, network.n_features_in_
    mean = _columns(wide, units, np.arange(n), 2 * n)
    log_variance = _columns(wide, units, np.arange(n, 2 * n), 2 * n)
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
    prediction = _output(graph, network, drawn, last)
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
    score = _clipped(wide, score, 0.0, FARTHEST**2)
    return wide.node("Where", is_lost, FARTHEST**2, score)


def _bounded(graph: _Graph, units: str) -> str:
    """Logarithms of variances; `bounded_log_variance`."""
    clipped = _clipped(graph, units, LOWEST_PLAIN, HIGHEST_PLAIN)
    rest = graph.node("Sub", units, clipped)
    share = graph.node("Add", graph.node("Abs", rest), ROOM)
    share = graph.node("Div", ROOM, share)
    beyond = graph.node("Mul", graph.node("Sub", 1.0, share), ROOM)
    beyond = graph.node("Mul", graph.node("Sign", rest), beyond)
    return graph.node("Add", clipped, beyond)


def _squared_error(graph: _Graph, prediction: str, target: str) -> str:
    rest = graph.node("Sub", prediction, target)
    return graph.node("Mul", graph.node("Mul", rest, rest), 0.5)


def _log_loss(graph: _Graph, z: str, target: str) -> str:
    is_negative = graph.node("Less", z, 0.0)
    above = graph.node("Sub", 1.0, target)
    factor = graph.node("Where", is_negative, graph.node("Neg", target), above)
    linear = graph.node("Mul", factor, z)
    return graph.node("Add", linear, _log1p(graph, _exponential(graph, z)))


# Those that a variational autoencoder may have.
_LOSSES: dict[str, Callable[[_Graph, str, str], str]] = {
    "squared_error": _squared_error,
    "log_loss": _log_loss,
}


# ---------------------------------------------------------------------------
# Which estimators there are
# ---------------------------------------------------------------------------


class _Part(NamedTuple):
    """What a model may compute."""

    input: str  # name
    outputs: tuple[str, ...]  # names
    make: Callable[[_Graph, Any, str], Sequence[str]]  # the graph between them

    @classmethod
    def of(
        cls, given: str, output: str, make: Callable[[_Graph, Any, str], str]
    ) -> Self:
        """With one output."""
        return cls(given, (output,), lambda *args: (make(*args),))


class _Converter(NamedTuple):
    """How estimators of a class become models."""

    parts: dict[str, _Part]
    default: str  # part
    in_pipelines: _Part  # what skl2onnx asks for
    dtype: Callable[[Any], DTypeLike]  # that the estimator was fitted in
    takes_any_dtype: bool  # or only that one
    widths: Callable[[Any], dict[str, int]]  # of inputs and outputs
    about: Callable[[dict[str, int]], str]


_ENCODER = _Part.of("X", "code", _encoded)
_AUTOENCODER = _Converter(
    parts={
        "encoder": _ENCODER,
        "decoder": _Part.of("code", "reconstruction", _decoded),
        "reconstruct": _Part.of("X", "reconstruction", _reconstructed),
    },
    default="reconstruct",
    in_pipelines=_ENCODER,
    dtype=lambda estimator: estimator._params.dtype,
    takes_any_dtype=False,
    widths=lambda estimator: {
        "X": estimator.n_features_in_,
        "code": estimator.n_components_,
        "reconstruction": estimator.n_features_in_,
    },
    about=lambda widths: f"{widths['X']} features, {widths['code']} components",
)
_IMPUTE = _Part.of("X", "X_imputed", _imputed)
_IMPUTER = _Converter(
    parts={"impute": _IMPUTE},
    default="impute",
    in_pipelines=_IMPUTE,
    dtype=lambda estimator: estimator._dtype,
    takes_any_dtype=True,
    widths=lambda estimator: {
        "X": estimator.n_features_in_,
        "X_imputed": len(estimator.get_feature_names_out()),
    },
    about=lambda widths: f"{widths['X']} features",
)
_OF_SAMPLES = _LABEL, _DECISION, _SCORES
_DETECTOR = _Converter(
    parts={"detect": _Part("X", _OF_SAMPLES, _detected)},
    default="detect",
    in_pipelines=_Part("X", _OF_SAMPLES[:2], _label_and_decision),
    dtype=lambda estimator: estimator._dtype,
    takes_any_dtype=True,
    widths=lambda estimator: {
        "X": estimator.n_features_in_,
        **dict.fromkeys(_OF_SAMPLES, 1),
    },
    about=lambda widths: f"{widths['X']} features",
)
_CONVERTERS: dict[type[_Estimator], _Converter] = {
    AutoencoderTransformer: _AUTOENCODER,
    VariationalAutoencoderTransformer: _AUTOENCODER,
    AutoencoderImputer: _IMPUTER,
    AutoencoderOutlierDetector: _DETECTOR,
}
_MEMBERS = tuple(_CONVERTERS)


def _converter_of(estimator: object) -> _Converter:
    """The row of an estimator's class, or of the one that it is derived from."""
    if isinstance(estimator, BaseAutoencoder):
        return _AUTOENCODER
    for kind, row in _CONVERTERS.items():
        if isinstance(estimator, kind):
            return row
    raise TypeError(
        f"to_onnx takes a fitted {' or '.join(c.__name__ for c in _MEMBERS)}, got "
        f"{type(estimator).__name__}. For a Pipeline call skae.onnx.register(), "
        "then skl2onnx.to_onnx(pipeline, X[:1])"
    )


# ---------------------------------------------------------------------------
# Activations, composed of operators that ONNX Runtime has for float32 and float64
# ---------------------------------------------------------------------------


def _identity(graph: _Graph, z: str) -> str:
    return z


def _exponential(graph: _Graph, z: str) -> str:
    """e^-|z|."""
    return graph.node("Exp", graph.node("Neg", graph.node("Abs", z)))


def _expm1(graph: _Graph, z: str) -> str:
    """e^z - 1 for z <= 0: 2 t / (1 - t) with t = tanh(z / 2), where nothing cancels."""
    t = graph.node("Tanh", graph.node("Mul", z, 0.5))
    return graph.node("Div", graph.node("Mul", t, 2.0), graph.node("Sub", 1.0, t))


def _log1p(graph: _Graph, e: str) -> str:
    """log(1 + e) for e in [0, 1]."""
    # Digits of e that 1 + e has lost are restored to first order, which is enough.
    u = graph.node("Add", e, 1.0)
    lost = graph.node("Sub", e, graph.node("Sub", u, 1.0))
    return graph.node("Add", graph.node("Log", u), graph.node("Div", lost, u))


def _logistic(graph: _Graph, z: str) -> str:
    # ONNX Runtime's Sigmoid bounds the absolute error only, in float32 by about 1e-7.
    e = _exponential(graph, z)
    above = graph.node("Where", graph.node("Less", z, 0.0), e, 1.0)
    return graph.node("Div", above, graph.node("Add", e, 1.0))


def _tanh(graph: _Graph, z: str) -> str:
    return graph.node("Tanh", z)


def _relu(graph: _Graph, z: str) -> str:
    return graph.node("Relu", z)


def _leaky_relu(graph: _Graph, z: str) -> str:
    return graph.node("Max", z, graph.node("Mul", z, LEAK))


def _elu(graph: _Graph, z: str, alpha: float = 1.0) -> str:
    negative = _expm1(graph, graph.node("Min", z, 0.0))
    if alpha != 1:
        negative = graph.node("Mul", negative, alpha)
    return graph.node("Add", graph.node("Relu", z), negative)


def _selu(graph: _Graph, z: str) -> str:
    return graph.node("Mul", _elu(graph, z, SELU_ALPHA), SELU_SCALE)


# Degrees of the polynomial that is e^(x^2) erfc(x) (1 + 2 x), for a relative error of
# 10^-7 and 10^-14.
_ERFCX_DEGREES = {np.dtype(np.float32): 11, np.dtype(np.float64): 20}


@cache
def _erfcx_polynomial(degree: int) -> list[float]:
    """Coefficients in (x - k) / (x + k), ascending; see `vector_math`."""
    series = chebyshev.chebinterpolate(vector_math.scaled_erfcx, degree)
    coefficients: list[float] = chebyshev.cheb2poly(series).tolist()
    return coefficients


def _gelu(graph: _Graph, z: str) -> str:
    # relu(z) - |z| times the standard normal distribution function at -|z|.
    size = graph.node("Abs", z)
    x = graph.node("Mul", size, 0.5**0.5)
    argument = graph.node(
        "Div",
        graph.node("Sub", x, ERFCX_CENTRE),
        graph.node("Add", x, ERFCX_CENTRE),
    )
    coefficients = _erfcx_polynomial(_ERFCX_DEGREES[graph.dtype])
    total: str | float = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = graph.node("Mul", total, argument)
        total = graph.node("Add", total, coefficient)
    e = graph.node("Exp", graph.node("Mul", graph.node("Mul", z, z), -0.5))
    tail = graph.node(
        "Div",
        graph.node("Mul", graph.node("Mul", e, total), 0.5),
        graph.node("Add", graph.node("Mul", x, 2.0), 1.0),
    )
    return graph.node("Sub", graph.node("Relu", z), graph.node("Mul", size, tail))


def _silu(graph: _Graph, z: str) -> str:
    return graph.node("Mul", z, _logistic(graph, z))


def _softplus(graph: _Graph, z: str) -> str:
    # relu(z) + log(1 + e).
    log1p = _log1p(graph, _exponential(graph, z))
    return graph.node("Add", graph.node("Relu", z), log1p)


# How each of `skae._compiled.activations.ACTIVATIONS` is composed of ONNX operators.
_ACTIVATIONS: dict[str, Callable[[_Graph, str], str]] = {
    "identity": _identity,
    "logistic": _logistic,
    "sigmoid": _logistic,
    "tanh": _tanh,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": _selu,
    "gelu": _gelu,
    "silu": _silu,
    "softplus": _softplus,
}
