"""Dates in .csv files, as numbers of days."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable

_SECONDS_PER_DAY = 86400
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?")
_OTHER_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}( \d{1,2}:\d\d(:\d\d)?)?")
ISO = "ISO8601"  # pandas' name for it
# Points are between day, month and year, in this order. Of others the values tell.
_ORDERS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y")
_FORMATS = tuple(f"{order}{time}" for order in _ORDERS for time in ("", " %H:%M"))


def days_of_iso(cell: str) -> float | None:
    """Return days since 1970 of a date as 2026-12-31, None for other text."""
    if not is_iso(cell):
        return None
    try:
        return _days(datetime.datetime.fromisoformat(cell))
    except ValueError:  # a 13th month
        return None


def is_iso(cell: str) -> bool:
    """Whether a cell is written as a date in ISO 8601."""
    return _ISO_DATE.fullmatch(cell) is not None


def are_dates(cells: Iterable[str]) -> bool:
    """Whether most cells look like dates that are not in ISO 8601."""
    found = [_OTHER_DATE.fullmatch(cell) is not None for cell in cells]
    return sum(found) > len(found) / 2


def format_of(cells: Iterable[str]) -> str | None:
    """Return the only format in which all cells are dates, None if there is no such."""
    fitting = [
        date_format
        for date_format in _FORMATS
        if all(days_of(cell, date_format) is not None for cell in cells)
    ]
    return fitting[0] if len(fitting) == 1 else None


def days_of(cell: str, date_format: str) -> float | None:
    """Return days since 1970 of a date in a format, None for other text."""
    try:
        return _days(datetime.datetime.strptime(cell, date_format))
    except ValueError:
        return None


def _days(date: datetime.datetime) -> float:
    return date.replace(tzinfo=datetime.UTC).timestamp() / _SECONDS_PER_DAY
