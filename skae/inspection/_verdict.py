"""A comparison of PCA and an autoencoder over code sizes and splits, in words."""

import numpy as np

# A mean difference is clear if it is larger than this many standard deviations over
# the splits, and than what a table with three decimals shows.
_CLEAR_DEVIATIONS = 2
_SMALLEST = 0.0005
# So many code sizes are named, of more the number is given.
_MAX_NAMED = 4


def verdict(code_sizes, r2, prediction=None, reference=None, score_name="score"):
    """Say which of both is better at which code size, and by how much.

    Parameters
    ----------
    code_sizes : sequence of int

    r2 : pair of ndarray of shape (n_code_sizes, n_splits)
        Scores of PCA and of the autoencoder.

    prediction : pair of ndarray of shape (n_code_sizes, n_splits), default=None
        Scores of a predictor that sees their codes.

    reference : ndarray of shape (n_splits,), default=None
        Scores of a predictor that sees all features; only with `prediction`.

    score_name : str, default="score"
        What the scores of the predictor are.

    Returns
    -------
    text : str
    """
    sentences = _of_reconstructions(code_sizes, r2[1] - r2[0])
    if prediction is not None:
        sentences += _of_predictions(code_sizes, prediction, score_name)
        sentences.append(_of_reference(code_sizes, prediction, reference, score_name))
    n_splits = r2[0].shape[1]
    sentences.append(
        f"(±: standard deviation over the {n_splits} splits.)"
        if n_splits > 1
        else "(There is one split only, which does not tell how much this varies.)"
    )
    return " ".join(sentences)


def _of_reconstructions(code_sizes, gain):
    better, worse, alike = _groups(gain)
    sentences, subject = [], "The autoencoder"
    for group, word in ((better, "more"), (worse, "less")):
        if len(group):
            where, largest = _where(code_sizes, group), _largest(gain, group)
            size = f"{_size(gain[largest])} {word}"
            if len(group) == 1:
                text = f"{size} of the variance than PCA {where}"
            else:
                at = _components([code_sizes[largest]])
                text = f"{word} of the variance than PCA {where}: up to {size}, {at}"
            sentences.append(f"{subject} reconstructs {text}.")
            subject = "It"
    if len(alike) == len(code_sizes):
        where = _where(code_sizes, alike)
        sentences.append(
            f"The autoencoder reconstructs as much of the variance as PCA {where}"
            f"{_within_spread(gain)}."
        )
    elif len(alike):
        where = _where(code_sizes, alike)
        sentences.append(
            f"{where[0].upper()}{where[1:]} it reconstructs as much"
            f"{_within_spread(gain)}."
        )
    return sentences


def _of_predictions(code_sizes, prediction, score_name):
    gain = prediction[1] - prediction[0]
    better, worse, alike = _groups(gain)
    sentences, begin = [], "To predict y, "
    for group, owner in ((better, "the autoencoder's"), (worse, "PCA's")):
        if len(group):
            largest = _largest(gain, group)
            size = _size(gain[largest])
            where, rest = _where(code_sizes, group), ""
            if len(group) > 1:
                size = f"up to {size}"
                rest = f", {_components([code_sizes[largest]])}"
            text = f"{begin}{owner} code is better {where}: {score_name} {size} higher"
            sentences.append(f"{text[0].upper()}{text[1:]}{rest}.")
            begin = ""
    if len(alike):
        where = _where(code_sizes, alike)
        text = (
            f"{begin}PCA's code is as good as the autoencoder's {where}"
            f"{_within_spread(gain)}."
        )
        sentences.append(text)
    return sentences


def _of_reference(code_sizes, prediction, reference, score_name):
    # Of scores that look equal PCA's is the best.
    means = np.round([scores.mean(axis=1) for scores in prediction], 3)
    which, size = np.unravel_index(np.argmax(means), means.shape)
    owner = ("PCA's", "the autoencoder's")[which]
    best = prediction[which][size]
    return (
        f"Without reduction the {score_name} is {_mean_and_deviation(reference)}; the "
        f"best code, {owner} {_components([code_sizes[size]])}, reaches "
        f"{_mean_and_deviation(best)}."
    )


def _within_spread(gain):
    return ", within the spread over the splits" if gain.shape[1] > 1 else ""


def _groups(gain):
    """Return the numbers of the code sizes: clearly better, clearly worse, the rest."""
    mean, deviation = gain.mean(axis=1), gain.std(axis=1)
    is_clear = np.abs(mean) > np.maximum(_CLEAR_DEVIATIONS * deviation, _SMALLEST)
    return (
        np.flatnonzero(is_clear & (mean > 0)),
        np.flatnonzero(is_clear & (mean < 0)),
        np.flatnonzero(~is_clear),
    )


def _largest(gain, group):
    """Return the number of the code size with the largest mean difference."""
    return group[np.argmax(np.abs(gain.mean(axis=1))[group])]


def _where(code_sizes, group):
    if len(group) == len(code_sizes) > 1:
        return "at every code size"
    if len(group) > _MAX_NAMED:
        return f"at {len(group)} of {len(code_sizes)} code sizes"
    return _components([code_sizes[i] for i in group])


def _components(code_sizes):
    *first, last = map(str, code_sizes)
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"with {listed} component{'' if listed == '1' else 's'}"


def _size(gains):
    """Return how large a difference is, whatever its sign."""
    return _mean_and_deviation(gains * np.sign(gains.mean()))


def _mean_and_deviation(scores):
    return f"{scores.mean():z.3f} ± {scores.std():.3f}"
