"""Files that hold a description and arrays, in the safetensors format.

They are written whole or not at all. Reading returns what was written, or raises
InvalidFile.
"""

import contextlib
import errno
import hashlib
import json
import os
import reprlib
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

Description: TypeAlias = dict[str, Any]  # what JSON can hold
Arrays: TypeAlias = dict[str, np.ndarray]
Kind: TypeAlias = tuple[str, tuple[int, ...]]  # type and shape of an array


class InvalidFile(Exception):
    """A file, or what is to be written, is not valid; says why."""


class NewerFile(InvalidFile):
    """A later version wrote the file."""


def require(
    condition: object, problem: str, kind: type[InvalidFile] = InvalidFile
) -> None:
    """Raise InvalidFile, or a subclass, unless the condition holds."""
    if not condition:
        raise kind(problem)


shown = reprlib.repr  # what a file says may be long

# The description is one entry of safetensors' metadata, because entries have no order,
# and a model must always give the same bytes. It begins with the digest of all arrays
# and of the description itself, with zeros in the digest's place.
_ENTRY, _DIGEST, _NO_DIGEST = "skae", "sha256", "0" * 64
_NO_MODEL = "it is damaged, or not a skae model"
# The header has no array values: a thousand layers fit. JSON may take fifty times as
# much memory once it is parsed.
_MAX_HEADER = 2**18
# Array types by their names in safetensors, in the order that files have them.
_DTYPES = {"I64": "int64", "F64": "float64", "F32": "float32", "U8": "uint8"}


def check_target(path: str) -> None:
    """Raise OSError or ValueError if `write` would certainly fail."""
    is_other = os.path.exists(path) and not os.path.isfile(path)
    if is_other or not os.path.basename(path):
        raise ValueError(f"{path} is not a file that can be replaced: save elsewhere")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "No such folder, make it first", path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "Its folder is not writable", path)


def check_source(path: str) -> None:
    """Raise OSError or ValueError if there is no file to read."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe may block
        raise ValueError(f"{path} is not a file")


def write(path: str, description: Description, arrays: Arrays) -> None:
    """Write a description and C-ordered arrays, whole or not at all."""
    text = json.dumps({_DIGEST: _NO_DIGEST, **description}, allow_nan=False)
    text = text.replace(_NO_DIGEST, _digest(text, arrays), 1)
    arrays = _ordered(arrays)
    header = _header(text, arrays)
    require(
        len(header) <= _MAX_HEADER,
        f"its parameters take more than {_MAX_HEADER} bytes",
    )
    length = len(header).to_bytes(8, "little")
    contents: list[bytes | memoryview] = [length, header]
    contents += [array.data for array in arrays.values()]
    try:
        _write_atomically(os.path.realpath(path), contents)
    except OSError as error:
        # Names the file that was asked for, not the temporary one.
        raise OSError(error.errno, error.strerror, path) from error


def _ordered(arrays: Arrays) -> Arrays:
    """Sort arrays as safetensors does in a file: by type, then by name."""
    types = list(_DTYPES.values())
    key = {name: (types.index(a.dtype.name), name) for name, a in arrays.items()}
    return {name: arrays[name] for name in sorted(arrays, key=key.__getitem__)}


def _header(text: str, arrays: Arrays) -> bytes:
    """The header of a file, byte for byte as safetensors writes it.

    safetensors would hold the whole file in memory, twice, before writing it.
    """
    types = {dtype: name for name, dtype in _DTYPES.items()}
    entries: dict[str, Any] = {"__metadata__": {_ENTRY: text}}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        entries[name] = {
            "dtype": types[array.dtype.name],
            "shape": array.shape,
            "data_offsets": [start, end],
        }
    header = json.dumps(entries, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % 8)


def read(
    path: str, check: Callable[[Description, dict[str, Kind]], None]
) -> tuple[Description, Arrays]:
    """Description and arrays of a file.

    Before memory is allocated for arrays, `check` is called with the description and
    the type and shape of each array: it raises InvalidFile if they are wrong.
    """
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        n_most = min(os.fstat(file.fileno()).st_size - 8, _MAX_HEADER)
    require(n_header <= n_most, _NO_MODEL)
    try:
        with safe_open(path, framework="numpy") as tensors:
            text = (tensors.metadata() or {}).get(_ENTRY, "")
            require(text, _NO_MODEL)
            description = _parsed(text)
            said = description.pop(_DIGEST, None)
            require(type(said) is str, "it is damaged: it has no digest")
            names = tensors.keys()
            kinds = {name: _kind(tensors.get_slice(name)) for name in names}
            check(description, kinds)
            arrays = {name: tensors.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise InvalidFile(f"{_NO_MODEL} ({error})") from None
    digest = _digest(text.replace(said, _NO_DIGEST, 1), arrays)
    require(digest == said, "it is damaged: its digest does not match its contents")
    return description, arrays


def _kind(tensor: Any) -> Kind:
    """Type and shape of an array that has not been read yet."""
    name = tensor.get_dtype()
    return _DTYPES.get(name, name), tuple(tensor.get_shape())


def _parsed(text: str) -> Description:
    """Parse a JSON object."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        value = None
    if type(value) is not dict:
        raise InvalidFile("its description is not a JSON object")
    return value


def _digest(text: str, arrays: Arrays) -> str:
    """Digest of everything in a file."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _write_atomically(path: str, parts: Iterable[bytes | memoryview]) -> None:
    """Write parts, one after the other, as a file's new contents, or change nothing."""
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".skae-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            # Before it has contents that others may not be allowed to read.
            with contextlib.suppress(OSError):
                shutil.copymode(path, temporary)
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.chmod(temporary, stat.S_IWRITE)  # else Windows keeps it
            os.unlink(temporary)
        raise
    # So that the new name survives a power failure. Not every system can do this, and
    # either file is whole.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
