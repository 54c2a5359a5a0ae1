"""Analysis: everything that one layer's attention says about a picture, text or sound, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from typing_extensions import Unpack

from .chain import AttentionChain, Start, TokenMap, start_distribution
from .chain.drawing import seen, small
from .errors import InputError, escaped
from .html import board, figure, note, panel
from .layout import Grid, Moment, Point, TokenLayout, at
from .markov import Certificate, Lambda2
from .models import Modality, Sound
from .observation import Observation
from .progress import doing, track
from .reading import Reading, Source, observe
from .select import HEADS, Heads, Layer, Tokens

BOUNCES = (1, 2, 4, 8)
CENTRE = at(0.5, 0.5)
_THING: dict[Modality, str] = {"image": "a picture", "text": "a text", "audio": "a sound"}


@dataclass(frozen=True, eq=False)
class Analysis:
    """What ``analyze`` computed. Batch size one: every chain is (heads, N, N), every map (N,).

    All numbers are about the same tokens: the picture's patches, the frames of a sound, all tokens of a text, or what
    ``tokens`` asked for.

    Attributes:
        observation: the source, seen by the model.
        layer: name of the layer that the rest is about.
        heads: how its heads became one chain; see ``tokenrank.select.Heads``.
        tokens: which tokens stayed; see ``tokenrank.select.Tokens``.
        chains: layer name → (heads, N, N), in the order in which the layers ran.
        lambda2: |λ2| of every head of every layer, with certificate, (layers, heads); a layer with fewer heads
            than another is filled up with NaN.
        chain: the layer as one chain, (N, N).
        chain_lambda2: its own |λ2|, ().
        start: where the walk begins, as given or by default.
        start_values: the same as a distribution over tokens, (N,) in float64.
        bounces: n → map after n bounces from the start; n = 1 is row selection.
        forward: TokenRank, where attention arrives.
        backward: TokenRank of the column-normalised reversed chain, where attention comes from.
        alpha: probability of following attention in TokenRank.
    """

    observation: Observation
    layer: str
    heads: Heads
    tokens: Tokens
    chains: Mapping[str, AttentionChain]
    lambda2: Lambda2
    chain: AttentionChain
    chain_lambda2: Lambda2
    start: Start
    start_values: Tensor
    bounces: Mapping[int, TokenMap]
    forward: TokenMap
    backward: TokenMap
    alpha: float

    @property
    def source(self) -> PIL.Image.Image | Sound | tuple[str, ...] | None:
        """The upright RGB picture, the sound, or the token strings of the text; None where none is known."""
        if self.modality == "audio":
            return self.observation.sound
        if self.modality == "image":
            return self.observation.picture
        return None if self.layout is None else self.layout.tokens

    @property
    def model(self) -> str:
        """The model's name."""
        return self.observation.name

    @property
    def modality(self) -> Modality:
        """What was read: "image", "text" or "audio"."""
        return self.observation.modality

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in order."""
        return tuple(self.chains)

    @property
    def layer_index(self) -> int:
        """Place of ``layer`` among ``layers``, from zero."""
        return self.layers.index(self.layer)

    @property
    def skipped(self) -> Mapping[str, str]:
        """Layer name → why it is not among ``layers``."""
        return self.observation.skipped

    @property
    def layout(self) -> TokenLayout | None:
        """Which token of ``chain`` is what."""
        return self.chain.layout

    @property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of the picture's patches; None for text."""
        layout = self.layout
        grid = None if layout is None or not layout.grids else layout.grids[layout.picture]
        return grid if grid is None or len(grid) == 2 else None

    @cached_property
    def caption(self) -> str:
        """Layer, heads and tokens in words."""
        return self.observation.describe(self.layer, self.heads, self.tokens)

    def table(self) -> list[dict[str, Any]]:
        """One row a layer and head: layer, name, head, lambda2, residual, uncertain."""
        return [
            {
                "layer": place,
                "name": name,
                "head": head,
                "lambda2": float(self.lambda2.values[place, head]),
                "residual": float(self.lambda2.certificate.residual[place, head]),
                "uncertain": bool(self.lambda2.certificate.uncertain[place, head]),
            }
            for place, (name, chain) in enumerate(self.chains.items())
            for head in range(chain.batch[-1])
        ]

    def tokens_table(self) -> list[dict[str, Any]]:
        """One row a token: what it is, its share of the start, of each bounce and of TokenRank.

        Columns: token, span, row and column (patches), seconds (frames) or text (words), start, bounce_1 …,
        tokenrank, tokenrank_backward.
        """
        maps = {f"bounce_{n}": bounced.values for n, bounced in self.bounces.items()}
        maps |= {"tokenrank": self.forward.values, "tokenrank_backward": self.backward.values}
        numbers = {name: values.tolist() for name, values in ({"start": self.start_values} | maps).items()}
        labels = _token_labels(self.layout, self.chain.num_tokens)
        return [label | {name: values[i] for name, values in numbers.items()} for i, label in enumerate(labels)]

    def facts(self) -> dict[str, Any]:
        """What was done, as plain values: model, layer, heads, start, alpha, certificates, …"""
        start = self.start
        return {
            "model": self.model,
            "layer": self.layer_index,
            "name": self.layer,
            "layers": len(self.layers),
            "heads": self.heads if isinstance(self.heads, str | int) else list(self.heads),
            "lambda2": float(self.chain_lambda2.values),
            "lambda2_uncertain": bool(self.chain_lambda2.certificate.uncertain),
            "alpha": self.alpha,
            "start": _plain_start(start),
            "bounces": list(self.bounces),
            "tokens": self.chain.num_tokens,
            "caption": self.caption,
            "grid": None if self.grid is None else list(self.grid),
            "tokenrank": str(self.forward.certificate),
            "tokenrank_backward": str(self.backward.certificate),
            "skipped": dict(self.skipped),
        }

    def _repr_html_(self) -> str:
        maps = {f"n = {n}": bounced for n, bounced in self.bounces.items()}
        maps |= {"TokenRank": self.forward, "TokenRank backward": self.backward}
        cells = [figure(small(single), title) for title, single in maps.items()]
        if self.modality == "image" and self.observation.picture is not None:
            cells.insert(0, figure(seen(next(iter(self.bounces.values()))), "picture, start"))
        moduli = f"together |λ2| {float(self.chain_lambda2.values):.2f}, {self.chain_lambda2.certificate}"
        return panel(
            f"Analysis of {_THING[self.modality]} by {self.model}",
            board(cells),
            note(f"{self.caption}; each map on a scale of its own; {moduli}"),
            note(f"TokenRank: {self.forward.certificate}"),
            note(f"backward: {self.backward.certificate}"),
        )

    def __repr__(self) -> str:
        place = f"layer {self.layer_index} of 0–{len(self.layers) - 1} ({escaped(self.layer, 200)})"
        return (
            f"Analysis({self.modality}, {self.model!r}, {place}, heads={self.heads!r}, {self.chain.num_tokens} tokens)"
        )


