"""The package as a whole: imports, its cache of machine code, memory, dependencies."""

import ast
import graphlib
import importlib
import itertools
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator

import skae
from skae import AutoencoderTransformer
from skae._compiled.cache import digest_of_sources
from skae._compiled.compilation import c_functions
from skae._sklearn import DOCUMENTATION

from .support.cases import times
from .support.memory import peak_memory
from .support.sources import (
    PACKAGE,
    ROOT,
    SOURCES,
    TREES,
    imports,
    run_python,
    statements_at_import,
)

# Folders, and modules that lie in none, from the bottom up. A module may import those
# on lower floors, and others in its own folder, but not in a circle.
FLOORS = (
    ("_compiled", "_sklearn", "_typing"),
    ("_runtime", "_names", "datasets"),
    ("_data",),
    ("_model",),
    ("_training", "metrics"),
    ("_base",),
    ("_autoencoder", "_variational"),
    ("_imputer", "_outliers"),
    ("__init__",),
    ("_files", "dask", "inspection", "onnx"),
    ("_cli", "io"),
    ("__main__", "callbacks"),
)
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
MAX_ENTRIES = 25
DEPENDENCIES = {"numba", "numpy", "scipy", "sklearn", "threadpoolctl"}
# Of modules that need an extra, beside these.
OF_EXTRAS = {"dask.blocks": {"dask"}}
# What comes with a dependency: with Numba, with scikit-learn.
IMPLIED_DEPENDENCIES = {"llvmlite", "joblib"}
PRINTING_MODULES = {"__main__", "_cli.demo", "_training.reporting"}
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
# All that is compiled, and nothing else, lies in one folder.
COMPILED_NAMES = [name for name in SOURCES if name.startswith("_compiled.")]
COMPILED = [importlib.import_module(f"skae.{name}") for name in COMPILED_NAMES]
MAX_ARGUMENTS = 8


def test_version_and_names():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|(a|b|rc)\d+)?", skae.__version__)
    assert "AutoencoderTransformer" in skae.__all__
    assert all(hasattr(skae, name) for name in skae.__all__)
    assert len(set(skae.__all__)) == len(skae.__all__)
    assert (PACKAGE / "py.typed").is_file()
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MAX_ENTRIES


PUBLIC_MODULES = sorted(n for n in SOURCES if not n.startswith("_") and "." not in n)

USE_MODULES = """
import sys

import skae

public = sys.argv[1:]
optional = ("dask", "distributed", "matplotlib", "onnx", "safetensors")
names = [
    "AutoencoderImputer",
    "AutoencoderOutlierDetector",
    "AutoencoderTransformer",
    "VariationalAutoencoderTransformer",
    "warmup",
]
assert dir(skae) == sorted([*names, "__version__", *public]), dir(skae)
loaded = {name for name in sys.modules if name.startswith("skae.")}
assert not loaded & {f"skae.{name}" for name in public}, loaded
assert not set(optional) & set(sys.modules)
assert skae.inspection.LossCurveDisplay
assert not set(optional) & set(sys.modules)
from skae import metrics
import skae.io
assert metrics is skae.metrics is sys.modules["skae.metrics"]
sys.modules["dask"] = None
for _ in range(2):
    try:
        skae.dask
    except ImportError as error:
        assert "pip install 'skae[dask]'" in str(error)
    else:
        raise AssertionError
del sys.modules["dask"]
for name in public:
    module = getattr(skae, name)
    assert dir(module) == sorted(module.__all__), name
try:
    skae.metric
except AttributeError as error:
    print(error)
"""


def test_modules_are_attributes_that_are_imported_when_they_are_used():
    pytest.importorskip("dask")
    printed = run_python(USE_MODULES, *PUBLIC_MODULES)
    assert printed == "module 'skae' has no attribute 'metric'\n"


def estimators():
    """Pairs of the name that a public estimator has in the API, and an instance."""
    for module in (skae, pytest.importorskip("skae.dask")):
        for name in module.__all__:
            member = getattr(module, name)
            if isinstance(member, type) and issubclass(member, BaseEstimator):
                yield f"{module.__name__}.{name}", member()


def test_notebooks_link_to_the_pages_of_the_api():
    pages = (ROOT / "docs" / "api_pages.py").read_text("utf-8")
    (folder,) = re.findall(r":toctree: (\w+)", pages)
    names = []
    for name, estimator in estimators():
        link = f"{DOCUMENTATION}{folder}/{name}.html"
        assert estimator._get_doc_link() == link
        assert f'href="{link}"' in estimator._repr_html_()
        names.append(name)
    assert len(names) == 5

    class Other(AutoencoderTransformer):
        pass

    assert Other()._get_doc_link() == ""  # it has no page


