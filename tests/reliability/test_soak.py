"""Many fits in one process: memory, threads and open files stay what they were."""

import gc
import os
import random
import threading
from pathlib import Path

import numpy as np
import pytest

from skae.io import load, save

from ..support.cases import times
from ..support.processes import allowed, in_new_process
from .support import NAMES, SEED, copy_of, make, rows

pytestmark = pytest.mark.reliability

STATUS, FILES = Path("/proc/self/status"), Path("/proc/self/fd")
# What all fits after the first may add to the process' memory: fragments, as 200 kB
# are. A tenth of their data would be as much.
MAX_GROWTH = 4_000  # kB


def resident_kilobytes():
    gc.collect()
    (line,) = [x for x in STATUS.read_text().splitlines() if x.startswith("VmRSS")]
    return int(line.split()[1])


def job_many_fits(folder, n_fits, n_before, seed):
    rng = random.Random(seed)
    path = Path(folder) / "model.safetensors"

    def use(name, dtype, n_threads, *, in_blocks, saves=True):
        X = rows(1000, 12, dtype).copy()
        model = make(name)
        with allowed(n_threads):
            if in_blocks:
                model.fit_batches(lambda: np.split(X, 4))
            else:
                model.fit(X)
            model.score(X)
            if model.solver != "lbfgs":
                model.partial_fit(X[:100])
            model.set_params(warm_start=True).fit(X)
            copy = copy_of(model)
            if saves:
                save(model, path)
                copy = load(path)
            copy.inverse_transform(model.transform(X))
            with pytest.raises(ValueError, match="features"):
                model.transform(X[:, :2])

    for name in NAMES:  # compiles
        for dtype in ("float64", "float32"):
            for in_blocks in (False, True):
                use(name, dtype, 2, in_blocks=in_blocks)
    found = []
    for n in range(n_before + n_fits):
        if (n >= n_before and n % 20 == 0) or n == n_before + n_fits - 1:
            n_files = len(os.listdir(FILES))
            found.append((resident_kilobytes(), n_files, threading.active_count()))
        name = rng.choice(NAMES)
        dtype, n_threads = rng.choice(["float64", "float32"]), rng.choice([1, 2])
        use(name, dtype, n_threads, in_blocks=n % 4 == 0, saves=n % 5 == 0)
    return found


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc of Linux")
def test_many_fits(count, tmp_path):
    n_fits = times(100, 2000)
    found = in_new_process(job_many_fits, str(tmp_path), n_fits, 20, SEED)
    sizes, files, threads = zip(*found, strict=True)
    growth = sizes[-1] - sizes[0]  # what is freed again is no leak
    assert growth < MAX_GROWTH, sizes
    assert set(files) == {files[0]}
    assert set(threads) == {threads[0]}
    what = (
        f"memory grew by {growth} kB ({MAX_GROWTH} allowed), no thread or file stayed"
    )
    count("fits in a row", what, n_fits)
