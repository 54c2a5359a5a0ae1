"""``saliency``: the object of a picture, without being told where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..chain import AttentionChain, TokenMap
from ..components import component_of, peak_of
from ..errors import InputError
from ..models import ImageSource, Model, load, read_image
from ..observation import Heads, Layer, Observation
from .masks import Segmentation
from .segment import Refine, Threshold, foreground

How: TypeAlias = Literal["border", "slow", "metastable", "tokenrank", "tokenrank-backward"]
Side: TypeAlias = Literal["border", "seed"]

POWER = 16
"""Heads of "border" count by |λ2| to this power; chosen on one half of ECSSD (docs/evidence.md)."""


def saliency(
    image: ImageSource,
    *,
    how: How = "border",
    model: str | Model | Observation = "bundled",
    layers: Sequence[Layer] | None = None,
    heads: Heads = "lambda2",
    side: Side = "border",
    rule: Threshold = "mean",
    component: bool = False,
    refine: Refine | None = None,
    size: int | None = None,
) -> Segmentation:
    """Cut out the object of a picture.

    ::

        tr.tasks.saliency("dog.jpg").save("dog.png")

    Args:
        image: the picture.
        how, layers, heads, side: see ``saliency_map``.
        model: a name for ``tr.load``, a model, or an ``Observation`` of this picture.
        rule: "mean" keeps what is above the mean of the map at the picture's resolution; a number p the fewest pixels
            that hold the share p of its mass (of what exceeds its minimum); None keeps all.
        component: keep the 4-connected part that holds the largest value only.
        refine: "guided" lets the map follow the picture's edges (needs ``pip install 'tokenrank[refine]'``).
        size: long side in pixels that the model gets.

    Returns:
        One label, "object", and its map.

    Raises:
        InputError: a picture or argument that cannot be used. CaptureError, LayoutError: no grid of patches.
    """
    if refine not in (None, "guided"):
        raise InputError(f"refine = {refine!r}, expected None or 'guided'")
    picture = read_image(image)
    if not isinstance(model, Observation):
        loaded = model if isinstance(model, Model) else load(model)
        model = Observation(loaded, loaded.prepare(picture, size))
    found = saliency_map(model, how, layers=layers, heads=heads, side=side)
    values = found.upsample((picture.height, picture.width)).double().cpu().numpy()
    values = values - values.min()
    if refine:
        from .refine import guided

        rows, columns = model.grid
        patch = round(max(picture.height / rows, picture.width / columns))
        values = np.asarray(guided(picture, values, max(1, patch), 1e-3))
    mask = foreground(values, rule)
    if component and mask.any():
        mask = component_of(mask, *peak_of(np.where(mask, values, -np.inf)))
    return Segmentation(mask.astype(np.int64), ("background", "object"), values[None].astype(np.float32))


def saliency_map(
    observation: Observation,
    how: How = "border",
    *,
    layers: Sequence[Layer] | None = None,
    heads: Heads = "lambda2",
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
        layers: all layers, mixed evenly, where None.
        heads: "lambda2", "uniform" or the number of one head. With "border" |λ2|¹⁶, otherwise |λ2|.
        side: which half of "slow" and "metastable" is the object: the one that the border has less of, or ("seed", as
            TokenCut) the one that holds the entry of largest modulus.

    Raises:
        InputError: an argument that is none of these, a picture of fewer than 3 × 3 patches.

    Source: absorption by the border is Jiang et al., "Saliency detection via absorbing Markov chain" (ICCV 2013) on
    superpixels; here the chain is attention.
    """
    if how not in _HOW:
        raise InputError(f"how = {how!r}, expected one of {', '.join(map(repr, _HOW))}")
    if side not in ("border", "seed"):
        raise InputError(f"side = {side!r}, expected 'border' or 'seed'")
    if min(observation.grid) < 3:
        raise InputError(f"the picture has {observation.grid} patches, expected 3 × 3 or more; give a larger size")
    names = observation.layers if layers is None else tuple(observation.layer_name(layer) for layer in layers)
    if not names:
        raise InputError("no layers given, expected one at least, or None for all")
    return observation.keep(
        ("saliency", how, names, heads, side), lambda: observation.map(_HOW[how](observation, names, heads, side))
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
    found = chain.spectrum(2)
    space = found.right[:, 1 : int(found.count)]
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
    """One chain (P, P) of several layers, each layer's heads mixed."""
    dense = [observation.chain(name, heads).to_dense() for name in names]
    if len({d.shape for d in dense}) > 1:
        sizes = sorted({d.shape[-1] for d in dense})
        raise InputError(f"layers have {sizes} patches, expected one grid; name layers of one grid")
    return AttentionChain(torch.stack(dense).mean(0), observation.picture_layout)


def _border(observation: Observation, names: Sequence[str], heads: Heads, side: Side) -> Tensor:
    edge = border(*observation.grid)
    if isinstance(heads, int):
        chains = AttentionChain(torch.stack([observation.chain(name, heads).to_dense() for name in names]))
        weights = torch.ones(len(names), dtype=torch.float64)
    else:
        chains, lambda2 = observation.all_heads(names)
        weights = lambda2.double() ** POWER if heads == "lambda2" else torch.ones_like(lambda2, dtype=torch.float64)
    times = observation.keep(("border times", tuple(names), heads), lambda: border_times(chains, edge))
    return (weights / weights.sum()) @ times


def _slow(observation: Observation, names: Sequence[str], heads: Heads, side: Side) -> Tensor:
    return oriented(slow_mode(_mixed(observation, names, heads)), border(*observation.grid), side)


def _metastable(observation: Observation, names: Sequence[str], heads: Heads, side: Side) -> Tensor:
    found = _mixed(observation, names, heads).metastable(2)
    return oriented(found.values[..., 0] - 0.5, border(*observation.grid), side)


def _tokenrank(observation: Observation, names: Sequence[str], heads: Heads, side: Side) -> Tensor:
    return _mixed(observation, names, heads).tokenrank().values


def _backward(observation: Observation, names: Sequence[str], heads: Heads, side: Side) -> Tensor:
    return _mixed(observation, names, heads).tokenrank(direction="backward").values


_HOW: dict[str, Callable[[Observation, Sequence[str], Heads, Side], Tensor]] = {
    "border": _border,
    "slow": _slow,
    "metastable": _metastable,
    "tokenrank": _tokenrank,
    "tokenrank-backward": _backward,
}
