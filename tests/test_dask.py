"""DaskAutoencoderTransformer: collections, lazy results, conventions."""

import copy
import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skae import AutoencoderTransformer

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
pd = pytest.importorskip("pandas")

from skae.dask import DaskAutoencoderTransformer  # noqa: E402

from .support.dask_fits import SIZES, SMALL, X, assert_same, collection, fitted  # noqa: E402
from .support.tables import lacking, make_table  # noqa: E402

pytestmark = pytest.mark.cluster


def test_sparse_partitions(client):
    rows = X * (X > 0.5)
    as_sparse = collection(rows).map_blocks(sparse.csr_matrix)
    found = DaskAutoencoderTransformer(**SMALL).fit(as_sparse)
    assert_same(found, DaskAutoencoderTransformer(**SMALL).fit(collection(rows)))
    np.testing.assert_array_equal(
        found.transform(as_sparse).compute(), found.transform(rows)
    )


def test_unknown_sizes_and_empty_partitions(client):
    lazy = collection()
    kept = lazy[(lazy[:, 0] > 0.3) & (da.arange(300, chunks=SIZES) >= 90)]
    rows = X[90:][X[90:, 0] > 0.3]
    sizes = [int((part > 0.3).sum()) for part in np.split(X[90:, 0], [110, 111])]
    parameters = {**SMALL, "noise": "masking", "early_stopping": True}
    parameters["shuffle"] = False  # orders go by the numbers of partitions
    found = DaskAutoencoderTransformer(**parameters).fit(kept)
    expected = DaskAutoencoderTransformer(**parameters)
    sizes = tuple(size for size in sizes if size)
    expected.fit(collection(rows, sizes))
    np.testing.assert_array_equal(found.mean_, expected.mean_)
    assert found.loss_curve_ == pytest.approx(expected.loss_curve_, rel=1e-9)
    codes = found.transform(kept)
    np.testing.assert_array_equal(codes.compute(), found.transform(rows))
    assert found.score(kept) == pytest.approx(found.score(rows), rel=1e-12)


def test_several_chunks_of_columns_and_whole_numbers(client):
    rows = np.round(10 * X)
    expected = DaskAutoencoderTransformer(**SMALL).fit(collection(rows))
    in_pieces = da.from_array(rows.astype(np.int32), chunks=(SIZES, 5))
    assert_same(DaskAutoencoderTransformer(**SMALL).fit(in_pieces), expected)


def test_frames(client):
    dd = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame(X.astype(np.float32), columns=[f"x {i}" for i in range(12)])
    lazy = dd.from_pandas(frame, npartitions=3)
    found = DaskAutoencoderTransformer(**SMALL).fit(lazy)
    assert found._params.dtype == np.float32
    np.testing.assert_array_equal(found.feature_names_in_, frame.columns)
    codes, scores = found.transform(lazy), found.score_samples(lazy)
    assert isinstance(codes, da.Array)
    np.testing.assert_array_equal(codes.compute(), found.transform(frame))
    np.testing.assert_array_equal(scores.compute(), found.score_samples(frame))
    assert found.score(lazy) == pytest.approx(found.score(frame), rel=1e-12)
    mixed = lazy.assign(city="Rome", when=pd.Timestamp(0))
    with pytest.raises(ValueError, match=r"'when' of X has dtype datetime"):
        DaskAutoencoderTransformer(**SMALL).fit(mixed)
    with pytest.raises(ValueError, match="feature names should match"):
        found.set_params(warm_start=True).fit(lazy.rename(columns={"x 0": "y"}))
    np.testing.assert_array_equal(found.feature_names_in_, frame.columns)


def assert_same_frames(found, expected):
    """But for the index, which begins anew in each partition."""
    pd.testing.assert_frame_equal(found.compute().reset_index(drop=True), expected)


