"""AutoencoderTransformer: attributes, random state, copies, frames, pipelines."""

import pickle

import joblib
import numpy as np
import pytest
from sklearn import config_context, datasets
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.metrics import reconstruction_r2

from .support.cases import (
    ALL_CASES,
    LOSS_NAMES,
    data_for,
    hidden_layers,
    is_stochastic,
    is_variational,
    make,
    make_data,
)
from .support.fits import assert_same_fit, linear, objective_of, reconstruct


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_loss_is_the_objective(loss, tied, weighted):
    """At a standstill the loss of an epoch, in batches too, is that of its weights."""
    X = make_data(loss=loss)
    weights = np.arange(60.0) if weighted else None
    for batch_size in (60, 7):
        estimator = AutoencoderTransformer(
            3,
            hidden_layer_sizes=(7, 5),
            activation="tanh",
            code_activation="softplus",  # not ordered: the penalty stays
            tied_weights=tied,
            loss=loss,
            init="random",  # of a start at PCA some samples would be held out
            alpha=0.1,
            learning_rate_init=1e-300,
            batch_size=batch_size,
            max_iter=3,
            random_state=0,
        ).fit(X, sample_weight=weights)
        expected = objective_of(estimator, X, weights)
        np.testing.assert_allclose(estimator.loss_curve_, expected, rtol=1e-10)
        estimator.set_params(solver="lbfgs").fit(X, sample_weight=weights)
        expected = objective_of(estimator, X, weights)
        assert estimator.loss_ == pytest.approx(expected, rel=1e-10)
        assert estimator.loss_ < estimator.loss_curve_[0]


@pytest.mark.parametrize("name", ALL_CASES)
def test_counts_and_curves(name):
    estimator = make(name)
    X = data_for(estimator)
    assert estimator.fit(X) is estimator
    assert estimator.n_components_ == 2
    hidden = hidden_layers(estimator)
    assert estimator.n_layers_ == 2 * len(hidden) + 3 == len(estimator.coefs_) + 1
    widths = [6, *hidden, 2, *hidden[::-1], 6]
    n_ins, n_outs = widths[:-1], widths[1:]
    if is_variational(estimator.get_params()):
        n_outs[len(hidden)] = 4  # means, and logarithms of variances
    shapes = [weights.shape for weights in estimator.coefs_]
    assert shapes == list(zip(n_ins, n_outs, strict=True))
    assert [len(biases) for biases in estimator.intercepts_] == n_outs
    assert 0 < estimator.n_iter_ == len(estimator.loss_curve_)
    assert name == "default" or estimator.n_iter_ <= estimator.max_iter
    assert estimator.loss_ == estimator.loss_curve_[-1]
    watched = getattr(estimator, "validation_loss_curve_", estimator.loss_curve_)
    assert estimator.best_loss_ == min(watched)
    validates = bool(estimator.early_stopping)
    assert hasattr(estimator, "validation_loss_curve_") == validates
    assert estimator.n_features_in_ == 6


@pytest.mark.parametrize("early_stopping", [False, True])
def test_plateau_rule(early_stopping):
    X = make_data()
    estimator = make("adam", early_stopping=early_stopping, max_iter=500, tol=0.01)
    estimator.set_params(n_iter_no_change=4, learning_rate_init=0.01).fit(X)
    curve = estimator.loss_curve_
    if early_stopping:
        curve = estimator.validation_loss_curve_
    n_bad, best = 0, np.inf
    for epoch, loss in enumerate(curve, start=1):
        n_bad = n_bad + 1 if loss > best - 0.01 else 0
        best = min(best, loss)
        assert (n_bad > 4) == (epoch == estimator.n_iter_)


# What is drawn: weights, the order of samples, held-out samples, noise, codes.
@pytest.mark.parametrize(
    "name",
    [
        *("minibatch", "lbfgs", "cautious", "pretrained", "gaussian_noise"),
        *("masking_noise", "salt_and_pepper_noise", "variational"),
    ],
)
def test_same_seed_same_bits(name):
    estimator = make(name, max_iter=5)
    X = data_for(estimator)
    assert_same_fit(clone(estimator).fit(X), clone(estimator).fit(X))
    other = clone(estimator).set_params(random_state=1).fit(X)
    assert not np.array_equal(other.coefs_[0], estimator.fit(X).coefs_[0])


def test_random_state_instance():
    X = make_data()
    first = make("minibatch", random_state=np.random.RandomState(0)).fit(X)
    assert_same_fit(first, make("minibatch", random_state=0).fit(X))
    # It is drawn from: the next fit is another one.
    loss = first.loss_
    assert first.fit(X).loss_ != loss


