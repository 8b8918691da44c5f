"""Training on rows that are on the workers of a cluster.

Results are computed partition by partition, where the rows are, and combined here in
the order of the partitions: the bits depend on how the rows are cut into partitions,
not on the workers that hold them. A fit on one partition equals that on one array.
"""

import contextlib
import math
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import accumulate
from typing import Any, NamedTuple, Self

import numpy as np
from scipy import sparse

from skae._compiled import epochs, records
from skae._compiled.optimizers import SOLVERS
from skae._compiled.random import shuffle
from skae._data.rows import AnyRows, Rows, aligned, make_rows, total_weight
from skae._runtime.blas import single_threaded_blas
from skae._runtime.threads import single_threaded
from skae._training.lbfgs import LbfgsTraining, Memory
from skae._training.loop import (
    Objective,
    PiecewiseTraining,
    StochasticTraining,
    Training,
    new_state,
)
from skae._training.reporting import Curves
from skae._typing import Floats, Matrix, Result, Scale
from skae.dask.partitions import LostError, Partitions

# ---------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------


def _alone(part: Any, function: Callable[..., Result], *args: Any) -> Result:
    """Call a function of a part, with one thread, on its worker."""
    # Arrays from another process may lie anywhere in its message.
    arrays = (aligned(a) if isinstance(a, np.ndarray) else a for a in args)
    with single_threaded(), single_threaded_blas():
        return function(part, *arrays)


def _lacks_entries(block: Matrix) -> bool:
    values = block if isinstance(block, np.ndarray) else block.data
    return bool(np.isnan(values).any())


def _numbered(
    block: Matrix, has_missing: bool, first_number: int, weights: Floats
) -> Rows:
    rows = make_rows(block, weights=weights, has_missing=has_missing)
    return rows._replace(first_number=first_number)


def _chosen(rows: Rows, numbers: np.ndarray) -> Rows:
    return rows.choose(numbers)


def _scaled(rows: Rows, offset: np.ndarray, scale: Scale) -> Rows:
    return rows.scaled(offset, scale)


def _split_weights(weights: Floats, bounds: np.ndarray) -> list[Floats]:
    """Weights of the rows of each part; empty if all are 1."""
    if not weights.size:
        return [weights] * (len(bounds) - 1)
    return np.split(weights, bounds[1:-1])


def _is_sparse(rows: Rows) -> bool:
    return rows.starts.size > 0


def _described(rows: Rows) -> tuple[bool, int, np.dtype]:
    return _is_sparse(rows), rows.n_features, rows.dtype


class _WithOwnMatrix(NamedTuple):
    """Rows whose matrix is not the block, so that the worker keeps it with them."""

    rows: Rows

    def without_matrix(self) -> Self:
        return self

    def with_matrix(self, matrix: object) -> Rows:
        return self.rows.with_aligned_arrays()


def _derived(rows: Rows, function: Callable[..., Rows], *args: Any) -> _WithOwnMatrix:
    return _WithOwnMatrix(_alone(rows, function, *args))


