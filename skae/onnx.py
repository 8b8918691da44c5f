"""Convert estimators to ONNX models, which run without Python and without skae.

A converter can be registered with skl2onnx, which converts whole pipelines.
"""

import numbers
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import DTypeLike
from sklearn.utils.validation import check_is_fitted

from skae import (
    AutoencoderImputer,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
    __version__,
)
from skae._base import BaseAutoencoder
from skae._compiled import vector_math
from skae._compiled.activations import LEAK, SELU_ALPHA, SELU_SCALE
from skae._compiled.vector_math import ERFCX_CENTRE
from skae._data.gaussian import Gaussian
from skae._imputer import LARGEST_DEVIATION
from skae._names import check_name
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
    AutoencoderTransformer | VariationalAutoencoderTransformer | AutoencoderImputer
)


def to_onnx(
    estimator: AutoencoderTransformer
    | VariationalAutoencoderTransformer
    | AutoencoderImputer,
    part: str = "auto",
) -> "onnx.ModelProto":
    """Convert a fitted autoencoder, or imputer, to an ONNX model.

    Its input and output have the type that the estimator was fitted in, float32 or
    float64. The number of samples is free.

    Parameters
    ----------
    estimator : AutoencoderTransformer, VariationalAutoencoderTransformer or \
            AutoencoderImputer
        Fitted estimator. For a Pipeline, see :func:`register`.
    part : {"auto", "encoder", "decoder", "reconstruct", "impute"}, default="auto"
        What the model computes. "auto" is "reconstruct" of an autoencoder, and "impute"
        of an imputer.

        - "encoder": ``transform``, from the input "X" to the output "code". The code
          of a variational autoencoder is the posterior's mean.
        - "decoder": ``inverse_transform``, from "code" to "reconstruction".
        - "reconstruct": both, from "X" to "reconstruction".
        - "impute": an imputer's ``transform``, from "X" to "X_imputed".

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
    An imputer's network computes in float32, whatever the type of the data.

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
    from onnx import helper

    (input_name, output_name), make_graph = converter.parts[part]
    store = _ModelStore()
    graph = _Graph(store, converter.dtype(estimator))
    value = make_graph(graph, estimator, input_name)
    graph.node("Identity", value, output=output_name)

    widths = converter.widths(estimator)
    input_info, output_info = (
        helper.make_tensor_value_info(name, graph.type, ["n_samples", widths[name]])
        for name in (input_name, output_name)
    )
    kind = type(estimator).__name__
    model = helper.make_model(
        helper.make_graph(
            store.nodes, part, [input_info], [output_info], store.initializers
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
    """Let skl2onnx convert pipelines with an autoencoder or an imputer.

    Afterwards ``skl2onnx.to_onnx`` converts the ``transform`` of
    :class:`skae.AutoencoderTransformer`, :class:`skae.AutoencoderImputer` and
    :class:`skae.VariationalAutoencoderTransformer`. Calling this again does no harm.

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
    What an imputer gives is in the type of the input from the beginning.

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
    from skl2onnx.common.data_types import guess_tensor_type
    from skl2onnx.common.utils import check_input_and_output_numbers

    check_input_and_output_numbers(operator, input_count_range=1, output_count_range=1)
    estimator = operator.raw_operator
    check_is_fitted(estimator)
    variable, result = operator.inputs[0], operator.outputs[0]
    result.type = guess_tensor_type(variable.type)
    converter = _converter_of(estimator)
    (_, name), _ = converter.parts[converter.transform]
    width = converter.widths(estimator)[name]
    result.type.shape = [variable.get_first_dimension(), width]


def _convert(scope: Any, operator: Any, container: Any) -> None:
    from onnx import helper
    from skl2onnx.common.data_types import guess_proto_type

    estimator = operator.raw_operator
    variable, result = operator.inputs[0], operator.outputs[0]
    wanted = guess_proto_type(result.type)
    converter = _converter_of(estimator)
    dtype = converter.dtype(estimator)
    if converter.takes_any_dtype:
        dtype = helper.tensor_dtype_to_np_dtype(wanted)
    graph = _Graph(_ContainerStore(scope, container), dtype)
    _, make_graph = converter.parts[converter.transform]
    rows = graph.node("Cast", variable.full_name, to=graph.type)
    value = make_graph(graph, estimator, rows)
    graph.node("Cast", value, output=result.full_name, to=wanted)


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

    def new_name(self, base: str) -> str:
        self._uses[base] += 1
        return base if self._uses[base] == 1 else f"{base}_{self._uses[base]}"

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


def _code(graph: _Graph, estimator: BaseAutoencoder, value: str) -> str:
    """Code of samples that the network sees."""
    middle = len(estimator.coefs_) // 2
    for i in range(middle):
        # The last layer of a variational encoder has means, then variances.
        n_units = estimator.n_components_ if i == middle - 1 else None
        value = _layer(graph, estimator, value, i, n_units)
    return value


