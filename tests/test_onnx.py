"""ONNX models against the estimators they are made of, in ONNX Runtime."""

import functools
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

import skae
from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
)
from skae._compiled.activations import ACTIVATIONS
from skae.onnx import register, to_onnx
from skae.onnx._activations import ACTIVATIONS as OF_OPERATORS

from .support.cases import ACTIVATION_NAMES, ALL_CASES, RANGES, make, make_data
from .support.libraries import (
    NUMBERS,
    PLAIN,
    TABLES,
    WHOLE,
    columns_of,
    repeated,
    text_array,
)

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")


PARTS = ("encoder", "decoder", "reconstruct")
DTYPES = (np.float32, np.float64)
TOLERANCES = {np.float32: 1e-5, np.float64: 1e-12}
SMALL = {"max_iter": 5, "init": "random", "early_stopping": False, "random_state": 0}


def session(model):
    """A session with a model, which is valid and goes through a file's bytes."""
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def outputs(model, X):
    """What a model, or a session, with one input and one output makes of rows."""
    if isinstance(model, onnx.ModelProto):
        model = session(model)
    (name,) = [value.name for value in model.get_inputs()]
    (found,) = model.run(None, {name: X})
    return found


def rows_of(estimator, part, X):
    """What a part takes."""
    X = X.astype(estimator._params.dtype)
    return estimator.transform(X) if part == "decoder" else X


def by_estimator(estimator, part, X):
    if part == "decoder":
        return estimator.inverse_transform(X)
    code = estimator.transform(X)
    return code if part == "encoder" else estimator.inverse_transform(code)


