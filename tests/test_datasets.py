"""Tests of skae.datasets: the documented distributions, and where MNIST comes from."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.utils import Bunch

import skae.datasets
from skae.datasets import (
    fetch_mnist,
    make_donuts,
    make_one_hot,
    make_ring,
    make_sinusoids,
    make_uniform,
)

MANY = 100_000
RANDOM = [make_donuts, make_ring, make_sinusoids, make_uniform]
NOISY = [make_donuts, make_ring]


def published(name):
    """Return the path of a real data set, or skip the test."""
    if "SKAE_DATA" not in os.environ:
        pytest.skip("SKAE_DATA does not name the folder of the data sets")
    path = Path(os.environ["SKAE_DATA"], name)
    if not path.is_file():
        pytest.skip(f"SKAE_DATA has no {name}")
    return path


def assert_distributed(sample, distribution):
    """Compare a large sample with a distribution, or a sample with a sample."""
    assert stats.kstest(sample, distribution).pvalue > 0.01


def made(make, *args, **options):
    """Return the arrays that a function makes, in a tuple."""
    arrays = make(*args, **options)
    return arrays if isinstance(arrays, tuple) else (arrays,)


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        *((make_donuts, [(9000, 4), (9000,)]), (make_ring, [(500, 2), (500,)])),
        *((make, [(1000, 32)]) for make in (make_sinusoids, make_uniform)),
        (make_one_hot, [(8, 8)]),
    ],
)
def test_defaults(make, shapes):
    arrays = made(make)
    assert [array.shape for array in arrays] == shapes
    assert arrays[0].dtype == np.float64
    assert arrays[0].flags.c_contiguous


@pytest.mark.parametrize("make", RANDOM)
def test_random_state_decides(make):
    """And only without it the global state."""
    options = {"noise": 0.5} if make in NOISY else {}
    X, *_ = made(make, 20, **options, random_state=3)
    state, before = np.random.RandomState(3), np.random.get_state()  # noqa: NPY002
    same, *_ = made(make, 20, **options, random_state=state)
    next_of_state, *_ = made(make, 20, **options, random_state=state)
    try:
        np.random.seed(3)  # noqa: NPY002
        other, *_ = made(make, 20, **options, random_state=4)
        from_global, *_ = made(make, 20, **options)
    finally:
        np.random.set_state(before)  # noqa: NPY002
    for equal in (same, from_global):
        np.testing.assert_array_equal(equal, X)
    for different in (next_of_state, other):
        assert (different != X).all()
    for n_samples in (1, 7):
        assert {len(array) for array in made(make, n_samples)} == {n_samples}
        if make not in NOISY:
            assert make(n_samples, 5).shape == (n_samples, 5)


BAD = [
    *((make, "n_samples", value) for make in RANDOM for value in (0, 2.0, "many")),
    *((make, "random_state", value) for make in RANDOM for value in (-1, "seed")),
    *((make, "noise", value) for make in NOISY for value in (-0.1, np.inf, None)),
    *((make, "n_features", value) for make in RANDOM[2:] for value in (0, 2.0)),
    *((make_one_hot, "n_classes", value) for value in (0, 2.0)),
    (fetch_mnist, "return_X_y", "yes"),
    (fetch_mnist, "data_home", 3),
]


@pytest.mark.parametrize(("function", "name", "value"), BAD)
def test_bad_parameters_are_named(function, name, value):
    message = f"The '{name}' parameter of {function.__name__} must be"
    with pytest.raises(ValueError, match=message):
        function(**{name: value})


def variables_of_donuts(X, y):
    """Return radius, angle and the two factors, of each class in a list."""
    radius = np.hypot(X[:, 0], X[:, 1])
    angle = np.arctan2(X[:, 1], X[:, 0]) % (2 * np.pi)
    variables = np.column_stack([radius, angle, X[:, 2:] / X[:, :1]])
    return [variables[y == label] for label in (0, 1)]


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_donuts_follow_the_formula(noise):
    X, y = make_donuts(MANY, noise=noise, random_state=0)
    for radius, variables in zip((5, 10), variables_of_donuts(X, y), strict=True):
        if noise == 0:
            np.testing.assert_allclose(variables[:, 0], radius)
            continue
        assert_distributed(variables[:, 0], stats.norm(radius, noise).cdf)
        assert_distributed(variables[:, 1], stats.uniform(0, 2 * np.pi).cdf)
        assert_distributed(variables[:, 2], stats.uniform(0.9, 0.2).cdf)
        assert_distributed(variables[:, 3], stats.uniform(0.9, 0.2).cdf)
        correlations = np.corrcoef(variables.T)
        np.testing.assert_allclose(correlations, np.eye(4), atol=0.02)


@pytest.mark.parametrize(("n_samples", "n_inner"), [(1, 1), (6, 3), (7, 4)])
def test_donuts_rows_are_in_the_order_of_their_class(n_samples, n_inner):
    _, y = make_donuts(n_samples, random_state=0)
    assert y.dtype.kind == "i"
    assert y.tolist() == [0] * n_inner + [1] * (n_samples - n_inner)


def test_donuts_are_like_the_published_ones():
    rows = np.load(published("donut_corr2.npy"))
    expected, labels = rows[:, :4], rows[:, 4]
    X, y = make_donuts(random_state=0)
    np.testing.assert_array_equal(y, labels)
    # Sampling alone makes differences of a tenth in the means, of 0.05 in the spreads.
    np.testing.assert_allclose(X.mean(axis=0), expected.mean(axis=0), atol=0.3)
    np.testing.assert_allclose(X.std(axis=0), expected.std(axis=0), atol=0.15)
    np.testing.assert_allclose(
        np.corrcoef(X.T)[0, 2:], np.corrcoef(expected.T)[0, 2:], atol=1e-4
    )
    classes = zip(
        variables_of_donuts(X, y), variables_of_donuts(expected, labels), strict=True
    )
    for ours, theirs in classes:
        radii, their_radii = ours[:, 0], theirs[:, 0]
        assert radii.mean() == pytest.approx(their_radii.mean(), abs=0.1)
        assert radii.std() == pytest.approx(their_radii.std(), abs=0.05)
        for variable, published_variable in zip(ours.T, theirs.T, strict=True):
            assert_distributed(variable, published_variable)


def test_ring_without_noise():
    X, angles = make_ring(12, random_state=0)
    np.testing.assert_allclose(angles, 2 * np.pi * np.arange(12) / 12)
    np.testing.assert_array_equal(X, np.column_stack([np.cos(angles), np.sin(angles)]))


def test_noise_of_the_ring():
    X, angles = make_ring(MANY, noise=0.2, random_state=0)
    noise = X - np.column_stack([np.cos(angles), np.sin(angles)])
    for feature in noise.T:
        assert_distributed(feature, stats.norm(0, 0.2).cdf)
        assert abs(np.corrcoef(feature[1:], feature[:-1])[0, 1]) < 0.02
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.02


def test_one_hot():
    np.testing.assert_array_equal(make_one_hot(3), [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    explained = PCA(n_components=7).fit(make_one_hot()).explained_variance_ratio_
    np.testing.assert_allclose(explained, 1 / 7)


def test_sinusoids_follow_the_formula():
    X = make_sinusoids(50, 5, random_state=0)
    starts = np.random.RandomState(0).uniform(0, np.pi, size=50)
    for feature in range(5):
        expected = np.sin(starts + np.pi * feature / 5) ** 2
        np.testing.assert_allclose(X[:, feature], expected, atol=1e-15)


def test_uniform():
    X = make_uniform(MANY, 3, random_state=0)
    assert X.min() >= 0
    assert X.max() < 1
    for feature in X.T:
        assert_distributed(feature, stats.uniform(0, 1).cdf)
    np.testing.assert_allclose(np.cov(X.T), np.eye(3) / 12, atol=1e-3)


N_TRAIN, N_TEST = 6, 4
PIXELS = np.random.default_rng(0).integers(
    256, size=(N_TRAIN + N_TEST, 784), dtype=np.uint8
)
DIGITS = np.array([5, 0, 4, 1, 9, 2, 7, 2, 1, 0], dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a small mnist.npz, which SKAE_DATA names; no way to OpenML."""
    np.savez(
        tmp_path / "mnist.npz",
        X_train=PIXELS[:N_TRAIN],
        y_train=DIGITS[:N_TRAIN],
        X_test=PIXELS[N_TRAIN:],
        y_test=DIGITS[N_TRAIN:],
    )
    monkeypatch.setenv("SKAE_DATA", str(tmp_path))
    monkeypatch.setattr(skae.datasets, "fetch_openml", None)
    return tmp_path


