"""Addresses of the ops that a network, its rows and its training call."""

from typing import Annotated, NamedTuple

import numpy as np

from skae._compiled import elementwise, products, random, row_access, sparse_products
from skae._compiled.activations import ACTIVATIONS
from skae._compiled.code_terms import TERM_KINDS
from skae._compiled.corruption import CORRUPTIONS
from skae._compiled.intrinsics import declare
from skae._compiled.losses import LOSSES, add_group_losses
from skae._compiled.optimizers import SOLVERS, scale_gradient

# A field with an address, which is unsigned in records, see `intrinsics`.
Address = Annotated[int, "address"]


class Addresses(NamedTuple):
    """Addresses of the ops' machine code; 0 for none."""

    activations: np.ndarray  # (n_layers + 1,) uint64; 0 for the identity
    product: Address
    short_product: Address
    dense_sparse_product: Address
    sparse_dense_product: Address
    pack: Address
    prefetch: Address
    pick: Address
    gather: Address
    gather_csr: Address
    scatter: Address
    loss: Address
    solver: Address
    copy: Address
    add: Address
    backward_units: Address
    add_sum: Address
    add_squares: Address
    shuffle: Address
    group_losses: Address
    corrupt: Address
    corrupt_groups: Address
    code_term: Address
    code_term_backward: Address
    add_code: Address
    divergence_of_means: Address


_INFERENCE = {
    "pick": row_access.pick,
    "scatter": row_access.scatter,
    "product": products.product,
    "add_sum": elementwise.add_sum,
}
# By whether the rows are sparse.
_GATHER = {
    False: {"gather": row_access.gather},
    True: {"gather_csr": row_access.gather_csr},
}
# For rows with many zeros.
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


# All ops that kernels may call by a name; those of one name take the same arguments.
_NAMED = {
    name: [op]
    for table in (_INFERENCE, *_GATHER.values(), _SPARSE, _LEARNING)
    for name, op in table.items()
} | {
    "activation": [row.op for row in ACTIVATIONS.values() if row.op is not None],
    "loss": [row.op for row in LOSSES.values()],
    "solver": [*SOLVERS.values(), scale_gradient],
    "group_losses": [add_group_losses],
    "corrupt": [row.op for row in CORRUPTIONS.values()],
    "corrupt_groups": [
        row.group_op for row in CORRUPTIONS.values() if row.group_op is not None
    ],
    "code_term": [kind.forward for kind in TERM_KINDS],
    "code_term_backward": [kind.backward for kind in TERM_KINDS],
    "add_code": [kind.of_means[0] for kind in TERM_KINDS if kind.of_means],
    "divergence_of_means": [kind.of_means[1] for kind in TERM_KINDS if kind.of_means],
}
for _name, _ops in _NAMED.items():
    for _op in _ops:
        declare(_name, _op.taken)


def addresses(dtype, activations, kinds, has_zeros, loss=None, **others):
    """Compile the ops that a network needs.

    Parameters
    ----------
    dtype : dtype

    activations : ndarray of int
        Positions in ``ACTIVATIONS``, starting with the input's.

    kinds : set of bool
        Whether the rows are sparse; both, if there are both kinds of rows.

    has_zeros : bool
        Whether the network's input has many zeros.

    loss : Op, default=None
        None for inference.

    **others : Op or None
        The solver's and the objective's, by fields of ``Addresses``.

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
    for name, op in named.items():
        if op is not None:
            declare(name, op.taken)
    return Addresses(
        activations=np.array([_address(p, dtype) for p in layers], dtype=np.uint64),
        **{name: _address(p, dtype) for name, p in named.items()},
    )


def _address(op, dtype):
    return 0 if op is None else op.address(dtype)
