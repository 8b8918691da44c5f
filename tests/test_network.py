"""Layout of the parameters, their views, the start, and the ordered code."""

import numpy as np
import pytest

from skae._network import (
    INITS,
    coefs,
    initial_params,
    intercepts,
    make_network,
    order_code,
    part,
)

from .reference import forward

WIDTHS = [6, 5, 3, 5, 6]
NAMES = ["tanh", "identity", "tanh", "identity"]


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def tied(request):
    return request.param


def make_params(network, seed=0):
    return np.random.default_rng(seed).standard_normal(network.n_params)


def test_views_cover_the_vector_once(tied):
    network = make_network(WIDTHS, NAMES, tied=tied)
    count = np.zeros(network.n_params)
    for view in coefs(network, count) + intercepts(network, count):
        view += 1
    shared = 2.0 if tied else 1.0
    assert set(count[: network.n_weights]) == {shared}
    assert set(count[network.n_weights :]) == {1.0}


def test_shapes_and_ties(tied):
    network = make_network(WIDTHS, NAMES, tied=tied)
    params = make_params(network)
    weights = coefs(network, params)
    assert [w.shape for w in weights] == [(6, 5), (5, 3), (3, 5), (5, 6)]
    assert [b.shape for b in intercepts(network, params)] == [(5,), (3,), (5,), (6,)]
    for i in range(2):
        assert np.shares_memory(weights[i], weights[-1 - i]) == tied
        if tied:
            np.testing.assert_array_equal(weights[-1 - i], weights[i].T)


def test_part_has_the_weights_of_its_layers():
    network = make_network(WIDTHS, NAMES, tied=False)
    params = make_params(network)
    decoder = part(network, 2, 4)
    for a, b in zip(coefs(decoder, params), coefs(network, params)[2:], strict=True):
        np.testing.assert_array_equal(a, b)
    assert decoder.widths.tolist() == [3, 5, 6]
    assert decoder.layers["units_at"][1:].tolist() == [0, 5]


@pytest.mark.parametrize(
    ("init", "std"),
    [
        ("glorot", np.sqrt(2 / 800)),
        ("he", np.sqrt(2 / 300)),
        ("lecun", np.sqrt(1 / 300)),
        ("normal", 1.0),
    ],
)
def test_initial_weights_have_the_papers_standard_deviation(init, std):
    network = make_network([300, 500, 300], ["relu", "identity"], tied=False)
    params = initial_params(network, ["relu", "identity"], init, 0, np.float64)
    first = coefs(network, params)[0]
    assert first.std() == pytest.approx(std, rel=0.01)
    assert first.mean() == pytest.approx(0, abs=0.02 * std)
    assert not np.concatenate(intercepts(network, params)).any()


def test_auto_init_depends_on_each_layers_activation():
    widths, names = [300, 500, 400, 500, 300], ["relu", "selu", "tanh", "identity"]
    network = make_network(widths, names, tied=False)
    params = initial_params(network, names, "auto", 0, np.float64)
    stds = [weights.std() for weights in coefs(network, params)]
    expected = [2 / 300, 1 / 500, 2 / 900, 2 / 800]
    np.testing.assert_allclose(stds, np.sqrt(expected), rtol=0.01)


@pytest.mark.parametrize("init", ["auto", *INITS])
def test_float32_start_is_the_rounded_float64_start(init, tied):
    network = make_network(WIDTHS, NAMES, tied=tied)
    double = initial_params(network, NAMES, init, 3, np.float64)
    single = initial_params(network, NAMES, init, 3, np.float32)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, double.astype(np.float32))
    assert not np.array_equal(double, initial_params(network, NAMES, init, 4, float))


@pytest.mark.parametrize(
    "widths",
    [WIDTHS, [6, 3, 6], [4, 2, 6, 2, 4]],
    ids=["deep", "no hidden", "code wider than the decoder's layer"],
)
@pytest.mark.parametrize(
    ("tied", "free_scale"), [(False, True), (False, False), (True, False)]
)
def test_order_code(widths, tied, free_scale):
    """Reconstructions stay, the code is centred, uncorrelated, and ordered."""
    names = ["tanh"] * (len(widths) // 2 - 1) + ["identity"]
    names = [*names, *names[-2::-1], "identity"]
    network = make_network(widths, names, tied=tied)
    params = make_params(network)
    middle = len(names) // 2
    X = np.random.default_rng(1).standard_normal((50, widths[0]))

    def run():
        layers, _ = forward(
            X, coefs(network, params), intercepts(network, params), names
        )
        return layers[middle], layers[-1]

    def penalty():
        return np.linalg.norm(params[: network.n_weights])

    weight_norm = penalty()
    code, before = run()
    variances = order_code(
        network,
        params,
        code.mean(axis=0),
        np.cov(code.T, bias=True),
        free_scale=free_scale,
    )
    assert penalty() == pytest.approx(weight_norm) or free_scale
    ordered, after = run()
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ordered.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(
        np.cov(ordered.T, bias=True), np.diag(variances), atol=1e-11
    )
    assert (np.diff(variances) <= 0).all()
    decoder = coefs(network, params)[middle]
    largest = np.abs(decoder).argmax(axis=1)
    assert (decoder[np.arange(widths[middle]), largest] > -1e-12).all()
    if free_scale and widths[middle] <= widths[middle + 1]:
        np.testing.assert_allclose(
            decoder @ decoder.T, np.eye(widths[middle]), atol=1e-12
        )
