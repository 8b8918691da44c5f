"""C functions: that loops become vector instructions."""

import numba
import pytest

from skae._compiled.compilation import c_functions

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
    assert "vector.body" in fresh(of.function).inspect_llvm()
