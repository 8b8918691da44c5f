"""Tables in .csv files: read, told apart into numbers and categories.

What pandas needs to read the same table is kept as lines of Python.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skae._cli import dates
from skae._cli.errors import DemoError

# Separators in the order in which they are tried: numbers may have commas in them.
_SEPARATORS = "\t;|,"
_SNIFFED_LINES = 100
# With this share of numbers or more, other values of a column are mistakes.
_MOST_NUMBERS = 0.5
# Columns with fewer values, and those with a smaller share of them, are left out.
_FEWEST_VALUES, _LEAST_SHARE = 5, 0.01
# Squares of larger numbers, and their sums, may be infinite.
_LARGEST = 1e100
# Whole numbers that all differ, of a range so many times as large, are row numbers.
_MOST_OF_NUMBERED = 1.1
# A text whose share of different values is larger names samples, or is free text.
_MOST_LEVELS = 0.5
# More levels than this share an input of the network.
MAX_LEVELS = 100
# Cells without a value, in lower case; and those that pandas knows without being told.
_MISSING_CELLS = {"", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none"}
_PANDAS_MISSING = {
    *("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-NaN", "-nan"),
    *("NULL", "null", "None"),
}
# Percentages, amounts of money, and thousands that are set apart.
_STYLED = re.compile(
    r"[-+]?\s?[$€£¥]?\s?[-+]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?\s?(%|[$€£¥]|USD|EUR|GBP)?"
)
_LEADING_ZERO = re.compile(r"0\d+")
_SWAPPED = str.maketrans(",.", ".,")
_CODE_WIDTH = 75
PANDAS_HINT = (
    'pandas makes one of it: pd.read_excel("a.xlsx").to_csv("a.csv", index=False)'
)


class CsvTable(NamedTuple):
    """A table that was read from a .csv file."""

    X: NDArray[Any]  # floats, NaN if missing; or objects, if there are categories
    y: list[Any] | None  # the target: numbers, or text
    names: tuple[str, ...]  # of the columns of X
    categories: tuple[str, ...]  # names of columns of text
    left_out: tuple[str, ...]  # names of other columns, each with the reason
    dates: tuple[str, ...]  # names of columns of dates, which are days in X
    lines: NDArray[np.intp]  # numbers of the samples' lines in the file
    n_without_target: int  # rows that are left out
    code: tuple[str, ...]  # lines of Python that read X as a pandas DataFrame


class _Cells(NamedTuple):
    """Cells of a file, without blank lines and outer spaces."""

    lines: list[int]
    rows: list[list[str]]
    raw_header: list[str]  # the first line with its spaces
    options: dict[str, Any]  # arguments of pandas.read_csv


def read_csv(
    path: Path,
    target: str | None,
    categories: Sequence[str] = (),
    dropped: Sequence[str] = (),
) -> CsvTable:
    """Return the table in a .csv file, or raise DemoError if it is none.

    A column is text, of categories, if it is named in `categories`, if less than half
    of its values are numbers or dates, or if numbers have zeros before them; else
    values that are none are errors. The first line is a header if a feature in it is
    neither a number nor missing, unless all of these are in columns of text, and others
    in it are numbers. Columns that say nothing are left out, as are those that are
    named in `dropped`, and rows without a target.
    """
    cells = _read_cells(path)
    options = cells.options
    decimal = options.get("decimal", ".")
    number_of = partial(_number, decimal)
    header, *rows = cells.rows
    lines = cells.lines
    label = None if target is None else _column_number(header, target, "--target")
    features = [column for column in range(len(header)) if column != label]
    columns = _columns(rows, len(header))
    known = [{cell: number_of(cell) for cell in {*column}} for column in columns]
    chosen = {_column_number(header, name, "--categories") for name in categories}
    unwanted = {_column_number(header, name, "--drop") for name in dropped}
    texts = {i for i in features if i in chosen or _is_text(columns[i], known[i])}
    named = {i for i in features if number_of(header[i]) is None}
    has_numbers = any(i not in named and header[i] for i in features)
    if not named or (named <= texts and has_numbers):
        options["header"] = None
        rows = cells.rows
        columns = _columns(rows, len(header))
        known = [{cell: number_of(cell) for cell in {*column}} for column in columns]
        in_code: list[Any] = list(range(len(header)))
        names = list(map(str, in_code))
    else:
        names = _unique_names(header)
        in_code = _unique_names(list(map(str.lstrip, cells.raw_header)))
        lines = lines[1:]
    missing = {c for cells in known for c in cells if _is_missing(c)}
    is_labelled = [label is None or row[label] not in missing for row in rows]
    if not all(is_labelled):
        rows = list(itertools.compress(rows, is_labelled))
        lines = list(itertools.compress(lines, is_labelled))
        columns = _columns(rows, len(header))
    if missing - _PANDAS_MISSING:
        options["na_values"] = sorted(missing - _PANDAS_MISSING)

    formats = _read_dates(columns, known, texts - chosen)
    texts -= {*formats}
    kept: dict[int, list[Any]] = {}
    left_out: dict[int, str] = {}
    values: list[Any]
    for i in features if rows else ():
        if i in unwanted:
            left_out[i] = "by --drop"
            continue
        if i in texts:
            values = [None if _is_missing(c) else c for c in columns[i]]
        else:
            _check_numbers(names[i], lines, columns[i], known[i])
            values = [known[i][cell] for cell in columns[i]]
        if reason := _why_left_out(values, is_text=i in texts):
            left_out[i] = reason
        else:
            kept[i] = values
    X = np.array(list(kept.values()), dtype=object if texts & {*kept} else np.float64)
    y: list[Any] | None = None
    if label is not None:
        y = list(columns[label])
        if None not in known[label].values():
            y = [known[label][cell] for cell in y]
    numbers = [i for i in kept if i not in texts]
    formats |= {i: dates.ISO for i in numbers if any(map(dates.is_iso, known[i]))}
    days = [i for i in numbers if i in formats]
    as_text = [i for i in kept if i in texts and _has_numbers(known[i])]
    if as_text:
        options["dtype"] = {in_code[i]: "str" for i in as_text}
    code = _code(
        path,
        options,
        None if label is None else in_code[label],
        all(is_labelled),
        [in_code[i] for i in left_out],
        [in_code[i] for i in numbers if any(_is_styled(decimal, c) for c in known[i])],
        {in_code[i]: formats[i] for i in days},
    )
    return CsvTable(
        np.ascontiguousarray(X.T).reshape(len(rows), len(kept)),
        y,
        tuple(names[i] for i in kept),
        tuple(names[i] for i in kept if i in texts),
        tuple(f"{names[i]} ({reason})" for i, reason in left_out.items()),
        tuple(names[i] for i in days),
        np.array(lines, dtype=np.intp),
        is_labelled.count(False),
        code,
    )


# -- cells --------------------------------------------------------------------------


def _read_cells(path: Path) -> _Cells:
    text, options = _read_text(path)
    try:
        separator = _separator(text)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        numbered = [
            (reader.line_num, row) for row in reader if any(map(str.strip, row))
        ]
    except csv.Error as error:
        raise DemoError(f"not a readable .csv file ({error})") from None
    if not numbered:
        raise DemoError("the file is empty")
    lines, raw = [line for line, _ in numbered], [row for _, row in numbered]
    for line, row in numbered:
        if len(row) != len(raw[0]):
            raise DemoError(
                f"line {line} has {len(row)} columns, the first has {len(raw[0])}: "
                "write the same number in each line, and text with separators in "
                "quotes"
            )
    rows = [[cell.strip() for cell in row] for row in raw]
    if separator != ",":
        options["sep"] = separator
        if _has_decimal_commas(rows):
            options["decimal"] = ","
    if any(cell[:1].isspace() for row in raw for cell in row):
        options["skipinitialspace"] = True
    return _Cells(lines, rows, raw[0], options)


def _read_text(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the text of a file, and its encoding if it is not UTF-8."""
    content = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DemoError(f"not a readable .gz file ({error})") from None
    options: dict[str, Any] = {}
    if content.startswith(b"PK"):
        raise DemoError(f"not a .csv file, but one of Excel or a .zip: {PANDAS_HINT}")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        options["encoding"] = "utf-16"
    elif b"\0" in content:
        raise DemoError("not a readable .csv file (it has bytes that are no text)")
    try:
        return content.decode(options.get("encoding", "utf-8-sig")), options
    except UnicodeDecodeError:
        if options:
            raise DemoError("not a readable .csv file (no text in UTF-16)") from None
    try:
        return content.decode("cp1252"), {"encoding": "cp1252"}
    except UnicodeDecodeError:
        return content.decode("latin-1"), {"encoding": "latin-1"}


