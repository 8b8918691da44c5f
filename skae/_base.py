"""What the members of the family share: from parameters and data to a training."""

import contextlib
import warnings
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from skae import _training
from skae._data import Selection, extremes, measure
from skae._inference import code_moments, mean_code
from skae._initialization import chosen_init, pca_params, random_params
from skae._kernels import INTERRUPTED, RUNNING
from skae._lbfgs import LbfgsTraining
from skae._memory import (
    BEST_KEPT,
    CYCLE_START,
    N_EPOCHS,
    SEED,
    START_LOSS,
    Rows,
    aligned,
)
from skae._network import for_loss, make_network, order_code
from skae._parameters import (
    describe_corruption,
    describe_network,
    describe_scaling,
    describe_solver,
    describe_sparsity,
    schedule,
    stops_by_validation,
)
from skae._passes import LOSSES, SOLVERS
from skae._pca import least_scores, principal_components
from skae._pretraining import pretrained_params
from skae._reporting import CallbackReport, JoinedReports, VerboseReport
from skae._rows import check_size
from skae._selection import CautiousSelection
from skae._sklearn import CallbackSupportMixin, _check_sample_weight
from skae._threads import single_threaded_blas
from skae._training import StochasticTraining, StreamedTraining

_DTYPES = (np.float64, np.float32)
# With fewer rows "auto" does not leave the principal components: of those held out,
# too few are left to tell whether that would do good.
_MIN_ROWS_TO_JUDGE = 40
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
    total_variance: float  # of the training data, as the network sees them


class Plan(NamedTuple):
    """What validated data and parameters amount to."""

    architecture: dict  # arguments of make_network
    training: _training.Training
    init: str  # how it began, before any training
    initial_params: np.ndarray
    first_rows: Rows  # that it began with, and whose code is ordered
    scaling: Scaling
    goes_on: bool  # from an earlier fit
    # Of a training that leaves the principal components only if that surely does good.
    selection: CautiousSelection | None
    stays: bool  # and does not leave them: nothing could tell whether it does good


