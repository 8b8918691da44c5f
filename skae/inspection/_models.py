"""The fitted models that a Display shows: one, or several by name."""

from collections.abc import Mapping
from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skae._model.any_transformer import (
    check_can_reconstruct,
    dense_rows,
    has_categories,
    name_of,
    sliceable,
)
from skae._typing import Floats
from skae.metrics import errors_of


def check_fitted(estimator: Any, what: str = "estimator") -> None:
    """Raise TypeError for what is no estimator, NotFittedError if it is not fitted."""
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        kind = "a class" if isinstance(estimator, type) else f"a {name_of(estimator)}"
        raise TypeError(
            f"{what} is {kind}, not a fitted estimator: pass what fit returns"
        )
    check_is_fitted(estimator)


def last_step(estimator: Any) -> Any:
    """Return the last step of a Pipeline, also within fitted searches."""
    while True:
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return estimator


def reconstructing_models(estimator: Any) -> dict[str, Any]:
    """Return fitted transformers by name; a single one has the name of its class."""
    if isinstance(estimator, Mapping):
        models = dict(estimator)
        if not models:
            raise ValueError(
                "estimator={} is empty: pass a fitted transformer, or a dict of name "
                "-> fitted transformer"
            )
        for name, model in models.items():
            check_fitted(model, f"estimator[{name!r}]")
    else:
        check_fitted(estimator)
        models = {name_of(last_step(estimator)): estimator}
    for model in models.values():
        check_can_reconstruct(model)
    return models


def named_reconstructions(
    X: Any, reconstructions: Any
) -> tuple[Floats, dict[str, Floats]]:
    """Return X and its reconstructions by name: dense, float64, of the same shape.

    Missing entries of X are NaN.
    """
    try:
        X = dense_rows(sliceable(X), allow_nan=True)
    except (TypeError, ValueError) as error:
        if not has_categories(X):
            raise
        raise ValueError(
            "X has categories, but given reconstructions have to be numbers: pass an "
            "autoencoder to ReconstructionErrorDisplay.from_estimator, or compare the "
            "columns of X and of inverse_transform"
        ) from error
    if not isinstance(reconstructions, Mapping):
        named = {"reconstruction": _checked(reconstructions, "reconstructions")}
    elif not reconstructions:
        raise ValueError(
            "reconstructions={} is empty: pass an array, or a dict of name -> array"
        )
    else:
        named = {
            name: _checked(rows, f"reconstructions[{name!r}]")
            for name, rows in reconstructions.items()
        }
    for name, rows in named.items():
        if rows.shape != X.shape:
            raise ValueError(
                f"{name!r} has shape {rows.shape}, X {X.shape}; the shapes must be "
                "equal"
            )
    return X, named


def sample_errors(X: Floats, reconstruction: Floats, metric: str) -> Floats:
    """Return the error of each sample's reconstruction."""
    return errors_of(lambda: [(X, reconstruction)], metric)


def _checked(rows: Any, name: str) -> Floats:
    return dense_rows(sliceable(rows, name), name)
