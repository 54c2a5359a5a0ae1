"""``saliency``: the object of a picture, without being told where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Unpack

from ..chain import AttentionChain, TokenMap
from ..chain.foreground import ForegroundRule, foreground, is_constant
from ..errors import InputError
from ..observation import Observation
from ..reading import Reading, Source, observe
from ..select import HEADS, Heads, Layers
from .masks import Refinement, check_refinement, grid_of, part_at, refined
from .segmentation import Segmentation
from .strength import strengths, warn_if_faint

SaliencyWay: TypeAlias = Literal["border", "slow", "metastable", "tokenrank", "tokenrank-backward"]
Side: TypeAlias = Literal["border", "seed"]

POWER = 16
"""Heads of "border" count by |λ2| to this power; chosen on one half of ECSSD (docs/evidence.md)."""


def saliency(
    source: Source,
    *,
    how: SaliencyWay = "border",
    layer: Layers = None,
    heads: Heads = HEADS,
    side: Side = "border",
    rule: ForegroundRule = "mean",
    component: bool = False,
    refine: Refinement | None = None,
    **reading: Unpack[Reading],
) -> Segmentation:
    """Cut out the object of a picture.

    ::

        tr.tasks.saliency("dog.jpg").save("dog.png")

    Args:
        source: a picture, or anything else that ``tr.observe`` takes and that holds one.
        how, layer, heads, side: see ``saliency_map``.
        rule: "mean" keeps what is above the mean of the map at the picture's resolution; a number p the fewest pixels
            that hold the share p of its mass (of what exceeds its minimum); None keeps all. Nothing stands out of a
            constant map.
        component: keep the 4-connected part that holds the largest value only.
        refine: "guided" lets the map follow the picture's edges (needs ``pip install 'tokenrank[refine]'``).
        **reading: what ``tr.observe`` takes beside the source: model, size, image, …

    Returns:
        One label, "object", its map and its strength, in pixels of ``Observation.size``.

    Warns:
        NothingThereWarning: the object hardly stands out (``strengths``); what is cut out of an even picture is none.

    Raises:
        InputError: a picture or argument that cannot be used. CaptureError, LayoutError: no grid of patches.
    """
    observation = observe(source, **reading)
    picture = observation.picture
    check_refinement(refine, picture)
    patches = saliency_map(observation, how, layer=layer, heads=heads, side=side)
    values = patches.upsample(observation.size).double().cpu().numpy()
    # a constant map is zero, and not what rounding leaves of it
    values = np.zeros_like(values) if bool(is_constant(values, 2)) else values - values.min()
    if refine and picture is not None:
        rows, columns = patches.grid().shape
        values = refined(values, picture, (rows, columns))
    mask = foreground(values, rule, axes=2)
    if component:
        mask = part_at(mask, values)
    names = observation.several_layers(layer)
    seen = observation.describe(names[0], heads) if len(names) == 1 else f"{len(names)} layers, heads {heads}"
    caption = f"{observation.name}, {seen}, {how}, rule {rule}"
    scores = values[None].astype(np.float32)
    found = strengths(observation, mask[None])
    if found is not None and rule is not None:
        warn_if_faint(found[0], "the object of saliency")
    return Segmentation(mask.astype(np.int64), ("background", "object"), scores, picture, caption, found)


def saliency_map(
    observation: Observation,
    how: SaliencyWay = "border",
    *,
    layer: Layers = None,
    heads: Heads = HEADS,
    side: Side = "border",
) -> TokenMap:
    """How much every patch belongs to the object, (P,); no seed is given.

    Args:
        observation: a picture seen by a model.
        how: - "border": bounces until the walk gets to the border of the picture, head by head, each divided by its
               mean (``border_times``); it takes for granted that objects keep away from the border.
             - "slow": the slowest mode of the chain (``slow_mode``), the relaxed cut of TokenCut on attention itself.
             - "metastable": membership of the object's half, of two (PCCA+).
             - "tokenrank", "tokenrank-backward": where attention arrives, and where it comes from.
        layer: one or several, which are mixed evenly; all of them where None.
        heads: see ``tokenrank.select.Heads``. With "border" lambda2 counts each by |λ2|¹⁶, otherwise by |λ2|.
        side: which half of "slow" and "metastable" is the object: the one that the border has less of, or ("seed", as
            TokenCut) the one that holds the entry of largest modulus.

    Raises:
        InputError: an argument that is none of these, layers of several grids, fewer than 3 × 3 patches.

    Source: absorption by the border is Jiang et al., "Saliency detection via absorbing Markov chain" (ICCV 2013) on
    superpixels; here the chain is attention.
    """
    if how not in _WAYS:
        raise InputError(f"how = {how!r}, expected one of {', '.join(map(repr, _WAYS))}")
    if side not in ("border", "seed"):
        raise InputError(f"side = {side!r}, expected 'border' or 'seed'")
    names = observation.several_layers(layer)
    grids = dict.fromkeys(grid_of(observation.head_chains(name)) for name in names)
    if len(grids) > 1:
        raise InputError(f"layers have patches of {' and '.join(map(str, grids))}, expected one grid; name its layers")
    if min(min(grids)) < 3:
        raise InputError(f"the picture has {min(grids)} patches, expected 3 × 3 or more; give a larger size")
    key = "saliency", how, names, heads if isinstance(heads, str | int) else tuple(heads), side
    layout = observation.head_chains(names[0]).layout
    return observation.keep(
        key, lambda: TokenMap(_WAYS[how](observation, names, heads, side), layout, picture=observation.picture)
    )


def border(rows: int, columns: int) -> Tensor:
    """bool (rows · columns,): the outermost patches."""
    edge = torch.ones(rows, columns, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    return edge.flatten()


def border_times(chains: AttentionChain, edge: Tensor) -> Tensor:
    """Expected bounces until the border, head by head, each divided by its mean: float64 (heads, P).

    Heads differ by orders of magnitude: from a local head's object the walk may never get out. Where it surely does
    not, those patches share the mass evenly.
    """
    times = chains.hitting_times(edge).values
    stuck = torch.isinf(times)
    times = torch.where(stuck.any(-1, keepdim=True), stuck.double(), times)
    return times / times.mean(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def slow_mode(chain: AttentionChain) -> Tensor:
    """The direction in which the chain forgets most slowly, float64 (P,), mean zero, of either sign.

    The second right eigenvector; of a complex pair, the combination that varies most over the patches.
    """
    spectrum = chain.spectrum(2)
    space = spectrum.right[:, 1 : int(spectrum.count)]
    space = space - space.mean(0)
    left, _, _ = torch.linalg.svd(space, full_matrices=False)
    return left[:, 0]


def oriented(values: Tensor, edge: Tensor, side: Side) -> Tensor:
    """±values, so that the object's side is the positive one; see ``saliency_map``."""
    if side == "border":
        positive = values[~edge].mean() >= values[edge].mean()
    else:
        positive = values[values.abs().argmax()] > values.mean()
    return values if positive else -values


