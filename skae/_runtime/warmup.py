"""Compiling ahead of the first use."""

from collections.abc import Iterable

import numpy as np

from skae._compiled import epochs
from skae._compiled.compilation import c_functions


def warmup(dtypes: Iterable[str] = ("float32", "float64")) -> str | None:
    """Compile everything now, and keep the machine code on disk.

    Otherwise the first fit on a machine compiles what it uses, and takes some seconds
    longer. Call this, or run ``python -m skae warmup``, when an image is built or a
    server starts: as the user, and on the kind of processor, that will run it.

    Parameters
    ----------
    dtypes : iterable of {"float32", "float64"}, default=("float32", "float64")
        Data types to compile for.

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
    >>> skae.warmup(dtypes=["float32"])  # doctest: +SKIP
    '/home/user/.cache/numba/_compiled_1f0e'
    """
    dtypes = [np.dtype(dtype).name for dtype in dtypes]
    if unknown := set(dtypes) - {"float32", "float64"}:
        raise ValueError(
            f"dtypes={dtypes!r} must be 'float32' or 'float64', not {sorted(unknown)}"
        )
    for dtype in dtypes:
        for function in c_functions():
            function.address(dtype)
    return epochs.train.cache_path
