"""Weights of keys in the values, not in the logits: softmax(s + b) x = attention(eᵇ x) / attention(eᵇ).

So heads keep their width, half precision stays half, and no mask is made. Both products of a chain have this form: with
r the logarithms of the sums of rows, A x takes b, the bias of the keys, and

    (Aᵀx)_j = exp(b_j + w_j) · attention(K, Q, x e^{−r})_j,   w_j = log Σ_i exp(s_ij),

since the sum that attention divides by is e^{w_j}. What a format can hold limits how far weights may be apart: a key
that matters but lies 87 nats below the largest logit of its row underflows in float32. The part of b that is linear in
the keys is therefore absorbed where that is needed: (q_i + u)·k_j = q_i·k_j + u·k_j, u by least squares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..base import Structure
from .fused import attend
from .halves import HALVES

Way = Literal["ahead", "back"]
"""A x or Aᵀx."""

Side = tuple[Way, torch.dtype]
"""A way, and what queries and keys are multiplied in."""

LIMIT = {torch.float32: 60.0, torch.bfloat16: 60.0, torch.float16: 8.0}
"""Nats that the mean weight of a row may lie below the largest of all: what is lost is e^LIMIT of the least number."""

LEAST = {torch.float32: 2.0**-126, torch.bfloat16: 2.0**-126, torch.float16: 2.0**-25}
"""What an exponential between 0 and 1 may be off by, beside its relative error."""


class Weighted:
    """attention(f ⊙ x) for factors f of the keys, of which the largest is 1, and what it is divided by.

    Args:
        q, k: (*batch, N, d) and (*batch, M, d), in the dtype of the kernel.
        bias: log f up to a constant, (*batch, M) in float64, −∞ for none; or None.
        scale: factor of the logits.
        triangle: "lower": query i sees keys 0 … i, "upper": i … N − 1; M = N.
        size: a bound of scale · Σ_m |q_im k_jm|, (*batch,), and of what was absorbed into it.
        empty: queries that see no key with a factor, bool (*batch or less, N); or None.
        seen: which of the tokens of x the keys are, (M,), where some are left out; or None.

    Attributes:
        factors: f, (*batch, M, 1) in float32, and ``top``, the logarithm of the largest before it was made 1.
        after: what ``product`` multiplies the answer with, (*batch, N, 1) in float32; None for one.
    """

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        bias: Tensor | None,
        scale: float,
        triangle: Structure,
        size: Tensor,
        empty: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> None:
        self.q, self.k, self.scale, self.triangle, self.size = q, k, scale, triangle, size
        self.empty, self.seen = empty, seen
        self.bias, self.top, self.factors = bias, None, None
        if bias is not None:
            top = bias.amax(-1, keepdim=True)
            self.top = torch.where(top > -math.inf, top, 0.0)
            self.factors = (bias - self.top).exp().float()[..., None]
        self.after: Tensor | None = None
        self._found: tuple[Tensor, Tensor] | None = None

    def product(self, x: Tensor) -> Tensor:
        """after ⊙ attention(f ⊙ x), (*batch, N, c), for x (*batch, N, c), both in float32."""
        if self.seen is not None:
            x = x.index_select(-2, self.seen)
        half = self.q.dtype in HALVES
        if self.factors is None and not half:
            return self._attend(x, False)[0]
        largest = x.abs().amax(-2, keepdim=True)
        x = x / torch.where(largest > 0, largest, 1.0)
        if self.factors is not None:
            x = self.factors * x
        y = largest * (self._in_halves(x) if half else self._attend(x, False)[0])
        return y if self.after is None else self.after * y

    @property
    def means(self) -> Tensor:
        """attention(f), (*batch, N) in float32; one where there is no key with a factor."""
        return self._pass()[0]

    @property
    def sums(self) -> Tensor:
        """log Σ_j exp(s_ij), without factors, (*batch, N) in float32."""
        return self._pass()[1]

    def log_sums(self) -> Tensor:
        """log Σ_j exp(s_ij + bias_j), (*batch, N) in float32; without meaning where no key has a factor."""
        if self.top is None:
            return self.sums
        return (self.sums + self.top + self.means.log()).float()

    def within(self) -> Tensor:
        """Which chains of the batch the format holds: bool (*batch,), on the device."""
        return (self.means >= math.exp(-LIMIT[self.q.dtype])).all(-1)

    def shifted(self, where: Tensor) -> Weighted:
        """The same, with the part of the bias that is linear in the keys absorbed into the queries of some chains.

        Args:
            where: which, bool (*batch,).
        """
        assert self.bias is not None
        u = torch.where(where[..., None], linear_part(self.k.float(), self.bias, self.scale), 0.0)
        q = (self.q.float() + u[..., None, :]).to(self.q.dtype)
        absorbed = self.scale * (self.k.float() * u[..., None, :]).sum(-1)  # no matrix product, which TF32 might take
        by_length, keys = q.float().norm(dim=-1).amax(-1), self.k.float().norm(dim=-1).amax(-1)
        size = 1.001 * self.scale * (by_length + u.norm(dim=-1)) * keys
        bias = self.bias - absorbed
        size = torch.where(where, size.double(), self.size)
        return Weighted(q, self.k, bias, self.scale, self.triangle, size, self.empty, self.seen)

    def part(self, part: Callable[[Tensor], Tensor]) -> Weighted:
        """That of a part of the batch, or of other leading dimensions; what was computed goes along."""

        def of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else part(tensor)

        empty = None if self.empty is None else part(self.empty.expand(self.q.shape[:-1]))
        new = Weighted(part(self.q), part(self.k), None, self.scale, self.triangle, part(self.size), empty, self.seen)
        new.bias, new.top, new.factors, new.after = (of(t) for t in (self.bias, self.top, self.factors, self.after))
        new._found = None if self._found is None else (part(self._found[0]), part(self._found[1]))
        return new

    def _pass(self) -> tuple[Tensor, Tensor]:
        if self._found is None:
            factors = self.factors
            if factors is None:
                factors = self.q.new_ones(*self.k.shape[:-1], 1, dtype=torch.float32)
            means, sums = self._attend(factors.to(self.q.dtype), True)
            assert sums is not None
            means = means[..., 0].float()
            self._found = means if self.empty is None else means.masked_fill(self.empty, 1.0), sums
        return self._found

    def _in_halves(self, x: Tensor) -> Tensor:
        """attention(x) for x between −1 and 1 in float32: a high and a low half beside each other."""
        unit = 4096.0 if self.q.dtype == torch.float16 else 1.0  # far from the least numbers of float16
        high = (x * unit).to(self.q.dtype)
        low = (x * unit - high.float()).to(self.q.dtype)
        out = self._attend(torch.cat([high, low], -1), False)[0].float()
        return out.unflatten(-1, (2, -1)).sum(-2) / unit

    def _attend(self, v: Tensor, sums: bool) -> tuple[Tensor, Tensor | None]:
        if self.triangle != "upper":
            return attend(self.q, self.k, v, self.scale, self.triangle == "lower", sums)
        # kernels know one triangle
        q, k, v = (t.flip(-2) for t in (self.q, self.k, v))
        out, logs = attend(q, k, v, self.scale, True, sums)
        return out.flip(-2), None if logs is None else logs.flip(-1)


def fitted(weighted: Weighted) -> tuple[Weighted, list[bool]]:
    """The same, absorbed where the format would not hold it, and which chains of the batch it holds then, flattened.

    Waits for the device once, twice where something is absorbed.
    """
    if weighted.bias is None:
        return weighted, [True] * weighted.q.shape[:-2].numel()
    within = weighted.within()
    fits = within.flatten().tolist()
    # rounding q + u to the eight bits of bfloat16 would cost more than a wider format
    if all(fits) or weighted.q.dtype == torch.bfloat16:
        return weighted, fits
    weighted = weighted.shifted(~within)
    return weighted, weighted.within().flatten().tolist()


def linear_part(k: Tensor, bias: Tensor, scale: float) -> Tensor:
    """u (*batch, d) in float32 such that scale · u·k_j is close to the bias but for a constant, by least squares.

    Args:
        k: (*batch, N, d) in float32.
        bias: (*batch, N); keys with −∞ do not count.
        scale: factor of the logits.
    """
    seen = (bias > -math.inf).float()[..., None]
    count = seen.sum(-2, keepdim=True).clamp(min=1)
    b = torch.where(bias > -math.inf, bias, 0.0).float()[..., None]
    centred = (k - (k * seen).sum(-2, keepdim=True) / count) * seen
    b = (b - b.sum(-2, keepdim=True) / count) * seen
    gram = centred.mT @ centred
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    diagonal += 1e-5 * diagonal.mean(-1, keepdim=True) + torch.finfo(torch.float32).tiny
    factor = torch.linalg.cholesky_ex(gram).L  # no look at its success: whatever u is, the sums are the same
    u = torch.cholesky_solve(centred.mT @ b, factor)[..., 0] / scale
    return torch.where(u.isfinite().all(-1, keepdim=True), u, 0.0)
