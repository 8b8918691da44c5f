"""Derivatives of reconstructions with respect to codes, against central differences."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer

from .support.cases import (
    ACTIVATION_NAMES,
    AT_PCA_CASES,
    CASES,
    LIMITED_OUTPUT_CASES,
    SMALL,
    UNIT_RANGE_CASES,
    VARIATIONAL_CASES,
    VARIATIONAL_UNIT_RANGE_CASES,
    make_data,
)
from .support.tables import make_table

STEP = 1e-6
OF_VARIATIONAL = {**VARIATIONAL_CASES, **VARIATIONAL_UNIT_RANGE_CASES}
OF_TRANSFORMER = {**CASES, **AT_PCA_CASES, **UNIT_RANGE_CASES, **LIMITED_OUTPUT_CASES}
# The activation of the hidden layers, and that of the output, where it can be chosen.
OF_ACTIVATIONS = {
    name: {**SMALL, "activation": name, "scale": 3.0, "output_activation": output}
    for name, output in zip(
        ACTIVATION_NAMES, [*ACTIVATION_NAMES[1:], "identity"], strict=True
    )
}
ESTIMATORS = {
    **{n: AutoencoderTransformer(**OF_TRANSFORMER[n]) for n in OF_TRANSFORMER},
    **{n: AutoencoderTransformer(**OF_ACTIVATIONS[n]) for n in OF_ACTIVATIONS},
    **{n: VariationalAutoencoderTransformer(**p) for n, p in OF_VARIATIONAL.items()},
}


def differences(decode, codes):
    """Central differences of what is decoded, of the shape of a Jacobian."""
    steps = STEP * np.eye(codes.shape[1])
    columns = [(decode(codes + s) - decode(codes - s)) / (2 * STEP) for s in steps]
    return np.stack(columns, axis=2)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_it_is_the_limit_of_differences(name):
    """Of the public reconstruction, with its scale, order of the code and output."""
    estimator = ESTIMATORS[name].set_params(random_state=0)
    X = 5 + 100 * make_data()
    if estimator.loss in ("log_loss", "poisson") or name in LIMITED_OUTPUT_CASES:
        X = make_data(loss="log_loss")
    # Away from the mean, and from the kinks of units.
    codes = estimator.fit(X).transform(X[:5])
    found = estimator.decoder_jacobian(codes)
    assert found.shape == (5, 6, estimator.n_components_)
    assert found.dtype == np.float64
    expected = differences(estimator.inverse_transform, codes)
    size = np.abs(expected).max()
    assert size > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * size)
    # The bits are those of a code by itself.
    np.testing.assert_array_equal(found[2:3], estimator.decoder_jacobian(codes[2:3]))


@pytest.mark.parametrize(
    "estimator",
    [
        AutoencoderTransformer(**SMALL),
        AutoencoderTransformer(**SMALL, loss="log_loss"),
        VariationalAutoencoderTransformer(**SMALL),
    ],
    ids=["squared_error", "log_loss", "variational"],
)
def test_tables_have_a_row_for_each_input(estimator):
    """Numbers in their units, and probabilities of levels, which sum to 1."""
    table = make_table()
    if estimator.loss == "log_loss":
        table = table.assign(height=table["height"].rank(pct=True), n=table["n"] / 50)
    codes = estimator.fit(table).transform(table[:4])
    found = estimator.decoder_jacobian(codes)
    assert found.shape == (4, len(estimator.input_names_), 2)
    expected = differences(estimator._decoded_inputs, codes)
    for j, name in enumerate(estimator.input_names_):
        size = np.abs(expected[:, j]).max()
        np.testing.assert_allclose(
            found[:, j], expected[:, j], rtol=0, atol=1e-5 * size + 1e-9, err_msg=name
        )
    is_city = [name.startswith("city=") for name in estimator.input_names_]
    np.testing.assert_allclose(found[:, is_city].sum(axis=1), 0, atol=1e-12)


def test_at_the_mean_of_the_training_data(dtype):
    X = make_data().astype(dtype)
    estimators = (
        AutoencoderTransformer(**SMALL),
        AutoencoderTransformer(**SMALL, scale="standard"),
        VariationalAutoencoderTransformer(**SMALL),
    )
    for estimator in estimators:
        mean = estimator.fit(X).mean_[np.newaxis]
        found = estimator.decoder_jacobian()
        assert found.shape == (1, 6, 2)
        assert found.dtype == dtype
        expected = estimator.decoder_jacobian(estimator.transform(mean))
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_of_a_linear_network_it_is_principal_components():
    X = make_data()
    estimator = AutoencoderTransformer(3, hidden_layer_sizes=(), random_state=0).fit(X)
    (found,) = estimator.decoder_jacobian()
    expected = PCA(3).fit(X).components_.T * estimator.scale_
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_codes_that_are_not_valid():
    with pytest.raises(NotFittedError):
        AutoencoderTransformer().decoder_jacobian()
    estimator = AutoencoderTransformer(**SMALL).fit(make_data())
    message = (
        "codes has 3 features, but decoder_jacobian expects codes of n_components=2"
    )
    with pytest.raises(ValueError, match=message):
        estimator.decoder_jacobian([[0.0, 1.0, 2.0]])
    with pytest.raises(ValueError, match="codes contains NaN"):
        estimator.decoder_jacobian([[np.nan, 0.0]])
    estimator._params *= 1e200
    with pytest.raises(ValueError, match="derivatives are out of the range of float64"):
        estimator.decoder_jacobian([[1.0, 1.0]])
