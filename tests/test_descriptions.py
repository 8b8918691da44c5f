"""What files say of an estimator is checked: made up ones are refused."""

import contextlib
import random
import warnings

import numpy as np
import pandas as pd
import pytest

from skae._files import container, imputers
from skae._files.descriptions import VERSION
from skae.io import ModelFileError, load

from .support.cases import make_data, times
from .support.files import (
    D,
    T,
    assert_refused,
    changed,
    made_up,
    parts_of,
    small_table,
    with_length,
)
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
RANDOM = (D, "parameters", "random_state", "RandomState")
NESTED = f'{{"version": {"[" * 50_000}{"]" * 50_000}}}'
ELSE = "something else"
# Changes, or where to put which value; then what is said.
MADE_UP = {
    "newer version": (D, "version", VERSION + 1, "upgrade skae"),
    "version is true": (D, "version", True, "version is True"),
    "no version": (delete_in(D, "version"), ELSE),
    "unknown class": (D, "class", "PCA", "class"),
    "class is a list": (D, "class", [], ELSE),
    "the other class": (D, "class", "VariationalAutoencoderTransformer", "layers"),
    "no parameters": (delete_in(D, "parameters"), ELSE),
    "unknown parameter": (D, "parameters", "foo", 1, ELSE),
    "self as a parameter": (D, "parameters", "self", 1, ELSE),
    "unknown kind": (D, "parameters", "alpha", {"eval": "1"}, "unknown kind"),
    "position beyond the generator": (*RANDOM, 2, 10**9, "out of range"),
    "short key": (*RANDOM, 1, [1], ELSE),
    "unknown output": (D, "output", "os", "output"),
    "unknown request": (D, "requests", {"fit": {"foo": True}}, ELSE),
    "request of a method": (D, "requests", {"__init__": {}}, "requests"),
    "arrays without a fit": (D, "fitted", None, "arrays .* unknown"),
    "no layers": (*NETWORK, "activations", [], "layers"),
    "odd layers": (*NETWORK, "widths", [2, 2, 2], "layers"),
    "negative width": (*NETWORK, "widths", [2, 2, -1, 2, 2], "layers"),
    "width of a float": (*NETWORK, "widths", [2, 2, 1.0, 2, 2], "layers"),
    "not mirrored": (*NETWORK, "widths", [2, 3, 1, 2, 2], "layers"),
    "activation is a list": (*NETWORK, "activations", 0, [], ELSE),
    "widths are an object": (*NETWORK, "widths", dict.fromkeys("abcde", 1), "layers"),
    "huge width": (*NETWORK, "widths", [2, 2**50, 1, 2**50, 2], "params"),
    "width of digits": (*NETWORK, "widths", [2, 10**4000, 1, 10**4000, 2], "layers"),
    "shape of no bytes": (T, "mean", "shape", [0, 10**4000], "damaged"),
    "beyond integers": (*NETWORK, "widths", [2, 10**200, 1, 10**200, 2], "layers"),
    "tied": (*NETWORK, "tied", True, "params"),
    "variational": (*NETWORK, "variational", True, "layers"),
    "unknown solver": (D, "fitted", "training", "solver", "x", "solver"),
    "unknown loss": (D, "fitted", "training", "loss", "x", "loss"),
    "cut short of none": (D, "fitted", "cut_short_of", 0, "cut short"),
    "negative epochs": (D, "fitted", "numbers", "n_iter_", -1, "numbers"),
    "scale of zero": (D, "fitted", "numbers", "scale_", 0.0, "numbers"),
    "infinite scale": (D, "fitted", "numbers", "scale_", {"float": "inf"}, "numbers"),
    "counter is negative": (*COUNTERS, "n_updates", -1, "counters"),
    "counter is huge": (*COUNTERS, "n_epochs", 2**62, "counters"),
    "cycle of the future": (*COUNTERS, "cycle_start", 100, "counters"),
    "no counter": (delete_in(*COUNTERS, "n_epochs"), ELSE),
    "rate that is NaN": (*SCALARS, "rate_factor", {"float": "nan"}, "rate"),
    "description is no JSON": (D, "{'version': 1}", "JSON object"),
    "parameter is nested": (D, NESTED, "JSON object"),
    "NaN in JSON": (D, '{"version": NaN}', "JSON object"),
    "no table": (T, {}, "damaged"),
    "table ends early": (T, '{"params": {', "damaged"),
    "entry without a shape": (delete_in(T, "params", "shape"), "damaged"),
    "unknown dtype": (T, "params", "dtype", "O", "damaged"),
    "half as wide": (T, "params", "dtype", "F32", "damaged"),
    "another array's dtype": (T, "mean", "dtype", "I64", "arrays"),
    "negative shape": (T, "params", "shape", [-1], "damaged"),
    "huge shape": (T, "params", "shape", [2**50], "damaged"),
    "shape that overflows": (T, "params", "shape", [2**40] * 9, "damaged"),
    "offsets out of range": (T, "params", "data_offsets", [0, 10**12], "damaged"),
    "offsets overlap": (T, "mean", "data_offsets", [0, 16], "damaged"),
    "data are missing": ("data", b"", "damaged"),
    "data are left over": (lambda parts: parts["data"].extend(b"\0" * 8), "damaged"),
    "metadata is a list": ("metadata", {"skae": []}, "damaged"),
    "other metadata": ("metadata", {"more": ""}, "not a skae model"),
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


@pytest.mark.parametrize("row", MADE_UP.values(), ids=MADE_UP)
def test_made_up_files(row, small_file, path):
    *change, match = row
    change = change[0] if callable(change[0]) else set_in(*change)
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


WRONG_ENTRIES = [
    *((n, -1, np.nan if n != "mean" else -np.inf, f"'{n}' has e") for n in OF_NUMBERS),
    *(("feature_names.lengths", 0, value, "names") for value in (-1, 2**62, 1)),
    ("feature_names.text", 0, 0xFF, "UnicodeDecode"),
]


@pytest.mark.parametrize(("name", "at", "value", "match"), WRONG_ENTRIES)
def test_wrong_entries(name, at, value, match, small_file, path):
    parts, array = array_in(small_file, name)
    array[at] = value
    if "moment" in name:  # huge gradients have infinite squares; training will notice
        path.write_bytes(made_up(*parts))
        assert load(path).n_components_ == 1
    else:
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


def loaded_after_changes(file, path, n):
    """Estimators of n changed files, in description, table and bits, if not refused."""
    rng = random.Random(0)
    description, table, data = parts_of(file)
    for i in range(n):
        parts = [description, table, bytearray(data)]
        if i % 3 < 2:
            parts[i % 3] = mutated(parts[i % 3], rng)
        else:
            parts[2][rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(made_up(*parts))
        with contextlib.suppress(ModelFileError):
            yield load(path)


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


LIBRARY = (D, "fitted", "table", "library")
MADE_UP_TABLES = {
    "no table": (delete_in(D, "fitted", "table"), "categories are missing"),
    "no groups": (delete_in(*NETWORK, "groups"), "categories are missing"),
    "groups of nothing": (*NETWORK, "groups", [], "layers"),
    "an empty group": (*NETWORK, "groups", [0, 4], "layers"),
    "too many levels": (*NETWORK, "groups", [2, 20], "layers"),
    "another group more": (*NETWORK, "groups", [2, 1, 1], "arrays"),
    "groups of other sizes": (*NETWORK, "groups", [3, 1], "categories of its table"),
    "groups of a float": (*NETWORK, "groups", [2.0, 2], "layers"),
    "groups of text": (*NETWORK, "groups", "22", "layers"),
    "unknown library": (*LIBRARY, "os", "library of its table is 'os'"),
    "library is a list": (*LIBRARY, [], ELSE),
    "no library": (delete_in(*LIBRARY), ELSE),
    "table is a number": (D, "fitted", "table", 1, ELSE),
    "names of an array": (*LIBRARY, "numpy", "names of its columns"),
    "dtypes of another library": (*LIBRARY, "polars", "dtype of its table"),
    "the other class": (D, "class", "VariationalAutoencoderTransformer", "layers"),
}


@pytest.mark.parametrize("row", MADE_UP_TABLES.values(), ids=MADE_UP_TABLES)
def test_made_up_tables(row, table_file, path):
    *change, match = row
    change = change[0] if callable(change[0]) else set_in(*change)
    assert_refused(path, changed(table_file, change), match)


CATEGORIES = "categories of its table"
WRONG_ENTRIES_OF_TABLES = [
    *(("table.columns", 0, value, "columns of its table") for value in (-1, 1, 4)),
    ("table.names.kinds", 0, 2, ELSE),
    ("table.names.kinds", 0, 9, "unknown types"),
    ("table.names.lengths", 0, 2, "wrong lengths"),
    ("table.dtypes.kinds", 0, 1, "no text"),
    ("table.dtypes.text", 0, ord("g"), "a dtype of its table is 'gloat64'"),
    ("table.dtypes.levels.kinds", 0, 1, "a dtype of its table is"),
    ("table.dtypes.levels.sizes", 0, 1, "wrong lengths"),
    *(("table.levels.sizes", 0, value, CATEGORIES) for value in (-1, 1, 2**62)),
    ("table.levels.lengths", 0, -1, "wrong lengths"),
    ("table.levels.text", 6, ord("2"), CATEGORIES),  # twice
    *(("table.levels.inputs", 0, value, CATEGORIES) for value in (-1, 2, 2**62)),
    *(("table.levels.shown", 1, value, CATEGORIES) for value in (-1, 0, 3, 2**62)),
    *(("scale", 1, value, "scale") for value in (0.0, -1.0, np.nan, np.inf)),
]


@pytest.mark.parametrize(("name", "at", "value", "match"), WRONG_ENTRIES_OF_TABLES)
def test_wrong_entries_of_tables(name, at, value, match, table_file, path):
    parts, array = array_in(table_file, name)
    array[at] = value
    assert_refused(path, made_up(*parts), match)


def table_of_five():
    """A table with gaps, and with a level that is not known."""
    X = pd.DataFrame(make_data(5, 2), columns=["x", "y"])
    return X.assign(city=["Rome", "Ur", None, "", "Ur"], size=[1, 2, 3, None, 1])


def test_random_changes_of_tables(table_file, path):
    """Of descriptions, tables and bits: refused, or what is loaded can be used."""
    X = table_of_five()
    n, n_loaded, n_decoded = times(300, 3000), 0, 0
    for loaded in loaded_after_changes(table_file, path, n):
        n_loaded += 1
        loaded.set_output(transform="default").set_params(handle_unknown="error")
        with contextlib.suppress(ValueError):  # of names, or of levels
            assert loaded.transform(X).shape == (5, 1)
        # Of dtypes that do not fit.
        with contextlib.suppress(TypeError, ValueError), np.errstate(all="ignore"):
            n_decoded += loaded.inverse_transform(np.zeros((5, 1))).shape == (5, 4)
    assert n / 3 < n - n_loaded < n
    assert n_decoded > n_loaded / 2


WITHIN = (D, "fitted", "estimator_")
NET = (*WITHIN, "fitted", "architecture")
PARAMETER = (D, "parameters", "estimator", "estimator")


def nested(parts):
    """An imputer of an imputer of an imputer ..."""
    for _ in range(300):
        inner = dict(parts[D], parameters={}, fitted=None)
        parts[D] = {**inner, "parameters": {"estimator": {"estimator": inner}}}


MADE_UP_IMPUTERS = {
    "unknown class": (*WITHIN, "class", "PCA", "class"),
    "the other class": (*WITHIN, "class", "VariationalAutoencoderTransformer", "layer"),
    "an imputer within": (*WITHIN, "class", "AutoencoderImputer", ELSE),
    "a network alone": (D, "class", "AutoencoderTransformer", ELSE),
    "not fitted within": (*WITHIN, "fitted", None, ELSE),
    "no network": (*WITHIN, None, "arrays .* unknown"),
    "network is missing": (delete_in(*WITHIN), ELSE),
    "network is a list": (*WITHIN, [], ELSE),
    "another width": (*NET, "widths", [4, 2, 1, 2, 4], "does not fit its features"),
    "unknown parameter within": (*WITHIN, "parameters", "foo", 1, ELSE),
    "unknown kind within": (*WITHIN, "parameters", "tol", {"eval": "1"}, "unknown k"),
    "no class of the parameter": (delete_in(*PARAMETER, "class"), ELSE),
    "class of the parameter": (*PARAMETER, "class", "PCA", "class"),
    "parameter is a number": (D, "parameters", "estimator", {"estimator": 1}, ELSE),
    "estimator in a list": (
        *(D, "parameters", "estimator", [{"estimator": {}}], "unknown kind"),
    ),
    "unknown dtype": (D, "fitted", "dtype", "float16", "dtype"),
    "no dtype": (delete_in(D, "fitted", "dtype"), ELSE),
    "arrays of the other": (T, "mean", "shape", [4, 1], "arrays"),
    "nested": (nested, "arrays .* unknown|JSON|maximum recursion"),
}


@pytest.mark.parametrize("row", MADE_UP_IMPUTERS.values(), ids=MADE_UP_IMPUTERS)
def test_made_up_imputers(row, imputer_file, path):
    *change, match = row
    change = change[0] if callable(change[0]) else set_in(*change)
    assert_refused(path, changed(imputer_file, change), match)


WRONG_ENTRIES_OF_IMPUTERS = [
    *((name, 1, np.nan, f"'{name}' has entries") for name in imputers._OF_KEPT),
    ("mean", 0, np.inf, "'mean' has entries"),
    ("mean", 0, np.nan, "means and spreads"),
    ("spread", 0, 0.0, "means and spreads"),
    ("missing.noise", 0, 0.0, "noise is not positive"),
    *(("indicated", 3, value, "with indicators") for value in (-1, 2, 4, 2**62)),
    ("indicated", 0, -1, "with indicators"),
    ("estimator_.params", 0, np.nan, "'params' has entries"),
]


@pytest.mark.parametrize(("name", "at", "value", "match"), WRONG_ENTRIES_OF_IMPUTERS)
def test_wrong_entries_of_imputers(name, at, value, match, imputer_file, path):
    parts, array = array_in(imputer_file, name)
    array[at] = value
    assert_refused(path, made_up(*parts), match)


def test_random_changes_of_imputers(imputer_file, path):
    """Of descriptions, tables and bits: refused, or what is loaded can be used."""
    X = pd.DataFrame(make_data(5, 4), columns=list("abcd"))
    X.iloc[::2, 1] = np.nan
    n, n_loaded = times(300, 3000), 0
    for loaded in loaded_after_changes(imputer_file, path, n):
        n_loaded += 1
        loaded.set_output(transform="default").set_params(missing_values=np.nan)
        loaded.set_params(keep_empty_features=False)
        with contextlib.suppress(ValueError):  # of names
            n_out = 3 + 4 * (loaded.indicator_ is not None)
            assert loaded.transform(X).shape == (5, n_out)
    assert n / 3 < n - n_loaded < n


GROUPS = (D, "fitted", "groups")
OF_TABLE = "columns are not those of its table"
MADE_UP_IMPUTERS_OF_TABLES = {
    "no table": (delete_in(D, "fitted", "table"), "does not fit its features"),
    "no groups": (delete_in(*GROUPS), ELSE),
    "groups of nothing": (*GROUPS, [], "do not fit its features"),
    "an empty group": (*GROUPS, [2, 0, 1], "do not fit its features"),
    "groups of text": (*GROUPS, "221", "do not fit its features"),
    "groups of floats": (*GROUPS, [2.0, 2, 1], "do not fit its features"),
    "more groups than features": (*GROUPS, [1] * 7, "do not fit its features"),
    "huge groups": (*GROUPS, [2**52, 2, 1], "arrays"),
    "groups of other sizes": (*GROUPS, [1, 3, 1], "categories of its table"),
    "table is a number": (D, "fitted", "table", 1, ELSE),
    "unknown library": (D, "fitted", "table", "library", "os", "library of its table"),
    "a network of numbers": (delete_in(*NET, "groups"), "its categories are missing"),
    "a network of other levels": (*NET, "groups", [3, 1], CATEGORIES),
    "another width": (*NET, "widths", [7, 2, 1, 2, 7], "does not fit its features"),
}


@pytest.mark.parametrize(
    "row", MADE_UP_IMPUTERS_OF_TABLES.values(), ids=MADE_UP_IMPUTERS_OF_TABLES
)
def test_made_up_imputers_of_tables(row, table_imputer_file, path):
    *change, match = row
    change = change[0] if callable(change[0]) else set_in(*change)
    assert_refused(path, changed(table_imputer_file, change), match)


WRONG_ENTRIES_OF_IMPUTERS_OF_TABLES = [
    *((name, 1, np.nan, f"'{name}' has entries") for name in imputers._OF_KEPT),
    *((name, 1, np.nan, f"'{name}' has entries") for name in imputers._OF_MIXED[:2]),
    ("mean", 0, np.nan, "means are not those of its numbers"),
    ("mean", 3, 1.0, "means and spreads"),
    ("spread", 0, 0.0, "means and spreads"),
    ("unit", 3, 0.0, OF_TABLE),
    ("frequencies", 3, -0.1, OF_TABLE),
    *(("described", 0, value, "columns of its dist") for value in (-1, 2, 2**62)),
    ("described", -1, 6, "columns of its distribution"),
    # Features that it keeps are 0, 2, 3 and 4.
    *(("kept", 0, value, "features that it keeps") for value in (-1, 2, 2**62)),
    ("kept", 0, 1, "means are not those of its numbers"),
    ("kept", -1, 5, OF_TABLE),
    ("table.columns", 0, 5, "columns of its table"),
    ("table.levels.shown", 1, 2**62, CATEGORIES),
    ("estimator_.params", 0, np.nan, "'params' has entries"),
]


@pytest.mark.parametrize(
    ("name", "at", "value", "match"), WRONG_ENTRIES_OF_IMPUTERS_OF_TABLES
)
def test_wrong_entries_of_imputers_of_tables(
    name, at, value, match, table_imputer_file, path
):
    parts, array = array_in(table_imputer_file, name)
    array[at] = value
    assert_refused(path, made_up(*parts), match)


def test_a_distribution_without_the_first_number(table_imputer_file, path):
    parts, array = array_in(table_imputer_file, "described")
    assert array.tolist() == [0, 1, 3, 5]
    array[:] = 1, 2, 3, 5
    assert_refused(path, made_up(*parts), OF_TABLE)


def test_random_changes_of_imputers_of_tables(table_imputer_file, path):
    """Refused, or what is loaded can be used."""
    X = table_of_five().assign(none=np.nan, empty=None)
    X = X[["x", "none", "y", "city", "size", "empty"]]
    n, n_loaded, n_imputed = times(150, 3000), 0, 0
    for loaded in loaded_after_changes(table_imputer_file, path, n):
        n_loaded += 1
        loaded.set_output(transform="default").set_params(missing_values=np.nan)
        loaded.set_params(keep_empty_features=False, handle_unknown="warn")
        with (
            contextlib.suppress(TypeError, ValueError),  # of names, levels, dtypes
            np.errstate(all="ignore"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            n_imputed += len(loaded.transform(X)) == 5
    assert n / 3 < n - n_loaded < n
    assert n_imputed > n_loaded / 2


NETWORKS = (D, "fitted", "estimators_")
SECOND = (*NETWORKS, 1)
VARIATIONAL = "VariationalAutoencoderTransformer"


def without_the_last_network(parts):
    parts[D]["fitted"]["estimators_"].pop()


def without_parts(parts):
    for name in [name for name in parts[T] if name.startswith("1.of_parts.")]:
        del parts[T][name]


MADE_UP_DETECTORS = {
    "unknown class": (*SECOND, "class", "PCA", "class"),
    "the other class": (*SECOND, "class", VARIATIONAL, "layers"),
    "a detector within": (*SECOND, "class", "AutoencoderOutlierDetector", ELSE),
    "not fitted within": (*SECOND, "fitted", None, ELSE),
    "no networks": (*NETWORKS, [], "no networks"),
    "networks are missing": (delete_in(*NETWORKS), ELSE),
    "networks are none": (*NETWORKS, None, "no networks"),
    "one network": (*NETWORKS, {}, ELSE),
    "networks are numbers": (*NETWORKS, [1, 2, 3], ELSE),
    "a network less": (without_the_last_network, "arrays .* unknown"),
    "another width": (
        *(*SECOND, "fitted", "architecture", "widths", [3, 2, 1, 2, 3]),
        "do not fit its features",
    ),
    "a wider code": (
        *(*SECOND, "fitted", "architecture", "widths", [4, 2, 3, 2, 4]),
        "arrays .*1.of_parts",
    ),
    "no loss": (*SECOND, "parameters", "loss", "x", ELSE),
    "unknown dtype": (D, "fitted", "dtype", "float16", "dtype"),
    "an output": (D, "output", "pandas", ELSE),
    "infinite threshold": (D, "fitted", "offset", {"float": "inf"}, "threshold"),
    "threshold of text": (D, "fitted", "offset", "1", "threshold"),
    "no threshold": (delete_in(D, "fitted", "offset"), ELSE),
    "no parts": (without_parts, "damaged"),
    "no held-out scores": (delete_in(T, "1.held_out.scores"), "damaged"),
    "a weight less": (T, "0.held_out.weights", "shape", [1], "damaged"),
    "loadings in a row": (T, "1.of_samples.gaussian.loadings", "shape", [12], "arrays"),
}


@pytest.mark.parametrize("row", MADE_UP_DETECTORS.values(), ids=MADE_UP_DETECTORS)
def test_made_up_detectors(row, detector_file, path):
    *change, match = row
    change = change[0] if callable(change[0]) else set_in(*change)
    assert_refused(path, changed(detector_file, change), match)


OF_PARTS = "1.of_parts"
WRONG_ENTRIES_OF_DETECTORS = [
    *(
        (f"{OF_PARTS}.{name}", 0, np.nan, f"'{OF_PARTS}.{name}' has entries")
        for name in ("standard.mean", "standard.spread", "standard.limit")
    ),
    ("0.of_samples.gaussian.loadings", 0, np.inf, "loadings' has entries"),
    ("0.of_samples.gaussian.noise", 0, 0.0, "noise is not positive"),
    ("0.of_samples.gaussian.noise", 0, 1e-300, "distributions are not"),
    ("0.of_samples.gaussian.noise", 0, 1e300, "distributions are not"),
    ("0.of_samples.gaussian.mean", 0, 1e300, "distributions are not"),
    ("0.of_samples.gaussian.loadings", 0, -1e300, "distributions are not"),
    (f"{OF_PARTS}.standard.spread", 2, 0.0, "distributions are not"),
    (f"{OF_PARTS}.standard.limit", 2, -1.0, "distributions are not"),
    ("2.held_out.scores", 0, np.nan, "scores' has entries"),
    ("2.held_out.scores", 0, 1e300, "held-out samples are not"),
    ("2.held_out.weights", 1, 1e300, "held-out samples are not"),
    ("2.held_out.weights", -1, -1.0, "held-out samples are not"),
    ("estimators_.2.params", 0, np.nan, "'params' has entries"),
]


@pytest.mark.parametrize(("name", "at", "value", "match"), WRONG_ENTRIES_OF_DETECTORS)
def test_wrong_entries_of_detectors(name, at, value, match, detector_file, path):
    parts, array = array_in(detector_file, name)
    array[at] = value
    assert_refused(path, made_up(*parts), match)


def test_a_detector_without_directions_is_refused(detector_file, path):
    """Its loadings are of shape (4, 0): no bytes."""
    description, table, data = parts_of(detector_file)
    entry = table["0.of_samples.gaussian.loadings"]
    start, end = entry["data_offsets"]
    for other in table.values():
        if other["data_offsets"][0] >= end:
            other["data_offsets"] = [o - end + start for o in other["data_offsets"]]
    entry.update(shape=[4, 0], data_offsets=[start, start])
    contents = made_up(description, table, data[:start] + data[end:])
    assert_refused(path, contents, "distributions are not")


def test_random_changes_of_detectors(detector_file, path):
    """Of descriptions, tables and bits: refused, or what is loaded can be used."""
    X = pd.DataFrame(make_data(5, 4), columns=list("abcd"))
    X.iloc[::2, 1] = np.nan
    n, n_loaded = times(300, 3000), 0
    for loaded in loaded_after_changes(detector_file, path, n):
        n_loaded += 1
        with contextlib.suppress(ValueError), np.errstate(all="ignore"):  # of names
            assert loaded.predict(X).shape == (5,)
            assert loaded.feature_scores(X).shape == (5, 4)
    assert n / 3 < n - n_loaded < n


OF_DEVIANCES = "deviances of its categories"
MADE_UP_DETECTORS_OF_TABLES = {
    "groups of another network": (
        *(*SECOND, "fitted", "architecture", "groups", [3, 1], "do not fit its feat"),
    ),
    "a network of numbers": (
        delete_in(*SECOND, "fitted", "architecture", "groups"),
        "its categories are missing",
    ),
    "no table of a network": (delete_in(*SECOND, "fitted", "table"), "are missing"),
    "no deviances": (delete_in(T, "1.deviances.unit"), "damaged"),
    "deviances of another column": (T, "1.deviances.unit", "shape", [1, 2], "arrays"),
}
WRONG_ENTRIES_OF_DETECTORS_OF_TABLES = [
    *(("0.deviances.n_samples", 0, value, OF_DEVIANCES) for value in (0, -1)),
    *(("2.deviances.unit", 1, value, OF_DEVIANCES) for value in (0.0, -1.0)),
    ("2.deviances.unit", 1, np.nan, "unit' has entries"),
    ("estimators_.1.table.columns", 0, 1, "columns of its table"),
]


@pytest.mark.parametrize(
    "row", MADE_UP_DETECTORS_OF_TABLES.values(), ids=MADE_UP_DETECTORS_OF_TABLES
)
def test_made_up_detectors_of_tables(row, table_detector_file, path):
    *change, match = row
    change = change[0] if callable(change[0]) else set_in(*change)
    assert_refused(path, changed(table_detector_file, change), match)


@pytest.mark.parametrize(
    ("name", "at", "value", "match"), WRONG_ENTRIES_OF_DETECTORS_OF_TABLES
)
def test_wrong_entries_of_detectors_of_tables(
    name, at, value, match, table_detector_file, path
):
    parts, array = array_in(table_detector_file, name)
    array[at] = value
    assert_refused(path, made_up(*parts), match)


def test_random_changes_of_detectors_of_tables(table_detector_file, path):
    """Refused, or what is loaded can be used."""
    X = small_table()[:5]
    n, n_loaded, n_used = times(60, 3000), 0, 0
    for loaded in loaded_after_changes(table_detector_file, path, n):
        n_loaded += 1
        with (
            contextlib.suppress(ValueError),  # of names, or of levels
            np.errstate(all="ignore"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            assert loaded.predict(X).shape == (5,)
            n_used += loaded.feature_scores(X).shape == (5, 4)
    assert n / 4 < n - n_loaded < n
    assert n_used > n_loaded / 2


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
    # All but the arrays.
    "many layers": lambda small: changed(
        small,
        lambda parts: parts[D]["fitted"]["architecture"].update(
            widths=[2] * 15_001, activations=["elu"] * 15_000
        ),
    ),
    "lists in JSON": lambda _: made_up("[" + "[]," * 80_000 + "[]]", {}, b""),
    "more lists in JSON": lambda _: with_length(
        b'{"__metadata__":{"skae":"[' + b"[]," * 10**7 + b'[]]"}}'
    ),
    "lists in the header": lambda _: with_length(
        b'{"__metadata__":{},"a":[' + b"[]," * 80_000 + b"[]]}"
    ),
}


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
