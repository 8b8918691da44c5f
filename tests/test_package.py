"""The package as a whole: imports, its cache of machine code, memory, dependencies."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import skae
from skae import AutoencoderTransformer, _kernels

PACKAGE = Path(skae.__file__).parent
ROOT = Path(__file__).parents[1]
SOURCES = {path.stem: path for path in sorted(PACKAGE.glob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in SOURCES.items()}

# A module may import those of lower levels, which know nothing of it.
LEVELS = {
    "_kernels": 0,
    "_sklearn": 0,
    "_reporting": 0,
    "metrics": 1,
    "_demo_data": 0,
    "_network": 1,
    "_rows": 1,
    "_threads": 1,
    "_inference": 2,
    "_training": 2,
    "_lbfgs": 3,
    "_base": 4,
    "_autoencoder": 5,
    "__init__": 6,
    "_demo": 7,
    "__main__": 8,
}
DEPENDENCIES = {"numba", "numpy", "scipy", "sklearn", "threadpoolctl"}
# What comes with a dependency: with Numba.
IMPLIED_DEPENDENCIES = {"llvmlite"}
PRINTING_MODULES = {"__main__", "_demo", "_reporting"}
COMPILERS = {
    "cfunc",
    "generated_jit",
    "guvectorize",
    "intrinsic",
    "jit",
    "jit_module",
    "jitclass",
    "njit",
    "overload",
    "prange",
    "stencil",
    "vectorize",
}
MAX_ARGUMENTS = 8


def run_python(code, *args, cwd=ROOT, timeout=300, **environment):
    """Run code in a new process, with warnings as errors; returns what it prints.

    A variable that is None is unset.
    """
    variables = {**os.environ, "PYTHONPATH": str(cwd), **environment}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, args)],
        cwd=cwd,
        env={name: value for name, value in variables.items() if value is not None},
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


def imports(tree):
    """Names of the modules that a module imports: dotted, skae's own included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            if node.module == "skae":
                yield from (f"skae.{alias.name}" for alias in node.names)


def statements_at_import(tree):
    """A module's statements without the bodies of its functions."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


# -- what is shipped ---------------------------------------------------------------


def test_version_and_names():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|(a|b|rc)\d+)?", skae.__version__)
    assert "AutoencoderTransformer" in skae.__all__
    assert all(hasattr(skae, name) for name in skae.__all__)
    assert len(set(skae.__all__)) == len(skae.__all__)


def test_types_are_shipped():
    assert (PACKAGE / "py.typed").is_file()


def test_every_module_has_a_level():
    assert set(LEVELS) == set(SOURCES)


@pytest.mark.parametrize("name", LEVELS)
def test_no_module_knows_those_above_it(name):
    ours = {module for module in imports(TREES[name]) if module.startswith("skae.")}
    imported = {module.removeprefix("skae.") for module in ours} & set(LEVELS)
    above = {module for module in imported if LEVELS[module] >= LEVELS[name]}
    # Nor do members of a level know one another.
    assert not above


@pytest.mark.parametrize("name", SOURCES)
def test_only_declared_dependencies_are_imported(name):
    at_import = ast.Module(
        body=list(statements_at_import(TREES[name])), type_ignores=[]
    )
    roots = {module.split(".")[0] for module in imports(at_import)}
    allowed = DEPENDENCIES | IMPLIED_DEPENDENCIES | {"skae"} | sys.stdlib_module_names
    assert roots <= allowed


@pytest.mark.parametrize("name", SOURCES)
def test_only_some_modules_print(name):
    calls = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.Call)]
    prints = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
    assert not prints or name in PRINTING_MODULES


def test_lower_bounds_are_the_pinned_oldest_versions():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    bounds = dict(
        re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement).groups()
        for requirement in (*project["dependencies"], *extras["plot"], *extras["test"])
        if not requirement.startswith("skae[")
    )
    assert set(bounds) >= {
        name.replace("sklearn", "scikit-learn") for name in DEPENDENCIES
    }
    lines = (ROOT / "constraints-oldest.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)

    def release(version):
        parts = [int(part) for part in version.split(".")]
        return parts + [0] * (3 - len(parts))

    for name, bound in bounds.items():
        assert release(pins[name]) == release(bound), name


# -- kernels and their cache ---------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"_kernels"}))
def test_all_compiled_code_is_in_one_module(name):
    """Numba stamps a cached kernel with its own file only."""
    names = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("numba"):
            names |= {alias.name for alias in node.names}
    assert not names & COMPILERS
    compiles = {"_jit", "_kernel", "_inlined"}
    assert not names & compiles


def test_compiled_functions_have_names_of_their_own():
    """Numba tells namesakes apart by a count that differs between processes."""
    names = Counter(
        f.py_func.__qualname__ for f in vars(_kernels).values() if hasattr(f, "py_func")
    )
    assert names.total() > 50
    assert [name for name, count in names.items() if count > 1] == []


def test_kernels_have_few_arguments():
    functions = [
        node
        for node in ast.walk(TREES["_kernels"])
        if isinstance(node, ast.FunctionDef)
    ]
    assert len(functions) > 50
    too_many = {
        function.name: len(function.args.args)
        for function in functions
        if len(function.args.args) > MAX_ARGUMENTS
    }
    assert not too_many


KERNELS = """
import json

