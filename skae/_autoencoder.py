"""AutoencoderTransformer: its parameters and their documentation."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skae._base.autoencoder import BaseAutoencoder
from skae._base.fits import LocalAutoencoder
from skae._compiled.activations import ACTIVATIONS
from skae._compiled.code_terms import SPARSITIES
from skae._compiled.corruption import CORRUPTIONS
from skae._compiled.losses import LOSSES
from skae._model.initialization import INITS
from skae._names import Names
from skae._sklearn import Interval


class AutoencoderParameters:
    """The parameters of `AutoencoderTransformer` and `DaskAutoencoderTransformer`."""

    _parameter_constraints: dict[str, list[Any]] = {
        **BaseAutoencoder._parameter_constraints,
        "alpha": [Names(["auto"]), Interval(numbers.Real, 0, None, closed="left")],
        "code_activation": [Names(ACTIVATIONS)],
        "tied_weights": ["boolean"],
        "loss": [Names(LOSSES)],
        "scale": [
            Names(["auto", "standard"]),
            Interval(numbers.Real, 0, None, closed="neither"),
            None,
        ],
        "init": [Names(INITS)],
        "noise": [Names(CORRUPTIONS), None],
        "noise_level": [Interval(numbers.Real, 0, None, closed="left")],
        "sparsity": [Names(SPARSITIES), None],
        "sparsity_target": [Interval(numbers.Real, 0, 1, closed="neither")],
        "sparsity_weight": [Interval(numbers.Real, 0, None, closed="left")],
        "pretrain": [Names(["layerwise"]), None],
    }

    def __init__(
        self,
        n_components: int | float = 2,
        *,
        hidden_layer_sizes: int | Sequence[int] | str = "auto",
        activation: str | Sequence[str] = "relu",
        code_activation: str = "identity",
        output_activation: str = "auto",
        tied_weights: bool = False,
        loss: str = "squared_error",
        scale: str | float | None = "auto",
        init: str = "auto",
        solver: str = "adam",
        alpha: float | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: str = "auto",
        learning_rate_init: float = 0.002,
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
        noise: str | None = None,
        noise_level: float = 0.1,
        sparsity: str | None = None,
        sparsity_target: float = 0.05,
        sparsity_weight: float = 1.0,
        pretrain: str | None = None,
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
        self.code_activation = code_activation
        self.output_activation = output_activation
        self.tied_weights = tied_weights
        self.loss = loss
        self.scale = scale
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
        self.noise = noise
        self.noise_level = noise_level
        self.sparsity = sparsity
        self.sparsity_target = sparsity_target
        self.sparsity_weight = sparsity_weight
        self.pretrain = pretrain
        self.categorical_features = categorical_features
        self.categories = categories
        self.max_categories = max_categories
        self.min_frequency = min_frequency
        self.handle_unknown = handle_unknown
        self.feature_weights = feature_weights


class AutoencoderTransformer(AutoencoderParameters, LocalAutoencoder):
    """Autoencoder: a nonlinear counterpart of PCA, trained on the CPU.

    An encoder network maps each sample to a code of `n_components` numbers, and a
    decoder network maps codes back to samples. Both are trained to reconstruct the
    samples as closely as possible. It can replace
    :class:`~sklearn.decomposition.PCA` in a pipeline or a grid search.

    Most users set only `n_components`. Parameters that belong together are listed
    together.

    Parameters
    ----------
    n_components : int or float, default=2
        Size of the code. If a float in (0, 1), it is the number of principal components
        that explain more than this share of the variance, as for
        :class:`~sklearn.decomposition.PCA`.

    hidden_layer_sizes : int, sequence of int or "auto", default="auto"
        Widths of the encoder's layers between input and code; the decoder mirrors
        them. ``()``: no hidden layers. "auto": ``(100, 50)``, or twice the number of
        principal components where that is more, so that the network can hold PCA.

    activation : str or sequence of str, default="relu"
        Activation of the hidden layers: "identity", "logistic" (or "sigmoid"),
        "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu" or "softplus".
        A sequence has one for each hidden layer of the encoder; the decoder mirrors it.

    code_activation : str, default="identity"
        Activation of the code. With "identity" and without `sparsity`, the entries of
        the code are ordered; see Notes.

    output_activation : str, default="auto"
        Activation of the output. "auto": "logistic" for ``loss="log_loss"`` and
        "softplus" for ``loss="poisson"``, which allow no other; else "identity".

    tied_weights : bool, default=False
        Whether the decoder uses the encoder's weights, transposed. Biases are not
        tied.

    loss : {"squared_error", "absolute_error", "huber", "log_loss", "poisson"}, \
            default="squared_error"
        Loss of a reconstruction, summed over features: half the squared error; the
        absolute error; Huber's loss, quadratic up to an error of 1 in the network's
        units; binary cross-entropy, for data in [0, 1]; or the Poisson negative
        log-likelihood without its constant, for data >= 0.

    scale : {"auto", "standard"}, float or None, default="auto"
        How data are scaled for the network; see Notes.

        - "auto": centered, and divided by the root mean square of the centered training
          data, or by more if weights are tied and layers saturate ("tanh",
          "logistic"). Not scaled for the losses "log_loss" and "poisson", nor if the
          output activation has a limited range, in which training data then must be:
          [0, 1] for "logistic", [-1, 1] for "tanh", at least 0 for "relu" and
          "softplus", and at least -1, -1.758, -0.1699 and -0.2784 for "elu", "selu",
          "gelu" and "silu". Such a network is not initialized at PCA.
        - "standard": each column is centered and divided by its own standard deviation.
          "auto" does this for a table with categories.
        - float: centered, and divided by this number, in the units of the data.
        - None: not scaled, with any output activation.

    init : {"auto", "pca", "random", "glorot", "he", "lecun", "normal"}, \
            default="auto"
        Initialization of the weights.

        - "pca": weights with which the network is PCA: exactly for all activations of
          the hidden layers except "tanh" and "logistic", and approximately for these
          (with tied weights, the better the smaller `scale` makes their inputs). A
          layer with fewer units than the code passes on only the leading scores. With
          at least twice as many units, and an activation other than "elu" and "selu",
          out-of-sample reconstructions are PCA's, too. Needs a linear output. With more
          than 1,024 features the components are computed iteratively, the leading ones
          most precisely. Those of data with missing values are probabilistic PCA's.
        - "glorot", "he", "lecun": uniform random weights with the scale of Glorot &
          Bengio (2010), He et al. (2015) or LeCun et al. (1998), and zero biases.
        - "normal": standard normal weights and biases.
        - "random": "he" for layers with "relu" and similar activations, "lecun" for
          "selu", "glorot" for others.
        - "auto": "pca" if it is exact, the code is linear and nothing is pretrained, or
          if weights are tied and ``scale="auto"`` makes inputs small; else "random".

    solver : {"adam", "sgd", "rmsprop", "lbfgs"}, default="adam"
        Optimizer. "lbfgs" uses all samples in every iteration and suits small data.

    alpha : float or "auto", default="auto"
        Strength of the L2 penalty: ``alpha / 2`` times the sum of squared weights
        (not biases) is added to the mean loss. "auto": 0; for a table with
        categories, 0.1 divided by the root of the number of training samples.

    batch_size : int or "auto", default="auto"
        Number of samples in a mini-batch. "auto": 32, or 100 with `noise` or
        `sparsity`; 200 with more than 20,000 training samples, and all samples with up
        to 100. Not used by "lbfgs".

    learning_rate : {"auto", "constant", "inverse_time", "invscaling", "adaptive", \
            "cosine"}, default="auto"
        Schedule of the learning rate. `t` is the number of updates so far.

        - "auto": "cosine" in :meth:`fit`; "constant" in :meth:`partial_fit` and with
          `warm_start`, because another fit may follow.
        - "constant": `learning_rate_init`.
        - "inverse_time": ``learning_rate_init / (1 + decay * t)``.
        - "invscaling": ``learning_rate_init / (t + 1) ** power_t``.
        - "adaptive": divided by 5 each time the loss has not improved by `tol` for
          `n_iter_no_change` epochs; training stops when it falls below 1e-6.
        - "cosine": half a cosine from `learning_rate_init` to 0 over the `max_iter`
          epochs of a fit; a warm-started fit begins again.

    learning_rate_init : float, default=0.002
        Initial learning rate of "adam", "sgd" and "rmsprop".

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
        Maximum number of epochs (of iterations for "lbfgs"). "auto": enough for 10,000
        weight updates (5,000 with more than 20,000 training samples), at least 10; 200
        for "lbfgs".

    shuffle : bool, default=True
        Whether to shuffle the samples in every epoch.

    tol : float, default=1e-4
        Tolerance for stopping. Training stops when the loss (the validation loss, if
        `early_stopping` sets samples aside) has not improved by at least `tol` for more
        than `n_iter_no_change` epochs; "lbfgs" stops when no entry of the gradient is
        larger than `tol`. With `noise` and ``max_iter="auto"``, only a validation loss
        stops training, with `early_stopping`, unless the schedule is "adaptive".

    n_iter_no_change : int or np.inf, default=10
        Number of epochs without improvement, see `tol`.

    early_stopping : bool or "auto", default="auto"
        Whether to stop by the validation loss instead of the training loss. Validation
        samples are `X_val` of :meth:`fit`, or a random share of the training samples.
        "auto": if training starts at PCA, sets samples aside, stops by their loss
        (after at least 100 updates without improvement), and replaces PCA only by
        weights that are better with confidence; see Notes. False if it starts
        elsewhere, and with `noise` or `sparsity`.

    validation_fraction : float, default=0.2
        Share of the training samples that `early_stopping` sets aside, in (0, 1).

    warm_start : bool, default=False
        Whether :meth:`fit` continues exactly where the last one stopped: two fits of k
        epochs equal one of 2k, bit for bit, except for the cosine schedule and
        `pretrain`, which depend on the epochs of one fit. `mean_` and `scale_` do not
        change. If the last fit was cut short, by Ctrl-C or because a
        :class:`skae.callbacks.Checkpoint` saved it, its remaining epochs are run.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the order of the samples, `noise` and the
        validation split. An int gives the same bits in every call, with any number of
        threads.

    verbose : bool or int, default=False
        Whether to print the loss of some epochs; above 1, of every epoch.

    noise : {"gaussian", "masking", "salt_and_pepper", "swap"} or None, default=None
        Noise of a denoising autoencoder, which sees corrupted samples in training and
        has to reconstruct the clean ones. Each epoch draws new noise; losses of
        validation samples, and those that decide which weights are kept, always use the
        same. Only training adds noise. Not available with "lbfgs".

        - "gaussian": normal noise is added to every entry.
        - "masking": entries become 0; categories are hidden.
        - "salt_and_pepper": entries become, with equal probability, the lowest or the
          highest value of the training data (of the batch in :meth:`partial_fit`), or
          0 or 1 with ``loss="log_loss"``. Not for tables with categories.
        - "swap": entries become those of the same column of another sample of the
          mini-batch (of up to some hundred neighbors in it), numbers and categories
          alike.

    noise_level : float, default=0.1
        Standard deviation of "gaussian", in the network's units, which are `scale_` (1
        for the losses "log_loss" and "poisson"); for other noise, the share of entries
        that are corrupted, in [0, 1].

    sparsity : {"kl", "l1"} or None, default=None
        Penalty that makes most units of the code inactive for most samples, added to
        the mean loss:

        - "kl": `sparsity_weight` times the sum over units of the Kullback-Leibler
          divergence KL(`sparsity_target`, mean activation) of Bernoulli distributions
          (Ng, 2011). The mean is over the samples of each mini-batch, so the penalty
          depends on `batch_size`. Needs ``code_activation="logistic"``.
        - "l1": `sparsity_weight` times the sum of absolute activations, averaged over
          samples.

    sparsity_target : float, default=0.05
        Target of "kl" for the mean activation, in (0, 1).

    sparsity_weight : float, default=1.0
        Weight of the penalty. Because the loss is a sum over features, "kl" needed 30
        to reach its target on MNIST with "log_loss", and 100 on scikit-learn's digits
        with the squared error.

    pretrain : {"layerwise"} or None, default=None
        "layerwise": before :meth:`fit` trains all layers together, each encoder layer
        is trained with its mirrored decoder layer as an autoencoder of its own, on the
        codes of the layer below (Bengio et al., 2007), with random initial weights and
        for a fifth of the epochs of the fit. The first has `loss` and `noise`, the
        others the squared error; the last has `sparsity`. The codes of a layer are
        kept in memory; :meth:`fit_batches` computes them again in each pass over the
        data. Ctrl-C during pretraining ends the fit with KeyboardInterrupt.
        :meth:`partial_fit` and warm-started fits do not pretrain.

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
        Weights of the layers, encoder first. With `tied_weights`, ``coefs_[-1 - i]``
        is a view of ``coefs_[i].T``.

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
        initial weights, which are PCA's if training began there.

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
        Objective in the last epoch: the mean loss of the samples, while the weights
        changed, plus the penalty. In the network's units; see Notes.

    best_loss_ : float
        Lowest value of `validation_loss_curve_` if there is one, else of `loss_curve_`.

    loss_curve_ : list of float
        `loss_` of every epoch, including those of earlier fits with `warm_start`.

    validation_loss_curve_ : list of float
        Objective over the validation samples after every epoch. Defined only if
        `early_stopping` sets samples aside, or with `X_val`.

    mean_ : ndarray of shape (n_features,)
        Mean of the training data; with :meth:`partial_fit`, of the first batch.

    scale_ : float or ndarray of shape (n_features,)
        Number that the data are divided by for the network: `scale`, or with "auto" the
        root mean square of all entries of the centered training data, or more, see
        Notes; 1 for constant data, and if data are not scaled. With "standard", and for
        a table with categories, one number for each feature.

    categories_ : list of ndarray or None
        Levels of each column, None for numbers. Only for tables with categories.

    input_names_ : list of str
        Names of the network's inputs, such as "age" and "city=Rome", of which `mean_`,
        `scale_` and ``coefs_[0]`` have an entry for each. Only for tables with
        categories.

    mean_activation_ : ndarray of shape (n_components,)
        Mean of the code's units over the training data, or the batch of
        :meth:`partial_fit`. Only with `sparsity`.

    explained_variance_ : ndarray of shape (n_components,)
        Variance of the training data that each entry of the code explains linearly, in
        the data's units. It is the variance of the entry, in decreasing order, unless
        weights are tied or penalized: the entry's variance then depends on the weights,
        and this is that of its best linear function. If a linear decoder is then not
        optimal, because a penalty shrinks it, all values are reduced by one factor to
        what it reconstructs. The denominator is n - 1, as for PCA, where n is the
        number of samples with positive weight. Only with ``code_activation="identity"``
        and without `sparsity`.

    explained_variance_ratio_ : ndarray of shape (n_components,)
        `explained_variance_` divided by the variance of the data. Its sum is at most 1.
        Its cumulative sum is the share that is linear in the first entries of the code;
        the rest of :meth:`score` is nonlinear. For a network without nonlinear layers
        and ``loss="squared_error"`` it is PCA's. Only with
        ``code_activation="identity"`` and without `sparsity`.

    n_features_in_ : int
        Number of features seen during :term:`fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during :term:`fit`. Defined only when `X`
        has feature names that are all strings.

    See Also
    --------
    sklearn.decomposition.PCA : The best linear autoencoder.
    sklearn.neural_network.MLPRegressor : Networks for regression.

    Notes
    -----
    **Scale.** For the losses without a fixed range ("squared_error",
    "absolute_error", "huber") the network sees ``(X - mean_) / scale_``, unless
    `scale` is None or the output has a limited range; :meth:`inverse_transform` undoes
    it. `scale_` is one number, so the geometry is PCA's, and with ``scale="auto"``
    fitting on ``c * X + d`` gives the same code. To scale each feature, put a
    :class:`~sklearn.preprocessing.StandardScaler` before it in a pipeline.

    Tied weights scale the input and the output of a layer alike. Therefore only small
    data keep "tanh" and "logistic" units, in the code or in hidden layers, in their
    nearly linear range, and "auto" divides by more. If training starts near PCA, the
    divisor is 5 times the square root of the number of such layers times the largest
    distance of a training sample from the mean; with random weights, it is 4 root mean
    squares. With `noise` or `sparsity`, which are in the network's units as `alpha` and
    `tol` are, it is one root mean square.

    **Missing values.** NaN is a missing value. The loss, `mean_`, `scale_` and scores
    are over observed entries. In place of a missing entry the network sees its
    expectation given the rest of the sample, by a normal distribution that :meth:`fit`
    fits to incomplete training data by the EM algorithm (Tipping & Bishop,
    "Probabilistic principal component analysis", 1999); after complete training data,
    the mean. A feature that is never observed in :meth:`fit` has no influence.

    **Categories.** Each categorical column becomes a group of inputs, one for each
    level; its outputs are the logits of a softmax, and its loss is the cross-entropy.
    Every column counts once: its loss is divided by twice the entropy of the levels'
    frequencies, so that it is 0.5 if nothing but these is known, as is half the squared
    error of a standardized number. Inputs of a group are divided by one number, with
    which their variances sum to 1. :meth:`inverse_transform` returns a table like that
    of the fit, with the most probable levels (of levels that share an input, the most
    frequent), and whole numbers in columns of integers. Results do not depend on the
    order of columns and levels. If training starts at PCA, it is that of these inputs,
    with logistic regressions of the levels on its scores.

    **Order.** With ``code_activation="identity"`` and without `sparsity`, the code has
    mean zero over the training data, its entries are uncorrelated and of decreasing
    variance, and the feature that varies most with an entry increases with it, as for
    PCA. If neither a tie nor `alpha` determines the scale of the code, the first j
    entries are the j linear functions of the code that explain most of the data
    linearly (reduced-rank regression: Izenman, 1975), and their variance is what they
    explain. Otherwise the code is only rotated; among entries of equal variance (up to
    a relative difference of 1.5e-8, in float32 of 3.5e-4) the first explain most.
    Neighboring weights compensate for this, so reconstructions do not change. For a
    network without nonlinear layers, the code times `scale_` is PCA's.

    **Which weights are kept.** With ``early_stopping="auto"``, PCA as initialization,
    and no `X_val`, `noise` or `sparsity`, the validation loss is evaluated at
    geometrically spaced epochs. Weights replace PCA's only if the lower bound of a
    one-sided 95 % confidence interval for the mean improvement is positive, also
    without the 2 % of the validation samples that improve most; the weights with the
    largest bound are kept. PCA is also kept if the objective over the training samples
    rises, with fewer than 40 samples, and with fewer than four groups to validate by.
    Mean, scale and PCA are those of all samples. Otherwise, with validation samples,
    the weights with the lowest validation loss are kept; without, the last epoch's,
    unless their objective exceeds that of the initial weights: then those of the best
    epoch.

    **Validation samples** are set aside at random, but not one by one: identical
    samples are kept together, and so are the `groups` of :meth:`fit`. Without `groups`,
    near copies are also kept together, and a series is held out in blocks, if the
    distances between some samples show that there are any.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(
    ...     n_components=5, learning_rate_init=0.01, max_iter=30, tol=0, random_state=0
    ... )
    >>> autoencoder.fit_transform(X).shape
    (1797, 5)
    >>> bool(autoencoder.score(X) > 0.65)
    True
    """
