"""Rows that come in blocks: fit_batches beside fit, and what a pass over them does."""

import contextlib
import gc
import itertools
import json
import mmap
import os
import pathlib
import signal
import sys
import tempfile
import tracemalloc

import joblib
import numpy as np
import pytest
from scipy import sparse

from skae import AutoencoderTransformer
from skae._compiled import kernels
from skae._compiled.records import N_BEFORE, PART
from skae._data import rows as rows_module
from skae._data import stream as stream_module
from skae._data.stream import RowStream, StreamedRows
from skae._model import pca
from skae._training import loop
from skae.metrics import reconstruction_r2

from .cases import ALL_CASES, data_for, make, make_data, names_of
from .test_autoencoder import (
    Watcher,
    assert_same_fit,
    callback,  # noqa: F401  (a fixture)
    draws_for_rows,
    warns_of_interrupt,
)
from .test_package import run_python

# Most fits here are short.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N_ROWS = 150


@pytest.fixture
def small_parts(monkeypatch):
    """Chunks, pieces and windows of odd sizes, some of each in a little data."""
    monkeypatch.setattr(rows_module, "_CHUNK_ENTRIES", 6 * 17)
    monkeypatch.setattr(rows_module, "_PIECE_ENTRIES", 6 * 25)
    monkeypatch.setattr(stream_module, "_WINDOW_ENTRIES", 6 * 22)


class Blocks:
    """Makes iterators over blocks of rows, and counts those made and those closed."""

    def __init__(self, *blocks):
        self.blocks = blocks
        self.n_made = self.n_closed = 0

    @classmethod
    def of(cls, X, cuts=(1, 1, 57, 58, 140)):
        """Blocks of a matrix, cut before some rows; twice before one: an empty one."""
        bounds = [0, *cuts, X.shape[0]]
        return cls(*(X[a:b] for a, b in itertools.pairwise(bounds)))

    def __call__(self):
        self.n_made += 1
        try:
            yield from self.blocks_of_pass()
        finally:
            self.n_closed += 1

    def blocks_of_pass(self):
        return self.blocks


def typed(X, kind, dtype):
    X = X.astype(dtype)
    # A zero where a value is: counts and shares stay what they are.
    return sparse.csr_matrix(np.where(abs(X) > 0.3, X, 0)) if kind == "csr" else X


def assert_same_training(a, b):
    """Bit for bit, the state included."""
    assert_same_fit(a, b)
    states = a._training_state.as_dict(), b._training_state.as_dict()
    np.testing.assert_equal(*states)


# -- the same as fit -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ALL_CASES)
def test_is_fit_bit_for_bit(name, dtype, kind, small_parts, monkeypatch):
    """In small windows without a shuffle, and in one window with it."""
    estimators = [make(name), make(name)]
    X = typed(data_for(estimators[0], n_rows=N_ROWS), kind, dtype)
    for shuffle in (False, True):
        if shuffle:
            monkeypatch.setattr(stream_module, "_WINDOW_ENTRIES", 2**24)
        for estimator in estimators:
            estimator.set_params(shuffle=shuffle)
        blocks = Blocks.of(X)
        whole, streamed = estimators[0].fit(X), estimators[1].fit_batches(blocks)
        assert_same_training(streamed, whole)
        assert blocks.n_made == blocks.n_closed
        np.testing.assert_array_equal(streamed.transform(X), whole.transform(X))


@pytest.mark.parametrize("name", names_of(draws_for_rows))
def test_what_is_drawn_for_held_out_rows(name, small_parts):
    changes = {"early_stopping": True, "shuffle": False, "init": "random"}
    X = data_for(make(name), n_rows=N_ROWS)
    streamed = make(name, **changes).fit_batches(Blocks.of(X))
    assert_same_training(streamed, make(name, **changes).fit(X))


CUTS = {
    "one": (),
    "single rows": range(1, N_ROWS),
    "empty ones": (0, 0, 60, 60, 60, N_ROWS, N_ROWS),
    "odd ones": (3, 5, 64, 65, 149),
}


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize(
    "name", ["default", "minibatch", "masking_noise", "variational", "lbfgs"]
)
def test_cuts_do_not_matter(name, kind, small_parts):
    """Windows are shuffled, each by itself."""
    X = typed(data_for(make(name), n_rows=N_ROWS), kind, np.float64)
    fits = [make(name).fit_batches(Blocks.of(X, cuts)) for cuts in CUTS.values()]
    for other in fits[1:]:
        assert_same_training(other, fits[0])


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_a_buffer_may_be_used_again(kind, small_parts):
    """As `readinto` does: a block is valid until the next one is asked for."""
    X = make_data(N_ROWS)
    buffer = np.empty((13, 6))
    columns, starts = np.tile(np.arange(6), 13), np.arange(0, 14 * 6, 6)

    def blocks():
        for start in range(0, N_ROWS, 13):
            n = min(13, N_ROWS - start)
            buffer[:n] = X[start : start + n]
            block = buffer[:n]
            if kind == "csr":
                arrays = block.reshape(-1), columns[: 6 * n], starts[: n + 1]
                block = sparse.csr_matrix(arrays, shape=(n, 6))
                assert np.shares_memory(block.data, buffer)
            yield block
            buffer[:] = np.nan

    name, changes = "cautious", {"shuffle": False}
    streamed = make(name, **changes).fit_batches(blocks)
    whole = sparse.csr_matrix(X) if kind == "csr" else X
    assert_same_training(streamed, make(name, **changes).fit(whole))


def orders_of(estimator, X, monkeypatch):
    """Epoch, part and order of the rows of every part that was trained on."""
    orders, run_on = [], loop.StreamedTraining._run_on

    def run_and_note(self, kernel, model, rows, *args):
        result = run_on(self, kernel, model, rows, *args)
        if kernel is kernels.train_part:
            counters = self.state.counters
            key = int(counters[loop.N_EPOCHS]), int(counters[PART])
            order = self._workspace.order[: rows.n_rows].copy()
            orders.append((key, int(counters[N_BEFORE]), order))
        return result

    monkeypatch.setattr(loop.StreamedTraining, "_run_on", run_and_note)
    estimator.fit_batches(Blocks.of(X))
    return orders


