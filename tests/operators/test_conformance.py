"""The operators and their nestings, each through the whole of the conformance tests."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenrank.operators import (
    Bipartite,
    Blocks,
    Censored,
    Dense,
    Kernel,
    Lazy,
    Mixture,
    Operator,
    Product,
    Relay,
    Restricted,
    Teleport,
    from_query_key,
    from_scores,
    from_weights,
    restrict,
    reverse,
)

from . import oracles
from .conformance import OperatorConformance

N, D = 9, 4


def queries_and_keys(batch: tuple[int, ...], dtype: torch.dtype, size: float = 1.0) -> tuple[Tensor, Tensor]:
    q, k = (size * torch.randn(*batch, N, D, dtype=torch.float64) for _ in range(2))
    return q.to(dtype), k.to(dtype)


def weights(batch: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.randn(*batch, N, N, dtype=torch.float64).mul(2).softmax(-1).to(dtype)


class TestDense(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        a = weights(batch, dtype)
        return Dense(a), oracles.rows_to_one(a)


class TestDenseFromWeightsWithZeros(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        a = weights(batch, torch.float64)
        near = (torch.arange(N)[:, None] - torch.arange(N)).abs() <= 2
        a = oracles.rows_to_one(a * near).to(dtype)
        return from_weights(a), oracles.rows_to_one(a)


class TestDenseFromCausalWeights(OperatorConformance):
    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        a = oracles.rows_to_one(weights(batch, torch.float64).tril()).to(dtype)
        return from_weights(a), oracles.rows_to_one(a)


class TestDenseFromScores(OperatorConformance):
    """Rows are divided by their exact sums in float64, so the oracle starts from the float32 softmax."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        scores = 3 * torch.randn(*batch, N, N, dtype=dtype)
        scores[..., 5:, 2] = -torch.inf
        return from_scores(scores), oracles.rows_to_one(scores.softmax(-1))


