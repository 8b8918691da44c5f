"""Autoencoders in files: written whole or not at all, read without pickle.

A file is in the format of safetensors: arrays, behind a header in JSON.
"""

import contextlib
import hashlib
import json
import math
import os
import reprlib
import secrets
import stat
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import sklearn

from skae import (
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
    __version__,
)
from skae._initialization import INITS
from skae._lbfgs import Memory
from skae._memory import (
    BEST_KEPT,
    BEST_LOSS,
    CYCLE_START,
    N_COUNTERS,
    N_EPOCHS,
    N_SCALARS,
    START_LOSS,
)
from skae._passes import ACTIVATIONS, LOSSES, SOLVERS

__all__ = ["TRUSTED_TYPES", "ModelFileError", "load", "save"]

_MEMBERS = {
    member.__name__: member
    for member in (AutoencoderTransformer, VariationalAutoencoderTransformer)
}

# What skops need not ask about: ``skops.io.load(file, trusted=TRUSTED_TYPES)``.
TRUSTED_TYPES = [f"{member.__module__}.{name}" for name, member in _MEMBERS.items()]


class ModelFileError(ValueError):
    """A file is none that `save` wrote: damaged, made up, or of a newer version.

    See Also
    --------
    load : Raises it.

    Examples
    --------
    >>> import tempfile
    >>> from skae.io import ModelFileError, load
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     try:
    ...         load(file.name)
    ...     except ModelFileError:
    ...         print("no model")
    no model
    """


