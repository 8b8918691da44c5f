"""Machines that skae does not serve are refused, before anything else is imported."""

import sys

if sys.byteorder != "little":
    raise ImportError(
        "skae needs a little-endian processor, such as x86-64 or ARM64: this one is "
        f"{sys.byteorder}-endian, where its compiled code would compute nonsense"
    )
if sys.maxsize < 2**63 - 1:
    raise ImportError(
        "skae needs a 64-bit Python: in this one, of fewer bits, its compiled code "
        "would compute nonsense"
    )
