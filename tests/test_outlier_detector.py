"""AutoencoderOutlierDetector: verdicts, thresholds, p-values, blame, odd data."""

import pickle

import numpy as np
import pytest
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
)
from skae._outliers.detector import _HeldOut

QUICK = AutoencoderTransformer(2, hidden_layer_sizes=(16,), max_iter=5)


def correlated(n_rows, n_features=10, seed=0):
    """Samples near a plane of three dimensions."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(1).standard_normal((3, n_features))
    scores = rng.standard_normal((n_rows, 3))
    return scores @ loadings + 0.3 * rng.standard_normal((n_rows, n_features))


def curved(n_rows, n_features=10, seed=0):
    """Samples near a bent surface of two dimensions."""
    rng = np.random.default_rng(seed)
    slopes = np.random.default_rng(1).standard_normal((2, n_features))
    X = np.sin(2 * rng.uniform(-2, 2, (n_rows, 2)) @ slopes)
    return X + 0.1 * rng.standard_normal(X.shape)


@parametrize_with_checks(
    [
        AutoencoderOutlierDetector(random_state=0),
        AutoencoderOutlierDetector(contamination=0.1),
        AutoencoderOutlierDetector(QUICK, random_state=0),
        AutoencoderOutlierDetector(
            VariationalAutoencoderTransformer(1, max_iter=5), random_state=0
        ),
    ],
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def scores_of(detector, X):
    return -detector.score_samples(X)


def off_the_surface(X, seed=0):
    """Samples with one entry of another sample: each feature is normal by itself."""
    rng = np.random.default_rng(seed)
    changed, rows = X.copy(), np.arange(len(X))
    features = rng.integers(X.shape[1], size=len(X))
    changed[rows, features] = X[rng.permutation(len(X)), features]
    return changed, features


@pytest.mark.parametrize("make", [correlated, curved])
def test_it_finds_what_no_feature_shows(make):
    X, new = make(1500), make(800, seed=1)
    odd, features = off_the_surface(make(800, seed=2))
    y = np.repeat([0, 1], 800)
    test = np.vstack([new, odd])
    detector = AutoencoderOutlierDetector(random_state=0).fit(X)
    area = roc_auc_score(y, scores_of(detector, test))
    forest = IsolationForest(random_state=0).fit(X)
    assert area > roc_auc_score(y, scores_of(forest, test)) + 0.1
    pca = PCA(5).fit(X)
    errors = ((test - pca.inverse_transform(pca.transform(test))) ** 2).sum(axis=1)
    assert area > roc_auc_score(y, errors) - 0.03
    # Blame.
    found = detector.feature_scores(odd).argmax(axis=1) == features
    of_deviations = np.abs(odd - X.mean(axis=0)) / X.std(axis=0)
    assert found.mean() > (of_deviations.argmax(axis=1) == features).mean() + 0.2


def test_outliers_among_the_training_samples_do_no_harm():
    X = correlated(800)
    odd = correlated(160, seed=1)
    odd[:, 0] += 6 * np.random.default_rng(0).standard_normal(160)
    train, y = np.vstack([X, odd]), np.repeat([0, 1], [800, 160])
    scores = scores_of(AutoencoderOutlierDetector(random_state=0).fit(train), train)
    center, covariance = train.mean(axis=0), np.cov(train.T)
    squares = (train - center) @ np.linalg.inv(covariance) * (train - center)
    area = roc_auc_score(y, scores)
    assert area > roc_auc_score(y, squares.sum(axis=1)) + 0.05


@pytest.mark.parametrize("contamination", [0.011, 0.05, 0.1, 0.25, 0.5])
def test_a_share_of_the_training_samples_is_flagged(contamination):
    X = curved(240)
    detector = AutoencoderOutlierDetector(
        QUICK, contamination=contamination, random_state=0
    )
    flagged = detector.fit_predict(X) == -1
    assert flagged.sum() == round(contamination * 240)
    decision = detector.decision_function(X)
    np.testing.assert_array_equal(flagged, decision < 0)
    np.testing.assert_array_equal(
        decision, detector.score_samples(X) - detector.offset_
    )
    assert len(np.unique(decision)) == 240


def test_ties_are_not_divided():
    X = np.repeat(curved(40), 5, axis=0)
    detector = AutoencoderOutlierDetector(QUICK, contamination=0.11, random_state=0)
    flagged = (detector.fit_predict(X) == -1).reshape(40, 5)
    assert (flagged.all(axis=1) | ~flagged.any(axis=1)).all()
    assert flagged.sum() == 20  # 22 would divide five equal samples


def test_automatic_threshold():
    X = correlated(1000)
    detector = AutoencoderOutlierDetector(random_state=0).fit(X)
    assert 0.01 < (detector.predict(correlated(1000, seed=1)) == -1).mean() < 0.06
    odd = X[:150] + 5 * np.random.default_rng(0).standard_normal((150, 10))
    found = AutoencoderOutlierDetector(random_state=0).fit_predict(np.vstack([X, odd]))
    assert (found[1000:] == -1).mean() > 0.98
    assert (found[:1000] == -1).mean() < 0.06


@pytest.mark.parametrize(
    "make",
    [
        correlated,
        curved,
        lambda n, seed=0: np.random.default_rng(seed).standard_t(3, (n, 20)),
    ],
)
def test_p_values_of_normal_samples_are_uniform(make):
    X = make(2000)
    detector = AutoencoderOutlierDetector(random_state=0).fit(X)
    new = make(2000, seed=1)
    p_values = detector.p_values(new)
    assert stats.kstest(p_values, "uniform").statistic < 0.06
    for alpha in (0.02, 0.1):
        flagged = detector.predict(new, alpha=alpha) == -1
        np.testing.assert_array_equal(flagged, p_values <= alpha)
        assert 0.3 * alpha < flagged.mean() < 1.5 * alpha
    assert ((p_values > 0) & (p_values <= 1)).all()
    far = detector.p_values(new[:3] + 100)
    n_held_out = [len(held_out.scores) for held_out in detector._held_out]
    assert sum(n_held_out) == 2000
    assert np.isin(far, [1 / (1 + n) for n in n_held_out]).all()
    # Training samples are judged by the model that they were held out from.
    of_train = detector.p_values(X)
    assert stats.kstest(of_train, "uniform").statistic < 0.005


def test_p_values_of_ties():
    held_out = _HeldOut.of(np.array([3.0, 2.0, 1.0, 2.0]), np.array([1, 1, 1, 2.0]))
    p_values = held_out.p_values(np.array([0.5, 2.0, 2.5, 4.0]))
    np.testing.assert_allclose(p_values, [1, 5 / 6, 2 / 6, 1 / 6])


def test_p_values_of_new_groups_need_groups():
    """Samples of a group are near each other, so each is easy for the others."""

    def of_groups(n_groups, seed):
        rng = np.random.default_rng(seed)
        centers = 3 * rng.standard_normal((n_groups, 30))
        labels = np.repeat(np.arange(n_groups), 20)
        return centers[labels] + 0.3 * rng.standard_normal((len(labels), 30)), labels

    X, labels = of_groups(40, 0)
    new, _ = of_groups(40, 1)
    detector = AutoencoderOutlierDetector(random_state=0)
    alarms = detector.fit(X, groups=labels).predict(new, alpha=0.1) == -1
    assert alarms.mean() < 0.2
    scrambled = np.random.default_rng(0).permutation(labels)
    without = detector.fit(X, groups=scrambled).predict(new, alpha=0.1) == -1
    assert without.mean() > 1.5 * alarms.mean()
    with pytest.raises(ValueError, match="groups has 3 labels"):
        detector.fit(X, groups=labels[:3])


def test_contributions_add_up_to_scores():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(correlated(300, 4), columns=["a", "b", "ü", "a b"])
    X.index = [f"row {i}" for i in range(300)]
    detector = AutoencoderOutlierDetector(random_state=0).fit(X)
    some = X.iloc[:50]
    contributions = detector.feature_scores(some, as_frame=True)
    assert (contributions >= 0).all(axis=None)
    assert contributions.columns.equals(some.columns)
    assert contributions.index.equals(some.index)
    scores = scores_of(detector, some)
    np.testing.assert_allclose(contributions.sum(axis=1), scores, rtol=1e-12)
    np.testing.assert_array_equal(detector.feature_scores(some), contributions)
    lacking = some.copy()
    lacking.iloc[::2, 1] = np.nan
    contributions = detector.feature_scores(lacking)
    assert (contributions[::2, 1] == 0).all()
    scores = scores_of(detector, lacking)
    np.testing.assert_allclose(contributions.sum(axis=1), scores, rtol=1e-12)


@pytest.mark.parametrize("network", [None, QUICK])
def test_scores_do_not_depend_on_the_call(network):
    X, new = curved(300), curved(64, seed=1)
    new[::5, 2] = np.nan
    detector = AutoencoderOutlierDetector(network, random_state=0).fit(X)
    methods = "score_samples", "p_values", "feature_scores"
    together = {name: getattr(detector, name)(new) for name in methods}
    with threadpool_limits(1):
        again = AutoencoderOutlierDetector(network, random_state=0)
        # Nor on the order of the training samples.
        again.fit(X[np.random.default_rng(0).permutation(300)])
    for name, result in together.items():
        alone = [getattr(detector, name)(new[i : i + 1]) for i in range(64)]
        np.testing.assert_array_equal(np.concatenate(alone), result)
        np.testing.assert_array_equal(getattr(again, name)(new), result)
    copied = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(copied.p_values(new), together["p_values"])


def test_weights():
    X = curved(120)
    weights = np.random.default_rng(0).integers(0, 4, 120)
    detector = AutoencoderOutlierDetector(QUICK, contamination=0.1, random_state=0)
    weighted = clone(detector).fit(X, sample_weight=weights)
    repeated = clone(detector).fit(np.repeat(X, weights, axis=0))
    np.testing.assert_array_equal(
        weighted.decision_function(X), repeated.decision_function(X)
    )
    halves = clone(detector).fit(X, sample_weight=weights / 2)
    ratio = halves.score_samples(X) / repeated.score_samples(X)
    np.testing.assert_allclose(ratio, 1, atol=0.2)
    with pytest.raises(ValueError, match=r"whole numbers.* for estimator=Variat"):
        AutoencoderOutlierDetector(VariationalAutoencoderTransformer(1)).fit(
            X, sample_weight=weights / 2
        )


@pytest.mark.parametrize("loss", ["squared_error", "log_loss"])
def test_variational_scores_are_evidence(loss):
    X = correlated(200) if loss == "squared_error" else 1 / (1 + np.exp(-curved(200)))
    network = VariationalAutoencoderTransformer(2, max_iter=20, loss=loss)
    detector = AutoencoderOutlierDetector(network, random_state=0).fit(X)
    (first, *_), new = detector._models, X[:9].copy()
    new[0, 3] = np.nan
    seen = new
    if loss == "log_loss":
        new[1:] = np.round(new[1:])  # the rest suggests more than 1
    else:
        seen = first.of_samples.standard.apply(new)
    n_observed = np.isfinite(new).sum(axis=1)
    bound = first.network.elbo(seen.astype(np.float32))
    without_constants = bound + first.network._log_of_unit() * n_observed
    expected = -2 * without_constants / n_observed
    np.testing.assert_allclose(first.scores(new), expected, rtol=1e-5)
    sums = detector.feature_scores(new).sum(axis=1)
    np.testing.assert_allclose(sums, scores_of(detector, new), rtol=1e-9)


def test_limited_networks_see_the_data_as_they_are():
    X = 1 / (1 + np.exp(-2 * curved(300)))
    network = AutoencoderTransformer(2, loss="log_loss", max_iter=20)
    detector = AutoencoderOutlierDetector(network, random_state=0).fit(X)
    for fitted in detector.estimators_:
        assert abs(fitted.mean_ - X.mean(axis=0)).max() < 0.1
    odd, _ = off_the_surface(X)
    y = np.repeat([0, 1], 300)
    assert roc_auc_score(y, scores_of(detector, np.vstack([X, odd]))) > 0.7
    # A feature that was constant is seen, too.
    with_constant = np.hstack([X, np.zeros((300, 1))])
    detector.fit(with_constant)
    odd = with_constant[:20].copy()
    odd[:, -1] = 1
    assert (detector.predict(odd) == -1).all()
    assert (detector.feature_scores(odd).argmax(axis=1) == 10).all()
    with pytest.raises(ValueError, match="loss='log_loss'"):
        detector.score_samples(odd + 1)


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_missing_values(share):
    X, new = correlated(600), correlated(300, seed=1)
    odd, _ = off_the_surface(correlated(300, seed=2), seed=1)
    rng = np.random.default_rng(0)
    test, y = np.vstack([new, odd]), np.repeat([0, 1], 300)
    complete = AutoencoderOutlierDetector(random_state=0).fit(X)
    lacking = np.where(rng.random(X.shape) < share, np.nan, X)
    lacking_test = np.where(rng.random(test.shape) < share, np.nan, test)
    lacking_test[0] = np.nan
    detector = AutoencoderOutlierDetector(random_state=0).fit(lacking)
    area = roc_auc_score(y, scores_of(complete, test))
    assert roc_auc_score(y, scores_of(detector, test)) > area - 0.04
    with_gaps = scores_of(detector, lacking_test)
    assert np.isfinite(with_gaps).all()
    assert roc_auc_score(y, with_gaps) > area - 0.02 - 0.6 * share
    # A sample is as usual as the rest of it, whatever it lacks.
    assert 0.5 < np.median(with_gaps[1:300]) / np.median(with_gaps[:300]) < 2
    assert detector.predict(lacking_test[:1]) == [1]
    assert detector.feature_scores(lacking_test[:1]).sum() == 0


def test_sparse_samples():
    X = sparse.random(400, 30, density=0.1, format="csr", random_state=0)
    detector = AutoencoderOutlierDetector(random_state=0)
    scores = scores_of(detector.fit(X), X)
    seen = detector._models[0].of_samples.standard.apply(X)
    assert sparse.issparse(seen)
    assert seen.dtype == np.float32
    # Not equal: sparse features are not centered.
    dense = scores_of(clone(detector).fit(X.toarray()), X.toarray())
    assert stats.spearmanr(scores, dense).statistic > 0.95
    np.testing.assert_allclose(scores_of(detector, X.toarray()), scores)


def test_a_person_would_order_them_so():
    X = correlated(40, 3)
    constant, almost = np.full((40, 1), 1000.0), np.zeros((40, 1))
    almost[7] = 1e-3
    X = np.hstack([X, constant, almost, 1e300 * X[:, :1], 1e-300 * X[:, 1:2]])
    detector = AutoencoderOutlierDetector(random_state=0).fit(X)
    scores = scores_of(detector, X)
    assert np.isfinite(scores).all()
    assert scores.argmax() == 7
    assert detector.feature_scores(X[7:8]).argmax() == 4
    odd = np.repeat(X[:1], 5, axis=0)
    odd[1, 3] = 1001
    odd[2, 3] = 2000
    odd[3, 4] = 1e-3
    odd[4] *= 1e5
    scores = scores_of(detector, odd)
    assert np.isfinite(scores).all()
    assert (scores[1:] > 4 * scores[0]).all()
    assert scores[1] == scores[2]  # a constant feature has no unit
    assert (detector.predict(odd[1:]) == -1).all()


def test_rounding_errors_do_not_count():
    """Two dimensions are exactly in a plane: four codes, six residuals have no room."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 2)) @ rng.standard_normal((2, 6))
    network = AutoencoderTransformer(4, hidden_layer_sizes=(), max_iter=5)
    detector = AutoencoderOutlierDetector(network, random_state=0).fit(X[:200])
    new = scores_of(detector, X[200:])
    assert new.max() < 3 * scores_of(detector, X[:200]).max()
    rounded = X[200:] * (1 + 1e-6 * rng.standard_normal((100, 6)))
    np.testing.assert_allclose(scores_of(detector, rounded), new, rtol=1e-2)
    off = X[200:] + rng.standard_normal((100, 6))
    assert scores_of(detector, off).min() > new.max()


