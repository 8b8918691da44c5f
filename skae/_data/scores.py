"""What scores are made of: sums of squares of any size."""

import math
from typing import NamedTuple

import numpy as np

# Squares of numbers that are larger or smaller by this power of two have digits to
# spare on both sides.
_MODERATE_SIZE = 256


class SumOfSquares(NamedTuple):
    """Weighted sum of squares of any size: ``value * 4**exponent``."""

    value: float = 0.0
    exponent: int | None = None  # None: of nothing but zeros

    @classmethod
    def of(cls, values, weights):
        """Sum over rows (n_rows, n_features), with weights (n_rows,)."""
        largest = np.abs(values).max()
        if not np.isfinite(largest):  # reconstructions overflow
            return cls(math.inf, 0)
        if not largest:
            return cls()
        # The unit is a power of two, so that ordinary sums are the same bits without.
        exponent = math.frexp(largest)[1]
        if abs(exponent) <= _MODERATE_SIZE:
            exponent = 0
        else:
            values = np.ldexp(values, -exponent)
        # Not a product by BLAS, whose bits depend on its number of threads.
        norms = np.einsum("ij,ij->i", values, values)
        return cls(float((weights * norms).sum()), exponent)

    def plus(self, other):
        """The sum of both."""
        if self.exponent is None or other.exponent is None:
            return other if self.exponent is None else self
        exponent = max(self.exponent, other.exponent)
        parts = (
            math.ldexp(s.value, 2 * (s.exponent - exponent)) for s in (self, other)
        )
        return SumOfSquares(sum(parts), exponent)

    def divided_by(self, other):
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
    def of(cls, errors, deviations, weights=None):
        """Those of rows, which are (n_rows, n_features)."""
        weights = np.ones(len(errors)) if weights is None else weights
        return cls(*(SumOfSquares.of(v, weights) for v in (errors, deviations)))

    def plus(self, other):
        """The sums over the rows of both."""
        return Squares(self.lost.plus(other.lost), self.total.plus(other.total))

    @property
    def share(self):
        """R²; without deviations, as that of scikit-learn, 1 or 0."""
        if not math.isfinite(self.lost.value):
            return -math.inf
        if not self.total.value:
            return 0.0 if self.lost.value else 1.0
        if not self.lost.value:
            return 1.0
        return float(1 - self.lost.divided_by(self.total))
