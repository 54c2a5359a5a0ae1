"""Tokens of a prompt: what the pipelines' own text encoders are given, at the positions that the denoiser sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tokenrank as tr
from tokenrank.denoisers.blocks import blocks_of, record_of
from tokenrank.denoisers.prompt import PromptTokens, prompt_of, prompt_tokens
from tokenrank.errors import InputError, NotFoundError

pytest.importorskip("diffusers")

from tests.conformance.diffusers_models import FLUX
from tests.diffusion import families, pipelines, text_encoders

PROMPT = "a german shepherd and a school bus"
Given = list[tuple[list[int], list[int]]]

# which of the text encoders' tokens the denoiser is given: read in each pipeline
USED: dict[str, Callable[[Given], list[int]]] = {
    "FLUX.1": lambda given: given[1][0],
    "FLUX.2": lambda given: given[0][0],
    "FLUX.2 Klein": lambda given: given[0][0],
    "Stable Diffusion 3": lambda given: given[0][0] + given[2][0],
    "Stable Diffusion 1.5": lambda given: given[0][0],
    "SDXL": lambda given: given[0][0],
    "PixArt": lambda given: given[0][0],
    "Qwen-Image": lambda given: given[0][0][34:],
    "Z-Image": lambda given: [i for i, see in zip(*given[0], strict=True) if see],
}


def seen(pipe: Any, name: str, prompt: str, **more: Any) -> tuple[list[int], int]:
    """Numbers of the tokens that a run's denoiser attends to, and how many text tokens its attention has."""
    with families.heard(pipe) as given, tr.capture(pipe) as trace:
        families.run(pipe, name, prompt, **more)
    block = next(iter(blocks_of(trace, 0).values()))
    layout = (
        trace.layout_of(record_of(trace, 0, block.square))
        if block.cross is None
        else record_of(trace, 0, block.cross).sides[1]
    )
    assert layout is not None
    return USED[name](given), layout.spans["text"]


def strings(pipe: Any, name: str, ids: list[int]) -> list[str]:
    """Of one tokenizer, or of CLIP's 16 tokens and then T5's."""
    first = getattr(pipe.tokenizer, "tokenizer", pipe.tokenizer)
    if name == "FLUX.1":
        first = pipe.tokenizer_2
    if name != "Stable Diffusion 3":
        return list(first.convert_ids_to_tokens(ids))
    return first.convert_ids_to_tokens(ids[:16]) + pipe.tokenizer_3.convert_ids_to_tokens(ids[16:])


@pytest.mark.parametrize("name", families.BUILD)
@pytest.mark.parametrize("prompt", [PROMPT, "", "user", "A Caterpillar, a cat-sofa.", "猫 on a sofa, ca. 2024 À"])
def test_strings_are_what_the_text_encoder_is_given(name: str, prompt: str, tmp_path: Path) -> None:
    pipe = families.pipeline(name, tmp_path)
    ids, count = seen(pipe, name, prompt)
    found = prompt_of(pipe, prompt, count)
    assert list(found.tokens) == strings(pipe, name, ids)
    assert len(found.tokens) == count == sum(number for _, number in found.parts)
    assert not set(found.special) & set(found.padding)


@pytest.mark.parametrize("name", families.BUILD)
def test_only_the_prompt_is_words(name: str, tmp_path: Path) -> None:
    """Tokens that are neither special nor padding spell the prompt: once for each text encoder, nothing else."""
    pipe = families.pipeline(name, tmp_path)
    _, count = seen(pipe, name, PROMPT)
    found = prompt_of(pipe, PROMPT, count)
    words = [token for i, token in enumerate(found.tokens) if i not in {*found.special, *found.padding}]
    spelled = "".join(words).replace("</w>", "").replace("▁", "").replace("Ġ", "")
    assert spelled == PROMPT.replace(" ", "") * len(found.parts)
    places = found.word("german shepherd")
    kept = "".join(found.tokens[i] for i in places).replace("</w>", "").replace("▁", "").replace("Ġ", "")
    assert kept == "germanshepherd" * len(found.parts)
    assert 2 <= len(places) / len(found.parts) <= 8
    assert found.padding == () or name not in ("Qwen-Image", "Z-Image")


@pytest.mark.parametrize("name", ["FLUX.1", "Stable Diffusion 1.5", "PixArt", "Z-Image", "FLUX.2 Klein"])
def test_a_word_that_was_cut_off_is_told(name: str, tmp_path: Path) -> None:
    long = "a school bus and " * 130 + "a german shepherd"
    pipe = families.pipeline(name, tmp_path)
    ids, count = seen(pipe, name, long)
    found = prompt_of(pipe, long, count)
    assert list(found.tokens) == strings(pipe, name, ids)
    assert found.word("bus", 0)
    with pytest.raises(NotFoundError, match="'german shepherd' was cut off"):
        found.word("german shepherd")
    with pytest.raises(NotFoundError, match="no word 'zebra'"):
        found.word("zebra")


