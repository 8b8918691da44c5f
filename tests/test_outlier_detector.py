"""AutoencoderOutlierDetector: verdicts, thresholds, p-values, blame, odd data."""

import itertools
import os
import pickle
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from scipy import sparse, special, stats
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
)
from skae._data.tables import EncodedTable
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


def skewed_table(n_rows, seed=0):
    """Counts and sizes that all depend on one exponential variable."""
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    x = rng.exponential(size=n_rows)
    counts = {
        f"count{rate}": np.minimum(rng.poisson(rate * x), 3).astype(str)
        for rate in (0.3, 1, 2)
    }
    size = x * rng.lognormal(sigma=0.5, size=n_rows)
    return pandas.DataFrame({"size": size, **counts})


@pytest.mark.parametrize(
    "make",
    [
        correlated,
        curved,
        skewed_table,
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
    odd = new[:3].assign(size=100.0) if make is skewed_table else new[:3] + 100
    far = detector.p_values(odd)
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
    without_constants = bound + first.network._omitted(np.isnan(new))
    expected = -2 * without_constants / n_observed
    np.testing.assert_allclose(first.scores(new), expected, rtol=1e-5)
    sums = detector.feature_scores(new).sum(axis=1)
    np.testing.assert_allclose(sums, scores_of(detector, new), rtol=1e-9)


def mixed(n_rows, seed=0):
    """A table whose numbers and categories depend on the same three factors."""
    pd = pytest.importorskip("pandas")
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(1)
    factors = rng.standard_normal((n_rows, 3))
    numbers = factors @ fixed.standard_normal((3, 4))
    X = pd.DataFrame(numbers + 0.3 * rng.standard_normal(numbers.shape))
    X.columns = [f"n{j}" for j in X]
    for n_levels in (2, 3, 5, 12):
        logits = factors @ (3 * fixed.standard_normal((3, n_levels)))
        chosen = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
        X[f"k{n_levels}"] = np.array([f"v{i:02}" for i in range(n_levels)])[chosen]
    return X


def swapped(X, seed=0):
    """Samples of which an entry is another sample's, if that is another value."""
    rng = np.random.default_rng(seed)
    columns, others = rng.integers(X.shape[1], size=len(X)), rng.permutation(len(X))
    values = X.to_numpy(dtype=object)
    rows = np.arange(len(X))
    is_other = values[rows, columns] != values[others, columns]
    new = values.copy()
    new[rows, columns] = values[others, columns]
    odd = X.from_records(new, columns=X.columns).astype(dict(X.dtypes))
    return odd[is_other].reset_index(drop=True), columns[is_other]


def test_tables():
    X, new = mixed(1200), mixed(500, seed=1)
    odd, columns = swapped(mixed(600, seed=2))
    detector = AutoencoderOutlierDetector(random_state=0).fit(X)
    test = odd.from_records([*new.to_numpy(), *odd.to_numpy()], columns=X.columns)
    y = np.repeat([0, 1], [500, len(odd)])
    area = roc_auc_score(y, scores_of(detector, test))
    names = [name for name in X if name.startswith("k")]
    encoder = make_column_transformer(
        (OneHotEncoder(), names), remainder=StandardScaler()
    )
    forest = make_pipeline(encoder, IsolationForest(random_state=0)).fit(X)
    assert area > roc_auc_score(y, -forest.score_samples(test)) + 0.12
    # A column counts once, whatever it has: about 1 for usual samples.
    assert 0.6 < np.median(scores_of(detector, new)) < 1.4
    blame = detector.feature_scores(odd, as_frame=True)
    assert blame.columns.equals(X.columns)
    np.testing.assert_allclose(blame.sum(axis=1), scores_of(detector, odd), rtol=1e-12)
    is_found = blame.to_numpy().argmax(axis=1) == columns
    assert is_found[columns < 4].mean() > 0.45
    assert is_found[columns >= 4].mean() > 0.45
    p_values = detector.p_values(new)
    assert stats.kstest(p_values, "uniform").statistic < 0.1
    of_train = detector.p_values(X)
    assert stats.kstest(of_train, "uniform").statistic < 0.005


@pytest.mark.parametrize(
    "network", [QUICK, VariationalAutoencoderTransformer(2, max_iter=5)]
)
def test_scores_of_tables_depend_on_a_samples_values_alone(network):
    pd = pytest.importorskip("pandas")
    X, new = mixed(200), mixed(40, seed=1)
    for name in ("n1", "k3", "k12"):
        X.loc[::7, name] = new.loc[::5, name] = None
    detector = AutoencoderOutlierDetector(network, random_state=0).fit(X)
    rng = np.random.default_rng(0)
    order = rng.permutation(8)
    others = X.iloc[rng.permutation(200), order].copy()
    for name in others:
        if name.startswith("k"):
            levels = rng.permutation(others[name].dropna().unique())
            others[name] = pd.Categorical(others[name], categories=levels)
    again = clone(detector).fit(others)
    methods = "score_samples", "p_values", "feature_scores"
    for name in methods:
        together = getattr(detector, name)(new)
        alone = [getattr(detector, name)(new.iloc[i : i + 1]) for i in range(6)]
        np.testing.assert_array_equal(np.concatenate(alone), together[:6])
        found = getattr(again, name)(new.iloc[:, order])
        if found.ndim == 2:
            assert (found[::5, np.isin(order, [1, 5, 7])] == 0).all()
            together = together[:, order]
        np.testing.assert_allclose(found, together, rtol=1e-12)
    copied = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(copied.p_values(new), detector.p_values(new))


def test_deviances_of_levels():
    """In nats, by the network's probabilities; a level that is new has 1 / (n + 1)."""
    X = mixed(150)
    detector = AutoencoderOutlierDetector(QUICK, random_state=0).fit(X)
    new = X.iloc[:20].copy()
    new.loc[0, "k3"], new.loc[1, "k3"] = None, "new"
    with pytest.warns(UserWarning, match=r"taken for very rare ones: column 'k3'"):
        matrix = detector._checked(new).matrix
    model = detector._models[0]
    rows = model.of_samples.standard.apply(matrix).toarray()
    seen = rows.copy()
    seen[1, 18:21] = np.nan  # to the network, it is missing
    table, n = detector._table, model._deviances.n_samples
    outputs = model.network._decode(
        model.network._encode(EncodedTable(seen, True, table))
    )
    starts = [4, *4 + np.cumsum(table.groups)]
    assert [table.name(column) for column in table.categories] == [
        "k12",
        "k2",
        "k3",
        "k5",
    ]
    expected = np.empty((20, 4))
    for j, (start, stop) in enumerate(itertools.pairwise(starts)):
        chances = special.softmax(outputs[:, start:stop].astype(float), axis=1)
        chance = (chances * rows[:, start:stop]).sum(axis=1)
        expected[:, j] = -np.log((n * chance + 1) / (n + 1))
    parts, deviances = model._parts(rows)
    np.testing.assert_allclose(deviances, expected, rtol=1e-4, atol=1e-6)
    assert np.isnan(deviances[0, 2])
    assert deviances[1, 2] == pytest.approx(np.log(n + 1))
    standard, distance = model.of_parts
    squares = distance.squared(standard.apply(parts))
    squares += np.nansum(expected / model._deviances.unit, axis=1)
    n_observed = np.where(np.arange(20) == 0, 9, 10)  # codes, numbers, categories
    np.testing.assert_allclose(model.scores(matrix), squares / n_observed, rtol=1e-4)


def test_unknown_levels_are_odd():
    X = mixed(400)
    X["always"] = "yes"
    odd = X.iloc[:60].copy()
    odd.loc[:29, "k2"] = odd.loc[30:, "always"] = "new"
    for network in (QUICK, VariationalAutoencoderTransformer(2, max_iter=5)):
        detector = AutoencoderOutlierDetector(network, random_state=0).fit(X)
        with pytest.warns(UserWarning, match="not seen in fit"):
            scores = scores_of(detector, odd)
        assert (scores > scores_of(detector, X.iloc[:60])).all()
        with pytest.warns(UserWarning, match="not seen in fit"):
            blamed = detector.feature_scores(odd).argmax(axis=1)
        assert (blamed == np.repeat([4, 8], 30)).mean() > 0.8
    detector.set_params(handle_unknown="error").fit(X)
    with pytest.raises(ValueError, match=r"column 'always': 'new'.* very rare ones"):
        detector.score_samples(odd)


def frames_to_try():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)

    def of(n, *sizes):
        return {
            f"c{j}": [f"v{i}" for i in rng.integers(size, size=n)]
            for j, size in enumerate(sizes)
        }

    number = rng.standard_normal(60)
    return {
        "3 samples": pd.DataFrame({"a": [1.0, 2, 3], "b": ["x", "y", "x"]}),
        "constant": pd.DataFrame({"a": number, "b": "x", **of(60, 3)}),
        "all constant": pd.DataFrame({"a": ["x"] * 9, "b": ["y"] * 9}),
        "categories": pd.DataFrame(of(200, 2, 3, 5, 9)),
        "one": pd.DataFrame(of(60, 4)),
        "empty": pd.DataFrame(
            {"a": number, "b": pd.Categorical([None] * 60), "c": np.nan, **of(60, 3)}
        ),
        "huge": pd.DataFrame({"a": 1e300 * number, **of(60, 3)}),
        "names": pd.DataFrame({"a": number, "b": [f"id {i}" for i in range(60)]}),
        "many levels": pd.DataFrame({"a": np.tile(number, 20), **of(1200, 300, 3)}),
    }


@pytest.mark.parametrize("name", frames_to_try())
def test_odd_tables(name):
    X = frames_to_try()[name]
    network = AutoencoderTransformer(1, hidden_layer_sizes=(8,), max_iter=2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_components=1 is not below")
        detector = AutoencoderOutlierDetector(network, random_state=0).fit(X)
    scores = scores_of(detector, X)
    assert np.isfinite(scores).all()
    blame = detector.feature_scores(X[:9])
    np.testing.assert_allclose(blame.sum(axis=1), scores[:9], rtol=1e-9, atol=1e-12)
    assert (detector.predict(X) == -1).mean() < 0.2
    if name == "one":  # of four common levels none is left out of the fit
        assert scores.max() < 3
    p_values = detector.p_values(X)
    assert ((p_values > 0) & (p_values <= 1)).all()


def test_which_columns_are_categories():
    X = np.column_stack([curved(120, 3), np.arange(120) % 3])
    network = clone(QUICK).set_params(categorical_features=[0])  # does not count
    by_number = AutoencoderOutlierDetector(
        network, random_state=0, categorical_features=[3], categories={3: [0, 1, 2, 7]}
    ).fit(X)
    assert by_number.estimators_[0].input_names_[3:] == [
        f"x3={i}" for i in (0, 1, 2, 7)
    ]
    odd = X[:10].copy()
    odd[:, 3] = 7
    assert (scores_of(by_number, odd) > scores_of(by_number, X[:10])).all()
    numbers = AutoencoderOutlierDetector(network, random_state=0).fit(X)
    plain = AutoencoderOutlierDetector(QUICK, random_state=0).fit(X)
    np.testing.assert_array_equal(numbers.score_samples(X), plain.score_samples(X))
    # A fit to numbers forgets the table.
    by_number.set_params(categorical_features=None, categories="auto").fit(X)
    np.testing.assert_array_equal(by_number.p_values(X), plain.p_values(X))
    with pytest.raises(ValueError, match="max_categories"):
        plain.set_params(max_categories=0).fit(X)


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


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_ends_all_networks():
    """Not the first alone; the detector stays as it was."""
    X = curved(3_000, n_features=100)
    endless = {"max_iter": 10**8, "tol": 0, "n_iter_no_change": np.inf}
    network = AutoencoderTransformer(2, early_stopping=False)
    detector = AutoencoderOutlierDetector(network, random_state=0)
    network.max_iter = 1
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        detector.fit(X)  # compiles
    before = pickle.dumps(vars(detector))
    network.set_params(**endless)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begin = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        detector.fit(X)
    assert time.perf_counter() - begin < 3
    network.set_params(max_iter=1, tol=1e-4, n_iter_no_change=10)
    assert pickle.dumps(vars(detector)) == before
