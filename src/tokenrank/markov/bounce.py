"""Bounces: where n steps of the walk lead, and after how many half of the start is forgotten."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import WEIGHTS, Operator
from .certificate import Certificate
from .engine.batching import head_groups
from .engine.certify import certified_step
from .result import Result
from .words import counted

Bounces = int | Literal["halflife"]  # how many, or the half-life of every head

LIMIT = 64  # bounces; beyond that TokenRank is the question
LOOKS = (2, 4, 8, 16, 32)  # steps after which a device is waited for, to see whether half is forgotten
FORGOTTEN = 1e-9  # nats; one bounce that tells less tells nothing
STEP = (
    1e-6  # what a bounce on a device may add to the ℓ1 error: as much as the rounding of an answer in float32, tenfold
)
SUM_TOLERANCE = 1e-4  # of a start given in single precision


def bounces(operator: Operator, start: Tensor, n: int, each: Tensor | None = None) -> Iterator[Tensor]:
    """vᵀAᵏ for k = 0 … n, one after the other, (*batch, N) each.

    ``start`` (*batch, N) is v, a distribution over tokens; or several for every chain, (*starts, *batch, N), which
    move together, as columns of one product; so do the answers lie then. With ``each`` (*starts, *batch) a walk rests
    after so many bounces of its own. k = 1 from a single token is that token's row of A; k = 1 from the uniform
    distribution is the column sum over N; the limit is TokenRank ("Attention (as Discrete-Time Markov) Chains",
    multi-bounce attention).
    """
    yield start
    v = _columns(operator, start)
    rests = None if each is None else _columns(operator, each[..., None])
    for k in range(1, n + 1):
        moved = operator.T @ v
        v = moved if rests is None else torch.where(k <= rests, moved, v)
        yield _rows(v, start.shape)


def certified_bounces(
    operator: Operator, start: Tensor, n: int, each: Tensor | None = None, tol: float = STEP
) -> Iterator[tuple[Tensor, Tensor]]:
    """vᵀAᵏ for k = 0 … n in float64, and proved bounds of the ℓ1 errors, (*starts, *batch); see ``bounces``.

    Rows are read by chunks in double precision, so that nothing N × N is made (``certified_step``). Every step adds
    what it is off by of its own, at most ``tol`` where that can be had, and moves what was off before by no more than
    it was.
    """
    heads, tokens = operator.batch.numel(), operator.num_tokens
    flat = operator.reshape(heads)
    shape, v = start.shape, _columns(operator, start.double()).reshape(heads, tokens, -1)
    rests = None if each is None else _columns(operator, each[..., None]).reshape(heads, 1, -1)
    error = torch.zeros_like(v[:, 0])

    def told() -> tuple[Tensor, Tensor]:
        states = v.reshape(*operator.batch, tokens, v.shape[-1])
        return _rows(states, shape), _rows(error.reshape(*operator.batch, 1, v.shape[-1]), (*shape[:-1], 1))[..., 0]

    yield told()
    for k in range(1, n + 1):
        moved, wrong = certified_step(flat, v, tol)
        walks = None if rests is None else k <= rests
        v = moved if walks is None else torch.where(walks, moved, v)
        error = error + (wrong if walks is None else torch.where(walks[:, 0], wrong, 0.0))
        yield told()


def _columns(operator: Operator, start: Tensor) -> Tensor:
    """Numbers (*starts, *batch, N) as columns (*batch, N, c), c of them."""
    return start.reshape(-1, *operator.batch, start.shape[-1]).movedim(0, -1)


def _rows(columns: Tensor, shape: Sequence[int]) -> Tensor:
    """Columns (*batch, N, c) as (*starts, *batch, N) = ``shape``."""
    return columns.movedim(-1, 0).reshape(tuple(shape))


def certificate_of_steps(
    operator: Operator, shape: Sequence[int], dtype: torch.dtype, steps: int, told: torch.dtype | None = None
) -> Certificate:
    """Of vᵀAⁿ after n ``steps`` in a precision, for answers (…, *batch) = ``shape``: a bound of their ℓ1 errors.

    ``told`` is the precision that the answer is rounded to.

    Stored weights are what they are, and sums of them exact but for rounding. Else every step adds the errors of a row
    and of a sum of N terms, and moves what was off before by no more than it was.
    """
    exact = Certificate.exact(shape, operator.device, steps, "bounces", operator.source)
    if steps == 0 or operator.source == WEIGHTS:
        return exact
    bound = steps * (operator.row_error(dtype) + (operator.num_tokens + 8) * torch.finfo(dtype).eps)
    bound = bound + (0.0 if told in (None, dtype) else torch.finfo(told).eps)
    # 2 is known of any two distributions
    return replace(exact, error_bound=bound.expand(tuple(shape))).beyond(2.0)


def certificate_of_bounds(operator: Operator, bounds: Tensor, steps: int, told: torch.dtype) -> Certificate:
    """The same from proved bounds of the errors in float64, (…, *batch); ``told`` is what the answer is rounded to."""
    exact = Certificate.exact(bounds.shape, operator.device, steps, "bounces", operator.source)
    if steps == 0 or operator.source == WEIGHTS:
        return exact
    rounded = 0.0 if told == torch.float64 else torch.finfo(told).eps
    return replace(exact, error_bound=bounds + rounded).beyond(2.0)


@dataclass(frozen=True, repr=False)
class HalfLife(Result):
    """How many bounces until half of what one bounce tells of its start is forgotten.

    Attributes:
        values: int64 (*batch), 1 … limit: bounces for every chain; (*starts, *batch) of several starts.
        curve: D(0), D(1), … in nats, float64 (*batch, …), as far as it was followed; likewise.
        limit: the most bounces looked at.
        certificate: converged where half was reached; elsewhere the value is ``limit``, and ``residual`` is what D is
            above half there.
        caption: where the chain comes from, in words.
    """

    LABELS = (
        ("values", "bounces"),
        ("curve", "nats left after 0, 1, … bounces"),
    )

    values: Tensor
    curve: Tensor
    limit: int
    certificate: Certificate
    caption: str = field(default="", compare=False)

    def answer_words(self) -> str:
        """The numbers of bounces; those at the limit are no less than it."""
        return counted(super().answer_words(), "bounce")

    def worth_words(self) -> str:
        """What the answer is worth: whether half was forgotten at all within the limit."""
        left = ~self.certificate.converged
        if not bool(left.any()):
            return super().worth_words()
        of = f" for {int(left.sum())} of {left.numel()}" if left.numel() > 1 else ""
        return f"half not forgotten within the limit of {self.limit}{of}, whose value is the limit"


def half_life(operator: Operator, start: Tensor, limit: int = LIMIT) -> HalfLife:
    """The first n ≥ 1 with D(n) ≤ D(1) / 2, where D(n) = KL(vᵀAⁿ ‖ uᵀAⁿ) in nats and u is uniform.

    D(n) is what the map after n bounces still tells of having begun in v and not anywhere; it never grows (data
    processing inequality: one chain moves both). Its mean over single-token starts is the mutual information of
    the start and the state after n bounces. Every u_j Aⁿ is at least v_j Aⁿ / (N max v), so D(n) ≤ log(N max v).
    The starts and u are walked; no eigenvalue is needed.

    The answer is 1 where one bounce tells nothing (the uniform start, one token, a chain of rank one) and ``limit``
    where half is remembered for ever.

    Args:
        operator: (*batch, N, N).
        start: v, (*batch, N) or broadcastable, a distribution; or several for every chain, (*starts, *batch, N).
        limit: the most bounces looked at, at least 1.

    Raises:
        ChainError: a limit that is no whole number from 1, or a start that is no distribution of a fitting shape.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ChainError(f"limit = {limit!r} bounces, expected a whole number ≥ 1, such as {LIMIT}")
    n = operator.num_tokens
    start = _distribution(operator, start)
    shape, heads = start.shape[:-1], math.prod(operator.batch)
    walks = _columns(operator, start).reshape(heads, n, -1)
    walks = torch.cat([walks, torch.full_like(walks[..., :1], 1 / n)], -1)
    curve = _followed(_step_of(operator), walks, limit, LOOKS if operator.path == "device" else range(1, limit))
    told = torch.stack(curve, -1).movedim(1, 0).reshape(*shape, len(curve))
    halved = _halved(told[..., 1:], told[..., 1:2])
    never = ~halved.any(-1)
    return HalfLife(
        values=torch.where(never, limit, halved.long().argmax(-1) + 1),
        curve=told,
        limit=limit,
        certificate=Certificate(
            ~never, torch.where(never, told[..., -1] - told[..., 1] / 2, 0.0), None, len(curve) - 1, "walks"
        ),
    )


