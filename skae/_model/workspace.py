"""Working memory of a team of threads: buffers, and the addresses of the ops."""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from skae._compiled import (
    batches,
    compilation,
    dispatch,
    losses,
    optimizers,
    records,
    sharding,
)
from skae._compiled.code_terms import N_TERM_SETTINGS, CodeTerm
from skae._compiled.corruption import Corruption
from skae._compiled.network import forward
from skae._compiled.products import DEPTH
from skae._compiled.records import (
    BLOCK,
    HELD,
    N_SHARD_LOSSES,
    NOTHING,
    Team,
    empty_lines,
    in_lines,
)
from skae._data.rows import Rows, density, piece_rows
from skae._runtime.threads import ThreadTeam

# If every step learns from all rows in their own order, they stay in input blocks of
# at most this many bytes: without that, full-batch epochs of the workload "ring" take
# 1.25 times as long on one thread; L-BFGS gains nothing that can be seen.
_MAX_INPUT_BYTES = 2**23


class Learning(NamedTuple):
    """What a team needs to know to train a network."""

    loss: losses.Loss
    solver: compilation.CFunction
    batch_size: int  # rows of an update
    shuffles: bool  # whether rows are drawn in random order
    seed: int
    corruption: Corruption | None = None
    term: CodeTerm | None = None


