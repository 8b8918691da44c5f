"""Methods of a fitted estimator on the blocks of a Dask collection."""

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from skae._data.frames import frame_of
from skae._data.squares import Squares
from skae._data.tables import Table, TableCounts
from skae._data.tables import may_have_categories as has_categories
from skae._data.validation import check_weights, table_of
from skae._sklearn import _get_output_config
from skae._typing import Floats
from skae.dask.partitions import (
    check_client,
    check_collection,
    in_partition,
    large_graphs,
    split,
)

try:
    import dask
    import dask.array as da
    import dask.dataframe as dd
    from dask import is_dask_collection as is_dask_collection
except ImportError as error:
    raise ImportError(
        "skae.dask needs the packages dask and distributed: pip install 'skae[dask]'"
    ) from error

if TYPE_CHECKING:
    from distributed import Client


def like(X: Any, n_features: int) -> Any:
    """A block of the kind of a collection's, without rows."""
    return np.empty((0, n_features)) if isinstance(X, da.Array) else X._meta


def may_have_categories(X: Any, categorical_features: Any) -> bool:
    """Whether columns of a collection may be categories."""
    check_collection(X, may_have_categories=True)
    if categorical_features is None or not isinstance(categorical_features, str):
        return categorical_features is not None
    if isinstance(X, da.Array):
        return X.dtype.kind in "OUS"
    return has_categories(frame_of(X._meta))


def counted(block: Any, categorical_features: Any) -> TableCounts | None:
    """Counts of the levels of a block's columns, if it is a table with rows."""
    is_explicit = not isinstance(categorical_features, str)
    frame = table_of(block, is_explicit=is_explicit)
    if frame is None or not frame.n_rows:
        return None
    return TableCounts.of(frame, categorical_features)


def check_any_rows(n_rows: int, n_features: int) -> None:
    """Raise ValueError, as scikit-learn does, if there are no samples."""
    if not n_rows:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=(0, {n_features})) while a minimum "
            "of 1 is required."
        )


def computed(delayed: Iterable[Any], client: "Client | None") -> tuple[Any, ...]:
    """Results of delayed calls, by a client or, without one, by Dask's default.

    In a task the thread is left to others meanwhile.
    """
    get = None
    if client is not None:
        check_client(client)
        get = client.get
    with large_graphs():
        results: tuple[Any, ...] = dask.compute(*delayed, scheduler=get)
    return results


def gathered_weights(
    weights: ArrayLike, n_rows: int, client: "Client | None"
) -> Floats:
    """Gather weights of samples, if they are a Dask collection, and check them."""
    if is_dask_collection(weights):
        (weights,) = computed([weights], client)
    return check_weights(weights, n_rows)


def lazily(
    estimator: Any,
    method: str,
    X: Any,
    shape: tuple[int, ...],
    kwargs: dict[str, Any] | None = None,
) -> Any:
    """Dask collection of the results of a method for each block of a collection.

    Parameters
    ----------
    estimator : BaseAutoencoder
        Sent to the workers.

    method : str

    X : dask Array or DataFrame

    shape : tuple of int
        Shape of the result for a sample.

    kwargs : dict, default=None
        Keyword arguments of the method.

    Returns
    -------
    collection : dask Array, or DataFrame if results are data frames
    """
    container = _get_output_config("transform", estimator)["dense"]
    if method == "transform" and container != "default":
        raise ValueError(
            f"set_output(transform={container!r}) does not go with a Dask "
            "collection: use set_output(transform='default')"
        )
    call_kwargs = {"method": method, "shape": shape, "kwargs": kwargs or {}}
    nothing = _nothing(estimator, method, shape)
    estimator = dask.delayed(estimator)
    if not isinstance(nothing, np.ndarray):
        call = dask.delayed(_of_block, pure=True)
        frames = [
            call(block, estimator, block_id=(number,), **call_kwargs)
            for number, block in enumerate(split(X))
        ]
        return dd.from_delayed(frames, meta=nothing, verify_meta=False)
    meta = np.empty((0,) * nothing.ndim, nothing.dtype)
    if isinstance(X, da.Array):
        return da.map_blocks(
            _of_block,
            X.rechunk({1: -1}),
            estimator,
            **call_kwargs,
            chunks=(X.chunks[0], *((n,) for n in shape)),
            drop_axis=[] if shape else 1,
            meta=meta,
        )
    call = dask.delayed(_of_block, pure=True)
    parts = [
        da.from_delayed(
            call(block, estimator, block_id=(number,), **call_kwargs),
            (np.nan, *shape),
            meta=meta,
        )
        for number, block in enumerate(X.to_delayed())
    ]
    return da.concatenate(parts, allow_unknown_chunksizes=True)


def _of_block(
    block: Any,
    estimator: Any,
    *,
    method: str,
    shape: tuple[int, ...],
    kwargs: dict[str, Any],
    block_id: tuple[int, ...],
) -> Any:
    """Result of a method for a block, which may have no rows."""
    if not block.shape[0]:
        return _nothing(estimator, method, shape)
    with in_partition(block_id[0]):
        return getattr(estimator, method)(block, **kwargs)


def _nothing(estimator: Any, method: str, shape: tuple[int, ...]) -> Any:
    """Result of a method for no rows."""
    table: Table | None = estimator._table
    if table is not None and method == "inverse_transform":
        return table.decode(np.empty((0, table.n_inputs), estimator._params.dtype))
    return np.empty((0, *shape), estimator._params.dtype)


def squares(
    estimator: Any, X: Any, sample_weight: ArrayLike | None, client: "Client | None"
) -> Squares:
    """The sums that the score is computed from, over all samples of a collection."""
    blocks = split(X)
    weights: Sequence[Floats | None] = [None] * len(blocks)
    if sample_weight is not None:
        sizes = _sizes(X, blocks, client)
        sample_weight = gathered_weights(sample_weight, sum(sizes), client)
        weights = np.split(sample_weight, np.cumsum(sizes)[:-1])
    local, sums_of = dask.delayed(estimator), dask.delayed(_squares_of_block)
    items = zip(blocks, weights, range(len(blocks)), strict=True)
    sums = computed([sums_of(block, local, *item) for block, *item in items], client)
    n_rows, of_blocks = zip(*sums, strict=True)
    check_any_rows(sum(n_rows), estimator.n_features_in_)
    total: Squares = reduce(Squares.plus, of_blocks)
    return total


def _squares_of_block(
    block: Any, estimator: Any, weights: Floats | None, number: int
) -> tuple[int, Squares]:
    """The number of rows of a block, and the sums of the score over them."""
    n_rows = block.shape[0]
    if not n_rows:
        return 0, Squares()
    with in_partition(number):
        return n_rows, estimator._squares(estimator._check_rows(block), weights)


def _sizes(X: Any, blocks: list[Any], client: "Client | None") -> tuple[int, ...]:
    """Number of rows of each block of a collection."""
    if isinstance(X, da.Array) and not np.isnan(X.chunks[0]).any():
        return tuple(X.chunks[0])
    count = dask.delayed(_n_rows)
    return computed([count(block) for block in blocks], client)


def _n_rows(block: Any) -> int:
    return int(block.shape[0])
