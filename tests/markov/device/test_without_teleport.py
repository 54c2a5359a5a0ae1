"""TokenRank with α = 1 on the device path: larger chains are iterated as they are, and bounds hold what is lost."""

from __future__ import annotations

import pytest
import torch

import tokenrank as tr
from tests.dispatch import Watch
from tokenrank.markov.recurrent import lost_in_rows, lost_steps
from tokenrank.operators import from_query_key, from_weights

N = 320


def test_a_large_chain_is_iterated_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = 0.5 * torch.randn(2, 3, N, 16, generator=torch.Generator().manual_seed(0))  # all rows have much in common
    exact = tr.AttentionChain.from_qk(q, k).tokenrank(alpha=1.0)
    monkeypatch.setattr("tokenrank.markov.engine.constants.CLASS_DIRECT", N - 1)
    with Watch(N) as seen:
        found = tr.AttentionChain.from_qk(q, k, path="device").tokenrank(alpha=1.0, tol=1e-8)
    assert not seen.squares[torch.float64]
    assert not seen.unfused
    assert bool(found.certificate.converged.all())
    assert not bool(found.certificate.uncertain.any())
    away = (found.values - exact.values).abs().sum(-1)
    assert bool((away <= found.certificate.error_bound + exact.certificate.error_bound).all())
    assert found.certificate.method != "elimination"


def test_what_iterating_does_not_prove_is_eliminated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups that hardly attend to one another: a residual says nothing of how much is in each."""
    n = 96
    g = torch.Generator().manual_seed(1)
    side = torch.where(torch.arange(n) < n // 3, 1.0, -1.0)
    q = torch.cat([3.0 * side[:, None], 0.3 * torch.randn(n, 7, generator=g)], -1)[None]
    monkeypatch.setattr("tokenrank.markov.engine.constants.CLASS_DIRECT", n - 1)
    found = tr.AttentionChain.from_qk(q, q, scale=1.5, path="device").tokenrank(alpha=1.0)
    monkeypatch.undo()
    exact = tr.AttentionChain.from_qk(q, q, scale=1.5).tokenrank(alpha=1.0)
    assert found.certificate.method == "elimination"
    away = (found.values - exact.values).abs().sum(-1)
    assert bool((away <= found.certificate.error_bound + exact.certificate.error_bound).all())
    assert float(found.certificate.error_bound) < 1e-6


@pytest.mark.parametrize("causal", [False, True])
def test_lost_steps_are_seen_in_rows(causal: bool) -> None:
    q = torch.zeros(2, 200, 4)
    q[0, 150, 0] = 800.0  # its steps to most others are no numbers in double precision
    q[1, :, 0] = torch.linspace(0, 1, 200)
    k = torch.zeros(2, 200, 4)
    k[:, 7, 0] = 2.0
    operator = from_query_key(q, k, 1.0, None, causal, path="device")
    lost = lost_in_rows(operator)
    assert lost.tolist() == [True, False]
    assert torch.equal(lost, lost_steps(operator, operator.to_dense(torch.float64)))
    assert not bool(lost_in_rows(from_weights(operator.to_dense(torch.float64))).any())
