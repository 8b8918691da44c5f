"""Cross-validation of PCA beside an autoencoder."""

from __future__ import annotations

import numbers
import reprlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold, StratifiedKFold, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skae._autoencoder import AutoencoderTransformer
from skae._data.validation import convertible
from skae._model.any_transformer import (
    has_categories,
    has_missing,
    is_imputer,
    share_of_variance,
    sliceable,
    sparse_columns,
    steps_of,
    table_scores,
    tabular_model,
)
from skae._names import hint
from skae._sklearn import Interval, _safe_indexing
from skae._training.reporting import StepReport, interrupt_ends_all
from skae._typing import MatrixLike
from skae.inspection._comparison_display import (
    ACCURACY,
    AUTOENCODER_NAME,
    DEVIANCE,
    FITTED,
    PCA_NAME,
    REFERENCE,
    SCORE,
    PCAComparisonDisplay,
)
from skae.inspection._prediction import check_predictor, check_target, is_stratified
from skae.inspection._tables import PCAOfTable, TableEncoder, table_parameters

CODE_SIZES = (1, 2, 3, 5, 10)
N_FOLDS = 5

# Columns by name; and training and held-out indices of each split.
Table: TypeAlias = dict[str, NDArray[Any]]
Splits: TypeAlias = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


def compare_with_pca(
    X: MatrixLike,
    n_components: int | ArrayLike | None = None,
    *,
    y: ArrayLike | None = None,
    predictor: Any = None,
    cv: Any = N_FOLDS,
    estimator: Any = None,
    n_jobs: int | None = None,
    return_estimator: bool = False,
    verbose: bool = False,
) -> PCAComparisonDisplay:
    """Cross-validate PCA and an autoencoder, to see what the nonlinearity gains.

    Both are fitted and scored on the same splits: the score is the share of the
    variance of held-out samples that is reconstructed
    (:func:`skae.metrics.reconstruction_r2`). With a target `y`, a predictor is fitted
    on each code as well, and on the data without reduction, because a better
    reconstruction does not always make better features.

    Parameters
    ----------
    X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
        The data, finite, or NaN where values are missing: the autoencoder
        takes them as they are, PCA gets the feature's mean over the training samples in
        their place (unless a step of the Pipeline imputes them for both), and only
        observed entries are scored.

    n_components : int or array-like of int, default=None
        Code sizes to compare. PCA limits them to the number of features and of samples
        in the smallest training split, as the last step of a Pipeline sees them, minus
        one if they are sparse. None takes those of 1, 2, 3, 5 and 10 that are within
        this limit and below the number of features.

    y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
        Target to predict from the codes: classes, or numbers. Whole numbers are classes
        if there are at most 20 different ones and at least one has 5 samples, or if
        each has 5 samples.

    predictor : estimator, default=None
        Estimator with ``fit`` and ``score`` that predicts `y`. It is cloned. None
        is :class:`~sklearn.linear_model.LogisticRegression` for classes and
        :class:`~sklearn.linear_model.Ridge` for numbers, after a
        :class:`~sklearn.preprocessing.StandardScaler`. Without reduction, it gets
        missing values as they are; None has the mean in their place.

    cv : int, cross-validation splitter, iterable or None, default=5
        Which samples are held out:

        - int: number of folds. Samples are shuffled, because files are often sorted by
          class, in the same way in every call. If `y` holds classes, each fold has the
          same proportion of them. None is 5;
        - a splitter that needs no groups, such as
          :class:`~sklearn.model_selection.TimeSeriesSplit`;
        - an iterable of splits, each a pair of indices, or of masks, of training and
          held-out samples, as other splitters make them:
          ``GroupKFold(5).split(X, groups=groups)``.

    estimator : object, default=None
        The autoencoder, or a Pipeline whose last step it is: then PCA replaces the last
        step, after the same preprocessing. Its `n_components` is ignored. It is cloned,
        not changed. None is ``AutoencoderTransformer(random_state=0)``.

    n_jobs : int, default=None
        Number of splits to work on at the same time, as in
        :func:`~sklearn.model_selection.cross_validate`. None is 1, which leaves all
        processors to each fit.

    return_estimator : bool, default=False
        Whether to keep the fitted estimators: `results` then has a column "fitted",
        with a Pipeline in each row. This may take much memory.

    verbose : bool, default=False
        Whether to print a line when the fits of an estimator and code size are done.

    Returns
    -------
    display : PCAComparisonDisplay
        Prints as a table and a verdict; ``display.plot()`` draws it, and
        ``pandas.DataFrame(display.results)`` has the numbers. These are the same in
        every call, except the times, if the estimator's `random_state` is an int.

    Raises
    ------
    ValueError
        If a code size is not a whole number or out of bounds, if `cv` gives no splits
        or holds out a single sample, if X cannot be fitted or scored, or if `y` does
        not match X or cannot be predicted.
    TypeError
        If the estimator has no `n_components`, or cannot reconstruct; if the predictor
        is no estimator with a score.

    See Also
    --------
    PCAComparisonDisplay : The returned display.
    skae.metrics.reconstruction_r2 : The scorer, also for a grid search.

    Notes
    -----
    R² is in the units of X, even if a Pipeline scales it: if features have different
    scales, those with the largest decide. For features to count equally, pass an
    `estimator` with ``scale="standard"``: PCA then gets standardized features, too,
    and errors are divided by the standard deviations of the held-out samples.

    In a table with categories, each column counts once, see
    :func:`skae.metrics.reconstruction_r2_score`. PCA is that of the numbers in units of
    their standard deviations and of the one-hot levels, divided by what makes each
    column count once: no other linear code has smaller errors. `results` then also have
    :func:`skae.metrics.reconstruction_deviance_score`, and the accuracy of the levels
    that are decoded, which are the most probable ones; for PCA, the largest entries.
    Predictors without reduction get the same encoded columns.

    Preprocessing, reduction and predictor are fitted on the training samples of each
    split only. The predictor without reduction comes after the same preprocessing.

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
    X: Any,
    n_components: Any,
    *,
    y: Any = None,
    predictor: Any = None,
    cv: Any,
    estimator: Any,
    n_jobs: int | None = None,
    return_estimator: bool = False,
    verbose: bool = False,
    report: Callable[[Table], None] = lambda rows: None,
) -> PCAComparisonDisplay:
    """Do what `compare_with_pca` does, and report it.

    `report` is called with the table's rows of each estimator and code size in turn;
    before that, if there is a target, with the scores of the predictor without
    reduction. If `verbose`, a line is printed instead.
    """
    X = sliceable(X)
    if not has_categories(X):
        X = convertible(X)
    pipelines = _pipelines(estimator)
    last_step = pipelines[PCA_NAME].steps[-1][0]
    imputes = any(map(is_imputer, steps_of(pipelines[AUTOENCODER_NAME])))
    # As the last step sees X.
    is_incomplete = has_missing(X) and not imputes
    is_standard = _is_standard(pipelines[AUTOENCODER_NAME])
    of_table = _of_table(pipelines, X, y)
    if of_table is not None:
        pipelines[PCA_NAME].set_params(**{last_step: PCAOfTable(**of_table)})
    elif is_incomplete:
        pipelines[PCA_NAME].set_params(**{last_step: PCAOfImputed(random_state=0)})
    if of_table is None and is_standard:
        scaler = StandardScaler(with_mean=not _is_sparse(X))
        pipelines[PCA_NAME].steps.insert(-1, (f"standardize_{last_step}", scaler))
    are_classes, score_name = False, "score"
    if y is not None:
        y, are_classes = check_target(y, X)
        predictor, score_name = check_predictor(
            predictor,
            y,
            are_classes,
            is_sparse=_is_sparse(X),
            imputes=is_incomplete and of_table is None,
        )
    elif predictor is not None:
        raise ValueError("predictor without y: pass y, the target to predict")
    splits = _make_splits(cv, X, y, stratify=is_stratified(predictor, are_classes))
    if are_classes:
        _check_classes(splits, y, cv)
    train = min((train for train, _ in splits), key=len)
    rows = _seen_by_last_step(pipelines[PCA_NAME], X, y, train)
    n_columns = rows.shape[1]
    if of_table is not None:
        rows = TableEncoder(**of_table).fit_transform(rows)
    code_sizes = _check_code_sizes(n_components, rows, n_columns)
    if verbose:
        n_steps = len(pipelines) * len(code_sizes) + (y is not None)
        steps = StepReport("compare_with_pca", n_steps)

        def report(rows: Table) -> None:
            steps.end(_describe(rows, score_name))

    how = {"cv": splits, "n_jobs": n_jobs, "error_score": "raise"}
    parts: list[Table] = []
    reference: Table = {}
    with interrupt_ends_all():
        if y is not None:
            before = pipelines[PCA_NAME].steps[:-1]
            if of_table is not None:
                before = [*before, ("encode", TableEncoder(**of_table))]
            unreduced = Pipeline([*before, ("predict", predictor)])
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
                    scoring=partial(_score, standardized=is_standard),
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
                for measure, column in (
                    ("test_deviance", DEVIANCE),
                    ("test_accuracy", ACCURACY),
                    ("test_prediction", SCORE),
                ):
                    if measure in scores:
                        rows[column] = scores[measure]
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
        is_imputed=is_incomplete,
    )


def _describe(rows: Table, score_name: str) -> str:
    """Return a line about an estimator and code size, or about all features."""
    if "estimator" not in rows:
        return f"all features  {score_name} {rows[REFERENCE].mean():z.3f}"
    text = f"{rows['estimator'][0]:<11}  code size {rows['n_components'][0]:<4} "
    text += f"R² {rows['test_score'].mean():z.3f}"
    if SCORE in rows:
        text += f"  {score_name} {rows[SCORE].mean():z.3f}"
    return text


def _object_array(values: list[Any]) -> NDArray[np.object_]:
    """Return an array of objects; to NumPy a Pipeline would be a sequence."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


