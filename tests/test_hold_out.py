"""Which samples are held out: identical and related ones stay together."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import ShuffleSplit
from sklearn.preprocessing import StandardScaler, scale

from skae import AutoencoderTransformer
from skae._data.hold_out import (
    duplicates,
    folds_of,
    hold_out,
    in_folds,
    related_samples,
)
from skae._data.rows import make_rows
from skae._data.stream import RowStream, StreamedRows
from skae._data.validation import Checked
from skae.metrics import reconstruction_r2_score


def rows_of(X):
    return make_rows(np.ascontiguousarray(X))


def streamed(X, n_blocks=7):
    blocks = np.array_split(X, n_blocks)
    return StreamedRows(
        RowStream(lambda: iter(blocks), lambda block, dtype: Checked(block, False))
    )


RNG = np.random.RandomState(0)
DIGITS = load_digits().data
MATRICES = {
    "small whole numbers": RNG.randint(0, 4, (300, 5)).astype(float),
    "float32": RNG.randint(0, 4, (300, 5)).astype(np.float32),
    "drawn with replacement": RNG.standard_normal((100, 3))[RNG.randint(0, 100, 300)],
    "many zeros": np.round(RNG.standard_normal((300, 6)) * (RNG.rand(300, 6) < 0.2)),
}


def numbered(X):
    """Labels of the samples by what is in them, slowly."""
    seen = {}
    return [seen.setdefault(tuple(row), len(seen)) for row in X.tolist()]


@pytest.mark.parametrize("name", MATRICES)
def test_labels_are_those_of_equal_samples(name):
    X = MATRICES[name]
    expected = numbered(X + 0.0)
    assert max(expected) < len(X) - 1
    for data in (
        rows_of(X),
        rows_of(np.where(X == 0, -0.0, X)),
        make_rows(sparse.csr_matrix(X)),
        streamed(X),
    ):
        np.testing.assert_array_equal(duplicates(data), expected)


def test_an_explicit_zero_of_a_sparse_matrix_is_a_zero():
    X = sparse.csr_matrix(np.eye(3)[[0, 1, 2, 1]])
    X.data[3] = 0.0
    assert duplicates(make_rows(X)) is None
    X.data[1] = 0.0
    np.testing.assert_array_equal(duplicates(make_rows(X)), [0, 1, 2, 1])


def test_different_samples_are_told_apart():
    """Numbers of few bits, whose products with a key would be multiples of 2**32."""
    grid = np.stack(np.meshgrid(*[np.arange(40.0)] * 3), axis=-1).reshape(-1, 3)
    for dtype in (np.float32, np.float64):
        assert duplicates(rows_of(grid.astype(dtype))) is None


def test_of_different_samples_it_is_a_random_split():
    X = RNG.standard_normal((203, 4))
    expected = next(ShuffleSplit(1, test_size=0.3, random_state=5).split(X))
    split = hold_out(rows_of(X), 0.3, 5)
    np.testing.assert_array_equal(split.train, np.sort(expected[0]))
    np.testing.assert_array_equal(split.held_out, np.sort(expected[1]))
    assert len(np.unique(split.units)) == len(split.held_out) == 61


@pytest.mark.parametrize("labels", ["groups", "copies"])
def test_units_are_not_split(labels):
    groups = RNG.randint(0, 60, 600)
    X = RNG.standard_normal((600, 4))
    if labels == "copies":
        X = X[groups]
    for seed in range(5):
        given = groups if labels == "groups" else None
        split = hold_out(rows_of(X), 0.2, seed, given)
        inside, outside = groups[split.held_out], groups[split.train]
        assert not set(inside) & set(outside)
        assert 100 < len(split.held_out) <= 120
        assert sorted([*split.train, *split.held_out]) == list(range(600))
        # A unit for each group.
        pairs = set(zip(split.units, inside, strict=True))
        assert len(pairs) == len(set(inside)) == len(set(split.units))


@pytest.mark.parametrize(
    ("sizes", "n_held_out"), [([90, 5, 5], 10), ([40, 35, 25], 25), ([1, 99], 1)]
)
def test_large_units_are_trained_on(sizes, n_held_out):
    groups = np.repeat(["a", "b", "c"][: len(sizes)], sizes)
    for seed in range(4):
        split = hold_out(rows_of(RNG.rand(100, 2)), 0.2, seed, groups)
        assert len(split.held_out) == n_held_out


def test_nothing_is_held_out_of_one_unit():
    assert hold_out(rows_of(np.ones((50, 3))), 0.2, 0) is None
    assert hold_out(rows_of(RNG.rand(50, 3)), 0.2, 0, np.zeros(50)) is None
    assert hold_out(rows_of(np.ones((1, 3))), 0.2, 0) is None


CANCER = scale(load_breast_cancer().data)


def copies(noise, *, in_order, n_subjects=25, n_samples=40):
    """Noisy copies of some samples, and the number of that which each is of."""
    rng = np.random.RandomState(1)
    subjects = np.repeat(np.arange(n_subjects), n_samples)
    subjects = subjects if in_order else rng.permutation(subjects)
    X = CANCER[rng.permutation(len(CANCER))[:n_subjects]][subjects]
    return X + noise * rng.standard_normal(X.shape), subjects


def windows(n_windows, length=30):
    """Overlapping windows of an autoregressive series."""
    rng = np.random.RandomState(2)
    series = np.zeros(n_windows + length - 1)
    for t in range(2, len(series)):
        series[t] = 1.6 * series[t - 1] - 0.75 * series[t - 2] + rng.standard_normal()
    return np.lib.stride_tricks.sliding_window_view(series, length).copy()


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("noise", [1e-9, 0.01, 0.2])
def test_noisy_copies_are_noticed(noise, in_order):
    X, subjects = copies(noise, in_order=in_order)
    for data in (rows_of(X), make_rows(sparse.csr_matrix(X)), streamed(X)):
        split = hold_out(data, 0.2, 0)
        held_out = set(subjects[split.held_out])
        assert len(split.held_out) > 100
        assert len(set(split.units)) == len(held_out)
        # A copy that is unusually far from the others may be left on the other side.
        leaked = np.isin(subjects[split.train], list(held_out)).sum()
        assert leaked <= 0.02 * len(split.held_out)


def with_levels(X, n_columns=3):
    """Samples whose last features are ones for levels; number of the first features."""
    rng = np.random.RandomState(3)
    levels = rng.randint(0, 3, (len(X), n_columns, 1)) == np.arange(3)
    return np.hstack([X, levels.reshape(len(X), -1)]), X.shape[1]


def test_samples_of_the_same_categories_are_no_copies():
    X, n_plain = with_levels(np.random.RandomState(0).standard_normal((1000, 1)))
    assert related_samples(rows_of(X), None, 0) is not None
    assert related_samples(rows_of(X), None, 0, n_plain=n_plain) is None
    # Copies have the same categories as well.
    X, n_plain = with_levels(RNG.standard_normal((50, 4)))
    X = np.repeat(X, 20, axis=0)
    X[:, :n_plain] += 0.01 * RNG.standard_normal((1000, n_plain))
    related = related_samples(rows_of(X), None, 0, n_plain=n_plain)
    assert len(set(related)) > 40  # not all are among the samples compared
    assert (related.reshape(50, 20) == related[::20, np.newaxis]).mean() > 0.99


def test_a_series_is_held_out_in_blocks():
    X = windows(1500)
    split = hold_out(rows_of(X), 0.2, 0)
    begins = np.flatnonzero(np.diff(split.held_out) > 1)
    assert len(begins) < 12
    assert (np.diff(begins) >= 29).all()
    # In another order nothing is near in it.
    X = np.random.RandomState(0).permutation(X)
    assert related_samples(rows_of(X), None, 0) is None


@pytest.mark.parametrize("scaling", [None, StandardScaler()])
@pytest.mark.parametrize("order", ["as it comes", "by class"])
def test_nothing_is_noticed_in_independent_samples(scaling, order):
    X, y = load_digits(return_X_y=True)
    X = X[np.argsort(y, kind="stable")] if order == "by class" else X
    X = X if scaling is None else scaling.fit_transform(X)
    for seed in range(5):
        assert related_samples(rows_of(X), None, seed) is None


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_distances_neither_under_nor_overflow(size):
    X, _ = copies(0.01, in_order=True)
    related = related_samples(rows_of(X), None, 0)
    X = X * size
    np.testing.assert_array_equal(related_samples(rows_of(X), None, 0), related)


def drawn_with_replacement():
    order = np.random.RandomState(0).permutation(len(CANCER))
    train, test = CANCER[order[:284]], CANCER[order[284:]]
    return train[np.random.RandomState(1).randint(0, 284, 1500)], test


def of_subjects():
    X, _ = copies(0.2, in_order=False)
    order = np.random.RandomState(1).permutation(len(CANCER))
    return X, CANCER[order[25:]]


def of_a_series():
    X = windows(1500)
    return X[:700], X[760:]


@pytest.mark.parametrize("make", [drawn_with_replacement, of_subjects, of_a_series])
def test_new_samples_are_not_reconstructed_worse_than_by_pca(make):
    """Of the samples as they were held out before, R² was up to 0.3 below PCA's."""
    X, X_test = make()
    for n_components in (2, 5):
        pca = PCA(n_components).fit(X)
        autoencoder = AutoencoderTransformer(n_components, random_state=0).fit(X)
        gain = reconstruction_r2_score(autoencoder, X_test)
        gain -= reconstruction_r2_score(pca, X_test)
        assert gain > -0.005


