"""Heads and layers weighed by themselves, and scores of words set against those of special tokens, patch by patch.

GoCA (Meng et al., CVPR 2026, 2603.06178) derives weights of heads and layers "from the numerical relations between
diffusion activations" and rescales each pixel's scores by those of special tokens [V, its abstract and README]. Its
equations were not read: the two formulas below are this project's, in the same spirit [I].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...select import Layers
from ...tasks.concepts import ConceptMaps
from ...tasks.concepts.word_blocks import Calls
from .layers import answered, with_values


def automatic_heads(
    source: Any,
    words: str | Sequence[str],
    *,
    layers: Layers = None,
    calls: Calls = None,
    rescale: bool = True,
    **reading: Any,
) -> ConceptMaps:
    """Cross maps, each head weighed by its share of the layer's output, set against special tokens patch by patch.

    In the spirit of GoCA, by formulas of this project: ``output_shares`` and ``rescaled``. Mean over layers and calls.

    Args:
        source, words, reading: as ``concept_attention``.
        layers: of ``Denoised.blocks``; all where None.
        calls: which forward calls; all where None.
        rescale: divide a patch's scores by those of all words and special tokens.

    Raises:
        NotFoundError: no such word, layer or call. InputError: no denoiser, or cross-attention.
    """
    of, found, named = with_values(source, words, layers, calls, reading)
    maps = []
    for one, given in found:
        shares = shares_of(given[:, one.picture])
        to_words = torch.einsum("h,hwp->wp", shares, one.attended(one.words))
        to_special = torch.einsum("h,hwp->wp", shares, one.attended(one.special[None]))[0]
        maps.append(rescaled(to_words, to_special) if rescale else to_words)
    told = f"automatic heads over {len(found)} layers and calls"
    return answered(of, named, torch.stack(maps).mean(0), found[0][0].grid, told)


def output_shares(weights: Tensor, values: Tensor, picture: Tensor) -> Tensor:
    """How much of what a layer gives the patches comes from each head: ‖A_h v_h‖² over the patches, to sum one.

    Heads lie side by side in a layer's output, so their squared norms add up to its own.

    Args:
        weights: (…, heads, N, N).
        values: (…, heads, N, e).
        picture: (P,).

    Returns:
        (…, heads), sum one.
    """
    return shares_of(weights[..., picture, :] @ values.to(weights.dtype))


def shares_of(given: Tensor) -> Tensor:
    """Squared norms of what each head gives the patches, (…, heads, P, e), to sum one: (…, heads)."""
    energy = given.square().sum((-2, -1))
    return energy / energy.sum(-1, keepdim=True)


def mixed(weights: Tensor, shares: Tensor) -> Tensor:
    """Σ_h w_h A_h with w from ``output_shares``: (…, heads, N, N) and (…, heads) to (…, N, N)."""
    return torch.einsum("...h,...hij->...ij", shares.to(weights.dtype), weights)


def rescaled(maps: Tensor, special: Tensor) -> Tensor:
    """Scores of words as shares of those of all words and special tokens, patch by patch: c_w / (Σ c + s).

    Args:
        maps: (…, W, P), what patches attend to of the words.
        special: (…, P), what they attend to of special tokens and padding, all together.

    Returns:
        (…, W, P), from 0 to 1; 0 where a patch attends to none of them.
    """
    whole = maps.sum(-2, keepdim=True) + special.unsqueeze(-2)
    return torch.where(whole > 0, maps / whole.clamp_min(torch.finfo(whole.dtype).tiny), torch.zeros_like(maps))
