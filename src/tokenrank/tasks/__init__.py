"""What chains are good for: masks, clusters, the object of a picture, faithfulness of a ranking."""

from .bilateral_solver import bilateral_solver
from .cluster import cluster, cluster_chain
from .mask_tokens import mask_pixels, mask_tokens, removal_order
from .masks import Segmentation
from .refine import guided, random_walk
from .resolutions import aggregate_resolutions
from .saliency import saliency, saliency_map
from .segment import segment, segment_chain

__all__ = [
    "Segmentation",
    "aggregate_resolutions",
    "bilateral_solver",
    "cluster",
    "cluster_chain",
    "guided",
    "mask_pixels",
    "mask_tokens",
    "random_walk",
    "removal_order",
    "saliency",
    "saliency_map",
    "segment",
    "segment_chain",
]
