"""Refuses machines that skae does not support, before anything else is imported."""

import sys

if sys.byteorder != "little":
    raise ImportError(
        "skae needs a little-endian processor, such as x86-64 or ARM64: this one is "
        f"{sys.byteorder}-endian, and compiled code would give wrong results on it"
    )
if sys.maxsize < 2**63 - 1:
    raise ImportError(
        "skae needs a 64-bit Python: compiled code would give wrong results in this one"
    )
