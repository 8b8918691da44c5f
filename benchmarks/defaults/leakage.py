"""Is it worse than PCA where samples repeat, belong together or have heavy tails?

    python benchmarks/defaults/leakage.py               # about 5 minutes

Held-out R² of ``AutoencoderTransformer(n_components)``, nothing else set, minus PCA's,
on new data of the same kind: as it is, and with defaults that lack what guards against
that. Writes `leakage.md` beside this file.
"""

import argparse
import importlib
import statistics
import warnings

import joblib
import numpy as np
from held_out import HERE, header, table
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

from skae import AutoencoderTransformer
from skae.metrics import reconstruction_r2_score

PAGE = HERE / "leakage.md"
CODE_SIZES, SEEDS = (1, 2, 5), range(2)


def no_labels(*args):
    """Notice nothing."""


# Column -> names of skae's that it replaces.
COLUMNS = {
    "as it is": {},
    "drawn one by one": {
        "skae._data.hold_out.duplicates": no_labels,
        "skae._data.hold_out.related_samples": no_labels,
    },
    "Student's interval alone": {"skae._training.weight_selection.LEFT_OUT": 0.0},
}

# ---------------------------------------------------------------------------
# Samples that belong together
# ---------------------------------------------------------------------------


def cancer(rng):
    """Standardised, in random order."""
    X = scale(load_breast_cancer().data)
    return X[rng.permutation(len(X))]


def bootstrap(rng, noise=0.0):
    """1,500 drawn of 284 samples, with noise."""
    X = cancer(rng)
    drawn = X[:284][rng.randint(0, 284, 1500)]
    return drawn + noise * rng.standard_normal(drawn.shape), X[284:]


def subjects(rng, n_subjects, n_samples, *, mixed, noise=0.2):
    """Noisy copies of a few samples."""
    X = cancer(rng)
    number = np.repeat(np.arange(n_subjects), n_samples)
    number = rng.permutation(number) if mixed else number
    copies = X[:n_subjects][number]
    return copies + noise * rng.standard_normal(copies.shape), X[n_subjects:]


def autoregressive(rng, n, *coefficients, n_features=1, step=1.0):
    """Series of shape (n, n_features)."""
    series = np.zeros((n, n_features))
    shocks = step * rng.standard_normal((n, n_features))
    for t in range(len(coefficients), n):
        past = (c * series[t - 1 - i] for i, c in enumerate(coefficients))
        series[t] = sum(past) + shocks[t]
    return series


def windows(rng, *coefficients, length=30, n_train=1500):
    """Overlapping windows of a series, and later ones."""
    series = autoregressive(rng, 2 * n_train, *coefficients)[:, 0]
    X = np.lib.stride_tricks.sliding_window_view(series, length)
    return X[:n_train].copy(), X[n_train + length :].copy()


def sensors(rng, n_train):
    """Many sensors of a slow process, and later."""
    state = autoregressive(rng, n_train + 2000, 0.98, n_features=10, step=0.2)
    X = np.tanh(0.5 * state @ rng.standard_normal((10, 20)))
    return X[:n_train], X[n_train + 200 :]


def digits(rng, *, by_class):
    X, y = load_digits(return_X_y=True)
    order = rng.permutation(len(X))
    train, test = order[:1257], order[1257:]
    if by_class:
        train = train[np.argsort(y[train], kind="stable")]
    return X[train], X[test]


RELATED = {
    "1,500 drawn of 284 samples": bootstrap,
    "the same, with noise of 0.001": lambda r: bootstrap(r, 1e-3),
    "the same, with noise of 0.2": lambda r: bootstrap(r, 0.2),
    "25 subjects x 40, in order": lambda r: subjects(r, 25, 40, mixed=False),
    "25 subjects x 40, mixed": lambda r: subjects(r, 25, 40, mixed=True),
    "20 subjects x 30, mixed": lambda r: subjects(r, 20, 30, mixed=True),
    "100 subjects x 10, mixed": lambda r: subjects(r, 100, 10, mixed=True),
    "windows of a random walk": lambda r: windows(r, 1.0),
    "windows of an AR(1) series": lambda r: windows(r, 0.9),
    "windows of an AR(2) series": lambda r: windows(r, 1.6, -0.75),
    "sensors, 1,500 times": lambda r: sensors(r, 1500),
    "sensors, 12,000 times": lambda r: sensors(r, 12_000),
    "digits": lambda r: digits(r, by_class=False),
    "digits, sorted by class": lambda r: digits(r, by_class=True),
}

