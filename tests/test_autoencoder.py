"""What users can rely on of AutoencoderTransformer."""

import contextlib
import io
import os
import pickle
import re
import signal
import threading
import time
import tracemalloc
import warnings
from functools import partial

import joblib
import numpy as np
import pytest
from scipy import linalg, sparse
from scipy.special import expit
from sklearn import config_context, datasets
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils import validation
from sklearn.utils.validation import has_fit_parameter

from skae import AutoencoderTransformer, _base
from skae._model import inference
from skae._training import loop
from skae._training.reporting import TrainingInterruptedWarning
from skae._training.weight_selection import CautiousSelection
from skae.datasets import make_donuts
from skae.metrics import reconstruction_r2, reconstruction_r2_score

from . import reference
from .cases import (
    ACTIVATION_NAMES,
    ALL_CASES,
    AT_PCA_CASES,
    LOSS_NAMES,
    RANGES,
    RESTARTS,
    SCHEDULES,
    STOCHASTIC,
    data_for,
    hidden_layers,
    make,
    make_data,
    names_of,
)
from .processes import interrupted_call

# Most fits here are short.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def is_variational(params):
    return "beta" in params


def takes_weights(estimator):
    return has_fit_parameter(estimator, "sample_weight")


def weighted_by(weights):
    """Arguments of fit."""
    return {} if weights is None else {"sample_weight": weights}


def has_ordered_code(params):
    if is_variational(params) or params["sparsity"] is not None:
        return False
    return params["code_activation"] == "identity"


def draws_for_rows(params):
    return is_variational(params) or params["noise"] is not None


def is_scaled(params):
    return params["loss"] not in RANGES


def is_stochastic(params):
    return params["solver"] != "lbfgs"


def starts_at_random(params):
    return params["init"] not in ("auto", "pca")


SCALED = names_of(is_scaled)
ORDERED = names_of(has_ordered_code)


def activations_of(estimator):
    """Names of all layers' activations, as the documentation says."""
    names = estimator.activation
    n_hidden = len(hidden_layers(estimator))
    names = [names] * n_hidden if isinstance(names, str) else list(names)
    output = estimator.output_activation
    if output == "auto":
        auto = {"log_loss": "logistic", "poisson": "softplus"}
        output = auto.get(estimator.loss, "identity")
    return [*names, estimator.code_activation, *names[::-1], output]


def network_input(estimator, X):
    X = X.astype(np.float64)
    if estimator.loss in RANGES:
        return X
    return (X - estimator.mean_) / estimator.scale_


def objective_of(
    estimator, X, sample_weight=None, *, rows=None, X_fit=None, epoch=reference.NO_EPOCH
):
    """The objective of the kept weights over (some) rows, by the naive network.

    What is drawn for rows is that of an epoch, or of validation. The data were fitted
    on `X_fit`, by default X.
    """
    rows = slice(None) if rows is None else rows
    target = network_input(estimator, X)
    network = (
        [weights.astype(np.float64) for weights in estimator.coefs_],
        [biases.astype(np.float64) for biases in estimator.intercepts_],
        activations_of(estimator),
    )
    how = {"loss": estimator.loss, "weights": sample_weight}
    seed = np.random.RandomState(estimator.random_state).randint(2**31 - 1)
    if is_variational(estimator.get_params()):
        shape = len(X), estimator.n_components_
        bits = reference.random_bits(seed, reference.POSTERIOR, epoch, np.prod(shape))
        how |= {"noise": reference.normal_pairs(bits)[0].reshape(shape)[rows]}
        how |= {"beta": estimator.beta}
        return reference.variational_objective(target[rows], *network, **how)[0]
    seen = target
    if estimator.noise is not None:
        X_fit = X if X_fit is None else X_fit
        values = 0.0, 0.0
        if estimator.noise == "salt_and_pepper":
            values = X_fit.min(), X_fit.max()
        seen = network_input(
            estimator,
            reference.corrupt(
                X,
                estimator.noise,
                # Normal noise is in the network's units.
                estimator.noise_level
                * (estimator.scale_ if estimator.noise == "gaussian" else 1),
                *values,
                seed,
                epoch,
            ),
        )
    if estimator.sparsity is not None:
        sparsity = estimator.sparsity, estimator.sparsity_weight
        how |= {"penalty": (*sparsity, estimator.sparsity_target)}
    how |= {"alpha": estimator.alpha, "tied": estimator.tied_weights}
    return reference.objective(target[rows], *network, seen=seen[rows], **how)[0]


def naive_output(estimator, X):
    """What the decoder makes of rows without noise, in the network's units."""
    network = estimator.coefs_, estimator.intercepts_, activations_of(estimator)
    middle, a = len(estimator.coefs_) // 2, network_input(estimator, X)
    for half in (slice(middle), slice(middle, None)):
        # Of a variational code, the means.
        a = a[:, : estimator.coefs_[half][0].shape[0]]
        layers, _ = reference.forward(a, *(part[half] for part in network))
        a = layers[-1]
    return a


def reconstruct(estimator, X):
    return estimator.inverse_transform(estimator.transform(X))


FITTED = [
    "n_components_",
    "n_layers_",
    "n_iter_",
    "loss_",
    "best_loss_",
    "loss_curve_",
    "mean_",
    "scale_",
    "n_features_in_",
]
OPTIONAL = [
    "validation_loss_curve_",
    "explained_variance_",
    "explained_variance_ratio_",
    "mean_activation_",
    "kl_curve_",
]


def assert_same_fit(a, b):
    """Bit for bit, with all that training needs to go on."""
    for weights_a, weights_b in zip(a.coefs_, b.coefs_, strict=True):
        np.testing.assert_array_equal(weights_a, weights_b, strict=True)
    for biases_a, biases_b in zip(a.intercepts_, b.intercepts_, strict=True):
        np.testing.assert_array_equal(biases_a, biases_b, strict=True)
    for name in FITTED:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)
    for name in OPTIONAL:
        assert hasattr(a, name) == hasattr(b, name)
        if hasattr(a, name):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def assert_close_fit(a, b, X, rtol):
    """The same codes and reconstructions, relative to their size."""
    for result_a, result_b in [
        (a.transform(X), b.transform(X)),
        (reconstruct(a, X) - X.mean(), reconstruct(b, X) - X.mean()),
    ]:
        size = np.abs(result_b).max()
        np.testing.assert_allclose(result_a, result_b, rtol=0, atol=rtol * size)
    np.testing.assert_allclose(a.loss_curve_, b.loss_curve_, rtol=rtol)


# -- the linear network is PCA ---------------------------------------------------------


def linear(**changes):
    params = {
        "n_components": 3,
        "hidden_layer_sizes": (),
        "solver": "lbfgs",
        "tol": 1e-10,
        "max_iter": 5000,
        "random_state": 0,
    }
    return AutoencoderTransformer(**{**params, **changes})


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("data", ["correlated", "far from zero", "wide", "digits"])
def test_linear_network_is_pca(tied, data):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 6)) @ rng.standard_normal((6, 6))
    if data == "far from zero":
        X += 100
    elif data == "wide":
        X = rng.standard_normal((7, 5)) @ rng.standard_normal((5, 20))
    elif data == "digits":
        X = datasets.load_digits().data[:300]
    pca = PCA(3).fit(X)
    estimator = linear(tied_weights=tied).fit(X)

    pca_error = ((X - pca.inverse_transform(pca.transform(X))) ** 2).sum()
    error = estimator.reconstruction_error(X).sum()
    assert error == pytest.approx(pca_error, rel=1e-6)
    # The encoder's is free where the data have no variance.
    angles = linalg.subspace_angles(estimator.coefs_[1].T, pca.components_.T)
    assert angles.max() < 1e-4
    scores = pca.transform(X)
    code = estimator.transform(X) * estimator.scale_
    signs = np.sign((code * scores).sum(axis=0))
    atol = 1e-4 * np.abs(scores).max()
    np.testing.assert_allclose(code * signs, scores, rtol=0, atol=atol)
    if tied or data in ("correlated", "far from zero"):
        np.testing.assert_array_equal(signs, 1)  # the encoder is determined
    for name in ("explained_variance_", "explained_variance_ratio_"):
        np.testing.assert_allclose(
            getattr(estimator, name), getattr(pca, name), rtol=1e-4
        )
    score = estimator.score(X)
    assert score == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-6)
    assert score == pytest.approx(estimator.explained_variance_ratio_.sum(), rel=1e-6)


