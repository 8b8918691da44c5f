"""The deviance, of which scores of tables are the share that is explained.

The deviance of a number is its squared distance from what is predicted, in units of
the standard deviation of its column. That of a category is the cross-entropy of the
predicted probabilities, divided by the entropy of the frequencies of the levels. Both
are 1 on average if nothing but the mean, or the frequencies, is known, so that each
column counts once.
"""

import numpy as np

from skae._model.groups import (
    Grouped,
    cross_entropies,
    log_frequencies,
    of_units,
    summed_over_groups,
)
from skae._typing import Floats, Scale


def column_scales(spreads: Floats, network: Grouped) -> Floats:
    """Units of the outputs, given their standard deviations: 1 for constant ones.

    The variances of the outputs of a group, which have one unit, sum to 1.
    """
    variances = summed_over_groups(np.square(spreads)[np.newaxis], network)[0]
    scale = of_units(np.sqrt(variances), network)
    return np.where(scale >= np.finfo(np.float64).tiny, scale, 1.0)


def deviance_residuals(
    targets: Floats,
    outputs: Floats,
    network: Grouped,
    mean: Floats,
    scale: Scale,
    weights: Floats | None,
) -> tuple[Floats, Floats]:
    """Residuals of predictions, and of the mean: their squares are deviances.

    Parameters
    ----------
    targets : ndarray of shape (n_rows, n_outputs)
        NaN where values are missing.

    outputs : ndarray of shape (n_rows, n_outputs)
        Predictions; those of groups are logits.

    network : Grouped

    mean : ndarray of shape (n_outputs,)
        Of groups, the frequencies of the levels.

    scale : float, or ndarray of shape (n_outputs,)
        Units of the columns. A number is not used without weights: the deviances are
        squares, as of R².

    weights : ndarray of shape (n_outputs,) or None
        What `unit_weights` gives. Twice the weighted loss of a group is its deviance.

    Returns
    -------
    errors, deviations : ndarray of shape (n_rows, n_plain + n_groups)
    """
    errors, deviations = targets - outputs, targets - mean
    if isinstance(scale, float) and weights is None:
        return errors, deviations
    factors = 1 / np.asarray(scale)
    if weights is not None:
        factors = factors * np.sqrt(weights)
    errors *= factors
    deviations *= factors
    if not network.n_groups or weights is None:
        return errors, deviations
    of_groups, plain = weights[network.groups[:-1]], network.n_plain
    nothing = np.append(np.zeros(plain), log_frequencies(mean, network))
    nothing = np.broadcast_to(nothing, targets.shape)
    parts = (errors, outputs), (deviations, nothing)
    errors, deviations = (
        np.hstack(
            [
                of_numbers[:, :plain],
                np.sqrt(2 * of_groups * cross_entropies(logits, targets, network)),
            ]
        )
        for of_numbers, logits in parts
    )
    return errors, deviations
