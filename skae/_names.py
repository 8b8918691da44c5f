"""Names that parameters take, and suggestions for wrong values."""

import ast
import contextlib
import difflib
import numbers
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from skae._sklearn import InvalidParameterError, StrOptions, make_constraint

# Other libraries' words for the names used here, in letters and digits only. The first
# of a parameter's names that has the synonym is suggested.
_SYNONYMS = {
    # activations
    "identity": "linear lin affine passthrough",
    "sigmoid": "sigm expit hardsigmoid",
    "tanh": "tansig hyperbolictangent hardtanh",
    "relu": "rectifier rectified rectifiedlinear ramp relu6",
    "leaky_relu": "lrelu leaky prelu parametricrelu",
    "silu": "swish hardswish sigmoidlinear",
    "softplus": "softrelu smoothrelu exp exponential",
    # losses and metrics
    "squared_error": "mse mseloss rmse sse ssd l2 square squares squared quadratic "
    "meansquarederror rootmeansquarederror leastsquares gaussian normal euclidean",
    "absolute_error": "mae maeloss mad l1 l1loss abs absolute meanabsoluteerror "
    "laplace manhattan",
    "huber": "smoothl1 smoothl1loss smoothmae pseudohuber logcosh",
    "log_loss": "bce bceloss bcewithlogits bcewithlogitsloss binarycrossentropy "
    "crossentropy xent logistic bernoulli nll",
    "poisson": "poissonnll poissonnllloss poissondeviance count counts",
    # solvers
    "adam": "adamw adamax nadam radam amsgrad",
    "sgd": "gd gradientdescent stochasticgradientdescent momentum nesterov",
    "rmsprop": "rms",
    "lbfgs": "bfgs lbfgsb quasinewton",
    # learning rates
    "constant": "fixed",
    "inverse_time": "inversetimedecay timebased timebaseddecay decay",
    "invscaling": "inversescaling powerlaw",
    "adaptive": "plateau reduceonplateau reducelronplateau",
    "cosine": "cosineannealing cosineannealinglr cosinedecay sgdr",
    # initialization
    "he": "henormal heuniform kaiming kaimingnormal kaiminguniform msra",
    "glorot": "glorotnormal glorotuniform xavier xaviernormal xavieruniform",
    "lecun": "lecunnormal lecununiform",
    "normal": "gaussian randomnormal",
    "pca": "svd principalcomponents",
    # noise
    "gaussian": "gauss normal additive white whitenoise",
    "masking": "mask masked dropout zero zeros zeroing",
    "salt_and_pepper": "saltpepper saltnpepper sp snp impulse",
    # sparsity, pretraining
    "l1": "lasso absolute",
    "kl": "kld kldivergence kullbackleibler",
    "layerwise": "greedy greedylayerwise stacked rbm dbn",
    # parts of a network
    "encoder": "transform code",
    "decoder": "inversetransform",
    "reconstruct": "autoencoder network model full whole both all",
    # what displays draw
    "best": "lowest smallest easiest",
    "worst": "highest largest hardest",
    "strongest": "largest norm",
}
_WORDS = {"none": None, "null": None, "true": True, "false": False, "inf": np.inf}
# Parameters that take names, and those that take the number which belongs to the name.
_NUMBERS = {
    "learning_rate": "learning_rate_init",
    "noise": "noise_level",
    "sparsity": "sparsity_weight",
}
# Values that PCA takes, but an autoencoder does not.
_INSTEAD = (
    " Unlike PCA, an autoencoder needs the size of its code, such as n_components=2, "
    "or the share of the variance that PCA is to explain, such as n_components=0.95."
)
_ONLY_OF_PCA = {"n_components": (None, "mle", "auto")}
_LITERAL = re.compile(r"[-+.,()\[\]\d\s_e]{1,100}", re.IGNORECASE)


class Names(StrOptions):
    """A scikit-learn constraint: one of several names, printed in the given order.

    Parameters
    ----------
    names : iterable of str
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        super().__init__(set(self.names))

    def __str__(self) -> str:
        return f"a str among {{{', '.join(map(repr, self.names))}}}"


def nearest(value: str, names: Sequence[str]) -> str | None:
    """Return the name that a str was probably meant to be, or None."""
    by_letters = {_letters(name): name for name in reversed(names)}
    letters = _letters(value)
    if letters in by_letters:
        return by_letters[letters]
    for name in names:
        if letters in _SYNONYMS.get(name, "").split():
            return name
    found = difflib.get_close_matches(letters, by_letters, n=1)
    return by_letters[found[0]] if found else None


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def hint(value: object, constraints: Iterable[Any]) -> str:
    """Return a question that suggests what a value was meant to be, or "".

    Parameters
    ----------
    value : object
        A value that meets none of the constraints.

    constraints : list
        A parameter's constraints, as in scikit-learn's `_parameter_constraints`.
    """
    names = [name for c in constraints if isinstance(c, Names) for name in c.names]
    if value is True and len(names) == 1:
        return _question(names[0])
    for reading in _readings(value):
        if _is_legal(reading, constraints):
            return _question(reading)
        if isinstance(reading, str):
            name = nearest(reading, names)
            if name is not None:
                return _question(name)
    return ""


def _question(meant: object) -> str:
    return f" Did you mean {meant!r}?"


def _readings(value: Any) -> Iterator[Any]:
    """Yield what a value of a wrong type may stand for, the likeliest first."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
        yield value
    elif isinstance(value, (list, tuple, set)) and len(value) == 1:
        (value,) = value
        yield value
    if isinstance(value, str):
        text = value.strip()
        if text.casefold() in _WORDS:
            yield _WORDS[text.casefold()]
        elif _LITERAL.fullmatch(text):
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return
            yield value
        yield text
    if isinstance(value, float) and value.is_integer():
        yield int(value)


def _is_legal(value: object, constraints: Iterable[Any]) -> bool:
    return any(make_constraint(c).is_satisfied_by(value) for c in constraints)


def check_name(value: object, parameter: str, names: Iterable[str]) -> None:
    """Raise ValueError, with a suggestion, if a value is none of the names."""
    names = tuple(names)
    if not isinstance(value, str) or value not in names:
        raise ValueError(
            f"{parameter}={value!r} must be one of {names}."
            f"{hint(value, [Names(names)])}"
        )


@contextlib.contextmanager
def hints(estimator: Any) -> Iterator[None]:
    """Add a suggestion to errors about an estimator's parameters."""
    try:
        yield
    except InvalidParameterError as error:
        params = estimator.get_params(deep=False)
        question = _hint_of(params, estimator._parameter_constraints)
        error.args = (f"{error}{question}",)
        raise


def _hint_of(params: dict[str, Any], constraints_of: dict[str, Any]) -> str:
    """Return the hint for the first parameter that meets none of its constraints."""
    for parameter, value in params.items():
        constraints = constraints_of.get(parameter, "no_validation")
        if constraints == "no_validation" or _is_legal(value, constraints):
            continue
        if isinstance(value, str | None) and value in _ONLY_OF_PCA.get(parameter, ()):
            return _INSTEAD
        other = _NUMBERS.get(parameter, "")
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if is_number and _is_legal(value, constraints_of.get(other, [])):
            return f" Did you mean {other}={value!r}?"
        return hint(value, constraints)
    return ""
