"""Autoencoders for scikit-learn, trained by Numba kernels."""

import importlib

import skae._runtime.machine  # noqa: F401

# isort: split
from skae._autoencoder import AutoencoderTransformer
from skae._runtime.warmup import warmup
from skae._variational import VariationalAutoencoderTransformer

__version__ = "0.1.0.dev0"

__all__ = [
    "AutoencoderTransformer",
    "VariationalAutoencoderTransformer",
    "__version__",
    "warmup",
]

# They are imported when they are first used; some need packages that are optional.
_MODULES = ("callbacks", "dask", "datasets", "inspection", "io", "metrics", "onnx")


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"skae.{name}")
    raise AttributeError(f"module 'skae' has no attribute {name!r}")


def __dir__():
    return sorted([*__all__, *_MODULES])
