"""Two halves of a picture that a chain rarely leaves, and which of them is the object."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ..chain import AttentionChain
from .absorbed import border
from .masks import grid_of

Side: TypeAlias = Literal["tokenrank", "border", "seed"]


def slow_mode(chain: AttentionChain) -> Tensor:
    """The direction in which the chain forgets most slowly, float64 (P,), mean zero, of either sign.

    The second right eigenvector; of a complex pair, the combination that varies most over the patches.
    """
    spectrum = chain.spectrum(2)
    space = spectrum.right[:, 1 : int(spectrum.count)]
    space = space - space.mean(0)
    left, _, _ = torch.linalg.svd(space, full_matrices=False)
    return left[:, 0]


def oriented(values: Tensor, chain: AttentionChain, side: Side) -> Tensor:
    """±values (P,), so that the object's side is the positive one.

    Args:
        values: one a patch.
        chain: of those patches, (P, P).
        side: "tokenrank": where attention arrives, Σ π x above the mean of x. "border": the side that the border of the
            picture has less of. "seed", as TokenCut: the side that holds the entry of largest modulus.
    """
    if side == "tokenrank":
        rank = chain.tokenrank().values.double().to(values.device)
        positive = rank @ (values - values.mean()) >= 0
    elif side == "border":
        edge = border(*grid_of(chain)).to(values.device)
        positive = values[~edge].mean() >= values[edge].mean()
    else:
        positive = values[values.abs().argmax()] > values.mean()
    return values if positive else -values
