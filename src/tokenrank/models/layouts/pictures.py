"""Patches of pictures and videos, with the tokens beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from torch import nn

from ...layout import Grid, TokenLayout
from ...recording import Evidence
from ..geometry import patch_size
from ..prefix import Extras
from .inputs import Inputs, picture_shapes


def measured_grids(evidence: Evidence) -> list[Grid]:
    """The grids of convolutions, each once, in order of appearance."""
    return _distinct(evidence.conv_grids)


def stated_grids(model: nn.Module, inputs: Inputs) -> list[Grid]:
    """The size of the one picture among the arguments over the size of a patch; empty where these are not known."""
    shapes, patch = picture_shapes(inputs), patch_size(model)
    if len(shapes) != 1 or patch is None:
        return []
    rows, columns = shapes[0][-2] // patch[0], shapes[0][-1] // patch[1]
    return [(rows, columns)] if rows and columns else []


def picture(grid: Grid, extras: Extras) -> TokenLayout:
    """One picture or video, with the tokens beside it."""
    span = "video" if len(grid) == 3 else "image"
    return TokenLayout(extras.around(span, math.prod(grid)), {span: grid})


def picture_readings(num_tokens: int, grids: Sequence[Grid], extras: Sequence[Extras]) -> list[TokenLayout]:
    """Every way to make ``num_tokens`` of a grid and the tokens beside it.

    Where a video as a whole does not fit, a frame of it may: models that attend within frames take
    them for a batch.
    """
    whole = [picture(g, e) for e in extras for g in grids if math.prod(g) + e.count == num_tokens]
    if whole:
        return whole
    frames = _distinct(g[1:] for g in grids if len(g) == 3)
    return [picture(g, e) for e in extras for g in frames if math.prod(g) + e.count == num_tokens]


def frame_count(inputs: Inputs) -> int | None:
    """Frames of a video (B, frames, channels, height, width) among the arguments."""
    value = inputs.get("pixel_values")
    shape = tuple(value) if isinstance(value, tuple) else ()
    return shape[1] if len(shape) == 5 else None


def _distinct(grids: Iterable[tuple[int, ...]]) -> list[Grid]:
    known = dict.fromkeys(tuple(map(int, g)) for g in grids if len(g) in (2, 3))
    return list(known)  # type: ignore[arg-type]
