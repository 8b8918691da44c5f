"""Terms of the objective that depend on the code: sparsity, a posterior's divergence.

A term has two ops. The first is called when a block's code has been computed: it adds
the term's value to a sum and keeps the term's derivatives. The second adds these to the
derivatives that come back from the decoder.
"""

import math
from typing import NamedTuple

import numpy as np

from skae._compiled.compilation import REDUCTION, Op, as_op, formula
from skae._compiled.intrinsics import is_null, like
from skae._compiled.random import POSTERIOR, bits_at, normal_pair, stream_of
from skae._compiled.vector_math import exp, expm1
from skae._compiled.vectors import LINE_DOUBLES, use_whole_registers

# Entries of `settings`, float64, before the derivatives by the mini-batch's mean code.
WEIGHT, TARGET, WARMUP, BATCH_WEIGHT, BATCH_TERM = range(5)
N_TERM_SETTINGS = 5


@formula
def _row_weight(weights, i, example):
    return like(1.0, example) if is_null(weights) else weights[i]


# ---------------------------------------------------------------------------
# Sparsity
# ---------------------------------------------------------------------------


@as_op("vvvidnnddnn", REDUCTION)
def _absolute_code(
    code, kept, weights, picked, settings, seed, epoch, total, term, n_units, n_rows
):
    """WEIGHT times the sum of the code's absolute entries."""
    use_whole_registers()
    zero = code[0] - code[0]
    factor = like(settings[WEIGHT], zero)
    for j in range(n_units):
        part = zero
        for i in range(n_rows):
            a, share = code[j * n_rows + i], factor * _row_weight(weights, i, zero)
            part += share * abs(a)
            slope = share if a > 0 else like(0.0, zero)
            kept[j * n_rows + i] = -share if a < 0 else slope
        total[0] += np.float64(part)


@as_op("vvdnn", REDUCTION)
def _add_code(code, weights, sums, n_units, n_rows):
    """Add the weighted code to `sums` (n_units + 1,), and the weights to the last."""
    use_whole_registers()
    zero = code[0] - code[0]
    for j in range(n_units):
        part = zero
        for i in range(n_rows):
            part += _row_weight(weights, i, zero) * code[j * n_rows + i]
        sums[j] += np.float64(part)
    part = zero
    for i in range(n_rows):
        part += _row_weight(weights, i, zero)
    sums[n_units] += np.float64(part)


# Means nearer to 0 or 1 are replaced by this distance: a dead unit, whose slope is 0,
# would have an infinite divergence.
_LEAST_SHARE = 1e-12


