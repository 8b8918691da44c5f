"""Save estimators in files, whole or not at all, and load them without pickle.

Files have the safetensors format: a JSON header, then arrays.
"""

import os

from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    VariationalAutoencoderTransformer,
)
from skae._files import container, descriptions
from skae._runtime.extras import check_installed

__all__ = ["TRUSTED_TYPES", "ModelFileError", "load", "save"]


def __dir__() -> list[str]:
    return __all__


_MEMBERS = descriptions.MEMBERS
*_FIRST, _LAST = _MEMBERS
_NAMES = f"{', '.join(_FIRST)} or {_LAST}"

# What skops need not ask about: ``skops.io.load(file, trusted=TRUSTED_TYPES)``.
TRUSTED_TYPES = [f"{member.__module__}.{name}" for name, member in _MEMBERS.items()]

# What look-ups, calls and conversions raise where a file has other contents.
_OF_OTHER_CONTENTS = ArithmeticError, AttributeError, LookupError, TypeError, ValueError


class ModelFileError(ValueError):
    """A file is not one that `save` wrote: damaged, made up, or of a newer version.

    See Also
    --------
    load : Raises this error.

    Examples
    --------
    >>> import tempfile
    >>> from skae.io import ModelFileError, load
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     try:
    ...         load(file.name)
    ...     except ModelFileError:
    ...         print("no model")
    no model
    """


def save(
    estimator: AutoencoderTransformer
    | VariationalAutoencoderTransformer
    | AutoencoderImputer
    | AutoencoderOutlierDetector,
    path: str | os.PathLike[str],
) -> None:
    """Save an autoencoder, an imputer or an outlier detector to a file.

    The file holds the estimator's parameters, its fitted attributes and the state of
    its training: after :func:`load`, results and further training are the same, bit for
    bit.

    Parameters
    ----------
    estimator : AutoencoderTransformer, VariationalAutoencoderTransformer, \
            AutoencoderImputer or AutoencoderOutlierDetector
        Estimator, fitted or not.
    path : str or os.PathLike
        The file. An existing one is replaced once the new one is complete.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be written, for example because the disk is full. An
        existing file is left as it was.
    TypeError
        If the estimator is none of these, or is one for Dask, or has a parameter of a
        type that files do not hold.
    ValueError
        If the estimator's fitted attributes are not those of a fit, or `path` is not
        a file.

    See Also
    --------
    load : Load the estimator.
    skae.callbacks.Checkpoint : Save during a fit.

    Notes
    -----
    The contents are written to a temporary file in the same folder, ``.skae-*.tmp``,
    which is flushed to disk and then renamed. A process that is killed may leave it
    behind; any other failure removes it.

    Files have the safetensors format, which other programs can read. Weights are
    written without copying them in memory. A file that replaces another takes over its
    permissions. NumPy numbers and arrays among the parameters become Python numbers and
    lists. Callbacks are not saved, nor are attributes that skae does not know.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> import skae.io
    >>> X = load_digits().data[:300]
    >>> autoencoder = AutoencoderTransformer(n_components=5, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skae.io.save(autoencoder, f"{folder}/digits.safetensors")
    ...     loaded = skae.io.load(f"{folder}/digits.safetensors")
    >>> bool((loaded.transform(X) == autoencoder.transform(X)).all())
    True
    """
    # Writing does not need it, but loading does: better to know now.
    check_installed("skae.io.save", "safetensors", extra="io")
    if not descriptions.can_describe(estimator):
        raise TypeError(
            f"skae.io.save takes an estimator of skae, {_NAMES}, got "
            f"{type(estimator).__name__}. {_what_to_save_instead(estimator)}"
        )
    path = os.fsdecode(path)
    container.check_target(path)
    description, arrays = descriptions.described(estimator)
    try:
        descriptions.check(
            description, {name: (a.dtype.name, a.shape) for name, a in arrays.items()}
        )
        descriptions.check_values(description, arrays)
        container.write(path, description, arrays)
    except container.InvalidFile as problem:
        raise ValueError(
            f"This {type(estimator).__name__} cannot be saved: {problem}"
        ) from None


def _what_to_save_instead(estimator: object) -> str:
    """Advice for objects that `save` does not accept."""
    if hasattr(estimator, "to_local"):
        return "Save estimator.to_local()"
    if isinstance(estimator, str | bytes | os.PathLike):
        return "Its arguments are save(estimator, path)"
    trusted = "skae.io.TRUSTED_TYPES"
    if isinstance(estimator, tuple(_MEMBERS.values())):  # a user's subclass
        trusted = f"[*{trusted}, ...your own types]"
    return (
        "For anything else, such as a Pipeline with one or a subclass, use skops: "
        "skops.io.dump(estimator, path), then "
        f"skops.io.load(path, trusted={trusted})"
    )


def load(
    path: str | os.PathLike[str],
) -> (
    AutoencoderTransformer
    | VariationalAutoencoderTransformer
    | AutoencoderImputer
    | AutoencoderOutlierDetector
):
    """Load an estimator from a file that :func:`save` wrote.

    Parameters
    ----------
    path : str or os.PathLike
        The file, written by this version of skae or an older one.

    Returns
    -------
    estimator : AutoencoderTransformer, VariationalAutoencoderTransformer, \
            AutoencoderImputer or AutoencoderOutlierDetector
        The estimator that was saved.

    Raises
    ------
    ImportError
        If safetensors is not installed, or pandas if a parameter is pandas.NA.
    ModelFileError
        If the file is damaged or incomplete, was written by a newer version, or was
        not written by :func:`save`. This is a ValueError.
    OSError
        If the file cannot be read.
    ValueError
        If `path` is not a file.

    See Also
    --------
    save : Save an estimator.

    Notes
    -----
    Loading never runs code from the file, and needs at most about seven times its size
    in memory, plus a few megabytes; weights take their size once. A digest shows
    whether any bit has changed since the file was written. It does not show who wrote
    it: ``fit`` validates parameters, as always, and they decide how long it trains.

    Examples
    --------
    >>> import skae.io
    >>> autoencoder = skae.io.load("digits.safetensors")  # doctest: +SKIP
    """
    check_installed("skae.io.load", "safetensors", extra="io")
    path = os.fsdecode(path)
    container.check_source(path)
    try:
        description, arrays = container.read(path, descriptions.check)
        return descriptions.estimator_of(description, arrays)
    except (container.InvalidFile, RecursionError, *_OF_OTHER_CONTENTS) as error:
        problem = str(error)
        if not isinstance(error, container.InvalidFile):
            problem = f"it describes something else ({error!r:.100})"
        advice = (
            ". If skae.io.save wrote it, restore it from a copy, or save the estimator "
            "again"
        )
        if isinstance(error, container.NewerFile):  # a copy would be the same
            advice = ""
        raise ModelFileError(f"{path} cannot be loaded: {problem}{advice}") from error