def part_of(name):
    """The folder that a module is in, or the module itself if it is in none."""
    return name.partition(".")[0]


def imported_by(name):
    """Modules of skae that a module imports, when it is imported or later."""
    found = set()
    for module in imports(ast.walk(TREES[name])):
        root, _, ours = module.partition(".")
        if root != "skae" or not ours:
            continue
        if ours in SOURCES:
            found.add(ours)
        elif "." not in ours:  # a name that skae itself has
            found.add("__init__")
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_no_module_knows_those_above_it(name):
    part = part_of(name)
    above = {
        module
        for module in imported_by(name)
        if part_of(module) != part and FLOOR_OF[part_of(module)] >= FLOOR_OF[part]
    }
    # Nor do members of a floor know one another.
    assert not above


def test_no_imports_go_in_a_circle():
    assert set(FLOOR_OF) == {part_of(name) for name in SOURCES}
    order = graphlib.TopologicalSorter({name: imported_by(name) for name in SOURCES})
    assert set(order.static_order()) == set(SOURCES)


FOLDERS = sorted(n for n in FLOOR_OF if (PACKAGE / n).is_dir() and n.startswith("_"))


@pytest.mark.parametrize("name", FOLDERS)
def test_the_import_of_a_folder_imports_nothing_else(name):
    """Its `__init__.py` is a docstring, which says what lies there."""
    assert ast.get_docstring(TREES[name])
    assert len(TREES[name].body) == 1


@pytest.mark.parametrize("name", SOURCES)
def test_only_declared_dependencies_are_imported(name):
    at_import = imports(statements_at_import(TREES[name]))
    roots = {module.split(".")[0] for module in at_import}
    allowed = DEPENDENCIES | IMPLIED_DEPENDENCIES | {"skae"} | sys.stdlib_module_names
    assert roots <= allowed | OF_EXTRAS.get(name, set())


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
        re.fullmatch(r"([\w-]+)(?:\[[\w,]+\])?>=([\d.]+)", requirement).groups()
        for requirement in itertools.chain(
            project["dependencies"],
            *(extras[name] for name in ("dask", "io", "onnx", "plot", "test")),
        )
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


def requirements_of_recipe(section):
    """Requirements in a section of the conda recipe, by name."""
    text = (ROOT / "recipe" / "recipe.yaml").read_text("utf-8")
    (lines,) = re.findall(rf"^  {section}:\n((?:    - .*\n)+)", text, re.MULTILINE)
    return dict(
        line.removeprefix("    - ").split(" ", 1) for line in lines.splitlines()
    )


def test_conda_recipe_requires_what_pyproject_does():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    def bounds(requirements):
        found = (re.fullmatch(r"([\w-]+)(?:\[.*\])?(>=.*)", r) for r in requirements)
        return {match[1]: match[2] for match in found}

    run = requirements_of_recipe("run")
    assert run.pop("python") == ">=${{ python_min }}"
    assert run == bounds(project["dependencies"])
    optional = requirements_of_recipe("run_constraints")
    optional["matplotlib"] = optional.pop("matplotlib-base")  # without a window system
    extras = project["optional-dependencies"]
    assert optional == bounds(
        itertools.chain(*(extras[name] for name in ("dask", "io", "onnx", "plot")))
    )


