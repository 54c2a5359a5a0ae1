"""Queries and keys as a matrix-free chain: softmax(scale · q kᵀ + mask), applied and never built."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention_mask import allowed
from .base import Operator, Structure, everywhere
from .checks import no_empty_rows, no_masked_rows

MASKED = -1e30  # the logit of a padded key: zero after any softmax, finite in products
FAR = -1e3  # a token's logit with itself below which it says too little about the others


class QueryKey(Operator):
    """Attention from queries and keys in O(N · d) memory.

    A x is one fused attention call. Aᵀ x is one too (docs/design.md,
    "Matrix-free"): with r_i = log Σ_j exp(s_ij) and c_j = log Σ_i exp(s_ij − r_i),

        (Aᵀ x)_j = exp(c_j) · softmax_i(s_ij − r_i) x,

    attention with queries and keys exchanged, the bias −r_i in one more head dimension. A
    causal chain is flipped along its tokens, so that the exchanged call is causal again.

    Args:
        q, k: (*batch, N, d), float32 or float64, of one shape. A key that nobody may attend to
            (padding) has logits of ``MASKED``.
        scale: factor of the logits.
        mask: None, or (N, N) up to (*batch, N, N): bool (True may attend) or added to the logits.
        is_causal: token i sees tokens 0 … i only; not together with a mask.
        structure: "lower" where the mask is causal.
    """

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        scale: float,
        mask: Tensor | None,
        is_causal: bool,
        structure: Structure = "full",
    ) -> None:
        self.q, self.k, self.scale, self.mask, self.is_causal = q, k, scale, mask, is_causal
        self.shape = torch.Size((*q.shape[:-1], k.shape[-2]))
        self.dtype, self.device = q.dtype, q.device
        self.structure = "lower" if is_causal else structure
        self._normalisers: dict[tuple[str, torch.dtype], Tensor] = {}

    def matmul(self, x: Tensor) -> Tensor:
        if not self._fused(x.dtype):
            return torch.cat([self.rows(*block, x.dtype) @ x for block in self.blocks(x.dtype)], -2)
        q, k = self._qk(x.dtype)
        return attend(q, k, x, self.scale, self._mask(x.dtype), self.is_causal)

    def rmatmul(self, x: Tensor) -> Tensor:
        if not self._fused(x.dtype):
            out = torch.zeros((), dtype=x.dtype, device=x.device)
            for start, stop in self.blocks(x.dtype):
                out = out + x[..., start:stop, :].mT @ self.rows(start, stop, x.dtype)
            return out.mT
        queries, keys, mask = self._exchanged(x.dtype)
        if self.is_causal:
            y = attend(queries, keys, x.flip(-2), self.scale, mask, True).flip(-2)
        else:
            y = attend(queries, keys, x, self.scale, mask, False)
        return self.log_column_sums(x.dtype).exp()[..., None] * y

    def log_normalisers(self, dtype: torch.dtype | None = None) -> Tensor:
        """r_i = log Σ_j exp(s_ij), (*batch, N); computed once for each precision."""
        key = ("rows", dtype or self.dtype)
        if key not in self._normalisers:
            if self._fused(key[1]) and self.mask is None and not self._padded():
                r = log_normaliser(*self._qk(key[1]), self.scale, self.is_causal)
            else:
                r = torch.cat([self._logits(*b, key[1]).logsumexp(-1) for b in self.blocks(key[1])], -1)
            self._normalisers[key] = r
        return self._normalisers[key]

    def log_column_sums(self, dtype: torch.dtype | None = None) -> Tensor:
        """c_j = log Σ_i A_ij, (*batch, N); computed once for each precision."""
        key = ("columns", dtype or self.dtype)
        if key not in self._normalisers:
            if self._fused(key[1]) and self.mask is None:
                queries, keys, _ = self._exchanged(key[1])
                c = log_normaliser(queries, keys, self.scale, self.is_causal)
                c = c.flip(-1) if self.is_causal else c
            else:
                sums = torch.zeros((), dtype=key[1], device=self.device)
                for block in self.blocks(key[1]):
                    sums = sums + self.rows(*block, key[1]).sum(-2)
                c = sums.log()
            self._normalisers[key] = c
        return self._normalisers[key]

    def column_sums(self, dtype: torch.dtype | None = None) -> Tensor:
        return self.log_column_sums(dtype).exp()

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        return self._logits(start, stop, dtype or self.dtype).softmax(-1)

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        q, k = self._qk(dtype)
        logits = self.scale * (q @ k[..., start:stop, :].mT)
        mask = self._mask(dtype)
        if mask is not None:
            logits = _masked(logits, mask.expand(*mask.shape[:-2], *self.shape[-2:])[..., start:stop])
        if self.is_causal:
            i = torch.arange(self.num_tokens, device=self.device)
            logits = logits.masked_fill(i[:, None] < i[start:stop], -math.inf)
        return (logits - self.log_normalisers(dtype)[..., None]).exp()

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        q, k = self._qk(dtype)
        logits = self.scale * (q * k).sum(-1)
        mask = self._mask(dtype)
        if mask is not None:
            logits = _masked(logits, mask.expand(*mask.shape[:-2], *self.shape[-2:]).diagonal(dim1=-2, dim2=-1))
        return (logits - self.log_normalisers(dtype)).exp()

    def support(self) -> Tensor:
        n = self.num_tokens
        possible = everywhere(n, n, self.device)
        if self.is_causal:
            possible = possible.tril()
        elif self.mask is not None:
            possible = allowed(self.mask).expand(*self.mask.shape[:-2], n, n)
        masked = (self.q[..., -1] == 1).all() & (self.scale * self.k[..., -1] <= MASKED / 2)
        return possible & ~masked[..., None, :] if bool(masked.any()) else possible

    def row_entropies(self, dtype: torch.dtype | None = None) -> Tensor:
        if self.mask is not None and self.mask.dtype != torch.bool:
            return super().row_entropies(dtype)
        # Σ_j A_ij (r_i − s_ij), where Σ_j A_ij s_ij = scale · q_i · (A k)_i takes one apply
        dtype = dtype or self.dtype
        q, k = self._qk(dtype)
        mean_logit = self.scale * (q * self.matmul(k)).sum(-1)
        return (self.log_normalisers(dtype) - mean_logit).clamp(min=0)

    def reshape(self, *batch: int) -> QueryKey:
        q, k = (t.reshape(*batch, *t.shape[-2:]) for t in (self.q, self.k))
        mask = self.mask
        if mask is not None:
            if math.prod(mask.shape[:-2]) == 1:
                mask = mask.reshape(mask.shape[-2:])
            else:
                mask = mask.expand(*self.batch, *mask.shape[-2:]).reshape(*batch, *mask.shape[-2:])
        return QueryKey(q, k, self.scale, mask, self.is_causal, self.structure)

    def index(self, *index: Any) -> QueryKey:
        mask = self.mask
        if mask is not None:
            if math.prod(mask.shape[:-2]) == 1:
                mask = mask.reshape(mask.shape[-2:])
            else:
                mask = mask.expand(*self.batch, *mask.shape[-2:])[index]
        return QueryKey(self.q[index], self.k[index], self.scale, mask, self.is_causal, self.structure)

    def restricted(self, keep: Tensor) -> QueryKey:
        mask = self.mask
        if mask is not None:
            mask = mask.expand(*mask.shape[:-2], *self.shape[-2:])
            mask = mask.index_select(-2, keep).index_select(-1, keep)
            no_masked_rows(mask, False, len(keep))
        q, k = (t.index_select(-2, keep) for t in (self.q, self.k))
        kept = QueryKey(q, k, self.scale, mask, self.is_causal, self.structure)
        if self._padded():
            no_empty_rows((kept.log_normalisers() > MASKED / 10).to(self.dtype), keep)
        return kept

    def _fused(self, dtype: torch.dtype) -> bool:
        # outside the CPU, double precision has no fused kernel: PyTorch would materialise N × N
        return dtype != torch.float64 or self.device.type == "cpu"

    def _padded(self) -> bool:
        # a token that (almost) may not attend to itself: its own logit is no useful bound of the normaliser
        return bool(self.scale * (self.q * self.k).sum(-1).amin() < FAR)

    def _qk(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return self.q.to(dtype), self.k.to(dtype)

    def _mask(self, dtype: torch.dtype) -> Tensor | None:
        return self.mask if self.mask is None or self.mask.dtype == torch.bool else self.mask.to(dtype)

    def _exchanged(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
        """Queries, keys and mask of the call whose softmax runs over the tokens i."""
        q, k = self._qk(dtype)
        bias = self.log_normalisers(dtype)[..., None] / -self.scale
        keys, queries = torch.cat([q, bias], -1), torch.cat([k, torch.ones_like(bias)], -1)
        if self.is_causal:
            keys, queries = keys.flip(-2), queries.flip(-2)
        mask = self._mask(dtype)
        if mask is not None:
            mask = mask.expand(*mask.shape[:-2], *self.shape[-2:]).mT
        return queries, keys, mask

    def _logits(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        q, k = self._qk(dtype)
        logits = self.scale * (q[..., start:stop, :] @ k.mT)
        mask = self._mask(dtype)
        if mask is not None:
            logits = _masked(logits, mask.expand(*mask.shape[:-2], *self.shape[-2:])[..., start:stop, :])
        if self.is_causal:
            i = torch.arange(self.num_tokens, device=self.device)
            logits = logits.masked_fill(i > i[start:stop, None], -math.inf)
        return logits


def _masked(logits: Tensor, mask: Tensor) -> Tensor:
    return logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask


MAX_COLUMNS = 128  # columns of v carried by one call


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None, is_causal: bool) -> Tensor:
    """softmax(scale · q kᵀ + mask) v.

    q (*batch, N, d), k (*batch, M, d), v (*batch, M, c), mask broadcastable to (*batch, N, M);
    returns (*batch, N, c).
    """
    batch, (n, d), c = q.shape[:-2], q.shape[-2:], v.shape[-1]
    if c > max(d, MAX_COLUMNS):
        parts = [attend(q, k, part, scale, mask, is_causal) for part in v.split(MAX_COLUMNS, -1)]
        return torch.cat(parts, -1)
    width = max(d, c)
    q4, k4, v4 = (_four_dims(F.pad(t, (0, width - t.shape[-1]))) for t in (q, k, v.expand(*batch, -1, -1)))
    mask4 = None if mask is None else _mask_four_dims(mask, batch)
    out = F.scaled_dot_product_attention(q4, k4, v4, mask4, is_causal=is_causal, scale=scale)
    return out[..., :c].reshape(*batch, n, c)


def log_normaliser(q: Tensor, k: Tensor, scale: float, is_causal: bool) -> Tensor:
    """log Σ_j exp(scale · q_i·k_j), (*batch, N), from public calls alone; q, k (*batch, N, d).

    One null key with logit b and value one is put in front: its probability is
    p = eᵇ / (Z + eᵇ), hence log Z = b + log(1 − p) − log p. b starts as the token's logit with
    itself, which is at most log Z, so that p ≤ ½; where p underflows b is raised and the call
    repeated.
    """
    n = q.shape[-2]
    tiny = torch.finfo(q.dtype).tiny
    logit = scale * (q * k).sum(-1)
    k_null = F.pad(k, (0, 1, 1, 0))
    k_null[..., 0, -1] = 1.0
    value = torch.zeros(n + 1, 1, dtype=q.dtype, device=q.device)
    value[0] = 1.0
    result = torch.zeros_like(logit)
    pending = torch.ones_like(logit, dtype=torch.bool)
    while True:
        q_null = torch.cat([q, logit[..., None] / scale], -1)
        if is_causal:  # the null query in front keeps the diagonal where it was
            q_null = F.pad(q_null, (0, 0, 1, 0))
        p = attend(q_null, k_null, value.expand(*k.shape[:-2], -1, -1), scale, None, is_causal)
        p = p[..., -n:, 0]
        found = pending & (p > tiny)
        result = torch.where(found, logit + torch.log1p(-p) - p.log(), result)
        pending = pending & ~found
        if not pending.any():
            return result
        logit = torch.where(pending, logit - 0.8 * math.log(tiny), logit)


def _four_dims(x: Tensor) -> Tensor:
    while x.ndim < 4:
        x = x[None]
    return x.flatten(0, -4) if x.ndim > 4 else x


def _mask_four_dims(mask: Tensor, batch: torch.Size) -> Tensor:
    while mask.ndim < 2 + len(batch):
        mask = mask[None]
    if len(batch) > 2 and math.prod(mask.shape[: len(batch) - 1]) > 1:
        mask = mask.expand(*batch[:-1], *mask.shape[-3:])
    return _four_dims(mask)
