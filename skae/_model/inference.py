"""Rows through a trained network: codes, reconstructions, errors."""

from typing import NamedTuple

import numpy as np

from skae._compiled import propagate as propagation
from skae._compiled import sharding
from skae._compiled.records import Model, in_lines
from skae._data.rows import (
    make_rows,
    network_input,
    row_chunks,
    weights_in_use,
)
from skae._model.network import for_loss, part
from skae._runtime.threads import ThreadTeam, make_workspace, n_threads_for

# A multiplication and an addition for each weight and row. A unit's reading, activation
# or writing takes as long as so many operations of products.
_FLOPS_PER_WEIGHT, _FLOPS_PER_UNIT = 2, 50


def encoder(network):
    """The layers from the input to the code."""
    return part(network, 0, network.n_layers // 2)


def decoder(network):
    """The layers from the code to the output."""
    return part(network, network.n_layers // 2, network.n_layers)


def propagate(network, params, rows, mean=None, scale=1.0, *, check=None):
    """Outputs of a network for rows, times `scale` plus `mean`.

    Parameters
    ----------
    network : Network

    params : ndarray of shape (n_params,)

    rows : Rows

    mean : ndarray of shape (n_outputs,), default=None
        None for zeros.

    scale : float, default=1.0

    check : callable, default=None
        Called if the sum of the rows is not finite, so that the caller need not have
        read them all to know that their entries are.

    Returns
    -------
    out : ndarray of shape (n_rows, n_outputs)
    """
    dtype, n_outputs = params.dtype, network.widths[-1]
    mean = np.zeros(n_outputs) if mean is None else mean
    out = np.empty((rows.n_rows, n_outputs), dtype=dtype)
    layers = network.layers[1:]
    n_weights = (layers["n_in"] * layers["width"]).sum()
    flops_per_row = (
        _FLOPS_PER_WEIGHT * int(n_weights) + _FLOPS_PER_UNIT * network.n_units
    )
    flops = flops_per_row * rows.n_rows
    n_threads = n_threads_for(-(-rows.n_rows // sharding.block_rows(network)), flops)
    sums = in_lines(n_threads, 1, np.float64)
    model = Model(network, params)
    rows.check(model)
    with ThreadTeam(n_threads) as team:
        team.run(
            propagation.propagate,
            model,
            rows,
            np.append(mean, scale).astype(dtype),
            out,
            sums,
            make_workspace(network, dtype, team=team, rows=[rows]),
            flops=flops,
        )
    if check is not None and not np.isfinite(sums).all():
        check()
    return out


def mean_code(network, params, rows):
    """Weighted mean of the code over rows, of shape (n_components,)."""
    total = sum(rows.map(_summed_code, encoder(network), params))
    return (total / rows.total_weight).astype(params.dtype)


def _summed_code(rows, network, params):
    """Weighted sum of the outputs of a network over rows."""
    total = np.zeros(network.widths[-1])
    for batch in row_chunks(rows.n_rows, rows.n_features):
        chunk = rows.part(batch)
        code = propagate(network, params, chunk).astype(np.float64, copy=False)
        total += weights_in_use(chunk) @ code
    return total


class Moments(NamedTuple):
    """Weighted mean of a code, and covariances, divided by the total weight."""

    mean: np.ndarray  # (n_components,) float64
    covariance: np.ndarray  # (n_components, n_components) float64, of the code
    cross: np.ndarray  # (n_components, n_features) float64, of code and rows


def code_moments(network, params, rows):
    """Moments of the code over rows, as the network sees them.

    Returns
    -------
    moments : Moments
    """
    network = encoder(network)
    n_components = int(network.widths[-1])
    mean = np.zeros(n_components + rows.n_features)
    sums = _Sums(0.0, mean, np.zeros((n_components, mean.size)))
    for of_part in rows.map(_sums_of_part, network, params, sums):
        sums = sums.joined_with(of_part)
    mean, scatter = sums.mean, sums.scatter / sums.weight
    return Moments(
        mean[:n_components], scatter[:, :n_components], scatter[:, n_components:]
    )


class _Sums(NamedTuple):
    """Of code and rows beside each other."""

    weight: float
    mean: np.ndarray  # (n_components + n_features,)
    scatter: np.ndarray  # (n_components, n_components + n_features), about the mean

    def joined_with(self, other):
        """Sums over both.

        Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing
        sample variances", 1979, equation 2.1.
        """
        if not other.weight:
            return self
        if not self.weight:  # whose difference to the other may not be squared
            return other
        weight = self.weight + other.weight
        difference = other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter += np.outer(difference[: len(scatter)], difference) * (
            self.weight * other.weight / weight
        )
        mean = self.mean + difference * (other.weight / weight)
        return _Sums(weight, mean, scatter)


def _sums_of_part(rows, network, params, sums):
    """Sums over some of the rows; `sums` are those over none."""
    n_components = int(network.widths[-1])
    for batch in row_chunks(rows.n_rows, sums.mean.size):
        chunk = rows.part(batch)
        code = propagate(network, params, chunk).astype(np.float64, copy=False)
        both = np.hstack([code, *(inputs for inputs, _ in network_input(chunk))])
        weight = weights_in_use(chunk)
        both, weight = both[weight > 0], weight[weight > 0]
        if not weight.size:
            continue
        mean = np.average(both, axis=0, weights=weight)
        both -= mean
        scatter = (weight * both[:, :n_components].T) @ both
        sums = sums.joined_with(_Sums(weight.sum(), mean, scatter))
    return sums


def entry_losses(loss, network, params, rows):
    """The data loss of every entry of rows, in the network's units.

    Parameters
    ----------
    loss : Loss

    network : Network

    params : ndarray of shape (n_params,)

    rows : Rows

    Returns
    -------
    losses : ndarray of shape (n_rows, n_features), dtype=float64
    """
    prediction = propagate(for_loss(network, loss), params, rows)
    return _losses(loss, prediction, rows)


def decoded_losses(loss, network, params, codes, rows):
    """The same of codes (n_rows, n_components) in place of the rows' own."""
    codes = make_rows(codes.astype(params.dtype))
    prediction = propagate(decoder(for_loss(network, loss)), params, codes)
    return _losses(loss, prediction, rows)


def _losses(loss, prediction, rows):
    """Losses of the entries of predictions, which become something else, for rows."""
    chunks = [chunk for chunk, _ in network_input(rows)]
    target = np.concatenate(chunks).astype(prediction.dtype, copy=False)
    losses, no_weights = np.empty_like(prediction), np.empty(0, dtype=prediction.dtype)
    sizes = 1, losses.size, 1  # as if all entries were one unit's
    loss.op(prediction, target, no_weights, losses, np.zeros(1), *sizes)
    return losses.astype(np.float64, copy=False)


def row_losses(loss, network, params, rows):
    """Sums of `entry_losses` over features, of shape (n_rows,), in bounded memory."""
    return np.concatenate(rows.map(_row_losses, loss, network, params))


def _row_losses(rows, loss, network, params):
    losses = np.empty(rows.n_rows)
    for batch in row_chunks(rows.n_rows, rows.n_features):
        chunk = rows.part(batch)
        losses[batch] = entry_losses(loss, network, params, chunk).sum(axis=1)
    return losses


def reconstruction_chunks(network, params, X, mean, scale):
    """Pairs of a slice of the rows of X and their reconstruction, in bounded memory."""
    for batch in row_chunks(*X.shape):
        rows = make_rows(X[batch], mean, scale)
        yield batch, propagate(network, params, rows, mean, scale)
