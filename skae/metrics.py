"""How well a transformer reconstructs its input.

The scores have the same definition for every transformer with an
``inverse_transform``, so that a grid search can compare PCA, NMF, a Pipeline and an
autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skae._model.any_transformer import (
    TabularModel,
    check_can_reconstruct,
    has_missing_of,
    is_imputer,
    name_of,
    reconstruct,
    row_chunks,
    share_of_variance,
    sliceable,
    sparse_or_dense,
    steps_of,
    table_scores,
    tabular_model,
)
from skae._names import check_name
from skae._runtime.extras import check_installed
from skae._sklearn import _safe_indexing
from skae._typing import Floats, MatrixLike

__all__ = [
    "argmax_accuracy",
    "reconstruction_deviance",
    "reconstruction_deviance_score",
    "reconstruction_error",
    "reconstruction_r2",
    "reconstruction_r2_score",
]


def __dir__() -> list[str]:
    return __all__


# Smallest float64 number with full precision.
TINY = float(np.finfo(np.float64).tiny)


def reconstruction_r2_score(
    estimator: Any, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None
) -> float:
    r"""Share of the variance of X that a fitted transformer reconstructs.

    .. math::

        R^2 = 1 - \frac{\sum_i w_i \lVert x_i - \hat{x}_i \rVert^2}
                       {\sum_i w_i \lVert x_i - \bar{x} \rVert^2},
        \qquad \hat{x} = \mathrm{inverse\_transform}(\mathrm{transform}(x)),
        \qquad \bar{x} = \frac{\sum_i w_i x_i}{\sum_i w_i}

    The sums run over samples, the squared norms over features, both in the units of X,
    even if a Pipeline scales it. The best value is 1. The mean of X as the
    reconstruction scores 0; a worse reconstruction scores less. NaN is a missing entry:
    only observed entries count, in the sums and in the mean.

    In a table with categories, each column counts once: numbers are in units of their
    standard deviations in X, and a category is the ones and zeros of its levels, whose
    variances sum to 1. Their reconstructions are probabilities; see
    :func:`reconstruction_deviance_score`.

    Parameters
    ----------
    estimator : object
        Fitted transformer with ``transform`` and ``inverse_transform``: ``PCA``,
        ``IncrementalPCA``, ``TruncatedSVD``, ``NMF``,
        ``KernelPCA(fit_inverse_transform=True)``,
        :class:`skae.AutoencoderTransformer`, or a Pipeline of such steps, which may
        begin with an imputer if X has missing entries.
    X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
        Samples to reconstruct. The estimator gets them chunk by chunk, in the type of X
        (a dataframe stays one); only one chunk at a time is made dense.
    y : Ignored
        Not used, present for scikit-learn's scorer interface.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights of the samples. None: equal weights.

    Returns
    -------
    score : float
        At most 1. If all samples of X are equal, the ratio is undefined; then, as in
        :func:`sklearn.metrics.r2_score`, the score is 1.0 for a perfect reconstruction
        and 0.0 for any other.

    Raises
    ------
    TypeError
        If the estimator has no ``transform`` or no ``inverse_transform``.
    ValueError
        If X is not numeric, has an infinite entry or none that is observed, if its
        reconstruction is not finite where X is observed, if their shapes differ, or if
        `sample_weight` has a wrong length, a negative entry or no positive one.

    See Also
    --------
    reconstruction_r2 : The same number as a scorer, for ``scoring=``.
    reconstruction_deviance_score : The score of probabilities, by their logarithms.
    skae.AutoencoderTransformer.score : The same ratio around the training mean.

    Notes
    -----
    Errors are in the units of X: if features have different scales, those with the
    largest decide the score. For features to count equally, scale X before passing it,
    not in a step of the Pipeline.

    The mean is that of X, because every estimator has it, and all candidates scored on
    the same fold share it. ``AutoencoderTransformer.score`` uses the mean of its
    *training* data instead. Both agree on the training data; for PCA they are then
    ``explained_variance_ratio_.sum()``. On other data this score is never higher: no
    point is nearer to the samples of X than their own mean, so its denominator is
    smaller.

    :func:`sklearn.metrics.r2_score` with ``multioutput="variance_weighted"`` computes
    the same ratio from two arrays in memory, except that it ignores the errors of
    features that are constant in X; here they count.

    The imputers of a Pipeline (steps with ``add_indicator=False``) fill entries that do
    not count, so nothing has to be undone: reconstructions are those of the other
    steps. An imputer must keep all features: if some may have no entry in a training
    split, use ``SimpleImputer(keep_empty_features=True)``.

    The estimator must transform each sample independently of the others. An iterative
    ``transform`` that stops when all samples have converged (NMF) does so up to its
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
    X = sliceable(X)
    tabular = tabular_model(estimator, X)
    if tabular is not None:
        return table_scores(tabular, X, sample_weight).r2
    return share_of_variance(estimator, X, sample_weight)


def reconstruction_r2(
    estimator: Any, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None
) -> float:
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
    A grid search over two kinds of transformers:

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


def reconstruction_deviance_score(
    estimator: Any, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None
) -> float:
    r"""Share of the deviance of a table that a fitted transformer reconstructs.

    .. math::

        1 - \frac{\sum_i w_i \sum_j d_j(x_{ij}, \hat{x}_{ij})}
                 {\sum_i w_i \sum_j d_j(x_{ij}, \bar{x}_j)}

    The deviance :math:`d_j` of a number is its squared difference from the
    reconstruction, divided by the variance of the column. That of a category is the
    cross-entropy, the negative logarithm of the probability that the reconstruction
    gives to its level, divided by the entropy of the levels' frequencies. Each column
    so counts once. The means, the variances and the frequencies are those of X. If all
    columns are numbers, it is :func:`reconstruction_r2_score`, in the units of X.

    Parameters
    ----------
    estimator : object
        Fitted :class:`skae.AutoencoderTransformer`; or a Pipeline that begins with a
        :class:`~sklearn.preprocessing.OneHotEncoder`, or with a
        :class:`~sklearn.compose.ColumnTransformer` that has one for the categories, and
        whose other steps have an ``inverse_transform``, such as PCA. Imputers may come
        before.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        Samples to reconstruct. The estimator gets them chunk by chunk. An entry that is
        missing does not count, nor does a level that the estimator does not know.
    y : Ignored
        Not used, present for scikit-learn's scorer interface.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights of the samples. None: equal weights.

    Returns
    -------
    score : float
        At most 1; 0 if nothing but means and frequencies is known.

    Raises
    ------
    TypeError
        If the estimator, or a step of it, cannot reconstruct.
    ValueError
        If X has categories of which the estimator says no probabilities, or a column
        is lost on the way; else as :func:`reconstruction_r2_score`.

    See Also
    --------
    reconstruction_deviance : The same number as a scorer, for ``scoring=``.
    reconstruction_r2_score : The squared errors of the same probabilities.
    skae.AutoencoderTransformer.score : The same share, with the means and frequencies
        of the training data.

    Notes
    -----
    What a reconstruction of one-hot columns, as PCA's, says of a level is its share of
    the positive ones: negative entries become 0, and the sum of a column's levels 1.
    Of the probabilities of every estimator, a thousandth is spread evenly over the
    levels, so that none is 0. A constant column has the unit 1, and entropies below
    0.01 count as 0.01.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.compose import make_column_transformer
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import OneHotEncoder, StandardScaler
    >>> from skae.metrics import reconstruction_deviance_score
    >>> X = pd.DataFrame({"size": [1.0, 2.0, 3.0, 6.0], "kind": ["a", "a", "b", "b"]})
    >>> encode = make_column_transformer(
    ...     (StandardScaler(), ["size"]), (OneHotEncoder(), ["kind"])
    ... )
    >>> pipeline = make_pipeline(encode, PCA(n_components=1)).fit(X)
    >>> round(reconstruction_deviance_score(pipeline, X), 2)
    0.87
    """
    X = sliceable(X)
    tabular = tabular_model(estimator, X)
    if tabular is None:
        return reconstruction_r2_score(estimator, X, sample_weight=sample_weight)
    return table_scores(tabular, X, sample_weight).deviance


def reconstruction_deviance(
    estimator: Any, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None
) -> float:
    """Scorer for :func:`reconstruction_deviance_score`, to be passed as ``scoring=``.

    Parameters
    ----------
    estimator : object
        Fitted transformer or Pipeline.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        Held-out samples.
    y : Ignored
        Not used, present for scikit-learn's scorer interface.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights of the samples.

    Returns
    -------
    score : float
        The share of the deviance of X that is reconstructed; higher is better.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from skae import AutoencoderTransformer
    >>> from skae.metrics import reconstruction_deviance
    >>> X = [[i % 3, "abc"[i % 3]] for i in range(60)]
    >>> model = AutoencoderTransformer(1, max_iter=5, random_state=0)
    >>> scores = cross_val_score(model, X, scoring=reconstruction_deviance, cv=3)
    >>> bool(scores.min() > 0.5)
    True
    """
    return reconstruction_deviance_score(estimator, X, sample_weight=sample_weight)


