"""What skae uses of Numba and llvmlite beyond their public, stable interface.

Where a name is missing, or takes other arguments than it did, C functions are compiled
and cached by the public ``numba.cfunc``: the first fit of a process takes longer, and
gives the same bits.
"""

import contextlib
import gc
import hashlib
import pickle
import threading
import warnings

import llvmlite
import numba
import numpy as np
import scipy
from llvmlite import binding
from numba.core import cgutils  # in the examples of Numba's documentation

if numba.config.DISABLE_JIT:
    raise ImportError(
        "skae runs compiled code only, and NUMBA_DISABLE_JIT=1 forbids Numba to "
        "compile any: unset this variable before skae is imported"
    )

try:
    from numba.core.caching import CompileResultCacheImpl, FunctionCache
    from numba.core.ccallback import CFunc
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.runtime import rtsys
    from numba.core.serialize import dumps
except ImportError:  # of one: none is used then
    CompileResultCacheImpl = FunctionCache = object
    CFunc = rtsys = dumps = None  # type: ignore[misc, assignment]
    global_compiler_lock = threading.RLock()

__all__ = [
    "architecture",
    "c_function",
    "cache_path",
    "cgutils",
    "options_known",
    "processor",
]


def options_known(**options):
    """Those of Numba's undocumented options that it has."""
    try:
        from numba.core.registry import cpu_target

        known = cpu_target.options
    except (ImportError, AttributeError):
        return options
    return {name: value for name, value in options.items() if hasattr(known, name)}


def processor(context):
    """The system, the name and the features of the processor that code is for.

    Three strings: LLVM's triple, its name, and features such as "+avx,+fma".
    """
    try:
        system, name, features = found = tuple(context.codegen().magic_tuple())
        if all(isinstance(part, str) for part in found) and "-" in system:
            return found
    except (AttributeError, TypeError, ValueError):
        pass
    # Without what NUMBA_ENABLE_AVX=0 leaves out.
    name, features = numba.config.CPU_NAME, numba.config.CPU_FEATURES
    name = binding.get_host_cpu_name() if name is None else name
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    return binding.get_process_triple(), name, features


def architecture(context):
    """LLVM's name of the kind of processor, such as "x86_64" or "aarch64"."""
    return processor(context)[0].split("-")[0]


# What machine code depends on beside its source: formulas have coefficients that NumPy
# and SciPy compute.
_VERSIONS = tuple(m.__version__ for m in (numba, llvmlite, np, scipy))


class _Sealed(CompileResultCacheImpl):
    """Machine code as it is in files: with a digest, as what is damaged must not run.

    Numba trusts its files, which a crash may leave as they should not be, and the index
    of them, of which one of two processes that write it at once loses its entry: what
    it then leads to may be for another processor.
    """

    @property
    def filename_base(self):
        """Beginning of the files' names: not that of the files of `numba.cfunc`."""
        return f"{super().filename_base}.sealed"

    def _seal(self, contents, context):
        # With the name, so that a damaged index does not lead to another's code.
        made_for = self.filename_base, processor(context), _VERSIONS
        return hashlib.blake2b(repr(made_for).encode() + contents).digest()

    def reduce(self, cres):
        contents = dumps(super().reduce(cres))
        return self._seal(contents, cres.target_context), contents

    def rebuild(self, target_context, payload):
        seal, contents = payload
        if self._seal(contents, target_context) != seal:
            raise ValueError("damaged machine code, or another processor's")
        return super().rebuild(target_context, pickle.loads(contents))


class _Cache(FunctionCache):
    """Numba's cache on disk, which loads machine code and nothing else.

    Numba's own first registers all that it can compile, which takes longer than to
    load our code; its compiler does so itself where nothing is found here. Nor does
    it survive a file that is damaged, or a disk that is full: here, what cannot be
    read is compiled once more, and what cannot be written serves this process only.
    """

    _impl_class = _Sealed

    def load_overload(self, sig, target_context):
        rtsys.initialize(target_context)  # passes name its functions
        # What reading a damaged file raises may be anything.
        with contextlib.suppress(Exception):
            found = self._load_overload(sig, target_context)
            if found is not None and found.signature == sig:
                return found
        return None

    def save_overload(self, sig, data):
        with contextlib.suppress(OSError):
            try:
                self._save_overload(sig, data)
            except (OSError, numba.NumbaWarning):
                raise
            except Exception:  # of an index that is damaged
                self.flush()
                self._save_overload(sig, data)


@contextlib.contextmanager
def _no_garbage_collection():
    """While the compiler makes objects that stay it would be a tenth of its time."""
    with global_compiler_lock:  # so that one thread at a time switches it
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()


class _Known:
    """What this process has noticed."""

    names_serve = True  # the private ones
    has_warned = False  # that there is no cache


def _warn_without_cache():
    if _Known.has_warned:
        return
    _Known.has_warned = True
    with contextlib.suppress(UserWarning):  # as an error it would end the fit
        warnings.warn(
            "skae found no folder to keep its machine code in: every process will "
            "compile it again, which takes some seconds. Let the environment variable "
            "NUMBA_CACHE_DIR name a folder that may be written to",
            UserWarning,
            stacklevel=2,
        )


def _compiled_by_names(signature, function, options):
    """What `numba.cfunc` makes, but with our cache."""
    of_types = signature.args, signature.return_type
    made = CFunc(function, of_types, locals={}, options=options)
    try:
        made._cache = _Cache(function)  # type: ignore[attr-defined]
    except (RuntimeError, OSError, KeyError):  # what Numba raises without a place
        _warn_without_cache()
    made.compile()
    return made


def _compiled_publicly(signature, function, options):
    try:
        return numba.cfunc(signature, cache=True, **options)(function)
    except RuntimeError:
        _warn_without_cache()
    except Exception:  # of damaged files; an error of the function's comes again
        pass
    return numba.cfunc(signature, **options)(function)


def c_function(signature, function, **options):
    """A function as `numba.cfunc` compiles it, its machine code cached if it can be."""
    with _no_garbage_collection():
        if _Known.names_serve:
            try:
                return _compiled_by_names(signature, function, options)
            except (AttributeError, TypeError):  # Numba's own errors are neither
                _Known.names_serve = False
        return _compiled_publicly(signature, function, options)


def cache_path(compiled):
    """Folder of a C function's machine code, or None."""
    cache = getattr(compiled, "_cache", None)
    return getattr(cache, "cache_path", None)
