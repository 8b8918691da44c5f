"""Training: a solver's steps, epochs, validation, and the weights that are kept."""

import math

import numpy as np
from numba import types

from skae._compiled.barrier import all_went_on, atomic_load, barrier
from skae._compiled.batches import (
    LEARN,
    UPDATE_ENTRIES,
    add_up_losses,
    batch_weight,
    run_shards,
    share_of,
    sum_gradients,
    sum_shards,
)
from skae._compiled.compilation import as_kernel, inlined, inner
from skae._compiled.denormals import flush_denormals, restore_denormals
from skae._compiled.intrinsics import call, doubles, integers, record
from skae._compiled.memory import address_at, block_of, settings_of
from skae._compiled.optimizers import (
    ALPHA,
    BETA_1,
    BETA_2,
    CORRECTION_1,
    CORRECTION_2,
    FACTOR,
    RATE,
)
from skae._compiled.records import (
    INTERRUPT,
    MODEL,
    PROGRESS,
    ROWS,
    SOLVER,
    STATE,
    STATUS,
    TEAM,
)
from skae._compiled.schedules import (
    ADAPTIVE,
    ADAPTIVE_DIVISOR,
    SMALLEST_ADAPTIVE_RATE,
    bias_correction,
    learning_rate,
)
from skae._compiled.sharding import shards_of

# Status of a run of epochs.
RUNNING, CONVERGED, DIVERGED, INTERRUPTED = range(4)
# Part p of an epoch is shuffled as epoch + p * EPOCHS_APART would be.
EPOCHS_APART = np.int64(2**32)


@inner
def _step(model, moments, n_shards, team, rank, part):
    """Sum the shards' gradients and make the solver's step for some parameters.

    `part` is the first parameter, the last plus one, and their penalty's alpha.
    """
    first, stop, alpha = part
    settings = settings_of(team, rank)
    doubles(settings)[ALPHA] = alpha
    for start in range(first, stop, UPDATE_ENTRIES):
        n = min(UPDATE_ENTRIES, stop - start)
        gradient = sum_gradients(n_shards, team, start, n)
        params = address_at(team, model.params, start)
        moment_1 = address_at(team, moments[0], start)
        moment_2 = address_at(team, moments[1], start)
        arrays = params, gradient, moment_1, moment_2
        call(team.ops, "solver", (*arrays, settings, n))


@inlined
def _update(model, moments, weight, n_shards, team, rank):
    """Make the solver's step for this rank's share, with the mini-batch's weight."""
    n_weights = model.network.n_weights
    lo, hi = share_of(team, rank, team.n_params)
    doubles(settings_of(team, rank))[FACTOR] = 1.0 / weight
    weights = lo, min(hi, n_weights), model.alpha
    biases = max(lo, n_weights), hi, 0.0
    _step(model, moments, n_shards, team, rank, weights)
    _step(model, moments, n_shards, team, rank, biases)


@inner
def _penalty(model, team):
    """L2 penalty, alpha / 2 * sum of squared weights."""
    if model.alpha == 0:
        return 0.0
    squares = doubles(team.penalty)
    squares[0] = 0.0
    arrays = model.params, team.penalty
    call(team.ops, "add_squares", (*arrays, model.network.n_weights))
    return 0.5 * model.alpha * squares[0]


@inlined
def _set_rates(solver, state, n_updates, start, team, rank):
    """Set the rank's learning rate for the mini-batch that starts at a position."""
    progress = record(state.progress, PROGRESS)
    settings = doubles(settings_of(team, rank))
    n_epochs = progress.n_epochs - progress.cycle_start
    epoch = n_epochs + (progress.n_before + start) / progress.epoch_rows
    factor = progress.rate_factor
    settings[RATE] = learning_rate(solver, n_updates, epoch, factor)
    settings[CORRECTION_1] = bias_correction(settings[BETA_1], n_updates + 1)
    settings[CORRECTION_2] = bias_correction(settings[BETA_2], n_updates + 1)


