"""An autoencoder that is trained on Dask collections, on the workers that hold them."""

import contextlib
import copy
import inspect
import numbers
from functools import partial, reduce
from typing import Self

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skae._autoencoder import AutoencoderTransformer
from skae._base import callback_kwargs_of, check_metric
from skae._compiled.records import BEST_EPOCH, BEST_KEPT, N_EPOCHS
from skae._data.scores import Squares
from skae._data.validation import check_block, check_groups, check_weights
from skae._sklearn import (
    Interval,
    _fit_context,
    _get_output_config,
    with_callbacks,
)
from skae._training.fitting import note_fit, training_attributes
from skae._training.loop import Curves, Kept
from skae._training.settings import loss_range
from skae.dask.partitions import (
    LostError,
    Partitions,
    check_client,
    check_collection,
    in_partition,
    large_graphs,
    split,
)
from skae.dask.training import (
    DistributedLbfgsTraining,
    DistributedSelection,
    DistributedStochasticTraining,
)

try:
    import dask
    import dask.array as da
    from dask import is_dask_collection
except ImportError as error:
    raise ImportError(
        "skae.dask needs the packages dask and distributed: pip install 'skae[dask]'"
    ) from error


def _of_block(block, estimator, *, method, shape, kwargs, block_id):
    """What a method returns for a block, which may be without rows."""
    if not block.shape[0]:
        return np.empty((0, *shape), estimator._params.dtype)
    with in_partition(block_id[0]):
        return getattr(estimator, method)(block, **kwargs)


def _squares(block, estimator, weights, number):
    """The number of rows of a block, and the sums of the score over them."""
    n_rows = block.shape[0]
    if not n_rows:
        return 0, Squares()
    with in_partition(number):
        return n_rows, estimator._squares(estimator._check_rows(block), weights)


def _n_rows(block):
    return block.shape[0]


def _sizes(X, blocks, client):
    """The number of rows of each block of a collection."""
    if isinstance(X, da.Array) and not np.isnan(X.chunks[0]).any():
        return X.chunks[0]
    count = dask.delayed(_n_rows)
    return _computed([count(block) for block in blocks], client)


def _check_any_rows(n_rows, n_features):
    if not n_rows:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=(0, {n_features})) while a minimum "
            "of 1 is required."
        )


def _computed(delayed, client):
    """Results of delayed calls, by a client or, without one, by Dask's default.

    In a task the thread is left to others meanwhile.
    """
    get = None
    if client is not None:
        check_client(client)
        get = client.get
    with large_graphs():
        return dask.compute(*delayed, scheduler=get)


def _gathered_weights(weights, n_rows, client):
    """Weights of rows, which may be a Dask collection, here and checked."""
    if is_dask_collection(weights):
        (weights,) = _computed([weights], client)
    return check_weights(weights, n_rows)


def _weights_known_to_be_good(plan):
    """Which weights to keep where there are no rows to judge them by."""
    if plan.selection is not None:
        return plan.selection.kept
    state, problem = plan.training.state, plan.training.problem
    has_best = problem.validation.n_rows and np.isfinite(state.scalars[BEST_KEPT])
    if not has_best:
        return Kept.last(plan.training)
    epoch = int(state.counters[BEST_EPOCH])
    return Kept(state.best_params.copy(), epoch, "best_params")


def _is_for_whole_collections(estimator):
    raise AttributeError(
        f"{type(estimator).__name__} trains on whole Dask collections, with fit. For "
        "batches use AutoencoderTransformer, alone or in dask_ml.wrappers.Incremental"
    )


def _documented(estimator):
    """Fill a class' docstring with its parent's parameters."""
    if estimator.__doc__:  # Python was not told to leave them out
        parent = inspect.cleandoc(estimator.__base__.__doc__)
        parameters = parent.partition("Parameters\n----------\n")[2]
        parameters = parameters.partition("\n\nAttributes\n")[0]
        own = inspect.cleandoc(estimator.__doc__)
        estimator.__doc__ = own.replace("{inherited}", parameters) + "\n"
    return estimator