# ---------------------------------------------------------------------------
# Heavy tails
# ---------------------------------------------------------------------------


def halves(X):
    return X[: len(X) * 2 // 3], X[len(X) * 2 // 3 :]


def counts(rng, tail, n=4600):
    """Sparse counts, and three lengths that are much larger and have a heavy tail."""
    factors = rng.standard_normal((n, 4))
    rates = np.exp(0.8 * factors @ rng.standard_normal((4, 54)) - 1.5)
    rates *= rng.random_sample(rates.shape) < 0.35
    mean = 1 + 1.3 * (rng.pareto(tail, n) + 1) * np.exp(0.4 * rng.standard_normal(n))
    longest = mean * (1 + 4 * np.exp(0.8 * rng.standard_normal(n)))
    total = longest + 20 * np.exp(1.3 * rng.standard_normal(n)) * np.sqrt(mean)
    lengths = np.minimum(np.column_stack([mean, longest, total]), 1e4)
    return halves(np.column_stack([rates, lengths]).round(3))


def student(rng, freedom, n=3000):
    """Factors and noise of Student's distribution."""
    factors = rng.standard_t(freedom, (n, 3)) @ rng.standard_normal((3, 20))
    return halves(factors + 0.5 * rng.standard_t(freedom, (n, 20)))


def lognormal(rng, n=3000):
    factors = rng.standard_normal((n, 2)) @ rng.standard_normal((2, 12))
    return halves(np.exp(1.4 * factors + 0.5 * rng.standard_normal((n, 12))))


HEAVY = {
    **{f"counts, tail index {a}": (lambda r, a=a: counts(r, a)) for a in (1, 1.5, 2)},
    **{f"Student's t, {f}": (lambda r, f=f: student(r, f)) for f in (1.5, 2.5, 4)},
    "lognormal": lognormal,
}
KINDS = {**RELATED, **HEAVY}


def gain(name, n_components, seed, column):
    """R² of the autoencoder minus PCA's, on new data."""
    for path, value in COLUMNS[column].items():
        module, _, attribute = path.rpartition(".")
        setattr(importlib.import_module(module), attribute, value)
    X, X_test = KINDS[name](np.random.RandomState(seed))
    pca = PCA(n_components).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        autoencoder = AutoencoderTransformer(n_components, random_state=seed).fit(X)
    scores = [reconstruction_r2_score(m, X_test) for m in (autoencoder, pca)]
    return scores[0] - scores[1]


def run(column, names):
    """Gains by name, in new processes: what is replaced must not outlive it."""
    cells = [(name, k, seed) for name in names for k in CODE_SIZES for seed in SEEDS]
    gains = joblib.Parallel(2)(joblib.delayed(gain)(*c, column) for c in cells)
    joblib.externals.loky.get_reusable_executor().shutdown()
    by_name = {}
    for (name, *_), value in zip(cells, gains, strict=True):
        by_name.setdefault(name, []).append(value)
    return by_name


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=list(KINDS))
    names = parser.parse_args().only
    gains = {column: run(column, names) for column in COLUMNS}
    rows = [
        [
            name,
            *(
                f"{min(gains[c][name]):+.3f} ({statistics.median(gains[c][name]):+.3f})"
                for c in COLUMNS
            ),
        ]
        for name in names
    ]
    text = table(["data", *COLUMNS], rows)
    print(text)
    if len(names) < len(KINDS):
        return
    PAGE.write_text(f"""# Samples that repeat, belong together, or have heavy tails

R² on new data of the same kind minus that of PCA: minimum (median) over codes of
{CODE_SIZES} and {len(SEEDS)} seeds. The columns: the default; with validation
samples drawn one by one; and with Student's interval alone, without leaving out the
samples that improve most. Made by `leakage.py`.

{header()}

{text}

With a code of 5, sensors and series gain nothing where there are few blocks to hold
out: then PCA is kept.
""")


if __name__ == "__main__":
    main()
