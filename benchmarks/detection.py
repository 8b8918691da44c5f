"""How well are outliers found, beside other detectors, and how fast?

    python benchmarks/detection.py                # about 15 minutes; needs pyod, torch
    python benchmarks/detection.py --no-pyod --sets wine glass

Data are sets of ADBench (Han et al., 2022), up to 6,000 rows of each, with two
protocols. Unsupervised: detectors are fitted to all rows, and score the same rows.
Novelty: they are fitted to half of the normal rows, and score the rest and all
outliers. Features are standardized on the rows fitted, for all detectors alike.

Settings of AutoencoderOutlierDetector are compared by cross-validation over sets: in
turn, the best on half of them is judged on the other half. ``SKAE_DATA`` names the
folder of the sets.
"""

import argparse
import contextlib
import os
import pathlib
import time
import warnings

import numpy as np
from _report import RESULTS, header, table
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae._outliers import score

N_ROWS, N_LEAST_OUTLIERS, N_NEIGHBORS = 6000, 10, 5
PROTOCOLS = {"unsupervised": False, "novelty": True}
OURS = "AutoencoderOutlierDetector"
N_HALVINGS = 1000
DENOISING = {
    "hidden_layer_sizes": (),
    "code_activation": "logistic",
    "tied_weights": True,
    "scale": None,
    "noise": "gaussian",
    "noise_level": 0.5,
    "init": "random",
    "early_stopping": False,
    "max_iter": 60,
}


def paths():
    """Files of the sets, by name."""
    folder = pathlib.Path(os.environ["SKAE_DATA"])
    files = [p for f in (folder, folder / "adbench") for p in sorted(f.glob("*.npz"))]
    return {p.stem: p for p in files if p.stem != "mnist"}


def load(path):
    """Some rows of a set, and whether they are outliers."""
    data = np.load(path)
    X, y = data["X"].astype(np.float64), data["y"].astype(bool)
    order = np.random.RandomState(0).permutation(len(X))
    chosen = order[:N_ROWS]
    if y[chosen].sum() < N_LEAST_OUTLIERS:
        chosen = np.union1d(chosen, np.flatnonzero(y)[: 3 * N_LEAST_OUTLIERS])
    return X[chosen], y[chosen]


def split(X, y, is_novelty):
    """Rows to fit, rows to score, and whether these are outliers; standardized."""
    train, test, labels = X, X, y
    if is_novelty:
        normal = np.random.RandomState(0).permutation(np.flatnonzero(~y))
        half = len(normal) // 2
        rest = np.concatenate([normal[half:], np.flatnonzero(y)])
        train, test, labels = X[normal[:half]], X[rest], y[rest]
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread[spread <= 1e-12 * np.abs(mean)] = 1
    spread[spread == 0] = 1
    return (train - mean) / spread, (test - mean) / spread, labels


def ours(train, test):
    return -AutoencoderOutlierDetector(random_state=0).fit(train).score_samples(test)


def forest(train, test):
    return -IsolationForest(random_state=0).fit(train).score_samples(test)


def neighbors(train, test):
    found = NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(train)
    own = None if train is test else test  # a row is not its own neighbor
    return found.kneighbors(own)[0].mean(axis=1)


def mahalanobis(train, test):
    _, sizes, axes = np.linalg.svd(train - train.mean(axis=0), full_matrices=False)
    kept = sizes > 1e-7 * sizes[0]
    return ((((test - train.mean(axis=0)) @ axes[kept].T) / sizes[kept]) ** 2).sum(1)