@pytest.mark.parametrize("is_text", [False, True])
def test_frames_with_categories(client, is_text):
    dd = pytest.importorskip("dask.dataframe")
    table = lacking(make_table()).astype({"large": "boolean", "city": "string"})
    if not is_text:
        table = table.astype({"city": "category"})
    whole = dd.from_pandas(table, npartitions=1)
    local = AutoencoderTransformer(**{**SMALL, "init": "auto"}).fit(table)
    one = DaskAutoencoderTransformer(**{**SMALL, "init": "auto"}, n_local_steps=1).fit(
        whole
    )
    assert_same(one, local)
    lazy = dd.from_pandas(table, npartitions=4)
    with pytest.warns(UserWarning, match="gathered in the memory"):
        assert_same(clone(local).fit(lazy), local)
    lazy = dd.concat([lazy.partitions[:2], lazy[lazy.n > 1e9], lazy.partitions[2:]])
    X_val = dd.from_pandas(make_table(30, seed=5).astype(table.dtypes), npartitions=2)
    parameters = {**SMALL, "init": "auto", "max_categories": 3, "min_frequency": 5}
    found = DaskAutoencoderTransformer(**parameters).fit(lazy, X_val=X_val)
    local = AutoencoderTransformer(**parameters).fit(table)
    assert found.input_names_ == local.input_names_
    np.testing.assert_allclose(found.mean_, local.mean_, rtol=1e-12)
    np.testing.assert_allclose(found.scale_, local.scale_, rtol=1e-12)
    assert found.loss_ == pytest.approx(local.loss_, rel=0.05)
    local, codes = found.to_local(), found.transform(lazy)
    np.testing.assert_array_equal(codes.compute(), local.transform(table))
    back = found.inverse_transform(codes)
    pd.testing.assert_series_equal(back.dtypes, table.dtypes)
    assert_same_frames(back, local.inverse_transform(codes.compute()))
    errors = found.reconstruction_error(lazy, per_feature=True)
    expected = local.reconstruction_error(table, per_feature=True)
    np.testing.assert_array_equal(errors.compute(), expected)
    weights = np.arange(len(table))
    score = local.score(table, sample_weight=weights)
    assert found.score(lazy, sample_weight=weights) == pytest.approx(score, rel=1e-12)
    with pytest.raises(ValueError, match="feature names should match"):
        found.transform(lazy.rename(columns={"city": "town"}))
    # A fit to numbers knows nothing of categories.
    numbers = lazy[["height", "n"]].fillna(0)
    assert not hasattr(found.fit(numbers), "categories_")


def test_levels_that_are_given(client):
    dd = pytest.importorskip("dask.dataframe")
    table, levels = make_table().astype({"city": "string"}), ["Rome", "Oslo", "Lima"]
    lazy = dd.from_pandas(table, npartitions=2)
    found = DaskAutoencoderTransformer(**SMALL, categories={"city": levels})
    with pytest.warns(UserWarning, match=r"not seen in fit.* 'city': 'Bonn', 'Nice'"):
        found.fit(lazy)
    assert found.categories_[1].tolist() == ["Lima", "Oslo", "Rome"]
    assert np.isfinite(found.score(dd.from_pandas(table[:5], npartitions=1)))
    found.set_params(handle_unknown="error")
    with pytest.raises(ValueError, match="'city': 'Bonn', 'Nice'"):
        found.fit(lazy)
    assert found.categories_[1].size == 3


def test_objects_in_arrays(client):
    table = make_table().astype(object).to_numpy()
    found = DaskAutoencoderTransformer(**SMALL, n_local_steps=1)
    found.fit(da.from_array(table, chunks=(200, 2)))
    assert_same(found, AutoencoderTransformer(**SMALL).fit(table))
    lazy = da.from_array(table, chunks=(70, 5))
    back = found.inverse_transform(found.transform(lazy))
    assert back.dtype == object
    assert back.shape == table.shape
    local = found.to_local()
    expected = local.inverse_transform(local.transform(table))
    np.testing.assert_array_equal(back.compute(), expected)


def test_results_are_lazy(client):
    found, lazy = fitted(), collection()
    local = found.to_local()
    assert type(local) is AutoencoderTransformer
    for result, expected in [
        (found.transform(lazy), local.transform(X)),
        (found.inverse_transform(found.transform(lazy)), None),
        (found.score_samples(lazy), local.score_samples(X)),
        (found.reconstruction_error(lazy), local.reconstruction_error(X)),
        (
            found.reconstruction_error(lazy, metric="loss", per_feature=True),
            local.reconstruction_error(X, metric="loss", per_feature=True),
        ),
    ]:
        assert isinstance(result, da.Array)
        if expected is None:
            expected = local.inverse_transform(local.transform(X))
        assert result.shape == expected.shape
        assert result.dtype == expected.dtype
        assert result.chunks[0] == lazy.chunks[0]
        np.testing.assert_array_equal(result.compute(), expected)
    weights = np.arange(300.0)
    assert found.score(lazy) == pytest.approx(local.score(X), rel=1e-12)
    expected = local.score(X, sample_weight=weights)
    for given in (weights, da.from_array(weights, chunks=100)):
        score = found.score(lazy, sample_weight=given)
        assert score == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match=r"0 sample\(s\) \(shape=\(0, 12\)\)"):
        found.score(lazy[:0])
    codes = found.fit_transform(lazy)
    assert isinstance(codes, da.Array)
    # In memory as ever.
    np.testing.assert_array_equal(found.transform(X), codes.compute())


