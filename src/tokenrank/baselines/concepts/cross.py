"""Cross maps as they are: what patches attend to of a word, in one layer or summed over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...select import Layer, Layers
from ...tasks.concepts import ConceptMaps
from ...tasks.concepts.word_blocks import Calls
from .layers import answered, many_layers, of_one_grid, one_layer


def raw_column(
    source: Any, words: str | Sequence[str], *, layer: Layer = None, call: int = -1, **reading: Any
) -> ConceptMaps:
    """What each patch attends to of a word in one layer, heads averaged: the word's column of A.

    Args:
        source, reading: as ``tr.tasks.concept_maps`` takes them.
        words: of the prompt; a word of several tokens is the mean of their columns.
        layer: of ``Denoised.blocks``; three quarters up where None.
        call: which forward call, negative from the last.

    Raises:
        NotFoundError: no such word, layer or call. InputError: a source without words, or several layers.
    """
    of, found, named = one_layer(source, words, layer, call, reading)
    return answered(of, named, found.attended(found.words).mean(0), found.grid, f"raw column of {found.name}")


def expert_layer(
    source: Any, words: str | Sequence[str], *, layer: Layer = None, call: int = -1, **reading: Any
) -> ConceptMaps:
    """Picture-to-text attention of the one layer that binds words to places best, token by token from 0 to 1.

    Seg4Diff (NeurIPS 2025), see ``expert``. Which layer that is depends on the network, and is to be found on pictures
    whose parts are known; without it this is no more than a layer.

    Args, Raises: as ``raw_column``.
    """
    of, found, named = one_layer(source, words, layer, call, reading)
    maps = torch.stack(
        [
            _scaled(found.attended(F.one_hot(row.nonzero()[:, 0], len(row)).double()).mean(0)).mean(0)
            for row in found.words
        ]
    )
    return answered(of, named, maps, found.grid, f"expert layer {found.name}")


def daam(
    source: Any,
    words: str | Sequence[str],
    *,
    layers: Layers = None,
    calls: Calls = None,
    **reading: Any,
) -> ConceptMaps:
    """Cross maps of all layers, steps and heads, enlarged to the finest grid and summed (DAAM, Tang et al., ACL 2023).

    Heads are averaged before they are enlarged, which is the same but for a factor.

    Args:
        source, words, reading: as ``raw_column``.
        layers: of ``Denoised.blocks``; all where None.
        calls: which forward calls; all where None.

    Raises: as ``raw_column``.
    """
    of, found, named = many_layers(source, words, layers, calls, reading)
    grid = of_one_grid(found)[0].grid
    maps = daam_sum((one.attended(one.words).mean(0).unflatten(-1, one.grid) for one in found), grid)
    return answered(of, named, maps, grid, f"DAAM over {len(found)} layers and steps")


def columns(weights: Tensor, words: Tensor, picture: Tensor) -> Tensor:
    """What each patch attends to of each word, A[p, w]; heads averaged, tokens of a word averaged.

    In joint attention these are the picture's rows of a word's column: the first backward bounce from the word, but for
    the sums of the columns.

    Args:
        weights: (…, heads, N, N), rows sum to one.
        words: (…, W, N), the mass of each word's tokens, rows sum to one.
        picture: (P,), indices of the patches.

    Returns:
        (…, W, P).
    """
    return words.to(weights.dtype) @ weights.mean(-3)[..., picture, :].mT


def daam_sum(maps: Iterable[Tensor], size: tuple[int, int]) -> Tensor:
    """Maps of many layers, steps and heads, enlarged to one size and summed: DAAM, Tang et al., ACL 2023 [R].

    Args:
        maps: (…, rows, columns) each, of any grid, non-negative.
        size: (rows, columns) of the largest grid; smaller ones are enlarged by bicubic interpolation.

    Returns:
        (…, *size).
    """
    total: Tensor | None = None
    for one in maps:
        large = _enlarged(one, size)
        total = large if total is None else total + large
    if total is None:
        raise ValueError("no maps to sum")
    return total


def _enlarged(one: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(one.shape[-2:]) == size:
        return one
    flat = one.reshape(1, -1, *one.shape[-2:])
    large = F.interpolate(flat, size, mode="bicubic", align_corners=False).clamp_min(0)  # overshoots below zero
    return large.reshape(*one.shape[:-2], *size)


def expert(weights: Tensor, words: Tensor, picture: Tensor) -> Tensor:
    """Columns of one layer's picture-to-text attention, each scaled to 0 … 1 before those of a word are averaged.

    Seg4Diff (Kim et al., NeurIPS 2025) takes the picture's rows and the text's columns of joint attention of one layer,
    averages heads, and may scale each token's column to 0 … 1 before those of a name are averaged [V, its code; which
    layer is found by search]. A word of one token has the ``columns`` of that layer, scaled.

    Args and returns as ``columns``; values from 0 to 1.
    """
    seen = weights.mean(-3)[..., picture, :]
    return words.to(weights.dtype) @ _scaled(seen.mT)


def _scaled(maps: Tensor) -> Tensor:
    """Maps (…, P) from 0 to 1."""
    low, high = maps.amin(-1, keepdim=True), maps.amax(-1, keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)