def assert_same(found, expected, tolerance=None):
    """Equal in shape and type, and in value relative to the scale of all."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    scale = np.abs(expected).max()
    assert 0 < scale < np.inf
    tolerance = tolerance or TOLERANCES[found.dtype.type]
    assert np.abs(found - expected).max() <= tolerance * scale


def assert_parity(estimator, part, X):
    X = rows_of(estimator, part, X)
    found = outputs(to_onnx(estimator, part), X)
    assert_same(found, by_estimator(estimator, part, X))


def test_every_activation_has_a_row():
    assert list(OF_OPERATORS) == list(ACTIVATIONS)
    assert set(ACTIVATION_NAMES) | {"sigmoid"} == set(OF_OPERATORS)


def activation_alone(name, dtype):
    """An estimator whose code is the activation of its only feature."""
    X = np.linspace(-1, 1, 9, dtype=dtype)[:, np.newaxis]
    estimator = AutoencoderTransformer(
        1, hidden_layer_sizes=(), code_activation=name, scale=None, **SMALL
    ).fit(X)
    assert estimator._params.shape == (4,)
    estimator._params[:] = 1, 1, 0, 0  # weights, biases
    return estimator


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_of_all_sizes(name, dtype):
    """Digit by digit, from the smallest numbers to the largest."""
    largest = 36 if dtype == np.float32 else 300
    sizes = np.concatenate(
        [np.logspace(-largest, largest, 4001), np.linspace(0, 100, 4001)]
    )
    z = np.concatenate([-sizes, sizes]).astype(dtype)[:, np.newaxis]
    estimator = activation_alone(name, dtype)
    expected = estimator.transform(z)
    found = outputs(to_onnx(estimator, "encoder"), z)
    assert np.isfinite(expected).all()
    error = np.abs(found - expected)
    # The kernels' exponential ends at the smallest normal number.
    tiny = np.finfo(dtype).tiny * np.maximum(1, np.abs(z))
    assert (error <= TOLERANCES[dtype] * np.abs(expected) + 2 * tiny).all()


@functools.cache
def fitted_deep(activation, dtype, tied):
    """Two hidden layers, which the code and the output are like."""
    return AutoencoderTransformer(
        4,
        hidden_layer_sizes=(8, 5),
        activation=activation,
        code_activation=activation,
        output_activation=activation,
        scale=2.0,
        tied_weights=tied,
        **SMALL,
    ).fit(make_data().astype(dtype))


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_deep_networks(activation, dtype, tied):
    estimator = fitted_deep(activation, dtype, tied)
    for part in PARTS:
        model = session(to_onnx(estimator, part))
        for size in (1e-6, 1.0, 1e6):
            # The same mean: the input of the network is of that size.
            X = rows_of(estimator, part, estimator.mean_ + size * make_data(seed=1))
            assert_same(outputs(model, X), by_estimator(estimator, part, X))


@pytest.mark.parametrize("name", ALL_CASES)
def test_cases(name):
    # One dtype each: the activations' test has both.
    dtype = DTYPES[list(ALL_CASES).index(name) % 2]
    loss = make(name).loss
    estimator = make(name).fit(make_data(loss=loss).astype(dtype))
    for part in PARTS:
        assert_parity(estimator, part, make_data(n_rows=40, loss=loss, seed=1))


@pytest.mark.parametrize("name", ["default", "log_loss", "variational"])
def test_missing_values(dtype, name):
    """In models of complete and of incomplete data."""
    loss = make(name).loss
    X = make_data(loss=loss).astype(dtype)
    incomplete = np.where(np.random.default_rng(0).random(X.shape) < 0.3, np.nan, X)
    incomplete[0] = np.nan
    for train in (X, incomplete.astype(dtype)):
        estimator = make(name).fit(train)
        for rows in (X, incomplete.astype(dtype), X[:0]):
            for part in ("encoder", "reconstruct"):
                found = outputs(session(to_onnx(estimator, part)), rows)
                if len(rows):
                    assert_same(found, by_estimator(estimator, part, rows))
                else:
                    assert len(found) == 0


def table(dtype, n_rows=250, n_features=6, missing=np.nan):
    X = make_data(n_rows, n_features).astype(dtype)
    X[np.random.default_rng(0).random(X.shape) < 0.2] = missing
    X[:, 2] = missing  # no value
    X[3, 1:] = missing
    return X


QUICK = AutoencoderTransformer(4, hidden_layer_sizes=(8,), **SMALL)
IMPUTERS = {
    "default": {},
    "whole": {"add_indicator": True, "keep_empty_features": True},
    "number": {"missing_values": -9, "add_indicator": True},
}


@pytest.mark.parametrize("n_rows", [30, 250])  # without a network, and with one
@pytest.mark.parametrize("name", IMPUTERS)
def test_imputers(name, n_rows, dtype):
    imputer = AutoencoderImputer(QUICK, random_state=0, **IMPUTERS[name])
    missing = imputer.missing_values
    X = table(dtype, n_rows, missing=missing)
    imputer.fit(X)
    if n_rows == 30:
        assert imputer.estimator_ is None
    else:
        imputer.weight_[:] = 1, 0.5, 0, 1, 1  # of a network that computes in float32
        assert imputer.estimator_.coefs_[0].dtype == np.float32
    model = session(to_onnx(imputer))
    new = table(dtype, 40, missing=missing)
    new[5:, 2] = 3  # where there was no value
    new[7, :2] = 0.9 * np.finfo(dtype).max, missing  # far away
    tolerance = 1e-12 if n_rows == 30 and dtype == np.float64 else 1e-5
    for rows in (X, new, make_data(5).astype(dtype)):
        found, expected = outputs(model, rows), imputer.transform(rows)
        assert np.isfinite(found).all()
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        is_given = rows[:, imputer._is_kept] != missing
        is_given &= ~np.isnan(rows[:, imputer._is_kept])
        if not imputer.keep_empty_features:
            np.testing.assert_array_equal(
                found[:, :5][is_given], rows[:, imputer._is_kept][is_given]
            )
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
        if rows is new:
            bounds = imputer._lowest[1], imputer._highest[1]
            assert np.isin(found[7, 1], np.array(bounds, dtype))
    assert len(outputs(model, X[:0])) == 0


def test_imputers_of_many_features_and_of_none():
    """With all directions, and with some of them; without any value."""
    for n_features in (1, 60, 100):
        X = table(np.float64, 400, n_features + 3)[:, 3:]
        imputer = AutoencoderImputer(QUICK, random_state=0).fit(X)
        imputer.weight_[:] = 0
        assert_same(outputs(to_onnx(imputer), X[:50]), imputer.transform(X[:50]))
    nothing = np.full((3, 2), np.nan)
    imputer = AutoencoderImputer(keep_empty_features=True).fit(nothing)
    new = np.array([[1.0, np.nan]])
    assert outputs(to_onnx(imputer), new).tolist() == [[1, 0]]


def test_signature_of_an_imputer(dtype):
    imputer = AutoencoderImputer(QUICK, add_indicator=True, random_state=0)
    model = to_onnx(imputer.fit(table(dtype)))
    values = [*model.graph.input, *model.graph.output]
    assert [value.name for value in values] == ["X", "X_imputed"]
    for value, width in zip(values, (6, 11), strict=True):
        tensor = value.type.tensor_type
        assert tensor.elem_type == onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        shape = [d.dim_param or d.dim_value for d in tensor.shape.dim]
        assert shape == ["n_samples", width]
    said = {p.key: p.value for p in model.metadata_props}
    assert (said["estimator"], said["part"]) == ("AutoencoderImputer", "impute")
    assert model.doc_string == "AutoencoderImputer, impute: 6 features"
    with pytest.raises(ValueError, match=r"part='encoder' must be one of .*'impute'"):
        to_onnx(imputer, "encoder")
    with pytest.raises(ValueError, match=r"convert imputer.set_params\(sample_post"):
        to_onnx(imputer.set_params(sample_posterior=True))
    with pytest.raises(NotFittedError):
        to_onnx(clone(imputer))


@pytest.mark.parametrize("dtype_of_input", DTYPES)
@pytest.mark.parametrize("target_opset", [13, 22])
def test_imputers_in_pipelines(dtype, dtype_of_input, target_opset):
    """They compute in the type of the input."""
    imputer = AutoencoderImputer(QUICK, random_state=0, add_indicator=True)
    pipeline = make_pipeline(imputer, StandardScaler(), clone(MEMBERS["plain"]))
    pipeline.fit(table(dtype))
    imputer.weight_[:] = 0.5
    X = table(dtype_of_input)
    model = converted(pipeline, X, target_opset=target_opset)
    found, expected = outputs(model, X), pipeline.transform(X)
    assert found.dtype == dtype_of_input
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    model = converted(pipeline[:1], X, target_opset=target_opset)
    is_given = ~np.isnan(X[:, imputer._is_kept])
    found = outputs(model, X)[:, :5]
    np.testing.assert_array_equal(
        found[is_given], X[:, imputer._is_kept][is_given], strict=True
    )


QUICK_VARIATIONAL = VariationalAutoencoderTransformer(
    2, hidden_layer_sizes=(5,), activation="tanh", max_iter=5
)
DETECTORS = {
    "default": None,
    "plain": QUICK,
    "tied": clone(QUICK).set_params(tied_weights=True, activation="elu"),
    "log_loss": clone(QUICK).set_params(loss="log_loss"),
    "poisson": clone(QUICK).set_params(loss="poisson"),
    "variational": QUICK_VARIATIONAL,
    "variational log_loss": clone(QUICK_VARIATIONAL).set_params(loss="log_loss"),
}
METHODS = {
    "label": "predict",
    "scores": "decision_function",
    "score_samples": "score_samples",
}


def detected(model, X):
    """Outputs of a model, or a session, by name; of shape (n_samples,)."""
    if isinstance(model, onnx.ModelProto):
        model = session(model)
    names = [value.name for value in model.get_outputs()]
    found = model.run(None, given_to(model.get_inputs(), X))
    assert all(values.shape == (len(X), 1) for values in found)
    return dict(zip(names, (values[:, 0] for values in found), strict=True))


def assert_detected(found, detector, X, dtype):
    """Networks compute in float32."""
    expected = {name: getattr(detector, METHODS[name])(X) for name in found}
    scores = detector.score_samples(X)
    offset = (detector[-1] if isinstance(detector, Pipeline) else detector).offset_
    bounds = 1e-5 * (np.abs(scores) + np.abs(offset))
    is_clear = np.abs(scores - offset) > bounds
    assert is_clear.mean() > 0.9
    assert found["label"].dtype == np.int64
    np.testing.assert_array_equal(found["label"][is_clear], expected["label"][is_clear])
    for name in found.keys() & {"scores", "score_samples"}:
        assert found[name].dtype == dtype
        assert (np.abs(found[name] - expected[name]) <= bounds).all()


def rows_for_detectors(name, dtype, n_rows=90, seed=0, *, incomplete=False):
    loss = getattr(DETECTORS.get(name), "loss", "squared_error")
    X = make_data(n_rows, loss=loss, seed=seed).astype(dtype)
    if incomplete:
        X[np.random.default_rng(seed).random(X.shape) < 0.15] = np.nan
        X[:, 2] = np.nan
        X[:, 4] = 0  # constant
    return X


@pytest.mark.parametrize("incomplete", [False, True])
@pytest.mark.parametrize("name", DETECTORS)
def test_detectors(name, incomplete, dtype):
    """Of complete and incomplete data, for complete, incomplete and odd samples."""
    train = rows_for_detectors(name, dtype, incomplete=incomplete)
    detector = AutoencoderOutlierDetector(DETECTORS[name], random_state=0).fit(train)
    model = session(to_onnx(detector))
    complete = rows_for_detectors(name, dtype, 40, seed=1)
    lacking = rows_for_detectors(name, dtype, 40, seed=2, incomplete=True)
    lacking[0] = np.nan
    for rows in (train, complete, lacking, complete[:1]):
        assert_detected(detected(model, rows), detector, rows, dtype)
    assert len(detected(model, train[:0])["label"]) == 0
    if "log_loss" not in name:  # others have no such range
        sizes = np.logspace(0, 30, 40, dtype=dtype)[:, np.newaxis]
        far = np.abs(complete) * sizes
        found = detected(model, far)
        assert_detected(found, detector, far, dtype)
        assert (found["label"][10:] == -1).all()


def test_detectors_of_many_features_and_of_few_samples(dtype):
    """With all directions, and with some of them; one model."""
    for n_features, n_rows in ((30, 200), (70, 200), (6, 5)):
        X = make_data(n_rows, n_features).astype(dtype)
        detector = AutoencoderOutlierDetector(QUICK, random_state=0).fit(X)
        assert len(detector._models) == (1 if n_rows == 5 else 3)
        X[3, 1] = np.nan
        assert_detected(detected(to_onnx(detector), X), detector, X, dtype)


def test_variances_of_codes_are_bounded():
    """As in kernels, where units of logarithms of variances are large or small."""
    X = make_data(60)
    detector = AutoencoderOutlierDetector(QUICK_VARIATIONAL, random_state=0).fit(X)
    for network, unit in zip(detector.estimators_, (5, -61, 40), strict=True):
        before = detector.score_samples(X)
        network.intercepts_[1][network.n_components_ :] = unit
        assert (np.abs(detector.score_samples(X) - before) > 0.1).all()
    assert_detected(detected(to_onnx(detector), X), detector, X, np.float64)


@pytest.mark.parametrize("signs", [[1, 1, 1], [1, 1, -1]])
@pytest.mark.parametrize(
    "kind", [AutoencoderTransformer, VariationalAutoencoderTransformer]
)
def test_reconstructions_that_overflow(kind, signs):
    """Infinities, and NaN as the sum of both, are far away, not missing."""
    network = kind(3, hidden_layer_sizes=(), max_iter=5)
    X = make_data(60)
    detector = AutoencoderOutlierDetector(network, random_state=0).fit(X)
    for fitted in detector.estimators_:
        fitted.coefs_[0][:] = 1  # codes are equal
        fitted.coefs_[1][:] = np.inf * np.array(signs)[:, np.newaxis]
    far = 100 * np.abs(X)
    assert (detector.score_samples(far) < -1e20).all()
    assert_detected(detected(to_onnx(detector), far), detector, far, np.float64)


def test_values_that_detectors_refuse():
    """Models validate nothing: values out of range are as its bounds."""
    X = rows_for_detectors("log_loss", np.float64)
    estimator = DETECTORS["log_loss"]
    detector = AutoencoderOutlierDetector(estimator, random_state=0).fit(X)
    X[::2, 0], X[1::2, 3] = 2, -1
    found = detected(to_onnx(detector), X)
    assert_detected(found, detector, np.clip(X, 0, 1), np.float64)


def test_signature_of_a_detector(dtype):
    X = make_data(60).astype(dtype)
    detector = AutoencoderOutlierDetector(QUICK, random_state=0)
    with pytest.raises(NotFittedError):
        to_onnx(detector)
    model = to_onnx(detector.fit(X))
    (given,) = model.graph.input
    assert given.name == "X"
    assert [value.name for value in model.graph.output] == list(METHODS)
    of_data = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for value in (given, *model.graph.output):
        tensor, is_label = value.type.tensor_type, value.name == "label"
        assert tensor.elem_type == (onnx.TensorProto.INT64 if is_label else of_data)
        shape = [d.dim_param or d.dim_value for d in tensor.shape.dim]
        assert shape == ["n_samples", 6 if value is given else 1]
    said = {p.key: p.value for p in model.metadata_props}
    assert (said["estimator"], said["part"]) == ("AutoencoderOutlierDetector", "detect")
    names = [initializer.name for initializer in model.graph.initializer]
    assert len(set(names)) == len(names)
    with pytest.raises(ValueError, match=r"part='encoder' must be one of .*'detect'"):
        to_onnx(detector, "encoder")


@pytest.mark.parametrize("dtype_of_input", DTYPES)
@pytest.mark.parametrize("target_opset", [13, 22])
@pytest.mark.parametrize("name", ["plain", "variational"])
def test_detectors_in_pipelines(name, dtype, dtype_of_input, target_opset):
    """With the names, types and shapes that isolation forests have there."""
    pipeline = make_pipeline(
        StandardScaler(), AutoencoderOutlierDetector(DETECTORS[name], random_state=0)
    )
    pipeline.fit(rows_for_detectors(name, dtype))
    X = rows_for_detectors(name, dtype_of_input, seed=1)
    X[3, 1] = np.nan
    model = converted(pipeline, X, target_opset=target_opset)
    complete = make_data().astype(np.float32)
    forest = IsolationForest(n_estimators=2).fit(complete)
    old = {"": target_opset, "ai.onnx.ml": 3}
    of_forest = detected(converted(forest, complete, target_opset=old), complete)
    found = detected(model, X)
    assert list(found) == list(of_forest)
    assert found["label"].dtype == of_forest["label"].dtype
    scaled = pipeline[0].transform(X)
    assert_detected(found, pipeline[1], scaled, dtype_of_input)


CONSTANT = np.where(np.arange(6) < 3, 7, make_data())


@pytest.mark.parametrize(
    ("X", "params"),
    [
        *((40 + 5 * make_data(), {"scale": s}) for s in (None, "auto", 0.01, 300.0)),
        # Centred before the first product, which would lose the digits otherwise.
        *((make_data() + 1e4, {}), ((make_data() + 1e4).astype(np.float32), {})),
        (CONSTANT, {}),
    ],
)
def test_scales_and_means(X, params):
    fitted = AutoencoderTransformer(**SMALL, **params).fit(X)
    continued = clone(fitted).partial_fit(X[:30]).partial_fit(X[30:])
    for part in PARTS:
        assert_parity(fitted, part, X)
        assert_parity(continued, part, X)


@pytest.mark.parametrize("part", PARTS)
def test_any_number_of_rows(part):
    """In one session; and a row's output does not depend on the others."""
    estimator = fitted_deep("gelu", np.float64, False)
    X = rows_of(estimator, part, make_data(n_rows=1000))
    model = session(to_onnx(estimator, part))
    expected = by_estimator(estimator, part, X)
    for n_rows in (1, 1000, 7):
        assert_same(outputs(model, X[:n_rows]), expected[:n_rows])
    assert outputs(model, X[:0]).shape == (0, expected.shape[1])


