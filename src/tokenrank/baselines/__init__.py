"""The other methods, one a file, one signature: (model, inputs, target) → TokenMap."""

from .attention_flow import attention_flow
from .attention_gradients import attention_gradients
from .centre_prior import centre_prior
from .cls_row import cls_row
from .column_sum import column_sum
from .deep_spectral import deep_spectral, deep_spectral_mask
from .dino_mass import dino_mass, dino_mass_mask
from .generic_relevance import generic_relevance
from .grad_cam import grad_cam
from .lost import lost, lost_object
from .partial_lrp import partial_lrp
from .pytorch_grad_cam import pytorch_grad_cam
from .random_map import random_map
from .raw_row import raw_row
from .relevance_propagation import attention_relevance
from .rollout import rollout
from .tokencut import tokencut, tokencut_object
from .transformer_attribution import transformer_attribution

__all__ = [
    "attention_flow",
    "attention_gradients",
    "attention_relevance",
    "centre_prior",
    "cls_row",
    "column_sum",
    "deep_spectral",
    "deep_spectral_mask",
    "dino_mass",
    "dino_mass_mask",
    "generic_relevance",
    "grad_cam",
    "lost",
    "lost_object",
    "partial_lrp",
    "pytorch_grad_cam",
    "random_map",
    "raw_row",
    "rollout",
    "tokencut",
    "tokencut_object",
    "transformer_attribution",
]
