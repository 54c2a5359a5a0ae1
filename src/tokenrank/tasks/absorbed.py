"""Bounces until the border of the picture: a saliency that takes for granted that objects keep away from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..chain import AttentionChain
from ..observation import Observation
from ..progress import track
from ..select import Heads
from .masks import grid_of

POWER = 16
"""Heads count by |λ2| to this power; chosen on one half of ECSSD (docs/evidence.md)."""


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


def absorbed(observation: Observation, names: Sequence[str], heads: Heads) -> Tensor:
    """``border_times`` of all heads of some layers, mixed: float64 (P,)."""
    weights = torch.cat([_weights(observation, name, heads) for name in track(names, "|λ2| of layers")])
    if not bool(weights.any()):  # no head is slower than another
        weights = torch.ones_like(weights)
    return (weights / weights.sum()) @ torch.cat(
        [_times(observation, name, heads) for name in track(names, "bounces to the border, layers")]
    )


def _weights(observation: Observation, name: str, heads: Heads) -> Tensor:
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