@pytest.mark.parametrize(
    ("part", "names", "widths"),
    [
        ("encoder", ("X", "code"), (6, 2)),
        ("decoder", ("code", "reconstruction"), (2, 6)),
        ("reconstruct", ("X", "reconstruction"), (6, 6)),
    ],
)
@pytest.mark.parametrize(
    "kind", [AutoencoderTransformer, VariationalAutoencoderTransformer]
)
def test_signature(kind, dtype, part, names, widths):
    model = to_onnx(kind(**SMALL).fit(make_data().astype(dtype)), part)
    values = [*model.graph.input, *model.graph.output]
    assert tuple(value.name for value in values) == names
    for value, width in zip(values, widths, strict=True):
        tensor = value.type.tensor_type
        assert tensor.elem_type == onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        shape = [d.dim_param or d.dim_value for d in tensor.shape.dim]
        assert shape == ["n_samples", width]
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    assert (model.producer_name, model.producer_version) == ("skae", skae.__version__)
    said = {"skae_version": skae.__version__, "estimator": kind.__name__, "part": part}
    assert {p.key: p.value for p in model.metadata_props} == said
    said = f"{kind.__name__}, {part}: 6 features, 2 components"
    assert model.doc_string == said
    named = [node.name for node in model.graph.node]
    assert len(set(named)) == len(named)


