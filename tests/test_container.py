"""The files themselves: safetensors, damage, memory, saves that fail."""

import errno
import hashlib
import json
import os
import pickle
import random
import stat

import numpy as np
import pandas as pd
import pytest
import safetensors
from safetensors.numpy import load_file
from safetensors.numpy import save as safetensors_of

from skae import AutoencoderTransformer
from skae._files import container
from skae.io import load, save

from .support.cases import data_for, make, make_data, times
from .support.files import assert_refused, assert_same, failing, posix
from .support.memory import peak_memory

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *(("default", np.float64), ("cautious", np.float32), ("lbfgs", np.float32)),
        *(("variational", np.float32), (None, None)),
    ],
)
def test_bytes_are_those_of_safetensors(name, dtype, path):
    """Of all types of arrays; and with no arrays."""
    estimator = AutoencoderTransformer(loss='"\\\x7fü\u2028\ud800')
    if name is not None:
        estimator = make(name, early_stopping=name == "default")
        X = pd.DataFrame(data_for(estimator).astype(dtype), columns=list("abcdeü"))
        estimator.fit(X)
    save(estimator, path)
    with safetensors.safe_open(path, "numpy") as opened:
        metadata = opened.metadata()
    arrays, description = load_file(path), json.loads(metadata["skae"])
    contents = path.read_bytes()
    assert contents == safetensors_of(arrays, metadata)
    save(estimator, path)
    assert path.read_bytes() == contents
    assert description["class"] == type(estimator).__name__
    assert set(description["parameters"]) == set(estimator.get_params())
    assert description["version"] == 1  # the first that can hold it
    if name is None:
        assert arrays == {}
    else:
        np.testing.assert_array_equal(arrays["params"], estimator._params, strict=True)
        assert arrays["loss_curve"].tolist() == estimator.loss_curve_


def test_paths(tmp_path, monkeypatch):
    estimator = AutoencoderTransformer(7)
    monkeypatch.chdir(tmp_path)
    long = "m" * 250
    for path in ("a", os.fsencode("b"), tmp_path / "c", "é", "./d", long):
        save(estimator, path)
        assert_same(estimator, load(path))
    for load_or_save in (load, lambda path: save(estimator, path)):
        with pytest.raises(OSError, match="nowhere"):
            load_or_save(tmp_path / "nowhere" / "a")
        with pytest.raises(TypeError):
            load_or_save(None)
        with pytest.raises(ValueError, match=r"not a file"):
            load_or_save(tmp_path)
    for no_file in ("new/", "", "."):
        with pytest.raises(ValueError, match="not a file that can be replaced"):
            save(estimator, no_file)
    with pytest.raises(ValueError, match="null byte"):
        save(estimator, "a\0b")
    # What was asked for is named, and no temporary file.
    with pytest.raises(FileNotFoundError, match="make it first: 'no/model'") as missing:
        save(estimator, "no/model")
    with pytest.raises(OSError, match=f": '{'m' * 300}'") as name_too_long:
        save(estimator, "m" * 300)
    for caught in (missing, name_too_long):
        assert ".skae-" not in str(caught.value)
    assert len(os.listdir(tmp_path)) == 6


