"""scikit-learn's own test modules, unmodified, run on our classes."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import skae

ROOT = Path(__file__).parent.parent


def run_pytest(tmp_path, *args):
    """Run pytest with our plugin in its own process; return status by test name."""
    # scikit-learn's modules are to run under a configuration that is not ours, from
    # a directory that is not ours, and with the array API checks.
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    paths = [ROOT, Path(skae.__file__).parent.parent, os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "SCIPY_ARRAY_API": "1",
    }
    env.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-c", "pytest.ini", "-q", "-rfE"]
    command += [
        "-p",
        "tests.support.sklearn_plugin",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore",
    ]
    command += ["--junitxml=report.xml", "--pyargs", *args]
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    print(run.stdout[-20_000:], run.stderr[-5_000:])
    assert run.returncode == 0
    bad = {"failure", "error", "skipped"}
    return {
        case.get("name"): next((part.tag for part in case if part.tag in bad), "passed")
        for case in ElementTree.parse(tmp_path / "report.xml").iter("testcase")
    }


@pytest.mark.parametrize(
    ("module", "at_least"),
    [("test_common", 60), ("test_docstrings", 15), ("test_docstring_parameters", 1)],
)
def test_general_modules(tmp_path, module, at_least):
    if "docstring" in module:
        pytest.importorskip("numpydoc")
    statuses = run_pytest(tmp_path, f"sklearn.tests.{module}")
    ours = {test: s for test, s in statuses.items() if "AutoencoderTransformer" in test}
    not_passed = {test for test, status in ours.items() if status != "passed"}
    # scikit-learn skips this one for any class without a parameter ``copy``.
    assert {test.partition("[")[0] for test in not_passed} <= {
        "test_check_inplace_ensure_writeable"
    }
    assert len(ours) - len(not_passed) >= at_least


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


@pytest.mark.parametrize(
    ("module", "tests"),
    [
        ("sklearn.neural_network.tests.test_mlp", MLP_TESTS),
        ("sklearn.decomposition.tests.test_incremental_pca", INCREMENTAL_PCA_TESTS),
    ],
)
def test_modules_of_relatives(tmp_path, module, tests):
    # The oldest scikit-learn we support lacks some; pytest would stop at these.
    spec = importlib.util.find_spec(module)
    source = Path(spec.origin).read_text()
    tests = [test for test in tests if f"def {test}(" in source]
    statuses = run_pytest(tmp_path, *[f"{module}::{test}" for test in tests])
    assert set(statuses.values()) == {"passed"}
    assert {test.partition("[")[0] for test in statuses} == set(tests)