def test_tied_weights_are_kept_once():
    X = np.random.default_rng(0).random((50, 100))
    n_bytes = [
        to_onnx(
            AutoencoderTransformer(
                hidden_layer_sizes=(60,), tied_weights=tied, **SMALL
            ).fit(X)
        ).ByteSize()
        for tied in (True, False)
    ]
    n_weights = 100 * 60 + 60 * 2
    assert n_bytes[1] - n_bytes[0] == pytest.approx(8 * n_weights, abs=200)


@pytest.mark.parametrize("loss", RANGES)
def test_no_needless_operators(loss):
    """Where the network sees the data as they are."""
    estimator = AutoencoderTransformer(
        hidden_layer_sizes=(), output_activation="auto", loss=loss, **SMALL
    ).fit(make_data(loss=loss))
    operators = [n.op_type for n in to_onnx(estimator, "encoder").graph.node]
    assert operators == ["IsNaN", "Where", "Gemm", "Identity"]


# -- tables with categories ---------------------------------------------------------


DTYPE_OF = {
    "tensor(string)": object,
    **{"tensor(double)": np.float64, "tensor(float)": np.float32},
    **{"tensor(int64)": np.int64, "tensor(int8)": np.int8, "tensor(bool)": np.bool_},
    "tensor(uint16)": np.uint16,
}


