"""Chains on several ranks for the contract of all operators (``OperatorConformance``); run by ``test_conformance``."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.operators import oracles
from tests.operators.conformance import OperatorConformance
from tests.operators.test_conformance import N, queries_and_keys
from tokenrank.operators import Mixture, Operator, Teleport, restrict, reverse

from .shards import spread

Made = tuple[Operator, Tensor]


class Case(OperatorConformance):
    """``size`` ranks, the tokens spread as ``how`` says, for these leading dimensions and precisions."""

    size, how = 2, "uneven"
    variants: tuple[tuple[tuple[int, ...], torch.dtype], ...] = (((2, 1, 3), torch.float32), ((), torch.float64))

    def whole(self, batch: tuple[int, ...], dtype: torch.dtype, size: float = 1.0) -> tuple[Tensor, Tensor]:
        return queries_and_keys(batch, dtype, size)


class Full(Case):
    size = 4

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> Made:
        q, k = self.whole(batch, dtype)
        return spread(q, k, self.size, self.how), oracles.attention(q, k)


class Peaky(Case):
    """Logits up to about ±40."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> Made:
        q, k = self.whole(batch, dtype, 3.0)
        return spread(q, k, self.size, self.how, scale=1.0), oracles.attention(q, k, 1.0)


class Causal(Case):
    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> Made:
        q, k = self.whole(batch, dtype)
        return spread(q, k, self.size, self.how, is_causal=True), oracles.attention(q, k, is_causal=True)


class CausalZigzag(Causal):
    size, how = 4, "zigzag"
    variants = (((3,), torch.float64),)


class CausalStriped(Causal):
    how = "striped"


class Padded(Case):
    how = "even"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> Made:
        q, k = self.whole(batch, dtype)
        mask = torch.arange(N) < N - 2
        return spread(q, k, self.size, self.how, key_mask=mask), oracles.attention(q, k, mask=mask)


class PaddedDifferentlyCausal(Case):
    """A float bias of keys, another in every chain, and a triangle."""

    structure, how = "lower", "zigzag"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> Made:
        q, k = self.whole(batch, dtype)
        length = torch.randint(5, N + 1, (*batch, 1, 1))
        bias = torch.randn(*batch, 1, N, dtype=dtype).masked_fill(torch.arange(N) >= length, -torch.inf)
        expected = oracles.attention(q, k, 0.3, bias, is_causal=True)
        keys = bias[..., 0, :]
        return spread(q, k, self.size, self.how, key_mask=keys, scale=0.3, is_causal=True), expected


class MaskedRows(Case):
    size, variants = 4, (((2, 1, 3), torch.float32),)

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> Made:
        q, k = self.whole(batch, dtype)
        mask = (torch.rand(*batch, N, N) > 0.5) | torch.eye(N, dtype=torch.bool)
        return spread(q, k, self.size, self.how, mask), oracles.attention(q, k, mask=mask)


class MaskedRowsAdded(Case):
    """One float mask for all heads, with a row that sees little; the tokens are not in the order of the ranks."""

    how = "striped"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> Made:
        q, k = self.whole(batch, dtype)
        bias = torch.randn(*batch[:-1], *(1 for _ in batch[-1:]), N, N, dtype=dtype)
        bias[..., 2, 3:] = -torch.inf
        bias[..., 6, :4] = torch.finfo(dtype).min
        return spread(q, k, self.size, self.how, bias), oracles.attention(q, k, mask=bias)


class MaskedRowsCausal(Case):
    """A mask of rows, a mask of keys and a triangle."""

    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> Made:
        q, k = self.whole(batch, dtype)
        mask, keys = torch.rand(N, N) > 0.4, torch.arange(N) != 4
        mask[:, 0] = True
        expected = oracles.attention(q, k, mask=mask & keys, is_causal=True)
        return spread(q, k, self.size, self.how, mask, is_causal=True, key_mask=keys), expected


class Turned(Case):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> Made:
        q, k = self.whole(batch, dtype)
        return reverse(spread(q, k, self.size, self.how)), oracles.reverse(oracles.attention(q, k))


class TurnedCausal(Case):
    structure, how = "upper", "zigzag"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> Made:
        q, k = self.whole(batch, dtype)
        whole = spread(q, k, self.size, self.how, is_causal=True)
        return reverse(whole), oracles.reverse(oracles.attention(q, k, is_causal=True))


class TurnedMasked(Case):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> Made:
        q, k = self.whole(batch, dtype)
        mask = (torch.rand(*batch, N, N) > 0.5) | torch.eye(N, dtype=torch.bool)
        return reverse(spread(q, k, self.size, self.how, mask)), oracles.reverse(oracles.attention(q, k, mask=mask))


class Kept(Case):
    """Restricted to some tokens; a rank is left without any."""

    size, variants = 4, (((3,), torch.float32),)

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> Made:
        q, k = (torch.randn(*batch, N + 4, 4, dtype=torch.float64).to(dtype) for _ in range(2))
        keep = torch.tensor([0, 1, 2, 3, 4, 5, 6, 11, 12])
        a = oracles.attention(q, k)[..., keep, :][..., keep]
        return restrict(spread(q, k, self.size, self.how), keep), a / a.sum(-1, keepdim=True)


class Heads(Case):
    """A mixture of heads, with steps that teleport."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> Made:
        q, k = self.whole((*batch, 3), dtype)
        shares = torch.rand(*batch, 3, dtype=torch.float64)
        shares = shares / shares.sum(-1, keepdim=True)
        a = (shares[..., None, None] * oracles.attention(q, k)).sum(-3)
        jump = torch.full((*batch, N), 1 / N, dtype=torch.float64)
        mixed = Teleport(Mixture(spread(q, k, self.size, self.how), shares), 0.8, jump)
        return mixed, 0.8 * a + 0.2 / N


CASES: dict[str, type[Case]] = {
    case.__name__: case
    for case in (
        Full,
        Peaky,
        Causal,
        CausalZigzag,
        CausalStriped,
        Padded,
        PaddedDifferentlyCausal,
        MaskedRows,
        MaskedRowsAdded,
        MaskedRowsCausal,
        Turned,
        TurnedCausal,
        TurnedMasked,
        Kept,
        Heads,
    )
}
