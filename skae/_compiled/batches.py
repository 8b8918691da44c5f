"""Losses and gradients of a mini-batch, whose shards are divided among threads."""

import numpy as np
from numba import types

from skae._compiled.barrier import all_went_on, atomic_load, barrier
from skae._compiled.code_terms import BATCH_TERM, BATCH_WEIGHT
from skae._compiled.compilation import as_kernel, inlined
from skae._compiled.denormals import flush_denormals, restore_denormals
from skae._compiled.intrinsics import beyond, call, doubles, integers, record
from skae._compiled.memory import (
    BYTES,
    NO_ORDER,
    address_at,
    block_of,
    layer_of,
    row_weights_of,
    term_settings_of,
    units_offset,
)
from skae._compiled.network import backward, evaluate
from skae._compiled.records import (
    ABANDONED,
    INTERRUPT,
    MODEL,
    N_SHARD_LOSSES,
    NO_EPOCH,
    ROWS,
    TEAM,
)
from skae._compiled.sharding import shard_start, shards_of

# Parameters updated at a time, so that the sum of the shards stays in the L1 cache.
UPDATE_ENTRIES = 2048
# What `shards` computes: losses, losses and gradients, or sums of the code.
EVALUATE, LEARN, ENCODE = np.int64(0), np.int64(1), np.int64(2)


@inlined
def _begin_shard(shard, rank, team):
    """Set a shard's sums to zero, the first shard's loss to the mini-batch's term."""
    losses, at = doubles(team.shard_losses), N_SHARD_LOSSES * shard
    losses[at] = losses[at + 1] = 0.0
    if shard == 0 and team.code_means != 0:
        losses[0] = doubles(term_settings_of(team, rank))[BATCH_TERM]


