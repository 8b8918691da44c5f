"""Greedy pretraining, layer by layer."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skae import AutoencoderTransformer
from skae._compiled.code_terms import SPARSITIES, TARGET, WEIGHT, CodeTerm
from skae._compiled.corruption import CORRUPTIONS, Corruption
from skae._compiled.losses import LOSSES
from skae._data.rows import make_rows, network_input, weights_in_use
from skae._model.initialization import random_params
from skae._model.network import coefs, for_loss, intercepts, make_network
from skae._training import loop, plan
from skae._training.pretraining import pretrained_params

from .support import reference
from .support.cases import make_data
from .support.fits import assert_same_fit

WIDTHS = [6, 5, 4, 2, 4, 5, 6]
NAMES = ["tanh", "softplus", "logistic", "softplus", "tanh", "logistic"]


@pytest.mark.parametrize("weighted", [False, True])
def test_each_pair_of_layers_learns_the_codes_of_the_pair_below(tied, weighted):
    X = make_data(loss="log_loss")
    weights = np.arange(1.0, 61) if weighted else None
    architecture = {
        "widths": WIDTHS,
        "activations": NAMES,
        "tied": tied,
        "variational": False,
    }
    network, loss = make_network(**architecture), LOSSES["log_loss"]
    rows = make_rows(X, np.zeros(6), 1.0, weights=weights)
    rows = rows._replace(subset=np.arange(0, 60, 2, dtype=np.int32), n_rows=30)
    corruption = Corruption(CORRUPTIONS["masking"], np.array([0.1, 0, 0]))
    term = CodeTerm(SPARSITIES["kl"], {WEIGHT: 1.0, TARGET: 0.05})
    objective = loop.Objective(
        for_loss(network, loss), loss, 0.3, rows, rows.empty(), corruption, term
    )
    before = random_params(network, NAMES, "glorot", 0, np.float64)
    params, seen = before.copy(), []

    def train(of_pair, initial, number):
        seen.append((of_pair, initial.copy(), number))
        return initial + number

    pretrained_params(architecture, objective, params, train)
    codes = X[::2]
    for i, (of_pair, initial, number) in enumerate(seen):
        assert number == i + 1
        assert of_pair.loss == LOSSES["squared_error" if i else "log_loss"]
        assert of_pair.corruption is (None if i else corruption)
        assert of_pair.term is (term if i == 2 else None)
        assert of_pair.alpha == 0.3
        assert of_pair.validation.n_rows == 0
        rows_seen = np.vstack([chunk for chunk, _ in network_input(of_pair.rows)])
        np.testing.assert_allclose(rows_seen, codes, atol=1e-12)
        if weighted:
            np.testing.assert_array_equal(weights_in_use(of_pair.rows), weights[::2])
        pair = make_network(
            [WIDTHS[i], WIDTHS[i + 1], WIDTHS[i]], [NAMES[i], NAMES[5 - i]], tied=tied
        )
        assert pair.n_params == initial.size
        for views in (coefs, intercepts):
            for layer, part in zip((i, 5 - i), views(pair, initial), strict=True):
                np.testing.assert_array_equal(part, views(network, before)[layer])
                # What was learnt is where the whole begins.
                found = views(network, params)[layer]
                np.testing.assert_array_equal(found, part + number)
        trained = initial + number
        encoder = coefs(pair, trained)[:1], intercepts(pair, trained)[:1], [NAMES[i]]
        layers, _ = reference.forward(codes, *encoder)
        codes = layers[-1]
    assert len(seen) == 3


DEEP = {
    "n_components": 4,
    "hidden_layer_sizes": (32, 16, 8),
    "learning_rate_init": 0.003,
    "max_iter": 20,
    "random_state": 0,
}


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_training_begins_with_what_the_layers_have_learnt(solver):
    X = load_digits().data
    plain, pretrained = (
        AutoencoderTransformer(**DEEP, solver=solver, init="random", pretrain=how)
        for how in (None, "layerwise")
    )
    plain.fit(X)
    pretrained.fit(X)
    assert len(pretrained.loss_curve_) == len(plain.loss_curve_) == 20
    assert pretrained.loss_curve_[0] < 0.85 * plain.loss_curve_[0]
    again = AutoencoderTransformer(**DEEP, solver=solver, pretrain="layerwise").fit(X)
    assert_same_fit(again, pretrained)


def test_a_warm_start_is_not_pretrained_again(monkeypatch):
    estimator = AutoencoderTransformer(
        hidden_layer_sizes=(8,), pretrain="layerwise", warm_start=True, max_iter=5
    ).fit(make_data())
    monkeypatch.delattr(plan, "pretrained_params")
    estimator.fit(make_data())
    assert len(estimator.loss_curve_) == 10
    with pytest.raises(NameError):
        estimator.set_params(warm_start=False).fit(make_data())


def test_partial_fit_does_not_pretrain():
    """So that it may start at PCA, which is no start for what has been pretrained."""
    message = r"init='pca' does not go with pretrain='layerwise'.*init='auto'"
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(init="pca", pretrain="layerwise").fit(make_data())
    AutoencoderTransformer(init="pca", pretrain="layerwise").partial_fit(make_data())
    X = make_data()
    pretrained = AutoencoderTransformer(pretrain="layerwise", random_state=0)
    plain = AutoencoderTransformer(random_state=0)
    assert_same_fit(pretrained.partial_fit(X), plain.partial_fit(X))


def test_every_layer_is_announced(capsys):
    params = {**DEEP, "max_iter": 10, "verbose": True, "pretrain": "layerwise"}
    AutoencoderTransformer(**params).fit(load_digits().data)
    lines = capsys.readouterr().out.splitlines()
    for number in range(1, 5):
        name = f"[AutoencoderTransformer, layer {number} of 4] epoch 2/2  loss "
        assert sum(line.startswith(name) for line in lines) == 1
    assert lines[-2].startswith("[AutoencoderTransformer] epoch 10/10")


def test_divergence_is_explained():
    estimator = AutoencoderTransformer(
        **{**DEEP, "solver": "sgd", "activation": "relu", "learning_rate_init": 1e9},
        pretrain="layerwise",
    )
    with pytest.raises(ValueError, match="Training diverged"):
        estimator.fit(load_digits().data)
    assert not hasattr(estimator, "n_features_in_")


def test_an_interrupt_ends_the_fit(monkeypatch):
    X = make_data()
    estimator = AutoencoderTransformer(random_state=0, max_iter=5).fit(X)
    before = estimator.transform(X)

    def interrupted(*args):
        raise KeyboardInterrupt

    estimator.set_params(pretrain="layerwise")
    monkeypatch.setattr(loop.StochasticTraining, "run_epochs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    np.testing.assert_array_equal(estimator.transform(X), before)
