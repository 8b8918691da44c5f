"""Files of estimators: equal contents, and files that are made up."""

import contextlib
import json
import os

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
)
from skae._files import container
from skae._training.state import COUNTERS
from skae.io import ModelFileError, load, save

from .cases import make, make_data

DTYPES = (np.float64, np.float32)
MEMBERS = AutoencoderTransformer, VariationalAutoencoderTransformer
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


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
    elif isinstance(a, BaseEstimator):
        assert_same_value(contents(a), contents(b), name)
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
    assert_same(once, twice, passing=(COUNTERS.index("cycle_start"),))


def through_file(estimator, path):
    save(estimator, path)
    return load(path)


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


class Own(AutoencoderTransformer):
    """Somebody's."""


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


def make_small_file(path):
    """Bytes of a file with all kinds of contents."""
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


def small_table(n_rows=30):
    """A table with all kinds of contents."""
    frame = pd.DataFrame(make_data(n_rows, 2), columns=["x", "y"])
    n = n_rows // 3
    frame["city"] = pd.Series(["Rome", "Ur", None] * n, dtype=object)
    frame["size"] = pd.Categorical([1, 2, 3] * n, categories=[3, 1, 2, 4])
    return frame


def make_small_table_file(path):
    """Bytes of a file of an autoencoder of a table with all kinds of contents."""
    frame = small_table()
    network = AutoencoderTransformer(
        1, hidden_layer_sizes=(2,), max_iter=2, max_categories=2, random_state=0
    )
    save(network.fit(frame), path)
    return path.read_bytes()


def make_small_imputer_file(path):
    """Bytes of a file of an imputer with all kinds of contents."""
    X = np.where(np.random.default_rng(0).random((250, 4)) < 0.1, np.nan, 1)
    X *= make_data(250, 4)
    X[:, 2] = np.nan
    network = AutoencoderTransformer(1, hidden_layer_sizes=(2,), max_iter=2)
    imputer = AutoencoderImputer(network, add_indicator=True, random_state=0)
    save(imputer.fit(pd.DataFrame(X, columns=list("abcd"))), path)
    return path.read_bytes()


def make_small_table_imputer_file(path):
    """Bytes of a file of an imputer of a table, one of whose columns is not kept."""
    frame = small_table(210)
    frame.insert(1, "none", np.nan)
    frame["empty"] = pd.Series([None] * 210, dtype="string")
    network = AutoencoderTransformer(1, hidden_layer_sizes=(2,), max_iter=2)
    imputer = AutoencoderImputer(
        network, add_indicator=True, max_categories=2, random_state=0
    ).fit(frame)
    save(imputer, path)
    return path.read_bytes()


def make_small_table_detector_file(path):
    """Bytes of a file of an outlier detector of a table."""
    network = AutoencoderTransformer(1, hidden_layer_sizes=(2,), max_iter=2)
    detector = AutoencoderOutlierDetector(network, max_categories=2, random_state=0)
    save(detector.fit(small_table()), path)
    return path.read_bytes()


def make_small_detector_file(path):
    """Bytes of a file of an outlier detector with all kinds of contents."""
    X = pd.DataFrame(make_data(30, 4), columns=list("abcd"))
    network = AutoencoderTransformer(1, hidden_layer_sizes=(2,), max_iter=2)
    detector = AutoencoderOutlierDetector(network, random_state=0).fit(X)
    save(detector, path)
    return path.read_bytes()


def assert_refused(path, contents, match="cannot be loaded"):
    path.write_bytes(contents)
    with pytest.raises(ModelFileError, match=match) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be loaded: ")
    assert len(message) < 1000
    return message


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
            data[slice(*entry["data_offsets"])], dtype=container._DTYPES[entry["dtype"]]
        ).reshape(entry["shape"])
        for name, entry in table.items()
    }


def with_length(header, data=b""):
    return len(header).to_bytes(8, "little") + header + bytes(data)


D, T = "description", "table"


def changed(contents, change):
    description, table, data = parts_of(contents)
    parts = {D: description, T: table, "data": bytearray(data), "metadata": None}
    change(parts)
    return made_up(*parts.values())


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail
