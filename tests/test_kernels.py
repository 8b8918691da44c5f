"""The kernels against a naive network, central differences, and themselves."""

import itertools

import numpy as np
import pytest

from skae import _kernels, _training
from skae._kernels import LOSSES, SCHEDULES, SOLVERS, Objective, Solver
from skae._network import coefs, for_loss, initial_params, intercepts, make_network
from skae._rows import make_rows, no_rows

from . import reference
from .cases import ACTIVATION_NAMES, DEPTHS, LOSS_NAMES

N_ROWS, N_FEATURES, N_COMPONENTS = 11, 6, 3


def data_for(loss, rng, n_rows=N_ROWS):
    X = rng.standard_normal((n_rows, N_FEATURES))
    if loss == "log_loss":
        return rng.random((n_rows, N_FEATURES))
    return np.abs(3 * X) if loss == "poisson" else X


def network_for(activation, loss, hidden, *, tied, output=None):
    widths = [N_FEATURES, *hidden, N_COMPONENTS, *hidden[::-1], N_FEATURES]
    names = [activation] * (2 * len(hidden) + 1)
    names.append(output or LOSSES[loss].output_activation)
    return make_network(widths, names, tied=tied), names


def solver_for(name="sgd", **changes):
    solver = Solver(
        code=SOLVERS.get(name, -1),
        schedule=SCHEDULES["constant"],
        learning_rate=0.01,
        decay=0.0,
        power_t=0.5,
        momentum=0.9,
        nesterovs_momentum=1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        batch_size=N_ROWS,
        shuffle=0,
        max_iter=10,
        tol=0.0,
        n_iter_no_change=100,
        watch_validation=0,
    )
    return solver._replace(**changes)


def random_params(network, names, rng, dtype=np.float64):
    params = initial_params(network, names, "glorot", 0, dtype)
    params += (0.1 * rng.standard_normal(params.size)).astype(dtype)
    return params


def kernel_objective(network, loss, alpha, X, weights, params):
    """Value and gradient by the kernel."""
    rows = make_rows(X, np.zeros(X.shape[1]), 1.0, weights=weights)
    objective = Objective(LOSSES[loss].code, alpha)
    problem = _training.Problem(
        for_loss(network, LOSSES[loss]), objective, rows, no_rows(rows)
    )
    gradient = np.empty_like(params)
    solver = solver_for(batch_size=len(X))
    with _training.StochasticTraining.begin(
        problem, solver, params, seed=0
    ) as training:
        value = training._team.run(
            _kernels.objective_and_gradient,
            *problem[:3],
            params.copy(),
            gradient,
            training._workspace,
            flops=np.inf,
        )
        assert training.value(params) == pytest.approx(value, rel=1e-12)
    return value, gradient


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_gradient(activation, loss):
    """Every activation x loss x tied x depth x sample weights x L2."""
    rng = np.random.default_rng(0)
    for tied, depth, weighted, alpha in itertools.product(
        [False, True], DEPTHS, [False, True], [0.0, 0.1]
    ):
        network, names = network_for(activation, loss, DEPTHS[depth], tied=tied)
        X = data_for(loss, rng)
        weights = rng.integers(0, 4, len(X)).astype(float) if weighted else None
        params = random_params(network, names, rng)
        value, gradient = kernel_objective(network, loss, alpha, X, weights, params)

        # Against the naive network.
        true_value, coef_gradients, bias_gradients = reference.objective(
            X,
            coefs(network, params),
            intercepts(network, params),
            names,
            loss=loss,
            alpha=alpha,
            tied=tied,
            weights=weights,
        )
        true_gradient = np.concatenate(
            [g.ravel() for g in coef_gradients if g is not None] + bias_gradients
        )
        assert value == pytest.approx(true_value, rel=1e-10)
        size = np.abs(true_gradient).max()
        np.testing.assert_allclose(gradient, true_gradient, rtol=0, atol=1e-10 * size)

        # Against central differences along a random direction.
        direction = rng.standard_normal(params.size)
        direction /= np.linalg.norm(direction)
        slope = directional_slope(
            lambda p, case=(network, loss, alpha, X, weights): kernel_objective(
                *case, p
            )[0],
            params,
            direction,
        )
        assert gradient @ direction == pytest.approx(slope, rel=1e-6, abs=1e-7)


def directional_slope(function, params, direction):
    """Central difference of fourth order (Fornberg, 1988, table 1)."""
    h = 1e-6  # small: the stencil must not straddle a kink
    values = [function(params + k * h * direction) for k in (-2, -1, 1, 2)]
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
