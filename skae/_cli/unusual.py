"""How unusual rows are, and what is odd in the most unusual ones."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from skae._outliers.detector import AutoencoderOutlierDetector
from skae._typing import Floats

# So many rows are explained, with the highest scores, and of more than the least those
# that are beyond the detector's limit.
N_LEAST, N_MOST = 5, 500


class Unusual(NamedTuple):
    """Scores of rows by a detector, and contributions of columns to the highest."""

    scores: Floats  # (n_rows,), higher for odd rows
    is_beyond: NDArray[np.bool_]  # (n_rows,), whether beyond the detector's limit
    worst: NDArray[np.intp]  # rows that are explained, with decreasing scores
    blame: Floats  # (n_worst, n_features), contributions to their scores

    @classmethod
    def of(cls, detector: AutoencoderOutlierDetector, X: Any) -> Self:
        """What a fitted detector says of rows."""
        scores = -detector.score_samples(X)
        is_beyond = scores > -detector.offset_
        n_explained = min(max(N_LEAST, np.count_nonzero(is_beyond)), N_MOST)
        worst = np.argsort(-scores, kind="stable")[:n_explained]
        return cls(scores, is_beyond, worst, detector.feature_scores(X[worst]))
