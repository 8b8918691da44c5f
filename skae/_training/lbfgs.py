"""L-BFGS: full-batch training that can be interrupted and continued exactly.

``scipy.optimize.minimize`` neither returns nor accepts the memory of its L-BFGS, so a
second call cannot continue where the first stopped. The direction is therefore computed
here; the line search is SciPy's.
"""

from typing import Any, NamedTuple, Self

import numpy as np

from skae._compiled import epochs
from skae._compiled.compilation import CFunction
from skae._compiled.epochs import CONVERGED, RUNNING
from skae._compiled.optimizers import scale_gradient
from skae._compiled.records import Solver, State
from skae._runtime.blas import single_threaded_blas
from skae._runtime.scipy_private import line_search
from skae._training.loop import Objective, Training
from skae._training.state import TrainingState
from skae._typing import Floats

# Pairs of steps and gradient changes in memory: SciPy's default.
_N_CORRECTIONS = 10
# A relative decrease of the objective by fewer roundings than this is no progress.
_ROUNDINGS = 16


class Memory(NamedTuple):
    """What L-BFGS needs to continue, in float64; files have the pairs as two arrays."""

    position: np.ndarray  # (n_params,)
    gradient: np.ndarray  # (n_params,)
    losses: np.ndarray  # (2,) the objective here and at the previous position
    # Up to _N_CORRECTIONS arrays of shape (n_params,) each, oldest first: as one array
    # they would be copied in every iteration.
    steps: tuple[np.ndarray, ...]
    changes: tuple[np.ndarray, ...]  # of the gradient

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> Self:
        """The memory of which `arrays` returned this dict."""
        steps, changes = tuple(arrays["steps"]), tuple(arrays["changes"])
        fields: dict[str, Any] = {**arrays, "steps": steps, "changes": changes}
        return cls(**fields)

    def arrays(self) -> dict[str, np.ndarray]:
        """As a dict of arrays: pairs have shape (n_corrections, n_params)."""
        pairs = {
            name: np.reshape(getattr(self, name), (-1, self.position.size))
            for name in ("steps", "changes")
        }
        return {**self._asdict(), **pairs}


def direction(memory: Memory) -> Floats:
    """Minus the gradient times the approximate inverse Hessian.

    Nocedal & Wright, "Numerical optimization", 2006, algorithm 7.4, with the scaling
    of equation 7.20.
    """
    steps, changes = memory.steps, memory.changes
    result: Floats = -memory.gradient
    if not steps:
        # The first step has length at most 1, as in SciPy's L-BFGS-B.
        return result / max(1.0, float(np.linalg.norm(result)))
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
    """Training by L-BFGS, in which an iteration is an epoch, with all rows."""

    has_moments = False

    def __init__(
        self,
        objective: Objective,
        solver: Solver,
        state: State,
        max_epochs: int | None = None,
    ):
        super().__init__(objective, solver, state, max_epochs)
        self._memory: Memory | None = None  # before the first iteration
        # Position, objective and gradient of the last evaluation.
        self._evaluated: tuple[Floats, float, Floats]
        self._evaluated = np.empty(0), np.nan, np.empty(0)

    @classmethod
    def resume(
        cls,
        objective: Objective,
        solver: Solver,
        previous: TrainingState,
        max_epochs: int | None = None,
    ) -> Self:
        """Make the training that continues from a state, which is not changed."""
        training = super().resume(objective, solver, previous, max_epochs)
        if previous.memory is not None:
            training._memory = Memory.of(previous.memory)
        return training

    def saved_state(self) -> dict[str, Any]:
        """The training's part of a `TrainingState`, by attribute."""
        saved = super().saved_state()
        if self._memory is not None:
            saved["memory"] = self._memory.arrays()
        return saved

    def forget_objective(self) -> None:
        """Forget the objective's values, its gradient and curvature."""
        super().forget_objective()
        self._memory = None

    def _step_op(self) -> CFunction:
        return scale_gradient

    @single_threaded_blas()
    def _run_epochs(self, state: State, n_epochs: int) -> int:
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

    def _begin_memory(self) -> Memory:
        position = self.state.params.astype(np.float64)
        loss, gradient = self._evaluate(position)
        return Memory(position, gradient, np.array([loss, np.inf]), (), ())

    def _iterate(self, memory: Memory) -> tuple[Memory, bool]:
        """Run one iteration; returns the memory, and whether this is a minimum."""
        if not np.isfinite(memory.losses[0]):
            return memory, True
        if np.abs(memory.gradient).max() <= self.solver.tol:
            return memory, True
        found = self._search(memory)
        if found is None and memory.steps:  # forget them, and try steepest descent
            found = self._search(memory._replace(steps=(), changes=()))
        if found is None:
            return memory, True
        loss, loss_before = found.losses
        rounding = np.finfo(self.state.params.dtype).eps * _ROUNDINGS
        return found, loss_before - loss <= rounding * abs(loss)

    def _search(self, memory: Memory) -> Memory | None:
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

    def _evaluate(self, position: Floats) -> tuple[float, Floats]:
        """Objective and gradient, which the line search asks for in turn."""
        if not np.array_equal(self._evaluated[0], position):
            params = position.astype(self.state.params.dtype)
            loss, gradient = self._value_and_gradient(params)
            self._evaluated = position.copy(), loss, gradient
        return self._evaluated[1:]

    def _value_and_gradient(self, params: Floats) -> tuple[float, Floats]:
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
