"""Evidence that a forward gives of its tokens: convolution grids, the root's arguments, timestep, guidance."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .origins import NO_PICTURE, Lost, Trail
from .quiet import Unnoticed
from .record import Forward

CONVOLUTIONS: frozenset[Any] = frozenset(
    {torch.conv2d, torch.conv3d, torch.ops.aten.conv2d.default, torch.ops.aten.conv3d.default}
)

_FEW = 64
_SMALL = 2**16  # numbers: a float argument of up to two dimensions is kept, a picture only as its shape


@dataclass
class Evidence:
    """Of one forward call of the root.

    Attributes:
        inputs: argument name → tensor; for large floating-point arguments their shape; numbers and
            lists of numbers as they are; of lists of tensors the shapes.
        conv_grids: (rows, columns) of every conv2d output and (frames, rows, columns) of every
            conv3d output, in order.
        conv_batches: how many pictures each of them holds.
        trails: place of an attention call → which cell of which convolution its tokens were made of, or the reason why
            that was lost; nothing for calls whose tokens come from no picture that was seen. None where nobody looked.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    conv_grids: list[tuple[int, ...]] = field(default_factory=list)
    conv_batches: list[int] = field(default_factory=list)
    trails: dict[int, Trail | Lost] | None = None

    def trail(self, place: int) -> Trail | Lost | None:
        """Of one attention call: a trail without pictures where its tokens come from none, None where nobody looked."""
        return None if self.trails is None else self.trails.get(place, NO_PICTURE)


def bound_inputs(root: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``root``'s forward, by parameter name."""
    try:
        bound = inspect.signature(root.forward).bind(*args, **kwargs)
    except (TypeError, ValueError):  # a call that will fail, or a forward without a signature
        return dict(kwargs)
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            named[name] = value
    return named


def small(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth keeping of arguments: see ``Evidence.inputs``."""
    with Unnoticed():
        tensors = {name: _small(value) for name, value in inputs.items() if isinstance(value, Tensor)}
    listed = {name: [t.shape for t in value] for name, value in inputs.items() if _is_listed(value)}
    return tensors | listed | {name: value for name, value in inputs.items() if _is_plain(value)}


def _is_listed(value: Any) -> bool:
    return isinstance(value, list | tuple) and 0 < len(value) <= _FEW and all(isinstance(v, Tensor) for v in value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= _FEW and all(map(_is_plain, value))
    return isinstance(value, int | float)


def _small(tensor: Tensor) -> Tensor | torch.Size:
    if tensor.is_floating_point() and (tensor.ndim > 2 or tensor.numel() > _SMALL):
        return tensor.shape
    return tensor.detach().clone()


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
