"""Tasks that chains are good for: masks, clusters, the object of a picture, faithfulness of a ranking."""

from .cluster import aggregate_resolutions, cluster
from .mask_tokens import mask_pixels, mask_tokens, removal_order
from .refine import bilateral_solver, guided, random_walk
from .saliency import saliency, saliency_map
from .segment import segment
from .segmentation import Segmentation
from .strength import strengths

__all__ = [
    "Segmentation",
    "aggregate_resolutions",
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
]
