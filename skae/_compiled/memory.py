"""Addresses of what kernels work on, in the memory of a team."""

import numpy as np

from skae._compiled.compilation import inlined
from skae._compiled.intrinsics import beyond, record
from skae._compiled.optimizers import N_SETTINGS
from skae._compiled.records import BLOCK, LAYER, N_SHARD_LOSSES

BYTES = 8  # of an int64 or float64
_LAYER_BYTES, _BLOCK_BYTES = LAYER.itemsize, BLOCK.itemsize
# Flags and steps that C functions are called with.
NO, YES = np.int64(0), np.int64(1)
NOWHERE = NO_ORDER = np.uint64(0)


@inlined
def address_at(team, memory, index):
    """Address of an entry of an array of the dtype."""
    return beyond(memory, team.itemsize * index)


@inlined
def layer_of(network, number):
    return record(beyond(network.layers, number * _LAYER_BYTES), LAYER)


@inlined
def block_of(team, rank):
    return record(beyond(team.blocks, rank * _BLOCK_BYTES), BLOCK)


@inlined
def input_of(rows, block, team):
    """Address of the input block."""
    return address_at(team, team.inputs, block.slot * team.block_rows * rows.n_features)


@inlined
def target_of(rows, block, team):
    """Address of the block that the output is compared with."""
    if rows.targets == 0:
        return input_of(rows, block, team)
    size = team.block_rows * rows.n_features
    return address_at(team, team.targets, block.slot * size)


@inlined
def seen_input_of(rows, block, team):
    """Address of the input block that the first layer sees, corrupted or not."""
    if team.ops.corrupt == 0:
        return input_of(rows, block, team)
    n_even = rows.n_features + rows.n_features % 2
    return address_at(team, team.corrupted, block.rank * team.block_rows * n_even)


@inlined
def picked_of(block, team):
    """Address of the row numbers of a block."""
    return beyond(team.picked, BYTES * block.slot * team.block_rows)


@inlined
def row_weights_of(rows, block, team):
    """Address of the sample weights of a block's rows, or null for ones."""
    at = address_at(team, team.row_weights, block.slot * team.block_rows)
    return at if rows.weights != 0 else NOWHERE


@inlined
def totals_of(block, team):
    """Address of the sums of a block's shard: losses, code terms."""
    return beyond(team.shard_losses, N_SHARD_LOSSES * BYTES * block.shard)


@inlined
def term_settings_of(team, rank):
    """Address of the settings of the code's term."""
    return beyond(team.term_settings, BYTES * team.n_term_settings * rank)


@inlined
def settings_of(team, rank):
    """Address of the settings of the solver's op."""
    return beyond(team.settings, BYTES * N_SETTINGS * rank)


@inlined
def units_offset(layer, block, team):
    """Position of a layer's block in `units` and `slopes`."""
    of_rank = block.rank * team.block_rows * team.n_units
    return of_rank + layer.units_at * block.n_rows


@inlined
def packed_of(block, team):
    """Address of the rank's memory for transposed copies."""
    return address_at(team, team.packed, block.rank * team.n_packed)


@inlined
def kept_of(block, team):
    """Address of the derivatives of a block's code term."""
    return address_at(team, team.kept, block.rank * team.block_rows * team.n_code)