def test_groups_are_kept_together_in_a_fit():
    """Of noise that is all their own, groups let nothing be learnt."""
    rng = np.random.RandomState(3)
    groups = rng.permutation(np.repeat(np.arange(40), 15))
    base = rng.standard_normal((240, 20))
    X = base[groups] + 0.7 * rng.standard_normal((600, 20))
    X_test = base[40:] + 0.7 * rng.standard_normal((200, 20))
    pca = PCA(3).fit(X)
    fitted = AutoencoderTransformer(3, random_state=0).fit(X, groups=groups)
    gain = reconstruction_r2_score(fitted, X_test) - reconstruction_r2_score(
        pca, X_test
    )
    assert gain > -0.005


@pytest.mark.parametrize("name", [None, *MATRICES])
def test_folds(name):
    X = RNG.standard_normal((90, 3)) if name is None else MATRICES[name]
    found = in_folds(rows_of(X), 3, 0)
    if name in (None, "drawn with replacement"):  # others may seem related
        mixed = RNG.permutation(len(X))
        again = in_folds(rows_of(X[mixed]), 3, 0)
        np.testing.assert_array_equal(X[mixed][again.order], X[found.order])
        np.testing.assert_array_equal(again.folds, found.folds)
    if name is None:
        for_new = folds_of(rows_of(X), 3)
        np.testing.assert_array_equal(for_new[found.order], found.folds)
    labels = np.array(numbered(X[found.order] + 0.0))
    for fold in range(3):
        rest = labels[found.folds != fold]
        assert not np.isin(labels[found.folds == fold], rest).any()
        assert (found.folds == fold).any()
    groups = RNG.permutation(np.arange(len(X)) % 7)
    found = in_folds(rows_of(X), 3, 0, groups)
    for group in range(7):
        assert len(np.unique(found.folds[groups[found.order] == group])) == 1
    assert (in_folds(rows_of(X), 4, 0, groups).folds == -1).all()


def test_groups_of_a_stream():
    X, groups = RNG.rand(200, 6), RNG.permutation(np.repeat(np.arange(40), 5))
    model = AutoencoderTransformer(
        2, max_iter=3, early_stopping=True, random_state=0, init="random"
    )
    expected = model.fit(X, groups=groups).transform(X)
    model.fit_batches(lambda: iter(np.array_split(X, 7)), groups=groups)
    np.testing.assert_array_equal(model.transform(X), expected)
    assert (expected != model.fit(X).transform(X)).any()
    with pytest.raises(ValueError, match="groups has 3 labels, but X has 200 samples"):
        model.fit_batches(lambda: [X], groups=[1, 2, 3])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.arange(5), "groups has 5 labels, but X has 60 samples"),
        (np.ones((60, 2)), "groups|y should be a 1d array"),
        ([1.0, np.nan] * 30, "groups contains NaN"),
        ([1, "a", None] * 20, "groups"),
    ],
)
def test_wrong_groups(groups, message):
    estimator = AutoencoderTransformer(1, max_iter=2)
    with pytest.raises(ValueError, match=message):
        estimator.fit(RNG.rand(60, 3), groups=groups)
    with pytest.raises(NotFittedError):
        estimator.transform(RNG.rand(2, 3))
