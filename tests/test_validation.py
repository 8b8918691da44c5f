"""What fit refuses: bad data, bad parameters, data out of a loss' range."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.preprocessing import MinMaxScaler

from .support.cases import ACTIVATION_NAMES, LOSS_NAMES, make, make_data
from .support.fits import assert_same_fit

BAD_DATA = {
    "inf": (np.array([[1.0, np.inf], [2, 3]]), "contains infinity"),
    "1-D": (np.ones(4), "Expected 2D array, got 1D array"),
    "3-D": (np.ones((2, 2, 2)), "dim"),
    "no rows": (np.ones((0, 2)), r"0 sample\(s\)"),
    "no features": (np.ones((2, 0)), r"0 feature\(s\)"),
    "complex": (np.ones((2, 2)) * 1j, "Complex data not supported"),
    "text": (np.array([["a", "b"]]), "could not convert|dtype"),
    "a Series": (pd.Series([1.0, 2.0]), "Series.*to_frame"),
    "ragged": ([[1.0], [1.0, 2.0]], "inhomogeneous"),
    "a number": (3.0, "got scalar array"),
}


@pytest.mark.parametrize("bad", BAD_DATA)
def test_bad_data(bad):
    X, message = BAD_DATA[bad]
    fitted = make("adam").fit(make_data(n_features=2))
    for call in (
        make("adam").fit,
        make("adam").partial_fit,
        fitted.transform,
        fitted.inverse_transform,
        fitted.score,
        fitted.reconstruction_error,
        fitted.score_samples,
        lambda X: make("adam").fit(make_data(n_features=2), X_val=X),
        make("adam", categorical_features=None).fit,
    )[2 if bad == "text" else 0 :]:  # which is categories to a fit
        with pytest.raises(ValueError, match=message):
            call(X)


@pytest.mark.parametrize(("n_rows", "share"), [(1, 0.2), (3, 0.9), (2, 0.6)])
def test_too_few_rows_to_set_some_aside(n_rows, share):
    estimator = make("early_stopping", validation_fraction=share)
    message = rf"early_stopping=True.*validation_fraction={share}.*n_samples={n_rows}"
    with pytest.raises(ValueError, match=message) as caught:
        estimator.fit(make_data(n_rows))
    assert "test_size" not in str(caught.value)


def validation_rows(X):
    return {
        "too large": (X * 1e200, r"X_val is too large.*loss.*not finite.*same units"),
        "a pair": ((X, np.ones(60)), r"X_val is a tuple .*such as \(X, y\).*X alone"),
        "a list": ([X, X], r"X_val is a list .*such as \(X, y\)"),
        "narrow": (X[:, :3], "X_val has 3 features"),
        "infinity": (np.full((3, 6), np.inf), "Input X_val contains infinity"),
        "text": (
            np.array([["a"] * 6], dtype=object),
            "could not convert .* X_val has to be numbers",
        ),
        "one row": (X[0], "X_val: Expected 2D array, got 1D"),
        "no rows": (X[:0], "X_val: Found array with 0 sample"),
        "sparse": (sparse.csr_matrix(X[:, :3]), "X_val has 3 features"),
        "out of range": (X - 9, "Negative.*X_val has values"),
    }


@pytest.mark.parametrize("bad", validation_rows(np.ones((60, 6))))
def test_bad_validation_rows(bad):
    """What is wrong with X_val is not said of X, nor of the learning rate."""
    loss = "log_loss" if bad == "out of range" else "squared_error"
    X = make_data(loss=loss)
    X_val, message = validation_rows(X)[bad]
    estimator = make("adam", loss=loss)
    for fit in (
        estimator.fit,
        lambda X, **rest: estimator.fit_batches(lambda: [X], **rest),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            fit(X, X_val=X_val)
        assert not re.search(r"\bX (has|is|contains)", str(caught.value))
        assert not hasattr(estimator, "n_features_in_")


@pytest.mark.parametrize("scale", [1e160, 1e300, 1e-160, 1e-300])
def test_scale_far_from_the_data(scale):
    with pytest.raises(ValueError, match=re.escape(f"scale={scale!r} is too far from")):
        make("adam", scale=scale).fit(make_data())


def test_wrong_number_of_features():
    fitted = make("adam", n_components=3).fit(make_data())
    X = make_data(n_features=5)
    for call in (fitted.transform, fitted.score, fitted.reconstruction_error):
        with pytest.raises(ValueError, match=r"5 features.* expecting 6"):
            call(X)
    with pytest.raises(ValueError, match=r"5 features.*n_components=3"):
        fitted.inverse_transform(X)
    with pytest.raises(ValueError, match=r"5 features.* expecting 6") as caught:
        make("adam").fit(make_data(), X_val=X)
    assert "X_val has" in str(caught.value)


@pytest.mark.parametrize("as_given", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("part", ["X", "X_val"])
@pytest.mark.parametrize(
    ("loss", "low", "high", "message"),
    [
        ("log_loss", -0.5, 1.0, r"Negative.*\[0, 1\].*-0\.5 to 1"),
        ("log_loss", 0.0, 1.5, r"above 1.*\[0, 1\].*0 to 1\.5"),
        ("log_loss", 0.0, 1 + 1e-12, r"above 1.*0 to 1\.000000000001"),
        ("poisson", -2.0, 7.0, r"Negative.*>= 0.*-2 to 7"),
    ],
)
def test_data_out_of_range(loss, low, high, message, part, as_given):
    estimator = make("adam", loss=loss)
    good = make_data(loss="log_loss")
    bad = good.copy()
    bad[3, 2], bad[5, 1] = low, high
    X, X_val = (bad, None) if part == "X" else (good, as_given(bad))
    with pytest.raises(ValueError, match=message) as caught:
        estimator.fit(as_given(X), X_val=X_val)
    assert "MinMaxScaler" in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "dtype", "as_given"),
    [
        ("log_loss", np.float64, np.asarray),
        ("log_loss", np.float32, sparse.csc_matrix),
        ("poisson", np.float32, np.asarray),
    ],
)
def test_roundings_out_of_range(loss, dtype, as_given, tmp_path):
    """MinMaxScaler makes them; the network is trained on, and judged by, the bound."""
    exact = make_data(loss="log_loss").astype(dtype)
    exact[3, 2], exact[5, 1], exact[7, 0] = 0, 1, 1
    X, eps = exact.copy(), np.finfo(dtype).eps
    X[3, 2] = -eps
    if loss == "log_loss":
        X[5, 1], X[7, 0] = 1 + eps, 1 + 200 * eps
    np.save(tmp_path / "rows.npy", X)
    given = as_given(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    expected = make("adam", loss=loss, max_iter=3).fit(exact, X_val=exact)
    estimator = clone(expected).fit(given, X_val=given)
    assert_same_fit(estimator, expected)
    np.testing.assert_array_equal(
        estimator.reconstruction_error(given, metric="loss"),
        expected.reconstruction_error(exact, metric="loss"),
    )
    # A row by itself is as small as its neighbours let it be.
    row = estimator.reconstruction_error(given[3:4] * 1, metric="loss")
    assert np.isfinite(row).all()
    assert (np.load(tmp_path / "rows.npy") == X).all()
    batches = clone(expected).set_params(shuffle=False)
    whole = clone(batches).fit(exact)
    assert_same_fit(batches.fit_batches(lambda: [given[:30], given[30:]]), whole)
    batches, whole = clone(expected), clone(expected)
    assert_same_fit(batches.partial_fit(given), whole.partial_fit(exact))


def test_what_minmax_scaler_makes_is_in_range(dtype):
    rng = np.random.default_rng(0)
    X = np.hstack([rng.random((50, 1000)) + offset for offset in (0, 9, 66, 200)])
    X = MinMaxScaler().fit_transform((3.7 * X).astype(dtype))
    assert X.max() > 1  # else the test tells nothing
    make("log_loss", max_iter=1).fit(X)


@pytest.mark.parametrize("output", ACTIVATION_NAMES)
def test_output_activations_of_losses(output):
    X = make_data(loss="log_loss")
    for loss in LOSS_NAMES:
        estimator = make("adam", loss=loss, output_activation=output, max_iter=2)
        legal = {"log_loss": "logistic", "poisson": "softplus"}.get(loss, output)
        if output == legal:
            assert np.isfinite(estimator.fit(X).score(X))
            continue
        with pytest.raises(ValueError, match=f"{loss!r}.*{output!r}.*{legal!r}"):
            estimator.fit(X)


def test_sigmoid_is_logistic():
    X = make_data(loss="log_loss")
    names = ("activation", "code_activation", "output_activation")
    fits = [
        make("log_loss", **dict.fromkeys(names, name)).fit(X)
        for name in ("logistic", "sigmoid")
    ]
    assert_same_fit(*fits)


@pytest.mark.parametrize("activation", [("relu",), ("relu",) * 3, ("relu", "cube"), ()])
def test_bad_activation_sequences(activation):
    estimator = make("deep", activation=activation)
    with pytest.raises(
        ValueError, match=r"activation=\(.*each of the 2 hidden layers.*gelu"
    ):
        estimator.fit(make_data())


BAD_VALUES = {
    "n_components": (0, 1.5, "mle"),
    **dict.fromkeys(("activation", "code_activation", "output_activation"), ("cube",)),
    **{"loss": ("hinge",), "init": ("zeros",), "solver": ("newton",)},
    **dict.fromkeys(("tied_weights", "shuffle", "nesterovs_momentum"), ("yes",)),
    **dict.fromkeys(("early_stopping", "warm_start", "random_state"), ("yes",)),
    **dict.fromkeys(("alpha", "decay", "power_t", "tol", "sparsity_weight"), (-1,)),
    **dict.fromkeys(("verbose", "noise_level"), (-1,)),
    **{"batch_size": (0, "all"), "learning_rate": ("fast",), "momentum": (1.1,)},
    **dict.fromkeys(("beta_1", "beta_2"), (1.0,)),
    **dict.fromkeys(("learning_rate_init", "epsilon"), (0,)),
    **dict.fromkeys(("max_iter", "n_iter_no_change"), (0,)),
    **dict.fromkeys(("validation_fraction", "sparsity_target"), (0.0, 1.0)),
    **{"noise": ("pink",), "sparsity": ("l2",), "pretrain": ("deep",)},
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_bad_parameter_values(name):
    for value in BAD_VALUES[name]:
        with pytest.raises(ValueError, match=f"The '{name}' parameter of Autoencoder"):
            make("adam", **{name: value}).fit(make_data())
