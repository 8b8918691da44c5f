"""What users are told: warnings, what `verbose` prints, scikit-learn's callbacks."""

import contextlib
import copy
import sys
import time
import warnings

# Without a line for so long, a training that reports seems to hang.
SECONDS_BETWEEN_LINES = 5.0
# About so many lines are printed by a fit of `max_iter` epochs.
_N_LINES = 20
_ROUND_NUMBERS = (1, 2, 5)


# Code that stands between a user's line and what it makes the package do.
_NOT_USERS = {"skae", "sklearn", "joblib"}


def warn(message, category=UserWarning):
    """Warn of the user's line: the innermost one that is in no package between."""
    frame, level = sys._getframe(1), 2
    # The outermost, where there is no line of a user, as in another thread.
    while frame.f_back is not None and _package(frame) in _NOT_USERS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _package(frame):
    return frame.f_globals.get("__name__", "").partition(".")[0]


class TrainingInterruptedWarning(UserWarning):
    """Ctrl-C ended a training; the best weights so far are kept."""


@contextlib.contextmanager
def interrupt_ends_all():
    """Let Ctrl-C in a fit end the program: an autoencoder answers it with a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingInterruptedWarning)
        try:
            yield
        except TrainingInterruptedWarning:
            raise KeyboardInterrupt from None


def readable_interval(max_iter):
    """Smallest round number of epochs that gives at most `_N_LINES` lines."""
    power = 1
    while True:
        for number in _ROUND_NUMBERS:
            if number * power * _N_LINES >= max_iter:
                return number * power
        power *= 10


class VerboseReport:
    """Prints an epoch's losses.

    Parameters
    ----------
    name : str
        Begins each line.

    n_before : int
        Epochs of earlier fits that this one goes on from.

    every_epoch : bool
    """

    def __init__(self, name, n_before, *, every_epoch):
        self.name, self.n_before, self.every_epoch = name, n_before, every_epoch
        self.printed_at = time.monotonic()

    def epochs_to_next(self, n_done):
        """Epochs until the next one whose line is due."""
        return self.every - n_done % self.every

    def begin(self, max_iter):
        """An epoch is about to begin, of at most so many."""
        self.last = self.n_before + max_iter
        self.every = 1 if self.every_epoch else readable_interval(max_iter)

    def end(self, curves, *, is_last):
        """Print the last epoch if it is due; returns False: training goes on."""
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


def print_end(name, attributes, reason, seconds):
    """Print what a fit has come to: why it ended, what it keeps, and the seconds.

    `attributes` are those of the fitted estimator, by name.
    """
    curve = attributes.get("validation_loss_curve_")
    which = "loss" if curve is None else "validation loss"
    curve = attributes["loss_curve_"] if curve is None else curve
    initial, epoch = attributes["initial_loss_"], attributes["best_iter_"]
    start = "PCA" if attributes["_training_state"].init == "pca" else "initial weights"
    # Validation losses are of the last epochs.
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
    """Prints a line for each of several steps, when it is done.

    Parameters
    ----------
    name : str
        Begins each line.

    n_steps : int
    """

    def __init__(self, name, n_steps):
        self.name, self.n_steps, self.n_done = name, n_steps, 0
        self.begin = time.monotonic()

    def end(self, text):
        """Print what a step has come to, and the seconds since the first began."""
        self.n_done += 1
        seconds = time.monotonic() - self.begin
        print(
            f"[{self.name}] {self.n_done:>{len(str(self.n_steps))}}/{self.n_steps}  "
            f"{text}  {seconds:.1f} s",
            flush=True,
        )


class CallbackReport:
    """Tells scikit-learn's callbacks of every epoch.

    Parameters
    ----------
    estimator : estimator
        The one that is being fitted.

    context : sklearn.callback.CallbackContext
        Of the fit.

    arguments : dict
        X, y and metadata of the fit.

    fitted_attributes : callable
        Returns the attributes that the estimator would have if the fit ended now.
    """

    def __init__(self, estimator, context, arguments, fitted_attributes):
        self.estimator, self.context = estimator, context
        self.arguments, self.fitted_attributes = arguments, fitted_attributes
        self.epoch_context = context  # until an epoch begins

    def epochs_to_next(self, n_done):
        """Every epoch is told of."""
        return 1

    def begin(self, max_iter):
        """Tell that an epoch begins."""
        self.epoch_context = self.context.subcontext(task_name="epoch")
        self.epoch_context.call_on_fit_task_begin(
            estimator=self.estimator, **self.arguments
        )

    def end(self, curves, *, is_last):
        """Tell that it has ended; returns whether a callback wants to stop."""
        # What a callback is given it gets after every epoch. `Checkpoint` asks for it
        # now and then only: it takes about as long as an epoch.
        self.epoch_context.skae_snapshot = lambda: self._snapshot(curves)
        try:
            return self.epoch_context.call_on_fit_task_end(
                estimator=self.estimator,
                reconstruction_attributes=lambda: self.fitted_attributes(curves),
                **self.arguments,
            )
        finally:  # contexts live on, and are pickled
            del self.epoch_context.skae_snapshot

    def _snapshot(self, curves):
        """The estimator as it would be if the fit ended now; it shares the arrays."""
        attributes = self.fitted_attributes(curves)
        return copy.copy(self.estimator)._set_attributes(attributes)


class JoinedReports:
    """Several reports as one, as often as the most frequent of them wants.

    Parameters
    ----------
    reports : list
    """

    def __init__(self, reports):
        self.reports = reports

    def epochs_to_next(self, n_done):
        """Epochs until the next one that some report wants."""
        return min(report.epochs_to_next(n_done) for report in self.reports)

    def begin(self, max_iter):
        """An epoch is about to begin, of at most so many."""
        for report in self.reports:
            report.begin(max_iter)

    def end(self, curves, *, is_last):
        """Report the epochs so far; returns whether one of them wants to stop."""
        answers = [report.end(curves, is_last=is_last) for report in self.reports]
        return any(answers)
