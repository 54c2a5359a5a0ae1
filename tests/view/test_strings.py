from __future__ import annotations

import pytest

from tokenrank.view.style import drawable, readable_tokens, shortened


@pytest.mark.parametrize(
    ("tokens", "readable"),
    [
        (
            ["[CLS]", "un", "##seen", "cat", "##"],
            [("[CLS]", True), ("un", True), ("seen", False), ("cat", True), ("##", False)],
        ),
        (
            ["The", "Ġcat", "s", "ĠcafÃ©", "Ċ"],
            [("The", False), ("cat", True), ("s", False), ("café", True), ("⏎", False)],
        ),
        (["<s>", "▁The", "▁cat", "s", "▁"], [("<s>", True), ("The", True), ("cat", True), ("s", False), (" ", True)]),
        (
            ["<|startoftext|>", "a</w>", "ca", "ts</w>"],
            [("<|startoftext|>", True), ("a", True), ("ca", True), ("ts", False)],
        ),
        (["", "a"], [("∅", True), ("a", True)]),
    ],
)
def test_readable_tokens(tokens: list[str], readable: list[tuple[str, bool]]):
    assert readable_tokens(tokens) == readable


def test_half_a_character_of_a_byte_level_tokenizer_becomes_an_escape():
    whole = readable_tokens(["Ġ", "æ", "¼", "¢"])
    assert [text for text, _ in whole] == [" ", "\\xe6", "\\xbc", "\\xa2"]


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("plain", "plain"),
        ("a\nb\tc", "a⏎b⇥c"),
        ("\x1b[0m", "\\x1b[0m"),
        ("\udce9", "\\udce9"),
        ("\U0010fffd", "\\U0010fffd"),
        ("λ₂ ≈ é", "λ₂ ≈ é"),
    ],
)
def test_drawable(text: str, drawn: str):
    assert drawable(text) == drawn


def test_shortened():
    assert shortened("short", 5) == "short"
    assert shortened("0123456789", 7) == "012…789"
    assert len(shortened("x" * 1000, 48)) == 48
