"""How files hold what a fit leaves in an imputer, beside its network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.impute import MissingIndicator

from skae import AutoencoderTransformer
from skae._data.tables import Table
from skae._files import tables
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

# Numbers of each feature that is kept, then of those that are no categories: names of
# arrays, and of attributes.
_WEIGHT = "weight"
_OF_NUMBERS = {
    "spread": "_spread",
    "lowest": "_lowest",
    "highest": "_highest",
    "calibration": "_calibration",
}
_OF_KEPT = {_WEIGHT: "weight_", **_OF_NUMBERS}
_MEAN, _INDICATED = "mean", "indicated"
# Of tables: numbers of the features that are kept, and fields of `Mixed`.
_KEPT = "kept"
_FREQUENCIES, _UNIT, _DESCRIBED = "frequencies", "unit", "described"
_OF_MIXED = _FREQUENCIES, _UNIT, _DESCRIBED


def version(attributes: Mapping[str, Any]) -> int:
    """The first version of the format that can hold the attributes."""
    return 3 if attributes.get("_table") is None else 4


def described(attributes: Mapping[str, Any]) -> tuple[Description, Arrays]:
    """Description and arrays of a fitted imputer's attributes."""
    fitted = {"dtype": attributes["_dtype"]}
    arrays = {name: attributes[key] for name, key in _OF_KEPT.items()}
    arrays |= arrays_of_gaussian(attributes["_gaussian"])
    arrays[_MEAN] = attributes["mean_"]
    if attributes["indicator_"] is not None:
        features = attributes["indicator_"].features_
        arrays[_INDICATED] = features.astype(np.int64)
    if attributes.get("_table") is not None:
        fitted["table"], of_table = tables.described(attributes["_table"])
        fitted["groups"] = Table.from_dict(attributes["_table"]).groups
        arrays |= of_table
        arrays |= {name: attributes["_mixed"][name] for name in _OF_MIXED}
        arrays[_KEPT] = np.flatnonzero(attributes["_has_values"])
    return fitted, arrays


def expected(fitted: Description, kinds: dict[str, Kind]) -> dict[str, Expected]:
    """Types and shapes of the arrays that are required, and of optional ones in use."""

    def length(name: str) -> int:
        _, shape = kinds.get(name, ("", (0,)))
        return shape[0]

    n_features, n_kept = length(_MEAN), length(_WEIGHT)
    n_numbers = n_inputs = n_described = n_kept
    require(fitted["dtype"] in DTYPES, "its dtype is not float32 or float64")
    require(n_features > 0, "it has no features")
    needed: dict[str, Expected] = {}
    if "table" in fitted:
        groups = fitted["groups"]
        is_fine = tables.are_groups(groups) and len(groups) <= n_features
        require(is_fine, "the categories of its table do not fit its features")
        n_numbers, n_inputs = length("spread"), length(_FREQUENCIES)
        n_described = length(_DESCRIBED)
        needed |= tables.expected(fitted["table"], kinds, n_features, groups)
        needed |= dict.fromkeys((_FREQUENCIES, _UNIT), ("float64", (n_inputs,)))
        needed |= {_DESCRIBED: ("int64", (n_described,)), _KEPT: ("int64", (n_kept,))}
    needed |= dict.fromkeys(_OF_NUMBERS, ("float64", (n_numbers,)))
    needed |= {_WEIGHT: ("float64", (n_kept,)), _MEAN: ("float64", (n_features,))}
    needed |= expected_gaussian(n_described)
    optional = {_INDICATED: ("int64", (ANY,))}, expected_names(n_features)
    for together in optional:
        if together.keys() & kinds.keys():
            needed |= together
    network = fitted["estimator_"]
    if network is not None:
        require(
            network["class"] == AutoencoderTransformer.__name__
            and network["fitted"]["architecture"]["widths"][0] == n_inputs,
            "its network does not fit its features",
        )
    return needed


def attributes(fitted: Description, arrays: Arrays) -> dict[str, Any]:
    """A fitted imputer's attributes by name; raises InvalidFile if one is absurd."""
    mean = arrays[_MEAN]
    has_mean = ~np.isnan(mean)  # the others have no value, or are categories
    require_finite({**arrays, _MEAN: mean[has_mean]})
    of_table = _of_table(fitted, arrays) if "table" in fitted else {}
    is_scale = (arrays["spread"] > 0).all()
    require(
        is_scale and np.count_nonzero(has_mean) == len(arrays["spread"]),
        "its means and spreads are not those of a fit",
    )
    return {
        **{key: arrays[name] for name, key in _OF_KEPT.items()},
        **of_table,
        "mean_": mean,
        "n_features_in_": len(mean),
        "indicator_": _indicator(len(mean), arrays.get(_INDICATED)),
        "_gaussian": gaussian_of_arrays(arrays),
        "_dtype": fitted["dtype"],
    }


def _of_table(fitted: Description, arrays: Arrays) -> dict[str, Any]:
    """Attributes of an imputer that was fitted to a table."""
    state = tables.table_of(fitted["table"], arrays, fitted["groups"])
    kept, is_kept = arrays[_KEPT], np.zeros(len(arrays[_MEAN]), dtype=bool)
    _require_increasing(kept, len(is_kept), "the features that it keeps")
    is_kept[kept] = True
    table = Table.from_dict(state)
    mean = arrays[_MEAN][table.numbers[is_kept[table.numbers]]]
    require(not np.isnan(mean).any(), "its means are not those of its numbers")
    groups, network = table.chosen(is_kept).groups, fitted["estimator_"]
    n_plain, n_inputs = len(mean), len(arrays[_FREQUENCIES])
    columns = arrays[_DESCRIBED]
    _require_increasing(columns, n_inputs, "the columns of its distribution")
    require(
        n_inputs == n_plain + sum(groups)
        and n_plain == len(arrays["spread"])
        and np.array_equal(columns[:n_plain], np.arange(n_plain))
        and (arrays[_FREQUENCIES] >= 0).all()
        and (arrays[_UNIT] > 0).all()
        and (
            network is None
            or network["fitted"]["architecture"].get("groups", []) == groups
        ),
        "its columns are not those of its table",
    )
    mixed = {
        "n_plain": n_plain,
        "sizes": np.array(groups, dtype=np.int64),
        **{name: arrays[name] for name in _OF_MIXED},
    }
    return {"_table": state, "_has_values": is_kept, "_mixed": mixed}


def _require_increasing(numbers: np.ndarray, stop: int, what: str) -> None:
    """Raise InvalidFile unless they are increasing, from 0 to below `stop`."""
    is_fine = (numbers >= 0).all() and (numbers < stop).all()
    is_fine = is_fine and (np.diff(numbers) > 0).all()
    require(is_fine, f"{what} are not those of a fit")


def _indicator(
    n_features: int, indicated: np.ndarray | None
) -> MissingIndicator | None:
    """What appends indicators of these features; None without any."""
    if indicated is None:
        return None
    _require_increasing(indicated, n_features, "the features with indicators")
    row = np.zeros((1, n_features))
    row[0, indicated] = np.nan
    return MissingIndicator(error_on_new=False).fit(row)
