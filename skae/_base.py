"""Base class of all estimators: public methods, validation, hooks."""

from __future__ import annotations

import contextlib
import inspect
import numbers
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skae._compiled.activations import ACTIVATIONS
from skae._compiled.code_terms import CodeTerm
from skae._compiled.losses import LOSSES
from skae._compiled.optimizers import SOLVERS
from skae._compiled.records import Network
from skae._compiled.schedules import SCHEDULES
from skae._data.frames import frame_of, gathered
from skae._data.gaussian import Gaussian, filled
from skae._data.rows import AnyRows, Rows, dense, make_rows, row_chunks
from skae._data.squares import Squares
from skae._data.stream import RowStream, StreamedRows
from skae._data.tables import Table, may_have_categories
from skae._data.validation import (
    Checked,
    ValueRange,
    check_before_conversion,
    check_feature_weights,
    check_groups,
    check_observed,
    check_range,
    check_rows,
    check_table,
    check_validation_rows,
    check_weights,
    read_tables,
)
from skae._model import inference
from skae._model.groups import (
    columns_of,
    cross_entropies,
    log_frequencies,
    probabilities,
    summed_over_groups,
    unit_weights,
)
from skae._model.network import coefs, intercepts, make_network, part
from skae._names import Names, check_name, hints
from skae._sklearn import (
    CallbackSupportMixin,
    DocumentedMixin,
    Function,
    Interval,
    Options,
    RealNotInt,
    _fit_context,
    with_callbacks,
)
from skae._training import fitting
from skae._training.loop import Objective, Training
from skae._training.plan import Plan, make_plan, make_training, training_kind
from skae._training.reporting import CallbackReport, warn_of_dask
from skae._training.settings import describe_sparsity, loss_range, value_range
from skae._training.state import TrainingState
from skae._typing import Floats, MatrixLike, Scale

_DTYPES = (np.float64, np.float32)
# Attributes that only some fits have.
_OPTIONAL_ATTRIBUTES = (
    "validation_loss_curve_",
    "explained_variance_",
    "explained_variance_ratio_",
    "mean_activation_",
)


def defaults(kind: type) -> dict[str, Any]:
    """Defaults of a class' parameters, by name."""
    parameters = inspect.signature(kind).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def check_metric(metric: object) -> None:
    """Raise ValueError if there is no such metric of a reconstruction."""
    check_name(metric, "metric", ("squared_error", "absolute_error", "loss"))


