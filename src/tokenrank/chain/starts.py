"""Where a walk begins: tokens, points, words and masks as a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..errors import ChainError, LayoutError, NotFoundError, nearest
from ..layout import Point, TokenLayout

Start: TypeAlias = "int | str | Point | Sequence[int] | Tensor | np.ndarray"


def start_distribution(start: Start, shape: torch.Size, layout: TokenLayout | None) -> Tensor:
    """A distribution over tokens, (*batch, N) in float64, for chains of shape (*batch, N, N).

    Args:
        start: a token index (negative from the end), several of them, a bool mask (…, N), a
            point of the picture (``tr.at(x, y)``), a span's name, a word, or a distribution
            (…, N) of floats that sums to one. Several tokens share the start evenly.

    Raises:
        ChainError: index out of range, empty mask, not a distribution, wrong number of tokens.
        NotFoundError: no span or word of that name. LayoutError: no layout to find it in.
    """
    batch, n = shape[:-2], shape[-1]
    if isinstance(start, (Point, str)):
        start = _tokens_in(start, layout)
    if isinstance(start, int) and not isinstance(start, bool):
        start = [start]
    given = _as_tensor(start)
    if given.dtype == torch.bool:
        return _even(_checked_width(given, n), batch)
    if given.is_floating_point():
        return _distribution(_checked_width(given, n), batch)
    tokens = token_indices(given.reshape(-1).tolist(), n)
    mask = torch.zeros(n, dtype=torch.bool, device=given.device)
    mask[tokens] = True
    return _even(mask, batch)


def token_indices(tokens: Sequence[int], n: int) -> list[int]:
    """Indices 0 … n−1; negative ones count from the end.

    Raises:
        ChainError: no tokens, or one out of range.
    """
    if not len(tokens):
        raise ChainError("no tokens given, expected at least one index")
    for token in tokens:
        if not -n <= token < n:
            raise ChainError(f"token {token} of a chain of {n} tokens, expected an index from {-n} to {n - 1}")
    return [token % n for token in tokens]


def _as_tensor(start: Start) -> Tensor:
    try:
        given = start if isinstance(start, Tensor) else torch.as_tensor(np.asarray(start))
    except (TypeError, ValueError):
        given = None
    if given is None or given.is_complex():
        raise ChainError(
            f"start {start!r}, expected a token index, a list of them, a bool mask, tr.at(x, y), a span's name, a "
            "word or a distribution"
        )
    if not given.numel():
        raise ChainError("no tokens given, expected at least one index")
    return given


def _tokens_in(start: Point | str, layout: TokenLayout | None) -> list[int]:
    if layout is None:
        raise LayoutError(
            f"start {start!r} needs to know which token is what, and this chain has no layout; pass "
            "layout=tr.TokenLayout(...), or start from a token index"
        )
    if isinstance(start, Point):
        return [layout.token_at(start)]
    if start in layout.spans:
        return list(layout.range(start))
    if layout.tokens is None:
        raise NotFoundError(f"no span {start!r} in this layout; {nearest(start, layout.spans)}")
    return _word(start, layout.tokens)


def _word(word: str, tokens: Sequence[str]) -> list[int]:
    """The one run of tokens that spells ``word``, spaces and sub-word marks aside."""
    target = _plain(word)
    plain = [_plain(token) for token in tokens]
    found = []
    for begin in range(len(plain)):
        text, end = "", begin
        while end < len(plain) and len(text) < len(target):
            text += plain[end]
            end += 1
        if target and text == target and plain[begin]:
            found.append(list(range(begin, end)))
    if not found:
        raise NotFoundError(f"no word {word!r} among the tokens; {nearest(target, dict.fromkeys(filter(None, plain)))}")
    if len(found) > 1:
        where = ", ".join(str(run[0]) for run in found)
        raise LayoutError(f"word {word!r} occurs {len(found)} times, at tokens {where}; start from one of the indices")
    return found[0]


def _plain(token: str) -> str:
    for mark in ("Ġ", "▁", "##", "</w>"):
        token = token.replace(mark, "")
    return token.replace(" ", "").casefold()


def _checked_width(given: Tensor, n: int) -> Tensor:
    if given.ndim == 0 or given.shape[-1] != n:
        raise ChainError(f"start has shape {tuple(given.shape)}, expected (…, {n}): one entry a token")
    return given


def _even(mask: Tensor, batch: torch.Size) -> Tensor:
    counts = mask.sum(-1, keepdim=True)
    if not counts.all():
        raise ChainError("the start mask selects no token, expected at least one")
    return _expanded(mask.double() / counts, batch)


def _distribution(start: Tensor, batch: torch.Size) -> Tensor:
    start = start.double()
    total = start.sum(-1)
    if not torch.isfinite(start).all() or start.amin() < 0 or (total - 1).abs().max() > 1e-4:
        raise ChainError(
            f"the start's entries go from {start.amin().item():.4g} to {start.amax().item():.4g} and sum to "
            f"{total.flatten()[0].item():.6g}, expected a distribution (≥ 0, sum 1); divide it by its sum, or "
            "pass a bool mask"
        )
    return _expanded(start / total[..., None], batch)


def _expanded(start: Tensor, batch: torch.Size) -> Tensor:
    try:
        return start.expand(*batch, -1)
    except RuntimeError:
        raise ChainError(
            f"start has leading dimensions {tuple(start.shape[:-1])}, expected ones that broadcast to {tuple(batch)}"
        ) from None
