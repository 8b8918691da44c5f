"""Matrix products of blocks, tile by tile of the result, and transposed copies.

BLAS first copies its operands into an order of its own. This does not pay for the
products of a block of rows, which have a short side: these come closer to the
processor's peak, from 4-2-4 networks to 784-1000.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from skae._compiled.compilation import as_op, formula
from skae._compiled.intrinsics import hidden, prefetch, shifted
from skae._compiled.numba_private import cgutils
from skae._compiled.vectors import INT64, SQUARE, Vectors, multiples, registers

# Rows of the largest tile, by the number of vector registers. With two vectors in a
# row, sums fill three quarters of the registers, and there are more multiplications
# than loads. With tiles of 8 rows, of one vector for 16 registers, products take 1.05
# times as long on a Xeon with 32 registers, and 1.2 times if it uses 16.
_TILE_ROWS = {32: 12, 16: 6}
_TILE_VECTORS = 2
_ROWS_OF_POINTER = 4  # rows of a tile that are found from the same pointer
_TILE_SIZES = {32: (12, 4, 2, 1), 16: (6, 4, 2, 1)}
# Columns of b that `pack` puts together: a multiple of a tile's and of a square's.
PART_COLUMNS = 32
# Products in a sum before it is added to the result. The copied rows of a tile then
# stay in the L1 cache.
DEPTH = 512
# Rows and columns of a tile of `short_product`.
_SHORT_ROWS, _SHORT_COLUMNS = (4, 1), (4, 2, 1)


def _vector(context, dtype):
    """Number of entries of a vector register."""
    return registers(context)[0] * 8 // dtype.bitwidth


@intrinsic
def _tile_rows(typingctx, pointer):
    """Number of rows of the largest tile."""

    def codegen(context, builder, signature, args):
        return ir.Constant(INT64, _TILE_ROWS[registers(context)[1]])

    return types.intp(pointer), codegen


@intrinsic
def _vector_columns(typingctx, pointer):
    """Number of columns of a vector of the pointer's dtype."""

    def codegen(context, builder, signature, args):
        return ir.Constant(INT64, _vector(context, pointer.dtype))

    return types.intp(pointer), codegen


@intrinsic
def _tile_columns(typingctx, pointer):
    """Number of columns of a tile."""

    def codegen(context, builder, signature, args):
        n = _vector(context, pointer.dtype) * _TILE_VECTORS
        return ir.Constant(INT64, n)

    return types.intp(pointer), codegen


def _switch(builder, number, cases, write):
    """Write code for each value that a number may have at run time."""
    end = builder.append_basic_block("end")
    switch = builder.switch(number, end)
    for case in cases:
        block = builder.append_basic_block(f"case_{case}")
        switch.add_case(ir.Constant(number.type, case), block)
        with builder.goto_block(block):
            write(case)
            builder.branch(end)
    builder.position_at_end(end)


def _is_set(builder, flag):
    return builder.icmp_signed("!=", flag, ir.Constant(INT64, 0))


# ---------------------------------------------------------------------------
# Products whose result has long rows
# ---------------------------------------------------------------------------


def _write_tile(vectors, n_rows, n_vectors, mask, operands):
    """Write code that adds a tile's sums of products to the start values."""
    builder = vectors.builder
    (a, a_row, a_step), (b, b_row), (c, c_row), start_values, k = operands
    start, start_step, is_added = start_values
    columns = [v * vectors.n for v in range(n_vectors)]
    sums = [
        [cgutils.alloca_once_value(builder, vectors.zero) for _ in columns]
        for _ in range(n_rows)
    ]
    # With a pointer for all rows, or for each, LLVM walks from row to row: a chain of
    # additions that takes longer than the multiplications.
    rows = multiples(builder, a_row, n_rows)
    at_a = [
        cgutils.alloca_once_value(builder, hidden(builder, vectors.at(a, rows[i])))
        for i in range(0, n_rows, _ROWS_OF_POINTER)
    ]
    steps = [hidden(builder, step) for step in rows[1:_ROWS_OF_POINTER]]
    at_b = cgutils.alloca_once_value(builder, b)
    with cgutils.for_range(builder, k):
        row = builder.load(at_b)
        of_b = [vectors.load(vectors.at(row, j), mask) for j in columns]
        builder.store(vectors.at(row, b_row), at_b)
        for i, pointer in enumerate(at_a):
            at = builder.load(pointer)
            builder.store(vectors.at(at, a_step), pointer)
            places = [at, *(vectors.at(at, step) for step in steps)]
            of_rows = sums[i * _ROWS_OF_POINTER :]
            for place, row_sums in zip(places, of_rows, strict=False):
                factor = vectors.splat(builder.load(place))
                for vector, total in zip(of_b, row_sums, strict=True):
                    grown = vectors.multiply_add(factor, vector, builder.load(total))
                    builder.store(grown, total)
    starts = multiples(builder, start_step, n_rows)
    rows = multiples(builder, c_row, n_rows)
    with builder.if_else(_is_set(builder, is_added)) as (added, fresh):
        with added:
            for row, row_sums in zip(rows, sums, strict=True):
                for j, total in zip(columns, row_sums, strict=True):
                    before = vectors.load(vectors.at(c, row, j), mask)
                    builder.store(builder.fadd(before, builder.load(total)), total)
        with fresh:
            for offset, row_sums in zip(starts, sums, strict=True):
                first = vectors.splat(builder.load(vectors.at(start, offset)))
                for total in row_sums:
                    builder.store(builder.fadd(first, builder.load(total)), total)
    for row, row_sums in zip(rows, sums, strict=True):
        for j, total in zip(columns, row_sums, strict=True):
            vectors.store(builder.load(total), vectors.at(c, row, j), mask)


