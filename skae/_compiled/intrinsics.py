"""Operations that Python lacks: on pointers and records, and calls by address."""

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from skae._compiled.numba_private import cgutils


@intrinsic
def like(typingctx, value, example):
    """Cast `value` to the type of `example`, to keep float32 arithmetic in float32."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[0], signature.args[0], signature.args[1])

    return example(value, example), codegen


@intrinsic
def is_null(typingctx, pointer):
    """Whether a pointer is null."""

    def codegen(context, builder, signature, args):
        return cgutils.is_null(builder, args[0])

    return types.boolean(pointer), codegen


@intrinsic
def shifted(typingctx, pointer, n):
    """Pointer to the n-th entry after a pointer's."""

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.intp), codegen


def call_llvm(builder, name, result, *arguments):
    """Write a call of the intrinsic function llvm.`name`, and return its result."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}")
    return builder.call(function, arguments)


def hidden(builder, value):
    """The value of an expression, of which LLVM no longer knows how it was computed."""
    kind = ir.FunctionType(value.type, [value.type])
    # Machine code of no instructions, which has its operand as result.
    return builder.call(ir.InlineAsm(kind, "", "=r,0"), [value])


@intrinsic
def prefetch(typingctx, pointer, index):
    """Prefetch the cache line of pointer[index]."""

    def codegen(context, builder, signature, args):
        byte, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            (byte,),
            ir.FunctionType(ir.VoidType(), [byte, integer, integer, integer]),
        )
        entry = builder.bitcast(builder.gep(args[0], [args[1]]), byte)
        # For reading, into all levels of the cache, data.
        flags = [ir.Constant(integer, flag) for flag in (0, 3, 1)]
        builder.call(function, [entry, *flags])
        return context.get_dummy_value()

    return types.void(pointer, types.intp), codegen


# Addresses are unsigned and integers signed, so that they cannot be confused. Only
# `beyond` computes with addresses: their sum with an integer would be a float.
ADDRESS, NUMBER = types.uint64, types.int64


def _check_address(found):
    if types.unliteral(found) != ADDRESS:
        raise numba.TypingError(f"{found} is no address")


def _as_pointer(pointer_type):
    """Code generator that turns an address into a pointer or a record."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(pointer_type))

    return codegen


@intrinsic
def beyond(typingctx, address, n_bytes):
    """Address `n_bytes` after another."""
    _check_address(address)

    def codegen(context, builder, signature, args):
        return builder.add(args[0], args[1])

    return ADDRESS(ADDRESS, NUMBER), codegen


@intrinsic
def record(typingctx, address, dtype):
    """Record at an address, which may be changed."""
    _check_address(address)
    return dtype.dtype(ADDRESS, dtype), _as_pointer(dtype.dtype)


def _pointer_to(entry):
    """Function of an address that returns it as a pointer to entries of a type."""
    pointer_type = types.CPointer(entry)

    @intrinsic
    def pointer(typingctx, address):
        _check_address(address)
        return pointer_type(ADDRESS), _as_pointer(pointer_type)

    return pointer


integers, doubles = _pointer_to(types.int64), _pointer_to(types.float64)
addresses = _pointer_to(ADDRESS)

# Types of the arguments of C functions that are called by address, by the name of the
# record's field that holds the address.
_DECLARED: dict[str, tuple] = {}


def declare(field, taken):
    """Declare the types of the arguments of C functions whose address is in a field."""
    if _DECLARED.setdefault(field, taken) != taken:
        raise TypeError(f"{field} takes {_DECLARED[field]}, not {taken}")


def _checked_call(field, args):
    """Type of the arguments' tuple, and code generator of a call."""
    if not isinstance(field, types.StringLiteral):
        raise numba.TypingError("the name of the field has to be a constant")
    name, found = field.literal_value, tuple(map(types.unliteral, args))
    if found != _DECLARED[name]:
        raise numba.TypingError(f"{name} takes {_DECLARED[name]}, not {found}")

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
    """Call the C function whose address is in a record's field, with a tuple.

    The arguments are addresses, int64, float64, and records, which are passed by
    address. Compilation fails if they do not match the function's declaration.
    """
    taken, write = _checked_call(field, args)

    def codegen(context, builder, signature, values):
        offset = owner.offset(field.literal_value)
        at = cgutils.get_record_member(builder, values[0], offset, ir.IntType(64))
        address, args = builder.load(at), cgutils.unpack_tuple(builder, values[2])
        write(builder, address, args)
        return context.get_dummy_value()

    return types.void(owner, field, taken), codegen


@intrinsic(prefer_literal=True)
def call_at(typingctx, address, field, args):
    """Call the C function at an address that was not read from `field`, as `call`."""
    _check_address(address)
    taken, write = _checked_call(field, args)

    def codegen(context, builder, signature, values):
        write(builder, values[0], cgutils.unpack_tuple(builder, values[2]))
        return context.get_dummy_value()

    return types.void(ADDRESS, field, taken), codegen
