"""The variational member: its objective, its bound, its samples."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skae import VariationalAutoencoderTransformer

from .support import reference
from .support.cases import SMALL, STILL, make_data
from .support.fits import activations_of, assert_same_fit, network_input, objective_of


def make(**params):
    return VariationalAutoencoderTransformer(**{**SMALL, **params})


LOSSES = ("squared_error", "log_loss")


@pytest.mark.parametrize("batch_size", [7, 60])
@pytest.mark.parametrize("loss", LOSSES)
def test_curves_are_of_the_objective_with_new_noise_in_every_epoch(loss, batch_size):
    X = make_data(loss=loss)
    estimator = make(**STILL, loss=loss, beta=0.7, batch_size=batch_size).fit(X)
    expected = [objective_of(estimator, X, epoch=epoch) for epoch in range(5)]
    np.testing.assert_allclose(estimator.loss_curve_, expected, rtol=1e-8)
    assert np.unique(estimator.loss_curve_).size == 5
    # The divergence depends on the weights only.
    mean, deviation = estimator.transform_distribution(X)
    terms = (mean**2 + deviation**2 - 1) / 2 - np.log(deviation)
    np.testing.assert_allclose(estimator.kl_curve_, terms.sum(axis=1).mean(), rtol=1e-8)


def test_warm_up_raises_the_weight_evenly():
    X, X_val = make_data(), make_data(seed=1)
    warm = make(**STILL, beta=0.6, kl_warmup=4).fit(X, X_val=X_val)
    cold = make(**STILL, beta=0.6).fit(X, X_val=X_val)
    assert warm.kl_curve_ == cold.kl_curve_
    paid = np.array(cold.loss_curve_) - np.array(warm.loss_curve_)
    missing = 0.6 * np.array([3 / 4, 2 / 4, 1 / 4, 0, 0])
    np.testing.assert_allclose(paid, missing * cold.kl_curve_, rtol=1e-8, atol=1e-12)
    # Epochs can be compared by it.
    assert warm.validation_loss_curve_ == cold.validation_loss_curve_


def test_warm_up_does_not_end_training():
    """A rising loss then is no plateau."""
    X = make_data()
    plateau = {"tol": 0.0, "n_iter_no_change": 3, "max_iter": 200, "beta": 3.0}
    estimator = make(**plateau, kl_warmup=60).fit(X)
    rises = np.diff(estimator.loss_curve_[20:60]) > 0
    assert rises.mean() > 0.5
    assert estimator.n_iter_ > 60


@pytest.mark.parametrize("validated", [False, True])
def test_weights_within_a_warm_up_are_kept_though_they_cost_more(validated):
    """Their divergence is not paid for yet: it may be what the whole weight forbids."""
    X = make_data()
    params = {"hidden_layer_sizes": (32,), "learning_rate_init": 0.01, "max_iter": 300}
    estimator = make(**params, kl_warmup=10**6, n_iter_no_change=np.inf)
    estimator.fit(X, **({"X_val": X} if validated else {}))
    assert estimator.score(X) > 0.9
    assert estimator.kl_curve_[-1] > 5


def test_losses_are_compared_after_the_warm_up():
    X = make_data()
    params = {"kl_warmup": 200, "max_iter": 220, "beta": 3, "learning_rate_init": 0.01}
    estimator = make(**params).fit(X)
    assert min(estimator.loss_curve_[:199]) < min(estimator.loss_curve_[199:])
    assert estimator.best_loss_ == min(estimator.loss_curve_[199:])
    kept = make(**params).fit(X, X_val=X)
    curve = kept.validation_loss_curve_
    assert kept.best_loss_ == min(curve[199:])
    assert objective_of(kept, X) == pytest.approx(kept.best_loss_, rel=1e-8)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_going_on_continues_the_warm_up(method):
    X = make_data()
    whole = make(kl_warmup=6, max_iter=8, warm_start=True).fit(X)
    halves = make(kl_warmup=6, max_iter=4, warm_start=True).fit(X)
    assert len(halves.kl_curve_) == 4
    if method == "fit":
        assert_same_fit_but_count(halves.fit(X), whole)
        return
    pieces = make(kl_warmup=6)
    for _ in range(8):
        pieces.partial_fit(X)
    assert_same_fit_but_count(pieces, whole)


def assert_same_fit_but_count(a, b):
    a.n_iter_ = b.n_iter_
    assert_same_fit(a, b)


@pytest.mark.parametrize("loss", LOSSES)
def test_transform_distribution(loss, dtype):
    X = make_data(loss=loss).astype(dtype)
    estimator = make(loss=loss, hidden_layer_sizes=(8, 5), activation="tanh").fit(X)
    layers, _ = reference.forward(
        network_input(estimator, X),
        estimator.coefs_[:3],
        estimator.intercepts_[:3],
        activations_of(estimator)[:3],
    )
    mean, log_variance = np.hsplit(layers[-1], 2)
    found = estimator.transform_distribution(X)
    for values, expected in zip(found, (mean, np.exp(log_variance / 2)), strict=True):
        assert values.dtype == dtype
        assert values.flags.c_contiguous
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(estimator.transform(X), found[0])


@pytest.mark.parametrize("rate", [0.001, 0.01])
@pytest.mark.parametrize("hidden_layer_sizes", [(), (64,)])
def test_outliers_do_not_make_training_diverge(hidden_layer_sizes, rate, dtype):
    """Samples that are as many standard deviations out as so many allow, of a table."""
    X = np.random.default_rng(1).standard_normal((1000, 8))
    X[:3] *= 1000
    X = (X / X.std(axis=0)).astype(dtype)
    estimator = VariationalAutoencoderTransformer(
        4,
        hidden_layer_sizes=hidden_layer_sizes,
        learning_rate_init=rate,
        max_iter=5,
        random_state=0,
    )
    _, deviation = estimator.fit(X).transform_distribution(X)
    assert np.isfinite(estimator.elbo(X)).all()
    assert np.isfinite(deviation).all()


def test_auto_length_has_no_plateau():
    """Of losses with drawn noise, some epochs without progress do not tell."""
    X = make_data()
    never = {"tol": 1e9, "n_iter_no_change": 1, "random_state": 0}
    assert make(max_iter="auto", **never).fit(X).n_iter_ > 1000
    assert make(max_iter=50, **never).fit(X).n_iter_ == 3


def naive_elbo(estimator, X, n_draws):
    """By the densities of SciPy's distributions."""
    mean, deviation = estimator.transform_distribution(X)
    draws = np.random.default_rng(0).standard_normal((n_draws, *mean.shape))
    bound = 0.0
    for noise in draws:
        code = mean + deviation * noise
        output = estimator.inverse_transform(code)
        if estimator.loss == "log_loss":
            density = X * np.log(output) + (1 - X) * np.log1p(-output)
        else:
            density = stats.norm.logpdf(X, output, estimator.scale_)
        ratio = stats.norm.logpdf(code) - stats.norm.logpdf(code, mean, deviation)
        bound = bound + density.sum(axis=1) + ratio.sum(axis=1)
    return bound / n_draws


