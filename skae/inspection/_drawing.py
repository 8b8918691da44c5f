"""What Displays share: axes, styles, images in one mosaic."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING, Any

import numpy as np

from skae._runtime.extras import check_installed
from skae._typing import Floats

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Pixels between the images of a mosaic, as a share of an image's longer side.
_GAP = 1 / 12
# Pixels of the least square that is an image without being called one: most samples of
# 4, 9 or 16 features are no images.
_LEAST_SIDE = 5
# Inches on a new figure: the longer side of an image and of a mosaic, and a margin.
_IMAGE_SIZE = 0.7
_MAX_MOSAIC_SIZE = 12.0
_PAD = 0.1


def check_matplotlib(caller: str) -> None:
    """Raise ImportError if matplotlib is missing."""
    check_installed(caller, "matplotlib.pyplot", extra="plot")


def check_axes(
    ax: Any, caller: str, figsize: tuple[float, float] | None = None
) -> Axes:
    """Return the axes, or those of a new figure of a size in inches."""
    check_matplotlib(caller)
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(
            f"ax={ax!r} is no matplotlib Axes: pass one, such as plt.subplots()[1], or "
            "None for a new figure"
        )
    return ax


def check_two_axes(
    ax: Any,
    caller: str,
    panels: str,
    *,
    shape: tuple[int, int] = (1, 2),
    **subplots_kw: Any,
) -> tuple[Axes, Axes | None]:
    """Return a pair of axes, or those of a new figure; of single axes, these and None.

    `panels` says in errors what is drawn on both. A new figure has rows and columns of
    the given shape.
    """
    if ax is None:
        check_matplotlib(caller)
        import matplotlib.pyplot as plt

        ax = plt.subplots(*shape, layout="constrained", **subplots_kw)[1]
    axes = np.ravel(np.asarray(ax, dtype=object))
    if len(axes) == 1:
        return check_axes(axes[0], caller), None
    if len(axes) != 2:
        raise ValueError(f"ax has {len(axes)} axes, but there are two panels: {panels}")
    first, second = axes
    return check_axes(first, caller), check_axes(second, caller)


def style(
    defaults: dict[str, Any], given: dict[str, Any], artist: type[Artist]
) -> dict[str, Any]:
    """Return keyword arguments of a class of artists; given ones replace defaults."""
    from matplotlib.cbook import normalize_kwargs

    return {**defaults, **normalize_kwargs(given, artist)}


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, and no bool, the entry of a mask."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_image_shape(
    image_shape: Any, n_features: int, feature_names: Any = None
) -> tuple[int, int] | None:
    """Return height and width of an image; None for a profile of features.

    Without a shape samples are images if they have no names of features, and are
    squares of some size.
    """
    advice = (
        f"pass image_shape=(height, width) with height * width = {n_features}, the "
        "number of features"
    )
    if image_shape is None:
        side = math.isqrt(n_features)
        is_image = side >= _LEAST_SIDE and side * side == n_features
        return (side, side) if is_image and feature_names is None else None
    try:
        shape = tuple(image_shape)
    except TypeError:
        shape = ()
    if (
        len(shape) != 2
        or not all(is_whole(side) for side in shape)
        or min(shape) < 1
        or shape[0] * shape[1] != n_features
    ):
        raise ValueError(f"image_shape={image_shape!r} is not possible: {advice}")
    return int(shape[0]), int(shape[1])


def mosaic(images: Floats, n_columns: int) -> tuple[Floats, Floats]:
    """Join images, of shape (n_images, height, width), row by row.

    Returns the picture, with NaN between images and in places without one, and the
    middles of the rows of images, in pixels.
    """
    n_images, height, width = images.shape
    gap = max(1, round(_GAP * max(height, width)))
    n_rows = math.ceil(n_images / n_columns)
    tops = (height + gap) * np.arange(n_rows)
    picture = np.full((tops[-1] + height, n_columns * (width + gap) - gap), np.nan)
    for i, image in enumerate(images):
        row, column = divmod(i, n_columns)
        left = column * (width + gap)
        picture[tops[row] : tops[row] + height, left : left + width] = image
    return picture, tops + (height - 1) / 2


def mosaic_size(picture: Floats, image_shape: tuple[int, int]) -> tuple[float, float]:
    """Return width and height, in inches, for a mosaic on a new figure."""
    height, width = picture.shape
    size = np.array([width, height]) * _IMAGE_SIZE / max(image_shape)
    size *= min(1.0, _MAX_MOSAIC_SIZE / size.max())
    return size[0], size[1]


def make_room_for_titles(ax: Axes) -> None:
    """Widen a new figure, which a mosaic fills, for the labels around it."""
    figure: Any = ax.figure  # not a SubFigure, because it is new
    widths = [label.get_window_extent().width for label in ax.get_yticklabels()]
    left = max(widths) / figure.dpi + 2 * _PAD
    labels = ax.xaxis.get_tightbbox()  # None without any
    below = 0.0 if labels is None else labels.height / figure.dpi
    width, height = figure.get_size_inches()
    total_width, total_height = left + width + _PAD, height + below + 2 * _PAD
    figure.set_size_inches(total_width, total_height)
    # This ends matplotlib's own layout, which would cut labels off: it ignores that
    # square pixels narrow the axes.
    ax.set_position(
        (
            left / total_width,
            (below + _PAD) / total_height,
            width / total_width,
            height / total_height,
        )
    )


def remove_ticks(ax: Any) -> None:
    """Leave the labels of axes, but neither ticks nor lines."""
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def remove_frame(ax: Axes) -> None:
    """Remove all of the axes except labels at the left."""
    ax.set_xticks([])
    remove_ticks(ax)


def code_name(component: int) -> str:
    """Return the name of an entry of the code."""
    return f"code {component}"
