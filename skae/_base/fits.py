"""Base class of autoencoders for data in this process: what fits them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.metaestimators import available_if

from skae._base.autoencoder import BaseAutoencoder, callback_kwargs_of, rows_of
from skae._data.frames import frame_of, gathered, has_names
from skae._data.stream import RowStream, StreamedRows
from skae._data.tables import may_have_categories
from skae._data.validation import (
    Checked,
    check_groups,
    check_range,
    check_rows,
    check_weights,
    read_tables,
)
from skae._sklearn import (
    Function,
    _fit_context,
    with_callbacks,
)
from skae._training import fitting
from skae._training.plan import make_plan
from skae._training.reporting import warn_of_dask
from skae._training.state import TrainingState
from skae._typing import Floats, MatrixLike

DTYPES = (np.float64, np.float32)


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
            neighbors in a series if they are noticed; see Notes.

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
            data = rows_of(X, sample_weight)
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
            data = rows_of(X, sample_weight)
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
        dtype = DTYPES if previous is None else previous.dtype
        warn_of_dask(X, self._twin_for_dask)
        given, X = X, gathered(X)
        if previous is None:
            self._read_tables([X], counts_declared=counts_declared)
        if self._table is None and X is not given:
            X = X.to_numpy()  # later Dask dataframes have no names, either
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
            are_new = previous is None and not are_read
            if are_new and self._may_have_categories(block) and has_names(block):
                raise _LevelsUnknownError  # which the first block did not have
            return self._check_training_rows(block, dtype, previous)
        if previous is not None:
            return self._check_training_rows(block, previous.dtype, previous)
        if not are_read:
            warn_of_dask(block, self._twin_for_dask)
            self.__dict__.pop("_table", None)
            if self._may_have_categories(block):
                raise _LevelsUnknownError
        return self._check_training_rows(block, DTYPES, None, reset=True)

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


class _LevelsUnknownError(ValueError):
    """Blocks of a stream have levels that have to be read first.

    It reaches the user if only a later pass has categories.
    """

    def __init__(self) -> None:
        super().__init__(
            "make_batches gave text or booleans in a column that had numbers in an "
            "earlier pass: it has to return the same blocks each time it is called"
        )
