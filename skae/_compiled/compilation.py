"""How code is compiled: options, cached machine code, calls through addresses.

Compiled code is of two kinds:

* C functions, each compiled by itself when its address is first asked for: *passes*,
  loops over contiguous memory, and *kernels*, which hold the control flow. Kernels call
  passes, and each other, through addresses that they are given. The memory that passes
  work on is addresses to kernels, too, and what else they are given are the addresses
  of records, so that one compilation serves both dtypes;
* *formulas* and *inner* functions, which passes and kernels call directly.

A fit so compiles only what it uses, and each C function once: Numba optimises what a
function calls directly anew in each of its callers.
"""

import ctypes
import functools
import hashlib
import types as types_of_python
from importlib import resources

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from skae._compiled.numba_private import c_function, cache_path, cgutils, options_known

# A product and a sum may become one instruction; nothing else may change.
EXACT = {"contract"}
# For sums, in any order. No flag that assumes NaN or inf away: a diverged loss has to
# be seen.
REDUCTION = {"nsz", "arcp", "contract", "afn", "reassoc"}

# error_model="numpy": the zero check of a division would stop vectorisation.
_OPTIONS = {"error_model": "numpy", "fastmath": EXACT}
# Kernels have no arrays: no references are counted.
_KERNEL_OPTIONS = _OPTIONS | options_known(_nrt=False)

# A formula of one number. LLVM does not vectorise a loop that calls a function, and
# would deem these too long to inline.
formula = numba.njit(**options_known(forceinline=True), **_OPTIONS)
# A piece of a kernel that is compiled by itself, as it is called from several places.
inner = numba.njit(**_KERNEL_OPTIONS)
# One that is not, which makes the compilation of kernels shorter by half.
inlined = numba.njit(inline="always", **_KERNEL_OPTIONS)


@functools.cache
def _digest():
    """Digest of the sources of all compiled code: all modules of this folder."""
    digest = hashlib.blake2b(digest_size=6)
    # From wherever Python imports it, such as a zip. Without sources there is no cache
    # on disk either.
    folder = resources.files(__package__).iterdir()
    sources = {source.name: source for source in folder if source.name.endswith(".py")}
    for name in sorted(sources):
        digest.update(name.encode() + sources[name].read_bytes())
    return digest.hexdigest()


def _stamped(function):
    """Give a function the name under which its machine code is cached.

    Numba stamps cached code with the file of the function alone, not with those of
    what it calls: after an edit there, users would run old code. The digest in the
    name sees to that.
    """
    function.__qualname__ = f"{function.__qualname__}_{_digest()}"
    return function


_MADE: dict = {}  # C functions by their stamped names


def c_functions():
    """All C functions of the modules that have been imported."""
    return list(_MADE.values())


def _made_under(name):
    if name not in _MADE:
        raise ValueError(
            f"There is no compiled function {name} here: processes that work together "
            "need the same version of skae"
        )
    return _MADE[name]


# Entries of arrays, by the letters of `CFunction`.
_ENTRIES = {"d": np.float64, "i": np.int64, "c": np.int32}


def _is_readable(array, letter):
    """Whether a loop that knows no strides reads an array as it is."""
    dtype = _ENTRIES.get(letter, array.dtype)
    return array.flags.c_contiguous and array.flags.aligned and array.dtype == dtype


class CFunction:
    """A C function: a loop over contiguous memory, or a kernel.

    Parameters
    ----------
    function : callable
        Takes pointers and numbers.

    arguments : str
        A letter an argument: "v" for a pointer to values of the dtype, "d" to
        float64, "i" to int64, "c" to int32; "n" for an int64, a size or an address;
        "f" for a float64.

    returns : numba type, default=void

    **options
        Numba's, other than those of all passes.
    """

    def __init__(self, function, arguments, returns=types.void, **options):
        self.function, self.arguments = _stamped(function), arguments
        name = self.function.__qualname__
        # Numba, too, tells namesakes apart by a count that differs between processes.
        if name in _MADE:
            raise ValueError(f"there already is a compiled function {name}")
        _MADE[name] = self
        self.returns, self.options = returns, _OPTIONS | options
        self._compiled = {}

    def __reduce__(self):
        """Pickle the name: the machine code is the other process' own."""
        return _made_under, (self.function.__qualname__,)

    def compiled(self, dtype=np.float64):
        """The C function for a dtype: Numba's object."""
        dtype = np.dtype(dtype if "v" in self.arguments else np.float64)
        if dtype not in self._compiled:
            kinds = {
                "v": types.CPointer(numba.from_dtype(dtype)),
                "d": types.CPointer(types.float64),
                "i": types.CPointer(types.int64),
                "c": types.CPointer(types.int32),
                "n": types.intp,
                "f": types.float64,
            }
            signature = self.returns(*[kinds[letter] for letter in self.arguments])
            compiled = c_function(signature, self.function, **self.options)
            # Of two threads' results the first stays, as its address may be in use.
            self._compiled.setdefault(dtype, compiled)
        return self._compiled[dtype]

    def address(self, dtype=np.float64):
        """Where the machine code for a dtype begins."""
        return self.compiled(dtype).address

    @property
    def cache_path(self):
        """Folder of the machine code, or None."""
        return cache_path(self.compiled())

    def __call__(self, *arguments):
        """Run on arrays, empty ones as null, and numbers; takes the dtype from them.

        Other threads of Python run meanwhile. Arrays of another dtype or layout than
        the loop reads are a ValueError.
        """
        pairs = list(zip(arguments, self.arguments, strict=True))
        dtypes = {array.dtype for array, letter in pairs if letter == "v"}
        for array, letter in pairs:
            if letter not in "nf" and array.size and not _is_readable(array, letter):
                raise ValueError(
                    f"{self.function.__name__} cannot read an array of {array.dtype} "
                    f"with strides {array.strides} as {letter!r}"
                )
        function = self.compiled(*dtypes).ctypes
        pointers = [
            argument
            if letter in "nf"
            else ctypes.cast(argument.ctypes.data * bool(argument.size), kind)
            for (argument, letter), kind in zip(pairs, function.argtypes, strict=True)
        ]
        return function(*pointers)


