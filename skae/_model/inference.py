"""Inference: codes, reconstructions and errors of a network with given weights."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from skae._compiled import propagate as propagation
from skae._compiled import sharding
from skae._compiled.losses import Loss
from skae._compiled.records import Model, Network, in_lines
from skae._data.rows import (
    AnyRows,
    Rows,
    dense,
    has_few_entries,
    make_rows,
    matrix_in_use,
    network_input,
    row_chunks,
    weights_in_use,
)
from skae._data.stream import StreamedRows
from skae._model.groups import columns_of, cross_entropies
from skae._model.network import Moments, for_loss, part
from skae._model.workspace import kept_workspace, make_workspace
from skae._runtime.threads import (
    ThreadTeam,
    map_in_order,
    n_threads_for,
)
from skae._typing import Floats, Scale

Part: TypeAlias = Rows | StreamedRows  # of rows, as their `map` visits them

# A multiplication and an addition for each weight and row. Reading, activating or
# writing a unit takes as long as so many of these operations.
_FLOPS_PER_WEIGHT, _FLOPS_PER_UNIT = 2, 50
# Offset of an input, in units of the scale, that costs a product a digit.
_LARGE_OFFSET = 10.0


def encoder(network: Network) -> Network:
    """The layers from the input to the code."""
    return part(network, 0, network.n_layers // 2)


def decoder(network: Network) -> Network:
    """The layers from the code to the output."""
    return part(network, network.n_layers // 2, network.n_layers)


def propagate(
    network: Network,
    params: Floats,
    rows: Rows,
    mean: Floats | None = None,
    scale: Scale = 1.0,
) -> Floats:
    """Outputs of a network for rows, times `scale` plus `mean`.

    Parameters
    ----------
    network : Network

    params : ndarray of shape (n_params,)

    rows : Rows

    mean : ndarray of shape (n_outputs,), default=None
        None for zeros.

    scale : float or ndarray of shape (n_outputs,), default=1.0

    Returns
    -------
    out : ndarray of shape (n_rows, n_outputs)
    """
    return propagate_and_check(network, params, rows, mean, scale)[0]


def propagate_and_check(
    network: Network,
    params: Floats,
    rows: Rows,
    mean: Floats | None = None,
    scale: Scale = 1.0,
) -> tuple[Floats, bool]:
    """Results of `propagate`, and whether the sum of the rows is finite.

    If it is, so are their entries, and the caller need not read them all.
    """
    dtype, n_outputs = params.dtype, network.widths[-1]
    mean = np.zeros(n_outputs) if mean is None else mean
    out = np.empty((rows.n_rows, n_outputs), dtype=dtype)
    flops = _flops_per_row(network) * rows.n_rows
    n_threads = n_threads_for(-(-rows.n_rows // sharding.block_rows(network)), flops)
    sums = in_lines(n_threads, 1, np.float64)
    model = Model(network, params)
    rows.check(model)
    kept = kept_workspace(network, rows) if n_threads == 1 else None
    team = kept[0] if kept else ThreadTeam(n_threads)
    with team:
        workspace = (
            kept[1] if kept else make_workspace(network, dtype, team=team, rows=[rows])
        )
        scales = np.broadcast_to(scale, mean.shape)
        scaling = np.concatenate([mean, scales]).astype(dtype)
        args = model, rows, scaling, out, sums, workspace
        team.run(propagation.propagate, *args, flops=flops)
    return out, bool(np.isfinite(sums).all())


def _flops_per_row(network: Network) -> int:
    layers = network.layers[1:]
    n_weights = int((layers["n_in"] * layers["width"]).sum())
    return _FLOPS_PER_WEIGHT * n_weights + _FLOPS_PER_UNIT * int(network.n_units)


def mean_code(network: Network, params: Floats, rows: AnyRows) -> Floats:
    """Weighted mean of the code over rows, of shape (n_components,)."""
    sums = rows.map(_summed_code, encoder(network), params)
    return (sum(sums, np.zeros(())) / rows.total_weight).astype(params.dtype)


def _summed_code(rows: Part, network: Network, params: Floats) -> Floats:
    """Weighted sum of the outputs of a network over rows."""
    total = np.zeros(network.widths[-1])
    for batch in row_chunks(rows.n_rows, rows.n_features):
        chunk = rows.part(batch)
        code = propagate(network, params, chunk).astype(np.float64, copy=False)
        total += weights_in_use(chunk) @ code
    return total


def code_moments(network: Network, params: Floats, rows: AnyRows) -> Moments:
    """Moments of the code over rows, as the network sees them."""
    is_table, network = network.n_groups > 0, encoder(network)
    n_components = int(network.widths[-1])
    mean = np.zeros(n_components + rows.n_features)
    sums = _Sums(0.0, mean, np.zeros((n_components, mean.size)))
    for of_part in rows.map(_sums_of_part, network, params, sums, is_table):
        sums = sums.joined_with(of_part)
    mean, scatter = sums.mean, sums.scatter / sums.weight
    return Moments(
        mean[:n_components], scatter[:, :n_components], scatter[:, n_components:]
    )


class _Sums(NamedTuple):
    """Sums over rows and their codes, side by side."""

    weight: float
    mean: np.ndarray  # (n_components + n_features,)
    scatter: np.ndarray  # (n_components, n_components + n_features), about the mean

    def joined_with(self, other: "_Sums") -> "_Sums":
        """Sums over the rows of both.

        Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing
        sample variances", 1979, equation 2.1.
        """
        if not other.weight:
            return self
        if not self.weight:  # the difference of means could overflow when squared
            return other
        weight = self.weight + other.weight
        difference = other.mean - self.mean
        scatter = self.scatter + other.scatter
        weighted = difference[: len(scatter)] * (self.weight * other.weight / weight)
        scatter += np.outer(weighted, difference)
        mean = self.mean + difference * (other.weight / weight)
        return _Sums(weight, mean, scatter)


# Entries of the code of a piece of rows in memory, 8 MiB of float64.
_CODE_ENTRIES = 2**20


def _sums_of_part(
    rows: Part, network: Network, params: Floats, sums: _Sums, is_table: bool
) -> _Sums:
    """Sums over some of the rows; `sums` are those over none."""
    stays_sparse = is_table and has_few_entries(rows)
    chunks = list(row_chunks(rows.n_rows, sums.mean.size))
    n_chunks = 1  # of a piece, for which the network's threads start once
    if rows.is_in_memory and chunks:
        n_chunks += _CODE_ENTRIES // max(1, chunks[0].stop * len(sums.scatter))
    about: _SumsAbout | None = None
    for i in range(0, len(chunks), n_chunks):
        of_piece = chunks[i : i + n_chunks]
        start = of_piece[0].start
        piece = rows.part(slice(start, of_piece[-1].stop))
        if not piece.total_weight:
            continue
        code = propagate(network, params, piece)
        batches = [slice(c.start - start, c.stop - start) for c in of_piece]
        about = about or _SumsAbout.begin(piece, code, batches, stays_sparse)
        about.add(piece, code, batches)
    return about.centered() if about is not None else sums


class _SumsAbout:
    """Sums over rows and their codes, about a code near their mean.

    Parameters
    ----------
    origin : ndarray of shape (n_components,), dtype=float64

    rows : Rows
        Some of the rows.

    stays_sparse : bool
        Whether rows are of a table, and have few entries.
    """

    def __init__(self, origin: Floats, rows: Rows, stays_sparse: bool) -> None:
        self._origin, self._stays_sparse = origin, stays_sparse
        # Networks see (inputs - offset) * factor. Sums need not subtract the offset of
        # each, except where it would drown the digits of the rest.
        self._offset, self._factors = rows.offset, rows.factors.astype(np.float64)
        self._is_far = np.abs(self._offset * self._factors).max() > _LARGE_OFFSET
        # Of the code and, in the last row, ones; times the code, and times the inputs.
        self._of_code = np.zeros((len(origin) + 1, len(origin)))
        self._of_inputs = np.zeros((len(origin) + 1, rows.n_features))
        self._weight = 0.0

    @classmethod
    def begin(
        cls, piece: Rows, code: Floats, batches: list[slice], stays_sparse: bool
    ) -> "_SumsAbout":
        """Sums about the mean code of the first chunk that has a weight."""
        weights = weights_in_use(piece)
        batch = next(batch for batch in batches if weights[batch].any())
        first = code[batch].astype(np.float64)
        return cls(
            np.average(first, axis=0, weights=weights[batch]), piece, stays_sparse
        )

    def add(self, piece: Rows, code: Floats, batches: list[slice]) -> None:
        """Add the rows of a piece, chunk by chunk."""

        def products(batch: slice) -> tuple[Floats, Floats]:
            return self._products(piece.part(batch), code[batch])

        n_threads = 1  # sparse rows are copied
        if not piece.starts.size:
            flops = 2.0 * piece.n_rows * self._of_inputs.size
            n_threads = n_threads_for(len(batches), flops)
        # In this order the sums have the same bits for any number of threads.
        for codes, inputs in map_in_order(products, batches, n_threads):
            self._of_code += codes
            self._of_inputs += inputs
        self._weight += piece.total_weight

    def _products(self, rows: Rows, code: Floats) -> tuple[Floats, Floats]:
        """Sums over rows, those with inputs in the dtype of these."""
        inputs: Any = matrix_in_use(rows)
        if not self._stays_sparse:
            inputs = dense(inputs)
            inputs = inputs - self._offset if self._is_far else inputs
        elif self._is_far:  # columns that are centered are stored whole
            inputs.data = inputs.data - self._offset[inputs.indices]
        left = np.empty((len(self._of_code), len(code)))
        np.subtract(code.T, self._origin[:, np.newaxis], out=left[:-1])
        left[-1], right = 1.0, left[:-1].T
        if rows.weights.size:
            right = right.copy()
            left *= weights_in_use(rows)
        return left @ right, left.astype(rows.dtype, copy=False) @ inputs

    def centered(self) -> _Sums:
        """The sums about the means."""
        of_inputs = self._of_inputs * self._factors
        if not self._is_far:
            totals = np.append(self._of_code[-1], self._weight)
            of_inputs -= np.outer(totals, self._offset * self._factors)
        sums = np.hstack([self._of_code, of_inputs])
        mean = sums[-1] / self._weight
        scatter = sums[:-1] - np.outer(sums[-1, : len(self._origin)], mean)
        mean[: len(self._origin)] += self._origin
        return _Sums(self._weight, mean, scatter)


def entry_losses(
    loss: Loss,
    network: Network,
    params: Floats,
    rows: Rows,
    unit_weights: Floats | None = None,
) -> Floats:
    """The data loss of every entry of rows, in the network's units.

    Parameters
    ----------
    loss : Loss

    network : Network

    params : ndarray of shape (n_params,)

    rows : Rows

    unit_weights : ndarray of shape (n_features,), default=None
        Weights of losses; None is 1.

    Returns
    -------
    losses : ndarray of shape (n_rows, n_columns), dtype=float64
        The features of a group are one column. Missing entries have NaN.
    """
    prediction = propagate(for_loss(network, loss), params, rows)
    return _losses(loss, network, prediction, rows, unit_weights)


def decoded_losses(
    loss: Loss, network: Network, params: Floats, codes: Floats, rows: Rows
) -> Floats:
    """`entry_losses` with given codes (n_rows, n_components) in place of the rows'."""
    of_codes = make_rows(codes.astype(params.dtype))
    prediction = propagate(decoder(for_loss(network, loss)), params, of_codes)
    return _losses(loss, network, prediction, rows)


