"""What skae uses of scikit-learn beyond its public, stable interface."""

from collections.abc import Callable
from typing import Any, TypeVar

from sklearn import base
from sklearn.utils import _param_validation, _safe_indexing
from sklearn.utils._indexing import _get_column_indices
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    MissingValues,
    Options,
    RealNotInt,
    StrOptions,
    make_constraint,
)
from sklearn.utils._set_output import _get_output_config

Function = TypeVar("Function", bound=Callable[..., Any])

# These keep the type of what they decorate.
_fit_context: Callable[..., Callable[[Function], Function]] = base._fit_context
validate_params: Callable[..., Callable[[Function], Function]]
validate_params = _param_validation.validate_params

try:  # public, but new in scikit-learn 1.9 and still allowed to change
    from sklearn import callback
    from sklearn.callback import CallbackSupportMixin

    with_callbacks: Callable[[Function], Function] = callback.with_callbacks
    HAS_CALLBACKS = True
except ImportError:
    HAS_CALLBACKS = False

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Replaces the class of scikit-learn 1.9: there are no callbacks."""

    def with_callbacks(method: Function) -> Function:
        """Return the method unchanged."""
        return method


# Where the documentation will be published with the first release, see CONTRIBUTING.md.
# Until then `make docs` builds it.
DOCUMENTATION = "https://skae.readthedocs.io/en/latest/"


class DocumentedMixin:
    """Lets an estimator's HTML representation link to its page of the site."""

    _doc_link_module = "skae"
    # scikit-learn inserts the public module and the class.
    _doc_link_template = (
        DOCUMENTATION + "generated/{estimator_module}.{estimator_name}.html"
    )


__all__ = [
    "HAS_CALLBACKS",
    "CallbackSupportMixin",
    "DocumentedMixin",
    "Interval",
    "InvalidParameterError",
    "MissingValues",
    "Options",
    "RealNotInt",
    "StrOptions",
    "_fit_context",
    "_get_column_indices",
    "_get_output_config",
    "_safe_indexing",
    "make_constraint",
    "validate_params",
    "with_callbacks",
]