class PCAOfImputed(PCA):
    """PCA with the mean of a feature in place of its missing values."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the means, and PCA."""
        # A feature without any value becomes 0, as an autoencoder reconstructs it.
        self.imputer_ = SimpleImputer(keep_empty_features=True).fit(X)
        super().fit(self.imputer_.transform(X))
        return self

    def transform(self, X: Any) -> Any:
        """Encode samples."""
        return super().transform(self.imputer_.transform(X))

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit, and encode the samples."""
        return self.fit(X).transform(X)


class _Candidate(BaseEstimator):
    """A reduction, and a predictor of a target from its code.

    The predictor is fitted when it is scored: the fit time is that of the reduction.
    """

    def __init__(self, pipeline: Pipeline, predictor: Any = None) -> None:
        self.pipeline = pipeline
        self.predictor = predictor

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the reduction."""
        self.pipeline_ = clone(self.pipeline).fit(X, y)
        self.training_data_ = X, y
        return self

    def score_prediction(self, X: Any, y: Any) -> float:
        """Return the score of a predictor on the codes."""
        X_train, y_train = self.training_data_
        predictor = clone(self.predictor)
        predictor.fit(self.pipeline_.transform(X_train), y_train)
        return float(predictor.score(self.pipeline_.transform(X), y))


