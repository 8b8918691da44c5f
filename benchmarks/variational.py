"""How good does a variational autoencoder become on MNIST, and how fast, by PyTorch?

    python benchmarks/variational.py             # about 15 minutes
    python benchmarks/variational.py --epochs 2

Both train the network of PyTorch's own example, 784-400-20-400-784 with relu, from the
same initial weights, on images binarized at 0.5: Bernoulli likelihood, Adam with a
learning rate of 0.001, batches of 128, float32. PyTorch has its rows in memory as one
tensor, a fused Adam and no data loader; "compiled" is one graph of loss and gradient,
by torch.compile. Epochs are timed in turn, on all cores. The evidence lower bound of
the test images is that of 10 draws from each posterior, in nats, by the same formula
for both.
``SKAE_DATA`` names the folder of `mnist.npz`.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from _report import RESULTS, Spread, header, n_cores, table
from mnist import load
from sklearn.base import clone
from torch.nn import functional

from skae import VariationalAutoencoderTransformer

N_HIDDEN, N_CODE, BATCH_SIZE, RATE, N_DRAWS = 400, 20, 128, 0.001, 10


class Skae:
    """An epoch is a `partial_fit`."""

    name = "skae"

    def __init__(self, X):
        self.X = X
        self.model = VariationalAutoencoderTransformer(
            N_CODE,
            hidden_layer_sizes=N_HIDDEN,
            loss="log_loss",
            batch_size=BATCH_SIZE,
            learning_rate="constant",
            learning_rate_init=RATE,
            random_state=0,
        )

    def initial_weights(self):
        """Weights and biases of the layers, before any epoch."""
        still = {"solver": "sgd", "learning_rate_init": 1e-300}
        model = clone(self.model).set_params(**still).partial_fit(self.X)
        return zip(model.coefs_, model.intercepts_, strict=True)

    def epoch(self):
        self.model.partial_fit(self.X)

    def elbo(self, X):
        return self.model.elbo(X, n_draws=N_DRAWS).mean()


class Network(torch.nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.hidden = torch.nn.Linear(n_features, N_HIDDEN)
        self.code = torch.nn.Linear(N_HIDDEN, 2 * N_CODE)
        self.decoded = torch.nn.Linear(N_CODE, N_HIDDEN)
        self.output = torch.nn.Linear(N_HIDDEN, n_features)

    def forward(self, x):
        """Mean over the rows of the negative evidence lower bound of one draw."""
        hidden = functional.relu(self.hidden(x))
        mean, log_variance = self.code(hidden).chunk(2, dim=1)
        code = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        logits = self.output(functional.relu(self.decoded(code)))
        loss = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
        return (loss + divergence) / len(x)


class PyTorch:
    name = "PyTorch"

    def __init__(self, X):
        torch.manual_seed(0)
        self.X = torch.from_numpy(X)
        self.network = Network(X.shape[1])
        with torch.no_grad():
            for layer, (weights, biases) in zip(
                self.network.children(), Skae(X).initial_weights(), strict=True
            ):
                layer.weight.copy_(torch.tensor(weights.T.copy()))
                layer.bias.copy_(torch.tensor(biases.copy()))
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=RATE, fused=True
        )
        self.objective = self.network

    def epoch(self):
        for rows in torch.randperm(len(self.X)).split(BATCH_SIZE):
            self.optimizer.zero_grad()
            self.objective(self.X[rows]).backward()
            self.optimizer.step()

    @torch.no_grad()
    def elbo(self, X):
        X = torch.from_numpy(X)
        return -statistics.fmean(self.network(X).item() for _ in range(N_DRAWS))


class CompiledPyTorch(PyTorch):
    name = "PyTorch, compiled"

    def __init__(self, X):
        super().__init__(X)
        self.objective = torch.compile(self.network, fullgraph=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--no-compiled", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(n_cores())
    X_train, X_test = ((X >= 0.5).astype(np.float32) for X in load())
    kinds = [Skae, PyTorch] + [CompiledPyTorch] * (not options.no_compiled)
    models = [kind(X_train) for kind in kinds]
    seconds = {model.name: [] for model in models}
    for epoch in range(options.epochs):
        for model in models[:: 1 if epoch % 2 == 0 else -1]:
            begin = time.perf_counter()
            model.epoch()
            seconds[model.name].append(time.perf_counter() - begin)
        done = {name: f"{times[-1]:.2f}" for name, times in seconds.items()}
        print(epoch + 1, done, flush=True)
    # The first epoch of each compiles.
    spreads = {name: Spread.of(times[1:]) for name, times in seconds.items()}
    fastest = spreads[Skae.name].median
    rows = [
        [
            model.name,
            str(spreads[model.name]),
            spreads[model.name].median / fastest,
            f"{model.elbo(X_train):.2f}",
            f"{model.elbo(X_test):.2f}",
        ]
        for model in models
    ]
    columns = ["", "seconds an epoch", "times skae", "training ELBO", "test ELBO"]
    versions = f"{header()} torch {torch.__version__}."
    text = (
        f"# A variational autoencoder on binarized MNIST\n\nMade by `variational.py`, "
        f"{options.epochs} epochs.\n\n{versions}\n\n{table(columns, rows)}\n"
    )
    print(text)
    if options.epochs >= 50:
        (RESULTS / "variational.md").write_text(text)


if __name__ == "__main__":
    main()
