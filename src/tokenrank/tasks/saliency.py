"""``saliency``: the object of a picture, without being told where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from typing_extensions import Unpack

from ..chain import AttentionChain, TokenMap
from ..chain.foreground import ForegroundRule, foreground, is_constant
from ..errors import InputError, NotFoundError
from ..observation import Observation
from ..progress import track
from ..reading import Reading, Source, observe
from ..select import Heads, Layers
from .absorbed import absorbed
from .arrival import arrival, geometric_mean, last_quarter, layers_words, one_grid
from .halves import Side, oriented, slow_mode
from .masks import Refinement, check_refinement, grid_of, part_at, refined
from .segmentation import Segmentation
from .strength import strengths, warn_if_faint

SaliencyWay: TypeAlias = Literal["arrival", "border", "slow", "metastable", "tokenrank"]

_OF_ARRIVAL = {"start", "backward", "n", "what", "features_layer", "tau"}


def saliency(
    source: Source,
    *,
    how: SaliencyWay | Callable[[Observation], TokenMap] = "arrival",
    layer: Layers = None,
    heads: Heads | None = None,
    side: Side = "tokenrank",
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
        how: a way of ``saliency_map``, or a function of an observation that makes a map of its patches, such as
            ``tr.baselines.cls_row`` or ``functools.partial(tr.tasks.arrival, start="cls")``.
        layer, heads, side: see ``saliency_map``; a function has options of its own.
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
        InputError: a picture or argument that cannot be used. NotFoundError: no such option. CaptureError, LayoutError:
            no grid of patches, or no features where they are needed; ``how="border"`` needs attention alone.
    """
    for option in sorted(_OF_ARRIVAL & {*reading}):
        raise NotFoundError(
            f"no option {option!r} of saliency: it is one of arrival; "
            f"how=functools.partial(tr.tasks.arrival, {option}=…)"
        )
    observation = observe(source, **reading)
    picture = observation.picture
    check_refinement(refine, picture)
    if callable(how):
        patches, way = how(observation), getattr(how, "__name__", "a map of its own")
    else:
        patches, way = saliency_map(observation, how, layer=layer, heads=heads, side=side), how
    values = patches.upsample(observation.size).double().cpu().numpy()
    # a constant map is zero, and not what rounding leaves of it
    values = np.zeros_like(values) if bool(is_constant(values, 2)) else values - values.min()
    if refine and picture is not None:
        rows, columns = patches.grid().shape
        values = refined(values, picture, (rows, columns))
    mask = foreground(values, rule, axes=2)
    if component:
        mask = part_at(mask, values)
    caption = f"{observation.name}, {way}{f' ({patches.caption})' if patches.caption else ''}, rule {rule}"
    scores = values[None].astype(np.float32)
    found = strengths(observation, mask[None])
    if found is not None and rule is not None:
        warn_if_faint(found[0], "the object of saliency")
    return Segmentation(mask.astype(np.int64), ("background", "object"), scores, picture, caption, found)


def saliency_map(
    observation: Observation,
    how: SaliencyWay = "arrival",
    *,
    layer: Layers = None,
    heads: Heads | None = None,
    side: Side = "tokenrank",
) -> TokenMap:
    """How much every patch belongs to the object, (P,); no seed is given.

    Args:
        observation: a picture seen by a model.
        how: - "arrival": where attention arrives in the end, spread over the patches that look alike to the model
               (``arrival``, which has further options). It takes a second forward.
             - "border": bounces until the walk gets to the border of the picture, head by head, each divided by its
               mean (``border_times``); it takes for granted that objects keep away from the border.
             - "slow": the slowest mode of the chain (``slow_mode``), the relaxed cut of TokenCut on attention itself.
             - "metastable": membership of the object's half, of two (PCCA+).
             - "tokenrank": where attention arrives: the place of the object rather than its extent.
        layer: one or several; where None the last quarter of the layers, with "border" all. "arrival" and "tokenrank"
            take the geometric mean of their TokenRanks, "slow" and "metastable" the even mean of their chains.
        heads: see ``tokenrank.select.Heads``. Where None evenly with "arrival" and "tokenrank", by |λ2|¹⁶ with
            "border", by |λ2| with "slow" and "metastable".
        side: which half of "slow" and "metastable" is the object: the one where attention arrives, the one that the
            "border" has less of, or ("seed", as TokenCut) the one that holds the entry of largest modulus.

    Raises:
        InputError: an argument that is none of these, layers of several grids, fewer than 3 × 3 patches; with
            "arrival" a source that cannot run again. CaptureError, LayoutError: with "arrival", no block outputs.

    Source: absorption by the border is Jiang et al., "Saliency detection via absorbing Markov chain" (ICCV 2013) on
    superpixels; here the chain is attention.
    """
    if how not in get_args(SaliencyWay):
        raise InputError(f"how = {how!r}, expected one of {', '.join(map(repr, get_args(SaliencyWay)))}")
    if side not in get_args(Side):
        raise InputError(f"side = {side!r}, expected one of {', '.join(map(repr, get_args(Side)))}")
    grid_of(observation.head_chains(observation.several_layers(layer)[-1]))  # that there is a picture comes first
    if how == "arrival" and not observation.can_run:
        raise InputError(
            f"how='arrival', the default, takes block outputs from another forward, and {observation.name} was "
            "captured before; observe the source with its model, tr.observe(source, model=…), or take attention alone: "
            "how='border', 'tokenrank', 'slow' or 'metastable'; a trace with queries and keys has "
            "how=functools.partial(tr.tasks.arrival, what='k')"
        )
    names = observation.several_layers(layer)
    if layer is None and how != "border":
        names = last_quarter(names)
    if heads is None:
        heads = "uniform" if how in ("arrival", "tokenrank") else "lambda2"
    grid = one_grid(observation, names)
    if min(grid) < 3:
        raise InputError(f"the picture has {grid[0]} × {grid[1]} patches, expected 3 × 3 or more; give a larger size")
    key = "saliency", how, names, heads if isinstance(heads, str | int) else tuple(heads), side
    return observation.keep(key, lambda: _map(observation, how, names, heads, side))


def _map(observation: Observation, how: SaliencyWay, names: Sequence[str], heads: Heads, side: Side) -> TokenMap:
    if how == "arrival":
        return arrival(observation, layer=names, heads=heads)
    if how == "border":
        values = absorbed(observation, names, heads)
    elif how == "tokenrank":
        values = geometric_mean(
            [observation.chain(name, heads).tokenrank().values for name in track(names, "TokenRank of layers")]
        )
    else:
        chain = _mixed(observation, names, heads)
        halves = slow_mode(chain) if how == "slow" else chain.metastable(2).values[..., 0] - 0.5
        values = oriented(halves, chain, side)
    words = f"{layers_words(observation, names)}, heads {heads}"
    layout = observation.head_chains(names[0]).layout
    return TokenMap(values, layout, picture=observation.picture, caption=words)


def _mixed(observation: Observation, names: Sequence[str], heads: Heads) -> AttentionChain:
    """One chain (P, P) of several layers, each layer's heads mixed; of several a matrix, their mean."""
    first, *others = (observation.chain(name, heads) for name in track(names, "chains of layers"))
    if not others:
        return first
    total = first.operator.to_dense(torch.float64)
    for chain in others:
        total = total + chain.operator.to_dense(torch.float64)
    return AttentionChain(total / len(names), first.layout)
