"""The kernels: what Python calls to train a network and to send rows through it.

How the code is laid out
------------------------
* A network is one flat parameter vector (all weights, then all biases) and a
  ``Network`` of offsets. One compilation serves every architecture and both dtypes,
  and solvers, snapshots and gradient checks are loops over one vector.
* Rows pass through the network in blocks of shape (n_units, n_rows), see ``passes``.
  The decoder's weights are stored transposed, tied or not, so that the wider layer's
  units are the rows of both matrices of a mirrored pair: of the blocks on both sides
  of a layer, the gradient then takes a transposed copy of the narrower.
* Kernels hold the control flow. Arithmetic is done by passes, which they call by
  address, on memory that they are given, in records (see ``records``).
* The functions that are decorated with ``as_kernel`` are C functions: the entry points
  that Python calls, and two that kernels call by address, as passes. They take the
  addresses of records. Those that end in ``team, rank`` are run by every thread of a
  team at once, each with its own `rank`. Work is cut into pieces that do not depend on
  the number of threads (`n_lanes`), and pieces are summed in a fixed order: any number
  of threads gives the same bits.
"""

import math

import numpy as np
from numba import types

from skae._compiled.barrier import all_went_on, atomic_load, barrier
from skae._compiled.blocks import lane_start, lanes_of
from skae._compiled.code_passes import BATCH_TERM, BATCH_WEIGHT
from skae._compiled.compilation import (
    address_of,
    as_kernel,
    call,
    doubles,
    inlined,
    inner,
    integers,
    record,
)
from skae._compiled.passes import (
    ALPHA,
    BETA_1,
    BETA_2,
    CORRECTION_1,
    CORRECTION_2,
    FACTOR,
    N_SETTINGS,
    RATE,
)
from skae._compiled.products import PART_COLUMNS
from skae._compiled.records import (
    ABANDONED,
    BEST_EPOCH,
    BEST_KEPT,
    BEST_LOSS,
    BLOCK,
    CYCLE_START,
    EPOCH_ROWS,
    FIRST_EPOCH,
    HELD,
    INTERRUPT,
    LAYER,
    LOSS_SUM,
    MODEL,
    N_BEFORE,
    N_EPOCHS,
    N_LANE_LOSSES,
    N_NO_CHANGE,
    N_UPDATES,
    NO_EPOCH,
    NOTHING,
    PART,
    RATE_FACTOR,
    ROWS,
    SEED,
    SOLVER,
    STATE,
    STATUS,
    TEAM,
    TERM_SUM,
)
from skae._compiled.schedules import (
    ADAPTIVE,
    ADAPTIVE_DIVISOR,
    SMALLEST_ADAPTIVE_RATE,
    bias_correction,
    learning_rate,
)
from skae._compiled.vectors import LINE_BYTES

# What a run of epochs ended with.
RUNNING, CONVERGED, DIVERGED, INTERRUPTED = range(4)

# Entries whose losses are held at a time: with prediction and target 24 KiB of float32.
_LOSS_ENTRIES = 2048
# Parameters that are updated at a time: the sum of the lanes stays in the L1 cache.
_UPDATE_ENTRIES = 2048
_BYTES = 8  # of an int64 or float64
_LAYER_BYTES, _BLOCK_BYTES, _HELD_BYTES = LAYER.itemsize, BLOCK.itemsize, HELD.itemsize
# Flags and numbers that C functions are called with.
_NO, _YES = np.int64(0), np.int64(1)
# What `lanes` is to find of its rows: losses, gradients too, or sums of the code alone.
MEASURE, LEARN, ENCODE = np.int64(0), np.int64(1), np.int64(2)
_NOWHERE = _NO_ORDER = np.int64(0)
# The order of the rows of an epoch's second part is that of so many epochs later.
EPOCHS_APART = np.int64(2**32)


# ---------------------------------------------------------------------------
# Rows in, layers through
# ---------------------------------------------------------------------------


@inlined
def _at(team, memory, index):
    """Address of an entry of an array of the dtype."""
    return memory + team.itemsize * index


@inlined
def _layer(network, number):
    return record(network.layers + number * _LAYER_BYTES, LAYER)


@inlined
def _block_of(team, rank):
    return record(team.blocks + rank * _BLOCK_BYTES, BLOCK)