@inlined
def _batch_step(model, rows, solver, state, batch, team, rank):
    """Update the weights, and return whether the run was abandoned or interrupted.

    Rank 0 adds the loss to `loss_sum`. ABANDONED may only be read between the barrier
    after the shards and the next one: later, it may belong to the next mini-batch.
    STATUS is read after the last barrier, when rank 0 may already have written it again
    in `_finish_epoch`; it never writes INTERRUPTED there, so that all ranks agree.
    """
    start, stop = batch
    progress, control = record(state.progress, PROGRESS), integers(team.control)
    # Read before a barrier: rank 0 increases the count while others still update.
    penalty, n_updates = doubles(team.penalty), progress.n_updates
    if rank == 0:
        penalty[1] = _penalty(model, team)
    run_shards(model, rows, team.order, batch, team, rank, LEARN)
    if not all_went_on(team):
        return True
    weight = batch_weight(rows, stop - start)
    _set_rates(solver, state, n_updates, start, team, rank)
    moments = state.moment_1, state.moment_2
    n_shards = shards_of(stop - start, team.block_rows)
    _update(model, moments, weight, n_shards, team, rank)
    if rank == 0:
        loss = sum_shards(team, stop - start, 0) + penalty[1] * weight
        progress.loss_sum += loss
        progress.term_sum += sum_shards(team, stop - start, 1)
        progress.n_updates = n_updates + 1
        interrupt = atomic_load(control, INTERRUPT)
        control[STATUS] = INTERRUPTED if interrupt else RUNNING
    given_up = not barrier(team)
    return given_up or control[STATUS] == INTERRUPTED


@as_kernel(MODEL, SOLVER, STATE, float, TEAM, int, returns=types.float64)
def step(model, solver, state, weight, team, rank):
    """Make the solver's step with `gradients[0]`; return the penalty before, on rank 0.

    `weight` is the weight of the gradient's mini-batch.
    """
    model, team = record(model, MODEL), record(team, TEAM)
    solver, state = record(solver, SOLVER), record(state, STATE)
    before = flush_denormals()
    penalty = _penalty(model, team) if rank == 0 else 0.0
    barrier(team)
    n_updates = record(state.progress, PROGRESS).n_updates
    _set_rates(solver, state, n_updates, 0, team, rank)
    _update(model, (state.moment_1, state.moment_2), weight, 1, team, rank)
    barrier(team)
    restore_denormals(before)
    return penalty


@inlined
def _keep_best(state, loss, team):
    progress = record(state.progress, PROGRESS)
    if loss < progress.best_kept:
        progress.best_kept = loss
        progress.best_epoch = progress.n_epochs
        call(team.ops, "copy", (state.best_params, state.params, team.n_params))


@inner
def _plateau(solver, state, loss):
    """MLPRegressor's stopping rule: True after too many epochs without improvement."""
    progress = record(state.progress, PROGRESS)
    if loss > progress.best_loss - solver.tol:
        progress.n_no_change += 1
    else:
        progress.n_no_change = 0
    progress.best_loss = min(progress.best_loss, loss)
    if progress.n_no_change <= solver.n_iter_no_change:
        return False
    progress.n_no_change = 0
    rate = solver.learning_rate * progress.rate_factor
    if solver.schedule == ADAPTIVE and rate > SMALLEST_ADAPTIVE_RATE:
        progress.rate_factor /= ADAPTIVE_DIVISOR
        return False
    return True


@inlined
def _validation_loss(model, validation, loss, team, rank):
    """Objective of the validation rows, on rank 0, and whether the run was abandoned.

    Without validation rows it is `loss`. It decides which weights are kept.
    """
    if validation.n_rows == 0:
        return loss, False
    total, given_up = add_up_losses(model, validation, team, rank)
    kept = total / validation.total_weight
    return (kept + _penalty(model, team) if rank == 0 else kept), given_up


@inlined
def _finish_epoch(solver, state, loss, kept, team, rank):
    """Record an epoch's losses, keep the best weights; return a status, on all ranks.

    `kept` is the loss that decides which weights are kept.
    """
    progress, control = record(state.progress, PROGRESS), integers(team.control)
    if rank == 0:
        epoch = progress.n_epochs
        progress.n_epochs += 1
        slot = epoch - progress.first_epoch
        doubles(state.loss_curve)[slot] = loss
        doubles(state.validation_curve)[slot] = kept
        status = RUNNING
        if not (math.isfinite(loss) and math.isfinite(kept)):
            status = DIVERGED
        elif progress.n_epochs >= solver.first_judged:
            _keep_best(state, kept, team)
            if _plateau(solver, state, kept if solver.watch_validation else loss):
                status = CONVERGED
        control[STATUS] = status
    barrier(team)
    # It does not change before the next barrier.
    return control[STATUS]


@as_kernel(SOLVER, STATE, float, float, TEAM, int, returns=types.int64)
def finish_epoch(solver, state, loss, kept, team, rank):
    """Call `_finish_epoch` for an epoch that ran in parts."""
    solver, state = record(solver, SOLVER), record(state, STATE)
    return _finish_epoch(solver, state, loss, kept, record(team, TEAM), rank)


