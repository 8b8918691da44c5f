"""Vector instructions for code that LLVM does not vectorize by itself.

LLVM vectorizes a loop over an array, but neither keeps a tile of a matrix in registers
nor transposes it there. Intrinsics use `Vectors` to write such code with LLVM's vector
types, which become the instructions of the processor.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from skae._compiled.intrinsics import call_llvm
from skae._compiled.numba_private import architecture, processor

INT64 = ir.IntType(64)
_INT32 = ir.IntType(32)
# Size of the longest cache lines, or of two that are fetched together, in bytes and in
# float64. No two threads write to the same line.
LINE_BYTES, LINE_DOUBLES = 128, 16
# Rows and columns that are transposed together in registers.
SQUARE = 8

# Bytes of a vector register and number of registers: by features of x86 processors, of
# those without either, and of ARM processors.
_REGISTERS = {"+avx512f": (64, 32), "+avx": (32, 16)}
_OLDEST_REGISTERS, _ARM_REGISTERS = (16, 16), (16, 32)


def registers(context):
    """Bytes of a vector register and number of registers of the target processor."""
    features = processor(context)[2].split(",")
    for feature, size in _REGISTERS.items():
        if feature in features:
            return size
    is_x86 = architecture(context) == "x86_64"
    return _OLDEST_REGISTERS if is_x86 else _ARM_REGISTERS


@intrinsic
def use_whole_registers(typingctx):
    """Let LLVM vectorize the loops of the op that calls this with whole registers.

    For most processors with AVX-512 it would take halves, because the first of them
    then run at a lower frequency. Products have lowered it already: on a Xeon of 2023,
    epochs of small networks take 1.05 to 1.15 times as long with halves.
    """

    def codegen(context, builder, signature, args):
        n_bits = 8 * registers(context)[0]
        # llvmlite's own `add` accepts attributes without a value only.
        attributes = builder.function.attributes
        set.add(attributes, f'"prefer-vector-width"="{n_bits}"')
        return context.get_dummy_value()

    return types.void(), codegen


class Vectors:
    """Writes instructions for vectors of `n` entries of a dtype.

    Parameters
    ----------
    context, builder
        What Numba gives an intrinsic's code generator.

    dtype : numba.types.Float

    n : int
    """

    def __init__(self, context, builder, dtype, n):
        self.builder, self.n = builder, n
        self._itemsize = dtype.bitwidth // 8
        self.type = ir.VectorType(context.get_data_type(dtype), n)
        self._name = f"v{n}f{dtype.bitwidth}"
        self.zero = ir.Constant(self.type, [0.0] * n)

    def at(self, pointer, *offsets):
        """Pointer to the entry at the sum of the offsets from a pointer."""
        for offset in offsets:
            number = ir.Constant(INT64, offset) if isinstance(offset, int) else offset
            pointer = self.builder.gep(pointer, [number])
        return pointer

    def load(self, pointer, mask=None):
        """Load the entries at a pointer; those that the mask leaves out are 0."""
        pointer, align = self._aligned(pointer)
        if mask is None:
            return self.builder.load(pointer, align=self._itemsize)
        name = f"masked.load.{self._name}.p0{self._name}"
        return call_llvm(self.builder, name, self.type, pointer, align, mask, self.zero)

    def store(self, vector, pointer, mask=None):
        """Store the entries that the mask selects."""
        pointer, align = self._aligned(pointer)
        if mask is None:
            self.builder.store(vector, pointer, align=self._itemsize)
        else:
            name = f"masked.store.{self._name}.p0{self._name}"
            call_llvm(self.builder, name, ir.VoidType(), vector, pointer, align, mask)

    def _aligned(self, pointer):
        pointer = self.builder.bitcast(pointer, self.type.as_pointer())
        return pointer, ir.Constant(_INT32, self._itemsize)

    def mask(self, n):
        """Mask of the first n entries of a vector; n is an int64."""
        kind = ir.VectorType(INT64, self.n)
        places = ir.Constant(kind, list(range(self.n)))
        return self.builder.icmp_signed("<", places, self.splat(n))

    def splat(self, value):
        """Vector whose entries are one value."""
        kind = ir.VectorType(value.type, self.n)
        unknown = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(unknown, value, ir.Constant(_INT32, 0))
        return self._shuffled(first, unknown, [0] * self.n)

    def multiply_add(self, a, b, total):
        """The entries of a * b + total, by one instruction if the processor has it.

        Elsewhere `fma` would call a function of the C library for each entry.
        """
        name = f"fmuladd.{self._name}"
        return call_llvm(self.builder, name, self.type, a, b, total)

    def sum(self, vector):
        """Sum of the entries, by repeatedly adding the halves."""
        n = self.n
        while n > 1:
            n //= 2
            lower = self._shuffled(vector, vector, range(n))
            upper = self._shuffled(vector, vector, range(n, 2 * n))
            vector = self.builder.fadd(lower, upper)
        return self.builder.extract_element(vector, ir.Constant(_INT32, 0))

    def _shuffled(self, a, b, places):
        """Vector of the entries at `places` of two concatenated vectors."""
        places = list(places)
        kind = ir.VectorType(_INT32, len(places))
        return self.builder.shuffle_vector(a, b, ir.Constant(kind, places))

    def load_rows(self, pointer, step):
        """Load n vectors, `step` entries apart."""
        offsets = multiples(self.builder, step, self.n)
        return [self.load(self.at(pointer, offset)) for offset in offsets]

    def store_rows(self, vectors, pointer, step):
        """Store n vectors, `step` entries apart."""
        offsets = multiples(self.builder, step, self.n)
        for vector, offset in zip(vectors, offsets, strict=True):
            self.store(vector, self.at(pointer, offset))

    def transposed(self, vectors):
        """Transpose n vectors of n entries.

        Pairs of vectors swap their off-diagonal halves, then quarters, and so on.
        """
        vectors, width, places = list(vectors), self.n, range(self.n)
        while width > 1:
            width //= 2
            first = [j + self.n - width if j & width else j for j in places]
            second = [j + self.n if j & width else j + width for j in places]
            for i in places:
                if not i & width:
                    a, b = vectors[i], vectors[i + width]
                    vectors[i] = self._shuffled(a, b, first)
                    vectors[i + width] = self._shuffled(a, b, second)
        return vectors


def multiples(builder, number, n):
    """0, 1, ..., n - 1 times an int64."""
    return [builder.mul(number, ir.Constant(INT64, i)) for i in range(n)]
