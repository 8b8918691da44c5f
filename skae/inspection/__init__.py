"""Plots and tables of what an autoencoder does, like scikit-learn's Displays.

matplotlib is only imported when something is drawn.
"""

from skae.inspection._comparison import compare_with_pca
from skae.inspection._comparison_display import PCAComparisonDisplay
from skae.inspection._components import ComponentsDisplay
from skae.inspection._latent_space import LatentSpaceDisplay
from skae.inspection._latent_walk import LatentWalkDisplay
from skae.inspection._loss_curve import LossCurveDisplay
from skae.inspection._outliers import OutlierDisplay
from skae.inspection._reconstruction import ReconstructionDisplay
from skae.inspection._reconstruction_error import ReconstructionErrorDisplay

__all__ = [
    "ComponentsDisplay",
    "LatentSpaceDisplay",
    "LatentWalkDisplay",
    "LossCurveDisplay",
    "OutlierDisplay",
    "PCAComparisonDisplay",
    "ReconstructionDisplay",
    "ReconstructionErrorDisplay",
    "compare_with_pca",
]


def __dir__() -> list[str]:
    return __all__
