"""The kernels: what Python calls to train a network and to send rows through it.

How the code is laid out
------------------------
* A network is one flat parameter vector (all weights, then all biases) and a
  ``Network`` of offsets. One compilation serves every architecture and both dtypes,
  and solvers, snapshots and gradient checks are loops over one vector.
* Rows pass through the network in blocks of shape (n_units, n_rows), see ``_passes``.
  The decoder's weights are stored transposed, tied or not, so that the wider layer's
  units are the rows of both matrices of a mirrored pair: of the blocks on both sides
  of a layer, the gradient then takes a transposed copy of the narrower.
* Kernels hold the control flow. Arithmetic is done by passes, which they call by
  address, on memory that they are given (``Team``).
* The functions without a leading underscore are the entry points that Python calls.
  Those that end in ``team, rank`` are run by every thread of a team at once, each
  with its own `rank`. Work is cut into pieces that do not depend on the number of
  threads (`_n_lanes`), and pieces are summed in a fixed order: any number of
  threads gives the same bits.
"""

import math
import sys
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from skae._compilation import address_of, call, inlined, inner, kernel
from skae._passes import (
    ALPHA,
    BETA_1,
    BETA_2,
    CORRECTION_1,
    CORRECTION_2,
    FACTOR,
    RATE,
    Addresses,
)
from skae._products import PART_COLUMNS

# ---------------------------------------------------------------------------
# What kernels are given. Memory that only passes look at are arrays in Python and, for
# kernels, their addresses, 0 for an empty array: see `raw`.
# ---------------------------------------------------------------------------


# Columns of Network.layers.
WIDTH, UNITS_AT, WEIGHTS_AT, BIASES_AT, TRANSPOSED, ACTIVATION = range(6)
N_COLUMNS = 6


class Network(NamedTuple):
    """Shape of a network of L layers, from an input to an output.

    Row l of `layers` (L + 1, 6) is about layer l; the input is row 0. Its columns are
    WIDTH, the units; UNITS_AT, the sum of the widths of the layers before, without the
    input; WEIGHTS_AT and BIASES_AT, where the layer's parameters begin in their vector;
    TRANSPOSED, whether the weights are stored as (n_out, n_in), as the decoder's are;
    and ACTIVATION, a position in ACTIVATIONS. Tied layers share an encoder layer's
    weights.
    """

    layers: np.ndarray  # int64
    n_weights: int  # the vector's first entries; the rest are biases
    tied: int

    @property
    def n_layers(self):
        """Number of layers, the input not counted."""
        return len(self.layers) - 1

    @property
    def widths(self):
        """Units of the input and of every layer."""
        return self.layers[:, WIDTH]

    @property
    def n_units(self):
        """Sum of the widths, the input's included."""
        return int(self.widths.sum())

    @property
    def n_params(self):
        """Length of the parameter vector."""
        return int(self.n_weights + self.widths[1:].sum())


class Rows(NamedTuple):
    """The rows of a dense or CSR matrix, as the network sees them: (x - mean) / scale.

    `values` of a dense matrix is the C-ordered matrix, and `columns` and `starts` are
    empty; of a CSR matrix they are its data, indices and indptr.
    """

    values: np.ndarray  # dtype
    columns: np.ndarray  # int32
    starts: np.ndarray  # int64
    subset: np.ndarray  # int32, the matrix' rows in use; empty: all
    weights: np.ndarray  # float64 sample weights of all rows; empty: 1
    scaling: np.ndarray  # (n_features + 1,) dtype, the means and 1 / scale
    n_features: int
    n_rows: int  # rows in use
    total_weight: float  # of the rows in use


class Model(NamedTuple):
    """A network with parameters, and their penalty, alpha / 2 * ||weights||^2."""

    network: Network
    alpha: float
    params: int  # address


class Solver(NamedTuple):
    """Parameters of the stochastic solvers, named as in the estimator."""

    code: int  # position in SOLVERS; -1: it runs in Python
    schedule: int  # code of SCHEDULES
    learning_rate: float
    decay: float
    power_t: float
    momentum: float
    nesterovs_momentum: int
    beta_1: float
    beta_2: float
    epsilon: float
    batch_size: int
    shuffle: int
    max_iter: int  # epochs in one period of the cosine schedule
    tol: float
    n_iter_no_change: int
    watch_validation: int  # stop by the validation loss, not the training loss


