"""How well a transformer reconstructs its input.

The scores here mean the same for every transformer that has an
``inverse_transform``, so that a grid search can swap PCA, NMF, a whole Pipeline and
an autoencoder and compare like with like.
"""

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array

from skae._data.rows import slices
from skae._data.scores import Squares
from skae._data.validation import check_weights
from skae._names import check_name
from skae._runtime.extras import check_installed
from skae._sklearn import _safe_indexing

__all__ = [
    "argmax_accuracy",
    "reconstruction_error",
    "reconstruction_r2",
    "reconstruction_r2_score",
]


def __dir__():
    return __all__


# Entries of one dense float64 row batch (32 MiB). Three or four arrays of this size
# are alive at once, however many rows X has.
BATCH_ENTRIES = 2**22
# Smallest number of float64 with all its digits.
TINY = float(np.finfo(np.float64).tiny)


def reconstruction_r2_score(estimator, X, y=None, sample_weight=None) -> float:
    r"""Share of the variance of X that a fitted transformer reconstructs.

    .. math::

        R^2 = 1 - \frac{\sum_i w_i \lVert x_i - \hat{x}_i \rVert^2}
                       {\sum_i w_i \lVert x_i - \bar{x} \rVert^2},
        \qquad \hat{x} = \mathrm{inverse\_transform}(\mathrm{transform}(x)),
        \qquad \bar{x} = \frac{\sum_i w_i x_i}{\sum_i w_i}

    The sums run over samples, the squared norms over features, and both are in the
    units of X, whatever scaling a Pipeline does inside. The best value is 1. A
    reconstruction by the mean of X scores 0; a worse one scores less.

    Parameters
    ----------
    estimator : object
        Fitted transformer with ``transform`` and ``inverse_transform``: ``PCA``,
        ``IncrementalPCA``, ``TruncatedSVD``, ``NMF``,
        ``KernelPCA(fit_inverse_transform=True)``,
        :class:`skae.AutoencoderTransformer`, or a Pipeline of such steps.
    X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
        Samples to reconstruct. They are passed on in batches of samples, as they are (a
        dataframe stays one); only one batch at a time is made dense.
    y : Ignored
        Not used, present for scikit-learn's scorer interface.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights of the samples. None counts every sample once.

    Returns
    -------
    score : float
        At most 1. Where all samples of X are equal the ratio does not exist; then, as
        in :func:`sklearn.metrics.r2_score`, the score is 1.0 for a perfect
        reconstruction and 0.0 for any other.

    Raises
    ------
    TypeError
        If the estimator has no ``transform`` or no ``inverse_transform``.
    ValueError
        If X or its reconstruction is not numeric and finite, if their shapes differ,
        or if `sample_weight` has a wrong length, a negative entry or no positive one.

    See Also
    --------
    reconstruction_r2 : The same number as a scorer, for ``scoring=``.
    skae.AutoencoderTransformer.score : The same ratio around the training mean.

    Notes
    -----
    Errors count in the units of X, so that of features on different scales the largest
    decide the score. Where each feature should count the same, X has to be scaled
    before it is passed in, not by a step of the Pipeline.

    The mean is that of the X passed in, because it is the one that exists for every
    estimator and is the same for all candidates that are scored on the same fold.
    ``AutoencoderTransformer.score`` centres at the mean of its *training* data instead.
    The two agree on the training data, where for a PCA both are
    ``explained_variance_ratio_.sum()``. On other data this one is never the higher: no
    point is nearer to the samples of X than their own mean, so its denominator is the
    smaller one.

    :func:`sklearn.metrics.r2_score` with ``multioutput="variance_weighted"`` computes
    the same ratio from two arrays in memory, unless a feature is constant in X: it
    leaves the errors of such a feature out, here they count.

    Each sample must be transformed independently of the others. An iterative
    ``transform`` that stops when the whole batch has converged (NMF) does so up to its
    tolerance only.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from skae.metrics import reconstruction_r2_score
    >>> X = load_digits().data
    >>> pca = PCA(n_components=10).fit(X)
    >>> round(reconstruction_r2_score(pca, X), 3)
    0.738
    >>> round(float(pca.explained_variance_ratio_.sum()), 3)
    0.738
    """
    _check_can_reconstruct(estimator)
    X = _sliceable(X)
    if sample_weight is None:
        sample_weight = np.ones(X.shape[0])
    sample_weight = check_weights(sample_weight, X.shape[0])
    batches = list(_weighted_batches(X, sample_weight))

    mean = _weighted_mean(X, batches)
    squares = Squares()
    for batch, weight in batches:
        values, reconstructed = _reconstruct(estimator, _safe_indexing(X, batch))
        with np.errstate(over="ignore"):
            errors, deviations = values - reconstructed, values - mean
        squares = squares.plus(Squares.of(errors, deviations, weight))
    share = squares.share
    if not np.isfinite(share):
        raise ValueError(
            f"{_name(estimator)} reconstructs X so badly that the squared error is not "
            "finite: there is no R²"
        )
    return share


