"""From validated data and an estimator's parameters to a training.

Functions of an estimator, of which they read parameters, what an earlier fit has left,
and hooks: methods that members of the family override. They change nothing of it.
"""

import contextlib
import numbers
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from skae._compiled.epochs import INTERRUPTED
from skae._compiled.losses import LOSSES
from skae._data.hold_out import hold_out
from skae._data.rows import AnyRows
from skae._data.statistics import (
    extremes,
    largest_distance,
    mean_and_scale,
    with_constant,
)
from skae._model.initialization import (
    chosen_init,
    n_saturating,
    pca_params,
    random_params,
)
from skae._model.network import for_loss, make_network
from skae._model.pca import least_scores, n_components_for, principal_components
from skae._runtime.threads import single_threaded_blas
from skae._training import loop
from skae._training.lbfgs import LbfgsTraining
from skae._training.loop import StochasticTraining, StreamedTraining
from skae._training.pretraining import pretrained_params
from skae._training.reporting import VerboseReport, warn
from skae._training.settings import (
    auto_scale,
    check_code_size,
    describe_corruption,
    describe_network,
    describe_scaling,
    describe_solver,
    stops_by_validation,
)
from skae._training.weight_selection import CautiousSelection

# With fewer samples "auto" keeps PCA: too few would be held out to tell whether other
# weights are better.
_MIN_ROWS_TO_JUDGE = 40
# The same of samples that are held out together, such as groups.
_MIN_UNITS_TO_JUDGE = 4
# Pretraining trains each layer for this share of the epochs of a fit.
_PRETRAINING_SHARE = 0.2


class Scaling(NamedTuple):
    """How a network sees data: (X - offset) / scale."""

    mean: np.ndarray  # (n_features,) of the training data
    offset: np.ndarray  # (n_features,) the mean, or zeros
    scale: float
    # Of the rows in use, as the network sees them.
    mean_seen: np.ndarray  # (n_features,) float64
    total_variance: float


class Plan(NamedTuple):
    """What validated data and parameters amount to."""

    estimator: Any  # whose parameters they are
    architecture: dict  # arguments of make_network
    training: loop.Training
    init: str  # how the weights were initialized, before any training
    initial_params: np.ndarray
    first_rows: AnyRows  # that the initialization is of, and whose code is ordered
    scaling: Scaling
    is_warm_start: bool
    # Of a training that replaces PCA only by weights that are better with confidence.
    selection: CautiousSelection | None
    keeps_pca: bool  # as nothing could tell whether other weights are better
    n_done: int  # epochs of this fit that were run before it was cut short
    max_iter: int  # epochs, unless PCA is kept
    earlier_weight: float  # of constant data before, which count for the scaling, too


def make_plan(
    estimator,
    data,
    previous,
    *,
    X_val=None,
    groups=None,
    max_epochs=None,
    constant=None,
):
    """Plan a training on validated data.

    Parameters
    ----------
    estimator : BaseAutoencoder

    data : AnyRows

    previous : TrainingState or None
        That of the training that is continued; None for a new one.

    X_val : AnyRows, default=None
        Validation data.

    groups : ndarray of shape (n_samples,), default=None
        Numbers of groups of samples that are held out together.

    max_epochs : int, default=None
        At most so many epochs, without any validation; None for `max_iter`.

    constant : float, default=None
        Total weight of earlier data without a spread, which count for the mean and the
        scale of a new training.

    Returns
    -------
    plan : Plan

    Raises
    ------
    ValueError
        If parameters do not go together, or not with the data or the previous fit.
    """
    n_components = _code_size(estimator, data, previous)
    architecture = describe_network(estimator, data.n_features, n_components)
    pretrains = estimator.pretrain is not None and max_epochs is None
    init, seed = _init_and_seed(estimator, architecture, previous, pretrains)
    validates_itself = max_epochs is None and X_val is None
    is_cautious = validates_itself and _is_cautious(estimator, init)
    split = None
    if validates_itself:
        split = _split(estimator, data, seed, is_cautious, groups)
    train = data if split is None else data.choose(split.train)
    # PCA that may be kept is that of all samples.
    first = data if is_cautious else train
    scaling = _scaling(estimator, first, previous, constant, architecture, init)
    if split is not None:
        X_val = data.choose(split.held_out).materialized()
    objective = _make_objective(
        estimator, make_network(**architecture), train, X_val, scaling, validates_itself
    )
    first_rows = first.scaled(scaling.offset, scaling.scale)
    watches_validation = split is not None or stops_by_validation(estimator)
    solver = describe_solver(
        estimator, train.n_rows, max_epochs, watches_validation=watches_validation
    )
    finishes = _finishes(estimator, previous, solver)
    if finishes and previous.schedule is not None:
        solver = solver._replace(schedule=previous.schedule)
    if previous is None:
        initial = _initial_params(architecture, init, seed, first_rows)
        if pretrains:
            _pretrain(estimator, architecture, objective, initial, seed)
    else:
        initial = previous.initial_params
    keeps_pca, max_iter = is_cautious and split is None, solver.max_iter
    if keeps_pca:
        solver = solver._replace(max_iter=1)  # scikit-learn wants n_iter_ >= 1
    training = estimator._make_training(
        objective, solver, previous, initial, seed, max_epochs
    )
    selection = None
    if is_cautious:
        units = None if split is None else split.units
        selection = _make_selection(estimator, training, initial, previous, units)
    return Plan(
        estimator,
        architecture,
        training,
        init,
        initial,
        first_rows,
        scaling,
        is_warm_start=previous is not None,
        selection=selection,
        keeps_pca=keeps_pca,
        n_done=training.n_epochs_of_fit if finishes and not keeps_pca else 0,
        max_iter=max_iter,
        earlier_weight=constant or 0.0,
    )