def test_windows_are_shuffled_each_by_itself(small_parts, monkeypatch):
    X = make_data(N_ROWS)
    # 22 rows fit, three mini-batches do.
    orders = orders_of(make("minibatch", max_iter=3), X, monkeypatch)
    sizes = [21] * 7 + [3]
    assert [key for key, *_ in orders] == [
        (epoch, part) for epoch in range(3) for part in range(8)
    ]
    assert [n_before for _, n_before, _ in orders] == [*range(0, N_ROWS, 21)] * 3
    assert [len(order) for *_, order in orders] == sizes * 3
    for *_, order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(len(order)))
    seen = {tuple(order) for *_, order in orders if len(order) == 21}
    assert len(seen) == 21
    assert tuple(range(21)) not in seen


def test_a_mini_batch_that_is_larger_than_a_window(small_parts, monkeypatch):
    X = make_data(N_ROWS)
    orders = orders_of(make("minibatch", batch_size=60, max_iter=1), X, monkeypatch)
    assert [len(order) for *_, order in orders] == [60, 60, 30]


@pytest.mark.parametrize("is_iterated", [False, True])
@pytest.mark.parametrize(
    ("changes", "n_others"),
    [
        ({}, 11),
        ({"init": "random", "early_stopping": True}, 9),
        ({"early_stopping": False}, 8),
        ({"early_stopping": False, "noise": "masking"}, 8),
    ],
)
def test_number_of_passes(changes, n_others, is_iterated, small_parts, monkeypatch):
    """What the documentation says: some 8 to 12 besides the epochs.

    And seven more for PCA of many features.
    """
    if is_iterated:
        monkeypatch.setattr(pca, "_MAX_SCATTER", 1)
        n_others += 7 * ("init" not in changes)
    blocks = Blocks.of(make_data(N_ROWS, 20))  # more than the iteration's vectors
    estimator = make("default", max_iter=6, tol=0, **changes).fit_batches(blocks)
    assert blocks.n_made - estimator.n_iter_ == n_others


def test_number_of_passes_of_pretraining(small_parts):
    """Those of each layer's epochs, and four more; the first's rows are counted."""
    changes = {"max_iter": 10, "tol": 0, "learning_rate": "constant"}
    n_made = {}
    for pretrain, init in ((None, "random"), ("layerwise", "auto")):
        blocks = Blocks.of(make_data(N_ROWS))
        estimator = make("pretrained", pretrain=pretrain, init=init, **changes)
        estimator.fit_batches(blocks)
        n_made[pretrain] = blocks.n_made - estimator.n_iter_
    assert n_made["layerwise"] - n_made[None] == 3 * (2 + 4) - 1


# -- going on --------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    "name", ["minibatch", "early_stopping", "lbfgs", "variational"]
)
def test_warm_start_goes_on(name, shuffle, small_parts):
    X = data_for(make(name), n_rows=N_ROWS)
    how = {"shuffle": shuffle, "tol": 0, "n_iter_no_change": np.inf}
    once = make(name, max_iter=8, **how).fit_batches(Blocks.of(X))
    twice = make(name, max_iter=4, warm_start=True, **how)
    twice.fit_batches(Blocks.of(X)).fit_batches(Blocks.of(X, ()))
    assert twice.n_iter_ == 4
    assert twice.loss_curve_ == once.loss_curve_
    np.testing.assert_array_equal(twice._params, once._params)
    np.testing.assert_array_equal(twice.transform(X), once.transform(X))


@pytest.mark.parametrize("order", [("fit", "stream"), ("stream", "fit")])
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("minibatch", {}),
        ("minibatch", {"learning_rate": "cosine"}),
        ("default", {}),
        ("lbfgs", {}),
    ],
)
def test_fits_and_streams_go_on_from_each_other(name, changes, order, small_parts):
    X, how = make_data(N_ROWS), {"max_iter": 4, "warm_start": True, "shuffle": False}
    plain, mixed = (make(name, **how, **changes) for _ in range(2))
    for step in order:
        plain.fit(X)
        if step == "fit":
            mixed.fit(X)
        else:
            mixed.fit_batches(Blocks.of(X))
    assert_same_training(mixed, plain)


@pytest.mark.parametrize("name", ["minibatch", "gaussian_noise"])
def test_partial_fit_after_a_stream(name, small_parts):
    X, more = make_data(N_ROWS), make_data(40, seed=1)
    plain = make(name, shuffle=False).fit(X).partial_fit(more)
    mixed = make(name, shuffle=False).fit_batches(Blocks.of(X)).partial_fit(more)
    assert_same_training(mixed, plain)


def test_a_stream_goes_on_in_the_type_of_the_fit():
    X = make_data(N_ROWS)
    fitted = make("adam", warm_start=True, shuffle=False).fit(X.astype(np.float32))
    fitted.fit_batches(Blocks.of(X.astype(np.float32).astype(np.float64)))
    assert fitted.transform(X.astype(np.float32)).dtype == np.float32


# -- what else fits do -----------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("name", ["minibatch", "pca", "variational", "gaussian_noise"])
def test_x_val(name, early_stopping, small_parts):
    X, X_val = make_data(N_ROWS), make_data(30, seed=1)
    changes = {"early_stopping": early_stopping, "shuffle": False}
    streamed = make(name, **changes).fit_batches(Blocks.of(X), X_val=X_val)
    assert_same_training(streamed, make(name, **changes).fit(X, X_val=X_val))
    assert len(streamed.validation_loss_curve_) == streamed.n_iter_


