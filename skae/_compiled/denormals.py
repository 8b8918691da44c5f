"""Denormal numbers, which kernels treat as zeros.

Derivatives of saturated units and moments of units that died become denormal. Each
arithmetic operation on one takes an Intel processor some 150 cycles.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from skae._compiled.intrinsics import call_llvm
from skae._compiled.numba_private import architecture, cgutils

_BYTE, _INT32, _INT64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
# Bits of the registers that control arithmetic. x86: results that are denormal become
# zero, operands count as zero. ARM: both.
_X86_FLUSH, _ARM_FLUSH = 1 << 15 | 1 << 6, 1 << 24


class _X86:
    """Writes code that reads and sets the register of SSE and AVX."""

    flush = _X86_FLUSH

    @staticmethod
    def read(builder):
        memory = cgutils.alloca_once(builder, _INT32)
        at = builder.bitcast(memory, _BYTE.as_pointer())
        call_llvm(builder, "x86.sse.stmxcsr", ir.VoidType(), at)
        return builder.zext(builder.load(memory), _INT64)

    @staticmethod
    def set(builder, control):
        memory = cgutils.alloca_once(builder, _INT32)
        builder.store(builder.trunc(control, _INT32), memory)
        at = builder.bitcast(memory, _BYTE.as_pointer())
        call_llvm(builder, "x86.sse.ldmxcsr", ir.VoidType(), at)


class _Arm:
    """The same for 64-bit ARM processors."""

    flush = _ARM_FLUSH

    @staticmethod
    def read(builder):
        return call_llvm(builder, "aarch64.get.fpcr", _INT64)

    @staticmethod
    def set(builder, control):
        call_llvm(builder, "aarch64.set.fpcr", ir.VoidType(), control)


# By architecture; others compute with denormal numbers.
_REGISTERS: dict[str, type[_X86 | _Arm]] = {
    "x86_64": _X86,
    "aarch64": _Arm,
    "arm64": _Arm,
}


@intrinsic
def flush_denormals(typingctx):
    """Make this thread treat denormal numbers as zeros; return what restores it."""

    def codegen(context, builder, signature, args):
        register = _REGISTERS.get(architecture(context))
        if register is None:
            return ir.Constant(_INT64, 0)
        before = register.read(builder)
        register.set(builder, builder.or_(before, ir.Constant(_INT64, register.flush)))
        return before

    return types.int64(), codegen


@intrinsic
def restore_denormals(typingctx, control):
    """Let this thread treat denormal numbers as it did before `flush_denormals`."""

    def codegen(context, builder, signature, args):
        register = _REGISTERS.get(architecture(context))
        if register is not None:
            register.set(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen
