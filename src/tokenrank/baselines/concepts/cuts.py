"""Walks of k steps over the patches, cut where few of them cross: random-walk NCut, and a word's map by segments.

"Unsupervised Segmentation by Diffusing, Walking and Cutting" (Ivanova et al., WACV 2026, 2412.04678) takes
self-attention for transition probabilities, raises it to the power k, and cuts recursively by normalised cuts [V, its
abstract]. The cut below is that of Meilă and Shi (2001): NCut(S) = P(S → S̄ | S) + P(S̄ → S | S̄) of the walk in its
stationary regime, of the reversible walk that belongs to the symmetric part of the flow. The automatic threshold was
not read; here a part is cut where its NCut is below ``threshold`` [I].
"""

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


def walked_ncut(
    source: Any,
    words: str | Sequence[str],
    *,
    layers: Layers = None,
    calls: Calls = None,
    steps: int = 2,
    threshold: float = 0.7,
    **reading: Any,
) -> ConceptMaps:
    """Cross maps averaged over segments, which are recursive cuts of a walk of k steps over the patches.

    Cross maps and attention among the patches are means over heads, layers and calls; of several grids the finest.

    Args:
        source, words, reading: as ``raw_column``.
        layers: of ``Denoised.blocks``; all where None.
        calls: which forward calls; all where None.
        steps: k of Aᵏ, 1 or more.
        threshold: NCut below which a part is cut.

    Raises:
        NotFoundError: no such word, layer or call. InputError: a source without words, or no steps.
    """
    if steps < 1:
        raise InputError(f"steps = {steps}, expected 1 or more")
    of, every, named = many_layers(source, words, layers, calls, reading)
    found = of_one_grid(every)
    cross = torch.stack([one.attended(one.words).mean(0) for one in found]).mean(0)
    attention = torch.stack([one.among_patches() for one in found]).mean(0)
    labels = segments(walked(attention, steps), threshold)
    told = f"NCut of walks of {steps} steps, {int(labels.max()) + 1} segments, {len(found)} layers and calls"
    return answered(of, named, averaged(cross, labels), found[0].grid, told)


def walked(attention: Tensor, steps: int) -> Tensor:
    """Aᵏ, (…, P, P), in float64."""
    return torch.linalg.matrix_power(attention.double(), steps)


def flow(transitions: Tensor) -> Tensor:
    """The symmetric part of the stationary flow, (diag(π) P + Pᵀ diag(π)) / 2, sums to one, (P, P).

    π is the walk's stationary distribution: the limit of its rows, by repeated squaring.
    """
    power = transitions.double()
    for _ in range(60):
        following = power @ power
        following = following / following.sum(-1, keepdim=True)
        if bool((following - power).abs().amax() < 1e-14):
            break
        power = following
    stationary = power.mean(-2)
    moved = stationary[:, None] * transitions.double()
    return (moved + moved.mT) / 2


def ncut(moved: Tensor, side: Tensor) -> float:
    """NCut of a side (bool (P,)) and the rest in a symmetric flow (P, P); infinite where one of them is empty."""
    across = float(moved[side][:, ~side].sum())
    volumes = float(moved[side].sum()), float(moved[~side].sum())
    return across / volumes[0] + across / volumes[1] if min(volumes) > 0 else float("inf")


def best_cut(moved: Tensor) -> tuple[Tensor, float]:
    """The side whose NCut is smallest among all thresholds of the second eigenvector, and its NCut.

    (D − W) y = λ D y by the symmetric matrix D^−½ W D^−½ (Shi and Malik 2000); every place between two values of y is
    tried, at once by cumulative sums.
    """
    degrees = moved.sum(-1).clamp_min(1e-300)
    root = degrees.rsqrt()
    y = torch.linalg.eigh(root[:, None] * moved * root)[1][:, -2] * root
    order = y.argsort()
    sorted_flow = moved[order][:, order]
    volume = degrees[order].cumsum(0)[:-1]
    inside = sorted_flow.cumsum(0).cumsum(1).diagonal()[:-1]  # flow among the first k
    across = (volume - inside).clamp_min(0)
    costs = across / volume + across / (degrees.sum() - volume)
    place = int(costs.argmin())
    side = torch.zeros(len(y), dtype=torch.bool)
    side[order[: place + 1]] = True
    return side, float(costs[place])


def segments(transitions: Tensor, threshold: float, smallest: int = 2) -> Tensor:
    """Segments by recursive cuts: a part of a walk is cut while its NCut is below ``threshold``.

    Args:
        transitions: (P, P), rows sum to one: ``walked``.
        threshold: 0 … 2; NCut of the best cut below which it is made.
        smallest: patches of a part that is still cut.

    Returns:
        int64 (P,), numbers from 0 in order of appearance.
    """
    moved = flow(transitions)
    labels = torch.zeros(len(moved), dtype=torch.int64)
    waiting, made = [torch.arange(len(moved))], 1
    while waiting:
        places = waiting.pop()
        if len(places) < max(2, smallest):
            continue
        side, cost = best_cut(moved[places][:, places])
        if cost >= threshold or bool(side.all()) or not bool(side.any()):
            continue
        labels[places[side]] = made
        made += 1
        waiting += [places[side], places[~side]]
    return torch.unique(labels, return_inverse=True)[1]


def averaged(maps: Tensor, labels: Tensor) -> Tensor:
    """Maps (W, P) with each patch's value replaced by the mean of its segment (P,)."""
    member = torch.nn.functional.one_hot(labels).to(maps.dtype)
    return (maps @ member / member.sum(0)) @ member.mT
