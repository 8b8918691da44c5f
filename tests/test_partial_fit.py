"""partial_fit: one pass over some samples."""

import numpy as np
import pytest
from sklearn.base import clone

from skae import AutoencoderTransformer

from .support.cases import SCHEDULES, STOCHASTIC, make, make_data
from .support.fits import assert_same_fit
from .support.tables import make_table


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("learning_rate", SCHEDULES[:3])
def test_partial_fits_are_epochs(solver, learning_rate):
    X = make_data()
    params = {
        "solver": solver,
        "learning_rate": learning_rate,
        "decay": 0.01,
        "shuffle": False,
        "tol": 0,
    }
    whole = make("minibatch", max_iter=7, **params).fit(X)
    passes = make("minibatch", **params)
    for n in range(1, 8):
        assert passes.partial_fit(X).n_iter_ == n
        assert len(passes.loss_curve_) == n
    assert_same_fit(passes, whole)


def test_partial_fit_keeps_the_last_weights():
    """Also if they are worse than the weights before."""
    X = make_data()
    estimator = make("adam").fit(X)
    before = estimator.reconstruction_error(X).sum()
    estimator.set_params(learning_rate_init=0.5).partial_fit(X)
    assert estimator.reconstruction_error(X).sum() > before


def test_partial_fit_after_fit(dtype):
    X = make_data().astype(dtype)
    estimator = make("adam", early_stopping=True, max_iter=5).fit(X)
    mean, scale = estimator.mean_.copy(), estimator.scale_
    loss = estimator.loss_
    # Other data, other dtype: the network's scale and dtype stay.
    estimator.partial_fit(3 * X.astype(np.float64) + 1)
    assert estimator.n_iter_ == 6
    np.testing.assert_array_equal(estimator.mean_, mean)
    assert estimator.scale_ == scale
    assert estimator.transform(X).dtype == dtype
    assert all(weights.dtype == dtype for weights in estimator.coefs_)
    assert estimator.loss_ > loss


def test_partial_fit_with_another_solver():
    X = make_data()
    estimator = make("adam", max_iter=5).fit(X)
    estimator.set_params(warm_start=True).fit(X)
    estimator.set_params(solver="sgd").partial_fit(X)
    assert (estimator.n_iter_, len(estimator.loss_curve_)) == (6, 11)


def test_lbfgs_has_no_partial_fit():
    assert not hasattr(make("lbfgs"), "partial_fit")
    assert hasattr(make("adam"), "partial_fit")
    with pytest.raises(AttributeError) as caught:
        make("lbfgs").partial_fit(make_data())
    assert "lbfgs" in f"{caught.value} {caught.value.__cause__}"


def test_partial_fit_has_no_end_to_plan_for():
    X = make_data(150)
    auto = AutoencoderTransformer(init="random", random_state=0)
    constant = clone(auto).set_params(learning_rate="constant")
    for _ in range(5):
        auto.partial_fit(X)
        constant.partial_fit(X)
    assert auto.loss_ == constant.loss_


def test_a_tied_start_from_few_rows_can_learn_more():
    X = make_data(200)
    estimator = AutoencoderTransformer(
        3, hidden_layer_sizes=(), tied_weights=True, random_state=0
    )
    estimator.set_params(learning_rate_init=0.01, batch_size=50)
    estimator.partial_fit(X[:2])
    assert estimator.score(X) < 0.7
    for _ in range(200):
        estimator.partial_fit(X)
    assert estimator.score(X) > 0.9


def in_two_parts():
    """A table with a dtype that declares all levels, some of which occur later."""
    table = make_table(400).astype({"city": "category"})
    is_late = (table["city"] == "Nice") | ~table["large"]
    return table[~is_late], table


@pytest.mark.parametrize("how", ["dtype", "categories"])
def test_levels_that_occur_later(how):
    """They are learnt, and numbers are not forgotten meanwhile."""
    first, whole = in_two_parts()
    estimator = AutoencoderTransformer(3, hidden_layer_sizes=(32,), random_state=0)
    if how == "categories":
        levels = {name: whole[name].unique().tolist() for name in ("city", "large")}
        estimator.set_params(categories={**levels, "size": ["S", "M", "L", "XL"]})
        first, whole = first.astype({"city": object}), whole.astype({"city": object})
    estimator.partial_fit(first)
    assert len(estimator.input_names_) == 2 + 4 + 2 + 4
    assert estimator.scale_[estimator.input_names_.index("large=True")] == 1
    errors = estimator.reconstruction_error(first, metric="loss", per_feature=True)
    assert errors[:, [0, 2]].mean() < 0.03
    for _ in range(60):
        estimator.partial_fit(whole)
        errors = estimator.reconstruction_error(whole, metric="loss", per_feature=True)
        assert errors[:, [0, 2]].mean() < 0.22  # of 0.5
    back = estimator.inverse_transform(estimator.transform(whole))
    for name in ("city", "large"):
        assert (back[name] == whole[name]).mean() > 0.95
    # All samples are there in a fit: levels are those that occur.
    assert len(estimator.set_params(categories="auto").fit(first).categories_[1]) == 3


def test_levels_that_were_not_declared():
    first, whole = (part.astype({"city": object}) for part in in_two_parts())
    estimator = AutoencoderTransformer(3, random_state=0).partial_fit(first)
    lacking = clone(estimator).partial_fit(first)
    known = whole["city"].where(whole["city"] != "Nice")
    lacking.partial_fit(whole.assign(city=known))
    with pytest.warns(UserWarning, match="'city': 'Nice'"):
        estimator.partial_fit(whole)
    assert_same_fit(estimator, lacking)
    estimator.set_params(handle_unknown="error")
    with pytest.raises(ValueError, match="'city': 'Nice'"):
        estimator.partial_fit(whole)
    assert_same_fit(estimator, lacking)
