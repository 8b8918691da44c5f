"""Our estimator in the clothes that scikit-learn's tests expect."""

import contextlib
import warnings

import numpy as np
from scipy import sparse
from sklearn.utils.metaestimators import available_if

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer


def _takes_batches(estimator):
    return estimator.solver != "lbfgs"


@contextlib.contextmanager
def _wide_codes_allowed():
    """No warning of a layer of a network for regression."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_components=.* is not below the number of")
        yield


class UnweightedAutoencoder(AutoencoderTransformer):
    """No ``sample_weight``: for fits where a weight is not a number of rows."""

    def fit(self, X, y=None):
        return super().fit(X, y)

    def partial_fit(self, X, y=None):
        return super().partial_fit(X, y)

    def fit_transform(self, X, y=None):
        return self.fit(X, y).transform(X)


class _Mapping:
    """Send the data through ``_map`` first, whatever container they come in."""

    def fit(self, X, y=None, **weights):
        return super().fit(self._map(X), y, **weights)

    @available_if(_takes_batches)
    def partial_fit(self, X, y=None, **weights):
        return super().partial_fit(self._map(X), y, **weights)

    def fit_transform(self, X, y=None, **weights):
        return self.fit(X, y, **weights).transform(X)

    def transform(self, X):
        return super().transform(self._map(X))

    def score(self, X, y=None, sample_weight=None):
        return super().score(self._map(X), y, sample_weight)

    def score_samples(self, X):
        return super().score_samples(self._map(X))


class _Mapped(_Mapping, AutoencoderTransformer):
    def fit(self, X, y=None, sample_weight=None):
        return super().fit(X, y, sample_weight=sample_weight)

    @available_if(_takes_batches)
    def partial_fit(self, X, y=None, sample_weight=None):
        return super().partial_fit(X, y, sample_weight=sample_weight)


class _UnitRange:
    """Squash the data to [-1, 1], and so non-negative data to [0, 1].

    A tag can tell the checks of a lower bound (positive_only) but not of an upper
    one. A Pipeline with MinMaxScaler is no way out: it fails two checks by itself
    (scikit-learn lists them as expected failures) and hides ``sample_weight``.
    """

    @staticmethod
    def _map(X):
        if sparse.issparse(X):
            X = X.tocsr(copy=True)
            X.data = X.data / (1 + abs(X.data))
            return X
        if not hasattr(X, "columns"):
            X = np.asarray(X)
            if X.dtype.kind not in "iuf":
                return X
        elif not hasattr(X, "iloc"):
            return X  # polars frames have data in [0, 1] already
        with np.errstate(invalid="ignore"):
            return X / (1 + abs(X))


class UnitRangeAutoencoder(_UnitRange, _Mapped):
    """For losses of data in [0, 1]."""


class UnitRangeVariational(_UnitRange, _Mapping, VariationalAutoencoderTransformer):
    """The same, without weights."""

    def fit(self, X, y=None):
        return super().fit(X, y)

    def partial_fit(self, X, y=None):
        return super().partial_fit(X, y)


class Float32Autoencoder(_Mapped):
    """Compute in float32 whatever the checks feed.

    No ``sample_weight``, as the checks compare weighted and repeated rows to 1e-7,
    which is less than one float32 rounding.
    """

    def fit(self, X, y=None):
        return super().fit(X, y)

    def fit_transform(self, X, y=None):
        return self.fit(X, y).transform(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @staticmethod
    def _map(X):
        if hasattr(X, "columns"):
            return X  # the checks of frames are about names, not numbers
        if not sparse.issparse(X):
            X = np.asarray(X)
        return X.astype(np.float32) if X.dtype.kind in "iuf" else X


class MLPRegressor(AutoencoderTransformer):
    """Learn X -> X where MLPRegressor learns X -> y; its last layer is the code."""

    def __init__(self, hidden_layer_sizes=(100,), activation="relu", **params):
        sizes = np.atleast_1d(hidden_layer_sizes).tolist()
        super().__init__(
            sizes[-1],
            hidden_layer_sizes=tuple(sizes[:-1]),
            activation=activation,
            code_activation=activation,
            **{
                "init": "glorot",
                "max_iter": 1000,
                "learning_rate": "constant",
                **params,
            },
        )

    def fit(self, X, y=None, sample_weight=None):
        with _wide_codes_allowed():
            return super().fit(X, y, sample_weight)

    @available_if(_takes_batches)
    def partial_fit(self, X, y=None):
        with _wide_codes_allowed():
            return super().partial_fit(X, y)

    @classmethod
    def _get_param_names(cls):
        return AutoencoderTransformer._get_param_names()

    def predict(self, X):
        return self.inverse_transform(self.transform(X))


class MLPClassifier(MLPRegressor):
    """For the tests of training that happen to classify."""

    def partial_fit(self, X, y=None, classes=None):
        return super().partial_fit(X, y)


class IncrementalPCA(AutoencoderTransformer):
    """The linear network, trained until it is PCA.

    PCA's code has the scale of the data, ours that of the network.
    """

    def __init__(self, n_components=2, *, batch_size=None):
        super().__init__(
            n_components,
            hidden_layer_sizes=(),
            batch_size=batch_size or "auto",
            learning_rate="cosine",
            learning_rate_init=0.05,
            max_iter=1000,
            tol=0,
            random_state=0,
        )

    @classmethod
    def _get_param_names(cls):
        return AutoencoderTransformer._get_param_names()

    def fit_transform(self, X, y=None):
        return self.fit(X).transform(X)

    def transform(self, X):
        return super().transform(X) * self.scale_

    def inverse_transform(self, X):
        return super().inverse_transform(X / self.scale_)
