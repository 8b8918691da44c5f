"""All compiled code of skae: activations, losses, solvers, forward, backward, epochs.

Numba stamps a cached kernel with the file that it stands in, not with those of the
functions it calls. Everything compiled therefore lives here, so that an edit to any
of it invalidates the whole cache.

How the code is laid out
------------------------
* A network is one flat parameter vector (all weights, then all biases) and a
  ``Network`` of offsets; a layer's weights are a reshaped slice of the vector.
  One compilation per dtype serves every architecture, and solvers, snapshots and
  gradient checks are loops over one vector.
* The functions without a leading underscore are the entry points that Python calls.
  Those that end in ``team, rank`` are run by every thread of a team at once, each
  with its own `rank`. Work is cut into pieces that do not depend on the number of
  threads (`_n_lanes`), and pieces are summed in a fixed order: any number of
  threads gives the same bits.
* Kernels write into buffers that they are given and return scalars.
"""

import math
import sys
from typing import NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# No flag that assumes NaN or inf away: a diverged loss has to be seen.
_REDUCTION_MATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
# A product and a sum may become one instruction; nothing else may change. The inner
# functions that must keep an exact order of operations are compiled with it.
_ELEMENTWISE_MATH = {"contract"}


def _jit(fastmath=_ELEMENTWISE_MATH):
    """Compile a function that other kernels call."""
    # error_model="numpy": the zero check of a division would stop vectorisation.
    return numba.njit(error_model="numpy", fastmath=fastmath)


# Numba optimises a function anew, with all that it calls, in each of its callers.
# Inlining before that keeps the nesting shallow and the first compilation short.
_inlined = numba.njit(error_model="numpy", fastmath=_ELEMENTWISE_MATH, inline="always")


def _kernel(function):
    """Compile, on its first call, a function that Python calls.

    The machine code is cached on disk; without a writable place for the cache (a
    read-only installation and home) it is compiled in every process.
    """
    options = {"error_model": "numpy", "fastmath": _ELEMENTWISE_MATH, "nogil": True}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # Numba found no writable cache folder
        return numba.njit(**options)(function)


# ---------------------------------------------------------------------------
# What kernels are given
# ---------------------------------------------------------------------------


class Network(NamedTuple):
    """Shape of a network of L layers; layer l goes from widths[l] to widths[l + 1].

    All arrays are int64. A transposed layer is tied: it uses the weights of an
    encoder layer, transposed.
    """

    widths: np.ndarray  # (L + 1,) units, the input's first
    units_at: np.ndarray  # (L + 2,) sums of the widths before
    weights_at: np.ndarray  # (L,) where a layer's weights begin in the vector
    biases_at: np.ndarray  # (L,) where its biases begin
    transposed: np.ndarray  # (L,) 1 for a tied decoder layer
    activations: np.ndarray  # (L,) codes of ACTIVATIONS
    n_weights: int  # the vector's first entries; the rest are biases

    @property
    def n_params(self):
        """Length of the parameter vector."""
        return int(self.n_weights + self.widths[1:].sum())


class Rows(NamedTuple):
    """The rows of a dense or CSR matrix, as the network sees them: (x - mean) / scale.

    `values` of a dense matrix is the raveled C-ordered matrix, and `columns` and
    `starts` are empty; of a CSR matrix they are its data, indices and indptr.
    """

    values: np.ndarray  # dtype
    columns: np.ndarray  # int32
    starts: np.ndarray  # int64
    subset: np.ndarray  # int32, the matrix' rows in use; empty: all
    weights: np.ndarray  # float64 sample weights of all rows; empty: 1
    mean: np.ndarray  # (n_features,) dtype
    inverse_scale: np.ndarray  # (1,) dtype
    n_rows: int  # rows in use
    total_weight: float  # of the rows in use


class Objective(NamedTuple):
    """What is minimised: the mean data loss plus alpha / 2 * ||weights||^2."""

    loss: int  # code of LOSSES
    alpha: float


class Model(NamedTuple):
    """A network with parameters, and what is minimised."""

    network: Network
    objective: Objective
    params: np.ndarray  # (n_params,)


class Solver(NamedTuple):
    """Parameters of the stochastic solvers, named as in the estimator."""

    code: int  # of SOLVERS
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
    """Threads that run a kernel together, and their working memory."""

    n_threads: int
    block_rows: int  # that the buffers have room for
    control: np.ndarray  # int64, see below
    order: np.ndarray  # (n_rows,) int32, this epoch's order of the rows
    picked: np.ndarray  # (n_threads, block) int64, matrix rows of a block
    units: np.ndarray  # (n_threads, block * units) dtype, input and activations
    slopes: np.ndarray  # the same, derivatives of the activations
    deltas: np.ndarray  # the same, derivatives of the loss
    row_losses: np.ndarray  # (n_threads, block) float64
    scratch: np.ndarray  # (n_threads, largest weight matrix) dtype
    gradients: np.ndarray  # (lanes, n_params) dtype
    lane_losses: np.ndarray  # (MAX_LANES,) float64
    penalty: np.ndarray  # (1,) float64


