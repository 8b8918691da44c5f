import functools

import jax
import jax.numpy as jnp
import numpy as np
from benchmark_utils.peer import Peer

_ACTIVATIONS = {
    "logistic": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "identity": lambda z: z,
}


def objective(params, x, workload):
    weights, biases = params
    if workload.tied:
        weights = [*weights, *(w.T for w in reversed(weights))]
    h = x
    for w, b, activation in zip(weights, biases, workload.activations, strict=True):
        z = h @ w + b
        h = _ACTIVATIONS[activation](z)
    if workload.loss == "log_loss":
        loss = jnp.sum(jax.nn.softplus(z) - x * z)
    else:
        loss = jnp.sum((h - x) ** 2) / 2
    return loss / len(x)


def learn(state, x, workload):
    """A step of Adam, or of SGD with momentum."""
    params, means, squares, t = state
    gradients = jax.grad(objective)(params, x, workload)
    rate = workload.learning_rate
    if workload.solver == "adam":
        t += 1
        rate *= jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        means = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, means, gradients)
        squares = jax.tree.map(
            lambda s, g: 0.999 * s + 0.001 * g * g, squares, gradients
        )
        change = jax.tree.map(lambda m, s: m / (jnp.sqrt(s) + 1e-8), means, squares)
    else:
        means = jax.tree.map(lambda m, g: 0.9 * m + g, means, gradients)
        change = means
        if workload.nesterov:
            change = jax.tree.map(lambda m, g: 0.9 * m + g, means, gradients)
    params = jax.tree.map(lambda p, c: p - rate * c, params, change)
    return params, means, squares, t


@functools.partial(jax.jit, static_argnames="workload")
def train(state, key, X, n_epochs, workload):
    """Whole epochs, with their shuffling, as one program."""
    n_rows, batch_size = len(X), workload.batch_size or len(X)
    n_full = n_rows - n_rows % batch_size

    def learn_rows(state, rows):
        return learn(state, X[rows], workload), None

    def epoch(number, state):
        if workload.is_full_batch:
            return learn(state, X, workload)
        order = jax.random.permutation(jax.random.fold_in(key, number), n_rows)
        batches = order[:n_full].reshape(-1, batch_size)
        state, _ = jax.lax.scan(learn_rows, state, batches)
        if n_full < n_rows:
            state, _ = learn_rows(state, order[n_full:])
        return state

    return jax.lax.fori_loop(0, n_epochs, epoch, state)


class Solver(Peer):
    """JAX, with all batches of an epoch, or all full-batch steps, in one jit."""

    name = "jax"
    requirements = ["pip::jax"]

    def start(self):
        coefs, intercepts = self.initial
        if self.workload.tied:
            coefs = coefs[: len(coefs) // 2]
        params = jax.tree.map(jnp.array, (coefs, intercepts))
        zeros = jax.tree.map(jnp.zeros_like, params)
        self.state = params, zeros, zeros, jnp.zeros(())
        self.key = jax.random.key(0)
        self.rows = jnp.asarray(self.X)

    def compile(self):
        # No epoch is needed to compile one, but a program's first step is slow.
        self.train(1 if self.workload.is_full_batch else 0)

    def train(self, n_epochs):
        self.key, key = jax.random.split(self.key)
        state = train(self.state, key, self.rows, n_epochs, self.workload)
        self.state = jax.block_until_ready(state)

    def weights(self):
        coefs, intercepts = jax.tree.map(np.asarray, self.state[0])
        if self.workload.tied:
            coefs = [*coefs, *(w.T for w in reversed(coefs))]
        return coefs, intercepts
