"""L-BFGS against scipy's, and that it can be left and gone on with."""

import numpy as np
import pytest
from scipy.optimize import LbfgsInvHessProduct, minimize

from skae._compiled.epochs import CONVERGED
from skae._compiled.losses import LOSSES
from skae._data.rows import make_rows
from skae._model.initialization import random_params
from skae._model.network import make_network
from skae._training import loop
from skae._training.lbfgs import LbfgsTraining, Memory, direction
from skae._training.state import TrainingState

from .support.solvers import solver_for


def make_objective(dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 6))
    X = (X + 0.1 * rng.standard_normal((40, 6))).astype(dtype)
    names = ["tanh", "identity"]
    network = make_network([6, 2, 6], names, tied=False)
    rows = make_rows(X, np.zeros(6), 1.0)
    loss = LOSSES["squared_error"]
    objective = loop.Objective(network, loss, 0.01, rows, rows.empty())
    return objective, random_params(network, names, "glorot", 0, dtype)


def make_solver(tol=1e-8):
    return solver_for(batch_size=40, tol=tol, n_iter_no_change=10**9)


def test_direction_is_that_of_the_two_loop_recursion():
    rng = np.random.default_rng(0)
    steps, changes = rng.standard_normal((2, 4, 9))
    changes *= np.sign(np.einsum("ij,ij->i", steps, changes))[:, np.newaxis]
    gradient = rng.standard_normal(9)
    memory = Memory(np.zeros(9), gradient, np.zeros(2), tuple(steps), tuple(changes))
    # scipy's starts from the identity, ours from gamma times it: scale space by its
    # root.
    root = np.sqrt(steps[-1] @ changes[-1] / (changes[-1] @ changes[-1]))
    product = LbfgsInvHessProduct(steps / root, changes * root)
    expected = -root * product.matvec(root * gradient)
    np.testing.assert_allclose(direction(memory), expected, rtol=1e-10)


def test_reaches_the_minimum_that_scipy_reaches():
    objective, params = make_objective()
    with LbfgsTraining.begin(objective, make_solver(), params, 0) as training:

        def evaluate(position):
            loss, gradient = training._evaluate(position)
            return loss, gradient.copy()

        options = {"maxiter": 2000, "maxfun": 10**5, "gtol": 1e-8, "ftol": 1e-15}
        theirs = minimize(
            evaluate, params, jac=True, method="L-BFGS-B", options=options
        )
        status, curves = training.run_epochs(2000)
        assert status == CONVERGED
        assert training.value(training.state.params) == pytest.approx(
            theirs.fun, rel=1e-9
        )
        assert len(curves.loss) < 2 * theirs.nit
        _, gradient = training._evaluate(training.state.params)
        assert np.abs(gradient).max() < 1e-5


def test_loss_never_rises():
    objective, params = make_objective()
    with LbfgsTraining.begin(objective, make_solver(), params, 0) as training:
        start = training.value(params)
        _, curves = training.run_epochs(100)
    assert (np.diff([start, *curves.loss]) <= 0).all()
    assert len(curves.loss) > 20


def test_going_on_is_exact():
    objective, params = make_objective()
    solver = make_solver()
    with LbfgsTraining.begin(objective, solver, params, 0) as whole:
        _, whole_curves = whole.run_epochs(30)
    with LbfgsTraining.begin(objective, solver, params, 0) as first:
        _, curves = first.run_epochs(13)
    state = TrainingState(
        solver="lbfgs",
        loss="squared_error",
        scale=None,
        init="random",
        initial_params=params,
        **first.saved_state(),
    )
    with LbfgsTraining.resume(objective, solver, state) as second:
        _, more_curves = second.run_epochs(17)
    assert curves.loss + more_curves.loss == whole_curves.loss
    np.testing.assert_array_equal(second.state.params, whole.state.params)


def test_float32_converges_to_rounding():
    objective, params = make_objective(np.float32)
    double, double_params = make_objective()
    with LbfgsTraining.begin(objective, make_solver(), params, 0) as training:
        status, curves = training.run_epochs(2000)
    with LbfgsTraining.begin(double, make_solver(), double_params, 0) as training:
        _, double_curves = training.run_epochs(2000)
    assert status == CONVERGED
    assert curves.loss[-1] == pytest.approx(double_curves.loss[-1], rel=1e-4)


def test_starting_at_a_minimum_ends_at_once():
    objective, params = make_objective()
    with LbfgsTraining.begin(objective, make_solver(), params, 0) as training:
        training.run_epochs(2000)
        minimum = training.state.params.copy()
    with LbfgsTraining.begin(objective, make_solver(1e-4), minimum, 0) as training:
        status, curves = training.run_epochs(10)
    assert status == CONVERGED
    assert len(curves.loss) == 1
    np.testing.assert_array_equal(training.state.params, minimum)
