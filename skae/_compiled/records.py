"""What kernels work on: a network, its rows, its state, and working memory.

In Python these are tuples of arrays and numbers; kernels see records in their place, in
which an array is the address where it begins (`record_of`). A kernel so takes a handful
of addresses, no matter what it works on, and one compilation serves both dtypes.
"""

import functools
import math
import typing
from typing import NamedTuple

import numpy as np

from skae._compiled.dispatch import Address, Addresses
from skae._compiled.vectors import LINE_BYTES, LINE_DOUBLES


def empty_lines(shape, dtype):
    """As `numpy.empty`, but beginning with a cache line.

    Loads of vectors that cross lines take twice as long.
    """
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(n_bytes + LINE_BYTES, dtype=np.uint8)
    first = -memory.ctypes.data % LINE_BYTES
    return memory[first : first + n_bytes].view(dtype).reshape(shape)


def in_lines(n_rows, n_entries, dtype):
    """Zeros of shape (n_rows, at least n_entries), each row in lines of its own."""
    per_line = LINE_BYTES // np.dtype(dtype).itemsize
    lines = empty_lines((n_rows, -(-n_entries // per_line) * per_line), dtype)
    lines[:] = 0
    return lines


class Layer(NamedTuple):
    """A layer of a network, the input or another."""

    width: int  # its units
    n_in: int  # its inputs: as many of the first units of the layer below
    units_at: int  # the sum of the widths of the layers before, without the input
    weights_at: int  # where its weights and biases begin in the vector of parameters
    biases_at: int
    transposed: int  # whether weights are stored as (n_out, n_in), as the decoder's are
    activation: int  # position in ACTIVATIONS


class Network(NamedTuple):
    """Shape of a network, from an input to an output.

    Tied layers share an encoder layer's weights.
    """

    layers: np.ndarray  # (n_layers + 1,) records of Layer; the first is the input
    n_layers: int  # the input not counted
    n_params: int  # length of the vector of parameters
    n_weights: int  # its first entries; the rest are biases
    tied: int

    @property
    def widths(self):
        """Units of the input and of every layer."""
        return self.layers["width"]

    @property
    def n_units(self):
        """Sum of the widths, the input's included."""
        return int(self.widths.sum())


_NONE = np.empty(0, dtype=np.int64)


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
    # What is drawn for a row depends on its number: that of the matrix' first row, from
    # which on they are consecutive, or int64 numbers of all of the matrix' rows.
    first_number: int = 0
    numbers: np.ndarray = _NONE


class Model(NamedTuple):
    """A network with parameters, and their penalty, alpha / 2 * ||weights||^2."""

    network: Network
    params: np.ndarray  # (n_params,) dtype
    alpha: float = 0.0


class Solver(NamedTuple):
    """Parameters of the stochastic solvers, named as in the estimator."""

    kind: int  # position in SOLVERS; -1: it runs in Python
    schedule: int  # the kind of a schedule
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
    first_judged: int  # epoch, counted from 1, before which no losses are compared
    watch_validation: int  # stop by the validation loss, not the training loss


class Progress(np.ndarray):
    """How far a training is: a record, whose fields are attributes.

    An array without dimensions, so that kernels and Python work on the same memory.
    """

    n_updates: int
    n_epochs: int
    first_epoch: int  # that the curves begin with
    cycle_start: int  # the epoch that the cosine schedule begins with
    n_no_change: int  # epochs without progress, see `epochs._plateau`
    seed: int
    epoch_rows: int  # of a whole epoch
    n_before: int  # rows of the epoch before the part that is trained on
    part: int  # 0, 1, ...
    best_epoch: int  # the number of epochs before best_params were reached
    best_loss: float  # of the plateau rule
    best_kept: float  # the loss of best_params
    rate_factor: float  # of the adaptive schedule
    start_loss: float  # of the initial parameters on the monitored rows
    term_sum: float  # of this epoch's code terms
    loss_sum: float  # and losses
    start_train_loss: float  # of the initial parameters on the rows to train on

    def __getattr__(self, name):
        if name not in (self.dtype.names or ()):
            raise AttributeError(name)
        return self[name].item()

    def __setattr__(self, name, value):
        self[name] = value


class State(NamedTuple):
    """All that training changes, and all that it needs to go on."""

    params: np.ndarray  # (n_params,) the current parameters
    moment_1: np.ndarray  # (n_params,) momentum, or mean of gradients
    moment_2: np.ndarray  # (n_params,) mean of squared gradients
    best_params: np.ndarray  # (n_params,) of the epoch with the best_kept loss
    progress: Progress
    loss_curve: np.ndarray  # (epochs of this call,) float64
    validation_curve: np.ndarray  # the same
    term_curve: np.ndarray  # the same


CURVES = ("loss_curve", "validation_curve", "term_curve")


class Block(NamedTuple):
    """Rows that pass through the network together."""

    rank: int
    slot: int  # the input block that holds them
    shard: int  # that their losses are added to
    n_layers: int  # that they pass through
    epoch: int  # whose random numbers are drawn for them, or NO_EPOCH
    order: Address  # of the order of the rows; 0: their own
    start: int  # first position in the order
    stop: int  # the last position plus one
    n_rows: int  # at least stop - start: what is missing are zeros
    ahead: int  # first position of the rows that will be read next
    n_ahead: int  # and their number, or 0


# Of rows that are not trained on: what is drawn for them is always the same.
NO_EPOCH = -1


class Held(NamedTuple):
    """Rows that an input block holds, in their own order: as in `Rows` and `Block`.

    The scaling is not compared: all rows that a team reads have one.
    """

    values: Address  # NOTHING at first
    columns: Address
    starts: Address
    subset: Address
    weights: Address
    start: int
    stop: int


# Not the address of any array, nor that of an empty one.
NOTHING = np.uint64(2**64 - 1)


class Team(NamedTuple):
    """Threads that run a kernel together, and what they work with."""

    n_threads: int
    itemsize: int  # bytes of the dtype
    block_rows: int  # that the buffers have room for
    piece_rows: int  # that losses are summed over at a time
    n_slots: int  # input blocks of a thread
    n_units: int  # of the layers, for which the buffers have room
    n_params: int
    n_packed: int  # entries of a thread's `packed`
    ops: Addresses
    forward: Address  # of the kernel
    shards: Address  # the same; 0 for inference alone
    code_means: Address  # the same; 0 if nothing depends on them
    seed: int  # of what is drawn for rows
    control: np.ndarray  # int64, see below
    # What each shard or thread has a row of is `in_lines`, and longer than said here.
    shard_losses: np.ndarray  # (MAX_SHARDS, 2) float64: the objective; its code term
    shard_codes: np.ndarray  # (MAX_SHARDS, code + 1) float64: sums of code and weights
    shard_code_entries: int  # of a row of these
    penalty: np.ndarray  # (2,) float64: a sum of squares, the penalty before a step
    held: np.ndarray  # (slots,) records of Held
    blocks: np.ndarray  # (n_threads,) records of Block
    settings: np.ndarray  # (n_threads, N_SETTINGS) float64, what a solver's op needs
    corruption: np.ndarray  # (N_CORRUPTION_SETTINGS,) float64
    term_settings: np.ndarray  # (n_threads, n_term_settings) float64
    n_term_settings: int
    n_code: int  # units of the code's layer
    zero: np.ndarray  # (1,) dtype
    order: np.ndarray  # (n_rows,) int32, this epoch's order of the rows
    picked: np.ndarray  # (slots, block_rows) int64, the matrix rows of input blocks
    row_weights: np.ndarray  # (slots, block_rows) dtype, their sample weights
    inputs: np.ndarray  # (slots, block_rows * n_features) dtype
    corrupted: np.ndarray  # (n_threads, block_rows * even n_features) dtype
    packed: np.ndarray  # (n_threads, n_packed) dtype, a transposed block
    # (n_threads, block_rows * units) dtype, activations; once these have served, the
    # derivatives of the loss
    units: np.ndarray
    slopes: np.ndarray  # the same, derivatives of the activations
    kept: np.ndarray  # (n_threads, block_rows * code) dtype, those of the code's term
    shard_gradients: np.ndarray  # (shards, n_params) dtype
    shard_gradient_entries: int  # of a row of these

    @property
    def gradients(self):
        """The gradients of the shards, of shape (shards, n_params)."""
        return self.shard_gradients[:, : self.n_params]


# Team.control. ARRIVED and GENERATION belong to the barrier; Python sets INTERRUPT
# to end a run at the next batch and BROKEN when a thread died. A rank that gave up in
# the middle of its rows sets ABANDONED: nobody may use the sums. rank 0 copies its
# decision to STATUS. Both are read behind a barrier.
ARRIVED, GENERATION, INTERRUPT, BROKEN, ABANDONED, STATUS = range(6)
N_CONTROLS = 16  # a cache line
# Entries of a row of Team.shard_losses.
N_SHARD_LOSSES = LINE_DOUBLES


@functools.cache
def record_type(kind):
    """The dtype of the records that kernels see in place of tuples of a kind."""
    hints = typing.get_type_hints(kind, include_extras=True).items()
    return np.dtype([(name, _field_type(hint)) for name, hint in hints], align=True)


# Addresses are unsigned, see `intrinsics`.
_NUMBERS = {int: np.int64, float: np.float64, Address: np.uint64}


def _field_type(hint):
    """The dtype of a field: of an array its address, of a tuple a record."""
    if hint in _NUMBERS:
        return _NUMBERS[hint]
    return np.uint64 if issubclass(hint, np.ndarray) else record_type(hint)


def _in_line(record):
    """The dtype of a record, padded to whole cache lines."""
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
    """Where an array begins, 0 if it is empty; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    if not value.flags.c_contiguous:
        raise ValueError(
            "kernels see memory without strides: the array has to be copied"
        )
    return value.ctypes.data if value.size else 0


def _plain(value):
    """A tuple with addresses in place of arrays."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return address(value)


def record_of(value):
    """What kernels see in place of a tuple: a record, as an array without dimensions.

    The tuple's arrays have to live as long as it is used.
    """
    return np.array(_plain(value), dtype=record_type(value.__class__))


def arguments_of(kernel, values):
    """What a kernel is called with, but the rank, and what has to live until it ends.

    Raises TypeError if the kernel takes something else.
    """
    held = [record_of(v) if isinstance(v, tuple) else v for v in values]
    kernel.check(held)
    return list(map(address, held)), (held, values)


# What kernels call them.
LAYER, MODEL, ROWS = record_type(Layer), record_type(Model), record_type(Rows)
SOLVER, STATE, TEAM = record_type(Solver), record_type(State), record_type(Team)
PROGRESS = record_type(Progress)
# Threads write theirs for every block.
BLOCK, HELD = _in_line(record_type(Block)), _in_line(record_type(Held))
