"""Heads to perturb: named, or the share of them that forgets most slowly."""

from __future__ import annotations

import math

import torch

from ...chain import AttentionChain
from ...errors import InputError
from .layer_attention import Look, heads_over
from .layers import Place
from .settings import Heads


def chosen_heads(heads: Heads, look: Look, place: Place, samples: slice, batch: int) -> tuple[int, ...] | None:
    """Numbers of the heads that ``heads`` means in a layer, increasing; None for all.

    A share of them, such as 0.25, means those of largest |λ2| of their attention over the picture, mean over the
    samples: the heads with groups of tokens that keep to themselves, rather than those that spread over everything at
    once or look at the same few tokens from everywhere.

    Args:
        heads: numbers (negative from the last), a share in (0, 1), or None.
        look: what the layer attended to.
        place, samples, batch: see ``seen.mean_over``.

    Raises:
        InputError: a number of a head that the layer does not have.
    """
    if heads is None:
        return None
    weights = heads_over(look, place, samples, batch) if isinstance(heads, float) else None
    if weights is not None:
        slow = AttentionChain(weights).lambda2(proved=False).values.abs().double().mean(0)
        most = max(1, math.ceil(heads * len(slow) - 1e-9))  # type: ignore[operator]
        return tuple(sorted(int(i) for i in torch.argsort(slow, descending=True, stable=True)[:most]))
    count = head_count(look, batch)
    numbers = [heads] if isinstance(heads, int) else [int(h) for h in heads]  # type: ignore[union-attr]
    wrong = [h for h in numbers if not -count <= h < count]
    if wrong:
        raise InputError(
            f"heads = {heads!r}, but the layer has {count} heads, expected numbers in {-count} … {count - 1}"
        )
    return tuple(sorted({h % count for h in numbers}))


def head_count(look: Look, batch: int) -> int:
    """Heads of the layer that was looked at."""
    if look.call is not None:
        return look.call.query.shape[-3]
    assert look.written is not None
    return look.written.shape[:-2].numel() // batch
