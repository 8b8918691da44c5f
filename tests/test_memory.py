"""Memory that kernels work on."""

import numpy as np
import pytest

from skae import _inference, _memory
from skae._memory import BLOCK, HELD, LINE_BYTES, in_lines
from skae._threads import ThreadTeam

from .cases import data_for, make
from .processes import allowed

# What each thread, or each lane, writes a row of.
ROWS_OF_THREADS = (
    "lane_losses",
    "lane_codes",
    "settings",
    "term_settings",
    "lane_gradients",
)
ALIGNED = ("control", "penalty", "held", "blocks", "picked", "row_weights", "inputs")
ALIGNED += ("corrupted", "packed", "units", "slopes", "kept")


@pytest.mark.parametrize("n_entries", [0, 1, 15, 16, 17])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_in_lines(n_entries, dtype):
    rows = in_lines(3, n_entries, dtype)
    assert rows.shape[1] >= n_entries
    assert rows.flags.c_contiguous
    assert not rows.any()
    if n_entries:
        assert rows.ctypes.data % LINE_BYTES == 0
        assert rows.strides[0] % LINE_BYTES == 0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ["sparse_kl", "masking_noise", "minibatch"])
def test_no_cache_line_is_written_by_two_threads(name, monkeypatch):
    teams, run = [], ThreadTeam.run

    def spy(team, kernel, *args, **options):
        teams.extend(arg for arg in args if isinstance(arg, _memory.Team))
        sums = [arg for arg in args if isinstance(arg, np.ndarray) and arg.ndim == 2]
        for array in sums if kernel is _inference._kernels.propagate else ():
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
