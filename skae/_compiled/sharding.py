"""How rows are cut into blocks, and mini-batches into shards."""

import numpy as np

from skae._compiled.compilation import inner
from skae._compiled.products import PART_COLUMNS

# A block's activations, in all layers, fill about a quarter of an L2 cache, between
# limits: with fewer rows products are small, and with more they leave the cache.
_BLOCK_ENTRIES = 2**15
# A unit's rows must not be 4096 bytes: all units would share a set of the L1 cache.
_FEWEST_ROWS, _MOST_ROWS, _ALIASED_ROWS = 128, 1008, 512  # the last in float64
# Blocks are cut where products have whole vectors.
ROW_MULTIPLE = 16
# Limit for very wide networks, where even the fewest rows would take too much memory.
_MAX_BLOCK_ENTRIES = 2**20
# Shards, each with its own gradient, are the unit of parallel work. A shard has as many
# rows as a block, between limits, or more to keep to MAX_SHARDS. For 2-4-1-4-2, two
# shards of 256 rows on two threads are a quarter faster than one shard on one.
MAX_SHARDS, _SHARD_ROWS = 8, (128, 256)


def block_rows(network):
    """Number of rows of a block; it does not depend on the data."""
    rows = max(_FEWEST_ROWS, min(_MOST_ROWS, _BLOCK_ENTRIES // network.n_units))
    rows = max(1, min(rows, _MAX_BLOCK_ENTRIES // network.n_units))
    rows = max(rows - rows % ROW_MULTIPLE, min(rows, ROW_MULTIPLE))
    return rows - ROW_MULTIPLE if rows == _ALIASED_ROWS else rows


def n_packed(network):
    """Entries of `Team.packed` per row: the most columns of a layer's stored weights.

    At least PART_COLUMNS, which a block's losses need.
    """
    layers = network.layers[1:]
    is_transposed = layers["transposed"] != 0
    columns = int(np.where(is_transposed, layers["n_in"], layers["width"]).max())
    return -(-columns // PART_COLUMNS) * PART_COLUMNS


def n_shards(n_rows, block_rows):
    """Number of shards of a mini-batch; it does not depend on the number of threads."""
    fewest, most = _SHARD_ROWS
    shard_rows = max(fewest, min(most, block_rows))
    n_shards = min(MAX_SHARDS, (n_rows + shard_rows - 1) // shard_rows)
    # In networks this wide half a shard is enough work for a thread.
    return max(2, n_shards) if n_rows >= shard_rows == fewest else n_shards


# `n_shards` for kernels.
shards_of = inner(n_shards)


@inner
def shard_start(shard, n_shards, n_rows):
    """First row of a shard in its mini-batch; `n_rows` after the last shard."""
    start = (shard * n_rows + n_shards - 1) // n_shards
    return min(n_rows, (start + ROW_MULTIPLE - 1) // ROW_MULTIPLE * ROW_MULTIPLE)
