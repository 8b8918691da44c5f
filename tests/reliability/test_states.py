"""Any order of calls: an estimator is usable, or says that it is not fitted."""

import functools
import itertools
import pickle

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skae.io import load, save

from ..support.cases import times
from . import support
from .support import assert_usable, frozen, make, state_of

pytestmark = pytest.mark.reliability

N_FEATURES = 3


@functools.cache
def data(number, dtype="float64", *, is_sparse=False):
    """Some rows, in [0, 1] so that all losses have them."""
    X = np.random.default_rng(number).random((10 + number, N_FEATURES)).astype(dtype)
    return sparse.csr_array(np.where(X > 0.6, X, 0)) if is_sparse else X


MATRICES = st.builds(
    data,
    st.integers(0, 3),
    st.sampled_from(["float64", "float32"]),
    is_sparse=st.booleans(),
)
WEIGHTED = st.booleans()
# What may be set at any time. Some of it does not go together.
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "n_components": st.sampled_from([1, 2, 7]),
        "hidden_layer_sizes": st.sampled_from([(), (5,), (4, 3)]),
        "activation": st.sampled_from(["relu", "tanh"]),
        "solver": st.sampled_from(["adam", "sgd", "lbfgs"]),
        "loss": st.sampled_from(["squared_error", "log_loss"]),
        "init": st.sampled_from(["auto", "random", "pca"]),
        "learning_rate_init": st.sampled_from([0.001, 0.1]),
        "early_stopping": st.sampled_from([True, False, "auto"]),
        "max_iter": st.integers(1, 4),
        "batch_size": st.sampled_from(["auto", 4]),
        "alpha": st.sampled_from([0.0, 0.1]),
        "warm_start": st.booleans(),
        "random_state": st.integers(0, 2),
        "verbose": st.just(False),
    },
)
# No values of theirs: the error comes with the next fit.
WRONG_PARAMETERS = st.sampled_from(
    [
        {"n_components": 0},
        {"solver": "newton"},
        {"hidden_layer_sizes": (0,)},
        {"batch_size": -1},
        {"activation": ("relu", "tanh", "relu")},
        {"init": "pca", "activation": "logistic", "tied_weights": True},
        {"learning_rate_init": 1e300, "solver": "sgd", "init": "random"},
    ]
)
WRONG_DATA = st.sampled_from(
    [
        np.full((4, N_FEATURES), np.nan),
        np.ones((4, N_FEATURES + 1)) * np.inf,
        np.ones((0, N_FEATURES)),
        np.ones(N_FEATURES),
        [["a", "b", "c"]],
    ]
)


