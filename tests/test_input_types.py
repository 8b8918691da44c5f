"""Types, layouts and formats of X: arrays, sparse matrices, data frames, odd data."""

import itertools

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from skae import AutoencoderTransformer

from .support.cases import (
    ALL_CASES,
    RANGES,
    data_for,
    is_stochastic,
    make,
    make_data,
    starts_at_random,
    takes_weights,
    weighted_by,
)
from .support.fits import assert_same_fit, make_sparse, reconstruct
from .support.layouts import FORMATS
from .support.memory import peak_memory

NORMAL = np.random.default_rng(0).standard_normal((20, 4))
ODD_DATA = {
    "mean 100": 100 + NORMAL,
    "mean 100, float32": (100 + NORMAL).astype(np.float32),
    "constant features": NORMAL * [1, 0, 1, 0] + [0, 0.1, 0, 0],
    "one feature": NORMAL[:, :1],
    "one sample": NORMAL[:1],
    "two samples": NORMAL[:2],
    "duplicated samples": np.repeat(NORMAL[:2], 10, axis=0),
    "all but one sample equal": np.concatenate([np.ones((19, 4)), NORMAL[:1]]),
    "constant": np.full((7, 4), 0.1),
    "constant, float32": np.full((7, 4), 0.1, dtype=np.float32),
    "zero": np.zeros((20, 4)),
    "tiny": 1e-100 * NORMAL,
    "huge": 1e100 * NORMAL,
}
# What is computed of data, their mean and spread, differs between these.
ODD_NAMES = (
    *("default", "minibatch", "lbfgs", "tied", "pca", "log_loss", "poisson"),
    *("sparse_kl", "pretrained", "cautious", "salt_and_pepper_noise", "variational"),
)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_data(name):
    """With one component more than features, too; any warning would be an error."""
    for data, n_more in itertools.product(ODD_DATA, (None, 1)):
        X = ODD_DATA[data]
        n_components = X.shape[1] + n_more if n_more else 2
        estimator = make(name, n_components=n_components)
        if estimator.loss in RANGES:
            if data == "huge":
                continue  # too large a target for a network's first weights
            X = np.abs(X)
        if estimator.loss == "log_loss":
            X = X / max(X.max(), 1)
        estimator.fit(X)
        for result in (
            estimator.transform(X),
            reconstruct(estimator, X),
            *estimator.coefs_,
            *estimator.intercepts_,
            estimator.loss_curve_,
            estimator.scale_,
            estimator.score(X),
            estimator.score_samples(X) if data != "huge" else 0.0,
        ):
            assert np.isfinite(result).all()
        assert estimator.score(X) <= 1
        for attribute in ("explained_variance_", "explained_variance_ratio_"):
            values = getattr(estimator, attribute, np.zeros(n_components))
            assert values.shape == (n_components,)
            assert np.isfinite(values).all()


@pytest.mark.parametrize("value", [1 / 3, 12345.678])
def test_constant_data_are_reconstructed(value, dtype):
    """The network starts at the mean: nothing is left to explain, and nothing is."""
    X = np.full((7, 3), value, dtype=dtype)
    estimator = make("deep", max_iter=2).fit(X)
    np.testing.assert_allclose(
        reconstruct(estimator, X), X, rtol=8 * np.finfo(dtype).eps
    )
    assert estimator.score(X) in (0.0, 1.0)
    assert estimator.loss_ == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("name", ALL_CASES)
def test_float32(name):
    estimator = make(name)
    X = data_for(estimator)
    X32 = X.astype(np.float32)
    double = clone(estimator).fit(X)
    single = estimator.fit(X32)
    for array in (
        *single.coefs_,
        *single.intercepts_,
        single.mean_,
        single.transform(X32),
        reconstruct(single, X32),
        single.reconstruction_error(X32),
        single.reconstruction_error(X32, metric="loss", per_feature=True),
        # Others are cast to what the network is.
        single.transform(X),
        single.inverse_transform(np.zeros((1, 2))),
    ):
        assert array.dtype == np.float32
    assert double.transform(X32).dtype == np.float64
    if not starts_at_random(estimator.get_params()):
        # What follows are steps along gradients that are roundings.
        assert single.loss_curve_[0] == pytest.approx(double.loss_curve_[0], rel=1e-4)
        return
    assert single.loss_ == pytest.approx(double.loss_, rel=1e-3)
    if estimator.solver != "lbfgs":  # its line searches amplify roundings
        np.testing.assert_allclose(single.loss_curve_, double.loss_curve_, rtol=1e-4)


def test_the_other_byte_order_is_the_same_type(dtype):
    """scikit-learn alone would make float64 of float32."""
    X = make_data().astype(dtype)
    model, expected = (
        AutoencoderTransformer(2, max_iter=3, random_state=0).fit(data)
        for data in (X.astype(X.dtype.newbyteorder()), X)
    )
    assert model.transform(X.astype(X.dtype.newbyteorder())).dtype == dtype
    assert_same_fit(model, expected)


