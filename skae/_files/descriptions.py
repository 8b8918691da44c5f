"""Convert estimators to descriptions, which JSON can hold, and arrays; and back.

Only what memory and kernels depend on is checked here: ``fit`` validates parameters, as
always. A description of another form raises some error when it is looked up.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import sklearn

from skae import (
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
    __version__,
)
from skae._compiled.activations import ACTIVATIONS
from skae._compiled.losses import LOSSES
from skae._compiled.optimizers import SOLVERS
from skae._compiled.schedules import SCHEDULES
from skae._data.gaussian import Gaussian
from skae._files.container import (
    Arrays,
    Description,
    Kind,
    NewerFile,
    require,
    shown,
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

Member: TypeAlias = AutoencoderTransformer | VariationalAutoencoderTransformer
MEMBERS: dict[str, type[Member]] = {
    member.__name__: member
    for member in (AutoencoderTransformer, VariationalAutoencoderTransformer)
}


def can_describe(estimator: object) -> bool:
    """Whether files can hold an estimator of this type."""
    return type(estimator) in MEMBERS.values()


# Version of the format. To change it, add what reads older versions, and a file to
# tests/data. Estimators are written in the first version that can hold them; 2 has what
# was fitted to data with missing entries.
VERSION = 2
_LARGEST_COUNT = 2**53

# Integers that a fit has chosen, and what it notes about the weights that it keeps.
_CHOSEN = ("best_iter_", "batch_size_", "max_iter_")
_KEPT = ("kept", "selected_epoch", "schedule")
_NUMBERS = ("n_iter_", "scale_", "loss_", "best_loss_")
_TRAINING = {"solver": {"lbfgs", *SOLVERS}, "loss": set(LOSSES), "init": set(INITS)}
_OUTPUTS = (None, "default", "pandas", "polars")
_ROUTED = ("fit", "partial_fit", "score")
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
_GAUSSIAN = {name: f"missing.{name}" for name in Gaussian._fields}
_NAME_LENGTHS, _NAME_TEXT = "feature_names.lengths", "feature_names.text"
# These may be infinite, as the squares of huge gradients are; training notices.
_NOT_CHECKED = {_STATE["moment_1"], _STATE["moment_2"], *_MEMORY.values()}


# ---------------------------------------------------------------------------
# From an estimator
# ---------------------------------------------------------------------------


def described(estimator: Member) -> tuple[Description, Arrays]:
    """Description and arrays of an estimator."""
    attributes = vars(estimator)
    request = attributes.get("_metadata_request")
    description: Description = {
        "version": 2 if attributes.get("_gaussian") else 1,
        "skae_version": __version__,
        "class": type(estimator).__name__,
        "parameters": {
            name: _encoded(value, name)
            for name, value in estimator.get_params(deep=False).items()
        },
        "output": attributes.get("_sklearn_output_config", {}).get("transform"),
        "requests": {m: getattr(request, m).requests for m in _ROUTED if request},
        "fitted": None,
    }
    if "_params" not in attributes:
        return description, {}
    training = attributes["_training_state"].as_dict()
    progress = progress_of(training["arrays"])
    description["fitted"] = {
        "architecture": attributes["_architecture"],
        "numbers": {name: _encoded(attributes[name], name) for name in _NUMBERS},
        "training": {name: training[name] for name in _TRAINING},
        "cut_short_of": training.get("cut_short_of"),
        "chosen": {
            **{name: attributes.get(name) for name in _CHOSEN},
            **{name: training.get(name) for name in _KEPT},
            "scale": _encoded(training.get("scale", "auto"), "scale"),
            "constant": training.get("constant"),
        },
        "counters": {name: getattr(progress, name) for name in LASTING_COUNTERS},
        "scalars": {
            name: _encoded(getattr(progress, name), name) for name in LASTING_SCALARS
        },
    }
    arrays = {}
    sources: Iterable[tuple[dict[str, str], Mapping[str, Any]]] = (
        ({attribute: name for name, attribute in _ATTRIBUTES.items()}, attributes),
        ({attribute: name for name, attribute in _CURVES.items()}, attributes),
        (_PARAMS, training),
        (_STATE, training["arrays"]),
        (_MEMORY, training.get("memory", {})),
        (_GAUSSIAN, attributes["_gaussian"] or {}),
    )
    for names, values in sources:
        for key in names.keys() & values.keys():
            arrays[names[key]] = np.ascontiguousarray(values[key])
    for name in _CURVES.keys() & arrays.keys():
        arrays[name] = arrays[name].astype(np.float64)  # empty ones too
    if "feature_names_in_" in attributes:
        texts = [
            str(name).encode("utf-8", "surrogatepass")
            for name in attributes["feature_names_in_"]
        ]
        arrays[_NAME_LENGTHS] = np.array([len(text) for text in texts], dtype=np.int64)
        arrays[_NAME_TEXT] = np.frombuffer(b"".join(texts), dtype=np.uint8)
    return description, arrays


# ---------------------------------------------------------------------------
# Checks
# ---------------------------------------------------------------------------


def check(description: Description, kinds: dict[str, Kind]) -> None:
    """Raise InvalidFile unless an estimator has such a description, and such arrays.

    `kinds` maps names to the type and shape of arrays that have not been read yet: what
    is described may be larger than the memory.
    """
    version = description["version"]
    require(_is_count(version, 1), f"its version is {shown(version)}")
    require(
        version <= VERSION,
        f"it has version {version} of the format, and skae {__version__} reads "
        f"versions up to {VERSION}: upgrade skae",
        NewerFile,
    )
    require(description["class"] in MEMBERS, "its class is not one of skae's")
    kind = MEMBERS[description["class"]]
    unknown = description["parameters"].keys() - set(kind._get_param_names())
    writer = description.get("skae_version")
    require(
        not unknown or writer == __version__,  # then it is made up
        f"it has parameters unknown to skae {__version__}, {shown(sorted(unknown))}: "
        f"skae {shown(writer)} wrote it; upgrade skae",
        NewerFile,
    )
    fitted = description["fitted"]
    expected: dict[str, _Expected] = {}
    if fitted is not None:
        is_variational = kind is VariationalAutoencoderTransformer
        _check_architecture(fitted["architecture"], is_variational)
        for key, names in _TRAINING.items():
            said = fitted["training"][key]
            require(said in names, f"its {key} is {shown(said)}")
        expected = _expected_kinds(fitted, kinds)
    unlike = [
        name
        for name in {**expected, **kinds}
        if not _is_like(kinds.get(name), expected.get(name))
    ]
    require(
        not unlike,
        f"its arrays {shown(sorted(unlike))} are missing, unknown, or do not have the "
        "type and shape that its layers need",
    )


def _is_count(value: Any, least: int = 0) -> bool:
    """Whether a JSON value is an integer in the range of arrays and kernels."""
    return type(value) is int and least <= value < _LARGEST_COUNT


def _check_architecture(architecture: dict[str, Any], is_variational: bool) -> None:
    widths, activations = architecture["widths"], architecture["activations"]
    is_tied = architecture["tied"]
    is_network = (
        type(widths) is type(activations) is list
        and len(activations) >= 2
        and len(activations) % 2 == 0
        and len(widths) == len(activations) + 1
        and all(_is_count(n, 1) for n in widths)
        and widths == widths[::-1]
        and all(name in ACTIVATIONS for name in activations)
        and architecture.keys() == {"widths", "activations", "tied", "variational"}
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


_ANY = None  # matches any length
_Expected: TypeAlias = tuple[str, tuple[int | None, ...]]  # a `Kind`


def _expected_kinds(
    fitted: dict[str, Any], kinds: dict[str, Kind]
) -> dict[str, _Expected]:
    """Types and shapes of the arrays that are required, and of optional ones in use."""
    architecture, widths = fitted["architecture"], fitted["architecture"]["widths"]
    dtype, _ = kinds.get("params", ("", ()))
    require(dtype in ("float32", "float64"), "it has no weights")
    n_params = _n_params(architecture)
    weights, features = (dtype, (n_params,)), (dtype, (widths[0],))
    components, curve = (dtype, (widths[len(widths) // 2],)), ("float64", (_ANY,))
    expected: dict[str, _Expected] = dict.fromkeys(
        ("params", _PARAMS["initial_params"], *_STATE.values()), weights
    )
    expected |= {"mean": features, "offset": features, "loss_curve": curve}
    if architecture["variational"]:
        expected["kl_curve"] = curve
    optional: list[dict[str, _Expected]] = [
        {"validation_loss_curve": curve},
        {"explained_variance": components, "explained_variance_ratio": components},
        {"mean_activation": components},
        {_PARAMS["selected"]: weights},
        {_NAME_LENGTHS: ("int64", (widths[0],)), _NAME_TEXT: ("uint8", (_ANY,))},
        {
            _GAUSSIAN["mean"]: ("float64", (widths[0],)),
            _GAUSSIAN["loadings"]: ("float64", (widths[0], _ANY)),
            _GAUSSIAN["noise"]: ("float64", (1,)),
        },
    ]
    if fitted["training"]["solver"] == "lbfgs":
        expected[_STATE["moment_1"]] = expected[_STATE["moment_2"]] = dtype, (0,)
        _, n_steps = kinds.get(_MEMORY["steps"], ("", ()))
        steps = "float64", (*n_steps[:1], n_params)
        position = "float64", (n_params,)
        memory = position, position, ("float64", (2,)), steps, steps
        optional.append(dict(zip(_MEMORY.values(), memory, strict=True)))
    for together in optional:
        if together.keys() & kinds.keys():
            expected |= together
    return expected


def _is_like(kind: Kind | None, expected: _Expected | None) -> bool:
    if kind is None or expected is None:
        return False
    (dtype, shape), (expected_dtype, lengths) = kind, expected
    return (dtype, len(shape)) == (expected_dtype, len(lengths)) and all(
        length in (_ANY, n) for length, n in zip(lengths, shape, strict=True)
    )


# ---------------------------------------------------------------------------
# To an estimator
# ---------------------------------------------------------------------------


def estimator_of(description: Description, arrays: Arrays) -> Member:
    """Make the estimator of a description that has passed `check`."""
    kind = MEMBERS[description["class"]]
    estimator = kind(**{k: _decoded(v) for k, v in description["parameters"].items()})
    output = description["output"]
    require(output in _OUTPUTS, f"its output is {shown(output)}")
    estimator.set_output(transform=output)
    with sklearn.config_context(enable_metadata_routing=True):
        for method, requests in description["requests"].items():
            require(method in _ROUTED, "its metadata requests are wrong")
            if requests:
                getattr(estimator, f"set_{method}_request")(**requests)
    if description["fitted"] is not None:
        # As in a pickle, where the training's state is a dict, too.
        estimator.__setstate__(
            {**vars(estimator), **attributes_of(description["fitted"], arrays)}
        )
    return estimator


def attributes_of(fitted: dict[str, Any], arrays: Arrays) -> dict[str, Any]:
    """A fitted estimator's attributes by name; raises InvalidFile if one is absurd."""
    for name, array in arrays.items():
        if name not in _NOT_CHECKED and array.dtype.kind == "f":
            is_fine = np.isfinite(array).all()
            require(is_fine, f"{name!r} has entries that are infinite or NaN")
    architecture = fitted["architecture"]
    training: dict[str, Any] = {name: fitted["training"][name] for name in _TRAINING}
    training |= {k: arrays[name] for k, name in _PARAMS.items() if name in arrays}
    training["arrays"] = {k: arrays[name] for k, name in _STATE.items()}
    progress = new_progress(**_counters(fitted), **_scalars(fitted))
    training["arrays"] |= saved_progress(progress)
    if _MEMORY["position"] in arrays:
        training["memory"] = {k: arrays[name] for k, name in _MEMORY.items()}
    if (planned := fitted["cut_short_of"]) is not None:
        require(_is_count(planned, 1), "the epochs it was cut short of are wrong")
        training["cut_short_of"] = planned
    chosen, kept = _chosen(fitted.get("chosen", {}), training)
    training |= kept
    attributes = {
        **chosen,
        "hidden_layer_sizes_": tuple(
            architecture["widths"][1 : len(architecture["widths"]) // 2]
        ),
        "initial_loss_": progress.start_loss,
        "n_features_in_": architecture["widths"][0],
        "n_components_": architecture["widths"][len(architecture["widths"]) // 2],
        "n_layers_": len(architecture["widths"]),
        **_numbers(fitted),
        **{k: arrays[name] for name, k in _ATTRIBUTES.items() if name in arrays},
        **{k: arrays[name].tolist() for name, k in _CURVES.items() if name in arrays},
        "_architecture": architecture,
        "_training_state": training,
        "_gaussian": _gaussian(arrays),
    }
    if _NAME_TEXT in arrays:
        attributes["feature_names_in_"] = _feature_names(arrays)
    return attributes


def _gaussian(arrays: Arrays) -> dict[str, Any] | None:
    """What fills missing entries, if the data lacked some."""
    if _GAUSSIAN["noise"] not in arrays:
        return None
    found: dict[str, Any] = {k: arrays[name] for k, name in _GAUSSIAN.items()}
    found["noise"] = float(found["noise"][0])
    require(found["noise"] > 0, "the variance of its noise is not positive")
    return found


def _chosen(
    said: dict[str, Any], training: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fitted attributes that are integers, and notes about the weights kept."""
    chosen = {k: said[k] for k in _CHOSEN if said.get(k) is not None}
    kept = {k: said[k] for k in _KEPT if said.get(k) is not None}
    names = {"params", "best_params", "initial_params", *training.keys() & {"selected"}}
    require(
        all(map(_is_count, chosen.values()))
        and kept.get("kept", "params") in names
        and _is_count(kept.get("selected_epoch", 0))
        and kept.get("schedule", 0) in [how.kind for how in SCHEDULES.values()],
        "the notes about its weights are not those of a fit",
    )
    if "scale" in said:
        kept["scale"] = _decoded(said["scale"])
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
        all(map(_is_count, said.values())) and said["cycle_start"] <= said["n_epochs"],
        "its counters are not those of a training",
    )
    return said


def _scalars(fitted: dict[str, Any]) -> dict[str, float]:
    said = {name: _decoded(fitted["scalars"][name]) for name in LASTING_SCALARS}
    is_finite = np.isfinite(said["rate_factor"])
    require(is_finite, "its learning rate is infinite or NaN")
    return said


def _numbers(fitted: dict[str, Any]) -> dict[str, Any]:
    """The fitted attributes that are numbers."""
    numbers = {name: _decoded(fitted["numbers"][name]) for name in _NUMBERS}
    n_iter, *others = numbers.values()
    require(
        _is_count(n_iter)
        and all(type(number) is float for number in others)
        and 0 < numbers["scale_"] < math.inf,
        "its fitted numbers are not those of a training",
    )
    return numbers


def _feature_names(arrays: Arrays) -> np.ndarray:
    lengths, text = arrays[_NAME_LENGTHS], arrays[_NAME_TEXT]
    ends = np.cumsum(lengths)
    require(
        (lengths >= 0).all() and (lengths <= text.size).all() and ends[-1] == text.size,
        "the names of its features have wrong lengths",
    )
    parts = (text.data[a:b] for a, b in pairwise([0, *ends.tolist()]))
    names = [str(part, "utf-8", "surrogatepass") for part in parts]
    return np.array(names, dtype=object)


# ---------------------------------------------------------------------------
# Parameters
# ---------------------------------------------------------------------------


def _encoded(value: Any, name: str) -> Any:
    """Encode a parameter's value for JSON: types that it lacks as {kind: value}."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind in (list, tuple):
        items = [_encoded(item, name) for item in value]
        return items if kind is list else {"tuple": items}
    if (
        kind is np.random.RandomState
        and value.get_state(legacy=False)["bit_generator"] == "MT19937"
    ):
        generator, key, *rest = value.get_state()
        return {"RandomState": [generator, key.tolist(), *rest]}
    raise TypeError(
        f"skae.io.save cannot write {name}={value!r}, of type {kind.__name__}: files "
        "hold numbers, text, None, tuples, lists and arrays of these, and RandomState "
        "with its default generator"
    )


def _decoded(value: Any) -> Any:
    """Decode a parameter's value."""
    if type(value) is list:
        return [_decoded(item) for item in value]
    if type(value) is not dict:
        return value
    ((kind, content),) = value.items()
    if kind == "float":
        return float(content)
    if kind == "tuple":
        return tuple(map(_decoded, content))
    require(kind == "RandomState", f"a parameter has the unknown kind {shown(kind)}")
    random_state = np.random.RandomState(0)
    random_state.set_state(tuple(content))
    position = random_state.get_state(legacy=False)["state"]["pos"]
    # NumPy would read beyond the key.
    require(0 <= position <= 624, "a RandomState is out of range")
    return random_state
