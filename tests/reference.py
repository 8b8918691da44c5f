"""The network in plain NumPy and SciPy: slow, obvious, and the judge of every kernel.

Every function and its derivative is written from its textbook definition, not from
the kernels' stable form.
"""

import numpy as np
from scipy import special, stats


def _piecewise(condition, a, b):
    return np.where(condition, a, b)


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

# name -> function and derivative
ACTIVATIONS = {
    "identity": (lambda z: z, np.ones_like),
    "logistic": (special.expit, lambda z: special.expit(z) * special.expit(-z)),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "relu": (lambda z: z * (z > 0), lambda z: 1.0 * (z > 0)),
    "leaky_relu": (
        lambda z: _piecewise(z > 0, z, 0.01 * z),
        lambda z: _piecewise(z > 0, 1.0, 0.01),
    ),
    "elu": (
        lambda z: _piecewise(z > 0, z, np.exp(np.minimum(z, 0)) - 1),
        lambda z: _piecewise(z > 0, 1.0, np.exp(np.minimum(z, 0))),
    ),
    "selu": (
        lambda z: (
            _SELU_SCALE
            * _piecewise(z > 0, z, _SELU_ALPHA * (np.exp(np.minimum(z, 0)) - 1))
        ),
        lambda z: (
            _SELU_SCALE * _piecewise(z > 0, 1.0, _SELU_ALPHA * np.exp(np.minimum(z, 0)))
        ),
    ),
    "gelu": (
        lambda z: z * stats.norm.cdf(z),
        lambda z: stats.norm.cdf(z) + z * stats.norm.pdf(z),
    ),
    "silu": (
        lambda z: z * special.expit(z),
        lambda z: special.expit(z) * (1 + z * special.expit(-z)),
    ),
    "softplus": (lambda z: np.logaddexp(0, z), special.expit),
}


def _huber(prediction, target):
    r = np.abs(prediction - target)
    return np.where(r <= 1, r**2 / 2, r - 0.5)


# name -> loss of an entry, and its derivative, by the reconstruction
LOSSES = {
    "squared_error": (lambda p, x: (p - x) ** 2 / 2, lambda p, x: p - x),
    "absolute_error": (lambda p, x: np.abs(p - x), lambda p, x: np.sign(p - x)),
    "huber": (_huber, lambda p, x: np.clip(p - x, -1, 1)),
    "log_loss": (
        lambda p, x: -special.xlogy(x, p) - special.xlogy(1 - x, 1 - p),
        lambda p, x: (p - x) / (p * (1 - p)),
    ),
    "poisson": (lambda p, x: p - special.xlogy(x, p), lambda p, x: 1 - x / p),
}


def forward(X, coefs, intercepts, activations):
    """Activations of all layers, the input's first, and the inputs of each."""
    layers, inputs = [X], []
    for weights, biases, activation in zip(coefs, intercepts, activations, strict=True):
        inputs.append(layers[-1] @ weights + biases)
        layers.append(ACTIVATIONS[activation][0](inputs[-1]))
    return layers, inputs


def objective(X, coefs, intercepts, activations, *, loss, alpha, tied, weights=None):
    """The objective and its gradient: a value, lists of coefs' and biases' gradients.

    With `tied`, `coefs` are all layers' still, and the gradient of a decoder layer is
    None: it is added, transposed, to its encoder layer's.
    """
    weights = np.ones(len(X)) if weights is None else weights
    weights = weights / weights.sum()
    layers, inputs = forward(X, coefs, intercepts, activations)
    value_of, slope_of = LOSSES[loss]
    stored = coefs[: len(coefs) // 2] if tied else coefs
    value = weights @ value_of(layers[-1], X).sum(axis=1)
    value += alpha / 2 * sum((w**2).sum() for w in stored)

    coef_gradients, bias_gradients = [], []
    delta = weights[:, np.newaxis] * slope_of(layers[-1], X)
    for i in reversed(range(len(coefs))):
        delta = delta * ACTIVATIONS[activations[i]][1](inputs[i])
        coef_gradients.insert(0, layers[i].T @ delta)
        bias_gradients.insert(0, delta.sum(axis=0))
        delta = delta @ coefs[i].T
    if tied:
        half = len(coefs) // 2
        for i in range(half):
            coef_gradients[i] = coef_gradients[i] + coef_gradients[-1 - i].T
        coef_gradients[half:] = [None] * half
    for i, w in enumerate(stored):
        coef_gradients[i] = coef_gradients[i] + alpha * w
    return value, coef_gradients, bias_gradients
