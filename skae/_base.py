"""What the members of the family share: from parameters and data to a training."""

import contextlib
import numbers
import time
import warnings
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from skae._compiled.kernels import INTERRUPTED, RUNNING
from skae._compiled.passes import ACTIVATION_RANGES, LOSSES, SOLVERS
from skae._compiled.records import (
    BEST_EPOCH,
    BEST_KEPT,
    CYCLE_START,
    N_EPOCHS,
    SEED,
    START_LOSS,
    Rows,
)
from skae._compiled.schedules import SCHEDULES
from skae._data.hold_out import hold_out
from skae._data.rows import n_counted
from skae._data.statistics import (
    Selection,
    extremes,
    largest_distance,
    measure,
    with_constant,
)
from skae._data.validation import check_rows, check_validation_rows, check_weights
from skae._model.inference import code_moments, mean_code
from skae._model.initialization import (
    chosen_init,
    n_saturating,
    pca_params,
    random_params,
)
from skae._model.network import explained_variance, for_loss, make_network, order_code
from skae._model.pca import least_scores, n_components_for, principal_components
from skae._names import hints
from skae._runtime.threads import single_threaded_blas
from skae._sklearn import CallbackSupportMixin, DocumentedMixin
from skae._training import loop
from skae._training.lbfgs import LbfgsTraining
from skae._training.loop import StochasticTraining, StreamedTraining
from skae._training.pretraining import pretrained_params
from skae._training.reporting import (
    CallbackReport,
    JoinedReports,
    VerboseReport,
    print_end,
    warn,
)
from skae._training.settings import (
    auto_scale,
    check_code_size,
    describe_corruption,
    describe_network,
    describe_scaling,
    describe_solver,
    describe_sparsity,
    loss_range,
    stops_by_validation,
    value_range,
)
from skae._training.weight_selection import CautiousSelection

_DTYPES = (np.float64, np.float32)
# With fewer rows "auto" does not leave the principal components: of those held out,
# too few are left to tell whether that would do good.
_MIN_ROWS_TO_JUDGE = 40
# The same of samples that are held out together, such as groups.
_MIN_UNITS_TO_JUDGE = 4
# Of the epochs of a fit, how many more each layer gets before.
_PRETRAINING_SHARE = 0.2
# Attributes that a fit with other parameters does not leave.
_OPTIONAL_ATTRIBUTES = (
    "validation_loss_curve_",
    "explained_variance_",
    "explained_variance_ratio_",
    "mean_activation_",
)


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

    architecture: dict  # arguments of make_network
    training: loop.Training
    init: str  # how it began, before any training
    initial_params: np.ndarray
    first_rows: Rows  # that it began with, and whose code is ordered
    scaling: Scaling
    goes_on: bool  # from an earlier fit
    # Of a training that leaves the principal components only if that surely does good.
    selection: CautiousSelection | None
    stays: bool  # and does not leave them: nothing could tell whether it does good
    max_iter: int  # epochs, if it does not stay
    earlier_weight: float  # of constant data before, which count for the scaling, too


