"""Masks against their definitions, written out in loops; blur against PyTorch's own padding and convolution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

import tokenrank as tr
from tokenrank.denoisers.schedule import Level
from tokenrank.errors import InputError
from tokenrank.recording import Caller
from tokenrank.recording.fused import FusedCall
from tokenrank.tasks.guidance import layer_attention
from tokenrank.tasks.guidance.blur import blur, degraded, smoothing
from tokenrank.tasks.guidance.heads import chosen_heads
from tokenrank.tasks.guidance.layer_attention import Look, mean_over, towards
from tokenrank.tasks.guidance.layers import Place
from tokenrank.tasks.guidance.masks import mask_of, scores

COUNT = 12


def attention(batch: int = 3, count: int = COUNT) -> torch.Tensor:
    return torch.softmax(2 * torch.randn(batch, count, count, generator=torch.Generator().manual_seed(0)), -1)


@pytest.mark.parametrize("name", ["colsum", "tokenrank", "bounce", "word:x"])
def test_scores_are_what_they_say_and_have_mean_one(name: str) -> None:
    weights, word = attention(), torch.rand(3, COUNT, generator=torch.Generator().manual_seed(1))
    found = scores(weights, name, word)
    assert torch.allclose(found.mean(-1), torch.ones(3), atol=1e-5)
    for sample in range(3):
        a = weights[sample].double().numpy()
        start = np.full(COUNT, 1 / COUNT)
        if name == "tokenrank":
            expected = start.copy()
            for _ in range(3000):
                expected = 0.99 * expected @ a + 0.01 * start
        elif name == "word:x":
            v = word[sample].double().numpy()
            expected = v / v.sum() @ a
        else:
            expected = start @ np.linalg.matrix_power(a, 2 if name == "bounce" else 1)
        assert np.allclose(found[sample].numpy(), COUNT * expected, atol=1e-4)
        assert np.array_equal(mask_of(weights, name, word=word)[sample].numpy(), COUNT * expected > 1)


@pytest.mark.parametrize("model", ["tokenrank", "colsum", "bounce"])
def test_a_random_mask_has_the_share_of_its_model_and_nothing_else(model: str) -> None:
    weights = attention(count=40)
    name = "random" if model == "tokenrank" else f"random:{model}"
    draw = torch.Generator().manual_seed(7)
    first, second = mask_of(weights, name, draw), mask_of(weights, name, draw)
    known = mask_of(weights, model)
    assert torch.equal(first.sum(-1), known.sum(-1))
    assert not torch.equal(first, second)
    assert torch.equal(first, mask_of(weights, name, torch.Generator().manual_seed(7)))
    many = torch.stack([mask_of(weights, name, draw) for _ in range(2000)]).float().mean(0)
    share = known.float().mean(-1, keepdim=True)
    assert float((many - share).abs().max()) < 5 * math.sqrt(0.25 / 2000)


def test_all_is_everything() -> None:
    assert mask_of(attention(), "all").all()


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_the_mean_over_heads_is_that_of_the_chain_on_the_picture(
    monkeypatch: pytest.MonkeyPatch, large: bool, mask: bool
) -> None:

    if large:
        monkeypatch.setattr(layer_attention, "_AT_ONCE", 1)
    draw = torch.Generator().manual_seed(3)
    q, k = torch.randn(4, 2, 11, 8, generator=draw), torch.randn(4, 2, 11, 8, generator=draw)
    hidden = torch.rand(4, 1, 11, 11, generator=draw) > 0.2
    hidden |= torch.eye(11, dtype=torch.bool)
    look, place = Look(), Place(5, (2, 3))
    look.fused(Caller("", "sdpa"), FusedCall(q, k, k, 0.3, hidden if mask else None))
    found = mean_over(look, place, slice(2, 4), 4)
    logits = 0.3 * q @ k.mT
    logits = logits.masked_fill(~hidden, -math.inf) if mask else logits
    expected = logits[2:, :, 5:, 5:].softmax(-1).mean(1)
    assert torch.allclose(found, expected, atol=1e-6)
    # rows of the mean over heads, each head renormalised: what restricting a chain to the picture does
    chain = tr.AttentionChain(logits.softmax(-1)[2:], layout=tr.TokenLayout({"text": 5, "image": 6}, {"image": (2, 3)}))
    assert torch.allclose(found, chain.restrict("image").aggregate("uniform").to_dense().float(), atol=1e-5)
    words = towards(look, place, slice(2, 4), 4, [1, 3])
    assert torch.allclose(words, logits[2:].softmax(-1)[..., 5:, [1, 3]].sum(-1).mean(1), atol=1e-6)


def test_a_share_of_heads_is_those_of_largest_lambda2() -> None:
    halves = torch.block_diag(torch.ones(4, 4), torch.ones(4, 4)) + 0.01  # two groups that keep to themselves
    even = torch.ones(8, 8)
    written = torch.stack([even, halves, even + torch.eye(8), halves.roll(1, 0).roll(1, 1)])[None]
    look, place = Look(), Place(0, (2, 4))
    look.used(Caller("", "eager"), written / written.sum(-1, keepdim=True))
    assert chosen_heads(0.5, look, place, slice(0, 1), 1) == (1, 3)
    assert chosen_heads(0.01, look, place, slice(0, 1), 1) in ((1,), (3,))
    assert chosen_heads([-1, 0], look, place, slice(0, 1), 1) == (0, 3)
    assert chosen_heads(None, look, place, slice(0, 1), 1) is None


@pytest.mark.parametrize("size", [(5, 7), (8, 65), (16, 16), (1, 3), (2, 2), (1, 1)])
@pytest.mark.parametrize(("kernel", "sigma"), [(9, 1.0), (3, 0.5), (1, 1.0), (31, 3.0)])
def test_blur_is_a_convolution_with_reflected_edges(size: tuple[int, int], kernel: int, sigma: float) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    line = torch.exp(-0.5 * ((torch.arange(kernel) - kernel // 2) / sigma) ** 2)
    line = line / line.sum()
    padded = torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), *[(kernel // 2,) * 2] * 2], mode="reflect"))
    plane = torch.outer(line, line).expand(3, 1, -1, -1)
    expected = functional.conv2d(padded, plane, groups=3)
    assert torch.allclose(blur(x, kernel, sigma), expected, atol=1e-5)


def test_an_infinite_blur_is_the_mean() -> None:
    x = torch.randn(1, 2, 3, 5)
    assert torch.allclose(blur(x, 9, math.inf), x.mean((-2, -1), keepdim=True).expand_as(x), atol=1e-6)
    assert torch.allclose(smoothing(7, 9, 1.0).sum(-1), torch.ones(7))


@pytest.mark.parametrize(("kernel", "sigma"), [(0, 1.0), (4, 1.0), (9, 0.0), (9, math.nan), (True, 1.0)])
def test_no_kernel_and_no_sigma(kernel: int, sigma: float) -> None:
    with pytest.raises(InputError):
        blur(torch.zeros(1, 1, 4, 4), kernel, sigma)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow"])
def test_what_is_not_masked_is_left_and_the_noise_is_kept(kind: str) -> None:
    draw = torch.Generator().manual_seed(0)
    x, output = (torch.randn(2, 4, 8, 6, generator=draw) for _ in range(2))
    level = Level(0.6, 0.4) if kind == "flow" else Level(0.6, 0.8)
    mask = torch.zeros(2, 1, 4, 3, dtype=torch.bool)
    assert torch.allclose(degraded(x, output, mask, level, kind), x, atol=1e-5)  # type: ignore[arg-type]
    mask[1, 0, 0, 0] = True
    changed = (degraded(x, output, mask, level, kind) - x).abs().amax(1) > 1e-4  # type: ignore[arg-type]
    where = torch.zeros(2, 8, 6, dtype=torch.bool)
    where[1, :2, :2] = True
    assert torch.equal(changed, where)
