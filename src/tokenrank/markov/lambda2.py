"""|λ2|: how slowly a head forgets where the walk began."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators import Dense, Operator
from .certificate import Certificate
from .engine import constants
from .engine.batching import head_groups
from .engine.eigenvalues import quotient_matrix
from .engine.krylov import Apply, KrylovSpace, centred, quotient
from .result import Result

TOLERANCE = 2e-4  # residual that counts as converged, relative to max(|λ2|, 0.1)
ERROR = 5e-4  # first-order error of |λ2| that is let pass, however small the residual
ORDER = ("diagonal", "eigenvalues", "arnoldi")


@dataclass(frozen=True, repr=False)
class Lambda2(Result):
    """Second-largest eigenvalue modulus of every head.

    Attributes:
        values: |λ2|, (*batch), 0 … 1.
        certificate: ``residual`` is ‖M y − λ y‖₂ of the unit Ritz vector y on the quotient; 0 where it was not
            iterated. Uncertain where it stayed above ``TOLERANCE`` · max(|λ2|, 0.1), as it does on rings of eigenvalues
            of (almost) one modulus, or its product with the condition of the eigenvalue above ``ERROR``: the value is
            then an estimate. No error bound.
    """

    values: Tensor
    certificate: Certificate


def lambda2(operator: Operator, seed: int = 0) -> Lambda2:
    """|λ2| of every head of an operator (*batch, N, N), without its π.

    A 1 = 1, so X ↦ A X − mean(A X) has the eigenvalues {0, λ2, λ3, …}: attend, subtract the
    mean over tokens (quotient deflation). Block Arnoldi on that map, gone on with and restarted
    for the heads that have not converged. Where eigenvalues of one modulus form a ring no Krylov space converges; the
    growth of ‖Mᵏ X‖ then gives the estimate, and ``uncertain`` is set. Triangular (causal)
    chains have their eigenvalues on the diagonal.

    A chain of one token has no second eigenvalue; its |λ2| is 0.
    """
    parts = [_of_group(group, seed) for _, group in head_groups(operator, operator.dtype)]
    values = torch.cat([part.values for part in parts]).reshape(operator.batch)
    return Lambda2(values, Certificate.joined([part.certificate for part in parts], operator.batch, ORDER))


def _of_group(operator: Operator, seed: int) -> Lambda2:
    n = operator.num_tokens
    if operator.structure != "full" and n > 1:
        values = operator.diagonal().topk(2, -1).values[:, 1].clamp(max=1)
        return Lambda2(values, _not_iterated(values, "diagonal"))
    if n <= constants.ALL_EIGENVALUES:
        # so few tokens that double precision costs nothing; peaky heads are far from normal and need it
        quotient = quotient_matrix(operator.to_dense(torch.float64))
        values = torch.linalg.eigvals(quotient).abs().amax(-1).to(operator.dtype).clamp(max=1)
        return Lambda2(values, _not_iterated(values, "eigenvalues"))
    return _krylov(operator, seed)


def _not_iterated(values: Tensor, method: str) -> Certificate:
    return Certificate(torch.ones_like(values, dtype=torch.bool), torch.zeros_like(values), None, 1, method)


def _krylov(operator: Operator, seed: int) -> Lambda2:
    heads, n = operator.shape[:2]
    # columns are nearly free in a fused attention call; a dense product pays for each
    width = 2 if isinstance(operator, Dense) else 8
    transposed = isinstance(operator, Dense)  # the row-major product is the faster one there
    generator = torch.Generator().manual_seed(seed)
    block = torch.randn(n, width, generator=generator, dtype=torch.float64).to(operator.device, operator.dtype)
    block = centred(block).expand(heads, -1, -1)
    values = torch.zeros(heads, dtype=operator.dtype, device=operator.device)
    residual = torch.full_like(values, torch.inf)
    active, part, applies = torch.arange(heads, device=operator.device), operator, 0
    for _ in range(1 + constants.LAMBDA2_RESTARTS):
        space = KrylovSpace(block, constants.LAMBDA2_DIMENSION)
        while len(active):
            for _ in range(constants.LAMBDA2_DIMENSION // width // constants.LAMBDA2_CHECKS):
                if not space.full:
                    space.extend(quotient(part, transposed))
                    applies += 1
            ritz = space.leading()
            values[active], residual[active] = ritz.modulus, ritz.residual
            unsettled = (ritz.residual > TOLERANCE * ritz.modulus.clamp(min=0.1)) | (
                ritz.residual * ritz.condition > ERROR
            )
            done = space.full
            if done or bool(unsettled.sum() * 2 <= len(active)):
                active, space = active[unsettled], space.select(unsettled)
                part = operator.index(active)
            if done:
                break
        if not len(active):
            break
        block = centred(space.leading_block())
    uncertain = torch.zeros(heads, dtype=torch.bool, device=operator.device)
    if len(active):
        growth = _growth(quotient(part, transposed), block)
        applies += constants.LAMBDA2_GROWTH_STEPS
        values[active] = torch.maximum(values[active], growth)
        uncertain[active] = True
    return Lambda2(values.clamp(max=1), Certificate(~uncertain, residual, None, applies, "arnoldi"))


def _growth(apply: Apply, x: Tensor) -> Tensor:
    """Mean growth of ‖Mᵏ X‖ over the second half of ``constants.LAMBDA2_GROWTH_STEPS`` applies, (h,)."""
    rates = []
    for _ in range(constants.LAMBDA2_GROWTH_STEPS):
        x = x / torch.linalg.matrix_norm(x, keepdim=True)
        x = apply(x)
        rates.append(torch.linalg.matrix_norm(x).log())
    return torch.stack(rates[constants.LAMBDA2_GROWTH_STEPS // 2 :]).mean(0).exp()
