"""A prompt through tokenizers of pipelines: as it is, or within a template, and which of its tokens are no words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, NotFoundError
from .words import OUTSIDE, word_tokens

# stand for the prompt in a template: characters of private use, in none of them, that end in different bytes
_PLACES = ("\ue000", "\ue0ab")


@dataclass(frozen=True)
class PromptTokens:
    """The text tokens of a denoiser, in their order.

    Attributes:
        tokens: strings as the tokenizer has them; "" where the pipeline puts zeros in place of a text encoder.
        special: indices of begin, end and template tokens, increasing.
        padding: indices of padding, increasing.
        cut: strings of tokens of the prompt that did not fit, for each of ``parts``.
        parts: (name of the tokenizer, number of tokens), in order: (("tokenizer", 77), ("tokenizer_3", 256)).
    """

    tokens: tuple[str, ...]
    special: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    cut: tuple[tuple[str, ...], ...] = ((),)
    parts: tuple[tuple[str, int], ...] = ()

    def word(self, word: str, occurrence: int | None = None, *, outside: str = OUTSIDE) -> tuple[int, ...]:
        """Indices of all tokens of a word or phrase, of every text encoder that has it whole; see ``word_tokens``.

        Raises:
            NotFoundError: none has it, or none has this occurrence; with near words; or that it was cut off.
            InputError: a word without a letter.
        """
        found: list[int] = []
        problem: NotFoundError | None = None
        begin = 0
        for (_, count), cut in zip(self.parts or (("", len(self.tokens)),), self.cut, strict=True):
            others = [i - begin for i in (*self.special, *self.padding) if begin <= i < begin + count]
            try:
                own = self.tokens[begin : begin + count]
                places = word_tokens(own, word, occurrence, special=others, cut=cut, outside=outside)
                found += [begin + place for place in places]
            except NotFoundError as error:
                problem = problem if problem is not None and not any(self.tokens[begin : begin + count]) else error
            begin += count
        if not found:
            assert problem is not None
            raise problem
        return tuple(found)

    def to_length(self, count: int) -> PromptTokens:
        """The first ``count`` of them, or as many more as padding: zeros that stand beside a longer text of a batch."""
        kept, more = self.tokens[:count], max(0, count - len(self.tokens))
        others = {*self.special, *self.padding}
        lost = tuple(t for i, t in enumerate(self.tokens[count:], count) if i not in others)
        return PromptTokens(
            (*kept, *("",) * more),
            tuple(i for i in self.special if i < count),
            (*(i for i in self.padding if i < count), *range(len(self.tokens), count)),
            (*self.cut[:-1], (*lost, *self.cut[-1])),
            (*self.parts[:-1], (self.parts[-1][0], self.parts[-1][1] + count - len(self.tokens))),
        )


def tokenizer_of(pipe: Any, name: str) -> Any:
    """A pipeline's tokenizer.

    Raises:
        InputError: it was loaded without.
    """
    found = getattr(pipe, name, None)
    if found is None:
        raise InputError(
            f"{type(pipe).__name__} has no {name}, expected the tokenizer whose tokens its denoiser attends to; load "
            f"the pipeline with it, or give the strings of the text tokens: text=[…]"
        )
    return found


def plain(pipe: Any, name: str, prompt: str, length: int) -> PromptTokens:
    """A prompt as it is, between the begin and end tokens of a tokenizer, padded."""
    tokenizer = tokenizer_of(pipe, name)
    convert = getattr(pipe, "maybe_convert_prompt", None)  # of textual inversion, whose words are several tokens
    text = prompt if convert is None else convert(prompt, tokenizer)
    more = {"return_special_tokens_mask": True, "return_attention_mask": True, "verbose": False}
    fitted = tokenizer(text, padding="max_length", max_length=length, truncation=True, **more)
    whole = tokenizer(text, **more)
    seen, marks = fitted["attention_mask"], fitted["special_tokens_mask"]
    kept = sum(1 for mark, see in zip(marks, seen, strict=True) if see and not mark)
    content = [i for i, mark in zip(whole["input_ids"], whole["special_tokens_mask"], strict=True) if not mark]
    return PromptTokens(
        _strings(tokenizer, fitted["input_ids"]),
        tuple(i for i, mark in enumerate(marks) if mark and seen[i]),
        tuple(i for i, see in enumerate(seen) if not see),
        (_strings(tokenizer, content[kept:]),),
        ((name, len(seen)),),
    )


def templated(
    tokenizer: Any, split: Split, length: int, *, padded: bool = True, dropped: int = 0, begun: bool = False
) -> PromptTokens:
    """A prompt within a template, all of whose other tokens are special.

    Args:
        tokenizer: or a processor that has one.
        split: the template and the prompt in it.
        length: most tokens.
        padded: whether padding is what the denoiser attends to, too.
        dropped: tokens at the beginning that it is not given.
        begun: whether the template has its begin token itself.
    """
    plain = getattr(tokenizer, "tokenizer", tokenizer)
    more = {"add_special_tokens": not begun, "verbose": False}
    pad = {"padding": "max_length"} if padded else {}
    fitted = plain(split.written, max_length=length, truncation=True, return_attention_mask=True, **pad, **more)
    whole, *others = (list(plain(text, **more)["input_ids"]) for text in (split.written, *split.others))
    first = min(_same(whole, other) for other in others)
    last = len(whole) - min(len(whole) - first, *(_same(whole[::-1], other[::-1]) for other in others))
    seen = [i for i, see in enumerate(fitted["attention_mask"]) if see]
    kept = range(len(fitted["input_ids"])) if padded else seen
    content = set(seen[first:last])
    ids = [fitted["input_ids"][i] for i in kept][dropped:]
    places = list(kept)[dropped:]
    return PromptTokens(
        _strings(plain, ids),
        tuple(i for i, place in enumerate(places) if place not in content and place in set(seen)),
        tuple(i for i, place in enumerate(places) if place not in set(seen)),
        (_strings(plain, whole[max(first, len(seen)) : last]),),
        (("tokenizer", len(ids)),),
    )


@dataclass(frozen=True)
class Split:
    """A template with the prompt in it, and with other things, which tells where the prompt is."""

    written: str
    others: tuple[str, ...]


def split(template: Callable[[str], str], prompt: str) -> Split:
    """A prompt in a template."""
    return Split(template(prompt), tuple(template(place) for place in _PLACES))


def chat(tokenizer: Any, prompt: str, **options: Any) -> Split:
    """A user's message in a tokenizer's own chat template."""

    def template(text: str) -> str:
        asked = [{"role": "user", "content": text}]
        return str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True, **options))

    return split(template, prompt)


def _same(one: Sequence[int], other: Sequence[int]) -> int:
    """How many numbers two sequences begin with alike."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _strings(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    return tuple(map(str, tokenizer.convert_ids_to_tokens(list(ids))))


def joined(first: PromptTokens, second: PromptTokens) -> PromptTokens:
    """One text encoder's tokens after another's."""
    count = len(first.tokens)
    return PromptTokens(
        first.tokens + second.tokens,
        first.special + tuple(count + i for i in second.special),
        first.padding + tuple(count + i for i in second.padding),
        first.cut + second.cut,
        first.parts + second.parts,
    )