@pytest.mark.parametrize(
    "convert", [np.rint, "int64", "uint8", "float16", "longdouble", "bool", list, ">f8"]
)
def test_other_types_become_float64(convert):
    X = np.abs(np.rint(3 * make_data()))
    if convert is list:
        given = X.tolist()
    elif callable(convert):
        given = convert(X)
    else:
        given = X.astype(convert)
    expected = make("adam").fit(np.asarray(given, dtype=np.float64))
    estimator = make("adam").fit(given)
    assert_same_fit(estimator, expected)
    code = estimator.transform(given)
    assert code.dtype == np.float64
    given = np.asarray(given, dtype=np.float64)
    np.testing.assert_array_equal(code, expected.transform(given))


# Sums over stored entries are in the type of the data.
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, np.float64) for name in ALL_CASES),
        *((name, np.float32) for name in ("minibatch", "lbfgs", "masking_noise")),
    ],
)
def test_sparse_equals_dense(name, dtype):
    estimator = make(name)
    X = make_sparse(estimator.loss, dtype)
    weights = np.arange(1.0, 61) if takes_weights(estimator) else None
    expected = clone(estimator).fit(X, **weighted_by(weights))
    X_csr = sparse.csr_matrix(X)
    estimator.fit(X_csr, **weighted_by(weights))
    assert_same_fit(estimator, expected)
    np.testing.assert_array_equal(estimator.transform(X_csr), expected.transform(X))
    assert estimator.score(X_csr) == expected.score(X)
    for metric in ("squared_error", "absolute_error", "loss"):
        for per_feature in (False, True):
            np.testing.assert_array_equal(
                estimator.reconstruction_error(
                    X_csr, metric=metric, per_feature=per_feature
                ),
                expected.reconstruction_error(
                    X, metric=metric, per_feature=per_feature
                ),
            )
    if is_stochastic(estimator.get_params()):
        assert_same_fit(estimator.partial_fit(X_csr), expected.partial_fit(X))


def test_sparse_with_repeated_and_unsorted_entries():
    """SciPy allows both: repeated entries are summed."""
    X = make_sparse()
    repeated = FORMATS["with duplicates"](X)
    assert repeated.nnz == 2 * X.size
    estimator, expected = make("adam").fit(repeated), make("adam").fit(X)
    assert_same_fit(estimator, expected)
    np.testing.assert_array_equal(estimator.transform(repeated), expected.transform(X))


def test_sparse_data_are_never_dense():
    """They would be 192 MB."""
    X = sparse.random(12_000, 2_000, density=2e-4, format="csr", random_state=0)
    estimator = AutoencoderTransformer(
        2, hidden_layer_sizes=(), max_iter=1, random_state=0
    )

    def use():
        estimator.fit(X).transform(X)
        estimator.score(X)
        estimator.reconstruction_error(X, metric="loss")

    assert peak_memory(use) < 50e6


def test_pandas():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X = make_data()
    frame = pandas.DataFrame(X, columns=list("abcdef"), index=range(100, 160))
    frame = frame.astype({"a": np.float32, "b": "Float64"})
    estimator = make("adam").fit(frame)
    assert estimator.feature_names_in_.tolist() == list("abcdef")
    assert_same_fit(estimator, make("adam").fit(frame.to_numpy(np.float64)))
    with pytest.raises(ValueError, match="feature names"):
        estimator.transform(frame[list("fedcba")])
    names = ["autoencodertransformer0", "autoencodertransformer1"]
    assert estimator.get_feature_names_out().tolist() == names
    code = estimator.set_output(transform="pandas").transform(frame)
    assert code.columns.tolist() == names
    assert code.index.tolist() == list(range(100, 160))


@pytest.mark.parametrize(
    "columns", [range(6), [0.5, 1, 2, 3, 4, 5], [("a", i) for i in range(6)]]
)
def test_pandas_with_odd_columns(columns):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X = make_data()
    frame = pandas.DataFrame(X, columns=pandas.Index(columns, tupleize_cols=False))
    estimator = make("adam").fit(frame)
    assert not hasattr(estimator, "feature_names_in_")
    assert_same_fit(estimator, make("adam").fit(X))
    np.testing.assert_array_equal(estimator.transform(frame), estimator.transform(X))
    mixed = frame.set_axis(["a", 1, "c", 3, "e", 5], axis=1)
    with pytest.raises(TypeError, match="string"):
        make("adam").fit(mixed)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_validation_rows_that_share_memory_with_the_training_rows(solver):
    """One-hot rows over the same ones: only the columns differ."""
    ones, starts = np.ones(40), np.arange(41)
    rng = np.random.default_rng(0)
    X, X_val = (
        sparse.csr_matrix((ones, rng.integers(0, 6, 40), starts), shape=(40, 6))
        for _ in range(2)
    )
    curves = [
        make(solver, max_iter=3, batch_size=40)
        .fit(X, X_val=held_out)
        .validation_loss_curve_
        for held_out in (X_val, X_val.copy())
    ]
    assert curves[0] == curves[1]
