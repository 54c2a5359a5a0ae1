"""Attention flow: how much can pass from the output to each patch when attention weights are capacities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..chain import TokenMap, compose
from ..chain.composition import RESIDUAL
from ..chain.starts import Start
from ..errors import ChainError, InputError
from ..layout import TokenLayout
from ..models import Model
from ..observation import Observation
from .layered_flow import flow_values
from .reading import reading_distribution

TOKENS = 256


def attention_flow(
    model: Model,
    inputs: Mapping[str, Any],
    target: Start | None = None,
    *,
    observation: Observation | None = None,
    residual: float = RESIDUAL,
    tokens: int | None = TOKENS,
) -> TokenMap:
    """Attention flow: the maximum flow from CLS at the output to each patch at the input; values ≥ 0, sum 1.

    Abnar and Zuidema, "Quantifying attention flow in transformers" (ACL 2020), section 3: in the layered graph of all
    tokens, CLS and registers included, the edge from i to j of layer l has the capacity residual · δ_ij +
    (1 − residual) · mean_h A_l[i, j], and each patch is asked by itself how much could reach it. Values are divided by
    their sum over the patches (all 0 where no patch is reached: residual = 1).

    Many values are equal or nearly so where attention is dense: no flow exceeds the 1 that leaves CLS, nor the column
    of the patch in the first layer, and one of the two is often the smallest cut. What tells patches apart is then
    the first layer's column sums.

    Cost: P maximum flows over N²(L − 2) + 2N edges, so O(P N² L) and upwards: by far the slowest method
    (``benchmarks/evaluate.py``). Flows are exact to the bound of ``layered_flow.flow_values``.

    Args:
        model: reads pictures.
        inputs: from ``model.prepare``, a batch of one.
        target: None for CLS; without a CLS token all patches evenly. Or a start as in ``raw_row``. No class: an int
            is the number of a patch.
        observation: of the same picture, where there is one.
        residual: share of the residual connection, 0 … 1: ½ in the paper [R]; 0 takes attention weights alone as
            capacities, as public code does [V].
        tokens: at most so many patches. Of a larger grid, squares of f × f patches become one token each (smaller at
            the right and lower edge): columns are added and rows averaged; a square's value is spread evenly over its
            patches. An approximation, and the graph's only one; None never pools.

    Raises:
        InputError: a number of tokens below 1.
        ChainError: layers that differ in their tokens, a share beyond 0 … 1, or a patch that does not exist.
        MissingExtraError: scipy is not installed.
    """
    if tokens is not None and (isinstance(tokens, bool) or tokens < 1):
        raise InputError(f"tokens = {tokens!r}, expected a number of patches from 1 on, or None for all")
    seen = Observation.of(model, inputs, observation)
    layout = seen.layout
    chains = [seen.full(name).aggregate("uniform") for name in seen.layers]
    for name, chain in zip(seen.layers, chains, strict=True):
        if chain.num_tokens != layout.num_tokens:
            raise ChainError(
                f"layer {name!r} has {chain.num_tokens} tokens, expected {layout.num_tokens} as {seen.layers[0]!r}: "
                "flow needs the same tokens in all layers"
            )
    groups = token_groups(layout, 1 if tokens is None else pooling_factor(seen.grid, tokens)).to(chains[0].device)
    layers = [pooled(compose([chain], residual).to_dense(), groups) for chain in chains]
    source = reading_distribution(seen, target) @ groups
    asked = groups[seen.patches.start : seen.patches.stop].argmax(-1)
    flows = flow_values(layers, source, asked.unique().tolist())
    # a group's flow goes to its patches in equal parts
    values = flows[asked - asked.min()] / groups.sum(0)[asked]
    return seen.map(values / values.sum() if values.sum() > 0 else values)


def pooling_factor(grid: tuple[int, int], tokens: int) -> int:
    """The smallest f for which squares of f × f patches (smaller at the edge) are at most ``tokens`` many."""
    factor = 1
    while math.prod(-(-n // factor) for n in grid) > tokens:
        factor += 1
    return factor


def token_groups(layout: TokenLayout, factor: int) -> Tensor:
    """Which token belongs to which group, one-hot (N, K): squares of patches; every other token by itself."""
    rows, columns = layout.grids[layout.picture]  # type: ignore[misc]  # a picture, as Observation.grid has checked
    patches = layout.range(layout.picture)
    down, across = torch.arange(rows) // factor, torch.arange(columns) // factor
    squares = down[:, None] * -(-columns // factor) + across[None, :]
    count = int(squares.max()) + 1
    before = torch.arange(patches.start)
    after = torch.arange(layout.num_tokens - patches.stop) + patches.start + count
    labels = torch.cat([before, squares.flatten() + patches.start, after])
    return torch.nn.functional.one_hot(labels).double()


def pooled(weights: Tensor, groups: Tensor) -> Tensor:
    """Rows averaged and columns added within groups: (N, N) with one-hot (N, K) → (K, K); rows still sum to 1."""
    return (groups.T @ weights.double() @ groups) / groups.sum(0)[:, None]