# Team.control. ARRIVED and GENERATION belong to the barrier; Python sets INTERRUPT
# to end a run at the next batch and BROKEN when a thread died. A rank that gave up in
# the middle of its rows sets ABANDONED: nobody may use the sums. rank 0 copies its
# decision to STATUS. Both are read behind a barrier.
ARRIVED, GENERATION, INTERRUPT, BROKEN, ABANDONED, STATUS = range(6)
N_CONTROLS = 16  # padded to a multiple of the cache line

# What a run of epochs ended with.
RUNNING, CONVERGED, DIVERGED, INTERRUPTED = range(4)

# Rows that pass through the network together in training: the products should be
# large enough for BLAS, and the activations stay in the L2 cache.
BLOCK_ROWS = 256
# A batch is cut into lanes of at least so many rows, each with a gradient of its
# own, and at most so many lanes: the unit of parallel work.
LANE_ROWS = 128
MAX_LANES = 8
# Arguments of `_lanes`. As literals each would cost a compilation of its own.
_LEARN, _EVALUATE = np.bool_(True), np.bool_(False)
_FIRST = np.int64(0)
# Rows of an inference block; each group of ROW_TILE goes through the same code, so
# that a row's result does not depend on its neighbours.
INFERENCE_ROWS = 64
ROW_TILE = 4


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


@_jit()
def _barrier(team):
    """Wait for all threads of the team; False when one of them died."""
    if team.n_threads == 1:
        return True
    control = team.control
    generation = _atomic_load(control, GENERATION)
    if _atomic_add(control, ARRIVED, 1) == team.n_threads - 1:
        _atomic_add(control, ARRIVED, -team.n_threads)
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
# Vectors. Loops, as a slice assignment compiles ten times slower: its errors are
# formatted strings.
# ---------------------------------------------------------------------------


@_jit()
def _fill(out, value):
    for i in range(out.size):
        out[i] = value


@_jit()
def _copy(out, source):
    for i in range(out.size):
        out[i] = source[i]


@_jit()
def _add(out, term):
    for i in range(out.size):
        out[i] += term[i]


# ---------------------------------------------------------------------------
# Scalars: activations and losses, value and derivative side by side
# ---------------------------------------------------------------------------


