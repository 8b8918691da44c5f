"""skae beside PyTorch, JAX, Keras and MLPRegressor: times, and losses reached.

Run ``python benchmarks/compare_peers.py`` where the peers, benchopt and matplotlib are
installed. The solvers and what they solve are the benchopt benchmark in ``peers/``;
this script decides what is measured when, and reports.

benchopt would do all repetitions of one solver before those of the next, and cannot
give each run its own number of threads. Here every measurement is one benchopt run,
and rounds go over all solvers of a workload, so that slow phases of the machine hit
all of them. The number of threads is that of the cores which a process may use: every
library reads it when it is imported, so there is one long-lived process for each. A
number of threads that falls far behind is given up.
"""

import argparse
import contextlib
import io
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _report import RESULTS, Spread, header, table, thread_counts
from matplotlib.ticker import LogLocator, NullFormatter
from workloads import MAX_EVALUATED_ROWS, WORKLOADS

HERE = Path(__file__).parent
SOLVERS = ["skae", "pytorch", "pytorch-compile", "jax", "keras", "mlpregressor"]
COLORS = {solver: f"C{number}" for number, solver in enumerate(SOLVERS)}
PACKAGES = ["torch", "jax", "keras", "tensorflow-cpu", "benchopt"]
# Losses of this solver are those of another network.
WITHOUT_LOSS = "mlpregressor"
MIN_ROUNDS, MAX_ROUNDS = 3, 7
# A number of threads that takes so many times as long as another is given up.
FAR_BEHIND = 1.3
# Parts of a run of full-batch steps that show its loss on the way.
EARLIER = (0.1, 0.2, 0.5)


# -- measuring ---------------------------------------------------------------------


