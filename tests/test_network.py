"""Layout of the parameters, their views, and the ordered code."""

import numpy as np
import pytest

from skae._model.inference import Moments
from skae._model.network import (
    coefs,
    intercepts,
    make_network,
    order_code,
    part,
    signs_of,
)

from .support.reference import forward

WIDTHS = [6, 5, 3, 5, 6]
NAMES = ["tanh", "identity", "tanh", "identity"]


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

    def moments_of(code):
        both = np.cov(np.hstack([code, X]).T, bias=True)
        covariance, cross = np.split(both[: widths[middle]], [widths[middle]], axis=1)
        return Moments(code.mean(axis=0), covariance, cross)

    weight_norm = penalty()
    code, before = run()
    variances = order_code(network, params, moments_of(code), free_scale=free_scale)
    assert penalty() == pytest.approx(weight_norm) or free_scale
    ordered, after = run()
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ordered.mean(axis=0), 0, atol=1e-12)
    _, covariance, cross = moments_of(ordered)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-11)
    assert (np.diff(variances) <= 0).all()
    largest = np.abs(cross).argmax(axis=1)
    assert (cross[np.arange(len(cross)), largest] > -1e-12).all()
    if not free_scale or len(cross) > widths[0]:
        return
    # The fitted values of the rows' regression on the code have these entries for
    # scores: the first j are the best j.
    regression = np.linalg.solve(covariance, cross)
    np.testing.assert_allclose(regression @ regression.T, np.eye(len(cross)), atol=1e-9)


def test_order_of_a_code_that_explains_nothing():
    """Nothing is lost: another decoder could have use for it."""
    network = make_network([2, 2, 2], ["identity"] * 2, tied=False)
    params = make_params(network)
    decoded = coefs(network, params)[0] @ coefs(network, params)[1]
    moments = Moments(np.zeros(2), np.diag([3.0, 2.0]), np.array([[1.0, 0], [0, 0]]))
    variances = order_code(network, params, moments, free_scale=True)
    assert 0 < variances[1] < 1e-9 * variances[0]
    again = coefs(network, params)[0] @ coefs(network, params)[1]
    np.testing.assert_allclose(again, decoded, rtol=1e-9)
    constant = Moments(np.ones(2), np.zeros((2, 2)), np.zeros((2, 2)))
    variances = order_code(network, params, constant, free_scale=True)
    np.testing.assert_array_equal(variances, 0)
    assert np.isfinite(params).all()


@pytest.mark.parametrize("free_scale", [False, True])
@pytest.mark.parametrize(
    ("n_units", "n_features", "sizes"),
    [
        (4, 6, [3.0, 2.0, 1.0, 0.5]),
        (4, 6, [3.0, 2.0, 0.0, 0.0]),
        (6, 3, [3.0, 2.0, 1.0]),  # more entries than explain anything linearly
    ],
)
def test_order_does_not_hang_on_rounding(n_units, n_features, sizes, free_scale):
    """Variances are all equal, as at PCA with a penalty; what is explained is not."""
    network = make_network(
        [n_features, n_units, n_features], ["identity"] * 2, tied=False
    )
    rng = np.random.default_rng(0)
    params = rng.standard_normal(network.n_params)
    axes = np.linalg.qr(rng.standard_normal((n_units, n_units)))[0]
    rows = np.linalg.qr(rng.standard_normal((n_features, n_features)))[0]
    cross = axes[:, : len(sizes)] * sizes @ rows[: len(sizes)]

    def ordered(seed):
        roundings = np.random.default_rng(seed)

        def perturbed(array):
            return array * (1 + 1e-15 * roundings.standard_normal(array.shape))

        own, new = perturbed(params), np.eye(n_units)
        new += 1e-15 * roundings.standard_normal(new.shape)
        moments = Moments(np.zeros(n_units), (new + new.T) / 2, perturbed(cross))
        order_code(network, own, moments, free_scale=free_scale)
        explained = np.linalg.norm(moments.cross, axis=1)
        expected = np.append(sizes, np.zeros(n_units - len(sizes)))
        np.testing.assert_allclose(
            explained, expected**2 if free_scale else expected, atol=1e-9
        )
        return own

    results = [ordered(seed) for seed in range(5)]
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=0, atol=1e-7)


def test_signs_do_not_hang_on_rounding():
    """Of entries that are equally large the first decides, as of svd_flip exactly."""
    components = np.array([[0.1, -1.0, 1 + 1e-12], [1.0, -1 - 1e-9, 0.0], [0.5, 2, -3]])
    np.testing.assert_array_equal(signs_of(components), [-1, 1, -1])
    np.testing.assert_array_equal(signs_of(np.zeros((2, 3))), 1)
