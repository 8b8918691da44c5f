"""What parameters amount to, by themselves and where "auto" stands for them."""

import numpy as np
import pytest
from sklearn.utils import get_tags

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer
from skae._compiled.schedules import SCHEDULES
from skae._training.settings import describe_network, describe_solver


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "n_updates"),
    [
        *((1, 1, 10_000), (99, 99, 10_000), (100, 100, 10_000), (101, 32, 10_000)),
        *((20_000, 32, 10_000), (20_001, 200, 5_000), (100_000, 200, 5_000)),
        (1_000_000, 200, 50_000),  # ten epochs
    ],
)
def test_auto_batches_and_epochs(n_rows, batch_size, n_updates):
    solver = describe_solver(AutoencoderTransformer(), n_rows)
    assert solver.batch_size == batch_size
    n_batches = -(-n_rows // batch_size)
    assert n_updates <= solver.max_iter * n_batches < n_updates + n_batches
    # Means over a batch, and what is drawn, want larger ones.
    for changes in ({"noise": "masking"}, {"sparsity": "l1"}):
        larger = describe_solver(AutoencoderTransformer(**changes), n_rows)
        assert larger.batch_size == min(n_rows, 100 if n_rows <= 20_000 else 200)
    variational = describe_solver(VariationalAutoencoderTransformer(), n_rows)
    assert variational.batch_size == larger.batch_size


def test_auto_is_patient_for_some_updates():
    estimator = AutoencoderTransformer()
    for n_rows, patience in ((90, 100), (200, 15), (1000, 10)):
        solver = describe_solver(estimator, n_rows, watches_validation=True)
        assert solver.n_iter_no_change == patience
    estimator.set_params(early_stopping=True)
    assert describe_solver(estimator, 90).n_iter_no_change == 10


def test_a_batch_size_that_is_set_is_kept():
    for n_rows in (1_000, 100_000):
        solver = describe_solver(AutoencoderTransformer(batch_size=32), n_rows)
        assert solver.batch_size == 32
    assert describe_solver(AutoencoderTransformer(batch_size=32), 10).batch_size == 10


@pytest.mark.parametrize(
    ("params", "max_epochs", "schedule"),
    [
        ({}, None, "cosine"),
        ({}, 1, "constant"),
        ({"max_iter": 30}, None, "cosine"),
        ({"warm_start": True}, None, "constant"),
        ({"learning_rate": "invscaling"}, None, "invscaling"),
        ({"learning_rate": "cosine", "max_iter": 30}, 1, "cosine"),
    ],
)
def test_auto_schedule(params, max_epochs, schedule):
    solver = describe_solver(AutoencoderTransformer(**params), 100, max_epochs)
    assert solver.schedule == SCHEDULES[schedule].kind


@pytest.mark.parametrize(
    ("n_components", "hidden"),
    [(2, [100, 50]), (30, [100, 60]), (70, [140, 140]), (1000, [160, 160])],
)
def test_auto_hidden_layers_have_room_for_the_scores(n_components, hidden):
    """But not for more scores than there are principal components."""
    estimator = AutoencoderTransformer(n_components)
    widths = describe_network(estimator, 80, n_components)["widths"]
    assert widths == [80, *hidden, n_components, *hidden[::-1], 80]


@pytest.mark.parametrize(("n_rows", "n_epochs"), [(24_000, 17), (26_000, 49)])
def test_auto_is_for_the_rows_that_are_trained_on(n_rows, n_epochs):
    X = np.random.default_rng(0).standard_normal((n_rows, 2))
    estimator = AutoencoderTransformer(1, hidden_layer_sizes=(), random_state=0)
    estimator.set_params(tol=0, n_iter_no_change=np.inf)
    assert estimator.fit(X).n_iter_ == n_epochs


def numbers_of_size(power, dtype):
    """Random numbers times a power of the largest one of the dtype."""
    X = np.random.default_rng(0).standard_normal((60, 3)).astype(dtype)
    return X * dtype(float(np.finfo(dtype).max) ** power)


# scikit-learn, looking for NaN, adds up all numbers first.
@pytest.mark.filterwarnings("ignore:invalid value encountered in reduce")
@pytest.mark.parametrize("scale", ["auto", None, 2.0])
@pytest.mark.parametrize("power", [0.52, 0.9, 0.99])
def test_data_whose_variance_overflows_are_refused(power, scale, dtype):
    X = numbers_of_size(power, dtype)
    for Y in (X, np.sign(X) * np.finfo(dtype).max):
        estimator = AutoencoderTransformer(scale=scale, max_iter=2)
        with pytest.raises(ValueError, match=f"too large for {dtype.__name__}"):
            estimator.fit(Y)
        assert not hasattr(estimator, "n_features_in_")


def test_data_of_denormal_numbers_are_refused(dtype):
    X = numbers_of_size(0.0, dtype) * np.finfo(dtype).tiny / 8
    with pytest.raises(ValueError, match=f"too small for {dtype.__name__}"):
        AutoencoderTransformer(max_iter=2).fit(X)


@pytest.mark.parametrize("power", [-0.9, -0.5, 0.45])
def test_other_sizes_do_not_matter(power, dtype):
    estimator = AutoencoderTransformer(max_iter=2, random_state=0)
    score = estimator.fit(numbers_of_size(0.0, dtype)).score(
        numbers_of_size(0.0, dtype)
    )
    X = numbers_of_size(power, dtype)
    estimator.fit(X)
    assert np.isfinite(estimator.explained_variance_).all()
    X64 = estimator.inverse_transform(estimator.transform(X)).astype(float)
    spread = float(estimator.scale_)
    lost = ((X / spread - X64 / spread) ** 2).sum()
    total = ((X / spread - estimator.mean_ / spread) ** 2).sum()
    assert 1 - lost / total == pytest.approx(score, abs=1e-3)


def test_a_batch_may_vary_by_less_than_those_before(dtype):
    X = numbers_of_size(0.0, dtype)
    estimator = AutoencoderTransformer(random_state=0).partial_fit(X)
    estimator.partial_fit(X * np.finfo(dtype).tiny / 8)
    with pytest.raises(ValueError, match="too large"):
        estimator.partial_fit(numbers_of_size(0.9, dtype))
    assert np.isfinite(estimator.transform(X)).all()


@pytest.mark.parametrize(("scale", "dtype"), [(1e-40, "float32"), (1e39, "float32")])
def test_a_scale_that_the_dtype_has_not_is_refused(scale, dtype):
    X = numbers_of_size(0.0, np.dtype(dtype).type)
    with pytest.raises(ValueError, match="out of the range of float32"):
        AutoencoderTransformer(scale=scale).fit(X)
    AutoencoderTransformer(scale=scale, init="random", max_iter=1, tol=1).partial_fit(
        X.astype(float)
    )


def test_tags_of_a_loss_that_is_none():
    """They are asked for before parameters are validated."""
    estimator = AutoencoderTransformer(loss=["squared_error"])
    assert not get_tags(estimator).input_tags.positive_only
    with pytest.raises(ValueError, match="The 'loss' parameter"):
        estimator.fit(np.eye(3))


@pytest.mark.parametrize(
    ("sizes", "hidden"),
    [
        *((np.array(8), [8]), (np.int32(8), [8]), ([np.int64(8), 4], [8, 4])),
        *((np.array([8, 4]), [8, 4]), (range(8, 6, -1), [8, 7])),
    ],
)
def test_hidden_layer_sizes(sizes, hidden):
    estimator = AutoencoderTransformer(hidden_layer_sizes=sizes)
    widths = describe_network(estimator, 5, 2)["widths"]
    assert widths[1:-1] == [*hidden, 2, *hidden[::-1]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *((value, "") for value in (0, -1, 1.5, None, "a", (0,), (3, -1), ("a",))),
        ({8, 4}, "is a set, .*use a tuple or a list"),
        (frozenset([8]), "is a frozenset, .*use a tuple or a list"),
        ({8: 4}, "is a dict, .*use a tuple or a list"),
        (True, "whole number of units"),
        ([True, 8], "whole number of units"),
        (np.array([True]), "whole number of units"),
        (np.array(8.5), "whole number of units"),
        ([8.0], "whole number of units"),
        ([[8, 4]], "whole number of units"),
        ({"relu", "tanh"}, "is a set, .*use a tuple"),
        ([["relu"], ["gelu"]], ""),
        ([2**31], "2147483648 is too large: .* at most 2147483647"),
    ],
)
def test_bad_values_for_layers(value, message):
    is_name = "relu" in str(value)
    name = "activation" if is_name else "hidden_layer_sizes"
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        AutoencoderTransformer(**{name: value}).fit(np.eye(5))


@pytest.mark.parametrize("name", ["n_components", "max_iter", "kl_warmup"])
@pytest.mark.parametrize("value", [2**54, 2**63, 2**70])
def test_whole_numbers_that_are_too_large(name, value):
    estimator = VariationalAutoencoderTransformer(**{name: value})
    with pytest.raises(ValueError, match=f"{name}={value} is too large: .* at most"):
        estimator.fit(np.eye(5))


@pytest.mark.parametrize("name", ["batch_size", "n_iter_no_change"])
def test_whole_numbers_that_mean_all(name):
    params = {"max_iter": 2, "learning_rate": "cosine", "hidden_layer_sizes": (3,)}
    estimator = AutoencoderTransformer(**params, **{name: 2**70})
    assert estimator.fit(np.eye(5)).n_iter_ >= 1
