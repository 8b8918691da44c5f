"""Principal components of rows, as a network sees them, in bounded memory."""

from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh, qr

from skae._data.gaussian import Gaussian, fit_gaussian
from skae._data.rows import AnyRows, network_input, row_chunks
from skae._model.inference import Part
from skae._model.network import signs_of
from skae._runtime.threads import map_in_order, n_threads_for
from skae._typing import Floats

# With at most this many features the scatter matrix is computed, in one pass.
_MAX_SCATTER = 1024
# Subspace iteration for more features. On standardized MNIST, whose spectrum is flat,
# the share of the variance that 10 components explain is 9e-6 below the optimum.
_N_OVERSAMPLES, _N_ITERATIONS = 10, 7


class Components(NamedTuple):
    """The leading principal components."""

    axes: np.ndarray  # (n_features, n_components) float64, orthonormal columns
    deviations: np.ndarray  # (n_components,) float64, of the scores; none is zero
    mean: np.ndarray  # (n_features,) float64, where all scores are zero


def principal_components(rows: AnyRows, n_components: int, seed: int) -> Components:
    """Compute the leading principal components of rows; fewer if their rank is lower.

    With many features subspace iteration is used: Halko, Martinsson & Tropp, "Finding
    structure with randomness", 2011, algorithm 4.4, on the scatter matrix.

    Parameters
    ----------
    rows : Rows
        Their mean, as the network sees them, is taken to be zero.

    n_components : int

    seed : int
        Seed of the iteration's first subspace.

    Returns
    -------
    components : Components
    """
    n_features = rows.n_features
    n_vectors = n_components + _N_OVERSAMPLES
    if n_features <= max(_MAX_SCATTER, n_vectors):
        leading = [max(0, n_features - n_components), n_features - 1]
        squares, axes = eigh(_scatter(rows, None), subset_by_index=leading)
    else:
        rng = np.random.RandomState(seed)
        basis = rng.standard_normal((n_features, n_vectors))
        for _ in range(_N_ITERATIONS):
            basis, _ = qr(_scatter(rows, basis), mode="economic")
        squares, rotation = eigh(basis.T @ _scatter(rows, basis))
        axes = basis @ rotation
    squares, axes = squares[: -n_components - 1 : -1], axes[:, : -n_components - 1 : -1]
    return _of_rank(axes, squares / rows.total_weight, np.zeros(n_features))


def components_of(gaussian: Gaussian, n_components: int) -> Components:
    """The leading principal components of a distribution; fewer if it has fewer."""
    loadings = gaussian.loadings[:, :n_components]
    squares = np.einsum("ij,ij->j", loadings, loadings)
    axes = loadings / np.sqrt(np.where(squares > 0, squares, 1.0))
    variances = np.where(squares > 0, squares + gaussian.noise, 0.0)
    return _of_rank(axes, variances, gaussian.mean)


def _of_rank(axes: Floats, variances: Floats, mean: Floats) -> Components:
    """Those of orthogonal axes whose variance is not a rounding error."""
    info = np.finfo(np.float64)
    # Denormal variances have no inverse.
    least = max(info.eps * len(axes) * variances[0], info.tiny)
    rank = int((variances > least).sum())
    deviations = np.sqrt(variances[:rank])
    axes = axes[:, :rank] * signs_of(axes[:, :rank].T)
    return Components(np.ascontiguousarray(axes), deviations, mean)


def n_components_for(rows: AnyRows, share: float, never_observed: np.ndarray) -> int:
    """Number of components that explain more than a share of the variance."""
    if rows.has_missing:
        gaussian = fit_gaussian(rows, rows.n_features, never_observed)
        deviations = components_of(gaussian, rows.n_features).deviations
    else:
        deviations = principal_components(rows, rows.n_features, 0).deviations
    explained = np.cumsum(deviations**2)
    if not explained.size:  # constant rows
        return 1
    n_below = np.searchsorted(explained / explained[-1], share, side="right")
    return min(int(n_below) + 1, explained.size)


def _scatter(rows: AnyRows, basis: Floats | None) -> Floats:
    """Sum of weight * outer(row, row) over the rows, times a basis if there is one."""
    return sum(rows.map(_scatter_of_part, basis), np.zeros(()))


def _scatter_of_part(rows: Part, basis: Floats | None) -> Floats:

    def of_chunk(chunk_and_weights: tuple[Floats, Floats | None]) -> Floats:
        chunk, weights = chunk_and_weights
        weighted = chunk if weights is None else weights[:, np.newaxis] * chunk
        return weighted.T @ (chunk if basis is None else chunk @ basis)

    n_threads = 1  # with a basis, reading the rows is most of the work
    if basis is None:
        n_chunks = len(list(row_chunks(rows.n_rows, rows.n_features)))
        n_threads = n_threads_for(n_chunks, rows.n_rows * rows.n_features**2)
    # In this order the sum has the same bits with any number of threads.
    chunks = map_in_order(of_chunk, network_input(rows), n_threads)
    return sum(chunks, np.zeros(()))


def least_scores(rows: AnyRows, components: Components) -> Floats:
    """The least score of each component over the rows, in standard deviations."""
    loadings = components.axes / components.deviations
    mean = components.mean
    least: Floats = np.min(rows.map(_least_of_part, mean, loadings), axis=0)
    return least


def _least_of_part(rows: Part, mean: Floats, loadings: Floats) -> Floats:
    least = np.zeros(loadings.shape[1])
    for chunk, weights in network_input(rows):
        used = chunk if weights is None else chunk[weights > 0]
        least = np.minimum(least, ((used - mean) @ loadings).min(axis=0, initial=0.0))
    return least
