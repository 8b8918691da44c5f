"""What the rows of several kinds of estimators share: numbers, names, distributions."""

import math
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np

from skae._data.gaussian import Gaussian
from skae._files.container import Arrays, Kind, require, shown
from skae._runtime.extras import check_installed

# ---------------------------------------------------------------------------
# Types and shapes of arrays
# ---------------------------------------------------------------------------

ANY = None  # matches any length
DTYPES = ("float32", "float64")  # of data
Expected: TypeAlias = tuple[str, tuple[int | None, ...]]  # a `Kind`

_LARGEST_COUNT = 2**53


def is_count(value: Any, least: int = 0) -> bool:
    """Whether a JSON value is an integer in the range of arrays and kernels."""
    return type(value) is int and least <= value < _LARGEST_COUNT


def is_like(kind: Kind | None, expected: Expected | None) -> bool:
    """Whether an array has the type and shape that are expected."""
    if kind is None or expected is None:
        return False
    (dtype, shape), (expected_dtype, lengths) = kind, expected
    return (dtype, len(shape)) == (expected_dtype, len(lengths)) and all(
        length in (ANY, n) for length, n in zip(lengths, shape, strict=True)
    )


def require_finite(arrays: Arrays, except_for: frozenset[str] = frozenset()) -> None:
    """Raise InvalidFile if an array has entries that are infinite or NaN."""
    for name, array in arrays.items():
        if name not in except_for and array.dtype.kind == "f":
            is_fine = np.isfinite(array).all()
            require(is_fine, f"{name!r} has entries that are infinite or NaN")


# ---------------------------------------------------------------------------
# Names of features, and other values
# ---------------------------------------------------------------------------

_FEATURE_NAMES = "feature_names"  # begins the names of arrays
# Types of values beside text, as numbers in files, and what makes them of text.
_OF_TEXT: tuple[tuple[type, Callable[[memoryview], Any]], ...] = (
    (str, lambda text: str(text, "utf-8", "surrogatepass")),
    (bytes, bytes),
    (bool, lambda text: {b"True": True, b"False": False}[bytes(text)]),
    (int, lambda text: int(bytes(text))),
    (float, lambda text: float(bytes(text))),
    (type(None), lambda text: {b"None": None}[bytes(text)]),
)
_TYPES = [kind for kind, _ in _OF_TEXT]


def _arrays_of_texts(texts: list[bytes], of: str) -> Arrays:
    """Arrays that hold texts."""
    return {
        f"{of}.lengths": np.array([len(text) for text in texts], dtype=np.int64),
        f"{of}.text": np.frombuffer(b"".join(texts), dtype=np.uint8),
    }


def _expected_texts(n: int | None, of: str) -> dict[str, Expected]:
    """Types and shapes of the arrays of n texts."""
    return {f"{of}.lengths": ("int64", (n,)), f"{of}.text": ("uint8", (ANY,))}


def _texts_of_arrays(arrays: Arrays, of: str, what: str) -> Iterator[memoryview]:
    """Texts, one after the other; InvalidFile, which says what they are, if wrong."""
    lengths, text = arrays[f"{of}.lengths"], arrays[f"{of}.text"]
    require(
        (lengths >= 0).all()
        and (lengths <= text.size).all()
        and lengths.sum() == text.size,
        f"{what} have wrong lengths",
    )
    # Not as lists of Python's numbers, which take more memory than short texts.
    pairs = zip(np.cumsum(lengths), lengths, strict=True)
    return (text.data[stop - length : stop] for stop, length in pairs)


def arrays_of_names(names: np.ndarray) -> Arrays:
    """Arrays that hold `feature_names_in_`."""
    texts = [str(name).encode("utf-8", "surrogatepass") for name in names]
    return _arrays_of_texts(texts, _FEATURE_NAMES)


def expected_names(n_features: int) -> dict[str, Expected]:
    """Types and shapes of the arrays of names."""
    return _expected_texts(n_features, _FEATURE_NAMES)


def names_of_arrays(arrays: Arrays) -> dict[str, np.ndarray]:
    """The attribute `feature_names_in_`, if there is one, by its name."""
    if f"{_FEATURE_NAMES}.text" not in arrays:
        return {}
    texts = _texts_of_arrays(arrays, _FEATURE_NAMES, "the names of its features")
    names = [str(text, "utf-8", "surrogatepass") for text in texts]
    return {"feature_names_in_": np.array(names, dtype=object)}


