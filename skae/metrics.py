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
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array

from skae._data.rows import slices
from skae._data.squares import Squares
from skae._data.validation import check_weights, convertible
from skae._names import check_name
from skae._runtime.extras import check_installed
from skae._sklearn import _safe_indexing
from skae._typing import Floats, MatrixLike

__all__ = [
    "argmax_accuracy",
    "reconstruction_error",
    "reconstruction_r2",
    "reconstruction_r2_score",
]


def __dir__() -> list[str]:
    return __all__


# Entries of a dense float64 chunk (32 MiB). Three or four arrays of this size are in
# memory at once, for any number of samples.
CHUNK_ENTRIES = 2**22
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
    _check_can_reconstruct(estimator)
    X = _sliceable(X)
    if sample_weight is None:
        sample_weight = np.ones(X.shape[0])
    chunks = list(_weighted_chunks(X, check_weights(sample_weight, X.shape[0])))

    mean = _weighted_mean(X, chunks)
    squares = Squares()
    for chunk, weight in chunks:
        values, reconstructed = _reconstruct(estimator, _safe_indexing(X, chunk))
        with np.errstate(over="ignore"):
            errors, deviations = values - reconstructed, values - mean
        is_missing = np.isnan(values)
        errors[is_missing] = deviations[is_missing] = 0
        squares = squares.plus(Squares.of(errors, deviations, weight))
    share = squares.share
    if not np.isfinite(share):
        raise ValueError(
            f"{_name(estimator)} reconstructs X so badly that the squared error is not "
            "finite: there is no R²"
        )
    return share


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


