"""Rows through a trained network: codes, reconstructions, errors."""

import numpy as np
from sklearn.utils import gen_batches

from skae import _kernels
from skae._memory import Model
from skae._network import for_loss, part
from skae._passes import LOSSES
from skae._rows import dense, make_rows, row_chunks, slice_rows
from skae._threads import ThreadTeam, make_workspace, n_threads_for

# A multiplication and an addition for each weight and row. A unit's reading, activation
# or writing takes as long as so many operations of products.
_FLOPS_A_WEIGHT, _FLOPS_A_UNIT = 2, 50
# So many entries of codes are held at a time while their moments are summed.
_MOMENT_ENTRIES = 2**17


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
    n_weights = (network.widths[:-1] * network.widths[1:]).sum()
    flops_a_row = _FLOPS_A_WEIGHT * int(n_weights) + _FLOPS_A_UNIT * network.n_units
    flops = flops_a_row * rows.n_rows
    n_threads = n_threads_for(-(-rows.n_rows // _kernels.block_rows(network)), flops)
    sums = np.zeros(n_threads)
    with ThreadTeam(n_threads) as team:
        team.run(
            _kernels.propagate,
            Model(network, params),
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


def code_moments(network, params, rows):
    """Weighted mean and covariance (divided by the total weight) of the code.

    Returns
    -------
    mean : ndarray of shape (n_components,), dtype=float64

    covariance : ndarray of shape (n_components, n_components), dtype=float64
    """
    network = encoder(network)
    mean, scatter, total = 0.0, 0.0, 0.0
    n_rows = max(1, _MOMENT_ENTRIES // int(network.widths[-1]))
    for batch in gen_batches(rows.n_rows, n_rows):
        chunk = slice_rows(rows, batch)
        code = propagate(network, params, chunk).astype(np.float64, copy=False)
        weight = np.ones(len(code))
        if chunk.weights.size:
            weight = chunk.weights[chunk.subset]
        if weight.sum() == 0:
            continue
        chunk_mean = np.average(code, axis=0, weights=weight)
        centred = code - chunk_mean
        # Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for
        # computing sample variances", 1979, equation 2.1.
        difference = chunk_mean - mean
        merged = total + weight.sum()
        scatter = (
            scatter
            + (weight * centred.T) @ centred
            + np.outer(difference, difference) * (total * weight.sum() / merged)
        )
        mean = mean + difference * (weight.sum() / merged)
        total = merged
    return mean, scatter / total


def entry_losses(loss, network, params, X, mean, scale):
    """The data loss of every entry of X, in the network's units.

    Parameters
    ----------
    loss : str
        Key of ``LOSSES``.

    network : Network

    params : ndarray of shape (n_params,)

    X : {ndarray, CSR matrix} of shape (n_rows, n_features)

    mean : ndarray of shape (n_features,)

    scale : float

    Returns
    -------
    losses : ndarray of shape (n_rows, n_features), dtype=float64
    """
    loss = LOSSES[loss]
    rows = make_rows(X, mean, scale)
    prediction = propagate(for_loss(network, loss), params, rows)
    target = (dense(X) - rows.scaling[:-1]) * rows.scaling[-1]
    losses, no_weights = np.empty_like(prediction), np.empty(0, dtype=prediction.dtype)
    sizes = 1, losses.size, 1  # as if all entries were one unit's
    loss.compute(prediction, target, no_weights, losses, np.zeros(1), *sizes)
    return losses.astype(np.float64, copy=False)


def reconstruction_chunks(network, params, X, mean, scale):
    """Pairs of a slice of the rows of X and their reconstruction, in bounded memory."""
    for batch in row_chunks(*X.shape):
        rows = make_rows(X[batch], mean, scale)
        yield batch, propagate(network, params, rows, mean, scale)