def given_to(values, X):
    """Columns of a table in the types of inputs, or of outputs, by name."""
    columns, values = columns_of(X), list(values)
    if len(values) < len(columns):
        columns = [np.hstack(columns)]
    found = {}
    for value, column in zip(values, columns, strict=True):
        dtype = DTYPE_OF[value.type]
        if dtype is object:
            text = [str(v, "utf-8") if type(v) is bytes else v for v in column.flat]
            column = np.array(text, dtype=object).reshape(column.shape)
        else:
            column = np.where(pd.isna(column), np.nan, column)
        found[value.name] = column.astype(dtype)
    return found


def assert_same_columns(model, found, table):
    expected = given_to(model.get_outputs(), table)
    for values, (name, column) in zip(found, expected.items(), strict=True):
        assert values.dtype == column.dtype, name
        if column.dtype == object:
            np.testing.assert_array_equal(values, column, name)
        else:
            np.testing.assert_allclose(values, column, rtol=1e-5, atol=1e-6)


def fitted_to_table(X, member=AutoencoderTransformer, **params):
    params = {**SMALL, "max_iter": 20, "hidden_layer_sizes": (6,), **params}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return member(2, **params).fit(X)


def assert_parity_of_table(estimator, X):
    """All parts, with missing values, rare levels and some that are not known."""
    encoder, decoder, both = (session(to_onnx(estimator, part)) for part in PARTS)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not seen in fit")
        code = estimator.transform(X)
    table = estimator.inverse_transform(code)
    given = given_to(encoder.get_inputs(), X)
    assert_same(encoder.run(None, given)[0], code, 1e-5)
    assert_same_columns(decoder, decoder.run(None, {"code": code}), table)
    assert_same_columns(both, both.run(None, given), table)
    return both


@pytest.mark.parametrize("name", TABLES)
def test_tables(name):
    X = TABLES[name]()
    member = (AutoencoderTransformer, VariationalAutoencoderTransformer)[len(name) % 2]
    estimator = fitted_to_table(X, member, max_categories=3)
    model = assert_parity_of_table(estimator, X)
    names = [value.name for value in model.get_inputs()]
    if name in ("text", "bytes"):
        assert names == ["X"]
        assert [value.name for value in model.get_outputs()] == ["reconstruction"]
    elif name == "objects":
        assert names == ["x0", "x1", "x2", "x3"]
    else:
        assert names == list(getattr(X, "column_names", getattr(X, "columns", None)))
        outputs = [value.name for value in model.get_outputs()]
        assert outputs == [f"reconstruction_{name}" for name in names]


def test_missing_and_unknown_categories():
    """After complete data, and after such that lack some."""
    complete = pd.DataFrame({**PLAIN, "x": NUMBERS[:, 0].astype(np.float32)})
    complete = complete[["t", "x"]].astype({"t": object})
    lacking = complete.copy()
    lacking.loc[::3, "x"] = np.nan
    lacking.loc[1::4, "t"] = None
    other = pd.DataFrame(
        {"t": ["?", np.nan, None, "a", "b"], "x": [1, 2, np.nan, 3, 4]}
    )
    other = other.astype({"t": object, "x": np.float32})
    for X in (complete, lacking):
        estimator = fitted_to_table(X)
        assert estimator._params.dtype == np.float32
        for rows in (complete, lacking, other):
            assert_parity_of_table(estimator, rows)
        model = session(to_onnx(estimator, "encoder"))
        missing = np.array([[np.nan]], dtype=np.float32)
        codes = [
            model.run(None, {"t": np.array([[text]], dtype=object), "x": missing})[0]
            for text in ("", "?", None, np.nan)
        ]
        assert estimator.categories_[0].tolist()[0] == ""  # a level like any other
        assert (codes[0] != codes[1]).any()
        assert (codes[1] == codes[2:]).all()


@pytest.mark.parametrize(
    "params",
    [
        {"loss": "log_loss", "output_activation": "auto"},
        {"loss": "poisson", "tied_weights": True},
        {"scale": 3.0},
    ],
)
def test_outputs_of_numbers_and_of_logits(params):
    X = np.column_stack([np.abs(NUMBERS) / 4, WHOLE])
    estimator = fitted_to_table(X, categorical_features=[2], **params)
    model = assert_parity_of_table(estimator, X)
    assert [value.shape[1] for value in model.get_inputs()] == [3]


def test_standardized_numbers(dtype):
    X = (make_data() * np.arange(1, 7)).astype(dtype)
    estimator = AutoencoderTransformer(scale="standard", **SMALL).fit(X)
    for part in PARTS:
        assert_parity(estimator, part, X)


def test_whole_numbers_of_tables():
    """Those of the least and the largest integers, as the table has them."""
    text = pd.Series(PLAIN["t"], dtype=object)
    X = pd.DataFrame({"t": text, "small": np.where(WHOLE > 1, 127, -128)})
    X = X.astype({"small": np.int8})
    X["large"] = np.where(WHOLE > 2, 2**62, -(2**62))
    estimator = fitted_to_table(X)
    assert_parity_of_table(estimator, X)
    decoder = session(to_onnx(estimator, "decoder"))
    code = 100 * estimator.transform(X)
    expected = estimator.inverse_transform(code)
    assert (expected["small"].min(), expected["small"].max()) == (-128, 127)
    for values, name in zip(decoder.run(None, {"code": code}), expected, strict=True):
        if expected[name].dtype.kind == "i":  # float64 rounds the largest
            np.testing.assert_allclose(values[:, 0], expected[name], rtol=1e-14)
        else:
            np.testing.assert_array_equal(values[:, 0], expected[name])


