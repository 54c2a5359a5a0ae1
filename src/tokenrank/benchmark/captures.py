"""A model's forward with and without capture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from .. import samples
from ..models import load
from ..trace import capture
from .rows import Row
from .task import Task

PLAIN, OURS = "forward", "forward, captured"
TEXT = "The old bridge was closed because the engineers found deep cracks in it."


def captures(task: Task) -> Iterator[Row]:
    """The section "capture": queries and keys of every layer, over the same forward without.

    The bundled networks; and, unless it is to be quick, a ViT-B/16 with random weights at 224 pixels, whose forward is
    as long as one's own.
    """
    picture = samples.path(samples.names()[0])
    for kind, source in (("image", picture), ("text", TEXT)):
        model = load("bundled", kind=kind)  # type: ignore[arg-type]
        inputs = {name: value.to(task.device) for name, value in model.prepare(source).items()}
        yield from _measured(task, f"bundled network of {kind}s", model.module.to(task.device), inputs)
    if not task.quick:
        module, pixels = _vit()
        yield from _measured(task, "ViT-B/16, 224 px", module.to(task.device), {"pixel_values": pixels.to(task.device)})


def _measured(task: Task, name: str, module: nn.Module, inputs: dict[str, Any]) -> Iterator[Row]:
    def plain() -> None:
        with torch.no_grad():
            module(**inputs)

    def captured() -> None:
        with torch.no_grad(), capture(module):
            module(**inputs)

    found = task.clock.in_turn({PLAIN: plain, OURS: captured}, 3 * task.rounds)
    before, after = found[PLAIN], found[OURS]
    yield Row("capture", name, PLAIN, before.seconds, runs=before.runs)
    yield Row("capture", name, OURS, after.seconds, after.over(before), PLAIN, after.runs)


def _vit() -> tuple[nn.Module, torch.Tensor]:
    import transformers

    g = torch.Generator().manual_seed(0)
    return transformers.ViTModel(transformers.ViTConfig(), add_pooling_layer=False).eval(), torch.randn(
        1, 3, 224, 224, generator=g
    )
