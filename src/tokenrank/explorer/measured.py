"""What storing cost: the chain that a reader makes of a slice, held against the one that was recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..chain import AttentionChain
from ..errors import ChainError
from ..operators import Operator
from .numbers import head_ranks
from .weights import row_blocks

STARTS_ALL = 300  # tokens up to which walks from every token are compared
STARTS = 16  # beyond: from so many tokens whose rows are off most, and as many others
STEPS = (1, 2, 8)
SAME = 1e-9
"""What rounding in double precision may do to an entry, far below what a forgotten term of the logits does."""

MIXED = 2048  # tokens up to which mixtures of heads are compared, too


@dataclass(frozen=True)
class Errors:
    """The worst over heads and their mixtures, of stored against recorded, both in float64.

    Attributes:
        entry: largest |ΔA|.
        bounce: largest ℓ1 of where a walk is after 1, 2 or 8 bounces.
        tokenrank: ℓ1 of TokenRank.
    """

    entry: float
    bounce: float
    tokenrank: float

    def or_worse(self, other: Errors) -> Errors:
        """The worst of both."""
        return Errors(
            max(self.entry, other.entry), max(self.bounce, other.bounce), max(self.tokenrank, other.tokenrank)
        )

    def as_json(self) -> dict[str, float]:
        """Under the names of the index; rounded up to three digits, so that what is said is never too little."""
        return {name: _rounded_up(value) for name, value in vars(self).items()}


NOTHING = Errors(0.0, 0.0, 0.0)


def measured(
    recorded: Operator,
    heads: list[int],
    stored: Callable[[int], Tensor],
    alpha: float,
    mixtures: Sequence[Tensor] = (),
    ranks: Tensor | None = None,
    exact: Callable[[int], Tensor] | None = None,
) -> Errors:
    """Errors of the heads of a layer that are stored, and of their mixtures.

    Every entry of every row is compared, and so is the walk of one bounce from every token; two and eight bounces from
    every token where there are at most ``STARTS_ALL``, from those whose rows are off most and from others beyond. One
    head at a time: two or three matrices (N, N) in float64, and two more for every mixture. TokenRank of a mixture may
    be off by more than that of any of its heads.

    Args:
        recorded: (heads, N, N), what was seen.
        heads: those that are stored.
        stored: place among ``heads`` → (N, N) in float64, decoded from the very bytes that were written.
        alpha: of TokenRank.
        mixtures: weights of those heads, (len(heads),) each, sum one; looked at up to ``MIXED`` tokens.
        ranks: TokenRank of all heads of ``recorded``, (heads, N), where it is known.
        exact: as ``stored``, before anything was rounded: it has to be what was recorded, row by row.

    Raises:
        ChainError: ``exact`` is another chain than was recorded.
    """
    worst, n = NOTHING, recorded.num_tokens
    shares = [share for share in mixtures if len(heads) > 1 and n <= MIXED]
    sums = [torch.zeros(2, n, n, dtype=torch.float64) for _ in shares]
    for place, head in enumerate(heads):
        a = _dense(recorded.index(head))
        if exact is not None:
            _check_same(a, exact(place), head)
        b = stored(place)
        worst = worst.or_worse(_apart(a, b, alpha, None if ranks is None else ranks[head].cpu()))
        for share, mixed in zip(shares, sums, strict=True):
            mixed[0].add_(a, alpha=float(share[place]))
            mixed[1].add_(b, alpha=float(share[place]))
    for a, b in sums:
        worst = worst.or_worse(_apart(a, b, alpha))
    return worst


def _dense(recorded: Operator) -> Tensor:
    a = torch.empty(recorded.shape, dtype=torch.float64)
    for start, rows in row_blocks(recorded):
        a[start : start + len(rows)] = rows
    return a


def _check_same(a: Tensor, exact: Tensor, head: int) -> None:
    for start in range(0, len(a), STARTS_ALL):
        off = float((a[start : start + STARTS_ALL] - exact[start : start + STARTS_ALL].cpu()).abs_().amax())
        if not off <= SAME:
            raise ChainError(
                f"queries and keys of head {head} make another attention than was recorded: off by {off:.2g} in an "
                f"entry from row {start} on, expected at most {SAME:g}; leave it out with layers=, and report it"
            )


def _apart(a: Tensor, b: Tensor, alpha: float, rank: Tensor | None = None) -> Errors:
    """Errors of one chain: recorded (with its TokenRank, where it is known) and stored, (N, N)."""
    n = len(a)
    entry, rows_off = 0.0, torch.empty(n, dtype=torch.float64)
    for start in range(0, n, STARTS_ALL):
        off = (a[start : start + STARTS_ALL] - b[start : start + STARTS_ALL]).abs_()
        entry = max(entry, float(off.amax()))
        rows_off[start : start + STARTS_ALL] = off.sum(-1)
    bounce = float(rows_off.amax())
    x, y, step = a, b, 1
    if n > STARTS_ALL:
        others = torch.linspace(0, n - 1, STARTS).long()
        starts = torch.cat([rows_off.topk(STARTS).indices, others]).unique()
        x, y = a[starts], b[starts]
    while step < max(STEPS):
        # from every token: squares, of which there are fewer
        x, y, step = (x @ x, y @ y, 2 * step) if n <= STARTS_ALL else (x @ a, y @ b, step + 1)
        if step in STEPS:
            bounce = max(bounce, float((x - y).abs().sum(-1).amax()))
    known = _rank(a, alpha) if rank is None else rank
    return Errors(entry, bounce, float((known - _rank(b, alpha)).abs().sum()))


def _rank(matrix: Tensor, alpha: float) -> Tensor:
    return head_ranks(AttentionChain(matrix[None]), alpha)[0].cpu()


def _rounded_up(value: float) -> float:
    if value == 0:
        return 0.0
    digits = float(f"{value:.2e}")
    return digits if digits >= value else float(f"{value * 1.005:.2e}")
