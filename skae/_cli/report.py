"""What was found in the data, in words, and Python to continue with."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from skae._cli.demo_data import Data
from skae._cli.unusual import N_LEAST, Unusual
from skae._typing import Floats
from skae.inspection._comparison_display import (
    ACCURACY,
    PCA_NAME,
    PCAComparisonDisplay,
)
from skae.inspection._verdict import is_clear
from skae.metrics import reconstruction_error

LINE_WIDTH = 79
# A code that keeps this share of the variance is enough.
ENOUGH = 0.9
_N_BEST, _N_UNUSUAL, _N_BLAMED = 3, N_LEAST, 2
_LEAST_BLAME = 0.05
# Columns that are listed by name; of more, their number is given.
_MOST_NAMED = 5
_LONGEST = 20  # characters of a name or a value in a list
_UNBROKEN_PERCENT = "\N{NO-BREAK SPACE}%"


def advice(
    folds: PCAComparisonDisplay, code_size: int, held_out: tuple[float, float]
) -> str:
    """Return which of both to take with a code size: PCA if nothing is gained.

    `held_out` are their R² on held-out samples, PCA's first.
    """
    is_size = folds.results["n_components"] == code_size
    of_size = PCAComparisonDisplay(
        results={name: column[is_size] for name, column in folds.results.items()},
        score_name=folds.score_name,
        is_imputed=folds.is_imputed,
    )
    is_pca = of_size.results["estimator"] == PCA_NAME
    scores = [
        of_size.results[measure]
        for measure in ("test_score", ACCURACY)
        if measure in of_size.results
    ]
    if any(is_clear(measure[~is_pca] - measure[is_pca]) for measure in scores):
        recommended = "the autoencoder"
    else:
        recommended = "PCA, which is simpler and no worse"
    pca, autoencoder = (_percent(max(r2, 0.0)) for r2 in held_out)
    return (
        f"with {in_numbers(code_size)} per row PCA keeps {pca}, the autoencoder "
        f"{autoencoder}. In the cross-validation: {of_size.verdict} Recommended: "
        f"{recommended}."
    ).replace("±", "+-")  # terminals may know ASCII only


def chosen_code_size(r2: Sequence[float]) -> int:
    """Return which is the first code that keeps enough; if none does, the best."""
    enough = np.flatnonzero(np.asarray(r2) >= ENOUGH)
    return int(enough[0]) if len(enough) else int(np.argmax(r2))


def column_shares(pipeline: Pipeline, X: Any, categories: Sequence[int]) -> Floats:
    """Return the share of each column that a pipeline reconstructs, at most 1.

    `categories` are the numbers of the columns of categories.

    That is R² of numbers. Categories count by the squared differences of their levels'
    probabilities. Columns without two different values have NaN.
    """
    errors = reconstruction_error(pipeline, X, per_feature=True)
    is_number = ~np.isin(np.arange(X.shape[1]), categories)
    numbers = np.asarray(X[:, is_number], dtype=np.float64)
    if not is_number.all():  # errors of tables are in units of usual ones
        restored = pipeline.inverse_transform(pipeline.transform(X))[:, is_number]
        errors[:, is_number] = (numbers - restored.astype(np.float64)) ** 2
    means = _mean(errors)
    variance = _mean((numbers - _mean(numbers)) ** 2)
    means[is_number] /= np.where(variance > 0, variance, np.nan)
    shares: Floats = 1 - means
    return shares


def _mean(values: Floats) -> Floats:
    """Return the mean of each column's observed entries, NaN where there is none."""
    is_observed = ~np.isnan(values)
    counts = np.where(is_observed.any(axis=0), is_observed.sum(axis=0), np.nan)
    mean: Floats = np.where(is_observed, values, 0.0).sum(axis=0) / counts
    return mean


def report(
    data: Data,
    *,
    r2: dict[int, float],
    code_size: int,
    warning: str,
    choice: str,
    of_target: str,
    shares: Floats,
    unusual: Unusual,
    model_code: str,
) -> str:
    """Return the text.

    Parameters
    ----------
    data : Data

    r2 : dict of int to float
        R² on held-out samples, by code size.

    code_size : int
        The one that was chosen.

    warning : str
        On results that few rows decide, or "".

    choice : str
        Which of PCA and the autoencoder is better.

    of_target : str
        How well the target is predicted from all features, or "".

    shares : ndarray of shape (n_features,)
        See `column_shares`.

    unusual : Unusual
        What a detector says of all samples.

    model_code : str
        Lines of Python that fit the model to X.
    """
    n_columns = len(data.names)
    n_texts = len(data.categories)
    kinds = f"{n_columns - n_texts} of numbers"
    if n_texts:
        kinds += f", {n_texts} of categories"
    paragraphs = [
        f"Table: {data.name} has {len(data.X)} rows and {n_columns} columns in use: "
        f"{kinds}."
    ]
    if data.left_out:
        paragraphs.append(f"Left out: {_listed(data.left_out)}.")
    paragraphs += [
        _gaps(data),
        warning,
        f"Code size: {_code_size(r2, code_size)}",
        f"PCA or autoencoder: {choice}",
        of_target and f"Target: {of_target}",
        _columns(data.names, shares, in_numbers(code_size)),
    ]
    lines = [line for text in paragraphs for line in _wrapped(text)]
    lines += _unusual_rows(data, unusual)
    lines += ["To continue in Python:"]
    code = [*data.code, *model_code.splitlines()]
    code.sort(key=lambda line: not line.startswith(("import ", "from ")))
    lines += [f"    {line}" for line in code]
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    lines = textwrap.wrap(
        text.replace(" %", _UNBROKEN_PERCENT),
        LINE_WIDTH,
        subsequent_indent="  ",
        break_on_hyphens=False,
    )
    return [line.replace(_UNBROKEN_PERCENT, " %") for line in lines]


