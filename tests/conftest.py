"""What has to be set before SciPy is imported, and fixtures of several modules."""

import os

import pytest

# Without it scikit-learn's checks of the array API are skipped.
os.environ.setdefault("SCIPY_ARRAY_API", "1")


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
def mortal_client():
    """The default client of a new Dask cluster, whose two workers a test may kill.

    A local cluster gives a worker up that, 15 s after it was killed, happens to be dead
    again: one for all tests would be left without workers.
    """
    distributed = pytest.importorskip("distributed")
    from .clusters import make_cluster

    with make_cluster() as cluster, distributed.Client(cluster) as client:
        yield client
