"""A normal distribution of rows with missing entries: fitted by EM, used to fill them.

It is to rows with missing entries what principal components are to complete ones:
Tipping & Bishop, "Probabilistic principal component analysis", 1999. Dempster, Laird &
Rubin, "Maximum likelihood from incomplete data via the EM algorithm", 1977.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, eigh, qr, svd

from skae._compiled.expectation import fill_in, fill_in_by_precision
from skae._data.rows import (
    AnyRows,
    LocalRows,
    Rows,
    aligned,
    matrix_in_use,
    network_input,
    row_chunks,
    slices,
)
from skae._runtime.threads import map_in_order, n_threads_for
from skae._typing import Floats, Result

# EM ends when no covariance changes by more than this share of the mean variance, or
# after so many steps. With half or four times as many, expectations are worse for new
# rows of some of six data sets, with 20 and 50 % missing: many steps fit too closely.
_TOLERANCE, _MAX_STEPS = 5e-3, 12
# The least variance of a direction, as a share of the mean: features that are functions
# of others leave no noise.
_LEAST_NOISE = 1e-3
# With more features than this, covariances take too much time; instead there are so
# many steps of subspace iteration.
_MAX_COVARIANCE, _N_ITERATIONS = 128, 7
# Rows that the distribution is fitted to, at most; fewer if features times squared
# directions times rows are more than the second number, which takes half a second.
_MAX_ROWS, _MAX_OPERATIONS = 20_000, 8e9
# Rows that the distribution is fitted to, at least, if there are as many; and rows for
# each direction where these are as many as can be told.
_MIN_ROWS, _ROWS_PER_DIRECTION = 20, 5
# Rows that a thread computes with at a time.
_ROWS_AT_ONCE = 256

_NONE = np.empty(0, dtype=np.int64)


class Gaussian(NamedTuple):
    """Rows are mean + loadings @ scores + noise, with scores of variance 1."""

    mean: np.ndarray  # (n_features,) float64
    loadings: np.ndarray  # (n_features, n_directions) float64
    noise: float  # variance

    @classmethod
    def without_directions(cls, mean: Floats) -> "Gaussian":
        """Independent features, whose expectation is their mean."""
        return cls(mean.astype(np.float64), np.empty((len(mean), 0)), 1.0)


class Expectation:
    """What a distribution expects of rows, given their observed entries.

    Parameters
    ----------
    gaussian : Gaussian

    by_precision : bool, default=False
        Whether the inverse of the covariances is used: it takes less time if there are
        nearly as many directions, which have to be orthogonal, as features.
    """

    def __init__(self, gaussian: Gaussian, *, by_precision: bool = False) -> None:
        mean, loadings, noise = gaussian
        n_features, n_directions = self._shape = loadings.shape
        self._by_precision = by_precision
        if by_precision:
            variances = noise + np.einsum("ia,ia->a", loadings, loadings)
            scaled = loadings / variances
            precision = np.eye(n_features) - np.einsum("ia,ja->ij", scaled, loadings)
            least = 1 / max(noise, variances.max(initial=0.0))
            of_precision = mean, precision / noise, np.array([least])
            self._arrays = [aligned(array) for array in of_precision]
            self._work_size = (2 * n_features + 3) * n_features
            return
        # Not a product by BLAS, whose bits depend on its number of threads.
        whole = np.einsum("ja,jb->ab", loadings, loadings)
        whole += noise * np.eye(n_directions)
        arrays = mean, loadings, whole, np.array([noise])
        self._arrays = [aligned(array) for array in arrays]
        self._work_size = (n_directions + n_features + 1) * n_directions + n_features

    def fill(
        self,
        rows: Floats,
        weights: Floats | None = None,
        covariance: Floats | None = None,
    ) -> None:
        """Replace missing entries by their expectations, in place.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features), dtype=float64
            Missing entries are NaN.

        weights : ndarray of shape (n_rows,), default=None
            None is 1.

        covariance : ndarray of shape (n_features, n_features), default=None
            The upper triangle grows by the rows' covariances of missing entries, times
            weights.
        """
        if weights is None:
            weights = np.ones(len(rows))
        if covariance is None:
            covariance = np.empty(0)
        missing, work = np.empty(self._shape[0], np.int64), np.empty(self._work_size)
        if self._by_precision:
            mean, precision, least = self._arrays
            how = mean, precision, missing, work, least, covariance
            fill_in_by_precision(rows, weights, *how, len(rows), self._shape[0])
            return
        arrays = *self._arrays, missing, work, covariance
        fill_in(rows, weights, *arrays, len(rows), *self._shape)


def filled(rows: Rows, gaussian: Gaussian) -> Rows:
    """Rows with expectations in place of missing entries.

    Parameters
    ----------
    rows : Rows
        Missing entries of the matrix are NaN.

    gaussian : Gaussian
        Distribution of the rows as a network sees them.

    Returns
    -------
    rows : Rows
        All rows of the matrix are filled, in use or not. If it is a mapped file, a
        temporary file has the result.
    """
    whole = _all_lines(rows)
    batches = list(row_chunks(whole.n_rows, rows.n_features))
    fill = partial(_filled_values, whole, Expectation(gaussian))
    n_operations = rows.values.size * gaussian.loadings.shape[1] ** 2
    n_threads = n_threads_for(len(batches), n_operations)
    chunks = map_in_order(fill, batches, n_threads)
    return rows._replace(values=_joined(chunks, rows.values))


def _all_lines(rows: Rows) -> Rows:
    """All rows of a matrix, used or not, without weights."""
    n_lines = rows.starts.size - 1
    if not rows.starts.size:
        n_lines = rows.values.size // rows.n_features
    return rows._replace(
        subset=rows.subset[:0], weights=rows.weights[:0], n_rows=n_lines
    )


def _filled_values(rows: Rows, expectation: Expectation, batch: slice) -> Floats:
    """Stored entries of a slice of the rows, filled."""
    part = rows.part(batch)
    matrix: Any = matrix_in_use(part)
    is_dense = isinstance(matrix, np.ndarray)
    values: Floats = matrix.ravel() if is_dense else matrix.data
    is_missing = np.isnan(values)
    if not is_missing.any():
        return values
    ((seen, _),) = network_input(part)
    expectation.fill(seen)
    factors, offset = part.factors.astype(np.float64), part.offset.astype(np.float64)
    expected = seen / factors + offset
    if is_dense:
        expected = expected.ravel()
    else:
        lines = np.repeat(np.arange(part.n_rows), np.diff(matrix.indptr))
        expected = expected[lines, matrix.indices]
    return np.where(is_missing, expected.astype(values.dtype), values)


def _joined(chunks: Iterator[Floats], template: Floats) -> Floats:
    """One array of chunks: in memory, or in a temporary file if the template is."""
    if not _is_mapped(template):
        return np.concatenate([template[:0], *chunks])
    with tempfile.TemporaryFile() as file:
        for chunk in chunks:
            # Not through a memory map, which ends the process if the disk is full.
            file.write(np.ascontiguousarray(chunk).data)
        file.flush()
        return np.memmap(file, template.dtype, mode="r", shape=template.shape)


def _is_mapped(array: Any) -> bool:
    """Whether an array is in a mapped file."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


