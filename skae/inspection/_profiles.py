"""Pictures of features by name: rows of labels, heat maps of blocks of columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skae._typing import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

# Inches of a new figure: rows of few and of many features, and its largest sides.
_ROW_HEIGHT, _MAX_HEIGHT, _MAX_WIDTH = 0.26, 14.0, 14.0
# Inches of a letter of a name, and of what is above and below the rows.
_LETTER, _AROUND = 0.085, 1.1
# Points of the letters of labels, and how many letters of a long name are shown.
_LARGEST, _SMALLEST = 9.0, 5.5
_SHORTEST_NAME, _LONGEST_NAME = 12, 28
# The share of small axes that names take.
_NAMES_SHARE = 0.45
_POINTS_PER_INCH = 72
# A row is so many times as high as its letters, and a letter so wide, at least.
_LINE_HEIGHT, _LETTER_WIDTH = 1.25, 0.68
# Cells of a block wide, between blocks.
_GAP = 0.35
# Size of letters in cells, as a share of those of the rows' names.
_CELL_SHARE = 0.9
# Decimals of a number, beyond which it has an exponent.
_MOST_DECIMALS = 5
# Values with a stronger color, as a share of the strongest, have white text.
_DARK = 0.6


def profile_size(names: Sequence[str], width: float) -> tuple[float, float]:
    """Return the size of a new figure with a row for each name, and columns beside."""
    n_letters = max(map(len, shortened(names)))
    height = _AROUND + _ROW_HEIGHT * len(names)
    total_width = width + _LETTER * n_letters
    return min(total_width, _MAX_WIDTH), min(height, _MAX_HEIGHT)


def short(name: object, longest: int = _LONGEST_NAME) -> str:
    """Return a name without its middle, if it is long: ends of names differ."""
    text = str(name)
    if len(text) <= longest:
        return text
    n_last = (longest - 1) // 2
    return f"{text[: longest - 1 - n_last]}…{text[len(text) - n_last :]}"


def shortened(names: Sequence[str], longest: int = _LONGEST_NAME) -> list[str]:
    """Return names of some letters at most, which differ where they can."""
    found = [short(name, longest) for name in names]
    if len(set(found)) < len(set(names)):
        pairs = zip(min(names), max(names), strict=False)
        n_same = sum(
            1 for _ in itertools.takewhile(lambda pair: len({*pair}) == 1, pairs)
        )
        rests = [f"…{name[n_same:]}" if n_same else name for name in names]
        found = [short(rest, longest) for rest in rests]
    return found


def letters_of_rows(ax: Axes, n_rows: int) -> float:
    """Return the size in points of letters that fit rows of all of the axes."""
    height = ax.get_window_extent().height / ax.figure.dpi * _POINTS_PER_INCH
    return min(_LARGEST, height / n_rows / _LINE_HEIGHT)


def letters_that_fit(width: float, size: float) -> int:
    """Return how many letters of a size fit a width, both in points."""
    return int(width / (size * _LETTER_WIDTH))


def name_rows(ax: Axes, names: Sequence[str], *, is_new: bool) -> None:
    """Name the rows 0, 1, … of the axes, or some of them if rows are narrow.

    A new figure has room for names, see `profile_size`.
    """
    size = letters_of_rows(ax, len(names))
    step = math.ceil(_SMALLEST / size)
    size = max(size, _SMALLEST)
    longest = _LONGEST_NAME
    if not is_new:
        n_fitting = letters_that_fit(_NAMES_SHARE * width_of(ax), size)
        longest = min(max(n_fitting, _SHORTEST_NAME), _LONGEST_NAME)
    ax.set_yticks(range(0, len(names), step), shortened(names, longest)[::step])
    ax.tick_params(axis="y", length=0, labelsize=size)
    ax.set_ylim(len(names) - 0.5, -0.5)


def name_columns(ax: Axes, places: Floats, labels: Sequence[Sequence[str]]) -> None:
    """Label the columns of blocks; only the outer ones, or none, if they are narrow."""
    lines = [line for block in labels for text in block for line in text.split("\n")]
    n_letters, width = max(map(len, lines)), column_width(ax)
    size, n_columns = width / (n_letters * _LETTER_WIDTH), places.shape[1]
    step = 1
    if size < _SMALLEST:
        step = max(1, n_columns - 1)
        size = n_columns * width / (2 * n_letters * _LETTER_WIDTH)
    if size >= _SMALLEST:
        chosen = [text for block in labels for text in block[::step]]
        ax.set_xticks(places[:, ::step].ravel(), labels=chosen)
    else:
        ax.set_xticks([])
    ax.tick_params(axis="x", length=0, labelsize=min(size, _LARGEST))
    if step > 1:  # within the block
        for number, label in enumerate(ax.get_xticklabels()):
            label.set_horizontalalignment("right" if number % 2 else "left")


def number_text(value: float, deviation: float) -> str:
    """Return a number with two digits of the deviation of its kin."""
    if not deviation > 0:
        return f"{value:.3g}"
    n_decimals = 1 - math.floor(math.log10(deviation))
    if n_decimals > _MOST_DECIMALS:
        return f"{value:.2g}"
    text = f"{value:.{max(0, n_decimals)}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "\N{MINUS SIGN}")


def draw_blocks(
    ax: Axes,
    blocks: Floats,
    names: Sequence[str],
    texts: Sequence[Sequence[Sequence[str]]],
    *,
    is_new: bool,
    **mesh_kw: Any,
) -> tuple[QuadMesh, Floats]:
    """Draw heat maps side by side, with a row for each name.

    Parameters
    ----------
    ax : Axes

    blocks : ndarray of shape (n_blocks, n_names, n_columns)

    names : sequence of str

    texts : sequence of shape (n_blocks, n_names, n_columns)
        What cells say, where there is room for it.

    is_new : bool
        Whether the axes are those of a new figure.

    **mesh_kw
        Passed to pcolormesh.

    Returns
    -------
    mesh : QuadMesh
        All blocks, with masked columns between them.

    middles : ndarray of shape (n_blocks, n_columns)
        Horizontal positions of the columns.
    """
    n_blocks, n_rows, n_columns = blocks.shape
    lefts = (n_columns + _GAP) * np.arange(n_blocks)
    edges = (lefts[:, np.newaxis] + np.arange(n_columns + 1)).ravel()
    gaps = np.full((n_blocks, n_rows, 1), np.nan)
    cells = np.concatenate([blocks, gaps], axis=2).swapaxes(0, 1)
    cells = cells.reshape(n_rows, -1)[:, :-1]
    mesh = ax.pcolormesh(edges, np.arange(n_rows + 1) - 0.5, cells, **mesh_kw)
    ax.set_xlim(0, edges[-1])
    ax.spines[:].set_visible(False)
    name_rows(ax, names, is_new=is_new)
    middles = lefts[:, np.newaxis] + np.arange(n_columns) + 0.5
    _write(ax, mesh, blocks, middles, texts)
    return mesh, middles


def _write(
    ax: Axes, mesh: QuadMesh, blocks: Floats, middles: Floats, texts: Any
) -> None:
    """Write texts into cells, if the longest fits."""
    n_letters = max(len(text) for block in texts for row in block for text in row)
    of_row = _CELL_SHARE * letters_of_rows(ax, blocks.shape[1])
    size = min(of_row, column_width(ax) / (n_letters * _LETTER_WIDTH))
    if size < _SMALLEST:
        return
    is_dark = np.abs(2 * np.asarray(mesh.norm(blocks), dtype=np.float64) - 1) > _DARK
    for (block, row, column), dark in np.ndenumerate(is_dark):
        ax.text(
            float(middles[block, column]),
            row,
            texts[block][row][column],
            size=size,
            color="white" if dark else "black",
            ha="center",
            va="center",
            in_layout=False,  # which many texts would slow down
        )


def column_width(ax: Axes) -> float:
    """Return the width of a column of 1 in points."""
    left, right = ax.get_xlim()
    return width_of(ax) / abs(right - left)


def width_of(ax: Axes) -> float:
    """Return the width of axes in points."""
    return ax.get_window_extent().width / ax.figure.dpi * _POINTS_PER_INCH
