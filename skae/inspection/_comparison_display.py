"""The result of a comparison of PCA and an autoencoder: table, verdict, plot."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from skae._typing import Floats
from skae.inspection._drawing import check_axes, check_two_axes
from skae.inspection._verdict import verdict

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

PCA_NAME, AUTOENCODER_NAME = "PCA", "autoencoder"
ACCURACY, DEVIANCE = "accuracy", "deviance_score"
SCORE, REFERENCE = "prediction_score", "prediction_score_all_features"
FITTED = "fitted"
# With more code sizes than this, matplotlib chooses the ticks.
MAX_TICKS = 10
# scikit-learn's rule: the axis is logarithmic if gaps between values differ by more.
MAX_GAP_RATIO = 5
# Inches of a new figure with two panels.
_TWO_PANELS = (11.0, 4.8)
# Characters of the table as text: its first column, its other columns, a line.
_LABEL_WIDTH = 9
_WIDTHS = {PCA_NAME: 8, AUTOENCODER_NAME: 13, "gain": 17}
_LINE_WIDTH = 79
_REFERENCE_COLOR = "0.4"
_ALL_FEATURES = "all features"
_OF_IMPUTED = "PCA saw means in place of missing values."


class PCAComparisonDisplay:
    """Held-out R² and fit times of PCA and an autoencoder, by code size.

    :func:`compare_with_pca` creates it. Its ``repr``, also in notebooks, is a table and
    a verdict in words. For each code size, the table has the mean R² of both over the
    splits, the mean and standard deviation of the autoencoder's gain in R² over PCA,
    and the median seconds of a fit. If there are scores of a predictor, it has the same
    columns for them.

    Parameters
    ----------
    results : dict of str to ndarray of shape (n_estimators * n_code_sizes * n_splits,)
        A row for each estimator, code size and split, sorted in this order.

    score_name : str, default="score"
        Name of the predictor's score, such as "accuracy".

    is_imputed : bool, default=False
        Whether the data had missing values, and PCA means in their place. The verdict
        says so.

    Attributes
    ----------
    results : dict of str to ndarray of shape (n_estimators * n_code_sizes * n_splits,)
        Columns of a table, for ``pandas.DataFrame(display.results)``:

        - "estimator": "PCA" or "autoencoder";
        - "n_components": the code size;
        - "split": the number of the split, from 0;
        - "fit_time", "score_time": seconds. The first fit of an autoencoder in a
          process loads its kernels, in about 0.2 seconds, or compiles them: see
          :func:`skae.warmup`. The score time includes the predictor's fit;
        - "test_score": R² of the held-out samples, at most 1;
        - "deviance_score": share of the deviance of the held-out samples. Only of a
          table with categories, as the next;
        - "accuracy": share of the decoded levels that are right, over all columns of
          categories;
        - "prediction_score": score of the predictor on the codes of the held-out
          samples. Only with a target;
        - "prediction_score_all_features": score of the predictor on all features, for
          comparison. It depends on the split only;
        - "fitted": the fitted Pipeline, whose last step is PCA (with missing values, a
          subclass that imputes the mean) or the autoencoder. Only with
          ``return_estimator=True``.

    verdict : str
        Which is better at which code size, and by how much. A difference counts
        if its mean is more than twice its standard deviation over the splits.

    ax_ : matplotlib Axes
        Axes with the curves of R². :meth:`plot` sets this and the following attributes.

    figure_ : matplotlib Figure
        Figure with the axes.

    lines_ : list of matplotlib Line2D
        Means over the splits, of PCA and of the autoencoder.

    fill_between_ : list of matplotlib PolyCollection
        Bands of one standard deviation over the splits on either side of the means.

    prediction_ax_ : matplotlib Axes or None
        Axes with the curves of the prediction scores.

    prediction_lines_ : list of matplotlib Line2D
        Means over the splits, of PCA, of the autoencoder and of all features. Empty
        without prediction scores, like the next attribute.

    prediction_fill_between_ : list of matplotlib artists
        Bands of one standard deviation on either side of these means.

    See Also
    --------
    compare_with_pca : Creates the display from data.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae.inspection import compare_with_pca
    >>> display = compare_with_pca(load_iris().data, [1, 2], cv=3)
    >>> display.results["test_score"].shape  # 2 estimators, 2 code sizes, 3 splits
    (12,)
    >>> display.plot().ax_.get_xlabel()  # doctest: +SKIP
    'Code size (n_components)'
    """

    def __init__(
        self,
        *,
        results: Mapping[str, NDArray[Any]],
        score_name: str = "score",
        is_imputed: bool = False,
    ) -> None:
        self.results = results
        self.score_name = score_name
        self.is_imputed = is_imputed

    def plot(
        self,
        ax: Axes | Sequence[Axes] | None = None,
        *,
        line_kw: dict[str, Any] | None = None,
        fill_between_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw held-out R² against the code size, and beside it prediction scores.

        Parameters
        ----------
        ax : matplotlib Axes, or a pair of them, default=None
            Axes for R², and for the prediction scores if there are any. On a single one
            only R² is drawn. None creates a new figure.

        line_kw : dict, default=None
            Keyword arguments of the lines, for :meth:`matplotlib.axes.Axes.plot`.

        fill_between_kw : dict, default=None
            Keyword arguments of the bands, for
            :meth:`matplotlib.axes.Axes.fill_between`.

        Returns
        -------
        display : PCAComparisonDisplay
            The same display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        self.ax_, self.prediction_ax_ = self._axes(ax)
        self.figure_ = self.ax_.figure
        styles = line_kw or {}, fill_between_kw or {}
        self.lines_, self.fill_between_ = self._draw_curves(
            self.ax_, "test_score", *styles
        )
        self.ax_.set_ylabel(_label("R²"))
        self.ax_.legend()
        self.prediction_lines_: list[Line2D] = []
        self.prediction_fill_between_: list[Artist] = []
        if self.prediction_ax_ is not None:
            self._draw_predictions(self.prediction_ax_, *styles)
        return self

    def _axes(self, ax: Any) -> tuple[Axes, Axes | None]:
        """Return the axes of R² and those of the prediction scores, or None."""
        caller = f"{type(self).__name__}.plot"
        if not self._has_predictions():
            return check_axes(ax, caller), None
        panels = "R² and the prediction scores"
        return check_two_axes(ax, caller, panels, figsize=_TWO_PANELS)

    def _draw_curves(
        self,
        ax: Axes,
        column: str,
        line_kw: dict[str, Any],
        fill_between_kw: dict[str, Any],
    ) -> tuple[list[Line2D], list[Artist]]:
        """Draw a column; return the lines and the bands of both estimators."""
        code_sizes = self._code_sizes()
        lines: list[Line2D] = []
        bands: list[Artist] = []
        for name in (PCA_NAME, AUTOENCODER_NAME):
            scores = self._by_split(column, name)
            mean, deviation = scores.mean(axis=1), scores.std(axis=1)
            (line,) = ax.plot(
                code_sizes, mean, **{"marker": "o", "label": name, **line_kw}
            )
            band = {"color": line.get_color(), "alpha": 0.2}
            lines.append(line)
            bands.append(
                ax.fill_between(
                    code_sizes,
                    mean - deviation,
                    mean + deviation,
                    **{**band, **fill_between_kw},
                )
            )
        _mark_code_sizes(ax, code_sizes)
        ax.set_xlabel("Code size (n_components)")
        return lines, bands

    def _draw_predictions(self, ax: Axes, *styles: dict[str, Any]) -> None:
        lines, bands = self._draw_curves(ax, SCORE, *styles)
        reference = self._reference()
        mean, deviation = reference.mean(), reference.std()
        style: dict[str, Any] = {"color": _REFERENCE_COLOR, "zorder": 0}
        lines.append(ax.axhline(mean, linestyle="--", label=_ALL_FEATURES, **style))
        bands.append(
            ax.axhspan(mean - deviation, mean + deviation, alpha=0.15, **style)
        )
        ax.set_ylabel(_label(self.score_name))
        ax.legend()
        self.prediction_lines_, self.prediction_fill_between_ = lines, bands

    @property
    def verdict(self) -> str:
        """The table's result in words."""
        of_predictions: list[Any] = []
        if self._has_predictions():
            of_predictions = [self._of_both(SCORE), self._reference(), self.score_name]
        text = verdict(
            self._code_sizes(),
            self._of_both("test_score"),
            *of_predictions,
            accuracy=self._of_both(ACCURACY) if ACCURACY in self.results else None,
        )
        return f"{text} {_OF_IMPUTED}" if self.is_imputed else text

    def __repr__(self) -> str:
        r2, *others, seconds = self._groups()
        parts = [_text_table(self._code_sizes(), [r2, seconds])]
        parts += [_text_table(self._code_sizes(), [group]) for group in others]
        if self._has_predictions():  # the last of them
            parts[-1] += f"\n{_ALL_FEATURES}: {self._reference_text()}"
        parts.append(textwrap.fill(self.verdict, _LINE_WIDTH))
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        groups = self._groups()
        titles = "".join(
            _html_cell(title, "th", f'colspan="{len(columns)}"')
            for title, columns in groups
        )
        names = "".join(
            _html_cell(name, "th") for _, columns in groups for name in columns
        )
        lines = [
            "<table>",
            f"<thead><tr><th></th>{titles}</tr>",
            f"<tr><th>code size</th>{names}</tr></thead>",
            "<tbody>",
        ]
        cells = [column for _, columns in groups for column in columns.values()]
        for code_size, *row in zip(self._code_sizes(), *cells, strict=True):
            line = "".join(_html_cell(cell, "td") for cell in row)
            lines.append(f"<tr>{_html_cell(code_size, 'th')}{line}</tr>")
        if self._has_predictions():
            *before, (_, columns), (_, after) = groups
            n_before = sum(len(columns) for _, columns in before)
            lines.append(
                f"<tr>{_html_cell(_ALL_FEATURES, 'th')}"
                f'<td colspan="{n_before}"></td>'
                + _html_cell(self._reference_text(), "td", f'colspan="{len(columns)}"')
                + f'<td colspan="{len(after)}"></td></tr>'
            )
        lines += ["</tbody>", "</table>", f"<p>{html.escape(self.verdict)}</p>"]
        return "\n".join(lines)

    def _groups(self) -> list[tuple[str, dict[str, list[str]]]]:
        """Return groups of columns: pairs of a title and of cells by column name."""
        groups = [("R², held out", _scores_and_gain(*self._of_both("test_score")))]
        if ACCURACY in self.results:
            accuracies = self._of_both(ACCURACY)
            groups.append(("accuracy of levels", _scores_and_gain(*accuracies)))
        if self._has_predictions():
            title = f"{self.score_name}, held out"
            groups.append((title, _scores_and_gain(*self._of_both(SCORE))))
        # The median, because the first fit in a process loads the kernels.
        seconds = [np.median(s, axis=1) for s in self._of_both("fit_time")]
        columns = {
            name: [f"{second:.3f}" for second in column]
            for name, column in zip((PCA_NAME, AUTOENCODER_NAME), seconds, strict=True)
        }
        return [*groups, ("fit seconds", columns)]

    def _has_predictions(self) -> bool:
        return SCORE in self.results

    def _reference(self) -> Floats:
        """Return the scores on all features, of shape (n_splits,)."""
        reference: Floats = self._by_split(REFERENCE, PCA_NAME)[0]
        return reference

    def _reference_text(self) -> str:
        reference = self._reference()
        return f"{reference.mean():z.3f} ± {reference.std():.3f}"

    def _of_both(self, column: str) -> list[Floats]:
        return [self._by_split(column, name) for name in (PCA_NAME, AUTOENCODER_NAME)]

    def _code_sizes(self) -> list[int]:
        code_sizes: list[int] = np.unique(self.results["n_components"]).tolist()
        return code_sizes

    def _by_split(self, column: str, name: str) -> Floats:
        """Return an estimator's values of shape (n_code_sizes, n_splits)."""
        values: Floats = self.results[column][self.results["estimator"] == name]
        return values.reshape(len(self._code_sizes()), -1)