def _filled(graph: _Graph, rows: str, is_missing: str, gaussian: Gaussian) -> str:
    """Rows with a distribution's expectations of missing entries."""
    if gaussian.loadings.shape[1]:
        expected = _expected(graph, rows, is_missing, gaussian)
    else:
        expected = graph.constant("missing_mean", gaussian.mean)
    return graph.node("Where", is_missing, expected, rows)


def _expected(graph: _Graph, rows: str, is_missing: str, gaussian: Gaussian) -> str:
    """Expectations of all entries given the observed ones, computed in float64."""
    wide = graph.in_dtype(np.float64)
    mean, loadings, noise = gaussian
    n_features, n = loadings.shape
    squares = np.einsum("ja,jb->jab", loadings, loadings).reshape(n_features, n * n)
    deviations = wide.node(
        "Sub",
        wide.node("Cast", rows, to=wide.type),
        wide.constant("missing_mean_64", mean),
    )
    deviations = wide.node("Where", is_missing, 0.0, deviations)
    known = wide.node("MatMul", deviations, wide.constant("missing_loadings", loadings))
    is_observed = wide.node("Where", is_missing, 0.0, 1.0)
    precision = wide.node(
        "MatMul", is_observed, wide.constant("missing_squares", squares)
    )
    precision = wide.node("Reshape", precision, wide.integers(-1, n, n))
    noise_matrix = wide.constant("missing_noise", noise * np.eye(n))
    precision = wide.node("Add", precision, noise_matrix)
    known = wide.node("Reshape", known, wide.integers(-1, n, 1))
    scores = wide.node(
        "Reshape", _solved(wide, precision, known, n), wide.integers(-1, n)
    )
    expected = wide.node(
        "MatMul", scores, wide.constant("missing_loadings_t", loadings.T)
    )
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
    n_layers = len(estimator.coefs_)
    value = code
    for i in range(n_layers // 2, n_layers):
        value = _layer(graph, estimator, value, i)
    if estimator.scale_ != 1:
        value = graph.node("Mul", value, estimator.scale_)
    if estimator._offset.any():
        value = graph.node("Add", value, graph.constant("offset", estimator._offset))
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
    return _ACTIVATIONS[estimator._architecture["activations"][i]](graph, z)


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
# Which estimators there are
# ---------------------------------------------------------------------------


class _Converter(NamedTuple):
    """How estimators of a class become models."""

    # Of each part the names of input and output, and what makes the graph between.
    parts: dict[str, tuple[tuple[str, str], Callable[[_Graph, Any, str], str]]]
    default: str  # part
    transform: str  # the part that is the method of this name
    dtype: Callable[[Any], DTypeLike]  # that the estimator was fitted in
    takes_any_dtype: bool  # or only that one
    widths: Callable[[Any], dict[str, int]]  # of inputs and outputs
    about: Callable[[dict[str, int]], str]


_AUTOENCODER = _Converter(
    parts={
        "encoder": (("X", "code"), _encoded),
        "decoder": (("code", "reconstruction"), _decoded),
        "reconstruct": (("X", "reconstruction"), _reconstructed),
    },
    default="reconstruct",
    transform="encoder",
    dtype=lambda estimator: estimator._params.dtype,
    takes_any_dtype=False,
    widths=lambda estimator: {
        "X": estimator.n_features_in_,
        "code": estimator.n_components_,
        "reconstruction": estimator.n_features_in_,
    },
    about=lambda widths: f"{widths['X']} features, {widths['code']} components",
)
_IMPUTER = _Converter(
    parts={"impute": (("X", "X_imputed"), _imputed)},
    default="impute",
    transform="impute",
    dtype=lambda estimator: estimator._dtype,
    takes_any_dtype=True,
    widths=lambda estimator: {
        "X": estimator.n_features_in_,
        "X_imputed": len(estimator.get_feature_names_out()),
    },
    about=lambda widths: f"{widths['X']} features",
)
_CONVERTERS: dict[type[_Estimator], _Converter] = {
    AutoencoderTransformer: _AUTOENCODER,
    VariationalAutoencoderTransformer: _AUTOENCODER,
    AutoencoderImputer: _IMPUTER,
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
    # relu(z) + log(1 + e). Where 1 + e has lost digits of e they are restored to first
    # order, which is enough.
    e = _exponential(graph, z)
    u = graph.node("Add", e, 1.0)
    lost = graph.node("Sub", e, graph.node("Sub", u, 1.0))
    log1p = graph.node("Add", graph.node("Log", u), graph.node("Div", lost, u))
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