def reconstruction_r2(estimator, X, y=None, sample_weight=None) -> float:
    """Scorer for :func:`reconstruction_r2_score`, to be passed as ``scoring=``.

    Parameters
    ----------
    estimator : object
        Fitted transformer or Pipeline with ``inverse_transform``.
    X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
        Held-out samples.
    y : Ignored
        Not used, present for scikit-learn's scorer interface.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights of the samples.

    Returns
    -------
    score : float
        The share of the variance of X that is reconstructed; higher is better.

    Examples
    --------
    One grid over two kinds of transformer, compared in the units of the input:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import NMF, PCA
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import Pipeline
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from skae.metrics import reconstruction_r2
    >>> pipeline = Pipeline([("scale", MinMaxScaler(clip=True)), ("reduce", PCA())])
    >>> grid = {
    ...     "reduce": [PCA(), NMF(init="nndsvda", tol=1e-2, max_iter=500)],
    ...     "reduce__n_components": [2, 5],
    ... }
    >>> search = GridSearchCV(pipeline, grid, scoring=reconstruction_r2, cv=3)
    >>> search.fit(load_digits().data[:300]).best_params_
    {'reduce': PCA(), 'reduce__n_components': 5}
    """
    return reconstruction_r2_score(estimator, X, sample_weight=sample_weight)


def reconstruction_error(
    estimator, X, *, metric="squared_error", per_feature=False, as_frame=False
):
    """Error of each sample's reconstruction, in the units of X.

    Parameters
    ----------
    estimator : object
        Fitted transformer with ``transform`` and ``inverse_transform``: PCA, NMF,
        :class:`skae.AutoencoderTransformer`, a Pipeline of such steps, or a fitted
        search for one.
    X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
        Samples to reconstruct. They are passed on in batches, as they are (a dataframe
        stays one); only one batch at a time is made dense.
    metric : {"squared_error", "absolute_error"}, default="squared_error"
        Squared or absolute difference of an entry and its reconstruction.
    per_feature : bool, default=False
        Whether to return the error of every entry, not the sums over features.
    as_frame : bool, default=False
        Whether to return a pandas Series or DataFrame, with the index of X where X is
        a pandas DataFrame. Its columns are the names of the features: those of X if it
        is a dataframe, else ``feature_names_in_`` of the estimator, else "x0", "x1",
        and so on.

    Returns
    -------
    error : ndarray, Series or DataFrame of shape (n_samples,) or \
            (n_samples, n_features)
        Errors, in float64.

    Raises
    ------
    ImportError
        If `as_frame` is true and pandas is not installed.
    TypeError
        If the estimator has no ``transform`` or no ``inverse_transform``.
    ValueError
        If `metric` is none of the two, if X or its reconstruction is not numeric and
        finite, if their shapes differ, or if the errors are too large or too small for
        float64.

    See Also
    --------
    reconstruction_r2_score : One number, the share of the variance.
    skae.AutoencoderTransformer.reconstruction_error : The method of an autoencoder,
        which also knows the loss that it was trained with.
    skae.inspection.ReconstructionErrorDisplay : Draws a histogram of the errors.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skae.metrics import reconstruction_error
    >>> X = load_iris().data
    >>> pipeline = make_pipeline(StandardScaler(), PCA(n_components=2)).fit(X)
    >>> reconstruction_error(pipeline, X[:2], per_feature=True).round(3)
    array([[0.007, 0.   , 0.004, 0.003],
           [0.026, 0.001, 0.042, 0.005]])
    >>> reconstruction_error(pipeline, X[:2]).round(3)
    array([0.014, 0.074])
    """
    check_metric(metric)
    _check_can_reconstruct(estimator)
    if as_frame:
        check_installed("as_frame=True", "pandas")
    X = _sliceable(X)
    errors = errors_of(lambda: _reconstructions(estimator, X), metric, per_feature)
    return _with_names(errors, estimator, X, metric) if as_frame else errors


