"""How files hold what a fit leaves in an imputer, beside its network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.impute import MissingIndicator

from skae import AutoencoderTransformer
from skae._files.container import Arrays, Description, Kind, require
from skae._files.parts import (
    ANY,
    DTYPES,
    Expected,
    arrays_of_gaussian,
    expected_gaussian,
    expected_names,
    gaussian_of_arrays,
    require_finite,
)

# Numbers of each feature that is kept: names of arrays, and of attributes.
_OF_KEPT = {
    "weight": "weight_",
    "spread": "_spread",
    "lowest": "_lowest",
    "highest": "_highest",
    "calibration": "_calibration",
}
_MEAN, _INDICATED = "mean", "indicated"


def described(attributes: Mapping[str, Any]) -> tuple[Description, Arrays]:
    """Description and arrays of a fitted imputer's attributes."""
    if attributes.get("_table") is not None:
        raise TypeError(
            "skae.io.save cannot write an AutoencoderImputer that was fitted to a "
            "table with categories: use pickle or joblib"
        )
    arrays = {name: attributes[key] for name, key in _OF_KEPT.items()}
    arrays |= arrays_of_gaussian(attributes["_gaussian"])
    arrays[_MEAN] = attributes["mean_"]
    if attributes["indicator_"] is not None:
        features = attributes["indicator_"].features_
        arrays[_INDICATED] = features.astype(np.int64)
    return {"dtype": attributes["_dtype"]}, arrays


def expected(fitted: Description, kinds: dict[str, Kind]) -> dict[str, Expected]:
    """Types and shapes of the arrays that are required, and of optional ones in use."""
    n_features, n_kept = (
        kinds.get(name, ("", (0,)))[1][0] for name in (_MEAN, "weight")
    )
    require(fitted["dtype"] in DTYPES, "its dtype is not float32 or float64")
    require(n_features > 0, "it has no features")
    needed: dict[str, Expected]
    needed = dict.fromkeys(_OF_KEPT, ("float64", (n_kept,)))
    needed |= {_MEAN: ("float64", (n_features,)), **expected_gaussian(n_kept)}
    optional = {_INDICATED: ("int64", (ANY,))}, expected_names(n_features)
    for together in optional:
        if together.keys() & kinds.keys():
            needed |= together
    network = fitted["estimator_"]
    if network is not None:
        require(
            network["class"] == AutoencoderTransformer.__name__
            and network["fitted"]["architecture"]["widths"][0] == n_kept,
            "its network does not fit its features",
        )
    return needed


def attributes(fitted: Description, arrays: Arrays) -> dict[str, Any]:
    """A fitted imputer's attributes by name; raises InvalidFile if one is absurd."""
    mean = arrays[_MEAN]
    is_kept = ~np.isnan(mean)  # the others have no value, so no mean
    require_finite({**arrays, _MEAN: mean[is_kept]})
    is_scale = (arrays["spread"] > 0).all()
    require(
        is_scale and np.count_nonzero(is_kept) == len(arrays["weight"]),
        "its means and spreads are not those of a fit",
    )
    return {
        **{key: arrays[name] for name, key in _OF_KEPT.items()},
        "mean_": mean,
        "n_features_in_": len(mean),
        "indicator_": _indicator(len(mean), arrays.get(_INDICATED)),
        "_gaussian": gaussian_of_arrays(arrays),
        "_dtype": fitted["dtype"],
    }


def _indicator(
    n_features: int, indicated: np.ndarray | None
) -> MissingIndicator | None:
    """What appends indicators of these features; None without any."""
    if indicated is None:
        return None
    is_fine = (indicated >= 0).all() and (indicated < n_features).all()
    require(
        is_fine and (np.diff(indicated) > 0).all(),
        "the features with indicators are not those of a fit",
    )
    row = np.zeros((1, n_features))
    row[0, indicated] = np.nan
    return MissingIndicator(error_on_new=False).fit(row)
