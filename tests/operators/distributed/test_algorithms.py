"""The algorithms as they are, on chains of two and four ranks: the answers of one device, bit by bit the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tests.operators.test_memory import LargestTensor
from tokenrank.markov.engine import constants
from tokenrank.operators import from_query_key
from tokenrank.operators.base import BLOCK_BYTES, BLOCK_ROWS

from .ranks import Ranks
from .shards import parts, ring_of, spread

N, D, HEADS = 72, 8, 3
SPREAD = {"full": "uneven", "causal": "zigzag", "padded": "even", "masked": "striped"}


def given(kind: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, dict[str, Any]]:
    generator = torch.Generator().manual_seed(7)
    q, k = (1.5 * torch.randn(2, 1, HEADS, N, D, generator=generator, dtype=torch.float64)).to(dtype)
    masks = {
        "padded": torch.arange(N) < N - 9,
        "masked": (torch.rand(N, N, generator=generator) > 0.6) | torch.eye(N, dtype=torch.bool),
    }
    options = {"mask": masks[kind]} if kind in masks else {}
    return q, k, options | ({"is_causal": True} if kind == "causal" else {})


def of_ranks(options: dict[str, Any]) -> dict[str, Any]:
    """A mask over keys alone is an argument of its own there."""
    if "mask" not in options or options["mask"].ndim > 1:
        return options
    return {"key_mask": options["mask"]}


def one_device(kind: str, dtype: torch.dtype) -> tr.AttentionChain:
    q, k, options = given(kind, dtype)
    arguments: dict[str, Any] = {"scale": None, "mask": None, "is_causal": False} | options
    return tr.AttentionChain.from_operator(from_query_key(q, k, **arguments))


def on_ranks(kind: str, dtype: torch.dtype, size: int) -> tr.AttentionChain:
    q, k, options = given(kind, dtype)
    return tr.AttentionChain.from_operator(spread(q, k, size, SPREAD[kind], **of_ranks(options)))


def answers(chain: tr.AttentionChain, kind: str) -> dict[str, Tensor]:
    """What people ask; only what does not depend on a choice among equals."""
    kept = list(range(0, 40, 2))
    found: dict[str, Callable[[], Tensor]] = {
        "tokenrank": lambda: chain.tokenrank(tol=1e-8).values,
        "stationary": lambda: chain.tokenrank(alpha=1, tol=1e-9).values,
        "bounces": lambda: chain.bounce([3, 40], n=3).values,
        "lambda2": lambda: chain.lambda2().values,
        "hitting": lambda: chain.hitting_times([0]).values / N,
        "absorption": lambda: chain.absorption({"a": [0], "b": [1, 2]}).values,
        "sinks": lambda: chain.sinks().values,
        "entropy": lambda: chain.operator.row_entropies(),
        "restricted": lambda: chain.restrict(kept).tokenrank(tol=1e-8).values,
        "censored": lambda: chain.restrict(kept, how="censor").bounce(1, n=2).values,
        "aggregated": lambda: chain.aggregate("uniform").tokenrank(tol=1e-8).values,
        "weighted": lambda: chain.aggregate().bounce(5, n=2).values,
        "teleport": lambda: chain.teleport(0.9).lambda2().values,
        "moduli": lambda: chain.spectrum(3).values.abs(),
    }
    if kind != "padded":  # who is attended to by nobody has no row backwards
        found["backward"] = lambda: chain.tokenrank(direction="backward", tol=1e-8).values
        found["column"] = lambda: chain.bounce(7, n=2, direction="backward").values
    if kind == "full":  # on four ranks; all of them on two
        found = {name: found[name] for name in ("tokenrank", "bounces", "lambda2", "hitting", "restricted", "backward")}
    return {name: ask() for name, ask in found.items()}


def answered(kind: str, dtype: torch.dtype, size: int, products: bool) -> tuple[dict[str, Tensor], str]:
    """The answers on one of ``size`` ranks, 0 for one device without any; and a digest of their bits.

    Args:
        products: by products alone where an algorithm has such a form, as chains are asked that do not fit.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DENSE_BYTES", "RANK_DIRECT", "SOLVE_DIRECT", "SOLVE_SMALL", "ALL_EIGENVALUES"):
            if products:
                patch.setattr(constants, name, 0)
        patch.setattr(constants, "TRIANGULAR_BLOCK", 16)
        found = answers(on_ranks(kind, dtype, size) if size else one_device(kind, dtype), kind)
    digest = hashlib.sha256()
    for values in found.values():
        digest.update(values.contiguous().numpy().tobytes())
    return found, digest.hexdigest()


