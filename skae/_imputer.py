"""AutoencoderImputer: missing values are predicted by a distribution and a network."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, Self, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.impute import MissingIndicator
from sklearn.utils import check_array, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skae._autoencoder import AutoencoderTransformer
from skae._base.autoencoder import (
    TABLE_CONSTRAINTS,
    callback_kwargs_of,
    defaults,
)
from skae._data.frames import FRAMES, Frame, frame_of, gathered, in_library, marked
from skae._data.gaussian import Expectation, Gaussian, fit_gaussian
from skae._data.hiding import HidingRows, as_rows, hide
from skae._data.mixed import Mixed, MixedExpectation, chosen_levels
from skae._data.rows import Rows, make_rows, row_chunks
from skae._data.tables import Table
from skae._data.validation import Checked, check_frame, check_rows, read_tables
from skae._model.groups import probabilities
from skae._runtime.blas import single_threaded_blas
from skae._sklearn import (
    DocumentedMixin,
    Function,
    MissingValues,
    _fit_context,
    _get_output_config,
    with_callbacks,
)
from skae._training.correction import ratios, weights_of_changes, weights_of_mixed
from skae._training.reporting import warn_of_dask
from skae._training.settings import value_range
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
# What differs for tables with categories: chosen on Adult and two others, of 2,000
# samples, with 20 % missing. More layers, or updates, fit these too closely.
_MIXED_NETWORK: dict[str, Any] = {
    "hidden_layer_sizes": (128,),
    "learning_rate_init": 2e-3,
}
# Updates of its weights for each sample, and limits of them. Networks of few samples
# are little better than the distribution.
_UPDATES_PER_SAMPLE, _FEWEST_UPDATES, _MOST_UPDATES = 8, 1000, 10_000
_MIXED_UPDATES_PER_SAMPLE = 1.5
# Updates times inputs, at most: with many levels each update takes longer.
_MOST_UPDATED_INPUTS = 1_000_000
# An epoch of few samples has each of them several times, with other entries hidden.
_ROWS_OF_EPOCH = 2000
# Samples that the network is trained on, and that are held out, at most.
_MOST_SAMPLES, _MOST_HELD_OUT = 50_000, 5_000
# Fewer of tables with many levels: entries of a matrix of all of them, at most.
_MOST_ENTRIES = 5_000_000
# Share of the samples by which the network's weight is chosen, the least number of them
# (with fewer there is no network), how often each is used, and the share of entries
# that it hides: few, so that it lacks hardly more than those to be imputed.
_HELD_OUT, _LEAST_HELD_OUT, _N_COPIES, _HIDDEN_SHARE = 0.2, 40, 5, 0.15
# Entries farther from the mean, in standard deviations, are taken for such ones: the
# network computes in float32.
LARGEST_DEVIATION = 1e6


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
        self.n_features_in_ = data.n_columns
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
        None: two hidden layers of 128 units, or one for tables with categories, and a
        code as wide as the data.

    missing_values : int, float, str, np.nan, None or pandas.NA, default=np.nan
        What stands for a missing value. NaN, None and pandas.NA are the same: with each
        of them, and with a string, such as "?", all three are missing values. A number
        does not stand for missing strings or booleans.

    sample_posterior : bool, default=False
        Whether :meth:`transform` draws values from their distribution given the rest of
        the sample, instead of predicting them; categories by their probabilities, each
        column by itself. Several such tables show how uncertain an analysis is because
        of the missing values ("multiple imputation"). It can be set after :meth:`fit`,
        and so can `random_state`.

    add_indicator : bool, default=False
        Whether to append an indicator column for each feature that had missing values
        in :meth:`fit`, as by :class:`~sklearn.impute.MissingIndicator`.

    keep_empty_features : bool, default=False
        Whether to keep features without any value in :meth:`fit`, with zeros for
        missing numbers; missing categories stay so. Otherwise they are not in the
        result.

    categorical_features : "from_dtype", array-like or None, default="from_dtype"
        Which columns are categories, as for :class:`AutoencoderTransformer`: names,
        numbers, or a mask; "from_dtype": those of dataframes and arrays that are
        categorical, strings, booleans, or objects that are not all numbers.

    categories : "auto", dict or sequence, default="auto"
        Levels of the columns of categories; "auto": those seen in :meth:`fit`. A dict
        has the levels of some columns, by name or number; a sequence those of all, None
        for numbers.

    max_categories : int, default=None
        Most levels that are told apart in a column. The less frequent ones count as
        one, and the most frequent of these is what is imputed.

    min_frequency : int or float, default=None
        Levels that fewer samples have, or a smaller share of them, count as one.

    handle_unknown : {"warn", "error"}, default="warn"
        What to do about levels that were not seen in :meth:`fit`: to warn, and predict
        the rest of the sample as if they were missing (they stay in the result), or
        raise an error.

    random_state : int, RandomState instance or None, default=None
        Determines the network's training, the samples that are held out, and what
        `sample_posterior` draws.

    Attributes
    ----------
    estimator_ : AutoencoderTransformer or None
        The fitted network, which sees standardized features, and categories; None if
        there were too few samples.

    weight_ : ndarray of shape (n_features_kept,)
        Share of the network in the predictions of each feature that is kept, in [0, 1];
        the rest is the normal distribution's.

    mean_ : ndarray of shape (n_features,)
        Mean of the observed entries; NaN for a feature that has none, and for
        categories.

    categories_ : list of length n_features
        Levels of each column, None for numbers. Defined only after a fit to a table
        with categories.

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

    After a fit to a table with categories, the result is a table of the same kind as
    the one that is imputed, with its names, index and dtypes. Only a dtype that cannot
    hold a level is changed, and integers stay so: predictions of them are rounded. A
    missing category becomes the most probable level. The distribution is that of the
    numbers and of the most frequent levels, coded as ones and zeros; its expectations
    of these are first probabilities, which the network improves.

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
        "missing_values": [MissingValues()],
        "sample_posterior": ["boolean"],
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
        **TABLE_CONSTRAINTS,
        "random_state": ["random_state"],
    }
    # How tables with categories are read; None if there are only numbers.
    _table: Table | None = None

    estimator_: AutoencoderTransformer | None
    indicator_: Any
    mean_: Floats
    weight_: Floats
    _calibration: Floats

    def __init__(
        self,
        estimator: AutoencoderTransformer | None = None,
        *,
        missing_values: Any = np.nan,
        sample_posterior: bool = False,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        categorical_features: Any = "from_dtype",
        categories: Any = "auto",
        max_categories: int | None = None,
        min_frequency: int | float | None = None,
        handle_unknown: str = "warn",
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.missing_values = missing_values
        self.sample_posterior = sample_posterior
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.categorical_features = categorical_features
        self.categories = categories
        self.max_categories = max_categories
        self.min_frequency = min_frequency
        self.handle_unknown = handle_unknown
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Fit the distribution, and train the network.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features)
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
        given: Any = X
        X = gathered(X)
        before = vars(self).copy()
        try:
            self.__dict__.pop("_table", None)
            table = read_tables(self, [X], mark=self._mark)
            if table is None:
                if X is not given:
                    X = X.to_numpy()  # type: ignore[union-attr]  # without names
                self._fit(self._validated(X, reset=True))
            else:
                self._table = table
                self._fit_table(self._frame(X, reset=True))
        except BaseException:
            self.__dict__ = before
            raise
        return self

    def transform(self, X: ArrayLike) -> Any:
        """Impute missing values.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        X_imputed : ndarray or dataframe of shape (n_samples, n_features_out)
            Samples without missing values, and indicators with `add_indicator`. After a
            fit to a table with categories, a table of the kind of X.
        """
        check_is_fitted(self)
        if self._table is not None:
            return self._imputed_table(self._frame(X))
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
    def inverse_transform(self, X: ArrayLike) -> Any:
        """Put missing values back where indicators say so.

        Parameters
        ----------
        X : array-like or dataframe of shape (n_samples, n_features_out)
            Imputed samples with indicators: only with ``add_indicator=True``.

        Returns
        -------
        X_original : ndarray or dataframe of shape (n_samples, n_features)
            Samples with `missing_values` where values were imputed, in features that
            had missing values in :meth:`fit`.
        """
        check_is_fitted(self)
        if self._table is not None:
            return self._original_table(X)
        rows: np.ndarray = check_array(X, dtype=(np.float64, np.float32))
        present = self._features_out()
        self._check_width(rows.shape[1])
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

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__()}
        if state.get("_table") is not None:
            state["_table"] = state["_table"].as_dict()
            state["_mixed"] = state["_mixed"]._asdict()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = {**defaults(type(self)), **state}  # what earlier versions did not have
        if state.get("_table") is not None:
            state["_table"] = Table.from_dict(state["_table"])
            state["_mixed"] = Mixed(**state["_mixed"])
        super().__setstate__(state)

    # -- private --------------------------------------------------------------------

    @property
    def categories_(self) -> list[Any]:
        """Levels of each column, None for numbers."""
        if self._table is None:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute 'categories_': it "
                "was not fitted to a table with categories"
            )
        return self._table.categories_of_columns

    @property
    def _is_kept(self) -> np.ndarray:
        """Whether each feature had a value in the fit."""
        return ~np.isnan(self.mean_) if self._table is None else self._has_values

    @property
    def _kept_numbers(self) -> np.ndarray:
        """Features of numbers that are kept, in the order of their columns in rows."""
        if self._table is None:
            return np.flatnonzero(self._is_kept)
        features = self._table.numbers
        kept: np.ndarray = features[self._has_values[features]]
        return kept

    @property
    def _mark(self) -> Any:
        """What stands for a missing value; None for NaN."""
        value = self.missing_values
        if isinstance(value, str):
            return value
        if not isinstance(value, numbers.Real) or math.isnan(value):
            return None
        return value

    def _check_width(self, n_features: int) -> None:
        """Raise ValueError if `inverse_transform` got another number of features."""
        n_present = len(self._features_out())
        expected = n_present + len(self.indicator_.features_)
        if n_features != expected:
            raise ValueError(
                f"X has {n_features} features, but inverse_transform expects "
                f"{expected}: {n_present} and the indicators"
            )

    def _features_out(self) -> np.ndarray:
        """Numbers of the features that are kept."""
        if self.keep_empty_features:
            return np.arange(self.n_features_in_)
        return np.flatnonzero(self._is_kept)

    def _validated(self, X: ArrayLike, *, reset: bool = False) -> np.ndarray:
        """Samples as an array, in which missing values are NaN."""
        dtype = (np.float64, np.float32)
        if isinstance(self._mark, str) and (frame := frame_of(X)) is not None:
            given = marked(frame, self._mark)
            columns = [given.numbers(j) for j in range(len(frame.dtypes))]
            X = frame.joined(columns, frame.names)
        checked = check_rows(self, X, dtype, reset=reset, accept_sparse=False)
        rows, value = np.asarray(checked.matrix), self._mark
        if not isinstance(value, numbers.Real):
            return rows
        if checked.has_missing:
            self._refuse_nan()
        return np.where(rows == float(value), np.nan, rows)

    def _refuse_nan(self) -> None:
        raise ValueError(
            f"Input X contains NaN, but missing_values={self.missing_values!r}: use "
            "np.nan if NaN is a missing value"
        )

    def _frame(self, X: ArrayLike, *, reset: bool = False) -> Frame:
        """A table in which what stands for missing values does so."""
        given, table = check_frame(self, X, reset=reset), cast(Table, self._table)
        if isinstance(self._mark, numbers.Real):
            lacks = any(np.isnan(given.numbers(int(j))).any() for j in table.numbers)
            if lacks or any(
                (given.levels(int(j))[0] < 0).any() for j in table.categories
            ):
                self._refuse_nan()
        frame: Frame = marked(given, self._mark)
        return frame

    def _columns(self, frame: Frame) -> _Columns:
        """What is known of the columns of a table."""
        table = cast(Table, self._table)
        values, codes = table.columns(frame, handle_unknown=self.handle_unknown)
        is_missing = np.zeros((frame.n_rows, self.n_features_in_), dtype=bool)
        for j, of_column in zip(table.numbers, values, strict=True):
            is_missing[:, j] = np.isnan(of_column)
        for j in table.categories:
            is_missing[:, j] = frame.levels(int(j))[0] < 0
        return _Columns(
            _stacked(values, frame.n_rows, np.float64),
            _stacked(codes, frame.n_rows, np.int64),
            is_missing,
        )

    def _fit_table(self, frame: Frame) -> None:
        """Fit to a table with categories."""
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(np.iinfo(np.int32).max))
        table, columns = cast(Table, self._table), self._columns(frame)
        n_features, self._dtype = self.n_features_in_, "float64"
        values, codes = columns.values, columns.codes
        self._has_values = np.zeros(n_features, dtype=bool)
        self._has_values[table.numbers] = (~np.isnan(values)).any(axis=0)
        self._has_values[table.categories] = (codes >= 0).any(axis=0)
        self.indicator_ = None
        if self.add_indicator:
            marks = np.where(columns.is_missing, np.nan, 0.0)
            self.indicator_ = MissingIndicator(error_on_new=False).fit(marks)
        self.estimator_, self.mean_ = None, np.full(n_features, np.nan)
        self.weight_ = np.zeros(np.count_nonzero(self._has_values))
        values = values[:, self._has_values[table.numbers]]
        n_plain = values.shape[1]
        self._calibration = np.ones(n_plain)
        self._measure(values, self._kept_numbers)
        kept, codes = self._kept_table, self._kept_codes(codes)
        counts = [
            np.bincount(of_column[of_column >= 0], minlength=levels.size)
            for of_column, levels in zip(codes.T, kept.levels, strict=True)
        ]
        # Levels are described, however many numbers there are.
        n_levels = max(_MOST_FEATURES - n_plain, _N_DIRECTIONS)
        self._mixed = mixed = Mixed.of(n_plain, counts, n_levels)
        most = max(1, _MOST_ENTRIES // max(1, len(mixed.unit)))
        chosen = np.random.RandomState(seed).permutation(len(codes))
        chosen = chosen[: min(most, _MOST_SAMPLES + _MOST_HELD_OUT)]
        rows = mixed.rows(self._standardized(values[chosen]), codes[chosen])
        n_described = len(mixed.described)
        gaussian = Gaussian.without_directions(np.zeros(n_described))
        if n_described:
            is_few = n_described <= _MOST_FEATURES
            n_directions = n_described if is_few else _N_DIRECTIONS
            with single_threaded_blas():
                data = make_rows(mixed.seen(rows), has_missing=True)
                gaussian = fit_gaussian(
                    data, n_directions, seed=seed, by_precision=is_few
                )
        self._gaussian = gaussian._asdict()
        if len(mixed.unit):
            self._train(rows, seed)

    @property
    def _kept_table(self) -> Table:
        """The table of the features that are kept."""
        return cast(Table, self._table).chosen(self._has_values)

    def _kept_codes(self, codes: np.ndarray) -> np.ndarray:
        """Those of columns of categories that are kept."""
        is_kept = self._has_values[cast(Table, self._table).categories]
        found: np.ndarray = codes[:, is_kept]
        return found

    def _imputed_table(self, frame: Frame) -> Any:
        """A table without missing values."""
        table, columns = cast(Table, self._table), self._columns(frame)
        filled = self._predicted_columns(columns)
        if self.keep_empty_features:
            for j in table.numbers[~self._has_values[table.numbers]]:
                filled[int(j)] = np.zeros(np.count_nonzero(columns.is_missing[:, j]))
        library = _get_output_config("transform", self)["dense"]
        if library != "default":
            frame = in_library(frame, library, table.numbers)
        nothing, found = np.empty(0, dtype=np.int64), []
        for j in self._features_out().tolist():
            rows = np.flatnonzero(columns.is_missing[:, j]) if j in filled else nothing
            found.append(frame.column(j, rows, filled.get(j)))
        if self.indicator_ is not None:
            marks = np.where(columns.is_missing, np.nan, 0.0)
            found += list(self.indicator_.transform(marks).T)
        names = self.get_feature_names_out().tolist()
        if frame.names is not None:
            features = self._features_out()
            names[: len(features)] = [frame.names[j] for j in features]
        return frame.joined(found, names)

    def _predicted_columns(self, columns: _Columns) -> dict[int, np.ndarray]:
        """Values for the missing entries of each feature that is kept."""
        table, kept = cast(Table, self._table), self._kept_table
        is_missing = columns.is_missing
        lacking = np.flatnonzero(is_missing[:, self._has_values].any(axis=1))
        values = columns.values[:, self._has_values[table.numbers]]
        codes, mixed = self._kept_codes(columns.codes), self._mixed
        predicted = np.empty((len(lacking), values.shape[1]))
        chosen = np.empty((len(lacking), codes.shape[1]), dtype=np.int64)
        rng = check_random_state(self.random_state) if self.sample_posterior else None
        for batch in row_chunks(len(lacking), len(mixed.unit)):
            some = lacking[batch]
            rows = mixed.rows(self._standardized(values[some]), codes[some])
            self._predict(rows, rng)
            predicted[batch] = self._in_units(rows[:, : mixed.n_plain])
            for g, of_group in enumerate(mixed.levels(rows)):
                chosen[batch, g] = chosen_levels(of_group, rng)
        found: dict[int, np.ndarray] = {}
        for position, j in enumerate(self._kept_numbers.tolist()):
            found[j] = predicted[is_missing[lacking, j], position]
        features = table.categories[self._has_values[table.categories]]
        for g, j in enumerate(features.tolist()):
            levels = kept.categories_of_columns[kept.categories[g]]
            inputs = chosen[is_missing[lacking, j], g]
            found[j] = levels[kept.levels[g].shown[inputs]]
        return found

    def _original_table(self, X: Any) -> Any:
        """A table with missing values where indicators say so."""
        table, frame = cast(Table, self._table), frame_of(X) or FRAMES["numpy"](X)
        self._check_width(len(frame.dtypes))
        present = self._features_out().tolist()
        indicated = self.indicator_.features_.tolist()
        nothing, columns = np.empty(0, dtype=np.int64), []
        for j in range(self.n_features_in_):
            if j not in present:
                columns.append(np.full(frame.n_rows, None))
                continue
            rows, value = nothing, None
            if j in indicated:
                codes, levels = frame.levels(len(present) + indicated.index(j))
                is_there = np.array([bool(level) for level in levels])
                rows = np.flatnonzero(is_there[codes])
            mark = self._mark
            is_text = isinstance(mark, str)
            if isinstance(mark, numbers.Real) or (is_text and j in table.categories):
                value = np.full(len(rows), mark, dtype=object)
            columns.append(frame.column(present.index(j), rows, value))
        names = [table.name(j) for j in range(self.n_features_in_)]
        return frame.joined(columns, names)

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
        self._calibration = np.ones(n_kept)
        self._measure(kept, np.flatnonzero(is_kept))
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

    def _measure(self, kept: Floats, features: np.ndarray) -> None:
        """Means, spreads and ranges of the numbers that are kept, of these features."""
        # In units of the largest number, and deviation, nothing overflows or vanishes.
        unit = _powers_of_two(np.nanmax(np.abs(kept), axis=0, initial=0))
        scaled = kept / unit
        mean = np.nanmean(scaled, axis=0)
        self.mean_[features] = unit * mean
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
            rows: Floats = kept / unit - self.mean_[self._kept_numbers] / unit
            rows /= self._spread / unit
        return np.clip(rows, -LARGEST_DEVIATION, LARGEST_DEVIATION)

    def _expectation(self) -> Expectation | MixedExpectation:
        """What the distribution expects of standardized samples."""
        gaussian = Gaussian(**self._gaussian)
        if self._table is not None:
            return MixedExpectation(gaussian, self._mixed)
        return Expectation(gaussian)

    def _train(self, rows: Floats, seed: int) -> None:
        """Train the network on standardized rows, and choose its weight."""
        mixed = None if self._table is None else self._mixed
        n_features = rows.shape[1] if mixed is None else len(mixed.widths)
        rng = np.random.RandomState(seed)
        order = rng.permutation(np.flatnonzero(~np.isnan(rows).all(axis=1)))
        n_held_out = min(int(_HELD_OUT * len(order)), _MOST_HELD_OUT)
        if n_features < 2 or n_held_out < _LEAST_HELD_OUT:
            return
        held_out = np.tile(rows[order[:n_held_out]], (_N_COPIES, 1))
        train = rows[order[n_held_out:][:_MOST_SAMPLES]]
        hidden = rng.random_sample((len(held_out), n_features)) < _HIDDEN_SHARE
        if mixed is not None:
            hidden = mixed.spread(hidden)
        hidden &= ~np.isnan(held_out)
        if not hidden.any():
            return
        expectation = self._expectation()
        seen, targets = hide(held_out, expectation, hidden)
        network = self._network(len(train), n_features, seed)
        n_copies = -(-_ROWS_OF_EPOCH // len(train))
        data = HidingRows(np.tile(train, (n_copies, 1)), expectation, seed, mixed)
        kind = type(network)
        network.__class__ = type(kind.__name__, (_HidesEntries, kind), {})
        # Each sample once, and all copies of numbers alone: these are cheaper.
        n_judged = len(seen) if mixed is None else n_held_out
        network.fit_to_hidden(data, as_rows(seen[:n_judged], targets[:n_judged]))
        network.__class__ = kind  # users need not know the other
        self.estimator_ = network
        errors = np.where(hidden, targets - seen, 0.0)
        changes = np.where(hidden, _reconstructed(network, seen) - seen, 0.0)
        units = np.tile(np.arange(n_held_out), _N_COPIES)
        if mixed is None:
            weights = self.weight_ = weights_of_changes(errors, changes, units)
        else:
            weights = weights_of_mixed(errors, changes, units, mixed)
            self.weight_ = weights[self._kept_table.places]
            n_plain = mixed.n_plain
            if not n_plain:
                return
            errors, changes = errors[:, :n_plain], changes[:, :n_plain]
            weights = weights[:n_plain]
        drawn = self._deviations(hidden, rng)
        drawn = np.where(hidden[:, : drawn.shape[1]], drawn, 0.0)
        self._calibration = ratios(errors - weights * changes, drawn)

    def _deviations(self, is_missing: np.ndarray, rng: np.random.RandomState) -> Floats:
        """Draws of missing numbers, less their expectations.

        Their distribution is the same for all observed entries: it is drawn by hiding
        entries of rows that are drawn from the whole distribution.
        """
        n_plain = is_missing.shape[1]
        if self._table is not None:
            n_plain = self._mixed.n_plain
            is_missing = is_missing[:, self._mixed.described]
        mean, loadings, noise = Gaussian(**self._gaussian)
        n_rows, n_directions = len(is_missing), loadings.shape[1]
        scores = rng.standard_normal((n_rows, n_directions))
        # Not a product by BLAS, whose bits depend on its number of threads.
        rows: Floats = mean + np.einsum("ia,ja->ij", scores, loadings)
        rows += math.sqrt(noise) * rng.standard_normal(rows.shape)
        expected = np.where(is_missing, np.nan, rows)
        Expectation(Gaussian(**self._gaussian)).fill(expected)
        return (rows - expected)[:, :n_plain]

    def _predicted(self, X: Floats) -> Floats:
        """Samples with the features that are kept, with values for missing ones."""
        rows = self._standardized(X)
        rng = check_random_state(self.random_state) if self.sample_posterior else None
        self._predict(rows, rng)
        return self._in_units(rows)

    def _predict(self, rows: Floats, rng: np.random.RandomState | None) -> None:
        """Predict missing entries of standardized rows in place, or draw numbers.

        Of missing levels, there are probabilities. Observed entries change, too.
        """
        is_missing, weights = np.isnan(rows), self.weight_
        self._expectation().fill(rows)
        if self._table is not None:
            of_columns = self._kept_table.of_inputs(weights)
            weights = self._mixed.spread(of_columns[np.newaxis])
        if self.estimator_ is not None:
            rows += weights * (_reconstructed(self.estimator_, rows) - rows)
        if rng is not None and self._calibration.size:
            drawn = self._deviations(is_missing, rng)
            rows[:, : drawn.shape[1]] += self._calibration * drawn

    def _in_units(self, rows: Floats) -> Floats:
        """Standardized numbers in the units of the samples."""
        mean = self.mean_[self._kept_numbers]
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
            return self._with_table(network)
        n_updates, most, how = _UPDATES_PER_SAMPLE * n_rows, _MOST_UPDATES, _NETWORK
        if self._table is not None:
            how = _NETWORK | _MIXED_NETWORK
            n_updates = int(_MIXED_UPDATES_PER_SAMPLE * n_rows)
            most = min(most, _MOST_UPDATED_INPUTS // len(self._mixed.unit))
        n_updates = max(min(n_updates, most), _FEWEST_UPDATES)
        n_rows *= -(-_ROWS_OF_EPOCH // n_rows)
        n_batches = -(-n_rows // _NETWORK["batch_size"])
        network = AutoencoderTransformer(
            n_features,
            max_iter=-(-n_updates // n_batches),
            random_state=seed,
            **how,
        )
        return self._with_table(network)

    def _with_table(self, network: Any) -> Any:
        """A network that is told which of its inputs are levels, if some are."""
        if self._table is not None and self._mixed.sizes.size:
            network._table = self._kept_table
        return network


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
    outputs = np.concatenate(found).astype(np.float64)
    return probabilities(outputs, network._fitted_network()[0])


class _Columns(NamedTuple):
    """Entries of a table, in the order of the columns of its matrix."""

    values: Floats  # (n_rows, n_numbers) float64, NaN for missing ones
    codes: np.ndarray  # (n_rows, n_categories) int64, -1 for missing or unknown ones
    is_missing: np.ndarray  # (n_rows, n_features) bool, in the order of the table


def _stacked(columns: list[np.ndarray], n_rows: int, dtype: Any) -> np.ndarray:
    """Columns side by side, of which there may be none."""
    whole = np.empty((n_rows, len(columns)), dtype=dtype)
    for j, column in enumerate(columns):
        whole[:, j] = column
    return whole
