"""Enclosures: where the eigenvalues of a real matrix are, proved, from its eigenvectors and from its powers.

Nothing here is first order: rounding of what is computed is counted in, and what is not proved is infinite.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .eigenvalues import paired, real_columns
from .lu import factor

EPS = torch.finfo(torch.float64).eps
DOUBLINGS = 24  # powers up to M^(2²⁴): the 2²⁴-th root of a condition of 1e16 is 1 + 2e-6


def rounding(length: int) -> float:
    """γ: relative error of a sum of so many products in float64, with room for the sums that are made of it."""
    return (2 * length + 8) * EPS


def discs(matrix: Tensor, values: Tensor, vectors: Tensor, slack: Tensor) -> Tensor:
    """Radii ρ (h, m) of discs about approximate eigenvalues, from approximate eigenvectors.

    The discs together hold all eigenvalues, and a part of them that no other disc touches holds as many as it has
    discs; inf throughout where that is not proved.

    With X the vectors, Y ≈ X⁻¹, R = M X − X Λ and G = Y X − I: X⁻¹ M X = Λ + F with F = X⁻¹ R = Y R − G F, and
    Gershgorin's discs of Λ + F are those of Λ with the row sums t of |F|, t ≤ |Y R| 1 + |G| t. A row of Y has the
    length of the condition number of its eigenvalue, so that an ill-conditioned one widens its own disc only. All in
    real numbers: a pair is two real columns, and a unitary matrix apart from two complex ones.

    Args:
        matrix: M as stored, float64 (h, m, m).
        values: Λ, complex (h, m), the two of a pair one after the other.
        vectors: X, complex (h, m, m), columns of length one up to rounding.
        slack: ‖M − the matrix that is meant‖₂, (h,).

    Source: Gershgorin (1931); Wilkinson, "The algebraic eigenvalue problem" (1965), chapter 2; Rump, "Verification
    methods" (2010), section 13.
    """
    m = matrix.shape[-1]
    if m == 0:
        return values.real.clone()
    gamma = rounding(m)
    first, second = paired(values)
    pair = first | second
    x = real_columns(values, vectors) * torch.where(pair, 2**0.5, 1.0)[:, None]
    y = _inverses(x)
    partner = torch.where(first[:, None], x.roll(-1, -1), x.roll(1, -1))
    residual = matrix @ x - (x * values.real[:, None] + partner * values.imag[:, None])
    rows = torch.linalg.vector_norm(y, dim=-1)
    # |Y||X| 1 is at most √2 m times the length of the row of Y, and columns of X are as long as √2
    product = y @ x
    product.diagonal(dim1=-2, dim2=-1).sub_(1)
    missed = product.abs().sum(-1) + 2 * m * gamma * rows
    # R is rounded by no more than γ (|M||X| + |X||Λ|), and its M is off by the slack
    lengths = 2 * (torch.linalg.vector_norm(matrix, dim=-1).amax(-1) + values.abs().amax(-1))
    longest = torch.linalg.vector_norm(residual, dim=-2).amax(-1)
    noise = m * gamma * (y.abs().sum(-1) * lengths[:, None] + rows * longest[:, None])
    own = (y @ residual).abs().sum(-1) + noise + 2 * m * rows * slack[:, None]
    worst = missed.amax(-1, keepdim=True)
    radius = 1.01 * (own + missed * own.amax(-1, keepdim=True) / (1 - worst))  # the sums themselves are rounded
    # a row of a pair, seen in complex numbers, is no longer than both of its real rows together
    radius = radius + torch.where(first, radius.roll(-1, -1), 0.0) + torch.where(second, radius.roll(1, -1), 0.0)
    known = torch.isfinite(radius).all(-1, keepdim=True) & (worst < 0.9)
    return torch.where(known, radius, torch.inf)


def _inverses(x: Tensor) -> Tensor:
    """Approximate inverses of (h, m, m), which are checked by who asks; no numbers where there is none."""
    if x.device.type == "cpu":  # one at a time, by LU; a batch of QR is as sound, and slower
        one = torch.eye(x.shape[-1], dtype=x.dtype)
        return torch.stack([factor(matrix).solve(one) for matrix in x])
    q, r = torch.linalg.qr(x)
    return torch.linalg.solve_triangular(r, q.mT, upper=True)


def spread(values: Tensor, radius: Tensor) -> Tensor:
    """How far an eigenvalue that belongs to a value may be from it, (h, m): across all discs that hang together."""
    m = values.shape[-1]
    if m == 0 or not bool(torch.isfinite(radius).any()):
        return radius.clone()
    touching = (values[:, :, None] - values[:, None]).abs() <= radius[:, :, None] + radius[:, None]
    labels = torch.ones_like(values.real, dtype=torch.long).cumsum(-1) - 1
    while True:
        smallest = torch.where(touching, labels[:, None], m).amin(-1)
        if torch.equal(smallest, labels):
            break
        labels = smallest
    total = torch.zeros_like(radius).scatter_add_(-1, labels, radius).gather(-1, labels)
    return torch.where(torch.isfinite(total), 2 * total - radius, torch.inf)


def radius_from_powers(matrix: Tensor, slack: Tensor) -> tuple[Tensor, Tensor]:
    """Proved bounds, lower and upper, of the spectral radius of M (h, m, m), (h,) each.

    From k = 2^j: ρ ≤ ‖Mᵏ‖^(1/k), and |tr Mᵏ| ≤ m ρᵏ. The powers are squared one out of the other, scaled to norm one,
    with what their rounding and ``slack`` may have changed carried along.
    """
    heads, m = matrix.shape[:2]
    upper = matrix.new_full((heads,), torch.inf, dtype=torch.float64)
    lower = torch.zeros_like(upper)
    if m == 0:
        return lower, torch.zeros_like(upper)
    tiny = torch.finfo(torch.float64).tiny
    size = torch.linalg.matrix_norm(matrix)
    scale = size.clamp(min=tiny)
    power, off = matrix / scale[:, None, None], slack / scale + 4 * EPS
    log = scale.log()
    present = (size > 0).double()  # a norm of 0 is nothing but its error
    square = torch.empty_like(power)
    for step in range(DOUBLINGS + 1):
        exponent = 2.0**-step
        upper = torch.minimum(upper, ((log + (present + off).log()) * exponent).exp())
        trace = power.diagonal(dim1=-2, dim2=-1).sum(-1).abs() - m**0.5 * off - m * EPS
        lower = torch.maximum(lower, ((log + (trace.clamp(min=0) / m).log()) * exponent).exp())
        if step == DOUBLINGS:
            break
        torch.bmm(power, power, out=square)
        size = torch.linalg.matrix_norm(square)
        scale = size.clamp(min=tiny)
        off = (rounding(m) + 2 * off + off.square()) / scale + 4 * EPS
        power, square = square.div_(scale[:, None, None]), power
        log, present = 2 * log + scale.log(), (size > 0).double()
    slip = 1 + 64 * EPS  # of the logarithms
    return lower.nan_to_num(nan=0.0) / slip, upper.nan_to_num(nan=torch.inf, posinf=torch.inf) * slip