def test_all_that_name_the_version_name_the_same():
    """The recipe and the citation are of the version that is released next."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    recipe = (ROOT / "recipe" / "recipe.yaml").read_text("utf-8")
    context = dict(re.findall(r'^  (\w+): "(.*)"$', recipe, re.MULTILINE))
    release = skae.__version__.partition(".dev")[0]
    assert context["version"] == release
    assert f">={context['python_min']}" == project["requires-python"]
    assert f"summary: {project['description']}\n" in recipe
    assert f"\nversion: {release}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(r"^## (\d\S+)", changelog, re.MULTILINE)[1] == release


# -- kernels and their cache ---------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(SOURCES) - set(COMPILED_NAMES)))
def test_compiled_code_is_in_the_folder_whose_digest_is_taken(name):
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
    imported = [
        alias.name
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ImportFrom)
        and node.module == "skae._compiled.compilation"
        for alias in node.names
    ]
    assert set(imported) <= {"CFunction", "c_functions"}


def compiled_functions():
    """All functions that Numba compiles: C functions, and what they call directly."""
    defined = itertools.chain(*(vars(module).values() for module in COMPILED))
    called = {id(f): f.py_func for f in defined if hasattr(f, "py_func")}
    return [*called.values(), *(p.function for p in c_functions())]


def test_compiled_functions_have_names_of_their_own():
    """Numba tells namesakes apart by a count that differs between processes."""
    names = Counter(function.__qualname__ for function in compiled_functions())
    assert names.total() > 70
    assert [name for name, count in names.items() if count > 1] == []


def is_op(node):
    """C functions, or their loops: what kernels group, they are given one by one."""
    names = [name.id for name in ast.walk(node) if isinstance(name, ast.Name)]
    return "as_op" in names or "_function" in names


def test_kernels_have_few_arguments():
    functions = [
        node
        for name in COMPILED_NAMES
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.FunctionDef) and not is_op(node)
    ]
    assert len(functions) > 50
    too_many = {
        function.name: len(function.args.args)
        for function in functions
        if len(function.args.args) > MAX_ARGUMENTS
    }
    assert not too_many


KERNELS = """
import importlib
import json
import pkgutil

from numba.core.dispatcher import Dispatcher

from skae import _compiled
from skae._compiled import epochs
from skae._compiled.compilation import c_functions

DISPATCHERS = {
    name: value
    for module in pkgutil.iter_modules(_compiled.__path__, "skae._compiled.")
    for name, value in vars(importlib.import_module(module.name)).items()
    if isinstance(value, Dispatcher)
}
C_FUNCTIONS = {p.function.__qualname__: p._compiled for p in c_functions()}
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
    % [f"skae.{name}".removesuffix(".__init__") for name in SOURCES]
    + KERNELS
    + """
assert len(DISPATCHERS) > 50
assert len(C_FUNCTIONS) > 40
assert not [name for name, d in DISPATCHERS.items() if d.signatures]
assert not any(C_FUNCTIONS.values())
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

from skae import AutoencoderTransformer
from tests.support.layouts import FORMATS, LAYOUTS

warnings.simplefilter("ignore", ConvergenceWarning)
folder = sys.argv[1]
rng = np.random.default_rng(0)


def use(model, X, **options):
    model.fit(X, **options)
    code = model.transform(X)
    model.inverse_transform(code)
    model.score(X)
    model.reconstruction_error(X, metric="loss")
    model.score_samples(X.tocsr()[:1] if sparse.issparse(X) else X[:1])
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
    file, csr = f"{folder}/{np.dtype(dtype).name}.npy", sparse.csr_matrix(X)
    np.save(file, X)
    maps = [np.load(file, mmap_mode=mode) for mode in "rc"]
    laid_out = [make(X[:90]) for make in (*LAYOUTS.values(), *FORMATS.values())]
    others = X[:, :1], X[:1], pd.DataFrame(X), sparse.csr_matrix(X.shape, dtype=dtype)
    for matrix in (*laid_out, *maps, maps[0][3:], csr[:200], *others):
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
hits = {
    p.function.__qualname__: [c.cache_hits for c in p._compiled.values()]
    for p in c_functions()
}
serves_both = [p.function.__qualname__ for p in c_functions() if "v" not in p.arguments]
print(json.dumps([hits, serves_both]))
"""
)


def test_one_compilation_serves_everything(tmp_path):
    """One of each kernel, two of each op; and a second process compiles nothing."""
    pytest.importorskip("pandas")
    for _ in range(2):
        hits, serve_both = json.loads(run_python(USE_EVERYTHING, tmp_path))
        used = {name: found for name, found in hits.items() if found}
        if all(map(all, used.values())):
            break  # else the cache was cold
    assert len(used) > 30
    assert len(serve_both) >= 8
    for name, found in used.items():
        assert found == ([1] if name in serve_both else [1, 1]), name


