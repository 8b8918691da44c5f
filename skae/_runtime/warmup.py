"""Compiling ahead of the first use."""

import numpy as np

from skae._compiled import kernels
from skae._compiled.compilation import c_functions


def warmup(dtypes=("float32", "float64")):
    """Compile everything now, and keep the machine code on disk.

    Otherwise the first fit on a machine compiles what it uses, and takes some seconds
    longer. Call this, or run ``python -m skae warmup``, when an image is built or a
    server starts: with the user, and for the processor, that it will run on.

    Parameters
    ----------
    dtypes : iterable of {"float32", "float64"}, default=("float32", "float64")
        Of the data to come.

    Returns
    -------
    cache_path : str or None
        Folder of the machine code; None if Numba found no writable place for it, so
        that it serves this process only. ``NUMBA_CACHE_DIR`` chooses another.

    Raises
    ------
    ValueError
        For another dtype.

    Examples
    --------
    >>> import skae
    >>> skae.warmup(dtypes=["float32"])  # doctest: +SKIP
    '/home/user/.cache/numba/_compiled_1f0e'
    """
    dtypes = [np.dtype(dtype).name for dtype in dtypes]
    if unknown := set(dtypes) - {"float32", "float64"}:
        raise ValueError(
            f"dtypes={dtypes!r}: {sorted(unknown)} cannot be compiled for; legal are "
            "'float32' and 'float64'"
        )
    for dtype in dtypes:
        for function in c_functions():
            function.address(dtype)
    return kernels.train.cache_path
