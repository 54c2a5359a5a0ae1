"""Muon for the matrices of the layers, AdamW for everything else, one cosine for both."""

from __future__ import annotations

import math

import torch

from .network import Student

ADAMW_RATE = 2e-3
MUON_RATE = 2e-2
WARMUP_STEPS = 100


def make_optimizers(student: Student, muon: bool) -> list[torch.optim.Optimizer]:
    """Two optimizers; without ``muon`` both are AdamW. (Muon works in bfloat16, which many CPUs only emulate.)"""
    matrices = [p for name, p in student.backbone.named_parameters() if p.ndim == 2 and "layer" in name]
    chosen = {id(p) for p in matrices}
    rest = [p for p in student.parameters() if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    first: torch.optim.Optimizer = (
        torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.02, momentum=0.95)
        if muon
        else torch.optim.AdamW(matrices, lr=ADAMW_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    )
    optimizers = [first, torch.optim.AdamW(groups, lr=ADAMW_RATE, betas=(0.9, 0.98))]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["full_rate"] = group["lr"]
    return optimizers


def set_rates(optimizers: list[torch.optim.Optimizer], step: int, progress: float) -> None:
    """Linear warm-up in steps, then a cosine over ``progress`` (0 … 1 of the time given)."""
    factor = min(1.0, (step + 1) / WARMUP_STEPS) * (0.5 * (1 + math.cos(math.pi * progress)) + 0.005)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["full_rate"] * factor