def _score(
    candidate: _Candidate, X: Any, y: Any = None, *, standardized: bool
) -> dict[str, float]:
    pipeline = candidate.pipeline_
    model = tabular_model(pipeline, X)
    if model is None:
        scores = {"r2": share_of_variance(pipeline, X, standardized=standardized)}
    else:
        of_table = table_scores(model, X, standardized=standardized)
        scores = {"r2": of_table.r2}
        if model.table.groups:
            scores |= {"deviance": of_table.deviance, "accuracy": of_table.accuracy}
    if candidate.predictor is not None:
        scores["prediction"] = candidate.score_prediction(X, y)
    return scores


def _make_splits(cv: Any, X: Any, y: Any, *, stratify: bool) -> Splits:
    """Return pairs of indices, the same for every estimator."""
    n_rows = X.shape[0]
    if cv is None or isinstance(cv, numbers.Integral):
        folds = StratifiedKFold if stratify else KFold
        cv = folds(N_FOLDS if cv is None else cv, shuffle=True, random_state=0)
    if hasattr(cv, "split") and not isinstance(cv, (str, bytes, type)):
        try:
            splits = list(cv.split(X, y))
        except ValueError as error:
            if "groups" not in str(error):
                raise
            raise ValueError(
                f"cv={cv!r} needs groups: pass its splits, cv.split(X, groups=groups)"
            ) from error
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
    except (TypeError, ValueError):  # not a pair, or not of indices
        raise _wrong_cv(cv) from None
    for number, (train, held_out) in enumerate(splits):
        indices = np.concatenate([train, held_out])
        if not len(train) or indices.min() < -n_rows or indices.max() >= n_rows:
            problem = f"has indices beyond the {n_rows} samples of X"
            problem = problem if len(train) else "has no training samples"
            raise ValueError(f"cv={reprlib.repr(cv)}: split {number} {problem}")
    n_least = min(len(held_out) for _, held_out in splits)
    if n_least < 2:  # R² needs rows with a variance
        raise ValueError(
            f"cv={reprlib.repr(cv)} holds out {n_least} of {n_rows} samples, but R² "
            "needs 2: take fewer folds"
        )
    return splits