class BaseAutoencoder(
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
        tags.input_tags.positive_only = loss is not None and not loss.is_scaled
        return tags

    # -- validation ----------------------------------------------------------------

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

    def _validate_rows(self, X, *, dtype=_DTYPES, reset=False, ensure_all_finite=True):
        dtype = dtype if isinstance(dtype, tuple) else (dtype,)
        check_before_conversion(X)
        X = validate_data(
            self,
            X,
            accept_sparse="csr",
            dtype=dtype,
            order="C",
            reset=reset,
            ensure_all_finite=ensure_all_finite,
        )
        return canonical(X)

    def _validate_training_data(self, X, sample_weight, saved):
        """Rows and weights, checked; in the dtype of a state that is gone on with."""
        dtype = _DTYPES if saved is None else saved["arrays"]["params"].dtype
        self._warn_of_dask(X)
        X = self._validate_rows(X, dtype=dtype, reset=saved is None)
        check_range(X, self.loss)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, X)
        return X, sample_weight

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
        warnings.warn(message, UserWarning, stacklevel=2)

    def _checked_validation_rows(self, X_val, dtype):
        """What `fit` is given as `X_val`: a `Selection`, or None."""
        if X_val is None:
            return None
        try:
            X_val = self._validate_rows(X_val, dtype=dtype)
        except (TypeError, ValueError) as error:  # scikit-learn would call it X
            error.add_note("In X_val")
            raise
        check_range(X_val, self.loss, "X_val")
        return Selection(X_val)

    def _validated_attributes(self):
        """What validation has set, by name."""
        names = "n_features_in_", "feature_names_in_"
        return {name: self.__dict__[name] for name in names if name in self.__dict__}

    # -- from parameters and data to a training ------------------------------------

    def _plan(self, data, saved, *, X_val=None, max_epochs=None):
        """A training of validated data, new or going on from a saved state.

        There will be `max_epochs` at most, and no rows are set aside for validation; or
        `max_iter`.
        """
        architecture = describe_network(self, data.n_features)
        pretrains = self.pretrain is not None and max_epochs is None
        init, seed = self._init_and_seed(architecture, saved, pretrains)
        validates_itself = max_epochs is None and X_val is None
        is_cautious = validates_itself and self._is_cautious(init)
        subset = held_out = None
        if validates_itself:
            subset, held_out = self._split(data, seed, is_cautious)
        train = data.choose(subset)
        # Where training is cautious all rows have their say in where it begins.
        first = data if is_cautious else train
        scaling = self._measure(first, saved)
        if held_out is not None:
            X_val = data.choose(held_out).kept()
        network = make_network(**architecture)
        problem = self._problem(network, train, X_val, scaling, validates_itself)
        first_rows = first.see(scaling.offset, scaling.scale)
        solver = describe_solver(self, train.n_rows, max_epochs)
        if saved is not None:
            initial = saved["initial_params"]
        else:
            initial = self._initial_params(
                network, architecture["activations"], init, seed, first_rows
            )
            if pretrains:
                self._pretrain(architecture, problem, initial, seed)
        stays = is_cautious and held_out is None
        if stays:
            solver = solver._replace(max_iter=1)  # scikit-learn wants n_iter_ >= 1
        training = self._make_training(
            problem, solver, saved, initial, seed, max_epochs
        )
        selection = None
        if is_cautious:
            selection = self._selection(training, initial, saved)
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
        )

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
        is_plain = self.noise is None and self._code_term() is None
        return is_plain and self.early_stopping == "auto" and init == "pca"

    def _problem(self, network, train, validation, scaling, validates_itself):
        """What is trained on selected rows, and judged by others; None: by these."""
        loss, how = LOSSES[self.loss], (scaling.offset, scaling.scale)
        rows = train.see(*how)
        return _training.Problem(
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
            return chosen_init(self.init, architecture)
        if self.init == "pca":
            other = "scale=None, as principal components are those of centred data"
            if pretrains:
                other = f"pretrain={self.pretrain!r}, as layers begin at random weights"
            raise ValueError(f"init='pca' does not go with {other}: use init='auto'")
        return "random" if self.init == "auto" else self.init

    def _split(self, data, seed, is_cautious):
        """Numbers of the training and of the validation rows; None: all, and none."""
        nothing, n_rows = (None, None), data.n_rows
        if not is_cautious and not stops_by_validation(self):
            return nothing
        used = np.ones(n_rows, bool) if data.weights is None else data.weights > 0
        if is_cautious and used.sum() < _MIN_ROWS_TO_JUDGE:
            return nothing
        train, held_out = self._hold_out(n_rows, seed)
        n_train, n_held_out = used[train].sum(), used[held_out].sum()
        # Differences of two rows at least have a variance.
        if is_cautious:
            return (train, held_out) if n_train and n_held_out >= 2 else nothing
        for name, n_used in (("training", n_train), ("validation", n_held_out)):
            if not n_used:
                raise ValueError(
                    f"All {name} rows have sample_weight 0: change random_state or "
                    "validation_fraction, or pass X_val"
                )
        return train, held_out

    def _initial_params(self, network, activations, init, seed, rows):
        """Where training begins, in the dtype of the rows."""
        dtype = rows.dtype
        if init != "pca":
            return random_params(network, activations, init, seed, dtype)
        with single_threaded_blas():  # the same bits whatever their number
            components = principal_components(rows, int(self.n_components), seed)
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
                status, _ = _training.fit(training, initial, n_epochs, report)
                if status == INTERRUPTED:
                    raise KeyboardInterrupt
                _training.check_finite(training, status)
                return _training.kept_params(training, initial)

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
        if LOSSES[self.loss].is_scaled != LOSSES[saved["loss"]].is_scaled:
            raise ValueError(
                f"A network cannot go on training with loss={self.loss!r}: with "
                f"loss={saved['loss']!r} it has seen the data on another scale. Fit "
                "with warm_start=False"
            )

    def _hold_out(self, n_rows, seed):
        """Numbers of the training and of the validation rows."""
        splitter = ShuffleSplit(
            n_splits=1, test_size=self.validation_fraction, random_state=seed
        )
        train, held_out = map(np.sort, next(splitter.split(np.empty((n_rows, 1)))))
        return train, held_out

    def _measure(self, data, saved):
        """How the network sees the data; a network that goes on sees as before."""
        mean, spread = measure(data)
        mean = mean.astype(data.dtype)
        # What is seen on the scale of earlier rows may vary by less than that.
        least = 0.0 if saved is None else self.scale_
        offset, scale = describe_scaling(self, mean, max(spread, least))
        if saved is not None:
            mean, offset, scale = self.mean_, self._offset, self.scale_
        return Scaling(mean, offset, scale, data.n_features * (spread / scale) ** 2)

    def _make_training(self, problem, solver, saved, initial, seed, max_epochs):
        kind = self._training_kind(problem)
        if saved is None:
            return kind.begin(problem, solver, initial, seed, max_epochs)
        if saved["solver"] == self.solver:
            return kind.resume(problem, solver, saved, max_epochs)
        # From the same weights, without the other solver's memory of its steps.
        arrays = saved["arrays"]
        training = kind.begin(problem, solver, arrays["params"], seed, max_epochs)
        state = training.state
        lasting = [N_EPOCHS, CYCLE_START]
        state.counters[lasting] = arrays["counters"][lasting]
        state.best_params[:] = arrays["best_params"]
        state.scalars[[BEST_KEPT, START_LOSS]] = arrays["scalars"][
            [BEST_KEPT, START_LOSS]
        ]
        return training

    # -- training --------------------------------------------------------------------

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
        n_done = self._epochs_to_finish(plan)
        reports = self._verbose_reports(plan)
        with training, self._divergence_explained():
            kept_params = partial(_training.kept_params, training, plan.initial_params)
            if plan.selection is not None:
                kept_params = plan.selection.kept_params
                reports.append(plan.selection)

            def attributes_now(curves):
                _training.check_finite(training, training.status)
                attributes = self._fitted_attributes(plan, kept_params(), curves)
                note_if_cut_short(attributes, training)
                return attributes

            if context is not None:
                reports.append(CallbackReport(self, context, told, attributes_now))
            report = JoinedReports(reports) if reports else None
            status, curves = _training.fit(
                training, plan.initial_params, max_iter, report, n_done
            )
            try:
                attributes = attributes_now(curves)
            except KeyboardInterrupt:  # after the last epoch, or once more
                status, attributes = INTERRUPTED, attributes_now(curves)
        if status == INTERRUPTED:
            _warn_of_interrupt()
        elif (
            status == RUNNING
            and attributes["n_iter_"] == max_iter
            # They end as planned.
            and not (self.solver in SOLVERS and schedule(self) == "cosine")
            and not plan.stays
        ):
            warnings.warn(
                f"Maximum iterations ({max_iter}) reached and the optimization "
                "hasn't converged yet. Increase max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return attributes

    def _train_once(self, plan):
        """Train as `partial_fit` does; returns the fitted attributes."""
        training = plan.training
        with training, self._divergence_explained():
            status, curves = _training.run(training, 1)
            _training.check_finite(training, status)
            params = training.state.params.copy()
            attributes = self._fitted_attributes(plan, params, curves)
        if status == INTERRUPTED:
            _warn_of_interrupt()
        return attributes

    @property
    def _was_cut_short(self):
        """Whether the last fit ended before its time, so that another finishes it."""
        return "cut_short_of" in self._training_state

    def _epochs_to_finish(self, plan):
        """Epochs of the fit that this one finishes, as that was cut short; or 0."""
        saved = self._training_state if plan.goes_on else {}
        max_iter = plan.training.solver.max_iter
        # With another number of epochs, or another solver, another fit is wanted.
        if (saved.get("solver"), saved.get("cut_short_of")) != (self.solver, max_iter):
            return 0
        return plan.training.n_epochs_of_fit

    def _verbose_reports(self, plan):
        if not self.verbose:
            return []
        n_before = len(self.loss_curve_) if plan.goes_on else 0
        every_epoch = self.verbose > 1
        return [VerboseReport(type(self).__name__, n_before, every_epoch=every_epoch)]

    def _selection(self, training, initial, saved):
        """What chooses cautiously among the weights of a training."""
        if saved is None:
            return CautiousSelection(training, initial, 0)
        n_before = len(self.loss_curve_)
        return CautiousSelection(training, initial, n_before, saved.get("selected"))

    @contextlib.contextmanager
    def _divergence_explained(self):
        try:
            yield
        except _training.DivergedError:
            mend = f"Lower learning_rate_init (now {self.learning_rate_init:g})"
            if self.solver == "lbfgs":
                mend = "Use another init"
            raise ValueError(
                f"Training diverged: with solver={self.solver!r} and "
                f"loss={self.loss!r} the loss or a weight became infinite or NaN. "
                f"{mend}, or bring the features to a common scale, for example with "
                "StandardScaler"
            ) from None

    def _fitted_attributes(self, plan, params, curves):
        """What a fit leaves on the estimator, by name. Changes `params` in place."""
        attributes = self._training_attributes(plan, params, curves)
        network, rows = plan.training.problem.network, plan.first_rows
        if self._is_variational:
            return attributes
        if plan.training.problem.term is not None:
            attributes["mean_activation_"] = mean_code(network, params, rows)
        elif self.code_activation == "identity":
            moments = code_moments(network, params, rows)
            # What neither a tie nor a penalty depends on may be chosen.
            free_scale = not plan.architecture["tied"] and self.alpha == 0
            variances = order_code(network, params, moments, free_scale=free_scale)
            attributes |= _explained_variance(
                variances, rows.total_weight, plan.scaling
            )
        return attributes

    def _training_attributes(self, plan, params, curves):
        """The same, but for what is computed of the rows."""
        if plan.goes_on:
            curves = self._curves().followed_by(curves)
        if not plan.training.problem.validation.n_rows:
            curves = curves._replace(validation=[])  # those of earlier fits
        watched = curves.validation or curves.loss
        # Losses before are of another objective.
        watched = watched[max(0, plan.training.solver.first_judged - 1) :] or watched
        start_loss = float(plan.training.state.scalars[START_LOSS])
        attributes = {
            "n_components_": int(self.n_components),
            "n_layers_": len(plan.architecture["widths"]),
            "n_iter_": plan.training.n_epochs_of_fit,
            "mean_": plan.scaling.mean,
            "scale_": plan.scaling.scale,
            "loss_curve_": curves.loss,
            "loss_": curves.loss[-1] if curves.loss else start_loss,
            "best_loss_": min(watched, default=start_loss),
            "_architecture": plan.architecture,
            "_offset": plan.scaling.offset,
            "_params": params,
            "_training_state": {
                "solver": self.solver,
                "loss": self.loss,
                "init": plan.init,
                "initial_params": plan.initial_params,
                **plan.training.saved_state(),
            },
        }
        if plan.selection is not None:
            attributes["_training_state"]["selected"] = plan.selection.params
        if curves.validation:
            attributes["validation_loss_curve_"] = curves.validation
        if self._is_variational:
            attributes["kl_curve_"] = curves.term
        return attributes

    def _curves(self):
        """Those of the fits before."""
        return _training.Curves(
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


def canonical(X, name="X"):
    """A matrix as kernels read it; X stays as it is, and is not copied if it is so.

    A CSR matrix has sorted columns without duplicates; an array is C-ordered and
    aligned: here, once, as of a memory map with an offset each pass would make a copy.
    """
    if not sparse.issparse(X):
        return aligned(X)
    check_compressed(X, name)
    # A new matrix over the same arrays, as asking X would leave marks on it.
    X = type(X)((X.data, X.indices, X.indptr), shape=X.shape)
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def check_compressed(X, name="X"):
    """Raise ValueError if a CSR or CSC matrix points to what it does not have.

    Kernels, and SciPy where it converts one, trust these numbers, which SciPy takes as
    they come.
    """
    (n_lines, n_across), kind, mend = X.shape, "column", "build it anew"
    if X.format == "csc":
        n_lines, n_across, kind = n_across, n_lines, "row"
    starts, n_entries = np.asarray(X.indptr), min(len(X.data), len(X.indices))
    problem = ""
    if starts.shape != (n_lines + 1,):
        problem = f"has {starts.size} entries instead of {n_lines + 1}"
    elif starts[0] != 0:
        problem = f"begins with {starts[0]} instead of 0"
    elif (starts[1:] < starts[:-1]).any():
        problem = "decreases"
    elif starts[-1] > n_entries:
        problem = f"ends with {starts[-1]}, but there are {n_entries} stored entries"
    if problem:
        raise ValueError(f"{name} is a sparse matrix whose indptr {problem}: {mend}")
    used = X.indices[: starts[-1]]
    low, high = used.min(initial=0), used.max(initial=0)
    if low < 0 or high >= n_across:
        raise ValueError(
            f"{name} is a sparse matrix with {kind} indices from {low} to {high}, but "
            f"has {n_across} {kind}s: {mend} with indices in range"
        )


def check_before_conversion(X, name="X"):
    """Raise ValueError for what must not even be converted to what kernels read."""
    if hasattr(X, "shape"):
        check_size(X, name)
    if sparse.issparse(X) and X.format == "csc":
        check_compressed(X, name)


def _explained_variance(variances, total_weight, scaling):
    """The code's variances, in the units of the data and as shares."""
    # As PCA's, with n - 1 in the denominator.
    correction = total_weight / (total_weight - 1) if total_weight > 1 else 1.0
    unit = scaling.scale**2 * correction
    total = scaling.total_variance if scaling.total_variance > 0 else 1.0
    dtype = scaling.mean.dtype
    return {
        "explained_variance_": (variances * unit).astype(dtype),
        "explained_variance_ratio_": (variances / total).astype(dtype),
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
    warnings.warn(
        "Training interrupted by user: the best weights so far are kept.",
        TrainingInterruptedWarning,
        stacklevel=2,
    )


def check_weights(sample_weight, X):
    """Sample weights of rows as an array of float64; ValueError if they are none."""
    sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if (sample_weight < 0).any():
        raise ValueError(
            f"Negative values in sample_weight: the smallest is {sample_weight.min():g}"
            "; weights have to be >= 0"
        )
    if not sample_weight.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return sample_weight


def check_range(X, name, what="X"):
    """Raise ValueError if the loss is not defined for an entry of X."""
    loss = LOSSES[name]
    if loss.is_scaled:
        return
    values = X.data if sparse.issparse(X) else X
    low, high = values.min(initial=0.0), values.max(initial=0.0)
    if low >= loss.low and high <= loss.high:
        return
    # scikit-learn's checks want an error on negative data to begin like this.
    problem = "Negative values in data" if low < loss.low else "Values above 1 in data"
    legal = "values in [0, 1]" if loss.high == 1 else "values >= 0"
    raise ValueError(
        f"{problem} passed to loss={name!r}: it needs {legal}, and {what} has values "
        f"from {low:g} to {high:g}. Scale it with MinMaxScaler, or use "
        "loss='squared_error'"
    )
