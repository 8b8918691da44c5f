"""Data structures of kernels: a network, its rows, its state, and working memory.

In Python these are tuples of arrays and numbers; kernels see records, in which arrays
are addresses (`record_of`). Kernels therefore take few arguments, and one compilation
serves both dtypes.
"""

import functools
import math
import typing
from typing import NamedTuple

import numpy as np

from skae._compiled.dispatch import Address, Addresses
from skae._compiled.vectors import LINE_BYTES, LINE_DOUBLES


def empty_lines(shape, dtype):
    """Uninitialized array that begins at a cache line.

    Loads of vectors that cross lines take twice as long.
    """
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(n_bytes + LINE_BYTES, dtype=np.uint8)
    first = -memory.ctypes.data % LINE_BYTES
    return memory[first : first + n_bytes].view(dtype).reshape(shape)


def in_lines(n_rows, n_entries, dtype):
    """Zeros of shape (n_rows, at least n_entries), each row in its own cache lines."""
    per_line = LINE_BYTES // np.dtype(dtype).itemsize
    lines = empty_lines((n_rows, -(-n_entries // per_line) * per_line), dtype)
    lines[:] = 0
    return lines


class Layer(NamedTuple):
    """A layer of a network; the first is the input."""

    width: int  # number of units
    n_in: int  # number of inputs, which are the first units of the layer below
    units_at: int  # sum of the widths of the layers before, without the input
    weights_at: int  # positions of weights and biases in the vector of parameters
    biases_at: int
    transposed: int  # whether weights are stored as (n_out, n_in), as in the decoder
    activation: int  # position in ACTIVATIONS


class Network(NamedTuple):
    """Shape of a network."""

    layers: np.ndarray  # (n_layers + 1,) records of Layer
    n_layers: int  # without the input
    n_params: int  # length of the vector of parameters
    n_weights: int  # its first entries; the rest are biases
    tied: int  # whether the decoder shares the encoder's weights
    # The last outputs may be in groups, the levels of categories, whose outputs are the
    # logits of probabilities. (n_groups + 1,) int64: where groups begin, and end.
    groups: np.ndarray
    n_groups: int
    n_plain: int  # outputs that are in no group; the output activation is theirs

    @property
    def widths(self):
        """Widths of all layers, the input first."""
        return self.layers["width"]

    @property
    def n_units(self):
        """Sum of the widths, including the input's."""
        return int(self.widths.sum())


_NONE = np.empty(0, dtype=np.int64)


class Rows(NamedTuple):
    """Rows of a dense or CSR matrix; the network sees them as (x - mean) / scale.

    `values`, `columns` and `starts` are the data, indices and indptr of a CSR matrix. A
    dense matrix, in C order, is `values`; the others are empty. `targets` is like
    `values`, but missing entries are NaN; empty: none are missing.
    """

    values: np.ndarray  # dtype
    targets: np.ndarray  # dtype
    columns: np.ndarray  # int32
    starts: np.ndarray  # int64
    subset: np.ndarray  # int32, the rows in use; empty: all
    weights: np.ndarray  # float64 sample weights of all rows; empty: 1
    scaling: np.ndarray  # (2 * n_features,) dtype, means, and 1 / scale of each
    n_features: int
    n_rows: int  # rows in use
    total_weight: float  # of the rows in use
    # Random draws for a row depend on its number: either numbers are consecutive, from
    # that of the matrix' first row, or all of the matrix' rows have int64 numbers.
    first_number: int = 0
    numbers: np.ndarray = _NONE


class Model(NamedTuple):
    """A network with parameters, and their penalty, alpha / 2 * ||weights||^2."""

    network: Network
    params: np.ndarray  # (n_params,) dtype
    alpha: float = 0.0
    # (n_outputs,) dtype, by which losses are multiplied; of a group, the first counts.
    # Empty: 1.
    unit_weights: np.ndarray = _NONE


class Solver(NamedTuple):
    """Parameters of the stochastic solvers, named as the estimator's."""

    kind: int  # position in SOLVERS; -1: it runs in Python
    schedule: int  # the schedule's kind
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
    first_judged: int  # first epoch, counted from 1, whose loss is compared
    watch_validation: int  # whether the validation loss stops training


class Progress(np.ndarray):
    """Progress of a training: a record, whose fields are attributes.

    An array without dimensions, so that kernels and Python share its memory.
    """

    n_updates: int
    n_epochs: int
    first_epoch: int  # first epoch of the curves
    cycle_start: int  # first epoch of the cosine schedule
    n_no_change: int  # epochs without improvement, see `epochs._plateau`
    seed: int
    epoch_rows: int  # rows of a whole epoch
    n_before: int  # rows of the epoch before the current part
    part: int  # the current part of the epoch: 0, 1, ...
    best_epoch: int  # number of epochs before best_params were reached
    best_loss: float  # of the plateau rule
    best_kept: float  # loss of best_params
    rate_factor: float  # of the adaptive schedule
    start_loss: float  # of the initial parameters on the monitored rows
    term_sum: float  # sum of this epoch's code terms
    loss_sum: float  # sum of this epoch's losses
    start_train_loss: float  # of the initial parameters on the training rows

    def __getattr__(self, name):
        if name not in (self.dtype.names or ()):
            raise AttributeError(name)
        return self[name].item()

    def __setattr__(self, name, value):
        self[name] = value


class State(NamedTuple):
    """State of a training: all that it changes, and needs to continue."""

    params: np.ndarray  # (n_params,) current parameters
    moment_1: np.ndarray  # (n_params,) momentum, or mean of gradients
    moment_2: np.ndarray  # (n_params,) mean of squared gradients
    best_params: np.ndarray  # (n_params,) parameters of the epoch with loss best_kept
    progress: Progress
    # (epochs of this call,) float64
    loss_curve: np.ndarray
    validation_curve: np.ndarray
    term_curve: np.ndarray


CURVES = ("loss_curve", "validation_curve", "term_curve")


class Block(NamedTuple):
    """Rows that pass through the network together."""

    rank: int
    slot: int  # the input block that holds them
    shard: int  # the shard that their losses are added to
    n_layers: int  # number of layers that they pass through
    epoch: int  # epoch of their random draws, or NO_EPOCH
    order: Address  # order of the rows; 0: their own
    start: int  # first position in the order
    stop: int  # last position plus one
    n_rows: int  # at least stop - start; missing rows are zeros
    ahead: int  # first position of the rows that are read next
    n_ahead: int  # number of the rows that are read next


# Epoch of rows that are not trained on: random draws for them are always the same.
NO_EPOCH = -1


class Held(NamedTuple):
    """Rows that an input block holds, in their own order: as in `Rows` and `Block`.

    The scaling is not compared: it is the same for all rows that a team reads.
    """

    values: Address  # NOTHING at first
    columns: Address
    starts: Address
    subset: Address
    weights: Address
    start: int
    stop: int


# Not the address of any array, empty ones included.
NOTHING = np.uint64(2**64 - 1)


class Team(NamedTuple):
    """Threads that run a kernel together, and their working memory."""

    n_threads: int
    itemsize: int  # bytes of the dtype
    block_rows: int  # rows of a block that buffers have room for
    piece_rows: int  # rows that losses are summed over at a time
    n_slots: int  # input blocks of a thread
    n_units: int  # units of all layers that buffers have room for
    n_params: int
    n_packed: int  # entries of a thread's `packed`
    ops: Addresses
    forward: Address  # kernel
    shards: Address  # kernel; 0 for inference
    code_means: Address  # kernel; 0 if no term depends on them
    seed: int  # of random draws for rows
    control: np.ndarray  # int64, see below
    # Arrays with a row for each shard or thread are `in_lines`: rows may be longer.
    shard_losses: np.ndarray  # (MAX_SHARDS, 2) float64: the objective; its code term
    shard_codes: np.ndarray  # (MAX_SHARDS, code + 1) float64: sums of code and weights
    shard_code_entries: int  # row length of shard_codes
    penalty: np.ndarray  # (2,) float64: a sum of squares, the penalty before a step
    held: np.ndarray  # (slots,) records of Held
    blocks: np.ndarray  # (n_threads,) records of Block
    settings: np.ndarray  # (n_threads, N_SETTINGS) float64, of the solver's op
    corruption: np.ndarray  # (N_CORRUPTION_SETTINGS,) float64
    term_settings: np.ndarray  # (n_threads, n_term_settings) float64
    n_term_settings: int
    n_code: int  # units of the code's layer
    zero: np.ndarray  # (1,) dtype
    order: np.ndarray  # (n_rows,) int32, this epoch's order of the rows
    picked: np.ndarray  # (slots, block_rows) int64, row numbers of input blocks
    row_weights: np.ndarray  # (slots, block_rows) dtype, sample weights
    inputs: np.ndarray  # (slots, block_rows * n_features) dtype
    # (slots, block_rows * n_features) dtype, what the output is compared with, if that
    # is not the input
    targets: np.ndarray
    corrupted: np.ndarray  # (n_threads, block_rows * even n_features) dtype
    packed: np.ndarray  # (n_threads, n_packed) dtype, a transposed block
    # (n_threads, block_rows * units) dtype: activations, in the backward pass replaced
    # by derivatives of the loss; derivatives of the activations
    units: np.ndarray
    slopes: np.ndarray
    kept: np.ndarray  # (n_threads, block_rows * code) dtype, the code term's derivative
    shard_gradients: np.ndarray  # (shards, n_params) dtype
    shard_gradient_entries: int  # row length of shard_gradients

    @property
    def gradients(self):
        """Gradients of the shards, of shape (shards, n_params)."""
        return self.shard_gradients[:, : self.n_params]


# Entries of Team.control. ARRIVED and GENERATION belong to the barrier; Python sets
# INTERRUPT to end a run at the next mini-batch, and BROKEN when a thread died. A rank
# that stops in the middle of its rows sets ABANDONED: sums are then invalid. Rank 0
# writes its decision to STATUS. Both are read after a barrier.
ARRIVED, GENERATION, INTERRUPT, BROKEN, ABANDONED, STATUS = range(6)
N_CONTROLS = 16  # a cache line
# Entries of a row of Team.shard_losses.
N_SHARD_LOSSES = LINE_DOUBLES


@functools.cache
def record_type(kind):
    """Dtype of the records that kernels see in place of tuples of a kind."""
    hints = typing.get_type_hints(kind, include_extras=True).items()
    return np.dtype([(name, _field_type(hint)) for name, hint in hints], align=True)


# Addresses are unsigned, see `intrinsics`.
_NUMBERS = {int: np.int64, float: np.float64, Address: np.uint64}


def _field_type(hint):
    """Dtype of a field: an address for an array, a record for a tuple."""
    if hint in _NUMBERS:
        return _NUMBERS[hint]
    return np.uint64 if issubclass(hint, np.ndarray) else record_type(hint)


def _in_line(record):
    """Dtype of a record, padded to whole cache lines."""
    size = -(-record.itemsize // LINE_BYTES) * LINE_BYTES
    formats, offsets = zip(*record.fields.values(), strict=True)
    padded: typing.Any = {
        "names": record.names,
        "formats": formats,
        "offsets": offsets,
        "itemsize": size,
    }
    return np.dtype(padded, align=True)


def address(value):
    """Address of an array, 0 if it is empty; other values are returned unchanged."""
    if not isinstance(value, np.ndarray):
        return value
    if not value.flags.c_contiguous:
        raise ValueError("kernels see memory without strides: copy the array")
    return value.ctypes.data if value.size else 0


def _plain(value):
    """Replace arrays by addresses, also in tuples."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return address(value)


def record_of(value):
    """Record that kernels see in place of a tuple: an array without dimensions.

    The tuple's arrays must stay alive while the record is used.
    """
    return np.array(_plain(value), dtype=record_type(value.__class__))


def arguments_of(kernel, values):
    """Arguments of a kernel without the rank, and what must stay alive until it ends.

    Raises TypeError if the kernel takes other arguments.
    """
    held = [record_of(v) if isinstance(v, tuple) else v for v in values]
    kernel.check(held)
    return list(map(address, held)), (held, values)


LAYER, MODEL, ROWS = record_type(Layer), record_type(Model), record_type(Rows)
SOLVER, STATE, TEAM = record_type(Solver), record_type(State), record_type(Team)
PROGRESS = record_type(Progress)
# Each thread writes its own for every block.
BLOCK, HELD = _in_line(record_type(Block)), _in_line(record_type(Held))
