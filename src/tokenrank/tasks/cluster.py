"""``cluster``: a picture divided into segments by its attention alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Unpack

from ..chain import AttentionChain
from ..errors import InputError
from ..layout import TokenLayout
from ..observation import Observation
from ..progress import track
from ..reading import Reading, Source, observe
from ..select import HEADS, Heads, Layers, whole_number
from .masks import grid_of
from .merging import AnchorGrid, auto_tau, merge, tau_for, tokenrank_grid, uniform_grid
from .segmentation import Segmentation
from .strength import strengths, warn_if_faint

ClusterWay: TypeAlias = Literal["merge", "metastable"]


def cluster(
    source: Source,
    *,
    how: ClusterWay = "merge",
    k: int | None = None,
    tau: float | Literal["auto"] = "auto",
    anchors: int = 16,
    grid: AnchorGrid = "uniform",
    sort: bool = False,
    iterations: int = 3,
    n: int = 1,
    layer: Layers = None,
    heads: Heads = HEADS,
    **reading: Unpack[Reading],
) -> Segmentation:
    """Divide a picture into segments without words, labels or training.

    ::

        tr.tasks.cluster("dog.jpg", k=6).overlay()

    Args:
        source: a picture, or anything else that ``tr.observe`` takes and that holds one, such as the trace of a
            diffusion model.
        how: "merge": DiffSeg's merging of attention maps that say the same (``tokenrank.tasks.merging``).
            "metastable": groups of tokens that the walk rarely leaves (PCCA+, ``chain.metastable``).
        k: number of segments. "merge" then searches the distance that leaves k, or as close as it gets;
            "metastable" takes k states, or chooses where None. Empty segments are dropped.
        tau: "merge": distance below which maps are merged; 1.1 and 0.9 in the paper, for maps of 4,096 tokens.
            "auto" is the distance that 5 % of the pairs of anchors keep below (``merging.auto_tau``).
        anchors: along each side of the grid of anchors; fewer where the picture has fewer tokens.
        grid: "uniform", or by TokenRank: "tokenrank-top", "-nms", "-sample", "-cells" (also "tokenrank").
        sort: bring the anchors in the order of falling TokenRank; merging depends on it.
        iterations: of merging.
        n: bounces: the maps are the rows of Aⁿ.
        layer: one or several, see ``tokenrank.select``. Several are joined as in ``aggregate_resolutions``.
        heads: see ``tokenrank.select.Heads``; DiffSeg has "uniform".
        **reading: what ``tr.observe`` takes beside the source: model, size, image, …

    Returns:
        Labels from 1 without gaps, in the order of the anchors or the states (heaviest first); no background. Scores
        are the proposals (or memberships) in pixels of ``Observation.size``; strengths say which stand out.

    Warns:
        NothingThereWarning: the segments together hardly stand out from each other (``strengths``).

    Raises:
        InputError: a picture or argument that cannot be used. NotFoundError: no such model, layer or head.
        LayoutError, CaptureError: it is unknown which tokens are the picture.

    Source: Tian et al., "Diffuse, Attend, and Segment" (CVPR 2024); Deuflhard, Weber (2005) for PCCA+.
    """
    if how not in get_args(ClusterWay):
        raise InputError(f"how = {how!r}, expected one of {', '.join(get_args(ClusterWay))}")
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InputError(f"n = {n!r} bounces, expected a whole number from 1")
    observation = observe(source, **reading)
    names = (observation.layer(None),) if layer is None else observation.several_layers(layer)
    for name in names:
        grid_of(observation.head_chains(name))
    if k is not None and (whole_number(k) is None or not 1 <= k <= len(observation.patches)):
        count = len(observation.patches)
        raise InputError(f"k = {k!r} segments of {count} patches, expected a whole number from 1 to {count}")
    chain = _joined(observation, names, heads)
    if how == "metastable":
        states = chain.metastable(k)
        proposals = states.values[:, : int(states.count)].mT
    else:
        # merging compares whole rows, so that this is a matrix however the chain is kept
        maps = torch.linalg.matrix_power(chain.operator.to_dense(torch.float64), int(n))
        proposals = merged_maps(chain, maps, k, tau, anchors, grid, sort, iterations)
    seen = "; ".join(observation.describe(name, heads) for name in names)
    labels = from_proposals(proposals, grid_of(chain), observation.size)
    parts = labels.labels == np.arange(1, len(labels.names))[:, None, None]
    caption = f"{observation.name}, {seen}, {how}"
    answer = replace(labels, picture=observation.picture, caption=caption, strengths=strengths(observation, parts))
    if k != 1:
        warn_if_faint(answer.strength, "the division of cluster")
    return answer


def _joined(observation: Observation, names: Sequence[str], heads: Heads) -> AttentionChain:
    """One chain (P, P) of the picture; of several layers a matrix on the finest grid."""
    chains = [observation.chain(name, heads) for name in track(names, "chains of layers")]
    if len(chains) == 1:
        return chains[0]
    maps = [(chain.operator.to_dense(torch.float64), grid_of(chain)) for chain in chains]
    finest = max((own for _, own in maps), key=lambda g: g[0] * g[1])
    return AttentionChain(aggregate_resolutions(maps, finest), TokenLayout.image(*finest, cls_tokens=0))


def merged_maps(
    chain: AttentionChain,
    maps: Tensor,
    k: int | None,
    tau: float | Literal["auto"],
    anchors: int,
    grid: AnchorGrid,
    sort: bool,
    iterations: int,
) -> Tensor:
    """Proposals (K, P) of "merge"; see ``cluster``."""
    shape = grid_of(chain)
    rank = None if grid == "uniform" and not sort else chain.tokenrank().values.to(maps.device)
    if grid == "uniform":
        chosen = uniform_grid(*shape, anchors).to(maps.device)
    else:
        assert rank is not None
        chosen = tokenrank_grid(rank, shape, anchors, grid)
    if sort:
        assert rank is not None
        chosen = chosen[rank[chosen].argsort(descending=True, stable=True)]
    if k is not None:
        distance = tau_for(maps, chosen, k, iterations)
    elif tau == "auto":
        distance = auto_tau(maps, chosen)
    elif isinstance(tau, bool) or not isinstance(tau, int | float):
        raise InputError(f"tau = {tau!r}, expected a positive distance, or 'auto'")
    else:
        distance = float(tau)
    return merge(maps, chosen, distance, iterations)


def from_proposals(proposals: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Segmentation:
    """Every pixel to the proposal that is largest there, after bilinear upsampling.

    Proposals that are largest nowhere are dropped, and labels have no gaps.

    Args:
        proposals: (K, P).
        grid: (rows, columns). size: (height, width) in pixels.

    Source: Tian et al. (CVPR 2024), the arg-max that they call non-maximum suppression.
    """
    maps = proposals.reshape(1, -1, *grid)
    scores = F.interpolate(maps, size, mode="bilinear", align_corners=False)[0].cpu().numpy()
    winner = scores.argmax(0)
    kept, labels = np.unique(winner, return_inverse=True)
    names = ("background", *(f"segment {i + 1}" for i in range(len(kept))))
    return Segmentation(labels.reshape(size) + 1, names, scores[kept].astype(np.float32))


def aggregate_resolutions(
    maps: Sequence[tuple[Tensor, tuple[int, int]]], grid: tuple[int, int] | None = None
) -> Tensor:
    """Attention of layers with different grids as one row-stochastic matrix on the finest.

    Layers of one grid are averaged. Then every query's map of keys is upsampled bilinearly and divided by its sum,
    queries are repeated to the finer grid (nearest), and the resolutions are added with weights R / Σ R, where R is
    the side of the grid, √(rows · columns).

    Args:
        maps: (weights (P, P), (rows, columns)) of each layer, rows of weights sum to one.
        grid: of the answer; the largest of all where None.

    Returns:
        float64 (P, P), rows sum to one.

    Raises:
        InputError: no maps, or weights that do not fit their grid.

    Source: Tian et al., "Diffuse, Attend, and Segment" (CVPR 2024), attention aggregation.
    """
    if not maps:
        raise InputError("no attention given, expected one layer at least")
    groups: dict[tuple[int, int], list[Tensor]] = {}
    for weights, own in maps:
        if weights.shape != (own[0] * own[1],) * 2:
            raise InputError(f"weights have shape {tuple(weights.shape)} for a grid of {own[0]} × {own[1]} tokens")
        groups.setdefault(own, []).append(weights.double())
    target = grid or max(groups, key=lambda g: g[0] * g[1])
    sides = {own: (own[0] * own[1]) ** 0.5 for own in groups}
    total = sum(sides.values())
    mixed = torch.zeros(target[0] * target[1], target[0] * target[1], dtype=torch.float64)
    for own, layers in groups.items():
        mean = torch.stack(layers).mean(0).cpu()
        mixed += sides[own] / total * _resized(mean, own, target)
    return mixed / mixed.sum(-1, keepdim=True)


def _resized(weights: Tensor, own: tuple[int, int], target: tuple[int, int]) -> Tensor:
    if own == target:
        return weights
    keys = F.interpolate(weights.reshape(-1, 1, *own), target, mode="bilinear", align_corners=False).flatten(1)
    keys = keys / keys.sum(-1, keepdim=True)
    rows = torch.arange(target[0]) * own[0] // target[0]
    columns = torch.arange(target[1]) * own[1] // target[1]
    return keys[(rows[:, None] * own[1] + columns).flatten()]