def fit_gaussian(
    rows: AnyRows,
    n_directions: int,
    never_observed: np.ndarray = _NONE,
    seed: int = 0,
    *,
    by_precision: bool = False,
) -> Gaussian:
    """Fit a distribution to rows as a network sees them, by maximum likelihood.

    Parameters
    ----------
    rows : AnyRows
        With many of them, it is fitted to some at equal distances.

    n_directions : int
        At most as many as features less one are used, but at least one.

    never_observed : ndarray of int, default=empty
        Features of which all entries are missing. They do not count.

    seed : int, default=0
        Seed of the first directions if there are many features.

    by_precision : bool, default=False
        As of `Expectation`; not with many features.

    Returns
    -------
    gaussian : Gaussian
        The directions are orthogonal, those with the largest variances first.
    """
    n_known = rows.n_features - len(never_observed)
    n_directions = max(1, min(n_directions, n_known - 1))
    most = int(min(_MAX_ROWS, _MAX_OPERATIONS / (n_known * n_directions**2)))
    most = max(most, _MIN_ROWS)
    if rows.n_rows > most:
        numbers = np.linspace(0, rows.n_rows - 1, most).astype(np.int64)
        rows = rows.choose(numbers).materialized()
    if rows.n_features > _MAX_COVARIANCE:
        return _iterated(rows, n_directions, n_known, seed)
    gaussian = Gaussian.without_directions(np.zeros(rows.n_features))
    before: Floats = np.eye(rows.n_features)
    for _ in range(_MAX_STEPS):
        moments = rows.map(_moments, gaussian, by_precision)
        mean = sum((m[0] for m in moments), np.zeros(())) / rows.total_weight
        covariance = sum((m[1] for m in moments), np.zeros(())) / rows.total_weight
        covariance -= np.outer(mean, mean)
        mean[never_observed] = 0
        covariance[never_observed] = covariance[:, never_observed] = 0
        gaussian = _with_covariance(mean, covariance, n_directions, n_known)
        change = np.abs(covariance - before).max()
        if change <= _TOLERANCE * covariance.trace() / n_known:
            break
        before = covariance
    return gaussian


def most_directions(n_features: int) -> int:
    """How many directions a distribution of features can have that is fitted to rows.

    With many features, as many that a few times as many rows are used.
    """
    if n_features <= _MAX_COVARIANCE:
        return n_features
    cube = _MAX_OPERATIONS / (_ROWS_PER_DIRECTION * n_features)
    return min(n_features, int(math.cbrt(cube)))


