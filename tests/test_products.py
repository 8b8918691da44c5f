"""Matrix products against numpy's, for every size of tile and kind of processor."""

import ctypes
import itertools

import numba
import numpy as np
import pytest
from numba.core.registry import cpu_target

from skae._compiled import products

pytestmark = pytest.mark.once

DTYPES = (np.float32, np.float64)
# Bytes and number of vector registers: with AVX-512, with AVX, without either, here.
REGISTERS = {(64, 32), (32, 16), (16, 32)}
REGISTERS |= {products.registers(cpu_target.target_context)}


@pytest.fixture(scope="module", params=sorted(REGISTERS), ids=str)
def compiled(request):
    """The ops as compiled for a kind of processor, by name and dtype."""
    ops = (products.product, products.short_product, products.pack)
    # Those of this processor first: what they compile is cached on disk.
    signatures = [
        (of, dtype, of.compiled(dtype)._sig)
        for of, dtype in itertools.product(ops, map(np.dtype, DTYPES))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "registers", lambda context: request.param)
        yield {
            (of.function.__name__, dtype): numba.cfunc(signature, **of.options)(
                of.function
            )
            for of, dtype, signature in signatures
        }


def run(compiled, name, *arguments):
    function = compiled[name, arguments[0].dtype].ctypes
    pairs = zip(arguments, function.argtypes, strict=True)
    function(
        *(
            ctypes.cast(argument.ctypes.data, kind)
            if isinstance(argument, np.ndarray)
            else int(argument)
            for argument, kind in pairs
        )
    )


def random(*shape, dtype):
    """Small whole numbers: products are exact, in any order."""
    return np.random.default_rng(sum(shape)).integers(-4, 5, shape).astype(dtype)


def exact(a, b):
    """Their product, of whole numbers, without BLAS, which may read what is behind."""
    return (a.astype(np.int64) @ b.astype(np.int64)).astype(a.dtype)


def packed(compiled, block):
    """The transposed copy that `product` takes; unused entries are NaN."""
    n_units, n_rows = block.shape
    width = products.PART_COLUMNS
    memory = np.full(-(-n_units // width) * width * n_rows, np.nan, dtype=block.dtype)
    run(compiled, "pack", block, memory, n_units, n_rows)
    return memory


# m and n around the sizes of tiles and vectors; one sum longer than a pass over it.
SIZES = [
    *itertools.product((1, 2, 3, 7, 8, 13), (1, 4, 15, 16, 17, 33, 70), (1, 5)),
    (11, 70, 1030),
]


@pytest.mark.parametrize("is_added", [False, True])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_product(compiled, is_transposed, is_packed, is_added, dtype):
    for m, n, k in SIZES:
        a, b = random(m, k, dtype=dtype), random(k, n, dtype=dtype)
        start, before = random(m, dtype=dtype), random(m + 1, n, dtype=dtype)
        c = before.copy()
        stored_a = np.ascontiguousarray(a.T) if is_transposed else a
        steps = (1, m) if is_transposed else (k, 1)
        stored_b = packed(compiled, np.ascontiguousarray(b.T)) if is_packed else b
        arguments = stored_b, is_packed, c, start, 1, m, n, k, is_added
        run(compiled, "product", stored_a, *steps, *arguments)
        expected = exact(a, b) + (before[:-1] if is_added else start[:, np.newaxis])
        assert np.array_equal(c[:-1], expected)
        assert np.array_equal(c[-1], before[-1])  # nothing else is written


def test_product_with_one_start_value(compiled):
    a, b = random(9, 3, dtype=np.float64), random(3, 20, dtype=np.float64)
    c, start = np.empty((9, 20)), np.array([2.0, np.nan])
    run(compiled, "product", a, 3, 1, b, 0, c, start, 0, 9, 20, 3, 0)
    assert np.array_equal(c, exact(a, b) + 2)


@pytest.mark.parametrize("is_added", [False, True])
def test_short_product(compiled, is_added, dtype):
    sizes = itertools.product((1, 3, 4, 9), (1, 2, 3, 4, 7, 15), (1, 8, 15, 16, 17, 70))
    for m, n, k in sizes:
        a, b = random(m, k, dtype=dtype), random(n, k, dtype=dtype)
        before = random(m + 1, n, dtype=dtype)
        c = before.copy()
        run(compiled, "short_product", a, b, c, m, n, k, is_added)
        assert np.array_equal(c[:-1], exact(a, b.T) + is_added * before[:-1])
        assert np.array_equal(c[-1], before[-1])


@pytest.mark.parametrize("name", ["product", "short_product"])
def test_products_let_nan_through(compiled, name):
    a, b = np.full((5, 3), 0.0), np.full((20, 3), np.nan)
    c = np.zeros((5, 20))
    if name == "product":
        b, start = np.ascontiguousarray(b.T), np.zeros(1)
        run(compiled, name, a, 3, 1, b, 0, c, start, 0, 5, 20, 3, 0)
    else:
        run(compiled, name, a, b, c, 5, 20, 3, 0)
    assert np.isnan(c).all()


@pytest.mark.parametrize("name", ["product", "short_product"])
def test_sums_of_products_are_vectors(compiled, name, dtype):
    code = compiled[name, np.dtype(dtype)].inspect_llvm()
    # As LLVM has optimised it: no sum is split into numbers.
    assert "@llvm.fmuladd.v" in code
    assert "@llvm.fmuladd.f" not in code