def pca_error(train, test):
    pca = PCA(max(1, train.shape[1] // 2)).fit(train)
    return ((test - pca.inverse_transform(pca.transform(test))) ** 2).sum(axis=1)


def pyod_autoencoder(train, test):
    from pyod.models.auto_encoder import AutoEncoder

    model = AutoEncoder(random_state=0, verbose=0).fit(train)
    return np.nan_to_num(model.decision_function(test))


METHODS = {
    OURS: ours,
    "IsolationForest": forest,
    "5 neighbors": neighbors,
    "Mahalanobis": mahalanobis,
    "PCA's error": pca_error,
    "pyod's AutoEncoder": pyod_autoencoder,
}


@contextlib.contextmanager
def constants(**values):
    """Other values of the constants of the score."""
    before = {name: getattr(score, name) for name in values}
    for name, value in values.items():
        setattr(score, name, value)
    yield
    for name, value in before.items():
        setattr(score, name, value)


def with_settings(network=None, **values):
    """A method: the detector with another network, or other constants."""

    def method(train, test):
        estimator = None if network is None else network(train.shape[1])
        with constants(**values):
            detector = AutoencoderOutlierDetector(estimator, random_state=0)
            return -detector.fit(train).score_samples(test)

    return method


SETTINGS = {
    "as it is": ours,
    "nothing left out": with_settings(_RANGES_TO_CORE=np.inf),
    "left out beyond 2 ranges": with_settings(_RANGES_TO_CORE=2.0),
    "left out beyond 0.5 ranges": with_settings(_RANGES_TO_CORE=0.5),
    "independent: 3 %": with_settings(_INDEPENDENT=0.03),
    "independent: 30 %": with_settings(_INDEPENDENT=0.3),
    "code of 2": with_settings(lambda n: AutoencoderTransformer(2)),
    "linear": with_settings(
        lambda n: AutoencoderTransformer(0.9, hidden_layer_sizes=(), max_iter=1)
    ),
    "tied denoising": with_settings(
        lambda n: AutoencoderTransformer(min(2 * n, 128), **DENOISING)
    ),
}


def measure(method, train, test, labels):
    """Area under the ROC curve, average precision, and seconds."""
    begin = time.perf_counter()
    scores = np.clip(np.nan_to_num(method(train, test)), -1e300, 1e300)
    seconds = time.perf_counter() - begin
    area = roc_auc_score(labels, scores)
    return area, average_precision_score(labels, scores), seconds


def difference(of_one, of_other):
    """Mean difference of two lists, and its standard error over sets."""
    differences = np.subtract(of_one, of_other)
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return f"{differences.mean():+.3f} ± {error:.3f}"


def chosen_on_halves(areas):
    """Mean area of the setting that is best on half of the sets, on the other half.

    Parameters
    ----------
    areas : ndarray of shape (n_settings, n_protocols, n_sets)

    Returns
    -------
    area : float

    shares : ndarray of shape (n_settings,)
        How often each is chosen.
    """
    rng, n_sets = np.random.RandomState(0), areas.shape[2]
    found, times = [], np.zeros(len(areas))
    for _ in range(N_HALVINGS):
        order = rng.permutation(n_sets)
        best = areas[:, :, order[: n_sets // 2]].mean(axis=(1, 2)).argmax()
        times[best] += 1
        found.append(areas[best][:, order[n_sets // 2 :]].mean())
    return np.mean(found), times / N_HALVINGS


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--no-pyod", action="store_true")
    parser.add_argument("--no-settings", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    files = paths()
    names = options.sets or list(files)
    methods = dict(METHODS)
    if options.no_pyod:
        del methods["pyod's AutoEncoder"]
    settings = {} if options.no_settings else dict(SETTINGS)
    ours(*2 * [np.random.RandomState(0).standard_normal((200, 5))])  # loads kernels
    found = {}
    for name in names:
        X, y = load(files[name])
        for protocol, is_novelty in PROTOCOLS.items():
            data = split(X, y, is_novelty)
            for key, method in {**settings, **methods}.items():
                found[name, protocol, key] = measure(method, *data)
        print(name, {k: round(found[name, "novelty", k][0], 3) for k in methods})

    def column(protocol, key, number=0):
        return [found[name, protocol, key][number] for name in names]

    report = [
        "# Detection of outliers",
        "",
        "Made by `detection.py`.",
        "",
        header(),
        "",
        f"Means over {len(names)} sets: area under the ROC curve (AUROC), average "
        "precision (AP), seconds of fit and scores of all sets. Differences of AUROC "
        f"are those of {OURS} and the other, with the standard error over sets.",
    ]
    for protocol in PROTOCOLS:
        rows = []
        for key in methods:
            area, precision, seconds = (
                np.array(column(protocol, key, i)) for i in range(3)
            )
            gain = "" if key == OURS else difference(column(protocol, OURS), area)
            cells = f"{area.mean():.3f}", f"{precision.mean():.3f}", gain
            rows.append((key, *cells, round(seconds.sum(), 1)))
        title = ("detector", "AUROC", "AP", "difference", "s")
        report += ["", f"## {protocol.capitalize()}", "", table(title, rows)]
    if settings:
        areas = np.array([[column(p, k) for p in PROTOCOLS] for k in settings])
        area, shares = chosen_on_halves(areas)
        rows = [
            (
                key,
                *(f"{a:.3f}" for a in of_key.mean(axis=1)),
                f"{of_key.mean():.3f}",
                f"{share:.0%}",
            )
            for key, of_key, share in zip(settings, areas, shares, strict=True)
        ]
        report += [
            "",
            "## Settings",
            "",
            "Mean AUROC. The setting that is best on a random half of the sets has "
            f"{area:.3f} on the other half (mean of {N_HALVINGS} halves).",
            "",
            table(("setting", *PROTOCOLS, "mean", "chosen"), rows),
        ]
    rows = []
    for name in names:
        cells = [f"{found[name, p, k][0]:.2f}" for p in PROTOCOLS for k in methods]
        rows.append((name, *cells))
    titles = [f"{k}, {p}" for p in PROTOCOLS for k in methods]
    report += ["", "## Sets", "", "AUROC.", "", table(("set", *titles), rows)]
    text = "\n".join([*report, ""])
    (RESULTS / "detection.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
