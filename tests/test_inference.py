"""Codes, scores and reconstruction errors of a fitted estimator."""

import functools

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skae import AutoencoderTransformer
from skae._base.fits import autoencoder as base
from skae._data import rows as rows_module
from skae._data import validation
from skae._data.rows import make_rows
from skae._model import inference
from skae._model.network import make_network

from .support import reference
from .support.cases import (
    ACTIVATION_NAMES,
    ALL_CASES,
    data_for,
    draws_for_rows,
    make,
    make_data,
)
from .support.fits import naive_output, network_input, objective_of, reconstruct
from .support.processes import allowed
from .support.threaded import DTYPES, data, fitted


@pytest.mark.parametrize("name", ALL_CASES)
def test_reconstruction_error(name):
    estimator = make(name)
    X = data_for(estimator)
    estimator.fit(X)
    reconstructed = reconstruct(estimator, X)
    target, output = network_input(estimator, X), naive_output(estimator, X)
    loss_of = reference.LOSSES[estimator.loss][0]
    for metric, expected in {
        "squared_error": (X - reconstructed) ** 2,
        "absolute_error": np.abs(X - reconstructed),
        "loss": loss_of(output, target),
    }.items():
        entries = estimator.reconstruction_error(X, metric=metric, per_feature=True)
        atol = 1e-10 * np.abs(expected).max()
        np.testing.assert_allclose(entries, expected, rtol=0, atol=atol)
        rows = estimator.reconstruction_error(X, metric=metric)
        np.testing.assert_allclose(rows, expected.sum(axis=1), rtol=1e-10)
    np.testing.assert_array_equal(
        estimator.score_samples(X), -estimator.reconstruction_error(X)
    )
    params = estimator.get_params()
    if not draws_for_rows(params) and params["sparsity"] is None:
        mean_loss = estimator.reconstruction_error(X, metric="loss").mean()
        objective = objective_of(estimator.set_params(alpha=0.0), X)
        assert mean_loss == pytest.approx(objective, rel=1e-10)


@pytest.mark.parametrize("name", ["deep", "poisson", "variational"])
def test_score(name):
    estimator = make(name)
    X, X_new = data_for(estimator), data_for(estimator, seed=1, n_rows=31)
    estimator.fit(X)
    squares = (X_new - reconstruct(estimator, X_new)) ** 2
    # Of the training data, not of those that are scored.
    spread = (X_new - estimator.mean_) ** 2
    score = estimator.score(X_new)
    assert isinstance(score, float)
    assert score == pytest.approx(1 - squares.sum() / spread.sum(), rel=1e-10)
    weights = np.arange(31) % 4
    expected = 1 - (weights @ squares).sum() / (weights @ spread).sum()
    assert estimator.score(X_new, sample_weight=weights) == pytest.approx(expected)
    repeated = estimator.score(np.repeat(X_new, weights, axis=0))
    assert repeated == pytest.approx(expected)


@pytest.mark.parametrize(
    ("dtype", "tiny", "huge"), [(np.float32, 1e-26, 1e25), (np.float64, 1e-170, 1e160)]
)
def test_squared_errors_beyond_the_range(dtype, tiny, huge):
    """Below it they are refused, above it infinite."""
    X = make_data(50)
    small, X = (tiny * X).astype(dtype), X.astype(dtype)
    estimator, expected = make("adam").fit(small), make("adam").fit(X)
    for call in (estimator.reconstruction_error, estimator.score_samples):
        with pytest.raises(ValueError, match=r"squared er.*metric='absolute_error'"):
            call(small)
    errors = estimator.reconstruction_error(small, metric="absolute_error") / tiny
    expected_errors = expected.reconstruction_error(X, metric="absolute_error")
    np.testing.assert_allclose(errors, expected_errors, rtol=1e-3)
    far = np.vstack([X, X[:1] * dtype(huge)])
    errors = expected.reconstruction_error(far)
    assert errors[50] == np.inf
    assert np.isfinite(errors[:50]).all()
    assert expected.score(far) <= 1


