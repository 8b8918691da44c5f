"""The gallery's examples run, draw, and reproduce what others have published."""

import os
from pathlib import Path

import pytest

from .support.cases import times

pytestmark = pytest.mark.once

FOLDER = Path(__file__).parent.parent / "docs"
NAMES = sorted(
    path.stem.removeprefix("plot_") for path in FOLDER.glob("examples/*/plot_*.py")
)


@pytest.fixture
def reproductions(monkeypatch, tmp_path):
    """The module that makes the documentation's table."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.chdir(tmp_path)
    return pytest.importorskip("reproductions")


def assert_reproduced(system, found):
    if system is not None:
        assert system.holds(found), system.ours(found)
        assert system.seconds(found) > 0


# These take 10 to 30 seconds; building the site runs them, too.
SLOW_HERE = ("donuts_numpy", "features", "imputation")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in times(SLOW_HERE, ())])
def test_on_what_stands_in(name, reproductions, pyplot, monkeypatch):
    monkeypatch.delenv("SKAE_DATA", raising=False)
    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.get_fignums()))
    found, _ = reproductions.run(name)
    for number in pyplot.get_fignums():
        axes = pyplot.figure(number).axes
        assert axes
        assert all(ax.has_data() for ax in axes if ax.axison)
    assert shown[-1] == pyplot.get_fignums()  # none after the last show
    assert len(shown) >= 2
    assert_reproduced(reproductions.SYSTEMS.get(name), found)


# These take half a minute to a minute each; `make soak` runs them, too.
SLOW = (
    *("denoising", "donuts_numpy", "mnist", "mnist_errors"),
    *("sparse", "tables", "variational"),
)
PUBLISHED = sorted(
    path.stem.removeprefix("plot_")
    for path in FOLDER.glob("examples/*/plot_*.py")
    if "SKAE_DATA" in path.read_text()
)


@pytest.mark.published
@pytest.mark.parametrize("name", [n for n in PUBLISHED if n not in times(SLOW, ())])
def test_on_published_data(name, reproductions, pyplot):
    if not os.environ.get("SKAE_DATA"):
        pytest.skip("SKAE_DATA does not name the folder of the published data")
    system = reproductions.SYSTEMS.get(name)
    found, _ = reproductions.run(name)
    assert_reproduced(system, found)
    if system is not None:
        assert system.holds_on_published_data(found), system.ours(found)


def test_the_table_is_of_all_systems(reproductions):
    lines = reproductions.TABLE.read_text().splitlines()
    assert lines[0] == ",".join(reproductions.COLUMNS)
    for system in reproductions.SYSTEMS.values():
        assert sum(system.name in line for line in lines) == 1
    assert len(lines) == 1 + len(reproductions.SYSTEMS)
