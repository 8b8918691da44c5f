"""Missing values, NaN: what estimators do with them."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer
from skae.metrics import reconstruction_r2

from .support import reference
from .support.cases import (
    ALL_CASES,
    RESTARTS,
    SMALL,
    data_for,
    draws_for_rows,
    make,
    make_data,
    weighted_by,
)
from .support.checkpoints import assert_finishes, needs_callbacks
from .support.fits import activations_of, network_input


def lacking(X, share=0.2, seed=0):
    return np.where(np.random.default_rng(seed).random(X.shape) < share, np.nan, X)


def reconstruct(estimator, X):
    return estimator.inverse_transform(estimator.transform(X))


def gaussian_of(estimator):
    return [estimator._gaussian[name] for name in ("mean", "loadings", "noise")]


@pytest.mark.parametrize("name", ALL_CASES)
def test_every_configuration(name):
    """The network sees expectations, and is judged by what is observed."""
    estimator = make(name)
    X = lacking(data_for(estimator))
    estimator.fit(X)
    is_missing = np.isnan(X)
    seen = reference.expected(network_input(estimator, X), *gaussian_of(estimator))
    coefs, intercepts = estimator.coefs_, estimator.intercepts_
    middle = len(coefs) // 2
    names = [*["tanh"] * 9] if name == "variational_deep" else activations_of(estimator)
    if name not in ("variational", "variational_deep", "variational_log_loss"):
        layers, _ = reference.forward(seen, coefs, intercepts, names)
        np.testing.assert_allclose(estimator.transform(X), layers[middle], atol=1e-7)
    restored = reconstruct(estimator, X)
    assert np.isfinite(restored).all()
    squares = (X - restored) ** 2
    errors = estimator.reconstruction_error(X, per_feature=True)
    np.testing.assert_array_equal(np.isnan(errors), is_missing)
    np.testing.assert_allclose(errors, squares, atol=1e-12)
    sums = np.nanmean(squares, axis=1) * X.shape[1]
    np.testing.assert_allclose(estimator.reconstruction_error(X), sums)
    np.testing.assert_allclose(estimator.score_samples(X), -sums)
    deviations = (X - np.nanmean(X, axis=0)) ** 2
    if estimator.early_stopping is not True:  # the mean is that of the training rows
        np.testing.assert_allclose(estimator.mean_, np.nanmean(X, axis=0))
        r2 = 1 - np.nansum(squares) / np.nansum(deviations)
        assert estimator.score(X) == pytest.approx(r2)
    losses = estimator.reconstruction_error(X, metric="loss", per_feature=True)
    params = estimator.get_params()
    is_plain = not draws_for_rows(params) and params["sparsity"] is None
    if is_plain and estimator.alpha in (0, "auto") and not estimator.early_stopping:
        assert np.nansum(losses) / len(X) <= estimator.initial_loss_


@pytest.mark.parametrize("name", ALL_CASES)
def test_every_way_to_fit_gives_the_same_bits(name, tmp_path):
    estimator = make(name, shuffle=False)
    X = lacking(data_for(estimator))
    estimator.fit(X)
    code = estimator.transform(X)
    mapped = np.memmap(tmp_path / "X", X.dtype, "w+", shape=X.shape)
    mapped[:] = X
    for fit in (
        lambda other: other.fit(sparse.csr_matrix(X)),
        lambda other: other.fit(mapped),
        lambda other: other.fit_batches(lambda: np.array_split(X, 7)),
    ):
        other = fit(clone(estimator))
        np.testing.assert_array_equal(other._params, estimator._params)
        np.testing.assert_array_equal(other.transform(sparse.csr_matrix(X)), code)
    by_row = np.vstack([estimator.transform(row[np.newaxis]) for row in X])
    np.testing.assert_array_equal(by_row, code)
    copy = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(copy.transform(X), code)


@pytest.mark.parametrize("name", ["default", "variational"])
def test_files(name, tmp_path):
    pytest.importorskip("safetensors")
    from skae.io import load, save

    X, path = lacking(make_data()), tmp_path / "model.safetensors"
    estimator = make(name, warm_start=True, n_iter_no_change=99).fit(X)
    save(estimator, path)
    loaded = load(path)
    np.testing.assert_array_equal(loaded.transform(X), estimator.transform(X))
    loaded.fit(X)
    estimator.fit(X)
    np.testing.assert_array_equal(loaded._params, estimator._params)


@pytest.mark.parametrize("name", ["default", "adam", "lbfgs", "variational"])
def test_two_fits_are_one_of_twice_the_length(name):
    assert name != RESTARTS
    how = {"max_iter": 6, "tol": 1e-12, "warm_start": True, "n_iter_no_change": 99}
    twice, once = make(name, **how), make(name, **{**how, "max_iter": 12})
    X = lacking(make_data())
    twice.fit(X).fit(X)
    once.fit(X)
    assert twice.loss_curve_ == once.loss_curve_
    np.testing.assert_array_equal(twice.transform(X), once.transform(X))


def test_weights_are_repetitions():
    X, rng = lacking(make_data()), np.random.default_rng(0)
    weights = rng.integers(1, 4, len(X)).astype(float)
    by_weight = make("lbfgs", init="pca").fit(X, **weighted_by(weights))
    repeated = np.repeat(X, weights.astype(int), axis=0)
    by_repetition = make("lbfgs", init="pca").fit(repeated)
    np.testing.assert_allclose(by_weight.mean_, by_repetition.mean_)
    assert by_weight.scale_ == pytest.approx(by_repetition.scale_)
    assert by_weight.loss_ == pytest.approx(by_repetition.loss_, rel=1e-5)


def linear_data(n_rows=400, n_features=12, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, 3)) @ rng.standard_normal((3, n_features))
    return X + 0.3 * rng.standard_normal(X.shape) + 5


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_pca_of_incomplete_data(share):
    """Complete samples are reconstructed better than by PCA on mean-imputed data."""
    X, new = linear_data(), linear_data(2000, seed=1)
    new = new - linear_data(2000, seed=1).mean(axis=0) + X.mean(axis=0)
    rng = np.random.default_rng(2)
    both = np.vstack([X, rng.permutation(X)])[: len(X)]
    train, test = both[:200], both[200:]
    incomplete = lacking(train, share)
    pca = AutoencoderTransformer(3, random_state=0, max_iter=1, early_stopping=False)
    pca.set_params(init="pca", solver="sgd", learning_rate_init=1e-300)
    pca.fit(incomplete)
    imputed = np.where(np.isnan(incomplete), np.nanmean(incomplete, axis=0), incomplete)
    on_means = PCA(3).fit(imputed)
    error = ((test - reconstruct(pca, test)) ** 2).sum()
    of_means = ((test - reconstruct(on_means, test)) ** 2).sum()
    of_complete = ((test - reconstruct(PCA(3).fit(train), test)) ** 2).sum()
    assert error < of_means
    assert error < 1.1 * of_complete
    # What is missing is predicted from the rest.
    incomplete = lacking(test, share)
    lacks = np.isnan(incomplete)
    filled = reconstruct(pca, incomplete)
    assert ((filled - test)[lacks] ** 2).mean() < 0.5 * test.var(axis=0).mean()


def fitted(X=None, **params):
    X = lacking(make_data()) if X is None else X
    return AutoencoderTransformer(2, **{**SMALL, **params}).fit(X)


def test_complete_data_in_a_model_of_incomplete_data():
    X = make_data()
    estimator = fitted()
    layers, _ = reference.forward(
        network_input(estimator, X),
        estimator.coefs_,
        estimator.intercepts_,
        activations_of(estimator),
    )
    np.testing.assert_allclose(estimator.transform(X), layers[2], atol=1e-8)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "poisson"])
def test_incomplete_data_in_a_model_of_complete_data(loss):
    """The mean is in place of what is missing."""
    X = make_data(loss=loss)
    estimator, incomplete = fitted(X, loss=loss), lacking(X)
    means = np.where(np.isnan(incomplete), estimator.mean_, incomplete)
    expected = estimator.transform(means)
    np.testing.assert_allclose(estimator.transform(incomplete), expected, rtol=1e-9)
    estimator.partial_fit(incomplete)
    assert estimator._gaussian is None
    assert np.isfinite(estimator.score(incomplete))


def test_a_sample_without_entries():
    X = lacking(make_data())
    X[3] = np.nan
    estimator = fitted(X)
    assert np.isfinite(estimator.transform(X)).all()
    assert np.isnan(estimator.score_samples(X)).tolist() == [i == 3 for i in range(60)]
    assert np.isfinite(estimator.score(X))
    # It counts only in the number of samples.
    mean = np.nanmean(X, axis=0)
    np.testing.assert_allclose(estimator.mean_, mean)


@pytest.mark.parametrize("params", [{}, {"init": "pca"}, {"init": "normal"}])
def test_a_feature_without_entries(params):
    """It has no influence, neither in the fit nor later, and is reconstructed as 0."""
    X = lacking(make_data())
    X[:, 4] = np.nan
    estimator = fitted(X, **params)
    code = estimator.transform(X)
    with_values = X.copy()
    with_values[:, 4] = 1e6
    np.testing.assert_allclose(estimator.transform(with_values), code, rtol=1e-10)
    assert (estimator.inverse_transform(code)[:, 4] == 0).all()
    assert estimator.mean_[4] == 0
    others = [0, 1, 2, 3, 5]
    assert estimator.scale_ == pytest.approx(
        np.sqrt(np.nanvar(X[:, others], axis=0).mean())
    )


@pytest.mark.parametrize(
    ("params", "value"),
    [({"output_activation": "sigmoid"}, 0.5), ({"loss": "log_loss"}, 0.5)],
)
def test_a_feature_without_entries_after_an_activation(params, value):
    X = lacking(make_data(loss="log_loss"))
    X[:, 4] = np.nan
    estimator = fitted(X, **params)
    assert (reconstruct(estimator, X)[:, 4] == value).all()


def test_nothing_is_observed():
    nothing = np.full((5, 6), np.nan)
    with pytest.raises(ValueError, match="X has no observed entry"):
        fitted(nothing)
    X = lacking(make_data())
    estimator = fitted(X)
    for fails in (
        lambda: estimator.score(nothing),
        lambda: estimator.score(sparse.csr_array(nothing)),
        lambda: estimator.score(
            np.vstack([nothing, X[:1]]), sample_weight=[1, 1, 1, 1, 1, 0]
        ),
        lambda: clone(estimator).fit(X, X_val=nothing),
        lambda: clone(estimator).fit(X, X_val=sparse.csr_array(nothing)),
    ):
        with pytest.raises(ValueError, match="has no observed entry: all are NaN"):
            fails()
    assert np.isfinite(estimator.score(np.vstack([nothing, X[:1]])))
    one_zero = sparse.csr_array(np.where(np.arange(6) == 1, 0, nothing))
    assert np.isfinite(estimator.score(one_zero))


@pytest.mark.parametrize("n_features", [800, 2500])
def test_a_share_of_the_variance_of_many_features(n_features):
    """Few rows must not decide how many components there are."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((400, 30)) * np.geomspace(1, 0.3, 30)
    X = scores @ rng.standard_normal((30, n_features))
    X += 0.1 * rng.standard_normal(X.shape)
    options = {"hidden_layer_sizes": (), "max_iter": 1, "random_state": 0}
    complete = AutoencoderTransformer(0.9, **options).fit(X)
    incomplete = AutoencoderTransformer(0.9, **options).fit(lacking(X, 0.05))
    assert abs(complete.n_components_ - incomplete.n_components_) <= 2


