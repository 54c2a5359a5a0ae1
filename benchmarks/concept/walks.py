"""Walks from words over many pictures' chains at once: what ``concept_maps`` does with one, to the last option."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

BOUNCES = (1, 2, 3, 10)
ALPHAS = (0.99, 0.9, 0.5)
DIRECTIONS = ("forward", "backward")
PADDINGS = ("censor", "drop", "keep")


def staying(count: int, special: Sequence[int], how: str) -> Tensor:
    """Indices of the tokens that a chain keeps, (N',): all where padding and special tokens are kept."""
    stay = torch.ones(count, dtype=torch.bool)
    if how != "keep":
        stay[list(special)] = False
    return stay.nonzero()[:, 0]


def without(heads: Tensor, weights: Tensor, special: Sequence[int], how: str) -> Tensor:
    """Heads mixed to one chain, without padding and special tokens: (B, H, N, N) and (B, H) to (B, N', N').

    "drop": rows of each head are divided by what is left of them, then heads are mixed; "censor": heads are mixed, and
    steps by way of the removed tokens are kept (stochastic complement); "keep": they stay.
    """
    stay = staying(heads.shape[-1], special, how)
    if how == "drop":
        heads = heads[..., stay, :][..., stay]
        heads = heads / heads.sum(-1, keepdim=True)
    mixed = torch.einsum("bh,bhij->bij", weights, heads)
    return censored(mixed, special) if how == "censor" else mixed


def censored(chains: Tensor, special: Sequence[int]) -> Tensor:
    """The stochastic complement (B, N', N') of chains (B, N, N) outside of some tokens."""
    if not special:
        return chains
    stay, away = staying(chains.shape[-1], special, "censor"), torch.tensor(list(special))
    inside = torch.eye(len(away), dtype=chains.dtype) - chains[:, away][:, :, away]
    back = torch.linalg.solve(inside, chains[:, away][:, :, stay])
    return chains[:, stay][:, :, stay] + chains[:, stay][:, :, away] @ back


def walks(chains: Tensor, words: Tensor, picture: Tensor) -> Iterator[tuple[str, dict[str, Any], Tensor]]:
    """Every walk from words: (method, options, maps (B, W, P)).

    Args:
        chains: (B, N, N), float64, rows sum to one.
        words: (B, W, N), where walks begin.
        picture: (P,), indices of the patches.
    """
    measure = torch.where(words > 0, words, torch.ones_like(words))  # in the reversed chain a word is one token
    image = measure @ chains
    eye = torch.eye(chains.shape[-1], dtype=chains.dtype)
    for direction in DIRECTIONS:
        reached = words
        for n in BOUNCES:
            reached = reached @ chains if direction == "forward" else measure * (reached / image @ chains.mT)
            yield "bounce", {"direction": direction, "n": n}, reached[..., picture]
        # what moves columns of mass: Aᵀ, or diag(μ) A diag(μA)⁻¹ of each word
        moves = (
            chains.mT[:, None] if direction == "forward" else measure[..., None] * chains[:, None] / image[:, :, None]
        )
        for alpha in ALPHAS:
            limit = torch.linalg.solve(eye - alpha * moves, (1 - alpha) * words[..., None].expand(*words.shape, 1))
            yield "tokenrank", {"direction": direction, "alpha": alpha}, limit[..., 0][..., picture]
    yield "absorption", {}, absorbed(chains, words)[..., picture]


def absorbed(chains: Tensor, words: Tensor) -> Tensor:
    """Probabilities (B, W, N) that a walk from each token meets a word's tokens before those of the others."""
    ends = words.sum(1) > 0
    left = torch.eye(chains.shape[-1], dtype=chains.dtype) - chains * ~ends[..., None]
    return torch.linalg.solve(left, (words > 0).to(chains.dtype).mT).mT
