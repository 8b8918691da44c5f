"""Autoencoders for scikit-learn, trained by Numba kernels."""

import skae._machine  # noqa: F401

# isort: split
from skae._autoencoder import AutoencoderTransformer
from skae._variational import VariationalAutoencoderTransformer
from skae._warmup import warmup

__version__ = "0.1.0.dev0"

__all__ = [
    "AutoencoderTransformer",
    "VariationalAutoencoderTransformer",
    "__version__",
    "warmup",
]
