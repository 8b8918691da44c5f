"""The page on extending, followed for an activation and a loss."""

import re
import shutil
from pathlib import Path

import pytest

import skae

from .support.sources import run_python

pytestmark = pytest.mark.once

PACKAGE = Path(skae.__file__).parent
ROOT = Path(__file__).parents[1]

USE = """
import warnings

import numpy as np

import skae
from skae._compiled.activations import ACTIVATIONS
from skae._compiled.losses import LOSSES

assert skae.__file__.startswith({folder!r}), skae.__file__
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
z = rng.standard_normal(40)
step = 1e-6


def activation(z):
    a, slope = z.copy(), np.empty_like(z)
    ACTIVATIONS["softsign"].op(a, slope, z.size)
    return a, slope


def loss(prediction):
    values, delta, target = np.empty_like(z), prediction.copy(), np.zeros_like(z)
    LOSSES["log_cosh"].op(
        delta, target, np.empty(0), np.empty(0), values, np.zeros(1), 0, 1, z.size, 1
    )
    return values, delta


for function, expected in (
    (activation, z / (1 + abs(z))),
    (loss, np.log(np.cosh(z))),
):
    value, slope = function(z)
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-15)
    differences = (function(z + step)[0] - function(z - step)[0]) / (2 * step)
    np.testing.assert_allclose(slope, differences, atol=1e-8)

X = rng.standard_normal((60, 5)).astype(np.float32)
model = skae.AutoencoderTransformer(
    2, activation="softsign", loss="log_cosh", hidden_layer_sizes=(9,), max_iter=5,
    random_state=0,
)
code = model.fit(X).transform(X)
assert model.loss_ < model.initial_loss_ * 1.5
tied = skae.AutoencoderTransformer(
    2, activation="softsign", tied_weights=True, init="pca", max_iter=1,
    hidden_layer_sizes=(9,), random_state=0,
).fit(X)
assert tied.initial_loss_ < np.square(X - X.mean(axis=0)).sum() / len(X)
try:
    from onnx.reference import ReferenceEvaluator
except ImportError:
    pass
else:
    from skae.onnx import to_onnx

    session = ReferenceEvaluator(to_onnx(model, part="encoder"))
    (found,) = session.run(None, {{"X": X}})
    np.testing.assert_allclose(found, code, rtol=1e-3, atol=1e-5)
print("works")
"""


def fenced(text, language):
    return re.findall(
        rf"^```{re.escape(language)}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
    )


def insert(path, before, text):
    """Write text before the last place where a file has `before`."""
    source = path.read_text("utf-8")
    head, found, tail = source.rpartition(before)
    assert found
    path.write_text(head + text + found + tail, "utf-8")


def test_an_activation_and_a_loss_are_what_the_page_says(tmp_path):
    shutil.copytree(
        PACKAGE, tmp_path / "skae", ignore=shutil.ignore_patterns("__pycache__")
    )
    page = (ROOT / "docs" / "extending.md").read_text("utf-8")
    softsign, log_cosh = fenced(page, "python")
    row, onnx_row, loss_row = fenced(page, "{code-block} python")
    compiled = tmp_path / "skae" / "_compiled"
    insert(compiled / "activations.py", "ACTIVATIONS = {", softsign + "\n\n")
    insert(compiled / "activations.py", "}\nIDENTITY", row)
    insert(compiled / "losses.py", "_ANY = (", log_cosh + "\n\n")
    insert(compiled / "losses.py", "}\n", loss_row)
    activations = tmp_path / "skae" / "onnx" / "_activations.py"
    insert(activations, "}\n", onnx_row)
    code = USE.format(folder=str(tmp_path))
    cold = {"NUMBA_CACHE_DIR": None, "NUMBA_OPT": "0"}
    assert run_python(code, cwd=tmp_path, **cold) == "works\n"
