"""How many bounces: rules that read the number off the chain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Operator
from .bounce import half_life
from .engine.batching import head_groups
from .engine.eigenvalues import quotient_matrix
from .entropy_curve import entropy_curve, knee, knee_of_part, squared_norm
from .lambda2 import lambda2
from .spectrum import spectrum

Rule = Literal["relax", "plateau", "knee", "halflife"]

LIMIT = 64  # bounces; beyond that TokenRank is the question
LEADING = 10  # timescales among which the plateau's gap is looked for
ALL = 256  # tokens up to which a few eigenvalues are taken from all of them
ALL_FOR_KNEE = 1024  # the knee needs them all: seconds a head
PART = 48  # eigenvalues that it makes do with beyond
ROUNDING = 1e-9  # of a number of bounces, before it is rounded up
SUM_TOLERANCE = 1e-4  # of a start given in single precision


@dataclass(frozen=True)
class Horizon:
    """How many bounces, and what that was read from.

    Attributes:
        steps: int64 (*batch), 1 … limit: bounces for every chain.
        rule: "relax", "plateau", "knee" or "halflife".
        limit: the most bounces allowed.
        capped: bool (*batch): the limit decided. "relax": more would be needed; "plateau": the timescale before the
            gap was cut at it; "halflife": half was not reached. Never set by "knee", whose curve ends there anyway.
        uncertain: bool (*batch): the eigenvalues are estimates (``Lambda2.uncertain``, ``Spectrum.uncertain``), or,
            for "knee", those that are not known could move it.
        moduli: |λ₁| = 1, |λ₂|, …, float64 (*batch, K), descending: those that were looked at; None for "halflife".
        gap: "plateau": m, how many modes are slow, λ₁ counted, int64 (*batch), 2 where there is no gap; else None.
        curve: "knee": the entropy H(n), "halflife": D(n); nats, float64 (*batch, n = 0 …); else None.
        applies: attention applications spent; N where all eigenvalues were taken.
    """

    steps: Tensor
    rule: Rule
    limit: int
    capped: Tensor
    uncertain: Tensor
    moduli: Tensor | None
    gap: Tensor | None
    curve: Tensor | None
    applies: int

    @property
    def timescales(self) -> Tensor | None:
        """Implied timescales −1 / log|λ_i| in bounces, (*batch, K): ∞ for modulus one, 0 for zero."""
        return None if self.moduli is None else _timescales(self.moduli)


def horizon(
    operator: Operator,
    rule: Rule = "plateau",
    start: Tensor | None = None,
    limit: int = LIMIT,
    epsilon: float = 1 / math.e,
    leading: int = LEADING,
) -> Horizon:
    """How many bounces to take, by one of four rules, for every chain of the batch.

    With t_i = −1 / log|λ_i| and every number rounded up, then kept within 1 … ``limit``:

    - "relax": n = log(1/ε) · t_2: what is left of the slowest mode is ε. With ε = 1/e the relaxation time.
    - "plateau": n = √(t_m · t_{m+1}), with the largest ratio t_m / t_{m+1} among the ``leading`` first from t_2 on:
      the fast modes are gone and the slow ones not yet, the plateau of metastable chains (Deuflhard and Weber 2005;
      Schütte et al. 1999). A walk of whole steps up to the limit cannot tell timescales beyond it, or below one
      step, apart: they count as ``limit`` and as 1. Where all are alike there is no gap, and n = t_2.
    - "knee": where the von Neumann entropy of the spectrum of Aⁿ, n = 1 … limit, is best fitted by two lines (PHATE,
      Moon et al. 2019); see ``entropy_curve``. It needs all eigenvalues: up to 1,024 tokens, and for causal chains
      of any length, they are taken; beyond, the 48 leading ones and ‖A‖_F give an estimate, mostly ``uncertain``
      (``knee_of_part``).
    - "halflife": depends on where the walk begins. The first n at which KL(vᵀAⁿ ‖ uᵀAⁿ), u uniform, is at most half of
      what it is at n = 1: half of what one bounce tells of its start is forgotten (``half_life``). One bounce is
      its answer only where one bounce tells nothing. Two vectors are walked; no eigenvalue is needed.

    Answers at the edges. One token, rank one (λ₂ = 0): 1, by every rule. |λ₂| = 1 (reducible or periodic): "relax"
    gives the limit; "plateau" √(limit · t) with t the slowest mode that does decay if the gap lies there, the limit
    where none does; "knee" 1 where no mode decays; "halflife" the limit where half is remembered for ever.

    Args:
        operator: (*batch, N, N).
        rule: which.
        start: v, a distribution, (*batch, N) or (N,); for "halflife" only, which needs it.
        limit: the most bounces allowed, at least 1; 3 for "knee".
        epsilon: "relax": what may be left of the slowest mode, 0 < ε < 1.
        leading: "plateau": how many timescales to look at, at least 2.

    Raises:
        ChainError: an unknown rule, a parameter out of range, or a start that is missing or no distribution.
    """
    _check(rule, limit, epsilon, leading)
    if rule == "halflife":
        steps, never, told = half_life(operator, _distribution(operator, start), limit)
        sure = torch.zeros_like(never)
        return Horizon(steps, rule, limit, never, sure, None, None, told, told.shape[-1] - 1)
    if rule == "knee":
        return _knee(operator, limit)
    wanted = 2 if rule == "relax" else leading + 1
    moduli, uncertain, applies = _moduli(operator, wanted, ALL)
    t = _timescales(moduli)[..., 1:]
    if not t.shape[-1]:
        t = t.new_zeros(*t.shape[:-1], 1)  # one token: nothing to wait for
    gap = None
    if rule == "relax":
        n = -math.log(epsilon) * t[..., 0]
        capped = n > limit * (1 + ROUNDING)
    else:
        told = t.clamp(1, limit)
        told = torch.cat([told, told[..., -1:]], -1)  # no gap behind the last one known
        before = (told[..., :-1] / told[..., 1:]).argmax(-1, keepdim=True)
        n = (told.gather(-1, before) * told.gather(-1, before + 1))[..., 0].sqrt()
        capped, gap = t.gather(-1, before)[..., 0] > limit, before[..., 0] + 2
    steps = (n.clamp(max=limit) * (1 - ROUNDING)).ceil().long().clamp(1, limit)
    return Horizon(steps, rule, limit, capped, uncertain, moduli, gap, None, applies)


def _knee(operator: Operator, limit: int) -> Horizon:
    batch, n = operator.batch, operator.num_tokens
    everything = n <= ALL_FOR_KNEE or operator.structure != "full"
    moduli, uncertain, applies = _moduli(operator, n if everything else PART, ALL_FOR_KNEE)
    flat = moduli.reshape(-1, moduli.shape[-1])
    if moduli.shape[-1] == n:
        curve = entropy_curve(flat, limit)
        steps = knee(curve)
    else:
        steps, open_end, curve = knee_of_part(flat, squared_norm(operator).reshape(-1), n, limit)
        uncertain = uncertain | open_end.reshape(batch)
    curve, never = curve.reshape(*batch, -1), torch.zeros_like(uncertain)
    return Horizon(steps.reshape(batch), "knee", limit, never, uncertain, moduli, None, curve, applies)


def _moduli(operator: Operator, count: int, largest: int) -> tuple[Tensor, Tensor, int]:
    """The ``count`` leading |λ|, descending (*batch, min(count, N)), which are uncertain (*batch), and the applies.

    From the diagonal of a triangular chain, from all eigenvalues up to ``largest`` tokens, from a Krylov space beyond.
    """
    n = operator.num_tokens
    count = min(count, n)
    if operator.structure == "full" and n > largest:
        if count == 2:
            second = lambda2(operator)
            moduli = torch.stack([torch.ones_like(second.values), second.values], -1).double()
            return moduli, second.certificate.uncertain, second.certificate.applies
        some = spectrum(operator, count)
        return some.values[..., :count].abs().clamp(max=1), some.certificate.uncertain, some.certificate.applies
    if operator.structure != "full":
        every, applies = operator.diagonal(torch.float64), 1
    else:
        groups = head_groups(operator, torch.float64)
        found = [torch.linalg.eigvals(quotient_matrix(group.to_dense(torch.float64))).abs() for _, group in groups]
        # the quotient has a 0 for λ₁ = 1
        every, applies = torch.cat(found).reshape(*operator.batch, n), n
        every = torch.cat([torch.ones_like(every[..., :1]), every.topk(n - 1, -1).values], -1)
    moduli = every.topk(count, -1).values.clamp(max=1)
    moduli[..., 0] = 1  # to rounding
    return moduli, torch.zeros(operator.batch, dtype=torch.bool, device=operator.device), applies


def _timescales(moduli: Tensor) -> Tensor:
    return 1 / moduli.log().abs()


def _check(rule: str, limit: int, epsilon: float, leading: int) -> None:
    if rule not in get_args(Rule):
        raise ChainError(f"rule = {rule!r}, expected one of {', '.join(map(repr, get_args(Rule)))}")
    least = 3 if rule == "knee" else 1
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < least:
        raise ChainError(f"limit = {limit!r} bounces, expected a whole number ≥ {least}, such as {LIMIT}")
    if not 0 < epsilon < 1:
        raise ChainError(f"epsilon = {epsilon!r}, expected a number between 0 and 1, such as 1/e")
    if not isinstance(leading, int) or isinstance(leading, bool) or leading < 2:
        raise ChainError(f"leading = {leading!r} timescales, expected a whole number ≥ 2: a gap lies between two")


def _distribution(operator: Operator, start: Tensor | None) -> Tensor:
    if start is None:
        raise ChainError("rule 'halflife' depends on where the walk begins, and no start was given; pass start")
    wanted = tuple(operator.shape[:-1])
    if start.shape[-1:] != operator.shape[-1:]:
        raise ChainError(f"start has shape {tuple(start.shape)}, expected {wanted}: one number a token")
    try:
        v = start.double().expand(wanted)
    except RuntimeError:
        raise ChainError(f"start has shape {tuple(start.shape)}, expected one that broadcasts to {wanted}") from None
    if not torch.isfinite(v).all() or v.amin() < 0 or (v.sum(-1) - 1).abs().max() > SUM_TOLERANCE:
        raise ChainError("start is no distribution over tokens, expected numbers ≥ 0 that sum to one")
    return v / v.sum(-1, keepdim=True)