def test_frames(small_parts):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(make_data(N_ROWS), columns=list("abcdef"))
    estimator = make("adam", shuffle=False).set_output(transform="pandas")
    estimator.fit_batches(Blocks.of(frame))
    np.testing.assert_array_equal(estimator.feature_names_in_, list("abcdef"))
    whole = make("adam", shuffle=False).fit(frame)
    assert_same_training(estimator, whole)
    code = estimator.transform(frame)
    assert list(code.columns) == list(estimator.get_feature_names_out())
    np.testing.assert_array_equal(code, whole.transform(frame))


def test_lists_and_integers_become_float64():
    X = (10 * make_data(N_ROWS)).astype(int)
    streamed = make("adam").fit_batches(lambda: [X[:70].tolist(), X[70:]])
    assert_same_training(streamed, make("adam").fit(X.astype(np.float64)))


def test_tuples_of_rows_are_no_pairs():
    X = make_data(N_ROWS)
    rows = [tuple(row) for row in X.tolist()]
    streamed = make("adam").fit_batches(lambda: [tuple(rows[:70]), (), rows[70:], []])
    assert_same_training(streamed, make("adam").fit(X))


def test_the_first_block_tells_the_type():
    X = make_data(N_ROWS)
    blocks = [X[:70].astype(np.float32), X[70:]]
    streamed = make("adam").fit_batches(lambda: blocks)
    assert_same_training(streamed, make("adam").fit(X.astype(np.float32)))


def test_progress_bar(callback, capsys, monkeypatch):  # noqa: F811
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "120")
    X = make_data(N_ROWS)
    estimator = make("adam", shuffle=False).set_callbacks(callback.ProgressBar())
    estimator.fit_batches(Blocks.of(X))
    assert_same_fit(estimator, make("adam", shuffle=False).fit(X))
    assert "AutoencoderTransformer" in capsys.readouterr().out


def test_callback_stops(callback, small_parts):  # noqa: F811
    class Stopper(Watcher):
        def on_fit_task_end(self, estimator, context, **told):
            self.seen.append(context.task_name)
            return context.task_id + 1 == self.stop_after

    X, stopper = make_data(N_ROWS), Stopper(stop_after=3)
    estimator = make("minibatch", max_iter=9).set_callbacks(stopper)
    estimator.fit_batches(Blocks.of(X))
    assert estimator.n_iter_ == 3
    assert stopper.seen == ["epoch"] * 3 + ["fit"]
    assert stopper.n_torn_down == 1


@pytest.mark.parametrize("verbose", [1, 2])
def test_verbose(verbose, capsys):
    make("adam", max_iter=3, verbose=verbose).fit_batches(Blocks.of(make_data(N_ROWS)))
    *epochs, end = capsys.readouterr().out.splitlines()
    assert len(epochs) == 3
    assert "kept epoch 3" in end


# -- errors ----------------------------------------------------------------------------


class Later(Blocks):
    """Gives other blocks from a pass on."""

    def __init__(self, *blocks, others, from_pass):
        super().__init__(*blocks)
        self.others, self.from_pass = others, from_pass

    def blocks_of_pass(self):
        return self.others if self.n_made >= self.from_pass else self.blocks


def with_bad(value):
    X = make_data(20)
    X[7, 3] = value
    return X


def broken(X):
    yield X
    raise OSError("the disk is gone")


FIRST = make_data(100)
BAD_BLOCKS = {
    "NaN": (with_bad(np.nan), ValueError, "NaN"),
    "infinity": (with_bad(np.inf), ValueError, "infinity"),
    "features": (make_data(20)[:, :5], ValueError, "5 features, but .* 6 features"),
    "1-D": (make_data(20)[0], ValueError, "Reshape your data"),
    "text": (np.full((3, 6), "a"), ValueError, "could not convert"),
    "complex": (make_data(20) + 1j, ValueError, "[Cc]omplex"),
    "sparse": (sparse.csr_matrix(make_data(20)), ValueError, "dense and sparse"),
    "scalar": (3.0, ValueError, "scalar"),
    "width of no rows": (np.empty((0, 5)), ValueError, "5 features, .* 6 features"),
    "(X, y)": ((make_data(20), np.arange(20)), TypeError, r"tuple .* \(X, y\), but"),
    "[X, y]": ([make_data(20), np.arange(20)], TypeError, "list .* there is no y"),
}


def temporary_files(folder):
    """Files of a folder that have a name there, or that the process has open or mapped.

    On Linux temporary files have no name, but "(deleted)" behind that of the folder.
    """
    gc.collect()
    found = [str(path) for path in folder.iterdir()]
    if sys.platform == "linux":
        maps = pathlib.Path("/proc/self/maps").read_text("utf-8").splitlines()
        found += [line for line in maps if f"{folder}/" in line]
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # that of the listing itself
                target = os.readlink(f"/proc/self/fd/{descriptor}")
                found += [target] * target.startswith(f"{folder}/")
    return found