@inlined
def _add_code(model, rows, block, team):
    """Add a block's code to the sum of its shard."""
    code = layer_of(model.network, model.network.n_layers // 2)
    units = address_at(team, team.units, units_offset(code, block, team))
    sums = beyond(team.shard_codes, BYTES * team.shard_code_entries * block.shard)
    arrays = units, row_weights_of(rows, block, team), sums
    call(team.ops, "add_code", (*arrays, team.n_code, block.n_rows))


@as_kernel(MODEL, ROWS, np.ndarray, int, int, TEAM, int, int)
def shards(model, rows, order, start, stop, team, rank, aim):
    """Compute what `aim` says for this rank's shards of a mini-batch.

    The mini-batch is the positions `start` to `stop` - 1 of the order.
    """
    model, rows, team = record(model, MODEL), record(rows, ROWS), record(team, TEAM)
    control, network = integers(team.control), model.network
    block = block_of(team, rank)
    block.rank, block.order = rank, order
    block.n_layers = network.n_layers // 2 if aim == ENCODE else network.n_layers
    n_batch = stop - start
    n_shards = shards_of(n_batch, team.block_rows)
    n_blocks = 0
    for shard in range(rank, n_shards, team.n_threads):
        first = start + shard_start(shard, n_shards, n_batch)
        end = start + shard_start(shard + 1, n_shards, n_batch)
        block.shard = shard
        if aim != ENCODE:
            _begin_shard(shard, rank, team)
        for begin in range(first, end, team.block_rows):
            is_long = end - first > team.block_rows
            if is_long and atomic_load(control, INTERRUPT) != 0:
                control[ABANDONED] = 1
                break
            block.start, block.stop = begin, min(end, begin + team.block_rows)
            block.n_rows = block.stop - begin
            block.slot = rank * team.n_slots + n_blocks % team.n_slots
            n_blocks += 1
            # Prefetch the rows at the same place in the next mini-batch.
            is_random = order != NO_ORDER and rows.starts == 0
            left = rows.n_rows - (begin + n_batch) if is_random else 0
            block.ahead = begin + n_batch
            block.n_ahead = max(0, min(block.n_rows, left))
            call(team, "forward", (model, rows, block, team))
            if aim == ENCODE:
                _add_code(model, rows, block, team)
                continue
            evaluate(model, rows, block, team)
            if aim == LEARN:
                at = shard * team.shard_gradient_entries
                gradients = address_at(team, team.shard_gradients, at)
                backward(model, rows, block, (gradients, begin == first), team)


@inlined
def batch_weight(rows, n_batch):
    """Weight of a mini-batch: `n_batch` times the mean weight of all rows.

    With the sum of the mini-batch's own weights the gradient would be biased.
    """
    return rows.total_weight / rows.n_rows * n_batch


@as_kernel(MODEL, ROWS, np.ndarray, int, int, TEAM, int)
def code_means(model, rows, order, start, stop, team, rank):
    """Write what depends on a mini-batch's mean code to the rank's term settings."""
    model, rows, team = record(model, MODEL), record(rows, ROWS), record(team, TEAM)
    n_shards = shards_of(stop - start, team.block_rows)
    n_sums = team.shard_code_entries
    for shard in range(rank, n_shards, team.n_threads):
        for j in range(shard * n_sums, (shard + 1) * n_sums):
            doubles(team.shard_codes)[j] = 0.0
    call(team, "shards", (model, rows, order, start, stop, team, rank, ENCODE))
    barrier(team)
    settings = term_settings_of(team, rank)
    doubles(settings)[BATCH_WEIGHT] = batch_weight(rows, stop - start)
    sums = team.shard_codes, settings, n_shards, team.n_code
    call(team.ops, "divergence_of_means", sums)


@inlined
def run_shards(model, rows, order, batch, team, rank, aim):
    """Run `shards` on a batch (start, stop), after `code_means` if they are needed."""
    if team.code_means != 0:
        call(team, "code_means", (model, rows, order, *batch, team, rank))
    call(team, "shards", (model, rows, order, *batch, team, rank, aim))


@inlined
def sum_shards(team, n_rows, which):
    """Sum of the shards' losses (which=0) or code terms (which=1)."""
    losses, total = doubles(team.shard_losses), 0.0
    for shard in range(shards_of(n_rows, team.block_rows)):
        total += losses[N_SHARD_LOSSES * shard + which]
    return total


@inlined
def share_of(team, rank, n):
    """Start and stop of this rank's slice of n independent entries."""
    return rank * n // team.n_threads, (rank + 1) * n // team.n_threads


@inlined
def sum_gradients(n_shards, team, start, n):
    """Sum the shards' gradients of n parameters into the first; return its address."""
    gradient = address_at(team, team.shard_gradients, start)
    for shard in range(1, n_shards):
        at = shard * team.shard_gradient_entries + start
        other = address_at(team, team.shard_gradients, at)
        call(team.ops, "add", (gradient, other, n))
    return gradient


@inlined
def add_up_losses(model, rows, team, rank):
    """Data loss summed over all rows, on rank 0, and whether the run was abandoned."""
    block_of(team, rank).epoch = NO_EPOCH
    total = 0.0
    for start in range(0, rows.n_rows, team.piece_rows):
        batch = start, min(start + team.piece_rows, rows.n_rows)
        run_shards(model, rows, NO_ORDER, batch, team, rank, EVALUATE)
        if not all_went_on(team):
            return np.nan, True
        if rank == 0:
            total += sum_shards(team, batch[1] - start, 0)
        # No rank may overwrite the shards' losses while rank 0 still reads them.
        if not barrier(team):
            return np.nan, True
    return total, False


@as_kernel(MODEL, ROWS, TEAM, int, returns=types.float64)
def summed_loss(model, rows, team, rank):
    """Data loss summed over all rows, on rank 0."""
    model, rows, team = record(model, MODEL), record(rows, ROWS), record(team, TEAM)
    before = flush_denormals()
    total, _ = add_up_losses(model, rows, team, rank)
    restore_denormals(before)
    return total


@inlined
def _add_up_gradients(model, rows, order, batch, team, rank):
    """Sum the data loss and its gradient as `summed_gradient`."""
    run_shards(model, rows, order, batch, team, rank, LEARN)
    if not all_went_on(team):
        return np.nan
    n_rows = batch[1] - batch[0]
    lo, hi = share_of(team, rank, team.n_params)
    for first in range(lo, hi, UPDATE_ENTRIES):
        n = min(UPDATE_ENTRIES, hi - first)
        sum_gradients(shards_of(n_rows, team.block_rows), team, first, n)
    barrier(team)
    return sum_shards(team, n_rows, 0)


@as_kernel(MODEL, ROWS, np.ndarray, int, int, int, TEAM, int, returns=types.float64)
def summed_gradient(model, rows, order, start, stop, epoch, team, rank):
    """Data loss summed over a mini-batch, on rank 0; its gradient is in `gradients[0]`.

    The mini-batch is the positions `start` to `stop` - 1 of the order (null: the rows'
    own) in an epoch, or NO_EPOCH.
    """
    model, rows, team = record(model, MODEL), record(rows, ROWS), record(team, TEAM)
    block_of(team, rank).epoch = epoch
    before = flush_denormals()
    total = _add_up_gradients(model, rows, order, (start, stop), team, rank)
    restore_denormals(before)
    return total
