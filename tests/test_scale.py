"""The scale, and the range, of what the network sees."""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.base import clone
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae.datasets import make_donuts

from .support.cases import RANGES, data_for, is_scaled, make, make_data, names_of
from .support.fits import reconstruct

SCALED = names_of(is_scaled)


@pytest.mark.parametrize("name", SCALED)
def test_code_does_not_depend_on_units(name):
    estimator = make(name)
    if estimator.solver == "lbfgs":
        # Its line searches amplify roundings until they show.
        estimator.set_params(max_iter=5)
    X = make_data()
    code = clone(estimator).fit_transform(X)
    for factor, offset in ((1e-6, -3.0), (1e6, 1e4)):
        if estimator.get_params().get("noise") == "masking":
            offset = 0.0  # the value that masks
        other_code = estimator.fit_transform(factor * (X + offset * X.std()))
        atol = 1e-5 * np.abs(code).max()
        np.testing.assert_allclose(other_code, code, rtol=0, atol=atol)


def test_mean_and_scale():
    X = make_data() * [1, 2, 3, 4, 5, 6] + 7
    for name in ("adam", "lbfgs", "pca", "pretrained", "variational"):
        estimator = make(name).fit(X)
        np.testing.assert_allclose(estimator.mean_, X.mean(axis=0), rtol=1e-12)
        spread = np.sqrt(X.var(axis=0).mean())
        assert estimator.scale_ == pytest.approx(spread, rel=1e-12)
    estimator = make("adam")
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


@pytest.mark.parametrize("tails", ["light", "heavy"])
@pytest.mark.parametrize("name", SATURATING)
def test_tied_saturating_networks_are_not_worse_than_pca(name, tails):
    """On the way out weights are as large as on the way in: the inputs are small."""
    X, _ = make_donuts(200, random_state=0)
    if tails == "heavy":
        X[::50] *= 30
    estimator = AutoencoderTransformer(
        2, tied_weights=True, random_state=0, **SATURATING[name]
    )
    at_random = clone(estimator).set_params(init="glorot", solver="lbfgs", max_iter=2)
    spread = np.sqrt(X.var(axis=0).mean())
    assert at_random.fit(X).scale_ == pytest.approx(4 * spread)
    estimator.fit(X)
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
        *({"noise": "gaussian"}, {"sparsity": "l1"}),
        *({"tied_weights": False}, {"activation": "relu"}),
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


@pytest.mark.parametrize(
    ("output", "how", "as_given"),
    [
        *((output, "fit", np.asarray) for output in OUTPUT_RANGES),
        ("tanh", "partial_fit", sparse.csr_matrix),
        ("logistic", "fit_batches", sparse.csr_matrix),
        ("elu", "go on", np.asarray),
    ],
)
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
