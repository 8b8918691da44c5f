"""L-BFGS: full-batch training that can be left and gone on with exactly.

``scipy.optimize.minimize`` neither shows nor takes the memory of its L-BFGS, so that
a second call cannot go on where the first stopped. The direction is therefore
computed here; the line search is scipy's.
"""

from typing import NamedTuple

import numpy as np

from skae._compiled import epochs
from skae._compiled.epochs import CONVERGED, RUNNING
from skae._compiled.optimizers import scale_gradient
from skae._runtime.scipy_private import line_search
from skae._runtime.threads import single_threaded_blas
from skae._training.loop import Training

# Pairs of steps and gradient changes that are remembered: scipy's default.
_N_CORRECTIONS = 10
# A relative decrease of the objective below this many roundings is no progress.
_ROUNDINGS = 16


class Memory(NamedTuple):
    """What L-BFGS needs to go on, in float64; files have the pairs as two arrays."""

    position: np.ndarray  # (n_params,)
    gradient: np.ndarray  # (n_params,)
    losses: np.ndarray  # (2,) the objective here and at the position before
    # Of each, up to _N_CORRECTIONS arrays of shape (n_params,), oldest first: as one
    # array they would be copied in every iteration.
    steps: tuple[np.ndarray, ...]
    changes: tuple[np.ndarray, ...]  # of the gradient

    @classmethod
    def of(cls, arrays):
        """What `arrays` returned of it."""
        steps, changes = tuple(arrays["steps"]), tuple(arrays["changes"])
        return cls(**{**arrays, "steps": steps, "changes": changes})

    def arrays(self):
        """As a dict of arrays: pairs have shape (n_corrections, n_params)."""
        pairs = {
            name: np.reshape(getattr(self, name), (-1, self.position.size))
            for name in ("steps", "changes")
        }
        return {**self._asdict(), **pairs}


def direction(memory):
    """Minus the gradient times the approximate inverse Hessian.

    Nocedal & Wright, "Numerical optimization", 2006, algorithm 7.4, with the scaling
    of equation 7.20.
    """
    steps, changes = memory.steps, memory.changes
    result = -memory.gradient
    if not steps:
        # The first step has length at most 1, as in scipy's L-BFGS-B.
        return result / max(1.0, np.linalg.norm(result))
    curvatures = [s @ c for s, c in zip(steps, changes, strict=True)]
    factors = np.empty(len(steps))
    for i in reversed(range(len(steps))):
        factors[i] = steps[i] @ result / curvatures[i]
        result -= factors[i] * changes[i]
    result *= curvatures[-1] / (changes[-1] @ changes[-1])
    for i in range(len(steps)):
        result += (factors[i] - changes[i] @ result / curvatures[i]) * steps[i]
    return result


class LbfgsTraining(Training):
    """Training by L-BFGS; an iteration is an epoch, and its batch are all rows."""

    has_moments = False

    def __init__(self, objective, solver, state, max_epochs=None):
        super().__init__(objective, solver, state, max_epochs)
        self._memory = None  # before the first iteration
        # Position, objective and gradient of the last evaluation.
        self._evaluated = (np.empty(0), np.nan, np.empty(0))

    @classmethod
    def resume(cls, objective, solver, previous, max_epochs=None):
        """The training that continues from a `TrainingState`, which stays as it is."""
        training = super().resume(objective, solver, previous, max_epochs)
        if previous.memory is not None:
            training._memory = Memory.of(previous.memory)
        return training

    def saved_state(self):
        """What a `TrainingState` has of the training, by attribute."""
        saved = super().saved_state()
        if self._memory is not None:
            saved["memory"] = self._memory.arrays()
        return saved

    def forget_objective(self):
        """Forget the objective's values, its gradient and curvature."""
        super().forget_objective()
        self._memory = None

    def _step_op(self):
        return scale_gradient

    @single_threaded_blas()
    def _run_epochs(self, state, n_epochs):
        status: int = RUNNING
        for _ in range(n_epochs):
            memory, at_minimum = self._iterate(self._memory or self._begin_memory())
            self._memory = memory
            state.progress.n_updates += 1
            state.params[:] = memory.position
            status = self._finish_epoch(state, memory.losses[0])
            if at_minimum and status == RUNNING:
                status = CONVERGED
            if status != RUNNING:
                break
        return status

    def _begin_memory(self):
        position = self.state.params.astype(np.float64)
        loss, gradient = self._evaluate(position)
        return Memory(position, gradient, np.array([loss, np.inf]), (), ())

    def _iterate(self, memory):
        """One iteration; returns the memory, and whether nothing is left to gain."""
        if not np.isfinite(memory.losses[0]):
            return memory, True
        if np.abs(memory.gradient).max() <= self.solver.tol:
            return memory, True
        found = self._search(memory)
        if found is None and memory.steps:  # forget, and try steepest descent
            found = self._search(memory._replace(steps=(), changes=()))
        if found is None:
            return memory, True
        loss, loss_before = found.losses
        rounding = np.finfo(self.state.params.dtype).eps * _ROUNDINGS
        return found, loss_before - loss <= rounding * abs(loss)

    def _search(self, memory):
        """Memory after a step that satisfies the strong Wolfe conditions, or None."""
        loss_before, towards = memory.losses[1], direction(memory)
        with np.errstate(all="ignore"):
            length, *_ = line_search(
                lambda position: self._evaluate(position)[0],
                lambda position: self._evaluate(position)[1],
                memory.position,
                towards,
                gfk=memory.gradient,
                old_fval=memory.losses[0],
                old_old_fval=loss_before if np.isfinite(loss_before) else None,
            )
        if length is None:
            return None
        position = memory.position + length * towards
        loss, gradient = self._evaluate(position)
        step, change = position - memory.position, gradient - memory.gradient
        steps, changes = memory.steps, memory.changes
        if step @ change > 0:
            steps = (*steps, step)[-_N_CORRECTIONS:]
            changes = (*changes, change)[-_N_CORRECTIONS:]
        losses = np.array([loss, memory.losses[0]])
        return Memory(position, gradient, losses, steps, changes)

    def _evaluate(self, position):
        """Objective and gradient; the line search asks for each in turn."""
        if not np.array_equal(self._evaluated[0], position):
            params = position.astype(self.state.params.dtype)
            loss, gradient = self._value_and_gradient(params)
            self._evaluated = position.copy(), loss, gradient
        return self._evaluated[1:]

    def _value_and_gradient(self, params):
        """The objective, and its gradient in float64."""
        total, self._workspace.gradients[0] = self._summed_gradient(params)
        weight = self.objective.rows.total_weight
        penalty = self._team.run(
            epochs.step,  # which `scale_gradient` does not take
            self.objective.model(params),
            self.solver,
            self.state,
            weight,
            self._workspace,
            flops=0,
        )
        gradient = self._workspace.gradients[0].astype(np.float64)
        return total / weight + penalty, gradient
