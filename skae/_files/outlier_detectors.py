"""How files hold what a fit leaves in an outlier detector, beside its networks."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer
from skae._data.standardization import FARTHEST, Standardization
from skae._files import tables
from skae._files.container import Arrays, Description, Kind, require
from skae._files.parts import (
    DTYPES,
    Expected,
    arrays_of_gaussian,
    decoded,
    encoded,
    expected_gaussian,
    expected_names,
    gaussian_of_arrays,
    require_finite,
)

# Distributions of a model, which a file has as arrays "0.of_samples.standard.mean" and
# so on; a variational network has none of parts.
_SAMPLES, _PARTS = "of_samples", "of_parts"
# What deviances of categories are compared with: the number of training samples, and
# the unit of each column.
_DEVIANCES = "deviances"
_CLASSES = [AutoencoderTransformer.__name__, VariationalAutoencoderTransformer.__name__]


def described(attributes: Mapping[str, Any]) -> tuple[Description, Arrays]:
    """Description and arrays of a fitted detector's attributes."""
    arrays: Arrays = {}
    pairs = zip(attributes["_models"], attributes["_held_out"], strict=True)
    for i, (model, held_out) in enumerate(pairs):
        for name in (_SAMPLES, _PARTS):
            if model[name] is not None:
                arrays |= _arrays_of_distribution(model[name], f"{i}.{name}")
        if (deviances := model[_DEVIANCES]) is not None:
            n_samples = np.array([deviances["n_samples"]], dtype=np.int64)
            arrays[f"{i}.{_DEVIANCES}.n_samples"] = n_samples
            arrays[f"{i}.{_DEVIANCES}.unit"] = deviances["unit"]
        arrays |= {f"{i}.held_out.{key}": array for key, array in held_out.items()}
    fitted = {
        "dtype": attributes["_dtype"],
        "offset": encoded(attributes["offset_"], "offset_"),
    }
    return fitted, arrays


def _arrays_of_distribution(distribution: dict[str, Any], of: str) -> Arrays:
    standard = distribution["standard"].items()
    arrays = {f"{of}.standard.{key}": array for key, array in standard}
    return arrays | arrays_of_gaussian(distribution["gaussian"], f"{of}.gaussian")


def expected(fitted: Description, kinds: dict[str, Kind]) -> dict[str, Expected]:
    """Types and shapes of the arrays that are required, and of optional ones in use."""
    require(fitted["dtype"] in DTYPES, "its dtype is not float32 or float64")
    networks = fitted["estimators_"]
    require(type(networks) is list and networks, "it has no networks")
    architecture = networks[0]["fitted"]["architecture"]
    n_inputs, groups = architecture["widths"][0], architecture.get("groups", [])
    needed: dict[str, Expected] = {}
    for i, network in enumerate(networks):
        of_network = network["fitted"]["architecture"]
        widths = of_network["widths"]
        require(
            network["class"] in _CLASSES
            and widths[0] == n_inputs
            and of_network.get("groups", []) == groups,
            "its networks do not fit its features",
        )
        needed |= _expected_distribution(n_inputs, f"{i}.{_SAMPLES}")
        if network["class"] == AutoencoderTransformer.__name__:
            n_parts = widths[len(widths) // 2] + n_inputs - sum(groups)
            needed |= _expected_distribution(n_parts, f"{i}.{_PARTS}")
        if groups:
            needed[f"{i}.{_DEVIANCES}.n_samples"] = "int64", (1,)
            needed[f"{i}.{_DEVIANCES}.unit"] = "float64", (len(groups),)
        _, (n_held_out, *_) = kinds.get(f"{i}.held_out.scores", ("", (0,)))
        needed[f"{i}.held_out.scores"] = "float64", (n_held_out,)
        needed[f"{i}.held_out.weights"] = "float64", (n_held_out + 1,)
    names = expected_names(tables.n_features_of(architecture))
    return needed | names if names.keys() & kinds.keys() else needed


def _expected_distribution(n_features: int, of: str) -> dict[str, Expected]:
    standard: dict[str, Expected] = {
        f"{of}.standard.{key}": ("float64", (n_features,))
        for key in Standardization._fields
    }
    return standard | expected_gaussian(n_features, f"{of}.gaussian")


def attributes(fitted: Description, arrays: Arrays) -> dict[str, Any]:
    """A fitted detector's attributes by name; raises InvalidFile if one is absurd."""
    require_finite(arrays)
    offset, networks = decoded(fitted["offset"]), fitted["estimators_"]
    require(
        type(offset) is float and np.isfinite(offset),
        "its threshold is not a finite number",
    )
    return {
        "offset_": offset,
        "n_features_in_": tables.n_features_of(networks[0]["fitted"]["architecture"]),
        "_dtype": fitted["dtype"],
        "_models": [_model(arrays, i) for i in range(len(networks))],
        "_held_out": [_held_out(arrays, f"{i}.held_out") for i in range(len(networks))],
    }


def _model(arrays: Arrays, number: int) -> dict[str, Any]:
    """What a model has beside its network."""
    return {
        **{k: _distribution(arrays, f"{number}.{k}") for k in (_SAMPLES, _PARTS)},
        _DEVIANCES: _deviances(arrays, f"{number}.{_DEVIANCES}"),
    }


def _deviances(arrays: Arrays, of: str) -> dict[str, Any] | None:
    if f"{of}.unit" not in arrays:
        return None
    (n_samples,), unit = arrays[f"{of}.n_samples"].tolist(), arrays[f"{of}.unit"]
    require(
        n_samples > 0 and (unit > 0).all(),
        "the deviances of its categories are not those of a fit",
    )
    return {"n_samples": n_samples, "unit": unit}


def _distribution(arrays: Arrays, of: str) -> dict[str, Any] | None:
    gaussian = gaussian_of_arrays(arrays, f"{of}.gaussian")
    if gaussian is None:
        return None
    standard = {k: arrays[f"{of}.standard.{k}"] for k in Standardization._fields}
    deviations = np.abs(np.column_stack([gaussian["mean"], gaussian["loadings"]]))
    require(
        (standard["spread"] > 0).all()
        and (standard["limit"] >= 0).all()
        and deviations.shape[1] > 1
        and deviations.max() <= FARTHEST
        and 1 / FARTHEST <= gaussian["noise"] <= FARTHEST**2,
        "its distributions are not those of a fit",
    )
    return {"standard": standard, "gaussian": gaussian}


def _held_out(arrays: Arrays, of: str) -> dict[str, np.ndarray]:
    scores, weights = (arrays[f"{of}.{key}"] for key in ("scores", "weights"))
    is_fine = (np.diff(scores) >= 0).all() and (np.diff(weights) <= 0).all()
    require(
        is_fine and weights[-1] == 0,
        "the scores of its held-out samples are not those of a fit",
    )
    return {"scores": scores, "weights": weights}
