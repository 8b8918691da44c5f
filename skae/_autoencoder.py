"""AutoencoderTransformer: parameters, their documentation, public methods."""

import numbers
from functools import partial
from typing import Self

import numpy as np
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skae import _inference
from skae._base import BaseAutoencoder, check_range
from skae._initialization import INITS
from skae._kernels import SCHEDULES
from skae._network import coefs, intercepts, make_network
from skae._passes import ACTIVATIONS, LOSSES, SOLVERS
from skae._rows import dense, make_rows, row_chunks
from skae._sklearn import (
    Interval,
    Options,
    StrOptions,
    _check_sample_weight,
    _fit_context,
    with_callbacks,
)


def _solver_takes_batches(estimator):
    if estimator.solver == "lbfgs":
        raise AttributeError(
            "partial_fit needs a stochastic solver; solver='lbfgs' uses all rows at "
            "once: call fit"
        )
    return True


class AutoencoderTransformer(BaseAutoencoder):
    """Autoencoder: a nonlinear counterpart of PCA, trained on the CPU.

    An encoder network maps each row to a code of `n_components` numbers, a decoder
    network maps codes back to rows; both are trained so that the reconstruction is
    as close to the row as possible. It takes the place of
    :class:`~sklearn.decomposition.PCA` in a pipeline or a grid search.

    Parameters
    ----------
    n_components : int, default=2
        Size of the code.

    hidden_layer_sizes : int, sequence of int or "auto", default="auto"
        Widths of the encoder's layers between input and code; the decoder mirrors
        them. ``()`` leaves no layer but the code. "auto" is ``(100, 50)``, or
        twice the number of principal components where that is more: PCA always fits in.

    activation : str or sequence of str, default="relu"
        Activation of the hidden layers: "identity", "logistic" (or "sigmoid"),
        "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu" or "softplus".
        A sequence names one for each encoder layer; the decoder mirrors it.

    code_activation : str, default="identity"
        Activation of the code. With "identity" the code is ordered; see Notes.

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

    init : {"auto", "pca", "random", "glorot", "he", "lecun", "normal"}, \
            default="auto"
        Where training begins.

        - "pca": the network is PCA, exactly if hidden layers have one of the
          activations but "tanh" and "logistic", and nearly so with these. A layer with
          fewer units than the code carries the leading scores only. With twice as many
          or more, and another activation than "elu" and "selu", rows unlike the
          training rows are reconstructed as by PCA, too. It needs a linear output.
          With more than 1,024 features the components are found by iteration, the
          leading ones most precisely.
        - "glorot", "he", "lecun", "normal": random weights, uniform and scaled as
          Glorot & Bengio (2010), He et al. (2015) or LeCun et al. (1998) say, or
          standard normal. Biases are zero.
        - "random": of these what suits each layer's activation, "he" for the
          rectifier's kin, "lecun" for selu, "glorot" elsewhere.
        - "auto": "pca" where it is exact and the code linear, else "random".

    solver : {"adam", "sgd", "rmsprop", "lbfgs"}, default="adam"
        Optimizer. "lbfgs" uses all rows at every iteration and suits small data.

    alpha : float, default=0.0
        Strength of the L2 penalty: ``alpha / 2`` times the sum of squared weights
        (not biases) is added to the mean loss.

    batch_size : int or "auto", default="auto"
        Rows in a mini-batch. "auto" is 100, or 200 for more than 20,000 rows to
        train on; no more than there are. "lbfgs" ignores it.

    learning_rate : {"auto", "constant", "inverse_time", "invscaling", "adaptive", \
            "cosine"}, default="auto"
        Schedule of the learning rate, `t` being the number of updates so far.

        - "auto": "cosine" in :meth:`fit` if `max_iter` is "auto", else "constant".
        - "constant": `learning_rate_init`.
        - "inverse_time": ``learning_rate_init / (1 + decay * t)``.
        - "invscaling": ``learning_rate_init / (t + 1) ** power_t``.
        - "adaptive": divided by 5 each time that the loss has not improved by `tol`
          for `n_iter_no_change` epochs; training ends when it falls below 1e-6.
        - "cosine": half a cosine from `learning_rate_init` to 0 over the `max_iter`
          epochs of a fit; a warm-started fit begins it anew.

    learning_rate_init : float, default=0.001
        Initial learning rate of "adam", "sgd" and "rmsprop".

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
        Epochs (iterations of "lbfgs") of a fit. "auto" are as many as make 10,000
        updates of the weights, 5,000 for more than 20,000 rows to train on, and 10 at
        least; 200 of "lbfgs".

    shuffle : bool, default=True
        Whether the rows come in a new order in every epoch.

    tol : float, default=1e-4
        Training ends when the loss has not improved by at least `tol` for more than
        `n_iter_no_change` epochs. "lbfgs" ends when no entry of the gradient is
        larger.

    n_iter_no_change : int or np.inf, default=10
        See `tol`.

    early_stopping : bool or "auto", default="auto"
        Whether to stop by the loss of validation rows instead of the training loss:
        those of `X_val` in :meth:`fit`, or else a random share of the training rows.
        "auto" sets rows aside where training starts at PCA, and leaves PCA only for
        weights that are surely better; see Notes. Elsewhere it is False.

    validation_fraction : float, default=0.2
        Share of the training rows that `early_stopping` sets aside, in (0, 1).

    warm_start : bool, default=False
        Whether :meth:`fit` goes on exactly where the last one stopped: two fits of k
        epochs are one of 2k, bit for bit. `mean_` and `scale_` stay as they are.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the order of the rows and the validation
        split. With an int, results are the same bits for every call, whatever the
        number of threads.

    verbose : bool or int, default=False
        Whether to print losses now and then; a number above 1: every epoch.

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

    loss_ : float
        Objective in the last epoch: the mean over samples of the loss, while the
        weights changed, plus the penalty. In the network's units; see Notes.

    best_loss_ : float
        Lowest value of `validation_loss_curve_` where there is one, else of
        `loss_curve_`.

    loss_curve_ : list of float
        `loss_` of every epoch, those of earlier fits included with `warm_start`.

    validation_loss_curve_ : list of float
        Objective over the validation rows after every epoch. Defined only where
        `early_stopping` sets rows aside, or with `X_val`.

    mean_ : ndarray of shape (n_features,)
        Mean of the training data; with :meth:`partial_fit`, of the first batch.

    scale_ : float
        Root mean square of all entries of the centred training data, which the
        network sees divided by it; 1 for constant data and for the losses "log_loss"
        and "poisson".

    explained_variance_ : ndarray of shape (n_components,)
        Variance of the code's entries over the training data, in the units of the
        data, in decreasing order: what linear functions of the code explain, unless
        weights are tied or penalised. Only with ``code_activation="identity"``.

    explained_variance_ratio_ : ndarray of shape (n_components,)
        `explained_variance_` divided by the variance of the data. Unless weights are
        tied or penalised its cumulative sum is the share that is linear in the first
        entries of the code; what :meth:`score` exceeds it by is not. For a network
        without nonlinear layers and ``loss="squared_error"`` it is PCA's. Only with
        ``code_activation="identity"``.

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
    "absolute_error", "huber") the network sees ``(X - mean_) / scale_``, and
    :meth:`inverse_transform` undoes it. `scale_` is one number, so the geometry is
    PCA's, and fitting on ``c * X + d`` gives the same code. Scaling each feature is
    :class:`~sklearn.preprocessing.StandardScaler`'s job, in a pipeline.

    **Order.** With ``code_activation="identity"`` the code has mean zero over the
    training data, its entries are uncorrelated and of decreasing variance, and the
    feature that varies most with an entry increases with it, as for PCA. Where neither
    a tie nor `alpha` sets the scale of the code, the first j entries are those j linear
    functions of the code that explain most of the data linearly (reduced-rank
    regression: Izenman, 1975), and their variance is what they explain. Neighbouring
    weights absorb all this, so that reconstructions do not change. For a network
    without nonlinear layers, the code times `scale_` is PCA's.

    **Which weights are kept.** With ``early_stopping="auto"``, a start at PCA and no
    `X_val`: of some epochs, ever rarer, those whose loss on held-out rows is surely
    lowest, by the lower end of a one-sided 95 % confidence interval of the mean
    difference to PCA's; PCA itself if that is never above zero, if the objective over
    the rows trained on rises, or with fewer than 40 training rows. Mean, scale and PCA
    are those of all rows. Otherwise, with validation rows, the weights of the epoch
    with the lowest validation loss; without, the last epoch's, unless their objective
    exceeds the initial weights': then those of the best epoch.

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

    _parameter_constraints: dict = {
        "n_components": [Interval(numbers.Integral, 1, None, closed="left")],
        "hidden_layer_sizes": [
            StrOptions({"auto"}),
            "array-like",
            Interval(numbers.Integral, 1, None, closed="left"),
        ],
        "activation": [StrOptions(set(ACTIVATIONS)), "array-like"],
        "code_activation": [StrOptions(set(ACTIVATIONS))],
        "output_activation": [StrOptions({"auto", *ACTIVATIONS})],
        "tied_weights": ["boolean"],
        "loss": [StrOptions(set(LOSSES))],
        "init": [StrOptions(set(INITS))],
        "solver": [StrOptions({"lbfgs", *SOLVERS})],
        "alpha": [Interval(numbers.Real, 0, None, closed="left")],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(numbers.Integral, 1, None, closed="left"),
        ],
        "learning_rate": [StrOptions({"auto", *SCHEDULES})],
        "learning_rate_init": [Interval(numbers.Real, 0, None, closed="neither")],
        "decay": [Interval(numbers.Real, 0, None, closed="left")],
        "power_t": [Interval(numbers.Real, 0, None, closed="left")],
        "momentum": [Interval(numbers.Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "beta_1": [Interval(numbers.Real, 0, 1, closed="left")],
        "beta_2": [Interval(numbers.Real, 0, 1, closed="left")],
        "epsilon": [Interval(numbers.Real, 0, None, closed="neither")],
        "max_iter": [
            StrOptions({"auto"}),
            Interval(numbers.Integral, 1, None, closed="left"),
        ],
        "shuffle": ["boolean"],
        "tol": [Interval(numbers.Real, 0, None, closed="left")],
        "n_iter_no_change": [
            Interval(numbers.Integral, 1, None, closed="left"),
            Options(numbers.Real, {np.inf}),
        ],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "validation_fraction": [Interval(numbers.Real, 0, 1, closed="neither")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
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
    ):
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.code_activation = code_activation
        self.output_activation = output_activation
        self.tied_weights = tied_weights
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

    # -- fitted attributes that are views ----------------------------------------

    @property
    def coefs_(self) -> list[np.ndarray]:
        """Weights of the layers, encoder first: a list of (n_in, n_out) arrays."""
        return coefs(*self._fitted_network("coefs_"))

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """Biases of the layers, encoder first: a list of (n_out,) arrays."""
        return intercepts(*self._fitted_network("intercepts_"))

    def _fitted_network(self, attribute="_params"):
        if not hasattr(self, "_params"):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {attribute!r} "
                "before it is fitted"
            )
        return make_network(**self._architecture), self._params

    # -- fitting -------------------------------------------------------------------

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, *, X_val=None) -> Self:
        """Train the autoencoder.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. float32 stays float32; everything else becomes float64.
            A C-ordered array or memory map of either type is not copied; a sparse
            matrix is not made dense.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; None is 1 for every row. A row of weight 2 counts
            as two equal rows.

        X_val : {array-like, sparse matrix} of shape (n_validation, n_features), \
                default=None
            Validation data. Their loss is computed after every epoch, and the
            weights of the best epoch are kept. With `early_stopping` it also ends
            training.

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
            If Ctrl-C ends training. The best weights so far are kept. (A search goes
            on with its next fit.)
        """
        with self._unchanged_on_error():
            saved = getattr(self, "_training_state", None) if self.warm_start else None
            X, sample_weight = self._validate_training_data(X, sample_weight, saved)
            if X_val is not None:
                X_val = self._validate_rows(X_val, dtype=X.dtype)
                check_range(X_val, self.loss, "X_val")
            plan = self._plan(X, sample_weight, saved, X_val=X_val)
            told = {"X": X, "y": y, "metadata": None}
            if sample_weight is not None:
                told["metadata"] = {"sample_weight": sample_weight}
            context = self._begin_callbacks(told, plan.training.solver.max_iter)
            attributes = self._train(plan, context, told)
        self._set_attributes(attributes)
        if context is not None:
            context.call_on_fit_task_end(
                estimator=self, reconstruction_attributes=attributes, **told
            )
        return self

    @available_if(_solver_takes_batches)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None) -> Self:
        """Make one pass over a batch of rows, in mini-batches of `batch_size`.

        The first call, unless it follows a fit, draws the weights and measures
        `mean_` and `scale_`, which then stay as they are: let its batch be
        representative. Nothing is held out, and the last weights are kept; after a
        :meth:`fit`, training goes on from its last weights, too, whichever that kept.
        There is no `partial_fit` with ``solver="lbfgs"``, which needs all rows at once.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Batch of rows.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; None is 1 for every row.

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
        with self._unchanged_on_error():
            saved = getattr(self, "_training_state", None)
            X, sample_weight = self._validate_training_data(X, sample_weight, saved)
            plan = self._plan(X, sample_weight, saved, max_epochs=1)
            return self._set_attributes(self._train_once(plan))

    # -- inference -------------------------------------------------------------------

    def transform(self, X) -> np.ndarray:
        """Encode rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to encode.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_components)
            Their codes. A row's code does not depend on the other rows.
        """
        X = self._check_rows(X, ensure_all_finite=False)
        network, params = self._fitted_network()
        network = _inference.encoder(network)
        name = type(self).__name__
        # Only if need be: it reads X once more, which takes longer than the network.
        check = partial(assert_all_finite, X, estimator_name=name, input_name="X")
        return _inference.propagate(network, params, self._as_rows(X), check=check)

    def inverse_transform(self, X) -> np.ndarray:
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Their reconstructions, in the units of the training data.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=self._params.dtype, order="C")
        if X.shape[1] != self.n_components_:
            raise ValueError(
                f"X has {X.shape[1]} features, but inverse_transform expects codes of "
                f"n_components={self.n_components_}"
            )
        network, params = self._fitted_network()
        network = _inference.decoder(network)
        rows = make_rows(X, np.zeros(self.n_components_), 1.0)
        return _inference.propagate(network, params, rows, self._offset, self.scale_)

    def score(self, X, y=None, sample_weight=None) -> float:
        """Share of the variance that is reconstructed (R²).

        ``1 - sum ||x - x_reconstructed||² / sum ||x - mean_||²``, with the training
        data's mean. For a linear network, over the training data, it is PCA's
        ``explained_variance_ratio_.sum()``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to reconstruct.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in both sums.

        Returns
        -------
        score : float
            At most 1, which is best. 0 where the rows are all equal to the mean but
            their reconstructions are not.
        """
        X = self._check_rows(X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        lost, total = 0.0, 0.0
        for batch, reconstruction in self._reconstructions(X):
            weight = 1.0 if sample_weight is None else sample_weight[batch, np.newaxis]
            chunk = dense(X[batch]).astype(np.float64, copy=False)
            lost += (weight * (chunk - reconstruction) ** 2).sum()
            total += (weight * (chunk - self.mean_) ** 2).sum()
        if total == 0:  # as r2_score
            return 1.0 if lost == 0 else 0.0
        return float(1 - lost / total)

    def reconstruction_error(
        self, X, *, metric="squared_error", per_feature=False
    ) -> np.ndarray:
        """Error of each row's reconstruction.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to reconstruct.

        metric : {"squared_error", "absolute_error", "loss"}, default="squared_error"
            Squared or absolute difference, in the units of X; or the loss that the
            network was trained with, in the network's units.

        per_feature : bool, default=False
            Whether to return the error of every entry, not the rows' sums.

        Returns
        -------
        error : ndarray of shape (n_samples,) or (n_samples, n_features)
            Sums over features, or entries.
        """
        metrics = ("squared_error", "absolute_error", "loss")
        if metric not in metrics:
            raise ValueError(f"metric={metric!r} must be one of {metrics}")
        X = self._check_rows(X)
        shape = X.shape if per_feature else X.shape[:1]
        errors = np.empty(shape, dtype=X.dtype)
        for batch, error in self._entry_errors(X, metric):
            errors[batch] = error if per_feature else error.sum(axis=1)
        return errors

    def score_samples(self, X) -> np.ndarray:
        """Negative squared reconstruction error of each row: higher is more normal.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to reconstruct.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            The negative of :meth:`reconstruction_error`.
        """
        return -self.reconstruction_error(X)

    def _check_rows(self, X, *, ensure_all_finite=True):
        check_is_fitted(self)
        return self._validate_rows(
            X, dtype=self._params.dtype, ensure_all_finite=ensure_all_finite
        )

    def _as_rows(self, X):
        return make_rows(X, self._offset, self.scale_)

    def _reconstructions(self, X):
        network, params = self._fitted_network()
        return _inference.reconstruction_chunks(
            network, params, X, self._offset, self.scale_
        )

    def _entry_errors(self, X, metric):
        """Pairs of a slice of the rows and the errors of their entries."""
        if metric == "loss":
            loss = LOSSES[self._training_state["loss"]]
            network, params = self._fitted_network()
            for batch in row_chunks(*X.shape):
                rows = self._as_rows(X[batch])
                yield batch, _inference.entry_losses(loss, network, params, rows)
            return
        power = 2 if metric == "squared_error" else 1
        for batch, reconstruction in self._reconstructions(X):
            yield batch, np.abs(dense(X[batch]) - reconstruction) ** power
