"""The kernels against a naive network, central differences, and themselves."""

import itertools

import numpy as np
import pytest
from scipy import sparse
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from skae._compiled import batches, epochs, records, sharding
from skae._compiled.code_terms import SPARSITIES, TARGET, VARIATIONAL, WEIGHT, CodeTerm
from skae._compiled.corruption import CORRUPTIONS, Corruption
from skae._compiled.losses import LOSSES
from skae._compiled.schedules import SCHEDULES
from skae._data import rows as rows_module
from skae._data import stream as stream_module
from skae._data.rows import make_rows
from skae._data.stream import RowStream, StreamedRows
from skae._data.validation import Checked
from skae._model import initialization
from skae._model.network import coefs, for_loss, intercepts, make_network
from skae._training import loop
from skae._training.lbfgs import LbfgsTraining

from .support import reference
from .support.cases import ACTIVATION_NAMES, DEPTHS, LOSS_NAMES
from .support.solvers import solver_for

N_ROWS, N_FEATURES, N_COMPONENTS = 11, 6, 3


def data_for(loss, rng, n_rows=N_ROWS):
    X = rng.standard_normal((n_rows, N_FEATURES))
    if loss == "log_loss":
        return rng.random((n_rows, N_FEATURES))
    return np.abs(3 * X) if loss == "poisson" else X


def network_for(activation, loss, hidden, *, tied=False, output=None, code=None):
    """A network with one activation, but for its output's and its code's."""
    widths = [N_FEATURES, *hidden, N_COMPONENTS, *hidden[::-1], N_FEATURES]
    names = [activation] * (2 * len(hidden) + 1)
    names[len(hidden)] = code or activation
    names.append(output or LOSSES[loss].output_activation)
    return make_network(widths, names, tied=tied), names


def random_params(network, names, rng, dtype=np.float64):
    params = initialization.random_params(network, names, "glorot", 0, dtype)
    params += (0.1 * rng.standard_normal(params.size)).astype(dtype)
    return params


def vector(network, coef_gradients, bias_gradients):
    """The naive network's gradients in the layout of the parameters."""
    result = np.empty(network.n_params)
    views = coefs(network, result) + intercepts(network, result)
    for view, gradient in zip(views, coef_gradients + bias_gradients, strict=True):
        if gradient is not None:  # a tied layer's is in its encoder layer's
            view[...] = gradient
    return result


def lacking(X, rng):
    """X, of which entries are missing, and as a network sees it."""
    incomplete = np.where(rng.random(X.shape) < 0.3, np.nan, X)
    incomplete[0] = np.nan
    return incomplete, np.where(np.isnan(incomplete), rng.random(X.shape), X)


def kernel_objective(network, loss, alpha, X, weights, params, seen=None, **others):
    """Value and gradient by the kernel; `others` are the objective's."""
    rows = make_rows(X, np.zeros(X.shape[1]), 1.0, weights=weights)
    if seen is not None:
        rows = rows._replace(values=seen.ravel(), targets=X.ravel())
    objective = loop.Objective(
        for_loss(network, LOSSES[loss]),
        LOSSES[loss],
        alpha,
        rows,
        rows.empty(),
        **others,
    )
    solver = solver_for(batch_size=len(X))
    with LbfgsTraining.begin(objective, solver, params, seed=0) as training:
        value, gradient = training._evaluate(params)
        assert training.value(params) == pytest.approx(value, rel=1e-12)
    return value, gradient


def assert_gradient(
    case, names, params, rng, *, others=None, naive=None, variational=False, rel=1e-10
):
    """The kernel's value and gradient are the naive network's, and the value's slope.

    `case` has the first arguments of `kernel_objective`, whose last `others` are;
    `naive` says the same as these, as arguments of the reference.
    """
    network, loss, alpha, X, weights = case
    others = others or {}
    value, gradient = kernel_objective(*case, params, **others)
    layers = X, coefs(network, params), intercepts(network, params), names
    how = {"loss": loss, "weights": weights, **(naive or {})}
    if variational:
        true_value, _, *true_gradients = reference.variational_objective(*layers, **how)
    else:
        how |= {"alpha": alpha, "tied": bool(network.tied)}
        true_value, *true_gradients = reference.objective(*layers, **how)
    true_gradient = vector(network, *true_gradients)
    assert_close(value, gradient, true_value, true_gradient, rel)
    # By differences in a random direction.
    direction = rng.standard_normal(params.size)
    direction /= np.linalg.norm(direction)
    slope = directional_slope(
        lambda p: kernel_objective(*case, p, **others)[0], params, direction
    )
    assert gradient @ direction == pytest.approx(slope, rel=1e-6, abs=1e-7)


