"""Tokens of a prompt at the positions that a denoiser uses: which tokenizer's they are, and which are no words.

===========================  =================================================================
FLUX.1, Chroma               T5 (``tokenizer_2``; Chroma: ``tokenizer``), padded
Stable Diffusion 3, 3.5      CLIP, padded to 77, then T5 (``tokenizer_3``), padded
Stable Diffusion 1.5, XL     CLIP, padded to 77
PixArt                       T5, padded; the padding is masked
FLUX.2                       Mistral's chat template, padded; Klein: Qwen3's, padded
Qwen-Image                   a template for Qwen2.5-VL, without its first tokens, not padded
Z-Image                      Qwen3's chat template, not padded (the denoiser pads)
===========================  =================================================================

Read in ``encode_prompt`` of diffusers 0.42; templates are the pipelines' and the tokenizers' own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..errors import InputError, NotFoundError
from .pipeline import denoiser_of
from .tokenized import PromptTokens, chat, joined, plain, split, templated, tokenizer_of

__all__ = ["PromptTokens", "prompt_of", "prompt_tokens"]


def prompt_of(pipe: Any, prompt: str, count: int | None = None) -> PromptTokens:
    """The text tokens that a pipeline's denoiser is given for a prompt.

    Args:
        pipe: of diffusers, with its tokenizers; its text encoders are not run.
        prompt: that of the text encoder whose positions the denoiser uses (``prompt_2`` in FLUX.1, where it was given).
        count: text tokens that the denoiser saw; those of the pipeline's own ``max_sequence_length`` where None.

    Raises:
        InputError: another number of tokens than ``count``, or a pipeline without its tokenizer.
        NotFoundError: a family of pipelines that is not known here.
    """
    denoiser = denoiser_of(pipe)
    names = [kind.__name__ for kind in type(denoiser).__mro__]
    read = next((_FAMILIES[name] for name in names if name in _FAMILIES), None)
    if read is None:
        raise NotFoundError(
            f"which tokens of a prompt {type(pipe).__name__} with {type(denoiser).__name__} attends to is not known "
            f"here; known are pipelines of {', '.join(_FAMILIES)}; give the strings of its text tokens: text=[…]"
        )
    found = read(pipe, prompt, count)
    if count is not None and len(found.tokens) != count:
        told = ", then ".join(f"{number} of {name}" for name, number in found.parts)
        raise InputError(
            f"the prompt has {len(found.tokens)} text tokens in {type(pipe).__name__} ({told}), but the denoiser saw "
            f"{count}; give the prompt that it was run with, or the strings themselves: text=[…]"
        )
    return found


def is_padded(pipe: Any) -> bool:
    """Whether the prompt is filled up to ``max_sequence_length``, and the denoiser is given what fills it."""
    denoiser = denoiser_of(pipe)
    return not any(kind.__name__ in _AS_LONG_AS_IT_IS for kind in type(denoiser).__mro__)


def prompt_tokens(prompt: str, tokenizers: Any, count: int) -> list[str]:
    """The strings of the ``count`` text tokens that pipelines of diffusers make of a prompt, by tokenizers alone.

    Each tokenizer's text follows that of the one before, as in Stable Diffusion 3 (CLIP, then T5); each but the last is
    padded to its own ``model_max_length``, the last to what is left, as pipelines do, or not where it fits as it is.

    Args:
        prompt: as the pipeline was given it.
        tokenizers: of the pipeline: one, or those whose embeddings follow each other; of transformers.
        count: text tokens that the denoiser saw.

    Raises:
        InputError: the tokenizers make another number of tokens of it.
    """
    given = list(tokenizers) if isinstance(tokenizers, list | tuple) else [tokenizers]
    strings: list[str] = []
    for place, tokenizer in enumerate(given):
        last = place == len(given) - 1
        length = count - len(strings) if last else int(tokenizer.model_max_length)
        plain = list(tokenizer(prompt).input_ids)
        if len(plain) != length and length > 0:
            plain = list(tokenizer(prompt, padding="max_length", max_length=length, truncation=True).input_ids)
        strings += [str(token) for token in tokenizer.convert_ids_to_tokens(plain)]
    if len(strings) != count:
        raise InputError(
            f"the prompt has {len(strings)} tokens by {len(given)} tokenizer(s), but the denoiser saw {count} of text; "
            "give the tokenizer whose embeddings it attends to, several where they follow each other "
            "(tokenizer=[pipe.tokenizer, pipe.tokenizer_3]), or the strings themselves: text=[…]"
        )
    return strings


def _flux(pipe: Any, prompt: str, count: int | None) -> PromptTokens:
    return plain(pipe, "tokenizer_2", prompt, count or _longest(pipe))


def _one_tokenizer(pipe: Any, prompt: str, count: int | None) -> PromptTokens:
    return plain(pipe, "tokenizer", prompt, count or _longest(pipe))


def _clip(pipe: Any, prompt: str, count: int | None) -> PromptTokens:
    name = "tokenizer" if getattr(pipe, "tokenizer", None) is not None else "tokenizer_2"  # XL's refiner has the latter
    return plain(pipe, name, prompt, int(tokenizer_of(pipe, name).model_max_length))


def _stable_diffusion_3(pipe: Any, prompt: str, count: int | None) -> PromptTokens:
    clip = plain(pipe, "tokenizer", prompt, int(pipe.tokenizer_max_length))
    length = _longest(pipe) if count is None else count - len(clip.tokens)
    if length < 1:
        return clip  # ``prompt_of`` says that this is another number
    if getattr(pipe, "tokenizer_3", None) is None or getattr(pipe, "text_encoder_3", None) is None:
        return joined(clip, PromptTokens(("",) * length, (), tuple(range(length)), ((),), (("none", length),)))
    return joined(clip, plain(pipe, "tokenizer_3", prompt, length))


def _pixart(pipe: Any, prompt: str, count: int | None) -> PromptTokens:
    return plain(pipe, "tokenizer", prompt.lower().strip(), count or _longest(pipe))  # as _text_preprocessing does


def _flux_2(pipe: Any, prompt: str, count: int | None) -> PromptTokens:
    tokenizer = tokenizer_of(pipe, "tokenizer")
    if not hasattr(pipe, "system_message"):  # Klein
        return templated(tokenizer, chat(tokenizer, prompt, enable_thinking=False), count or _longest(pipe))
    written = import_module("diffusers.pipelines.flux2.pipeline_flux2").format_input

    def template(text: str) -> str:
        asked = {"add_generation_prompt": False, "tokenize": False}
        (found,) = tokenizer.apply_chat_template(written([text], system_message=pipe.system_message), **asked)
        return str(found)

    # the processor's own call, which adds no second begin token to what its template has begun
    begins = template(prompt).startswith(str(getattr(tokenizer, "tokenizer", tokenizer).bos_token))
    return templated(tokenizer, split(template, prompt.replace("[IMG]", "")), count or _longest(pipe), begun=begins)


def _qwen_image(pipe: Any, prompt: str, count: int | None) -> PromptTokens:
    template, dropped = pipe.prompt_template_encode, int(pipe.prompt_template_encode_start_idx)
    found = templated(
        tokenizer_of(pipe, "tokenizer"), split(template.format, prompt), pipe.tokenizer_max_length + dropped,
        padded=False, dropped=dropped,
    )  # fmt: skip
    alone = min(len(found.tokens), max(count or 0, _longest(pipe)))
    return found.to_length(max(count or 0, alone))  # beside a longer prompt there are zeros; fewer are another prompt's


def _z_image(pipe: Any, prompt: str, count: int | None) -> PromptTokens:
    tokenizer = tokenizer_of(pipe, "tokenizer")
    return templated(
        tokenizer, chat(tokenizer, prompt, enable_thinking=True), max(count or 0, _longest(pipe)), padded=False
    )


def _longest(pipe: Any) -> int:
    """The pipeline's own ``max_sequence_length``."""
    return int(inspect.signature(type(pipe).__call__).parameters["max_sequence_length"].default)


_FAMILIES: dict[str, Callable[[Any, str, int | None], PromptTokens]] = {
    "FluxTransformer2DModel": _flux,
    "ChromaTransformer2DModel": _one_tokenizer,
    "SD3Transformer2DModel": _stable_diffusion_3,
    "UNet2DConditionModel": _clip,
    "PixArtTransformer2DModel": _pixart,
    "Flux2Transformer2DModel": _flux_2,
    "QwenImageTransformer2DModel": _qwen_image,
    "ZImageTransformer2DModel": _z_image,
}
_AS_LONG_AS_IT_IS = ("QwenImageTransformer2DModel", "ZImageTransformer2DModel")