def _value(data: Data, row: int, column: int) -> str:
    """Return an entry of X as text."""
    value = data.X[row, column]
    if data.names[column] in data.dates:
        return str(np.datetime64(int(value // 1), "D"))
    return short(value)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def column_name(name: str) -> str:
    """Return what a column is called in words and pictures."""
    return f"column {name}" if name.isdecimal() else short(name)


def short(value: Any) -> str:
    """Return a name or a value, in few characters."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    half = (_LONGEST - 3) // 2  # the ends of long names often differ
    return text if len(text) <= _LONGEST else f"{text[:half]}...{text[-half:]}"


def _listed(names: Sequence[str]) -> str:
    named = ", ".join(names[:_MOST_NAMED])
    n_more = len(names) - _MOST_NAMED
    return f"{named} and {n_more} more" if n_more > 0 else named


def in_numbers(code_size: int) -> str:
    """Return a code size in words: 1 number, 2 numbers."""
    return f"{code_size} number{'s' * (code_size > 1)}"


def _code_size(r2: dict[int, float], code_size: int) -> str:
    """Return what the code that was chosen keeps, and others do."""
    if max(r2.values()) <= 0:  # no better than the means
        return (
            "no code keeps any of the variance of held-out rows: the columns seem "
            "unrelated, or a few extreme rows decide it."
        )
    shares = {size: _percent(max(share, 0.0)) for size, share in r2.items()}
    others = ", ".join(f"{size}: {share}" for size, share in shares.items())
    numbers, is_one = in_numbers(code_size), code_size == 1
    if r2[code_size] >= ENOUGH:
        kept = f"{numbers} per row {'is' if is_one else 'are'} enough to keep"
    else:
        kept = f"none of those tried keeps {_percent(ENOUGH)}; {numbers} per row "
        kept += "keeps" if is_one else "keep"
    return (
        f"{kept} {shares[code_size]} of the variance of held-out rows (by code size: "
        f"{others})."
    )


def _gaps(data: Data) -> str:
    is_missing = data.is_missing
    if not is_missing.any():
        return "Gaps: none."
    of_columns = is_missing.mean(axis=0)
    order = np.argsort(-of_columns, kind="stable")[: np.count_nonzero(of_columns)]
    columns = [
        f"{column_name(data.names[i])} {100 * of_columns[i]:.2g} %" for i in order
    ]
    return (
        f"Gaps: {100 * is_missing.mean():.2g} % of the values, in {_listed(columns)}. "
        "The autoencoder takes them as they are. To fill them: "
        "skae.AutoencoderImputer(random_state=0).fit_transform(X)"
    )


def _columns(names: Sequence[str], shares: Floats, numbers: str) -> str:
    order = np.argsort(-shares, kind="stable")
    order = order[~np.isnan(shares[order])]
    n_best = min(_N_BEST, (len(order) + 1) // 2)
    best, worst = order[:n_best], order[n_best:][-_N_BEST:][::-1]

    def listed(columns: NDArray[np.intp]) -> str:
        return ", ".join(f"{column_name(names[i])} {shares[i]:z.2f}" for i in columns)

    text = f"Columns, by the share that is kept in {numbers}: best {listed(best)}"
    return f"{text}; worst {listed(worst)}." if len(worst) else f"{text}."


def _unusual_rows(data: Data, unusual: Unusual) -> list[str]:
    """Return lines about the rows with the highest scores, and what is odd in them."""
    n_beyond = np.count_nonzero(unusual.is_beyond)
    if n_beyond:
        verdict = ", a rule of thumb that flags some normal rows, too"
    else:
        verdict = "; even the highest scores look normal"
    heading = (
        f"Unusual rows: {n_beyond} of {len(unusual.scores)} beyond the detector's limit"
        f"{verdict}. The most unusual, with the columns to blame and their share of "
        "the score (rows count from 0"
    )
    heading += ", without the header):" if data.is_table else "):"
    lines = _wrapped(heading)
    worst = zip(unusual.worst, unusual.blame, strict=True)
    for row, blame in itertools.islice(worst, _N_UNUSUAL):
        shares = blame / max(blame.sum(), np.finfo(np.float64).tiny)
        columns = np.argsort(-shares, kind="stable")[:_N_BLAMED]
        reasons = ", ".join(
            f"{column_name(data.names[i])}={_value(data, row, i)} "
            f"({_percent(shares[i])})"
            for i in columns
            if shares[i] >= _LEAST_BLAME
        )
        line = "" if data.lines is None else f" (line {data.lines[row]})"
        lines += textwrap.wrap(
            f"row {row}{line}: {reasons}",
            LINE_WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
        )
    return lines
