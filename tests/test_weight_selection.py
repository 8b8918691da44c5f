"""Which weights are kept of a training that starts at the principal components."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from skae._data.rows import make_rows
from skae._training import weight_selection
from skae._training.loop import Kept
from skae._training.reporting import Curves
from skae._training.weight_selection import CautiousSelection, next_epoch


def test_epochs_become_rarer():
    epochs = [0]
    while epochs[-1] < 10_000:
        epochs.append(next_epoch(epochs[-1]))
    assert epochs[1:8] == [1, 2, 3, 4, 5, 6, 8]
    assert len(epochs) < 60
    ratios = np.array(epochs[20:]) / epochs[19:-1]
    assert (ratios < 1.25).all()
    # Whichever epoch one asks from.
    for n_epochs in range(200):
        assert next_epoch(n_epochs) == min(e for e in epochs if e > n_epochs)


class Stub:
    """A training of one parameter p; of held-out row i the loss is `losses(p)[i]`."""

    def __init__(self, losses, monkeypatch, *, on_training=None, weights=None):
        rows = make_rows(np.zeros((len(losses(0.0)), 1)), weights=weights)
        self.objective = SimpleNamespace(
            validation=rows, rows=None, loss=0, network=0, unit_weights=None
        )
        progress = SimpleNamespace(n_epochs=0)
        self.state = SimpleNamespace(params=np.zeros(1), progress=progress)
        self.on_training = on_training or (lambda p: -p)
        monkeypatch.setattr(
            weight_selection, "row_losses", lambda loss, network, p, *_: losses(p[0])
        )

    def values(self, candidates, rows):
        return [self.on_training(params[0]) for params in candidates]

    def train(self, selection, *values):
        curve = []
        for p in values:
            self.state.params[0] = p
            self.state.progress.n_epochs += 1
            curve.append(p)
            assert not selection.end(Curves(curve, [], []), is_last=False)
        return selection.kept_weights().params[0]


def kept(value):
    """Weights that an earlier fit kept."""
    return Kept(np.array([value]), 1, "selected")


FALLS = np.array([1.0, 2.0, 3.0, 2.5, 2.0, 6.0])


def steady(p):
    return 10 - p * FALLS


def bound(falls):
    """Lower end of the one-sided interval, by scipy, without the largest of few."""
    rest = np.where(falls == falls.max(), 0.0, falls)
    tests = [stats.ttest_1samp(f, 0, alternative="greater") for f in (falls, rest)]
    return min(test.confidence_interval(0.95).low for test in tests)


def test_gain_is_the_lower_end_of_a_confidence_interval(monkeypatch):
    assert UNSURE.mean() > 0 > bound(UNSURE)
    training = Stub(steady, monkeypatch)
    selection = CautiousSelection(training, np.zeros(1), 0)
    training.train(selection, 1.0)
    assert selection.gain == pytest.approx(bound(FALLS))
    assert selection.gain > 0


UNSURE = np.array([5.0, -1.0, 3.0, -2.0])
# Losses of the held-out rows and of those trained on, the weights, those that are kept.
KEPT = {
    "the surest": (lambda p: 10 - p * (4 - p) * FALLS, None, (0.5, 2, 3, 3.5), 2),
    "the start, not what is unsure": (lambda p: 10 - p * UNSURE, None, (1,), 0),
    "never what one row says": (lambda p: np.array([10 - p]), None, (1,), 0),
    "where training gains": (steady, lambda p: (p - 1) * p, (0.9,), 0.9),
    "not where it loses": (steady, lambda p: (p - 1) * p, (1.1,), 0),
    "not where it is infinite": (steady, lambda p: np.inf if p else 0.0, (1,), 0),
    "not where it is NaN": (steady, lambda p: np.nan if p else 0.0, (1,), 0),
    "no infinity": (lambda p: steady(p) if p != 2 else FALLS * np.inf, None, (1, 2), 1),
    "no NaN": (lambda p: steady(p) if p != 2 else FALLS * np.nan, None, (1, 2), 1),
}


@pytest.mark.parametrize(
    ("losses", "on_training", "weights", "kept"), KEPT.values(), ids=KEPT
)
def test_which_weights_are_kept(losses, on_training, weights, kept, monkeypatch):
    training = Stub(losses, monkeypatch, on_training=on_training)
    assert training.train(CautiousSelection(training, np.zeros(1), 0), *weights) == kept


def test_weights_now_count_but_only_now(monkeypatch):
    """Between two epochs of judgement: a longer training would not have seen them."""
    training = Stub(steady, monkeypatch)
    selection = CautiousSelection(training, np.zeros(1), 6)  # the next is 8
    assert training.train(selection, 1.0) == 1.0
    assert selection.kept.params[0] == 0.0
    assert training.train(selection, 1.0, 1.5) == 1.5
    assert selection.kept.params[0] == 1.5


def test_equal_weights_are_no_weights_and_rows_without_are_no_rows(monkeypatch):
    plain = Stub(steady, monkeypatch)
    selection = CautiousSelection(plain, np.zeros(1), 0)
    plain.train(selection, 1.0)

    def losses(p):
        return np.append(10 - p * FALLS, [np.inf, np.nan])

    weighted = Stub(losses, monkeypatch, weights=np.array([3.0] * len(FALLS) + [0, 0]))
    other = CautiousSelection(weighted, np.zeros(1), 0)
    weighted.train(other, 1.0)
    assert other.gain == pytest.approx(selection.gain)


def test_without_rows_the_start_is_kept(monkeypatch):
    training = Stub(lambda p: np.empty(0), monkeypatch)
    training.objective.validation = training.objective.validation.empty()
    assert training.train(CautiousSelection(training, np.zeros(1), 0), 1.0) == 0.0


def test_what_earlier_fits_selected_is_judged_anew(monkeypatch):
    training = Stub(steady, monkeypatch)
    selection = CautiousSelection(training, np.zeros(1), 1, kept(0.7))
    assert training.train(selection, 0.5) == 0.7
    worse = CautiousSelection(training, np.zeros(1), 1, kept(-0.7))
    assert training.train(worse, 0.5) == 0.5


def test_nothing_is_computed_before_the_first_epoch(monkeypatch):
    """What an interrupt there would cost is the whole fit."""
    calls = []

    def losses(p):
        calls.append(p)
        return 10 - p * FALLS

    training = Stub(losses, monkeypatch)
    calls.clear()
    selection = CautiousSelection(training, np.zeros(1), 3, kept(1.0))
    assert not calls
    selection.begin(1)
    assert calls == [0, 1]
    assert selection.kept.params == 1
    selection.begin(1)
    assert calls == [0, 1]


def test_earlier_weights_are_kept_if_training_never_began(monkeypatch):
    training = Stub(steady, monkeypatch)
    selection = CautiousSelection(training, np.zeros(1), 3, kept(1.0))
    assert selection.kept_weights().params == 1


def test_few_samples_must_not_decide(monkeypatch):
    """Student's interval is above zero, and the gain is that of 2 % of the samples."""
    falls = np.full(400, 0.1)
    falls[:8], falls[8:168] = 5.0, -0.2
    assert stats.ttest_1samp(falls, 0, alternative="greater").pvalue < 0.05
    training = Stub(lambda p: 100 - p * falls, monkeypatch)
    assert training.train(CautiousSelection(training, np.zeros(1), 0), 1.0) == 0.0
    falls[8:168] = 0.1
    assert training.train(CautiousSelection(training, np.zeros(1), 0), 1.0) == 1.0


def test_samples_of_a_unit_are_judged_together(monkeypatch):
    """Copies of a sample make nothing surer."""
    falls = np.array([3.0, -1.0, 2.0, 1.5, -0.5, 2.5, 0.2, 0.1])
    plain = Stub(lambda p: 10 - p * falls, monkeypatch)
    selection = CautiousSelection(plain, np.zeros(1), 0)
    plain.train(selection, 1.0)
    copied = Stub(lambda p: np.tile(10 - p * falls, 9), monkeypatch)
    units = np.tile(np.arange(8)[::-1], 9)
    other = CautiousSelection(copied, np.zeros(1), 0, units=units)
    copied.train(other, 1.0)
    assert other.gain == pytest.approx(selection.gain)
    alone = CautiousSelection(copied, np.zeros(1), 0)
    copied.train(alone, 1.0)
    assert alone.gain > other.gain