@pytest.mark.parametrize(
    ("kind", "size", "dtype", "products"),
    [
        ("full", 4, torch.float32, True),
        ("full", 4, torch.float32, False),
        ("causal", 4, torch.float64, True),
        ("padded", 2, torch.float32, True),
        ("masked", 2, torch.float64, True),
    ],
)
def test_answers_are_those_of_one_device(
    ranks: Ranks, kind: str, size: int, dtype: torch.dtype, products: bool
) -> None:
    found = ranks.run(answered, kind, dtype, size, products, ranks=range(size))
    expected, _ = answered(kind, dtype, 0, products)
    assert len({digest for _, digest in found}) == 1
    off = {name: _distance(found[0][0][name], values) for name, values in expected.items()}
    assert max(off.values()) <= 1e-5, off


def _distance(found: Tensor, expected: Tensor) -> float:
    """The largest difference; a conjugate pair at the end makes one value more for a head, NaN for others."""
    assert torch.equal(found.isnan(), expected.isnan())
    return float((found.double() - expected.double()).nan_to_num(0.0).abs().max())


def certified(kind: str, dtype: torch.dtype, size: int) -> tuple[Tensor, Tensor, bool, str]:
    chain = on_ranks(kind, dtype, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "DENSE_BYTES", 0)
        patch.setattr(constants, "TRIANGULAR_BLOCK", 20)
        found = chain.tokenrank(tol=1e-7)
    worth = found.certificate
    assert worth.error_bound is not None
    return found.values, worth.error_bound, bool(worth.converged.all()), worth.method


@pytest.mark.parametrize(("kind", "how"), [("full", "gmres"), ("masked", "gmres"), ("causal", "substitution")])
def test_certificates_hold(ranks: Ranks, kind: str, how: str) -> None:
    values, bound, converged, method = ranks.run(certified, kind, torch.float32, 2, ranks=range(2))[0]
    assert converged
    assert method == how
    q, k, options = given(kind, torch.float32)
    mask = options.get("mask", torch.ones(N, N, dtype=torch.bool).tril(0 if kind == "causal" else N))
    a = (q.double() @ k.double().mT / D**0.5).masked_fill(~mask, -torch.inf).softmax(-1)
    system = torch.eye(N, dtype=torch.float64) - 0.99 * a.mT
    exact = torch.linalg.solve(system, torch.full((1, HEADS, N, 1), 0.01 / N, dtype=torch.float64))[..., 0]
    assert ((values - exact).abs().sum(-1) <= bound + 1e-13).all()
    assert bound.max() <= 1e-7


def largest(n: int, size: int, causal: bool) -> tuple[int, int]:
    """The most elements of a tensor in a product with Aᵀ and one with A, and the most tokens of a rank."""
    ring = ring_of(size)
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, n, 16, generator=generator)
    mine = parts("zigzag" if causal else "even", n, size)[ring.rank]
    chain = spread(q, k, size, "zigzag" if causal else "even", is_causal=causal)
    x = torch.rand(1, n, 1, generator=generator)
    with LargestTensor() as seen:
        chain.rmatmul(x)
        chain.matmul(x)
        chain.entry_error()
    return seen.elements, len(mine)


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_nothing_is_as_large_as_a_matrix(ranks: Ranks, causal: bool) -> None:
    n = 4096
    for elements, mine in ranks.run(largest, n, 4, causal):
        assert mine == n // 4
        assert elements <= max(BLOCK_BYTES // 4, BLOCK_ROWS * mine)
        assert elements <= mine * n / 16


def test_half_precision_is_passed_on_as_it_is(ranks: Ranks) -> None:
    for held, width, off in ranks.run(halves, ranks=range(2)):
        assert held == torch.bfloat16
        assert width == torch.float32
        assert off <= 1e-5


def halves() -> tuple[torch.dtype, torch.dtype, float]:
    q, k, _ = given("full", torch.float32)
    q, k = q.bfloat16(), k.bfloat16()
    chain, x = spread(q, k, 2), torch.rand(1, HEADS, N, 2)
    a = (q.double() @ k.double().mT / D**0.5).softmax(-1)
    off = max(
        float((chain.matmul(x) - a @ x.double()).abs().max()), float((chain.rmatmul(x) - a.mT @ x.double()).abs().max())
    )
    return chain.k.dtype, chain.dtype, off
