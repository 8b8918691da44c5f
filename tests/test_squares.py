"""Sums of squares of any size, against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest

from skae._data.squares import Squares, SumOfSquares


def exact(values, weights):
    return sum(
        Fraction(weight) * Fraction(value) ** 2
        for row, weight in zip(values.tolist(), weights.tolist(), strict=True)
        for value in row
    )


def as_fraction(squares):
    return Fraction(squares.value) * Fraction(4) ** squares.exponent


@pytest.mark.parametrize("one", [1.0, 1e-300, 3e200, 0.0])
@pytest.mark.parametrize("other", [1.0, 7e-301, 1e290, 0.0])
def test_sums_of_any_size(one, other):
    rng = np.random.default_rng(0)
    items = [
        (size * rng.standard_normal((5, 3)), rng.random(5)) for size in (one, other)
    ]
    whole = SumOfSquares()
    for values, weights in items:
        whole = whole.plus(SumOfSquares.of(values, weights))
    expected = sum(exact(*item) for item in items)
    assert abs(as_fraction(whole) - expected) <= expected / 10**14


@pytest.mark.parametrize("size", [1.0, 1e-300, 1e290])
def test_a_share_does_not_depend_on_the_unit(size):
    rng = np.random.default_rng(1)
    errors, deviations = rng.standard_normal((2, 8, 3))
    parts = [
        Squares.of(size * errors[rows], size * deviations[rows])
        for rows in (slice(3), slice(3, 8))
    ]
    share = parts[0].plus(parts[1]).share
    expected = 1 - (errors**2).sum() / (deviations**2).sum()
    assert share == pytest.approx(expected, rel=1e-12)


def test_shares_without_deviations_or_without_finite_errors():
    ones, zeros = np.ones((2, 2)), np.zeros((2, 2))
    assert Squares.of(zeros, zeros).share == 1
    assert Squares.of(ones, zeros).share == 0
    assert Squares.of(zeros, ones).share == 1
    assert Squares.of(np.inf * ones, ones).share == -np.inf
