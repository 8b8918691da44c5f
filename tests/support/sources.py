"""The package's modules, parsed; and Python that runs on them in a new process."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import skae

PACKAGE = Path(skae.__file__).parent

ROOT = Path(__file__).parents[2]


def name_of(path):
    """Name of a module within skae, dotted; that of a package is its folder's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[1:] and parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in SOURCES.items()}


def run_python(code, *args, cwd=ROOT, timeout=300, **environment):
    """Run code in a new process, with warnings as errors; returns what it prints.

    `cwd` is a folder or a zip with the package. A variable that is None is unset.
    """
    variables = {**os.environ, "PYTHONPATH": str(cwd), **environment}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, args)],
        cwd=cwd if cwd.is_dir() else cwd.parent,
        env={name: value for name, value in variables.items() if value is not None},
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


def imports(nodes):
    """Names of the modules that statements import: dotted, skae's own included."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def statements_at_import(tree):
    """A module's statements, except in functions and under `if TYPE_CHECKING`."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))
