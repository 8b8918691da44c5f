"""x"""

import numpy as np


class Watcher:
    """Notes every task's end, and may stop the fit."""

    def __init__(self, stop_after=None):
        self.stop_after, self.seen = stop_after, []
        self.n_begun = self.n_set_up = self.n_torn_down = 0

    def setup(self, estimator, context):
        self.n_set_up += 1

    def teardown(self, estimator, context):
        self.n_torn_down += 1

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.n_begun += 1

    def on_fit_task_end(
        self, estimator, context, *, X=None, metadata=None, fitted_estimator=None
    ):
        code = fitted_estimator.transform(X)
        self.seen.append(
            (
                context.task_name,
                context.task_id,
                fitted_estimator.loss_,
                fitted_estimator.score(X),
                metadata,
                np.isfinite(code).all() and code.shape == (len(X), 2),
            )
        )
        return self.stop_after is not None and context.task_id + 1 == self.stop_after
