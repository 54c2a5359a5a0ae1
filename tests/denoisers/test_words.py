"""Words are all of their tokens, whichever way a tokenizer cuts them up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokenrank.denoisers.words import occurrences, word_tokens
from tokenrank.errors import InputError, NotFoundError
from tokenrank.token_text import letters

pytest.importorskip("diffusers")

from tests.diffusion import text_encoders

KINDS: dict[str, Callable[[Path], Any]] = {
    "clip": lambda folder: text_encoders.clip(folder, 77),
    "t5": lambda _: text_encoders.t5(77),
    "byte-level": lambda _: text_encoders.qwen(),
    "whole words": lambda _: text_encoders.whole_words(),
}


def bare(token: str) -> str:
    for mark in ("</w>", "▁", "Ġ"):
        token = token.replace(mark, "")
    return token


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", ["german shepherd", "school bus", "bus", "shepherd", "a", "German  Shepherd"])
def test_tokens_of_a_word_spell_it(kind: str, word: str, tmp_path: Path) -> None:
    tokenizer = KINDS[kind](tmp_path)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("a german shepherd and a school bus").input_ids)
    every = word_tokens(tokens, word)
    one = word_tokens(tokens, word, 0)
    assert "".join(bare(tokens[i]) for i in one) == word.lower().replace(" ", "")
    assert list(one) == list(range(one[0], one[-1] + 1))
    assert len(every) == len(one) * (2 if word == "a" else 1)
    assert word_tokens(tokens, word, -1) == every[-len(one) :]
    with pytest.raises(NotFoundError, match="occurrence 2 of"):
        word_tokens(tokens, word, 2)


@pytest.mark.parametrize(
    ("kind", "text", "word", "count"),
    [
        ("clip", "a german shepherd", "german shepherd", 8),
        ("t5", "a german shepherd", "german shepherd", 4),
        ("t5", "a caterpillar", "caterpillar", 3),
        ("t5", "a wolf", "wolf", 5),  # "▁" alone is the begin of the word
        ("byte-level", "a caterpillar", "caterpillar", None),
        ("byte-level", "on 猫", "猫", None),
        ("whole words", "a german shepherd", "german shepherd", 2),
    ],
)
def test_words_of_many_tokens(kind: str, text: str, word: str, count: int | None, tmp_path: Path) -> None:
    tokenizer = KINDS[kind](tmp_path)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)
    found = word_tokens(tokens, word)
    # what is left is the rest of the text: no token of the word is missing, and none is too many
    rest = tokenizer.decode([i for k, i in enumerate(tokenizer(text).input_ids) if k not in found])
    assert rest.replace("</s>", "").replace("<|startoftext|>", "").replace("<|endoftext|>", "").split() == [
        part for part in text.split() if part not in word.split()
    ]
    assert count is None or len(found) == count


def test_words_stand_as_words() -> None:
    tokens = ["▁cats", "▁cat", "erpillar", ",", "▁cat", ".", "▁con", "cat", "▁cat"]
    assert word_tokens(tokens, "cat") == (4, 8)
    assert word_tokens(tokens, "caterpillar") == (1, 2)
    assert word_tokens(tokens, "cat", 1) == (8,)
    assert word_tokens(tokens, "cat.") == (4, 5)
    assert word_tokens(["▁a", "▁cat,", "▁dog"], "cat") == (1,)  # a comma stuck to it
    with pytest.raises(NotFoundError, match=r"no word 'concats' in the prompt .*nearest: 'concat'.*with_words"):
        word_tokens(tokens, "concats")
    with pytest.raises(NotFoundError, match="no word 'cat dog'"):
        word_tokens(["cat", "", "", "dog"], "cat dog")  # the picture stands between them
    with pytest.raises(NotFoundError, match="no word 'assistant'"):
        word_tokens(["<|im_start|>", "assistant", "Ċ", "a", "Ġcat"], "assistant", special=[1, 2])
    for word in ("", "  ", "!"):
        with pytest.raises(InputError, match="expected letters"):
            word_tokens(tokens, word)


def test_spaces_beside_punctuation_and_digits_make_no_difference() -> None:
    clip = ["<|startoftext|>", "cat</w>", "'s</w>", "t</w>", "-</w>", "shirt</w>", "2</w>", "0</w>", "cats</w>"]
    assert word_tokens(clip, "t-shirt") == (3, 4, 5)
    assert word_tokens(clip, "cat's") == (1, 2)
    assert word_tokens(clip, "20 cats") == (6, 7, 8)
    assert word_tokens(clip, "cats") == (8,)
    with pytest.raises(NotFoundError):
        word_tokens(["the</w>", "rapist</w>"], "therapist")
    with pytest.raises(NotFoundError):
        word_tokens(["therapist</w>"], "the rapist")


def test_marks_of_the_template_tell_how_words_are_joined() -> None:
    assert word_tokens(["user", "Ċ", "she", "pher", "d", "<|im_end|>"], "shepherd", special=[0, 1]) == (2, 3, 4)


def test_signs_of_many_scripts() -> None:
    assert word_tokens(["▁日本", "の", "猫"], "猫") == (2,)
    assert word_tokens(["caf", "Ã©"], "cafe\u0301") == (0, 1)
    assert word_tokens(["▁STRASSE"], "straße") == (0,)
    assert word_tokens(["Ġ", "ç", "Į", "«"], "猫") == (0, 1, 2, 3)
    assert word_tokens(["▁", "<0xE7>", "<0x8C>", "<0xAB>"], "猫") == (0, 1, 2, 3)
    assert word_tokens(["a", "play", "##ing", "cat"], "playing") == (1, 2)
    with pytest.raises(NotFoundError, match="no word 'cafe'"):
        word_tokens(["cafe\u0301"], "cafe")


def test_words_that_were_cut_off() -> None:
    tokens, rest = ["▁a", "▁cat", "▁and", "▁she"], ["pher", "d", "▁dog"]
    assert word_tokens(tokens, "cat", cut=rest) == (1,)
    for word in ("shepherd", "dog"):
        with pytest.raises(NotFoundError, match=f"'{word}' was cut off: the text encoder takes 4 tokens, and the"):
            word_tokens(tokens, word, cut=rest)
    with pytest.raises(NotFoundError, match="no word 'she'"):
        word_tokens(tokens, "she", cut=rest)  # a part of a longer word
    assert occurrences([*tokens, "</s>"], "dog", cut=rest) == [(7,)]


@pytest.mark.parametrize("kind", KINDS)
def test_letters_are_the_text(kind: str, tmp_path: Path) -> None:
    tokenizer = KINDS[kind](tmp_path)
    tokens = tokenizer.tokenize("a german shepherd and a bus")
    found = letters(tokens)
    text = "".join((" " if spaced else "") + character for character, _, spaced in found)
    assert text.split() == ["a", "german", "shepherd", "and", "a", "bus"]
    assert {i for _, owners, _ in found for i in owners} == set(range(len(tokens)))


@pytest.mark.parametrize("word", [3, None, ("school", "bus"), ["bus"]])
def test_what_is_no_string_is_no_word(word: Any) -> None:
    with pytest.raises(InputError, match="expected one string: a word or phrase of the prompt"):
        word_tokens(["a", "school", "bus"], word)
