"""The score of outliers: how far codes and residuals of a network are from the usual.

For a linear network it is a Mahalanobis distance of the sample. Samples far from the
others are left out of the fit, as in Rousseeuw & Van Driessen, "A fast algorithm for
the minimum covariance determinant estimator", 1999. See ``benchmarks/detection.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np

from skae._autoencoder import AutoencoderTransformer
from skae._data.gaussian import fit_gaussian
from skae._data.rows import Rows, dense, make_rows, row_chunks, slices
from skae._data.statistics import mean_and_spread
from skae._model import inference
from skae._model.distance import Distance, shrunk
from skae._runtime.blas import single_threaded_blas
from skae._training.settings import value_range
from skae._typing import Floats, Matrix

# Share of the training samples that the score is fitted to, those nearest to their
# center, and steps in which they are found.
_CORE, _N_STEPS = 0.75, 3
# Weight of independent features in covariances.
_INDEPENDENT = 0.1
# Distributions are fitted to at most so many samples; with more features than this they
# have so many directions only.
_MOST_SAMPLES, _MOST_FEATURES, _N_DIRECTIONS = 20_000, 128, 32
# Residuals are measured in units of at least this share of the feature's deviation:
# those of features that are functions of others are rounding errors.
_LEAST_RESIDUAL = 0.01
# The same for codes, as a share of the spread of the one that varies most.
_LEAST_CODE = 0.001
# Deviations are cut here, so that their squares do not overflow.
_FARTHEST = 1e15
# The unit of a constant feature, as a share of its value.
_SHARE_OF_CONSTANT = 1e-6
# Entries of samples with a replaced entry that are in memory at a time.
_ENTRIES_AT_ONCE = 2**22


class Samples(NamedTuple):
    """Valid samples and their weights."""

    matrix: Matrix
    has_missing: bool
    weights: Floats | None = None  # (n_samples,), positive; None: 1

    def take(self, numbers: np.ndarray) -> Samples:
        """Some of the samples."""
        weights = None if self.weights is None else self.weights[numbers]
        return Samples(self.matrix[numbers], self.has_missing, weights)

    def some(self) -> Samples:
        """As many as distributions are fitted to, at equal distances."""
        n_samples = self.matrix.shape[0]
        if n_samples <= _MOST_SAMPLES:
            return self
        return self.take(np.linspace(0, n_samples - 1, _MOST_SAMPLES).astype(np.int64))

    @property
    def sample_weights(self) -> Floats:
        """Weights, of shape (n_samples,), also if there are none."""
        return np.ones(self.matrix.shape[0]) if self.weights is None else self.weights

    @property
    def rows(self) -> Rows:
        """The samples, for the functions of `skae._data`."""
        has_missing = self.has_missing
        return make_rows(self.matrix, weights=self.weights, has_missing=has_missing)


class Standardization(NamedTuple):
    """Deviations of features from their means, in units of their spreads."""

    mean: Floats  # (n_features,) float64
    spread: Floats  # (n_features,) float64
    limit: Floats  # (n_features,) float64, of the deviations; 0: no entry was observed

    @classmethod
    def of(cls, samples: Samples) -> Standardization:
        """That of some samples.

        A feature that is constant has no spread: any other value counts as if it had
        been the only one among the samples.
        """
        mean, spread = mean_and_spread(samples.rows)
        is_known, varies = ~np.isnan(mean), spread > 0
        mean = np.where(is_known, mean, 0.0)
        least = np.finfo(np.float64).tiny
        unit = np.maximum(_SHARE_OF_CONSTANT * np.abs(mean), least)
        limit = np.where(varies, _FARTHEST, math.sqrt(samples.rows.total_weight))
        return cls(mean, np.where(varies, spread, unit), limit * is_known)

    def updated(self, samples: Samples) -> Standardization:
        """That of some of the samples, in which more features may be constant."""
        mean, spread = mean_and_spread(samples.rows)
        mean = np.where(np.isnan(mean), self.mean, mean)
        return self._replace(mean=mean, spread=np.where(spread, spread, self.spread))

    def undone(self, rows: Matrix) -> Matrix:
        """Standardized features as they were, in float32."""
        if not isinstance(rows, np.ndarray):
            scaled = rows.copy()
            scaled.data *= self.spread[rows.indices].astype(np.float32)
            return scaled
        return (rows * self.spread + self.mean).astype(np.float32)

    def apply(self, X: Matrix) -> Matrix:
        """Standardized features, in float32; a sparse matrix is not centered."""
        if not isinstance(X, np.ndarray):
            scaled, columns = X.astype(np.float32), X.indices
            with np.errstate(over="ignore"):
                data = X.data / self.spread[columns]
            scaled.data = _cut(data, self.limit[columns])
            return scaled
        scaled = np.empty(X.shape, dtype=np.float32)
        for batch in row_chunks(*X.shape):
            with np.errstate(over="ignore"):
                deviations = (X[batch].astype(np.float64) - self.mean) / self.spread
            scaled[batch] = _cut(deviations, self.limit)
        return scaled


def _cut(values: Floats, limit: Floats) -> Floats:
    """Values as float32, none of them beyond limits."""
    cut = np.where(limit > 0, np.clip(values, -limit, limit), 0.0)
    return cut.astype(np.float32)


class OutlierScore:
    """Mean squared deviation of a sample's codes and residuals from the usual ones.

    In units of their standard deviations, after they have been made uncorrelated.

    Parameters
    ----------
    network : AutoencoderTransformer
        Fitted to standardized samples, unless its data have a limited range.

    standard : Standardization
        Of the features.

    distance : Distance
        Of standardized samples.

    standard_of_parts : Standardization
        Of codes and residuals, side by side.

    distance_of_parts : Distance
    """

    def __init__(
        self,
        network: AutoencoderTransformer,
        standard: Standardization,
        distance: Distance,
        standard_of_parts: Standardization,
        distance_of_parts: Distance,
    ) -> None:
        self.network = network
        self.standard, self.distance = standard, distance
        self.standard_of_parts = standard_of_parts
        self.distance_of_parts = distance_of_parts

    @classmethod
    def fit(
        cls,
        network: AutoencoderTransformer,
        samples: Samples,
        whole: Standardization,
        groups: np.ndarray | None,
    ) -> Self:
        """Fit a network, and distributions.

        Parameters
        ----------
        network : AutoencoderTransformer
            With valid parameters. It is fitted.

        samples : Samples
            Training samples, without outliers.

        whole : Standardization
            Of samples with outliers, too.

        groups : ndarray of shape (n_samples,) or None
            Labels of samples that belong together.
        """
        some = samples.some()
        standard, distance = _distribution(some, whole)
        if value_range(network) is None:
            seen = standard.apply(samples.matrix)
        else:
            seen = samples.matrix.astype(np.float32)
        if samples.weights is None:
            network.fit(seen, groups=groups)
        else:
            network.fit(seen, sample_weight=samples.weights, groups=groups)
        parts = _parts(network, standard, standard.apply(some.matrix))
        of_parts = _of_parts(some._replace(matrix=parts), network.n_components_)
        distance_of_parts = _distance(some._replace(matrix=of_parts.apply(parts)))
        return cls(network, standard, distance, of_parts, distance_of_parts)

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
            scores[batch] = self._of_standardized(self.standard.apply(X[batch]))
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

        shares : ndarray of shape (n_batch, n_features)
            Their sums are the scores; 0 for missing entries.
        """
        n_samples, n_features = X.shape
        for batch in slices(n_samples, max(1, _ENTRIES_AT_ONCE // n_features**2)):
            rows = dense(self.standard.apply(X[batch]))
            scores = self._of_standardized(rows)
            falls = self._falls(rows, scores)
            falls[np.isnan(rows)] = 0
            is_equal = falls.sum(axis=1) == 0  # no entry is to blame more than others
            falls[is_equal] = ~np.isnan(rows[is_equal])
            totals = np.maximum(falls.sum(axis=1), np.finfo(np.float64).tiny)
            yield batch, falls * (scores / totals)[:, np.newaxis]

    def _falls(self, rows: Floats, scores: Floats) -> Floats:
        """By how much scores of standardized samples fall without unexpected values."""
        n_rows, n_features = rows.shape
        falls = np.zeros(rows.shape)
        unexpected = self.distance.unexpected(self.distance.filled(rows))
        for some in slices(n_features, max(1, _ENTRIES_AT_ONCE // rows.size)):
            features = np.arange(some.start, some.stop)
            changed = np.repeat(rows[:, np.newaxis], len(features), axis=1)
            changed[:, np.arange(len(features)), features] -= unexpected[:, some]
            new = self._of_standardized(changed.reshape(-1, n_features))
            fall = scores[:, np.newaxis] - new.reshape(n_rows, -1)
            falls[:, some] = np.maximum(0, fall)
        return falls

    def _of_standardized(self, rows: Matrix) -> Floats:
        """Scores of standardized samples."""
        parts = _parts(self.network, self.standard, rows)
        squares = self.distance_of_parts.squared(self.standard_of_parts.apply(parts))
        scores: Floats = squares / (~np.isnan(parts)).sum(axis=1)
        return scores


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
    for _ in range(_N_STEPS - 1):
        is_near = _are_nearest(some, *_distribution(near, whole))
        near = some.take(np.flatnonzero(is_near))
    return _are_nearest(samples, *_distribution(near, whole))


def _are_nearest(
    samples: Samples, standard: Standardization, distance: Distance
) -> np.ndarray:
    """Whether samples are among the share `_CORE` that is nearest to the center."""
    n_samples, n_features = samples.matrix.shape
    squares = np.empty(n_samples)
    for batch in row_chunks(n_samples, n_features):
        rows = dense(standard.apply(samples.matrix[batch]))
        n_observed = np.maximum(1, (~np.isnan(rows)).sum(axis=1))
        squares[batch] = distance.squared(rows) / n_observed
    weights = samples.sample_weights
    order = np.argsort(squares, kind="stable")
    nearer = np.append(0, np.cumsum(weights[order]))
    # Equal samples have the same weight before them.
    before = nearer[np.searchsorted(squares[order], squares)]
    is_near: np.ndarray = before < _CORE * nearer[-1]
    return is_near


def _distribution(
    samples: Samples, whole: Standardization
) -> tuple[Standardization, Distance]:
    """Distribution of some samples; `whole` is the standardization of all of them."""
    standard = whole.updated(samples)
    rows = standard.apply(samples.matrix)
    return standard, _distance(samples._replace(matrix=rows))


def _distance(samples: Samples) -> Distance:
    """Distance from the center of standardized samples."""
    n_features = samples.matrix.shape[1]
    n_directions = n_features if n_features <= _MOST_FEATURES else _N_DIRECTIONS
    with single_threaded_blas():
        gaussian = fit_gaussian(samples.rows, n_directions)
    return Distance(shrunk(gaussian, _INDEPENDENT))


def _of_parts(samples: Samples, n_codes: int) -> Standardization:
    """Standardization of codes and residuals."""
    mean, spread = mean_and_spread(samples.rows)
    codes, residuals = spread[:n_codes], spread[n_codes:]
    codes = np.maximum(codes, _LEAST_CODE * codes.max()) if codes.any() else codes + 1
    spread = np.append(codes, np.maximum(residuals, _LEAST_RESIDUAL))
    return Standardization(mean, spread, np.full(len(mean), _FARTHEST))


def _parts(
    network: AutoencoderTransformer, standard: Standardization, rows: Matrix
) -> Floats:
    """Codes and residuals of standardized samples, side by side.

    Returns
    -------
    parts : ndarray of shape (n_samples, n_codes + n_features), dtype=float32
        NaN for missing entries.
    """
    seen, has_range = rows, value_range(network) is not None
    if has_range:
        seen = standard.undone(rows)
    codes = network.transform(seen)
    layout, params = network._fitted_network()
    scaling = network._offset, network.scale_
    # Not `inverse_transform`, which refuses results that are out of range.
    decoder, codes_seen = inference.decoder(layout), make_rows(codes)
    restored = inference.propagate(decoder, params, codes_seen, *scaling)
    is_missing = np.isnan(dense(seen))
    with np.errstate(over="ignore", invalid="ignore"):
        residuals = dense(seen) - restored
        if has_range:
            residuals /= standard.spread.astype(np.float32)
    residuals[np.isnan(residuals) & ~is_missing] = np.inf
    return np.hstack([codes, residuals])
