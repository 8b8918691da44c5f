"""Is a network that is trained on incomplete data ever worse than PCA on imputed data?

    python benchmarks/missing.py                       # about 2 minutes
    python benchmarks/missing.py --share 0.5

Entries are removed at random from standardized rows. R² is that of complete new rows,
and of new rows from which as many entries were removed (over those that are left): by
an autoencoder with default parameters, by its initial weights, and by PCA after mean
imputation. ``SKAE_DATA`` names the folder of the sets that are not scikit-learn's.
"""

import argparse
import warnings

import numpy as np
from _report import RESULTS, header, table
from imputation import CHOSEN_ON, OTHERS, load
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer

CODE_SIZES = (1, 2, 5, 10)


def r2(X, restored, mean, counts):
    lost, total = (X - restored)[counts], (X - mean)[counts]
    return 1 - (lost**2).sum() / (total**2).sum()


def measure(X, n_train, share, n_components):
    """R² of complete and of incomplete new rows, by each method."""
    removed = np.random.RandomState(1).random_sample(X.shape) < share
    removed[: X.shape[1]][np.diag_indices(X.shape[1])] = False  # no feature is empty
    incomplete = np.where(removed, np.nan, X)
    train, new = incomplete[:n_train], incomplete[n_train:]
    mean, complete = np.nanmean(train, axis=0), X[n_train:]
    pca = PCA(n_components).fit(np.where(np.isnan(train), mean, train))
    fitted = AutoencoderTransformer(n_components, random_state=0).fit(train)
    start = AutoencoderTransformer(
        n_components, random_state=0, max_iter=1, learning_rate_init=1e-12
    ).fit(train)
    found = {}
    everything, left = np.ones(complete.shape, bool), ~np.isnan(new)
    for kind, rows, counts in (
        ("complete", complete, everything),
        ("incomplete", new, left),
    ):
        imputed = np.where(np.isnan(rows), mean, rows)
        restored = {
            "autoencoder": fitted.inverse_transform(fitted.transform(rows)),
            "at its start": start.inverse_transform(start.transform(rows)),
            "PCA, imputed": pca.inverse_transform(pca.transform(imputed)),
        }
        for name, values in restored.items():
            found[f"{kind}: {name}"] = r2(complete, values, mean, counts)
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=[*CHOSEN_ON, *OTHERS])
    parser.add_argument("--share", type=float, default=0.2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name in options.sets:
        X, n_train = load(name)
        for n_components in CODE_SIZES:
            if n_components < X.shape[1]:
                found = measure(X, n_train, options.share, n_components)
                cells = [round(value, 3) for value in found.values()]
                shape = f"{n_train} × {X.shape[1]}"
                rows.append((name, shape, n_components, *cells))
                print(*rows[-1], flush=True)
    of_complete = np.array([row[3:6] for row in rows])
    gains = of_complete[:, 0] - of_complete[:, 2]
    summary = (
        f"Of {len(rows)} cases, complete rows are reconstructed better than by PCA in "
        f"{(gains > 0).sum()}, and worse in {(gains < 0).sum()}, by at most "
        f"{max(0, -gains.min()):.3f}; the mean gain is {gains.mean():.3f}."
    )
    report = [
        "# Networks trained on incomplete data",
        "",
        f"Made by `missing.py`, {options.share:.0%} missing.",
        "",
        header(),
        "",
        summary,
        "",
        table(("set", "rows fitted", "code", *found), rows),
        "",
    ]
    (RESULTS / "missing.md").write_text("\n".join(report), "utf-8")
    print(summary)


if __name__ == "__main__":
    main()
