"""Into what rows are cut: blocks that pass through a network, lanes of batches."""

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
# A batch is cut into lanes, each with a gradient of its own: the unit of parallel work.
# A lane has as many rows as a block, between limits, or more where there would be more
# lanes than so many. Two lanes of 2-4-1-4-2, of 256 rows, are by a quarter faster on
# two threads than one lane on one.
MAX_LANES, _LANE_ROWS = 8, (128, 256)


def block_rows(network):
    """How many rows pass through a network together, whatever the data."""
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


def n_lanes(n_rows, block_rows):
    """Into how many lanes a batch is cut, whatever the number of threads."""
    fewest, most = _LANE_ROWS
    lane_rows = max(fewest, min(most, block_rows))
    n_lanes = min(MAX_LANES, (n_rows + lane_rows - 1) // lane_rows)
    # Half a lane of so wide a network is work enough for a thread.
    return max(2, n_lanes) if n_rows >= lane_rows == fewest else n_lanes


# The same for kernels.
lanes_of = inner(n_lanes)


@inner
def lane_start(lane, n_lanes, n_rows):
    """First row of a lane in its batch; of the one after the last, all rows."""
    start = (lane * n_rows + n_lanes - 1) // n_lanes
    return min(n_rows, (start + _ROW_MULTIPLE - 1) // _ROW_MULTIPLE * _ROW_MULTIPLE)