def assert_close(value, gradient, true_value, true_gradient, rel):
    assert value == pytest.approx(true_value, rel=rel)
    size = np.abs(true_gradient).max()
    np.testing.assert_allclose(gradient, true_gradient, rtol=0, atol=rel * size)


KINDS = [*itertools.product([False, True], DEPTHS.values(), [False, True])]


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_gradient(activation, loss):
    """Every activation x loss x tied x depth x sample weights x L2 x missing ones."""
    rng = np.random.default_rng(0)
    settings = [(0.0, False), (0.1, False), (0.1, True)]
    for (tied, hidden, weighted), (alpha, lacks) in itertools.product(KINDS, settings):
        network, names = network_for(activation, loss, hidden, tied=tied)
        X = data_for(loss, rng)
        weights = rng.integers(0, 4, len(X)).astype(float) if weighted else None
        params, how = random_params(network, names, rng), {}
        if lacks:
            X, seen = lacking(X, rng)
            how = {"others": {"seen": seen}, "naive": {"seen": seen}}
        assert_gradient((network, loss, alpha, X, weights), names, params, rng, **how)


# Where groups of three levels, of one, and of two begin, and end.
GROUPS = np.array([2, 5, 6, 8])


def with_levels(X, rng):
    """Rows with numbers in the first columns, and a level in each of the groups."""
    rows = np.zeros((len(X), GROUPS[-1]))
    rows[:, :2] = X[:, :2]
    for first, stop in itertools.pairwise(GROUPS):
        rows[np.arange(len(X)), rng.integers(first, stop, len(X))] = 1
    return rows


@pytest.mark.parametrize("lacks", [False, True])
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
def test_gradient_of_groups(loss, lacks):
    """The cross-entropy of a softmax, beside the losses of numbers; their weights."""
    rng = np.random.default_rng(0)
    for (tied, hidden, weighted), has_weights in itertools.product(KINDS, (0, 1)):
        widths = [GROUPS[-1], *hidden, N_COMPONENTS, *hidden[::-1], GROUPS[-1]]
        names = ["tanh"] * (2 * len(hidden) + 1) + ["identity"]
        groups = np.diff(GROUPS).tolist()
        network = make_network(widths, names, tied=tied, groups=groups)
        X = with_levels(data_for(loss, rng), rng)
        weights = rng.integers(0, 4, len(X)).astype(float) if weighted else None
        params = random_params(network, names, rng)
        others, naive = {}, {"groups": GROUPS}
        if has_weights:
            of_columns = rng.random(5) + 0.5
            of_units = np.repeat(of_columns, [1, 1, *groups])
            others["unit_weights"] = naive["unit_weights"] = of_units
        if lacks:
            others["seen"] = naive["seen"] = X.copy()
            for first, stop in itertools.pairwise([0, 1, *GROUPS]):
                X[rng.random(len(X)) < 0.3, first:stop] = np.nan
        case = network, loss, 0.1, X, weights
        how = {"others": others, "naive": naive}
        assert_gradient(case, names, params, rng, **how)


@pytest.mark.parametrize("noise", ["masking", "swap"])
def test_gradient_with_corrupted_groups(noise):
    rng = np.random.default_rng(0)
    names, groups = ["tanh", "identity"], np.diff(GROUPS).tolist()
    widths = [GROUPS[-1], N_COMPONENTS, GROUPS[-1]]
    network = make_network(widths, names, tied=False, groups=groups)
    X = with_levels(data_for("squared_error", rng), rng)
    corruption, seen = corruption_by(noise, X)
    args = SETTINGS[0], GROUPS, 0, reference.NO_EPOCH
    of_groups = reference.corrupted_groups(X, noise, *args)
    seen[:, GROUPS[0] :] = of_groups[:, GROUPS[0] :]
    how = {"others": corruption, "naive": {"groups": GROUPS, "seen": seen}}
    params = random_params(network, names, rng)
    case = network, "squared_error", 0.0, X, None
    assert_gradient(case, names, params, rng, **how)


