"""From an estimator's parameters to a network, a solver and its other settings.

Functions read parameters of the estimator only.
"""

import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from skae._compiled.activations import ACTIVATIONS
from skae._compiled.code_terms import SPARSITIES, TARGET, WEIGHT, CodeTerm
from skae._compiled.corruption import (
    CORRUPTIONS,
    HIGHEST,
    LEVEL,
    LOWEST,
    N_CORRUPTION_SETTINGS,
    Corruption,
)
from skae._compiled.losses import LOSSES
from skae._compiled.optimizers import SOLVERS
from skae._compiled.records import Solver
from skae._compiled.schedules import SCHEDULES
from skae._data.validation import ValueRange
from skae._model.deviance import column_scales
from skae._model.groups import Groups
from skae._names import Names, hint
from skae._sklearn import Interval
from skae._typing import Floats

# What "auto" stands for, chosen in benchmarks/defaults. Layers have at least two units
# for each principal component, which carry it when the network is initialized at PCA.
_AUTO_HIDDEN = (100, 50)
_AUTO_BATCH_SIZE, _AUTO_UPDATES = 32, 10_000
# Noise, and the mean activation of a mini-batch, need larger ones.
_BATCH_SIZE_OF_MEANS = 100
# "auto" stops once the validation loss has not fallen for this many updates. With one
# mini-batch per epoch that takes many epochs, but these are fast.
_PATIENT_UPDATES = 100
# At most this many rows are one mini-batch: then a weight of 2 equals two rows.
_FEW_ROWS = 100
# More rows take long, and only large mini-batches have work for two threads: the fit of
# MNIST takes two thirds of the time, and R² falls by 0.004.
_MANY_ROWS, _LARGE_BATCH_SIZE, _LARGE_UPDATES = 20_000, 200, 5_000
_MIN_AUTO_EPOCHS = 10
_AUTO_ITERATIONS = 200  # of L-BFGS
# Strength of the penalty times the root of the number of rows. Without it, tables with
# categories are fitted too closely, see benchmarks/tables.py.
_AUTO_PENALTY = 0.1
_NEVER = np.iinfo(np.int64).max
# Largest numbers in kernels: of units of a layer; of epochs, exact in float64.
_MOST_UNITS, _MOST_EPOCHS = 2**31 - 1, 2**53


def check_code_size(n_components: Any) -> int | float:
    """`n_components` as an int, or as a float below 1: a share of the variance.

    Raises ValueError if it is too large.
    """
    if isinstance(n_components, numbers.Integral):
        return _at_most(_MOST_UNITS, n_components=n_components)
    return float(n_components)


def penalty_strength(estimator: Any, n_rows: int) -> float:
    """Strength of the penalty of the weights: `alpha`, or what "auto" stands for."""
    if estimator.alpha != "auto":
        return float(estimator.alpha)
    return _AUTO_PENALTY / math.sqrt(n_rows) if estimator._group_sizes else 0.0


def describe_network(
    estimator: Any, n_features: int, n_components: int, groups: Sequence[int] = ()
) -> dict[str, Any]:
    """Arguments of `make_network` for an estimator.

    `groups` are the sizes of the groups of levels that are the last features.

    Raises
    ------
    ValueError
        If parameters do not go together.
    """
    hidden = _hidden_layers(estimator, min(n_components, n_features))
    names = estimator.activation
    _expect_sequence(activation=names)
    if isinstance(names, str):
        names = [names] * len(hidden)
    elif getattr(names, "shape", None) == ():
        names = [names]  # has no length
    names = list(names)
    unknown = [n for n in names if not isinstance(n, str) or n not in ACTIVATIONS]
    if len(names) != len(hidden) or unknown:
        meant = hint(unknown[0], [Names(ACTIVATIONS)]) if unknown else ""
        raise ValueError(
            f"activation={estimator.activation!r} must be one name, or one for each of "
            f"the {len(hidden)} hidden layers, from {list(ACTIVATIONS)}.{meant}"
        )
    output = _output_activation(estimator)
    if groups and output != LOSSES[estimator.loss].output_activation:
        raise ValueError(
            f"output_activation={output!r} does not go with a table with categories: "
            "use 'auto'"
        )
    architecture = {
        "widths": [n_features, *hidden, n_components, *hidden[::-1], n_features],
        "activations": [
            *names,
            estimator.code_activation,
            *names[::-1],
            output,
        ],
        "tied": bool(estimator.tied_weights),
        "variational": estimator._codes_are_distributions,
    }
    return architecture | {"groups": groups} if groups else architecture


