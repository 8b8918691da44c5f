"""What is refused at the door, before kernels or SciPy would read what is not there."""

import numpy as np
import pytest
from scipy import sparse

from skae import AutoencoderTransformer
from skae._data.rows import make_rows
from skae._data.validation import canonical

SMALL = {"n_components": 1, "hidden_layer_sizes": (), "max_iter": 1}
DENSE = np.arange(1.0, 13.0).reshape(4, 3)
TOO_MANY = 2**31 + 1


def many_rows(n_rows):
    """A matrix that takes no memory."""
    return np.broadcast_to(np.float32(1), (n_rows, 2))


def many_columns(kind):
    wide = (np.ones(2), np.array([0, 2**31]), np.array([0, 1, 2]))
    return kind(wide, shape=(2, TOO_MANY))


HUGE = {
    "rows": many_rows(TOO_MANY),
    "columns": np.broadcast_to(np.float32(1), (2, TOO_MANY)),
    "columns_csr": many_columns(sparse.csr_matrix),
    "columns_csr_array": many_columns(sparse.csr_array),
    "rows_csc": many_columns(sparse.csr_matrix).T,
    "rows_coo": sparse.coo_matrix(([1.0], ([2**31], [0])), shape=(TOO_MANY, 2)),
}


@pytest.fixture(scope="module")
def fitted():
    model = AutoencoderTransformer(**SMALL, random_state=0).set_params(
        learning_rate="cosine", tol=1e9
    )
    return model.fit(DENSE)


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "score"])
def test_more_rows_or_columns_than_kernels_can_number(method, name, fitted):
    what = name.partition("_")[0]
    model = fitted
    if method in ("fit", "partial_fit"):
        model = AutoencoderTransformer(**SMALL)
    with pytest.raises(ValueError, match=rf"X has 2,147,483,649 {what}.*2,147,483,647"):
        getattr(model, method)(HUGE[name])
    assert hasattr(model, "n_features_in_") == (model is fitted)


@pytest.mark.parametrize("n", [2**31, TOO_MANY])
def test_rows_are_not_made_of_more(n, fitted):
    with pytest.raises(ValueError, match=f"X has {n:,} rows"):
        make_rows(many_rows(n), np.zeros(2), 1.0)
    with pytest.raises(ValueError, match=f"X has {n:,} rows"):
        fitted.inverse_transform(np.broadcast_to(1.0, (n, 1)))
    with pytest.raises(ValueError, match=f"X has {n:,} rows"):
        AutoencoderTransformer(**SMALL).fit_batches(lambda: iter([many_rows(n)]))


MALFORMED = {
    "begins late": ("indptr", [1, 3, 6, 9, 12], "begins with 1"),
    "negative": ("indptr", [-3, 3, 6, 9, 12], "begins with -3"),
    "decreases": ("indptr", [0, 6, 3, 9, 12], "decreases"),
    "falls below": ("indptr", [0, -6, 3, 9, 12], "decreases"),
    "too far": ("indptr", [0, 3, 6, 9, 13], "ends with 13.*12 stored"),
    "much too far": ("indptr", [0, 3, 6, 9, 2**31 - 1], "ends with"),
    "short": ("indptr", [0, 3, 6, 12], "has 4 entries instead of 5"),
    "long": ("indptr", [0, 3, 6, 9, 12, 12], "has 6 entries instead of 5"),
    "empty": ("indptr", [], "has 0 entries"),
    "negative index": ("indices", [-1, 1, 2] * 4, "indices from -1 to 2"),
    "high index": ("indices", [0, 1, 3] * 4, "indices from 0 to 3"),
    "no indices": ("indices", [], "ends with 12.*0 stored"),
    "no data": ("data", [], "ends with 12.*0 stored"),
}


def malformed(name, kind):
    """A sparse matrix with other parts than SciPy has made."""
    part, values, message = MALFORMED[name]
    X = kind(DENSE.T if kind in (sparse.csc_matrix, sparse.csc_array) else DENSE)
    dtype = getattr(X, part).dtype
    setattr(X, part, np.array(values, dtype=dtype))
    return X, message


@pytest.mark.parametrize(
    "kind", [sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix, sparse.csc_array]
)
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_sparse_matrix(name, kind, fitted):
    X, message = malformed(name, kind)
    is_csr = X.format == "csr"
    with pytest.raises(ValueError, match=f"X is a sparse matrix.*{message}"):
        AutoencoderTransformer(**SMALL).fit(X)
    if is_csr:
        before = fitted.transform(DENSE)
        for method in ("transform", "score", "reconstruction_error", "partial_fit"):
            with pytest.raises(ValueError, match=message):
                getattr(fitted, method)(X)
        assert np.array_equal(fitted.transform(DENSE), before)
        with pytest.raises(ValueError, match=f"X_val is a sparse matrix.*{message}"):
            canonical(X, "X_val")


def test_entries_that_are_not_in_use_may_be_anything():
    X = sparse.csr_matrix(DENSE)
    X.indices = np.append(X.indices, -1)
    X.data = np.append(X.data, np.nan)
    assert np.array_equal(canonical(X).toarray(), DENSE)
