"""``concept_maps``: aggregate attention to one chain, refine each word's map on it, cut the picture by the maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...chain.core import Direction
from ...errors import InputError
from ...markov import Certificate
from ...select import Heads, Layers
from .aggregate import Aggregated, Padding, aggregated, by_tokens
from .cut import ncut_thresholds, softmaxed
from .maps import CUTS, ConceptMaps, Cut
from .refine import Refine, refined
from .word_blocks import Calls, ConceptSource, blocks_of, checked_words


def concept_maps(
    source: ConceptSource,
    words: str | Sequence[str],
    *,
    layers: Layers = None,
    calls: Calls = None,
    heads: Heads = "uniform",
    refine: Refine = "bounce",
    n: int = 3,
    direction: Direction | None = None,
    cut: Cut = "mean",
    padding: Padding = "censor",
    alpha: float = 0.99,
    **reading: Any,
) -> ConceptMaps:
    """Where each word is in the picture: one chain from layers, calls and heads; a walk on it; a cut.

    ::

        maps = tr.tasks.concept_maps(tr.observe("dog.jpg", model=pipe, prompt="a dog on a sofa"), ["dog", "sofa"])
        maps.map("dog").save("dog.png")

    Args:
        source: what ``tr.observe`` made of a generated or a real picture with a denoiser (``Denoised``), or what it
            takes; a chain over picture and text whose layout has strings of the text tokens, or several by name.
        words: of the prompt, each once. A word is all its tokens in the text encoder whose positions the denoiser uses;
            they share the start evenly.
        layers: which, by names, globs or numbers of ``Denoised.blocks``; all where None. Layers of several grids
            (U-Nets) have a chain each; their maps are enlarged to the finest grid and count by the number of layers.
        calls: places of the forward calls (steps, or samples of noise); all where None.
        heads: see ``tokenrank.select.Heads``. Of cross-attention the heads were averaged before.
        refine: "bounce": n bounces from the word. "tokenrank": where a walk is that jumps back to the word with
            probability 1 − alpha at every step. "metastable": n bounces, then each metastable state of the picture's
            own chain shares what it holds evenly. "absorption": the probability that a walk from a patch comes to each
            word before any other. None: the word's column of the attention, or its row.
        n: bounces. Of walks that a word can take alone, 3 backward was the best on the development half of the mosaics,
            with all layers and over all shares of noise (docs/diffusion.md); the paper takes 2 for segmentation.
        direction: "backward" from the column of the word, to those that attend to it; "forward" along its row.
            Backward where None. Absorption walks from the patches, whatever it is.
        cut: how ``labels`` come of the maps. "mean": a patch above the mean of a map may be the word's. "softmax": maps
            become shares of the words, and every patch is some word's. "ncut": above the value at which the map's
            upper set is the best normalised cut of the picture's walk. None: every patch is that word's with the
            largest value.
        padding: padding and special tokens: "censor" watches the walk only while it is elsewhere (stochastic
            complement), "drop" takes them out of every softmax, "keep" leaves them. How much of the picture's attention
            they take is in ``padding_mass``.
        alpha: of "tokenrank".
        **reading: of ``tr.observe``, for a source that is still to be observed.

    Returns:
        ConceptMaps over the finest grid. Each map has sum one over the patches; of "absorption" they are probabilities,
        and of cut "softmax" shares.

    Raises:
        InputError: no word, a word twice, a source that is no denoiser, options that do not go together.
        NotFoundError: a word that the prompt does not hold; no such layer, call or head.
        LayoutError: it is unknown which tokens are the picture.

    Source: "Attention (as Discrete-Time Markov) Chains" (NeurIPS 2025) for bounces and TokenRank of a word; Meyer
    (1989) for the stochastic complement.
    """
    named = checked_words(words)
    if cut not in CUTS:
        raise InputError(f"cut = {cut!r}, expected one of {', '.join(map(repr, CUTS))}")
    blocks = blocks_of(source, layers, calls, **reading)
    towards: Direction = "backward" if direction is None else direction
    groups, found = [], []
    for group in by_tokens(blocks.every):
        groups.append(aggregated(group, named, heads, padding))
        found.append(refined(groups[-1], named, refine, n, towards, alpha))
    finest = groups[0]
    maps = _joined([values for values, _ in found], groups, refine)
    thresholds = None
    if cut == "softmax":
        maps = softmaxed(maps)
    elif cut == "ncut":
        alone = finest.chain.restrict(list(finest.picture))
        thresholds = ncut_thresholds(alone, maps.flatten(1).float())
    mass = _masses(groups)
    choice = _words(groups, heads, refine, n, towards, cut, alpha)
    caption = ", ".join(filter(None, [blocks.name, *choice, _mass_words(mass)]))
    return ConceptMaps(
        maps, named, blocks.picture, caption, mass, _certificate([one for _, one in found]), cut, thresholds
    )


def _joined(found: Sequence[Tensor], groups: Sequence[Aggregated], refine: Refine) -> Tensor:
    """The mean of the maps of all grids by their numbers of layers, (W, rows, columns) of the finest."""
    size, total = groups[0].grid, sum(group.count for group in groups)
    mean = torch.zeros(len(found[0]), *size, dtype=torch.float64)
    for values, group in zip(found, groups, strict=True):
        grid = values.double().unflatten(-1, group.grid)
        if group.grid != size:
            grid = F.interpolate(grid[None], size, mode="bilinear", align_corners=False)[0]
        mean += grid * (group.count / total) * (1.0 if refine == "absorption" else _scale(grid))
    return mean


def _scale(grid: Tensor) -> Tensor:
    """What makes enlarged maps distributions again."""
    return 1 / grid.sum((-2, -1), keepdim=True)


def _masses(groups: Sequence[Aggregated]) -> Mapping[str, float]:
    return {name: mass for group in groups for name, mass in group.padding_mass.items()}


def _mass_words(masses: Mapping[str, float]) -> str:
    low, high = min(masses.values()), max(masses.values())
    if high == 0:
        return ""
    share = f"{high:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%} to {high:.0%} by layer"
    return f"which take {share} of the picture's attention"


def _certificate(found: Sequence[Certificate | None]) -> Certificate | None:
    """That of the finest grid, or the first that did not converge."""
    known = [one for one in found if one is not None]
    doubted = [one for one in known if bool(one.uncertain.any())]
    return next(iter([*doubted, *known]), None)


def _words(
    groups: Sequence[Aggregated], heads: Heads, refine: Refine, n: int, direction: Direction, cut: Cut, alpha: float
) -> list[str]:
    walks = {
        None: "column of the word" if direction == "backward" else "row of the word",
        "bounce": f"n = {n}, {direction}",
        "tokenrank": f"TokenRank from the word, alpha {alpha:g}, {direction}",
        "metastable": f"n = {n}, {direction}, shared within metastable states",
        "absorption": "probability of ending in each word",
    }
    finest, count = groups[0].grid, len({group.grid for group in groups})
    grids = [] if count == 1 else [f"{count} grids, the finest {finest[0]} × {finest[1]}"]
    return [*grids, f"heads {heads}", walks[refine], f"cut {cut}", groups[0].treated]