class State(NamedTuple):
    """All that training changes, and all that it needs to go on."""

    params: np.ndarray  # (n_params,) the current parameters
    moment_1: np.ndarray  # (n_params,) momentum, or mean of gradients
    moment_2: np.ndarray  # (n_params,) mean of squared gradients
    best_params: np.ndarray  # (n_params,) of the epoch with the best_kept loss
    counters: np.ndarray  # int64, see below
    scalars: np.ndarray  # float64, see below
    loss_curve: np.ndarray  # (epochs of this call,) float64
    validation_curve: np.ndarray  # the same


# State.counters. Of the epochs, FIRST_EPOCH is the one that the curves begin with,
# CYCLE_START that which the cosine schedule begins with.
N_UPDATES, N_EPOCHS, FIRST_EPOCH, CYCLE_START, N_NO_CHANGE, SEED = range(6)
N_COUNTERS = 6
# State.scalars: the plateau rule's best loss, the best_params' loss, what the adaptive
# schedule has multiplied the learning rate by, and the initial weights' loss.
BEST_LOSS, BEST_KEPT, RATE_FACTOR, START_LOSS = range(4)
N_SCALARS = 4


class Team(NamedTuple):
    """Threads that run a kernel together, and what they work with."""

    n_threads: int
    itemsize: int  # bytes of the dtype
    block_rows: int  # that the buffers have room for
    n_slots: int  # input blocks of a thread
    n_units: int  # of the layers, for which the buffers have room
    n_params: int
    passes: Addresses
    control: np.ndarray  # int64, see below
    lane_losses: np.ndarray  # (MAX_LANES,) float64
    penalty: np.ndarray  # (2,) float64: of the weights now, and at the last step
    held: np.ndarray  # (slots, 7) int64: which rows the input blocks hold; at first -1
    settings: np.ndarray  # (n_threads, N_SETTINGS) float64, what a solver's pass needs
    n_packed: int  # entries of a thread's `packed`
    zero: np.ndarray  # (1,) dtype
    order: np.ndarray  # (n_rows,) int32, this epoch's order of the rows
    picked: np.ndarray  # (slots, block_rows) int64, the matrix rows of input blocks
    row_weights: np.ndarray  # (slots, block_rows) dtype, their sample weights
    inputs: np.ndarray  # (slots, block_rows * n_features) dtype
    packed: np.ndarray  # (n_threads, n_packed) dtype, a transposed block
    # (n_threads, block_rows * units) dtype, activations; once these have served, the
    # derivatives of the loss
    units: np.ndarray
    slopes: np.ndarray  # the same, derivatives of the activations
    gradients: np.ndarray  # (lanes, n_params) dtype


# The fields that are addresses for kernels.
_MEMORY = {
    Rows: ("values", "columns", "starts", "subset", "weights", "scaling"),
    State: ("params", "moment_1", "moment_2", "best_params"),
    Team: (
        "zero",
        "order",
        "picked",
        "row_weights",
        "inputs",
        "packed",
        "units",
        "slopes",
        "gradients",
    ),
}


def raw(value):
    """What a kernel is given for an argument: addresses in place of arrays.

    The arrays have to live as long as the kernel runs.
    """
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous, "kernels see memory without strides"
        return value.ctypes.data if value.size else 0
    if type(value) in _MEMORY:
        memory = {name: raw(getattr(value, name)) for name in _MEMORY[type(value)]}
        return value._replace(**memory)
    if type(value) is tuple:
        return tuple(map(raw, value))
    return value


# Team.control. ARRIVED and GENERATION belong to the barrier; Python sets INTERRUPT
# to end a run at the next batch and BROKEN when a thread died. A rank that gave up in
# the middle of its rows sets ABANDONED: nobody may use the sums. rank 0 copies its
# decision to STATUS. Both are read behind a barrier.
ARRIVED, GENERATION, INTERRUPT, BROKEN, ABANDONED, STATUS = range(6)
N_CONTROLS = 16  # padded to a multiple of the cache line

# What a run of epochs ended with.
RUNNING, CONVERGED, DIVERGED, INTERRUPTED = range(4)

# Rows that pass through the network together: so many that a block's activations, all
# layers together, fill about a quarter of an L2 cache, between limits. Fewer would make
# small products, and more would leave the cache.
_BLOCK_ENTRIES = 2**15
# A unit's rows must not be 4096 bytes: all units would share a set of the L1 cache.
_MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 128, 1008
# Blocks are cut where products have whole vectors.
_ROW_MULTIPLE = 16
# Networks so wide that even the fewest rows would take too much memory get fewer.
_MAX_BLOCK_ENTRIES = 2**20
# The rows of a batch are cut into lanes, each with a gradient of its own, the unit of
# parallel work: at most so many, of at least a block or, of narrow networks, so many
# rows. Two lanes of 2-4-1-4-2 are by a quarter faster on two threads than one on one.
MAX_LANES, _MIN_LANE_ROWS = 8, 256
# Entries whose losses are held at a time: with prediction and target 24 KiB of float32.
_LOSS_ENTRIES = 2048
# Parameters that are updated at a time: the sum of the lanes stays in the L1 cache.
_UPDATE_ENTRIES = 2048
# Arguments of `_lanes`. As literals each would cost a compilation of its own.
_LEARN, _EVALUATE = np.bool_(True), np.bool_(False)
_INT64_BYTES = _FLOAT64_BYTES = 8


