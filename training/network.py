"""The student: the architecture that is bundled, its classifiers and the maps to the teacher's width."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from .data import CLASSES

PATCH = 8
PREFIX = 5  # CLS and four registers
SIZE = 192
"""Long side in pixels of a picture where none is said: written into the exported preprocessor."""


class Said(NamedTuple):
    """What the student says: hidden states CLS (B, d) and patches (B, P, d), and every layer's attention."""

    cls: Tensor
    patches: Tensor
    attentions: tuple[Tensor, ...]


class Student(nn.Module):
    """A DINOv3-style ViT with one linear classifier on CLS and one on every patch.

    Args:
        width: of its states; the MLP is four times as wide.
        layers, heads: as the teacher's, so that attention is compared matrix by matrix.
        teacher_width: of the features that it is to foretell.

    Raises:
        ValueError: a width that rotary positions cannot divide.
    """

    def __init__(self, width: int, layers: int, heads: int, teacher_width: int) -> None:
        super().__init__()
        if width % (4 * heads):
            raise ValueError(f"width = {width}, expected a multiple of {4 * heads}: rotary positions halve heads twice")
        config = DINOv3ViTConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            patch_size=PATCH,
            image_size=128,
            num_register_tokens=PREFIX - 1,
            layerscale_value=1.0,
            attn_implementation="eager",  # the weights are compared, so that they have to be made
        )
        self.backbone = DINOv3ViTModel(config)
        self.cls_head, self.patch_head = nn.Linear(width, CLASSES), nn.Linear(width, CLASSES)
        self.to_cls, self.to_patch = nn.Linear(width, teacher_width), nn.Linear(width, teacher_width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=min(0.06, module.in_features**-0.5))

    def forward(self, pictures: Tensor) -> Said:
        """Normalised pictures (B, 3, H, W)."""
        seen = self.backbone(pictures, output_attentions=True)
        hidden = seen.last_hidden_state.float()
        return Said(hidden[:, 0], hidden[:, PREFIX:], seen.attentions)
