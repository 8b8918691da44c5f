"""Counts of what was tried and survived; `tests/conftest.py` prints them."""

import pytest

from ..support.cases import IS_LONG
from .support import SEED


@pytest.fixture
def count(record_property):
    """Function that counts: `count("faults", "SIGKILL during save", 3)`."""
    if IS_LONG:
        record_property("seed", SEED)

    def add(section, kind, n=1):
        # In the test's report, which may go to another process.
        record_property("count", (section, kind, n))

    return add
