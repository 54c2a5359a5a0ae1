"""TokenRank: the stationary distribution, with its certificate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..operators import Dense, Operator
from .certificate import Certificate
from .engine.batching import head_groups
from .engine.krylov import Apply, gmres
from .engine.power import power
from .engine.triangular import substitute
from .result import Result

VIEWS_BYTES = 2**20  # of a head from which a product of its own costs no more than its share of a batched one
ROUNDING = 8 * torch.finfo(torch.float64).eps  # ℓ1 error of a residual computed in float64, about


@dataclass(frozen=True, repr=False)
class Stationary(Result):
    """π (*batch, N) in float64 and what it is worth."""

    AXES = ("tokens",)
    OVER_TOKENS = (("values", -1),)

    values: Tensor
    certificate: Certificate


def stationary(operator: Operator, alpha: float, jump: Tensor, tol: float, max_applies: int) -> Stationary:
    """π = α Aᵀ π + (1 − α) v, the PageRank vector of the chain; α = 1 for none.

    Args:
        operator: (*batch, N, N).
        alpha: probability of following attention, 0 … 1.
        jump: v, (*batch, N), a distribution; also the start of the iteration.
        tol: with α < 1 a bound of ‖π − exact‖₁, proved by
            ‖x − π‖₁ ≤ α/(1 − α) · ‖x − previous‖₁; with α = 1 of the residual ‖Aᵀπ − π‖₁.
        max_applies: attention applications allowed.

    Triangular chains are solved by substitution. Others are iterated in the operator's own
    precision, by power steps and then GMRES where contraction is slow. The residual is then
    computed in float64, and what is missing is solved for with that residual as right-hand side
    (iterative refinement), until the bound holds.
    """
    # materialised in single precision, rows of a product of operators would not sum to one any more
    precision = operator.dtype if isinstance(operator, Dense) else torch.float64
    jump = jump.double()
    flat = jump.expand(*operator.shape[:-1]).reshape(-1, operator.num_tokens)
    parts = []
    for heads, group in head_groups(operator, precision):
        if group.structure != "full" and _solvable(group, alpha):
            parts.append(_exact(group, alpha, flat[heads]))
        else:
            parts.append(_iterate(group, alpha, flat[heads], tol, max_applies))
    values = torch.cat([p[0] for p in parts]).reshape(operator.shape[:-1])
    residual = torch.cat([p[1] for p in parts]).reshape(operator.batch)
    bound = (residual + ROUNDING) / (1 - alpha) if alpha < 1 else None
    converged = (residual if bound is None else bound) <= tol
    applies = max(p[2] for p in parts)
    order = ("power", "gmres", "substitution")
    method = max((p[3] for p in parts), key=order.index)
    return Stationary(values, Certificate(converged, residual, bound, applies, method))


Part = tuple[Tensor, Tensor, int, str]  # values (h, N), residual (h,), applies, method


def _iterate(operator: Operator, alpha: float, jump: Tensor, tol: float, max_applies: int) -> Part:
    work = operator.dtype
    # an image under the chain is one contraction closer than the vector it came from
    target = max(tol * (1 - alpha) - ROUNDING, 0) / alpha if 0 < alpha < 1 else tol
    step = partial(_step, operator, alpha, (1 - alpha) * jump)
    answer, residual, x = jump, torch.full_like(jump[:, 0], torch.inf), torch.zeros_like(jump)
    # the first right-hand side is the jump itself; later ones are what is missing, scaled to one
    # so that the working precision is enough to solve for it
    scale, rhs, guess = torch.ones_like(jump[:, :1]), (1 - alpha) * jump, jump
    applies, accelerated = 0, False
    while True:
        wanted = (0.5 * target / scale[:, 0]).clamp(min=16 * torch.finfo(work).eps).to(work)
        budget = max(1, max_applies - applies - 1)
        start = power(partial(_step, operator, alpha, rhs.to(work)), guess.to(work), wanted, budget)
        change, spent = start.x.double() + start.residual.double(), start.applies
        if bool((start.residual.abs().sum(-1) > wanted).any()) and budget > spent:
            missing = start.residual[..., None]
            d, _, more = gmres(partial(_part_of, operator, alpha), missing, wanted, budget - spent)
            change, spent, accelerated = start.x.double() + d[..., 0], spent + more, True
        trial = (x + scale * change).clamp(min=0)
        trial = trial / trial.sum(-1, keepdim=True)
        image = step(trial)
        applies += spent + 1
        size = (image - trial).abs().sum(-1)
        progress = size < 0.5 * residual
        better = (size < residual)[:, None]
        x, answer = torch.where(better, trial, x), torch.where(better, image, answer)
        residual = torch.minimum(size, residual)
        if bool(((residual <= target) | ~progress).all()) or applies + 2 > max_applies:
            return answer, alpha * residual, applies, "gmres" if accelerated else "power"
        missing = answer - x
        missing = missing - missing.mean(-1, keepdim=True)
        scale = missing.abs().sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        rhs = guess = missing / scale


def _step(operator: Operator, alpha: float, rhs: Tensor, x: Tensor) -> Tensor:
    return alpha * (operator.T @ x) + rhs


def _part_of(operator: Operator, alpha: float, heads: Tensor) -> Apply:
    part_only, on_cpu = len(heads) < operator.shape[0], operator.device.type == "cpu"
    if isinstance(operator, Dense) and part_only and on_cpu and operator.weights[0].nbytes >= VIEWS_BYTES:
        # a copy of the heads that are left costs as much as several applies
        views = [operator.weights[head] for head in heads.tolist()]
        return lambda x: alpha * torch.stack([v.mT @ w for v, w in zip(x, views, strict=True)]).mT
    part = operator if len(heads) == operator.shape[0] else operator.index(heads)
    return lambda x: alpha * part.rmatmul(x)


def _exact(operator: Operator, alpha: float, jump: Tensor) -> Part:
    if alpha < 1:
        x = substitute(operator, (1 - alpha) * jump, alpha)
        x = x / x.sum(-1, keepdim=True)
    else:
        x = torch.zeros_like(jump)
        x[:, 0 if operator.structure == "lower" else -1] = 1.0
    image = alpha * (operator.T @ x) + (1 - alpha) * jump
    return x, (image - x).abs().sum(-1), 2 if alpha < 1 else 1, "substitution"


def _solvable(operator: Operator, alpha: float) -> bool:
    """With teleport always; without, if the token at the end of the walk is the only absorbing one."""
    if alpha < 1:
        return True
    diagonal = operator.diagonal()
    others = diagonal[:, 1:] if operator.structure == "lower" else diagonal[:, :-1]
    return bool((others < 1).all())
