"""What a fitted estimator makes of the blocks of a Dask collection."""

from functools import reduce

import numpy as np

from skae._data.scores import Squares
from skae._data.validation import check_weights
from skae._sklearn import _get_output_config
from skae.dask.partitions import check_client, in_partition, large_graphs, split

try:
    import dask
    import dask.array as da
    from dask import is_dask_collection as is_dask_collection
except ImportError as error:
    raise ImportError(
        "skae.dask needs the packages dask and distributed: pip install 'skae[dask]'"
    ) from error


def like(X, n_features):
    """A collection's kind of block, with so many columns and without rows."""
    return np.empty((0, n_features)) if isinstance(X, da.Array) else X._meta


def check_any_rows(n_rows, n_features):
    """Raise ValueError, as scikit-learn does, if there are no samples."""
    if not n_rows:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=(0, {n_features})) while a minimum "
            "of 1 is required."
        )


def computed(delayed, client):
    """Results of delayed calls, by a client or, without one, by Dask's default.

    In a task the thread is left to others meanwhile.
    """
    get = None
    if client is not None:
        check_client(client)
        get = client.get
    with large_graphs():
        return dask.compute(*delayed, scheduler=get)


def gathered_weights(weights, n_rows, client):
    """Weights of samples, which may be a Dask collection, here and checked."""
    if is_dask_collection(weights):
        (weights,) = computed([weights], client)
    return check_weights(weights, n_rows)


def lazily(estimator, method, X, shape, kwargs=None):
    """A Dask array of what a method returns for each block of a collection.

    Parameters
    ----------
    estimator : BaseAutoencoder
        Goes to the workers.

    method : str

    X : dask Array or DataFrame

    shape : tuple of int
        That of what is returned for a sample.

    kwargs : dict, default=None
        Of the method.

    Returns
    -------
    array : dask Array
    """
    container = _get_output_config("transform", estimator)["dense"]
    if method == "transform" and container != "default":
        raise ValueError(
            f"set_output(transform={container!r}) does not go with a Dask "
            "collection: use set_output(transform='default')"
        )
    kwargs = {"method": method, "shape": shape, "kwargs": kwargs or {}}
    meta = np.empty((0,) * (1 + len(shape)), estimator._params.dtype)
    estimator = dask.delayed(estimator)
    if isinstance(X, da.Array):
        return da.map_blocks(
            _of_block,
            X.rechunk({1: -1}),
            estimator,
            **kwargs,
            chunks=(X.chunks[0], *((n,) for n in shape)),
            drop_axis=[] if shape else 1,
            meta=meta,
        )
    call = dask.delayed(_of_block, pure=True)
    parts = [
        da.from_delayed(
            call(block, estimator, block_id=(number,), **kwargs),
            (np.nan, *shape),
            meta=meta,
        )
        for number, block in enumerate(X.to_delayed())
    ]
    return da.concatenate(parts, allow_unknown_chunksizes=True)


def _of_block(block, estimator, *, method, shape, kwargs, block_id):
    """What a method returns for a block, which may be without rows."""
    if not block.shape[0]:
        return np.empty((0, *shape), estimator._params.dtype)
    with in_partition(block_id[0]):
        return getattr(estimator, method)(block, **kwargs)


def squares(estimator, X, sample_weight, client):
    """The sums that the score is made of, over all samples of a collection."""
    blocks = split(X)
    weights: list = [None] * len(blocks)
    if sample_weight is not None:
        sizes = _sizes(X, blocks, client)
        sample_weight = gathered_weights(sample_weight, sum(sizes), client)
        weights = np.split(sample_weight, np.cumsum(sizes)[:-1])
    local, sums_of = dask.delayed(estimator), dask.delayed(_squares_of_block)
    items = zip(blocks, weights, range(len(blocks)), strict=True)
    sums = computed([sums_of(block, local, *item) for block, *item in items], client)
    n_rows, of_blocks = zip(*sums, strict=True)
    check_any_rows(sum(n_rows), estimator.n_features_in_)
    return reduce(Squares.plus, of_blocks)


def _squares_of_block(block, estimator, weights, number):
    """The number of rows of a block, and the sums of the score over them."""
    n_rows = block.shape[0]
    if not n_rows:
        return 0, Squares()
    with in_partition(number):
        return n_rows, estimator._squares(estimator._check_rows(block), weights)


def _sizes(X, blocks, client):
    """The number of rows of each block of a collection."""
    if isinstance(X, da.Array) and not np.isnan(X.chunks[0]).any():
        return X.chunks[0]
    count = dask.delayed(_n_rows)
    return computed([count(block) for block in blocks], client)


def _n_rows(block):
    return block.shape[0]
