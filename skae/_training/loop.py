"""The training loop: epochs, validation, stopping, which weights are kept.

Everything here works on data that the estimator has validated, and computes through
the kernels of ``_compiled``.
"""

import abc
import contextlib
import math
import time
from typing import NamedTuple

import numpy as np

from skae._compiled import (
    batches,
    elementwise,
    epochs,
    losses,
    optimizers,
    records,
    sharding,
)
from skae._compiled.code_terms import CodeTerm
from skae._compiled.compilation import CFunction
from skae._compiled.corruption import Corruption
from skae._compiled.epochs import DIVERGED, INTERRUPTED, RUNNING
from skae._compiled.optimizers import SOLVERS
from skae._compiled.records import NO_EPOCH, NOTHING
from skae._data.rows import AnyRows, Rows, pieces
from skae._runtime.threads import (
    Learning,
    ThreadTeam,
    make_workspace,
    n_threads_for,
)
from skae._training.reporting import SECONDS_BETWEEN_LINES
from skae._training.state import new_progress, saved_progress

# A multiplication and an addition for each weight and row in the forward pass, and
# twice that in the backward pass. A unit's activation and its derivatives take as long
# as so many operations of products.
_FLOPS_PER_WEIGHT = 6
_FLOPS_PER_UNIT = 100
# Losses of the same data, cut into other partitions, differ by less, relatively, or by
# so many roundings of their type. Kernels sum the losses of a block of float32 in
# float32; half a rounding was found for 1,000 to 100,000 rows.
_SAME, _SAME_ROUNDINGS = 1e-9, 8


# Of rows that are not shuffled.
_OWN_ORDER = np.empty(0, dtype=np.int32)


class Objective(NamedTuple):
    """What is trained, on what."""

    network: records.Network
    loss: losses.Loss
    alpha: float
    rows: AnyRows
    validation: Rows  # of no rows: no validation
    corruption: Corruption | None = None
    term: CodeTerm | None = None
    # Whether validation rows are of the same data, so that others come with others.
    validates_itself: bool = True

    def model(self, params):
        """The network with parameters."""
        return records.Model(self.network, params, self.alpha)

    @property
    def monitored(self):
        """The rows whose loss decides which weights are kept."""
        return self.validation if self.validation.n_rows else self.rows


class Curves(NamedTuple):
    """What epochs leave behind, an entry each, in lists of float."""

    loss: list
    validation: list  # empty without validation rows
    term: list  # of the code; empty without one

    @classmethod
    def empty(cls):
        return cls([], [], [])

    def followed_by(self, later):
        return Curves(*(a + b for a, b in zip(self, later, strict=True)))


class Kept(NamedTuple):
    """Weights that a fit keeps."""

    params: np.ndarray
    epoch: int  # after how many epochs; 0: the initial weights
    name: str  # "params", "best_params", "initial_params" or "selected"

    @classmethod
    def last(cls, training):
        """The weights of the last epoch."""
        state = training.state
        return cls(state.params.copy(), state.progress.n_epochs, "params")

    @classmethod
    def initial(cls, initial_params):
        """The weights before any training."""
        return cls(initial_params.copy(), 0, "initial_params")


class DivergedError(ArithmeticError):
    """The loss or a weight stopped being finite."""


class ValidationLossError(ArithmeticError):
    """The loss of given validation rows is not finite from the start."""


def new_state(params, seed, *, has_moments):
    """The state before any training, from initial parameters."""
    n_moments = params.size if has_moments else 0
    return records.State(
        params=params.copy(),
        moment_1=np.zeros(n_moments, dtype=params.dtype),
        moment_2=np.zeros(n_moments, dtype=params.dtype),
        best_params=params.copy(),
        progress=new_progress(
            seed=seed,
            best_loss=np.inf,
            best_kept=np.inf,
            rate_factor=1.0,
            start_loss=np.nan,
        ),
        loss_curve=np.empty(0),
        validation_curve=np.empty(0),
        term_curve=np.empty(0),
    )


