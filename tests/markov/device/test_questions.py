"""Every question of a chain on the device path, asked for on a CPU: the answers of the host's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tokenrank.markov import Certificate

N = 150
Chain = tr.AttentionChain

QUESTIONS: dict[str, Callable[[Chain], Any]] = {
    "absorption": lambda chain: chain.absorption([3, 4, 5]),
    "bounce": lambda chain: chain.bounce(3, 4),
    "bounce, backward": lambda chain: chain.bounce(3, 4, direction="backward"),
    "classes": lambda chain: chain.classes(),
    "dobrushin": lambda chain: chain.dobrushin(),
    "entropy_rate": lambda chain: chain.entropy_rate(),
    "fundamental": lambda chain: chain.fundamental(torch.ones(3, N, 1, dtype=torch.float64).cumsum(1)),
    "half_life": lambda chain: chain.half_life(3),
    "hitting_times": lambda chain: chain.hitting_times([3, 4]),
    "kemeny": lambda chain: chain.kemeny(),
    "lambda2": lambda chain: chain.lambda2(),
    "lambda2 of a mixture": lambda chain: chain.aggregate().lambda2(),
    "lambda2, reversed": lambda chain: chain.reverse().lambda2(),
    "lambda2, teleported": lambda chain: chain.teleport(0.9).lambda2(),
    "mean_first_passage": lambda chain: chain.mean_first_passage([1, 2]),
    "metastable": lambda chain: chain.metastable(2),
    "mixing_time": lambda chain: chain.mixing_time(),
    "quasi_stationary": lambda chain: chain.quasi_stationary([3, 4]),
    "restrict, censored": lambda chain: chain.restrict(list(range(0, N, 3)), "censor").tokenrank(),
    "sinks": lambda chain: chain.sinks(),
    "spectrum": lambda chain: chain.spectrum(4).values,
    "spectrum, left": lambda chain: chain.spectrum(4, left=True).values,
    "stationary_distributions": lambda chain: chain.stationary_distributions(),
    "tokenrank": lambda chain: chain.tokenrank(),
    "tokenrank without teleport": lambda chain: chain.tokenrank(alpha=1.0),
}


def chains(causal: bool) -> tuple[Chain, Chain]:
    q, k = 1.2 * torch.randn(2, 3, N, 16)
    host = Chain.from_qk(q, k, is_causal=causal)
    return host, Chain.from_qk(q, k, is_causal=causal, path="device")


def numbers(answer: Any) -> dict[str, Tensor]:
    """Its tensors by name, certificates left out."""
    if isinstance(answer, Tensor):
        return {"": answer}
    found = {}
    for field in dataclasses.fields(answer):
        part = getattr(answer, field.name)
        if isinstance(part, Tensor) or (dataclasses.is_dataclass(part) and not isinstance(part, Certificate)):
            found |= {f"{field.name}.{name}": x for name, x in numbers(part).items()}
    return found


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_the_same_answer(question: Callable[[Chain], Any]) -> None:
    for causal in (False, True):
        host, device = chains(causal)
        expected, found = question(host), question(device)
        if hasattr(expected, "certificate"):
            assert torch.equal(expected.certificate.converged, found.certificate.converged)
            assert torch.equal(expected.certificate.uncertain, found.certificate.uncertain)
        there = numbers(found)
        for name, x in numbers(expected).items():
            if "bound" not in name and "residual" not in name:
                assert torch.allclose(x, there[name], rtol=2e-4, atol=2e-5, equal_nan=True), name
