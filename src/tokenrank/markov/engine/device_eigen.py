"""The dominant eigenpair of many small matrices by squarings alone: batched products, no eigenproblem on the device.

A device's library takes eigenproblems one matrix after the other and waits for each. Normalised squares
S², S⁴, … of a matrix S come to the projector on the eigenvalues of largest modulus; where these are one real number, a
real number and its negative, or a conjugate pair, the rest is a 2 × 2 eigenproblem in closed form. Where they are
more, as on a ring, its residual says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import constants
from .device_space import orthonormal

TINY = torch.finfo(torch.float64).tiny
ALONE = 1e-8  # of ‖S q‖, beyond q: below, q counts as an eigenvector, since what is beyond may be rounding
LEFT = 1e-3  # ‖wᴴS − θ wᴴ‖, relative to max(|θ|, 0.1), up to which w is a left vector
SQUARED = 3  # squarings in a row before a matrix is made one long again: far from the ends of double precision
BLOCK_TURNS = 3  # of so many squarings, after which a block of vectors is multiplied
SMALL = 1e-7  # moduli that are the rounding of single precision
NEAR = 1e-6  # how far |θ| may be from the spectral radius, relatively, to be the largest


@dataclass(frozen=True)
class DominantPair:
    """The eigenvalue θ of largest modulus of h projections S (m, m), and what it is worth; float64, no NaN.

    Attributes:
        modulus: |θ|, (h,).
        radius: the spectral radius ‖S^p‖^(1/p) with p = 2^``constants.DEVICE_SQUARINGS``, (h,): to 1e-6 or so,
            whatever the eigenvectors are; 0 where powers are lost, as of large Jordan blocks.
        residual: ‖M y − θ y‖₂ of the unit Ritz vector y as the recurrence sees it, (h,); inf where it is ``crowded``.
        inside: the part of it within the space, (h,): not small where more than two eigenvalues have one modulus.
        crowded: whether |θ| is not the radius, as where several are close to it, bool (h,).
        condition: 1 / |wᴴy| with the unit left vector w of S, (h,).
        seen: how much of y the start of the space has, (h,); see ``Ritz.seen``.
        coordinates: y in the basis, real and imaginary part, (h, m, 2).
        block: orthonormal columns (h, m, b) in the span of the largest eigenvalues, to go on from.
    """

    modulus: Tensor
    radius: Tensor
    residual: Tensor
    inside: Tensor
    crowded: Tensor
    condition: Tensor
    seen: Tensor
    coordinates: Tensor
    block: Tensor


def dominant_pair(projection: Tensor, factor: Tensor, generator: torch.Generator) -> DominantPair:
    """The dominant eigenpair of every projection, without a word from the host.

    Args:
        projection: M in an orthonormal basis, float64 (h, m + b, m); see ``KrylovSpace``.
        factor: the start of the space in its first b vectors, float64 (h, b, b).
        generator: on the device of both.

    Source: Gelfand's formula for the radius; Parlett, "The symmetric eigenvalue problem" (1998), chapter 4, for
    powers; the 2 × 2 problem by its characteristic polynomial.
    """
    b, m = factor.shape[-1], projection.shape[-1]
    square, below = projection[:, :m], projection[:, m:]
    heads = len(square)
    random = torch.randn(m, 2 + b, generator=generator, dtype=torch.float64, device=square.device).expand(heads, -1, -1)
    power, radius, block = _powers(square, random[..., 2:])
    # left vectors are those of the transpose: both in one go
    both = torch.cat([square, square.mT])
    limits = torch.cat([torch.bmm(power, random[..., :1]), torch.bmm(power.mT, random[..., 1:2])])
    planes = _planes(both, limits, random[..., :2].mT.reshape(2 * heads, m, 1))
    forms = torch.bmm(planes.mT, torch.bmm(both, planes))
    real, imag = _largest(forms[:heads])
    twice = torch.cat([real, real]), torch.cat([imag, -imag])
    vectors = _unit(torch.bmm(planes, _vectors(forms, *twice)))
    off = torch.linalg.matrix_norm(torch.bmm(both, vectors) - _times(vectors, *twice))
    y, w = vectors[:heads], vectors[heads:]
    modulus = torch.hypot(real, imag)
    residual = torch.hypot(off[:heads], torch.linalg.matrix_norm(torch.bmm(below, y)))
    crowded = (modulus - radius).abs() > NEAR * radius + SMALL
    residual = torch.where(crowded, torch.inf, residual)
    # a left vector that is none says nothing about the condition
    overlap = torch.where(off[heads:] <= LEFT * modulus.clamp(min=0.1), _inner(w, y), 0.0) + TINY
    found = torch.linalg.matrix_norm(torch.bmm(factor.mT, w[:, :b])) / b**0.5
    return DominantPair(modulus, radius, residual, off[:heads], crowded, 1 / overlap, found / overlap, y, block)


def _powers(square: Tensor, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """S^p, p = 2^``DEVICE_SQUARINGS``, its largest entry one, zero where S^p is, (h, m, m); ‖S^p‖^(1/p), (h,); a basis.

    The basis (h, m, b) is that of a block after some of the powers on the way: of the b largest eigenvalues, more or
    less. Directions that are lost in them are of no consequence, and hold rounding.
    """
    power, sizes = square, []
    for turn in range(1 + constants.DEVICE_SQUARINGS // SQUARED):
        for _ in range(SQUARED if turn else 0):
            power = torch.bmm(power, power)
        size = power.abs().amax((-2, -1), keepdim=True)  # whose squares could be lost
        power = power / (size + TINY)
        sizes.append(size[:, 0, 0])
        if turn <= BLOCK_TURNS:
            block = orthonormal(_unit(torch.bmm(power, block)))
    logs = torch.stack(sizes, -1).log()
    shares = 0.5 ** (SQUARED * torch.arange(logs.shape[-1], dtype=logs.dtype, device=logs.device))
    return power, (logs * shares).sum(-1).exp(), orthonormal(block)


def _planes(squares: Tensor, x: Tensor, otherwise: Tensor) -> Tensor:
    """Orthonormal columns (h, m, 2) along x and S x (h, m, 1), the second zero where S x has nothing beyond x.

    Where powers are zero, so that x is, ``otherwise`` stands for it.
    """
    size = torch.linalg.matrix_norm(x, keepdim=True)
    q = _unit(torch.where(size > 0, x, otherwise))
    image = torch.bmm(squares, q)
    size = torch.linalg.matrix_norm(image, keepdim=True)
    beyond = image - q * torch.bmm(q.mT, image)
    beyond = beyond - q * torch.bmm(q.mT, beyond)
    rest = torch.linalg.matrix_norm(beyond, keepdim=True)
    return torch.cat([q, torch.where(rest > ALONE * size, beyond / (rest + TINY), 0.0)], -1)


def _largest(form: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part (h,) of the eigenvalue of largest modulus of 2 × 2 matrices; the imaginary one ≥ 0."""
    a, b, c, d = form.flatten(1).unbind(-1)
    middle, half = (a + d) / 2, (a - d) / 2
    under = half * half + b * c
    root = under.abs().sqrt()
    real = torch.where(under >= 0, middle + torch.where(middle >= 0, root, -root), middle)
    return real, torch.where(under >= 0, 0.0, root)


