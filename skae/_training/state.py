"""What a training leaves, so that another can continue from it."""

import dataclasses

import numpy as np

from skae._compiled.records import SEED


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

    @property
    def seed(self):
        """What all random numbers depend on."""
        return int(self.arrays["counters"][SEED])

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
