"""A target that is predicted from codes, and what predicts it."""

import warnings

import numpy as np
from sklearn.base import is_classifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length

# Enough for a linear classifier on standardised features to converge.
_MAX_ITER = 1000
# More different numbers than this are classes only if none of them is rarer than this.
_MANY_CLASSES, _RARE = 20, 5


def linear_classifier(*, with_mean=True):
    """Return the classifier that judges codes; without a mean it takes sparse rows."""
    return make_pipeline(
        StandardScaler(with_mean=with_mean), LogisticRegression(max_iter=_MAX_ITER)
    )


def linear_regressor(*, with_mean=True):
    """Return the regressor that judges codes; without a mean it takes sparse rows."""
    return make_pipeline(StandardScaler(with_mean=with_mean), Ridge())


def check_target(y, X):
    """Return a target as an array, and whether it is of classes.

    Raises
    ------
    ValueError
        If it is no target, or has not as many entries as X has rows.
    """
    y = check_array(y, ensure_2d=False, dtype=None, input_name="y")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y.ravel()
    check_consistent_length(X, y)
    if y.dtype == object and any(value is None for value in y.ravel()):
        raise ValueError("y has missing values: leave these samples out")
    with warnings.catch_warnings():
        # It warns of many classes, which are judged below.
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


def check_predictor(predictor, y, are_classes, *, is_sparse):
    """Return what predicts a target, and the name of its score.

    Parameters
    ----------
    predictor : estimator or None
        None stands for a linear one.

    y : ndarray

    are_classes : bool

    is_sparse : bool
        Whether there is a sparse matrix to predict from.

    Raises
    ------
    TypeError
        If it is no estimator, or has no score.
    ValueError
        If there is none for such a target.
    """
    if predictor is None:
        if are_classes:
            return linear_classifier(with_mean=not is_sparse), "accuracy"
        if y.dtype.kind in "iuf":
            return linear_regressor(with_mean=not is_sparse), "R² of y"
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


def is_stratified(predictor, are_classes):
    """Whether splits are to have the classes in proportion."""
    return are_classes and is_classifier(predictor)
