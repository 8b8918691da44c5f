"""Base class of all estimators: public methods, validation, hooks."""

from __future__ import annotations

import contextlib
import inspect
import numbers
from collections.abc import Iterator
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
from sklearn.utils.validation import check_is_fitted

from skae._compiled.activations import ACTIVATIONS
from skae._compiled.code_terms import CodeTerm
from skae._compiled.losses import LOSSES
from skae._compiled.optimizers import SOLVERS
from skae._compiled.records import Network
from skae._compiled.schedules import SCHEDULES
from skae._data.gaussian import Gaussian, filled
from skae._data.rows import AnyRows, Rows, dense, make_rows, row_chunks
from skae._data.squares import Squares
from skae._data.tables import Table
from skae._data.validation import (
    Checked,
    ValueRange,
    check_before_conversion,
    check_feature_weights,
    check_observed,
    check_range,
    check_rows,
    check_table,
    check_validation_rows,
    check_weights,
)
from skae._model import inference
from skae._model.deviance import deviance_residuals
from skae._model.groups import (
    columns_of,
    probabilities,
    summed_over_groups,
    unit_weights,
)
from skae._model.jacobian import decoder_jacobian
from skae._model.network import coefs, intercepts, make_network, part
from skae._names import Names, check_name, hints
from skae._sklearn import (
    CallbackSupportMixin,
    DocumentedMixin,
    Interval,
    Options,
    RealNotInt,
)
from skae._training import fitting
from skae._training.loop import Objective, Training
from skae._training.plan import Plan, make_plan, make_training, training_kind
from skae._training.reporting import CallbackReport
from skae._training.settings import describe_sparsity, loss_range, value_range
from skae._training.state import TrainingState
from skae._typing import Floats, MatrixLike, Scale

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


# Those of the parameters that say how tables become matrices, of every estimator.
TABLE_CONSTRAINTS: dict[str, list[Any]] = {
    "categorical_features": [Names(["from_dtype"]), "array-like", None],
    "categories": [Names(["auto"]), dict, "array-like"],
    "max_categories": [Interval(numbers.Integral, 1, None, closed="left"), None],
    "min_frequency": [
        Interval(numbers.Integral, 1, None, closed="left"),
        Interval(RealNotInt, 0, 1, closed="neither"),
        None,
    ],
    "handle_unknown": [Names(["warn", "error"])],
}


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
        **TABLE_CONSTRAINTS,
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

    def decoder_jacobian(self, codes: ArrayLike | None = None) -> np.ndarray:
        """Derivative of the reconstruction with respect to the code.

        It says what each entry of the code does to each feature, near a code. It is
        computed exactly, through all layers of the decoder.

        Parameters
        ----------
        codes : array-like of shape (n_codes, n_components), default=None
            Codes at which to differentiate. None: the code of `mean_`, the mean of the
            training data.

        Returns
        -------
        jacobian : ndarray of shape (n_codes, n_features, n_components)
            ``jacobian[i, j, k]`` is the change of feature j, in the units of the
            training data, per unit of entry k of the code. After a fit to a table with
            categories, the second axis has an entry for each of `input_names_` instead:
            a number has the change in its units, a level the change of its decoded
            probability. At its kink, a "relu" unit has the slope above it.

        Raises
        ------
        ValueError
            If `codes` is not valid, or if derivatives are out of the range of the
            dtype.
        """
        check_is_fitted(self)
        network, params = self._fitted_network()
        if codes is None:
            mean = self.mean_[np.newaxis].astype(params.dtype)
            rows = self._as_rows(Checked(mean, has_missing=False))
            at = inference.propagate(inference.encoder(network), params, rows)
            at = at[:, : self.n_components_]  # without variances, if there are any
        else:
            check_before_conversion(codes)
            at = check_array(codes, dtype=params.dtype, input_name="codes")
            self._check_code_size(at, "codes", "decoder_jacobian")
        _, scale = self._output_scaling
        with np.errstate(over="ignore", invalid="ignore"):
            found = decoder_jacobian(inference.decoder(network), params, at, scale)
        self._expect_finite(found.reshape(len(found), -1), "derivatives")
        return found

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
        """Encode samples, and return the activations of any layer, or of all.

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
        # `string` stays False: scikit-learn's checks want such an estimator to take any
        # objects, also those that are no categories.
        tags.input_tags.categorical = self.categorical_features is not None
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
            return rows_of(Checked(matrix, has_missing))
        checked = check_validation_rows(self, X_val, dtype, limits)
        return None if checked is None else rows_of(checked)

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

    def _decoded_inputs(self, codes: Floats) -> Floats:
        """The table's matrix of codes: numbers, and the probabilities of levels."""
        return probabilities(self._decode(codes), self._fitted_network()[0])

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
        squares, (network, _) = Squares(), self._fitted_network()
        of_units = self._unit_weights()
        for batch, chunk, reconstruction in self._reconstructions(X):
            chunk = chunk.astype(np.float64, copy=False)
            with np.errstate(over="ignore"):
                errors, deviations = deviance_residuals(
                    chunk, reconstruction, network, self.mean_, self.scale_, of_units
                )
            if X.has_missing:
                is_missing = np.isnan(errors)
                errors[is_missing] = deviations[is_missing] = 0
            weights = None if sample_weight is None else sample_weight[batch]
            squares = squares.plus(Squares.of(errors, deviations, weights))
        return squares

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

    def _check_code_size(
        self, X: np.ndarray, name: str = "X", caller: str = "inverse_transform"
    ) -> None:
        if X.shape[1] != self.n_components_:
            raise ValueError(
                f"{name} has {X.shape[1]} features, but {caller} expects codes of "
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


def rows_of(checked: Checked, weights: Floats | None = None) -> Rows:
    """Rows of valid data, for a fit."""
    matrix, has_missing = checked
    return make_rows(matrix, weights=weights, has_missing=has_missing)
