"""Tables with categories, of each library, with columns of many dtypes."""

import numpy as np
import pandas as pd
import pytest

N_ROWS = 60
TEXT = np.random.default_rng(0).choice(["b", "a", "", "ü"], N_ROWS).astype(object)
NUMBERS = np.random.default_rng(1).standard_normal((N_ROWS, 2))
WHOLE = np.random.default_rng(2).choice([1, 2, 50], N_ROWS)
FLAGS = WHOLE > 1
PLAIN = {"t": TEXT, "x": NUMBERS[:, 0], "i": WHOLE, "b": FLAGS}


def pandas_table():
    frame = pd.DataFrame(PLAIN).astype({"t": object})
    frame["f"] = NUMBERS[:, 1].astype(np.float32)
    frame["c"] = pd.Categorical(TEXT, categories=["ü", "", "a", "b", "z"], ordered=True)
    frame["ci"] = pd.Categorical(WHOLE)
    frame["s"] = pd.array(TEXT, dtype="string[python]")
    frame["Int"] = pd.array(WHOLE, dtype="Int32")
    frame["Bool"] = pd.array(FLAGS, dtype="boolean")
    frame.loc[3, ["x", "f"]] = np.nan
    for name in ("t", "c", "ci"):
        frame.loc[4, name] = None
    frame.loc[5, ["s", "Int", "Bool"]] = pd.NA
    return frame


def polars_table():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({**PLAIN, "t": TEXT.tolist()})
    text, whole = pl.col("t"), pl.col("i")
    return frame.with_columns(
        c=text.cast(pl.Categorical),
        e=text.cast(pl.Enum(["ü", "", "a", "b", "z"])),
        small=whole.cast(pl.UInt8),
        f=pl.col("x").cast(pl.Float32),
        gaps=pl.when(whole > 1).then(text),
    )


def pyarrow_table():
    pa = pytest.importorskip("pyarrow")
    text = pa.array(TEXT.tolist())
    return pa.table(
        {
            **PLAIN,
            "t": text,
            "d": text.dictionary_encode(),
            "l": text.cast(pa.large_string()),
            "small": pa.array(WHOLE.astype(np.int8)),
            "f": pa.array(NUMBERS[:, 1].astype(np.float32)),
        }
    )


def object_array():
    return pandas_table()[["t", "x", "i", "b"]].to_numpy(dtype=object)


def text_array():
    return np.column_stack([TEXT, TEXT[::-1]]).astype("U3")


TABLES = {
    "pandas": pandas_table,
    "polars": polars_table,
    "pyarrow": pyarrow_table,
    "objects": object_array,
    "text": text_array,
    "bytes": lambda: np.char.encode(text_array(), "utf-8"),
}


def repeated(X, n):
    """A table n times, one below the other."""
    if isinstance(X, np.ndarray):
        return np.tile(X, (n, 1))
    if isinstance(X, pd.DataFrame):
        return pd.concat([X] * n, ignore_index=True)
    library = __import__(type(X).__module__.partition(".")[0])
    concat = getattr(library, "concat_tables", None) or library.concat
    return concat([X] * n)


def assert_same_table(a, b):
    """Equal in kind, dtypes and entries."""
    assert type(a) is type(b)
    if isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b, strict=True)
    else:
        assert getattr(a, "schema", None) == getattr(b, "schema", None)
        assert a.equals(b)


def columns_of(X):
    """Columns of a table as arrays of objects, of shape (n_rows, 1)."""
    if isinstance(X, pd.DataFrame):
        X = X.to_numpy(dtype=object)
    if isinstance(X, np.ndarray):
        return [X[:, [j]].astype(object) for j in range(X.shape[1])]
    entries = zip(*(row.values() for row in rows_of(X)), strict=True)
    return [np.array(column, dtype=object)[:, np.newaxis] for column in entries]


def rows_of(X):
    """Rows of a table of polars or pyarrow, as dicts."""
    return X.to_pylist() if hasattr(X, "to_pylist") else X.to_dicts()
