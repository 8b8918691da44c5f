"""The training loop: epochs, validation, stopping, the choice of weights.

The data were validated by the estimator; kernels of ``_compiled`` do the computing.
"""

import abc
import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from skae._compiled import (
    batches,
    compilation,
    elementwise,
    epochs,
    losses,
    optimizers,
    records,
    sharding,
)
from skae._compiled.code_terms import CodeTerm
from skae._compiled.corruption import Corruption
from skae._compiled.epochs import DIVERGED, INTERRUPTED, RUNNING
from skae._compiled.optimizers import SOLVERS
from skae._compiled.records import NO_EPOCH, NOTHING
from skae._data.rows import AnyRows, Rows, pieces
from skae._model.workspace import Learning, make_workspace
from skae._runtime.threads import ThreadTeam, n_threads_for
from skae._training.reporting import SECONDS_BETWEEN_LINES, Curves, Report
from skae._training.state import TrainingState, new_progress, saved_progress
from skae._typing import Floats

# A multiplication and an addition for each weight and row in the forward pass, and
# twice that in the backward pass. A unit's activation and its derivatives take as long
# as this many of them.
_FLOPS_PER_WEIGHT = 6
_FLOPS_PER_UNIT = 100
# Losses of the same data in other partitions differ by less, relatively: by at most the
# larger of this and so many roundings of their dtype. Kernels sum the losses of a
# float32 block in float32; half a rounding was found for 1,000 to 100,000 rows.
_SAME, _SAME_ROUNDINGS = 1e-9, 8


# The order of rows that are not shuffled.
_OWN_ORDER = np.empty(0, dtype=np.int32)


class Objective(NamedTuple):
    """The function of the weights that a training minimizes, and its data."""

    network: records.Network
    loss: losses.Loss
    alpha: float
    # AnyRows, of the kind that the training is for.
    rows: Any
    validation: Any  # none of them in use: no validation
    corruption: Corruption | None = None
    term: CodeTerm | None = None
    # Whether validation rows are a share of the data, and change with them.
    validates_itself: bool = True
    unit_weights: Floats | None = None  # (n_outputs,) dtype, of the losses; None: 1

    def model(self, params: Floats) -> records.Model:
        """The network with parameters."""
        if self.unit_weights is None:
            return records.Model(self.network, params, self.alpha)
        return records.Model(self.network, params, self.alpha, self.unit_weights)

    @property
    def monitored(self) -> Any:
        """The rows whose loss decides which weights are kept."""
        return self.validation if self.validation.n_rows else self.rows


class Kept(NamedTuple):
    """Weights that a fit keeps."""

    params: np.ndarray
    epoch: int  # counted from 1; 0: the initial weights
    name: str  # "params", "best_params", "initial_params" or "selected"

    @classmethod
    def last(cls, training: "Training") -> Self:
        """The weights of the last epoch."""
        state = training.state
        return cls(state.params.copy(), state.progress.n_epochs, "params")

    @classmethod
    def initial(cls, initial_params: Floats) -> Self:
        """The weights before any training."""
        return cls(initial_params.copy(), 0, "initial_params")


class DivergedError(ArithmeticError):
    """The loss or a weight stopped being finite."""


class ValidationLossError(ArithmeticError):
    """The loss of given validation rows is not finite at the initial weights."""


