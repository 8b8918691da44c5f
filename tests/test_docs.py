"""Every example in the documentation and in docstrings runs."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import skae

ROOT = Path(__file__).parent.parent
MODULES = ["skae", *(f"skae.{m.name}" for m in pkgutil.iter_modules(skae.__path__))]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_user_guide():
    path = ROOT / "docs" / "user_guide.md"
    if not path.exists():
        pytest.skip("docs/ is not here: not a checkout")
    failed, tried = doctest.testfile(str(path), module_relative=False)
    assert failed == 0
    assert tried > 10


def test_readme_example(capsys):
    path = ROOT / "README.md"
    if not path.exists():
        pytest.skip("README.md is not here: not a checkout")
    example = path.read_text().partition("```python\n")[2].partition("```")[0]
    exec(compile(example, "README.md", "exec"), {})
    promised = float(example.rpartition("# ")[2].partition(";")[0])
    assert float(capsys.readouterr().out) == pytest.approx(promised, abs=0.01)
