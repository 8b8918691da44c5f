"""An autoencoder that is trained on Dask collections, on the workers that hold them."""

# Everything that needs Dask lies in this folder: the estimator, which is defined here,
# where users find it; methods on the blocks of a collection; the training on the
# workers; and the partitions of a collection. It may import the estimators and what is
# below them; nothing else in skae may import it. (A comment, because the documentation
# shows the docstring to users.)

import contextlib
import copy
import inspect
import numbers
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.utils.validation import check_is_fitted, validate_data

from skae._autoencoder import AutoencoderParameters, AutoencoderTransformer
from skae._base.autoencoder import BaseAutoencoder, callback_kwargs_of, check_metric
from skae._data.tables import TableCounts, TableReader
from skae._data.validation import (
    ValueRange,
    check_block,
    check_groups,
    check_table_block,
)
from skae._sklearn import Interval, StrOptions, _fit_context, with_callbacks
from skae._training.fitting import note_fit, training_attributes
from skae._training.loop import Kept, Objective, Training
from skae._training.plan import Plan
from skae._training.reporting import Curves
from skae._training.settings import loss_range
from skae._typing import Matrix, MatrixLike
from skae.dask.blocks import (
    check_any_rows,
    computed,
    counted,
    gathered_weights,
    is_dask_collection,
    lazily,
    like,
    may_have_categories,
    squares,
)
from skae.dask.partitions import (
    DataLostError,
    LostError,
    NoWorkersError,
    Partitions,
    check_collection,
)
from skae.dask.training import (
    DistributedLbfgsTraining,
    DistributedRows,
    DistributedStochasticTraining,
)

if TYPE_CHECKING:
    import dask.array as da
    from distributed import Client

__all__ = ["DaskAutoencoderTransformer", "DataLostError", "NoWorkersError"]

_Class = TypeVar("_Class", bound=type)


def __dir__() -> list[str]:
    return __all__


def _documented(estimator: _Class) -> _Class:
    """Fill a class' docstring with the parameters of `AutoencoderTransformer`."""
    if estimator.__doc__:  # not with python -OO
        other = inspect.cleandoc(AutoencoderTransformer.__doc__ or "")
        parameters = other.partition("Parameters\n----------\n")[2]
        parameters = parameters.partition("\n\nAttributes\n")[0]
        # This class does not have these methods.
        for name in ("partial_fit", "fit_batches"):
            parameters = parameters.replace(
                f":meth:`{name}`", f":meth:`~skae.AutoencoderTransformer.{name}`"
            )
        own = inspect.cleandoc(estimator.__doc__)
        estimator.__doc__ = own.replace("{inherited}", parameters) + "\n"
    return estimator


