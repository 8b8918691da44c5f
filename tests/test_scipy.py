"""The search along a line, by a private name of SciPy's or without it."""

import numpy as np
import pytest

from skae import AutoencoderTransformer
from skae._runtime import scipy_private
from skae._training import lbfgs

from .support.sources import run_python

WITHOUT_NAME = """
import scipy.optimize._linesearch as module
import sklearn.base  # of its oldest versions, one imports the name itself

{change}

from skae._runtime import scipy_private

assert scipy_private.line_search is scipy_private.public_line_search
print("public")
"""


@pytest.mark.parametrize(
    "change",
    [
        "del module.line_search_wolfe1",
        "module.line_search_wolfe1 = lambda value, gradient, position: None",
    ],
)
def test_without_the_private_name(change):
    assert run_python(WITHOUT_NAME.format(change=change)) == "public\n"


def test_the_public_search_serves(monkeypatch):
    X = np.random.default_rng(0).standard_normal((60, 5)) @ np.diag([5, 4, 1, 1, 1])
    model = AutoencoderTransformer(
        2, hidden_layer_sizes=(), solver="lbfgs", init="glorot", random_state=0
    )
    model.set_params(early_stopping=False, max_iter=200)
    expected = model.fit(X).score(X)
    assert scipy_private.line_search is not scipy_private.public_line_search
    monkeypatch.setattr(lbfgs, "line_search", scipy_private.public_line_search)
    assert model.fit(X).score(X) == pytest.approx(expected, abs=1e-6)
