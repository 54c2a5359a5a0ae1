"""Muon for the matrices of the layers, AdamW for everything else, one cosine for both."""

from __future__ import annotations

import math

import torch

from .network import Classifier

ADAMW_LR = 2e-3
MUON_LR = 2e-2
WARMUP_STEPS = 200


def make_optimizers(network: Classifier) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in network.backbone.named_parameters() if p.ndim == 2 and "layer" in name]
    chosen = {id(p) for p in matrices}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(matrices, lr=MUON_LR, weight_decay=0.02, momentum=0.95),
        torch.optim.AdamW(groups, lr=ADAMW_LR, betas=(0.9, 0.98)),
    ]


def set_rates(optimizers: list[torch.optim.Optimizer], step: int, progress: float) -> None:
    """Linear warm-up in steps, then a cosine over ``progress`` (0 … 1 of the time given)."""
    factor = min(1.0, (step + 1) / WARMUP_STEPS) * (0.5 * (1 + math.cos(math.pi * progress)) + 0.01)
    for optimizer, base in zip(optimizers, (MUON_LR, ADAMW_LR), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = base * factor