def test_names_of_inputs():
    """Of names that are empty, or those of other values."""
    X = pd.DataFrame(PLAIN).astype({"t": object})
    X.columns = ["", "code", "reconstruction_", "cast"]
    model = assert_parity_of_table(fitted_to_table(X), X)
    names = [value.name for value in model.get_inputs()]
    assert names == ["x0", *X.columns[1:]]
    names = [value.name for value in model.get_outputs()]
    assert names[:2] == ["reconstruction__2", "reconstruction_code"]


def test_categories_of_several_types():
    levels = pd.Categorical(["a", 1, 2, None] * 15)
    X = pd.DataFrame({"t": levels, "x": NUMBERS[:, 0]})
    with pytest.raises(ValueError, match=r"column 't' has categories of .*int.*str"):
        to_onnx(fitted_to_table(X))
    X["t"] = pd.cut(NUMBERS[:, 1], 3)
    with pytest.raises(ValueError, match=r"'t' has categories of the types Interval"):
        to_onnx(fitted_to_table(X))


@pytest.mark.parametrize("name", TABLES)
def test_detectors_of_tables(name):
    """Of numbers and levels, with gaps and rare levels, or of levels alone."""
    X = TABLES[name]()
    network = (QUICK, QUICK_VARIATIONAL)[list(TABLES).index(name) % 2]
    detector = AutoencoderOutlierDetector(network, random_state=0, max_categories=3)
    model = session(to_onnx(detector.fit(X)))
    dtype = DTYPE_OF[model.get_outputs()[1].type]
    assert_detected(detected(model, X), detector, X, dtype)
    given = given_to(model.get_inputs(), X)
    none = {name: column[:0] for name, column in given.items()}
    assert model.run(None, none)[0].shape == (0, 1)


TEXT_AND_NUMBERS = pd.DataFrame(
    {**PLAIN, "f": NUMBERS[:, 1].astype(np.float32), "B": WHOLE > 2}
).astype({"t": object, "B": "boolean"})
TEXT_AND_NUMBERS["t"] = TEXT_AND_NUMBERS["t"].replace("", "c")
TEXT_AND_NUMBERS["Int"] = pd.array(WHOLE, dtype="Int8")


def lacking_table():
    """A table with gaps, and levels that are not known."""
    X = TEXT_AND_NUMBERS.copy()
    X.loc[::4, "x"] = X.loc[1::5, "f"] = np.nan
    X.loc[2::6, ["Int", "B"]] = pd.NA
    X.loc[::3, "t"], X.loc[1::7, "t"], X.loc[2::7, "t"] = None, np.nan, "unknown"
    X.loc[5] = [None, np.nan, 2, True, np.nan, pd.NA, pd.NA]
    return X.astype(TEXT_AND_NUMBERS.dtypes)


@pytest.mark.filterwarnings("ignore:X has categories that were not seen in fit")
@pytest.mark.parametrize(
    "network",
    [
        None,
        QUICK,
        clone(QUICK).set_params(loss="poisson"),
        QUICK_VARIATIONAL,
        clone(QUICK_VARIATIONAL).set_params(loss="log_loss"),
    ],
)
def test_gaps_and_new_levels_of_detectors(network):
    """Levels that are not known are findings, not gaps; a range of numbers or not."""
    X, new = TEXT_AND_NUMBERS, lacking_table()
    if getattr(network, "loss", "squared_error") != "squared_error":
        numbers = ["x", "i", "f", "Int"]
        X, new = X.copy(), new.copy()
        X[numbers], new[numbers] = X[numbers].abs() / 100, new[numbers].abs() / 100
    declared = {"t": ["a", "b", "c", "ü", "declared"]}
    detector = AutoencoderOutlierDetector(network, random_state=0, categories=declared)
    model = session(to_onnx(detector.fit(X)))
    for rows in (X, new, new[5:6]):
        assert_detected(detected(model, rows), detector, rows, np.float64)
    given = given_to(model.get_inputs(), X[:4])
    given["t"] = np.array([["unknown"], ["declared"], [None], [""]], dtype=object)
    found = model.run(["score_samples"], given)[0][:, 0]
    rows = X[:4].assign(t=["unknown", "declared", None, None])
    np.testing.assert_allclose(found, detector.score_samples(rows), rtol=1e-5)


def fitted_imputer(X, network=QUICK, **params):
    imputer = AutoencoderImputer(network, random_state=0, **params).fit(X)
    if imputer.estimator_ is not None:
        imputer.weight_[:] = np.linspace(0.5, 1, len(imputer.weight_))
    return imputer


def assert_imputed(imputer, X, model=None):
    """Columns, then indicators, as by `transform`; observed entries as they are."""
    model = model or session(to_onnx(imputer))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not seen in fit")
        expected = columns_of(imputer.transform(X))
    found = model.run(None, given_to(model.get_inputs(), X))
    if len(found) < len(expected):
        found = np.hsplit(found[0], found[0].shape[1]) + found[1:]
    for values, column in zip(found, expected, strict=True):
        if values.dtype == object:
            text = [v.decode() if type(v) is bytes else v for v in column[:, 0]]
            assert values[:, 0].tolist() == [
                text[i] if pd.notna(text[i]) else str(text[i]) for i in range(len(text))
            ]
        else:
            column = column.astype(values.dtype)
            np.testing.assert_allclose(values, column, rtol=1e-5, atol=1e-6)
    return model


@pytest.mark.parametrize("name", TABLES)
def test_imputers_of_tables(name):
    X = repeated(TABLES[name](), 4)
    imputer = fitted_imputer(X, max_categories=3, add_indicator=len(name) % 2 == 0)
    model = assert_imputed(imputer, X)
    names = [value.name for value in model.get_outputs()]
    if name in ("text", "bytes"):
        assert names == ["X_imputed"]
    else:
        features = imputer.get_feature_names_out()
        assert names == [f"X_imputed_{name}" for name in features]


