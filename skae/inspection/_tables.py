"""PCA of tables with categories, to compare an autoencoder with."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA

from skae._data.encoders import shares_of_positive
from skae._data.frames import ArrayFrame, frame_of
from skae._data.tables import TableReader
from skae._data.validation import read_table
from skae._model.deviance import column_scales
from skae._model.groups import Groups
from skae._typing import Floats

_PARAMETERS = ("categorical_features", "categories", "max_categories", "min_frequency")


def table_parameters(autoencoder: Any, X: Any) -> dict[str, Any] | None:
    """What an autoencoder takes for categories of X; None if there are only numbers."""
    params = autoencoder.get_params(deep=False)
    chosen = {name: params[name] for name in _PARAMETERS if name in params}
    if len(chosen) < len(_PARAMETERS) or chosen["categorical_features"] is None:
        return None
    return chosen if _reader(X, **chosen).has_categories else None


def _reader(
    X: Any,
    categorical_features: Any,
    categories: Any,
    max_categories: int | None,
    min_frequency: float | None,
) -> TableReader:
    limits = max_categories, min_frequency
    reader = TableReader(categorical_features, categories, *limits)
    read_table(X, reader, is_explicit=not isinstance(categorical_features, str))
    return reader


class TableEncoder(TransformerMixin, BaseEstimator):
    """Standardized numbers and one-hot levels, so that each column counts once.

    A missing entry is the mean of its column, or the frequencies of the levels.
    """

    def __init__(
        self,
        categorical_features: Any = "from_dtype",
        categories: Any = "auto",
        max_categories: int | None = None,
        min_frequency: float | None = None,
    ) -> None:
        self.categorical_features = categorical_features
        self.categories = categories
        self.max_categories = max_categories
        self.min_frequency = min_frequency

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the levels, means and scales."""
        params = {name: getattr(self, name) for name in _PARAMETERS}
        self._table = _reader(X, **params).table()
        matrix, sizes = self._matrix(X), self._table.groups
        self._groups = Groups.of(len(self._table.numbers), sizes)
        is_missing = np.isnan(matrix)
        n_observed = np.maximum(1, (~is_missing).sum(axis=0))
        self.mean_ = np.where(is_missing, 0.0, matrix).sum(axis=0) / n_observed
        deviations = np.where(is_missing, 0.0, matrix - self.mean_)
        spreads = np.sqrt((deviations**2).sum(axis=0) / n_observed)
        self.scale_ = column_scales(spreads, self._groups)
        return self

    def transform(self, X: Any) -> Floats:
        """Encode a table."""
        encoded: Floats = (self._matrix(X) - self.mean_) / self.scale_
        return np.where(np.isnan(encoded), 0.0, encoded)

    def _matrix(self, X: Any) -> Floats:
        matrix, _ = self._table.encode(
            frame_of(X) or ArrayFrame(X), handle_unknown="ignore"
        )
        return np.asarray(sparse.csr_matrix(matrix).toarray(), dtype=np.float64)


class PCAOfTable(TableEncoder):
    """PCA of an encoded table: of all linear codes that with the smallest errors."""

    def __init__(
        self,
        n_components: int = 2,
        categorical_features: Any = "from_dtype",
        categories: Any = "auto",
        max_categories: int | None = None,
        min_frequency: float | None = None,
    ) -> None:
        self.n_components = n_components
        self.categorical_features = categorical_features
        self.categories = categories
        self.max_categories = max_categories
        self.min_frequency = min_frequency

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the encoder, and PCA."""
        super().fit(X)
        self.pca_ = PCA(self.n_components, random_state=0).fit(super().transform(X))
        return self

    def transform(self, X: Any) -> Floats:
        """Encode samples."""
        codes: Floats = self.pca_.transform(super().transform(X))
        return codes

    def _decoded_inputs(self, codes: Floats) -> Floats:
        """Numbers, and probabilities of levels, which are shares of positive ones."""
        found = self.pca_.inverse_transform(codes) * self.scale_ + self.mean_
        groups = self._groups
        for first, stop in zip(groups.groups[:-1], groups.groups[1:], strict=True):
            found[:, first:stop] = shares_of_positive(found[:, first:stop])
        return np.asarray(found)
