"""Samples with weights, and their features in units of their standard deviations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skae._data.rows import Rows, dense, make_rows, row_chunks
from skae._data.statistics import mean_and_spread
from skae._typing import Floats, Matrix

# Distributions are fitted to at most so many samples.
_MOST_SAMPLES = 20_000
# Deviations are cut here, so that their squares do not overflow.
FARTHEST = 1e15
# The unit of a constant feature, as a share of its value.
_SHARE_OF_CONSTANT = 1e-6


class Samples(NamedTuple):
    """Valid samples and their weights."""

    matrix: Matrix
    has_missing: bool
    weights: Floats | None = None  # (n_samples,), positive; None: 1
    groups: Sequence[int] = ()  # sizes of the groups of levels, the last features

    def take(self, numbers: np.ndarray) -> Samples:
        """Some of the samples."""
        weights = None if self.weights is None else self.weights[numbers]
        return self._replace(matrix=self.matrix[numbers], weights=weights)

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
    def n_plain(self) -> int:
        """Number of features that are no levels."""
        return int(self.matrix.shape[1]) - sum(self.groups)

    @property
    def n_centered(self) -> int:
        """Number of first features of which all entries are stored.

        Sparse samples stay so if the others are not centered. Those of a table with
        categories store all numbers.
        """
        is_dense = isinstance(self.matrix, np.ndarray)
        return self.n_plain if is_dense or len(self.groups) else 0

    @property
    def rows(self) -> Rows:
        """The samples, for the functions of `skae._data`."""
        has_missing = self.has_missing
        return make_rows(self.matrix, weights=self.weights, has_missing=has_missing)


class Standardization(NamedTuple):
    """Deviations of features from their means, in units of their spreads.

    For sparse samples means are 0, so that standardized ones are sparse. Levels of
    categories stay as they are, ones and zeros.
    """

    mean: Floats  # (n_features,) float64
    spread: Floats  # (n_features,) float64
    limit: Floats  # (n_features,) float64, of the deviations; 0: no entry was observed

    @classmethod
    def of(cls, samples: Samples) -> Standardization:
        """That of some samples.

        A feature that is constant has no spread: any other value counts as if it had
        been the only one among the samples.

        Raises
        ------
        ValueError
            If values are so large that their sums overflow.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            mean, spread = mean_and_spread(samples.rows)
        is_too_large = np.isinf(mean) | np.isinf(spread)
        if is_too_large.any():
            raise ValueError(
                f"Feature {is_too_large.argmax()} of X has values so large that their "
                "sums are out of the range of float64: divide it by a large number"
            )
        is_known, varies = ~np.isnan(mean), spread > 0
        mean = np.where(is_known, mean, 0.0)
        least = np.finfo(np.float64).tiny
        unit = np.maximum(_SHARE_OF_CONSTANT * np.abs(mean), least)
        limit = np.where(varies, FARTHEST, math.sqrt(samples.rows.total_weight))
        limit *= is_known
        limit[samples.n_plain :] = FARTHEST
        mean[samples.n_centered :] = 0
        spread[samples.n_plain :] = 1
        return cls(mean, np.where(spread > 0, spread, unit), limit)

    def updated(self, samples: Samples) -> Standardization:
        """That of some of the samples, in which more features may be constant."""
        mean, spread = mean_and_spread(samples.rows)
        mean = np.where(np.isnan(mean), self.mean, mean)
        mean[samples.n_centered :] = 0
        spread[samples.n_plain :] = 1
        return self._replace(mean=mean, spread=np.where(spread, spread, self.spread))

    def undone(self, rows: Matrix) -> Matrix:
        """Standardized features as they were, in float32."""
        if not isinstance(rows, np.ndarray):
            scaled = rows.copy()
            scaled.data *= self.unit[rows.indices].astype(np.float32)
            scaled.data += self.mean[rows.indices].astype(np.float32)
            return scaled
        return (rows * self.unit + self.mean).astype(np.float32)

    @property
    def unit(self) -> Floats:
        """What standardized features are multiplied by to undo it.

        The entry of a constant feature may differ by 1: how much it did is unknown.
        """
        of_constant = 1 / np.where(self.limit > 0, self.limit, 1.0)
        return np.where(self.limit < FARTHEST, of_constant, self.spread)

    def apply(self, X: Matrix) -> Matrix:
        """Standardized features, in float32; sparse if they can be."""
        if not isinstance(X, np.ndarray) and not self._keeps_sparse(X):
            X = dense(X)
        if not isinstance(X, np.ndarray):
            columns = X.indices
            with np.errstate(over="ignore"):
                scaled = X.astype(np.float32)
                data = (X.data - self.mean[columns]) / self.spread[columns]
            scaled.data = _cut(data, self.limit[columns]).astype(np.float32)
            return scaled
        scaled = np.empty(X.shape, dtype=np.float32)
        for batch in row_chunks(*X.shape):
            deviations = X[batch].astype(np.float64)
            with np.errstate(over="ignore"):
                deviations -= self.mean
                deviations /= self.spread
            scaled[batch] = _cut(deviations, self.limit)
        return scaled

    def _keeps_sparse(self, X: Any) -> bool:
        """Whether samples store all entries of the features that are centered."""
        n_stored = np.bincount(X.indices, minlength=len(self.mean))
        return bool((n_stored[self.mean != 0] == X.shape[0]).all())


def _cut(values: Floats, limit: Floats) -> Floats:
    """Values without those beyond limits, or missing where one is 0; in place."""
    np.clip(values, -limit, limit, out=values)
    if not limit.all():
        values[..., limit == 0] = 0
    return values
