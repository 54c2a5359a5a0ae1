"""Timesteps and the branches of classifier-free guidance, read off a denoiser's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from .forward import Forward
from .quiet import Unnoticed

Branch = Literal["conditional", "unconditional"]
BRANCHES: tuple[Branch, ...] = ("conditional", "unconditional")

TIMESTEPS = ("timestep", "timesteps", "t")
"""Names that denoisers give to it."""


class Guidance:
    """Tells the calls of a denoiser apart.

    Pipelines guide in two ways. Either one call gets the same latents twice on the batch axis, with
    other text beside each half: unconditional first, except where class labels stand in for the
    text (DiT), whose "no class" is the largest label, and where batches are lists (Z-Image). Or two
    calls get the same latents and the same timestep one after the other: conditional first. Both show
    in the arguments, so no pipeline has to be known.
    """

    def __init__(self) -> None:
        self._last: tuple[Forward, list[Tensor], Mapping[str, Any]] | None = None

    def describe(self, forward: Forward, inputs: Mapping[str, Any]) -> None:
        """Fill in timestep and branches of ``forward``, and of the call before where this shows them."""
        with Unnoticed():
            forward.timestep = _timestep(inputs)
            latents = None if forward.timestep is None else _latents(inputs)
            if latents is None:
                self._last = None
                return
            conditions = {name: value for name, value in inputs.items() if name not in (*TIMESTEPS, latents[0])}
            tensors, halves = _tensors(latents[1]), _halves(latents[1])
            if halves is not None and _equal(*halves):
                forward.branches = _branches_of_halves(conditions)
                if not isinstance(latents[1], Tensor):  # Z-Image, whose pipeline puts the prompt first
                    forward.branches = forward.branches[::-1]
            elif self._last is not None:
                before, last, other = self._last
                same = before.timestep == forward.timestep and _equal(last, tensors)
                if same and not before.branches and not _same_conditions(other, conditions):
                    before.branches, forward.branches = ("conditional",), ("unconditional",)
            kept = [t.detach().clone() for t in tensors]  # the sampler may write into its latents
            self._last = forward, kept, conditions

    def forget(self) -> None:
        """Let go of the last call's arguments."""
        self._last = None


def _timestep(inputs: Mapping[str, Any]) -> float | None:
    value = next((inputs[name] for name in TIMESTEPS if inputs.get(name) is not None), None)
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, Tensor) or not value.numel() or value.is_meta:
        return None
    flat = value.detach().flatten()
    return float(flat[0]) if bool((flat == flat[0]).all()) else None


def _latents(inputs: Mapping[str, Any]) -> tuple[str, Any] | None:
    """The first floating argument with a dimension for the batch and two more; lists count as batches."""
    for name, value in inputs.items():
        tensors = _tensors(value)
        if tensors and tensors[0].is_floating_point() and tensors[0].ndim >= 3 and not tensors[0].is_meta:
            return name, value
    return None


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple) and value and all(isinstance(v, Tensor) for v in value):
        return list(value)
    return []


def _halves(value: Any) -> tuple[list[Tensor], list[Tensor]] | None:
    tensors = _tensors(value)
    if len(tensors) == 1 and isinstance(value, Tensor):
        if not value.ndim or value.shape[0] < 2 or value.shape[0] % 2:
            return None
        first, second = value.chunk(2)
        return [first], [second]
    if len(tensors) < 2 or len(tensors) % 2:
        return None
    return tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(
        x.shape == y.shape and x.device == y.device and torch.equal(x, y) for x, y in zip(a, b, strict=True)
    )


def _branches_of_halves(conditions: Mapping[str, Any]) -> tuple[str, ...]:
    """The branches in the order of the batch; () where nothing differs between the halves."""
    for value in conditions.values():
        halves = _halves(value)
        if halves is None or _equal(*halves):
            continue
        first, second = halves
        labels = len(first) == 1 and not first[0].is_floating_point() and first[0].ndim == 1
        if labels and bool((first[0] < second[0]).all()):
            return "conditional", "unconditional"
        return "unconditional", "conditional"
    return ()


def _same_conditions(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    names = [name for name in a if _tensors(a[name])]
    return names == [name for name in b if _tensors(b[name])] and all(
        _equal(_tensors(a[name]), _tensors(b[name])) for name in names
    )
