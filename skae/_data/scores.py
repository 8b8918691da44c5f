"""What scores are made of: weights of rows, sums of squares of any size."""

import math
import numbers
from typing import NamedTuple

import numpy as np
from sklearn.utils import check_array

# Only the ratios of weights count. Those that are larger or smaller by more than this
# power of two than 1 are brought near it, as their sums and products would overflow.
_MODERATE_WEIGHT = 32
# Squares of numbers that are larger or smaller by this power of two have digits to
# spare on both sides.
_MODERATE_SIZE = 256


def check_weights(sample_weight, n_rows):
    """Weights of rows as an array.

    Parameters
    ----------
    sample_weight : array-like of shape (n_rows,) or number
        Only their ratios count.

    n_rows : int

    Returns
    -------
    sample_weight : ndarray of shape (n_rows,), dtype=float64
        As they are, or all divided by the same power of two.

    Raises
    ------
    ValueError
        If the shape is wrong, an entry is negative or not finite, or none is positive.
    """
    if isinstance(sample_weight, numbers.Number):
        sample_weight = np.full(n_rows, sample_weight)
    sample_weight = check_array(
        sample_weight,
        ensure_2d=False,
        dtype=np.float64,
        order="C",
        input_name="sample_weight",
    )
    if sample_weight.ndim != 1:
        raise ValueError(
            f"sample_weight must be 1-D, got shape {sample_weight.shape}: pass one "
            f"weight for each of the {n_rows} rows of X"
        )
    if sample_weight.shape != (n_rows,):
        raise ValueError(
            f"sample_weight.shape == {sample_weight.shape}, expected {(n_rows,)}: X "
            "and sample_weight have inconsistent numbers of samples"
        )
    if (sample_weight < 0).any():
        raise ValueError(
            f"Negative values in sample_weight: the smallest is {sample_weight.min()}"
            "; weights have to be >= 0"
        )
    if not sample_weight.any():
        raise ValueError(
            "sample_weight has no positive entry. Sample weights must contain at least "
            "one non-zero number."
        )
    exponent = math.frexp(sample_weight.max())[1]
    if abs(exponent) > _MODERATE_WEIGHT:
        sample_weight = np.ldexp(sample_weight, -exponent)
    return sample_weight


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
