"""Convert estimators to ONNX models, which run without Python and without skae.

A converter can be registered with skl2onnx, which converts whole pipelines.
"""

from typing import TYPE_CHECKING

from sklearn.utils.validation import check_is_fitted

from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
    __version__,
)
from skae._names import check_name
from skae._runtime.extras import check_installed
from skae.onnx._converters import MEMBERS, converter_of
from skae.onnx._graph import IR_VERSION, ML, ML_OPSET, OPSET, Graph, ModelStore, Value
from skae.onnx._pipelines import (
    alias_of,
    calculate_shape,
    convert,
    parse_transformer,
)

if TYPE_CHECKING:
    import onnx

__all__ = ["register", "to_onnx"]


def __dir__() -> list[str]:
    return __all__


def to_onnx(
    estimator: AutoencoderTransformer
    | VariationalAutoencoderTransformer
    | AutoencoderImputer
    | AutoencoderOutlierDetector,
    part: str = "auto",
) -> "onnx.ModelProto":
    """Convert a fitted autoencoder, imputer or outlier detector to an ONNX model.

    Its input and outputs have the type that the estimator was fitted in, float32 or
    float64. The number of samples is free. A model of a table with categories has an
    input for each column, see Notes.

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
        with ``sample_posterior=True``, or that keeps no column; if a column has both
        text and numbers as categories.

    See Also
    --------
    register : Convert pipelines with skl2onnx.

    Notes
    -----
    The model centers, scales and fills missing entries, which are NaN, as the estimator
    does. (They are `missing_values` for an imputer.) It does not validate.

    An estimator that was fitted to a data frame with categories becomes a model with an
    input of shape (n_samples, 1) for each column, which has its name. "decoder",
    "reconstruct" and "impute" have an output for each column, "reconstruction_age" or
    "X_imputed_age" for the column "age"; indicators are outputs of booleans,
    "X_imputed_missingindicator_age". An estimator that was fitted to an array whose
    columns have one type, all text for example, has one "X" and one "reconstruction" or
    "X_imputed". Columns of pandas that have NumPy's numbers have their types; others
    are floats, in which NaN is a missing value. Categories are text, or numbers if all
    are numbers. "", NaN, None and pandas.NA are missing text, unless they are
    categories. Categories that the fit has not seen count as by the estimator, without
    a warning and also with ``handle_unknown="error"``: as missing values, which an
    imputer leaves as they are, and for a detector as very rare.

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
    converter = converter_of(estimator)
    check_name(part, "part", ["auto", *converter.parts])
    part = converter.default if part == "auto" else part
    check_is_fitted(estimator)
    check_installed("skae.onnx.to_onnx", "onnx", extra="onnx")
    from onnx import helper

    made = converter.parts[part]
    store = ModelStore()
    graph = Graph(store, converter.dtype(estimator))
    given = converter.inputs(graph, estimator, made)
    wanted = converter.outputs(graph, estimator, made, given)
    found = made.make(graph, estimator, given)
    for of_value, value in zip(found, wanted, strict=True):
        graph.node("Identity", of_value, output=value.name)
    kind = type(estimator).__name__
    domains = {node.domain for node in store.nodes}
    opsets = {"": OPSET, **({ML: ML_OPSET} if ML in domains else {})}
    model = helper.make_model(
        helper.make_graph(
            store.nodes,
            part,
            [_about(value) for value in given],
            [_about(value) for value in wanted],
            store.initializers,
        ),
        opset_imports=[helper.make_opsetid(*opset) for opset in opsets.items()],
        ir_version=IR_VERSION,
        producer_name="skae",
        producer_version=__version__,
        doc_string=f"{kind}, {part}: {converter.about(converter.widths(estimator))}",
    )
    properties = {"skae_version": __version__, "estimator": kind, "part": part}
    helper.set_model_props(model, properties)
    return model


def _about(value: Value) -> "onnx.ValueInfoProto":
    from onnx import helper

    shape: list[str | int | None] = ["n_samples", value.width]
    return helper.make_tensor_value_info(value.name, value.type, shape)


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

    An estimator that was fitted to a table with categories takes an input for each
    column, as skl2onnx makes them for a data frame, or several columns in one. (In a
    ColumnTransformer, whose columns for one estimator skl2onnx merges, they need to
    have one type.) Codes and scores are float64 if a column is. Columns that an imputer
    gives have the types and the names of its inputs, for the steps that follow it.

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

    for member in MEMBERS:
        is_detector = issubclass(member, AutoencoderOutlierDetector)
        update_registered_converter(
            *(member, alias_of(member), calculate_shape, convert),
            parser=None if is_detector else parse_transformer,
        )