@pytest.mark.parametrize("loss", LOSSES)
def test_elbo_is_the_bound_in_nats(loss):
    X = make_data(loss=loss)
    if loss == "log_loss":
        X = np.round(X)
    X = 3 * X + 5 if loss == "squared_error" else X
    estimator = make(loss=loss, max_iter=100, beta=0.5).fit(X)
    found = estimator.elbo(X, n_draws=2000)
    assert found.shape == (60,)
    assert found.dtype == np.float64
    expected = naive_elbo(estimator, X, 2000)
    np.testing.assert_allclose(found, expected, atol=0.25)
    assert found.mean() == pytest.approx(expected.mean(), abs=0.03)
    np.testing.assert_array_equal(estimator.elbo(X), estimator.elbo(X))
    assert (estimator.elbo(X) != estimator.elbo(X, n_draws=11)).all()
    np.testing.assert_array_equal(estimator.elbo(X[:7]), estimator.elbo(X)[:7])


def test_elbo_of_tables():
    """Densities of numbers with a scale for each, and log-probabilities of levels."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    size, city = rng.standard_normal((2, 60, 1)) @ [[1.0, 0.5]]
    X = pd.DataFrame({"b": 100 * size[:, 0], "a": size[:, 1]})
    X["city"] = np.array(["Rome", "Oslo", "Bern"])[np.digitize(city[:, 0], [-0.5, 0.5])]
    X["sex"] = np.where(size[:, 0] > 0, "f", "m")
    X.loc[:9, "city"] = None
    X.loc[5:20, "b"] = np.nan
    estimator = make(max_iter=50, hidden_layer_sizes=8, activation="relu").fit(X)
    mean, deviation = estimator.transform_distribution(X)
    levels = {"city": ["Bern", "Oslo", "Rome"], "sex": ["f", "m"]}
    (*_, first, second), (*_, of_hidden, of_output) = (
        estimator.coefs_,
        estimator.intercepts_,
    )
    bound = np.log(deviation) - (mean**2 + deviation**2 - 1) / 2
    bound = bound.sum(axis=1) * len(draws := estimator._draws(10))
    for noise in draws:
        code = mean + deviation * noise
        output = np.maximum(0, code @ first + of_hidden) @ second + of_output
        for j, name in enumerate(["a", "b"]):
            center, unit = estimator.mean_[j], estimator.scale_[j]
            density = stats.norm.logpdf(X[name], center + unit * output[:, j], unit)
            bound = bound + np.nan_to_num(density)
        for start, (name, known) in zip((2, 5), levels.items(), strict=True):
            chances = special.log_softmax(output[:, start:][:, : len(known)], axis=1)
            for j, level in enumerate(known):
                bound = bound + np.where(X[name] == level, chances[:, j], 0)
    np.testing.assert_allclose(estimator.elbo(X), bound / 10, rtol=1e-5)
    np.testing.assert_array_equal(estimator.elbo(X[3:17]), estimator.elbo(X)[3:17])


@pytest.mark.parametrize("loss", LOSSES)
def test_the_bound_of_a_sample_is_its_own(loss, dtype):
    """Whatever its place, the other samples, and the calls before: bit for bit."""
    X = make_data(loss=loss).astype(dtype)
    estimator = make(loss=loss, n_components=3).fit(X)
    bound = estimator.elbo(X)
    repeated = np.repeat(X[:3], 67, axis=0)
    np.testing.assert_array_equal(estimator.elbo(repeated), np.repeat(bound[:3], 67))
    alone = [estimator.elbo(X[i : i + 1]).item() for i in range(len(X))]
    np.testing.assert_array_equal(alone, bound)
    order = np.random.default_rng(0).permutation(len(X))[:41]
    np.testing.assert_array_equal(estimator.elbo(X[order]), bound[order])
    for n_draws in (1, 3):
        bound = estimator.elbo(X, n_draws=n_draws)
        found = estimator.elbo(X[::-1], n_draws=n_draws)
        np.testing.assert_array_equal(found[::-1], bound)


def test_draws_of_the_bound_have_the_moments_of_a_normal_number():
    draws = make(n_components=4).fit(make_data())._draws(10)
    np.testing.assert_allclose(draws.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose((draws**2).mean(axis=0), 1)


def test_elbo_of_outliers(dtype):
    """No variance overflows; the bound falls with the distance: to -inf, not NaN."""
    X = make_data().astype(dtype)
    estimator = make(max_iter=30).fit(X)
    far = np.random.default_rng(0).standard_normal((50, 6)) * 1e5
    far = far.astype(dtype)
    _, deviation = estimator.transform_distribution(far)
    assert (deviation > 0).all()
    assert deviation.max() < np.exp(3)
    bound = estimator.elbo(np.vstack([X, far]))
    assert np.isfinite(bound).all()
    assert (bound[60:] < bound[:60].min()).all()
    largest = np.finfo(dtype).max ** 0.75
    assert np.isneginf(estimator.elbo(far / far.max() * largest)).all()


def test_bound_of_a_linear_network_is_tight():
    """It becomes probabilistic PCA, whose density is known.

    Lucas et al., "Don't blame the ELBO!", 2019: the posterior is normal with
    independent entries, so that nothing but the training's end separates the two.
    """
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 2)) @ (3 * rng.standard_normal((2, 5)))
    X += rng.standard_normal(X.shape)
    estimator = VariationalAutoencoderTransformer(
        2,
        hidden_layer_sizes=(),
        learning_rate="cosine",
        learning_rate_init=0.02,
        batch_size=500,
        max_iter=3000,
        n_iter_no_change=np.inf,
        random_state=0,
    ).fit(X)
    decoder = estimator.coefs_[-1]
    covariance = estimator.scale_**2 * (decoder.T @ decoder + np.eye(5))
    mean = estimator.mean_ + estimator.scale_ * estimator.intercepts_[-1]
    density = stats.multivariate_normal(mean, covariance).logpdf(X).mean()
    bound = estimator.elbo(X, n_draws=50).mean()
    assert bound == pytest.approx(density, abs=0.015)


def test_bad_arguments():
    X, unfitted = make_data(loss="log_loss"), make(loss="log_loss")
    for method in ("sample", "elbo", "transform_distribution"):
        with pytest.raises(NotFittedError):
            getattr(unfitted, method)(*[X] * (method != "sample"))
    estimator = unfitted.fit(X)
    for n in (0, -1, 1.5, "many"):
        with pytest.raises(ValueError, match=r"n_draws=.*whole number, at least 1"):
            estimator.elbo(X, n_draws=n)
        with pytest.raises(ValueError, match=r"n_samples=.*whole number, at least 1"):
            estimator.sample(n)
    with pytest.raises(ValueError, match="Values above 1"):
        estimator.elbo(2 * X)


@pytest.mark.parametrize("loss", LOSSES)
def test_samples(loss, dtype):
    X = make_data(loss=loss).astype(dtype)
    estimator = make(loss=loss, max_iter=50).fit(X)
    samples = estimator.sample(1000, random_state=3)
    assert samples.shape == (1000, 6)
    assert samples.dtype == dtype
    assert np.isfinite(samples).all()
    np.testing.assert_array_equal(samples, estimator.sample(1000, random_state=3))
    np.testing.assert_array_equal(samples, clone(estimator).fit(X).sample(1000, 3))
    assert (samples != estimator.sample(1000, random_state=4)).any()
    if loss == "log_loss":
        assert samples.min() >= 0
        assert samples.max() <= 1
    codes = np.random.RandomState(3).standard_normal((1000, 2))
    expected = estimator.inverse_transform(codes)
    np.testing.assert_allclose(samples, expected, rtol=1e-6)
    assert estimator.sample().shape == (1, 6)


def test_beta_weighs_reconstruction_against_divergence():
    X = make_data()
    found = [make(beta=beta, max_iter=200).fit(X) for beta in (0.01, 0.1, 1.0)]
    assert found[0].kl_curve_[-1] > found[1].kl_curve_[-1] > found[2].kl_curve_[-1]
    assert found[0].score(X) > found[2].score(X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("beta", -0.1), ("kl_warmup", -1), ("kl_warmup", 0.5)),
        *(("loss", "poisson"), ("solver", "lbfgs"), ("init", "pca")),
    ],
)
def test_bad_parameter_values(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of Variational"):
        make(**{name: value}).fit(make_data())


def test_elbo_of_roundings_out_of_range():
    X = make_data(loss="log_loss")
    X[3, 2] = 1.0
    estimator = make(loss="log_loss").fit(X)
    rounded = X.copy()
    rounded[3, 2] = 1 + 2e-16
    expected = estimator.elbo(X)
    np.testing.assert_allclose(estimator.elbo(rounded), expected, rtol=1e-12)
    assert rounded[3, 2] > 1