class AnyOrder(RuleBasedStateMachine):
    """Calls in any order, each held against what the estimator was before."""

    n_steps = 0
    folder = None  # of saved files

    @initialize(name=st.sampled_from(support.NAMES))
    def begin(self, name):
        self.model, self.is_fitted = make(name), False
        self.saved = []  # pairs of a file and the state it has to give
        self.numbers = itertools.count()

    def teardown(self):
        for path, _ in getattr(self, "saved", []):
            path.unlink()

    def _call(self, method, *args, **options):
        """Call a method; an error of the user's changes nothing."""
        before, of_args = state_of(self.model), frozen(args)
        try:
            with support.only_convergence_warnings():
                result = getattr(self.model, method)(*args, **options)
        except (ValueError, TypeError, AttributeError) as error:
            result, problem = None, str(error)
        type(self).n_steps += 1
        assert frozen(args) == of_args
        if result is None:
            assert problem
            assert state_of(self.model) == before
        else:
            assert result is self.model
        return result

    def _weights(self, X):
        if self.model._codes_are_distributions:  # which takes none
            return {}
        return {"sample_weight": np.arange(X.shape[0]) % 3}

    @rule(X=MATRICES, weighted=WEIGHTED)
    def fit(self, X, weighted):
        options = self._weights(X) if weighted else {}
        self.is_fitted |= self._call("fit", X, **options) is not None

    @rule(X=MATRICES, weighted=WEIGHTED)
    def partial_fit(self, X, weighted):
        if self.model.solver == "lbfgs":
            assert not hasattr(self.model, "partial_fit")
            return
        options = self._weights(X) if weighted else {}
        self.is_fitted |= self._call("partial_fit", X, **options) is not None

    @rule(X=MATRICES, X_val=MATRICES)
    def fit_with_validation(self, X, X_val):
        self.is_fitted |= self._call("fit", X, X_val=X_val) is not None

    @rule(X=WRONG_DATA, method=st.sampled_from(["fit", "partial_fit"]))
    def fail_of_data(self, X, method):
        if hasattr(self.model, method):
            assert self._call(method, X) is None

    @rule(parameters=WRONG_PARAMETERS, X=MATRICES)
    def fail_of_parameters(self, parameters, X):
        parameters = {
            name: value
            for name, value in parameters.items()
            if name in self.model.get_params()
        }
        before = {name: self.model.get_params()[name] for name in parameters}
        self._call("set_params", **parameters)
        self.is_fitted |= self._call("fit", X) is not None
        self._call("set_params", **before)

    @rule(X=MATRICES)
    def fail_of_an_unknown_parameter(self, X):
        assert self._call("set_params", no_such_parameter=1) is None

    @rule(parameters=PARAMETERS)
    def set_params(self, parameters):
        fitted = {k: v for k, v in state_of(self.model).items() if k.endswith("_")}
        assert self._call("set_params", **parameters) is not None
        after = state_of(self.model)
        assert {name: after[name] for name in fitted} == fitted

    @rule()
    def clone(self):
        other = clone(self.model)
        assert frozen(other.get_params()) == frozen(self.model.get_params())
        with pytest.raises(NotFittedError):
            other.transform(data(0))

    @rule()
    def go_on_as_a_clone(self):
        self.model, self.is_fitted = clone(self.model), False

    @rule(X=MATRICES, swap=st.booleans())
    def pickle(self, X, swap):
        self._check_copy(pickle.loads(pickle.dumps(self.model)), X, swap)

    @precondition(lambda self: self.is_fitted)
    @rule(X=MATRICES, swap=st.booleans())
    def save_and_load(self, X, swap):
        path = self.folder / f"{next(self.numbers)}.safetensors"
        save(self.model, path)
        self.saved.append((path, state_of(self.model)))
        self._check_copy(load(path), X, swap)

    @precondition(lambda self: self.saved)
    @rule(data=st.data())
    def load_an_old_file(self, data):
        path, state = data.draw(st.sampled_from(self.saved))
        self.model, self.is_fitted = load(path), True
        assert state_of(self.model) == state

    @precondition(lambda self: self.saved and self.is_fitted)
    @rule(data=st.data())
    def overwrite_a_file(self, data):
        number = data.draw(st.integers(0, len(self.saved) - 1))
        path, _ = self.saved[number]
        save(self.model, path)
        self.saved[number] = path, state_of(self.model)

    def _check_copy(self, other, X, swap):
        """The same numbers now, and the same in further training."""
        assert state_of(other) == state_of(self.model)
        if self.is_fitted:
            assert frozen(other.transform(X)) == frozen(self.model.transform(X))
        going_on = support.copy_of(self.model), other
        for method in ("partial_fit", "fit"):
            results = []
            for model in going_on:
                if not hasattr(model, method):
                    continue
                model.set_params(warm_start=True)
                with support.only_convergence_warnings():
                    try:
                        getattr(model, method)(X)
                    except ValueError as error:
                        results.append(str(error))
                results.append(state_of(model))
            assert results[: len(results) // 2] == results[len(results) // 2 :]
        if swap:
            self.is_fitted |= hasattr(other, "coefs_")
            self.model = other

    @invariant()
    def is_usable_or_says_not_fitted(self):
        if not hasattr(self, "model"):
            return
        X = data(1)
        if not self.is_fitted:
            with pytest.raises(NotFittedError):
                self.model.transform(X)
            return
        with support.only_convergence_warnings():
            fitted = support.copy_of(self.model)
            assert_usable(fitted.set_params(n_components=fitted.n_components_), X)
            assert np.isfinite(self.model.score(X))


N_SEQUENCES = times(60, 800)


def test_any_order_of_calls(count, tmp_path):
    AnyOrder.folder, AnyOrder.n_steps = tmp_path, 0
    settings = support.settings(N_SEQUENCES, stateful_step_count=15)
    machine = hypothesis.seed(support.SEED)(AnyOrder)
    run_state_machine_as_test(machine, settings=settings)
    what = f"calls in {N_SEQUENCES} sequences"
    count("calls in any order", what, AnyOrder.n_steps)
