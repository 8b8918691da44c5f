"""An autoencoder that is trained on Dask collections, on the workers that hold them."""

# Everything that needs Dask lies in this folder: the estimator, the training on the
# workers, and the partitions of a collection. It may import the estimators and what is
# below them; nothing else in skae may import it. (A comment, as the documentation shows
# the docstring to users.)

from skae.dask.estimator import DaskAutoencoderTransformer
from skae.dask.partitions import DataLostError, NoWorkersError

__all__ = ["DaskAutoencoderTransformer", "DataLostError", "NoWorkersError"]


def __dir__():
    return __all__
