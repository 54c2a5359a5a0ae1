"""Bases of slow subspaces: block Arnoldi with thick restarts, and Rayleigh–Ritz in double precision."""

from __future__ import annotations

import torch
from torch import Tensor

from ...operators import Dense, Operator
from ..engine import constants
from ..engine.device_space import DeviceSpace
from ..engine.eigenvalues import by_modulus, cuts_pair, eigen, real_basis, within_circle
from ..engine.krylov import KrylovSpace, centred, quotient
from ..engine.transfer import brought, sent

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-5}  # residual that counts as settled, relative to max(|λ|, 0.1)


def _in_single(operator: Operator) -> bool:
    return operator.path == "device" and operator.dtype == torch.float32


def start_width(operator: Operator) -> int:
    """Columns of a start: what an apply of one more costs."""
    return 2 if isinstance(operator, Dense) and not _in_single(operator) else 8


def slow_space(operator: Operator, count: int, transposed: bool, seed: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """A basis (h, N, count + 1) of the slow subspace, how much of it is one, the largest condition number, applies.

    Who is done is decided on the host, where the small matrices of a device's space are brought once a fill; how much
    of the basis is one, (h,), is told there, too.
    """
    heads, n = operator.shape[:2]
    single, width = _in_single(operator), start_width(operator)
    keep = 2 * -(-(count + 8) // 2)
    capacity = min(max(2 * keep, 96), n - 2 * width) // width * width
    keep = min(keep, capacity // 4 * 2)
    space: KrylovSpace
    if single:
        drawn = torch.Generator(device=operator.device).manual_seed(seed)
        block = torch.randn(n, width, generator=drawn, device=operator.device)
        space = DeviceSpace(centred(block).expand(heads, -1, -1), capacity, drawn)
    else:
        generator = torch.Generator().manual_seed(seed)
        block = torch.randn(n, width, generator=generator, dtype=torch.float64).to(operator.device, operator.dtype)
        space = KrylovSpace(centred(block).expand(heads, -1, -1), capacity)
    basis = torch.zeros(heads, n, count + 1, dtype=torch.float64, device=operator.device)
    counts = torch.zeros(heads, dtype=torch.long)  # on the host
    condition = torch.zeros(heads, dtype=torch.float64)
    active, part, applies = torch.arange(heads), operator, 0
    for restart in range(constants.SPECTRUM_RESTARTS + 1):
        apply = quotient(part, transposed)
        while not space.full:
            space.extend(apply)
            applies += 1
        values, residual, own, vectors = (x.cpu() for x in space.ritz(count + 1))
        whole = count + cuts_pair(values, count).long()
        beyond = torch.arange(count + 1) >= whole[:, None]
        loose = residual > TOLERANCE[operator.dtype] * values.abs().clamp(min=0.1)
        unsettled = (loose & ~beyond).any(-1)
        done = ~unsettled if restart < constants.SPECTRUM_RESTARTS else torch.ones_like(unsettled)
        ready, left = (which.nonzero()[:, 0] for which in (done, ~done))
        if len(ready):
            here, coordinates = sent(operator.device, active[ready], real_basis(values[ready], vectors[ready]))
            basis[here] = space.select(ready).span(coordinates).double()
        counts[active[ready]] = whole[ready]
        condition[active[ready]] = own[ready].masked_fill(beyond[ready], 0.0).amax(-1).double()
        if not len(left):
            break
        active, space = active[left], space.select(left).restart(keep)
        part = operator.index(sent(operator.device, active)[0])
    return basis, counts, sent(operator.device, condition)[0], applies


def rayleigh_ritz(operator: Operator, basis: Tensor, counts: Tensor, transposed: bool) -> tuple[Tensor, Tensor]:
    """Eigenvalues (h, m) in order and nested bases (h, N, m), in float64, of what other bases span.

    Args:
        operator: (h, N, N).
        basis: (h, N, m).
        counts: how many of its columns count, (h,) on the host; beyond them values are NaN, and vectors zero.
        transposed: of Aᵀ.

    One product and one copy to the host for all heads.
    """
    basis = _orthonormal(basis)
    form = brought(basis.mT @ quotient(operator, transposed)(basis))[0]
    found = torch.full(form.shape[:2], torch.nan, dtype=torch.complex128)
    turn = torch.zeros_like(form)
    for count in counts.unique().tolist():  # one matrix has one number of values
        heads = (counts == count).nonzero()[:, 0]
        values, vectors = eigen(form[heads, :count, :count])
        values = within_circle(values)
        order = by_modulus(values)
        values = values.gather(-1, order)
        found[heads, :count] = values
        turn[heads, :count, :count] = real_basis(values, vectors.gather(-1, order[:, None].expand_as(vectors)))
    values, turn = sent(operator.device, found, turn)
    return values, basis @ turn


def _orthonormal(basis: Tensor) -> Tensor:
    """The basis (h, N, m) orthogonal to the constant vector, too; directions that are lost are replaced."""
    basis = centred(basis)
    size = torch.linalg.vector_norm(basis, dim=-2, keepdim=True)
    generator = torch.Generator().manual_seed(0)
    fresh = torch.randn(basis.shape[1:], generator=generator, dtype=torch.float64)
    # a null vector may be the constant one
    basis = torch.where(size < 1e-6, centred(sent(basis.device, fresh)[0]), basis)
    return torch.linalg.qr(basis).Q
