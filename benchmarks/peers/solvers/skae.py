from benchmark_utils.peer import Peer

from skae._data.rows import make_rows
from skae._model.network import coefs, intercepts
from skae._training.plan import make_plan


class Solver(Peer):
    """skae's AutoencoderTransformer.

    As of the others, its training loop is timed, on data that lie ready: not what
    `fit` does once (validation, the scale of the data, the order of the code), which
    growth.py measures.
    """

    name = "skae"

    def start(self):
        self._make(self.workload.data())

    def compile(self):
        self._make(self.workload.data()[: 2 * self.batch_size])
        self.train(1)

    def train(self, n_epochs):
        with self.training:
            self.training.run_epochs(n_epochs)

    def weights(self):
        network, params = self.training.objective.network, self.training.state.params
        return coefs(network, params), intercepts(network, params)

    def _make(self, rows):
        autoencoder = self.workload.autoencoder(max_iter=self.workload.n_epochs)
        self.training = make_plan(autoencoder, make_rows(rows), None).training
