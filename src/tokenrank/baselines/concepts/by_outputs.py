"""ConceptAttention: words and patches compared by what attention gave them, not by what they attend to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...select import Layers
from ...tasks.concepts import ConceptMaps
from ...tasks.concepts.word_blocks import Calls
from .layers import answered, with_values


def concept_attention(
    source: Any,
    words: str | Sequence[str],
    *,
    layers: Layers = None,
    calls: Calls = None,
    **reading: Any,
) -> ConceptMaps:
    """Dot products of what attention gave a word and each patch, soft-max over the words, mean over layers and calls.

    Needs joint attention, and one more forward for the values. Of one word every map is constant: give its rivals.

    Args:
        source, reading: see ``tr.observe``; of a picture with a pipeline.
        words: two or more, of the prompt or of ``Denoised.with_words``, which are streams as in the paper.
        layers: of ``Denoised.blocks``; all where None. The published code takes 14 to 17 of FLUX's 19 dual blocks,
            counted from 0 [V].
        calls: which forward calls; all where None.

    Raises:
        NotFoundError: no such word, layer or call. InputError: one word alone, no denoiser, cross-attention.
    """
    of, found, named = with_values(source, words, layers, calls, reading)
    if len(named) < 2:
        raise InputError(f"words = {named}: the soft-max is over words, expected two or more; add what else is there")
    maps = [compared(given.transpose(0, 1).flatten(1), one.words, one.picture) for one, given in found]
    told = f"ConceptAttention over {len(found)} layers and calls"
    return answered(of, named, torch.stack(maps).mean(0), found[0][0].grid, told)


def outputs(weights: Tensor, values: Tensor) -> Tensor:
    """What attention gives each token, A v, heads side by side.

    Args:
        weights: (…, heads, N, N).
        values: (…, heads or a divisor of it, N, e).

    Returns:
        (…, N, heads · e).
    """
    heads, held = weights.shape[-3], values.shape[-3]
    if held != heads:
        values = values.repeat_interleave(heads // held, -3)
    return (weights @ values.to(weights.dtype)).transpose(-3, -2).flatten(-2)


def compared(out: Tensor, words: Tensor, picture: Tensor) -> Tensor:
    """softmax over words of o_w · o_p: ConceptAttention's map of one layer (Helbling et al., ICML 2025).

    o are attention outputs with heads side by side [V]; a word's is the mean of those of its tokens, and the words of
    one call are each other's rivals in the softmax. Outputs are taken before the layer's projection [I]. In the paper
    a concept is the first token of a stream of its own that attends to the picture and the concepts [V]: words of
    ``Denoised.with_words`` are such streams, of all their tokens, and words of the prompt are taken where they are.

    Args:
        out: (…, N, D).
        words: (…, W, N).
        picture: (P,).

    Returns:
        (…, W, P), sums over words are one.
    """
    found = (words.to(out.dtype) @ out) @ out[..., picture, :].mT
    return found.double().softmax(-2)
