"""Attention sinks: tokens that take a large part of everybody's attention."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Keyed, Operator, is_everywhere
from .certificate import Certificate
from .result import Result
from .words import counted, range_words

SEEN_BY = 0.25  # part of the queries that must be able to attend to a sink
LIFT = 2.0  # how much more than an even share a sink must take


@dataclass(frozen=True, repr=False)
class Sinks(Result):
    """Incoming attention of every token, and which tokens are sinks.

    Attributes:
        values: mean attention on a token over the queries that may attend to it, float64 (*batch, N): the
            column sum divided by ``queries``; 0 for a token that nobody may attend to.
        share: part of all attention that a token gets, float64 (*batch, N): the column sum divided by N; sums to one.
        lift: the column sum divided by what it would be if every query spread its attention evenly over the
            keys that it may attend to, float64 (*batch, N). Early tokens of causal chains have large means for being
            early (H_N/N on the first for even attention, 0.29 for ten tokens); their lift is 1 then.
        queries: number of queries that may attend to a token, int64 (*batch, N).
        tokens: which tokens are sinks, bool (*batch, N).
        mass: part of all attention that the sinks get together, (*batch).
        threshold: ε.
        certificate: exact.
    """

    AXES = ("token",)
    OVER_TOKENS = (("values", -1), ("share", -1), ("lift", -1), ("queries", -1), ("tokens", -1))
    LABELS = (
        ("values", "mean attention on a token"),
        ("share", "share of all attention"),
        ("lift", "times an even share"),
        ("queries", "queries that may see it"),
        ("tokens", "sinks"),
        ("mass", "attention that sinks get"),
    )

    values: Tensor
    share: Tensor
    lift: Tensor
    queries: Tensor
    tokens: Tensor
    mass: Tensor
    threshold: float
    certificate: Certificate

    def answer_words(self) -> str:
        """How many sinks there are, and what they get."""
        return f"{counted(str(int(self.tokens.sum())), 'sink')} with {range_words(self.mass)} of all attention"

    @property
    def first(self) -> Tensor:
        """Whether the first token is a sink, bool (*batch); its mean over heads is the share of sink heads."""
        return self.tokens[..., 0]


def sinks(operator: Operator, threshold: float = 0.3) -> Sinks:
    """Which tokens of every head are attention sinks.

    A token is one if

    - its mean attention over the queries that may attend to it is above ``threshold`` (ε = 0.3 as in Gu et al.,
      who apply it to the first token of sequences of 64 tokens),
    - it gets at least twice what even attention would give it (``lift`` ≥ 2), so that the first of a few tokens is
      none merely for being early,
    - at least a quarter of the queries may attend to it, so that the last tokens of a causal chain are none
      merely for attending to themselves.

    The last two are ours. One product Aᵀ1 in float64; how many may attend to whom is known without looking for softmax
    without masks and for causal attention, and counted on ``operator.support()`` otherwise (O(N²) bools). Weights given
    as a matrix may attend where they are positive.

    Args:
        operator: (*batch, N, N).
        threshold: ε, 0 … 1.

    Raises:
        ChainError: a threshold outside 0 … 1.

    Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (2023), where sinks get their
    name (cited from memory); Gu et al., "When Attention Sink Emerges in Language Models" (2024):
    α_k = Σ_{i ≥ k} A_ik / (T − k + 1) > ε, as in their published code.
    """
    if not 0 <= threshold <= 1:
        raise ChainError(f"threshold = {threshold!r}, expected a mean attention from 0 to 1, such as 0.3")
    n = operator.num_tokens
    sums = operator.column_sums(torch.float64)
    queries, even = _visible(operator)
    mean = torch.where(queries > 0, sums / queries.clamp(min=1), 0.0)
    lift = torch.where(queries > 0, sums / even.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    tokens = (mean > threshold) & (lift >= LIFT) & (queries >= SEEN_BY * n)
    share = sums / n
    # zero for stored weights, which are exact but for the rounding of sums
    off = torch.expm1(operator.entry_error(torch.float64))
    off = torch.where(off > 0, (off + (n + 8) * torch.finfo(torch.float64).eps) * mean.amax(-1), 0.0)
    exact = Certificate.exact(operator.batch, operator.device, 1, "column sums", operator.source)
    return Sinks(
        values=mean,
        share=share,
        lift=lift,
        queries=queries.expand(sums.shape).clone(),
        tokens=tokens,
        mass=torch.where(tokens, share, 0.0).sum(-1),
        threshold=float(threshold),
        certificate=replace(exact, error_bound=off),
    )


def _visible(operator: Operator) -> tuple[Tensor, Tensor]:
    """Number of queries that see a key, int64, and Σ_i 1/(keys that i sees) over them; (*batch or less, N)."""
    n, device = operator.num_tokens, operator.device
    if isinstance(operator, Keyed) and operator.is_causal and operator.structure == "lower":
        hidden = operator.hidden_keys()
        seen = torch.ones(n, dtype=torch.bool, device=device) if hidden is None else ~hidden
        token = torch.arange(n, device=device)
        even = (1 / seen.cumsum(-1).clamp(min=1).double()).flip(-1).cumsum(-1).flip(-1)
        return torch.where(seen, n - token, 0), torch.where(seen, even, 0.0)
    support = operator.support()
    if is_everywhere(support):
        return torch.full((n,), n, device=device), torch.ones(n, dtype=torch.float64, device=device)
    support = support.expand(*support.shape[:-2], n, n)
    keys = support.sum(-1)
    even = (1 / keys.clamp(min=1).double())[..., None, :] @ support.double()
    return support.sum(-2), even[..., 0, :]


def outshining(shares: Tensor, threshold: float = 0.3) -> Tensor:
    """Tokens that hold so much of a map that it has no other colour left: more than ``threshold`` of it, as a sink of a
    chain is attended to, and at least twice an even share.

    Args:
        shares: a distribution over tokens, (*batch, N); what is no number holds nothing.
        threshold: ε, 0 … 1.

    Returns:
        bool (*batch, N); none where a share is negative, since these are no parts of a whole.
    """
    known = shares.detach().double().nan_to_num(0.0, float("inf"), 0.0)
    whole = known.sum(-1, keepdim=True)
    most = (known > threshold * whole) & (known * known.shape[-1] >= LIFT * whole) & torch.isfinite(whole)
    return most & (known >= 0).all(-1, keepdim=True)
