"""Tokens for the eye: marks of tokenizers, bytes, characters without ink, and the order in which a line is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tokenrank.token_text import (
    has_right_to_left,
    is_right_to_left,
    joined,
    letters,
    mirrored,
    readable,
    reading_order,
    shortened,
    visible,
)


@pytest.mark.parametrize(
    ("tokens", "seen"),
    [
        (
            ["[CLS]", "un", "##seen", "cat", "##"],
            [("[CLS]", True), ("un", True), ("seen", False), ("cat", True), ("##", False)],
        ),
        (
            ["The", "Ġcat", "s", "ĠcafÃ©", "Ċ"],
            [("The", False), ("cat", True), ("s", False), ("café", True), ("⏎", False)],
        ),
        (["<s>", "▁The", "▁cat", "s", "▁"], [("<s>", True), ("The", True), ("cat", True), ("s", False), ("␣", True)]),
        (
            ["<|startoftext|>", "a</w>", "ca", "ts</w>"],
            [("<|startoftext|>", True), ("a", True), ("ca", True), ("ts", False)],
        ),
        (["", "a"], [("∅", True), ("a", True)]),
        (["ĠĠĠĠĠ", "ĊĊĊĊĊĊ", "Ġ", "ĉ"], [("␣×4", True), ("⏎×6", False), ("␣", True), ("⇥", False)]),
        (["caf\u00e9"], [("caf\u00e9", True)]),  # é alone is no UTF-8: not of a byte-level tokenizer
    ],
)
def test_marks_of_tokenizers(tokens: list[str], seen: list[tuple[str, bool]]):
    assert readable(tokens) == seen


@pytest.mark.parametrize(
    ("tokens", "seen"),
    [
        (["Ġ", "æ", "¼", "¢"], ["␣", "漢 1/3", "漢 2/3", "漢 3/3"]),
        (["æ", "¼", "¢"], ["漢 1/3", "漢 2/3", "漢 3/3"]),
        (["ĠaðŁĺ", "Ģb"], ["a😀 1/2", "😀 2/2b"]),
        (["Ġ", "ðŁ", "<|endoftext|>"], ["␣", "⟨F0⟩⟨9F⟩", "<|endoftext|>"]),  # never ends
        (["▁a", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>"], ["a", "😀 1/4", "😀 2/4", "😀 3/4", "😀 4/4"]),
        (["▁a", "<0x0A>"], ["a", "⏎"]),
    ],
)
def test_parts_of_a_character_are_counted(tokens: list[str], seen: list[str]):
    assert [text for text, _ in readable(tokens)] == seen


def test_bytes_of_sentencepiece_continue_their_word():
    assert [spaced for _, spaced in readable(["▁a", "<0xC3>", "<0xA9>", "▁b"])] == [True, False, False, True]


@pytest.mark.parametrize("kind", ["bytes", "metaspace"])
@pytest.mark.parametrize(
    "text",
    ["the cat sat on the mat", "naïve café 😀!", "שלום עולם", "מה 12.5\n\n\tx", "猫が座った", "👩\u200d👩\u200d👧"],
)
def test_real_tokenizers(kind: str, text: str):
    """Byte-level BPE, and BPE over ▁ with single bytes for what it lacks, as the two families of models use them."""
    letters = ["the cat sat on the mat", "cats and dogs, 12 of them"]
    if kind == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", *(f"<0x{b:02X}>" for b in range(256))])
    tokenizer.train_from_iterator(letters, trainer)
    tokens = tokenizer.encode(text).tokens
    shown = readable(tokens)
    whole = "".join((" " if spaced else "") + seen for seen, spaced in shown)
    assert all(seen for seen, _ in shown)
    assert whole.isprintable() or "\u200d" in whole
    for letter in set(text) - set(" \n\t\u200d"):
        assert letter in whole, (tokens, shown)
    assert "\\x" not in whole
    assert "<0x" not in whole


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("a\nb\tc", "a⏎b⇥c"),
        (" x  ", "␣x␣␣"),
        ("a  b", "a  b"),
        ("     ", "␣×5"),
        ("\x1b[0m", "⟨ESC⟩[0m"),
        ("\x00\x7f", "⟨NUL⟩⟨U+007F⟩"),
        ("\udce9", "⟨U+DCE9⟩"),
        ("\U0010fffd\ue000", "⟨U+10FFFD⟩⟨U+E000⟩"),
        ("\u202ertl", "⟨U+202E⟩rtl"),
        ("λ₂ ≈ é", "λ₂ ≈ é"),
        ("👩\u200d👧", "👩\u200d👧"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("\u200d", "⟨U+200D⟩"),
        ("", ""),
    ],
)
def test_visible(text: str, seen: str):
    assert visible(text) == seen


@given(st.lists(st.text(max_size=6), max_size=12))
def test_any_tokens_can_be_read(tokens: list[str]):
    shown = readable(tokens)
    assert len(shown) == len(tokens)
    for text, _ in shown:
        assert text
        assert not set(text) & set("\n\r\t\x00\u202e")
        text.encode("utf-8")


def test_shortened():
    assert shortened("short", 5) == "short"
    assert shortened("0123456789", 7) == "012…789"
    assert len(shortened("x" * 1000, 48)) == 48


def order(texts: list[str], right_to_left: bool) -> str:
    return " ".join(texts[i] for i, _ in reading_order(texts, right_to_left))


@pytest.mark.parametrize(
    ("texts", "right_to_left", "from_the_left"),
    [
        ("a b c", False, "a b c"),
        ("א ב ג", True, "ג ב א"),
        ("א hello world ב", True, "ב hello world א"),
        ("the word א ב is 12", False, "the word ב א is 12"),
        ("א 12 . 5 ב", True, "ב 12 . 5 א"),
        ("a א 12 ב b", False, "a ב 12 א b"),
        ("a 12 א b", False, "a 12 א b"),
        ("א , ב", False, "ב , א"),
        ("a , א", False, "a , א"),
        ("א ( b c ) .", True, ". ) b c ( א"),
        (". !", True, "! ."),
    ],
)
def test_reading_order(texts: str, right_to_left: bool, from_the_left: str):
    assert order(texts.split(), right_to_left) == from_the_left


@given(st.lists(st.sampled_from(["a", "א", "م", "12", ".", "(", "猫"]), max_size=15), st.booleans())
def test_every_token_has_one_place(texts: list[str], right_to_left: bool):
    assert sorted(i for i, _ in reading_order(texts, right_to_left)) == list(range(len(texts)))


def test_brackets_are_turned_where_a_line_runs_from_the_right():
    turned = [right for _, right in reading_order(["א", "(", "ב", ")"], True)]
    assert turned == [True] * 4
    assert mirrored("(«a»)") == ")»a«("


def test_direction_of_a_paragraph():
    assert is_right_to_left(["[CLS]", "12", "(", "שלום", "hello"])
    assert not is_right_to_left(["hello", "שלום"])
    assert not is_right_to_left(["12", "…", ""])
    assert has_right_to_left("a مر")
    assert not has_right_to_left("a 猫")


def test_letters_keep_their_forms_within_a_word():
    join = "\u200d"
    assert joined(["مرح", "با", "عالم", "a", "b"], [True, False, True, True, False]) == [
        "مرح" + join, join + "با", "عالم", "a", "b",
    ]  # fmt: skip


def test_letters_know_their_tokens() -> None:
    assert letters(["▁a", "▁", "cat", "s"]) == [
        ("a", (0,), True), ("c", (1, 2), True), ("a", (2,), False), ("t", (2,), False), ("s", (3,), False),
    ]  # fmt: skip
    assert letters(["a</w>", "ca", "t</w>"]) == [
        ("a", (0,), True), ("c", (1,), True), ("a", (1,), False), ("t", (2,), False),
    ]  # fmt: skip
    assert letters(["Ġ", "ç", "Į", "«"]) == [("猫", (0, 1, 2, 3), True)]
    assert letters(["▁", "<0xE7>", "<0x8C>", "<0xAB>"]) == [("猫", (0, 1, 2, 3), True)]
    assert letters(["pla", "##y", "it"]) == [
        ("p", (0,), True), ("l", (0,), False), ("a", (0,), False), ("y", (1,), False), ("i", (2,), True),
        ("t", (2,), False),
    ]  # fmt: skip
    assert letters(["a", "b"], ["Ġ"])[1] == ("b", (1,), False)  # no space is written, so there is none
    assert letters([]) == []
