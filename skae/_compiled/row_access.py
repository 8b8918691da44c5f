"""Ops that find rows, sum their moments, and copy them into blocks and out again.

Matrices are in C order; a block is (n_units, n_rows).
"""

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from skae._compiled.compilation import as_op, formula
from skae._compiled.intrinsics import is_null, like, prefetch, shifted
from skae._compiled.numba_private import cgutils
from skae._compiled.vectors import SQUARE, Vectors, use_whole_registers


@formula
def _matrix_row(numbers, position):
    """Row number at a position of a list, or the position if the list is null."""
    return np.int64(position) if is_null(numbers) else np.int64(numbers[position])


@as_op("ccdnnniv")
def pick(order, subset, weights, start, stop, n_rows, picked, row_weights):
    """Find the matrix rows of the positions start, start + 1, ... of an order.

    `order`, `subset` and `weights` may be null: the rows' own order, all rows, no
    weights. Positions from `stop` on get -1, and so do rows of weight 0, whose loss
    might overflow.
    """
    for i in range(stop - start, n_rows):
        picked[i] = -1
    for i in range(min(stop - start, n_rows)):
        row = _matrix_row(subset, _matrix_row(order, start + i))
        if not is_null(weights):
            row_weights[i] = weights[row]
            if not row_weights[i] > 0:  # in the dtype
                row = np.int64(-1)
        picked[i] = row


@as_op("vcdddddnn")
def add_deviations(
    values, subset, weights, origin, total, squares, largest, n_rows, n_features
):
    """Add the rows' weighted deviations from `origin` to `total`, their squares too.

    Also updates `largest`, the largest absolute deviations; all are (n_features,).
    `subset` and `weights` may be null: all rows, weights of 1.
    """
    use_whole_registers()
    for i in range(n_rows):
        row = _matrix_row(subset, i)
        weight = 1.0 if is_null(weights) else weights[row]
        if weight > 0:
            for j in range(n_features):
                deviation = np.float64(values[row * n_features + j]) - origin[j]
                total[j] += weight * deviation
                squares[j] += weight * deviation * deviation
            # A loop of its own: LLVM does not vectorise one that writes three arrays.
            for j in range(n_features):
                size = abs(np.float64(values[row * n_features + j]) - origin[j])
                largest[j] = size if size > largest[j] else largest[j]


@as_op("vcddddnn")
def add_squared_deviations(
    values, subset, weights, mean, squares, unit, n_rows, n_features
):
    """Add the weighted squares of the rows' deviations from `mean` to `squares`.

    Deviations are measured in `unit` (1,).
    """
    use_whole_registers()
    for i in range(n_rows):
        row = _matrix_row(subset, i)
        weight = 1.0 if is_null(weights) else weights[row]
        if weight > 0:
            for j in range(n_features):
                deviation = np.float64(values[row * n_features + j]) - mean[j]
                deviation /= unit[0]
                squares[j] += weight * deviation * deviation


# Cache lines of a row that are prefetched; the processor prefetches the others itself.
_AHEAD_LINES = 8
_LINE_ENTRIES = 8  # of float64; lines of float32 are prefetched twice
# Prefetching so many rows ahead reads rows in the matrix' order a fifth faster.
_ROWS_AHEAD = 24


@formula
def _prefetch_row(values, row, n_features):
    """Prefetch the beginning of a row."""
    n_ahead = min(n_features, _AHEAD_LINES * _LINE_ENTRIES)
    for j in range(0, n_ahead, _LINE_ENTRIES):
        prefetch(values, row * n_features + j)


@as_op("ccvnnn")
def prefetch_rows(order, subset, values, start, stop, n_features):
    """Prefetch the rows at the positions `start` to `stop` - 1 of an order."""
    for i in range(start, stop):
        row = _matrix_row(subset, _matrix_row(order, i))
        _prefetch_row(values, row, n_features)


@intrinsic
def _gather_square(typingctx, values, rows, means, factors, block, n_rows):
    """Write `SQUARE` features of the rows that begin at `rows` to a block."""

    def codegen(context, builder, signature, args):
        values, rows, means, factors, block, n_rows = args
        vectors = Vectors(context, builder, signature.args[0].dtype, SQUARE)
        mean, factor = vectors.load(means), vectors.load(factors)
        square = [
            builder.fmul(
                builder.fsub(vectors.load(vectors.at(values, row)), mean), factor
            )
            for row in cgutils.unpack_tuple(builder, rows)
        ]
        vectors.store_rows(vectors.transposed(square), block, n_rows)
        return context.get_dummy_value()

    return types.void(values, rows, means, factors, block, n_rows), codegen