def _vectors(form: Tensor, real: Tensor, imag: Tensor) -> Tensor:
    """An eigenvector (h, 2, 2), real and imaginary part in columns, of 2 × 2 matrices for the eigenvalue θ.

    A row of F − θ is orthogonal to it, the longer one of the two; where both vanish every vector is one.
    """
    a, b, c, d = form.flatten(1).unbind(-1)
    zero = torch.zeros_like(a)
    first = torch.stack([torch.stack([b, zero], -1), torch.stack([real - a, imag], -1)], -2)
    second = torch.stack([torch.stack([real - d, imag], -1), torch.stack([c, zero], -1)], -2)
    sizes = torch.linalg.matrix_norm(first), torch.linalg.matrix_norm(second)
    chosen = torch.where((sizes[0] >= sizes[1])[:, None, None], first, second)
    axis = torch.zeros_like(first)
    axis[:, 0, 0] = 1
    return torch.where((torch.maximum(*sizes) > 0)[:, None, None], chosen, axis)


def _unit(x: Tensor) -> Tensor:
    return x / (torch.linalg.matrix_norm(x, keepdim=True) + TINY)


def _times(x: Tensor, real: Tensor, imag: Tensor) -> Tensor:
    """θ x of complex vectors (h, m, 2)."""
    turned = torch.stack([-x[..., 1], x[..., 0]], -1)
    return real[:, None, None] * x + imag[:, None, None] * turned


def _inner(w: Tensor, y: Tensor) -> Tensor:
    """|wᴴ y| of complex vectors (h, m, 2), (h,)."""
    real = (w * y).sum((-2, -1))
    imag = (w[..., 0] * y[..., 1] - w[..., 1] * y[..., 0]).sum(-1)
    return torch.hypot(real, imag)
