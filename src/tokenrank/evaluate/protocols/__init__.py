"""Protocols: fixed ways to measure methods, one a file."""

from .base import Protocol
from .concept_methods import ConceptMethod, parse_concepts
from .concepts import ConceptSegmentation, VocConcepts
from .diffseg import DiffSeg
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
    "ConceptMethod",
    "ConceptSegmentation",
    "DiffSeg",
    "ImageNetSegmentation",
    "Masking",
    "Protocol",
    "Regions",
    "Saliency",
    "Seed",
    "Segmenter",
    "Several",
    "VocConcepts",
    "VocSingle",
    "find",
    "parse_concepts",
    "parse_segmenters",
]