def global_state():
    return joblib.hash(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize("name", ["minibatch", "early_stopping", "lbfgs"])
def test_only_no_random_state_draws_from_the_global_one(name):
    """One number; and with another random state it is left alone."""
    X, before = make_data(), np.random.get_state()  # noqa: NPY002
    for given in (0, np.random.RandomState(0)):
        make(name, random_state=given).fit(X).transform(X)
        assert global_state() == joblib.hash(before)
    estimator, fits, states = make(name, random_state=None, max_iter=3), [], []
    try:
        for _ in range(2):
            np.random.seed(0)  # noqa: NPY002
            fits.append(clone(estimator).fit(X))
            states.append(global_state())
        third = clone(estimator).fit(X)
        np.random.seed(0)  # noqa: NPY002
        np.random.randint(np.iinfo(np.int32).max)  # noqa: NPY002
        assert states == [global_state()] * 2
    finally:
        np.random.set_state(before)  # noqa: NPY002
    assert_same_fit(*fits)
    assert third.loss_ != fits[0].loss_


def test_pipeline_and_grid_search_beside_pca():
    X = datasets.load_digits().data[:200]
    pipeline = make_pipeline(StandardScaler(with_std=False), PCA())
    autoencoder = linear(max_iter=300, tol=1e-6)
    search = GridSearchCV(
        pipeline,
        {"pca": [PCA(), autoencoder], "pca__n_components": [1, 3]},
        scoring=reconstruction_r2,
        cv=3,
    ).fit(X)
    scores = search.cv_results_["mean_test_score"].reshape(2, 2)
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3)
    assert (scores[:, 1] > scores[:, 0]).all()
    assert search.best_params_["pca__n_components"] == 3

    pipeline.set_params(pca=autoencoder).fit(X)
    np.testing.assert_allclose(
        pipeline.inverse_transform(pipeline.transform(X)),
        X.mean(axis=0) + reconstruct(pipeline[-1], X - X.mean(axis=0)),
        atol=1e-10,
    )
    assert pipeline.get_feature_names_out().shape == (3,)
    assert pipeline.score(X) == pytest.approx(pipeline[-1].score(X - X.mean(axis=0)))
    # The default scoring of a grid search is score.
    search = GridSearchCV(make("adam"), {"n_components": [1, 2]}, cv=2).fit(X)
    assert search.best_score_ <= 1


def test_fit_transform_takes_what_fit_takes():
    X, weights = make_data(), np.arange(60.0)
    estimator = make("adam")
    code = estimator.fit_transform(X, sample_weight=weights, X_val=X)
    expected = make("adam").fit(X, sample_weight=weights, X_val=X)
    assert_same_fit(estimator, expected)
    np.testing.assert_array_equal(code, expected.transform(X))


def test_metadata_routing():
    X, X_val, weights = make_data(), make_data(seed=1), np.arange(60.0)
    with config_context(enable_metadata_routing=True):
        step = make("adam").set_fit_request(sample_weight=True, X_val=True)
        step.set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, step)
        pipeline.transform_input = ["X_val"]
        pipeline.fit(X, sample_weight=weights, X_val=X_val)
        score = pipeline.score(X, sample_weight=weights)
    Z, Z_val = scaler.transform(X), scaler.transform(X_val)
    expected = make("adam").fit(Z, sample_weight=weights, X_val=Z_val)
    assert_same_fit(pipeline[-1], expected)
    assert score == expected.score(Z, sample_weight=weights)


# Their fitted attributes, or states of training, differ.
@pytest.mark.parametrize(
    "name",
    ["minibatch", "lbfgs", "tied", "cautious", "sparse_kl", "log_loss", "variational"],
)
def test_round_trips(name, tmp_path):
    estimator = make(name, max_iter=5)
    X = data_for(estimator)
    estimator.fit(X)
    path = tmp_path / "model.joblib"
    joblib.dump(estimator, path)
    for copy in (
        pickle.loads(pickle.dumps(estimator)),
        joblib.load(path),
        joblib.load(path, mmap_mode="r"),
        clone(estimator).fit(X),
        type(estimator)().set_params(**estimator.get_params()).fit(X),
    ):
        assert copy.get_params() == estimator.get_params()
        assert_same_fit(copy, estimator)
        for call in ("transform", "score", "score_samples"):
            np.testing.assert_array_equal(
                getattr(copy, call)(X), getattr(estimator, call)(X)
            )
        np.testing.assert_array_equal(
            copy.reconstruction_error(X, metric="loss"),
            estimator.reconstruction_error(X, metric="loss"),
        )
        np.testing.assert_array_equal(reconstruct(copy, X), reconstruct(estimator, X))
        if is_stochastic(estimator.get_params()):
            again = pickle.loads(pickle.dumps(estimator)).partial_fit(X)
            assert_same_fit(copy.partial_fit(X), again)
