"""Classifiers: from what a network returned to logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch.nn.functional as F
from torch import Tensor

Head: TypeAlias = Callable[[Any], Tensor]
"""What a module returned → logits (B, classes), differentiable."""


def own_logits(output: Any) -> Tensor:
    """The logits of a classifier of transformers, or of timm, which returns them bare."""
    return output if isinstance(output, Tensor) else output.logits


def bundled_head(folder: Path) -> Head:
    """The linear classifier on CLS that comes with the bundled model: 200 classes of Tiny-ImageNet."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "heads.safetensors")
    weight, bias = tensors["cls.weight"].float(), tensors["cls.bias"].float()

    def head(output: Any) -> Tensor:
        state = output.last_hidden_state[:, 0]
        return F.linear(state, weight.to(state), bias.to(state))

    return head
