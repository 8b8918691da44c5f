"""What Dask and dask-ml do with estimators, done with an autoencoder."""

import os
from functools import partial
from itertools import permutations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
)

from .support.processes import score_and_tell

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")
joblib = pytest.importorskip("joblib")

pytestmark = pytest.mark.cluster

CHUNKS = (40, 25, 35)
X = np.random.default_rng(0).normal(size=(sum(CHUNKS), 4))
LAZY = da.from_array(X, chunks=(CHUNKS, 4))


def make(kind=AutoencoderTransformer, **parameters):
    small = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0}
    return kind(**{**small, **parameters})


@pytest.fixture(scope="module")
def wrappers():
    """Return dask_ml.wrappers."""
    try:
        import dask_ml.wrappers
    except ImportError as error:
        pytest.skip(f"dask-ml is missing, or not for these versions: {error}")
    return dask_ml.wrappers


def is_same_network(one, other):
    pairs = zip(
        one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True
    )
    return all(np.array_equal(*pair) for pair in pairs)


def passed_over(blocks):
    """An autoencoder that has seen some blocks, one after the other."""
    model = make()
    for block in blocks:
        model.partial_fit(block)
    return model


def test_search_on_dask_workers(client, tmp_path):
    grid = {"n_components": [1, 2]}
    expected = GridSearchCV(make(), grid, cv=2).fit(X)
    # Before joblib 1.3 it had another name.
    on_backend = getattr(joblib, "parallel_config", joblib.parallel_backend)
    with on_backend("dask", client=client):
        scoring = partial(score_and_tell, tmp_path)
        search = GridSearchCV(make(), grid, cv=2, scoring=scoring).fit(X)
    scorers = {int(path.name) for path in tmp_path.iterdir()}
    assert scorers
    assert scorers <= set(client.run(os.getpid).values())
    name = "mean_test_score"
    assert np.array_equal(search.cv_results_[name], expected.cv_results_[name])
    assert is_same_network(search.best_estimator_, expected.best_estimator_)


@pytest.mark.parametrize("shuffled", [False, True])
def test_incremental(client, wrappers, shuffled):
    blocks = np.split(X, np.cumsum(CHUNKS)[:-1])
    orders = permutations(blocks) if shuffled else [blocks]
    incremental = wrappers.Incremental(make(), shuffle_blocks=shuffled, random_state=1)
    model = incremental.fit(LAZY).estimator_
    assert any(is_same_network(model, passed_over(order)) for order in orders)
    assert incremental.score(LAZY, None) == model.score(X)


@pytest.mark.parametrize(
    "kind", [AutoencoderTransformer, VariationalAutoencoderTransformer]
)
def test_parallel_post_fit(client, wrappers, kind):
    model = make(kind).fit(X)
    wrapped = wrappers.ParallelPostFit(estimator=model)
    code = wrapped.transform(LAZY)
    assert isinstance(code, da.Array)
    assert code.chunks[0] == CHUNKS
    assert np.array_equal(code.compute(), model.transform(X))
    frame = dd.from_dask_array(LAZY, columns=list("abcd"))
    model.fit(frame.compute())
    code = wrapped.transform(frame)
    assert isinstance(code, da.Array)
    assert np.array_equal(code.compute(), model.transform(frame.compute()))


@pytest.mark.parametrize(
    ("kind", "method", "as_frame"),
    [
        (AutoencoderTransformer, "fit", True),
        (AutoencoderTransformer, "partial_fit", False),
        (VariationalAutoencoderTransformer, "fit", False),
    ],
)
def test_fit_warns_that_it_gathers(kind, method, as_frame):
    """And names the class that does not, where there is one."""
    data = dd.from_dask_array(LAZY, columns=list("abcd")) if as_frame else LAZY
    model = make(kind)
    with pytest.warns(UserWarning, match="gathered") as caught:
        getattr(model, method)(data)
    (warning,) = [w for w in caught if w.category is UserWarning]
    is_named = "skae.dask.DaskAutoencoderTransformer" in str(warning.message)
    assert is_named == (kind is AutoencoderTransformer)
    expected = getattr(make(kind), method)(X)
    assert is_same_network(model, expected)
    assert np.array_equal(model.transform(data), expected.transform(X))


DETECTORS = {
    "default": None,
    "plain": AutoencoderTransformer(2, hidden_layer_sizes=(5,), max_iter=3),
    "variational": VariationalAutoencoderTransformer(2, max_iter=3),
}


@pytest.mark.parametrize("estimator", DETECTORS.values(), ids=DETECTORS)
def test_outliers_in_partitions(client, estimator):
    """Each worker scores what it has, with the bits of one call for all."""
    incomplete = X.copy()
    incomplete[::7, 1] = np.nan
    lazy = da.from_array(incomplete, chunks=(CHUNKS, 4))
    detector = AutoencoderOutlierDetector(estimator, random_state=0).fit(incomplete)
    for method in (detector.score_samples, detector.p_values):
        scores = lazy.map_blocks(method, dtype=float, drop_axis=1)
        assert scores.chunks == (CHUNKS,)
        assert np.array_equal(scores.compute(), method(incomplete))
    frame = dd.from_dask_array(lazy, columns=list("abcd"))
    local = frame.compute()
    detector.fit(local)
    labels = frame.map_partitions(detector.predict)
    assert np.array_equal(labels.compute(), detector.predict(local))
    by_feature = partial(detector.feature_scores, as_frame=True)
    shares = frame.map_partitions(by_feature).compute()
    assert shares.equals(by_feature(local))


@pytest.mark.parametrize("as_frame", [False, True])
@pytest.mark.parametrize(
    "model",
    [
        AutoencoderImputer(random_state=0),
        AutoencoderOutlierDetector(DETECTORS["plain"], random_state=0),
    ],
)
def test_others_warn_that_they_gather(client, model, as_frame):
    data = dd.from_dask_array(LAZY, columns=list("abcd")) if as_frame else LAZY
    with pytest.warns(UserWarning, match="gathered in the memory of this process$"):
        fitted = clone(model).fit(data)
    method = "transform" if hasattr(model, "transform") else "score_samples"
    found, expected = (getattr(m, method) for m in (fitted, clone(model).fit(X)))
    assert np.array_equal(found(data), expected(X))
