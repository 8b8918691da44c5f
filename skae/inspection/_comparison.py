"""PCA beside an autoencoder, cross-validated."""

import numbers
import reprlib
from collections.abc import Iterable, Mapping

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold, StratifiedKFold, cross_validate
from sklearn.pipeline import Pipeline

from skae._autoencoder import AutoencoderTransformer
from skae._names import hint
from skae._sklearn import Interval, _safe_indexing
from skae._training.reporting import StepReport, interrupt_ends_all
from skae.inspection._comparison_display import (
    AUTOENCODER_NAME,
    FITTED,
    PCA_NAME,
    REFERENCE,
    SCORE,
    PCAComparisonDisplay,
)
from skae.inspection._prediction import check_predictor, check_target, is_stratified
from skae.metrics import _sliceable, reconstruction_r2, sparse_columns

CODE_SIZES = (1, 2, 3, 5, 10)
N_FOLDS = 5


def compare_with_pca(
    X,
    n_components=None,
    *,
    y=None,
    predictor=None,
    cv=N_FOLDS,
    estimator=None,
    n_jobs=None,
    return_estimator=False,
    verbose=False,
) -> PCAComparisonDisplay:
    """Cross-validate PCA and an autoencoder, to see what the nonlinearity is worth.

    Both are fitted and judged on the same splits, by the same measure: the share of
    the variance of held-out rows that is reconstructed
    (:func:`skae.metrics.reconstruction_r2`). With a target `y` a predictor is fitted on
    each code as well, and on the data without reduction, because a better
    reconstruction is not always a better feature.

    Parameters
    ----------
    X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
        The data, numeric and finite.

    n_components : int or array-like of int, default=None
        Code sizes to compare. PCA sets the bound: the number of features and that of
        the rows of the smallest training split, as the last step of a Pipeline sees
        them, less one if they are sparse. None takes those of 1, 2, 3, 5 and 10 that
        are within it and below the number of features.

    y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
        What is predicted from the codes: classes, or numbers. Whole numbers are classes
        if there are at most 20 different ones, of which one at least has 5 samples, or
        if each has.

    predictor : estimator, default=None
        What predicts `y`, an estimator with ``fit`` and ``score``. It is cloned. None
        is :class:`~sklearn.linear_model.LogisticRegression` for classes and
        :class:`~sklearn.linear_model.Ridge` for numbers, behind a
        :class:`~sklearn.preprocessing.StandardScaler`.

    cv : int, cross-validation splitter, iterable or None, default=5
        What is held out:

        - int: so many folds of rows in random order, because files are often sorted by
          class; the order is the same in every call. Where `y` are classes, each fold
          has the same proportion of them. None is 5;
        - a splitter, such as :class:`~sklearn.model_selection.TimeSeriesSplit`, that
          needs no groups;
        - an iterable of splits, each a pair of the indices of training and held-out
          rows, or of masks. It serves for the others:
          ``GroupKFold(5).split(X, groups=groups)``.

    estimator : object, default=None
        The autoencoder, or a Pipeline whose last step it is: then PCA takes the place
        of the last step, behind the same preprocessing. Its `n_components` does not
        matter. It is cloned, not changed. None is
        ``AutoencoderTransformer(random_state=0)``.

    n_jobs : int, default=None
        Splits to work on at the same time, as in
        :func:`~sklearn.model_selection.cross_validate`. None is 1, which leaves all
        processors to each fit.

    return_estimator : bool, default=False
        Whether to keep what was fitted: `results` then has a column "fitted", with a
        Pipeline for each row. It may take much memory.

    verbose : bool, default=False
        Whether to print a line when the fits of an estimator and code size are done.

    Returns
    -------
    display : PCAComparisonDisplay
        Prints as a table and a verdict; ``display.plot()`` draws it, and
        ``pandas.DataFrame(display.results)`` has the numbers. They are the same in
        every call, but for the times, if the estimator's `random_state` is an int.

    Raises
    ------
    ValueError
        If a code size is not a whole number or out of bounds, if `cv` gives no splits
        or holds out a single row, if X cannot be fitted or scored, or if `y` does not
        go with X or cannot be predicted.
    TypeError
        If the estimator has no `n_components`, or cannot reconstruct; if the predictor
        is no estimator with a score.

    See Also
    --------
    PCAComparisonDisplay : What is returned.
    skae.metrics.reconstruction_r2 : The scorer. With it, a grid search chooses.

    Notes
    -----
    R² is in the units of X, whatever a Pipeline does inside: of features on different
    scales the largest decide. Where each is to count the same, pass scaled rows.

    Preprocessing, reduction and predictor are fitted on the training samples of a
    split, and see nothing of those held out. The predictor without reduction sees what
    the reduction sees, behind the same preprocessing.

    Examples
    --------
    A curved surface in three dimensions:

    >>> from sklearn.datasets import make_s_curve
    >>> from skae.inspection import compare_with_pca
    >>> X, _ = make_s_curve(300, random_state=0)
    >>> display = compare_with_pca(X)
    >>> display  # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
                      R², held out                           fit seconds
    code size     PCA  autoencoder             gain     PCA  autoencoder
            1   0.673        0.8...   +0.1... ± 0.0...
            2   0.868        0.9...   +0.0... ± 0.0...
    <BLANKLINE>
    The autoencoder reconstructs more of the variance than PCA with 1 component: ...
    >>> display.plot()  # doctest: +SKIP
    """
    return compare(
        X,
        n_components,
        y=y,
        predictor=predictor,
        cv=cv,
        estimator=estimator,
        n_jobs=n_jobs,
        return_estimator=return_estimator,
        verbose=verbose,
    )