def test_a_word_counts_where_one_of_two_text_encoders_has_it_whole(tmp_path: Path) -> None:
    pipe = families.pipeline("Stable Diffusion 3", tmp_path)
    prompt = "a school bus and a cat and a german shepherd"  # 9 and 7 tokens, of which CLIP takes 14
    found = prompt_of(pipe, prompt, 40)
    assert found.cut[0] != ()
    assert found.cut[1] == ()
    assert min(found.word("shepherd")) >= 16
    assert len(found.word("bus")) == 2
    with pytest.raises(NotFoundError, match="cut off"):
        prompt_of(pipe, prompt, 16 + 11).word("shepherd")


def test_zeros_in_place_of_a_text_encoder_are_padding(tmp_path: Path) -> None:
    pipe = families.stable_diffusion_3(tmp_path, long=False)
    found = prompt_of(pipe, "a cat", 24)
    assert found.parts == (("tokenizer", 16), ("none", 8))
    assert found.padding[-8:] == tuple(range(16, 24))
    assert found.word("cat") == (2,)
    with pytest.raises(NotFoundError, match=r"no word 'dog' in the prompt \('a cat'\)"):
        found.word("dog")


def test_a_longer_text_of_the_batch_leaves_zeros_beside_it(tmp_path: Path) -> None:
    pipe = families.pipeline("Qwen-Image", tmp_path)
    alone = prompt_of(pipe, PROMPT)
    wide = prompt_of(pipe, PROMPT, len(alone.tokens) + 5)
    assert wide.padding == tuple(range(len(alone.tokens), len(alone.tokens) + 5))
    assert wide.word("school bus") == alone.word("school bus")
    short = alone.to_length(alone.word("school")[0])
    with pytest.raises(NotFoundError, match="cut off"):
        short.word("school bus")


def test_another_number_of_tokens_is_refused(tmp_path: Path) -> None:
    pipe = families.pipeline("Stable Diffusion 1.5", tmp_path)
    with pytest.raises(InputError, match=r"16 text tokens .*16 of tokenizer.*the denoiser saw 77"):
        prompt_of(pipe, "a cat", 77)
    pipe.tokenizer = pipe.tokenizer_2 = None
    with pytest.raises(InputError, match="has no tokenizer_2, expected the tokenizer"):
        prompt_of(pipe, "a cat")
    from tests.diffusion import pipelines

    with pytest.raises(NotFoundError, match=r"not known here; known are pipelines of FluxTransformer2DModel"):
        prompt_of(pipelines.dit(), "a cat")


@pytest.mark.parametrize("name", ["Qwen-Image", "Z-Image"])
def test_another_prompt_is_noticed_where_prompts_are_not_padded(name: str, tmp_path: Path) -> None:
    pipe = families.pipeline(name, tmp_path)
    count = len(prompt_of(pipe, PROMPT).tokens)
    with pytest.raises(InputError, match=f"but the denoiser saw {count}; give the prompt that it was run with"):
        prompt_of(pipe, PROMPT + " on a sofa", count)


def test_whole_words_are_one_token_each() -> None:
    """The tokenizer of the small FLUX that is trained here."""

    class Pipe:  # what ``prompt_of`` asks of a pipeline
        tokenizer_2 = text_encoders.whole_words()
        transformer = pipelines.made("FluxTransformer2DModel", **FLUX)

    found = prompt_of(Pipe(), PROMPT, 12)
    assert found.tokens[:7] == ("a", "german", "shepherd", "and", "a", "school", "bus")
    assert found.word("german shepherd") == (1, 2)
    assert found.word("a") == (0, 4)
    assert set(range(7, 12)) <= {*found.padding, *found.special}


def test_strings_by_tokenizers_alone(tmp_path: Path) -> None:
    words = text_encoders.clip(tmp_path, 8)
    assert prompt_tokens("a cat", words, 4) == ["<|startoftext|>", "a</w>", "cat</w>", "<|endoftext|>"]
    padded = prompt_tokens("a cat", [words, words], 14)
    assert padded[:4] == padded[8:12] == ["<|startoftext|>", "a</w>", "cat</w>", "<|endoftext|>"]
    assert len(padded) == 14
    with pytest.raises(InputError, match=r"12 tokens by 2 tokenizer\(s\), but the denoiser saw 7 of text"):
        prompt_tokens("a cat", [words, words], 7)


def test_a_prompt_without_parts_is_one() -> None:
    assert PromptTokens(("▁a", "▁cat", "</s>"), (2,)).word("cat") == (1,)
