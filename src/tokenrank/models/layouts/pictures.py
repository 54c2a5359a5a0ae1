"""Pictures and videos as patches, with the tokens beside them; towers that are given patches instead of pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from ...errors import LayoutError
from ...layout import Grid, TokenLayout
from ...recording import Evidence
from ..preprocess import pair
from .parts import CURE, Inputs, Part, agreeing_rows, joined, picture_part, picture_shapes, shape, total, whole_numbers
from .towers import Extras, Structure, Tower, path, stated

_GRIDS = ("grid_thw", "image_grid_thw", "video_grid_thw")


def measured_grids(evidence: Evidence) -> list[Grid]:
    """The grids of convolutions, each once, in order of appearance."""
    return _distinct(evidence.conv_grids)


def stated_grids(structure: Structure, inputs: Inputs) -> list[Grid]:
    """The size of the one picture among the arguments over the size of a patch; empty where these are not known."""
    shapes = picture_shapes(inputs)
    patch = structure.patch_size if len(shapes) == 1 else None
    if patch is None:
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


def patchified_layout(
    model: nn.Module, num_tokens: int, inputs: Inputs, name: str, tower: Tower | None
) -> TokenLayout | None:
    """The layout in a vision tower whose arguments tell the sizes of its pictures.

    ``spatial_shapes`` (SigLIP 2): patches row by row, then padding. ``grid_thw`` (Qwen-VL): patches
    row by row only where none are merged. ``image_sizes`` (Pixtral): all pictures in one sequence.

    Returns:
        None for any other attention.

    Raises:
        LayoutError: patches in the order of the blocks that are merged later; samples that differ.
    """
    if tower == "text" or tower == "other":
        return None
    if (parts := _shaped(num_tokens, inputs)) is None:
        config = _vision_config(model, name)
        parts = _gridded(model, config, num_tokens, inputs, tower) or _packed(config, num_tokens, inputs)
    return None if parts is None else joined(parts)


def _distinct(grids: Iterable[tuple[int, ...]]) -> list[Grid]:
    known = dict.fromkeys(tuple(map(int, g)) for g in grids if len(g) in (2, 3))
    return list(known)  # type: ignore[arg-type]


def _vision_config(model: nn.Module, name: str) -> Any:
    """The nearest configuration above the attention."""
    config = next((c for module in path(model, name) if (c := stated(module, "config")) is not None), None)
    return getattr(config, "vision_config", None) or config


def _shaped(num_tokens: int, inputs: Inputs) -> list[Part] | None:
    shapes, patches = whole_numbers(inputs, "spatial_shapes"), shape(inputs, "pixel_values")
    if shapes is None or patches is None or len(patches) != 3 or patches[-2] != num_tokens:
        return None
    rows, columns = agreeing_rows(shapes, "spatial_shapes").tolist()
    return [picture_part((rows, columns)), Part("padding", num_tokens - rows * columns)]


def _gridded(model: nn.Module, config: Any, num_tokens: int, inputs: Inputs, tower: Tower | None) -> list[Part] | None:
    arguments = {n: grids for n in _GRIDS if (grids := whole_numbers(inputs, n)) is not None and grids.ndim == 2}
    if tower is None:  # the root itself is the tower only where it takes its argument
        arguments = {n: grids for n, grids in arguments.items() if n == "grid_thw"}
    if not arguments:
        return None
    merge = getattr(config, "spatial_merge_size", None)
    if merge != 1:
        raise LayoutError(
            f"{type(model).__name__} has its patches in the order of the blocks of {merge} × {merge} that it merges "
            f"later, which is not row by row, so that {num_tokens} of its tokens have no grid, expected "
            f"spatial_merge_size = 1; {CURE}{_order_of_blocks(config, merge)}"
        )
    pictures = [(t, r, c) for grids in arguments.values() for t, r, c in grids.tolist()]
    whole = [picture_part((r, c) if t == 1 else (t, r, c)) for t, r, c in pictures]
    if total(whole) == num_tokens:
        return whole
    # attention within single frames: one call a frame, or frames of one size in a batch
    frames = {(r, c) for _, r, c in pictures}
    return [picture_part(next(iter(frames)))] if len(frames) == 1 and _area(frames) == num_tokens else None


def _order_of_blocks(config: Any, merge: Any) -> str:
    """How ``order=`` is written for patches block by block; Qwen2.5-VL brings these into windows besides."""
    if not isinstance(merge, int) or getattr(config, "window_size", None):
        return ""
    return (
        f"; of one picture, block by block, that is order=torch.arange(rows * columns).reshape(rows // {merge}, "
        f"columns // {merge}, {merge}, {merge}).transpose(1, 2).flatten().tolist()"
    )


def _area(frames: set[tuple[int, int]]) -> int:
    rows, columns = next(iter(frames))
    return rows * columns


def _packed(config: Any, num_tokens: int, inputs: Inputs) -> list[Part] | None:
    pixels, patch = shape(inputs, "pixel_values"), pair(getattr(config, "patch_size", None))
    if getattr(config, "model_type", None) != "pixtral" or pixels is None or len(pixels) != 4 or patch is None:
        return None
    sizes, listed = whole_numbers(inputs, "image_sizes"), inputs.get("image_sizes")
    stated = sizes.tolist() if sizes is not None else listed if isinstance(listed, list) else [pixels[-2:]] * pixels[0]
    parts = [picture_part((height // patch[0], width // patch[1])) for height, width in stated]
    return parts if total(parts) == num_tokens else None