# -- the ordered code ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_rows", [30, 60])  # of few, PCA is not left
@pytest.mark.parametrize("name", AT_PCA_CASES)
def test_order_does_not_hang_on_rounding(name, n_rows, dtype):
    rng = np.random.default_rng(0)
    X = make_data(n_rows).astype(dtype)
    nearly = X * (1 + np.finfo(dtype).eps * rng.standard_normal(X.shape))
    estimator = AutoencoderTransformer(3, random_state=0, **AT_PCA_CASES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        code = estimator.fit_transform(X)
        other = clone(estimator).fit_transform(nearly.astype(dtype))
    np.testing.assert_allclose(other, code, atol=1e4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("max_iter", ["auto", 3])
@pytest.mark.parametrize("loss", ["squared_error", "huber"])
@pytest.mark.parametrize("hidden", [(), (16,)])
@pytest.mark.parametrize("changes", [{"alpha": 0.1}, {"tied_weights": True}])
def test_explained_variance_is_a_share(changes, hidden, loss, max_iter):
    """Also where the scale of the code is not free."""
    X = datasets.load_digits().data[:300]
    params = {"hidden_layer_sizes": hidden, "loss": loss, **changes}
    if max_iter != "auto":
        params |= {"max_iter": max_iter, "init": "random", "early_stopping": False}
    estimator = AutoencoderTransformer(5, random_state=0, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(X)
    ratio = estimator.explained_variance_ratio_
    assert (ratio >= 0).all()
    assert ratio.sum() <= 1
    if hidden == ():
        assert ratio.sum() <= max(0.0, estimator.score(X)) + 1e-12
    if loss == "squared_error" and max_iter == "auto":
        best = PCA(5).fit(X).explained_variance_ratio_
        assert ratio.sum() == pytest.approx(best.sum(), abs=0.05)
        if hidden == ():  # at PCA, or near
            np.testing.assert_allclose(ratio, best, atol=1e-3)


def test_explained_variance_does_not_depend_on_the_unit_of_weights():
    X = make_data()
    weights = np.random.default_rng(0).random(60)
    estimator = AutoencoderTransformer(hidden_layer_sizes=(), random_state=0, tol=0)
    expected = estimator.fit(X).explained_variance_
    np.testing.assert_allclose(expected, PCA(2).fit(X).explained_variance_, rtol=1e-6)
    # A row without weight is not there.
    more, ones = np.vstack([X, 9 * X]), np.repeat([1.0, 0.0], 60)
    estimator.fit(more, sample_weight=ones)
    np.testing.assert_allclose(estimator.explained_variance_, expected, rtol=1e-6)
    values = [
        estimator.fit(X, sample_weight=factor * weights).explained_variance_
        for factor in (1.0, (1 + 2e-16) / weights.sum(), 1e-3, 1024.0)
    ]
    for other in values[1:]:
        np.testing.assert_allclose(other, values[0], rtol=1e-6)


@pytest.mark.parametrize("name", ORDERED)
def test_code_is_ordered(name):
    estimator = make(name, n_components=3, early_stopping=False)
    X = data_for(estimator)
    code = estimator.fit_transform(X)
    variances = code.var(axis=0)
    size = variances.max()
    assert size > 0
    np.testing.assert_allclose(code.mean(axis=0), 0, atol=1e-12 * np.sqrt(size))
    covariance = np.cov(code.T, bias=True)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-12 * size)
    assert (np.diff(variances) <= 0).all()

    # Of the rows on the code; see there.
    cross = code.T @ (X - X.mean(axis=0)) / len(X)
    largest = np.abs(cross).argmax(axis=1)
    assert (cross[range(3), largest] > 0).all()
    regression = cross / variances[:, np.newaxis]
    if not estimator.tied_weights and estimator.alpha == 0:
        gram = regression @ regression.T / estimator.scale_**2
        np.testing.assert_allclose(gram, np.eye(3), atol=1e-9)
    explained = (regression**2).sum(axis=1) * variances
    total = X.var(axis=0).sum()
    if estimator.tied_weights and estimator.hidden_layer_sizes == ():
        # The decoder is linear, but not yet the best.
        assert estimator.score(X) < explained.sum() / total
        explained *= estimator.score(X) * total / explained.sum()
    np.testing.assert_allclose(
        estimator.explained_variance_ratio_, explained / total, rtol=1e-9
    )
    np.testing.assert_allclose(
        estimator.explained_variance_, explained * len(X) / (len(X) - 1), rtol=1e-9
    )


@pytest.mark.parametrize(
    "name",
    names_of(lambda p: p["tol"] and is_stochastic(p) and starts_at_random(p)),
)
def test_order_does_not_change_reconstructions(name):
    """A fit's last loss is measured before the order, its weights are kept after."""
    estimator = make(name, batch_size=60, alpha=0.0, early_stopping=False, max_iter=9)
    X = data_for(estimator)
    estimator.fit(X)
    longer = clone(estimator).set_params(max_iter=10, learning_rate="constant").fit(X)
    if estimator.learning_rate == "cosine":
        estimator = clone(longer).set_params(max_iter=9).fit(X)
    # A full batch's loss is that of the weights that the epoch began with.
    assert objective_of(estimator, X, epoch=9) == pytest.approx(longer.loss_, rel=1e-9)


@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
def test_tied_weights_share_memory(hidden, tmp_path):
    X = make_data()
    estimator = AutoencoderTransformer(
        hidden_layer_sizes=hidden, tied_weights=True, max_iter=3, random_state=0
    ).fit(X)
    joblib.dump(estimator, tmp_path / "model.joblib")
    for fitted in (
        estimator,
        pickle.loads(pickle.dumps(estimator)),
        clone(estimator).fit(X),
        joblib.load(tmp_path / "model.joblib"),
    ):
        encoder = fitted.coefs_[: len(hidden) + 1]
        for i, weights in enumerate(encoder):
            assert np.shares_memory(fitted.coefs_[-1 - i], weights)
            np.testing.assert_array_equal(fitted.coefs_[-1 - i], weights.T)
        assert_same_fit(fitted, estimator)


def test_attributes_of_another_code_are_forgotten():
    X = make_data()
    estimator = make("adam").fit(X)
    assert hasattr(estimator, "explained_variance_ratio_")
    estimator.set_params(code_activation="tanh").fit(X)
    for name in ("explained_variance_", "explained_variance_ratio_"):
        assert not hasattr(estimator, name)


# -- scale -----------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, -3.0, 1e4])
@pytest.mark.parametrize("name", SCALED)
def test_code_does_not_depend_on_units(name, factor, offset):
    estimator = make(name)
    if estimator.get_params().get("noise") == "masking":
        offset = 0.0  # the value that masks
    if estimator.solver == "lbfgs":
        # Its line searches amplify roundings until they show.
        estimator.set_params(max_iter=5)
    X = make_data()
    code = clone(estimator).fit_transform(X)
    other = factor * X + offset * factor * X.std()
    other_code = estimator.fit_transform(other)
    np.testing.assert_allclose(other_code, code, rtol=0, atol=1e-5 * np.abs(code).max())


@pytest.mark.parametrize("name", SCALED)
def test_mean_and_scale(name):
    X = make_data() * [1, 2, 3, 4, 5, 6] + 7
    estimator = make(name, early_stopping=False).fit(X)
    np.testing.assert_allclose(estimator.mean_, X.mean(axis=0), rtol=1e-12)
    assert estimator.scale_ == pytest.approx(np.sqrt(X.var(axis=0).mean()), rel=1e-12)
    if is_variational(estimator.get_params()):
        return  # it takes no weights
    weights = np.arange(60.0)
    estimator.fit(X, sample_weight=weights)
    mean = np.average(X, axis=0, weights=weights)
    np.testing.assert_allclose(estimator.mean_, mean, rtol=1e-12)
    squares = np.average((X - mean) ** 2, axis=0, weights=weights)
    assert estimator.scale_ == pytest.approx(np.sqrt(squares.mean()), rel=1e-12)


def test_a_given_scale():
    """Fitting X with a scale is fitting X, divided by it, with the scale 1."""
    X = make_data()
    expected = make("tied", scale=1.0).fit(X / 4)
    estimator = make("tied", scale=4.0).fit(X)
    assert estimator.scale_ == 4
    np.testing.assert_array_equal(estimator.transform(X), expected.transform(X / 4))
    reconstructed, expected = reconstruct(estimator, X), reconstruct(expected, X / 4)
    np.testing.assert_allclose(reconstructed, 4 * expected, rtol=1e-12)


SATURATING = {
    "code": {"hidden_layer_sizes": (), "code_activation": "logistic"},
    "tanh": {"hidden_layer_sizes": (), "code_activation": "tanh"},
    "hidden": {"hidden_layer_sizes": (8,), "activation": "tanh"},
    "all": {
        "hidden_layer_sizes": (8, 5),
        "activation": "logistic",
        "code_activation": "logistic",
    },
    "relu": {"hidden_layer_sizes": (8,), "code_activation": "tanh"},
}


@pytest.mark.parametrize("how", [{}, {"init": "glorot", "solver": "lbfgs"}])
@pytest.mark.parametrize("tails", ["light", "heavy"])
@pytest.mark.parametrize("name", SATURATING)
def test_tied_saturating_networks_are_not_worse_than_pca(name, tails, how):
    """On the way out weights are as large as on the way in: the inputs are small."""
    X, _ = make_donuts(500, random_state=0)
    if tails == "heavy":
        X[::50] *= 30
    estimator = AutoencoderTransformer(
        2, tied_weights=True, random_state=0, **SATURATING[name], **how
    ).fit(X)
    spread = np.sqrt(X.var(axis=0).mean())
    if how:
        assert estimator.scale_ == pytest.approx(4 * spread)
        return
    pca = PCA(2).fit(X).explained_variance_ratio_.sum()
    assert estimator.score(X) > pca - 0.002
    n_layers = {"code": 1, "tanh": 1, "hidden": 2, "all": 5, "relu": 1}[name]
    farthest = np.linalg.norm(X - X.mean(axis=0), axis=1).max()
    assert estimator.scale_ == pytest.approx(5 * np.sqrt(n_layers) * farthest)
    other = clone(estimator).fit(1000 * X + 7)
    np.testing.assert_allclose(
        other.transform(1000 * X + 7), estimator.transform(X), atol=1e-9
    )


@pytest.mark.parametrize(
    "params",
    [
        {"noise": "gaussian"},
        {"sparsity": "l1"},
        {"tied_weights": False},
        {"activation": "relu"},
    ],
)
def test_other_networks_see_a_root_mean_square_of_one(params):
    """A penalty or noise is in the network's units; others need no small inputs."""
    X = make_data()
    params = {"tied_weights": True, "activation": "tanh", **params}
    estimator = make("adam", init="auto", max_iter=2, **params).fit(X)
    assert estimator.scale_ == pytest.approx(np.sqrt(X.var(axis=0).mean()))


@pytest.mark.parametrize("scale", ["auto", None])
def test_data_as_they_are(scale):
    """A logistic output, and the squared error."""
    X = np.random.default_rng(0).random((60, 6))
    params = {"code_activation": "tanh", "output_activation": "logistic"}
    estimator = make("tied_linear", **params, scale=scale).fit(X)
    assert estimator.scale_ == 1
    np.testing.assert_allclose(estimator.mean_, X.mean(axis=0), rtol=1e-12)
    layers = zip(estimator.coefs_, estimator.intercepts_, strict=True)
    (encode, encode_bias), (decode, decode_bias) = layers
    expected = expit(np.tanh(X @ encode + encode_bias) @ decode + decode_bias)
    np.testing.assert_allclose(reconstruct(estimator, X), expected, rtol=1e-10)


# The values that an activation can have, by its definition.
OUTPUT_RANGES = {
    "logistic": (0, 1),
    "sigmoid": (0, 1),
    "tanh": (-1, 1),
    "relu": (0, np.inf),
    "elu": (-1, np.inf),
    "selu": (-1.7580993408473766, np.inf),
    "gelu": (-0.169971207, np.inf),
    "silu": (-0.278464542, np.inf),
    "softplus": (0, np.inf),
}


def within(low, high, seed=0):
    """Data that fill a range, or a part of it."""
    X = np.random.default_rng(seed).random((60, 6))
    X[0, 0], X[1, 1] = 0, 1
    return low + X * (min(high, 3) - low)


@pytest.mark.parametrize("output", OUTPUT_RANGES)
def test_limited_outputs_see_the_data_as_they_are(output):
    low, high = OUTPUT_RANGES[output]
    X = within(low, high)
    estimator = make("adam", output_activation=output)
    for how in ("fit", "partial_fit"):
        fitted = getattr(clone(estimator), how)(X)
        assert fitted.scale_ == 1
        assert not fitted._offset.any()
    fitted.partial_fit(X)
    fitted = estimator.fit_batches(lambda: iter([X[:40], X[40:]]))
    assert fitted.scale_ == 1
    # What a scaler's rounding leaves, and new data, are no errors.
    far = 1.5 * X - 0.5
    middle = (X.min() + X.max()) / 2
    estimator.fit(X + 1e-7 * np.sign(X - middle), X_val=far)
    assert np.isfinite(estimator.score(far))


@pytest.mark.parametrize("as_given", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("how", ["fit", "partial_fit", "fit_batches", "go on"])
@pytest.mark.parametrize("output", OUTPUT_RANGES)
def test_data_out_of_the_range_of_the_output(output, how, as_given):
    low, high = OUTPUT_RANGES[output]
    estimator, good = make("adam", output_activation=output), within(low, high)
    beyond = {low - 0.0625, high + 0.0625} - {np.inf}
    for value in beyond:
        bad = good.copy()
        bad[3, 2] = value
        if how == "go on":
            estimator = clone(estimator).partial_fit(good)
        before = dict(vars(estimator))
        name = "partial_fit" if how == "go on" else how
        X = as_given(bad)
        given = (lambda X=X: [X]) if name == "fit_batches" else X
        with pytest.raises(ValueError, match=f"output_activation='{output}'") as caught:
            getattr(estimator, name)(given)
        message = str(caught.value)
        assert f"from {float(bad.min())!r} to {float(bad.max())!r}" in message
        scaler = "(feature_range=(-1, 1))" if output == "tanh" else "()"
        assert f"MinMaxScaler{scaler}" in message
        assert vars(estimator) == before
        # Who gives a scale is trusted.
        for scale in (None, 2.0):
            clone(estimator).set_params(scale=scale).fit(X)


def test_a_limited_output_is_not_a_trap():
    """It was centred and scaled data that a logistic output cannot be."""
    X = datasets.load_digits().data / 16
    plain, limited = (
        AutoencoderTransformer(
            10, hidden_layer_sizes=(64,), output_activation=output, random_state=0
        )
        for output in ("auto", "logistic")
    )
    assert limited.fit(X).score(X) > 0.8
    assert limited.score(X) > plain.fit(X).score(X) - 0.03


def test_a_network_fitted_on_scaled_data_goes_on():
    """Models of older versions with a limited output have centred and scaled."""
    X = make_data()
    estimator = make("adam", output_activation="logistic", scale=2.0).fit(X)
    estimator._training_state.scale = "auto"  # and there was no range
    estimator.set_params(scale="auto").partial_fit(X)
    assert estimator.scale_ == 2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss": "log_loss", "scale": 2.0}, "scale=2.0: with loss='log_loss' the"),
        ({"scale": 0}, "'scale' parameter of AutoencoderTransformer"),
        ({"scale": None, "init": "pca"}, "init='pca' does not go with scale=None"),
    ],
)
def test_bad_scales(params, message):
    X = np.random.default_rng(0).random((20, 3))
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(**params).fit(X)


@pytest.mark.parametrize("name", names_of(lambda p: not is_scaled(p)))
def test_losses_with_a_range_see_the_data_as_they_are(name):
    estimator = make(name)
    X = data_for(estimator)
    estimator.fit(X)
    assert estimator.scale_ == 1
    np.testing.assert_allclose(estimator.mean_, X.mean(axis=0), rtol=1e-12)
    low, high = RANGES[estimator.loss]
    reconstructed = reconstruct(estimator, X)
    assert (reconstructed >= low).all()
    assert estimator.loss == "poisson" or (reconstructed <= high).all()


def _odd_data():
    rng = np.random.default_rng(0)
    normal = rng.standard_normal
    constant_features = normal((20, 4))
    constant_features[:, [1, 3]] = 0.1, 0
    return {
        "mean 100": 100 + normal((20, 4)),
        "mean 100, float32": (100 + normal((20, 4))).astype(np.float32),
        "constant features": constant_features,
        "one feature": normal((20, 1)),
        "one row": normal((1, 4)),
        "two rows": normal((2, 4)),
        "duplicated rows": np.repeat(normal((2, 4)), 10, axis=0),
        "all but one row equal": np.concatenate([np.ones((19, 4)), normal((1, 4))]),
        "constant": np.full((7, 4), 0.1),
        "constant, float32": np.full((7, 4), 0.1, dtype=np.float32),
        "zero": np.zeros((20, 4)),
        "tiny": 1e-100 * normal((20, 4)),
        "huge": 1e100 * normal((20, 4)),
    }


ODD_DATA = _odd_data()


@pytest.mark.parametrize("name", [n for n in ALL_CASES if n != "early_stopping"])
@pytest.mark.parametrize("data", ODD_DATA)
def test_odd_data(data, name):
    """One component more than features, too; any warning would be an error."""
    X = ODD_DATA[data]
    for n_components in (2, X.shape[1] + 1):
        estimator = make(name, n_components=n_components)
        if estimator.loss in RANGES:
            if data == "huge":
                continue  # too large a target for a network's first weights
            X = np.abs(X)
        if estimator.loss == "log_loss":
            X = X / max(X.max(), 1)
        estimator.fit(X)
        for result in (
            estimator.transform(X),
            reconstruct(estimator, X),
            *estimator.coefs_,
            *estimator.intercepts_,
            estimator.loss_curve_,
            estimator.scale_,
            estimator.score(X),
            estimator.score_samples(X) if data != "huge" else 0.0,
        ):
            assert np.isfinite(result).all()
        assert estimator.score(X) <= 1
        for attribute in ("explained_variance_", "explained_variance_ratio_"):
            values = getattr(estimator, attribute, np.zeros(n_components))
            assert values.shape == (n_components,)
            assert np.isfinite(values).all()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 12345.678, 0.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_data_are_reconstructed(value, dtype):
    """The network starts at the mean: nothing is left to explain, and nothing is."""
    X = np.full((7, 3), value, dtype=dtype)
    estimator = make("deep", max_iter=2).fit(X)
    np.testing.assert_allclose(
        reconstruct(estimator, X), X, rtol=8 * np.finfo(dtype).eps
    )
    assert estimator.score(X) in (0.0, 1.0)
    assert estimator.loss_ == pytest.approx(0, abs=1e-10)


# -- types of data ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_CASES)
def test_float32(name):
    estimator = make(name)
    X = data_for(estimator)
    X32 = X.astype(np.float32)
    double = clone(estimator).fit(X)
    single = estimator.fit(X32)
    for array in (
        *single.coefs_,
        *single.intercepts_,
        single.mean_,
        single.transform(X32),
        reconstruct(single, X32),
        single.reconstruction_error(X32),
        single.reconstruction_error(X32, metric="loss", per_feature=True),
        # Others are cast to what the network is.
        single.transform(X),
        single.inverse_transform(np.zeros((1, 2))),
    ):
        assert array.dtype == np.float32
    assert double.transform(X32).dtype == np.float64
    if not starts_at_random(estimator.get_params()):
        # What follows are steps along gradients that are roundings.
        assert single.loss_curve_[0] == pytest.approx(double.loss_curve_[0], rel=1e-4)
        return
    assert single.loss_ == pytest.approx(double.loss_, rel=1e-3)
    if estimator.solver != "lbfgs":  # its line searches amplify roundings
        np.testing.assert_allclose(single.loss_curve_, double.loss_curve_, rtol=1e-4)


@pytest.mark.parametrize(
    "convert", [np.rint, "int64", "uint8", "float16", "longdouble", "bool", list, ">f8"]
)
def test_other_types_become_float64(convert):
    X = np.abs(np.rint(3 * make_data()))
    if convert is list:
        given = X.tolist()
    elif callable(convert):
        given = convert(X)
    else:
        given = X.astype(convert)
    expected = make("adam").fit(np.asarray(given, dtype=np.float64))
    estimator = make("adam").fit(given)
    assert_same_fit(estimator, expected)
    code = estimator.transform(given)
    assert code.dtype == np.float64
    given = np.asarray(given, dtype=np.float64)
    np.testing.assert_array_equal(code, expected.transform(given))


def _memory_mapped(X, tmp_path):
    X.tofile(tmp_path / "X.bin")
    return np.memmap(tmp_path / "X.bin", dtype=X.dtype, mode="r", shape=X.shape)


def _read_only(X, tmp_path):
    X = X.copy()
    X.flags.writeable = False
    return X


LAYOUTS = {
    "fortran": lambda X, tmp_path: np.asfortranarray(X),
    "every other row": lambda X, tmp_path: np.repeat(X, 2, axis=0)[::2],
    "every other column": lambda X, tmp_path: np.repeat(X, 2, axis=1)[:, ::2],
    "reversed": lambda X, tmp_path: X[::-1, ::-1].copy()[::-1, ::-1],
    "read only": _read_only,
    "memory map": _memory_mapped,
    "matrix": lambda X, tmp_path: X.view(np.ndarray)[np.arange(len(X))],
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layouts(layout, dtype, tmp_path):
    X = make_data().astype(dtype)
    given = LAYOUTS[layout](X, tmp_path)
    np.testing.assert_array_equal(given, X)
    for name in ("minibatch", "lbfgs"):
        expected, estimator = make(name).fit(X), make(name).fit(given)
        assert_same_fit(estimator, expected)
        np.testing.assert_array_equal(estimator.transform(given), expected.transform(X))
        assert estimator.score(given) == expected.score(X)
    np.testing.assert_array_equal(given, X)


# -- sparse data -----------------------------------------------------------------------


def make_sparse(loss="squared_error", dtype=np.float64, density=0.3):
    X = make_data(loss=loss).astype(dtype)
    X[np.random.default_rng(1).random(X.shape) > density] = 0
    return X


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ALL_CASES)
def test_sparse_equals_dense(name, dtype):
    estimator = make(name)
    X = make_sparse(estimator.loss, dtype)
    weights = np.arange(1.0, 61) if takes_weights(estimator) else None
    expected = clone(estimator).fit(X, **weighted_by(weights))
    X_csr = sparse.csr_matrix(X)
    estimator.fit(X_csr, **weighted_by(weights))
    assert_same_fit(estimator, expected)
    np.testing.assert_array_equal(estimator.transform(X_csr), expected.transform(X))
    assert estimator.score(X_csr) == expected.score(X)
    for metric in ("squared_error", "absolute_error", "loss"):
        for per_feature in (False, True):
            np.testing.assert_array_equal(
                estimator.reconstruction_error(
                    X_csr, metric=metric, per_feature=per_feature
                ),
                expected.reconstruction_error(
                    X, metric=metric, per_feature=per_feature
                ),
            )
    if is_stochastic(estimator.get_params()):
        assert_same_fit(estimator.partial_fit(X_csr), expected.partial_fit(X))


@pytest.mark.parametrize("container", ["matrix", "array"])
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
def test_sparse_formats(form, container):
    X = make_sparse()
    X_val = X[:9]
    make_sparse_of = getattr(sparse, f"{form}_{container}")
    estimator = make("minibatch").fit(make_sparse_of(X), X_val=make_sparse_of(X_val))
    expected = make("minibatch").fit(X, X_val=X_val)
    assert_same_fit(estimator, expected)
    code = estimator.transform(make_sparse_of(X))
    np.testing.assert_array_equal(code, expected.transform(X))
    assert isinstance(code, np.ndarray)


def test_sparse_with_repeated_and_unsorted_entries():
    """scipy allows both: repeated entries are summed."""
    X = np.array([[3.0, 0, 2, 1], [0, 4, 0, 0], [1, 0, 0, 5], [0, 0, 6, 0]])
    rows, columns = np.nonzero(X)
    entries = X[rows, columns] / 2
    order = np.lexsort([-np.tile(columns, 2), np.tile(rows, 2)])
    X_csr = sparse.csr_matrix(
        (
            np.tile(entries, 2)[order],
            np.tile(columns, 2)[order],
            2 * np.cumsum([0, *np.bincount(rows)]),
        ),
        shape=X.shape,
    )
    np.testing.assert_array_equal(X_csr.toarray(), X)
    assert X_csr.nnz == 2 * len(entries)
    estimator, expected = make("adam").fit(X_csr), make("adam").fit(X)
    assert_same_fit(estimator, expected)
    np.testing.assert_array_equal(estimator.transform(X_csr), expected.transform(X))


@contextlib.contextmanager
def traced_memory():
    """Gives a list that will hold the greatest number of bytes in use."""
    peak = []
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def test_sparse_data_are_never_dense():
    """480 MB they would be."""
    X = sparse.random(
        12_000, 5_000, density=1e-4, format="csr", random_state=0, dtype=np.float64
    )
    estimator = AutoencoderTransformer(
        2, hidden_layer_sizes=(), max_iter=1, random_state=0
    )
    with traced_memory() as peak:
        estimator.fit(X)
        estimator.transform(X)
        estimator.score(X)
        estimator.reconstruction_error(X, metric="loss")
    assert peak[0] < 200e6


def test_many_features():
    """A square matrix of features would be 288 MB."""
    X = np.random.default_rng(0).standard_normal((20, 6_000))
    estimator = AutoencoderTransformer(
        2, hidden_layer_sizes=(), max_iter=1, random_state=0
    )
    with traced_memory() as peak:
        estimator.fit(X).transform(X)
    assert peak[0] < 200e6


# -- sample weights --------------------------------------------------------------------

FULL_BATCH = names_of(lambda p: not p["early_stopping"] and not draws_for_rows(p))
FULL_BATCH.remove("minibatch")


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-6), (np.float32, 2e-3)])
@pytest.mark.parametrize("name", FULL_BATCH)
def test_integer_weights_repeat_rows(name, dtype, rtol):
    estimator = make(name, max_iter=5)
    X = data_for(estimator).astype(dtype)
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    repeated = clone(estimator).fit(np.repeat(X, weights, axis=0))
    estimator.fit(X, sample_weight=weights)
    assert_close_fit(estimator, repeated, X, rtol)
    np.testing.assert_allclose(estimator.mean_, repeated.mean_, rtol=rtol)
    if has_ordered_code(estimator.get_params()):
        ratio = estimator.explained_variance_ratio_
        np.testing.assert_allclose(
            ratio, repeated.explained_variance_ratio_, rtol=rtol, atol=rtol * ratio[0]
        )
    score = estimator.score(X, sample_weight=weights)
    assert score == pytest.approx(repeated.score(np.repeat(X, weights, axis=0)), 1e-4)


