"""Files of what was found in each row and each column."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skae._cli.demo_data import Data
from skae._outliers.detector import AutoencoderOutlierDetector
from skae._typing import Floats

# Columns to blame are found for so many rows, those with the highest scores.
MAX_BLAMED = 500


def write_columns(path: Path, data: Data, shares: Floats) -> None:
    """Write a line for each column: its kind, gaps, and the share that is kept."""
    missing = data.is_missing.mean(axis=0)
    kinds = [
        "categories" if name in data.categories else "numbers" for name in data.names
    ]
    header = "column", "kind", "missing", "kept"
    _write(path, header, zip(data.names, kinds, missing, shares, strict=True))


def write_rows(
    path: Path,
    data: Data,
    X: Any,
    codes: Floats,
    detector: AutoencoderOutlierDetector,
) -> None:
    """Write a line for each row: its score, what is odd in it, and its code."""
    scores = -detector.score_samples(X)
    worst = np.argsort(-scores, kind="stable")[:MAX_BLAMED]
    worst = worst[scores[worst] > -detector.offset_]
    blamed = [""] * len(X)
    if len(worst):
        columns = detector.feature_scores(X[worst]).argmax(axis=1)
        for row, column in zip(worst, columns, strict=True):
            blamed[row] = data.names[column]
    numbers = np.arange(len(X)) if data.lines is None else data.lines
    unusual = (scores > -detector.offset_).astype(int)
    header = [
        "row" if data.lines is None else "line",
        *("score", "unusual", "column to blame"),
        *(f"code {i}" for i in range(codes.shape[1])),
    ]
    of_rows = zip(numbers, scores, unusual, blamed, codes, strict=True)
    _write(path, header, ([*rest, *code] for *rest, code in of_rows))


def _write(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(
            [f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows
        )
