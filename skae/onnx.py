"""Autoencoders as ONNX models, which run without Python and without skae.

For skl2onnx, which converts whole pipelines, there is a converter to register.
"""

from collections import Counter
from functools import cache

import numpy as np
from numpy.polynomial import chebyshev
from sklearn.utils.validation import check_is_fitted

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer, __version__
from skae._base import BaseAutoencoder
from skae._compiled import vector_math
from skae._compiled.activations import LEAK, SELU_ALPHA, SELU_SCALE
from skae._compiled.vector_math import ERFCX_CENTRE
from skae._names import check_name
from skae._runtime.extras import check_installed

__all__ = ["register", "to_onnx"]


def __dir__():
    return __all__


# Of the year 2022: old enough for every runtime in use, and it has all that is needed.
_OPSET, _IR_VERSION = 18, 8

# What a part reads and writes, as its model's input and output are named.
_PARTS = {
    "encoder": ("X", "code"),
    "decoder": ("code", "reconstruction"),
    "reconstruct": ("X", "reconstruction"),
}
_MEMBERS = AutoencoderTransformer, VariationalAutoencoderTransformer


def to_onnx(estimator, part="reconstruct"):
    """ONNX model of a fitted autoencoder.

    Its input and output are of the type that the estimator was fitted in, float32 or
    float64. The number of rows is free.

    Parameters
    ----------
    estimator : AutoencoderTransformer or VariationalAutoencoderTransformer
        Fitted estimator. For a Pipeline, see :func:`register`.
    part : {"encoder", "decoder", "reconstruct"}, default="reconstruct"
        What the model computes:

        - "encoder": ``transform``, the output "code" of the input "X". Of a
          variational autoencoder the code is the posterior's mean.
        - "decoder": ``inverse_transform``, the output "reconstruction" of the input
          "code".
        - "reconstruct": one after the other, the output "reconstruction" of the input
          "X".

    Returns
    -------
    model : onnx.ModelProto
        The model. ``model.SerializeToString()`` is what runtimes read.

    Raises
    ------
    ImportError
        If onnx is not installed.
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If the estimator is no autoencoder of skae.
    ValueError
        If `part` is none of the three.

    See Also
    --------
    register : For pipelines.

    Notes
    -----
    The model centres and scales as the estimator does. It does not validate: a NaN in a
    row is a NaN in its output.

    Outputs are the estimator's but for rounding errors. Activations are made of
    operators that ONNX Runtime has for float64, too; it has none for the error function
    or the softplus, for example. They keep their digits for large and for small
    arguments.

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
    if not isinstance(estimator, BaseAutoencoder):
        raise TypeError(
            f"to_onnx takes a fitted {' or '.join(c.__name__ for c in _MEMBERS)}, got "
            f"{type(estimator).__name__}. For a Pipeline call skae.onnx.register(), "
            "then skl2onnx.to_onnx(pipeline, X[:1])"
        )
    check_name(part, "part", _PARTS)
    check_is_fitted(estimator)
    check_installed("skae.onnx.to_onnx", "onnx", extra="onnx")
    from onnx import helper

    input_name, output_name = _PARTS[part]
    store = _ModelStore()
    graph = _Graph(estimator, store)
    value = input_name
    if part != "decoder":
        value = _encoded(graph, value)
    if part != "encoder":
        value = _decoded(graph, value)
    graph.node("Identity", value, output=output_name)

    widths = {
        "X": estimator.n_features_in_,
        "code": estimator.n_components_,
        "reconstruction": estimator.n_features_in_,
    }
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
        doc_string=(
            f"{kind}, {part}: rows of {widths['X']} features, codes of {widths['code']}"
        ),
    )
    properties = {"skae_version": __version__, "estimator": kind, "part": part}
    helper.set_model_props(model, properties)
    return model


def register() -> None:
    """Let skl2onnx convert pipelines with an autoencoder.

    Afterwards ``skl2onnx.to_onnx`` knows what ``transform`` does, of
    :class:`skae.AutoencoderTransformer` and
    :class:`skae.VariationalAutoencoderTransformer`. It does no harm to call it again.

    Raises
    ------
    ImportError
        If skl2onnx or onnx is not installed.

    See Also
    --------
    to_onnx : The encoder, the decoder or both, without skl2onnx.

    Notes
    -----
    skl2onnx chooses the types of inputs. Within, an autoencoder computes in the type
    that it was fitted in, as its ``transform`` does; its code then becomes float64 if
    the input is, else float32. Fit in float32 what is to run in float32 throughout.

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