@as_op("ddnn")
def _divergence_of_means(sums, settings, n_shards, n_units):
    """Divergence of a mini-batch's mean code, and its derivatives by the means.

    Ng, "Sparse autoencoder", CS294A lecture notes, 2011, section 3: the sum over units
    of the Bernoulli divergence KL(TARGET, mean), times WEIGHT and BATCH_WEIGHT. `sums`
    is (n_shards, n_units + 1), in rows of whole cache lines.
    """
    row = (n_units // LINE_DOUBLES + 1) * LINE_DOUBLES
    factor, target = settings[WEIGHT] * settings[BATCH_WEIGHT], settings[TARGET]
    total_weight = 0.0
    for shard in range(n_shards):
        total_weight += sums[shard * row + n_units]
    value = 0.0
    for j in range(n_units):
        total = 0.0
        for shard in range(n_shards):
            total += sums[shard * row + j]
        mean = total / total_weight if total_weight > 0 else target
        on, off = max(mean, _LEAST_SHARE), max(1.0 - mean, _LEAST_SHARE)
        value += target * math.log(target / on)
        value += (1.0 - target) * math.log((1.0 - target) / off)
        slope = -target / on if mean >= _LEAST_SHARE else 0.0
        slope += (1.0 - target) / off if 1.0 - mean >= _LEAST_SHARE else 0.0
        # A row of weight w contributes w / total_weight times its code to the mean.
        share = factor / total_weight if total_weight > 0 else 0.0
        settings[N_TERM_SETTINGS + j] = share * slope
    settings[BATCH_TERM] = factor * value


@as_op("vvvidnnddnn")
def _mean_code(
    code, kept, weights, picked, settings, seed, epoch, total, term, n_units, n_rows
):
    """Keep the derivative of a term of the mean code; `total` already has its value."""
    use_whole_registers()
    for j in range(n_units):
        slope = like(settings[N_TERM_SETTINGS + j], code[0])
        for i in range(n_rows):
            kept[j * n_rows + i] = slope * _row_weight(weights, i, slope)


@as_op("vvnn")
def _add_kept(delta, kept, n_units, n_rows):
    """Add a term's derivative to the one that came back from the decoder."""
    use_whole_registers()
    for i in range(n_units * n_rows):
        delta[i] += kept[i]


# ---------------------------------------------------------------------------
# Variational code: Kingma & Welling, "Auto-encoding variational Bayes", 2014
# ---------------------------------------------------------------------------


@formula
def _exp_of_half(x):
    """e^(x / 2)."""
    e = exp(like(-0.5, x) * abs(x))
    return like(1.0, x) / e if x > 0 else e


@formula
def _expm1(x):
    """e^x - 1."""
    one, m = like(1.0, x), expm1(-abs(x))
    return -m / (m + one) if x > 0 else m


# The logarithm of a variance is its unit's value from LOWEST_PLAIN to HIGHEST_PLAIN;
# beyond, it approaches a bound that is ROOM further out. For a sample that is 100
# standard deviations out, a relu unit's exponential would overflow or its draws disturb
# training, and no posterior gains by a variance much above the prior's, 1. The
# exponentials of both bounds are finite in float32.
LOWEST_PLAIN, HIGHEST_PLAIN, ROOM = -60.0, 3.0, 3.0


@formula
def _bounded(unit):
    """Logarithm of a variance, from its unit, and the derivative.

    With c the unit clipped to [LOWEST_PLAIN, HIGHEST_PLAIN], r = unit - c and
    s = ROOM / (ROOM + |r|): c + sign(r) ROOM (1 - s), and s².
    """
    low, high = like(LOWEST_PLAIN, unit), like(HIGHEST_PLAIN, unit)
    one, room = like(1.0, unit), like(ROOM, unit)
    clipped = low if unit < low else unit
    clipped = high if unit > high else clipped
    rest = unit - clipped
    s = room / (room + abs(rest))
    return clipped + math.copysign(room * (one - s), rest), s * s


def bounded_log_variance(units):
    """Logarithms of variances, from an array of units, as `_bounded` computes them."""
    clipped = np.clip(units, LOWEST_PLAIN, HIGHEST_PLAIN)
    rest = units - clipped
    return clipped + np.copysign(ROOM * (1 - ROOM / (ROOM + np.abs(rest))), rest)


@as_op("vvvidnnddnn", REDUCTION)
def _draw_code(
    units, kept, weights, picked, settings, seed, epoch, total, term, n_units, n_rows
):
    """Draw the code from the posterior, and add its divergence from the prior.

    The first half of the units are the posterior's means m; the second half give the
    logarithms l of its variances. m is replaced by m + e^(l / 2) * noise (equation 10,
    section 2.4). The divergence from the standard normal prior, (m² + e^l - 1 - l) / 2
    (appendix B), is added to `term`, and WEIGHT times it to `total`; the weight rises
    linearly over the first WARMUP epochs.
    """
    use_whole_registers()
    n_code = n_units // 2
    zero = units[0] - units[0]
    half, factor = like(0.5, zero), settings[WEIGHT]
    if epoch >= 0 and epoch + 1 < settings[WARMUP]:
        factor *= (epoch + 1) / settings[WARMUP]
    stream, beta = stream_of(seed, POSTERIOR, epoch), like(factor, zero)
    for j in range(n_code):
        to, log_to = j * n_rows, (n_code + j) * n_rows
        part = zero
        for i in range(n_rows):
            mean = units[to + i]
            log_variance, slope = _bounded(units[log_to + i])
            noise, _ = normal_pair(bits_at(stream, picked[i] * n_code + j), mean)
            weight = _row_weight(weights, i, zero)
            excess = _expm1(log_variance)
            part += weight * half * (mean * mean + (excess - log_variance))
            deviation = _exp_of_half(log_variance) * noise
            units[to + i] = mean + deviation
            kept[to + i] = beta * weight * mean
            # The derivative of the code with respect to the logarithm's unit.
            kept[log_to + i] = slope * half * deviation
            units[log_to + i] = slope * beta * weight * half * excess
        term[0] += np.float64(part)
        total[0] += factor * np.float64(part)


@as_op("vvnn")
def _backward_draw(delta, kept, n_units, n_rows):
    """Turn the derivative by the code into those by the units of its layer."""
    use_whole_registers()
    n_code = n_units // 2 * n_rows
    for i in range(n_code):
        slope = delta[i]
        delta[n_code + i] += slope * kept[n_code + i]
        delta[i] = slope + kept[i]


class TermKind(NamedTuple):
    """How a term of the objective is computed."""

    forward: Op  # called when a block's code has been computed
    backward: Op
    of_means: tuple[Op, Op] | None = None  # sum a block's code; the term of the means
    needs_unit_range: bool = False  # the code has to be in (0, 1)


class CodeTerm(NamedTuple):
    """A term of the objective: its kind and the entries of `settings`, by position."""

    kind: TermKind
    settings: dict[int, float]


SPARSITIES = {
    "l1": TermKind(_absolute_code, _add_kept),
    "kl": TermKind(
        _mean_code, _add_kept, (_add_code, _divergence_of_means), needs_unit_range=True
    ),
}
VARIATIONAL = TermKind(_draw_code, _backward_draw)
TERM_KINDS = (*SPARSITIES.values(), VARIATIONAL)
