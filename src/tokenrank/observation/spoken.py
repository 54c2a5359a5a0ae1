"""Words of a transcript: which tokens they are, and where in the sound a decoder looked for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from ..chain import CrossAttention
from ..errors import CaptureError, InputError
from ..layout import TokenLayout
from ..models import Model
from ..models.layouts.names import in_decoder, is_cross
from ..models.speech import special_ids
from ..trace import Trace
from .forward import ObservedForward
from .layers import SOUND, has_sound

CrossHeads: TypeAlias = "Sequence[tuple[int, int]] | None"
"""Pairs (decoder layer, head) of cross-attention; None for the model's alignment heads, or all where it names none."""


@dataclass(frozen=True)
class Word:
    """A word of the transcript.

    Attributes:
        text: without the space before it, with the signs after it.
        tokens: its places among the decoder's tokens. The row that *predicts* a token is the one before it.
    """

    text: str
    tokens: range


def words_of(model: Model, ids: Sequence[int]) -> tuple[Word, ...]:
    """The words of a transcript; a token that begins with a space begins one, signs belong to the word before them.

    Args:
        model: with the tokenizer.
        ids: the decoder's tokens.
    """
    special = special_ids(model.tokenizer, model.module)
    if all(i in special for i in ids):
        return ()
    begins: list[int] = []
    said = [place for place, i in enumerate(ids) if i not in special]
    for place in said:
        if not begins or place - 1 not in said or model.tokenizer.decode([ids[place]]).startswith(" "):
            begins.append(place)
    words = []
    for begin, end in zip(begins, [*begins[1:], (said or [0])[-1] + 1], strict=True):
        tokens = [place for place in range(begin, end) if place in said]
        text = model.tokenizer.decode([ids[place] for place in tokens]).strip()
        words.append(Word(text, range(tokens[0], tokens[-1] + 1)))
    return tuple(words)


def alignment_heads(module: nn.Module) -> list[tuple[int, int]] | None:
    """(layer, head) of the cross-attention that follows the time, as the model's generation_config names them."""
    named = getattr(getattr(module, "generation_config", None), "alignment_heads", None)
    return None if not named else [(int(layer), int(head)) for layer, head in named]


def cross_heads(trace: Trace, heads: CrossHeads, named: list[tuple[int, int]] | None) -> tuple[CrossAttention, str]:
    """Some heads of all cross-attention of one forward, one after the other, (K, R, C), and in words which they are.

    Raises:
        CaptureError: no cross-attention, or layers of different shapes.
        InputError: no such layer or head.
    """
    layers = [trace.cross_of(r) for r in trace.records if is_cross(r.name) and in_decoder(r.name)]
    if not layers:
        raise CaptureError(
            "no cross-attention of a decoder was recorded; observe a model that writes text, such as Whisper"
        )
    flat = [layer.weights.reshape(-1, *layer.shape[-2:]) for layer in layers]
    if len({weights.shape for weights in flat}) > 1:
        raise CaptureError(
            f"cross-attention has shapes {sorted({tuple(w.shape) for w in flat})}, expected one; take one layer, "
            "trace.cross(name)"
        )
    count = len(flat[0])
    chosen = heads if heads is not None else named
    if chosen is None:
        chosen, words = [(i, h) for i in range(len(flat)) for h in range(count)], f"all {len(flat) * count} heads"
    else:
        words = f"{len(chosen)} {'alignment heads' if heads is None else 'heads'}"
    for pair in chosen:
        if len(pair) != 2 or not (0 <= pair[0] < len(flat) and 0 <= pair[1] < count):
            raise InputError(f"cross-attention head {tuple(pair)}, expected (layer, head) below ({len(flat)}, {count})")
    if not chosen:
        raise InputError("no heads of cross-attention given, expected one pair (layer, head) at least")
    stacked = torch.stack([flat[layer][head] for layer, head in chosen])
    return CrossAttention(stacked, layers[0].rows, layers[0].columns, words), words


def by_word(rows: Tensor, words: Sequence[Word]) -> Tensor:
    """Rows of tokens (…, T, C) → rows of words (…, W, C), the means of the rows that predict their tokens.

    Raises:
        InputError: no words.
    """
    if not words:
        raise InputError("the transcript has no word; give what is said, said=…, or another sound")
    return torch.stack([rows[..., [place - 1 for place in word.tokens if place], :].mean(-2) for word in words], -2)


def word_layout(words: Sequence[Word]) -> TokenLayout:
    """The layout of rows of words."""
    return TokenLayout.text([word.text for word in words])


def transcript_of(model: Model, ids: Any) -> str:
    """The text of a decoder's tokens, special ones left out."""
    special = special_ids(model.tokenizer, model.module)
    return str(model.tokenizer.decode([i for i in ids if i not in special])).strip()


class Spoken(ObservedForward):
    """What an observation of a sound says of its words; a part of ``Observation``."""

    @property
    def transcript(self) -> str:
        """What the decoder was given as said: the model's own transcript, or the text given to ``tr.observe``.

        Raises:
            InputError: no decoder of speech.
        """
        return transcript_of(self.model, self._spoken_ids)

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """The words of the transcript, with their tokens.

        Raises:
            InputError: as ``transcript``.
        """
        return words_of(self.model, self._spoken_ids)

    @property
    def has_words(self) -> bool:
        """Whether the model writes down what it hears, and something was said."""
        writes = self._model is not None and self._model.tokenizer is not None and self._model.sounds is not None
        return writes and bool(self.words)

    @property
    def _spoken_ids(self) -> list[int]:
        ids = self.inputs.get("decoder_input_ids")
        if not isinstance(ids, Tensor) or self.model.tokenizer is None:
            raise InputError(
                f"model {self.name!r} writes no text, so that there are no words; observe with one that does"
            )
        return [int(i) for i in ids.reshape(-1)]

    def cross(self, heads: CrossHeads = None, of: Literal["words", "tokens", "heads"] = "words") -> CrossAttention:
        """From the words of the transcript to the frames of the sound (padding dropped), as the decoder looked.

        ``obs.chain(layer=1).bounce(obs.cross().weights)`` walks on from there; ``tr.bipartite(obs.chain(),
        obs.cross())`` goes from the frames to the words.

        Args:
            heads: pairs (decoder layer, head), mixed evenly; the alignment heads that the model's generation_config
                names where None, and all heads where it names none (the caption says which).
            of: "words" for (words, frames), each the mean of the rows that predict its tokens; "tokens" for
                (tokens, frames), row i predicting token i + 1; "heads" for (heads, tokens, frames), not mixed.

        Raises:
            CaptureError: no cross-attention. InputError: no such head, no word, or another ``of``.
        """
        if of not in ("words", "tokens", "heads"):
            raise InputError(f"of = {of!r}, expected 'words', 'tokens' or 'heads'")
        self._spoken_ids  # noqa: B018  raises where nothing is written down
        found, which = cross_heads(self.trace, heads, alignment_heads(self.model.module))
        if has_sound(found.columns):
            found = found.restrict(columns=SOUND)
        caption = f"{self.name}, cross-attention of {which}"
        if of == "heads":
            return CrossAttention(found.weights, found.rows, found.columns, caption)
        mixed = found.aggregate("uniform")
        if of == "tokens":
            return CrossAttention(mixed.weights, mixed.rows, mixed.columns, caption)
        return CrossAttention(by_word(mixed.weights, self.words), word_layout(self.words), mixed.columns, caption)
