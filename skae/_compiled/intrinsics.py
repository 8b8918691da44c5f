"""What compiled code does that Python has no words for: pointers, records, calls."""

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from skae._compiled.numba_private import cgutils


@intrinsic
def like(typingctx, value, example):
    """`value` in the type of `example`: keeps float32 arithmetic in float32."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[0], signature.args[0], signature.args[1])

    return example(value, example), codegen


@intrinsic
def is_null(typingctx, pointer):
    """Whether a pointer that an op was given is the address 0."""

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
    """Call the op at an address with a tuple of addresses and sizes, all int64.

    Nothing checks that they are what the op takes.
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
