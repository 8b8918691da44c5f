"""What skae uses of scikit-learn beyond its public, stable interface."""

from sklearn.base import _fit_context
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    Options,
    RealNotInt,
    StrOptions,
    make_constraint,
    validate_params,
)
from sklearn.utils._set_output import _get_output_config

try:  # public, but new in scikit-learn 1.9 and still allowed to change
    from sklearn.callback import CallbackSupportMixin, with_callbacks

    HAS_CALLBACKS = True
except ImportError:
    HAS_CALLBACKS = False

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in for the class of scikit-learn 1.9: there are no callbacks."""

    def with_callbacks(method):
        """Return the method as it is."""
        return method


# Where the site of docs/ is published. Until the first release it is built from a
# clone only, by `make docs`; CONTRIBUTING.md says what a release has to do.
DOCUMENTATION = "https://skae.readthedocs.io/en/latest/"


class DocumentedMixin:
    """Lets an estimator's HTML representation link to its page of the site."""

    _doc_link_module = "skae"
    # scikit-learn fills in the public module and the class.
    _doc_link_template = (
        DOCUMENTATION + "generated/{estimator_module}.{estimator_name}.html"
    )


__all__ = [
    "HAS_CALLBACKS",
    "CallbackSupportMixin",
    "DocumentedMixin",
    "Interval",
    "InvalidParameterError",
    "Options",
    "RealNotInt",
    "StrOptions",
    "_fit_context",
    "_get_output_config",
    "_safe_indexing",
    "make_constraint",
    "validate_params",
    "with_callbacks",
]
