"""One chain from many: layers, forward calls and heads of one grid, and what becomes of padding in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ...chain import AttentionChain
from ...errors import InputError
from ...markov import lambda2
from ...observation.observation import DENSE_TOKENS
from ...operators import Bipartite, Operator, Pooled, restrict
from ...progress import track
from ...select import Heads, checked_heads, head_weights
from .word_blocks import Block

Padding: TypeAlias = Literal["censor", "drop", "keep"]
PADDING: tuple[Padding, ...] = ("censor", "drop", "keep")


@dataclass(frozen=True)
class Aggregated:
    """The chain of all blocks of one grid.

    Attributes:
        chain: (N, N) over the picture's tokens and the words, without what padding became.
        grid: (rows, columns).
        words: of each word the indices of its tokens in ``chain``.
        picture: indices of the picture's tokens in ``chain``, row by row.
        count: how many blocks.
        padding_mass: by layer, the mean over its calls.
        treated: what became of padding and special tokens, in words; "" where there are none.
        absorbing: whether walks end in words (cross-attention).
    """

    chain: AttentionChain
    grid: tuple[int, int]
    words: tuple[tuple[int, ...], ...]
    picture: tuple[int, ...]
    count: int
    padding_mass: dict[str, float]
    treated: str
    absorbing: bool


def by_tokens(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks in groups of the same tokens, and so of one grid; the finest grid first."""
    groups: dict[tuple[object, ...], list[Block]] = {}
    for block in blocks:
        layout = block.layout
        key = (*layout.spans.items(), *layout.grids.items(), layout.tokens, layout.order, block.special)
        groups.setdefault(key, []).append(block)
    return sorted(groups.values(), key=lambda group: math.prod(group[0].grid), reverse=True)


def aggregated(blocks: Sequence[Block], words: Sequence[str], heads: Heads, padding: Padding) -> Aggregated:
    """Σ over blocks and heads of w A, blocks evenly, heads as chosen, and its padding censored, dropped or kept.

    A walk on it draws a layer, a call and a head at every step. "censor" watches it only while it is on words and
    picture: steps by way of padding are kept. "drop" is the softmax over words and picture alone, in every head. Where
    walks end in words (cross-attention) they end in padding, too, and never come back: there both are "drop".

    Args:
        blocks: with the same tokens.
        words: of the prompt.
        heads: see ``tokenrank.select.Heads``; "lambda2" by |λ2| on the kept tokens.
        padding: what becomes of padding and special tokens.

    Raises:
        InputError: another ``heads`` or ``padding``. NotFoundError: no such word or head.
    """
    if padding not in PADDING:
        raise InputError(f"padding = {padding!r}, expected 'censor', 'drop' or 'keep'")
    first = blocks[0]
    start = [first.word(word) for word in words]
    removed = sorted(set(first.special) - {token for word in start for token in word})
    kept = sorted(set(range(first.layout.num_tokens)) - set(removed))
    left = torch.tensor(kept)
    absorbing = isinstance(_operator(first), Bipartite)
    how = "drop" if absorbing and padding == "censor" else padding
    parts: list[Callable[[], Operator]] = []
    weights: list[Tensor] = []
    masses: dict[str, list[float]] = {}
    for block in track(blocks, "layers"):
        operator = _operator(block)
        own = _weights(operator, left, heads, block.name)
        weights.append(own / len(blocks))
        parts.append(_part(block, left if removed and how == "drop" else None))
        masses.setdefault(block.name, []).append(_mass(operator, own, removed, first.picture))
    chain = _pooled(parts, weights, first, kept if removed and how == "drop" else None)
    if removed and how == "censor":
        chain = _stored(chain.restrict(kept, how="censor"))
    place = {token: token if how == "keep" else rank for rank, token in enumerate(kept)}
    return Aggregated(
        chain,
        first.grid,
        tuple(tuple(place[token] for token in word) for word in start),
        tuple(place[token] for token in first.picture),
        len(blocks),
        {name: sum(each) / len(each) for name, each in masses.items()},
        f"{len(removed)} padding and special tokens {_TREATED[how]}" if removed else "",
        absorbing,
    )


_TREATED = {"censor": "censored", "drop": "dropped", "keep": "kept"}


def _pooled(
    parts: list[Callable[[], Operator]], weights: list[Tensor], block: Block, kept: Sequence[int] | None
) -> AttentionChain:
    layout = block.layout if kept is None else block.layout.select(kept)
    return _stored(AttentionChain.from_operator(Pooled(parts, weights), layout))


def _stored(chain: AttentionChain) -> AttentionChain:
    """A chain of few tokens as a matrix, which is asked much more quickly."""
    if chain.num_tokens > DENSE_TOKENS:
        return chain
    return AttentionChain(chain.operator.to_dense(torch.float64), chain.layout)


def _weights(operator: Operator, kept: Tensor, heads: Heads, name: str) -> Tensor:
    """What each head counts for, (heads,), sum one."""
    count, moduli = operator.batch[-1], None
    if checked_heads(heads) == "lambda2" and count > 1:
        moduli = lambda2(_restricted(operator, kept), proved=False).values
    return head_weights(heads, moduli, count, name).to(operator.device)


def _mass(operator: Operator, weights: Tensor, removed: Sequence[int], picture: Sequence[int]) -> float:
    """Share of the picture's attention that goes to the removed tokens."""
    if not removed:
        return 0.0
    there = torch.zeros(operator.num_tokens, 1, dtype=operator.dtype, device=operator.device)
    there[list(removed)] = 1
    shares = Pooled([lambda: operator], [weights]).matmul(there)[list(picture), 0]
    return float(shares.double().mean().clamp(0, 1))


def _operator(block: Block) -> Operator:
    return block.make().operator


def _restricted(operator: Operator, kept: Tensor) -> Operator:
    return operator if len(kept) == operator.num_tokens else restrict(operator, kept.to(operator.device))


def _part(block: Block, kept: Tensor | None) -> Callable[[], Operator]:
    if kept is None:
        return lambda: _operator(block)
    return lambda: _restricted(_operator(block), kept)
