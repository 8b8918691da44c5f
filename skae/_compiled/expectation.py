"""What a normal distribution expects of the missing entries of rows.

The distribution is that of mean + loadings @ scores + noise, with independent scores of
variance 1 and noise of one variance. Matrices are upper triangles, so that loops run
along their rows.
"""

import math

from skae._compiled.compilation import REDUCTION, as_op, formula
from skae._compiled.intrinsics import is_null, shifted
from skae._compiled.vectors import use_whole_registers


@formula
def _add(a, b, factor, start, stop):
    """Add factor * b to a, from entry `start` to before `stop`."""
    use_whole_registers()
    for i in range(start, stop):
        a[i] += factor * b[i]


@formula
def _dot(a, b, n):
    use_whole_registers()
    total = 0.0
    for i in range(n):
        total += a[i] * b[i]
    return total


@formula
def _list_missing(row, n_features, numbers):
    """Write the numbers of a row's missing entries, and return how many there are."""
    n_missing = 0
    for j in range(n_features):
        if row[j] != row[j]:
            numbers[n_missing] = j
            n_missing += 1
    return n_missing


@formula
def _observe(row, mean, loadings, whole, noise, precision, scores, sizes):
    """Write the scores' precision and the sum that they solve for, times the noise.

    `whole` is the precision of a row of which nothing is missing.
    """
    n_features, n, n_missing = sizes
    # Few outer products are added or subtracted.
    is_mostly_there = 2 * n_missing <= n_features
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
            for i in range(n):
                _add(shifted(precision, i * n), loading, factor * loading[i], i, n)
        if not is_missing:
            _add(scores, loading, row[j] - mean[j], 0, n)


@formula
def _factor(matrix, least, n):
    """Replace a positive definite matrix by its Cholesky factor.

    `least` is a lower bound of the matrix' eigenvalues.
    """
    for k in range(n):
        row = shifted(matrix, k * n)
        # Rounding may make it smaller.
        root = math.sqrt(max(least, row[k]))
        for j in range(k, n):
            row[j] /= root
        row[k] = root
        for i in range(k + 1, n):
            _add(shifted(matrix, i * n), row, -row[i], i, n)


@formula
def _solve(factor, x, n):
    """Solve the system of the matrix that has a Cholesky factor, in place."""
    for i in range(n):
        row = shifted(factor, i * n)
        x[i] /= row[i]
        _add(x, row, -x[i], i + 1, n)
    for i in range(n - 1, -1, -1):
        row = shifted(factor, i * n)
        rest = _dot(shifted(row, i + 1), shifted(x, i + 1), n - i - 1)
        x[i] = (x[i] - rest) / row[i]


@formula
def _add_covariances(loadings, factor, variance, noise, missing, room, products, sizes):
    """Add covariances of a row's missing entries, times `variance`, to `products`.

    `missing` are their numbers; `room` has that for the loadings of all of them, and
    for a row more.
    """
    _, n, n_missing = sizes
    for i in range(n):
        for k in range(n_missing):
            room[i * n_missing + k] = loadings[missing[k] * n + i]
    _add_products(factor, variance * noise, 1.0, missing, room, products, sizes)


@formula
def _add_products(factor, variance, own, missing, room, products, sizes):
    """Add `variance` times products of columns of `room` by the inverse of a matrix.

    The matrix has a Cholesky factor. `own` is added to each column's with itself.
    """
    n_features, n, n_missing = sizes
    for i in range(n):
        of_factor, of_all = shifted(factor, i * n), shifted(room, i * n_missing)
        for k in range(n_missing):
            of_all[k] /= of_factor[i]
        for j in range(i + 1, n):
            _add(shifted(room, j * n_missing), of_all, -of_factor[j], 0, n_missing)
    sums = shifted(room, n * n_missing)
    for k in range(n_missing):
        for i in range(n_missing):
            sums[i] = 0.0
        sums[k] = own
        for i in range(n):
            of_all = shifted(room, i * n_missing)
            _add(sums, of_all, of_all[k], k, n_missing)
        at = shifted(products, missing[k] * n_features)
        for i in range(k, n_missing):
            at[missing[i]] += variance * sums[i]


@as_op("ddddddiddnnn", REDUCTION)
def fill_in(
    rows, weights, mean, loadings, whole, noise, missing, work, products,
    n_rows, n_features, n_directions,
):  # fmt: skip
    """Replace missing entries of rows, which are NaN, by their expectations.

    `whole` is loadings.T @ loadings + noise, and `noise` (1,) a variance. `missing` has
    room for (n_features,), `work` for (n_directions + n_features + 1, n_directions) and
    (n_features,) more. Unless `products` is null, covariances of the missing entries
    are added to it, times the rows' weights.
    """
    use_whole_registers()
    n = n_directions
    scores, room = shifted(work, n * n), shifted(work, n * n + n)
    for i in range(n_rows):
        row = shifted(rows, i * n_features)
        n_missing = _list_missing(row, n_features, missing)
        if n_missing > 0:
            sizes = n_features, n, n_missing
            _observe(row, mean, loadings, whole, noise[0], work, scores, sizes)
            _factor(work, noise[0], n)
            _solve(work, scores, n)
            if not is_null(products):
                of_row = weights[i], noise[0], missing, room, products
                _add_covariances(loadings, work, *of_row, sizes)
            for k in range(n_missing):
                j = missing[k]
                row[j] = mean[j] + _dot(shifted(loadings, j * n), scores, n)


@as_op("ddddidddnn", REDUCTION)
def fill_in_by_precision(
    rows, weights, mean, precision, missing, work, least, products, n_rows, n_features
):
    """`fill_in` given the inverse of the covariances of all features.

    It takes less time where there are as many directions as features. `least` (1,) is a
    lower bound of its eigenvalues, and `work` has room for (2 * n_features + 3,
    n_features).
    """
    use_whole_registers()
    n = n_features
    rest, room = shifted(work, n * n), shifted(work, n * n + n)
    for i in range(n_rows):
        row = shifted(rows, i * n)
        n_missing = _list_missing(row, n, missing)
        if n_missing > 0:
            for j in range(n):
                is_missing = row[j] != row[j]
                rest[j] = 0.0 if is_missing else row[j] - mean[j]
            for k in range(n_missing):
                at = shifted(precision, missing[k] * n)
                for j in range(k, n_missing):
                    work[k * n_missing + j] = at[missing[j]]
            solution = shifted(room, (n + 1) * n)
            for k in range(n_missing):
                at = shifted(precision, missing[k] * n)
                solution[k] = -_dot(at, rest, n)
            _factor(work, least[0], n_missing)
            _solve(work, solution, n_missing)
            for k in range(n_missing):
                row[missing[k]] = mean[missing[k]] + solution[k]
            if not is_null(products):
                for k in range(n_missing):
                    for j in range(n_missing):
                        room[k * n_missing + j] = 1.0 if j == k else 0.0
                sizes = n, n_missing, n_missing
                of_row = weights[i], 0.0, missing, room, products, sizes
                _add_products(work, *of_row)