def _label(score_name: str) -> str:
    return f"Held-out {score_name}\nmean ± standard deviation"


def _scores_and_gain(pca: Floats, autoencoder: Floats) -> dict[str, list[str]]:
    """Return cells by column name, from scores of shape (n_code_sizes, n_splits)."""
    gain = autoencoder - pca
    return {
        PCA_NAME: [f"{scores.mean():z.3f}" for scores in pca],
        AUTOENCODER_NAME: [f"{scores.mean():z.3f}" for scores in autoencoder],
        "gain": [f"{gains.mean():+z.3f} ± {gains.std():.3f}" for gains in gain],
    }


def _text_table(
    code_sizes: Sequence[int],
    groups: Sequence[tuple[str, dict[str, list[str]]]],
) -> str:
    """Return the table as text, with its groups of columns side by side."""
    titles, names = " " * _LABEL_WIDTH, "code size"
    lines = [f"{code_size:{_LABEL_WIDTH}}" for code_size in code_sizes]
    for title, columns in groups:
        width = _WIDTHS[PCA_NAME] + _WIDTHS[AUTOENCODER_NAME]
        titles += f"{title:>{width}}" + " " * _WIDTHS["gain"] * ("gain" in columns)
        for name, cells in columns.items():
            names += f"{name:>{_WIDTHS[name]}}"
            lines = [
                f"{line}{cell:>{_WIDTHS[name]}}"
                for line, cell in zip(lines, cells, strict=True)
            ]
    return "\n".join([titles.rstrip(), names, *lines])


def _html_cell(text: object, tag: str, attributes: str = "") -> str:
    return (
        f"<{tag} {attributes}>".replace(" >", ">") + f"{html.escape(str(text))}</{tag}>"
    )


def _mark_code_sizes(ax: Axes, code_sizes: Sequence[int]) -> None:
    """Scale the horizontal axis, and put its ticks at the code sizes."""
    gaps = np.diff(code_sizes)
    if len(gaps) and gaps.max() > MAX_GAP_RATIO * gaps.min():
        ax.set_xscale("log")
    if len(code_sizes) <= MAX_TICKS:
        ax.set_xticks(code_sizes, labels=[str(size) for size in code_sizes])
        ax.minorticks_off()
