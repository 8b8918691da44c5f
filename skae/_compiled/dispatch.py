"""Which compiled loops a network, its rows and its training call: their addresses."""

from typing import NamedTuple

import numpy as np

from skae._compiled import elementwise, products, random, row_access, sparse_products
from skae._compiled.activations import ACTIVATIONS


class Addresses(NamedTuple):
    """Addresses of the machine code of the ops; 0 for none."""

    activations: np.ndarray  # (L + 1,) int64, of the layers; 0 for the identity
    product: int
    short_product: int
    dense_sparse_product: int
    sparse_dense_product: int
    pack: int
    prefetch: int
    pick: int
    gather: int
    gather_csr: int
    scatter: int
    loss: int
    solver: int
    copy: int
    add: int
    backward_units: int
    add_sum: int
    add_squares: int
    shuffle: int
    corrupt: int
    code_term: int
    code_term_backward: int
    add_code: int
    divergence_of_means: int


_INFERENCE = {
    "pick": row_access.pick,
    "scatter": row_access.scatter,
    "product": products.product,
    "add_sum": elementwise.add_sum,
}
# Of dense and of sparse rows.
_GATHER = {
    False: {"gather": row_access.gather},
    True: {"gather_csr": row_access.gather_csr},
}
# Of rows with many zeros.
_SPARSE = {
    "dense_sparse_product": sparse_products.dense_sparse_product,
    "sparse_dense_product": sparse_products.sparse_dense_product,
}
_LEARNING = {
    "short_product": products.short_product,
    "pack": products.pack,
    "prefetch": row_access.prefetch_rows,
    "copy": elementwise.copy,
    "add": elementwise.add,
    "backward_units": elementwise.backward_units,
    "add_squares": elementwise.add_squares,
    "shuffle": random.shuffle,
}


def addresses(dtype, activations, kinds, has_zeros, loss=None, **others):
    """Compile the ops that a network needs.

    Parameters
    ----------
    dtype : dtype

    activations : ndarray of int
        Positions in ``ACTIVATIONS``, the input's first.

    kinds : set of bool
        Whether the rows to be read are sparse.

    has_zeros : bool
        Whether the network sees many zeros.

    loss : CFunction, default=None
        None for inference alone.

    **others : CFunction or None
        The solver's and the objective's own, by the fields of ``Addresses``.

    Returns
    -------
    addresses : Addresses
    """
    ops = [activation.op for activation in ACTIVATIONS.values()]
    layers = [ops[position] for position in activations]
    named = dict.fromkeys(Addresses._fields[1:])
    named |= _INFERENCE
    for is_sparse in kinds:
        named |= _GATHER[is_sparse]
    if has_zeros:
        named |= _SPARSE
    if loss is not None:
        named |= _LEARNING | {"loss": loss} | others
    return Addresses(
        activations=np.array([_address(p, dtype) for p in layers], dtype=np.int64),
        **{name: _address(p, dtype) for name, p in named.items()},
    )


def _address(op, dtype):
    return 0 if op is None else op.address(dtype)