@intrinsic
def _like(typingctx, value, example):
    """`value` in the type of `example`: keeps float32 arithmetic in float32."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[0], signature.args[0], signature.args[1])

    return example(value, example), codegen


@_jit()
def _logistic(z):
    one = _like(1.0, z)
    e = math.exp(-abs(z))  # never overflows
    r = one / (one + e)
    return r if z >= 0 else e * r, e * r * r


@_jit()
def _tanh(z):
    a = math.tanh(z)
    one = _like(1.0, z)
    return a, (one - a) * (one + a)


@_jit()
def _relu(z):
    # `z < 0` rather than `z > 0`: a NaN goes through and is seen in the loss.
    zero = _like(0.0, z)
    return (zero, zero) if z < 0 else (z, _like(1.0, z))


# Maas, Hannun & Ng, "Rectifier nonlinearities improve neural network acoustic
# models", 2013.
_LEAK = 0.01


@_jit()
def _leaky_relu(z):
    leak = _like(_LEAK, z)
    return (leak * z, leak) if z < 0 else (z, _like(1.0, z))


@_jit()
def _elu(z):
    one = _like(1.0, z)
    return (math.expm1(z), math.exp(z)) if z < 0 else (z, one)


# Klambauer et al., "Self-normalizing neural networks", 2017, equation 2.
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


@_jit()
def _selu(z):
    scale = _like(_SELU_SCALE, z)
    limit = _like(_SELU_SCALE * _SELU_ALPHA, z)
    return (limit * math.expm1(z), limit * math.exp(z)) if z < 0 else (z * scale, scale)


_SQRT_HALF = math.sqrt(0.5)
_INVERSE_SQRT_2PI = 1 / math.sqrt(2 * math.pi)


@_jit()
def _gelu(z):
    # Hendrycks & Gimpel, "Gaussian error linear units", 2016: z times the standard
    # normal distribution function, not its tanh approximation.
    half = _like(0.5, z)
    cdf = half * math.erfc(-z * _like(_SQRT_HALF, z))
    density = _like(_INVERSE_SQRT_2PI, z) * math.exp(-half * z * z)
    return z * cdf, cdf + z * density


@_jit()
def _silu(z):
    a, slope = _logistic(z)
    return z * a, a + z * slope


@_jit()
def _softplus(z):
    a, _ = _logistic(z)
    return max(z, _like(0.0, z)) + math.log1p(math.exp(-abs(z))), a


# Losses of one entry: (prediction, target) -> value, derivative by the prediction.


@_jit()
def _squared_error(prediction, target):
    r = prediction - target
    return _like(0.5, r) * r * r, r


@_jit()
def _absolute_error(prediction, target):
    r = prediction - target
    one = _like(1.0, r)
    zero = _like(0.0, r)
    if r > 0:
        return r, one
    return (-r, -one) if r < 0 else (abs(r), zero)


# Huber, "Robust estimation of a location parameter", 1964. The network sees data of
# root mean square 1: errors above one such unit count linearly.
_HUBER_DELTA = 1.0


@_jit()
def _huber(prediction, target):
    r = prediction - target
    delta = _like(_HUBER_DELTA, r)
    half = _like(0.5, r)
    if r > delta:
        return delta * (r - half * delta), delta
    if r < -delta:
        return delta * (-r - half * delta), -delta
    return half * r * r, r


@_jit()
def _log_loss(z, target):
    """Cross-entropy of the probability logistic(z): softplus(z) - target * z.

    softplus(z) = max(z, 0) + log(1 + e^-|z|): the linear parts are joined first, as
    for a sure and right prediction they cancel.
    """
    probability, _ = _logistic(z)
    linear = (_like(1.0, z) - target) * z if z >= 0 else -target * z
    return linear + math.log1p(math.exp(-abs(z))), probability - target


@_jit()
def _poisson_loss(z, target):
    """Negative log-likelihood, but for its constant, of the rate softplus(z).

    rate - target * log(rate), with log(softplus(z)) = z - e^z / 2 + O(e^2z) where
    the rate would lose its digits or underflow.
    """
    half = _like(0.5, z)
    one = _like(1.0, z)
    rate, slope = _softplus(z)
    if z < _like(-15.0, z):
        e = math.exp(z)
        return rate - target * (z - half * e), slope - target * (one - half * e)
    return rate - target * math.log(rate), slope - target * (slope / rate)


# ---------------------------------------------------------------------------
# Passes over a block
# ---------------------------------------------------------------------------


def _named_after(function, loop):
    """Give a loop a name of its own.

    Numba tells functions of one name apart by a count that begins anew in every
    process: kernels that two processes have cached would call each other's loops.
    """
    loop.__qualname__ = f"{loop.__name__}_of{function.__name__}"
    return loop


def _activation_pass(function):
    """Loop of an activation over a block: z becomes the activation."""

    def activation_pass(z, slope):
        for i in range(z.size):
            z[i], slope[i] = function(z[i])

    return _jit()(_named_after(function, activation_pass))


_logistic_pass = _activation_pass(_logistic)
_tanh_pass = _activation_pass(_tanh)
_relu_pass = _activation_pass(_relu)
_leaky_relu_pass = _activation_pass(_leaky_relu)
_elu_pass = _activation_pass(_elu)
_selu_pass = _activation_pass(_selu)
_gelu_pass = _activation_pass(_gelu)
_silu_pass = _activation_pass(_silu)
_softplus_pass = _activation_pass(_softplus)

IDENTITY, LOGISTIC, TANH, RELU, LEAKY_RELU, ELU, SELU, GELU, SILU, SOFTPLUS = range(10)


@_jit()
def _activate(activation, z, slope):
    """Replace z (n,) by its activation and write the derivative to slope (n,).

    The identity leaves both as they are; `_times_slope` knows.
    """
    if activation == IDENTITY:
        pass
    elif activation == LOGISTIC:
        _logistic_pass(z, slope)
    elif activation == TANH:
        _tanh_pass(z, slope)
    elif activation == RELU:
        _relu_pass(z, slope)
    elif activation == LEAKY_RELU:
        _leaky_relu_pass(z, slope)
    elif activation == ELU:
        _elu_pass(z, slope)
    elif activation == SELU:
        _selu_pass(z, slope)
    elif activation == GELU:
        _gelu_pass(z, slope)
    elif activation == SILU:
        _silu_pass(z, slope)
    elif activation == SOFTPLUS:
        _softplus_pass(z, slope)
    else:
        raise ValueError("unknown activation code")


@_jit()
def _times_slope(activation, delta, slope):
    """Chain rule: delta (n,) times the derivative of the activation."""
    if activation != IDENTITY:
        for i in range(delta.size):
            delta[i] *= slope[i]


def _loss_pass(function):
    """Loop of a loss over a block: a sum for each row, a derivative for each entry."""

    def loss_pass(prediction, target, delta, row_losses):
        n_rows, n_features = prediction.shape
        for i in range(n_rows):
            total = _like(0.0, prediction[i, 0])
            for j in range(n_features):
                value, delta[i, j] = function(prediction[i, j], target[i, j])
                total += value
            row_losses[i] = total

    return _jit(fastmath=_REDUCTION_MATH)(_named_after(function, loss_pass))


_squared_error_pass = _loss_pass(_squared_error)
_absolute_error_pass = _loss_pass(_absolute_error)
_huber_pass = _loss_pass(_huber)
_log_loss_pass = _loss_pass(_log_loss)
_poisson_pass = _loss_pass(_poisson_loss)

SQUARED_ERROR, ABSOLUTE_ERROR, HUBER, LOG_LOSS, POISSON = range(5)


@_jit()
def _losses(loss, prediction, target, delta, row_losses):
    """Data loss of each row and its derivative by the prediction.

    prediction, target and delta are (n, n_features), row_losses (n,). log_loss and
    poisson have their output activation built in, which keeps them finite and exact
    where it has saturated: their prediction is its input.
    """
    if loss == SQUARED_ERROR:
        _squared_error_pass(prediction, target, delta, row_losses)
    elif loss == ABSOLUTE_ERROR:
        _absolute_error_pass(prediction, target, delta, row_losses)
    elif loss == HUBER:
        _huber_pass(prediction, target, delta, row_losses)
    elif loss == LOG_LOSS:
        _log_loss_pass(prediction, target, delta, row_losses)
    elif loss == POISSON:
        _poisson_pass(prediction, target, delta, row_losses)
    else:
        raise ValueError("unknown loss code")


@_kernel
def losses(loss, prediction, target, out):
    """Data loss of each row: prediction and target are (n, n_features), out (n,)."""
    _losses(loss, prediction, target, np.empty_like(prediction), out)


# ---------------------------------------------------------------------------
# Rows in, layers through
# ---------------------------------------------------------------------------


@_jit()
def _pick(rows, order, start, picked):
    """Matrix rows of the positions start, start + 1, ... of an order (empty: as is)."""
    for i in range(picked.size):
        position = start + i
        if order.size > 0:
            position = order[position]
        if rows.subset.size > 0:
            position = rows.subset[position]
        picked[i] = position


@_jit()
def _gather(rows, picked, out):
    """Write the picked rows, centred and scaled, to out (n, n_features)."""
    mean = rows.mean
    inverse_scale = rows.inverse_scale[0]
    n_features = mean.size
    for i in range(picked.size):
        row = picked[i]
        if rows.starts.size == 0:
            first = row * n_features
            for j in range(n_features):
                out[i, j] = (rows.values[first + j] - mean[j]) * inverse_scale
        else:
            for j in range(n_features):
                out[i, j] = (_like(0.0, mean[j]) - mean[j]) * inverse_scale
            for k in range(rows.starts[row], rows.starts[row + 1]):
                j = rows.columns[k]
                out[i, j] = (rows.values[k] - mean[j]) * inverse_scale


@_jit()
def _units(buffer, network, layer, capacity, n_rows):
    """The first `n_rows` rows of what a buffer for `capacity` rows holds of a layer."""
    width = network.widths[layer]
    first = capacity * network.units_at[layer]
    return buffer[first : first + n_rows * width].reshape(n_rows, width)


@_jit()
def _weights(vector, network, layer):
    """A layer's weights (or their gradient), as stored: a tied layer's transposed."""
    n_in = network.widths[layer]
    n_out = network.widths[layer + 1]
    first = network.weights_at[layer]
    stored = vector[first : first + n_in * n_out]
    if network.transposed[layer]:
        return stored.reshape(n_out, n_in)
    return stored.reshape(n_in, n_out)


@_jit()
def _biases(vector, network, layer):
    first = network.biases_at[layer]
    return vector[first : first + network.widths[layer + 1]]


@_inlined
def _forward(model, team, rank, n_rows):
    """Fill `units` from the input to the output, and `slopes` beside them."""
    network, params = model.network, model.params
    units, slopes, capacity = team.units[rank], team.slopes[rank], team.block_rows
    for layer in range(network.activations.size):
        a = _units(units, network, layer, capacity, n_rows)
        z = _units(units, network, layer + 1, capacity, n_rows)
        weights = _weights(params, network, layer)
        if network.transposed[layer]:
            np.dot(a, weights.T, z)
        else:
            np.dot(a, weights, z)
        biases = _biases(params, network, layer)
        for i in range(n_rows):
            for j in range(biases.size):
                z[i, j] += biases[j]
        slope = _units(slopes, network, layer + 1, capacity, n_rows)
        _activate(network.activations[layer], z.reshape(-1), slope.reshape(-1))


@_inlined
def _backward(model, team, rank, n_rows, gradient):
    """Add the block's to `gradient` (n_params,), from the derivative in `deltas`."""
    network, params = model.network, model.params
    units, slopes, capacity = team.units[rank], team.slopes[rank], team.block_rows
    deltas, scratch = team.deltas[rank], team.scratch[rank]
    for layer in range(network.activations.size - 1, -1, -1):
        a = _units(units, network, layer, capacity, n_rows)
        delta = _units(deltas, network, layer + 1, capacity, n_rows)
        slope = _units(slopes, network, layer + 1, capacity, n_rows)
        _times_slope(network.activations[layer], delta.reshape(-1), slope.reshape(-1))
        weights = _weights(params, network, layer)
        product = scratch[: weights.size].reshape(weights.shape)
        if network.transposed[layer]:
            np.dot(delta.T, a, product)
        else:
            np.dot(a.T, delta, product)
        _add(_weights(gradient, network, layer).reshape(-1), product.reshape(-1))
        biases = _biases(gradient, network, layer)
        for i in range(n_rows):
            for j in range(biases.size):
                biases[j] += delta[i, j]
        if layer > 0:
            delta_below = _units(deltas, network, layer, capacity, n_rows)
            if network.transposed[layer]:
                np.dot(delta, weights, delta_below)
            else:
                np.dot(delta, weights.T, delta_below)


