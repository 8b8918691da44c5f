"""Whatever X is, a fit works and all numbers are finite, or an error names why not."""

import functools
import re

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from ..support.cases import RANGES
from ..support.layouts import FORMATS, LAYOUTS
from . import support
from .support import assert_usable, examples, frozen, make, state_of

pytestmark = pytest.mark.reliability

# What the message of an error is about.
REASONS = (
    "NaN|infinity|too large for|too small for|diverged|negative values|values above 1"
    "|values in \\[0, 1\\]|sample|feature|dimension|1D|dim 3|complex|n_components"
    "|could not convert|range of|column indices|sparse|real number"
)
MAX_SIDE = 24


def sizes(largest=MAX_SIDE):
    """Numbers of rows or columns, often the least ones."""
    return st.one_of(st.sampled_from([1, 2, 3]), st.integers(1, largest))


def _scaled(values, factor):
    with np.errstate(all="ignore"):
        return values * factor


# From standard normal numbers: what data may look like, in the dtype.
KINDS = {
    "normal": lambda x, info: x,
    "denormal": lambda x, info: _scaled(x, info.smallest_subnormal * 8),
    "around the smallest": lambda x, info: _scaled(x, info.tiny),
    "tiny": lambda x, info: _scaled(x, info.tiny**0.5),
    "large": lambda x, info: _scaled(x, info.max**0.5 / 8),
    "huge": lambda x, info: np.clip(_scaled(x, info.max / 4), -info.max, info.max),
    "extreme": lambda x, info: np.where(x > 0, info.max, -info.max),
    "zeros": lambda x, info: x * 0,
    "constant": lambda x, info: x * 0 + 3,
    "constant columns": lambda x, info: np.where(np.arange(x.shape[1]) % 2, x, 7),
    "far away": lambda x, info: x + 1 / info.eps,
    "of all magnitudes": lambda x, info: _scaled(
        x, info.max ** np.linspace(-0.9, 0.9, x.shape[1])
    ),
    "one huge entry": lambda x, info: np.where(
        np.arange(x.size).reshape(x.shape), x, info.max
    ),
    "in [0, 1]": lambda x, info: np.clip(abs(x), 0, 1),
    "binary": lambda x, info: x > 0,
    "with NaN": lambda x, info: np.where(x >= x.max(), np.nan, x),
    "with infinity": lambda x, info: np.where(x >= x.max(), -np.inf, x),
}
FLOATS = ("float16", "float32", "float64")
OTHERS = ("int8", "uint8", "int32", "int64", "uint64", "bool", "object")


