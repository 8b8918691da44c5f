"""The network in plain NumPy and SciPy: slow, obvious, and the judge of every kernel.

Every function and its derivative is written from its textbook definition, not from
the kernels' stable form.
"""

import itertools

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


# -- Random numbers --------------------------------------------------------------------

CORRUPTION, POSTERIOR, CORRUPTED_GROUPS = 1, 2, 3
NO_EPOCH = -1


def _mix(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def random_bits(seed, purpose, epoch, n):
    """The first 64 bits of a stream of SplitMix64, at the places 0, ..., n - 1."""
    key = np.array([seed + purpose * 2**32], dtype=np.uint64)
    key = _mix(_mix(key) + np.array([epoch]).astype(np.uint64))
    return _mix(key + np.uint64(0x9E3779B97F4A7C15) * np.arange(n, dtype=np.uint64))


def normal_pairs(bits):
    """Two normal numbers of each 64 bits: the radius, the angle, two reflections."""
    radius, angle = (
        ((bits >> np.uint64(shift)) % np.uint64(2**23) + 0.5) / 2**23
        for shift in (41, 18)
    )
    radius, angle = np.sqrt(-2 * np.log(radius)), (angle - 0.5) * np.pi / 2
    point = np.stack([radius * np.cos(angle), radius * np.sin(angle)])
    point = np.where(bits & np.uint64(1), point[::-1], point)
    return np.where(bits & np.uint64(2), -point, point)


def _other_rows(bits, n_rows):
    """For each row, another one, by the lower bits of numbers (n_rows, n)."""
    steps = ((bits % np.uint64(2**32)) * np.uint64(n_rows - 1)) >> np.uint64(32)
    return (np.arange(n_rows)[:, np.newaxis] + 1 + steps.astype(int)) % n_rows


def _swap(X, level, seed, epoch):
    bits = random_bits(seed, CORRUPTION, epoch, X.size).reshape(X.shape)
    others = np.take_along_axis(X, _other_rows(bits, len(X)), axis=0)
    return np.where((bits >> np.uint64(32)) / 2.0**32 < level, others, X)


def corrupted_groups(X, noise, level, groups, seed, epoch):
    """Rows of which whole groups of columns are hidden, or those of other rows."""
    n_rows, n_groups, found = len(X), len(groups) - 1, X.copy()
    bits = random_bits(seed, CORRUPTED_GROUPS, epoch, n_rows * n_groups)
    bits = bits.reshape(n_rows, n_groups)
    others, chosen = _other_rows(bits, n_rows), (bits >> np.uint64(32)) / 2.0**32
    for g, (first, stop) in enumerate(itertools.pairwise(groups)):
        group = X[others[:, g], first:stop] if noise == "swap" else 0.0
        is_chosen = chosen[:, g, np.newaxis] < level
        found[:, first:stop] = np.where(is_chosen, group, X[:, first:stop])
    return found


def corrupt(X, noise, level, lowest, highest, seed, epoch):
    """Rows as a denoising network sees them; the values are as it sees them."""
    if noise == "swap":
        return _swap(X, level, seed, epoch)
    n_rows, n_features = X.shape
    n_pairs = (n_features + 1) // 2
    bits = random_bits(seed, CORRUPTION, epoch, n_rows * n_pairs)
    if noise == "gaussian":
        drawn = normal_pairs(bits)
    else:
        drawn = np.stack([bits >> np.uint64(32), bits % np.uint64(2**32)]) / 2.0**32
    drawn = drawn.T.reshape(n_rows, 2 * n_pairs)[:, :n_features]
    if noise == "gaussian":
        return X + level * drawn
    if noise == "masking":
        return np.where(drawn < level, lowest, X)
    salted = np.where(drawn < level, highest, X)
    return np.where(drawn < level / 2, lowest, salted)


# -- The objective ---------------------------------------------------------------------


def of_observed(function, prediction, X):
    """A function of predictions and entries of X, 0 where these are NaN."""
    is_missing = np.isnan(X)
    values = function(prediction, np.where(is_missing, 0.5, X))
    return np.where(is_missing, 0.0, values)


def entry_losses(loss, prediction, X, groups=(), unit_weights=None):
    """Losses of all entries, and their derivatives by the predictions.

    `groups` are where groups begin, and end; the loss of a group, the negative
    logarithm of the softmax of its predictions, is in its first column.
    """
    value_of, slope_of = LOSSES[loss]
    n_plain = groups[0] if len(groups) else X.shape[1]
    of_plain = prediction[:, :n_plain], X[:, :n_plain]
    values, slopes = np.zeros(X.shape), np.zeros(X.shape)
    values[:, :n_plain] = of_observed(value_of, *of_plain)
    slopes[:, :n_plain] = of_observed(slope_of, *of_plain)
    for first, stop in itertools.pairwise(groups):
        of_group = special.softmax(prediction[:, first:stop], axis=1)
        levels = X[:, first:stop] > 0  # NaN is not
        is_known = levels.any(axis=1)
        likelihoods = np.where(is_known, (of_group * levels).sum(axis=1), 1.0)
        values[:, first] = -np.log(likelihoods)
        slopes[:, first:stop] = (of_group - levels) * is_known[:, np.newaxis]
    weights = np.ones(X.shape[1]) if unit_weights is None else unit_weights
    return values * weights, slopes * weights


def expected(rows, mean, loadings, noise):
    """Rows with expectations of what is NaN, by the normal distribution's formula."""
    covariance, filled = loadings @ loadings.T + noise * np.eye(len(mean)), rows.copy()
    for row, lacks in zip(filled, np.isnan(rows), strict=True):
        there = covariance[np.ix_(~lacks, ~lacks)]
        shared = covariance[np.ix_(lacks, ~lacks)]
        row[lacks] = mean[lacks] + shared @ np.linalg.solve(
            there, row[~lacks] - mean[~lacks]
        )
    return filled


def forward(X, coefs, intercepts, activations):
    """Activations of all layers, the input's first, and the inputs of each."""
    layers, inputs = [X], []
    for weights, biases, activation in zip(coefs, intercepts, activations, strict=True):
        inputs.append(layers[-1] @ weights + biases)
        layers.append(ACTIVATIONS[activation][0](inputs[-1]))
    return layers, inputs


def sparsity(code, weights, kind, weight, target):
    """The penalty of a code, and its derivative by the code."""
    if kind == "l1":
        value = weight * (weights @ np.abs(code).sum(axis=1))
        return value, weight * weights[:, np.newaxis] * np.sign(code)
    mean = weights @ code
    divergence = special.rel_entr(target, mean) + special.rel_entr(1 - target, 1 - mean)
    slope = -target / mean + (1 - target) / (1 - mean)
    return weight * divergence.sum(), weight * weights[:, np.newaxis] * slope


def objective(
    X,
    coefs,
    intercepts,
    activations,
    *,
    loss,
    alpha,
    tied,
    weights=None,
    seen=None,
    penalty=None,
    **columns,
):
    """The objective and its gradient: a value, lists of coefs' and biases' gradients.

    With `tied`, `coefs` are all layers' still, and the gradient of a decoder layer is
    None: it is added, transposed, to its encoder layer's. The network sees the rows
    `seen` in place of X, of which missing entries are NaN. `penalty` are the kind, the
    weight and the target of the code's sparsity; `columns` are as of `entry_losses`.
    The activations of an output with groups are those of the others.
    """
    weights = np.ones(len(X)) if weights is None else weights
    weights = weights / weights.sum()
    seen = X if seen is None else seen
    layers, inputs = forward(seen, coefs, intercepts, activations)
    stored = coefs[: len(coefs) // 2] if tied else coefs
    values, slopes = entry_losses(loss, layers[-1], X, **columns)
    value = weights @ values.sum(axis=1)
    value += alpha / 2 * sum((w**2).sum() for w in stored)

    coef_gradients, bias_gradients = [], []
    delta = weights[:, np.newaxis] * slopes
    for i in reversed(range(len(coefs))):
        delta = delta * ACTIVATIONS[activations[i]][1](inputs[i])
        coef_gradients.insert(0, layers[i].T @ delta)
        bias_gradients.insert(0, delta.sum(axis=0))
        delta = delta @ coefs[i].T
        if penalty is not None and i == len(coefs) // 2:
            of_code, code_slopes = sparsity(layers[i], weights, *penalty)
            value, delta = value + of_code, delta + code_slopes
    if tied:
        half = len(coefs) // 2
        for i in range(half):
            coef_gradients[i] = coef_gradients[i] + coef_gradients[-1 - i].T
        coef_gradients[half:] = [None] * half
    for i, w in enumerate(stored):
        coef_gradients[i] = coef_gradients[i] + alpha * w
    return value, coef_gradients, bias_gradients


def bounded(unit):
    """The logarithm of a variance, and its derivative by its unit.

    The unit itself from -60 to 3, and nowhere 3 or more outside of that.
    """
    rest = unit - np.clip(unit, -60, 3)
    return unit - rest + 3 * rest / (3 + np.abs(rest)), (1 + np.abs(rest) / 3) ** -2.0


def variational_objective(
    X, coefs, intercepts, activations, *, loss, beta, noise, weights=None, seen=None
):
    """The objective of a variational autoencoder for given normal noise, its gradient.

    Returns a value, the mean divergence, and lists of coefs' and biases' gradients.
    The last layer of the encoder gives means and, bounded, logarithms of variances.
    """
    weights = np.ones(len(X)) if weights is None else weights
    weights = (weights / weights.sum())[:, np.newaxis]
    middle = len(coefs) // 2
    of_encoder = [part[:middle] for part in (coefs, intercepts, activations)]
    of_decoder = [part[middle:] for part in (coefs, intercepts, activations)]
    below, below_inputs = forward(X if seen is None else seen, *of_encoder)
    mean, unit = np.hsplit(below[-1], 2)
    log_variance, bound_slope = bounded(unit)
    deviation = np.exp(log_variance / 2)
    above, above_inputs = forward(mean + deviation * noise, *of_decoder)
    value_of, slope_of = LOSSES[loss]
    divergence = (mean**2 + deviation**2 - log_variance - 1) / 2
    term = (weights * divergence).sum()
    losses = of_observed(value_of, above[-1], X)
    value = (weights * losses).sum() + beta * term

    delta = weights * of_observed(slope_of, above[-1], X)
    coef_gradients, bias_gradients = [], []
    layers, inputs = below[:-1] + above[:-1], below_inputs + above_inputs
    for i in reversed(range(len(coefs))):
        if i == middle - 1:
            delta = np.hstack(
                [
                    delta + beta * weights * mean,
                    bound_slope * delta * noise * deviation / 2
                    + bound_slope * beta * weights * (deviation**2 - 1) / 2,
                ]
            )
        delta = delta * ACTIVATIONS[activations[i]][1](inputs[i])
        coef_gradients.insert(0, layers[i].T @ delta)
        bias_gradients.insert(0, delta.sum(axis=0))
        delta = delta @ coefs[i].T
    return value, term, coef_gradients, bias_gradients


def naive_r2(estimator, X):
    """The definition, on the whole dense X at once."""
    restored = estimator.inverse_transform(estimator.transform(X))
    return 1 - ((X - restored) ** 2).sum() / ((X - X.mean(axis=0)) ** 2).sum()
