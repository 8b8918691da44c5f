"""What a fit prints, and how often."""

import pytest

from skae._reporting import JoinedReports, VerboseReport, readable_interval
from skae._training import Curves


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