@pytest.fixture(params=[np.float64, np.int64], ids=["float64", "int64"])
def openml(request, monkeypatch):
    """OpenML's answer, in either type of its parsers; returns what it was asked."""
    calls = []

    def fetch_openml(*args, **options):
        calls.append((args, options))
        # names of classes, not numbers
        return Bunch(
            data=PIXELS.astype(request.param), target=DIGITS.astype(str).astype(object)
        )

    monkeypatch.setattr(skae.datasets, "fetch_openml", fetch_openml)
    monkeypatch.delenv("SKAE_DATA", raising=False)
    return calls


def assert_is_small_mnist(X, y):
    assert X.dtype == np.float32
    assert y.dtype == np.int64
    np.testing.assert_array_equal(X, PIXELS / np.float32(255))
    np.testing.assert_array_equal(y, DIGITS)


def assert_describes_mnist(bunch):
    assert_is_small_mnist(bunch.data, bunch.target)
    assert bunch.feature_names[:2] == ["pixel1", "pixel2"]
    assert len(bunch.feature_names) == 784
    assert bunch.target_names == ["class"]
    assert "LeCun" in bunch.DESCR


def test_mnist_of_a_file(folder):
    assert_describes_mnist(fetch_mnist())
    assert_is_small_mnist(*fetch_mnist(return_X_y=True))


@pytest.mark.parametrize("data_home", [None, "some/folder", Path("some/folder")])
def test_mnist_of_openml(openml, data_home):
    assert_describes_mnist(fetch_mnist(data_home=data_home))
    assert_is_small_mnist(*fetch_mnist(return_X_y=True, data_home=data_home))
    expected = {"version": 1, "as_frame": False, "data_home": data_home}
    assert openml == [(("mnist_784",), expected)] * 2


@pytest.mark.parametrize("variable", ["", "."])
def test_mnist_of_openml_where_the_folder_has_no_file(
    openml, monkeypatch, tmp_path, variable
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKAE_DATA", variable)
    fetch_mnist()
    assert len(openml) == 1


def test_real_mnist():
    path = published("mnist.npz")
    X, y = fetch_mnist(return_X_y=True)
    assert X.shape == (70_000, 784)
    assert X.dtype == np.float32
    assert X.min() == 0
    assert X.max() == 1
    counts = [6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958]
    assert np.bincount(y).tolist() == counts
    with np.load(path) as arrays:
        np.testing.assert_array_equal(y[:60_000], arrays["y_train"])
        np.testing.assert_array_equal(X[60_000:] * 255, arrays["X_test"])
