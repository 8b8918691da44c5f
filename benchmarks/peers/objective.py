from benchmark_utils import peer  # noqa: F401  (makes workloads.py importable)
from benchopt import BaseObjective
from benchopt.stopping_criterion import NoCriterion


class Objective(BaseObjective):
    """The mean over rows of the loss, summed over features, in the network's units."""

    name = "Autoencoder training"
    min_benchopt_version = "1.10"
    requirements = ["pip::scikit-learn"]
    sampling_strategy = "callback"
    # As many evaluations as --max-runs says: times of the same work are compared.
    stopping_criterion = NoCriterion()
    test_dataset_name = "workload"

    def set_data(self, workload):
        self.workload, self.X = workload, workload.seen_data()

    def get_objective(self):
        coefs, intercepts = self.workload.initial_weights()
        return {
            "workload": self.workload,
            "X": self.X,
            "coefs": coefs,
            "intercepts": intercepts,
        }

    def evaluate_result(self, coefs, intercepts, compile_seconds):
        value = float("nan")  # of a network of another kind
        if coefs is not None:
            value = self.workload.objective(self.X, coefs, intercepts)
        return {"value": value, "compile_seconds": compile_seconds}

    def get_one_result(self):
        coefs, intercepts = self.workload.initial_weights()
        return {"coefs": coefs, "intercepts": intercepts, "compile_seconds": 0.0}
