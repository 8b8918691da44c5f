"""Reports to the user: warnings, what `verbose` prints, scikit-learn's callbacks."""

import contextlib
import contextvars
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from skae._runtime.user_warnings import warn

# Without a line for longer, a training that reports seems to hang.
SECONDS_BETWEEN_LINES = 5.0
# A fit of `max_iter` epochs prints about this many lines.
_N_LINES = 20
_ROUND_NUMBERS = (1, 2, 5)


def warn_of_dask(X: object, twin: str | None = None) -> None:
    """Warn that a Dask collection is gathered in memory, without importing Dask.

    Parameters
    ----------
    X : object
        What an estimator is fitted to.

    twin : str, default=None
        The estimator that trains with the same parameters on such collections.
    """
    if type(X).__module__.partition(".")[0] != "dask":
        return
    message = (
        "X is a Dask collection, whose data are gathered in the memory of this process"
    )
    if twin is not None:
        message += f": {twin} trains where they are"
    warn(message)


class TrainingInterruptedWarning(UserWarning):
    """Ctrl-C ended a training; the best weights so far are kept."""


_interrupt_ends_all = contextvars.ContextVar("interrupt_ends_all", default=False)


@contextlib.contextmanager
def interrupt_ends_all() -> Iterator[None]:
    """Raise KeyboardInterrupt where a fit would answer Ctrl-C with a warning."""
    token = _interrupt_ends_all.set(True)
    try:
        yield
    finally:
        _interrupt_ends_all.reset(token)


def warn_of_interrupt() -> None:
    """Warn that Ctrl-C ended a fit, or end what the fit is a part of."""
    if _interrupt_ends_all.get():
        raise KeyboardInterrupt
    warn(
        "Training interrupted by user: the best weights so far are kept.",
        TrainingInterruptedWarning,
    )


def readable_interval(max_iter: int) -> int:
    """Smallest round number of epochs that gives at most `_N_LINES` lines."""
    power = 1
    while True:
        for number in _ROUND_NUMBERS:
            if number * power * _N_LINES >= max_iter:
                return number * power
        power *= 10


class Curves(NamedTuple):
    """What epochs leave behind, an entry for each."""

    loss: list[float]
    validation: list[float]  # empty without validation rows
    term: list[float]  # of the code; empty without one

    @classmethod
    def empty(cls) -> "Curves":
        return cls([], [], [])

    def followed_by(self, later: "Curves") -> "Curves":
        return Curves(*(a + b for a, b in zip(self, later, strict=True)))


class Report(Protocol):
    """Follows a training, as `loop.run` calls it."""

    def epochs_to_next(self, n_done: int) -> int:
        """Epochs until the next one to report."""

    def begin(self, max_iter: int) -> None:
        """Begin an epoch, of at most `max_iter`."""

    def end(self, curves: Curves, *, is_last: bool) -> bool:
        """Report the epochs so far; returns whether to stop."""


class VerboseReport:
    """Prints an epoch's losses.

    Parameters
    ----------
    name : str
        Printed at the beginning of each line.

    n_before : int
        Epochs of the earlier fits that this one continues.

    every_epoch : bool
    """

    def __init__(self, name: str, n_before: int, *, every_epoch: bool):
        self.name, self.n_before, self.every_epoch = name, n_before, every_epoch
        self.printed_at = time.monotonic()

    def epochs_to_next(self, n_done: int) -> int:
        """Epochs until the next one whose line is due."""
        return self.every - n_done % self.every

    def begin(self, max_iter: int) -> None:
        """Begin an epoch, of at most `max_iter`."""
        self.last = self.n_before + max_iter
        self.every = 1 if self.every_epoch else readable_interval(max_iter)

    def end(self, curves: Curves, *, is_last: bool) -> Literal[False]:
        """Print the epoch if it is due; returns False, because training continues."""
        n_done, now = len(curves.loss), time.monotonic()
        is_due = n_done == 1 or n_done % self.every == 0 or is_last
        if not is_due and now - self.printed_at < SECONDS_BETWEEN_LINES:
            return False
        self.printed_at = now
        epoch = self.n_before + n_done
        line = (
            f"[{self.name}] epoch {epoch:>{len(str(self.last))}}/{self.last}"
            f"  loss {curves.loss[-1]:.6g}"
        )
        if curves.validation:
            line += f"  validation loss {curves.validation[-1]:.6g}"
        print(line, flush=True)
        return False