class DistributedRows(NamedTuple):
    """Rows of partitions, on their workers; methods as in `AnyRows`."""

    parts: Partitions  # of Rows
    sizes: tuple[int, ...]  # rows in use of each part
    bounds: np.ndarray  # number of each part's first row, and of all rows
    weights: Floats
    total_weight: float
    are_sparse: tuple[bool, ...]  # each part
    has_missing: bool  # whether any part has missing entries
    n_features: int
    dtype: np.dtype

    @classmethod
    def of(cls, partitions: Partitions, weights: Floats | None = None) -> Self:
        """All rows of partitions."""
        bounds = np.cumsum([0, *partitions.n_rows])
        weights = np.empty(0) if weights is None else weights
        of_parts = _split_weights(weights, bounds)
        more = zip(bounds[:-1].tolist(), of_parts, strict=True)
        has_missing = any(partitions.run(_lacks_entries))
        parts = partitions.derive(_numbered, has_missing, per_part=list(more))
        return cls(
            parts,
            sizes=tuple(partitions.n_rows),
            bounds=bounds,
            weights=weights,
            total_weight=sum(
                total_weight(w, np.empty(0), n)
                for w, n in zip(of_parts, partitions.n_rows, strict=True)
            ),
            are_sparse=tuple(parts.run(_is_sparse)),
            has_missing=has_missing,
            n_features=partitions.n_features,
            dtype=partitions.dtype,
        )

    @property
    def is_in_memory(self) -> bool:
        return False

    @property
    def n_rows(self) -> int:
        return sum(self.sizes)

    @property
    def starts(self) -> list[int]:
        """Number of rows in use before each part."""
        return list(accumulate(self.sizes[:-1], initial=0))

    def choose(self, numbers: np.ndarray) -> Self:
        of_parts = np.split(numbers, np.searchsorted(numbers, self.bounds[1:-1]))
        of_parts = [n - s for n, s in zip(of_parts, self.bounds, strict=False)]
        weights = _split_weights(self.weights, self.bounds)
        return self._replace(
            parts=self.parts.derive(_chosen, per_part=[(n,) for n in of_parts]),
            sizes=tuple(map(len, of_parts)),
            total_weight=sum(
                total_weight(w, n, len(n))
                for w, n in zip(weights, of_parts, strict=True)
            ),
        )

    def scaled(self, offset: np.ndarray, scale: Scale) -> Self:
        return self._replace(parts=self.parts.derive(_scaled, offset, scale))

    def filled_by(self, fill: Callable[[Rows], Rows]) -> Self:
        return self._replace(parts=self.parts.derive(_alone, fill))

    def materialized(self) -> AnyRows:
        return self

    def map(self, function: Callable[..., Result], *args: Any) -> list[Result]:
        return self.parts.run(_alone, function, *args)

    def transformed(
        self, on_close: ExitStack, function: Callable[..., Rows], *args: Any
    ) -> Self:
        parts = self.parts.derive(_derived, function, *args)
        on_close.callback(parts.forget)
        are_sparse, widths, dtypes = zip(*parts.run(_described), strict=True)
        return self._replace(
            parts=parts,
            are_sparse=are_sparse,
            has_missing=False,
            n_features=widths[0],
            dtype=dtypes[0],
        )

    def empty(self) -> Rows:
        return _nothing(self.n_features, self.dtype, is_sparse=False)


def _nothing(n_features: int, dtype: np.dtype, *, is_sparse: bool) -> Rows:
    """Rows of a matrix, none of them in use."""
    matrix = np.zeros((1, n_features), dtype)
    return make_rows(sparse.csr_matrix(matrix) if is_sparse else matrix).empty()


# ---------------------------------------------------------------------------
# On a worker
# ---------------------------------------------------------------------------


class Job(NamedTuple):
    """What workers need to know about a training."""

    token: str  # tells trainings apart
    objective: Objective  # without rows
    solver: records.Solver
    seed: int
    largest: int  # rows of the largest part
    kinds: tuple[bool, ...]  # whether rows are sparse, of all kinds that there are
    has_missing: bool  # whether some rows have missing entries


class Steps(NamedTuple):
    """Steps of an epoch, each on a mini-batch that every part has a share of."""

    epoch: int
    first: int  # step
    stop: int  # the last plus one
    n_rows: int  # of all parts


class _Kept:
    """What a worker keeps of a training between two calls."""

    def __init__(self) -> None:
        # By the thread's number: LbfgsTraining or StochasticTraining, to compute with.
        self.trainings: dict[int, Any] = {}
        # By the part's number: an epoch and the order of the rows in it.
        self.orders: dict[int, tuple[int, np.ndarray]] = {}


_KEPT: dict[str, _Kept] = {}  # by the token of the job
# Tokens of the last trainings to end: a call that outlives its training keeps nothing.
_ENDED: deque[str] = deque(maxlen=1000)
_KEPT_LOCK = threading.Lock()


