"""Strings for the text tokens in the layout of a denoiser, which sees embeddings and no words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import InputError
from ..layout import TokenLayout
from .words import is_mark

_NOT_WORDS = ("cls", "registers", "sink", "time")


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
        marked.update(place for place in places if is_mark(tokens[place]))
    return replace(layout, tokens=tokens, special=tuple(sorted(marked)))


def text_tokens(layout: TokenLayout) -> list[int]:
    """Indices of the text tokens, those of several spans "text", "text_2", … in order."""
    names = [name for name in layout.spans if name == "text" or name.removeprefix("text_").isdigit()]
    return [index for name in names for index in layout.indices(name)]
