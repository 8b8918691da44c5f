"""Data of known structure, to see what an autoencoder finds in them."""

from __future__ import annotations

import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import fetch_openml
from sklearn.utils import Bunch, check_random_state

from skae._sklearn import Interval, validate_params
from skae._typing import Floats

__all__ = [
    "fetch_mnist",
    "make_donuts",
    "make_one_hot",
    "make_ring",
    "make_sinusoids",
    "make_uniform",
]


def __dir__() -> list[str]:
    return __all__


# Mean radii of the two donuts, by class, and the largest relative error of the copies.
RADII = np.array([5.0, 10.0])
COPY_ERROR = 0.1

N_PIXELS = 28 * 28
MNIST_DESCR = """\
MNIST: handwritten digits

70,000 grey images of 28 x 28 pixels, each with one digit in its centre. The first
60,000 are the training set, the last 10,000 the test set, both in the original order.
The features of a sample are the pixels, line by line, from 0 (paper) to 1 (ink). The
target is the digit, 0 to 9.

Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits".
Licence: CC BY-SA 3.0.
"""

COUNT = [Interval(Integral, 1, None, closed="left")]
STANDARD_DEVIATION = [Interval(Real, 0, None, closed="left")]


@validate_params(
    {
        "n_samples": COUNT,
        "noise": STANDARD_DEVIATION,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_donuts(
    n_samples: int = 9000,
    *,
    noise: float = 1.0,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[Floats, NDArray[np.int64]]:
    r"""Make two noisy rings in four features, two of which are nearly copies.

    A sample of class :math:`y` is

    .. math::

        x = (r \cos t, \; r \sin t, \; u \, r \cos t, \; v \, r \cos t),
        \qquad r \sim \mathcal{N}(R_y, \mathrm{noise}^2),
        \quad R_0 = 5, \; R_1 = 10,

    with :math:`t` uniform on :math:`[0, 2\pi)`, and :math:`u` and :math:`v` uniform on
    :math:`[0.9, 1.1)`; all four are independent. There are four features, but hardly
    more than two degrees of freedom.

    Parameters
    ----------
    n_samples : int, default=9000
        Number of samples. If it is odd, the inner ring has one more.

    noise : float, default=1.0
        Standard deviation of the radii, in the units of X. It does not affect how
        noisy the copies are.

    random_state : int, RandomState instance or None, default=None
        Determines the random numbers. Pass an int for the same data in every call.

    Returns
    -------
    X : ndarray of shape (n_samples, 4)
        The samples, in float64: first the inner ring, then the outer one.

    y : ndarray of shape (n_samples,)
        0 for the inner ring, 1 for the outer.

    See Also
    --------
    make_ring : One ring, without copied features.

    Notes
    -----
    With the defaults this replaces the file ``donut_corr2.npy`` that was published with
    [1]_: as many samples, in the same order of classes. The formula was found by
    measuring the file, it is not the published recipe; Kolmogorov-Smirnov tests of the
    file's radii, angles, :math:`u` and :math:`v` do not reject it at the 5 % level.

    References
    ----------
    .. [1] "Autoencoder in Numpy", blog BreakOnExecute, 2017.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from skae.datasets import make_donuts
    >>> X, y = make_donuts(random_state=0)
    >>> X.shape, y.shape
    ((9000, 4), (9000,))
    >>> PCA().fit(X).explained_variance_ratio_.round(3)
    array([0.755, 0.244, 0.001, 0.   ])
    """
    generator = check_random_state(random_state)
    n_outer = n_samples // 2
    y = np.repeat([0, 1], [n_samples - n_outer, n_outer])
    radius = RADII[y] + generator.normal(scale=noise, size=n_samples)
    angle = generator.uniform(0, 2 * np.pi, size=n_samples)
    first = radius * np.cos(angle)
    factors = generator.uniform(1 - COPY_ERROR, 1 + COPY_ERROR, size=(2, n_samples))
    return np.column_stack([first, radius * np.sin(angle), *(factors * first)]), y


@validate_params(
    {
        "n_samples": COUNT,
        "noise": STANDARD_DEVIATION,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_ring(
    n_samples: int = 500,
    *,
    noise: float = 0.0,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[Floats, Floats]:
    r"""Make a ring of points in the plane, in the order of their angles.

    .. math::

        x_i = (\cos t_i + \epsilon_{i1}, \; \sin t_i + \epsilon_{i2}),
        \qquad t_i = \frac{2 \pi i}{\mathrm{n\_samples}},
        \qquad \epsilon_{ij} \sim \mathcal{N}(0, \mathrm{noise}^2)

    with :math:`i` from 0: one degree of freedom, which no straight line follows.

    Parameters
    ----------
    n_samples : int, default=500
        Number of samples.

    noise : float, default=0.0
        Standard deviation of the noise in each feature; the ring's radius is 1.

    random_state : int, RandomState instance or None, default=None
        Determines the noise. Pass an int for the same data in every call.

    Returns
    -------
    X : ndarray of shape (n_samples, 2)
        The samples, in float64.

    angles : ndarray of shape (n_samples,)
        The angles before noise, in radians: increasing from 0, below 2 pi.

    See Also
    --------
    make_donuts : Two rings, in four features.

    Examples
    --------
    >>> from skae.datasets import make_ring
    >>> X, angles = make_ring(4)
    >>> abs(X.round(12))
    array([[1., 0.],
           [0., 1.],
           [1., 0.],
           [0., 1.]])
    >>> (angles / 3.141592653589793).round(12)
    array([0. , 0.5, 1. , 1.5])
    """
    generator = check_random_state(random_state)
    angles = np.linspace(0, 2 * np.pi, n_samples, endpoint=False)
    X = np.column_stack([np.cos(angles), np.sin(angles)])
    return X + generator.normal(scale=noise, size=X.shape), angles


@validate_params({"n_classes": COUNT}, prefer_skip_nested_validation=True)
def make_one_hot(n_classes: int = 8) -> Floats:
    """Make one sample for each class: the identity matrix.

    The encoder problem [1]_ is to reconstruct these samples from a narrow code.

    Parameters
    ----------
    n_classes : int, default=8
        Number of samples, and of features.

    Returns
    -------
    X : ndarray of shape (n_classes, n_classes)
        The samples, in float64. Sample i is 1 in feature i and 0 elsewhere.

    See Also
    --------
    skae.metrics.argmax_accuracy : Share of samples that reconstructions identify.

    Notes
    -----
    Codes of log2(n_classes) binary units are enough to tell the samples apart. All
    directions within the samples' hyperplane have the same variance, so that any k
    components explain k / (n_classes - 1) of it.

    References
    ----------
    .. [1] D. H. Ackley, G. E. Hinton and T. J. Sejnowski, "A learning algorithm for
       Boltzmann machines", Cognitive Science 9 (1), 147-169, 1985.

    Examples
    --------
    >>> from skae.datasets import make_one_hot
    >>> make_one_hot(3)
    array([[1., 0., 0.],
           [0., 1., 0.],
           [0., 0., 1.]])
    """
    return np.eye(n_classes)


@validate_params(
    {"n_samples": COUNT, "n_features": COUNT, "random_state": ["random_state"]},
    prefer_skip_nested_validation=True,
)
def make_sinusoids(
    n_samples: int = 1000,
    n_features: int = 32,
    *,
    random_state: int | np.random.RandomState | None = None,
) -> Floats:
    r"""Make sampled waves that differ only in their phase.

    .. math::

        x_{ij} = \sin^2 \left( t_i + \frac{\pi j}{\mathrm{n\_features}} \right),
        \qquad t_i \sim \mathcal{U}[0, \pi)

    with :math:`j` from 0: each sample is one period. There is one degree of freedom,
    with any number of features.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples.

    n_features : int, default=32
        Number of features: points at which each wave is sampled.

    random_state : int, RandomState instance or None, default=None
        Determines the phases. Pass an int for the same data in every call.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The waves, in float64, between 0 and 1.

    See Also
    --------
    make_uniform : The opposite: as many degrees of freedom as features.

    Notes
    -----
    Because :math:`\sin^2 a = (1 - \cos 2a) / 2`, samples of three or more features lie
    on a circle of radius :math:`\sqrt{\mathrm{n\_features} / 8}` around
    :math:`(1/2, \dots, 1/2)`. PCA loses nothing with two components; with one it
    explains about half of the variance, where a curved code can do better.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from skae.datasets import make_sinusoids
    >>> X = make_sinusoids(random_state=0)
    >>> X.shape
    (1000, 32)
    >>> PCA(n_components=3).fit(X).explained_variance_ratio_.round(2)
    array([0.51, 0.49, 0.  ])
    """
    generator = check_random_state(random_state)
    phases = generator.uniform(0, np.pi, size=(n_samples, 1))
    X: Floats = np.sin(phases + np.pi * np.arange(n_features) / n_features) ** 2
    return X


@validate_params(
    {"n_samples": COUNT, "n_features": COUNT, "random_state": ["random_state"]},
    prefer_skip_nested_validation=True,
)
def make_uniform(
    n_samples: int = 1000,
    n_features: int = 32,
    *,
    random_state: int | np.random.RandomState | None = None,
) -> Floats:
    r"""Make independent features, which cannot be compressed.

    .. math::

        x_{ij} \sim \mathcal{U}[0, 1)

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples.

    n_features : int, default=32
        Number of features.

    random_state : int, RandomState instance or None, default=None
        Determines the random numbers. Pass an int for the same data in every call.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The samples, in float64.

    See Also
    --------
    make_sinusoids : The opposite: one degree of freedom.

    Notes
    -----
    The variance is 1/12 in every direction. If k components of PCA explain more than
    k / n_features of it, that is chance: it does not hold for new samples.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from skae.datasets import make_uniform
    >>> X = make_uniform(10_000, 4, random_state=0)
    >>> PCA().fit(X).explained_variance_ratio_.round(2)
    array([0.25, 0.25, 0.25, 0.25])
    """
    generator: np.random.RandomState = check_random_state(random_state)
    return generator.uniform(size=(n_samples, n_features))


@validate_params(
    {"return_X_y": ["boolean"], "data_home": [str, os.PathLike, None]},
    prefer_skip_nested_validation=True,
)
def fetch_mnist(
    *, return_X_y: bool = False, data_home: str | os.PathLike[str] | None = None
) -> Bunch | tuple[Floats, NDArray[np.int64]]:
    """Load the MNIST images of handwritten digits, in their original order.

    They are read from ``mnist.npz`` (``X_train``, ``y_train``, ``X_test``, ``y_test``;
    pixels from 0 to 255) in the folder that the environment variable ``SKAE_DATA``
    names. If there is no such file, :func:`sklearn.datasets.fetch_openml` downloads
    them and keeps them for later calls.

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return only ``(data, target)``.

    data_home : str or path-like, default=None
        Folder for downloads. None: scikit-learn's, ``~/scikit_learn_data``. It is not
        used if ``SKAE_DATA`` has the file.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        data : ndarray of shape (70000, 784)
            Images of 28 x 28 pixels in float32, from 0 (paper) to 1 (ink). The first
            60,000 are the training set, the last 10,000 the test set.
        target : ndarray of shape (70000,)
            The digits, int64.
        feature_names : list of str
            OpenML's names: ``"pixel1"`` to ``"pixel784"``.
        target_names : list of str
            OpenML's name of the target: ``"class"``.
        DESCR : str
            Description of the data, and their source.

    (data, target) : tuple if ``return_X_y`` is True
        The two arrays.

    Raises
    ------
    KeyError
        If ``mnist.npz`` lacks one of its arrays.
    ImportError
        If the data come from OpenML and pandas, which reads them, is not installed.

    References
    ----------
    Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits".
    OpenML has it as data set 554, ``mnist_784``.

    Examples
    --------
    >>> from skae.datasets import fetch_mnist
    >>> X, y = fetch_mnist(return_X_y=True)  # doctest: +SKIP
    >>> X_train, X_test = X[:60_000], X[60_000:]  # doctest: +SKIP
    """
    pixels, digits = _read_mnist(data_home)
    data = np.divide(pixels, 255, dtype=np.float32)
    target = digits.astype(np.int64)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        feature_names=[f"pixel{number + 1}" for number in range(N_PIXELS)],
        target_names=["class"],
        DESCR=MNIST_DESCR,
    )


def _read_mnist(data_home: str | os.PathLike[str] | None) -> tuple[Any, Any]:
    """Return pixels of shape (70000, 784), from 0 to 255, and digits or their names."""
    folder = os.environ.get("SKAE_DATA")
    if folder and (path := Path(folder, "mnist.npz")).is_file():
        with np.load(path) as arrays:
            pixels = np.concatenate([arrays["X_train"], arrays["X_test"]])
            return pixels, np.concatenate([arrays["y_train"], arrays["y_test"]])
    found = fetch_openml("mnist_784", version=1, as_frame=False, data_home=data_home)
    return found.data, found.target
