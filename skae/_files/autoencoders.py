"""How files hold what a fit leaves in an autoencoder."""

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from skae._compiled.activations import ACTIVATIONS
from skae._compiled.losses import LOSSES
from skae._compiled.optimizers import SOLVERS
from skae._compiled.schedules import SCHEDULES
from skae._files import tables
from skae._files.container import Arrays, Description, Kind, require, shown
from skae._files.parts import (
    ANY,
    Expected,
    arrays_of_gaussian,
    decoded,
    encoded,
    expected_gaussian,
    expected_names,
    gaussian_of_arrays,
    is_count,
    require_finite,
)
from skae._model.initialization import INITS
from skae._training.lbfgs import Memory
from skae._training.state import (
    LASTING_COUNTERS,
    LASTING_SCALARS,
    new_progress,
    progress_of,
    saved_progress,
)
from skae._typing import Scale

# Integers that a fit has chosen, and what it notes about the weights that it keeps.
_CHOSEN = ("best_iter_", "batch_size_", "max_iter_")
_KEPT = ("kept", "selected_epoch", "schedule")
_NUMBERS = ("n_iter_", "loss_", "best_loss_")
_SCALE = "scale"  # an array, or else a number
_TRAINING = {"solver": {"lbfgs", *SOLVERS}, "loss": set(LOSSES), "init": set(INITS)}
# Names of arrays, and where they come from: attributes, lists of numbers, and parts of
# the training's state.
_ATTRIBUTES = {
    "params": "_params",
    "mean": "mean_",
    "offset": "_offset",
    "explained_variance": "explained_variance_",
    "explained_variance_ratio": "explained_variance_ratio_",
    "mean_activation": "mean_activation_",
}
_CURVES = {
    name: f"{name}_" for name in ("loss_curve", "validation_loss_curve", "kl_curve")
}
_PARAMS = {name: f"training.{name}" for name in ("initial_params", "selected")}
_STATE = {
    name: f"training.{name}"
    for name in ("params", "moment_1", "moment_2", "best_params")
}
_MEMORY = {name: f"memory.{name}" for name in Memory._fields}
# These may be infinite, as the squares of huge gradients are; training notices.
_NOT_CHECKED = frozenset({_STATE["moment_1"], _STATE["moment_2"], *_MEMORY.values()})


def version(attributes: Mapping[str, Any]) -> int:
    """The first version of the format that can hold the attributes."""
    if isinstance(attributes.get("scale_"), np.ndarray):
        return 4
    return 2 if attributes.get("_gaussian") else 1


def described(attributes: Mapping[str, Any]) -> tuple[Description, Arrays]:
    """Description and arrays of a fitted estimator's attributes."""
    training = attributes["_training_state"]
    progress = progress_of(training["arrays"])
    fitted = {
        "architecture": attributes["_architecture"],
        "numbers": {name: encoded(attributes[name], name) for name in _NUMBERS},
        "training": {name: training[name] for name in _TRAINING},
        "cut_short_of": training.get("cut_short_of"),
        "chosen": {
            **{name: attributes.get(name) for name in _CHOSEN},
            **{name: training.get(name) for name in _KEPT},
            "scale": encoded(training.get("scale", "auto"), "scale"),
            "constant": training.get("constant"),
        },
        "counters": {name: getattr(progress, name) for name in LASTING_COUNTERS},
        "scalars": {
            name: encoded(getattr(progress, name), name) for name in LASTING_SCALARS
        },
    }
    arrays: Arrays = {}
    sources: Iterable[tuple[dict[str, str], Mapping[str, Any]]] = (
        ({attribute: name for name, attribute in _ATTRIBUTES.items()}, attributes),
        ({attribute: name for name, attribute in _CURVES.items()}, attributes),
        (_PARAMS, training),
        (_STATE, training["arrays"]),
        (_MEMORY, training.get("memory", {})),
    )
    for names, values in sources:
        for key in names.keys() & values.keys():
            arrays[names[key]] = np.ascontiguousarray(values[key])
    for name in _CURVES.keys() & arrays.keys():
        arrays[name] = arrays[name].astype(np.float64)  # empty ones too
    if attributes["_gaussian"]:
        arrays |= arrays_of_gaussian(attributes["_gaussian"])
    scale = attributes["scale_"]
    if isinstance(scale, np.ndarray):
        arrays[_SCALE] = scale
    else:
        fitted["numbers"]["scale_"] = encoded(scale, "scale_")
    if attributes.get("_table") is not None:
        fitted["table"], of_table = tables.described(attributes["_table"])
        arrays |= of_table
    return fitted, arrays