def compare(
    X,
    n_components,
    *,
    y=None,
    predictor=None,
    cv,
    estimator,
    n_jobs=None,
    return_estimator=False,
    verbose=False,
    report=lambda rows: None,
):
    """Do what `compare_with_pca` does, and report it.

    `report` is called with the rows of the table, a dict, of each estimator and code
    size in turn; before that, if there is a target, with the scores of the predictor
    without reduction. If `verbose`, a line is printed instead.
    """
    X = _sliceable(X)
    are_classes, score_name = False, "score"
    if y is not None:
        y, are_classes = check_target(y, X)
        predictor, score_name = check_predictor(
            predictor, y, are_classes, is_sparse=_is_sparse(X)
        )
    elif predictor is not None:
        raise ValueError("predictor without y: pass y, which is to be predicted")
    splits = _make_splits(cv, X, y, stratify=is_stratified(predictor, are_classes))
    if are_classes:
        _check_classes(splits, y, cv)
    pipelines = _pipelines(estimator)
    code_sizes = _check_code_sizes(
        n_components, _rows_for_pca(pipelines[PCA_NAME], X, y, splits)
    )
    if verbose:
        n_steps = len(pipelines) * len(code_sizes) + (y is not None)
        steps = StepReport("compare_with_pca", n_steps)

        def report(rows):
            steps.end(_describe(rows, score_name))

    how = {"cv": splits, "n_jobs": n_jobs, "error_score": "raise"}
    parts, reference = [], {}
    with interrupt_ends_all():
        if y is not None:
            preprocessing = pipelines[PCA_NAME].steps[:-1]
            unreduced = Pipeline([*preprocessing, ("predict", predictor)])
            reference = {
                REFERENCE: cross_validate(unreduced, X, y, **how)["test_score"]
            }
            report(reference)
        for name, pipeline in pipelines.items():
            for code_size in code_sizes:
                pipeline.set_params(**{_code_size_parameter(pipeline): code_size})
                scores = cross_validate(
                    _Candidate(pipeline, predictor),
                    X,
                    y,
                    scoring=_score,
                    return_estimator=return_estimator,
                    **how,
                )
                rows = {
                    "estimator": np.full(len(splits), name),
                    "n_components": np.full(len(splits), code_size),
                    "split": np.arange(len(splits)),
                    "fit_time": scores["fit_time"],
                    "score_time": scores["score_time"],
                    "test_score": scores["test_r2"],
                }
                if y is not None:
                    rows[SCORE] = scores["test_prediction"]
                rows |= reference
                if return_estimator:
                    fitted = [candidate.pipeline_ for candidate in scores["estimator"]]
                    rows[FITTED] = _object_array(fitted)
                parts.append(rows)
                report(rows)
    return PCAComparisonDisplay(
        results={
            key: np.concatenate([part[key] for part in parts]) for key in parts[0]
        },
        score_name=score_name,
    )


