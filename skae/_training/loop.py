"""The training loop: epochs, validation, stopping, which weights are kept.

Everything here works on data that the estimator has validated, and computes through
``kernels``.
"""

import abc
import contextlib
import math
import time
from typing import NamedTuple

import numpy as np

from skae._compiled import blocks, kernels, passes, records
from skae._compiled.code_passes import CodeTerm
from skae._compiled.compilation import CFunction
from skae._compiled.kernels import DIVERGED, INTERRUPTED, RUNNING
from skae._compiled.passes import SOLVERS
from skae._compiled.random_passes import Corruption
from skae._compiled.records import (
    BEST_EPOCH,
    BEST_KEPT,
    BEST_LOSS,
    CYCLE_START,
    EPOCH_ROWS,
    FIRST_EPOCH,
    LOSS_SUM,
    N_BEFORE,
    N_EPOCHS,
    N_NO_CHANGE,
    N_UPDATES,
    NO_EPOCH,
    NOTHING,
    PART,
    RATE_FACTOR,
    SEED,
    START_LOSS,
    START_TRAIN_LOSS,
    TERM_SUM,
)
from skae._data.rows import pieces
from skae._data.stream import StreamedRows
from skae._runtime.threads import (
    Learning,
    ThreadTeam,
    make_workspace,
    n_threads_for,
)
from skae._training.reporting import SECONDS_BETWEEN_LINES

# A multiplication and an addition for each weight and row in the forward pass, and
# twice that in the backward pass. A unit's activation and its derivatives take as long
# as so many operations of products.
_FLOPS_A_WEIGHT = 6
_FLOPS_A_UNIT = 100
# Losses of the same data, cut into other partitions, differ by less, relatively, or by
# so many roundings of their type. Kernels sum the losses of a block of float32 in
# float32; half a rounding was found for 1,000 to 100,000 rows.
_SAME, _SAME_ROUNDINGS = 1e-9, 8


class Problem(NamedTuple):
    """What is trained, on what."""

    network: records.Network
    loss: passes.Loss
    alpha: float
    rows: records.Rows | StreamedRows
    validation: records.Rows  # of no rows: no validation
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
        return cls(state.params.copy(), int(state.counters[N_EPOCHS]), "params")

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
    state = records.State(
        params=params.copy(),
        moment_1=np.zeros(n_moments, dtype=params.dtype),
        moment_2=np.zeros(n_moments, dtype=params.dtype),
        best_params=params.copy(),
        counters=np.zeros(records.N_COUNTERS, dtype=np.int64),
        scalars=np.zeros(records.N_SCALARS),
        loss_curve=np.empty(0),
        validation_curve=np.empty(0),
        term_curve=np.empty(0),
    )
    state.counters[SEED] = seed
    state.scalars[[BEST_LOSS, BEST_KEPT]] = np.inf
    state.scalars[RATE_FACTOR] = 1.0
    state.scalars[START_LOSS] = np.nan
    return state