from numba.core.dispatcher import Dispatcher

from skae import _kernels

DISPATCHERS = {
    name: value for name, value in vars(_kernels).items()
    if isinstance(value, Dispatcher)
}
CACHED = {
    name: value for name, value in DISPATCHERS.items()
    if not name.startswith("_")
}
"""

IMPORT_ALL = (
    """
import importlib

from numba.core import event

with event.install_recorder("numba:compile") as recorder:
    for module in %r:
        importlib.import_module(module)
assert not recorder.buffer, recorder.buffer
"""
    % [f"skae.{name}".removesuffix(".__init__") for name in LEVELS]
    + KERNELS
    + """
assert len(DISPATCHERS) > 50
assert len(CACHED) >= 6
assert not [name for name, d in DISPATCHERS.items() if d.signatures]
print("nothing")
"""
)


def test_import_compiles_nothing():
    assert run_python(IMPORT_ALL) == "nothing\n"


# Everything that X, and what else fit takes, may be.
USE_EVERYTHING = (
    """
import pickle
import sys
import warnings

import joblib
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from skae import AutoencoderTransformer, _kernels

warnings.simplefilter("ignore", ConvergenceWarning)
folder = sys.argv[1]
rng = np.random.default_rng(0)


def use(model, X, **options):
    model.fit(X, **options)
    code = model.transform(X)
    model.inverse_transform(code)
    model.score(X)
    model.reconstruction_error(X, metric="loss")
    model.score_samples(X[:1])
    if model.solver != "lbfgs":
        model.partial_fit(X)
    return model


def small(**parameters):
    return AutoencoderTransformer(
        **{"max_iter": 2, "hidden_layer_sizes": (5,), **parameters}
    )


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


