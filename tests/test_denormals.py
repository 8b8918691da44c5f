"""Denormal numbers: zeros for kernels, themselves for everyone else."""

import numpy as np
import pytest
from llvmlite import binding, ir
from threadpoolctl import threadpool_limits

from skae import AutoencoderTransformer
from skae._compiled import denormals
from skae._compiled.losses import LOSSES
from skae._data.rows import make_rows
from skae._model.inference import propagate
from skae._model.network import make_network
from skae._training import loop

from .support.solvers import solver_for

DENORMAL = np.float64(1e-310)


def is_kept():
    """Whether this thread computes with denormal numbers."""
    return bool(DENORMAL * np.float64(0.5) > 0)


@pytest.fixture
def network():
    return make_network([4, 2, 4], ["identity", "identity"], tied=False)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_steps_flush_them_on_all_threads(network, dtype, n_threads):
    """A moment that decays ends at zero, not in denormal numbers."""
    rows = make_rows(np.zeros((1024, 4), dtype=dtype))
    objective = loop.Objective(network, LOSSES["squared_error"], 0.0, rows, rows)
    solver = solver_for("adam", batch_size=1024, max_iter=10_000)
    params = np.zeros(network.n_params, dtype=dtype)
    tiny = np.finfo(dtype).tiny
    with threadpool_limits(n_threads):
        training = loop.StochasticTraining.begin(objective, solver, params, seed=0)
    assert training._team.n_threads == n_threads
    training.state.moment_1[:] = tiny
    training.state.moment_2[:] = tiny / 2
    with training:
        training.run_epochs(1)
    assert not training.state.moment_1.any()  # 0.9 * tiny
    assert not training.state.moment_2.any()  # read as zeros
    assert is_kept()


def test_inference_flushes_them(network, dtype):
    params = np.zeros(network.n_params, dtype=dtype)
    params[:8], params[8:16] = np.finfo(dtype).tiny, 1  # of the encoder, the decoder
    out = propagate(network, params, make_rows(np.full((300, 4), 0.1, dtype=dtype)))
    assert not out.any()


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.filterwarnings("ignore:Maximum iterations")
def test_they_are_left_to_the_user(solver, monkeypatch):
    """On one thread kernels run in the thread of the caller."""
    X = np.random.default_rng(0).standard_normal((60, 5))
    seen = []

    def make_batches():
        for half in (X[:30], X[30:]):
            seen.append(is_kept())
            yield half

    with threadpool_limits(1):
        model = AutoencoderTransformer(2, solver=solver, max_iter=3, random_state=0)
        for use in (model.fit, model.transform, model.score):
            use(X)
            seen.append(is_kept())
        if solver == "adam":
            model.partial_fit(X)
            seen.append(is_kept())
            model.fit_batches(make_batches)
            seen.append(is_kept())
    assert len(seen) >= 3
    assert all(seen)


@pytest.mark.parametrize(
    ("triple", "register"),
    [
        ("x86_64-unknown-linux-gnu", ("stmxcsr", "ldmxcsr")),
        ("aarch64-unknown-linux-gnu", ("mrs", "msr")),
    ],
)
def test_code_for_other_processors(triple, register):
    writer = denormals._REGISTERS[triple.partition("-")[0]]
    module = ir.Module()
    module.triple = triple
    number = ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(number, []), "flush")
    builder = ir.IRBuilder(function.append_basic_block())
    before = writer.read(builder)
    writer.set(builder, builder.or_(before, ir.Constant(number, writer.flush)))
    builder.ret(before)
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    parsed = binding.parse_assembly(str(module))
    target = binding.Target.from_triple(triple).create_target_machine()
    text = target.emit_assembly(parsed)
    assert all(instruction in text for instruction in register)