@contextlib.contextmanager
def unchanged(estimator, tmp_path, monkeypatch):
    """Neither the estimator nor the folder of temporary files is."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = joblib.hash(vars(estimator))
    yield
    assert joblib.hash(vars(estimator)) == before
    assert temporary_files(tmp_path) == []


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("from_pass", [1, 2, 6])
@pytest.mark.parametrize("name", BAD_BLOCKS)
def test_bad_blocks(name, from_pass, fitted, tmp_path, monkeypatch):
    bad, error, message = BAD_BLOCKS[name]
    estimator = make("early_stopping")
    if fitted:
        estimator.fit(make_data(50, 4))
    blocks = Later(FIRST, make_data(20), others=[FIRST, bad], from_pass=from_pass)
    with (
        unchanged(estimator, tmp_path, monkeypatch),
        pytest.raises(error, match=message),
    ):
        estimator.fit_batches(blocks)
    assert blocks.n_made == blocks.n_closed == from_pass


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("from_pass", [2, 3, 6])
@pytest.mark.parametrize("name", ["adam", "default", "lbfgs"])
def test_other_rows(name, from_pass, kind, tmp_path, monkeypatch):
    """As of a loader that mixes them anew in each pass."""
    X = typed(make_data(N_ROWS), kind, np.float64)
    mixed = X[np.random.default_rng(0).permutation(N_ROWS)]
    blocks = Later(X[:90], X[90:], others=[X[:0], mixed], from_pass=from_pass)
    estimator = make(name)
    message = r"other rows, .* same order, each time; fit_batches mixes them itself"
    with (
        unchanged(estimator, tmp_path, monkeypatch),
        pytest.raises(ValueError, match=message),
    ):
        estimator.fit_batches(blocks)
    assert blocks.n_made == blocks.n_closed == from_pass


def test_other_rows_in_a_buffer_that_is_used_again():
    """With which the first row would be overwritten."""
    X, buffer, rng = make_data(20), np.empty((20, 6)), np.random.default_rng(0)

    def blocks():
        buffer[:] = rng.permutation(X)
        yield buffer

    with pytest.raises(ValueError, match="other rows"):
        make("adam").fit_batches(blocks)


@pytest.mark.parametrize(
    "limited", [{"loss": "log_loss"}, {"output_activation": "logistic"}]
)
@pytest.mark.parametrize("from_pass", [1, 2, 5])
def test_values_out_of_range(from_pass, limited, tmp_path, monkeypatch):
    X = make_data(N_ROWS, loss="log_loss")
    blocks = Later(X[:90], X[90:], others=[X[:90], 3 * X[90:]], from_pass=from_pass)
    estimator = make("adam", **limited)
    with (
        unchanged(estimator, tmp_path, monkeypatch),
        pytest.raises(ValueError, match=r"Values above 1 .* from 0(\.0)? to 3"),
    ):
        estimator.fit_batches(blocks)
    assert blocks.n_made == blocks.n_closed == from_pass


@pytest.mark.parametrize("from_pass", [1, 2])
def test_other_columns(from_pass, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(make_data(100), columns=list("abcdef"))
    other = frame.rename(columns={"f": "z"})
    blocks = Later(frame, frame, others=[frame, other], from_pass=from_pass)
    estimator = make("adam")
    with (
        unchanged(estimator, tmp_path, monkeypatch),
        pytest.raises(ValueError, match="feature names should match"),
    ):
        estimator.fit_batches(blocks)
    assert blocks.n_made == blocks.n_closed == from_pass


@pytest.mark.parametrize(
    ("others", "n_rows"),
    [
        ([], 0),
        ([FIRST], 100),
        ([FIRST, FIRST], 200),
        ([FIRST, make_data(20), np.empty((0, 6)), make_data(1)], 121),
    ],
)
@pytest.mark.parametrize("from_pass", [2, 3, 4, 6])
@pytest.mark.parametrize("name", ["adam", "default", "lbfgs"])
def test_other_numbers_of_rows(name, from_pass, others, n_rows, tmp_path, monkeypatch):
    blocks = Later(FIRST, make_data(20), others=others, from_pass=from_pass)
    estimator, message = make(name), f"gave {n_rows} rows, and 120 the first time"
    with (
        unchanged(estimator, tmp_path, monkeypatch),
        pytest.raises(ValueError, match=message),
    ):
        estimator.fit_batches(blocks)
    # A pass of rows that are trained on may end before the last of them.
    assert blocks.n_made == blocks.n_closed
    assert from_pass <= blocks.n_made <= from_pass + (len(others) > 1)


def generator_of(X):
    yield X


EXHAUSTED = generator_of(FIRST)  # once it has been read


@pytest.mark.parametrize(
    ("make_batches", "error", "message"),
    [
        (FIRST, TypeError, "a function that returns .*, not a ndarray"),
        (generator_of(FIRST), TypeError, "a function that .*, not a generator"),
        (None, TypeError, "a function that .*, not a NoneType"),
        (lambda: None, TypeError, "return an iterable of blocks .* not a NoneType"),
        (lambda: 3, TypeError, "return an iterable of blocks .* not an int"),
        (lambda: [], ValueError, "gave no rows: it has to return a fresh iterable"),
        (lambda: [FIRST[:0], FIRST[:0]], ValueError, "gave no rows"),
        (lambda: FIRST, TypeError, "returned a ndarray, .*: a list of it, or slices"),
        (lambda: EXHAUSTED, ValueError, "gave 0 rows, and 100 the first"),
    ],
)
def test_not_a_function_that_returns_blocks(
    make_batches, error, message, tmp_path, monkeypatch
):
    estimator = make("adam")
    with (
        unchanged(estimator, tmp_path, monkeypatch),
        pytest.raises(error, match=message),
    ):
        estimator.fit_batches(make_batches)


@pytest.mark.parametrize("from_pass", [1, 2, 4, 7])
def test_errors_of_the_generator_pass_through(from_pass, tmp_path, monkeypatch):
    class Broken(Blocks):
        def blocks_of_pass(self):
            return broken(FIRST) if self.n_made >= from_pass else self.blocks

    blocks, estimator = Broken(FIRST, make_data(20)), make("early_stopping")
    with (
        unchanged(estimator, tmp_path, monkeypatch),
        pytest.raises(OSError, match="the disk is gone"),
    ):
        estimator.fit_batches(blocks)
    assert blocks.n_made == blocks.n_closed == from_pass


@pytest.mark.parametrize("name", ["cautious", "adam", "lbfgs", "pretrained"])
def test_one_generator_is_open_at_a_time(name, small_parts):
    """Closed, not just forgotten."""
    blocks, held = Blocks.of(make_data(N_ROWS)), []

    def make_batches():
        assert blocks.n_made == blocks.n_closed
        held.append(blocks())
        return held[-1]

    make(name).fit_batches(make_batches)
    assert blocks.n_made == blocks.n_closed == len(held)


@pytest.mark.parametrize("name", ["early_stopping", "pretrained"])
@pytest.mark.parametrize("seed", [0, 5])
def test_no_generator_is_left_open(seed, name, small_parts):
    """With the sixth seed, the last row is held out: no epoch reads that far."""
    blocks, held = Blocks.of(make_data(N_ROWS)), []

    def make_batches():
        held.append(blocks())
        return held[-1]

    changes = {"validation_fraction": 0.5, "random_state": seed}
    estimator = make(name, early_stopping=True, **changes).fit_batches(make_batches)
    assert blocks.n_made == blocks.n_closed == len(held) > estimator.n_iter_


def test_divergence_leaves_the_estimator_and_no_file(tmp_path, monkeypatch):
    estimator, blocks = make("sgd_momentum", learning_rate_init=1e6), Blocks.of(FIRST)
    with (
        unchanged(estimator, tmp_path, monkeypatch),
        pytest.raises(ValueError, match="diverged"),
    ):
        estimator.fit_batches(blocks)
    assert blocks.n_made == blocks.n_closed > 0


def test_no_file_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    estimator = make("cautious").fit_batches(Blocks.of(make_data(N_ROWS)))
    assert hasattr(estimator, "validation_loss_curve_")
    assert temporary_files(tmp_path) == []


def test_other_architectures_and_x_val_are_refused():
    estimator = make("adam", warm_start=True).fit_batches(Blocks.of(FIRST, (50,)))
    before = joblib.hash(vars(estimator))
    with pytest.raises(ValueError, match="X has 4 features"):
        estimator.fit_batches(Blocks.of(FIRST[:, :4], (50,)))
    with pytest.raises(ValueError, match="X_val has 4 features"):
        estimator.fit_batches(Blocks.of(FIRST, (50,)), X_val=FIRST[:, :4])
    assert joblib.hash(vars(estimator)) == before
    estimator.set_params(n_components=3)
    with pytest.raises(ValueError, match="cannot go on training"):
        estimator.fit_batches(Blocks.of(FIRST, (50,)))


# -- Ctrl-C ----------------------------------------------------------------------------


class Interrupted(Blocks):
    """Sends SIGINT once, before a block of a pass."""

    def __init__(self, *blocks, in_pass=1, before=0):
        super().__init__(*blocks)
        self.in_pass, self.before = in_pass, before

    def blocks_of_pass(self):
        for i, block in enumerate(self.blocks):
            if (self.n_made, i) == (self.in_pass, self.before):
                signal.raise_signal(signal.SIGINT)
            yield block


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("name", ["minibatch", "cautious", "lbfgs", "variational"])
def test_ctrl_c_in_an_epoch(name, before, small_parts):
    X = make_data(N_ROWS)
    parts = Blocks.of(X, (40, 80, 120)).blocks
    how = {"max_iter": 9, "tol": 0, "n_iter_no_change": np.inf}
    counted = Blocks(*parts)
    whole = make(name, **how).fit_batches(counted)
    n_after = 3  # objectives, or the code's moments, after the last epoch
    blocks = Interrupted(*parts, in_pass=counted.n_made - n_after - 3, before=before)
    estimator = make(name, **how)
    with warns_of_interrupt():
        estimator.fit_batches(blocks)
    assert blocks.n_made == blocks.n_closed
    assert 0 < estimator.n_iter_ < whole.n_iter_
    assert len(estimator.loss_curve_) == estimator.n_iter_
    assert estimator.loss_curve_ == whole.loss_curve_[: estimator.n_iter_]
    assert np.isfinite(estimator.transform(X)).all()
    n_before = len(estimator.loss_curve_)
    estimator.set_params(warm_start=True, max_iter=2).fit_batches(Blocks(*parts))
    assert len(estimator.loss_curve_) == n_before + 2


def test_an_interrupted_window_ends_the_epoch(small_parts, monkeypatch):
    """Ctrl-C while a kernel runs."""
    n_run, run_on = 0, loop.StreamedTraining._run_on

    def run(self, kernel, *args):
        nonlocal n_run
        n_run += kernel is kernels.train_part
        if kernel is kernels.train_part and n_run == 12:
            return kernels.INTERRUPTED
        return run_on(self, kernel, *args)

    monkeypatch.setattr(loop.StreamedTraining, "_run_on", run)
    estimator = make("minibatch")
    with warns_of_interrupt():
        estimator.fit_batches(Blocks.of(make_data(N_ROWS)))
    assert (estimator.n_iter_, n_run) == (1, 12)  # of eight windows each


@pytest.mark.parametrize("before", [0, 1])
def test_ctrl_c_before_training(before):
    """While rows are counted there is nothing to keep."""
    blocks = Interrupted(*Blocks.of(FIRST, (50,)).blocks, in_pass=2, before=before)
    estimator = make("adam")
    attributes = joblib.hash(vars(estimator))
    with pytest.raises(KeyboardInterrupt):
        estimator.fit_batches(blocks)
    assert joblib.hash(vars(estimator)) == attributes
    assert blocks.n_made == blocks.n_closed == 2


def test_ctrl_c_after_training(small_parts):
    """In the pass that measures the code: what was trained is kept."""
    parts = Blocks.of(make_data(N_ROWS), (40, 80, 120)).blocks
    counted = Blocks(*parts)
    whole = make("minibatch").fit_batches(counted)
    blocks = Interrupted(*parts, in_pass=counted.n_made, before=2)
    estimator = make("minibatch")
    with warns_of_interrupt():
        estimator.fit_batches(blocks)
    assert_same_training(estimator, whole)


# -- the stream itself -----------------------------------------------------------------


def as_matrix(block, dtype):
    return block if sparse.issparse(block) else np.asarray(block, dtype)


def stream_of(X, cuts=(1, 1, 57, 58, 140)):
    blocks = Blocks.of(X, cuts)

    return RowStream(blocks, as_matrix), blocks


def test_what_is_checked():
    """Blocks that have rows; after the first, with the type of that."""
    X, seen = make_data(N_ROWS).astype(np.float32), []

    def check(block, dtype):
        seen.append((len(block), dtype))
        return np.asarray(block, dtype)

    stream = RowStream(Blocks.of(X), check)
    assert [n_rows for n_rows, _ in seen] == [1, 56, 1, 82, 10]
    assert [dtype for _, dtype in seen] == [None] + 4 * [X.dtype]
    del seen[:]
    np.testing.assert_array_equal(stream[slice(0, 3)], X[:3])
    assert seen == [(1, X.dtype), (56, X.dtype)]


def test_lists_are_left_to_the_check():
    """Which converts them."""
    n_converted = 0

    class Row:
        def __array__(self, *args, **kwargs):
            nonlocal n_converted
            n_converted += 1
            return np.arange(6.0)

    block = [np.arange(6.0), Row()]
    n_each = []
    for convert in (np.asarray, lambda block: RowStream(lambda: [block], as_matrix)):
        n_converted = 0
        convert(block)
        n_each.append(n_converted)
    assert n_each[1] == n_each[0] > 0


@pytest.mark.parametrize("make_matrix", [np.asarray, sparse.csr_matrix])
def test_rows_by_slices_and_by_numbers(make_matrix):
    X = make_matrix(make_data(N_ROWS))
    stream, blocks = stream_of(X)
    assert (stream.shape, stream.dtype) == (X.shape, X.dtype)
    rng, dense = np.random.default_rng(0), rows_module.dense
    for _ in range(50):
        start, stop = np.sort(rng.integers(0, N_ROWS + 1, 2))
        if start < stop:
            rows = slice(int(start), int(stop))
            np.testing.assert_array_equal(dense(stream[rows]), dense(X[rows]))
        rows = np.flatnonzero(rng.random(N_ROWS) < rng.random())
        if rows.size:
            np.testing.assert_array_equal(dense(stream[rows]), dense(X[rows]))
    stream.close()
    assert blocks.n_made == blocks.n_closed


def test_rows_in_order_are_read_once():
    X = make_data(N_ROWS)
    stream, blocks = stream_of(X)
    first = stream[slice(0, 20)]
    assert stream[slice(0, 20)] is first
    assert blocks.n_made == 2
    np.testing.assert_array_equal(stream[slice(20, 80)], X[20:80])
    np.testing.assert_array_equal(stream[np.array([99, 120])], X[[99, 120]])
    np.testing.assert_array_equal(stream[np.array([99, 120])], X[[99, 120]])
    assert (blocks.n_made, blocks.n_closed) == (2, 1)
    np.testing.assert_array_equal(stream[np.array([99, 149])], X[[99, 149]])
    assert (blocks.n_made, blocks.n_closed) == (3, 3)
    # A pass that has ended is not gone on with, not even for the same rows.
    np.testing.assert_array_equal(stream[np.array([99, 149])], X[[99, 149]])
    assert blocks.n_made == 4


def test_rows_that_are_derived():
    """In every pass to its end, though the last rows are not in use; then left."""
    X = make_data(N_ROWS)
    stream, blocks = stream_of(X)
    used = np.arange(0, N_ROWS - 20, 3)
    rows = StreamedRows(stream, used, np.zeros(X.shape[1]), 2.0)

    def doubled(rows, factor):
        values = factor * rows.values.reshape(rows.n_rows, -1)
        return rows_module.make_rows(values, np.zeros(X.shape[1]), 1.0)

    with contextlib.ExitStack() as on_close:
        derived = rows.derive(on_close, doubled, 2.0)
        for _ in range(2):
            values = derived.part(slice(0, len(used))).values
            np.testing.assert_array_equal(values, 2.0 * X[used].ravel())
            assert blocks.n_made == blocks.n_closed
        derived.part(slice(0, 5))
        assert derived.stream._blocks is not None
    assert derived.stream._blocks is None


def test_nan_is_the_same_in_each_pass():
    """Codes of a layer may have some."""
    X = np.full((5, 2), np.nan)
    stream = RowStream(lambda: [X], as_matrix)
    for _ in range(2):
        np.testing.assert_array_equal(stream[slice(0, 5)], X)


def test_rows_of_one_block_are_not_copied():
    X = make_data(N_ROWS)
    stream, _ = stream_of(X)
    assert np.shares_memory(stream[slice(60, 130)], X)
    assert not np.shares_memory(stream[slice(130, 145)], X)


def test_a_sparse_block_is_cut_once():
    """However many pieces are asked for, they have each of its rows once."""
    n_cut = 0

    class Counted(sparse.csr_matrix):
        def __getitem__(self, rows):
            nonlocal n_cut
            found = super().__getitem__(rows)
            n_cut += found.shape[0]
            return found

    X = sparse.csr_matrix(make_data(N_ROWS))
    stream, _ = stream_of(Counted(X), ())
    for ask in (lambda rows: rows, lambda rows: np.arange(N_ROWS)[rows]):
        n_cut = 0
        for start in range(0, N_ROWS, 10):
            rows = ask(slice(start, start + 10))
            np.testing.assert_array_equal(stream[rows].toarray(), X[rows].toarray())
        assert n_cut == 1 + N_ROWS  # the first is compared
    n_cut = 0
    assert stream[slice(100, 102)].shape[0] == 2  # none of those before
    assert n_cut == 1 + 2


def test_few_rows_of_many_take_no_memory():
    block = np.random.default_rng(0).random((50_000, 20), dtype=np.float32)
    stream = RowStream(lambda: itertools.repeat(block, 10), lambda block, _: block)
    tracemalloc.start()
    try:
        rows = stream[np.array([3, 200_000, 499_999])]
        kept = stream.spool(np.arange(3, 500_000, 5_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(rows, block[[3, 0, 49_999]])
    np.testing.assert_array_equal(kept, np.tile(block[3::5_000], (10, 1)))
    assert peak < block.nbytes / 4


def is_mapped(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


NUMBERS = np.flatnonzero(np.random.default_rng(0).random(N_ROWS) < 0.3)


def test_spooled_rows(tmp_path, monkeypatch, small_parts):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    X = make_data(N_ROWS)
    stream, _ = stream_of(X)
    kept = stream.spool(NUMBERS)
    assert is_mapped(kept)
    np.testing.assert_array_equal(kept, X[NUMBERS])
    assert temporary_files(tmp_path)
    del kept
    assert temporary_files(tmp_path) == []


@pytest.mark.parametrize("columns_type", [np.int32, np.int64])
def test_spooled_sparse_rows(columns_type, tmp_path, monkeypatch, small_parts):
    """Their entries, not their zeros."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    X = sparse.csr_array(typed(make_data(N_ROWS), "csr", np.float32))
    X.indices, X.indptr = X.indices.astype(columns_type), X.indptr.astype(columns_type)
    stream, _ = stream_of(X)
    kept, expected = stream.spool(NUMBERS), X[NUMBERS]
    assert sparse.issparse(kept)
    for name in ("data", "indices"):
        array = getattr(kept, name)
        assert is_mapped(array)
        np.testing.assert_array_equal(array, getattr(expected, name))
    assert (kept.dtype, kept.indices.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(kept.toarray(), expected.toarray())
    assert temporary_files(tmp_path)
    del kept, array
    assert temporary_files(tmp_path) == []


def test_spooled_rows_without_entries():
    X = sparse.csr_matrix((N_ROWS, 6))
    stream, _ = stream_of(X)
    kept = stream.spool(NUMBERS)
    assert kept.nnz == 0
    np.testing.assert_array_equal(kept.toarray(), np.zeros((len(NUMBERS), 6)))


def test_a_full_disk_is_an_error():
    """Not SIGBUS."""
    stream, blocks = stream_of(make_data(N_ROWS))

    class Full(contextlib.nullcontext):
        def write(self, data):
            raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", lambda: Full(Full()))
        with pytest.raises(OSError, match="No space left"):
            stream.spool(np.arange(10))
    stream.close()
    assert blocks.n_made == blocks.n_closed


@pytest.mark.parametrize("subset", [None, np.flatnonzero(np.arange(N_ROWS) % 3)])
@pytest.mark.parametrize("batch_size", [1, 7, 22, 1000])
def test_windows_are_whole_mini_batches(batch_size, subset, small_parts):
    X = make_data(N_ROWS)
    stream, _ = stream_of(X)
    rows = StreamedRows(stream, subset, np.zeros(6), 1.0)
    used = np.arange(N_ROWS) if subset is None else subset
    windows = [*rows.windows(batch_size)]
    first = rows.first_window(batch_size)
    assert first.n_rows == max(window.n_rows for *_, window in windows)
    np.testing.assert_array_equal(first.values, windows[0][-1].values)
    assert [number for number, *_ in windows] == [*range(len(windows))]
    n_before = 0
    for number, start, window in windows:
        assert start == n_before
        n_before += window.n_rows
        if number + 1 < len(windows):
            assert window.n_rows % batch_size == 0
            assert window.n_rows <= max(22, batch_size)
        here = used[start:n_before]
        np.testing.assert_array_equal(window.values.reshape(-1, 6), X[here])
        numbers = window.numbers
        if not numbers.size:
            numbers = window.first_number + np.arange(window.n_rows)
        np.testing.assert_array_equal(numbers, here)
    assert n_before == rows.n_rows == len(used)


def test_more_rows_behind_the_last_that_are_trained_on():
    """An epoch reads them, though it has no use for them."""
    X = make_data(20)
    stream = RowStream(Later(X, others=[X, X[:2]], from_pass=2), as_matrix)
    rows = StreamedRows(stream, np.arange(15), np.zeros(6), 1.0)
    with pytest.raises(ValueError, match="gave 22 rows, and 20 the first time"):
        [*rows.windows(5)]


def rows_with_entries(n_rows, n_entries, n_features=1000):
    """A CSR matrix that has so many entries in every row."""
    rng = np.random.default_rng(0)
    columns = [rng.choice(n_features, n_entries, replace=False) for _ in range(n_rows)]
    rows = np.repeat(np.arange(n_rows), n_entries)
    where = rows, np.concatenate(columns)
    values = rng.random(n_rows * n_entries)
    return sparse.csr_matrix((values, where), shape=(n_rows, n_features))


@pytest.mark.parametrize("n_entries", [0, 1, 3, 20])
def test_windows_of_sparse_rows_have_so_many_entries(n_entries, monkeypatch):
    """Zeros are not counted; a row of nothing else as one entry."""
    monkeypatch.setattr(stream_module, "_WINDOW_ENTRIES", 100)
    stream, _ = stream_of(rows_with_entries(N_ROWS, n_entries))
    windows = StreamedRows(stream, None, np.zeros(1000), 1.0).windows(5)
    sizes = [window.n_rows for *_, window in windows]
    size = {0: 100, 1: 100, 3: 30, 20: 5}[n_entries]
    assert sizes == [size] * (N_ROWS // size) + [N_ROWS % size] * (N_ROWS % size > 0)


def test_windows_of_sparse_rows_of_several_lengths(monkeypatch):
    """Their mean counts."""
    monkeypatch.setattr(stream_module, "_WINDOW_ENTRIES", 100)
    parts = rows_with_entries(100, 1), rows_with_entries(50, 4)
    stream, _ = stream_of(sparse.vstack(parts, format="csr"))
    assert stream.row_entries == 2
    rows = StreamedRows(stream, None, np.zeros(1000), 1.0)
    assert [window.n_rows for *_, window in rows.windows(5)] == [50, 50, 50]
    assert stream_of(parts[0][:, :3].toarray(), ())[0].row_entries == 3


def test_sparse_data_of_one_window_are_shuffled_as_in_fit(monkeypatch):
    X = rows_with_entries(N_ROWS, 3, n_features=100)
    monkeypatch.setattr(stream_module, "_WINDOW_ENTRIES", 3 * 154)  # 22 mini-batches
    streamed = make("minibatch", scale=None).fit_batches(Blocks.of(X))
    assert_same_training(streamed, make("minibatch", scale=None).fit(X))


# -- memory ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"solver": "lbfgs", "hidden_layer_sizes": (4,)},
        {"pretrain": "layerwise", "hidden_layer_sizes": (100,)},
    ],
)
def test_memory_does_not_grow_with_the_rows(changes):
    """300 MB, with default parameters but for the number of epochs."""
    rng, n_blocks = np.random.default_rng(0), 75
    block = rng.random((10_000, 100), dtype=np.float32)
    n_bytes = n_blocks * block.nbytes

    def blocks():
        for i in range(n_blocks):
            yield block * np.float32(1 + i / n_blocks)

    estimator = AutoencoderTransformer(max_iter=1, random_state=0, **changes)
    estimator.fit(block[:100])  # compiles
    tracemalloc.start()
    try:
        estimator.fit_batches(blocks)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert n_bytes == 300 * 10**6
    assert peak < 0.4 * n_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(
    ("dtype", "solver", "offset", "n_copies"),
    [("f4", "adam", 0, 0), ("f4", "adam", 3, 1), ("f8", "lbfgs", 0, 0)],
)
def test_a_memory_map_is_fitted_in_place(dtype, solver, offset, n_copies, tmp_path):
    """256 MB: what the process allocates, NumPy or not. Unaligned, a copy."""
    code = """
import json, sys, threading, time, warnings
import numpy as np
from skae import AutoencoderTransformer

def allocated():
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return 1024 * int(fields["RssAnon"].split()[0])

warnings.simplefilter("ignore")
offset, dtype, solver = int(sys.argv[2]), np.dtype(sys.argv[3]), sys.argv[4]
n_rows = 256 * 10**6 // (100 * dtype.itemsize)
X = np.memmap(sys.argv[1], dtype, "w+", offset, shape=(n_rows, 100))
for start in range(0, len(X), 10_000):
    X[start : start + 10_000] = np.random.default_rng(start).random((10_000, 100))
X.flush()
estimator = AutoencoderTransformer(max_iter=1, solver=solver, random_state=0)
estimator.fit(X[:100])
before = peak = allocated()
done = threading.Event()

def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, allocated())

watcher = threading.Thread(target=watch)
watcher.start()
estimator.fit(X)
done.set()
watcher.join()
print(json.dumps([peak - before, X.nbytes]))
"""
    grown, n_bytes = json.loads(
        run_python(code, tmp_path / "rows", offset, dtype, solver)
    )
    assert n_bytes == 256 * 10**6
    assert grown < (n_copies + 0.5) * n_bytes