for dtype in (np.float32, np.float64):
    X = rng.random((300, 6)).astype(dtype)
    file = f"{folder}/{np.dtype(dtype).name}.npy"
    np.save(file, X)
    unaligned = np.frombuffer(b"x" + X.tobytes(), np.uint8)[1:].view(dtype)
    csr = sparse.csr_matrix(X)
    wide = sparse.csr_matrix(X)
    wide.indices, wide.indptr = wide.indices.astype("i8"), wide.indptr.astype("i8")
    frozen = sparse.csr_array(X)
    frozen.data = read_only(frozen.data)
    frozen.indices, frozen.indptr = read_only(frozen.indices), read_only(frozen.indptr)
    matrices = {
        "C": X,
        "F": np.asfortranarray(X),
        "strided": np.repeat(X, 2, axis=0)[::2],
        "strided columns": np.repeat(X, 2, axis=1)[:, ::2],
        "reversed": X[::-1],
        "read-only": read_only(X),
        "memory map": np.load(file, mmap_mode="r"),
        "writable map": np.load(file, mmap_mode="c"),
        "slice of a map": np.load(file, mmap_mode="r")[3:],
        "unaligned": unaligned.reshape(X.shape),
        "other byte order": X.astype(X.dtype.newbyteorder()),
        "one column": X[:, :1],
        "one row": X[:1],
        "frame": pd.DataFrame(X),
        "csr": csr,
        "csr of int64": wide,
        "csr, read-only": frozen,
        "csc": csr.tocsc(),
        "coo": csr.tocoo().tocsr()[:200],
        "empty csr": sparse.csr_matrix(X.shape, dtype=dtype),
    }
    for matrix in matrices.values():
        use(small(), matrix)
    weights = rng.random(2 * len(X))
    for parameters, options in [
        ({"n_components": 3, "hidden_layer_sizes": ()}, {}),
        ({"hidden_layer_sizes": (7, 6, 5), "activation": ("elu", "gelu", "tanh")}, {}),
        ({"tied_weights": True, "alpha": 1}, {}),
        ({"solver": "sgd", "batch_size": np.int64(7), "momentum": 0}, {}),
        ({"solver": "rmsprop", "learning_rate": "cosine", "max_iter": np.int32(3)}, {}),
        ({"solver": "lbfgs"}, {"sample_weight": weights[: len(X)]}),
        ({"solver": "lbfgs", "early_stopping": True}, {}),
        ({"early_stopping": True}, {"sample_weight": weights[::2]}),
        ({"early_stopping": True, "tol": np.float32(0)}, {"X_val": read_only(X)}),
        ({}, {"X_val": csr}),
        ({"loss": "log_loss", "shuffle": False, "batch_size": 300}, {}),
        ({"loss": "poisson", "n_iter_no_change": np.inf, "verbose": False}, {}),
        ({"loss": "huber", "learning_rate_init": np.float32(0.1)}, {}),
        ({"loss": "absolute_error", "code_activation": "relu", "alpha": 0}, {}),
        ({"warm_start": True, "solver": "lbfgs"}, {}),
    ]:
        model = use(small(**parameters), X, **options)
        if model.warm_start:
            model.fit(X)
    file = f"{folder}/{np.dtype(dtype).name}.joblib"
    joblib.dump(use(small(warm_start=True), X), file)
    for mode in (None, "r"):
        loaded = joblib.load(file, mmap_mode=mode)
        loaded.transform(X)
        loaded.inverse_transform(loaded.transform(csr))
        loaded.score(read_only(X))
        loaded.partial_fit(X)
        loaded.fit(X)
    use(pickle.loads(pickle.dumps(small(warm_start=True).fit(X))), X)
    # two threads, where there are as many processors
    large = rng.random((2000, 200)).astype(dtype)
    use(small(hidden_layer_sizes=(50,), batch_size=1000), large)
"""
    + KERNELS
    + """
print(json.dumps({
    name: {
        "signatures": len(kernel.signatures),
        "hits": sum(kernel.stats.cache_hits.values()),
        "misses": sum(kernel.stats.cache_misses.values()),
        "which": [str(signature) for signature in kernel.signatures],
    }
    for name, kernel in CACHED.items()
}))
"""
)


def test_one_compilation_a_dtype_serves_everything(tmp_path):
    """And a second process compiles none of it."""
    pytest.importorskip("pandas")
    used = json.loads(run_python(USE_EVERYTHING, tmp_path))
    if any(kernel["misses"] for kernel in used.values()):  # the cache was cold
        used = json.loads(run_python(USE_EVERYTHING, tmp_path))
    for name, kernel in used.items():
        assert kernel["signatures"] == 2, (name, kernel["which"])
        assert kernel["misses"] == 0, name
        assert kernel["hits"] == 2, name


@pytest.fixture
def copied_package(tmp_path):
    """A folder with a copy of the package, without cached kernels."""
    shutil.copytree(
        PACKAGE, tmp_path / "skae", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path


FIT_READ_ONLY = (
    """
