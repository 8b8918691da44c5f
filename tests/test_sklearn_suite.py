"""scikit-learn's own test modules, unmodified, run on our classes."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import skae

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent


# Of general modules: at least so many tests are of our classes.
GENERAL = {
    "sklearn.tests.test_common": 60,
    "sklearn.tests.test_docstrings": 15,
    "sklearn.tests.test_docstring_parameters": 1,
}
# Tests of training as such, with X for y. The others are about classes, about
# targets that are not the input, or about MLP's private attributes, messages, output
# and max_fun; or they ask for what we decided otherwise (divergence is an error,
# early stopping looks at the loss). Many say MLPClassifier where any network would do.
MLP_TESTS = [
    "test_alpha",
    "test_lbfgs_regression",
    "test_partial_fit_regression",
    "test_shuffle",
    "test_sparse_matrices",
    "test_tolerance",
    "test_warm_start_full_iteration",
    "test_mlp_param_dtypes",
    "test_preserve_feature_names",
    "test_mlp_warm_start_no_convergence",
    "test_mlp_sample_weight_with_early_stopping",
]

# The others need components_, singular values, a covariance or whitening.
INCREMENTAL_PCA_TESTS = [
    "test_incremental_pca_check_projection",
    "test_incremental_pca_inverse",
    "test_n_samples_equal_n_components",
    "test_incremental_pca_against_pca_iris",
    "test_incremental_pca_against_pca_random_data",
    "test_incremental_pca_feature_names_out",
]


RELATIVES = {
    "sklearn.neural_network.tests.test_mlp": MLP_TESTS,
    "sklearn.decomposition.tests.test_incremental_pca": INCREMENTAL_PCA_TESTS,
}


def names_in(module):
    """Names of a module's tests, or of those of a relative's that we run."""
    source = Path(importlib.util.find_spec(module).origin).read_text()
    names = re.findall(r"^def (test_\w+)\(", source, re.MULTILINE)
    # Our oldest scikit-learn lacks some.
    return [name for name in names if name in RELATIVES.get(module, names)]


@pytest.fixture(scope="module")
def statuses(tmp_path_factory):
    """Statuses by test, of pytest with our plugin in its own process."""
    # scikit-learn's modules are to run under a configuration that is not ours, from
    # a directory that is not ours, and with the array API checks.
    folder = tmp_path_factory.mktemp("suite")
    (folder / "pytest.ini").write_text("[pytest]\n")
    paths = [ROOT, Path(skae.__file__).parent.parent, os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "SCIPY_ARRAY_API": "1",
    }
    env.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-c", "pytest.ini", "-q", "-rfE"]
    command += ["-p", "tests.support.sklearn_plugin", "-p", "no:cacheprovider"]
    command += ["-W", "ignore", "--junitxml=report.xml", "--pyargs"]
    has_numpydoc = importlib.util.find_spec("numpydoc") is not None
    command += [m for m in GENERAL if has_numpydoc or "docstring" not in m]
    command += [f"{m}::{test}" for m in RELATIVES for test in names_in(m)]
    run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    print(run.stdout[-20_000:], run.stderr[-5_000:])
    assert run.returncode == 0
    bad = {"failure", "error", "skipped"}
    return {
        case.get("name"): next((part.tag for part in case if part.tag in bad), "passed")
        for case in ElementTree.parse(folder / "report.xml").iter("testcase")
    }


def of_module(statuses, module):
    names = set(names_in(module))
    return {t: s for t, s in statuses.items() if t.partition("[")[0] in names}


@pytest.mark.parametrize("module", GENERAL)
def test_general_modules(statuses, module):
    if "docstring" in module:
        pytest.importorskip("numpydoc")
    found = of_module(statuses, module)
    ours = {test: s for test, s in found.items() if "AutoencoderTransformer" in test}
    not_passed = {test for test, status in ours.items() if status != "passed"}
    # scikit-learn skips this one for any class without a parameter ``copy``.
    assert {test.partition("[")[0] for test in not_passed} <= {
        "test_check_inplace_ensure_writeable"
    }
    assert len(ours) - len(not_passed) >= GENERAL[module]


@pytest.mark.parametrize("module", RELATIVES)
def test_modules_of_relatives(statuses, module):
    found = of_module(statuses, module)
    assert set(found.values()) == {"passed"}
    assert {test.partition("[")[0] for test in found} == set(names_in(module))
