"""Tests of skae.metrics against sums written out naively."""

import pickle
import sys
import warnings
from fractions import Fraction
from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, PCA, IncrementalPCA, KernelPCA, TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)

import skae._model.any_transformer
from skae import AutoencoderImputer, AutoencoderTransformer
from skae._model.any_transformer import table_scores, tabular_model
from skae.metrics import (
    argmax_accuracy,
    reconstruction_deviance,
    reconstruction_deviance_score,
    reconstruction_error,
    reconstruction_r2,
    reconstruction_r2_score,
)

from .support.memory import peak_memory
from .support.reference import naive_r2

DIGITS = load_digits().data
TRAIN, HELD_OUT = DIGITS[:300], DIGITS[300:450]


class Reconstructor(TransformerMixin, BaseEstimator):
    """Apply a given function to the rows: any reconstruction one may want to test."""

    def __init__(self, reconstruct):
        self.reconstruct = reconstruct

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X

    def inverse_transform(self, X):
        return self.reconstruct(X)


TRANSFORMERS = [
    PCA(n_components=5, random_state=0),
    PCA(n_components=5, whiten=True, random_state=0),
    IncrementalPCA(n_components=5),
    TruncatedSVD(n_components=5, random_state=0),
    NMF(n_components=5, init="nndsvda", tol=1e-2, max_iter=500),
    KernelPCA(n_components=5, kernel="rbf", gamma=1e-3, fit_inverse_transform=True),
    make_pipeline(StandardScaler(), PCA(n_components=5, random_state=0)),
    make_pipeline(MinMaxScaler(), PCA(n_components=8), PCA(n_components=3)),
    MinMaxScaler(),
]


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda t: str(t)[:40])
def test_equals_naive_formula(transformer):
    fitted = sklearn.base.clone(transformer).fit(TRAIN)
    score = reconstruction_r2_score(fitted, HELD_OUT)
    assert isinstance(score, float)
    assert score == pytest.approx(naive_r2(fitted, HELD_OUT), rel=1e-12)


def test_equals_r2_score_where_no_feature_is_constant():
    varying = HELD_OUT[:, HELD_OUT.std(axis=0) > 0]
    pca = PCA(n_components=5).fit(varying[:50])
    reconstructed = pca.inverse_transform(pca.transform(varying))
    expected = r2_score(varying, reconstructed, multioutput="variance_weighted")
    assert reconstruction_r2_score(pca, varying) == pytest.approx(expected, rel=1e-12)
    # There r2_score(multioutput="variance_weighted") would leave errors out.
    X = np.column_stack([np.arange(4.0), np.ones(4)])
    wrong = Reconstructor(lambda X: X + np.eye(2)[1])
    assert reconstruction_r2_score(wrong, X) == pytest.approx(1 - 4 / 5)


def test_reference_values():
    def mean_of_rows(X):
        return np.broadcast_to(HELD_OUT.mean(axis=0), X.shape)

    assert reconstruction_r2_score(Reconstructor(np.copy), HELD_OUT) == 1.0
    zero = reconstruction_r2_score(Reconstructor(mean_of_rows), HELD_OUT)
    assert zero == pytest.approx(0.0, abs=1e-12)
    assert reconstruction_r2_score(Reconstructor(np.zeros_like), HELD_OUT) < 0


def test_centres_at_the_mean_of_the_rows_given():
    pca = PCA(n_components=2).fit(TRAIN)
    shifted = HELD_OUT + 100.0  # far from the training mean
    around_training_mean = 1 - (
        ((shifted - pca.inverse_transform(pca.transform(shifted))) ** 2).sum()
        / ((shifted - pca.mean_) ** 2).sum()
    )
    score = reconstruction_r2_score(pca, shifted)
    assert score == pytest.approx(naive_r2(pca, shifted), rel=1e-12)
    assert score < around_training_mean


@pytest.mark.parametrize("batch_rows", [1, 7, 150, 1000])
@pytest.mark.parametrize("weighted", [False, True])
def test_row_batches_do_not_change_the_score(monkeypatch, batch_rows, weighted):
    weights = np.arange(150) % 4 if weighted else None
    pca = PCA(n_components=5).fit(TRAIN)
    whole = reconstruction_r2_score(pca, HELD_OUT, sample_weight=weights)
    monkeypatch.setattr(
        skae._model.any_transformer, "CHUNK_ENTRIES", batch_rows * DIGITS.shape[1]
    )
    batched = reconstruction_r2_score(pca, HELD_OUT, sample_weight=weights)
    assert batched == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(
    "container", [sp.csr_matrix, sp.csc_array, sp.bsr_array], ids=lambda c: c.__name__
)
@pytest.mark.parametrize("n_rows_per_batch", [40, 1000])
def test_sparse_equals_dense(monkeypatch, container, n_rows_per_batch):
    monkeypatch.setattr(
        skae._model.any_transformer, "CHUNK_ENTRIES", n_rows_per_batch * 64
    )
    svd = TruncatedSVD(n_components=5, random_state=0).fit(TRAIN)
    score = reconstruction_r2_score(svd, container(HELD_OUT))
    assert score == pytest.approx(naive_r2(svd, HELD_OUT), rel=1e-12)