def make_workspace(
    network: records.Network,
    dtype: DTypeLike,
    *,
    team: ThreadTeam,
    rows: Sequence[Rows],
    learning: Learning | None = None,
) -> Team:
    """Return the working memory of a team for one network.

    Parameters
    ----------
    network : records.Network

    dtype : dtype

    team : ThreadTeam

    rows : sequence of Rows
        What the team will read; first the rows that it learns from.

    learning : Learning, default=None
        None for inference alone.

    Returns
    -------
    workspace : records.Team
    """
    n_threads, n_rows = team.n_threads, rows[0].n_rows
    itemsize, n_features = np.dtype(dtype).itemsize, int(network.widths[0])
    batch_size = learning.batch_size if learning else 0
    block_rows = sharding.block_rows(network)
    n_shards = sharding.n_shards(batch_size, block_rows)
    n_slots = 1
    is_small = n_rows * n_features * itemsize <= _MAX_INPUT_BYTES
    if batch_size == n_rows and is_small:
        blocks_per_shard = -(-batch_size // max(1, n_shards) // block_rows)
        n_slots = max(1, -(-n_shards // n_threads) * blocks_per_shard)
    n_units = network.n_units - n_features
    blocks = (n_threads, n_units * block_rows)
    slots = (n_threads * n_slots, block_rows)
    corruption = learning.corruption if learning else None
    has_zeros = _has_zeros(network, rows[0], corruption)
    n_packed = sharding.n_packed(network) * block_rows if learning else 0
    kinds = {part.starts.size > 0 for part in rows}
    term = learning.term if learning else None
    n_code = int(network.widths[network.n_layers // 2]) if term else 0
    n_seen = n_features + n_features % 2 if corruption else 0
    has_targets = any(part.targets.size for part in rows)
    n_targets = n_features if learning and has_targets else 0
    has_groups = network.n_groups > 0
    ops = _learning_ops(learning, has_groups=has_groups) if learning else {}
    activations = network.layers["activation"]
    held = empty_lines(slots[:1], HELD)
    held["values"] = NOTHING
    shard_codes = in_lines(sharding.MAX_SHARDS, n_code + 1, np.float64)
    term_settings = _term_settings(term, n_threads, n_code)
    gradients = in_lines(n_shards, network.n_params if learning else 0, dtype)
    return Team(
        n_threads=n_threads,
        itemsize=itemsize,
        block_rows=block_rows,
        piece_rows=piece_rows(n_features),
        n_slots=n_slots,
        n_units=n_units,
        n_params=network.n_params,
        n_packed=n_packed,
        ops=dispatch.addresses(dtype, activations, kinds, has_zeros, **ops),
        forward=forward.address(),
        shards=batches.shards.address() if learning else 0,
        code_means=batches.code_means.address() if "add_code" in ops else 0,
        seed=learning.seed if learning else 0,
        control=team.control,
        shard_losses=in_lines(sharding.MAX_SHARDS, N_SHARD_LOSSES, np.float64),
        shard_codes=shard_codes,
        shard_code_entries=shard_codes.shape[1],
        penalty=in_lines(1, 2, np.float64)[0],
        held=held,
        blocks=empty_lines((n_threads,), BLOCK),
        settings=in_lines(n_threads, optimizers.N_SETTINGS, np.float64),
        corruption=corruption.settings if corruption else np.empty(0),
        term_settings=term_settings,
        n_term_settings=term_settings.shape[1],
        n_code=n_code,
        zero=np.zeros(1, dtype=dtype),
        order=np.empty(n_rows if learning and learning.shuffles else 0, dtype=np.int32),
        # Rows of these begin a cache line, too, or the network is so wide that it does
        # not matter.
        picked=empty_lines(slots, np.int64),
        row_weights=empty_lines(slots, dtype),
        inputs=empty_lines((slots[0], block_rows * n_features), dtype),
        targets=empty_lines((slots[0], block_rows * n_targets), dtype),
        corrupted=empty_lines((n_threads, block_rows * n_seen), dtype),
        packed=empty_lines((n_threads, n_packed), dtype),
        units=empty_lines(blocks, dtype),
        slopes=empty_lines(blocks, dtype),
        kept=empty_lines((n_threads, block_rows * n_code), dtype),
        shard_gradients=gradients,
        shard_gradient_entries=gradients.shape[1],
    )


class _Kept(NamedTuple):
    """Working memory of one thread, kept for its next inference on few rows."""

    team: ThreadTeam
    workspace: Team
    record: NDArray[Any]  # of the workspace


class _OfThread(threading.local):
    """What each thread keeps, by network; the last used is last."""

    def __init__(self) -> None:
        self.kept: dict[Any, _Kept] = {}


_OF_THREAD = _OfThread()
# Networks, or halves of them, that a thread keeps memory for, its most bytes for each,
# and the most rows: with more it matters that zeros are skipped.
_MAX_KEPT, _MAX_KEPT_BYTES, _MAX_ROWS = 4, 2**20, 1024


def kept_workspace(
    network: records.Network, rows: Rows
) -> tuple[ThreadTeam, NDArray[Any]] | None:
    """A team of one thread, and the record of its working memory for inference.

    They are kept, because to make them takes several times as long as a network takes
    for few rows. None if there are many rows, if they are sparse, or if the memory is
    large.
    """
    block_rows = sharding.block_rows(network)
    n_bytes = network.n_units * block_rows * rows.dtype.itemsize
    if rows.starts.size or rows.n_rows > _MAX_ROWS or n_bytes > _MAX_KEPT_BYTES:
        return None
    key = rows.dtype, network.n_params, network.layers.tobytes()
    kept = _OF_THREAD.kept.pop(key, None)
    if kept is None:
        team = ThreadTeam(1)
        workspace = make_workspace(network, rows.dtype, team=team, rows=[rows.empty()])
        kept = _Kept(team, workspace, records.record_of(workspace))
    _OF_THREAD.kept[key] = kept
    if len(_OF_THREAD.kept) > _MAX_KEPT:
        del _OF_THREAD.kept[next(iter(_OF_THREAD.kept))]
    # Other rows may have been at the same address.
    kept.workspace.held["values"] = NOTHING
    return kept.team, kept.record


# Products skip zeros if at most this share of the entries is not zero and the first
# layer has at least so many units, see `benchmarks/own`.
_MAX_DENSITY, _MIN_WIDTH = 0.25, 32


def _has_zeros(
    network: records.Network, rows: Rows, corruption: Corruption | None
) -> bool:
    """Whether products of the first layer skip the zeros of the rows."""
    first = network.layers[1]
    if first["transposed"] or first["width"] < _MIN_WIDTH:
        return False
    if corruption is not None and not corruption.noise.keeps_zeros:
        return False
    return sharding.block_rows(network) <= DEPTH and density(rows) <= _MAX_DENSITY


def _learning_ops(
    learning: Learning, *, has_groups: bool
) -> dict[str, compilation.CFunction | None]:
    """Return the ops of an objective and a solver, by the fields of ``Addresses``."""
    ops: dict[str, compilation.CFunction | None]
    ops = {"loss": learning.loss.op, "solver": learning.solver}
    if has_groups:
        ops["group_losses"] = losses.add_group_losses
    if learning.corruption is not None:
        ops["corrupt"] = learning.corruption.noise.op
        if has_groups:
            ops["corrupt_groups"] = learning.corruption.noise.group_op
    if learning.term is not None:
        kind = learning.term.kind
        ops |= {"code_term": kind.forward, "code_term_backward": kind.backward}
        if kind.of_means is not None:
            sums, rest = kind.of_means
            ops |= {"add_code": sums, "divergence_of_means": rest}
    return ops


def _term_settings(
    term: CodeTerm | None, n_threads: int, n_code: int
) -> NDArray[np.float64]:
    settings: NDArray[np.float64] = in_lines(
        n_threads, N_TERM_SETTINGS + n_code, np.float64
    )
    if term is not None:
        for position, value in term.settings.items():
            settings[:, position] = value
    return settings
