"""Callbacks for the fits of autoencoders, with scikit-learn 1.9."""

import numbers
import os
import time
from typing import Any

from skae import io
from skae._base.autoencoder import BaseAutoencoder
from skae._files import container, descriptions
from skae._runtime.extras import check_installed
from skae._runtime.user_warnings import warn
from skae._sklearn import HAS_CALLBACKS, Interval, validate_params

__all__ = ["Checkpoint"]


def __dir__() -> list[str]:
    return __all__


class Checkpoint:
    """Save an autoencoder during its fit, so that the fit can be finished later.

    Use it as ``autoencoder.set_callbacks(Checkpoint(path))``. At the end of some epochs
    :func:`skae.io.save` writes the estimator as it would be if the fit ended there, and
    again when the fit has ended. Each time it replaces the whole file.

    To finish a fit whose process has died, load the file, set ``warm_start=True`` and
    fit the same data: the remaining epochs are run, and the result is the same, bit for
    bit, as that of an uninterrupted fit.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    every_n_epochs : int, default=None
        Number of epochs between saves; None to go by time alone.
    every_n_minutes : float, default=10
        Save after the first epoch that ends this long after the last save; None to go
        by epochs alone. Saving takes about as long as an epoch.

    Raises
    ------
    ImportError
        If scikit-learn is older than 1.9, which has no callbacks, or safetensors is not
        installed.
    ValueError
        If neither epochs nor minutes are given.

    Warns
    -----
    UserWarning
        During a fit, if the estimator cannot be saved. The fit continues, and the file
        keeps its last contents.

    See Also
    --------
    skae.io.load : Load the file.

    Notes
    -----
    A fit that Ctrl-C ends is not saved again, because it may be within an epoch: the
    file keeps the epoch saved last. Nothing is saved during ``pretrain="layerwise"``,
    which takes 20 % of ``max_iter`` epochs for each pair of layers; Ctrl-C during that
    time keeps nothing either.

    A :class:`skae.dask.DaskAutoencoderTransformer` is saved as its ``to_local()``: a
    fit that is finished from the file runs in memory.

    In a Pipeline, set it on the autoencoder. In a search such as GridSearchCV, the fits
    of candidates are not saved, only the final fit of the best parameters to all
    samples. Other functions that fit clones and know no callbacks, such as
    ``cross_val_score``, let every clone write the same file in turn.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.callbacks import Checkpoint
    >>> import skae.io
    >>> X = load_digits().data[:300]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(f"{folder}/digits.safetensors", every_n_epochs=20)
    ...     autoencoder = AutoencoderTransformer(n_components=5, random_state=0)
    ...     autoencoder = autoencoder.set_callbacks(checkpoint).fit(X)
    ...     loaded = skae.io.load(f"{folder}/digits.safetensors")
    >>> loaded.n_iter_ == autoencoder.n_iter_
    True
    """

    @validate_params(
        {
            "path": [str, os.PathLike],
            "every_n_epochs": [
                Interval(numbers.Integral, 1, None, closed="left"),
                None,
            ],
            "every_n_minutes": [
                Interval(numbers.Real, 0, None, closed="left"),
                None,
            ],
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every_n_epochs: int | None = None,
        every_n_minutes: float | None = 10,
    ):
        if not HAS_CALLBACKS:
            raise ImportError(
                "skae.callbacks.Checkpoint needs the callbacks of scikit-learn 1.9: "
                "pip install 'scikit-learn>=1.9'"
            )
        # Now, not after an hour of training.
        check_installed("skae.callbacks.Checkpoint", "safetensors", extra="io")
        if every_n_epochs is None and every_n_minutes is None:
            raise ValueError("Checkpoint needs every_n_epochs or every_n_minutes")
        self.path = os.fsdecode(path)
        if not os.path.isabs(self.path):  # the process that fits may be elsewhere
            # (abspath would drop a trailing slash.)
            self.path = os.path.join(os.getcwd(), self.path)
        self.every_n_epochs, self.every_n_minutes = every_n_epochs, every_n_minutes
        self._saved_at: dict[int, float] = {}  # by the id of an estimator in a fit

    def __repr__(self) -> str:
        return (
            f"Checkpoint({self.path!r}, every_n_epochs={self.every_n_epochs}, "
            f"every_n_minutes={self.every_n_minutes})"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_saved_at": {}}

    def setup(self, estimator: BaseAutoencoder, context: Any) -> None:
        """Begin a fit: check that its estimator can be saved, before it is trained.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VariationalAutoencoderTransformer
            The estimator that will be fitted.
        context : sklearn.callback.CallbackContext
            Context of the fit.

        Raises
        ------
        OSError
            If the file's folder does not exist or is not writable.
        TypeError
            If the estimator is not an autoencoder of skae, or has a parameter of a type
            that files do not hold.
        ValueError
            If the path is not that of a file.
        """
        local = _local(estimator)
        if not descriptions.can_describe(local):
            is_own = isinstance(local, tuple(descriptions.MEMBERS.values()))
            raise TypeError(
                "Checkpoint saves autoencoders of skae, not a "
                f"{type(estimator).__name__}: "
                + (
                    "no subclasses, and no network of an imputer, which skae.io.save "
                    "keeps once it is fitted"
                    if is_own
                    else "set it on the autoencoder within"
                )
            )
        container.check_target(self.path)
        descriptions.described(local)
        self._saved_at[id(estimator)] = time.monotonic()

    def teardown(self, estimator: BaseAutoencoder, context: Any) -> None:
        """End a fit, whether or not it succeeded.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VariationalAutoencoderTransformer
            The estimator.
        context : sklearn.callback.CallbackContext
            Context of the fit.
        """
        self._saved_at.pop(id(estimator), None)

    def on_fit_task_begin(self, estimator: BaseAutoencoder, context: Any) -> None:
        """Do nothing when a fit, or an epoch, begins.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VariationalAutoencoderTransformer
            The estimator.
        context : sklearn.callback.CallbackContext
            Context of the fit or the epoch.
        """

    def on_fit_task_end(self, estimator: BaseAutoencoder, context: Any) -> bool:
        """Save the estimator if it is due.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VariationalAutoencoderTransformer
            The estimator.
        context : sklearn.callback.CallbackContext
            Context of the fit or the epoch that ends.

        Returns
        -------
        stop : bool
            Always False: training continues.
        """
        if _is_one_of_many(context):
            return False
        snapshot = getattr(context, "skae_snapshot", None)
        if snapshot is not None:  # an epoch ends
            if self._is_due(estimator, context.task_id + 1):
                self._save(snapshot())
                self._saved_at[id(estimator)] = time.monotonic()
        elif not estimator._was_cut_short:
            self._save(estimator)
        return False

    def _is_due(self, estimator: BaseAutoencoder, n_epochs: int) -> bool:
        if self.every_n_epochs is not None and n_epochs % self.every_n_epochs == 0:
            return True
        if self.every_n_minutes is None:
            return False
        seconds = time.monotonic() - self._saved_at[id(estimator)]
        return seconds >= 60 * self.every_n_minutes

    def _save(self, estimator: BaseAutoencoder) -> None:
        local = _local(estimator)
        try:
            io.save(local, self.path)
        except (OSError, MemoryError, TypeError, ValueError) as error:
            # A failed save must not cost hours of training.
            warn(
                f"Checkpoint could not write {self.path}: {str(error) or repr(error)}. "
                "Training continues, and the file is unchanged"
            )


def _is_one_of_many(context: Any) -> bool:
    """Whether a fit is one of several that may run at once, as in a search."""
    while context.parent is not None:
        context = context.parent
        if not context.sequential_subtasks:
            return True
    return False


def _local(estimator: Any) -> Any:
    """An estimator for Dask as one for memory; any other as it is."""
    return estimator.to_local() if hasattr(estimator, "to_local") else estimator
