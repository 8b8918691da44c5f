"""The picture of a comparison: curves of scores, and reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skae._cli.demo_data import Data
from skae._cli.report import column_name, in_numbers
from skae._cli.scores import NAMES, PREDICTIONS, columns, measure_of
from skae._typing import Floats
from skae.inspection import ReconstructionDisplay
from skae.inspection._comparison_display import (
    AUTOENCODER_NAME,
    FITTED,
    PCA_NAME,
    PCAComparisonDisplay,
)
from skae.metrics import reconstruction_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_BARS = 14
N_IMAGES = 10
# Okabe and Ito's palette, which color-blind readers can tell apart, too.
COLORS = ("#0072B2", "#D55E00")
REFERENCE_COLOR = "#666666"
GAP_COLOR = "#dddddd"


def draw(
    table: dict[str, list[Any]],
    held_out: PCAComparisonDisplay,
    data: Data,
    X: Any,
    test: NDArray[np.intp],
    size: int,
    shares: Floats | None,
) -> Figure:
    """Return a figure: curves of scores above reconstructions of held-out samples.

    The reconstructions, and the shares of columns if they are known, are those of the
    code size with the number `size`.
    """
    # Without pyplot: no window, no global state.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    height = 4.0 if data.image_shape is None else 3.2  # inches, of the lower half
    figure = Figure(
        figsize=(10, 4 + height),
        layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08),  # inches
    )
    halves = figure.add_gridspec(2, height_ratios=[4, height])
    top, bottom = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    titles = ["Variance reconstructed (R², held out)"]
    if data.y is not None:
        name = PREDICTIONS[measure_of(held_out)].replace("R2", "R²")
        titles.append(f"{name} from the code (held out)")
    axes = top.subplots(1, len(titles))
    for ax in np.ravel(axes):
        ax.set_prop_cycle(color=COLORS, marker=("o", "s"))
    # Without their own marker, the lines take that of the cycle.
    held_out.plot(axes, line_kw={"marker": None})
    for ax, title in zip(np.ravel(axes), titles, strict=True):
        # Both scores are at most 1; an R² can be negative.
        lowest = min(0, *(min(line.get_ydata()) for line in ax.lines))
        ax.set(title=title, ylabel="", ylim=(lowest - 0.02, 1.02))
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.3)

    code_sizes = table["code_size"]
    fitted = held_out.results[FITTED][size :: len(code_sizes)]
    where = f"from {in_numbers(code_sizes[size])}"
    if shares is not None:
        left, right = bottom.subplots(1, 2)
        if data.categories:
            draw_levels(left, table)
        else:
            draw_errors(left, fitted, X[test], where)
        draw_shares(right, data.names, shares, where)
    else:
        r2 = [column[size] for column in columns(table, "r2")]
        names = [f"{n}\nR² {s:z.2f}" for n, s in zip(NAMES, r2, strict=True)]
        models = dict(zip(names, fitted, strict=True))
        draw_images(bottom.subplots(), models, data, test)
        bottom.suptitle(f"Held-out samples and their reconstructions {where}")
    return figure


def draw_shares(ax: Axes, names: Sequence[str], shares: Floats, where: str) -> None:
    """Draw the share of columns that the autoencoder reconstructs: best and worst."""
    order = np.argsort(-shares, kind="stable")
    order = order[~np.isnan(shares[order])]
    title = f"Share of each column, {where}"
    if len(order) > N_BARS:
        order = np.concatenate([order[: N_BARS // 2], order[-N_BARS // 2 :]])
        title = f"Best and worst columns, {where}"
    ax.barh(np.arange(len(order)), np.maximum(shares[order], 0), color=COLORS[1])
    ax.set_yticks(np.arange(len(order)), [column_name(names[i]) for i in order])
    ax.invert_yaxis()
    ax.set(
        title=title,
        xlim=(0, 1),
        xlabel=f"reconstructed by the {AUTOENCODER_NAME} (held out)",
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", alpha=0.3)


def draw_levels(ax: Axes, table: dict[str, list[Any]]) -> None:
    """Draw the share of categories that are reconstructed correctly, by code size."""
    for name, color, column in zip(
        NAMES, COLORS, columns(table, "levels"), strict=True
    ):
        ax.plot(table["code_size"], column, marker="o", color=color, label=name)
    ax.set_xticks(table["code_size"])
    ax.set(title="Categories reconstructed correctly (held out)", xlabel="code size")
    ax.legend()
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)


def draw_images(
    ax: Axes, models: dict[str, Any], data: Data, test: NDArray[np.intp]
) -> None:
    """Draw the first held-out sample of each class; without labels, the first few."""
    import matplotlib as mpl

    style: dict[str, Any] = {}
    if not np.isnan(data.X).any():  # else gaps have the color of missing pixels
        style["cmap"] = mpl.colormaps["gray_r"].with_extremes(bad=GAP_COLOR)
    first = np.arange(len(test))
    if data.y is not None:
        first = np.unique(data.y[test], return_index=True)[1]
    ReconstructionDisplay.from_estimator(
        models,
        data.X[test],
        which=first[:N_IMAGES],
        image_shape=data.image_shape,
        ax=ax,
        **style,
    )


def draw_errors(ax: Axes, fitted: NDArray[Any], X: Floats, where: str) -> None:
    """Draw each sample's distances to its reconstructions by both models."""
    X = X[~np.isnan(X).all(axis=1)]  # others have no distance
    x, y = (np.sqrt(reconstruction_error(pipeline, X)) for pipeline in fitted)
    limit = 1.05 * max(x.max(), y.max())
    ax.scatter(x, y, s=16, alpha=0.6, color=COLORS[1], linewidth=0)
    ax.plot([0, limit], [0, limit], color=REFERENCE_COLOR, linestyle="--")
    ax.set(
        title=f"Distance to reconstructions {where}\n"
        f"{AUTOENCODER_NAME} nearer for {np.mean(y < x):.0%} of the samples",
        xlabel=PCA_NAME,
        ylabel=AUTOENCODER_NAME,
        xlim=(0, limit),
        ylim=(0, limit),
        aspect="equal",
    )
    ax.spines[["top", "right"]].set_visible(False)