def argmax_accuracy(X, X_reconstructed) -> float:
    """Share of samples whose largest entry is reconstructed as the largest.

    This is the natural score of one-hot samples, which an autoencoder has to squeeze
    through a narrow code: a sample counts as right if the hot feature can be read off
    its reconstruction.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The samples.
    X_reconstructed : {array-like, sparse matrix} of shape (n_samples, n_features)
        Their reconstructions.

    Returns
    -------
    accuracy : float
        Between 0 and 1. Where several entries of a sample are the largest, the first
        one counts, in X as in `X_reconstructed`; a constant reconstruction of one-hot
        samples is therefore right only for those whose first feature is hot.

    Raises
    ------
    ValueError
        If an input is not 2-D, numeric and finite, or if the shapes differ.

    Examples
    --------
    >>> from skae.metrics import argmax_accuracy
    >>> argmax_accuracy([[1, 0, 0], [0, 1, 0]], [[0.7, 0.2, 0.1], [0.5, 0.2, 0.3]])
    0.5
    """
    X = _sparse_or_dense(X, "X")
    X_reconstructed = _sparse_or_dense(X_reconstructed, "X_reconstructed")
    if X.shape != X_reconstructed.shape:
        raise ValueError(
            f"X has shape {X.shape}, X_reconstructed {X_reconstructed.shape}; the "
            "shapes must be equal."
        )
    # A sparse argmax is a column matrix, a dense one a vector.
    expected = np.ravel(X.argmax(axis=1))
    return float(np.mean(expected == np.ravel(X_reconstructed.argmax(axis=1))))


# -- errors ------------------------------------------------------------------------


def _squared_norms(rows):
    return np.einsum("ij,ij->i", rows, rows)


# Metric -> function of differences that gives the errors of entries, and of rows.
_METRICS = {
    "squared_error": (np.square, _squared_norms),
    "absolute_error": (np.abs, lambda rows: np.abs(rows).sum(axis=1)),
}


def check_metric(metric):
    """Raise ValueError if there is no such metric of all transformers."""
    if isinstance(metric, str) and metric == "loss":
        raise ValueError(
            f"metric='loss' must be one of {tuple(_METRICS)}: only an autoencoder "
            "itself knows its loss. Call its own method, "
            "estimator.reconstruction_error(X, metric='loss'), in a Pipeline that of "
            "the last step on what the steps before it return"
        )
    check_name(metric, "metric", _METRICS)


def errors_of(pairs, metric, per_feature=False):
    """Errors of reconstructions, of entries or summed over the features.

    Parameters
    ----------
    pairs : callable
        Returns an iterable of pairs of samples and their reconstructions, float64.

    metric : str

    per_feature : bool, default=False

    Raises
    ------
    ValueError
        If errors overflow, or if squares underflow so that nothing is left of them.
    """
    measure = _METRICS[metric][0 if per_feature else 1]
    parts = []
    for rows, reconstructed in pairs():
        with np.errstate(over="ignore", under="ignore"):
            parts.append(measure(rows - reconstructed))
    errors = np.concatenate(parts)
    if not np.isfinite(errors).all():
        raise ValueError(
            f"Errors of the reconstruction are too large for float64 with "
            f"metric={metric!r}: divide X by a large number before fitting"
            f"{_or_absolute(metric)}"
        )
    if metric == "squared_error" and errors.max() < TINY:
        largest = max(np.abs(a - b).max() for a, b in pairs())
        if largest > 0:
            raise ValueError(
                f"Errors of the reconstruction, at most {largest:g}, are so small that "
                "their squares underflow in float64: multiply X by a large number "
                f"before fitting{_or_absolute(metric)}"
            )
    return errors


def _or_absolute(metric):
    return "" if metric == "absolute_error" else ", or use metric='absolute_error'"


def _reconstructions(estimator, X):
    """Yield rows and their reconstructions, batch by batch."""
    for batch in _row_chunks(X):
        yield _reconstruct(estimator, _safe_indexing(X, batch))


def _with_names(errors, estimator, X, metric):
    """Return errors as a Series or DataFrame, with the names of rows and features."""
    import pandas

    index = X.index if isinstance(X, pandas.DataFrame) else None
    if errors.ndim == 1:
        return pandas.Series(errors, index=index, name=metric)
    names = getattr(X, "columns", None)
    if names is None:
        names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        names = [f"x{i}" for i in range(errors.shape[1])]
    return pandas.DataFrame(errors, index=index, columns=names)


