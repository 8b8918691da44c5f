"""From validated data and an estimator's parameters to a training.

Functions read the estimator's parameters, its fitted attributes and its hooks, which
are methods that members of the family override. They do not change it.
"""

import contextlib
import numbers
from collections.abc import Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from skae._compiled.corruption import Corruption
from skae._compiled.epochs import INTERRUPTED
from skae._compiled.losses import LOSSES
from skae._compiled.records import Network, Solver
from skae._data.gaussian import Gaussian, filled, fit_gaussian
from skae._data.hold_out import Split, hold_out
from skae._data.rows import AnyRows
from skae._data.statistics import (
    extremes,
    largest_distance,
    mean_and_scale,
    mean_and_spread,
    with_constant,
)
from skae._model.groups import Groups, log_frequencies, of_units, unit_weights
from skae._model.initialization import (
    begin_at_frequencies,
    chosen_init,
    forget_features,
    n_saturating,
    pca_params,
    random_params,
)
from skae._model.network import for_loss, make_network
from skae._model.pca import (
    components_of,
    least_scores,
    n_components_for,
    principal_components,
    with_logits,
)
from skae._runtime.blas import single_threaded_blas
from skae._runtime.user_warnings import warn
from skae._training import loop
from skae._training.lbfgs import LbfgsTraining
from skae._training.loop import StochasticTraining, StreamedTraining
from skae._training.pretraining import pretrained_params
from skae._training.reporting import VerboseReport
from skae._training.settings import (
    auto_scale,
    check_code_size,
    describe_columns,
    describe_corruption,
    describe_network,
    describe_scaling,
    describe_solver,
    penalty_strength,
    stops_by_validation,
)
from skae._training.state import TrainingState
from skae._training.weight_selection import CautiousSelection
from skae._typing import Floats, Scale

# With fewer samples, "auto" keeps PCA: too few would be held out to tell whether other
# weights are better.
_MIN_ROWS_TO_JUDGE = 40
# The same for units, such as groups, whose samples are held out together.
_MIN_UNITS_TO_JUDGE = 4
# Directions of the distribution by which missing entries are filled: at least so many,
# and so many more than the code has entries.
_N_DIRECTIONS, _N_SPARE_DIRECTIONS = 32, 10
# Pretraining trains each layer for this share of the epochs of a fit.
_PRETRAINING_SHARE = 0.2


class Scaling(NamedTuple):
    """How a network sees data: (X - offset) / scale."""

    mean: np.ndarray  # (n_features,) of the training data
    offset: np.ndarray  # (n_features,) the mean, or zeros
    scale: Scale
    # Moments of the rows in use, as the network sees them.
    mean_seen: np.ndarray  # (n_features,) float64
    total_variance: float
    never_observed: np.ndarray  # numbers of features of which all entries are missing

    def of(self, rows: AnyRows) -> AnyRows:
        """Rows scaled as the network sees them."""
        return rows.scaled(self.offset, self.scale)

    def seen(self, rows: AnyRows, gaussian: Gaussian | None) -> AnyRows:
        """Rows as the network sees them: scaled, with expectations of missing entries.

        Without a distribution that was fitted, these are the means.
        """
        rows = self.of(rows)
        if not rows.has_missing:
            return rows
        if gaussian is None:
            gaussian = Gaussian.without_directions(self.mean_seen)
        return rows.filled_by(partial(filled, gaussian=gaussian))


class Plan(NamedTuple):
    """All that is derived from parameters and data before training."""

    estimator: Any
    architecture: dict[str, Any]  # arguments of make_network
    training: loop.Training
    init: str  # how the weights were initialized, before any training
    initial_params: np.ndarray
    first_rows: AnyRows  # used for the initialization, and to order the code
    scaling: Scaling
    is_warm_start: bool
    # None unless weights replace PCA only if they are better with confidence.
    selection: CautiousSelection | None
    keeps_pca: bool  # because other weights could not be judged
    n_done: int  # epochs of this fit that were run before it was cut short
    max_iter: int  # epochs, unless PCA is kept
    earlier_weight: float  # of earlier constant data, which count in the scaling
    gaussian: Gaussian | None  # which fills missing entries


