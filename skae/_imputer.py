"""AutoencoderImputer: missing values are predicted by a distribution and a network."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.impute import MissingIndicator
from sklearn.utils import check_array, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skae._autoencoder import AutoencoderTransformer
from skae._base import callback_kwargs_of
from skae._data.gaussian import Expectation, Gaussian, fit_gaussian
from skae._data.hiding import HidingRows, as_rows, hide
from skae._data.rows import Rows, make_rows
from skae._data.validation import Checked, check_rows
from skae._runtime.blas import single_threaded_blas
from skae._sklearn import (
    DocumentedMixin,
    Function,
    MissingValues,
    _fit_context,
    with_callbacks,
)
from skae._training.reporting import warn_of_dask
from skae._training.settings import value_range
from skae._training.weight_selection import LEFT_OUT, confident_gain
from skae._typing import Floats

# With more features the distribution has so many directions only.
_MOST_FEATURES, _N_DIRECTIONS = 64, 32
# The network of estimator=None. With hidden layers of this width, and this penalty and
# rate, errors are least, on average over seven data sets with 20 and 50 % missing.
_NETWORK: dict[str, Any] = {
    "hidden_layer_sizes": (128, 128),
    "alpha": 1e-3,
    "learning_rate_init": 1e-3,
    "batch_size": 128,
    "n_iter_no_change": np.inf,
}
# Updates of its weights for each sample, and limits of them. Networks of few samples
# are little better than the distribution.
_UPDATES_PER_SAMPLE, _FEWEST_UPDATES, _MOST_UPDATES = 8, 1000, 10_000
# An epoch of few samples has each of them several times, with other entries hidden.
_ROWS_OF_EPOCH = 2000
# Samples that the network is trained on, and that are held out, at most.
_MOST_SAMPLES, _MOST_HELD_OUT = 50_000, 5_000
# Share of the samples by which the network's weight is chosen, the least number of them
# (with fewer there is no network), how often each is used, and the share of entries
# that it hides: few, so that it lacks hardly more than those to be imputed.
_HELD_OUT, _LEAST_HELD_OUT, _N_COPIES, _HIDDEN_SHARE = 0.2, 40, 5, 0.15
# Entries farther from the mean, in standard deviations, are taken for such ones: the
# network computes in float32.
LARGEST_DEVIATION = 1e6
# Standard deviations that its weight is below the best one for these samples.
_DEVIATIONS = 1.0


def _adds_indicators(imputer: Any) -> bool:
    """Raise AttributeError if the result has no indicators; else True."""
    if not imputer.add_indicator:
        raise AttributeError(
            "inverse_transform needs indicators of missing values: fit with "
            "add_indicator=True"
        )
    return True


_with_indicators: Callable[[Function], Function] = available_if(_adds_indicators)


class _HidesEntries:
    """Makes an autoencoder one whose training rows hide entries, new in each epoch."""

    _draws_noise = True

    @with_callbacks
    def fit_to_hidden(self: Any, data: HidingRows, validation: Rows) -> None:
        """Train to predict what is hidden."""
        self.n_features_in_ = data.n_features
        self._fit(data, None, validation, None, callback_kwargs_of(None))


class AutoencoderImputer(DocumentedMixin, TransformerMixin, BaseEstimator):
    """Imputation of missing values by a normal distribution and an autoencoder.

    A normal distribution is fitted to the observed entries by the EM algorithm, and
    predicts each missing value by its expectation given the rest of the sample. An
    autoencoder, which learns to predict entries that are hidden from it, corrects these
    predictions by as much as held-out entries say that it improves them. New samples
    are imputed, too; they do not depend on each other.

    Parameters
    ----------
    estimator : AutoencoderTransformer, default=None
        The network, which is cloned. If one is given, its parameters can be searched
        over, as ``estimator__hidden_layer_sizes``. Its code need not be narrow; its
        loss and output must not be limited to a range, and its solver not "lbfgs".
        None: two hidden layers of 128 units, and a code as wide as the data.

    missing_values : int, float, np.nan, None or pandas.NA, default=np.nan
        Number that stands for a missing value. NaN, None and pandas.NA are the same:
        with each of them, all three are missing values.

    sample_posterior : bool, default=False
        Whether :meth:`transform` draws values from their distribution given the rest of
        the sample, instead of predicting them. Several such tables show how uncertain
        an analysis is because of the missing values ("multiple imputation"). It can be
        set after :meth:`fit`, and so can `random_state`.

    add_indicator : bool, default=False
        Whether to append an indicator column for each feature that had missing values
        in :meth:`fit`, as by :class:`~sklearn.impute.MissingIndicator`.

    keep_empty_features : bool, default=False
        Whether to keep features without any value in :meth:`fit`, with zeros for
        missing values. Otherwise they are not in the result.

    random_state : int, RandomState instance or None, default=None
        Determines the network's training, the samples that are held out, and what
        `sample_posterior` draws.

    Attributes
    ----------
    estimator_ : AutoencoderTransformer or None
        The fitted network, which sees standardized features; None if there were too few
        samples.

    weight_ : ndarray of shape (n_features_kept,)
        Share of the network in the predictions of each feature that is kept, in [0, 1];
        the rest is the normal distribution's.

    mean_ : ndarray of shape (n_features,)
        Mean of the observed entries; NaN for a feature that has none.

    indicator_ : MissingIndicator or None
        What appends indicators.

    n_features_in_ : int
        Number of features seen during :term:`fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during :term:`fit`. Defined only when `X`
        has feature names that are all strings.

    See Also
    --------
    sklearn.impute.KNNImputer : Means of the nearest samples.
    sklearn.impute.IterativeImputer : Regressions of each feature on the others.
    AutoencoderTransformer : Takes missing values itself.

    Notes
    -----
    Observed values keep their bits. Predictions, but not draws, are no farther from the
    range of a feature's observed values than this is wide.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderImputer
    >>> X = load_iris().data
    >>> incomplete = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    >>> imputed = AutoencoderImputer(random_state=0).fit_transform(incomplete)
    >>> missing = np.isnan(incomplete)
    >>> error = np.abs(imputed - X)[missing].mean()
    >>> bool(error < 0.5 * np.abs(X - X.mean(axis=0))[missing].mean())
    True
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "estimator": [AutoencoderTransformer, None],
        "missing_values": [MissingValues(numeric_only=True), None],
        "sample_posterior": ["boolean"],
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
        "random_state": ["random_state"],
    }

    estimator_: AutoencoderTransformer | None
    indicator_: Any
    mean_: Floats
    weight_: Floats

    def __init__(
        self,
        estimator: AutoencoderTransformer | None = None,
        *,
        missing_values: Any = np.nan,
        sample_posterior: bool = False,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.missing_values = missing_values
        self.sample_posterior = sample_posterior
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Fit the distribution, and train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data. Complete samples are used, too.

        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self : object
            The fitted imputer.

        Raises
        ------
        ValueError
            If X is not valid, or a parameter, such as one of `estimator`.

        Warns
        -----
        UserWarning
            If X is a Dask array or dataframe, because its data are gathered in memory.
        """
        if self.estimator is not None:
            _check_network(self.estimator)
        warn_of_dask(X)
        before = vars(self).copy()
        try:
            self._fit(self._validated(X, reset=True))
        except BaseException:
            self.__dict__ = before
            raise
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Impute missing values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        X_imputed : ndarray of shape (n_samples, n_features_out)
            Samples without missing values, and indicators with `add_indicator`.
        """
        check_is_fitted(self)
        rows = self._validated(X)
        is_missing = np.isnan(rows)
        imputed, is_kept = np.where(is_missing, 0, rows), self._is_kept
        lacking = np.flatnonzero(is_missing[:, is_kept].any(axis=1))
        if lacking.size:
            part = rows[np.ix_(lacking, is_kept)]
            predicted = self._predicted(part.astype(np.float64))
            largest = np.finfo(rows.dtype).max
            predicted = np.clip(predicted, -largest, largest)
            part = np.where(np.isnan(part), predicted, part)
            imputed[np.ix_(lacking, is_kept)] = part
        if not self.keep_empty_features:
            imputed = imputed[:, is_kept]
        if self.indicator_ is not None:
            imputed = np.hstack([imputed, self.indicator_.transform(rows)])
        return imputed

    @_with_indicators
    def inverse_transform(self, X: ArrayLike) -> np.ndarray:
        """Put missing values back where indicators say so.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_out)
            Imputed samples with indicators: only with ``add_indicator=True``.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Samples with `missing_values` where values were imputed, in features that
            had missing values in :meth:`fit`.
        """
        check_is_fitted(self)
        rows: np.ndarray = check_array(X, dtype=(np.float64, np.float32))
        present = self._features_out()
        expected = len(present) + len(self.indicator_.features_)
        if rows.shape[1] != expected:
            raise ValueError(
                f"X has {rows.shape[1]} features, but inverse_transform expects "
                f"{expected}: {len(present)} and the indicators"
            )
        original = np.full((len(rows), self.n_features_in_), np.nan, rows.dtype)
        original[:, present] = rows[:, : len(present)]
        for column, feature in enumerate(self.indicator_.features_, len(present)):
            original[rows[:, column] != 0, feature] = np.nan
        if isinstance(self.missing_values, numbers.Real):
            original[np.isnan(original)] = self.missing_values
        return original

    def get_feature_names_out(
        self, input_features: ArrayLike | None = None
    ) -> np.ndarray:
        """Get names of the features of the result.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the features; None: `feature_names_in_`, or "x0", "x1", ...

        Returns
        -------
        feature_names_out : ndarray of str
            Names of the features that are kept, and of their indicators.
        """
        check_is_fitted(self)
        given = _check_feature_names_in(self, input_features)
        names: np.ndarray = given[self._features_out()]
        if self.indicator_ is None:
            return names
        return np.concatenate([names, self.indicator_.get_feature_names_out(given)])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # -- private --------------------------------------------------------------------

    @property
    def _is_kept(self) -> np.ndarray:
        """Whether each feature had a value in the fit."""
        return ~np.isnan(self.mean_)

    def _features_out(self) -> np.ndarray:
        """Numbers of the features that are kept."""
        if self.keep_empty_features:
            return np.arange(self.n_features_in_)
        return np.flatnonzero(self._is_kept)

    def _validated(self, X: ArrayLike, *, reset: bool = False) -> np.ndarray:
        """Samples as an array, in which missing values are NaN."""
        dtype = (np.float64, np.float32)
        checked = check_rows(self, X, dtype, reset=reset, accept_sparse=False)
        rows, value = np.asarray(checked.matrix), self.missing_values
        if not isinstance(value, numbers.Real) or math.isnan(value):
            return rows
        if checked.has_missing:
            raise ValueError(
                f"Input X contains NaN, but missing_values={value!r}: use np.nan if "
                "NaN is a missing value"
            )
        return np.where(rows == float(value), np.nan, rows)

    def _fit(self, X: np.ndarray) -> None:
        """Fit to an array in which missing values are NaN."""
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(np.iinfo(np.int32).max))
        is_kept, self._dtype = ~np.isnan(X).all(axis=0), X.dtype.name
        self.indicator_ = None
        if self.add_indicator:
            self.indicator_ = MissingIndicator(error_on_new=False).fit(X)
        kept = X[:, is_kept].astype(np.float64)
        n_kept = kept.shape[1]
        self.estimator_, self.mean_ = None, np.full(X.shape[1], np.nan)
        self.weight_ = np.zeros(n_kept)
        self._calibration: Floats = np.ones(n_kept)
        self._measure(kept, is_kept)
        gaussian = Gaussian.without_directions(np.zeros(n_kept))
        if n_kept:
            rows = self._standardized(kept)
            n_directions = n_kept if n_kept <= _MOST_FEATURES else _N_DIRECTIONS
            with single_threaded_blas():
                data = make_rows(rows, has_missing=True)
                gaussian = fit_gaussian(data, n_directions, seed=seed)
        self._gaussian = gaussian._asdict()
        if n_kept:
            self._train(rows, seed)

    def _measure(self, kept: Floats, is_kept: np.ndarray) -> None:
        """Means, spreads and ranges of the features that are kept."""
        # In units of the largest number, and deviation, nothing overflows or vanishes.
        unit = _powers_of_two(np.nanmax(np.abs(kept), axis=0, initial=0))
        scaled = kept / unit
        mean = np.nanmean(scaled, axis=0)
        self.mean_[is_kept] = unit * mean
        size = _powers_of_two(np.nanmax(np.abs(scaled - mean), axis=0, initial=0))
        spread = unit * (size * np.nanstd((scaled - mean) / size, axis=0))
        self._spread: Floats = np.where(spread > 0, spread, 1.0)
        lowest, highest = np.nanmin(kept, axis=0), np.nanmax(kept, axis=0)
        largest = np.finfo(np.float64).max
        with np.errstate(over="ignore"):
            margin = highest - lowest
            self._lowest = np.maximum(lowest - margin, -largest)
            self._highest = np.minimum(highest + margin, largest)

    def _standardized(self, kept: Floats) -> Floats:
        """Samples in units of the features' spreads."""
        unit = _powers_of_two(self._spread)  # against overflow, as in `_measure`
        with np.errstate(over="ignore"):
            rows: Floats = kept / unit - self.mean_[self._is_kept] / unit
            rows /= self._spread / unit
        return np.clip(rows, -LARGEST_DEVIATION, LARGEST_DEVIATION)

    def _expectation(self) -> Expectation:
        """What the distribution expects of standardized samples."""
        return Expectation(Gaussian(**self._gaussian))

    def _train(self, rows: Floats, seed: int) -> None:
        """Train the network on standardized rows, and choose its weight."""
        n_features = rows.shape[1]
        rng = np.random.RandomState(seed)
        order = rng.permutation(np.flatnonzero(~np.isnan(rows).all(axis=1)))
        n_held_out = min(int(_HELD_OUT * len(order)), _MOST_HELD_OUT)
        if n_features < 2 or n_held_out < _LEAST_HELD_OUT:
            return
        held_out = np.tile(rows[order[:n_held_out]], (_N_COPIES, 1))
        train = rows[order[n_held_out:][:_MOST_SAMPLES]]
        hidden = rng.random_sample(held_out.shape) < _HIDDEN_SHARE
        hidden &= ~np.isnan(held_out)
        if not hidden.any():
            return
        expectation = self._expectation()
        seen, targets = hide(held_out, expectation, hidden)
        network = self._network(len(train), n_features, seed)
        n_copies = -(-_ROWS_OF_EPOCH // len(train))
        data = HidingRows(np.tile(train, (n_copies, 1)), expectation, seed)
        kind = type(network)
        network.__class__ = type(kind.__name__, (_HidesEntries, kind), {})
        network.fit_to_hidden(data, as_rows(seen, targets))
        network.__class__ = kind  # users need not know the other
        self.estimator_ = network
        errors = np.where(hidden, targets - seen, 0.0)
        changes = np.where(hidden, _reconstructed(network, seen) - seen, 0.0)
        units = np.tile(np.arange(n_held_out), _N_COPIES)
        self.weight_ = _weights(errors, changes, units)
        drawn = np.where(hidden, self._deviations(hidden, rng), 0.0)
        self._calibration = _ratios(errors - self.weight_ * changes, drawn)

    def _deviations(self, is_missing: np.ndarray, rng: np.random.RandomState) -> Floats:
        """Draws of missing entries, less their expectations.

        Their distribution is the same for all observed entries: it is drawn by hiding
        entries of rows that are drawn from the whole distribution.
        """
        mean, loadings, noise = Gaussian(**self._gaussian)
        n_rows, n_directions = len(is_missing), loadings.shape[1]
        scores = rng.standard_normal((n_rows, n_directions))
        # Not a product by BLAS, whose bits depend on its number of threads.
        rows: Floats = mean + np.einsum("ia,ja->ij", scores, loadings)
        rows += math.sqrt(noise) * rng.standard_normal(rows.shape)
        expected = np.where(is_missing, np.nan, rows)
        self._expectation().fill(expected)
        return rows - expected

    def _predicted(self, X: Floats) -> Floats:
        """Samples with the features that are kept, with values for missing ones."""
        mean, is_missing = self.mean_[self._is_kept], np.isnan(X)
        rows = self._standardized(X)
        self._expectation().fill(rows)
        if self.estimator_ is not None:
            rows += self.weight_ * (_reconstructed(self.estimator_, rows) - rows)
        if self.sample_posterior:
            rng = check_random_state(self.random_state)
            rows += self._calibration * self._deviations(is_missing, rng)
        with np.errstate(over="ignore"):
            found: Floats = rows * self._spread + mean
        if self.sample_posterior:
            return found
        return np.clip(found, self._lowest, self._highest)

    def _network(self, n_rows: int, n_features: int, seed: int) -> Any:
        """The network that is to be trained."""
        if self.estimator is not None:
            network = clone(self.estimator)
            if network.random_state is None:
                network.random_state = seed
            return network
        n_updates = _UPDATES_PER_SAMPLE * n_rows
        n_updates = min(max(n_updates, _FEWEST_UPDATES), _MOST_UPDATES)
        n_rows *= -(-_ROWS_OF_EPOCH // n_rows)
        n_batches = -(-n_rows // _NETWORK["batch_size"])
        return AutoencoderTransformer(
            n_features,
            max_iter=-(-n_updates // n_batches),
            random_state=seed,
            **_NETWORK,
        )


def _check_network(network: AutoencoderTransformer) -> None:
    """Raise ValueError if a network cannot predict hidden, standardized entries."""
    network._validate_params()
    if network.solver == "lbfgs":
        raise ValueError(
            "estimator has solver='lbfgs', which needs the same samples in every "
            "step, but other entries are hidden in each epoch: use 'adam'"
        )
    limits = value_range(network)
    if limits is not None:
        other = "squared_error" if limits.is_strict else "identity"
        raise ValueError(
            f"estimator has {limits.parameter}={limits.value!r}, whose values are in "
            f"[{limits.low:g}, {limits.high:g}], but it is trained on standardized "
            f"features, which have any: use {limits.parameter}={other!r}"
        )


def _powers_of_two(values: Floats) -> Floats:
    """The powers of two that are next to positive values; 1 for zeros."""
    exponents = np.where(values > 0, np.frexp(values)[1] - 1, 0)
    powers: Floats = np.ldexp(1.0, exponents)
    return powers


def _reconstructed(network: AutoencoderTransformer, rows: Floats) -> Floats:
    """What a network makes of standardized rows without missing entries."""
    # Not by `transform`, which may give data frames.
    seen = Checked(rows.astype(np.float32, copy=False), has_missing=False)
    found = [part for _, _, part in network._reconstructions(seen)]
    return np.concatenate(found).astype(np.float64)


def _weights(errors: Floats, changes: Floats, units: np.ndarray) -> Floats:
    """By how much of changes the errors of predictions should be corrected.

    Least squares over the entries of each feature, as if there were also so many of all
    features together; in [0, 1], and no more than without the samples that gain most.
    They are smaller by as much as they are uncertain, and all 0 unless errors become
    smaller with confidence.

    Parameters
    ----------
    errors, changes : ndarray of shape (n_rows, n_features)
        Zero for entries that do not count.

    units : ndarray of shape (n_rows,)
        Numbers of the samples that the rows are copies of.

    Returns
    -------
    weights : ndarray of shape (n_features,)
    """
    products, squares = _by_unit(errors * changes, units), _by_unit(changes**2, units)
    weights = _least_squares(products, squares)
    gains = 2 * weights * products - weights**2 * squares
    n_left_out = math.ceil(LEFT_OUT * len(gains))
    most = np.argpartition(-gains, n_left_out, axis=0)[:n_left_out]
    for sums in (products, squares):
        np.put_along_axis(sums, most, 0.0, axis=0)
    weights = np.minimum(weights, _least_squares(products, squares))
    return weights * _certainty(errors, weights * changes, units)


def _certainty(errors: Floats, changes: Floats, units: np.ndarray) -> float:
    """Lower bound of the factor of changes that corrects errors best; 0 to 1."""
    products = np.bincount(units, (errors * changes).sum(axis=1))
    squares = np.bincount(units, (changes**2).sum(axis=1))
    shares = np.bincount(units) / len(units)
    if confident_gain(2 * products - squares, shares) <= 0:
        return 0.0
    factor = products.sum() / squares.sum()
    residuals = products - factor * squares
    deviation = math.sqrt(float(residuals @ residuals)) / squares.sum()
    return float(np.clip(1 - _DEVIATIONS * deviation / factor, 0, 1))


def _by_unit(values: Floats, units: np.ndarray) -> Floats:
    """Sums of rows over units, of shape (n_units, n_features)."""
    sums = np.zeros((units.max() + 1, values.shape[1]))
    np.add.at(sums, units, values)
    return sums


def _pooled_sums(values: Floats) -> Floats:
    """Sums for each feature, plus their mean: features of few entries are as others."""
    sums: Floats = values.sum(axis=0)
    sums += sums.mean()
    return sums


def _least_squares(products: Floats, squares: Floats) -> Floats:
    """Factors in [0, 1] of changes, given their products with errors and squares."""
    of_errors, of_changes = _pooled_sums(products), _pooled_sums(squares)
    factors: Floats = of_errors / np.where(of_changes > 0, of_changes, 1)
    return np.clip(factors, 0, 1)


def _ratios(errors: Floats, drawn: Floats) -> Floats:
    """Ratios of the root mean squares of errors to those of what was drawn for them."""
    of_errors, of_drawn = _pooled_sums(errors**2), _pooled_sums(drawn**2)
    ratios: Floats = np.sqrt(of_errors / np.where(of_drawn > 0, of_drawn, 1))
    return ratios
