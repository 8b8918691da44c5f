import functools

import torch
from benchmark_utils.pytorch import TorchPeer, objective

# Every workload compiles the same function anew, for each of its batch sizes.
torch._dynamo.config.recompile_limit = 64


@functools.cache
def compiled_step(workload, n_weights):
    """A whole step as one graph: compiled optimizers of PyTorch stay outside it."""

    def value(params, x):
        return objective(workload, params[:n_weights], params[n_weights:], x)

    @torch.compile(dynamic=False, fullgraph=True)
    def adam(params, means, squares, t, x):
        t += 1
        rate = workload.learning_rate * torch.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        gradients = torch.func.grad(value)(params, x)
        for p, g, m, s in zip(params, gradients, means, squares, strict=True):
            m.lerp_(g, 0.1)
            s.lerp_(g * g, 0.001)
            p.sub_(rate * m / (s.sqrt() + 1e-8))

    @torch.compile(dynamic=False, fullgraph=True)
    def sgd(params, velocities, _, t, x):
        gradients = torch.func.grad(value)(params, x)
        for p, g, v in zip(params, gradients, velocities, strict=True):
            v.mul_(0.9).add_(g)
            p.sub_(workload.learning_rate * (g + 0.9 * v if workload.nesterov else v))

    return adam if workload.solver == "adam" else sgd


class Solver(TorchPeer):
    """PyTorch with forward pass, backward pass and update compiled together.

    torch.compile of the objective alone, beside a fused optimizer, is slower than
    eager mode on small networks.
    """

    name = "pytorch-compile"
    requirements = ["pip::torch"]

    def make_step(self):
        step = compiled_step(self.workload, self.n_weights)
        moments = [[torch.zeros_like(p) for p in self.params] for _ in range(2)]
        state = (self.params, *moments, torch.zeros(()))
        return torch.no_grad()(lambda x: step(*state, x))
