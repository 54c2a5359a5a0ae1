"""Methods that make a map of a picture: name(source, *, options) → TokenMap, one file a family, and their registry."""

from . import concepts as concepts
from .cam import pytorch_grad_cam
from .controls import centre_prior, lattice, random_map
from .flow import attention_flow, rollout
from .gradients import attention_gradients, generic_relevance, grad_cam
from .graphs import deep_spectral, lost, tokencut
from .objects import DiscoveredObject, ForegroundMap, ObjectMap
from .registry import FILLED, Method, methods, register
from .relevance import attention_relevance, partial_lrp, transformer_attribution
from .rows import cls_row, column_sum, dino_mass, raw_row
from .walks import arrival, bounce, cls_bounce, saliency, tokenrank

__all__ = [
    "FILLED",
    "DiscoveredObject",
    "ForegroundMap",
    "Method",
    "ObjectMap",
    "arrival",
    "attention_flow",
    "attention_gradients",
    "attention_relevance",
    "bounce",
    "centre_prior",
    "cls_bounce",
    "cls_row",
    "column_sum",
    "deep_spectral",
    "dino_mass",
    "generic_relevance",
    "grad_cam",
    "lattice",
    "lost",
    "methods",
    "partial_lrp",
    "pytorch_grad_cam",
    "random_map",
    "raw_row",
    "register",
    "rollout",
    "saliency",
    "tokencut",
    "tokenrank",
    "transformer_attribution",
]
