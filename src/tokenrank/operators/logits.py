"""The logits of queries and keys: who may see whom, how large they are, and some of them at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..attention_mask import allowed
from . import rounding
from .base import Operator, Structure, everywhere
from .factors import Factors

# nats below the largest logit of its row from which an entry is below the least number that is normal, by far
UNDERFLOW = {torch.float64: 800.0, torch.float32: 120.0}


class Logits(Operator):
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
    ) -> None:
        self.q, self.k, self.scale, self.mask, self.is_causal = q, k, scale, mask, is_causal
        self._bias = Factors.given(bias) if isinstance(bias, Tensor) else bias
        self.shape = torch.Size((*q.shape[:-1], k.shape[-2]))
        self.dtype, self.device = q.dtype, q.device
        self.structure = "lower" if is_causal and structure == "full" else structure
        # what is computed once
        self._empties: tuple[Tensor | None] | None = None  # _empty()
        self._size: Tensor | None = None  # and _largest_product()

    @property
    def bias(self) -> Tensor | None:
        """What is added to the logits of each key, (*batch, N) in float64."""
        return self._bias_at(torch.float64)

    def support(self) -> Tensor:
        n = self.num_tokens
        possible = everywhere(n, n, self.device)
        if self.is_causal:
            possible = possible.tril() if self.structure == "lower" else possible.triu()
        elif self.mask is not None:
            possible = allowed(self.mask).expand(*self.mask.shape[:-2], n, n)
        hidden = self.hidden_keys()
        return possible if hidden is None else possible & ~hidden[..., None, :]

    def hidden_keys(self) -> Tensor | None:
        """Keys that nobody may attend to, bool (N,) or (*batch, N); None where there is none."""
        return None if self._bias is None else self._bias.hidden()

    def _empty(self) -> Tensor | None:
        """Queries that may attend to no key, bool (*batch or less, N), from masks alone; None where there is none."""
        if self._empties is None:
            self._empties = (self._find_empty(),)
        return self._empties[0]

    def _find_empty(self) -> Tensor | None:
        hidden = self.hidden_keys()
        if self.mask is not None:
            seen = self.support().any(-1)
        elif hidden is None:
            return None
        elif not self.is_causal:
            seen = (~hidden).any(-1, keepdim=True).expand(hidden.shape)
        else:
            seen = largest_seen((~hidden).byte(), self.structure) > 0
        return None if bool(seen.all()) else ~seen

    def _qk(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return self.q.to(dtype), self.k.to(dtype)

    def _mask(self, dtype: torch.dtype) -> Tensor | None:
        return self.mask if self.mask is None or self.mask.dtype == torch.bool else self.mask.to(dtype)

    def _logits(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        q, k = self._qk(dtype)
        logits = (q[..., start:stop, :] @ k.mT).mul_(self.scale)  # no second block beside it
        bias = self._bias_at(dtype)
        if bias is not None:
            logits.add_(bias[..., None, :].to(dtype))
        mask = self._mask(dtype)
        if mask is not None:
            logits = masked(logits, mask.expand(*mask.shape[:-2], *self.shape[-2:])[..., start:stop, :])
        if self.is_causal:
            j = torch.arange(self.num_tokens, device=self.device)
            logits = logits.masked_fill(self._beyond(j[start:stop, None], j), -math.inf)
        return logits

    def _beyond(self, i: Tensor, j: Tensor) -> Tensor:
        """Where the triangle hides key j from query i."""
        return j > i if self.structure == "lower" else j < i

    @property
    def _triangle(self) -> Structure:
        return self.structure if self.is_causal else "full"

    def _bias_at(self, dtype: torch.dtype) -> Tensor | None:
        return None if self._bias is None else self._bias.at(dtype)

    def _bias_error(self, dtype: torch.dtype) -> Tensor | float:
        return 0.0 if self._bias is None else self._bias.error(dtype)

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
            added = self.mask.double().masked_fill(~allowed(self.mask), -math.inf)
            if given is None:
                counts = added >= added.amax(-1, keepdim=True) - 2 * size[..., None, None] - UNDERFLOW[dtype]
                added = added.where(counts, -math.inf)
            bias = bias + added.masked_fill(added == -math.inf, 0.0).abs().amax((-2, -1))
        return size + bias

    def _largest_product(self) -> Tensor:
        if self._size is None:
            self._size = self.scale * rounding.largest_products(self.q, self.k)
        return self._size


def masked(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits with a mask of bools or numbers put on."""
    return logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask


def largest_seen(bias: Tensor, structure: Structure) -> Tensor:
    """The largest of the biases that each row sees, (*batch, N)."""
    if structure == "upper":
        return largest_seen(bias.flip(-1), "lower").flip(-1)
    return bias.cummax(-1).values if structure == "lower" else bias.amax(-1, keepdim=True).expand(bias.shape)


def either(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """What is in one or the other; None is nothing."""
    return other if one is None else one if other is None else one | other