# ---------------------------------------------------------------------------
# Threads: atomics and a barrier
# ---------------------------------------------------------------------------


def _element_pointer(context, builder, array_type, array, index):
    view = context.make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer(
        context, builder, array_type, view, [index], wraparound=False
    )


@intrinsic
def _atomic_add(typingctx, array, index, value):
    """Add `value` to array[index] (int64) and return what was there before."""

    def codegen(context, builder, signature, args):
        pointer = _element_pointer(context, builder, signature.args[0], *args[:2])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), codegen


@intrinsic
def _atomic_load(typingctx, array, index):
    """Read array[index] (int64) after all that its writer wrote before."""

    def codegen(context, builder, signature, args):
        pointer = _element_pointer(context, builder, signature.args[0], *args)
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def _yield_processor(typingctx):
    """Let another thread run (POSIX sched_yield)."""

    def codegen(context, builder, signature, args):
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        function_type = ir.FunctionType(ir.IntType(32), [])
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), codegen


# Waiting threads poll for some microseconds, as the other is nearly always about to
# arrive, then leave the processor to whoever needs it.
_POLLS_BEFORE_YIELD = 2000


@inner
def _barrier(control, n_threads):
    """Wait for all threads of the team; False when one of them died."""
    if n_threads == 1:
        return True
    generation = _atomic_load(control, GENERATION)
    if _atomic_add(control, ARRIVED, 1) == n_threads - 1:
        _atomic_add(control, ARRIVED, -n_threads)
        _atomic_add(control, GENERATION, 1)
        return _atomic_load(control, BROKEN) == 0
    polls = 0
    while _atomic_load(control, GENERATION) == generation:
        if _atomic_load(control, BROKEN) != 0:
            return False
        polls += 1
        if polls > _POLLS_BEFORE_YIELD:
            _yield_processor()
    return True


# ---------------------------------------------------------------------------
# Rows in, layers through
# ---------------------------------------------------------------------------


