"""Words outside of the prompt, as a pipeline's text encoders have them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, NotFoundError
from .prompt import PromptTokens, is_padded, prompt_of
from .words import occurrences


@dataclass(frozen=True, eq=False)
class ExtraWords:
    """Words outside of the prompt.

    Attributes:
        tokens: (T,) strings of all their tokens, in order.
        places: word → indices of its tokens.
        embeddings: (T, d), what the denoiser is given for a token.
        positions: (T,) place of each token in the sentence that it was encoded in.
    """

    tokens: tuple[str, ...]
    places: Mapping[str, tuple[int, ...]]
    embeddings: Tensor
    positions: Tensor

    def sees(self, together: bool) -> Tensor:
        """Which of the tokens attend to which, bool (T, T): all to all, or those of a word to that word alone."""
        count = len(self.tokens)
        if together:
            return torch.ones(count, count, dtype=torch.bool)
        owner = torch.empty(count, dtype=torch.long)
        for number, places in enumerate(self.places.values()):
            owner[list(places)] = number
        return owner[:, None] == owner


def encode_words(pipe: Any, words: Sequence[str], *, sentence: str = "{}", length: int | None = None) -> ExtraWords:
    """Words through a pipeline's text encoders, each in a sentence of its own, of which only its tokens are kept.

    Args:
        pipe: of diffusers, with its text encoders.
        words: words or phrases.
        sentence: what a word is encoded in, with ``{}`` for it: "a photo of a {}".
        length: text tokens of the pass that the words will join, since text encoders that see their padding (T5 in
            FLUX.1) make other embeddings of other lengths. Where None that of the pipeline's own
            ``max_sequence_length``, at most what its tokenizer takes; and always where prompts are not padded.

    Raises:
        InputError: no words, one twice, a sentence without ``{}``, or a pipeline without text encoders.
        NotFoundError: a word that does not fit into the text encoder, or that its tokenizer does not know.
    """
    asked = list(words)
    if not asked or len(set(asked)) != len(asked) or isinstance(words, str):
        raise InputError(f"words = {words!r}, expected several words, each once, such as ['cat', 'sofa']")
    if sentence.count("{}") != 1:
        raise InputError(f"sentence = {sentence!r}, expected one {{}} where the word goes, such as 'a photo of a {{}}'")
    tokens: list[str] = []
    places: dict[str, tuple[int, ...]] = {}
    parts, positions = [], []
    for word in asked:
        text = sentence.replace("{}", word)
        embedded = embed(pipe, text, length)
        found = prompt_of(pipe, text, embedded.shape[0])
        before = len(occurrences(sentence.partition("{}")[0].split(), word))
        own = _own(found, word, before)
        places[word] = tuple(range(len(tokens), len(tokens) + len(own)))
        tokens += [found.tokens[i] for i in own]
        parts.append(embedded[own])
        positions += own
    return ExtraWords(tuple(tokens), places, torch.cat(parts), torch.tensor(positions))


def _own(found: PromptTokens, word: str, before: int) -> list[int]:
    try:
        return list(found.word(word, before))
    except NotFoundError as error:
        if "cut off" in str(error):
            raise
        made = [token for i, token in enumerate(found.tokens) if token and i not in found.padding]
        raise NotFoundError(
            f"the text encoder's tokenizer does not know {word!r}: it makes {' '.join(made)!r} of it; take a word of "
            "its vocabulary"
        ) from error


def embed(pipe: Any, text: str, length: int | None = None) -> Tensor:
    """What a pipeline's denoiser is given as the text, (M, d): the first result of its ``encode_prompt``.

    Args:
        pipe: of diffusers.
        text: one prompt, without guidance.
        length: how many tokens; see ``encode_words``.

    Raises:
        InputError: the pipeline has no ``encode_prompt`` or no text encoder.
    """
    encode = getattr(pipe, "encode_prompt", None)
    if encode is None or getattr(pipe, "text_encoder", None) is getattr(pipe, "text_encoder_2", None) is None:
        raise InputError(
            f"{type(pipe).__name__} has no text encoder here, expected one to make embeddings of words outside of the "
            "prompt; load the pipeline with its text encoders"
        )
    options = inspect.signature(encode).parameters
    given: dict[str, Any] = {"prompt": text, "device": pipe._execution_device, "num_images_per_prompt": 1}
    given |= {"do_classifier_free_guidance": False, "prompt_2": None, "prompt_3": None}
    if (limit := _length(pipe, length)) is not None:
        given["max_sequence_length"] = limit
    with torch.no_grad():
        made = encode(**{name: value for name, value in given.items() if name in options})
    first = made[0] if isinstance(made, tuple) else made
    return first[0].detach()


def _length(pipe: Any, length: int | None) -> int | None:
    known = inspect.signature(type(pipe).__call__).parameters.get("max_sequence_length")
    if known is None:
        return None
    clip = int(pipe.tokenizer_max_length) if hasattr(pipe, "tokenizer_3") else 0  # stands before the text of T5
    if length is not None and is_padded(pipe):
        return length - clip
    names = ("tokenizer_3", "tokenizer_2", "tokenizer")
    tokenizer = next((found for name in names if (found := getattr(pipe, name, None)) is not None), None)
    return min(int(known.default), int(getattr(tokenizer, "model_max_length", known.default)))
