"""What a fit prints, and how often."""

import inspect
import warnings

import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer
from skae._compiled.kernels import INTERRUPTED
from skae._training import loop
from skae._training.loop import Curves
from skae._training.reporting import (
    JoinedReports,
    TrainingInterruptedWarning,
    VerboseReport,
    readable_interval,
    warn,
)

from .cases import make_data


@pytest.mark.parametrize(
    ("max_iter", "interval"),
    [
        (1, 1),
        (20, 1),
        (21, 2),
        (40, 2),
        (41, 5),
        (200, 10),
        (1000, 50),
        (10**6, 50_000),
    ],
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


class Recorder:
    def __init__(self, every, answer=False):
        self.every, self.answer, self.calls = every, answer, []

    def epochs_to_next(self, n_done):
        return self.every - n_done % self.every

    def begin(self, max_iter):
        self.calls.append(("begin", max_iter))

    def end(self, curves, *, is_last):
        self.calls.append((curves, is_last))
        return self.answer


@pytest.mark.parametrize("answers", [(False, False), (True, False), (False, True)])
def test_joined_reports_are_all_told_and_each_can_stop(answers):
    reports = [
        Recorder(every, answer) for every, answer in zip((3, 2), answers, strict=True)
    ]
    joined = JoinedReports(reports)
    assert [joined.epochs_to_next(n) for n in range(4)] == [2, 1, 1, 1]
    joined.begin(7)
    curves = Curves([0.5], [], [])
    assert joined.end(curves, is_last=False) == any(answers)
    for report in reports:
        assert report.calls == [("begin", 7), (curves, False)]


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