def test_large_networks_are_sent_without_a_warning(client):
    """Of Dask, which would have them scattered."""
    found, lazy = fitted(), collection()
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": 1}):
        assert found.score(lazy) == pytest.approx(found.score(X), rel=1e-12)


INFERENCE = ("transform", "inverse_transform", "reconstruction_error", "score")


def test_what_is_no_collection_of_rows(client):
    """Before anything is computed, and after whether there is a model."""
    found = fitted()
    for make, error, match in (
        (lambda: da.zeros(4), ValueError, "Expected 2D array, got 1D"),
        (lambda: da.zeros((4, 4, 4)), TypeError, "Array of 3 dimensions"),
        (lambda: dask.delayed(X), TypeError, r"X is a Delayed.*, but has to be"),
        (categories, ValueError, r"'color' \(category\) are not numeric"),
    ):
        for method in INFERENCE:
            with pytest.raises(NotFittedError):
                getattr(clone(found), method)(make())
            with pytest.raises(error, match=match):
                getattr(found, method)(make())


def categories():
    dd = pytest.importorskip("dask.dataframe")
    colors = pd.Series(["red", "blue"], dtype="category")
    return dd.from_pandas(pd.DataFrame({"color": colors, "x": 0.0}), npartitions=1)


def notes(caught):
    return getattr(caught.value, "__notes__", [])


def test_errors_say_in_which_partition(client):
    rows = X.copy()
    rows[150, 3] = np.inf
    good, bad = collection(), collection(rows)
    estimator = DaskAutoencoderTransformer(**SMALL).fit(good)
    with pytest.raises(ValueError, match="Input X contains infinity") as caught:
        estimator.fit(bad)
    assert notes(caught) == ["In partition 1 of X"]
    with pytest.raises(ValueError, match="Input X_val contains infinity") as caught:
        estimator.fit(good, X_val=bad)
    assert notes(caught) == ["In partition 1 of X_val"]
    with pytest.raises(ValueError, match="and X_val has values from") as caught:
        clone(estimator).set_params(loss="log_loss").fit(good, X_val=2 * good)
    assert notes(caught) == ["In partition 0 of X_val"]
    dd = pytest.importorskip("dask.dataframe")
    for lazy in (bad, dd.from_dask_array(bad)):
        with pytest.raises(ValueError, match="contains infinity") as caught:
            estimator.transform(lazy).compute()
        assert notes(caught) == ["In partition 1 of X"]
        with pytest.raises(ValueError, match="contains infinity") as caught:
            estimator.score(lazy)
        assert notes(caught) == ["In partition 1 of X"]
    with pytest.raises(ValueError, match="0 sample"):
        estimator.fit(good, X_val=good[:0])


def test_errors_come_at_once(client):
    found, lazy = fitted(), collection()
    for method in (found.transform, found.score_samples, found.score):
        with pytest.raises(ValueError, match="X has 3 features, but Dask"):
            method(lazy[:, :3])
    with pytest.raises(ValueError, match="expects codes of n_components=2"):
        found.inverse_transform(lazy)
    with pytest.raises(ValueError, match="metric='no'"):
        found.reconstruction_error(lazy, metric="no")
    with pytest.raises(ValueError, match="does not go with a Dask collection"):
        clone(found).set_output(transform="pandas").fit_transform(lazy)
    for weights in (np.ones(7), np.ones(301), np.ones((300, 2))):
        with pytest.raises(ValueError, match=r"[Ss]ample.?weight"):
            found.score(lazy, sample_weight=weights)
        with pytest.raises(ValueError, match=r"[Ss]ample.?weight"):
            clone(found).fit(lazy, None, weights)
    with pytest.raises(ValueError, match="Negative values in sample_weight"):
        clone(found).fit(lazy, None, -np.ones(300))


