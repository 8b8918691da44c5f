"""Autoencoders for scikit-learn, trained by Numba kernels."""

import importlib
from types import ModuleType

import skae._runtime.machine  # noqa: F401

# isort: split
from skae._autoencoder import AutoencoderTransformer
from skae._imputer import AutoencoderImputer
from skae._outliers.detector import AutoencoderOutlierDetector
from skae._runtime.warmup import warmup
from skae._variational import VariationalAutoencoderTransformer

__version__ = "0.1.0.dev0"

__all__ = [
    "AutoencoderImputer",
    "AutoencoderOutlierDetector",
    "AutoencoderTransformer",
    "VariationalAutoencoderTransformer",
    "__version__",
    "warmup",
]

# Imported at first use, because some need optional packages.
_MODULES = ("callbacks", "dask", "datasets", "inspection", "io", "metrics", "onnx")


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"skae.{name}")
    raise AttributeError(f"module 'skae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
