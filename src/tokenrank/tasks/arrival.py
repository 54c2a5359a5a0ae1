"""Arrival: where attention arrives in the end, spread over the patches that look alike to the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Unpack

from ..chain import TokenMap
from ..errors import InputError
from ..observation import Observation, What
from ..progress import track
from ..reading import Reading, Source, observe
from ..select import Heads, Layer, Layers, whole_number
from .masks import grid_of

PEAK = 1.5
"""What a patch may have of the median of its neighbourhood; chosen on development pictures (docs/evidence.md)."""

ArrivalStart: TypeAlias = Literal["tokenrank", "cls", "column"]


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
    """How much attention arrives, in the end, at what looks like this patch: (P,), no seed is given.

    TokenRank finds the place of an object and not its extent: it gathers on faces, wheels, handles. So every patch
    takes n steps along C, the chain of the network's own features (``Observation.features_chain``), and counts what it
    comes upon: Cⁿ w with w = π / π′, where attention arrives (TokenRank π) over where it comes from (backward TokenRank
    π′, which marks the background), both geometric means of layers, so that what holds in all of them counts. What a
    single patch takes beyond its neighbours is no object but a sink, and is cut (``without_peaks``).

    Args:
        source: a picture, or anything else that ``tr.observe`` takes and that holds one; block outputs take a second
            forward, so that what was captured before has ``what="k"`` and ``"q"`` alone.
        layer: whose TokenRank, one or several; the last quarter of the layers where None.
        heads: see ``tokenrank.select.Heads``; evenly by default: weighing them by |λ2| costs the object here
            (docs/evidence.md).
        start: π. "tokenrank"; "cls": what CLS attends to, where there is one, which serves as well or better;
            "column": column sums, the first bounce to TokenRank.
        backward: divide by the backward TokenRank.
        n: steps along the features; 0 leaves w as it is.
        what, features_layer, tau: see ``Observation.features_chain``.
        **reading: what ``tr.observe`` takes beside the source: model, size, image, …

    Raises:
        InputError: an argument that is none of these, layers of several grids, or a source that cannot run again.
        NotFoundError: no such layer, head, or no CLS. CaptureError, LayoutError: as ``Observation.features``.
    """
    if start not in get_args(ArrivalStart):
        raise InputError(f"start = {start!r}, expected one of {', '.join(map(repr, get_args(ArrivalStart)))}")
    steps = whole_number(n)
    if steps is None or steps < 0:
        raise InputError(f"n = {n!r} steps along the features, expected a whole number ≥ 0")
    observation = observe(source, **reading)
    names = last_quarter(observation.layers) if layer is None else observation.several_layers(layer)
    grid = one_grid(observation, (*names, observation.layer(features_layer)))
    begun = [_STARTS[start](observation, name, heads) for name in track(names, f"{_WORDS[start]} of layers")]
    values = without_peaks(geometric_mean(begun), grid)
    if backward:
        values = values / geometric_mean(
            [_backward(observation, name, heads) for name in track(names, "backward TokenRank of layers")]
        )
    words = f"{_WORDS[start]} over backward TokenRank" if backward else _WORDS[start]
    caption = f"{words} of {layers_words(observation, names)}, heads {heads}"
    if steps:
        chain = observation.features_chain(features_layer, what, tau)
        for _ in track(range(steps), "steps along the features"):
            values = chain.operator.matmul(values[:, None])[:, 0]
        caption += f"; {steps} step{'s' * (steps > 1)} along {chain.caption.removeprefix(f'{observation.name}, ')}"
    layout = observation.head_chains(names[0]).layout
    return TokenMap(values, layout, picture=observation.picture, caption=caption)


def geometric_mean(distributions: Sequence[Tensor]) -> Tensor:
    """exp of the mean of the logarithms, float64 (P,), sum one; zero where one of them is."""
    logarithms = torch.stack([values.double().log() for values in distributions]).mean(0)
    return (logarithms - logarithms.max()).softmax(-1) if bool((logarithms > -torch.inf).any()) else logarithms.exp()


def without_peaks(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Values ≥ 0 (P,), none above ``PEAK`` times the median of the 3 × 3 patches around it.

    Networks keep global things in single patches of the background ("registers", Darcet et al., ICLR 2024), where
    attention arrives more than at any object.

    Args:
        values: row by row.
        grid: (rows, columns).
    """
    return torch.minimum(values, PEAK * around(values, grid))


def around(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """The median of the 3 × 3 patches around each, (P,); patches beyond the border repeat those on it."""
    padded = F.pad(values.reshape(1, 1, *grid), (1, 1, 1, 1), mode="replicate")
    return F.unfold(padded, 3)[0].median(0).values


def last_quarter(names: Sequence[str]) -> tuple[str, ...]:
    """The last quarter of the layers, one at least: of twelve 9, 10 and 11, of six 4 and 5."""
    return tuple(names[-max(1, (len(names) + 2) // 4) :])


def one_grid(observation: Observation, names: Sequence[str]) -> tuple[int, int]:
    """(rows, columns) of the patches of some layers.

    Raises:
        InputError: several grids.
    """
    grids: dict[tuple[int, int], list[int]] = {}
    for name in dict.fromkeys(names):
        grids.setdefault(grid_of(observation.head_chains(name)), []).append(observation.layers.index(name))
    if len(grids) > 1:
        last = grids[grid_of(observation.head_chains(names[-1]))]
        raise InputError(
            f"layers have patches of {' and '.join(map(str, grids))}, expected one grid; take layers of one, such as "
            f"layer={last[0] if len(last) == 1 else last}"
        )
    return next(iter(grids))


def layers_words(observation: Observation, names: Sequence[str]) -> str:
    """ "layers 9 to 11 of 0–11", "layer 3 of 0–11", "layers 1, 4 of 0–11"."""
    places, last = [observation.layers.index(name) for name in names], len(observation.layers) - 1
    if len(places) == 1:
        return f"layer {places[0]} of 0–{last}"
    if places == list(range(places[0], places[-1] + 1)):
        return f"layers {places[0]} to {places[-1]} of 0–{last}"
    return f"layers {', '.join(map(str, places))} of 0–{last}"


def _tokenrank(observation: Observation, name: str, heads: Heads) -> Tensor:
    return observation.chain(name, heads).tokenrank().values


def _backward(observation: Observation, name: str, heads: Heads) -> Tensor:
    return observation.chain(name, heads).tokenrank(direction="backward").values


def _column(observation: Observation, name: str, heads: Heads) -> Tensor:
    return observation.chain(name, heads).operator.column_sums(torch.float64)


def _cls(observation: Observation, name: str, heads: Heads) -> Tensor:
    every = observation.head_chains(name, "all").aggregate(observation.head_weights(name, heads))
    row = every.bounce("cls", 1).values
    span = observation.patches
    return row[span.start : span.stop]


_STARTS: dict[str, Callable[[Observation, str, Heads], Tensor]] = {
    "tokenrank": _tokenrank,
    "cls": _cls,
    "column": _column,
}

_WORDS = {"tokenrank": "TokenRank", "cls": "the row of CLS", "column": "column sums"}