# The normal noise of kernels is exact to 1e-10 of itself.
NOISE_REL = 1e-8


# How much, and by what.
SETTINGS = (0.3, -1.0, 2.0)


def corruption_by(noise, X, epoch=reference.NO_EPOCH):
    """Fields of an objective, and the rows as the network sees them."""
    seen = reference.corrupt(X, noise, *SETTINGS, 0, epoch)
    return {"corruption": Corruption(CORRUPTIONS[noise], np.array(SETTINGS))}, seen


@pytest.mark.parametrize("noise", CORRUPTIONS)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_gradient_with_corrupted_rows(noise, loss):
    """The target stays clean; the noise of an evaluation is always the same."""
    rng = np.random.default_rng(0)
    for tied, hidden, weighted in KINDS:
        network, names = network_for("tanh", loss, hidden, tied=tied)
        X, params = data_for(loss, rng), random_params(network, names, rng)
        weights = rng.integers(1, 4, len(X)).astype(float) if weighted else None
        others, seen = corruption_by(noise, X)
        how = {"others": others, "naive": {"seen": seen}, "rel": NOISE_REL}
        assert_gradient((network, loss, 0.1, X, weights), names, params, rng, **how)


@pytest.mark.parametrize("corrupts", [False, True])
@pytest.mark.parametrize(
    ("sparsity", "code"),
    [("kl", "logistic"), ("l1", "logistic"), ("l1", "identity"), ("l1", "relu")],
)
def test_gradient_with_sparsity(sparsity, code, corrupts):
    rng, weight, target = np.random.default_rng(0), 0.7, 0.2
    term = CodeTerm(SPARSITIES[sparsity], {WEIGHT: weight, TARGET: target})
    others, naive = {"term": term}, {"penalty": (sparsity, weight, target)}
    loss = "squared_error"
    for tied, hidden, weighted in KINDS:
        network, names = network_for("tanh", loss, hidden, tied=tied, code=code)
        X, params = data_for(loss, rng), random_params(network, names, rng)
        weights = rng.integers(1, 4, len(X)).astype(float) if weighted else None
        if corrupts:
            corruption, naive["seen"] = corruption_by("masking", X)
            others |= corruption
        how = {"others": others, "naive": naive}
        assert_gradient((network, loss, 0.1, X, weights), names, params, rng, **how)