@_documented
class DaskAutoencoderTransformer(AutoencoderTransformer):
    """:class:`~skae.AutoencoderTransformer` for Dask arrays and dataframes.

    Training is synchronous: the workers compute on the partitions that they hold, which
    stay there, and the results are summed in the order of the partitions. It so depends
    on how the rows are cut into partitions, and not on the number of workers. On one
    partition it is that of :class:`~skae.AutoencoderTransformer`, bit for bit.

    Parameters
    ----------
    {inherited}

    client : distributed.Client, default=None
        Client of the cluster to train on. None is the one in use. It is neither copied
        nor pickled with the estimator.

    n_local_steps : int, default=1
        Updates of the weights between two exchanges, with the stochastic solvers. With
        1, every update is by the sum of the partitions' gradients. With more, each
        partition makes so many by itself, from the same weights, and the weights and
        moments that it comes to are averaged (McMahan et al., "Communication-efficient
        learning of deep networks from decentralized data", 2017, algorithm 1): for slow
        networks, or small batches.

    See Also
    --------
    skae.AutoencoderTransformer : For data in memory or on one machine; the attributes
        are the same.

    Notes
    -----
    **Batches.** Each partition has its share of every mini-batch, in proportion to its
    rows, and ``shuffle=True`` mixes the rows of each by itself. With ``sparsity="kl"``
    the mean activation is that of each partition's share. With `pretrain` the codes of
    all layers are held by the workers until the last is trained.

    **When workers die** their partitions are computed anew by those that are left, and
    training goes on with the same result, as long as Dask knows how: data that were
    scattered from the client are gone with their worker. Then, or if no worker is left,
    :meth:`fit` raises :class:`DataLostError` or :class:`NoWorkersError`, and keeps the
    weights of the last whole epoch or, with validation rows, of the best so far; by
    default, after a start at PCA, those that have surely improved on it. With them the
    estimator can be used; a fit with ``warm_start=True`` finishes what epochs are left.
    (Of these weights the code is not ordered.) While layers are pretrained nothing is
    kept, and the estimator is as it was. Without any worker when it begins, :meth:`fit`
    waits for one.

    **Threads.** In training a partition is worked on by one thread of its worker.

    **Tasks.** A fit in a task leaves the task's thread to others.

    **Workers** should be of a fixed number: what they compute are not tasks that an
    adaptive cluster counts, and it would stop most of them.

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

    _parameter_constraints: dict = {
        **AutoencoderTransformer._parameter_constraints,
        "client": "no_validation",
        "n_local_steps": [Interval(numbers.Integral, 1, None, closed="left")],
    }

    def __init__(self, n_components=2, *, client=None, n_local_steps=1, **parameters):
        super().__init__(n_components, **parameters)
        self.client = client
        self.n_local_steps = n_local_steps

    # scikit-learn looks parameters up here.
    _inherited = inspect.signature(AutoencoderTransformer.__init__).parameters
    __init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *_inherited.values(),
            inspect.Parameter("client", inspect.Parameter.KEYWORD_ONLY, default=None),
            inspect.Parameter(
                "n_local_steps", inspect.Parameter.KEYWORD_ONLY, default=1
            ),
        ]
    )
    del _inherited

    def __getstate__(self):
        return {**super().__getstate__(), "client": None}

    def __sklearn_clone__(self):
        # A client is a connection, of which there is no copy.
        cloned = super(DaskAutoencoderTransformer, copy.copy(self)).__sklearn_clone__()
        cloned.client = self.client
        return cloned

    # -- fitting ---------------------------------------------------------------------

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, *, X_val=None, groups=None) -> Self:
        """Train the autoencoder where the data are.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Training data, whose partitions are arrays, sparse matrices or frames. They
            are computed, where they are not yet, and stay in the workers' memory until
            training ends.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like or dask Array of shape (n_samples,), default=None
            Non-negative weights; None is 1 for every row. They are gathered.

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
            If X is no Dask collection.

        ValueError
            As of :class:`~skae.AutoencoderTransformer`; without a client. The estimator
            is left as it was.

        DataLostError, NoWorkersError
            If training cannot go on; see Notes.
        """
        try:
            with self._unchanged_on_error():
                self._check_local_steps()
                return self._fit_partitions(X, y, sample_weight, X_val, groups)
        except LostError as error:
            attributes = getattr(error, "attributes", None)
            if attributes is None:
                raise
            self._set_attributes(attributes)
            rest = ""
            if self._was_cut_short:
                rest = ", and a fit with warm_start=True finishes it"
            raise type(error)(
                f"{error}. The weights after {self.n_iter_} whole epochs are kept: the "
                f"estimator can be used{rest}"
            ) from error

    def _check_local_steps(self):
        if self.solver == "lbfgs" and self.n_local_steps > 1:
            raise ValueError(
                f"n_local_steps={self.n_local_steps} does not go with solver='lbfgs', "
                "whose every step is over all rows: use 1, or another solver"
            )

    def _fit_partitions(self, X, y, sample_weight, X_val, groups):
        previous = self._state_to_continue()
        dtype = np.float64, np.float32
        if previous is not None:
            dtype = previous.dtype
        callback_kwargs = callback_kwargs_of(X, y, sample_weight, groups)
        limits = self._value_range(previous)
        reset = previous is None
        with self._partitions(X, dtype, limits, reset=reset) as partitions:
            n_rows = sum(partitions.n_rows)
            if sample_weight is not None:
                sample_weight = _gathered_weights(sample_weight, n_rows, self.client)
            if is_dask_collection(groups):
                (groups,) = _computed([groups], self.client)
            groups = check_groups(groups, n_rows)
            data = DistributedSelection.of(partitions, sample_weight)
            if not is_dask_collection(X_val):
                X_val = self._validate_validation_data(X_val, data.dtype)
                return self._fit(data, previous, X_val, groups, callback_kwargs)
            limits = loss_range(self.loss)
            with self._partitions(X_val, data.dtype, limits, name="X_val") as others:
                X_val = DistributedSelection.of(others, None)
                return self._fit(data, previous, X_val, groups, callback_kwargs)

    @contextlib.contextmanager
    def _partitions(self, X, dtype, limits, *, reset=False, name="X"):
        """Those of a collection, validated."""
        validate = partial(check_block, dtype=dtype, limits=limits, name=name)
        with Partitions.of(X, self.client, validate=validate, name=name) as partitions:
            _check_any_rows(sum(partitions.n_rows), partitions.n_features)
            self._check_columns(X, partitions.n_features, reset=reset)
            yield partitions

    def _check_columns(self, X, n_features=None, *, reset=False):
        """Check, or note, how many features a collection has, and their names."""
        n_features = X.shape[1] if n_features is None else n_features
        like = np.empty((0, n_features)) if isinstance(X, da.Array) else X._meta
        validate_data(self, like, reset=reset, skip_check_array=True)

    def _training_kind(self, problem):
        if self.solver == "lbfgs":
            return DistributedLbfgsTraining
        return DistributedStochasticTraining

    def _make_training(self, *args):
        training = super()._make_training(*args)
        training.n_local_steps = int(self.n_local_steps)
        return training

    def _run(self, plan, *args):
        training = plan.training
        n_before = int(training.state.counters[N_EPOCHS])
        if plan.is_warm_start and plan.selection is not None and self._was_cut_short:
            # When the weights of its last epoch were judged, rows may have been lost.
            plan.selection.end(Curves.empty(), is_last=False)
        try:
            return super()._run(plan, *args)
        except LostError as error:
            if training.state.counters[N_EPOCHS] > n_before:
                kept = _weights_known_to_be_good(plan)
                attributes = training_attributes(plan, kept, training.curves)
                note_fit(attributes, plan)
                attributes |= self._validated_attributes()
                error.attributes = attributes  # type: ignore[attr-defined]
            raise

    @available_if(_is_for_whole_collections)
    def partial_fit(self, X, y=None, sample_weight=None) -> Self:
        """Not available: batches are for :class:`~skae.AutoencoderTransformer`."""
        raise NotImplementedError

    @available_if(_is_for_whole_collections)
    def fit_batches(self, make_batches, *, X_val=None) -> Self:
        """Not available: batches are for :class:`~skae.AutoencoderTransformer`."""
        raise NotImplementedError

    # -- inference -------------------------------------------------------------------

    def to_local(self) -> AutoencoderTransformer:
        """Return the same estimator without Dask.

        Returns
        -------
        estimator : AutoencoderTransformer
            With the parameters and what has been fitted.
        """
        parameters = self.get_params(deep=False)
        local = AutoencoderTransformer(
            **{name: parameters[name] for name in AutoencoderTransformer().get_params()}
        )
        others = {k: v for k, v in self.__dict__.items() if k not in parameters}
        for name in ("_sklearn_output_config", "_metadata_request"):
            if name in others:  # which their setters change in place
                others[name] = copy.deepcopy(others[name])
        local.__dict__.update(others)
        return local

    def _for_inference(self):
        """The same without what only training needs, which is several times larger."""
        local = self.to_local()
        local._training_state = self._training_state.without_arrays()
        return local

    def transform(self, X):
        """Encode rows.

        Parameters
        ----------
        X : {dask Array or DataFrame, array-like, sparse matrix} of shape \
                (n_samples, n_features)
            Rows to encode.

        Returns
        -------
        X_new : dask Array or ndarray of shape (n_samples, n_components)
            Their codes; of a Dask collection not computed yet.
        """
        if not is_dask_collection(X):
            return super().transform(X)
        self._check_collection(X, self._check_columns)
        return self._lazily("transform", X, (self.n_components_,))

    def inverse_transform(self, X):
        """Decode codes.

        Parameters
        ----------
        X : {dask Array or DataFrame, array-like} of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        X_original : dask Array or ndarray of shape (n_samples, n_features)
            Their reconstructions; of a Dask collection not computed yet.
        """
        if not is_dask_collection(X):
            return super().inverse_transform(X)
        self._check_collection(X, self._check_code_size)
        return self._lazily("inverse_transform", X, (self.n_features_in_,))

    def reconstruction_error(self, X, *, metric="squared_error", per_feature=False):
        """Error of each row's reconstruction.

        Parameters
        ----------
        X : {dask Array or DataFrame, array-like, sparse matrix} of shape \
                (n_samples, n_features)
            Rows to reconstruct.

        metric : {"squared_error", "absolute_error", "loss"}, default="squared_error"
            See :meth:`skae.AutoencoderTransformer.reconstruction_error`.

        per_feature : bool, default=False
            Whether to return the error of every entry, not the rows' sums.

        Returns
        -------
        error : dask Array or ndarray of shape (n_samples,) or (n_samples, n_features)
            Sums over features, or entries; of a Dask collection not computed yet.
        """
        check_metric(metric)
        kwargs = {"metric": metric, "per_feature": per_feature}
        if not is_dask_collection(X):
            return super().reconstruction_error(X, **kwargs)
        self._check_collection(X, self._check_columns)
        shape = (self.n_features_in_,) if per_feature else ()
        return self._lazily("reconstruction_error", X, shape, kwargs)

    def score_samples(self, X):
        """Negative squared reconstruction error of each row: higher is more normal.

        Parameters
        ----------
        X : {dask Array or DataFrame, array-like, sparse matrix} of shape \
                (n_samples, n_features)
            Rows to reconstruct.

        Returns
        -------
        scores : dask Array or ndarray of shape (n_samples,)
            The negative of :meth:`reconstruction_error`; of a Dask collection not
            computed yet.
        """
        return -self.reconstruction_error(X)

    def score(self, X, y=None, sample_weight=None) -> float:
        """Share of the variance that is reconstructed (R²), computed at once.

        Parameters
        ----------
        X : {dask Array or DataFrame, array-like, sparse matrix} of shape \
                (n_samples, n_features)
            Rows to reconstruct.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like or dask Array of shape (n_samples,), default=None
            Weights of the rows in both sums.

        Returns
        -------
        score : float
            See :meth:`skae.AutoencoderTransformer.score`.
        """
        if not is_dask_collection(X):
            return super().score(X, sample_weight=sample_weight)
        self._check_collection(X, self._check_columns)
        blocks = split(X)
        weights: list = [None] * len(blocks)
        if sample_weight is not None:
            sizes = _sizes(X, blocks, self.client)
            sample_weight = _gathered_weights(sample_weight, sum(sizes), self.client)
            weights = np.split(sample_weight, np.cumsum(sizes)[:-1])
        local, sums_of = dask.delayed(self._for_inference()), dask.delayed(_squares)
        items = zip(blocks, weights, range(len(blocks)), strict=True)
        sums = _computed(
            [sums_of(block, local, *item) for block, *item in items], self.client
        )
        n_rows, squares = zip(*sums, strict=True)
        _check_any_rows(sum(n_rows), self.n_features_in_)
        return reduce(Squares.plus, squares).share

    def _check_collection(self, X, check):
        """Raise an error if the estimator cannot take a collection, by its metadata."""
        check_is_fitted(self)
        check_collection(X)
        check(X)

    def _lazily(self, method, X, shape, kwargs=None):
        """A Dask array of what a method returns for each block of a collection."""
        container = _get_output_config("transform", self)["dense"]
        if method == "transform" and container != "default":
            raise ValueError(
                f"set_output(transform={container!r}) does not go with a Dask "
                "collection: use set_output(transform='default')"
            )
        kwargs = {"method": method, "shape": shape, "kwargs": kwargs or {}}
        local = dask.delayed(self._for_inference())
        meta = np.empty((0,) * (1 + len(shape)), self._params.dtype)
        if isinstance(X, da.Array):
            return da.map_blocks(
                _of_block,
                X.rechunk({1: -1}),
                local,
                **kwargs,
                chunks=(X.chunks[0], *((n,) for n in shape)),
                drop_axis=[] if shape else 1,
                meta=meta,
            )
        call = dask.delayed(_of_block, pure=True)
        parts = [
            da.from_delayed(
                call(block, local, block_id=(number,), **kwargs),
                (np.nan, *shape),
                meta=meta,
            )
            for number, block in enumerate(X.to_delayed())
        ]
        return da.concatenate(parts, allow_unknown_chunksizes=True)


# Where users find it, and pickles of earlier versions look for it.
DaskAutoencoderTransformer.__module__ = "skae.dask"
