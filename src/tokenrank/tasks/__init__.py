"""Tasks that chains are good for: masks, clusters, the object of a picture, times of words, faithfulness."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .arrival import arrival
from .cluster import cluster
from .concepts import ConceptMaps, concept_maps
from .guidance import Guidance, guide
from .mask_tokens import mask_pixels, mask_tokens, removal_order
from .refine import bilateral_solver, guided, random_walk
from .resolutions import aggregate_resolutions
from .saliency import saliency, saliency_map
from .segment import segment
from .segmentation import Segmentation
from .strength import strengths
from .word_times import TimedWord, WordTimes, word_times

if TYPE_CHECKING:
    from .guidance.guider import Guider as Guider

__all__ = [
    "ConceptMaps",
    "Guidance",
    "Segmentation",
    "TimedWord",
    "WordTimes",
    "aggregate_resolutions",
    "arrival",
    "bilateral_solver",
    "cluster",
    "concept_maps",
    "guide",
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

_LAZY = {"Guider": ".guidance.guider"}  # a class of diffusers, which is imported where it is used


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
