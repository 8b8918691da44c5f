"""What `import skae` costs beyond what it imports.

Run ``python benchmarks/import_time.py``. Every figure is from new processes: the
median of the seconds that an import takes in them.
"""

import argparse
import statistics
import subprocess
import sys

# What a script that uses scikit-learn and Numba has imported anyway.
BASE = "import numba, sklearn.decomposition"
# Name -> what is imported before, what is measured.
CASES = {
    "Numba": ("import numpy", "import numba"),
    "scikit-learn": ("import numpy", "import sklearn.decomposition"),
    "skae": ("", "import skae"),
    "skae after Numba and scikit-learn": (BASE, "import skae"),
    "  threadpoolctl's look for BLAS libraries": (
        BASE,
        "from threadpoolctl import ThreadpoolController; ThreadpoolController()",
    ),
    "  sklearn.model_selection": (BASE, "import sklearn.model_selection"),
    "  scipy.optimize": (BASE, "import scipy.optimize"),
}


def seconds(before, measured):
    """Seconds that `measured` takes in a new process, after `before`."""
    code = (
        f"{before}\nimport time\nstart = time.perf_counter()\n{measured}\n"
        "print(time.perf_counter() - start)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return float(ended.stdout)


def slowest_modules(n_modules):
    """Pairs of a module that skae imports after `BASE`, and its own milliseconds."""
    code = f"{BASE}\nimport sys\nprint('begin', file=sys.stderr)\nimport skae"
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ended.stderr.split("begin\n")[1].splitlines()
    fields = [line.removeprefix("import time:").split("|") for line in lines]
    times = [(name.strip(), int(own) / 1000) for own, _, name in fields]
    return sorted(times, key=lambda pair: -pair[1])[:n_modules]


def main():
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="processes a figure")
    repeats = parser.parse_args().repeats
    print(
        f"{'seconds: median and least of ' + str(repeats):<44}{'median':>8}{'min':>8}"
    )
    for name, case in CASES.items():
        seconds(*case)  # fills the caches of the disk
        times = [seconds(*case) for _ in range(repeats)]
        print(f"{name:<44}{statistics.median(times):8.3f}{min(times):8.3f}", flush=True)
    print("\nslowest modules of skae after Numba and scikit-learn:")
    for name, milliseconds in slowest_modules(8):
        print(f"  {name:<42}{milliseconds / 1000:8.3f}")


if __name__ == "__main__":
    main()
