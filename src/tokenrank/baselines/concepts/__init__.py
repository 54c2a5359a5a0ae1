"""Concept maps by methods of others, restated from their formulas: name(source, words, *, options) → ConceptMaps.

One family a file: cross maps as they are (raw column, expert layer, DAAM), ConceptAttention, iSeg, heads weighed by
themselves, recursive cuts of walks. All take what ``tr.observe`` makes of a picture or a trace and a pipeline.
"""

from .automatic import automatic_heads
from .by_outputs import concept_attention
from .cross import daam, expert_layer, raw_column
from .cuts import walked_ncut
from .iterated import iseg

__all__ = ["automatic_heads", "concept_attention", "daam", "expert_layer", "iseg", "raw_column", "walked_ncut"]