@pytest.mark.parametrize("share", [0.01, 0.95])
@pytest.mark.parametrize(
    "kind", [AutoencoderTransformer, VariationalAutoencoderTransformer]
)
def test_few_and_many_missing_entries(kind, share):
    X = lacking(make_data(200), share)
    estimator = kind(2, random_state=0).fit(X)
    assert np.isfinite(estimator.transform(X)).all()
    assert np.isfinite(estimator.score(X))


def test_one_gap_and_one_value():
    X = make_data()
    X[7, 0] = np.nan
    X[1:, 1] = np.nan
    estimator = fitted(X)
    assert estimator.mean_[1] == X[0, 1]
    assert np.isfinite(reconstruct(estimator, X)).all()
    assert not np.isnan(X).any(axis=1).all()
    everywhere = make_data()
    everywhere[np.arange(60), np.arange(60) % 6] = np.nan  # no row is complete
    assert fitted(everywhere, init="pca").score(everywhere) > 0.5


def test_infinity_is_an_error():
    X = lacking(make_data())
    estimator = fitted(X)
    X[5, 5] = -np.inf
    for call in (fitted, estimator.transform, estimator.score, estimator.partial_fit):
        for container in (np.asarray, sparse.csr_array):
            with pytest.raises(ValueError, match="Input X contains infinity"):
                call(container(X))
    with pytest.raises(ValueError, match="Input X_val contains infinity"):
        clone(estimator).fit(lacking(make_data()), X_val=X)


