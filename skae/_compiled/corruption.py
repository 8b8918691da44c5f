"""Corruption of the rows that a network learns to restore.

Vincent et al., "Stacked denoising autoencoders", 2010, section 3.3.
"""

from typing import Any, NamedTuple

import numpy as np

from skae._compiled.compilation import Op, as_op, formula, made_for
from skae._compiled.intrinsics import like
from skae._compiled.random import (
    CORRUPTED_GROUPS,
    CORRUPTION,
    U32,
    bits_at,
    normal_pair,
    stream_of,
)
from skae._compiled.vectors import use_whole_registers

# Entries of `settings`, float64; LOWEST and HIGHEST are in the units of the data.
LEVEL, LOWEST, HIGHEST = range(3)
N_CORRUPTION_SETTINGS = 3

# Placeholder for the formula, see `made_for`.
_function: Any = None


def _corrupt(
    block, scaling, picked, settings, seed, epoch, corrupted, n_rows, n_features
):
    """Write a block, corrupted, to `corrupted` (n_features or one more, n_rows).

    Features are drawn in pairs.
    """
    use_whole_registers()
    level = settings[LEVEL]
    stream = stream_of(seed, CORRUPTION, epoch)
    n_pairs = (n_features + 1) // 2
    for pair in range(n_pairs):
        j, k = 2 * pair, min(2 * pair + 1, n_features - 1)
        scale_j, scale_k = scaling[n_features + j], scaling[n_features + k]
        low_j = (like(settings[LOWEST], scale_j) - scaling[j]) * scale_j
        low_k = (like(settings[LOWEST], scale_k) - scaling[k]) * scale_k
        high_j = (like(settings[HIGHEST], scale_j) - scaling[j]) * scale_j
        high_k = (like(settings[HIGHEST], scale_k) - scaling[k]) * scale_k
        to_j, to_k = 2 * pair * n_rows, (2 * pair + 1) * n_rows
        for i in range(n_rows):
            bits = bits_at(stream, picked[i] * n_pairs + pair)
            x, y = block[j * n_rows + i], block[k * n_rows + i]
            u, v = _function(bits, level, x, low_j, high_j, y, low_k, high_k)
            corrupted[to_j + i], corrupted[to_k + i] = u, v


_ARGUMENTS = "vvidnnvnn"


def _corruption_op(function):
    return Op(made_for(function, _corrupt), _ARGUMENTS)


def _corrupt_groups(
    block, picked, settings, groups, seed, epoch, corrupted, n_groups, n_rows
):
    """Corrupt groups of features, each as a whole, after the op for all features.

    A group is hidden, or has the values of another row, as the formula says.
    """
    stream = stream_of(seed, CORRUPTED_GROUPS, epoch)
    share = np.int64(settings[LEVEL] * 2.0**32)
    for g in range(n_groups):
        for i in range(n_rows):
            u, v = _two_shares(bits_at(stream, picked[i] * n_groups + g))
            source = _function(i, v, n_rows) if u < share else i
            for j in range(groups[g], groups[g + 1]):
                value = block[j * n_rows + max(source, 0)]
                zero = like(0.0, value)
                corrupted[j * n_rows + i] = value if source >= 0 else zero


def _group_op(function):
    return Op(made_for(function, _corrupt_groups), "vidinnvnn")


@formula
def _gaussian(bits, level, x, low_x, high_x, y, low_y, high_y):
    """Add normal noise of standard deviation `level`, in the network's units."""
    u, v = normal_pair(bits, x)
    return x + like(level, x) * u, y + like(level, x) * v


@formula
def _two_shares(bits):
    """Two numbers in [0, 2^32)."""
    return np.int64(bits >> U32), np.int64(bits & np.uint64(0xFFFFFFFF))


@formula
def _masking(bits, level, x, low_x, high_x, y, low_y, high_y):
    """Set a share `level` of the entries to the lowest value, which is 0."""
    u, v = _two_shares(bits)
    share = np.int64(level * 2.0**32)
    return low_x if u < share else x, low_y if v < share else y


@formula
def _salt_and_pepper(bits, level, x, low_x, high_x, y, low_y, high_y):
    """Set a share `level` of the entries to the lowest or the highest value."""
    u, v = _two_shares(bits)
    share, half = np.int64(level * 2.0**32), np.int64(level * 2.0**31)
    x = high_x if u < share else x
    y = high_y if v < share else y
    return low_x if u < half else x, low_y if v < half else y


@formula
def _nowhere(i, share, n_rows):
    return np.int64(-1)


@formula
def _another(i, share, n_rows):
    """A row other than i, given a number in [0, 2^32); i if there is no other."""
    j = i + 1 + ((share * (n_rows - 1)) >> 32)
    return j - n_rows if j >= n_rows else j


@as_op(_ARGUMENTS)
def _swap(block, scaling, picked, settings, seed, epoch, corrupted, n_rows, n_features):
    """Replace a share of the entries by the same feature of other rows of the block."""
    stream = stream_of(seed, CORRUPTION, epoch)
    share = np.int64(settings[LEVEL] * 2.0**32)
    for j in range(n_features):
        for i in range(n_rows):
            u, v = _two_shares(bits_at(stream, picked[i] * n_features + j))
            source = _another(i, v, n_rows) if u < share else i
            corrupted[j * n_rows + i] = block[j * n_rows + source]


class Noise(NamedTuple):
    """Properties of a noise."""

    op: Op
    # For groups of features; None if they are corrupted as others are.
    group_op: Op | None = None
    is_share: bool = True  # the level is the share of entries that are changed
    needs_range: bool = False  # LOWEST and HIGHEST are those of the data
    keeps_zeros: bool = True  # most zeros stay zeros
    has_groups: bool = True  # whether groups of features can have it


class Corruption(NamedTuple):
    """Noise that is added to rows in training, and its settings."""

    noise: Noise
    settings: np.ndarray  # (N_CORRUPTION_SETTINGS,) float64


CORRUPTIONS = {
    "gaussian": Noise(_corruption_op(_gaussian), is_share=False, keeps_zeros=False),
    "masking": Noise(_corruption_op(_masking), _group_op(_nowhere)),
    "salt_and_pepper": Noise(
        _corruption_op(_salt_and_pepper), needs_range=True, has_groups=False
    ),
    "swap": Noise(_swap, _group_op(_another)),
}
