"""What a training leaves, so that another can continue from it."""

import dataclasses

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


@dataclasses.dataclass(eq=False)
class TrainingState:
    """All that another fit needs to continue from this one, bit for bit.

    Pickles have it as a dict, and so do descriptions in files: of its attributes, by
    name, without those that are None.
    """

    # Parameters of the fit.
    solver: str
    loss: str
    scale: str | float | None
    init: str  # how the weights were initialized, "auto" replaced
    # Fields of `records.State`, except the curves, by name.
    arrays: dict[str, np.ndarray]
    initial_params: np.ndarray  # (n_params,) before any training
    # Where the weights lie that the fit kept: in which of `arrays`, or here as
    # "initial_params" or "selected".
    kept: str = "params"
    schedule: int | None = None  # of the learning rate; earlier versions do not say
    memory: dict[str, np.ndarray] | None = None  # of L-BFGS
    # The weights that were better than PCA with most confidence, and their epoch.
    selected: np.ndarray | None = None
    selected_epoch: int | None = None
    constant: float | None = None  # total weight of the samples, if all were equal
    cut_short_of: int | None = None  # epochs that the fit was to have, if it had fewer

    @classmethod
    def from_dict(cls, state, *, scale):
        """The state that a dict describes.

        `scale` is the estimator's, as earlier versions do not say with which it was
        fitted: nearly always with this one.
        """
        return cls(**{"scale": scale, **state})

    def as_dict(self):
        """The state as a dict; arrays are not copied."""
        attributes = vars(self).items()
        return {k: v for k, v in attributes if v is not None or k == "scale"}

    @property
    def dtype(self):
        """Of the weights."""
        return self.arrays["params"].dtype

    def progress(self):
        """The record of how far the training came, a new one."""
        return progress_of(self.arrays)

    @property
    def seed(self):
        """What all random numbers depend on."""
        return self.progress().seed

    @property
    def kept_params(self):
        """The weights that the fit kept, before their code was ordered."""
        arrays = self.arrays if self.kept in self.arrays else vars(self)
        return arrays[self.kept]

    def without_arrays(self):
        """What inference needs of it, which is much smaller."""
        return dataclasses.replace(
            self, arrays={}, initial_params=np.empty(0), memory=None, selected=None
        )
