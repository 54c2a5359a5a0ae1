"""What CUDA would be asked for by each question in each direction, of each kind of chain: few waits, nothing N × N."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tests.dispatch import Watch
from tokenrank.errors import ChainError

N, HEADS = 320, 3
Chain = tr.AttentionChain


def queries() -> Tensor:
    return torch.randn(2, HEADS, N, 16, generator=torch.Generator().manual_seed(0)).bfloat16()


def padding() -> Tensor:
    return torch.arange(N) < N - 20


def chain(**given: Any) -> Chain:
    return Chain.from_qk(*queries(), path="device", **given)


CHAINS: dict[str, Callable[[], Chain]] = {
    "plain": chain,
    "padded": lambda: chain(mask=padding()),
    "causal": lambda: chain(is_causal=True),
    "mixture": lambda: chain().aggregate("uniform"),
    "restricted": lambda: chain().restrict(range(20, N)),
    "teleport": lambda: chain().teleport(0.9),
}

QUESTIONS: dict[str, Callable[[Chain, str], Any]] = {
    "tokenrank": lambda chain, direction: chain.tokenrank(direction=direction),
    "lambda2": lambda chain, direction: (chain if direction == "forward" else chain.reverse()).lambda2(),
    "bounce": lambda chain, direction: chain.bounce(3, 8, direction),
    "half-life": lambda chain, direction: chain.bounce(3, "halflife", direction),
}
LEFT_OUT = {("padded", "backward")}  # keys that nobody attends to have no row in a reversed chain
CASES = [
    (kind, question, direction)
    for kind, question, direction in product(CHAINS, QUESTIONS, ("forward", "backward"))
    if (kind, direction) not in LEFT_OUT
]
ON_THE_HOST = {"restricted": 1}  # tokens that were given on the host are looked up there: no device is waited for


def within(seen: Watch, applies: int, more: int = 0) -> None:
    assert seen.waits.total() <= 6 + applies // 8 + more, seen.waits
    assert not seen.squares[torch.float64]
    assert not seen.unfused
    assert not {"linalg_eig", "_linalg_eigvals", "_linalg_eigh", "_scaled_dot_product_attention_math"} & seen.ops.keys()
    assert all(q % 8 == 0 and v % 8 == 0 for q, v, _ in seen.widths)


@pytest.mark.parametrize(("kind", "question", "direction"), CASES)
def test_from_queries_to_the_certificate(kind: str, question: str, direction: str) -> None:
    with Watch(N - 20) as seen:  # a restricted chain has so many tokens
        found = QUESTIONS[question](CHAINS[kind](), direction).certificate
    assert bool(found.converged.all())
    within(seen, found.applies, ON_THE_HOST.get(kind, 0))


@pytest.mark.parametrize("kind", [kind for kind in CHAINS if kind not in ("padded", "restricted")])
def test_weights_are_looked_at_once(kind: str) -> None:
    weights = torch.rand(N, generator=torch.Generator().manual_seed(1))
    with Watch(N) as even:
        CHAINS[kind]().tokenrank()
    with Watch(N) as seen:
        found = CHAINS[kind]().tokenrank(personalization=weights).certificate
    within(seen, found.applies)
    assert seen.waits.total() <= even.waits.total() + 1 + found.applies // 8


def test_wrong_weights_are_still_refused_by_name() -> None:
    weights = torch.ones(N)
    with pytest.raises(ChainError, match="all weights of personalization are zero"):
        chain().tokenrank(personalization=0 * weights)
    weights[7] = torch.nan
    with pytest.raises(ChainError, match="weight nan of token 7"):
        chain().tokenrank(personalization=weights)


def test_half_lives_are_followed_no_further_than_half() -> None:
    """A device is asked after 2, 4, 8, … steps; what lies behind the half-life is not told."""
    g = torch.Generator().manual_seed(3)
    slow = 0.9 * torch.eye(40) + 0.1 * torch.rand(40, 40, generator=g).softmax(-1)
    for start in ([[0], [3, 4]], 5):
        host, device = Chain(slow).half_life(start), Chain(slow, path="device").half_life(start)
        assert torch.equal(host.values, device.values)
        assert host.curve.shape == device.curve.shape
        assert torch.allclose(host.curve, device.curve, atol=1e-12)
        assert int(device.values.max()) == device.certificate.applies
        assert device.certificate.applies not in (1, 2, 4, 8, 16), "the case shows nothing"
    held = Chain(torch.eye(40), path="device").half_life(0, limit=5)
    assert held.values.tolist() == 5
    assert not bool(held.certificate.converged)
