"""The logits of queries and keys: who may see whom, how large they are, and some of them at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..attention_mask import allowed
from . import rounding
from .base import Structure, everywhere
from .device.halves import HALVES, half_product
from .device.path import Path, logits_dtype
from .device.scaled import Side, Weighted
from .factors import Factors
from .keyed import Keyed, largest_seen

if TYPE_CHECKING:
    from typing_extensions import Self

# nats below the largest logit of its row from which an entry is below the least number that is normal, by far
UNDERFLOW = {torch.float64: 800.0, torch.float32: 120.0}


class Logits(Keyed):
    """scale · q kᵀ + bias + mask, of which a chain is the softmax; the arguments are those of ``QueryKey``."""

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
        self.q, self.k, self.scale, self.mask, self.is_causal = q, k, scale, mask, is_causal
        self._bias = Factors.given(bias) if isinstance(bias, Tensor) else bias
        self.shape = torch.Size((*q.shape[:-1], k.shape[-2]))
        self.dtype, self.device, self._path = torch.promote_types(q.dtype, torch.float32), q.device, path
        self.structure = "lower" if is_causal and structure == "full" else structure
        # what is computed once
        self._empties: tuple[Tensor | None] | None = None  # _empty()
        self._size: Tensor | None = None  # _largest_product(),
        self._errors: dict[torch.dtype, Tensor] = {}  # exponential_error(),
        self._weighted: dict[Side, Any] = {}  # and what products on the device path take

    def reshape(self, *batch: int) -> Self:
        kept = len(self.batch)
        return self._like(lambda t: t.reshape((*batch, *t.shape[kept:])))

    def index(self, *index: Any) -> Self:
        return self._like(lambda t: t[index])

    def support(self) -> Tensor:
        n = self.num_tokens
        possible = everywhere(n, n, self.device)
        if self.is_causal:
            possible = possible.tril() if self.structure == "lower" else possible.triu()
        elif self.mask is not None:
            possible = allowed(self.mask).expand(*self.mask.shape[:-2], n, n)
        hidden = self.hidden_keys()
        return possible if hidden is None else possible & ~hidden[..., None, :]

    def without_empty_rows(self) -> Self:
        """The same, told that every query may attend to some key: that was looked at."""
        self._empties = (None,)
        return self

    def _seeing(self) -> Tensor | None:
        return super()._seeing() if self.mask is None else self.support().any(-1)

    def _qk(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return self.q.to(dtype), self.k.to(dtype)

    def _mask(self, dtype: torch.dtype) -> Tensor | None:
        return self.mask if self.mask is None or self.mask.dtype == torch.bool else self.mask.to(dtype)

    def logits(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Of queries start … stop−1 to all keys, (*batch, stop − start, N), −∞ where masked; a new tensor."""
        logits = self._dots(start, stop, dtype).mul_(self.scale)  # no second block beside it
        bias = self._bias_at(dtype)
        if bias is not None:
            logits.add_(bias[..., None, :].to(dtype))
        mask = self.mask
        if mask is not None:
            mask = mask.expand(*mask.shape[:-2], *self.shape[-2:])[..., start:stop, :]
            logits = masked(logits, mask if mask.dtype == torch.bool else mask.to(dtype))
        if self.is_causal:
            j = torch.arange(self.num_tokens, device=self.device)
            logits = logits.masked_fill(self._beyond(j[start:stop, None], j), -math.inf)
        return logits

    def _dots(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Products of some queries with all keys, in ``dtype``; those of halves without widening them first."""
        q, k = self.q[..., start:stop, :], self.k
        if dtype == torch.float32 and q.dtype in HALVES:
            heads, (n, d) = self.batch.numel(), self.k.shape[-2:]
            dots = half_product(q.reshape(heads, stop - start, d), k.reshape(heads, n, d).mT)
            return dots.view(*self.batch, stop - start, n)
        wide = logits_dtype(dtype, self.device)
        return (q.to(wide) @ k.to(wide).mT).to(dtype)

    def _beyond(self, i: Tensor, j: Tensor) -> Tensor:
        """Where the triangle hides key j from query i."""
        return j > i if self.structure == "lower" else j < i

    @property
    def _triangle(self) -> Structure:
        return self.structure if self.is_causal else "full"

    def _largest_logit(self, dtype: torch.dtype) -> Tensor:
        """A bound of scale · Σ_m |q_im k_jm| + |bias_j| + |mask_ij|, (*batch,), of what is not zero anyway."""
        size = self._largest_product()
        bias, given = torch.zeros_like(size), self._bias_at(dtype)
        if given is not None:
            seen = largest_seen(given, self.structure)
            counts = (given > -math.inf) & (given >= seen - 2 * size[..., None] - UNDERFLOW[dtype])
            bias = given.where(counts, 0.0).abs().amax(-1)
            if self.mask is not None:  # a row may see none of the largest
                bias = given.masked_fill(given == -math.inf, 0.0).abs().amax(-1)
        if self.mask is not None and self.mask.dtype != torch.bool:
            # on a device not in double precision: it is N × N
            given_mask = self.mask if self.path == "device" else self.mask.double()
            added = given_mask.masked_fill(~allowed(self.mask), -math.inf)
            if given is None:
                counts = added >= added.amax(-1, keepdim=True) - 2 * size[..., None, None] - UNDERFLOW[dtype]
                added = added.where(counts, -math.inf)
            bias = bias + added.masked_fill(added == -math.inf, 0.0).abs().amax((-2, -1))
        return size + bias

    def _largest_product(self) -> Tensor:
        if self._size is None:
            bound = rounding.largest_products_by_length if self.path == "device" else rounding.largest_products
            self._size = self.scale * bound(self.q, self.k)
        return self._size

    def exponential_error(self, dtype: torch.dtype) -> Tensor:
        """A proved bound of |log| of exp(s_ij − shift_i) from ``logits`` in ``dtype``, (*batch,) in float64.

        Up to a factor that a row has in common, and of what does not underflow.
        """
        if dtype not in self._errors:
            self._errors[dtype] = self._exponential_error(self._largest_logit(dtype), dtype) + self._bias_error(dtype)
        return self._errors[dtype]

    def _own_error(self, dtype: torch.dtype) -> Tensor:
        """Of an entry of A in products A x."""
        exponential = self._exponential_error(self._largest_logit(dtype), dtype)
        return 2 * exponential + 2 * self._bias_error(dtype) + self._sum_error(dtype)

    def _sum_error(self, dtype: torch.dtype) -> float:
        """Of a sum of N numbers, one sign, and of its logarithm or what it divides."""
        return rounding.MARGIN * (self.num_tokens + 8) * rounding.half_eps(dtype)

    def _like(self, part: Callable[[Tensor], Tensor]) -> Self:
        """The same of a part of the batch, or of another shape; what was computed goes along."""

        def of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else part(tensor)

        q, k = part(self.q), part(self.k)
        mask = self.mask
        if mask is not None:
            one = math.prod(mask.shape[:-2]) == 1
            mask = mask.reshape(mask.shape[-2:]) if one else part(mask.expand(*self.batch, *mask.shape[-2:]))
        whole = q.shape[:-2].numel() == self.batch.numel()
        bias = None if self._bias is None else self._bias.part(part, whole)
        new = type(self)(q, k, self.scale, mask, self.is_causal, self.structure, bias, self._path)
        empty = None if self._empties is None else self._empties[0]
        if empty is None or empty.ndim == 1:
            new._empties = self._empties
        else:  # of a part it may hold nothing, which costs less than to look at it again
            new._empties = (part(empty.expand(self.shape[:-1])),)
        new._size = of(self._size)

        def kept(tensor: Tensor) -> Tensor:  # one part of what is the same tensor
            return q if tensor is self.q else k if tensor is self.k else part(tensor)

        new._weighted = {side: w.part(kept) for side, w in self._weighted.items() if isinstance(w, Weighted)}
        return new


def masked(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits with a mask of bools or numbers put on."""
    return logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask


def either(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """What is in one or the other; None is nothing."""
    return other if one is None else one if other is None else one | other
