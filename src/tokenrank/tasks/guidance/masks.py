"""Which part of a picture guidance degrades: what its own attention singles out.

Scores have mean one over the picture, so that "more than evenly" is a score above one, in every mask alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...chain import AttentionChain
from ...errors import InputError, nearest

MASKS = ("colsum", "tokenrank", "bounce", "all", "random")
WORD, RANDOM = "word:", "random:"
ALPHA = 0.99
BOUNCES = 2


def check_mask(name: str) -> str:
    """The name of a mask.

    Raises:
        InputError: there is no such mask; the message has the nearest ones.
    """
    if isinstance(name, str):
        if name in MASKS or (name.startswith(WORD) and name.removeprefix(WORD).strip()):
            return name
        if name.startswith(RANDOM) and name.removeprefix(RANDOM) in ("colsum", "tokenrank", "bounce"):
            return name
    raise InputError(f"mask = {name!r}, there is no such mask; {nearest(str(name), [*MASKS, 'word:dog'])}")


def word_of(mask: str) -> str | None:
    """The word of a mask such as "word:dog"; None for another mask."""
    return mask.removeprefix(WORD).strip() if mask.startswith(WORD) else None


def mask_of(weights: Tensor, name: str, generator: torch.Generator | None = None, word: Tensor | None = None) -> Tensor:
    """Tokens that a mask is made of.

    - "colsum": attended to more than evenly, as published: mean over heads, sum over queries, above 1.
    - "tokenrank": N · π above 1, with π the TokenRank of the mean over heads (alpha 0.99). It differs from the sum
      over queries by counting the attention of tokens that are attended to themselves.
    - "bounce": above 1 after two bounces from everywhere; one bounce from everywhere is "colsum".
    - "all": the whole picture.
    - "random": as many tokens of each picture as "tokenrank" has there ("random:colsum": as that has), drawn anew: the
      control for where a mask lies.
    - "word:dog": attended by the word's map after one bounce over the picture, above its mean.

    Args:
        weights: (B, N, N), mean over heads; rows sum to one.
        name: of the mask.
        generator: for "random", on the CPU.
        word: (B, N), how much each token of the picture attends to the word; for "word:…".

    Returns:
        (B, N) bool.
    """
    if name.startswith("random"):
        model = mask_of(weights, name.removeprefix(RANDOM) if name.startswith(RANDOM) else "tokenrank")
        return _drawn(model, generator)
    if name == "all":
        return torch.ones(weights.shape[:-1], dtype=torch.bool, device=weights.device)
    return scores(weights, name, word) > 1.0


def scores(weights: Tensor, name: str, word: Tensor | None = None) -> Tensor:
    """Scores (B, N) of "colsum", "tokenrank", "bounce" or "word:…", whose mean over the picture is one."""
    count = weights.shape[-1]
    if name == "colsum":
        return weights.sum(-2)
    if name == "tokenrank":
        return count * AttentionChain(weights).tokenrank(alpha=ALPHA).values.to(weights)
    if word_of(name) is not None:
        if word is None:
            raise InputError(f"mask {name!r} needs the map of its word")
        start = word / word.sum(-1, keepdim=True).clamp(min=torch.finfo(word.dtype).tiny)
        return count * (start[:, None] @ weights)[:, 0]
    if name == "bounce":
        start = torch.ones_like(weights[:, :1])
        for _ in range(BOUNCES):
            start = start @ weights
        return start[:, 0]
    raise InputError(f"mask {name!r} has no scores, expected colsum, tokenrank, bounce or word:…")


def _drawn(model: Tensor, generator: torch.Generator | None) -> Tensor:
    """As many tokens of each row as ``model`` has there, each as likely as any other."""
    order = torch.rand(model.shape, generator=generator).argsort(-1).argsort(-1).to(model.device)
    return order < model.sum(-1, keepdim=True)
