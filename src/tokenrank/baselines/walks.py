"""Walks: what the library itself makes of attention, under the names and with the verb of its baselines."""

from __future__ import annotations

from typing_extensions import Unpack

from ..chain import TokenMap
from ..chain.core import Direction
from ..errors import InputError
from ..layout import Point
from ..markov import Bounces
from ..observation import What
from ..reading import Reading, Source, observe
from ..select import HEADS, SEED_LAYER, Heads, Layer, Layers
from ..tasks import arrival as _arrival
from ..tasks.arrival import ArrivalStart
from ..tasks.halves import Side
from ..tasks.saliency import SaliencyWay, saliency_map
from .registry import register


@register("bounce", needs=("seed",))
def bounce(
    source: Source,
    *,
    start: Point | None = None,
    n: Bounces = 2,
    layer: Layer = None,
    heads: Heads = HEADS,
    direction: Direction = "forward",
    **reading: Unpack[Reading],
) -> TokenMap:
    """Multi-bounce attention from a place, on the patches alone: vᵀAⁿ, values ≥ 0, sum 1.

    >>> import tokenrank as tr
    >>> tr.baselines.bounce(tr.samples.path("chelsea"), start=tr.at(0.5, 0.4), n=2, size=64).grid().shape
    torch.Size([5, 8])

    Args:
        source, reading: see ``tr.observe``.
        start: ``tr.at(x, y)``. Required.
        n, direction: see ``AttentionChain.bounce``.
        layer, heads: see ``tokenrank.select``; the last layer where None.

    Raises:
        InputError: no start. NotFoundError: no such layer or head.

    Source: "Attention (as Discrete-Time Markov) Chains" (NeurIPS 2025), multi-bounce attention.
    """
    observation = observe(source, **reading)
    if start is None:
        raise InputError("bounce starts from a place and start is None; give start=tr.at(x, y)")
    return observation.chain(SEED_LAYER if layer is None else layer, heads).bounce(start, n, direction)


@register("cls_bounce")
def cls_bounce(
    source: Source,
    *,
    n: Bounces = 2,
    layer: Layer = None,
    heads: Heads = HEADS,
    direction: Direction = "forward",
    **reading: Unpack[Reading],
) -> TokenMap:
    """Multi-bounce attention from CLS, on all tokens; what ends at the patches, heads weighed as on the patches.

    Args:
        source, reading: see ``tr.observe``.
        n, direction: see ``AttentionChain.bounce``.
        layer, heads: see ``tokenrank.select``; the last layer where None.

    Raises:
        NotFoundError: no such layer or head, or no CLS.
    """
    observation = observe(source, **reading)
    layer = SEED_LAYER if layer is None else layer
    every = observation.head_chains(layer, "all").aggregate(observation.head_weights(layer, heads))
    values = every.bounce("cls", n, direction).values
    return observation.map(values[observation.patches.start : observation.patches.stop], observation.layer(layer))


@register("tokenrank")
def tokenrank(
    source: Source,
    *,
    layer: Layer = None,
    heads: Heads = HEADS,
    direction: Direction = "forward",
    alpha: float = 0.99,
    **reading: Unpack[Reading],
) -> TokenMap:
    """TokenRank, the stationary distribution of the patches' chain: values ≥ 0, sum 1, certified.

    Args:
        source, reading: see ``tr.observe``.
        layer, heads: see ``tokenrank.select``; three quarters up where None.
        direction, alpha: see ``AttentionChain.tokenrank``.

    Raises:
        NotFoundError: no such layer or head.

    Source: "Attention (as Discrete-Time Markov) Chains" (NeurIPS 2025), TokenRank.
    """
    observation = observe(source, **reading)
    return observation.chain(layer, heads).tokenrank(alpha=alpha, direction=direction)


@register("arrival", needs=("features",))
def arrival(
    source: Source,
    *,
    layer: Layers = None,
    heads: Heads = "uniform",
    start: ArrivalStart = "tokenrank",
    backward: bool = True,
    n: int = 2,
    what: What = "h",
    features_layer: Layer = -1,
    tau: float | None = None,
    **reading: Unpack[Reading],
) -> TokenMap:
    """TokenRank spread over the patches that look alike to the model, as ``tr.tasks.saliency`` takes it.

    Args:
        source, reading: see ``tr.observe``.
        layer, heads, start, backward, n, what, features_layer, tau: see ``tr.tasks.arrival``.
    """
    observation = observe(source, **reading)
    return _arrival(
        observation,
        layer=layer,
        heads=heads,
        start=start,
        backward=backward,
        n=n,
        what=what,
        features_layer=features_layer,
        tau=tau,
    )


@register("saliency", needs=("features",))
def saliency(
    source: Source,
    *,
    how: SaliencyWay = "arrival",
    layer: Layers = None,
    heads: Heads | None = None,
    side: Side = "tokenrank",
    **reading: Unpack[Reading],
) -> TokenMap:
    """The map behind ``tr.tasks.saliency``.

    Args:
        source, reading: see ``tr.observe``.
        how, layer, heads, side: see ``tr.tasks.saliency_map``.
    """
    return saliency_map(observe(source, **reading), how, layer=layer, heads=heads, side=side)