def analyze(
    source: Source,
    *,
    layer: Layer = None,
    heads: Heads = HEADS,
    tokens: Tokens = None,
    start: Start | None = None,
    bounces: Sequence[int] = BOUNCES,
    alpha: float = 0.99,
    **reading: Unpack[Reading],
) -> Analysis:
    """Everything about one picture, text or sound: |λ2| of all heads, bounces, TokenRank.

    Args:
        source: an ``Observation``, or what ``tr.observe`` takes.
        layer: the layer for the maps; see ``tokenrank.select.Layer``.
        heads: how its heads become one chain; see ``tokenrank.select.Heads``.
        tokens: which tokens stay; see ``tokenrank.select.Tokens``.
        start: as in ``AttentionChain.bounce``; by default the centre of the picture, or the whole
            text or sound evenly. Token numbers count the tokens of the chain: patches, for a picture.
        bounces: numbers of bounces to show.
        alpha: probability of following attention in TokenRank.
        reading: what ``tr.observe`` takes beside the source: ``model``, ``size``, …

    Raises:
        InputError: a source or an argument that cannot be used.
        NotFoundError: no such model, layer, head or word.
        CaptureError: no layer has a square attention over one sequence.
        LayoutError: it is unknown which tokens are the picture.

    Source: "Attention (as Discrete-Time Markov) Chains" (NeurIPS 2025).
    """
    steps = _checked_bounces(bounces)
    if isinstance(alpha, bool) or not 0 <= alpha <= 1:
        raise InputError(f"alpha = {alpha}, expected a probability from 0 to 1, such as 0.99")
    observation = observe(source, **reading)
    name = observation.layer(layer)
    observation.head_weights(name, "uniform" if isinstance(heads, str) and heads == "lambda2" else heads, tokens)
    chains = {other: observation.head_chains(other, tokens) for other in observation.layers}
    slow = [observation.lambda2(other, tokens) for other in track(chains, "|λ2| of layers")]
    chain = observation.chain(name, heads, tokens)
    begin = start if start is not None else default_start(observation.modality, chain)
    values = start_distribution(begin, chain.shape, chain.layout)
    with doing("bounces and TokenRank"):
        return Analysis(
            observation=observation,
            layer=name,
            heads=heads,
            tokens=tokens,
            chains=chains,
            lambda2=replace(_stacked(slow), caption=f"{observation.name}, all {len(chains)} layers, heads each"),
            chain=chain,
            chain_lambda2=slow[list(chains).index(name)][heads] if isinstance(heads, int) else chain.lambda2(),
            start=begin,
            start_values=values,
            bounces=_bounced(chain, values, steps),
            forward=chain.tokenrank(alpha),
            backward=chain.tokenrank(alpha, direction="backward"),
            alpha=float(alpha),
        )


