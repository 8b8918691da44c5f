"""Which estimators become models, and what these compute."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self, TypeAlias

from numpy.typing import DTypeLike

from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
)
from skae._base.autoencoder import BaseAutoencoder
from skae._data.tables import Table
from skae.onnx._detector import DECISION, LABEL, SCORES, detect, label_and_decision
from skae.onnx._graph import Graph, Value
from skae.onnx._imputer import impute, imputed_values
from skae.onnx._network import decode_codes, encode_rows
from skae.onnx._tables import codes_of, matrix, restored, table_values

_Estimator: TypeAlias = (
    AutoencoderTransformer
    | VariationalAutoencoderTransformer
    | AutoencoderImputer
    | AutoencoderOutlierDetector
)


class Part(NamedTuple):
    """What a model may compute."""

    input: str  # name
    outputs: tuple[str, ...]  # names
    # The graph between them: from the inputs to names of the outputs.
    make: Callable[[Graph, Any, Sequence[Value]], Sequence[str]]

    @classmethod
    def of(
        cls,
        given: str,
        outputs: tuple[str, ...],
        make: Callable[[Graph, Any, str], Sequence[str]],
    ) -> Self:
        """With one input."""

        def make_of_one(
            graph: Graph, estimator: Any, inputs: Sequence[Value]
        ) -> Sequence[str]:
            (only,) = inputs
            return make(graph, estimator, only.name)

        return cls(given, outputs, make_of_one)


class Converter(NamedTuple):
    """How estimators of a class become models."""

    parts: dict[str, Part]
    default: str  # part
    in_pipelines: Part  # what skl2onnx asks for
    dtype: Callable[[Any], DTypeLike]  # that the estimator was fitted in
    takes_any_dtype: bool  # or only that one
    widths: Callable[[Any], dict[str, int]]  # of inputs and outputs
    about: Callable[[dict[str, int]], str]

    def inputs(self, graph: Graph, estimator: Any, part: Part) -> list[Value]:
        """The inputs of a part; those of a table are several."""
        return self._values(graph, estimator, part.input)

    def outputs(
        self, graph: Graph, estimator: Any, part: Part, given: Sequence[Value]
    ) -> list[Value]:
        """The outputs of a part for given inputs; those of a table are several."""
        if table_of(estimator) is not None and part.outputs == _IMPUTED:
            return [
                value._replace(
                    name=graph.new_name("_".join(filter(None, [*_IMPUTED, value.name])))
                )
                for value in imputed_values(estimator, given)
            ]
        return [
            value
            for name in part.outputs
            for value in self._values(graph, estimator, name)
        ]

    def _values(self, graph: Graph, estimator: Any, name: str) -> list[Value]:
        """The inputs, or the outputs, of this name."""
        from onnx import TensorProto

        table = table_of(estimator)
        if table is not None and name in _OF_TABLES:
            return table_values(graph, table, name)
        of_values = TensorProto.INT64 if name == LABEL else graph.type
        return [Value(graph.new_name(name), of_values, self.widths(estimator)[name])]


def table_of(estimator: Any) -> Table | None:
    """How tables with categories become matrices; None if an estimator takes none."""
    table: Table | None = getattr(estimator, "_table", None)
    return table


# What models take and give of tables with categories.
_OF_TABLES = _X, _RECONSTRUCTION = "X", "reconstruction"
_IMPUTED = ("X_imputed",)  # as many as `imputed_values` are


def _encode(
    graph: Graph, estimator: BaseAutoencoder, given: Sequence[Value]
) -> list[str]:
    """Codes of samples."""
    table = estimator._table
    rows = given[0].name
    if table is not None:
        rows = matrix(graph, table, given, codes_of(graph, table, given))
    return [encode_rows(graph, estimator, rows)]


def _decode(graph: Graph, estimator: BaseAutoencoder, code: str) -> list[str]:
    """Reconstructions of codes."""
    outputs, table = decode_codes(graph, estimator, code), estimator._table
    return [outputs] if table is None else restored(graph, table, outputs)


def _reconstruct(
    graph: Graph, estimator: BaseAutoencoder, given: Sequence[Value]
) -> list[str]:
    """Reconstructions of samples."""
    (code,) = _encode(graph, estimator, given)
    return _decode(graph, estimator, code)


_ENCODER = Part(_X, ("code",), _encode)
_AUTOENCODER = Converter(
    parts={
        "encoder": _ENCODER,
        "decoder": Part.of("code", (_RECONSTRUCTION,), _decode),
        "reconstruct": Part(_X, (_RECONSTRUCTION,), _reconstruct),
    },
    default="reconstruct",
    in_pipelines=_ENCODER,
    dtype=lambda estimator: estimator._params.dtype,
    takes_any_dtype=False,
    widths=lambda estimator: {
        _X: estimator.n_features_in_,
        "code": estimator.n_components_,
        _RECONSTRUCTION: estimator.n_features_in_,
    },
    about=lambda widths: f"{widths[_X]} features, {widths['code']} components",
)
_IMPUTE = Part(_X, _IMPUTED, impute)
_IMPUTER = Converter(
    parts={"impute": _IMPUTE},
    default="impute",
    in_pipelines=_IMPUTE,
    dtype=lambda estimator: estimator._dtype,
    takes_any_dtype=True,
    widths=lambda estimator: {
        _X: estimator.n_features_in_,
        _IMPUTED[0]: len(estimator.get_feature_names_out()),
    },
    about=lambda widths: f"{widths[_X]} features",
)
_OF_SAMPLES = LABEL, DECISION, SCORES
_DETECTOR = Converter(
    parts={"detect": Part(_X, _OF_SAMPLES, detect)},
    default="detect",
    in_pipelines=Part(_X, _OF_SAMPLES[:2], label_and_decision),
    dtype=lambda estimator: estimator._dtype,
    takes_any_dtype=True,
    widths=lambda estimator: {
        _X: estimator.n_features_in_,
        **dict.fromkeys(_OF_SAMPLES, 1),
    },
    about=lambda widths: f"{widths[_X]} features",
)
_CONVERTERS: dict[type[_Estimator], Converter] = {
    AutoencoderTransformer: _AUTOENCODER,
    VariationalAutoencoderTransformer: _AUTOENCODER,
    AutoencoderImputer: _IMPUTER,
    AutoencoderOutlierDetector: _DETECTOR,
}
MEMBERS = tuple(_CONVERTERS)


def converter_of(estimator: object) -> Converter:
    """The row of an estimator's class, or of the one that it is derived from."""
    if isinstance(estimator, BaseAutoencoder):
        return _AUTOENCODER
    for kind, row in _CONVERTERS.items():
        if isinstance(estimator, kind):
            return row
    raise TypeError(
        f"to_onnx takes a fitted {' or '.join(c.__name__ for c in MEMBERS)}, got "
        f"{type(estimator).__name__}. For a Pipeline call skae.onnx.register(), "
        "then skl2onnx.to_onnx(pipeline, X[:1])"
    )
