"""What the tests of this folder share: how much they do, and what an estimator is.

The long version (``make soak``) does more of everything, with seeds of its own, which
are printed: ``SKAE_SEED`` repeats one.
"""

import contextlib
import functools
import os
import pickle
import secrets
import warnings

import hypothesis
import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from ..support import cases
from ..support.cases import IS_LONG, times

SEED = int(os.environ.get("SKAE_SEED") or (secrets.randbelow(2**31) if IS_LONG else 0))


def settings(n_examples, **options):
    """Hypothesis', for so many examples; the same ones every time unless it is long."""
    return hypothesis.settings(
        max_examples=n_examples,
        derandomize=not IS_LONG,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        **options,
    )


def examples(short, long):
    """Decorate a test of a property, for so many examples."""
    return lambda test: settings(times(short, long))(hypothesis.seed(SEED)(test))


QUICK = {"max_iter": 3, "n_iter_no_change": 2, "init": "auto", "early_stopping": "auto"}
# Of the cases: few kernels, but every way through the Python code.
NAMES = (
    "default",
    "minibatch",
    "no_hidden",
    "tied",
    "lbfgs",
    "sgd_nesterov",
    "early_stopping",
    "gaussian_noise",
    "sparse_kl",
    "pretrained",
    "log_loss",
    "poisson",
    "variational",
    "variational_log_loss",
)
# What no case has, or what `QUICK` takes from one.
OWN = {
    "minibatch": {"init": "random", "batch_size": 4},
    "tied": {"alpha": 0.1},
    "lbfgs": {"activation": "relu"},  # may start at PCA
    "sgd_nesterov": {"scale": None},
    "early_stopping": {"early_stopping": True},
    "gaussian_noise": {"sparsity": None},  # the code is ordered
}


def make(name, **parameters):
    """An estimator of the cases, not fitted, for a short fit."""
    return cases.make(name, **{**QUICK, **OWN.get(name, {}), **parameters})


@contextlib.contextmanager
def only_convergence_warnings():
    """Every other warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "n_components=.* is not below the number")
        # scikit-learn, looking for NaN, adds up all numbers first.
        warnings.filterwarnings("ignore", "invalid value encountered in reduce")
        yield


def frozen(value):
    """A value that is equal only if every bit of the original's contents is."""
    if sparse.issparse(value):
        value = value if hasattr(value, "indptr") else value.tocoo()
        names = ("data", "indices", "indptr", "row", "col")
        found = [frozen(getattr(value, n)) for n in names if hasattr(value, n)]
        return type(value).__name__, value.shape, *found
    if isinstance(value, np.ndarray):
        contents = value.tolist() if value.dtype == object else value.tobytes()
        return "array", value.dtype.str, value.shape, repr(contents)
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [frozen(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value).hex()  # NaN too is equal to itself
    return repr(value)


def state_of(estimator):
    """All that an estimator is: parameters, what it has learnt, where training is."""
    return frozen(vars(estimator))


def copy_of(estimator):
    """The same by way of pickle, as a file or a worker process has it."""
    return pickle.loads(pickle.dumps(estimator))


def assert_usable(estimator, X):
    """Whatever was done to an estimator that is fitted, its numbers are finite."""
    for array in (*estimator.coefs_, *estimator.intercepts_, estimator.mean_):
        assert np.isfinite(array).all()
    assert 0 < estimator.scale_ < np.inf
    assert np.isfinite(estimator.loss_curve_).all()
    # Of a fit that is interrupted before its first epoch nobody knows it.
    assert np.isfinite(estimator.loss_) or not estimator.loss_curve_
    code = estimator.transform(X)
    assert code.shape == (X.shape[0], estimator.n_components)
    assert np.isfinite(code).all()
    assert np.isfinite(estimator.inverse_transform(code)).all()
    return code


@functools.cache
def rows(n_rows=300, n_features=6, dtype="float64"):
    """Rows in [0, 1], which all losses take."""
    rng = np.random.default_rng(0)
    X = rng.random((n_rows, 3)) @ rng.random((3, n_features)) / 3
    return (0.8 * X + 0.2 * rng.random(X.shape)).astype(dtype)
