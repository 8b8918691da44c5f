"""Counts of what was tried and survived, printed as a table when the tests end."""

from collections import Counter

import pytest

from .support import IS_LONG, SEED

COUNTS: Counter = Counter()


@pytest.fixture
def count():
    """Function that counts: `count("faults", "SIGKILL during save", 3)`."""

    def add(section, kind, n=1):
        COUNTS[section, kind] += n

    return add


def pytest_terminal_summary(terminalreporter):
    if not COUNTS:
        return
    write = terminalreporter.write_line
    terminalreporter.section("reliability")
    for section in dict.fromkeys(section for section, _ in COUNTS):
        kinds = {kind: n for (of, kind), n in COUNTS.items() if of == section}
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
