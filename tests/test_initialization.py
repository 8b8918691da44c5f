"""Where training begins."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae._data.rows import make_rows
from skae._model.initialization import (
    RANDOM_INITS,
    chosen_init,
    pca_params,
    random_params,
)
from skae._model.network import coefs, intercepts, make_network
from skae._model.pca import least_scores, principal_components

from .support.cases import ACTIVATION_NAMES
from .support.reference import forward

WIDTHS = [6, 5, 3, 5, 6]
NAMES = ["tanh", "identity", "tanh", "identity"]
# Linear nowhere.
APPROXIMATE = {"tanh", "logistic"}
EXACT = [name for name in ACTIVATION_NAMES if name not in APPROXIMATE]
# f(z) - f(-z) is linear: a row's reconstruction is PCA's whether it was seen or not.
PAIRED = {"identity", "relu", "leaky_relu", "gelu", "silu", "softplus"}


@pytest.mark.parametrize(
    ("init", "std"),
    [
        *(("glorot", np.sqrt(2 / 800)), ("he", np.sqrt(2 / 300))),
        *(("lecun", np.sqrt(1 / 300)), ("normal", 1.0)),
    ],
)
def test_initial_weights_have_the_papers_standard_deviation(init, std):
    network = make_network([300, 500, 300], ["relu", "identity"], tied=False)
    params = random_params(network, ["relu", "identity"], init, 0, np.float64)
    first = coefs(network, params)[0]
    assert first.std() == pytest.approx(std, rel=0.01)
    assert first.mean() == pytest.approx(0, abs=0.02 * std)
    biases = np.concatenate(intercepts(network, params))
    assert biases.std() == pytest.approx(1 if init == "normal" else 0, abs=0.1)


def test_random_init_depends_on_each_layers_activation():
    widths, names = [300, 500, 400, 500, 300], ["relu", "selu", "tanh", "identity"]
    network = make_network(widths, names, tied=False)
    params = random_params(network, names, "random", 0, np.float64)
    stds = [weights.std() for weights in coefs(network, params)]
    expected = [2 / 300, 1 / 500, 2 / 900, 2 / 800]
    np.testing.assert_allclose(stds, np.sqrt(expected), rtol=0.01)


@pytest.mark.parametrize("init", ["random", *RANDOM_INITS])
def test_float32_start_is_the_rounded_float64_start(init, tied):
    network = make_network(WIDTHS, NAMES, tied=tied)
    double = random_params(network, NAMES, init, 3, np.float64)
    single = random_params(network, NAMES, init, 3, np.float32)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, double.astype(np.float32))
    assert not np.array_equal(double, random_params(network, NAMES, init, 4, float))


def make_data(n_rows=80, n_features=9, seed=0):
    """Features of very different size, centred."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, n_features)) * np.geomspace(3, 0.01, n_features)
    X = X @ np.linalg.qr(rng.standard_normal((n_features, n_features)))[0]
    return X - X.mean(axis=0)


def start(X, hidden, activation, n_components, *, tied=False, code="identity"):
    """Weights, biases and activations of a network that starts at PCA."""
    widths = [X.shape[1], *hidden, n_components, *hidden[::-1], X.shape[1]]
    names = [activation] * len(hidden)
    names = [*names, code, *names, "identity"]
    network = make_network(widths, names, tied=tied)
    rows = make_rows(X, np.zeros(X.shape[1]), 1.0)
    components = principal_components(rows, n_components, 0)

    has_pairs = activation in PAIRED - {"identity"} and code == "identity"
    has_pairs &= min(hidden, default=np.inf) >= 2 * n_components

    def least():
        assert not has_pairs, "a pass over the rows for nothing"
        return least_scores(rows, components)

    params = pca_params(network, names, components, least, 0, np.float64)
    return coefs(network, params), intercepts(network, params), names


def by_pca(X, n_components, fitted_on=None):
    """X reconstructed by the PCA of some rows, of itself if none are given."""
    pca = PCA(n_components).fit(X if fitted_on is None else fitted_on)
    return pca.inverse_transform(pca.transform(X))


def reconstructed(X, network):
    layers, _ = forward(X, *network)
    return layers[-1]


@pytest.mark.parametrize(
    "hidden", [(), (20,), (20, 12), (6,), (3,)], ids=lambda hidden: f"hidden={hidden}"
)
@pytest.mark.parametrize("activation", EXACT)
def test_start_is_pca(activation, hidden, tied):
    """One unit a score is enough, two are better."""
    X = make_data()
    network = start(X, hidden, activation, 3, tied=tied)
    np.testing.assert_allclose(reconstructed(X, network), by_pca(X, 3), atol=1e-7)
    if activation in PAIRED and min(hidden, default=6) >= 6:
        unseen = 10 * make_data(seed=1)
        expected = by_pca(unseen, 3, fitted_on=X)
        np.testing.assert_allclose(reconstructed(unseen, network), expected, atol=1e-6)


