"""Random numbers: the order of the rows, streams."""

import itertools

import numpy as np
import pytest

from skae._compiled.random import shuffle

from .support import reference


def shuffled(n_rows, seed, epoch):
    order = np.empty(n_rows, dtype=np.int32)
    shuffle(order, n_rows, seed, epoch)
    return order


@pytest.mark.parametrize("n_rows", [1, 2, 3, 1000])
def test_shuffle_is_a_permutation_for_each_seed_and_epoch(n_rows):
    orders = set()
    for seed, epoch in itertools.product(range(5), range(5)):
        order = shuffled(n_rows, seed, epoch)
        assert sorted(order) == list(range(n_rows))
        orders.add(order.tobytes())
    assert len(orders) == {1: 1, 2: 2, 3: 6}.get(n_rows, 25)


def test_shuffle_is_uniform():
    counts = np.zeros((5, 5))
    n_epochs = 5000
    for epoch in range(n_epochs):
        counts[np.arange(5), shuffled(5, 7, epoch)] += 1
    expected = n_epochs / 5
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 45  # the 0.9999 quantile at 16 degrees of freedom


def test_streams_of_other_purposes_and_seeds_differ():
    """No stream is that of another purpose, epoch or seed, shifted or not."""
    streams = [
        reference.random_bits(seed, purpose, epoch, 1000)
        for seed, purpose, epoch in itertools.product(range(4), range(3), (-1, 0, 1, 2))
    ]
    together = np.concatenate(streams)
    assert np.unique(together).size == together.size
