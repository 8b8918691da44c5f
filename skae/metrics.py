"""How well a transformer reconstructs its input.

The scores here mean the same for every transformer that has an
``inverse_transform``, so that a grid search can swap PCA, NMF, a whole Pipeline and
an autoencoder and compare like with like.
"""

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array, gen_batches

from skae._scores import Squares, check_weights
from skae._sklearn import _safe_indexing

__all__ = ["argmax_accuracy", "reconstruction_r2", "reconstruction_r2_score"]

# Entries of one dense float64 row batch (32 MiB). Three or four arrays of this size
# are alive at once, however many rows X has.
BATCH_ENTRIES = 2**22


def reconstruction_r2_score(estimator, X, y=None, sample_weight=None) -> float:
    r"""Share of the variance of X that a fitted transformer reconstructs.

    .. math::

        R^2 = 1 - \frac{\sum_i w_i \lVert x_i - \hat{x}_i \rVert^2}
                       {\sum_i w_i \lVert x_i - \bar{x} \rVert^2},
        \qquad \hat{x} = \mathrm{inverse\_transform}(\mathrm{transform}(x)),
        \qquad \bar{x} = \frac{\sum_i w_i x_i}{\sum_i w_i}

    The sums run over rows, the squared norms over features, and both are in the units
    of X, whatever scaling a Pipeline does inside. The best value is 1. A reconstruction
    by the mean of X scores 0; a worse one scores less.

    Parameters
    ----------
    estimator : object
        Fitted transformer with ``transform`` and ``inverse_transform``: ``PCA``,
        ``IncrementalPCA``, ``TruncatedSVD``, ``NMF``,
        ``KernelPCA(fit_inverse_transform=True)``,
        :class:`skae.AutoencoderTransformer`, or a Pipeline of such steps.
    X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
        Rows to reconstruct. They are passed on in batches of rows, as they are (a
        dataframe stays one); only one batch at a time is made dense.
    y : Ignored
        Not used, present for scikit-learn's scorer interface.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights of the rows. None counts every row once.

    Returns
    -------
    score : float
        At most 1. Where all rows of X are equal the ratio does not exist; then, as in
        :func:`sklearn.metrics.r2_score`, the score is 1.0 for a perfect
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
    point is nearer to the rows of X than their own mean, so its denominator is the
    smaller one.

    :func:`sklearn.metrics.r2_score` with ``multioutput="variance_weighted"`` computes
    the same ratio from two arrays in memory, unless a feature is constant in X: it
    leaves the errors of such a feature out, here they count.

    Each row must be transformed independently of the others. An iterative
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
    batches = _row_batches(X)

    mean = _weighted_mean(X, sample_weight, batches)
    squares = Squares()
    for batch in batches:
        values, reconstructed = _reconstruct(estimator, _safe_indexing(X, batch))
        with np.errstate(over="ignore"):
            errors, deviations = values - reconstructed, values - mean
        squares = squares.plus(Squares.of(errors, deviations, sample_weight[batch]))
    return squares.share


def reconstruction_r2(estimator, X, y=None, sample_weight=None) -> float:
    """Scorer for :func:`reconstruction_r2_score`, to be passed as ``scoring=``.

    Parameters
    ----------
    estimator : object
        Fitted transformer or Pipeline with ``inverse_transform``.
    X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
        Held-out rows.
    y : Ignored
        Not used, present for scikit-learn's scorer interface.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights of the rows.

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


def argmax_accuracy(X, X_reconstructed) -> float:
    """Share of rows whose largest entry is reconstructed as the largest.

    This is the natural score of one-hot rows, which an autoencoder has to squeeze
    through a narrow code: a row counts as right if the hot feature can be read off its
    reconstruction.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The rows.
    X_reconstructed : {array-like, sparse matrix} of shape (n_samples, n_features)
        Their reconstructions.

    Returns
    -------
    accuracy : float
        Between 0 and 1. Where several entries of a row are the largest, the first one
        counts, in X as in `X_reconstructed`; a constant reconstruction of one-hot rows
        is therefore right only for those whose first feature is hot.

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
    X = check_array(X, accept_sparse="csr", input_name="X")
    X_reconstructed = check_array(
        X_reconstructed, accept_sparse="csr", input_name="X_reconstructed"
    )
    if X.shape != X_reconstructed.shape:
        raise ValueError(
            f"X has shape {X.shape}, X_reconstructed {X_reconstructed.shape}; the "
            "shapes must be equal."
        )
    # A sparse argmax is a column matrix, a dense one a vector.
    expected = np.ravel(X.argmax(axis=1))
    return float(np.mean(expected == np.ravel(X_reconstructed.argmax(axis=1))))


def _check_can_reconstruct(estimator):
    """Raise TypeError, naming what is missing, if there is no way back to X."""
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


def _sliceable(X):
    """Return X in a form that can be cut into row batches; frames stay frames."""
    if issparse(X):
        X = X.tocsr()
    if not hasattr(X, "shape"):
        return check_array(X, input_name="X")
    if len(X.shape) != 2 or 0 in X.shape:
        check_array(X, accept_sparse=True, input_name="X")  # raises the usual message
    return X


def _row_batches(X):
    """Return slices of the rows, few enough in each to be made dense."""
    n_samples, n_features = X.shape
    return list(gen_batches(n_samples, max(1, BATCH_ENTRIES // max(1, n_features))))


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
    return check_array(rows, dtype=np.float64, ensure_min_samples=0, input_name=name)


def _weighted_mean(X, sample_weight, batches):
    """Return the weighted mean of the rows, exactly the common row if all are equal."""
    # Relative to the first row that counts, constant columns are exact zeros: no
    # rounding that could pass for variance.
    first = int(np.flatnonzero(sample_weight)[0])
    origin = _dense(_safe_indexing(X, slice(first, first + 1)))[0]
    offset, share = np.zeros_like(origin), sample_weight / sample_weight.sum()
    for batch in batches:
        offset += share[batch] @ (_dense(_safe_indexing(X, batch)) - origin)
    return origin + offset


def _squared_norms(rows):
    return np.einsum("ij,ij->i", rows, rows)
