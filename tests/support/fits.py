"""Fitted estimators, compared with each other and with the naive network."""

import numpy as np

from skae import AutoencoderTransformer

from . import reference
from .cases import RANGES, hidden_layers, is_variational, make_data


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
    alpha = 0.0 if estimator.alpha == "auto" else estimator.alpha
    how |= {"alpha": alpha, "tied": estimator.tied_weights}
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


def make_sparse(loss="squared_error", dtype=np.float64, density=0.3):
    X = make_data(loss=loss).astype(dtype)
    X[np.random.default_rng(1).random(X.shape) > density] = 0
    return X


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