def as_pass(arguments, fastmath=EXACT):
    """Decorate a function that is a loop over contiguous memory."""
    return lambda function: CFunction(function, arguments, fastmath=fastmath)


def as_kernel(arguments, returns=types.void):
    """Decorate a function that takes addresses, of records and of what passes take."""
    return lambda function: CFunction(function, arguments, returns, **_KERNEL_OPTIONS)


def made_for(function, loop):
    """Make a loop for a function, which it calls by the global name `_function`.

    Closures over compiled functions are never found in Numba's cache. The name is its
    own: Numba tells namesakes apart by a count that begins anew in every process, so
    that what two processes have cached would call each other's loops.
    """
    names = loop.__globals__ | {"_function": function}
    made = types_of_python.FunctionType(loop.__code__, names, loop.__name__)
    made.__qualname__ = f"{loop.__name__}_of{function.__name__}"
    return made


@intrinsic
def like(typingctx, value, example):
    """`value` in the type of `example`: keeps float32 arithmetic in float32."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[0], signature.args[0], signature.args[1])

    return example(value, example), codegen


@intrinsic
def is_null(typingctx, pointer):
    """Whether a pointer that a pass was given is the address 0."""

    def codegen(context, builder, signature, args):
        return cgutils.is_null(builder, args[0])

    return types.boolean(pointer), codegen


@intrinsic
def shifted(typingctx, pointer, n):
    """The pointer, n entries further."""

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.intp), codegen


@intrinsic
def prefetch(typingctx, pointer, index):
    """Ask for the cache line of pointer[index]."""

    def codegen(context, builder, signature, args):
        byte, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            (byte,),
            ir.FunctionType(ir.VoidType(), [byte, integer, integer, integer]),
        )
        entry = builder.bitcast(builder.gep(args[0], [args[1]]), byte)
        # For reading, to all levels of the cache, data.
        flags = [ir.Constant(integer, flag) for flag in (0, 3, 1)]
        builder.call(function, [entry, *flags])
        return context.get_dummy_value()

    return types.void(pointer, types.intp), codegen


def _as_pointer(pointer_type):
    """Code generator that takes an address for a pointer, or a record."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(pointer_type))

    return codegen


@intrinsic
def record(typingctx, address, dtype):
    """The record at an address, which may be changed."""
    return dtype.dtype(types.int64, dtype), _as_pointer(dtype.dtype)


@intrinsic
def integers(typingctx, address):
    """Pointer to the int64s at an address."""
    pointer = types.CPointer(types.int64)
    return pointer(types.int64), _as_pointer(pointer)


@intrinsic
def doubles(typingctx, address):
    """Pointer to the float64s at an address."""
    pointer = types.CPointer(types.float64)
    return pointer(types.int64), _as_pointer(pointer)


@intrinsic
def address_of(typingctx, record):
    """Where a record begins."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(args[0], ir.IntType(64))

    return types.int64(record), codegen


@intrinsic
def call(typingctx, address, args):
    """Call the pass at an address with a tuple of addresses and sizes, all int64.

    Nothing checks that they are what the pass takes.
    """
    if any(not isinstance(arg, types.Integer) or arg.bitwidth != 64 for arg in args):
        raise numba.TypingError(f"addresses and sizes have to be int64, not {args}")

    def codegen(context, builder, signature, values):
        arguments = cgutils.unpack_tuple(builder, values[1])
        function_type = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
        function = builder.inttoptr(values[0], function_type.as_pointer())
        builder.call(function, arguments)
        return context.get_dummy_value()

    return types.void(address, args), codegen