def test_text_is_an_error():
    """Also where it means that a value is missing: that is NaN, or None."""
    X = lacking(make_data()).astype(object)
    estimator = fitted(X)
    for text in ("NA", "", "?"):
        X[5, 5] = text
        for call in (fitted, estimator.transform):
            with pytest.raises(ValueError, match=r"float: .* one is NaN, None or pand"):
                call(X)


@pytest.mark.parametrize("loss", ["log_loss", "poisson"])
def test_the_range_of_a_loss_is_that_of_observed_entries(loss):
    X = lacking(make_data(loss=loss))
    estimator = fitted(X, loss=loss)
    X[0, :] = -1
    with pytest.raises(ValueError, match="Negative values"):
        fitted(X, loss=loss)
    with pytest.raises(ValueError, match="Negative values"):
        estimator.reconstruction_error(X, metric="loss")


def test_validation_data():
    X = make_data()
    for train, validation in ((X, lacking(X)), (lacking(X), X)):
        estimator = AutoencoderTransformer(2, **SMALL).fit(train, X_val=validation)
        assert np.isfinite(estimator.validation_loss_curve_).all()
        losses = estimator.reconstruction_error(
            validation, metric="loss", per_feature=True
        )
        best = np.nansum(losses) / len(X)
        assert best == pytest.approx(min(estimator.validation_loss_curve_), rel=1e-6)


