"""Top-1 of an exported network on the validation pictures: of its classifier on CLS, and of the patches' mean vote.

python -m training.validate MODEL DATA --sizes 64,96,128,160
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel

from .data import load_split, normalise

SIZES = (64, 96, 128, 160)
SIDE = 64  # of the stored pictures


@torch.no_grad()
def top1(
    backbone: nn.Module, heads: dict[str, Tensor], pictures: Tensor, labels: Tensor, size: int, batch: int = 250
) -> dict[str, float]:
    """Shares of pictures (M, 3, S, S) in uint8, enlarged to ``size``, whose class comes first: "cls" and "patch_vote".

    Args:
        backbone: in evaluation mode; float32.
        heads: ``cls.weight``, ``cls.bias``, ``patch.weight``, ``patch.bias``.
        pictures, labels: (M, 3, S, S), (M,).
        size: pixels of a side.
        batch: pictures at a time.
    """
    device = next(backbone.parameters()).device
    weights = {name: value.float().to(device) for name, value in heads.items()}
    prefix = 1 + int(backbone.config.num_register_tokens)
    cls = vote = 0
    for x, y in zip(pictures.split(batch), labels.to(device).split(batch), strict=True):
        enlarged = F.interpolate(x.to(device).float() / 255, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        hidden = backbone(normalise(enlarged)).last_hidden_state
        logits = F.linear(hidden[:, 0], weights["cls.weight"], weights["cls.bias"])
        votes = F.linear(hidden[:, prefix:], weights["patch.weight"], weights["patch.bias"]).softmax(-1).mean(1)
        cls += int((logits.argmax(-1) == y).sum())
        vote += int((votes.argmax(-1) == y).sum())
    return {"cls": cls / len(labels), "patch_vote": vote / len(labels)}


def validate(folder: Path, data: Path, sizes: tuple[int, ...] = SIZES) -> dict[str, dict[str, float]]:
    """Size in pixels → ``top1`` of the network in ``folder`` on the split "val" of ``data``."""
    backbone = AutoModel.from_pretrained(folder).float().eval()
    heads = load_file(folder / "heads.safetensors")
    pictures, labels = load_split(data, "val", SIDE)
    return {str(size): top1(backbone, heads, pictures, labels, size) for size in sizes}


def whole_numbers(text: str) -> tuple[int, ...]:
    """``"64,128"`` to (64, 128)."""
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", type=whole_numbers, default=SIZES)
    given = parser.parse_args()
    print(json.dumps(validate(given.model, given.data, given.sizes), indent=1))


if __name__ == "__main__":
    main()