@inlined
def _train_part(model, rows, solver, state, team, rank):
    """Run the part of an epoch with these rows; return whether it was abandoned."""
    progress = record(state.progress, PROGRESS)
    block_of(team, rank).epoch = progress.n_epochs
    if solver.shuffle:
        if rank == 0:
            epoch = progress.n_epochs + progress.part * EPOCHS_APART
            key = progress.seed, epoch
            call(team.ops, "shuffle", (team.order, rows.n_rows, *key))
        if not barrier(team):
            return True
    for start in range(0, rows.n_rows, solver.batch_size):
        batch = start, min(start + solver.batch_size, rows.n_rows)
        if _batch_step(model, rows, solver, state, batch, team, rank):
            return True
    return False


@as_kernel(MODEL, ROWS, SOLVER, STATE, TEAM, int, returns=types.int64)
def train_part(model, rows, solver, state, team, rank):
    """Run the part of an epoch with these rows, and return a status."""
    model, rows, team = record(model, MODEL), record(rows, ROWS), record(team, TEAM)
    solver, state = record(solver, SOLVER), record(state, STATE)
    before = flush_denormals()
    given_up = _train_part(model, rows, solver, state, team, rank)
    restore_denormals(before)
    return INTERRUPTED if given_up else RUNNING


@inlined
def _train_batches(model, rows, batches, n_batches, solver, state, team, rank):
    """Make the steps of `train_batches`, and return whether they were interrupted."""
    progress = record(state.progress, PROGRESS)
    batches, losses = integers(batches), doubles(state.loss_curve)
    block_of(team, rank).epoch = progress.n_epochs
    for i in range(n_batches):
        batch = batches[3 * i], batches[3 * i + 1]
        if rank == 0:
            progress.loss_sum = 0.0
            progress.n_before = batches[3 * i + 2] - batch[0]
        has_rows = batch[1] > batch[0]
        if has_rows and _batch_step(model, rows, solver, state, batch, team, rank):
            return True
        if rank == 0:
            losses[i] = progress.loss_sum
    return False


@as_kernel(
    *(MODEL, ROWS, np.ndarray, int, SOLVER, STATE, TEAM, int), returns=types.int64
)
def train_batches(model, rows, batches, n_batches, solver, state, team, rank):
    """Make a step on each of some mini-batches, and return a status.

    `batches` (n_batches, 3) are the positions of each in the team's order, from the
    first to before the last, and the number of rows before it in the epoch; those
    without rows have no step. The loss curve begins with their losses.
    """
    model, rows, team = record(model, MODEL), record(rows, ROWS), record(team, TEAM)
    solver, state = record(solver, SOLVER), record(state, STATE)
    before = flush_denormals()
    given_up = _train_batches(
        model, rows, batches, n_batches, solver, state, team, rank
    )
    restore_denormals(before)
    return INTERRUPTED if given_up else RUNNING


@inlined
def _train(model, rows, validation, solver, state, n_epochs, team, rank):
    """Run the epochs of `train`, and return a status."""
    progress = record(state.progress, PROGRESS)
    for _ in range(n_epochs):
        loss = 0.0
        if rank == 0:
            progress.term_sum = progress.loss_sum = 0.0
        if _train_part(model, rows, solver, state, team, rank):
            return INTERRUPTED
        if rank == 0:
            slot = progress.n_epochs - progress.first_epoch
            doubles(state.term_curve)[slot] = progress.term_sum / rows.total_weight
            loss = progress.loss_sum / rows.total_weight
        kept, given_up = _validation_loss(model, validation, loss, team, rank)
        if given_up:
            return INTERRUPTED
        status = _finish_epoch(solver, state, loss, kept, team, rank)
        if status != RUNNING:
            return status
    return RUNNING


@as_kernel(MODEL, ROWS, ROWS, SOLVER, STATE, int, TEAM, int, returns=types.int64)
def train(model, rows, validation, solver, state, n_epochs, team, rank):
    """Run up to `n_epochs` epochs of a stochastic solver, and return a status.

    An interrupt ends the run between two mini-batches, in a valid state.
    """
    model, team = record(model, MODEL), record(team, TEAM)
    rows, validation = record(rows, ROWS), record(validation, ROWS)
    solver, state = record(solver, SOLVER), record(state, STATE)
    before = flush_denormals()
    status = _train(model, rows, validation, solver, state, n_epochs, team, rank)
    restore_denormals(before)
    return status