def make_plan(
    estimator: Any,
    data: AnyRows,
    previous: TrainingState | None,
    *,
    X_val: AnyRows | None = None,
    groups: np.ndarray | None = None,
    max_epochs: int | None = None,
    constant: float | None = None,
) -> Plan:
    """Plan a training on validated data.

    Parameters
    ----------
    estimator : BaseAutoencoder

    data : AnyRows

    previous : TrainingState or None
        State of the training to continue; None for a new one.

    X_val : AnyRows, default=None
        Validation data.

    groups : ndarray of shape (n_samples,), default=None
        Numbers of the samples' groups, which are held out as a whole.

    max_epochs : int, default=None
        Maximum number of epochs, without validation; None for `max_iter`.

    constant : float, default=None
        Total weight of earlier, constant data, which count in the mean and the scale of
        a new training.

    Returns
    -------
    plan : Plan

    Raises
    ------
    ValueError
        If parameters do not go together, or not with the data or the previous fit.
    """
    of_all = None
    if _scales_columns(estimator):
        of_all = _scaling_of_columns(estimator, data, previous, constant)
    n_components = _code_size(estimator, data, previous, of_all)
    sizes = data.n_features, n_components, estimator._group_sizes
    architecture = describe_network(estimator, *sizes)
    network = make_network(**architecture)
    pretrains = estimator.pretrain is not None and max_epochs is None
    init, seed = _init_and_seed(estimator, architecture, previous, pretrains)
    validates_itself = max_epochs is None and X_val is None
    is_cautious = validates_itself and _is_cautious(estimator, init)
    split = None
    if validates_itself:
        unit = None if of_all is None else of_all.scale
        split = _split(estimator, data, seed, is_cautious, groups, unit)
    train = data if split is None else data.choose(split.train)
    # If PCA may be kept, it is that of all samples.
    first = data if is_cautious else train
    if of_all is None:
        scaling = _scaling(estimator, first, previous, constant, architecture, init)
    elif first is data:
        scaling = of_all
    else:
        scaling = _scaling_of_columns(estimator, first, previous, constant)
    gaussian = _gaussian(estimator, scaling, first, previous, n_components, seed)
    corruption = describe_corruption(
        estimator, partial(extremes, train), has_groups=network.n_groups > 0
    )
    data = scaling.seen(data, gaussian)
    train = data if split is None else data.choose(split.train)
    first_rows = data if is_cautious else train
    if split is not None:
        X_val = data.choose(split.held_out).materialized()
    elif X_val is not None:
        X_val = scaling.seen(X_val, gaussian)
    parts = network, scaling, train, X_val, corruption
    objective = _objective(estimator, *parts, validates_itself=validates_itself)
    watches_validation = split is not None or stops_by_validation(estimator)
    solver = describe_solver(
        estimator, train.n_rows, max_epochs, watches_validation=watches_validation
    )
    if previous is None:
        finishes = False
        args = estimator, architecture, init, seed
        initial = _initial_params(*args, first_rows, gaussian, scaling)
        forget_features(objective.network, initial, scaling.never_observed)
        if pretrains:
            _pretrain(estimator, architecture, objective, initial, seed)
    else:
        finishes = _finishes(estimator, previous, solver)
        initial = previous.initial_params
        if finishes and previous.schedule is not None:
            solver = solver._replace(schedule=previous.schedule)
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
        gaussian=gaussian,
    )


def _finishes(estimator: Any, previous: TrainingState, solver: Solver) -> bool:
    """Whether a fit runs the remaining epochs of one that was cut short."""
    # With another solver or number of epochs it is a new fit.
    wanted = estimator.solver, solver.max_iter
    return bool((previous.solver, previous.cut_short_of) == wanted)


# ---------------------------------------------------------------------------
# The network and its initialization
# ---------------------------------------------------------------------------


def _code_size(
    estimator: Any,
    data: AnyRows,
    previous: TrainingState | None,
    scaling: Scaling | None,
) -> int:
    """Size of the code: `n_components`, or what PCA needs for such a share."""
    n_components = check_code_size(estimator.n_components)
    if isinstance(n_components, int):
        # The inputs of a group sum to 1.
        n_free = data.n_features - len(estimator._group_sizes)
        _warn_of_wide_code(estimator, n_components, n_free)
        return n_components
    if previous is not None:
        n_fitted: int = estimator.n_components_
        return n_fitted
    if scaling is not None:
        rows, mean_seen = scaling.of(data), scaling.mean_seen
        weights = _weights_of_inputs(estimator, rows.n_features)
        with single_threaded_blas():
            return n_components_for(
                rows,
                n_components,
                scaling.never_observed,
                mean=mean_seen,
                weights=weights,
                is_table=len(estimator._group_sizes) > 0,
            )
    mean, spread = mean_and_scale(data)
    never_observed = np.flatnonzero(np.isnan(mean))
    mean[never_observed] = 0
    rows = data.scaled(mean.astype(data.dtype), spread or 1.0)
    with single_threaded_blas():
        return n_components_for(rows, n_components, never_observed)


