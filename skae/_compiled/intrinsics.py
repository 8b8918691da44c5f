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


# Addresses are unsigned, and sizes and other whole numbers are signed, so that one is
# not taken for the other. Nothing but `beyond` computes with addresses: their sum with
# a number would be a float.
ADDRESS, NUMBER = types.uint64, types.int64


def _check_address(found):
    if types.unliteral(found) != ADDRESS:
        raise numba.TypingError(f"{found} is no address")


def _as_pointer(pointer_type):
    """Code generator that takes an address for a pointer, or a record."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(pointer_type))

    return codegen


@intrinsic
def beyond(typingctx, address, n_bytes):
    """The address, so many bytes further."""
    _check_address(address)

    def codegen(context, builder, signature, args):
        return builder.add(args[0], args[1])

    return ADDRESS(ADDRESS, NUMBER), codegen


@intrinsic
def record(typingctx, address, dtype):
    """The record at an address, which may be changed."""
    _check_address(address)
    return dtype.dtype(ADDRESS, dtype), _as_pointer(dtype.dtype)


@intrinsic
def integers(typingctx, address):
    """Pointer to the int64s at an address."""
    _check_address(address)
    pointer = types.CPointer(types.int64)
    return pointer(ADDRESS), _as_pointer(pointer)


@intrinsic
def doubles(typingctx, address):
    """Pointer to the float64s at an address."""
    _check_address(address)
    pointer = types.CPointer(types.float64)
    return pointer(ADDRESS), _as_pointer(pointer)


@intrinsic
def addresses(typingctx, address):
    """Pointer to the addresses at an address."""
    _check_address(address)
    pointer = types.CPointer(ADDRESS)
    return pointer(ADDRESS), _as_pointer(pointer)


# ---------------------------------------------------------------------------
# Calls of C functions by address
# ---------------------------------------------------------------------------

# What the C functions take that are called by address: a type of Numba's for each
# argument, by the name of the record's field that has the address.
_DECLARED: dict[str, tuple] = {}


def declare(field, taken):
    """Note what a C function takes whose address a field of this name has."""
    if _DECLARED.setdefault(field, taken) != taken:
        raise TypeError(f"{field} takes {_DECLARED[field]}, not {taken}")


def _checked_call(field, args):
    """Signature's end and code generator of a call, of the address and a tuple."""
    found = tuple(map(types.unliteral, args))
    if found != _DECLARED[field]:
        raise numba.TypingError(f"{field} takes {_DECLARED[field]}, not {found}")

    def write(builder, address, values):
        values = [
            builder.ptrtoint(value, ir.IntType(64))
            if isinstance(kind, types.Record)
            else value
            for kind, value in zip(found, values, strict=True)
        ]
        function_type = ir.FunctionType(ir.VoidType(), [v.type for v in values])
        builder.call(builder.inttoptr(address, function_type.as_pointer()), values)

    return types.BaseTuple.from_types(found), write


@intrinsic(prefer_literal=True)
def call(typingctx, owner, field, args):
    """Call the C function whose address a record's field has with a tuple.

    The arguments are addresses, int64, float64, and records in place of their
    addresses: what does not agree with the declaration of the function is an error when
    the call is compiled.
    """
    if not isinstance(field, types.StringLiteral):
        raise numba.TypingError("the name of the field has to be a constant")
    name = field.literal_value
    taken, write = _checked_call(name, args)

    def codegen(context, builder, signature, values):
        at = cgutils.get_record_member(
            builder, values[0], owner.offset(name), ir.IntType(64)
        )
        address, args = builder.load(at), cgutils.unpack_tuple(builder, values[2])
        write(builder, address, args)
        return context.get_dummy_value()

    return types.void(owner, field, taken), codegen


@intrinsic(prefer_literal=True)
def call_at(typingctx, address, field, args):
    """The same for an address that was read from elsewhere."""
    if not isinstance(field, types.StringLiteral):
        raise numba.TypingError("the name of the field has to be a constant")
    _check_address(address)
    taken, write = _checked_call(field.literal_value, args)

    def codegen(context, builder, signature, values):
        write(builder, values[0], cgutils.unpack_tuple(builder, values[2]))
        return context.get_dummy_value()

    return types.void(ADDRESS, field, taken), codegen
