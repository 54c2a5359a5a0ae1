"""Protocols: fixed ways to measure methods, one a file."""

from .base import Protocol
from .imagenet_segmentation import ImageNetSegmentation, VocSingle
from .masking import Masking
from .names import PROTOCOLS, find
from .saliency import Saliency, Seed
from .segmentation import Clustering, Regions
from .segmenters import SEGMENTERS, Segmenter, parse_segmenters
from .several import Several

__all__ = [
    "PROTOCOLS",
    "SEGMENTERS",
    "Clustering",
    "ImageNetSegmentation",
    "Masking",
    "Protocol",
    "Regions",
    "Saliency",
    "Seed",
    "Segmenter",
    "Several",
    "VocSingle",
    "find",
    "parse_segmenters",
]