def _separator(text: str) -> str:
    """Return the separator that cuts the first lines into equally many columns."""
    first = "\n".join(text.lstrip().splitlines()[:_SNIFFED_LINES])
    for separator in _SEPARATORS:
        reader = csv.reader(io.StringIO(first), delimiter=separator)
        lengths = {len(row) for row in reader if any(map(str.strip, row))}
        if len(lengths) == 1 and lengths != {1}:
            return separator
    return ","


def _columns(rows: list[list[str]], n_columns: int) -> list[tuple[str, ...]]:
    """Return the columns of rows, of which there may be none."""
    return list(zip(*rows, strict=True)) or [()] * n_columns


def _has_decimal_commas(rows: list[list[str]]) -> bool:
    """Whether more cells are numbers with a comma than with a point."""
    cells = [cell for row in rows[:_SNIFFED_LINES] for cell in row]
    return sum(bool(re.fullmatch(r"[-+]?\d+,\d+", cell)) for cell in cells) > sum(
        bool(re.fullmatch(r"[-+]?\d+\.\d+", cell)) for cell in cells
    )


def _unique_names(header: list[str]) -> list[str]:
    """Return names of columns, each once: as pandas renames those that repeat."""
    names: list[str] = []
    for column, cell in enumerate(header):
        name = unnumbered = cell or f"Unnamed: {column}"
        number = 0
        while name in names:
            number += 1
            name = f"{unnumbered}.{number}"
        names.append(name)
    return names


