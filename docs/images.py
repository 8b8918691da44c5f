"""Draw the pictures of README and of the network, into ``docs/images``.

README is read where nothing is built, so that its pictures are part of the repository.
"""

import argparse
import itertools
import pathlib
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skae import AutoencoderTransformer
from skae.inspection import LatentSpaceDisplay, ReconstructionDisplay

HERE = pathlib.Path(__file__).parent
PEERS = HERE.parent / "benchmarks" / "results" / "peers.md"

# Legible where the picture is 400 pixels wide.
STYLE = {
    "backend": "Agg",
    "figure.dpi": 120,
    "font.size": 12,
    "savefig.facecolor": "white",
}


def split_digits():
    """Return X, X_test, y and y_test of scikit-learn's digits."""
    return train_test_split(*load_digits(return_X_y=True), random_state=0)


def draw_reconstructions(path):
    """Draw test images beside what PCA and the autoencoder make of five numbers."""
    X, X_test, _, y_test = split_digits()
    reducers = {"PCA": PCA(5), "autoencoder": AutoencoderTransformer(5, random_state=0)}
    models = {
        name: make_pipeline(MinMaxScaler(), reducer).fit(X)
        for name, reducer in reducers.items()
    }
    _, first_of_each_digit = np.unique(y_test, return_index=True)
    _, ax = plt.subplots(figsize=(6, 2))
    ReconstructionDisplay.from_estimator(
        models, X_test, which=first_of_each_digit, ax=ax
    )
    save(path)


def draw_latent_plane(path):
    """Draw test images as points: their two-dimensional codes."""
    X, X_test, _, y_test = split_digits()
    autoencoder = AutoencoderTransformer(2, random_state=0).fit(X)
    _, ax = plt.subplots(figsize=(5, 4))
    LatentSpaceDisplay.from_estimator(autoencoder, X_test, y_test, ax=ax)
    save(path)


SOLVERS = {
    "PyTorch": "pytorch",
    "PyTorch, compiled": "pytorch-compile",
    "JAX": "jax",
    "Keras": "keras",
    "MLPRegressor": "mlpregressor",
}
MARKERS = "osD^v"
NETWORKS = (
    "8-3-8",
    "32-2-32",
    "54-100-7-100-54",
    "784-32-784",
    "784-256-64-16-64-256-784",
)


def ratios_of_peers():
    """Return for each network the times of the solvers, in those of skae."""
    ratios = {}
    for section in PEERS.read_text().split("\n## ")[1:]:
        network = re.match(r"[\w-]+: ([^;]+);", section)
        if network:
            found = re.findall(r"^\| (\S+) +\| [^|]+\| (\S+)", section, re.MULTILINE)
            ratios[network[1]] = {
                solver: float(ratio) for solver, ratio in found if ratio[0].isdigit()
            }
    return ratios


def draw_speed(path):
    """Draw how long others take for an epoch, for a few networks."""
    ratios = ratios_of_peers()
    _, ax = plt.subplots(figsize=(5, 3.3))
    for (name, solver), marker in zip(SOLVERS.items(), MARKERS, strict=True):
        points = [
            (ratios[network][solver], network)
            for network in NETWORKS
            if solver in ratios[network]
        ]
        ax.plot(*zip(*points, strict=True), marker, label=name, markersize=8)
    ax.axvline(1, color="black")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("Time of an epoch, skae = 1")
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    ax.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.2, 1), fontsize=11)
    save(path)


# Columns of the network: horizontal position and number of units.
LAYERS = (110, 6), (230, 4), (360, 2), (490, 4), (610, 6)
WIDTH, MIDDLE, GAP, RADIUS = 720, 165, 40, 12
BLUE, ORANGE, GREEN = "#4c9be8", "#f0883e", "#3fb273"
COLORS = BLUE, BLUE, ORANGE, GREEN, GREEN


def draw_network(path):
    """Draw the layers of an autoencoder, and what its halves are called."""
    layers = [
        [(x, MIDDLE + GAP * (i - (n - 1) / 2)) for i in range(n)] for x, n in LAYERS
    ]
    parts = [
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#b8bfc6"/>'
        for left, right in itertools.pairwise(layers)
        for x1, y1 in left
        for x2, y2 in right
    ]
    parts += [
        f'<circle cx="{x:g}" cy="{y:g}" r="{RADIUS}" fill="{color}"/>'
        for layer, color in zip(layers, COLORS, strict=True)
        for x, y in layer
    ]
    words = (
        (110, 310, "sample", "bold"),
        (230, 310, "encoder", "normal"),
        (360, 235, "code", "bold"),
        (360, 260, "(bottleneck)", "normal"),
        (490, 310, "decoder", "normal"),
        (610, 310, "reconstruction", "bold"),
    )
    parts += [
        f'<text x="{x}" y="{y}" font-weight="{weight}">{text}</text>'
        for x, y, text, weight in words
    ]
    for x1, x2, method in ((110, 352, "transform"), (368, 610, "inverse_transform")):
        parts.append(
            f'<path d="M{x1} 32H{x2 - 8}" stroke="#24292f" stroke-width="2" '
            f'marker-end="url(#head)"/><text x="{(x1 + x2) / 2:g}" y="22" '
            f'font-family="monospace">{method}</text>'
        )
    lines = "\n".join(parts)
    path.write_text(
        f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 330" width="{WIDTH}"
 font-family="sans-serif" font-size="20" text-anchor="middle" fill="#24292f">
<title>An autoencoder: sample, encoder, code, decoder, reconstruction</title>
<defs><marker id="head" markerWidth="8" markerHeight="8" refX="2" refY="4">
<path d="M0 0L8 4L0 8z"/></marker></defs>
<rect width="{WIDTH}" height="330" rx="8" fill="white"/>
{lines}
</svg>
"""
    )


def save(path):
    """Save the current figure, and close it."""
    plt.savefig(path, bbox_inches="tight")
    plt.close()


DRAWN = {
    "reconstructions.png": draw_reconstructions,
    "latent_plane.png": draw_latent_plane,
    "speed.png": draw_speed,
    "network.svg": draw_network,
}


def draw_all(folder):
    """Draw all pictures into a folder."""
    with mpl.rc_context(STYLE):
        for name, draw in DRAWN.items():
            draw(folder / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=HERE / "images")
    draw_all(parser.parse_args().folder)