def _describe(rows, score_name):
    """Return a line about an estimator and code size, or about all features."""
    if "estimator" not in rows:
        return f"all features  {score_name} {rows[REFERENCE].mean():z.3f}"
    text = f"{rows['estimator'][0]:<11}  code size {rows['n_components'][0]:<4} "
    text += f"R² {rows['test_score'].mean():z.3f}"
    if SCORE in rows:
        text += f"  {score_name} {rows[SCORE].mean():z.3f}"
    return text


def _object_array(values):
    """Return objects as an array; NumPy would take a Pipeline for a sequence."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


class _Candidate(BaseEstimator):
    """A reduction, and what predicts a target from its code.

    The predictor is fitted where it is scored: the time of a fit is the reduction's.
    """

    def __init__(self, pipeline, predictor=None):
        self.pipeline = pipeline
        self.predictor = predictor

    def fit(self, X, y=None):
        """Fit the reduction."""
        self.pipeline_ = clone(self.pipeline).fit(X, y)
        self.training_data_ = X, y
        return self

    def score_prediction(self, X, y):
        """Return the score of a predictor that sees the codes only."""
        X_train, y_train = self.training_data_
        predictor = clone(self.predictor)
        predictor.fit(self.pipeline_.transform(X_train), y_train)
        return float(predictor.score(self.pipeline_.transform(X), y))


def _score(candidate, X, y=None):
    scores = {"r2": reconstruction_r2(candidate.pipeline_, X)}
    if candidate.predictor is not None:
        scores["prediction"] = candidate.score_prediction(X, y)
    return scores


def _make_splits(cv, X, y, *, stratify):
    """Return a list of pairs of indices: the same for every estimator."""
    n_rows = X.shape[0]
    if cv is None or isinstance(cv, numbers.Integral):
        folds = StratifiedKFold if stratify else KFold
        cv = folds(N_FOLDS if cv is None else cv, shuffle=True, random_state=0)
    if hasattr(cv, "split") and not isinstance(cv, (str, bytes, type)):
        splits = list(cv.split(X, y))
    else:
        is_iterable = isinstance(cv, Iterable) and getattr(cv, "shape", None) != ()
        if not is_iterable or isinstance(cv, (str, bytes, range, Mapping, type)):
            raise _wrong_cv(cv)
        splits = list(cv)
    if not splits:
        raise ValueError(
            f"cv={reprlib.repr(cv)} gives no splits. A generator gives them only once: "
            "pass a splitter or a list."
        )
    try:
        splits = [
            (_indices(train, n_rows), _indices(held_out, n_rows))
            for train, held_out in splits
        ]
    except (TypeError, ValueError):  # no pair, or not of indices
        raise _wrong_cv(cv) from None
    for number, (train, held_out) in enumerate(splits):
        indices = np.concatenate([train, held_out])
        if not len(train) or indices.min() < -n_rows or indices.max() >= n_rows:
            problem = f"has rows that X, with {n_rows} rows, does not have"
            problem = problem if len(train) else "has no rows to train on"
            raise ValueError(f"cv={reprlib.repr(cv)}: split {number} {problem}")
    n_least = min(len(held_out) for _, held_out in splits)
    if n_least < 2:  # R² needs rows with a variance
        raise ValueError(
            f"cv={reprlib.repr(cv)} holds out {n_least} of {n_rows} rows, but R² needs "
            "2: take fewer folds"
        )
    return splits


def _wrong_cv(cv):
    meant = [len(cv)] if isinstance(cv, range) else cv
    question = hint(meant, [Interval(numbers.Integral, 2, None, closed="left")])
    return ValueError(
        f"cv={reprlib.repr(cv)} must be a number of folds, a splitter such as "
        "KFold(5), or an iterable of splits, each a pair of the indices of training "
        f"rows and of held-out rows.{question}"
    )


def _indices(part, n_rows):
    """Return the indices of a split's rows; ValueError if they are none."""
    part = np.asarray(part)
    if part.dtype == object:
        part = np.asarray(part.tolist())
    if part.dtype.kind == "b" and part.shape == (n_rows,):
        return np.flatnonzero(part)
    if part.ndim != 1 or (part.size and part.dtype.kind not in "iu"):
        raise ValueError
    return part.astype(np.intp)


