"""What data have to be before anything is computed of them."""

import math
import numbers
import re
from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.validation import validate_data

from skae._data.rows import aligned, check_size, has_matrices

# Only the ratios of weights count. Those that are larger or smaller by more than this
# power of two than 1 are brought near it, as their sums and products would overflow.
_MODERATE_WEIGHT = 32
# Entries that are so many roundings out of a loss' range are taken to be at its bound.
# MinMaxScaler makes as many as a feature is larger than its spread: 64 for a year.
_RANGE_ROUNDINGS = 256
# How far beyond a limited output training data may be: what rounding to float32 leaves.
_BEYOND = 1e-6


# ---------------------------------------------------------------------------
# Matrices
# ---------------------------------------------------------------------------


def check_rows(estimator, X, dtype, limits=None, *, name="X", reset=False, **kwargs):
    """Validate samples for an estimator, as scikit-learn does.

    Parameters
    ----------
    estimator : BaseEstimator

    X : {array-like, sparse matrix} of shape (n_samples, n_features)

    dtype : dtype, or tuple of dtypes
        What X becomes, unless it has one of several already.

    limits : ValueRange, default=None
        Values that X may have; None for any finite ones.

    name : str, default="X"
        What errors call X.

    reset : bool, default=False
        Whether to note the number and the names of the features, not to compare them.

    **kwargs
        Of :func:`sklearn.utils.validation.validate_data`.

    Returns
    -------
    X : {ndarray, CSR matrix} of shape (n_samples, n_features)
        What kernels can read. X itself where it is that already.

    Raises
    ------
    TypeError, ValueError
        If X is not valid.
    """

    def convert(X, **how):
        return validate_data(estimator, X, reset=reset, **how)

    try:
        return _check_matrix(X, dtype, limits, convert, name=name, **kwargs)
    except (TypeError, ValueError) as error:
        if name == "X":
            raise
        message = re.sub(r"\bX\b", name, str(error))  # scikit-learn calls it X
        if name not in message:
            message = f"{name}: {message}"
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(message) from error


def check_validation_rows(estimator, X_val, dtype, limits):
    """Validate what `fit` is given as `X_val`, as by `check_rows`; None stays None."""
    if X_val is None:
        return None
    if has_matrices(X_val):
        raise ValueError(
            f"X_val is a {type(X_val).__name__} of matrices, such as (X, y), but "
            "validation data are X alone, there is no y: pass X_val=X"
        )
    return check_rows(estimator, X_val, dtype, limits, name="X_val")


def check_block(block, dtype, limits=None, *, name="X"):
    """Validate a part of the samples, which may have none. See `check_rows`."""
    kwargs = {"ensure_min_samples": 0, "input_name": name}
    return _check_matrix(block, dtype, limits, check_array, name=name, **kwargs)


def _check_matrix(X, dtype, limits, convert, *, name, **kwargs):
    check_before_conversion(X, name)
    dtype = dtype if isinstance(dtype, tuple) else (dtype,)
    kwargs = {"accept_sparse": "csr", "dtype": dtype, "order": "C", **kwargs}
    # What becomes infinite in float32 is found.
    with np.errstate(over="ignore", invalid="ignore"):
        X = convert(_in_native_order(X), **kwargs)
    return check_range(canonical(X, name), limits, name)


