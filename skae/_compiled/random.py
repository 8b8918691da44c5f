"""Random numbers that are functions of where they are used; the order of the rows.

A stream of SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number
generators", 2014) belongs to a seed, a purpose and an epoch, and each row of the matrix
has its own places in it. A row's numbers do not depend on its mini-batch, block or
thread, and resumed training continues exactly.
"""

import math

import numpy as np

from skae._compiled.compilation import as_op, formula
from skae._compiled.intrinsics import like
from skae._compiled.vector_math import log

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_U27, _U30, _U31, U32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
# Purposes of streams: the bits above the seed's 31.
_ORDER, CORRUPTION, POSTERIOR = np.uint64(0), np.uint64(1), np.uint64(2)
CORRUPTED_GROUPS = np.uint64(3)


@formula
def _mix(x):
    """Scramble 64 bits: the finalizer of SplitMix64."""
    x = (x ^ (x >> _U30)) * _MIX_1
    x = (x ^ (x >> _U27)) * _MIX_2
    return x ^ (x >> _U31)


@formula
def stream_of(seed, purpose, epoch):
    """State at the beginning of a stream."""
    return _mix(_mix(np.uint64(seed) + (purpose << U32)) + np.uint64(epoch))


@formula
def bits_at(stream, place):
    """64 random bits at a place in a stream."""
    return _mix(stream + _GOLDEN_GAMMA * np.uint64(place))


@as_op("cnnn")
def shuffle(order, n, seed, epoch):
    """Write an epoch's order of the rows: a Fisher-Yates shuffle of 0, ..., n - 1."""
    stream = stream_of(seed, _ORDER, epoch)
    for i in range(n):
        order[i] = i
    for i in range(n - 1, 0, -1):
        bits = bits_at(stream, i) >> U32
        # Lemire, "Fast random integer generation in an interval", 2019, section 3.
        j = np.int64((bits * np.uint64(i + 1)) >> U32)
        order[i], order[j] = order[j], order[i]


# Bits of a uniform number, which plus one half is exact in float32: both dtypes see the
# same numbers, except for rounding. The largest normal number is 5.8.
_N_BITS = 23
_U41, _U18 = np.uint64(64 - _N_BITS), np.uint64(64 - 2 * _N_BITS)
_LOW_BITS = np.uint64(2**_N_BITS - 1)
_SWAP, _FLIP, _NONE = np.uint64(1), np.uint64(2), np.uint64(0)
_QUARTER_TURN = math.pi / 2
# Taylor coefficients of sine and cosine: exact to 1e-10 up to an eighth of a turn.
_SIN_3, _SIN_5, _SIN_7 = -1 / 6, 1 / 120, -1 / 5040
_SIN_9, _SIN_11 = 1 / 362_880, -1 / 39_916_800
_COS_2, _COS_4, _COS_6 = -1 / 2, 1 / 24, -1 / 720
_COS_8, _COS_10 = 1 / 40_320, -1 / 3_628_800


@formula
def _uniform(bits, example):
    """Uniform number in (0, 1) from the lowest bits, in the type of the example."""
    # Through int32, which vector instructions convert.
    whole = like(np.int32(bits & _LOW_BITS), example)
    return (whole + like(0.5, example)) * like(2.0**-_N_BITS, example)


@formula
def normal_pair(bits, example):
    """Two independent standard normal numbers, in the type of the example.

    Box & Muller, "A note on the generation of random normal deviates", 1958. The angle
    is drawn from an eighth of a turn to either side of 0; two more bits reflect the
    point to any of four such sectors.
    """
    one = like(1.0, example)
    radius = math.sqrt(like(-2.0, example) * log(_uniform(bits >> _U41, example)))
    half = like(0.5, example)
    turn = _uniform(bits >> _U18, example) - half
    x = turn * like(_QUARTER_TURN, example)
    s = x * x
    tail = s * like(_SIN_11, example) + like(_SIN_9, example)
    tail = (tail * s + like(_SIN_7, example)) * s + like(_SIN_5, example)
    sine = ((tail * s + like(_SIN_3, example)) * s + one) * x
    tail = s * like(_COS_10, example) + like(_COS_8, example)
    tail = (tail * s + like(_COS_6, example)) * s + like(_COS_4, example)
    cosine = (tail * s + like(_COS_2, example)) * s + one
    radius = radius if bits & _FLIP == _NONE else -radius
    is_swapped = bits & _SWAP != _NONE
    first = sine if is_swapped else cosine
    return radius * first, radius * (cosine if is_swapped else sine)