@as_op("vivvnn")
def gather(values, picked, scaling, block, n_rows, n_features):
    """Write picked rows to a block, as (x - mean) / scale; zeros for row -1.

    `scaling` (2 * n_features,) is the features' means, and 1 / scale of each.
    """
    use_whole_registers()
    tiled = n_rows - n_rows % SQUARE
    whole = n_features - n_features % SQUARE
    for i in range(0, tiled, SQUARE):
        first_ahead = i + _ROWS_AHEAD
        for r in range(first_ahead, min(first_ahead + SQUARE, n_rows)):
            _prefetch_row(values, max(picked[r], 0), n_features)
        row_0 = max(picked[i], 0) * n_features
        row_1 = max(picked[i + 1], 0) * n_features
        row_2 = max(picked[i + 2], 0) * n_features
        row_3 = max(picked[i + 3], 0) * n_features
        row_4 = max(picked[i + 4], 0) * n_features
        row_5 = max(picked[i + 5], 0) * n_features
        row_6 = max(picked[i + 6], 0) * n_features
        row_7 = max(picked[i + 7], 0) * n_features
        rows = row_0, row_1, row_2, row_3, row_4, row_5, row_6, row_7
        for j in range(0, whole, SQUARE):
            at, to = shifted(values, j), shifted(block, j * n_rows + i)
            means, factors = shifted(scaling, j), shifted(scaling, n_features + j)
            _gather_square(at, rows, means, factors, to, n_rows)
        for j in range(whole, n_features):
            mean, scale, k = scaling[j], scaling[n_features + j], j * n_rows + i
            block[k] = (values[row_0 + j] - mean) * scale
            block[k + 1] = (values[row_1 + j] - mean) * scale
            block[k + 2] = (values[row_2 + j] - mean) * scale
            block[k + 3] = (values[row_3 + j] - mean) * scale
            block[k + 4] = (values[row_4 + j] - mean) * scale
            block[k + 5] = (values[row_5 + j] - mean) * scale
            block[k + 6] = (values[row_6 + j] - mean) * scale
            block[k + 7] = (values[row_7 + j] - mean) * scale
    for i in range(tiled, n_rows):
        row = max(picked[i], 0) * n_features
        for j in range(n_features):
            scale = scaling[n_features + j]
            block[j * n_rows + i] = (values[row + j] - scaling[j]) * scale
    for i in range(n_rows):
        if picked[i] < 0:
            for j in range(n_features):
                block[j * n_rows + i] = like(0.0, scaling[0])


@as_op("vciivvnn")
def gather_csr(values, columns, starts, picked, scaling, block, n_rows, n_features):
    """Write picked rows of a CSR matrix to a block, as `gather` does."""
    use_whole_registers()
    picked, scaling = carray(picked, n_rows), carray(scaling, 2 * n_features)
    block = carray(block, (n_features, n_rows))
    zero = like(0.0, scaling[0])
    for j in range(n_features):
        at_zero = (zero - scaling[j]) * scaling[n_features + j]
        for i in range(n_rows):
            block[j, i] = at_zero if picked[i] >= 0 else zero
    for i in range(n_rows):
        row = picked[i]
        if row >= 0:
            for k in range(starts[row], starts[row + 1]):
                j = columns[k]
                block[j, i] = (values[k] - scaling[j]) * scaling[n_features + j]


@intrinsic
def _scatter_square(typingctx, block, block_rows, means, scales, out, n_units):
    """Write `SQUARE` units of `SQUARE` rows of a block to `out`."""

    def codegen(context, builder, signature, args):
        block, block_rows, means, scales, out, n_units = args
        vectors = Vectors(context, builder, signature.args[0].dtype, SQUARE)
        mean, factor = vectors.load(means), vectors.load(scales)
        rows = vectors.transposed(vectors.load_rows(block, block_rows))
        scaled = [vectors.multiply_add(row, factor, mean) for row in rows]
        vectors.store_rows(scaled, out, n_units)
        return context.get_dummy_value()

    return types.void(block, block_rows, means, scales, out, n_units), codegen


@as_op("vvvnnn")
def scatter(block, scaling, out, n_rows, n_units, block_rows):
    """Write rows of a block (n_units, block_rows) to `out` (n_rows, n_units), scaled.

    `scaling` (2 * n_units,) is the units' means and scales: x * scale + mean.
    """
    use_whole_registers()
    tiled, whole = n_rows - n_rows % SQUARE, n_units - n_units % SQUARE
    for i in range(0, tiled, SQUARE):
        for j in range(0, whole, SQUARE):
            at = shifted(block, j * block_rows + i)
            to = shifted(out, i * n_units + j)
            means, scales = shifted(scaling, j), shifted(scaling, n_units + j)
            _scatter_square(at, block_rows, means, scales, to, n_units)
    for i in range(n_rows):
        for j in range(whole if i < tiled else 0, n_units):
            x = block[j * block_rows + i]
            out[i * n_units + j] = x * scaling[n_units + j] + scaling[j]
