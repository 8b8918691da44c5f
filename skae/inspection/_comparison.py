"""PCA beside an autoencoder, cross-validated, as a table and a picture."""

import numbers

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold, check_cv, cross_validate
from sklearn.pipeline import Pipeline

from skae import _base
from skae._autoencoder import AutoencoderTransformer
from skae._sklearn import _safe_indexing
from skae.inspection._drawing import check_axes
from skae.metrics import _sliceable, reconstruction_r2

CODE_SIZES = (1, 2, 3, 5, 10)
PCA_NAME, AUTOENCODER_NAME = "PCA", "autoencoder"
# With more code sizes than this matplotlib chooses the ticks.
MAX_TICKS = 10
# scikit-learn's rule for a logarithmic axis: how unlike the gaps between values are.
MAX_GAP_RATIO = 5


def compare_with_pca(
    X, n_components=None, *, cv=5, estimator=None, n_jobs=None
) -> "PCAComparisonDisplay":
    """Cross-validate PCA and an autoencoder, to see what the nonlinearity is worth.

    Both are fitted and judged on the same splits, by the same measure: the share of
    the variance of held-out rows that is reconstructed
    (:func:`skae.metrics.reconstruction_r2`).

    Parameters
    ----------
    X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
        The data, numeric and finite.

    n_components : int or array-like of int, default=None
        Code sizes to compare. PCA sets the bound: the number of features and that of
        the rows of the smallest training split, as the last step of a Pipeline sees
        them, less one if they are sparse. None takes those of 1, 2, 3, 5 and 10 that
        are within it and below the number of features.

    cv : int, cross-validation splitter, iterable or None, default=5
        What is held out:

        - int: so many folds of rows in random order, because files are often sorted by
          class; the order is the same in every call. None is 5;
        - a splitter, such as :class:`~sklearn.model_selection.TimeSeriesSplit`, that
          needs no labels and no groups;
        - an iterable of splits, each a pair of the indices of training and held-out
          rows. It serves for the others:
          ``GroupKFold(5).split(X, groups=groups)``.

    estimator : object, default=None
        The autoencoder, or a Pipeline whose last step it is: then PCA takes the place
        of the last step, behind the same preprocessing. Its `n_components` does not
        matter. It is cloned, not changed. None is
        ``AutoencoderTransformer(random_state=0)``.

    n_jobs : int, default=None
        Splits to work on at the same time, as in
        :func:`~sklearn.model_selection.cross_validate`. None is 1, which leaves all
        processors to each fit.

    Returns
    -------
    display : PCAComparisonDisplay
        Prints as a table; ``display.plot()`` draws it, and
        ``pandas.DataFrame(display.results)`` has the numbers. They are the same in
        every call, but for the times, if the estimator's `random_state` is an int.

    Raises
    ------
    ValueError
        If a code size is not a whole number or out of bounds, if `cv` gives no splits
        or holds out a single row, or if X cannot be fitted or scored.
    TypeError
        If the estimator has no `n_components`, or cannot reconstruct.

    See Also
    --------
    PCAComparisonDisplay : What is returned.
    skae.metrics.reconstruction_r2 : The scorer. With it, a grid search chooses.

    Notes
    -----
    R² is in the units of X, whatever a Pipeline does inside: of features on different
    scales the largest decide. Where each is to count the same, pass scaled rows.

    Examples
    --------
    A curved surface in three dimensions:

    >>> from sklearn.datasets import make_s_curve
    >>> from skae.inspection import compare_with_pca
    >>> X, _ = make_s_curve(300, random_state=0)
    >>> display = compare_with_pca(X)
    >>> display  # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
                      R², held out                           fit seconds
    code size     PCA  autoencoder             gain     PCA  autoencoder
            1   0.673        0.8...   +0.1... ± 0.0...
            2   0.868        0.9...   +0.0... ± 0.0...
    >>> display.plot()  # doctest: +SKIP
    """
    X = _sliceable(X)
    splits = _make_splits(cv, X)
    candidates = _candidates(estimator)
    code_sizes = _check_code_sizes(
        n_components, _rows_for_pca(candidates[PCA_NAME], X, splits)
    )
    parts = []
    with _base.interrupt_ends_all():
        for name, pipeline in candidates.items():
            for code_size in code_sizes:
                scores = cross_validate(
                    pipeline.set_params(**{_code_size_parameter(pipeline): code_size}),
                    X,
                    scoring=reconstruction_r2,
                    cv=splits,
                    n_jobs=n_jobs,
                    error_score="raise",
                )
                rows = {
                    "estimator": np.full(len(splits), name),
                    "n_components": np.full(len(splits), code_size),
                    "split": np.arange(len(splits)),
                }
                parts.append(rows | scores)
    return PCAComparisonDisplay(
        results={key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    )


class PCAComparisonDisplay:
    """Held-out R² of PCA and an autoencoder by code size, and what it costs.

    It is made by :func:`compare_with_pca`. Its ``repr`` is a table: for each code size
    the mean R² of both over the splits, the mean and standard deviation of the gain in
    R² of the autoencoder over PCA, and the median seconds of a fit.

    Parameters
    ----------
    results : dict of str to ndarray of shape (n_estimators * n_code_sizes * n_splits,)
        A row for each estimator, code size and split, sorted in this order.

    Attributes
    ----------
    results : dict of str to ndarray of shape (n_estimators * n_code_sizes * n_splits,)
        Columns of a table, which ``pandas.DataFrame(display.results)`` makes of it:

        - "estimator": "PCA" or "autoencoder";
        - "n_components": the code size;
        - "split": the number of the split, from 0;
        - "fit_time", "score_time": seconds. The first fit of an autoencoder in a
          process loads its kernels, some 0.2 seconds, or compiles them: see
          :func:`skae.warmup`;
        - "test_score": R² of the held-out rows, at most 1.

    ax_ : matplotlib Axes
        Axes with the curves; as what follows, after :meth:`plot`.

    figure_ : matplotlib Figure
        Their figure.

    lines_ : list of matplotlib Line2D
        Means over the splits, of PCA and of the autoencoder.

    fill_between_ : list of matplotlib PolyCollection
        Bands of one standard deviation over the splits on either side of the means.

    See Also
    --------
    compare_with_pca : Makes it from data.

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

    def __init__(self, *, results):
        self.results = results

    def plot(self, ax=None, *, line_kw=None, fill_between_kw=None):
        """Draw held-out R² against the code size.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.

        line_kw : dict, default=None
            Keyword arguments of the lines, for :meth:`matplotlib.axes.Axes.plot`.

        fill_between_kw : dict, default=None
            Keyword arguments of the bands, for
            :meth:`matplotlib.axes.Axes.fill_between`.

        Returns
        -------
        display : PCAComparisonDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = check_axes(ax, f"{type(self).__name__}.plot")
        code_sizes = self._code_sizes()
        self.lines_, self.fill_between_ = [], []
        for name in (PCA_NAME, AUTOENCODER_NAME):
            scores = self._by_split("test_score", name)
            mean, deviation = scores.mean(axis=1), scores.std(axis=1)
            (line,) = ax.plot(
                code_sizes, mean, **{"marker": "o", "label": name, **(line_kw or {})}
            )
            band = {"color": line.get_color(), "alpha": 0.2}
            self.lines_.append(line)
            self.fill_between_.append(
                ax.fill_between(
                    code_sizes,
                    mean - deviation,
                    mean + deviation,
                    **{**band, **(fill_between_kw or {})},
                )
            )
        _mark_code_sizes(ax, code_sizes)
        ax.set_xlabel("Code size (n_components)")
        ax.set_ylabel("Held-out R² (mean ± standard deviation)")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def __repr__(self):
        r2, seconds = (
            [self._by_split(column, name) for name in (PCA_NAME, AUTOENCODER_NAME)]
            for column in ("test_score", "fit_time")
        )
        gain = r2[1] - r2[0]
        pair = f"{PCA_NAME:>8}{AUTOENCODER_NAME:>13}"
        lines = [
            f"{'':9}{'R², held out':>21}{'':17}{'fit seconds':>21}",
            f"code size{pair}{'gain':>17}{pair}",
        ]
        for i, code_size in enumerate(self._code_sizes()):
            # The median, because the first fit of a process loads the kernels.
            pca_seconds, autoencoder_seconds = (np.median(s[i]) for s in seconds)
            lines.append(
                f"{code_size:9}{r2[0][i].mean():z8.3f}{r2[1][i].mean():z13.3f}"
                f"{gain[i].mean():+z9.3f} ± {gain[i].std():.3f}"
                f"{pca_seconds:8.3f}{autoencoder_seconds:13.3f}"
            )
        return "\n".join(lines)

    def _code_sizes(self):
        return np.unique(self.results["n_components"])

    def _by_split(self, column, name):
        """Return an estimator's values of shape (n_code_sizes, n_splits)."""
        values = self.results[column][self.results["estimator"] == name]
        return values.reshape(len(self._code_sizes()), -1)


def _make_splits(cv, X):
    """Return a list of pairs of indices: the same for every estimator."""
    if cv is None or isinstance(cv, numbers.Integral):
        cv = KFold(5 if cv is None else cv, shuffle=True, random_state=0)
    splits = list(check_cv(cv).split(X))
    if not splits:
        raise ValueError(
            f"cv={cv!r} gives no splits. A generator gives them only once: pass a "
            "splitter or a list."
        )
    n_least = min(len(held_out) for _, held_out in splits)
    if n_least < 2:  # R² needs rows with a variance
        raise ValueError(
            f"cv={cv!r} holds out {n_least} of {X.shape[0]} rows, but R² needs 2: "
            "take fewer folds"
        )
    return splits


def _rows_for_pca(pipeline, X, splits):
    """Return the smallest training split as the last step of a pipeline sees it."""
    train = min((train for train, _ in splits), key=len)
    rows = _safe_indexing(X, train)
    return clone(pipeline[:-1]).fit_transform(rows) if len(pipeline) > 1 else rows


def _check_code_sizes(n_components, rows):
    """Return the code sizes in increasing order, each once; PCA of `rows` has them."""
    n_rows, n_features = rows.shape
    # Of sparse rows PCA finds the components by ARPACK, which leaves one out.
    largest = min(n_features, n_rows) - issparse(rows)
    if largest < 1:
        raise ValueError(
            f"PCA of a sparse matrix needs 2 rows and features, but the smallest "
            f"training split has the shape {rows.shape}: pass X.toarray()"
        )
    if n_components is None:
        return [n for n in CODE_SIZES if n < n_features and n <= largest] or [1]
    code_sizes = np.asarray(n_components)
    if code_sizes.size == 0 or code_sizes.dtype.kind not in "iu":
        raise ValueError(
            f"n_components={n_components!r} must be a whole number or several, such "
            "as [2, 5, 10]."
        )
    for code_size in (code_sizes.min(), code_sizes.max()):
        if not 1 <= code_size <= largest:
            raise ValueError(
                f"n_components={code_size} is not possible: with {n_features} "
                f"features, and {n_rows} rows to fit on in the smallest split, PCA "
                f"has 1 to {largest} components."
            )
    return np.unique(code_sizes).tolist()


def _candidates(estimator):
    """Return pipelines with nothing but their last step to tell them apart."""
    if estimator is None:
        estimator = AutoencoderTransformer(random_state=0)
    autoencoder = clone(estimator)
    if not isinstance(autoencoder, Pipeline):
        autoencoder = Pipeline([("reduce", autoencoder)])
    if _code_size_parameter(autoencoder) not in autoencoder.get_params():
        raise TypeError(
            f"estimator={estimator!r} has no n_components to vary. Pass an "
            "AutoencoderTransformer, or a Pipeline whose last step it is."
        )
    last_step = autoencoder.steps[-1][0]
    pca = clone(autoencoder).set_params(**{last_step: PCA(random_state=0)})
    return {PCA_NAME: pca, AUTOENCODER_NAME: autoencoder}


def _code_size_parameter(pipeline):
    return f"{pipeline.steps[-1][0]}__n_components"


def _mark_code_sizes(ax, code_sizes):
    """Scale the horizontal axis, and put its ticks at the code sizes."""
    gaps = np.diff(code_sizes)
    if len(gaps) and gaps.max() > MAX_GAP_RATIO * gaps.min():
        ax.set_xscale("log")
    if len(code_sizes) <= MAX_TICKS:
        ax.set_xticks(code_sizes, labels=code_sizes)
        ax.minorticks_off()
