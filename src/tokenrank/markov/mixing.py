"""Mixing times and coefficients of ergodicity: how soon it does not matter any more where the walk began."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import ChainError
from ..operators import Operator, is_everywhere
from .certificate import Certificate
from .classes import classes
from .engine import constants
from .engine.batching import told_groups
from .engine.doeblin import doeblin
from .engine.eigenvalues import eigen
from .engine.elimination import try_stationary
from .engine.sums import rounding
from .result import Result
from .spectrum import Spectrum, spectrum

MET = 1e-12  # ε counts as met to within this, so that ties do not hang on rounding


@dataclass(frozen=True, repr=False)
class MixingTime(Result):
    """The first n with d(n) = max_i ½ ‖(Aⁿ)_i − π‖₁ ≤ ε, or bounds of it.

    Attributes:
        values: bounces that are enough, lower ≤ t_mix(ε) ≤ values, float64 (*batch), whole numbers; inf where the
            chain never mixes (periodic, or several recurrent classes), and where nothing could be proved.
        lower: bounces that are needed at least, (*batch); inf where the chain never mixes.
        relaxation: 1/(1 − |λ₂|), (*batch); inf where the chain never mixes.
        epsilon: ε.
        certificate: converged where both bounds are one: t_mix(ε) itself. ``error_bound`` is their difference.
        caption: where the chain comes from, in words.
    """

    LABELS = (
        ("values", "bounces, at most"),
        ("lower", "bounces, at least"),
        ("relaxation", "relaxation time, bounces"),
    )

    values: Tensor
    lower: Tensor
    relaxation: Tensor
    epsilon: float
    certificate: Certificate
    caption: str = field(default="", compare=False)

    def worth_words(self) -> str:
        """What the answer is worth; of bounds that are not one, that the time lies between them."""
        told = super().worth_words()
        return told.replace("NOT converged", "bounds only", 1) if bool((self.lower <= self.values).all()) else told


def mixing_time(operator: Operator, epsilon: float = 0.25) -> MixingTime:
    """t_mix(ε), the bounces after which every start is within ε of π in total variation.

    Args:
        operator: A, (*batch, N, N).
        epsilon: ε, above 0 and below ½.

    Up to 512 tokens t_mix itself, by repeated squaring and bisection (d never grows), if it is at most 2³⁰. Bounds
    beyond, with d̄(n) = δ(Aⁿ) = max_{i,k} ½ ‖(Aⁿ)_i − (Aⁿ)_k‖₁, d ≤ d̄ ≤ 2d:

    - below: an eigenvalue λ ≠ 1 with vector f has |λ|ⁿ |f_i − f_k| = |(Aⁿf)_i − (Aⁿf)_k| ≤ d̄(n) diam f, so that
      2ε ≥ 2d(n) ≥ |λ|ⁿ at n = t_mix, reversible or not. For a computed pair with Af = λf + r the same holds up to
      η = diam(r) / ((1 − |λ|) diam f): t_mix ≥ log(1/(2ε + η)) / log(1/|λ|), whatever λ and f are worth.
    - above: d̄ is submultiplicative, t_mix ≤ s ⌈log ε / log δ(Aˢ)⌉, for s = 1, 2, 4, … up to 2,048 tokens and s = 1
      beyond, with an upper bound of δ: Doeblin's, or twice the largest distance of a row from the mean row.

    Rounding of powers is added to the bounds. Whether a chain mixes at all is read from where steps are possible.

    Raises:
        ChainError: ε not between 0 and ½.

    Source: Levin, Peres and Wilmer, "Markov Chains and Mixing Times" (2009), lemmas 4.11 and 4.12, section 12.2 (where
    |λ|ⁿ ≤ 2d(n)); the version with a residual is ours.
    """
    if not 0 < epsilon < 0.5:
        raise ChainError(f"epsilon = {epsilon!r}, expected a distance in total variation above 0 and below ½: 0.25")
    mixes = _mixes(operator)
    slow = spectrum(operator, 2)
    relaxation = torch.where(mixes, 1 / slow.gap.clamp(min=0), torch.inf)
    lower = torch.where(mixes, _from_eigenvector(operator, slow, epsilon), torch.inf)
    found = []
    for _, group in told_groups(operator, torch.float64, "mixing time"):
        if operator.num_tokens > constants.MIXING_SQUARED:
            least = torch.ones(group.shape[0], dtype=torch.float64, device=group.device)
            found.append(torch.stack([least, _steps(doeblin(group) + rounding(operator.num_tokens), 1, epsilon)]))
            continue
        few = max(1, constants.POWER_BYTES // (8 * operator.num_tokens**2 * constants.MIXING_DOUBLINGS))
        bounded = _exact if operator.num_tokens <= constants.MIXING_EXACT else _from_powers
        for start in range(0, group.shape[0], few):
            a = group.index(slice(start, start + few)).to_dense(torch.float64)
            found.append(bounded(_powers(a, epsilon), epsilon))
    least, most = torch.cat(found, -1).reshape(2, *operator.batch)
    lower = torch.where(mixes, torch.minimum(torch.maximum(lower, least), most), torch.inf)
    upper = torch.where(mixes, most, torch.inf)
    exact, applies = lower == upper, slow.certificate.applies
    between = torch.where(exact, 0.0, upper - lower)
    certificate = Certificate(exact, torch.zeros_like(between), between, applies, "powers and eigenvectors")
    return MixingTime(upper, lower, relaxation, epsilon, certificate)


def _mixes(operator: Operator) -> Tensor:
    """One recurrent class, of period one: bool (*batch)."""
    if is_everywhere(operator.support()):
        return torch.ones(operator.batch, dtype=torch.bool, device=operator.device)
    found = classes(operator)
    return (found.recurrent_count == 1) & (torch.where(found.recurrent, found.period, 0).amax(-1) == 1)


def _from_eigenvector(operator: Operator, slow: Spectrum, epsilon: float) -> Tensor:
    """The lower bound, (*batch), from the dominant pair in the slow subspace."""
    n = operator.num_tokens
    if n == 1:
        return torch.zeros(operator.batch, dtype=torch.float64, device=operator.device)
    basis = slow.right
    image = operator @ basis
    # constants apart: a function and its image modulo constants are all that differences see
    form = (basis.mT @ image)[..., 1:, 1:]
    values, vectors = (x.reshape(*operator.batch, *x.shape[1:]) for x in eigen(form.reshape(-1, *form.shape[-2:])))
    place = values.abs().argmax(-1, keepdim=True)
    value = values.gather(-1, place)[..., None]
    value = value / value.abs().clamp(min=1) * (1 - 2**-52)
    chosen = vectors.gather(-1, place[..., None, :].expand(*vectors.shape[:-1], 1))
    f = basis[..., 1:].to(chosen.dtype) @ chosen
    rest = image[..., 1:].to(chosen.dtype) @ chosen - value * f
    corner = (f - f[..., :1, :]).abs().argmax(-2, keepdim=True)
    diameter = (f - f.gather(-2, corner)).abs().amax((-2, -1))  # of f, at least half of it and never more
    wrong = 2 * (rest - rest.mean(-2, keepdim=True)).abs().amax((-2, -1)) + 8 * rounding(n) * f.abs().amax((-2, -1))
    modulus = value.abs()[..., 0, 0]
    share = 2 * epsilon + wrong / ((1 - modulus) * diameter)
    steps = (share.log() / modulus.log()).ceil() - 0.0
    return torch.where((share < 1) & (modulus > 0) & (diameter > 0), steps.clamp(min=0), 0.0)


def _powers(a: Tensor, epsilon: float) -> Iterator[Tensor]:
    """A, A², A⁴, … (h, N, N) until all heads have mixed."""
    yield a
    for _ in range(constants.MIXING_DOUBLINGS):
        if bool((_contraction(a) <= epsilon / 2).all()):
            return
        a = a @ a
        a = a / a.sum(-1, keepdim=True)
        yield a


def _contraction(a: Tensor) -> Tensor:
    """An upper bound of δ(A), (h,), in O(N²)."""
    common = 1 - a.amin(-2).sum(-1)
    return torch.minimum(common.clamp(min=0), (a - a.mean(-2, keepdim=True)).abs().sum(-1).amax(-1))


def _from_powers(powers: Iterator[Tensor], epsilon: float) -> Tensor:
    """Zero and the best upper bound of all powers, (2, h)."""
    bounds = [_steps(_contraction(a) + 2.0**k * rounding(a.shape[-1]), 2**k, epsilon) for k, a in enumerate(powers)]
    best = torch.stack(bounds).amin(0)
    return torch.stack([torch.zeros_like(best), best])


def _steps(contraction: Tensor, power: int, epsilon: float) -> Tensor:
    """s ⌈log ε / log δ⌉; inf where δ is not below one."""
    times = (math.log(epsilon) / contraction.clamp(max=1).log()).ceil().clamp(min=1)
    return torch.where(contraction < 1, power * times, torch.inf)


def _exact(powers: Iterator[Tensor], epsilon: float) -> Tensor:
    """The first power that is within ε of π, as both bounds, (2, h); where none is found a lower bound, and inf."""
    kept = list(powers)
    a, last = kept[0], kept[-1]
    n, longest = a.shape[-1], 2.0 ** (len(kept) - 1)
    pi, decided = try_stationary(a)

    def distance(power: Tensor) -> Tensor:
        return 0.5 * (power - pi[:, None]).abs().sum(-1).amax(-1)

    wanted = epsilon + MET
    reached = torch.eye(n, dtype=a.dtype, device=a.device).expand_as(a)
    steps = (distance(reached) > wanted).double()
    for bit in reversed(range(len(kept) - 1)):
        further = reached @ kept[bit]
        still = distance(further) > wanted
        reached = torch.where(still[:, None, None], further, reached)
        steps = steps + still * 2.0**bit
    # π is not needed for this: half the distance of two rows
    apart = 0.25 * (last - last[:, :1]).abs().sum(-1).amax(-1) > epsilon + longest * rounding(n)
    open_still = (distance(last) > wanted) | ~decided
    least = apart.double() * (longest + 1)
    return torch.stack([torch.where(open_still, least, steps), torch.where(open_still, torch.inf, steps)])


@dataclass(frozen=True, repr=False)
class Dobrushin(Result):
    """Dobrushin's coefficient of ergodicity of every chain.

    Attributes:
        values: δ(A), float64 (*batch), 0 … 1.
        certificate: exact.
        caption: where the chain comes from, in words.
    """

    LABELS = (("values", "coefficient"),)

    values: Tensor
    certificate: Certificate
    caption: str = field(default="", compare=False)


def dobrushin(operator: Operator) -> Dobrushin:
    """δ(A) = ½ max_{i,k} Σ_j |A_ij − A_kj|, exact, float64 (*batch), 0 … 1.

    The largest total variation distance that is left between two walks after one step, wherever they began:
    ‖μA − νA‖₁ ≤ δ(A) ‖μ − ν‖₁. δ(AB) ≤ δ(A) δ(B), so that for a product of layers (``tr.compose``) it says how much
    of where a walk began can still show at its end; |λ₂| ≤ δ. 0: all rows are the same; 1: some two tokens attend to
    nothing in common.

    N² (N + 1)/2 differences a head in blocks of rows; see ``doeblin`` for a bound in O(N²).

    Source: Dobrushin, "Central limit theorem for nonstationary Markov chains" (1956); Seneta, "Non-negative Matrices
    and Markov Chains" (1981), chapter 4.3.
    """
    parts = [_of_group(group) for _, group in told_groups(operator, torch.float64, "Dobrushin's coefficient")]
    exact = Certificate.exact(
        operator.batch, operator.device, operator.num_tokens, "all pairs of rows", operator.source
    )
    certificate = replace(exact, error_bound=operator.row_error(torch.float64))  # ½ (η + η)
    return Dobrushin(torch.cat(parts).reshape(operator.batch), certificate)


def _of_group(operator: Operator) -> Tensor:
    n = operator.num_tokens
    widest = torch.zeros(operator.shape[0], dtype=torch.float64, device=operator.device)
    size = constants.COMPARED_ROWS
    starts = range(0, n, size)
    for start in starts:
        rows = operator.rows(start, min(start + size, n), torch.float64)
        for other in starts[: start // size + 1]:
            others = rows if other == start else operator.rows(other, min(other + size, n), torch.float64)
            widest = torch.maximum(widest, torch.cdist(rows, others, p=1.0).amax((-2, -1)))
    return (widest / 2).clamp(max=1)