def _mixed(observation: Observation, names: Sequence[str], heads: Heads) -> AttentionChain:
    """One chain (P, P) of several layers, each layer's heads mixed; of several a matrix, their mean."""
    first, *others = (observation.chain(name, heads) for name in names)
    if not others:
        return first
    total = first.operator.to_dense(torch.float64)
    for chain in others:
        total = total + chain.operator.to_dense(torch.float64)
    return AttentionChain(total / len(names), first.layout)


def _border(observation: Observation, names: Sequence[str], heads: Heads, side: Side) -> Tensor:
    weights = torch.cat([_border_weights(observation, name, heads) for name in names])
    if not bool(weights.any()):  # no head is slower than another
        weights = torch.ones_like(weights)
    return (weights / weights.sum()) @ torch.cat([_times(observation, name, heads) for name in names])


def _border_weights(observation: Observation, name: str, heads: Heads) -> Tensor:
    """What each head of a layer counts for, float64: 1, or |λ2|¹⁶, or 1 for each of those that were named."""
    if isinstance(heads, str) and heads == "lambda2":
        return observation.lambda2(name).values.double().cpu() ** POWER
    weights = observation.head_weights(name, heads)
    return torch.ones_like(weights[weights > 0])


def _times(observation: Observation, name: str, heads: Heads) -> Tensor:
    """``border_times`` of the heads that count, float64 on the CPU."""
    chains = observation.head_chains(name)
    chosen: tuple[int, ...] = ()
    if not isinstance(heads, str):
        chosen = tuple(observation.head_weights(name, heads).nonzero()[:, 0].tolist())
        chains = chains[list(chosen)]
    edge = border(*grid_of(chains))
    return observation.keep(("border times", name, chosen), lambda: border_times(chains, edge).cpu())


def _slow(observation: Observation, names: Sequence[str], heads: Heads, side: Side) -> Tensor:
    chain = _mixed(observation, names, heads)
    return oriented(slow_mode(chain), border(*grid_of(chain)), side)


def _metastable(observation: Observation, names: Sequence[str], heads: Heads, side: Side) -> Tensor:
    chain = _mixed(observation, names, heads)
    return oriented(chain.metastable(2).values[..., 0] - 0.5, border(*grid_of(chain)), side)


def _tokenrank(observation: Observation, names: Sequence[str], heads: Heads, side: Side) -> Tensor:
    return _mixed(observation, names, heads).tokenrank().values


def _backward(observation: Observation, names: Sequence[str], heads: Heads, side: Side) -> Tensor:
    return _mixed(observation, names, heads).tokenrank(direction="backward").values


_WAYS: dict[str, Callable[[Observation, Sequence[str], Heads, Side], Tensor]] = {
    "border": _border,
    "slow": _slow,
    "metastable": _metastable,
    "tokenrank": _tokenrank,
    "tokenrank-backward": _backward,
}
