"""scikit-learn's estimator checks, with no expected failures."""

import importlib.util
import re
import warnings
from pathlib import Path

import pytest
from sklearn.base import clone
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import has_fit_parameter

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer

from .support.cases import (
    AT_PCA_CASES,
    CASES,
    LIMITED_OUTPUT_CASES,
    SAMPLING_CASES,
    UNIT_RANGE_CASES,
    VARIATIONAL_CASES,
    VARIATIONAL_UNIT_RANGE_CASES,
    times,
)
from .support.sklearn_adapters import (
    Float32Autoencoder,
    UnitRangeAutoencoder,
    UnitRangeVariational,
    UnweightedAutoencoder,
)

ALL_ESTIMATORS = {
    **{
        name: AutoencoderTransformer(**params)
        for name, params in {**CASES, **AT_PCA_CASES}.items()
    },
    **{name: UnitRangeAutoencoder(**p) for name, p in UNIT_RANGE_CASES.items()},
    **{name: UnitRangeAutoencoder(**p) for name, p in LIMITED_OUTPUT_CASES.items()},
    **{
        f"{name}_as_given": AutoencoderTransformer(**{**params, "scale": None})
        for name, params in LIMITED_OUTPUT_CASES.items()
    },
    # Non-negative data are what a tag can ask for.
    "relu_output": AutoencoderTransformer(
        **{**LIMITED_OUTPUT_CASES["logistic_output"], "output_activation": "relu"}
    ),
    **{name: UnweightedAutoencoder(**p) for name, p in SAMPLING_CASES.items()},
    # The default of 10,000 updates takes a second a fit.
    "variational_default": VariationalAutoencoderTransformer(max_iter=100),
    **{
        name: VariationalAutoencoderTransformer(**params)
        for name, params in VARIATIONAL_CASES.items()
    },
    **{
        name: UnitRangeVariational(**params)
        for name, params in VARIATIONAL_UNIT_RANGE_CASES.items()
    },
    **{
        f"{name}_float32": Float32Autoencoder(**CASES[name])
        for name in ("adam", "deep", "lbfgs", "tied")
    },
}

# Those whose fits take different ways through Python; `make soak` checks all.
DIFFERENT = (
    *("default", "adam", "lbfgs", "tied", "poisson", "sparse_kl", "pretrained"),
    *("tied_penalised_at_pca", "log_loss", "logistic_output_as_given", "relu_output"),
    *("early_stopping", "salt_and_pepper_noise", "variational", "adam_float32"),
)
ESTIMATORS = {name: ALL_ESTIMATORS[name] for name in times(DIFFERENT, ALL_ESTIMATORS)}


def _checks_of_scikit_learn_itself():
    """Names of the checks that its test_common.py adds to those of check_estimator."""
    spec = importlib.util.find_spec("sklearn.tests.test_common")
    source = Path(spec.origin).read_text()
    names = set(re.findall(r"^    (check_\w+),$", source, flags=re.MULTILINE))
    # Not run on transformers by check_estimator, though ours has a partial_fit.
    names.add("check_estimators_partial_fit_n_features")
    return sorted(names - {"check_estimator"})


EXTRA_CHECKS = _checks_of_scikit_learn_itself()


_checks = parametrize_with_checks(list(ESTIMATORS.values()))


# scikit-learn 1.6 hands over a generator, which pytest is about to refuse.
@pytest.mark.parametrize(_checks.args[0], list(_checks.args[1]), **_checks.kwargs)
def test_checks(estimator, check):
    check(estimator)


def test_extra_checks_are_found():
    assert len(EXTRA_CHECKS) >= 12


@pytest.mark.parametrize(
    ("name", "check"),
    [
        (name, check)
        for name, estimator in ESTIMATORS.items()
        for check in EXTRA_CHECKS
        if "weight" not in check or has_fit_parameter(estimator, "sample_weight")
    ],
)
def test_extra_checks(name, check):
    estimator = clone(ESTIMATORS[name])
    with warnings.catch_warnings():
        if "output_transform" in check:
            # They fit a frame and transform an array on purpose.
            warnings.filterwarnings(
                "ignore", r"X (has|does not have valid) feature names"
            )
        getattr(estimator_checks, check)(type(estimator).__name__, estimator)
