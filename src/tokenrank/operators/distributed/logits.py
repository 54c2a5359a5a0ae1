"""Logits of queries and keys that are spread over ranks: blocks of them around a ring, and how large they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...attention_mask import allowed
from ...errors import ChainError
from .. import rounding
from ..base import OPPOSITE, Structure
from ..factors import Factors
from ..keyed import Keyed, largest_seen
from ..logits import UNDERFLOW
from .blocks import Pair, Part, exponential_sums, softmax_part
from .masks import Shard
from .partition import Partition
from .ring import Ring


class RingLogits(Keyed):
    """scale · q kᵀ + bias + mask, of which a chain is the softmax; the arguments are those of ``RingQueryKey``."""

    def __init__(
        self,
        ring: Ring,
        partition: Partition,
        q: Tensor,
        k: Tensor,
        scale: float,
        is_causal: bool,
        structure: Structure = "full",
        bias: Tensor | Factors | None = None,
        mask: Shard | None = None,
    ) -> None:
        self.ring, self.partition, self.q, self.k = ring, partition, q, k
        self.scale, self.is_causal, self.mask = scale, is_causal, mask
        self._bias = Factors.given(bias) if isinstance(bias, Tensor) else bias
        self.shape = torch.Size((*q.shape[:-2], partition.num_tokens, partition.num_tokens))
        self.dtype, self.device = torch.promote_types(q.dtype, torch.float32), q.device
        self._path = "ranks"
        self.structure = "lower" if is_causal and structure == "full" else structure
        # what is computed once
        self._normalisers: dict[torch.dtype, Tensor] = {}
        self._empties: tuple[Tensor | None] | None = None
        self._size: Tensor | None = None
        self._added: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        raise ChainError(
            "a chain that is spread over ranks cannot be pickled: its tokens are in several processes; pickle q and k "
            "of each rank, and make the chain again"
        )

    def _seeing(self) -> Tensor | None:
        if self.mask is None:
            return super()._seeing()
        hidden = self.hidden_keys()
        with self.ring.step("rows without a key"):
            seen = allowed(self.mask.rows)
            seen = (seen if hidden is None else seen & ~hidden[..., None, :]).any(-1, keepdim=True)
            return self.partition.joined(self.ring.gathered(seen.to(torch.uint8), self.partition.sizes))[..., 0] > 0

    # ---- what rounding does

    def _own_error(self, dtype: torch.dtype) -> Tensor:
        """Of an entry of A in products A x: a term that is merged, over a sum of such terms."""
        return 2 * (self._term_error(dtype) + self._bias_error(dtype)) + self._sum_error(dtype)

    def _normaliser_error(self, dtype: torch.dtype) -> Tensor:
        """What log_normalisers(dtype) may be off by, (*batch,)."""
        size = self._largest_logit(dtype) + math.log(self.num_tokens) + 1
        logarithm = 4 * rounding.half_eps(torch.float64) * size
        return self._term_error(dtype) + self._sum_error(dtype) + self._bias_error(dtype) + logarithm

    def _term_error(self, dtype: torch.dtype) -> Tensor:
        """Of exp(s_ij − t) after all merges.

        The top t never falls, so that the R − 1 differences by which a term is scaled down add up to at most twice
        the largest logit; each is off by u of itself, its exponential and the product by a few u more.
        """
        size, u = self._largest_logit(dtype), rounding.half_eps(dtype)
        merges = rounding.MARGIN * u * (2 * size + (self.ring.size - 1) * (2 * rounding.EXPONENTIAL[dtype] + 2))
        return self._exponential_error(size, dtype) + merges

    def _sum_error(self, dtype: torch.dtype) -> float:
        """Of a sum of N numbers of one sign, taken in parts."""
        return rounding.MARGIN * (self.num_tokens + self.ring.size + 8) * rounding.half_eps(dtype)

    def _largest_logit(self, dtype: torch.dtype) -> Tensor:
        """A bound of scale · Σ_m |q_im k_jm| + |bias_j| + |mask_ij|, (*batch,), of what is not zero anyway."""
        size, added = self._largest_parts()
        given = self._bias_at(dtype)
        if given is None:
            return size + added
        counts = given > -math.inf
        if self.mask is None:  # with a mask a row may see none of the largest
            seen = largest_seen(given, self.structure if self.is_causal else "full")
            counts &= given >= seen - 2 * size[..., None] - UNDERFLOW[dtype]
        return size + added + given.where(counts, 0.0).abs().amax(-1)

    def _largest_parts(self) -> tuple[Tensor, Tensor]:
        """Bounds of scale · Σ_m |q_im k_jm| and of |mask_ij|, (*batch,) each; by numbers of all ranks."""
        if self._size is None or self._added is None:
            with self.ring.step("the largest logit"):
                self._size, self._added = self._measure()
        return self._size, self._added

    def _measure(self) -> tuple[Tensor, Tensor]:
        q, k = self._flat(self.q).abs().double(), self._flat(self.k).abs().double()
        none = q.new_zeros(len(q), 1)
        lengths = torch.stack([torch.cat([t.norm(dim=-1), none], -1).amax(-1) for t in (q, k)])
        columns = torch.cat([k, k.new_zeros(len(k), 1, k.shape[-1])], -2).amax(-2)
        lengths, columns = self.ring.most(lengths), self.ring.most(columns)
        by_coordinate = torch.cat([(q @ columns[..., None])[..., 0], none], -1).amax(-1)
        added = none[:, 0]
        if self.mask is not None and self.mask.rows.dtype != torch.bool:
            rows = self.mask.rows.double()
            largest = rows.masked_fill(rows == -math.inf, 0.0).abs().flatten(-2)
            largest = torch.nn.functional.pad(largest, (0, 1)).amax(-1)
            added = largest.expand(self.batch).reshape(-1)
        by_coordinate, added = self.ring.most(torch.stack([by_coordinate, added]))
        size = self.scale * rounding.MARGIN * torch.minimum(lengths[0] * lengths[1], by_coordinate)
        return size.reshape(self.batch), added.reshape(self.batch)

    # ---- around the ring

    def _softmax(self, x: Tensor, moments: bool = False) -> Part:
        """This rank's queries over all keys, times x (*batch, N, c), which is whole."""
        dtype, me = x.dtype, self.ring.rank
        q, found = self._flat(self.q).to(dtype), None
        for owner, k in self._circled(self.k, dtype):
            mask = self._mask_part(owner, False)
            pair = self._pair(
                q, k, None, self._key_bias(owner, dtype), mask, self.partition.tokens[me], self.partition.tokens[owner]
            )
            part = softmax_part(pair, self._flat(self.partition.part(x, owner)), moments)
            found = part if found is None else found.merged(part)
        assert found is not None
        return found

    def _sums(self, x: Tensor, r: Tensor) -> Tensor:
        """Σ_i exp(s_ij − r_i) x_i for the keys j of this rank, (h, n_r, c), with x (*batch, N, c) and r (*batch, N)."""
        dtype, me = x.dtype, self.ring.rank
        k, own = self._flat(self.k).to(dtype), self._key_bias(me, dtype)
        total = torch.zeros(*k.shape[:2], x.shape[-1], dtype=dtype, device=self.device)
        for owner, q in self._circled(self.q, dtype):
            less = -self._flat(self.partition.part(r, owner, -1)).to(dtype)
            pair = self._pair(
                k,
                q,
                own,
                less,
                self._mask_part(owner, True),
                self.partition.tokens[me],
                self.partition.tokens[owner],
                turned=True,
            )
            total += exponential_sums(pair, self._flat(self.partition.part(x, owner)))
        return total

    def _ready(self, dtype: torch.dtype, turned: bool = False) -> None:
        """Whatever takes messages of its own and is needed while shards are under way."""
        self._bias_at(dtype)
        if self.mask is not None:
            _ = self.mask.columns if turned else self.mask.rows

    def _circled(self, mine: Tensor, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
        """Every rank's shard as (h, n, d) in ``dtype``; passed on as it is stored."""
        for owner, shard in self.ring.passed(self._flat(mine), self.partition.sizes):
            yield owner, shard.to(dtype)

    def _pair(
        self,
        q: Tensor,
        k: Tensor,
        by_query: Tensor | None,
        by_key: Tensor | None,
        mask: Tensor | None,
        at: Tensor,
        to: Tensor | None = None,
        turned: bool = False,
    ) -> Pair:
        triangle: Structure = self.structure if self.is_causal else "full"
        to = self.partition.tokens[self.ring.rank] if to is None else to
        return Pair(q, k, self.scale, by_query, by_key, mask, OPPOSITE[triangle] if turned else triangle, at, to)

    def _key_bias(self, rank: int, dtype: torch.dtype) -> Tensor | None:
        """What is added to the keys of a rank, (h, n)."""
        bias = self._bias_at(dtype)
        return None if bias is None else self._flat(self.partition.part(bias, rank, -1)).to(dtype)

    def _mask_part(self, owner: int, turned: bool) -> Tensor | None:
        """Rows of this rank's queries (or keys), columns of another's keys (or queries), (h or 1, n, m)."""
        if self.mask is None:
            return None
        lines = self.mask.columns if turned else self.mask.rows
        return self._mask_flat(self.partition.part(lines, owner, -1))

    def _mask_flat(self, mask: Tensor) -> Tensor:
        if math.prod(mask.shape[:-2]) == 1:
            return mask.reshape(1, *mask.shape[-2:])
        return self._flat(mask.expand(*self.batch, *mask.shape[-2:]))

    def _lent(
        self, mine: Tensor, start: int, stop: int, dtype: torch.dtype, turned: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Queries (or keys) of tokens start … stop − 1, lent to all ranks, beside this rank's keys (or queries), and
        the mask between them; (h, stop − start, d), (h, n_r, d), (h or 1, stop − start, n_r)."""
        other = self.q if turned else self.k
        lent = self._lend(self._flat(mine), slice(start, stop)).to(dtype)
        mask = None
        if self.mask is not None:
            lines = self.mask.rows if turned else self.mask.columns
            mask = self._mask_flat(lines[..., start:stop]).mT
        return lent, self._flat(other).to(dtype), mask

    def _lend(self, mine: Tensor, tokens: slice) -> Tensor:
        """What the ranks have, (h, n_r, …), for some tokens that follow each other, (h, count, …) on all of them."""
        held = [self.partition.within(rank, tokens.start, tokens.stop) for rank in range(self.ring.size)]
        parts = self.ring.gathered(mine[:, held[self.ring.rank]], [part.stop - part.start for part in held])
        order = torch.cat([t[part] for t, part in zip(self.partition.tokens, held, strict=True)]).argsort()
        return torch.cat(parts, -2).index_select(-2, order.to(self.device))

    def _columns_joined(self, pair: Pair) -> Tensor:
        """Logits of lent queries with this rank's keys, and with those of the others, (*batch, count, N)."""
        whole = self.partition.joined(self.ring.gathered(pair.dense().mT, self.partition.sizes)).mT
        return whole.reshape(*self.batch, *whole.shape[-2:])

    def _whole(self, mine: Tensor) -> Tensor:
        """Rows of this rank's tokens, (h, n_r, c), and those of the others, (*batch, N, c)."""
        whole = self.partition.joined(self.ring.gathered(mine, self.partition.sizes))
        return whole.reshape(*self.batch, *whole.shape[-2:])

    def _flat(self, t: Tensor) -> Tensor:
        """All heads in one dimension."""
        return t.reshape(math.prod(self.batch), *t.shape[len(self.batch) :])
