"""Sums of squares of any size, which scores are computed from."""

import math
from typing import NamedTuple, Self

import numpy as np

from skae._typing import Floats

# Squares of numbers that are larger or smaller by this power of two have digits to
# spare on both sides.
_MODERATE_SIZE = 256


class SumOfSquares(NamedTuple):
    """Weighted sum of squares of any size: ``value * 4**exponent``."""

    value: float = 0.0
    exponent: int = 0

    @classmethod
    def of(cls, values: Floats, weights: Floats) -> Self:
        """Sum over rows (n_rows, n_features), with weights (n_rows,)."""
        largest = float(np.abs(values).max())
        if not math.isfinite(largest):  # reconstructions overflow
            return cls(math.inf)
        # The unit is a power of two, so that ordinary sums are the same bits without.
        exponent = math.frexp(largest)[1]
        if abs(exponent) <= _MODERATE_SIZE:
            exponent = 0
        else:
            values = np.ldexp(values, -exponent)
        # Not a product by BLAS, whose bits depend on its number of threads.
        norms = np.einsum("ij,ij->i", values, values)
        return cls(float((weights * norms).sum()), exponent)

    def plus(self, other: Self) -> Self:
        """The sum of both."""
        if not self.value or not other.value:  # zeros have no size to compare
            return self if self.value else other
        exponent = max(self.exponent, other.exponent)
        parts = (
            math.ldexp(s.value, 2 * (s.exponent - exponent)) for s in (self, other)
        )
        return self._replace(value=sum(parts), exponent=exponent)

    def divided_by(self, other: Self) -> float:
        """The ratio of both, infinite if it overflows."""
        exponent = 2 * (self.exponent - other.exponent)
        try:
            return math.ldexp(self.value / other.value, exponent)
        except OverflowError:
            return math.inf


class Squares(NamedTuple):
    """Weighted sums of squared errors and squared deviations."""

    lost: SumOfSquares = SumOfSquares()
    total: SumOfSquares = SumOfSquares()

    @classmethod
    def of(
        cls, errors: Floats, deviations: Floats, weights: Floats | None = None
    ) -> Self:
        """Sums over rows: errors and deviations are (n_rows, n_features)."""
        weights = np.ones(len(errors)) if weights is None else weights
        return cls(*(SumOfSquares.of(v, weights) for v in (errors, deviations)))

    def plus(self, other: Self) -> Self:
        """The sums over the rows of both."""
        lost, total = self.lost.plus(other.lost), self.total.plus(other.total)
        return self._replace(lost=lost, total=total)

    @property
    def share(self) -> float:
        """R²; without deviations 1 or 0, as scikit-learn's."""
        if not math.isfinite(self.lost.value):
            return -math.inf
        if not self.total.value:
            return 0.0 if self.lost.value else 1.0
        return 1 - self.lost.divided_by(self.total)