@intrinsic
def _tile(typingctx, a, b, c, start, k, n_rows, n_columns):
    """Compute a tile of `product`, of one of the sizes.

    `a`, `b`, `c` and `start` are tuples: a pointer to the first entry, and the steps
    from there. With fewer columns than a tile's, only one vector's are computed.
    """

    def codegen(context, builder, signature, args):
        *operands, k, n_rows, n_columns = args
        operands = [cgutils.unpack_tuple(builder, operand) for operand in operands]
        vectors = Vectors(context, builder, a[0].dtype, _vector(context, a[0].dtype))
        width = ir.Constant(INT64, _TILE_VECTORS * vectors.n)
        is_whole = builder.icmp_signed(">=", n_columns, width)
        mask = vectors.mask(n_columns)

        def write(n_rows):
            with builder.if_else(is_whole) as (whole, edge):
                with whole:
                    _write_tile(vectors, n_rows, _TILE_VECTORS, None, [*operands, k])
                with edge:
                    _write_tile(vectors, n_rows, 1, mask, [*operands, k])

        _switch(builder, n_rows, _TILE_SIZES[registers(context)[1]], write)
        return context.get_dummy_value()

    return types.void(a, b, c, start, k, n_rows, n_columns), codegen


@intrinsic
def _own_memory(typingctx, pointer):
    """Memory on the stack for `DEPTH` columns of a tile."""

    def codegen(context, builder, signature, args):
        entry = context.get_data_type(pointer.dtype)
        size = DEPTH * _TILE_ROWS[registers(context)[1]]
        return cgutils.alloca_once(builder, entry, size=size)

    return pointer(pointer), codegen


@formula
def _tile_size(left, largest):
    """Number of rows of the next tile, given those that are left.

    Tiles of fewer than 4 rows take as long as those of 4: two of these rather than one
    of 6 and one of 2.
    """
    if left >= largest and left != 8:
        return largest
    if left >= 4:
        return 4
    return 2 if left >= 2 else 1


@as_op("vnnvnvvnnnnn")
def product(a, a_row, a_step, b, is_packed, c, start, start_step, m, n, k, is_added):
    """Matrix product: c (m, n) = a (m, k) @ b (k, n) + start.

    a has strides `a_row` and `a_step`; c is in C order, and so is b, unless `pack` made
    it. Row i starts from start[i * start_step], or from its values if `is_added`.
    """
    width, vector = _tile_columns(a), _vector_columns(a)
    b_row = PART_COLUMNS if is_packed else n
    most, copy = _tile_rows(a), _own_memory(a)
    for first in range(0, k, DEPTH):
        depth = min(DEPTH, k - first)
        adds = is_added if first == 0 else 1
        i = 0
        while i < m:
            rows = _tile_size(m - i, most)
            at_a, row, step = shifted(a, i * a_row + first * a_step), a_row, a_step
            if a_row == 1 and rows == most and n > width:
                # Distant columns are read once for all tiles.
                for j in range(depth):
                    prefetch(at_a, j * a_step + 2 * most - 1)  # for the next tile
                    for r in range(most):
                        copy[j * most + r] = at_a[j * a_step + r]
                at_a, step = copy, most
            of_a = at_a, row, step
            start_values = shifted(start, i * start_step), start_step, adds
            at_b, at_c, left = shifted(b, first * b_row), shifted(c, i * n), n
            while left > 0:
                _tile(of_a, (at_b, b_row), (at_c, n), start_values, depth, rows, left)
                done = width if left >= width else vector
                left -= done
                at_b, at_c = shifted(at_b, done), shifted(at_c, done)
                if is_packed and (n - left) % PART_COLUMNS == 0:
                    at_b = shifted(at_b, PART_COLUMNS * (k - 1))
            i += rows