@pytest.mark.parametrize("n_samples", [1, 2, 3, 5, 7, 12])
def test_few_samples(n_samples):
    X = curved(n_samples, 4)
    detector = AutoencoderOutlierDetector(random_state=0).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    assert len(detector.estimators_) == (3 if n_samples >= 6 else 1)
    # A fold is at least half as large as the others would be.
    n_held_out = n_samples // 6 if n_samples >= 6 else n_samples
    assert detector.p_values(X + 1000).max() <= 1 / (1 + n_held_out)
    equal = np.repeat(X[:1], 9, axis=0)
    detector.fit(equal)
    assert (detector.predict(equal) == 1).all()
    assert (detector.predict(equal + 1) == -1).all()


def test_many_features():
    X = correlated(60, 5000)
    network = AutoencoderTransformer(2, hidden_layer_sizes=(), max_iter=2)
    detector = AutoencoderOutlierDetector(network, random_state=0).fit(X)
    odd, features = off_the_surface(correlated(5, 5000, seed=2))
    odd[np.arange(5), features] += 60
    scores = scores_of(detector, np.vstack([correlated(5, 5000, seed=3), odd]))
    assert scores[:5].max() < scores[5:].min()
    blamed = detector.feature_scores(odd[:2]).argmax(axis=1)
    np.testing.assert_array_equal(blamed, features[:2])


