"""Products with many zeros: the bits of those that multiply them all."""

import contextlib
import functools

import numba
import numpy as np
import pytest
from scipy import sparse

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer
from skae._compiled.products import DEPTH, PART_COLUMNS, pack, product
from skae._compiled.sparse_products import dense_sparse_product, sparse_dense_product
from skae._model import workspace

pytestmark = pytest.mark.once

# Strips, parts and words, whole and not; sums longer than a pass over them.
WIDTHS, ROWS = (1, 7, 8, 32, 33, 64, 65, 100), (1, 5, 16, 63, 64, 65, 130)
DENSITIES = (0, 0.1, 0.7)


def random(rng, shape, dtype, density=1.0):
    values = rng.normal(size=shape).astype(dtype)
    return np.where(rng.random(shape) < density, values, dtype(0))


def packed(block):
    n_units, n_rows = block.shape
    n_columns = -(-n_units // PART_COLUMNS) * PART_COLUMNS
    memory = np.full(n_columns * n_rows, np.nan, dtype=block.dtype)
    pack(block, memory, n_units, n_rows)
    return memory


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("k", [3, DEPTH, DEPTH + 20])
def test_dense_sparse_product(k, density, dtype):
    rng = np.random.default_rng(k)
    for m in WIDTHS:
        for n in ROWS:
            a, b = random(rng, (k, m), dtype), random(rng, (k, n), dtype, density)
            start, before = random(rng, m, dtype), random(rng, (m + 1, n), dtype)
            c, expected = before.copy(), before.copy()
            dense_sparse_product(a, b, start, c, m, n, k)
            product(a, 1, m, b, 0, expected, start, 1, m, n, k, 0)
            assert np.array_equal(c, expected)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("is_added", [False, True])
def test_sparse_dense_product(is_added, density, dtype):
    rng = np.random.default_rng(0)
    for n in WIDTHS:
        for k in ROWS:
            m = 11
            a, b = random(rng, (m, k), dtype, density), random(rng, (n, k), dtype)
            before, zero = random(rng, (m + 1, n), dtype), np.zeros(1, dtype=dtype)
            c, expected, copy = before.copy(), before.copy(), packed(b)
            sparse_dense_product(a, copy, c, m, n, k, is_added)
            product(a, k, 1, copy, 1, expected, zero, 0, m, n, k, is_added)
            assert np.array_equal(c, expected)


def test_nan_is_no_zero():
    a, b = np.ones((3, 40)), np.zeros((3, 20))
    b[1, 4] = np.nan
    c = np.zeros((40, 20))
    dense_sparse_product(a, b, np.zeros(40), c, 40, 20, 3)
    assert np.array_equal(np.isnan(c), np.isnan(b).any(axis=0) * np.ones((40, 1)))
    c = np.zeros((3, 40))
    sparse_dense_product(b, packed(np.ones((40, 20))), c, 3, 40, 20, 0)
    assert np.array_equal(np.isnan(c), np.isnan(b).any(axis=1)[:, None] * np.ones(40))


@pytest.mark.parametrize("of", [dense_sparse_product, sparse_dense_product])
def test_sums_of_products_are_vectors(of, dtype):
    fresh = numba.cfunc(of.compiled(dtype)._sig, **of.options)(of.function)
    assert "@llvm.fmuladd.v" in fresh.inspect_llvm()
    assert "@llvm.fmuladd.f" not in fresh.inspect_llvm()


# With 600 features, longer than a pass over a sum.
N_ROWS, N_FEATURES = 300, 600
PLAIN = {"init": "glorot", "early_stopping": False, "batch_size": 150}
CASES = {
    "plain": PLAIN,
    "tied": {**PLAIN, "tied_weights": True},
    "poisson": {**PLAIN, "loss": "poisson"},
    "lbfgs": {**PLAIN, "solver": "lbfgs"},
    "masking": {**PLAIN, "noise": "masking", "noise_level": 0.3},
    "salt and pepper": {**PLAIN, "noise": "salt_and_pepper"},
    "variational": {"batch_size": 150},
}


@functools.cache
def data(dtype):
    rng = np.random.default_rng(0)
    X = rng.random((N_ROWS, N_FEATURES)).astype(dtype)
    # From rows of hardly any entry to rows of more than half of them.
    return np.where(rng.random(X.shape) < np.linspace(0, 0.4, N_ROWS)[:, None], X, 0)


def estimator(case):
    variational = case == "variational"
    kind = VariationalAutoencoderTransformer if variational else AutoencoderTransformer
    defaults = {"hidden_layer_sizes": 70, "loss": "log_loss"}
    return kind(3, **{**defaults, **CASES[case]}, max_iter=3, random_state=0)


@contextlib.contextmanager
def decisions():
    """Yields a list to which every workspace adds whether it leaves zeros out."""
    found, decide = [], workspace._has_zeros
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            workspace,
            "_has_zeros",
            lambda *args: found.append(decide(*args)) or found[-1],
        )
        yield found


def results(case, X):
    model = estimator(case).fit(X)
    code = model.transform(X)
    return [*model.coefs_, *model.intercepts_, model.loss_curve_, code, model.score(X)]


@pytest.mark.parametrize("as_given", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("case", CASES)
def test_fits_have_the_same_bits(case, dtype, as_given, monkeypatch):
    with decisions() as found:
        left_out = results(case, as_given(data(dtype)))
    assert found[0]
    monkeypatch.setattr(workspace, "_MAX_DENSITY", -1)
    with decisions() as found:
        multiplied = results(case, as_given(data(dtype)))
    assert not any(found)
    for array, expected in zip(left_out, multiplied, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_a_row_does_not_depend_on_the_others():
    """Although these say whether zeros are left out."""
    X = data(np.float64)
    model = estimator("plain").fit(X)
    X = np.repeat(X, 10, axis=0)  # of few rows all entries are multiplied
    with decisions() as found:
        code = model.transform(X)
        parts = [model.transform(part) for part in (X[:1500], X[1500:])]
    assert found == [True, True, False]
    np.testing.assert_array_equal(np.concatenate(parts), code)


@pytest.mark.parametrize(
    "parameters",
    [
        {"loss": "squared_error"},  # centred
        {"noise": "gaussian"},
        {"hidden_layer_sizes": 16},
    ],
)
def test_zeros_are_multiplied_where_that_is_faster(parameters):
    with decisions() as found:
        estimator("plain").set_params(**parameters).fit(data(np.float64))
    assert not found[0]
