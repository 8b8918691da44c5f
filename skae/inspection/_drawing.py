"""What Displays share that draw: axes, styles, images in one mosaic."""

import math
import numbers

import numpy as np

from skae._runtime.extras import check_installed

# Of a mosaic: pixels between images, as a share of an image's longer side.
_GAP = 1 / 12
# Inches on a new figure: of an image's longer side, of all at most, around them.
_IMAGE_SIZE = 0.7
_MAX_MOSAIC_SIZE = 12.0
_PAD = 0.1


def check_matplotlib(caller):
    """Raise ImportError, with the mend, if matplotlib is missing."""
    check_installed(caller, "matplotlib.pyplot", extra="plot")


def check_axes(ax, caller, figsize=None):
    """Return the axes, or those of a new figure, of a size in inches."""
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


def style(defaults, given, artist):
    """Return keyword arguments of a class of artists; the given ones decide."""
    from matplotlib.cbook import normalize_kwargs

    return {**defaults, **normalize_kwargs(given, artist)}


def is_whole(value):
    """Whether a value is a whole number; True and False, a mask's entries, are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_image_shape(image_shape, n_features):
    """Return height and width of an image of so many pixels; None is a square."""
    mend = (
        f"pass image_shape=(height, width) with height * width = {n_features}, the "
        "number of features"
    )
    if image_shape is None:
        side = math.isqrt(n_features)
        if side * side != n_features:
            raise ValueError(
                f"Rows of {n_features} features are no square images: {mend}"
            )
        return side, side
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
        raise ValueError(f"image_shape={image_shape!r} is not possible: {mend}")
    return int(shape[0]), int(shape[1])


def mosaic(images, n_columns):
    """Join images, of shape (n_images, height, width), row by row.

    Returns the picture, with NaN between images and where there are none, and of each
    row of images the middle, in pixels.
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


def mosaic_size(picture, image_shape):
    """Return width and height, in inches, that suit a mosaic on a new figure."""
    height, width = picture.shape
    size = np.array([width, height]) * _IMAGE_SIZE / max(image_shape)
    return tuple(size * min(1.0, _MAX_MOSAIC_SIZE / size.max()))


def make_room_for_titles(ax):
    """Widen a new figure, full of a mosaic, by what labels at the left need."""
    figure = ax.figure
    widths = [label.get_window_extent().width for label in ax.get_yticklabels()]
    left = max(widths) / figure.dpi + 2 * _PAD
    width, height = figure.get_size_inches()
    total_width, total_height = left + width + _PAD, height + 2 * _PAD
    figure.set_size_inches(total_width, total_height)
    # This ends matplotlib's own layout, which would cut labels off: it does not foresee
    # that pixels, which are squares, narrow the axes.
    ax.set_position(
        [
            left / total_width,
            _PAD / total_height,
            width / total_width,
            height / total_height,
        ]
    )


def remove_frame(ax):
    """Leave nothing of the axes but labels at the left."""
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