def reconstruction_error(
    estimator: Any,
    X: MatrixLike,
    *,
    metric: str = "squared_error",
    per_feature: bool = False,
    as_frame: bool = False,
) -> Floats | Any:
    """Error of each sample's reconstruction, in the units of X.

    For a table with categories, it is that of
    :meth:`skae.AutoencoderTransformer.reconstruction_error`, with a column for each
    column of the table.

    Parameters
    ----------
    estimator : object
        Fitted transformer with ``transform`` and ``inverse_transform``: PCA, NMF,
        :class:`skae.AutoencoderTransformer`, a Pipeline of such steps and imputers, or
        a fitted search for one. Of a table with categories: an autoencoder, after
        imputers at most.
    X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
        Samples to reconstruct. The estimator gets them chunk by chunk, in the type of X
        (a dataframe stays one); only one chunk at a time is made dense.
    metric : {"squared_error", "absolute_error"}, default="squared_error"
        Squared or absolute difference of an entry and its reconstruction.
    per_feature : bool, default=False
        Whether to return the error of every entry, instead of sums over features.
    as_frame : bool, default=False
        Whether to return a pandas Series or DataFrame. It has the index of X if X is a
        pandas DataFrame. Its columns are the names of the features: those of X if it is
        a dataframe, else ``feature_names_in_`` of the estimator, else "x0", "x1", ...

    Returns
    -------
    error : ndarray, Series or DataFrame of shape (n_samples,) or \
            (n_samples, n_features)
        Errors, in float64. That of a missing entry is NaN. A sample that lacks some has
        the mean error of the others times the number of features, so that it can be
        compared; NaN if it lacks all.

    Raises
    ------
    ImportError
        If `as_frame` is true and pandas is not installed.
    TypeError
        If the estimator has no ``transform`` or no ``inverse_transform``.
    ValueError
        If `metric` has another value, if X is not numeric or has an infinite entry, if
        its reconstruction is not finite where X is observed, if their shapes differ, or
        if the errors are too large or too small for float64.

    See Also
    --------
    reconstruction_r2_score : One number, the share of the variance.
    skae.AutoencoderTransformer.reconstruction_error : The method of an autoencoder,
        which also offers its training loss as a metric.
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
    if as_frame:
        check_installed("as_frame=True", "pandas")
    X = sliceable(X)
    tabular = tabular_model(estimator, X)
    if tabular is not None:
        errors = _errors_of_table(tabular, X, metric, per_feature)
        return _with_names(errors, estimator, X, metric) if as_frame else errors
    check_can_reconstruct(estimator)
    errors = errors_of(lambda: _reconstructions(estimator, X), metric, per_feature)
    return _with_names(errors, estimator, X, metric) if as_frame else errors


def argmax_accuracy(X: MatrixLike, X_reconstructed: MatrixLike) -> float:
    """Share of samples whose largest entry is also the largest of the reconstruction.

    This is the natural score for one-hot samples that are reconstructed from a narrow
    code: a sample is right if its reconstruction identifies the hot feature.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The samples.
    X_reconstructed : {array-like, sparse matrix} of shape (n_samples, n_features)
        Their reconstructions.

    Returns
    -------
    accuracy : float
        Between 0 and 1. If several entries of a sample are the largest, the first of
        them counts, in X and in `X_reconstructed`; a constant reconstruction of one-hot
        samples is therefore right only for those whose first feature is hot.

    Raises
    ------
    ValueError
        If an input is not 2-D, numeric and finite, without missing entries, or if the
        shapes differ.

    Examples
    --------
    >>> from skae.metrics import argmax_accuracy
    >>> argmax_accuracy([[1, 0, 0], [0, 1, 0]], [[0.7, 0.2, 0.1], [0.5, 0.2, 0.3]])
    0.5
    """
    original = sparse_or_dense(X, "X")
    reconstructed = sparse_or_dense(X_reconstructed, "X_reconstructed")
    if original.shape != reconstructed.shape:
        raise ValueError(
            f"X has shape {original.shape}, X_reconstructed {reconstructed.shape}; the "
            "shapes must be equal."
        )
    # argmax of a sparse matrix is a column matrix, that of an array a vector.
    expected = np.ravel(original.argmax(axis=1))
    return float(np.mean(expected == np.ravel(reconstructed.argmax(axis=1))))


# -- errors ------------------------------------------------------------------------


def _squared_norms(rows: Floats) -> Floats:
    norms: Floats = np.einsum("ij,ij->i", rows, rows)
    return norms


# By metric, functions that turn differences into errors of entries, and of rows.
_METRICS: dict[str, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]] = {
    "squared_error": (np.square, _squared_norms),
    "absolute_error": (np.abs, lambda rows: np.abs(rows).sum(axis=1)),
}


def check_metric(metric: object) -> None:
    """Raise ValueError if a metric is not defined for every transformer."""
    if isinstance(metric, str) and metric == "loss":
        raise ValueError(
            f"metric='loss' must be one of {tuple(_METRICS)}: only an autoencoder "
            "itself knows its loss. Call its own method, "
            "estimator.reconstruction_error(X, metric='loss'); in a Pipeline, that of "
            "the last step, on the output of the steps before it"
        )
    check_name(metric, "metric", _METRICS)


def _of_rows(measure: Callable[[Floats], Floats], differences: Floats) -> Floats:
    """Return errors of rows; missing entries are as large as the mean of the others."""
    is_missing = np.isnan(differences)
    lines = np.flatnonzero(is_missing.any(axis=1))
    if not len(lines):
        return measure(differences)
    errors = measure(np.where(is_missing, 0.0, differences))
    n_observed = (~is_missing[lines]).sum(axis=1)
    errors[lines] *= is_missing.shape[1] / np.where(n_observed, n_observed, np.nan)
    return errors


def errors_of(
    pairs: Callable[[], Iterable[tuple[Floats, Floats]]],
    metric: str,
    per_feature: bool = False,
) -> Floats:
    """Return errors of reconstructions, of entries or summed over the features.

    Parameters
    ----------
    pairs : callable
        Returns an iterable of pairs of samples and their reconstructions, float64.
        Missing entries of samples are NaN, and so are their errors.

    metric : str

    per_feature : bool, default=False

    Raises
    ------
    ValueError
        If errors overflow, or if all squares underflow.
    """
    of_entries, of_rows = _METRICS[metric]
    measure = of_entries if per_feature else partial(_of_rows, of_rows)
    parts = []
    for rows, reconstructed in pairs():
        with np.errstate(over="ignore", under="ignore"):
            parts.append(measure(rows - reconstructed))
    errors = np.concatenate(parts)
    if np.isinf(errors).any():
        raise ValueError(
            f"Errors of the reconstruction are too large for float64 with "
            f"metric={metric!r}: divide X by a large number before fitting"
            f"{_or_absolute(metric)}"
        )
    if metric == "squared_error" and _largest(errors) < TINY:
        largest = max(_largest(np.abs(a - b)) for a, b in pairs())
        if largest > 0:
            raise ValueError(
                f"Errors of the reconstruction, at most {largest:g}, are so small that "
                "their squares underflow in float64: multiply X by a large number "
                f"before fitting{_or_absolute(metric)}"
            )
    return errors


def _largest(errors: Floats) -> float:
    return float(np.fmax.reduce(errors, axis=None, initial=0.0))


def _or_absolute(metric: str) -> str:
    return "" if metric == "absolute_error" else ", or use metric='absolute_error'"


def _reconstructions(estimator: Any, X: Any) -> Iterator[tuple[Floats, Floats]]:
    """Yield rows and their reconstructions, chunk by chunk."""
    for chunk in row_chunks(*X.shape):
        yield reconstruct(estimator, _safe_indexing(X, chunk))


def _with_names(errors: Floats, estimator: Any, X: Any, metric: str) -> Any:
    """Return errors as a Series or DataFrame, with the names of rows and features."""
    import pandas

    index = X.index if isinstance(X, pandas.DataFrame) else None
    if errors.ndim == 1:
        return pandas.Series(errors, index=index, name=metric)
    names = getattr(X, "column_names", getattr(X, "columns", None))  # pyarrow's first
    if names is None:
        names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        names = [f"x{i}" for i in range(errors.shape[1])]
    return pandas.DataFrame(errors, index=index, columns=names)


def _errors_of_table(
    model: TabularModel, X: Any, metric: str, per_feature: bool
) -> Floats:
    """Return the errors of an autoencoder, of the samples as they are in X."""
    if model.autoencoder is None:
        raise ValueError(
            f"Errors of single samples of a table are not defined for "
            f"{name_of(model.estimator)}, only for an autoencoder that was fitted to "
            "the table. For one number, use reconstruction_r2_score or "
            "reconstruction_deviance_score"
        )
    imputes = any(map(is_imputer, steps_of(model.estimator)))
    if imputes and has_missing_of(model, X):
        raise ValueError(
            "X has missing values, which a step imputes before the autoencoder sees "
            "them: leave the imputer out, since an autoencoder takes them as they are"
        )
    errors = model.autoencoder.reconstruction_error(
        X, metric=metric, per_feature=per_feature
    )
    return np.asarray(errors, dtype=np.float64)
