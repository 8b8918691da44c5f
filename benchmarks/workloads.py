"""The workloads that skae and its peers are measured on: data, network, training."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import expit

from skae import AutoencoderTransformer
from skae._model.initialization import random_params
from skae._model.network import coefs, intercepts, make_network

RANDOM_STATE = 0
# The objective is evaluated on so many rows, the first ones.
MAX_EVALUATED_ROWS = 5_000
_L, _I = "logistic", "identity"
_ACTIVATIONS = {_L: expit, "relu": lambda z: np.maximum(z, 0)}


def _real(filename):
    """Path of a real data set."""
    if "SKAE_DATA" not in os.environ:
        raise FileNotFoundError(
            f"{filename} is real data: set the environment variable SKAE_DATA to the "
            "folder that holds it, or choose workloads that need none"
        )
    return Path(os.environ["SKAE_DATA"]) / filename


def _onehot():
    return np.eye(8, dtype=np.float32)


def _ring():
    angles = np.linspace(0, 2 * np.pi, 500, endpoint=False)
    return np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


@functools.cache
def _donut():
    return np.load(_real("donut_corr2.npy"))[:, :4].astype(np.float32)


def _low_rank(n_rows, n_features, rank):
    """Function that makes rows near a subspace, scaled like standardised tables."""

    @functools.cache
    def load():
        rng = np.random.default_rng(RANDOM_STATE)
        scores = rng.standard_normal((n_rows, rank), dtype=np.float32)
        axes = rng.standard_normal((rank, n_features), dtype=np.float32)
        noise = rng.standard_normal((n_rows, n_features), dtype=np.float32)
        return scores @ axes + np.float32(0.3) * noise

    return load


@functools.cache
def _uniform():
    rng = np.random.default_rng(RANDOM_STATE)
    return rng.random((1_000_000, 32), dtype=np.float32)


@functools.cache
def _mnist():
    return np.load(_real("mnist.npz"))["X_train"] / np.float32(255)


@dataclasses.dataclass(frozen=True)
class Workload:
    """An autoencoder and its training.

    The objective is the mean over rows of the loss's sum over features; the squared
    error carries a factor 1/2.

    Parameters
    ----------
    load : callable
        Returns the rows, float32.

    widths : tuple of int
        Units of the input, of every hidden layer, and of the output.

    activations : tuple of str
        One for every layer but the input.

    loss, solver, learning_rate, tied, nesterov
        As in `AutoencoderTransformer`; momentum is 0.9.

    batch_size : int or None
        None for all rows: an epoch then is one step.

    n_epochs : int
        Of one measurement.

    n_rows : int or None, default=None
        Use the first rows only.
    """

    load: Callable[[], np.ndarray]
    widths: tuple[int, ...]
    activations: tuple[str, ...]
    loss: str
    solver: str
    learning_rate: float
    batch_size: int | None
    # What is compiled for a workload serves any number of epochs.
    n_epochs: int = dataclasses.field(compare=False)
    tied: bool = False
    nesterov: bool = False
    n_rows: int | None = None

    @property
    def is_full_batch(self):
        return self.batch_size is None

    @property
    def epochs_per_call(self):
        """Epochs between two evaluations: a run of full-batch steps is one piece."""
        return self.n_epochs if self.is_full_batch else 1

    @property
    def is_standardized(self):
        """Whether the network sees (X - mean) / scale."""
        return self.loss == "squared_error" and self.activations[-1] == _I

    def reduced(self, fraction):
        """A part of the work: fewer steps, or fewer rows to make batches of."""
        if fraction == 1:
            return self
        if self.is_full_batch:
            n_epochs = max(1, round(fraction * self.n_epochs))
            return dataclasses.replace(self, n_epochs=n_epochs)
        n_rows = max(2 * self.batch_size, round(fraction * len(self.load())))
        return dataclasses.replace(self, n_rows=n_rows)

    def data(self):
        """The rows, as an estimator gets them."""
        return self.load()[: self.n_rows]

    def _centred_and_scale(self):
        X = self.data()
        centred = X - X.mean(axis=0, dtype=np.float64)
        return centred, float(np.sqrt((centred**2).mean()))

    @property
    def scale(self):
        """What centred rows are divided by; None for rows as they are."""
        return self._centred_and_scale()[1] if self.is_standardized else None

    def seen_data(self):
        """The rows, as the network sees them."""
        if not self.is_standardized:
            return self.data()
        centred, scale = self._centred_and_scale()
        return (centred / scale).astype(np.float32)

    def initial_weights(self):
        """The weights and biases of all layers that skae starts from."""
        network = make_network(self.widths, self.activations, tied=self.tied)
        rng = np.random.RandomState(RANDOM_STATE)
        seed = rng.randint(np.iinfo(np.int32).max)
        params = random_params(network, self.activations, "glorot", seed, np.float32)
        return coefs(network, params), intercepts(network, params)

    def objective(self, X, coefs, intercepts):
        """The objective over rows as the network sees them, in float64."""
        X = X[:MAX_EVALUATED_ROWS].astype(np.float64)
        h = X
        for weights, biases, activation in zip(
            coefs, intercepts, self.activations, strict=True
        ):
            z = h @ weights.astype(np.float64) + biases
            h = _ACTIVATIONS.get(activation, lambda z: z)(z)
        if self.loss == "log_loss":  # of the output's input, where it is stable
            losses = np.logaddexp(0, z) - X * z
        else:
            losses = (h - X) ** 2 / 2
        return float(losses.sum(axis=1).mean())

    def autoencoder(self, **params):
        """The AutoencoderTransformer that does this workload."""
        middle = len(self.activations) // 2
        *hidden, code = self.activations[:middle]
        batch_size = len(self.data()) if self.is_full_batch else self.batch_size
        return AutoencoderTransformer(
            self.widths[middle],
            hidden_layer_sizes=self.widths[1:middle],
            activation=hidden,
            code_activation=code,
            output_activation=self.activations[-1],
            tied_weights=self.tied,
            loss=self.loss,
            scale=self.scale,
            init="glorot",
            learning_rate="constant",
            early_stopping=False,
            solver=self.solver,
            batch_size=batch_size,
            learning_rate_init=self.learning_rate,
            nesterovs_momentum=self.nesterov,
            n_iter_no_change=np.inf,
            random_state=RANDOM_STATE,
            **params,
        )


def _mirrored(*widths):
    return widths + widths[-2::-1]


def _relu_mnist(*widths, n_epochs):
    widths = _mirrored(784, *widths)
    activations = ("relu",) * (len(widths) - 2) + ("logistic",)
    return Workload(
        _mnist, widths, activations, "log_loss", "adam", 1e-3, 256, n_epochs
    )


def _logistic_uniform(*widths):
    widths = _mirrored(32, *widths)
    activations = ("logistic",) * (len(widths) - 1)
    return Workload(_uniform, widths, activations, "log_loss", "adam", 1e-3, 100, 1)


def _table(n_rows, rank, *widths, n_epochs):
    load = _low_rank(n_rows, widths[0], rank)
    hidden = ("relu",) * (len(widths) - 2)
    activations = (*hidden, _I, *hidden, _I)
    widths = _mirrored(*widths)
    return Workload(
        load, widths, activations, "squared_error", "adam", 1e-3, 200, n_epochs
    )


_SQUARED = {"loss": "squared_error", "batch_size": None}
WORKLOADS = {
    "onehot": Workload(
        _onehot,
        (8, 3, 8),
        (_L, _L),
        solver="adam",
        learning_rate=0.01,
        n_epochs=1000,
        **_SQUARED,
    ),
    "ring": Workload(
        _ring,
        (2, 4, 1, 4, 2),
        (_L, _L, _L, _L),
        solver="sgd",
        learning_rate=0.01,
        nesterov=True,
        n_epochs=5000,
        **_SQUARED,
    ),
    "donut": Workload(
        _donut,
        (4, 2, 4),
        (_L, _I),
        solver="sgd",
        learning_rate=0.01,
        tied=True,
        n_epochs=5000,
        **_SQUARED,
    ),
    "uniform": _logistic_uniform(2),
    "uniform-deep": _logistic_uniform(16, 8, 4, 2),
    "table-11": _table(200_000, 4, 11, 5, 3, n_epochs=3),
    "table-54": _table(120_000, 9, 54, 100, 7, n_epochs=2),
    "table-2000": _table(8_000, 70, 2000, 64, n_epochs=3),
    "mnist-32": _relu_mnist(32, n_epochs=3),
    "mnist-deep": _relu_mnist(256, 64, 16, n_epochs=2),
    "mnist-wide": _relu_mnist(1000, 500, 250, 30, n_epochs=1),
}