def _plain_start(start: Start) -> Any:
    if isinstance(start, Point):
        return [start.x, start.y]
    if isinstance(start, Moment):
        return {"seconds": start.seconds}
    return start if isinstance(start, str | int) else None


def default_start(modality: Modality, chain: AttentionChain) -> Start:
    """Where a walk begins that was told nothing: the centre of a picture, the whole text or sound evenly."""
    if modality == "image" and chain.layout is not None and chain.layout.grids:
        return CENTRE
    if chain.layout is not None and "text" in chain.layout.spans:
        return "text"
    return range(chain.num_tokens)


def _bounced(chain: AttentionChain, begin: Tensor, steps: Sequence[int]) -> dict[int, TokenMap]:
    maps: dict[int, TokenMap] = {}
    values, done = begin, 0
    for n in sorted(steps):
        maps[n] = replace(chain.bounce(values, n - done), start=begin)
        values, done = maps[n].values, n
    return maps


def _stacked(parts: Sequence[Lambda2]) -> Lambda2:
    widest = max(part.values.shape[-1] for part in parts)

    def stack(rows: Sequence[Tensor], fill: float | bool) -> Tensor:
        return torch.stack([torch.cat([row, row.new_full((widest - len(row),), fill)]) for row in rows])

    told = [part.certificate for part in parts]
    certificate = Certificate(
        stack([c.converged for c in told], True),
        stack([c.residual for c in told], float("nan")),
        None,
        max(c.applies for c in told),
        told[0].method,
        stack([c.uncertain for c in told], False),
    )
    return Lambda2(stack([part.values for part in parts], float("nan")), certificate)


def _token_labels(layout: TokenLayout | None, count: int) -> list[dict[str, Any]]:
    if layout is None:
        return [{"token": i} for i in range(count)]
    labels: list[dict[str, Any]] = []
    for span in layout.spans:
        grid = layout.grids.get(span)
        for place, i in enumerate(layout.indices(span)):
            label: dict[str, Any] = {"token": i, "span": span}
            if layout.grids:
                label |= _cell(place, grid)
            if span in layout.seconds:
                begin, step = layout.seconds[span]
                label["seconds"] = round(begin + place * step, 6)
            if layout.tokens is not None:
                label["text"] = layout.tokens[i]
            labels.append(label)
    return labels


def _cell(place: int, grid: Grid | None) -> dict[str, Any]:
    """Where the token at ``place`` of a picture's span stands; in a video with its frame."""
    if grid is None:
        return {"row": None, "column": None}
    row, column = divmod(place, grid[-1])
    frame, row = divmod(row, grid[-2])
    return {"row": row, "column": column} | ({"frame": frame} if len(grid) == 3 else {})


def _checked_bounces(bounces: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(bounces, Sequence):
        raise InputError(f"bounces = {bounces!r}, expected several whole numbers, such as {BOUNCES}")
    steps = tuple(bounces)
    if not steps or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in steps):
        raise InputError(f"bounces = {bounces!r}, expected whole numbers from 1 on, such as {BOUNCES}")
    return tuple(sorted(set(steps)))