def _finishes(estimator, previous, solver):
    """Whether a fit runs the epochs that are left of one that was cut short."""
    if previous is None:
        return False
    # With another number of epochs, or another solver, another fit is wanted.
    wanted = estimator.solver, solver.max_iter
    return (previous.solver, previous.cut_short_of) == wanted


# ---------------------------------------------------------------------------
# The network, and where its training begins
# ---------------------------------------------------------------------------


def _code_size(estimator, data, previous):
    """Size of the code: `n_components`, or as many as PCA needs for that share."""
    n_components = check_code_size(estimator.n_components)
    if isinstance(n_components, int):
        _warn_of_wide_code(estimator, n_components, data.n_features)
        return n_components
    if previous is not None:
        return estimator.n_components_
    mean, spread = mean_and_scale(data)
    rows = data.scaled(mean.astype(data.dtype), spread or 1.0)
    with single_threaded_blas():
        return n_components_for(rows, n_components)


def _warn_of_wide_code(estimator, n_components, n_features):
    if n_components >= n_features > 1 and _is_plain(estimator):
        warn(
            f"n_components={n_components} is not below the number of features, "
            f"{n_features}: the network may pass its input on, and learns nothing "
            "from that. Use fewer components, noise, or sparsity"
        )


def _is_plain(estimator):
    """Whether nothing but the loss, and a penalty of the weights, is minimized."""
    return estimator.noise is None and estimator._code_term() is None


def _init_and_seed(estimator, architecture, previous, pretrains):
    """How weights are initialized, and what all random numbers depend on."""
    if previous is not None:
        _check_can_continue(estimator, architecture, previous)
        return previous.init, previous.seed
    init = _chosen_init(estimator, architecture, pretrains)
    random_state = check_random_state(estimator.random_state)
    return init, int(random_state.randint(np.iinfo(np.int32).max))


def _chosen_init(estimator, architecture, pretrains):
    init, scale = estimator.init, estimator.scale
    if not pretrains and scale is not None:
        has_room = scale == "auto" and _is_plain(estimator)
        return chosen_init(init, architecture, has_room=has_room)
    if init == "pca":
        other = "scale=None, as principal components are those of centred data"
        if pretrains:
            other = (
                f"pretrain={estimator.pretrain!r}, as layers begin at random weights"
            )
        raise ValueError(f"init='pca' does not go with {other}: use init='auto'")
    return "random" if init == "auto" else init


def _is_cautious(estimator, init):
    """Whether PCA is replaced only by weights that are better with confidence."""
    # PCA is what a plain autoencoder must not fall behind.
    is_auto = estimator.early_stopping == "auto"
    return _is_plain(estimator) and is_auto and init == "pca"


