"""What "auto" stands for and how it can be seen; where `partial_fit` continues."""

import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import scale

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer
from skae.io import load, save
from skae.metrics import reconstruction_r2_score

DIGITS = load_digits().data
WINE = scale(load_wine().data)
CANCER = scale(load_breast_cancer().data)


def test_what_auto_chose():
    model = AutoencoderTransformer(3, random_state=0).fit(DIGITS)
    assert model.hidden_layer_sizes_ == (100, 50)
    assert model.batch_size_ == 32
    n_batches = -(-int(0.8 * len(DIGITS)) // 32)
    assert model.max_iter_ == -(-10_000 // n_batches)
    assert 0 < model.best_iter_ <= model.n_iter_ < model.max_iter_
    # Training ends where the validation loss no longer falls.
    losses = model.validation_loss_curve_
    lowest = 1 + int(np.argmin(losses))
    assert model.n_iter_ - 11 <= lowest <= model.n_iter_
    assert losses[model.best_iter_ - 1] < model.initial_loss_
    given = clone(model).set_params(
        hidden_layer_sizes=[20], batch_size=50, max_iter=7, early_stopping=False
    )
    given.fit(DIGITS)
    assert given.hidden_layer_sizes_ == (20,)
    assert (given.batch_size_, given.max_iter_) == (50, 7)
    assert given.best_iter_ == given.n_iter_ == 7


def test_patience_is_the_users():
    fitted = [
        AutoencoderTransformer(3, n_iter_no_change=n, random_state=0).fit(DIGITS[:300])
        for n in (3, np.inf)
    ]
    assert fitted[0].n_iter_ < fitted[1].n_iter_ == fitted[1].max_iter_


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"early_stopping": True}, "lowest"),
        ({"early_stopping": False, "max_iter": 9}, "last"),
        ({"init": "pca", "learning_rate_init": 3.0, "max_iter": 3}, "first"),
        ({"solver": "lbfgs", "early_stopping": False, "max_iter": 9}, "last"),
    ],
)
def test_the_epoch_that_was_kept(params, kept):
    """The loss of what was kept is that of the epoch."""
    model = AutoencoderTransformer(2, random_state=0, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(CANCER)
    if kept == "lowest":
        assert model.best_iter_ == 1 + np.argmin(model.validation_loss_curve_)
    else:
        assert model.best_iter_ == (0 if kept == "first" else model.n_iter_)
    if kept == "first":
        pca = reconstruction_r2_score(PCA(2).fit(CANCER), CANCER)
        assert reconstruction_r2_score(model, CANCER) == pytest.approx(pca)


def test_epochs_are_counted_through_warm_starts(tmp_path):
    model = AutoencoderTransformer(2, max_iter=4, warm_start=True, random_state=0)
    model.set_params(early_stopping=False, tol=0).fit(DIGITS).fit(DIGITS)
    assert (model.best_iter_, model.n_iter_, len(model.loss_curve_)) == (8, 4, 8)
    save(model, tmp_path / "model.skae")
    loaded = load(tmp_path / "model.skae")
    for name in (
        "best_iter_",
        "batch_size_",
        "max_iter_",
        "hidden_layer_sizes_",
        "initial_loss_",
    ):
        assert getattr(loaded, name) == getattr(model, name)
    assert model.fit(DIGITS).best_iter_ == loaded.fit(DIGITS).best_iter_ == 12


@pytest.mark.parametrize(
    ("X", "params", "end"),
    [
        (DIGITS, {}, r"no lower validation loss in 10 epochs; kept epoch \d+, "),
        (WINE[:20], {}, "too few samples.*; kept PCA, loss"),
        (WINE, {"max_iter": 3, "early_stopping": False}, "max_iter; kept epoch 3, "),
    ],
)
def test_the_last_line_says_why_training_ended(X, params, end, capsys):
    AutoencoderTransformer(2, verbose=1, random_state=0, **params).fit(X)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("[AutoencoderTransformer] end: ")
    assert re.search(end, last)
    assert re.search(r"; \d+\.\d s$", last)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("X", [DIGITS, WINE, DIGITS.astype(np.float32)])
def test_a_share_of_the_variance(X, share):
    pca = PCA(share).fit(X)
    model = AutoencoderTransformer(share, max_iter=2, random_state=0).fit(X)
    assert model.n_components_ == pca.n_components_
    assert model.transform(X).shape == (len(X), pca.n_components_)
    # What goes on has the size that it began with.
    model.set_params(warm_start=True).fit(X[:100])
    assert model.partial_fit(X[:50]).n_components_ == pca.n_components_
    constant = clone(model).set_params(warm_start=False).fit(np.ones((50, 3)))
    assert constant.n_components_ == 1


@pytest.mark.parametrize("n_components", [None, "mle", "auto"])
@pytest.mark.parametrize(
    "kind", [AutoencoderTransformer, VariationalAutoencoderTransformer]
)
def test_what_only_pca_has(kind, n_components):
    with pytest.raises(ValueError, match=r"needs the size of its code.*=0\.95"):
        kind(n_components).fit(WINE)


def test_a_code_as_wide_as_the_data_warns():
    X = WINE[:, :4]
    wide = AutoencoderTransformer(4, max_iter=2, random_state=0)
    with pytest.warns(UserWarning, match="n_components=4 is not below.*4") as caught:
        wide.fit(X)
    assert caught[0].filename == __file__
    wide.set_params(noise="gaussian").fit(X)
    wide.set_params(noise=None, sparsity="l1").fit(X)
    VariationalAutoencoderTransformer(4, max_iter=2).fit(X)


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_of_given_length_ends_as_planned():
    """No warning: the learning rate has ended with the epochs."""
    explicit = AutoencoderTransformer(
        2, max_iter=15, learning_rate="cosine", early_stopping=False, random_state=0
    )
    auto = clone(explicit).set_params(learning_rate="auto")
    np.testing.assert_array_equal(
        auto.fit_transform(DIGITS), explicit.fit_transform(DIGITS)
    )
    search = GridSearchCV(clone(auto), {"n_components": [1, 2]}, cv=2)
    assert search.fit(DIGITS[:300]).best_params_["n_components"] == 2


def test_a_fit_that_others_follow_has_a_constant_rate():
    params = {"early_stopping": False, "tol": 0, "random_state": 0}
    auto = AutoencoderTransformer(2, max_iter=3, warm_start=True, **params)
    whole = AutoencoderTransformer(2, max_iter=6, learning_rate="constant", **params)
    auto.fit(DIGITS).fit(DIGITS)
    np.testing.assert_array_equal(
        auto.transform(DIGITS), whole.fit(DIGITS).transform(DIGITS)
    )


def test_the_warning_is_of_the_users_line_and_names_what_to_set():
    model = AutoencoderTransformer(2, max_iter=2, learning_rate="constant")
    model.set_params(early_stopping=False)
    with pytest.warns(UserWarning, match="max_iter.*now 2.*tol.*cosine") as caught:
        model.fit(WINE)
    assert caught[0].filename == __file__


def test_partial_fit_continues_from_the_weights_that_were_kept():
    """PCA was: the weights that training ended with lose 0.3 of R²."""
    noise = np.random.RandomState(0).standard_normal((150, 13))
    model = AutoencoderTransformer(2, n_iter_no_change=100, random_state=0).fit(noise)
    assert model.best_iter_ == 0
    pca = model.score(noise)
    assert model.partial_fit(noise).score(noise) > pca - 0.02
    assert model.best_iter_ == len(model.loss_curve_)
    # And from there again.
    assert model.partial_fit(noise).score(noise) > pca - 0.02


def test_partial_fit_continues_from_the_best_epoch():
    model = AutoencoderTransformer(
        3, early_stopping=True, n_iter_no_change=40, random_state=0
    )
    model.fit(WINE)
    assert 0 < model.best_iter_ < model.n_iter_
    before = model.score(WINE)
    model.set_params(learning_rate_init=1e-9)
    assert model.partial_fit(WINE).score(WINE) == pytest.approx(before, abs=1e-5)


@pytest.mark.parametrize("n_samples", [1, 5])
def test_a_first_batch_without_spread_fixes_nothing(n_samples, tmp_path):
    X = 100 * WINE + 7
    model = AutoencoderTransformer(2, random_state=0)
    model.partial_fit(np.repeat(X[:1], n_samples, axis=0))
    assert model.scale_ == 1
    save(model, tmp_path / "model.skae")
    for continued in (model, load(tmp_path / "model.skae")):
        continued.partial_fit(X)
        both = np.concatenate([np.repeat(X[:1], n_samples, axis=0), X])
        np.testing.assert_allclose(continued.mean_, both.mean(axis=0), rtol=1e-12)
        spread = np.sqrt(both.var(axis=0).mean())
        assert continued.scale_ == pytest.approx(spread, rel=1e-12)
        assert continued.score(X) > 0.5
    warm = AutoencoderTransformer(2, warm_start=True, max_iter=3, random_state=0)
    warm.fit(np.ones((60, 13))).fit(X)
    assert warm.scale_ > 50
    single = AutoencoderTransformer(2, random_state=0)
    for x in X[:4]:
        single.partial_fit(x[np.newaxis])
    assert single.scale_ > 10
    # A fit forgets constant data before.
    model = AutoencoderTransformer(2, max_iter=2, random_state=0)
    model.partial_fit(np.full((1000, 13), 7.0)).fit(np.zeros((20, 13))).partial_fit(X)
    both = np.concatenate([np.zeros((20, 13)), X])
    np.testing.assert_allclose(model.mean_, both.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize("rate", [30.0, 1e8])
def test_a_pass_that_diverges_says_so_and_changes_nothing(rate):
    model = AutoencoderTransformer(2, learning_rate_init=rate, random_state=0)
    with pytest.raises(ValueError, match="Training diverged"):
        model.partial_fit(WINE)
    with pytest.raises(NotFittedError):
        model.transform(WINE)
    model.set_params(learning_rate_init=1e-3).partial_fit(WINE)
    before = model.transform(WINE)
    model.set_params(learning_rate_init=rate)
    with pytest.raises(ValueError, match="Training diverged"):
        model.partial_fit(WINE)
    np.testing.assert_array_equal(model.transform(WINE), before)


def test_a_batch_of_outliers_is_no_divergence():
    model = AutoencoderTransformer(2, random_state=0).partial_fit(WINE)
    model.partial_fit(50 * WINE)
    assert model.loss_curve_[1] > 100 * model.loss_curve_[0]