def _column_number(names: list[str], name: str, option: str) -> int:
    """Return the position of the column that an option means."""
    if name in names:
        return names.index(name)
    try:
        return range(len(names))[int(name)]
    except ValueError:
        raise DemoError(
            f"no column {name!r} for {option} in: {', '.join(names)}"
        ) from None
    except IndexError:
        raise DemoError(
            f"no column {name} for {option}, there are {len(names)}"
        ) from None


# -- values -------------------------------------------------------------------------


def _is_missing(cell: str) -> bool:
    """Whether a cell has no value."""
    return cell.lower() in _MISSING_CELLS


def _number(decimal: str, cell: str) -> float | None:
    """Return the number in a cell, NaN if it is missing, None for text.

    A date is a number of days.
    """
    if _is_missing(cell):
        return math.nan
    if _is_styled(decimal, cell):
        signs = cell if decimal == "." else cell.translate(_SWAPPED)
        return float(re.sub(r"[^\d.-]", "", signs))
    number = _plain_number(decimal, cell)
    return dates.days_of_iso(cell) if number is None else number


def _plain_number(decimal: str, cell: str) -> float | None:
    """Return the number in a cell that pandas reads as one, or None."""
    if decimal == ",":
        cell = cell.translate(_SWAPPED)
    try:
        return None if "_" in cell else float(cell)  # Python takes 1_000
    except ValueError:
        return None


def _is_styled(decimal: str, cell: str) -> bool:
    """Whether a number has a sign of a currency, a percentage or of thousands."""
    signs = cell if decimal == "." else cell.translate(_SWAPPED)
    is_number = _STYLED.fullmatch(signs) is not None
    return is_number and _plain_number(decimal, cell) is None


def _is_text(cells: Sequence[str], known: dict[str, float | None]) -> bool:
    """Whether the values of a column are text, and not numbers with mistakes.

    Digits with a zero before them, as in a postcode, are text.
    """
    values = [cell for cell in cells if not _is_missing(cell)]
    n_numbers = sum(known[cell] is not None for cell in values)
    if any(map(_LEADING_ZERO.fullmatch, values)):
        return True
    return n_numbers < _MOST_NUMBERS * len(values)


def _read_dates(
    columns: list[tuple[str, ...]],
    known: list[dict[str, float | None]],
    candidates: Iterable[int],
) -> dict[int, str]:
    """Return the formats of columns of dates that are not in ISO 8601.

    Their days are put into `known`.
    """
    formats = {}
    for i in candidates:
        values = {cell for cell in columns[i] if not _is_missing(cell)}
        if not values or not dates.are_dates(values):
            continue
        if date_format := dates.format_of(values):
            formats[i] = date_format
            known[i] = dict.fromkeys(columns[i], math.nan)
            known[i] |= {cell: dates.days_of(cell, date_format) for cell in values}
    return formats


def _has_numbers(known: dict[str, float | None]) -> bool:
    """Whether pandas would take cells of a column of text for numbers."""
    return any(number is not None and number == number for number in known.values())


