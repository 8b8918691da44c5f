"""The score of outliers: how far codes and residuals of a network are from the usual.

For a linear network it is a Mahalanobis distance of the sample. Samples far from the
others are left out of the fit, as in Rousseeuw & Van Driessen, "A fast algorithm for
the minimum covariance determinant estimator", 1999. See ``benchmarks/detection.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np

from skae._data.gaussian import Gaussian, fit_gaussian
from skae._data.rows import dense, row_chunks, slices
from skae._data.standardization import FARTHEST, Samples, Standardization
from skae._data.statistics import mean_and_spread
from skae._data.tables import EncodedTable, Table
from skae._model.distance import Distance, shrunk
from skae._model.groups import columns_of, cross_entropies, summed_over_groups
from skae._runtime.blas import single_threaded_blas
from skae._training.settings import value_range
from skae._typing import Floats, Matrix

# Share of the training samples that are nearest to their center, and steps in which
# they are found. The score is fitted to these and to what is not far from them: no more
# quartile ranges above the upper quartile, see `box_plot_limit`.
_CORE, _N_STEPS, _RANGES_TO_CORE = 0.8, 3, 1.0
# Share of the samples that are no outliers if they have the same categories.
_COMMON = 0.05
# Weight of independent features in covariances.
_INDEPENDENT = 0.1
# With more features than this, distributions have so many directions only.
_MOST_FEATURES, _N_DIRECTIONS = 128, 64
# Residuals are measured in units of at least this share of the feature's deviation:
# those of features that are functions of others are rounding errors.
_LEAST_RESIDUAL = 0.01
# The same for codes, as a share of the spread of the one that varies most.
_LEAST_CODE = 0.001
# Deviances of categories are measured in units of their mean, or of so many nats if
# that is less. With 0.02 to 0.5, areas under ROC curves over 27 data sets with binned
# columns are the same within 0.008; the more, the less rare combinations count.
_LEAST_DEVIANCE = 0.2
# Codes that are drawn for the bound of a variational network.
N_DRAWS = 10
# Entries of samples with a replaced entry that are in memory at a time.
_ENTRIES_AT_ONCE = 2**22


class Distribution(NamedTuple):
    """A normal distribution of features on any scale."""

    standard: Standardization
    distance: Distance  # of standardized features

    @classmethod
    def of(cls, samples: Samples, standard: Standardization) -> Distribution:
        """That of some samples, for a given standardization."""
        rows = standard.apply(samples.matrix)
        n_features = rows.shape[1]
        n_directions = n_features if n_features <= _MOST_FEATURES else _N_DIRECTIONS
        with single_threaded_blas():
            standardized = samples._replace(matrix=rows).rows
            gaussian = fit_gaussian(standardized, n_directions)
        return cls(standard, Distance(shrunk(gaussian, _INDEPENDENT)))

    def as_dict(self) -> dict[str, Any]:
        """Its numbers, in plain containers."""
        gaussian = self.distance.gaussian._asdict()
        return {"standard": self.standard._asdict(), "gaussian": gaussian}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Distribution:
        """What `as_dict` has described."""
        standard = Standardization(**state["standard"])
        return cls(standard, Distance(Gaussian(**state["gaussian"])))


class Deviances(NamedTuple):
    """What deviances of categories, of the training samples, are compared with."""

    n_samples: int
    unit: Floats  # (n_groups,), the mean of each column's


class OutlierScore:
    """How unusual samples are: their codes and residuals, or their evidence.

    For an autoencoder, the mean squared deviation of a sample's codes and residuals
    from the usual ones, in units of their standard deviations and made uncorrelated.
    For a category, in place of a square, the deviance of its level by the decoded
    probability, in units of the usual deviance. For a variational autoencoder, the
    evidence lower bound, negative and for each column.

    Parameters
    ----------
    network : AutoencoderTransformer or VariationalAutoencoderTransformer
        Fitted to standardized samples, unless its data have a limited range.

    of_samples : Distribution

    of_parts : Distribution or None
        Of codes and residuals, side by side; None for a variational network.

    deviances : Deviances or None, default=None
        None if there are no categories.
    """

    def __init__(
        self,
        network: Any,
        of_samples: Distribution,
        of_parts: Distribution | None,
        deviances: Deviances | None = None,
    ) -> None:
        self.network = network
        self.of_samples, self.of_parts = of_samples, of_parts
        self._deviances = deviances
        self._range = value_range(network)

    @classmethod
    def fit(
        cls,
        network: Any,
        samples: Samples,
        whole: Standardization,
        groups: np.ndarray | None,
        table: Table | None = None,
    ) -> Self:
        """Fit a network, and distributions.

        Parameters
        ----------
        network : AutoencoderTransformer or VariationalAutoencoderTransformer
            With valid parameters. It is fitted.

        samples : Samples
            Training samples, without outliers.

        whole : Standardization
            Of samples with outliers, too.

        groups : ndarray of shape (n_samples,) or None
            Labels of samples that belong together.

        table : Table, default=None
            What the features are columns of, if there are categories.
        """
        some = samples.some()
        of_samples = Distribution.of(some, whole.updated(some))
        score = cls(network, of_samples, None)
        seen: Any
        if score._range is None:
            seen = of_samples.standard.apply(samples.matrix)
        else:
            seen = samples.matrix.astype(np.float32)
        if table is not None:
            seen = EncodedTable(seen, samples.has_missing, table)
        if samples.weights is None:
            network.fit(seen, groups=groups)
        else:
            network.fit(seen, sample_weight=samples.weights, groups=groups)
        if table is not None:
            n_groups, n_samples = len(table.groups), samples.matrix.shape[0]
            score._deviances = Deviances(n_samples, np.ones(n_groups))
        if not network._codes_are_distributions:
            score._fit_parts(some)
        return score

    def _fit_parts(self, samples: Samples) -> None:
        """Fit the distribution of codes and residuals, and the unit of deviances."""
        rows = self.of_samples.standard.apply(samples.matrix)
        varies = mean_and_spread(samples._replace(matrix=rows).rows)[1] > 0
        found = [self._parts(rows[batch]) for batch in row_chunks(*rows.shape)]
        parts, deviances = map(np.concatenate, zip(*found, strict=True))
        of_some = Samples(parts, samples.has_missing, samples.weights)
        standard = _standardization_of_parts(of_some, varies[: samples.n_plain])
        self.of_parts = Distribution.of(of_some, standard)
        if self._deviances is not None:
            weights = samples.sample_weights[:, np.newaxis] * ~np.isnan(deviances)
            sums = (weights * np.nan_to_num(deviances)).sum(axis=0)
            means = sums / np.maximum(weights.sum(axis=0), np.finfo(np.float64).tiny)
            unit = np.maximum(means, _LEAST_DEVIANCE)
            self._deviances = self._deviances._replace(unit=unit)

    def as_dict(self) -> dict[str, Any]:
        """Its numbers but for the network's, in plain containers."""
        of_parts = None if self.of_parts is None else self.of_parts.as_dict()
        deviances = None if self._deviances is None else self._deviances._asdict()
        of_samples = self.of_samples.as_dict()
        return {"of_samples": of_samples, "of_parts": of_parts, "deviances": deviances}

    @classmethod
    def from_dict(cls, network: Any, state: dict[str, Any]) -> Self:
        """What `as_dict` has described, with its network."""
        of_samples, of_parts = state["of_samples"], state["of_parts"]
        deviances = state.get("deviances")  # earlier versions had none
        return cls(
            network,
            Distribution.from_dict(of_samples),
            None if of_parts is None else Distribution.from_dict(of_parts),
            None if deviances is None else Deviances(**deviances),
        )

    def scores(self, X: Matrix) -> Floats:
        """Scores of samples: positive, about 1 for usual ones.

        Parameters
        ----------
        X : {ndarray, CSR matrix} of shape (n_samples, n_features)
            Valid samples. Missing entries, which are NaN, do not count.

        Returns
        -------
        scores : ndarray of shape (n_samples,), dtype=float64
        """
        scores = np.empty(X.shape[0])
        for batch in row_chunks(*X.shape):
            rows = self.of_samples.standard.apply(X[batch])
            if self._deviances is not None:
                rows = dense(rows)
            scores[batch] = self._of_standardized(rows)
        return scores

    def contributions(self, X: Matrix) -> Iterator[tuple[slice, Floats]]:
        """Shares of the entries of samples in their scores.

        They are proportional to how much the score falls if an entry has the value
        that the rest of the sample suggests.

        Parameters
        ----------
        X : {ndarray, CSR matrix} of shape (n_samples, n_features)
            Valid samples.

        Yields
        ------
        batch : slice
            Numbers of samples.

        shares : ndarray of shape (n_batch, n_columns)
            Their sums are the scores; 0 for missing entries. The columns of a table are
            in the order of the matrix.
        """
        n_samples, n_features = X.shape
        columns = self._column_of_features
        n_entries = n_features * (columns[-1] + 1)
        for batch in slices(n_samples, max(1, _ENTRIES_AT_ONCE // n_entries)):
            rows = dense(self.of_samples.standard.apply(X[batch]))
            scores = self._of_standardized(rows)
            falls = self._falls(rows, scores)
            is_equal = falls.sum(axis=1) == 0  # no entry is to blame more than others
            falls[is_equal] = ~self._is_missing(rows[is_equal])
            totals = np.maximum(falls.sum(axis=1), np.finfo(np.float64).tiny)
            yield batch, falls * (scores / totals)[:, np.newaxis]

    def _falls(self, rows: Floats, scores: Floats) -> Floats:
        """By how much scores of standardized samples fall without unexpected values."""
        columns, suggested = self._column_of_features, self._suggested(rows)
        n_rows, n_columns = len(rows), columns[-1] + 1
        falls = np.zeros((n_rows, n_columns))
        for some in slices(n_columns, max(1, _ENTRIES_AT_ONCE // rows.size)):
            is_changed = columns == np.arange(some.start, some.stop)[:, np.newaxis]
            changed = np.where(
                is_changed, suggested[:, np.newaxis], rows[:, np.newaxis]
            )
            new = self._of_standardized(changed.reshape(-1, rows.shape[1]))
            fall = scores[:, np.newaxis] - new.reshape(n_rows, -1)
            falls[:, some] = np.maximum(0, fall)
        return falls

    def _suggested(self, rows: Floats) -> Floats:
        """For each entry of standardized samples, what the rest of them suggests."""
        distance, columns = self.of_samples.distance, self._column_of_features
        suggested = rows - distance.unexpected(distance.filled(rows))
        for column in range(self._n_plain, columns[-1] + 1):
            levels = np.flatnonzero(columns == column)
            without = rows.copy()
            without[:, levels] = np.nan
            chosen = distance.filled(without)[:, levels].argmax(axis=1)
            of_rows = (chosen[:, np.newaxis] == np.arange(len(levels))).astype(float)
            of_rows[np.isnan(rows[:, levels[0]])] = np.nan
            suggested[:, levels] = of_rows
        return suggested

    @property
    def _n_plain(self) -> int:
        """Number of features that are no levels."""
        return int(self.network._fitted_network()[0].n_plain)

    @property
    def _column_of_features(self) -> np.ndarray:
        """Number of each feature's column: the levels of a group are one."""
        sizes = self.network._group_sizes
        return np.repeat(
            np.arange(self._n_plain + len(sizes)), [1] * self._n_plain + sizes
        )

    def _is_missing(self, rows: Floats) -> np.ndarray:
        """Whether entries of columns are missing."""
        layout, _ = self.network._fitted_network()
        is_missing: np.ndarray = np.isnan(rows[:, columns_of(layout)])
        return is_missing

    def _is_unknown(self, rows: Floats) -> np.ndarray:
        """Whether columns have levels that were not seen, whose features are 0."""
        layout, _ = self.network._fitted_network()
        is_unknown: np.ndarray = summed_over_groups(rows, layout) == 0
        is_unknown[:, : layout.n_plain] = False
        return is_unknown

    def _of_standardized(self, rows: Matrix) -> Floats:
        """Scores of standardized samples."""
        if self.of_parts is None:
            return self._of_evidence(rows)
        parts, deviances = self._parts(rows)
        standard, distance = self.of_parts
        squares = distance.squared(standard.apply(parts))
        n_observed = _n_observed(parts)
        if self._deviances is not None:
            squares += np.nansum(deviances / self._deviances.unit, axis=1)
            n_observed += _n_observed(deviances)
        scores: Floats = squares / n_observed
        return scores

    def _of_evidence(self, rows: Matrix) -> Floats:
        """Scores by a variational network, twice the negative bound for a column.

        Without constants, so that they are not negative: the divergence of the code
        from the prior, and the loss.
        """
        seen, network = self._seen(rows), self.network
        is_missing = self._is_missing(dense(seen))
        bounds = network.elbo(self._input(seen), n_draws=N_DRAWS)
        if self._deviances is not None:
            is_unknown = self._is_unknown(dense(seen))
            most_deviant = math.log(self._deviances.n_samples + 1)
            bounds -= most_deviant * is_unknown.sum(axis=1)
            is_missing |= is_unknown
        bounds += network._omitted(is_missing)
        scores: Floats = -2 * bounds / np.maximum(1, (~is_missing).sum(axis=1))
        return np.clip(scores, 0, FARTHEST**2)

    def _seen(self, rows: Matrix) -> Matrix:
        """Standardized samples as the network sees them."""
        if self._range is None:
            return rows
        seen = self.of_samples.standard.undone(rows)
        # Rounding, and what the rest of a sample suggests, may be out of its range.
        low, high = self._range.low, self._range.high
        if not isinstance(seen, np.ndarray):
            seen.data = np.clip(seen.data, low, high)
            return seen
        return np.clip(seen, low, high)

    def _input(self, seen: Matrix) -> Any:
        """What the network is called with: levels that are not known are missing."""
        if self._deviances is None:
            return seen
        seen = dense(seen).copy()
        is_unknown = self._is_unknown(seen)
        seen[is_unknown[:, self._column_of_features]] = np.nan
        return EncodedTable(seen, bool(np.isnan(seen).any()), self.network._table)

    def _parts(self, rows: Matrix) -> tuple[Floats, Floats]:
        """Codes and residuals of standardized samples, side by side, and deviances.

        Returns
        -------
        parts : ndarray of shape (n_samples, n_codes + n_plain), dtype=float32
            NaN for missing entries.

        deviances : ndarray of shape (n_samples, n_groups), dtype=float64
            NaN for missing entries.
        """
        seen, network = self._seen(rows), self.network
        codes = network._encode(self._input(seen))
        # Not `inverse_transform`, which refuses results that are out of range.
        restored = network._decode(codes)
        seen, n_plain = dense(seen), self._n_plain
        plain = seen[:, :n_plain]
        with np.errstate(over="ignore", invalid="ignore"):
            residuals = plain - restored[:, :n_plain]
            if self._range is not None:
                unit = self.of_samples.standard.unit[:n_plain]
                residuals /= unit.astype(np.float32)
        residuals[np.isnan(residuals) & ~np.isnan(plain)] = np.inf
        return np.hstack([codes, residuals]), self._deviances_of(seen, restored)

    def _deviances_of(self, seen: Floats, restored: Floats) -> Floats:
        """Deviances of samples' levels by logits, in nats, for each group.

        A probability p counts as (n p + 1) / (n + 1) with the n training samples: so
        little is known of rarer levels, and of those that were not seen, with p = 0.
        """
        if self._deviances is None:
            return np.empty((len(seen), 0))
        layout, _ = self.network._fitted_network()
        n = self._deviances.n_samples
        with np.errstate(invalid="ignore"):  # infinity less infinity
            chances = np.exp(-cross_entropies(restored, seen, layout))
        is_unknown, is_missing = (
            is_such(seen)[:, layout.n_plain :]
            for is_such in (self._is_unknown, self._is_missing)
        )
        chances[is_unknown | np.isnan(chances)] = 0
        deviances: Floats = np.log((n + 1) / (n * chances + 1))
        deviances[is_missing] = np.nan
        return deviances


def core(samples: Samples, whole: Standardization) -> np.ndarray:
    """Whether samples are among those nearest to their center, which fits use.

    Parameters
    ----------
    samples : Samples

    whole : Standardization
        Of all samples.

    Returns
    -------
    is_in_core : ndarray of shape (n_samples,), dtype=bool
    """
    some = samples.some()
    near = some
    for _ in range(_N_STEPS):
        squares = _squares(some, Distribution.of(near, whole.updated(near)))
        is_near = _are_nearest(squares, some.sample_weights)
        near = some.take(np.flatnonzero(is_near))
    squares = _squares(samples, Distribution.of(near, whole.updated(near)))
    weights = samples.sample_weights
    limit = box_plot_limit(squares, weights, _RANGES_TO_CORE)
    if len(samples.groups):
        limit = max(limit, highest_common(squares, weights))
    is_in_core: np.ndarray = squares <= limit
    return is_in_core


def box_plot_limit(scores: Floats, weights: Floats, n_ranges: float) -> float:
    """A limit as that of Tukey's box plots, of the cube roots of scores.

    These are nearly normal where scores are sums of squares (Wilson & Hilferty, 1931).

    Parameters
    ----------
    scores : ndarray of shape (n_samples,)

    weights : ndarray of shape (n_samples,)

    n_ranges : float
        How many times the range between the quartiles it is above the upper one.
    """
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(weights[order])
    quartiles = scores[order][
        np.searchsorted(below, np.array([0.25, 0.75]) * below[-1])
    ]
    low, high = np.cbrt(quartiles)
    # Rounding must not leave the quartile itself beyond.
    return max(float(quartiles[1]), float((high + n_ranges * (high - low)) ** 3))


def highest_common(scores: Floats, weights: Floats) -> float:
    """The highest score that many samples share, as those of a few categories do.

    These are no outliers: with few different scores, quartiles tell little.
    """
    values, numbers = np.unique(scores, return_inverse=True)
    shares = np.bincount(numbers, weights) / weights.sum()
    return float(values[shares >= _COMMON].max(initial=0.0))


def _squares(samples: Samples, distribution: Distribution) -> Floats:
    """Mean squared deviations of samples from the center of a distribution."""
    n_samples, n_features = samples.matrix.shape
    squares = np.empty(n_samples)
    for batch in row_chunks(n_samples, n_features):
        rows = dense(distribution.standard.apply(samples.matrix[batch]))
        n_observed = np.maximum(1, _n_observed(rows))
        squares[batch] = distribution.distance.squared(rows) / n_observed
    return squares


def _are_nearest(squares: Floats, weights: Floats) -> np.ndarray:
    """Whether samples are among the share `_CORE` that is nearest to the center."""
    order = np.argsort(squares, kind="stable")
    up_to = np.cumsum(weights[order])
    is_near = np.empty(len(order), dtype=bool)
    is_near[order] = up_to - weights[order] < _CORE * up_to[-1]
    return is_near


def _standardization_of_parts(samples: Samples, varies: np.ndarray) -> Standardization:
    """Standardization of codes and residuals.

    Parameters
    ----------
    samples : Samples
        Codes and residuals.

    varies : ndarray of shape (n_features,), dtype=bool
        Whether features vary among these samples.
    """
    mean, spread = mean_and_spread(samples.rows)
    n_codes = len(spread) - len(varies)
    codes, residuals = spread[:n_codes], spread[n_codes:]
    least = np.where(varies, _LEAST_RESIDUAL, 1.0)
    codes = np.maximum(codes, _LEAST_CODE * codes.max()) if codes.any() else codes + 1
    spread = np.append(codes, np.maximum(residuals, least))
    return Standardization(mean, spread, np.full(len(mean), FARTHEST))


def _n_observed(rows: Floats) -> np.ndarray:
    """Numbers of entries of rows that are not missing."""
    n_observed: np.ndarray = (~np.isnan(rows)).sum(axis=1)
    return n_observed
