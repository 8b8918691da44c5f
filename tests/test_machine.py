"""Machines that are refused."""

import pytest

from .support.sources import run_python

pytestmark = pytest.mark.once

IMPORT = """
import sys

import numba
import numpy
import pytest
import sklearn.base

for name, other in (("byteorder", "big"), ("maxsize", 2**31 - 1)):
    value = getattr(sys, name)
    setattr(sys, name, other)
    with pytest.raises(ImportError) as caught:
        import skae
    setattr(sys, name, value)
    print(caught.value)
"""


def test_what_compiled_code_would_be_wrong_on():
    of_order, of_size = run_python(IMPORT).splitlines()
    assert "little-endian" in of_order
    assert "64-bit" in of_size


IMPORT_WITHOUT_COMPILER = """
import pytest

with pytest.raises(ImportError, match="unset"):
    import skae
print("refused")
"""


def test_numba_that_does_not_compile():
    assert run_python(IMPORT_WITHOUT_COMPILER, NUMBA_DISABLE_JIT="1") == "refused\n"
