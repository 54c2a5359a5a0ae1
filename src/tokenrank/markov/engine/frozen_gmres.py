"""GMRES of all heads at once on a device: one recorded step, heads that are done frozen, a look every eight steps."""

from __future__ import annotations

import torch
from torch import Tensor

from .graphs import repeated
from .placement import Product

DIMENSION = 64  # of a space before it is left; the next begins from a residual in double precision
WORTH = 16  # steps that a space must have left to be gone on with
LOOK = 8  # steps between two looks at which heads are done
FALLS = 0.9  # a residual that fell below this share of the one before is the next direction, else the basis goes on
NOISE = 1e-6  # of a right-hand side that is rounding of single precision
CLOSED = 1e-6  # length of a direction of unit vectors that is rounding of single precision


class FrozenGMRES:
    """d = α Aᵀ d + r for every head of a product, in single precision.

    Adaptive simpler GMRES: with directions V and (I − α Aᵀ) V = Q R, Q orthonormal, what is left of r after each
    step is known (r ← r − q qᵀr), so that nothing small is factored on the way, and one triangular solve at the end
    gives d = V R⁻¹ Qᵀr. Directions are residuals while these fall, and the last q where they do not, which keeps R
    well conditioned. Orthogonalised twice by matrix products; where PyTorch is allowed to take them by TF32, the
    residual is less exact and more rounds are needed, no less is proved.

    A further right-hand side goes on in the same space while there is room: what of it lies in (I − α Aᵀ) V already is
    solved for without a product, so that rounds of refinement converge as one long run would.

    Shapes never change, and which heads are still at work is a tensor: a head whose residual is small enough, or whose
    space is closed under A, takes part with zeros. So a step is the same list of kernels each time, recorded once
    (``repeated``), and the host waits once in ``LOOK`` steps.

    Args:
        product: x (h, N, 1), live (h,) → Aᵀx; see ``placement``.
        alpha: 0 … 1.
        heads, tokens: h, N.
        device: where.

    Sources: Walker and Zhou, "A simpler GMRES" (1994); Jiránek and Rozložník, "Adaptive version of simpler GMRES"
    (2010).
    """

    def __init__(self, product: Product, alpha: float, heads: int, tokens: int, device: torch.device) -> None:
        self.product, self.alpha = product, alpha

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(heads, *shape, dtype=torch.float32, device=device)

        # what a step reads and writes: always the same memory
        self._directions, self._basis = zeros(DIMENSION, tokens), zeros(DIMENSION, tokens)  # V and Q, by rows
        self._triangle, self._shares = zeros(DIMENSION, DIMENSION), zeros(DIMENSION, 1)  # R and Qᵀr
        self._direction, self._left, self._before = zeros(tokens, 1), zeros(tokens, 1), zeros(1, 1)
        self._wanted, self._live = zeros(1, 1), zeros(1, 1).bool()
        self._row, self._columns, self._flags = self._direction.mT, self._basis.mT, self._live.view(-1)
        self._zero, self._one = torch.arange(2.0, device=device).unbind()  # numbers would be copied at every step
        self._place = torch.zeros(1, dtype=torch.int64, device=device)
        self._used = DIMENSION
        self.fresh = True  # whether the last solve began a space of its own
        self._steps = repeated(self._step, device)

    def solve(self, r: Tensor, wanted: Tensor, max_applies: int) -> tuple[Tensor, Tensor, int]:
        """d (h, N) as far as one space goes, ‖r + α Aᵀd − d‖₁ as the recurrence sees it, (h,), and the products taken.

        Args:
            r: (h, N), of ℓ1 norm about one; heads that are zero, or that want no more, are not worked on.
            wanted: ‖r + α Aᵀd − d‖₁, (h,); no less than rounding of single precision is looked for.
            max_applies: products allowed.
        """
        self._begin(r.to(torch.float32)[..., None], wanted.to(torch.float32)[:, None, None])
        done, most = 0, min(DIMENSION - self._used, max_applies)
        while done < most:
            some = min(LOOK, most - done)
            self._steps(some)
            done += some
            if done < most and not bool(self._live.any()):
                break
        self._used += done
        shares = torch.linalg.solve_triangular(self._triangle, self._shares, upper=True)
        return torch.bmm(shares.mT, self._directions)[:, 0], self._left.abs().sum((1, 2)), done

    def _begin(self, r: Tensor, wanted: Tensor) -> None:
        self.fresh = self._used + WORTH > DIMENSION
        if self.fresh:
            self._used = 0
            for kept in (self._directions, self._basis, self._triangle, self._shares, self._place):
                kept.zero_()
            self._triangle.diagonal(dim1=-2, dim2=-1).fill_(1.0)
            self._left.copy_(r)
        else:
            torch.bmm(self._basis, r, out=self._shares)
            torch.baddbmm(r, self._columns, self._shares, alpha=-1, out=self._left)
        torch.linalg.vector_norm(self._left, dim=1, keepdim=True, out=self._before)
        # what is less than rounding of r shows no direction
        torch.clamp(wanted, min=NOISE, out=self._wanted)
        torch.gt(torch.linalg.vector_norm(self._left, 1, dim=1, keepdim=True), self._wanted, out=self._live)
        torch.where(self._live, self._left / self._before, self._zero, out=self._direction)

    def _step(self) -> None:
        v, live, place, left = self._direction, self._live, self._place, self._left
        self._directions.index_copy_(1, place, self._row)
        w = torch.sub(v, self.product(v, self._flags), alpha=self.alpha)
        shares = torch.bmm(self._basis, w)
        w = torch.baddbmm(w, self._columns, shares, alpha=-1)
        again = torch.bmm(self._basis, w)
        w = torch.baddbmm(w, self._columns, again, alpha=-1)
        length = torch.linalg.vector_norm(w, dim=1, keepdim=True)
        live.logical_and_(length > CLOSED)
        diagonal = torch.where(live, length, self._one)
        q = torch.where(live, w.div_(diagonal), self._zero)
        row = q.mT
        self._basis.index_copy_(1, place, row)
        self._triangle.index_copy_(2, place, shares.add_(again).index_copy_(1, place, diagonal))
        share = torch.bmm(row, left)
        self._shares.index_copy_(1, place, share)
        left.addcmul_(q, share, value=-1)
        now = torch.linalg.vector_norm(left, dim=1, keepdim=True)
        live.logical_and_(torch.linalg.vector_norm(left, 1, dim=1, keepdim=True) > self._wanted)
        # the next direction: what is left where it fell, q elsewhere, nothing of heads that are done
        ahead = torch.where(self._before * FALLS > now, left / now, q)
        v.copy_(torch.where(live, ahead, self._zero))
        self._before.copy_(now)
        place.add_(1)