class Training(abc.ABC):
    """One run of a solver on an objective; a context manager that holds its threads.

    A subclass runs epochs. It is made from initial parameters, or goes on from what
    `saved_state` of an earlier run of the same solver returned.

    Parameters
    ----------
    objective : Objective

    solver : records.Solver

    state : records.State
        Changed in place.

    max_epochs : int, default=None
        How many epochs there will be at most, None for the solver's `max_iter`: for
        little work in all threads are not worth their start.
    """

    has_moments = True
    # Epochs in one call of the kernel, when nobody wants to hear of each: bounds the
    # memory of the loss curves, not the speed.
    epochs_per_call = 10_000
    status: int = RUNNING  # of the last epochs
    # Whether a fit that ends now, if there are epochs left, ends before its time.
    is_cut_short = True

    def __init__(self, objective, solver, state, max_epochs=None):
        self.objective, self.solver, self.state = objective, solver, state
        self.curves = Curves.empty()  # of the epochs that were run
        network, n_rows = objective.network, objective.rows.n_rows
        batch_size = min(solver.batch_size, n_rows)
        n_shards = sharding.n_shards(batch_size, sharding.block_rows(network))
        flops_per_row = _FLOPS_PER_WEIGHT * network.n_weights
        self._flops_per_row = flops_per_row + _FLOPS_PER_UNIT * network.n_units
        flops = (max_epochs or solver.max_iter) * self._flops_per_row * n_rows
        n_threads = n_threads_for(n_shards, flops, self._flops_per_row * batch_size)
        self._team = ThreadTeam(n_threads)
        self._workspace = make_workspace(
            network,
            state.params.dtype,
            team=self._team,
            rows=self._rows_in_memory(),
            learning=Learning(
                objective.loss,
                self._step_op(),
                batch_size,
                bool(solver.shuffle),
                state.progress.seed,
                objective.corruption,
                objective.term,
            ),
        )
        for position, name in optimizers.HYPERPARAMETERS.items():
            self._workspace.settings[:, position] = getattr(solver, name)

    @classmethod
    def begin(cls, objective, solver, initial_params, seed, max_epochs=None):
        """The training that starts with the initial parameters."""
        state = new_state(initial_params, seed, has_moments=cls.has_moments)
        return cls(objective, solver, state, max_epochs)

    @classmethod
    def resume(cls, objective, solver, previous, max_epochs=None):
        """The training that continues from a `TrainingState`, which stays as it is."""
        arrays = {name: array.copy() for name, array in previous.arrays.items()}
        del arrays["counters"], arrays["scalars"]
        curves = dict.fromkeys(records.CURVES, np.empty(0))
        state = records.State(progress=previous.progress(), **arrays, **curves)
        return cls(objective, solver, state, max_epochs)

    def saved_state(self):
        """What a `TrainingState` has of the training, by attribute."""
        arrays = self.state._asdict()
        for name in ("progress", *records.CURVES):
            del arrays[name]
        arrays |= saved_progress(self.state.progress)
        return {"arrays": arrays}

    @property
    def n_epochs_of_fit(self):
        """Epochs of the last fit so far, before it was cut short included."""
        progress = self.state.progress
        return progress.n_epochs - progress.cycle_start

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        # Who interrupts now gets what has been trained.
        with contextlib.suppress(KeyboardInterrupt):
            self._team.__exit__(*exc_info)

    def value(self, params, rows=None):
        """The objective over some rows, by default the monitored ones."""
        rows = self.objective.monitored if rows is None else rows
        return self.values([params], rows)[0]

    def values(self, candidates, rows):
        """The objective over rows with each of some parameters, in one pass."""
        losses = self._summed_losses(candidates, rows)
        return [
            loss / rows.total_weight + self._penalty(params)
            for loss, params in zip(losses, candidates, strict=True)
        ]

    def _summed_losses(self, candidates, rows):
        """The data losses, summed over rows, with each of some parameters."""
        models = [self.objective.model(params) for params in candidates]
        totals = [0.0] * len(models)
        for piece in pieces(rows):
            for i, model in enumerate(models):
                totals[i] += self._run_on(batches.summed_loss, model, piece)
        return totals

    def _summed_gradient(self, params, rows=None):
        """The data loss, summed over rows, by default all, and its float64 gradient."""
        rows = self.objective.rows if rows is None else rows
        model, total, gradient = self.objective.model(params), 0.0, 0.0
        for piece in pieces(rows):
            self._check_room(piece.n_rows)
            batch = _OWN_ORDER, 0, piece.n_rows, NO_EPOCH
            total += self._run_on(batches.summed_gradient, model, piece, *batch)
            gradient = gradient + self._workspace.gradients[0].astype(np.float64)
        return total, gradient

    def _penalty(self, params):
        """The penalty of the weights."""
        squares, alpha = np.zeros(1), self.objective.alpha
        if alpha:
            weights = params[: self.objective.network.n_weights]
            elementwise.add_squares(weights, squares, weights.size)
        return 0.5 * alpha * squares[0]

    def _check_room(self, n_rows):
        """Raise ValueError if shards of so many rows have no gradient each."""
        n_shards = sharding.n_shards(n_rows, self._workspace.block_rows)
        if n_shards > len(self._workspace.gradients):
            raise ValueError(
                f"the working memory is that of smaller batches than of {n_rows} rows"
            )

    def _check_epoch(self, rows):
        """Raise ValueError if the working memory is not that of such an epoch."""
        self._check_room(min(self.solver.batch_size, rows.n_rows))
        if self.solver.shuffle and self._workspace.order.size < rows.n_rows:
            raise ValueError(
                f"the working memory has an order of {self._workspace.order.size} "
                f"rows, not of {rows.n_rows}"
            )

    def _run_on(self, kernel, model, rows, *args):
        """Run a kernel on some of the rows, in memory."""
        rows.check(model)
        if rows is not self.objective.rows:
            # Others may have been at the same address.
            self._workspace.held["values"] = NOTHING
        flops = self._flops_per_row * rows.n_rows
        return self._team.run(kernel, model, rows, *args, self._workspace, flops=flops)

    def _rows_in_memory(self):
        """Examples of the rows that kernels will read, by which buffers are made.

        First, of those to train on, as many as kernels see together at most.
        """
        rows = self.objective.rows
        first = rows if rows.is_in_memory else next(pieces(rows))
        return [first, self.objective.validation]

    def _finish_epoch(self, state, loss):
        """Record an epoch that did not run in one kernel; returns a status."""
        kept = loss
        if self.objective.validation.n_rows:
            kept = self.value(state.params, self.objective.validation)
        args = self.solver, state, float(loss), float(kept), self._workspace
        return self._team.run(epochs.finish_epoch, *args, flops=0)

    def forget_objective(self):
        """Forget the values of the objective, which is, or may be, another now."""
        self.state.progress.best_loss = np.inf
        self.state.progress.n_no_change = 0

    @abc.abstractmethod
    def _step_op(self) -> CFunction:
        """What kernels do with a gradient."""

    @abc.abstractmethod
    def _run_epochs(self, state, n_epochs):
        """Train for up to `n_epochs` epochs, with curves to fill; returns a status."""

    def run_epochs(self, n_epochs):
        """Train for up to `n_epochs` epochs.

        Returns
        -------
        status : int

        curves : Curves
        """
        state, progress = self.state, self.state.progress
        progress.first_epoch = progress.n_epochs
        progress.epoch_rows = self.objective.rows.n_rows
        progress.n_before = progress.part = 0
        state = state._replace(**{name: np.zeros(n_epochs) for name in records.CURVES})
        try:
            status = self._run_epochs(state, n_epochs)
        except KeyboardInterrupt:
            status = INTERRUPTED
        n_done = progress.n_epochs - progress.first_epoch
        n_validated = n_done if self.objective.validation.n_rows else 0
        n_terms = n_done if self.objective.term is not None else 0
        return status, Curves(
            state.loss_curve[:n_done].tolist(),
            state.validation_curve[:n_validated].tolist(),
            state.term_curve[:n_terms].tolist(),
        )