def save(estimator, path) -> None:
    """Write an autoencoder into a file.

    The file has all that the estimator has: parameters, fitted attributes, and the
    state of its training, so that after :func:`load` results and further training are
    the same bits.

    Parameters
    ----------
    estimator : AutoencoderTransformer or VariationalAutoencoderTransformer
        Estimator, fitted or not.
    path : str or os.PathLike
        The file. One that is there already is replaced when the new one is complete.

    Raises
    ------
    OSError
        If the file cannot be written, for example as the disk is full. One that was
        there before is as it was.
    TypeError
        If the estimator is no autoencoder of skae, or a parameter is of a type that
        files do not hold.
    ValueError
        If the estimator's fitted attributes are not what a fit leaves, or `path` is
        something other than a file.

    See Also
    --------
    load : Read it.
    skae.callbacks.Checkpoint : Save while a fit goes on.

    Notes
    -----
    The contents go into a temporary file in the same folder, ``.skae-*.tmp``, which is
    flushed to the disk and then takes the name of the file. A process that is killed
    may leave that behind; any other failure removes it.

    Files are in the format of safetensors, which other programs read, too. Callbacks
    are not saved, nor are attributes that skae does not know.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> import skae.io
    >>> X = load_digits().data[:300]
    >>> autoencoder = AutoencoderTransformer(n_components=5, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skae.io.save(autoencoder, f"{folder}/digits.safetensors")
    ...     loaded = skae.io.load(f"{folder}/digits.safetensors")
    >>> bool((loaded.transform(X) == autoencoder.transform(X)).all())
    True
    """
    path = os.path.realpath(os.fsdecode(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is no file that could be replaced: save elsewhere")
    description, tensors = _described(estimator)
    try:
        if description["fitted"] is not None:
            _attributes(description, tensors)
        header = _header(description, tensors)
    except _Problem as problem:
        raise ValueError(
            f"This {type(estimator).__name__} cannot be saved: {problem}"
        ) from None
    _write_or_leave(path, [header, *tensors.values()])


def load(path) -> AutoencoderTransformer | VariationalAutoencoderTransformer:
    """Read an autoencoder from a file that :func:`save` wrote.

    Parameters
    ----------
    path : str or os.PathLike
        The file, of this version of skae or an older one.

    Returns
    -------
    estimator : AutoencoderTransformer or VariationalAutoencoderTransformer
        The estimator that was saved.

    Raises
    ------
    ModelFileError
        If the file is damaged or incomplete, of a newer version, or not one that
        :func:`save` wrote. It is a ValueError.
    OSError
        If the file cannot be read.

    See Also
    --------
    save : Write it.

    Notes
    -----
    Whatever is in the file, no code of it is run, and no more memory is taken than it
    has bytes, but for some megabytes. A digest tells if any bit has changed since it
    was written. It does not tell who has written it: parameters are validated by
    ``fit``, as always, and how long that trains is among them.

    Examples
    --------
    >>> import skae.io
    >>> autoencoder = skae.io.load("digits.safetensors")  # doctest: +SKIP
    """
    path = os.fsdecode(path)
    try:
        description, tensors = _read(path)
        return _estimator(description, tensors)
    except _Problem as problem:
        raise ModelFileError(f"{path} cannot be loaded: {problem}") from None


def can_save(estimator):
    """Whether `save` takes an estimator of this type."""
    return type(estimator) in _MEMBERS.values()


class _Problem(Exception):
    """What is wrong with a file, and the mend."""


# What a file says may be long.
_shown = reprlib.repr
_LARGEST_COUNT = 2**53


def _is_count(value):
    """Whether a value of JSON is a whole number that arrays and kernels can take."""
    return type(value) is int and 0 <= value < _LARGEST_COUNT


_SAVE_ANEW = "Restore it from a copy, or save the estimator again"


def _require(condition, problem):
    """Raise _Problem if the contents are not what `save` writes."""
    if not condition:
        raise _Problem(
            f"{problem}. It is not what skae.io.save writes of a fitted estimator"
        )


# ---------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------

# The header begins like this, in every version of the format; then come the digest, of
# all bytes of the file with zeros in its place, and the quote that ends it.
_BEGINNING = b'{"__metadata__":{"sha256":"'
_NO_DIGEST = b"0" * 64
_DIGEST_AT = len(_BEGINNING)
# Arrays are no part of it: a thousand layers fit. JSON, once read, may take fifty times
# the memory that it takes as text.
_MAX_HEADER = 2**18
_CHUNK = 2**20
# A file is read in the format that it was written in: change this together with what
# reads the older one, and add a file to tests/data.
_VERSION = 1

# safetensors' names of the types that arrays have.
_DTYPES: dict[str, np.dtype] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def _header(description, tensors):
    """The bytes of a file before its arrays."""
    table, at = {}, 0
    for name, array in tensors.items():
        end = at + array.nbytes
        table[name] = {
            "dtype": _DTYPE_NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(description, allow_nan=False)
    metadata = {"sha256": _NO_DIGEST.decode(), "skae": text}
    outer = {"__metadata__": metadata, **table}
    header = json.dumps(outer, separators=(",", ":")).encode("ascii")
    header += b" " * (-len(header) % 8)  # arrays begin at a multiple of 8
    if len(header) > _MAX_HEADER:
        raise _Problem(f"its parameters take more than {_MAX_HEADER} bytes")
    length = len(header).to_bytes(8, "little")
    digest = hashlib.sha256(length + header)
    for array in tensors.values():
        digest.update(array)
    return length + _with_digest(header, digest.hexdigest().encode())


def _with_digest(header, digest):
    return header[:_DIGEST_AT] + digest + header[_DIGEST_AT + len(digest) :]


def _write_or_leave(path, chunks):
    """Write a file, or leave what is there as it is."""
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".skae-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    # So that the new name outlives a loss of power. Not all systems can, and whichever
    # file is there, it is whole.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read(path):
    """Description and arrays of a file, whose digest is right."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise _Problem("it is not a file. Name one that skae.io.save wrote")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = file.read(8)
        n_header = int.from_bytes(length, "little")
        header = b""
        if len(length) == 8 and n_header <= min(size - 8, _MAX_HEADER):
            header = file.read(n_header)
        if not header.startswith(_BEGINNING):
            raise _Problem(
                "it is damaged, or no file that skae.io.save wrote (its header does "
                f"not begin as one). {_SAVE_ANEW}"
            )
        said = header[_DIGEST_AT:][: len(_NO_DIGEST)]
        digest = hashlib.sha256(length + _with_digest(header, _NO_DIGEST))
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        if digest.hexdigest().encode() != said:
            raise _Problem(
                "it is incomplete or damaged (its digest is not that of its contents). "
                f"{_SAVE_ANEW}"
            )
        description, table = _parsed(header)
        arrays = _planned(table, size - 8 - n_header)
        if description["fitted"] is None:
            _require(not arrays, "It has arrays without a fit")
        else:
            _check_shapes(_network(description), arrays)
        file.seek(8 + n_header)
        return description, {name: _array(file, a) for name, a in arrays.items()}


def _parsed(header):
    """What the header says: the estimator's description, and the table of arrays."""
    table = _json(header)
    metadata = table.pop("__metadata__")
    _require_keys(metadata, {"sha256": str, "skae": str}, "metadata")
    description = _json(metadata["skae"])
    version = description.get("version")
    _require(type(version) is int and version >= 1, f"Its version is {_shown(version)}")
    if version > _VERSION:
        raise _Problem(
            f"it is in version {version} of the format, and skae {__version__} reads "
            f"those up to {_VERSION}. Upgrade skae"
        )
    _require_keys(description, _DESCRIPTION, "description")
    return description, table


def _json(text):
    """An object of JSON."""

    def refuse(constant):
        raise ValueError(constant)

    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        value = None
    _require(type(value) is dict, "Its header is not an object of JSON")
    return value


class _Planned(NamedTuple):
    """An array that is yet to be read."""

    dtype: np.dtype
    shape: tuple


def _planned(table, n_bytes):
    """What the table says, if that is what follows the header: arrays without gaps."""
    arrays, at = {}, 0
    keys = {"dtype": str, "shape": list, "data_offsets": list}
    for name, entry in table.items():
        _require_keys(entry, keys, f"entry {_shown(name)}")
        dtype, shape = _DTYPES.get(entry["dtype"]), entry["shape"]
        is_array = dtype is not None and all(map(_is_count, shape))
        _require(is_array, f"The type or shape of {_shown(name)} is none of an array")
        assert dtype is not None
        end = at + math.prod(shape) * dtype.itemsize
        _require(
            entry["data_offsets"] == [at, end],
            f"The bytes of {_shown(name)} are not where its shape says",
        )
        arrays[name], at = _Planned(dtype, tuple(shape)), end
    _require(at == n_bytes, f"Of its {n_bytes} bytes arrays take {at}")
    return arrays


def _array(file, planned):
    array = np.empty(planned.shape, dtype=planned.dtype)
    if array.size:
        n_read = file.readinto(array.reshape(-1).view(np.uint8))
        if n_read != array.nbytes:
            raise _Problem(f"it became shorter while it was read. {_SAVE_ANEW}")
    return array.astype(planned.dtype.newbyteorder("="), copy=False)


# ---------------------------------------------------------------------------
# Estimators: description, arrays
# ---------------------------------------------------------------------------

_DESCRIPTION = {
    "version": int,
    "skae_version": str,
    "class": str,
    "parameters": dict,
    "output": (str, type(None)),
    "requests": dict,
    "fitted": (dict, type(None)),
}
_ARCHITECTURE = {"widths": list, "activations": list, "tied": bool, "variational": bool}
_FITTED = {"architecture": dict, "numbers": dict, "training": dict}
_NUMBERS = ("n_iter_", "scale_", "loss_", "best_loss_")
_TRAINING = {
    "solver": str,
    "loss": str,
    "init": str,
    "cut_short_of": (int, type(None)),
}
_TRAINING_NAMES = {"solver": {"lbfgs", *SOLVERS}, "loss": set(LOSSES), "init": INITS}
# Names of arrays, and of what they are: attributes and lists of numbers.
_ATTRIBUTES = {
    "params": "_params",
    "mean": "mean_",
    "offset": "_offset",
    "explained_variance": "explained_variance_",
    "explained_variance_ratio": "explained_variance_ratio_",
    "mean_activation": "mean_activation_",
}
_CURVES = {
    name: f"{name}_" for name in ("loss_curve", "validation_loss_curve", "kl_curve")
}
_STATE = ("params", "moment_1", "moment_2", "best_params", "counters", "scalars")
_NAMES = "feature_names.lengths", "feature_names.text"


def _described(estimator):
    """What a file says of an estimator, and its arrays, of the types of files."""
    kind = type(estimator)
    if not can_save(estimator):
        raise TypeError(
            f"skae.io.save takes an {' or a '.join(_MEMBERS)}, got {kind.__name__}. "
            "For anything else, as for a Pipeline around one, use skops: "
            "skops.io.dump(estimator, path), then "
            "skops.io.load(path, trusted=skae.io.TRUSTED_TYPES)"
        )
    description = {
        "version": _VERSION,
        "skae_version": __version__,
        "class": kind.__name__,
        "parameters": {
            name: _encoded(value, name)
            for name, value in estimator.get_params(deep=False).items()
        },
        "output": getattr(estimator, "_sklearn_output_config", {}).get("transform"),
        "requests": _requests(estimator),
        "fitted": None,
    }
    attributes = vars(estimator)
    if "_params" not in attributes:
        return description, {}
    training = attributes["_training_state"]
    description["fitted"] = {
        "architecture": attributes["_architecture"],
        "numbers": {name: _encoded(attributes[name], name) for name in _NUMBERS},
        "training": {name: training.get(name) for name in _TRAINING},
    }
    tensors = {
        **{
            name: attributes[attribute]
            for name, attribute in _ATTRIBUTES.items()
            if attribute in attributes
        },
        **{
            name: np.array(attributes[attribute], dtype=np.float64)
            for name, attribute in _CURVES.items()
            if attribute in attributes
        },
        "training.initial_params": training["initial_params"],
        **{f"training.{name}": training["arrays"][name] for name in _STATE},
    }
    if "selected" in training:
        tensors["training.selected"] = training["selected"]
    for name, array in training.get("memory", {}).items():
        tensors[f"memory.{name}"] = array
    if "feature_names_in_" in attributes:
        encoded = [
            str(name).encode("utf-8", "surrogatepass")
            for name in attributes["feature_names_in_"]
        ]
        lengths, text = _NAMES
        tensors[lengths] = np.array([len(name) for name in encoded], dtype=np.int64)
        tensors[text] = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    return description, {name: _as_in_files(array) for name, array in tensors.items()}


def _as_in_files(array):
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def _estimator(description, tensors):
    """The estimator that was described."""
    _require(description["class"] in _MEMBERS, "Its class is not one of skae's")
    kind = _MEMBERS[description["class"]]
    parameters = {
        name: _decoded(value) for name, value in description["parameters"].items()
    }
    unknown = sorted(set(parameters) - set(kind().get_params()))
    _require(not unknown, f"{kind.__name__} has no parameters {_shown(unknown)}")
    estimator = kind(**parameters)
    output = description["output"]
    if output is not None:
        _require(
            output in ("default", "pandas", "polars"), f"Its output is {_shown(output)}"
        )
        estimator._sklearn_output_config = {"transform": output}
    _set_requests(estimator, description["requests"])
    if description["fitted"] is not None:
        estimator.__dict__.update(_attributes(description, tensors))
    return estimator


def _require_keys(value, types, name):
    """A dict has such keys, and values of such types; no other."""
    is_such = (
        type(value) is dict
        and set(value) == set(types)
        and all(
            type(value[key]) in (kinds if isinstance(kinds, tuple) else (kinds,))
            for key, kinds in types.items()
        )
    )
    _require(is_such, f"Its {name} has other entries than {sorted(types)}")


class _Network(NamedTuple):
    """What a description says of arrays."""

    architecture: dict
    n_params: int
    n_components: int
    has_moments: bool


def _network(description):
    """The network that is described; not yet made, as that might be large."""
    fitted = description["fitted"]
    _require_keys(fitted, _FITTED, "fit")
    architecture, training = fitted["architecture"], fitted["training"]
    _require_keys(architecture, _ARCHITECTURE, "architecture")
    _require_keys(training, _TRAINING, "training")
    for key, names in _TRAINING_NAMES.items():
        _require(training[key] in names, f"Its {key} is {_shown(training[key])}")
    widths, activations = architecture["widths"], architecture["activations"]
    middle, tied = len(activations) // 2, architecture["tied"]
    is_network = (
        middle >= 1
        and len(widths) == 2 * middle + 1 == len(activations) + 1
        and all(_is_count(n) and n >= 1 for n in widths)
        and widths == widths[::-1]
        and all(type(name) is str and name in ACTIVATIONS for name in activations)
    )
    _require(is_network, "Its layers are not those of an autoencoder")
    kind = _MEMBERS.get(description["class"])
    is_variational = kind is VariationalAutoencoderTransformer
    is_of_class = architecture["variational"] == is_variational and not (
        tied and is_variational
    )
    _require(is_of_class, "Its layers are not those of its class")
    # As `_network.make_network`, in whole numbers of any size.
    shapes = list(pairwise(widths))
    if is_variational:
        shapes[middle - 1] = widths[middle - 1], 2 * widths[middle]
    n_weights = sum(a * b for a, b in (shapes[:middle] if tied else shapes))
    n_params = n_weights + sum(n_units for _, n_units in shapes)
    has_moments = training["solver"] != "lbfgs"
    return _Network(architecture, n_params, widths[middle], has_moments)


_ANY = None  # a length


def _shapes(network, dtype):
    """Types and shapes of arrays by name: those that have to be, those that may."""
    n_params, n_features = network.n_params, network.architecture["widths"][0]
    number, count, byte = np.dtype("<f8"), np.dtype("<i8"), np.dtype("u1")
    weights, features = (dtype, (n_params,)), (dtype, (n_features,))
    components, curve = (dtype, (network.n_components,)), (number, (_ANY,))
    moments = weights if network.has_moments else (dtype, (0,))
    required: dict[str, tuple] = {
        "params": weights,
        "mean": features,
        "offset": features,
        "loss_curve": curve,
        "training.initial_params": weights,
        "training.params": weights,
        "training.moment_1": moments,
        "training.moment_2": moments,
        "training.best_params": weights,
        "training.counters": (count, (N_COUNTERS,)),
        "training.scalars": (number, (N_SCALARS,)),
    }
    optional: dict[str, tuple] = {
        "validation_loss_curve": curve,
        "explained_variance": components,
        "explained_variance_ratio": components,
        "mean_activation": components,
        "training.selected": weights,
    }
    if network.architecture["variational"]:
        required["kl_curve"] = curve
    if not network.has_moments:
        optional |= {
            "memory.position": (number, (n_params,)),
            "memory.gradient": (number, (n_params,)),
            "memory.losses": (number, (2,)),
            "memory.steps": (number, (_ANY, n_params)),
            "memory.changes": (number, (_ANY, n_params)),
        }
    lengths, text = _NAMES
    optional |= {lengths: (count, (n_features,)), text: (byte, (_ANY,))}
    return required, optional


def _check_shapes(network, arrays):
    """Arrays, or those planned, are the ones that the description says."""
    params = arrays.get("params")
    is_float = params is not None and _DTYPE_NAMES.get(params.dtype) in ("F32", "F64")
    _require(is_float, "It has no weights")
    required, optional = _shapes(network, params.dtype)
    missing = sorted(set(required) - set(arrays))
    _require(not missing, f"It has no arrays {missing}")
    of_memory = {f"memory.{name}" for name in Memory._fields}
    for together in (
        {*_NAMES},
        of_memory,
        {"explained_variance", "explained_variance_ratio"},
    ):
        n_here = len(together & set(arrays))
        _require(
            n_here in (0, len(together)), f"Of {sorted(together)} some are missing"
        )
    for name, array in arrays.items():
        known = required.get(name) or optional.get(name)
        _require(known is not None, f"It has an unknown array {_shown(name)}")
        dtype, shape = known
        is_such = array.dtype == dtype and len(array.shape) == len(shape)
        is_such = is_such and all(
            expected in (_ANY, n)
            for expected, n in zip(shape, array.shape, strict=True)
        )
        _require(
            is_such,
            f"{_shown(name)} is {array.dtype} {array.shape}, not {dtype} {shape}",
        )
    if of_memory <= set(arrays):
        steps, changes = arrays["memory.steps"], arrays["memory.changes"]
        _require(
            steps.shape == changes.shape, "L-BFGS has not as many steps as changes"
        )


# Arrays that may hold infinities, as second moments of huge gradients may; or anything.
_MAY_OVERFLOW = {"training.moment_1", "training.moment_2"}
_NOT_CHECKED = {
    "training.scalars",
    *(f"memory.{name}" for name in Memory._fields if name != "position"),
}


def _attributes(description, tensors):
    """A fitted estimator's attributes by name, checked."""
    network, fitted = _network(description), description["fitted"]
    _check_shapes(network, tensors)
    for name, array in tensors.items():
        if name in _NOT_CHECKED or array.dtype.kind != "f":
            continue
        is_fine = ~np.isnan(array) if name in _MAY_OVERFLOW else np.isfinite(array)
        _require(is_fine.all(), f"{name!r} has entries that are infinite or NaN")
    counters, scalars = tensors["training.counters"], tensors["training.scalars"]
    _require(
        (counters >= 0).all()
        and (counters < _LARGEST_COUNT).all()
        and counters[CYCLE_START] <= counters[N_EPOCHS],
        "Its counters are not those of a training",
    )
    may_be_special = [BEST_LOSS, BEST_KEPT, START_LOSS]
    _require(
        np.isfinite(np.delete(scalars, may_be_special)).all(),
        "The state of its training is infinite or NaN",
    )
    numbers = _numbers(fitted["numbers"])
    training = dict(fitted["training"])
    planned = training.pop("cut_short_of")
    if planned is not None:
        _require(_is_count(planned) and planned >= 1, "It was cut short of no epochs")
        training["cut_short_of"] = planned
    training["initial_params"] = tensors["training.initial_params"]
    training["arrays"] = {name: tensors[f"training.{name}"] for name in _STATE}
    if "training.selected" in tensors:
        training["selected"] = tensors["training.selected"]
    if "memory.position" in tensors:
        training["memory"] = {
            name: tensors[f"memory.{name}"] for name in Memory._fields
        }
    architecture = network.architecture
    attributes = {
        "n_features_in_": architecture["widths"][0],
        "n_components_": network.n_components,
        "n_layers_": len(architecture["widths"]),
        **numbers,
        "_architecture": architecture,
        "_training_state": training,
    }
    for name, attribute in _ATTRIBUTES.items():
        if name in tensors:
            attributes[attribute] = tensors[name]
    for name, attribute in _CURVES.items():
        if name in tensors:
            attributes[attribute] = tensors[name].tolist()
    if _NAMES[0] in tensors:
        attributes["feature_names_in_"] = _feature_names(tensors)
    return attributes


def _numbers(encoded):
    """The fitted attributes that are numbers."""
    _require(set(encoded) == set(_NUMBERS), "Its fitted numbers have other names")
    numbers = {name: _decoded(value) for name, value in encoded.items()}
    n_iter = numbers["n_iter_"]
    are_numbers = _is_count(n_iter) and all(
        type(value) is float for name, value in numbers.items() if name != "n_iter_"
    )
    _require(are_numbers, "Its fitted numbers are of other types")
    scale = numbers["scale_"]
    _require(0 < scale < math.inf, f"Its scale is {scale}")
    return numbers


def _feature_names(tensors):
    lengths, text = (tensors[name] for name in _NAMES)
    ends = [0]
    for length in lengths.tolist():
        _require(0 <= length <= text.size, "The names of its features are too long")
        ends.append(ends[-1] + length)
    _require(ends[-1] == text.size, "The names of its features have another length")
    names = np.empty(lengths.size, dtype=object)
    try:
        for i, (start, end) in enumerate(pairwise(ends)):
            names[i] = text[start:end].tobytes().decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        _require(False, "The names of its features are no text")
    return names


# ---------------------------------------------------------------------------
# Parameters
# ---------------------------------------------------------------------------

# JSON has no tuples, infinities or types of NumPy: an object {kind: value}.
_SCALARS = {
    name: getattr(np, name)
    for name in (
        *("bool_", "str_", "float16", "float32", "float64"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
}
_SCALAR_NAMES = {kind: name for name, kind in _SCALARS.items()}
_MT19937 = {
    "key": list,
    "pos": int,
    "has_gauss": int,
    "gauss": (int, float),
}


def _encoded(value, name):
    """A parameter's value, as JSON has it."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind in (list, tuple):
        items = [_encoded(item, name) for item in value]
        return items if kind is list else {"tuple": items}
    if kind in _SCALAR_NAMES:
        return {"scalar": [_SCALAR_NAMES[kind], _encoded(value.item(), name)]}
    if kind is np.ndarray and value.dtype.type in _SCALAR_NAMES and value.ndim <= 1:
        items = _encoded(value.tolist(), name)
        return {"array": [_SCALAR_NAMES[value.dtype.type], items]}
    if kind is np.random.RandomState:
        state = value.get_state(legacy=False)
        if state["bit_generator"] == "MT19937":
            inner = state["state"]
            return {
                "RandomState": {
                    "key": inner["key"].tolist(),
                    "pos": int(inner["pos"]),
                    "has_gauss": int(state["has_gauss"]),
                    "gauss": float(state["gauss"]),
                }
            }
    raise TypeError(
        f"skae.io.save cannot write {name}={value!r}, of type {kind.__name__}: files "
        "hold numbers, text, None, tuples, lists and arrays of these, and RandomState "
        "with its default generator"
    )


def _decoded(value):
    """The parameter's value."""
    if type(value) is list:
        return [_decoded(item) for item in value]
    if type(value) is not dict:
        return value
    _require(len(value) == 1, "A parameter is of no known kind")
    ((kind, content),) = value.items()
    _require(kind in _DECODERS, f"A parameter is of the unknown kind {_shown(kind)}")
    try:
        decoded = _DECODERS[kind](content)
        is_same = _encoded(decoded, kind) == value
    except (ArithmeticError, LookupError, TypeError, ValueError):
        is_same = False
    _require(is_same, f"A parameter is no {kind}")
    return decoded


def _decoded_tuple(items):
    return tuple(_decoded(list(items)))


def _decoded_scalar(content):
    name, item = content
    # An array may lose characters at the end, and a number may not be in range.
    return np.str_(item) if name == "str_" else _decoded_array(content)[()]


def _decoded_array(content):
    name, items = content
    with np.errstate(all="ignore"):
        return np.array(_decoded(items)).astype(_SCALARS[name])


def _decoded_random_state(content):
    _require_keys(content, _MT19937, "RandomState")
    key, position = content["key"], content["pos"]
    is_state = len(key) == 624 and all(type(n) is int and 0 <= n < 2**32 for n in key)
    # NumPy would read what is beyond.
    is_state = is_state and 0 <= position <= 624 and content["has_gauss"] in (0, 1)
    _require(is_state, "A RandomState is none of MT19937")
    random_state = np.random.RandomState(0)
    random_state.set_state(
        (
            "MT19937",
            np.array(key, dtype=np.uint32),
            position,
            content["has_gauss"],
            float(content["gauss"]),
        )
    )
    return random_state


_DECODERS = {
    "float": float,
    "tuple": _decoded_tuple,
    "scalar": _decoded_scalar,
    "array": _decoded_array,
    "RandomState": _decoded_random_state,
}


# ---------------------------------------------------------------------------
# Metadata requests
# ---------------------------------------------------------------------------


def _requests(estimator):
    """What `set_fit_request` and its kin have set: by method, by argument."""
    request = vars(estimator).get("_metadata_request")
    if request is None:
        return {}
    return {
        method: dict(getattr(request, method).requests)
        for method in ("fit", "partial_fit", "score")
        if getattr(request, method).requests
    }


def _set_requests(estimator, requests):
    for method, of_method in requests.items():
        setter = f"set_{method}_request"
        _require(
            method in ("fit", "partial_fit", "score")
            and hasattr(estimator, setter)
            and type(of_method) is dict
            and all(a is None or type(a) in (bool, str) for a in of_method.values()),
            "Its requests for metadata are none",
        )
        try:
            with sklearn.config_context(enable_metadata_routing=True):
                getattr(estimator, setter)(**of_method)
        except (TypeError, ValueError):
            _require(False, "Its requests for metadata are none of its class")