@pytest.mark.parametrize("activation", sorted(APPROXIMATE))
def test_start_of_activations_that_are_linear_nowhere(activation):
    X = make_data()
    reconstruction = reconstructed(X, start(X, (20,), activation, 3))
    pca = PCA(3).fit(X)
    lost = ((X - reconstruction) ** 2).sum() / (X**2).sum()
    assert lost == pytest.approx(1 - pca.explained_variance_ratio_.sum(), abs=2e-3)


@pytest.mark.parametrize("code", ["identity", *sorted(APPROXIMATE)])
@pytest.mark.parametrize("activation", ["relu", "selu", *sorted(APPROXIMATE)])
@pytest.mark.parametrize("hidden", [(), (20,), (4, 5)])
def test_tied_start_on_small_inputs(hidden, activation, code):
    """Tied weights cannot make them small; of 1 / 100 a ten-thousandth is lost."""
    X = make_data()
    X /= 100 * np.linalg.norm(X, axis=1).max()
    network = start(X, hidden, activation, 3, tied=True, code=code)
    for layer, mirrored in zip(network[0], network[0][::-1], strict=True):
        np.testing.assert_array_equal(layer, mirrored.T)
    error = reconstructed(X, network) - by_pca(X, 3)
    assert np.abs(error).max() < 3e-4 * np.abs(X).max()


@pytest.mark.parametrize("hidden", [(20, 2), (5, 2), (2, 20)])
@pytest.mark.parametrize("activation", EXACT)
def test_narrow_layers_carry_the_leading_scores(activation, hidden, tied):
    X = make_data()
    network = start(X, hidden, activation, 3, tied=tied)
    # The third unit of a tied code is heard a little.
    atol = 1e-5 if tied else 1e-7
    np.testing.assert_allclose(reconstructed(X, network), by_pca(X, 2), atol=atol)


@pytest.mark.parametrize("code", ["relu", "elu", "softplus"])
def test_other_codes(code):
    X = make_data()
    network = start(X, (20,), "relu", 3, code=code)
    np.testing.assert_allclose(reconstructed(X, network), by_pca(X, 3), atol=1e-7)


def test_more_units_than_components(tied):
    """The code may be larger than what there is to carry."""
    X = make_data(n_rows=3)
    network = start(X, (40,), "relu", 8, tied=tied)
    np.testing.assert_allclose(reconstructed(X, network), X, atol=1e-6)
    second = network[0][1]
    assert (np.abs(second).max(axis=0) > 0).all()  # none is dead


def test_other_units_are_not_listened_to_at_first():
    X = make_data()
    (first, second, third, last), _, _ = start(X, (20,), "relu", 3)
    others = slice(6, None)
    assert (np.abs(first[:, others]).max(axis=0) > 0).all()
    assert (np.abs(third[:, others]).max(axis=0) > 0).all()
    assert not second[others].any()
    assert not last[others].any()


def architecture(activation="relu", code="identity", output="identity", **how):
    activations = [activation, code, activation, output]
    return {"activations": activations, "tied": False, "variational": False, **how}


@pytest.mark.parametrize(
    ("described", "init"),
    [
        (architecture(), "pca"),
        (architecture("selu", tied=True), "pca"),
        (architecture("selu", tied=True, code="selu"), "random"),
        (architecture("tanh"), "random"),
        (architecture("tanh", tied=True, output="logistic"), "random"),
        (architecture(code="relu"), "random"),
        (architecture(output="logistic"), "random"),
        (architecture(variational=True), "random"),
    ],
)
def test_auto_is_pca_where_the_start_is_exact(described, init):
    assert chosen_init("auto", described) == init
    assert chosen_init("auto", described, has_room=True) == init
    assert chosen_init("he", described) == "he"


@pytest.mark.parametrize(
    "described",
    [
        architecture("tanh", tied=True),
        architecture("logistic", tied=True),
        architecture(code="logistic", tied=True),
    ],
)
def test_auto_is_pca_where_tied_units_have_room(described):
    assert chosen_init("auto", described) == "random"
    assert chosen_init("auto", described, has_room=True) == "pca"
    untied = {**described, "tied": False}
    assert chosen_init("auto", untied, has_room=True) == "random"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss": "log_loss"}, "linear output, but it is 'logistic'"),
        ({"output_activation": "relu"}, "linear output, but it is 'relu'"),
    ],
)
def test_no_start_at_pca(params, message):
    X = np.random.default_rng(0).random((50, 4))
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(init="pca", **params).fit(X)