def test_values_out_of_the_range_of_the_dtype(dtype):
    """Finite rows or codes do not become NaN."""
    X = make_data().astype(dtype)
    estimator = make("adam").fit(X)
    signs = np.where(np.arange(6) % 2, -1, 1)
    rows = (np.finfo(dtype).max * signs * [[1.0], [0.3]]).astype(dtype)
    codes = rows[:, :2] * np.sign(rows[:, :2])
    for method, what, given in (
        (estimator.transform, "codes", np.vstack([X[:3], rows])),
        (estimator.inverse_transform, "reconstructions", np.vstack([codes, codes])),
    ):
        message = f"X is too large: its {what} are out of the range of {X.dtype}"
        with pytest.raises(ValueError, match=message):
            method(given)
    errors = estimator.reconstruction_error(np.vstack([X[:3], rows]))
    assert np.isfinite(errors[:3]).all()
    assert (errors[3:] == np.inf).all()
    assert not np.isnan(estimator.reconstruction_error(rows, metric="loss")).any()
    assert estimator.score(rows) <= 1


@pytest.mark.parametrize("n_threads", [1, 4])
@pytest.mark.parametrize("as_given", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_transform_finds_what_is_infinite(bad, as_given, n_threads, monkeypatch):
    """It shows in the sum of what the kernel reads."""
    monkeypatch.setattr(inference, "n_threads_for", lambda *args: n_threads)
    X = make_data(3000).astype(np.float32)
    fitted = make("logistic_code").fit(X)
    for row in (0, 1500, 2999):
        broken = X.copy()
        broken[row, -1], broken[row, 0] = bad, -bad
        with pytest.raises(ValueError, match="Input X contains") as expected:
            clone(fitted).fit(as_given(broken))
        with pytest.raises(ValueError, match="Input X contains") as found:
            fitted.transform(as_given(broken))
        assert str(found.value) == str(expected.value)
    X[:100, 0] = 2e38  # whose sum is infinite
    assert np.isfinite(fitted.transform(as_given(X))).all()


def test_transform_reads_finite_data_once(monkeypatch):
    fitted = make("adam").fit(make_data())

    def fails(*args, **kwargs):
        raise AssertionError("looked for infinity once more")

    monkeypatch.setattr(base, "assert_all_finite", fails)
    monkeypatch.setattr(validation, "lowest_and_highest", fails)
    fitted.transform(make_data())
    with pytest.raises(AssertionError, match="once more"):
        fitted.score(make_data())


def test_not_fitted():
    estimator = make("adam")
    for call in (
        estimator.transform,
        estimator.inverse_transform,
        estimator.score,
        estimator.score_samples,
        estimator.reconstruction_error,
    ):
        with pytest.raises(NotFittedError):
            call(make_data())
    for name in ("coefs_", "intercepts_", "loss_", "mean_", "n_components_"):
        assert not hasattr(estimator, name)


@pytest.mark.parametrize("loss", ["log_loss", "poisson"])
def test_the_loss_of_rows_out_of_its_range(loss):
    """An outlier would look most normal."""
    X = make_data(loss="log_loss")
    estimator = make("adam", loss=loss, max_iter=2).fit(X)
    bad = np.where(np.eye(60, 6) > 0, -3.0, X)
    with pytest.raises(ValueError, match=f"Negative.*{loss}.*from -3 to"):
        estimator.reconstruction_error(bad, metric="loss")
    assert np.isfinite(estimator.reconstruction_error(bad)).all()


CHUNKS = (1, 7, 64, 65)


def chunked(function, X, size):
    return np.concatenate(
        [function(X[i : i + size]) for i in range(0, X.shape[0], size)]
    )


@pytest.mark.parametrize(
    ("n_features", "n_components", "dtype", "tied"),
    [(5, 1, np.float32, False), (5, 3, np.float64, True), (257, 1, np.float64, False)],
)
def test_any_chunking_gives_the_same_bits(n_features, n_components, dtype, tied):
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((131, n_features)) * 3 + 1).astype(dtype)
    X[rng.random(X.shape) < 0.3] = 0
    model = AutoencoderTransformer(
        n_components,
        hidden_layer_sizes=(13, 6),
        activation=("tanh", "gelu"),
        tied_weights=tied,
        max_iter=2,
        random_state=0,
    ).fit(X)
    errors = functools.partial(model.reconstruction_error, per_feature=True)
    functions = (
        *(model.transform, model.score_samples),
        *(functools.partial(errors, metric=m) for m in ("absolute_error", "loss")),
    )
    code = model.transform(X)
    cases = [(f, given) for f in functions for given in (X, sparse.csr_matrix(X))]
    for function, given in [*cases, (model.inverse_transform, code)]:
        whole = function(X if given is not code else code)
        assert whole.dtype == dtype
        for size in (*CHUNKS, len(X)):
            found = chunked(function, given, size)
            np.testing.assert_array_equal(found, whole, strict=True)


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
def test_any_chunking_gives_the_same_bits_for_every_activation(activation):
    dtype = DTYPES[ACTIVATION_NAMES.index(activation) % 2]
    X = data("", dtype)[:131, :19]
    model = AutoencoderTransformer(
        2,
        hidden_layer_sizes=(11,),
        activation=activation,
        code_activation=activation,
        output_activation=activation,
        scale=2.0,
        max_iter=1,
        random_state=0,
    ).fit(X)
    code = model.transform(X)
    reconstruction = model.inverse_transform(code)
    for size in CHUNKS:
        found = chunked(model.transform, X, size)
        np.testing.assert_array_equal(found, code, strict=True)
        found = chunked(model.inverse_transform, code, size)
        np.testing.assert_array_equal(found, reconstruction, strict=True)