def _warn_of_wide_code(estimator: Any, n_components: int, n_features: int) -> None:
    if n_components >= n_features > 1 and _is_plain(estimator):
        warn(
            f"n_components={n_components} is not below the number of features, "
            f"{n_features}: the network may copy its input, and learn nothing. Use "
            "fewer components, noise, or sparsity"
        )


def _is_plain(estimator: Any) -> bool:
    """Whether only the loss, and a penalty of the weights, is minimized."""
    return not estimator._draws_noise and estimator._code_term() is None


def _init_and_seed(
    estimator: Any,
    architecture: dict[str, Any],
    previous: TrainingState | None,
    pretrains: bool,
) -> tuple[str, int]:
    """Initialization of the weights, and the seed of all random numbers."""
    if previous is not None:
        _check_can_continue(estimator, architecture, previous)
        return previous.init, previous.seed
    init = _chosen_init(estimator, architecture, pretrains)
    random_state = check_random_state(estimator.random_state)
    return init, int(random_state.randint(np.iinfo(np.int32).max))


def _chosen_init(estimator: Any, architecture: dict[str, Any], pretrains: bool) -> str:
    init: str = estimator.init
    scale = estimator.scale
    if not pretrains and scale is not None:
        has_room = scale == "auto" and _is_plain(estimator)
        return chosen_init(init, architecture, has_room=has_room)
    if init == "pca":
        other = "scale=None, because PCA needs centered data"
        if pretrains:
            other = f"pretrain={estimator.pretrain!r}, which begins at random weights"
        raise ValueError(f"init='pca' does not go with {other}: use init='auto'")
    return "random" if init == "auto" else init


def _is_cautious(estimator: Any, init: str) -> bool:
    """Whether PCA is replaced only by weights that are better with confidence."""
    # A plain autoencoder must not be worse than PCA.
    is_auto: bool = estimator.early_stopping == "auto"
    return _is_plain(estimator) and is_auto and init == "pca"