class BaseAutoencoder(
    DocumentedMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    CallbackSupportMixin,
    BaseEstimator,
):
    """Validation, training and fitted attributes of an autoencoder.

    A subclass has the parameters of `AutoencoderTransformer`, or constants in their
    place.
    """

    _is_variational = False

    @property
    def _n_features_out(self):
        return self.n_components_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        # Tags are asked for before parameters are validated.
        loss = LOSSES.get(self.loss) if isinstance(self.loss, str) else None
        is_auto = isinstance(self.scale, str) and isinstance(
            self.output_activation, str
        )
        low, _ = ACTIVATION_RANGES.get(
            self.output_activation if is_auto else "", (1, 1)
        )
        tags.input_tags.positive_only = low == 0 or (
            loss is not None and not loss.is_scaled
        )
        return tags

    # -- validation ----------------------------------------------------------------

    def _validate_params(self):
        with hints(self):
            super()._validate_params()

    @contextlib.contextmanager
    def _unchanged_on_error(self):
        """Undo what validation has set if what follows it, up to the fit, fails."""
        before, params = self._validated_attributes(), self.__dict__.get("_params")
        try:
            yield
        except BaseException:
            if self.__dict__.get("_params") is not params:
                raise  # by what came after the fit, to whose data they belong
            for name in self._validated_attributes():
                del self.__dict__[name]
            self.__dict__.update(before)
            raise

    def _validate_rows(self, X, *, dtype=_DTYPES, **kwargs):
        return check_rows(self, X, dtype, **{"reset": False, **kwargs})

    def _validate_training_data(self, X, sample_weight, saved):
        """Rows and weights, checked; in the dtype of a state that is gone on with."""
        dtype = _DTYPES if saved is None else saved["arrays"]["params"].dtype
        self._warn_of_dask(X)
        limits = self._value_range(saved)
        X = self._validate_rows(X, dtype=dtype, limits=limits, reset=saved is None)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, X.shape[0])
        return X, sample_weight

    def _value_range(self, saved):
        """Values that training data may have, or None: any."""
        limits = value_range(self)
        if limits is None or limits.is_strict or saved is None:
            return limits
        # Fitted with another `scale`, or by a version that did not know of the range.
        return None if self.scale_ != 1 or self._offset.any() else limits

    def _warn_of_dask(self, X):
        """Say what becomes of a Dask collection; Dask is not imported for that."""
        if type(X).__module__.partition(".")[0] != "dask":
            return
        message = (
            "X is a Dask collection, whose data are gathered in the memory of this "
            "process"
        )
        if not self._is_variational:
            message += ": skae.dask.DaskAutoencoderTransformer trains where they are"
        warn(message)

    def _checked_validation_rows(self, X_val, dtype):
        """What `fit` is given as `X_val`: a `Selection`, or None."""
        limits = loss_range(self.loss)
        X_val = check_validation_rows(self, X_val, dtype, limits)
        return None if X_val is None else Selection(X_val)

    def _validated_attributes(self):
        """What validation has set, by name."""
        names = "n_features_in_", "feature_names_in_"
        return {name: self.__dict__[name] for name in names if name in self.__dict__}

    # -- from parameters and data to a training ------------------------------------

    def _plan(
        self, data, saved, *, X_val=None, groups=None, max_epochs=None, constant=None
    ):
        """A training of validated data, new or going on from a saved state.

        There will be `max_epochs` at most, and no rows are set aside for validation; or
        `max_iter`. `constant` is the state of a training on data without a spread,
        which count for the mean and scale of a new one.
        """
        n_components = self._code_size(data, saved)
        architecture = describe_network(self, data.n_features, n_components)
        pretrains = self.pretrain is not None and max_epochs is None
        init, seed = self._init_and_seed(architecture, saved, pretrains)
        validates_itself = max_epochs is None and X_val is None
        is_cautious = validates_itself and self._is_cautious(init)
        split = None
        if validates_itself:
            split = self._split(data, seed, is_cautious, groups)
        train = data if split is None else data.choose(split.train)
        # Where training is cautious all rows have their say in where it begins.
        first = data if is_cautious else train
        scaling = self._measure(first, saved, constant, architecture, init)
        if split is not None:
            X_val = data.choose(split.held_out).kept()
        network = make_network(**architecture)
        problem = self._problem(network, train, X_val, scaling, validates_itself)
        first_rows = first.see(scaling.offset, scaling.scale)
        watches_validation = split is not None or stops_by_validation(self)
        solver = describe_solver(
            self, train.n_rows, max_epochs, watches_validation=watches_validation
        )
        if self._finishes(saved, solver):
            solver = solver._replace(schedule=saved.get("schedule", solver.schedule))
        if saved is not None:
            initial = saved["initial_params"]
        else:
            initial = self._initial_params(
                network, architecture["activations"], init, seed, first_rows
            )
            if pretrains:
                self._pretrain(architecture, problem, initial, seed)
        stays, max_iter = is_cautious and split is None, solver.max_iter
        if stays:
            solver = solver._replace(max_iter=1)  # scikit-learn wants n_iter_ >= 1
        training = self._make_training(
            problem, solver, saved, initial, seed, max_epochs
        )
        selection = None
        if is_cautious:
            units = None if split is None else split.units
            selection = self._selection(training, initial, saved, units)
        return Plan(
            architecture,
            training,
            init,
            initial,
            first_rows,
            scaling,
            goes_on=saved is not None,
            selection=selection,
            stays=stays,
            max_iter=max_iter,
            earlier_weight=0.0 if constant is None else constant["constant"],
        )

    def _code_size(self, data, saved):
        """Size of the code: `n_components`, or as many as PCA needs for that share."""
        n_components = check_code_size(self.n_components)
        if isinstance(n_components, int):
            self._warn_of_wide_code(n_components, data.n_features)
            return n_components
        if saved is not None:
            return self.n_components_
        mean, spread = measure(data)
        rows = data.see(mean.astype(data.dtype), spread or 1.0)
        with single_threaded_blas():
            return n_components_for(rows, n_components)

    def _warn_of_wide_code(self, n_components, n_features):
        if n_components >= n_features > 1 and self._is_plain:
            warn(
                f"n_components={n_components} is not below the number of features, "
                f"{n_features}: the network may pass its input on, and learns nothing "
                "from that. Use fewer components, noise, or sparsity"
            )

    def _finishes(self, saved, solver):
        """Whether a fit runs the epochs that are left of one that was cut short."""
        # With another number of epochs, or another solver, another fit is wanted.
        before = {} if saved is None else saved
        wanted = self.solver, solver.max_iter
        return (before.get("solver"), before.get("cut_short_of")) == wanted

    def _init_and_seed(self, architecture, saved, pretrains):
        """How weights begin, and what all random numbers depend on."""
        if saved is not None:
            self._check_can_go_on(architecture, saved)
            return saved["init"], int(saved["arrays"]["counters"][SEED])
        init = self._chosen_init(architecture, pretrains)
        random_state = check_random_state(self.random_state)
        return init, int(random_state.randint(np.iinfo(np.int32).max))

    def _is_cautious(self, init):
        """Whether to leave the principal components only if that surely does good."""
        # PCA is what a plain autoencoder must not fall behind.
        return self._is_plain and self.early_stopping == "auto" and init == "pca"

    @property
    def _is_plain(self):
        return self.noise is None and self._code_term() is None

    def _problem(self, network, train, validation, scaling, validates_itself):
        """What is trained on selected rows, and judged by others; None: by these."""
        loss, how = LOSSES[self.loss], (scaling.offset, scaling.scale)
        rows = train.see(*how)
        return loop.Problem(
            for_loss(network, loss),
            loss,
            float(self.alpha),
            rows,
            rows.none() if validation is None else validation.see(*how),
            describe_corruption(self, partial(extremes, train)),
            self._code_term(),
            validates_itself,
        )

    def _chosen_init(self, architecture, pretrains):
        if not pretrains and self.scale is not None:
            has_room = self.scale == "auto" and self._is_plain
            return chosen_init(self.init, architecture, has_room=has_room)
        if self.init == "pca":
            other = "scale=None, as principal components are those of centred data"
            if pretrains:
                other = f"pretrain={self.pretrain!r}, as layers begin at random weights"
            raise ValueError(f"init='pca' does not go with {other}: use init='auto'")
        return "random" if self.init == "auto" else self.init

    def _split(self, data, seed, is_cautious, groups):
        """Samples to train on and to validate by; None: nothing is held out."""
        if not is_cautious and not stops_by_validation(self):
            return None
        used = np.ones(data.n_rows, bool) if data.weights is None else data.weights > 0
        if is_cautious and used.sum() < _MIN_ROWS_TO_JUDGE:
            return None
        with single_threaded_blas():  # the same bits for any number of threads
            split = hold_out(data, self.validation_fraction, seed, groups)
        if is_cautious:
            if split is None or not used[split.train].any():
                return None
            n_units = len(np.unique(split.units[used[split.held_out]]))
            return split if n_units >= _MIN_UNITS_TO_JUDGE else None
        if split is None:
            raise ValueError(
                f"early_stopping={self.early_stopping!r} cannot set aside "
                f"validation_fraction={self.validation_fraction!r} of n_samples="
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

    def _initial_params(self, network, activations, init, seed, rows):
        """Where training begins, in the dtype of the rows."""
        dtype = rows.dtype
        if init != "pca":
            return random_params(network, activations, init, seed, dtype)
        with single_threaded_blas():  # the same bits whatever their number
            n_components = int(network.widths[network.n_layers // 2])
            components = principal_components(rows, n_components, seed)
            least = cache(partial(least_scores, rows, components))
            return pca_params(network, activations, components, least, seed, dtype)

    def _pretrain(self, architecture, problem, params, seed):
        """Train layer by layer, in place."""
        n_rows = problem.rows.n_rows
        solver = describe_solver(self, n_rows, watches_validation=False)
        n_epochs = max(1, round(_PRETRAINING_SHARE * solver.max_iter))
        solver = solver._replace(max_iter=n_epochs)
        n_pairs = len(architecture["activations"]) // 2

        def train(problem, initial, number):
            training = self._make_training(problem, solver, None, initial, seed, None)
            name = f"{type(self).__name__}, layer {number} of {n_pairs}"
            report = None
            if self.verbose:
                report = VerboseReport(name, 0, every_epoch=self.verbose > 1)
            with training:
                status, _ = loop.fit(training, initial, n_epochs, report)
                if status == INTERRUPTED:
                    raise KeyboardInterrupt
                loop.check_finite(training, status)
                return loop.kept_weights(training, initial).params

        with self._divergence_explained():
            pretrained_params(architecture, problem, params, train)

    def _training_kind(self, problem):
        """The class of trainings of a problem."""
        if self.solver == "lbfgs":
            return LbfgsTraining
        is_in_memory = isinstance(problem.rows, Rows)
        return StochasticTraining if is_in_memory else StreamedTraining

    def _check_can_go_on(self, architecture, saved):
        """Raise ValueError if the parameters are another network's than the fitted."""
        if architecture != self._architecture:
            fitted = self._architecture
            now = {k: v for k, v in architecture.items() if v != fitted[k]}
            raise ValueError(
                f"A network cannot go on training with {now}: it was fitted with "
                f"{ {k: fitted[k] for k in now} }. Set n_components, "
                "hidden_layer_sizes, the activations or tied_weights back, or fit "
                "with warm_start=False"
            )
        if LOSSES[self.loss].is_scaled and not self._has_scale_of(saved):
            raise ValueError(
                f"A network cannot go on training with scale={self.scale!r}: it has "
                f"seen the data divided by {self.scale_!r}, with "
                f"scale={saved.get('scale', 'auto')!r}. Set scale back, or fit with "
                "warm_start=False"
            )
        if LOSSES[self.loss].is_scaled != LOSSES[saved["loss"]].is_scaled:
            raise ValueError(
                f"A network cannot go on training with loss={self.loss!r}: with "
                f"loss={saved['loss']!r} it has seen the data on another scale. Fit "
                "with warm_start=False"
            )

    def _has_scale_of(self, saved):
        """Whether `scale` is as it was, or the number that the data were divided by."""
        # An estimator pickled by an earlier version does not say what it was.
        before = saved.get("scale", self.scale)
        if isinstance(self.scale, numbers.Real) and before is not None:
            return self.scale == self.scale_
        return self.scale == before

    def _measure(self, data, saved, constant, architecture, init):
        """How the network sees the data; a network that goes on sees as before."""
        exact_mean, spread = measure(data)
        if constant is not None:
            weight = data.total_weight, constant["constant"]
            exact_mean, spread = with_constant(exact_mean, spread, self.mean_, *weight)
        # A penalty or noise is in the network's units, too: they stay as they are.
        n_layers = n_saturating(architecture) if self._is_plain else 0
        largest = partial(largest_distance, data, exact_mean, spread)
        auto = partial(auto_scale, n_layers, init, spread, largest)
        mean = exact_mean.astype(data.dtype)
        if saved is None:
            offset, scale = describe_scaling(self, mean, spread, auto)
        else:
            # What is seen on the scale of earlier rows may vary by less than that.
            fitted = self.scale_
            describe_scaling(self, mean, max(spread, fitted), lambda: fitted)
            mean, offset, scale = self.mean_, self._offset, fitted
        mean_seen = (exact_mean - offset) / scale
        total_variance = data.n_features * (spread / scale) ** 2
        return Scaling(mean, offset, scale, mean_seen, total_variance)

    def _make_training(self, problem, solver, saved, initial, seed, max_epochs):
        kind = self._training_kind(problem)
        if saved is None:
            return kind.begin(problem, solver, initial, seed, max_epochs)
        arrays, params = saved["arrays"], None
        if max_epochs is not None:
            params = kept_before(saved)
        if saved["solver"] != self.solver and params is None:
            params = arrays["params"]
        if params is None:
            return kind.resume(problem, solver, saved, max_epochs)
        # From these weights, without what was remembered of the steps to others, or
        # of another solver's.
        training = kind.begin(problem, solver, params, seed, max_epochs)
        state = training.state
        lasting = [N_EPOCHS, CYCLE_START, BEST_EPOCH]
        state.counters[lasting] = arrays["counters"][lasting]
        state.best_params[:] = arrays["best_params"]
        state.scalars[[BEST_KEPT, START_LOSS]] = arrays["scalars"][
            [BEST_KEPT, START_LOSS]
        ]
        return training

    # -- training --------------------------------------------------------------------

    @staticmethod
    def _callback_arguments(X, y, sample_weight=None, groups=None):
        """Arguments of a fit, as callbacks receive them."""
        metadata = {"sample_weight": sample_weight, "groups": groups}
        metadata = {k: v for k, v in metadata.items() if v is not None}
        return {"X": X, "y": y, "metadata": metadata or None}

    def _begin_callbacks(self, told, n_epochs):
        """The callbacks' context of a fit, or None without callbacks."""
        if not getattr(self, "_skl_callbacks", None):
            return None
        context = self._init_callback_context(max_subtasks=n_epochs)
        context.call_on_fit_task_begin(estimator=self, **told)
        return context

    def _train(self, plan, context, told):
        """Train as `fit` does; returns the fitted attributes.

        `context` is that of the callbacks or None, `told` what they are told.
        """
        training, max_iter = plan.training, plan.training.solver.max_iter
        begin, n_done = time.monotonic(), self._epochs_to_finish(plan)
        reports = self._verbose_reports(plan)
        with training, self._divergence_explained():
            kept = partial(loop.kept_weights, training, plan.initial_params)
            if plan.selection is not None:
                kept = plan.selection.kept_weights
                reports.append(plan.selection)

            def attributes_now(curves):
                loop.check_finite(training, training.status)
                attributes = self._fitted_attributes(plan, kept(), curves)
                attributes["max_iter_"] = plan.max_iter
                note_if_cut_short(attributes, training)
                return attributes

            if context is not None:
                reports.append(CallbackReport(self, context, told, attributes_now))
            report = JoinedReports(reports) if reports else None
            status, curves = loop.fit(
                training, plan.initial_params, max_iter, report, n_done
            )
            try:
                attributes = attributes_now(curves)
            except KeyboardInterrupt:  # after the last epoch, or once more
                status, attributes = INTERRUPTED, attributes_now(curves)
        is_planned = plan.stays or (
            self.solver in SOLVERS and training.solver.schedule == SCHEDULES["cosine"]
        )
        if self.verbose:
            reason = self._reason(plan, status, attributes["n_iter_"])
            print_end(type(self).__name__, attributes, reason, time.monotonic() - begin)
        if status == INTERRUPTED:
            _warn_of_interrupt()
        elif status == RUNNING and attributes["n_iter_"] == max_iter and not is_planned:
            warn(
                f"Maximum iterations ({max_iter}) reached and the optimization hasn't "
                f"converged yet. Increase max_iter (now {self.max_iter!r}) or tol (now "
                f"{self.tol}), or use learning_rate='cosine', which ends as planned.",
                ConvergenceWarning,
            )
        return attributes

    def _reason(self, plan, status, n_iter):
        """Why training ended, in words."""
        solver = plan.training.solver
        if plan.stays:
            return "too few samples, or groups, to judge a training by"
        if status == INTERRUPTED:
            return "interrupted"
        if status == RUNNING:
            return "max_iter" if n_iter >= solver.max_iter else "ended by a callback"
        if self.solver == "lbfgs" and not solver.watch_validation:
            return "converged"
        which = "validation" if solver.watch_validation else "training"
        return f"no lower {which} loss in {solver.n_iter_no_change} epochs"

    def _train_once(self, plan):
        """Train as `partial_fit` does; returns the fitted attributes."""
        training = plan.training
        before = training.state.params.copy()
        with training, self._divergence_explained():
            status, curves = loop.run(training, 1)
            loop.check_finite(training, status)
            if curves.loss:
                earlier = self.loss_curve_[-1:] if plan.goes_on else []
                loop.check_not_exploded(training, before, curves.loss[-1], earlier)
            kept = loop.Kept.last(training)
            attributes = self._fitted_attributes(plan, kept, curves)
        if status == INTERRUPTED:
            _warn_of_interrupt()
        return attributes

    @property
    def _was_cut_short(self):
        """Whether the last fit ended before its time, so that another finishes it."""
        return "cut_short_of" in self._training_state

    def _epochs_to_finish(self, plan):
        """Epochs of the fit that this one finishes, as that was cut short; or 0."""
        saved = self._training_state if plan.goes_on else None
        if not self._finishes(saved, plan.training.solver):
            return 0
        return plan.training.n_epochs_of_fit

    def _verbose_reports(self, plan):
        if not self.verbose:
            return []
        n_before = len(self.loss_curve_) if plan.goes_on else 0
        every_epoch = self.verbose > 1
        return [VerboseReport(type(self).__name__, n_before, every_epoch=every_epoch)]

    def _selection(self, training, initial, saved, units):
        """What chooses cautiously among the weights of a training."""
        if saved is None:
            return CautiousSelection(training, initial, 0, units=units)
        n_before, selected = len(self.loss_curve_), None
        if "selected" in saved:
            epoch = saved.get("selected_epoch", 0)
            selected = loop.Kept(saved["selected"], epoch, "selected")
        return CautiousSelection(training, initial, n_before, selected, units=units)

    @contextlib.contextmanager
    def _divergence_explained(self):
        try:
            yield
        except loop.ValidationLossError:
            raise ValueError(
                "X_val is too large: at the weights that training starts with its loss "
                "is not finite, unlike that of X. Bring both to the same units"
            ) from None
        except loop.DivergedError:
            mend = f"Lower learning_rate_init (now {self.learning_rate_init})"
            if self.solver == "lbfgs":
                mend = "Use another init"
            raise ValueError(
                f"Training diverged: with solver={self.solver!r} and "
                f"loss={self.loss!r} the loss exploded, or a weight became infinite "
                "or NaN. "
                f"{mend}, or bring the features to a common scale, for example with "
                "StandardScaler"
            ) from None

    def _fitted_attributes(self, plan, kept, curves):
        """What a fit leaves on the estimator, by name."""
        params = kept.params.copy()  # to be changed in place
        attributes = self._training_attributes(plan, kept, curves)
        attributes["_params"] = params
        network, rows = plan.training.problem.network, plan.first_rows
        if self._is_variational:
            return attributes
        if plan.training.problem.term is not None:
            attributes["mean_activation_"] = mean_code(network, params, rows)
        elif self.code_activation == "identity":
            moments = code_moments(network, params, rows)
            if not all(np.isfinite(moment).all() for moment in moments):
                raise loop.DivergedError
            # What neither a tie nor a penalty depends on may be chosen.
            free_scale = not plan.architecture["tied"] and self.alpha == 0
            explained = order_code(network, params, moments, free_scale=free_scale)
            if not free_scale:
                activations = plan.architecture["activations"]
                explained = explained_variance(
                    network,
                    params,
                    moments,
                    plan.scaling.mean_seen,
                    is_linear={*activations[len(activations) // 2 :]} == {"identity"},
                )
            attributes |= _in_units(explained, n_counted(rows), plan.scaling)
        return attributes

    def _training_attributes(self, plan, kept, curves):
        """The same, but for what is computed of the rows."""
        if plan.goes_on:
            curves = self._curves().followed_by(curves)
        if not plan.training.problem.validation.n_rows:
            curves = curves._replace(validation=[])  # those of earlier fits
        watched = curves.validation or curves.loss
        # Losses before are of another objective.
        watched = watched[max(0, plan.training.solver.first_judged - 1) :] or watched
        start_loss = float(plan.training.state.scalars[START_LOSS])
        widths = plan.architecture["widths"]
        attributes = {
            "n_components_": widths[len(widths) // 2],
            "n_layers_": len(widths),
            "hidden_layer_sizes_": tuple(widths[1 : len(widths) // 2]),
            "batch_size_": plan.training.solver.batch_size,
            "n_iter_": plan.training.n_epochs_of_fit,
            "best_iter_": kept.epoch,
            "initial_loss_": start_loss,
            "mean_": plan.scaling.mean,
            "scale_": plan.scaling.scale,
            "loss_curve_": curves.loss,
            "loss_": curves.loss[-1] if curves.loss else start_loss,
            "best_loss_": min(watched, default=start_loss),
            "_architecture": plan.architecture,
            "_offset": plan.scaling.offset,
            "_params": kept.params,
            "_training_state": {
                "solver": self.solver,
                "loss": self.loss,
                "init": plan.init,
                "scale": self.scale,
                "initial_params": plan.initial_params,
                "kept": kept.name,
                "schedule": plan.training.solver.schedule,
                **plan.training.saved_state(),
            },
        }
        if self._is_without_spread(plan):
            weight = plan.first_rows.total_weight + plan.earlier_weight
            attributes["_training_state"]["constant"] = weight
        if plan.selection is not None:
            selected = plan.selection.kept
            attributes["_training_state"]["selected"] = selected.params
            attributes["_training_state"]["selected_epoch"] = selected.epoch
        if curves.validation:
            attributes["validation_loss_curve_"] = curves.validation
        if self._is_variational:
            attributes["kl_curve_"] = curves.term
        return attributes

    def _is_without_spread(self, plan):
        """Whether the data did not tell on which scale the network is to see them."""
        is_scaled = LOSSES[self.loss].is_scaled and self.scale is not None
        return is_scaled and not plan.goes_on and plan.scaling.total_variance == 0

    def _curves(self):
        """Those of the fits before."""
        return loop.Curves(
            self.loss_curve_,
            getattr(self, "validation_loss_curve_", []),
            getattr(self, "kl_curve_", []),
        )

    def _code_term(self):
        """The term of the objective that depends on the code, or None."""
        return describe_sparsity(self)

    def _set_attributes(self, attributes):
        rest = {k: v for k, v in vars(self).items() if k not in _OPTIONAL_ATTRIBUTES}
        self.__dict__ = rest | attributes  # at once, whenever Ctrl-C comes
        return self


def note_if_cut_short(attributes, training):
    """Note among attributes that a fit has not had all of its epochs."""
    max_iter = training.solver.max_iter
    if training.is_cut_short and attributes["n_iter_"] < max_iter:
        attributes["_training_state"]["cut_short_of"] = max_iter


def kept_before(saved):
    """The weights that the last fit kept, if those are not the ones it ended with."""
    name = saved.get("kept", "params")  # earlier versions do not say
    if name == "params":
        return None
    return saved["arrays"][name] if name == "best_params" else saved[name]


def _in_units(explained, n_rows, scaling):
    """What entries of the code explain, in the units of the data and as shares."""
    total = scaling.total_variance
    # Of all of it roundings may make more.
    explained = explained * min(1.0, total / (explained.sum() or 1.0))
    # As PCA's, with n - 1 in the denominator; of weights only the ratios count.
    unit = scaling.scale**2 * n_rows / max(1, n_rows - 1)
    dtype = scaling.mean.dtype
    return {
        "explained_variance_": (explained * unit).astype(dtype),
        "explained_variance_ratio_": (explained / (total or 1.0)).astype(dtype),
    }


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


def _warn_of_interrupt():
    warn(
        "Training interrupted by user: the best weights so far are kept.",
        TrainingInterruptedWarning,
    )
