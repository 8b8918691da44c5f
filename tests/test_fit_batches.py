"""fit_batches: the same as fit, whatever the blocks."""

import itertools
import signal
import tempfile

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from skae import AutoencoderTransformer
from skae._compiled import epochs
from skae._data import stream as stream_module
from skae._model import pca
from skae._training import loop

from .support.blocks import (
    N_ROWS,
    Blocks,
    Later,
    assert_same_training,
    has_no_temporary_files,
    typed,
)
from .support.cases import (
    ALL_CASES,
    data_for,
    draws_for_rows,
    make,
    make_data,
    names_of,
)
from .support.interrupts import warns_of_interrupt
from .support.memory import peak_memory
from .support.tables import lacking, make_table

# -- the same as fit -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "kind"), [(np.float64, "dense"), (np.float32, "csr")]
)
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


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("cautious", "dense"), ("minibatch", "csr"), ("masking_noise", "dense")),
        *(("variational", "csr"), ("lbfgs", "dense")),
    ],
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
        if kernel is epochs.train_part:
            progress = self.state.progress
            key = progress.n_epochs, progress.part
            order = self._workspace.order[: rows.n_rows].copy()
            orders.append((key, progress.n_before, order))
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
    # A mini-batch may be larger than a window.
    orders = orders_of(make("minibatch", batch_size=60, max_iter=1), X, monkeypatch)
    assert [len(order) for *_, order in orders][-3:] == [60, 60, 30]


@pytest.mark.parametrize("is_iterated", [False, True])
@pytest.mark.parametrize(
    ("changes", "n_others"),
    [
        ({}, 10),
        ({"init": "random", "early_stopping": True}, 8),
        ({"early_stopping": False}, 7),
        ({"early_stopping": False, "noise": "masking"}, 7),
    ],
)
def test_number_of_passes(changes, n_others, is_iterated, small_parts, monkeypatch):
    """As documented: 7 to 11 besides the epochs, 7 more for PCA of many features."""
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
        ("minibatch", {"learning_rate": "cosine"}),
        *(("minibatch", {}), ("default", {}), ("lbfgs", {})),
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


def test_tuples_of_rows_are_no_pairs():
    X = (10 * make_data(N_ROWS)).astype(int)
    rows = [tuple(row) for row in X.tolist()]
    streamed = make("adam").fit_batches(lambda: [tuple(rows[:70]), (), rows[70:], []])
    assert_same_training(streamed, make("adam").fit(X.astype(np.float64)))


# -- errors ----------------------------------------------------------------------------


def with_bad(value):
    X = make_data(20)
    X[7, 3] = value
    return X


def broken(X):
    yield X
    raise OSError("the disk is gone")


FIRST = make_data(100)
BAD_BLOCKS = {
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


@pytest.fixture
def refuses(tmp_path, monkeypatch):
    """Function that expects an error of fit_batches, which changes nothing else."""

    def check(estimator, blocks, error, message):
        before = joblib.hash(vars(estimator))
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(tmp_path))
            with pytest.raises(error, match=message):
                estimator.fit_batches(blocks)
        assert joblib.hash(vars(estimator)) == before
        assert has_no_temporary_files(tmp_path)

    return check


@pytest.mark.parametrize("from_pass", [1, 2, 6])
@pytest.mark.parametrize("name", BAD_BLOCKS)
def test_bad_blocks(name, from_pass, refuses):
    bad, error, message = BAD_BLOCKS[name]
    estimator = make("early_stopping")
    if from_pass == 2:
        estimator.fit(make_data(50, 4))
    blocks = Later(FIRST, make_data(20), others=[FIRST, bad], from_pass=from_pass)
    refuses(estimator, blocks, error, message)
    assert blocks.n_made == blocks.n_closed == from_pass


@pytest.mark.parametrize(
    ("name", "from_pass", "kind"),
    [("adam", 2, "dense"), ("default", 3, "csr"), ("lbfgs", 6, "dense")],
)
def test_other_rows(name, from_pass, kind, refuses):
    """As of a loader that mixes them anew in each pass."""
    X = typed(make_data(N_ROWS), kind, np.float64)
    mixed = X[np.random.default_rng(0).permutation(N_ROWS)]
    blocks = Later(X[:90], X[90:], others=[X[:0], mixed], from_pass=from_pass)
    estimator = make(name)
    message = r"other rows, .* same order, each time; fit_batches mixes them itself"
    refuses(estimator, blocks, ValueError, message)
    assert blocks.n_made == blocks.n_closed == from_pass


