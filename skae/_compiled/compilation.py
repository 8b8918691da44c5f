"""How code is compiled: options, C functions, loops that are made for a formula.

There are two kinds of compiled code:

* C functions, each compiled when its address is first needed: *ops*, loops over
  contiguous memory, and *kernels*, which hold the control flow. Kernels call ops and
  each other by address, and see memory as addresses and records, so that one
  compilation serves both dtypes;
* *formulas* and *inner* functions, which ops and kernels call directly. They are
  compiled again with each of their callers.

A fit compiles only the C functions that it uses, each of them once.
"""

import abc
import ctypes
import types as types_of_python
from collections.abc import Callable

import numba
import numpy as np
from numba import types

from skae._compiled.cache import c_function, cache_path, stamped
from skae._compiled.intrinsics import ADDRESS, NUMBER, declare
from skae._compiled.numba_private import options_known

if numba.config.DISABLE_JIT:
    raise ImportError(
        "skae needs compiled code, which NUMBA_DISABLE_JIT=1 disables: unset this "
        "environment variable before importing skae"
    )

# A product and a sum may become one instruction.
EXACT = {"contract"}
# For sums, in any order. No flag may assume NaN or inf away, because a diverged loss
# has to be detected.
REDUCTION = {"nsz", "arcp", "contract", "afn", "reassoc"}

# error_model="numpy": checks for division by zero would prevent vectorization.
_OPTIONS = {"error_model": "numpy", "fastmath": EXACT}
# Kernels have no arrays: no references are counted.
_KERNEL_OPTIONS = _OPTIONS | options_known(_nrt=False)

# A formula of one number. LLVM does not vectorize a loop that calls a function, and
# would consider these too long to inline.
formula = numba.njit(**options_known(forceinline=True), **_OPTIONS)
# A piece of a kernel that is compiled by itself because several places call it.
inner = numba.njit(**_KERNEL_OPTIONS)
# A piece that is not compiled by itself, which halves the compilation time of kernels.
inlined = numba.njit(inline="always", **_KERNEL_OPTIONS)


_MADE: dict = {}  # C functions by their stamped names


def c_functions():
    """All C functions of the modules that have been imported."""
    return list(_MADE.values())


def _made_under(name):
    if name not in _MADE:
        raise ValueError(
            f"there is no compiled function {name}: processes that work together need "
            "the same version of skae"
        )
    return _MADE[name]


class CFunction(abc.ABC):
    """A C function: an op or a kernel.

    Parameters
    ----------
    function : callable

    returns : numba type, default=types.void

    **options
        Numba's, in addition to those of all C functions.
    """

    def __init__(self, function, returns=types.void, **options):
        self.function = stamped(function)
        name = self.function.__qualname__
        # Numba tells namesakes apart by a count that differs between processes.
        if name in _MADE:
            raise ValueError(f"there already is a compiled function {name}")
        _MADE[name] = self
        self.returns, self.options = returns, _OPTIONS | options
        self._compiled = {}

    def __reduce__(self):
        """Pickle the name: the other process has machine code of its own."""
        return _made_under, (self.function.__qualname__,)

    @abc.abstractmethod
    def _depends_on(self, dtype):
        """The dtype itself, or a stand-in where one compilation serves all."""

    @abc.abstractmethod
    def _argument_types(self, dtype):
        """Types of the arguments for a dtype."""

    def compiled(self, dtype=np.float64):
        """The C function for a dtype: Numba's object."""
        dtype = self._depends_on(np.dtype(dtype))
        if dtype not in self._compiled:
            signature = self.returns(*self._argument_types(dtype))
            compiled = c_function(signature, self.function, **self.options)
            # Of two threads' results the first stays, as its address may be in use.
            self._compiled.setdefault(dtype, compiled)
        return self._compiled[dtype]

    def address(self, dtype=np.float64):
        """Address of the machine code for a dtype."""
        return self.compiled(dtype).address

    @property
    def cache_path(self) -> str | None:
        """Folder of the machine code, or None."""
        return cache_path(self.compiled())


# By the letters of `Op`: dtypes of arrays, and types of numbers.
_ENTRIES = {"d": np.float64, "i": np.int64, "c": np.int32}
_NUMBERS = {"n": types.intp, "f": types.float64}


def _is_readable(array, letter):
    """Whether a loop over contiguous memory can read an array."""
    dtype = _ENTRIES.get(letter, array.dtype)
    return array.flags.c_contiguous and array.flags.aligned and array.dtype == dtype