class Training(abc.ABC):
    """One run of a solver on a problem; a context manager that holds its threads.

    A subclass runs epochs. It is made from initial parameters, or goes on from what
    `saved_state` of an earlier run of the same solver returned.

    Parameters
    ----------
    problem : Problem

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
    epochs_a_call = 10_000
    status: int = RUNNING  # of the last epochs
    # Whether a fit that ends now, if there are epochs left, ends before its time.
    is_cut_short = True

    def __init__(self, problem, solver, state, max_epochs=None):
        self.problem, self.solver, self.state = problem, solver, state
        self.curves = Curves.empty()  # of the epochs that were run
        network, n_rows = problem.network, problem.rows.n_rows
        batch_size = min(solver.batch_size, n_rows)
        n_lanes = blocks.n_lanes(batch_size, blocks.block_rows(network))
        flops_a_row = _FLOPS_A_WEIGHT * network.n_weights
        self._flops_a_row = flops_a_row + _FLOPS_A_UNIT * network.n_units
        flops = (max_epochs or solver.max_iter) * self._flops_a_row * n_rows
        n_threads = n_threads_for(n_lanes, flops, self._flops_a_row * batch_size)
        self._team = ThreadTeam(n_threads)
        self._workspace = make_workspace(
            network,
            state.params.dtype,
            team=self._team,
            rows=self._rows_in_memory(),
            learning=Learning(
                problem.loss,
                self._step_pass(),
                batch_size,
                bool(solver.shuffle),
                int(state.counters[SEED]),
                problem.corruption,
                problem.term,
            ),
        )
        for position, name in passes.HYPERPARAMETERS.items():
            self._workspace.settings[:, position] = getattr(solver, name)

    @classmethod
    def begin(cls, problem, solver, initial_params, seed, max_epochs=None):
        """The training that starts with the initial parameters."""
        state = new_state(initial_params, seed, has_moments=cls.has_moments)
        return cls(problem, solver, state, max_epochs)

    @classmethod
    def resume(cls, problem, solver, previous, max_epochs=None):
        """The training that continues from a `TrainingState`, which stays as it is."""
        arrays = {name: array.copy() for name, array in previous.arrays.items()}
        none = np.empty(0)
        curves = dict.fromkeys(records.CURVES, none)
        state = records.State(**arrays, **curves)
        return cls(problem, solver, state, max_epochs)

    def saved_state(self):
        """What a `TrainingState` has of the training, by attribute."""
        arrays = self.state._asdict()
        arrays = {k: v for k, v in arrays.items() if k not in records.CURVES}
        for name, lasting in (
            ("counters", records.LASTING_COUNTERS),
            ("scalars", records.LASTING_SCALARS),
        ):
            at, kept = list(lasting.values()), np.zeros_like(arrays[name])
            kept[at] = arrays[name][at]
            arrays[name] = kept
        return {"arrays": arrays}

    @property
    def n_epochs_of_fit(self):
        """Epochs of the last fit so far, before it was cut short included."""
        counters = self.state.counters
        return int(counters[N_EPOCHS] - counters[CYCLE_START])

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        # Who interrupts now gets what has been trained.
        with contextlib.suppress(KeyboardInterrupt):
            self._team.__exit__(*exc_info)

    def value(self, params, rows=None):
        """The objective over rows of the problem, by default the monitored ones."""
        rows = self.problem.monitored if rows is None else rows
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
        models = [self.problem.model(params) for params in candidates]
        totals = [0.0] * len(models)
        for piece in pieces(rows):
            for i, model in enumerate(models):
                totals[i] += self._run_on(kernels.summed_loss, model, piece)
        return totals

    def _summed_gradient(self, params, rows=None):
        """The data loss, summed over rows, by default all, and its float64 gradient."""
        rows = self.problem.rows if rows is None else rows
        model, total, gradient = self.problem.model(params), 0.0, 0.0
        for piece in pieces(rows):
            self._check_room(piece.n_rows)
            batch = 0, 0, piece.n_rows, NO_EPOCH
            total += self._run_on(kernels.summed_gradient, model, piece, *batch)
            gradient = gradient + self._workspace.gradients[0].astype(np.float64)
        return total, gradient

    def _penalty(self, params):
        """The penalty of the weights."""
        squares, alpha = np.zeros(1), self.problem.alpha
        if alpha:
            weights = params[: self.problem.network.n_weights]
            passes.add_squares(weights, squares, weights.size)
        return 0.5 * alpha * squares[0]

    def _check_room(self, n_rows):
        """Raise ValueError if lanes of so many rows have no gradient each."""
        n_lanes = blocks.n_lanes(n_rows, self._workspace.block_rows)
        if n_lanes > len(self._workspace.gradients):
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
        if rows is not self.problem.rows:
            # Others may have been at the same address.
            self._workspace.held["values"] = NOTHING
        flops = self._flops_a_row * rows.n_rows
        return self._team.run(kernel, model, rows, *args, self._workspace, flops=flops)

    def _rows_in_memory(self):
        """Examples of the rows that kernels will read, by which buffers are made.

        First, of those to train on, as many as kernels see together at most.
        """
        rows = self.problem.rows
        first = rows if isinstance(rows, records.Rows) else next(pieces(rows))
        return [first, self.problem.validation]

    def _finish_epoch(self, state, loss):
        """Record an epoch that did not run in one kernel; returns a status."""
        kept = loss
        if self.problem.validation.n_rows:
            kept = self.value(state.params, self.problem.validation)
        args = self.solver, state, float(loss), float(kept), self._workspace
        return self._team.run(kernels.finish_epoch, *args, flops=0)

    def forget_objective(self):
        """Forget the values of the objective, which is, or may be, another now."""
        self.state.scalars[BEST_LOSS] = np.inf
        self.state.counters[N_NO_CHANGE] = 0

    @abc.abstractmethod
    def _step_pass(self) -> CFunction:
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
        state, counters = self.state, self.state.counters
        counters[FIRST_EPOCH] = counters[N_EPOCHS]
        counters[[EPOCH_ROWS, N_BEFORE, PART]] = self.problem.rows.n_rows, 0, 0
        state = state._replace(**{name: np.zeros(n_epochs) for name in records.CURVES})
        try:
            status = self._run_epochs(state, n_epochs)
        except KeyboardInterrupt:
            status = INTERRUPTED
        n_done = counters[N_EPOCHS] - counters[FIRST_EPOCH]
        n_validated = n_done if self.problem.validation.n_rows else 0
        n_terms = n_done if self.problem.term is not None else 0
        return status, Curves(
            state.loss_curve[:n_done].tolist(),
            state.validation_curve[:n_validated].tolist(),
            state.term_curve[:n_terms].tolist(),
        )


class StochasticTraining(Training):
    """Training in mini-batches; whole epochs run in the kernel."""

    def _step_pass(self):
        return list(SOLVERS.values())[self.solver.code]

    def _run_epochs(self, state, n_epochs):
        model = self.problem.model(state.params)
        for rows in (self.problem.rows, self.problem.validation):
            rows.check(model)
        self._check_epoch(self.problem.rows)
        return self._team.run(
            kernels.train,
            model,
            self.problem.rows,
            self.problem.validation,
            self.solver,
            state,
            n_epochs,
            self._workspace,
            flops=self._flops_a_row * self.problem.rows.n_rows * n_epochs,
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
        args = self.problem.model(params), rows, order, *batch, epoch
        loss = self._run_on(kernels.summed_gradient, *args)
        return loss, self._workspace.gradients[0].copy(), batch[1] - batch[0]

    def take_step(self, state, loss, gradient, weight):
        """One update, by the summed loss of a batch, its gradient and its weight."""
        self._workspace.gradients[0] = gradient
        args = self.solver, state, float(weight), self._workspace
        model = self.problem.model(state.params)
        penalty = self._team.run(kernels.step, model, *args, flops=0)
        state.scalars[LOSS_SUM] += loss + penalty * weight
        state.counters[N_UPDATES] += 1


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
        first = self.problem.rows.first_window(self.solver.batch_size)
        return [first, self.problem.validation]

    def _run_epoch(self, state):
        rows, scalars, counters = self.problem.rows, state.scalars, state.counters
        scalars[[TERM_SUM, LOSS_SUM]] = 0.0
        for number, start, window in rows.windows(self.solver.batch_size):
            counters[[N_BEFORE, PART]] = start, number
            model = self.problem.model(state.params)
            args = model, window, self.solver, state
            self._check_epoch(window)
            status = self._run_on(kernels.train_part, *args)
            if status != RUNNING:
                return status
            del args, window  # before the next is read
        slot = counters[N_EPOCHS] - counters[FIRST_EPOCH]
        state.term_curve[slot] = scalars[TERM_SUM] / rows.total_weight
        return self._finish_epoch(state, scalars[LOSS_SUM] / rows.total_weight)


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
    state, problem = training.state, training.problem
    start_loss = start_train_loss = training.value(initial_params)
    if not problem.validates_itself:
        start_train_loss = training.value(initial_params, problem.rows)
        if np.isfinite(start_train_loss) and not np.isfinite(start_loss):
            raise ValidationLossError
    is_monitored = _are_same(training, start_loss, START_LOSS)
    if is_monitored and _are_same(training, start_train_loss, START_TRAIN_LOSS):
        return True
    if not is_monitored:
        is_new = np.array_equal(state.params, initial_params)
        best_kept = start_loss if is_new else training.value(state.params)
        state.best_params[:] = state.params
        state.scalars[BEST_KEPT] = best_kept
        state.counters[BEST_EPOCH] = state.counters[N_EPOCHS]
    training.forget_objective()
    # In the end: who interrupts before has the next fit do all of this.
    state.scalars[[START_LOSS, START_TRAIN_LOSS]] = start_loss, start_train_loss
    return False


def _are_same(training, loss, position):
    """Whether a loss is that at a position of the scalars, but for roundings."""
    state = training.state
    tolerance = max(_SAME, _SAME_ROUNDINGS * np.finfo(state.params.dtype).eps)
    return math.isclose(loss, state.scalars[position], rel_tol=tolerance)


def fit(training, initial_params, max_iter, report=None, n_done=0):
    """Measure where training begins, then `run` it.

    `n_done` of the epochs were done before the fit was cut short; with other rows than
    then a new one begins.
    """
    counters = training.state.counters
    if not n_done:
        counters[CYCLE_START] = counters[N_EPOCHS]
    try:
        if not prepare(training, initial_params) and n_done:
            counters[CYCLE_START] = counters[N_EPOCHS]
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
    seconds_an_epoch = None
    while status == RUNNING and len(curves.loss) < max_iter:
        n_epochs = min(max_iter - len(curves.loss), training.epochs_a_call)
        if report is not None:
            report.begin(max_iter)
            n_epochs = min(
                n_epochs,
                _epochs_to_report(report, len(curves.loss), seconds_an_epoch),
            )
        begin = time.perf_counter()
        status, new = training.run_epochs(n_epochs)
        training.status = status
        training.is_cut_short = status in (RUNNING, INTERRUPTED)
        for curve, values in zip(curves, new, strict=True):
            curve += values
        if report is not None and new.loss:
            seconds_an_epoch = (time.perf_counter() - begin) / len(new.loss)
            is_last = status != RUNNING or len(curves.loss) == max_iter
            if report.end(curves, is_last=is_last):
                break
    return status


def _epochs_to_report(report, n_done, seconds_an_epoch):
    """Epochs until the next report: the first at once, slow ones more often."""
    if seconds_an_epoch is None:
        return 1
    at_most = max(1, int(SECONDS_BETWEEN_LINES / seconds_an_epoch))
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
    best_epoch = int(state.counters[BEST_EPOCH])
    best = Kept(state.best_params.copy(), best_epoch, "best_params")
    candidates = [last, best, initial]
    if training.problem.validation.n_rows:
        candidates = [best]
    if last.epoch < training.solver.first_judged:
        return last  # it was another objective
    for kept in candidates:
        loss = training.value(kept.params)
        # The start's loss is NaN if it was not, or could not be, computed.
        if np.isfinite(loss) and not loss > state.scalars[START_LOSS]:
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
    rows, is_scaled = training.problem.rows, training.problem.loss.is_scaled

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