def _in_native_order(X):
    """An array of floats in this machine's order of bytes; anything else as it is.

    scikit-learn would take float32 of the other order for any other type, and make it
    float64.
    """
    dtype = getattr(X, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind == "f" and not dtype.isnative:
        return X.astype(dtype.newbyteorder("="))
    return X


def check_before_conversion(X, name="X"):
    """Raise ValueError for what must not even be converted to what kernels read."""
    if hasattr(X, "shape"):
        check_size(X, name)
    if sparse.issparse(X) and X.format == "csc":
        _check_compressed(X, name)


def canonical(X, name="X"):
    """A matrix as kernels read it; X stays as it is, and is not copied if it is so.

    A CSR matrix has sorted columns without duplicates; an array is C-ordered and
    aligned: here, once, because each pass over a memory map with an offset would make
    a copy.
    """
    if not sparse.issparse(X):
        return aligned(X)
    _check_compressed(X, name)
    # A new matrix over the same arrays, because asking X would leave marks on it.
    X = type(X)((X.data, X.indices, X.indptr), shape=X.shape)
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def _check_compressed(X, name):
    """Raise ValueError if a CSR or CSC matrix points to what it does not have.

    Kernels trust these numbers, and so does SciPy where it converts a matrix; SciPy
    does not check them when a matrix is made.
    """
    (n_lines, n_across), kind, mend = X.shape, "column", "build it anew"
    if X.format == "csc":
        n_lines, n_across, kind = n_across, n_lines, "row"
    starts, n_entries = np.asarray(X.indptr), min(len(X.data), len(X.indices))
    problem = ""
    if starts.shape != (n_lines + 1,):
        problem = f"has {starts.size} entries instead of {n_lines + 1}"
    elif starts[0] != 0:
        problem = f"begins with {starts[0]} instead of 0"
    elif (starts[1:] < starts[:-1]).any():
        problem = "decreases"
    elif starts[-1] > n_entries:
        problem = f"ends with {starts[-1]}, but there are {n_entries} stored entries"
    if problem:
        raise ValueError(f"{name} is a sparse matrix whose indptr {problem}: {mend}")
    used = X.indices[: starts[-1]]
    low, high = used.min(initial=0), used.max(initial=0)
    if low < 0 or high >= n_across:
        raise ValueError(
            f"{name} is a sparse matrix with {kind} indices from {low} to {high}, but "
            f"has {n_across} {kind}s: {mend} with indices in range"
        )


# ---------------------------------------------------------------------------
# Values
# ---------------------------------------------------------------------------


class ValueRange(NamedTuple):
    """Values that data may have, because of a loss or of the output's activation."""

    parameter: str  # "loss" or "output_activation"
    value: str  # of the parameter
    low: float
    high: float

    @property
    def is_strict(self):
        """Whether no entry outside can be computed with, as a loss takes logarithms.

        For an entry outside the range of its output a network reconstructs the nearest
        value that it can, and nothing but the score would tell.
        """
        return self.parameter == "loss"


def check_range(X, limits, name="X", *, size=0.0):
    """Check that all entries are within limits, except for rounding.

    Parameters
    ----------
    X : {ndarray, CSR matrix}

    limits : ValueRange or None
        None allows all.

    name : str, default="X"
        What errors call X.

    size : float, default=0
        A number as large as the data that X belongs to, where there are others.

    Returns
    -------
    X : {ndarray, CSR matrix}
        The same; with strict limits and entries outside, a copy where these are moved
        to the bound.

    Raises
    ------
    ValueError
        If entries are outside by more than rounding.
    """
    if limits is None:
        return X
    values = X.data if sparse.issparse(X) else np.asarray(X)
    inside = max(
        0.0, limits.low
    )  # entries that sparse rows leave out, or there are none
    lowest, highest = values.min(initial=inside), values.max(initial=inside)
    low, high = float(lowest), float(highest)
    if limits.low <= low and high <= limits.high:
        return X
    tolerance = _BEYOND
    if limits.is_strict:
        unit = limits.high if math.isfinite(limits.high) else max(high, size)
        tolerance = _RANGE_ROUNDINGS * float(np.finfo(X.dtype).eps) * unit
    is_below = low < limits.low - tolerance
    if is_below or high > limits.high + tolerance:
        raise ValueError(_out_of_range(limits, name, lowest, highest, is_below))
    if not limits.is_strict:
        return X
    values = np.clip(values, limits.low, limits.high)
    if sparse.issparse(X):
        return type(X)((values, X.indices, X.indptr), shape=X.shape)
    return values


def _out_of_range(limits, name, lowest, highest, is_below):
    """What is wrong with values from `lowest` to `highest`, and what helps."""
    # scikit-learn's checks want an error on negative data to begin like this.
    problem = f"Values above {limits.high:g}"
    if is_below:
        problem = f"Values below {limits.low:g}" if limits.low else "Negative values"
    legal = f"in [{limits.low:g}, {limits.high:g}]"
    if math.isinf(limits.high):
        legal = f">= {limits.low:g}"
    demand, scaler, other = f"its values are {legal}", "MinMaxScaler()", "identity"
    # With all digits: 1.0000001 is not 1.
    lowest, highest = str(lowest), str(highest)
    if limits.is_strict:
        lowest, highest = lowest.removesuffix(".0"), highest.removesuffix(".0")
        demand, scaler, other = (
            f"it needs values {legal}",
            "MinMaxScaler(clip=True)",
            "squared_error",
        )
    elif limits.low < 0 and math.isfinite(limits.high):
        scaler = f"MinMaxScaler(feature_range=({limits.low:g}, {limits.high:g}))"
    return (
        f"{problem} in data passed to {limits.parameter}={limits.value!r}: {demand}, "
        f"and {name} has values from {lowest} to {highest}. Scale it with {scaler}, or "
        f"use {limits.parameter}={other!r}"
    )


# ---------------------------------------------------------------------------
# What belongs to samples
# ---------------------------------------------------------------------------


def check_weights(sample_weight, n_rows):
    """Weights of rows as an array.

    Parameters
    ----------
    sample_weight : array-like of shape (n_rows,) or number
        Only their ratios count.

    n_rows : int

    Returns
    -------
    sample_weight : ndarray of shape (n_rows,), dtype=float64
        As they are, or all divided by the same power of two.

    Raises
    ------
    ValueError
        If the shape is wrong, an entry is negative or not finite, or none is positive.
    """
    if isinstance(sample_weight, numbers.Number):
        sample_weight = np.full(n_rows, sample_weight)
    sample_weight = check_array(
        sample_weight,
        ensure_2d=False,
        dtype=np.float64,
        order="C",
        input_name="sample_weight",
    )
    if sample_weight.ndim != 1:
        raise ValueError(
            f"sample_weight must be 1-D, got shape {sample_weight.shape}: pass one "
            f"weight for each of the {n_rows} rows of X"
        )
    if sample_weight.shape != (n_rows,):
        raise ValueError(
            f"sample_weight.shape == {sample_weight.shape}, expected {(n_rows,)}: X "
            "and sample_weight have inconsistent numbers of samples"
        )
    if (sample_weight < 0).any():
        raise ValueError(
            f"Negative values in sample_weight: the smallest is {sample_weight.min()}"
            "; weights have to be >= 0"
        )
    if not sample_weight.any():
        raise ValueError(
            "sample_weight has no positive entry. Sample weights must contain at least "
            "one non-zero number."
        )
    exponent = math.frexp(sample_weight.max())[1]
    if abs(exponent) > _MODERATE_WEIGHT:
        sample_weight = np.ldexp(sample_weight, -exponent)
    return sample_weight


def check_groups(groups, n_samples):
    """Validate group labels; returns numbers of shape (n_samples,), or None."""
    if groups is None:
        return None
    groups = check_array(
        groups, ensure_2d=False, dtype=None, ensure_min_samples=0, input_name="groups"
    )
    groups = column_or_1d(groups)
    if len(groups) != n_samples:
        raise ValueError(
            f"groups has {len(groups)} labels, but X has {n_samples} samples: pass one "
            "label for each sample"
        )
    try:
        return np.unique(groups, return_inverse=True)[1]
    except TypeError as error:  # of objects without an order
        raise ValueError(
            f"groups has labels that cannot be told apart: {error}. Pass numbers, or "
            "strings"
        ) from error
