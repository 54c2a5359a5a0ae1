"""Windows of a picture, and where their tokens stand in it: Swin, SAM, ViTDet, MaxViT and their like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import LayoutError
from ..layout import TokenLayout, Windows
from ..recording import AttentionRecord, Evidence
from .layouts.towers import path
from .partition import CURE, Partition, find_partition

Grid = tuple[int, int]


_HEADS = ("num_attention_heads", "num_heads", "n_heads")


def find_windows(
    record: AttentionRecord, model: nn.Module, evidence: Evidence, batch_size: int | None = None
) -> Windows | None:
    """Which tokens of the picture the windows of a record hold; from shapes alone.

    Args:
        record: (B·W, H, n, n), (B, W, H, n, n) or (B·W·H, n, n): W windows of n tokens of each of B pictures.
        model: the root of the capture.
        evidence: of the record's forward: the pictures' shape and the grids of convolutions.
        batch_size: B; by default that of the picture among the root's arguments.

    Returns:
        None where the attention is not over windows, or not square.

    Raises:
        LayoutError: windows of how many pictures is not known; windows that fit several of the grids that
            were seen, or none; windows in an unknown order, or shifted otherwise since.
    """
    n = record.shape[-1]
    partition = find_partition(model, record.name, n) if record.is_square else None
    if partition is None:
        return None
    heads = _heads(record, model) if len(record.shape) == 3 else None
    pictures = _batch_size(record, evidence) if batch_size is None else batch_size
    chains, each = record.shape[:-2].numel(), pictures * (heads or record.shape[-3])
    if chains % each:
        raise LayoutError(
            f"{record.name!r} has {chains} attention matrices, expected a multiple of {each}, {pictures} pictures × "
            f"{each // pictures} heads; {CURE}"
        )
    windows = place_windows(partition, record.name, chains // each, evidence.conv_grids)
    _check_shift(record, windows)
    return replace(windows, heads=heads)


def place_windows(partition: Partition, name: str, num_windows: int, grids: Sequence[tuple[int, ...]]) -> Windows:
    """Which token of the picture stands where in the windows of an attention.

    Padded places are numbered row by row where they are added: before the roll in transformers and
    torchvision, after it in timm.

    Args:
        partition: how the attention cuts its picture.
        name: of the attention, for the error.
        num_windows: W, windows of one picture.
        grids: (rows, columns) of convolutions that the forward showed, in order.

    Raises:
        LayoutError: no grid that was seen has these windows, or several have.
    """
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


def _heads(record: AttentionRecord, model: nn.Module) -> int:
    """Of a record (B·W·H, n, n): SAM and ViTDet take windows and heads for one dimension."""
    for module in path(model, record.name):
        for name in _HEADS:
            if isinstance(count := getattr(module, name, None), int):
                return count
    raise LayoutError(
        f"{record.name!r} has one dimension for windows and heads, {tuple(record.shape)}, and no module names its "
        f"heads, expected {' or '.join(_HEADS)}; {CURE}"
    )


def _batch_size(record: AttentionRecord, evidence: Evidence) -> int:
    shapes = [v for v in evidence.inputs.values() if isinstance(v, torch.Size)]
    counts = {s[0] for s in shapes if len(s) == 4 and 1 <= s[1] <= 4}
    if len(counts) != 1:
        known = f"several, of {sorted(counts)} pictures" if counts else "none"
        raise LayoutError(
            f"how many pictures the windows of {record.name!r} belong to is not known: of arguments of the shape "
            f"(B, channels, height, width) there are {known}, expected one; {CURE}"
        )
    return counts.pop()


def _check_shift(record: AttentionRecord, windows: Windows) -> None:
    """Swin masks the windows differently where they are shifted, and only there."""
    if windows.shift is None or len(windows.index) == 1 or record.q is None:
        return
    differ = record.mask is not None and record.mask.ndim > 3 and record.mask.shape[:-3].numel() > 1
    if differ != any(windows.shift):
        rows, columns = windows.shift
        raise LayoutError(
            f"{record.name!r} is shifted by {rows} rows and {columns} columns now, and its windows were masked "
            f"{'differently' if differ else 'alike'} when it ran, expected masks that differ where the shift is not "
            f"zero: its shift_size has changed since; capture one size of pictures at a time; {CURE}"
        )