def _kept_of(job: Job) -> _Kept:
    """What is kept of a training; no two threads use the same entry."""
    with _KEPT_LOCK:
        if job.token not in _KEPT and job.token in _ENDED:
            return _Kept()
        return _KEPT.setdefault(job.token, _Kept())


def _forget(token: str) -> None:
    """Discard what is kept of a training, for good."""
    with _KEPT_LOCK:
        _ENDED.append(token)
        _KEPT.pop(token, None)


def _training_here(rows: Rows, job: Job, params: Floats) -> Any:
    """The training with which this thread computes on any of the parts."""
    trainings, thread = _kept_of(job).trainings, threading.get_ident()
    if thread not in trainings:
        trainings[thread] = _begin_training(rows, job, params)
    return trainings[thread]


def _begin_training(rows: Rows, job: Job, params: Floats) -> Training:
    """A training with buffers for any part, made from the rows of one."""
    is_sparse = rows.starts.size > 0
    other = rows.empty()
    if (not is_sparse) in job.kinds:
        other = _nothing(rows.n_features, rows.dtype, is_sparse=not is_sparse)
    largest = rows._replace(n_rows=job.largest)
    if job.has_missing:
        largest = largest._replace(targets=rows.values)
    objective = job.objective._replace(rows=largest, validation=other)
    kind = LbfgsTraining if job.solver.kind < 0 else StochasticTraining
    state = new_state(params, job.seed, has_moments=False)
    with single_threaded():
        training = kind(objective, job.solver, state)
    training.objective = job.objective  # does not keep the rows
    return training


def _order_of(rows: Rows, job: Job, epoch: int, number: int) -> np.ndarray:
    """Order of a part's rows in an epoch; empty if they are not shuffled."""
    own_order = np.empty(0, dtype=np.int32)
    if not job.solver.shuffle:
        return own_order
    orders = _kept_of(job).orders
    known_epoch, order = orders.get(number, (records.NO_EPOCH, own_order))
    if known_epoch != epoch:
        order = np.empty(rows.n_rows, dtype=np.int32)
        apart = int(epochs.EPOCHS_APART)
        shuffle(order, rows.n_rows, job.seed, epoch + number * apart)
        orders[number] = epoch, order
    return order


def _share(
    n_rows: int, before: int, step: int, steps: Steps, batch_size: int
) -> tuple[int, int]:
    """A step's positions in the order of a part, from the first to before the last.

    `before` is the number of rows of the parts before: each part rounds at another
    place, so that the shares add up to about a mini-batch.
    """
    start = (step * batch_size * n_rows + before) // steps.n_rows
    stop = ((step + 1) * batch_size * n_rows + before) // steps.n_rows
    return min(start, n_rows), min(stop, n_rows)


def _losses_of_part(rows: Rows, job: Job, candidates: Sequence[Floats]) -> Floats:
    """The data loss, summed over a part, at each of the candidates."""
    if not rows.n_rows:
        return np.zeros(len(candidates))
    training = _training_here(rows, job, candidates[0])
    return np.array(training._summed_losses(candidates, rows))


def _gradient_of_part(rows: Rows, job: Job, params: Floats) -> tuple[float, Floats]:
    """The data loss, summed over a part, and its gradient."""
    if not rows.n_rows:
        return 0.0, np.zeros(params.size)
    loss, gradient = _training_here(rows, job, params)._summed_gradient(params, rows)
    return loss, gradient


def _gradient_of_batch(
    rows: Rows, job: Job, params: Floats, steps: Steps, number: int, before: int
) -> tuple[float, Floats, int] | None:
    """The data loss of a part's share of a mini-batch, its gradient, and its size.

    None if the share is empty.
    """
    batch = _share(rows.n_rows, before, steps.first, steps, job.solver.batch_size)
    if batch[0] == batch[1] or not rows.total_weight:
        return None
    training = _training_here(rows, job, params)
    order = _order_of(rows, job, steps.epoch, number)
    loss, gradient, n_rows = training.batch_gradient(
        params, rows, order, batch, steps.epoch
    )
    return loss, gradient, n_rows