@pytest.mark.parametrize("name", FULL_BATCH)
def test_rows_without_weight_count_for_nothing(name):
    estimator = make(name, max_iter=5)
    X = data_for(estimator)
    weights = np.arange(len(X)) % 3.0
    removed = clone(estimator).fit(X[weights > 0], sample_weight=weights[weights > 0])
    if is_scaled(estimator.get_params()):
        X = np.where(weights[:, np.newaxis] > 0, X, 1e6)
    estimator.fit(X, sample_weight=weights)
    assert_close_fit(estimator, removed, X[weights > 0], 1e-6)


def test_rows_without_weight_may_overflow():
    X, weights = make_data(), np.arange(60) % 3.0
    removed = make("adam").fit(X[weights > 0], sample_weight=weights[weights > 0])
    X[weights == 0] = 1e200
    estimator = make("adam").fit(X, sample_weight=weights)
    assert_close_fit(estimator, removed, X[weights > 0], 1e-6)


def test_weights_of_one_change_nothing_but_their_sum():
    X = make_data()
    for name in ("minibatch", "lbfgs"):
        plain = make(name).fit(X)
        assert_close_fit(make(name).fit(X, sample_weight=np.ones(60)), plain, X, 1e-12)
        fives = make(name).fit(X, sample_weight=np.full(60, 5.0))
        assert_close_fit(fives, plain, X, 1e-10)


# -- partial_fit -----------------------------------------------------------------------


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("learning_rate", SCHEDULES[:3])
def test_partial_fits_are_epochs(solver, learning_rate):
    X = make_data()
    params = {
        "solver": solver,
        "learning_rate": learning_rate,
        "decay": 0.01,
        "shuffle": False,
        "tol": 0,
    }
    whole = make("minibatch", max_iter=7, **params).fit(X)
    passes = make("minibatch", **params)
    for n in range(1, 8):
        assert passes.partial_fit(X).n_iter_ == n
        assert len(passes.loss_curve_) == n
    assert_same_fit(passes, whole)


def test_partial_fit_is_one_pass():
    X = make_data(50)
    for batch_size in (5, 50):
        one = make("adam", batch_size=batch_size, shuffle=False).partial_fit(X)
        several = make("adam", batch_size=batch_size, shuffle=False)
        several.partial_fit(X[:25])
        several.partial_fit(X[25:])
        assert several.n_iter_ == 2
        assert one.n_iter_ == 1
        np.testing.assert_allclose(several.mean_, X[:25].mean(axis=0))


def test_partial_fit_keeps_the_last_weights():
    """Also if they are worse than the weights before."""
    X = make_data()
    estimator = make("adam").fit(X)
    before = estimator.reconstruction_error(X).sum()
    estimator.set_params(learning_rate_init=0.5).partial_fit(X)
    assert estimator.reconstruction_error(X).sum() > before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_partial_fit_after_fit(dtype):
    X = make_data().astype(dtype)
    estimator = make("adam", early_stopping=True, max_iter=5).fit(X)
    mean, scale = estimator.mean_.copy(), estimator.scale_
    loss = estimator.loss_
    # Other data, other dtype: the network's scale and dtype stay.
    estimator.partial_fit(3 * X.astype(np.float64) + 1)
    assert estimator.n_iter_ == 6
    np.testing.assert_array_equal(estimator.mean_, mean)
    assert estimator.scale_ == scale
    assert estimator.transform(X).dtype == dtype
    assert all(weights.dtype == dtype for weights in estimator.coefs_)
    assert estimator.loss_ > loss


def test_partial_fit_with_another_solver():
    X = make_data()
    estimator = make("adam", max_iter=5).fit(X)
    estimator.set_params(warm_start=True).fit(X)
    estimator.set_params(solver="sgd").partial_fit(X)
    assert (estimator.n_iter_, len(estimator.loss_curve_)) == (6, 11)


def test_partial_fit_checks_the_features():
    estimator = make("adam").partial_fit(make_data())
    with pytest.raises(ValueError, match=r"5 features.* expecting 6"):
        estimator.partial_fit(make_data(n_features=5))


def test_lbfgs_has_no_partial_fit():
    assert not hasattr(make("lbfgs"), "partial_fit")
    assert hasattr(make("adam"), "partial_fit")
    with pytest.raises(AttributeError) as caught:
        make("lbfgs").partial_fit(make_data())
    assert "lbfgs" in f"{caught.value} {caught.value.__cause__}"


# -- warm start ------------------------------------------------------------------------


def fit_twice(estimator, X, **fit_params):
    """Two warm-started fits of k epochs, and one of 2k."""
    once = clone(estimator).set_params(max_iter=2 * estimator.max_iter)
    once.fit(X, **fit_params)
    twice = clone(estimator).set_params(warm_start=True)
    twice.fit(X, **fit_params).fit(X, **fit_params)
    assert twice.n_iter_ == estimator.max_iter
    assert once.n_iter_ == 2 * estimator.max_iter
    twice.n_iter_ += estimator.max_iter
    return once, twice


def test_other_rows_of_the_same_mean_and_spread():
    """Though they are judged by the same rows."""
    X, other, X_val = (
        StandardScaler().fit_transform(make_data(seed=seed)) for seed in range(3)
    )
    estimator = make("lbfgs", max_iter=30, warm_start=True, tol=1e-9)
    before = estimator.fit(X, X_val=X_val).score(other)
    estimator.fit(other, X_val=X_val)
    assert estimator.n_iter_ > 3
    assert before < 0.5 < reconstruction_r2(last_weights(estimator), other)


def last_weights(estimator):
    """The estimator with the weights that training ended with."""
    estimator = pickle.loads(pickle.dumps(estimator))
    estimator._params = estimator._training_state.arrays["params"]
    return estimator


@pytest.mark.parametrize("n_calls", [1, 2])
def test_ctrl_c_while_other_rows_are_met(n_calls):
    """The next fit meets them again: nothing is of both."""
    X, other = make_data(), 3 * make_data(seed=1)
    estimator = make("adam", early_stopping=True, warm_start=True, max_iter=20)
    expected = clone(estimator).fit(X).fit(other)
    estimator.fit(X)
    with (
        interrupted_call(loop.Training, "value", n_calls),
        pytest.warns(TrainingInterruptedWarning),
    ):
        estimator.fit(other)
    assert_same_fit(estimator.fit(other), expected)


@pytest.mark.parametrize("judge", ["the rows", "others"])
@pytest.mark.parametrize("change", ["rows", "alpha"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_warm_start_with_another_objective(solver, change, judge):
    """What was known of the objective before, as curvature, is forgotten."""
    X, X_val = make_data(), make_data(seed=1)
    fit_params = {} if judge == "the rows" else {"X_val": X_val}
    estimator = make("lbfgs", solver=solver, alpha=0.0, max_iter=40, tol=1e-9)
    estimator.fit(X, **fit_params).set_params(warm_start=True)
    before = estimator.loss_
    if change == "rows":
        X = 3 * make_data(seed=2)
    else:
        estimator.set_params(alpha=1.0)
    loss = 0.5 * estimator.reconstruction_error(X).mean() / estimator.scale_**2
    penalty = 0.5 * estimator.alpha * sum((w**2).sum() for w in estimator.coefs_)
    estimator.fit(X, **fit_params)
    found = estimator.loss_curve_[estimator.n_iter_ :]
    assert before < min(found) < found[0] <= loss + penalty


@pytest.mark.parametrize("name", names_of(lambda p: p["learning_rate"] != RESTARTS))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_warm_start_goes_on(name, dtype):
    estimator = make(name, max_iter=6, tol=1e-12)
    if estimator.pretrain is not None:
        estimator.set_params(pretrain=None)  # its length is that of the first fit
    if estimator.learning_rate == "auto":
        estimator.set_params(learning_rate="constant")  # without `warm_start` a cosine
    X = data_for(estimator).astype(dtype)
    assert_same_fit(*fit_twice(estimator, X))


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("learning_rate", [s for s in SCHEDULES if s != RESTARTS])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tied_weights": True},
        {"early_stopping": True, "n_iter_no_change": 20},
        {"alpha": 0.1, "batch_size": 60},
    ],
    ids=["minibatch", "tied", "early stopping", "alpha"],
)
def test_warm_start_of_every_solver(solver, learning_rate, changes):
    # With this tol the adaptive schedule lowers its rate within the first fit.
    params = {"tol": 0.05, "n_iter_no_change": 2, "decay": 0.01, **changes}
    if learning_rate != "adaptive":
        params["tol"] = 0
    estimator = make(
        "minibatch", solver=solver, learning_rate=learning_rate, max_iter=7, **params
    )
    assert_same_fit(*fit_twice(estimator, make_data()))


def test_cosine_starts_anew():
    X = make_data()
    estimator = make("adam", solver="sgd", momentum=0, alpha=0, learning_rate="cosine")
    estimator.set_params(max_iter=10, learning_rate_init=0.1, warm_start=True, tol=0)
    estimator.fit(X).fit(X)
    gains = -np.diff(estimator.loss_curve_)
    # The gain of an epoch is proportional to its rate: 9 gains to the first fit's end.
    assert gains[8] < 0.1 * gains[0]
    assert gains[10] > 5 * gains[8]
    # One fit lowers the rate over all of its epochs.
    once = clone(estimator).set_params(max_iter=20).fit(X)
    assert once.loss_curve_[5] != estimator.loss_curve_[5]