def _calculate_shape(operator):
    from skl2onnx.common.data_types import guess_tensor_type
    from skl2onnx.common.utils import check_input_and_output_numbers

    check_input_and_output_numbers(operator, input_count_range=1, output_count_range=1)
    check_is_fitted(operator.raw_operator)
    variable, code = operator.inputs[0], operator.outputs[0]
    code.type = guess_tensor_type(variable.type)
    code.type.shape = [
        variable.get_first_dimension(),
        operator.raw_operator.n_components_,
    ]


def _convert(scope, operator, container):
    from skl2onnx.common.data_types import guess_proto_type

    graph = _Graph(operator.raw_operator, _ContainerStore(scope, container))
    variable, code = operator.inputs[0], operator.outputs[0]
    rows = graph.node("Cast", variable.full_name, to=graph.type)
    graph.node(
        "Cast",
        _encoded(graph, rows),
        output=code.full_name,
        to=guess_proto_type(code.type),
    )


# ---------------------------------------------------------------------------
# Graphs
# ---------------------------------------------------------------------------


class _Graph:
    """The network of an estimator in the making: nodes and constants.

    Values go by their names. `store` keeps what is made.
    """

    def __init__(self, estimator, store):
        from onnx import helper

        self.estimator = estimator
        self.dtype = estimator._params.dtype
        self.type = helper.np_dtype_to_tensor_dtype(self.dtype)
        self._store = store
        self._constants = {}

    def node(self, operator, *inputs, output=None, **attributes):
        """Add a node; returns the name of its output.

        Inputs are names or numbers.
        """
        names = [
            value if isinstance(value, str) else self._constant(value, "number", value)
            for value in inputs
        ]
        output = output or self._store.new_name(operator.lower())
        self._store.add_node(operator, names, output, attributes)
        return output

    def constant(self, name, values):
        """Add an array, unless one of that name is there; returns its name now."""
        return self._constant(name, name, values)

    def _constant(self, key, base, values):
        if key not in self._constants:
            self._constants[key] = name = self._store.new_name(base)
            values = np.asarray(values, dtype=self.dtype, order="C")
            self._store.add_constant(name, self.type, values)
        return self._constants[key]


class _ModelStore:
    """Of a model of its own."""

    def __init__(self):
        self.nodes, self.initializers = [], []
        self._uses: Counter = Counter()

    def new_name(self, base):
        self._uses[base] += 1
        return base if self._uses[base] == 1 else f"{base}_{self._uses[base]}"

    def add_node(self, operator, inputs, output, attributes):
        from onnx import helper

        node = helper.make_node(operator, inputs, [output], name=output, **attributes)
        self.nodes.append(node)

    def add_constant(self, name, onnx_type, values):
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(values, name))


class _ContainerStore:
    """Of a model that skl2onnx makes."""

    def __init__(self, scope, container):
        self._scope, self._container = scope, container

    def new_name(self, base):
        return self._scope.get_unique_variable_name(base)

    def add_node(self, operator, inputs, output, attributes):
        name = self._scope.get_unique_operator_name(operator)
        self._container.add_node(operator, inputs, output, name=name, **attributes)

    def add_constant(self, name, onnx_type, values):
        self._container.add_initializer(name, onnx_type, values.shape, values.ravel())


# ---------------------------------------------------------------------------
# The network
# ---------------------------------------------------------------------------


def _encoded(graph, rows):
    """Code of rows, as `transform` gives it."""
    estimator = graph.estimator
    value = rows
    if estimator._offset.any():
        value = graph.node("Sub", value, graph.constant("offset", estimator._offset))
    if estimator.scale_ != 1:
        # As the kernels: a product, with a rounded factor.
        value = graph.node("Mul", value, 1 / estimator.scale_)
    middle = len(estimator.coefs_) // 2
    for i in range(middle):
        # The last layer of a variational encoder has means, then variances.
        n_units = estimator.n_components_ if i == middle - 1 else None
        value = _layer(graph, value, i, n_units)
    return value


