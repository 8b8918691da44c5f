"""Matrix products that skip zeros.

Images, counts and one-hot columns are mostly zeros, and products with the data are up
to two fifths of a network's work. Sums have the same terms in the same order as in
`products.product`, where zeros change nothing: the bits are the same.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from skae._compiled.compilation import as_op, formula
from skae._compiled.intrinsics import like, prefetch, shifted
from skae._compiled.numba_private import cgutils
from skae._compiled.products import DEPTH, PART_COLUMNS
from skae._compiled.vectors import INT64, SQUARE, Vectors, multiples

# Entries that are compared with 0 at a time: the bits of an integer.
_WORD = 64
# Bytes of a row of the result that are computed together: with more, the sums leave the
# L1 cache; with fewer, finding entries takes longer than multiplying.
_STRIP_BYTES = 256
# Size of a cache line, and how far ahead rows of weights, which are distant, are
# prefetched.
_LINE_BYTES, _LINE_ENTRIES, _ROWS_AHEAD = 64, 16, 16


def _for_each_nonzero(vectors, x, n, write):
    """Write code that visits nonzero entries: write(entry, position)."""
    builder = vectors.builder
    zero, one = ir.Constant(INT64, 0), ir.Constant(INT64, 1)
    never_zero = ir.Constant(ir.IntType(1), 1)

    def write_word(first, mask=None):
        entries = vectors.load(vectors.at(x, first), mask)
        differs = builder.fcmp_unordered("!=", entries, vectors.zero)
        bits = cgutils.alloca_once_value(builder, builder.bitcast(differs, INT64))
        names = "more", "entry", "end"
        more, entry, end = map(builder.append_basic_block, names)
        builder.branch(more)
        builder.position_at_end(more)
        left = builder.load(bits)
        builder.cbranch(builder.icmp_unsigned("!=", left, zero), entry, end)
        builder.position_at_end(entry)
        builder.store(builder.and_(left, builder.sub(left, one)), bits)
        position = builder.add(first, builder.cttz(left, never_zero))
        write(builder.load(vectors.at(x, position)), position)
        builder.branch(more)
        builder.position_at_end(end)

    size = ir.Constant(INT64, _WORD)
    rest = builder.srem(n, size)
    whole = builder.sub(n, rest)
    with cgutils.for_range_slice(builder, zero, whole, size, inc=True) as (first, _):
        write_word(first)
    with builder.if_then(builder.icmp_signed("!=", rest, zero)):
        ones = builder.lshr(ir.Constant(INT64, -1), builder.sub(size, rest))
        flags = ir.VectorType(ir.IntType(1), _WORD)
        write_word(whole, builder.bitcast(ones, flags))


def _strip_parts(dtype):
    """Number of parts, of PART_COLUMNS columns, of a strip."""
    return _STRIP_BYTES * 8 // dtype.bitwidth // PART_COLUMNS


@intrinsic
def _strip_columns(typingctx, pointer):
    """Number of columns of a strip."""

    def codegen(context, builder, signature, args):
        return ir.Constant(INT64, _strip_parts(pointer.dtype) * PART_COLUMNS)

    return types.intp(pointer), codegen


def _write_strip(parts, dtype, n_columns, write):
    """Write code for a whole strip or a part: write(n_parts, mask)."""
    builder, n_parts = parts.builder, _strip_parts(dtype)
    whole = ir.Constant(INT64, n_parts * PART_COLUMNS)
    with builder.if_else(builder.icmp_signed(">=", n_columns, whole)) as (full, edge):
        with full:
            write(n_parts, None)
        with edge:
            write(1, parts.mask(n_columns))


@intrinsic
def _own_memory(typingctx, pointer):
    """Memory on the stack for `_WORD` rows of a strip."""

    def codegen(context, builder, signature, args):
        entry = context.get_data_type(pointer.dtype)
        n_columns = _strip_parts(pointer.dtype) * PART_COLUMNS
        memory = cgutils.alloca_once(builder, entry, size=_WORD * n_columns)
        memory.align = _LINE_BYTES  # vectors that cross lines take twice as long
        return memory

    return pointer(pointer), codegen


@intrinsic
def _add_products(typingctx, x, w, c, n, n_columns):
    """Add x (n,) times the row w (n_columns,) to the strip c."""

    def codegen(context, builder, signature, args):
        x, w, c, n, n_columns = args
        dtype = signature.args[0].dtype
        words = Vectors(context, builder, dtype, _WORD)
        parts = Vectors(context, builder, dtype, PART_COLUMNS)
        width = ir.Constant(INT64, _strip_parts(dtype) * PART_COLUMNS)

        def write(n_parts, mask):
            starts = [part * PART_COLUMNS for part in range(n_parts)]
            of_w = [parts.load(parts.at(w, start), mask) for start in starts]

            def add(entry, position):
                factor, row = parts.splat(entry), builder.mul(position, width)
                for start, vector in zip(starts, of_w, strict=True):
                    at = parts.at(c, start, row)
                    grown = parts.multiply_add(factor, vector, parts.load(at))
                    parts.store(grown, at)

            _for_each_nonzero(words, x, n, add)

        _write_strip(parts, dtype, n_columns, write)
        return context.get_dummy_value()

    return types.void(x, w, c, n, n_columns), codegen


@intrinsic
def _sum_products(typingctx, x, b, c, k, n_columns, is_added):
    """Write x (k,) times b, parts of (k, PART_COLUMNS), to the row c (n_columns,)."""

    def codegen(context, builder, signature, args):
        x, b, c, k, n_columns, is_added = args
        dtype = signature.args[0].dtype
        words = Vectors(context, builder, dtype, _WORD)
        parts = Vectors(context, builder, dtype, PART_COLUMNS)
        width = ir.Constant(INT64, PART_COLUMNS)

        def write(n_parts, mask):
            starts = multiples(builder, builder.mul(k, width), n_parts)
            sums = [cgutils.alloca_once_value(builder, parts.zero) for _ in starts]

            def add(entry, position):
                factor, row = parts.splat(entry), builder.mul(position, width)
                for start, total in zip(starts, sums, strict=True):
                    vector = parts.load(parts.at(b, start, row))
                    grown = parts.multiply_add(factor, vector, builder.load(total))
                    builder.store(grown, total)

            _for_each_nonzero(words, x, k, add)
            is_set = builder.icmp_signed("!=", is_added, ir.Constant(INT64, 0))
            for part, total in enumerate(sums):
                at = parts.at(c, part * PART_COLUMNS)
                with builder.if_then(is_set):
                    before = parts.load(at, mask)
                    builder.store(builder.fadd(before, builder.load(total)), total)
                parts.store(builder.load(total), at, mask)

        _write_strip(parts, dtype, n_columns, write)
        return context.get_dummy_value()

    return types.void(x, b, c, k, n_columns, is_added), codegen


@intrinsic
def _add_square(typingctx, sums, width, start, c, n, is_added):
    """Write a square of a strip, transposed, plus start values, to c (row step n)."""

    def codegen(context, builder, signature, args):
        sums, width, start, c, n, is_added = args
        vectors = Vectors(context, builder, signature.args[0].dtype, SQUARE)
        rows = vectors.load_rows(sums, width)
        is_set = builder.icmp_signed("!=", is_added, ir.Constant(INT64, 0))
        offsets = multiples(builder, n, SQUARE)
        for j, row in enumerate(vectors.transposed(rows)):
            at = vectors.at(c, offsets[j])
            first = vectors.splat(builder.load(vectors.at(start, j)))
            before = builder.select(is_set, vectors.load(at), first)
            vectors.store(builder.fadd(before, row), at)
        return context.get_dummy_value()

    return types.void(sums, width, start, c, n, is_added), codegen


@formula
def _add_strip(sums, shape, start, c, n, is_added):
    """Write a strip's columns, transposed, plus start values, to c (row step n).

    `shape` is the strip's width, and the numbers of columns and rows in use.
    """
    width, n_columns, n_rows = shape
    for column in range(0, n_columns, SQUARE):
        at, to = shifted(sums, column), shifted(c, column * n)
        first = shifted(start, column)
        whole = n_rows - n_rows % SQUARE if n_columns - column >= SQUARE else 0
        for i in range(0, whole, SQUARE):
            square = shifted(at, i * width)
            _add_square(square, width, first, shifted(to, i), n, is_added)
        for j in range(min(SQUARE, n_columns - column)):
            for i in range(whole, n_rows):
                before = to[j * n + i] if is_added else first[j]
                to[j * n + i] = before + at[i * width + j]


@as_op("vvvvnnn")
def dense_sparse_product(a, b, start, c, m, n, k):
    """Matrix product: c (m, n) = a.T (m, k) @ b (k, n) + start (m,), b mostly zeros."""
    width, sums = _strip_columns(a), _own_memory(a)
    column = 0
    while column < m:
        left = m - column
        columns = width if left >= width else min(left, PART_COLUMNS)
        of_start = shifted(start, column)
        for i in range(0, n, _WORD):
            n_rows = min(_WORD, n - i)
            to = shifted(c, column * n + i)
            for first in range(0, k, DEPTH):
                for place in range(_WORD * width):
                    sums[place] = like(0.0, a[0])
                for j in range(first, min(k, first + DEPTH)):
                    row = shifted(a, j * m + column)
                    for line in range(0, columns, _LINE_ENTRIES):
                        prefetch(row, _ROWS_AHEAD * m + line)
                    _add_products(shifted(b, j * n + i), row, sums, n_rows, left)
                is_added = 1 if first > 0 else 0
                shape = width, columns, n_rows
                _add_strip(sums, shape, of_start, to, n, is_added)
        column += columns


@as_op("vvvnnnn")
def sparse_dense_product(a, packed, c, m, n, k, is_added):
    """Matrix product: c (m, n) = a (m, k) @ b (k, n), plus c if `is_added`.

    a is mostly zeros, `packed` is b packed by `pack`, and k is at most DEPTH.
    """
    width = _strip_columns(a)
    column = 0
    while column < n:
        left = n - column
        part = shifted(packed, column * k)
        for i in range(m):
            to = shifted(c, i * n + column)
            _sum_products(shifted(a, i * k), part, to, k, left, is_added)
        column += width if left >= width else PART_COLUMNS
