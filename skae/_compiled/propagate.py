"""Inference: the network's output for rows."""

import numpy as np

from skae._compiled.barrier import atomic_load
from skae._compiled.compilation import as_kernel
from skae._compiled.denormals import flush_denormals, restore_denormals
from skae._compiled.intrinsics import beyond, call, integers, record
from skae._compiled.memory import (
    NO_ORDER,
    address_at,
    block_of,
    input_of,
    layer_of,
    units_offset,
)
from skae._compiled.records import INTERRUPT, MODEL, ROWS, TEAM
from skae._compiled.sharding import ROW_MULTIPLE
from skae._compiled.vectors import LINE_BYTES


@as_kernel(MODEL, ROWS, np.ndarray, np.ndarray, np.ndarray, TEAM, int)
def propagate(model, rows, scaling, out, sums, team, rank):
    """Compute out (n_rows, n_outputs) = the network's output * scale + mean.

    `scaling` (2 * n_outputs,) is the means and the scales. Blocks have whole vectors of
    rows, so that a row's result does not depend on other rows. The sum of the rank's
    inputs is added to the first float64 of its row of `sums`.
    """
    model, rows, team = record(model, MODEL), record(rows, ROWS), record(team, TEAM)
    control, total = integers(team.control), beyond(sums, LINE_BYTES * rank)
    block, last = block_of(team, rank), layer_of(model.network, model.network.n_layers)
    block.rank, block.slot, block.order = rank, rank, NO_ORDER
    block.n_ahead = 0
    block.n_layers = model.network.n_layers
    first, step = rank * team.block_rows, team.n_threads * team.block_rows
    before = flush_denormals()
    for start in range(first, rows.n_rows, step):
        if atomic_load(control, INTERRUPT) != 0:
            break
        block.start, block.stop = start, min(start + team.block_rows, rows.n_rows)
        n_whole = -(-(block.stop - start) // ROW_MULTIPLE) * ROW_MULTIPLE
        block.n_rows = min(team.block_rows, n_whole)
        call(team, "forward", (model, rows, block, team))
        x = input_of(rows, block, team)
        call(team.ops, "add_sum", (x, total, rows.n_features, block.n_rows))
        z = address_at(team, team.units, units_offset(last, block, team))
        to = scaling, address_at(team, out, start * last.width)
        sizes = block.stop - start, last.width, block.n_rows
        call(team.ops, "scatter", (z, *to, *sizes))
    restore_denormals(before)
