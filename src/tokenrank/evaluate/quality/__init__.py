"""Image quality: how near generated pictures are to real ones, in the features of a network.

Inception's numbers (IS, FID, KID, precision, recall) are torch-fidelity's; those of other networks bear their names:
``fd_dinov2-small``, ``kid_bundled``.
"""

from .distances import Gaussian, frechet, inception_score, kernel_distance, precision_recall
from .features import Features, Network, bundled, of_model
from .inception import inception
from .intervals import Difference, Drawn, counts, difference, frechet_drawn, kernel_drawn, score_drawn
from .measure import Quality, measure, probabilities
from .pictures import Pictures, open_pictures
from .stored import extract

__all__ = [
    "Difference",
    "Drawn",
    "Features",
    "Gaussian",
    "Network",
    "Pictures",
    "Quality",
    "bundled",
    "counts",
    "difference",
    "extract",
    "frechet",
    "frechet_drawn",
    "inception",
    "inception_score",
    "kernel_distance",
    "kernel_drawn",
    "measure",
    "of_model",
    "open_pictures",
    "precision_recall",
    "probabilities",
    "score_drawn",
]
