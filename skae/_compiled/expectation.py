"""What a normal distribution expects of the missing entries of rows.

The distribution is that of mean + loadings @ scores + noise, with independent scores of
variance 1 and noise of one variance.
"""

import math

from skae._compiled.compilation import REDUCTION, as_op, formula
from skae._compiled.intrinsics import is_null, shifted
from skae._compiled.vectors import use_whole_registers


@formula
def _dot(a, b, n):
    use_whole_registers()
    total = 0.0
    for i in range(n):
        total += a[i] * b[i]
    return total


@formula
def _n_missing(row, n_features):
    count = 0
    for j in range(n_features):
        count += 1 if row[j] != row[j] else 0
    return count


@formula
def _add_outer_product(total, a, factor, n):
    """Add factor * a @ a.T to the lower triangle of `total` (n, n)."""
    use_whole_registers()
    for i in range(n):
        scaled = factor * a[i]
        for j in range(i + 1):
            total[i * n + j] += scaled * a[j]


@formula
def _observe(row, mean, loadings, whole, noise, precision, scores, sizes):
    """Write the scores' precision (lower triangle) and the sum that they solve for.

    Both are times the noise. `whole` is the precision if nothing is missing.
    """
    n_features, n = sizes
    # Few outer products are added or subtracted.
    is_mostly_there = 2 * _n_missing(row, n_features) <= n_features
    for i in range(n * n):
        precision[i] = whole[i] if is_mostly_there else 0.0
    for i in range(n):
        scores[i] = 0.0
        if not is_mostly_there:
            precision[i * n + i] = noise
    for j in range(n_features):
        loading = shifted(loadings, j * n)
        is_missing = row[j] != row[j]
        if is_missing == is_mostly_there:
            factor = -1.0 if is_missing else 1.0
            _add_outer_product(precision, loading, factor, n)
        if not is_missing:
            deviation = row[j] - mean[j]
            for i in range(n):
                scores[i] += deviation * loading[i]


@formula
def _solve_lower(factor, x, n):
    """Solve a lower triangular system in place."""
    for i in range(n):
        row = shifted(factor, i * n)
        x[i] = (x[i] - _dot(row, x, i)) / row[i]


@formula
def _factor(matrix, least, n):
    """Replace the lower triangle of a positive definite matrix by its Cholesky factor.

    `least` is a lower bound of the matrix' eigenvalues.
    """
    for i in range(n):
        row = shifted(matrix, i * n)
        for j in range(i):
            other = shifted(matrix, j * n)
            row[j] = (row[j] - _dot(row, other, j)) / other[j]
        # Rounding may make it smaller.
        row[i] = math.sqrt(max(least, row[i] - _dot(row, row, i)))


@formula
def _solve_transposed(factor, x, n):
    """Solve the system of a lower triangular matrix' transpose in place."""
    for i in range(n - 1, -1, -1):
        row = shifted(factor, i * n)
        x[i] /= row[i]
        for j in range(i):
            x[j] -= x[i] * row[j]


@formula
def _add_covariances(row, loadings, factor, variance, noise, work, products, sizes):
    """Add variance * noise times the covariances of a row's missing entries.

    Written is the lower triangle of `products` (n_features, n_features). `work` has
    room for (n_features, n_directions).
    """
    n_features, n = sizes
    for j in range(n_features):
        if row[j] != row[j]:
            of_j = shifted(work, j * n)
            for i in range(n):
                of_j[i] = loadings[j * n + i]
            _solve_lower(factor, of_j, n)
            for k in range(j):
                if row[k] != row[k]:
                    shared = _dot(of_j, shifted(work, k * n), n)
                    products[j * n_features + k] += variance * noise * shared
            own = noise * (1.0 + _dot(of_j, of_j, n))
            products[j * n_features + j] += variance * own


@as_op("dddddddddnnn", REDUCTION)
def fill_in(
    rows, weights, mean, loadings, whole, noise, work, scores, products,
    n_rows, n_features, n_directions,
):  # fmt: skip
    """Replace missing entries of rows, which are NaN, by their expectations.

    `whole` is loadings.T @ loadings + noise, and `noise` (1,) a variance. `work` has
    room for (n_directions + n_features, n_directions), `scores` for (n_directions,).
    Unless `products` is null, covariances of the missing entries are added to it, times
    the rows' weights.
    """
    use_whole_registers()
    sizes = n_features, n_directions
    rest = shifted(work, n_directions * n_directions)
    for i in range(n_rows):
        row = shifted(rows, i * n_features)
        if _n_missing(row, n_features) > 0:
            _observe(row, mean, loadings, whole, noise[0], work, scores, sizes)
            _factor(work, noise[0], n_directions)
            _solve_lower(work, scores, n_directions)
            _solve_transposed(work, scores, n_directions)
            if not is_null(products):
                of_row = work, weights[i], noise[0], rest, products
                _add_covariances(row, loadings, *of_row, sizes)
            for j in range(n_features):
                if row[j] != row[j]:
                    loading = shifted(loadings, j * n_directions)
                    row[j] = mean[j] + _dot(loading, scores, n_directions)
