"""Tables of what was found: by code size, for each column and for each row."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from skae._cli.demo_data import Data
from skae._cli.unusual import Unusual
from skae._typing import Floats


def write_scores(path: Path, table: dict[str, list[Any]]) -> None:
    """Write the scores: a line for each code size."""
    _write(path, table, zip(*table.values(), strict=True))


def write_columns(path: Path, data: Data, shares: Floats) -> None:
    """Write a line for each column: its kind, gaps, and the share that is kept."""
    missing = data.is_missing.mean(axis=0)
    kinds = [
        "categories" if name in data.categories else "numbers" for name in data.names
    ]
    header = "column", "kind", "missing", "kept"
    rows = zip(data.names, kinds, missing, shares, strict=True)
    _write(path, header, map(_shortened, rows))


def write_rows(path: Path, data: Data, codes: Floats, unusual: Unusual) -> None:
    """Write a line for each row: its score, what is odd in it, and its code."""
    blamed = [""] * len(codes)
    for row, blame in zip(unusual.worst, unusual.blame, strict=True):
        if unusual.is_beyond[row]:
            blamed[row] = data.names[blame.argmax()]
    header = [
        "row" if data.lines is None else "line",
        *("score", "unusual", "column to blame"),
        *(f"code {i}" for i in range(codes.shape[1])),
    ]
    numbers = np.arange(len(codes)) if data.lines is None else data.lines
    parts = numbers, unusual.scores, unusual.is_beyond.astype(int), blamed, codes
    rows = ([*rest, *code] for *rest, code in zip(*parts, strict=True))
    _write(path, header, map(_shortened, rows))


def _shortened(row: Iterable[Any]) -> list[Any]:
    """Return a row with numbers of six digits."""
    return [f"{value:.6g}" if isinstance(value, float) else value for value in row]


def _write(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