def _steps_of_part(
    rows: Rows, job: Job, state: records.State, steps: Steps, number: int, before: int
) -> tuple[records.State, list[float], float] | None:
    """Steps from a state, on a part's shares of mini-batches alone.

    Returns the state after them, the loss of each step, and the rows' weight; None if
    the shares are empty.
    """
    batches = [
        _share(rows.n_rows, before, step, steps, job.solver.batch_size)
        for step in range(steps.first, steps.stop)
    ]
    n_rows = sum(stop - start for start, stop in batches)
    if not n_rows or not rows.total_weight:
        return None
    copies = {name: array.copy() for name, array in state._asdict().items()}
    state = state._replace(**copies)
    training = _training_here(rows, job, state.params)
    order = _order_of(rows, job, steps.epoch, number)
    losses = training.take_steps(state, rows, order, batches, steps.first)
    return state, losses, rows.total_weight / rows.n_rows * n_rows


# ---------------------------------------------------------------------------
# On the client
# ---------------------------------------------------------------------------


# With more, learning rates of local steps do not grow: shares are of few rows then.
_MAX_PARTS_IN_RATE = 16


def _solver_of_parts(solver: records.Solver, sizes: Sequence[int]) -> records.Solver:
    """A solver for steps that parts make by themselves, on their shares alone.

    The gradient of a share is noisier than that of a mini-batch, by the square root of
    the number of parts. Adam and RMSprop divide by the root mean square of gradients,
    so that their steps are shorter by this factor where noise dominates (Malladi et
    al., "On the SDEs and scaling rules for adaptive gradient algorithms", 2022): it
    multiplies the learning rate. Averaging the parts' weights removes the noise again.
    """
    n_parts = sum(sizes) ** 2 / sum(size**2 for size in sizes)  # of equal size
    if solver.kind < 0 or list(SOLVERS)[solver.kind] == "sgd":
        return solver
    factor = math.sqrt(min(n_parts, _MAX_PARTS_IN_RATE))
    return solver._replace(learning_rate=factor * solver.learning_rate)


class _OnWorkers(Training):
    """A training whose rows are on workers."""

    epochs_per_call = 1  # so that, when workers are lost, what is trained is known
    _memory: Memory | None = None  # of L-BFGS

    def __init__(
        self,
        objective: Objective,
        solver: records.Solver,
        state: records.State,
        max_epochs: int | None = None,
    ) -> None:
        super().__init__(objective, solver, state, max_epochs)
        nothing = objective.rows.empty()
        on_workers = [
            rows
            for rows in (objective.rows, objective.validation)
            if isinstance(rows, DistributedRows)
        ]
        self._job = Job(
            uuid.uuid4().hex,
            objective._replace(rows=nothing, validation=nothing),
            _solver_of_parts(solver, on_workers[0].sizes),
            state.progress.seed,
            max(on_workers[0].sizes),
            tuple({kind for rows in on_workers for kind in rows.are_sparse}),
            any(rows.has_missing for rows in on_workers),
        )

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        # An interrupt must not lose what has been trained.
        with contextlib.suppress(KeyboardInterrupt):
            self.objective.rows.parts.tell_workers(_forget, self._job.token)

    def run_epochs(self, n_epochs: int) -> tuple[int, Curves]:
        before = [array.copy() for array in self.state], self._memory
        try:
            return super().run_epochs(n_epochs)
        except LostError:  # back to what had been trained before
            arrays, self._memory = before
            for array, whole in zip(self.state, arrays, strict=True):
                array[...] = whole
            raise

    def _rows_in_memory(self) -> list[Rows]:
        validation = self.objective.validation
        if isinstance(validation, DistributedRows):
            validation = validation.empty()
        return [self.objective.rows.empty(), validation]

    def _summed_losses(self, candidates: Sequence[Floats], rows: Any) -> list[float]:
        if not isinstance(rows, DistributedRows):
            return super()._summed_losses(candidates, rows)
        of_parts = rows.parts.run(_losses_of_part, self._job, candidates)
        return [sum(losses) for losses in zip(*of_parts, strict=True)]