class BaseAutoencoder(
    DocumentedMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    CallbackSupportMixin,
    BaseEstimator,
):
    """Base class of all autoencoders, without `fit`.

    A fit validates, makes a plan from the data and the parameters, runs it, and stores
    the result. Subclasses have the parameters of `AutoencoderTransformer`, or constants
    in their place, and a method `fit`. They may override the hooks.
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_components": [
            Interval(numbers.Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "hidden_layer_sizes": [
            Names(["auto"]),
            "array-like",
            Interval(numbers.Integral, 1, None, closed="left"),
        ],
        "activation": [Names(ACTIVATIONS), "array-like"],
        "output_activation": [Names(["auto", *ACTIVATIONS])],
        "solver": [Names([*SOLVERS, "lbfgs"])],
        "alpha": [Interval(numbers.Real, 0, None, closed="left")],
        "batch_size": [
            Names(["auto"]),
            Interval(numbers.Integral, 1, None, closed="left"),
        ],
        "learning_rate": [Names(["auto", *SCHEDULES])],
        "learning_rate_init": [Interval(numbers.Real, 0, None, closed="neither")],
        "decay": [Interval(numbers.Real, 0, None, closed="left")],
        "power_t": [Interval(numbers.Real, 0, None, closed="left")],
        "momentum": [Interval(numbers.Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "beta_1": [Interval(numbers.Real, 0, 1, closed="left")],
        "beta_2": [Interval(numbers.Real, 0, 1, closed="left")],
        "epsilon": [Interval(numbers.Real, 0, None, closed="neither")],
        "max_iter": [
            Names(["auto"]),
            Interval(numbers.Integral, 1, None, closed="left"),
        ],
        "shuffle": ["boolean"],
        "tol": [Interval(numbers.Real, 0, None, closed="left")],
        "n_iter_no_change": [
            Interval(numbers.Integral, 1, None, closed="left"),
            Options(numbers.Real, {np.inf}),
        ],
        "early_stopping": ["boolean", Names(["auto"])],
        "validation_fraction": [Interval(numbers.Real, 0, 1, closed="neither")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "categorical_features": [Names(["from_dtype"]), "array-like", None],
        "categories": [Names(["auto"]), dict, "array-like"],
        "max_categories": [Interval(numbers.Integral, 1, None, closed="left"), None],
        "min_frequency": [
            Interval(numbers.Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            None,
        ],
        "handle_unknown": [Names(["warn", "error"])],
        "feature_weights": ["array-like", None],
    }
    # How tables with categories become matrices; None if there are only numbers.
    _table: Table | None = None

    # -- inference -----------------------------------------------------------------

    def transform(self, X: MatrixLike) -> np.ndarray:
        """Encode samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to encode.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_components)
            Codes. A sample's code does not depend on the other samples.

        Raises
        ------
        ValueError
            If X is not valid, or if a sample is so far from the training data that its
            code is out of the range of the dtype.
        """
        return self._expect_finite(self._encode(X), "codes")

    def inverse_transform(self, X: ArrayLike) -> np.ndarray:
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        X_original : ndarray or data frame of shape (n_samples, n_features)
            Reconstructions, in the units of the training data. After a fit to a table
            with categories, a table of the same kind, with its names and dtypes.

        Raises
        ------
        ValueError
            If X is not valid, or if a code is so large that its reconstruction is out
            of the range of the dtype.
        """
        check_is_fitted(self)
        check_before_conversion(X)
        codes = check_array(X, dtype=self._params.dtype, order="C")
        self._check_code_size(codes)
        out = self._expect_finite(self._decode(codes), "reconstructions")
        return out if self._table is None else self._table.decode(out)

    def score(
        self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Share of the variance that is reconstructed (R²), or of the deviance.

        ``1 - sum ||x - x_reconstructed||² / sum ||x - mean_||²``, with the mean of the
        training data, over the observed entries. For a linear network and the training
        data, it is PCA's ``explained_variance_ratio_.sum()``.

        With ``scale="standard"``, and for a table with categories, each column is
        divided by its standard deviation. The deviance of a category takes the place of
        the squares: the cross-entropy of the decoded probabilities, or of the levels'
        frequencies in the training data, divided by the entropy of these frequencies.
        `feature_weights` are weights of the columns in both sums.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to reconstruct.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples in both sums.

        Returns
        -------
        score : float
            The best value is 1; -inf if reconstructions are out of the range of the
            dtype; 0 if all samples are equal to the mean but their reconstructions are
            not.

        Raises
        ------
        ValueError
            If X or `sample_weight` is not valid, or no entry is observed in a sample
            with a weight.
        """
        checked = self._check_rows(X)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, checked.matrix.shape[0])
        if checked.has_missing:
            counted: Any = slice(None) if sample_weight is None else sample_weight > 0
            check_observed(checked._replace(matrix=checked.matrix[counted]))
        return self._squares(checked, sample_weight).share

    def get_codes(self, X: MatrixLike, *, layer: int | str = "all") -> np.ndarray:
        """Encode samples by several layers, for example for features of a classifier.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to encode.

        layer : int or "all", default="all"
            Number of a layer, from 0 for the first hidden one to -1 for the code; or
            all of them, side by side.

        Returns
        -------
        activations : ndarray of shape (n_samples, n_units)
            The code is that of :meth:`transform`.

        Raises
        ------
        ValueError
            If X is not valid, if there is no such layer, or if activations are out of
            the range of the dtype.
        """
        checked = self._check_rows(X)
        network, params = self._fitted_network()
        n_layers = network.n_layers // 2
        is_number = isinstance(layer, numbers.Integral)
        if layer != "all" and not (is_number and -n_layers <= int(layer) < n_layers):
            raise ValueError(
                f"layer={layer!r} has to be 'all', or a number from {-n_layers} to "
                f"{n_layers - 1}: the encoder has {n_layers} layers"
            )
        chosen = range(n_layers) if layer == "all" else [int(layer) % n_layers]
        parts = [part(network, 0, number + 1) for number in chosen]
        found = [inference.propagate(p, params, self._as_rows(checked)) for p in parts]
        if chosen[-1] == n_layers - 1:  # without variances, if there are any
            found[-1] = found[-1][:, : self.n_components_]
        return self._expect_finite(np.hstack(found), "activations")

    def reconstruction_error(
        self,
        X: MatrixLike,
        *,
        metric: str = "squared_error",
        per_feature: bool = False,
    ) -> np.ndarray:
        """Error of each sample's reconstruction.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to reconstruct.

        metric : {"squared_error", "absolute_error", "loss"}, default="squared_error"
            Squared or absolute difference, in the units of X; or the loss that the
            network was trained with, in the network's units. For a table with
            categories, numbers are in units of their standard deviations. The squared
            error of a category is the sum of squared differences from the decoded
            probabilities, divided by its mean if only the levels' frequencies are
            known; the absolute error is one less the probability of the level.

        per_feature : bool, default=False
            Whether to return the error of each entry instead of sums over features.

        Returns
        -------
        error : ndarray of shape (n_samples,) or (n_samples, n_features)
            Errors of samples, or of entries; inf for outliers whose squares are out of
            the range of the dtype. That of a missing entry is NaN. A sample that lacks
            some has the mean error of the others times the number of features, so that
            it can be compared; NaN if it lacks all.

        Raises
        ------
        ValueError
            If the training data are so small that squares are below the range of the
            dtype; with the metric "loss", if the loss is not defined for an entry of X,
            such as "log_loss" for values outside [0, 1].
        """
        check_metric(metric)
        checked = self._check_rows(X)
        shape, dtype = checked.matrix.shape, checked.matrix.dtype
        shape = shape[0], self.n_features_in_
        errors = np.empty(shape if per_feature else shape[:1], dtype=dtype)
        for batch, error in self._entry_errors(checked, metric):
            errors[batch] = error if per_feature else _summed_over_features(error)
        return errors

    def score_samples(self, X: MatrixLike) -> np.ndarray:
        """Negative squared reconstruction error of each sample: higher is more normal.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to reconstruct.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            The negative of :meth:`reconstruction_error`.
        """
        return -self.reconstruction_error(X)

    # -- fitted attributes that are views --------------------------------------------

    @property
    def coefs_(self) -> list[np.ndarray]:
        """Weights of the layers, encoder first: a list of (n_in, n_out) arrays."""
        return coefs(*self._fitted_network("coefs_"))

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """Biases of the layers, encoder first: a list of (n_out,) arrays."""
        return intercepts(*self._fitted_network("intercepts_"))

    @property
    def categories_(self) -> list[Any]:
        """Levels of each column, None for numbers."""
        return self._fitted_table("categories_").categories_of_columns

    @property
    def input_names_(self) -> list[str]:
        """Names of the network's inputs."""
        return self._fitted_table("input_names_").input_names

    def _fitted_table(self, attribute: str) -> Table:
        if self._table is None or not hasattr(self, "_params"):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {attribute!r}: it "
                "was not fitted to a table with categories"
            )
        return self._table

    # -- for scikit-learn ----------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        n_features_out: int = self.n_components_
        return n_features_out

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        # scikit-learn reads tags before parameters are validated.
        loss = LOSSES.get(self.loss) if isinstance(self.loss, str) else None
        is_auto = isinstance(self.scale, str) and isinstance(
            self.output_activation, str
        )
        output = ACTIVATIONS.get(self.output_activation) if is_auto else None
        tags.input_tags.positive_only = (output is not None and output.low == 0) or (
            loss is not None and not loss.is_scaled
        )
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__()}
        if "_training_state" in state:
            state["_training_state"] = state["_training_state"].as_dict()
        if state.get("_table") is not None:
            state["_table"] = state["_table"].as_dict()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # What earlier versions did not have.
        state = {**defaults(type(self)), **state}
        if "_params" in state:
            state = {"_gaussian": None, **state}
        if state.get("_table") is not None:
            state["_table"] = Table.from_dict(state["_table"])
        super().__setstate__(state)
        if "_training_state" in state:
            self._training_state = TrainingState.from_dict(
                state["_training_state"], scale=self.scale
            )

    # -- validation ----------------------------------------------------------------

    def _validate_params(self) -> None:
        with hints(self):
            super()._validate_params()

    @contextlib.contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Undo what validation has set if a later step, up to the fit, fails."""
        before, params = self._validated_attributes(), self.__dict__.get("_params")
        try:
            yield
        except BaseException:
            if self.__dict__.get("_params") is not params:
                raise  # after the fit, to whose data they belong
            for name in self._validated_attributes():
                del self.__dict__[name]
            self.__dict__.update(before)
            raise

    def _value_range(self, previous: TrainingState | None) -> ValueRange | None:
        """Range of the training data's values; None for any."""
        limits = value_range(self)
        if limits is None or limits.is_strict or previous is None:
            return limits
        # Fitted with another `scale`, or by a version that did not check the range.
        return None if self.scale_ != 1 or self._offset.any() else limits

    def _validate_validation_data(
        self, X_val: MatrixLike | None, dtype: np.dtype
    ) -> Rows | None:
        """`X_val` of a fit as rows, or None."""
        limits = loss_range(self.loss)
        if X_val is not None and self._table is not None:
            matrix, has_missing = self._encoded(X_val, name="X_val")
            matrix = matrix.astype(dtype, copy=False)
            matrix = check_range(matrix, limits, "X_val")
            return _rows(Checked(matrix, has_missing))
        checked = check_validation_rows(self, X_val, dtype, limits)
        return None if checked is None else _rows(checked)

    def _validated_attributes(self) -> dict[str, Any]:
        """Attributes that validation has set, by name."""
        names = "n_features_in_", "feature_names_in_", "_table"
        return {name: self.__dict__[name] for name in names if name in self.__dict__}

    # -- hooks, which members of the family override ---------------------------------

    # Whether the encoder gives a mean and a variance for each entry of the code.
    _codes_are_distributions = False
    # Name of the fitted attribute for the code's term of each epoch, if there is one.
    _term_curve: str | None = None

    @property
    def _draws_noise(self) -> bool:
        """Whether the training loss depends on random numbers, new in every epoch."""
        return self.noise is not None

    @property
    def _n_warmup_epochs(self) -> int:
        """Number of first epochs whose losses belong to another objective."""
        return 0

    def _code_term(self) -> CodeTerm | None:
        """The term of the objective that depends on the code, or None."""
        return describe_sparsity(self)

    def _code_attributes(self, plan: Plan, params: Floats) -> dict[str, Any]:
        """Fitted attributes of the code, which is ordered by changing `params`."""
        return fitting.code_attributes(plan, params)

    def _training_kind(self, objective: Objective) -> type[Training]:
        """The class of trainings on an objective."""
        return training_kind(self.solver, objective.rows)

    def _make_training(self, objective: Objective, *args: Any) -> Training:
        """Make a training, new or continued."""
        return make_training(
            self._training_kind(objective), self.solver, objective, *args
        )

    def _run(
        self, plan: Plan, context: Any, callback_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Train as planned; returns the fitted attributes."""
        report = None
        if context is not None:
            report = partial(CallbackReport, self, context, callback_kwargs)
        return fitting.run(plan, report)

    # -- training -------------------------------------------------------------------

    def _fit(
        self,
        data: AnyRows,
        previous: TrainingState | None,
        X_val: AnyRows | None,
        groups: np.ndarray | None,
        callback_kwargs: dict[str, Any],
    ) -> Self:
        """Train on validated data."""
        plan = make_plan(self, data, previous, X_val=X_val, groups=groups)
        context = None
        if getattr(self, "_skl_callbacks", None):
            context = self._init_callback_context(
                max_subtasks=plan.training.solver.max_iter
            )
            context.call_on_fit_task_begin(estimator=self, **callback_kwargs)
        attributes = self._run(plan, context, callback_kwargs)
        self._set_attributes(attributes)
        if context is not None:
            context.call_on_fit_task_end(
                estimator=self, reconstruction_attributes=attributes, **callback_kwargs
            )
        return self

    def _state_to_continue(self) -> TrainingState | None:
        """The state of the training that a fit continues, or None."""
        state = getattr(self, "_training_state", None) if self.warm_start else None
        # After constant data, which determine no scale, a new training begins.
        return None if state is None or state.constant is not None else state

    @property
    def _was_cut_short(self) -> bool:
        """Whether the last fit has epochs left, for another one to run."""
        return self._training_state.cut_short_of is not None

    def _set_attributes(self, attributes: dict[str, Any]) -> Self:
        rest = {k: v for k, v in vars(self).items() if k not in _OPTIONAL_ATTRIBUTES}
        self.__dict__ = rest | attributes  # in one step, which Ctrl-C cannot divide
        return self

    # -- the fitted network -----------------------------------------------------------

    def _fitted_network(self, attribute: str = "_params") -> tuple[Network, Floats]:
        if not hasattr(self, "_params"):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {attribute!r} "
                "before it is fitted"
            )
        return make_network(**self._architecture), self._params

    def _check_rows(self, X: MatrixLike, *, ensure_all_finite: bool = True) -> Checked:
        check_is_fitted(self)
        if self._table is not None:
            checked = self._encoded(X)
            dtype = self._params.dtype
            return checked._replace(matrix=checked.matrix.astype(dtype, copy=False))
        dtype = self._params.dtype
        return check_rows(self, X, dtype, ensure_all_finite=ensure_all_finite)

    def _encode(self, X: MatrixLike) -> Floats:
        """Validate samples, and return the encoder's output."""
        checked = self._check_rows(X, ensure_all_finite=False)
        network, params = self._fitted_network()
        network = inference.encoder(network)
        if checked.has_missing:  # known for tables only
            return inference.propagate(network, params, self._as_rows(checked))
        X = checked.matrix
        codes, is_finite = inference.propagate_and_check(
            network, params, self._as_rows(Checked(X, has_missing=False))
        )
        if is_finite:  # else reading X again takes longer than the network
            return codes
        name = type(self).__name__
        with np.errstate(invalid="ignore"):  # infinity less infinity
            assert_all_finite(X, allow_nan=True, estimator_name=name, input_name="X")
        rows = self._as_rows(Checked(X, has_missing=True))
        return inference.propagate(network, params, rows)

    def _encoded(self, X: MatrixLike, **how: Any) -> Checked:
        """A table with categories as a matrix."""
        table, how_unknown = cast(Table, self._table), self.handle_unknown
        return check_table(self, X, table, handle_unknown=how_unknown, **how)

    def _decode(self, codes: Floats) -> Floats:
        """Outputs of the network for codes: those of groups are logits."""
        network, params = self._fitted_network()
        network, rows = inference.decoder(network), make_rows(codes)
        return inference.propagate(network, params, rows, *self._output_scaling)

    @property
    def _group_sizes(self) -> list[int]:
        """Sizes of the groups of levels, which are the last inputs and outputs."""
        return [] if self._table is None else self._table.groups

    @property
    def _column_weights(self) -> Floats | None:
        """Weights of the columns of numbers, then of groups; None for ones."""
        if self.feature_weights is None:
            return None
        weights = check_feature_weights(self.feature_weights, self.n_features_in_)
        return weights if self._table is None else self._table.of_inputs(weights)

    @property
    def _output_scaling(self) -> tuple[Floats, Scale]:
        """Offset and scale of the network's outputs, of which logits have none."""
        if self._table is None:
            return self._offset, self.scale_
        scale = self.scale_.copy()
        scale[len(self._table.numbers) :] = 1.0
        return self._offset, scale

    def _in_range(self, X: Checked) -> Checked:
        """Validated samples; ValueError if the loss is not defined for them."""
        size = float(np.abs(self.mean_).max())
        limits = loss_range(self._training_state.loss)
        return X._replace(matrix=check_range(X.matrix, limits, size=size))

    def _as_rows(self, X: Checked) -> Rows:
        """Samples as the network sees them, with expectations of missing entries."""
        offset, scale, has_missing = self._offset, self.scale_, X.has_missing
        rows = make_rows(X.matrix, offset, scale, has_missing=has_missing)
        return filled(rows, self._expected()) if has_missing else rows

    def _expected(self) -> Gaussian:
        """The distribution by which missing entries are filled."""
        if self._gaussian is not None:
            return Gaussian(**self._gaussian)
        # The training data were complete.
        mean_seen = (self.mean_ - self._offset) / self.scale_
        return Gaussian.without_directions(mean_seen)

    def _chunks(self, X: Checked) -> Iterator[tuple[slice, np.ndarray, Rows]]:
        """Slices of the samples, these samples, and as the network sees them."""
        for batch in row_chunks(*X.matrix.shape):
            chunk = X.matrix[batch]
            rows = self._as_rows(X._replace(matrix=chunk))
            yield batch, dense(chunk), rows

    def _reconstructions(
        self, X: Checked
    ) -> Iterator[tuple[slice, np.ndarray, Floats]]:
        """Slices of the samples, these samples, and their reconstructions."""
        network, params = self._fitted_network()
        scaling = self._output_scaling
        for batch, chunk, rows in self._chunks(X):
            yield batch, chunk, inference.propagate(network, params, rows, *scaling)

    def _entry_errors(self, X: Checked, metric: str) -> Iterator[tuple[slice, Floats]]:
        """Slices of the samples, with the errors of their entries."""
        if metric == "loss":
            network, params = self._fitted_network()
            loss = LOSSES[self._training_state.loss]
            weights = self._unit_weights(is_balanced=not self._codes_are_distributions)
            for batch, chunk, rows in self._chunks(self._in_range(X)):
                error = inference.entry_losses(loss, network, params, rows, weights)
                yield batch, self._per_column(error, chunk)
            return
        power = 2 if metric == "squared_error" else 1
        dtype = X.matrix.dtype
        least = np.finfo(dtype).tiny
        smallest = np.min(self.scale_)
        if power == 2 and self._table is None and smallest < np.sqrt(least):
            raise ValueError(
                f"The squared errors of such small data (scale_ is {smallest:.3g}) "
                f"are below {least:.3g}, the smallest number of {dtype}: use "
                "metric='absolute_error', or multiply the data by a large number"
            )
        for batch, chunk, reconstruction in self._reconstructions(X):
            if self._table is not None:
                network, _ = self._fitted_network()
                unit = self.scale_
                if power == 1:  # of a group, half the sum: 1 less the probability
                    unit = np.where(np.arange(len(unit)) < network.n_plain, unit, 2.0)
                reconstruction = probabilities(reconstruction, network)
                with np.errstate(over="ignore"):
                    error = np.abs((chunk - reconstruction) / unit) ** power
                error = summed_over_groups(error, network)
                yield batch, self._per_column(error, chunk)
                continue
            with np.errstate(over="ignore"):
                error = np.abs(chunk - reconstruction) ** power
            yield batch, self._per_column(error, chunk)

    def _squares(self, X: Checked, sample_weight: Floats | None) -> Squares:
        """Squared errors of the reconstructions and deviations, summed over samples."""
        squares = Squares()
        for batch, chunk, reconstruction in self._reconstructions(X):
            chunk = chunk.astype(np.float64, copy=False)
            with np.errstate(over="ignore"):
                errors, deviations = self._residuals(chunk, reconstruction)
            if X.has_missing:
                is_missing = np.isnan(errors)
                errors[is_missing] = deviations[is_missing] = 0
            weights = None if sample_weight is None else sample_weight[batch]
            squares = squares.plus(Squares.of(errors, deviations, weights))
        return squares

    def _residuals(
        self, chunk: Floats, reconstruction: Floats
    ) -> tuple[Floats, Floats]:
        """Residuals of reconstructions, and of the mean: their squares are deviances.

        Where columns have scales or weights of their own, these are in them. The
        squares of categories are twice their losses.
        """
        errors, deviations = chunk - reconstruction, chunk - self.mean_
        weights, network = self._unit_weights(), self._fitted_network()[0]
        if isinstance(self.scale_, float) and weights is None:
            return errors, deviations
        factors = 1 / np.asarray(self.scale_)
        if weights is not None:
            factors = factors * np.sqrt(weights)
        errors *= factors
        deviations *= factors
        if not network.n_groups:
            return errors, deviations
        of_groups, plain = cast(Floats, weights)[network.groups[:-1]], network.n_plain
        nothing = np.append(np.zeros(plain), log_frequencies(self.mean_, network))
        nothing = np.broadcast_to(nothing, chunk.shape)
        parts = (errors, reconstruction), (deviations, nothing)
        errors, deviations = (
            np.hstack(
                [
                    of_numbers[:, :plain],
                    np.sqrt(2 * of_groups * cross_entropies(logits, chunk, network)),
                ]
            )
            for of_numbers, logits in parts
        )
        return errors, deviations

    def _unit_weights(self, *, is_balanced: bool = True) -> Floats | None:
        """Weights of the losses of the network's outputs; None for ones."""
        network, weights = self._fitted_network()[0], self._column_weights
        return unit_weights(self.mean_, network, weights, is_balanced=is_balanced)

    def _per_column(self, errors: Floats, chunk: np.ndarray) -> Floats:
        """Errors of entries in the order of the features, see `_infinite_where_nan`."""
        network, _ = self._fitted_network()
        errors = _infinite_where_nan(errors, chunk[:, columns_of(network)])
        return errors if self._table is None else errors[:, self._table.places]

    def _expect_finite(self, out: np.ndarray, what: str) -> np.ndarray:
        """Return the output of a network; raise ValueError if it is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            may_be = np.isfinite(out.sum(dtype=np.float64))
        if not may_be and not np.isfinite(out).all():
            row = int(np.flatnonzero(~np.isfinite(out).all(axis=1))[0])
            raise ValueError(
                f"X is too large: its {what} are out of the range of {out.dtype}, "
                f"first in row {row}. Samples and codes should resemble those of the "
                "training data"
            )
        return out

    def _check_code_size(self, X: np.ndarray) -> None:
        if X.shape[1] != self.n_components_:
            raise ValueError(
                f"X has {X.shape[1]} features, but inverse_transform expects codes of "
                f"n_components={self.n_components_}"
            )


def _infinite_where_nan(errors: Floats, X: np.ndarray) -> Floats:
    """Errors of entries, in place: those out of range are inf, of missing ones NaN."""
    is_nan = np.isnan(errors)
    if is_nan.any():
        errors[is_nan & ~np.isnan(X)] = np.inf
    return errors


def _summed_over_features(errors: Floats) -> Floats:
    """Errors of samples, from those of entries, which are NaN if missing."""
    with np.errstate(over="ignore"):
        sums: Floats = errors.sum(axis=1)
        for row in np.flatnonzero(np.isnan(sums)):
            observed = errors[row, ~np.isnan(errors[row])]
            if observed.size:
                sums[row] = observed.mean() * errors.shape[1]
    return sums


def callback_kwargs_of(
    X: Any, y: Any = None, sample_weight: Any = None, groups: Any = None
) -> dict[str, Any]:
    """Arguments of a fit, as callbacks receive them."""
    metadata = {"sample_weight": sample_weight, "groups": groups}
    metadata = {k: v for k, v in metadata.items() if v is not None}
    return {"X": X, "y": y, "metadata": metadata or None}


def _solver_takes_batches(estimator: Any) -> bool:
    """Raise AttributeError if the solver needs all samples at once; else True."""
    if estimator.solver == "lbfgs":
        raise AttributeError(
            "partial_fit needs a stochastic solver; solver='lbfgs' uses all samples at "
            "once: call fit"
        )
    return True


# Decorates a method that "lbfgs" does not have, and keeps its type.
for_batches: Callable[[Function], Function] = available_if(_solver_takes_batches)


class LocalAutoencoder(BaseAutoencoder):
    """Base class of autoencoders for data in this process: in memory, or in blocks."""

    # The estimator that trains with the same parameters on Dask collections.
    _twin_for_dask: str | None = "skae.dask.DaskAutoencoderTransformer"

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: MatrixLike,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Train the autoencoder.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. float32 is kept; all other types are converted to float64.
            A C-ordered, aligned array or memory map of either type is not copied, and a
            sparse matrix is not made dense. NaN is a missing value; a filled copy of
            data that have some is made.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; None is 1 for every sample. A sample of weight 2
            counts as two equal samples (but is drawn, corrupted and held out as one).

        X_val : {array-like, sparse matrix} of shape (n_validation, n_features), \
                default=None
            Validation data. Their loss is computed after every epoch, and the
            weights of the best epoch are kept. With `early_stopping` it also ends
            training.

        groups : array-like of shape (n_samples,), default=None
            Labels of groups of samples that belong together, such as the subject or
            the day of a measurement. If `early_stopping` sets samples aside for
            validation, groups are not split between training and validation. Without
            groups, identical samples are kept together, and also near copies and
            neighbours in a series if they are noticed; see Notes.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the data or a combination of parameters is not valid, or if training
            diverges. The estimator is left as it was.

        Warns
        -----
        ConvergenceWarning
            If training stops at `max_iter` epochs without having converged, except with
            "cosine", whose learning rate ends at 0 then.

        UserWarning
            If Ctrl-C ends training. The best weights so far are kept, and a fit with
            `warm_start` finishes it. (A search continues with its next fit.) Also if X
            is a Dask array or dataframe, because its data are gathered in memory.
        """
        with self._unchanged_on_error():
            previous = self._state_to_continue()
            X, sample_weight = self._validate_training_data(X, sample_weight, previous)
            groups = check_groups(groups, X.matrix.shape[0])
            callback_kwargs = callback_kwargs_of(X.matrix, y, sample_weight, groups)
            data = _rows(X, sample_weight)
            X_val = self._validate_validation_data(X_val, data.dtype)
            return self._fit(data, previous, X_val, groups, callback_kwargs)

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit_batches(
        self,
        make_batches: Callable[[], Iterable[MatrixLike]],
        *,
        X_val: MatrixLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Train on samples that are read in blocks, again in every epoch.

        For data that do not fit in memory and are not one array on disk: HDF5, Zarr,
        Parquet, a database. (A :class:`numpy.memmap` can be passed to :meth:`fit`.) The
        result does not depend on how samples are divided into blocks. With
        ``shuffle=False`` it is that of :meth:`fit` on the same samples in the same
        order, bit for bit.

        Parameters
        ----------
        make_batches : callable
            Called without arguments at the beginning of each pass over the samples;
            returns an iterable of blocks, each {array-like, sparse matrix} of shape
            (n_rows, n_features), with any number of samples, without weights and y. It
            must give the same samples in the same order every time: the first sample
            and the number of samples are compared in later passes, other changes are
            not noticed. The dtype of the first block, float32 or float64, is that of
            the computation.

        X_val : {array-like, sparse matrix} of shape (n_validation, n_features), \
                default=None
            Validation data, in memory. See :meth:`fit`.

        groups : array-like of shape (n_samples,), default=None
            Labels of groups of samples that belong together, in the order of the
            samples. See :meth:`fit`.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        TypeError
            If `make_batches` does not return an iterable, or a block is (X, y).

        ValueError
            As :meth:`fit`; if there are no samples, if a later pass has another first
            sample or number of samples, or if there are not as many labels as samples.
            The estimator is left as it was.

        Warns
        -----
        ConvergenceWarning
            As :meth:`fit`.

        UserWarning
            If Ctrl-C ends training. The best weights so far are kept.

        Notes
        -----
        Besides the block that is being read, some 16 million entries are in memory (64
        MiB of float32; for sparse samples, the stored entries and their columns), or a
        mini-batch, if that is more. With ``shuffle=True`` samples are shuffled within
        such a window, but windows stay in the order of the data: shuffle sorted samples
        once before. Data that fit in one window are trained on as in :meth:`fit`.

        There is a pass for each epoch (with L-BFGS, for each evaluation of the
        objective), and some 7 to 11 more: by default 10, to count and check the
        samples, to find identical or related ones, for their mean and scale, to set
        some aside, for PCA, for the objective, and to order the code. With more than
        1024 features PCA is iterative and takes 7 passes more; tables with categories
        take one more, before all others, to read the levels of all blocks, which have
        to be of one library and have the same columns; data of a single window
        take up to 2 more. With `pretrain` each layer takes a pass for each of its
        epochs and some 4 more, in which the codes of the layers below are computed
        again. Samples set aside (by default, a fifth) are kept in temporary files
        during the fit, in ``tempfile.gettempdir()``; pass `X_val`, or set
        ``early_stopping=False``, to keep none.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_digits
        >>> from skae import AutoencoderTransformer
        >>> X = load_digits().data
        >>> def blocks():
        ...     for start in range(0, len(X), 500):
        ...         yield X[start : start + 500]
        >>> kwargs = dict(n_components=5, shuffle=False, random_state=0, max_iter=5)
        >>> streamed = AutoencoderTransformer(**kwargs).fit_batches(blocks)
        >>> whole = AutoencoderTransformer(**kwargs).fit(X)
        >>> bool((streamed.transform(X) == whole.transform(X)).all())
        True
        """
        with self._unchanged_on_error():
            previous = self._state_to_continue()
            check = partial(self._validate_block, previous)
            try:
                stream = RowStream(make_batches, check)
                are_read = True
            except _LevelsUnknownError:
                are_read = False
            if not are_read:
                self._read_tables(make_batches())
                stream = RowStream(make_batches, partial(check, are_read=True))
            with contextlib.closing(stream):
                groups = check_groups(groups, stream.shape[0])
                callback_kwargs = callback_kwargs_of(None, groups=groups)
                X_val = self._validate_validation_data(X_val, stream.dtype)
                data = StreamedRows(stream)
                return self._fit(data, previous, X_val, groups, callback_kwargs)

    @for_batches
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Make one pass over a batch of samples, in mini-batches of `batch_size`.

        The first call, unless it follows a fit, initializes the weights and computes
        `mean_` and `scale_`, which then do not change: its batch should be
        representative. (After a batch of equal samples, such as a single one, the next
        call begins again, and both batches count.) Nothing is held out, and the last
        weights are kept. After :meth:`fit`, training continues from the weights that it
        kept. Not available with ``solver="lbfgs"``, which needs all samples at once.

        Levels of categorical columns are known from the first call on: those of
        `categories` or, with "auto", those that the columns' dtypes name and those that
        occur. They may occur later.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Batch of samples.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; None is 1 for every sample.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the data or a combination of parameters is not valid, or if training
            diverges. The estimator is left as it was.
        """
        with self._unchanged_on_error():
            previous = getattr(self, "_training_state", None)
            X, sample_weight = self._validate_training_data(
                X, sample_weight, previous, counts_declared=True
            )
            constant = None if previous is None else previous.constant
            if constant is not None:
                previous = None
            data = _rows(X, sample_weight)
            plan = make_plan(self, data, previous, max_epochs=1, constant=constant)
            return self._set_attributes(fitting.run_once(plan))

    def _validate_training_data(
        self,
        X: MatrixLike,
        sample_weight: ArrayLike | None,
        previous: TrainingState | None,
        *,
        counts_declared: bool = False,
    ) -> tuple[Checked, Floats | None]:
        """Validate samples and weights; a continued training keeps its dtype.

        With `counts_declared`, levels that dtypes name are known if they do not occur.
        """
        dtype = _DTYPES if previous is None else previous.dtype
        warn_of_dask(X, self._twin_for_dask)
        X = gathered(X)
        if previous is None:
            self._read_tables([X], counts_declared=counts_declared)
        reset = previous is None
        checked = self._check_training_rows(X, dtype, previous, reset=reset)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, checked.matrix.shape[0])
        return checked, sample_weight

    def _validate_block(
        self,
        previous: TrainingState | None,
        block: MatrixLike,
        dtype: np.dtype | None,
        *,
        are_read: bool = False,
    ) -> Checked:
        """Validate a block of a stream; the first has no dtype, and sets it for all.

        `are_read` says that the levels of all blocks are known.
        """
        if dtype is not None:
            return self._check_training_rows(block, dtype, previous)
        if previous is not None:
            return self._check_training_rows(block, previous.dtype, previous)
        if not are_read:
            warn_of_dask(block, self._twin_for_dask)
            self.__dict__.pop("_table", None)
            if self._may_have_categories(block):
                raise _LevelsUnknownError
        return self._check_training_rows(block, _DTYPES, None, reset=True)

    def _may_have_categories(self, block: MatrixLike) -> bool:
        """Whether a block, or others with the same columns, may have categories."""
        chosen = self.categorical_features
        if chosen is None or isinstance(chosen, str):
            return chosen is not None and may_have_categories(frame_of(block))
        return True

    def _check_training_rows(
        self,
        X: MatrixLike,
        dtype: Any,
        previous: TrainingState | None,
        *,
        reset: bool = False,
    ) -> Checked:
        """Validate samples; those that are first set the features' names."""
        limits = self._value_range(previous)
        if self._table is None:
            return check_rows(self, X, dtype, limits, reset=reset)
        matrix, has_missing = self._encoded(X, reset=reset)
        if not isinstance(dtype, tuple):
            matrix = matrix.astype(dtype, copy=False)
        return Checked(check_range(matrix, limits), has_missing)

    def _read_tables(
        self, blocks: Iterable[MatrixLike], *, counts_declared: bool = False
    ) -> None:
        """Find out how tables with categories become matrices, if these are some."""
        self.__dict__.pop("_table", None)
        table = read_tables(self, blocks, counts_declared=counts_declared)
        if table is not None:
            self._table = table


class _LevelsUnknownError(Exception):
    """Blocks of a stream have levels that have to be read first."""


def _rows(checked: Checked, weights: Floats | None = None) -> Rows:
    """Rows of valid data, for a fit."""
    matrix, has_missing = checked
    return make_rows(matrix, weights=weights, has_missing=has_missing)
