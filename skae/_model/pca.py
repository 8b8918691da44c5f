"""Principal components of rows, as a network sees them, in bounded memory."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import eigh, qr
from scipy.optimize import minimize

from skae._compiled.records import Network
from skae._data.gaussian import Gaussian, fit_gaussian, most_directions
from skae._data.rows import (
    AnyRows,
    has_few_entries,
    network_input,
    of_entries,
    row_chunks,
    sparse_chunks,
)
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

    # (n_features, n_components) float64, by which rows less the mean are multiplied:
    # orthonormal columns, unless features have weights
    axes: np.ndarray
    deviations: np.ndarray  # (n_components,) float64, of the scores; none is zero
    mean: np.ndarray  # (n_features,) float64, where all scores are zero
    # (n_components, n_outputs) float64, from scores of variance 1 to outputs, which are
    # `at_mean` (n_outputs,) where all scores are zero
    decoder: np.ndarray
    at_mean: np.ndarray


def principal_components(
    rows: AnyRows,
    n_components: int,
    seed: int,
    *,
    mean: Floats | None = None,
    weights: Floats | None = None,
    is_table: bool = False,
) -> Components:
    """Compute the leading principal components of rows; fewer if their rank is lower.

    With many features subspace iteration is used: Halko, Martinsson & Tropp, "Finding
    structure with randomness", 2011, algorithm 4.4, on the scatter matrix.

    Parameters
    ----------
    rows : Rows

    n_components : int

    seed : int
        Seed of the iteration's first subspace.

    mean : ndarray of shape (n_features,), default=None
        Mean of the rows, as the network sees them; None is zero.

    weights : ndarray of shape (n_features,), default=None
        Weights of the features' squared errors; None is 1.

    is_table : bool, default=False
        Whether the rows are sparse ones of a table, which are not made dense.

    Returns
    -------
    components : Components
    """
    n_features = rows.n_features
    n_vectors = n_components + _N_OVERSAMPLES
    factors = None if weights is None else np.sqrt(weights)

    def scatter(basis: Floats | None = None) -> Floats:
        return _weighted_scatter(rows, basis, mean, factors, is_table=is_table)

    if n_features <= max(_MAX_SCATTER, n_vectors):
        leading = [max(0, n_features - n_components), n_features - 1]
        squares, axes = eigh(scatter(), subset_by_index=leading)
    else:
        rng = np.random.RandomState(seed)
        basis = rng.standard_normal((n_features, n_vectors))
        for _ in range(_N_ITERATIONS):
            basis, _ = qr(scatter(basis), mode="economic")
        squares, rotation = eigh(basis.T @ scatter(basis))
        axes = basis @ rotation
    squares, axes = squares[: -n_components - 1 : -1], axes[:, : -n_components - 1 : -1]
    mean = np.zeros(n_features) if mean is None else mean
    found = _of_rank(axes, squares / rows.total_weight, mean)
    if factors is None:
        return found
    decoder = found.decoder / np.where(factors > 0, factors, 1.0)
    axes = found.axes * factors[:, np.newaxis]
    return found._replace(axes=np.ascontiguousarray(axes), decoder=decoder)


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
    axes = np.ascontiguousarray(axes[:, :rank] * signs_of(axes[:, :rank].T))
    return Components(axes, deviations, mean, (axes * deviations).T, mean)


def n_components_for(
    rows: AnyRows,
    share: float,
    never_observed: np.ndarray,
    *,
    mean: Floats | None = None,
    weights: Floats | None = None,
    is_table: bool = False,
) -> int:
    """Number of components that explain more than a share of the variance.

    See `principal_components` for the arguments.
    """
    rest = 0.0  # of the variance
    if rows.has_missing:
        n_directions = most_directions(rows.n_features)
        gaussian = fit_gaussian(rows, n_directions, never_observed)
        deviations = components_of(gaussian, n_directions).deviations
        n_known = rows.n_features - len(never_observed)
        rest = gaussian.noise * max(0, n_known - n_directions)
    else:
        found = principal_components(
            rows, rows.n_features, 0, mean=mean, weights=weights, is_table=is_table
        )
        deviations = found.deviations
    explained = np.cumsum(deviations**2)
    if not explained.size:  # constant rows
        return 1
    total = explained[-1] + rest
    n_below = np.searchsorted(explained / total, share, side="right")
    return min(int(n_below) + 1, explained.size)


def _weighted_scatter(
    rows: AnyRows,
    basis: Floats | None,
    mean: Floats | None,
    factors: Floats | None,
    *,
    is_table: bool,
) -> Floats:
    """`_scatter` of rows less a mean, times factors of the features."""
    if basis is not None and factors is not None:
        basis = factors[:, np.newaxis] * basis
    scatter = _scatter(rows, basis, is_table=is_table)
    if mean is not None:
        across = mean if basis is None else mean @ basis
        scatter -= rows.total_weight * np.outer(mean, across)
    if factors is not None:
        scatter *= factors[:, np.newaxis]
        if basis is None:
            scatter *= factors
    return scatter


def _scatter(rows: AnyRows, basis: Floats | None, *, is_table: bool) -> Floats:
    """Sum of weight * outer(row, row) over the rows, times a basis if there is one."""
    of_part = _scatter_of_table if is_table else _scatter_of_part
    return sum(rows.map(of_part, basis), np.zeros(()))


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


def _scatter_of_table(rows: Part, basis: Floats | None) -> Floats:
    """`_scatter_of_part` of sparse rows, if that takes less time."""
    if not has_few_entries(rows):
        return _scatter_of_part(rows, basis)
    total: Any = 0.0
    for chunk, weights in sparse_chunks(rows):
        left = chunk
        if weights is not None:
            left = chunk.copy()
            left.data *= of_entries(weights, chunk)
        total = total + left.T @ (chunk if basis is None else chunk @ basis)
    scatter: Floats = total.toarray() if sparse.issparse(total) else np.asarray(total)
    return scatter


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


# Logits are fitted to so many rows, or fewer if there are many levels: so many entries.
_MAX_ROWS, _MAX_ENTRIES = 20_000, 2_000_000
# Strength of the penalty that keeps logits finite where scores tell levels apart
# without error, and the number of steps: these only begin a training.
_RIDGE, _N_STEPS = 1e-3, 30


def with_logits(
    components: Components, rows: AnyRows, network: Network, at_mean: Floats
) -> Components:
    """Components whose decoder predicts the logits of groups from the scores.

    Multinomial logistic regressions on the scores.

    Parameters
    ----------
    components : Components

    rows : AnyRows

    network : Network

    at_mean : ndarray of shape (n_grouped,)
        Logits of the levels' frequencies.

    Returns
    -------
    components : Components
    """
    n_plain = network.n_plain
    n_used = min(_MAX_ROWS, _MAX_ENTRIES // (rows.n_features - n_plain))
    if rows.n_rows > n_used:
        numbers = np.linspace(0, rows.n_rows - 1, n_used).astype(np.int64)
        rows = rows.choose(numbers)
    of_parts = rows.map(_scores_and_levels, components, network)
    scores, levels, weights = (
        np.concatenate(parts) for parts in zip(*of_parts, strict=True)
    )
    decoder = components.decoder.copy()
    biases = np.append(components.at_mean[:n_plain], at_mean)
    for g, (first, stop) in enumerate(itertools.pairwise(network.groups)):
        is_known = levels[:, g] >= 0
        if stop - first == 1 or not (weights * is_known).any():
            decoder[:, first:stop] = 0
            continue
        some = scores[is_known], levels[is_known, g], weights[is_known]
        found = _logistic_regression(*some, biases[first:stop])
        # Nothing is learnt of levels that these rows do not have.
        occurs = np.bincount(some[1], minlength=stop - first) > 0
        biases[first:stop] = np.where(occurs, found[0], biases[first:stop])
        decoder[:, first:stop] = np.where(occurs, found[1], 0.0)
    return components._replace(decoder=decoder, at_mean=biases)


def _scores_and_levels(
    rows: Part, components: Components, network: Network
) -> tuple[Floats, np.ndarray, Floats]:
    """Scores of variance 1, numbers of levels, -1 for missing ones, and weights."""
    read, starts = components.axes / components.deviations, network.groups[:-1]
    scores = np.empty((rows.n_rows, read.shape[1]))
    levels = np.empty((rows.n_rows, network.n_groups), dtype=np.int64)
    weights = np.ones(rows.n_rows)
    for batch in row_chunks(rows.n_rows, rows.n_features):
        part = rows.part(batch)
        for chunk, of_chunk in network_input(part):
            scores[batch] = (chunk - components.mean) @ read
            if of_chunk is not None:
                weights[batch] = of_chunk
        for chunk, _ in network_input(part.as_targets()):
            for g, (first, stop) in enumerate(itertools.pairwise(network.groups)):
                levels[batch, g] = chunk[:, first:stop].argmax(axis=1)
            levels[batch][np.isnan(chunk[:, starts])] = -1
    return scores, levels, weights


def _logistic_regression(
    scores: Floats, levels: np.ndarray, weights: Floats, biases: Floats
) -> tuple[Floats, Floats]:
    """Biases (n_levels,) and coefficients (n_scores, n_levels) of logits."""
    inputs = np.column_stack([np.ones(len(scores)), scores])
    shares, rows = weights / weights.sum(), np.arange(len(scores))
    shape = inputs.shape[1], len(biases)
    start = np.zeros(shape)
    start[0] = biases

    def loss_and_gradient(params: Floats) -> tuple[float, Floats]:
        coefficients = params.reshape(shape)
        logits = inputs @ coefficients
        logits -= logits.max(axis=1, keepdims=True)
        found = np.exp(logits)
        sums = found.sum(axis=1, keepdims=True)
        found /= sums
        loss = shares @ (np.log(sums[:, 0]) - logits[rows, levels])
        found[rows, levels] -= 1
        gradient = inputs.T @ (shares[:, np.newaxis] * found)
        penalized = _RIDGE * coefficients
        penalized[0] = 0
        loss += 0.5 * float((penalized[1:] * coefficients[1:]).sum())
        return loss, (gradient + penalized).ravel()

    options = {"maxiter": _N_STEPS}
    found = minimize(
        loss_and_gradient, start.ravel(), jac=True, method="L-BFGS-B", options=options
    )
    coefficients = found.x.reshape(shape)
    return coefficients[0], coefficients[1:]
