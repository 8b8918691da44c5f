"""C functions: that loops become vector instructions."""

import re

import numba
import pytest
from llvmlite import binding

from skae._compiled.compilation import c_functions

pytestmark = pytest.mark.once

# These look for rows in memory, are written in vectors, or call others.
NOT_VECTORISED = {
    "train",
    "finish_epoch",
    "train_part",
    "step",
    "train_batches",
    "summed_loss",
    "summed_gradient",
    "propagate",
    "forward",
    "shards",
    "code_means",
    "_divergence_of_means",
    "_draw_code",  # by Numba 0.60; the code has few entries
    "shuffle",
    "pick",
    "prefetch_rows",
    "_swap",
    "_corrupt_groups",
    "gather",
    "gather_csr",
    "scatter",
    "product",
    "short_product",
    "dense_sparse_product",
    "sparse_dense_product",
    "pack",
}


@pytest.mark.parametrize(
    "of",
    [f for f in c_functions() if f.function.__name__ not in NOT_VECTORISED],
    ids=lambda of: of.function.__qualname__[:-13],
)
def test_loops_are_vectorised(of, dtype):
    """One call, or one branch too many, and a loop is ten times slower."""
    fresh = numba.cfunc(of.compiled(dtype)._sig, **of.options)
    code = fresh(of.function).inspect_llvm()
    assert "vector.body" in code
    # Not in halves of the processor's registers.
    n_bits = max(
        int(n) * {"float": 32, "double": 64, "i64": 64}[entry]
        for n, entry in re.findall(r"<(\d+) x (float|double|i64)>", code)
    )
    assert n_bits >= (512 if binding.get_host_cpu_features()["avx512f"] else 128)
