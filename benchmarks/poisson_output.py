"""Which output activation trains better under loss="poisson", softplus or exp?

Trains the same networks with either on count data and prints the lowest validation
objective of each fit (smaller is better; "-": it diverged). Each activation runs in
a process of its own, whose kernels are compiled with it and not cached.

    python benchmarks/poisson_output.py
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import warnings

import numpy as np
from sklearn.datasets import load_digits

LEARNING_RATES = (0.001, 0.003, 0.01)
SEEDS = (0, 1, 2)


def make_counts(rng, *, mean, n_rows=2000, n_features=30, n_factors=3):
    """Poisson counts whose log-rates are a linear function of a few factors."""
    factors = rng.standard_normal((n_rows, n_factors))
    loadings = rng.standard_normal((n_factors, n_features)) / math.sqrt(n_factors)
    return rng.poisson(mean * np.exp(factors @ loadings)).astype(np.float64)


def data_sets():
    rng = np.random.default_rng(0)
    yield "digits", load_digits().data
    for mean in (0.2, 2, 50):
        yield f"log-linear, mean {mean}", make_counts(rng, mean=mean)


def use_exp():
    """Replace the loss before anything is compiled."""
    from skae._compiled import losses
    from skae._compiled.compilation import formula

    @formula
    def poisson_loss_of_log_rate(z, target):
        rate = math.exp(z)
        return rate - target * z, rate - target

    compute = losses._loss_op(poisson_loss_of_log_rate)
    losses.LOSSES["poisson"] = losses.LOSSES["poisson"]._replace(op=compute)


def measure():
    from skae import AutoencoderTransformer

    warnings.simplefilter("ignore")
    results = {}
    for name, X in data_sets():
        train, held_out = X[::2], X[1::2]
        for rate in LEARNING_RATES:
            losses = []
            for seed in SEEDS:
                autoencoder = AutoencoderTransformer(
                    3, loss="poisson", learning_rate_init=rate, random_state=seed
                )
                try:
                    autoencoder.fit(train, X_val=held_out)
                    losses.append(autoencoder.best_loss_)
                except ValueError:
                    losses.append(math.inf)
            results[f"{name:<24} {rate:>6}"] = float(np.median(losses))
    return results


def run(activation):
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, activation]
        env = {**os.environ, "NUMBA_CACHE_DIR": cache}
        return json.loads(subprocess.check_output(command, env=env))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        if sys.argv[1] == "exp":
            use_exp()
        print(json.dumps(measure()))
    else:
        softplus, exp = run("softplus"), run("exp")
        print(f"{'data':<24} {'rate':>6} {'softplus':>12} {'exp':>12}")
        for case, loss in softplus.items():
            print(f"{case} {loss:>12.4f} {exp[case]:>12.4f}")