import numpy as np

import skae

assert skae.__file__.startswith({folder!r}), skae.__file__
X = np.random.default_rng(0).random((50, 3)).astype(np.float32)
model = skae.AutoencoderTransformer(
    1, hidden_layer_sizes=(), max_iter=3, tol=1e9, n_iter_no_change=1, random_state=0
).fit(X)
model.inverse_transform(model.transform(X))
"""
    + KERNELS
    + """
assert CACHED["train"].signatures
assert not any(kernel.stats.cache_path for kernel in CACHED.values())
print(np.round(model.loss_, 4))
"""
)


def test_read_only_installation_and_home(copied_package):
    """A plain file in the cache folder's place stops even root."""
    (copied_package / "skae" / "__pycache__").write_text("not a folder")
    code = FIT_READ_ONLY.replace("{folder!r}", repr(str(copied_package)))
    X = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    expected = AutoencoderTransformer(
        1,
        hidden_layer_sizes=(),
        max_iter=3,
        tol=1e9,
        n_iter_no_change=1,
        random_state=0,
    ).fit(X)
    printed = run_python(
        code,
        cwd=copied_package,
        HOME="/dev/null",
        XDG_CACHE_HOME=None,
        NUMBA_CACHE_DIR=None,
        LOCALAPPDATA=None,
        PYTHONDONTWRITEBYTECODE="1",
        NUMBA_OPT="0",  # compiles in half of the time
    )
    assert float(printed) == pytest.approx(expected.loss_, abs=1e-3)


MEASURE_LOSS = """
import numpy as np

from skae import _kernels

losses = np.empty(1)
code = _kernels.LOSSES["squared_error"].code
_kernels.losses(code, np.full((1, 1), 3.0), np.full((1, 1), 1.0), losses)
(hits,) = [*_kernels.losses.stats.cache_hits.values()] or [0]
print(losses[0], hits)
"""


def test_an_edit_of_a_called_function_is_noticed(copied_package):
    """The cache is that of the file, and everything compiled is in it."""
    cold = {"cwd": copied_package, "NUMBA_CACHE_DIR": None}
    assert run_python(MEASURE_LOSS, **cold) == "2.0 0\n"
    assert run_python(MEASURE_LOSS, **cold) == "2.0 1\n"
    kernels = copied_package / "skae" / "_kernels.py"
    source = kernels.read_text("utf-8")
    before = "return _like(0.5, r) * r * r, r"
    assert source.count(before) == 1
    # The same length: the time of the edit has to do.
    after = before.replace("0.5", "1.5")
    kernels.write_text(source.replace(before, after), "utf-8")
    assert run_python(MEASURE_LOSS, **cold) == "6.0 0\n"


# -- memory ------------------------------------------------------------------------

MEGABYTE = 10**6
# Beside X: the chunks in which it is measured, a row number for each row.
MAX_MEMORY = 25 * MEGABYTE


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["array", "map", "csr"])
def test_fit_does_not_copy_the_data(kind, dtype, solver, tmp_path):
    n_rows = 64 * MEGABYTE // (400 * np.dtype(dtype).itemsize)
    rng = np.random.default_rng(0)
    X = rng.random((n_rows, 400), dtype=np.float32).astype(dtype, copy=False)
    if kind == "map":
        np.save(tmp_path / "X.npy", X)
        X = np.load(tmp_path / "X.npy", mmap_mode="r")
    elif kind == "csr":
        # int32 columns are half of the memory, or a third
        X = sparse.csr_matrix(X)
    model = AutoencoderTransformer(
        hidden_layer_sizes=(4,),
        solver=solver,
        batch_size=1000,
        max_iter=3,
        tol=1e9,
        n_iter_no_change=1,
        random_state=0,
    )
    tracemalloc.start()
    try:
        model.fit(X)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        model.transform(X)
        _, peak_of_transform = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MAX_MEMORY
    assert peak_of_transform - before < MAX_MEMORY