class TestQueryKey(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        return from_query_key(q, k, None, None, False), oracles.attention(q, k)


class TestQueryKeyScaled(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        return from_query_key(q, k, 1.7, None, False), oracles.attention(q, k, 1.7)


class TestQueryKeyPeaky(OperatorConformance):
    """Logits up to about ±40: rows close to unit vectors, column sums that span decades."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype, 3.0)
        return from_query_key(q, k, 1.0, None, False), oracles.attention(q, k, 1.0)


class TestQueryKeyCausal(OperatorConformance):
    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        return from_query_key(q, k, None, None, True), oracles.attention(q, k, is_causal=True)


class TestQueryKeyBoolMask(OperatorConformance):
    """One mask for all chains."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        mask = (torch.rand(N, N) > 0.5) | torch.eye(N, dtype=torch.bool)
        return from_query_key(q, k, None, mask, False), oracles.attention(q, k, mask=mask)


class TestQueryKeyBoolMaskOfEveryChain(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        mask = (torch.rand(*batch, N, N) > 0.5) | torch.eye(N, dtype=torch.bool)
        return from_query_key(q, k, None, mask, False), oracles.attention(q, k, mask=mask)


class TestQueryKeyMaskWithOneHead(OperatorConformance):
    """A mask with a broadcast dimension of heads, as models pass it: (*batch, 1, N, N)."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        mask = torch.rand(*batch[:-1], *(1 for _ in batch[-1:]), N, N) > 0.5
        mask = mask | torch.eye(N, dtype=torch.bool)
        return from_query_key(q, k, None, mask, False), oracles.attention(q, k, mask=mask)


class TestQueryKeyFloatBias(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        bias = 2 * torch.randn(*batch, N, N, dtype=dtype)
        return from_query_key(q, k, None, bias, False), oracles.attention(q, k, mask=bias)


class TestQueryKeyFloatBiasWithInfinities(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        bias = torch.randn(N, N, dtype=dtype)
        bias[2, 3:] = -torch.inf
        bias[6, :4] = torch.finfo(dtype).min
        return from_query_key(q, k, None, bias, False), oracles.attention(q, k, mask=bias)


class TestQueryKeyPadded(OperatorConformance):
    """A mask over keys alone; the last two tokens are padding."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        mask = torch.arange(N) < N - 2
        return from_query_key(q, k, None, mask, False), oracles.attention(q, k, mask=mask)


class TestQueryKeyPaddedDifferently(OperatorConformance):
    """Float padding (*batch, 1, N), different in every chain, and a custom scale."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        length = torch.randint(5, N + 1, (*batch, 1, 1))
        bias = torch.zeros(*batch, 1, N, dtype=dtype).masked_fill(torch.arange(N) >= length, -torch.inf)
        return from_query_key(q, k, 0.3, bias, False), oracles.attention(q, k, 0.3, bias)


class TestQueryKeyColumnBias(OperatorConformance):
    """A finite bias on keys, as in attention with a learned prior."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        bias = 3 * torch.randn(1, N, dtype=dtype)
        return from_query_key(q, k, None, bias, False), oracles.attention(q, k, mask=bias)


class TestQueryKeyPaddedCausal(OperatorConformance):
    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        mask = torch.arange(N) < N - 2
        return from_query_key(q, k, None, mask, True), oracles.attention(q, k, mask=mask, is_causal=True)


class TestQueryKeyMaskedCausal(OperatorConformance):
    """``is_causal`` beside a full mask: both count."""

    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        mask = (torch.rand(*batch, N, N) > 0.4) | torch.eye(N, dtype=torch.bool)
        return from_query_key(q, k, None, mask, True), oracles.attention(q, k, mask=mask, is_causal=True)


class TestQueryKeyCausalByMask(OperatorConformance):
    """A float mask that is causal, as decoders pass it, is recognised."""

    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        mask = torch.full((N, N), torch.finfo(dtype).min, dtype=dtype).triu(1)
        return from_query_key(q, k, None, mask, False), oracles.attention(q, k, is_causal=True)


class TestQueryKeyMaskOfQueries(OperatorConformance):
    """A bias (N, 1) shifts whole rows and changes nothing; it is not causal either."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        return from_query_key(q, k, None, torch.randn(N, 1, dtype=dtype), False), oracles.attention(q, k)


class TestQueryKeyGrouped(OperatorConformance):
    """Three query heads on one key head or, for a single chain, one of each."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, _ = queries_and_keys(batch, dtype)
        _, k = queries_and_keys((*batch[:-1], 1) if batch else (), dtype)
        return from_query_key(q, k, None, None, False), oracles.attention(q, k)


class TestQueryKeyGroupedCausal(OperatorConformance):
    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, _ = queries_and_keys(batch, dtype)
        _, k = queries_and_keys((*batch[:-1], 1) if batch else (), dtype)
        return from_query_key(q, k, None, None, True), oracles.attention(q, k, is_causal=True)


def three_heads(batch: tuple[int, ...], dtype: torch.dtype, is_causal: bool = False) -> tuple[Operator, Tensor, Tensor]:
    q, k = queries_and_keys((*batch, 3), dtype)
    w = torch.rand(*batch, 3, dtype=torch.float64)
    w = (w / w.sum(-1, keepdim=True)).to(dtype)
    return from_query_key(q, k, None, None, is_causal), oracles.attention(q, k, is_causal=is_causal), w


def a_jump(batch: tuple[int, ...]) -> Tensor:
    return torch.randn(*batch, N, dtype=torch.float64).softmax(-1)


class TestMixture(OperatorConformance):
    """Weights sum to one in float64, and their float32 form is what the mixture stands for."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        heads, a, w = three_heads(batch, dtype)
        w = oracles.rows_to_one(w)
        return Mixture(heads, w), oracles.mix(a, w)


class TestMixtureOfCausal(OperatorConformance):
    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        heads, a, w = three_heads(batch, dtype, is_causal=True)
        w = oracles.rows_to_one(w)
        return Mixture(heads, w), oracles.mix(a, w)


class TestMixtureOfDense(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        a = weights((*batch, 2), dtype)
        w = torch.tensor([0.25, 0.75], dtype=dtype).expand(*batch, 2)
        return Mixture(Dense(a), w), oracles.mix(oracles.rows_to_one(a), w)


class TestMixtureOfMixtures(OperatorConformance):
    """Heads first, then layers."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        heads, a, w = three_heads((*batch, 2), dtype)
        w = oracles.rows_to_one(w)
        layers = torch.tensor([0.5, 0.5], dtype=dtype).expand(*batch, 2)
        return Mixture(Mixture(heads, w), layers), oracles.mix(oracles.mix(a, w), layers)


class TestTeleport(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        jump = a_jump(batch)
        return (
            Teleport(from_query_key(q, k, None, None, False), 0.85, jump),
            oracles.teleport(oracles.attention(q, k), 0.85, jump),
        )


class TestTeleportOfCausal(OperatorConformance):
    """Not causal any more: a jump leads anywhere."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        jump = a_jump(batch)
        return (
            Teleport(from_query_key(q, k, None, None, True), 0.9, jump),
            oracles.teleport(oracles.attention(q, k, is_causal=True), 0.9, jump),
        )


class TestReversed(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        return reverse(from_query_key(q, k, None, None, False)), oracles.reverse(oracles.attention(q, k))


class TestReversedDense(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        a = weights(batch, dtype)
        return reverse(Dense(a)), oracles.reverse(oracles.rows_to_one(a))


class TestReversedCausal(OperatorConformance):
    structure = "upper"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        operator = from_query_key(q, k, None, None, True)
        return reverse(operator), oracles.reverse(oracles.attention(q, k, is_causal=True))


class TestReversedTwice(OperatorConformance):
    """Not the identity: columns are normalised in between."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        operator = from_query_key(q, k, None, None, False)
        return reverse(reverse(operator)), oracles.reverse(oracles.reverse(oracles.attention(q, k)))


KEEP = torch.tensor([0, 1, 2, 4, 5, 6, 8])  # seven of nine tokens


class TestRestricted(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        operator = Restricted(from_query_key(q, k, None, None, False), KEEP)
        return operator, oracles.restrict(oracles.attention(q, k), KEEP)


class TestRestrictedCausal(OperatorConformance):
    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        operator = Restricted(from_query_key(q, k, None, None, True), KEEP)
        return operator, oracles.restrict(oracles.attention(q, k, is_causal=True), KEEP)


class TestRestrictedQueryKey(OperatorConformance):
    """The operator's own way: softmax over the kept keys."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        mask = torch.arange(N) != 3  # padding that is not kept
        operator = restrict(from_query_key(q, k, None, mask, False), KEEP)
        return operator, oracles.restrict(oracles.attention(q, k, mask=mask), KEEP)


class TestRestrictedMaskedCausal(OperatorConformance):
    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        mask = (torch.rand(*batch, N, N) > 0.4) | torch.eye(N, dtype=torch.bool)
        operator = restrict(from_query_key(q, k, None, mask, True), KEEP)
        return operator, oracles.restrict(oracles.attention(q, k, mask=mask, is_causal=True), KEEP)


class TestReversedMixture(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        heads, a, w = three_heads(batch, dtype)
        w = oracles.rows_to_one(w)
        return reverse(Mixture(heads, w)), oracles.reverse(oracles.mix(a, w))


class TestTeleportOfRestricted(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        operator = Restricted(from_query_key(q, k, None, None, False), KEEP)
        jump = oracles.rows_to_one(a_jump(batch)[..., KEEP])
        dense = oracles.restrict(oracles.attention(q, k), KEEP)
        return Teleport(operator, 0.5, jump), oracles.teleport(dense, 0.5, jump)


class TestRestrictedReversedMixture(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        heads, a, w = three_heads(batch, dtype)
        w = oracles.rows_to_one(w)
        operator = Restricted(reverse(Mixture(heads, w)), KEEP)
        return operator, oracles.restrict(oracles.reverse(oracles.mix(a, w)), KEEP)


class TestMixtureOfTeleports(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        heads, a, w = three_heads(batch, dtype)
        w, jump = oracles.rows_to_one(w), a_jump((*batch, 3))
        return Mixture(Teleport(heads, 0.7, jump), w), oracles.mix(oracles.teleport(a, 0.7, jump), w)


class TestReversedTeleportOfReversedCausal(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        jump = a_jump(batch)
        operator = reverse(Teleport(reverse(from_query_key(q, k, None, None, True)), 0.6, jump))
        dense = oracles.reverse(oracles.attention(q, k, is_causal=True))
        return operator, oracles.reverse(oracles.teleport(dense, 0.6, jump))


class TestLazy(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        return Lazy(from_query_key(q, k, None, None, False), 0.7), oracles.lazy(oracles.attention(q, k), 0.7)


class TestLazyCausal(OperatorConformance):
    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        dense = oracles.attention(q, k, is_causal=True)
        return Lazy(from_query_key(q, k, None, None, True), 0.5), oracles.lazy(dense, 0.5)


class TestLazyOfZeros(OperatorConformance):
    """A step that stays where the chain itself never does."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        a = weights(batch, torch.float64)
        a = oracles.rows_to_one(a * ~torch.eye(N, dtype=torch.bool)).to(dtype)
        return Lazy(Dense(a), 0.25), oracles.lazy(oracles.rows_to_one(a), 0.25)


class TestProduct(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        (q1, k1), (q2, k2) = (queries_and_keys(batch, dtype) for _ in range(2))
        a = weights(batch, dtype)
        factors = [from_query_key(q1, k1, None, None, False), Dense(a), from_query_key(q2, k2, None, None, False)]
        dense = oracles.attention(q1, k1) @ oracles.rows_to_one(a) @ oracles.attention(q2, k2)
        return Product(factors), dense


class TestProductOfCausal(OperatorConformance):
    """Attention rollout of a causal model: lazy layers, still causal."""

    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        pairs = [queries_and_keys(batch, dtype) for _ in range(3)]
        factors = [Lazy(from_query_key(q, k, None, None, True), 0.5) for q, k in pairs]
        dense = torch.eye(N, dtype=torch.float64).expand(*batch, N, N)
        for q, k in pairs:
            dense = dense @ oracles.lazy(oracles.attention(q, k, is_causal=True), 0.5)
        return Product(factors), dense


class TestProductOfZeros(OperatorConformance):
    """Neighbours of neighbours: the support is that of paths."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        near = (torch.arange(N)[:, None] - torch.arange(N)).abs() <= 2
        a = oracles.rows_to_one(weights(batch, torch.float64) * near).to(dtype)
        dense = oracles.rows_to_one(a)
        return Product([from_weights(a), from_weights(a)]), dense @ dense


class TestProductOfMixedPrecision(OperatorConformance):
    """A float32 factor beside one of the wanted precision: exact for the chains as they are stored."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        a, b = weights(batch, torch.float32), weights(batch, dtype)
        return Product([Dense(a), Dense(b)]), oracles.rows_to_one(a) @ oracles.rows_to_one(b)


def censored(operator: Operator, dense: Tensor, keep: Tensor) -> tuple[Operator, Tensor]:
    removed = torch.tensor([i for i in range(dense.shape[-1]) if i not in keep.tolist()])
    return Censored(operator, keep, removed, oracles.returns(dense, keep, removed)), oracles.censor(dense, keep)


class TestCensored(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        return censored(from_query_key(q, k, None, None, False), oracles.attention(q, k), KEEP)


class TestCensoredCausal(OperatorConformance):
    """The first token is kept, so that the walk comes back."""

    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        return censored(from_query_key(q, k, None, None, True), oracles.attention(q, k, is_causal=True), KEEP)


class TestCensoredTeleport(OperatorConformance):
    """The sink of a causal chain, taken out after the jump was put in."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        jump = a_jump(batch)
        dense = oracles.teleport(oracles.attention(q, k, is_causal=True), 0.8, jump)
        return censored(Teleport(from_query_key(q, k, None, None, True), 0.8, jump), dense, torch.arange(1, N))


M = 3


def kernel(batch: tuple[int, ...], dtype: torch.dtype, rows: int, columns: int) -> tuple[Kernel, Tensor]:
    c = torch.randn(*batch, rows, columns, dtype=torch.float64).mul(2).softmax(-1).to(dtype)
    return Kernel(c), oracles.rows_to_one(c)


class TestBipartite(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        cross, c = kernel(batch, dtype, N, M)
        operator = Bipartite(from_query_key(q, k, None, None, False), cross, 0.3)
        return operator, oracles.bipartite(oracles.attention(q, k), c, 0.3)


class TestRelay(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        (out, c), (back, r) = kernel(batch, dtype, N, M), kernel(batch, dtype, M, N)
        return Relay(out, back), c @ r


class TestReversedCensoredProduct(OperatorConformance):
    """Whatever nests: layers, some tokens watched, turned round."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        (q1, k1), (q2, k2) = (queries_and_keys(batch, dtype) for _ in range(2))
        layers = Product([Lazy(from_query_key(q, k, None, None, False), 0.5) for q, k in ((q1, k1), (q2, k2))])
        dense = oracles.lazy(oracles.attention(q1, k1), 0.5) @ oracles.lazy(oracles.attention(q2, k2), 0.5)
        operator, dense = censored(layers, dense, KEEP)
        return reverse(operator), oracles.reverse(dense)


WINDOWS = torch.tensor([[4, 0, 8], [1, 5, 3], [7, 2, 6]])  # three windows of three tokens


def windowed(batch: tuple[int, ...]) -> tuple[int, ...]:
    """Leading dimensions of the windows of a chain with ``batch``: (*batch, W, H)."""
    return (*batch[:-1], len(WINDOWS), *(batch[-1:] or (1,)))


def placed(windows: Tensor, batch: tuple[int, ...], index: Tensor = WINDOWS) -> Tensor:
    """Windows (…, W, H, n, n) written into zeros, one by one."""
    dense = torch.zeros(*windows.shape[:-4], windows.shape[-3], N, N, dtype=torch.float64)
    for w, tokens in enumerate(index.tolist()):
        for i, a in enumerate(tokens):
            for j, b in enumerate(tokens):
                dense[..., a, b] = windows[..., w, :, i, j]
    return dense.reshape(*batch, N, N)


def few(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    q, k = (torch.randn(*shape, WINDOWS.shape[-1], D, dtype=torch.float64) for _ in range(2))
    return q.to(dtype), k.to(dtype)


class TestBlocksOfDense(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        a = torch.randn(*windowed(batch), 3, 3, dtype=torch.float64).mul(2).softmax(-1).to(dtype)
        return Blocks(Dense(a), WINDOWS).reshape(*batch), placed(oracles.rows_to_one(a), batch)


class TestBlocksOfQueryKey(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = few(windowed(batch), dtype)
        inner = from_query_key(q, k, None, None, False)
        return Blocks(inner, WINDOWS).reshape(*batch), placed(oracles.attention(q, k), batch)


class TestBlocksOfShiftedWindows(OperatorConformance):
    """As in Swin: a bias of every head, and a mask of every window, for all pictures alike."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        shape = windowed(batch)
        q, k = few(shape, dtype)
        bias = torch.randn(shape[-1], 3, 3, dtype=dtype)
        apart = torch.full((3, 1, 3, 3), -5.0, dtype=dtype) * (torch.rand(3, 1, 3, 3) > 0.5)
        inner = from_query_key(q, k, None, bias + apart, False)
        return Blocks(inner, WINDOWS).reshape(*batch), placed(oracles.attention(q, k, mask=bias + apart), batch)


class TestBlocksWithAMaskOfEveryWindow(OperatorConformance):
    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = few(windowed(batch), dtype)
        mask = (torch.rand(3, 1, 3, 3) > 0.5) | torch.eye(3, dtype=torch.bool)
        inner = from_query_key(q, k, None, mask, False)
        return Blocks(inner, WINDOWS).reshape(*batch), placed(oracles.attention(q, k, mask=mask), batch)


class TestBlocksOfPaddedWindows(OperatorConformance):
    """A mask over keys alone becomes one more head dimension."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = few(windowed(batch), dtype)
        mask = torch.tensor([[True, True, True], [True, True, False], [True, False, True]])[:, None, None]
        inner = from_query_key(q, k, None, mask, False)
        return Blocks(inner, WINDOWS).reshape(*batch), placed(oracles.attention(q, k, mask=mask), batch)


class TestBlocksOfCausalWindows(OperatorConformance):
    """Out of order in the sequence, so that nothing of the triangle is left."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = few(windowed(batch), dtype)
        inner = from_query_key(q, k, None, None, True)
        return Blocks(inner, WINDOWS).reshape(*batch), placed(oracles.attention(q, k, is_causal=True), batch)


class TestBlocksOfCausalWindowsInOrder(OperatorConformance):
    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = few(windowed(batch), dtype)
        index = WINDOWS.sort(-1).values
        inner = from_query_key(q, k, None, None, True)
        return Blocks(inner, index).reshape(*batch), placed(oracles.attention(q, k, is_causal=True), batch, index)


class TestReversedMixtureOfBlocks(OperatorConformance):
    """Heads of windows mixed, and turned round: the chains people hold."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = few((*batch, 3, 2), dtype)
        w = oracles.rows_to_one(torch.rand(*batch, 2))
        dense = placed(oracles.attention(q, k), (*batch, 2))
        operator = Mixture(Blocks(from_query_key(q, k, None, None, False), WINDOWS), w)
        return reverse(operator), oracles.reverse(oracles.mix(dense, w))
