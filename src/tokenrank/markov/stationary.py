"""Stationary distribution: TokenRank, with its certificate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..operators import Dense, Operator
from ..progress import track
from .certificate import Certificate
from .classes import Classes, classes
from .engine import constants
from .engine.batching import told_groups
from .engine.device_rank import device_ranked
from .engine.rank import Asked, Ranked, by_elimination, ranked
from .engine.transient import solve_transient
from .recurrent import LITTLE, ORDER
from .result import Result
from .stationary_distributions import extreme_distributions

SHARES = 1e-10  # tolerance of the probabilities of ending in a class


@dataclass(frozen=True, repr=False)
class Stationary(Result):
    """π (*batch, N) in float64 and what it is worth.

    Attributes:
        values: π.
        certificate: what it is worth.
        met: the host has seen already that every chain converged and none is uncertain; False where nobody looked.
    """

    AXES = ("token",)
    OVER_TOKENS = (("values", -1),)

    values: Tensor
    certificate: Certificate
    met: bool = field(default=False, compare=False)


def stationary(operator: Operator, alpha: float, jump: Tensor, tol: float, max_applies: int) -> Stationary:
    """π = α Aᵀ π + (1 − α) v, the PageRank vector of the chain; α = 1 for none.

    Args:
        operator: (*batch, N, N).
        alpha: probability of following attention, 0 … 1.
        jump: v, (*batch, N), a distribution; also the start of the iteration.
        tol: with α < 1 a bound of ‖π − exact‖₁, proved; with α = 1 of the residual ‖Aᵀπ − π‖₁.
        max_applies: attention applications allowed where the chain is iterated.

    Triangular chains are solved by substitution. On a CPU others of up to 768 tokens are solved by LU, one head after
    the other; larger ones are iterated in single precision, by power steps and then GMRES where contraction is slow,
    and those of up to 4,096 tokens solved by LU where that does not do. Residuals are computed in float64 from what
    was asked about, and what is missing is solved for (iterative refinement).

    On the device path (``Operator.path``) all heads are iterated at once in half or single precision, and proved by
    chunks of rows in double precision (``device_ranked``); nothing N × N is made in double precision, and nothing
    eliminated.

    With α < 1 the bound is (α ‖x − previous‖₁ + α η + ε) / (1 − α), with η what rows are off by in float64
    (``operator.row_error``) and ε the rounding of sums. Where that proves too little, as α is close to one, the
    chain with its jumps is eliminated (up to 1,024 tokens, on the host), accurate entry by entry whatever α.

    With α = 1 it is the limit, or that of averages, of the walk from v: the stationary vectors of the recurrent
    classes (``stationary_distributions``, which says what bounds there are, and what is built on which path), each with
    the probability of ending there.
    """
    jump = jump.double().expand(operator.shape[:-1])
    if alpha == 1:
        return _without_teleport(operator, jump, tol, max_applies)
    heads, n = math.prod(operator.batch), operator.num_tokens
    if operator.path == "device":
        found = device_ranked(operator.reshape(heads), alpha, jump.reshape(heads, n), tol, max_applies)
    else:
        found = _on_host(operator, alpha, jump, tol, max_applies)
    residual, bound = (t.reshape(operator.batch) for t in (found.residual, found.bound))
    certificate = Certificate(bound <= tol, residual, bound, found.applies, found.method, about=operator.source)
    return Stationary(found.values.reshape(operator.shape[:-1]), certificate, found.met)


def _on_host(operator: Operator, alpha: float, jump: Tensor, tol: float, max_applies: int) -> Ranked:
    heads, n = math.prod(operator.batch), operator.num_tokens
    whole = Asked(
        operator.reshape(heads), alpha, jump.reshape(heads, n), operator.row_error(torch.float64).reshape(heads)
    )
    in_memory = isinstance(operator, Dense)
    # materialised in single precision, rows of a product of operators would not sum to one any more
    precision = operator.dtype if in_memory else torch.float64
    alone = operator.device.type == "cpu" and not (in_memory and n <= constants.RANK_DIRECT)
    groups = told_groups(operator, precision, "TokenRank", constants.HEAD_BYTES if alone else None)
    found = Ranked.joined(
        [ranked(Asked(g, alpha, whole.jump[h], whole.row_error[h]), tol, max_applies) for h, g in groups]
    )
    if n <= constants.CLASS_DIRECT and bool((found.bound > tol).any()):
        found = by_elimination(whole, found, operator.entry_error(torch.float64).reshape(heads), tol)
    return found


def _without_teleport(operator: Operator, jump: Tensor, tol: float, max_applies: int) -> Stationary:
    found, heads = classes(operator), math.prod(operator.batch)
    width = int(found.recurrent_count.max())
    if width > 1 and heads > 1:  # one at a time, since there may be as many vectors as tokens
        one_by_one, starts = operator.reshape(heads), jump.reshape(heads, -1)
        each = track([slice(head, head + 1) for head in range(heads)], "TokenRank of heads")
        parts = [_without_teleport(one_by_one.index(h), starts[h], tol, max_applies) for h in each]
        values = torch.cat([part.values for part in parts]).reshape(operator.shape[:-1])
        return Stationary(values, Certificate.joined([p.certificate for p in parts], operator.batch, ORDER))
    extreme = extreme_distributions(operator, found, tol, max_applies, jump)
    spent = extreme.certificate
    if width == 1:
        # of a triangular chain all the mass is at the end of the walk
        method = spent.method if operator.structure == "full" else "substitution"
        return Stationary(extreme.values[..., 0, :], replace(spent[..., 0], method=method))
    shares, off, applies = _shares(operator, found, jump, max_applies)
    values = (shares[..., None] * extreme.values).sum(-2)
    residual = (operator.T @ values - values).abs().sum(-1)
    reached = shares > 0
    bounds = torch.zeros_like(shares) if spent.error_bound is None else spent.error_bound
    # an error of a share moves as much mass as it is
    bound = torch.where(reached, shares * bounds, 0.0).sum(-1) + off
    uncertain = (spent.uncertain & reached).any(-1) | ~(off <= LITTLE)
    converged = residual <= tol
    certificate = Certificate(
        converged, residual, bound, spent.applies + applies, spent.method, ~converged | uncertain, operator.source
    )
    return Stationary(values, certificate)


def _shares(operator: Operator, found: Classes, jump: Tensor, max_applies: int) -> tuple[Tensor, Tensor, int]:
    """How much of v ends in each recurrent class, (*batch, C), a bound of its ℓ1 error (*batch), and the applies."""
    numbers = found.recurrent.cumsum(-1) - 1
    place = torch.where(found.recurrent_tokens, numbers.gather(-1, found.values), -1)
    members = (place[..., None] == torch.arange(int(numbers.max()) + 1, device=place.device)).double()
    walking = place < 0
    shares = (jump[..., None] * members).sum(-2)
    begun = torch.where(walking, jump, 0.0)
    if not bool((begun > 0).any()):
        return shares, torch.zeros_like(shares[..., 0]), 0
    ends = solve_transient(operator, walking, members, SHARES, max_applies, entering=True)
    shares = shares + (begun[..., None] * ends.values).sum(-2)
    spent = ends.certificate
    bound = torch.full_like(shares[..., 0], torch.inf) if spent.error_bound is None else spent.error_bound
    # who never arrives in float64 has no share, of which nothing is proved; dividing by the sum moves what is missing
    lost = torch.where(ends.times.isinf(), begun, 0.0).sum(-1)
    known = torch.where(begun.sum(-1) > lost, (begun.sum(-1) - lost) * bound * shares.shape[-1], 0.0)
    off = known + lost + (shares.sum(-1) - 1).abs()
    return shares / shares.sum(-1, keepdim=True), off, spent.applies