@st.composite
def matrices(draw, dtypes=(*FLOATS, *OTHERS)):
    """C-ordered arrays of rows."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(sizes()), draw(sizes(12))
    is_float = dtype in FLOATS
    if draw(st.booleans()):
        elements = {"allow_nan": False, "allow_infinity": False} if is_float else {}
        if dtype == "object":
            values = draw(arrays_of.arrays("float64", shape, elements=st.floats(-9, 9)))
            return values.astype(object)
        elements = arrays_of.from_dtype(np.dtype(dtype), **elements)
        return draw(arrays_of.arrays(dtype, shape, elements=elements))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.standard_normal(shape)
    if is_float:
        kind = draw(st.sampled_from(list(KINDS)))
        info = np.finfo(dtype)
        # A float64 holds what is made for narrower types.
        with np.errstate(all="ignore"):
            return np.asarray(KINDS[kind](values.astype(dtype), info)).astype(dtype)
    return np.abs(values * 3).astype(dtype)


@functools.cache
def fitted_before(name):
    """A fitted estimator, of other data."""
    X = np.random.default_rng(0).random((12, 3))
    with support.only_convergence_warnings():
        return make(name).fit(X)


def fit_or_refuse(name, X, *, options=None, **parameters):
    """A fitted estimator; None if the error is a good one, and nothing has changed."""
    model = support.copy_of(fitted_before(name)).set_params(**parameters)
    before, of_X = state_of(model), frozen(X)
    with support.only_convergence_warnings():
        try:
            model.fit(X, **(options or {}))
            problem = ""
        except (ValueError, TypeError) as error:
            problem = str(error)
        assert frozen(X) == of_X
        if problem:
            assert state_of(model) == before
            assert re.search(REASONS, problem, re.IGNORECASE), problem
            return None
        assert_usable(model, X)
        assert frozen(X) == of_X
    return model


def has_to_fit(name, X):
    """Whether nobody could say anything against some rows."""
    X = X.astype("float64")
    sizes = np.abs(X[X != 0])
    is_ordinary = np.isfinite(X).all() and ((sizes > 1e-3) & (sizes < 1e3)).all()
    low, high = RANGES.get(make(name).loss, (-np.inf, np.inf))
    in_range = is_ordinary and low <= X.min() and X.max() <= high
    # To hold a tenth out there have to be two that differ.
    n_distinct = len(np.unique(X, axis=0))
    return in_range and (n_distinct > 1 or make(name).early_stopping is not True)


def counted(count, what, model):
    count("inputs", what)
    count(
        "what came of them",
        "fitted, all numbers finite" if model else "refused, told why",
    )


NAMES = st.sampled_from(support.NAMES)


@pytest.mark.parametrize("layout", LAYOUTS)
@examples(20, 300)
@given(data=st.data(), name=NAMES, X=matrices(), n_components=sizes(9))
def test_arrays(count, layout, data, name, X, n_components):
    if X.dtype == object and layout in ("misaligned", "other byte order"):
        X = X.astype("float64")  # objects are addresses
    X_laid_out = LAYOUTS[layout](X)
    model = fit_or_refuse(name, X_laid_out, n_components=n_components)
    counted(count, f"arrays, {layout}", model)
    assert model is not None or not has_to_fit(name, X_laid_out)
    if X.dtype.kind == "f" and np.isinf(X_laid_out).any():
        assert model is None
    if model is None:
        return
    copy = np.array(X_laid_out, order="C", dtype=X.dtype)
    n = data.draw(st.integers(0, len(X) - 1), label="first row of a chunk")
    with support.only_convergence_warnings():
        code = model.transform(X_laid_out)
        assert frozen(model.transform(copy)) == frozen(code)
        assert frozen(model.transform(X_laid_out[n:])) == frozen(code[n:])
        other = make(name, n_components=n_components).fit(copy)
    assert frozen(other.transform(copy)) == frozen(code)


# SciPy has none of float16, nor of objects.
OF_SPARSE = [name for name in (*FLOATS, *OTHERS) if name not in ("float16", "object")]


@pytest.mark.parametrize("form", FORMATS)
@examples(8, 100)
@given(data=st.data(), name=NAMES, X=matrices(OF_SPARSE), n_components=sizes(9))
def test_sparse_matrices(count, form, data, name, X, n_components):
    X = np.where(np.sort(X, axis=None)[X.size // 2] < X, X, X.dtype.type(0))
    matrix = FORMATS[form](X)
    model = fit_or_refuse(name, matrix, n_components=n_components)
    counted(count, f"sparse, {form}", model)
    if model is None:
        return
    n = data.draw(st.integers(0, len(X) - 1), label="first row of a chunk")
    with support.only_convergence_warnings():
        code = model.transform(matrix)
        assert frozen(model.transform(X)) == frozen(code)
        assert frozen(model.transform(sparse.csr_matrix(X)[n:])) == frozen(code[n:])
        other = make(name, n_components=n_components).fit(sparse.csr_matrix(X))
    assert frozen(other.transform(X)) == frozen(code)


# The variational member takes none.
WEIGHTED_NAMES = st.sampled_from([n for n in support.NAMES if "variational" not in n])
WEIGHTS = st.one_of(
    st.floats(0, 1e3),
    st.sampled_from([0.0, 1.0, 5e-324, 1e-300, 1e300, np.nan, np.inf, -1.0]),
)


@examples(40, 500)
@given(
    data=st.data(),
    name=WEIGHTED_NAMES,
    X=arrays_of.arrays(
        "float64", st.tuples(sizes(), sizes(5)), elements=st.floats(0, 1)
    ),
)
def test_sample_weights(count, data, name, X):
    weights = data.draw(st.lists(WEIGHTS, min_size=len(X), max_size=len(X)))
    model = fit_or_refuse(name, X, options={"sample_weight": np.array(weights)})
    counted(count, "sample weights", model)
