"""What a fit prints, and how often."""

import inspect
import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer
from skae._compiled.epochs import INTERRUPTED
from skae._training import loop
from skae._training.reporting import (
    Curves,
    TrainingInterruptedWarning,
    VerboseReport,
    readable_interval,
    warn,
)
from skae.metrics import reconstruction_r2

from .support.cases import make, make_data
from .support.fits import assert_same_fit
from .support.watcher import Watcher


@pytest.mark.parametrize(
    ("max_iter", "interval"),
    [(1, 1), (20, 1), (21, 2), (40, 2), (41, 5), (200, 10), (10**6, 50_000)],
)
def test_interval_is_round_and_gives_few_lines(max_iter, interval):
    assert readable_interval(max_iter) == interval
    assert max_iter / interval <= 20


def test_lines_name_epoch_loss_and_validation_loss(capsys):
    report = VerboseReport("Auto", 100, every_epoch=False)
    report.begin(30)
    for n_done in (1, 2, 5, 9, 10, 11):
        validation_curve = [2.0] * n_done if n_done > 1 else []
        curves = Curves([1 / n_done] * n_done, validation_curve, [])
        assert not report.end(curves, is_last=False)
    report.end(Curves([0.1], [], []), is_last=True)
    assert capsys.readouterr().out.splitlines() == [
        "[Auto] epoch 101/130  loss 1",
        "[Auto] epoch 102/130  loss 0.5  validation loss 2",
        "[Auto] epoch 110/130  loss 0.1  validation loss 2",
        "[Auto] epoch 101/130  loss 0.1",
    ]