@pytest.fixture
def copied_package(tmp_path):
    """A folder with a copy of the package, without cached kernels."""
    shutil.copytree(
        PACKAGE, tmp_path / "skae", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path


FIT_READ_ONLY = (
    """
import sys
import warnings

import numpy as np

import skae

shown, X = sys.argv[1:], np.random.default_rng(0).random((50, 3)).astype(np.float32)
model = skae.AutoencoderTransformer(
    1, hidden_layer_sizes=(), max_iter=3, tol=1e9, n_iter_no_change=1, random_state=0
)
with warnings.catch_warnings(record=True) as caught:
    if shown:
        warnings.simplefilter("always")
    model.fit(X)
    model.inverse_transform(model.transform(X))
assert ["NUMBA_CACHE_DIR" in str(w.message) for w in caught] == [True] * len(shown)
"""
    + KERNELS
    + """
assert epochs.train._compiled
assert epochs.train.cache_path is None
assert not any(c.cache_hits for p in C_FUNCTIONS.values() for c in p.values())
print(skae.__file__, model.score(X) > 0.3)
"""
)


@pytest.mark.parametrize("shown", times([["shown"]], [["shown"], []]))
def test_read_only_installation_and_home(copied_package, shown):
    """There is one warning, which does not end a fit where warnings are errors."""
    # Which stops even root.
    (copied_package / "skae" / "_compiled" / "__pycache__").write_text("not a folder")
    printed = run_python(
        FIT_READ_ONLY,
        *shown,
        cwd=copied_package,
        HOME="/dev/null",
        XDG_CACHE_HOME=None,
        LOCALAPPDATA=None,
        PYTHONDONTWRITEBYTECODE="1",
        NUMBA_CACHE_DIR=None,
        NUMBA_OPT="0",  # compiles somewhat faster
    )
    assert printed == f"{copied_package / 'skae' / '__init__.py'} True\n"


MEASURE_LOSS = """
import numpy as np

from skae._compiled.losses import LOSSES

prediction, target, value = np.zeros(1), np.full(1, 0.5), np.empty(1)
loss = LOSSES["log_loss"].op
none = np.empty(0)
loss(prediction, target, none, none, value, np.zeros(1), 0, 1, 1, 1)
print(round(value[0], 3), loss.compiled(value.dtype).cache_hits)
"""


def test_an_edit_of_a_called_function_is_noticed(copied_package):
    """In another file than the function that is cached, and of the same length."""
    cold = {"cwd": copied_package, "NUMBA_CACHE_DIR": None}
    assert run_python(MEASURE_LOSS, **cold) == "0.693 0\n"
    assert run_python(MEASURE_LOSS, **cold) == "0.693 1\n"
    formulas = copied_package / "skae" / "_compiled" / "vector_math.py"
    source = formulas.read_text("utf-8")
    before = "_double_artanh(x / (x + like(2.0, x)))"
    assert source.count(before) == 1
    formulas.write_text(source.replace(before, before.replace("2.0", "3.0")), "utf-8")
    assert run_python(MEASURE_LOSS, **cold) == "0.511 0\n"


def test_a_zip_is_known_by_all_of_its_sources(copied_package):
    """Of the package in a zip, an edit of any compiled module changes the digest."""
    formulas = copied_package / "skae" / "_compiled" / "vector_math.py"
    digests = []
    for edit in ("", "# another"):
        formulas.write_text(formulas.read_text("utf-8") + edit, "utf-8")
        archive = shutil.make_archive(
            copied_package / "elsewhere" / "all", "zip", copied_package, "skae"
        )
        code = """
import skae
from skae._compiled.cache import digest_of_sources

assert ".zip" in skae.__file__
print(digest_of_sources())
"""
        digests.append(run_python(code, cwd=Path(archive)))
    assert digests[0] == f"{digest_of_sources()}\n"
    assert digests[1] != digests[0]


MEGABYTE = 10**6
# Beside X: the chunks in which it is measured, some numbers for each row.
MAX_MEMORY = 25.5 * MEGABYTE


@pytest.mark.parametrize(
    ("kind", "dtype", "solver"),
    [
        ("array", np.float32, "lbfgs"),
        ("array", np.float64, "adam"),
        ("map", np.float32, "adam"),
        ("csr", np.float64, "lbfgs"),
    ],
)
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
    assert peak_memory(lambda: model.fit(X)) < MAX_MEMORY
    assert peak_memory(lambda: model.transform(X)) < MAX_MEMORY


def test_wide_data_pass_in_small_blocks():
    X = np.random.default_rng(0).random((60, 100_000), dtype=np.float32)
    model = AutoencoderTransformer(
        hidden_layer_sizes=(), max_iter=1, tol=1e9, learning_rate="cosine"
    )
    model.fit(X[:, :10])  # compiles
    assert peak_memory(lambda: model.fit(X)) < 2 * MAX_MEMORY
