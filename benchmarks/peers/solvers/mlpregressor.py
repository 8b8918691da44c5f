import warnings

import numpy as np
from benchmark_utils.peer import Peer
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor


class Solver(Peer):
    """scikit-learn's MLPRegressor of X on X.

    It has the widths and the hidden activation of the workload, but always the
    squared error of a linear output, and weights that it draws itself: its times are
    comparable, its losses are not.
    """

    name = "mlpregressor"
    requirements = ["pip::scikit-learn"]

    def skip(self, workload, **others):
        if workload.tied:
            return True, "MLPRegressor has no tied weights"
        if len(set(workload.activations[:-1])) > 1:
            return True, "MLPRegressor has one activation for all hidden layers"
        return False, None

    def start(self):
        workload = self.workload
        self.regressor = MLPRegressor(
            hidden_layer_sizes=workload.widths[1:-1],
            activation=workload.activations[0],
            solver=workload.solver,
            alpha=0.0,
            batch_size=self.batch_size,
            learning_rate_init=workload.learning_rate,
            nesterovs_momentum=workload.nesterov,
            n_iter_no_change=np.inf,
            random_state=0,
            warm_start=True,
        )

    def compile(self):
        """Nothing to do."""

    def train(self, n_epochs):
        if self.workload.is_full_batch:
            self.regressor.set_params(max_iter=n_epochs)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                self.regressor.fit(self.X, self.X)
            return
        for _ in range(n_epochs):
            self.regressor.partial_fit(self.X, self.X)

    def weights(self):
        return None, None
