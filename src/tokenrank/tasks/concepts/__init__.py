"""Concept maps: where the words of a prompt are in a picture, by attention that joins text and picture."""

from .concept_maps import concept_maps
from .maps import ConceptMaps
from .refine import Refine
from .segmented import ConceptReading, segment_words

__all__ = ["ConceptMaps", "ConceptReading", "Refine", "concept_maps", "segment_words"]
