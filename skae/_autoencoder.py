"""AutoencoderTransformer: its parameters and their documentation."""

import numbers

from skae._base import BaseAutoencoder, LocalAutoencoder
from skae._compiled.activations import ACTIVATIONS
from skae._compiled.code_terms import SPARSITIES
from skae._compiled.corruption import CORRUPTIONS
from skae._compiled.losses import LOSSES
from skae._model.initialization import INITS
from skae._names import Names
from skae._sklearn import Interval


class AutoencoderParameters:
    """The parameters of `AutoencoderTransformer`, which that for Dask has, too."""

    _parameter_constraints: dict = {
        **BaseAutoencoder._parameter_constraints,
        "code_activation": [Names(ACTIVATIONS)],
        "tied_weights": ["boolean"],
        "loss": [Names(LOSSES)],
        "scale": [
            Names(["auto"]),
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
        n_components=2,
        *,
        hidden_layer_sizes="auto",
        activation="relu",
        code_activation="identity",
        output_activation="auto",
        tied_weights=False,
        loss="squared_error",
        scale="auto",
        init="auto",
        solver="adam",
        alpha=0.0,
        batch_size="auto",
        learning_rate="auto",
        learning_rate_init=0.002,
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
        noise=None,
        noise_level=0.1,
        sparsity=None,
        sparsity_target=0.05,
        sparsity_weight=1.0,
        pretrain=None,
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


class AutoencoderTransformer(AutoencoderParameters, LocalAutoencoder):
    """Autoencoder: a nonlinear counterpart of PCA, trained on the CPU.

    An encoder network maps each sample to a code of `n_components` numbers, a decoder
    network maps codes back to samples; both are trained so that the reconstruction is
    as close to the sample as possible. It takes the place of
    :class:`~sklearn.decomposition.PCA` in a pipeline or a grid search.

    The parameters are listed in groups: the network (`n_components` to `tied_weights`),
    its loss and scale (`loss`, `scale`), optimisation (`init` to `max_iter`, and
    `shuffle`), stopping (`tol` to `validation_fraction`), others (`warm_start`,
    `random_state`, `verbose`), noise and sparsity (`noise` to `sparsity_weight`), and
    pretraining (`pretrain`). Most users set `n_components` alone.

    Parameters
    ----------
    n_components : int or float, default=2
        Size of the code. A float in (0, 1) is a share of the variance, as for
        :class:`~sklearn.decomposition.PCA`: the size is the number of principal
        components that explain more than this share.

    hidden_layer_sizes : int, sequence of int or "auto", default="auto"
        Widths of the encoder's layers between input and code; the decoder mirrors
        them. ``()`` leaves no layer but the code. "auto" is ``(100, 50)``, or
        twice the number of principal components where that is more: PCA always fits in.

    activation : str or sequence of str, default="relu"
        Activation of the hidden layers: "identity", "logistic" (or "sigmoid"),
        "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu" or "softplus".
        A sequence names one for each encoder layer; the decoder mirrors it.

    code_activation : str, default="identity"
        Activation of the code. With "identity" the code is ordered, unless it is
        sparse; see Notes.

    output_activation : str, default="auto"
        Activation of the output. "auto" is "logistic" for ``loss="log_loss"``,
        "softplus" for ``loss="poisson"``, which allow no other, and "identity"
        elsewhere.

    tied_weights : bool, default=False
        Whether the decoder uses the encoder's weights, transposed. Biases are not
        tied.

    loss : {"squared_error", "absolute_error", "huber", "log_loss", "poisson"}, \
            default="squared_error"
        Loss of a reconstruction, summed over features: half the squared error; the
        absolute error; Huber's loss, quadratic up to an error of 1 in the network's
        units; binary cross-entropy, for inputs in [0, 1]; the Poisson negative
        log-likelihood without its constant, for inputs >= 0.

    scale : {"auto"}, float or None, default="auto"
        How the network sees the data, see Notes.

        - "auto": centred, and divided by the root mean square of the centred training
          data, or by more where weights are tied and layers saturate ("tanh",
          "logistic"). As they are for the losses "log_loss" and "poisson", which have
          a fixed range, and where the output has one: for "logistic" training data
          have to be in [0, 1], for "tanh" in [-1, 1], for "relu" and "softplus" at
          least 0, and for "elu", "selu", "gelu" and "silu", which are limited from
          below, too, at least -1, -1.758, -0.1699 and -0.2784. Such a network does not
          begin at PCA.
        - float: centred, and divided by this, in the units of the data.
        - None: as they are, whatever the output.

    init : {"auto", "pca", "random", "glorot", "he", "lecun", "normal"}, \
            default="auto"
        Where training begins.

        - "pca": the network is PCA, exactly with all activations of the hidden layers
          except "tanh" and "logistic", and approximately with these (with tied weights
          the better, the smaller `scale` makes their inputs). A layer with fewer units
          than the code passes on the leading scores only. With at least twice as many
          units, and an activation other than "elu" and "selu", out-of-sample
          reconstructions are PCA's, too. The output has to be linear. With more than
          1,024 features the components are found by iteration, the leading ones most
          precisely.
        - "glorot", "he", "lecun", "normal": random weights, uniform and scaled as
          Glorot & Bengio (2010), He et al. (2015) or LeCun et al. (1998) say, with
          zero biases; or standard normal, biases too.
        - "random": the one of these that suits each layer's activation: "he" for
          "relu" and similar ones, "lecun" for "selu", "glorot" elsewhere.
        - "auto": "pca" where it is exact, the code is linear and nothing is pretrained,
          or where weights are tied and ``scale="auto"`` makes inputs small; otherwise
          "random".

    solver : {"adam", "sgd", "rmsprop", "lbfgs"}, default="adam"
        Optimizer. "lbfgs" uses all samples at every iteration and suits small data.

    alpha : float, default=0.0
        Strength of the L2 penalty: ``alpha / 2`` times the sum of squared weights
        (not biases) is added to the mean loss.

    batch_size : int or "auto", default="auto"
        Number of samples in a mini-batch. "auto" is 32, or 100 with `noise` or
        `sparsity`; with more than 20,000 training samples it is 200, and with up to 100
        all of them. "lbfgs" ignores it.

    learning_rate : {"auto", "constant", "inverse_time", "invscaling", "adaptive", \
            "cosine"}, default="auto"
        Schedule of the learning rate, `t` being the number of updates so far.

        - "auto": "cosine" in :meth:`fit`; "constant" in :meth:`partial_fit`, and with
          `warm_start`, because another fit may follow.
        - "constant": `learning_rate_init`.
        - "inverse_time": ``learning_rate_init / (1 + decay * t)``.
        - "invscaling": ``learning_rate_init / (t + 1) ** power_t``.
        - "adaptive": divided by 5 each time that the loss has not improved by `tol`
          for `n_iter_no_change` epochs; training ends when it falls below 1e-6.
        - "cosine": half a cosine from `learning_rate_init` to 0 over the `max_iter`
          epochs of a fit; a warm-started fit begins it anew.

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
        Keeps the denominators of "adam" and "rmsprop" from zero.

    max_iter : int or "auto", default="auto"
        Maximum number of epochs of a fit (of iterations for "lbfgs"). "auto": enough
        for 10,000 updates of the weights (5,000 with more than 20,000 training
        samples), at least 10; for "lbfgs" 200.

    shuffle : bool, default=True
        Whether to shuffle the samples in every epoch.

    tol : float, default=1e-4
        Training ends when the loss, or the validation loss where `early_stopping` sets
        samples aside, has not improved by at least `tol` for more than
        `n_iter_no_change` epochs. "lbfgs" ends when no entry of the gradient is
        larger. With `noise` and an "auto" `max_iter` only a validation loss ends it,
        with `early_stopping` ("adaptive" learning rates excepted).

    n_iter_no_change : int or np.inf, default=10
        See `tol`.

    early_stopping : bool or "auto", default="auto"
        Whether to stop by the loss of validation samples instead of the training loss:
        those of `X_val` in :meth:`fit`, or else a random share of the training
        samples. "auto" sets samples aside where training starts at PCA, stops by
        their loss (after at least 100 updates without improvement), and leaves PCA only
        for weights that are better with confidence; see Notes. Elsewhere, and with
        `noise` or `sparsity`, it is False.

    validation_fraction : float, default=0.2
        Share of the training samples that `early_stopping` sets aside, in (0, 1).

    warm_start : bool, default=False
        Whether :meth:`fit` continues exactly where the last one stopped: two fits of k
        epochs are one of 2k, bit for bit, except for the cosine schedule and
        `pretrain`, which depend on the epochs of one fit. `mean_` and `scale_` stay as
        they are. A fit that was cut short, by Ctrl-C or as saved by a
        :class:`skae.callbacks.Checkpoint`, is finished: its remaining epochs are run.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the order of the samples, `noise` and the
        validation split. With an int, results are the same bits for every call,
        whatever the number of threads.

    verbose : bool or int, default=False
        Whether to print the loss of some epochs; above 1, of every epoch.

    noise : {"gaussian", "masking", "salt_and_pepper"} or None, default=None
        Noise of a denoising autoencoder, which sees corrupted samples in training and
        has to reconstruct the clean ones. Each epoch draws new noise; losses of
        validation samples, and those that decide which weights are kept, always have
        the same noise. Only training adds noise. Not with "lbfgs".

        - "gaussian": normal noise is added to every entry.
        - "masking": entries become 0.
        - "salt_and_pepper": entries become, with equal probability, the lowest or the
          highest value of the training data (of the batch in :meth:`partial_fit`), or
          0 or 1 with ``loss="log_loss"``.

    noise_level : float, default=0.1
        Standard deviation of "gaussian", in the network's units, which are `scale_` (1
        for the losses "log_loss" and "poisson"); for other noise the share of the
        entries that are corrupted, in [0, 1].

    sparsity : {"kl", "l1"} or None, default=None
        Penalty that makes most units of the code inactive for most samples, added to
        the mean loss:

        - "kl": `sparsity_weight` times the sum over the units of the Kullback-Leibler
          divergence KL(`sparsity_target`, mean activation), of Bernoulli distributions
          (Ng, 2011). The mean is taken over the samples of each batch, so that the
          penalty of an epoch depends on `batch_size`. Needs
          ``code_activation="logistic"``.
        - "l1": `sparsity_weight` times the mean over the samples of the sum of absolute
          activations.

    sparsity_target : float, default=0.05
        Mean activation that "kl" aims at, in (0, 1).

    sparsity_weight : float, default=1.0
        Weight of the penalty. The loss is a sum over the features: "kl" needed 30 to
        reach its target on MNIST with "log_loss", and 100 on scikit-learn's digits with
        the squared error.

    pretrain : {"layerwise"} or None, default=None
        "layerwise": before :meth:`fit` trains all layers together, each encoder layer
        is trained with its mirrored decoder layer as an autoencoder of its own, on the
        codes of the layer below (Bengio et al., 2007), starting with random weights.
        Each is trained for a fifth of the epochs of the fit. The first has `loss` and
        `noise`, the others the squared error; the last has `sparsity`. The codes of a
        layer are held in memory; :meth:`fit_batches` computes them again in each pass
        over the data. Ctrl-C during pretraining ends the fit with KeyboardInterrupt.
        :meth:`partial_fit` and warm-started fits do not pretrain.

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
        Number of layers, the input and the output included.

    n_iter_ : int
        Epochs of the last :meth:`fit`, and one for each :meth:`partial_fit` since.

    best_iter_ : int
        Epoch whose weights were kept, counted as in `loss_curve_` from 1; 0 for the
        initial weights: PCA's, where training began there.

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
        Objective in the last epoch: the mean over samples of the loss, while the
        weights changed, plus the penalty. In the network's units; see Notes.

    best_loss_ : float
        Lowest value of `validation_loss_curve_` where there is one, else of
        `loss_curve_`.

    loss_curve_ : list of float
        `loss_` of every epoch, those of earlier fits included with `warm_start`.

    validation_loss_curve_ : list of float
        Objective over the validation samples after every epoch. Defined only where
        `early_stopping` sets samples aside, or with `X_val`.

    mean_ : ndarray of shape (n_features,)
        Mean of the training data; with :meth:`partial_fit`, of the first batch.

    scale_ : float
        What the network sees data divided by: `scale`, or with "auto" the root mean
        square of all entries of the centred training data, or more, see Notes; 1 for
        constant data, and where the network sees the data as they are.

    mean_activation_ : ndarray of shape (n_components,)
        Mean of the code's units over the training data, or the batch of
        :meth:`partial_fit`. Only with `sparsity`.

    explained_variance_ : ndarray of shape (n_components,)
        What each entry of the code explains linearly of the variance of the training
        data, in their units. It is the variance of the entry, in decreasing order,
        unless weights are tied or penalised: then that depends on the weights, too, and
        this is the variance of the best linear function of the entry. Where in that
        case the decoder is linear and not the best, as a penalty shrinks it, all are
        reduced by one factor to what it reconstructs. As PCA's, it has n - 1 in the
        denominator, n being the number of samples with a weight above 0: it does not
        depend on the unit of the weights. Only with ``code_activation="identity"`` and
        without `sparsity`.

    explained_variance_ratio_ : ndarray of shape (n_components,)
        `explained_variance_` divided by the variance of the data. Its sum is at most 1,
        and its cumulative sum the share that is linear in the first entries of the
        code; what :meth:`score` exceeds it by is not. For a network without nonlinear
        layers and ``loss="squared_error"`` it is PCA's. Only with
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
    `scale` is None or the output has a range, and :meth:`inverse_transform` undoes it.
    `scale_` is one number, so the geometry is PCA's, and with ``scale="auto"`` fitting
    on ``c * X + d`` gives the same code. Scaling each feature is
    :class:`~sklearn.preprocessing.StandardScaler`'s job, in a pipeline.

    What tied weights enlarge on the way in they enlarge on the way out, too. So only
    small data keep "tanh" and "logistic" units, in the code or in hidden layers, where
    they are nearly linear, and "auto" divides by more: by 5 times the square root of
    the number of such layers times the largest distance of a training sample from the
    mean, and training starts near PCA; or, from random weights, by 4 root mean squares.
    Not with `noise` or `sparsity`, which are in the network's units, as `alpha` and
    `tol` are.

    **Order.** With ``code_activation="identity"``, and no `sparsity`, the code has mean
    zero over the training data, its entries are uncorrelated and of decreasing
    variance, and the feature that varies most with an entry increases with it, as for
    PCA. Where neither a tie nor `alpha` sets the scale of the code, the first j entries
    are those j linear functions of the code that explain most of the data linearly
    (reduced-rank regression: Izenman, 1975), and their variance is what they explain.
    Elsewhere the code is only rotated; of entries with equal variances (that differ by
    less than 1.5e-8, relatively, in float32 by 3.5e-4) the first explain most.
    Neighbouring weights absorb all this, so that reconstructions do not change. For a
    network without nonlinear layers, the code times `scale_` is PCA's.

    **Which weights are kept.** With ``early_stopping="auto"``, a start at PCA, and
    neither `X_val` nor `noise` nor `sparsity`, the validation loss is evaluated at
    geometrically spaced epochs. Weights replace PCA's only if the lower bound of a
    one-sided 95 % confidence interval for the mean improvement is positive, also
    without the 2 % of the validation samples that improve most; the weights with the
    largest bound are kept. PCA is kept, too, if the objective over the training samples
    rises, with fewer than 40 samples, and with fewer than four groups to validate by.
    Mean, scale and PCA are those of all samples. Otherwise, with validation samples,
    the weights of the epoch with the lowest validation loss are kept; without, the last
    epoch's, unless their objective exceeds the initial weights': then those of the best
    epoch.

    **Samples set aside for validation** are drawn at random, but not one by one:
    identical samples stay on one side, and so do the `groups` of :meth:`fit`. Without
    `groups`, near copies of samples are kept together, and a series is held out in
    blocks, where the distances between some samples show that there are such.

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
