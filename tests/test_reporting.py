"""What a fit prints, and how often."""

import pytest

from skae._reporting import JoinedReports, VerboseReport, readable_interval


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
    report = VerboseReport("Auto", 30, 100, every_epoch=False)
    assert not report.end([0.5], [])
    assert not report.end([0.5] * 9 + [1 / 3], [2.0] * 10)
    assert capsys.readouterr().out.splitlines() == [
        "[Auto] epoch 101/130  loss 0.5",
        "[Auto] epoch 110/130  loss 0.333333  validation loss 2",
    ]


class Recorder:
    def __init__(self, every, answer=False):
        self.every, self.answer, self.epochs, self.n_begun = every, answer, [], 0

    def begin(self):
        self.n_begun += 1

    def end(self, loss_curve, validation_curve):
        self.epochs.append(len(loss_curve))
        return self.answer


def test_each_report_keeps_its_rhythm():
    often, seldom = Recorder(1), Recorder(5)
    joined = JoinedReports([often, seldom])
    assert joined.every == 1
    for n_done in range(1, 12):
        joined.begin()
        assert not joined.end([0.0] * n_done, [])
    assert often.epochs == list(range(1, 12))
    assert seldom.epochs == [1, 5, 10]
    assert often.n_begun == 11


def test_one_report_can_stop_but_all_are_told():
    first, second = Recorder(1, answer=True), Recorder(1)
    assert JoinedReports([first, second]).end([0.0], [])
    assert second.epochs == [1]