@posix
def test_links_are_followed_and_devices_left_alone(tmp_path):
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    save(AutoencoderTransformer(2), target)
    link.symlink_to(target)
    save(AutoencoderTransformer(7), link)
    assert link.is_symlink()
    assert load(target).n_components == 7
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="not a file that can be replaced"):
        save(AutoencoderTransformer(), pipe)
    with pytest.raises(ValueError, match="not a file"):
        load(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@posix
def test_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    save(AutoencoderTransformer(), tmp_path / "model")
    modes = [(tmp_path / name).stat().st_mode for name in ("usual", "model")]
    assert modes[0] == modes[1]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_that_is_replaced_leaves_its_permissions(mode, path, monkeypatch):
    save(AutoencoderTransformer(2), path)
    path.chmod(mode)
    fsync, found = os.fsync, []

    def look(descriptor):
        found.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    save(AutoencoderTransformer(7), path)
    assert load(path).n_components == 7
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert found[0] == mode  # before it had the name


def test_incomplete_files(small_file, path):
    header = 8 + int.from_bytes(small_file[:8], "little")
    near = {*range(20), *range(header - 20, header + 20), len(small_file) - 1}
    for length in sorted(near | {*range(0, len(small_file), times(97, 1))}):
        assert_refused(path, small_file[:length], "damaged")
    for more in (b"\0", b" ", small_file):
        assert_refused(path, small_file + more, "damaged")
    assert_refused(path, b"", "save the estimator again")


def test_flipped_bits(small_file, path):
    """Of every byte, padding and header too, and of some of weights and of a list."""
    assert small_file.count(b"  ") > 0  # the padding
    rng = random.Random(0)
    key = small_file.index(b"MT19937"), small_file.index(b'\\"scale\\"')
    header = 8 + int.from_bytes(small_file[:8], "little")
    few = {*range(*key), *range(header, len(small_file))}
    for i in range(len(small_file)):
        if i in few and rng.random() > times(0.02, 1):
            continue
        for bit in range(8) if i < 8 else rng.sample(range(8), times(1, 3)):
            damaged = bytearray(small_file)
            damaged[i] ^= 1 << bit
            assert_refused(path, damaged)


def test_letters_of_the_digest_and_escapes(path):
    """Text that is the same in JSON, or as a number, is not the same text."""
    save(AutoencoderTransformer(loss="\u00fc\u00e7"), path)
    contents = path.read_bytes()
    said = json.loads(contents[8:])["__metadata__"]["skae"][12:76]
    for old, new in (
        (said, said.upper()),
        ("\\\\u00fc", "\\\\u00FC"),
        ("1e-08", "1E-08"),
    ):
        assert contents.count(old.encode()) == 1
        assert_refused(path, contents.replace(old.encode(), new.encode()), "digest")


def test_blocks_that_were_lost_or_swapped(small_file, path):
    rng = random.Random(0)
    for _ in range(times(50, 500)):
        start, stop = sorted(rng.sample(range(len(small_file) + 1), 2))
        block = small_file[start:stop]
        for other in (bytes(len(block)), block[::-1], b""):
            if other != block:
                assert_refused(path, small_file[:start] + other + small_file[stop:])


def test_other_files(path):
    rng = np.random.default_rng(0)
    for other in (
        b"{}",
        b"PK\x03\x04" + bytes(100),
        pickle.dumps(AutoencoderTransformer()),
        bytes(10_000),
        b"\xff" * 10_000,
        rng.bytes(1000),
    ):
        assert_refused(path, other, "not a skae model")


def test_weights_take_no_memory_to_save_and_their_own_to_load(path):
    estimator = AutoencoderTransformer(
        8, hidden_layer_sizes=(1000,), max_iter=1, init="random", random_state=0
    ).fit(make_data(20, 500))
    of_save = peak_memory(lambda: save(estimator, path))
    size = path.stat().st_size
    assert size > 2**25
    assert of_save < 0.1 * size
    # And as much again in older versions of safetensors, which copy each array.
    assert peak_memory(lambda: load(path)) < 1.2 * size


MEMORY_OF_PYTHON = {
    "curve": ("loss_curve_", np.arange(5e5).tolist(), 5),
    "names": ("feature_names_in_", ["a" * 2_000_000, "b"], 2),
    # Python keeps text at the width of its widest character, and widens it on the way.
    "wide": ("feature_names_in_", ["é" + "a" * 2_000_000 + "日\U0001f600", "b"], 7),
}


@pytest.mark.parametrize("name", MEMORY_OF_PYTHON)
def test_memory_of_what_becomes_numbers_and_text(name, small_file, path):
    """At most the seven times a file's size that are documented."""
    path.write_bytes(small_file)
    estimator, (attribute, value, ratio) = load(path), MEMORY_OF_PYTHON[name]
    as_names = np.array(value, dtype=object)
    setattr(estimator, attribute, value if name == "curve" else as_names)
    save(estimator, path)
    peak = peak_memory(lambda: load(path))
    assert peak < (ratio + 0.2) * path.stat().st_size
    assert getattr(load(path), attribute)[-1] == value[-1]


ERRORS = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EIO, "Input/output error"),
    KeyboardInterrupt(),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("what", ["fsync", "replace", "write", "open", "digest"])
def test_a_failed_save_changes_nothing(what, error, path, monkeypatch):
    exists = error is not ERRORS[0]
    old, new = (make("adam", n_components=n).fit(make_data()) for n in (1, 2))
    if exists:
        save(old, path)
    listed = os.listdir(path.parent)
    with monkeypatch.context() as patch:
        if what in ("fsync", "replace"):
            patch.setattr(os, what, failing(error))
        elif what == "digest":
            patch.setattr(hashlib, "sha256", failing(error))
        else:

            def fail_to_open(*args):
                if what == "open":
                    raise error
                file = open(*args)  # noqa: SIM115
                begun = file.write

                class Failing:
                    def __enter__(self):
                        return self

                    def __exit__(self, *exc_info):
                        file.close()

                    def write(self, chunk):
                        begun(bytes(chunk)[:10])
                        raise error

                return Failing()

            patch.setattr(container, "open", fail_to_open, raising=False)
        with pytest.raises(type(error)):
            save(new, path)
    assert os.listdir(path.parent) == listed
    if exists:
        assert_same(load(path), old)


def test_what_follows_the_replacement_may_fail(path, monkeypatch):
    """The file is there: that of a folder cannot be flushed is no failure."""
    fsync, calls = os.fsync, []

    def flush_files_only(descriptor):
        calls.append(descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush_files_only)
    save(AutoencoderTransformer(7), path)
    assert load(path).n_components == 7
    assert len(calls) == (2 if os.name == "posix" else 1)


def test_order_of_the_steps(path, monkeypatch):
    """Nothing takes the name before it is on the disk."""
    steps = []
    fsync, replace = os.fsync, os.replace

    def flush(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        size = None if is_folder else os.fstat(descriptor).st_size
        steps.append(("folder", None) if is_folder else ("file", size))
        fsync(descriptor)

    def rename(a, b):
        steps.append(("rename", os.stat(a).st_size))
        assert os.path.dirname(a) == os.path.dirname(b)
        replace(a, b)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    save(make("adam").fit(make_data()), path)
    size = path.stat().st_size
    expected = [("file", size), ("rename", size), ("folder", None)]
    assert steps == expected[: len(steps)]
    assert len(steps) >= 2
