"""Graphs of ONNX models: values, constants and nodes are added one by one."""

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from skae._typing import Floats

if TYPE_CHECKING:
    import onnx

# From 2022: old enough for every runtime in use, and has all the operators needed.
OPSET, IR_VERSION = 18, 8
# Operators of text are in a domain of their own. Its version 2 is from 2019.
ML, ML_OPSET = "ai.onnx.ml", 2


class Value(NamedTuple):
    """An input or an output of a model, of shape (n_samples, width)."""

    name: str
    type: int  # of `onnx.TensorProto`
    width: int


class Graph:
    """Adds nodes, and constants of a type, to a store.

    Values are known by their names.
    """

    def __init__(self, store: "ModelStore | ContainerStore", dtype: DTypeLike):
        from onnx import helper

        self.dtype = np.dtype(dtype)
        self.type = helper.np_dtype_to_tensor_dtype(self.dtype)
        self._store = store
        self.new_name = store.new_name
        self._constants: dict[str | float, str] = {}

    def in_dtype(self, dtype: DTypeLike) -> "Graph":
        """The same graph, with constants of another type."""
        return Graph(self._store, dtype)

    def integers(self, *values: int) -> str:
        """Add a list of integers; returns its name."""
        from onnx import TensorProto

        key = f"integers {values}"
        if key not in self._constants:
            self._constants[key] = name = self._store.new_name("integers")
            array = np.array(values, dtype=np.int64)
            self._store.add_constant(name, TensorProto.INT64, array)
        return self._constants[key]

    def texts(self, base: str, values: list[str]) -> str:
        """Add an array of text; returns its name."""
        from onnx import TensorProto

        name = self.new_name(base)
        array = np.array(values, dtype=object)
        self._store.add_constant(name, TensorProto.STRING, array)
        return name

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


class ModelStore:
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


class ContainerStore:
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
        domain = attributes.pop("domain", "")
        self._container.add_node(
            *(operator, inputs, output),
            op_domain=domain,
            op_version=ML_OPSET if domain == ML else None,
            name=name,
            **attributes,
        )

    def add_constant(self, name: str, onnx_type: int, values: np.ndarray) -> None:
        self._container.add_initializer(name, onnx_type, values.shape, values.ravel())


def dtype_of(onnx_type: int) -> np.dtype:
    """NumPy's dtype of a type; that of objects for text."""
    from onnx import helper

    return np.dtype(helper.tensor_dtype_to_np_dtype(onnx_type))


def select_columns(
    graph: Graph, rows: str, features: np.ndarray, n_features: int
) -> str:
    """Some of the features of samples."""
    if np.array_equal(features, np.arange(n_features)):
        return rows
    return graph.node("Gather", rows, graph.integers(*features.tolist()), axis=1)


def clip(graph: Graph, value: str, lowest: str | float, highest: str | float) -> str:
    """Values that are not below and not above bounds."""
    return graph.node("Min", graph.node("Max", value, lowest), highest)
