"""Mathematical functions as formulas without branches, which LLVM vectorizes.

For `math.exp` and its kin Numba calls the C library, number by number. The formulas
serve float32 and float64: constants and the coefficients of series are looked up by
type. Their error is a few units in the last place; NaN stays NaN.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.polynomial import Chebyshev, Polynomial, chebyshev
from scipy import special

from skae._compiled.compilation import formula
from skae._compiled.intrinsics import like


def _constant(single, double):
    """Function of x that returns the constant for its type."""

    @intrinsic
    def constant(typingctx, x):
        def codegen(context, builder, signature, args):
            value = single if x == types.float32 else double
            return context.get_constant(x, value)

        return x(x), codegen

    return constant


def _multiply_add(builder, a, b, c):
    """Write code for a * b + c, which may become one instruction."""
    product = builder.fmul(a, b, flags=("contract",))
    return builder.fadd(product, c, flags=("contract",))


def _polynomial(single, double):
    """Polynomial function with ascending coefficients by type, in Horner's scheme."""

    @intrinsic
    def polynomial(typingctx, x):
        coefficients = single if x == types.float32 else double

        def codegen(context, builder, signature, args):
            terms = [context.get_constant(x, float(c)) for c in coefficients]
            total = terms.pop()
            while terms:
                total = _multiply_add(builder, total, args[0], terms.pop())
            return total

        return x(x), codegen

    return polynomial


def _chebyshev_series(single, double):
    """Chebyshev series with coefficients by type.

    Clenshaw, "A note on the summation of Chebyshev series", 1955.
    """

    @intrinsic
    def series(typingctx, x):
        coefficients = single if x == types.float32 else double

        def codegen(context, builder, signature, args):
            x_value, zero = args[0], context.get_constant(x, 0.0)
            double_x = builder.fadd(x_value, x_value)
            last, before = zero, zero
            for c in reversed(coefficients[1:]):
                term = builder.fsub(context.get_constant(x, c), before)
                last, before = _multiply_add(builder, double_x, last, term), last
            term = builder.fsub(context.get_constant(x, coefficients[0]), before)
            return _multiply_add(builder, x_value, last, term)

        return x(x), codegen

    return series


# Added to a small number, this leaves its nearest integer, plus the exponent bias, in
# the low mantissa bits.
_SHIFTER = _constant(1.5 * 2**23 + 127, 1.5 * 2**52 + 1023)
# Logarithms of the smallest normal numbers, rounded up.
_LOWEST = _constant(-87.33654, -708.3964)
_LOG2_E = math.log2(math.e)
# ln 2 in two parts; whole multiples of the first are exact (Cody & Waite, "Software
# manual for the elementary functions", 1980; Moshier's Cephes for the doubles).
_LN_2_HIGH = _constant(0.693359375, 6.93145751953125e-1)
_LN_2_LOW = _constant(-2.12194440054690583e-4, 1.42860682030941723212e-6)


def _economized(terms, low, high, n_terms):
    """Power series in fewer terms, hardly less exact in an interval.

    Lanczos, "Applied analysis", 1956, chapter VII: its truncated Chebyshev series.
    """
    series = Polynomial(terms).convert(domain=[low, high], kind=Chebyshev)
    return series.truncate(n_terms).convert(kind=Polynomial).coef


# (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2, from Taylor coefficients.
_TAYLOR = [1 / math.factorial(k) for k in range(2, 20)]
_EXPONENTIAL_REST = _polynomial(
    *(_economized(_TAYLOR, -math.log(2) / 2, math.log(2) / 2, n) for n in (5, 10))
)
# (artanh(s) / s - 1) / s^2 in s^2, for |s| <= 1 / 3.
_ARTANH_TERMS = [1 / (2 * k + 1) for k in range(1, 30)]
_ARTANH_REST = _polynomial(*(_economized(_ARTANH_TERMS, 0, 1 / 9, n) for n in (4, 10)))


def _layout(x):
    """LLVM's integer type of a float's bits, and the number of mantissa bits."""
    if x == types.float32:
        return ir.IntType(32), 23
    return ir.IntType(64), 52


