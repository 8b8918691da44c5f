"""What vector code becomes on this processor, and on one that is not known."""

import json
import platform

import pytest
from numba.core.registry import cpu_target

from skae._compiled import numba_private, vectors

from .support.sources import run_python

pytestmark = pytest.mark.once

IS_X86 = platform.machine() in ("x86_64", "AMD64")


class Context:
    """Stands in for Numba's, where code would run on another processor."""

    def __init__(self, *description):
        self.description = description

    def codegen(self):
        """Return itself."""
        return self

    def magic_tuple(self):
        """Return what Numba's code generator does."""
        return self.description


LINUX = "x86_64-unknown-linux-gnu"


@pytest.mark.parametrize(
    ("system", "features", "expected"),
    [
        (LINUX, "+sse2,+avx,+avx2,+fma,+avx512f", (64, 32)),
        (LINUX, "+sse2,+avx,-avx512f", (32, 16)),
        (LINUX, "-avx,-avx512f", (16, 16)),
        (LINUX, "", (16, 16)),
        ("aarch64-unknown-linux-gnu", "+neon", (16, 32)),
        ("arm64-apple-darwin24.1.0", "", (16, 32)),
    ],
)
def test_registers_by_features(system, features, expected):
    assert vectors.registers(Context(system, "some", features)) == expected


def cpu_flags():
    """What the processor can do, by Linux."""
    try:
        with open("/proc/cpuinfo") as lines:
            flags = [line for line in lines if line.startswith("flags")]
    except OSError:
        flags = []
    if not IS_X86 or not flags:
        pytest.skip("needs Linux on an x86 processor")
    return flags[0].split()


def test_registers_fit_the_processor():
    flags = cpu_flags()
    expected = (16, 16)
    if "avx512f" in flags:
        expected = 64, 32
    elif "avx" in flags:
        expected = 32, 16
    context = cpu_target.target_context
    assert vectors.registers(context) == expected
    _, name, features = numba_private.processor(context)
    assert name == context.codegen()._get_host_cpu_name()
    assert ("+fma" in features.split(",")) == ("fma" in flags)


@pytest.mark.parametrize(
    "description", [(), (LINUX, "some"), (LINUX, "some", {"avx": True}), (1, 2, 3)]
)
def test_the_processor_is_found_where_numba_tells_otherwise(description):
    """By LLVM itself."""
    context = cpu_target.target_context
    system, name, features = numba_private.processor(context)
    other = numba_private.processor(Context(*description))
    assert other[:2] == (system, name)
    assert set(other[2].split(",")) >= {f for f in features.split(",") if f[:1] == "+"}


PRODUCTS = """
import json
import re

import numba
import numpy as np
from numba.core.registry import cpu_target

from skae._compiled import vectors
from skae._compiled.products import PART_COLUMNS, pack, product, short_product
from skae._compiled.sparse_products import dense_sparse_product, sparse_dense_product

context = cpu_target.target_context
found = {"registers": vectors.registers(context), "products": {}}
for of, dtype in (
    (product, "float32"),
    (short_product, "float64"),
    (dense_sparse_product, "float64"),
    (sparse_dense_product, "float32"),
):
    fresh = numba.cfunc(of.compiled(dtype)._sig, **of.options)(of.function)
    code = fresh._library.get_asm_str()
    fused = len(re.findall(r"\\bv?fn?m(?:add|la)", code))
    calls = re.findall(r"\\bfmaf?\\b", code)
    found["products"][of.function.__name__] = fused, calls
for dtype in ("float32", "float64"):
    # The zeros of a sparse matrix are left out, and nothing else is changed.
    rng = np.random.default_rng(0)
    m, n, k = 33, 70, 45
    a = rng.standard_normal((m, k)).astype(dtype)
    a *= rng.random((m, k)) < 0.2
    b = rng.standard_normal((n, k)).astype(dtype)
    packed = np.full(-(-n // PART_COLUMNS) * PART_COLUMNS * k, np.nan, dtype)
    pack(b, packed, n, k)
    by_zeros, dense, start = np.empty((m, n), dtype), np.empty((m, n), dtype), a[0] * 0
    sparse_dense_product(a, packed, by_zeros, m, n, k, 0)
    product(a, k, 1, packed, 1, dense, start, 0, m, n, k, 0)
    assert np.array_equal(dense, by_zeros)
    assert np.allclose(dense, a.astype(float) @ b.T.astype(float), atol=1e-5)
    short = np.empty((m, 5), dtype)
    short_product(a, b[:5].copy(), short, m, 5, k, 0)
    assert np.allclose(short, dense[:, :5], atol=1e-5)
print(json.dumps(found))
"""


def test_products_are_fused_where_the_processor_can():
    can_fuse = not IS_X86 or "fma" in cpu_flags()
    for fused, calls in json.loads(run_python(PRODUCTS))["products"].values():
        assert (fused > 4) == can_fuse
        assert calls == []


@pytest.mark.soak
@pytest.mark.skipif(not IS_X86, reason="needs an x86 processor")
def test_products_without_fused_instructions_call_no_function():
    """As on Sandy Bridge, or in a virtual machine; they are right all the same."""
    found = json.loads(run_python(PRODUCTS, NUMBA_CPU_NAME="generic"))
    assert found["registers"] == [16, 16]
    assert len(found["products"]) == 4
    for fused, calls in found["products"].values():
        assert fused == 0
        assert calls == []
