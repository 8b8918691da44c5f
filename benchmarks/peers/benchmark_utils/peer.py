"""A solver that starts from given weights and trains a number of epochs at a time."""

import abc
import time

from benchopt import BaseSolver


class Peer(BaseSolver):
    """What all solvers share; `start`, `compile`, `train` and `weights` are theirs."""

    def set_objective(self, workload, X, coefs, intercepts):
        """Take a workload, its rows as the network sees them, and initial weights."""
        self.workload, self.X = workload, X
        self.initial = coefs, intercepts
        self.n_rows = len(X)
        self.batch_size = workload.batch_size or self.n_rows
        self.start()

    def warm_up(self):
        begin = time.perf_counter()
        self.compile()
        self.compile_seconds = time.perf_counter() - begin
        self.start()

    def run(self, callback):
        while callback():
            self.train(self.workload.epochs_per_call)

    def get_next(self, n_calls):
        return n_calls + 1

    def get_result(self):
        coefs, intercepts = self.weights()
        return {
            "coefs": coefs,
            "intercepts": intercepts,
            "compile_seconds": self.compile_seconds,
        }

    def batch_sizes(self):
        """Those that occur: of most batches, and of the last one if it is smaller."""
        rest = self.n_rows % self.batch_size
        return [self.batch_size, rest] if rest else [self.batch_size]

    @abc.abstractmethod
    def start(self):
        """Set weights and optimizer to the start."""

    @abc.abstractmethod
    def compile(self):
        """Have everything compiled that `train` runs. May change the weights."""

    @abc.abstractmethod
    def train(self, n_epochs):
        """Go on training."""

    @abc.abstractmethod
    def weights(self):
        """Lists of (n_in, n_out) weights and (n_out,) biases of all layers."""