@pytest.mark.parametrize("offset", [0, 3])
def test_a_memory_map_is_aligned_where_it_is_validated(offset, tmp_path):
    """So that nothing behind that copies it again, and nothing what is aligned."""
    X = np.memmap(tmp_path / "rows", np.float32, "w+", offset, shape=(60, 6))
    X[:] = make_data()
    validated = make("adam")._validate_rows(X, reset=True)
    assert np.shares_memory(validated, X) == (offset == 0)
    rows = rows_module.make_rows(validated, np.zeros(6), 1.0)
    assert np.shares_memory(rows.values, validated)


# -- files -----------------------------------------------------------------------------


@pytest.fixture
def table():
    return make_data(5_000).astype(np.float32)


def assert_reads(blocks, X):
    how = {"max_iter": 3, "shuffle": False}
    streamed = make("default", **how).fit_batches(blocks)
    assert_same_training(streamed, make("default", **how).fit(X))
    assert reconstruction_r2(streamed, X) > 0


def test_hdf5(table, tmp_path, small_parts):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file.create_dataset("rows", data=table, chunks=(700, 6), compression="gzip")

    def blocks():
        with h5py.File(tmp_path / "rows.h5") as file:
            rows = file["rows"]
            for start in range(0, len(rows), 700):
                yield rows[start : start + 700]

    assert_reads(blocks, table)
    # Files that were left open could not be opened to write.
    with h5py.File(tmp_path / "rows.h5", "a") as file:
        file["rows"][0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        make("default").fit_batches(blocks)
    with h5py.File(tmp_path / "rows.h5", "a"):
        pass


def test_zarr(table, tmp_path, small_parts):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    path = str(tmp_path / "rows.zarr")
    rows = zarr.create_array(path, shape=table.shape, chunks=(700, 6), dtype="float32")
    rows[:] = table

    def blocks():
        rows = zarr.open_array(path, mode="r")
        for start in range(0, rows.shape[0], rows.chunks[0]):
            yield rows[start : start + rows.chunks[0]]

    assert_reads(blocks, table)


def test_parquet(table, tmp_path, small_parts):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    frame = pandas.DataFrame(table, columns=list("abcdef"))
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=999)

    def blocks():
        with parquet.ParquetFile(tmp_path / "rows.parquet") as file:
            for batch in file.iter_batches(batch_size=700):
                yield batch.to_pandas()

    assert_reads(blocks, frame)


def test_memory_map(table, tmp_path, small_parts):
    np.save(tmp_path / "rows.npy", table)
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert_reads(lambda: np.array_split(rows, 7), table)
    assert_same_fit(make("default").fit(rows), make("default").fit(table))
