"""Solvers of small problems."""

from skae._compiled.optimizers import SOLVERS
from skae._compiled.records import Solver
from skae._compiled.schedules import SCHEDULES


def solver_for(name="sgd", **changes):
    """A solver as kernels see it; without changes sgd, by one batch of all samples."""
    solver = Solver(
        kind=list(SOLVERS).index(name),
        schedule=SCHEDULES["constant"].kind,
        learning_rate=0.01,
        decay=0.0,
        power_t=0.5,
        momentum=0.9,
        nesterovs_momentum=1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        batch_size=11,
        shuffle=0,
        max_iter=10,
        tol=0.0,
        n_iter_no_change=100,
        first_judged=0,
        watch_validation=0,
    )
    return solver._replace(**changes)
