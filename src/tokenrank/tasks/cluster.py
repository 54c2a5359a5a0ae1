"""``cluster``: a picture divided into segments by its attention alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from ..operators import Dense
from ..progress import track
from ..reading import Reading, Source, observe
from ..select import HEADS, Heads, Layers, checked_heads, mixed, whole_number
from .anchors import AnchorGrid, anchors_of
from .masks import grid_of
from .merging import auto_tau, merge, symmetric_kl, tau_for
from .resolutions import OneLayer, aggregate_resolutions
from .segmentation import Segmentation
from .strength import strengths, warn_if_faint

ClusterWay: TypeAlias = Literal["merge", "metastable"]

AT_A_TIME = 16  # proposals in pixels: of 256 in double precision, 512 × 512 would take half a gigabyte


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
        grid: of the anchors (``tokenrank.tasks.anchors``): "uniform"; by TokenRank, "tokenrank-top", "-nms",
            "-sample", "-cells" (also "tokenrank"); "metastable": every group that the walk rarely leaves has as many.
        sort: bring the anchors in the order of falling TokenRank; merging depends on it.
        iterations: of merging.
        n: bounces: the maps are the rows of Aⁿ.
        layer: one or several, see ``tokenrank.select``; "*" for all. Several are joined as in
            ``aggregate_resolutions``, one after the other: a UNet's grids may differ.
        heads: see ``tokenrank.select.Heads``; DiffSeg has "uniform".
        **reading: what ``tr.observe`` takes beside the source: model, size, image, …

    DiffSeg as published, on the trace of Stable Diffusion's UNet (no noise, time step 300, an empty prompt)::

        tr.tasks.cluster(trace, layer="*", heads="uniform", tau=1.1)

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
    shape = max((grid_of(observation.head_chains(name)) for name in names), key=lambda g: g[0] * g[1])
    count = shape[0] * shape[1]
    if k is not None and (whole_number(k) is None or not 1 <= k <= count):
        raise InputError(f"k = {k!r} segments of {count} patches, expected a whole number from 1 to {count}")
    chain = _joined(observation, names, heads)
    if how == "metastable":
        states = chain.metastable(k)
        proposals = states.values[:, : int(states.count)].mT
    else:
        chosen = observation.keep(
            ("anchors", names, checked_heads(heads), anchors, grid, sort),
            lambda: anchors_of(chain, shape, anchors, grid, sort),
        )
        proposals = merged_maps(chain, chosen, k, tau, iterations, n)
    seen = "; ".join(observation.describe(name, heads) for name in names)
    labels = from_proposals(proposals, shape, observation.size)
    parts = labels.labels == np.arange(1, len(labels.names))[:, None, None]
    caption = f"{observation.name}, {seen}, {how}"
    answer = replace(labels, picture=observation.picture, caption=caption, strengths=strengths(observation, parts))
    if k != 1:
        warn_if_faint(answer.strength, "the division of cluster")
    return answer


def _joined(observation: Observation, names: Sequence[str], heads: Heads) -> AttentionChain:
    """One chain (P, P) of the picture; of several layers a matrix on the finest grid, kept with the observation."""
    if len(names) == 1:
        return observation.chain(names[0], heads)
    return observation.keep(
        ("joined", tuple(names), checked_heads(heads)), lambda: joined_chain(observation, names, heads)
    )


def joined_chain(observation: Observation, names: Sequence[str], heads: Heads = HEADS) -> AttentionChain:
    """Several layers of a picture as one chain on their finest grid; see ``aggregate_resolutions``.

    Args:
        names: of the layers. heads: see ``tokenrank.select.Heads``.

    Raises:
        As ``Observation.chain``.
    """
    grids = [grid_of(observation.head_chains(name)) for name in names]
    finest = max(grids, key=lambda g: g[0] * g[1])

    def layers() -> Iterator[OneLayer]:
        for name, own in zip(track(names, "chains of layers"), grids, strict=True):
            moduli = observation.lambda2(name).values if checked_heads(heads) == "lambda2" else None
            yield mixed(observation.head_chains(name), heads, moduli, name), own

    # its rows sum to one, so that nothing has to be checked or copied
    operator = Dense(aggregate_resolutions(layers(), finest))
    return AttentionChain.from_operator(operator, TokenLayout.image(*finest, cls_tokens=0), observation.picture)


def merged_maps(
    chain: AttentionChain,
    anchors: Tensor,
    k: int | None = None,
    tau: float | Literal["auto"] = "auto",
    iterations: int = 3,
    n: int = 1,
) -> Tensor:
    """Proposals (K, P) of "merge"; see ``cluster``.

    Args:
        chain: (P, P). anchors: int64 (M,), see ``anchors_of``.
    """
    # merging compares whole rows, so that this is a matrix however the chain is kept
    maps = chain.operator.to_dense()
    maps = maps if n == 1 else torch.linalg.matrix_power(maps, n)
    anchors = anchors.to(maps.device)
    distances = symmetric_kl(maps[anchors], maps)
    if k is not None:
        distance = tau_for(maps, anchors, k, iterations, distances=distances)
    elif tau == "auto":
        distance = auto_tau(distances[:, anchors])
    elif isinstance(tau, bool) or not isinstance(tau, int | float):
        raise InputError(f"tau = {tau!r}, expected a positive distance, or 'auto'")
    else:
        distance = float(tau)
    return merge(maps, anchors, distance, iterations, distances=distances)


def from_proposals(proposals: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Segmentation:
    """Every pixel to the proposal that is largest there, after bilinear upsampling.

    Proposals that are largest nowhere are dropped, and labels have no gaps.

    Args:
        proposals: (K, P).
        grid: (rows, columns). size: (height, width) in pixels.

    Source: Tian et al. (CVPR 2024), the arg-max that they call non-maximum suppression.
    """
    maps = proposals.reshape(-1, 1, *grid)

    def upsampled(part: Tensor) -> Tensor:
        return F.interpolate(part, size, mode="bilinear", align_corners=False)[:, 0].cpu()

    highest, winner = torch.full(size, -torch.inf, dtype=maps.dtype), torch.zeros(size, dtype=torch.long)
    for start in range(0, len(maps), AT_A_TIME):
        top = upsampled(maps[start : start + AT_A_TIME]).max(0)
        winner = torch.where(top.values > highest, top.indices + start, winner)
        highest = torch.maximum(highest, top.values)
    kept, labels = np.unique(winner.numpy(), return_inverse=True)
    names = ("background", *(f"segment {i + 1}" for i in range(len(kept))))
    scores = [upsampled(part).float().numpy() for part in maps[torch.from_numpy(kept)].split(AT_A_TIME)]
    return Segmentation(labels.reshape(size) + 1, names, np.concatenate(scores))