@contextlib.contextmanager
def limited_cores(n):
    """Processes started meanwhile see `n` cores (where the system can limit them)."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:n])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def new_process(n_cores, folder):
    """A process that is left with the `n_cores`, and with empty caches in `folder`."""
    for name in ("NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        os.environ[name] = f"{folder}/{n_cores}/{name}"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    spawn = multiprocessing.get_context("spawn")
    process = ProcessPoolExecutor(1, mp_context=spawn)
    with limited_cores(n_cores):
        process.submit(os.getpid).result()  # it starts only now
    return process


def run_once(workload, fraction, solver):
    """A run of benchopt, in this process: rows of its result, None if it has none."""
    from benchopt import run_benchmark
    from benchopt.results import read_results

    work = WORKLOADS[workload].reduced(fraction)
    with tempfile.TemporaryDirectory() as folder:
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                file = run_benchmark(
                    HERE / "peers",
                    solver_names=[solver],
                    dataset_names=[
                        f"workload[workload={workload},fraction={fraction}]"
                    ],
                    max_runs=work.n_epochs // work.epochs_per_call,
                    n_repetitions=1,
                    no_cache=True,
                    plot_result=False,
                    show_progress=False,
                    output_file=f"{folder}/result.parquet",
                )
        except RuntimeError:  # skipped or failed: benchopt has said why
            print(said.getvalue(), file=sys.stderr, flush=True)
            return None
        result = read_results(file)
    return pd.DataFrame(
        {
            "workload": workload,
            "solver": solver,
            "n_epochs": result["stop_val"] * work.epochs_per_call,
            "seconds": result["time"],
            "loss": result["objective_value"],
            "compile_seconds": result["objective_compile_seconds"],
        }
    )


class Measurements:
    """Runs of benchopt in processes of a solver and 1, 2, ... cores, collected.

    Parameters
    ----------
    fraction : float
        Of the work of every workload.

    folder : path
        For caches of compiled code.
    """

    def __init__(self, fraction, folder):
        self.fraction, self.folder = fraction, folder
        self.frames = []
        self.processes = {}

    def _process(self, solver, n_cores):
        if (solver, n_cores) not in self.processes:
            self.processes[solver, n_cores] = new_process(n_cores, self.folder)
        return self.processes[solver, n_cores]

    def run(self, workload, solver, threads, kind, part=1):
        """Seconds of one run, which is added to the frames; infinity without result."""
        fraction = self.fraction * part
        frame = (
            self._process(solver, threads)
            .submit(run_once, workload, fraction, solver)
            .result()
        )
        if frame is None:
            return math.inf
        self.frames.append(
            frame.assign(threads=threads, kind=kind, run=len(self.frames))
        )
        last = frame.iloc[-1]
        print(
            f"{workload:<13}{solver:<16}{threads} threads {last['n_epochs']:>5} epochs "
            f"{last['seconds']:9.4f} s   loss {last['loss']:.5g}",
            flush=True,
        )
        return last["seconds"]

    def measure(self, workload, solvers, budget):
        """Rounds over the solvers; at least `MIN_ROUNDS`, more within the budget."""
        begin = time.monotonic()
        tried = {solver: {n: [] for n in thread_counts()} for solver in solvers}
        for number in range(MAX_ROUNDS):
            if number >= MIN_ROUNDS and time.monotonic() - begin > budget:
                break
            for solver, by_threads in tried.items():
                for n, seconds in by_threads.items():
                    seconds.append(self.run(workload, solver, n, "time"))
                tried[solver] = _worth_trying(by_threads)
        if not WORKLOADS[workload].is_full_batch:
            return
        for part in EARLIER:
            for solver, by_threads in tried.items():
                if solver != WITHOUT_LOSS and by_threads:
                    best = min(by_threads, key=lambda n: median(by_threads[n]))
                    self.run(workload, solver, best, "loss", part)


def _worth_trying(by_threads):
    """The numbers of threads that are not far behind; none if there is no result."""
    least = min(map(min, by_threads.values()), default=math.inf)
    if least == math.inf:
        return {}
    return {n: s for n, s in by_threads.items() if min(s) <= FAR_BEHIND * least}


# -- reporting ---------------------------------------------------------------------


def summarize(frame):
    """One row for each workload and solver."""
    timed = frame[frame["kind"] == "time"].sort_values("n_epochs")
    by_run = timed.groupby(["workload", "solver", "threads", "run"], sort=False)
    runs = by_run.agg(
        first=("seconds", "first"),
        last=("seconds", "last"),
        n_epochs=("n_epochs", "last"),
        loss=("loss", "last"),
        compile_seconds=("compile_seconds", "last"),
    ).reset_index()
    full_batch = runs["workload"].map(lambda name: WORKLOADS[name].is_full_batch)
    # An epoch, or all steps of a full-batch run.
    runs["unit"] = runs["last"] - runs["first"]
    runs["unit"] /= runs["n_epochs"].where(~full_batch, 1)

    rows = []
    for (workload, solver), of_solver in runs.groupby(
        ["workload", "solver"], sort=False
    ):
        threads = of_solver.groupby("threads")["unit"].median().idxmin()
        kept = of_solver[of_solver["threads"] == threads]
        rows.append(
            {
                "workload": workload,
                "solver": solver,
                "threads": threads,
                "n_runs": len(kept),
                "n_epochs": kept["n_epochs"].iloc[0],
                "median": kept["unit"].median(),
                "min": kept["unit"].min(),
                "max": kept["unit"].max(),
                "compile": kept["compile_seconds"].max(),
                "loss": kept["loss"].median(),
                "median_run": _median_run(kept),
            }
        )
    summary = pd.DataFrame(rows)
    order = summary["workload"].map(list(WORKLOADS).index).mul(len(SOLVERS))
    order += summary["solver"].map(SOLVERS.index)
    summary = summary.loc[order.sort_values().index]
    skae = summary[summary["solver"] == "skae"].set_index("workload")["median"]
    summary["ratio"] = summary["median"] / summary["workload"].map(skae)
    return summary


def _median_run(runs):
    by_time = runs.sort_values("unit")["run"]
    return by_time.iloc[(len(by_time) - 1) // 2]


def describe(summary, fraction):
    """The report: markdown."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        "# An epoch, compared with other libraries",
        "",
        header(),
        f"skae at commit {_commit()}. Others: {versions}.",
        "",
        "Seconds per epoch, or per run of full-batch steps: median of the runs "
        "(minimum–maximum). Ratio: to skae's median, so above 1 is slower than skae. "
        "Threads: "
        f"the better of {' or '.join(map(str, thread_counts()))}. "
        "Compile: seconds of a process's first "
        "call, with empty caches, not included in the times; skae compiles once for "
        "all networks. Loss: objective at the end, in the network's units, over at "
        f"most the first {MAX_EVALUATED_ROWS:,} rows.",
        "",
        "All start from the same weights. MLPRegressor draws its own and has another "
        "objective, the squared error of a linear output; it has no tied weights.",
    ]
    if fraction != 1:
        lines += ["", f"**Only {fraction:g} of the work: a trial, not a result.**"]
    columns = "solver", "seconds", "ratio", "threads", "compile", "loss"
    for workload, of_workload in summary.groupby("workload", sort=False):
        rows = [
            (
                row.solver,
                Spread(row.median, row.min, row.max),
                _or_none(row.ratio),
                row.threads,
                f"{row.compile:.1f}",
                _or_none(row.loss, ".5g"),
                row.n_runs,
            )
            for row in of_workload.itertuples()
        ]
        lines += ["", f"## {_title(workload, of_workload)}", ""]
        lines.append(table((*columns, "runs"), rows))
    return "\n".join(lines) + "\n"


def _or_none(value, form=None):
    if np.isnan(value):
        return None
    return float(value) if form is None else format(value, form)


