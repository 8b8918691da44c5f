"""What skl2onnx calls: the shapes of outputs, and the graph of an estimator."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skae import AutoencoderImputer
from skae.onnx._converters import converter_of, table_of
from skae.onnx._detector import LABEL
from skae.onnx._graph import ContainerStore, Graph, Value
from skae.onnx._imputer import imputed_values


def parse_transformer(
    scope: Any, estimator: Any, inputs: list[Any], custom_parsers: Any = None
) -> list[Any]:
    """Declare the operator of an autoencoder or an imputer, and its outputs."""
    check_is_fitted(estimator)
    operator = scope.declare_local_operator(alias_of(type(estimator)), estimator)
    operator.inputs = inputs
    declared = [("variable", _type_of_numbers(inputs))]
    if _imputes_table(estimator):  # columns, which later steps know by their names
        declared = [
            (value.name or "variable", _type_of_column(value, inputs))
            for value in imputed_values(estimator, _given(estimator, inputs))
        ]
    for pair in declared:
        operator.outputs.append(scope.declare_local_variable(*pair))
    return list(operator.outputs)


def _imputes_table(estimator: Any) -> bool:
    """Whether an estimator is an imputer of tables with categories."""
    is_imputer = isinstance(estimator, AutoencoderImputer)
    return is_imputer and table_of(estimator) is not None


def _given(estimator: Any, inputs: list[Any]) -> list[Value]:
    """Inputs of an operator, as graphs have them."""
    from skl2onnx.common.data_types import guess_proto_type

    n_features = estimator.n_features_in_
    return [
        Value(v.full_name, guess_proto_type(v.type), v.type.shape[1] or n_features)
        for v in inputs
    ]


def alias_of(member: type) -> str:
    """Name that a class has for skl2onnx."""
    return f"Skae{member.__name__}"


def _type_of_numbers(inputs: list[Any]) -> Any:
    """Type of outputs: float64 if an input is, which need not be the first."""
    from skl2onnx.common.data_types import DoubleTensorType, guess_tensor_type

    if any(isinstance(variable.type, DoubleTensorType) for variable in inputs):
        return DoubleTensorType()
    return guess_tensor_type(inputs[0].type)


def _type_of_column(value: Value, inputs: list[Any]) -> Any:
    """Type of an output that is a column, of one of the inputs' types, or of flags."""
    from skl2onnx.common.data_types import BooleanTensorType, guess_proto_type

    kinds = {guess_proto_type(v.type): type(v.type) for v in inputs}
    first = inputs[0].get_first_dimension()
    return kinds.get(value.type, BooleanTensorType)([first, value.width])


def calculate_shape(operator: Any) -> None:
    """Set the types and shapes of the outputs."""
    from skl2onnx.common.data_types import Int64TensorType
    from skl2onnx.common.utils import check_input_and_output_numbers

    estimator, inputs = operator.raw_operator, operator.inputs
    check_is_fitted(estimator)
    converter = converter_of(estimator)
    names = converter.in_pipelines.outputs
    if _imputes_table(estimator):
        values = imputed_values(estimator, _given(estimator, inputs))
        for value, result in zip(values, operator.outputs, strict=True):
            result.type = _type_of_column(value, inputs)
        return
    n_inputs = 1 if table_of(estimator) is None else [1, None]
    check_input_and_output_numbers(
        operator, input_count_range=n_inputs, output_count_range=len(names)
    )
    widths = converter.widths(estimator)
    for name, result in zip(names, operator.outputs, strict=True):
        result.type = Int64TensorType() if name == LABEL else _type_of_numbers(inputs)
        result.type.shape = [inputs[0].get_first_dimension(), widths[name]]


def convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the graph of an estimator to a model."""
    from onnx import helper
    from skl2onnx.common.data_types import guess_proto_type, guess_tensor_type

    estimator = operator.raw_operator
    converter = converter_of(estimator)
    dtype, is_table = converter.dtype(estimator), table_of(estimator) is not None
    if converter.takes_any_dtype and is_table:
        dtype = np.float64  # outputs are cast
    elif converter.takes_any_dtype:
        wanted = guess_proto_type(guess_tensor_type(operator.inputs[0].type))
        dtype = helper.tensor_dtype_to_np_dtype(wanted)
    graph = Graph(ContainerStore(scope, container), dtype)
    given = _given(estimator, operator.inputs)
    if not is_table:
        (only,) = given
        rows = graph.node("Cast", only.name, to=graph.type)
        given = [only._replace(name=rows, type=graph.type)]
    values = converter.in_pipelines.make(graph, estimator, given)
    for value, result in zip(values, operator.outputs, strict=True):
        to = guess_proto_type(result.type)
        graph.node("Cast", value, output=result.full_name, to=to)