def test_models_travel_without_the_state_of_training(client):
    found = fitted(solver="lbfgs")
    assert len(pickle.dumps(found._for_inference())) < len(pickle.dumps(found)) / 2
    error = found.reconstruction_error(collection(), metric="loss")
    expected = found.reconstruction_error(X, metric="loss")
    np.testing.assert_array_equal(error.compute(), expected)


def test_nothing_is_computed_before_it_is_asked_for(client):
    dd, found = pytest.importorskip("dask.dataframe"), fitted()

    def fails(block):
        raise AssertionError("computed")

    for method in (*INFERENCE[:-1], "score_samples"):
        rows = X[:, :2] if method == "inverse_transform" else X
        lazy = da.map_blocks(fails, collection(rows), dtype=X.dtype, meta=rows[:0])
        for given in (lazy, dd.from_dask_array(lazy)):
            result = getattr(found, method)(given)
            with pytest.raises(AssertionError, match="computed"):
                result.compute()


def test_client_is_neither_copied_nor_pickled(client):
    estimator = DaskAutoencoderTransformer(3, client=client, n_local_steps=2)
    assert clone(estimator).client is client
    assert clone(estimator).get_params() == estimator.get_params()
    for other in (pickle.loads(pickle.dumps(estimator)), copy.copy(estimator)):
        assert other.client is None
        assert other.n_local_steps == 2
    assert estimator.client is client
    fitted = DaskAutoencoderTransformer(client=client, **SMALL).fit(collection())
    assert not hasattr(clone(fitted), "mean_")
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))


def test_parameters_are_those_of_the_transformer():
    estimator = DaskAutoencoderTransformer(5, tied_weights=True)
    expected = AutoencoderTransformer(5, tied_weights=True).get_params()
    assert estimator.get_params() == {
        **expected,
        "client": None,
        "n_local_steps": "auto",
    }
    assert repr(estimator) == (
        "DaskAutoencoderTransformer(n_components=5, tied_weights=True)"
    )
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        DaskAutoencoderTransformer(depth=3)


def test_to_local_has_everything(client):
    found = fitted()
    local = found.to_local()
    assert local.get_params() == AutoencoderTransformer(**SMALL).get_params()
    assert_same(local, found)
    local.set_output(transform="pandas")
    assert isinstance(found.transform(X), np.ndarray)
    local.set_params(warm_start=True).fit(X)  # and can go on
    assert len(local.loss_curve_) == 8
    assert len(found.loss_curve_) == 4


def test_what_it_does_not_do(client):
    estimator = DaskAutoencoderTransformer(**SMALL)
    for name in ("partial_fit", "fit_batches"):
        assert not hasattr(estimator, name)
    estimator = DaskAutoencoderTransformer(solver="lbfgs", n_local_steps=3)
    with pytest.raises(ValueError, match=r"n_local_steps=3 .*solver='lbfgs'.*use 1"):
        estimator.fit(collection())
    for other in (dask.delayed(X), da.zeros((4, 4, 4))):
        with pytest.raises(TypeError, match=r"has to be a Dask array or dataframe"):
            DaskAutoencoderTransformer().fit(other)
    with pytest.raises(TypeError, match=r"ndarray.*AutoencoderTransformer"):
        DaskAutoencoderTransformer().fit(X)
    with pytest.raises(TypeError, match=r"client='tcp://here'.*distributed\.Client"):
        DaskAutoencoderTransformer(client="tcp://here").fit(collection())


def test_roundings_out_of_range(client):
    rounded = np.where(X.max() == X, 1 + 2e-16, X / X.max())
    assert rounded.max() > 1
    params = {**SMALL, "loss": "log_loss"}
    found, expected = (
        DaskAutoencoderTransformer(**params).fit(collection(rows))
        for rows in (rounded, np.minimum(rounded, 1))
    )
    np.testing.assert_array_equal(found.coefs_[0], expected.coefs_[0])


def test_verbose(client, capsys):
    fitted(verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "kept epoch 4" in lines[-1]
    assert all(line.startswith("[DaskAutoencoderTransformer]") for line in lines)