def _initial_params(architecture, init, seed, rows):
    """Where training begins, in the dtype of the rows."""
    network, activations = make_network(**architecture), architecture["activations"]
    if init != "pca":
        return random_params(network, activations, init, seed, rows.dtype)
    with single_threaded_blas():
        n_components = int(network.widths[network.n_layers // 2])
        components = principal_components(rows, n_components, seed)
        least = cache(partial(least_scores, rows, components))
        return pca_params(network, activations, components, least, seed, rows.dtype)


def _check_can_continue(estimator, architecture, previous):
    """Raise ValueError if the parameters are another network's than the fitted."""
    if architecture != estimator._architecture:
        fitted = estimator._architecture
        now = {k: v for k, v in architecture.items() if v != fitted[k]}
        raise ValueError(
            f"A network cannot go on training with {now}: it was fitted with "
            f"{ {k: fitted[k] for k in now} }. Set n_components, "
            "hidden_layer_sizes, the activations or tied_weights back, or fit "
            "with warm_start=False"
        )
    is_scaled = LOSSES[estimator.loss].is_scaled
    if is_scaled and not _has_scale_of(estimator, previous):
        raise ValueError(
            f"A network cannot go on training with scale={estimator.scale!r}: it has "
            f"seen the data divided by {estimator.scale_!r}, with "
            f"scale={previous.scale!r}. Set scale back, or fit with "
            "warm_start=False"
        )
    if is_scaled != LOSSES[previous.loss].is_scaled:
        raise ValueError(
            f"A network cannot go on training with loss={estimator.loss!r}: with "
            f"loss={previous.loss!r} it has seen the data on another scale. Fit "
            "with warm_start=False"
        )


def _has_scale_of(estimator, previous):
    """Whether `scale` is as it was, or the number that the data were divided by."""
    if isinstance(estimator.scale, numbers.Real) and previous.scale is not None:
        return estimator.scale == estimator.scale_
    return estimator.scale == previous.scale


# ---------------------------------------------------------------------------
# Which samples, and how the network sees them
# ---------------------------------------------------------------------------


def _split(estimator, data, seed, is_cautious, groups):
    """Samples to train on and to validate by; None: nothing is held out."""
    if not is_cautious and not stops_by_validation(estimator):
        return None
    used = data.weights > 0 if data.weights.size else np.ones(data.n_rows, bool)
    if is_cautious and used.sum() < _MIN_ROWS_TO_JUDGE:
        return None
    fraction = estimator.validation_fraction
    with single_threaded_blas():
        split = hold_out(data, fraction, seed, groups)
    if is_cautious:
        if split is None or not used[split.train].any():
            return None
        n_units = len(np.unique(split.units[used[split.held_out]]))
        return split if n_units >= _MIN_UNITS_TO_JUDGE else None
    if split is None:
        raise ValueError(
            f"early_stopping={estimator.early_stopping!r} cannot set aside "
            f"validation_fraction={fraction!r} of n_samples="
            f"{data.n_rows}: no samples would be left to train on, or all are "
            "identical or of one group. Use early_stopping=False, X_val, more "
            "samples, or another validation_fraction"
        )
    parts = {"training": split.train, "validation": split.held_out}
    for name, numbered in parts.items():
        if not used[numbered].any():
            raise ValueError(
                f"All {name} rows have sample_weight 0: change random_state or "
                "validation_fraction, or pass X_val"
            )
    return split


def _scaling(estimator, data, previous, constant, architecture, init):
    """How the network sees the data; one that is trained further sees as before."""
    exact_mean, spread = mean_and_scale(data)
    if constant is not None:
        exact_mean, spread = with_constant(
            exact_mean, spread, estimator.mean_, data.total_weight, constant
        )
    # A penalty or noise is in the network's units, too: they stay as they are.
    n_layers = n_saturating(architecture) if _is_plain(estimator) else 0
    largest = partial(largest_distance, data, exact_mean, spread)
    auto = partial(auto_scale, n_layers, init, spread, largest)
    mean = exact_mean.astype(data.dtype)
    if previous is None:
        offset, scale = describe_scaling(estimator, mean, spread, auto)
    else:
        # What is seen on the scale of earlier rows may vary by less than that.
        fitted = estimator.scale_
        describe_scaling(estimator, mean, max(spread, fitted), lambda: fitted)
        mean, offset, scale = estimator.mean_, estimator._offset, fitted
    mean_seen = (exact_mean - offset) / scale
    total_variance = data.n_features * (spread / scale) ** 2
    return Scaling(mean, offset, scale, mean_seen, total_variance)


# ---------------------------------------------------------------------------
# The training
# ---------------------------------------------------------------------------


def _make_objective(estimator, network, train, validation, scaling, validates_itself):
    """What is trained on selected rows, and judged by others; None: by these."""
    loss, how = LOSSES[estimator.loss], (scaling.offset, scaling.scale)
    rows = train.scaled(*how)
    return loop.Objective(
        for_loss(network, loss),
        loss,
        float(estimator.alpha),
        rows,
        rows.empty() if validation is None else validation.scaled(*how),
        describe_corruption(estimator, partial(extremes, train)),
        estimator._code_term(),
        validates_itself,
    )


def training_kind(solver, rows):
    """The class of the trainings on rows of this process, by a solver's name."""
    if solver == "lbfgs":
        return LbfgsTraining
    return StochasticTraining if rows.is_in_memory else StreamedTraining


def make_training(
    kind, solver_name, objective, solver, previous, initial, seed, max_epochs
):
    """A training of a class, with a solver: new, or continuing from a state."""
    if previous is None:
        return kind.begin(objective, solver, initial, seed, max_epochs)
    arrays = previous.arrays
    params = arrays["params"] if max_epochs is None else previous.kept_params
    if params is arrays["params"] and previous.solver == solver_name:
        return kind.resume(objective, solver, previous, max_epochs)
    # From these weights, without what was remembered of the steps to others, or
    # of another solver's.
    training = kind.begin(objective, solver, params, seed, max_epochs)
    state = training.state
    before = previous.progress()
    for name in ("n_epochs", "cycle_start", "best_epoch", "best_kept", "start_loss"):
        setattr(state.progress, name, getattr(before, name))
    state.best_params[:] = arrays["best_params"]
    return training


def _make_selection(estimator, training, initial, previous, units):
    """What chooses cautiously among the weights of a training."""
    if previous is None:
        return CautiousSelection(training, initial, 0, units=units)
    n_before, selected = len(estimator.loss_curve_), None
    if previous.selected is not None:
        epoch = previous.selected_epoch or 0
        selected = loop.Kept(previous.selected, epoch, "selected")
    return CautiousSelection(training, initial, n_before, selected, units=units)


def _pretrain(estimator, architecture, objective, params, seed):
    """Train layer by layer, in place."""
    n_rows = objective.rows.n_rows
    solver = describe_solver(estimator, n_rows, watches_validation=False)
    n_epochs = max(1, round(_PRETRAINING_SHARE * solver.max_iter))
    solver = solver._replace(max_iter=n_epochs)
    n_pairs = len(architecture["activations"]) // 2

    def train(objective, initial, number):
        training = estimator._make_training(
            objective, solver, None, initial, seed, None
        )
        name = f"{type(estimator).__name__}, layer {number} of {n_pairs}"
        report = None
        if estimator.verbose:
            report = VerboseReport(name, 0, every_epoch=estimator.verbose > 1)
        with training:
            status, _ = loop.fit(training, initial, n_epochs, report)
            if status == INTERRUPTED:
                raise KeyboardInterrupt
            loop.check_finite(training, status)
            return loop.kept_weights(training, initial).params

    with divergence_explained(estimator):
        pretrained_params(architecture, objective, params, train)


@contextlib.contextmanager
def divergence_explained(estimator):
    """Raise ValueError, which says what helps, where training diverges."""
    try:
        yield
    except loop.ValidationLossError:
        raise ValueError(
            "X_val is too large: at the weights that training starts with its loss "
            "is not finite, unlike that of X. Bring both to the same units"
        ) from None
    except loop.DivergedError:
        mend = f"Lower learning_rate_init (now {estimator.learning_rate_init})"
        if estimator.solver == "lbfgs":
            mend = "Use another init"
        raise ValueError(
            f"Training diverged: with solver={estimator.solver!r} and "
            f"loss={estimator.loss!r} the loss exploded, or a weight became infinite "
            "or NaN. "
            f"{mend}, or bring the features to a common scale, for example with "
            "StandardScaler"
        ) from None
