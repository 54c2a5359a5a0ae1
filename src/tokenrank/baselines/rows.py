"""Rows and columns of attention: a patch's row, CLS's row, the part of it that DINO keeps, and the columns' sums."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from ..chain import Start, TokenMap, start_distribution
from ..chain.foreground import is_constant
from ..errors import ChainError, InputError, LayoutError
from ..layout import TokenLayout
from ..observation import Observation
from ..reading import Reading, Source, observe
from ..select import HEADS, SEED_LAYER, Heads, Layer
from ..tasks.masks import grid_of
from .objects import ForegroundMap
from .registry import register

SHARE = 0.6


@register("raw_row", needs=("seed",))
def raw_row(
    source: Source,
    *,
    start: Start | None = None,
    layer: Layer = None,
    heads: Heads = HEADS,
    **reading: Unpack[Reading],
) -> TokenMap:
    """Attention of one patch to all patches: a row of the layer's attention, values ≥ 0, sum 1.

    Row selection, the comparison of "Attention (as Discrete-Time Markov) Chains" (NeurIPS 2025): the first bounce from
    a single token. CLS and registers are dropped and rows renormalised, as for multi-bounce attention, so that the
    two differ in the number of bounces alone.

    >>> import tokenrank as tr
    >>> tr.baselines.raw_row(tr.samples.path("chelsea"), start=tr.at(0.5, 0.4), size=64).grid().shape
    torch.Size([5, 8])

    Args:
        source, reading: see ``tr.observe``.
        start: ``tr.at(x, y)``, the number of a patch (row by row), or several, a bool mask (P,), float weights (P,) or
            ``{patch: weight}``, whose rows are averaged (``tokenrank.chain.start_distribution``). Required.
        layer, heads: see ``tokenrank.select``; the last layer where None.

    Raises:
        InputError: no start, or no choice of heads.
        ChainError: a patch out of range, an empty mask, weights that cannot be normalised, or whole numbers that could
            be patches or weights.
        NotFoundError: no such layer or head.
    """
    observation = observe(source, **reading)
    if start is None:
        raise InputError("raw_row starts from a place and start is None; give start=tr.at(x, y) or a patch's number")
    return observation.chain(SEED_LAYER if layer is None else layer, heads).bounce(start, n=1)


@register("column_sum")
def column_sum(source: Source, *, layer: Layer = None, heads: Heads = HEADS, **reading: Unpack[Reading]) -> TokenMap:
    """Attention that a patch receives from all patches, Σ_i A_ij: values ≥ 0, mean 1.

    Divided by the number of patches it is the first bounce from the uniform start, of which TokenRank is the limit
    ("Attention (as Discrete-Time Markov) Chains", NeurIPS 2025). Values above 1, the mean, are the mask of
    Self-Attention Guidance (Hong et al., ICCV 2023), and of ``map.mask()``. CLS and registers are dropped and rows
    renormalised first.

    Args:
        source, reading: see ``tr.observe``.
        layer, heads: see ``tokenrank.select``; three quarters up where None.

    Raises:
        NotFoundError: no such layer or head. InputError: no choice of heads.
    """
    observation = observe(source, **reading)
    sums = observation.chain(layer, heads).operator.column_sums(torch.float64)
    return observation.map(sums, observation.layer(layer))


@register("cls_row")
def cls_row(source: Source, *, layer: Layer = -1, heads: Heads = "uniform", **reading: Unpack[Reading]) -> TokenMap:
    """Attention of CLS to the patches, mean over heads: mean_h A_h[CLS, patches].

    The self-attention maps of DINO (Caron et al., ICCV 2021, figure 1), and "raw attention" in Chefer et al. (CVPR
    2021); as published the last layer, all heads evenly. Rows are taken as the model computed them: what CLS gives to
    itself and to registers is left out and not made up for, so that values sum to less than 1.

    Args:
        source, reading: see ``tr.observe``.
        layer, heads: see ``tokenrank.select``; "lambda2" is that of the patches' chain.

    Raises:
        LayoutError: the model has no CLS.
        NotFoundError: no such layer or head. InputError: no choice of heads.
    """
    observation = observe(source, **reading)
    rows = cls_rows(observation, layer)
    return observation.map(observation.head_weights(layer, heads).to(rows.device) @ rows, observation.layer(layer))


@register("dino_mass")
def dino_mass(
    source: Source,
    *,
    layer: Layer = -1,
    heads: Heads = "uniform",
    share: float = SHARE,
    **reading: Unpack[Reading],
) -> ForegroundMap:
    """Attention of CLS with each head cut to the patches that hold most of it, mean over heads.

    Each head's row A_h[CLS, patches] is divided by its sum; the fewest patches that hold the share keep their value,
    all others get 0 (Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021: 60 %, last
    layer). Values ≥ 0, sum from ``share`` to 1.

    ``map.foreground`` is DINO's mask: with the number of one head exactly that head's. DINO picks the head that fits
    the ground truth best; a vote needs none: a patch is foreground where the heads that keep it hold more than half of
    the weight.

    Args:
        source, reading: see ``tr.observe``.
        layer, heads: see ``tokenrank.select``; "lambda2" is that of the patches' chain.
        share: of the mass that the kept patches hold, above 0 and at most 1.

    Raises:
        LayoutError: the model has no CLS.
        NotFoundError: no such layer or head. InputError: no choice of heads.
        ChainError: a share beyond (0, 1].
    """
    observation = observe(source, **reading)
    rows = cls_rows(observation, layer)
    kept = kept_mass(rows, share)
    weights = observation.head_weights(layer, heads).to(kept.device)
    # a head that looks at all patches alike votes for none of them
    votes = weights @ ((kept > 0) & ~is_constant(rows)[:, None]).double()
    grid = grid_of(observation.head_chains(layer))
    foreground = (votes > 0.5).reshape(grid)
    layout = TokenLayout.image(*grid, cls_tokens=0)
    return ForegroundMap(weights @ kept, layout, foreground=foreground).judged(observation)


def cls_rows(observation: Observation, layer: Layer = -1) -> Tensor:
    """Attention of CLS to the patches in one layer, head by head: (heads, P) in float64.

    Raises:
        LayoutError: the model has no CLS. NotFoundError: no such layer.
    """
    chains = observation.head_chains(layer, "all")
    layout = observation.layout if chains.layout is None else chains.layout
    if "cls" not in layout.spans:
        raise LayoutError(
            f"this method reads the attention of CLS, and the tokens are {dict(layout.spans)}; use column_sum or "
            "rollout, which need none, or a model with a CLS token"
        )
    read, patches = read_tokens(layout), layout.range(layout.picture)
    rows = chains.operator.rows(read.start, read.stop, torch.float64)
    return rows[..., patches.start : patches.stop].mean(-2)


def kept_mass(rows: Tensor, share: float = SHARE) -> Tensor:
    """Rows divided by their sums, cut to the fewest entries that hold ``share`` of it: (…, P) → (…, P).

    Of equal entries at the edge those that come first are kept. A row without mass keeps nothing.

    Raises:
        ChainError: a share beyond (0, 1].
    """
    if isinstance(share, bool) or not 0 < share <= 1:
        raise ChainError(f"share = {share!r}, expected a share of the mass above 0 and at most 1")
    total = rows.sum(-1, keepdim=True)
    normal = torch.where(total > 0, rows / total, 0.0)
    order = normal.sort(dim=-1, descending=True, stable=True)
    held = order.values.cumsum(-1)
    before = torch.cat([torch.zeros_like(held[..., :1]), held[..., :-1]], -1)  # exact, unlike held minus the value
    return torch.zeros_like(normal).scatter(-1, order.indices, order.values.where(before < share, 0.0))


def read_tokens(layout: TokenLayout) -> range:
    """Tokens from which a model reads its answer: CLS, or all patches (their mean) where there is none."""
    return layout.range("cls" if "cls" in layout.spans else layout.picture)


def read_distribution(observation: Observation, start: Start | None = None) -> Tensor:
    """Where a walk through all layers begins, a distribution over all tokens (N,) in float64.

    ``start`` None: the tokens that the answer is read from, evenly. Otherwise a start among the patches, by their
    numbers row by row.

    Raises:
        ChainError: a patch out of range, an empty mask, or no distribution.
    """
    layout, patches = observation.layout, observation.patches
    values = torch.zeros(layout.num_tokens, dtype=torch.float64, device=observation.head_chains(-1, "all").device)
    if start is None:
        read = read_tokens(layout)
        values[read.start : read.stop] = 1 / len(read)
    else:
        shape = torch.Size((len(patches), len(patches)))
        chosen = start_distribution(start, shape, observation.picture_layout)
        values[patches.start : patches.stop] = chosen.to(values.device)
    return values


def on_patches(observation: Observation, values: Tensor) -> Tensor:
    """Values of all tokens (…, N) → of the patches (…, P)."""
    return values[..., observation.patches.start : observation.patches.stop]