def _check_numbers(
    name: str, lines: list[int], cells: Sequence[str], known: dict[str, float | None]
) -> None:
    """Raise DemoError for a column of numbers if a value is none, or is infinite."""
    for line, cell in zip(lines, cells, strict=True):
        number = known[cell]
        if number is None and dates.are_dates([cell]):
            raise DemoError(
                f"line {line}, column {name}: {cell} (write all dates of a column as "
                f"2026-12-31, or leave the column out, --drop {quoted(name)})"
            )
        if number is None:
            raise DemoError(
                f"line {line}, column {name} is not a number: {cell} (if it is "
                "missing, leave the cell empty, or write NA; if the column is of "
                f"categories, --categories {quoted(name)})"
            )
        if abs(number) > _LARGEST:
            raise DemoError(
                f"line {line}, column {name} is infinite or too large: {cell} (if it "
                "is not known, leave the cell empty, or write NA)"
            )


def _why_left_out(values: list[Any], *, is_text: bool) -> str | None:
    """Return why a column says nothing about samples, or None."""
    there = [value for value in values if value is not None and value == value]
    if len(there) < max(_FEWEST_VALUES, _LEAST_SHARE * len(values)):
        return f"{len(there) or 'no'} value{'s' * (len(there) > 1)}"
    different = set(there)
    if len(different) < 2:
        return "the same value everywhere"
    if not is_text:
        # Consecutive whole numbers, each once; some may be missing.
        span = max(different) - min(different) + 1
        is_dense = len(there) == len(different) and span <= _MOST_OF_NUMBERED * len(
            there
        )
        is_numbered = is_dense and all(value == int(value) for value in there)
        return "row numbers" if is_numbered else None
    if dates.are_dates(there):
        return "dates in no clear format: write them as 2026-12-31"
    if len(different) > _MOST_LEVELS * len(there):
        return "nearly all values differ"
    return None


# -- code ---------------------------------------------------------------------------


def _code(
    path: Path,
    options: dict[str, Any],
    label: Any,
    all_labelled: bool,
    left_out: list[Any],
    styled: list[Any],
    date_formats: dict[Any, str],
) -> tuple[str, ...]:
    """Return lines of Python that read the same table by pandas."""
    arguments = [quoted(str(path)), *(f"{k}={quoted(v)}" for k, v in options.items())]
    lines = ["import pandas as pd", *wrapped("X = pd.read_csv(", arguments, ")")]
    if not all_labelled:
        lines.append(f"X = X.dropna(subset=[{quoted(label)}], ignore_index=True)")
    if label is not None:
        lines.append(f"y = X.pop({quoted(label)})")
    if left_out:
        names = [quoted(name) for name in left_out]
        lines += wrapped("X = X.drop(columns=[", names, "])")
    if styled:
        decimal = options.get("decimal", ".")
        lines += wrapped("for c in [", [quoted(name) for name in styled], "]:")
        signs = rf'r"[^\d{decimal}-]", "", regex=True'
        lines.append(f"    X[c] = X[c].astype(str).str.replace({signs})")
        point = '.str.replace(",", ".")' if decimal == "," else ""
        lines.append(f"    X[c] = pd.to_numeric(X[c]{point})")
    for date_format in sorted({*date_formats.values()}):
        of_format = [n for n, found in date_formats.items() if found == date_format]
        lines += wrapped("for c in [", [quoted(name) for name in of_format], "]:")
        lines.append(f"    X[c] = pd.to_datetime(X[c], format={quoted(date_format)})")
        lines.append("    X[c] = (X[c] - X[c].min()).dt.total_seconds()")
    return tuple(lines)


def quoted(value: Any) -> str:
    """Return a value as Python code, strings in double quotes."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{quoted(k)}: {quoted(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(quoted, value))}]"
    if not isinstance(value, str) or '"' in value or "\\" in value:
        return repr(value)
    return f'"{repr(value)[1:-1]}"' if "'" not in value else f'"{value}"'


def wrapped(before: str, parts: list[str], after: str) -> Iterator[str]:
    """Yield the lines of a call: one, or several if it is long."""
    whole = before + ", ".join(parts) + after
    if len(whole) <= _CODE_WIDTH:
        yield whole
        return
    yield before
    line = "   "
    for part in parts:
        if len(line) + len(part) + 2 > _CODE_WIDTH and line.strip():
            yield line
            line = "   "
        line += f" {part},"
    yield line
    yield after
