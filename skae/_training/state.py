"""The state that a training leaves, so that another can continue from it."""

import dataclasses
from typing import Any

import numpy as np

from skae._compiled.records import PROGRESS, Progress
from skae._typing import Floats

# Saved states have the progress as two arrays, "counters" and "scalars", with entries
# in the order of the record's fields, as in earlier versions.
COUNTERS = tuple(name for name in PROGRESS.names if PROGRESS[name].kind == "i")
SCALARS = tuple(name for name in PROGRESS.names if PROGRESS[name].kind == "f")
# Those that a later training needs, by their names in files; the others have a meaning
# only while a kernel runs.
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


def new_progress(**values: float) -> Progress:
    """Make a record with these values, and zeros elsewhere."""
    progress = np.zeros((), PROGRESS).view(Progress)
    for name, value in values.items():
        setattr(progress, name, value)
    return progress


def saved_progress(progress: Progress) -> dict[str, np.ndarray]:
    """The lasting values of a progress, as the two arrays of a saved state."""
    lasting = new_progress(
        **{name: getattr(progress, name) for name in LASTING_COUNTERS + LASTING_SCALARS}
    )
    return {
        "counters": np.array([lasting[name] for name in COUNTERS], dtype=np.int64),
        "scalars": np.array([lasting[name] for name in SCALARS]),
    }


def progress_of(arrays: dict[str, np.ndarray]) -> Progress:
    """The progress of a saved state's arrays."""
    counters = zip(COUNTERS, arrays["counters"].tolist(), strict=True)
    scalars = zip(SCALARS, arrays["scalars"].tolist(), strict=True)
    return new_progress(**dict(counters), **dict(scalars))


@dataclasses.dataclass(eq=False)
class TrainingState:
    """Everything that another fit needs to continue from this one, bit for bit.

    Pickles and files have it as a dict of the attributes that are not None, by name.
    """

    # Parameters of the fit.
    solver: str
    loss: str
    scale: str | float | None
    init: str  # how the weights were initialized, "auto" replaced
    # Fields of `records.State`, except the curves, by name.
    arrays: dict[str, np.ndarray]
    initial_params: np.ndarray  # (n_params,) before any training
    # Name of the weights that the fit kept: one of `arrays`, or "initial_params" or
    # "selected" here.
    kept: str = "params"
    schedule: int | None = None  # of the learning rate; not in earlier versions
    memory: dict[str, np.ndarray] | None = None  # of L-BFGS
    # The weights that improve on PCA with most confidence, and their epoch.
    selected: np.ndarray | None = None
    selected_epoch: int | None = None
    constant: float | None = None  # total weight of the samples, if all were equal
    cut_short_of: int | None = None  # planned epochs of the fit, if it had fewer

    @classmethod
    def from_dict(
        cls, state: dict[str, Any], *, scale: str | float | None
    ) -> "TrainingState":
        """Make the state that a dict describes.

        `scale` is the estimator's, for states of earlier versions, which do not have
        it: nearly always the estimator was fitted with it.
        """
        return cls(**{"scale": scale, **state})

    def as_dict(self) -> dict[str, Any]:
        """The state as a dict; arrays are not copied."""
        attributes = vars(self).items()
        return {k: v for k, v in attributes if v is not None or k == "scale"}

    @property
    def dtype(self) -> np.dtype:
        """Type of the weights."""
        return self.arrays["params"].dtype

    def progress(self) -> Progress:
        """A new record of how far the training has come."""
        return progress_of(self.arrays)

    @property
    def seed(self) -> int:
        """Seed of all random numbers."""
        return self.progress().seed

    @property
    def kept_params(self) -> Floats:
        """The weights that the fit kept, before their code was ordered."""
        arrays = self.arrays if self.kept in self.arrays else vars(self)
        return arrays[self.kept]

    def without_arrays(self) -> "TrainingState":
        """A copy with only what inference needs, which is much smaller."""
        return dataclasses.replace(
            self, arrays={}, initial_params=np.empty(0), memory=None, selected=None
        )
