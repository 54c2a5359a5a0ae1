"""iSeg: a cross map that is multiplied with self-attention again and again, which first loses its faint entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...select import Layers
from ...tasks.concepts import ConceptMaps
from ...tasks.concepts.word_blocks import Calls
from .layers import answered, many_layers, of_one_grid

TINY = torch.finfo(torch.float32).tiny
ROUNDING = 1e-12  # of a map's sum: what is left of a constant map by rounding


def iseg(
    source: Any,
    words: str | Sequence[str],
    *,
    layers: Layers = None,
    calls: Calls = None,
    iterations: int = 10,
    entropy: float = 0.1,
    turned: bool = False,
    **reading: Any,
) -> ConceptMaps:
    """Cross maps, refined by self-attention whose entropy was reduced, again and again (iSeg, Sun et al., 2409.03209).

    Cross maps and attention among the patches are means over heads, layers and calls; of several grids the finest.

    Args:
        source, words, reading: as ``raw_column``.
        layers: of ``Denoised.blocks``; all where None.
        calls: which forward calls; all where None.
        iterations: products with self-attention.
        entropy: how far its entropy is reduced, see ``sharpened``.
        turned: see ``sharpened``.

    Raises:
        NotFoundError: no such word, layer or call. InputError: a source without words, or a negative number.
    """
    if iterations < 0 or entropy < 0:
        raise InputError(f"iterations = {iterations}, entropy = {entropy}, expected numbers ≥ 0")
    of, every, named = many_layers(source, words, layers, calls, reading)
    found = of_one_grid(every)
    cross = torch.stack([one.attended(one.words).mean(0) for one in found]).mean(0)
    attention = torch.stack([one.among_patches() for one in found]).mean(0)
    maps = refined(cross, sharpened(attention, entropy, turned), iterations)
    return answered(of, named, maps, found[0].grid, f"iSeg, {iterations} iterations, {len(found)} layers and calls")


def sharpened(attention: Tensor, entropy: float, turned: bool = False) -> Tensor:
    """Self-attention after one step down the gradient of its entropy: max(0, S + λ · log₁₀(e · S)), rows to sum one.

    −Σ S ln S has the gradient −ln(e S) in S; the published code takes the decimal logarithm and, before it, divides
    what each patch attends to by its maximum [V]. Entries below the zero of x + λ log₁₀(e x) are cut.

    Args:
        attention: (…, P, P), non-negative; a row of zeros is not allowed.
        entropy: λ ≥ 0.
        turned: the transpose, rows to sum one, as the published code seems to take it [I].
    """
    scaled = attention / attention.amax(-1, keepdim=True)
    stepped = torch.where(scaled > 0, scaled + entropy * (torch.e * scaled.clamp_min(TINY)).log10(), scaled)
    kept = stepped.clamp_min(0)
    if turned:
        kept = kept.mT
    total = kept.sum(-1, keepdim=True)
    # a patch that nobody attends to any more keeps what it has
    alone = torch.eye(kept.shape[-1], dtype=kept.dtype, device=kept.device)
    return torch.where(total > 0, kept / total.clamp_min(TINY), alone)


def refined(maps: Tensor, attention: Tensor, iterations: int) -> Tensor:
    """c ← S c, minus its minimum, to sum one; again and again.

    Without the subtraction this is a walk backwards from the patches: iSeg (Sun et al., 2409.03209) is a bounce by
    another name. The minimum is subtracted once before the first product, too [V].

    Args:
        maps: (…, W, P), cross maps.
        attention: (…, P, P), rows sum to one.
        iterations: of the product.

    Returns:
        (…, W, P), non-negative, sum one; equal shares where a map is constant.
    """
    found = _shares(maps.to(attention.dtype))
    for _ in range(iterations):
        found = _shares(found @ attention.mT)
    return found


def _shares(maps: Tensor) -> Tensor:
    above = maps - maps.amin(-1, keepdim=True)
    total = above.sum(-1, keepdim=True)
    varies = total > ROUNDING * maps.abs().sum(-1, keepdim=True)
    return torch.where(varies, above / total.clamp_min(TINY), torch.full_like(above, 1 / maps.shape[-1]))