@pytest.mark.parametrize("make", [sp.csr_array, np.asarray], ids=["sparse", "dense"])
def test_memory_is_that_of_a_few_batches(monkeypatch, make):
    batch_entries = 20_000
    monkeypatch.setattr(skae._model.any_transformer, "CHUNK_ENTRIES", batch_entries)
    rng = np.random.default_rng(0)
    X = make(rng.random((4000, 200)) * (rng.random((4000, 200)) < 0.01))
    svd = TruncatedSVD(n_components=2, random_state=0).fit(X)
    peak = peak_memory(lambda: reconstruction_r2_score(svd, X))
    assert peak < 8 * (8 * batch_entries)  # X itself is 40 batches when dense


def test_integer_weights_equal_repeated_rows():
    weights = np.random.default_rng(0).integers(0, 4, size=len(HELD_OUT))
    weights[0] = 0  # the first row must not be privileged
    pca = PCA(n_components=5).fit(TRAIN)
    score = reconstruction_r2_score(pca, HELD_OUT, sample_weight=weights)
    repeated = np.repeat(HELD_OUT, weights, axis=0)
    assert score == pytest.approx(reconstruction_r2_score(pca, repeated), rel=1e-12)
    assert score != pytest.approx(reconstruction_r2_score(pca, HELD_OUT), rel=1e-6)


