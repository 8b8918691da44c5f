"""What has to be set before SciPy is imported, and fixtures of several modules.

Also the table of what the tests of reliability count. It is here, as of processes that
run tests the one that prints knows only this folder.
"""

import os
import signal
from collections import Counter

import numpy as np
import pytest

# Shells let what runs in the background ignore Ctrl-C, which tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Without it scikit-learn's checks of the array API are skipped.
os.environ.setdefault("SCIPY_ARRAY_API", "1")


def pytest_collection_modifyitems(config, items):
    """Leave out what is marked as ``soak``, except in the long version."""
    if os.environ.get("SKAE_SOAK"):
        return
    slow = [item for item in items if item.get_closest_marker("soak")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in set(slow)]


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    """What networks compute in."""
    return request.param


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def tied(request):
    """Whether decoder layers use the encoder's weights."""
    return request.param


@pytest.fixture
def path(tmp_path):
    """Where a test may save a model, in a folder with nothing else."""
    return tmp_path / "model.safetensors"


@pytest.fixture
def pyplot():
    """Return pyplot, without windows; figures are closed after the test."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture
def callback():
    """Return scikit-learn's module of callbacks."""
    return pytest.importorskip(
        "sklearn.callback", reason="callbacks are new in scikit-learn 1.9"
    )


@pytest.fixture(scope="session")
def small_file(tmp_path_factory):
    """Return the bytes of a file with all kinds of contents."""
    from .support.files import make_small_file

    return make_small_file(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(scope="session")
def table_file(tmp_path_factory):
    """Return the bytes of a file of an autoencoder of a table with categories."""
    from .support.files import make_small_table_file

    return make_small_table_file(tmp_path_factory.mktemp("small") / "table")


@pytest.fixture(scope="session")
def imputer_file(tmp_path_factory):
    """Return the bytes of a file of an imputer."""
    from .support.files import make_small_imputer_file

    return make_small_imputer_file(tmp_path_factory.mktemp("small") / "imputer")


@pytest.fixture(scope="session")
def detector_file(tmp_path_factory):
    """Return the bytes of a file of an outlier detector."""
    from .support.files import make_small_detector_file

    return make_small_detector_file(tmp_path_factory.mktemp("small") / "detector")


@pytest.fixture(scope="session")
def table_imputer_file(tmp_path_factory):
    """Return the bytes of a file of an imputer of a table."""
    from .support.files import make_small_table_imputer_file

    return make_small_table_imputer_file(tmp_path_factory.mktemp("small") / "imputer")


@pytest.fixture(scope="session")
def table_detector_file(tmp_path_factory):
    """Return the bytes of a file of an outlier detector of a table."""
    from .support.files import make_small_table_detector_file

    return make_small_table_detector_file(tmp_path_factory.mktemp("small") / "detector")


@pytest.fixture
def small_parts(monkeypatch):
    """Chunks, pieces and windows of odd sizes, some of each in a little data."""
    from skae._data import rows, stream

    monkeypatch.setattr(rows, "_CHUNK_ENTRIES", 6 * 17)
    monkeypatch.setattr(rows, "_PIECE_ENTRIES", 6 * 25)
    monkeypatch.setattr(stream, "_WINDOW_ENTRIES", 6 * 22)


def default_client():
    """The default client of a Dask cluster of two workers."""
    distributed = pytest.importorskip("distributed")
    from .support.clusters import make_cluster

    with make_cluster() as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def client():
    """The default client of a Dask cluster, for the tests of a module."""
    yield from default_client()


@pytest.fixture(scope="module")
def alone():
    """The client, not the default one, of a Dask cluster of one worker."""
    pytest.importorskip("distributed")
    from .support.clusters import make_client, make_cluster

    with make_cluster(1) as cluster, make_client(cluster) as client:
        yield client


@pytest.fixture
def mortal_client():
    """The default client of a new Dask cluster, whose two workers a test may kill.

    A local cluster gives a worker up that, 15 s after it was killed, happens to be dead
    again: one for all tests would be left without workers.
    """
    yield from default_client()


def pytest_terminal_summary(terminalreporter):
    """Print what tests of reliability have counted, as a table."""
    counts: Counter = Counter()
    seeds, lost = set(), 0
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            # That of a process that crashed has no keywords.
            node = getattr(report, "nodeid", "")
            if not node.startswith("tests/reliability/"):
                continue
            lost += outcome in ("failed", "error")
            if getattr(report, "when", None) != "call":
                continue
            for name, value in report.user_properties:
                if name == "count":
                    section, kind, n = value
                    counts[section, kind] += n
                else:
                    seeds.add(value)
    if not counts:
        return
    write = terminalreporter.write_line
    terminalreporter.section("reliability")
    for section in sorted({section for section, _ in counts}):
        kinds = {kind: n for (of, kind), n in counts.items() if of == section}
        write(f"{section}: {sum(kinds.values())}")
        for kind, n in sorted(kinds.items()):
            write(f"{n:8d}  {kind}")
    write(f"lost: {lost} tests failed" if lost else "lost: nothing")
    for seed in sorted(seeds):
        write(f"seed: SKAE_SEED={seed} repeats this run")