class StochasticTraining(Training):
    """Training in mini-batches; whole epochs run in the kernel."""

    def _step_op(self):
        return list(SOLVERS.values())[self.solver.kind]

    def _run_epochs(self, state, n_epochs):
        model = self.objective.model(state.params)
        for rows in (self.objective.rows, self.objective.validation):
            rows.check(model)
        self._check_epoch(self.objective.rows)
        return self._team.run(
            epochs.train,
            model,
            self.objective.rows,
            self.objective.validation,
            self.solver,
            state,
            n_epochs,
            self._workspace,
            flops=self._flops_per_row * self.objective.rows.n_rows * n_epochs,
        )

    def batch_gradient(self, params, rows, order, batch, epoch):
        """The data loss of a batch, summed, its gradient, and its number of rows.

        Parameters
        ----------
        params : ndarray of shape (n_params,)

        rows : Rows

        order : ndarray of shape (n_rows,), dtype=int32
            Of the rows; empty for their own.

        batch : tuple of int
            First position in the order, and the last plus one.

        epoch : int
        """
        self._check_room(batch[1] - batch[0])
        n_ordered = order.size or rows.n_rows
        if not 0 <= batch[0] <= batch[1] <= n_ordered:
            raise ValueError(f"a batch at {batch} of {n_ordered} rows")
        args = self.objective.model(params), rows, order, *batch, epoch
        loss = self._run_on(batches.summed_gradient, *args)
        return loss, self._workspace.gradients[0].copy(), batch[1] - batch[0]

    def take_step(self, state, loss, gradient, weight):
        """One update, by the summed loss of a batch, its gradient and its weight."""
        self._workspace.gradients[0] = gradient
        args = self.solver, state, float(weight), self._workspace
        model = self.objective.model(state.params)
        penalty = self._team.run(epochs.step, model, *args, flops=0)
        state.progress.loss_sum += loss + penalty * weight
        state.progress.n_updates += 1