def test_float32_is_summed_in_float64():
    # In float32 the mean of these rows and their squares are off by percents.
    rng = np.random.default_rng(0)
    X = (4096 + rng.normal(size=(100_000, 2))).astype(np.float32)
    halve = Reconstructor(lambda X: (X + np.float32(4096)) / 2)
    exact = X.astype(np.float64)
    expected = 1 - ((exact - 4096) ** 2).sum() / 4 / exact.var(axis=0).sum() / len(X)
    assert reconstruction_r2_score(halve, X) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_dtypes(dtype):
    pca = PCA(n_components=5).fit(TRAIN)
    score = reconstruction_r2_score(pca, HELD_OUT.astype(dtype))
    assert score == pytest.approx(naive_r2(pca, HELD_OUT), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
def test_constant_rows_follow_r2_score(value):
    X = np.full((50, 3), value)
    assert reconstruction_r2_score(Reconstructor(np.copy), X) == 1.0
    assert reconstruction_r2_score(Reconstructor(lambda X: X + 1), X) == 0.0
    assert reconstruction_r2_score(Reconstructor(np.copy), X[:1]) == 1.0
    assert reconstruction_r2_score(Reconstructor(np.zeros_like), X[:1] + 1) == 0.0


def test_rows_without_weight_do_not_break_constancy():
    X = np.full((4, 2), 0.1)
    X[0] = 1e9  # relative to this row, the others would not be exactly equal
    weights = [0.0, 1.0, 1.0, 1.0]
    shift = Reconstructor(lambda X: X + 1)
    assert reconstruction_r2_score(shift, X, sample_weight=weights) == 0.0


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_and_frame_output(monkeypatch, library):
    frames = pytest.importorskip(library)
    monkeypatch.setattr(
        skae._model.any_transformer, "CHUNK_ENTRIES", 64 * 64
    )  # several batches
    names = [f"pixel{i}" for i in range(DIGITS.shape[1])]
    train, held_out = (
        frames.DataFrame(dict(zip(names, X.T, strict=True))) for X in (TRAIN, HELD_OUT)
    )
    pipeline = make_pipeline(MinMaxScaler(), PCA(n_components=5, random_state=0))
    expected = naive_r2(pipeline.fit(TRAIN), HELD_OUT)
    framed = sklearn.base.clone(pipeline).set_output(transform=library).fit(train)
    # Warnings are errors: feature names must arrive at every batch.
    assert reconstruction_r2_score(framed, held_out) == pytest.approx(expected)


# Errors


def test_estimator_without_inverse_transform_is_named():
    steps = [("skip", "passthrough"), ("pick", Binarizer()), ("r", PCA(2))]
    pipeline = Pipeline(steps).fit(TRAIN)
    with pytest.raises(TypeError, match=r"Pipeline.*'pick' \(Binarizer\)"):
        reconstruction_r2_score(pipeline, TRAIN)
    with pytest.raises(TypeError, match="ColumnTransformer has no inverse_transform"):
        reconstruction_r2_score(ColumnTransformer([]), TRAIN)
    with pytest.raises(TypeError, match=r"object has no transform.*fit_inverse_tr"):
        reconstruction_r2_score(object(), TRAIN)
    with pytest.raises(NotFittedError, match="fit_inverse_transform"):
        reconstruction_r2_score(KernelPCA(n_components=2).fit(TRAIN), TRAIN)
    with pytest.raises(NotFittedError, match="MinMaxScaler"):
        reconstruction_r2_score(MinMaxScaler(), TRAIN)


def test_reconstructions_of_another_shape_and_that_are_not_finite():
    for reconstruct, message in (
        (lambda X: X[:, 1:], r"\(300, 64\) as \(300, 63\)"),
        (lambda X: np.full_like(X, np.inf), "the reconstruction contains infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            reconstruction_r2_score(Reconstructor(reconstruct), TRAIN)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.arange(3.0), "Expected 2D array"),
        ([1.0, 2.0], "Expected 2D array"),
        (np.empty((0, 64)), "0 sample"),
        (np.empty((5, 0)), "0 feature"),
        (np.array([[np.inf, 1.0], [0.0, np.nan]]), "X contains infinity"),
        (np.full((3, 2), np.nan), "X has no observed entry"),
        ([[None, None]], "X has no observed entry"),
        (np.array([["a", "b"]], dtype=object), "is categories, and what"),
    ],
)
def test_bad_rows(X, message):
    with pytest.raises(ValueError, match=message):
        reconstruction_r2_score(Reconstructor(np.copy), X)


# The scorer


def test_grid_search_swaps_transformers():
    pipeline = Pipeline([("scale", MinMaxScaler(clip=True)), ("reduce", PCA())])
    grid = {
        "reduce": [PCA(random_state=0), NMF(tol=1e-2, max_iter=500, random_state=0)],
        "reduce__n_components": [2, 5],
    }
    folds = KFold(3)
    search = GridSearchCV(pipeline, grid, scoring=reconstruction_r2, cv=folds)
    search.fit(TRAIN)
    results = search.cv_results_
    for k, (train, test) in enumerate(folds.split(TRAIN)):
        for params, score in zip(
            results["params"], results[f"split{k}_test_score"], strict=True
        ):
            candidate = sklearn.base.clone(pipeline).set_params(
                **sklearn.base.clone(params, safe=False)
            )
            expected = naive_r2(candidate.fit(TRAIN[train]), TRAIN[test])
            assert score == pytest.approx(expected, rel=1e-9)
    # PCA is the best linear reconstruction there is, and more components help it.
    assert isinstance(search.best_params_["reduce"], PCA)
    assert search.best_params_["reduce__n_components"] == 5


def test_scorer_in_cross_validate_beside_others_and_with_metadata_routing():
    scoring = {"r2": reconstruction_r2, "again": reconstruction_r2}
    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_validate(
            PCA(n_components=3), TRAIN, scoring=scoring, cv=3, params={}
        )
    assert scores["test_r2"] == pytest.approx(scores["test_again"])
    assert np.all(scores["test_r2"] > 0.3)
    # It ignores y, and can be pickled.
    scorer, pca = pickle.loads(pickle.dumps(reconstruction_r2)), PCA(2).fit(TRAIN)
    score = scorer(pca, HELD_OUT, np.zeros(len(HELD_OUT)))
    assert score == reconstruction_r2_score(pca, HELD_OUT)


# Frames with sparse columns


def sparse_frame(X, columns=slice(None)):
    """Return a frame whose columns, or some of them, are sparse."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=[f"pixel{i}" for i in range(X.shape[1])])
    names = frame.columns[columns]
    return frame.astype(dict.fromkeys(names, pd.SparseDtype(float, 0.0)))


@pytest.mark.parametrize("columns", [slice(None), slice(3, 9)], ids=["all", "some"])
def test_sparse_columns(monkeypatch, columns):
    monkeypatch.setattr(
        skae._model.any_transformer, "CHUNK_ENTRIES", 64 * 64
    )  # several batches
    frame = sparse_frame(HELD_OUT, columns)
    # scikit-learn warns of frames where some columns are sparse.
    copies = Reconstructor(lambda X: X * 0.5)
    expected = reconstruction_r2_score(copies, HELD_OUT)
    assert reconstruction_r2_score(copies, frame) == pytest.approx(expected)
    errors = reconstruction_error(copies, frame, per_feature=True, as_frame=True)
    assert errors.to_numpy() == pytest.approx((HELD_OUT / 2) ** 2)
    assert list(errors.columns) == list(frame.columns)
    assert argmax_accuracy(frame, frame) == 1.0
    if columns == slice(None):
        svd = TruncatedSVD(n_components=3, random_state=0)
        rows = sp.csr_array(HELD_OUT)
        expected = reconstruction_r2_score(svd.fit(rows), rows)
        score = reconstruction_r2_score(svd.fit(frame), frame)
        assert score == pytest.approx(expected)


# Numbers near the ends of the range


@pytest.mark.parametrize("unit", [1e-300, 1e-26, 1e153, 1e300])
@pytest.mark.parametrize("weighted", [False, True])
def test_r2_does_not_depend_on_the_unit(unit, weighted):
    weights = 1e300 * np.arange(150.0) if weighted else None
    scale = Reconstructor(lambda X: 0.9 * X)
    expected = reconstruction_r2_score(scale, HELD_OUT, sample_weight=weights)
    X = HELD_OUT * unit
    score = reconstruction_r2_score(scale, X, sample_weight=weights)
    assert score == pytest.approx(expected, rel=1e-9)
    same = X[:1].repeat(3, axis=0)
    assert reconstruction_r2_score(scale, same) == 0.0


def test_r2_that_does_not_exist():
    far = Reconstructor(lambda X: X + 1e200)
    with pytest.raises(ValueError, match="reconstructs X so badly that the squared"):
        reconstruction_r2_score(far, HELD_OUT)
    with pytest.raises(ValueError, match="differences of its rows are not finite"):
        reconstruction_r2_score(Reconstructor(np.copy), [[1.7e308], [-1.7e308]])


@pytest.mark.parametrize(
    ("dtype", "unit"),
    [
        (np.float32, 1e-26),
        (np.float32, 1e30),
        *((np.float64, unit) for unit in (1e-170, 1e-26, 1e150, 1e153, 1e160, 1e308)),
    ],
)
@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("metric", ["squared_error", "absolute_error"])
def test_errors_are_finite_and_exact_or_refused(metric, per_feature, dtype, unit):
    X = (np.array([[1.0, -1.0], [0.5, 0.0]]) * unit).astype(dtype)
    flipped = Reconstructor(np.negative)
    compute = partial(
        reconstruction_error, flipped, X, metric=metric, per_feature=per_feature
    )
    power = 2 if metric == "squared_error" else 1
    entries = [
        [(2 * abs(Fraction(float(x)))) ** power for x in row] for row in X.tolist()
    ]
    exact = entries if per_feature else [[sum(row)] for row in entries]
    if unit == 1e308 or (unit == 1e160 and power == 2):
        with pytest.raises(ValueError, match="too large for float64"):
            compute()
        return
    if unit == 1e-170 and power == 2:
        with pytest.raises(ValueError, match=r"at most 2e-170.*or use metric='abs"):
            compute()
        return
    errors = compute().reshape(2, -1)
    assert errors.dtype == np.float64
    for row, exact_row in zip(errors.tolist(), exact, strict=True):
        assert row == pytest.approx([float(e) for e in exact_row], rel=1e-12, abs=0)


# reconstruction_error


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda t: str(t)[:40])
@pytest.mark.parametrize("rows_per_batch", [40, 1000])
def test_errors_equal_the_naive_formula(monkeypatch, transformer, rows_per_batch):
    monkeypatch.setattr(
        skae._model.any_transformer, "CHUNK_ENTRIES", rows_per_batch * 64
    )
    fitted = sklearn.base.clone(transformer).fit(TRAIN)
    compute = partial(reconstruction_error, fitted, HELD_OUT)
    difference = HELD_OUT - fitted.inverse_transform(fitted.transform(HELD_OUT))
    for metric, entries in [
        ("squared_error", difference**2),
        ("absolute_error", abs(difference)),
    ]:
        # NMF's transform ends when a whole batch has converged.
        tolerance = {"rel": 0.1, "abs": 1} if isinstance(fitted, NMF) else {"rel": 1e-9}
        found = compute(metric=metric)
        assert found == pytest.approx(entries.sum(axis=1), **tolerance)
        found = compute(metric=metric, per_feature=True)
        assert found.shape == HELD_OUT.shape
        assert found.sum(axis=1) == pytest.approx(entries.sum(axis=1), **tolerance)
    assert np.array_equal(compute(), compute(metric="squared_error"))


def test_errors_of_a_fitted_search_and_of_lists():
    search = GridSearchCV(PCA(), {"n_components": [2, 5]}, scoring=reconstruction_r2)
    search.fit(TRAIN)
    expected = reconstruction_error(search.best_estimator_, HELD_OUT)
    assert np.array_equal(reconstruction_error(search, HELD_OUT.tolist()), expected)
    assert reconstruction_error(search, sp.csr_array(HELD_OUT)) == pytest.approx(
        expected
    )


def test_errors_agree_with_the_autoencoders_own_method():
    autoencoder = AutoencoderTransformer(3, max_iter=1, learning_rate="cosine")
    autoencoder.fit(TRAIN)
    for metric in ("squared_error", "absolute_error"):
        for per_feature in (False, True):
            how = {"metric": metric, "per_feature": per_feature}
            assert reconstruction_error(autoencoder, TRAIN, **how) == pytest.approx(
                autoencoder.reconstruction_error(TRAIN, **how)
            )


def test_frames_of_errors():
    pd = pytest.importorskip("pandas")
    names = [f"pixel{i}" for i in range(64)]
    framed = pd.DataFrame(HELD_OUT, columns=names, index=np.arange(150) * 2)
    pipeline = make_pipeline(MinMaxScaler(), PCA(5)).fit(
        pd.DataFrame(TRAIN, columns=names)
    )
    compute = partial(reconstruction_error, pipeline, as_frame=True)
    values = reconstruction_error(pipeline, framed, per_feature=True)
    table = compute(framed, per_feature=True)
    pd.testing.assert_frame_equal(
        table, pd.DataFrame(values, index=framed.index, columns=names)
    )
    series = compute(framed, metric="absolute_error")
    assert series.name == "absolute_error"
    assert series.index.equals(framed.index)
    polars = pytest.importorskip("polars")
    table = compute(polars.DataFrame(HELD_OUT, schema=names), per_feature=True)
    assert list(table.columns) == names
    assert table.index.equals(pd.RangeIndex(150))
    # Names that the estimator knows, and names that nobody knows.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        assert list(compute(HELD_OUT, per_feature=True).columns) == names
    copies = Reconstructor(lambda X: X)
    for X in (np.eye(3), np.eye(3).tolist(), sp.eye_array(3)):
        table = reconstruction_error(copies, X, per_feature=True, as_frame=True)
        assert list(table.columns) == ["x0", "x1", "x2"]
    frame = pd.DataFrame(np.eye(3), columns=[7, 8, 9])
    table = reconstruction_error(copies, frame, per_feature=True, as_frame=True)
    assert list(table.columns) == [7, 8, 9]


def test_errors_that_cannot_be(monkeypatch):
    pca = PCA(2).fit(TRAIN)
    with pytest.raises(ValueError, match="Call its own method, estim"):
        reconstruction_error(pca, TRAIN, metric="loss")
    with pytest.raises(ValueError, match="Did you mean 'squared_error'"):
        reconstruction_error(pca, TRAIN, metric="mse")
    with pytest.raises(TypeError, match="PCA is a class, not a fitted estimator"):
        reconstruction_error(PCA, TRAIN)
    with pytest.raises(TypeError, match="no inverse_transform"):
        reconstruction_error(ColumnTransformer([]), TRAIN)
    with pytest.raises(NotFittedError):
        reconstruction_error(MinMaxScaler(), TRAIN)
    with pytest.raises(ValueError, match="X contains NaN"):
        reconstruction_error(pca, np.full((2, 64), np.nan))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="as_frame=True needs pandas: pip install"):
        reconstruction_error(pca, TRAIN, as_frame=True)


# Missing entries


GAPS = np.random.default_rng(0).random(HELD_OUT.shape) < 0.2
INCOMPLETE = np.where(GAPS, np.nan, HELD_OUT)


class Shrinking(Reconstructor):
    """Reconstruct an entry as 0.9 of it; a missing one as 7."""

    def __init__(self):
        super().__init__(lambda X: np.where(np.isnan(X), 7, 0.9 * X))

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize("chunk_entries", [64 * 7, 2**22])
def test_only_observed_entries_count(monkeypatch, chunk_entries):
    monkeypatch.setattr(skae._model.any_transformer, "CHUNK_ENTRIES", chunk_entries)
    X = INCOMPLETE.copy()
    X[3], X[:, 5], X[:20, 6], X[21:, 7] = np.nan, np.nan, np.nan, np.nan
    copies, weights = Shrinking(), np.random.default_rng(0).integers(0, 3, len(X))
    for w in (np.ones(len(X)), weights):
        repeated = np.repeat(X, w.astype(int), axis=0)
        deviations = repeated - np.nan_to_num(_nanmean(repeated))
        expected = 1 - np.nansum((0.1 * repeated) ** 2) / np.nansum(deviations**2)
        score = reconstruction_r2_score(copies, X, sample_weight=w)
        assert score == pytest.approx(expected, rel=1e-12)
    for metric, power in (("squared_error", 2), ("absolute_error", 1)):
        entries = (0.1 * X) ** power
        compute = partial(reconstruction_error, copies, X, metric=metric)
        np.testing.assert_allclose(compute(per_feature=True), entries)
        errors = compute()
        others = np.arange(len(X)) != 3
        means = np.nanmean(entries[others], axis=1)
        np.testing.assert_allclose(errors[others], 64 * means)
        assert np.isnan(errors[3])


def _nanmean(X):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")
        return np.nanmean(X, axis=0)


def test_an_autoencoder_of_incomplete_data():
    model = AutoencoderTransformer(3, max_iter=5, learning_rate="cosine")
    model.fit(INCOMPLETE)
    assert reconstruction_r2_score(model, INCOMPLETE) == pytest.approx(
        model.score(INCOMPLETE)
    )
    for per_feature in (False, True):
        np.testing.assert_allclose(
            reconstruction_error(model, INCOMPLETE, per_feature=per_feature),
            model.reconstruction_error(INCOMPLETE, per_feature=per_feature),
            atol=1e-12,
        )


def test_containers_of_incomplete_rows():
    pd = pytest.importorskip("pandas")
    model = AutoencoderTransformer(3, max_iter=5, learning_rate="cosine")
    model.fit(INCOMPLETE)
    expected = reconstruction_r2_score(model, INCOMPLETE)
    frame = pd.DataFrame(INCOMPLETE)
    for X in (
        frame.astype("Float64").mask(frame.isna(), pd.NA),
        frame.astype(object).where(frame.notna(), None),
        frame.astype(object).where(frame.notna(), pd.NA),
        frame.astype(object).where(frame.notna(), pd.NA).to_numpy(),
        [[None if np.isnan(x) else x for x in row] for row in INCOMPLETE.tolist()],
        sp.csr_array(INCOMPLETE),
        sp.coo_array(INCOMPLETE),
    ):
        assert reconstruction_r2_score(model, X) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "imputer", [SimpleImputer(), KNNImputer(), AutoencoderImputer(random_state=0)]
)
def test_imputers_of_a_pipeline(imputer):
    """They fill entries that do not count, so that their inverse is not needed."""
    scaled = make_pipeline(StandardScaler(), imputer, PCA(5, random_state=0))
    inner = Pipeline([("scale", scaled[0]), ("rest", scaled[1:])])
    for pipeline in (scaled, inner):
        pipeline.fit(INCOMPLETE)
        code = pipeline.transform(INCOMPLETE)
        last = pipeline["rest"] if pipeline is inner else pipeline
        restored = pipeline[0].inverse_transform(last[-1].inverse_transform(code))
        squares = (INCOMPLETE - restored) ** 2
        errors = reconstruction_error(pipeline, INCOMPLETE, per_feature=True)
        np.testing.assert_allclose(errors, squares)
        deviations = (INCOMPLETE - np.nanmean(INCOMPLETE, axis=0)) ** 2
        expected = 1 - np.nansum(squares) / np.nansum(deviations)
        score = reconstruction_r2_score(pipeline, INCOMPLETE)
        assert score == pytest.approx(expected, rel=1e-12)


def test_a_search_over_imputed_pca_and_an_autoencoder():
    models = [
        make_pipeline(SimpleImputer(keep_empty_features=True), PCA(3)),
        AutoencoderTransformer(3, max_iter=5, learning_rate="cosine", random_state=0),
    ]
    search = GridSearchCV(
        Pipeline([("model", models[0])]),
        {"model": models},
        scoring=reconstruction_r2,
        cv=2,
        error_score="raise",
    )
    search.fit(INCOMPLETE)
    assert (search.cv_results_["mean_test_score"] > 0).all()
    best = reconstruction_r2_score(search.best_estimator_, INCOMPLETE)
    assert reconstruction_r2_score(search, INCOMPLETE) == best


def test_reconstructions_of_gaps():
    """They may be missing, too, but those of observed entries may not."""
    X = INCOMPLETE[:, :10].copy()
    X[:, 3] = np.nan
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "invalid value", RuntimeWarning)
        scaled = make_pipeline(StandardScaler(), Shrinking()).fit(X)
    assert np.isfinite(reconstruction_r2_score(scaled, X))
    X[5, 3] = 1.0
    with pytest.raises(ValueError, match="Pipeline reconstructs feature 3 of X as NaN"):
        reconstruction_r2_score(scaled, X)
    # Of complete samples, none may.
    with pytest.raises(ValueError, match="the reconstruction contains NaN"):
        reconstruction_error(Reconstructor(lambda X: X * np.nan), np.eye(3))
    # An imputer that drops a feature does not keep the shape.
    dropping = make_pipeline(SimpleImputer(), PCA(2)).fit(INCOMPLETE[:, :10])
    X[:] = INCOMPLETE[:, :10]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Skipping features", UserWarning)
        X[:, 0] = np.nan
        dropping.fit(X)
        with pytest.raises(ValueError, match=r"\(150, 10\) as \(150, 9\)"):
            reconstruction_r2_score(dropping, X)


# argmax_accuracy


def test_argmax_accuracy_values():
    rng = np.random.default_rng(0)
    X, reconstructed = rng.normal(size=(2, 500, 6))
    naive = np.mean(
        [
            list(a).index(max(a)) == list(b).index(max(b))
            for a, b in zip(X, reconstructed, strict=True)
        ]
    )
    assert argmax_accuracy(X, reconstructed) == naive
    assert argmax_accuracy(X, X) == 1.0
    assert argmax_accuracy(X, 3 * X + 1) == 1.0
    assert argmax_accuracy(X, -X) == 0.0
    assert isinstance(argmax_accuracy(X, X), float)
    # Of ties the first counts.
    assert argmax_accuracy(np.eye(8), np.full((8, 8), 0.1)) == 1 / 8
    assert argmax_accuracy([[1, 1, 0]], [[0.5, 0.4, 0.0]]) == 1.0
    assert argmax_accuracy([[1, 1, 0]], [[0.4, 0.5, 0.0]]) == 0.0


@pytest.mark.parametrize("container", [sp.csr_matrix, sp.csr_array, sp.coo_array])
def test_argmax_accuracy_of_sparse_rows(container):
    rng = np.random.default_rng(0)
    X = np.eye(6)[rng.integers(6, size=200)]
    reconstructed = rng.normal(size=X.shape) - 1  # implicit zeros can be the largest
    reconstructed[rng.random(X.shape) < 0.5] = 0.0
    expected = argmax_accuracy(X, reconstructed)
    assert 0 < expected < 1
    assert argmax_accuracy(container(X), reconstructed) == expected
    assert argmax_accuracy(X, container(reconstructed)) == expected


@pytest.mark.parametrize(
    ("X", "reconstructed", "message"),
    [
        (np.eye(3), np.eye(4), r"\(3, 3\), X_reconstructed \(4, 4\)"),
        (np.ones(3), np.ones(3), "Expected 2D array"),
        (np.full((3, 3), np.nan), np.eye(3), "X contains NaN"),
        (np.eye(3), np.full((3, 3), np.nan), "X_reconstructed contains NaN"),
        (np.empty((0, 3)), np.empty((0, 3)), "0 sample"),
    ],
)
def test_argmax_accuracy_errors(X, reconstructed, message):
    with pytest.raises(ValueError, match=message):
        argmax_accuracy(X, reconstructed)


# -- tables with categories --------------------------------------------------------


def make_table(n_samples=80, seed=0):
    """Two numbers and two categories that depend on them; some entries are missing."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n_samples, 2))
    table = pd.DataFrame(
        {
            "size": 100 * z[:, 0],
            "kind": np.array(["a", "b", "c", "d"])[np.digitize(z[:, 0], [-1, 0, 1])],
            "weight": z @ [0.01, 0.02],
            "flag": z[:, 1] > 0,
        }
    )
    return table


def one_hot_pca(n_components, **one_hot):
    encode = ColumnTransformer(
        [
            ("levels", OneHotEncoder(**one_hot), ["kind", "flag"]),
            ("numbers", StandardScaler(), ["weight", "size"]),
        ],
        sparse_threshold=0,
    )
    return Pipeline([("encode", encode), ("pca", PCA(n_components))])


def naive_scores(table, weights, predictions, probabilities):
    """R², deviance and accuracy, column by column, from predictions of each."""
    lost, total = np.zeros(2), np.zeros(2)
    n_right = n_levels = 0
    for name, prediction in predictions.items():
        x = table[name].to_numpy()
        mean = np.average(x, weights=weights)
        variance = np.average((x - mean) ** 2, weights=weights)
        lost += weights @ (x - prediction) ** 2 / variance
        total += weights.sum()
    for name, (levels, predicted) in probabilities.items():
        hot = table[name].to_numpy()[:, np.newaxis] == np.asarray(levels)
        frequencies = np.average(hot, axis=0, weights=weights)
        gini = 1 - (frequencies**2).sum()
        entropy = -(frequencies * np.log(frequencies)).sum()
        spread = 0.999 * predicted + 0.001 / len(levels)
        lost[0] += weights @ ((hot - predicted) ** 2).sum(axis=1) / gini
        lost[1] -= weights @ np.log(spread[hot]) / entropy
        total += weights.sum()
        n_right += weights @ (predicted.argmax(axis=1) == hot.argmax(axis=1))
        n_levels += weights.sum()
    return [*(1 - lost / total), n_right / n_levels]


@pytest.mark.parametrize("model", ["autoencoder", "PCA", "PCA without first levels"])
def test_scores_of_tables(model, monkeypatch):
    monkeypatch.setattr(skae._model.any_transformer, "CHUNK_ENTRIES", 8 * 30)
    table = make_table()
    weights = np.random.default_rng(1).uniform(size=len(table))
    if model == "autoencoder":
        estimator = AutoencoderTransformer(2, max_iter=5, random_state=0).fit(table)
        inputs = estimator._decoded_inputs(estimator.transform(table))
        names = estimator.input_names_
        numbers = {name: inputs[:, names.index(name)] for name in ("size", "weight")}
        kinds = inputs[:, [names.index(f"kind={level}") for level in "abcd"]]
        flags = inputs[:, [names.index(f"flag={flag}") for flag in (False, True)]]
    else:
        drop = "first" if "without" in model else None
        estimator = one_hot_pca(2, drop=drop).fit(table)
        outputs = estimator["pca"].inverse_transform(estimator.transform(table))
        if drop:
            lacking = 1 - outputs[:, :3].sum(axis=1), 1 - outputs[:, 3]
            outputs = np.column_stack(
                [lacking[0], outputs[:, :3], lacking[1], outputs[:, 3:]]
            )
        scaler = estimator["encode"].named_transformers_["numbers"]
        weight, size = scaler.inverse_transform(outputs[:, 6:]).T
        numbers = {"size": size, "weight": weight}
        kinds, flags = (np.maximum(outputs[:, s], 0) for s in np.s_[:4, 4:6])
        kinds /= kinds.sum(axis=1, keepdims=True)
        flags /= flags.sum(axis=1, keepdims=True)
    probabilities = {"kind": (list("abcd"), kinds), "flag": ([False, True], flags)}
    expected = naive_scores(table, weights, numbers, probabilities)
    found = (
        reconstruction_r2_score(estimator, table, sample_weight=weights),
        reconstruction_deviance_score(estimator, table, sample_weight=weights),
        table_scores(tabular_model(estimator, table), table, weights).accuracy,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_deviance_is_the_score_of_an_autoencoder():
    """On its training data, except for the thousandth that is spread."""
    table = make_table()
    table.loc[::7, "kind"] = None
    table.loc[::9, "size"] = np.nan
    model = AutoencoderTransformer(2, max_iter=5, random_state=0).fit(table)
    score = reconstruction_deviance_score(model, table)
    assert score == pytest.approx(model.score(table), abs=2e-3)
    pipeline = Pipeline([("impute", SimpleImputer(strategy="most_frequent"))])
    pipeline.set_output(transform="pandas")
    pipeline.steps.append(("reduce", model))
    pipeline.fit(table)
    of_imputed = reconstruction_deviance_score(pipeline, table)
    assert of_imputed == pytest.approx(score, abs=0.2)
    assert reconstruction_deviance(GridSearchCV(model, {}, cv=2).fit(table), table) < 1


def test_deviance_of_numbers_is_r2():
    model = PCA(3).fit(TRAIN)
    assert reconstruction_deviance_score(model, HELD_OUT) == reconstruction_r2_score(
        model, HELD_OUT
    )
    pipeline = Pipeline(
        [
            ("encode", ColumnTransformer([("all", "passthrough", slice(64))])),
            ("p", model),
        ]
    ).fit(TRAIN)
    assert reconstruction_r2_score(pipeline, HELD_OUT) == pytest.approx(
        reconstruction_r2_score(model, HELD_OUT), rel=1e-12
    )


@pytest.mark.parametrize(
    "how", [{"min_frequency": 20}, {"max_categories": 2, "drop": "if_binary"}, {}]
)
def test_encoders_with_rare_and_missing_levels(how):
    """A level that is not known, or missing, does not count; rare ones are one."""
    table = make_table(120)
    table.loc[:9, "kind"] = None
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False, **how)
    pipeline = make_pipeline(encode, PCA(2)).fit(table[["kind", "flag"]])
    held_out = make_table(60, seed=3)[["kind", "flag"]]
    scores = table_scores(tabular_model(pipeline, held_out), held_out)
    assert min(scores.deviance, scores.r2) > 0.2
    assert scores.accuracy > 0.6
    odd = held_out.copy()
    odd.loc[0, "kind"] = "new"
    gap = held_out.copy()
    gap.loc[0, "kind"] = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the encoder's
        found = [
            table_scores(tabular_model(pipeline, held_out), data).accuracy
            for data in (odd, gap)
        ]
    assert found[0] == found[1]


def test_errors_of_tables():
    table = make_table()
    model = AutoencoderTransformer(2, max_iter=5, random_state=0).fit(table)
    expected = model.reconstruction_error(table, per_feature=True)
    frame = reconstruction_error(model, table, per_feature=True, as_frame=True)
    assert list(frame.columns) == list(table.columns)
    np.testing.assert_array_equal(frame, expected)
    pipeline = make_pipeline("passthrough", model)
    gaps = table.mask(np.random.default_rng(0).random(table.shape) < 0.1)
    np.testing.assert_array_equal(
        reconstruction_error(pipeline, gaps), model.reconstruction_error(gaps)
    )
    imputer = SimpleImputer(strategy="most_frequent").set_output(transform="pandas")
    imputes = make_pipeline(imputer, model).fit(table)
    with pytest.raises(ValueError, match="missing values, which a step imputes"):
        reconstruction_error(imputes, gaps)
    for X in (table, table.to_numpy(dtype=object)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn's, of names
            errors = reconstruction_error(pipeline, X, metric="absolute_error")
        np.testing.assert_array_equal(
            errors, model.reconstruction_error(table, metric="absolute_error")
        )


def test_what_is_not_defined_of_tables():
    table = make_table()
    pca = one_hot_pca(2).fit(table)
    with pytest.raises(ValueError, match="single samples of a table are not defined"):
        reconstruction_error(pca, table)
    ordinal = make_column_transformer(
        (OrdinalEncoder(), ["kind", "flag"]), (StandardScaler(), ["size", "weight"])
    )
    with pytest.raises(ValueError, match=r"'kind' of X.*OrdinalEncoder gives no prob"):
        reconstruction_r2_score(make_pipeline(ordinal, PCA(2)).fit(table), table)
    partial = make_column_transformer((StandardScaler(), ["size", "weight"]))
    with pytest.raises(ValueError, match="drops column 'kind'"):
        reconstruction_r2_score(make_pipeline(partial, PCA(2)).fit(table), table)
    with pytest.raises(ValueError, match=r"'kind' of X, of dtype .* PCA reconstructs"):
        reconstruction_deviance_score(PCA(2).fit(table[["size", "weight"]]), table)
    pipeline = make_pipeline(pca["encode"], Binarizer()).fit(table)
    with pytest.raises(TypeError, match="Binarizer has no inverse_transform"):
        reconstruction_r2_score(pipeline, table)
