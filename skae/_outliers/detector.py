"""AutoencoderOutlierDetector: odd samples, and what makes them odd."""

from __future__ import annotations

import numbers
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skae._autoencoder import AutoencoderTransformer
from skae._base.autoencoder import TABLE_CONSTRAINTS
from skae._data.hold_out import folds_of, in_folds
from skae._data.standardization import Samples, Standardization
from skae._data.tables import Table
from skae._data.validation import (
    Checked,
    check_groups,
    check_observed,
    check_range,
    check_rows,
    check_table,
    check_weights,
    read_tables,
)
from skae._names import Names
from skae._outliers.score import OutlierScore, box_plot_limit, core, highest_common
from skae._runtime.extras import check_installed
from skae._sklearn import DocumentedMixin, Interval, _fit_context
from skae._training.reporting import interrupt_ends_all, warn_of_dask
from skae._training.settings import loss_range
from skae._typing import Floats, MatrixLike
from skae._variational import VariationalAutoencoderTransformer

# Models, each of which leaves out the samples that are held out for p-values. With more
# of them, areas under ROC curves over 27 data sets are the same within 0.002.
_N_MODELS = 3
# Code of estimator=None: as many units as principal components have this share of the
# variance.
_N_COMPONENTS = 0.9
# Of contamination="auto": the limit is as many quartile ranges above the upper quartile
# as in a box plot, or lower, so that this share of the held-out samples is beyond.
_RANGES_BEYOND, _LEAST_BEYOND = 1.5, 0.02
# Samples with whole numbers as weights are repeated, up to so many.
_MOST_REPEATED = 20_000


class _HeldOut(NamedTuple):
    """Scores of held-out samples, by a model that was not trained on them."""

    scores: Floats  # (n_held_out,), increasing
    weights: Floats  # (n_held_out + 1,), total weight from each sample on

    @classmethod
    def of(cls, scores: Floats, weights: Floats) -> _HeldOut:
        order = np.argsort(scores, kind="stable")
        from_last = np.cumsum(weights[order][::-1])[::-1]
        return cls(scores[order], np.append(from_last, 0.0))

    def p_values(self, scores: Floats) -> Floats:
        """Shares of the held-out samples, and the new one, that are not below it."""
        above = self.weights[np.searchsorted(self.scores, scores)]
        p_values: Floats = (1 + above) / (1 + self.weights[0])
        return p_values