class DistributedLbfgsTraining(_OnWorkers, LbfgsTraining):
    """L-BFGS on rows that are on workers."""

    def _summed_gradient(
        self, params: Floats, rows: Any = None
    ) -> tuple[float, Floats]:
        parts = self.objective.rows.parts
        losses, gradients = zip(
            *parts.run(_gradient_of_part, self._job, params), strict=True
        )
        return sum(losses), sum(gradients, np.zeros(params.size))


# Exchanges of weights with n_local_steps="auto", see `benchmarks/dask_defaults.py`.
_EXCHANGES_PER_EPOCH = 6


class DistributedStochasticTraining(_OnWorkers, PiecewiseTraining):
    """Training in mini-batches of rows that are on workers.

    Every partition has its share of every mini-batch, in an order of its own. The
    gradients of the shares are summed; with `n_local_steps` above 1, each partition
    makes this many steps on its own shares, and the resulting weights are averaged.
    """

    n_local_steps: int | str = 1

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # A sum of vectors and a term of it: new memory would cost more than the sum.
        self._sum, self._term = np.empty((2, self.state.params.size))

    def _run_epoch(self, state: records.State) -> int:
        rows, progress = self.objective.rows, state.progress
        progress.term_sum = progress.loss_sum = 0.0
        batch_size = self.solver.batch_size
        n_steps = -(-rows.n_rows // batch_size)
        n_local_steps = max(1, n_steps // _EXCHANGES_PER_EPOCH)
        if self.n_local_steps != "auto":
            n_local_steps = int(self.n_local_steps)
        advance = self._step if n_local_steps == 1 else self._step_locally
        for first in range(0, n_steps, n_local_steps):
            stop = min(first + n_local_steps, n_steps)
            progress.n_before = first * batch_size
            advance(state, Steps(progress.n_epochs, first, stop, rows.n_rows))
        progress.n_before = 0
        return self._finish_epoch(state, progress.loss_sum / rows.total_weight)

    def _step(self, state: records.State, steps: Steps) -> None:
        """One step by the sum of the partitions' gradients."""
        found = self._run_steps(_gradient_of_batch, state.params, steps)
        if not found:  # earlier steps have used all rows of small partitions
            return
        losses, gradients, n_rows = zip(*found, strict=True)
        gradient = self._summed(gradients, [1.0] * len(gradients))
        rows = self.objective.rows
        weight = rows.total_weight / rows.n_rows * sum(n_rows)
        self.take_step(state, sum(losses), gradient, weight)

    def _step_locally(self, state: records.State, steps: Steps) -> None:
        """Take steps in each partition by itself, and average the results."""
        sent = state._replace(best_params=np.empty(0))
        found = self._run_steps(_steps_of_part, sent, steps)
        if not found:
            return
        states, losses, weights = zip(*found, strict=True)
        shares = np.array(weights) / sum(weights)
        for name in ("params", "moment_1", "moment_2"):
            vectors = [getattr(other, name) for other in states]
            getattr(state, name)[:] = self._summed(vectors, shares)
        for of_step in zip(*losses, strict=True):
            state.progress.loss_sum += sum(of_step)
        state.progress.n_updates += steps.stop - steps.first

    def _summed(self, vectors: Iterable[Floats], factors: Iterable[float]) -> Floats:
        """Sum of vectors times factors, in order, in float64; valid until the next."""
        self._sum[:] = 0.0
        for vector, factor in zip(vectors, factors, strict=True):
            self._sum += np.multiply(vector, factor, out=self._term, dtype=np.float64)
        return self._sum

    def _run_steps(
        self, function: Callable[..., Result | None], start: Any, steps: Steps
    ) -> list[Result]:
        """Results of the partitions that have rows in the steps, in order."""
        rows = self.objective.rows
        found = rows.parts.run(
            function, self._job, start, steps, per_part=[*enumerate(rows.starts)]
        )
        return [result for result in found if result is not None]
