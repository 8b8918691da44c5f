"""Where training begins: at random weights, or at the principal components."""

import numpy as np

from skae._compiled.activations import ACTIVATIONS
from skae._model.network import coefs, intercepts


def _uniform(rng, shape, limit):
    return rng.uniform(-limit, limit, shape)


# Name -> draw of a weight matrix of shape (n_in, n_out).
RANDOM_INITS = {
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


def random_params(network, activations, init, seed, dtype):
    """Random weights, and zero biases but for "normal", which draws them, too.

    The draws do not depend on the dtype, nor on anything of the data.

    Parameters
    ----------
    network : Network

    activations : sequence of str

    init : str
        Key of ``RANDOM_INITS``, or "random": what suits each layer's activation.

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


# Spare units of a tied code are heard by the decoder; from zero they would never learn.
_WHISPER = 1e-4


def chosen_init(init, architecture, *, has_room=False):
    """The start that `init` stands for: what "auto" is, or as it is.

    "auto" is "pca" where the network can be PCA exactly, or nearly, with tied weights
    on a scale that is chosen for it (`has_room`), else "random".

    Raises
    ------
    ValueError
        If the start at the principal components is asked for, and there is none.
    """
    *inner, output = architecture["activations"]
    code = inner[len(inner) // 2]
    if init == "auto":
        is_exact = all(ACTIVATIONS[name].carrier.is_exact for name in inner)
        applies = is_exact and code == "identity"
        applies = applies or (has_room and n_saturating(architecture) > 0)
        applies = applies and output == "identity" and not architecture["variational"]
        return "pca" if applies else "random"
    if init == "pca" and output != "identity":
        raise ValueError(
            f"init='pca' needs a linear output, but it is {output!r}: use "
            "init='auto', or output_activation='identity' with a loss that allows it"
        )
    return init


def n_saturating(architecture):
    """How many layers tied weights have to keep where these are nearly linear.

    What tied weights enlarge on the way in they enlarge on the way out, too: they
    cannot make the input of "tanh" or "logistic" units small.
    """
    *inner, _ = architecture["activations"]
    if not architecture["tied"]:
        return 0
    return sum(not ACTIVATIONS[name].carrier.is_exact for name in inner)


def pca_params(network, activations, components, least, seed, dtype):
    """Weights and biases with which a network is PCA.

    Every layer carries the scores, of variance 1, as its activation can: as many of the
    leading ones as the narrowest layer has units. Other units start from random weights
    and are not listened to by those that carry.

    Parameters
    ----------
    network : Network

    activations : sequence of str

    components : Components
        At most as many as the code has units.

    least : callable
        Returns the least of the scores, in standard deviations, as an ndarray of shape
        (n_components,). Called if a layer needs to know, as narrow ones do.

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
    # What a layer sees is, times `read`, the scores and a constant.
    read, at_mean = axes / deviations, np.zeros(len(axes))
    layers = zip(
        coefs(network, params), intercepts(network, params), activations, strict=True
    )
    for number, (weights, biases, name) in enumerate(layers, start=1):
        if number == network.n_layers:
            send, receive = (axes * deviations).T, None
            shift = np.zeros(len(axes))
        else:
            carrier, width = ACTIVATIONS[name].carrier, weights.shape[1]
            # Tied weights give back what they took: nothing is brought to variance 1.
            scale = deviations if is_tied else np.ones(n_carried)
            send, receive, shift = _carry(carrier, width, least, scale, is_tied)
        if not is_tied or number <= middle:
            n_carriers = send.shape[1]
            weights[:, :n_carriers] = read @ send
            if is_tied and number == middle:
                weights[:, n_carriers:] *= _WHISPER
        biases[...] = shift - at_mean @ weights
        at_mean, read = _activated(name, shift, dtype), receive
    return params.astype(dtype, copy=False)


def _carry(carrier, width, least, scale, is_tied):
    """How a layer carries scores, of which it has as many units at least.

    With tied weights a score that is sent `gain` times as large comes back, through the
    same weights, `gain` times as large again: as it was if their product with the slope
    is 1.

    Returns
    -------
    send : ndarray of shape (n_carried, n_carriers)
        From the scores to the units that carry them.

    receive : ndarray of shape (width, n_carried)
        And from the units back.

    shift : ndarray of shape (width,)
        What a unit sees where all scores are zero.
    """
    n_carried, shift = len(scale), np.zeros(width)
    in_pairs = carrier.pair is not None and width >= 2 * n_carried
    slope = carrier.pair if in_pairs else carrier.slope
    scale = scale / np.sqrt(slope) if is_tied else scale * carrier.gain
    send, inverse = np.diag(scale), np.diag(1 / (slope * scale))
    if in_pairs:
        send, inverse = np.hstack([send, -send]), np.vstack([inverse, -inverse])
    elif carrier.margin is not None:
        shift[:n_carried] = carrier.margin - scale * least()[:n_carried]
    receive = np.zeros((width, n_carried))
    receive[: len(inverse)] = inverse
    return send, receive, shift


def _activated(name, z, dtype):
    """An activation of a vector, by the compiled loop that a fit of a dtype uses."""
    op, z = ACTIVATIONS[name].op, z.astype(dtype)
    if op is not None:
        op(z, np.empty_like(z), z.size)
    return z.astype(np.float64)
