"""Chains of records: with a sink, of windows put together, or plain."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..chain import AttentionChain
from ..errors import CaptureError, LayoutError
from ..layout import TokenLayout
from ..models.partition import CURE, find_partition, lineage
from ..models.windows import Windows, window_index
from ..operators import Blocks, from_query_key, from_weights
from ..recording import AttentionRecord, Evidence

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


SINK = "sink"


def chain_of(record: AttentionRecord, layout: TokenLayout | None, windows: Windows | None = None) -> AttentionChain:
    """The chain of a square record.

    Attention within windows becomes one chain on the whole picture, in which no step leaves its window.

    With a learned sink the chain has one token more, the sink, at place 0: every token goes there
    with the share that the sink takes from the softmax, and stays there. The rows are those of the
    model, so that nothing has to be renormalised; ``chain.restrict("text")`` drops it.

    Raises:
        CaptureError: only the shapes of the record are known (device "meta").
    """
    if any(tensor.is_meta for tensor in record.tensors.values()):
        raise CaptureError(
            f"the record of {record.name!r} holds shapes only, since it is on the device 'meta'; capture again with "
            "another device=, or leave it out"
        )
    if windows is not None:
        return AttentionChain.from_operator(stitch(record, windows), layout or windows.layout)
    if record.q is None or record.k is None:
        assert record.weights is not None
        return AttentionChain(record.weights, layout=layout)
    q, k, mask = record.q, record.k, record.mask
    if record.sinks is not None:
        q, k, mask = _with_sink(record, q, k, record.sinks)
        layout = None if layout is None else sink_layout(layout)
    return AttentionChain.from_qk(q, k, record.scale, mask, record.is_causal, layout=layout)


def sink_layout(layout: TokenLayout) -> TokenLayout:
    """``layout`` with the sink before it."""
    tokens = None if layout.tokens is None else ("<sink>", *layout.tokens)
    special = (0, *(i + 1 for i in layout.special))
    return TokenLayout({SINK: 1, **layout.spans}, layout.grids, tokens, special)


def _with_sink(record: AttentionRecord, q: Tensor, k: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """q, k and mask with the sink as token 0, which sees itself alone.

    The sink's logit of a head becomes one more dimension: every query holds it, the sink's key holds
    one, all other keys zero.
    """
    q, k = q.float(), k.float()
    logit = (sinks.float() / record.scale)[:, None, None].expand(*q.shape[:-1], 1)
    q = _before(torch.cat([q, logit], -1), 0.0)
    k = _before(torch.cat([k, torch.zeros_like(k[..., :1])], -1), 0.0)
    k[..., 0, -1] = 1.0
    mask = record.mask
    if mask is not None or not record.is_causal:
        n = q.shape[-2] - 1
        if mask is None:
            mask = torch.ones(n, n, dtype=torch.bool, device=q.device)
        seen, hidden = (True, False) if mask.dtype == torch.bool else (0.0, -torch.inf)
        mask = mask.expand(*mask.shape[:-2], n, n)
        mask = torch.cat([torch.full_like(mask[..., :1], seen), mask], -1)
        mask = _before(mask, hidden)
        mask[..., 0, 0] = seen
    return q, k, mask


def _before(tensor: Tensor, value: float | bool) -> Tensor:
    """One more row of ``value`` before the others."""
    return torch.cat([torch.full_like(tensor[..., :1, :], value), tensor], -2)


_HIDDEN = 0.5  # of the most negative number of a type: logits below are masked


def allowed(mask: Tensor) -> Tensor:
    """Where a query may attend: bool, from a bool mask or one that is added to the logits."""
    return mask if mask.dtype == torch.bool else mask > _HIDDEN * torch.finfo(mask.dtype).min
