"""Cache of machine code on disk: names, checksums, and what is done without it.

If one of Numba's private names is missing or takes other arguments, C functions are
compiled and cached by the public ``numba.cfunc``: the first fit of a process then takes
longer, and gives the same bits.
"""

import contextlib
import functools
import gc
import hashlib
import pickle
import warnings
from importlib import resources

import llvmlite
import numba
import numpy as np
import scipy

from skae._compiled.numba_private import (
    CFunc,
    CompileResultCacheImpl,
    FunctionCache,
    dumps,
    global_compiler_lock,
    processor,
    rtsys,
)


@functools.cache
def digest_of_sources():
    """Digest of the sources of all modules of this folder."""
    digest = hashlib.blake2b(digest_size=6)
    # The folder may be in a zip. Without sources there is no cache on disk either.
    folder = resources.files(__package__).iterdir()
    sources = {source.name: source for source in folder if source.name.endswith(".py")}
    for name in sorted(sources):
        digest.update(name.encode() + sources[name].read_bytes())
    return digest.hexdigest()


def stamped(function):
    """Add the digest of the sources to a function's name.

    Numba's cache notices changes to the file of the function, but not to those of the
    functions that it calls: after an upgrade, users would run old code.
    """
    function.__qualname__ = f"{function.__qualname__}_{digest_of_sources()}"
    return function


# Versions that machine code depends on: NumPy and SciPy compute coefficients.
_VERSIONS = tuple(m.__version__ for m in (numba, llvmlite, np, scipy))


class _Sealed(CompileResultCacheImpl):
    """Machine code with a digest, because damaged code must not run.

    Numba trusts its files, which a crash may damage, and their index: if two processes
    write it at once, one loses its entry, which may then lead to code for another
    processor.
    """

    @property
    def filename_base(self):
        """Beginning of the files' names, different from that of `numba.cfunc`'s."""
        return f"{super().filename_base}.sealed"

    def _seal(self, contents, context):
        # The name, because a damaged index may lead to another function's code.
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
    """Numba's cache on disk, faster and tolerant of damaged files and full disks.

    Numba's own first registers all that it can compile, which takes longer than loading
    our code; its compiler does this by itself if nothing is found here. Code that
    cannot be read is compiled again, and code that cannot be written is used in this
    process only.
    """

    _impl_class = _Sealed

    def load_overload(self, sig, target_context):
        rtsys.initialize(target_context)  # ops refer to its functions
        # A damaged file may raise any error.
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
            except Exception:  # a damaged index
                self.flush()
                self._save_overload(sig, data)


@contextlib.contextmanager
def _no_garbage_collection():
    """Disable garbage collection, which would take a tenth of the compiler's time."""
    with global_compiler_lock:  # one thread at a time switches it
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()


class _Known:
    """What this process knows of its environment."""

    names_serve = True  # Numba's private names work
    has_warned = False  # about a missing cache


def _warn_without_cache():
    if _Known.has_warned:
        return
    _Known.has_warned = True
    with contextlib.suppress(UserWarning):  # an error would end the fit
        warnings.warn(
            "skae found no folder for its machine code: every process will compile it "
            "again, which takes some seconds. Set the environment variable "
            "NUMBA_CACHE_DIR to a writable folder",
            UserWarning,
            stacklevel=2,
        )


def _compiled_by_names(signature, function, options):
    """Compile as `numba.cfunc` does, with our cache, by Numba's private names."""
    of_types = signature.args, signature.return_type
    made = CFunc(function, of_types, locals={}, options=options)
    try:
        made._cache = _Cache(function)  # type: ignore[attr-defined]
    except (RuntimeError, OSError, KeyError):  # Numba found no folder
        _warn_without_cache()
    made.compile()
    return made


def _compiled_publicly(signature, function, options):
    try:
        return numba.cfunc(signature, cache=True, **options)(function)
    except RuntimeError:
        _warn_without_cache()
    except Exception:  # damaged files; an error in the function is raised again below
        pass
    return numba.cfunc(signature, **options)(function)


def c_function(signature, function, **options):
    """Compile as `numba.cfunc` does, and cache the machine code if possible."""
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