def test_in_pipelines_and_searches():
    X, y = load_breast_cancer(return_X_y=True)
    X, y = np.vstack([X[y == 1][:200], X[y == 0][:20]]), np.repeat([1, 0], [200, 20])
    pipeline = make_pipeline(
        StandardScaler(), AutoencoderOutlierDetector(QUICK, random_state=0)
    )
    folds = StratifiedKFold(3)
    grid = {"autoencoderoutlierdetector__estimator__n_components": [1, 5]}
    for labels in (y, 2 * y - 1):  # inliers are 1, outliers 0 or -1
        search = GridSearchCV(pipeline, grid, scoring="roc_auc", cv=folds)
        search.fit(X, labels)
        assert search.best_score_ > 0.9
    inner = search.best_estimator_[-1].estimators_
    (chosen,) = search.best_params_.values()
    assert {network.n_components for network in inner} == {chosen}
    assert search.predict(X).shape == (220,)


def test_errors_change_nothing():
    X = curved(60)
    network = clone(QUICK)
    detector = AutoencoderOutlierDetector(network, random_state=0).fit(X)
    before = detector.score_samples(X)
    with pytest.raises(ValueError, match="contamination"):
        detector.set_params(contamination=0.7).fit(X)
    detector.set_params(contamination="auto", estimator__max_iter=-1)
    with pytest.raises(ValueError, match="max_iter"):
        detector.fit(X[:, :4])
    detector.set_params(estimator__max_iter=5)
    with pytest.raises(ValueError, match="no observed entry"):
        detector.fit(np.full((9, 3), np.nan))
    with pytest.raises(ValueError, match="infinity"):
        detector.fit(np.where(X > 1, np.inf, X))
    for size in (1.7e308, 1e307):
        with pytest.raises(ValueError, match="Feature 0 of X has values so large"):
            detector.fit(np.hstack([size * np.sign(X[:, :1]), X]))
    with pytest.raises(ValueError, match=r"alpha=2 is not between 0 and 1"):
        detector.predict(X, alpha=2)
    np.testing.assert_array_equal(detector.score_samples(X), before)
    assert not hasattr(network, "n_features_in_")
    with pytest.raises(AttributeError, match="before it is fitted"):
        _ = AutoencoderOutlierDetector().estimators_


def test_callers_settings_do_not_reach_the_networks():
    import sklearn

    pytest.importorskip("pandas")
    X = curved(60)
    expected = AutoencoderOutlierDetector(QUICK, random_state=0).fit(X).p_values(X)
    network = clone(QUICK).set_output(transform="pandas")
    with sklearn.config_context(transform_output="pandas"):
        detector = AutoencoderOutlierDetector(network, random_state=0).fit(X)
        np.testing.assert_array_equal(detector.p_values(X), expected)