def block_rows(network):
    """How many rows pass through a network together, whatever the data."""
    rows = max(_MIN_BLOCK_ROWS, min(MAX_BLOCK_ROWS, _BLOCK_ENTRIES // network.n_units))
    rows = max(1, min(rows, _MAX_BLOCK_ENTRIES // network.n_units))
    return max(rows - rows % _ROW_MULTIPLE, min(rows, _ROW_MULTIPLE))


def n_packed(network):
    """Entries that `Team.packed` needs for a row: of the layers' weights' columns.

    At least PART_COLUMNS, which the losses of a block need, too.
    """
    widths, is_transposed = network.widths, network.layers[1:, TRANSPOSED] != 0
    columns = int(np.where(is_transposed, widths[:-1], widths[1:]).max())
    return -(-columns // PART_COLUMNS) * PART_COLUMNS


def n_lanes(n_rows, block_rows):
    """Into how many lanes a batch is cut, whatever the number of threads."""
    lane_rows = max(_MIN_BLOCK_ROWS, min(_MIN_LANE_ROWS, block_rows))
    return min(MAX_LANES, (n_rows + lane_rows - 1) // lane_rows)


_n_lanes = inner(n_lanes)


@inner
def _lane_start(lane, n_lanes, n_rows):
    """First row of a lane in its batch; of the one after the last, all rows."""
    start = (lane * n_rows + n_lanes - 1) // n_lanes
    return min(n_rows, (start + _ROW_MULTIPLE - 1) // _ROW_MULTIPLE * _ROW_MULTIPLE)


@inlined
def _at(team, memory, index):
    """Address of an entry of an array of the dtype."""
    return memory + team.itemsize * index


# No order of the rows but their own.
_NO_ORDER = np.int64(0)
# Not the address of any array, nor that of an empty one.
_NOTHING = -1


@inlined
def _gather(rows, order, span, n_rows, team, slot):
    """Write rows, as the network sees them, to an input block; returns its address.

    `span` are the first position in the order, and the last plus one; a block of more
    rows is filled up with zeros. Rows that the slot still holds are not written again.
    """
    start, stop = span
    block = _at(team, team.inputs, slot * team.block_rows * rows.n_features)
    held = team.held
    is_held = order == _NO_ORDER and held[slot, 0] == rows.values
    is_held = is_held and held[slot, 1] == rows.columns
    is_held = is_held and held[slot, 2] == rows.starts
    is_held = is_held and held[slot, 3] == rows.subset
    is_held = is_held and held[slot, 4] == rows.weights
    if is_held and held[slot, 5] == start and held[slot, 6] == stop:
        return block
    held[slot, 0] = rows.values if order == _NO_ORDER else _NOTHING
    held[slot, 1], held[slot, 2] = rows.columns, rows.starts
    held[slot, 3], held[slot, 4] = rows.subset, rows.weights
    held[slot, 5], held[slot, 6] = start, stop
    picked = team.picked + _INT64_BYTES * slot * team.block_rows
    row_weights = _row_weights(team, slot)
    positions = start, stop, n_rows, picked, row_weights
    call(team.passes.pick, (order, rows.subset, rows.weights, *positions))
    to = picked, rows.scaling, block, n_rows, rows.n_features
    if rows.starts == 0:
        call(team.passes.gather, (rows.values, *to))
    else:
        matrix = rows.values, rows.columns, rows.starts
        call(team.passes.gather_csr, (*matrix, *to))
    return block


@inlined
def _row_weights(team, slot):
    """Address of the sample weights of the rows in a slot."""
    return _at(team, team.row_weights, slot * team.block_rows)


class Ahead(NamedTuple):
    """The rows of a block of the next batch, to be asked for meanwhile."""

    order: int  # address
    subset: int  # address
    values: int  # address; 0: none
    n_features: int
    start: int
    stop: int


@inlined
def _rows_ahead(rows, order, start, n_rows):
    """The block that begins with a position in the order."""
    is_wanted = order != _NO_ORDER and rows.starts == 0
    values = rows.values if is_wanted else 0
    stop = min(start + n_rows, rows.n_rows)
    return Ahead(order, rows.subset, values, rows.n_features, start, stop)


@inner
def _prefetch_part(ahead, part, n_parts, prefetch):
    """Ask for some of the rows: of a burst of requests, a processor drops most."""
    if ahead.values == 0:
        return
    n_rows = max(0, ahead.stop - ahead.start)
    start = ahead.start + part * n_rows // n_parts
    stop = ahead.start + (part + 1) * n_rows // n_parts
    arrays = ahead.order, ahead.subset, ahead.values
    call(prefetch, (*arrays, start, stop, ahead.n_features))


@inlined
def _block_at(network, layer, n_rows, team, rank):
    """Where a layer's block begins in `units` and `slopes`."""
    of_rank = rank * team.block_rows * team.n_units
    return of_rank + network.layers[layer, UNITS_AT] * n_rows


# Flags of `product`, as int64s.
_PLAIN, _PACKED = np.int64(0), np.int64(1)
_PUT = np.int64(0)


@inlined
def _strides(layers, layer):
    """Steps from a layer's weight to that of the next output, and the next input."""
    if layers[layer, TRANSPOSED]:
        return layers[layer - 1, WIDTH], np.int64(1)
    return np.int64(1), layers[layer, WIDTH]


# Columns of a product below which it is summed along the rows of its operands, see
# `_products.short_product`: those of a vector register.
_SHORT_BELOW = 16


@inner
def _add_outer_products(sides, n_rows, gradient, packed, is_added, passes):
    """Gradient (m, n) of weights: the sum over the rows of a (m,) times b (n,).

    `sides` are the blocks a and b, m and n; `packed` is memory for a copy of b;
    `passes` are addresses: those of three passes, and that of a zero.
    """
    product, short_product, pack, zero = passes
    a, b, m, n = sides
    sizes = m, n, n_rows, np.int64(is_added)
    if n < _SHORT_BELOW:
        call(short_product, (a, b, gradient, *sizes))
        return
    call(pack, (b, packed, n, n_rows))
    start = zero, np.int64(0)
    call(product, (a, n_rows, np.int64(1), packed, _PACKED, gradient, *start, *sizes))


# How often rows are asked for between the passes of a layer: twice in the forward
# pass, three times in the backward pass.
_PARTS_AHEAD = 5


@inlined
def _forward(network, params, x, n_rows, ahead, team, rank):
    """Fill `units` up to the output from the input block x, and `slopes` beside."""
    passes, layers = team.passes, network.layers
    n_parts = _PARTS_AHEAD * (layers.shape[0] - 1)
    for layer in range(1, layers.shape[0]):
        _prefetch_part(ahead, 2 * layer - 2, n_parts, passes.prefetch)
        n_in, n_out = layers[layer - 1, WIDTH], layers[layer, WIDTH]
        a_at = _block_at(network, layer - 1, n_rows, team, rank)
        z_at = _block_at(network, layer, n_rows, team, rank)
        a = x if layer == 1 else _at(team, team.units, a_at)
        z = _at(team, team.units, z_at)
        weights = _at(team, params, layers[layer, WEIGHTS_AT])
        biases = _at(team, params, layers[layer, BIASES_AT])
        w = weights, *_strides(layers, layer)
        sizes = n_out, n_rows, n_in, _PUT
        call(passes.product, (*w, a, _PLAIN, z, biases, np.int64(1), *sizes))
        _prefetch_part(ahead, 2 * layer - 1, n_parts, passes.prefetch)
        activation = passes.activations[layer]
        if activation != 0:
            call(activation, (z, _at(team, team.slopes, z_at), n_out * n_rows))


@inlined
def _backward(model, x, n_rows, to, ahead, team, rank):
    """Add a block's gradient, from the derivative by the output in `units`.

    `to` says where in `gradients` it is added, and whether it is put there instead.
    """
    gradient_at, is_first = to
    network, layers, passes = model.network, model.network.layers, team.passes
    packed = _at(team, team.packed, rank * team.n_packed)
    n_layers = layers.shape[0] - 1
    products = passes.product, passes.short_product, passes.pack, team.zero
    n_parts = _PARTS_AHEAD * n_layers
    part = 2 * n_layers
    for layer in range(n_layers, 0, -1):
        n_in, n_out = layers[layer - 1, WIDTH], layers[layer, WIDTH]
        is_transposed = layers[layer, TRANSPOSED]
        a_at = _block_at(network, layer - 1, n_rows, team, rank)
        delta_at = _block_at(network, layer, n_rows, team, rank)
        a = x if layer == 1 else _at(team, team.units, a_at)
        delta = _at(team, team.units, delta_at)
        is_linear = passes.activations[layer] == 0
        slope = np.int64(0) if is_linear else _at(team, team.slopes, delta_at)
        biases = _at(team, team.gradients, gradient_at + layers[layer, BIASES_AT])
        sizes = n_out, n_rows, np.int64(is_first)
        call(passes.add_bias_gradient, (delta, slope, biases, *sizes))
        _prefetch_part(ahead, part, n_parts, passes.prefetch)
        # Tied weights already have their gradient as the decoder's.
        is_added = not is_first or (network.tied and layer <= n_layers // 2)
        weights_at = layers[layer, WEIGHTS_AT]
        gradient = _at(team, team.gradients, gradient_at + weights_at)
        if is_transposed:
            sides = delta, a, n_out, n_in
        else:
            sides = a, delta, n_in, n_out
        _prefetch_part(ahead, part + 1, n_parts, passes.prefetch)
        _add_outer_products(sides, n_rows, gradient, packed, is_added, products)
        _prefetch_part(ahead, part + 2, n_parts, passes.prefetch)
        part += 3
        if layer > 1:
            row, step = _strides(layers, layer)
            w = _at(team, model.params, weights_at), step, row
            start = team.zero, np.int64(0)
            shape = n_in, n_rows, n_out, _PUT
            # The activations have served.
            call(passes.product, (*w, delta, _PLAIN, a, *start, *shape))


@inlined
def _evaluate(model, rows, x, n_rows, total, ahead, team, place):
    """Losses of an input block: their sum is added to the float64 at `total`.

    The output in `units` becomes their derivative. `place` are rank and slot.
    """
    rank, slot = place
    network = model.network
    _forward(network, model.params, x, n_rows, ahead, team, rank)
    last = _block_at(network, network.layers.shape[0] - 1, n_rows, team, rank)
    prediction = _at(team, team.units, last)
    weights = _row_weights(team, slot) if rows.weights != 0 else np.int64(0)
    values = _at(team, team.packed, rank * team.n_packed)
    # As many units as `packed` has room for at least.
    n_at_once = max(1, min(PART_COLUMNS, _LOSS_ENTRIES // n_rows))
    sizes = rows.n_features, n_rows, n_at_once
    call(team.passes.loss, (prediction, x, weights, values, total, *sizes))


@inner
def _lanes(model, rows, order, batch, team, rank, learn):
    """Losses, and with `learn` gradients, of this rank's lanes of a batch.

    `batch` are the first position in the order, and the last plus one.
    """
    start, stop = batch
    n_lanes = _n_lanes(stop - start, team.block_rows)
    n_blocks = 0
    for lane in range(rank, n_lanes, team.n_threads):
        first = start + _lane_start(lane, n_lanes, stop - start)
        end = start + _lane_start(lane + 1, n_lanes, stop - start)
        team.lane_losses[lane] = 0.0
        for block in range(first, end, team.block_rows):
            is_long = end - first > team.block_rows
            if is_long and _atomic_load(team.control, INTERRUPT) != 0:
                team.control[ABANDONED] = 1
                break
            n_rows = min(team.block_rows, end - block)
            slot = rank * team.n_slots + n_blocks % team.n_slots
            n_blocks += 1
            ahead = _rows_ahead(rows, order, block + stop - start, n_rows)
            x = _gather(rows, order, (block, block + n_rows), n_rows, team, slot)
            total = address_of(team.lane_losses, lane)
            _evaluate(model, rows, x, n_rows, total, ahead, team, (rank, slot))
            if learn:
                to = lane * team.n_params, block == first
                _backward(model, x, n_rows, to, ahead, team, rank)


@inlined
def _sum_lane_losses(team, n_lanes):
    total = 0.0
    for lane in range(n_lanes):
        total += team.lane_losses[lane]
    return total


@inlined
def _share(team, rank, n):
    """The slice of n independent entries that this rank works on."""
    return rank * n // team.n_threads, (rank + 1) * n // team.n_threads


@inner
def _step(model, moments, n_lanes, team, rank, part):
    """Sum the lanes' gradients, and let the solver make its step, over a part.

    `part` are the first parameter, the last plus one, and their penalty's alpha.
    """
    passes = team.passes
    first, stop, alpha = part
    team.settings[rank, ALPHA] = alpha
    settings = address_of(team.settings, rank * team.settings.shape[1])
    for start in range(first, stop, _UPDATE_ENTRIES):
        n = min(_UPDATE_ENTRIES, stop - start)
        gradient = _at(team, team.gradients, start)
        for lane in range(1, n_lanes):
            other = _at(team, team.gradients, lane * team.n_params + start)
            call(passes.add, (gradient, other, n))
        params = _at(team, model.params, start)
        moment_1, moment_2 = _at(team, moments[0], start), _at(team, moments[1], start)
        call(passes.solver, (params, gradient, moment_1, moment_2, settings, n))


@inlined
def _update(model, moments, weight, n_lanes, team, rank):
    """The solver's step over this rank's share; `weight` is the batch's."""
    n_weights = model.network.n_weights
    lo, hi = _share(team, rank, team.n_params)
    team.settings[rank, FACTOR] = 1.0 / weight
    weights = lo, min(hi, n_weights), model.alpha
    biases = max(lo, n_weights), hi, 0.0
    _step(model, moments, n_lanes, team, rank, weights)
    _step(model, moments, n_lanes, team, rank, biases)


@inner
def _penalty(model, add_squares, penalty):
    """The L2 penalty, alpha / 2 * sum of squared weights; `penalty` is memory."""
    if model.alpha == 0:
        return 0.0
    penalty[0] = 0.0
    total = address_of(penalty, 0)
    call(add_squares, (model.params, total, model.network.n_weights))
    return 0.5 * model.alpha * penalty[0]


@inlined
def _mean_loss(model, rows, team, rank):
    """Mean data loss over rows, the same on every rank, and whether all gave up."""
    batch = np.int64(0), rows.n_rows
    _lanes(model, rows, _NO_ORDER, batch, team, rank, _EVALUATE)
    if not _barrier(team.control, team.n_threads) or team.control[ABANDONED]:
        return np.nan, True
    total = _sum_lane_losses(team, _n_lanes(rows.n_rows, team.block_rows))
    # Nobody overwrites lane_losses while another still reads.
    given_up = not _barrier(team.control, team.n_threads)
    return total / rows.total_weight, given_up


@kernel
def objective_value(network, alpha, rows, params, team, rank):
    """The objective over all rows, on rank 0."""
    model = Model(network, alpha, params)
    data_loss, _ = _mean_loss(model, rows, team, rank)
    return data_loss + (
        _penalty(model, team.passes.add_squares, team.penalty) if rank == 0 else 0.0
    )


@kernel
def objective_and_gradient(network, alpha, rows, params, team, rank):
    """The objective over all rows, on rank 0.

    Its gradient is left in the first of `gradients`.
    """
    model = Model(network, alpha, params)
    batch = np.int64(0), rows.n_rows
    _lanes(model, rows, _NO_ORDER, batch, team, rank, _LEARN)
    if not _barrier(team.control, team.n_threads) or team.control[ABANDONED]:
        return np.nan
    n_lanes = _n_lanes(rows.n_rows, team.block_rows)
    total = _sum_lane_losses(team, n_lanes)
    weight = rows.total_weight
    # The solver's pass is `scale_gradient`, which takes no step: no moments are used.
    _update(model, (params, params), weight, n_lanes, team, rank)
    _barrier(team.control, team.n_threads)
    return total / weight + (
        _penalty(model, team.passes.add_squares, team.penalty) if rank == 0 else 0.0
    )


# ---------------------------------------------------------------------------
# Learning rate
# ---------------------------------------------------------------------------

CONSTANT, INVERSE_TIME, INVSCALING, ADAPTIVE, COSINE = range(5)
_SMALLEST_ADAPTIVE_RATE = 1e-6  # as in MLPRegressor
_ADAPTIVE_DIVISOR = 5.0  # as in MLPRegressor


@inner
def _learning_rate(solver, n_updates, epoch, rate_factor):
    """Learning rate after `n_updates` updates, `epoch` epochs into the cycle."""
    rate = solver.learning_rate
    if solver.schedule == CONSTANT:
        return rate
    if solver.schedule == INVERSE_TIME:
        return rate / (1.0 + solver.decay * n_updates)
    if solver.schedule == INVSCALING:
        return rate / (n_updates + 1.0) ** solver.power_t
    if solver.schedule == ADAPTIVE:
        return rate * rate_factor
    if solver.schedule == COSINE:
        # Loshchilov & Hutter, "SGDR", 2017, equation 5, with a minimum of 0.
        turn = (epoch % solver.max_iter) / solver.max_iter
        return rate * 0.5 * (1.0 + math.cos(math.pi * turn))
    raise ValueError("unknown schedule code")


SCHEDULES = {
    "constant": CONSTANT,
    "inverse_time": INVERSE_TIME,
    "invscaling": INVSCALING,
    "adaptive": ADAPTIVE,
    "cosine": COSINE,
}


# ---------------------------------------------------------------------------
# Epochs
# ---------------------------------------------------------------------------


@inner
def _correction(beta, n_updates):
    """1 - beta^n; a power is slow where it underflows."""
    return -math.expm1(n_updates * math.log(beta)) if beta > 0 else 1.0


@inlined
def _batch_step(model, rows, solver, state, batch, team, rank):
    """One update; returns the batch's weighted loss, and whether all gave up.

    Every rank knows all scalars. What another rank has abandoned may only be read
    between the barrier behind the lanes and the next: later, it may be the next batch.
    """
    start, stop = batch
    n_updates = state.counters[N_UPDATES]
    if rank == 0:
        team.penalty[1] = _penalty(model, team.passes.add_squares, team.penalty)
    _lanes(model, rows, team.order, batch, team, rank, _LEARN)
    if not _barrier(team.control, team.n_threads) or team.control[ABANDONED]:
        return np.nan, True
    # Against the mean weight, not the batch's own, the gradient is unbiased.
    weight = rows.total_weight / rows.n_rows * (stop - start)
    n_lanes = _n_lanes(stop - start, team.block_rows)
    loss = _sum_lane_losses(team, n_lanes) + team.penalty[1] * weight
    n_epochs = state.counters[N_EPOCHS] - state.counters[CYCLE_START]
    epoch = n_epochs + start / rows.n_rows
    settings = team.settings
    factor = state.scalars[RATE_FACTOR]
    settings[rank, RATE] = _learning_rate(solver, n_updates, epoch, factor)
    settings[rank, CORRECTION_1] = _correction(settings[rank, BETA_1], n_updates + 1)
    settings[rank, CORRECTION_2] = _correction(settings[rank, BETA_2], n_updates + 1)
    moments = state.moment_1, state.moment_2
    _update(model, moments, weight, n_lanes, team, rank)
    if rank == 0:
        state.counters[N_UPDATES] = n_updates + 1
        interrupt = _atomic_load(team.control, INTERRUPT)
        team.control[STATUS] = INTERRUPTED if interrupt else RUNNING
    given_up = not _barrier(team.control, team.n_threads)
    return loss, given_up or team.control[STATUS] == INTERRUPTED


@inlined
def _keep_best(state, loss, team):
    if loss < state.scalars[BEST_KEPT]:
        state.scalars[BEST_KEPT] = loss
        call(team.passes.copy, (state.best_params, state.params, team.n_params))


@inner
def _plateau(solver, state, loss):
    """MLPRegressor's stopping rule: True after too many epochs without progress."""
    counters, scalars = state.counters, state.scalars
    if loss > scalars[BEST_LOSS] - solver.tol:
        counters[N_NO_CHANGE] += 1
    else:
        counters[N_NO_CHANGE] = 0
    scalars[BEST_LOSS] = min(scalars[BEST_LOSS], loss)
    if counters[N_NO_CHANGE] <= solver.n_iter_no_change:
        return False
    counters[N_NO_CHANGE] = 0
    rate = solver.learning_rate * scalars[RATE_FACTOR]
    if solver.schedule == ADAPTIVE and rate > _SMALLEST_ADAPTIVE_RATE:
        scalars[RATE_FACTOR] /= _ADAPTIVE_DIVISOR
        return False
    return True


@inlined
def _finish_epoch(model, validation, solver, state, loss, team, rank):
    """Record an epoch's loss, keep the best weights, decide: a status, on all ranks.

    The loss that decides which weights are kept is the validation loss where there
    are validation rows, else the training loss.
    """
    kept = loss
    if validation.n_rows > 0:
        kept, given_up = _mean_loss(model, validation, team, rank)
        if given_up:
            return INTERRUPTED
    if rank == 0:
        if validation.n_rows > 0:
            kept += _penalty(model, team.passes.add_squares, team.penalty)
        epoch = state.counters[N_EPOCHS]
        state.counters[N_EPOCHS] += 1
        slot = epoch - state.counters[FIRST_EPOCH]
        state.loss_curve[slot] = loss
        if validation.n_rows > 0:
            state.validation_curve[slot] = kept
        status = RUNNING
        if not (math.isfinite(loss) and math.isfinite(kept)):
            status = DIVERGED
        else:
            _keep_best(state, kept, team)
            if _plateau(solver, state, kept if solver.watch_validation else loss):
                status = CONVERGED
        team.control[STATUS] = status
    _barrier(team.control, team.n_threads)
    # Nobody changes it before all have met again.
    return team.control[STATUS]


@kernel
def finish_epoch(network, alpha, validation, solver, state, loss, team, rank):
    """`_finish_epoch` for a solver that runs in Python."""
    model = Model(network, alpha, state.params)
    return _finish_epoch(model, validation, solver, state, loss, team, rank)


@kernel
def train(network, alpha, data, solver, state, n_epochs, team, rank):
    """Run up to `n_epochs` epochs of a stochastic solver; return a status.

    `data` are the training and the validation rows. An interrupt ends the run
    between two batches, with the state that they left.
    """
    model = Model(network, alpha, state.params)
    rows, validation = data
    for _ in range(n_epochs):
        if solver.shuffle:
            if rank == 0:
                key = state.counters[SEED], state.counters[N_EPOCHS]
                call(team.passes.shuffle, (team.order, rows.n_rows, *key))
            if not _barrier(team.control, team.n_threads):
                return INTERRUPTED
        total = 0.0
        for start in range(0, rows.n_rows, solver.batch_size):
            stop = min(start + solver.batch_size, rows.n_rows)
            batch = start, stop
            step = _batch_step(model, rows, solver, state, batch, team, rank)
            batch_loss, given_up = step
            if given_up:
                return INTERRUPTED
            total += batch_loss
        loss = total / rows.total_weight
        status = _finish_epoch(model, validation, solver, state, loss, team, rank)
        if status != RUNNING:
            return status
    return RUNNING


# ---------------------------------------------------------------------------
# Inference
# ---------------------------------------------------------------------------


@kernel
def propagate(network, params, rows, scaling, out, sums, team, rank):
    """Send rows through a network; out (n_rows, n_outputs) = a * scale + mean.

    `scaling` (n_outputs + 1,) are the mean and the scale. Blocks are always full: a
    row's result does not depend on the number of rows, nor on the others. What the rank
    has read is added to its float64 of `sums`.
    """
    block_rows = team.block_rows
    n_layers = network.layers.shape[0] - 1
    n_outputs = network.layers[n_layers, WIDTH]
    n_blocks = (rows.n_rows + block_rows - 1) // block_rows
    for block in range(rank, n_blocks, team.n_threads):
        if _atomic_load(team.control, INTERRUPT) != 0:
            break
        start = block * block_rows
        n_rows = min(block_rows, rows.n_rows - start)
        span = start, start + n_rows
        x = _gather(rows, _NO_ORDER, span, block_rows, team, rank)
        total = sums + _FLOAT64_BYTES * rank
        call(team.passes.add_sum, (x, total, rows.n_features, block_rows))
        none_ahead = _rows_ahead(rows, _NO_ORDER, start, n_rows)
        _forward(network, params, x, block_rows, none_ahead, team, rank)
        z = _at(team, team.units, _block_at(network, n_layers, block_rows, team, rank))
        target = _at(team, out, start * n_outputs)
        shape = n_rows, n_outputs, block_rows
        call(team.passes.scatter, (z, scaling, target, *shape))
