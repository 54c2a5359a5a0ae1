"""How often |λ2| and the spectrum of all kinds of chains wait for a device: rarely, whatever the chain is made of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tests.dispatch import Watch
from tests.markov import oracles
from tokenrank.markov.engine.transfer import brought, sent

N = 200
Chain = tr.AttentionChain


def heads() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k = 1.5 * torch.randn(2, 3, N, 16, generator=generator)
    return q, k


def given(mask: Tensor | None = None, is_causal: bool = False) -> Callable[[], tr.AttentionChain]:
    q, k = heads()
    return lambda: Chain.from_qk(q, k, mask=mask, is_causal=is_causal, path="device")


def masks() -> dict[str, Tensor]:
    shown = torch.rand(N, N, generator=torch.Generator().manual_seed(1)) < 0.5
    shown.fill_diagonal_(True)
    unseen = torch.ones(N, N, dtype=torch.bool)
    unseen[:, -7:] = False
    two = torch.zeros(N, N, dtype=torch.bool)  # one class of those that stay, one of 60 and one of 90 before it
    two[:60, :60] = two[60:, 60:] = two[150:] = True
    padding = torch.ones(1, N, dtype=torch.bool)
    padding[:, -7:] = False
    return {
        "masked": shown,
        "numbers as mask": torch.where(shown, 0.3, -torch.inf),
        "keys that nobody sees": unseen,
        "classes": two,
        "padding": padding,
    }


def weights() -> Callable[[], tr.AttentionChain]:
    q, k = heads()
    a = torch.softmax(q @ k.mT / 4, -1)
    return lambda: Chain(a, path="device")


plain = given()
CHAINS: dict[str, Callable[[], tr.AttentionChain]] = {
    "plain": plain,
    **{name: given(mask) for name, mask in masks().items()},
    "causal": given(is_causal=True),
    "weights": weights(),
    "reversed": lambda: plain().reverse(),
    "reversed twice": lambda: plain().reverse().reverse(),
    "weights reversed": lambda: weights()().reverse(),
    "mixed": lambda: plain().aggregate("uniform"),
    "mixed and reversed": lambda: plain().aggregate("uniform").reverse(),
    "lazy": lambda: plain().lazy(),
    "teleporting": lambda: plain().teleport(0.9),
}


@pytest.mark.parametrize("name", CHAINS)
def test_second_eigenvalues(name: str) -> None:
    """From queries and keys to the certificate."""
    with Watch(tokens=N) as seen:
        chain = CHAINS[name]()
        answer = chain.lambda2()
    assert seen.waits.total() <= 6 + answer.certificate.applies // 8, seen.waits
    assert not [op for op in seen.ops if "eig" in op]
    dense = chain.operator.to_dense(torch.float64).reshape(-1, N, N)
    expected = torch.tensor([oracles.second_modulus(a) for a in dense.numpy()])
    assert not answer.certificate.uncertain.any()
    assert (answer.values.double().reshape(-1) - expected).abs().max() <= 5e-4


@pytest.mark.parametrize("name", CHAINS)
def test_spectra(name: str) -> None:
    """The small matrices of all heads in one copy a fill; what is found in the end and what is doubted in one each."""
    with Watch(tokens=N) as seen:
        chain = CHAINS[name]()
        answer = chain.spectrum(4)
    assert seen.waits.total() <= 6 + answer.certificate.applies // 8, seen.waits
    dense = chain.operator.to_dense(torch.float64).reshape(-1, N, N)
    expected = torch.linalg.eigvals(dense).abs().sort(-1, descending=True).values[:, :4]
    assert not answer.certificate.uncertain.any()
    assert (answer.values.abs().reshape(-1, answer.values.shape[-1])[:, :4] - expected).abs().max() <= 5e-4


def test_several_tensors_travel_in_one_copy() -> None:
    tensors = [
        torch.rand(3, 2) > 0.5,
        torch.randn(5, dtype=torch.complex128).conj(),
        torch.randn(3, 4).mT,
        torch.zeros(0, 7),
        torch.arange(7, dtype=torch.float64)[::2],
        torch.tensor(3),
    ]
    with Watch() as seen:
        there = brought(*tensors)
        back = sent(torch.device("cpu"), *there)
        assert seen.waits.total() == 1
        assert float(there[-1]) == 3  # the host's
        assert seen.waits.total() == 1
        assert float(back[-1]) == 3
        assert seen.waits.total() == 2
    for given, one, other in zip(tensors, there, back, strict=True):
        assert one.dtype == given.dtype
        assert torch.equal(one, given)
        assert torch.equal(other, given)
