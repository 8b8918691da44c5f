"""Autoencoders in files: written whole or not at all, read without pickle.

A file is in the format of safetensors: arrays, behind a header in JSON.
"""

import os

from skae import AutoencoderTransformer, VariationalAutoencoderTransformer
from skae._files import container, descriptions
from skae._runtime.extras import check_installed

__all__ = ["TRUSTED_TYPES", "ModelFileError", "load", "save"]


def __dir__():
    return __all__


_MEMBERS = descriptions.MEMBERS

# What skops need not ask about: ``skops.io.load(file, trusted=TRUSTED_TYPES)``.
TRUSTED_TYPES = [f"{member.__module__}.{name}" for name, member in _MEMBERS.items()]

# What looking up, calling and converting raises where a file has something else.
_OF_OTHER_CONTENTS = ArithmeticError, AttributeError, LookupError, TypeError, ValueError


class ModelFileError(ValueError):
    """A file is none that `save` wrote: damaged, made up, or of a newer version.

    See Also
    --------
    load : Raises it.

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


def save(estimator, path) -> None:
    """Write an autoencoder into a file.

    The file has all that the estimator has: parameters, fitted attributes, and the
    state of its training, so that after :func:`load` results and further training are
    the same bits.

    Parameters
    ----------
    estimator : AutoencoderTransformer or VariationalAutoencoderTransformer
        Estimator, fitted or not.
    path : str or os.PathLike
        The file. One that is there already is replaced when the new one is complete.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be written, for example as the disk is full. One that was
        there before is as it was.
    TypeError
        If the estimator is no autoencoder of skae, or one for Dask, or a parameter is
        of a type that files do not hold.
    ValueError
        If the estimator's fitted attributes are not what a fit leaves, or `path` is
        something other than a file.

    See Also
    --------
    load : Read it.
    skae.callbacks.Checkpoint : Save while a fit goes on.

    Notes
    -----
    The contents go into a temporary file in the same folder, ``.skae-*.tmp``, which is
    flushed to the disk and then takes the name of the file. A process that is killed
    may leave that behind; any other failure removes it.

    Files are in the format of safetensors, which other programs read, too. Weights are
    written from where they are, without a copy in memory. One that is replaced leaves
    its permissions to the new one. NumPy's numbers and arrays among the parameters
    become Python's numbers and lists. Callbacks are not saved, nor are attributes that
    skae does not know.

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
    # It only reads files: told now, not when one is needed.
    check_installed("skae.io.save", "safetensors", extra="io")
    if not descriptions.can_describe(estimator):
        raise TypeError(
            f"skae.io.save takes an {' or a '.join(_MEMBERS)}, got "
            f"{type(estimator).__name__}. {_what_to_save_instead(estimator)}"
        )
    path = os.fsdecode(path)
    container.check_target(path)
    description, arrays = descriptions.described(estimator)
    try:
        descriptions.check(
            description, {name: (a.dtype.name, a.shape) for name, a in arrays.items()}
        )
        if description["fitted"] is not None:
            descriptions.attributes_of(description["fitted"], arrays)
        container.write(path, description, arrays)
    except container.Problem as problem:
        raise ValueError(
            f"This {type(estimator).__name__} cannot be saved: {problem}"
        ) from None


def _what_to_save_instead(estimator):
    """Advice for what `save` does not take."""
    if hasattr(estimator, "to_local"):
        return "Save estimator.to_local()"
    if isinstance(estimator, str | bytes | os.PathLike):
        return "Its arguments are save(estimator, path)"
    trusted = "skae.io.TRUSTED_TYPES"
    if isinstance(estimator, tuple(_MEMBERS.values())):  # a class of somebody's own
        trusted = f"[*{trusted}, ...your own types]"
    return (
        "For anything else, as for a Pipeline around one or for a subclass, use skops: "
        "skops.io.dump(estimator, path), then "
        f"skops.io.load(path, trusted={trusted})"
    )


def load(path) -> AutoencoderTransformer | VariationalAutoencoderTransformer:
    """Read an autoencoder from a file that :func:`save` wrote.

    Parameters
    ----------
    path : str or os.PathLike
        The file, of this version of skae or an older one.

    Returns
    -------
    estimator : AutoencoderTransformer or VariationalAutoencoderTransformer
        The estimator that was saved.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    ModelFileError
        If the file is damaged or incomplete, of a newer version, or not one that
        :func:`save` wrote. It is a ValueError.
    OSError
        If the file cannot be read.
    ValueError
        If `path` is something other than a file.

    See Also
    --------
    save : Write it.

    Notes
    -----
    Whatever is in the file, no code of it is run, and the memory that is taken is at
    most some seven times its size, and some megabytes; weights take once their size. A
    digest tells if any bit has changed since it was written. It does not tell who has
    written it: parameters are validated by ``fit``, as always, and how long that trains
    is among them.

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
    except (container.Problem, RecursionError, *_OF_OTHER_CONTENTS) as error:
        is_told = isinstance(error, container.Problem)
        problem = error if is_told else f"it describes something else ({error!r:.100})"
        advice = (
            ". If skae.io.save wrote it, restore it from a copy, or save the estimator "
            "again"
        )
        if isinstance(error, container.NewerFile):  # a copy would be the same
            advice = ""
        raise ModelFileError(f"{path} cannot be loaded: {problem}{advice}") from error
