"""Numbers and groups of levels, as a normal distribution and a network see them.

Rows have a column for each number, which is standardized, then one for each level of
each group: 1 for the level that a sample has, or probabilities of the levels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from skae._data.gaussian import Expectation, Gaussian
from skae._typing import Floats

# An expected probability is not below this share of the level's frequency: it is linear
# in what is known, and may be negative.
LEAST_SHARE = 1e-3
# What groups have left for levels that the distribution leaves out, at least.
LEAST_REST = 1e-3


class Mixed(NamedTuple):
    """Columns of rows, and which of them a distribution describes.

    It has the numbers and the most frequent levels. Rare ones share, by their
    frequencies, the probability that these leave.
    """

    n_plain: int  # columns of numbers
    sizes: np.ndarray  # (n_groups,) int64
    frequencies: np.ndarray  # (n_inputs,) float64, of levels; zeros for numbers
    unit: np.ndarray  # (n_inputs,) float64, in which variances of columns sum to 1
    described: np.ndarray  # numbers of the columns that the distribution has, int64

    @classmethod
    def of(
        cls, n_plain: int, counts: Sequence[np.ndarray], n_described: int
    ) -> "Mixed":
        """Columns of groups with these counts of levels.

        At most `n_described` columns of levels are described, of each group all but the
        rarest level, which the others tell.
        """
        frequencies, units, candidates = [np.zeros(n_plain)], [np.ones(n_plain)], []
        first = n_plain
        for of_levels in counts:
            found = of_levels / max(1, of_levels.sum())
            gini = 1 - found @ found
            frequencies.append(found)
            units.append(np.full(len(found), np.sqrt(gini) if gini > 0 else 1.0))
            candidates.append(first + np.delete(np.arange(len(found)), found.argmin()))
            first += len(found)
        whole = np.concatenate(frequencies)
        others = np.concatenate([np.empty(0, np.int64), *candidates])
        others = others[np.argsort(-whole[others], kind="stable")][:n_described]
        described = np.concatenate([np.arange(n_plain), np.sort(others)])
        sizes = np.array([len(of_levels) for of_levels in counts], dtype=np.int64)
        return cls(n_plain, sizes, whole, np.concatenate(units), described)

    @property
    def widths(self) -> np.ndarray:
        """Number of inputs of each column of the table."""
        return np.append(np.ones(self.n_plain, dtype=np.int64), self.sizes)

    @property
    def starts(self) -> np.ndarray:
        """First input of each column of the table."""
        starts: np.ndarray = np.cumsum(self.widths) - self.widths
        return starts

    def spread(self, of_columns: np.ndarray) -> np.ndarray:
        """Entries of the table's columns for all inputs, (n_rows, n_inputs)."""
        return np.repeat(of_columns, self.widths, axis=1)

    def summed(self, of_inputs: Floats) -> Floats:
        """Sums over the inputs of each column of the table, (n_rows, n_columns)."""
        sums: Floats = np.add.reduceat(of_inputs, self.starts, axis=1)
        return sums

    def rows(self, numbers: Floats, codes: np.ndarray) -> Floats:
        """Rows of numbers, and of levels, -1 for missing ones."""
        rows = np.zeros((len(numbers), len(self.unit)))
        rows[:, : self.n_plain] = numbers
        for column, (first, size) in enumerate(
            zip(self.starts[self.n_plain :], self.sizes, strict=True)
        ):
            of_group = codes[:, column]
            there = np.flatnonzero(of_group >= 0)
            rows[there, first + of_group[there]] = 1.0
            rows[of_group < 0, first : first + size] = np.nan
        return rows

    def seen(self, rows: Floats) -> Floats:
        """Rows as the distribution sees them: what it describes, centered, scaled."""
        chosen = self.described
        deviations = rows[:, chosen] - self.frequencies[chosen]
        return np.ascontiguousarray(deviations / self.unit[chosen])

    def levels(self, rows: Floats) -> list[Floats]:
        """Views of the groups of rows, each of shape (n_rows, n_levels)."""
        stops = self.n_plain + np.cumsum(self.sizes)
        return [
            rows[:, stop - size : stop]
            for size, stop in zip(self.sizes, stops, strict=True)
        ]


class MixedExpectation:
    """What a distribution expects of rows: of missing levels, their probabilities.

    Parameters
    ----------
    gaussian : Gaussian
        Distribution of what it sees of rows.

    mixed : Mixed
    """

    def __init__(self, gaussian: Gaussian, mixed: Mixed) -> None:
        n_described, n_directions = gaussian.loadings.shape
        by_precision = n_directions >= n_described - 1
        self._of_seen = Expectation(gaussian, by_precision=by_precision)
        self._mixed = mixed
        self._is_described = np.zeros(len(mixed.unit), dtype=bool)
        self._is_described[mixed.described] = True

    def fill(self, rows: Floats) -> None:
        """Replace missing entries, which are NaN, in place."""
        mixed, n_plain = self._mixed, self._mixed.n_plain
        seen = mixed.seen(rows)
        if seen.size:
            self._of_seen.fill(seen)
        numbers = rows[:, :n_plain]
        np.copyto(numbers, seen[:, :n_plain], where=np.isnan(numbers))
        first = start = n_plain  # of a group, and of what is described of it
        for size in mixed.sizes.tolist():
            stop = start + int(self._is_described[first : first + size].sum())
            lacking = np.flatnonzero(np.isnan(rows[:, first]))
            group = slice(first, first + size)
            rows[lacking, group] = self._probabilities(seen[lacking, start:stop], group)
            first, start = first + size, stop

    def _probabilities(self, seen: Floats, group: slice) -> Floats:
        """Those of the levels of a group, of which some are seen."""
        frequencies = self._mixed.frequencies[group]
        is_known, unit = self._is_described[group], self._mixed.unit[group]
        found = np.empty((len(seen), len(frequencies)))
        found[:, is_known] = seen * unit[is_known] + frequencies[is_known]
        rest = frequencies[~is_known]
        left = np.maximum(1 - found[:, is_known].sum(axis=1), LEAST_REST)
        found[:, ~is_known] = left[:, np.newaxis] * (rest / (rest.sum() or 1.0))
        np.maximum(found, LEAST_SHARE * frequencies, out=found)
        found /= found.sum(axis=1, keepdims=True)
        return found


def chosen_levels(probability: Floats, rng: np.random.RandomState | None) -> np.ndarray:
    """Numbers of the most probable levels of rows, or of levels that are drawn."""
    if rng is None:
        most: np.ndarray = probability.argmax(axis=1)
        return most
    sums = probability.cumsum(axis=1)
    drawn = rng.random_sample((len(sums), 1)) * sums[:, -1:]
    chosen: np.ndarray = (sums > drawn).argmax(axis=1)
    return chosen