# ---------------------------------------------------------------------------
# Products whose result has short rows
# ---------------------------------------------------------------------------


def _write_short_tile(vectors, shape, args):
    """Write code for a tile whose sums are over the entries of vectors, too."""
    builder = vectors.builder
    a, b, c, n, k, is_added = args
    rows_of_a = [vectors.at(a, offset) for offset in multiples(builder, k, shape[0])]
    rows_of_b = [vectors.at(b, offset) for offset in multiples(builder, k, shape[1])]
    sums = [
        [cgutils.alloca_once_value(builder, vectors.zero) for _ in rows_of_b]
        for _ in rows_of_a
    ]

    def add_products(at, mask=None):
        of_b = [vectors.load(vectors.at(row, at), mask) for row in rows_of_b]
        for row, row_sums in zip(rows_of_a, sums, strict=True):
            of_a = vectors.load(vectors.at(row, at), mask)
            for b_vector, total in zip(of_b, row_sums, strict=True):
                grown = vectors.multiply_add(of_a, b_vector, builder.load(total))
                builder.store(grown, total)

    size = ir.Constant(INT64, vectors.n)
    rest = builder.srem(k, size)
    whole = builder.sub(k, rest)
    zero = ir.Constant(INT64, 0)
    with cgutils.for_range_slice(builder, zero, whole, size, inc=True) as (at, _):
        add_products(at)
    add_products(whole, vectors.mask(rest))
    for row, row_sums in zip(multiples(builder, n, shape[0]), sums, strict=True):
        for j, total in enumerate(row_sums):
            entry = vectors.at(c, row, j)
            value = vectors.sum(builder.load(total))
            before = ir.Constant(value.type, 0.0)
            is_set = _is_set(builder, is_added)
            before = builder.select(is_set, builder.load(entry), before)
            builder.store(builder.fadd(before, value), entry)


@intrinsic
def _short_tile(typingctx, a, b, c, n, k, is_added, shape):
    """Compute a tile of `short_product`, of 4 or 1 rows and 4, 2 or 1 columns."""

    def codegen(context, builder, signature, args):
        *args, shape = args
        rows, columns = cgutils.unpack_tuple(builder, shape)
        vectors = Vectors(context, builder, a.dtype, _vector(context, a.dtype))

        def write_rows(n_rows):
            def write(n_columns):
                _write_short_tile(vectors, (n_rows, n_columns), args)

            _switch(builder, columns, _SHORT_COLUMNS, write)

        _switch(builder, rows, _SHORT_ROWS, write_rows)
        return context.get_dummy_value()

    return types.void(a, b, c, n, k, is_added, shape), codegen


@as_op("vvvnnnn")
def short_product(a, b, c, m, n, k, is_added):
    """Matrix product: c (m, n) = a (m, k) @ b.T (k, n), plus c if `is_added`.

    Faster than `product` of a transposed copy while n is smaller than a vector.
    """
    i = 0
    while i < m:
        rows = 4 if m - i >= 4 else 1
        j = 0
        while j < n:
            columns = 4 if n - j >= 4 else _tile_size(n - j, 4)
            at_c = shifted(c, i * n + j)
            at_a, at_b = shifted(a, i * k), shifted(b, j * k)
            _short_tile(at_a, at_b, at_c, n, k, is_added, (rows, columns))
            j += columns
        i += rows


# ---------------------------------------------------------------------------
# Transposed copies
# ---------------------------------------------------------------------------


@intrinsic
def _transpose_square(typingctx, a, a_row, b, b_row):
    """Copy a square of `SQUARE` rows and columns, transposed."""

    def codegen(context, builder, signature, args):
        a, a_row, b, b_row = args
        vectors = Vectors(context, builder, signature.args[0].dtype, SQUARE)
        rows = vectors.load_rows(a, a_row)
        vectors.store_rows(vectors.transposed(rows), b, b_row)
        return context.get_dummy_value()

    return types.void(a, a_row, b, b_row), codegen


@as_op("vvnn")
def pack(block, packed, n_units, n_rows):
    """Copy a block's transpose for `product`: parts of (n_rows, PART_COLUMNS).

    The last part is as large as the others; its spare columns are undefined.
    """
    width = PART_COLUMNS
    whole = n_rows - n_rows % SQUARE
    for j in range(0, n_units, SQUARE):
        to = shifted(packed, (j - j % width) * n_rows + j % width)
        at = shifted(block, j * n_rows)
        n_whole = whole if n_units - j >= SQUARE else 0
        for i in range(0, n_whole, SQUARE):
            _transpose_square(shifted(at, i), n_rows, shifted(to, i * width), width)
        for r in range(min(SQUARE, n_units - j)):
            for i in range(n_whole, n_rows):
                to[i * width + r] = at[r * n_rows + i]