@inlined
def _input(rows, block, team):
    """Address of the input block."""
    return _at(team, team.inputs, block.slot * team.block_rows * rows.n_features)


@inlined
def _seen_input(rows, block, team):
    """Address of the input block as the first layer sees it: corrupted, if at all."""
    if team.passes.corrupt == 0:
        return _input(rows, block, team)
    n_even = rows.n_features + rows.n_features % 2
    return _at(team, team.corrupted, block.rank * team.block_rows * n_even)


@inlined
def _picked(block, team):
    """Address of the numbers of a block's rows."""
    return team.picked + _BYTES * block.slot * team.block_rows


@inlined
def _row_weights(rows, block, team):
    """Address of the sample weights of a block's rows; null: ones."""
    at = _at(team, team.row_weights, block.slot * team.block_rows)
    return at if rows.weights != 0 else _NOWHERE


@inlined
def _totals(block, team):
    """Address of the sums of a block's lane: its losses, and its code terms."""
    return team.lane_losses + N_LANE_LOSSES * _BYTES * block.lane


@inlined
def _term_settings_at(team, rank):
    """Address of what a code's term needs."""
    return team.term_settings + _BYTES * team.n_term_settings * rank


@inlined
def _units_at(layer, block, team):
    """Where a layer's block begins in `units` and `slopes`."""
    of_rank = block.rank * team.block_rows * team.n_units
    return of_rank + layer.units_at * block.n_rows


@inlined
def _packed(block, team):
    """Address of the rank's memory for transposed copies."""
    return _at(team, team.packed, block.rank * team.n_packed)


@inlined
def _has_zeros(number, team):
    """Whether a layer's products are those of rows that have many zeros."""
    return number == 1 and team.passes.sparse_dense_product != 0


@inlined
def _gather(rows, block, team):
    """Write rows, as the network sees them, to the input block, unless it holds them.

    Where the block has more rows, it is filled up with zeros.
    """
    held = record(team.held + block.slot * _HELD_BYTES, HELD)
    is_held = block.order == _NO_ORDER and held.values == rows.values
    is_held = is_held and held.columns == rows.columns and held.starts == rows.starts
    is_held = is_held and held.subset == rows.subset and held.weights == rows.weights
    if is_held and held.start == block.start and held.stop == block.stop:
        return
    held.values = rows.values if block.order == _NO_ORDER else NOTHING
    held.columns, held.starts = rows.columns, rows.starts
    held.subset, held.weights = rows.subset, rows.weights
    held.start, held.stop = block.start, block.stop
    picked = _picked(block, team)
    span = block.start, block.stop, block.n_rows
    chosen = block.order, rows.subset, rows.weights
    call(team.passes.pick, (*chosen, *span, picked, _row_weights(rows, block, team)))
    sizes = block.n_rows, rows.n_features
    to = picked, rows.scaling, _input(rows, block, team), *sizes
    if rows.starts == 0:
        call(team.passes.gather, (rows.values, *to))
    else:
        call(team.passes.gather_csr, (rows.values, rows.columns, rows.starts, *to))
    _number(rows, block.n_rows, integers(picked))


@inlined
def _number(rows, n, picked):
    """Turn positions in the matrix into numbers, for what is drawn; of -1 something."""
    if rows.numbers != 0:
        numbers = integers(rows.numbers)
        for i in range(n):
            picked[i] = numbers[max(_NO, picked[i])]
    elif rows.first_number > 0:
        for i in range(n):
            picked[i] += rows.first_number


# How often rows are asked for between the passes of a layer: twice in the forward
# pass, three times in the backward pass.
_PARTS_AHEAD = 5


@inner
def _prefetch_part(rows, block, part, n_layers, passes):
    """Ask for some of the rows: of a burst of requests, a processor drops most."""
    if block.n_ahead == 0:
        return
    n_parts = _PARTS_AHEAD * n_layers
    start = block.ahead + part * block.n_ahead // n_parts
    stop = block.ahead + (part + 1) * block.n_ahead // n_parts
    arrays = block.order, rows.subset, rows.values
    call(passes.prefetch, (*arrays, start, stop, rows.n_features))


@inlined
def _strides(layer):
    """Steps from a layer's weight to that of the next output, and the next input."""
    if layer.transposed:
        return layer.n_in, _YES
    return _YES, layer.width


# Columns of a product below which it is summed along the rows of its operands, see
# `products.short_product`: those of a vector register.
_SHORT_BELOW = 16


