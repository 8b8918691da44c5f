"""Convert estimators to descriptions, which JSON can hold, and arrays; and back.

Only what memory and kernels depend on is checked here: ``fit`` validates parameters, as
always. A description of another form raises some error when it is looked up.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import sklearn

from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
    __version__,
)
from skae._files import autoencoders, imputers, outlier_detectors
from skae._files.container import (
    Arrays,
    Description,
    Kind,
    NewerFile,
    require,
    shown,
)
from skae._files.parts import (
    Expected,
    arrays_of_names,
    decoded,
    encoded,
    is_count,
    is_like,
    names_of_arrays,
)

Member: TypeAlias = (
    AutoencoderTransformer
    | VariationalAutoencoderTransformer
    | AutoencoderImputer
    | AutoencoderOutlierDetector
)


class _Row(NamedTuple):
    """How files hold what a fit leaves in estimators of a class.

    Attributes are those of its state, as pickles have it.
    """

    member: type[Member]
    # The first version of the format that can hold such attributes.
    version: Callable[[Mapping[str, Any]], int]
    described: Callable[[Mapping[str, Any]], tuple[Description, Arrays]]
    # Arrays that a description needs, of those that there are, once it is checked.
    expected: Callable[[Description, dict[str, Kind]], dict[str, Expected]]
    attributes: Callable[[Description, Arrays], dict[str, Any]]
    marks_fitted: str  # an attribute that all fitted ones have
    estimators: tuple[str, ...] = ()  # attributes that are estimators, lists, or None


def _autoencoder(member: type[Member], *, is_variational: bool) -> _Row:
    return _Row(
        member,
        autoencoders.version,
        autoencoders.described,
        partial(autoencoders.expected, is_variational=is_variational),
        autoencoders.attributes,
        "_params",
    )


_ROWS = (
    _autoencoder(AutoencoderTransformer, is_variational=False),
    _autoencoder(VariationalAutoencoderTransformer, is_variational=True),
    _Row(
        AutoencoderImputer,
        imputers.version,
        imputers.described,
        imputers.expected,
        imputers.attributes,
        "weight_",
        ("estimator_",),
    ),
    _Row(
        AutoencoderOutlierDetector,
        lambda _: 3,
        outlier_detectors.described,
        outlier_detectors.expected,
        outlier_detectors.attributes,
        "_models",
        ("estimators_",),
    ),
)
_ROW_OF = {row.member.__name__: row for row in _ROWS}
MEMBERS: dict[str, type[Member]] = {name: row.member for name, row in _ROW_OF.items()}

# Version of the format. To change it, add what reads older versions, and a file to
# tests/data. Estimators are written in the first version that can hold them; 2 has what
# was fitted to data with missing entries, 3 has estimators within estimators, 4 has
# tables with categories, and scales of features.
VERSION = 4

_OUTPUTS = (None, "default", "pandas", "polars")
_ROUTED = ("fit", "partial_fit", "score", "predict")
_ESTIMATOR = "estimator"  # the kind of a parameter


def can_describe(estimator: object) -> bool:
    """Whether files can hold an estimator of this type."""
    return type(estimator) in MEMBERS.values()


# ---------------------------------------------------------------------------
# From an estimator
# ---------------------------------------------------------------------------


def described(estimator: Member) -> tuple[Description, Arrays]:
    """Description and arrays of an estimator."""
    version, description, arrays = _described(estimator)
    about = {"version": version, "skae_version": __version__}
    return {**about, **description}, arrays


def _described(estimator: Member, prefix: str = "") -> tuple[int, Description, Arrays]:
    """Version, description and arrays of an estimator, or of one within another.

    `prefix` is what leads to its parameters from those of the outermost.
    """
    row = _ROW_OF[type(estimator).__name__]
    attributes: Any = estimator.__getstate__()
    arrays: Arrays = {}
    versions = [row.version(attributes)]

    def within(name: str, inner: Member) -> Description:
        version, description, of_inner = _described(inner, f"{prefix}{name}__")
        arrays.update({f"{name}.{key}": array for key, array in of_inner.items()})
        versions.append(version)
        return description

    request = attributes.get("_metadata_request")
    description: Description = {
        "class": type(estimator).__name__,
        "parameters": {
            name: {_ESTIMATOR: within(name, value)}
            if can_describe(value)
            else encoded(value, f"{prefix}{name}")
            for name, value in estimator.get_params(deep=False).items()
        },
        "output": attributes.get("_sklearn_output_config", {}).get("transform"),
        "requests": {
            method: requests
            for method in _ROUTED
            if request and (requests := getattr(request, method).requests)
        },
        "fitted": None,
    }
    if row.marks_fitted in attributes:
        fitted, of_fit = row.described(attributes)
        for name in row.estimators:
            inner = attributes[name]
            if isinstance(inner, list):
                named = ((_item(name, i), one) for i, one in enumerate(inner))
                fitted[name] = [within(*pair) for pair in named]
            else:
                fitted[name] = None if inner is None else within(name, inner)
        description["fitted"] = fitted
        arrays |= of_fit
        if "feature_names_in_" in attributes:
            arrays |= arrays_of_names(attributes["feature_names_in_"])
    return max(versions), description, arrays


# ---------------------------------------------------------------------------
# Checks
# ---------------------------------------------------------------------------


def check(description: Description, kinds: dict[str, Kind]) -> None:
    """Raise InvalidFile unless an estimator has such a description, and such arrays.

    `kinds` maps names to the type and shape of arrays that have not been read yet: what
    is described may be larger than the memory.
    """
    version = description["version"]
    require(is_count(version, 1), f"its version is {shown(version)}")
    require(
        version <= VERSION,
        f"it has version {version} of the format, and skae {__version__} reads "
        f"versions up to {VERSION}: upgrade skae",
        NewerFile,
    )
    expected = _expected(description, kinds, description.get("skae_version"))
    unlike = [
        name
        for name in {**expected, **kinds}
        if not is_like(kinds.get(name), expected.get(name))
    ]
    require(
        not unlike,
        f"its arrays {shown(sorted(unlike))} are missing, unknown, or do not have the "
        "type and shape that its layers need",
    )


def _expected(
    description: Description, kinds: dict[str, Kind], writer: Any
) -> dict[str, Expected]:
    """Types and shapes of the arrays of an estimator, and of those within it."""
    require(description["class"] in _ROW_OF, "its class is not one of skae's")
    row = _ROW_OF[description["class"]]
    unknown = description["parameters"].keys() - set(row.member._get_param_names())
    require(
        not unknown or writer == __version__,  # then it is made up
        f"it has parameters unknown to skae {__version__}, {shown(sorted(unknown))}: "
        f"skae {shown(writer)} wrote it; upgrade skae",
        NewerFile,
    )
    expected: dict[str, Expected] = {}
    for name, inner in _estimators_within(description):
        of_inner = _expected(inner, _part(kinds, name), writer)
        expected |= {f"{name}.{key}": kind for key, kind in of_inner.items()}
    if description["fitted"] is not None:
        expected |= row.expected(description["fitted"], kinds)
    return expected


def check_values(description: Description, arrays: Arrays) -> None:
    """Raise InvalidFile if an attribute is absurd. The description is from `check`."""
    for name, inner in _estimators_within(description):
        check_values(inner, _part(arrays, name))
    _attributes(description, arrays)


def _estimators_within(description: Description) -> Iterator[tuple[str, Description]]:
    """Names of parameters and attributes that are estimators, and descriptions."""
    for name, value in description["parameters"].items():
        if _is_estimator(value):
            yield name, value[_ESTIMATOR]
    fitted = description["fitted"]
    if fitted is not None:
        for name in _ROW_OF[description["class"]].estimators:
            if type(fitted[name]) is list:
                yield from ((_item(name, i), one) for i, one in enumerate(fitted[name]))
            elif fitted[name] is not None:
                yield name, fitted[name]


def _item(name: str, number: int) -> str:
    """Name of an estimator in the list that is an attribute."""
    return f"{name}.{number}"


def _is_estimator(value: Any) -> bool:
    """Whether a parameter in JSON is an estimator."""
    return type(value) is dict and value.keys() == {_ESTIMATOR}


def _part(by_name: dict[str, Any], name: str) -> dict[str, Any]:
    """What belongs to the estimator of that name within another."""
    start = f"{name}."
    return {
        key.removeprefix(start): value
        for key, value in by_name.items()
        if key.startswith(start)
    }


# ---------------------------------------------------------------------------
# To an estimator
# ---------------------------------------------------------------------------


def estimator_of(description: Description, arrays: Arrays) -> Member:
    """Make the estimator of a description that has passed `check`."""
    kind = MEMBERS[description["class"]]
    within = {
        name: estimator_of(inner, _part(arrays, name))
        for name, inner in _estimators_within(description)
    }
    parameters = {
        name: within[name] if _is_estimator(value) else decoded(value)
        for name, value in description["parameters"].items()
    }
    estimator = kind(**parameters)
    output = description["output"]
    require(output in _OUTPUTS, f"its output is {shown(output)}")
    if output is not None:
        estimator.set_output(transform=output)
    with sklearn.config_context(enable_metadata_routing=True):
        for method, requests in description["requests"].items():
            require(method in _ROUTED, "its metadata requests are wrong")
            if requests:
                getattr(estimator, f"set_{method}_request")(**requests)
    if description["fitted"] is not None:
        names = _ROW_OF[description["class"]].estimators
        estimator.__setstate__(
            {
                **vars(estimator),
                **{n: _those(within, n, description["fitted"][n]) for n in names},
                **_attributes(description, arrays),
            }
        )
    return estimator


def _those(within: dict[str, Member], name: str, described: Any) -> Any:
    """An attribute that is an estimator, a list of them, or None."""
    if type(described) is list:
        return [within[_item(name, i)] for i in range(len(described))]
    return within.get(name)


def _attributes(description: Description, arrays: Arrays) -> dict[str, Any]:
    """Attributes that a fit leaves, but for estimators; none if there was no fit."""
    if description["fitted"] is None:
        return {}
    row = _ROW_OF[description["class"]]
    within = tuple(f"{name}." for name, _ in _estimators_within(description))
    own = {name: a for name, a in arrays.items() if not name.startswith(within)}
    return {**row.attributes(description["fitted"], own), **names_of_arrays(own)}
