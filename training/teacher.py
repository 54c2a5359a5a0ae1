"""The frozen network that is distilled: what its last layer says and where all of its layers attend."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModel


class Taught(NamedTuple):
    """cls (B, D) and patches (B, P, D), standardised; a layer's attention (B, heads, 1 + R + P, 1 + R + P)."""

    cls: Tensor
    patches: Tensor
    attentions: tuple[Tensor, ...]


class Teacher:
    """A vision transformer of transformers (DINOv2, with or without registers) out of a folder.

    Args:
        folder: written by ``save_pretrained``.
        device: of its weights; half precision (bfloat16) on a GPU.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        network: nn.Module = AutoModel.from_pretrained(folder, attn_implementation="eager")
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.network = network.to(device, dtype).eval().requires_grad_(False)
        config = self.network.config
        self.name = f"{config.model_type}, {config.num_hidden_layers} layers, width {config.hidden_size}"
        self.layers, self.heads = int(config.num_hidden_layers), int(config.num_attention_heads)
        self.width, self.patch = int(config.hidden_size), int(config.patch_size)
        self.prefix = 1 + int(getattr(config, "num_register_tokens", 0))
        self.statistics: dict[str, Tensor] = {}

    @torch.no_grad()
    def look(self, pictures: Tensor) -> Taught:
        """What normalised pictures (B, 3, H, W) are to it. The first ones give the statistics that features are
        standardised by, channel by channel, for good."""
        dtype = next(self.network.parameters()).dtype
        seen = self.network(pictures.to(dtype), output_attentions=True)
        hidden = seen.last_hidden_state.float()
        cls, patches = hidden[:, 0], hidden[:, self.prefix :]
        if not self.statistics:
            for name, values in (("cls", cls), ("patches", patches.flatten(0, 1))):
                self.statistics |= {f"{name}.mean": values.mean(0), f"{name}.std": values.std(0) + 1e-3}
        return Taught(self._standard("cls", cls), self._standard("patches", patches), seen.attentions)

    def _standard(self, name: str, values: Tensor) -> Tensor:
        return (values - self.statistics[f"{name}.mean"]) / self.statistics[f"{name}.std"]