@pytest.mark.parametrize("lacks", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_gradient_of_a_variational_code(loss, depth, weighted, lacks):
    """The noise of an evaluation is always the same."""
    rng, beta = np.random.default_rng(0), 0.7
    network, names = variational_network(loss, DEPTHS[depth])
    X, params = data_for(loss, rng), random_params(network, names, rng)
    # Those of the variances are, with the samples, on both sides of both ends of what
    # is not bounded.
    intercepts(network, params)[depth][N_COMPONENTS:] = -60, 1, 3
    weights = rng.integers(1, 4, len(X)).astype(float) if weighted else None
    bits = reference.random_bits(
        0, reference.POSTERIOR, reference.NO_EPOCH, len(X) * N_COMPONENTS
    )
    noise = reference.normal_pairs(bits)[0].reshape(-1, N_COMPONENTS)
    X, seen = lacking(X, rng) if lacks else (X, None)
    assert_gradient(
        (network, loss, 0.0, X, weights),
        names,
        params,
        rng,
        others={"term": CodeTerm(VARIATIONAL, {WEIGHT: beta}), "seen": seen},
        naive={"beta": beta, "noise": noise, "seen": seen},
        variational=True,
        rel=NOISE_REL,
    )


def variational_network(loss, hidden):
    """A network with a variational code, and its activations."""
    widths = [N_FEATURES, *hidden, N_COMPONENTS, *hidden[::-1], N_FEATURES]
    n = len(hidden)
    output = LOSSES[loss].output_activation
    names = [*["tanh"] * n, "identity", *["tanh"] * n, output]
    return make_network(widths, names, tied=False, variational=True), names


def test_a_code_without_posterior_noise_and_divergence_is_a_plain_code():
    """Value and gradient are the plain network's, as a variance of e^-63 is none."""
    rng = np.random.default_rng(0)
    network, names = variational_network("squared_error", (7,))
    plain, _ = network_for("tanh", "squared_error", (7,), code="identity")
    params = random_params(plain, names, rng)
    variational = np.zeros(network.n_params)
    # The units of their variances are -1000, whatever the sample.
    for views in (coefs, intercepts):
        for to, of in zip(
            views(network, variational), views(plain, params), strict=True
        ):
            to[..., : of.shape[-1]] = of
    intercepts(network, variational)[1][N_COMPONENTS:] = -1000.0
    X = data_for("squared_error", rng)
    term = CodeTerm(VARIATIONAL, {WEIGHT: 0.0})
    case = "squared_error", 0.0, X, None
    value, gradient = kernel_objective(network, *case, variational, term=term)
    plain_value, plain_gradient = kernel_objective(plain, *case, params)
    assert value == pytest.approx(plain_value, rel=1e-14)
    for views in (coefs, intercepts):
        for mine, its in zip(
            views(network, gradient), views(plain, plain_gradient), strict=True
        ):
            np.testing.assert_allclose(mine[..., : its.shape[-1]], its, atol=1e-13)
            # e^-31.5, and the slope of the bound, times something.
            assert np.abs(mine[..., its.shape[-1] :]).max(initial=0) < 1e-15


@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_over_lanes_and_blocks(tied, weighted):
    """Eight shards of two blocks, the last not whole; products of packed copies."""
    rng, widths = np.random.default_rng(0), [40, 33, 19, 33, 40]
    names = ["tanh"] * 3 + ["logistic"]
    network = make_network(widths, names, tied=tied)
    X = rng.random((3003, 40))
    lane_rows = -(-len(X) // sharding.MAX_SHARDS)
    assert lane_rows > sharding.block_rows(network)
    weights = rng.integers(0, 4, len(X)).astype(float) if weighted else None
    params = random_params(network, names, rng)
    assert_gradient((network, "log_loss", 0.1, X, weights), names, params, rng)


def directional_slope(function, params, direction):
    """Central difference of fourth order (Fornberg, 1988, table 1)."""
    h = 1e-6  # small: the stencil must not straddle a kink
    values = [function(params + k * h * direction) for k in (-2, -1, 1, 2)]
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)


# A small network, where others do not matter.
NAMES = ["tanh", "identity"]
NETWORK = make_network([N_FEATURES, N_COMPONENTS, N_FEATURES], NAMES, tied=False)


def initial_params(dtype=np.float64):
    return initialization.random_params(NETWORK, NAMES, "glorot", 0, dtype)


def objective_of(rows, validation=None, **others):
    validation = rows.empty() if validation is None else validation
    loss = LOSSES["squared_error"]
    return loop.Objective(NETWORK, loss, 0.0, rows, validation, **others)


def rows_of(X):
    return make_rows(X, np.zeros(X.shape[1]), 1.0)


def run_epochs(X, solver, *, n_epochs=5, dtype=np.float64):
    """Train the small network; returns the training and its loss curve."""
    objective, params = objective_of(rows_of(X.astype(dtype))), initial_params(dtype)
    with loop.StochasticTraining.begin(objective, solver, params, 0) as training:
        _, curves = training.run_epochs(n_epochs)
    return training, curves.loss


def naive_objective(X, params, **others):
    """Value and gradient of the small network, by the naive one."""
    layers = coefs(NETWORK, params), intercepts(NETWORK, params), NAMES
    how = {"loss": "squared_error", "alpha": 0.0, "tied": False, **others}
    value, *gradients = reference.objective(X, *layers, **how)
    return value, vector(NETWORK, *gradients)


def naive_epochs(X, step, n_epochs=5):
    """The same in NumPy, with a function that turns a gradient into an update."""
    params, losses = initial_params(), []
    for _ in range(n_epochs):
        value, gradient = naive_objective(X, params)
        losses.append(value)
        params += step(gradient)
    return params, losses


def sklearn_step(make_optimizer):
    """Steps of one of scikit-learn's optimizers, for one array of parameters."""
    optimizer = None

    def step(gradient):
        nonlocal optimizer
        if optimizer is None:
            optimizer = make_optimizer([np.zeros_like(gradient)])
        return optimizer._get_updates([gradient])[0]

    return step


def rmsprop_step(rate, beta_2=0.999, epsilon=1e-8):
    square, t = 0.0, 0

    def step(gradient):
        nonlocal square, t
        t += 1
        square = beta_2 * square + (1 - beta_2) * gradient**2
        # Kingma & Ba's bias correction, with their epsilon-hat.
        scale = rate * np.sqrt(1 - beta_2**t)
        return -scale * gradient / (np.sqrt(square) + epsilon)

    return step


NAIVE_STEPS = {
    "adam": lambda: sklearn_step(lambda p: AdamOptimizer(p, 0.01)),
    "sgd": lambda: sklearn_step(lambda p: SGDOptimizer(p, 0.01)),
    "sgd_momentum": lambda: sklearn_step(
        lambda p: SGDOptimizer(p, 0.01, momentum=0.7, nesterov=False)
    ),
    "rmsprop": lambda: rmsprop_step(0.01),
}


@pytest.mark.parametrize("name", NAIVE_STEPS)
def test_solver_equals_scikit_learns(name):
    X = np.random.default_rng(0).standard_normal((N_ROWS, N_FEATURES))
    changes = {"momentum": 0.7, "nesterovs_momentum": 0} if "_" in name else {}
    training, losses = run_epochs(X, solver_for(name.partition("_")[0], **changes))
    params, naive_losses = naive_epochs(X, NAIVE_STEPS[name]())
    np.testing.assert_allclose(losses, naive_losses, rtol=1e-10)
    np.testing.assert_allclose(training.state.params, params, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("schedule", "rate_of"),
    [
        ("constant", lambda t, epoch: 0.01),
        ("inverse_time", lambda t, epoch: 0.01 / (1 + 0.5 * t)),
        ("invscaling", lambda t, epoch: 0.01 / (t + 1) ** 0.7),
        ("cosine", lambda t, epoch: 0.005 * (1 + np.cos(np.pi * (epoch % 4) / 4))),
    ],
)
def test_learning_rate_schedule(schedule, rate_of):
    """Two batches an epoch, six epochs of a cosine's period of four."""
    X = np.random.default_rng(0).standard_normal((10, N_FEATURES))
    solver = solver_for(
        "sgd",
        schedule=SCHEDULES[schedule].kind,
        decay=0.5,
        power_t=0.7,
        momentum=0.0,
        batch_size=5,
        max_iter=4,
    )
    training, _ = run_epochs(X, solver, n_epochs=6)
    params = initial_params()
    for t in range(12):
        _, gradient = naive_objective(X[:5] if t % 2 == 0 else X[5:], params)
        params -= rate_of(t, t / 2) * gradient
    np.testing.assert_allclose(training.state.params, params, rtol=1e-10, atol=1e-13)


def test_adaptive_schedule_divides_the_rate_and_ends():
    X = np.random.default_rng(0).standard_normal((N_ROWS, N_FEATURES))
    solver = solver_for(
        "sgd", schedule=SCHEDULES["adaptive"].kind, tol=1e9, n_iter_no_change=2
    )
    training, losses = run_epochs(X, solver, n_epochs=1000)
    # Rates 1e-2 / 5^k until one is at most 1e-6: k = 6. Each lasts three epochs, and
    # the first epoch is better than none.
    assert training.state.progress.rate_factor == pytest.approx(5.0**-6)
    assert len(losses) == 1 + 7 * 3


def test_every_row_counts_once_per_epoch():
    """With a zero learning rate, the epoch's loss is the objective, in any order."""
    X = np.random.default_rng(0).standard_normal((N_ROWS, N_FEATURES))
    solver = solver_for("sgd", learning_rate=0.0, batch_size=4, shuffle=1)
    training, losses = run_epochs(X, solver, n_epochs=4)
    value, _ = naive_objective(X, training.state.params)
    np.testing.assert_allclose(losses, value, rtol=1e-12)


def test_float32_follows_float64():
    X = np.random.default_rng(0).standard_normal((300, N_FEATURES))
    X = X.astype(np.float32).astype(np.float64)
    solver = solver_for("adam", batch_size=64)
    _, losses = run_epochs(X, solver, n_epochs=20)
    _, losses_32 = run_epochs(X, solver, n_epochs=20, dtype=np.float32)
    np.testing.assert_allclose(losses_32, losses, rtol=1e-5)


def test_what_a_training_has_to_improve_on():
    """The start, and, with other rows than before, the weights that are there."""
    X = np.random.default_rng(0).standard_normal((N_ROWS, N_FEATURES))
    objective, params = objective_of(rows_of(X)), initial_params()
    with loop.StochasticTraining.begin(objective, solver_for(), params, 0) as begun:
        progress, state = begun.state.progress, begun.state
        for _ in range(2):
            loop.prepare(begun, params)
            assert progress.start_loss == begun.value(params)
            assert progress.best_kept == begun.value(state.params)
            np.testing.assert_array_equal(state.best_params, state.params)
            begun.run_epochs(3)
            assert progress.best_kept < progress.start_loss
            progress.start_loss = 0.0  # as if of other rows


@pytest.mark.parametrize("noise", [None, "gaussian", "masking"])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("numbered", ["parts", "subset", "numbers"])
def test_sums_over_parts(numbered, make, noise, monkeypatch):
    """What is drawn for a row depends on its number, not on where it is."""
    X = np.random.default_rng(0).standard_normal((30, N_FEATURES))
    used, params = np.arange(30), initial_params()
    others, seen = ({}, X) if noise is None else corruption_by(noise, X)
    rows = rows_of(make(X))
    if numbered != "parts":
        used = np.array([0, 3, 7, 8, 21, 22, 23, 29])
        rows = rows._replace(subset=used.astype(np.int32), n_rows=8, total_weight=8.0)
    if numbered == "numbers":
        rows = rows_of(make(X[used]))._replace(numbers=used)
    monkeypatch.setattr(rows_module, "_PIECE_ENTRIES", 3 * N_FEATURES)
    objective = objective_of(rows, **others)
    with LbfgsTraining.begin(objective, solver_for(), params, seed=0) as training:
        value, gradient = training._evaluate(params)
        assert training.value(params) == pytest.approx(value, rel=1e-12)
        values = training.values([0 * params, params], rows)
        assert values == [training.value(0 * params), training.value(params)]
    truth = naive_objective(X[used], params, seen=seen[used])
    assert_close(value, gradient, *truth, rel=NOISE_REL)


@pytest.mark.parametrize("name", NAIVE_STEPS)
def test_steps_by_gradients_from_elsewhere(name):
    """Sums of gradients, divided by the weight."""
    rng = np.random.default_rng(0)
    objective = objective_of(rows_of(rng.random((5, N_FEATURES))))._replace(alpha=0.5)
    params = initial_params()
    changes = {"momentum": 0.7, "nesterovs_momentum": 0} if "_" in name else {}
    solver = solver_for(name.partition("_")[0], batch_size=5, **changes)
    step, naive = NAIVE_STEPS[name](), params.copy()
    n_weights = objective.network.n_weights
    with loop.StochasticTraining.begin(objective, solver, params, 0) as training:
        training.state.progress.epoch_rows = 5
        for weight in (1.0, 4.0, 0.5):
            gradient = rng.standard_normal(params.size)
            training._workspace.gradients[0] = weight * gradient
            penalty = training._team.run(
                epochs.step,
                objective.model(training.state.params),
                solver,
                training.state,
                weight,
                training._workspace,
                flops=0,
            )
            assert penalty == pytest.approx(0.25 * (naive[:n_weights] ** 2).sum())
            gradient[:n_weights] += 0.5 * naive[:n_weights]
            naive += step(gradient)
            training.state.progress.n_updates += 1
        np.testing.assert_allclose(training.state.params, naive, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shuffle", [0, 1])
def test_an_epoch_in_parts(shuffle, monkeypatch):
    """Two of three windows, by the naive network in the order that was drawn.

    The cosine goes on within an epoch, and what is drawn depends on a row's number.
    """
    monkeypatch.setattr(stream_module, "_WINDOW_ENTRIES", 8 * N_FEATURES)
    X = np.random.default_rng(0).standard_normal((20, N_FEATURES))
    seen = [corruption_by("masking", X, epoch)[1] for epoch in range(2)]
    solver = solver_for(
        schedule=SCHEDULES["cosine"].kind,
        momentum=0.0,
        batch_size=4,
        max_iter=2,
        shuffle=shuffle,
    )
    stream = RowStream(
        lambda: (X[a : a + 7] for a in (0, 7, 14)),
        lambda block, _: Checked(block, False),
    )
    rows = StreamedRows(stream, None, np.zeros(N_FEATURES), 1.0)
    objective, params = (
        objective_of(rows, **corruption_by("masking", X)[0]),
        initial_params(),
    )
    orders, run_on = [], loop.StreamedTraining._run_on

    def run_and_note(self, kernel, model, rows, *args):
        result = run_on(self, kernel, model, rows, *args)
        order = self._workspace.order[: rows.n_rows] if shuffle else range(rows.n_rows)
        orders.append(rows.first_number + np.array(order))
        return result

    monkeypatch.setattr(loop.StreamedTraining, "_run_on", run_and_note)
    with loop.StreamedTraining.begin(objective, solver, params, 0) as training:
        _, curves = training.run_epochs(2)
    naive, losses = params.copy(), []
    for epoch in range(2):
        order = np.concatenate(orders[3 * epoch : 3 * epoch + 3])
        np.testing.assert_array_equal(np.sort(order), np.arange(20))
        losses.append(0.0)
        for start in range(0, 20, 4):
            batch = order[start : start + 4]
            value, gradient = naive_objective(X[batch], naive, seen=seen[epoch][batch])
            losses[-1] += value * len(batch) / 20
            rate = 0.005 * (1 + np.cos(np.pi * (epoch + start / 20) / 2))
            naive -= rate * gradient
    np.testing.assert_allclose(curves.loss, losses, rtol=1e-10)
    np.testing.assert_allclose(training.state.params, naive, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("batch_size", [20_000, 100])
@pytest.mark.parametrize("validated", [False, True])
def test_interrupt_leaves_nothing_half_done(batch_size, validated, monkeypatch):
    """More rows than one block: the interrupt comes in the middle of them."""
    monkeypatch.setattr(loop, "n_threads_for", lambda *args: 1)
    X = np.random.default_rng(0).standard_normal((20_000, N_FEATURES))
    rows, params = rows_of(X), initial_params()
    validation = rows if validated else rows.empty()
    objective = objective_of(rows, validation)
    solver = solver_for(batch_size=batch_size)
    with loop.StochasticTraining.begin(objective, solver, params, 0) as training:
        training.run_epochs(1)
        state, workspace = training.state, training._workspace
        before = {name: array.copy() for name, array in state._asdict().items()}
        workspace.control[records.INTERRUPT] = 1
        curves = {"loss_curve": np.zeros(1), "validation_curve": np.zeros(1)}
        state_of_call = state._replace(**curves)

        def run(kernel, *arguments):
            arguments = (objective.model(state.params), *arguments, workspace)
            addresses, _held = records.arguments_of(kernel, arguments)
            return kernel(*addresses, 0)

        if batch_size == len(X):
            status = run(epochs.train, rows, validation, solver, state_of_call, 1)
        else:
            status = epochs.INTERRUPTED
            assert np.isnan(run(batches.summed_loss, objective.monitored))
        assert status == epochs.INTERRUPTED
        for name in ("loss_sum", "term_sum"):  # of an epoch that starts again
            setattr(state.progress, name, getattr(before["progress"], name))
        for name, array in state._asdict().items():
            assert array.tobytes() == before[name].tobytes()
        # The next run is not affected.
        value = training.value(params)
    with loop.StochasticTraining.begin(objective, solver, params, 0) as training:
        assert training.value(params) == value
