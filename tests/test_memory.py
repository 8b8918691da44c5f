"""Memory that kernels work on."""

import ast
import itertools

import numpy as np
import pandas as pd
import pytest

from skae import AutoencoderTransformer
from skae._compiled import elementwise, records
from skae._compiled.records import BLOCK, HELD, LINE_BYTES, in_lines
from skae._data.rows import make_rows
from skae._model import inference
from skae._runtime.threads import ThreadTeam
from skae._training.plan import make_plan

from .support.cases import data_for, make
from .support.memory import peak_memory
from .support.processes import allowed
from .support.sources import TREES

# What each thread, or each shard, writes a row of.
ROWS_OF_THREADS = (
    "shard_losses",
    "shard_codes",
    "settings",
    "term_settings",
    "shard_gradients",
)
ALIGNED = ("control", "penalty", "held", "blocks", "picked", "row_weights", "inputs")
ALIGNED += ("corrupted", "packed", "units", "slopes", "kept")


@pytest.mark.parametrize("n_entries", [0, 1, 15, 16, 17])
def test_rows_in_lines(n_entries, dtype):
    rows = in_lines(3, n_entries, dtype)
    assert rows.shape[1] >= n_entries
    assert rows.flags.c_contiguous
    assert not rows.any()
    if n_entries:
        assert rows.ctypes.data % LINE_BYTES == 0
        assert rows.strides[0] % LINE_BYTES == 0


@pytest.mark.parametrize("name", ["sparse_kl", "masking_noise", "minibatch"])
def test_no_cache_line_is_written_by_two_threads(name, monkeypatch):
    teams, run = [], ThreadTeam.run

    def spy(team, kernel, *args, **options):
        teams.extend(arg for arg in args if isinstance(arg, records.Team))
        sums = [arg for arg in args if isinstance(arg, np.ndarray) and arg.ndim == 2]
        for array in sums if kernel is inference.propagation.propagate else ():
            if array.shape[0] == team.n_threads and array.dtype == float:
                assert array.strides[0] % LINE_BYTES == 0
        return run(team, kernel, *args, **options)

    monkeypatch.setattr(ThreadTeam, "run", spy)
    with allowed(2):
        model = make(name, max_iter=2)
        model.fit(data_for(model, n_rows=300))
        model.transform(data_for(model, n_rows=2500))
    assert max(team.n_threads for team in teams) == 2
    for team in teams:
        for field in ROWS_OF_THREADS:
            rows = getattr(team, field)
            assert rows.ctypes.data % LINE_BYTES == 0 or not rows.size
            assert rows.strides[0] % LINE_BYTES == 0 or not rows.size
        for field in ALIGNED:
            array = getattr(team, field)
            assert array.ctypes.data % LINE_BYTES == 0 or not array.size, field
    for record in (BLOCK, HELD):
        assert record.itemsize % LINE_BYTES == 0


def training_of(**changes):
    """A training of 300 rows in batches, and its objective's rows."""
    model = make("minibatch", batch_size=150, **changes)
    X = data_for(model, n_rows=300)
    plan = make_plan(model, make_rows(X), None)
    return plan.training


WRONG_ROWS = {
    "dtype": lambda rows: rows._replace(values=rows.values.astype(np.float32)),
    "scaling": lambda rows: rows._replace(scaling=rows.scaling[:-1]),
    "types": lambda rows: rows._replace(subset=np.arange(300)),
    "weights": lambda rows: rows._replace(weights=np.ones(300, np.float32)),
    "rows": lambda rows: rows._replace(n_rows=301),
    "values": lambda rows: rows._replace(values=rows.values[:-1]),
    "few weights": lambda rows: rows._replace(weights=np.ones(299)),
    "subset": lambda rows: rows._replace(subset=np.arange(5, dtype=np.int32)),
    "columns": lambda rows: rows._replace(n_features=rows.n_features - 1),
}


@pytest.mark.parametrize("name", WRONG_ROWS)
def test_rows_that_do_not_fit(name):
    training = training_of()
    wrong = WRONG_ROWS[name](training.objective.rows)
    with pytest.raises(ValueError, match="rows do not fit"):
        training.value(training.state.params, wrong)
    training.objective = training.objective._replace(rows=wrong)
    with training, pytest.raises(ValueError, match="rows do not fit"):
        training.run_epochs(1)


def test_working_memory_that_does_not_fit():
    training = training_of()
    rows = training.objective.rows
    small = training._workspace._replace(order=training._workspace.order[:10])
    training._workspace, whole = small, training._workspace
    with training, pytest.raises(ValueError, match="an order of 10 rows, not of 300"):
        training.run_epochs(1)
    none = whole.shard_gradients[:0].copy()
    training._workspace = whole._replace(shard_gradients=none)
    with pytest.raises(ValueError, match="smaller batches than of 150"):
        training.run_epochs(1)
    with pytest.raises(ValueError, match="smaller batches than of 300"):
        training._summed_gradient(training.state.params)
    training._workspace = whole
    order = np.arange(300, dtype=np.int32)
    with pytest.raises(ValueError, match=r"a batch at \(200, 301\) of 300 rows"):
        training.batch_gradient(training.state.params, rows, order, (200, 301), 0)
    for batches in ([(0, 10), (290, 301)], [(-1, 10)]):
        with pytest.raises(ValueError, match="of 300 rows"):
            training.take_steps(training.state, rows, order, batches, 0)


def test_arrays_that_are_not_what_a_loop_reads():
    strided = np.ones((4, 4))[:, 0]
    with pytest.raises(ValueError, match="without strides"):
        records.address(strided)
    for values, squares in (
        (strided, np.zeros(1)),
        (np.ones(4), np.zeros(1, np.float32)),
        (np.ones(4), np.zeros(2)[::-1]),
    ):
        with pytest.raises(ValueError, match="add_squares cannot read an array"):
            elementwise.add_squares(values, squares, 4)


def test_no_memory_rests_on_assertions():
    """Which `python -O` leaves out."""
    statements = itertools.chain(*map(ast.walk, TREES.values()))
    assert not [node for node in statements if isinstance(node, ast.Assert)]


def test_tables_are_never_dense():
    """15,000 rows of 1,000 levels are 120 MB if they are dense."""
    rng, n_rows = np.random.default_rng(0), 15_000
    names = np.array([f"level {number}" for number in range(1000)])
    levels = pd.Categorical.from_codes(rng.integers(0, 1000, n_rows), names)
    table = pd.DataFrame({"x": rng.standard_normal(n_rows), "level": levels})
    estimator = AutoencoderTransformer(1, hidden_layer_sizes=(16,), max_iter=1)
    assert peak_memory(lambda: estimator.fit(table)) < 60e6
    assert estimator.categories_[1].size == 1000
