"""Counts of what was tried and survived, printed as a table when the tests end."""

from collections import Counter

import pytest

from ..cases import IS_LONG
from .support import SEED

PROPERTY = "reliability"


@pytest.fixture
def count(record_property):
    """Function that counts: `count("faults", "SIGKILL during save", 3)`."""

    def add(section, kind, n=1):
        # In the test's report, which also comes from another process.
        record_property(PROPERTY, (section, kind, n))

    return add


def pytest_terminal_summary(terminalreporter):
    counts: Counter = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                for name, value in report.user_properties:
                    if name == PROPERTY:
                        section, kind, n = value
                        counts[section, kind] += n
    if not counts:
        return
    write = terminalreporter.write_line
    terminalreporter.section("reliability")
    for section in sorted({section for section, _ in counts}):
        kinds = {kind: n for (of, kind), n in counts.items() if of == section}
        write(f"{section}: {sum(kinds.values())}")
        for kind, n in sorted(kinds.items()):
            write(f"{n:8d}  {kind}")
    lost = [
        report.nodeid
        for outcome in ("failed", "error")
        for report in terminalreporter.stats.get(outcome, [])
        if "reliability" in getattr(report, "keywords", ())
    ]
    write(f"lost: {len(lost)} tests failed" if lost else "lost: nothing")
    if IS_LONG:
        write(f"seed: SKAE_SEED={SEED} repeats this run")