@pytest.mark.parametrize("n_times", [1, 4])  # without a network, and with one
@pytest.mark.parametrize("params", [{}, {"min_frequency": 0.3, "add_indicator": True}])
def test_gaps_and_new_levels_of_imputers(n_times, params):
    """Gaps are filled, levels that are not known stay; whole numbers are rounded."""
    X = repeated(TEXT_AND_NUMBERS, n_times)
    lacking = repeated(lacking_table(), n_times)
    imputer = fitted_imputer(lacking.replace({"t": {"unknown": None}}), **params)
    assert (imputer.estimator_ is None) == (n_times == 1)
    model = assert_imputed(imputer, lacking)
    for rows in (X, lacking[:1], lacking[5:6]):
        assert_imputed(imputer, rows, model)
    given = given_to(model.get_inputs(), X[:4])
    given["t"] = np.array([["unknown"], [None], [""], [np.nan]], dtype=object)
    names = [value.name for value in model.get_outputs()]
    found = dict(zip(names, model.run(None, given), strict=True))
    assert found["X_imputed_t"][0, 0] == "unknown"
    assert set(found["X_imputed_t"][1:, 0]) <= {"a", "b", "c", "ü"}
    if params:
        flags = found["X_imputed_missingindicator_t"]
        assert flags.tolist() == [[False], [True], [True], [True]]


def test_what_stands_for_missing_values_in_tables():
    """Numbers, as precise as the column, but no flags; and text."""
    X = repeated(TEXT_AND_NUMBERS, 4)[["t", "x", "i", "f", "b"]]
    X["small"] = X["i"].astype(np.uint16)
    X.iloc[::3, 1], X.iloc[1::3, 3] = 0.1, np.float32(0.1)
    assert_imputed(fitted_imputer(X, missing_values=0.1), X)
    X.iloc[::5, 2], X.iloc[1::7, 5], X.iloc[::4, 1] = 1, np.uint16(1), 1.0
    model = assert_imputed(fitted_imputer(X, missing_values=1), X)
    types = {value.name: value.type for value in model.get_outputs()}
    assert types["X_imputed_small"] == "tensor(uint16)"
    assert types["X_imputed_b"] == "tensor(bool)"
    X = X.assign(t=X["t"].replace("a", "?"))
    assert_imputed(fitted_imputer(X, missing_values="?"), X)
    numbered = np.column_stack([NUMBERS, WHOLE])
    numbered = np.where(np.random.default_rng(0).random((60, 3)) < 0.2, -1, numbered)
    params = {"categorical_features": [2], "missing_values": -1, "add_indicator": True}
    model = assert_imputed(fitted_imputer(numbered, **params), numbered)
    assert [v.shape[1] for v in model.get_outputs()] == [3, 1, 1, 1]


def test_imputers_of_columns_without_entries():
    X = lacking_table()[["t", "x"]].assign(n=np.nan, e=pd.NA)
    X = X.astype({"e": "string"})
    X["t"] = X["t"].replace("unknown", "a")
    new = X.assign(n=[1.0, np.nan] * 30, e=["text", pd.NA] * 30)
    for names in (["n", "t", "x", "e"], ["e", "n"], ["e", "t"]):
        imputer = fitted_imputer(X[names], keep_empty_features=True)
        assert_imputed(imputer, X[names])
        if "t" in names:
            assert_imputed(fitted_imputer(X[names]), new[names])
    with pytest.raises(ValueError, match=r"no columns.*set keep_empty_features"):
        to_onnx(fitted_imputer(X[["e", "n"]]))
    text = text_array().astype(object)
    text[::3, 0] = None
    model = assert_imputed(fitted_imputer(text, add_indicator=True), text)
    names = [value.name for value in model.get_outputs()]
    assert names == ["X_imputed", "X_imputed_missingindicator_x0"]
    single = pd.DataFrame({"s": ["only", None] * 5}).astype(object)
    assert_imputed(fitted_imputer(single), single)


@pytest.mark.filterwarnings("ignore:X has categories that were not seen in fit")
@pytest.mark.parametrize("target_opset", [13, 22])
def test_imputers_and_detectors_of_tables_in_pipelines(target_opset):
    """Before others, which know the columns by their names."""
    X = lacking_table()[["t", "x", "i", "b", "f"]]
    train = X.assign(t=X["t"].replace("unknown", "a"))
    imputer = AutoencoderImputer(QUICK, random_state=0)
    encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    by_name = [("text", encoder, ["t"]), ("numbers", StandardScaler(), ["x"])]
    for pipeline in (
        make_pipeline(imputer, ColumnTransformer(by_name)),
        make_pipeline(imputer, clone(MEMBERS["plain"])),
    ):
        expected = pipeline.fit(train).transform(X)
        model = session(converted(pipeline, X, target_opset=target_opset))
        (found,) = model.run(None, given_to(model.get_inputs(), X))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    detector = AutoencoderOutlierDetector(QUICK, random_state=0)
    for pipeline in (make_pipeline(imputer, detector), make_pipeline(detector)):
        pipeline.fit(train)
        model = session(converted(pipeline, X, target_opset=target_opset))
        assert_detected(detected(model, X), pipeline, X, np.float64)


@pytest.mark.parametrize("target_opset", [13, 22])
@pytest.mark.parametrize("order", ["txib", "xtbi"])
def test_tables_in_pipelines(order, target_opset):
    X = pd.DataFrame(PLAIN).astype({"t": object})[list(order)]
    pipeline = make_pipeline(clone(MEMBERS["plain"]), StandardScaler()).fit(X)
    model = session(converted(pipeline, X, target_opset=target_opset))
    assert [value.name for value in model.get_inputs()] == list(order)
    (found,) = model.run(None, given_to(model.get_inputs(), X))
    assert_same(found, pipeline.transform(X), 1e-6)


