"""What tests share: configurations of the estimator, data for them, how much to try.

Extend the table, not the tests.
"""

import os

import numpy as np
from sklearn.utils.validation import has_fit_parameter

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer

IS_LONG = bool(os.environ.get("SKAE_SOAK"))


def times(short, long):
    """How often to do something."""
    return long if IS_LONG else short


# Wide enough to be a network, small enough that sixty checks take seconds. At the
# principal components, where "auto" would start, gradients are roundings in part, which
# adam and its kin make steps of: with other bits training takes another way.
_SMALL = {
    "hidden_layer_sizes": (8,),
    "max_iter": 20,
    "init": "random",
    "early_stopping": False,
    "learning_rate": "constant",
}
CASES = {
    "default": {},
    "adam": {**_SMALL, "solver": "adam", "alpha": 1e-3},
    "sgd_nesterov": {**_SMALL, "solver": "sgd", "nesterovs_momentum": True},
    "sgd_momentum": {**_SMALL, "solver": "sgd", "nesterovs_momentum": False},
    "rmsprop": {**_SMALL, "solver": "rmsprop", "learning_rate": "inverse_time"},
    "lbfgs": {**_SMALL, "solver": "lbfgs", "activation": "tanh"},
    "tied": {**_SMALL, "tied_weights": True},
    "deep": {**_SMALL, "hidden_layer_sizes": (16, 8), "activation": ("elu", "gelu")},
    "no_hidden": {**_SMALL, "hidden_layer_sizes": ()},
    "tied_linear": {**_SMALL, "hidden_layer_sizes": (), "tied_weights": True},
    "logistic_code": {
        **_SMALL,
        "activation": "logistic",
        "code_activation": "logistic",
        "init": "glorot",
    },
    "pca": {**_SMALL, "init": "pca"},
    "absolute_error": {
        **_SMALL,
        "loss": "absolute_error",
        "activation": "leaky_relu",
        "learning_rate": "cosine",
    },
    "huber": {**_SMALL, "loss": "huber", "activation": "selu"},
    "poisson": {**_SMALL, "loss": "poisson", "activation": "softplus"},
    "sparse": {**_SMALL, "sparsity": "l1", "sparsity_weight": 0.1},
    "pretrained": {**_SMALL, "hidden_layer_sizes": (8, 5), "pretrain": "layerwise"},
    "sparse_kl": {**_SMALL, "sparsity": "kl", "code_activation": "logistic"},
}

# Training starts at PCA, and does not get far: rounding must not choose the order of a
# code whose scale is not free. For tests of the code, and scikit-learn's checks.
_AT_PCA = {"hidden_layer_sizes": (16,), "max_iter": 20}
AT_PCA_CASES = {
    "penalised_at_pca": {**_AT_PCA, "alpha": 1e-3},
    "much_penalised_at_pca": {**_AT_PCA, "alpha": 1.0, "hidden_layer_sizes": ()},
    "tied_at_pca": {**_AT_PCA, "tied_weights": True},
    "tied_penalised_at_pca": {**_AT_PCA, "tied_weights": True, "alpha": 1e-3},
    "tied_linear_at_pca": {**_AT_PCA, "hidden_layer_sizes": (), "tied_weights": True},
}

# These need data in [0, 1].
UNIT_RANGE_CASES = {
    "log_loss": {**_SMALL, "loss": "log_loss"},
    "log_loss_tied": {**_SMALL, "loss": "log_loss", "tied_weights": True},
    "log_loss_lbfgs": {**_SMALL, "loss": "log_loss", "solver": "lbfgs"},
}

# These need data in the range of the output, unless a scale is given.
LIMITED_OUTPUT_CASES = {
    "logistic_output": {**_SMALL, "output_activation": "logistic"},
    "tanh_output_tied": {
        **_SMALL,
        "output_activation": "tanh",
        "code_activation": "logistic",
        "tied_weights": True,
    },
}

