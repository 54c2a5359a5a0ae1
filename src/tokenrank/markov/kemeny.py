"""Kemeny's constant: how many bounces to a token drawn from the stationary distribution, from anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Operator
from .certificate import Certificate
from .engine import constants
from .engine.batching import leaving, told_groups
from .engine.elimination import eliminate, try_stationary
from .engine.krylov import Apply
from .engine.refine import by_gmres, checked_effort, refine
from .result import Result
from .support.irreducible import closed_classes

ORDER = ("diagonal", "elimination", "hutch++")


@dataclass(frozen=True, repr=False)
class Kemeny(Result):
    """Kemeny's constant of every chain.

    Attributes:
        values: K = Σ_{i≥2} 1/(1 − λ_i), float64 (*batch): for an irreducible chain Σ_j π_j M_ij with M_ii = 0, the
            same for all i. Others take M_ii = 1/π_i, the return time, and have K + 1. inf for chains with several
            recurrent classes.
        standard_error: one standard deviation of the estimate, (*batch); 0 where exact.
        certificate: converged where exact, or where every solve behind the estimate met the tolerance; ``residual`` is
            the largest relative one of these. ``standard_error`` stands in the place of a bound.
        caption: where the chain comes from, in words.
    """

    LABELS = (
        ("values", "Kemeny’s constant"),
        ("standard_error", "standard error"),
    )

    values: Tensor
    standard_error: Tensor
    certificate: Certificate
    caption: str = field(default="", compare=False)

    def worth_words(self) -> str:
        """What the answer is worth."""
        estimated = bool((self.standard_error > 0).any())
        scatter = f", standard error {float(self.standard_error.max()):.2g}" if estimated else ""
        return f"{super().worth_words()}{scatter}"


def kemeny(operator: Operator, probes: int = 96, tol: float = 1e-6, max_applies: int = 2000, seed: int = 0) -> Kemeny:
    """K = Σ_{i≥2} 1/(1 − λ_i) of every chain of an operator (*batch, N, N).

    Args:
        operator: A.
        probes: vectors spent where the trace is estimated, at least 6: a third for the sketch, a third for its
            range, a third for the remainder and its standard error.
        tol: relative residual of the solves behind an estimate.
        max_applies: attention applications allowed for each 16 of them.
        seed: of the random vectors.

    Triangular chains: exact from the diagonal, O(N d). Up to 2,048 tokens: K = tr G − πᵀG1 with G = (I − Q)⁻¹ of the
    walk that ends at the token r of the largest π, by elimination without subtractions; the difference costs a factor N
    of precision at most, since tr G − K = Σ_j π_j M_jr ≤ K/π_r. Beyond: tr (I − A + 1uᵀ)⁻¹ = 1 + K with u uniform, by
    Hutch++ on what is left of it after I + (A − 1uᵀ), whose trace is known: the trace on the range of a sketch, and
    Hutchinson probes of the rest, whose scatter is the standard error.

    A chain with one recurrent class and transient tokens has a finite K too: 1/(1 − λ) of those counts.

    Raises:
        ChainError: fewer than 6 probes, or effort that is not positive.

    Source: Kemeny and Snell, "Finite Markov Chains" (1960), theorem 4.4.10; Meyer, Musco, Musco and Woodruff, "Hutch++:
    optimal stochastic trace estimation" (2021), arXiv 2010.09649.
    """
    checked_effort(tol, max_applies)
    if probes < 6:
        raise ChainError(f"probes = {probes!r}, expected at least 6: two for each part of the estimate")
    unique = closed_classes(operator) == 1
    # K is a quotient of sums of products of as many entries as there are tokens (forests and trees)
    precise = 2 * operator.num_tokens * operator.entry_error(torch.float64) <= tol
    if operator.structure != "full":
        return _triangular(operator, unique, precise)
    parts = []
    lost = operator.num_tokens * constants.TINY * (operator.entry_error(torch.float64) > 0).reshape(-1)
    for heads, group in told_groups(operator, torch.float64, "Kemeny's constant"):
        if operator.num_tokens <= constants.KEMENY_DIRECT:
            parts.append(_eliminated(group, lost[heads], tol))
        else:
            parts.append(_estimated(group, unique.reshape(-1)[heads], probes // 3, tol, max_applies, seed))
    values, error = (
        torch.cat([getattr(p, f) for p in parts]).reshape(operator.batch) for f in ("values", "standard_error")
    )
    spent = Certificate.joined([p.certificate for p in parts], operator.batch, ORDER)
    certificate = Certificate(spent.converged & precise | ~unique, spent.residual, None, spent.applies, spent.method)
    return Kemeny(torch.where(unique, values, torch.inf), torch.where(unique, error, 0.0), certificate)


def _triangular(operator: Operator, unique: Tensor, precise: Tensor) -> Kemeny:
    left = leaving(operator)
    others = left[..., 1:] if operator.structure == "lower" else left[..., :-1]
    values = torch.where(unique, (1 / others).sum(-1), torch.inf)
    return _direct(values, torch.isfinite(values) & precise | ~unique, "diagonal")


def _direct(values: Tensor, converged: Tensor, method: str) -> Kemeny:
    zero = torch.zeros_like(values)
    return Kemeny(values, zero, Certificate(converged, zero, None, 1, method))


def _eliminated(operator: Operator, lost: Tensor, tol: float) -> Kemeny:
    """Of heads (h, N, N). ``lost`` (h,) bounds what steps that are no numbers in float64 sum to in a row.

    They have no effect where times are far below 1/lost.
    """
    a = operator.to_dense(torch.float64)
    n = a.shape[-1]
    pi, decided = try_stationary(a)
    ends = torch.nn.functional.one_hot(pi.argmax(-1), n).bool()
    walking = ~ends
    exits = torch.where(walking, (a * ends[:, None]).sum(-1), 1.0)
    q = torch.where(walking[:, :, None] & walking[:, None], a, 0.0)
    eye = torch.eye(n, dtype=a.dtype, device=a.device).expand_as(a)
    visits = eliminate(q, exits, torch.cat([eye, torch.ones_like(exits)[..., None]], -1))
    at_home, times = visits[..., :n].diagonal(dim1=-2, dim2=-1), visits[..., n]
    found = torch.where(walking, at_home - pi * times, 0.0).sum(-1)
    converged = decided & torch.isfinite(times).all(-1) & (lost * times.amax(-1) <= tol)
    return _direct(torch.where(converged, found, torch.inf), converged, "elimination")


def _estimated(operator: Operator, unique: Tensor, count: int, tol: float, max_applies: int, seed: int) -> Kemeny:
    heads, n = operator.shape[:2]
    values = torch.full((heads,), torch.inf, dtype=torch.float64, device=operator.device)
    error, residual = torch.zeros(2, heads, dtype=torch.float64, device=operator.device).unbind()
    some = unique.nonzero()[:, 0]
    if not len(some):
        return Kemeny(values, error, Certificate(torch.ones_like(unique), residual, None, 0, "hutch++"))
    part = operator if len(some) == heads else operator.index(some)
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (2, n, count), generator=generator).to(operator.device).double() * 2 - 1
    applies, worst = 0, residual[some]

    def rest(x: Tensor) -> Tensor:
        """E X for E = (I − A + 1uᵀ)⁻¹ − I − (A − 1uᵀ)."""
        nonlocal applies, worst
        found = []
        for columns in x.split(constants.SOLVE_WIDTH, -1):
            solved, missed, spent = deflated_solve(part, columns, tol, max_applies)
            image = part @ columns - columns.mean(-2, keepdim=True)
            found.append(solved - columns - image)
            applies += spent + 1
            worst = torch.maximum(worst, missed)
        return torch.cat(found, -1)

    sketch, probe = (s.expand(len(some), n, count) for s in signs)
    basis = torch.linalg.qr(rest(sketch)).Q
    known = (basis * rest(basis)).sum((-2, -1))
    probe = probe - basis @ (basis.mT @ probe)
    samples = (probe * rest(probe)).sum(-2)
    exact = n + part.diagonal(torch.float64).sum(-1) - 1  # tr I + tr (A − 1uᵀ)
    values[some] = exact + known + samples.mean(-1) - 1
    error[some] = samples.std(-1) / count**0.5
    residual[some] = worst
    return Kemeny(values, error, Certificate(residual <= tol, residual, None, applies, "hutch++"))


def deflated_solve(operator: Operator, rhs: Tensor, tol: float, max_applies: int) -> tuple[Tensor, Tensor, int]:
    """X = (A − 1uᵀ) X + R, u uniform: a regular system with the slow modes of the chain and no π in it.

    By block GMRES in the chain's precision, refined with residuals in float64.

    Args:
        operator: A, (h, N, N), one recurrent class each.
        rhs: R, (h, N, c) in float64.
        tol: ‖R − (I − A + 1uᵀ)X‖∞ wanted, relative to the largest entry of the column of R.
        max_applies: attention applications allowed.

    Returns:
        X (h, N, c) in float64, the largest relative residual (h,), and the applies.
    """
    size = rhs.abs().amax(-2).clamp(min=constants.TINY)
    solve = by_gmres(lambda heads: _deflated(operator, heads), operator.dtype, 0.5 * tol)
    answer = refine(
        solve(rhs, max(1, max_applies - 1)),
        solve,
        residual=lambda x: rhs - x + operator @ x - x.mean(-2, keepdim=True),
        settled=lambda answer: (answer.size <= tol).all(-1),
        max_applies=max_applies,
        norm=lambda left: left.abs().amax(-2) / size,
    )
    return answer.x, answer.size.amax(-1), answer.applies


def _deflated(operator: Operator, heads: Tensor) -> Apply:
    part = operator if len(heads) == operator.shape[0] else operator.index(heads)
    return lambda x: part @ x - x.mean(-2, keepdim=True)
