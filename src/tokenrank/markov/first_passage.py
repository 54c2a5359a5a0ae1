"""Mean first passage times: how many bounces from each token to each other one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Operator
from .certificate import Certificate
from .engine import constants
from .engine.batching import rows_of, told_groups
from .engine.elimination import eliminate, extended
from .engine.killed import carried, steps_kept, stretch_of, stretched
from .engine.refine import checked_effort
from .engine.sums import rounding
from .hitting import hitting_times
from .result import Result
from .support.reachable import misses


@dataclass(frozen=True, repr=False)
class FirstPassage(Result):
    """Expected bounces between tokens.

    Attributes:
        values: M, float64 (*batch, N, T): bounces from token i until the walk first is on target j. 0 from the
            target itself (the convention of PyDTMC), inf where the walk may miss it.
        return_times: expected bounces from target j until the walk is back on it, (*batch, T); 1/π_j, inf where it
            may not come back (a transient token).
        tokens: the targets, indices (T,).
        certificate: (*batch, T): ``residual`` of M_ij = 1 + Σ_{k≠j} A_ik M_kj and ``error_bound`` of the largest error
            of a finite entry, for each target. Not converged, too, where an infinite entry should be finite: the walk
            is sure to get there, on ways too rare for float64.
    """

    AXES = ("token", "target")
    OVER_TOKENS = (("values", -2),)
    WHOLE = frozenset({"tokens"})
    LABELS = (
        ("values", "bounces until first there"),
        ("return_times", "bounces until back"),
    )

    values: Tensor
    return_times: Tensor
    tokens: Tensor
    certificate: Certificate


def mean_first_passage(
    operator: Operator, tokens: Tensor | None = None, tol: float = 1e-8, max_applies: int = 2000
) -> FirstPassage:
    """M_ij, the expected number of bounces from token i to token j, for all pairs or some targets.

    Args:
        operator: A, (*batch, N, N).
        tokens: targets, indices (T,) in any order; all tokens by default, up to N = 4,096.
        tol, max_applies: for N beyond 4,096, where every target is iterated for; see ``hitting_times``.

    Up to 4,096 tokens without a subtraction, so that entries are accurate one by one even where the chain
    is nearly reducible: for targets in one half of the tokens the other half is censored, with the time spent there
    kept as the holding time of a step, and the same again within the half. All pairs take 2.2 N³ operations,
    about as many as the fundamental matrix M_ij = (Z_jj − Z_ij)/π_j, which cancels.

    Where a walk may miss a target is read from where steps are possible, as masks say, and not from numbers. If a step
    is possible and 0 in float64, and leads to where the time is infinite, nothing is proved and nothing certain.

    Raises:
        ChainError: an index out of range or given twice; all pairs beyond 4,096 tokens; effort that is not
            positive.

    Source: of the quantity, Kemeny and Snell, "Finite Markov Chains" (1960), chapter 4.4; return times: Kac (1947).
    State reduction with holding times: Kohlas, "Numerical computation of mean passage times and absorption
    probabilities in Markov and semi-Markov models" (1986); Hunter, doi:10.1515/spma-2016-0015. The halves are ours.
    """
    checked_effort(tol, max_applies)
    tokens = _checked(operator, tokens)
    if operator.num_tokens > constants.PASSAGE_LARGEST:
        return _one_by_one(operator, tokens, tol, max_applies)
    heads, n, count = math.prod(operator.batch), operator.num_tokens, len(tokens)
    values = torch.empty(heads, n, count, dtype=torch.float64, device=operator.device)
    returns, residual, bound = (values.new_empty(heads, count) for _ in range(3))
    decided = torch.ones_like(bound, dtype=torch.bool)
    flat = operator.reshape(heads)
    errors = torch.stack([flat.row_error(torch.float64), flat.entry_error(torch.float64)])
    for part, group in told_groups(operator, torch.float64, "passage times"):
        size = max(1, constants.DENSE_BYTES // (8 * n * n))
        for start in range(part.start, part.stop, size):
            some = slice(start, min(start + size, part.stop))
            a = group.index(slice(some.start - part.start, some.stop - part.start)).to_dense(torch.float64)
            values[some] = _eliminated(a, tokens)
            asked = flat.index(some)
            possible = asked.support().expand(a.shape)
            if bool((errors[1, some] > 0).any()):
                errors[1, some] = errors[1, some].where(steps_kept(asked, a), torch.inf)
            for head, steps in enumerate(possible):
                decided[some][head] = _as_possible(steps, tokens, values[some][head])
            returns[some], residual[some], bound[some] = _judged(a, possible, tokens, values[some], errors[:, some])
    shape = (*operator.batch, count)
    # accurate entry by entry, unless the operator's own errors are more
    longest = values.masked_fill(values.isinf(), 0.0).amax(1).clamp(min=1)
    converged = (((2 * n * errors[1] <= tol)[:, None] | (bound <= tol * longest)) & decided).reshape(shape)
    residual, bound = residual.reshape(shape), bound.reshape(shape)
    certificate = Certificate(converged, residual, bound, 1, "elimination", about=operator.source)
    return FirstPassage(values.reshape(*operator.batch, n, count), returns.reshape(shape), tokens, certificate)


def _checked(operator: Operator, tokens: Tensor | None) -> Tensor:
    n = operator.num_tokens
    if tokens is None:
        if n > constants.PASSAGE_LARGEST:
            raise ChainError(
                f"all pairs of {n} tokens are {n**2:,} times a chain, expected at most "
                f"{constants.PASSAGE_LARGEST} tokens; name the targets: mean_first_passage(tokens)"
            )
        return torch.arange(n, device=operator.device)
    tokens = tokens.to(operator.device)
    if tokens.dtype != torch.int64 or tokens.ndim != 1 or not len(tokens):
        raise ChainError(f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}, expected indices (T,)")
    if tokens.amin() < 0 or tokens.amax() >= n or len(tokens.unique()) < len(tokens):
        raise ChainError(f"tokens = {tokens.tolist()[:8]}, expected different indices from 0 to {n - 1}")
    return tokens


def _eliminated(a: Tensor, tokens: Tensor) -> Tensor:
    """M (h, N, T) of a dense chain: the targets first, and back into order at the end."""
    rest = torch.ones_like(a[0, 0], dtype=torch.bool)
    rest[tokens] = False
    order = torch.cat([tokens, rest.nonzero()[:, 0]])
    found = _passage(a[:, order][:, :, order], torch.ones_like(a[..., 0]), len(tokens))
    return torch.empty_like(found).index_copy_(1, order, found)


def _passage(q: Tensor, spent: Tensor, count: int) -> Tensor:
    """Times until the first ``count`` states of a walk that spends (h, n) on every step, (h, n, count)."""
    n = q.shape[-1]
    if n <= constants.PASSAGE_LEAF:
        return _leaf(q, spent, count)
    half = n // 2
    first, second = slice(0, half), slice(half, n)
    parts = [_half(q, spent, first, second, min(count, half))]
    if count > half:
        parts.append(_half(q, spent, second, first, count - half))
    return torch.cat(parts, -1)


def _half(q: Tensor, spent: Tensor, kept: slice, rest: slice, count: int) -> Tensor:
    """Targets among the kept states: the walk is watched only there, and remembers how long it was away."""
    back = q[:, rest, kept]
    found = eliminate(q[:, rest, rest], back.sum(-1), torch.cat([back, spent[:, rest, None]], -1))
    returns, away = found[..., :-1], found[..., -1:]
    there = q[:, kept, rest]
    watched = q[:, kept, kept] + there @ returns
    inside = _passage(watched, spent[:, kept] + extended(there, away)[..., 0], count)
    out = q.new_empty(*q.shape[:-1], count)
    out[:, kept], out[:, rest] = inside, away + extended(returns, inside)
    return out


def _leaf(q: Tensor, spent: Tensor, count: int) -> Tensor:
    heads, n = spent.shape
    out = torch.zeros(heads, n, count, dtype=q.dtype, device=q.device)
    if n == 1:
        return out
    others = torch.stack([torch.cat([torch.arange(j), torch.arange(j + 1, n)]) for j in range(count)]).to(q.device)
    target = torch.arange(count, device=q.device)[:, None]
    inside = q[:, others[:, :, None], others[:, None, :]]
    found = eliminate(inside, q[:, others, target], spent[:, others, None])
    out[:, others, target] = found[..., 0]
    return out


def _as_possible(possible: Tensor, tokens: Tensor, m: Tensor) -> Tensor:
    """Writes ∞ into M (N, T) of one chain where the walk may miss a target by its possible steps (N, N).

    Returns for which targets that is all that is infinite, bool (T,): elsewhere float64 cannot tell a way from none.
    """
    endless = torch.isinf(m)
    some = endless.any(0).nonzero()[:, 0]
    decided = torch.ones_like(endless[0])
    if len(some):
        missed = misses(possible, tokens[some])
        m[:, some] = m[:, some].masked_fill(missed, torch.inf)
        decided[some] = ~(endless[:, some] & ~missed).any(0)
    return decided


def _judged(a: Tensor, possible: Tensor, tokens: Tensor, m: Tensor, errors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return times, residuals and bounds of the finite entries, (h, T) each.

    Of targets to which a walk of finite time, or the next way back, has a step (``possible``, (h, N, N)) to where the
    time is infinite, nothing is proved: a step that is lost in A leads as far as that time is long.

    ``errors`` of rows and entries, (2, h).
    """
    onward = extended(a, m)
    endless = torch.isinf(m)
    if bool(endless.any()) and bool((possible & (a == 0)).any()):
        onward = onward.masked_fill(possible.double() @ endless.double() > 0, torch.inf)
    returns = 1 + onward[:, tokens, torch.arange(len(tokens), device=tokens.device)]
    walking = torch.isfinite(m)
    walking[:, tokens, torch.arange(len(tokens), device=tokens.device)] = False
    left = torch.where(walking, 1 + onward - m, 0.0)
    spent = torch.where(walking, m, 0.0)
    heads, n, count = m.shape
    alive, t, off = (v.mT.reshape(heads * count, n) for v in (walking, spent, left))
    residual, longest = left.abs().amax(1), spent.amax(1)
    unit = 2 * rounding(n) + (a.sum(-1) - 1).abs().amax(-1)
    applied, by_rows = (
        stretched(
            residual + (unit + error)[:, None] * longest,
            stretch_of(alive, t, off, (unit + error).repeat_interleave(count)).reshape(heads, count),
        )
        for error in (torch.zeros_like(unit), errors[0])
    )
    # quotients of sums of products of as many entries as tokens walk: see ``Killed.lasting``
    by_entries = applied + carried(longest + applied, 2 * n * errors[1, :, None])
    bound = torch.minimum(by_rows, by_entries)
    return returns, residual, bound


def _one_by_one(operator: Operator, tokens: Tensor, tol: float, max_applies: int) -> FirstPassage:
    n, count = operator.num_tokens, len(tokens)
    found = [hitting_times(operator, torch.arange(n, device=operator.device) == j, tol, max_applies) for j in tokens]
    values = torch.stack([f.values for f in found], -1)
    # a step that is lost leads to where the time is infinite, too
    possible = operator.support().index_select(-2, tokens).expand(*operator.batch, count, n)
    endless = (possible & values.isinf().mT).any(-1)
    onward = (rows_of(operator, tokens) * values.masked_fill(values.isinf(), 0.0).mT).sum(-1)
    returns = torch.where(endless, torch.inf, 1 + onward)
    certificates = [f.certificate for f in found]
    bounds = [c.error_bound for c in certificates if c.error_bound is not None]
    certificate = Certificate(
        torch.stack([c.converged for c in certificates], -1),
        torch.stack([c.residual for c in certificates], -1),
        torch.stack(bounds, -1),
        sum(c.applies for c in certificates),
        certificates[0].method,
        about=operator.source,
    )
    return FirstPassage(values, returns, tokens, certificate)