def _losses(
    loss: Loss,
    network: Network,
    prediction: Floats,
    rows: Rows,
    unit_weights: Floats | None = None,
) -> Floats:
    """Losses of the entries of rows for a prediction, which is overwritten.

    Those of missing entries are NaN.
    """
    chunks = [chunk for chunk, _ in network_input(rows.as_targets())]
    target = np.concatenate(chunks).astype(prediction.dtype, copy=False)
    if not network.n_groups:
        losses = _plain_losses(loss, prediction, target)
    else:
        of_groups = cross_entropies(prediction, target, network)
        plain = np.s_[:, : network.n_plain]
        plain_losses = _plain_losses(loss, prediction[plain], target[plain])
        losses = np.hstack([plain_losses, of_groups])
    if unit_weights is not None:
        losses *= unit_weights[columns_of(network)]
    return losses


def _plain_losses(loss: Loss, prediction: Floats, target: Floats) -> Floats:
    """Losses of entries that are in no group."""
    prediction, target = map(np.ascontiguousarray, (prediction, target))
    losses, none = np.empty_like(prediction), np.empty(0, dtype=prediction.dtype)
    sizes = 0, 1, losses.size, 1  # as if all entries were one unit's
    loss.op(prediction, target, none, none, losses, np.zeros(1), *sizes)
    return losses.astype(np.float64, copy=False)


def row_losses(
    loss: Loss,
    network: Network,
    params: Floats,
    rows: AnyRows,
    unit_weights: Floats | None = None,
) -> Floats:
    """Sums of `entry_losses` over observed features, of shape (n_rows,).

    They are computed in bounded memory.
    """
    of_part = rows.map(_row_losses, loss, network, params, unit_weights)
    return np.concatenate(of_part)


def _row_losses(
    rows: Part,
    loss: Loss,
    network: Network,
    params: Floats,
    unit_weights: Floats | None,
) -> Floats:
    losses = np.empty(rows.n_rows)
    for batch in row_chunks(rows.n_rows, rows.n_features):
        args = params, rows.part(batch), unit_weights
        losses[batch] = _summed_losses(loss, network, *args)
    return losses


def _summed_losses(
    loss: Loss,
    network: Network,
    params: Floats,
    rows: Rows,
    unit_weights: Floats | None,
) -> Floats:
    losses = entry_losses(loss, network, params, rows, unit_weights)
    if rows.has_missing:
        is_missing = np.isnan(dense(matrix_in_use(rows.as_targets())))
        losses[is_missing[:, columns_of(network)]] = 0
    sums: Floats = losses.sum(axis=1)
    return sums
