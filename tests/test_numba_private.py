"""What skae uses of Numba beyond its public interface, and what it does without."""

import ast

import numba
import pytest
from numba.core.registry import cpu_target

from skae._compiled import cache, numba_private

from .support.sources import TREES, imports, run_python

FIT = """
import sys
import warnings

import numpy as np

from skae import AutoencoderTransformer
from skae._compiled import cache, epochs
from skae._compiled.compilation import c_functions

warnings.simplefilter("ignore")
X = np.random.default_rng(0).random((40, 3))
model = AutoencoderTransformer(
    1, hidden_layer_sizes=(), solver="sgd", max_iter=3, random_state=0
)
code = model.fit(X).transform(X)
used = [compiled for p in c_functions() for compiled in p._compiled.values()]
hits = sum(compiled.cache_hits for compiled in used)
names = [cache._Known.names_serve, epochs.train.cache_path is not None]
print(np.append(code, model.loss_curve_).tobytes().hex(), *names, len(used) - hits)
"""

HIDDEN = {
    "nothing": "",
    "names": """
import numba.core.caching
del numba.core.caching.CompileResultCacheImpl
""",
    "methods": """
from numba.core.caching import Cache
Cache._load, Cache._save = Cache._load_overload, Cache._save_overload
del Cache._load_overload, Cache._save_overload
Cache.load_overload = lambda self, *args: args[-1].refresh() or self._load(*args)
Cache.save_overload = lambda self, *args: self._save(*args)
""",
    "arguments": """
import numba.core.ccallback  # Numba's own use of it
import numba.core.caching
class Other(numba.core.caching.FunctionCache):
    def __init__(self, function, *, other):
        super().__init__(function)
numba.core.caching.FunctionCache = Other
""",
}


@pytest.mark.soak
def test_a_fit_without_the_private_names(tmp_path):
    """The same bits; what is compiled is still kept on disk, in files of its own."""
    bits, of_its_own = set(), {"NUMBA_CACHE_DIR": str(tmp_path)}
    for hidden in HIDDEN:
        is_whole = hidden == "nothing"
        printed = run_python(HIDDEN[hidden] + FIT, **{} if is_whole else of_its_own)
        of_fit, names_serve, has_path, n_compiled = printed.split()
        bits.add(of_fit)
        assert names_serve == str(is_whole)
        assert has_path == "True"
        # The first, by which the change of a method is noticed, is compiled twice.
        assert is_whole or (int(n_compiled) > 1) == (hidden == "names")
    assert len(bits) == 1


def test_a_public_compilation_that_cannot_be_cached(monkeypatch):
    """As of a damaged file."""
    signature, n_calls = numba.int64(numba.int64), []

    def cfunc(signature, cache=False, **options):
        n_calls.append(cache)
        if cache:
            raise EOFError
        return numba_cfunc(signature, **options)

    numba_cfunc = numba.cfunc
    monkeypatch.setattr(numba, "cfunc", cfunc)
    monkeypatch.setattr(cache._Known, "names_serve", False)
    assert cache.c_function(signature, lambda x: x + 1).ctypes(4) == 5
    assert n_calls == [True, False]


def test_options_that_numba_no_longer_has(monkeypatch):
    assert numba_private.options_known(_nrt=False, other=1) == {"_nrt": False}
    monkeypatch.setattr(cpu_target, "options", type("Options", (), {"forceinline": 1}))
    assert numba_private.options_known(_nrt=False, forceinline=True) == {
        "forceinline": True
    }


@pytest.mark.parametrize(
    "name",
    sorted(
        set(TREES) - {"_compiled.numba_private", "_runtime.scipy_private", "_sklearn"}
    ),
)
def test_only_one_module_for_each_library_imports_private_names(name):
    private = {
        module
        for module in imports(ast.walk(TREES[name]))
        if module.startswith(("numba.core", "llvmlite.", "scipy.", "threadpoolctl."))
        and (".core" in module or "._" in module)
    }
    assert not private


LOAD = """
from skae._compiled import cache
from skae._compiled.elementwise import add_squares

found, versions = cache.processor, cache._VERSIONS


def hits():
    add_squares._compiled.clear()
    return add_squares.compiled().cache_hits


print(hits(), hits())
cache.processor = lambda context: (*found(context)[:2], "+other")
print(hits(), hits())
cache._VERSIONS = ("0.1", *versions[1:])
print(hits(), hits())
"""


def test_machine_code_of_another_processor_or_version_is_not_run(tmp_path):
    """Numba's index of files may lead there, after a race of two processes."""
    printed = run_python(LOAD, NUMBA_CACHE_DIR=str(tmp_path))
    assert printed == 3 * "0 1\n"
