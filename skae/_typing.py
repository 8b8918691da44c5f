"""Types that several modules name."""

from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Floats: TypeAlias = NDArray[np.floating[Any]]
# What data are divided by: one number, or one for each feature.
Scale: TypeAlias = float | Floats
# Whatever scikit-learn's validation takes: dense, sparse, or a data frame.
MatrixLike: TypeAlias = ArrayLike | sparse.spmatrix | sparse.sparray
# What it returns, as the kernels read it.
Matrix: TypeAlias = np.ndarray | sparse.csr_matrix | sparse.csr_array

Result = TypeVar("Result")  # of a function that is called for its caller
