import time
import warnings

from benchmark_utils.peer import Peer
from sklearn.exceptions import ConvergenceWarning


class _Clock:
    """Notes the time when an epoch ends, before anything else is done about it."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.time = time.perf_counter()


class _Evaluation(_Clock):
    """Calls benchopt's callback before the first epoch and after every one."""

    def __init__(self, solver, clock, callback):
        self.solver, self.clock, self.callback = solver, clock, callback

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch" and not self.callback.it:
            self.callback()

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name != "epoch":
            return False
        self.solver.autoencoder = fitted_estimator
        # It was made for this evaluation, and not for the training.
        self.callback.time_callback += time.perf_counter() - self.clock.time
        return not self.callback()


class Solver(Peer):
    """skae's AutoencoderTransformer.

    Epochs are told by scikit-learn's callbacks from within one fit, so that the time
    before the first is that of validation, of measuring the data and of the initial
    objective. Without mini-batches a whole fit is timed.
    """

    name = "skae"

    def start(self):
        self.autoencoder = self.workload.autoencoder(max_iter=1_000_000)
        self.rows = self.workload.data()

    def compile(self):
        few_rows = self.rows[: 2 * self.batch_size]
        self._fit(self.autoencoder.set_params(max_iter=1), few_rows)

    def run(self, callback):
        if self.workload.is_full_batch:
            super().run(callback)
            return
        clock = _Clock()
        self.autoencoder.set_callbacks(clock, _Evaluation(self, clock, callback))
        self._fit(self.autoencoder, self.rows)

    def train(self, n_epochs):
        self.autoencoder.set_params(max_iter=n_epochs, warm_start=True)
        self._fit(self.autoencoder, self.rows)

    def weights(self):
        if not hasattr(self.autoencoder, "n_iter_"):
            return self.initial
        return self.autoencoder.coefs_, self.autoencoder.intercepts_

    def _fit(self, autoencoder, rows):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            autoencoder.fit(rows)
