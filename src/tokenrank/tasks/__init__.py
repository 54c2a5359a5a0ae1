"""Tasks that chains are good for: masks, clusters, the object of a picture, times of words, faithfulness."""

from .arrival import arrival
from .cluster import aggregate_resolutions, cluster
from .mask_tokens import mask_pixels, mask_tokens, removal_order
from .refine import bilateral_solver, guided, random_walk
from .saliency import saliency, saliency_map
from .segment import segment
from .segmentation import Segmentation
from .strength import strengths
from .word_times import TimedWord, WordTimes, word_times

__all__ = [
    "Segmentation",
    "TimedWord",
    "WordTimes",
    "aggregate_resolutions",
    "arrival",
    "bilateral_solver",
    "cluster",
    "guided",
    "mask_pixels",
    "mask_tokens",
    "random_walk",
    "removal_order",
    "saliency",
    "saliency_map",
    "segment",
    "strengths",
    "word_times",
]
