"""Queries and keys spread over ranks as one chain: a ring passes them on, vectors are whole on every rank."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...attention_mask import allowed
from ...errors import ChainError
from ..base import OPPOSITE, Measure, Operator, everywhere
from ..checks import no_empty_rows
from ..factors import Factors
from ..logits import either, masked
from ..mass import keeping_mass
from ..sweeping import Solve
from .blocks import Part, exponential_sums
from .logits import RingLogits

SUPPORT_BYTES = 256 * 2**20  # of N × N bools, which some questions look at: up to 16,384 tokens


class RingQueryKey(RingLogits):
    """``QueryKey`` whose tokens are spread over the ranks of a ring; every rank calls the same at the same time.

    A x: the keys go around the ring. A rank takes the softmax of its queries over each shard that comes by, while the
    next is on its way, and merges the parts by log-sum-exp: what a query has seen so far is Σ e^{s − t} x,
    Σ e^{s − t} and t, its largest logit, and a part with a larger t scales the others down. Rows are gathered. Aᵀ x:
    queries go around, and exp(s_ij − r_i) x_i is summed for the keys of a rank, with r_i = log Σ_j e^{s_ij}.
    Vectors (*batch, N, c) are whole and the same on every rank, and so is what comes back, bit by bit: each row is
    computed by one rank and copied.

    Memory: q, k and three shards more, N/R · d each; vectors; one block of logits. Nothing N × N but a mask of rows
    that is given, N²/R, and where a question asks for the support (up to ``SUPPORT_BYTES``).

    Args:
        ring: the ranks.
        partition: which tokens each of them has.
        q, k: (*batch, n_r, d) of this rank's tokens; half precision is passed on as such, and widened for products.
        scale: factor of the logits.
        is_causal: token i sees tokens 0 … i only, or i … N − 1 if ``structure`` is "upper"; not together with a mask.
        structure: "lower" where the mask is causal, "upper" where its transpose is.
        bias: added to the logits of each key, (*batch, N) in float64, or as ``Factors``, or None.
        mask: this rank's rows (up to (*batch, n_r, N)), or None.
    """

    # ---- products

    def matmul(self, x: Tensor) -> Tensor:
        self._ready(x.dtype)
        with self.ring.step("A x", x):
            part = self._softmax(x)
            if x.dtype not in self._normalisers:
                self._keep_normalisers(x.dtype, part)
            return self._whole(part.mean())

    def rmatmul(self, x: Tensor) -> Tensor:
        r = self.log_normalisers(x.dtype)
        self._ready(x.dtype, True)

        def product(some: Tensor) -> Tensor:
            with self.ring.step("Aᵀ x", some):
                return self._whole(self._sums(some, r))

        return keeping_mass(product, x)

    def log_normalisers(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """r_i = log Σ_j exp(s_ij), (*batch, N) in float64, ∞ for a token that may attend to none; once for each
        precision that it is computed in."""
        if dtype not in self._normalisers:
            self._ready(dtype)
            with self.ring.step("sums of rows"):
                nothing = torch.zeros((), dtype=dtype, device=self.device).expand(*self.shape[:-1], 0)
                self._keep_normalisers(dtype, self._softmax(nothing))
        return self._normalisers[dtype]

    def column_sums(self, dtype: torch.dtype | None = None) -> Tensor:
        return super().column_sums(torch.float64).to(dtype or self.dtype)

    def rows(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        self._ready(dtype, True)
        with self.ring.step(f"rows {start} to {stop} of A"):
            q, own, mask = self._lent(self.q, start, stop, dtype, False)
            pair = self._pair(q, own, None, self._key_bias(self.ring.rank, dtype), mask, torch.arange(start, stop))
            logits = self._columns_joined(pair)
        a = logits.softmax(-1)
        empty = self._empty()
        return a if empty is None else a.masked_fill(empty[..., start:stop, None], 0.0)

    def columns(self, start: int, stop: int, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        r = self.log_normalisers()
        self._ready(dtype)
        with self.ring.step(f"columns {start} to {stop} of A"):
            k, own, mask = self._lent(self.k, start, stop, dtype, True)
            bias = self._bias_at(dtype)
            by_query = None if bias is None else self._flat(bias[..., start:stop]).to(dtype)
            pair = self._pair(k, own, by_query, None, mask, torch.arange(start, stop), turned=True)
            logits = self._columns_joined(pair).mT
        return (logits - r[..., None].to(dtype)).clamp(max=0).exp()

    def diagonal(self, dtype: torch.dtype | None = None) -> Tensor:
        r = self.log_normalisers()
        with self.ring.step("diagonal of A"):
            logits = self.scale * (self.q.double() * self.k.double()).sum(-1, keepdim=True)
            if self.mask is not None:
                place = self.partition.tokens[self.ring.rank].to(self.device)
                own = self.mask.rows.gather(-1, place[:, None].expand(*self.mask.rows.shape[:-2], -1, 1))
                logits = masked(logits, own if own.dtype == torch.bool else own.double())
            found = self._whole(self._flat(logits))[..., 0]
        bias = self.bias
        found = found if bias is None else found + bias
        return (found - r).clamp(max=0).exp().to(dtype or self.dtype)

    def row_entropies(self, dtype: torch.dtype | None = None) -> Tensor:
        # Σ_j A_ij (r_i − s_ij); logits cancel, so that it is taken in double
        nothing = torch.zeros((), dtype=torch.float64, device=self.device).expand(*self.shape[:-1], 0)
        self._ready(torch.float64)
        with self.ring.step("entropies of rows"):
            part = self._softmax(nothing, moments=True)
            mean, r = part.mean()[..., 0], part.log_mass()
            found = self._whole(torch.where(r > -math.inf, r - mean, 0.0)[..., None])[..., 0]
        return found.clamp(min=0).to(dtype or self.dtype)

    def entry_error(self, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or self.dtype
        # e^{s − r} of the product with Aᵀ, with an r that is off, too; dividing by sums may double what all is off by
        exponent = 2 * self._largest_logit(dtype) + math.log(self.num_tokens)
        back = self._exponential_error(exponent, dtype) + self._normaliser_error(dtype) + self._bias_error(dtype)
        return torch.maximum(self._own_error(dtype), 2 * back)

    def _keep_normalisers(self, dtype: torch.dtype, part: Part) -> None:
        r = part.log_mass()
        whole = self._whole(r[..., None])[..., 0]
        self._normalisers[dtype] = whole.masked_fill(whole == -math.inf, math.inf)

    # ---- substitution

    @property
    def sweeps(self) -> bool:
        """Whether it can be swept (``Sweeping``)."""
        return self.mask is None and len(self.batch) == 1

    def swept(self, width: int, forwards: bool, transposed: bool, columns: int, solve: Solve) -> Tensor:
        """As ``Sweeping.swept``: queries and keys of a few tokens are lent to all ranks, each of which keeps what flows
        to its own."""
        n, me, double = self.num_tokens, self.ring.rank, torch.float64
        r, bias = self.log_normalisers(), self._bias_at(double)
        to, added = [self.q, self.k], [-r, bias]  # of M = A: what is added to a query, and to a key
        if transposed:
            to, added = to[::-1], added[::-1]
        own = to[0].to(double)
        mine = None if added[0] is None else self.partition.part(added[0], me, -1)
        x = torch.zeros(len(own), n, columns, dtype=double, device=self.device)
        flow = torch.zeros(*own.shape[:2], columns, dtype=double, device=self.device)
        starts = range(0, n, width)
        with self.ring.step("substitution"):
            for start in starts if forwards else reversed(starts):
                part = slice(start, min(start + width, n))
                tokens = torch.arange(start, part.stop)
                here, there = self._lend(torch.cat(to, -1), part).to(double).chunk(2, -1)
                by_row, by_column = (None if t is None else t[:, part] for t in added)
                corner = self._pair(here, there, by_row, by_column, None, tokens, tokens, transposed).dense()
                x[:, part] = solve(part, corner.exp_(), self._lend(flow, part))
                pair = self._pair(own, there, mine, by_column, None, self.partition.tokens[me], tokens, transposed)
                flow += exponential_sums(pair, x[:, part])
        return x

    # ---- what is possible, and made from it

    def support(self) -> Tensor:
        n, hidden = self.num_tokens, self.hidden_keys()
        if not self.is_causal and self.mask is None:
            possible = everywhere(n, n, self.device)
            return possible if hidden is None else (~hidden)[..., None, :].expand(*hidden.shape[:-1], n, n)
        if n * n > SUPPORT_BYTES:
            raise ChainError(
                f"where steps are possible among {n:,} tokens takes {n * n / 2**30:.3g} GB of bools on every rank, "
                f"expected at most {SUPPORT_BYTES >> 20} MB; questions about classes, or who can be reached, are for "
                "shorter sequences: restrict the chain first, or teleport"
            )
        if self.mask is None:
            possible = everywhere(n, n, self.device)
            possible = possible.tril() if self.structure == "lower" else possible.triu()
        else:
            with self.ring.step("support of A"):
                rows = allowed(self.mask.rows).to(torch.uint8)
                possible = self.partition.joined(self.ring.gathered(rows, self.partition.sizes)).bool()
        return possible if hidden is None else possible & ~hidden[..., None, :]

    def turn(self, measure: Measure) -> tuple[Operator, Measure]:
        bias = Factors(
            lambda dtype: measure.log - self.log_normalisers(dtype),
            lambda dtype: measure.error + self._normaliser_error(dtype),
            lambda: either(measure.hidden(), self._empty()),
        )
        mask = None if self.mask is None else self.mask.turned()
        turned = RingQueryKey(
            self.ring, self.partition, self.k, self.q, self.scale, self.is_causal, OPPOSITE[self.structure], bias, mask
        )
        turned._size, turned._added = self._size, self._added

        def image() -> Tensor:
            r = turned.log_normalisers()
            log = r.masked_fill(r == math.inf, -math.inf)
            return log if self.bias is None else log + self.bias

        def nowhere() -> Tensor | None:
            return either(turned._empty(), self.hidden_keys())

        def error() -> Tensor:
            return turned._normaliser_error(torch.float64) + self._bias_error(torch.float64)

        return turned, Measure(image, error, nowhere)

    def restricted(self, keep: Tensor) -> RingQueryKey:
        partition, places = self.partition.kept(keep, self.ring.rank)
        q, k = (t.index_select(-2, places) for t in (self.q, self.k))
        bias = None if self._bias is None else self._bias.on(keep)
        on = keep.to(self.device)
        mask = None if self.mask is None else self.mask.of(lambda t: t.index_select(-2, places).index_select(-1, on))
        kept = RingQueryKey(self.ring, partition, q, k, self.scale, self.is_causal, self.structure, bias, mask)
        empty = kept._empty()
        if empty is not None:
            no_empty_rows(empty, keep)
        return kept

    def reshape(self, *batch: int) -> RingQueryKey:
        kept = len(self.batch)
        return self._like(lambda t: t.reshape((*batch, *t.shape[kept:])))

    def index(self, *index: Any) -> RingQueryKey:
        return self._like(lambda t: t[index])

    def _like(self, part: Callable[[Tensor], Tensor]) -> RingQueryKey:
        bias = None if self._bias is None else self._bias.part(part)
        mask = None
        if self.mask is not None:
            batch = self.batch

            def of(rows: Tensor) -> Tensor:
                one = math.prod(rows.shape[:-2]) == 1
                return rows.reshape(rows.shape[-2:]) if one else part(rows.expand(*batch, *rows.shape[-2:]))

            mask = self.mask.of(of)
        q, k = part(self.q), part(self.k)
        new = RingQueryKey(self.ring, self.partition, q, k, self.scale, self.is_causal, self.structure, bias, mask)
        new._empties = (None,) if self._empties == (None,) else None
        new._size = None if self._size is None else part(self._size)
        new._added = None if self._added is None else part(self._added)
        new._normalisers = {dtype: part(r) for dtype, r in self._normalisers.items()}
        return new
