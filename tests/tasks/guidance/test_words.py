"""``mask="word:…"``: what attends to a word, in joint attention and beside cross-attention, of every prompt its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")

import tokenrank as tr
from tokenrank.errors import NotFoundError
from tokenrank.tasks import guide

from .classic import denoiser_of, pipe_of

LAYER = "mid_block.attentions.0.transformer_blocks.0"


@pytest.fixture(autouse=True)
def _peaky() -> Iterator[None]:
    """Words that are told apart: queries to the text, fifty times as large."""
    weights = [
        denoiser_of(pipe_of("SD1.5")).get_submodule(f"{LAYER}.attn2.to_q").weight,
        denoiser_of(pipe_of("SD3")).get_submodule("transformer_blocks.1.attn.add_k_proj").weight,
    ]
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.mul_(50)
        yield
        for weight, known in zip(weights, before, strict=True):
            weight.copy_(known)


def run(name: str, prompt: str | list[str], seeds: tuple[int, ...] = (5,), **more: Any) -> None:
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    length = {"max_sequence_length": 8} if name == "SD3" else {}
    pipe_of(name)(
        prompt, negative_prompt="blurry" if isinstance(prompt, str) else ["blurry"] * len(prompt), width=24, height=16,
        num_inference_steps=1, guidance_scale=4.0, output_type="latent", **length, **more,
        generator=draws[0] if len(draws) == 1 else draws,
    )  # fmt: skip


def expected(name: str, prompt: str, tokens: list[int]) -> Tensor:
    """The mask from a trace of the same run: the word's column of the prompt's branch, and one bounce."""
    with tr.capture(pipe_of(name), steps=0) as trace:
        run(name, prompt)
    part = trace.select(branch="conditional")
    if name == "SD3":
        chain = part["transformer_blocks.1.attn"]
        column = chain.to_dense()[0].mean(0)[:24, [24 + token for token in tokens]].sum(-1)
        own = chain.restrict("image").to_dense()[0].mean(0)
    else:
        column = part.cross_of(part.select(layers=f"{LAYER}.attn2").records[0]).weights[0].mean(0)[:, tokens].sum(-1)
        own = part[f"{LAYER}.attn1"].to_dense()[0].mean(0)
    return (24 * (column / column.sum()).double() @ own.double() > 1).reshape(1, 1, 4, 6)


@pytest.mark.parametrize(
    ("word", "tokens"), [("cat", [2]), ("a cat", [1, 2]), ("dog", [4])], ids=["one token", "two tokens", "the last"]
)
@pytest.mark.parametrize("name", ["SD1.5", "SD3"])
def test_the_mask_is_where_the_picture_attends_to_the_word(name: str, word: str, tokens: list[int]) -> None:
    prompt = "a cat blurry dog"  # in SD3 tokens of CLIP, and zeros where those of T5 would be
    with guide(pipe_of(name), mask=f"word:{word}") as guidance:
        run(name, prompt)
    (mask,) = guidance.masks
    assert torch.equal(mask, expected(name, prompt, tokens))
    assert 0 < guidance.shares[0] < 1


def test_every_prompt_of_a_batch_has_its_own_tokens() -> None:
    prompts = ["a cat", "blurry dog cat"]
    with guide(pipe_of("SD1.5"), mask="word:cat") as guidance:
        run("SD1.5", prompts, (1, 2))
        both = guidance.masks[0]
        run("SD1.5", prompts[0], (1,))
        first = guidance.masks[0]
        run("SD1.5", prompts[1], (2,))
        second = guidance.masks[0]
        run("SD1.5", prompts, (1, 7, 2, 8), num_images_per_prompt=2)
        four = guidance.masks[0]
    assert torch.equal(both, torch.cat([first, second]))
    assert not torch.equal(first, second)
    assert torch.equal(four[::2], both)


def test_another_word_has_another_mask() -> None:
    found = []
    for word in ("cat", "dog"):
        with guide(pipe_of("SD1.5"), mask=f"word:{word}") as guidance:
            run("SD1.5", "a cat dog")
        found.append(guidance.masks[0])
    assert not torch.equal(*found)


def test_a_word_that_one_prompt_lacks_is_answered_with_what_guidance_takes() -> None:
    with guide(pipe_of("SD1.5"), mask="word:cat"), pytest.raises(NotFoundError, match="a word of every prompt") as told:
        run("SD1.5", "a dog")
    assert "with_words" not in str(told.value)
