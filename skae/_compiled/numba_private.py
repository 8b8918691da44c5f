"""What skae uses of Numba and llvmlite beyond their public, stable interface.

No other module imports such names. If one is missing, `cache` does without all of them.
"""

import threading

import numba
from llvmlite import binding
from numba.core import cgutils  # used in Numba's documentation

try:
    from numba.core.caching import CompileResultCacheImpl, FunctionCache
    from numba.core.ccallback import CFunc
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.runtime import rtsys
    from numba.core.serialize import dumps
except ImportError:  # if one is missing, none is used
    CompileResultCacheImpl = FunctionCache = object
    CFunc = rtsys = dumps = None  # type: ignore[misc, assignment]
    global_compiler_lock = threading.RLock()

__all__ = [
    "CFunc",
    "CompileResultCacheImpl",
    "FunctionCache",
    "architecture",
    "cgutils",
    "dumps",
    "global_compiler_lock",
    "options_known",
    "processor",
    "rtsys",
]


def options_known(**options):
    """Those of the options, which are undocumented, that Numba has."""
    try:
        from numba.core.registry import cpu_target

        known = cpu_target.options
    except (ImportError, AttributeError):
        return options
    return {name: value for name, value in options.items() if hasattr(known, name)}


def processor(context):
    """System, name and features of the processor that code is compiled for.

    Three strings: LLVM's triple, its name, and features such as "+avx,+fma".
    """
    try:
        system, name, features = found = tuple(context.codegen().magic_tuple())
        if all(isinstance(part, str) for part in found) and "-" in system:
            return found
    except (AttributeError, TypeError, ValueError):
        pass
    # Numba's configuration first: NUMBA_ENABLE_AVX=0 leaves out features.
    name, features = numba.config.CPU_NAME, numba.config.CPU_FEATURES
    name = binding.get_host_cpu_name() if name is None else name
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    return binding.get_process_triple(), name, features


def architecture(context):
    """LLVM's name of the architecture, such as "x86_64" or "aarch64"."""
    return processor(context)[0].split("-")[0]
