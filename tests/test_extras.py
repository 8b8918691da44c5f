"""What is said where an optional package is missing."""

import sys

import pytest

import skae.callbacks
from skae._runtime.extras import check_installed


def test_missing_packages(monkeypatch):
    check_installed("skae", "numpy", "numpy.linalg", extra="plot")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError) as caught:
        check_installed("A.plot", "numpy", "matplotlib.pyplot", extra="plot")
    assert str(caught.value) == "A.plot needs matplotlib: pip install 'skae[plot]'"
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError) as caught:
        check_installed("as_frame=True", "pandas")
    assert str(caught.value) == "as_frame=True needs pandas: pip install pandas"


def test_what_checkpoints_miss_is_told_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for has_callbacks, message in (
        (True, r"Checkpoint needs safe.*'skae\[io\]'"),
        (False, r"scikit-learn>=1\.9"),
    ):
        monkeypatch.setattr(skae.callbacks, "HAS_CALLBACKS", has_callbacks)
        with pytest.raises(ImportError, match=message):
            skae.callbacks.Checkpoint("model")