@pytest.mark.parametrize("name", ["minibatch", "lbfgs", "early_stopping", "tied"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_warm_start_after_pickling(name, dtype, tmp_path):
    estimator = make(name, max_iter=5, warm_start=True, tol=1e-12)
    X = data_for(estimator).astype(dtype)
    estimator.fit(X)
    pickled = pickle.loads(pickle.dumps(estimator))
    joblib.dump(estimator, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    estimator.fit(X)
    assert_same_fit(pickled.fit(X), estimator)
    assert_same_fit(mapped.fit(X), estimator)


@pytest.mark.parametrize(
    "change",
    [
        {"n_components": 3},
        {"hidden_layer_sizes": (9,)},
        {"activation": "tanh"},
        {"code_activation": "tanh"},
        {"output_activation": "tanh"},
        {"tied_weights": True},
        {"loss": "poisson"},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_warm_start_of_another_network(change, method):
    X = make_data(loss="log_loss")
    estimator = make("adam", warm_start=True).fit(X)
    estimator.set_params(**change)
    with pytest.raises(ValueError, match="warm_start=False"):
        getattr(estimator, method)(X)
    estimator.set_params(warm_start=False).fit(X)


@pytest.mark.parametrize(
    ("before", "after"),
    [("auto", 2.0), (2.0, "auto"), (2.0, None), (None, 2.0), (None, "auto"), (2, 3)],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_warm_start_with_another_scale(before, after, method):
    X = make_data()
    estimator = make("adam", warm_start=True, scale=before, max_iter=2).fit(X)
    code = estimator.transform(X)
    estimator.set_params(scale=after)
    with pytest.raises(
        ValueError, match=f"scale={after!r}.*scale={before!r}.*Set scale"
    ):
        getattr(estimator, method)(X)
    np.testing.assert_array_equal(estimator.transform(X), code)
    estimator.set_params(scale=before).fit(X)
    estimator.set_params(scale=after, warm_start=False).fit(X)


def test_warm_start_with_the_number_that_auto_was():
    estimator = make("adam", warm_start=True, max_iter=2).fit(make_data())
    estimator.set_params(scale=estimator.scale_).fit(make_data())


def test_without_warm_start_everything_is_new():
    X, other = make_data(), make_data(seed=1, n_features=4)
    estimator = make("adam").fit(X)
    assert_same_fit(estimator.fit(other), make("adam").fit(other))
    assert_same_fit(estimator.fit(X), make("adam").fit(X))


@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "rmsprop"])
def test_warm_start_with_another_solver(solver):
    X = make_data()
    estimator = make("adam", warm_start=True, max_iter=30, alpha=0.0).fit(X)
    before = objective_of(estimator, X)
    estimator.set_params(solver=solver).fit(X)
    assert len(estimator.loss_curve_) == 30 + estimator.n_iter_
    first = estimator.loss_curve_[30]
    assert first == pytest.approx(before) if solver != "lbfgs" else first < before
    assert objective_of(estimator, X) < before


@pytest.mark.parametrize("change", [{"solver": "sgd"}, {"learning_rate_init": 0.3}])
def test_warm_start_does_not_lose_the_best_weights(change):
    """A second fit that only makes things worse keeps the first one's best."""
    X, X_val = make_data(40), make_data(40, seed=1)
    estimator = make("adam", max_iter=300, learning_rate_init=0.02, warm_start=True)
    estimator.set_params(alpha=0.0).fit(X, X_val=X_val)
    best = min(estimator.validation_loss_curve_)
    assert estimator.validation_loss_curve_[-1] > 1.001 * best  # it has overfitted
    assert objective_of(estimator, X_val) == pytest.approx(best)
    estimator.set_params(max_iter=1, **change).fit(X, X_val=X_val)
    assert estimator.validation_loss_curve_[-1] > best
    assert estimator.best_loss_ == best
    assert objective_of(estimator, X_val) == pytest.approx(best)


def test_warm_start_with_other_data():
    """The best weights of the old data are not those of the new."""
    easy, hard = 0.01 * make_data(), make_data(seed=1)
    estimator = make("adam", alpha=0.0, warm_start=True, max_iter=20)
    estimator.fit(easy, X_val=easy).fit(hard / 10, X_val=hard / 10)
    assert len(estimator.validation_loss_curve_) == 40
    new = estimator.validation_loss_curve_[20:]
    assert min(new) > max(estimator.validation_loss_curve_[:20])
    assert min(new) < new[0]
    assert objective_of(estimator, hard / 10) == pytest.approx(min(new))


def test_warm_start_with_other_data_goes_on_from_the_last_weights():
    """Not from those that were best for the old data, and if it gains nothing."""
    X, X_val = make_data(40), make_data(40, seed=1)
    estimator = make("adam", max_iter=300, learning_rate_init=0.02, warm_start=True)
    estimator.set_params(alpha=0.0).fit(X, X_val=X_val)
    curve = estimator.validation_loss_curve_
    assert curve[-1] > 1.001 * min(curve)  # the last weights are not the best
    estimator.set_params(max_iter=1, learning_rate_init=1e-300).fit(X, X_val=X)
    new = estimator.validation_loss_curve_[-1]
    assert objective_of(estimator, X) == pytest.approx(new, rel=1e-9)


def test_warm_start_keeps_units_and_features():
    X = make_data()
    estimator = make("adam", warm_start=True).fit(X)
    mean, scale = estimator.mean_.copy(), estimator.scale_
    estimator.fit(5 * X + 2)
    np.testing.assert_array_equal(estimator.mean_, mean)
    assert estimator.scale_ == scale
    with pytest.raises(ValueError, match=r"5 features.* expecting 6"):
        estimator.fit(make_data(n_features=5))


# -- validation, and which weights are kept --------------------------------------------

# Order may change the penalty of untied weights: the objective here is without.
NO_PENALTY = {"alpha": 0.0, "early_stopping": False}


@pytest.mark.parametrize("name", ALL_CASES)
def test_best_weights_by_x_val(name):
    estimator = make(name, **NO_PENALTY)
    X, X_val = data_for(estimator, n_rows=40), data_for(estimator, seed=1)
    estimator.fit(X, X_val=X_val)
    curve = estimator.validation_loss_curve_
    assert len(curve) == len(estimator.loss_curve_) == estimator.n_iter_
    assert estimator.best_loss_ == min(curve)
    objective = objective_of(estimator, X_val, X_fit=X)
    assert objective == pytest.approx(min(curve), rel=1e-9)


def noise(n_rows):
    """Nothing to learn from."""
    return np.random.default_rng(n_rows).standard_normal((n_rows, 6))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_overfitting(tied, solver):
    """The best validation epoch is not the last, and its weights are kept."""
    X, X_val = noise(15), noise(200)
    estimator = AutoencoderTransformer(
        2,
        hidden_layer_sizes=(60,),
        activation="tanh",
        tied_weights=tied,
        scale=1.0,
        init="random",
        solver=solver,
        learning_rate_init=0.02,
        max_iter=400,
        tol=1e-9,
        random_state=0,
    ).fit(X, X_val=X_val)
    curve = estimator.validation_loss_curve_
    assert np.argmin(curve) < len(curve) - 20
    assert curve[-1] > 1.05 * min(curve)
    assert objective_of(estimator, X_val) == pytest.approx(min(curve), rel=1e-9)
    # It goes on with the last weights, not with the best.
    estimator.set_params(warm_start=True, max_iter=1).fit(X, X_val=X_val)
    last, new = estimator.validation_loss_curve_[-2:]
    assert new == pytest.approx(last, rel=0.1)
    assert objective_of(estimator, X_val) == pytest.approx(min(curve), rel=1e-9)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_early_stopping_stops(tied, solver):
    X, X_val = noise(15), noise(200)
    params = {
        "hidden_layer_sizes": (60,),
        "activation": "tanh",
        "tied_weights": tied,
        "scale": 1.0,
        "init": "random",
        "solver": solver,
        "learning_rate_init": 0.02,
        "max_iter": 400,
        "tol": 1e-9,
        "random_state": 0,
    }
    if solver == "adam":  # L-BFGS converges in time
        endless = AutoencoderTransformer(2, **params, n_iter_no_change=np.inf)
        assert endless.fit(X, X_val=X_val).n_iter_ == 400
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        stopped = AutoencoderTransformer(
            2, **params, early_stopping=True, n_iter_no_change=5
        ).fit(X, X_val=X_val)
    curve = np.array(stopped.validation_loss_curve_)
    assert stopped.n_iter_ == len(curve) == len(stopped.loss_curve_) < 400
    assert (curve[-6:] > curve[:-6].min() - 1e-9).all()
    assert objective_of(stopped, X_val) == pytest.approx(curve.min(), rel=1e-9)


def split_of(X, mean, n_held_out, weights=None):
    """The held-out rows, found by the mean of the others."""
    weights = np.ones(len(X)) if weights is None else weights
    pairs = np.array([[i, j] for i in range(len(X)) for j in range(i)])
    picked = pairs if n_held_out == 2 else np.arange(len(X))[:, np.newaxis]
    rest = weights.sum() - weights[picked].sum(axis=1)
    total = weights @ X
    parts = (weights[picked][..., np.newaxis] * X[picked]).sum(axis=1)
    distances = np.abs((total - parts) / rest[:, np.newaxis] - mean).max(axis=1)
    assert (distances < 1e-10).sum() == 1
    return picked[distances.argmin()]


@pytest.mark.parametrize(
    ("name", "weighted"),
    [
        (name, weighted)
        for name in ALL_CASES
        for weighted in (False, True)
        if takes_weights(make(name)) or not weighted
    ],
)
def test_early_stopping_holds_rows_out(name, weighted):
    estimator = make(name, alpha=0.0, early_stopping=True, validation_fraction=0.1)
    estimator.set_params(learning_rate_init=0.01)
    X = data_for(estimator, n_rows=20)
    weights = np.random.default_rng(0).uniform(0.5, 3, 20) if weighted else None
    estimator.fit(X, **weighted_by(weights))
    held_out = split_of(X, estimator.mean_, 2, weights)
    train = np.setdiff1d(np.arange(20), held_out)
    of_fit = weighted_by(weights)
    weights = np.ones(20) if weights is None else weights
    curve = estimator.validation_loss_curve_
    assert estimator.best_loss_ == min(curve)
    # The start is a candidate, too.
    still = {"solver": "sgd", "learning_rate_init": 1e-300, "max_iter": 1}
    start = clone(estimator).set_params(**still).fit(X, **of_fit)
    best = min(*curve, objective_of(start, X, weights[held_out], rows=held_out))
    kept = objective_of(estimator, X, weights[held_out], rows=held_out)
    assert kept == pytest.approx(best, rel=1e-9)
    if is_scaled(estimator.get_params()):
        squares = weights[train] @ (X[train] - estimator.mean_) ** 2
        scale = np.sqrt((squares / weights[train].sum()).mean())
        assert estimator.scale_ == pytest.approx(scale, rel=1e-12)


def test_validation_rows_without_weight():
    X = make_data(20)
    held_out = split_of(X, make("early_stopping").fit(X).mean_, 2)
    weights = np.ones(20)
    weights[held_out] = 0
    with pytest.raises(ValueError, match=r"validation rows.*sample_weight 0"):
        make("early_stopping").fit(X, sample_weight=weights)
    with pytest.raises(ValueError, match=r"training rows.*sample_weight 0"):
        make("early_stopping").fit(X, sample_weight=1 - weights)


def test_x_val_instead_of_held_out_rows():
    X, X_val = make_data(), make_data(seed=1)
    estimator = make("early_stopping", alpha=0.0).fit(X, X_val=X_val)
    np.testing.assert_allclose(estimator.mean_, X.mean(axis=0))  # all rows
    kept = objective_of(estimator, X_val)
    assert kept == pytest.approx(min(estimator.validation_loss_curve_))


def test_x_val_changes_neither_training_nor_its_end():
    X = make_data()
    plain = make("minibatch", max_iter=400, learning_rate_init=0.01).fit(X)
    assert 20 < plain.n_iter_ < 400  # by the training loss
    watched = clone(plain).fit(X, X_val=make_data(seed=1))
    assert watched.loss_curve_ == plain.loss_curve_
    assert not hasattr(plain, "validation_loss_curve_")
    assert not hasattr(watched.fit(X), "validation_loss_curve_")


@pytest.mark.parametrize(
    "name", names_of(lambda p: is_stochastic(p) and starts_at_random(p))
)
def test_last_weights_are_kept_without_validation(name):
    """Also if an epoch before was better, as long as the start was not."""
    estimator = make(name, **NO_PENALTY, learning_rate="constant", batch_size=60, tol=0)
    estimator.set_params(max_iter=9)
    if is_variational(estimator.get_params()):
        estimator.set_params(kl_warmup=0)  # the objective is to stay the same
    X = data_for(estimator)
    longer = clone(estimator).set_params(max_iter=10).fit(X)
    estimator.fit(X)
    assert longer.loss_ < longer.loss_curve_[0]
    assert objective_of(estimator, X, epoch=9) == pytest.approx(longer.loss_, rel=1e-9)


def test_last_weights_are_kept_though_not_the_best():
    X = make_data()
    params = {"batch_size": 60, "max_iter": 9, "tol": 0, "learning_rate_init": 0.3}
    for n in range(5, 60):
        params["max_iter"] = n
        longer = make("adam", **{**params, "max_iter": n + 1}, alpha=0.0).fit(X)
        if min(longer.loss_curve_) < longer.loss_ < longer.loss_curve_[0]:
            break
    else:
        pytest.fail("training never went up")
    estimator = make("adam", **params, alpha=0.0).fit(X)
    assert objective_of(estimator, X) == pytest.approx(longer.loss_, rel=1e-10)


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("validated", [False, True])
def test_training_that_only_does_harm(solver, validated):
    """A huge learning rate and a bounded network: the loss grows, but is finite."""
    X = make_data()
    estimator = make(
        "adam",
        solver=solver,
        activation="tanh",
        code_activation="tanh",
        output_activation="tanh",
        scale=1.0,
        alpha=0.0,
        learning_rate_init=1e3,
        max_iter=30,
    ).fit(X, X_val=X if validated else None)
    start = estimator.loss_curve_[0]  # all rows, before the first update
    assert estimator.loss_ > start
    assert objective_of(estimator, X) <= start * (1 + 1e-12)
    if validated:
        best = min(start, *estimator.validation_loss_curve_)
        assert objective_of(estimator, X) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_weights_that_overflow_in_the_last_update(solver):
    X = make_data()
    estimator = make("adam", solver=solver, learning_rate_init=1e300, max_iter=1)
    with contextlib.suppress(ValueError):
        estimator.fit(X)
        assert objective_of(estimator, X) <= estimator.loss_curve_[0] * (1 + 1e-12)
        return
    assert not hasattr(estimator, "coefs_")


# -- losses and counts -----------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("tied", [False, True])
def test_loss_is_the_objective(loss, tied, weighted):
    """At a standstill the loss of an epoch, in batches too, is that of its weights."""
    X = make_data(loss=loss)
    weights = np.arange(60.0) if weighted else None
    for batch_size in (60, 7):
        estimator = AutoencoderTransformer(
            3,
            hidden_layer_sizes=(7, 5),
            activation="tanh",
            code_activation="softplus",  # not ordered: the penalty stays
            tied_weights=tied,
            loss=loss,
            init="random",  # of a start at PCA some samples would be held out
            alpha=0.1,
            learning_rate_init=1e-300,
            batch_size=batch_size,
            max_iter=3,
            random_state=0,
        ).fit(X, sample_weight=weights)
        expected = objective_of(estimator, X, weights)
        np.testing.assert_allclose(estimator.loss_curve_, expected, rtol=1e-10)
        estimator.set_params(solver="lbfgs").fit(X, sample_weight=weights)
        expected = objective_of(estimator, X, weights)
        assert estimator.loss_ == pytest.approx(expected, rel=1e-10)
        assert estimator.loss_ < estimator.loss_curve_[0]


@pytest.mark.parametrize("name", ALL_CASES)
def test_counts_and_curves(name):
    estimator = make(name)
    X = data_for(estimator)
    assert estimator.fit(X) is estimator
    assert estimator.n_components_ == 2
    hidden = hidden_layers(estimator)
    assert estimator.n_layers_ == 2 * len(hidden) + 3 == len(estimator.coefs_) + 1
    widths = [6, *hidden, 2, *hidden[::-1], 6]
    n_ins, n_outs = widths[:-1], widths[1:]
    if is_variational(estimator.get_params()):
        n_outs[len(hidden)] = 4  # means, and logarithms of variances
    shapes = [weights.shape for weights in estimator.coefs_]
    assert shapes == list(zip(n_ins, n_outs, strict=True))
    assert [len(biases) for biases in estimator.intercepts_] == n_outs
    assert 0 < estimator.n_iter_ == len(estimator.loss_curve_)
    assert name == "default" or estimator.n_iter_ <= estimator.max_iter
    assert estimator.loss_ == estimator.loss_curve_[-1]
    watched = getattr(estimator, "validation_loss_curve_", estimator.loss_curve_)
    assert estimator.best_loss_ == min(watched)
    validates = bool(estimator.early_stopping)
    assert hasattr(estimator, "validation_loss_curve_") == validates
    assert estimator.n_features_in_ == 6


@pytest.mark.parametrize("early_stopping", [False, True])
def test_plateau_rule(early_stopping):
    X = make_data()
    estimator = make("adam", early_stopping=early_stopping, max_iter=500, tol=0.01)
    estimator.set_params(n_iter_no_change=4, learning_rate_init=0.01).fit(X)
    curve = estimator.loss_curve_
    if early_stopping:
        curve = estimator.validation_loss_curve_
    n_bad, best = 0, np.inf
    for epoch, loss in enumerate(curve, start=1):
        n_bad = n_bad + 1 if loss > best - 0.01 else 0
        best = min(best, loss)
        assert (n_bad > 4) == (epoch == estimator.n_iter_)


def test_convergence_warning():
    X = make_data()
    with pytest.warns(ConvergenceWarning, match=r"\(3\).*Increase max_iter"):
        make("adam", max_iter=3).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        assert make("adam", max_iter=5000, tol=0.01).fit(X).n_iter_ < 5000
        assert make("lbfgs", max_iter=5000, tol=0.01).fit(X).n_iter_ < 5000


# -- scores and errors of reconstruction -----------------------------------------------


@pytest.mark.parametrize("name", ALL_CASES)
def test_reconstruction_error(name):
    estimator = make(name)
    X = data_for(estimator)
    estimator.fit(X)
    reconstructed = reconstruct(estimator, X)
    target, output = network_input(estimator, X), naive_output(estimator, X)
    loss_of = reference.LOSSES[estimator.loss][0]
    for metric, expected in {
        "squared_error": (X - reconstructed) ** 2,
        "absolute_error": np.abs(X - reconstructed),
        "loss": loss_of(output, target),
    }.items():
        entries = estimator.reconstruction_error(X, metric=metric, per_feature=True)
        atol = 1e-10 * np.abs(expected).max()
        np.testing.assert_allclose(entries, expected, rtol=0, atol=atol)
        rows = estimator.reconstruction_error(X, metric=metric)
        np.testing.assert_allclose(rows, expected.sum(axis=1), rtol=1e-10)
    np.testing.assert_array_equal(
        estimator.score_samples(X), -estimator.reconstruction_error(X)
    )
    params = estimator.get_params()
    if not draws_for_rows(params) and params["sparsity"] is None:
        mean_loss = estimator.reconstruction_error(X, metric="loss").mean()
        objective = objective_of(estimator.set_params(alpha=0.0), X)
        assert mean_loss == pytest.approx(objective, rel=1e-10)


def test_unknown_metric():
    estimator = make("adam").fit(make_data())
    with pytest.raises(ValueError, match=r"'r2'.*'squared_error', 'absolute_error'"):
        estimator.reconstruction_error(make_data(), metric="r2")


@pytest.mark.parametrize("name", ALL_CASES)
def test_score(name):
    estimator = make(name)
    X, X_new = data_for(estimator), data_for(estimator, seed=1, n_rows=31)
    estimator.fit(X)
    squares = (X_new - reconstruct(estimator, X_new)) ** 2
    # Of the training data, not of those that are scored.
    spread = (X_new - estimator.mean_) ** 2
    score = estimator.score(X_new)
    assert isinstance(score, float)
    assert score == pytest.approx(1 - squares.sum() / spread.sum(), rel=1e-10)
    weights = np.arange(31) % 4
    expected = 1 - (weights @ squares).sum() / (weights @ spread).sum()
    assert estimator.score(X_new, sample_weight=weights) == pytest.approx(expected)
    repeated = estimator.score(np.repeat(X_new, weights, axis=0))
    assert repeated == pytest.approx(expected)


@pytest.mark.parametrize("tied", [False, True])
def test_perfect_reconstruction(tied):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 2)) @ rng.standard_normal((2, 5)) + 3
    estimator = linear(n_components=2, tied_weights=tied).fit(X)
    assert estimator.loss_ < 1e-15
    assert estimator.score(X) == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(reconstruct(estimator, X), X, rtol=1e-6)
    for metric in ("squared_error", "loss"):
        assert estimator.reconstruction_error(X, metric=metric).max() < 1e-14


def test_a_row_does_not_depend_on_the_others():
    X = make_data(203)
    estimator = make("deep").fit(X)
    for results in (
        estimator.transform,
        estimator.score_samples,
        lambda X: estimator.reconstruction_error(X, metric="loss", per_feature=True),
    ):
        whole = results(X)
        for size in (1, 3, 64, 100):
            parts = [results(X[i : i + size]) for i in range(0, len(X), size)]
            np.testing.assert_array_equal(np.concatenate(parts), whole)


# -- bad input -------------------------------------------------------------------------

BAD_DATA = {
    "NaN": (np.array([[1.0, np.nan], [2, 3]]), "contains NaN"),
    "inf": (np.array([[1.0, np.inf], [2, 3]]), "contains infinity"),
    "1-D": (np.ones(4), "Expected 2D array, got 1D array"),
    "3-D": (np.ones((2, 2, 2)), "dim"),
    "no rows": (np.ones((0, 2)), r"0 sample\(s\)"),
    "no features": (np.ones((2, 0)), r"0 feature\(s\)"),
    "complex": (np.ones((2, 2)) * 1j, "Complex data not supported"),
    "text": (np.array([["a", "b"]]), "could not convert|dtype"),
}


@pytest.mark.parametrize("bad", BAD_DATA)
def test_bad_data(bad):
    X, message = BAD_DATA[bad]
    fitted = make("adam").fit(make_data(n_features=2))
    for call in (
        make("adam").fit,
        make("adam").partial_fit,
        fitted.transform,
        fitted.inverse_transform,
        fitted.score,
        fitted.reconstruction_error,
        fitted.score_samples,
        lambda X: make("adam").fit(make_data(n_features=2), X_val=X),
    ):
        with pytest.raises(ValueError, match=message):
            call(X)


BAD_WEIGHTS = {
    "negative": (np.r_[-1.0, np.ones(59)], "Negative values in sample_weight.*-1.0"),
    "nan": (np.full(60, np.nan), "sample_weight contains NaN"),
    "infinite": (np.full(60, np.inf), "sample_weight contains infinity"),
    "zero": (np.zeros(60), "sample_weight has no positive entry"),
    "short": (np.ones(59), r"sample_weight.shape == \(59,\), expected \(60,\)"),
    "2-D": (np.ones((60, 1)), "sample_weight must be 1-D"),
    "text": (np.full(60, "a"), "could not convert string to float"),
}


@pytest.mark.parametrize("bad", BAD_WEIGHTS)
def test_bad_weights(bad):
    """One check for all."""
    weights, message = BAD_WEIGHTS[bad]
    X = make_data()
    fitted = make("adam", max_iter=1).fit(X)
    for call in (
        make("adam").fit,
        make("adam").partial_fit,
        fitted.score,
        partial(reconstruction_r2_score, fitted),
    ):
        with pytest.raises(ValueError, match=message):
            call(X, sample_weight=weights)


@pytest.mark.parametrize("factor", [5e-324, 1e-300, 1e-30, 1e30, 1e308])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_only_ratios_of_weights_count(factor, dtype):
    X = make_data().astype(dtype)
    weights = np.r_[np.zeros(9), np.ones(51)]
    expected = make("adam", max_iter=3).fit(X, sample_weight=weights)
    estimator = clone(expected).fit(X, sample_weight=factor * weights)
    np.testing.assert_allclose(
        estimator.transform(X), expected.transform(X), rtol=0, atol=1e-4
    )
    score = estimator.score(X, sample_weight=factor * weights)
    assert score == pytest.approx(expected.score(X, sample_weight=weights), rel=1e-4)
    estimator = make("adam").partial_fit(X, sample_weight=factor * weights)
    assert np.isfinite(estimator.transform(X)).all()


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        (np.float32, 1e-26),
        (np.float32, 1e18),
        (np.float64, 1e-170),
        (np.float64, 1e153),
    ],
)
def test_scores_of_any_size(dtype, factor):
    X = make_data(100)
    estimator = make("adam").fit(X.astype(dtype))
    far = make("adam").fit((X * factor).astype(dtype))
    score = far.score((X * factor).astype(dtype))
    assert score == pytest.approx(estimator.score(X.astype(dtype)), rel=1e-4)
    validated = make("adam").fit((X * factor).astype(dtype), X_val=X * factor)
    np.testing.assert_allclose(
        validated.validation_loss_curve_[0], validated.loss_curve_[0], rtol=0.1
    )