@pytest.mark.parametrize(
    "limited", [{"loss": "log_loss"}, {"output_activation": "logistic"}]
)
@pytest.mark.parametrize("from_pass", [1, 2, 5])
def test_values_out_of_range(from_pass, limited, refuses):
    X = make_data(N_ROWS, loss="log_loss")
    blocks = Later(X[:90], X[90:], others=[X[:90], 3 * X[90:]], from_pass=from_pass)
    estimator = make("adam", **limited)
    refuses(estimator, blocks, ValueError, r"Values above 1 .* from 0(\.0)? to 3")
    assert blocks.n_made == blocks.n_closed == from_pass


@pytest.mark.parametrize("from_pass", [1, 2])
def test_other_columns(from_pass, refuses):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(make_data(100), columns=list("abcdef"))
    other = frame.rename(columns={"f": "z"})
    blocks = Later(frame, frame, others=[frame, other], from_pass=from_pass)
    estimator = make("adam")
    refuses(estimator, blocks, ValueError, "feature names should match")
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
@pytest.mark.parametrize(
    ("name", "from_pass"), [("adam", 2), ("default", 3), ("adam", 4), ("lbfgs", 6)]
)
def test_other_numbers_of_rows(name, from_pass, others, n_rows, refuses):
    blocks = Later(FIRST, make_data(20), others=others, from_pass=from_pass)
    estimator, message = make(name), f"gave {n_rows} rows, and 120 the first time"
    refuses(estimator, blocks, ValueError, message)
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
def test_not_a_function_that_returns_blocks(make_batches, error, message, refuses):
    estimator = make("adam")
    refuses(estimator, make_batches, error, message)


@pytest.mark.parametrize("from_pass", [1, 4])
def test_errors_of_the_generator_pass_through(from_pass, refuses):
    others = broken(FIRST)
    blocks = Later(FIRST, make_data(20), others=others, from_pass=from_pass)
    refuses(make("early_stopping"), blocks, OSError, "the disk is gone")
    assert blocks.n_made == blocks.n_closed == from_pass


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cautious", {}),
        ("lbfgs", {}),
        ("pretrained", {"early_stopping": True, "validation_fraction": 0.5}),
        # With this seed the last row is held out: no epoch reads that far.
        ("early_stopping", {"validation_fraction": 0.5, "random_state": 5}),
    ],
)
def test_one_generator_is_open_at_a_time(name, changes, small_parts):
    """Closed, not only forgotten."""
    blocks, held = Blocks.of(make_data(N_ROWS)), []

    def make_batches():
        assert blocks.n_made == blocks.n_closed
        held.append(blocks())
        return held[-1]

    estimator = make(name, **changes).fit_batches(make_batches)
    assert blocks.n_made == blocks.n_closed == len(held) > estimator.n_iter_


def test_neither_divergence_nor_a_fit_leaves_a_file(refuses, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    estimator = make("cautious").fit_batches(Blocks.of(make_data(N_ROWS)))
    assert hasattr(estimator, "validation_loss_curve_")
    assert has_no_temporary_files(tmp_path)
    estimator, blocks = make("sgd_momentum", learning_rate_init=1e6), Blocks.of(FIRST)
    refuses(estimator, blocks, ValueError, "diverged")
    assert blocks.n_made == blocks.n_closed > 0


def test_other_architectures_and_x_val_are_refused():
    estimator = make("adam", warm_start=True).fit_batches(Blocks.of(FIRST, (50,)))
    before = joblib.hash(vars(estimator))
    with pytest.raises(ValueError, match="X has 4 features"):
        estimator.fit_batches(Blocks.of(FIRST[:, :4], (50,)))
    with pytest.raises(ValueError, match="X_val has 4 features"):
        estimator.fit_batches(Blocks.of(FIRST, (50,)), X_val=FIRST[:, :4])
    assert joblib.hash(vars(estimator)) == before
    estimator.set_params(n_components=3)
    with pytest.raises(ValueError, match="cannot continue training"):
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


@pytest.mark.parametrize(
    ("name", "before"),
    [("minibatch", 0), ("cautious", 1), ("lbfgs", 3), ("variational", 1)],
)
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
        n_run += kernel is epochs.train_part
        if kernel is epochs.train_part and n_run == 12:
            return epochs.INTERRUPTED
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


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"solver": "lbfgs", "hidden_layer_sizes": (4,)},
        {"pretrain": "layerwise", "hidden_layer_sizes": (100,)},
    ],
)
def test_memory_does_not_grow_with_the_rows(changes, monkeypatch):
    """100 MB in windows of 16, with default parameters except the number of epochs."""
    monkeypatch.setattr(stream_module, "_WINDOW_ENTRIES", 2**22)
    rng, n_blocks = np.random.default_rng(0), 50
    block = rng.random((10_000, 50), dtype=np.float32)
    n_bytes = n_blocks * block.nbytes

    def blocks():
        for i in range(n_blocks):
            yield block * np.float32(1 + i / n_blocks)

    estimator = AutoencoderTransformer(max_iter=1, random_state=0, **changes)
    estimator.fit(block[:100])  # compiles
    assert n_bytes == 10**8
    assert peak_memory(lambda: estimator.fit_batches(blocks)) < 0.6 * n_bytes


