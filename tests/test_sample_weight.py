"""Sample weights."""

from functools import partial

import numpy as np
import pytest
from sklearn.base import clone

from skae import AutoencoderTransformer
from skae.metrics import reconstruction_r2_score

from .support.cases import (
    data_for,
    draws_for_rows,
    has_ordered_code,
    is_scaled,
    make,
    make_data,
    names_of,
)
from .support.fits import assert_close_fit, reconstruct, split_of
from .support.tables import lacking, make_table

FULL_BATCH = names_of(lambda p: not p["early_stopping"] and not draws_for_rows(p))
FULL_BATCH.remove("minibatch")


@pytest.mark.parametrize(
    ("name", "dtype", "rtol"),
    [
        *((name, np.float64, 1e-6) for name in FULL_BATCH),
        *((name, np.float32, 2e-3) for name in ("adam", "lbfgs", "pca")),
    ],
)
def test_integer_weights_repeat_rows(name, dtype, rtol):
    estimator = make(name, max_iter=5)
    X = data_for(estimator).astype(dtype)
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    repeated = clone(estimator).fit(np.repeat(X, weights, axis=0))
    estimator.fit(X, sample_weight=weights)
    assert_close_fit(estimator, repeated, X, rtol)
    np.testing.assert_allclose(estimator.mean_, repeated.mean_, rtol=rtol)
    if has_ordered_code(estimator.get_params()):
        ratio = estimator.explained_variance_ratio_
        np.testing.assert_allclose(
            ratio, repeated.explained_variance_ratio_, rtol=rtol, atol=rtol * ratio[0]
        )
    score = estimator.score(X, sample_weight=weights)
    assert score == pytest.approx(repeated.score(np.repeat(X, weights, axis=0)), 1e-4)


@pytest.mark.parametrize("name", FULL_BATCH)
def test_rows_without_weight_count_for_nothing(name):
    estimator = make(name, max_iter=5)
    X = data_for(estimator)
    weights = np.arange(len(X)) % 3.0
    removed = clone(estimator).fit(X[weights > 0], sample_weight=weights[weights > 0])
    if is_scaled(estimator.get_params()):
        value = 1e200 if name == "adam" else 1e6  # which may overflow
        X = np.where(weights[:, np.newaxis] > 0, X, value)
    estimator.fit(X, sample_weight=weights)
    assert_close_fit(estimator, removed, X[weights > 0], 1e-6)


def test_validation_rows_without_weight():
    X = make_data(20)
    held_out = split_of(X, make("early_stopping").fit(X).mean_, 2)
    weights = np.ones(20)
    weights[held_out] = 0
    with pytest.raises(ValueError, match=r"validation samples.*sample_weight 0"):
        make("early_stopping").fit(X, sample_weight=weights)
    with pytest.raises(ValueError, match=r"training samples.*sample_weight 0"):
        make("early_stopping").fit(X, sample_weight=1 - weights)


BAD_WEIGHTS = {
    "negative": (np.r_[-1.0, np.ones(59)], "Negative values in sample_weight.*-1.0"),
    "nan": (np.full(60, np.nan), "sample_weight contains NaN"),
    "infinite": (np.full(60, np.inf), "sample_weight contains infinity"),
    "zero": (np.zeros(60), "sample_weight has no positive entry"),
    "short": (np.ones(59), r"sample_weight.shape == \(59,\), expected \(60,\)"),
    "2-D": (np.ones((60, 1)), "sample_weight must be 1-D"),
    "text": (np.full(60, "a"), "could not convert string to float"),
}


@pytest.mark.parametrize("bad", BAD_WEIGHTS)
def test_bad_weights(bad):
    """One check for all."""
    weights, message = BAD_WEIGHTS[bad]
    X = make_data()
    fitted = make("adam", max_iter=1).fit(X)
    for call in (
        make("adam").fit,
        make("adam").partial_fit,
        fitted.score,
        partial(reconstruction_r2_score, fitted),
    ):
        with pytest.raises(ValueError, match=message):
            call(X, sample_weight=weights)


@pytest.mark.parametrize("factor", [5e-324, 1e-300, 1e-30, 1e30, 1e308])
def test_only_ratios_of_weights_count(factor, dtype):
    X = make_data().astype(dtype)
    weights = np.r_[np.zeros(9), np.ones(51)]
    expected = make("adam", max_iter=3).fit(X, sample_weight=weights)
    estimator = clone(expected).fit(X, sample_weight=factor * weights)
    np.testing.assert_allclose(
        estimator.transform(X), expected.transform(X), rtol=0, atol=1e-4
    )
    score = estimator.score(X, sample_weight=factor * weights)
    assert score == pytest.approx(expected.score(X, sample_weight=weights), rel=1e-4)
    estimator = make("adam").partial_fit(X, sample_weight=factor * weights)
    assert np.isfinite(estimator.transform(X)).all()


@pytest.mark.parametrize("n_used", [1, 5, 39])
def test_few_rows_with_weight_are_few_rows(n_used):
    X, weights = make_data(200), np.zeros(200)
    weights[np.random.default_rng(n_used).permutation(200)[:n_used]] = 1
    estimator = AutoencoderTransformer(1, random_state=0)
    estimator.fit(X, sample_weight=weights)
    few = clone(estimator).fit(X[weights > 0])
    assert estimator.n_iter_ == few.n_iter_ == 1
    np.testing.assert_allclose(
        reconstruct(estimator, X), reconstruct(few, X), atol=1e-9
    )


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_weights_of_a_table(solver):
    """Weights repeat rows, and without one they do not count, but for their levels."""
    table = lacking(make_table(60))
    table["size"] = table["size"].astype(object)
    # Equal levels, so that those of rows without weight are known to both.
    levels = {name: table[name].dropna().unique() for name in ("city", "large", "size")}
    how = {"solver": solver, "max_iter": 5, "early_stopping": False, "random_state": 0}
    how |= {"batch_size": 1000, "hidden_layer_sizes": (8,), "categories": levels}
    how["alpha"] = 1e-3  # "auto" goes by the number of rows
    weights = np.random.default_rng(0).integers(0, 4, len(table))
    repeated = table.loc[np.repeat(table.index, weights)]
    one = AutoencoderTransformer(3, **how).fit(table, sample_weight=weights)
    two = AutoencoderTransformer(3, **how).fit(repeated)
    np.testing.assert_allclose(one.mean_, two.mean_, rtol=1e-9)
    np.testing.assert_allclose(one.scale_, two.scale_, rtol=1e-9)
    code = two.transform(table)
    atol = 1e-5 * np.abs(code).max()
    np.testing.assert_allclose(one.transform(table), code, rtol=0, atol=atol)
    np.testing.assert_allclose(one.loss_curve_, two.loss_curve_, rtol=1e-5)
    assert one.score(table, sample_weight=weights) == pytest.approx(two.score(repeated))
