"""A network's matrices as whole steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import BertModel

from tokenrank.models.packed import Packed

from .network import unused_token_types
from .quantise import quantise


@dataclass(frozen=True)
class Steps:
    """How coarse the parts are: a step in root mean squares of its row."""

    embeddings: float = 0.27
    attention: float = 0.27
    feed_forward: float = 0.27

    def of(self, name: str) -> float:
        """For the matrix of this name."""
        if name.startswith("embeddings."):
            return self.embeddings
        return self.attention if ".attention." in name else self.feed_forward


@torch.no_grad()
def packed(network: BertModel, steps: Steps) -> dict[str, Packed | Tensor]:
    """Name → packed matrix, or the tensor as it is; ``network`` gets the weights that were packed."""
    network.load_state_dict(unused_token_types(network.state_dict()))
    told: dict[str, Packed | Tensor] = dict(network.state_dict())
    for name, module in network.named_modules():
        if not isinstance(module, nn.Embedding | nn.Linear) or "token_type" in name or not bool(module.weight.any()):
            continue
        value = quantise(module.weight, steps.of(name))
        told[f"{name}.weight"] = value
        module.weight.copy_(value.values())
    return told
