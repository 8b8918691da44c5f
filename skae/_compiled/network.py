"""Forward pass, losses and backward pass of a block of rows."""

import numpy as np

from skae._compiled.compilation import as_kernel, inlined, inner
from skae._compiled.intrinsics import addresses, beyond, call, call_at, integers, record
from skae._compiled.memory import (
    BYTES,
    NO,
    NO_ORDER,
    NOWHERE,
    YES,
    address_at,
    input_of,
    kept_of,
    layer_of,
    packed_of,
    picked_of,
    row_weights_of,
    seen_input_of,
    target_of,
    term_settings_of,
    totals_of,
    units_offset,
)
from skae._compiled.products import PART_COLUMNS
from skae._compiled.records import BLOCK, HELD, MODEL, NOTHING, ROWS, TEAM

_HELD_BYTES = HELD.itemsize
# Entries whose losses are computed at a time: in float32, 24 KiB with both operands.
_LOSS_ENTRIES = 2048


@inlined
def _has_zeros(number, team):
    """Whether a layer's input is rows with many zeros."""
    return number == 1 and team.ops.sparse_dense_product != 0


@inlined
def _gather(rows, block, team):
    """Write scaled rows to the input block unless it holds them; missing rows are 0."""
    held = record(beyond(team.held, block.slot * _HELD_BYTES), HELD)
    is_held = block.order == NO_ORDER and held.values == rows.values
    is_held = is_held and held.columns == rows.columns and held.starts == rows.starts
    is_held = is_held and held.subset == rows.subset and held.weights == rows.weights
    if is_held and held.start == block.start and held.stop == block.stop:
        return
    held.values = rows.values if block.order == NO_ORDER else NOTHING
    held.columns, held.starts = rows.columns, rows.starts
    held.subset, held.weights = rows.subset, rows.weights
    held.start, held.stop = block.start, block.stop
    picked = picked_of(block, team)
    span = block.start, block.stop, block.n_rows
    chosen = block.order, rows.subset, rows.weights
    call(team.ops, "pick", (*chosen, *span, picked, row_weights_of(rows, block, team)))
    _gather_values(rows.values, input_of(rows, block, team), rows, block, team)
    if rows.targets != 0 and team.targets != 0:  # else there is no loss
        _gather_values(rows.targets, target_of(rows, block, team), rows, block, team)
    _number(rows, block.n_rows, integers(picked))


@inner
def _gather_values(values, to, rows, block, team):
    """Write the picked rows of a matrix like that of `rows` to a block."""
    sizes = block.n_rows, rows.n_features
    arrays = picked_of(block, team), rows.scaling, to, *sizes
    if rows.starts == 0:
        call(team.ops, "gather", (values, *arrays))
    else:
        call(team.ops, "gather_csr", (values, rows.columns, rows.starts, *arrays))


@inlined
def _number(rows, n, picked):
    """Turn positions in the matrix into row numbers for random draws; -1 into any."""
    if rows.numbers != 0:
        numbers = integers(rows.numbers)
        for i in range(n):
            picked[i] = numbers[max(NO, picked[i])]
    elif rows.first_number > 0:
        for i in range(n):
            picked[i] += rows.first_number


# Parts of the next rows that are prefetched per layer: two in the forward pass, three
# in the backward pass.
_PARTS_AHEAD = 5


@inner
def _prefetch_part(rows, block, part, n_layers, ops):
    """Prefetch a part of the next rows: processors drop most of a burst of requests."""
    if block.n_ahead == 0:
        return
    n_parts = _PARTS_AHEAD * n_layers
    start = block.ahead + part * block.n_ahead // n_parts
    stop = block.ahead + (part + 1) * block.n_ahead // n_parts
    arrays = block.order, rows.subset, rows.values
    call(ops, "prefetch", (*arrays, start, stop, rows.n_features))


@inlined
def _strides(layer):
    """Steps between a layer's weights: to the next output, to the next input."""
    if layer.transposed:
        return layer.n_in, YES
    return YES, layer.width


# Products with fewer columns than a vector register use `products.short_product`.
_SHORT_BELOW = 16


@inner
def _add_outer_products(sides, has_zeros, block, gradient, is_added, team):
    """Compute a gradient: a (m, n_rows) @ b.T (n_rows, n), plus itself if `is_added`.

    `sides` are a, which may have many zeros, b, m and n.
    """
    a, b, m, n = sides
    sizes = m, n, block.n_rows, np.int64(is_added)
    if n < _SHORT_BELOW:
        call(team.ops, "short_product", (a, b, gradient, *sizes))
        return
    packed = packed_of(block, team)
    call(team.ops, "pack", (b, packed, n, block.n_rows))
    if has_zeros:
        call(team.ops, "sparse_dense_product", (a, packed, gradient, *sizes))
        return
    of_a, start = (a, block.n_rows, YES), (team.zero, NO)
    call(team.ops, "product", (*of_a, packed, YES, gradient, *start, *sizes))


@inlined
def _corrupt(network, rows, block, team):
    """Write the corrupted input block, if there is noise."""
    if team.ops.corrupt == 0:
        return
    picked, corrupted = picked_of(block, team), seen_input_of(rows, block, team)
    drawn = team.seed, block.epoch, corrupted
    clean = input_of(rows, block, team)
    of_rows = rows.scaling, picked, team.corruption
    sizes = block.n_rows, rows.n_features
    call(team.ops, "corrupt", (clean, *of_rows, *drawn, *sizes))
    if network.n_groups > 0 and team.ops.corrupt_groups != 0:
        of_groups = picked, team.corruption, network.groups
        sizes = network.n_groups, block.n_rows
        call(team.ops, "corrupt_groups", (clean, *of_groups, *drawn, *sizes))