@_inlined
def _block_losses(model, rows, order, start, n_rows, team, rank):
    """Forward one block; return its weighted loss, leave weighted deltas behind."""
    network = model.network
    last = network.activations.size
    units, deltas, capacity = team.units[rank], team.deltas[rank], team.block_rows
    picked = team.picked[rank, :n_rows]
    row_losses = team.row_losses[rank, :n_rows]
    _pick(rows, order, start, picked)
    x = _units(units, network, 0, capacity, n_rows)
    _gather(rows, picked, x)
    _forward(model, team, rank, n_rows)
    delta = _units(deltas, network, last, capacity, n_rows)
    prediction = _units(units, network, last, capacity, n_rows)
    _losses(model.objective.loss, prediction, x, delta, row_losses)
    total = 0.0
    for i in range(n_rows):
        if rows.weights.size == 0:
            total += row_losses[i]
        elif rows.weights[picked[i]] > 0:
            # A row without weight counts for nothing, even if its loss overflows.
            weight = rows.weights[picked[i]]
            total += weight * row_losses[i]
            for j in range(delta.shape[1]):
                delta[i, j] *= _like(weight, delta[i, j])
        else:
            _fill(delta[i], 0)
    return total


def n_lanes(n_rows):
    """Into how many lanes a batch is cut, whatever the number of threads."""
    return min(MAX_LANES, (n_rows + LANE_ROWS - 1) // LANE_ROWS)


_n_lanes = _jit()(n_lanes)


@_jit()
def _lanes(model, rows, order, start, stop, team, rank, learn):
    """Losses, and with `learn` gradients, of this rank's lanes of a batch."""
    n_lanes = _n_lanes(stop - start)
    for lane in range(rank, n_lanes, team.n_threads):
        first = start + lane * (stop - start) // n_lanes
        end = start + (lane + 1) * (stop - start) // n_lanes
        gradient = team.gradients[lane if learn else 0]
        if learn:
            _fill(gradient, 0)
        total = 0.0
        for block in range(first, end, team.block_rows):
            if (
                _atomic_load(team.control, INTERRUPT) != 0
                and end - first > team.block_rows
            ):
                team.control[ABANDONED] = 1
                break
            n_rows = min(team.block_rows, end - block)
            total += _block_losses(model, rows, order, block, n_rows, team, rank)
            if learn:
                _backward(model, team, rank, n_rows, gradient)
        team.lane_losses[lane] = total


@_jit()
def _sum_lane_losses(team, n_lanes):
    total = 0.0
    for lane in range(n_lanes):
        total += team.lane_losses[lane]
    return total


@_jit()
def _share(team, rank, n):
    """The slice of n independent entries that this rank works on."""
    return rank * n // team.n_threads, (rank + 1) * n // team.n_threads


@_jit()
def _sum_lane_gradients(model, weight, n_lanes, team, lo, hi):
    """Entries lo to hi of the objective's gradient, in the first lane's place."""
    params, gradient = model.params, team.gradients[0]
    for lane in range(1, n_lanes):
        _add(gradient[lo:hi], team.gradients[lane, lo:hi])
    factor = _like(1.0 / weight, params[0])
    for i in range(lo, hi):
        gradient[i] *= factor
    alpha = _like(model.objective.alpha, params[0])
    for i in range(lo, min(hi, model.network.n_weights)):
        gradient[i] += alpha * params[i]


@_jit(fastmath=_REDUCTION_MATH)
def _penalty(model):
    """The L2 penalty, alpha / 2 * sum of squared weights, in float64."""
    total = 0.0
    if model.objective.alpha > 0:
        for i in range(model.network.n_weights):
            total += np.float64(model.params[i]) * np.float64(model.params[i])
    return 0.5 * model.objective.alpha * total


@_inlined
def _mean_loss(model, rows, team, rank):
    """Mean data loss over rows, the same on every rank; NaN if a thread died."""
    order = team.order[:0]
    _lanes(model, rows, order, _FIRST, rows.n_rows, team, rank, _EVALUATE)
    if not _barrier(team) or team.control[ABANDONED]:
        return np.nan
    total = _sum_lane_losses(team, _n_lanes(rows.n_rows))
    _barrier(team)  # nobody overwrites lane_losses while another still reads
    return total / rows.total_weight


@_kernel
def objective_value(network, objective, rows, params, team, rank):
    """The objective over all rows."""
    model = Model(network, objective, params)
    data_loss = _mean_loss(model, rows, team, rank)
    return data_loss + _penalty(model)


@_kernel
def objective_and_gradient(network, objective, rows, params, gradient, team, rank):
    """The objective over all rows; its gradient goes to `gradient` (n_params,)."""
    model = Model(network, objective, params)
    n_rows, order = rows.n_rows, team.order[:0]
    _lanes(model, rows, order, _FIRST, n_rows, team, rank, _LEARN)
    if not _barrier(team) or team.control[ABANDONED]:
        return np.nan
    n_lanes = _n_lanes(n_rows)
    total = _sum_lane_losses(team, n_lanes)
    lo, hi = _share(team, rank, params.size)
    weight = rows.total_weight
    _sum_lane_gradients(model, weight, n_lanes, team, lo, hi)
    _copy(gradient[lo:hi], team.gradients[0, lo:hi])
    _barrier(team)
    return total / weight + _penalty(model)


# ---------------------------------------------------------------------------
# Solvers
# ---------------------------------------------------------------------------

CONSTANT, INVERSE_TIME, INVSCALING, ADAPTIVE, COSINE = range(5)
_SMALLEST_ADAPTIVE_RATE = 1e-6  # as in MLPRegressor
_ADAPTIVE_DIVISOR = 5.0  # as in MLPRegressor


@_jit()
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


ADAM, SGD, RMSPROP = range(3)

# The network sees data of order one. A smaller entry of the gradient is a rounding
# error: of centred data, if their mean is up to 10^4 times their spread. Adam and
# RMSprop divide by the entry's size and would make steps of it, different ones for
# the same rows in another order.
_GRADIENT_ROUNDING = 1e-11


@_jit()
def _beyond_rounding(g):
    return _like(0.0, g) if abs(g) < _like(_GRADIENT_ROUNDING, g) else g


@_jit()
def _adam(params, gradient, mean, square, rate, solver, n_updates):
    """Kingma & Ba, "Adam", 2015, in the order of operations at the end of section 2."""
    zero = params[0]
    beta_1, beta_2 = _like(solver.beta_1, zero), _like(solver.beta_2, zero)
    rest_1, rest_2 = _like(1 - solver.beta_1, zero), _like(1 - solver.beta_2, zero)
    epsilon = _like(solver.epsilon, zero)
    correction_1 = 1 - solver.beta_1**n_updates
    correction_2 = 1 - solver.beta_2**n_updates
    step = _like(rate * math.sqrt(correction_2) / correction_1, zero)
    for i in range(params.size):
        g = _beyond_rounding(gradient[i])
        mean[i] = beta_1 * mean[i] + rest_1 * g
        square[i] = beta_2 * square[i] + rest_2 * g * g
        params[i] -= step * mean[i] / (math.sqrt(square[i]) + epsilon)


@_jit()
def _sgd(params, gradient, velocity, rate, solver):
    """Gradient descent with classical or Nesterov momentum.

    Sutskever et al., "On the importance of initialization and momentum in deep
    learning", 2013; Nesterov's in the form of Bengio et al., 2013, equation 7.
    """
    zero = params[0]
    momentum, step = _like(solver.momentum, zero), _like(rate, zero)
    if solver.nesterovs_momentum:
        for i in range(params.size):
            velocity[i] = momentum * velocity[i] - step * gradient[i]
            params[i] += momentum * velocity[i] - step * gradient[i]
    else:
        for i in range(params.size):
            velocity[i] = momentum * velocity[i] - step * gradient[i]
            params[i] += velocity[i]


@_jit()
def _rmsprop(params, gradient, square, rate, solver, n_updates):
    """Tieleman & Hinton, "RMSprop", 2012, with Adam's bias correction.

    Without it the first steps are larger by 1 / sqrt(1 - beta_2).
    """
    zero = params[0]
    beta_2, rest_2 = _like(solver.beta_2, zero), _like(1 - solver.beta_2, zero)
    epsilon = _like(solver.epsilon, zero)
    step = _like(rate * math.sqrt(1 - solver.beta_2**n_updates), zero)
    for i in range(params.size):
        g = _beyond_rounding(gradient[i])
        square[i] = beta_2 * square[i] + rest_2 * g * g
        params[i] -= step * g / (math.sqrt(square[i]) + epsilon)


@_jit()
def _update(solver, state, gradient, rate, n_updates, lo, hi):
    """Update number `n_updates` (from 1) of the parameters lo to hi."""
    params, gradient = state.params[lo:hi], gradient[lo:hi]
    moment_1, moment_2 = state.moment_1[lo:hi], state.moment_2[lo:hi]
    if params.size == 0:
        return
    if solver.code == ADAM:
        _adam(params, gradient, moment_1, moment_2, rate, solver, n_updates)
    elif solver.code == SGD:
        _sgd(params, gradient, moment_1, rate, solver)
    elif solver.code == RMSPROP:
        _rmsprop(params, gradient, moment_2, rate, solver, n_updates)
    else:
        raise ValueError("unknown solver code")


# ---------------------------------------------------------------------------
# Epochs
# ---------------------------------------------------------------------------

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_U27, _U30, _U31, _U32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@_jit()
def _mix(x):
    """Scramble 64 bits: the finaliser of SplitMix64 (Steele, Lea & Flood, 2014)."""
    x = (x ^ (x >> _U30)) * _MIX_1
    x = (x ^ (x >> _U27)) * _MIX_2
    return x ^ (x >> _U31)


@_jit()
def _shuffle(order, seed, epoch):
    """Order of the rows in an epoch: a function of the seed and the epoch alone.

    A Fisher-Yates shuffle of 0, ..., n - 1. That it keeps no state between epochs
    makes going on after a pause exact.
    """
    key = _mix(_mix(np.uint64(seed)) + np.uint64(epoch))
    for i in range(order.size):
        order[i] = i
    for i in range(order.size - 1, 0, -1):
        bits = _mix(key + _GOLDEN_GAMMA * np.uint64(i)) >> _U32
        # Lemire, "Fast random integer generation in an interval", 2019, section 3.
        j = np.int64((bits * np.uint64(i + 1)) >> _U32)
        order[i], order[j] = order[j], order[i]


@_inlined
def _batch_step(model, rows, solver, state, start, stop, team, rank):
    """One update; returns the batch's weighted loss. Every rank knows all scalars."""
    order = team.order
    n_updates = state.counters[N_UPDATES]
    if rank == 0:
        team.penalty[0] = _penalty(model)
    _lanes(model, rows, order, start, stop, team, rank, _LEARN)
    if not _barrier(team) or team.control[ABANDONED]:
        return np.nan
    # Against the mean weight, not the batch's own, the gradient is unbiased.
    weight = rows.total_weight / rows.n_rows * (stop - start)
    n_lanes = _n_lanes(stop - start)
    loss = _sum_lane_losses(team, n_lanes) + team.penalty[0] * weight
    lo, hi = _share(team, rank, state.params.size)
    _sum_lane_gradients(model, weight, n_lanes, team, lo, hi)
    n_epochs = state.counters[N_EPOCHS] - state.counters[CYCLE_START]
    epoch = n_epochs + start / rows.n_rows
    rate = _learning_rate(solver, n_updates, epoch, state.scalars[RATE_FACTOR])
    _update(solver, state, team.gradients[0], rate, n_updates + 1, lo, hi)
    if rank == 0:
        state.counters[N_UPDATES] = n_updates + 1
        interrupt = _atomic_load(team.control, INTERRUPT)
        team.control[STATUS] = INTERRUPTED if interrupt else RUNNING
    _barrier(team)
    return loss


@_jit()
def _keep_best(state, loss):
    if loss < state.scalars[BEST_KEPT]:
        state.scalars[BEST_KEPT] = loss
        _copy(state.best_params, state.params)


@_jit()
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


@_inlined
def _finish_epoch(model, validation, solver, state, loss, team, rank):
    """Record an epoch's loss, keep the best weights, decide: a status, on all ranks.

    The loss that decides which weights are kept is the validation loss where there
    are validation rows, else the training loss.
    """
    kept = loss
    if validation.n_rows > 0:
        kept = _mean_loss(model, validation, team, rank)
        kept += _penalty(model)
        if team.control[ABANDONED]:
            return INTERRUPTED
    if rank == 0:
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
            _keep_best(state, kept)
            if _plateau(solver, state, kept if solver.watch_validation else loss):
                status = CONVERGED
        team.control[STATUS] = status
    _barrier(team)
    status = team.control[STATUS]
    _barrier(team)
    return status


@_kernel
def finish_epoch(network, objective, validation, solver, state, loss, team, rank):
    """`_finish_epoch` for a solver that runs in Python."""
    model = Model(network, objective, state.params)
    return _finish_epoch(model, validation, solver, state, loss, team, rank)


@_kernel
def train(network, objective, data, solver, state, n_epochs, team, rank):
    """Run up to `n_epochs` epochs of a stochastic solver; return a status.

    `data` are the training and the validation rows. An interrupt ends the run
    between two batches, with the state that they left.
    """
    model = Model(network, objective, state.params)
    rows, validation = data
    for _ in range(n_epochs):
        if solver.shuffle and rank == 0:
            _shuffle(team.order, state.counters[SEED], state.counters[N_EPOCHS])
        if not _barrier(team):
            return INTERRUPTED
        total = 0.0
        for start in range(0, rows.n_rows, solver.batch_size):
            stop = min(start + solver.batch_size, rows.n_rows)
            total += _batch_step(model, rows, solver, state, start, stop, team, rank)
            given_up = _atomic_load(team.control, BROKEN) or team.control[ABANDONED]
            if given_up or team.control[STATUS] == INTERRUPTED:
                return INTERRUPTED
        loss = total / rows.total_weight
        status = _finish_epoch(model, validation, solver, state, loss, team, rank)
        if status != RUNNING:
            return status
    return RUNNING


# ---------------------------------------------------------------------------
# Inference
# ---------------------------------------------------------------------------


@_jit()
def _affine_by_row(a, weights, biases, z):
    """Write a @ weights + biases to z, each row by the same operations in one order.

    BLAS rounds a row differently depending on where in a block it stands. The number
    of rows is a multiple of ROW_TILE; four inputs at a time save loads and stores.
    """
    n_in, n_out = weights.shape
    for i in range(0, a.shape[0], ROW_TILE):
        for r in range(i, i + ROW_TILE):
            _copy(z[r], biases)
        z0, z1, z2, z3 = z[i], z[i + 1], z[i + 2], z[i + 3]
        a0, a1, a2, a3 = a[i], a[i + 1], a[i + 2], a[i + 3]
        k = 0
        while k + 4 <= n_in:
            w0, w1 = weights[k], weights[k + 1]
            w2, w3 = weights[k + 2], weights[k + 3]
            a00, a01, a02, a03 = a0[k], a0[k + 1], a0[k + 2], a0[k + 3]
            a10, a11, a12, a13 = a1[k], a1[k + 1], a1[k + 2], a1[k + 3]
            a20, a21, a22, a23 = a2[k], a2[k + 1], a2[k + 2], a2[k + 3]
            a30, a31, a32, a33 = a3[k], a3[k + 1], a3[k + 2], a3[k + 3]
            for j in range(n_out):
                z0[j] += a00 * w0[j] + a01 * w1[j] + a02 * w2[j] + a03 * w3[j]
                z1[j] += a10 * w0[j] + a11 * w1[j] + a12 * w2[j] + a13 * w3[j]
                z2[j] += a20 * w0[j] + a21 * w1[j] + a22 * w2[j] + a23 * w3[j]
                z3[j] += a30 * w0[j] + a31 * w1[j] + a32 * w2[j] + a33 * w3[j]
            k += 4
        while k < n_in:
            w0 = weights[k]
            for j in range(n_out):
                z0[j] += a0[k] * w0[j]
                z1[j] += a1[k] * w0[j]
                z2[j] += a2[k] * w0[j]
                z3[j] += a3[k] * w0[j]
            k += 1


@_kernel
def propagate(network, params, rows, mean, scale, out, team, rank):
    """Send rows through an untied network; out (n_rows, n_outputs) = a * scale + mean.

    `mean` is (n_outputs,), `scale` (1,). A row's result does not depend on the other
    rows.
    """
    n_layers = network.activations.size
    units, slopes = team.units[rank], team.slopes[rank]
    n_blocks = (rows.n_rows + INFERENCE_ROWS - 1) // INFERENCE_ROWS
    for block in range(rank, n_blocks, team.n_threads):
        if _atomic_load(team.control, INTERRUPT) != 0:
            break
        start = block * INFERENCE_ROWS
        n_rows = min(INFERENCE_ROWS, rows.n_rows - start)
        n_padded = (n_rows + ROW_TILE - 1) // ROW_TILE * ROW_TILE
        picked = team.picked[rank, :n_rows]
        _pick(rows, team.order[:0], start, picked)
        x = _units(units, network, 0, INFERENCE_ROWS, n_padded)
        _fill(x[n_rows:].reshape(-1), 0)
        _gather(rows, picked, x)
        for layer in range(n_layers):
            a = _units(units, network, layer, INFERENCE_ROWS, n_padded)
            z = _units(units, network, layer + 1, INFERENCE_ROWS, n_padded)
            weights = _weights(params, network, layer)
            _affine_by_row(a, weights, _biases(params, network, layer), z)
            slope = _units(slopes, network, layer + 1, INFERENCE_ROWS, n_padded)
            _activate(network.activations[layer], z.reshape(-1), slope.reshape(-1))
        z = _units(units, network, n_layers, INFERENCE_ROWS, n_padded)
        for i in range(n_rows):
            for j in range(z.shape[1]):
                out[start + i, j] = z[i, j] * scale[0] + mean[j]


# ---------------------------------------------------------------------------
# Names
# ---------------------------------------------------------------------------


class Loss(NamedTuple):
    """What the rest of the package has to know of a loss."""

    code: int
    output_activation: str  # what "auto" means
    outputs: tuple[str, ...] | None  # the legal output activations; None: all
    low: float  # inputs are in [low, high]
    high: float

    @property
    def has_activation(self):
        """Whether the loss applies the output activation itself."""
        return self.outputs is not None

    @property
    def is_scaled(self):
        """Whether the network sees centred and scaled data: no range is given."""
        return math.isinf(self.low)


ACTIVATIONS = {
    "identity": IDENTITY,
    "logistic": LOGISTIC,
    "sigmoid": LOGISTIC,
    "tanh": TANH,
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "elu": ELU,
    "selu": SELU,
    "gelu": GELU,
    "silu": SILU,
    "softplus": SOFTPLUS,
}
LOSSES = {
    "squared_error": Loss(SQUARED_ERROR, "identity", None, -math.inf, math.inf),
    "absolute_error": Loss(ABSOLUTE_ERROR, "identity", None, -math.inf, math.inf),
    "huber": Loss(HUBER, "identity", None, -math.inf, math.inf),
    "log_loss": Loss(LOG_LOSS, "logistic", ("logistic", "sigmoid"), 0.0, 1.0),
    "poisson": Loss(POISSON, "softplus", ("softplus",), 0.0, math.inf),
}
SOLVERS = {"adam": ADAM, "sgd": SGD, "rmsprop": RMSPROP}
SCHEDULES = {
    "constant": CONSTANT,
    "inverse_time": INVERSE_TIME,
    "invscaling": INVSCALING,
    "adaptive": ADAPTIVE,
    "cosine": COSINE,
}
