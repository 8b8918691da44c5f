"""Initialization: random weights, or weights with which a network is PCA."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from skae._compiled.activations import ACTIVATIONS, Carrier
from skae._compiled.records import Network
from skae._model.network import coefs, intercepts
from skae._model.pca import Components
from skae._typing import Floats

_Draw: TypeAlias = Callable[[np.random.RandomState, tuple[int, ...]], Floats]


def _uniform(
    rng: np.random.RandomState, shape: tuple[int, ...], limit: float
) -> Floats:
    return rng.uniform(-limit, limit, shape)


# Name -> draw of a weight matrix of shape (n_in, n_out).
RANDOM_INITS: dict[str, _Draw] = {
    # Glorot & Bengio, "Understanding the difficulty of training deep feedforward
    # neural networks", 2010, equation 16.
    "glorot": lambda rng, shape: _uniform(rng, shape, np.sqrt(6 / sum(shape))),
    # He et al., "Delving deep into rectifiers", 2015, equation 10.
    "he": lambda rng, shape: _uniform(rng, shape, np.sqrt(6 / shape[0])),
    # LeCun et al., "Efficient backprop", 1998, equation 16.
    "lecun": lambda rng, shape: _uniform(rng, shape, np.sqrt(3 / shape[0])),
    "normal": lambda rng, shape: rng.standard_normal(shape),
}
INITS = ("auto", "pca", "random", *RANDOM_INITS)


def random_params(
    network: Network,
    activations: Sequence[str],
    init: str,
    seed: int,
    dtype: DTypeLike,
) -> Floats:
    """Draw weights, and biases for "normal"; other biases are zero.

    The draws depend neither on the dtype nor on the data.

    Parameters
    ----------
    network : Network

    activations : sequence of str

    init : str
        Key of ``RANDOM_INITS``, or "random": the one for each layer's activation.

    seed : int

    dtype : dtype

    Returns
    -------
    params : ndarray of shape (n_params,)
    """
    rng = np.random.RandomState(seed)
    params = np.zeros(network.n_params)
    layers = list(zip(coefs(network, params), activations, strict=True))
    for weights, activation in layers[: len(layers) // 2] if network.tied else layers:
        name = ACTIVATIONS[activation].init if init == "random" else init
        weights[...] = RANDOM_INITS[name](rng, weights.shape)
    if init == "normal":
        for biases in intercepts(network, params):
            biases[...] = rng.standard_normal(biases.shape)
    return params.astype(dtype, copy=False)


def forget_features(network: Network, params: Floats, features: np.ndarray) -> None:
    """Set all weights of some features to zero, in place: they are never observed."""
    weights = coefs(network, params)
    weights[0][features] = 0
    weights[-1][:, features] = 0
    intercepts(network, params)[-1][features] = 0


def begin_at_frequencies(network: Network, params: Floats, logits: Floats) -> None:
    """Let groups predict the frequencies of their levels, in place.

    Parameters
    ----------
    network : Network

    params : ndarray of shape (n_params,)

    logits : ndarray of shape (n_grouped,)
    """
    intercepts(network, params)[-1][network.n_plain :] += logits


# Scales the weights of spare units of a tied code, which the decoder reads: small, but
# not zero, because then they would never learn.
_SMALL_WEIGHTS = 1e-4


def chosen_init(
    init: str, architecture: dict[str, Any], *, has_room: bool = False
) -> str:
    """Replace "auto" by the initialization that it stands for.

    "auto" is "pca" if the network can be PCA exactly, or nearly, with tied weights and
    a scale that is chosen for it (`has_room`), else "random".

    Raises
    ------
    ValueError
        If `init` is "pca", but the network cannot be PCA.
    """
    *inner, output = architecture["activations"]
    code = inner[len(inner) // 2]
    if init == "auto":
        is_exact = all(ACTIVATIONS[name].carrier.is_exact for name in inner)
        applies = is_exact and code == "identity"
        applies = applies or (has_room and n_saturating(architecture) > 0)
        applies = applies and output == "identity" and not architecture["variational"]
        applies = applies and not (architecture["tied"] and "groups" in architecture)
        return "pca" if applies else "random"
    if init == "pca" and output != "identity":
        raise ValueError(
            f"init='pca' needs a linear output, but it is {output!r}: use "
            "init='auto', or output_activation='identity' with a loss that allows it"
        )
    if init == "pca" and architecture["tied"] and "groups" in architecture:
        raise ValueError(
            "init='pca' does not go with tied_weights=True for a table with "
            "categories, whose outputs are logits: use init='auto'"
        )
    return init


def n_saturating(architecture: dict[str, Any]) -> int:
    """Number of layers that tied weights must keep in their nearly linear range.

    Tied weights scale the input and the output of a layer alike: they cannot make the
    input of "tanh" or "logistic" units small.
    """
    *inner, _ = architecture["activations"]
    if not architecture["tied"]:
        return 0
    return sum(not ACTIVATIONS[name].carrier.is_exact for name in inner)


def pca_params(
    network: Network,
    activations: Sequence[str],
    components: Components,
    least: Callable[[], Floats],
    seed: int,
    dtype: DTypeLike,
) -> Floats:
    """Weights and biases with which a network is PCA.

    Every layer carries the scores, with variance 1, in the way of its activation: as
    many of the leading ones as the narrowest layer has units. Other units have random
    weights, and the units that carry scores ignore them.

    Parameters
    ----------
    network : Network

    activations : sequence of str

    components : Components
        At most as many as the code has units.

    least : callable
        Returns the least of the scores, in standard deviations, as an ndarray of shape
        (n_components,). Called only if a layer needs it, as narrow ones do.

    seed : int

    dtype : dtype

    Returns
    -------
    params : ndarray of shape (n_params,)
    """
    n_carried = min(len(components.deviations), int(network.widths[1:-1].min()))
    axes, deviations = components.axes[:, :n_carried], components.deviations[:n_carried]
    middle, is_tied = network.n_layers // 2, bool(network.tied)
    params = random_params(network, activations, "random", seed, np.float64)
    # A layer's input times `read` is the scores plus a constant.
    read = axes / deviations
    at_mean: Floats = components.mean
    layers = zip(
        coefs(network, params), intercepts(network, params), activations, strict=True
    )
    for number, (weights, biases, name) in enumerate(layers, start=1):
        if number == network.n_layers:
            send, receive = components.decoder[:n_carried], None
            shift: Floats = components.at_mean
        else:
            carrier, width = ACTIVATIONS[name].carrier, weights.shape[1]
            # Tied weights map scores back by the same factor: none gets variance 1.
            scale = deviations if is_tied else np.ones(n_carried)
            send, receive, shift = _carry(carrier, width, least, scale, is_tied)
        if not is_tied or number <= middle:
            n_carriers = send.shape[1]
            weights[:, :n_carriers] = read @ send
            if is_tied and number == middle:
                weights[:, n_carriers:] *= _SMALL_WEIGHTS
        biases[...] = shift - at_mean @ weights
        at_mean, read = _activated(name, shift, dtype), receive
    return params.astype(dtype, copy=False)


def _carry(
    carrier: Carrier,
    width: int,
    least: Callable[[], Floats],
    scale: Floats,
    is_tied: bool,
) -> tuple[Floats, Floats, Floats]:
    """How a layer carries scores, with at least one unit for each.

    Tied weights multiply a score by the same factor on the way in and on the way back:
    it is unchanged if the factor's square times the slope is 1.

    Returns
    -------
    send : ndarray of shape (n_carried, n_carriers)
        Maps the scores to the units that carry them.

    receive : ndarray of shape (width, n_carried)
        Maps the units' outputs back to the scores.

    shift : ndarray of shape (width,)
        The units' input where all scores are zero.
    """
    n_carried, shift = len(scale), np.zeros(width)
    pair = carrier.pair if width >= 2 * n_carried else None
    slope = carrier.slope if pair is None else pair
    scale = scale / np.sqrt(slope) if is_tied else scale * carrier.gain
    send, inverse = np.diag(scale), np.diag(1 / (slope * scale))
    if pair is not None:
        send, inverse = np.hstack([send, -send]), np.vstack([inverse, -inverse])
    elif carrier.margin is not None:
        shift[:n_carried] = carrier.margin - scale * least()[:n_carried]
    receive = np.zeros((width, n_carried))
    receive[: len(inverse)] = inverse
    return send, receive, shift


def _activated(name: str, z: Floats, dtype: DTypeLike) -> Floats:
    """Apply an activation by the compiled loop that a fit in this dtype uses."""
    op, z = ACTIVATIONS[name].op, z.astype(dtype)
    if op is not None:
        op(z, np.empty_like(z), z.size)
    return z.astype(np.float64)
