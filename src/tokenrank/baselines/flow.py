"""Flow through all layers: attention rollout, and the maximum flow when attention weights are capacities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Unpack

from ..chain import AttentionChain, Start, TokenMap, compose
from ..chain.composition import RESIDUAL
from ..errors import ChainError, InputError, require
from ..layout import TokenLayout
from ..observation import Observation
from ..operators import Operator
from ..progress import track
from ..reading import Reading, Source, observe
from ..select import whole_number
from .registry import register
from .rows import on_patches, read_distribution

PATCHES = 256

UNITS = 2**30
"""Whole units that all flow out of the source is counted in: the solver knows 32-bit integers alone."""

SHORTCUTS = ((6, 0.15), (4, 1.0))
"""(layers, share of their edges) of smaller graphs that are tried first. Attention from the layers above is taken as it
spreads by itself, which is a flow. So what arrives is a lower bound, and where it reaches the upper one (all that
leaves the source, or the token's whole column in the first layer) the value is known without the large graph."""


@register("rollout")
def rollout(
    source: Source,
    *,
    start: Start | None = None,
    start_layer: int = 0,
    residual: float = RESIDUAL,
    **reading: Unpack[Reading],
) -> TokenMap:
    """Attention rollout: the row of CLS over the patches in Ã_L ⋯ Ã_1, Ã_l = rownorm(mean_h A_l + I).

    Abnar and Zuidema, "Quantifying attention flow in transformers" (ACL 2020), section 3, over all tokens, CLS and
    registers included, as published all heads evenly. Values ≥ 0; they sum to 1 less what ends at CLS and registers.
    The product is applied to one row, layer by layer, and never built.

    >>> import tokenrank as tr
    >>> tr.baselines.rollout(tr.samples.path("chelsea"), size=64).grid().shape
    torch.Size([5, 8])

    Args:
        source, reading: see ``tr.observe``.
        start: None for CLS; without a CLS token all patches evenly, the mean of the columns among the patches. Or a
            start as in ``raw_row``: the row of a patch.
        start_layer: the first layer that takes part; 1 in the comparison of Chefer et al. (CVPR 2021) [V].
        residual: share of the residual connection, 0 … 1; ½ in the paper.

    Raises:
        InputError: no such start layer.
        ChainError: layers that differ in their tokens, a share beyond 0 … 1, or a patch that does not exist.
    """
    observation = observe(source, **reading)
    first = checked_start_layer(start_layer, len(observation.layers))
    layers = [observation.chain(name, "uniform", "all") for name in observation.layers[first:]]
    joint = compose(layers, residual).operator
    values = joint.rmatmul(read_distribution(observation, start)[:, None])[:, 0]
    return observation.map(on_patches(observation, values))


def checked_start_layer(start_layer: int, count: int) -> int:
    """The first of ``count`` layers that takes part.

    Raises:
        InputError: no such layer.
    """
    number = whole_number(start_layer)
    if number is None or not 0 <= number < count:
        raise InputError(f"start_layer = {start_layer!r}, expected a layer from 0 to {count - 1}")
    return number


@register("attention_flow")
def attention_flow(
    source: Source,
    *,
    start: Start | None = None,
    residual: float = RESIDUAL,
    patches: int | None = PATCHES,
    **reading: Unpack[Reading],
) -> TokenMap:
    """Attention flow: the maximum flow from CLS at the output to each patch at the input; values ≥ 0, sum 1.

    Abnar and Zuidema, "Quantifying attention flow in transformers" (ACL 2020), section 3: in the layered graph of all
    tokens, CLS and registers included, the edge from i to j of layer l has the capacity residual · δ_ij +
    (1 − residual) · mean_h A_l[i, j], and each patch is asked by itself how much could reach it. Values are divided by
    their sum over the patches (all 0 where no patch is reached: residual = 1).

    Many values are equal or nearly so where attention is dense: no flow exceeds the 1 that leaves CLS, nor the column
    of the patch in the first layer, and one of the two is often the smallest cut. What tells patches apart is then
    the first layer's column sums.

    Cost: P maximum flows, most of them proved on a few layers (``flow_values``). Where little can be proved so,
    O(P N² L) and upwards: seconds. It is the one method that needs a matrix a layer, of the pooled tokens. Flows are
    exact to the bound of ``flow_values``.

    Args:
        source, reading: see ``tr.observe``.
        start: None for CLS; without a CLS token all patches evenly. Or a start as in ``raw_row``.
        residual: share of the residual connection, 0 … 1: ½ in the paper [R]; 0 takes attention weights alone as
            capacities, as public code does [V].
        patches: at most so many. Of a larger grid, squares of f × f patches become one token each (smaller at
            the right and lower edge): columns are added and rows averaged; a square's value is spread evenly over its
            patches. An approximation, and the graph's only one; None never pools.

    Raises:
        InputError: a number of patches below 1.
        ChainError: layers that differ in their tokens, a share beyond 0 … 1, or a patch that does not exist.
        MissingExtraError: scipy is not installed.
    """
    if patches is not None and (isinstance(patches, bool) or patches < 1):
        raise InputError(f"patches = {patches!r}, expected a number from 1 on, or None for all")
    observation = observe(source, **reading)
    factor = 1 if patches is None else pooling_factor(observation.grid, patches)
    distribution = read_distribution(observation, start)
    groups = token_groups(observation.layout, factor).to(distribution.device)
    layers = [
        pooled(compose([c], residual).operator, groups) for c in track(_same_tokens(observation), "layers of the flow")
    ]
    asked = groups[observation.patches.start : observation.patches.stop].argmax(-1)
    flows = flow_values(layers, distribution @ groups, asked.unique().tolist())
    # a group's flow goes to its patches in equal parts
    values = flows[asked - asked.min()] / groups.sum(0)[asked]
    return observation.map(values / values.sum() if values.sum() > 0 else values)


def _same_tokens(observation: Observation) -> list[AttentionChain]:
    count = observation.layout.num_tokens
    chains = [observation.chain(name, "uniform", "all") for name in observation.layers]
    for name, chain in zip(observation.layers, chains, strict=True):
        if chain.num_tokens != count:
            raise ChainError(
                f"layer {name!r} has {chain.num_tokens} tokens, expected {count} as {observation.layers[0]!r}: flow "
                "needs the same tokens in all layers"
            )
    return chains


def pooling_factor(grid: tuple[int, int], patches: int) -> int:
    """The smallest f for which squares of f × f patches (smaller at the edge) are at most ``patches`` many."""
    factor = 1
    while math.prod(-(-n // factor) for n in grid) > patches:
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


def pooled(chain: Operator, groups: Tensor) -> Tensor:
    """Rows averaged and columns added within groups: (N, N) with one-hot (N, K) → (K, K); rows still sum to 1."""
    return (groups.T @ chain.matmul(groups)) / groups.sum(0)[:, None]


def flow_values(layers: Sequence[Tensor], source: int | Tensor = 0, tokens: Sequence[int] | None = None) -> Tensor:
    """Value of the maximum flow to each token below, one flow a token: (K,) in float64.

    Nodes are tokens at depths L … 0; from token i at depth l an edge of capacity ``layers[l − 1][i, j]`` leads to
    token j at depth l − 1. A value is at most what leaves the source and at most the sum of its column in the first
    layer.

    Flow is counted in units of 1/2³⁰ of what leaves the source, capacities rounded down. Most values are proved on a
    few layers (``SHORTCUTS``), in a millisecond or so each: they are what no flow exceeds, and too large by at most 2N
    units. The others take a maximum flow (Dinic's algorithm) over N²(L − 2) + 2N edges, 20 ms and more for 12 layers of
    177 tokens; they are never too large, and too small by at most one unit for every edge of a smallest cut: less than
    1e-9 of the flow out of the source times the number of edges, N · (N · (L − 2) + 2) at the very most.

    Args:
        layers: capacities (N, N), finite and ≥ 0, first layer first; such as mean_h A_l, or ½ (mean_h A_l + I).
        source: token at depth L, or a weight ≥ 0 for each (N,): the last layer's rows are then added with these
            weights, so that a distribution v sends vᵀA_L.
        tokens: which tokens at depth 0; all where None.

    Raises:
        ChainError: no layers, different shapes, capacities that are negative or not finite, tokens out of range.
        MissingExtraError: scipy is not installed.

    Source: Abnar and Zuidema, "Quantifying attention flow in transformers" (ACL 2020), section 3.
    """
    capacities = _checked(layers)
    n = capacities[0].shape[0]
    chosen = [_token(token, n) for token in (range(n) if tokens is None else tokens)]
    above = _weights(source, n) @ capacities[-1]
    leaving = float(above.sum())
    if len(capacities) == 1:
        values = above[chosen]
    elif leaving == 0:
        values = np.zeros(len(chosen))
    else:
        # beyond what leaves the source capacity is never used: cut there, everything fits the units
        values = _found([np.minimum(c / leaving, 1) for c in capacities[:-1]], above / leaving, chosen) * leaving
    return torch.as_tensor(values, dtype=torch.float64, device=layers[0].device)


def _found(
    layers: Sequence[NDArray[np.float64]], above: NDArray[np.float64], tokens: Sequence[int]
) -> NDArray[np.float64]:
    """Flow values of capacities from 0 to 1, of which 1 in all leaves the source: see ``SHORTCUTS``."""
    wanted = layers[0][:, tokens]
    values = np.minimum(above.sum(), wanted.sum(0))  # what no flow exceeds
    left = np.arange(len(tokens))
    rounding = 2 * len(above) / UNITS
    for count, share in SHORTCUTS:
        if left.size and 1 < count < len(layers):
            short = [_strongest(layer, share) for layer in layers[1:count]]
            found = _solved(short, _walked(above, layers[count:]), wanted[:, left])
            left = left[found < values[left] - rounding]
    if left.size:
        values[left] = _solved(layers[1:], above, wanted[:, left])
    return values


def _walked(above: NDArray[np.float64], layers: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """What arrives where every token divides what it gets as its row does: a flow, if not the largest."""
    for layer in reversed(layers):
        rows = layer.sum(1)
        above = np.divide(np.minimum(above, rows), rows, out=np.zeros_like(rows), where=rows > 0) @ layer
    return above


def _strongest(layer: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """The layer without its weakest edges."""
    return layer if share == 1 else np.where(layer >= np.quantile(layer, 1 - share), layer, 0)


def _solved(
    inner: Sequence[NDArray[np.float64]], above: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Maximum flows, one for each column of ``wanted`` (N, K), its edges to the sink.

    Nodes: the source, N tokens of each depth, from the last that ``above`` leads to down to 1, and the sink.
    """
    sparse, graph = require("scipy.sparse", "evaluate"), require("scipy.sparse.csgraph", "evaluate")
    n = len(above)
    sink = 1 + n * (len(inner) + 1)
    # row by row, as compressed rows want it; the sink's own edges change from token to token
    parts = [(np.zeros(n, np.int64), 1 + np.arange(n), above)]
    for depth, layer in enumerate(reversed(inner)):
        tails, heads = layer.nonzero()
        parts.append((1 + n * depth + tails, 1 + n * (depth + 1) + heads, layer[tails, heads]))
    parts.append((sink - n + np.arange(n), np.full(n, sink), np.ones(n)))
    tails, heads, capacities = (np.concatenate(part) for part in zip(*parts, strict=True))
    edges = np.floor(capacities * UNITS).astype(np.int32)
    starts = np.concatenate([[0], np.bincount(tails, minlength=sink + 1).cumsum()]).astype(np.int32)
    columns = np.floor(wanted * UNITS).astype(np.int32)
    found = []
    for column in track(columns.T, "flows to patches"):
        edges[-n:] = column
        network = sparse.csr_array((edges, heads.astype(np.int32), starts), shape=(sink + 1, sink + 1))
        found.append(graph.maximum_flow(network, 0, sink).flow_value)
    return np.array(found, dtype=np.float64) / UNITS


def _checked(layers: Sequence[Tensor]) -> list[NDArray[np.float64]]:
    if not len(layers):
        raise ChainError("no layers given, expected at least one matrix of capacities")
    first = tuple(layers[0].shape)
    for place, layer in enumerate(layers):
        shape = tuple(layer.shape)
        if len(shape) != 2 or shape[0] != shape[1] or shape != first or not shape[0]:
            raise ChainError(f"layer {place} has shape {shape}, expected (N, N) as layer 0: {first}")
        if not torch.isfinite(layer).all() or layer.amin() < 0:
            raise ChainError(
                f"capacities of layer {place} go from {layer.amin().item():.4g} to {layer.amax().item():.4g}, "
                "expected finite numbers ≥ 0"
            )
    return [layer.detach().double().cpu().numpy() for layer in layers]


def _weights(source: int | Tensor, n: int) -> NDArray[np.float64]:
    if not isinstance(source, Tensor):
        one = np.zeros(n)
        one[_token(source, n)] = 1
        return one
    weights = source.detach().double().cpu().numpy()
    if weights.shape != (n,) or not np.isfinite(weights).all() or weights.min() < 0:
        raise ChainError(
            f"source of shape {tuple(source.shape)}, from {source.min().item():.4g} to {source.max().item():.4g}, "
            f"expected {n} finite weights ≥ 0, one a token, or a token's index"
        )
    return weights


def _token(token: int, n: int) -> int:
    if not -n <= token < n:
        raise ChainError(f"token {token} of {n}, expected an index from {-n} to {n - 1}")
    return token % n
