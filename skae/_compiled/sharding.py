"""How rows are cut: into blocks that pass through a network, and shards of batches."""

import numpy as np

from skae._compiled.compilation import inner
from skae._compiled.products import PART_COLUMNS

# Rows that pass through the network together: so many that a block's activations, all
# layers together, fill about a quarter of an L2 cache, between limits. Fewer would make
# small products, and more would leave the cache.
_BLOCK_ENTRIES = 2**15
# A unit's rows must not be 4096 bytes: all units would share a set of the L1 cache.
_FEWEST_ROWS, _MOST_ROWS, _ALIASED_ROWS = 128, 1008, 512  # the last of float64
# Blocks are cut where products have whole vectors.
_ROW_MULTIPLE = 16
# Networks so wide that even the fewest rows would take too much memory get fewer.
_MAX_BLOCK_ENTRIES = 2**20
# A batch is cut into shards, each with its own gradient: the unit of parallel work. A
# shard has as many rows as a block, between limits, or more where there would be more
# than MAX_SHARDS. Two shards of 2-4-1-4-2, of 256 rows, are a quarter faster on two
# threads than one shard on one.
MAX_SHARDS, _SHARD_ROWS = 8, (128, 256)


def block_rows(network):
    """Rows that pass through a network together; the data do not matter."""
    rows = max(_FEWEST_ROWS, min(_MOST_ROWS, _BLOCK_ENTRIES // network.n_units))
    rows = max(1, min(rows, _MAX_BLOCK_ENTRIES // network.n_units))
    rows = max(rows - rows % _ROW_MULTIPLE, min(rows, _ROW_MULTIPLE))
    return rows - _ROW_MULTIPLE if rows == _ALIASED_ROWS else rows


def n_packed(network):
    """Entries that `Team.packed` needs for a row: of the layers' weights' columns.

    At least PART_COLUMNS, which the losses of a block need, too.
    """
    layers = network.layers[1:]
    is_transposed = layers["transposed"] != 0
    columns = int(np.where(is_transposed, layers["n_in"], layers["width"]).max())
    return -(-columns // PART_COLUMNS) * PART_COLUMNS


def n_shards(n_rows, block_rows):
    """Number of shards of a batch; the number of threads does not matter."""
    fewest, most = _SHARD_ROWS
    shard_rows = max(fewest, min(most, block_rows))
    n_shards = min(MAX_SHARDS, (n_rows + shard_rows - 1) // shard_rows)
    # Half a shard of so wide a network is work enough for a thread.
    return max(2, n_shards) if n_rows >= shard_rows == fewest else n_shards


# The same for kernels.
shards_of = inner(n_shards)


@inner
def shard_start(shard, n_shards, n_rows):
    """First row of a shard in its batch; `n_rows` for the one after the last."""
    start = (shard * n_rows + n_shards - 1) // n_shards
    return min(n_rows, (start + _ROW_MULTIPLE - 1) // _ROW_MULTIPLE * _ROW_MULTIPLE)