@inlined
def _add_code_term(units, rows, block, team):
    """Add a block's code term, which may change the units of the code's layer."""
    totals, kept = totals_of(block, team), kept_of(block, team)
    arrays = units, kept, row_weights_of(rows, block, team), picked_of(block, team)
    drawn = term_settings_of(team, block.rank), team.seed, block.epoch
    sums, sizes = (totals, beyond(totals, BYTES)), (team.n_code, block.n_rows)
    call(team.ops, "code_term", (*arrays, *drawn, *sums, *sizes))


@as_kernel(MODEL, ROWS, BLOCK, TEAM)
def forward(model, rows, block, team):
    """Pass a block of rows through `block.n_layers` layers; fill `units`, `slopes`."""
    model, rows = record(model, MODEL), record(rows, ROWS)
    block, team = record(block, BLOCK), record(team, TEAM)
    network, ops = model.network, team.ops
    _gather(rows, block, team)
    _corrupt(network, rows, block, team)
    a = seen_input_of(rows, block, team)
    for number in range(1, block.n_layers + 1):
        part = 2 * number - 2
        _prefetch_part(rows, block, part, network.n_layers, ops)
        layer = layer_of(network, number)
        z_at = units_offset(layer, block, team)
        z = address_at(team, team.units, z_at)
        w = address_at(team, model.params, layer.weights_at)
        biases = address_at(team, model.params, layer.biases_at)
        sizes = layer.width, block.n_rows, layer.n_in
        if _has_zeros(number, team):
            call(ops, "dense_sparse_product", (w, a, biases, z, *sizes))
        else:
            operands = w, *_strides(layer), a, NO, z, biases, YES
            call(ops, "product", (*operands, *sizes, NO))
        _prefetch_part(rows, block, part + 1, network.n_layers, ops)
        activation = addresses(ops.activations)[number]
        if activation != 0:
            slope = address_at(team, team.slopes, z_at)
            is_last = number == network.n_layers
            n_active = network.n_plain if is_last else layer.width
            call_at(activation, "activation", (z, slope, n_active * block.n_rows))
        if ops.code_term != 0 and number == network.n_layers // 2 < block.n_layers:
            _add_code_term(z, rows, block, team)
        a = z


@inlined
def evaluate(model, rows, block, team):
    """Add up a block's losses, and replace its output by their derivative."""
    last = layer_of(model.network, model.network.n_layers)
    prediction = address_at(team, team.units, units_offset(last, block, team))
    weights, total = row_weights_of(rows, block, team), totals_of(block, team)
    values = packed_of(block, team)
    # `packed` has room for at least PART_COLUMNS units.
    n_at_once = max(1, min(PART_COLUMNS, _LOSS_ENTRIES // block.n_rows))
    given = prediction, target_of(rows, block, team), weights, model.unit_weights
    has_missing = np.int64(rows.targets != 0)
    sizes = model.network.n_plain, block.n_rows, n_at_once
    call(team.ops, "loss", (*given, values, total, has_missing, *sizes))
    if model.network.n_groups > 0:
        arrays = *given, model.network.groups, total, values
        n_groups = model.network.n_groups
        call(team.ops, "group_losses", (*arrays, has_missing, n_groups, block.n_rows))


@inlined
def backward(model, rows, block, to, team):
    """Compute a block's gradient, from the derivative by the output in `units`.

    `to` is the gradient's address, and whether it is replaced instead of added to.
    """
    gradients, is_first = to
    network, ops = model.network, team.ops
    part = 2 * network.n_layers
    for number in range(network.n_layers, 0, -1):
        layer, below = layer_of(network, number), layer_of(network, number - 1)
        n_in, n_out = layer.n_in, layer.width
        a = seen_input_of(rows, block, team)
        if number > 1:
            a = address_at(team, team.units, units_offset(below, block, team))
        delta_at = units_offset(layer, block, team)
        delta = address_at(team, team.units, delta_at)
        is_linear = addresses(ops.activations)[number] == 0
        slope = NOWHERE if is_linear else address_at(team, team.slopes, delta_at)
        biases = address_at(team, gradients, layer.biases_at)
        sizes = n_out, block.n_rows, np.int64(is_first)
        call(ops, "backward_units", (delta, slope, biases, *sizes))
        _prefetch_part(rows, block, part, network.n_layers, ops)
        # Tied weights already have the decoder's part of their gradient.
        is_tied = network.tied != 0 and number <= network.n_layers // 2
        gradient = address_at(team, gradients, layer.weights_at)
        if layer.transposed:
            sides = delta, a, n_out, n_in
        else:
            sides = a, delta, n_in, n_out
        _prefetch_part(rows, block, part + 1, network.n_layers, ops)
        is_added = is_tied or not is_first
        has_zeros = _has_zeros(number, team)
        _add_outer_products(sides, has_zeros, block, gradient, is_added, team)
        _prefetch_part(rows, block, part + 2, network.n_layers, ops)
        part += 3
        if number > 1:
            row, step = _strides(layer)
            w = address_at(team, model.params, layer.weights_at), step, row
            start, shape = (team.zero, NO), (n_in, block.n_rows, n_out, NO)
            # The activations are no longer needed.
            call(ops, "product", (*w, delta, NO, a, *start, *shape))
        if ops.code_term != 0 and number - 1 == network.n_layers // 2:
            code = a, kept_of(block, team), team.n_code, block.n_rows
            call(ops, "code_term_backward", code)
