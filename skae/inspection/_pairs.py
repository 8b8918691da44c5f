"""Profiles of samples: features beside their reconstructions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skae._typing import Floats
from skae.inspection._drawing import remove_ticks
from skae.inspection._features import is_text, standardized
from skae.inspection._profiles import (
    column_width,
    letters_of_rows,
    letters_that_fit,
    name_rows,
    short,
    width_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Standard deviations at the edge of a sample's band: that of the farthest value, but
# these at least and at most. Farther values are triangles at the edge.
_LEAST_EDGE, _MOST_EDGE = 2.0, 4.0
# The share of its place that a band takes, and that values in it take.
_BAND, _VALUES = 0.94, 0.86
_BAND_COLOR, _LINE_COLOR, _TEXT_COLOR = "0.95", "white", "0.3"
# Sizes of markers, in points and as a share of the height of a row.
_LARGEST_MARKER, _MARKER_SHARE = 6.0, 0.75
_MARKERS = "osD^v"
# Bands that are narrower, in points, have one tick.
_LEAST_WIDTH_OF_TICKS = 75
# Axes that are narrower, in points, have a legend above the samples' names, which take
# so many lines.
_LEAST_WIDTH_OF_LEGEND, _LINES_OF_TITLES = 330, 2.0
# The share of a row by which points of several names differ in height.
_OFFSET = 0.4
_TICK = 2.0


def draw_pairs(
    ax: Axes,
    originals: NDArray[Any],
    reconstructions: Mapping[str, NDArray[Any]],
    names: Sequence[str],
    scaling: tuple[Floats, Floats],
    titles: Sequence[str],
    *,
    is_new: bool,
) -> dict[str, Line2D]:
    """Draw a band for each sample, with a row for each feature.

    Parameters
    ----------
    ax : Axes

    originals : ndarray of shape (n_samples, n_features)
        Columns are numbers, or levels as text; None or NaN if they are missing.

    reconstructions : dict of str to ndarray of shape (n_samples, n_features)

    names : sequence of str
        Of the features.

    scaling : tuple of ndarray of shape (n_features,)
        Means and standard deviations, of which those of levels are not used.

    titles : sequence of str
        Of the samples.

    is_new : bool
        Whether the axes are those of a new figure.

    Returns
    -------
    lines : dict of str to Line2D
        Points of the originals, as "original", and of the reconstructions by name.
    """
    n_samples, n_features = originals.shape
    is_level = np.array([is_text(column) for column in originals.T], dtype=bool)
    numbers = np.flatnonzero(~is_level)
    means, deviations = (np.asarray(part)[numbers] for part in scaling)
    units = {
        name: standardized(values[:, numbers].astype(np.float64), means, deviations)
        for name, values in {"original": originals, **reconstructions}.items()
    }
    edge = _edge(units.values())
    middles = np.arange(n_samples)[:, np.newaxis] + 0.5
    places = {
        name: middles + _VALUES / 2 * np.clip(values / edge, -1, 1)
        for name, values in units.items()
    }
    ax.set_xlim(0, n_samples)
    name_rows(ax, names, is_new=is_new)
    for middle in middles.ravel().tolist():
        half = _BAND / 2
        ax.axvspan(middle - half, middle + half, color=_BAND_COLOR, lw=0, zorder=0)
        ax.axvline(middle, color=_LINE_COLOR, zorder=0.5)
    size = min(_LARGEST_MARKER, _MARKER_SHARE * letters_of_rows(ax, n_features))
    rows = np.broadcast_to(numbers, (n_samples, len(numbers)))
    lines, originals_at = {}, places.pop("original")
    for number, (name, at) in enumerate(places.items()):
        color, marker = f"C{number}", _MARKERS[number % len(_MARKERS)]
        ends, n_names = (originals_at.ravel(), at.ravel()), len(places)
        heights = rows.ravel() + _OFFSET * (number - (n_names - 1) / 2) / n_names
        ax.hlines(heights, *ends, color=color, lw=size / 4, alpha=0.6)
        lines[name] = ax.plot(
            at.ravel(), heights, marker, color=color, ms=size, label=name
        )[0]
    lines["original"] = ax.plot(
        originals_at.ravel(),
        rows.ravel(),
        "o",
        mfc="none",
        mec="black",
        ms=1.4 * size,
        label="original",
    )[0]
    are_beyond = _mark_beyond(ax, lines, units, edge)
    handles = [lines["original"], *(lines[name] for name in places)]
    if is_level.any():
        _write_levels(ax, originals, reconstructions, np.flatnonzero(is_level))
        handles.append(ax.plot([], [], " ", label="a → b: level a, decoded as b")[0])
    if width_of(ax) >= _LEAST_WIDTH_OF_LEGEND:
        where: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
    else:  # above the names of the samples
        where = {"loc": "lower center", "borderaxespad": _LINES_OF_TITLES}
        where["bbox_to_anchor"] = (0.5, 1)
    ax.legend(handles=handles, fontsize="small", **where)
    _add_ticks(ax, middles, edge, titles, has_numbers=len(numbers) > 0)
    if are_beyond:
        ax.set_xlabel(f"{ax.get_xlabel()} (triangles: more than {edge:.0f})")
    return lines


def _mark_beyond(
    ax: Axes, lines: Mapping[str, Line2D], units: Mapping[str, Floats], edge: float
) -> bool:
    """Draw triangles over points that lie beyond the edge; returns if there are any."""
    are_any = False
    for name, values in units.items():
        line = lines[name]
        at, heights = (np.asarray(part) for part in line.get_data())
        for sign, marker in ((-1, "<"), (1, ">")):
            beyond = (sign * values > edge).ravel()
            if beyond.any():
                are_any = True
                style: dict[str, Any] = {"color": line.get_color()}
                style["ms"] = 1.3 * line.get_markersize()
                if name == "original":
                    style = {"mfc": "none", "mec": "black", "ms": style["ms"]}
                ax.plot(at[beyond], heights[beyond], marker, **style)
    return are_any


def _edge(units: Any) -> float:
    """Return the largest distance from the mean that is drawn, in deviations."""
    farthest = max(np.nanmax(np.abs(values), initial=0.0) for values in units)
    return float(np.clip(farthest, _LEAST_EDGE, _MOST_EDGE))


def _write_levels(
    ax: Axes,
    originals: NDArray[Any],
    reconstructions: Mapping[str, NDArray[Any]],
    columns: NDArray[np.intp],
) -> None:
    """Write the levels of samples; those decoded wrongly have the color of a name."""
    size = letters_of_rows(ax, originals.shape[1]) * 0.9
    n_letters = letters_that_fit(_BAND * column_width(ax), size)
    for sample, column in itertools.product(range(len(originals)), columns):
        level = originals[sample, column]
        decoded = [rows[sample, column] for rows in reconstructions.values()]
        wrong = [(i, found) for i, found in enumerate(decoded) if found != level]
        parts = [(f"C{i}", [level, found]) for i, found in wrong]
        if level is None:
            parts = [(_TEXT_COLOR, ["?", decoded[0]])]
        for number, (color, levels) in enumerate(parts or [(_TEXT_COLOR, [level])]):
            n_parts = max(1, len(parts))
            n_free = n_letters // n_parts - len(" → ") * (len(levels) - 1)
            if sum(map(len, levels)) > n_free:
                longest = max(2, n_free // len(levels), n_free - min(map(len, levels)))
                levels = [short(part, longest) for part in levels]
            ax.text(
                sample + 0.5 + _BAND * ((number + 0.5) / n_parts - 0.5),
                column,
                " → ".join(levels),
                size=size,
                color=color,
                weight="bold" if color != _TEXT_COLOR else "normal",
                ha="center",
                va="center",
                in_layout=False,
            )


def _add_ticks(
    ax: Axes, middles: Floats, edge: float, titles: Sequence[str], *, has_numbers: bool
) -> None:
    """Label the means of the bands, and distances from it, and name the samples."""
    ticks = np.zeros(1)
    if column_width(ax) >= _LEAST_WIDTH_OF_TICKS:
        ticks = np.array([-_TICK, 0.0, _TICK])
    if has_numbers:
        labels = [f"{tick:.0f}".replace("-", "\N{MINUS SIGN}") for tick in ticks]
        places = (middles + _VALUES / 2 * ticks / edge).ravel()
        ax.set_xticks(places, labels=labels * len(middles))
        ax.set_xlabel("Standard deviations from the mean")
    else:
        ax.set_xticks([])
    remove_ticks(ax)
    above = ax.secondary_xaxis("top")
    n_letters = letters_that_fit(column_width(ax), 9)
    above.set_xticks(
        middles.ravel(), labels=[short(title, max(4, n_letters)) for title in titles]
    )
    above.tick_params(labelsize=9)
    remove_ticks(above)