@_documented
class DaskAutoencoderTransformer(AutoencoderParameters, BaseAutoencoder):
    """:class:`~skae.AutoencoderTransformer` for Dask arrays and dataframes.

    Training is synchronous: the workers compute on the partitions that they hold, which
    stay there, and the results are summed in the order of the partitions. So the result
    depends on how the samples are cut into partitions, but not on the number of
    workers. With one partition it is that of :class:`~skae.AutoencoderTransformer`, bit
    for bit.

    Parameters
    ----------
    {inherited}

    client : distributed.Client, default=None
        Client of the cluster to train on. None is the one in use. It is neither copied
        nor pickled with the estimator.

    n_local_steps : int or "auto", default="auto"
        Number of weight updates between two exchanges, with the stochastic solvers.
        With 1, every update uses the sum of the partitions' gradients. With more, each
        partition makes this many updates by itself, from the same weights, and the
        resulting weights and moments are averaged (McMahan et al.,
        "Communication-efficient learning of deep networks from decentralized data",
        2017, algorithm 1), and Adam and RMSprop multiply their learning rate by the
        square root of the number of partitions, at most by 4. "auto": as many as lead
        to 6 exchanges per epoch, or 1 if an epoch has fewer than 12 updates.

    See Also
    --------
    skae.AutoencoderTransformer : For data in memory or on one machine, with the same
        attributes. It has ``partial_fit`` for batches, also through
        ``dask_ml.wrappers.Incremental``; this class does not.

    Notes
    -----
    **Batches.** Each partition has its share of every mini-batch, in proportion to its
    number of samples, and ``shuffle=True`` shuffles each partition by itself. With
    ``sparsity="kl"`` the mean activation is that of each partition's share. With
    `pretrain` the workers hold the codes of all layers until the last is trained.

    **Categories.** Levels are counted over all partitions, before those are made
    matrices on their workers; both are kept there meanwhile. A level that is not known
    is reported by :meth:`fit` on the client; by lazy results, in the workers' logs.

    **When workers die**, the others compute their partitions again, and training
    continues with the same result, if Dask can: data that were scattered from the
    client are lost with their worker. Then, or if no worker is left, :meth:`fit` raises
    :class:`DataLostError` or :class:`NoWorkersError`, and keeps the weights of the last
    whole epoch or, with validation samples, the best so far; by default, after a start
    at PCA, those that improve on it with confidence. The estimator can be used with
    them, except that the code is not ordered, and a fit with ``warm_start=True`` runs
    the remaining epochs. While layers are pretrained, nothing is kept and the estimator
    stays as it was. If there are no workers yet, :meth:`fit` waits for one.

    **Threads.** In training, one thread of its worker works on a partition.

    **Tasks.** A fit in a task leaves the task's thread to others.

    **Workers.** Their number should be fixed: an adaptive cluster does not count what
    they compute as tasks, and would stop most of them.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client
    >>> from sklearn.datasets import load_digits
    >>> from skae.dask import DaskAutoencoderTransformer
    >>> if __name__ == "__main__":  # doctest: +SKIP
    ...     with Client(n_workers=2, threads_per_worker=1):
    ...         X = da.from_array(load_digits().data, chunks=(600, -1)).persist()
    ...         autoencoder = DaskAutoencoderTransformer(n_components=5).fit(X)
    ...         codes = autoencoder.transform(X)  # a Dask array, not computed yet
    ...         local = autoencoder.to_local()  # without Dask
    """

    _parameter_constraints: dict[str, Any] = {
        **AutoencoderParameters._parameter_constraints,
        "client": "no_validation",
        "n_local_steps": [
            StrOptions({"auto"}),
            Interval(numbers.Integral, 1, None, closed="left"),
        ],
    }

    def __init__(
        self,
        n_components: float = 2,
        *,
        client: "Client | None" = None,
        n_local_steps: int | str = "auto",
        **parameters: Any,
    ) -> None:
        super().__init__(n_components, **parameters)
        self.client = client
        self.n_local_steps = n_local_steps

    # scikit-learn looks parameters up here.
    _inherited = inspect.signature(AutoencoderParameters.__init__).parameters
    __init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *_inherited.values(),
            inspect.Parameter("client", inspect.Parameter.KEYWORD_ONLY, default=None),
            inspect.Parameter(
                "n_local_steps", inspect.Parameter.KEYWORD_ONLY, default="auto"
            ),
        ]
    )
    del _inherited

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "client": None}

    def __sklearn_clone__(self) -> Self:
        # A client is a connection, which cannot be copied.
        copied = copy.copy(self)
        cloned: Self = super(DaskAutoencoderTransformer, copied).__sklearn_clone__()
        cloned.client = self.client
        return cloned

    # -- fitting ---------------------------------------------------------------------

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Train the autoencoder where the data are.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Training data, whose partitions are arrays, sparse matrices or dataframes.
            They are computed, if they are not yet, and stay in the workers' memory
            until training ends. NaN is a missing value. Columns of a dataframe can be
            categories, see :class:`skae.AutoencoderTransformer`; their levels are those
            that occur in any partition.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like or dask Array of shape (n_samples,), default=None
            Non-negative weights; None is 1 for every sample. They are gathered.

        X_val : dask Array or DataFrame, or array-like, of shape \
                (n_validation, n_features), default=None
            Validation data. See :meth:`skae.AutoencoderTransformer.fit`.

        groups : array-like or dask Array of shape (n_samples,), default=None
            Labels of groups of samples that belong together. They are gathered. See
            :meth:`skae.AutoencoderTransformer.fit`.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        TypeError
            If X is not a Dask collection.

        ValueError
            As :meth:`skae.AutoencoderTransformer.fit`, or if there is no client. The
            estimator is left as it was.

        DataLostError, NoWorkersError
            If training cannot continue; see Notes.
        """
        try:
            with self._unchanged_on_error():
                self._check_local_steps()
                return self._fit_partitions(X, y, sample_weight, X_val, groups)
        except LostError as error:
            if error._attributes is None:
                raise
            self._set_attributes(error._attributes)
            rest = ""
            if self._was_cut_short:
                rest = ", and a fit with warm_start=True finishes it"
            raise type(error)(
                f"{error}. The weights after {self.n_iter_} whole epochs are kept: the "
                f"estimator can be used{rest}"
            ) from error

    def _check_local_steps(self) -> None:
        if self.solver == "lbfgs" and self.n_local_steps not in (1, "auto"):
            raise ValueError(
                f"n_local_steps={self.n_local_steps} does not go with solver='lbfgs', "
                "each step of which uses all rows: use 1, or another solver"
            )

    def _fit_partitions(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None,
        X_val: MatrixLike | None,
        groups: ArrayLike | None,
    ) -> Self:
        previous = self._state_to_continue()
        dtype = (np.float64, np.float32) if previous is None else previous.dtype
        callback_kwargs = callback_kwargs_of(X, y, sample_weight, groups)
        limits = self._value_range(previous)
        reset = previous is None
        with self._partitions(X, dtype, limits, reset=reset) as partitions:
            n_rows = sum(partitions.n_rows)
            if sample_weight is not None:
                sample_weight = gathered_weights(sample_weight, n_rows, self.client)
            if is_dask_collection(groups):
                (groups,) = computed([groups], self.client)
            numbered = check_groups(groups, n_rows)
            data = DistributedRows.of(partitions, sample_weight)
            if not is_dask_collection(X_val):
                rows = self._validate_validation_data(X_val, data.dtype)
                return self._fit(data, previous, rows, numbered, callback_kwargs)
            limits = loss_range(self.loss)
            with self._partitions(X_val, data.dtype, limits, name="X_val") as others:
                validation = DistributedRows.of(others)
                return self._fit(data, previous, validation, numbered, callback_kwargs)

    @contextlib.contextmanager
    def _partitions(
        self,
        X: Any,
        dtype: DTypeLike | tuple[DTypeLike, ...],
        limits: ValueRange | None,
        *,
        reset: bool = False,
        name: str = "X",
    ) -> Iterator[Partitions]:
        """Partitions of a collection, validated."""
        how: dict[str, Any] = {"dtype": dtype, "limits": limits, "name": name}
        survey = None
        if reset:
            self.__dict__.pop("_table", None)
            if may_have_categories(X, self.categorical_features):
                look = partial(counted, categorical_features=self.categorical_features)
                survey = look, partial(self._read_counts, **how)
        with Partitions.of(
            X,
            self.client,
            validate=self._validating(**how),
            survey=survey,
            may_have_categories=survey is not None or self._table is not None,
            name=name,
        ) as partitions:
            n_features = partitions.n_features if self._table is None else None
            check_any_rows(sum(partitions.n_rows), partitions.n_features)
            self._check_columns(X, n_features, reset=reset)
            yield partitions

    def _validating(
        self, handle_unknown: str | None = None, **how: Any
    ) -> Callable[[Any], Matrix]:
        """What checks blocks on the workers, and makes tables matrices."""
        if self._table is None:
            return partial(check_block, **how)
        how["handle_unknown"] = handle_unknown or self.handle_unknown
        return partial(check_table_block, table=self._table, **how)

    def _read_counts(
        self, counts: list[TableCounts | None], **how: Any
    ) -> Callable[[Any], Matrix]:
        """Find out how partitions become matrices; returns what makes them some."""
        reader = TableReader.of(self)
        for of_block in counts:
            if of_block is not None:
                reader.add(of_block)
        if reader.has_categories:
            self._table = reader.table()
            reader.report_unknown(self._table, self.handle_unknown)
        return self._validating("ignore", **how)

    def _check_columns(
        self, X: Any, n_features: int | None = None, *, reset: bool = False
    ) -> None:
        """Check, or set, the number and the names of a collection's features."""
        n_features = X.shape[1] if n_features is None else n_features
        block = like(X, n_features)
        validate_data(self, block, reset=reset, skip_check_array=True)

    def _training_kind(self, objective: Objective) -> type[Training]:
        if self.solver == "lbfgs":
            return DistributedLbfgsTraining
        return DistributedStochasticTraining

    def _make_training(self, objective: Objective, *args: Any) -> Training:
        training = super()._make_training(objective, *args)
        if isinstance(training, DistributedStochasticTraining):
            training.n_local_steps = self.n_local_steps
        return training

    def _run(
        self, plan: Plan, context: Any, callback_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        training = plan.training
        n_before = training.state.progress.n_epochs
        if plan.is_warm_start and plan.selection is not None and self._was_cut_short:
            # Rows may have been lost before the last weights were compared with PCA.
            plan.selection.end(Curves.empty(), is_last=False)
        try:
            return super()._run(plan, context, callback_kwargs)
        except LostError as error:
            if training.state.progress.n_epochs > n_before:
                kept = _weights_known_to_be_good(plan)
                attributes = training_attributes(plan, kept, training.curves)
                note_fit(attributes, plan)
                attributes |= self._validated_attributes()
                error._attributes = attributes
            raise

    # -- inference -------------------------------------------------------------------

    def to_local(self) -> AutoencoderTransformer:
        """Return the same estimator without Dask.

        Returns
        -------
        estimator : AutoencoderTransformer
            Estimator with the same parameters and fitted attributes.
        """
        parameters = self.get_params(deep=False)
        local = AutoencoderTransformer(
            **{name: parameters[name] for name in AutoencoderTransformer().get_params()}
        )
        others = {k: v for k, v in self.__dict__.items() if k not in parameters}
        for name in ("_sklearn_output_config", "_metadata_request"):
            if name in others:  # their setters change them in place
                others[name] = copy.deepcopy(others[name])
        local.__dict__.update(others)
        return local

    def _for_inference(self) -> AutoencoderTransformer:
        """The estimator without what only training needs, which is much larger."""
        local = self.to_local()
        local._training_state = self._training_state.without_arrays()
        return local

    def transform(self, X: Any) -> "np.ndarray | da.Array":
        """Encode samples.

        Parameters
        ----------
        X : {dask Array or DataFrame, array-like, sparse matrix} of shape \
                (n_samples, n_features)
            Samples to encode.

        Returns
        -------
        X_new : dask Array or ndarray of shape (n_samples, n_components)
            Their codes; lazy for a Dask collection.
        """
        if not is_dask_collection(X):
            return super().transform(X)
        self._check_collection(X, self._check_columns)
        return self._lazily("transform", X, (self.n_components_,))

    def inverse_transform(self, X: Any) -> "np.ndarray | da.Array":
        """Decode codes.

        Parameters
        ----------
        X : {dask Array or DataFrame, array-like} of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        X_original : dask Array or DataFrame, or ndarray or data frame, of shape \
                (n_samples, n_features)
            Their reconstructions; lazy for a Dask collection. After a fit to a data
            frame with categories, a data frame with its columns and dtypes, whose index
            begins at 0 in each partition.
        """
        if not is_dask_collection(X):
            return super().inverse_transform(X)
        check_is_fitted(self)
        check_collection(X)
        self._check_code_size(X)
        return self._lazily("inverse_transform", X, (self.n_features_in_,))

    def reconstruction_error(
        self, X: Any, *, metric: str = "squared_error", per_feature: bool = False
    ) -> "np.ndarray | da.Array":
        """Error of each sample's reconstruction.

        Parameters
        ----------
        X : {dask Array or DataFrame, array-like, sparse matrix} of shape \
                (n_samples, n_features)
            Samples to reconstruct.

        metric : {"squared_error", "absolute_error", "loss"}, default="squared_error"
            See :meth:`skae.AutoencoderTransformer.reconstruction_error`.

        per_feature : bool, default=False
            Whether to return the error of each entry instead of sums over features.

        Returns
        -------
        error : dask Array or ndarray of shape (n_samples,) or (n_samples, n_features)
            Sums over features, or entries; lazy for a Dask collection.
        """
        check_metric(metric)
        if not is_dask_collection(X):
            return super().reconstruction_error(
                X, metric=metric, per_feature=per_feature
            )
        self._check_collection(X, self._check_columns)
        shape = (self.n_features_in_,) if per_feature else ()
        kwargs = {"metric": metric, "per_feature": per_feature}
        return self._lazily("reconstruction_error", X, shape, kwargs)

    def score_samples(self, X: Any) -> "np.ndarray | da.Array":
        """Negative squared reconstruction error of each sample: higher is more normal.

        Parameters
        ----------
        X : {dask Array or DataFrame, array-like, sparse matrix} of shape \
                (n_samples, n_features)
            Samples to reconstruct.

        Returns
        -------
        scores : dask Array or ndarray of shape (n_samples,)
            The negative of :meth:`reconstruction_error`; lazy for a Dask collection.
        """
        return -self.reconstruction_error(X)

    def score(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Share of the variance that is reconstructed (R²), computed at once.

        Parameters
        ----------
        X : {dask Array or DataFrame, array-like, sparse matrix} of shape \
                (n_samples, n_features)
            Samples to reconstruct.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like or dask Array of shape (n_samples,), default=None
            Weights of the samples in both sums.

        Returns
        -------
        score : float
            See :meth:`skae.AutoencoderTransformer.score`.
        """
        if not is_dask_collection(X):
            return super().score(X, sample_weight=sample_weight)
        self._check_collection(X, self._check_columns)
        return squares(self._for_inference(), X, sample_weight, self.client).share

    def _check_collection(self, X: Any, check: Callable[[Any], None]) -> None:
        """Raise an error if a collection's metadata do not fit the estimator."""
        check_is_fitted(self)
        check_collection(X, may_have_categories=self._table is not None)
        check(X)

    def _lazily(self, *args: Any) -> "da.Array":
        return lazily(self._for_inference(), *args)


def _weights_known_to_be_good(plan: Plan) -> Kept:
    """Weights to keep if there are no rows to evaluate them on."""
    if plan.selection is not None:
        return plan.selection.kept
    state, objective = plan.training.state, plan.training.objective
    has_best = objective.validation.n_rows and np.isfinite(state.progress.best_kept)
    if not has_best:
        return Kept.last(plan.training)
    epoch = state.progress.best_epoch
    return Kept(state.best_params.copy(), epoch, "best_params")