class AutoencoderOutlierDetector(DocumentedMixin, OutlierMixin, BaseEstimator):
    """Outlier detection by the codes and the residuals of an autoencoder.

    A sample's score is the mean square of its codes and residuals, each in units of its
    usual deviations and uncorrelated: for a linear network that is a Mahalanobis
    distance, for others they follow curved data. Features are standardized, and the
    training samples that are far from the nearest four fifths are left out, so that
    outliers among them do no harm. Three models, each without the samples held out from
    it, are averaged; held-out samples make p-values of scores. Both outlier detection
    (outliers among the training samples) and novelty detection (in new ones) are
    possible with the same estimator.

    Parameters
    ----------
    estimator : AutoencoderTransformer or VariationalAutoencoderTransformer, \
            default=None
        Its parameters are those of the networks. To search over them, pass one:
        ``AutoencoderTransformer()`` and ``estimator__n_components``, for example. Those
        that say what categories are do not count: the detector's do. None:
        ``AutoencoderTransformer(n_components=0.9)``, whose code has as many units as
        principal components that have 90 % of the variance.

    contamination : "auto" or float, default="auto"
        Determines `offset_`, the threshold of :meth:`predict`. A share, in (0, 0.5], of
        the training samples that are outliers; or "auto", for a limit beyond which
        few samples are if none is an outlier: that of a box plot of the cube roots of
        scores, or what 2 % of the held-out samples exceed, whichever is lower.

    random_state : int, RandomState instance or None, default=None
        Determines the networks' training. What is held out depends on the samples'
        values, or on `groups`.

    categorical_features : "from_dtype", array-like or None, default="from_dtype"
        Which columns of X are categories: names, numbers of columns, or a mask.
        "from_dtype": those of a data frame with a categorical, string or boolean dtype,
        and columns of objects, in a frame or an array, that are not all numbers. None:
        all columns are numbers. See Notes.

    categories : "auto", dict or list of array-like, default="auto"
        Levels of the categorical columns: a dict with those of some columns, by name
        or number, or a list with an entry for each column, None for numbers. "auto":
        those that occur in :meth:`fit`.

    max_categories : int, default=None
        Maximum number of inputs for a categorical column. The least frequent levels
        share the last input, as in :class:`~sklearn.preprocessing.OneHotEncoder`.

    min_frequency : int or float, default=None
        Levels of fewer samples, or of a smaller share of them, share an input.

    handle_unknown : {"warn", "error"}, default="warn"
        What to do with a level that was not seen in :meth:`fit`: it counts as one that
        is very rare, with a warning, or is an error.

    Attributes
    ----------
    estimators_ : list of estimator
        The fitted networks, which see standardized features (unless their loss or
        output activation limits the range of data). Those of a table with categories
        take tables whose numbers are standardized.

    offset_ : float
        ``decision_function(X) = score_samples(X) - offset_``.

    n_features_in_ : int
        Number of features seen during :term:`fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during :term:`fit`. Defined only when `X`
        has feature names that are all strings.

    See Also
    --------
    sklearn.ensemble.IsolationForest : Isolates samples by random splits of features.
    sklearn.neighbors.LocalOutlierFactor : Compares densities of neighbors.
    sklearn.covariance.EllipticEnvelope : A robust Mahalanobis distance.

    Notes
    -----
    Missing values, NaN, do not count: the score is the mean over the observed
    features. Scores of a sample depend neither on other samples nor on what else is in
    the call.

    Tables with categories, such as data frames, need no encoding. The networks see
    standardized numbers and a group of inputs for each categorical column, and each
    column counts once in the score: a category by its deviance, minus the logarithm of
    the probability that the network gives its level, in units of the usual deviance of
    the column (at least 0.2 nats). A probability p counts as ``(n p + 1) / (n + 1)``
    with the n training samples of the network: a level that was not seen in :meth:`fit`
    has 1 / (n + 1), because for a detector it is a finding, not a missing value. With a
    variational autoencoder a category counts by its part of the evidence lower bound.

    Examples
    --------
    >>> import numpy as np
    >>> from skae import AutoencoderOutlierDetector
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=300)
    >>> X = np.column_stack([x, 2 * x]) + 0.1 * rng.normal(size=(300, 2))
    >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X)
    >>> detector.predict([[1, 2], [1, -2]])
    array([ 1, -1])
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "estimator": [AutoencoderTransformer, VariationalAutoencoderTransformer, None],
        "contamination": [
            Names(["auto"]),
            Interval(numbers.Real, 0, 0.5, closed="right"),
        ],
        "random_state": ["random_state"],
        **TABLE_CONSTRAINTS,
    }

    offset_: float
    # How tables with categories become matrices; None if there are only numbers.
    _table: Table | None = None

    def __init__(
        self,
        estimator: AutoencoderTransformer
        | VariationalAutoencoderTransformer
        | None = None,
        *,
        contamination: float | str = "auto",
        random_state: int | np.random.RandomState | None = None,
        categorical_features: Any = "from_dtype",
        categories: Any = "auto",
        max_categories: int | None = None,
        min_frequency: int | float | None = None,
        handle_unknown: str = "warn",
    ):
        self.estimator = estimator
        self.contamination = contamination
        self.random_state = random_state
        self.categorical_features = categorical_features
        self.categories = categories
        self.max_categories = max_categories
        self.min_frequency = min_frequency
        self.handle_unknown = handle_unknown

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: MatrixLike,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit the networks and the distributions of their codes and residuals.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples, with or without outliers.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; None is 1 for every sample.

        groups : array-like of shape (n_samples,), default=None
            Labels of groups of samples that belong together, which are held out
            together: without this, p-values are too small for samples of new groups.
            Near copies and neighbors in a series are noticed without labels; see
            :meth:`AutoencoderTransformer.fit`.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If the data or the parameters of `estimator` are not valid. The detector is
            left as it was.

        Warns
        -----
        UserWarning
            If X is a Dask array or dataframe, because its data are gathered in memory.
        """
        warn_of_dask(X)
        before = vars(self).copy()
        try:
            if self.estimator is not None:
                self.estimator._validate_params()
            self.__dict__.pop("_table", None)
            table = read_tables(self, [X])
            if table is not None:
                self._table = table
            checked = self._checked(X, reset=True)
            check_observed(checked)
            groups = check_groups(groups, checked.matrix.shape[0])
            self._dtype = checked.matrix.dtype.name
            samples = Samples(*checked)
            if table is not None:
                samples = samples._replace(groups=table.groups)
            if sample_weight is not None:
                weights = check_weights(sample_weight, checked.matrix.shape[0])
                weighted = samples._replace(weights=weights)
                numbers, samples = _without_weights(weighted)
                groups = None if groups is None else groups[numbers]
                if samples.weights is not None:
                    self._check_takes_weights()
            self._fit(samples, groups)
        except BaseException:
            self.__dict__ = before
            raise
        return self

    def score_samples(self, X: MatrixLike) -> np.ndarray:
        """Negative scores of samples: the higher, the more normal.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Negative means of the squared deviations: about -1 for usual samples.
        """
        scores: np.ndarray = -np.mean(self._scores(X), axis=0)
        return scores

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """How far samples are from the threshold: negative for outliers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        decision : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``.
        """
        decision: np.ndarray = self.score_samples(X) - self.offset_
        return decision

    def predict(self, X: MatrixLike, *, alpha: float | None = None) -> np.ndarray:
        """Tell outliers from the rest.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        alpha : float, default=None
            Share of new, normal samples that may be called outliers, in (0, 1): a
            sample is one if its p-value is at most `alpha`. None: it is one if its
            decision function is negative.

        Returns
        -------
        is_inlier : ndarray of shape (n_samples,), dtype=int
            -1 for outliers, 1 for the rest.
        """
        if alpha is None:
            return np.where(self.decision_function(X) < 0, -1, 1)
        given: Any = alpha
        if not isinstance(given, numbers.Real) or not 0 < alpha < 1:
            raise ValueError(
                f"alpha={alpha!r} is not between 0 and 1: pass a share of false "
                "alarms, such as 0.01, or None to use offset_"
            )
        return np.where(self.p_values(X) <= alpha, -1, 1)

    def p_values(self, X: MatrixLike) -> np.ndarray:
        """Share of normal samples that are at least as odd as each sample.

        If samples are like those of the fit, their p-values are uniformly distributed:
        the share of them with a p-value of at most 0.05 is 0.05.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            New samples, or training samples (not if these are related to each other).

        Returns
        -------
        p_values : ndarray of shape (n_samples,)
            In (0, 1]. The least possible value is ``1 / (1 + n)`` with the n samples
            that are held out from one model, a third of all. Those of similar samples
            need not be in the order of scores, which are means over the models.

        Notes
        -----
        These are conformal p-values: the rank of a sample among those that are held out
        from a model, by its scores. A hash of the sample's values decides which model
        that is; of a training sample, the one that it is held out from. Bates, Candès,
        Lei, Romano & Sesia, "Testing for outliers with conformal p-values", 2023.
        """
        matrix, has_missing = self._checked(X)
        folds = folds_of(Samples(matrix, has_missing).rows, len(self._models))
        p_values = np.empty(matrix.shape[0])
        models = zip(self._models, self._held_out, strict=True)
        for number, (model, held_out) in enumerate(models):
            chosen = np.flatnonzero(folds == number)
            p_values[chosen] = held_out.p_values(model.scores(matrix[chosen]))
        return p_values

    def feature_scores(self, X: MatrixLike, *, as_frame: bool = False) -> Any:
        """Divide the scores of samples among the features.

        A score is divided among the entries in proportion to how much it falls if an
        entry has the value, or the level, that the rest of the sample suggests. So an
        entry can be to blame that is unusual only beside the others.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples. It takes as long as scores of `n_features` times as many.

        as_frame : bool, default=False
            Whether to return a pandas DataFrame, with the names of the features and the
            index of X.

        Returns
        -------
        contributions : ndarray or DataFrame of shape (n_samples, n_features)
            Not negative; 0 for missing values. Their sums over features are
            ``-score_samples(X)``.
        """
        if as_frame:
            check_installed("as_frame=True", "pandas")
        matrix = self._checked(X).matrix
        contributions = np.zeros((matrix.shape[0], self.n_features_in_))
        for model in self._models:
            for batch, shares in model.contributions(matrix):
                contributions[batch] += shares / len(self._models)
        if self._table is not None:
            contributions = contributions.take(self._table.places, axis=1)
        if not as_frame:
            return contributions
        import pandas as pd

        index = X.index if isinstance(X, pd.DataFrame) else None
        names = _check_feature_names_in(self)
        return pd.DataFrame(contributions, columns=names, index=index)

    @property
    def estimators_(self) -> list[Any]:
        """The fitted networks."""
        if "_models" not in vars(self):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute 'estimators_' before "
                "it is fitted"
            )
        return [model.network for model in self._models]

    def __sklearn_is_fitted__(self) -> bool:
        return "_models" in vars(self)

    def __getstate__(self) -> dict[str, Any]:
        """The state in plain containers, for pickles and for files.

        The networks have the table, too.
        """
        state = {**super().__getstate__()}
        state.pop("_table", None)
        if "_models" in state:
            state["estimators_"] = self.estimators_
            state["_models"] = [model.as_dict() for model in self._models]
            state["_held_out"] = [of_model._asdict() for of_model in self._held_out]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = state.copy()
        networks = state.pop("estimators_", [])
        super().__setstate__(state)
        if networks:
            pairs = zip(networks, state["_models"], strict=True)
            self._models = [OutlierScore.from_dict(*pair) for pair in pairs]
            self._held_out = [_HeldOut(**of_model) for of_model in state["_held_out"]]
            self._table = networks[0]._table

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        if isinstance(self.estimator, BaseEstimator):
            of_network = self.estimator.__sklearn_tags__().input_tags
            tags.input_tags.positive_only = of_network.positive_only
        return tags

    # -- private --------------------------------------------------------------------

    def _checked(self, X: MatrixLike, *, reset: bool = False) -> Checked:
        """Validate samples; the loss of the networks may limit their range."""
        limits = None
        if not reset:
            check_is_fitted(self)
            network = self._models[0].network
            limits = loss_range(network._training_state.loss)
        elif self.estimator is not None:
            limits = loss_range(self.estimator.loss)
        if self._table is None:
            return check_rows(self, X, (np.float64, np.float32), limits, reset=reset)
        checked = check_table(
            self,
            X,
            self._table,
            reset=reset,
            handle_unknown=self.handle_unknown,
            marks_unknown=True,
        )
        return checked._replace(matrix=check_range(checked.matrix, limits))

    def _check_takes_weights(self) -> None:
        """Raise ValueError if the networks do not take sample weights."""
        if self.estimator is not None and self.estimator._codes_are_distributions:
            raise ValueError(
                f"sample_weight must be whole numbers, {_MOST_REPEATED} in all at "
                f"most, for estimator={self.estimator!r}, which takes no weights: "
                "round them"
            )

    def _fit(self, samples: Samples, groups: np.ndarray | None) -> None:
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(np.iinfo(np.int32).max))
        unit = n_plain = None
        if self._table is not None:
            unit, n_plain = Standardization.of(samples).spread, samples.n_plain
        args = samples.rows, _N_MODELS, seed, groups, unit, n_plain
        order, of_samples, groups = in_folds(*args)
        samples, is_together = samples.take(order), bool((of_samples < 0).all())
        whole = Standardization.of(samples.some())
        is_in_core, models, held_out = core(samples, whole), [], []
        for number in range(1 if is_together else _N_MODELS):
            is_left = (of_samples == number) | is_together
            train = np.flatnonzero(is_in_core & (is_together | ~is_left))
            of_train = None if groups is None else groups[train]
            network = self._network(seed + number)
            taken = samples.take(train)
            with interrupt_ends_all():  # not this network alone
                model = OutlierScore.fit(network, taken, whole, of_train, self._table)
            left = samples.take(np.flatnonzero(is_left))
            held_out.append(_HeldOut.of(model.scores(left.matrix), left.sample_weights))
            models.append(model)
        self._models, self._held_out = models, held_out
        if self.contamination == "auto":
            self.offset_ = -_fence(held_out, has_categories=self._table is not None)
        else:
            scores = np.mean([model.scores(samples.matrix) for model in models], axis=0)
            share = float(self.contamination)
            self.offset_ = -_threshold(scores, samples.sample_weights, share)

    def _network(self, seed: int) -> Any:
        """A network that is to be trained."""
        if self.estimator is not None:
            network = clone(self.estimator)
            if network.random_state is None:
                network.set_params(random_state=seed)
            return network.set_params(categorical_features=None)
        return AutoencoderTransformer(_N_COMPONENTS, random_state=seed)

    def _scores(self, X: MatrixLike) -> list[Floats]:
        """Scores of samples by each model."""
        matrix = self._checked(X).matrix
        return [model.scores(matrix) for model in self._models]


