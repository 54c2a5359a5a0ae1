"""What a decoder of speech says: its own transcript, or a text given to it, as the tokens that it is fed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, printable


def special_ids(tokenizer: Any, module: nn.Module) -> set[int]:
    """Ids of tokens that are no text: those that the tokenizer and the model's configuration call so."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    ids = {i for i, token in added.items() if getattr(token, "special", False)} | set(tokenizer.all_special_ids)
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    return ids | {i for name in names if isinstance(i := getattr(module.config, name, None), int)}


def decoder_ids(module: nn.Module, tokenizer: Any, inputs: Mapping[str, Tensor], said: str | None, name: str) -> Tensor:
    """The tokens to feed a decoder so that each row of its attention predicts the next one, (1, T).

    Args:
        module: an encoder-decoder of transformers that generates.
        tokenizer: its tokenizer.
        inputs: what its encoder reads.
        said: the text; the model's own transcript (greedy) where None; "" for none.
        name: of the model, for errors.

    Returns:
        The model's first tokens (start, language, task), then those of the text, without the one that ends it.

    Raises:
        InputError: a text that is too long for the decoder, or no text.
    """
    if said is not None and not isinstance(said, str):
        raise InputError(f"said is a {type(said).__name__}, expected what is said (str), or None for a transcript")
    written = _generated(module, inputs, 3 if said is not None else None)
    special = special_ids(tokenizer, module)
    if said is None:
        while len(written) > 1 and written[-1] in special:
            written.pop()
    else:
        prompt = list(takewhile(lambda i: i in special, written))
        words = tokenizer(f" {said.strip()}", add_special_tokens=False)["input_ids"] if said.strip() else []
        written = (prompt or written[:1]) + list(words)
    limits = ("max_target_positions", "max_position_embeddings")
    most = next((n for limit in limits if isinstance(n := getattr(module.config, limit, None), int)), None)
    if most is not None and len(written) > most:
        raise InputError(
            f"the text has {len(written)} tokens, model {printable(name)} writes {most} at most; shorten it"
        )
    return torch.tensor([written])


def _generated(module: Any, inputs: Mapping[str, Tensor], most: int | None) -> list[int]:
    """The model's own tokens, from the first on, greedy."""
    from transformers.utils import logging as reports

    level = reports.get_verbosity()
    options: dict[str, Any] = {"do_sample": False, "num_beams": 1}
    if most is not None:
        options["max_new_tokens"] = most
    if module.config.model_type == "whisper":  # which otherwise returns the words alone
        options["force_unique_generate_call"] = True
    reports.set_verbosity_error()
    try:
        with torch.no_grad():
            return [int(i) for i in module.generate(**inputs, **options)[0]]
    finally:
        reports.set_verbosity(level)
