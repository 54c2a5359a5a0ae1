"""Rules for the number of bounces that lost to a fixed number in ``horizons.py``, kept here so that it can be run.

With t_i = −1 / log|λ_i| and every number rounded up, then kept within 1 … ``LIMIT``:

- "relax": n = t_2, the relaxation time: 1/e of the slowest mode is left.
- "plateau": n = √(t_m · t_{m+1}), with the largest ratio t_m / t_{m+1} among the ten first from t_2 on: the fast modes
  are gone and the slow ones not yet, the plateau of metastable chains (Deuflhard and Weber 2005; Schütte et al. 1999).
  A walk of whole steps up to the limit cannot tell timescales beyond it, or below one step, apart: they count as
  ``LIMIT`` and as 1. Where all are alike there is no gap, and n = t_2.
- "knee": where the von Neumann entropy of the spectrum of Aⁿ, n = 1 … ``LIMIT``, is best fitted by two lines (PHATE,
  Moon et al. 2019; there the operator is nearly symmetric and its singular values are taken; attention is not, and
  eigenvalues are taken here). All eigenvalues are taken up to 1,024 tokens; beyond, the 48 leading ones and ‖A‖_F
  give an estimate.

The fourth rule, "halflife", is ``tokenrank.markov.half_life``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokenrank.markov import half_life, lambda2, spectrum
from tokenrank.markov.engine.batching import head_groups
from tokenrank.markov.engine.eigenvalues import quotient_matrix
from tokenrank.operators import Operator

RULES = ("relax", "plateau", "knee", "halflife")
LIMIT = 64  # bounces; beyond that TokenRank is the question
LEADING = 10  # timescales among which the plateau's gap is looked for
ALL = 256  # tokens up to which a few eigenvalues are taken from all of them
ALL_FOR_KNEE = 1024  # the knee needs them all: seconds a head
PART = 48  # eigenvalues that it makes do with beyond
ROUNDING = 1e-9  # of a number of bounces, before it is rounded up
FLAT = 1e-9  # nats; a curve that falls by less has no knee


def bounces_by(rule: str, operator: Operator, start: Tensor) -> tuple[Tensor, Tensor]:
    """Bounces for every chain of an operator (*batch, N, N), int64 (*batch), and whether ``LIMIT`` decided.

    ``start`` (*batch, N) is a distribution; only "halflife" looks at it.
    """
    if rule == "halflife":
        answer = half_life(operator, start, LIMIT)
        return answer.values, ~answer.certificate.converged
    if rule == "knee":
        steps = _knee(operator)
        return steps, torch.zeros_like(steps, dtype=torch.bool)
    t = 1 / _moduli(operator, 2 if rule == "relax" else LEADING + 1, ALL).log().abs()[..., 1:]
    if not t.shape[-1]:
        t = t.new_zeros(*t.shape[:-1], 1)  # one token: nothing to wait for
    if rule == "relax":
        n = t[..., 0]
        capped = n > LIMIT * (1 + ROUNDING)
    else:
        told = t.clamp(1, LIMIT)
        told = torch.cat([told, told[..., -1:]], -1)  # no gap behind the last one known
        before = (told[..., :-1] / told[..., 1:]).argmax(-1, keepdim=True)
        n = (told.gather(-1, before) * told.gather(-1, before + 1))[..., 0].sqrt()
        capped = t.gather(-1, before)[..., 0] > LIMIT
    return (n.clamp(max=LIMIT) * (1 - ROUNDING)).ceil().long().clamp(1, LIMIT), capped


def _moduli(operator: Operator, count: int, largest: int) -> Tensor:
    """The ``count`` leading |λ|, descending (*batch, min(count, N)).

    From the diagonal of a triangular chain, from all eigenvalues up to ``largest`` tokens, from a Krylov space beyond.
    """
    n = operator.num_tokens
    count = min(count, n)
    if operator.structure == "full" and n > largest:
        if count == 2:
            second = lambda2(operator).values
            return torch.stack([torch.ones_like(second), second], -1).double()
        return spectrum(operator, count).values[..., :count].abs().clamp(max=1)
    if operator.structure != "full":
        every = operator.diagonal(torch.float64)
    else:
        groups = [group for _, group in head_groups(operator, torch.float64)]
        found = [torch.linalg.eigvals(quotient_matrix(group.to_dense(torch.float64))).abs() for group in groups]
        # the quotient has a 0 for λ₁ = 1
        every = torch.cat(found).reshape(*operator.batch, n)
        every = torch.cat([torch.ones_like(every[..., :1]), every.topk(n - 1, -1).values], -1)
    moduli = every.topk(count, -1).values.clamp(max=1)
    moduli[..., 0] = 1  # to rounding
    return moduli


def _knee(operator: Operator) -> Tensor:
    n = operator.num_tokens
    everything = n <= ALL_FOR_KNEE or operator.structure != "full"
    moduli = _moduli(operator, n if everything else PART, ALL_FOR_KNEE)
    flat = moduli.reshape(-1, moduli.shape[-1])
    if moduli.shape[-1] == n:
        return knee(entropy_curve(flat, LIMIT)).reshape(operator.batch)
    return _knee_of_part(flat, _squared_norm(operator).reshape(-1), n).reshape(operator.batch)


def entropy_curve(moduli: Tensor, limit: int, tail: Tensor | None = None, tail_count: Tensor | None = None) -> Tensor:
    """H(n) = −Σ p_i log p_i with p_i = |λ_i|ⁿ / Σ_j |λ_j|ⁿ, in nats, for n = 0 … limit: (h, limit + 1).

    ``moduli`` |λ_i| are (h, m), the largest of them 1; ``tail``, ``tail_count`` (h,): further eigenvalues of one
    modulus and how many, not necessarily whole.
    """
    count = torch.ones_like(moduli)
    if tail is not None and tail_count is not None:
        moduli, count = torch.cat([moduli, tail[:, None]], -1), torch.cat([count, tail_count[:, None]], -1)
    n = torch.arange(limit + 1, dtype=moduli.dtype, device=moduli.device)[:, None]
    power = moduli[:, None] ** n  # 0⁰ = 1: nothing has decayed yet
    total = (count[:, None] * power).sum(-1)
    weighted = (count[:, None] * torch.special.xlogy(power, power)).sum(-1)
    return (total.log() - weighted / total).clamp(min=0)


def knee(curve: Tensor) -> Tensor:
    """The n at which two straight lines fit H(1), H(2), … best, (h,) int64, for ``curve`` (h, limit + 1) from H(0).

    Least squares on n = 1 … b and on b … limit, b from 2 to limit − 1, the first b of the smallest sum of squares. A
    curve that stays where it is has no knee: 1.
    """
    y = curve[:, 1:]
    m = y.shape[-1]
    first = _line_errors(y)
    last = _line_errors(y.flip(-1)).flip(-1)
    best = (first + last)[:, 1 : m - 1].argmin(-1) + 2
    flat = y.amax(-1) - y.amin(-1) <= FLAT
    return torch.where(flat, 1, best)


def _line_errors(y: Tensor) -> Tensor:
    """Sums of squares that a least-squares line leaves on y[0 … b], for every b, (h, m)."""
    m = y.shape[-1]
    number = torch.arange(1, m + 1, dtype=y.dtype, device=y.device)
    x = number - 1
    y = y - y.mean(-1, keepdim=True)  # less to cancel where the curve is almost flat
    sum_x, sum_y, sum_xx = x.cumsum(0), y.cumsum(-1), (x * x).cumsum(0)
    sxx = sum_xx - sum_x**2 / number  # 0, 1/2, 2, …
    sxy = (x * y).cumsum(-1) - sum_x * sum_y / number
    syy = (y * y).cumsum(-1) - sum_y**2 / number
    return (syy - sxy**2 / sxx.clamp(min=0.5)).clamp(min=0)


def _knee_of_part(moduli: Tensor, squares: Tensor, tokens: int) -> Tensor:
    """The knee from the m leading moduli (h, m) and ‖A‖²_F ≥ Σ|λ_i|² (Schur), (h,).

    The unknown ones have Σ|λ|² at most what is left of ‖A‖²_F. Nine spectra from what that allows: none of it, and
    quarters of it up to all, spread evenly or over as few eigenvalues as possible. The answer is the median of their
    knees; that they enclose the true knee is not proved.
    """
    rest = tokens - moduli.shape[-1]
    largest = moduli[:, -1]
    left = (squares - (moduli**2).sum(-1)).clamp(min=0)
    every = torch.full_like(left, rest)
    curves = [entropy_curve(moduli, LIMIT)]
    for share in (0.25, 0.5, 0.75, 1.0):
        even = torch.minimum(largest, (share * left / rest).sqrt())
        few = torch.minimum(share * left / largest.square().clamp(min=torch.finfo(left.dtype).tiny), every)
        curves += [entropy_curve(moduli, LIMIT, even, every), entropy_curve(moduli, LIMIT, largest, few)]
    return torch.stack([knee(curve) for curve in curves]).median(0).values


def _squared_norm(operator: Operator) -> Tensor:
    """‖A‖²_F of every head, (*batch), a block of rows at a time: O(N²) work, no N × N memory."""
    total = torch.zeros(operator.batch, dtype=torch.float64, device=operator.device)
    for start, stop in operator.blocks():
        total += operator.rows(start, stop).double().square().sum((-2, -1))
    return total