# -- tables with categories ------------------------------------------------------------

AS_BLOCKS = {
    "text": lambda table: table.astype({"size": object}),
    "category": lambda table: table,
    # Nothing is known of one column in the first block, which has text in others.
    "objects": lambda table: (
        table.astype(object).assign(id=[None, *"ab" * (len(table) // 2)][: len(table)])
    ).to_numpy(),
    "polars": lambda table: pl.from_pandas(table.astype({"size": object})),
}


@pytest.mark.parametrize("kind", AS_BLOCKS)
def test_tables_are_fitted_bit_for_bit(kind, small_parts):
    """Also levels that only occur in the last block, as categories of its own dtype."""
    table = lacking(make_table(N_ROWS), share=0.05)
    table.loc[:139, "city"] = table["city"].mask(table["city"] == "Nice")[:140]
    table.loc[[145, 146], "city"] = "Lima", "Nice"
    table.loc[:2, "large"] = None  # nothing is known of objects without entries
    X, X_val = AS_BLOCKS[kind](table), AS_BLOCKS[kind](make_table(40, seed=5))
    blocks = Blocks.of(X)
    if kind == "category":
        of_blocks = [b.assign(size=b["size"].astype(object)) for b in blocks.blocks]
        to_category = {"size": "category", "city": "category"}
        blocks = Blocks(*(block.astype(to_category) for block in of_blocks))
        X = X.astype(to_category)
    kwargs = {"max_iter": 3, "shuffle": False, "random_state": 0, "max_categories": 4}
    fit_params = {"groups": np.arange(N_ROWS) // 3}
    for more in ({}, {"X_val": X_val}):
        whole = AutoencoderTransformer(2, **kwargs).fit(X, **fit_params, **more)
        streamed = AutoencoderTransformer(2, **kwargs)
        streamed.fit_batches(blocks, **fit_params, **more)
        assert_same_training(streamed, whole)
        assert streamed.input_names_ == whole.input_names_
        assert blocks.n_made == blocks.n_closed
    code = whole.transform(X)
    np.testing.assert_array_equal(streamed.transform(X), code)
    back = [fit.inverse_transform(code) for fit in (streamed, whole)]
    if kind == "category":  # in the order of their alphabet
        back = [table.astype({"size": object, "city": object}) for table in back]
    if kind == "polars":
        assert back[0].equals(back[1])
    else:
        pd.testing.assert_frame_equal(*map(pd.DataFrame, back))


def test_tables_that_differ():
    table = make_table(60)
    first, second = table[:30], table[30:]
    for other, match in {
        "library": (
            pl.from_pandas(second),
            "differ in their library: pandas and then p",
        ),
        "columns": (second.rename(columns={"n": "m"}), "differ in their columns"),
        "number": (second.drop(columns="n"), "number of columns: 5 and then 4"),
        "array": (second.astype(object).to_numpy(), "library: pandas and then numpy"),
    }.values():
        estimator = AutoencoderTransformer()
        with pytest.raises(ValueError, match=match):
            estimator.fit_batches(lambda other=other: [first, other])
        assert not estimator._validated_attributes()


@pytest.mark.parametrize("text_is_first", [True, False])
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_column_of_text_and_of_numbers(library, text_is_first):
    """As files have that are read in parts; a part may have no value at all."""
    numbers = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0) ** 2})
    numbers = numbers.assign(c=numbers["a"] / 2)
    text = numbers.assign(c=[*["0.5"] * 19, "ERR"])
    empty = numbers.assign(c=np.full(20, np.nan))

    def blocks(other):
        parts = [text, other] if text_is_first else [other, text]
        return parts if library == "pandas" else [*map(pl.from_pandas, parts)]

    estimator = AutoencoderTransformer(1, early_stopping=False, max_iter=3)
    with pytest.raises(
        ValueError, match="Column 'c' has numbers in some of the tables"
    ):
        estimator.fit_batches(lambda: blocks(numbers))
    assert not estimator._validated_attributes()
    if library == "polars":  # whose columns have a type without values, too
        return
    estimator.fit_batches(lambda: blocks(empty))
    assert [*estimator.categories_[2]] == ["0.5", "ERR"]


def test_text_that_a_later_pass_has():
    numbers = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0) ** 2})
    n_made = itertools.count()

    def blocks():
        is_first = next(n_made) == 0
        return [numbers, numbers if is_first else numbers.assign(b="x")]

    with pytest.raises(ValueError, match="numbers in an earlier pass"):
        AutoencoderTransformer(1, max_iter=3).fit_batches(blocks)