def _wrong_cv(cv: Any) -> ValueError:
    meant = [len(cv)] if isinstance(cv, range) else cv
    question = hint(meant, [Interval(numbers.Integral, 2, None, closed="left")])
    return ValueError(
        f"cv={reprlib.repr(cv)} must be a number of folds, a splitter such as "
        "KFold(5), or an iterable of splits, each a pair of the indices of training "
        f"and held-out samples.{question}"
    )


def _indices(part: Any, n_rows: int) -> NDArray[np.intp]:
    """Return indices, or a mask's indices; ValueError for anything else."""
    indices = np.asarray(part)
    if indices.dtype == object:
        indices = np.asarray(indices.tolist())
    if indices.dtype.kind == "b" and indices.shape == (n_rows,):
        return np.flatnonzero(indices)
    if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
        raise ValueError
    return indices.astype(np.intp)


def _check_classes(splits: Splits, y: NDArray[Any], cv: Any) -> None:
    for number, (train, _) in enumerate(splits):
        if len(np.unique(y[train])) < 2:
            raise ValueError(
                f"cv={reprlib.repr(cv)}: the training samples of split {number} are "
                "all of one class of y. Pass an int, which shuffles and stratifies, "
                "or StratifiedKFold(5, shuffle=True)"
            )


def _is_sparse(X: Any) -> bool:
    """Whether scikit-learn sees a sparse matrix; it may be a dataframe."""
    columns = sparse_columns(X)
    return bool(issparse(X)) or (len(columns) > 0 and all(columns))


def _of_table(pipelines: dict[str, Pipeline], X: Any, y: Any) -> dict[str, Any] | None:
    """Return parameters of PCA of a table; None if the last step sees numbers only."""
    pipeline = pipelines[AUTOENCODER_NAME]
    if len(pipeline) > 1 and not has_categories(X):
        return None
    rows = _seen_by_last_step(pipeline, X, y, np.arange(X.shape[0]))
    return table_parameters(pipeline.steps[-1][1], rows)


def _seen_by_last_step(
    pipeline: Pipeline, X: Any, y: Any, train: NDArray[np.intp]
) -> Any:
    """Return samples as the last step of a pipeline sees them."""
    rows = _safe_indexing(X, train)
    if len(pipeline) == 1:
        return rows
    return clone(pipeline[:-1]).fit_transform(rows, None if y is None else y[train])


def _check_code_sizes(n_components: Any, rows: Any, n_columns: int) -> list[int]:
    """Return the code sizes, sorted and unique; PCA of `rows` must allow them.

    Those that are chosen are below the number of columns, from which rows are made.
    """
    n_rows, n_features = rows.shape
    # PCA of sparse rows uses ARPACK, which finds all components except one.
    largest = min(n_features, n_rows) - _is_sparse(rows)
    if largest < 1:
        raise ValueError(
            f"PCA of a sparse matrix needs 2 samples and features, but the smallest "
            f"training split has the shape {rows.shape}: pass X.toarray()"
        )
    if n_components is None:
        return [n for n in CODE_SIZES if n < n_columns and n <= largest] or [1]
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
                f"features, and {n_rows} training samples in the smallest split, PCA "
                f"has 1 to {largest} components."
            )
    sizes: list[int] = np.unique(code_sizes).tolist()
    return sizes


def _pipelines(estimator: Any) -> dict[str, Pipeline]:
    """Return pipelines that differ only in their last step."""
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


def _is_standard(pipeline: Pipeline) -> bool:
    """Whether an autoencoder standardizes what it sees."""
    scale = getattr(pipeline.steps[-1][1], "scale", None)
    return isinstance(scale, str) and scale == "standard"


def _code_size_parameter(pipeline: Pipeline) -> str:
    return f"{pipeline.steps[-1][0]}__n_components"