def _followed(step: Callable[[Tensor], Tensor], walks: Tensor, limit: int, looks: Sequence[int]) -> list[Tensor]:
    """D(0), D(1), … of walks (h, N, c + 1), (h, c) each, until half is forgotten by all of them; ``looks`` says after
    how many steps it is looked whether that is so.
    """
    curve, forgotten = [_divergence(walks)], [torch.zeros_like(walks[:, 0, :-1], dtype=torch.bool)]
    while len(curve) <= limit:
        walks = step(walks)
        curve.append(_divergence(walks))
        forgotten.append(forgotten[-1] | _halved(curve[-1], curve[1]))
        steps = len(curve) - 1
        if steps in looks or steps == limit:
            done = torch.stack([f.all() for f in forgotten]).tolist()
            if done[-1]:
                return curve[: done.index(True) + 1]
    return curve


def _step_of(operator: Operator) -> Callable[[Tensor], Tensor]:
    """x (h, N, c) → Aᵀx in float64 of the flattened batch; on the device path nothing N × N is made for it."""
    if operator.path == "device":
        flat = operator.reshape(operator.batch.numel())
        return lambda x: certified_step(flat, x, 0.0)[0]
    groups = list(head_groups(operator, torch.float64))
    return lambda x: torch.cat([group.T @ x[part] for part, group in groups])


