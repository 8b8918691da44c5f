"""How the threads of a team wait for each other: atomic numbers and a barrier."""

import sys

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from skae._compiled.compilation import inner
from skae._compiled.intrinsics import integers
from skae._compiled.numba_private import architecture, cgutils
from skae._compiled.records import ABANDONED, ARRIVED, BROKEN, GENERATION


@intrinsic
def atomic_add(typingctx, numbers, index, value):
    """Add `value` to numbers[index] (int64) and return what was there before."""

    def codegen(context, builder, signature, args):
        pointer = builder.gep(args[0], [args[1]])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(numbers, types.intp, types.int64), codegen


@intrinsic
def atomic_load(typingctx, numbers, index):
    """Read numbers[index] (int64) after all that its writer wrote before."""

    def codegen(context, builder, signature, args):
        pointer = builder.gep(args[0], [args[1]])
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(numbers, types.intp), codegen


@intrinsic
def _yield_processor(typingctx):
    """Let another thread run (POSIX sched_yield)."""

    def codegen(context, builder, signature, args):
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        function_type = ir.FunctionType(ir.IntType(32), [])
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), codegen


# By kind of processor, LLVM's function by which a waiting thread leaves its core to the
# other thread there, the argument of it, and how many polls take as long.
_PAUSES = {
    "x86_64": ("x86.sse2.pause", None, 20),
    "aarch64": ("aarch64.hint", 1, 1),
    "arm64": ("aarch64.hint", 1, 1),
}


@intrinsic
def _pause(typingctx):
    """Wait for a moment; return how many polls, at least 1, take as long."""

    def codegen(context, builder, signature, args):
        name, hint, n_polls = _PAUSES.get(architecture(context), (None, None, 1))
        if name is not None:
            hints = [] if hint is None else [ir.Constant(ir.IntType(32), hint)]
            kind = ir.FunctionType(ir.VoidType(), [hint.type for hint in hints])
            module = builder.module
            function = cgutils.get_or_insert_function(module, kind, f"llvm.{name}")
            builder.call(function, hints)
        return ir.Constant(ir.IntType(64), n_polls)

    return types.int64(), codegen


# Waiting threads poll for some microseconds, as the other is nearly always about to
# arrive, then leave the processor to whoever needs it.
_POLLS_BEFORE_YIELD = 2000


@inner
def barrier(team):
    """Wait for all threads of the team; False when one of them died.

    Who does not look at the result computes, up to the next that is looked at, with
    numbers that mean nothing. That harms nobody: no memory but the team's is used,
    and the run raises the error of the thread that died.
    """
    if team.n_threads == 1:
        return True
    control = integers(team.control)
    generation = atomic_load(control, GENERATION)
    if atomic_add(control, ARRIVED, 1) == team.n_threads - 1:
        atomic_add(control, ARRIVED, -team.n_threads)
        atomic_add(control, GENERATION, 1)
        return atomic_load(control, BROKEN) == 0
    polls = 0
    while atomic_load(control, GENERATION) == generation:
        if atomic_load(control, BROKEN) != 0:
            return False
        polls += _pause()
        if polls > _POLLS_BEFORE_YIELD:
            _yield_processor()
    return True


@inner
def all_went_on(team):
    """Wait for all threads; whether none has given up in the middle of its rows."""
    return barrier(team) and integers(team.control)[ABANDONED] == 0