def reconstruction_error(
    estimator: Any,
    X: MatrixLike,
    *,
    metric: str = "squared_error",
    per_feature: bool = False,
    as_frame: bool = False,
) -> Floats | Any:
    """Error of each sample's reconstruction, in the units of X.

    Parameters
    ----------
    estimator : object
        Fitted transformer with ``transform`` and ``inverse_transform``: PCA, NMF,
        :class:`skae.AutoencoderTransformer`, a Pipeline of such steps and imputers, or
        a fitted search for one.
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
    _check_can_reconstruct(estimator)
    if as_frame:
        check_installed("as_frame=True", "pandas")
    X = _sliceable(X)
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
    original = _sparse_or_dense(X, "X")
    reconstructed = _sparse_or_dense(X_reconstructed, "X_reconstructed")
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
    for chunk in _row_chunks(X):
        yield _reconstruct(estimator, _safe_indexing(X, chunk))


def _with_names(errors: Floats, estimator: Any, X: Any, metric: str) -> Any:
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


def _check_can_reconstruct(estimator: Any) -> None:
    """Raise TypeError, naming what is missing, if an estimator cannot reconstruct."""
    if isinstance(estimator, type):
        raise TypeError(
            f"{estimator.__name__} is a class, not a fitted estimator: pass what fit "
            "returns"
        )
    for method in ("transform", "inverse_transform"):
        if _has(estimator, method):
            continue
        lacking = [
            f"{name!r} ({_name(step)})"
            for name, step in getattr(estimator, "steps", [])
            if step is not None and step != "passthrough" and not _has(step, method)
        ]
        because = f", because of its step {lacking[0]}" if lacking else ""
        raise TypeError(
            f"{_name(estimator)} has no {method}{because}. A reconstruction needs "
            "transform and inverse_transform, as PCA, NMF, "
            "KernelPCA(fit_inverse_transform=True), AutoencoderTransformer or a "
            "Pipeline of such steps have."
        )


def _is_imputer(step: object) -> bool:
    """Whether a step fills missing entries, without indicators beside them."""
    return getattr(step, "add_indicator", None) is False


def _steps(estimator: Any) -> Iterator[Any]:
    """Yield the steps of a Pipeline, also of nested ones and in fitted searches."""
    while hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    if not isinstance(estimator, Pipeline):
        yield estimator
        return
    for _, step in estimator.steps:
        if step is not None and step != "passthrough":
            yield from _steps(step)


def _has(estimator: Any, method: str) -> bool:
    """Whether an estimator has a method, except for the imputers of a Pipeline."""
    if hasattr(estimator, method):
        return True
    steps = list(_steps(estimator))
    return any(map(_is_imputer, steps)) and all(
        hasattr(step, method) or _is_imputer(step) for step in steps
    )


def _inverse_transform(estimator: Any, codes: Any) -> Any:
    """Return reconstructions of codes; what was imputed is not undone."""
    steps = list(_steps(estimator))
    if not any(map(_is_imputer, steps)):
        return estimator.inverse_transform(codes)
    for step in reversed(steps):
        if not _is_imputer(step):
            codes = step.inverse_transform(codes)
    return codes


def _name(estimator: object) -> str:
    return type(estimator).__name__


def _sliceable(X: Any, name: str = "X") -> Any:
    """Return X in a type that can be cut into chunks; a dataframe stays one."""
    if issparse(X):
        X = X.tocsr()
    if not hasattr(X, "shape"):
        return check_array(X, input_name=name, ensure_all_finite="allow-nan")
    if len(X.shape) != 2 or 0 in X.shape:
        check_array(X, accept_sparse=True, input_name=name)  # raises the usual message
    return X


def sparse_columns(X: Any) -> list[bool]:
    """Return which columns of a pandas DataFrame are sparse, else an empty list."""
    dtypes = getattr(X, "dtypes", ())
    return [type(dtype).__name__ == "SparseDtype" for dtype in dtypes]


def _row_chunks(X: Any) -> Iterable[slice]:
    """Return slices of the rows, each small enough to be made dense."""
    n_samples, n_features = X.shape
    return slices(n_samples, max(1, CHUNK_ENTRIES // max(1, n_features)))


def _reconstruct(estimator: Any, rows: Any) -> tuple[Floats, Floats]:
    """Return rows and their reconstructions, both as dense float64 arrays.

    Missing entries of rows are NaN; their reconstructions may be, too.
    """
    values, what = _dense(rows, allow_nan=True), "the reconstruction"
    is_missing = np.isnan(values)
    reconstructed = _inverse_transform(estimator, estimator.transform(rows))
    reconstructed = _dense(reconstructed, what, allow_nan=bool(is_missing.any()))
    if reconstructed.shape != values.shape:
        raise ValueError(
            f"{_name(estimator)} reconstructs rows of shape {values.shape} as "
            f"{reconstructed.shape}; the shapes must be equal."
        )
    features = np.flatnonzero((np.isnan(reconstructed) & ~is_missing).any(axis=0))
    if len(features):
        raise ValueError(
            f"{_name(estimator)} reconstructs feature {features[0]} of X as NaN where "
            "it is observed, as scalers do if it has no entry in the training data: "
            "leave features with few entries out"
        )
    return values, reconstructed


def _dense(
    rows: Any, name: str = "X", *, allow_nan: bool = False
) -> NDArray[np.float64]:
    """Return rows as a dense float64 array, checked to be numeric and finite.

    Missing entries are NaN if they are allowed.
    """
    if issparse(rows):
        rows = rows.toarray()
    elif any(sparse_columns(rows)):  # scikit-learn would make it sparse, or warn
        columns = [np.asarray(rows.iloc[:, i]) for i in range(rows.shape[1])]
        rows = np.column_stack(columns)
    checked: NDArray[np.float64] = check_array(
        convertible(rows),
        dtype=np.float64,
        ensure_min_samples=0,
        ensure_all_finite="allow-nan" if allow_nan else True,
        input_name=name,
    )
    return checked


def has_missing(X: Any) -> bool:
    """Whether entries of X, as `_sliceable` returns it, are missing."""
    chunks = (_dense(_safe_indexing(X, c), allow_nan=True) for c in _row_chunks(X))
    return any(np.isnan(chunk).any() for chunk in chunks)


def _sparse_or_dense(X: Any, name: str) -> Any:
    """Return a CSR matrix or an array of numbers, checked to be finite."""
    if any(sparse_columns(X)):
        X = _dense(X, name)
    return check_array(X, accept_sparse="csr", input_name=name)


def _weighted_chunks(
    X: Any, sample_weight: Floats
) -> Iterator[tuple[slice | NDArray[np.intp], Floats]]:
    """Yield indices of the rows with positive weights, and these, chunk by chunk."""
    for chunk in _row_chunks(X):
        weight = sample_weight[chunk]
        used = np.flatnonzero(weight)
        if len(used) == len(weight):
            yield chunk, weight
        elif len(used):
            yield chunk.start + used, weight[used]


def _weighted_mean(
    X: Any, chunks: list[tuple[slice | NDArray[np.intp], Floats]]
) -> Floats:
    """Return the weighted mean of the rows, exactly the common row if all are equal.

    That of a feature is the mean of its observed entries; 0 if there are none.
    """
    # Relative to the first row with a weight, constant columns are exact zeros: no
    # rounding could be taken for variance.
    origin = _first_observed(X, [chunk for chunk, _ in chunks])
    total_weight = sum(weight.sum() for _, weight in chunks)
    offset, observed = np.zeros_like(origin), np.zeros_like(origin)
    have_gaps = np.zeros(origin.shape, dtype=bool)
    for chunk, weight in chunks:
        with np.errstate(over="ignore"):
            deviations = _dense(_safe_indexing(X, chunk), allow_nan=True) - origin
        if np.isinf(deviations).any():
            raise ValueError(
                "X is too large for float64: differences of its rows are not finite. "
                "Divide X by a large number"
            )
        is_missing, share = np.isnan(deviations), weight / total_weight
        deviations[is_missing] = 0
        offset += share @ deviations
        observed += share @ ~is_missing
        have_gaps |= is_missing.any(axis=0)
    # Without gaps that is 1, except for rounding.
    return origin + offset / np.where(have_gaps & (observed > 0), observed, 1.0)


def _first_observed(X: Any, chunks: Iterable[slice | NDArray[np.intp]]) -> Floats:
    """Return the first observed entry of each feature, 0 for those without one."""
    first: Floats | None = None
    for chunk in chunks:
        rows = _dense(_safe_indexing(X, chunk), allow_nan=True)
        found = rows[np.isnan(rows).argmin(axis=0), np.arange(rows.shape[1])]
        first = found if first is None else np.where(np.isnan(first), found, first)
        if not np.isnan(first).any():
            return first
    if first is None or np.isnan(first).all():
        raise ValueError("X has no observed entry: all are NaN, so there is no R²")
    return np.nan_to_num(first)
