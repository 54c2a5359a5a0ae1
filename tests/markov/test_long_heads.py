"""Heads of speech length: 1,500 frames, most of them silence with nearly the same key."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tokenrank import AttentionChain
from tokenrank.operators.base import BUILD_BYTES

N = 1500


def speech_like() -> AttentionChain:
    """Local in the first third, where there is sound; the padding after it has almost one key."""
    g = torch.Generator().manual_seed(0)
    time = torch.arange(N)[:, None] / N
    waves = 40 * time @ torch.randn(1, 16, generator=g)
    k = torch.cat([waves.cos(), waves.sin()], -1) * 3
    k[N // 3 :] = k[N // 3] + 1e-3 * torch.randn(N - N // 3, 32, generator=g)
    q = k + 0.1 * torch.randn(N, 32, generator=g)
    return AttentionChain.from_qk(q, k)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_tokenrank_of_a_long_head(direction: Any) -> None:
    chain = speech_like()
    found = chain.tokenrank(direction=direction)
    assert found.certificate is not None
    assert bool(found.certificate.converged)
    assert found.certificate.error_bound is not None
    assert float(found.certificate.error_bound) <= 1e-6
    logits = (chain.operator.q.double() @ chain.operator.k.double().mT).numpy() / 32**0.5  # type: ignore[attr-defined]
    a = np.exp(logits - logits.max(1, keepdims=True))
    a /= a.sum(1, keepdims=True)
    if direction == "backward":
        a = (a / a.sum(0)).T
    exact = np.linalg.solve(np.eye(N) - 0.99 * a.T, np.full(N, 0.01 / N))
    assert np.abs(found.values.numpy() - exact).sum() <= float(found.certificate.error_bound)


@pytest.mark.parametrize("backward", [False, True])
def test_a_head_is_built_in_few_pieces(backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads meet at every piece; on shared cores that, not arithmetic, was what took minutes."""
    chain = speech_like()
    operator = chain.reverse().operator if backward else chain.operator
    calls = []
    rows = type(operator).rows
    monkeypatch.setattr(type(operator), "rows", lambda self, *a: calls.append(a) or rows(self, *a))
    dense = operator.to_dense(torch.float64)
    assert len(calls) <= -(-N * N * 8 // BUILD_BYTES)
    assert torch.allclose(dense[700:702], rows(operator, 700, 702, torch.float64), rtol=1e-12, atol=0)


def test_a_bias_of_keys_is_not_changed_by_building() -> None:
    """Building adds in place: to the logits that it has made, and to nothing that is kept."""
    q, k = torch.randn(2, 40, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chain = AttentionChain.from_qk(q, k).reverse()
    first = chain.to_dense()
    assert torch.equal(first, chain.to_dense())
    weights = (q @ k.mT / 8**0.5).softmax(-1)
    assert torch.allclose(first, (weights / weights.sum(0)).mT, atol=1e-14)
