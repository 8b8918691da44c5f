"""Compiling ahead."""

import pytest

from skae import __main__, warmup
from skae._compiled import epochs

from .support.sources import run_python

WARM_UP = """
import skae
from skae._compiled.compilation import c_functions

print(skae.warmup(["float32"]))
print(*(f.function.__qualname__ for f in c_functions() if f._compiled))
"""

FIT_EVERYTHING = """
import sys
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skae import AutoencoderTransformer
from skae._compiled.activations import ACTIVATIONS
from skae._compiled.losses import LOSSES
from skae._compiled.compilation import c_functions

warnings.simplefilter("ignore", ConvergenceWarning)
X = np.random.default_rng(0).random((20, 3), dtype=np.float32)
for solver in ("adam", "sgd", "rmsprop", "lbfgs"):
    for loss in LOSSES:
        AutoencoderTransformer(
            1,
            hidden_layer_sizes=(2,) * len(ACTIVATIONS),
            activation=list(ACTIVATIONS),
            loss=loss,
            solver=solver,
            learning_rate="cosine",
            early_stopping=True,
            alpha=0.1,
            max_iter=1,
        ).fit(X, sample_weight=np.ones(20)).score(X)
loaded = {p: c.cache_hits for p in c_functions() for c in p._compiled.values()}
print([p.function.__name__ for p in loaded if not loaded[p]])
# One of those that Numba imports when it is to compile.
print("numba.np.linalg" in sys.modules)
print(*(p.function.__qualname__ for p in loaded))
"""


def test_nothing_is_left_to_compile():
    path, warmed = run_python(WARM_UP).splitlines()
    assert path == epochs.train.cache_path
    to_compile, imports_compiler, used = run_python(FIT_EVERYTHING).splitlines()
    assert (to_compile, imports_compiler) == ("[]", "False")
    # Other tests may have compiled some.
    assert set(used.split()) <= set(warmed.split())
    assert len(used.split()) > 30


WARM_UP_IN_PARALLEL = """
import skae
from skae._compiled.compilation import c_functions

skae.warmup(["float32"], n_jobs=2)
print(sum(not c.cache_hits for f in c_functions() for c in f._compiled.values()))
"""


@pytest.mark.soak
def test_processes_compile_for_this_one(tmp_path):
    n_compiled = run_python(WARM_UP_IN_PARALLEL, NUMBA_CACHE_DIR=str(tmp_path))
    assert int(n_compiled) == 1  # the function that is asked for its folder


def test_unknown_dtypes_are_errors():
    with pytest.raises(ValueError, match="float16"):
        warmup(["float16"])


@pytest.mark.parametrize(
    ("folder", "status", "said"),
    [("/some/folder", 0, "/some/folder"), (None, 1, "NUMBA_CACHE_DIR")],
)
def test_command_line(folder, status, said, monkeypatch, capsys):
    monkeypatch.setattr(__main__, "warmup", lambda n_jobs: folder)
    assert __main__.main(["warmup"]) == status
    assert said in capsys.readouterr()[status]