class PiecewiseTraining(StochasticTraining):
    """The same where no kernel sees all rows of an epoch."""

    @abc.abstractmethod
    def _run_epoch(self, state):
        """Train for an epoch; returns a status."""

    def _run_epochs(self, state, n_epochs):
        status: int = RUNNING
        for _ in range(n_epochs):
            status = self._run_epoch(state)
            if status != RUNNING:
                break
        return status


class StreamedTraining(PiecewiseTraining):
    """The same on rows that are not in memory together: they pass in windows."""

    def _rows_in_memory(self):
        first = self.objective.rows.first_window(self.solver.batch_size)
        return [first, self.objective.validation]

    def _run_epoch(self, state):
        rows, progress = self.objective.rows, state.progress
        progress.term_sum = progress.loss_sum = 0.0
        for number, start, window in rows.windows(self.solver.batch_size):
            progress.n_before, progress.part = start, number
            model = self.objective.model(state.params)
            args = model, window, self.solver, state
            self._check_epoch(window)
            status = self._run_on(epochs.train_part, *args)
            if status != RUNNING:
                return status
            del args, window  # before the next is read
        slot = progress.n_epochs - progress.first_epoch
        state.term_curve[slot] = progress.term_sum / rows.total_weight
        return self._finish_epoch(state, progress.loss_sum / rows.total_weight)


def prepare(training, initial_params):
    """Measure where training begins, and forget what was learnt on other data.

    The loss of the initial parameters, before any fit, on the monitored rows tells
    two things: what the kept weights must not exceed and, in a warm start, whether
    these rows are still the same. Whether they and those to train on are is returned.

    Raises
    ------
    ValidationLossError
        If only the loss of validation rows that were given is not finite.
    """
    state, objective = training.state, training.objective
    progress = state.progress
    start_loss = start_train_loss = training.value(initial_params)
    if not objective.validates_itself:
        start_train_loss = training.value(initial_params, objective.rows)
        if np.isfinite(start_train_loss) and not np.isfinite(start_loss):
            raise ValidationLossError
    is_monitored = _are_same(training, start_loss, progress.start_loss)
    if is_monitored and _are_same(
        training, start_train_loss, progress.start_train_loss
    ):
        return True
    if not is_monitored:
        is_new = np.array_equal(state.params, initial_params)
        best_kept = start_loss if is_new else training.value(state.params)
        state.best_params[:] = state.params
        progress.best_kept, progress.best_epoch = best_kept, progress.n_epochs
    training.forget_objective()
    # In the end: who interrupts before has the next fit do all of this.
    progress.start_loss, progress.start_train_loss = start_loss, start_train_loss
    return False


def _are_same(training, loss, before):
    """Whether two losses differ by roundings only."""
    dtype = training.state.params.dtype
    tolerance = max(_SAME, _SAME_ROUNDINGS * np.finfo(dtype).eps)
    return math.isclose(loss, before, rel_tol=tolerance)


def fit(training, initial_params, max_iter, report=None, n_done=0):
    """Measure where training begins, then `run` it.

    `n_done` of the epochs were done before the fit was cut short; with other rows than
    then a new one begins.
    """
    progress = training.state.progress
    if not n_done:
        progress.cycle_start = progress.n_epochs
    try:
        if not prepare(training, initial_params) and n_done:
            progress.cycle_start = progress.n_epochs
            n_done = 0
    except KeyboardInterrupt:
        return INTERRUPTED, Curves.empty()
    return run(training, max_iter - n_done, report)


