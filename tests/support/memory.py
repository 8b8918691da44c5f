"""Memory that Python code takes."""

import tracemalloc


def peak_memory(call):
    """Bytes that a call takes beyond what there is, its result included."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = call()
        peak = tracemalloc.get_traced_memory()[1] - before
        del result
    finally:
        tracemalloc.stop()
    return peak