# -- rows and their reconstructions ------------------------------------------------


def _check_can_reconstruct(estimator):
    """Raise TypeError, naming what is missing, if there is no way back to X."""
    if isinstance(estimator, type):
        raise TypeError(
            f"{estimator.__name__} is a class, not a fitted estimator: pass what fit "
            "returns"
        )
    for method in ("transform", "inverse_transform"):
        if hasattr(estimator, method):
            continue
        lacking = [
            f"{name!r} ({_name(step)})"
            for name, step in getattr(estimator, "steps", [])
            if step is not None and step != "passthrough" and not hasattr(step, method)
        ]
        because = f", because of its step {lacking[0]}" if lacking else ""
        raise TypeError(
            f"{_name(estimator)} has no {method}{because}. A reconstruction needs "
            "transform and inverse_transform, as PCA, NMF, "
            "KernelPCA(fit_inverse_transform=True), AutoencoderTransformer or a "
            "Pipeline of such steps have them."
        )


def _name(estimator):
    return type(estimator).__name__


def _sliceable(X, name="X"):
    """Return X in a form that can be cut into row batches; frames stay frames."""
    if issparse(X):
        X = X.tocsr()
    if not hasattr(X, "shape"):
        return check_array(X, input_name=name)
    if len(X.shape) != 2 or 0 in X.shape:
        check_array(X, accept_sparse=True, input_name=name)  # raises the usual message
    return X


def sparse_columns(X):
    """Return which columns of a pandas DataFrame are sparse, else an empty list."""
    dtypes = getattr(X, "dtypes", ())
    return [type(dtype).__name__ == "SparseDtype" for dtype in dtypes]


def _row_chunks(X):
    """Return slices of the rows, few enough in each to be made dense."""
    n_samples, n_features = X.shape
    return slices(n_samples, max(1, BATCH_ENTRIES // max(1, n_features)))


def _reconstruct(estimator, rows):
    """Return rows and their reconstructions, both as dense float64 arrays."""
    values = _dense(rows)
    reconstructed = estimator.inverse_transform(estimator.transform(rows))
    reconstructed = _dense(reconstructed, name="the reconstruction")
    if reconstructed.shape != values.shape:
        raise ValueError(
            f"{_name(estimator)} reconstructs rows of shape {values.shape} as "
            f"{reconstructed.shape}; the shapes must be equal."
        )
    return values, reconstructed


def _dense(rows, name="X"):
    """Return rows as a dense float64 array, checked to be numeric and finite."""
    if issparse(rows):
        rows = rows.toarray()
    elif any(
        sparse_columns(rows)
    ):  # which scikit-learn makes a sparse matrix, or warns
        columns = [np.asarray(rows.iloc[:, i]) for i in range(rows.shape[1])]
        rows = np.column_stack(columns)
    return check_array(rows, dtype=np.float64, ensure_min_samples=0, input_name=name)


def _sparse_or_dense(X, name):
    """Return a CSR matrix or an array of numbers, checked to be finite."""
    if any(sparse_columns(X)):
        X = _dense(X, name)
    return check_array(X, accept_sparse="csr", input_name=name)


def _weighted_batches(X, sample_weight):
    """Yield the rows of each batch that have a weight, as an index, and the weights."""
    for batch in _row_chunks(X):
        weight = sample_weight[batch]
        used = np.flatnonzero(weight)
        if len(used) == len(weight):
            yield batch, weight
        elif len(used):
            yield batch.start + used, weight[used]


def _weighted_mean(X, batches):
    """Return the weighted mean of the rows, exactly the common row if all are equal."""
    # Relative to the first row that counts, constant columns are exact zeros: no
    # rounding that could pass for variance.
    origin = _dense(_safe_indexing(X, batches[0][0]))[0]
    total_weight = sum(weight.sum() for _, weight in batches)
    offset = np.zeros_like(origin)
    for batch, weight in batches:
        with np.errstate(over="ignore"):
            deviations = _dense(_safe_indexing(X, batch)) - origin
        if not np.isfinite(deviations).all():
            raise ValueError(
                "X is too large for float64: differences of its rows are not finite. "
                "Divide it by a large number"
            )
        offset += (weight / total_weight) @ deviations
    return origin + offset
