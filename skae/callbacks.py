"""Callbacks of scikit-learn 1.9 for the fits of autoencoders."""

import numbers
import os
import time

from skae import io
from skae._files import container, descriptions
from skae._runtime.extras import check_installed
from skae._sklearn import HAS_CALLBACKS, Interval, validate_params
from skae._training.reporting import warn

__all__ = ["Checkpoint"]


def __dir__():
    return __all__


_SECONDS_PER_MINUTE = 60


class Checkpoint:
    """Saves an autoencoder while it is fitted, so that a fit can be finished later.

    For ``autoencoder.set_callbacks(Checkpoint(path))``. Now and then, at the end of an
    epoch, the estimator is written as it would be if the fit ended now, by
    :func:`skae.io.save`; and once more when the fit has ended. Each time the file is
    replaced as a whole.

    To finish a fit whose process has died, load the file, set ``warm_start=True`` and
    fit the same data: the epochs that were left are run, and all is the same bits as if
    nothing had happened.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    every_n_epochs : int, default=None
        Save after each so many epochs; None to go by time alone.
    every_n_minutes : float, default=10
        Save after the first epoch that ends so long after the last time; None to go by
        epochs alone. To save takes about as long as an epoch.

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
        During a fit, if the estimator cannot be saved. The fit goes on, and the file is
        as it was the last time.

    See Also
    --------
    skae.io.load : Read the file.

    Notes
    -----
    A fit that Ctrl-C ends is not saved once more, as that may be within an epoch: the
    file is that of the epoch that was saved last. Nothing is saved while
    ``pretrain="layerwise"`` runs, which takes 20 % of ``max_iter`` epochs for each pair
    of layers; Ctrl-C in that time keeps nothing either.

    A :class:`skae.dask.DaskAutoencoderTransformer` is saved as its ``to_local()``: a
    fit that is finished from the file is one in memory.

    In a Pipeline, set it on the autoencoder. Within a search such as GridSearchCV, fits
    of candidates are not saved: only the last one is, that of the best parameters with
    all samples. Whatever else fits clones, without callbacks of its own (as
    ``cross_val_score`` does), lets all of them write the one file in turn.

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
    def __init__(self, path, *, every_n_epochs=None, every_n_minutes=10):
        if not HAS_CALLBACKS:
            raise ImportError(
                "skae.callbacks.Checkpoint needs the callbacks of scikit-learn 1.9: "
                "pip install 'scikit-learn>=1.9'"
            )
        # Not after an hour of training.
        check_installed("skae.callbacks.Checkpoint", "safetensors", extra="io")
        if every_n_epochs is None and every_n_minutes is None:
            raise ValueError("Checkpoint needs every_n_epochs or every_n_minutes")
        self.path = os.fsdecode(path)
        if not os.path.isabs(self.path):  # wherever the process that fits may be
            # (abspath would drop a last slash.)
            self.path = os.path.join(os.getcwd(), self.path)
        self.every_n_epochs, self.every_n_minutes = every_n_epochs, every_n_minutes
        self._saved_at = {}  # by estimator that is being fitted

    def __repr__(self):
        return (
            f"Checkpoint({self.path!r}, every_n_epochs={self.every_n_epochs}, "
            f"every_n_minutes={self.every_n_minutes})"
        )

    def __getstate__(self):
        return {**vars(self), "_saved_at": {}}

    def setup(self, estimator, context):
        """Begin a fit: see that its estimator can be saved, before hours of training.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VariationalAutoencoderTransformer
            The estimator that is to be fitted.
        context : sklearn.callback.CallbackContext
            Of the fit.

        Raises
        ------
        OSError
            If there is no folder for the file, or none that may be written to.
        TypeError
            If the estimator is no autoencoder of skae, or a parameter is of a type that
            files do not hold.
        ValueError
            If the path is that of something other than a file.
        """
        local = _local(estimator)
        if not descriptions.can_describe(local):
            is_own = isinstance(local, tuple(descriptions.MEMBERS.values()))
            raise TypeError(
                f"Checkpoint saves autoencoders of skae, not a "
                f"{type(estimator).__name__}: "
                + ("no subclasses" if is_own else "set it on the autoencoder within")
            )
        container.check_target(self.path)
        descriptions.described(local)
        self._saved_at[id(estimator)] = time.monotonic()

    def teardown(self, estimator, context):
        """End a fit, however it ended.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VariationalAutoencoderTransformer
            The estimator.
        context : sklearn.callback.CallbackContext
            Of the fit.
        """
        self._saved_at.pop(id(estimator), None)

    def on_fit_task_begin(self, estimator, context):
        """Do nothing: the fit, or an epoch, begins.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VariationalAutoencoderTransformer
            The estimator.
        context : sklearn.callback.CallbackContext
            Of the fit or the epoch.
        """

    def on_fit_task_end(self, estimator, context) -> bool:
        """Save if it is time.

        Parameters
        ----------
        estimator : AutoencoderTransformer or VariationalAutoencoderTransformer
            The estimator.
        context : sklearn.callback.CallbackContext
            Of the fit or the epoch that ends.

        Returns
        -------
        stop : bool
            False: training goes on.
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

    def _is_due(self, estimator, n_epochs):
        if self.every_n_epochs is not None and n_epochs % self.every_n_epochs == 0:
            return True
        if self.every_n_minutes is None:
            return False
        seconds = time.monotonic() - self._saved_at[id(estimator)]
        return seconds >= _SECONDS_PER_MINUTE * self.every_n_minutes

    def _save(self, estimator):
        local = _local(estimator)
        try:
            io.save(local, self.path)
        except (OSError, MemoryError, TypeError, ValueError) as error:
            # Hours of training are worth more than what would be written of them.
            warn(
                f"Checkpoint could not write {self.path}: {str(error) or repr(error)}. "
                "Training goes on, and the file is as it was"
            )


def _is_one_of_many(context):
    """Whether a fit is one of several that may run at once, as a search's."""
    while context.parent is not None:
        context = context.parent
        if not context.sequential_subtasks:
            return True
    return False


def _local(estimator):
    """An estimator without Dask, if it is one with it; any other as it is."""
    return estimator.to_local() if hasattr(estimator, "to_local") else estimator
