"""VariationalAutoencoderTransformer: its parameters, documentation, own methods."""

import numbers
from typing import Self

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skae._base import LocalAutoencoder, solver_takes_batches
from skae._compiled.code_terms import (
    VARIATIONAL,
    WARMUP,
    WEIGHT,
    CodeTerm,
    bounded_log_variance,
)
from skae._compiled.losses import LOSSES
from skae._compiled.optimizers import SOLVERS
from skae._data.rows import row_chunks
from skae._model import inference
from skae._model.initialization import INITS
from skae._names import Names
from skae._sklearn import Interval

# Losses that are, except for a constant, the negative logarithm of a likelihood.
_LIKELIHOODS = [
    name for name, loss in LOSSES.items() if loss.likelihood_constant is not None
]


class VariationalAutoencoderTransformer(LocalAutoencoder):
    """Variational autoencoder, trained on the CPU.

    The encoder maps each sample to a normal distribution over codes, the posterior,
    with a mean and a standard deviation for each entry of the code; the decoder maps
    codes to distributions over samples. Both are trained to maximise the evidence lower
    bound (ELBO): the logarithm of the likelihood of the samples, for codes drawn from
    their posteriors, less the divergence of the posteriors from a standard normal prior
    (Kingma & Welling, 2014). Codes drawn from the prior give new samples.

    Parameters
    ----------
    n_components : int or float, default=2
        Size of the code, or a share of the variance. See
        :class:`AutoencoderTransformer`.

    hidden_layer_sizes : int, sequence of int or "auto", default="auto"
        Widths of the encoder's layers between input and code; the decoder mirrors
        them. See :class:`AutoencoderTransformer`.

    activation : str or sequence of str, default="relu"
        Activation of the hidden layers. See :class:`AutoencoderTransformer`.

    output_activation : str, default="auto"
        Activation of the output: "auto" is "logistic" for the loss "log_loss", else
        "identity". Where it has a range, the network sees the data as they are, and the
        normal likelihood has their unit as its standard deviation: choose `beta`.

    loss : {"squared_error", "log_loss"}, default="squared_error"
        Negative logarithm of the likelihood, without constants. "squared_error" is half
        the squared difference: a normal likelihood of standard deviation 1 in the
        network's units, `scale_` in those of the data. "log_loss" is binary
        cross-entropy, a Bernoulli likelihood, for data in [0, 1].

    init : {"auto", "random", "glorot", "he", "lecun", "normal"}, default="auto"
        Initial weights, "auto" as "random". See :class:`AutoencoderTransformer`.

    solver : {"adam", "sgd", "rmsprop"}, default="adam"
        Optimizer.

    alpha : float, default=0.0
        Strength of the L2 penalty of the weights.

    batch_size : int or "auto", default="auto"
        Number of samples in a mini-batch. "auto" is 100, and 200 with more than 20,000
        training samples; at most all of them.

    learning_rate : {"auto", "constant", "inverse_time", "invscaling", "adaptive", \
            "cosine"}, default="auto"
        Schedule of the learning rate. See :class:`AutoencoderTransformer`.

    learning_rate_init : float, default=0.001
        Initial learning rate.

    decay : float, default=0.0
        Decay rate of "inverse_time", an update.

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
        Keeps the denominators of "adam" and "rmsprop" from zero.

    max_iter : int or "auto", default="auto"
        Epochs of a fit. See :class:`AutoencoderTransformer`.

    shuffle : bool, default=True
        Whether the samples come in a new order in every epoch.

    tol : float, default=1e-4
        Training ends when the loss has not improved by at least `tol` for more than
        `n_iter_no_change` epochs. With an "auto" `max_iter` only a validation loss ends
        it, with `early_stopping`, as what is drawn from the posteriors makes the
        training loss uneven ("adaptive" learning rates excepted).

    n_iter_no_change : int or np.inf, default=10
        See `tol`.

    early_stopping : bool or "auto", default="auto"
        Whether to stop by the loss of validation samples instead of the training loss:
        those of `X_val` in :meth:`fit`, or else a random share of the training samples.
        "auto" is False.

    validation_fraction : float, default=0.2
        Share of the training samples that `early_stopping` sets aside, in (0, 1).

    warm_start : bool, default=False
        Whether :meth:`fit` goes on exactly where the last one stopped. A fit that was
        cut short, by Ctrl-C or as a :class:`skae.callbacks.Checkpoint` has it, is
        finished: of its epochs, those that are left are run.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the order of the samples, what is drawn from the
        posteriors, and the validation split. With an int, results are the same bits for
        every call, whatever the number of threads.

    verbose : bool or int, default=False
        Whether to print losses now and then; a number above 1: every epoch.

    beta : float, default=1.0
        Weight of the divergence in the objective. Other values than 1 make it the
        beta-VAE of Higgins et al. (2017). With the loss "squared_error" it is also the
        variance of the likelihood, in the network's units: the best weights for `beta`
        are the best for such a variance and no weight.

    kl_warmup : int, default=0
        Epochs over which the weight of the divergence rises evenly to `beta`, so that
        the code is used before it is paid for. Until then no losses are compared:
        they neither end training nor choose the weights to keep, which are the last.
        In losses of validation samples the weight is `beta` from the first epoch on.

    Attributes
    ----------
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of the layers, encoder first. The last layer of the encoder has
        ``2 * n_components`` units: the means, then the logarithms of the variances
        before they are bounded; see Notes.

    intercepts_ : list of ndarray of shape (n_out,)
        Biases of the layers.

    n_components_ : int
        Size of the code.

    n_layers_ : int
        Number of layers, the input and the output included.

    n_iter_ : int
        Epochs of the last :meth:`fit`, and one for each :meth:`partial_fit` since.

    best_iter_ : int
        Epoch whose weights were kept, counted as in `loss_curve_` from 1; 0 for the
        initial weights.

    hidden_layer_sizes_ : tuple of int
        Widths of the encoder's layers between input and code.

    batch_size_ : int
        Number of samples in a mini-batch.

    max_iter_ : int
        Maximum number of epochs of the last :meth:`fit`.

    initial_loss_ : float
        Objective of the initial weights over the validation samples, or over the
        training samples where there are none. NaN where it was not computed, as by
        :meth:`partial_fit`.

    loss_ : float
        Objective in the last epoch: the mean over samples of the loss, plus the
        weighted divergence, plus the penalty. In the network's units.

    best_loss_ : float
        Lowest value of `validation_loss_curve_` where there is one, else of
        `loss_curve_`; after `kl_warmup`, if training has gone so far.

    loss_curve_ : list of float
        `loss_` of every epoch, those of earlier fits included with `warm_start`.

    kl_curve_ : list of float
        Mean divergence of the posteriors in every epoch, in nats, without its weight.

    validation_loss_curve_ : list of float
        Objective over the validation samples after every epoch, with the same noise
        each time. Defined only with `early_stopping` or `X_val`.

    mean_ : ndarray of shape (n_features,)
        Mean of the training data; with :meth:`partial_fit`, of the first batch.

    scale_ : float
        Root mean square of all entries of the centred training data, which the
        network sees divided by it; 1 for constant data, for the loss "log_loss", and
        where the output has a range.

    n_features_in_ : int
        Number of features seen during :term:`fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during :term:`fit`. Defined only when `X`
        has feature names that are all strings.

    See Also
    --------
    AutoencoderTransformer : Without distributions; as a rule it reconstructs better.
    sklearn.mixture.GaussianMixture : Another model to draw samples from.

    Notes
    -----
    The code is drawn as mean + deviation * noise, so that gradients pass it
    (Kingma & Welling, "Auto-encoding variational Bayes", 2014, equation 10), once for
    every sample and epoch. :meth:`transform`, :meth:`inverse_transform`, :meth:`score`
    and :meth:`reconstruction_error` draw nothing: they use the posterior mean.

    The logarithm of a variance is bounded, so that no outlier makes training diverge:
    it is the number z that the encoder gives where z is from -60 to 3; above it is
    ``6 - 9 / z``, and below ``-63 - 9 / (z + 57)``, with the same slopes at the ends.

    The code is not rotated to principal axes as that of
    :class:`AutoencoderTransformer` is: the posterior's entries are independent along
    its own axes only.

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

    # What a variational autoencoder has no parameters for.
    code_activation = "identity"
    tied_weights = False
    scale = "auto"
    noise = None
    pretrain = None
    _twin_for_dask = None
    _codes_are_distributions = True
    _term_curve = "kl_curve_"
    _draws_noise = True

    _parameter_constraints: dict = {
        **LocalAutoencoder._parameter_constraints,
        "loss": [Names(_LIKELIHOODS)],
        "init": [Names(name for name in INITS if name != "pca")],
        "solver": [Names(SOLVERS)],
        "beta": [Interval(numbers.Real, 0, None, closed="left")],
        "kl_warmup": [Interval(numbers.Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_components=2,
        *,
        hidden_layer_sizes="auto",
        activation="relu",
        output_activation="auto",
        loss="squared_error",
        init="auto",
        solver="adam",
        alpha=0.0,
        batch_size="auto",
        learning_rate="auto",
        learning_rate_init=0.001,
        decay=0.0,
        power_t=0.5,
        momentum=0.9,
        nesterovs_momentum=True,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        max_iter="auto",
        shuffle=True,
        tol=1e-4,
        n_iter_no_change=10,
        early_stopping="auto",
        validation_fraction=0.2,
        warm_start=False,
        random_state=None,
        verbose=False,
        beta=1.0,
        kl_warmup=0,
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

    # -- hooks --------------------------------------------------------

    def _code_term(self):
        settings = {WEIGHT: float(self.beta), WARMUP: float(self.kl_warmup)}
        return CodeTerm(VARIATIONAL, settings)

    @property
    def _n_warmup_epochs(self):
        return self.kl_warmup

    def _code_attributes(self, plan, params):
        return {}  # the posterior is along its own axes

    # -- fitting ---------------------------------------------------------------------

    def fit(self, X, y=None, *, X_val=None, groups=None) -> Self:
        """Train the autoencoder.

        There are no sample weights: scikit-learn asks that a sample of weight two be
        the same as two samples, but each sample has a code of its own drawn.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. float32 stays float32; everything else becomes float64.
            A C-ordered array or memory map of either type is not copied; a sparse
            matrix is not made dense.

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
            If `max_iter` epochs end before the stopping rule does, and the learning
            rate did not end with them as "cosine" does.

        UserWarning
            If Ctrl-C ends training. The best weights so far are kept, and a fit with
            `warm_start` finishes it. (A search goes on with its next fit.)
        """
        return super().fit(X, y, X_val=X_val, groups=groups)

    @available_if(solver_takes_batches)
    def partial_fit(self, X, y=None) -> Self:
        """Make one pass over a batch of samples, in mini-batches of `batch_size`.

        The first call, unless it follows a fit, draws the weights and measures
        `mean_` and `scale_`, which then stay as they are: let its batch be
        representative. (After a batch without any spread, such as a single sample,
        the next one begins again, and both count.) Nothing is held out, and the last
        weights are kept. After a :meth:`fit`, training continues from the weights that
        it kept.

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

    def transform(self, X) -> np.ndarray:
        """Encode samples as the means of their posteriors.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to encode.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_components)
            Means. A sample's does not depend on the other samples.
        """
        means = np.ascontiguousarray(self._encode(X)[:, : self.n_components_])
        return self._expect_finite(means, "codes")

    def transform_distribution(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Encode samples as their posteriors.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to encode.

        Returns
        -------
        mean : ndarray of shape (n_samples, n_components)
            As of :meth:`transform`.

        standard_deviation : ndarray of shape (n_samples, n_components)
            Of the posterior's entries, which are independent.
        """
        mean, log_variance = _posterior(self._encode(X))
        return mean, np.exp(log_variance / 2)

    def sample(self, n_samples=1, random_state=None) -> np.ndarray:
        """Decode codes that are drawn from the prior.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.

        random_state : int, RandomState instance or None, default=None
            Determines the codes. With an int, samples are the same for every call.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Means of the decoder's distributions, in the units of the training data: for
            the loss "log_loss" probabilities.

        Raises
        ------
        ValueError
            If `n_samples` is not a whole number of at least 1.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, numbers.Integral) or n_samples < 1:
            raise ValueError(
                f"n_samples={n_samples!r} has to be a whole number, at least 1"
            )
        shape = (int(n_samples), self.n_components_)
        return self.inverse_transform(
            check_random_state(random_state).standard_normal(shape)
        )

    def elbo(self, X, *, n_draws=10) -> np.ndarray:
        """Evidence lower bound of each sample: of the logarithm of its density.

        The mean over `n_draws` codes from its posterior of the logarithm of the
        sample's likelihood, less the divergence of the posterior from the prior (Kingma
        & Welling, 2014, equation 3). It is that of the model with a divergence of
        weight 1 and, for the loss "squared_error", a standard deviation of `scale_`,
        whatever `beta` is.

        The bound of a sample depends on this sample alone, not on its place, the other
        samples or earlier calls: all samples share the normal numbers that their codes
        are drawn with, which `random_state` in :meth:`fit` determines. These come in
        pairs of opposite signs and have mean squares of 1, which halves the error.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        n_draws : int, default=10
            Codes that are drawn for a sample.

        Returns
        -------
        elbo : ndarray of shape (n_samples,), dtype=float64
            In nats. For the loss "squared_error", of the density in the units of the
            data, with all constants; for "log_loss" of the probability. -inf for a
            sample so far from all others that the squares of its entries overflow.

        Raises
        ------
        ValueError
            If `n_draws` is not a whole number of at least 1, or the loss is not
            defined for an entry of X.
        """
        if not isinstance(n_draws, numbers.Integral) or n_draws < 1:
            raise ValueError(
                f"n_draws={n_draws!r} has to be a whole number, at least 1"
            )
        X = self._in_range(self._check_rows(X))
        network, params = self._fitted_network()
        loss = LOSSES[self._training_state.loss]
        draws = self._draws(n_draws)
        elbo = np.full(X.shape[0], -self._log_of_unit())
        for batch in row_chunks(*X.shape):
            rows = self._as_rows(X[batch])
            code = inference.propagate(inference.encoder(network), params, rows)
            mean, log_variance = _posterior(code.astype(np.float64))
            deviation = np.exp(log_variance / 2)
            with np.errstate(over="ignore", invalid="ignore"):
                excess = np.expm1(log_variance) - log_variance
                elbo[batch] -= (mean**2 + excess).sum(axis=1) / 2
                for noise in draws:
                    drawn = mean + deviation * noise
                    losses = inference.decoded_losses(
                        loss, network, params, drawn, rows
                    )
                    elbo[batch] -= losses.sum(axis=1) / n_draws
        elbo[np.isnan(elbo)] = -np.inf
        return elbo

    def _draws(self, n_draws):
        """Normal numbers of shape (n_draws, n_components), the same for every row.

        They come in pairs of opposite signs, and their mean squares are 1, so that of
        a reconstruction that is linear in them only products of two are left to chance.
        """
        shape = (n_draws + 1) // 2, self.n_components_
        half = np.random.RandomState(self._training_state.seed).standard_normal(shape)
        half /= np.sqrt((half**2).mean(axis=0))
        return np.concatenate([half, -half])[:n_draws]

    def _log_of_unit(self):
        """What the loss leaves out of a row's negative log-likelihood."""
        constant = LOSSES[self._training_state.loss].likelihood_constant
        return self.n_features_in_ * (constant + np.log(self.scale_))


def _posterior(code):
    """Means and logarithms of variances, of the units of the code's layer."""
    mean, log_variance = np.hsplit(code, 2)
    return np.ascontiguousarray(mean), bounded_log_variance(log_variance)
