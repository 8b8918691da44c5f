"""Rows of which observed entries are hidden, to learn to predict them from the rest."""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Self

import numpy as np

from skae._data.gaussian import Expectation
from skae._data.mixed import Mixed, MixedExpectation
from skae._data.rows import Rows, make_rows
from skae._typing import Floats, Result, Scale

# Each row hides a share of its entries that is drawn between these numbers.
_LEAST_SHARE, _LARGEST_SHARE = 0.05, 0.5
# An epoch hides other entries in one row of so many: in all, it would take as long as
# the network; with the same entries hidden always, networks fit too closely.
_EPOCHS_OF_A_ROW = 4


def hide(
    rows: Floats, expectation: Expectation | MixedExpectation, hidden: np.ndarray
) -> tuple[Floats, Floats]:
    """What a network sees of rows, and what it should predict.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features), dtype=float64
        Missing entries are NaN.

    expectation : Expectation or MixedExpectation

    hidden : ndarray of shape (n_rows, n_features), dtype=bool
        Entries to hide.

    Returns
    -------
    seen : ndarray of shape (n_rows, n_features), dtype=float32
        Expectations are in place of missing and of hidden entries.

    targets : ndarray of shape (n_rows, n_features), dtype=float32
        The hidden entries; NaN elsewhere.
    """
    seen = np.where(hidden, np.nan, rows)
    expectation.fill(seen)
    targets = np.where(hidden, rows, np.nan).astype(np.float32)
    return seen.astype(np.float32), targets


def as_rows(
    seen: Floats, targets: Floats, offset: Floats | None = None, scale: Scale = 1.0
) -> Rows:
    """What `hide` returned, for a network."""
    return make_rows(seen, offset, scale)._replace(targets=targets.ravel())


class HidingRows:
    """Training rows that hide other entries in each epoch; as `AnyRows`.

    What is derived of them otherwise, such as the mean, is that of rows in which
    nothing is hidden.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features), dtype=float64
        Missing entries are NaN.

    expectation : Expectation or MixedExpectation

    seed : int
        Seed of what is hidden.

    mixed : Mixed, default=None
        Columns of rows with groups of levels, which are hidden as a whole.
    """

    is_in_memory = has_missing = False
    dtype = np.dtype(np.float32)
    weights = np.empty(0)

    def __init__(
        self,
        rows: Floats,
        expectation: Expectation | MixedExpectation,
        seed: int,
        mixed: Mixed | None = None,
    ) -> None:
        self._rows, self._expectation, self._seed = rows, expectation, seed
        self._mixed = mixed
        self.n_rows, self.n_features = rows.shape
        self._scaling: tuple[Floats | None, Scale] = None, 1.0
        complete = rows.copy()
        expectation.fill(complete)
        self._complete = complete.astype(np.float32)
        self._rng = np.random.RandomState(seed)
        self._seen = np.empty(rows.shape, np.float32)
        self._targets = np.empty(rows.shape, np.float32)
        self._hide_in(np.arange(self.n_rows))

    @property
    def total_weight(self) -> float:
        return float(self.n_rows)

    @property
    def n_columns(self) -> int:
        """Number of columns, of which a group of levels is one."""
        return self.n_features if self._mixed is None else len(self._mixed.widths)

    def _hide_in(self, numbers: np.ndarray) -> None:
        """Hide entries in some of the rows, and no longer those that were hidden."""
        mixed, n_columns = self._mixed, self.n_columns
        share = self._rng.uniform(_LEAST_SHARE, _LARGEST_SHARE, (len(numbers), 1))
        hidden = self._rng.random_sample((len(numbers), n_columns)) < share
        if mixed is not None:
            hidden = mixed.spread(hidden)
        hidden &= ~np.isnan(self._rows[numbers])
        found = hide(self._rows[numbers], self._expectation, hidden)
        self._seen[numbers], self._targets[numbers] = found

    def _all(self) -> Rows:
        return as_rows(self._seen, self._targets, *self._scaling)

    def scaled(self, offset: np.ndarray, scale: Scale) -> Self:
        scaled = copy.copy(self)
        scaled._scaling = offset, scale
        return scaled

    def map(self, function: Callable[..., Result], *args: Any) -> list[Result]:
        return [function(make_rows(self._complete, *self._scaling), *args)]

    def empty(self) -> Rows:
        return self._all().empty()

    def part(self, batch: slice) -> Rows:
        return self._all().part(batch)

    def first_window(self, batch_size: int) -> Rows:
        return self._all()

    def windows(self, batch_size: int) -> Iterator[tuple[int, int, Rows]]:
        """The rows of an epoch."""
        n_new = -(-self.n_rows // _EPOCHS_OF_A_ROW)
        self._hide_in(self._rng.permutation(self.n_rows)[:n_new])
        yield 0, 0, self._all()

    def choose(self, numbers: np.ndarray) -> Self:
        how = self._expectation, self._seed, self._mixed
        return type(self)(self._rows[numbers], *how)

    def materialized(self) -> Rows:
        return self._all()

    def filled_by(self, fill: Callable[[Rows], Rows]) -> Self:
        return self

    def transformed(
        self, on_close: ExitStack, function: Callable[..., Rows], *args: Any
    ) -> Rows:
        return function(self._all(), *args)