def run(training, max_iter, report=None):
    """Train for up to `max_iter` epochs.

    Parameters
    ----------
    training : Training

    max_iter : int

    report : object, default=None
        Its `begin(max_iter)` is called before, and its `end(curves, is_last=...)`
        after an epoch: the first, the last, the one that is
        `report.epochs_to_next(n_done)` away, and more where epochs are slow. `end`
        returning True ends training.

    Returns
    -------
    status : int
        RUNNING when `max_iter` or the report ended it.

    curves : Curves
    """
    curves = training.curves = Curves.empty()
    try:
        status = _run(training, max_iter, report, curves)
        training.is_cut_short = status == INTERRUPTED
    except KeyboardInterrupt:  # between two calls of the kernel
        status = INTERRUPTED
    return status, curves


def _run(training, max_iter, report, curves):
    """`run`, filling the curves; returns the status."""
    status: int = RUNNING
    seconds_per_epoch = None
    while status == RUNNING and len(curves.loss) < max_iter:
        n_epochs = min(max_iter - len(curves.loss), training.epochs_per_call)
        if report is not None:
            report.begin(max_iter)
            n_epochs = min(
                n_epochs,
                _epochs_to_report(report, len(curves.loss), seconds_per_epoch),
            )
        begin = time.perf_counter()
        status, new = training.run_epochs(n_epochs)
        training.status = status
        training.is_cut_short = status in (RUNNING, INTERRUPTED)
        for curve, values in zip(curves, new, strict=True):
            curve += values
        if report is not None and new.loss:
            seconds_per_epoch = (time.perf_counter() - begin) / len(new.loss)
            is_last = status != RUNNING or len(curves.loss) == max_iter
            if report.end(curves, is_last=is_last):
                break
    return status


def _epochs_to_report(report, n_done, seconds_per_epoch):
    """Epochs until the next report: the first at once, slow ones more often."""
    if seconds_per_epoch is None:
        return 1
    at_most = max(1, int(SECONDS_BETWEEN_LINES / seconds_per_epoch))
    return min(report.epochs_to_next(n_done), at_most)


def kept_weights(training, initial_params):
    """The weights that a fit keeps, as `Kept`.

    With validation rows those of the best epoch; without, the last epoch's, unless
    their objective is higher than the start's: then the best epoch's. The last epoch's,
    too, as long as the objective has not been that which the losses are of.

    Raises
    ------
    DivergedError
        If no weights with a finite objective are at hand.
    """
    state = training.state
    last, initial = Kept.last(training), Kept.initial(initial_params)
    best = Kept(state.best_params.copy(), state.progress.best_epoch, "best_params")
    candidates = [last, best, initial]
    if training.objective.validation.n_rows:
        candidates = [best]
    if last.epoch < training.solver.first_judged:
        return last  # it was another objective
    for kept in candidates:
        loss = training.value(kept.params)
        # The start's loss is NaN if it was not, or could not be, computed.
        if np.isfinite(loss) and not loss > state.progress.start_loss:
            return kept
    if not np.isfinite(loss):
        raise DivergedError
    return kept


# A pass over some rows that makes their loss so many times as large has diverged.
_EXPLOSION = 10.0


def check_not_exploded(training, before, loss, earlier):
    """Raise DivergedError if a pass over the rows has made their loss much larger.

    `before` are the weights before the pass, `loss` that of the pass, and `earlier` a
    list of that of the pass before, if there was one: where they do not differ much,
    the rows need not be read again.
    """
    rows, is_scaled = training.objective.rows, training.objective.loss.is_scaled

    def is_larger(now, then):
        # A likelihood's logarithm may be near zero, or of either sign.
        unit = then if is_scaled else max(abs(then), rows.n_features)
        return now - then > _EXPLOSION * unit

    start = earlier or [training.value(before, rows)]
    weights = [training.state.params, before]
    if is_larger(loss, start[0]) and is_larger(*training.values(weights, rows)):
        raise DivergedError


def check_finite(training, status):
    """Raise DivergedError where training has left the finite numbers."""
    if status == DIVERGED or not np.isfinite(training.state.params).all():
        raise DivergedError
