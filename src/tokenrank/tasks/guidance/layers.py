"""Attention that guidance looks at or perturbs: names of layers, the default of each family, places of the picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...errors import InputError, LayoutError, NotFoundError, nearest
from ...layout import TokenLayout
from ...models.layouts.denoisers import is_cross_attention, joint_layout
from ...recording import Evidence, matches_name
from ...recording.evidence import small

_APART = ("context_refiner", "noise_refiner", "token_refiner", "context_embedder")  # before picture and text meet
_LISTED = "cap_feats"
"""Of Z-Image: one text a sample, each as long as it is, behind the picture."""


@dataclass(frozen=True)
class Place:
    """Where the picture is among the tokens of an attention.

    Attributes:
        start: first of its tokens.
        grid: (rows, columns) of them, row by row.
    """

    start: int
    grid: tuple[int, int]

    @property
    def count(self) -> int:
        """How many tokens."""
        return math.prod(self.grid)

    @property
    def tokens(self) -> slice:
        """Which of the tokens they are."""
        return slice(self.start, self.start + self.count)


def layers_of(denoiser: nn.Module, asked: str | Sequence[str] | None = None) -> tuple[str, ...]:
    """Names of the attention layers that guidance takes, in the order of ``named_modules``.

    By default one: in a UNet the first self-attention of the mid block, as published (of a UNet without attention
    there, the last one on the way down, whose grid is the coarsest); in a transformer the one in the middle of all
    layers over the picture, counted over its kinds of blocks in their order.

    Args:
        denoiser: of a pipeline.
        asked: a name, a name of a module that holds one, or a glob; or several of these.

    Raises:
        NotFoundError: one of ``asked`` meets no attention over the picture; the message has the nearest names.
        InputError: the denoiser has none at all.
    """
    names = over_picture(denoiser)
    if not names:
        raise InputError(
            f"{type(denoiser).__name__} has no attention over the picture, by which it could be guided; expected a "
            "UNet with self-attention or a diffusion transformer"
        )
    if asked is None:
        return (_default(names),)
    if not isinstance(asked, Iterable):
        raise InputError(f"layers = {asked!r}, expected names or globs of attention layers such as {names[0]!r}")
    patterns = [asked] if isinstance(asked, str) else list(asked)
    if not patterns:
        raise InputError("layers = [], expected one name of an attention layer at least")
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise InputError(f"layers has {pattern!r}, expected names of attention layers such as {names[0]!r}")
        if not any(matches_name(pattern, name) for name in names):
            crossed = any(matches_name(pattern, name) for name in _attentions(denoiser))
            why = "attends from the picture to the text alone, or to the text" if crossed else "is no attention layer"
            raise NotFoundError(f"layers: {pattern!r} {why} of {type(denoiser).__name__}; {nearest(pattern, names)}")
    return tuple(name for name in names if any(matches_name(pattern, name) for pattern in patterns))


def over_picture(denoiser: nn.Module) -> list[str]:
    """Names of all self-attention over the picture and joint attention over picture and text."""
    modules = dict(denoiser.named_modules())
    return [
        name
        for name in _attentions(denoiser)
        if not any(part in name.split(".") for part in _APART) and not is_cross_attention(modules[name], name)
    ]


def beside(denoiser: nn.Module, name: str) -> str | None:
    """The cross-attention of the block that a self-attention belongs to; None in joint attention."""
    block = name.rpartition(".")[0]
    modules = dict(denoiser.named_modules())
    others = [n for n in _attentions(denoiser) if n != name and n.rpartition(".")[0] == block]
    return next((other for other in others if is_cross_attention(modules[other], other)), None)


def place_of(
    denoiser: nn.Module, name: str, tokens: int, inputs: dict[str, Any], latents: tuple[int, int] | None
) -> Place:
    """Where the picture is among the ``tokens`` of a layer.

    Args:
        denoiser: of a pipeline.
        name: of the layer.
        tokens: of its keys.
        inputs: what the denoiser was given.
        latents: (rows, columns) of what it was given, where these are a grid: a layer of a UNet has them halved and
            rounded up, some times; one of a transformer divided by its patches.

    Raises:
        LayoutError: nothing that is known has so many tokens.
    """
    layout = _joint(denoiser, name, tokens, inputs)
    if layout is not None:
        start = 0
        for span, count in layout.spans.items():
            grid = layout.grids.get(span)
            if grid is not None:
                rows, columns = grid[-2:]
                if math.prod(grid) != rows * columns:
                    raise InputError(f"{name!r} attends over a video of {grid[0]} frames, expected one picture")
                return Place(start, (rows, columns))
            start += count
    if latents is not None:
        rows, columns = latents
        patch = getattr(getattr(denoiser, "config", None), "patch_size", None)
        if isinstance(patch, int) and (rows // patch) * (columns // patch) == tokens:
            return Place(0, (rows // patch, columns // patch))
        while True:
            if rows * columns == tokens:
                return Place(0, (rows, columns))
            if rows * columns <= 1:
                break
            rows, columns = -(-rows // 2), -(-columns // 2)
    size = "unknown size" if latents is None else f"{latents[0]} × {latents[1]}"
    raise LayoutError(
        f"{name!r} has {tokens} tokens, and it is unknown which of them are the picture (latents of {size}); name "
        "another layer: layers=…"
    )


def place_of_text(
    denoiser: nn.Module, name: str, tokens: int, inputs: dict[str, Any], sample: int = 0
) -> tuple[int, int]:
    """First of the text tokens of joint attention, and how many there are of a sample.

    Raises:
        InputError: attention without text.
    """
    layout, listed = _joint(denoiser, name, tokens, inputs), inputs.get(_LISTED)
    start = 0
    for span, count in () if layout is None else layout.spans.items():
        if span == "text":
            return start, len(listed[sample]) if isinstance(listed, list | tuple) else count
        start += count
    raise InputError(
        f"{name!r} attends to no text, so that no word has a map in it; name a layer of joint attention, or one with "
        "cross-attention beside it"
    )


def _joint(denoiser: nn.Module, name: str, tokens: int, inputs: dict[str, Any]) -> TokenLayout | None:
    """The layout of joint attention; where samples have texts of several lengths, after the picture, of one that fits.

    Raises:
        LayoutError: as ``joint_layout``.
    """
    listed = inputs.get(_LISTED)
    if not isinstance(listed, list | tuple):
        return joint_layout(denoiser, tokens, Evidence(small(inputs)), name)
    lengths = sorted({len(text): text for text in listed}.items(), reverse=True)
    for place, (_, text) in enumerate(lengths):
        try:
            return joint_layout(denoiser, tokens, Evidence(small({**inputs, _LISTED: [text]})), name)
        except LayoutError:
            if place == len(lengths) - 1:
                raise
    return None


def _attentions(denoiser: nn.Module) -> list[str]:
    return [name for name, module in denoiser.named_modules() if name and hasattr(module, "processor")]


def _default(names: list[str]) -> str:
    middle = [name for name in names if name.startswith("mid_block.")]
    if middle:
        return middle[0]
    down = [name for name in names if name.startswith("down_blocks.")]
    return down[-1] if down else names[len(names) // 2]
