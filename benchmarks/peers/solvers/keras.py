import math

import keras
import tensorflow as tf
from benchmark_utils.peer import Peer

# Each workload traces its own training function, as it should.
tf.get_logger().setLevel("ERROR")
_ACTIVATIONS = {"logistic": "sigmoid", "relu": "relu", "identity": None}


class TiedDense(keras.layers.Layer):
    """A decoder's layer with the weights of an encoder's, transposed."""

    def __init__(self, encoder, activation):
        super().__init__()
        self.encoder, self.activation = encoder, keras.activations.get(activation)

    def build(self, input_shape):
        n_out = self.encoder.kernel.shape[0]
        self.bias = self.add_weight(shape=(n_out,), initializer="zeros")

    def call(self, inputs):
        z = tf.matmul(inputs, self.encoder.kernel, transpose_b=True) + self.bias
        return self.activation(z)


def log_loss(x, z):
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(x, z), axis=-1)


def squared_error(x, output):
    return tf.reduce_sum(tf.square(output - x), axis=-1) / 2


def make_layers(workload):
    activations = [_ACTIVATIONS[a] for a in workload.activations]
    if workload.loss == "log_loss":
        activations[-1] = None
    middle = len(activations) // 2
    layers = []
    for n_out, activation in zip(workload.widths[1:], activations, strict=True):
        if workload.tied and len(layers) >= middle:
            encoder = layers[2 * middle - 1 - len(layers)]
            layers.append(TiedDense(encoder, activation))
        else:
            layers.append(keras.layers.Dense(n_out, activation))
    return layers


def shuffled_batches(X, batch_size):
    """Batches of one epoch, in a new order whenever they are iterated over."""

    def batches(X):
        order = tf.random.shuffle(tf.range(len(X)))
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    # From the tensor, not from slices of it: each batch is gathered at once.
    orders = tf.data.Dataset.from_tensors(X).flat_map(batches)
    return orders.map(lambda rows: (tf.gather(X, rows),) * 2).prefetch(2)


class Solver(Peer):
    """Keras on TensorFlow: model.fit on tf.data, many steps an execution.

    Faster than on arrays; jit_compile makes no difference beyond noise.
    """

    name = "keras"
    requirements = ["pip::tensorflow-cpu"]

    def start(self):
        if not hasattr(self, "model"):
            self._build()
        self.model.set_weights(self.initial_variables[0])
        for variable, value in zip(
            self.model.optimizer.variables, self.initial_variables[1], strict=True
        ):
            variable.assign(value)

    def _build(self):
        workload = self.workload
        self.layers = make_layers(workload)
        self.model = keras.Sequential([keras.Input(self.X.shape[1:]), *self.layers])
        rate = workload.learning_rate
        if workload.solver == "adam":
            optimizer = keras.optimizers.Adam(rate, epsilon=1e-8)
        else:
            optimizer = keras.optimizers.SGD(rate, 0.9, nesterov=workload.nesterov)
        loss = log_loss if workload.loss == "log_loss" else squared_error
        self.steps_per_execution = 50
        if workload.is_full_batch:  # where it has to divide the number of steps
            self.steps_per_execution = math.gcd(50, workload.n_epochs)
        self.model.compile(
            optimizer, loss, steps_per_execution=self.steps_per_execution
        )
        optimizer.build(self.model.trainable_variables)
        for layer, weights, biases in zip(self.layers, *self.initial, strict=True):
            if isinstance(layer, keras.layers.Dense):
                layer.kernel.assign(weights)
            layer.bias.assign(biases)
        self.initial_variables = (
            self.model.get_weights(),
            [variable.numpy() for variable in optimizer.variables],
        )
        rows = tf.constant(self.X)
        if workload.is_full_batch:
            self.batches = tf.data.Dataset.from_tensors((rows, rows)).repeat()
        else:
            self.batches = shuffled_batches(rows, self.batch_size)

    def compile(self):
        self._fit(steps_per_epoch=self.steps_per_execution)

    def train(self, n_epochs):
        if self.workload.is_full_batch:
            self._fit(steps_per_epoch=n_epochs)
        else:
            self._fit(epochs=n_epochs)

    def _fit(self, **length):
        self.model.fit(self.batches, shuffle=False, verbose=0, **length)

    def weights(self):
        coefs = [
            layer.kernel.numpy()
            if isinstance(layer, keras.layers.Dense)
            else layer.encoder.kernel.numpy().T
            for layer in self.layers
        ]
        return coefs, [layer.bias.numpy() for layer in self.layers]
