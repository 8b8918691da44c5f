"""The table of scores: a row for each code size, columns of PCA and the autoencoder."""

from __future__ import annotations

from typing import Any

from skae.inspection._comparison_display import (
    ACCURACY,
    AUTOENCODER_NAME,
    FITTED,
    PCA_NAME,
    SCORE,
    PCAComparisonDisplay,
)

NAMES = (PCA_NAME, AUTOENCODER_NAME)
PREDICTIONS = {"accuracy": "Accuracy", "target_r2": "R2 of the target"}


def measure_of(held_out: PCAComparisonDisplay) -> str:
    """Return what the table calls the score of predictions of the target."""
    return "accuracy" if held_out.score_name == "accuracy" else "target_r2"


def make_table(
    folds: PCAComparisonDisplay, held_out: PCAComparisonDisplay, code_sizes: list[int]
) -> dict[str, list[Any]]:
    """Return the columns of the table by name, each with an entry per code size."""
    measures = {
        "r2": held_out.results["test_score"],
        "levels": held_out.results.get(ACCURACY),  # None without categories
        measure_of(held_out): held_out.results.get(SCORE),  # None without a target
        "fit_seconds": held_out.results["fit_time"],
        "cv_r2": folds.results["test_score"],
    }
    table: dict[str, list[Any]] = {"code_size": code_sizes}
    for measure, values in measures.items():
        if values is not None:
            means = values.reshape(len(NAMES), len(code_sizes), -1).mean(axis=2)
            for name, column in zip(NAMES, means.tolist(), strict=True):
                table[f"{name.lower()}_{measure}"] = column
    autoencoders = held_out.results[FITTED][len(code_sizes) :]
    table["autoencoder_n_iter"] = [pipeline[-1].n_iter_ for pipeline in autoencoders]
    return table


def columns(table: dict[str, list[Any]], measure: str) -> list[list[Any]]:
    """Return the columns of PCA and of the autoencoder."""
    return [table[f"{name.lower()}_{measure}"] for name in NAMES]


def format_table(table: dict[str, list[Any]]) -> str:
    """Return the table as text: a line per code size, pairs of columns to compare."""
    blocks = {
        "R2, held out": ("r2", 3),
        "accuracy of levels": ("levels", 3),
        "accuracy from the code": ("accuracy", 3),
        "R2 of target from code": ("target_r2", 3),
        "fit seconds": ("fit_seconds", 2),
    }
    blocks = {k: v for k, v in blocks.items() if f"pca_{v[0]}" in table}
    width = max(map(len, NAMES)) + 1
    names = "".join(f"{name:>{width}}" for name in NAMES)
    lines = [
        " ".join(["code", *(f"{title:>{len(names)}}" for title in blocks)]),
        " ".join(["size", *(names for _ in blocks)]),
    ]
    for i, code_size in enumerate(table["code_size"]):
        line = f"{code_size:>4}"
        for measure, decimals in blocks.values():
            values = [column[i] for column in columns(table, measure)]
            line += " " + "".join(f"{value:z{width}.{decimals}f}" for value in values)
        lines.append(line)
    return "\n".join(lines)
