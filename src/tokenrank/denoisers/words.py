"""Tokens of a word: all of them, in whichever way the text encoder cuts it up."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..errors import InputError, NotFoundError, escaped, nearest
from ..token_text import letters

OUTSIDE = "words outside of the prompt get a text stream of their own: .with_words([…])"
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_SHOWN = 200  # characters of a prompt in an error


def word_tokens(
    tokens: Sequence[str],
    word: str,
    occurrence: int | None = None,
    *,
    special: Sequence[int] = (),
    cut: Sequence[str] = (),
    outside: str = OUTSIDE,
) -> tuple[int, ...]:
    """Indices of all tokens that a word or phrase is made of, increasing.

    Case, and white space beside punctuation and digits, make no difference. A word is found where it stands as a word:
    "cat" is not in "cats". A token that holds more than the word (a comma stuck to it) counts.

    Args:
        tokens: strings as the tokenizer has them, with its marks (``</w>``, ``▁``, ``Ġ``, ``##``), or whole words;
            tokens of the picture as "".
        word: "cat", "german shepherd".
        occurrence: which, counted from 0 (negative from the last); all of them where None.
        special: indices that are no words: begin, end, padding, template.
        cut: strings of tokens that did not fit into the text encoder, which would follow the last word.
        outside: for the error message: what to do about a word that the prompt lacks.

    Raises:
        NotFoundError: no such word, or no such occurrence; with near words, and how to reach words that are outside of
            the prompt; or that the word was cut off.
        InputError: a word without a letter, or that is no string.

    Example:
        >>> word_tokens(["<s>", "▁a", "▁german", "▁she", "pher", "d", "</s>"], "german shepherd")
        (2, 3, 4, 5)
    """
    found = occurrences(tokens, word, special=special, cut=cut)
    whole = [places for places in found if places[-1] < len(tokens)]
    if found and not whole:
        raise NotFoundError(
            f"the word {word!r} was cut off: the text encoder takes {len(tokens)} tokens, and "
            f"{'the last one' if len(cut) == 1 else f'the last {len(cut)}'} of the prompt did not fit; shorten the "
            f"prompt, or give a larger max_sequence_length where the model has one; {outside}"
        )
    if not whole:
        known = [piece for run in _runs(tokens, special, cut) for piece in _words(run)]
        text = escaped(" ".join(known), _SHOWN)
        raise NotFoundError(f"no word {word!r} in the prompt ({text!r}); {nearest(word, known)}; {outside}")
    if occurrence is None:
        return tuple(sorted({place for places in whole for place in places}))
    if not -len(whole) <= occurrence < len(whole):
        raise NotFoundError(
            f"occurrence {occurrence} of {word!r}, which is {len(whole)} times in the prompt; expected "
            f"{-len(whole)} … {len(whole) - 1}"
        )
    return whole[occurrence]


def occurrences(
    tokens: Sequence[str], word: str, *, special: Sequence[int] = (), cut: Sequence[str] = ()
) -> list[tuple[int, ...]]:
    """Indices of the tokens of each occurrence of a word, in order; those of ``cut`` count on from the last token.

    Raises:
        InputError: a word without a letter, or that is no string.
    """
    wanted = _folded([(c, (), spaced) for c, spaced in _spelled(checked(word))])
    if not any(_in_words(sign.text) for sign in wanted):
        raise InputError(f"word = {word!r}, expected letters: a word or phrase of the prompt")
    return [
        tuple(sorted({token for sign in run[start : start + len(wanted)] for token in sign.tokens}))
        for run in _runs(tokens, special, cut)
        for start in _matches(run, wanted)
    ]


def checked(word: str) -> str:
    """The word itself.

    Raises:
        InputError: it is no string.
    """
    if not isinstance(word, str):
        raise InputError(f"word = {word!r}, expected one string: a word or phrase of the prompt, such as 'school bus'")
    return word


@dataclass(frozen=True)
class _Sign:
    """A character with the tokens that hold it, and whether a space stands before it."""

    text: str
    tokens: tuple[int, ...]
    spaced: bool


def is_mark(token: str) -> bool:
    """Whether a token is special by its looks, as ``<pad>`` and ``[SEP]`` are; a byte, ``<0xE7>``, is not."""
    return len(token) > 2 and token[0] + token[-1] in ("<>", "[]") and not _BYTE.fullmatch(token)


def _runs(tokens: Sequence[str], special: Sequence[int], cut: Sequence[str]) -> list[list[_Sign]]:
    """The texts between special tokens, as characters."""
    marked = {*special, *(i for i, token in enumerate(tokens) if not token or is_mark(token))}
    runs: list[list[int]] = [[]]
    for i in range(len(tokens)):
        if i in marked:
            runs.append([])
        else:
            runs[-1].append(i)
    runs = [run for run in runs if run] or [[]]
    runs[-1] += range(len(tokens), len(tokens) + len(cut))
    every = [*tokens, *cut]
    like = [token for token in every if token and not is_mark(token)]
    found = []
    for run in runs:
        text = [
            (c, tuple(run[i] for i in owners), spaced) for c, owners, spaced in letters([every[i] for i in run], like)
        ]
        found.append(_folded(text))
    return found


def _folded(text: Sequence[tuple[str, tuple[int, ...], bool]]) -> list[_Sign]:
    """Characters without case, and taken apart where Unicode has two ways to write one."""
    signs = []
    for character, owners, spaced in text:
        folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
        for place, part in enumerate(folded):
            if not part.isspace():
                signs.append(_Sign(part, owners, spaced and place == 0))
    return signs


def _spelled(word: str) -> Iterator[tuple[str, bool]]:
    spaced = True
    for character in word:
        if not character.isspace():
            yield character, spaced
        spaced = character.isspace()


def _matches(run: Sequence[_Sign], wanted: Sequence[_Sign]) -> Iterator[int]:
    """Where a word begins in a text, from left to right, one after the other."""
    count, start = len(wanted), 0
    while start + count <= len(run):
        if _is_at(run, start, wanted):
            yield start
            start += count
        else:
            start += 1


def _is_at(run: Sequence[_Sign], start: int, wanted: Sequence[_Sign]) -> bool:
    end = start + len(wanted)
    if any(sign.text != other.text for sign, other in zip(run[start:end], wanted, strict=True)):
        return False
    if not _is_edge(run, start) or not _is_edge(run, end):
        return False
    within = range(1, len(wanted))
    return all(run[start + i].spaced == wanted[i].spaced for i in within if _tells(wanted[i - 1].text, wanted[i].text))


def _is_edge(run: Sequence[_Sign], place: int) -> bool:
    """Whether a word may begin or end before this place."""
    if place in (0, len(run)) or run[place].spaced:
        return True
    before, after = run[place - 1].text, run[place].text
    return not (_in_words(before) and _in_words(after)) or (_is_spaceless(before) or _is_spaceless(after))


def _tells(before: str, after: str) -> bool:
    """Whether a space between two characters means something: tokenizers cut at punctuation and digits as well."""
    return before.isalpha() and after.isalpha() and not (_is_spaceless(before) or _is_spaceless(after))


def _in_words(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _is_spaceless(character: str) -> bool:
    """Whether it is of a script that writes words without spaces between them."""
    if character.isascii():
        return False
    name = unicodedata.name(character, "")
    return name.startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"))


def _words(run: Sequence[_Sign]) -> Iterator[str]:
    """Words of a text, without punctuation that stands alone."""
    edges = [place for place in range(len(run) + 1) if _is_edge(run, place)]
    for begin, end in pairwise(edges):
        if any(_in_words(sign.text) for sign in run[begin:end]):
            yield unicodedata.normalize("NFC", "".join(sign.text for sign in run[begin:end]))