# Here the fit depends on which rows are drawn, or on what is drawn for a row, so that a
# row of weight two is not the same as two rows.
SAMPLING_CASES = {
    "early_stopping": {**_SMALL, "early_stopping": True, "validation_fraction": 0.1},
    "minibatch": {**_SMALL, "batch_size": 7},
    "cautious": {**_SMALL, "init": "pca", "early_stopping": "auto"},
    "gaussian_noise": {**_SMALL, "noise": "gaussian", "sparsity": "l1"},
    "masking_noise": {**_SMALL, "noise": "masking", "init": "pca"},
    "salt_and_pepper_noise": {
        **_SMALL,
        "noise": "salt_and_pepper",
        "sparsity": "kl",
        "code_activation": "logistic",
        "batch_size": 7,
    },
}

# Of the variational member. What it draws for a row depends on the row's number.
VARIATIONAL_CASES = {
    "variational": {**_SMALL, "kl_warmup": 5},
    "variational_deep": {
        **_SMALL,
        "hidden_layer_sizes": (16, 8),
        "activation": "tanh",
        "solver": "sgd",
        "beta": 0.1,
        "batch_size": 7,
    },
}
VARIATIONAL_UNIT_RANGE_CASES = {
    "variational_log_loss": {**_SMALL, "loss": "log_loss", "beta": 0.5}
}

OF_VARIATIONAL = {**VARIATIONAL_CASES, **VARIATIONAL_UNIT_RANGE_CASES}
ALL_CASES = {**CASES, **UNIT_RANGE_CASES, **SAMPLING_CASES, **OF_VARIATIONAL}

# Parameters of tests that make estimators of their own.
# Weights stay what they are.
STILL = {"solver": "sgd", "learning_rate_init": 1e-300}
SMALL = {
    "hidden_layer_sizes": (8,),
    "init": "random",
    "early_stopping": False,
    "tol": 0,
    "max_iter": 5,
    "random_state": 0,
}

# Lowest and highest numbers, where a loss sets them.
RANGES = {"log_loss": (0, 1), "poisson": (0, 9)}
SCHEDULES = ("constant", "inverse_time", "invscaling", "adaptive", "cosine")
STOCHASTIC = ("adam", "sgd", "rmsprop")
RESTARTS = "cosine"  # begins anew in a warm-started fit, as its documentation says


def make(name, **changes):
    """The estimator of a case; never random."""
    kind = AutoencoderTransformer
    if name in OF_VARIATIONAL:
        kind = VariationalAutoencoderTransformer
    return kind(**{"random_state": 0, **ALL_CASES[name], **changes})


def names_of(condition, cases=ALL_CASES):
    """Names of the cases whose fitted parameters satisfy a condition."""
    return [
        name for name, params in cases.items() if condition(make(name).get_params())
    ]


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


def make_data(n_rows=60, n_features=6, loss="squared_error", seed=0):
    """A curved surface in space with a little noise, in the range of a loss."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(-2, 2, (n_rows, 2))
    X = np.tanh(t @ rng.standard_normal((2, 4))) @ rng.standard_normal((4, n_features))
    X += 0.1 * rng.standard_normal(X.shape)
    if loss not in RANGES:
        return X
    low, high = RANGES[loss]
    return low + (high - low) * (X - X.min()) / (X.max() - X.min())


def data_for(estimator, **shape):
    return make_data(loss=estimator.loss, **shape)


def hidden_layers(estimator):
    """Widths of the encoder's hidden layers, as the documentation says."""
    sizes = estimator.hidden_layer_sizes
    if isinstance(sizes, str):
        n_least = 2 * estimator.n_components
        return [max(100, n_least), max(50, n_least)]
    return np.atleast_1d(sizes).astype(int).tolist()


# Networks: widths of the encoder's hidden layers.
DEPTHS = {0: (), 1: (7,), 2: (7, 5), 3: (7, 6, 5)}

ACTIVATION_NAMES = (
    "identity",
    "logistic",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "softplus",
)
LOSS_NAMES = ("squared_error", "absolute_error", "huber", "log_loss", "poisson")