def _distribution(operator: Operator, start: Tensor) -> Tensor:
    """The start in float64, (*starts, *batch, N)."""
    wanted = tuple(operator.shape[:-1])
    if start.shape[-1:] != operator.shape[-1:]:
        raise ChainError(f"start has shape {tuple(start.shape)}, expected {wanted}: one number a token")
    several = start.shape[: max(0, start.ndim - len(wanted))]
    try:
        v = start.double().expand(*several, *wanted)
    except RuntimeError:
        raise ChainError(f"start has shape {tuple(start.shape)}, expected one that broadcasts to {wanted}") from None
    if not bool((v.amin() >= 0) & ((v.sum(-1) - 1).abs().amax() <= SUM_TOLERANCE)):  # NaN is neither
        raise ChainError("start is no distribution over tokens, expected numbers ≥ 0 that sum to one")
    return v / v.sum(-1, keepdim=True)


def _halved(now: Tensor, first: Tensor) -> Tensor:
    return (now <= first / 2) | (first <= FORGOTTEN)


def _divergence(walks: Tensor) -> Tensor:
    """KL(v ‖ u), (h, c), of the columns v of (h, N, c + 1), the last of which is u."""
    v, u = walks[..., :-1], walks[..., -1:]
    # v log(v/u) − v + u: no term is negative, so that nothing cancels when v and u are almost the same
    ratio = v / u.clamp(min=torch.finfo(v.dtype).tiny)
    return (torch.special.xlogy(v, ratio) - v + u).clamp(min=0).sum(-2)