def expected(
    fitted: Description, kinds: dict[str, Kind], *, is_variational: bool = False
) -> dict[str, Expected]:
    """Types and shapes of the arrays that are required, and of optional ones in use.

    Raises InvalidFile if the description is not that of a network.
    """
    _check_architecture(fitted["architecture"], is_variational)
    for key, names in _TRAINING.items():
        said = fitted["training"][key]
        require(said in names, f"its {key} is {shown(said)}")
    architecture, widths = fitted["architecture"], fitted["architecture"]["widths"]
    dtype, _ = kinds.get("params", ("", ()))
    require(dtype in ("float32", "float64"), "it has no weights")
    n_params = _n_params(architecture)
    weights, features = (dtype, (n_params,)), (dtype, (widths[0],))
    components, curve = (dtype, (widths[len(widths) // 2],)), ("float64", (ANY,))
    needed: dict[str, Expected] = dict.fromkeys(
        ("params", _PARAMS["initial_params"], *_STATE.values()), weights
    )
    needed |= {"mean": features, "offset": features, "loss_curve": curve}
    if architecture["variational"]:
        needed["kl_curve"] = curve
    scales: dict[str, Expected] = {_SCALE: ("float64", (widths[0],))}
    optional: list[dict[str, Expected]] = [
        {"validation_loss_curve": curve},
        {"explained_variance": components, "explained_variance_ratio": components},
        {"mean_activation": components},
        {_PARAMS["selected"]: weights},
        scales,
        expected_names(tables.n_features_of(architecture)),
        expected_gaussian(widths[0]),
    ]
    groups = architecture.get("groups")
    require((groups is None) == ("table" not in fitted), "its categories are missing")
    if groups is not None:
        needed |= scales
        n_columns = tables.n_features_of(architecture)
        needed |= tables.expected(fitted["table"], kinds, n_columns, groups)
    if fitted["training"]["solver"] == "lbfgs":
        needed[_STATE["moment_1"]] = needed[_STATE["moment_2"]] = dtype, (0,)
        _, n_steps = kinds.get(_MEMORY["steps"], ("", ()))
        steps = "float64", (*n_steps[:1], n_params)
        position = "float64", (n_params,)
        memory = position, position, ("float64", (2,)), steps, steps
        optional.append(dict(zip(_MEMORY.values(), memory, strict=True)))
    for together in optional:
        if together.keys() & kinds.keys():
            needed |= together
    return needed


def _check_architecture(architecture: dict[str, Any], is_variational: bool) -> None:
    widths, activations = architecture["widths"], architecture["activations"]
    is_tied = architecture["tied"]
    is_network = (
        type(widths) is type(activations) is list
        and len(activations) >= 2
        and len(activations) % 2 == 0
        and len(widths) == len(activations) + 1
        and all(is_count(n, 1) for n in widths)
        and widths == widths[::-1]
        and all(name in ACTIVATIONS for name in activations)
        and architecture.keys() - {"groups"}
        == {"widths", "activations", "tied", "variational"}
        and tables.are_groups(groups := architecture.get("groups", [widths[0]]))
        and sum(groups) <= widths[0]
        and architecture["variational"] is is_variational
        and (is_tied is False or (is_tied is True and not is_variational))
    )
    require(is_network, "its layers do not fit its class")


def _n_params(architecture: dict[str, Any]) -> int:
    """Number of parameters, as in `_model.network.make_network`, without overflow."""
    widths: list[int] = architecture["widths"]
    shapes = list(pairwise(widths))
    middle = len(shapes) // 2
    if architecture["variational"]:
        n_in, n_out = shapes[middle - 1]
        shapes[middle - 1] = n_in, 2 * n_out
    with_weights = shapes[:middle] if architecture["tied"] else shapes
    return sum(a * b for a, b in with_weights) + sum(n_out for _, n_out in shapes)


def attributes(fitted: Description, arrays: Arrays) -> dict[str, Any]:
    """A fitted estimator's attributes by name; raises InvalidFile if one is absurd."""
    require_finite(arrays, _NOT_CHECKED)
    architecture = fitted["architecture"]
    training: dict[str, Any] = {name: fitted["training"][name] for name in _TRAINING}
    training |= {k: arrays[name] for k, name in _PARAMS.items() if name in arrays}
    training["arrays"] = {k: arrays[name] for k, name in _STATE.items()}
    progress = new_progress(**_counters(fitted), **_scalars(fitted))
    training["arrays"] |= saved_progress(progress)
    if _MEMORY["position"] in arrays:
        training["memory"] = {k: arrays[name] for k, name in _MEMORY.items()}
    if (planned := fitted["cut_short_of"]) is not None:
        require(is_count(planned, 1), "the epochs it was cut short of are wrong")
        training["cut_short_of"] = planned
    chosen, kept = _chosen(fitted.get("chosen", {}), training)
    training |= kept
    of_table = {}
    if "table" in fitted:
        groups = architecture["groups"]
        of_table["_table"] = tables.table_of(fitted["table"], arrays, groups)
    return {
        **chosen,
        **of_table,
        "hidden_layer_sizes_": tuple(
            architecture["widths"][1 : len(architecture["widths"]) // 2]
        ),
        "initial_loss_": progress.start_loss,
        "n_features_in_": tables.n_features_of(architecture),
        "n_components_": architecture["widths"][len(architecture["widths"]) // 2],
        "n_layers_": len(architecture["widths"]),
        **_numbers(fitted),
        "scale_": _scale(fitted, arrays),
        **{k: arrays[name] for name, k in _ATTRIBUTES.items() if name in arrays},
        **{k: arrays[name].tolist() for name, k in _CURVES.items() if name in arrays},
        "_architecture": architecture,
        "_training_state": training,
        "_gaussian": gaussian_of_arrays(arrays),
    }


def _chosen(
    said: dict[str, Any], training: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fitted attributes that are integers, and notes about the weights kept."""
    chosen = {k: said[k] for k in _CHOSEN if said.get(k) is not None}
    kept = {k: said[k] for k in _KEPT if said.get(k) is not None}
    names = {"params", "best_params", "initial_params", *training.keys() & {"selected"}}
    require(
        all(map(is_count, chosen.values()))
        and kept.get("kept", "params") in names
        and is_count(kept.get("selected_epoch", 0))
        and kept.get("schedule", 0) in [how.kind for how in SCHEDULES.values()],
        "the notes about its weights are not those of a fit",
    )
    if "scale" in said:
        kept["scale"] = decoded(said["scale"])
    if said.get("constant") is not None:
        weight = said["constant"]
        is_weight = type(weight) is float and 0 <= weight < math.inf
        require(is_weight, "the weight of its samples is wrong")
        kept["constant"] = weight
    return chosen, kept


def _counters(fitted: dict[str, Any]) -> dict[str, int]:
    said = {"best_epoch": 0, **fitted["counters"]}  # not in earlier versions
    said = {name: said[name] for name in LASTING_COUNTERS}
    require(
        all(map(is_count, said.values())) and said["cycle_start"] <= said["n_epochs"],
        "its counters are not those of a training",
    )
    return said


def _scalars(fitted: dict[str, Any]) -> dict[str, float]:
    said = {name: decoded(fitted["scalars"][name]) for name in LASTING_SCALARS}
    is_finite = np.isfinite(said["rate_factor"])
    require(is_finite, "its learning rate is infinite or NaN")
    return said


def _numbers(fitted: dict[str, Any]) -> dict[str, Any]:
    """The fitted attributes that are numbers."""
    numbers = {name: decoded(fitted["numbers"][name]) for name in _NUMBERS}
    n_iter, *others = numbers.values()
    require(
        is_count(n_iter) and all(type(number) is float for number in others),
        "its fitted numbers are not those of a training",
    )
    return numbers


def _scale(fitted: dict[str, Any], arrays: Arrays) -> Scale:
    """The fitted attribute `scale_`."""
    if _SCALE in arrays:
        require((arrays[_SCALE] > 0).all(), "its scales are not positive")
        return arrays[_SCALE]
    scale: float = decoded(fitted["numbers"]["scale_"])
    is_one = type(scale) is float and 0 < scale < math.inf
    require(is_one, "its scale is not one of its fitted numbers")
    return scale