def _initial_params(
    estimator: Any,
    architecture: dict[str, Any],
    init: str,
    seed: int,
    rows: AnyRows,
    gaussian: Gaussian | None,
    scaling: Scaling,
) -> Floats:
    """Initial weights and biases, in the dtype of the rows.

    With a distribution of rows, "pca" is that of the distribution.
    """
    network, activations = make_network(**architecture), architecture["activations"]
    logits = log_frequencies(scaling.mean, network)
    if init != "pca":
        params = random_params(network, activations, init, seed, rows.dtype)
        begin_at_frequencies(network, params, logits)
        return params
    with single_threaded_blas():
        n_components = int(network.widths[network.n_layers // 2])
        if gaussian is None:
            components = principal_components(
                rows,
                n_components,
                seed,
                mean=scaling.mean_seen if network.n_groups else None,
                weights=_weights_of_inputs(estimator, rows.n_features),
                is_table=network.n_groups > 0,
            )
        else:
            components = components_of(gaussian, n_components)
        if network.n_groups:
            components = with_logits(components, rows, network, logits)
        least = cache(partial(least_scores, rows, components))
        return pca_params(network, activations, components, least, seed, rows.dtype)


def _weights_of_inputs(estimator: Any, n_features: int) -> Floats | None:
    """Weights of the errors of all inputs of a network; None for ones."""
    weights, sizes = estimator._column_weights, estimator._group_sizes
    if weights is None:
        return None
    return of_units(weights, Groups.of(n_features - sum(sizes), sizes))


def _check_can_continue(
    estimator: Any, architecture: dict[str, Any], previous: TrainingState
) -> None:
    """Raise ValueError if the parameters do not match the fitted network."""
    if architecture != estimator._architecture:
        fitted = estimator._architecture
        now = {k: v for k, v in architecture.items() if v != fitted[k]}
        raise ValueError(
            f"A network cannot continue training with {now}: it was fitted with "
            f"{ {k: fitted[k] for k in now} }. Set n_components, "
            "hidden_layer_sizes, the activations or tied_weights back, or fit "
            "with warm_start=False"
        )
    is_scaled = LOSSES[estimator.loss].is_scaled
    if is_scaled and not _has_scale_of(estimator, previous):
        raise ValueError(
            f"A network cannot continue training with scale={estimator.scale!r}: with "
            f"scale={previous.scale!r} it has seen the data divided by "
            f"{estimator.scale_!r}. Set scale back, or fit with warm_start=False"
        )
    if is_scaled != LOSSES[previous.loss].is_scaled:
        raise ValueError(
            f"A network cannot continue training with loss={estimator.loss!r}: with "
            f"loss={previous.loss!r} it has seen the data on another scale. Fit "
            "with warm_start=False"
        )


def _has_scale_of(estimator: Any, previous: TrainingState) -> bool:
    """Whether `scale` is unchanged, or the number that the data were divided by."""
    if isinstance(estimator.scale, numbers.Real) and previous.scale is not None:
        return bool(estimator.scale == estimator.scale_)
    return bool(estimator.scale == previous.scale)


# ---------------------------------------------------------------------------
# The samples, and how the network sees them
# ---------------------------------------------------------------------------


def _split(
    estimator: Any,
    data: AnyRows,
    seed: int,
    is_cautious: bool,
    groups: np.ndarray | None,
    unit: Scale | None,
) -> Split | None:
    """Training and validation samples; None if nothing is held out."""
    if not is_cautious and not stops_by_validation(estimator):
        return None
    used = data.weights > 0 if data.weights.size else np.ones(data.n_rows, bool)
    if is_cautious and used.sum() < _MIN_ROWS_TO_JUDGE:
        return None
    fraction, sizes = estimator.validation_fraction, estimator._group_sizes
    n_plain = data.n_features - sum(sizes) if sizes else None
    with single_threaded_blas():
        split = hold_out(data, fraction, seed, groups, unit, n_plain)
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
                f"All {name} samples have sample_weight 0: change random_state or "
                "validation_fraction, or pass X_val"
            )
    return split


def _scaling(
    estimator: Any,
    data: AnyRows,
    previous: TrainingState | None,
    constant: float | None,
    architecture: dict[str, Any],
    init: str,
) -> Scaling:
    """How the network sees the data; a continued training keeps the scaling."""
    exact_mean, spread = mean_and_scale(data)
    is_observed = ~np.isnan(exact_mean)
    exact_mean[~is_observed] = 0
    if constant is not None:
        exact_mean, spread = with_constant(
            exact_mean, spread, estimator.mean_, data.total_weight, constant
        )
    # Noise and sparsity are in the network's units, which therefore stay as they are.
    n_layers = n_saturating(architecture) if _is_plain(estimator) else 0
    largest = partial(largest_distance, data, exact_mean, spread)
    auto = partial(auto_scale, n_layers, init, spread, largest)
    mean = exact_mean.astype(data.dtype)
    if previous is None:
        offset, scale = describe_scaling(estimator, mean, spread, auto)
    else:
        # Data may vary by less than the scale of earlier ones.
        fitted = estimator.scale_
        describe_scaling(estimator, mean, max(spread, fitted), lambda: fitted)
        mean, offset, scale = estimator.mean_, estimator._offset, fitted
    mean_seen = (exact_mean - offset) / scale
    total_variance = np.count_nonzero(is_observed) * (spread / scale) ** 2
    never_observed = np.flatnonzero(~is_observed)
    return Scaling(mean, offset, scale, mean_seen, total_variance, never_observed)


def _scales_columns(estimator: Any) -> bool:
    """Whether features are divided by numbers of their own."""
    is_standard = isinstance(estimator.scale, str) and estimator.scale == "standard"
    return is_standard or len(estimator._group_sizes) > 0


def _scaling_of_columns(
    estimator: Any,
    data: AnyRows,
    previous: TrainingState | None,
    constant: float | None,
) -> Scaling:
    """`_scaling` where features are divided by numbers of their own.

    Numbers are standardized, unless `scale` says otherwise. The inputs of a group are
    not centered, so that they are sparse, and their variances sum to 1.
    """
    is_table = len(estimator._group_sizes) > 0
    exact_mean, spreads = mean_and_spread(data, is_table=is_table)
    is_observed = ~np.isnan(exact_mean)
    exact_mean[~is_observed] = 0
    if constant is not None:
        weights = data.total_weight, constant
        exact_mean, spreads = with_constant(
            exact_mean, spreads, estimator.mean_, *weights
        )
    if previous is None:
        mean = exact_mean.astype(data.dtype)
        sizes = estimator._group_sizes
        offset, scale = describe_columns(estimator, mean, spreads, sizes)
    else:
        mean, offset, scale = estimator.mean_, estimator._offset, estimator.scale_
    mean_seen = (exact_mean - offset) / scale
    total_variance = float(((spreads / scale) ** 2).sum())
    never_observed = np.flatnonzero(~is_observed)
    return Scaling(mean, offset, scale, mean_seen, total_variance, never_observed)


def _gaussian(
    estimator: Any,
    scaling: Scaling,
    rows: AnyRows,
    previous: TrainingState | None,
    n_components: int,
    seed: int,
) -> Gaussian | None:
    """Distribution by which missing entries are filled; None: by their means.

    A continued training keeps it, and so does one that began with complete data.
    """
    if previous is not None:
        kept = estimator._gaussian
        return None if kept is None else Gaussian(**kept)
    if not rows.has_missing:
        return None
    n_directions = max(_N_DIRECTIONS, n_components + _N_SPARE_DIRECTIONS)
    with single_threaded_blas():
        seen = scaling.of(rows)
        return fit_gaussian(seen, n_directions, scaling.never_observed, seed)


# ---------------------------------------------------------------------------
# The training
# ---------------------------------------------------------------------------


def training_kind(solver: str, rows: AnyRows) -> type[loop.Training]:
    """The class of trainings by a solver, on rows in this process."""
    if solver == "lbfgs":
        return LbfgsTraining
    return StochasticTraining if rows.is_in_memory else StreamedTraining


def make_training(
    kind: type[loop.Training],
    solver_name: str,
    objective: loop.Objective,
    solver: Solver,
    previous: TrainingState | None,
    initial: Floats,
    seed: int,
    max_epochs: int | None,
) -> loop.Training:
    """Make a training of a class: a new one, or one that continues from a state."""
    if previous is None:
        return kind.begin(objective, solver, initial, seed, max_epochs)
    arrays = previous.arrays
    params = arrays["params"] if max_epochs is None else previous.kept_params
    if params is arrays["params"] and previous.solver == solver_name:
        return kind.resume(objective, solver, previous, max_epochs)
    # These weights begin without the moments of others, or of another solver.
    training = kind.begin(objective, solver, params, seed, max_epochs)
    state = training.state
    before = previous.progress()
    for name in ("n_epochs", "cycle_start", "best_epoch", "best_kept", "start_loss"):
        setattr(state.progress, name, getattr(before, name))
    state.best_params[:] = arrays["best_params"]
    return training


def _objective(
    estimator: Any,
    network: Network,
    scaling: Scaling,
    train: AnyRows,
    X_val: AnyRows | None,
    corruption: Corruption | None,
    *,
    validates_itself: bool,
) -> loop.Objective:
    """The function of the weights that training minimizes, and its data."""
    loss, weights = LOSSES[estimator.loss], estimator._column_weights
    is_balanced = not estimator._codes_are_distributions
    weights = unit_weights(scaling.mean, network, weights, is_balanced=is_balanced)
    return loop.Objective(
        for_loss(network, loss),
        loss,
        penalty_strength(estimator, train.n_rows),
        train,
        train.empty() if X_val is None else X_val,
        corruption,
        estimator._code_term(),
        validates_itself,
        None if weights is None else weights.astype(train.dtype),
    )


def _make_selection(
    estimator: Any,
    training: loop.Training,
    initial: Floats,
    previous: TrainingState | None,
    units: np.ndarray | None,
) -> CautiousSelection:
    """Make what replaces PCA only by weights that are better with confidence."""
    if previous is None:
        return CautiousSelection(training, initial, 0, units=units)
    n_before, selected = len(estimator.loss_curve_), None
    if previous.selected is not None:
        epoch = previous.selected_epoch or 0
        selected = loop.Kept(previous.selected, epoch, "selected")
    return CautiousSelection(training, initial, n_before, selected, units=units)


def _pretrain(
    estimator: Any,
    architecture: dict[str, Any],
    objective: loop.Objective,
    params: Floats,
    seed: int,
) -> None:
    """Train layer by layer, which changes `params` in place."""
    n_rows = objective.rows.n_rows
    solver = describe_solver(estimator, n_rows, watches_validation=False)
    n_epochs = max(1, round(_PRETRAINING_SHARE * solver.max_iter))
    solver = solver._replace(max_iter=n_epochs)
    n_pairs = len(architecture["activations"]) // 2

    def train(objective: loop.Objective, initial: Floats, number: int) -> Floats:
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
def divergence_explained(estimator: Any) -> Iterator[None]:
    """Raise ValueError that says what helps if training diverges."""
    try:
        yield
    except loop.ValidationLossError:
        raise ValueError(
            "X_val is too large: at the initial weights its loss is not finite, unlike "
            "that of X. Bring both to the same units"
        ) from None
    except loop.DivergedError:
        mend = f"Lower learning_rate_init (now {estimator.learning_rate_init})"
        if estimator.solver == "lbfgs":
            mend = "Use another init"
        raise ValueError(
            f"Training diverged: with solver={estimator.solver!r} and "
            f"loss={estimator.loss!r} the loss exploded, or a weight became infinite "
            f"or NaN. {mend}, or bring the features to a common scale, for example "
            "with StandardScaler"
        ) from None