def _without_weights(samples: Samples) -> tuple[np.ndarray, Samples]:
    """Samples, each as often as its weight, and their numbers.

    If that is not possible, or many, only those without a weight are left out.
    """
    weights = samples.sample_weights
    if (weights % 1).any() or weights.sum() > _MOST_REPEATED:
        numbers = np.flatnonzero(weights)
        return numbers, samples.take(numbers)
    numbers = np.repeat(np.arange(len(weights)), weights.astype(np.int64))
    return numbers, samples.take(numbers)._replace(weights=None)


def _fence(held_out: list[_HeldOut], *, has_categories: bool) -> float:
    """A limit that few scores of held-out samples exceed, but those of outliers do."""
    scores = np.concatenate([of_model.scores for of_model in held_out])
    weights = np.concatenate([-np.diff(of_model.weights) for of_model in held_out])
    limit = box_plot_limit(scores, weights, _RANGES_BEYOND)
    limit = min(limit, _threshold(scores, weights, _LEAST_BEYOND))
    return max(limit, highest_common(scores, weights)) if has_categories else limit


def _threshold(scores: Floats, weights: Floats, share: float) -> float:
    """A number that a share of the scores, by weight, exceeds; fewer if there are ties.

    It is the middle between two scores, or the lower one if there is none.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, up_to = scores[order], np.cumsum(weights[order])
    # A sample exceeds it if at least half of its weight is within the share.
    is_within = up_to - weights[order] / 2 <= share * up_to[-1]
    n_within = int(is_within.sum())
    if n_within in (0, len(scores)):
        return float(ordered[0 if n_within == 0 else -1])
    above, below = ordered[n_within - 1 : n_within + 1]
    middle = below + (above - below) / 2
    return float(middle if middle < above else below)
