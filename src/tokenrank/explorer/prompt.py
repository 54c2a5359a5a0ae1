"""Words of a prompt for the text tokens of a denoiser, which sees embeddings and no words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import InputError
from ..layout import TokenLayout

_MARKS = ("<>", "[]")  # what special tokens of all tokenizers stand between
_NOT_WORDS = ("cls", "registers", "sink", "time")


def prompt_tokens(prompt: str, tokenizers: Any, count: int) -> list[str]:
    """The strings of the ``count`` text tokens that pipelines of diffusers make of a prompt.

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


def with_text(layout: TokenLayout, text: Sequence[str] | None, special: Sequence[int] = ()) -> TokenLayout:
    """``layout`` with strings for its text tokens, and with what is no word marked as special.

    Special are padding, CLS, registers and sinks by the names of their spans, strings such as ``<pad>`` and ``[SEP]``,
    and the tokens ``special``.

    Raises:
        InputError: another number of strings than of text tokens.
    """
    places = text_tokens(layout)
    marked = {*layout.special, *special}
    for name in layout.spans:
        if name in _NOT_WORDS or name.endswith("padding"):
            marked.update(layout.indices(name))
    tokens = layout.tokens
    if text is not None:
        if len(text) != len(places):
            raise InputError(f"text has {len(text)} strings, but the denoiser saw {len(places)} text tokens ({layout})")
        strings = [""] * layout.num_tokens if tokens is None else list(tokens)
        for place, string in zip(places, text, strict=True):
            strings[place] = str(string)
        tokens = tuple(strings)
    if tokens is not None:
        marked.update(place for place in places if _is_mark(tokens[place]))
    return replace(layout, tokens=tokens, special=tuple(sorted(marked)))


def text_tokens(layout: TokenLayout) -> list[int]:
    """Indices of the text tokens, those of several spans "text", "text_2", … in order."""
    names = [name for name in layout.spans if name == "text" or name.removeprefix("text_").isdigit()]
    return [index for name in names for index in layout.indices(name)]


def _is_mark(token: str) -> bool:
    return len(token) > 2 and token[0] + token[-1] in _MARKS
