"""Machines that are refused."""

import pytest

from .support.sources import run_python

IMPORT = """
import sys

import numba
import numpy
import pytest
import sklearn.base

sys.{name} = {value!r}
with pytest.raises(ImportError) as caught:
    import skae
print(caught.value)
"""


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("byteorder", "big", "little-endian"), ("maxsize", 2**31 - 1, "64-bit")],
)
def test_what_compiled_code_would_be_wrong_on(name, value, expected):
    assert expected in run_python(IMPORT.format(name=name, value=value))


IMPORT_WITHOUT_COMPILER = """
import pytest

with pytest.raises(ImportError, match="unset"):
    import skae
print("refused")
"""


def test_numba_that_does_not_compile():
    assert run_python(IMPORT_WITHOUT_COMPILER, NUMBA_DISABLE_JIT="1") == "refused\n"
