"""Warnings that point to the user's line."""

import sys
import warnings
from types import FrameType

# Packages that a user's line may have called before skae warns.
_NOT_USERS = {"skae", "sklearn", "joblib", "contextlib"}


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn about the user's line: the innermost one outside these packages."""
    frame, level = sys._getframe(1), 2
    # The outermost line if none is a user's, as in another thread.
    while frame.f_back is not None and _package(frame) in _NOT_USERS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _package(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0]