def _hidden_layers(estimator: Any, n_scores: int) -> list[int]:
    """Units of the encoder's layers before a code that holds `n_scores` of PCA."""
    sizes = estimator.hidden_layer_sizes
    if isinstance(sizes, str):  # "auto"
        return [max(n_units, 2 * n_scores) for n_units in _AUTO_HIDDEN]
    _expect_sequence(hidden_layer_sizes=sizes)
    if isinstance(sizes, np.ndarray):
        sizes = sizes.tolist()  # for any number of dimensions
    hidden = [sizes] if isinstance(sizes, numbers.Real) else list(sizes)
    wrong = [n for n in hidden if not _is_whole(n) or n < 1]
    if wrong:
        meant = hint(wrong[0], [Interval(numbers.Integral, 1, None, closed="left")])
        raise ValueError(
            f"hidden_layer_sizes={sizes!r}: every layer needs a whole number of units, "
            f"at least 1.{meant}"
        )
    return [_at_most(_MOST_UNITS, hidden_layer_sizes=n) for n in hidden]


def _expect_sequence(**parameter: Any) -> None:
    """Raise ValueError if the entries of a parameter have no order."""
    ((name, value),) = parameter.items()
    if isinstance(value, Set | Mapping):
        raise ValueError(
            f"{name}={value!r} is a {type(value).__name__}, which has no order: use a "
            "tuple or a list, with an entry for each layer"
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _at_most(limit: int, **parameter: Any) -> int:
    """A parameter, an integer, as an int; ValueError if it is too large."""
    ((name, value),) = parameter.items()
    if value > limit:
        raise ValueError(f"{name}={value!r} is too large: it must be at most {limit}")
    return int(value)


def _output_activation(estimator: Any) -> str:
    loss = LOSSES[estimator.loss]
    output: str = estimator.output_activation
    if output == "auto":
        return loss.output_activation
    if loss.outputs is not None and output not in loss.outputs:
        raise ValueError(
            f"loss={estimator.loss!r} does not go with output_activation={output!r}: "
            f"use 'auto' or {_one_of(loss.outputs)}"
        )
    return output


def loss_range(name: str) -> ValueRange | None:
    """Range of values that a loss is defined for; None for any."""
    loss = LOSSES[name]
    return None if loss.is_scaled else ValueRange("loss", name, loss.low, loss.high)


def value_range(estimator: Any) -> ValueRange | None:
    """Range of values that training data may have; None for any.

    It is that of the loss or, if ``scale="auto"`` does not scale the data because of a
    limited output activation, that of the output.
    """
    if not LOSSES[estimator.loss].is_scaled:
        return loss_range(estimator.loss)
    output = _output_activation(estimator)
    row = ACTIVATIONS[output]
    if estimator.scale != "auto" or not row.is_limited or estimator._group_sizes:
        return None
    return ValueRange("output_activation", output, row.low, row.high)


# ``scale="auto"`` with tied weights and saturating units, chosen in
# benchmarks/defaults/tied.py. When the network is initialized at PCA, scores must be so
# small that "tanh" is nearly linear: the scale is `_ROOM` times the square root of the
# number of such layers times the largest distance of a sample from the mean, and then
# less than a thousandth of a sample is lost. From random weights `tol` would end
# training long before it had found such a network: that scale suits networks that are
# trained to the end, as published ones are.
_ROOM, _ROOM_AT_RANDOM = 5.0, 4.0


def auto_scale(
    n_saturating: int, init: str, spread: float, largest: Callable[[], float]
) -> float:
    """The scale that ``scale="auto"`` stands for.

    Parameters
    ----------
    n_saturating : int
        Number of layers that tied weights must keep nearly linear.

    init : str
        Initialization of the weights.

    spread : float
        Root mean square of the centered training data.

    largest : callable
        Returns the largest distance of a sample from the mean.

    Returns
    -------
    scale : float
    """
    if not n_saturating:
        return spread
    if init != "pca":
        return _ROOM_AT_RANDOM * spread
    return _ROOM * math.sqrt(n_saturating) * largest()


def describe_scaling(
    estimator: Any, mean: Floats, spread: float, auto: Callable[[], float]
) -> tuple[Floats, float]:
    """The offset that the network subtracts from data, and the scale it divides by.

    Parameters
    ----------
    estimator : BaseAutoencoder

    mean : ndarray of shape (n_features,)
        Mean of the training data.

    spread : float
        Root mean square of the centered training data.

    auto : callable
        Returns the scale that "auto" stands for, if data are not constant.

    Returns
    -------
    offset : ndarray of shape (n_features,)

    scale : float

    Raises
    ------
    ValueError
        If parameters do not go together, or if the data's variance overflows.
    """
    scale, is_scaled = estimator.scale, LOSSES[estimator.loss].is_scaled
    _check_size(mean, spread)
    _check_scale(estimator)
    if scale is None or not is_scaled or value_range(estimator) is not None:
        return np.zeros_like(mean), 1.0
    if scale == "auto":
        scale = auto() if spread > 0 else 1.0
    info = np.finfo(mean.dtype)
    lowest, highest = float(info.tiny), float(info.max)
    if not lowest <= scale <= highest:
        raise ValueError(
            f"scale={scale!r} is out of the range of {mean.dtype}: it must be from "
            f"{lowest:g} to {highest:g}"
        )
    ratio = spread / float(scale)
    if spread > 0 and not np.sqrt(lowest) <= ratio <= np.sqrt(
        highest / (2 * mean.size)
    ):
        raise ValueError(
            f"scale={scale!r} is too far from the spread of the data, {spread:.3g}: "
            f"squares of the scaled data are out of the range of {mean.dtype}. Use "
            "scale='auto', or a scale nearer to the spread"
        )
    return mean, float(scale)


def describe_columns(
    estimator: Any, mean: Floats, spreads: Floats, groups: Sequence[int]
) -> tuple[Floats, Floats]:
    """`describe_scaling` where features are divided by numbers of their own.

    Parameters
    ----------
    estimator : BaseAutoencoder

    mean : ndarray of shape (n_features,)
        Mean of the training data.

    spreads : ndarray of shape (n_features,)
        Standard deviations of the training data.

    groups : sequence of int
        Sizes of the groups of levels that are the last features.

    Returns
    -------
    offset : ndarray of shape (n_features,)

    scale : ndarray of shape (n_features,)

    Raises
    ------
    ValueError
        If parameters do not go together, or if the data's variance overflows.
    """
    _check_size(mean, float(spreads.max()))
    _check_scale(estimator)
    offset, scale = np.zeros_like(mean), np.ones(len(mean))
    n_plain = len(mean) - sum(groups)
    if LOSSES[estimator.loss].is_scaled and estimator.scale is not None:
        offset[:n_plain] = mean[:n_plain]
        scale[:n_plain] = spreads[:n_plain]
        if isinstance(estimator.scale, numbers.Real):
            scale[:n_plain] = estimator.scale
    of_columns = column_scales(spreads, Groups.of(n_plain, groups))
    scale[n_plain:] = of_columns[n_plain:]
    least = np.finfo(mean.dtype).tiny
    return offset, np.where(scale >= least, scale, 1.0)


def _check_scale(estimator: Any) -> None:
    """Raise ValueError if data are to be scaled for a loss that allows none."""
    scale, is_auto = estimator.scale, estimator.scale in (None, "auto")
    if not is_auto and not LOSSES[estimator.loss].is_scaled:
        raise ValueError(
            f"scale={scale!r}: with loss={estimator.loss!r} the network does not scale "
            "the data. Use scale='auto', or another loss"
        )


def _check_size(mean: Floats, spread: float) -> None:
    """Raise ValueError if the dtype of the data cannot hold their variance.

    See `describe_scaling` for the arguments.
    """
    info, dtype = np.finfo(mean.dtype), mean.dtype
    # The sample variance of two rows is twice the square of their deviation.
    largest = np.sqrt(info.max / (2 * mean.size))
    if not (np.isfinite(mean).all() and spread < largest):
        raise ValueError(
            f"X is too large for {dtype}: its variance is not finite. Scale it, for "
            "example with StandardScaler"
        )
    if 0 < spread < info.tiny:
        raise ValueError(
            f"X is too small for {dtype}: its standard deviation, {spread:g}, is a "
            "denormal number. Multiply it by a large one"
        )


def describe_corruption(
    estimator: Any,
    extremes: Callable[[], tuple[float, float]],
    *,
    has_groups: bool = False,
) -> Corruption | None:
    """The corruption of rows in training, or None.

    Parameters
    ----------
    estimator : BaseAutoencoder

    extremes : callable
        Returns the lowest and the highest entry of the training rows.

    has_groups : bool, default=False
        Whether some features are groups of levels.

    Returns
    -------
    corruption : Corruption or None

    Raises
    ------
    ValueError
        If parameters do not go together.
    """
    noise = estimator.noise
    if noise is None:
        return None
    level = float(estimator.noise_level)
    if estimator.solver not in SOLVERS:
        raise ValueError(
            f"noise={noise!r} changes in every epoch, which solver="
            f"{estimator.solver!r} cannot handle: use {_one_of(SOLVERS)}"
        )
    row = CORRUPTIONS[noise]
    if has_groups and not row.has_groups:
        raise ValueError(
            f"noise={noise!r} is for numbers, but X has categories: use 'swap' or "
            "'masking'"
        )
    if row.is_share and level > 1:
        raise ValueError(
            f"noise_level={level} is the share of the entries that noise={noise!r} "
            "corrupts: it must be in [0, 1]"
        )
    settings = np.zeros(N_CORRUPTION_SETTINGS)
    settings[LEVEL] = level
    if row.needs_range:
        loss = LOSSES[estimator.loss]
        has_range = np.isfinite([loss.low, loss.high]).all()
        settings[LOWEST], settings[HIGHEST] = (
            (loss.low, loss.high) if has_range else extremes()
        )
    return Corruption(row, settings)


_UNIT_RANGE_ACTIVATIONS = [
    name for name, row in ACTIVATIONS.items() if (row.low, row.high) == (0, 1)
]


def describe_sparsity(estimator: Any) -> CodeTerm | None:
    """The sparsity penalty of the code's units, or None.

    Raises
    ------
    ValueError
        If parameters do not go together.
    """
    sparsity, activation = estimator.sparsity, estimator.code_activation
    if sparsity is None:
        return None
    kind = SPARSITIES[sparsity]
    if kind.needs_unit_range and activation not in _UNIT_RANGE_ACTIVATIONS:
        raise ValueError(
            f"sparsity={sparsity!r} needs code units in (0, 1), but "
            f"code_activation is {activation!r}: use "
            f"{_one_of(_UNIT_RANGE_ACTIVATIONS)}, or sparsity='l1'"
        )
    return CodeTerm(
        kind,
        {
            WEIGHT: float(estimator.sparsity_weight),
            TARGET: float(estimator.sparsity_target),
        },
    )


def _one_of(names: Iterable[str]) -> str:
    """List legal values for an error message."""
    return " or ".join(map(repr, names))


def describe_solver(
    estimator: Any,
    n_rows: int,
    max_epochs: int | None = None,
    *,
    watches_validation: bool | None = None,
) -> Solver:
    """The solver's parameters for training on `n_rows`, as kernels take them.

    Parameters
    ----------
    estimator : BaseAutoencoder

    n_rows : int

    max_epochs : int, default=None
        Maximum number of epochs; None for a whole fit.

    watches_validation : bool, default=None
        Whether the validation loss ends training; None: as `early_stopping` says.

    Returns
    -------
    solver : Solver
    """
    if watches_validation is None:
        watches_validation = stops_by_validation(estimator)
    stochastic = estimator.solver in SOLVERS
    batch_size = n_rows
    if stochastic:
        batch_size = min(_batch_size(estimator, n_rows), n_rows)
    patience, n_batches = estimator.n_iter_no_change, -(-n_rows // batch_size)
    if watches_validation and not stops_by_validation(estimator):
        patience = max(patience, -(-_PATIENT_UPDATES // n_batches))
    # L-BFGS detects convergence itself. With noise the training loss is noisy, too: a
    # few epochs without progress mean nothing.
    is_planned = estimator._draws_noise and estimator.max_iter == "auto"
    how = SCHEDULES[schedule(estimator, max_epochs)]
    is_planned = is_planned and not how.follows_loss
    if (is_planned or not stochastic) and not watches_validation:
        patience = _NEVER
    return Solver(
        kind=list(SOLVERS).index(estimator.solver) if stochastic else -1,
        schedule=how.kind,
        learning_rate=float(estimator.learning_rate_init),
        decay=float(estimator.decay),
        power_t=float(estimator.power_t),
        momentum=float(estimator.momentum),
        nesterovs_momentum=int(estimator.nesterovs_momentum),
        beta_1=float(estimator.beta_1),
        beta_2=float(estimator.beta_2),
        epsilon=float(estimator.epsilon),
        batch_size=batch_size,
        # The order within a single mini-batch changes only roundings.
        shuffle=int(estimator.shuffle and batch_size < n_rows),
        max_iter=_n_epochs(estimator, n_rows, batch_size),
        tol=float(estimator.tol),
        n_iter_no_change=int(min(patience, _NEVER)),
        # While the weight of the divergence rises, the loss may rise, too.
        first_judged=_at_most(_MOST_EPOCHS, kl_warmup=estimator._n_warmup_epochs),
        watch_validation=int(watches_validation),
    )


def stops_by_validation(estimator: Any) -> bool:
    """Whether the loss of validation rows ends training."""
    is_auto = isinstance(estimator.early_stopping, str)
    return not is_auto and bool(estimator.early_stopping)


def schedule(estimator: Any, max_epochs: int | None = None) -> str:
    """Name of the learning rate's schedule: "auto" is "cosine" if the end is planned.

    The end is not planned in `partial_fit`, nor if another fit may follow
    (`warm_start`).
    """
    name: str = estimator.learning_rate
    if name != "auto":
        return name
    is_planned = max_epochs is None and not estimator.warm_start
    return "cosine" if is_planned else "constant"


def _batch_size(estimator: Any, n_rows: int) -> int:
    if estimator.batch_size != "auto":
        return int(estimator.batch_size)
    if n_rows <= _FEW_ROWS:
        return n_rows
    if n_rows > _MANY_ROWS:
        return _LARGE_BATCH_SIZE
    is_plain = not estimator._draws_noise and estimator.sparsity is None
    return _AUTO_BATCH_SIZE if is_plain else _BATCH_SIZE_OF_MEANS


def _n_epochs(estimator: Any, n_rows: int, batch_size: int) -> int:
    """Epochs, or iterations, of a fit."""
    if estimator.max_iter != "auto":
        return _at_most(_MOST_EPOCHS, max_iter=estimator.max_iter)
    if estimator.solver not in SOLVERS:
        return _AUTO_ITERATIONS
    n_updates = _AUTO_UPDATES if n_rows <= _MANY_ROWS else _LARGE_UPDATES
    n_batches = -(-n_rows // batch_size)
    return max(_MIN_AUTO_EPOCHS, -(-n_updates // n_batches))