def test_partial_fit():
    X = lacking(make_data(300))
    estimator = AutoencoderTransformer(2, random_state=0)
    for start in range(0, 300, 50):
        estimator.partial_fit(X[start : start + 50])
    assert estimator.score(X) > 0
    # After a single sample, which determines no scale, the next call begins anew.
    late = AutoencoderTransformer(2, random_state=0).partial_fit(X[:1])
    late.partial_fit(X[1:])
    np.testing.assert_allclose(late.mean_, np.nanmean(X[1:], axis=0))


def test_elbo():
    """The bound of the observed entries' density."""
    X = make_data(200)
    X[:, 2] = np.random.default_rng(0).standard_normal(200)
    estimator = VariationalAutoencoderTransformer(2, random_state=0).fit(lacking(X))
    elbo, without = estimator.elbo(X), X.copy()
    without[:, 2] = np.nan
    assert np.isfinite(estimator.elbo(without)).all()
    # A feature that tells nothing of the others costs its own density.
    difference = (estimator.elbo(without) - elbo).mean()
    own = np.log(estimator.scale_) + np.log(2 * np.pi) / 2
    own += (X[:, 2].var() / estimator.scale_**2) / 2
    assert difference == pytest.approx(own, rel=0.2)


@pytest.mark.parametrize("n_rows", [2, 3])
@pytest.mark.parametrize("params", [SMALL, {"random_state": 0}])
def test_few_samples(n_rows, params):
    X = lacking(make_data())[[0, 2, 5][:n_rows]]
    assert np.isnan(X).any(axis=1).all()
    estimator = AutoencoderTransformer(1, **params).fit(X)
    assert np.isfinite(reconstruct(estimator, X)).all()
    assert np.isfinite(estimator.score(X))


def test_the_only_values_of_a_feature_have_no_weight():
    """It is as a feature without entries."""
    X = lacking(make_data())
    X[5:, 4] = np.nan
    X[:5, 4] = np.arange(5) + 10
    weights = np.where(np.arange(60) < 5, 0.0, 1.0)
    estimator = fitted(X, init="pca", early_stopping=False)
    estimator.fit(X, sample_weight=weights)
    assert estimator.mean_[4] == 0
    without = fitted(X[5:], init="pca", early_stopping=False)
    np.testing.assert_allclose(estimator.mean_, without.mean_)
    assert estimator.scale_ == pytest.approx(without.scale_)
    code = estimator.transform(X)
    assert (estimator.inverse_transform(code)[:, 4] == 0).all()
    X[:5, 4] = np.nan
    np.testing.assert_allclose(estimator.transform(X), code, rtol=1e-9)


@pytest.mark.parametrize(
    "kind", [AutoencoderTransformer, VariationalAutoencoderTransformer]
)
def test_early_stopping(kind):
    """Held-out samples are judged by what is observed of them."""
    X = lacking(make_data(200))
    X[::10] = np.nan
    estimator = kind(2, random_state=0, early_stopping=True).fit(X)
    assert np.isfinite(estimator.validation_loss_curve_).all()
    assert min(estimator.validation_loss_curve_) > 0
    assert estimator.score(X) > 0


@pytest.mark.parametrize("complete", [0, 1])
def test_partial_fit_of_complete_and_incomplete_batches(complete):
    X = make_data(300)
    batches = np.array_split(X, 6)
    batches = [
        batch if i % 2 == complete else lacking(batch)
        for i, batch in enumerate(batches)
    ]
    estimator = AutoencoderTransformer(2, random_state=0)
    for batch in batches:
        estimator.partial_fit(batch)
    # The distribution is that of the first batch, if it was incomplete.
    assert (estimator._gaussian is None) == (complete == 0)
    np.testing.assert_allclose(estimator.mean_, np.nanmean(batches[0], axis=0))
    assert estimator.score(X) > 0
    assert estimator.score(lacking(X)) > 0


