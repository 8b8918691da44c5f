"""Synchronization of the threads of a team: atomic operations and a barrier."""

import sys

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from skae._compiled.compilation import inner
from skae._compiled.intrinsics import call_llvm, integers
from skae._compiled.numba_private import architecture, cgutils
from skae._compiled.records import ABANDONED, ARRIVED, BROKEN, GENERATION


@intrinsic
def atomic_add(typingctx, numbers, index, value):
    """Add `value` to numbers[index] (int64) atomically; return the previous number."""

    def codegen(context, builder, signature, args):
        pointer = builder.gep(args[0], [args[1]])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(numbers, types.intp, types.int64), codegen


@intrinsic
def atomic_load(typingctx, numbers, index):
    """Read numbers[index] (int64) and see all that its writer wrote before."""

    def codegen(context, builder, signature, args):
        pointer = builder.gep(args[0], [args[1]])
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(numbers, types.intp), codegen


@intrinsic
def _yield_processor(typingctx):
    """Let another thread run."""

    def codegen(context, builder, signature, args):
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        function_type = ir.FunctionType(ir.IntType(32), [])
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), codegen


# By architecture: LLVM's function with which a waiting thread leaves its core to the
# core's other thread, the function's argument, and how many polls take as long.
_PAUSES = {
    "x86_64": ("x86.sse2.pause", None, 20),
    "aarch64": ("aarch64.hint", 1, 1),
    "arm64": ("aarch64.hint", 1, 1),
}


@intrinsic
def _pause(typingctx):
    """Pause briefly; return how many polls, at least 1, take as long."""

    def codegen(context, builder, signature, args):
        name, hint, n_polls = _PAUSES.get(architecture(context), (None, None, 1))
        if name is not None:
            hints = [] if hint is None else [ir.Constant(ir.IntType(32), hint)]
            call_llvm(builder, name, ir.VoidType(), *hints)
        return ir.Constant(ir.IntType(64), n_polls)

    return types.int64(), codegen


# Waiting threads poll for some microseconds, because the others nearly always arrive
# within that time, then yield the processor.
_POLLS_BEFORE_YIELD = 2000


@inner
def barrier(team):
    """Wait for all threads of the team; return False if one of them died.

    A caller that ignores the result computes with meaningless numbers up to the next
    barrier that it checks. This is harmless: only the team's memory is used, and the
    run raises the error of the thread that died.
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
    """Wait for all threads; return whether none has abandoned its rows."""
    return barrier(team) and integers(team.control)[ABANDONED] == 0
