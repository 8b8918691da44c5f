"""Fits that several threads work on, and their bits."""

import functools
import hashlib

import numpy as np
from scipy import sparse

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer

from . import processes

THREAD_COUNTS = (1, 2, 4)
BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
in_new_process = functools.partial(
    processes.in_new_process, timeout=120, without=BLAS_VARIABLES
)

# Large enough for four threads: in training, in evaluation and in inference.
N_ROWS, N_FEATURES = 1100, 60
_LARGE = {
    "n_components": 3,
    "hidden_layer_sizes": (50,),
    "batch_size": 512,
    "max_iter": 4,
    "tol": 0.0,
    "learning_rate_init": 0.005,
    "random_state": 0,
}
CASES = {
    "minibatch": _LARGE,
    "one_batch": {**_LARGE, "batch_size": N_ROWS, "solver": "sgd"},
    "batch_of_one_lane": {**_LARGE, "batch_size": 100, "activation": "gelu"},
    "tied": {**_LARGE, "tied_weights": True, "alpha": 1e-3},
    "tied_linear": {
        **_LARGE,
        "tied_weights": True,
        "hidden_layer_sizes": (),
        "batch_size": N_ROWS,  # so narrow a network has longer shards
    },
    "deep": {
        **_LARGE,
        "hidden_layer_sizes": (50, 30, 20),
        "activation": ("elu", "tanh", "silu"),
        "solver": "rmsprop",
    },
    "wide": {**_LARGE, "hidden_layer_sizes": (301,), "alpha": 0.1},
    "log_loss": {**_LARGE, "loss": "log_loss", "learning_rate": "cosine"},
    "poisson": {**_LARGE, "loss": "poisson", "activation": "softplus"},
    "early_stopping": {**_LARGE, "early_stopping": True, "validation_fraction": 0.4},
    "lbfgs": {**_LARGE, "solver": "lbfgs", "activation": "tanh"},
    "lbfgs_tied": {**_LARGE, "solver": "lbfgs", "tied_weights": True, "alpha": 0.1},
    "sparse": _LARGE,
    "weighted": {**_LARGE, "alpha": 1e-3, "solver": "lbfgs"},
    "gaussian_noise": {**_LARGE, "noise": "gaussian"},
    "masking_noise": {**_LARGE, "noise": "masking", "batch_size": N_ROWS},
    "kl": {**_LARGE, "sparsity": "kl", "code_activation": "logistic"},
    "kl_of_all": {
        **_LARGE,
        "sparsity": "kl",
        "code_activation": "logistic",
        "solver": "lbfgs",
    },
    "l1": {**_LARGE, "sparsity": "l1", "tied_weights": True},
    "variational": {**_LARGE, "loss": "log_loss", "kl_warmup": 3},
    "variational_early_stopping": {
        **_LARGE,
        "beta": 0.1,
        "early_stopping": True,
        "validation_fraction": 0.4,
    },
}
# Batches of one shard are learnt from by one thread.
ONE_THREAD_CASES = {"batch_of_one_lane"}
DTYPES = (np.float32, np.float64)


@functools.cache
def data(name="", dtype=np.float64):
    """Rows in [0, 1] of low rank, with noise."""
    rng = np.random.default_rng(0)
    X = rng.random((N_ROWS, 4)) @ rng.random((4, N_FEATURES)) / 4
    X = ((0.8 * X + 0.2 * rng.random(X.shape)) * (rng.random(X.shape) > 0.2)).astype(
        dtype
    )
    return sparse.csr_matrix(X) if name == "sparse" else X


def fitted(name, dtype=np.float64):
    X = data(name, dtype)
    weights = np.arange(N_ROWS) % 4 if name == "weighted" else None
    if name.startswith("variational"):
        return VariationalAutoencoderTransformer(**CASES[name]).fit(X)
    return AutoencoderTransformer(**CASES[name]).fit(X, sample_weight=weights)


def results(name, dtype=np.float64):
    """All numbers that a fit and what follows it give, by name."""
    model, X = fitted(name, dtype), data(name, dtype)
    code = model.transform(X)
    found = {f"coefs_{i}": coef for i, coef in enumerate(model.coefs_)}
    found |= {f"intercepts_{i}": bias for i, bias in enumerate(model.intercepts_)}
    found |= {
        "loss_curve_": model.loss_curve_,
        "validation_loss_curve_": getattr(model, "validation_loss_curve_", []),
        "mean_": model.mean_,
        "scale_": model.scale_,
        "explained_variance_": getattr(model, "explained_variance_", []),
        "mean_activation_": getattr(model, "mean_activation_", []),
        "kl_curve_": getattr(model, "kl_curve_", []),
        "transform": code,
        "inverse_transform": model.inverse_transform(code),
        "score": model.score(X),
        "reconstruction_error": model.reconstruction_error(X, metric="loss"),
    }
    return {name: np.asarray(value) for name, value in found.items()}


def assert_same_bits(results, expected):
    assert results.keys() == expected.keys()
    for name, value in expected.items():
        assert results[name].dtype == value.dtype, name
        assert results[name].tobytes() == value.tobytes(), name


def digest(name, dtype="float64"):
    """Hash of `results`."""
    joined = hashlib.sha256()
    for value in results(name, np.dtype(dtype).type).values():
        joined.update(value.tobytes())
    return joined.hexdigest()


_DIGEST_CASES = ("minibatch", "lbfgs", "early_stopping")
