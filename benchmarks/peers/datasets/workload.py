from benchmark_utils import peer  # noqa: F401  (makes workloads.py importable)
from benchopt import BaseDataset
from workloads import WORKLOADS


class Dataset(BaseDataset):
    """A row of the table in workloads.py, or a fraction of its work."""

    name = "workload"
    parameters = {"workload": list(WORKLOADS), "fraction": [1]}
    test_parameters = {"workload": ["onehot"], "fraction": [0.1]}

    def get_data(self):
        return {"workload": WORKLOADS[self.workload].reduced(self.fraction)}
