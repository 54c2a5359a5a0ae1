"""Token-labelled CutMix: every patch names the image it was cut from, CLS names the mixture.

The pasted region is a smooth blob, so that a patch can only be labelled by looking at the
patches of the same source; that is what makes the attention follow objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .augment import blob_masks, random_crops
from .data import normalise


@dataclass(frozen=True)
class Mixed:
    """A batch of two-source images: pixels (B, 3, S, S), both labels (B,), and per patch the
    share of the second source (B, S²/patch²)."""

    pixels: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    share: torch.Tensor


def mix(images: torch.Tensor, labels: torch.Tensor, size: int, patch: int) -> Mixed:
    x = random_crops(images, size)
    other = torch.randperm(len(x))
    mask = blob_masks(len(x), size)
    pixels = normalise(mask * x[other] + (1 - mask) * x)
    return Mixed(pixels, labels, labels[other], F.avg_pool2d(mask, patch).flatten(1))


def token_cutmix_loss(
    cls_logits: torch.Tensor, patch_logits: torch.Tensor, batch: Mixed, cls_weight: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of patches (B, N, C) and of CLS (B, C); returns the two unweighted parts'
    weighted sum first and the patch part second (for the log)."""
    patches = _two_label_nll(patch_logits, batch.first, batch.second, batch.share)
    cls = _two_label_nll(cls_logits[:, None], batch.first, batch.second, batch.share.mean(1, keepdim=True))
    return patches + cls_weight * cls, patches


def _two_label_nll(
    logits: torch.Tensor, first: torch.Tensor, second: torch.Tensor, share: torch.Tensor
) -> torch.Tensor:
    log_p = F.log_softmax(logits.float(), -1)

    def nll(label: torch.Tensor) -> torch.Tensor:
        return -log_p.gather(-1, label[:, None, None].expand(-1, logits.shape[1], 1))[..., 0]

    return ((1 - share) * nll(first) + share * nll(second)).mean()