def test_tables_in_pipelines_that_merge_columns():
    X = text_array()
    estimator = fitted_to_table(X)
    model = session(converted(estimator, X.astype(object)))
    (found,) = model.run(None, {"X": X.astype(object)})
    assert_same(found, estimator.transform(X).astype(np.float32))
    frame = pd.DataFrame(PLAIN).astype({"t": object})
    some = ColumnTransformer([("some", estimator, ["t", "x"])]).fit(frame)
    with pytest.raises(ValueError, match="'x' has numbers, but its input has text: ch"):
        converted(some, frame)
    with pytest.raises(ValueError, match=r"inputs have 1 columns, but .* has 2: give"):
        converted(estimator, X[:, :1].astype(object))


def converted(pipeline, X, **options):
    register()
    return skl2onnx.to_onnx(pipeline, X[:1], **options)


def assert_converted(pipeline, X, dtype, **options):
    """Outputs are of a type, with the pipeline's values."""
    expected = pipeline.transform(X)
    model = converted(pipeline, X, **options)
    found = outputs(model, X)
    assert found.dtype == dtype
    precision = max(TOLERANCES[dtype], TOLERANCES[expected.dtype.type])
    assert_same(found.astype(expected.dtype), expected, precision)
    return model


MEMBERS = {
    "plain": AutoencoderTransformer(
        3, hidden_layer_sizes=(8,), activation="gelu", **SMALL
    ),
    "tied": AutoencoderTransformer(
        3, hidden_layer_sizes=(8,), activation="elu", tied_weights=True, **SMALL
    ),
    "variational": VariationalAutoencoderTransformer(
        3, hidden_layer_sizes=(8,), activation="softplus", **SMALL
    ),
}


@pytest.mark.parametrize("dtype_of_input", DTYPES)
@pytest.mark.parametrize("member", MEMBERS)
def test_pipelines(member, dtype, dtype_of_input):
    X = 3 + 2 * make_data()
    pipeline = make_pipeline(StandardScaler(), clone(MEMBERS[member]))
    pipeline.fit(X.astype(dtype))
    X = X.astype(dtype_of_input)
    model = assert_converted(pipeline, X, dtype_of_input)
    shape = model.graph.output[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [0, 3]  # any number of rows
    found = session(model)
    np.testing.assert_allclose(
        outputs(found, X[:1]), outputs(found, X)[:1], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_opsets(activation):
    X = make_data()
    for target_opset in (13, 22):
        estimator = AutoencoderTransformer(
            hidden_layer_sizes=(4,), activation=activation, **SMALL
        )
        pipeline = make_pipeline(StandardScaler(), estimator).fit(X)
        model = assert_converted(pipeline, X, np.float64, target_opset=target_opset)
        assert max(o.version for o in model.opset_import) <= target_opset


def test_whole_numbers():
    X = np.round(10 * make_data()).astype(np.int64)
    pipeline = make_pipeline(clone(MEMBERS["plain"]), StandardScaler()).fit(X)
    assert_converted(pipeline, X, np.float32)


def test_beside_and_before_others(dtype):
    """Two autoencoders, whose constants keep apart; and steps that read codes."""
    X = make_data().astype(dtype)
    both = FeatureUnion([(name, clone(MEMBERS[name])) for name in MEMBERS])
    both.transformer_list.append(("pca", PCA(2)))
    pipeline = make_pipeline(MinMaxScaler(), both, StandardScaler()).fit(X)
    assert_converted(pipeline, X, dtype)

    y = X[:, 0] > X[:, 0].mean()
    classifier = make_pipeline(both, LogisticRegression()).fit(X, y)
    options = {"options": {LogisticRegression: {"zipmap": False}}}
    model = session(converted(classifier, X, **options))
    _, found = model.run(None, {"X": X})
    np.testing.assert_allclose(found, classifier.predict_proba(X), atol=1e-6)


def test_frames():
    """An input for each column."""
    X = pd.DataFrame(make_data().astype(np.float32), columns=list("abcdef"))
    some = ColumnTransformer(
        [
            ("first", clone(MEMBERS["plain"]), list("abcd")),
            ("others", StandardScaler(), list("ef")),
        ]
    ).fit(X)
    model = session(converted(some, X))
    found = model.run(None, {name: X[[name]].to_numpy() for name in X})
    assert_same(found[0], some.transform(X))


@pytest.mark.parametrize("member", MEMBERS)
def test_not_fitted(member):
    with pytest.raises(NotFittedError):
        to_onnx(clone(MEMBERS[member]))
    pipeline = make_pipeline(StandardScaler().fit(make_data()), clone(MEMBERS[member]))
    with pytest.raises(NotFittedError):
        converted(pipeline, make_data())


def test_wrong_parts_and_estimators():
    estimator = fitted_deep("relu", np.float32, False)
    for part in ("code", None, ["encoder"]):
        with pytest.raises(ValueError, match=r"part=.* must be one of .*'reconstruct'"):
            to_onnx(estimator, part)
    for other in (PCA(), make_pipeline(PCA()), AutoencoderTransformer, None):
        with pytest.raises(TypeError, match="takes a fitted AutoencoderTransf"):
            to_onnx(other)


def test_missing_packages(monkeypatch):
    estimator = fitted_deep("relu", np.float32, False)
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ImportError, match=r"register needs skl2onnx.*'skae\[onnx\]'"):
        register()
    to_onnx(estimator)  # which does without it
    monkeypatch.setitem(sys.modules, "onnx", None)
    for call in (register, lambda: to_onnx(estimator)):
        with pytest.raises(ImportError, match=r"needs onnx: .*'skae\[onnx\]'"):
            call()
