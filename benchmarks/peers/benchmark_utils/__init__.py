"""What the solvers of this benchmark share."""

import sys
from pathlib import Path

# For `benchopt run benchmarks/peers`: workloads.py lies beside this benchmark.
_BENCHMARKS = str(Path(__file__).parents[2])
if _BENCHMARKS not in sys.path:
    sys.path.insert(0, _BENCHMARKS)
