"""Targets that are predicted from codes, and their predictors."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length

# Enough for a linear classifier on standardized features to converge.
_MAX_ITER = 1000
# More than so many distinct numbers are classes only if each has so many samples.
_MANY_CLASSES, _RARE = 20, 5


def linear_classifier(*, with_mean: bool = True, imputes: bool = False) -> Pipeline:
    """Return the default classifier; see `_standardized`."""
    last = LogisticRegression(max_iter=_MAX_ITER)
    return _standardized(last, with_mean=with_mean, imputes=imputes)


def _standardized(predictor: Any, *, with_mean: bool, imputes: bool) -> Pipeline:
    """Return a predictor after scaling; it takes sparse rows if not `with_mean`.

    If it `imputes`, the mean of a feature is in place of missing values.
    """
    imputers = [SimpleImputer(keep_empty_features=True)] if imputes else []
    return make_pipeline(*imputers, StandardScaler(with_mean=with_mean), predictor)


def check_target(y: Any, X: Any) -> tuple[NDArray[Any], bool]:
    """Return a target as an array, and whether its values are classes.

    Raises
    ------
    ValueError
        If it is no target, or its length is not that of X.
    """
    if isinstance(y, str):
        raise ValueError(
            f"y={y!r} has to be the values of the target: pass X[{y!r}], and X without "
            "it"
        )
    y = check_array(y, ensure_2d=False, dtype=None, input_name="y")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y.ravel()
    check_consistent_length(X, y)
    if y.dtype == object and any(value is None for value in y.ravel()):
        raise ValueError("y has missing values: leave these samples out")
    with warnings.catch_warnings():
        # It warns about many classes, which are checked below.
        warnings.simplefilter("ignore", UserWarning)
        try:
            kind = type_of_target(y, input_name="y")
        except TypeError as error:
            raise ValueError(
                "y has values of several types, which are neither classes nor numbers"
            ) from error
    if kind not in ("binary", "multiclass"):
        return y, False
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"y has the same value, {y[0]!r}, for all samples: there is nothing to "
            "predict"
        )
    are_rare = counts.max() < _RARE
    are_rare = are_rare or (len(classes) > _MANY_CLASSES and counts.min() < _RARE)
    return y, y.dtype.kind not in "iuf" or not are_rare


def check_predictor(
    predictor: Any,
    y: NDArray[Any],
    are_classes: bool,
    *,
    is_sparse: bool,
    imputes: bool = False,
) -> tuple[Any, str]:
    """Return the predictor of a target, and the name of its score.

    Parameters
    ----------
    predictor : estimator or None
        None stands for a linear one.

    y : ndarray

    are_classes : bool

    is_sparse : bool
        Whether X is sparse.

    imputes : bool, default=False
        Whether the default predictor takes missing values.

    Raises
    ------
    TypeError
        If the predictor is no estimator, or has no score.
    ValueError
        If there is no default for such a target.
    """
    if predictor is None:
        how = {"with_mean": not is_sparse, "imputes": imputes}
        if are_classes:
            return linear_classifier(**how), "accuracy"
        if y.dtype.kind in "iuf":
            return _standardized(Ridge(), **how), "R² of y"
        raise ValueError(
            f"y, of dtype {y.dtype}, is neither of classes nor of numbers: pass a "
            "predictor for such a target"
        )
    methods = ("fit", "score", "get_params")
    if isinstance(predictor, type) or not all(hasattr(predictor, m) for m in methods):
        raise TypeError(
            f"predictor={predictor!r} must be an estimator with fit and score, such as "
            "LogisticRegression() or Ridge()"
        )
    return predictor, "score"


def is_stratified(predictor: Any, are_classes: bool) -> bool:
    """Whether the splits must keep the proportions of the classes."""
    return are_classes and bool(is_classifier(predictor))