@inner
def _add_outer_products(sides, has_zeros, block, gradient, is_added, team):
    """Gradient (m, n) of weights: the sum over the rows of a (m,) times b (n,).

    `sides` are the blocks a, which may have many zeros, and b, m and n.
    """
    a, b, m, n = sides
    sizes = m, n, block.n_rows, np.int64(is_added)
    if n < _SHORT_BELOW:
        call(team.passes.short_product, (a, b, gradient, *sizes))
        return
    packed = _packed(block, team)
    call(team.passes.pack, (b, packed, n, block.n_rows))
    if has_zeros:
        call(team.passes.sparse_dense_product, (a, packed, gradient, *sizes))
        return
    of_a, start = (a, block.n_rows, _YES), (team.zero, _NO)
    call(team.passes.product, (*of_a, packed, _YES, gradient, *start, *sizes))


@inlined
def _corrupt(rows, block, team):
    """Write the input block, corrupted, to where the first layer sees it."""
    if team.passes.corrupt == 0:
        return
    of_rows = rows.scaling, _picked(block, team)
    drawn = team.corruption, team.seed, block.epoch, _seen_input(rows, block, team)
    sizes = block.n_rows, rows.n_features
    clean = _input(rows, block, team)
    call(team.passes.corrupt, (clean, *of_rows, *drawn, *sizes))


@inlined
def _kept(block, team):
    """Address of the derivatives of the code's term of a block."""
    return _at(team, team.kept, block.rank * team.block_rows * team.n_code)


@inlined
def _add_code_term(units, rows, block, team):
    """Add the code's term of a block, whose units of the code's layer it may change."""
    totals, kept = _totals(block, team), _kept(block, team)
    arrays = units, kept, _row_weights(rows, block, team), _picked(block, team)
    drawn = _term_settings_at(team, block.rank), team.seed, block.epoch
    sizes = team.n_code, block.n_rows
    call(team.passes.code_term, (*arrays, *drawn, totals, totals + _BYTES, *sizes))


@as_kernel("nnnn")
def forward(model, rows, block, team):
    """Send a block of rows through the network, or the first layers of it.

    Fills its part of `units` up to the output, and of `slopes` beside.
    """
    model, rows = record(model, MODEL), record(rows, ROWS)
    block, team = record(block, BLOCK), record(team, TEAM)
    network, passes = model.network, team.passes
    _gather(rows, block, team)
    _corrupt(rows, block, team)
    a = _seen_input(rows, block, team)
    for number in range(1, block.n_layers + 1):
        part = 2 * number - 2
        _prefetch_part(rows, block, part, network.n_layers, passes)
        layer = _layer(network, number)
        z_at = _units_at(layer, block, team)
        z = _at(team, team.units, z_at)
        w = _at(team, model.params, layer.weights_at)
        biases = _at(team, model.params, layer.biases_at)
        sizes = layer.width, block.n_rows, layer.n_in
        if _has_zeros(number, team):
            call(passes.dense_sparse_product, (w, a, biases, z, *sizes))
        else:
            operands = w, *_strides(layer), a, _NO, z, biases, _YES
            call(passes.product, (*operands, *sizes, _NO))
        _prefetch_part(rows, block, part + 1, network.n_layers, passes)
        activation = integers(passes.activations)[number]
        if activation != 0:
            slope = _at(team, team.slopes, z_at)
            call(activation, (z, slope, layer.width * block.n_rows))
        if passes.code_term != 0 and number == network.n_layers // 2 < block.n_layers:
            _add_code_term(z, rows, block, team)
        a = z


