import torch
from benchmark_utils.pytorch import TorchPeer, objective


class Solver(TorchPeer):
    """PyTorch in eager mode, with its fused optimizers."""

    name = "pytorch"
    requirements = ["pip::torch"]

    def make_step(self):
        workload, params = self.workload, self.params
        weights, biases = params[: self.n_weights], params[self.n_weights :]
        for p in params:
            p.requires_grad_()
        if workload.solver == "adam":
            optimizer = torch.optim.Adam(params, lr=workload.learning_rate, fused=True)
        else:
            optimizer = torch.optim.SGD(
                params,
                lr=workload.learning_rate,
                momentum=0.9,
                nesterov=workload.nesterov,
                fused=True,
            )

        def step(x):
            optimizer.zero_grad()
            objective(workload, weights, biases, x).backward()
            optimizer.step()

        return step
