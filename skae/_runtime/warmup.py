"""Compiling ahead of the first use."""

from collections.abc import Iterable

import joblib
import numpy as np

from skae._compiled import elementwise
from skae._compiled.compilation import CFunction, c_functions


def warmup(
    dtypes: Iterable[str] = ("float32", "float64"), *, n_jobs: int | None = None
) -> str | None:
    """Compile everything now, and keep the machine code on disk.

    Otherwise the first fit on a machine compiles what it uses, and takes some seconds
    longer. Call this, or run ``python -m skae warmup``, when an image is built or a
    server starts: as the user, and on the kind of processor, that will run it.

    Parameters
    ----------
    dtypes : iterable of {"float32", "float64"}, default=("float32", "float64")
        Data types to compile for.

    n_jobs : int, default=None
        Number of processes that compile at the same time, as joblib counts them: -1
        means all processors, and None means 1 unless in a
        ``joblib.parallel_config`` context.

    Returns
    -------
    cache_path : str or None
        Folder of the machine code; None if Numba found no writable folder, so that
        only this process can use it. ``NUMBA_CACHE_DIR`` sets another.

    Raises
    ------
    ValueError
        If a dtype is neither of these.

    Examples
    --------
    >>> import skae
    >>> skae.warmup(dtypes=["float32"], n_jobs=-1)  # doctest: +SKIP
    '/home/user/.cache/numba/_compiled_1f0e'
    """
    dtypes = [np.dtype(dtype).name for dtype in dtypes]
    if unknown := set(dtypes) - {"float32", "float64"}:
        raise ValueError(
            f"dtypes={dtypes!r} must be 'float32' or 'float64', not {sorted(unknown)}"
        )
    jobs = [(function, dtype) for dtype in dtypes for function in c_functions()]
    cache_path = elementwise.copy.cache_path
    if cache_path is not None:  # or other processes' work would be lost
        parallel = joblib.Parallel(n_jobs)
        if parallel.n_jobs != 1:
            parallel(joblib.delayed(_compile)(*job) for job in jobs)
    for job in jobs:
        _compile(*job)
    return cache_path


def _compile(function: CFunction, dtype: str) -> None:
    """Compile a function, or load its machine code if it is on disk."""
    function.address(dtype)
