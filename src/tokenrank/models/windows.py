"""Where the tokens of windows stand in the picture: Swin, SAM, ViTDet, MaxViT and their like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import LayoutError
from ..layout import TokenLayout
from .partition import CURE, Partition, find_partition

Grid = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Windows of one picture.

    Attributes:
        index: (W, n) int64, a permutation of 0 … W·n − 1: index[w, i] is the token of the whole sequence
            at place i of window w.
        layout: of the whole sequence: the picture row by row (span "image"), then the places that were
            added to fill the last windows (span "padding"; the model attends to them).
        shift: (rows, columns) by which the picture was rolled back; None where the model names no shift.
        heads: of the attention, where its records have windows and heads in one dimension.
    """

    index: Tensor
    layout: TokenLayout
    shift: tuple[int, int] | None = None
    heads: int | None = None


def window_index(
    model: nn.Module, name: str, num_windows: int, num_tokens: int, grids: Sequence[tuple[int, ...]]
) -> Windows | None:
    """Which token of the picture stands where in the windows of an attention.

    Padded places are numbered row by row where they are added: before the roll in transformers and
    torchvision, after it in timm.

    Args:
        model: the module that ran.
        name: of its attention.
        num_windows: W, windows of one picture.
        num_tokens: n, tokens of a window.
        grids: (rows, columns) of convolutions that the forward showed, in order.

    Returns:
        None where neither the attention nor a module above it names a window of ``num_tokens`` tokens.

    Raises:
        LayoutError: no grid that was seen has these windows, or several have; or the windows are in an
            order that is not known (``find_partition``).
    """
    partition = find_partition(model, name, num_tokens)
    if partition is None:
        return None
    candidates = _stage_grids(partition, grids)
    fitting = [g for g in candidates if _count(partition, g) == num_windows]
    if len(fitting) != 1:
        rows, columns = partition.size
        seen = " or ".join(f"{r} × {c} ({_count(partition, (r, c))} windows)" for r, c in fitting or candidates)
        raise LayoutError(
            f"{'ambiguous' if fitting else 'unknown'} layout of {name!r}: {num_windows} windows of {rows} × {columns} "
            f"tokens a picture, and the grids of patches that were seen are {seen or 'none'}; expected one with "
            f"{num_windows} windows; {CURE}"
        )
    return _cut(partition, fitting[0], name)


def _stage_grids(partition: Partition, grids: Sequence[tuple[int, ...]]) -> list[Grid]:
    """Grids of patches that the attention may have seen."""
    pictures = list(dict.fromkeys((g[0], g[1]) for g in grids if len(g) == 2))
    if partition.mergings is None:
        return pictures
    half = 2**partition.mergings  # rounding up once equals rounding up at every halving
    return [(-(-r // half), -(-c // half)) for r, c in pictures[:1]]  # the first is the patch embedding's


def _padded(partition: Partition, grid: Grid) -> Grid:
    (rows, columns), (height, width) = partition.size, grid
    return -(-height // rows) * rows, -(-width // columns) * columns


def _count(partition: Partition, grid: Grid) -> int:
    """Windows of a picture of ``grid`` patches; 0 where it cannot be cut."""
    padded = _padded(partition, grid)
    if padded != grid and not partition.pads:
        return 0
    return padded[0] // partition.size[0] * (padded[1] // partition.size[1])


def _cut(partition: Partition, grid: Grid, name: str) -> Windows:
    padded, (rows, columns) = _padded(partition, grid), partition.size
    shift = partition.shift or (0, 0)
    if partition.still:
        shift = (shift[0] if padded[0] > rows else 0, shift[1] if padded[1] > columns else 0)
    back = (-shift[0], -shift[1])
    tokens = torch.arange(grid[0] * grid[1]).view(grid)
    if any(shift) and padded != grid and partition.order is None:
        raise LayoutError(
            f"unknown layout of {name!r}: its picture of {grid[0]} × {grid[1]} patches is padded to {padded[0]} × "
            f"{padded[1]} and shifted by {shift[0]} × {shift[1]}, and which of them comes first is known only of "
            f"transformers, timm and torchvision; expected sizes that need no padding; {CURE}"
        )
    if partition.order == "roll, pad":
        places = _filled(tokens.roll(back, (0, 1)), padded)
    else:
        places = _filled(tokens, padded).roll(back, (0, 1))
    height, width = padded[0] // rows, padded[1] // columns
    if partition.dilated:
        windows = places.view(rows, height, columns, width).permute(1, 3, 0, 2)
    else:
        windows = places.view(height, rows, width, columns).transpose(1, 2)
    layout = TokenLayout({"image": tokens.numel(), "padding": places.numel() - tokens.numel()}, {"image": grid})
    return Windows(windows.reshape(height * width, rows * columns), layout, partition.shift and shift)


def _filled(tokens: Tensor, padded: Grid) -> Tensor:
    """``tokens`` (rows, columns) with the numbers after them, row by row, in the places added to reach ``padded``."""
    places = F.pad(tokens, (0, padded[1] - tokens.shape[1], 0, padded[0] - tokens.shape[0]), value=-1)
    added = places < 0
    places[added] = torch.arange(tokens.numel(), places.numel())
    return places