def test_a_chunk_by_many_threads_is_the_same():
    """A block's rows do not depend on which thread it goes to."""
    X = data()
    model = fitted("minibatch")
    with allowed(1):
        expected = model.transform(X)
    with allowed(4) as sizes:
        for size in (65, 129, 1000):
            np.testing.assert_array_equal(
                chunked(model.transform, X, size), expected, strict=True
            )
    assert 4 in sizes


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("subset", [None, np.array([0, 3, 4, 7, 19, 33])])
@pytest.mark.parametrize("chunk_entries", [2**19, 40, 1])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_code_moments(monkeypatch, kind, weighted, subset, chunk_entries, offset):
    """Those of all rows at once, however they are cut into pieces and chunks."""
    monkeypatch.setattr(rows_module, "_CHUNK_ENTRIES", chunk_entries)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 6)) + offset
    weights = rng.integers(0, 3, 40).astype(float) if weighted else None
    network = make_network([6, 5, 2, 5, 6], ["tanh", "identity"] * 2, tied=False)
    params = rng.standard_normal(network.n_params)
    mean, scale = X.mean(axis=0), 2.0
    matrix = sparse.csr_matrix(X) if kind == "sparse" else X
    rows = make_rows(matrix, mean, scale, subset=subset, weights=weights)
    moments = inference.code_moments(network, params, rows)

    used = np.arange(40) if subset is None else subset
    shares = np.ones(len(used)) if weights is None else weights[used]
    shares /= shares.sum()
    seen = (X[used] - mean) / scale
    code = inference.propagate(inference.encoder(network), params, make_rows(seen))
    centred = code - shares @ code
    weighted_code = centred.T * shares
    np.testing.assert_allclose(moments.mean, shares @ code, rtol=1e-10)
    np.testing.assert_allclose(moments.covariance, weighted_code @ centred, rtol=1e-9)
    np.testing.assert_allclose(
        moments.cross, weighted_code @ seen, rtol=1e-7, atol=1e-10
    )
