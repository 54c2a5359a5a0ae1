"""TokenRank on the device path: proved from what a chain is made of, with few waits and nothing N × N in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tests.dispatch import Watch
from tokenrank.markov.engine.device_rank import device_ranked, runs
from tokenrank.markov.engine.placement import placed
from tokenrank.operators import from_query_key, from_weights


def normal(heads: int, n: int, d: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(n + d)
    q, k = torch.randn(2, heads, n, d, generator=g).to(dtype)
    return q, k


def right(operator, alpha: float, jump: Tensor) -> Tensor:
    """π of each head by LU in double precision, one after the other."""
    found = []
    for a, v in zip(operator.to_dense(torch.float64), jump, strict=True):
        found.append(torch.linalg.solve(torch.eye(len(v), dtype=v.dtype) - alpha * a.T, (1 - alpha) * v))
    return torch.stack(found)


def hard(n: int) -> dict[str, Tensor]:
    """Weights (3, n, n) on which a Krylov space closes, helps little, or must not be mixed with quick heads."""
    g = torch.Generator().manual_seed(5)
    even, some = torch.full((n, n), 1 / n), torch.rand(n, n, generator=g).softmax(-1)
    block = torch.arange(n) // (n // 4)
    apart = torch.where(block[:, None] == block, 1.0, 1e-4)
    apart = apart / apart.sum(-1, keepdim=True)
    shuffled, ring = torch.eye(n)[torch.randperm(n, generator=g)], torch.eye(n).roll(1, 0)
    near = 0.999 * ring + 0.001 * some / some.sum(-1, keepdim=True)
    return {
        "permutations beside even rows": torch.stack([shuffled, even, ring]),
        "clusters beside even rows": torch.stack([apart, even, 0.5 * apart + 0.5 * even]),
        "nearly periodic": torch.stack([near, torch.eye(n), even.roll(1, 0)]),
        "closed at once": torch.stack([even, torch.eye(n), torch.eye(n)[:, :1].T.expand(n, n)]),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tol", [1e-4, 1e-6])
def test_waits_operations_and_memory_from_queries_to_the_certificate(dtype, causal, tol):
    n, heads = 320, 3
    q, k = normal(heads, n, 16, dtype)
    x, live = torch.rand(heads, n, 1), torch.ones(heads, dtype=torch.bool)
    with Watch() as begun:
        product = placed(from_query_key(q, k, None, None, causal, path="device"), 40)
        product(x, live)
    with Watch() as one:
        product(x, live)
    with Watch(n) as seen:
        rank = tr.AttentionChain.from_qk(q, k, is_causal=causal, path="device").tokenrank(tol=tol)
        converged = rank.certificate.converged
    applies = rank.certificate.applies
    assert bool(converged.all())
    assert seen.waits.total() <= 6 + applies // 8, seen.waits
    # what a product takes on a CPU, where halves are widened for it, is counted apart
    own = seen.count if causal else seen.count - begun.count - one.count * (applies - 3)
    assert own <= 200 + 40 * applies, (own, seen.count, one.count, applies)
    assert seen.float64 < heads * n * n * 8
    assert not seen.squares[torch.float64]
    assert not seen.unfused
    assert all(q % 8 == 0 and v % 8 == 0 for q, v, _ in seen.widths)


@pytest.mark.parametrize("alpha", [0.9, 0.9999])
@pytest.mark.parametrize("case", list(hard(16)))
def test_true_errors_stay_below_bounds_where_krylov_spaces_do_not_help(case, alpha):
    n = 96
    operator = from_weights(hard(n)[case], path="device")
    jump = torch.rand(3, n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    jump = jump / jump.sum(-1, keepdim=True)
    exact = right(operator, alpha, jump)
    for tol in (1e-3, 1e-8):
        found = device_ranked(operator, alpha, jump, tol, 5000)
        assert bool((found.bound <= tol).all()), (found.bound, found.applies)
        assert found.applies < 300
        assert bool(((found.values - exact).abs().sum(-1) <= found.bound + 1e-13).all())


def test_where_heads_are_too_large_to_be_factored_quick_ones_are_found_beside_hopeless_ones(monkeypatch):
    n = 300
    monkeypatch.setattr("tokenrank.markov.engine.constants.RANK_STUBBORN", 1)
    even = torch.full((n, n), 1 / n)
    some = torch.rand(n, n, generator=torch.Generator().manual_seed(0)).softmax(-1)
    ring = torch.eye(n).roll(1, 0)
    operator = from_weights(torch.stack([even, ring, some]), path="device")
    jump = torch.zeros(3, n, dtype=torch.float64)
    jump[0] = jump[2] = 1 / n
    jump[1, 0] = 1.0
    found = device_ranked(operator, 0.9999, jump, 1e-6, 1000)
    assert (found.bound <= 1e-6).tolist() == [True, False, True]
    assert found.applies <= 1000
    exact = right(operator, 0.9999, jump)
    assert bool(((found.values - exact).abs().sum(-1) <= found.bound).all())
    assert found.method == "gmres"


def test_an_error_of_single_precision_in_the_chain_is_in_the_bound():
    """Large logits: a float32 softmax of these queries and keys has another TokenRank, by more than was asked."""
    q, k = normal(2, 128, 32)
    q, k = 8 * q, 8 * k
    operator = from_query_key(q, k, 1.0, None, False, path="device")
    jump = torch.full((2, 128), 1 / 128, dtype=torch.float64)
    single = right(from_weights((q @ k.mT).softmax(-1)), 0.99, jump)
    exact = right(operator, 0.99, jump)
    found = device_ranked(operator, 0.99, jump, 1e-8, 5000)
    error = (found.values - exact).abs().sum(-1)
    assert bool((found.bound <= 1e-8).all())
    assert bool((error <= found.bound).all())
    assert bool(((single - exact).abs().sum(-1) > 10 * found.bound).all()), "the case shows nothing"


def test_heads_that_are_done_are_left_out_of_the_proof():
    assert list(runs([True, False, True, True, False])) == [slice(0, 1), slice(2, 4)]
    assert list(runs([False, False])) == []


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_other_chains_are_proved_from_their_own_products(direction):
    q, k = normal(4, 80, 8)
    chain = tr.AttentionChain.from_qk(q, k, path="device").aggregate("uniform")
    host = tr.AttentionChain.from_qk(q, k).aggregate("uniform")
    start = {3: 0.25, 40: 0.75}
    found = chain.tokenrank(0.95, start, direction, tol=1e-8)
    best = host.tokenrank(0.95, start, direction, tol=1e-10)
    assert bool(found.certificate.converged.all())
    away = (found.values - best.values).abs().sum(-1)
    assert bool((away <= found.certificate.error_bound + best.certificate.error_bound).all())