def _decoded(graph, code):
    """Reconstruction of codes, as `inverse_transform` gives it."""
    estimator = graph.estimator
    n_layers = len(estimator.coefs_)
    value = code
    for i in range(n_layers // 2, n_layers):
        value = _layer(graph, value, i)
    if estimator.scale_ != 1:
        value = graph.node("Mul", value, estimator.scale_)
    if estimator._offset.any():
        value = graph.node("Add", value, graph.constant("offset", estimator._offset))
    return value


def _layer(graph, value, i, n_units=None):
    """The first units of layer i, all by default, of the values of the one before."""
    estimator = graph.estimator
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
# Activations: of operators that ONNX Runtime has for float32 and float64
# ---------------------------------------------------------------------------


def _identity(graph, z):
    return z


def _exponential(graph, z):
    """e^-|z|."""
    return graph.node("Exp", graph.node("Neg", graph.node("Abs", z)))


def _expm1(graph, z):
    """e^z - 1 for z <= 0: 2 t / (1 - t) with t = tanh(z / 2), where nothing cancels."""
    t = graph.node("Tanh", graph.node("Mul", z, 0.5))
    return graph.node("Div", graph.node("Mul", t, 2.0), graph.node("Sub", 1.0, t))


def _logistic(graph, z):
    # ONNX Runtime's Sigmoid has an absolute error only: in float32 of some 1e-7.
    e = _exponential(graph, z)
    above = graph.node("Where", graph.node("Less", z, 0.0), e, 1.0)
    return graph.node("Div", above, graph.node("Add", e, 1.0))


def _tanh(graph, z):
    return graph.node("Tanh", z)


def _relu(graph, z):
    return graph.node("Relu", z)


def _leaky_relu(graph, z):
    return graph.node("Max", z, graph.node("Mul", z, LEAK))


def _elu(graph, z, alpha=1.0):
    negative = _expm1(graph, graph.node("Min", z, 0.0))
    if alpha != 1:
        negative = graph.node("Mul", negative, alpha)
    return graph.node("Add", graph.node("Relu", z), negative)


def _selu(graph, z):
    return graph.node("Mul", _elu(graph, z, SELU_ALPHA), SELU_SCALE)


# Of the polynomial that is e^(x^2) erfc(x) (1 + 2 x), for a relative error of 10^-7
# and 10^-14.
_ERFCX_DEGREES = {np.dtype(np.float32): 11, np.dtype(np.float64): 20}


@cache
def _erfcx_polynomial(degree):
    """Coefficients in (x - k) / (x + k), ascending; see `vector_math`."""
    series = chebyshev.chebinterpolate(vector_math.scaled_erfcx, degree)
    return chebyshev.cheb2poly(series).tolist()


def _gelu(graph, z):
    # relu(z) - |z| times the standard normal distribution function at -|z|.
    size = graph.node("Abs", z)
    x = graph.node("Mul", size, 0.5**0.5)
    argument = graph.node(
        "Div",
        graph.node("Sub", x, ERFCX_CENTRE),
        graph.node("Add", x, ERFCX_CENTRE),
    )
    *others, total = _erfcx_polynomial(_ERFCX_DEGREES[graph.dtype])
    for coefficient in reversed(others):
        total = graph.node("Mul", total, argument)
        total = graph.node("Add", total, coefficient)
    e = graph.node("Exp", graph.node("Mul", graph.node("Mul", z, z), -0.5))
    tail = graph.node(
        "Div",
        graph.node("Mul", graph.node("Mul", e, total), 0.5),
        graph.node("Add", graph.node("Mul", x, 2.0), 1.0),
    )
    return graph.node("Sub", graph.node("Relu", z), graph.node("Mul", size, tail))


def _silu(graph, z):
    return graph.node("Mul", z, _logistic(graph, z))


def _softplus(graph, z):
    # relu(z) + log(1 + e), whose digits are restored where 1 + e has lost those of e:
    # to first order, which is all that is left.
    e = _exponential(graph, z)
    u = graph.node("Add", e, 1.0)
    lost = graph.node("Sub", e, graph.node("Sub", u, 1.0))
    log1p = graph.node("Add", graph.node("Log", u), graph.node("Div", lost, u))
    return graph.node("Add", graph.node("Relu", z), log1p)


# How each of `skae._compiled.activations.ACTIVATIONS` is composed of ONNX' operators.
_ACTIVATIONS = {
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
