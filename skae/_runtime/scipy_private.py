"""What skae uses of SciPy beyond its public, stable interface."""

import inspect
import warnings
from typing import Any

from scipy import optimize

__all__ = ["line_search"]


def public_line_search(
    value: Any, gradient: Any, position: Any, towards: Any, **known: Any
) -> Any:
    """Search for the strong Wolfe conditions with SciPy's public function.

    It takes a few more evaluations than the private one. It warns when it fails, and
    warnings cannot be silenced for one thread alone.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return optimize.line_search(value, gradient, position, towards, **known)


try:
    # The line search of SciPy's own L-BFGS-B (More & Thuente, 1994).
    from scipy.optimize._linesearch import line_search_wolfe1 as line_search

    _known = dict.fromkeys(("gfk", "old_fval", "old_old_fval"))
    inspect.signature(line_search).bind(*range(4), **_known)
except (ImportError, TypeError):  # it has moved, or takes other arguments
    line_search = public_line_search