def print_end(
    name: str, attributes: dict[str, Any], reason: str, seconds: float
) -> None:
    """Print why a fit has ended, which weights it keeps, and the seconds.

    `attributes` are those of the fitted estimator, by name.
    """
    curve = attributes.get("validation_loss_curve_")
    which = "loss" if curve is None else "validation loss"
    curve = attributes["loss_curve_"] if curve is None else curve
    initial, epoch = attributes["initial_loss_"], attributes["best_iter_"]
    start = "PCA" if attributes["_training_state"].init == "pca" else "initial weights"
    # Validation losses are those of the last epochs.
    position = epoch - 1 - (len(attributes["loss_curve_"]) - len(curve))
    if epoch == 0:
        kept = f"kept {start}, {which} {initial:.6g}"
    else:
        loss = f"{curve[position]:.6g}" if position >= 0 else "unknown"
        kept = f"kept epoch {epoch}, {which} {loss} ({start}: {initial:.6g})"
    print(
        f"[{name}] end: {reason}; {kept}; {seconds:.1f} s",
        flush=True,
    )


class StepReport:
    """Prints a line when a step is done.

    Parameters
    ----------
    name : str
        Printed at the beginning of each line.

    n_steps : int
    """

    def __init__(self, name: str, n_steps: int):
        self.name, self.n_steps, self.n_done = name, n_steps, 0
        self.begin = time.monotonic()

    def end(self, text: str) -> None:
        """Print the result of a step, and the seconds since the first began."""
        self.n_done += 1
        seconds = time.monotonic() - self.begin
        print(
            f"[{self.name}] {self.n_done:>{len(str(self.n_steps))}}/{self.n_steps}  "
            f"{text}  {seconds:.1f} s",
            flush=True,
        )


class CallbackReport:
    """Calls scikit-learn's callbacks before and after every epoch.

    Parameters
    ----------
    estimator : estimator
        The estimator that is being fitted.

    context : sklearn.callback.CallbackContext
        Context of the fit.

    arguments : dict
        X, y and metadata of the fit.

    fitted_attributes : callable
        Returns the attributes that the estimator would have if the fit ended now.
    """

    def __init__(
        self,
        estimator: Any,
        context: Any,
        arguments: dict[str, Any],
        fitted_attributes: Callable[[Curves], dict[str, Any]],
    ):
        self.estimator, self.context = estimator, context
        self.arguments, self.fitted_attributes = arguments, fitted_attributes
        self.epoch_context = context  # until an epoch begins

    def epochs_to_next(self, n_done: int) -> Literal[1]:
        """Report every epoch."""
        return 1

    def begin(self, max_iter: int) -> None:
        """Report that an epoch begins."""
        self.epoch_context = self.context.subcontext(task_name="epoch")
        self.epoch_context.call_on_fit_task_begin(
            estimator=self.estimator, **self.arguments
        )

    def end(self, curves: Curves, *, is_last: bool) -> bool:
        """Report that an epoch has ended; returns whether a callback wants to stop."""
        # A callback that asks for the attributes gets them after every epoch.
        # `Checkpoint` does not: a snapshot takes about as long as an epoch.
        self.epoch_context.skae_snapshot = lambda: self._snapshot(curves)
        try:
            stop: bool = self.epoch_context.call_on_fit_task_end(
                estimator=self.estimator,
                reconstruction_attributes=lambda: self.fitted_attributes(curves),
                **self.arguments,
            )
        finally:  # contexts live on, and are pickled
            del self.epoch_context.skae_snapshot
        return stop

    def _snapshot(self, curves: Curves) -> Any:
        """The estimator as it would be if the fit ended now; it shares the arrays."""
        attributes = self.fitted_attributes(curves)
        return copy.copy(self.estimator)._set_attributes(attributes)


class JoinedReports:
    """Several reports as one, as frequent as the most frequent of them.

    Parameters
    ----------
    reports : sequence of Report
    """

    def __init__(self, reports: Sequence[Report]):
        self.reports = reports

    def epochs_to_next(self, n_done: int) -> int:
        """Epochs until the next one that some report wants."""
        return min(report.epochs_to_next(n_done) for report in self.reports)

    def begin(self, max_iter: int) -> None:
        """Begin an epoch, of at most `max_iter`."""
        for report in self.reports:
            report.begin(max_iter)

    def end(self, curves: Curves, *, is_last: bool) -> bool:
        """Report the epochs so far; returns whether a report wants to stop."""
        answers = [report.end(curves, is_last=is_last) for report in self.reports]
        return any(answers)
