"""A pytest plugin that points scikit-learn's own test modules at our package."""

import inspect
import pkgutil
from importlib import import_module

import sklearn.decomposition
import sklearn.neural_network
import sklearn.utils
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClusterMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.utils import discovery
from sklearn.utils._test_common import instance_generator

import skae

from . import sklearn_adapters

_KINDS = {
    "classifier": ClassifierMixin,
    "regressor": RegressorMixin,
    "cluster": ClusterMixin,
    "transformer": TransformerMixin,
}


def _public_modules():
    yield skae
    for module in pkgutil.iter_modules(skae.__path__, "skae."):
        # What trains on Dask collections is not given arrays.
        is_public = not module.name.split(".")[-1].startswith("_")
        if is_public and module.name != "skae.dask":
            try:
                yield import_module(module.name)
            except ImportError as error:
                # An optional dependency may be missing, a module of ours may not.
                if (error.name or "skae").startswith("skae"):
                    raise


def _public(kind):
    found = {
        name: value
        for module in _public_modules()
        for name, value in inspect.getmembers(module, kind)
        if not name.startswith("_") and value.__module__.startswith("skae")
    }
    return sorted(found.items())


def all_estimators(type_filter=None):
    """Return our estimators, as scikit-learn's function of this name does its own."""
    kinds = [type_filter] if isinstance(type_filter, str) else type_filter
    bases = tuple(_KINDS[kind] for kind in kinds) if kinds else BaseEstimator
    return [
        (name, cls)
        for name, cls in _public(inspect.isclass)
        if issubclass(cls, BaseEstimator) and issubclass(cls, bases)
    ]


def all_displays():
    """Return our Display classes."""
    return [c for c in _public(inspect.isclass) if c[0].endswith("Display")]


def all_functions():
    """Return our public functions."""
    return _public(inspect.isfunction)


sklearn.utils.all_estimators = all_estimators
instance_generator.all_estimators = all_estimators
for _function in (all_estimators, all_displays, all_functions):
    setattr(discovery, _function.__name__, _function)

# Shorter fits than by default, as scikit-learn has for those of its own that are long.
instance_generator.INIT_PARAMS[skae.VariationalAutoencoderTransformer] = {
    "max_iter": 100
}

# test_mlp and test_incremental_pca find these where they look for scikit-learn's.
sklearn.neural_network.MLPRegressor = sklearn_adapters.MLPRegressor
sklearn.neural_network.MLPClassifier = sklearn_adapters.MLPClassifier
sklearn.decomposition.IncrementalPCA = sklearn_adapters.IncrementalPCA
