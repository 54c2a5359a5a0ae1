"""What the student is told off for: other features, other attention, other classes.

Features: smooth L1 and cosine distance to the teacher's standardised last states, patches and half as much CLS.
Attention: KL(teacher ‖ student), head by head, over the tokens that both have (CLS and patches; registers are cut out
and rows divided by what is left), mean over the layers that are compared. Classes, where pictures have labels:
cross-entropy on CLS; the patches' classifier learns from states that it does not change.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .network import PREFIX, Said, Student
from .teacher import Taught

TINY = 1e-8  # below what half precision tells from nothing
CLASS_WEIGHT = 0.2


def losses(
    student: Student, said: Said, taught: Taught, labels: Tensor | None, layers: Sequence[int], teacher_prefix: int = 1
) -> dict[str, Tensor]:
    """The parts, whose sum is minimised, as scalars: features, attention, and with labels (B,) cls and patch."""
    parts = {
        "features": feature_loss(student.to_patch(said.patches), taught.patches)
        + 0.5 * feature_loss(student.to_cls(said.cls), taught.cls),
        "attention": attention_loss(said.attentions, taught.attentions, layers, teacher_prefix),
    }
    if labels is not None:
        logits = student.patch_head(said.patches.detach())
        parts["cls"] = CLASS_WEIGHT * F.cross_entropy(student.cls_head(said.cls), labels, label_smoothing=0.1)
        parts["patch"] = F.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(logits.shape[1]))
    return parts


def feature_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Smooth L1 plus mean cosine distance, of features (…, D)."""
    return F.smooth_l1_loss(found, wanted) + 1 - F.cosine_similarity(found, wanted, dim=-1).mean()


def attention_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], layers: Sequence[int], teacher_prefix: int = 1
) -> Tensor:
    """Mean KL(teacher ‖ student) in nats of the rows of ``layers``; matrices (B, heads, N, N) with their registers."""
    total = torch.zeros((), device=student[0].device)
    for layer in layers:
        told, asked = common(teacher[layer], teacher_prefix), common(student[layer], PREFIX)
        total = total + (told * ((told + TINY).log() - (asked + TINY).log())).sum(-1).mean()
    return total / len(layers)


def common(attention: Tensor, prefix: int) -> Tensor:
    """CLS and patches of (…, N, N) alone, in float32, rows summing to one: registers 1 … prefix − 1 are cut out."""
    n = attention.shape[-1]
    kept = torch.cat([torch.zeros(1, dtype=torch.long), torch.arange(prefix, n)]).to(attention.device)
    values = attention.index_select(-2, kept).index_select(-1, kept).float()
    return values / values.sum(-1, keepdim=True).clamp(min=TINY)
