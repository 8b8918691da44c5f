"""Wrong names, and other wrong values, are answered by the right ones."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer
from skae._names import Names, nearest
from skae._sklearn import InvalidParameterError, StrOptions
from skae.inspection import (
    ComponentsDisplay,
    ReconstructionDisplay,
    ReconstructionErrorDisplay,
)

X = np.random.default_rng(0).random((50, 5))

# Parameter, wrong value, what is suggested; None: nothing.
WRONG = [
    ("activation", "ReLU", "'relu'"),
    ("activation", "sigmoidal", "'sigmoid'"),
    ("activation", "swish", "'silu'"),
    ("activation", "linear", "'identity'"),
    ("activation", "lrelu", "'leaky_relu'"),
    ("activation", b"tanh", "'tanh'"),
    ("activation", 3, None),
    ("activation", "cosine", None),
    ("activation", ("relu", "Tanh"), "'tanh'"),
    ("activation", np.array("gelu"), "'gelu'"),
    ("activation", {"relu", "gelu"}, None),
    ("output_activation", "Sigmoid", "'sigmoid'"),
    ("output_activation", "automatic", "'auto'"),
    ("loss", "mse", "'squared_error'"),
    ("loss", "bce", "'log_loss'"),
    ("loss", "binary_crossentropy", "'log_loss'"),
    ("loss", "cross_entropy", "'log_loss'"),
    ("loss", "mae", "'absolute_error'"),
    ("loss", "l1", "'absolute_error'"),
    ("loss", "squared", "'squared_error'"),
    ("loss", ["huber"], "'huber'"),
    ("loss", "", None),
    ("solver", "L-BFGS", "'lbfgs'"),
    ("solver", "nesterov", "'sgd'"),
    ("learning_rate", "cosine_annealing", "'cosine'"),
    ("learning_rate", 0.01, "learning_rate_init=0.01"),
    ("init", "kaiming", "'he'"),
    ("init", "Xavier", "'glorot'"),
    ("noise", "dropout", "'masking'"),
    ("noise", "none", "None"),
    ("noise", 0.2, "noise_level=0.2"),
    ("sparsity", "KL", "'kl'"),
    ("sparsity", True, None),
    ("pretrain", "layer-wise", "'layerwise'"),
    ("pretrain", True, "'layerwise'"),
    ("early_stopping", "True", "True"),
    ("scale", "0.5", "0.5"),
    ("hidden_layer_sizes", "64", "64"),
    ("hidden_layer_sizes", "64, 32", r"\(64, 32\)"),
    ("hidden_layer_sizes", 64.0, "64"),
    ("hidden_layer_sizes", ["64", 32], "64"),
    ("hidden_layer_sizes", "[64", None),
    ("max_iter", "100", "100"),
    ("max_iter", "1e3", "1000"),
    ("max_iter", 0, None),
    ("batch_size", "auto ", "'auto'"),
    ("batch_size", np.array([32.0]), "32"),
]


@pytest.mark.parametrize(("parameter", "value", "meant"), WRONG)
def test_a_wrong_value_is_answered_by_the_right_one(parameter, value, meant):
    estimator = AutoencoderTransformer(**{parameter: value})
    with pytest.raises(ValueError, match=parameter) as caught:
        estimator.fit(X)
    if meant is None:
        assert "Did you mean" not in str(caught.value)
    else:
        assert caught.match(rf"\. Did you mean {meant}\?$")
    assert set(vars(estimator)) == set(estimator.get_params())


def test_the_error_is_scikit_learns():
    estimator = VariationalAutoencoderTransformer(loss="bernoulli")
    with pytest.raises(InvalidParameterError) as caught:
        estimator.fit(X)
    assert str(caught.value) == (
        "The 'loss' parameter of VariationalAutoencoderTransformer must be a str among "
        "{'squared_error', 'log_loss'}. Got 'bernoulli' instead. Did you mean "
        "'log_loss'?"
    )


def test_other_arguments_that_are_names(pyplot):
    digits = load_digits().data[:20]
    model = PCA(2).fit(digits)

    def suggests(name):
        return pytest.raises(ValueError, match=rf" must be .*Did you mean '{name}'\?$")

    with suggests("squared_error"):
        ReconstructionErrorDisplay.from_estimator(model, digits, metric="MSE")
    with suggests("absolute_error"):
        ReconstructionErrorDisplay.from_predictions(digits, digits, metric="mae")
    with suggests("worst"):
        ReconstructionDisplay.from_estimator(model, digits, which="wurst")
    with suggests("strongest"):
        ComponentsDisplay.from_estimator(model, order="largest")
    autoencoder = AutoencoderTransformer(max_iter=1, learning_rate="cosine").fit(X)
    with suggests("absolute_error"):
        autoencoder.reconstruction_error(X, metric="l1")
    onnx = pytest.importorskip("skae.onnx")
    with suggests("encoder"):
        onnx.to_onnx(autoencoder, part="encode")


def test_suggestions_are_names_that_are_legal():
    assert nearest("gaussian", ("squared_error", "log_loss")) == "squared_error"
    assert nearest("gaussian", ("masking", "gaussian")) == "gaussian"
    assert nearest("l1", ("kl", "l1")) == "l1"
    assert nearest("x" * 10_000, ("kl", "l1")) is None


@pytest.mark.parametrize(
    "member", [AutoencoderTransformer, VariationalAutoencoderTransformer]
)
def test_all_parameters_are_checked_and_all_names_have_an_order(member):
    assert set(member._parameter_constraints) == set(member().get_params())
    options = [
        constraint
        for constraints in member._parameter_constraints.values()
        for constraint in constraints
        if isinstance(constraint, StrOptions)
    ]
    assert len(options) > 5
    assert all(isinstance(constraint, Names) for constraint in options)
