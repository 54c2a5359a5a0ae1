"""Answers over tokens: with the layout of their chain, shown as maps."""

from __future__ import annotations

import pytest
import torch

import tokenrank as tr
from tokenrank import AttentionChain, TokenLayout
from tokenrank.chain.answers import Classes, Spectrum
from tokenrank.chain.core import held_bytes
from tokenrank.errors import NotFoundError

VIT = TokenLayout.image(2, 3, cls_tokens=1, registers=1)
N = 8


@pytest.fixture
def chain() -> AttentionChain:
    # reversible, so that eigenvalues are real and no pair is kept whole
    weights = torch.randn(2, 3, N, N, dtype=torch.float64).exp()
    weights = weights + weights.mT
    return AttentionChain(weights / weights.sum(-1, keepdim=True), VIT)


def test_answers_become_maps(chain: AttentionChain) -> None:
    found = chain.absorption([0, 5])
    maps = found.map()
    assert maps.values.shape == (2, 3, 2, N)
    assert torch.equal(maps.values, found.values.mT)
    assert maps.layout is VIT
    assert maps.grid().shape == (2, 3, 2, 2, 3)
    assert maps.certificate is not None
    assert maps[1, 2, 0].certificate is not None
    steps = found.map("steps")
    assert torch.equal(steps.values, found.steps)
    assert steps.certificate is not None
    assert torch.equal(steps.certificate.residual, found.steps_certificate.residual)
    assert found.map("reachable").values.dtype == torch.float64


@pytest.mark.parametrize(
    ("ask", "shape"),
    [
        (lambda c: c.hitting_times(0), (2, 3, N)),
        (lambda c: c.mean_first_passage([0, 1]), (2, 3, 2, N)),
        (lambda c: c.fundamental(torch.ones(N, 2)), (2, 3, 2, N)),
        (lambda c: c.classes(), (2, 3, N)),
        (lambda c: c.stationary_distributions(), (2, 3, 1, N)),
        (lambda c: c.sinks(), (2, 3, N)),
        (lambda c: c.spectrum(2), (2, 3, 2, N)),
        (lambda c: c.entropy_rate(), (2, 3, N)),
        (lambda c: c.metastable(2), (2, 3, 2, N)),
        (lambda c: c.quasi_stationary(0), (2, 3, N)),
    ],
)  # fmt: skip
def test_all_answers_over_tokens(chain: AttentionChain, ask, shape: tuple[int, ...]) -> None:
    found = ask(chain)
    assert found.layout is VIT
    maps = found.map()
    assert maps.values.shape == shape
    assert maps.mask().shape == (*shape[:-1], 2, 3)
    assert found[0, 1].map().values.shape == shape[2:]
    page = found._repr_html_()
    drawn = 0 if isinstance(found, Classes | Spectrum) else maps.values[..., 0].numel()  # one class: all alike
    assert page.count("data:image/jpeg") == drawn
    assert "data:image/jpeg" not in ask(AttentionChain(chain.to_dense()))._repr_html_()


def test_a_spectrum_shows_its_eigenvalues_and_slow_modes(chain: AttentionChain) -> None:
    many, one = chain.spectrum(3)._repr_html_(), chain[0, 1].spectrum(3)._repr_html_()
    assert many.count("data:image/svg") == one.count("data:image/svg") == 1
    assert one.count("data:image/jpeg") == chain[0, 1].spectrum(3).values.numel() - 1
    assert "timescale" in one
    assert many.count("<tr") == 1 + 6
    second = f"{float(chain[0, 1].spectrum(3).values[1].abs()):.4g}"
    assert second in many
    assert second in one


def test_what_has_no_numbers_over_tokens(chain: AttentionChain) -> None:
    with pytest.raises(NotFoundError, match="no numbers over tokens 'step' in Absorption; nearest: 'steps'"):
        chain.absorption([0]).map("step")
    with pytest.raises(NotFoundError, match="no numbers over tokens 'left' in Spectrum"):
        chain.spectrum(2).map("left")  # which was not asked for
    assert chain.spectrum(2, left=True).map("left").values.shape == (2, 3, 2, N)


# ---- chains in a notebook


def test_a_chain_shows_what_it_is(chain: AttentionChain) -> None:
    page = chain._repr_html_()
    for words in ("2 × 3 chains of 8 tokens", "Dense", "float64 on cpu", "cls 1, registers 1, image 2 × 3", "3.0 KiB"):
        assert words in page, words
    assert "not known" in AttentionChain(torch.eye(2))._repr_html_()
    hostile = TokenLayout({"<script>": 2})
    assert "<script>" not in AttentionChain(torch.eye(2), hostile)._repr_html_()


def test_bytes_held_are_counted_once_and_without_computing() -> None:
    q, k = torch.randn(2, 4, 100, 16)
    chain = AttentionChain.from_qk(q, k)
    assert held_bytes(chain.operator) == q.untyped_storage().nbytes()  # of both, which are one storage
    assert held_bytes(chain.teleport().operator) < held_bytes(chain.operator) + 100 * 8 * 4 + 1
    assert held_bytes(AttentionChain(torch.eye(5).expand(7, 5, 5)).operator) <= 7 * 5 * 5 * 4
    joint = tr.bipartite(AttentionChain(torch.eye(3)), torch.full((3, 2), 0.5))
    assert held_bytes(joint.operator) >= (9 + 6) * 4
