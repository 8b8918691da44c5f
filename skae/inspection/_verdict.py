"""A comparison of PCA and an autoencoder over code sizes and splits, in words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skae._typing import Floats

# A mean difference is clear if it is larger than this many standard deviations over
# the splits, and large enough to show in a table with three decimals.
_CLEAR_DEVIATIONS = 2
_SMALLEST = 0.0005
# Sentences about the code sizes where the autoencoder is clearly better than PCA,
# clearly worse, neither, and where there is no difference.
_RECONSTRUCTIONS = (
    "The autoencoder reconstructs more of the variance than PCA {where}: {size}.",
    "The autoencoder reconstructs less of the variance than PCA {where}: {size}.",
    "Neither reconstructs clearly more of the variance {where}: {ahead} is ahead by "
    "{size}.",
    "The autoencoder reconstructs as much of the variance as PCA {where}.",
)
_LEVELS = (
    "The autoencoder reconstructs more of the categories correctly than PCA {where}: "
    "by {size}.",
    "PCA reconstructs more of the categories correctly than the autoencoder {where}: "
    "by {size}.",
    "Neither reconstructs clearly more of the categories correctly {where}: {ahead} is "
    "ahead by {size}.",
    "Both reconstruct as many of the categories correctly {where}.",
)
_PREDICTIONS = (
    "The autoencoder's code predicts y better than PCA's {where}: by {size} in {name}.",
    "PCA's code predicts y better than the autoencoder's {where}: by {size} in {name}.",
    "Neither code predicts y clearly better {where}: in {name} that of {ahead} is "
    "ahead by {size}.",
    "PCA's code predicts y as well as the autoencoder's {where}.",
)
# Up to so many code sizes are listed; of more, only the number is given.
_MAX_NAMED = 4


def verdict(
    code_sizes: Sequence[int],
    r2: Sequence[Floats],
    prediction: Sequence[Floats] | None = None,
    reference: Floats | None = None,
    score_name: str = "score",
    *,
    accuracy: Sequence[Floats] | None = None,
) -> str:
    """Return sentences that say which is better at which code size, and by how much.

    Parameters
    ----------
    code_sizes : sequence of int

    r2 : pair of ndarray of shape (n_code_sizes, n_splits)
        Scores of PCA and of the autoencoder.

    prediction : pair of ndarray of shape (n_code_sizes, n_splits), default=None
        Scores of a predictor on their codes.

    reference : ndarray of shape (n_splits,), default=None
        Scores of a predictor on all features; given with `prediction`.

    score_name : str, default="score"
        Name of the predictor's score.

    accuracy : pair of ndarray of shape (n_code_sizes, n_splits), default=None
        Share of the categories that are reconstructed correctly.

    Returns
    -------
    text : str
    """
    sentences = _sentences(_RECONSTRUCTIONS, code_sizes, r2[1] - r2[0])
    if accuracy is not None:
        sentences += _sentences(_LEVELS, code_sizes, accuracy[1] - accuracy[0])
    if prediction is not None and reference is not None:
        gain = prediction[1] - prediction[0]
        sentences += _sentences(_PREDICTIONS, code_sizes, gain, name=score_name)
        sentences.append(_of_reference(code_sizes, prediction, reference, score_name))
    n_splits = r2[0].shape[1]
    sentences.append(
        f"(±: standard deviation over the {n_splits} splits.)"
        if n_splits > 1
        else "(There is one split only, which does not tell how much this varies.)"
    )
    return " ".join(sentences)


def is_clear(gain: Floats) -> bool:
    """Whether the gains in the splits are clearly more than nothing."""
    least = max(_SMALLEST, _CLEAR_DEVIATIONS * gain.std())
    return bool(gain.mean() > least)


def _sentences(
    templates: Sequence[str], code_sizes: Sequence[int], gain: Floats, **words: str
) -> list[str]:
    """Return a sentence for each group of code sizes that is not empty."""
    mean = gain.mean(axis=1)
    better, worse = (np.array([*map(is_clear, s * gain)]) for s in (1, -1))
    is_none = np.abs(mean) <= _SMALLEST
    groups = better, worse, ~better & ~worse & ~is_none, is_none
    return [
        template.format(
            where=_where(code_sizes, group),
            ahead=("PCA", "the autoencoder")[int(mean[_largest(gain, group)] > 0)],
            size=_size(code_sizes, gain, group),
            **words,
        )
        for template, group in zip(templates, map(np.flatnonzero, groups), strict=True)
        if len(group)
    ]


def _of_reference(
    code_sizes: Sequence[int],
    prediction: Sequence[Floats],
    reference: Floats,
    score_name: str,
) -> str:
    # Among scores that look equal, PCA's counts as the best.
    means = np.round([scores.mean(axis=1) for scores in prediction], 3)
    which, size = map(int, np.unravel_index(np.argmax(means), means.shape))
    owner = ("PCA's", "the autoencoder's")[which]
    best = prediction[which][size]
    return (
        f"Without reduction the {score_name} is {_mean_and_deviation(reference)}; the "
        f"best code, {owner} {_components([code_sizes[size]])}, reaches "
        f"{_mean_and_deviation(best)}."
    )


def _largest(gain: Floats, group: NDArray[np.intp]) -> int:
    """Return which code size of a group has the largest mean difference."""
    return int(group[np.argmax(np.abs(gain.mean(axis=1))[group])])


def _size(code_sizes: Sequence[int], gain: Floats, group: NDArray[np.intp]) -> str:
    """Return the largest mean difference, without its sign."""
    largest = _largest(gain, group)
    gains = gain[largest]
    size = _mean_and_deviation(gains * np.sign(gains.mean()))
    if len(group) == 1:
        return size
    return f"up to {size}, {_components([code_sizes[largest]])}"


def _where(code_sizes: Sequence[int], group: NDArray[np.intp]) -> str:
    if len(group) == len(code_sizes) > 1:
        return "at every code size"
    if len(group) > _MAX_NAMED:
        return f"at {len(group)} of {len(code_sizes)} code sizes"
    return _components([code_sizes[i] for i in group])


def _components(code_sizes: Sequence[int]) -> str:
    *first, last = map(str, code_sizes)
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"with {listed} component{'' if listed == '1' else 's'}"


def _mean_and_deviation(scores: Floats) -> str:
    return f"{scores.mean():z.3f} ± {scores.std():.3f}"
