"""What files say of an estimator is checked: made up ones are refused."""

import random
import warnings

import numpy as np
import pandas as pd
import pytest

from skae._files import container
from skae._files.descriptions import VERSION
from skae.io import ModelFileError, load

from .support.cases import make_data, times
from .support.files import D, T, assert_refused, changed, made_up, parts_of, with_length
from .support.make_model_files import FOLDER
from .support.memory import peak_memory


def test_a_made_up_file_is_one_but_for_what_is_changed(small_file, path):
    path.write_bytes(made_up(*parts_of(small_file)))
    assert load(path).n_components_ == 1


def set_in(*keys_and_value):
    """A change of one entry."""
    *keys, last, value = keys_and_value

    def change(parts):
        for key in keys:
            parts = parts[key]
        parts[last] = value

    return change


def delete_in(*keys):
    def change(parts):
        for key in keys[:-1]:
            parts = parts[key]
        del parts[keys[-1]]

    return change


NETWORK = (D, "fitted", "architecture")
COUNTERS, SCALARS = (D, "fitted", "counters"), (D, "fitted", "scalars")
DEEP = 50_000
MADE_UP = {
    "newer version": (set_in(D, "version", 2), "upgrade skae"),
    "version is true": (set_in(D, "version", True), "version is True"),
    "no version": (delete_in(D, "version"), "something else"),
    "unknown class": (set_in(D, "class", "PCA"), "class"),
    "class is a list": (set_in(D, "class", []), "something else"),
    "the other class": (
        set_in(D, "class", "VariationalAutoencoderTransformer"),
        "layers",
    ),
    "no parameters": (delete_in(D, "parameters"), "something else"),
    "unknown parameter": (set_in(D, "parameters", "foo", 1), "something else"),
    "self as a parameter": (set_in(D, "parameters", "self", 1), "something else"),
    "parameter of unknown kind": (
        set_in(D, "parameters", "alpha", {"eval": "1"}),
        "unknown kind",
    ),
    "position beyond the generator": (
        set_in(D, "parameters", "random_state", "RandomState", 2, 10**9),
        "out of range",
    ),
    "short key": (
        set_in(D, "parameters", "random_state", "RandomState", 1, [1]),
        "something else",
    ),
    "unknown output": (set_in(D, "output", "os"), "output"),
    "unknown request": (
        set_in(D, "requests", {"fit": {"foo": True}}),
        "something else",
    ),
    "request of a method": (set_in(D, "requests", {"__init__": {}}), "requests"),
    "arrays without a fit": (set_in(D, "fitted", None), "arrays .* unknown"),
    "no layers": (set_in(*NETWORK, "activations", []), "layers"),
    "odd layers": (set_in(*NETWORK, "widths", [2, 2, 2]), "layers"),
    "negative width": (set_in(*NETWORK, "widths", [2, 2, -1, 2, 2]), "layers"),
    "width of a float": (set_in(*NETWORK, "widths", [2, 2, 1.0, 2, 2]), "layers"),
    "not mirrored": (set_in(*NETWORK, "widths", [2, 3, 1, 2, 2]), "layers"),
    "activation is a list": (set_in(*NETWORK, "activations", 0, []), "something else"),
    "widths are an object": (
        set_in(*NETWORK, "widths", dict.fromkeys("abcde", 1)),
        "layers",
    ),
    "huge width": (set_in(*NETWORK, "widths", [2, 2**50, 1, 2**50, 2]), "params"),
    "width of digits": (
        set_in(*NETWORK, "widths", [2, 10**4000, 1, 10**4000, 2]),
        "layers",
    ),
    "shape of no bytes": (set_in(T, "mean", "shape", [0, 10**4000]), "damaged"),
    "width beyond integers": (
        set_in(*NETWORK, "widths", [2, 10**200, 1, 10**200, 2]),
        "layers",
    ),
    "tied": (set_in(*NETWORK, "tied", True), "params"),
    "variational": (set_in(*NETWORK, "variational", True), "layers"),
    "unknown solver": (set_in(D, "fitted", "training", "solver", "x"), "solver"),
    "unknown loss": (set_in(D, "fitted", "training", "loss", "x"), "loss"),
    "cut short of none": (set_in(D, "fitted", "cut_short_of", 0), "cut short"),
    "negative epochs": (set_in(D, "fitted", "numbers", "n_iter_", -1), "numbers"),
    "scale of zero": (set_in(D, "fitted", "numbers", "scale_", 0.0), "numbers"),
    "infinite scale": (
        set_in(D, "fitted", "numbers", "scale_", {"float": "inf"}),
        "numbers",
    ),
    "counter is negative": (set_in(*COUNTERS, "n_updates", -1), "counters"),
    "counter is huge": (set_in(*COUNTERS, "n_epochs", 2**62), "counters"),
    "cycle of the future": (set_in(*COUNTERS, "cycle_start", 100), "counters"),
    "no counter": (delete_in(*COUNTERS, "n_epochs"), "something else"),
    "rate that is NaN": (set_in(*SCALARS, "rate_factor", {"float": "nan"}), "rate"),
    "description is no JSON": (set_in(D, "{'version': 1}"), "object of JSON"),
    "parameter is nested": (
        set_in(D, f'{{"version": {"[" * DEEP}{"]" * DEEP}}}'),
        "object of JSON",
    ),
    "NaN in JSON": (set_in(D, '{"version": NaN}'), "object of JSON"),
    "no table": (set_in(T, {}), "damaged"),
    "table ends early": (set_in(T, '{"params": {'), "damaged"),
    "entry without a shape": (delete_in(T, "params", "shape"), "damaged"),
    "unknown dtype": (set_in(T, "params", "dtype", "O"), "damaged"),
    "half as wide": (set_in(T, "params", "dtype", "F32"), "damaged"),
    "another array's dtype": (set_in(T, "mean", "dtype", "I64"), "arrays"),
    "negative shape": (set_in(T, "params", "shape", [-1]), "damaged"),
    "huge shape": (set_in(T, "params", "shape", [2**50]), "damaged"),
    "shape that overflows": (set_in(T, "params", "shape", [2**40] * 9), "damaged"),
    "offsets out of range": (
        set_in(T, "params", "data_offsets", [0, 10**12]),
        "damaged",
    ),
    "offsets overlap": (set_in(T, "mean", "data_offsets", [0, 16]), "damaged"),
    "data are missing": (set_in("data", b""), "damaged"),
    "data are left over": (lambda parts: parts["data"].extend(b"\0" * 8), "damaged"),
    "metadata is a list": (set_in("metadata", {"skae": []}), "damaged"),
    "other metadata": (set_in("metadata", {"more": ""}), "no model of skae"),
}

