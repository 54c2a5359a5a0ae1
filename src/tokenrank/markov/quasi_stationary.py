"""Where a walk is that has not yet entered some tokens: attention without its sink."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Operator, is_everywhere
from .certificate import Certificate
from .distinguished import distinguished, tied_alone
from .engine.batching import head_groups
from .killed import Killed
from .perron import STUBBORN, perron
from .result import Result
from .secular import exact, secular

NEGLIGIBLE = 1e-300  # entries below are zero, so that ratios of what is left keep their digits
ORDER = ("substitution", "arnoldi", "inverse iteration", "classes")


@dataclass(frozen=True, repr=False)
class QuasiStationary(Result):
    """Quasi-stationary distribution of every chain, and what it is worth.

    Attributes:
        values: v, float64 (*batch, N), a distribution; zero on the dropped tokens.
        survival: θ, the Perron root of Q, (*batch): the probability that the walk survives one more step.
        lower, upper: bounds of θ, (*batch), proved up to rounding: the smallest and largest (vᵀQ)_i/v_i over the
            tokens with v_i > 0 (Collatz–Wielandt); the upper one only if that is all that are left, else the largest
            row sum of Q.
        unique: bool (*batch), True where v is proved to be the only one for θ. With teleport it always is.
        certificate: ``residual`` is ‖vᵀQ − θvᵀ‖₁. No bound of the distance to the exact v follows from it.
    """

    AXES = ("tokens",)
    OVER_TOKENS = (("values", -1),)

    values: Tensor
    survival: Tensor
    lower: Tensor
    upper: Tensor
    unique: Tensor
    certificate: Certificate


def quasi_stationary(
    operator: Operator, drop: Tensor, alpha: float = 1.0, tol: float = 1e-8, max_applies: int = 2000
) -> QuasiStationary:
    """Left Perron vector of the walk that dies when it enters the tokens ``drop``.

    Q = α A[S, S] + (1 − α) 1 v_Sᵀ on the other tokens S, v uniform over all N tokens: a teleport to a dropped token
    kills too. vᵀQ = θvᵀ, v ≥ 0, Σv = 1: a walk that starts with v and is still alive is distributed as v after
    any number of steps, and dies with probability 1 − θ in each. Dropping nothing gives TokenRank and θ = 1.

    Args:
        operator: A, (*batch, N, N).
        drop: bool (N,) or (*batch, N).
        alpha: probability of following attention, 0 … 1; 1 for no teleport.
        tol: ‖vᵀQ − θvᵀ‖₁ that counts as converged.
        max_applies: attention applications allowed where the answer is iterated.

    With teleport every token of S has a positive share, at least (1 − α)/(N θ). Without, v is zero on the tokens that
    cannot be reached from the class that survives longest:

    - Triangular (causal) chains: θ is the largest A_ii of S, and v lives only on that token and, of the tokens that
      it attends to directly or over others, those nearer to the end of the walk; for a causal chain those are at or
      before it. Of several tokens with the same A_ii the one nearest to the end is taken. With teleport v does
      not depend on a single token's attention to itself like this: prefer alpha < 1 for causal models.
    - Chains with masks that fall into several communicating classes: θ is the largest Perron root of a class, v
      the vector of a class that has it and cannot reach another that has it (roots equal to 1e-12 count as
      equal), with what it feeds. If several such classes exist v is not unique: any mixture will do, ``unique`` is
      False and the class of the smallest token is taken. Beyond 1,536 tokens the classes are not looked for, and
      ``unique`` is False.
    - θ = 0: the walk dies for certain within N steps, and v sits where it can only die.

    Triangular chains are solved by substitution (with teleport: the root of a secular equation, see
    ``secular``), small ones by inverse iteration, large ones by Arnoldi in float64.

    Raises:
        ChainError: ``drop`` is no bool tensor of a fitting shape, drops every token of a chain, or alpha, tol or
            max_applies are out of range.

    Source: Darroch and Seneta, "On quasi-stationary distributions in absorbing discrete-time finite Markov chains"
    (1965); several classes: van Doorn and Pollett, "Quasi-stationary distributions for reducible absorbing Markov
    chains in discrete time" (2009).
    """
    alive = _alive(operator, drop)
    if not 0 <= alpha <= 1:
        raise ChainError(f"alpha = {alpha!r}, expected a probability from 0 to 1")
    if not tol > 0:
        raise ChainError(f"tol = {tol!r}, expected a positive number such as 1e-8")
    if max_applies < 2:
        raise ChainError(f"max_applies = {max_applies!r}, expected at least 2: one step and one to judge it by")
    flat = operator.reshape(len(alive))
    parts = []
    for heads, group in head_groups(operator, torch.float64):
        parts.append(_of_group(Killed(group, alive[heads], float(alpha)), flat.index(heads), tol, max_applies))
    fields = {
        name: torch.cat([getattr(p, name) for p in parts]).reshape(operator.batch)
        for name in ("survival", "lower", "upper", "unique")
    }
    return QuasiStationary(
        values=torch.cat([p.values for p in parts]).reshape(operator.shape[:-1]),
        **fields,
        certificate=Certificate.joined([p.certificate for p in parts], operator.batch, ORDER),
    )


def _alive(operator: Operator, drop: Tensor) -> Tensor:
    """S, bool (h, N)."""
    n = operator.num_tokens
    if drop.dtype != torch.bool:
        raise ChainError(f"drop is {drop.dtype}, expected bool, True on the tokens that kill the walk")
    if tuple(drop.shape) not in ((n,), tuple(operator.shape[:-1])):
        raise ChainError(f"drop has shape {tuple(drop.shape)}, expected ({n},) or {tuple(operator.shape[:-1])}")
    alive = ~drop.to(operator.device).expand(operator.shape[:-1]).reshape(-1, n)
    empty = (~alive.any(-1)).nonzero()[:, 0]
    if len(empty):
        raise ChainError(
            f"all {n} tokens are dropped (chain {int(empty[0])} of {len(alive)}), so that no walk survives; "
            "keep at least one token"
        )
    return alive


def _of_group(killed: Killed, original: Operator, tol: float, max_applies: int) -> QuasiStationary:
    unique = torch.ones_like(killed.alive[:, 0])
    triangular = killed.operator.structure != "full"
    if triangular and killed.alpha < 1:
        x, spent = secular(killed)
        return _judged(killed, x, None, unique, tol, spent, "substitution")
    if triangular:
        x, theta, tied = exact(killed)
        several = (tied.sum(-1) > 1).nonzero()[:, 0]
        if len(several):
            unique[several] = tied_alone(original.index(several), killed.alive[several], tied[several])
        return _judged(killed, x, theta, unique, tol, 1, "substitution")
    # teleport makes one class of everything, and so does a softmax without masks
    support = original.support() if killed.alpha == 1 else None
    if support is not None and not is_everywhere(support):
        if killed.operator.num_tokens <= STUBBORN:
            x, unique, spent, method = distinguished(killed, support, tol, max_applies)
            return _judged(killed, x, None, unique, tol, spent, method)
        unique = ~unique
    x, spent, method = perron(killed, tol, max_applies)
    return _judged(killed, x, None, unique, tol, spent, method)


def _judged(
    killed: Killed, x: Tensor, theta: Tensor | None, unique: Tensor, tol: float, applies: int, method: str
) -> QuasiStationary:
    """The answer with its bounds; ``theta`` where it is known exactly."""
    x = torch.where(x >= NEGLIGIBLE, x, 0.0)
    x = x / x.sum(-1, keepdim=True)
    image = killed.image(x)
    ratio, some = image / x, x > 0
    slack = 4 * x.shape[-1] * torch.finfo(torch.float64).eps
    lower = torch.where(some, ratio, torch.inf).amin(-1) * (1 - slack)
    everywhere = torch.where(killed.alive, torch.where(some, ratio, torch.inf), 0.0).amax(-1)
    upper = (torch.minimum(everywhere, killed.row_sums().amax(-1)) * (1 + slack)).clamp(max=1)
    survival = image.sum(-1).clamp(max=1)
    if theta is not None:
        survival = lower = upper = theta
    residual = (image - survival[:, None] * x).abs().sum(-1)
    certificate = Certificate(residual <= tol, residual, None, applies + 1, method)
    return QuasiStationary(x, survival, lower, upper, unique, certificate)