def _check_classes(splits, y, cv):
    for number, (train, _) in enumerate(splits):
        if len(np.unique(y[train])) < 2:
            raise ValueError(
                f"cv={reprlib.repr(cv)}: the training samples of split {number} are "
                "all of one class of y. Pass an int, which shuffles and stratifies, "
                "or StratifiedKFold(5, shuffle=True)"
            )


def _is_sparse(X):
    """Whether scikit-learn sees a sparse matrix; it may be a frame."""
    columns = sparse_columns(X)
    return issparse(X) or (len(columns) > 0 and all(columns))


def _rows_for_pca(pipeline, X, y, splits):
    """Return the smallest training split as the last step of a pipeline sees it."""
    train = min((train for train, _ in splits), key=len)
    rows = _safe_indexing(X, train)
    if len(pipeline) == 1:
        return rows
    return clone(pipeline[:-1]).fit_transform(rows, None if y is None else y[train])


def _check_code_sizes(n_components, rows):
    """Return the code sizes in increasing order, each once; PCA of `rows` has them."""
    n_rows, n_features = rows.shape
    # Of sparse rows PCA finds the components by ARPACK, which leaves one out.
    largest = min(n_features, n_rows) - _is_sparse(rows)
    if largest < 1:
        raise ValueError(
            f"PCA of a sparse matrix needs 2 rows and features, but the smallest "
            f"training split has the shape {rows.shape}: pass X.toarray()"
        )
    if n_components is None:
        return [n for n in CODE_SIZES if n < n_features and n <= largest] or [1]
    code_sizes = np.asarray(n_components)
    if code_sizes.size == 0 or code_sizes.dtype.kind not in "iu":
        raise ValueError(
            f"n_components={n_components!r} must be a whole number or several, such "
            "as [2, 5, 10]."
        )
    for code_size in (code_sizes.min(), code_sizes.max()):
        if not 1 <= code_size <= largest:
            raise ValueError(
                f"n_components={code_size} is not possible: with {n_features} "
                f"features, and {n_rows} rows to fit on in the smallest split, PCA "
                f"has 1 to {largest} components."
            )
    return np.unique(code_sizes).tolist()


def _pipelines(estimator):
    """Return pipelines with nothing but their last step to tell them apart."""
    if estimator is None:
        estimator = AutoencoderTransformer(random_state=0)
    autoencoder = clone(estimator)
    if not isinstance(autoencoder, Pipeline):
        autoencoder = Pipeline([("reduce", autoencoder)])
    if _code_size_parameter(autoencoder) not in autoencoder.get_params():
        raise TypeError(
            f"estimator={estimator!r} has no n_components to vary. Pass an "
            "AutoencoderTransformer, or a Pipeline whose last step it is."
        )
    last_step = autoencoder.steps[-1][0]
    pca = clone(autoencoder).set_params(**{last_step: PCA(random_state=0)})
    return {PCA_NAME: pca, AUTOENCODER_NAME: autoencoder}


def _code_size_parameter(pipeline):
    return f"{pipeline.steps[-1][0]}__n_components"
