"""Corrupted rows: against the naive ones, in units of the data, by share."""

import itertools

import numpy as np
import pytest
from scipy import stats

from skae._compiled.corruption import CORRUPTIONS

from .support import reference


def corrupted(X, noise, settings, *, mean=None, scale=1.0, seed=3, epoch=5):
    """What the network sees of rows in place of X, by the compiled loop."""
    n_rows, n_features = X.shape
    mean = np.zeros(n_features) if mean is None else mean
    factors = np.broadcast_to(1 / np.asarray(scale), mean.shape)
    scaling = np.concatenate([mean, factors]).astype(X.dtype)
    block = np.ascontiguousarray(X.T).ravel()
    out = np.empty((n_features + n_features % 2) * n_rows, dtype=X.dtype)
    CORRUPTIONS[noise].op(
        block,
        scaling,
        np.arange(n_rows),
        np.array(settings),
        seed,
        epoch,
        out,
        n_rows,
        n_features,
    )
    return out[: X.size].reshape(n_features, n_rows).T


@pytest.mark.parametrize("noise", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (40, 7)])
def test_corruption_equals_naive(noise, shape):
    X = np.random.default_rng(0).standard_normal(shape)
    settings, naive = (0.4, -2.0, 3.0), (0.4, -2.0, 3.0)
    expected = reference.corrupt(X, noise, *naive, seed=3, epoch=5)
    np.testing.assert_allclose(corrupted(X, noise, settings), expected, atol=1e-9)
    # But for roundings, float32 sees the same noise.
    single = corrupted(X.astype(np.float32), noise, settings)
    np.testing.assert_allclose(single, expected, atol=1e-5)


@pytest.mark.parametrize("noise", ["masking", "salt_and_pepper"])
def test_corrupted_values_are_in_the_units_of_the_data(noise):
    rng = np.random.default_rng(0)
    mean, X = rng.standard_normal(5), rng.standard_normal((60, 5))
    scale = np.linspace(0.5, 2.5, 5)
    settings = (0.4, -2.0, 3.0)
    seen = corrupted((X - mean) / scale, noise, settings, mean=mean, scale=scale)
    expected = reference.corrupt(X, noise, *settings, seed=3, epoch=5)
    np.testing.assert_allclose(seen * scale + mean, expected, atol=1e-12)


@pytest.mark.parametrize("noise", ["masking", "swap"])
def test_groups_are_hidden_or_swapped_as_a_whole(noise):
    """A group is that of one row, or zeros; a share of the groups changes."""
    n_rows, sizes, level = 400, [3, 1, 5], 0.3
    groups = np.cumsum([2, *sizes])
    block = np.arange(1.0, groups[-1] * n_rows + 1).reshape(groups[-1], n_rows)
    out = np.full_like(block, 7.0)
    args = np.arange(n_rows), np.array([level, 0, 0]), groups, 3, 5
    CORRUPTIONS[noise].group_op(block.ravel(), *args, out.ravel(), len(sizes), n_rows)
    assert (out[:2] == 7).all()  # numbers, which another op corrupts
    found = reference.corrupted_groups(block.T, noise, level, groups, seed=3, epoch=5)
    np.testing.assert_array_equal(out[2:].T, found[:, 2:])
    changed = [(out[a:b] != block[a:b]) for a, b in itertools.pairwise(groups)]
    assert all((whole.all(axis=0) == whole.any(axis=0)).all() for whole in changed)
    share = np.mean([whole[0].mean() for whole in changed])
    assert share == pytest.approx(level, abs=4 * np.sqrt(0.25 / (3 * n_rows)))


def test_a_row_is_never_swapped_with_itself_unless_it_is_alone():
    X = np.arange(30.0).reshape(15, 2)
    assert (corrupted(X, "swap", (1.0, 0, 0)) != X).all()
    assert (corrupted(X[:1], "swap", (1.0, 0, 0)) == X[:1]).all()


def test_noise_is_normal_and_independent():
    n_rows, n_features, n_epochs = 500, 101, 40
    zeros = np.zeros((n_rows, n_features))
    noise = np.array(
        [corrupted(zeros, "gaussian", (1.0, 0, 0), epoch=e) for e in range(n_epochs)]
    )
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    # Correlations of neighbours: features, rows, epochs, and of their squares.
    for values in (noise, noise**2 - 1):
        for axis in range(3):
            a = np.delete(values, 0, axis=axis)
            b = np.delete(values, -1, axis=axis)
            correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
            assert abs(correlation) < 4 / np.sqrt(a.size)


@pytest.mark.parametrize("noise", ["masking", "salt_and_pepper"])
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_share_of_corrupted_entries(noise, level):
    X = np.full((500, 101), 7.0)
    seen = corrupted(X, noise, (level, -1.0, 1.0))
    share = (seen != X).mean()
    assert share == pytest.approx(
        level, abs=4 * np.sqrt(0.25 / X.size) * (0 < level < 1)
    )
    if noise == "masking":
        assert (seen[seen != X] == -1).all()
    elif level:
        assert (seen[seen != X] == 1).mean() == pytest.approx(0.5, abs=0.02)
