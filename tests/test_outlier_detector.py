"""AutoencoderOutlierDetector: verdicts, thresholds, p-values, blame, odd data."""

import pickle

import numpy as np
import pytest
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
)

QUICK = AutoencoderTransformer(2, hidden_layer_sizes=(16,), max_iter=5)


def correlated(n_rows, n_features=10, seed=0):
    """Samples near a plane of three dimensions."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(1).standard_normal((3, n_features))
    scores = rng.standard_normal((n_rows, 3))
    return scores @ loadings + 0.3 * rng.standard_normal((n_rows, n_features))


def curved(n_rows, n_features=10, seed=0):
    """Samples near a bent surface of two dimensions."""
    rng = np.random.default_rng(seed)
    slopes = np.random.default_rng(1).standard_normal((2, n_features))
    X = np.sin(2 * rng.uniform(-2, 2, (n_rows, 2)) @ slopes)
    return X + 0.1 * rng.standard_normal(X.shape)


@parametrize_with_checks(
    [
        AutoencoderOutlierDetector(random_state=0),
        AutoencoderOutlierDetector(contamination=0.1),
        AutoencoderOutlierDetector(QUICK, random_state=0),
        AutoencoderOutlierDetector(
            VariationalAutoencoderTransformer(1, max_iter=5), random_state=0
        ),
    ],
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)
