"""Strings in layouts."""

from __future__ import annotations

import pytest

from tokenrank.denoisers.texts import text_tokens, with_text
from tokenrank.errors import InputError
from tokenrank.layout import TokenLayout


def test_what_is_no_word_is_special() -> None:
    layout = TokenLayout({"image": 4, "image_padding": 2, "text": 4}, {"image": (2, 2)})
    named = with_text(layout, ["a", "cat", "<0xE7>", "</s>"])
    assert named.special == (4, 5, 9)  # a byte is a part of a word
    assert named.tokens == ("", "", "", "", "", "", "a", "cat", "<0xE7>", "</s>")
    assert with_text(layout, None, [7]).special == (4, 5, 7)
    with pytest.raises(InputError, match="text has 1 strings, but the denoiser saw 4 text tokens"):
        with_text(layout, ["a"])


def test_several_spans_of_text_are_one_text() -> None:
    assert text_tokens(TokenLayout({"text": 2, "image": 1, "text_2": 1, "text_padding": 1})) == [0, 1, 3]
