"""Queries and keys as a matrix-free chain: softmax(scale · q kᵀ + mask), applied and never built."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import rounding
from .attention import attend, log_sums, mean_logits, with_bias
from .base import OPPOSITE, Measure, Operator, Structure
from .checks import no_empty_rows
from .device import bounds, products
from .device.path import Path, logits_dtype
from .factors import Factors
from .keyed import largest_seen
from .logits import Logits, either, masked
from .mass import keeping_mass

if TYPE_CHECKING:
    from typing_extensions import Self

FAINT = {torch.float64: 1e-280, torch.float32: 1e-25}  # images below which what underflows would be missed
REACH = 0.8  # of the way from one to the least normal number: where a null key is still told from zero


class QueryKey(Logits):
    """Attention from queries and keys in O(N · d) memory.

    A x is one fused attention call. So is B x of the reversed chain: B[j, i] = A[i, j] / Σ_k A[k, j] is the softmax
    over i of s_ij − r_i with r_i = log Σ_j exp(s_ij), attention with queries and keys exchanged and a bias on its
    keys; no column is too small for that. With c_j = log Σ_i A[i, j]

        (Aᵀ x)_j = exp(c_j) · (B x)_j,

    divided by what rounding makes of the sum, which is that of x (docs/design.md, "Matrix-free").

    Args:
        q, k: (*batch, N, d), float32 or float64, of one shape; on the device path float16 or bfloat16, too.
        scale: factor of the logits.
        mask: None, or (N, N) up to (*batch, N, N): bool (True may attend) or added to the logits.
        is_causal: token i sees tokens 0 … i only, or i … N − 1 if ``structure`` is "upper"; not together with a mask.
        structure: "lower" where the mask is causal, "upper" where its transpose is.
        bias: added to the logits of each key, (*batch, N) in float64 or as ``Factors``, or None; −∞ for one that nobody
            may attend to.
    """

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        scale: float,
        mask: Tensor | None,
        is_causal: bool,
        structure: Structure = "full",
        bias: Tensor | Factors | None = None,
        path: Path | None = None,
    ) -> None:
        super().__init__(q, k, scale, mask, is_causal, structure, bias, path)
        # what is computed once
        self._normalisers: dict[torch.dtype, Tensor] = {}  # log_normalisers(),
        self._columns: dict[torch.dtype, Tensor] = {}  # those of the reversed chain,
        self._reverses: dict[torch.dtype, QueryKey] = {}  # that chain,
        self._origin: tuple[QueryKey, Measure] | None = None  # what this was turned round from,
        self._plain: dict[torch.dtype, tuple[Tensor, Tensor] | None] = {}  # and _plainly()

    def __getstate__(self) -> dict[str, Any]:
        """What was computed is left out: it takes more than queries and keys, and is found again when asked for."""
        names = ("_normalisers", "_columns", "_reverses", "_plain", "_weighted")
        computed: dict[str, Any] = {name: {} for name in names}
        return {**self.__dict__, **computed}

    def matmul(self, x: Tensor) -> Tensor:
        if self.path == "device":
            return products.ahead(self, x)
        if self._fused(x.dtype):
            q, k = with_bias(*self._qk(x.dtype), self._bias_at(x.dtype), self.scale)
            y = attend(q, k, x, self.scale, self._mask(x.dtype), self._triangle)
        else:
            y = torch.cat([self.rows(*block, x.dtype) @ x for block in self.blocks(x.dtype)], -2)
        empty = self._empty()
        return y if empty is None else y.masked_fill(empty[..., None], 0.0)

    def rmatmul(self, x: Tensor) -> Tensor:
        if self.path == "device":
            return products.back(self, x)
        plain = self._plainly(x.dtype)
        if plain is not None and self._origin is not None:
            here, there, origin = *plain, self._origin[0]
            return keeping_mass(lambda part: here * origin.matmul(there * part), x)
        scale, back = self._log_column_sums(x.dtype).exp().to(x.dtype)[..., None], self._reversed(x.dtype)
        return keeping_mass(lambda part: scale * back.matmul(part), x)

    def log_normalisers(self, dtype: torch.dtype = torch.float64) -> Tensor:
        if dtype not in self._normalisers:
            if self.path == "device":
                r = products.log_normalisers(self, dtype)
            elif self._fused(dtype) and self.mask is None:
                r = log_sums(*self._qk(dtype), self._bias_at(dtype), self.scale, self._triangle, self._below(dtype))
            else:
                r = torch.cat([self.logits(*b, dtype).logsumexp(-1) for b in self.blocks(dtype)], -1)
            empty = self._empty()
            self._normalisers[dtype] = r if empty is None else r.masked_fill(empty, math.inf)
        return self._normalisers[dtype]

    def column_sums(self, dtype: torch.dtype | None = None) -> Tensor:
        if self.path == "device":
            return super().column_sums(torch.float64).to(dtype or self.dtype)
        return self._log_column_sums(torch.float64).exp().to(dtype or self.dtype)

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        turned = self._turned(
            lambda dtype: measure.log - self.log_normalisers(dtype),
            lambda dtype: measure.error + self._normaliser_error(dtype),
            lambda: either(measure.hidden(), self._empty()),
        )
        turned._origin = self, measure

        def nowhere() -> Tensor | None:
            return either(turned._empty(), self.hidden_keys())

        image = Measure(
            lambda: self._image(turned.log_normalisers()),
            lambda: turned._normaliser_error(torch.float64) + self._bias_error(torch.float64),
            nowhere,
        )
        return turned, image

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        rows = self.logits(start, stop, dtype or self.dtype).softmax(-1)
        empty = self._empty()
        return rows if empty is None else rows.masked_fill(empty[..., start:stop, None], 0.0)

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        q, k = self._qk(logits_dtype(dtype, self.device))
        logits = self.scale * (q @ k[..., start:stop, :].mT).to(dtype)
        bias = self._bias_at(dtype)
        if bias is not None:
            logits = logits + bias[..., None, start:stop].to(dtype)
        mask = self._mask(dtype)
        if mask is not None:
            logits = masked(logits, mask.expand(*mask.shape[:-2], *self.shape[-2:])[..., start:stop])
        if self.is_causal:
            i, j = (torch.arange(*ends, device=self.device) for ends in ((0, self.num_tokens), (start, stop)))
            logits = logits.masked_fill(self._beyond(i[:, None], j), -math.inf)
        return (logits - self.log_normalisers()[..., None].to(dtype)).clamp(max=0).exp()

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        logits = self.scale * (self.q.double() * self.k.double()).sum(-1)
        if self.bias is not None:
            logits = logits + self.bias
        mask = self._mask(torch.float64)
        if mask is not None:
            logits = masked(logits, mask.expand(*mask.shape[:-2], *self.shape[-2:]).diagonal(dim1=-2, dim2=-1))
        return (logits - self.log_normalisers()).clamp(max=0).exp().to(dtype or self.dtype)

    def row_entropies(self, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        if not self._fused(torch.float64) or (self.mask is not None and self.mask.dtype != torch.bool):
            source = products.stored_in(self, torch.float64) if self.path == "device" else self
            return Logits.row_entropies(source, torch.float64).to(dtype)
        # Σ_j A_ij (r_i − s_ij), where Σ_j A_ij s_ij takes one apply; logits cancel, so that it is taken in double
        return (self.log_normalisers() - self._mean_logits(torch.float64)).clamp(min=0).to(dtype)

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        if self.path == "device":
            return bounds.entry_error(self, dtype)
        size = self._largest_logit(dtype)
        own = self._own_error(dtype)
        # the product with Aᵀ: an entry of the reversed chain, whose bias is r (at most so large, and so far off), times
        # the exponential of c; dividing by the sum of a row may double what all that is off by
        size = 2 * size + math.log(self.num_tokens)
        back = 3 * self._exponential_error(size, dtype) + 2 * self._sum_error(dtype) + self._normaliser_error(dtype)
        error = torch.maximum(own, 2 * (back + self._bias_error(dtype)))
        if self._origin is None:
            return error
        origin, measure = self._origin
        lost = self.num_tokens * torch.finfo(dtype).tiny / FAINT[dtype]
        there = origin._own_error(dtype) + self._normaliser_error(dtype) + measure.error
        return torch.maximum(error, 2 * (there + 4 * rounding.half_eps(dtype) + lost))

    def restricted(self, keep: Tensor) -> QueryKey:
        mask = self.mask
        if mask is not None:
            mask = mask.expand(*mask.shape[:-2], *self.shape[-2:])
            mask = mask.index_select(-2, keep).index_select(-1, keep)
        q, k = (t.index_select(-2, keep) for t in (self.q, self.k))
        bias = None if self._bias is None else self._bias.on(keep)
        kept = QueryKey(q, k, self.scale, mask, self.is_causal, self.structure, bias, self._path)
        empty = kept._empty()
        if empty is not None:
            no_empty_rows(empty, keep)
        return kept

    def _fused(self, dtype: torch.dtype) -> bool:
        return self.path == "host" or dtype != torch.float64  # which no kernel of a GPU takes

    def _below(self, dtype: torch.dtype) -> Tensor:
        """Numbers not far below r_i, (*batch, N): from bounds, or where those are loose from an apply."""
        size = self._largest_product()[..., None]
        if bool(2 * size.amax() + math.log(self.num_tokens) > -REACH * math.log(torch.finfo(dtype).tiny)):
            return self._mean_logits(dtype)
        bias = self._bias_at(dtype)
        top = size.new_zeros(self.shape[:-1]) if bias is None else largest_seen(bias, self.structure)
        return torch.where(top > -math.inf, top - size, 0.0).to(dtype)

    def _mean_logits(self, dtype: torch.dtype) -> Tensor:
        bias = self._bias_at(dtype)
        return mean_logits(
            *self._qk(dtype), None if bias is None else bias.to(dtype), self.scale, self._triangle, self._mask(dtype)
        )

    def _reversed(self, dtype: torch.dtype) -> QueryKey:
        """The reversed chain as products in ``dtype`` need it, kept."""
        if dtype not in self._reverses:
            back = self._turned(
                lambda _: -self.log_normalisers(dtype), lambda _: self._normaliser_error(dtype), self._empty
            )
            if dtype in self._columns:
                back._normalisers[dtype] = self._columns[dtype]
            self._reverses[dtype] = back
        return self._reverses[dtype]

    def _plainly(self, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """μ_i and 1 / (μA)_j up to a common factor, (*batch, N, 1), of a chain turned round: Bᵀx = μ · A (x / μA).

        None where some image is too small for a quotient.
        """
        if self._origin is None:
            return None
        if dtype not in self._plain:
            origin, measure = self._origin
            log, image = measure.log, origin._image(self.log_normalisers(dtype).double())
            top = log.amax(-1, keepdim=True)
            top = torch.where(top > -math.inf, top, 0.0)
            there = torch.where(image > -math.inf, top - image, -math.inf)
            ordinary = bool(there.amax() < -math.log(FAINT[dtype]))
            self._plain[dtype] = (
                ((log - top).exp().to(dtype)[..., None], there.exp().to(dtype)[..., None]) if ordinary else None
            )
        return self._plain[dtype]

    def _turned(
        self,
        log: Callable[[torch.dtype], Tensor],
        error: Callable[[torch.dtype], Tensor],
        hidden: Callable[[], Tensor | None],
    ) -> QueryKey:
        mask = None if self.mask is None else self.mask.expand(*self.mask.shape[:-2], *self.shape[-2:]).mT
        bias = Factors(lambda dtype: log(dtype).expand(*self.batch, -1), error, hidden)
        turned = QueryKey(self.k, self.q, self.scale, mask, self.is_causal, OPPOSITE[self.structure], bias, self._path)
        turned._size = self._largest_product()
        return turned

    def _log_column_sums(self, dtype: torch.dtype) -> Tensor:
        """c_j = log Σ_i A_ij, (*batch, N), −∞ for a token that nobody may attend to."""
        self._columns[dtype] = self._reversed(dtype).log_normalisers(dtype)
        return self._image(self._columns[dtype])

    def _image(self, r: Tensor) -> Tensor:
        """Where a measure goes, from the normalisers of the chain turned round by it."""
        image = r.masked_fill(r == math.inf, -math.inf)
        return image if self.bias is None else image + self.bias

    def _normaliser_error(self, dtype: torch.dtype) -> Tensor:
        """What log_normalisers(dtype) may be off by, (*batch,)."""
        if self.path == "device":
            return bounds.normaliser_error(self, dtype)
        return (
            self._exponential_error(self._largest_logit(dtype), dtype)
            + self._sum_error(dtype)
            + self._bias_error(dtype)
        )

    def _like(self, part: Callable[[Tensor], Tensor]) -> Self:
        new = super()._like(part)
        if self._origin is not None:
            origin, measure = self._origin
            new._origin = origin._like(part), Measure(lambda: part(measure.log), lambda: part(measure.error))
        new._normalisers = {dtype: part(r) for dtype, r in self._normalisers.items()}
        new._columns = {dtype: part(r) for dtype, r in self._columns.items()}
        return new