def test_slow_epochs_get_more_lines(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    report = VerboseReport("Auto", 0, every_epoch=False)
    report.begin(10_000)
    for n_done in range(1, 14):
        now += 1.0
        report.end(Curves([0.5] * n_done, [], []), is_last=False)
    epochs = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert epochs == ["1/10000", "6/10000", "11/10000"]


def _search(estimator, X):
    grid = {"alpha": [0.0, 0.1]}
    return GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(X)


@pytest.mark.parametrize(
    "call",
    [
        lambda estimator, X: estimator.fit(X),
        lambda estimator, X: estimator.fit_transform(X),
        lambda estimator, X: estimator.fit_batches(lambda: [X]),
        lambda estimator, X: make_pipeline(MinMaxScaler(), estimator).fit(X),
        lambda estimator, X: make_pipeline(MinMaxScaler(), estimator).fit_transform(X),
        _search,
    ],
)
@pytest.mark.parametrize(
    "kind", [AutoencoderTransformer, VariationalAutoencoderTransformer]
)
def test_warnings_point_to_the_users_line(kind, call):
    estimator = kind(hidden_layer_sizes=(3,), max_iter=1, learning_rate="constant")
    if kind is AutoencoderTransformer:
        estimator.set_params(init="random", early_stopping=False)
    with pytest.warns(ConvergenceWarning) as caught:
        call(estimator, make_data(80))
    lines, first = inspect.getsourcelines(call)
    for warning in caught:
        assert warning.filename == __file__
        assert first <= warning.lineno < first + len(lines)


def test_warning_of_an_interrupt_points_to_the_users_line(monkeypatch):
    run = loop.run

    def interrupted(*args):
        return INTERRUPTED, run(*args)[1]

    monkeypatch.setattr(loop, "run", interrupted)
    estimator = AutoencoderTransformer(hidden_layer_sizes=(3,), max_iter=2)
    with pytest.warns(TrainingInterruptedWarning) as caught:
        estimator.fit(make_data())
    assert [warning.filename for warning in caught] == [__file__]


def test_a_warning_without_a_users_line():
    names = {"__name__": "skae.nothing", "warn": warn}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec("def tell():\n    warn('here')", names)
        names["tell"]()
    assert [warning.filename for warning in caught] == [__file__]


LINE = re.compile(
    r"\[AutoencoderTransformer\] epoch +(\d+)/(\d+)  loss (\S+)"
    r"(?:  validation loss (\S+))?"
)


@pytest.mark.parametrize(
    ("name", "max_iter"), [("minibatch", 1), ("early_stopping", 150), ("lbfgs", 7)]
)
def test_verbose(name, max_iter, capsys):
    estimator = make(name, verbose=True, max_iter=max_iter, tol=0)
    estimator.set_params(n_iter_no_change=np.inf).fit(make_data())
    *lines, end = capsys.readouterr().out.splitlines()
    assert end.startswith("[AutoencoderTransformer] end: ")
    assert min(5, max_iter) <= len(lines) <= 25
    curve = getattr(estimator, "validation_loss_curve_", None)
    for line in lines:
        epoch, last, loss, validation_loss = LINE.fullmatch(line).groups()
        assert int(last) == max_iter
        index = int(epoch) - 1
        assert float(loss) == pytest.approx(estimator.loss_curve_[index], rel=1e-5)
        assert (validation_loss is None) == (curve is None)
        if curve is not None:
            assert float(validation_loss) == pytest.approx(curve[index], rel=1e-5)
    epochs = [int(LINE.fullmatch(line).group(1)) for line in lines]
    assert epochs == sorted(set(epochs))
    assert epochs[0] == 1


def test_verbose_every_epoch(capsys):
    X = make_data()
    estimator = make("adam", verbose=2, max_iter=50, warm_start=True).fit(X)
    assert len(LINE.findall(capsys.readouterr().out)) == 50
    estimator.fit(X)
    epochs = [m.group(1, 2) for m in LINE.finditer(capsys.readouterr().out)]
    assert epochs[0] == ("51", "100")
    assert epochs[-1] == ("100", "100")


def test_progress_does_not_change_the_result(capsys):
    X = make_data()
    for name in ("minibatch", "early_stopping", "lbfgs"):
        quiet = make(name).fit(X)
        assert capsys.readouterr().out == ""
        for verbose in (True, 3):
            assert_same_fit(make(name, verbose=verbose).fit(X), quiet)
            assert capsys.readouterr().out


@pytest.mark.parametrize("name", ["minibatch", "early_stopping", "lbfgs"])
def test_callbacks_see_every_epoch(name, callback):
    X = make_data()
    estimator = make(name, max_iter=6)
    plain = clone(estimator).fit(X)
    watcher = Watcher()
    estimator.set_callbacks(watcher).fit(X)
    assert_same_fit(estimator, plain)
    assert watcher.n_set_up == watcher.n_torn_down == 1
    assert watcher.n_begun == len(watcher.seen) == 7
    *epochs, last = watcher.seen
    assert [epoch[0] for epoch in epochs] == ["epoch"] * 6
    assert [epoch[1] for epoch in epochs] == list(range(6))
    assert [epoch[2] for epoch in epochs] == plain.loss_curve_
    assert all(epoch[-1] for epoch in watcher.seen)
    assert last[0] == "fit"
    assert last[3] == plain.score(X)


def test_callback_stops(callback, capsys):
    """Beside lines that are fewer than the epochs that a callback is told of."""
    X, weights = make_data(), np.arange(60.0)
    watcher = Watcher(stop_after=3)
    estimator = make("minibatch", max_iter=50, verbose=1).set_callbacks(watcher)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        estimator.fit(X, sample_weight=weights)
    assert estimator.n_iter_ == 3
    assert LINE.findall(capsys.readouterr().out)[0][:2] == ("1", "50")
    expected = make("minibatch", max_iter=3).fit(X, sample_weight=weights)
    assert_same_fit(estimator, expected)
    assert watcher.seen[0][4]["sample_weight"] is weights


def test_failing_fit_with_callbacks(callback):
    X = make_data()
    watcher = Watcher()
    estimator = make("sgd_momentum", learning_rate_init=1e6).set_callbacks(watcher)
    with pytest.raises(ValueError, match="diverged"):
        estimator.fit(X)
    assert not hasattr(estimator, "n_features_in_")
    assert watcher.n_torn_down == 1


class FailsWhenTrained(Watcher):
    """Raises an error, or Ctrl-C, when training has ended."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "fit":
            raise self.error


@pytest.mark.parametrize(
    ("error", "n_fits"), [(ZeroDivisionError, 0), (KeyboardInterrupt, 1)]
)
def test_a_callback_that_fails_when_training_has_ended(callback, error, n_fits):
    """What was trained is there, and knows the columns that it was trained on."""
    X = make_data()
    estimator = make("minibatch")
    for _ in range(n_fits):
        estimator.fit(np.c_[X, X])
    estimator.set_callbacks(FailsWhenTrained(error))
    with pytest.raises(error):
        estimator.fit(X)
    assert_same_fit(estimator, make("minibatch").fit(X))
    assert estimator.n_features_in_ == X.shape[1]
    with pytest.raises(ValueError, match="features"):
        estimator.transform(X[:, :-1])


def search_with(step, **params):
    name = "autoencodertransformer__n_components"
    return GridSearchCV(
        make_pipeline(StandardScaler(), step), {name: [1, 2]}, cv=2, **params
    )


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_scoring_monitor_through_a_grid_search(callback, n_jobs):
    monitor = callback.ScoringMonitor(scoring={"score": reconstruction_r2})
    step = make("adam", max_iter=4).set_callbacks(monitor)
    search_with(step, n_jobs=n_jobs).fit(make_data(), np.zeros(60))
    rows = [row for log in monitor.get_logs("all") for row in log.data]
    epochs = [row for row in rows if row["task_name"] == "epoch"]
    assert len(epochs) == 4 * (2 * 2 + 1)  # epochs, candidates, folds, and the refit
    assert all(np.isfinite(row["score"]) and row["score"] <= 1 for row in epochs)


def test_progress_bar_through_a_grid_search(callback, capsys, monkeypatch):
    pytest.importorskip("rich", reason="rich, which draws the bars, is not installed")
    monkeypatch.setenv("COLUMNS", "200")
    X = make_data()
    search = search_with(make("adam", max_iter=4))
    search.set_callbacks(callback.ProgressBar(max_propagation_depth=None)).fit(X)
    output = capsys.readouterr().out
    for name in ("GridSearchCV", "Pipeline", "AutoencoderTransformer"):
        assert name in output
    expected = search_with(make("adam", max_iter=4)).fit(X)
    assert_same_fit(search.best_estimator_[-1], expected.best_estimator_[-1])


@pytest.mark.parametrize(
    "params", [{}, {"validation_fraction": 0.01}], ids=["few", "one held out"]
)
def test_who_stays_at_pca_announces_one_epoch(params, capsys):
    X = make_data(100 if params else 39)
    estimator = AutoencoderTransformer(1, verbose=True, random_state=0, **params)
    estimator.fit(X)
    assert estimator.n_iter_ == 1
    assert "1/1 " in capsys.readouterr().out
    pca = PCA(1).fit(X)
    assert estimator.score(X) == pytest.approx(pca.explained_variance_ratio_.sum())