@pytest.mark.parametrize(
    ("dtype", "factor"), [(np.float32, 1e-26), (np.float64, 1e-170)]
)
def test_squared_errors_below_the_range_are_refused(dtype, factor):
    X = make_data(50)
    small = (factor * X).astype(dtype)
    estimator = make("adam").fit(small)
    for call in (estimator.reconstruction_error, estimator.score_samples):
        with pytest.raises(
            ValueError, match=r"squared errors.*metric='absolute_error'"
        ):
            call(small)
    errors = estimator.reconstruction_error(small, metric="absolute_error")
    expected = make("adam").fit(X.astype(dtype))
    expected = expected.reconstruction_error(X.astype(dtype), metric="absolute_error")
    np.testing.assert_allclose(errors / factor, expected, rtol=1e-3)


@pytest.mark.parametrize(("dtype", "factor"), [(np.float32, 1e25), (np.float64, 1e160)])
def test_squared_errors_above_the_range_are_infinite(dtype, factor):
    X = make_data(50).astype(dtype)
    estimator = make("adam").fit(X)
    far = np.vstack([X, X[:1] * dtype(factor)])
    errors = estimator.reconstruction_error(far)
    assert errors[50] == np.inf
    assert np.isfinite(errors[:50]).all()
    assert estimator.score(far) <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_out_of_the_range_of_the_dtype(dtype):
    """Finite rows or codes do not become NaN."""
    X = make_data().astype(dtype)
    estimator = make("adam").fit(X)
    signs = np.where(np.arange(6) % 2, -1, 1)
    rows = (np.finfo(dtype).max * signs * [[1.0], [0.3]]).astype(dtype)
    codes = rows[:, :2] * np.sign(rows[:, :2])
    for method, what, given in (
        (estimator.transform, "codes", np.vstack([X[:3], rows])),
        (estimator.inverse_transform, "reconstructions", np.vstack([codes, codes])),
    ):
        message = f"X is too large: its {what} are out of the range of {X.dtype}"
        with pytest.raises(ValueError, match=message):
            method(given)
    errors = estimator.reconstruction_error(np.vstack([X[:3], rows]))
    assert np.isfinite(errors[:3]).all()
    assert (errors[3:] == np.inf).all()
    assert not np.isnan(estimator.reconstruction_error(rows, metric="loss")).any()
    assert estimator.score(rows) <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_order_of_bytes(dtype):
    """That of another machine changes no result, nor its type."""
    X = make_data().astype(dtype)
    other = X.astype(np.dtype(dtype).newbyteorder())
    assert not other.dtype.isnative
    expected = make("adam", max_iter=2).fit(X, X_val=X)
    estimator = clone(expected).fit(other, X_val=other)
    assert_same_fit(estimator, expected)
    for result in (estimator.mean_, estimator.transform(other)):
        assert result.dtype == dtype
        assert result.dtype.isnative
    np.testing.assert_array_equal(estimator.transform(other), expected.transform(X))
    code = estimator.transform(X)
    np.testing.assert_array_equal(
        estimator.inverse_transform(code.astype(code.dtype.newbyteorder())),
        estimator.inverse_transform(code),
    )
    batches = make("adam", max_iter=2, shuffle=False).fit_batches(lambda: [other])
    assert batches.transform(X).dtype == dtype


@pytest.mark.parametrize(("n_rows", "share"), [(1, 0.2), (3, 0.9), (2, 0.6)])
def test_too_few_rows_to_set_some_aside(n_rows, share):
    estimator = make("early_stopping", validation_fraction=share)
    message = rf"early_stopping=True.*validation_fraction={share}.*n_samples={n_rows}"
    with pytest.raises(ValueError, match=message) as caught:
        estimator.fit(make_data(n_rows))
    assert "test_size" not in str(caught.value)