@inlined
def _evaluate(model, rows, block, team):
    """Add up the losses of a block, whose output becomes their derivative."""
    last = _layer(model.network, model.network.n_layers)
    prediction = _at(team, team.units, _units_at(last, block, team))
    weights, total = _row_weights(rows, block, team), _totals(block, team)
    values = _packed(block, team)
    # As many units as `packed` has room for at least.
    n_at_once = max(1, min(PART_COLUMNS, _LOSS_ENTRIES // block.n_rows))
    arrays = prediction, _input(rows, block, team), weights, values, total
    call(team.passes.loss, (*arrays, rows.n_features, block.n_rows, n_at_once))


@inlined
def _backward(model, rows, block, to, team):
    """Add a block's gradient, from the derivative by the output in `units`.

    `to` says where in `gradients` it is added, and whether it is put there instead.
    """
    gradients, is_first = to
    network, passes = model.network, team.passes
    part = 2 * network.n_layers
    for number in range(network.n_layers, 0, -1):
        layer, below = _layer(network, number), _layer(network, number - 1)
        n_in, n_out = layer.n_in, layer.width
        a = _seen_input(rows, block, team)
        if number > 1:
            a = _at(team, team.units, _units_at(below, block, team))
        delta_at = _units_at(layer, block, team)
        delta = _at(team, team.units, delta_at)
        is_linear = integers(passes.activations)[number] == 0
        slope = _NOWHERE if is_linear else _at(team, team.slopes, delta_at)
        biases = _at(team, gradients, layer.biases_at)
        sizes = n_out, block.n_rows, np.int64(is_first)
        call(passes.backward_units, (delta, slope, biases, *sizes))
        _prefetch_part(rows, block, part, network.n_layers, passes)
        # Tied weights already have their gradient as the decoder's.
        is_tied = network.tied != 0 and number <= network.n_layers // 2
        gradient = _at(team, gradients, layer.weights_at)
        if layer.transposed:
            sides = delta, a, n_out, n_in
        else:
            sides = a, delta, n_in, n_out
        _prefetch_part(rows, block, part + 1, network.n_layers, passes)
        is_added = is_tied or not is_first
        has_zeros = _has_zeros(number, team)
        _add_outer_products(sides, has_zeros, block, gradient, is_added, team)
        _prefetch_part(rows, block, part + 2, network.n_layers, passes)
        part += 3
        if number > 1:
            row, step = _strides(layer)
            w = _at(team, model.params, layer.weights_at), step, row
            start, shape = (team.zero, _NO), (n_in, block.n_rows, n_out, _NO)
            # The activations have served.
            call(passes.product, (*w, delta, _NO, a, *start, *shape))
        if passes.code_term != 0 and number - 1 == network.n_layers // 2:
            code = a, _kept(block, team), team.n_code, block.n_rows
            call(passes.code_term_backward, code)


@inlined
def _begin_lane(lane, rank, team):
    """Forget a lane's sums, but that the first begins with what is the batch's own."""
    losses, at = doubles(team.lane_losses), N_LANE_LOSSES * lane
    losses[at] = losses[at + 1] = 0.0
    if lane == 0 and team.code_means != 0:
        losses[0] = doubles(_term_settings_at(team, rank))[BATCH_TERM]


@inlined
def _add_code(model, rows, block, team):
    """Add a block's code to the sum of its lane."""
    code = _layer(model.network, model.network.n_layers // 2)
    units = _at(team, team.units, _units_at(code, block, team))
    sums = team.lane_codes + _BYTES * team.lane_code_entries * block.lane
    arrays = units, _row_weights(rows, block, team), sums
    call(team.passes.add_code, (*arrays, team.n_code, block.n_rows))


@as_kernel("nnnnnnnn")
def lanes(model, rows, order, start, stop, team, rank, aim):
    """What is to be found of this rank's lanes of a batch.

    `start` and `stop` are the batch's first position in the order, and the last plus
    one.
    """
    model, rows, team = record(model, MODEL), record(rows, ROWS), record(team, TEAM)
    control, network = integers(team.control), model.network
    block = _block_of(team, rank)
    block.rank, block.order = rank, order
    block.n_layers = network.n_layers // 2 if aim == ENCODE else network.n_layers
    n_batch = stop - start
    n_lanes = lanes_of(n_batch, team.block_rows)
    n_blocks = 0
    for lane in range(rank, n_lanes, team.n_threads):
        first = start + lane_start(lane, n_lanes, n_batch)
        end = start + lane_start(lane + 1, n_lanes, n_batch)
        block.lane = lane
        if aim != ENCODE:
            _begin_lane(lane, rank, team)
        for begin in range(first, end, team.block_rows):
            is_long = end - first > team.block_rows
            if is_long and atomic_load(control, INTERRUPT) != 0:
                control[ABANDONED] = 1
                break
            block.start, block.stop = begin, min(end, begin + team.block_rows)
            block.n_rows = block.stop - begin
            block.slot = rank * team.n_slots + n_blocks % team.n_slots
            n_blocks += 1
            # The same place in the next batch.
            is_random = order != _NO_ORDER and rows.starts == 0
            left = rows.n_rows - (begin + n_batch) if is_random else 0
            block.ahead = begin + n_batch
            block.n_ahead = max(0, min(block.n_rows, left))
            of_block = address_of(model), address_of(rows), address_of(block)
            call(team.forward, (*of_block, address_of(team)))
            if aim == ENCODE:
                _add_code(model, rows, block, team)
                continue
            _evaluate(model, rows, block, team)
            if aim == LEARN:
                at = lane * team.lane_gradient_entries
                gradients = _at(team, team.lane_gradients, at)
                _backward(model, rows, block, (gradients, begin == first), team)


@inlined
def _batch_weight(rows, n_batch):
    """What so many rows count for: so many times the mean weight.

    Against this, not the batch's own weight, the gradient is unbiased.
    """
    return rows.total_weight / rows.n_rows * n_batch


@as_kernel("nnnnnnn")
def code_means(model, rows, order, start, stop, team, rank):
    """What depends on the mean code of a batch, in the rank's settings of its term."""
    arguments = model, rows, order, start, stop, team, rank
    rows, team = record(rows, ROWS), record(team, TEAM)
    n_lanes = lanes_of(stop - start, team.block_rows)
    n_sums = team.lane_code_entries
    for lane in range(rank, n_lanes, team.n_threads):
        for j in range(lane * n_sums, (lane + 1) * n_sums):
            doubles(team.lane_codes)[j] = 0.0
    call(team.lanes, (*arguments, ENCODE))
    barrier(team)
    settings = _term_settings_at(team, rank)
    doubles(settings)[BATCH_WEIGHT] = _batch_weight(rows, stop - start)
    sums = team.lane_codes, settings, n_lanes, team.n_code
    call(team.passes.divergence_of_means, sums)


@inlined
def _run_lanes(model, rows, order, batch, team, rank, aim):
    """`lanes` of a batch: first position in the order, and the last plus one."""
    of_batch = address_of(model), address_of(rows), order, *batch
    if team.code_means != 0:
        call(team.code_means, (*of_batch, address_of(team), rank))
    call(team.lanes, (*of_batch, address_of(team), rank, aim))


@inlined
def _sum_lanes(team, n_rows, which):
    """Of a batch of so many rows: the losses (0), or the code's term (1)."""
    losses, total = doubles(team.lane_losses), 0.0
    for lane in range(lanes_of(n_rows, team.block_rows)):
        total += losses[N_LANE_LOSSES * lane + which]
    return total


@inlined
def _share(team, rank, n):
    """The slice of n independent entries that this rank works on."""
    return rank * n // team.n_threads, (rank + 1) * n // team.n_threads


@inlined
def _settings_at(team, rank):
    """Address of what a solver's pass needs."""
    return team.settings + _BYTES * N_SETTINGS * rank


@inlined
def _sum_gradients(n_lanes, team, start, n):
    """Add the lanes' gradients to the first's, of some parameters; its address."""
    gradient = _at(team, team.lane_gradients, start)
    for lane in range(1, n_lanes):
        at = lane * team.lane_gradient_entries + start
        other = _at(team, team.lane_gradients, at)
        call(team.passes.add, (gradient, other, n))
    return gradient


@inner
def _step(model, moments, n_lanes, team, rank, part):
    """Sum the lanes' gradients, and let the solver make its step, over a part.

    `part` are the first parameter, the last plus one, and their penalty's alpha.
    """
    first, stop, alpha = part
    settings = _settings_at(team, rank)
    doubles(settings)[ALPHA] = alpha
    for start in range(first, stop, _UPDATE_ENTRIES):
        n = min(_UPDATE_ENTRIES, stop - start)
        gradient = _sum_gradients(n_lanes, team, start, n)
        params = _at(team, model.params, start)
        moment_1, moment_2 = _at(team, moments[0], start), _at(team, moments[1], start)
        arrays = params, gradient, moment_1, moment_2
        call(team.passes.solver, (*arrays, settings, n))


@inlined
def _update(model, moments, weight, n_lanes, team, rank):
    """The solver's step over this rank's share, for a batch and its weight."""
    n_weights = model.network.n_weights
    lo, hi = _share(team, rank, team.n_params)
    doubles(_settings_at(team, rank))[FACTOR] = 1.0 / weight
    weights = lo, min(hi, n_weights), model.alpha
    biases = max(lo, n_weights), hi, 0.0
    _step(model, moments, n_lanes, team, rank, weights)
    _step(model, moments, n_lanes, team, rank, biases)


@inner
def _penalty(model, team):
    """The L2 penalty, alpha / 2 * sum of squared weights."""
    if model.alpha == 0:
        return 0.0
    squares = doubles(team.penalty)
    squares[0] = 0.0
    arrays = model.params, team.penalty
    call(team.passes.add_squares, (*arrays, model.network.n_weights))
    return 0.5 * model.alpha * squares[0]


@inlined
def _summed_loss(model, rows, team, rank):
    """The data loss, summed over rows, on rank 0; and whether all gave up."""
    _block_of(team, rank).epoch = NO_EPOCH
    total = 0.0
    for start in range(0, rows.n_rows, team.piece_rows):
        batch = start, min(start + team.piece_rows, rows.n_rows)
        _run_lanes(model, rows, _NO_ORDER, batch, team, rank, MEASURE)
        if not all_went_on(team):
            return np.nan, True
        if rank == 0:
            total += _sum_lanes(team, batch[1] - start, 0)
        # Nobody overwrites the lanes' losses while another still reads.
        if not barrier(team):
            return np.nan, True
    return total, False


@as_kernel("nnnn", returns=types.float64)
def summed_loss(model, rows, team, rank):
    """`_summed_loss`, on rank 0."""
    model, rows, team = record(model, MODEL), record(rows, ROWS), record(team, TEAM)
    total, _ = _summed_loss(model, rows, team, rank)
    return total


@as_kernel("nnnnnnnn", returns=types.float64)
def summed_gradient(model, rows, order, start, stop, epoch, team, rank):
    """The data loss of a batch, summed over its rows, on rank 0.

    Its gradient is left in the first of `gradients`. The batch are the positions
    `start` to `stop` - 1 of an order (0: the rows' own) in an epoch, or NO_EPOCH.
    """
    model, rows, team = record(model, MODEL), record(rows, ROWS), record(team, TEAM)
    _block_of(team, rank).epoch = epoch
    _run_lanes(model, rows, order, (start, stop), team, rank, LEARN)
    if not all_went_on(team):
        return np.nan
    total = _sum_lanes(team, stop - start, 0)
    n_lanes = lanes_of(stop - start, team.block_rows)
    lo, hi = _share(team, rank, team.n_params)
    for first in range(lo, hi, _UPDATE_ENTRIES):
        _sum_gradients(n_lanes, team, first, min(_UPDATE_ENTRIES, hi - first))
    barrier(team)
    return total


# ---------------------------------------------------------------------------
# Epochs
# ---------------------------------------------------------------------------


@inlined
def _set_rates(solver, state, n_updates, start, team, rank):
    """Tell the rank's solver its rates, for the batch that begins at a position."""
    counters, settings = integers(state.counters), doubles(_settings_at(team, rank))
    n_epochs = counters[N_EPOCHS] - counters[CYCLE_START]
    epoch = n_epochs + (counters[N_BEFORE] + start) / counters[EPOCH_ROWS]
    factor = doubles(state.scalars)[RATE_FACTOR]
    settings[RATE] = learning_rate(solver, n_updates, epoch, factor)
    settings[CORRECTION_1] = bias_correction(settings[BETA_1], n_updates + 1)
    settings[CORRECTION_2] = bias_correction(settings[BETA_2], n_updates + 1)


@inlined
def _batch_step(model, rows, solver, state, batch, team, rank):
    """One update, whose loss rank 0 adds to LOSS_SUM; returns whether all gave up.

    What another rank has abandoned may only be read between the barrier behind the
    lanes and the next: later, it may be the next batch. STATUS is read behind the last
    barrier: by then rank 0 may have gone on to `_finish_epoch` and written it once
    more, without a barrier between. It never is INTERRUPTED there, so that the
    comparison has the same outcome on all ranks.
    """
    start, stop = batch
    counters, control = integers(state.counters), integers(team.control)
    # Before a barrier: rank 0 counts the update while others may still be at it.
    penalty, n_updates = doubles(team.penalty), counters[N_UPDATES]
    if rank == 0:
        penalty[1] = _penalty(model, team)
    _run_lanes(model, rows, team.order, batch, team, rank, LEARN)
    if not all_went_on(team):
        return True
    weight = _batch_weight(rows, stop - start)
    _set_rates(solver, state, n_updates, start, team, rank)
    moments = state.moment_1, state.moment_2
    n_lanes = lanes_of(stop - start, team.block_rows)
    _update(model, moments, weight, n_lanes, team, rank)
    if rank == 0:
        scalars = doubles(state.scalars)
        loss = _sum_lanes(team, stop - start, 0) + penalty[1] * weight
        scalars[LOSS_SUM] += loss
        scalars[TERM_SUM] += _sum_lanes(team, stop - start, 1)
        counters[N_UPDATES] = n_updates + 1
        interrupt = atomic_load(control, INTERRUPT)
        control[STATUS] = INTERRUPTED if interrupt else RUNNING
    given_up = not barrier(team)
    return given_up or control[STATUS] == INTERRUPTED


@as_kernel("nnnfnn", returns=types.float64)
def step(model, solver, state, weight, team, rank):
    """The solver's step, for a gradient in the first of `gradients` and its weight.

    Returns the penalty before it, on rank 0.
    """
    model, team = record(model, MODEL), record(team, TEAM)
    solver, state = record(solver, SOLVER), record(state, STATE)
    penalty = _penalty(model, team) if rank == 0 else 0.0
    barrier(team)
    n_updates = integers(state.counters)[N_UPDATES]
    _set_rates(solver, state, n_updates, 0, team, rank)
    _update(model, (state.moment_1, state.moment_2), weight, 1, team, rank)
    barrier(team)
    return penalty


@inlined
def _keep_best(state, loss, team):
    scalars = doubles(state.scalars)
    if loss < scalars[BEST_KEPT]:
        scalars[BEST_KEPT] = loss
        counters = integers(state.counters)
        counters[BEST_EPOCH] = counters[N_EPOCHS]
        call(team.passes.copy, (state.best_params, state.params, team.n_params))


@inner
def _plateau(solver, state, loss):
    """MLPRegressor's stopping rule: True after too many epochs without progress."""
    counters, scalars = integers(state.counters), doubles(state.scalars)
    if loss > scalars[BEST_LOSS] - solver.tol:
        counters[N_NO_CHANGE] += 1
    else:
        counters[N_NO_CHANGE] = 0
    scalars[BEST_LOSS] = min(scalars[BEST_LOSS], loss)
    if counters[N_NO_CHANGE] <= solver.n_iter_no_change:
        return False
    counters[N_NO_CHANGE] = 0
    rate = solver.learning_rate * scalars[RATE_FACTOR]
    if solver.schedule == ADAPTIVE and rate > SMALLEST_ADAPTIVE_RATE:
        scalars[RATE_FACTOR] /= ADAPTIVE_DIVISOR
        return False
    return True


@inlined
def _validation_loss(model, validation, loss, team, rank):
    """The objective that decides which weights are kept, on rank 0: of validation rows.

    Without any, `loss`. Also returns whether all gave up.
    """
    if validation.n_rows == 0:
        return loss, False
    total, given_up = _summed_loss(model, validation, team, rank)
    kept = total / validation.total_weight
    return (kept + _penalty(model, team) if rank == 0 else kept), given_up


@inlined
def _finish_epoch(solver, state, loss, kept, team, rank):
    """Record an epoch's loss, keep the best weights, decide: a status, on all ranks.

    `kept` is the loss that decides which weights are kept.
    """
    counters, control = integers(state.counters), integers(team.control)
    if rank == 0:
        epoch = counters[N_EPOCHS]
        counters[N_EPOCHS] += 1
        slot = epoch - counters[FIRST_EPOCH]
        doubles(state.loss_curve)[slot] = loss
        doubles(state.validation_curve)[slot] = kept
        status = RUNNING
        if not (math.isfinite(loss) and math.isfinite(kept)):
            status = DIVERGED
        elif counters[N_EPOCHS] >= solver.first_judged:
            _keep_best(state, kept, team)
            if _plateau(solver, state, kept if solver.watch_validation else loss):
                status = CONVERGED
        control[STATUS] = status
    barrier(team)
    # Nobody changes it before all have met again.
    return control[STATUS]


@as_kernel("nnffnn", returns=types.int64)
def finish_epoch(solver, state, loss, kept, team, rank):
    """`_finish_epoch`, of an epoch that ran in pieces."""
    solver, state = record(solver, SOLVER), record(state, STATE)
    return _finish_epoch(solver, state, loss, kept, record(team, TEAM), rank)


@inlined
def _train_part(model, rows, solver, state, team, rank):
    """Run the part of an epoch that has these rows; returns whether all gave up."""
    counters = integers(state.counters)
    _block_of(team, rank).epoch = counters[N_EPOCHS]
    if solver.shuffle:
        if rank == 0:
            epoch = counters[N_EPOCHS] + counters[PART] * EPOCHS_APART
            key = counters[SEED], epoch
            call(team.passes.shuffle, (team.order, rows.n_rows, *key))
        if not barrier(team):
            return True
    for start in range(0, rows.n_rows, solver.batch_size):
        batch = start, min(start + solver.batch_size, rows.n_rows)
        if _batch_step(model, rows, solver, state, batch, team, rank):
            return True
    return False


@as_kernel("nnnnnn", returns=types.int64)
def train_part(model, rows, solver, state, team, rank):
    """`_train_part`; returns a status."""
    model, rows, team = record(model, MODEL), record(rows, ROWS), record(team, TEAM)
    solver, state = record(solver, SOLVER), record(state, STATE)
    given_up = _train_part(model, rows, solver, state, team, rank)
    return INTERRUPTED if given_up else RUNNING


@as_kernel("nnnnnnnn", returns=types.int64)
def train(model, rows, validation, solver, state, n_epochs, team, rank):
    """Run up to `n_epochs` epochs of a stochastic solver; return a status.

    `rows` and `validation` are the training and the validation rows. An interrupt ends
    the run between two batches, with the state that they left.
    """
    model, team = record(model, MODEL), record(team, TEAM)
    rows, validation = record(rows, ROWS), record(validation, ROWS)
    solver, state = record(solver, SOLVER), record(state, STATE)
    counters, scalars = integers(state.counters), doubles(state.scalars)
    for _ in range(n_epochs):
        loss = 0.0
        if rank == 0:
            scalars[TERM_SUM] = scalars[LOSS_SUM] = 0.0
        if _train_part(model, rows, solver, state, team, rank):
            return INTERRUPTED
        if rank == 0:
            slot = counters[N_EPOCHS] - counters[FIRST_EPOCH]
            doubles(state.term_curve)[slot] = scalars[TERM_SUM] / rows.total_weight
            loss = scalars[LOSS_SUM] / rows.total_weight
        kept, given_up = _validation_loss(model, validation, loss, team, rank)
        if given_up:
            return INTERRUPTED
        status = _finish_epoch(solver, state, loss, kept, team, rank)
        if status != RUNNING:
            return status
    return RUNNING


# ---------------------------------------------------------------------------
# Inference
# ---------------------------------------------------------------------------


@as_kernel("nnnnnnn")
def propagate(model, rows, scaling, out, sums, team, rank):
    """Send rows through a network; out (n_rows, n_outputs) = a * scale + mean.

    `scaling` (n_outputs + 1,) are the mean and the scale. Blocks are always full: a
    row's result does not depend on the number of rows, nor on the others. What the rank
    has read is added to the first float64 of its row of `sums`.
    """
    model, rows, team = record(model, MODEL), record(rows, ROWS), record(team, TEAM)
    control, total = integers(team.control), sums + LINE_BYTES * rank
    block, last = _block_of(team, rank), _layer(model.network, model.network.n_layers)
    block.rank, block.slot, block.order = rank, rank, _NO_ORDER
    block.n_rows, block.n_ahead = team.block_rows, 0
    block.n_layers = model.network.n_layers
    first, step = rank * team.block_rows, team.n_threads * team.block_rows
    for start in range(first, rows.n_rows, step):
        if atomic_load(control, INTERRUPT) != 0:
            break
        block.start, block.stop = start, min(start + team.block_rows, rows.n_rows)
        at = address_of(model), address_of(rows), address_of(block)
        call(team.forward, (*at, address_of(team)))
        x = _input(rows, block, team)
        call(team.passes.add_sum, (x, total, rows.n_features, block.n_rows))
        z = _at(team, team.units, _units_at(last, block, team))
        to = scaling, _at(team, out, start * last.width)
        sizes = block.stop - start, last.width, block.n_rows
        call(team.passes.scatter, (z, *to, *sizes))
