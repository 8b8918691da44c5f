"""The machine code that is kept on disk: its name, its seal, what is done without it.

Where a private name of Numba's is missing, or takes other arguments than it did, C
functions are compiled and cached by the public ``numba.cfunc``: the first fit of a
process takes longer, and gives the same bits.
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
    """Digest of the sources of all compiled code: all modules of this folder."""
    digest = hashlib.blake2b(digest_size=6)
    # From wherever Python imports it, such as a zip. Without sources there is no cache
    # on disk either.
    folder = resources.files(__package__).iterdir()
    sources = {source.name: source for source in folder if source.name.endswith(".py")}
    for name in sorted(sources):
        digest.update(name.encode() + sources[name].read_bytes())
    return digest.hexdigest()


def stamped(function):
    """Give a function the name under which its machine code is cached.

    Numba stamps cached code with the file of the function alone, not with those of
    what it calls: after an edit there, users would run old code. The digest in the
    name sees to that.
    """
    function.__qualname__ = f"{function.__qualname__}_{digest_of_sources()}"
    return function


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
        rtsys.initialize(target_context)  # ops name its functions
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
