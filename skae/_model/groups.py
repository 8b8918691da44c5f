"""Groups of outputs, the levels of categories: probabilities, losses, weights.

A group's inputs are one for a sample's level and zeros for the others. Its outputs are
logits, of which a softmax makes probabilities. Arrays of columns have an entry for each
output that is in no group, then one for each group.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np

from skae._typing import Floats

# The least entropy, in nats, that cross-entropies are measured in: that of a level that
# one of 600 samples has.
_LEAST_ENTROPY = 0.01
# The most that levels count for which are known but do not occur in the training data,
# as a frequency: they may occur later, and many nats would drown the other losses.
_UNSEEN_FREQUENCY = 1 / 600
# The null loss of a column: half a variance, as of standardized numbers.
NULL_LOSS = 0.5


class Grouped(Protocol):
    """Says which outputs are in groups, as a `Network` does; see `Groups`."""

    @property
    def n_plain(self) -> int:
        """Number of the outputs that are in none."""

    @property
    def groups(self) -> np.ndarray:
        """Where groups begin among all outputs, and where the last ends."""

    @property
    def n_groups(self) -> int:
        """Number of groups."""


class Groups(NamedTuple):
    """Which outputs are in groups, of something that is no network."""

    n_plain: int
    groups: np.ndarray  # (n_groups + 1,)
    n_groups: int

    @classmethod
    def of(cls, n_plain: int, sizes: Sequence[int]) -> Self:
        """Groups of some sizes, behind other outputs."""
        starts = np.array([*itertools.accumulate(sizes, initial=n_plain)])
        return cls(n_plain, starts, len(sizes))


def probabilities(outputs: Floats, network: Grouped) -> Floats:
    """Outputs of a network with probabilities in place of logits."""
    if not network.n_groups:
        return outputs
    logits = _of_groups(outputs, network)
    exponentials = np.exp(logits - _spread(_highest(logits, network), network))
    found = outputs.copy()
    sums = _sums(exponentials, network)
    found[:, network.n_plain :] = exponentials / _spread(sums, network)
    return found


def probability_slopes(found: Floats, tangents: Floats, network: Grouped) -> Floats:
    """Derivatives of `probabilities`, of shape (n_rows, n_directions, n_outputs).

    A probability p of logits z has the derivative p * (dz - sum of the group's p * dz).

    Parameters
    ----------
    found : ndarray of shape (n_rows, n_outputs)
        What `probabilities` returns.

    tangents : ndarray of shape (n_rows, n_directions, n_outputs)
        Derivatives of the outputs in some directions.

    network : Grouped
    """
    if not network.n_groups:
        return tangents
    slopes = tangents.copy()
    for first, stop in itertools.pairwise(network.groups):
        p, dz = found[:, np.newaxis, first:stop], tangents[:, :, first:stop]
        slopes[:, :, first:stop] = p * (dz - (p * dz).sum(axis=2, keepdims=True))
    return slopes


def cross_entropies(outputs: Floats, targets: Floats, network: Grouped) -> Floats:
    """Losses of a network's groups, in nats.

    Parameters
    ----------
    outputs : ndarray of shape (n_rows, n_outputs)
        With logits, which may be of any size.

    targets : ndarray of shape (n_rows, n_outputs)
        Positive for the level that a row has; NaN if it is missing.

    network : Grouped

    Returns
    -------
    losses : ndarray of shape (n_rows, n_groups), dtype=float64
        NaN for missing levels.
    """
    rows, losses = np.arange(len(outputs)), np.empty((len(outputs), network.n_groups))
    for g, (first, stop) in enumerate(itertools.pairwise(network.groups)):
        logits = outputs[:, first:stop].astype(np.float64)
        chosen = targets[:, first:stop]
        highest = logits.argmax(axis=1)
        logits -= logits[rows, highest, np.newaxis]
        losses[:, g] = -logits[rows, chosen.argmax(axis=1)]
        logits[rows, highest] = -np.inf  # for the digits of the rest
        losses[:, g] += np.log1p(np.exp(logits, out=logits).sum(axis=1))
        losses[np.isnan(chosen[:, 0]), g] = np.nan
    return losses


def entropies(mean: Floats, network: Grouped) -> Floats:
    """Entropy of each group's levels, in nats, given their frequencies as the mean."""
    frequencies = _frequencies(mean, network)
    terms = frequencies * np.log(np.where(frequencies > 0, frequencies, 1.0))
    found: Floats = -_sums(terms[np.newaxis], network)[0]
    return found


def log_frequencies(mean: Floats, network: Grouped) -> Floats:
    """Logits with which groups predict the frequencies of their levels.

    Levels that do not occur are as frequent as half the rarest one that does, at most.
    """
    frequencies = _frequencies(mean, network)[np.newaxis]
    occurring = np.where(frequencies > 0, frequencies, 1.0)
    rarest = np.minimum.reduceat(occurring, _starts(network), axis=1)
    unseen = _spread(np.minimum(rarest / 2, _UNSEEN_FREQUENCY), network)
    found: Floats = np.log(np.where(frequencies > 0, frequencies, unseen))[0]
    return found


def unit_weights(
    mean: Floats,
    network: Grouped,
    of_columns: Floats | None,
    *,
    is_balanced: bool = True,
) -> Floats | None:
    """Weights of the losses of all outputs; None for ones.

    Parameters
    ----------
    mean : ndarray of shape (n_outputs,)
        Of the training data; of groups, the frequencies of the levels.

    network : Grouped

    of_columns : ndarray of shape (n_plain + n_groups,) or None
        Weights of the columns; None for ones.

    is_balanced : bool, default=True
        Whether every group has a loss of `NULL_LOSS`, times the weight, if nothing but
        its levels' frequencies is known. Else losses are in nats.

    Returns
    -------
    weights : ndarray of shape (n_outputs,), dtype=float64, or None
    """
    if not network.n_groups and of_columns is None:
        return None
    n_columns = network.n_plain + network.n_groups
    weights = np.ones(n_columns) if of_columns is None else of_columns.copy()
    if is_balanced:
        entropy = entropies(mean, network)
        # Where a single level occurs, nothing is known of the others.
        entropy = np.where(entropy > 0, entropy, np.log(np.diff(network.groups)))
        entropy = np.maximum(entropy, _LEAST_ENTROPY)
        weights[network.n_plain :] *= NULL_LOSS / entropy
    return of_units(weights, network)


def of_units(of_columns: Floats, network: Grouped) -> Floats:
    """Numbers of columns as those of all outputs: a group's outputs have the same."""
    sizes = np.diff(network.groups)
    of_groups = np.repeat(of_columns[network.n_plain :], sizes)
    return np.concatenate([of_columns[: network.n_plain], of_groups])


def columns_of(network: Grouped) -> slice | np.ndarray:
    """Index of the outputs that stand for columns: of a group, the first."""
    if not network.n_groups:
        return slice(None)
    return np.append(np.arange(network.n_plain), network.groups[:-1])


def summed_over_groups(values: Floats, network: Grouped) -> Floats:
    """Values of all outputs (n_rows, n_outputs) as sums over columns."""
    if not network.n_groups:
        return values
    plain = values[:, : network.n_plain]
    return np.hstack([plain, _sums(_of_groups(values, network), network)])


def _of_groups(values: Floats, network: Grouped) -> Floats:
    """Those of all outputs that are in groups, (n_rows, n_grouped)."""
    return values[:, network.n_plain :]


def _starts(network: Grouped) -> np.ndarray:
    """Where groups begin among the outputs that are in groups."""
    starts: np.ndarray = network.groups[:-1] - network.n_plain
    return starts


def _sums(values: Floats, network: Grouped) -> Floats:
    if not network.n_groups:
        return np.empty((len(values), 0))
    sums: Floats = np.add.reduceat(values, _starts(network), axis=1)
    return sums


def _highest(logits: Floats, network: Grouped) -> Floats:
    highest: Floats = np.maximum.reduceat(logits, _starts(network), axis=1)
    return highest


def _spread(of_groups: Floats, network: Grouped) -> Floats:
    """Numbers of groups, (n_rows, n_groups), for each of their outputs."""
    return np.repeat(of_groups, np.diff(network.groups), axis=1)


def _frequencies(mean: Floats, network: Grouped) -> Floats:
    """Frequencies of the levels of all groups, which sum to 1 in each."""
    means = np.maximum(0.0, mean[network.n_plain :].astype(np.float64))
    sums = _spread(_sums(means[np.newaxis], network), network)[0]
    frequencies: Floats = means / np.where(sums > 0, sums, 1.0)
    return frequencies
