"""Which samples are held out for validation.

A validation loss tells how well a network does on new samples only if the network has
not been trained on near copies of the validation samples. So neither identical samples
nor the samples of a user's group are split between training and validation, nor near
copies and neighbors in a series, if the distances between some samples reveal them.
See ``benchmarks/defaults/leakage.py``.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import ShuffleSplit

from skae._data.rows import AnyRows, LocalRows, dense, matrix_in_use, row_chunks
from skae._typing import Floats, Result, Scale

# Samples whose near copies are searched for (the queries), and samples that they are
# compared with: a network cannot overfit to more than a quarter as many groups.
_N_QUERIES, _N_COMPARED = 100, 4000
# Most entries of all queries (4 MiB), and the least number of queries.
_QUERY_ENTRIES, _MIN_QUERIES = 2**19, 20
# Near copies of a sample are k samples that are much nearer than the next. If samples
# were spread evenly about it, k * log(d[k + 1] / d[k]) of their sorted distances d
# would have the same exponential distribution for every k (Levina & Bickel, "Maximum
# likelihood estimation of intrinsic dimension", 2004). A gap is at least this many
# times their mean, and the next sample this many times as far away.
_GAP, _LEAST_RATIO = 6.0, 1.1
# Three quarters or more of noisy copies are in such a group; in 35 real data sets, raw
# and standardised, at most half of the samples, unless their features are binary.
_SHARE_WITH_GAP = 0.6
# A group is at most this share of the samples: larger ones are classes.
_LARGEST_GROUP = 0.1
# Distances below this share of the usual one are rounding errors.
_NO_DISTANCE = 1e-9
# In a series, more than half of the samples have none nearer than their neighbors in
# order (0.8 to 1.0 with overlapping windows; at most 0.15 if samples are sorted by
# class). Correlation ends where samples are this share of the usual distance apart.
# Blocks that are held out are this many times longer.
_SHARE_OF_SERIES, _UNCORRELATED, _BLOCK_LENGTHS = 0.5, 0.8, 2
_N_BLOCKS = 50  # at most
_MIN_BLOCKS = 10  # fewer are too few to validate by


class Split(NamedTuple):
    """Numbers of the samples to train on and of those held out, in increasing order."""

    train: np.ndarray
    held_out: np.ndarray
    # For each held-out sample the number of its unit, the samples that were held out
    # together: they are not independent evidence.
    units: np.ndarray


def hold_out(
    data: AnyRows,
    fraction: float,
    seed: int,
    groups: np.ndarray | None = None,
    unit: Scale | None = None,
    n_plain: int | None = None,
) -> Split | None:
    """Split samples at random into those to train on and those to validate by.

    Parameters
    ----------
    data : AnyRows
        All samples.

    fraction : float
        Share of the samples to hold out.

    seed : int

    groups : ndarray of shape (n_samples,), default=None
        Labels of groups that are not split. None looks for related samples.

    unit : float or ndarray of shape (n_features,), default=None
        Units of the features in distances between samples. None is 1.

    n_plain : int, default=None
        Number of first features that are no levels of categories. None: all.

    Returns
    -------
    split : Split or None
        None if all samples belong together.
    """
    n_samples = data.n_rows
    labels = _units(data, seed, groups, unit=unit, n_plain=n_plain)
    if labels is not None:
        return _split_units(labels, fraction, seed)
    if not 0 < math.ceil(fraction * n_samples) < n_samples:
        return None
    splitter = ShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    train, held_out = map(np.sort, next(splitter.split(np.empty((n_samples, 1)))))
    return Split(train, held_out, np.arange(len(held_out)))


class Folds(NamedTuple):
    """Samples in an order that only depends on their values, and their folds."""

    order: np.ndarray  # (n_samples,), numbers of the samples
    # Both in this order, (n_samples,). Folds are 0 to n_folds - 1, and -1 for samples
    # that are not to be held out: all, if there are fewer than two units a fold.
    folds: np.ndarray
    units: np.ndarray | None  # numbers of what is held out together; None: samples


def in_folds(
    data: AnyRows,
    n_folds: int,
    seed: int,
    groups: np.ndarray | None = None,
    unit: Scale | None = None,
    n_plain: int | None = None,
) -> Folds:
    """Divide samples into folds, each to be held out from one of several models.

    Parameters
    ----------
    data : AnyRows
        All samples.

    n_folds : int

    seed : int

    groups : ndarray of shape (n_samples,), default=None
        Labels of groups that are not split. None looks for related samples.

    unit : float or ndarray of shape (n_features,), default=None
        Units of the features in distances between samples. None is 1.

    n_plain : int, default=None
        Number of first features that are no levels of categories. None: all.

    Returns
    -------
    folds : Folds
    """
    hashes = _all_hashes(data)
    labels = _units(data, seed, groups, hashes, unit, n_plain)
    order = np.argsort(hashes, kind="stable")
    if labels is None:
        units, ordered = None, np.arange(data.n_rows)
    else:
        units = ordered = _numbered(labels[order])
        ordered = np.where(labels[order] < 0, -1, ordered)
    n_units = len(np.unique(ordered[ordered >= 0]))
    of_samples = np.where(ordered < 0, -1, ordered % n_folds)
    if n_units < 2 * n_folds:
        of_samples[:] = -1
    elif labels is None:
        by_hash = _fold_of(hashes[order], n_folds)
        if np.bincount(by_hash, minlength=n_folds).min() >= data.n_rows / n_folds / 2:
            of_samples = by_hash
    return Folds(order, of_samples, units)


def folds_of(data: AnyRows, n_folds: int) -> np.ndarray:
    """Folds that `in_folds` would put samples into if they were unrelated.

    Parameters
    ----------
    data : AnyRows
        Samples, new or not.

    n_folds : int

    Returns
    -------
    folds : ndarray of shape (n_samples,), dtype=int64
        Numbers from 0 to n_folds - 1, which only depend on the samples' values.
    """
    return _fold_of(_all_hashes(data), n_folds)


def _fold_of(hashes: np.ndarray, n_folds: int) -> np.ndarray:
    """Fold of each hash, by its upper half."""
    half = np.uint64(32)
    folds: np.ndarray = (hashes >> half) * np.uint64(n_folds) >> half
    return folds.astype(np.int64)


def _units(
    data: AnyRows,
    seed: int,
    groups: np.ndarray | None,
    hashes: np.ndarray | None = None,
    unit: Scale | None = None,
    n_plain: int | None = None,
) -> np.ndarray | None:
    """Labels of samples that are held out together; None if each is on its own.

    Parameters as of `hold_out`; `hashes` are those of the samples, if they are known.
    """
    if groups is not None:
        return _numbered(groups)
    labels = duplicates(data) if hashes is None else _of_equal(hashes)
    related = related_samples(data, labels, seed, unit, n_plain)
    return labels if related is None else related


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Labels as numbers 0, 1, ... in the order of their first occurrence."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.ravel()]


def _split_units(labels: np.ndarray, fraction: float, seed: int) -> Split | None:
    """Hold out units in random order, as many as fit into the share to hold out.

    Samples with the label -1 are never held out.
    """
    sizes = np.bincount(labels[labels >= 0])
    n_left = math.ceil(fraction * len(labels))
    order = np.random.RandomState(seed).permutation(len(sizes))
    is_held_out = np.zeros(len(sizes) + 1, dtype=bool)  # the last is for -1
    for unit in order[sizes[order] > 0]:
        if sizes[unit] <= n_left:
            is_held_out[unit] = True
            n_left -= sizes[unit]
    if not is_held_out.any() and len(order) > 1:  # every unit is larger than the share
        is_held_out[order[np.argmin(sizes[order])]] = True
    chosen = is_held_out[labels]
    if not chosen.any() or chosen.all():
        return None
    held_out = np.flatnonzero(chosen)
    return Split(np.flatnonzero(~chosen), held_out, labels[held_out])


# ---------------------------------------------------------------------------
# Identical samples
# ---------------------------------------------------------------------------


def duplicates(data: AnyRows) -> np.ndarray | None:
    """Labels of the samples, the same for identical ones; None if all differ."""
    return _of_equal(_all_hashes(data))


def _of_equal(hashes: np.ndarray) -> np.ndarray | None:
    """Labels of hashes, the same for equal ones; None if all differ."""
    ordered = np.sort(hashes)
    if not (ordered[1:] == ordered[:-1]).any():
        return None
    return _numbered(hashes)


def _all_hashes(data: AnyRows) -> np.ndarray:
    """A hash of each sample, uint64, which depends on its values alone."""
    rng = np.random.RandomState(0)
    keys = rng.randint(1, np.iinfo(np.int64).max, data.n_features, dtype=np.int64)
    return np.concatenate(data.map(_hashes, keys.astype(np.uint64)))


def _hashes(data: LocalRows, keys: np.ndarray) -> np.ndarray:
    """Hashes of a part, the same for sparse and dense samples of either dtype."""
    hashes = [np.empty(0, dtype=np.uint64)]
    # Several arrays as large as a chunk are alive at once.
    for batch in row_chunks(data.n_rows, 4 * math.ceil(data.row_entries)):
        rows = matrix_in_use(data.part(batch))
        if isinstance(rows, np.ndarray):
            of_rows = _mixed(rows) @ keys
        else:
            products = _mixed(rows.data) * keys[rows.indices]
            of_rows = np.add.reduceat(
                np.append(products, np.uint64(0)), rows.indptr[:-1]
            )
            of_rows[np.diff(rows.indptr) == 0] = 0
        hashes.append(of_rows)
    return np.concatenate(hashes)


def _mixed(values: Floats) -> np.ndarray:
    """Bits of numbers as uint64, 0 for zeros, to be multiplied by keys.

    Multiplication by a random key spreads bits upwards only, and the lower bits of
    small whole numbers are all zero.
    """
    bits = (values.astype(np.float64) + 0.0).view(np.uint64)
    bits ^= bits >> np.uint64(32)
    return bits


# ---------------------------------------------------------------------------
# Near copies, and neighbors in a series
# ---------------------------------------------------------------------------


def related_samples(
    data: AnyRows,
    labels: np.ndarray | None,
    seed: int,
    unit: Scale | None = None,
    n_plain: int | None = None,
) -> np.ndarray | None:
    """Labels of samples that belong together, by the distances between some of them.

    Parameters
    ----------
    data : AnyRows

    labels : ndarray of shape (n_samples,) or None
        Labels of identical samples, as of `duplicates`.

    seed : int
        Chooses the samples that are compared.

    unit : float or ndarray of shape (n_features,), default=None
        Units of the features in distances. None is 1.

    n_plain : int, default=None
        Number of first features that are no levels of categories. None: all.

    Returns
    -------
    labels : ndarray of shape (n_samples,) or None
        -1 for samples of unknown relation, which are not to be held out. None if no
        relation is found.
    """
    distinct = np.arange(data.n_rows)
    if labels is not None:
        _, distinct = np.unique(labels, return_index=True)
    n_distinct = len(distinct)
    largest = int(_LARGEST_GROUP * min(n_distinct, _N_COMPARED))
    n_queries = min(_N_QUERIES, n_distinct, _QUERY_ENTRIES // data.n_features)
    if largest < 2 or n_queries < _MIN_QUERIES:
        return None
    rng = np.random.RandomState(seed)
    queries = np.sort(rng.permutation(n_distinct)[:n_queries])
    compared = np.sort(rng.permutation(n_distinct)[:_N_COMPARED])
    with np.errstate(over="ignore", invalid="ignore"):  # then `usual` is not finite
        look = _Look(data, distinct, queries, unit)
        distances = look.distances(compared)
        usual = float(np.median(distances))
    if not 0 < usual < np.inf:
        return None
    distances[queries[:, np.newaxis] == compared] = np.inf
    nearest = np.partition(distances, largest, axis=1)[:, : largest + 1]
    nearest.sort(axis=1)
    least = _NO_DISTANCE * usual
    has_gap, radii = _gaps(np.maximum(nearest, least))
    if n_plain is not None:
        by_numbers = look.distances(compared, n_plain)
        has_gap &= _are_apart(by_numbers, distances, radii)
    if has_gap.mean() >= _SHARE_WITH_GAP:
        seeds, radii = look.samples[has_gap], radii[has_gap]
        return np.concatenate(data.map(_within, look.center, look.unit, seeds, radii))
    # More than a rounding farther: the neighbor may be among the samples compared.
    hardly_farther = (1 + _NO_DISTANCE) * nearest[:, 0] + least
    if (look.at_lag(1) <= hardly_farther).mean() > _SHARE_OF_SERIES:
        return _blocks(look, _UNCORRELATED * usual, data.n_rows, labels)
    return None


class _Look:
    """Some samples, the queries, and their distances to others.

    Parameters
    ----------
    data : AnyRows

    distinct : ndarray of shape (n_distinct,)
        Numbers of different samples, in increasing order. Elsewhere in this class a
        sample's number is its position in this array.

    queries : ndarray of int
        Numbers of the queries, in increasing order.

    unit : float or ndarray of shape (n_features,), default=None
    """

    def __init__(
        self,
        data: AnyRows,
        distinct: np.ndarray,
        queries: np.ndarray,
        unit: Scale | None = None,
    ) -> None:
        self._data, self._distinct, self._queries = data, distinct, queries
        samples = np.concatenate(self._map(_samples, queries))
        # In a unit of the samples' size, so that squares stay within range.
        self.center = _mean_of_observed(samples)
        _center(data, samples, self.center)
        unit = 1.0 if unit is None else unit
        largest = float(np.abs(samples / unit).max(initial=0)) or 1.0
        self.unit: Any = unit * largest
        self.samples = samples / self.unit

    def _map(
        self, function: Callable[..., Result], numbers: np.ndarray, *args: Any
    ) -> list[Result]:
        return self._data.choose(self._distinct[numbers]).map(function, *args)

    def distances(self, others: np.ndarray, n_first: int | None = None) -> Floats:
        """Distances to other samples, of shape (n_queries, n_others).

        They are those in all features, or in the first ones.
        """
        args = self.center, self.unit, self.samples[:, :n_first]
        squares = np.concatenate(self._map(_squared_distances, others, *args))
        distances: Floats = np.sqrt(squares)
        return distances.T

    def at_lag(self, lag: int) -> Floats:
        """Distances of the queries to the nearer of the samples before and after."""
        nearest = np.full(len(self._queries), np.inf)
        sides = self._queries - lag, self._queries + lag
        exist = [(side >= 0) & (side < len(self._distinct)) for side in sides]
        numbers = np.unique(
            np.concatenate([s[e] for s, e in zip(sides, exist, strict=True)])
        )
        there = np.concatenate(self._map(_samples, numbers))
        _center(self._data, there, self.center)
        there /= self.unit
        for side, exists in zip(sides, exist, strict=True):
            difference = (
                self.samples[exists] - there[np.searchsorted(numbers, side[exists])]
            )
            distance = np.sqrt((difference**2).sum(axis=1))
            nearest[exists] = np.minimum(nearest[exists], distance)
        return nearest


def _chunks(data: LocalRows) -> Iterator[tuple[slice, Floats]]:
    """Slices of the samples in use of a part, and these samples, dense, in float64."""
    for batch in row_chunks(data.n_rows, 4 * data.n_features):
        yield batch, dense(matrix_in_use(data.part(batch))).astype(np.float64)


def _mean_of_observed(samples: Floats) -> Floats:
    """Mean of each feature over the samples that have it; 0 if none has."""
    is_observed = ~np.isnan(samples)
    sums = np.where(is_observed, samples, 0.0).sum(axis=0)
    mean: Floats = sums / np.maximum(1, is_observed.sum(axis=0))
    return mean


def _center(data: AnyRows, samples: Floats, center: Floats) -> None:
    """Subtract the center in place; missing entries are taken to be there."""
    samples -= center
    if data.has_missing:
        samples[np.isnan(samples)] = 0


def _samples(data: LocalRows) -> Floats:
    """Samples of a part, dense, in float64."""
    nothing = np.empty((0, data.n_features))
    return np.concatenate([nothing, *(samples for _, samples in _chunks(data))])


def _squared_distances(
    data: LocalRows, center: Floats, unit: Scale, queries: Floats
) -> Floats:
    """Squared distances of the samples of a part, of shape (n_samples, n_queries).

    If the queries have fewer features than the samples, in these first ones.
    """
    squares = np.empty((data.n_rows, len(queries)))
    of_queries = (queries**2).sum(axis=1)
    for batch, samples in _chunks(data):
        _center(data, samples, center)
        samples /= unit
        samples = samples[:, : queries.shape[1]]
        products = samples @ queries.T
        of_samples = np.einsum("ij,ij->i", samples, samples)[:, np.newaxis]
        with np.errstate(over="ignore", invalid="ignore"):
            squares[batch] = of_samples + of_queries - 2 * products
    return np.maximum(squares, 0.0)


def _gaps(distances: Floats) -> tuple[np.ndarray, Floats]:
    """Whether a group of samples about each query ends at a gap, and its radius.

    Parameters
    ----------
    distances : ndarray of shape (n_queries, n_nearest)
        Distances to the nearest samples, in increasing order.

    Returns
    -------
    has_gap : ndarray of shape (n_queries,), dtype=bool

    radii : ndarray of shape (n_queries,)
        Radii of the groups, in the middle of the gap.
    """
    logarithms = np.log(distances)
    steps = np.diff(logarithms, axis=1)
    scores = steps * np.arange(1, steps.shape[1] + 1)
    is_wide = steps > math.log(_LEAST_RATIO)
    at = np.where(is_wide, scores, 0.0).argmax(axis=1)
    queries = np.arange(len(scores))
    rest = (scores.sum(axis=1) - scores.max(axis=1)) / (scores.shape[1] - 1)
    has_gap = is_wide[queries, at] & (scores[queries, at] > _GAP * rest)
    radii = np.exp((logarithms[queries, at] + logarithms[queries, at + 1]) / 2)
    return has_gap, radii


def _are_apart(numbers: Floats, distances: Floats, radii: Floats) -> np.ndarray:
    """Whether the group about each query is apart from the others by its numbers, too.

    Samples with the same categories are nearer than all others, copies or not.

    Parameters
    ----------
    numbers, distances : ndarray of shape (n_queries, n_samples)
        Distances in the features that are no levels, and in all features.

    radii : ndarray of shape (n_queries,)
        Radii of the groups.
    """
    is_in_group = distances <= radii[:, np.newaxis]
    farthest = np.where(is_in_group, numbers, 0.0).max(axis=1)
    is_other = ~is_in_group & np.isfinite(distances)
    nearest = np.where(is_other, numbers, np.inf).min(axis=1)
    are_apart: np.ndarray = nearest > _LEAST_RATIO * farthest
    return are_apart


def _within(
    data: LocalRows, center: Floats, unit: Scale, seeds: Floats, radii: Floats
) -> np.ndarray:
    """For each sample of a part, the first seed within whose radius it is, or -1."""
    is_near = _squared_distances(data, center, unit, seeds) <= radii**2
    return np.where(is_near.any(axis=1), is_near.argmax(axis=1), -1)


def _blocks(
    look: _Look, far: float, n_samples: int, labels: np.ndarray | None
) -> np.ndarray:
    """Labels of blocks, longer than samples take to be `far` from each other."""
    lag, longest = 1, n_samples // _MIN_BLOCKS
    while _BLOCK_LENGTHS * lag < longest and np.median(look.at_lag(lag)) < far:
        lag *= 2
    length = min(max(_BLOCK_LENGTHS * lag, -(-n_samples // _N_BLOCKS)), longest)
    positions = np.arange(n_samples)
    if labels is not None:  # identical samples belong where the first of them is
        _, first = np.unique(labels, return_index=True)
        positions = first[labels]
    blocks: np.ndarray = positions // max(1, length)
    return blocks
