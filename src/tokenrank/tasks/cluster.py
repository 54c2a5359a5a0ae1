"""``cluster``: a picture divided into segments by its attention alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..chain import AttentionChain
from ..errors import InputError
from ..layout import TokenLayout
from ..models import ImageSource, read_image
from .anchors import AnchorGrid, tokenrank_grid, uniform_grid
from .masks import Segmentation
from .merging import auto_tau, merge, tau_for
from .resolutions import aggregate_resolutions
from .sources import Heads, Source, grid_of, one_chain, picture_chains, picture_part

How: TypeAlias = Literal["merge", "metastable"]


def cluster(
    image: ImageSource,
    *,
    model: Source = "bundled",
    how: How = "merge",
    k: int | None = None,
    tau: float | Literal["auto"] = "auto",
    anchors: int = 16,
    grid: AnchorGrid = "uniform",
    sort: bool = False,
    iterations: int = 3,
    n: int = 1,
    layers: int | str | Sequence[int | str] | None = None,
    heads: Heads = "uniform",
    size: int | None = None,
) -> Segmentation:
    """Divide a picture into segments without words, labels or training.

    Args:
        image: the picture.
        model: a name for ``tr.load``, a model, or attention that was captured already (``Observation``, ``Trace``,
            chain), such as of a diffusion model.
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
        layers: one or several; two thirds up the stack where None. Several are joined as in
            ``aggregate_resolutions``.
        heads: "uniform", as DiffSeg; "lambda2", or one head.
        size: long side in pixels that the model gets.

    Returns:
        Labels from 1 without gaps, in the order of the anchors or the states (heaviest first); no background. Scores
        are the proposals (or memberships) at the picture's resolution.

    Raises:
        InputError: a picture or argument that cannot be used. NotFoundError: no such model or layer.
        LayoutError, CaptureError: it is unknown which tokens are the picture.

    Source: Tian et al., "Diffuse, Attend, and Segment" (CVPR 2024); Deuflhard, Weber (2005) for PCCA+.
    """
    picture = read_image(image)
    chains = picture_chains(model, picture, layers, size)
    parts = [one_chain(picture_part(chain), heads) for chain in chains.values()]
    if len(parts) == 1:
        chain, shape = parts[0], grid_of(parts[0])
    else:
        maps = [(part.to_dense(), grid_of(part)) for part in parts]
        shape = max((own for _, own in maps), key=lambda g: g[0] * g[1])
        chain = AttentionChain(aggregate_resolutions(maps, shape), TokenLayout.image(*shape, cls_tokens=0))
    return cluster_chain(
        chain, (picture.height, picture.width), how=how, k=k, tau=tau, anchors=anchors, grid=grid, sort=sort,
        iterations=iterations, n=n,
    )  # fmt: skip


def cluster_chain(
    chain: AttentionChain,
    size: tuple[int, int],
    *,
    how: How = "merge",
    k: int | None = None,
    tau: float | Literal["auto"] = "auto",
    anchors: int = 16,
    grid: AnchorGrid = "uniform",
    sort: bool = False,
    iterations: int = 3,
    n: int = 1,
) -> Segmentation:
    """``cluster`` for one chain (P, P) over the picture's tokens alone.

    Args:
        size: (height, width) of the segmentation in pixels.
        how, k, tau, anchors, grid, sort, iterations, n: as in ``cluster``.
    """
    if how not in get_args(How):
        raise InputError(f"how = {how!r}, expected one of {', '.join(get_args(How))}")
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InputError(f"n = {n!r} bounces, expected a whole number from 1")
    shape = grid_of(chain)
    if how == "metastable":
        found = chain.metastable(k)
        proposals = found.values[:, : int(found.count)].mT
    else:
        maps = torch.linalg.matrix_power(chain.to_dense().double(), int(n))
        proposals = merged_maps(chain, maps, k, tau, anchors, grid, sort, iterations)
    return from_proposals(proposals, shape, size)


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