def test_float32():
    X = lacking(make_data())
    estimator, single = fitted(X, init="pca"), fitted(X.astype("f4"), init="pca")
    for method in ("transform", "reconstruction_error", "score_samples"):
        out = getattr(single, method)(X.astype("f4"))
        assert out.dtype == np.float32
        np.testing.assert_allclose(
            out, getattr(estimator, method)(X), rtol=1e-2, atol=1e-3
        )
    with pytest.raises(ValueError, match="infinity or a value too large for dtype"):
        single.transform(np.where(np.isnan(X), X, 1e39))


@pytest.mark.parametrize(
    "kind", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array]
)
def test_sparse_zeros_are_values(kind):
    X = make_data()
    X = lacking(np.where(np.abs(X - X.mean(axis=0)) < 0.5 * X.std(axis=0), 0, X))
    estimator, given = fitted(X), kind(X)
    assert given.nnz < X.size - 20
    other = fitted(given)
    np.testing.assert_array_equal(other._params, estimator._params)
    np.testing.assert_array_equal(other.transform(given), estimator.transform(X))
    assert other.score(given) == estimator.score(X)
    assert np.isnan(given.toarray()).sum() == np.isnan(X).sum()


def test_within_scikit_learn():
    """Pipelines, searches and other tools pass gaps on."""
    X = lacking(make_data())
    estimator = AutoencoderTransformer(2, **SMALL)
    scaled = make_pipeline(StandardScaler(), estimator)
    scores = cross_val_score(scaled, X, cv=3, error_score="raise")
    assert np.isfinite(scores).all()
    for scoring in (None, reconstruction_r2):
        grid = {"autoencodertransformer__n_components": [1, 3]}
        search = GridSearchCV(scaled, grid, scoring=scoring, cv=3, error_score="raise")
        assert search.fit(X).best_params_ == {**grid, next(iter(grid)): 3}
    columns = ColumnTransformer(
        [("code", estimator, [0, 1, 2, 3])], remainder="passthrough"
    )
    together = columns.fit_transform(X)
    expected = clone(estimator).fit_transform(X[:, :4])
    np.testing.assert_array_equal(together, np.hstack([expected, X[:, 4:]]))
    X[:, 3] = np.where(np.arange(60) < 30, np.nan, 1e-3 * X[:, 3])
    fit = AutoencoderTransformer(2, random_state=0).fit(X)
    importances = permutation_importance(
        fit, X, X, scoring=reconstruction_r2, random_state=0
    ).importances_mean
    assert np.isfinite(importances).all()
    assert importances[3] < np.delete(importances, 3).min()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output(library):
    module = pytest.importorskip(library)
    X = lacking(make_data())
    columns = {name: list(x) for name, x in zip("abcdef", X.T, strict=True)}
    frame = module.DataFrame(columns)
    if library == "polars":
        frame = frame.fill_nan(None)
    estimator = AutoencoderTransformer(2, **SMALL).set_output(transform=library)
    code = estimator.fit_transform(frame)
    assert isinstance(code, module.DataFrame)
    np.testing.assert_array_equal(code.to_numpy(), fitted().transform(X))


@needs_callbacks
@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_checkpoints(name, tmp_path):
    """A fit that was cut short, and is finished, has the same bits."""
    pytest.importorskip("safetensors")
    estimator = make(name, max_iter=8, tol=1e-12, n_iter_no_change=99)
    X = lacking(make_data())
    assert_finishes(estimator, X, tmp_path / "model.safetensors", 3)


@pytest.mark.parametrize("container", ["Float64", "object", "None", "string", "Sparse"])
def test_frames(container):
    """Nullable columns, objects and text as scikit-learn takes them."""
    pd = pytest.importorskip("pandas")
    X = lacking(make_data())
    frame = pd.DataFrame(X, columns=list("abcdef"))
    if container == "Float64":
        frame = frame.convert_dtypes().astype("Float64")
        assert frame.isna().to_numpy().sum() == np.isnan(X).sum()
    elif container == "string":
        frame["b"] = frame["b"].astype("string")
        frame["c"] = frame["c"].astype("Float64")
    elif container == "Sparse":
        frame = frame.astype("Sparse[float64]")  # its fill value is NaN
    else:
        missing = pd.NA if container == "object" else None
        frame = frame.astype(object).where(frame.notna(), missing)
    # Else text is of categories.
    how = {"categorical_features": None} if container == "string" else {}
    estimator = fitted(frame, **how)
    np.testing.assert_array_equal(estimator.transform(frame), fitted().transform(X))