def _iterated(rows: AnyRows, n_directions: int, n_known: int, seed: int) -> Gaussian:
    """`fit_gaussian` for many features, without their covariances.

    Each pass fills rows with expectations and makes a step of subspace iteration.
    """
    rng, n_features = np.random.RandomState(seed), rows.n_features
    axes, _ = qr(rng.standard_normal((n_features, n_directions)), mode="economic")
    gaussian = Gaussian.without_directions(np.zeros(n_features))
    for _ in range(_N_ITERATIONS):
        sums = rows.map(_scatter_of_filled, gaussian, axes)
        scatter, trace = sum(s[0] for s in sums), sum(s[1] for s in sums)
        axes, squares, _ = svd(scatter / rows.total_weight, full_matrices=False)
        rest = trace / rows.total_weight - squares.sum()
        gaussian = _of_moments(gaussian.mean, axes, squares, rest, n_known)
    return gaussian


def _scatter_of_filled(
    rows: LocalRows, gaussian: Gaussian, axes: Floats
) -> tuple[Floats, float]:
    """Scatter of filled rows times axes, and its trace, with the noise of fillings."""
    expectation = Expectation(gaussian)

    def of_piece(chunk: Floats, weights: Floats | None) -> tuple[Floats, float]:
        counted = np.ones(len(chunk)) if weights is None else weights
        trace = gaussian.noise * float((counted * np.isnan(chunk).sum(axis=1)).sum())
        expectation.fill(chunk)
        weighted = counted[:, np.newaxis] * chunk
        trace += float((weighted * chunk).sum())
        return weighted.T @ (chunk @ axes), trace

    scatter, total = np.zeros_like(axes), 0.0
    for product, trace in _map_pieces(of_piece, rows, axes.shape[1]):
        scatter += product
        total += trace
    return scatter, total


def _of_moments(
    mean: Floats, axes: Floats, variances: Floats, rest: float, n_known: int
) -> Gaussian:
    """The distribution with these directions and the `rest` of the total variance.

    That is the variance of `n_known` features.
    """
    # Before iteration has converged, what is left may be more than the least variance.
    noise = min(rest / max(1, n_known - len(variances)), variances.min())
    least = _LEAST_NOISE * (rest + variances.sum()) / n_known
    noise = float(max(noise, least, np.finfo(np.float64).tiny))
    loadings = axes * np.sqrt(np.maximum(0.0, variances - noise))
    return Gaussian(mean, np.ascontiguousarray(loadings), noise)


def _with_covariance(
    mean: Floats, covariance: Floats, n_directions: int, n_known: int
) -> Gaussian:
    """The most likely distribution for given moments."""
    n_features = len(mean)
    first = n_features - n_directions
    try:
        variances, axes = eigh(covariance, subset_by_index=[first, n_features - 1])
    except LinAlgError:  # LAPACK's faster method fails where many variances are equal
        variances, axes = eigh(covariance, driver="evd")
        variances, axes = variances[first:], axes[:, first:]
    rest = covariance.trace() - variances.sum()
    return _of_moments(mean, axes[:, ::-1], variances[::-1], rest, n_known)


def _map_pieces(
    function: Callable[[Floats, Floats | None], Result],
    rows: LocalRows,
    n_directions: int,
) -> Iterator[Result]:
    """Results for pieces of rows as a network sees them, and their weights, in order.

    Pieces are small, so that threads have some of them.
    """

    def pieces() -> Iterator[tuple[Floats, Floats | None]]:
        for chunk, weights in network_input(rows):
            for batch in slices(len(chunk), _ROWS_AT_ONCE):
                yield chunk[batch], None if weights is None else weights[batch]

    n_operations = rows.n_rows * rows.n_features * n_directions**2
    n_threads = n_threads_for(-(-rows.n_rows // _ROWS_AT_ONCE), n_operations)
    return map_in_order(lambda piece: function(*piece), pieces(), n_threads)


def _moments(
    rows: LocalRows, gaussian: Gaussian, by_precision: bool
) -> tuple[Floats, Floats]:
    """Expected sum, and expected products, of the rows of a part."""
    n_features = rows.n_features
    expectation = Expectation(gaussian, by_precision=by_precision)

    def of_piece(chunk: Floats, weights: Floats | None) -> tuple[Floats, Floats]:
        products = np.zeros((n_features, n_features))
        expectation.fill(chunk, weights, products)
        products += np.triu(products, 1).T
        weighted = chunk if weights is None else weights[:, np.newaxis] * chunk
        products += weighted.T @ chunk
        return weighted.sum(axis=0), products

    total, products = np.zeros(n_features), np.zeros((n_features, n_features))
    for sums, of_these in _map_pieces(of_piece, rows, gaussian.loadings.shape[1]):
        total += sums
        products += of_these
    return total, products
