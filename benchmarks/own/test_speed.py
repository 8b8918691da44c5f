"""skae against its own past: a pytest-benchmark suite.

Once ``pip install pytest-benchmark`` is done, at the root of the repository, before a
change and after it:

    pytest benchmarks/own --benchmark-autosave
    pytest benchmarks/own --benchmark-autosave --benchmark-compare

Runs are kept in ``.benchmarks/``. The two are not interleaved: believe a difference
that a third run, of the old state again, leaves standing. ``-k "not cold"`` leaves out
the compilation, which takes most of the time, and ``OPENBLAS_NUM_THREADS=1`` measures
one thread. `pytest` alone does not collect this folder.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DTYPES = ("float32", "float64")
FIRST_FIT = """
import warnings
import numpy as np
from skae import AutoencoderTransformer
warnings.simplefilter("ignore")
X = np.random.default_rng(0).random((500, 64), dtype=np.float32)
AutoencoderTransformer(max_iter=2).fit(X)
"""


def new_estimator(n_epochs, **parameters):
    return AutoencoderTransformer(
        max_iter=n_epochs,
        init="random",
        early_stopping=False,
        tol=0,
        n_iter_no_change=np.inf,
        random_state=0,
        **{"batch_size": 200, **parameters},
    )


def uniform(n_rows, n_features, dtype):
    return np.random.default_rng(0).random((n_rows, n_features)).astype(dtype)


def run_python(code, **env):
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, check=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fit_default(benchmark, dtype):
    X = load_digits().data.astype(dtype)
    benchmark(new_estimator(20).fit, X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fit_narrow(benchmark, dtype):
    """Little arithmetic a row: the cost of everything around it."""
    estimator = new_estimator(10, hidden_layer_sizes=(), code_activation="tanh")
    benchmark(estimator.fit, uniform(10_000, 8, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_fit_wide(benchmark, dtype):
    """Matrix products and little else."""
    estimator = new_estimator(1, n_components=32, hidden_layer_sizes=(512, 256))
    benchmark(estimator.fit, uniform(4000, 784, dtype))


@pytest.mark.parametrize("density", [0.02, 0.1, 0.2, 0.25, 0.3, 1])
@pytest.mark.parametrize("width", [32, 128])
def test_fit_zeros(benchmark, width, density):
    """Up to `_model.workspace._MAX_DENSITY` zeros are left out of products."""
    X = uniform(4000, 784, "float32")
    X *= np.random.default_rng(1).random(X.shape) < density
    estimator = new_estimator(1, hidden_layer_sizes=width, loss="log_loss")
    benchmark(estimator.fit, X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fit_lbfgs(benchmark, dtype):
    X = load_digits().data.astype(dtype)
    benchmark(new_estimator(20, solver="lbfgs").fit, X)


@pytest.mark.parametrize("method", ["transform", "inverse_transform", "score"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_inference(benchmark, method, dtype):
    X = uniform(50_000, 64, dtype)
    estimator = new_estimator(1).fit(X[:1000])
    argument = X if method != "inverse_transform" else estimator.transform(X)
    benchmark(getattr(estimator, method), argument)


def test_transform_one_row(benchmark):
    X = load_digits().data
    benchmark(new_estimator(1).fit(X).transform, X[:1])


def test_import(benchmark):
    benchmark.pedantic(run_python, ("import skae",), rounds=5, warmup_rounds=1)


def test_warm_start(benchmark, tmp_path):
    """A process from start to first fit, kernels in the cache."""
    env = {"NUMBA_CACHE_DIR": str(tmp_path)}
    benchmark.pedantic(run_python, (FIRST_FIT,), env, rounds=5, warmup_rounds=1)


def test_cold_start(benchmark, tmp_path_factory):
    """The same with an empty cache."""

    def with_empty_cache():
        return (FIRST_FIT,), {"NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}

    benchmark.pedantic(run_python, setup=with_empty_cache, rounds=2)
