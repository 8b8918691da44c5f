"""Mahalanobis distances of rows from the center of a normal distribution."""

from __future__ import annotations

import math

import numpy as np

from skae._data.gaussian import Expectation, Gaussian
from skae._data.rows import make_rows
from skae._model.inference import propagate
from skae._model.network import coefs, make_network
from skae._typing import Floats


class Distance:
    """Distances from the center of a distribution, in its own standard deviations.

    A matrix of many features is not inverted: it is the noise's beyond the directions.

    Parameters
    ----------
    gaussian : Gaussian
        Its directions are orthogonal.
    """

    def __init__(self, gaussian: Gaussian) -> None:
        mean, loadings, self._noise = self.gaussian = gaussian
        n_features, n_directions = loadings.shape
        variances = (loadings**2).sum(axis=0)
        axes = loadings / np.sqrt(np.where(variances > 0, variances, 1))
        kept = np.sqrt(self._noise / (variances + self._noise))
        # A row's deviation along an axis becomes shorter by 1 - kept. As a network,
        # whose results for a row do not depend on the other rows.
        widths = n_features, n_directions, n_features
        self._network = make_network(widths, ["identity"] * 2, tied=False)
        # The second layer's weights are stored transposed.
        arrays = axes, axes * (1 - kept), np.zeros(n_directions + n_features)
        joined = np.concatenate([array.ravel() for array in arrays])
        self._params = joined.astype(np.float32)
        self._mean = mean.astype(np.float32)
        # Not a product by BLAS, whose bits depend on its number of threads.
        shares = np.einsum("ja,a->j", axes**2, 1 - kept**2)
        self._precisions = (1 - shares) / self._noise

    @property
    def root(self) -> tuple[list[Floats], float]:
        """Two matrices A, B and a factor: the root is (1 - A @ B) times the factor."""
        return coefs(self._network, self._params), 1 / math.sqrt(self._noise)

    def filled(self, rows: Floats) -> Floats:
        """Rows with their expectations in place of missing entries.

        So the squared distance is that of the observed entries alone.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features), dtype=float32
            Missing entries are NaN.

        Returns
        -------
        filled : ndarray of shape (n_rows, n_features), dtype=float32
        """
        lacking = np.flatnonzero(np.isnan(rows).any(axis=1))
        if not lacking.size:
            return rows
        some = rows[lacking].astype(np.float64)
        Expectation(self.gaussian).fill(some)
        filled = rows.copy()
        filled[lacking] = some
        return filled

    def whitened(self, rows: Floats) -> Floats:
        """Deviations of rows from the mean, uncorrelated and of variance 1.

        They are multiplied by the symmetric root of the inverse covariance, so that
        each entry stays as near to the feature as it can.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features), dtype=float32
            Without missing entries.

        Returns
        -------
        whitened : ndarray of shape (n_rows, n_features), dtype=float32
        """
        return self._times_root(rows - self._mean)

    def squared(self, rows: Floats) -> Floats:
        """Squared distances of rows from the mean.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features), dtype=float32
            Missing entries, NaN, do not count.

        Returns
        -------
        squares : ndarray of shape (n_rows,), dtype=float64
        """
        whitened = self.whitened(self.filled(rows)).astype(np.float64)
        squares: Floats = (whitened**2).sum(axis=1)
        return squares

    def unexpected(self, rows: Floats) -> Floats:
        """What each entry has more than is expected of it, given the rest of its row.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features), dtype=float32
            Without missing entries.

        Returns
        -------
        differences : ndarray of shape (n_rows, n_features), dtype=float32
        """
        gradients = self._times_root(self.whitened(rows))
        differences: Floats = gradients / self._precisions.astype(np.float32)
        return differences

    def _times_root(self, deviations: Floats) -> Floats:
        """Deviations times the symmetric root of the inverse covariance."""
        rows = make_rows(deviations)
        shortened = deviations - propagate(self._network, self._params, rows)
        shortened *= np.float32(self.root[1])
        return shortened


def shrunk(gaussian: Gaussian, share: float) -> Gaussian:
    """A distribution whose covariance is mixed with that of independent features.

    Parameters
    ----------
    gaussian : Gaussian
        Of features with variances near 1.

    share : float
        Weight of the independent features, of variance 1, in [0, 1].
    """
    mean, loadings, noise = gaussian
    loadings = loadings * math.sqrt(1 - share)
    return Gaussian(mean, loadings, (1 - share) * noise + share)
