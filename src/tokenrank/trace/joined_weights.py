"""Weights of decoding read as one attention: their zeros tell what keys would tell.

Of q and k it can be seen whether a call attends to the keys of the call before. Weights have only their shapes and
zeros: the last query gives its own key a weight, nobody gives any to the room that a cache keeps for later, and with a
sliding window nobody looks further back than the window. All of that is checked, and what does not fit is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from ..errors import CaptureError
from ..recording import AttentionRecord


def weights_of(record: AttentionRecord) -> Tensor:
    """(…, H, n, m), computed where the record has q and k."""
    return record.to_dense() if record.weights is None else record.weights


def joined_weights(parts: Sequence[AttentionRecord]) -> Tensor:
    """The weights of all calls, rows under rows: (…, H, T, T), or (…, H, T, M) of cross-attention.

    Args:
        parts: a prefill and the calls on its cache, in order.

    Raises:
        CaptureError: they are no calls on one growing cache.
    """
    calls = [weights_of(part) for part in parts]
    if len({call.shape[:-2] for call in calls}) > 1:
        raise _refused(parts, f"their batches and heads differ: {sorted({tuple(c.shape[:-2]) for c in calls})}")
    if is_cross(calls):
        return torch.cat(calls, -2)
    totals = list(accumulate(call.shape[-2] for call in calls))
    calls = [_without_room(call, total, parts) for call, total in zip(calls, totals, strict=True)]
    whole = calls[0].new_zeros(*calls[0].shape[:-2], totals[-1], totals[-1])
    for call, total in zip(calls, totals, strict=True):
        whole[..., total - call.shape[-2] : total, total - call.shape[-1] : total] = call
        if not bool(call[..., -1, -1].any()):
            raise _refused(parts, f"token {total - 1} gives itself no weight in any head, so it is no new one")
    _check_window(whole, calls, totals, parts)
    return whole


def is_cross(calls: Sequence[Tensor]) -> bool:
    """Whether the keys are those of another text: as many in each call, and all of them seen from the beginning."""
    first = calls[0]
    queries, keys = first.shape[-2:]
    if any(call.shape[-1] != keys for call in calls):
        return False
    future = torch.ones(queries, keys, dtype=torch.bool, device=first.device).triu(1)
    sighted = first.masked_fill(~future | blind(first)[..., None], 0)
    return len(calls) > 1 and (keys == 1 or bool(sighted.any()))


def blind(weights: Tensor) -> Tensor:
    """Rows (…, H, N) of queries that may attend to nothing, which softmax makes uniform over all keys, or NaN.

    A uniform row also of a query without preferences: only the zeros of the others tell padding from that.
    """
    low, high = weights.aminmax(dim=-1)
    close = 4 * torch.finfo(weights.dtype).eps
    return low.isnan() | (high == 0) | ((high - low <= close * high) & (weights.shape[-1] > 1))


def has_copies(weights: Tensor) -> bool:
    """Whether neighbours in the batch are alike, as beams are in the beginning."""
    first, second = weights[:-1], weights[1:]
    return weights.ndim > 3 and any(torch.allclose(a, b, atol=1e-6) for a, b in zip(first, second, strict=True))


def begins_anew(weights: Tensor) -> bool:
    """Whether a call on a cache with room, (…, n, M), n > 1, sees no more keys than it has queries: a prefill."""
    queries, keys = weights.shape[-2:]
    beyond = weights[..., queries:].masked_fill(blind(weights)[..., None], 0)
    return 1 < queries < keys and not bool(beyond.any())


def _without_room(call: Tensor, total: int, parts: Sequence[AttentionRecord]) -> Tensor:
    """The keys that exist so far; rows that may attend to nothing lose what they gave to others and become zero."""
    if call.shape[-1] <= total:
        return call
    known, room = call[..., :total], call[..., total:]
    lost = blind(call)[..., None]
    if bool(room.masked_fill(lost, 0).any()):
        raise _refused(parts, f"one sees {call.shape[-1]} keys where there were {total} tokens")
    return known.masked_fill(lost, 0)


def _check_window(
    whole: Tensor, calls: Sequence[Tensor], totals: Sequence[int], parts: Sequence[AttentionRecord]
) -> None:
    """With a sliding window all calls keep equally many old keys, and no row looks further back."""
    before = [total - call.shape[-2] for call, total in zip(calls, totals, strict=True)]
    old = [call.shape[-1] - call.shape[-2] for call in calls]
    cut = [kept for kept, known in zip(old, before, strict=True) if kept < known]
    if not cut:
        return
    back = min(cut)
    if any(kept != min(known, back) for kept, known in zip(old, before, strict=True)):
        raise _refused(parts, f"after {before} tokens they keep {old}, neither all nor always the last {back}")
    rows = torch.arange(whole.shape[-1], device=whole.device)
    outside = rows < rows[:, None] - back
    outside[: calls[0].shape[-2]] &= ~blind(calls[0]).flatten(0, -2).any(0)[:, None]
    if bool((whole * outside).any()):
        raise _refused(parts, f"they keep {back} old tokens, and others were attended to before")


def _refused(parts: Sequence[AttentionRecord], why: str) -> CaptureError:
    return CaptureError(
        f"the {len(parts)} calls of {parts[0].name!r}, of which weights are known, do not continue each other: {why}; "
        "another text, or a cache that was cut or compressed: take one forward call, trace.select(step=…)"
    )
