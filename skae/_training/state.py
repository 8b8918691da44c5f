"""The state of a training as estimators keep it, in pickles and files, and back."""

import numpy as np

from skae._compiled.records import PROGRESS, Progress

# Saved states have the progress as two arrays, "counters" and "scalars", of which each
# has its entries in the order of the record's fields: so earlier versions wrote them.
COUNTERS = tuple(name for name in PROGRESS.names if PROGRESS[name].kind == "i")
SCALARS = tuple(name for name in PROGRESS.names if PROGRESS[name].kind == "f")
# What a later training needs of them, by the names that files have, too; the others
# mean something only while a kernel runs.
LASTING_COUNTERS = (
    "n_updates",
    "n_epochs",
    "cycle_start",
    "n_no_change",
    "best_epoch",
    "seed",
)
LASTING_SCALARS = (
    "best_loss",
    "best_kept",
    "rate_factor",
    "start_loss",
    "start_train_loss",
)


def new_progress(**values):
    """A record with these values, and zeros for the others."""
    progress = np.zeros((), PROGRESS).view(Progress)
    for name, value in values.items():
        setattr(progress, name, value)
    return progress


def saved_progress(progress):
    """What lasts of a progress, as the two arrays of a saved state."""
    lasting = new_progress(
        **{name: getattr(progress, name) for name in LASTING_COUNTERS + LASTING_SCALARS}
    )
    return {
        "counters": np.array([lasting[name] for name in COUNTERS], dtype=np.int64),
        "scalars": np.array([lasting[name] for name in SCALARS]),
    }


def progress_of(arrays):
    """The progress of a saved state's arrays."""
    counters = zip(COUNTERS, arrays["counters"].tolist(), strict=True)
    scalars = zip(SCALARS, arrays["scalars"].tolist(), strict=True)
    return new_progress(**dict(counters), **dict(scalars))
