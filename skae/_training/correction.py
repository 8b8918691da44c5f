"""By how much a network's changes correct predictions, as held-out samples say."""

import math

import numpy as np

from skae._data.mixed import Mixed
from skae._training.weight_selection import LEFT_OUT, confident_gain
from skae._typing import Floats

# Standard deviations that a weight is below the best one for these samples.
_DEVIATIONS = 1.0


def weights_of_mixed(
    errors: Floats, changes: Floats, units: np.ndarray, mixed: Mixed
) -> Floats:
    """`weights_of_changes` of columns of numbers, and of groups, which have one each.

    Those of one kind do not depend on the other, whose errors have other tails: of
    probabilities they are bounded, so that no few samples decide.
    """
    errors, changes, n = errors / mixed.unit, changes / mixed.unit, mixed.n_plain
    weights = np.zeros(len(mixed.widths))
    if n:
        weights[:n] = weights_of_changes(errors[:, :n], changes[:, :n], units)
    if len(mixed.sizes):
        errors, changes = errors[:, n:], changes[:, n:]
        starts = np.cumsum(mixed.sizes) - mixed.sizes
        found = _least_squares(
            np.add.reduceat(_by_unit(errors * changes, units), starts, axis=1),
            np.add.reduceat(_by_unit(changes**2, units), starts, axis=1),
        )
        changes = np.repeat(found, mixed.sizes) * changes
        weights[n:] = found * _certainty(errors, changes, units)
    return weights


def weights_of_changes(errors: Floats, changes: Floats, units: np.ndarray) -> Floats:
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


def ratios(errors: Floats, drawn: Floats) -> Floats:
    """Ratios of the root mean squares of errors to those of what was drawn for them."""
    of_errors, of_drawn = _pooled_sums(errors**2), _pooled_sums(drawn**2)
    ratios: Floats = np.sqrt(of_errors / np.where(of_drawn > 0, of_drawn, 1))
    return ratios