def arrays_of_values(values: list[Any], of: str) -> Arrays:
    """Arrays that hold text, numbers, booleans and None.

    Raises TypeError for values of other types.
    """
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    for value in plain:
        if type(value) not in _TYPES:
            raise TypeError(
                f"skae.io.save cannot write {value!r}, of type {type(value).__name__}: "
                "names of columns and categories in files are text, bytes, numbers or "
                "booleans. Convert them before fit"
            )
    texts = [
        v if isinstance(v, bytes) else str(v).encode("utf-8", "surrogatepass")
        for v in plain
    ]
    kinds = np.array([_TYPES.index(type(value)) for value in plain], dtype=np.uint8)
    return {f"{of}.kinds": kinds, **_arrays_of_texts(texts, of)}


def expected_values(n: int | None, of: str) -> dict[str, Expected]:
    """Types and shapes of the arrays of n values."""
    return {f"{of}.kinds": ("uint8", (n,)), **_expected_texts(n, of)}


def values_of_arrays(arrays: Arrays, of: str) -> list[Any]:
    """The values that arrays hold."""
    kinds = arrays[f"{of}.kinds"]
    require((kinds < len(_TYPES)).all(), f"{of!r} has values of unknown types")
    texts = _texts_of_arrays(arrays, of, f"the values {of!r}")
    pairs = zip(kinds, texts, strict=True)
    return [_OF_TEXT[kind][1](text) for kind, text in pairs]


# ---------------------------------------------------------------------------
# Normal distributions, such as that which fills missing entries
# ---------------------------------------------------------------------------

_MISSING = "missing"  # begins the names of arrays


def arrays_of_gaussian(gaussian: Mapping[str, Any], of: str = _MISSING) -> Arrays:
    """Arrays that hold a distribution, which is a dict of its fields."""
    return {
        f"{of}.{field}": np.atleast_1d(np.ascontiguousarray(gaussian[field]))
        for field in Gaussian._fields
    }


def expected_gaussian(n_features: int, of: str = _MISSING) -> dict[str, Expected]:
    """Types and shapes of the arrays of a distribution."""
    return {
        f"{of}.mean": ("float64", (n_features,)),
        f"{of}.loadings": ("float64", (n_features, ANY)),
        f"{of}.noise": ("float64", (1,)),
    }


def gaussian_of_arrays(arrays: Arrays, of: str = _MISSING) -> dict[str, Any] | None:
    """A distribution as a dict of its fields; None if there is none."""
    if f"{of}.noise" not in arrays:
        return None
    found: dict[str, Any] = {k: arrays[f"{of}.{k}"] for k in Gaussian._fields}
    found["noise"] = float(found["noise"][0])
    require(found["noise"] > 0, "the variance of its noise is not positive")
    return found


# ---------------------------------------------------------------------------
# Values of JSON
# ---------------------------------------------------------------------------


def encoded(value: Any, name: str) -> Any:
    """Encode a value for JSON: types that it lacks as {kind: value}.

    `name` is that of the parameter, or the attribute, for errors.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind in (list, tuple):
        items = [encoded(item, name) for item in value]
        return items if kind is list else {"tuple": items}
    if kind is dict:
        return {"dict": [encoded(list(item), name) for item in value.items()]}
    if kind is bytes:
        return {"bytes": value.decode("latin-1")}
    if (
        kind is np.random.RandomState
        and value.get_state(legacy=False)["bit_generator"] == "MT19937"
    ):
        generator, key, *rest = value.get_state()
        return {"RandomState": [generator, key.tolist(), *rest]}
    if kind.__module__.partition(".")[0] == "pandas" and kind.__name__ == "NAType":
        return {"pandas.NA": None}
    raise TypeError(
        f"skae.io.save cannot write {name}={value!r}, of type {kind.__name__}: files "
        "hold numbers, text, bytes, None, tuples, lists, arrays and dicts of these, "
        "pandas.NA, RandomState with its default generator, and estimators of skae"
    )


def decoded(value: Any) -> Any:
    """Decode a value."""
    if type(value) is list:
        return [decoded(item) for item in value]
    if type(value) is not dict:
        return value
    ((kind, content),) = value.items()
    if kind == "float":
        return float(content)
    if kind == "tuple":
        return tuple(map(decoded, content))
    if kind == "dict":
        return {decoded(key): decoded(of_key) for key, of_key in content}
    if kind == "bytes":
        return content.encode("latin-1")
    if kind == "pandas.NA":
        check_installed("skae.io.load", "pandas")
        return import_module("pandas").NA
    require(kind == "RandomState", f"a parameter has the unknown kind {shown(kind)}")
    random_state = np.random.RandomState(0)
    random_state.set_state(tuple(content))
    position = random_state.get_state(legacy=False)["state"]["pos"]
    # NumPy would read beyond the key.
    require(0 <= position <= 624, "a RandomState is out of range")
    return random_state
