"""Every example in the documentation and in docstrings runs."""

import csv
import doctest
import importlib
import pkgutil
import re
import runpy
import statistics
from pathlib import Path

import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

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


@pytest.mark.filterwarnings("error")
def test_readme_example(capsys):
    path = ROOT / "README.md"
    if not path.exists():
        pytest.skip("README.md is not here: not a checkout")
    example = path.read_text().partition("```python\n")[2].partition("```")[0]
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    promised, promised_of_pca = re.findall(r"0\.\d\d", example.splitlines()[-1])
    assert float(capsys.readouterr().out) == pytest.approx(float(promised), abs=0.011)
    pca = make_pipeline(MinMaxScaler(), PCA(5)).fit(names["X"])
    score = names["reconstruction_r2"](pca, names["X_test"])
    assert score == pytest.approx(float(promised_of_pca), abs=0.005)


@pytest.mark.parametrize(
    "path",
    sorted(ROOT.glob("*.md"))
    + sorted((ROOT / "docs").glob("*.md"))
    + sorted((ROOT / "benchmarks").glob("*.md")),
    ids=lambda path: path.name,
)
def test_links_lead_somewhere(path):
    """Those within the project."""
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


EXAMPLES = sorted((ROOT / "docs" / "examples").glob("plot_*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_gallery(path, monkeypatch, tmp_path):
    """Each example draws, on what stands in for large data."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.delenv("SKAE_DATA", raising=False)
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.chdir(tmp_path)
    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.get_fignums()))
    try:
        runpy.run_path(str(path))
        for number in pyplot.get_fignums():
            axes = pyplot.figure(number).axes
            assert axes
            assert all(ax.has_data() for ax in axes if ax.axison)
        assert shown[-1] == pyplot.get_fignums()  # none after the last show
        assert len(shown) >= 2
    finally:
        pyplot.close("all")


def test_figures_beside_pca():
    """README and guide say what the table of all cells says."""
    path = ROOT / "benchmarks" / "defaults" / "held_out.csv"
    if not path.exists():
        pytest.skip("benchmarks/ is not here: not a checkout")
    with path.open(newline="") as file:
        cells = list(csv.DictReader(file))
    gains = [float(c["autoencoder_test"]) - float(c["pca_test"]) for c in cells]
    standardised = [
        gain
        for gain, c in zip(gains, cells, strict=True)
        if c["scaling"] == "standardised"
    ]
    n_sets = str(len({c["set"] for c in cells}))

    def said(name, pattern):
        text = " ".join((ROOT / name).read_text().split())
        return re.search(pattern, text).groups()

    sets, cases, below, above, median = said(
        "README.md",
        r"On (\d+) data sets, .*?, (\d+) cases: .* less (0\.\d+) in each, "
        r"up to (0\.\d+) above, .* median (0\.\d+)",
    )
    assert (sets, cases) == (n_sets, str(len(cells)))
    assert -float(below) <= min(gains) < 0.0005 - float(below)
    assert float(above) == pytest.approx(max(gains), abs=0.005)
    assert float(median) == pytest.approx(statistics.median(standardised), abs=0.005)
    sets, cases, below = said(
        "docs/user_guide.md", r"on (\d+) data sets: no case of (\d+) .* than (0\.\d+)"
    )
    assert (sets, cases) == (n_sets, str(len(cells)))
    assert min(gains) >= -float(below)
