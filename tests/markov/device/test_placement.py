"""Where A lives: the decision from facts of cards that are not there, and products of every kind of chain."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.dispatch import Watch
from tests.operators import test_conformance as kinds
from tests.operators.conformance import OperatorConformance
from tokenrank.errors import TokenRankWarning
from tokenrank.markov.engine import constants, placement
from tokenrank.markov.engine.batching import dense_room, head_groups
from tokenrank.markov.engine.placement import Facts, decide, facts_of, placed
from tokenrank.operators import Dense, Operator, from_query_key

GB = 10**9
H200, A10G, T4 = (140 * GB, 50 * 2**20), (23 * GB, 6 * 2**20), (15 * GB, 4 * 2**20)
BF16, F32 = torch.bfloat16, torch.float32


def facts(card: tuple[int, int], heads: int, tokens: int, width: int, dtype: torch.dtype, applies: int = 45) -> Facts:
    return Facts(heads, tokens, "queries and keys", width, dtype, applies, 1, *card)


@pytest.mark.parametrize(
    ("of", "where", "short"),
    [
        (facts(H200, 12, 1024, 64, BF16), "stored", False),  # stays in the cache
        (facts(A10G, 12, 1024, 64, BF16), "recomputed", False),  # does not; attention costs as much as reading
        (facts(H200, 24, 4608, 128, BF16), "stored", False),
        (facts(H200, 24, 4608, 128, BF16, applies=6), "recomputed", False),  # not worth the building
        (facts(H200, 24, 4608, 64, BF16), "recomputed", False),
        (facts(H200, 24, 16384, 128, BF16), "stored", False),  # 12.9 GB of 140
        (facts(A10G, 24, 16384, 128, BF16), "recomputed", True),
        (facts(T4, 24, 16384, 64, F32), "recomputed", True),  # bfloat16 on a card without it: float32
        (facts(T4, 24, 4608, 64, F32), "stored", False),
        (facts(T4, 6, 200, 64, F32, applies=2), "stored", False),
        (facts(H200, 24, 65536, 128, BF16), "recomputed", True),
        (facts(H200, 1, 65536, 128, F32), "stored", False),  # 8.6 GB
        (facts((2 * GB, 50 * 2**20), 24, 4608, 128, BF16), "recomputed", True),  # a card that is nearly full
        (facts((0, 50 * 2**20), 1, 200, 128, F32), "recomputed", True),
        (replace(facts(H200, 24, 4608, 64, F32), fused=False), "stored", False),
        (replace(facts(A10G, 24, 16384, 64, F32), fused=False), "rows", True),
        (replace(facts(H200, 24, 4608, 64, F32, applies=1), fused=False), "rows", False),
        (replace(facts(H200, 24, 4608, 64, F32), free=None), "recomputed", False),
        (Facts(24, 4608, "weights", 0, F32, 45, 1, *H200), "stored", False),  # half the bytes at each product
        (Facts(24, 4608, "weights", 0, F32, 3, 1, *H200), "recomputed", False),
        (Facts(24, 4608, "weights", 0, torch.float64, 3, 1, *H200), "stored", False),
        (Facts(1, 4608, "composed", 0, F32, 45, 1, *A10G), "stored", False),
        (Facts(1, 4608, "composed", 0, F32, 45, 1, *A10G, own_rows=False), "recomputed", False),
        (Facts(1, 1024, "composed", 0, F32, 45, 1, *A10G, own_rows=False), "stored", False),
    ],
)
def test_decisions(of: Facts, where: str, short: bool) -> None:
    found = decide(of)
    assert found.where == where, found
    assert (found.short is not None) == short, found


def test_more_memory_and_more_products_never_argue_against_a_store() -> None:
    order = {"rows": 0, "recomputed": 0, "stored": 1}
    for card in (H200, A10G, T4):
        for tokens in (200, 1024, 4608, 16384, 65536):
            for width, dtype, fused in ((64, BF16, True), (128, BF16, True), (128, F32, True), (64, F32, False)):
                of = replace(facts(card, 24, tokens, width, dtype), fused=fused)
                by_memory = [order[decide(replace(of, free=free)).where] for free in (0, GB, 10 * GB, 1000 * GB)]
                by_applies = [order[decide(replace(of, applies=a)).where] for a in (0, 1, 6, 45, 400, 10**5)]
                assert by_memory == sorted(by_memory), of
                assert by_applies == sorted(by_applies), of


def test_a_store_never_takes_more_than_its_share() -> None:
    for free in (GB, 15 * GB, 140 * GB):
        largest = max(n for n in range(64, 65537, 64) if decide(facts((free, 0), 24, n, 128, F32)).where == "stored")
        assert 0.23 * free < 2 * 24 * largest**2 <= 0.25 * free


def test_the_notice_says_what_would_fit() -> None:
    words = decide(facts(A10G, 24, 16384, 128, BF16)).short
    assert words is not None
    heads = int(re.findall(r"(\d+) such heads would fit", words)[0])
    assert decide(facts(A10G, heads, 16384, 128, BF16)).where == "stored"
    assert decide(facts(A10G, heads + 1, 16384, 128, BF16)).where == "recomputed"
    words = decide(facts(T4, 24, 65536, 128, F32)).short
    assert words is not None
    tokens = int(re.findall(r"([\d,]+) tokens would fit", words)[0].replace(",", ""))
    assert decide(facts(T4, 24, tokens, 128, F32)).where == "stored"
    assert decide(facts(T4, 24, tokens + 1, 128, F32)).where == "recomputed"


CASES = [kind for _, kind in inspect.getmembers(kinds, inspect.isclass) if issubclass(kind, OperatorConformance)]
CASES.remove(OperatorConformance)
APPLIES = 10**7, 0  # of which a store pays, and of which it does not


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_products_of_every_kind_of_chain(kind: type[OperatorConformance]) -> None:
    operator, dense = kind().make((2, 1, 3), torch.float32)
    exact, n = dense.reshape(6, *dense.shape[-2:]), operator.num_tokens
    g = torch.Generator().manual_seed(0)
    live = torch.tensor([True, True, False, True, True, True])
    x = torch.rand(6, n, 2, generator=g)
    for applies, limit in zip(APPLIES, (1.2e-3, 2e-5), strict=True):
        of = facts_of(operator.reshape(6), applies)
        assert (decide(of).where == "stored") == (applies > 0 and of.free is not None)
        for transposed in (True, False):
            found = placed(operator, applies, transposed, columns=2)(x, live)
            expected = ((exact.mT if transposed else exact) @ x.double()) * live[:, None, None]
            assert found.dtype == torch.float32
            assert (found - expected).abs().sum(-2).max() <= limit * x.sum(-2).max(), (applies, transposed)
            assert not found[2].any()


def head(dtype: torch.dtype, **options: object) -> tuple[Operator, Tensor]:
    width = 16 if dtype == F32 else 128  # of halves a narrow head is as fast again
    q, k = torch.randn(2, 3, 40, width, generator=torch.Generator().manual_seed(4)).to(dtype)
    return from_query_key(q, k, None, options.pop("mask", None), bool(options.pop("causal", False)), "device"), q


def test_facts_of_chains() -> None:
    half, _ = head(torch.float16)
    of = facts_of(half, 45, 2)
    assert (of.heads, of.tokens, of.made, of.width, of.dtype) == (3, 40, "queries and keys", 128, torch.float16)
    assert (of.applies, of.columns, of.cache, of.fused, of.own_rows) == (45, 2, 0, True, True)
    assert of.free is None or of.free > 0
    assert not facts_of(head(F32, mask=torch.randn(40, 40))[0], 1).fused
    weights = facts_of(Dense(torch.full((2, 4, 4), 0.25, dtype=torch.float64)), 1)
    assert (weights.made, weights.dtype) == ("weights", torch.float64)
    restricted, _ = kinds.TestTeleportOfRestricted().make((2,), F32)
    assert facts_of(restricted, 1).made == "composed"
    lone, _ = kinds.TestRestricted().make((2,), F32)
    assert facts_of(lone, 1).own_rows == (type(lone).rows is not Operator.rows)


@pytest.mark.parametrize("mask", [None, "rows"])
@pytest.mark.parametrize("dtype", [torch.float16, BF16, F32])
def test_queries_and_keys_of_the_device_path(dtype: torch.dtype, mask: str | None) -> None:
    given = None if mask is None else torch.randn(40, 40, generator=torch.Generator().manual_seed(6))
    operator, _ = head(dtype, mask=given)
    exact = operator.to_dense(torch.float64)
    x, live = torch.rand(3, 40, 1, generator=torch.Generator().manual_seed(5)), torch.tensor([True, False, True])
    x = x / x.sum(-2, keepdim=True)
    for applies in APPLIES:
        of = facts_of(operator, applies)
        assert decide(of).where == ("stored" if applies and of.free else "rows" if mask else "recomputed")
        for transposed in (True, False):
            found = placed(operator, applies, transposed)(x, live)
            expected = (exact.mT if transposed else exact) @ x.double()
            off = (found - expected).abs().sum(-2)[live].max() / expected.sum(-2).max()
            assert off < (2e-2 if dtype == BF16 else 2e-3), (applies, transposed)
            assert not found[1].any()


def test_heads_are_materialised_together_where_the_device_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DENSE_BYTES", 40 * 40 * 8)
    q, k = torch.randn(2, 3, 40, 16, generator=torch.Generator().manual_seed(8))
    for path, groups in (("host", 3), ("device", 1)):
        operator = from_query_key(q, k, None, None, False, path)
        assert len(list(head_groups(operator, torch.float64))) == groups
        assert dense_room(operator) >= 40 * 40 * 8


def test_too_little_memory_is_told_once_a_process() -> None:
    """A million tokens of one head take 2 TB in half precision: no machine has a quarter of what that needs."""
    n = 2**20
    q = torch.zeros(1, 1, 8).expand(1, n, 8)
    operator = from_query_key(q, q, 1.0, None, False)
    placement._told.clear()
    with pytest.warns(TokenRankWarning, match=r"1 × 1,048,576 × 1,048,576, takes .* tokens would fit"):
        placed(operator, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        placed(operator, 100)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are set as Linux has them")
def test_a_store_that_cannot_be_had_is_told_and_done_without() -> None:
    import resource

    n = 8192
    q, k = torch.randn(2, 1, n, 8, generator=torch.Generator().manual_seed(7))
    operator, live = from_query_key(q, k, None, None, False, "device"), torch.tensor([True])
    placement._told.clear()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + n * n, hard))  # half of what a store takes
    try:
        with pytest.warns(TokenRankWarning, match=r"for a store could not be had .* computed again each time"):
            product = placed(operator, 10**7)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    x = torch.full((1, n, 1), 1 / n)
    assert (product(x, live).sum(-2) - 1).abs() < 1e-4


@pytest.mark.parametrize("applies", APPLIES)
@pytest.mark.parametrize("dtype", [torch.float16, F32])
def test_products_neither_wait_nor_make_squares(dtype: torch.dtype, applies: int) -> None:
    """But the one in half precision where it is stored, which is made by chunks of rows."""
    n = 512
    q, k = torch.randn(2, 24, n, 128, generator=torch.Generator().manual_seed(9)).to(dtype)
    live, x = torch.ones(24, dtype=torch.bool), torch.rand(24, n, 1)
    operator = from_query_key(q, k, None, None, False, "device")
    with Watch(tokens=n) as making:
        product = placed(operator, applies)
    product(x, live)
    assert making.squares == ({torch.float16: 1} if applies else {})
    assert making.float64 < n * n
    with Watch(tokens=n) as seen:
        product(x, live)
    assert not seen.waits
    assert seen.float64 < n * n
    widened = {torch.float32: 1} if applies else {}  # by the CPU's form of a product of halves
    assert seen.squares == widened
    assert seen.count <= (25 if applies else 50)  # views among them
