"""Files of a description and arrays, in the format of safetensors.

They are written whole or not at all. What is read is what was written, or a Problem.
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

import numpy as np


class Problem(Exception):
    """What is wrong with a file, or with what would be written."""


class NewerFile(Problem):
    """Nothing is wrong with a file, but that a later version wrote it."""


def require(condition, problem, kind=Problem):
    """Raise Problem, or one of its kinds, unless the condition holds."""
    if not condition:
        raise kind(problem)


shown = reprlib.repr  # what a file says may be long

# The description is one entry of safetensors' metadata, as they have no order, and a
# model shall always give the same bytes. It begins with the digest, of the text with
# zeros in its place and of all arrays.
_ENTRY, _DIGEST, _NO_DIGEST = "skae", "sha256", "0" * 64
# Arrays are no part of the header: a thousand layers fit. JSON, once read, may take
# fifty times the memory that it takes as text.
_MAX_HEADER = 2**18
# Of the types that arrays may have, by safetensors' names; in the order of files.
_DTYPES = {"I64": "int64", "F64": "float64", "F32": "float32", "U8": "uint8"}


def check_target(path):
    """Raise OSError or ValueError where `write` is certain to fail."""
    is_other = os.path.exists(path) and not os.path.isfile(path)
    if is_other or not os.path.basename(path):
        raise ValueError(f"{path} is no file that could be replaced: save elsewhere")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "No folder for it, make it first", path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "Its folder may not be written to", path)


def check_source(path):
    """Raise OSError or ValueError where there is no file to read."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe may take forever
        raise ValueError(f"{path} is not a file")


def write(path, description, arrays):
    """Write a dict that JSON can hold, and C-ordered arrays by name; whole or not."""
    text = json.dumps({_DIGEST: _NO_DIGEST, **description}, allow_nan=False)
    text = text.replace(_NO_DIGEST, _digest(text, arrays), 1)
    arrays = _ordered(arrays)
    header = _header(text, arrays)
    require(
        len(header) <= _MAX_HEADER,
        f"its parameters take more than {_MAX_HEADER} bytes",
    )
    length = len(header).to_bytes(8, "little")
    try:
        _replace(os.path.realpath(path), [length, header, *arrays.values()])
    except OSError as error:
        # Of the file that was asked for, not of the temporary one.
        raise OSError(error.errno, error.strerror, path) from error


def _ordered(arrays):
    """Arrays by name, as safetensors has them in a file: by type, then by name."""
    types = list(_DTYPES.values())
    key = {name: (types.index(a.dtype.name), name) for name, a in arrays.items()}
    return {name: arrays[name] for name in sorted(arrays, key=key.__getitem__)}


def _header(text, arrays):
    """The header of a file, to the byte that of safetensors.

    That would have the whole file in memory before it is written, and twice.
    """
    types = {dtype: name for name, dtype in _DTYPES.items()}
    entries, end = {"__metadata__": {_ENTRY: text}}, 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        entries[name] = {
            "dtype": types[array.dtype.name],
            "shape": array.shape,
            "data_offsets": [start, end],
        }
    header = json.dumps(entries, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % 8)


def read(path, check):
    """Description and arrays of a file.

    Before memory is taken for arrays, `check` is called with the description, and with
    the types and shapes of arrays by name: it raises Problem if they are wrong.
    """
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        n_most = min(os.fstat(file.fileno()).st_size - 8, _MAX_HEADER)
    require(n_header <= n_most, "it is damaged, or no model of skae")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_ENTRY, "")
            require(text, "it is damaged, or no model of skae")
            description = _parsed(text)
            said = description.pop(_DIGEST, None)
            require(type(said) is str, "it is damaged: it has no digest")
            names = file.keys()
            check(description, {name: _kind(file.get_slice(name)) for name in names})
            arrays = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise Problem(f"it is damaged, or no model of skae ({error})") from None
    digest = _digest(text.replace(said, _NO_DIGEST, 1), arrays)
    require(digest == said, "it is damaged: its digest is not that of its contents")
    return description, arrays


def _kind(tensor):
    """Type and shape of an array that is not read yet."""
    name = tensor.get_dtype()
    return _DTYPES.get(name, name), tuple(tensor.get_shape())


def _parsed(text):
    """An object of JSON."""

    def refuse(constant):
        raise ValueError(constant)

    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        value = None
    require(type(value) is dict, "its description is not an object of JSON")
    return value


def _digest(text, arrays):
    """Of all that a file says."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _replace(path, parts):
    """Let a file have such contents, one after the other, or leave it as it is."""
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".skae-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            # Before it has contents that others might not have been allowed to read.
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
    # So that the new name outlives a loss of power. Not all systems can, and whichever
    # file is there, it is whole.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