class Op(CFunction):
    """A loop over contiguous memory.

    Parameters
    ----------
    function : callable
        Takes pointers and numbers.

    arguments : str
        A letter for each argument: "v" for a pointer to values of the dtype, "d" to
        float64, "i" to int64, "c" to int32; "n" for an int64, a size; "f" for a
        float64.

    **options
        Numba's, in addition to those of all ops.
    """

    def __init__(self, function, arguments, **options):
        super().__init__(function, **options)
        self.arguments = arguments
        # Types of the arguments that kernels call it with.
        self.taken = tuple(_NUMBERS.get(letter, ADDRESS) for letter in arguments)

    def _depends_on(self, dtype):
        return dtype if "v" in self.arguments else np.dtype(np.float64)

    def _argument_types(self, dtype):
        kinds = _NUMBERS | {
            letter: types.CPointer(numba.from_dtype(np.dtype(entry)))
            for letter, entry in {**_ENTRIES, "v": dtype}.items()
        }
        return [kinds[letter] for letter in self.arguments]

    def __call__(self, *arguments):
        """Run on arrays, which set the dtype, and numbers; empty arrays are null.

        Releases the GIL. Raises ValueError if the loop cannot read an array's dtype or
        layout.
        """
        pairs = list(zip(arguments, self.arguments, strict=True))
        dtypes = {array.dtype for array, letter in pairs if letter == "v"}
        for array, letter in pairs:
            is_array = letter not in _NUMBERS
            if is_array and array.size and not _is_readable(array, letter):
                raise ValueError(
                    f"{self.function.__name__} cannot read an array of {array.dtype} "
                    f"with strides {array.strides} as {letter!r}"
                )
        function = self.compiled(*dtypes).ctypes
        pointers = [
            argument
            if letter in _NUMBERS
            else ctypes.cast(argument.ctypes.data * bool(argument.size), kind)
            for (argument, letter), kind in zip(pairs, function.argtypes, strict=True)
        ]
        return function(*pointers)


class Kernel(CFunction):
    """A C function that holds control flow; one compilation serves all dtypes.

    Parameters
    ----------
    function : callable
        Takes addresses and numbers.

    arguments : sequence of {dtype, numpy.ndarray, int, float}
        What each argument is: the address of a record or an array, or a number.

    returns : numba type
    """

    def __init__(self, function, arguments, returns):
        super().__init__(function, returns, **_KERNEL_OPTIONS)
        self.arguments = arguments
        if returns is types.void:  # so that other kernels can call it
            declare(function.__name__, tuple(map(_taken, arguments)))

    def _depends_on(self, dtype):
        return np.dtype(np.float64)

    def _argument_types(self, dtype):
        return [_PLAIN.get(kind, ADDRESS) for kind in self.arguments]

    def check(self, values):
        """Raise TypeError if the values do not match the arguments before the rank."""
        kinds = [_kind_of(value) for value in values]
        if kinds != list(self.arguments[:-1]):
            raise TypeError(
                f"{self.function.__name__} takes {self.arguments[:-1]}, not {kinds}"
            )

    def __call__(self, *arguments):
        """Run on addresses and numbers. Releases the GIL."""
        return self.compiled().ctypes(*arguments)


_PLAIN = {int: NUMBER, float: types.float64}


def _taken(kind):
    """Type of an argument when another kernel passes it."""
    if isinstance(kind, np.dtype):
        return numba.from_dtype(kind)
    return _PLAIN.get(kind, ADDRESS)


def _kind_of(value):
    """Kind of a value, as in `Kernel`: records are arrays without dimensions."""
    if isinstance(value, np.ndarray):
        return np.ndarray if value.dtype.names is None else value.dtype
    return float if isinstance(value, float) else int


def as_op(arguments: str, fastmath=EXACT) -> Callable[..., Op]:
    """Decorate a function that is a loop over contiguous memory."""
    return lambda function: Op(function, arguments, fastmath=fastmath)


def as_kernel(*arguments, returns=types.void) -> Callable[..., Kernel]:
    """Decorate a kernel, with the kinds of its arguments as in `Kernel`."""
    return lambda function: Kernel(function, arguments, returns)


def made_for(function, loop):
    """Copy a loop that calls `function` by the global name `_function`.

    Numba's cache never finds closures over compiled functions. Each copy has a name of
    its own: Numba tells namesakes apart by a count that starts again in every process,
    so that code cached by two processes would call each other's loops.
    """
    names = loop.__globals__ | {"_function": function}
    made = types_of_python.FunctionType(loop.__code__, names, loop.__name__)
    made.__qualname__ = f"{loop.__name__}_of_{function.__name__.lstrip('_')}"
    return made