def _commit():
    command = ["git", "-C", HERE, "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def _title(workload, rows):
    work = WORKLOADS[workload]
    shape = "-".join(map(str, work.widths)) + (", tied" if work.tied else "")
    n_epochs = rows["n_epochs"].iloc[0]
    if work.is_full_batch:
        return f"{workload}: {shape}; a run of {n_epochs} full-batch steps"
    epochs = "1 epoch" if n_epochs == 1 else f"{n_epochs} epochs"
    return f"{workload}: {shape}; batches of {work.batch_size}, {epochs} a run"


def plot_times(summary, path):
    """Bars of the time ratios to skae."""
    workloads = list(summary["workload"].unique())
    peers = [s for s in SOLVERS if s in set(summary["solver"]) - {"skae"}]
    height = 0.8 / max(1, len(peers))
    fig, ax = plt.subplots(
        figsize=(6.4, 1 + 0.75 * len(workloads)), layout="constrained"
    )
    for number, solver in enumerate(peers):
        rows = summary[summary["solver"] == solver].set_index("workload")
        ratios = rows["ratio"].reindex(workloads)
        places = np.arange(len(workloads)) + (number - (len(peers) - 1) / 2) * height
        # From 1, so that the bar of a peer that is faster points to the left.
        ax.barh(places, ratios - 1, height, left=1, color=COLORS[solver], label=solver)
        for place, ratio in zip(places, ratios, strict=True):
            if np.isfinite(ratio):
                ax.annotate(
                    f"{ratio:.{1 + (ratio < 1) - (ratio >= 10)}f}",
                    (ratio, place),
                    (3 if ratio >= 1 else -3, 0),
                    textcoords="offset points",
                    ha="left" if ratio >= 1 else "right",
                    va="center",
                    fontsize=8,
                )
    ax.set_xscale("log")
    ax.margins(x=0.1, y=0.01)
    ax.axvline(1, color="black", linewidth=1)
    ax.set_yticks(range(len(workloads)), workloads)
    ax.invert_yaxis()
    ax.set_xlabel("time / skae's time")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    fig.legend(ncols=3, loc="outside upper center", frameon=False)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def plot_losses(frame, summary, path):
    """Loss against time in the median run, a panel for each workload."""
    summary = summary[summary["solver"] != WITHOUT_LOSS]
    workloads = list(summary["workload"].unique())
    n_columns = min(4, len(workloads))
    n_rows = math.ceil(len(workloads) / n_columns)
    fig, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(3.6 * n_columns, 3 * n_rows + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(workloads) :]:
        ax.remove()
    for ax, workload in zip(axes.flat, workloads, strict=False):
        for row in summary[summary["workload"] == workload].itertuples():
            of_solver = frame[
                (frame["workload"] == workload) & (frame["solver"] == row.solver)
            ]
            curve = of_solver[
                (of_solver["run"] == row.median_run) | (of_solver["kind"] == "loss")
            ]
            start = curve["loss"][curve["n_epochs"] == 0].iloc[0]
            curve = curve[curve["n_epochs"] > 0].sort_values("n_epochs")
            ax.plot(
                curve["seconds"],
                curve["loss"],
                marker=".",
                color=COLORS[row.solver],
                label=row.solver,
            )
        ax.axhline(start, color="grey", linestyle=":", linewidth=1, label="start")
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.tick_params(labelsize=8)
        ax.set_title(workload)
    fig.supxlabel("seconds, without compilation")
    fig.supylabel("objective")
    handles = {}
    for ax in axes.flat[: len(workloads)]:
        handles |= {h.get_label(): h for h in ax.get_legend_handles_labels()[0]}
    fig.legend(
        handles.values(),
        handles,
        ncols=len(handles),
        loc="outside upper center",
        frameon=False,
    )
    fig.savefig(path, dpi=150)
    plt.close(fig)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS)
    )
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=SOLVERS)
    parser.add_argument(
        "--minutes",
        type=float,
        default=15,
        help=f"shared by the workloads; those over it get {MIN_ROUNDS} rounds",
    )
    parser.add_argument(
        "--fraction",
        type=float,
        default=1,
        help="of the steps, or of the rows, for a trial",
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    try:
        for workload in args.workloads:
            WORKLOADS[workload].load()
    except FileNotFoundError as error:
        parser.error(str(error))

    with tempfile.TemporaryDirectory() as folder:
        measurements = Measurements(args.fraction, folder)
        for workload in args.workloads:
            budget = 60 * args.minutes / len(args.workloads)
            measurements.measure(workload, args.solvers, budget)
        for process in measurements.processes.values():
            process.shutdown()
    if not measurements.frames:
        sys.exit("There is no result: see above.")
    frame = pd.concat(measurements.frames, ignore_index=True)
    summary = summarize(frame)
    args.output.mkdir(parents=True, exist_ok=True)
    frame.to_csv(args.output / "peers.csv", index=False)
    report = describe(summary, args.fraction)
    (args.output / "peers.md").write_text(report)
    plot_times(summary, args.output / "peers_time.png")
    plot_losses(frame, summary, args.output / "peers_loss.png")
    print(report)


if __name__ == "__main__":
    main()
