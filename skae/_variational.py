"""VariationalAutoencoderTransformer: its parameters, documentation, own methods."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skae._base.fits import LocalAutoencoder, for_batches
from skae._compiled.code_terms import (
    VARIATIONAL,
    WARMUP,
    WEIGHT,
    CodeTerm,
    bounded_log_variance,
)
from skae._compiled.losses import LOSSES
from skae._compiled.optimizers import SOLVERS
from skae._model import inference
from skae._model.groups import columns_of
from skae._model.initialization import INITS
from skae._names import Names
from skae._sklearn import Interval
from skae._training.plan import Plan
from skae._typing import Floats, MatrixLike

# Losses that are a negative log-likelihood, up to a constant.
_LIKELIHOODS = [
    name for name, loss in LOSSES.items() if loss.likelihood_constant is not None
]


class VariationalAutoencoderTransformer(LocalAutoencoder):
    """Variational autoencoder, trained on the CPU.

    The encoder maps each sample to a normal distribution over codes, the posterior,
    with a mean and a standard deviation for each entry of the code. The decoder maps
    codes to distributions over samples. Both are trained to maximize the evidence lower
    bound (ELBO): the log-likelihood of the samples, for codes drawn from their
    posteriors, minus the Kullback-Leibler divergence of the posteriors from a standard
    normal prior (Kingma & Welling, 2014). Codes drawn from the prior give new samples.

    Parameters
    ----------
    n_components : int or float, default=2
        Size of the code, or the share of the variance that determines it. See
        :class:`AutoencoderTransformer`.

    hidden_layer_sizes : int, sequence of int or "auto", default="auto"
        Widths of the encoder's layers between input and code; the decoder mirrors
        them. See :class:`AutoencoderTransformer`.

    activation : str or sequence of str, default="relu"
        Activation of the hidden layers. See :class:`AutoencoderTransformer`.

    output_activation : str, default="auto"
        Activation of the output. "auto": "logistic" for ``loss="log_loss"``, else
        "identity". If its range is limited, data are not scaled, and the normal
        likelihood has a standard deviation of 1 in their units: choose `beta`.

    loss : {"squared_error", "log_loss"}, default="squared_error"
        Negative log-likelihood, without constants. "squared_error" is half the squared
        error: a normal likelihood with a standard deviation of 1 in the network's
        units, `scale_` in those of the data. "log_loss" is binary cross-entropy, a
        Bernoulli likelihood, for data in [0, 1].

    init : {"auto", "random", "glorot", "he", "lecun", "normal"}, default="auto"
        Initialization of the weights. "auto" is "random". See
        :class:`AutoencoderTransformer`.

    solver : {"adam", "sgd", "rmsprop"}, default="adam"
        Optimizer.

    alpha : float, default=0.0
        Strength of the L2 penalty on the weights.

    batch_size : int or "auto", default="auto"
        Number of samples in a mini-batch. "auto": 100, or 200 with more than 20,000
        training samples; at most all of them.

    learning_rate : {"auto", "constant", "inverse_time", "invscaling", "adaptive", \
            "cosine"}, default="auto"
        Schedule of the learning rate. See :class:`AutoencoderTransformer`.

    learning_rate_init : float, default=0.001
        Initial learning rate.

    decay : float, default=0.0
        Decay rate of "inverse_time", per update.

    power_t : float, default=0.5
        Exponent of "invscaling".

    momentum : float, default=0.9
        Momentum of "sgd", in [0, 1].

    nesterovs_momentum : bool, default=True
        Whether "sgd" uses Nesterov's momentum.

    beta_1 : float, default=0.9
        Decay of the gradients' running mean in "adam", in [0, 1).

    beta_2 : float, default=0.999
        Decay of the squared gradients' running mean in "adam" and "rmsprop", in
        [0, 1).

    epsilon : float, default=1e-8
        Added to the denominators of "adam" and "rmsprop" for numerical stability.

    max_iter : int or "auto", default="auto"
        Maximum number of epochs. See :class:`AutoencoderTransformer`.

    shuffle : bool, default=True
        Whether to shuffle the samples in every epoch.

    tol : float, default=1e-4
        Tolerance for stopping. Training stops when the loss has not improved by at
        least `tol` for more than `n_iter_no_change` epochs. With ``max_iter="auto"``,
        only a validation loss stops training, with `early_stopping`, because codes are
        drawn at random and make the training loss noisy; "adaptive" is an exception.

    n_iter_no_change : int or np.inf, default=10
        Number of epochs without improvement, see `tol`.

    early_stopping : bool or "auto", default="auto"
        Whether to stop by the validation loss instead of the training loss. Validation
        samples are `X_val` of :meth:`fit`, or a random share of the training samples.
        "auto" is False.

    validation_fraction : float, default=0.2
        Share of the training samples that `early_stopping` sets aside, in (0, 1).

    warm_start : bool, default=False
        Whether :meth:`fit` continues exactly where the last one stopped. If that was
        cut short, by Ctrl-C or because a :class:`skae.callbacks.Checkpoint` saved it,
        its remaining epochs are run.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the order of the samples, the codes drawn from
        the posteriors, and the validation split. An int gives the same bits in every
        call, with any number of threads.

    verbose : bool or int, default=False
        Whether to print the loss of some epochs; above 1, of every epoch.

    beta : float, default=1.0
        Weight of the divergence in the objective. Values other than 1 give the beta-VAE
        of Higgins et al. (2017). With ``loss="squared_error"``, `beta` is equivalent to
        the variance of the likelihood in the network's units: the optimal weights are
        those for this variance and ``beta=1``.

    kl_warmup : int, default=0
        Number of epochs in which the weight of the divergence rises linearly to `beta`,
        so that the network uses the code before the divergence counts. Until then,
        losses neither stop training nor select weights: the last are kept. In the
        validation loss the weight is `beta` from the first epoch on.

    categorical_features : "from_dtype", array-like or None, default="from_dtype"
        Which columns of X are categories: names, numbers of columns, or a mask.
        "from_dtype": those of a data frame with a categorical, string or boolean dtype,
        and columns of objects, in a frame or an array, that are not all numbers. None:
        all columns are numbers. See Notes.

    categories : "auto", dict or list of array-like, default="auto"
        Levels of the categorical columns: a dict with those of some columns, by name
        or number, or a list with an entry for each column, None for numbers. "auto":
        those that occur in :meth:`fit`; in :meth:`partial_fit`, those that occur in the
        first batch, or are named by a categorical dtype.

    max_categories : int, default=None
        Maximum number of inputs for a categorical column. The least frequent levels
        share the last input, as in :class:`~sklearn.preprocessing.OneHotEncoder`.

    min_frequency : int or float, default=None
        Levels of fewer samples, or of a smaller share of them, share an input.

    handle_unknown : {"warn", "error"}, default="warn"
        What to do with a level that was not seen in :meth:`fit`: it is a missing value,
        with a warning, or an error.

    feature_weights : array-like of shape (n_features,), default=None
        Non-negative weights of the columns in the loss and in :meth:`score`; None is 1
        for each.

    Attributes
    ----------
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of the layers, encoder first. The last layer of the encoder has
        ``2 * n_components`` units: the means, then the log-variances before they are
        bounded; see Notes.

    intercepts_ : list of ndarray of shape (n_out,)
        Biases of the layers.

    n_components_ : int
        Size of the code.

    n_layers_ : int
        Number of layers, including the input and the output.

    n_iter_ : int
        Epochs of the last :meth:`fit`, and one for each :meth:`partial_fit` since.

    best_iter_ : int
        Epoch whose weights were kept, counted from 1 as in `loss_curve_`; 0 for the
        initial weights.

    hidden_layer_sizes_ : tuple of int
        Widths of the encoder's layers between input and code.

    batch_size_ : int
        Number of samples in a mini-batch.

    max_iter_ : int
        Maximum number of epochs of the last :meth:`fit`.

    initial_loss_ : float
        Objective of the initial weights over the validation samples, or over the
        training samples if there are none. NaN if it was not computed, as by
        :meth:`partial_fit`.

    loss_ : float
        Objective in the last epoch: the mean loss of the samples, plus the weighted
        divergence, plus the penalty. In the network's units.

    best_loss_ : float
        Lowest value of `validation_loss_curve_` if there is one, else of `loss_curve_`;
        if there are epochs after `kl_warmup`, the lowest of these.

    loss_curve_ : list of float
        `loss_` of every epoch, including those of earlier fits with `warm_start`.

    kl_curve_ : list of float
        Mean divergence of the posteriors in every epoch, in nats, without its weight.

    validation_loss_curve_ : list of float
        Objective over the validation samples after every epoch, always with the same
        noise. Defined only with `early_stopping` or `X_val`.

    mean_ : ndarray of shape (n_features,)
        Mean of the training data; with :meth:`partial_fit`, of the first batch.

    scale_ : float or ndarray of shape (n_features,)
        Number that the data are divided by for the network: the root mean square of all
        entries of the centered training data; 1 for constant data, for the loss
        "log_loss", and if the range of the output is limited. For a table with
        categories, one number for each input.

    categories_ : list of ndarray or None
        Levels of each column, None for numbers. Only for tables with categories.

    input_names_ : list of str
        Names of the network's inputs, such as "age" and "city=Rome". Only for tables
        with categories.

    n_features_in_ : int
        Number of features seen during :term:`fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during :term:`fit`. Defined only when `X`
        has feature names that are all strings.

    See Also
    --------
    AutoencoderTransformer : Without distributions; usually reconstructs better.
    sklearn.mixture.GaussianMixture : Another model to draw samples from.

    Notes
    -----
    One code per sample and epoch is drawn as mean + deviation * noise, through which
    gradients pass (Kingma & Welling, "Auto-encoding variational Bayes", 2014,
    equation 10). :meth:`transform`, :meth:`inverse_transform`, :meth:`score` and
    :meth:`reconstruction_error` draw nothing: they use the posterior mean.

    Log-variances are bounded, so that no outlier makes training diverge: if the
    encoder's output z is from -60 to 3, it is the log-variance; above, that is
    ``6 - 9 / z``, and below, ``-63 - 9 / (z + 57)``, with the same slopes at the ends.

    For missing values and categories see Notes of :class:`AutoencoderTransformer`;
    losses of categories are in nats, because they are log-likelihoods.

    Unlike that of :class:`AutoencoderTransformer`, the code is not rotated to principal
    axes, because the posterior's entries are independent along its own axes only.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import VariationalAutoencoderTransformer
    >>> X = load_digits().data / 16
    >>> autoencoder = VariationalAutoencoderTransformer(
    ...     n_components=5, loss="log_loss", max_iter=30, random_state=0
    ... )
    >>> autoencoder.fit_transform(X).shape
    (1797, 5)
    >>> autoencoder.sample(3, random_state=0).shape
    (3, 64)
    """

    # Values of parameters that a variational autoencoder does not have.
    code_activation = "identity"
    tied_weights = False
    scale = "auto"
    noise = None
    pretrain = None
    _twin_for_dask = None
    _codes_are_distributions = True
    _term_curve = "kl_curve_"
    _draws_noise = True

    _parameter_constraints: dict[str, list[Any]] = {
        **LocalAutoencoder._parameter_constraints,
        "loss": [Names(_LIKELIHOODS)],
        "init": [Names(name for name in INITS if name != "pca")],
        "solver": [Names(SOLVERS)],
        "beta": [Interval(numbers.Real, 0, None, closed="left")],
        "kl_warmup": [Interval(numbers.Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int | float = 2,
        *,
        hidden_layer_sizes: int | Sequence[int] | str = "auto",
        activation: str | Sequence[str] = "relu",
        output_activation: str = "auto",
        loss: str = "squared_error",
        init: str = "auto",
        solver: str = "adam",
        alpha: float = 0.0,
        batch_size: int | str = "auto",
        learning_rate: str = "auto",
        learning_rate_init: float = 0.001,
        decay: float = 0.0,
        power_t: float = 0.5,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        max_iter: int | str = "auto",
        shuffle: bool = True,
        tol: float = 1e-4,
        n_iter_no_change: int | float = 10,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.2,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = False,
        beta: float = 1.0,
        kl_warmup: int = 0,
        categorical_features: Any = "from_dtype",
        categories: Any = "auto",
        max_categories: int | None = None,
        min_frequency: int | float | None = None,
        handle_unknown: str = "warn",
        feature_weights: ArrayLike | None = None,
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.output_activation = output_activation
        self.loss = loss
        self.init = init
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.decay = decay
        self.power_t = power_t
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.categorical_features = categorical_features
        self.categories = categories
        self.max_categories = max_categories
        self.min_frequency = min_frequency
        self.handle_unknown = handle_unknown
        self.feature_weights = feature_weights

    # -- hooks --------------------------------------------------------

    def _code_term(self) -> CodeTerm:
        settings = {WEIGHT: float(self.beta), WARMUP: float(self.kl_warmup)}
        return CodeTerm(VARIATIONAL, settings)

    @property
    def _n_warmup_epochs(self) -> int:
        return self.kl_warmup

    def _code_attributes(self, plan: Plan, params: Floats) -> dict[str, Any]:
        return {}  # codes are not ordered

    # -- fitting ---------------------------------------------------------------------

    def fit(  # type: ignore[override]  # without weights
        self,
        X: MatrixLike,
        y: Any = None,
        *,
        X_val: MatrixLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Train the autoencoder.

        There are no sample weights, because a sample of weight two would have one code
        drawn, and two samples have two: scikit-learn requires these to be equivalent.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. float32 is kept; all other types are converted to float64.
            A C-ordered, aligned array or memory map of either type is not copied, and a
            sparse matrix is not made dense. NaN is a missing value; a filled copy of
            data that have some is made.

        y : Ignored
            Not used, present for API consistency by convention.

        X_val : {array-like, sparse matrix} of shape (n_validation, n_features), \
                default=None
            Validation data. Their loss is computed after every epoch, and the
            weights of the best epoch are kept. With `early_stopping` it also ends
            training.

        groups : array-like of shape (n_samples,), default=None
            Labels of groups of samples that belong together. With `early_stopping`,
            they are not split between training and validation. See
            :meth:`AutoencoderTransformer.fit`.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the data or a combination of parameters is not valid, or if training
            diverges. The estimator is left as it was.

        Warns
        -----
        ConvergenceWarning
            If training stops at `max_iter` epochs without having converged, except with
            "cosine", whose learning rate ends at 0 then.

        UserWarning
            If Ctrl-C ends training. The best weights so far are kept, and a fit with
            `warm_start` finishes it. (A search continues with its next fit.)
        """
        return super().fit(X, y, X_val=X_val, groups=groups)

    @for_batches
    def partial_fit(  # type: ignore[override]  # without weights
        self, X: MatrixLike, y: Any = None
    ) -> Self:
        """Make one pass over a batch of samples, in mini-batches of `batch_size`.

        The first call, unless it follows a fit, initializes the weights and computes
        `mean_` and `scale_`, which then do not change: its batch should be
        representative. (After a batch of equal samples, such as a single one, the next
        call begins again, and both batches count.) Nothing is held out, and the last
        weights are kept. After :meth:`fit`, training continues from the weights that it
        kept.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Batch of samples.

        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the data or a combination of parameters is not valid, or if training
            diverges. The estimator is left as it was.
        """
        return super().partial_fit(X, y)

    # -- inference -------------------------------------------------------------------

    def transform(self, X: MatrixLike) -> np.ndarray:
        """Encode samples as the means of their posteriors.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to encode.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_components)
            Means. A sample's mean does not depend on the other samples.
        """
        means = np.ascontiguousarray(self._encode(X)[:, : self.n_components_])
        return self._expect_finite(means, "codes")

    def transform_distribution(self, X: MatrixLike) -> tuple[np.ndarray, np.ndarray]:
        """Encode samples as their posteriors.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to encode.

        Returns
        -------
        mean : ndarray of shape (n_samples, n_components)
            Means, as by :meth:`transform`.

        standard_deviation : ndarray of shape (n_samples, n_components)
            Standard deviations of the posterior's entries, which are independent.
        """
        mean, log_variance = _posterior(self._encode(X))
        return mean, np.exp(log_variance / 2)

    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray:
        """Draw codes from the prior and decode them.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.

        random_state : int, RandomState instance or None, default=None
            Determines the codes. An int gives the same samples in every call.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Means of the decoder's distributions, in the units of the training data:
            probabilities for ``loss="log_loss"``.

        Raises
        ------
        ValueError
            If `n_samples` is not a positive integer.
        """
        check_is_fitted(self)
        shape = _positive("n_samples", n_samples), self.n_components_
        return self.inverse_transform(
            check_random_state(random_state).standard_normal(shape)
        )

    def elbo(self, X: MatrixLike, *, n_draws: int = 10) -> np.ndarray:
        """Evidence lower bound (ELBO) of each sample's log-density.

        It is the mean log-likelihood of the sample's observed entries over `n_draws`
        codes from its posterior, minus the divergence of the posterior from the prior
        (Kingma & Welling, 2014, equation 3). For any `beta`, the model is that with
        ``beta=1`` and, for ``loss="squared_error"``, a standard deviation of `scale_`.
        For a table with categories, that is one for each number, and categories have
        the decoded probabilities; all columns count alike, whatever their weights in
        training.

        The bound of a sample does not depend on its position, the other samples or
        earlier calls: all codes are drawn with the same normal numbers, which
        `random_state` of :meth:`fit` determines. They come in pairs of opposite signs
        and have mean squares of 1, which halves the error.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        n_draws : int, default=10
            Number of codes to draw for each sample.

        Returns
        -------
        elbo : ndarray of shape (n_samples,), dtype=float64
            Bounds in nats: for ``loss="squared_error"``, of the log-density in the
            units of the data, with all constants; for "log_loss", of the
            log-probability. -inf for a sample so far from the training data that
            squares overflow.

        Raises
        ------
        ValueError
            If `n_draws` is not a positive integer, or the loss is not defined for an
            entry of X.
        """
        n_draws = _positive("n_draws", n_draws)
        X = self._in_range(self._check_rows(X))
        network, params = self._fitted_network()
        loss = LOSSES[self._training_state.loss]
        draws = self._draws(n_draws)
        elbo = np.empty(X.matrix.shape[0])
        for batch, chunk, rows in self._chunks(X):
            code = inference.propagate(inference.encoder(network), params, rows)
            mean, log_variance = _posterior(code.astype(np.float64))
            deviation = np.exp(log_variance / 2)
            is_missing = np.isnan(chunk[:, columns_of(network)])
            elbo[batch] = -self._omitted(is_missing)
            with np.errstate(over="ignore", invalid="ignore"):
                excess = np.expm1(log_variance) - log_variance
                elbo[batch] -= (mean**2 + excess).sum(axis=1) / 2
                for noise in draws:
                    drawn = mean + deviation * noise
                    losses = inference.decoded_losses(
                        loss, network, params, drawn, rows
                    )
                    losses[is_missing] = 0
                    elbo[batch] -= losses.sum(axis=1) / n_draws
        elbo[np.isnan(elbo)] = -np.inf
        return elbo

    def _draws(self, n_draws: int) -> Floats:
        """Normal numbers of shape (n_draws, n_components), the same for every row.

        They come in pairs of opposite signs, with mean squares of 1. Then the error of
        a linear reconstruction depends on chance only by products of two of them.
        """
        shape = (n_draws + 1) // 2, self.n_components_
        half = np.random.RandomState(self._training_state.seed).standard_normal(shape)
        half /= np.sqrt((half**2).mean(axis=0))
        return np.concatenate([half, -half])[:n_draws]

    def _omitted(self, is_missing: np.ndarray) -> Floats:
        """What losses omit from the negative log-likelihoods of samples.

        Parameters
        ----------
        is_missing : ndarray of shape (n_samples, n_columns), dtype=bool
            In the order of the network: numbers come first, then groups of levels,
            whose losses omit nothing.

        Returns
        -------
        sums : ndarray of shape (n_samples,), dtype=float64
        """
        constant = LOSSES[self._training_state.loss].likelihood_constant
        of_entries = constant + np.log(self.scale_)
        if self._table is None:
            of_samples: Floats = float(of_entries) * (~is_missing).sum(axis=1)
            return of_samples
        n_plain = len(self._table.numbers)
        is_there: Floats = (~is_missing[:, :n_plain]).astype(np.float64)
        # Not a product by BLAS, whose bits depend on the other samples.
        sums: Floats = (is_there * of_entries[:n_plain]).sum(axis=1)
        return sums


def _positive(name: str, value: Any) -> int:
    """An argument as an int; ValueError if it is not a positive integer."""
    if not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name}={value!r} has to be a whole number, at least 1")
    return int(value)


def _posterior(code: Floats) -> tuple[Floats, Floats]:
    """Means and bounded log-variances, from the units of the code's layer."""
    mean, log_variance = np.hsplit(code, 2)
    return np.ascontiguousarray(mean), bounded_log_variance(log_variance)
