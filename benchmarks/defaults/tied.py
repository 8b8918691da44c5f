"""On what scale do tied weights go with tanh and logistic units?

    python benchmarks/defaults/tied.py               # about 5 minutes

What tied weights enlarge on the way in they enlarge on the way out, too, so that only
the scale of the data keeps "tanh" and "logistic" where they are nearly linear. Networks
with such units are fitted to the sets of `held_out.py` without MNIST, raw and
standardised, on different scales. Writes `tied.md` beside this file.
"""

import statistics
from typing import NamedTuple

import joblib
from held_out import HERE, cell, default_sets, header, load, table

from skae import AutoencoderTransformer
from skae._training import settings

PAGE = HERE / "tied.md"
SEEDS, CODE_SIZES = range(3), (1, 2, 5)
NETWORKS = (
    {"hidden_layer_sizes": (), "code_activation": "logistic"},
    {"hidden_layer_sizes": (), "code_activation": "tanh"},
    {"hidden_layer_sizes": (16,), "code_activation": "logistic"},
    {"hidden_layer_sizes": (8,), "activation": "tanh", "code_activation": "tanh"},
    {"hidden_layer_sizes": (16, 8), "activation": "logistic"},
)
BELOW = 0.03


class Variant(NamedTuple):
    """What "auto" as `scale` is, by the start."""

    init: str
    constant: str
    value: float


VARIANTS = {
    **{
        f"{room:g} times the largest distance": Variant("auto", "_ROOM", room)
        for room in (1.0, 2.0, 4.0, 5.0, 6.0, 10.0)
    },
    **{
        f"random weights, {room:g} root mean squares": Variant(
            "random", "_ROOM_AT_RANDOM", room
        )
        for room in (1.0, 3.0, 4.0, 6.0)
    },
}


def fit_variant(variant, network, *setting):
    """A cell of the table."""
    setattr(settings, variant.constant, variant.value)
    estimator = AutoencoderTransformer(tied_weights=True, init=variant.init, **network)
    return cell(*setting, estimator)


def run(variant, sets):
    """All cells of a variant, in new processes: constants must not outlive it."""
    jobs = [
        joblib.delayed(fit_variant)(variant, network, name, n_components, scaling, seed)
        for name in sets
        for n_components in CODE_SIZES
        if n_components < load(name).shape[1]
        for network in NETWORKS
        for scaling in ("raw", "standardised")
        for seed in SEEDS
    ]
    cells = joblib.Parallel(2)(jobs)
    joblib.externals.loky.get_reusable_executor().shutdown()
    return cells


def row(name, cells, sets):
    """A variant's line: held-out figures of both halves of the sets, and of training.

    What is chosen on one half is judged on the other.
    """
    figures = []
    for half in (sets[::2], sets[1::2]):
        gains = [
            c["autoencoder_test"] - c["pca_test"] for c in cells if c["set"] in half
        ]
        figures += [
            f"{statistics.mean(gains):+.4f}",
            f"{min(gains):+.4f}",
            str(sum(g < -BELOW for g in gains)),
        ]
    on_training = min(c["autoencoder_train"] - c["pca_train"] for c in cells)
    return [name, *figures, f"{on_training:+.4f}"]


def page(rows):
    columns = ["scale", *2 * ["mean", "minimum", "worse"], "minimum, training"]
    return f"""# Tied weights with tanh and logistic units

R² of tied networks with such units, minus that of PCA, for code sizes {CODE_SIZES}, on
the sets of `held_out.py` without MNIST, raw and standardized, {len(SEEDS)} random 70/30
splits: for each half of the sets the mean, the minimum, and the number of cases more
than {BELOW} below PCA on held-out rows; and the minimum on the training rows. A scale
of "n times" is, where training starts at PCA, n times the largest distance of a
training row from the mean, times the square root of the number of such layers. Made by
`tied.py`.

{header()}

{table(columns, rows)}

How to read it: with 5 times the largest distance no network is worse than PCA, although
a held-out row may be several times as far from the mean as any training row. A smaller
scale improves the networks that are better than PCA, but makes others worse. Random
weights are worse than PCA on any scale with the default `tol`, which is in units of the
network: on a large scale losses are small, and training ends early. With 3 or 4 root
mean squares fewer cases are worse than with 1, but some of them fail completely. When
they are trained to the end, as published networks are, 4 is better than 3 or 1.
"""


def main():
    sets = sorted(name for name in default_sets() if name != "mnist")
    rows = []
    for name, variant in VARIANTS.items():
        rows.append(row(name, run(variant, sets), sets))
        print(*rows[-1], sep="  ", flush=True)
    PAGE.write_text(page(rows))


if __name__ == "__main__":
    main()
