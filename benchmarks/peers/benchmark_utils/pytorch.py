"""What the two PyTorch solvers share."""

import torch
from torch.nn import functional

from benchmark_utils.peer import Peer

_ACTIVATIONS = {"logistic": torch.sigmoid, "relu": torch.relu, "identity": lambda z: z}


def objective(workload, weights, biases, x):
    """The objective of a batch; `weights` are the encoder's only if they are tied."""
    if workload.tied:
        weights = [*weights, *(w.T for w in reversed(weights))]
    h = x
    for w, b, activation in zip(weights, biases, workload.activations, strict=True):
        z = torch.addmm(b, h, w)
        h = _ACTIVATIONS[activation](z)
    if workload.loss == "log_loss":
        loss = functional.binary_cross_entropy_with_logits(z, x, reduction="sum")
    else:
        loss = functional.mse_loss(h, x, reduction="sum") / 2
    return loss / len(x)


class TorchPeer(Peer):
    """Draws batches and calls `step`, which a subclass makes, on them."""

    def start(self):
        coefs, intercepts = self.initial
        if self.workload.tied:
            coefs = coefs[: len(coefs) // 2]
        self.params = [torch.tensor(p) for p in (*coefs, *intercepts)]
        self.n_weights = len(coefs)
        self.rows = torch.from_numpy(self.X)
        self.step = self.make_step()

    def compile(self):
        for size in self.batch_sizes():
            self.step(self.rows[:size])

    def train(self, n_epochs):
        for _ in range(n_epochs):
            rows = self.rows
            if not self.workload.is_full_batch:
                rows = rows.index_select(0, torch.randperm(self.n_rows))
            for batch in rows.split(self.batch_size):
                self.step(batch)

    def weights(self):
        params = [p.detach().numpy() for p in self.params]
        coefs, intercepts = params[: self.n_weights], params[self.n_weights :]
        if self.workload.tied:
            coefs += [w.T for w in reversed(coefs)]
        return coefs, intercepts
