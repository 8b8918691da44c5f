"""A grid search over the code size, beside one with MLPRegressor (workload j).

    python benchmarks/grid_search.py
    python benchmarks/grid_search.py --epochs 5 --rounds 1    # a trial

GridSearchCV over five code sizes and five folds of scikit-learn's digits / 16, and the
final fit: 26 networks d-100-k-100-d. Both train for the same epochs with Adam, the
squared error, mini-batches of 200 and no early end; each is scored with its own
`score`, R² (of all entries together, of MLPRegressor the mean of the features' R²).
MLPRegressor is fitted from X to X. It has one activation for all hidden layers, so its
code is a relu's, where the AutoencoderTransformer's is linear.

Both run in float32 and float64, with n_jobs=1 on one thread and on two, and with
n_jobs=2 (two processes of one thread), all in turn after an untimed round that compiles
kernels and starts the processes; compared is the best of each.
"""

import argparse
import warnings

import numpy as np
from _report import Spread, header, interleaved, on_threads, table, thread_counts
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neural_network import MLPRegressor

from skae import AutoencoderTransformer

CODE_SIZES = (2, 4, 8, 16, 32)
N_FOLDS = 5


def settings():
    """Pairs of n_jobs and threads of each job."""
    n_most = max(thread_counts())
    return [(1, n) for n in thread_counts()] + [(n_most, 1)] * (n_most > 1)


def searches(epochs):
    """Name -> estimator and grid."""
    shared = {
        "activation": "relu",
        "alpha": 0.0,
        "batch_size": 200,
        "max_iter": epochs,
        "tol": 0,
        "n_iter_no_change": np.inf,
        "random_state": 0,
    }
    yield (
        "AutoencoderTransformer",
        AutoencoderTransformer(init="random", early_stopping=False, **shared),
        {"n_components": list(CODE_SIZES)},
    )
    yield (
        "MLPRegressor",
        MLPRegressor(**shared),
        {"hidden_layer_sizes": [(100, k, 100) for k in CODE_SIZES]},
    )


def prepare(epochs):
    """(name, dtype, n_jobs, threads) -> a search, and the function that fits it."""
    digits = load_digits().data / 16
    made, cases = {}, {}
    for name, estimator, grid in searches(epochs):
        for dtype in ("float32", "float64"):
            X = digits.astype(dtype)
            for n_jobs, n_threads in settings():
                case = name, dtype, n_jobs, n_threads
                search = GridSearchCV(
                    estimator,
                    grid,
                    cv=KFold(N_FOLDS, shuffle=True, random_state=0),
                    n_jobs=n_jobs,
                )
                made[case] = search
                cases[case] = on_threads(n_threads, search.fit, X, X)
    return made, cases


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    # The processes of n_jobs=2 take their filters from the search's.
    warnings.simplefilter("ignore", ConvergenceWarning)
    made, cases = prepare(options.epochs)
    seconds = interleaved(cases, options.rounds)
    spreads = {case: Spread.of(times) for case, times in seconds.items()}
    assert all(
        search.best_estimator_.n_iter_ == options.epochs for search in made.values()
    )
    rows = [
        (*case, spread, float(made[case].best_score_))
        for case, spread in spreads.items()
    ]
    columns = ("estimator", "dtype", "n_jobs", "threads of each", "seconds", "best R²")
    print(header())
    print(f"\n{options.epochs} epochs; median (minimum–maximum) of the rounds:\n")
    print(table(columns, rows))
    least = {}
    for (name, *_), spread in spreads.items():
        least[name] = min(spread.median, least.get(name, np.inf))
    ratio = least["MLPRegressor"] / least["AutoencoderTransformer"]
    print(f"\nBest of each: MLPRegressor / AutoencoderTransformer = {ratio:.2f}")


if __name__ == "__main__":
    main()