def new_state(params: Floats, seed: int, *, has_moments: bool) -> records.State:
    """The state before any training, with initial parameters."""
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

    Subclasses run the epochs. A training begins at initial parameters, or continues
    from the `saved_state` of an earlier one with the same solver.

    Parameters
    ----------
    objective : Objective

    solver : records.Solver

    state : records.State
        Changed in place.

    max_epochs : int, default=None
        Maximum number of epochs; None for the solver's `max_iter`. With little work in
        total, it does not pay to start threads.
    """

    has_moments = True
    # Epochs in one call of the kernel, if each need not be reported: bounds the memory
    # of the loss curves, not the speed.
    epochs_per_call = 10_000
    status: int = RUNNING  # after the last epochs
    # Whether a fit that ends now, with epochs left, was interrupted.
    is_cut_short = True

    def __init__(
        self,
        objective: Objective,
        solver: records.Solver,
        state: records.State,
        max_epochs: int | None = None,
    ):
        self.objective, self.solver, self.state = objective, solver, state
        self.curves = Curves.empty()  # of the epochs so far
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
    def begin(
        cls,
        objective: Objective,
        solver: records.Solver,
        initial_params: Floats,
        seed: int,
        max_epochs: int | None = None,
    ) -> Self:
        """Make the training that begins at initial parameters."""
        state = new_state(initial_params, seed, has_moments=cls.has_moments)
        return cls(objective, solver, state, max_epochs)

    @classmethod
    def resume(
        cls,
        objective: Objective,
        solver: records.Solver,
        previous: TrainingState,
        max_epochs: int | None = None,
    ) -> Self:
        """Make the training that continues from a state, which is not changed."""
        arrays = {name: array.copy() for name, array in previous.arrays.items()}
        del arrays["counters"], arrays["scalars"]
        curves = dict.fromkeys(records.CURVES, np.empty(0))
        state = records.State(progress=previous.progress(), **arrays, **curves)
        return cls(objective, solver, state, max_epochs)

    def saved_state(self) -> dict[str, Any]:
        """The training's part of a `TrainingState`, by attribute."""
        arrays = self.state._asdict()
        for name in ("progress", *records.CURVES):
            del arrays[name]
        arrays |= saved_progress(self.state.progress)
        return {"arrays": arrays}

    @property
    def n_epochs_of_fit(self) -> int:
        """Epochs of the last fit so far, including those before it was cut short."""
        progress = self.state.progress
        return progress.n_epochs - progress.cycle_start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # An interrupt must not lose what has been trained.
        with contextlib.suppress(KeyboardInterrupt):
            self._team.__exit__(*exc_info)

    def value(self, params: Floats, rows: AnyRows | None = None) -> float:
        """The objective over some rows, by default the monitored ones."""
        rows = self.objective.monitored if rows is None else rows
        return self.values([params], rows)[0]

    def values(self, candidates: Sequence[Floats], rows: AnyRows) -> list[float]:
        """The objective over some rows at each of the candidates, in one pass."""
        losses = self._summed_losses(candidates, rows)
        return [
            loss / rows.total_weight + self._penalty(params)
            for loss, params in zip(losses, candidates, strict=True)
        ]

    def _summed_losses(self, candidates: Sequence[Floats], rows: Any) -> list[float]:
        """The data loss, summed over rows, at each of the candidates."""
        models = [self.objective.model(params) for params in candidates]
        totals = [0.0] * len(models)
        # The kernel itself sums over rows in memory piece by piece.
        for piece in [rows] if rows.is_in_memory else pieces(rows):
            for i, model in enumerate(models):
                totals[i] += self._run_on(batches.summed_loss, model, piece)
        return totals

    def _summed_gradient(
        self, params: Floats, rows: Any = None
    ) -> tuple[float, Floats]:
        """The data loss, summed over rows, by default all, and its float64 gradient."""
        rows = self.objective.rows if rows is None else rows
        model, total = self.objective.model(params), 0.0
        gradient = np.zeros(params.size)
        for piece in pieces(rows):
            self._check_room(piece.n_rows)
            batch = _OWN_ORDER, 0, piece.n_rows, NO_EPOCH
            total += self._run_on(batches.summed_gradient, model, piece, *batch)
            gradient += self._workspace.gradients[0]
        return total, gradient

    def _penalty(self, params: Floats) -> float:
        """The penalty of the weights."""
        squares, alpha = np.zeros(1), self.objective.alpha
        if alpha:
            weights = params[: self.objective.network.n_weights]
            elementwise.add_squares(weights, squares, weights.size)
        return 0.5 * alpha * float(squares[0])

    def _check_room(self, n_rows: int) -> None:
        """Raise ValueError if so many rows have more shards than gradients."""
        n_shards = sharding.n_shards(n_rows, self._workspace.block_rows)
        if n_shards > len(self._workspace.gradients):
            raise ValueError(
                f"the working memory is that of smaller batches than of {n_rows} rows"
            )

    def _check_epoch(self, rows: Rows) -> None:
        """Raise ValueError if the working memory is too small for an epoch of rows."""
        self._check_room(min(self.solver.batch_size, rows.n_rows))
        if self.solver.shuffle and self._workspace.order.size < rows.n_rows:
            raise ValueError(
                f"the working memory has an order of {self._workspace.order.size} "
                f"rows, not of {rows.n_rows}"
            )

    def _run_on(
        self, kernel: compilation.Kernel, model: records.Model, rows: Rows, *args: Any
    ) -> Any:
        """Run a kernel on some of the rows, in memory."""
        rows.check(model)
        if rows.has_missing and not self._workspace.targets.size:
            raise ValueError(
                "the working memory is that of rows without missing entries"
            )
        if rows is not self.objective.rows:
            # Other rows may have been at the same address.
            self._workspace.held["values"] = NOTHING
        flops = self._flops_per_row * rows.n_rows
        return self._team.run(kernel, model, rows, *args, self._workspace, flops=flops)

    def _rows_in_memory(self) -> list[Rows]:
        """Examples of the rows that kernels will read, for the size of buffers.

        The first are training rows: as many as a kernel reads at a time, at most.
        """
        rows = self.objective.rows
        first = rows if rows.is_in_memory else next(pieces(rows))
        return [first, self.objective.validation]

    def _finish_epoch(self, state: records.State, loss: float) -> int:
        """Record an epoch that did not run in one kernel; returns a status."""
        kept = loss
        if self.objective.validation.n_rows:
            kept = self.value(state.params, self.objective.validation)
        args = self.solver, state, float(loss), float(kept), self._workspace
        status: int = self._team.run(epochs.finish_epoch, *args, flops=0)
        return status

    def forget_objective(self) -> None:
        """Forget the objective's values, because it has changed, or may have."""
        self.state.progress.best_loss = np.inf
        self.state.progress.n_no_change = 0

    @abc.abstractmethod
    def _step_op(self) -> compilation.CFunction:
        """The op that kernels apply to a gradient."""

    @abc.abstractmethod
    def _run_epochs(self, state: records.State, n_epochs: int) -> int:
        """Train for up to `n_epochs` epochs and fill the curves; returns a status."""

    def run_epochs(self, n_epochs: int) -> tuple[int, Curves]:
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
        curves: dict[str, Any] = {name: np.zeros(n_epochs) for name in records.CURVES}
        state = state._replace(**curves)
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

    def _step_op(self) -> compilation.CFunction:
        op: compilation.CFunction = list(SOLVERS.values())[self.solver.kind]
        return op

    def _run_epochs(self, state: records.State, n_epochs: int) -> int:
        model = self.objective.model(state.params)
        for rows in (self.objective.rows, self.objective.validation):
            rows.check(model)
        self._check_epoch(self.objective.rows)
        status: int = self._team.run(
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
        return status

    def batch_gradient(
        self,
        params: Floats,
        rows: Rows,
        order: NDArray[np.int32],
        batch: tuple[int, int],
        epoch: int,
    ) -> tuple[float, Floats, int]:
        """The summed data loss of a mini-batch, its gradient, and its number of rows.

        Parameters
        ----------
        params : ndarray of shape (n_params,)

        rows : Rows

        order : ndarray of shape (n_rows,), dtype=int32
            Order of the rows; empty for their own.

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

    def take_step(
        self, state: records.State, loss: float, gradient: Floats, weight: float
    ) -> None:
        """Update the weights once, by the gradient of a mini-batch.

        Its loss and gradient are sums over rows, of total weight `weight`.
        """
        self._workspace.gradients[0] = gradient
        args = self.solver, state, float(weight), self._workspace
        model = self.objective.model(state.params)
        penalty = self._team.run(epochs.step, model, *args, flops=0)
        state.progress.loss_sum += loss + penalty * weight
        state.progress.n_updates += 1

    def take_steps(
        self,
        state: records.State,
        rows: Rows,
        order: NDArray[np.int32],
        batches: Sequence[tuple[int, int]],
        first: int,
    ) -> list[float]:
        """Update the weights once for each of some mini-batches; returns their losses.

        Parameters
        ----------
        state : records.State
            Changed in place.

        rows : Rows

        order : ndarray of shape (n_rows,), dtype=int32
            Order of the rows; empty for their own.

        batches : sequence of tuple of int
            For each the first position in the order, and the last plus one. There is no
            update for those without rows.

        first : int
            Number of the first in its epoch.
        """
        bounds, losses = np.array(batches, dtype=np.int64), np.empty(len(batches))
        self._check_room(int(np.diff(bounds).max()))
        self._check_epoch(rows)
        if not (bounds.min() >= 0 and bounds.max() <= (order.size or rows.n_rows)):
            raise ValueError(f"mini-batches at {bounds} of {rows.n_rows} rows")
        self._workspace.order[: order.size] = order
        before = self.solver.batch_size * (first + np.arange(len(bounds)))
        bounds = np.column_stack([bounds, before])
        model = self.objective.model(state.params)
        how = bounds, len(bounds), self.solver, state._replace(loss_curve=losses)
        self._run_on(epochs.train_batches, model, rows, *how)
        return losses.tolist()


class PiecewiseTraining(StochasticTraining):
    """Training in mini-batches where no kernel sees all rows of an epoch."""

    @abc.abstractmethod
    def _run_epoch(self, state: records.State) -> int:
        """Train for an epoch; returns a status."""

    def _run_epochs(self, state: records.State, n_epochs: int) -> int:
        status: int = RUNNING
        for _ in range(n_epochs):
            status = self._run_epoch(state)
            if status != RUNNING:
                break
        return status


class StreamedTraining(PiecewiseTraining):
    """Training in mini-batches on a stream of rows, window by window."""

    def _rows_in_memory(self) -> list[Rows]:
        first = self.objective.rows.first_window(self.solver.batch_size)
        return [first, self.objective.validation]

    def _run_epoch(self, state: records.State) -> int:
        rows, progress = self.objective.rows, state.progress
        progress.term_sum = progress.loss_sum = 0.0
        for number, start, window in rows.windows(self.solver.batch_size):
            progress.n_before, progress.part = start, number
            model = self.objective.model(state.params)
            args = model, window, self.solver, state
            self._check_epoch(window)
            status: int = self._run_on(epochs.train_part, *args)
            if status != RUNNING:
                return status
            del args, window  # before the next is read
        slot = progress.n_epochs - progress.first_epoch
        state.term_curve[slot] = progress.term_sum / rows.total_weight
        return self._finish_epoch(state, progress.loss_sum / rows.total_weight)


def prepare(training: Training, initial_params: Floats) -> bool:
    """Evaluate the initial weights, and forget losses of other data.

    The loss of the initial weights, before any fit, on the monitored rows is an upper
    bound for the weights to keep. In a warm start it also shows whether these rows have
    changed; returned is whether they and the training rows are the same as before.

    Raises
    ------
    ValidationLossError
        If the loss is finite on the training rows but not on given validation rows.
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
    # At the end: after an interrupt before, the next fit does all of this.
    progress.start_loss, progress.start_train_loss = start_loss, start_train_loss
    return False


def _are_same(training: Training, loss: float, before: float) -> bool:
    """Whether two losses are equal up to rounding."""
    dtype = training.state.params.dtype
    tolerance = max(_SAME, _SAME_ROUNDINGS * np.finfo(dtype).eps)
    return math.isclose(loss, before, rel_tol=tolerance)


def fit(
    training: Training,
    initial_params: Floats,
    max_iter: int,
    report: Report | None = None,
    n_done: int = 0,
) -> tuple[int, Curves]:
    """Evaluate the initial weights, then `run` the training.

    `n_done` of its epochs were run before the fit was cut short; if the rows have
    changed since, a new fit begins.
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


def run(
    training: Training, max_iter: int, report: Report | None = None
) -> tuple[int, Curves]:
    """Train for up to `max_iter` epochs.

    Parameters
    ----------
    training : Training

    max_iter : int

    report : Report, default=None
        Called before and after some epochs: the first, the last, the one that is
        `report.epochs_to_next(n_done)` away, and more if epochs are slow. Training ends
        if `report.end` returns True.

    Returns
    -------
    status : int
        RUNNING if `max_iter` or the report ended it.

    curves : Curves
    """
    curves = training.curves = Curves.empty()
    try:
        status = _run(training, max_iter, report, curves)
        training.is_cut_short = status == INTERRUPTED
    except KeyboardInterrupt:  # between two calls of the kernel
        status = INTERRUPTED
    return status, curves


def _run(
    training: Training, max_iter: int, report: Report | None, curves: Curves
) -> int:
    """`run`, filling the curves; returns the status."""
    status: int = RUNNING
    seconds_per_epoch: float | None = None
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


def _epochs_to_report(
    report: Report, n_done: int, seconds_per_epoch: float | None
) -> int:
    """Epochs until the next report: the first at once, slow ones more often."""
    if seconds_per_epoch is None:
        return 1
    at_most = max(1, int(SECONDS_BETWEEN_LINES / seconds_per_epoch))
    return min(report.epochs_to_next(n_done), at_most)


def kept_weights(training: Training, initial_params: Floats) -> Kept:
    """The weights that a fit keeps.

    With validation rows, they are those of the best epoch. Without, they are the last
    epoch's, unless their objective is higher than that of the initial weights: then the
    best epoch's. Before `first_judged`, losses are not comparable: the last are kept.

    Raises
    ------
    DivergedError
        If none of these weights has a finite objective.
    """
    state = training.state
    last, initial = Kept.last(training), Kept.initial(initial_params)
    best = Kept(state.best_params.copy(), state.progress.best_epoch, "best_params")
    candidates = [last, best, initial]
    if training.objective.validation.n_rows:
        candidates = [best]
    if last.epoch < training.solver.first_judged:
        return last
    for kept in candidates:
        loss = training.value(kept.params)
        # start_loss is NaN if it was not, or could not be, computed.
        if np.isfinite(loss) and not loss > state.progress.start_loss:
            return kept
    if not np.isfinite(loss):
        raise DivergedError
    return kept


# Training has diverged if a pass over some rows increases their loss by this factor.
_EXPLOSION = 10.0


def check_not_exploded(
    training: Training, before: Floats, loss: float, earlier: Sequence[float]
) -> None:
    """Raise DivergedError if a pass over the rows has made their loss much larger.

    `before` are the weights before the pass, `loss` is its loss, and `earlier` has that
    of the pass before, if there was one: if the two losses are similar, the rows need
    not be read again.
    """
    rows, is_scaled = training.objective.rows, training.objective.loss.is_scaled

    def is_larger(now: float, then: float) -> bool:
        # A log-likelihood may be near zero, or of either sign.
        unit = then if is_scaled else max(abs(then), rows.n_features)
        return now - then > _EXPLOSION * unit

    start = earlier or [training.value(before, rows)]
    weights = [training.state.params, before]
    if is_larger(loss, start[0]) and is_larger(*training.values(weights, rows)):
        raise DivergedError


def check_finite(training: Training, status: int) -> None:
    """Raise DivergedError if the loss or a weight is not finite."""
    if status == DIVERGED or not np.isfinite(training.state.params).all():
        raise DivergedError