def validation_rows(X):
    return {
        "too large": (X * 1e200, r"X_val is too large.*loss.*not finite.*same units"),
        "a pair": ((X, np.ones(60)), r"X_val is a tuple .*such as \(X, y\).*X alone"),
        "a list": ([X, X], r"X_val is a list .*such as \(X, y\)"),
        "narrow": (X[:, :3], "X_val has 3 features"),
        "NaN": (np.full((3, 6), np.nan), "Input X_val contains NaN"),
        "text": (np.array([["a"] * 6], dtype=object), "X_val: could not convert"),
        "one row": (X[0], "X_val: Expected 2D array, got 1D"),
        "no rows": (X[:0], "X_val: Found array with 0 sample"),
        "sparse": (sparse.csr_matrix(X[:, :3]), "X_val has 3 features"),
        "out of range": (X - 9, "Negative.*X_val has values"),
    }


@pytest.mark.parametrize("bad", validation_rows(np.ones((60, 6))))
def test_bad_validation_rows(bad):
    """What is wrong with X_val is not said of X, nor of the learning rate."""
    loss = "log_loss" if bad == "out of range" else "squared_error"
    X = make_data(loss=loss)
    X_val, message = validation_rows(X)[bad]
    estimator = make("adam", loss=loss)
    for fit in (
        estimator.fit,
        lambda X, **rest: estimator.fit_batches(lambda: [X], **rest),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            fit(X, X_val=X_val)
        assert not re.search(r"\bX (has|is|contains)", str(caught.value))
        assert not hasattr(estimator, "n_features_in_")


def test_validation_rows_too_large_for_the_dtype():
    X = make_data().astype(np.float32)
    for factor in (1e25, 1e100):
        with pytest.raises(ValueError, match=r"X_val.* too large"):
            make("adam").fit(X, X_val=X.astype(float) * factor)


@pytest.mark.parametrize("scale", [1e160, 1e300, 1e-160, 1e-300])
def test_scale_far_from_the_data(scale):
    with pytest.raises(ValueError, match=re.escape(f"scale={scale!r} is too far from")):
        make("adam", scale=scale).fit(make_data())


def test_rows_whose_squares_are_infinite():
    """One alone has no variance; where that is not finite they are refused."""
    as_they_are = make("poisson", n_components=3, max_iter=3, early_stopping="auto")
    assert (as_they_are.fit([[1.3e154]]).explained_variance_ == 0).all()
    estimator = make("adam", n_components=1).fit([[0.0], [1.2e154]])
    assert np.isfinite(estimator.explained_variance_).all()
    for refusing in (as_they_are, estimator):
        with pytest.raises(ValueError, match="too large for float64: its variance"):
            refusing.fit([[0.0], [2e154]])


@pytest.mark.parametrize("n_threads", [1, 4])
@pytest.mark.parametrize("as_given", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_transform_finds_what_is_not_finite(bad, as_given, n_threads, monkeypatch):
    """What is not finite shows in the sum of what the kernel reads."""
    monkeypatch.setattr(inference, "n_threads_for", lambda *args: n_threads)
    X = make_data(3000).astype(np.float32)
    fitted = make("logistic_code").fit(X)
    for row in (0, 1500, 2999):
        broken = X.copy()
        broken[row, -1] = bad
        with pytest.raises(ValueError, match="Input X contains") as expected:
            clone(fitted).fit(as_given(broken))
        with pytest.raises(ValueError, match="Input X contains") as found:
            fitted.transform(as_given(broken))
        assert str(found.value) == str(expected.value)
    X[:100, 0] = 2e38  # whose sum is infinite
    assert np.isfinite(fitted.transform(as_given(X))).all()


def test_transform_reads_finite_data_once(monkeypatch):
    fitted = make("adam").fit(make_data())

    def fails(*args, **kwargs):
        raise AssertionError("looked for NaN once more")

    monkeypatch.setattr(_base, "assert_all_finite", fails)
    monkeypatch.setattr(validation, "_assert_all_finite", fails)
    fitted.transform(make_data())
    with pytest.raises(AssertionError, match="once more"):
        fitted.score(make_data())


def test_wrong_number_of_features():
    fitted = make("adam", n_components=3).fit(make_data())
    X = make_data(n_features=5)
    for call in (fitted.transform, fitted.score, fitted.reconstruction_error):
        with pytest.raises(ValueError, match=r"5 features.* expecting 6"):
            call(X)
    with pytest.raises(ValueError, match=r"5 features.*n_components=3"):
        fitted.inverse_transform(X)
    with pytest.raises(ValueError, match=r"5 features.* expecting 6") as caught:
        make("adam").fit(make_data(), X_val=X)
    assert "X_val has" in str(caught.value)


def test_not_fitted():
    estimator = make("adam")
    for call in (
        estimator.transform,
        estimator.inverse_transform,
        estimator.score,
        estimator.score_samples,
        estimator.reconstruction_error,
    ):
        with pytest.raises(NotFittedError):
            call(make_data())
    for name in ("coefs_", "intercepts_", "loss_", "mean_", "n_components_"):
        assert not hasattr(estimator, name)


@pytest.mark.parametrize("as_given", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("part", ["X", "X_val"])
@pytest.mark.parametrize(
    ("loss", "low", "high", "message"),
    [
        ("log_loss", -0.5, 1.0, r"Negative.*\[0, 1\].*-0\.5 to 1"),
        ("log_loss", 0.0, 1.5, r"above 1.*\[0, 1\].*0 to 1\.5"),
        ("poisson", -2.0, 7.0, r"Negative.*>= 0.*-2 to 7"),
    ],
)
def test_data_out_of_range(loss, low, high, message, part, as_given):
    estimator = make("adam", loss=loss)
    good = make_data(loss="log_loss")
    bad = good.copy()
    bad[3, 2], bad[5, 1] = low, high
    X, X_val = (bad, None) if part == "X" else (good, as_given(bad))
    with pytest.raises(ValueError, match=message) as caught:
        estimator.fit(as_given(X), X_val=X_val)
    assert "MinMaxScaler" in str(caught.value)


@pytest.mark.parametrize("value", [1 + 1e-7, -1e-7, 1 + 1e-12])
def test_data_out_of_range_are_named_with_all_digits(value):
    X = make_data(loss="log_loss")
    X[3, 2] = value
    with pytest.raises(ValueError, match=re.escape(f"{value}")):
        make("log_loss").fit(X)


@pytest.mark.parametrize("as_given", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("loss", ["log_loss", "poisson"])
def test_roundings_out_of_range(loss, dtype, as_given, tmp_path):
    """MinMaxScaler makes them; the network is trained on, and judged by, the bound."""
    exact = make_data(loss="log_loss").astype(dtype)
    exact[3, 2], exact[5, 1], exact[7, 0] = 0, 1, 1
    X, eps = exact.copy(), np.finfo(dtype).eps
    X[3, 2] = -eps
    if loss == "log_loss":
        X[5, 1], X[7, 0] = 1 + eps, 1 + 200 * eps
    np.save(tmp_path / "rows.npy", X)
    given = as_given(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    expected = make("adam", loss=loss, max_iter=3).fit(exact, X_val=exact)
    estimator = clone(expected).fit(given, X_val=given)
    assert_same_fit(estimator, expected)
    np.testing.assert_array_equal(
        estimator.reconstruction_error(given, metric="loss"),
        expected.reconstruction_error(exact, metric="loss"),
    )
    # A row by itself is as small as its neighbours let it be.
    row = estimator.reconstruction_error(given[3:4] * 1, metric="loss")
    assert np.isfinite(row).all()
    assert (np.load(tmp_path / "rows.npy") == X).all()
    batches = clone(expected).set_params(shuffle=False)
    whole = clone(batches).fit(exact)
    assert_same_fit(batches.fit_batches(lambda: [given[:30], given[30:]]), whole)
    batches, whole = clone(expected), clone(expected)
    assert_same_fit(batches.partial_fit(given), whole.partial_fit(exact))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_minmax_scaler_makes_is_in_range(dtype):
    rng = np.random.default_rng(0)
    X = np.hstack([rng.random((50, 1000)) + offset for offset in (0, 9, 66, 200)])
    X = MinMaxScaler().fit_transform((3.7 * X).astype(dtype))
    assert X.max() > 1  # else the test tells nothing
    make("log_loss", max_iter=1).fit(X)


@pytest.mark.parametrize("loss", ["log_loss", "poisson"])
def test_the_loss_of_rows_out_of_its_range(loss):
    """An outlier would look most normal."""
    X = make_data(loss="log_loss")
    estimator = make("adam", loss=loss, max_iter=2).fit(X)
    bad = np.where(np.eye(60, 6) > 0, -3.0, X)
    with pytest.raises(ValueError, match=f"Negative.*{loss}.*from -3 to"):
        estimator.reconstruction_error(bad, metric="loss")
    assert np.isfinite(estimator.reconstruction_error(bad)).all()


@pytest.mark.parametrize("output", ACTIVATION_NAMES)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_output_activations_of_losses(loss, output):
    estimator = make("adam", loss=loss, output_activation=output, max_iter=2)
    X = make_data(loss="log_loss")
    legal = {"log_loss": "logistic", "poisson": "softplus"}.get(loss, output)
    if output == legal:
        assert np.isfinite(estimator.fit(X).score(X))
        return
    with pytest.raises(ValueError, match=f"{loss!r}.*{output!r}.*{legal!r}"):
        estimator.fit(X)


def test_sigmoid_is_logistic():
    X = make_data(loss="log_loss")
    names = ("activation", "code_activation", "output_activation")
    fits = [
        make("log_loss", **dict.fromkeys(names, name)).fit(X)
        for name in ("logistic", "sigmoid")
    ]
    assert_same_fit(*fits)


@pytest.mark.parametrize("activation", [("relu",), ("relu",) * 3, ("relu", "cube"), ()])
def test_bad_activation_sequences(activation):
    estimator = make("deep", activation=activation)
    with pytest.raises(
        ValueError, match=r"activation=\(.*each of the 2 hidden layers.*gelu"
    ):
        estimator.fit(make_data())


@pytest.mark.parametrize("sizes", [(0,), (3, -1), (2.5,), ("a",), 0, -1, 1.5, None])
def test_bad_hidden_layer_sizes(sizes):
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        make("adam", hidden_layer_sizes=sizes).fit(make_data())


@pytest.mark.parametrize("sizes", [8, (8,), [8], np.array([8]), np.int32(8)])
def test_hidden_layer_sizes(sizes):
    X = make_data()
    assert_same_fit(make("adam", hidden_layer_sizes=sizes).fit(X), make("adam").fit(X))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_components", 0),
        ("n_components", 1.5),
        ("n_components", "mle"),
        ("activation", "cube"),
        ("code_activation", "cube"),
        ("output_activation", "cube"),
        ("tied_weights", "yes"),
        ("loss", "hinge"),
        ("init", "zeros"),
        ("solver", "newton"),
        ("alpha", -1),
        ("batch_size", 0),
        ("batch_size", "all"),
        ("learning_rate", "fast"),
        ("learning_rate_init", 0),
        ("decay", -1),
        ("power_t", -1),
        ("momentum", 1.1),
        ("nesterovs_momentum", "yes"),
        ("beta_1", 1.0),
        ("beta_2", 1.0),
        ("epsilon", 0),
        ("max_iter", 0),
        ("shuffle", "yes"),
        ("tol", -1),
        ("n_iter_no_change", 0),
        ("early_stopping", "yes"),
        ("validation_fraction", 0.0),
        ("validation_fraction", 1.0),
        ("warm_start", "yes"),
        ("random_state", "seed"),
        ("verbose", -1),
        ("noise", "pink"),
        ("noise_level", -0.1),
        ("sparsity", "l2"),
        ("sparsity_target", 0.0),
        ("sparsity_target", 1.0),
        ("sparsity_weight", -1.0),
        ("pretrain", "deep"),
    ],
)
def test_bad_parameter_values(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of Autoencoder"):
        make("adam", **{name: value}).fit(make_data())


def test_every_parameter_is_checked():
    constraints = AutoencoderTransformer._parameter_constraints
    assert set(constraints) == set(AutoencoderTransformer().get_params())


# -- training that fails ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_diverging_training(solver, method, dtype):
    """An explosion over several updates raises; whatever came before is finite."""
    X = make_data().astype(dtype)
    rate = 1e3
    if solver != "sgd":  # its steps do not grow with the loss
        rate = 1e30 if dtype == np.float32 else 1e200
    estimator = make("minibatch", solver=solver, learning_rate_init=rate)
    with pytest.raises(ValueError, match="diverged") as caught:  # noqa: PT012
        for _ in range(1 if method == "fit" else 100):
            getattr(estimator, method)(X)
    message = str(caught.value)
    assert "Lower learning_rate_init" in message
    assert "StandardScaler" in message
    assert f"solver={solver!r}" in message
    for array in (*getattr(estimator, "coefs_", []),):
        assert np.isfinite(array).all()
    if method == "fit":
        assert not hasattr(estimator, "coefs_")


def test_diverging_warm_start_leaves_the_estimator():
    X = make_data()
    estimator = make("sgd_nesterov", warm_start=True).fit(X)
    estimator.set_params(learning_rate_init=1e6)
    before, code = joblib.hash(vars(estimator)), estimator.transform(X)
    with pytest.raises(ValueError, match="diverged"):
        estimator.fit(X)
    assert joblib.hash(vars(estimator)) == before
    np.testing.assert_array_equal(estimator.transform(X), code)


def failures():
    X = make_data()
    nan = np.where(np.arange(6) == 2, np.nan, X)
    return {
        "NaN": ({}, (nan,), {}),
        "features": ({"warm_start": True}, (X[:, :4],), {}),
        "weights": ({}, (X[:, :4],), {"sample_weight": -np.ones(60)}),
        "weights of X": ({}, (X[:, :4],), {"sample_weight": np.ones(3)}),
        "diverging": (
            {"solver": "sgd", "learning_rate_init": 1e6},
            (X[:, :4],),
            {},
        ),
        "activation": ({"activation": ("relu", "relu")}, (X[:, :4],), {}),
        "output": (
            {"loss": "poisson", "output_activation": "relu"},
            (np.abs(X[:, :4]),),
            {},
        ),
        "range": ({"loss": "log_loss"}, (X[:, :4],), {}),
        "architecture": ({"n_components": 3, "warm_start": True}, (X,), {}),
        "X_val": ({}, (X[:, :4],), {"X_val": X}),
        "parameter": ({"alpha": -1}, (X[:, :4],), {}),
        "split": ({"early_stopping": True}, (X[:1, :4],), {}),
    }


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("failure", failures())
@pytest.mark.parametrize("fitted", [False, True])
def test_failed_fit_changes_nothing(failure, fitted):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    changes, args, fit_params = failures()[failure]
    frame = pandas.DataFrame(make_data(), columns=list("abcdef"))
    estimator = make("adam")
    if fitted:
        estimator.fit(frame, X_val=frame)
    elif "warm_start" in changes:
        return  # nothing to go on from
    estimator.set_params(**changes)
    before = joblib.hash(vars(estimator))
    with pytest.raises(ValueError):  # noqa: PT011  (each has its own test)
        estimator.fit(*args, **fit_params)
    assert joblib.hash(vars(estimator)) == before
    assert hasattr(estimator, "feature_names_in_") == fitted


# -- Ctrl-C ----------------------------------------------------------------------------


@contextlib.contextmanager
def ctrl_c_after(seconds):
    """SIGINT to this process, as a terminal sends it."""
    sent = []

    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(seconds, send)
    try:
        timer.start()
        yield sent
    except KeyboardInterrupt:
        pytest.fail("KeyboardInterrupt came out of fit")
    finally:
        timer.cancel()
        timer.join()


@contextlib.contextmanager
def warns_of_interrupt():
    with pytest.warns(UserWarning, match="interrupted") as caught:
        yield
    assert not any(w.category is ConvergenceWarning for w in caught)


ENDLESS = {
    "max_iter": 10**8,
    "tol": 0,
    "n_iter_no_change": np.inf,
    "early_stopping": False,
    "random_state": 0,
}
NETWORKS = {
    "tiny": ((20, 3), ()),
    "small": ((200, 10), (30,)),
    "large": ((2_000, 100), (200, 50)),
}


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize(
    ("network", "solver"),
    [
        ("tiny", "adam"),
        ("small", "adam"),
        ("large", "adam"),
        ("large", "sgd"),
        ("small", "lbfgs"),
        ("large", "lbfgs"),
    ],
)
def test_ctrl_c(network, solver, verbose, capsys):
    (n_rows, n_features), hidden = NETWORKS[network]
    X = make_data(n_rows, n_features)
    estimator = AutoencoderTransformer(
        hidden_layer_sizes=hidden,
        activation="tanh",
        solver=solver,
        learning_rate_init=1e-4,
        verbose=verbose,
        **ENDLESS,
    )
    with warns_of_interrupt(), ctrl_c_after(0.5) as sent:
        estimator.fit(X)
    assert time.perf_counter() - sent[0] < 2
    for array in (*estimator.coefs_, *estimator.intercepts_, estimator.transform(X)):
        assert np.isfinite(array).all()
    assert objective_of(estimator, X) <= estimator.loss_curve_[0] * (1 + 1e-12)
    assert estimator.n_iter_ == len(estimator.loss_curve_) > 0
    assert estimator.loss_ == estimator.loss_curve_[-1]
    # And it can go on.
    n_before = estimator.n_iter_
    estimator.set_params(max_iter=2, warm_start=True, verbose=False).fit(X)
    assert len(estimator.loss_curve_) == n_before + 2


def test_ctrl_c_between_epochs():
    """While a line is printed, say."""

    class Terminal(io.StringIO):
        def write(self, text):
            if "epoch 4/" in text:
                raise KeyboardInterrupt
            return super().write(text)

    X = make_data()
    estimator = make("adam", max_iter=9, verbose=2)
    with warns_of_interrupt(), contextlib.redirect_stdout(Terminal()):
        try:
            estimator.fit(X)
        except KeyboardInterrupt:
            pytest.fail("KeyboardInterrupt came out of fit")
    assert estimator.n_iter_ == 4
    assert_same_fit(estimator.set_params(verbose=0), make("adam", max_iter=4).fit(X))


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_in_partial_fit():
    """A pass of several seconds."""
    X = make_data(3_000, 200)
    estimator = AutoencoderTransformer(
        hidden_layer_sizes=(1_000, 500), batch_size=2, random_state=0
    )
    with warns_of_interrupt(), ctrl_c_after(0.5) as sent:
        estimator.partial_fit(X)
    assert time.perf_counter() - sent[0] < 2
    assert np.isfinite(estimator.transform(X[:100])).all()


# -- random_state ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_CASES)
def test_same_seed_same_bits(name):
    estimator = make(name, max_iter=5)
    X = data_for(estimator)
    assert_same_fit(clone(estimator).fit(X), clone(estimator).fit(X))
    other = clone(estimator).set_params(random_state=1).fit(X)
    assert not np.array_equal(other.coefs_[0], estimator.fit(X).coefs_[0])


def test_random_state_instance():
    X = make_data()
    first = make("minibatch", random_state=np.random.RandomState(0)).fit(X)
    assert_same_fit(first, make("minibatch", random_state=0).fit(X))
    # It is drawn from: the next fit is another one.
    loss = first.loss_
    assert first.fit(X).loss_ != loss


@pytest.mark.parametrize("name", ["minibatch", "early_stopping", "lbfgs"])
@pytest.mark.parametrize(
    "given", [0, np.random.RandomState(0)], ids=["int", "instance"]
)
def test_global_random_state_is_left_alone(name, given):
    X = make_data()
    before = joblib.hash(np.random.get_state())  # noqa: NPY002
    estimator = make(name, random_state=given).fit(X)
    estimator.transform(X)
    assert joblib.hash(np.random.get_state()) == before  # noqa: NPY002


@pytest.mark.parametrize("name", ["minibatch", "early_stopping", "lbfgs"])
def test_no_random_state_draws_one_number(name):
    X = make_data()
    estimator = make(name, random_state=None, max_iter=3)
    before = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(0)  # noqa: NPY002
        first = clone(estimator).fit(X)
        after_fit = joblib.hash(np.random.get_state())  # noqa: NPY002
        np.random.seed(0)  # noqa: NPY002
        np.random.randint(np.iinfo(np.int32).max)  # noqa: NPY002
        assert joblib.hash(np.random.get_state()) == after_fit  # noqa: NPY002
        np.random.seed(0)  # noqa: NPY002
        second = clone(estimator).fit(X)
        third = clone(estimator).fit(X)
    finally:
        np.random.set_state(before)  # noqa: NPY002
    assert_same_fit(first, second)
    assert third.loss_ != second.loss_


@pytest.mark.parametrize("init", ["glorot", "he", "lecun", "normal"])
def test_init(init):
    """Spread of the first weights, seen where training stands still."""
    X = make_data(n_features=50)
    estimator = AutoencoderTransformer(
        40,
        hidden_layer_sizes=(200,),
        code_activation="tanh",  # not ordered
        init=init,
        learning_rate_init=1e-300,
        max_iter=1,
        random_state=0,
    ).fit(X)
    for weights, biases in zip(estimator.coefs_, estimator.intercepts_, strict=True):
        n_in, n_out = weights.shape
        variance = {
            "glorot": 2 / (n_in + n_out),
            "he": 2 / n_in,
            "lecun": 1 / n_in,
            "normal": 1,
        }[init]
        assert weights.var() == pytest.approx(variance, rel=0.1)
        assert abs(weights.mean()) < 0.05 * np.sqrt(variance)
        assert biases.std() == pytest.approx(1 if init == "normal" else 0, abs=0.2)


# -- frames and pipelines --------------------------------------------------------------


def test_pandas():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X = make_data()
    frame = pandas.DataFrame(X, columns=list("abcdef"), index=range(100, 160))
    frame = frame.astype({"a": np.float32, "b": "Float64"})
    estimator = make("adam").fit(frame)
    assert estimator.feature_names_in_.tolist() == list("abcdef")
    assert_same_fit(estimator, make("adam").fit(frame.to_numpy(np.float64)))
    with pytest.raises(ValueError, match="feature names"):
        estimator.transform(frame[list("fedcba")])
    names = ["autoencodertransformer0", "autoencodertransformer1"]
    assert estimator.get_feature_names_out().tolist() == names
    code = estimator.set_output(transform="pandas").transform(frame)
    assert code.columns.tolist() == names
    assert code.index.tolist() == list(range(100, 160))


@pytest.mark.parametrize(
    "columns", [range(6), [0.5, 1, 2, 3, 4, 5], [("a", i) for i in range(6)]]
)
def test_pandas_with_odd_columns(columns):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X = make_data()
    frame = pandas.DataFrame(X, columns=pandas.Index(columns, tupleize_cols=False))
    estimator = make("adam").fit(frame)
    assert not hasattr(estimator, "feature_names_in_")
    assert_same_fit(estimator, make("adam").fit(X))
    np.testing.assert_array_equal(estimator.transform(frame), estimator.transform(X))
    mixed = frame.set_axis(["a", 1, "c", 3, "e", 5], axis=1)
    with pytest.raises(TypeError, match="string"):
        make("adam").fit(mixed)


def test_polars():
    polars = pytest.importorskip("polars", reason="polars is not installed")
    X = make_data()
    frame = polars.DataFrame(X, schema=list("abcdef"))
    estimator = make("adam").fit(frame)
    assert estimator.feature_names_in_.tolist() == list("abcdef")
    assert_same_fit(estimator, make("adam").fit(X))
    code = estimator.set_output(transform="polars").transform(frame)
    assert isinstance(code, polars.DataFrame)
    np.testing.assert_array_equal(code.to_numpy(), make("adam").fit_transform(X))


def test_pipeline_and_grid_search_beside_pca():
    X = datasets.load_digits().data[:200]
    pipeline = make_pipeline(StandardScaler(with_std=False), PCA())
    autoencoder = linear(max_iter=300, tol=1e-6)
    search = GridSearchCV(
        pipeline,
        {"pca": [PCA(), autoencoder], "pca__n_components": [1, 3]},
        scoring=reconstruction_r2,
        cv=3,
    ).fit(X)
    scores = search.cv_results_["mean_test_score"].reshape(2, 2)
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3)
    assert (scores[:, 1] > scores[:, 0]).all()
    assert search.best_params_["pca__n_components"] == 3

    pipeline.set_params(pca=autoencoder).fit(X)
    np.testing.assert_allclose(
        pipeline.inverse_transform(pipeline.transform(X)),
        X.mean(axis=0) + reconstruct(pipeline[-1], X - X.mean(axis=0)),
        atol=1e-10,
    )
    assert pipeline.get_feature_names_out().shape == (3,)
    assert pipeline.score(X) == pytest.approx(pipeline[-1].score(X - X.mean(axis=0)))
    # The default scoring of a grid search is score.
    search = GridSearchCV(make("adam"), {"n_components": [1, 2]}, cv=2).fit(X)
    assert search.best_score_ <= 1


def test_fit_transform_takes_what_fit_takes():
    X, weights = make_data(), np.arange(60.0)
    estimator = make("adam")
    code = estimator.fit_transform(X, sample_weight=weights, X_val=X)
    expected = make("adam").fit(X, sample_weight=weights, X_val=X)
    assert_same_fit(estimator, expected)
    np.testing.assert_array_equal(code, expected.transform(X))


def test_metadata_routing():
    X, X_val, weights = make_data(), make_data(seed=1), np.arange(60.0)
    with config_context(enable_metadata_routing=True):
        step = make("adam").set_fit_request(sample_weight=True, X_val=True)
        step.set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, step)
        pipeline.transform_input = ["X_val"]
        pipeline.fit(X, sample_weight=weights, X_val=X_val)
        score = pipeline.score(X, sample_weight=weights)
    Z, Z_val = scaler.transform(X), scaler.transform(X_val)
    expected = make("adam").fit(Z, sample_weight=weights, X_val=Z_val)
    assert_same_fit(pipeline[-1], expected)
    assert score == expected.score(Z, sample_weight=weights)


# -- copies ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_CASES)
def test_round_trips(name, tmp_path):
    estimator = make(name, max_iter=5)
    X = data_for(estimator)
    estimator.fit(X)
    path = tmp_path / "model.joblib"
    joblib.dump(estimator, path)
    for copy in (
        pickle.loads(pickle.dumps(estimator)),
        joblib.load(path),
        joblib.load(path, mmap_mode="r"),
        clone(estimator).fit(X),
        type(estimator)().set_params(**estimator.get_params()).fit(X),
    ):
        assert copy.get_params() == estimator.get_params()
        assert_same_fit(copy, estimator)
        for call in ("transform", "score", "score_samples"):
            np.testing.assert_array_equal(
                getattr(copy, call)(X), getattr(estimator, call)(X)
            )
        np.testing.assert_array_equal(
            copy.reconstruction_error(X, metric="loss"),
            estimator.reconstruction_error(X, metric="loss"),
        )
        np.testing.assert_array_equal(reconstruct(copy, X), reconstruct(estimator, X))
        if is_stochastic(estimator.get_params()):
            again = pickle.loads(pickle.dumps(estimator)).partial_fit(X)
            assert_same_fit(copy.partial_fit(X), again)


def test_fit_does_not_change_its_arguments():
    X, X_val, weights = make_data(), make_data(seed=1), np.arange(60.0)
    X_sparse = sparse.csr_matrix(make_sparse())
    for name, data in [("deep", X), ("minibatch", X_sparse), ("lbfgs", X_sparse)]:
        estimator = make(name)
        before = joblib.hash([data, X_val, weights, estimator.get_params()])
        estimator.fit(data, sample_weight=weights, X_val=X_val)
        estimator.transform(data)
        estimator.score_samples(data)
        after = joblib.hash([data, X_val, weights, estimator.get_params()])
        assert after == before


# -- progress --------------------------------------------------------------------------

LINE = re.compile(
    r"\[AutoencoderTransformer\] epoch +(\d+)/(\d+)  loss (\S+)"
    r"(?:  validation loss (\S+))?"
)


@pytest.mark.parametrize("name", ["minibatch", "early_stopping", "lbfgs"])
@pytest.mark.parametrize("max_iter", [1, 7, 150])
def test_verbose(name, max_iter, capsys):
    estimator = make(name, verbose=True, max_iter=max_iter, tol=0)
    estimator.set_params(n_iter_no_change=np.inf).fit(make_data())
    *lines, end = capsys.readouterr().out.splitlines()
    assert end.startswith("[AutoencoderTransformer] end: ")
    assert min(5, max_iter) <= len(lines) <= 25
    curve = getattr(estimator, "validation_loss_curve_", None)
    for line in lines:
        epoch, last, loss, validation_loss = LINE.fullmatch(line).groups()
        assert int(last) == max_iter
        index = int(epoch) - 1
        assert float(loss) == pytest.approx(estimator.loss_curve_[index], rel=1e-5)
        assert (validation_loss is None) == (curve is None)
        if curve is not None:
            assert float(validation_loss) == pytest.approx(curve[index], rel=1e-5)
    epochs = [int(LINE.fullmatch(line).group(1)) for line in lines]
    assert epochs == sorted(set(epochs))
    assert epochs[0] == 1


def test_verbose_every_epoch(capsys):
    X = make_data()
    estimator = make("adam", verbose=2, max_iter=50, warm_start=True).fit(X)
    assert len(LINE.findall(capsys.readouterr().out)) == 50
    estimator.fit(X)
    epochs = [m.group(1, 2) for m in LINE.finditer(capsys.readouterr().out)]
    assert epochs[0] == ("51", "100")
    assert epochs[-1] == ("100", "100")


def test_progress_does_not_change_the_result(capsys):
    X = make_data()
    for name in ("minibatch", "early_stopping", "lbfgs"):
        quiet = make(name).fit(X)
        assert capsys.readouterr().out == ""
        for verbose in (True, 3):
            assert_same_fit(make(name, verbose=verbose).fit(X), quiet)
            assert capsys.readouterr().out


@pytest.fixture
def callback():
    return pytest.importorskip(
        "sklearn.callback", reason="callbacks are new in scikit-learn 1.9"
    )


class Watcher:
    """Notes every task's end, and may stop the fit."""

    def __init__(self, stop_after=None):
        self.stop_after, self.seen = stop_after, []
        self.n_begun = self.n_set_up = self.n_torn_down = 0

    def setup(self, estimator, context):
        self.n_set_up += 1

    def teardown(self, estimator, context):
        self.n_torn_down += 1

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.n_begun += 1

    def on_fit_task_end(
        self, estimator, context, *, X=None, metadata=None, fitted_estimator=None
    ):
        code = fitted_estimator.transform(X)
        self.seen.append(
            (
                context.task_name,
                context.task_id,
                fitted_estimator.loss_,
                fitted_estimator.score(X),
                metadata,
                np.isfinite(code).all() and code.shape == (len(X), 2),
            )
        )
        return self.stop_after is not None and context.task_id + 1 == self.stop_after


@pytest.mark.parametrize("name", ["minibatch", "early_stopping", "lbfgs", "tied"])
def test_callbacks_see_every_epoch(name, callback):
    X = make_data()
    estimator = make(name, max_iter=6)
    plain = clone(estimator).fit(X)
    watcher = Watcher()
    estimator.set_callbacks(watcher).fit(X)
    assert_same_fit(estimator, plain)
    assert watcher.n_set_up == watcher.n_torn_down == 1
    assert watcher.n_begun == len(watcher.seen) == 7
    *epochs, last = watcher.seen
    assert [epoch[0] for epoch in epochs] == ["epoch"] * 6
    assert [epoch[1] for epoch in epochs] == list(range(6))
    assert [epoch[2] for epoch in epochs] == plain.loss_curve_
    assert all(epoch[-1] for epoch in watcher.seen)
    assert last[0] == "fit"
    assert last[3] == plain.score(X)


def test_callback_stops(callback):
    X, weights = make_data(), np.arange(60.0)
    watcher = Watcher(stop_after=3)
    estimator = make("minibatch", max_iter=9).set_callbacks(watcher)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        estimator.fit(X, sample_weight=weights)
    assert estimator.n_iter_ == 3
    expected = make("minibatch", max_iter=3).fit(X, sample_weight=weights)
    assert_same_fit(estimator, expected)
    assert watcher.seen[0][4]["sample_weight"] is weights


def test_failing_fit_with_callbacks(callback):
    X = make_data()
    watcher = Watcher()
    estimator = make("sgd_momentum", learning_rate_init=1e6).set_callbacks(watcher)
    with pytest.raises(ValueError, match="diverged"):
        estimator.fit(X)
    assert not hasattr(estimator, "n_features_in_")
    assert watcher.n_torn_down == 1


class FailsWhenTrained(Watcher):
    """Raises an error, or Ctrl-C, when training has ended."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "fit":
            raise self.error


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("n_fits", [0, 1])
def test_a_callback_that_fails_when_training_has_ended(callback, error, n_fits):
    """What was trained is there, and knows the columns that it was trained on."""
    X = make_data()
    estimator = make("minibatch")
    for _ in range(n_fits):
        estimator.fit(np.c_[X, X])
    estimator.set_callbacks(FailsWhenTrained(error))
    with pytest.raises(error):
        estimator.fit(X)
    assert_same_fit(estimator, make("minibatch").fit(X))
    assert estimator.n_features_in_ == X.shape[1]
    with pytest.raises(ValueError, match="features"):
        estimator.transform(X[:, :-1])


def search_with(step, **params):
    name = "autoencodertransformer__n_components"
    return GridSearchCV(
        make_pipeline(StandardScaler(), step), {name: [1, 2]}, cv=2, **params
    )


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_scoring_monitor_through_a_grid_search(callback, n_jobs):
    monitor = callback.ScoringMonitor(scoring={"score": reconstruction_r2})
    step = make("adam", max_iter=4).set_callbacks(monitor)
    search_with(step, n_jobs=n_jobs).fit(make_data(), np.zeros(60))
    rows = [row for log in monitor.get_logs("all") for row in log.data]
    epochs = [row for row in rows if row["task_name"] == "epoch"]
    assert len(epochs) == 4 * (2 * 2 + 1)  # epochs, candidates, folds, and the refit
    assert all(np.isfinite(row["score"]) and row["score"] <= 1 for row in epochs)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_progress_bar_through_a_grid_search(callback, capsys, monkeypatch, n_jobs):
    pytest.importorskip("rich", reason="rich, which draws the bars, is not installed")
    monkeypatch.setenv("COLUMNS", "200")
    X = make_data()
    search = search_with(make("adam", max_iter=4), n_jobs=n_jobs)
    search.set_callbacks(callback.ProgressBar(max_propagation_depth=None)).fit(X)
    output = capsys.readouterr().out
    for name in ("GridSearchCV", "Pipeline", "AutoencoderTransformer"):
        assert name in output
    expected = search_with(make("adam", max_iter=4)).fit(X)
    assert_same_fit(search.best_estimator_[-1], expected.best_estimator_[-1])


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_validation_rows_that_share_memory_with_the_training_rows(solver):
    """One-hot rows over the same ones: only the columns differ."""
    ones, starts = np.ones(40), np.arange(41)
    rng = np.random.default_rng(0)
    X, X_val = (
        sparse.csr_matrix((ones, rng.integers(0, 6, 40), starts), shape=(40, 6))
        for _ in range(2)
    )
    curves = [
        make(solver, max_iter=3, batch_size=40)
        .fit(X, X_val=held_out)
        .validation_loss_curve_
        for held_out in (X_val, X_val.copy())
    ]
    assert curves[0] == curves[1]


def test_column_numbers_out_of_range_are_an_error():
    X = sparse.csr_matrix(np.eye(4))
    X.indices[0] = 4
    with pytest.raises(ValueError, match="indices"):
        make("adam").fit(X)


# -- beside PCA ------------------------------------------------------------------------


def split_and_r2(X, seed=0, **params):
    """Both parts of X; R² of PCA, and of an estimator that is fitted on the first."""
    X_train, X_test = train_test_split(X, test_size=0.3, random_state=seed)
    estimator = AutoencoderTransformer(random_state=seed, **params).fit(X_train)
    pca = PCA(estimator.n_components).fit(X_train)
    of_pca = [reconstruction_r2_score(pca, part) for part in (X_train, X_test)]
    ours = [reconstruction_r2_score(estimator, part) for part in (X_train, X_test)]
    return np.array(of_pca), np.array(ours), estimator


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [1, 2])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "load",
    [datasets.load_iris, datasets.load_wine, datasets.load_diabetes],
    ids=lambda load: load.__name__,
)
@pytest.mark.parametrize("standardised", [False, True])
def test_defaults_are_not_worse_than_pca(load, n_components, seed, standardised, dtype):
    """benchmarks/defaults/held_out.py has the whole table."""
    X = load().data.astype(dtype)
    if standardised:
        X = StandardScaler().fit_transform(X)
    of_pca, ours, _ = split_and_r2(X, seed, n_components=n_components)
    on_training, on_held_out = ours - of_pca
    assert on_training >= -10 * np.finfo(dtype).eps
    assert on_held_out >= -0.005


def test_defaults_learn_what_is_curved():
    X = make_data(600)
    of_pca, ours, estimator = split_and_r2(X, n_components=1)
    assert (ours > of_pca + 0.05).all()
    assert len(estimator.validation_loss_curve_) == estimator.n_iter_


@pytest.mark.parametrize("seed", range(3))
def test_defaults_do_not_learn_noise(seed):
    X = np.random.default_rng(seed).standard_normal((100, 10))
    of_pca, ours, estimator = split_and_r2(X, seed, n_components=3)
    np.testing.assert_allclose(ours, of_pca, atol=1e-10)
    eager = clone(estimator).set_params(early_stopping=False)
    X_train, X_test = train_test_split(X, test_size=0.3, random_state=seed)
    assert eager.fit(X_train).score(X_train) > 2 * of_pca[0]
    assert eager.score(X_test) < of_pca[1]


@pytest.mark.parametrize("n_rows", [2, 3, 39])
def test_few_rows_are_not_left_to_chance(n_rows):
    """Too few could be held out: PCA it is, mean and order included."""
    X = make_data(n_rows)
    estimator = AutoencoderTransformer(2, random_state=0).fit(X)
    n_components = min(2, n_rows)
    pca = PCA(n_components).fit(X)
    np.testing.assert_allclose(
        reconstruct(estimator, X), pca.inverse_transform(pca.transform(X)), atol=1e-10
    )
    assert estimator.n_iter_ == 1
    assert not hasattr(estimator, "validation_loss_curve_")
    if n_rows > 2:
        code = estimator.transform(X) * estimator.scale_
        np.testing.assert_allclose(code, pca.transform(X), atol=1e-10)
        for name in ("explained_variance_", "explained_variance_ratio_"):
            ours, theirs = getattr(estimator, name), getattr(pca, name)
            np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    trained = clone(estimator).set_params(early_stopping=False).fit(X)
    assert trained.n_iter_ > 1


def test_cautious_fits_begin_at_the_pca_of_all_rows():
    X = make_data(100)
    estimator = AutoencoderTransformer(2, max_iter=1, random_state=0)
    estimator.set_params(learning_rate_init=1e-300)
    estimator.fit(X)
    np.testing.assert_allclose(estimator.mean_, X.mean(axis=0), rtol=1e-12)
    pca = PCA(2).fit(X)
    assert estimator.score(X) == pytest.approx(pca.explained_variance_ratio_.sum())
    ratio = estimator.explained_variance_ratio_
    np.testing.assert_allclose(ratio, pca.explained_variance_ratio_, rtol=1e-9)


@pytest.mark.parametrize(
    ("changes", "validates"),
    [
        ({}, True),
        ({"init": "pca", "activation": "tanh"}, True),
        ({"activation": "tanh"}, False),
        ({"init": "he"}, False),
        ({"early_stopping": False}, False),
        ({"early_stopping": True, "init": "he"}, True),
    ],
)
def test_auto_holds_rows_out_where_training_starts_at_pca(changes, validates):
    estimator = AutoencoderTransformer(max_iter=3, random_state=0, **changes)
    estimator.fit(make_data())
    assert hasattr(estimator, "validation_loss_curve_") == validates


def test_auto_length_and_schedule():
    X = make_data(250)
    endless = {"tol": 0, "n_iter_no_change": np.inf, "early_stopping": False}
    estimator = AutoencoderTransformer(random_state=0, **endless).fit(X)
    assert estimator.n_iter_ == 10_000 // 8
    cosine = clone(estimator).set_params(max_iter=30, learning_rate="cosine").fit(X)
    auto = clone(estimator).set_params(max_iter=30).fit(X)
    constant = clone(estimator).set_params(max_iter=30, learning_rate="constant")
    with pytest.warns(ConvergenceWarning):
        constant.fit(X)
    assert auto.loss_curve_ == cosine.loss_curve_ != constant.loss_curve_
    # The last of many epochs of a cosine changes nothing any more.
    assert np.ptp(estimator.loss_curve_[-5:]) < 1e-5 * estimator.loss_
    lbfgs = AutoencoderTransformer(solver="lbfgs", tol=0, early_stopping=False)
    assert lbfgs.fit(X).n_iter_ <= 200


def test_lbfgs_ends_by_its_gradient_whatever_may_be_held_out():
    X = make_data(120, 4)
    params = {"solver": "lbfgs", "activation": "tanh", "tol": 1e-3, "random_state": 0}
    auto = AutoencoderTransformer(max_iter=60, **params)
    with pytest.warns(ConvergenceWarning):
        auto.fit(X)
    never = clone(auto).set_params(early_stopping=False)
    with pytest.warns(ConvergenceWarning):
        never.fit(X)
    assert auto.loss_curve_ == never.loss_curve_


def test_lbfgs_warns_at_the_end_of_auto_iterations():
    estimator = AutoencoderTransformer(
        solver="lbfgs", tol=0, early_stopping=False, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match="200"):
        estimator.fit(np.random.default_rng(0).standard_normal((300, 20)))


@pytest.mark.parametrize("stop", [np.True_, np.False_])
def test_early_stopping_may_be_numpys(stop):
    estimator = make("adam", early_stopping=stop).fit(make_data())
    assert hasattr(estimator, "validation_loss_curve_") == stop


def test_partial_fit_has_no_end_to_plan_for():
    X = make_data(150)
    auto = AutoencoderTransformer(init="random", random_state=0)
    constant = clone(auto).set_params(learning_rate="constant")
    for _ in range(5):
        auto.partial_fit(X)
        constant.partial_fit(X)
    assert auto.loss_ == constant.loss_


@pytest.mark.parametrize("n_used", [1, 5, 39])
def test_few_rows_with_weight_are_few_rows(n_used):
    X, weights = make_data(200), np.zeros(200)
    weights[np.random.default_rng(n_used).permutation(200)[:n_used]] = 1
    estimator = AutoencoderTransformer(1, random_state=0)
    estimator.fit(X, sample_weight=weights)
    few = clone(estimator).fit(X[weights > 0])
    assert estimator.n_iter_ == few.n_iter_ == 1
    np.testing.assert_allclose(
        reconstruct(estimator, X), reconstruct(few, X), atol=1e-9
    )


def test_a_tied_start_from_few_rows_can_learn_more():
    X = make_data(200)
    estimator = AutoencoderTransformer(
        3, hidden_layer_sizes=(), tied_weights=True, random_state=0
    )
    estimator.set_params(learning_rate_init=0.01, batch_size=50)
    estimator.partial_fit(X[:2])
    assert estimator.score(X) < 0.7
    for _ in range(200):
        estimator.partial_fit(X)
    assert estimator.score(X) > 0.9


@pytest.mark.parametrize(
    "params", [{}, {"validation_fraction": 0.01}], ids=["few", "one held out"]
)
def test_who_stays_at_pca_announces_one_epoch(params, capsys):
    X = make_data(100 if params else 39)
    estimator = AutoencoderTransformer(1, verbose=True, random_state=0, **params)
    estimator.fit(X)
    assert estimator.n_iter_ == 1
    assert "1/1 " in capsys.readouterr().out
    pca = PCA(1).fit(X)
    assert estimator.score(X) == pytest.approx(pca.explained_variance_ratio_.sum())


def test_an_interrupt_after_the_last_epoch_keeps_the_weights():
    X = make_data(150)
    estimator = AutoencoderTransformer(1, random_state=0)
    expected = clone(estimator).fit(X)
    with (
        interrupted_call(CautiousSelection, "kept_weights") as calls,
        pytest.warns(TrainingInterruptedWarning),
    ):
        estimator.fit(X)
    assert len(calls) == 2
    assert_same_fit(estimator, expected)