# What nobody looks at, or takes for what it is; parameters are judged by fit.
HARMLESS = {
    "another entry": set_in(D, "code", "print()"),
    "another number": set_in(D, "fitted", "numbers", "coefs_", 1.0),
    "another scalar": set_in(D, "fitted", "scalars", "sum", 1.0),
    "requests of a method": set_in(D, "requests", {"fit": {}}),
    "other parameter": set_in(D, "parameters", "alpha", {"float": "9" * 10_000}),
    "no parameters": set_in(D, "parameters", {}),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_in_made_up_files(name, small_file, path):
    path.write_bytes(small_file)
    X = pd.DataFrame(make_data(5, 2), columns=["ä", "b"])
    code = load(path).transform(X)
    path.write_bytes(changed(small_file, HARMLESS[name]))
    loaded = load(path)
    np.testing.assert_array_equal(loaded.transform(X), code, strict=True)
    assert "coefs_" not in vars(loaded)
    if name == "other parameter":
        with pytest.raises(ValueError, match="'alpha' parameter"):
            loaded.fit(X)
    else:
        loaded.fit(X)


@pytest.mark.parametrize(
    ("version", "name", "match"),
    [
        ("9.0", "foo", r"unknown to skae .*, \['foo'\]: skae '9\.0' wrote it; upgrade"),
        ("9" * 10**4, "f" * 10**4, r"\['f+\.\.\.f+'\]: skae '9+\.\.\.9+' wrote it"),
        ("\x1b[31m", "\x1b[31m", r"\['\\x1b.*'\]: skae '\\x1b.*' wrote it"),
        ({"a": []}, "self", r"\['self'\]: skae {'a': \[\]} wrote it"),
    ],
)
def test_a_parameter_more_is_of_a_later_skae(version, name, match, small_file, path):
    def change(parts):
        parts[D]["parameters"][name] = 1
        parts[D]["skae_version"] = version

    message = assert_refused(path, changed(small_file, change), match)
    assert len(message) < 250 + len(str(path))


def test_copies_are_advised_where_they_may_help(small_file, path):
    newer = changed(small_file, set_in(D, "version", VERSION + 1))
    assert assert_refused(path, newer).endswith("upgrade skae")
    assert "from a copy" in assert_refused(path, small_file[:-1])


@pytest.mark.parametrize(("change", "match"), MADE_UP.values(), ids=MADE_UP)
def test_made_up_files(change, match, small_file, path):
    assert_refused(path, changed(small_file, change), match)


@pytest.mark.parametrize(
    "name",
    [*parts_of((FOLDER / "AutoencoderTransformer_1.safetensors").read_bytes())[1]],
)
def test_missing_and_renamed_arrays(name, small_file, path):
    description, table, data = parts_of(small_file)
    for at_end in (True, False):  # so that no bytes are left over
        start, end = table[name]["data_offsets"]
        others = {k: dict(v) for k, v in table.items() if k != name}
        for entry in others.values():
            if entry["data_offsets"][0] >= end:
                entry["data_offsets"] = [o - end + start for o in entry["data_offsets"]]
        less = data[:start] + data[end:]
        if at_end:
            last = {**table[name], "data_offsets": [len(less), len(data)]}
            others["other"], less = last, less + data[start:end]
        contents = made_up(description, others, less)
        if not at_end and name in ("validation_loss_curve", "training.selected"):
            path.write_bytes(contents)
            load(path)
        else:
            assert_refused(path, contents, "are missing, unknown|no weights")


def array_in(contents, name):
    """Parts of a file in the making, and a view of one of its arrays."""
    description, table, data = parts_of(contents)
    data = bytearray(data)
    start, end = table[name]["data_offsets"]
    dtype = container._DTYPES[table[name]["dtype"]]
    view = np.frombuffer(memoryview(data)[start:end], dtype=dtype)
    return (description, table, data), view


OF_NUMBERS = (
    *("params", "mean", "offset", "explained_variance", "explained_variance_ratio"),
    *("loss_curve", "validation_loss_curve", "training.initial_params"),
    *("training.params", "training.best_params", "training.selected"),
    *("training.moment_1", "training.moment_2"),
)


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_infinite_entries(name, small_file, path):
    parts, array = array_in(small_file, name)
    array[-1] = -np.inf if name == "mean" else np.nan
    if "moment" in name:  # huge gradients have infinite squares; training will notice
        path.write_bytes(made_up(*parts))
        assert load(path).n_components_ == 1
    else:
        assert_refused(path, made_up(*parts), f"'{name}' has entries")


@pytest.mark.parametrize(
    ("name", "at", "value", "match"),
    [
        ("feature_names.lengths", 0, -1, "names"),
        ("feature_names.lengths", 0, 2**62, "names"),
        ("feature_names.lengths", 0, 1, "names"),
        ("feature_names.text", 0, 0xFF, "UnicodeDecode"),
    ],
)
def test_other_wrong_entries(name, at, value, match, small_file, path):
    parts, array = array_in(small_file, name)
    array[at] = value
    assert_refused(path, made_up(*parts), match)


JSON_VALUES = (None, True, 0, -1, 2**70, 0.5, "", "relu", [], [0], {}, {"tuple": [1]})


def mutated(value, rng):
    """A value of JSON with one entry changed, dropped, doubled or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        value, key = dict(value), rng.choice(sorted(value))
        kind = rng.random()
        if kind < 0.1:
            del value[key]
        elif kind < 0.2:
            value[key + "x"] = value.pop(key)
        else:
            value[key] = mutated(value[key], rng)
        return value
    if isinstance(value, list) and value and rng.random() < 0.9:
        value, i = list(value), rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.1:
            del value[i]
        elif kind < 0.2:
            value.insert(i, value[i])
        else:
            value[i] = mutated(value[i], rng)
        return value
    return rng.choice(JSON_VALUES)


def test_random_changes_are_refused_or_harmless(small_file, path):
    """Never another error; what is loaded computes with its own shapes."""
    rng = random.Random(0)
    description, table, data = parts_of(small_file)
    X = pd.DataFrame(make_data(5, 2), columns=["ä", "b"])
    n_refused = 0
    n = times(500, 5000)
    for i in range(n):
        changed = [description, table]
        changed[i % 2] = mutated(changed[i % 2], rng)
        path.write_bytes(made_up(*changed, data))
        try:
            loaded = load(path)
        except ModelFileError:
            n_refused += 1
        else:
            loaded.set_output(transform="default")
            assert loaded.transform(X).shape == (5, 1)
    assert n / 2 < n_refused < n


def test_random_numbers_are_refused_or_harmless(small_file, path):
    """Flipped bits in arrays, with a digest that fits: training may go on, too."""
    rng = random.Random(0)
    description, table, data = parts_of(small_file)
    X = pd.DataFrame(make_data(50, 2), columns=["ä", "b"])
    for _ in range(times(50, 1000)):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(made_up(description, table, damaged))
        try:
            loaded = load(path)
        except ModelFileError:
            continue
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                loaded.set_params(warm_start=True, max_iter=2).fit(X)
        except ValueError:  # of names, or as training diverges
            continue
        assert np.isfinite(loaded._params).all()


LARGE = 100 * 2**30
HUGE_CLAIMS = {
    "length of the header": lambda _: (LARGE).to_bytes(8, "little") + b"{" * 100,
    "largest length": lambda _: b"\xff" * 8 + b"{" * 100,
    "shape": lambda small: changed(
        small,
        lambda parts: parts[T]["params"].update(
            shape=[LARGE // 8], data_offsets=[0, LARGE]
        ),
    ),
    "network": lambda small: changed(
        small, set_in(*NETWORK, "widths", [2, LARGE, 1, LARGE, 2])
    ),
    "many layers": lambda small: changed(small, with_layers(15_000)),
    "lists in JSON": lambda _: made_up("[" + "[]," * 80_000 + "[]]", {}, b""),
    "more lists in JSON": lambda _: with_length(
        b'{"__metadata__":{"skae":"[' + b"[]," * 10**7 + b'[]]"}}'
    ),
    "lists in the header": lambda _: with_length(
        b'{"__metadata__":{},"a":[' + b"[]," * 80_000 + b"[]]}"
    ),
}


def with_layers(n):
    """A change to a network of so many, that has all but the arrays."""

    def change(parts):
        architecture = parts[D]["fitted"]["architecture"]
        architecture |= {"widths": [2] * (n + 1), "activations": ["elu"] * n}

    return change


def test_layers_are_counted_before_arrays_are(small_file, path):
    """The row of many layers is not refused for its header alone."""
    contents = HUGE_CLAIMS["many layers"](small_file)
    assert_refused(path, contents, r"'params'.* are missing")


@pytest.mark.parametrize("name", HUGE_CLAIMS)
def test_huge_claims_take_no_memory(name, small_file, path):
    contents = HUGE_CLAIMS[name](small_file)
    path.write_bytes(contents)

    def refuse():
        with pytest.raises(ModelFileError):
            load(path)

    assert peak_memory(refuse) < 2**24