@intrinsic
def _power_of_two(typingctx, shifted):
    """2^n for shifted = n + _SHIFTER: its low bits, moved to the exponent."""

    def codegen(context, builder, signature, args):
        integer, mantissa = _layout(shifted)
        bits = builder.bitcast(args[0], integer)
        bits = builder.shl(bits, ir.Constant(integer, mantissa))
        return builder.bitcast(bits, args[0].type)

    return shifted(shifted), codegen


@intrinsic
def _split_binary(typingctx, x):
    """(m, n) with x = m 2^n and m in [sqrt(1/2), sqrt(2)), for a normal x > 0."""

    def codegen(context, builder, signature, args):
        integer, mantissa = _layout(x)
        bits = builder.bitcast(args[0], integer)
        low = builder.bitcast(context.get_constant(x, math.sqrt(0.5)), integer)
        shift = ir.Constant(integer, mantissa)
        n = builder.ashr(builder.sub(bits, low), shift)
        m = builder.bitcast(builder.sub(bits, builder.shl(n, shift)), args[0].type)
        # As a float, without a conversion: n in the low bits of a large number.
        value = 1.5 * 2.0**mantissa
        shifter = context.get_constant(x, value)
        shifted = builder.add(builder.bitcast(shifter, integer), n)
        n = builder.fsub(builder.bitcast(shifted, args[0].type), shifter)
        return context.make_tuple(builder, signature.return_type, [m, n])

    return types.UniTuple(x, 2)(x), codegen


@formula
def exponential_parts(x):
    """(s, q) with e^x = s + s q and s a power of two, for x <= 0.

    Below the logarithm of the smallest normal number, x is replaced by it.
    """
    lowest = _LOWEST(x)
    x = lowest if x < lowest else x  # keeps NaN
    shifted = x * like(_LOG2_E, x) + _SHIFTER(x)
    n = shifted - _SHIFTER(x)
    r = x - n * _LN_2_HIGH(x) - n * _LN_2_LOW(x)
    return _power_of_two(shifted), _EXPONENTIAL_REST(r) * r * r + r


@formula
def exp(x):
    """e^x for x <= 0."""
    s, q = exponential_parts(x)
    return s * q + s


@formula
def expm1(x):
    """e^x - 1 for x <= 0."""
    s, q = exponential_parts(x)
    return s * q + (s - like(1.0, x))


@formula
def _double_artanh(s):
    """2 artanh(s) = log((1 + s) / (1 - s)), for |s| <= 1 / 3."""
    square, double = s * s, s + s
    return _ARTANH_REST(square) * square * double + double


@formula
def log1p(x):
    """log(1 + x) for 0 <= x <= 1."""
    return _double_artanh(x / (x + like(2.0, x)))


@formula
def log(x):
    """log(x) for a normal x > 0."""
    m, n = _split_binary(x)
    one = like(1.0, x)
    small = n * _LN_2_LOW(x) + _double_artanh((m - one) / (m + one))
    return n * _LN_2_HIGH(x) + small


# erfcx(x) (1 + 2 x) in (x - k) / (x + k): Shepherd & Laframboise, "Chebyshev
# approximation of (1 + 2x) exp(x^2) erfc(x) in 0 <= x < inf", 1981.
ERFCX_CENTRE = 3.75


def scaled_erfcx(t):
    """erfcx(x) (1 + 2 x) as a function of t = (x - k) / (x + k), by SciPy."""
    t = np.minimum(t, 1 - 1e-12)  # instead of infinity
    x = ERFCX_CENTRE * (1 + t) / (1 - t)
    return special.erfcx(x) * (1 + 2 * x)


_ERFCX = _chebyshev_series(
    *(chebyshev.chebinterpolate(scaled_erfcx, degree).tolist() for degree in (11, 25))
)


@formula
def half_erfcx(x):
    """e^(x^2) erfc(x) / 2 for x >= 0."""
    half, one, centre = like(0.5, x), like(1.0, x), like(ERFCX_CENTRE, x)
    return half * _ERFCX((x - centre) / (x + centre)) / (one + x + x)
