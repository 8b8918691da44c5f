"""Files of estimators: what is read is what was written, or an error."""

import contextlib
import errno
import hashlib
import json
import os
import pickle
import random
import re
import signal
import stat
import subprocess
import sys
import threading
import tracemalloc
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import safetensors
import sklearn
from safetensors.numpy import load_file
from safetensors.numpy import save as safetensors_of
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer
from skae._compiled.passes import ACTIVATIONS
from skae._compiled.records import CYCLE_START
from skae._files import container
from skae._files.descriptions import VERSION
from skae.io import TRUSTED_TYPES, ModelFileError, load, save

from .cases import (
    ALL_CASES,
    RESTARTS,
    SCHEDULES,
    STOCHASTIC,
    data_for,
    make,
    make_data,
    names_of,
    times,
)
from .make_model_files import FOLDER, models

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DTYPES = (np.float64, np.float32)
MEMBERS = AutoencoderTransformer, VariationalAutoencoderTransformer
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


# -- comparing -------------------------------------------------------------------------


def assert_same_value(a, b, name):
    """Equal in type, and bit for bit, whatever they are made of."""
    assert type(a) is type(b), name
    if isinstance(a, dict):
        assert a.keys() == b.keys(), name
        for key in a:
            assert_same_value(a[key], b[key], f"{name}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), name
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same_value(x, y, f"{name}[{i}]")
    elif isinstance(a, np.ndarray) and a.dtype != object:
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert a.tobytes() == b.tobytes(), name
        assert b.flags.c_contiguous, name
        assert b.flags.writeable, name
    elif isinstance(a, np.ndarray):
        assert_same_value(a.tolist(), b.tolist(), name)
    elif isinstance(a, np.random.RandomState):
        assert_same_value(a.get_state(legacy=False), b.get_state(legacy=False), name)
    elif isinstance(a, float):
        assert float.hex(a) == float.hex(b), name
    elif isinstance(a, np.generic):
        assert a.tobytes() == b.tobytes(), name
    else:
        assert str(a) == str(b), name


def contents(estimator, passing=()):
    """All of an estimator but callbacks, and counters of a passing meaning."""
    state = estimator.__getstate__()
    found = {k: v for k, v in state.items() if not k.startswith("_skl_")}
    if "_training_state" in found:
        found["_training_state"] = state = dict(found["_training_state"])
        state["arrays"] = dict(state["arrays"])
        state["arrays"]["counters"] = counters = state["arrays"]["counters"].copy()
        counters[list(passing)] = 0
    return found


def assert_same(a, b, **how):
    assert type(a) is type(b)
    assert_same_value(contents(a, **how), contents(b, **how), type(a).__name__)


def assert_same_but_for_the_fits(once, twice):
    """Of one fit, and of two."""
    twice.n_iter_, twice.max_iter = once.n_iter_, once.max_iter
    twice.max_iter_ = once.max_iter_
    assert_same(once, twice, passing=(CYCLE_START,))


def through_file(estimator, path):
    save(estimator, path)
    return load(path)


# -- round trips -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_and_training_goes_on(name, dtype, path):
    estimator = make(name, max_iter=6, tol=1e-12, warm_start=True)
    X = data_for(estimator).astype(dtype)
    estimator.fit(X)
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    code = estimator.transform(X)
    assert_same_value(code, loaded.transform(X), "code")
    assert_same_value(
        estimator.inverse_transform(code), loaded.inverse_transform(code), "X"
    )
    assert loaded.score(X) == estimator.score(X)
    # Not through the file again: the whole of two fits.
    assert_same(estimator.fit(X), loaded.fit(X))


@pytest.mark.parametrize(
    "name", names_of(lambda p: p["learning_rate"] != RESTARTS and not p.get("pretrain"))
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_k_epochs_a_file_and_k_epochs_are_2k(name, dtype, path):
    estimator = make(name, max_iter=6, tol=1e-12, warm_start=True)
    X = data_for(estimator).astype(dtype)
    once = clone(estimator).set_params(max_iter=12).fit(X)
    twice = through_file(estimator.fit(X), path).fit(X)
    assert (once.n_iter_, twice.n_iter_) == (12, 6)
    assert_same_but_for_the_fits(once, twice)


def make_scheduled(solver, learning_rate, early_stopping, **params):
    """One of the solvers and schedules, whose fits run for all their epochs."""
    # With this tol the adaptive schedule lowers its rate within the first seven.
    stopping = {"tol": 0.05, "n_iter_no_change": 2}
    if learning_rate != "adaptive" or early_stopping:
        stopping = {"tol": 0, "n_iter_no_change": 20}
    return make(
        "minibatch",
        solver=solver,
        learning_rate=learning_rate,
        early_stopping=early_stopping,
        decay=0.01,
        **stopping,
        **params,
    )


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("learning_rate", [s for s in SCHEDULES if s != RESTARTS])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_k_and_k_of_every_solver_and_schedule(
    solver, learning_rate, early_stopping, path
):
    estimator = make_scheduled(
        solver, learning_rate, early_stopping, max_iter=7, warm_start=True
    )
    X = make_data()
    once = clone(estimator).set_params(max_iter=14).fit(X)
    twice = through_file(estimator.fit(X), path).fit(X)
    assert_same_but_for_the_fits(once, twice)


@pytest.mark.parametrize("name", ["default", "adam", "variational"])
def test_partial_fit_goes_on(name, path):
    X = make_data()
    estimator = make(name).partial_fit(X)
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    assert_same(estimator.partial_fit(X), loaded.partial_fit(X))


@pytest.mark.parametrize("member", MEMBERS)
def test_unfitted(member, path):
    estimator = member(3, hidden_layer_sizes=(7,))
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        check_is_fitted(loaded)


PARAMETERS = {
    "n_components": [3, np.int64(3), np.uint8(3), True],
    "hidden_layer_sizes": [
        *("auto", np.str_("auto"), (), [], (8, 5), [8, 5], 7, np.int32(7)),
        *(np.array([8, 5]), np.array([8, 5], dtype=np.uint16), [(8,), [5]]),
        np.array(8),
    ],
    "activation": ["relu", ("elu", "gelu"), ["elu"], np.array(["elu", "gelu"])],
    "alpha": [0.0, -0.0, 1, 1 / 3, 1e-320, np.float32(0.1), np.float64(0.1)],
    "tol": [np.inf, -np.inf, np.nan, np.float32("inf"), np.float64("nan"), 2**70],
    "scale": [None, "auto", 2.5, np.float16(0.3)],
    "early_stopping": ["auto", True, np.bool_(True), np.bool_(False)],
    "random_state": [None, 0, np.int64(5), 2**32 - 1],
    "verbose": [False, 3],
    "loss": ["nonsense", "", "\0\ud800ü\u2028"],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in PARAMETERS.items() for value in values],
    ids=repr,
)
def test_parameters(name, value, path):
    """Those that are not valid, too: it is fit that says so."""
    estimator = AutoencoderTransformer().set_params(**{name: value})
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    expected = AutoencoderTransformer().set_params(**{name: value})
    assert_same(expected, through_file(estimator, path))


def test_numbers_of_numpy_within_others(path):
    estimator = AutoencoderTransformer(hidden_layer_sizes=(np.int64(8), [np.uint8(5)]))
    loaded = through_file(estimator, path)
    assert_same_value(loaded.hidden_layer_sizes, (8, [5]), "hidden_layer_sizes")


def test_parameters_are_validated_by_fit(path):
    loaded = through_file(AutoencoderTransformer(alpha=-1.0), path)
    with pytest.raises(ValueError, match="'alpha' parameter"):
        loaded.fit(make_data())


@pytest.mark.parametrize("n_drawn", [0, 1, 2, 623, 624])
def test_random_state_goes_on(n_drawn, path):
    random_state = np.random.RandomState(5)
    random_state.standard_normal(n_drawn)  # an odd number leaves one behind
    estimator = make("minibatch", random_state=random_state)
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    X = make_data()
    assert_same(estimator.fit(X), loaded.fit(X))
    assert_same(estimator, loaded)
    assert random_state.random() == loaded.random_state.random()


FEATURE_NAMES = [
    list("abcdef"),
    ["", "ü", "日本語", "a\0b", "\ud800", "x" * 5000],
    ["1", "1.0", "None", '"', "\\", "\n"],
]


@pytest.mark.parametrize("names", FEATURE_NAMES, ids=["plain", "text", "quotes"])
def test_feature_names(names, path):
    X = pd.DataFrame(make_data(), columns=pd.Index(names, dtype=object))
    estimator = make("adam", warm_start=True).fit(X)
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    assert loaded.feature_names_in_.dtype == object
    assert_same(estimator.fit(X), loaded.fit(X))
    with pytest.raises(ValueError, match=r"feature names|surrogates"):
        loaded.transform(X[names[::-1]])


@pytest.mark.parametrize("transform", ["pandas", "polars", "default"])
def test_output(transform, path):
    X = make_data()
    estimator = make("adam").fit(X).set_output(transform=transform)
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    assert type(loaded.transform(X)) is type(estimator.transform(X))


def test_metadata_requests(path):
    estimator = make("adam")
    with sklearn.config_context(enable_metadata_routing=True):
        estimator.set_fit_request(sample_weight=True, X_val="validation")
        estimator.set_score_request(sample_weight=False)
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    routing = loaded.get_metadata_routing()
    assert routing.fit.requests == {
        "sample_weight": True,
        "X_val": "validation",
        "groups": None,
    }
    assert routing.score.requests == {"sample_weight": False}


def test_weights_and_validation_data(path):
    X, X_val = make_data(), make_data(seed=1)
    weights = np.random.default_rng(0).uniform(0, 2, len(X))
    estimator = make("adam", warm_start=True, early_stopping=True)
    estimator.fit(X, sample_weight=weights, X_val=X_val)
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    for model in (estimator, loaded):
        model.fit(X, sample_weight=weights, X_val=X_val)
    assert_same(estimator, loaded)


def test_what_joblib_has_mapped_into_memory(tmp_path, path):
    estimator = make("adam").fit(make_data())
    joblib.dump(estimator, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert_same(estimator, through_file(mapped, path))


def test_another_solver_then_a_file(path):
    X = make_data()
    estimator = make("lbfgs", warm_start=True).fit(X)
    estimator.set_params(solver="adam")
    # What a file says of the state is what that is of, not the parameter.
    loaded = through_file(estimator, path)
    assert_same(estimator, loaded)
    assert_same(estimator.fit(X), loaded.fit(X))


def test_a_loaded_estimator_can_be_cloned_pickled_and_saved_again(tmp_path, path):
    estimator = make("cautious").fit(make_data())
    loaded = through_file(estimator, path)
    assert clone(loaded).get_params() == estimator.get_params()
    assert_same(pickle.loads(pickle.dumps(loaded)), estimator)
    save(loaded, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


# -- what cannot be saved --------------------------------------------------------------


class Own(AutoencoderTransformer):
    """Somebody's."""


def test_only_autoencoders_are_saved(path):
    pipeline = make_pipeline(StandardScaler(), AutoencoderTransformer())
    for other in (PCA(), Own(), AutoencoderTransformer, None, {}):
        with pytest.raises(TypeError, match="takes an AutoencoderTransformer or a Var"):
            save(other, path)
    with pytest.raises(TypeError, match=r"got Pipeline.*trusted=skae.io.TRUSTED_TYPES"):
        save(pipeline, path)
    with pytest.raises(
        TypeError, match=r"got Own.*trusted=\[\*skae.io.TRUSTED_TYPES, "
    ):
        save(Own(), path)
    assert os.listdir(path.parent) == []


def test_swapped_arguments(path):
    for swapped in (path, str(path), os.fsencode(path)):
        with pytest.raises(TypeError, match=r"are save\(estimator, path\)$"):
            save(swapped, AutoencoderTransformer())


def test_of_dask_the_local_one_is_saved(path):
    pytest.importorskip("distributed")
    from skae.dask import DaskAutoencoderTransformer

    estimator = DaskAutoencoderTransformer(3, n_local_steps=2)
    with pytest.raises(TypeError, match=r"Save estimator\.to_local\(\)"):
        save(estimator, path)
    assert os.listdir(path.parent) == []
    assert_same(AutoencoderTransformer(3), through_file(estimator.to_local(), path))


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1},
        {1, 2},
        1j,
        b"text",
        np.float64,
        print,
        pd.Series([8, 5]),
        np.array([8, None, print], dtype=object),
        np.longdouble(1),
        (8, object()),
        np.random.default_rng(0),
        np.random.RandomState(np.random.PCG64(0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_parameters_that_files_do_not_hold(value, path):
    estimator = AutoencoderTransformer(hidden_layer_sizes=value)
    with pytest.raises(TypeError, match="cannot write hidden_layer_sizes="):
        save(estimator, path)
    assert os.listdir(path.parent) == []


def test_broken_estimators_are_not_saved(path):
    estimator = make("adam").fit(make_data())
    save(estimator, path)
    before = path.read_bytes()
    estimator._params[3] = np.nan
    with pytest.raises(ValueError, match="cannot be saved: 'params' has entries"):
        save(estimator, path)
    with pytest.raises(ValueError, match="parameters take more than"):
        save(AutoencoderTransformer(hidden_layer_sizes=(1,) * 600_000), path)
    assert path.read_bytes() == before


def test_without_safetensors(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (lambda: save(AutoencoderTransformer(), path), lambda: load(path)):
        with pytest.raises(ImportError, match=r"needs safetensors: .*'skae\[io\]'"):
            call()


# -- the files -------------------------------------------------------------------------


def test_files_are_those_of_safetensors(path):
    for name in ("adam", "cautious", "lbfgs", "variational"):
        estimator = make(name).fit(make_data().astype(np.float32))
        save(estimator, path)
        arrays = load_file(path)
        np.testing.assert_array_equal(arrays["params"], estimator._params, strict=True)
        assert arrays["loss_curve"].tolist() == estimator.loss_curve_
        with safetensors.safe_open(path, "numpy") as opened:
            description = json.loads(opened.metadata()["skae"])
        assert description["class"] == type(estimator).__name__
        assert set(description["parameters"]) == set(estimator.get_params())
        assert description["version"] == VERSION
    save(AutoencoderTransformer(), path)
    assert load_file(path) == {}


@pytest.mark.parametrize("name", ["default", "cautious", "lbfgs", "variational", None])
@pytest.mark.parametrize("dtype", DTYPES)
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
    assert path.read_bytes() == safetensors_of(load_file(path), metadata)


def test_the_same_estimator_gives_the_same_bytes(tmp_path):
    for i in range(2):
        save(make("cautious").fit(make_data()), tmp_path / str(i))
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


@pytest.mark.parametrize("version", range(1, VERSION + 1))
@pytest.mark.parametrize("member", MEMBERS)
def test_files_of_every_version_are_read(member, version, path):
    stored = FOLDER / f"{member.__name__}_{version}.safetensors"
    assert stored.stat().st_size < 20_000
    loaded = load(stored)
    assert type(loaded) is member
    with np.load(stored.with_suffix(".npz"), allow_pickle=False) as expected:
        X, code = expected["X"], expected["code"]
    if member is AutoencoderTransformer:
        assert loaded.feature_names_in_.tolist() == ["a", "b", "ç", "d"]
        assert type(loaded.random_state) is np.random.RandomState
        assert loaded.n_iter_no_change == np.inf
        X = pd.DataFrame(X, columns=loaded.feature_names_in_)
    else:
        assert loaded.coefs_[0].dtype == np.float32
        assert len(loaded.kl_curve_) == 5
    np.testing.assert_array_equal(loaded.transform(X), code, strict=True)
    assert loaded.scale_ == 2
    assert loaded.n_iter_ == 5
    loaded.set_params(warm_start=True).fit(X)
    assert len(loaded.loss_curve_) == 10
    assert_same(loaded, through_file(loaded, path))


def test_stored_files_are_what_their_script_makes():
    """But for roundings of the fit."""
    for name, model in models():
        loaded = load(FOLDER / f"{name}_{VERSION}.safetensors")
        # The file was written before there were these.
        later = {"best_iter_", "batch_size_", "max_iter_"}
        assert contents(loaded).keys() == contents(model).keys() - later
        np.testing.assert_allclose(loaded.loss_curve_, model.loss_curve_, rtol=1e-3)


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
        with pytest.raises(ValueError, match=r"no file|not a file"):
            load_or_save(tmp_path)
    for no_file in ("new/", "", "."):
        with pytest.raises(ValueError, match="no file that could be replaced"):
            save(estimator, no_file)
    with pytest.raises(ValueError, match="null byte"):
        save(estimator, "a\0b")
    assert len(os.listdir(tmp_path)) == 6


@contextlib.contextmanager
def without_privileges():
    """As nobody, if this is root, whom no permissions stop."""
    is_root = os.getuid() == 0
    if is_root:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if is_root:
            os.setresuid(0, 0, 0)


@posix
def test_where_nothing_can_be_saved(tmp_path, monkeypatch):
    """What was asked for is named, and no temporary file."""
    estimator = AutoencoderTransformer()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="make it first: 'no/model'") as missing:
        save(estimator, "no/model")
    with pytest.raises(OSError, match=f": '{'m' * 300}'") as long:
        save(estimator, "m" * 300)
    with without_privileges(), pytest.raises(PermissionError, match="'/model'") as root:
        save(estimator, "/model")
    for caught in (missing, long, root):
        assert ".skae-" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_what_is_no_file_is_not_judged(tmp_path):
    """No copy of it would help."""
    for no_file in (tmp_path, "a\0b"):
        with pytest.raises(ValueError, match=r"not a file$|^embedded null") as caught:
            load(no_file)
        assert type(caught.value) is ValueError


@posix
def test_links_are_followed_and_devices_left_alone(tmp_path):
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    save(AutoencoderTransformer(2), target)
    link.symlink_to(target)
    save(AutoencoderTransformer(7), link)
    assert link.is_symlink()
    assert load(target).n_components == 7
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="no file that could be replaced"):
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


# -- damage ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    """Bytes of a file with all kinds of contents."""
    path = tmp_path_factory.mktemp("small") / "model"
    X = pd.DataFrame(make_data(50, 2), columns=["ä", "b"])
    estimator = AutoencoderTransformer(
        1, hidden_layer_sizes=(2,), max_iter=3, random_state=np.random.RandomState(0)
    )
    estimator.fit(X)
    for n in range(3):  # of three lengths in a row one is padded by two bytes or more
        save(estimator.set_params(verbose=10**n), path)
        contents = path.read_bytes()
        if b"  " in contents:
            break
    return contents


def assert_refused(path, contents, match="cannot be loaded"):
    path.write_bytes(contents)
    with pytest.raises(ModelFileError, match=match) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be loaded: ")
    assert len(message) < 1000
    return message


def test_incomplete_files(small_file, path):
    header = 8 + int.from_bytes(small_file[:8], "little")
    near = {*range(20), *range(header - 20, header + 20), len(small_file) - 1}
    for length in sorted(near | {*range(0, len(small_file), times(97, 1))}):
        assert_refused(path, small_file[:length], "damaged")
    for more in (b"\0", b" ", small_file):
        assert_refused(path, small_file + more, "damaged")
    assert_refused(path, b"", "save the estimator again")


def test_flipped_bits(small_file, path):
    """Of every byte of what is not weights or a parameter's list, and of some others.

    Padding and the length of the header are among them.
    """
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


def test_names_that_were_swapped(small_file, path):
    """Of arrays of one size: what is read makes sense."""
    one, other = b"moment_1", b"moment_2"
    assert small_file.count(one) == small_file.count(other) == 1
    first, between, last = re.split(b"moment_.", small_file)
    names = (
        (other, one)
        if small_file.index(one) < small_file.index(other)
        else (one, other)
    )
    assert_refused(path, first + names[0] + between + names[1] + last, "digest")


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
        assert_refused(path, other, "no model of skae")


# -- made up files, whose digests are right -------------------------------------------


def parts_of(contents):
    """Description, table of arrays and the arrays' bytes."""
    n_header = int.from_bytes(contents[:8], "little")
    table = json.loads(contents[8 : 8 + n_header])
    description = json.loads(table.pop("__metadata__")["skae"])
    return description, table, contents[8 + n_header :]


def made_up(description, table, data, metadata=None):
    """A file of such parts, whose digest is right where there can be one."""
    text = description if isinstance(description, str) else json.dumps(description)
    try:
        said = json.loads(text)["sha256"]
        text = text.replace(said, "0" * 64, 1)
        digest = container._digest(text, arrays_of(table, data))
        text = text.replace("0" * 64, digest, 1)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        pass
    metadata = {"skae": text} if metadata is None else metadata
    table = table if isinstance(table, str) else json.dumps(table)
    header = f'{{"__metadata__":{json.dumps(metadata)}'
    header += f",{table[1:]}" if table != "{}" else "}"
    return with_length(header.encode(), data)


def arrays_of(table, data):
    return {
        name: np.frombuffer(
            data[slice(*entry["data_offsets"])],
            dtype=container._DTYPES[entry["dtype"]],
        ).reshape(entry["shape"])
        for name, entry in table.items()
    }


def with_length(header, data=b""):
    return len(header).to_bytes(8, "little") + header + bytes(data)


def test_a_made_up_file_is_one_but_for_what_is_changed(small_file, path):
    path.write_bytes(made_up(*parts_of(small_file)))
    assert load(path).n_components_ == 1


def set_in(*keys_and_value):
    """A change of one entry."""
    *keys, last, value = keys_and_value

    def change(parts):
        for key in keys:
            parts = parts[key]
        parts[last] = value

    return change


def delete_in(*keys):
    def change(parts):
        for key in keys[:-1]:
            parts = parts[key]
        del parts[keys[-1]]

    return change


D, T = "description", "table"
NETWORK = (D, "fitted", "architecture")
COUNTERS, SCALARS = (D, "fitted", "counters"), (D, "fitted", "scalars")
DEEP = 50_000
MADE_UP = {
    "newer version": (set_in(D, "version", 2), "upgrade skae"),
    "version 0": (set_in(D, "version", 0), "version is 0"),
    "version of text": (set_in(D, "version", "1"), "version is '1'"),
    "version is true": (set_in(D, "version", True), "version is True"),
    "no version": (delete_in(D, "version"), "something else"),
    "unknown class": (set_in(D, "class", "PCA"), "class"),
    "class of a module": (set_in(D, "class", "os.system"), "class"),
    "class is a list": (set_in(D, "class", []), "something else"),
    "the other class": (
        set_in(D, "class", "VariationalAutoencoderTransformer"),
        "layers",
    ),
    "no parameters": (delete_in(D, "parameters"), "something else"),
    "unknown parameter": (set_in(D, "parameters", "foo", 1), "something else"),
    "self as a parameter": (set_in(D, "parameters", "self", 1), "something else"),
    "parameters that are a list": (set_in(D, "parameters", [1]), "something else"),
    "parameter of unknown kind": (
        set_in(D, "parameters", "alpha", {"eval": "1"}),
        "unknown kind",
    ),
    "parameter of two kinds": (
        set_in(D, "parameters", "alpha", {"float": "inf", "tuple": []}),
        "something else",
    ),
    "position beyond the generator": (
        set_in(D, "parameters", "random_state", "RandomState", 2, 10**9),
        "out of range",
    ),
    "negative position": (
        set_in(D, "parameters", "random_state", "RandomState", 2, -1),
        "out of range",
    ),
    "short key": (
        set_in(D, "parameters", "random_state", "RandomState", 1, [1]),
        "something else",
    ),
    "huge key": (
        set_in(D, "parameters", "random_state", "RandomState", 1, [2**40] * 624),
        "something else",
    ),
    "unknown output": (set_in(D, "output", "os"), "output"),
    "unknown request": (
        set_in(D, "requests", {"fit": {"foo": True}}),
        "something else",
    ),
    "request of a method": (set_in(D, "requests", {"__init__": {}}), "requests"),
    "requests that are a list": (set_in(D, "requests", []), "something else"),
    "arrays without a fit": (set_in(D, "fitted", None), "arrays .* unknown"),
    "no layers": (set_in(*NETWORK, "activations", []), "layers"),
    "odd layers": (set_in(*NETWORK, "widths", [2, 2, 2]), "layers"),
    "negative width": (set_in(*NETWORK, "widths", [2, 2, -1, 2, 2]), "layers"),
    "width of a float": (set_in(*NETWORK, "widths", [2, 2, 1.0, 2, 2]), "layers"),
    "width is true": (set_in(*NETWORK, "widths", [2, 2, True, 2, 2]), "layers"),
    "not mirrored": (set_in(*NETWORK, "widths", [2, 3, 1, 2, 2]), "layers"),
    "unknown activation": (set_in(*NETWORK, "activations", 0, "exec"), "layers"),
    "activation is a list": (set_in(*NETWORK, "activations", 0, []), "something else"),
    "activations are an object": (
        set_in(*NETWORK, "activations", dict.fromkeys([*ACTIVATIONS][:4], 0)),
        "layers",
    ),
    "activations are text": (set_in(*NETWORK, "activations", "relu"), "layers"),
    "widths are an object": (
        set_in(*NETWORK, "widths", dict.fromkeys("abcde", 1)),
        "layers",
    ),
    "one width": (set_in(*NETWORK, "widths", 1), "layers"),
    "another width": (set_in(*NETWORK, "widths", [2, 3, 1, 3, 2]), "params"),
    "huge width": (set_in(*NETWORK, "widths", [2, 2**50, 1, 2**50, 2]), "params"),
    "width of digits": (
        set_in(*NETWORK, "widths", [2, 10**4000, 1, 10**4000, 2]),
        "layers",
    ),
    "long names": (set_in(T, "x" * 10**5, 0), "damaged"),
    "shape of no bytes": (set_in(T, "mean", "shape", [0, 10**4000]), "damaged"),
    "width beyond integers": (
        set_in(*NETWORK, "widths", [2, 10**200, 1, 10**200, 2]),
        "layers",
    ),
    "tied": (set_in(*NETWORK, "tied", True), "params"),
    "variational": (set_in(*NETWORK, "variational", True), "layers"),
    "tied is a number": (set_in(*NETWORK, "tied", 0), "layers"),
    "unknown solver": (set_in(D, "fitted", "training", "solver", "x"), "solver"),
    "solver without moments": (
        set_in(D, "fitted", "training", "solver", "lbfgs"),
        "moment_1",
    ),
    "unknown loss": (set_in(D, "fitted", "training", "loss", "x"), "loss"),
    "unknown init": (set_in(D, "fitted", "training", "init", "x"), "init"),
    "cut short of none": (
        set_in(D, "fitted", "cut_short_of", 0),
        "cut short",
    ),
    "negative epochs": (set_in(D, "fitted", "numbers", "n_iter_", -1), "numbers"),
    "epochs of text": (set_in(D, "fitted", "numbers", "n_iter_", "1"), "numbers"),
    "scale of zero": (set_in(D, "fitted", "numbers", "scale_", 0.0), "numbers"),
    "negative scale": (set_in(D, "fitted", "numbers", "scale_", -1.0), "numbers"),
    "infinite scale": (
        set_in(D, "fitted", "numbers", "scale_", {"float": "inf"}),
        "numbers",
    ),
    "scale that is NaN": (
        set_in(D, "fitted", "numbers", "scale_", {"float": "nan"}),
        "numbers",
    ),
    "loss of text": (set_in(D, "fitted", "numbers", "loss_", "x"), "numbers"),
    "counter is negative": (set_in(*COUNTERS, "n_updates", -1), "counters"),
    "counter is huge": (set_in(*COUNTERS, "n_epochs", 2**62), "counters"),
    "counter of a float": (set_in(*COUNTERS, "seed", 0.5), "counters"),
    "cycle of the future": (set_in(*COUNTERS, "cycle_start", 100), "counters"),
    "no counter": (delete_in(*COUNTERS, "n_epochs"), "something else"),
    "rate that is NaN": (set_in(*SCALARS, "rate_factor", {"float": "nan"}), "rate"),
    "scalar of text": (set_in(*SCALARS, "best_loss", "x"), "something else"),
    "description is a list": (set_in(D, []), "object of JSON"),
    "description is no JSON": (set_in(D, "{'version': 1}"), "object of JSON"),
    "description is nested": (set_in(D, "[" * DEEP), "object of JSON"),
    "parameter is nested": (
        set_in(D, f'{{"version": {"[" * DEEP}{"]" * DEEP}}}'),
        "object of JSON",
    ),
    "a number of digits": (set_in(D, f'{{"version": {"9" * DEEP}}}'), "JSON"),
    "NaN in JSON": (set_in(D, '{"version": NaN}'), "object of JSON"),
    "no table": (set_in(T, {}), "damaged"),
    "table is nested": (set_in(T, '{"a":' * DEEP), "damaged"),
    "table ends early": (set_in(T, '{"params": {'), "damaged"),
    "entry is a list": (set_in(T, "params", []), "damaged"),
    "entry without a shape": (delete_in(T, "params", "shape"), "damaged"),
    "unknown dtype": (set_in(T, "params", "dtype", "O"), "damaged"),
    "half as wide": (set_in(T, "params", "dtype", "F32"), "damaged"),
    "integers": (set_in(T, "params", "dtype", "I64"), "no weights"),
    "another array's dtype": (set_in(T, "mean", "dtype", "I64"), "arrays"),
    "negative shape": (set_in(T, "params", "shape", [-1]), "damaged"),
    "shape of a float": (set_in(T, "params", "shape", [17.0]), "damaged"),
    "shape is true": (set_in(T, "params", "shape", [True, 17]), "damaged"),
    "huge shape": (set_in(T, "params", "shape", [2**50]), "damaged"),
    "shape that overflows": (set_in(T, "params", "shape", [2**40] * 9), "damaged"),
    "offsets out of range": (
        set_in(T, "params", "data_offsets", [0, 10**12]),
        "damaged",
    ),
    "offsets overlap": (set_in(T, "mean", "data_offsets", [0, 16]), "damaged"),
    "negative offsets": (
        set_in(T, "params", "data_offsets", [-136, 0]),
        "damaged",
    ),
    "data are missing": (set_in("data", b""), "damaged"),
    "data are left over": (lambda parts: parts["data"].extend(b"\0" * 8), "damaged"),
    "metadata is a list": (set_in("metadata", {"skae": []}), "damaged"),
    "other metadata": (set_in("metadata", {"more": ""}), "no model of skae"),
}


# What nobody looks at, or takes for what it is; parameters are judged by fit.
HARMLESS = {
    "another entry": set_in(D, "code", "print()"),
    "another number": set_in(D, "fitted", "numbers", "coefs_", 1.0),
    "another scalar": set_in(D, "fitted", "scalars", "sum", 1.0),
    "requests of a method": set_in(D, "requests", {"fit": {}}),
    "other parameter": set_in(D, "parameters", "alpha", {"float": "9" * 10_000}),
    "no parameters": set_in(D, "parameters", {}),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_in_made_up_files(name, small_file, path):
    path.write_bytes(small_file)
    X = pd.DataFrame(make_data(5, 2), columns=["ä", "b"])
    code = load(path).transform(X)
    path.write_bytes(changed(small_file, HARMLESS[name]))
    loaded = load(path)
    np.testing.assert_array_equal(loaded.transform(X), code, strict=True)
    assert "coefs_" not in vars(loaded)
    if name == "other parameter":
        with pytest.raises(ValueError, match="'alpha' parameter"):
            loaded.fit(X)
    else:
        loaded.fit(X)


@pytest.mark.parametrize(
    ("version", "name", "match"),
    [
        ("9.0", "foo", r"unknown to skae .*, \['foo'\]: skae '9\.0' wrote it; upgrade"),
        ("9" * 10**4, "f" * 10**4, r"\['f+\.\.\.f+'\]: skae '9+\.\.\.9+' wrote it"),
        ("\x1b[31m", "\x1b[31m", r"\['\\x1b.*'\]: skae '\\x1b.*' wrote it"),
        ({"a": []}, "self", r"\['self'\]: skae {'a': \[\]} wrote it"),
    ],
)
def test_a_parameter_more_is_of_a_later_skae(version, name, match, small_file, path):
    def change(parts):
        parts[D]["parameters"][name] = 1
        parts[D]["skae_version"] = version

    message = assert_refused(path, changed(small_file, change), match)
    assert len(message) < 250 + len(str(path))


def test_copies_are_advised_where_they_may_help(small_file, path):
    newer = changed(small_file, set_in(D, "version", VERSION + 1))
    assert assert_refused(path, newer).endswith("upgrade skae")
    assert "from a copy" in assert_refused(path, small_file[:-1])


def changed(contents, change):
    description, table, data = parts_of(contents)
    parts = {D: description, T: table, "data": bytearray(data), "metadata": None}
    change(parts)
    return made_up(*parts.values())


@pytest.mark.parametrize(("change", "match"), MADE_UP.values(), ids=MADE_UP)
def test_made_up_files(change, match, small_file, path):
    assert_refused(path, changed(small_file, change), match)


@pytest.mark.parametrize(
    "name",
    [*parts_of((FOLDER / "AutoencoderTransformer_1.safetensors").read_bytes())[1]],
)
def test_missing_and_renamed_arrays(name, small_file, path):
    description, table, data = parts_of(small_file)
    for at_end in (True, False):  # so that no bytes are left over
        start, end = table[name]["data_offsets"]
        others = {k: dict(v) for k, v in table.items() if k != name}
        for entry in others.values():
            if entry["data_offsets"][0] >= end:
                entry["data_offsets"] = [o - end + start for o in entry["data_offsets"]]
        less = data[:start] + data[end:]
        if at_end:
            last = {**table[name], "data_offsets": [len(less), len(data)]}
            others["other"], less = last, less + data[start:end]
        contents = made_up(description, others, less)
        if not at_end and name in ("validation_loss_curve", "training.selected"):
            path.write_bytes(contents)
            load(path)
        else:
            assert_refused(path, contents, "are missing, unknown|no weights")


def array_in(contents, name):
    """Parts of a file in the making, and a view of one of its arrays."""
    description, table, data = parts_of(contents)
    data = bytearray(data)
    start, end = table[name]["data_offsets"]
    dtype = container._DTYPES[table[name]["dtype"]]
    view = np.frombuffer(memoryview(data)[start:end], dtype=dtype)
    return (description, table, data), view


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name",
    [
        "params",
        "mean",
        "offset",
        "explained_variance",
        "explained_variance_ratio",
        "loss_curve",
        "validation_loss_curve",
        "training.initial_params",
        "training.params",
        "training.best_params",
        "training.selected",
        "training.moment_1",
        "training.moment_2",
    ],
)
def test_infinite_entries(name, value, small_file, path):
    parts, array = array_in(small_file, name)
    array[-1] = value
    if "moment" in name:  # huge gradients have infinite squares; training will notice
        path.write_bytes(made_up(*parts))
        assert load(path).n_components_ == 1
    else:
        assert_refused(path, made_up(*parts), f"'{name}' has entries")


@pytest.mark.parametrize(
    ("name", "at", "value", "match"),
    [
        ("feature_names.lengths", 0, -1, "names"),
        ("feature_names.lengths", 0, 2**62, "names"),
        ("feature_names.lengths", 0, 1, "names"),
        ("feature_names.text", 0, 0xFF, "UnicodeDecode"),
    ],
)
def test_other_wrong_entries(name, at, value, match, small_file, path):
    parts, array = array_in(small_file, name)
    array[at] = value
    assert_refused(path, made_up(*parts), match)


JSON_VALUES = (None, True, 0, -1, 2**70, 0.5, "", "relu", [], [0], {}, {"tuple": [1]})


def mutated(value, rng):
    """A value of JSON with one entry changed, dropped, doubled or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        value, key = dict(value), rng.choice(sorted(value))
        kind = rng.random()
        if kind < 0.1:
            del value[key]
        elif kind < 0.2:
            value[key + "x"] = value.pop(key)
        else:
            value[key] = mutated(value[key], rng)
        return value
    if isinstance(value, list) and value and rng.random() < 0.9:
        value, i = list(value), rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.1:
            del value[i]
        elif kind < 0.2:
            value.insert(i, value[i])
        else:
            value[i] = mutated(value[i], rng)
        return value
    return rng.choice(JSON_VALUES)


def test_random_changes_are_refused_or_harmless(small_file, path):
    """Never another error; what is loaded computes with its own shapes."""
    rng = random.Random(0)
    description, table, data = parts_of(small_file)
    X = pd.DataFrame(make_data(5, 2), columns=["ä", "b"])
    n_refused = 0
    n = times(500, 5000)
    for i in range(n):
        changed = [description, table]
        changed[i % 2] = mutated(changed[i % 2], rng)
        path.write_bytes(made_up(*changed, data))
        try:
            loaded = load(path)
        except ModelFileError:
            n_refused += 1
        else:
            loaded.set_output(transform="default")
            assert loaded.transform(X).shape == (5, 1)
    assert n / 2 < n_refused < n


def test_random_numbers_are_refused_or_harmless(small_file, path):
    """Flipped bits in arrays, with a digest that fits: training may go on, too."""
    rng = random.Random(0)
    description, table, data = parts_of(small_file)
    X = pd.DataFrame(make_data(50, 2), columns=["ä", "b"])
    for _ in range(times(50, 1000)):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(made_up(description, table, damaged))
        try:
            loaded = load(path)
        except ModelFileError:
            continue
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                loaded.set_params(warm_start=True, max_iter=2).fit(X)
        except ValueError:  # of names, or as training diverges
            continue
        assert np.isfinite(loaded._params).all()


LARGE = 100 * 2**30
HUGE_CLAIMS = {
    "length of the header": lambda _: (LARGE).to_bytes(8, "little") + b"{" * 100,
    "largest length": lambda _: b"\xff" * 8 + b"{" * 100,
    "shape": lambda small: changed(
        small,
        lambda parts: parts[T]["params"].update(
            shape=[LARGE // 8], data_offsets=[0, LARGE]
        ),
    ),
    "network": lambda small: changed(
        small, set_in(*NETWORK, "widths", [2, LARGE, 1, LARGE, 2])
    ),
    "many layers": lambda small: changed(small, with_layers(15_000)),
    "lists in JSON": lambda _: made_up("[" + "[]," * 80_000 + "[]]", {}, b""),
    "more lists in JSON": lambda _: with_length(
        b'{"__metadata__":{"skae":"[' + b"[]," * 10**7 + b'[]]"}}'
    ),
    "lists in the header": lambda _: with_length(
        b'{"__metadata__":{},"a":[' + b"[]," * 80_000 + b"[]]}"
    ),
}


def with_layers(n):
    """A change to a network of so many, that has all but the arrays."""

    def change(parts):
        architecture = parts[D]["fitted"]["architecture"]
        architecture |= {"widths": [2] * (n + 1), "activations": ["elu"] * n}

    return change


def test_layers_are_counted_before_arrays_are(small_file, path):
    """The row of many layers is not refused for its header alone."""
    contents = HUGE_CLAIMS["many layers"](small_file)
    assert_refused(path, contents, r"'params'.* are missing")


@pytest.mark.parametrize("name", HUGE_CLAIMS)
def test_huge_claims_take_no_memory(name, small_file, path):
    contents = HUGE_CLAIMS[name](small_file)
    path.write_bytes(contents)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError):
            load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**24


def peak_memory(call):
    """What a call takes beyond what there is, in bytes, its result included."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = call()
        peak = tracemalloc.get_traced_memory()[1] - before
        del result
    finally:
        tracemalloc.stop()
    return peak


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


def test_memory_of_many_names(path):
    X = pd.DataFrame(make_data(2, 20_000), columns=[f"x{i}" for i in range(20_000)])
    params = {"hidden_layer_sizes": (), "init": "random", "max_iter": 1}
    save(AutoencoderTransformer(1, **params).fit(X.astype(np.float32)), path)
    assert peak_memory(lambda: load(path)) < 3 * path.stat().st_size


# -- failures --------------------------------------------------------------------------


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


ERRORS = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EIO, "Input/output error"),
    KeyboardInterrupt(),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("what", ["fsync", "replace", "write", "open", "digest"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_failed_save_changes_nothing(what, error, exists, path, monkeypatch):
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


CHILD = """
import os, signal, sys

from skae import io

path, how = sys.argv[1:]


def kill(*args):
    os.kill(os.getpid(), signal.SIGKILL)


setattr(os, how, kill)
io.save(io.load(path).set_params(alpha=0.5), path)
"""


def run_child(path, how):
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(path), how],
        env={**os.environ, "PYTHONPATH": str(FOLDER.parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@posix
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_killed_save(where, path):
    estimator = make("adam").fit(make_data())
    save(estimator, path)
    ended = run_child(path, where)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert_same(load(path), estimator)
    left = [name for name in os.listdir(path.parent) if name != path.name]
    assert len(left) == 1
    assert re.fullmatch(r"\.skae-[0-9a-f]{16}\.tmp", left[0])


def test_reading_while_others_write(path):
    estimators = [make("adam", n_components=n).fit(make_data()) for n in (1, 2)]
    save(estimators[0], path)
    done, errors = threading.Event(), []

    def write(estimator):
        try:
            while not done.is_set():
                save(estimator, path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(e,)) for e in estimators]
    for thread in threads:
        thread.start()
    try:
        found = [load(path).n_components_ for _ in range(times(100, 1000))]
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not errors
    assert set(found) <= {1, 2}
    assert os.listdir(path.parent) == [path.name]


# -- skops -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["default", "lbfgs", "deep", "variational"])
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_skops(name, in_pipeline):
    skops = pytest.importorskip("skops.io")
    estimator = make(name, max_iter=6, warm_start=True, n_iter_no_change=np.inf)
    model = make_pipeline(StandardScaler(), estimator) if in_pipeline else estimator
    X = pd.DataFrame(data_for(estimator), columns=list("abcdef"))
    if name == "variational":
        estimator.set_params(random_state=np.random.RandomState(0))
    model.fit(X)
    dumped = skops.dumps(model)
    kind = type(estimator)
    needed = [f"{kind.__module__}.{kind.__name__}"]
    assert skops.get_untrusted_types(data=dumped) == needed
    assert set(needed) <= set(TRUSTED_TYPES)
    with pytest.raises(Exception, match="Untrusted types"):
        skops.loads(dumped)
    loaded = skops.loads(dumped, trusted=TRUSTED_TYPES)
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X), strict=True)
    # Training goes on.
    model.fit(X)
    loaded.fit(X)
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X), strict=True)
    assert (loaded[-1] if in_pipeline else loaded).loss_curve_ == estimator.loss_curve_


def test_skops_of_a_subclass():
    """As `save` says that it is done."""
    skops = pytest.importorskip("skops.io")
    trusted = [*TRUSTED_TYPES, f"{Own.__module__}.Own"]
    assert type(skops.loads(skops.dumps(Own(3)), trusted=trusted)) is Own


def test_trusted_types_are_the_least():
    assert sorted(TRUSTED_TYPES) == sorted(
        f"{member.__module__}.{member.__name__}" for member in MEMBERS
    )
