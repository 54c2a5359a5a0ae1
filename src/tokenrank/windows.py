"""The windows of a windowed attention, put together to one chain on the whole picture."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from .errors import CaptureError, LayoutError
from .layout import TokenLayout
from .models.partition import CURE, find_partition, lineage
from .models.windows import Windows, window_index
from .operators import Blocks, from_query_key, from_weights
from .recording import AttentionRecord, Evidence

_HEADS = ("num_attention_heads", "num_heads", "n_heads")


def stitched(
    record: AttentionRecord, model: nn.Module, evidence: Evidence, batch_size: int | None = None
) -> tuple[Blocks, TokenLayout] | None:
    """The chain on all tokens of the picture that a record of windows stands for.

    ``find_windows`` and ``stitch`` in one call.

    Returns:
        The operator (B, H, N, N) and the layout of its tokens; None where the attention is not over windows.
    """
    windows = find_windows(record, model, evidence, batch_size)
    return None if windows is None else (stitch(record, windows), windows.layout)


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
    if not record.is_square or find_partition(model, record.name, n) is None:
        return None
    heads = _heads(record, model) if len(record.shape) == 3 else None
    pictures = _batch_size(record, evidence) if batch_size is None else batch_size
    chains, each = record.shape[:-2].numel(), pictures * (heads or record.shape[-3])
    if chains % each:
        raise LayoutError(
            f"{record.name!r} has {chains} attention matrices, expected a multiple of {each}, {pictures} pictures × "
            f"{each // pictures} heads; {CURE}"
        )
    windows = window_index(model, record.name, chains // each, n, evidence.conv_grids)
    assert windows is not None
    _check_shift(record, windows)
    return replace(windows, heads=heads)


def stitch(record: AttentionRecord, windows: Windows) -> Blocks:
    """The block-diagonal chain (B, H, N, N) of a record, N = W · n tokens in the order of ``windows.layout``.

    Raises:
        CaptureError: the attention has a sink.
        ChainError: as for any chain: a fully masked row, NaN.
    """
    if record.sinks is not None:
        raise CaptureError(f"{record.name!r} has windows with an attention sink, expected windows without; {CURE}")
    count, heads = len(windows.index), windows.heads or record.shape[-3]
    shape = (record.shape[:-2].numel() // (count * heads), count, heads)
    if record.q is None or record.k is None:
        assert record.weights is not None
        return Blocks(from_weights(record.weights.reshape(*shape, *record.shape[-2:])), windows.index)
    q, k = (t.reshape(*shape[:2], -1, *t.shape[-2:]) for t in (record.q, record.k))
    mask = None if record.mask is None else _unflattened(record.mask, len(record.shape), shape)
    return Blocks(from_query_key(q, k, record.scale, mask, record.is_causal), windows.index)


def _heads(record: AttentionRecord, model: nn.Module) -> int:
    """Of a record (B·W·H, n, n): SAM and ViTDet take windows and heads for one dimension."""
    for module in lineage(model, record.name):
        for name in _HEADS:
            if isinstance(found := getattr(module, name, None), int):
                return found
    raise LayoutError(
        f"{record.name!r} has one dimension for windows and heads, {tuple(record.shape)}, and no module names its "
        f"heads, expected {' or '.join(_HEADS)}; {CURE}"
    )


def _batch_size(record: AttentionRecord, evidence: Evidence) -> int:
    shapes = [v for v in evidence.inputs.values() if isinstance(v, torch.Size)]
    counts = {s[0] for s in shapes if len(s) == 4 and 1 <= s[1] <= 4}
    if len(counts) != 1:
        found = f"several, of {sorted(counts)} pictures" if counts else "none"
        raise LayoutError(
            f"how many pictures the windows of {record.name!r} belong to is not known: of arguments of the shape "
            f"(B, channels, height, width) there are {found}, expected one; {CURE}"
        )
    return counts.pop()


def _unflattened(mask: Tensor, ndim: int, shape: tuple[int, int, int]) -> Tensor:
    """A mask that broadcasts to the record's ``ndim`` dimensions as one that broadcasts to (B, W, H, n, n)."""
    mask = mask.reshape((1,) * (ndim - mask.ndim) + mask.shape)
    flat = 6 - ndim  # leading dimensions of (B, W, H) that the record has in one
    if flat == 1:
        return mask
    leading = shape[:flat] if mask.shape[0] > 1 else (1,) * flat
    return mask.reshape(*leading, *mask.shape[1:])


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
